"""The command line `xms`: one module a noun, and what they share."""

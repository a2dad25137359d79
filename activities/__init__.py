"""Thin Temporal activities, one module an outside system; the rules are in `xms`."""

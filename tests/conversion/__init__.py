"""The conversion as a transaction."""

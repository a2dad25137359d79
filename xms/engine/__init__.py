"""The block engine: copies ranges of a source disk to a volume, resumably, boundedly and verifiably."""

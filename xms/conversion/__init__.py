"""The guest's conversion as a transaction: on overlays first, into the volumes only when it succeeded."""

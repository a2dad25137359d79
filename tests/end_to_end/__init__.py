"""The whole product, worker processes included, against the stand-ins."""

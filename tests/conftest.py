"""How many examples the property tests try: `make test` a few hundred, `make soak` thousands."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("test", max_examples=200, print_blob=True)
settings.register_profile("soak", max_examples=int(os.environ.get("XMS_SOAK_EXAMPLES", "2000")), print_blob=True)
settings.load_profile("test")

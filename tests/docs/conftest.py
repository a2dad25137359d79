"""The real Temporal server of the workflows' tests, here for the example."""

from __future__ import annotations

from tests.workflows.conftest import client, server

__all__ = ["client", "server"]

"""The programmatic client: what the CLI, the dashboard and other programs say to migrations, through Temporal alone."""

from xms.client.connection import connect, quiet_runtime, register_search_attributes, runtime_with_metrics
from xms.client.listing import Listed, Listing
from xms.client.migrations import Migrations

__all__ = [
    "Listed",
    "Listing",
    "Migrations",
    "connect",
    "quiet_runtime",
    "register_search_attributes",
    "runtime_with_metrics",
]

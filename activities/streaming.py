"""The block streams."""

from __future__ import annotations

from temporalio import activity

from xms.config import Config
from xms.orders import StreamDisk, StreamResult


class StreamingActivities:
    """The block streams."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn
    def stream_disk(self, order: StreamDisk) -> StreamResult:
        """To be written."""
        raise NotImplementedError

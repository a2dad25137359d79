"""Guest conversion as a transaction."""

from __future__ import annotations

from temporalio import activity

from xms.config import Config
from xms.orders import Committed, ConversionOrder, Convert, Converted, Done


class ConversionActivities:
    """Guest conversion as a transaction."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @activity.defn
    def convert(self, order: Convert) -> Converted:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def commit_conversion(self, order: ConversionOrder) -> Committed:
        """To be written."""
        raise NotImplementedError

    @activity.defn
    def discard_conversion(self, order: ConversionOrder) -> Done:
        """To be written."""
        raise NotImplementedError

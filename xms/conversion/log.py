"""The log of a job's last conversion on this worker: it outlives failures, roll-backs and the job."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from xms.config import Config
from xms.errors import ConversionLost
from xms.orders.conversion import ConversionLog, ReadConversionLog

LOG: Final = "virt-v2v.log"


CONTROL: Final = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[a-z])|[\x00-\x08\x0b-\x1f\x7f]")
"""The appliance's console clears the screen, which nobody wants who reads its log at a terminal."""


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return CONTROL.sub("", text)


def directory_of(config: Config, job_id: str) -> Path:
    """Where this worker keeps what belongs to a job's conversion."""
    return config.worker.data_dir / "conversions" / job_id.replace("/", "-")


def log_of(config: Config, job_id: str) -> Path:
    """The file of virt-v2v's output."""
    return directory_of(config, job_id) / LOG


def read_log(config: Config, order: ReadConversionLog) -> ConversionLog:
    """The end of it, from the beginning of a line. libguestfs blots keys out, and nothing else in it is secret.

    Raises:
        ConversionLost: this worker has none.
    """
    path = log_of(config, order.job_id)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            start = max(0, status.st_size - order.limit)
            file.seek(start)
            content = file.read(order.limit)
    except OSError as error:
        raise ConversionLost(
            f"worker {config.worker.name} has no log of a conversion of {order.job_id}",
            because=f"{path}: {error.strerror}",
            do="nothing: it was removed on the worker, or virt-v2v never ran there",
        ) from None
    if start:
        cut = content.find(b"\n") + 1
        start, content = start + cut, content[cut:]
    return ConversionLog(
        worker=config.worker.name,
        text=printable(content.decode(errors="replace")),
        left_out=start,
        written_at=datetime.fromtimestamp(status.st_mtime, UTC),
    )

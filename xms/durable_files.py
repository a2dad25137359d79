"""Files that are replaced in one step, and names that survive a power loss."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace(file: Path, text: str) -> None:
    """Put `text` in the place of a file, so that whoever looks, after a crash too, finds the old one or the new one.

    Only its owner may read it.

    Raises:
        OSError: it was not written; what was there stays.
    """
    descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    flush_names(file.parent)


def flush_names(directory: Path) -> None:
    """Have the names in a directory survive a power loss.

    Raises:
        OSError: it is not known whether they do.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

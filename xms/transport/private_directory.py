"""Directories for sockets: private, with short names, and removed even after the process that made one was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PREFIX: Final = "xms-export-"
OWNER: Final = "owner"
"""A file that the directory's owner keeps locked; the kernel unlocks it when the owner dies, however it dies."""


@contextlib.contextmanager
def private_directory() -> Iterator[Path]:
    """A new directory that only this user may enter, until the context ends. Those of dead owners are removed."""
    parent = _short_parent()
    _remove_abandoned(parent)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with _locked(directory):
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # The file gets its name when it is locked: nobody can find it in between and take its owner for dead.
    unnamed = directory / f"{OWNER}.new"
    with unnamed.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        unnamed.rename(directory / OWNER)
        yield


def _remove_abandoned(parent: Path) -> None:
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        # Another user's, one that lives, or one that somebody else removes at this moment.
        with contextlib.suppress(OSError), owner.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owner.parent, ignore_errors=True)


def _short_parent() -> Path:
    """Where sockets have short names: the kernel allows 107 bytes, and a configured TMPDIR may use them up."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK)
    return Path(runtime) if usable else Path("/tmp")  # noqa: S108 - the directory made in it is private

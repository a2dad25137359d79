"""Programs that the lab starts: found beside this Python, in the virtual environment, or on PATH."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path


def find_program(name: str) -> Path:
    """The path of a program.

    Raises:
        FileNotFoundError: it is in neither place.
    """
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return beside
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"the program '{name}' is neither in {beside.parent} nor on PATH: run `make setup`")
    return Path(found)


def free_port(preferred: int | None = None, address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now: the preferred one, or any."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no TCP port is free")

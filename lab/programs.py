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


_spoken_for: dict[int, socket.socket] = {}
"""Preferred ports that this process was given, and what keeps others from being given them."""


def free_port(preferred: int | None = None, address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now: the preferred one, or any.

    A preferred port is spoken for until this process ends: who will listen on it may take seconds to start, and another
    lab that starts meanwhile would take it, too.
    """
    for port in (preferred, 0) if preferred and _speak_for(preferred) else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no TCP port is free")


def _speak_for(port: int) -> bool:
    """Whether no other process was given this port. The kernel takes the name back when the process ends."""
    if port in _spoken_for:
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0xms-lab-port-{port}")
    except OSError:
        name.close()
        return False
    _spoken_for[port] = name
    return True

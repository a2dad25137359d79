"""What looks like an installation of VMware's VDDK: the plugin's stand-in asks for one, as the real one does."""

from __future__ import annotations

from pathlib import Path


def make(directory: Path) -> Path:
    """Lay the directory out, with an empty file in the library's stead; returns `directory`."""
    library = directory / "lib64" / "libvixDiskLib.so.8"
    library.parent.mkdir(parents=True, exist_ok=True)
    library.touch()
    return directory

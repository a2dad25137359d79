"""Where a lab keeps its things, and what its processes tell each other: plain files in one directory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SOURCE: Final = "prod-vcenter"
PROJECT: Final = "infra"
USERNAME: Final = "xms@vsphere.local"
PASSWORD: Final = "lab-password-of-the-stand-in"  # noqa: S105 - it opens nothing but the stand-in


def default_directory() -> Path:
    """`$XMS_LAB`, or `.lab` here."""
    return Path(os.environ.get("XMS_LAB", ".lab")).absolute()


def default_cache() -> Path:
    """Where the guest image is kept over labs: `$XMS_LAB_CACHE`, or `.cache/guest` here."""
    return Path(os.environ.get("XMS_LAB_CACHE", ".cache/guest")).absolute()


@dataclass(frozen=True)
class Layout:
    """The files of one lab."""

    directory: Path

    @property
    def config(self) -> Path:
        """The worker's configuration."""
        return self.directory / "config.toml"

    @property
    def clouds(self) -> Path:
        """The clouds.yaml of the stand-in cloud."""
        return self.directory / "clouds.yaml"

    @property
    def password(self) -> Path:
        """The source's password file."""
        return self.directory / "source.password"

    @property
    def certificate(self) -> Path:
        """Key and certificate of the stand-in vCenter."""
        return self.directory / "vcenter.pem"

    @property
    def vddk(self) -> Path:
        """The place of VMware's library: with an empty file in the library's stead."""
        return self.directory / "vddk"

    @property
    def esxi(self) -> Path:
        """The stand-in ESXi host: disks and consoles of its VMs."""
        return self.directory / "esxi"

    @property
    def cloud(self) -> Path:
        """The stand-in cloud: volumes, servers and their consoles."""
        return self.directory / "cloud"

    @property
    def temporal(self) -> Path:
        """The Temporal server's database and log."""
        return self.directory / "temporal"

    def log(self, part: str) -> Path:
        """A process's output."""
        return self.directory / f"{part}.log"

    def note(self, part: str) -> Path:
        """What a process says of itself once it is ready: its pid and its ports."""
        return self.directory / f"{part}.json"

    def write_note(self, part: str, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Say that a process is ready."""
        path = self.note(part)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": os.getpid(), **facts}, indent=2) + "\n")
        draft.replace(path)

    def read_note(self, part: str) -> dict[str, Any] | None:
        """What a process said of itself; None before it did."""
        try:
            facts: dict[str, Any] = json.loads(self.note(part).read_text())
        except FileNotFoundError:
            return None
        return facts

    def source_disk(self, vm: str, label: str) -> Path:
        """The raw disk of a VM: 'root' or 'data'."""
        return self.esxi / vm / f"{label}.raw"

    def console(self, vm: str) -> Path:
        """The console log of a source VM."""
        return self.esxi / vm / "console.log"

    def volume(self, volume_id: str) -> Path:
        """The file behind a volume."""
        return self.cloud / "volumes" / f"volume-{volume_id}"

    def server_console(self, server_id: str) -> Path:
        """The console log of a target server."""
        return self.cloud / "servers" / server_id / "console.log"

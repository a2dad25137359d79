"""A worker with two small volumes, and conversions on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from xms.config import Config, ConversionConfig, TargetConfig, WorkerConfig
from xms.conversion.stages import Stages
from xms.conversion.transaction import Conversion
from xms.models import Disk, Nic
from xms.openstack.claim import Claim
from xms.openstack.lease import Heritage, Lease, LeaseRecord
from xms.orders.conversion import Committed, Convert, Converted
from xms.orders.source import VmOrder
from xms.pulse import Pulse, no_pulse

MIB = 1 << 20
SIZE = 8 * MIB
PROGRAM = Path(__file__).with_name("stand_in_virt_v2v.py")


class Volume:
    """A file for a volume, and its lease record in another, so that both outlive the process that holds the volume."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = path.with_suffix(".record")

    @classmethod
    def filled(cls, path: Path, fill: int) -> Volume:
        path.write_bytes(bytes([fill]) * SIZE)
        return cls(path)

    def read(self) -> str:
        return self._record.read_text() if self._record.exists() else ""

    def write(self, record: str) -> None:
        draft = self._record.with_suffix(".new")
        draft.write_text(record)
        draft.replace(self._record)

    def give_back(self) -> None:
        """What a claimant does with a dead holder's lease; that it is waited out first, the lease's own tests show."""
        found = LeaseRecord.parse(self.read())
        if found is not None:
            self.write(str(replace(found, count=None)))

    def digest(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def claim(self, worker: str = "worker-1", heritage: Heritage | None = None) -> Claim:
        lease = Lease(self, volume=self.path.name, worker=worker, seconds=60, heritage=heritage)
        lease.claim(no_pulse, rest=lambda _seconds, _pulse: None)
        return Claim(self.path.name, str(self.path), SIZE, lease)


class Workshop:
    """One worker's data directory, and the two volumes of one job.

    Args:
        directory: of the worker; a Workshop that is made there later finds everything as an earlier one left it.
    """

    def __init__(self, directory: Path, *, program: str = str(PROGRAM), timeout: float = 30) -> None:
        self.directory = directory
        self.volumes = (Volume(directory / "volume-a"), Volume(directory / "volume-b"))
        self.config = Config(
            worker=WorkerConfig(name="worker-1", data_dir=directory),
            target=TargetConfig(cloud="none"),
            conversion=ConversionConfig(program=program, timeout_seconds=timeout),
        )
        self.conversion = Conversion(self.config, "warm-a-b")
        self.order = Convert(
            vm=VmOrder(job_id="warm-a-b", source="a", moref="vm-1", vm="b"),
            target_project="infra",
            disks=(
                Disk(key=2000, label="Hard disk 1", capacity=SIZE, volume_id="volume-a"),
                Disk(key=2001, label="Hard disk 2", capacity=SIZE, volume_id="volume-b"),
            ),
            nics=(Nic(key=4000, label="Network adapter 1", mac="00:50:56:00:00:01", source_network="VM Network"),),
            memory=512 * MIB,
        )

    @classmethod
    def new(cls, directory: Path, *, program: str = str(PROGRAM), timeout: float = 30) -> Workshop:
        """With two filled volumes, and a virt-v2v that writes nothing unless it is told to."""
        workshop = cls(directory, program=program, timeout=timeout)
        for volume, fill in zip(workshop.volumes, (0x11, 0x22), strict=True):
            Volume.filled(volume.path, fill)
        workshop.virt_v2v()
        return workshop

    def virt_v2v(self, **behaviour: Any) -> None:  # noqa: ANN401 - a JSON object
        place = self.directory / "conversions"
        place.mkdir(exist_ok=True)
        (place / "behaviour.json").write_text(json.dumps(behaviour))

    def asked(self) -> dict[str, Any]:
        """What the last virt-v2v was called with: arguments and environment."""
        asked: dict[str, Any] = json.loads((self.directory / "conversions" / "asked.json").read_text())
        return asked

    def configure(self, **changes: Any) -> None:  # noqa: ANN401 - fields of ConversionConfig
        conversion = self.config.conversion.model_copy(update=changes)
        self.config = self.config.model_copy(update={"conversion": conversion})
        self.conversion = Conversion(self.config, "warm-a-b")

    def convert(self, pulse: Pulse = no_pulse) -> Converted:
        claims = [volume.claim() for volume in self.volumes]
        try:
            return self.conversion.convert(self.order, claims, "queue-1", Stages(pulse, "queue-1"), kvm=False)
        finally:
            for claim in claims:
                claim.lease.release()

    def commit(self, pulse: Pulse = no_pulse) -> Committed:
        claims = [volume.claim(heritage=self.conversion.heritage) for volume in self.volumes]
        try:
            return self.conversion.commit(claims, Stages(pulse, "queue-1"))
        finally:
            for claim in claims:
                claim.lease.release()

    def digests(self) -> list[str]:
        return [volume.digest() for volume in self.volumes]

    @property
    def overlays(self) -> list[Path]:
        return sorted(self.directory.glob("conversions/warm-a-b/overlays/*.qcow2"))

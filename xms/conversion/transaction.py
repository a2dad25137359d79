"""The conversion of one job on this worker: its overlays, what is known of them, and the way into the volumes.

A directory a job below the worker's data directory: the overlays, `record.json` and virt-v2v's log. Nothing reaches a
volume before the commit, and a commit is refused when anybody had the volume since the overlay was made: an overlay
fits only the bytes that it was made over. Whether anybody had it is told by the tokens of the claims (see
`xms.openstack.lease`): those of a commit say whose commit they belong to.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from xms import durable_files
from xms.config import Config
from xms.conversion import keys, virt_v2v
from xms.conversion.causes import UNCHANGED
from xms.conversion.guest_description import describe
from xms.conversion.log import directory_of, log_of
from xms.conversion.options import remarks
from xms.conversion.overlay import Overlay
from xms.conversion.root_disk import root_disk
from xms.conversion.stages import Stages
from xms.errors import ConversionFailed, ConversionLost, WriteFailed, XmsError
from xms.models import Model
from xms.openstack.claim import Claim
from xms.orders.conversion import Committed, Convert, Converted, DiskWritten

RECORD: Final = "record.json"
OVERLAYS: Final = "overlays"
RANGES_LIMIT: Final = 1 << 20
"""Characters of all disks' ranges together: Temporal's payloads end at 2 MiB."""


class Record(Model):
    """What a later activity has to know of a conversion that succeeded."""

    tokens: dict[str, tuple[str, ...]] = Field(description="volume id -> the claims under which the overlay fits it")
    bytes: int
    committed: bool = False
    conversion: str = Field(default="", description="unique; the claims of its commit begin with it")

    def succeeds(self, volume_id: str, previous: str) -> bool:
        """Whether nobody but this conversion had the volume since, by the token of the claim that was there before."""
        ours = bool(self.conversion) and previous.startswith(f"{self.conversion}.")
        return ours or previous in self.tokens.get(volume_id, ())


class Conversion:
    """One job's conversion."""

    def __init__(self, config: Config, job_id: str) -> None:
        self._config = config
        self._job_id = job_id
        self._directory = directory_of(config, job_id)

    @property
    def log(self) -> Path:
        """virt-v2v's output; it outlives a failure and a roll-back."""
        return log_of(self._config, self._job_id)

    def convert(self, order: Convert, claims: Sequence[Claim], queue: str, stages: Stages, *, kvm: bool) -> Converted:
        """Convert the guest on new overlays over the claimed volumes, which are only read.

        Args:
            order: the guest; its disks are in the order of `claims`.
            claims: one a disk.
            queue: the task queue of this worker, where the commit has to come.
            stages: shown while it runs; they keep the claims, too.
            kvm: whether the appliance runs on KVM.

        Raises:
            ConversionFailed: virt-v2v could not; nothing was changed.
            ConfigurationError: this worker lacks a key that the order names.
            ProgramMissing: virt-v2v or qemu-img is not installed.
        """
        began = time.monotonic()
        try:
            self.discard()
            if order.options.skip:
                return self._as_it_is(order, claims, queue, began)
            outcome, seconds = self._on_overlays(order, claims, stages, kvm=kvm)
            root = root_disk(
                [claim.path for claim in claims],
                root_device=outcome.root_device,
                system_partitions=outcome.system_partitions,
            )
            stages.enter("reading what was written")
            # A volume is larger than its disk where that is no whole GiB; what is beyond the disk nobody copies again.
            ranges = [
                self._overlay(claim.volume_id).written(claim.path, stages.show).below(disk.capacity)
                for claim, disk in zip(claims, order.disks, strict=True)
            ]
            # The record says that they can be committed, also after a failure of this machine's power.
            for claim in claims:
                self._overlay(claim.volume_id).keep()
        except OSError as error:
            self.discard()
            raise ConversionFailed(f"{order.vm.vm} was not converted", because=str(error), means=UNCHANGED) from error
        except XmsError as error:
            # Nobody can commit what is there: it would only take the worker's space.
            self.discard()
            error.worker_queue = queue
            raise
        for claim in claims:
            claim.check()
        self._write(
            Record(
                conversion=uuid.uuid4().hex,
                tokens={claim.volume_id: (claim.token,) for claim in claims},
                bytes=sum(written.total for written in ranges),
            )
        )
        return Converted(
            written=tuple(
                DiskWritten(disk_key=disk.key, ranges=written.encode(RANGES_LIMIT // len(ranges)), bytes=written.total)
                for disk, written in zip(order.disks, ranges, strict=True)
            ),
            worker_queue=queue,
            root_disk_key=order.disks[root].key,
            firmware=outcome.firmware,
            machine=outcome.machine,
            block_bus=outcome.block_bus,
            net_bus=outcome.net_bus,
            os_type=outcome.os_type,
            os_distro=outcome.os_distro,
            os_version=outcome.os_version,
            seconds=time.monotonic() - began,
            program_seconds=seconds,
            accelerator="kvm" if kvm else "tcg",
            remarks=remarks(order.options, outcome.os_type),
        )

    def _on_overlays(
        self, order: Convert, claims: Sequence[Claim], stages: Stages, *, kvm: bool
    ) -> tuple[virt_v2v.Outcome, float]:
        """Run virt-v2v; what it found, and how many seconds it took."""
        # The overlays hold a guest's data.
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._directory / OVERLAYS).mkdir()
        stages.enter("making overlays")
        paths = [Overlay.over(claim.path, self._overlay(claim.volume_id).path, stages.show).path for claim in claims]
        description = self._directory / "guest.xml"
        description.write_text(describe(order, paths))
        keys_dir, names = self._config.conversion.keys_dir, order.options.luks_keys
        job = virt_v2v.Job(
            vm=order.vm.vm,
            description=description,
            log=self.log,
            data_dir=self._config.worker.data_dir,
            arguments=[
                *keys.arguments(keys_dir, names, [claim.path for claim in claims]),
                *virt_v2v.static_addresses(order.options, order.nics),
            ],
            kvm=kvm,
            see=f"xms migration log {self._job_id}",
        )
        began = time.monotonic()
        outcome = virt_v2v.run(self._config.conversion, job, stages)
        seconds = time.monotonic() - began
        virt_v2v.refuse_without_drivers(job.vm, outcome, self.log.read_text(errors="replace"), job.see)
        return outcome, seconds

    def _as_it_is(self, order: Convert, claims: Sequence[Claim], queue: str, began: float) -> Converted:
        """A guest that is ready: nothing is written, so that there is nothing to commit either."""
        uefi = order.firmware in ("efi", "uefi")
        root = root_disk([claim.path for claim in claims], uefi=uefi)
        return Converted(
            written=(),
            worker_queue=queue,
            root_disk_key=order.disks[root].key,
            firmware="uefi" if uefi else "bios",
            seconds=time.monotonic() - began,
            skipped=True,
        )

    def committed(self) -> Committed | None:
        """The commit that was finished earlier, or None.

        Raises:
            ConversionLost: this worker has no such conversion.
        """
        record = self._read()
        return Committed(bytes=record.bytes) if record.committed else None

    def commit(self, claims: Sequence[Claim], stages: Stages) -> Committed:
        """Write the overlays into the claimed volumes and flush them; may be repeated after a crash at any moment.

        Raises:
            ConversionLost: the overlays are gone, or somebody had a volume since they were made.
            WriteFailed: a volume did not take it; repeat it.
            LeaseLost: a claim ran out meanwhile; repeat it.
        """
        record = self._read()
        overlays = [self._overlay(claim.volume_id) for claim in claims]
        for claim, overlay in zip(claims, overlays, strict=True):
            if not overlay.path.exists():
                raise self._lost(f"{overlay.path} is gone")
            if not record.succeeds(claim.volume_id, claim.previous):
                raise self._lost(f"somebody had volume {claim.volume_id} since the guest was converted")
        for number, (claim, overlay) in enumerate(zip(claims, overlays, strict=True), start=1):
            claim.check()
            stages.enter(f"writing the conversion into volume {number} of {len(claims)}")
            overlay.commit(claim.path, stages.show)
        self._write(record.model_copy(update={"committed": True}))
        self._remove_overlays()
        return Committed(bytes=record.bytes)

    def heritage(self, volume_id: str, previous: str) -> str:
        """How the token of a claim for the commit begins, given that of the claim before it.

        The volume itself keeps so, from the moment of the claim on, that it was in no other hands: a worker that is
        killed right after it loses nothing, however often that happens. A claim that follows a stranger's does not
        begin so, and neither can any after it.

        Raises:
            ConversionLost: this worker has no such conversion.
        """
        record = self._read()
        return f"{record.conversion}." if record.conversion and record.succeeds(volume_id, previous) else ""

    def discard(self) -> None:
        """Forget the conversion; only its log stays. None is a success."""
        # The record first: without it nothing can be committed, however far the rest comes.
        (self._directory / RECORD).unlink(missing_ok=True)
        self._remove_overlays()

    def _overlay(self, volume_id: str) -> Overlay:
        return Overlay(self._directory / OVERLAYS / f"{volume_id}.qcow2")

    def _remove_overlays(self) -> None:
        if (self._directory / OVERLAYS).exists():
            shutil.rmtree(self._directory / OVERLAYS)

    def _read(self) -> Record:
        try:
            return Record.model_validate_json((self._directory / RECORD).read_text())
        except FileNotFoundError:
            raise self._lost("it has no record of it") from None
        except ValidationError as error:
            raise self._lost(f"its record cannot be read: {error.error_count()} errors") from error

    def _write(self, record: Record) -> None:
        """After a crash there is the old one or the new one."""
        path = self._directory / RECORD
        try:
            durable_files.replace(path, record.model_dump_json())
        except OSError as error:
            raise WriteFailed(
                f"the record of the conversion of {self._job_id} was not written",
                because=f"{path}: {error.strerror}",
                do="free space on the worker",
            ) from error

    def _lost(self, because: str) -> ConversionLost:
        return ConversionLost(
            f"worker {self._config.worker.name} has no conversion of {self._job_id} to commit",
            because=because,
            means="nothing was written by this attempt",
            do="nothing: the guest is converted again",
        )

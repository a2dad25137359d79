"""A stage for the whole product: the stand-ins in this process, Temporal and the workers in processes of their own.

The VM's disks are real QEMU disks with real snapshots and change tracking. Where it runs no guest, the test writes
them, so that it takes seconds and knows every byte. The lab's guest numbers what it has fsynced.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from lab import vddk_library
from lab.cloud.server import CloudServer
from lab.esxi.host import LabHost
from lab.esxi.interface import DiskSpec, Machine, MachineSpec, NicSpec
from lab.guest.evidence import console_numbers, data_numbers, gaps, root_numbers
from lab.guest.image import GuestImage
from lab.layout import PASSWORD, USERNAME
from lab.proof import compare
from lab.temporal_server import TemporalServer
from lab.vcenter.certificate import make
from lab.vcenter.server import VcenterServer
from xms.client import Migrations
from xms.errors import NoWorker
from xms.models import MigrationSpec, NetworkMapping, Phase
from xms.status import JobStatus

REPOSITORY: Final = Path(__file__).parents[2]
PLUGIN: Final = REPOSITORY / "lab/vddk_plugin.py"
STAND_IN_VIRT_V2V: Final = REPOSITORY / "tests/conversion/stand_in_virt_v2v.py"

DISK_BYTES: Final = 192 << 20
PIECE: Final = 1 << 20

NUMBERS_ON: Final = {2000: root_numbers, 2001: data_numbers}


class Stage:
    """One VM with two disks, a cloud, Temporal; workers come and go.

    Args:
        directory: of everything.
        stack: ends it.
        image: on the disks; None: they are empty.
        boots: whether the guest of the image runs. Where it does not, the lab plays one that shuts down when asked.
    """

    def __init__(
        self, directory: Path, stack: ExitStack, image: GuestImage | None = None, *, boots: bool = False
    ) -> None:
        self.directory = directory
        self._stack = stack
        self._noise = random.Random(7)  # noqa: S311 - test data
        self.host = stack.enter_context(LabHost(directory / "esxi", [_machine(directory, image, boots=boots)]))
        self.machine.power_on()
        thumbprint = make(directory / "vcenter.pem", ["127.0.0.1"])
        self.vcenter = VcenterServer(
            self.host, address="127.0.0.1", port=0, certificate=directory / "vcenter.pem", users={USERNAME: PASSWORD}
        )
        self.vcenter.start()
        stack.callback(self.vcenter.stop)
        self.cloud = CloudServer(directory / "cloud")
        self.cloud.start()
        stack.callback(self.cloud.stop)
        self.cloud.write_clouds_yaml(directory / "clouds.yaml")
        self.temporal = TemporalServer(directory / "temporal")
        self.temporal.start()
        stack.callback(self.temporal.stop)
        self.thumbprint = thumbprint
        self.password = directory / "source.password"
        self.password.touch(mode=0o600)
        self.password.write_text(PASSWORD + "\n")
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        stack.callback(self._stop_workers)

    @property
    def machine(self) -> Machine:
        """The VM."""
        return self.host.machines[0]

    @property
    def environment(self) -> dict[str, str]:
        """What reaches this stage's Temporal."""
        return {"TEMPORAL_ADDRESS": self.temporal.address}

    # --- the guest's part ---------------------------------------------------------------------------------------------

    def write(self, disk_key: int, offset: int, length: int) -> None:
        """Write noise to the running VM's disk."""
        self.machine.write(disk_key, offset, self._noise.randbytes(length))

    def fill(self, pieces: int) -> None:
        """Write noise to many places of both disks."""
        for key in (2000, 2001):
            for number in range(pieces):
                self.write(key, number * PIECE, PIECE)

    @property
    def console(self) -> Path:
        """What the guest prints: each number that it has fsynced on all of its disks."""
        return self.directory / "esxi" / self.machine.spec.name / "console.log"

    def console_of(self, server_id: str) -> Path:
        """What the guest of a target prints."""
        return self.directory / "cloud" / "servers" / server_id / "console.log"

    def records_of_the_source(self) -> int:
        """The last record of the guest that is off: on each of its disks, after all before it, and on its console."""
        lasts = []
        for disk in self.machine.spec.disks:
            numbers = NUMBERS_ON[disk.key](disk.file)
            assert not gaps(numbers), disk.label
            lasts.append(numbers[-1])
        assert max(lasts) >= max(console_numbers(self.console))
        return max(lasts)

    # --- workers ------------------------------------------------------------------------------------------------------

    def start_worker(
        self,
        name: str,
        *,
        slow: bool = False,
        conversion: Path | str = STAND_IN_VIRT_V2V,
        cheap_snapshots: bool = False,
        lease_seconds: int | None = None,
    ) -> None:
        """Start a worker process and wait until it is ready.

        Args:
            name: of the worker; one of the same name finds the files of the one before.
            slow: it reads its source with a delay.
            conversion: the program that it converts with.
            cheap_snapshots: volumes are taken back to snapshots by a roll-back.
            lease_seconds: None: short, so that a dead worker's is soon over, unless it converts really: virt-v2v leaves
                a busy machine too little for a short one.
        """
        config = self.directory / f"{name}.toml"
        lease_seconds = lease_seconds or (4 if conversion == STAND_IN_VIRT_V2V else 60)
        plugin = f"--filter=delay python {PLUGIN} rdelay=800ms" if slow else f"python {PLUGIN}"
        config.write_text(f"""\
[worker]
name = "{name}"
data_dir = "{self.directory / name}"
lease_seconds = {lease_seconds}
log_format = "json"

[sources.lab]
host = "127.0.0.1"
port = {self.vcenter.port}
username = "{USERNAME}"
password_file = "{self.password}"
thumbprint = "{self.thumbprint}"

[target]
cloud = "lab"
clouds_file = "{self.directory / "clouds.yaml"}"
zeroed_volume_types = ["ssd"]
snapshot_volume_types = {json.dumps(["ssd"] if cheap_snapshots else [])}
poll_seconds = 0.2

[transport]
plugin = "{plugin}"
libdir = "{vddk_library.make(self.directory / "vddk")}"

[conversion]
program = "{conversion}"
memory_mib = 256
""")
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "-m", "worker", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | self.environment,
                cwd=REPOSITORY,
            )
        deadline = time.monotonic() + 180
        while b"worker is ready" not in log.read_bytes():
            assert self.workers[name].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def kill_worker(self, name: str) -> None:
        """kill -9."""
        process = self.workers.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop_worker(self, name: str) -> None:
        """SIGTERM, and wait for its end."""
        process = self.workers.pop(name)
        process.terminate()
        assert process.wait(40) == 0, (self.directory / f"{name}.log").read_text()

    def _stop_workers(self) -> None:
        for process in self.workers.values():
            process.kill()
            process.wait()

    def convert_by(self, name: str, **behaviour: object) -> Path:
        """Tell the stand-in virt-v2v of a worker what to do; returns the file that it touches once it has begun."""
        directory = self.directory / name / "conversions"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "behaviour.json").write_text(json.dumps(behaviour))
        return directory / "started"

    # --- what came of it ----------------------------------------------------------------------------------------------

    def replica_equals_source(self, status: JobStatus) -> bool:
        """Compare every disk with its volume, byte for byte, outside the product."""
        files = {disk.key: disk.file for disk in self.machine.spec.disks}
        return all(
            compare(files[disk.key], self.directory / "cloud" / "volumes" / f"volume-{disk.volume_id}").equal
            for disk in status.disks
        )

    def volume_holds(self, status: JobStatus, disk: int, offset: int, data: bytes) -> bool:
        """Whether the volume of the disk with that place has these bytes there."""
        file = self.directory / "cloud" / "volumes" / f"volume-{status.disks[disk].volume_id}"
        with file.open("rb") as volume:
            volume.seek(offset)
            return volume.read(len(data)) == data


def _machine(directory: Path, image: GuestImage | None, *, boots: bool) -> MachineSpec:
    disks = []
    for number in range(2):
        file = directory / f"disk-{number}.raw"
        if image is None:
            with file.open("wb") as disk:
                disk.truncate(DISK_BYTES)
        else:
            (image.copy_data if number else image.copy_root)(file)
        disks.append(DiskSpec(2000 + number, f"Hard disk {number + 1}", file, f"[ds1] vm/disk-{number}.vmdk"))
    return MachineSpec(
        name="db-prod-01",
        disks=tuple(disks),
        nics=(NicSpec(4000, "Network adapter 1", "00:50:56:9a:11:02", "VM Network"),),
        memory=(512 if boots else 256) << 20,
        guest=boots,
        plays_tools=image is not None and not boots,
    )


@contextmanager
def a_stage(directory: Path, image: GuestImage | None = None, *, boots: bool = False) -> Iterator[Stage]:
    """A stage without workers; everything of it ends with the block."""
    with ExitStack() as stack:
        yield Stage(directory, stack, image, boots=boots)


def a_spec(**changes: object) -> MigrationSpec:
    """The migration of the stage's VM."""
    given: Mapping[str, object] = {
        "source": "lab",
        "vm": "db-prod-01",
        "target_project": "infra",
        "instance_name": "db-prod-01",
        "flavor": "m1.nano",
        "volume_type": "ssd",
        "network_map": (NetworkMapping(source="VM Network", network="internal-net"),),
    }
    return MigrationSpec.model_validate({**given, **changes})


class Watch:
    """A job as a test follows it, through the client that everybody uses."""

    def __init__(self, migrations: Migrations, job: str) -> None:
        self.migrations = migrations
        self.job = job

    async def status(self) -> JobStatus:
        """Now, or as soon as there is a worker again."""
        deadline = time.monotonic() + 120
        while True:
            try:
                return await self.migrations.status(self.job)
            except NoWorker:
                if time.monotonic() > deadline:
                    raise

    async def until(self, phase: Phase, *, syncs: int = 0, seconds: float = 120.0) -> JobStatus:
        """Wait for a phase at rest."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status()
            if status.phase is phase and status.sync_count >= syncs and status.sync is None:
                return status
            if status.phase is Phase.FAILED or time.monotonic() > deadline:
                raise AssertionError(await self.story(status))
            await asyncio.sleep(0.1)

    async def until_copied(self, at_least: int, seconds: float = 60.0) -> None:
        """Wait until the streams that run have flushed so much."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status()
            if sum(progress.bytes_written for progress in status.progress) >= at_least:
                return
            if time.monotonic() > deadline:
                raise AssertionError(await self.story(status))
            await asyncio.sleep(0.05)

    async def until_step(self, name: str, seconds: float = 60.0) -> None:
        """Wait until the cutover has come to a step."""
        deadline = time.monotonic() + seconds
        while True:
            status = await self.status()
            if status.cutover and name in [step.name for step in status.cutover.steps]:
                return
            if time.monotonic() > deadline:
                raise AssertionError(await self.story(status))
            await asyncio.sleep(0.02)

    async def until_printed(self, console: Path, records: int, seconds: float = 900.0) -> list[int]:
        """Wait until a guest has printed so many numbers; a guest boots slowly where there is no KVM."""
        deadline = time.monotonic() + seconds
        while len(numbers := await asyncio.to_thread(console_numbers, console)) < records:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(numbers)} records\n{await self.story(await self.status())}")
            await asyncio.sleep(0.5)
        return numbers

    async def until_there(self, file: Path, seconds: float = 60.0) -> None:
        """Wait until a process has made a file."""
        for _ in range(int(seconds / 0.1)):
            if await asyncio.to_thread(file.exists):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(await self.story(await self.status()))

    async def story(self, status: JobStatus) -> str:
        """For a test that failed: where the job stands and how it came there."""
        events = await self.migrations.events(self.job)
        lines = [f"{event.at:%H:%M:%S} {event.kind}: {event.text}" for event in events.events]
        return "\n".join([f"{status.phase}: {status.doing}, {status.trouble}", *lines])


async def see_every_record_on_the_target(stage: Stage, watch: Watch, done: JobStatus, records: int = 20) -> None:
    """The target's guest found the last record of the source's on both disks, and goes on with the next number.

    Raises:
        AssertionError: a record is lost, or came twice.
    """
    assert done.cutover is not None
    last = stage.records_of_the_source()
    console = stage.console_of(done.cutover.server_id or "")
    numbers = await watch.until_printed(console, records)
    assert f"last-root={last} last-data={last}" in console.read_text(errors="replace")
    assert numbers[0] == last + 1
    assert not gaps(numbers)

"""The real virt-v2v on disks that it cannot convert: what it fails with is understood, and nothing is changed.

That it converts a guest that it can, the tests of `tests/end_to_end` show.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.conversion.test_partitions import FIRST, MIB, a_disk, encrypt
from tests.conversion.workshop import Volume
from xms.config import Config, ConversionConfig, TargetConfig, WorkerConfig
from xms.conversion.stages import Stages
from xms.conversion.transaction import Conversion
from xms.cutover import ConversionOptions, ConversionProgress
from xms.errors import ConversionFailed
from xms.models import Disk, Model
from xms.openstack.claim import Claim
from xms.openstack.lease import Lease
from xms.orders.conversion import Convert
from xms.orders.source import VmOrder
from xms.pulse import no_pulse

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1800)]

PASSPHRASE: Final = "right words"
DEBIAN: Final = 'PRETTY_NAME="Debian GNU/Linux 12"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'


@dataclass
class RealWorker:
    directory: Path

    def __post_init__(self) -> None:
        keys = self.directory / "keys"
        keys.mkdir()
        for name, text in (("right", PASSPHRASE), ("wrong", "wrong words")):
            (keys / name).write_text(f"{text}\nanother line\n")
            (keys / name).chmod(0o600)
        self.config = Config(
            worker=WorkerConfig(name="worker-1", data_dir=self.directory),
            target=TargetConfig(cloud="none"),
            conversion=ConversionConfig(memory_mib=512, use_kvm="never", keys_dir=keys),
        )
        self.stages: list[str] = []

    def convert(self, disk: str, options: ConversionOptions) -> ConversionFailed:
        conversion = Conversion(self.config, "warm-a-b")
        volume = Volume(Path(disk))
        lease = Lease(volume, volume="volume-a", worker="worker-1", seconds=60)
        lease.claim(no_pulse, rest=lambda _seconds, _pulse: None)
        size = Path(disk).stat().st_size
        order = Convert(
            vm=VmOrder(job_id="warm-a-b", source="a", moref="vm-1", vm="b"),
            target_project="infra",
            disks=(Disk(key=2000, label="Hard disk 1", capacity=size, volume_id="volume-a"),),
            nics=(),
            options=options,
        )
        with pytest.raises(ConversionFailed) as failed:
            conversion.convert(
                order, [Claim("volume-a", disk, size, lease)], "queue-1", Stages(self._hear, "queue-1"), kvm=False
            )
        self.log = conversion.log.read_text(errors="replace")
        return failed.value

    def _hear(self, detail: Model | None = None) -> None:
        assert isinstance(detail, ConversionProgress)
        if not self.stages or self.stages[-1] != detail.stage:
            self.stages.append(detail.stage)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> RealWorker:
    return RealWorker(tmp_path_factory.mktemp("worker"))


def a_small_debian(directory: Path) -> bytes:
    """A file system of 30 MiB that is taken for a Debian's root."""
    root = directory / "root"
    for name in ("bin", "etc", "usr", "boot", "var/lib/dpkg", "lib", "sbin"):
        (root / name).mkdir(parents=True)
    (root / "etc/os-release").write_text(DEBIAN)
    (root / "etc/debian_version").write_text("12.1\n")
    (root / "etc/fstab").write_text("/dev/sda1 / ext4 defaults 0 1\n")
    (root / "var/lib/dpkg/status").touch()
    # The architecture is read from a program.
    shutil.copy("/bin/true", root / "bin/sh")
    image = directory / "root.ext4"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image), "30M"], check=True)
    return image.read_bytes()


def with_systems(directory: Path, count: int) -> str:
    partitions = "".join(f"start={1 + 32 * number}MiB,size=30MiB,type=83\n" for number in range(count))
    disk = a_disk(directory / "disk", f"label: dos\n{partitions}", size=70 * MIB)
    system = a_small_debian(directory)
    with Path(disk).open("r+b") as file:
        for number in range(count):
            file.seek((1 + 32 * number) * MIB)
            file.write(system)
    return disk


def an_encrypted_disk(directory: Path) -> str:
    disk = a_disk(directory / "disk", "label: dos\nstart=1MiB,size=20MiB,type=83\n")
    encrypt(disk, MIB, FIRST, "luks2")
    return disk


@pytest.mark.parametrize(
    ("keys", "because"),
    [
        ((), "no key was given for one of them"),
        (("wrong",), "none of the given keys opens one of them"),
        # It is opened, and there is nothing in it.
        (("wrong", "right"), "no operating system was found"),
        ((f"{FIRST}=right",), "no operating system was found"),
    ],
)
def test_an_encrypted_disk_is_opened_by_the_key_that_fits_and_by_no_other(
    tmp_path: Path, worker: RealWorker, keys: tuple[str, ...], because: str
) -> None:
    error = worker.convert(an_encrypted_disk(tmp_path), ConversionOptions(luks_keys=keys))
    assert because in error.because
    for words in (PASSPHRASE, "wrong words"):
        assert words not in worker.log
        assert words not in str(error) + error.log_tail


@pytest.mark.parametrize(
    ("systems", "because"), [(0, "no operating system"), (1, "too full"), (2, "more than one operating system")]
)
def test_what_stands_against_a_conversion_is_understood_and_the_volume_stays_as_it_was(
    tmp_path: Path, worker: RealWorker, systems: int, because: str
) -> None:
    disk = with_systems(tmp_path, systems) if systems else a_disk(tmp_path / "disk")
    before = hashlib.sha256(Path(disk).read_bytes()).digest()
    worker.stages.clear()
    error = worker.convert(disk, ConversionOptions())
    assert because in error.because
    assert "xms migration log warm-a-b" in error.do
    assert hashlib.sha256(Path(disk).read_bytes()).digest() == before
    # Whoever looks twice a second may miss a short one.
    assert {"starting the conversion's appliance", "looking for operating systems"} <= set(worker.stages)

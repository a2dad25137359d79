"""The ways to a volume on a real OpenStack, as a plain member: Ceph RBD and files."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.engine.rig import aligned
from tests.openstack.conftest import GIB
from xms.config import TargetConfig
from xms.engine.writer import BEGUN_AT_ONCE, Volume
from xms.errors import ConfigurationError, VolumeFailed, WriteFailed
from xms.models import Baseline, Disk
from xms.openstack import rbd_export, volume_snapshots, volumes
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.claim import Claim, claim_volume
from xms.openstack.cloud import Cloud, connect
from xms.openstack.lease import Holder
from xms.openstack.mounts import is_mounted, mounted_below
from xms.orders.target import MakeVolume, RevertVolumes, SnapshotVolumes, TargetOrder
from xms.pulse import no_pulse

CLOUDS = os.environ.get("XMS_OPENSTACK_CLOUDS", "")
CEPH_CONF = Path(CLOUDS).parent / "etc" / "ceph" / "ceph.conf"
"""where lab/openstack has it"""

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.skipif(not CLOUDS, reason="XMS_OPENSTACK_CLOUDS is not set: NOT tested on a real OpenStack"),
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with connect(TargetConfig(cloud="lab", clouds_file=Path(CLOUDS), poll_seconds=0.5)) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def job() -> TargetOrder:
    return TargetOrder(job_id=f"warm-attach-{uuid.uuid4().hex[:8]}", target_project="migration")


@pytest.fixture
def way(tmp_path: Path) -> AttachByCinder:
    return AttachByCinder(data_dir=tmp_path, ceph_conf=CEPH_CONF)


@pytest.fixture(scope="module", params=["rbd", "nfs"])
def volume_id(cloud: Cloud, job: TargetOrder, request: pytest.FixtureRequest) -> Iterator[str]:
    yield from a_volume(cloud, job, request.param)


@pytest.fixture(scope="module")
def rbd_volume(cloud: Cloud, job: TargetOrder) -> Iterator[str]:
    yield from a_volume(cloud, job, "rbd")


@pytest.fixture(scope="module")
def with_ceph(cloud: Cloud) -> None:
    needs(cloud, "rbd")


def needs(cloud: Cloud, volume_type: str) -> None:
    if volume_type not in [known.name for known in cloud.volumes.types()]:
        pytest.skip(f"this OpenStack was brought up without the back end {volume_type}")


def a_volume(cloud: Cloud, job: TargetOrder, volume_type: str) -> Iterator[str]:
    needs(cloud, volume_type)
    made = volumes.make(
        cloud,
        MakeVolume(
            target=job, disk_key=hash(volume_type) % 9000, capacity=GIB, name="attach-test", volume_type=volume_type
        ),
        no_pulse,
    )
    yield made.volume_id
    cloud.volumes.delete_volume(made.volume_id)


def claimed(cloud: Cloud, job: TargetOrder, volume_id: str, way: AttachByCinder) -> AbstractContextManager[Claim]:
    return claim_volume(
        cloud, volume_id, job_id=job.job_id, worker="attach-test", lease_seconds=10.0, pulse=no_pulse, way=way
    )


def test_what_was_flushed_under_one_claim_is_read_under_the_next(
    cloud: Cloud, job: TargetOrder, volume_id: str, way: AttachByCinder
) -> None:
    content = os.urandom(3 << 20)
    with claimed(cloud, job, volume_id, way) as claim:
        assert claim.size == GIB
        assert cloud.volumes.get_volume(volume_id).status == "in-use"
        with Volume(claim.path, GIB, claim, lambda: None) as volume:
            volume.write(5 << 20, memoryview(content))
            volume.flush()
            with volume.reading_back() as read:
                assert read(5 << 20, 1 << 20) == content[: 1 << 20]
    assert cloud.volumes.get_volume(volume_id).status == "available"
    assert not list(cloud.volumes.attachments(volume_id=volume_id))
    with claimed(cloud, job, volume_id, way) as claim, Path(claim.path).open("rb") as file:
        file.seek(5 << 20)
        assert file.read(len(content)) == content
    assert not mounted_below(way.data_dir)


def test_several_writes_at_the_same_time_are_on_the_volume_when_they_are_done(
    cloud: Cloud, job: TargetOrder, volume_id: str, way: AttachByCinder
) -> None:
    """RBD is exported by FUSE, which has its own mind about O_DIRECT."""
    sizes = [64 << 10, 1 << 20]
    pieces = [(offset << 20, aligned(sizes[offset % 2], offset)) for offset in range(64, 64 + BEGUN_AT_ONCE)]
    with claimed(cloud, job, volume_id, way) as claim:
        with Volume(claim.path, GIB, claim, lambda: None) as volume:
            done = volume.begin(pieces)
            done += volume.done(volume.under_way)
            assert sorted(done) == [offset for offset, _ in pieces]
            volume.flush()
        drop_cache(claim)
    with claimed(cloud, job, volume_id, way) as claim, Path(claim.path).open("rb") as file:
        for offset, data in pieces:
            file.seek(offset)
            assert file.read(len(data)) == data


def test_zeroes_written_over_data_read_as_zeroes_at_any_alignment(
    cloud: Cloud, job: TargetOrder, volume_id: str, way: AttachByCinder
) -> None:
    start, length = (17 << 20) + 1024, (9 << 20) + 512
    data = memoryview(b"\xa5" * (1 << 20))
    with claimed(cloud, job, volume_id, way) as claim:
        with Volume(claim.path, GIB, claim, lambda: None) as volume:
            for offset in range(16 << 20, 28 << 20, 1 << 20):
                volume.write(offset, data)
            volume.flush()
            volume.write_zeroes(start, length)
            volume.flush()
        drop_cache(claim)
        with Path(claim.path).open("rb") as file:
            file.seek(start - 512)
            assert file.read(512) == b"\xa5" * 512
            assert file.read(length) == bytes(length)
            assert file.read(512) == b"\xa5" * 512


def test_a_hole_is_punched_or_refused_and_never_forgotten(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder
) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with claimed(cloud, job, rbd_volume, way) as claim:
        descriptor = os.open(claim.path, os.O_RDWR)
        os.pwrite(descriptor, b"\xa5" * (1 << 20), 40 << 20)
        punched = not libc.fallocate(descriptor, 0x03, 40 << 20, 1 << 20)
        assert (os.pread(descriptor, 1 << 20, 40 << 20) == bytes(1 << 20)) == punched
        os.close(descriptor)


def test_an_overlay_with_zeroes_is_committed_byte_for_byte(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.qcow2"
    with claimed(cloud, job, rbd_volume, way) as claim:
        with Path(claim.path).open("r+b") as file:
            file.seek(50 << 20)
            file.write(b"\xa5" * (4 << 20))
            os.fsync(file.fileno())
        for argv in (
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", claim.path, "-F", "raw", str(overlay)],
            ["qemu-io", "-c", "write -z -u 51M 1M", "-c", "write -P 7 52M 64k", str(overlay)],
            ["qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(overlay)],
        ):
            subprocess.run(argv, check=True, capture_output=True)
        drop_cache(claim)
        with Path(claim.path).open("rb") as file:
            file.seek(50 << 20)
            found = file.read(4 << 20)
    expected = b"\xa5" * (1 << 20) + bytes(1 << 20) + b"\x07" * 65536 + b"\xa5" * ((2 << 20) - 65536)
    assert found == expected


def test_what_was_flushed_outlives_a_killed_daemon_and_the_rest_is_cleaned_up(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder
) -> None:
    content = os.urandom(2 << 20)
    with claimed(cloud, job, rbd_volume, way) as claim:
        daemon = int((Path(claim.path).parent / "pid").read_text())
        with Volume(claim.path, GIB, claim, lambda: None) as volume:
            volume.write(60 << 20, memoryview(content))
            volume.flush()
            os.kill(daemon, signal.SIGKILL)
            with pytest.raises(WriteFailed):
                volume.write(0, memoryview(b"x"))
    assert not mounted_below(way.data_dir)
    with claimed(cloud, job, rbd_volume, way) as claim, Path(claim.path).open("rb") as file:
        file.seek(60 << 20)
        assert file.read(len(content)) == content


def test_a_writer_that_slept_through_the_takeover_is_fenced_by_ceph(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder, tmp_path: Path
) -> None:
    image = rbd_export.RbdImage("volumes", f"volume-{rbd_volume}", "cinder")
    elsewhere = tmp_path / "other machine"
    with rbd_export.exported(
        image, volume_id=rbd_volume, ceph_conf=CEPH_CONF, exports=elsewhere, pulse=no_pulse
    ) as stale:
        descriptor = os.open(stale.path, os.O_RDWR)
        os.pwrite(descriptor, b"before", 70 << 20)
        os.fsync(descriptor)
        with claimed(cloud, job, rbd_volume, way) as claim:
            with Volume(claim.path, GIB, claim, lambda: None) as volume:
                volume.write(70 << 20, memoryview(b"after!"))
                volume.flush()
            with pytest.raises(OSError, match=r".*"):
                os.pwrite(descriptor, b"before", 70 << 20)
            drop_cache(claim)
            with Path(claim.path).open("rb") as file:
                file.seek(70 << 20)
                assert file.read(6) == b"after!"
        with pytest.raises(OSError, match=r".*"):
            os.close(descriptor)


def test_an_export_that_a_killed_worker_left_is_ended_by_the_next_claim(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder
) -> None:
    """Of an image that no claim holds: as if the worker's attachment had been healed by a claim elsewhere."""
    image = rbd_export.RbdImage("volumes", f"volume-{rbd_volume}", "cinder")
    exports = way.data_dir / "rbd"
    left = exports.resolve() / f"{rbd_volume}.left"
    left.mkdir(parents=True)
    (left / "volume").touch()
    daemon = subprocess.Popen(rbd_export._command(image, CEPH_CONF, left))
    while not (left / "pid").exists():
        assert daemon.poll() is None
    assert is_mounted(left / "volume")
    with claimed(cloud, job, rbd_volume, way) as claim:
        assert Path(claim.path).parent != left
        assert daemon.wait(10) == -signal.SIGKILL
        assert not left.exists()


@pytest.mark.usefixtures("with_ceph")
@pytest.mark.parametrize(
    ("pool", "name", "user", "kind", "text"),
    [
        ("volumes", "nosuch", "cinder", VolumeFailed, "reading header from nosuch"),
        ("nopool", "x", "cinder", VolumeFailed, "opening pool nopool"),
        ("volumes", "x", "nobody", ConfigurationError, "client.nobody"),
    ],
)
def test_an_image_that_cannot_be_exported_is_explained(
    tmp_path: Path, pool: str, name: str, user: str, kind: type[Exception], text: str
) -> None:
    image = rbd_export.RbdImage(pool, name, user)
    with (
        pytest.raises(kind, match=text),
        rbd_export.exported(image, volume_id="v", ceph_conf=CEPH_CONF, exports=tmp_path, pulse=no_pulse),
    ):
        pytest.fail("it was exported")
    assert not list(tmp_path.iterdir())


def drop_cache(claim: Claim) -> None:
    descriptor = os.open(claim.path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def test_a_worker_killed_while_it_writes_is_taken_over_with_every_byte_that_it_flushed(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder
) -> None:
    script = f"""
import os
from pathlib import Path
from xms.config import TargetConfig
from xms.openstack.attach_by_cinder import AttachByCinder
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import connect
from xms.pulse import no_pulse
with (
    connect(TargetConfig(cloud="lab", clouds_file=Path({CLOUDS!r}), poll_seconds=0.5)) as cloud,
    claim_volume(cloud, {rbd_volume!r}, job_id={job.job_id!r}, worker="dead", lease_seconds=10.0, pulse=no_pulse,
                 way=AttachByCinder(data_dir=Path({str(way.data_dir)!r}), ceph_conf=Path({str(CEPH_CONF)!r}))) as claim,
):
    descriptor = os.open(claim.path, os.O_RDWR)
    for piece in range(1, 256):
        os.pwrite(descriptor, bytes([piece]) * 65536, (100 << 20) + piece * 65536)
        os.fsync(descriptor)
        print(piece, flush=True)
"""
    worker = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    flushed = [int(worker.stdout.readline()) for _ in range(20)]
    worker.kill()
    flushed += [int(line) for line in worker.stdout]
    worker.wait()
    worker.stdout.close()
    with claimed(cloud, job, rbd_volume, way) as claim, Path(claim.path).open("rb") as file:
        for piece in flushed:
            file.seek((100 << 20) + piece * 65536)
            assert file.read(65536) == bytes([piece]) * 65536
    assert not mounted_below(way.data_dir)
    assert not list(cloud.volumes.attachments(volume_id=rbd_volume))


def test_a_volume_in_use_has_a_snapshot_and_goes_back_to_what_it_held_then(
    cloud: Cloud, job: TargetOrder, rbd_volume: str, way: AttachByCinder
) -> None:
    disk = Disk(key=2000, label="Hard disk 1", capacity=GIB, volume_id=rbd_volume, baseline=Baseline(change_id="a/1"))
    order = SnapshotVolumes(target=job, disks=(disk,), replica_of=datetime.now(UTC))
    with claimed(cloud, job, rbd_volume, way) as claim:
        with Volume(claim.path, GIB, claim, lambda: None) as volume:
            volume.write(5 << 20, memoryview(b"replica!"))
            volume.flush()
        made = volume_snapshots.make(cloud, order, no_pulse)
        assert not made.missing
    with claimed(cloud, job, rbd_volume, way) as claim, Volume(claim.path, GIB, claim, lambda: None) as volume:
        volume.write(5 << 20, memoryview(b"target's"))
        volume.write(9 << 20, memoryview(b"and more"))
        volume.flush()
    back = RevertVolumes(target=job, snapshots=made.snapshots)
    for _ in range(2):
        reverted = volume_snapshots.revert(cloud, back, Holder("attach-test", 10.0), no_pulse)
        assert (reverted.disk_keys, reverted.refused) == ((2000,), ())
    with claimed(cloud, job, rbd_volume, way) as claim, Path(claim.path).open("rb") as file:
        file.seek(5 << 20)
        assert file.read(8) == b"replica!"
        file.seek(9 << 20)
        assert file.read(8) == bytes(8)
    assert not list(cloud.volumes.snapshots(details=True, volume_id=rbd_volume))

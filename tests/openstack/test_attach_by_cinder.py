"""What an attachment by Cinder refuses before it writes, and the shares that it mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lab.cloud import volumes as lab_volumes
from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, volume_order
from xms.errors import ConfigurationError, VolumeFailed
from xms.openstack import volumes
from xms.openstack.attach_by_cinder import AttachByCinder, refuse_unwritable
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import Cloud
from xms.openstack.file_share import FileShares
from xms.openstack.mounts import is_mounted
from xms.orders.target import TargetOrder
from xms.pulse import no_pulse


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ({"encrypted": True}, "attach = nova"),
        ({"format": "qcow2"}, "snapshots"),
        ({"access_mode": "ro"}, "--read-write"),
    ],
)
def test_a_path_whose_bytes_are_not_the_disks_is_refused(difference: dict[str, Any], text: str) -> None:
    ordinary = {"driver_volume_type": "nfs", "encrypted": False, "format": "raw", "access_mode": "rw"}
    refuse_unwritable("8f2c", ordinary)
    with pytest.raises(ConfigurationError) as refused:
        refuse_unwritable("8f2c", ordinary | difference)
    assert text in refused.value.do
    assert refused.value.means == "nothing was written to it"


def test_a_refused_volume_is_given_back_whole(
    cloud: Cloud, target: TargetOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = lab_volumes.connection_info
    monkeypatch.setattr(lab_volumes, "connection_info", lambda attachment: ordinary(attachment) | {"encrypted": True})
    volume_id = volumes.make(cloud, volume_order(target), no_pulse).volume_id
    with (
        pytest.raises(ConfigurationError, match="encrypted"),
        claim_volume(
            cloud,
            volume_id,
            job_id=target.job_id,
            worker="w-1",
            lease_seconds=2.0,
            pulse=no_pulse,
            way=AttachByCinder(data_dir=tmp_path),
        ),
    ):
        pytest.fail("it got in")
    volume = cloud.volumes.get_volume(volume_id)
    assert (volume.status, list(cloud.volumes.attachments(volume_id=volume_id))) == ("available", [])
    assert volume.metadata["xms_lease"].endswith("/released")


def test_a_device_that_is_smaller_than_the_volume_is_not_taken_for_it(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, tmp_path: Path
) -> None:
    volume_id = volumes.make(cloud, volume_order(target), no_pulse).volume_id
    with cloud_server.volume_file(volume_id).open("r+b") as file:
        file.truncate(GIB - 512)
    with (
        pytest.raises(VolumeFailed, match="stale devices"),
        claim_volume(
            cloud,
            volume_id,
            job_id=target.job_id,
            worker="w-1",
            lease_seconds=2.0,
            pulse=no_pulse,
            way=AttachByCinder(data_dir=tmp_path),
        ),
    ):
        pytest.fail("it got in")
    assert cloud.volumes.get_volume(volume_id).status == "available"


def test_an_encrypted_volume_is_refused_before_anything_is_taken(cloud: Cloud, target: TargetOrder) -> None:
    made = volumes.make(cloud, volume_order(target), no_pulse)
    volume = cloud.volumes.get_volume(made.volume_id)
    AttachByCinder().refuse(cloud, volume)
    volume.is_encrypted = True
    with pytest.raises(ConfigurationError, match="attach = nova"):
        AttachByCinder().refuse(cloud, volume)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_share_is_unmounted_by_its_last_user(tmp_path: Path) -> None:
    mounts, share = tmp_path / "shares", tmp_path / "export"
    share.mkdir()
    point = mounts / "0123abcd"
    shares = FileShares(mounts)
    with shares.in_use():
        point.mkdir()
        with shares.mounting():
            subprocess.run(["mount", "--bind", str(share), str(point)], check=True)
        with FileShares(mounts).in_use():
            assert is_mounted(point)
        assert is_mounted(point)
    assert not point.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_share_that_a_killed_worker_left_mounted_is_unmounted_by_the_next_user(tmp_path: Path) -> None:
    mounts, share = tmp_path / "shares", tmp_path / "export"
    share.mkdir()
    point = mounts / "0123abcd"
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(share), str(point)], check=True)
    with FileShares(mounts).in_use():
        assert is_mounted(point)
    assert not point.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_share_that_is_still_open_stays_mounted_and_is_no_failure(tmp_path: Path) -> None:
    mounts, share = tmp_path / "shares", tmp_path / "export"
    share.mkdir()
    (share / "volume-1").touch()
    point = mounts / "0123abcd"
    with FileShares(mounts).in_use():
        point.mkdir()
        subprocess.run(["mount", "--bind", str(share), str(point)], check=True)
        file = (point / "volume-1").open()
    assert is_mounted(point)
    file.close()
    with FileShares(mounts).in_use():
        pass
    assert not point.exists()

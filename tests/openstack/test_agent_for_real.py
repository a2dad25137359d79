"""Why `--evidence agent` is refused (docs/cutover.md): what a plain member's ways to the guest's agent answer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import openstack.exceptions
import pytest

from xms.config import TargetConfig
from xms.openstack.cloud import Cloud, connect

CLOUDS = os.environ.get("XMS_OPENSTACK_CLOUDS", "")

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.skipif(not CLOUDS, reason="XMS_OPENSTACK_CLOUDS is not set: NOT tested on a real OpenStack"),
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with connect(TargetConfig(cloud="lab", clouds_file=Path(CLOUDS), poll_seconds=0.5, retry_seconds=0)) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def instance(cloud: Cloud) -> Iterator[str]:
    """An instance that has the agent's device, and no guest whose agent could answer."""
    root = cloud.volumes.create_volume(size=1, volume_type="nfs", name=f"agent-{uuid.uuid4().hex[:8]}")
    cloud.volumes.wait_for_status(root, "available", interval=0.5, wait=120)
    cloud.volumes.set_volume_bootable_status(root, bootable=True)
    cloud.volumes.set_volume_image_metadata(root.id, hw_qemu_guest_agent="yes", os_require_quiesce="yes")
    disk = {"uuid": root.id, "source_type": "volume", "destination_type": "volume", "boot_index": 0}
    flavor = cloud.compute.find_flavor("m1.nano", ignore_missing=False)
    server = cloud.compute.create_server(
        name=str(root.name), flavor_id=flavor.id, networks="none", block_device_mapping_v2=[disk]
    )
    cloud.compute.wait_for_server(server, wait=240)
    yield str(server.id)
    cloud.compute.delete_server(server)
    cloud.compute.wait_for_delete(server, wait=120)
    cloud.volumes.delete_volume(root)


def test_a_freeze_that_the_agent_does_not_answer_looks_like_any_failure_of_nova(cloud: Cloud, instance: str) -> None:
    with pytest.raises(openstack.exceptions.HttpException) as refused:
        cloud.compute.create_server_image(instance, f"agent-{uuid.uuid4().hex[:8]}")
    assert refused.value.status_code == 500
    assert "agent" not in str(refused.value)


def test_a_password_that_the_agent_does_not_set_is_not_implemented(cloud: Cloud, instance: str) -> None:
    with pytest.raises(openstack.exceptions.HttpException) as refused:
        cloud.compute.change_server_password(instance, uuid.uuid4().hex)
    assert refused.value.status_code == 501


def test_what_would_ask_the_host_is_for_administrators(cloud: Cloud, instance: str) -> None:
    with pytest.raises(openstack.exceptions.ForbiddenException):
        cloud.compute.get_server_diagnostics(instance)

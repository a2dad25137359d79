"""A job's server, with a guest of one boot sector that says a line on its serial console."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from temporalio.testing import ActivityEnvironment

from activities.target import TargetActivities
from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, PROJECT, a_spec, volume_order
from tests.openstack.test_ports import making
from xms.config import Config, TargetConfig
from xms.errors import BootFailed, BootRefused, QuotaExceeded, Refused, TargetRejected, XmsError
from xms.models import Disk
from xms.openstack import image_properties, ports, servers, volumes
from xms.openstack.cloud import Cloud
from xms.orders.target import BootServer, FinalizeVolumes, SeeRunning, ServerOrder, TargetOrder
from xms.pulse import no_pulse

pytestmark = pytest.mark.lab

GREETING = b"the guest of the test runs\r\n"


def boot_sector() -> bytes:
    """16-bit code that writes the greeting to the first serial port, byte by byte, and halts."""
    code = bytes.fromhex("31c0 8ed8 be157c ac 84c0 7406 baf803 ee ebf5 f4 ebfd") + GREETING + b"\0"
    return code.ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def booting(cloud: Cloud, cloud_server: CloudServer, target: TargetOrder) -> Iterator[BootServer]:
    """Everything that a boot needs: two volumes, the second of them bootable, and two ports."""
    disks = tuple(
        Disk(
            key=key,
            label=f"Hard disk {key - 1999}",
            capacity=GIB,
            volume_id=volumes.make(cloud, volume_order(target, key=key), no_pulse).volume_id,
        )
        for key in (2000, 2001)
    )
    with cloud_server.volume_file(str(disks[1].volume_id)).open("r+b") as file:
        file.write(boot_sector())
    image_properties.finalize(cloud, FinalizeVolumes(target=target, disks=disks, root_disk_key=2001))
    nics = ports.make(cloud, making(target, "internal-net", "backup-net"), no_pulse)
    yield BootServer(
        target=target, spec=a_spec(flavor="m1.nano", vm="tiny"), disks=disks, root_disk_key=2001, nics=nics
    )
    servers.remove(cloud, ServerOrder(target=target), no_pulse)


def seeing(order: BootServer, evidence: str | None, timeout: int = 60) -> SeeRunning:
    return SeeRunning(server=ServerOrder(target=order.target), console_evidence=evidence, timeout_seconds=timeout)


def test_a_server_boots_from_the_root_volume_on_its_ports_and_is_seen(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    assert servers.boot(cloud, booting, no_pulse) == server_id
    server = cloud.compute.get_server(server_id)
    assert server.metadata["xms_job"] == booting.target.job_id
    root, data = booting.disks[1].volume_id, booting.disks[0].volume_id
    assert [volume.id for volume in server.attached_volumes] == [root, data]
    addresses = [each["OS-EXT-IPS-MAC:mac_addr"] for network in server.addresses.values() for each in network]
    assert sorted(addresses) == sorted(nic.mac for nic in booting.nics)
    seen = servers.see_running(cloud, seeing(booting, "guest of the .* runs"), no_pulse)
    assert seen.evidence == "console: the guest of the test runs"
    assert "ACTIVE" in servers.see_running(cloud, seeing(booting, None), no_pulse).evidence


def test_a_guest_that_gives_no_evidence_in_time_failed_and_its_console_is_told(
    cloud: Cloud, booting: BootServer
) -> None:
    servers.boot(cloud, booting, no_pulse)
    servers.see_running(cloud, seeing(booting, "guest"), no_pulse)
    with pytest.raises(BootFailed, match="no evidence of a running guest within 1 s") as error:
        servers.see_running(cloud, seeing(booting, "never said", timeout=1), no_pulse)
    assert "the guest of the test runs" in error.value.because


def test_a_server_that_goes_to_error_tells_novas_fault_and_is_made_again(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    cloud_server.faults.next_server_fault = "No valid host was found. "
    with pytest.raises(BootFailed, match="went to ERROR") as error:
        servers.boot(cloud, booting, no_pulse)
    assert "No valid host" in error.value.because
    failed = servers.of_job(cloud, booting.target.job_id)[0].id
    assert servers.boot(cloud, booting, no_pulse) != failed
    assert len(servers.of_job(cloud, booting.target.job_id)) == 1


def test_a_removed_server_leaves_the_volumes_and_the_ports(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    order = ServerOrder(target=booting.target, server_id=server_id)
    servers.remove(cloud, order, no_pulse)
    servers.remove(cloud, order, no_pulse)
    assert cloud.compute.find_server(server_id, ignore_missing=True) is None
    for disk in booting.disks:
        assert cloud.volumes.get_volume(str(disk.volume_id)).status == "available"
    assert len(ports.ports_of(cloud, booting.target.job_id)) == len(booting.nics)


def test_a_server_of_somebody_else_is_not_removed(cloud: Cloud, booting: BootServer) -> None:
    server_id = servers.boot(cloud, booting, no_pulse)
    other = TargetOrder(job_id="warm-other", target_project=PROJECT)
    with pytest.raises(Refused, match="is not removed"):
        servers.remove(cloud, ServerOrder(target=other, server_id=server_id), no_pulse)
    servers.remove(cloud, ServerOrder(target=other), no_pulse)
    assert cloud.compute.get_server(server_id).status == "ACTIVE"


def test_a_boot_beyond_the_quota_is_refused_as_such(
    cloud: Cloud, cloud_server: CloudServer, booting: BootServer
) -> None:
    before = cloud_server.cloud.project_named(PROJECT).quota.cores
    cloud_server.set_quota(PROJECT, cores=0)
    try:
        with pytest.raises(QuotaExceeded, match="instance 'tiny' was not made"):
            servers.boot(cloud, booting, no_pulse)
    finally:
        cloud_server.set_quota(PROJECT, cores=before)


def test_a_wrong_regular_expression_is_refused_as_such(cloud: Cloud, booting: BootServer) -> None:
    servers.boot(cloud, booting, no_pulse)
    with pytest.raises(TargetRejected, match="no regular expression"):
        servers.see_running(cloud, seeing(booting, "("), no_pulse)


def test_a_boot_without_the_root_disks_volume_is_refused(cloud: Cloud, booting: BootServer) -> None:
    with pytest.raises(TargetRejected, match="cannot be booted"):
        servers.boot(cloud, booting.model_copy(update={"root_disk_key": 9}), no_pulse)


@pytest.mark.parametrize(("attempt", "kind"), [(1, BootRefused), (2, QuotaExceeded)])
def test_only_a_first_attempt_can_say_that_no_guest_ever_ran(
    cloud_server: CloudServer,
    booting: BootServer,
    target_config: TargetConfig,
    attempt: int,
    kind: type[XmsError],
) -> None:
    before = cloud_server.cloud.project_named(PROJECT).quota.cores
    cloud_server.set_quota(PROJECT, cores=0)
    environment = ActivityEnvironment()
    environment.info = replace(environment.info, attempt=attempt)
    try:
        with pytest.raises(kind):
            environment.run(TargetActivities(Config(target=target_config)).boot_server, booting)
    finally:
        cloud_server.set_quota(PROJECT, cores=before)

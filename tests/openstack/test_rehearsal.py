"""Copies, the isolated network and the quota of a rehearsal, at the stand-in cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from tests.openstack.conftest import GIB, PROJECT, a_spec, volume_order
from xms.errors import CopyTooSlow, QuotaExceeded, Refused, TargetFault, TargetRejected, VolumeBusy, VolumeFailed
from xms.models import Disk, Nic
from xms.openstack import clones, isolated_network, ports, quotas, volumes
from xms.openstack.claim import claim_volume
from xms.openstack.cloud import JOB_KEY, Cloud
from xms.openstack.lease import Holder
from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, MakeIsolatedNetwork
from xms.orders.target import MakePorts, TargetOrder
from xms.pulse import no_pulse
from xms.rehearsal import rehearsal_id

HOLDER = Holder("worker-9", 2.0)


@pytest.fixture
def copies(target: TargetOrder) -> TargetOrder:
    """The rehearsal of this test's job."""
    return target.model_copy(update={"job_id": rehearsal_id(target.job_id)})


def seeded(cloud: Cloud, target: TargetOrder, *keys: int) -> tuple[Disk, ...]:
    return tuple(
        Disk(
            key=key,
            label=f"Hard disk {key - 1999}",
            capacity=GIB,
            volume_id=volumes.make(cloud, volume_order(target, key=key), no_pulse).volume_id,
            volume_size=GIB,
        )
        for key in keys
    )


def clone_order(target: TargetOrder, disks: tuple[Disk, ...], *, token: str = "t1", seconds: int = 60) -> CloneVolumes:  # noqa: S107
    return CloneVolumes(
        target=target.model_copy(update={"job_id": rehearsal_id(target.job_id)}),
        of_job=target.job_id,
        disks=disks,
        token=token,
        instance_name="db rehearsal",
        source="prod",
        vm="db-prod-01",
        timeout_seconds=seconds,
    )


def file_of(server: CloudServer, volume_id: str | None) -> Path:
    return server.cloud.volumes[volume_id or ""].file


def test_copies_have_the_bytes_of_the_volumes_and_say_whose_they_are(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, copies: TargetOrder
) -> None:
    disks = seeded(cloud, target, 2000, 2001)
    for disk in disks:
        with file_of(cloud_server, disk.volume_id).open("r+b") as file:
            file.seek(disk.key << 10)
            file.write(disk.label.encode())
    made = clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert [disk.key for disk in made.disks] == [2000, 2001]
    assert {disk.volume_id for disk in made.disks}.isdisjoint(disk.volume_id for disk in disks)
    for disk in made.disks:
        with file_of(cloud_server, disk.volume_id).open("rb") as file:
            file.seek(disk.key << 10)
            assert file.read(11) == disk.label.encode()
        copy = cloud.volumes.get_volume(disk.volume_id or "")
        assert copy.name == f"db rehearsal {disk.label}"
        assert copy.description == f"XMS rehearsal's copy of {disk.label} of job {target.job_id}"
        assert copy.metadata[JOB_KEY] == copies.job_id
    assert [str(volume.id) for volume in volumes.of_job(cloud, target.job_id)] == [disk.volume_id for disk in disks]


def test_copies_are_made_once_and_found_again(cloud: Cloud, target: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    first = clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert clones.clone(cloud, clone_order(target, disks), no_pulse).disks == first.disks


def test_a_copy_of_an_earlier_rehearsal_is_never_taken_for_one_of_this(cloud: Cloud, target: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    first = clones.clone(cloud, clone_order(target, disks), no_pulse)
    second = clones.clone(cloud, clone_order(target, disks, token="t2"), no_pulse)
    assert first.disks[0].volume_id != second.disks[0].volume_id


def test_of_two_copies_that_two_attempts_made_one_stays(cloud: Cloud, target: TargetOrder, copies: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    first = clones.clone(cloud, clone_order(target, disks), no_pulse)
    metadata = dict(cloud.volumes.get_volume(first.disks[0].volume_id or "").metadata)
    cloud.volumes.create_volume(name="late", size=1, source_volume_id=disks[0].volume_id, metadata=metadata)
    again = clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert again.disks == first.disks
    assert [str(volume.id) for volume in volumes.of_job(cloud, copies.job_id)] == [first.disks[0].volume_id]


def test_a_copy_that_failed_is_told_in_cinders_words_and_made_again(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, copies: TargetOrder
) -> None:
    disks = seeded(cloud, target, 2000)
    cloud_server.faults.next_volume_error = "create volume:Driver cannot clone."
    with pytest.raises(VolumeFailed, match="Driver cannot clone") as failed:
        clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert "syncs go on" in failed.value.means
    made = clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert [str(volume.id) for volume in volumes.of_job(cloud, copies.job_id)] == [made.disks[0].volume_id]


def test_a_back_end_that_takes_longer_than_syncs_may_wait_is_given_up(
    cloud: Cloud, cloud_server: CloudServer, target: TargetOrder, copies: TargetOrder
) -> None:
    disks = seeded(cloud, target, 2000)
    cloud_server.faults.volume_seconds = 2.5
    try:
        with pytest.raises(CopyTooSlow, match="copies every byte") as slow:
            clones.clone(cloud, clone_order(target, disks, seconds=1), no_pulse)
    finally:
        cloud_server.faults.volume_seconds = 0.1
    assert "--syncs-wait" in slow.value.do
    clones.delete(cloud, copies, HOLDER, no_pulse)
    assert volumes.of_job(cloud, copies.job_id) == []


def test_a_volume_that_a_worker_has_is_not_copied(cloud: Cloud, target: TargetOrder, copies: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    with (
        claim_volume(
            cloud,
            disks[0].volume_id or "",
            job_id=target.job_id,
            worker="other",
            lease_seconds=30.0,
            pulse=no_pulse,
        ),
        pytest.raises(VolumeBusy, match="in-use"),
    ):
        clones.clone(cloud, clone_order(target, disks), no_pulse)
    assert volumes.of_job(cloud, copies.job_id) == []


def test_a_volume_of_another_job_is_not_copied(cloud: Cloud, target: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    order = clone_order(target, disks).model_copy(update={"of_job": "warm-test-other"})
    with pytest.raises(Refused, match="is not touched"):
        clones.clone(cloud, order, no_pulse)


def test_only_copies_of_the_rehearsal_are_ever_deleted(cloud: Cloud, target: TargetOrder, copies: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    other = target.model_copy(update={"job_id": f"{target.job_id}-2"})
    others = seeded(cloud, other, 2000)
    clones.clone(cloud, clone_order(target, disks), no_pulse)
    kept = clones.clone(cloud, clone_order(other, others), no_pulse)
    clones.delete(cloud, copies, HOLDER, no_pulse)
    assert volumes.of_job(cloud, copies.job_id) == []
    there = {str(volume.id) for volume in cloud.volumes.volumes(details=True)}
    assert {disks[0].volume_id, others[0].volume_id, kept.disks[0].volume_id} <= there


def test_the_volumes_of_a_job_are_not_deleted_as_a_rehearsals(cloud: Cloud, target: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    with pytest.raises(Refused, match="that is a job"):
        clones.delete(cloud, target, HOLDER, no_pulse)
    assert cloud.volumes.get_volume(disks[0].volume_id or "").status == "available"


@pytest.mark.parametrize("cloned", [True, False], ids=["a copy of somebody's", "no copy"])
def test_a_volume_that_bears_the_rehearsals_id_and_was_not_made_by_one_is_kept(
    cloud: Cloud, target: TargetOrder, copies: TargetOrder, *, cloned: bool
) -> None:
    disks = seeded(cloud, target, 2000)
    clones.clone(cloud, clone_order(target, disks), no_pulse)
    foreign = cloud.volumes.create_volume(
        name="mine",
        size=1,
        source_volume_id=disks[0].volume_id if cloned else None,
        metadata={JOB_KEY: copies.job_id} | ({} if cloned else {clones.CLONE_KEY: "t1"}),
    )
    with pytest.raises(Refused, match=rf"{foreign.id} is kept"):
        clones.delete(cloud, copies, HOLDER, no_pulse)
    assert [str(volume.id) for volume in volumes.of_job(cloud, copies.job_id)] == [foreign.id]


def test_a_copy_that_a_dead_worker_had_is_deleted(cloud: Cloud, target: TargetOrder, copies: TargetOrder) -> None:
    disks = seeded(cloud, target, 2000)
    made = clones.clone(cloud, clone_order(target, disks), no_pulse)
    volume_id = made.disks[0].volume_id or ""
    cloud.volumes.set_volume_metadata(volume_id, xms_lease="dead/1/0")
    cloud.volumes.create_attachment(
        volume_id, connector={"host": "dead", "ip": "10.0.0.1", "platform": "x86_64"}, mode="rw"
    )
    clones.delete(cloud, copies, HOLDER, no_pulse)
    assert volumes.of_job(cloud, copies.job_id) == []


# --- the network ------------------------------------------------------------------------------------------------------


def network_order(copies: TargetOrder) -> MakeIsolatedNetwork:
    return MakeIsolatedNetwork(target=copies, name="db rehearsal")


def test_the_network_has_no_way_out_and_is_made_once(cloud: Cloud, copies: TargetOrder) -> None:
    made = isolated_network.make(cloud, network_order(copies), no_pulse)
    assert isolated_network.make(cloud, network_order(copies), no_pulse) == made
    subnet = next(each for each in cloud.network.subnets(network_id=made.network_id))
    assert (subnet.gateway_ip, subnet.is_dhcp_enabled, subnet.id) == (None, True, made.subnet_id)
    isolated_network.remove(cloud, copies, no_pulse)
    isolated_network.remove(cloud, copies, no_pulse)
    assert isolated_network.networks_of(cloud, copies.job_id) == []


def test_ports_there_have_other_macs_than_the_source(cloud: Cloud, copies: TargetOrder) -> None:
    made = isolated_network.make(cloud, network_order(copies), no_pulse)
    nic = Nic(
        key=4000,
        label="Network adapter 1",
        mac="00:50:56:9a:11:02",
        source_network="VM Network",
        network=made.network_id,
        mac_kept=False,
    )
    (on_it,) = ports.make(cloud, MakePorts(target=copies, instance_name="db rehearsal", nics=(nic,)), no_pulse)
    assert on_it.port_mac != nic.mac
    assert on_it.port_ips[0].startswith("198.18.0.")
    with pytest.raises(TargetFault, match="ports still in use"):
        isolated_network.remove(cloud, copies, no_pulse)
    ports.remove(cloud, copies.job_id, no_pulse)
    isolated_network.remove(cloud, copies, no_pulse)


def test_a_network_that_somebody_else_is_on_isolates_nothing(cloud: Cloud, copies: TargetOrder) -> None:
    made = isolated_network.make(cloud, network_order(copies), no_pulse)
    port = cloud.network.create_port(network_id=made.network_id, name="somebody's")
    with pytest.raises(TargetRejected, match=rf"port {port.id} of nobody is on it"):
        isolated_network.make(cloud, network_order(copies), no_pulse)
    cloud.network.delete_port(port.id)
    isolated_network.remove(cloud, copies, no_pulse)


# --- the quota --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"volumes": 0}, "volumes: needs 1 more"),
        ({"gigabytes": 1}, "gigabytes: needs 1 more"),
        ({"instances": 0}, "instances: needs 1 more"),
        ({"networks": 2}, "networks: needs 1 more, 2 of 2 are used"),
        ({"subnets": 2}, "subnets: needs 1 more, 2 of 2 are used"),
        ({"ports": 0}, "ports: needs 1 more"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_rehearsal_that_does_not_fit_the_quota_is_refused_before_anything_is_made(
    cloud: Cloud,
    cloud_server: CloudServer,
    target: TargetOrder,
    copies: TargetOrder,
    limits: dict[str, int],
    named: str,
) -> None:
    disks = seeded(cloud, target, 2000)
    nic = Nic(key=4000, label="Network adapter 1", mac="00:50:56:9a:11:02", source_network="VM Network")
    order = CheckRehearsal(target=copies, spec=a_spec(), disks=disks, nics=(nic,))
    quotas.check_rehearsal(cloud, order)
    quota = cloud_server.cloud.project_named(PROJECT).quota
    before = {name: getattr(quota, name) for name in limits}
    cloud_server.set_quota(PROJECT, **limits)
    try:
        with pytest.raises(QuotaExceeded) as refused:
            quotas.check_rehearsal(cloud, order)
    finally:
        cloud_server.set_quota(PROJECT, **before)
    assert named in refused.value.because
    assert "rehearsal of db-prod-01" in refused.value.what

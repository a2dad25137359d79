"""What the check of the target finds before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cloud.server import CloudServer
from lab.cloud.state import KeyPair, VolumeType, new_id
from tests.openstack.conftest import PROJECT, a_spec, a_vm, volume_order
from xms.config import TargetConfig
from xms.errors import BadInput, QuotaExceeded, TargetNotFound, TargetRefusedLogin
from xms.models import MigrationSpec, NetworkMapping, SecureBoot, job_id
from xms.openstack import volumes
from xms.openstack.check import check_target
from xms.openstack.cloud import Cloud, connect
from xms.orders.target import CheckTarget, TargetChecked, TargetOrder
from xms.pulse import no_pulse


@pytest.fixture
def sales(cloud_server: CloudServer, target_config: TargetConfig) -> Iterator[Cloud]:
    """An empty project, whose quota is restored."""
    before = dict(vars(cloud_server.cloud.project_named("sales").quota))
    with connect(target_config, "sales") as cloud:
        yield cloud
    cloud_server.set_quota("sales", **before)


def check(cloud: Cloud, config: TargetConfig, spec: MigrationSpec, *, cpus: int = 1) -> TargetChecked:
    return check_target(cloud, config, CheckTarget(spec=spec, vm=a_vm(cpus=cpus)))


def test_a_fitting_target_resolves_every_nic(cloud: Cloud, target_config: TargetConfig) -> None:
    checked = check(cloud, target_config, a_spec())
    assert [(nic.key, nic.network, nic.mac) for nic in checked.nics] == [
        (4000, "internal-net", "00:50:56:9a:11:02"),
        (4001, "backup-net", "00:50:56:9a:11:03"),
    ]
    assert checked.project_id == cloud.project_id
    assert checked.zeroed_volumes


def test_a_volume_type_that_is_not_known_to_be_zeroed_is_not_taken_for_one(
    cloud: Cloud, target_config: TargetConfig
) -> None:
    assert not check(cloud, target_config, a_spec(volume_type="hdd")).zeroed_volumes


def test_a_mapping_of_a_network_that_no_nic_is_on_is_told_with_the_networks(
    cloud: Cloud, target_config: TargetConfig
) -> None:
    with pytest.raises(BadInput) as error:
        check(cloud, target_config, a_spec(("VM Netwrk", "internal-net"), ("Backup", "backup-net")))
    assert error.value.what == "no NIC of db-prod-01 is on 'VM Netwrk'"
    assert error.value.because == (
        "its networks are: 'VM Network' (NIC 1), 'Backup' (NIC 2); each needs a --network-map"
    )


def test_a_nic_without_a_mapping_is_named(cloud: Cloud, target_config: TargetConfig) -> None:
    with pytest.raises(BadInput, match="NIC 2 on 'Backup' of db-prod-01 has no --network-map"):
        check(cloud, target_config, a_spec(("VM Network", "internal-net")))


def test_a_mapping_by_a_nics_label_goes_before_its_networks(cloud: Cloud, target_config: TargetConfig) -> None:
    spec = a_spec(("VM Network", "internal-net"), ("Backup", "backup-net"), ("Network adapter 2", "internal-net"))
    assert [nic.network for nic in check(cloud, target_config, spec).nics] == ["internal-net", "internal-net"]


def test_a_subnet_of_another_network_is_refused(cloud: Cloud, target_config: TargetConfig) -> None:
    spec = a_spec().model_copy(
        update={
            "network_map": (
                NetworkMapping(source="VM Network", network="internal-net", subnet="backup-subnet"),
                NetworkMapping(source="Backup", network="backup-net", subnet="backup-subnet"),
            )
        }
    )
    with pytest.raises(TargetNotFound, match="'internal-net' has no subnet 'backup-subnet'") as error:
        check(cloud, target_config, spec)
    assert "internal-subnet" in error.value.because


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"flavor": "m9.huge"}, "no flavor is called 'm9.huge'"),
        ({"volume_type": "gold"}, "no volume type is called 'gold'"),
        ({"availability_zone": "az-9"}, "no availability zone is called 'az-9'"),
        ({"volume_availability_zone": "az-9"}, "no availability zone of volumes is called 'az-9'"),
    ],
)
def test_a_name_that_is_not_there_is_told_with_those_that_are(
    cloud: Cloud, target_config: TargetConfig, wrong: dict[str, str], told: str
) -> None:
    with pytest.raises(TargetNotFound, match=told) as error:
        check(cloud, target_config, a_spec().model_copy(update=wrong))
    assert " are: '" in error.value.because


def test_a_key_pair_is_one_of_the_workers_account(
    cloud: Cloud, cloud_server: CloudServer, target_config: TargetConfig
) -> None:
    spec = a_spec().model_copy(update={"key_pair": "night-shift"})
    with pytest.raises(TargetNotFound, match="has no key pair 'night-shift'") as error:
        check(cloud, target_config, spec)
    assert "belongs to a user, not to a project" in error.value.because
    user = next(iter(cloud_server.cloud.users.values()))
    pair = KeyPair(user.id, "night-shift", "ssh-ed25519 AAAA")
    cloud_server.cloud.key_pairs.append(pair)
    check(cloud, target_config, spec)
    cloud_server.cloud.key_pairs.remove(pair)


def test_user_data_is_looked_for_on_the_worker(cloud: Cloud, target_config: TargetConfig, tmp_path: Path) -> None:
    spec = a_spec().model_copy(update={"user_data": "first-boot.yaml"})
    with pytest.raises(BadInput, match="names no directory of user data"):
        check(cloud, target_config, spec)
    config = target_config.model_copy(update={"user_data_dir": tmp_path})
    with pytest.raises(BadInput, match="No such file"):
        check(cloud, config, spec)
    (tmp_path / "first-boot.yaml").touch(mode=0o600)
    check(cloud, config, spec)


@pytest.mark.parametrize("name", ["", " db", "d" * 256, "d\tb"])
def test_an_instance_name_that_nova_refuses_is_refused(cloud: Cloud, target_config: TargetConfig, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be called"):
        check(cloud, target_config, a_spec().model_copy(update={"instance_name": name}))


def test_secure_boot_is_not_required_of_a_guest_that_boots_by_bios(cloud: Cloud, target_config: TargetConfig) -> None:
    with pytest.raises(BadInput, match="cannot be booted with Secure Boot"):
        check(cloud, target_config, a_spec().model_copy(update={"secure_boot": SecureBoot.REQUIRED}))


def test_a_type_with_multiattach_and_one_without_volumes_in_the_zone_are_refused(
    cloud: Cloud, cloud_server: CloudServer, target_config: TargetConfig
) -> None:
    special = VolumeType(new_id(), "special", 100, extra_specs={"multiattach": "<is> True"})
    zoned = VolumeType(new_id(), "zoned", 100, extra_specs={"RESKEY:availability_zones": "nova"})
    types = cloud_server.cloud.volume_types
    types |= {special.id: special, zoned.id: zoned}
    try:
        with pytest.raises(BadInput, match="cannot be kept on volume type 'special'"):
            check(cloud, target_config, a_spec(volume_type="special"))
        with pytest.raises(BadInput, match="has no volumes in zone 'az-1'"):
            check(
                cloud,
                target_config,
                a_spec(volume_type="zoned").model_copy(update={"volume_availability_zone": "az-1"}),
            )
    finally:
        del types[special.id], types[zoned.id]


def test_a_flavor_smaller_than_the_vm_is_refused_with_both_shapes(cloud: Cloud, target_config: TargetConfig) -> None:
    with pytest.raises(BadInput, match="too small") as error:
        check(cloud, target_config, a_spec(), cpus=2)
    assert error.value.because == "it has 1 vCPUs and 1024 MiB, the VM has 2 and 1024 MiB"


def test_all_findings_are_told_at_once(cloud: Cloud, target_config: TargetConfig) -> None:
    with pytest.raises(TargetNotFound, match="cannot take db-prod-01") as error:
        check(cloud, target_config, a_spec(("VM Network", "nowhere"), ("Backup", "backup-net"), volume_type="gold"))
    assert "gold" in error.value.because
    assert "nowhere" in error.value.because


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"volumes": 1}, "volumes: needs 2 more, 0 of 1"),
        ({"gigabytes": 2}, "gigabytes: needs 3 more, 0 of 2"),
        ({"cores": 0}, "cores: needs 1 more, 0 of 0"),
        ({"ram": 512}, "ram (MiB): needs 1024 more, 0 of 512"),
        ({"instances": 0}, "instances: needs 1 more, 0 of 0"),
        ({"ports": 1}, "ports: needs 2 more, 0 of 1"),
        ({"volumes_of_type": {"ssd": 1}}, "volumes_ssd: needs 2 more, 0 of 1"),
        ({"gigabytes_of_type": {"ssd": 2}}, "gigabytes_ssd: needs 3 more, 0 of 2"),
    ],
)
def test_a_quota_that_does_not_cover_the_vm_is_told_with_its_numbers(
    cloud_server: CloudServer, sales: Cloud, target_config: TargetConfig, limits: dict[str, Any], told: str
) -> None:
    cloud_server.set_quota("sales", **limits)
    with pytest.raises(QuotaExceeded, match="does not cover db-prod-01") as error:
        check(sales, target_config, a_spec())
    assert error.value.because.startswith(told)


def test_at_cutover_the_volumes_are_there_and_need_no_quota(
    cloud_server: CloudServer, sales: Cloud, target_config: TargetConfig
) -> None:
    cloud_server.set_quota("sales", volumes=0, gigabytes=0)
    check_target(sales, target_config, CheckTarget(spec=a_spec(), vm=a_vm(), for_cutover=True))
    cloud_server.set_quota("sales", instances=0)
    with pytest.raises(QuotaExceeded):
        check_target(sales, target_config, CheckTarget(spec=a_spec(), vm=a_vm(), for_cutover=True))


def test_an_unlimited_quota_covers_everything(
    cloud_server: CloudServer, sales: Cloud, target_config: TargetConfig
) -> None:
    cloud_server.set_quota("sales", volumes=-1, gigabytes=-1, cores=-1, ram=-1, instances=-1, ports=-1)
    check(sales, target_config, a_spec())


def test_what_the_job_has_made_already_is_not_needed_again(
    cloud_server: CloudServer, cloud: Cloud, target_config: TargetConfig
) -> None:
    spec = a_spec(vm="quota-vm")
    job = TargetOrder(job_id=job_id("prod", "quota-vm"), target_project=PROJECT)
    ids = [volumes.make(cloud, volume_order(job, key=key), no_pulse).volume_id for key in (2000, 2001)]
    limits = cloud.volumes.get_limits().absolute
    before = cloud_server.cloud.project_named(PROJECT).quota.volumes
    cloud_server.set_quota(PROJECT, volumes=limits.total_volumes_used)
    try:
        check(cloud, target_config, spec)
    finally:
        cloud_server.set_quota(PROJECT, volumes=before)
        for volume_id in ids:
            cloud.volumes.delete_volume(volume_id)


def test_a_project_that_the_account_has_no_role_in_is_refused(target_config: TargetConfig) -> None:
    with pytest.raises(TargetRefusedLogin, match="project 'nobodys'"):
        connect(target_config, "nobodys")

"""What a check of a target tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cloud.server import CloudServer
from xms.config import Config, TargetConfig
from xms.openstack import login
from xms.openstack.cloud import Cloud, connect
from xms.openstack.target_check import look_at, targets


@pytest.fixture(autouse=True)
def calm(cloud_server: CloudServer) -> Iterator[None]:
    yield
    cloud_server.cloud.roles = ("member",)
    cloud_server.faults.calm()


def test_a_target_is_told_with_account_services_and_quotas(cloud: Cloud, target_config: TargetConfig) -> None:
    report = look_at(cloud, "west", target_config)
    assert (report.target, report.project, report.user, report.roles) == ("west", "infra", "demo", ("member",))
    assert (report.region, report.regions) == ("RegionOne", ("RegionOne",))
    versions = {service.name: (service.version, service.microversion) for service in report.services}
    assert versions == {"Cinder": ("3.0", "3.70"), "Nova": ("2.1", "2.93"), "Neutron": ("2.0", "")}
    quotas = {quota.name: quota for quota in report.quotas}
    assert quotas["cores"].limit == 64
    assert quotas["cores"].left == 64 - quotas["cores"].used
    assert set(quotas) == {"volumes", "gigabytes", "cores", "ram (MiB)", "instances", "ports"}
    assert report.problems == ()
    assert report.notes == ("the log-in is not encrypted (http): password and token can be read on the way",)


def test_an_account_that_is_an_admin_is_told_that_it_need_not(
    target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    cloud_server.cloud.roles = ("admin", "member")
    login.forget_every_log_in()
    with connect(target_config) as cloud:
        assert "a plain member is safer" in look_at(cloud, "", target_config).notes[0]
    login.forget_every_log_in()


def test_a_service_that_cannot_be_used_is_told_and_the_others_all_the_same(
    cloud: Cloud, target_config: TargetConfig, cloud_server: CloudServer
) -> None:
    cloud_server.faults.refuse("volume", 1, status=500)
    cloud_server.faults.refuse("volume", 200, status=503)
    report = look_at(cloud, "", target_config)
    (problem,) = report.problems
    assert problem.startswith("Cinder: ")
    assert "HTTP 503" in problem
    assert {quota.name for quota in report.quotas} == {"cores", "ram (MiB)", "instances", "ports"}


def test_the_default_target_is_listed_first_and_none_is_asked(tmp_path: Path) -> None:
    config = Config(
        target=TargetConfig(cloud="one", clouds_file=tmp_path / "none.yaml"),
        targets={"b": TargetConfig(cloud="one", region="west"), "a": TargetConfig(cloud="two")},
    )
    assert [(each.name, each.cloud, each.region) for each in targets(config).targets] == [
        ("", "one", ""),
        ("a", "two", ""),
        ("b", "one", "west"),
    ]

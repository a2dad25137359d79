"""What the target says to a preflight: the same looks as of a submit, each with what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from keystoneauth1.session import Session
from temporalio.testing import ActivityEnvironment

from activities.preflight import PreflightActivities
from lab.cloud.server import CloudServer
from tests.openstack.conftest import PROJECT, a_spec, a_vm
from tests.preflight.subjects import FINE
from xms.config import Config, TargetConfig
from xms.errors import XmsError
from xms.models import NetworkMapping
from xms.openstack.check import check_target
from xms.openstack.cloud import Cloud
from xms.orders.preflight import (
    Finding,
    LookAtTarget,
    PreflightReport,
    Severity,
    Subject,
    Subjects,
    TargetWanted,
    Verdict,
)
from xms.orders.target import CheckTarget
from xms.vsphere.sessions import Sessions

MAPPED = (
    NetworkMapping(source="VM Network", network="internal-net"),
    NetworkMapping(source="Backup", network="backup-net"),
)
WANTED = TargetWanted(project=PROJECT, flavor="m1.small", volume_type="ssd", network_map=MAPPED)


def subject(name: str = "db-prod-01", *, cpus: int = 1) -> Subject:
    vm = a_vm(cpus=cpus)
    disks = tuple(
        FINE.vm.disks[0].model_copy(update={"key": disk.key, "label": disk.label, "capacity": disk.capacity})
        for disk in vm.disks
    )
    shape = {"name": name, "moref": name, "disks": disks, "nics": vm.nics, "cpus": cpus, "memory": vm.memory}
    return FINE.model_copy(update={"vm": FINE.vm.model_copy(update=shape), "target": None})


def preflight(config: TargetConfig, wanted: TargetWanted, *subjects: Subject) -> PreflightReport:
    activities = PreflightActivities(Config(target=config), Sessions())
    environment = ActivityEnvironment()
    order = LookAtTarget(wanted=wanted, subjects=Subjects.of("prod", subjects or (subject(),)))
    looked = environment.run(activities.look_at_target, order)
    return environment.run(activities.judge_subjects, looked).unpacked()


def of_target(report: PreflightReport) -> dict[str, Finding]:
    """What the first VM's rules say that look at the target."""
    return {
        finding.rule: finding
        for finding in report.vms[0].findings
        if finding.category == "target" or finding.rule == "network.mapping"
    }


def blocked(report: PreflightReport) -> dict[str, str]:
    return {rule: one.found for rule, one in of_target(report).items() if one.severity is Severity.BLOCK}


def test_a_target_that_can_take_it_has_nothing_against_it_and_resolves_every_nic(target_config: TargetConfig) -> None:
    report = preflight(target_config, WANTED)
    assert {rule: found.severity for rule, found in of_target(report).items()} == {"target.encryption": "Note"}
    checked = report.vms[0].target
    assert checked is not None
    assert [nic.network for nic in checked.nics] == ["internal-net", "backup-net"]
    assert checked.zeroed_volumes


@pytest.mark.parametrize(
    ("wrong", "rule", "words"),
    [
        ({"project": "nobodys"}, "target.project", "project 'nobodys'"),
        ({"flavor": "m9.huge"}, "target.flavor", "no flavor is called 'm9.huge'"),
        ({"volume_type": "gold"}, "target.volume-type", "no volume type is called 'gold'"),
        ({"availability_zone": "az-9"}, "target.availability-zone", "no availability zone is called 'az-9'"),
        ({"network_map": MAPPED[:1]}, "network.mapping", "NIC 2 on 'Backup' of db-prod-01 has no --network-map"),
        (
            {"network_map": (MAPPED[0], NetworkMapping(source="Backup", network="nowhere"))},
            "target.network",
            "no target network is called 'nowhere'",
        ),
        (
            {"network_map": (MAPPED[0], NetworkMapping(source="Backup", network="backup-net", subnet="nowhere"))},
            "target.network",
            "network 'backup-net' has no subnet 'nowhere'",
        ),
    ],
)
def test_what_is_not_there_blocks_with_the_rule_and_with_what_there_is(
    target_config: TargetConfig, wrong: dict[str, object], rule: str, words: str
) -> None:
    report = preflight(target_config, WANTED.model_copy(update=wrong))
    assert list(blocked(report)) == [rule]
    finding = of_target(report)[rule]
    assert words in finding.found
    assert finding.because
    assert report.verdict is Verdict.BLOCK
    assert report.vms[0].target is None


def test_a_flavor_smaller_than_the_vm_blocks_it_and_not_the_others(target_config: TargetConfig) -> None:
    report = preflight(target_config, WANTED, subject("small"), subject("large", cpus=64))
    verdicts = {one.vm.name: one.verdict for one in report.vms}
    assert verdicts == {"small": Verdict.PASS, "large": Verdict.BLOCK}
    (finding,) = report.vms[1].of_severity(Severity.BLOCK)
    assert finding.found == "flavor 'm1.small' is too small for large"


def test_a_quota_that_does_not_suffice_blocks_with_its_numbers(
    cloud_server: CloudServer, target_config: TargetConfig
) -> None:
    with quota_of(cloud_server, "sales", gigabytes=2):
        report = preflight(target_config, WANTED.model_copy(update={"project": "sales"}))
    assert blocked(report) == {"target.quota": "the quota of the target project does not cover db-prod-01"}
    assert "gigabytes: needs 3 more, 0 of 2" in of_target(report)["target.quota"].because


@contextmanager
def quota_of(server: CloudServer, project: str, **limits: int) -> Iterator[None]:
    before = dict(vars(server.cloud.project_named(project).quota))
    server.set_quota(project, **limits)
    try:
        yield
    finally:
        server.set_quota(project, **before)


def test_what_is_not_given_is_not_checked_and_says_so(target_config: TargetConfig) -> None:
    report = preflight(target_config, TargetWanted(flavor="m1.small"))
    notes = {rule: one.found for rule, one in of_target(report).items() if one.severity is Severity.NOTE}
    assert notes == {
        "target.project": "not checked: --target-project not given",
        "target.volume-type": "not checked: --volume-type not given",
        "network.mapping": "not checked: --network-map not given",
        "target.network": "not checked: --network-map not given",
        "target.quota": "not checked: --target-project not given",
    }
    assert blocked(report) == {}


def test_what_hangs_on_another_finding_says_that_it_was_not_looked_at(target_config: TargetConfig) -> None:
    nothing_mapped = WANTED.model_copy(update={"network_map": (), "flavor": "m9.huge"})
    found = of_target(preflight(target_config, nothing_mapped))
    assert set(blocked(preflight(target_config, nothing_mapped))) == {"target.flavor", "network.mapping"}
    assert found["target.network"].found == "not looked at: the NICs are not mapped"
    assert found["target.quota"].found == "not reckoned: there is no flavor to reckon with"
    nobodys = of_target(preflight(target_config, WANTED.model_copy(update={"project": "nobodys"})))
    assert nobodys["target.flavor"].found == "not looked at: the project could not be entered"
    assert "target.availability-zone" not in nobodys


def test_one_network_map_is_shared_out_among_many_vms_and_a_mistake_in_it_is_everyones(
    target_config: TargetConfig,
) -> None:
    both, one = subject("both"), subject("one")
    one = one.model_copy(update={"vm": one.vm.model_copy(update={"nics": one.vm.nics[:1]})})
    fine = preflight(target_config, WANTED, both, one)
    assert [len(found.target.nics) if found.target else None for found in fine.vms] == [2, 1]
    typo = WANTED.model_copy(update={"network_map": (*MAPPED, NetworkMapping(source="LNA", network="internal-net"))})
    spoiled = preflight(target_config, typo, both, one)
    assert [found.of_severity(Severity.BLOCK)[0].found for found in spoiled.vms] == [
        "no NIC of both is on 'LNA'",
        "no NIC of one is on 'LNA'",
    ]


def test_the_same_is_asked_once_for_all_vms(target_config: TargetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    request = Session.request

    def counted(self: Session, url: str, method: str, **others: Any) -> Any:  # noqa: ANN401 - keystoneauth's own
        asked.append(f"{method} {url}")
        return request(self, url, method, **others)

    monkeypatch.setattr(Session, "request", counted)
    preflight(target_config, WANTED)
    for_one = len(asked)
    asked.clear()
    report = preflight(target_config, WANTED, *(subject(f"vm-{number}") for number in range(50)))
    assert len(report.vms) == 50
    assert len(asked) == for_one


def test_a_submit_and_a_preflight_find_the_same(cloud: Cloud, target_config: TargetConfig) -> None:
    spec = a_spec(("VM Network", "nowhere"), ("Backup", "backup-net"), volume_type="gold")
    with pytest.raises(XmsError) as refused:
        check_target(cloud, target_config, CheckTarget(spec=spec, vm=a_vm()))
    found = blocked(preflight(target_config, TargetWanted.of(spec)))
    assert set(found) == {"target.volume-type", "target.network"}
    assert all(words in refused.value.because for words in found.values())

"""What an account may do, and what it is answered where it may not; an ESXi host without a vCenter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.esxi.memory import MemoryHost, a_machine
from lab.vcenter import certificate
from lab.vcenter.server import VcenterServer
from tests.lab_vcenter.client import USERS, Remote, connected, snapshot_of, turn_tracking, vim, vmodl
from tests.lab_vcenter.conftest import Lab

SNAPSHOT = "VirtualMachine.State.CreateSnapshot"


def key_of(service: Remote) -> Remote:
    return service.content.sessionManager.currentSession.key


def test_without_a_privilege_a_call_is_answered_with_its_name_and_changes_nothing(lab: Lab, web: Remote) -> None:
    lab.server.faults.withheld_privileges = {SNAPSHOT}
    with pytest.raises(vim.fault.NoPermission) as refused:
        snapshot_of(web)
    assert refused.value.privilegeId == SNAPSHOT
    assert refused.value.object._moId == web._moId
    assert not lab.web.snapshots
    lab.server.faults.withheld_privileges = set()
    snapshot_of(web)


def test_a_reconfiguration_needs_what_belongs_to_the_settings_that_it_changes(lab: Lab, web: Remote) -> None:
    lab.server.faults.withheld_privileges = {"VirtualMachine.Config.ChangeTracking"}
    web.Reconfigure(vim.vm.ConfigSpec(annotation="a note"))
    with pytest.raises(vim.fault.NoPermission):
        turn_tracking(web, on=True)


def test_a_session_is_told_what_it_may_do_on_each_entity(lab: Lab, service: Remote, web: Remote) -> None:
    lab.server.faults.withheld_privileges = {SNAPSHOT}
    manager = service.content.authorizationManager
    places = [service.content.rootFolder, web]
    found = manager.HasPrivilegeOnEntities(entity=places, sessionId=key_of(service), privId=[SNAPSHOT, "System.View"])
    assert [one.entity._moId for one in found] == [place._moId for place in places]
    told = [(one.privId, one.isGranted) for one in found[1].privAvailability]
    assert told == [(SNAPSHOT, False), ("System.View", True)]
    (mine,) = manager.FetchUserPrivilegeOnEntities(entities=[web], userName="xms@lab")
    assert SNAPSHOT not in mine.privileges
    assert "VirtualMachine.State.RemoveSnapshot" in mine.privileges


def test_nobody_is_told_of_other_sessions_unknown_users_or_things_that_are_not_there(
    service: Remote, web: Remote
) -> None:
    manager = service.content.authorizationManager
    with pytest.raises(vmodl.fault.InvalidArgument):
        manager.HasPrivilegeOnEntities(entity=[web], sessionId="another", privId=[SNAPSHOT])
    with pytest.raises(vim.fault.UserNotFound):
        manager.FetchUserPrivilegeOnEntities(entities=[web], userName="nobody")
    nothing = vim.VirtualMachine("vm-999", web._stub)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        manager.HasPrivilegeOnEntities(entity=[nothing], sessionId=key_of(service), privId=[SNAPSHOT])


def test_any_call_can_be_made_to_find_its_session_ended(lab: Lab, web: Remote) -> None:
    lab.server.end_session_at_call(2)
    assert web.name == "web01"
    for _ in range(2):
        with pytest.raises(vim.fault.NotAuthenticated):
            _ = web.name
    assert lab.server.sessions == 0
    with connected(lab.server.port, lab.certificate) as again:
        assert again.CurrentTime()


def test_a_call_without_a_session_is_given_an_empty_one_in_place_of_the_old(lab: Lab, service: Remote) -> None:
    before = service._stub.cookie
    lab.server.drop_sessions()
    with pytest.raises(vim.fault.NotAuthenticated):
        service.CurrentTime()
    assert service._stub.cookie not in ("", before)


@pytest.fixture
def esxi(tmp_path: Path) -> Iterator[Remote]:
    pem = tmp_path / "esxi.pem"
    certificate.make(pem, ["127.0.0.1"])
    host = MemoryHost((a_machine("web01"),))
    server = VcenterServer(host, address="127.0.0.1", port=0, certificate=pem, users=USERS, standalone=True)
    server.start()
    try:
        with connected(server.port, pem) as service:
            yield service
    finally:
        server.stop()


def test_an_esxi_host_says_that_it_is_one_and_has_its_own_datacenter(esxi: Remote) -> None:
    about = esxi.content.about
    assert (about.apiType, about.productLineId, about.name) == ("HostAgent", "embeddedEsx", "VMware ESXi")
    assert about.instanceUuid is None
    assert esxi.content.searchIndex.FindByInventoryPath("ha-datacenter/vm/web01").name == "web01"
    assert esxi.content.searchIndex.FindByInventoryPath("lab-dc/vm/web01") is None

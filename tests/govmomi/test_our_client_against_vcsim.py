"""Our client against govmomi's vCenter simulator, which shares no code with us, as far as that one knows vSphere."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.vcenter.certificate import make
from tests.govmomi import building
from xms.config import SourceConfig
from xms.errors import SourceNotTrusted, SourceRefusedLogin, VmNotFound, XmsError
from xms.models import Model
from xms.orders.source import MarkMigrated, PowerOff, VmDetails, VmOrder
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.inventory import find_vm, list_vms
from xms.vsphere.power import mark_migrated, power_off, power_on, power_state
from xms.vsphere.properties import read, read_all
from xms.vsphere.session import VsphereSession, connect
from xms.vsphere.snapshots import remove_snapshots, take_snapshot

pytestmark = pytest.mark.slow

USER = "xms@vcsim"
IDLE_SECONDS = 0.4


@dataclass(frozen=True)
class Vcsim:
    config: SourceConfig


@contextmanager
def a_vcsim(directory: Path, *, idle_seconds: float = 0) -> Iterator[Vcsim]:
    """A simulator with two datacenters, each with a host and a cluster, three VMs on each of them."""
    pem, password_file = directory / "vcsim.pem", directory / "password"
    thumbprint = make(pem, ["127.0.0.1"])
    password_file.write_text("secret\n")
    password_file.chmod(0o600)
    settings = {
        "Certificate": str(pem),
        "User": USER,
        "Password": "secret",
        "IdleSeconds": idle_seconds,
        "Datacenters": 2,
        "Machines": 3,
        "VirtualSwitch": 1,
    }
    with (
        (directory / "vcsim.log").open("w") as log,
        subprocess.Popen(
            [building.program("simulator")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        ) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(settings) + "\n")
        server.stdin.flush()
        host, _, port = json.loads(server.stdout.readline())["address"].rpartition(":")
        config = SourceConfig(
            host=host,
            port=int(port),
            username=USER,
            password_file=password_file,
            thumbprint=thumbprint,
            timeout_seconds=20,
        )
        try:
            yield Vcsim(config)
        finally:
            server.stdin.close()  # which ends it


@pytest.fixture(scope="module")
def vcsim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcsim]:
    with a_vcsim(tmp_path_factory.mktemp("vcsim")) as running:
        yield running


@pytest.fixture
def session(vcsim: Vcsim) -> Iterator[VsphereSession]:
    with connect("vcsim", vcsim.config) as opened:
        yield opened


def no_pulse(detail: Model | None = None) -> None:
    """Nobody watches."""
    del detail


def order_for(vm: VmDetails) -> VmOrder:
    return VmOrder(job_id=f"warm-vcsim-{vm.name}", source="vcsim", moref=vm.moref, vm=vm.name)


def a_vm(session: VsphereSession, name: str = "DC0_H0_VM0") -> VmDetails:
    return find_vm(session, name)


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_pinned_server_is_logged_in_to(session: VsphereSession) -> None:
    assert session.content.about.apiType == "VirtualCenter"
    assert session.content.about.licenseProductVersion == "6.0"  # vcsim's, and not the stand-in's


def test_a_server_with_another_thumbprint_is_not_trusted(vcsim: Vcsim) -> None:
    other = vcsim.config.model_copy(update={"thumbprint": ":".join(["AB"] * 32)})
    with pytest.raises(SourceNotTrusted), connect("vcsim", other):
        pass


def test_a_wrong_password_is_told_as_such(vcsim: Vcsim, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    with (
        pytest.raises(SourceRefusedLogin),
        connect("vcsim", vcsim.config.model_copy(update={"password_file": wrong})),
    ):
        pass


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vcsim]:
    with a_vcsim(tmp_path_factory.mktemp("impatient"), idle_seconds=IDLE_SECONDS) as running:
        yield running


def let_it_expire(session: VsphereSession) -> None:
    """The simulator looks at its sessions once in the idle time."""
    del session
    time.sleep(2.5 * IDLE_SECONDS)


@pytest.mark.parametrize(
    "call",
    [
        lambda session, vm: read(session, session.virtual_machine(vm.moref), ["name"])["name"],
        lambda session, vm: find_vm(session, vm.path).name,
        lambda session, vm: next(one.name for one in list_vms(session) if one.moref == vm.moref),
        lambda session, vm: power_state(session, session.virtual_machine(vm.moref)) and vm.name,
        lambda session, vm: power_on(session, order_for(vm), pulse=no_pulse).was_on and vm.name,
    ],
    ids=["a property", "a VM by its path", "the list of VMs", "the power state", "an order"],
)
def test_after_the_session_expired_the_next_call_logs_in_again_and_is_answered(
    impatient: Vcsim, call: Callable[[VsphereSession, VmDetails], str]
) -> None:
    with connect("vcsim", impatient.config) as session:
        vm = a_vm(session)
        let_it_expire(session)
        assert call(session, vm) == vm.name


def test_an_expired_session_is_never_taken_for_a_vm_without_snapshots(impatient: Vcsim) -> None:
    with connect("vcsim", impatient.config) as session:
        vm = a_vm(session, "DC1_H0_VM1")
        take_snapshot(session, order_for(vm), pulse=no_pulse)
        let_it_expire(session)
        assert remove_snapshots(session, order_for(vm), pulse=no_pulse) == 1


# --- the inventory ----------------------------------------------------------------------------------------------------


def test_every_vm_is_listed_with_its_path_and_hardware(session: VsphereSession) -> None:
    found = {vm.path: vm for vm in list_vms(session)}
    assert len(found) == 12
    vm = found["/DC0/vm/DC0_H0_VM0"]
    assert (vm.name, vm.power_state, vm.cpus) == ("DC0_H0_VM0", "poweredOn", 1)
    assert vm.memory > 0
    assert [disk.capacity for disk in vm.disks] == [1 << 20]
    assert [disk.path.startswith("[LocalDS_0]") for disk in vm.disks] == [True]


def test_a_nic_on_a_distributed_switch_has_the_name_of_its_port_group(session: VsphereSession) -> None:
    assert [nic.network for nic in a_vm(session).nics] == ["DC0_DVPG0"]


def test_a_vm_is_found_by_its_path_and_by_its_reference(session: VsphereSession) -> None:
    vm = find_vm(session, "/DC1/vm/DC1_C0_RP0_VM2")
    assert vm.name == "DC1_C0_RP0_VM2"
    assert find_vm(session, vm.name, vm.moref).moref == vm.moref


def test_a_datacenter_narrows_what_is_seen(vcsim: Vcsim) -> None:
    with connect("vcsim", vcsim.config.model_copy(update={"datacenter": "DC1"})) as session:
        assert {vm.path.split("/")[1] for vm in list_vms(session)} == {"DC1"}


def test_a_vm_that_is_not_there_is_not_found(session: VsphereSession) -> None:
    with pytest.raises(VmNotFound):
        find_vm(session, "DC0_H0_VM99")
    with pytest.raises(VmNotFound):
        find_vm(session, "gone", "vm-9999")


# --- power and settings -----------------------------------------------------------------------------------------------


def test_a_vm_is_shut_down_and_started_again(session: VsphereSession) -> None:
    vm = a_vm(session, "DC0_H0_VM1")
    order = PowerOff(vm=order_for(vm), shutdown_timeout_seconds=10, hard_power_off=False)
    assert power_off(session, order, pulse=no_pulse).how == "guest shut down"
    assert power_off(session, order, pulse=no_pulse).how == "was off"
    assert power_on(session, order_for(vm), pulse=no_pulse).was_on is False
    assert power_on(session, order_for(vm), pulse=no_pulse).was_on is True


def test_a_power_on_of_a_running_vm_fails_with_invalid_power_state(session: VsphereSession) -> None:
    task = session.virtual_machine(a_vm(session).moref).PowerOn()
    error = read(session, task, ["info"])["info"].error
    assert isinstance(error, vim.fault.InvalidPowerState)
    assert error.existingState == "poweredOn"


def test_the_annotation_is_written_once(session: VsphereSession) -> None:
    vm = a_vm(session, "DC0_H0_VM2")
    order = MarkMigrated(vm=order_for(vm), text='migrated <by> "xms" & läuft')
    for _ in range(2):
        mark_migrated(session, order, pulse=no_pulse)
    written = read(session, session.virtual_machine(vm.moref), ["config.annotation"])["config.annotation"]
    assert written.count(order.text) == 1


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_made_and_removed_and_others_stay(session: VsphereSession) -> None:
    vm = a_vm(session, "DC0_C0_RP0_VM0")
    order = order_for(vm)
    machine = session.virtual_machine(vm.moref)
    machine.CreateSnapshot(name="of somebody else", description="", memory=False, quiesce=False)
    taken = take_snapshot(session, order, pulse=no_pulse)
    assert find_vm(session, vm.name).snapshots == ("of somebody else", taken.name)
    assert [disk.capacity for disk in taken.disks] == [1 << 20]
    assert remove_snapshots(session, order, pulse=no_pulse) == 1
    assert find_vm(session, vm.name).snapshots == ("of somebody else",)


def test_a_snapshot_that_a_crash_left_is_removed_before_the_next(session: VsphereSession) -> None:
    order = order_for(a_vm(session, "DC0_C0_RP0_VM1"))
    first = take_snapshot(session, order, pulse=no_pulse)
    second = take_snapshot(session, order, pulse=no_pulse)
    assert second.leftovers_removed == 1
    assert second.moref != first.moref
    assert remove_snapshots(session, order, pulse=no_pulse) == 1


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_refused_although_vcsim_only_lists_it_as_missing(session: VsphereSession) -> None:
    # vCenter refuses the whole call (vSphere API, RetrievePropertiesEx).
    vm = session.virtual_machine(a_vm(session).moref)
    with pytest.raises(vmodl.query.InvalidProperty):
        read(session, vm, ["config.nonsense"])
    assert read_all(session, [vm], ["config.nonsense"]) == [(vm, {})]


def test_an_object_that_is_gone_is_not_found(session: VsphereSession) -> None:
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        read(session, session.virtual_machine("vm-9999"), ["name"])


def test_every_error_of_ours_is_told_with_its_reason(vcsim: Vcsim) -> None:
    with pytest.raises(XmsError) as caught, connect("vcsim", vcsim.config) as session:
        session.virtual_machine("vm-9999").PowerOn()
    assert "vm-9999" in str(caught.value.because)


# --- what the simulator does not know ---------------------------------------------------------------------------------
# These tests notice when a newer govmomi does: then the product has to be tried against it.


UNKNOWN: dict[str, Callable[[object], object]] = {
    "QueryChangedDiskAreas": lambda vm: vm.QueryChangedDiskAreas(  # type: ignore[attr-defined]  # pyVmomi's
        snapshot=None, deviceKey=2000, startOffset=0, changeId="*"
    ),
    "ConsolidateVMDisks_Task": lambda vm: vm.ConsolidateDisks(),  # type: ignore[attr-defined]  # pyVmomi's
}


@pytest.mark.parametrize("name", sorted(UNKNOWN))
def test_the_simulator_does_not_know_this_call_yet(session: VsphereSession, name: str) -> None:
    with pytest.raises(vmodl.fault.MethodNotFound) as caught:
        UNKNOWN[name](session.virtual_machine(a_vm(session).moref))
    assert caught.value.method == name


def test_the_simulator_does_not_know_change_ids_yet(session: VsphereSession) -> None:
    vm = a_vm(session, "DC0_C0_RP0_VM2")
    session.virtual_machine(vm.moref).Reconfigure(vim.vm.ConfigSpec(changeTrackingEnabled=True))
    taken = take_snapshot(session, order_for(vm), pulse=no_pulse)
    remove_snapshots(session, order_for(vm), pulse=no_pulse)
    assert find_vm(session, vm.name).change_tracking_enabled is True
    assert {disk.change_id for disk in taken.disks} == {None}

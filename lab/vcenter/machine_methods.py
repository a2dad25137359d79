"""Methods of VMs and snapshots, and of the datastores that they are on: settings, power, snapshots, changed areas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lab.esxi.interface import GuestSilentError, PowerState, PowerStateError
from lab.vcenter.calls import Call, Handler
from lab.vcenter.changed_areas import query_changed_disk_areas
from lab.vcenter.machines import VirtualMachine, refuse_unknown_settings
from lab.vcenter.vocabulary import Data, Kind, Reference, invalid_argument, vim, vmodl


def _machine(call: Call) -> VirtualMachine:
    return call.center.inventory.machine(call.target)


def _start(
    call: Call, machine: VirtualMachine, kind: Kind, name: str, description: str, work: Callable[[], Data]
) -> Reference:
    method = getattr(kind, name)

    def strike_or_work() -> Data:
        call.center.switches.strike(method.info.wsdlName, in_task=True)
        return work()

    return call.center.tasks.start(
        strike_or_work,
        method=method,
        description=description,
        entity=machine.reference,
        entity_name=machine.name,
        user=call.caller.user,
    )


def _wrong_power_state(machine: VirtualMachine, wanted: PowerState | None) -> Exception:
    state = machine.machine.power_state
    words = {"poweredOn": "Powered on", "poweredOff": "Powered off", "suspended": "Suspended"}[state]
    fault: Exception = vim.fault.InvalidPowerState(
        requestedState=wanted,
        existingState=state,
        msg=f"The attempted operation cannot be performed in the current state ({words}).",
    )
    return fault


# --- settings and power -----------------------------------------------------------------------------------------------


def _reconfigure(call: Call) -> Reference:
    machine = _machine(call)
    spec = call.arguments["spec"]
    refuse_unknown_settings(spec)

    def work() -> None:
        if spec.annotation is not None:
            machine.machine.annotation = spec.annotation
        if spec.changeTrackingEnabled is not None:
            machine.machine.set_change_tracking(spec.changeTrackingEnabled)

    return _start(call, machine, vim.VirtualMachine, "Reconfigure", "VirtualMachine.reconfigure", work)


def _power(machine: VirtualMachine, wanted: PowerState, action: Callable[[], None]) -> None:
    try:
        action()
    except PowerStateError:
        raise _wrong_power_state(machine, wanted) from None


def _power_on(call: Call) -> Reference:
    machine = _machine(call)
    return _start(
        call,
        machine,
        vim.VirtualMachine,
        "PowerOn",
        "VirtualMachine.powerOn",
        lambda: _power(machine, "poweredOn", machine.machine.power_on),
    )


def _power_off(call: Call) -> Reference:
    machine = _machine(call)
    return _start(
        call,
        machine,
        vim.VirtualMachine,
        "PowerOff",
        "VirtualMachine.powerOff",
        lambda: _power(machine, "poweredOff", machine.machine.power_off),
    )


def _shutdown_guest(call: Call) -> None:
    machine = _machine(call)
    try:
        machine.machine.shutdown_guest()
    except PowerStateError:
        raise _wrong_power_state(machine, None) from None
    except GuestSilentError:
        raise vim.fault.ToolsUnavailable(
            msg="Cannot complete operation because VMware Tools is not running in this virtual machine."
        ) from None


# --- snapshots --------------------------------------------------------------------------------------------------------


def _create_snapshot(call: Call) -> Reference:
    machine = _machine(call)
    arguments = call.arguments
    if not arguments["name"]:
        raise invalid_argument("name")

    def work() -> Reference:
        if call.center.switches.refuse_snapshots:
            raise vim.fault.SnapshotFault(msg="An error occurred while saving the snapshot: msg.snapshot.error.")
        made = machine.create_snapshot(
            arguments["name"],
            arguments.get("description") or "",
            memory=arguments["memory"],
            quiesce=arguments["quiesce"],
        )
        if arguments["quiesce"] and call.center.switches.quiesce_fault is not None:
            raise call.center.switches.quiesce_fault()
        return made

    return _start(call, machine, vim.VirtualMachine, "CreateSnapshot", "VirtualMachine.createSnapshot", work)


def _remove_snapshot(call: Call) -> Reference:
    machine, record = call.center.inventory.snapshot(call.target)
    with_children = call.arguments["removeChildren"]

    def work() -> None:
        _, still = call.center.inventory.snapshot(call.target)
        children = [one.sequence for one in machine.snapshots() if one.sequence > record.sequence]
        machine.remove_snapshots([still.sequence, *(children if with_children else ())])

    return _start(call, machine, vim.vm.Snapshot, "Remove", "vm.Snapshot.remove", work)


def _remove_all_snapshots(call: Call) -> Reference:
    machine = _machine(call)
    return _start(
        call,
        machine,
        vim.VirtualMachine,
        "RemoveAllSnapshots",
        "VirtualMachine.removeAllSnapshots",
        lambda: machine.remove_snapshots([record.sequence for record in machine.snapshots()]),
    )


def _consolidate(call: Call) -> Reference:
    machine = _machine(call)
    return _start(
        call,
        machine,
        vim.VirtualMachine,
        "ConsolidateDisks",
        "VirtualMachine.consolidateDisks",
        lambda: call.center.switches.consolidation_needed.discard(machine.name),
    )


def _query_changed_disk_areas(call: Call) -> Data:
    return query_changed_disk_areas(
        call.center.inventory,
        call.center.switches,
        _machine(call),
        snapshot=call.arguments.get("snapshot"),
        device_key=call.arguments["deviceKey"],
        start_offset=call.arguments["startOffset"],
        change_id=call.arguments["changeId"],
    )


def _refresh_datastore(_call: Call) -> None:
    """Its free space is never stale here."""


def _cancel_task(call: Call) -> None:
    raise vmodl.fault.NotSupported(msg=f"Task {call.target} cannot be cancelled")


METHODS: Final[dict[str, Handler]] = {
    "ReconfigVM_Task": _reconfigure,
    "PowerOnVM_Task": _power_on,
    "PowerOffVM_Task": _power_off,
    "ShutdownGuest": _shutdown_guest,
    "CreateSnapshot_Task": _create_snapshot,
    "RemoveSnapshot_Task": _remove_snapshot,
    "RemoveAllSnapshots_Task": _remove_all_snapshots,
    "ConsolidateVMDisks_Task": _consolidate,
    "QueryChangedDiskAreas": _query_changed_disk_areas,
    "RefreshDatastore": _refresh_datastore,
    "CancelTask": _cancel_task,
}

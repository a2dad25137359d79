"""Stopping the source and knowing that it is off; starting it again; writing on it what became of it."""

from __future__ import annotations

import time
from typing import Any

from xms.errors import PowerOffNotConfirmed
from xms.orders.source import MarkMigrated, PoweredOff, PoweredOn, PowerOff, VmOrder
from xms.pulse import Pulse
from xms.vsphere.bindings import vim, vmodl
from xms.vsphere.faults import explained, fault_text
from xms.vsphere.properties import read
from xms.vsphere.session import VsphereSession
from xms.vsphere.tasks import wait_for_other_tasks, wait_for_task

POLL_SECONDS = 0.5
REFUSAL_GRACE_SECONDS = 10.0
"""A guest that an earlier attempt asked to shut down has stopped its tools before it is off. So a refusal is not taken
for the end of it at once."""

CONFIRMATION_SECONDS = 30.0


def power_off(session: VsphereSession, order: PowerOff, *, pulse: Pulse) -> PoweredOff:
    """Shut the guest down, power off hard where that is allowed and needed, and confirm that vCenter says it is off.

    Raises:
        PowerOffNotConfirmed: it still runs, or is suspended.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`. Asked again, the same shutdown is waited for.
    """
    name = order.vm.vm
    with explained(session.name, f"{name} could not be powered off"):
        vm = session.virtual_machine(order.vm.moref)
        state = power_state(session, vm)
        if state == "poweredOff":
            return PoweredOff(how="was off")
        if state == "suspended":
            raise PowerOffNotConfirmed(
                f"{name} is suspended",
                because="what its memory holds is not on its disks",
                means="nothing was cut over",
                do="resume it, or power it off in vSphere; then order the cutover again",
            )
        refusal = _ask_guest(vm)
        patience = float(order.shutdown_timeout_seconds)
        if refusal:
            patience = min(patience, REFUSAL_GRACE_SECONDS)
        if _is_off_within(session, vm, patience, pulse=pulse):
            return PoweredOff(how="guest shut down")
        because = refusal or f"the guest did not shut down within {order.shutdown_timeout_seconds} s"
        if not order.hard_power_off:
            raise PowerOffNotConfirmed(
                f"{name} still runs",
                because=because,
                means="nothing was cut over",
                do="shut the guest down by hand, or allow the hard power-off; then order the cutover again",
            )
        fault = _pull_the_plug(session, vm, pulse=pulse)
        if _is_off_within(session, vm, CONFIRMATION_SECONDS if fault is None else 0.0, pulse=pulse):
            return PoweredOff(how="powered off hard")
        raise PowerOffNotConfirmed(
            f"{name} still runs",
            because=f"{because}; the hard power-off was {fault or 'accepted, and vCenter does not say that it is off'}",
            means="nothing was cut over",
            do="power it off in vSphere; then order the cutover again",
        )


def power_on(session: VsphereSession, order: VmOrder, *, pulse: Pulse) -> PoweredOn:
    """Start the VM where it does not run.

    Raises:
        SourceFault: vSphere could not start it.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`.
    """
    with explained(session.name, f"{order.vm} could not be powered on"):
        vm = session.virtual_machine(order.moref)
        if power_state(session, vm) == "poweredOn":
            return PoweredOn(was_on=True)
        wait_for_other_tasks(session, vm, pulse=pulse)
        try:
            wait_for_task(session, vm.PowerOn(), pulse=pulse)
        except vim.fault.InvalidPowerState:
            # Somebody else's power-on, or that of an attempt that died, came first.
            if power_state(session, vm) != "poweredOn":
                raise
    return PoweredOn(was_on=False)


def mark_migrated(session: VsphereSession, order: MarkMigrated, *, pulse: Pulse) -> None:
    """Append a line to the VM's annotation, unless it is there already.

    Raises:
        SourceFault: vSphere refused it.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`.
    """
    with explained(session.name, f"the annotation of {order.vm.vm} could not be written"):
        vm = session.virtual_machine(order.vm.moref)
        written = read(session, vm, ["config.annotation"]).get("config.annotation") or ""
        if order.text in written:
            return
        annotation = f"{written.rstrip()}\n{order.text}".lstrip()
        wait_for_task(session, vm.Reconfigure(vim.vm.ConfigSpec(annotation=annotation)), pulse=pulse)


def power_state(session: VsphereSession, vm: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """As vCenter has it now: poweredOn, poweredOff or suspended."""
    return str(read(session, vm, ["runtime.powerState"])["runtime.powerState"])


def _ask_guest(vm: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """Ask the guest to shut down; the answer is why it cannot be asked, empty when it was."""
    try:
        vm.ShutdownGuest()
    except vim.fault.ToolsUnavailable as fault:
        return f"VMware Tools do not run in the guest ({fault_text(fault)})"
    except vmodl.fault.ManagedObjectNotFound:
        raise
    except (
        vim.fault.InvalidState,
        vim.fault.TaskInProgress,
        vmodl.fault.NotSupported,
        vmodl.fault.SystemError,
    ) as fault:
        return f"the guest could not be asked to shut down ({fault_text(fault)})"
    return ""


def _pull_the_plug(session: VsphereSession, vm: Any, *, pulse: Pulse) -> str | None:  # noqa: ANN401 - pyVmomi's
    """Power off hard; the answer is why vSphere refused, None when it did not.

    What else works on the VM is waited for: it would be a reason to refuse that passes by itself.
    """
    wait_for_other_tasks(session, vm, pulse=pulse)
    try:
        wait_for_task(session, vm.PowerOff(), pulse=pulse)
    except vmodl.fault.ManagedObjectNotFound:
        raise
    except (vim.fault.VimFault, vmodl.fault.NotSupported, vmodl.fault.SystemError) as fault:
        return f"refused ({fault_text(fault)})"
    return None


def _is_off_within(session: VsphereSession, vm: Any, seconds: float, *, pulse: Pulse) -> bool:  # noqa: ANN401 - pyVmomi's
    deadline = time.monotonic() + seconds
    while power_state(session, vm) != "poweredOff":
        pulse()
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True

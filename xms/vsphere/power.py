"""Stopping the source and knowing that it is off; starting it again; writing on it what became of it."""

from __future__ import annotations

import time
from typing import Any

from xms.errors import PowerOffNotConfirmed
from xms.orders.source import MARK, MarkMigrated, PoweredOff, PoweredOn, PowerOff, VmOrder
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
TRIES_BESIDE_OTHERS = 3
"""How often something is asked of a VM that something else works on (vMotion, a backup), once that has ended."""


def power_off(session: VsphereSession, order: PowerOff, *, pulse: Pulse, waited: float = 0.0) -> PoweredOff:
    """Shut the guest down, power off hard where that is allowed and needed, and confirm that vCenter says it is off.

    Args:
        session: of the source.
        order: the VM, and what is allowed.
        pulse: shown while the guest is waited for.
        waited: seconds since the first attempt, where this is a later one; they are part of the guest's time.

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
            if waited and order.was_running:
                lost = "the worker or vCenter was lost while it was waited for"
                return PoweredOff(how="went off unseen", because=lost)
            return PoweredOff(how="was off")
        _refuse_suspended(name, state)
        refusal = _ask_guest(session, vm, pulse)
        grace = min(REFUSAL_GRACE_SECONDS, order.shutdown_timeout_seconds)
        patience = grace if refusal else max(grace, order.shutdown_timeout_seconds - waited)
        if _is_off_within(session, vm, patience, name=name, pulse=pulse):
            return PoweredOff(how="guest shut down")
        because = refusal or f"the guest did not shut down within {order.shutdown_timeout_seconds} s"
        if _is_in_standby(session, vm):
            because += "; vSphere says that it is in standby"
        if not order.hard_power_off:
            raise PowerOffNotConfirmed(
                f"{name} still runs",
                because=because,
                means="nothing was cut over",
                do="shut the guest down by hand, or allow the hard power-off; then order the cutover again",
            )
        fault = _pull_the_plug(session, vm, pulse=pulse)
        if _is_off_within(session, vm, CONFIRMATION_SECONDS if fault is None else 0.0, name=name, pulse=pulse):
            return PoweredOff(how="powered off hard", because=because)
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


def unmark_migrated(session: VsphereSession, order: VmOrder, *, pulse: Pulse) -> None:
    """Take the job's line out of the VM's annotation again; none is a success.

    Raises:
        SourceFault: vSphere refused it.
        VmNotFound: the VM is gone.
        Interrupted: from `pulse`.
    """
    with explained(session.name, f"the annotation of {order.vm} could not be written"):
        vm = session.virtual_machine(order.moref)
        written = read(session, vm, ["config.annotation"]).get("config.annotation") or ""
        lines = written.splitlines()
        kept = [line for line in lines if not line.startswith(f"{MARK} {order.job_id} ")]
        if kept == lines:
            return
        spec = vim.vm.ConfigSpec(annotation="\n".join(kept))
        wait_for_task(session, vm.Reconfigure(spec), pulse=pulse)


def power_state(session: VsphereSession, vm: Any) -> str:  # noqa: ANN401 - pyVmomi's
    """As vCenter has it now: poweredOn, poweredOff or suspended."""
    return str(read(session, vm, ["runtime.powerState"])["runtime.powerState"])


def _refuse_suspended(name: str, state: str) -> None:
    """To power it off would throw away what it has in memory."""
    if state == "suspended":
        raise PowerOffNotConfirmed(
            f"{name} is suspended",
            because="what its memory holds is not on its disks",
            means="nothing was cut over",
            do="resume it, or power it off in vSphere; then order the cutover again",
        )


def _is_in_standby(session: VsphereSession, vm: Any) -> bool:  # noqa: ANN401 - pyVmomi's
    return read(session, vm, ["guest.guestState"]).get("guest.guestState") == "standby"


def _ask_guest(session: VsphereSession, vm: Any, pulse: Pulse) -> str:  # noqa: ANN401 - pyVmomi's
    """Ask the guest to shut down; the answer is why it cannot be asked, empty when it was."""
    refusal = ""
    for _ in range(TRIES_BESIDE_OTHERS):
        try:
            return _ask_guest_once(vm)
        except vim.fault.TaskInProgress as fault:
            # It is only not the time for it: a vMotion, for example, ends by itself.
            refusal = f"the guest could not be asked to shut down ({fault_text(fault)})"
            wait_for_other_tasks(session, vm, pulse=pulse)
    return refusal


def _ask_guest_once(vm: Any) -> str:  # noqa: ANN401 - pyVmomi's
    try:
        vm.ShutdownGuest()
    except vim.fault.ToolsUnavailable as fault:
        return f"VMware Tools do not run in the guest ({fault_text(fault)})"
    except vmodl.fault.ManagedObjectNotFound:
        raise
    except vim.fault.TaskInProgress:
        raise
    except (vim.fault.InvalidState, vmodl.fault.NotSupported, vmodl.fault.SystemError) as fault:
        return f"the guest could not be asked to shut down ({fault_text(fault)})"
    return ""


def _pull_the_plug(session: VsphereSession, vm: Any, *, pulse: Pulse) -> str | None:  # noqa: ANN401 - pyVmomi's
    """Power off hard; the answer is why vSphere refused, None when it did not.

    What else works on the VM is waited for: it would be a reason to refuse that passes by itself.
    """
    refused = None
    for _ in range(TRIES_BESIDE_OTHERS):
        wait_for_other_tasks(session, vm, pulse=pulse)
        try:
            wait_for_task(session, vm.PowerOff(), pulse=pulse)
        except vmodl.fault.ManagedObjectNotFound:
            raise
        except vim.fault.TaskInProgress as fault:
            refused = f"refused ({fault_text(fault)})"
        except (vim.fault.VimFault, vmodl.fault.NotSupported, vmodl.fault.SystemError) as fault:
            return f"refused ({fault_text(fault)})"
        else:
            return None
    return refused


def _is_off_within(
    session: VsphereSession,
    vm: Any,  # noqa: ANN401 - pyVmomi's
    seconds: float,
    *,
    name: str,
    pulse: Pulse,
) -> bool:
    deadline = time.monotonic() + seconds
    while (state := power_state(session, vm)) != "poweredOff":
        _refuse_suspended(name, state)
        pulse()
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True

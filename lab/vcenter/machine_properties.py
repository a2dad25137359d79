"""Which properties of a VM and of its snapshots can be read, and how each is made."""

from __future__ import annotations

import functools

from lab.esxi.interface import NicSpec
from lab.vcenter.machines import SnapshotRecord, VirtualMachine
from lab.vcenter.properties import Properties
from lab.vcenter.switches import FaultSwitches
from lab.vcenter.tasks import Tasks
from lab.vcenter.vocabulary import Data, Reference, vim


class MachineProperties:
    """Makes the properties of the VMs of one host.

    Args:
        hosts: the first, and the second, on which are VMs that were moved.
        pool, parent, datastores, networks: the objects around every VM.
    """

    def __init__(
        self,
        *,
        hosts: tuple[Reference, Reference],
        pool: Reference,
        folder: Reference,
        datastores: dict[str, Reference],
        networks: dict[str, Reference],
        tasks: Tasks,
        switches: FaultSwitches,
    ) -> None:
        self._hosts = hosts
        self._pool = pool
        self._folder = folder
        self._datastores = datastores
        self._networks = networks
        self._tasks = tasks
        self._switches = switches

    def of_machine(self, machine: VirtualMachine, shown_name: str) -> Properties:
        """The VM's."""
        spec = machine.machine.spec
        return {
            "name": lambda: shown_name,
            "parent": lambda: self._folder,
            "overallStatus": lambda: "green",
            "configStatus": lambda: "green",
            "recentTask": lambda: self._tasks.recent(machine.reference),
            "capability": lambda: _capability(change_tracking=spec.change_tracking_supported),
            "config": machine.config,
            "runtime": lambda: self._runtime(machine),
            "guest": lambda: _guest(machine),
            "guestHeartbeatStatus": lambda: _heartbeat(machine),
            "summary": lambda: self._summary(machine),
            "resourcePool": lambda: self._pool,
            "snapshot": machine.snapshot_info,
            "rootSnapshot": lambda: [machine.snapshot_reference(record.sequence) for record in machine.snapshots()[:1]],
            "datastore": lambda: [
                reference
                for name, reference in self._datastores.items()
                if any(disk.datastore_path.startswith(f"[{name}]") for disk in spec.disks)
            ],
            "network": lambda: [
                reference for name, reference in self._networks.items() if any(nic.network == name for nic in spec.nics)
            ],
        }

    def of_snapshot(self, machine: VirtualMachine, record: SnapshotRecord) -> Properties:
        """A snapshot's: the VM's settings as they were."""
        younger = [other.sequence for other in machine.snapshots() if other.sequence > record.sequence]
        return {
            "config": lambda: machine.config(record),
            "vm": lambda: machine.reference,
            "childSnapshot": lambda: [machine.snapshot_reference(sequence) for sequence in younger[:1]],
        }

    def _runtime(self, machine: VirtualMachine) -> Data:
        return vim.vm.RuntimeInfo(
            host=self._hosts[machine.name in self._switches.moved],
            connectionState=self._switches.vm_connections.get(machine.name, "connected"),
            powerState=machine.machine.power_state,
            faultToleranceState=machine.machine.spec.fault_tolerance,
            toolsInstallerMounted=False,
            numMksConnections=0,
            recordReplayState="inactive",
            onlineStandby=False,
            consolidationNeeded=machine.name in self._switches.consolidation_needed,
        )

    def _summary(self, machine: VirtualMachine) -> Data:
        spec = machine.machine.spec
        config = machine.config()
        return vim.vm.Summary(
            vm=machine.reference,
            runtime=self._runtime(machine),
            config=vim.vm.Summary.ConfigSummary(
                name=spec.name,
                template=spec.template,
                vmPathName=config.files.vmPathName,
                memorySizeMB=spec.memory >> 20,
                numCpu=spec.cpus,
                numEthernetCards=len(spec.nics),
                numVirtualDisks=len(spec.disks),
                uuid=machine.bios_uuid,
                instanceUuid=machine.instance_uuid,
                guestId=spec.guest_id,
                guestFullName=config.guestFullName,
                annotation=config.annotation,
                hwVersion=config.version,
            ),
            guest=vim.vm.Summary.GuestSummary(
                toolsStatus=_tools_status(machine), toolsRunningStatus=_tools_running_status(machine)
            ),
            quickStats=vim.vm.Summary.QuickStats(guestHeartbeatStatus=_heartbeat(machine)),
            overallStatus="green",
        )


@functools.cache
def _capability(*, change_tracking: bool) -> Data:
    return vim.vm.Capability(
        snapshotOperationsSupported=True,
        multipleSnapshotsSupported=True,
        poweredOffSnapshotsSupported=True,
        quiescedSnapshotsSupported=True,
        changeTrackingSupported=change_tracking,
        bootOptionsSupported=True,
        toolsSyncTimeSupported=True,
    )


def _tools_status(machine: VirtualMachine) -> str:
    return "toolsOk" if machine.machine.tools_running else "toolsNotRunning"


def _tools_running_status(machine: VirtualMachine) -> str:
    return "guestToolsRunning" if machine.machine.tools_running else "guestToolsNotRunning"


def _heartbeat(machine: VirtualMachine) -> str:
    return "green" if machine.machine.tools_running else "gray"


def _guest(machine: VirtualMachine) -> Data:
    """What the tools tell; the guest's addresses stay unset where the host was not told any."""
    running = machine.machine.tools_running
    return vim.vm.GuestInfo(
        toolsStatus=_tools_status(machine),
        toolsRunningStatus=_tools_running_status(machine),
        toolsVersionStatus2=(
            "guestToolsUnmanaged" if machine.machine.spec.tools_installed else "guestToolsNotInstalled"
        ),
        guestState="running" if running else "notRunning",
        guestId=machine.machine.spec.guest_id if running else None,
        guestFamily="linuxGuest" if running else None,
        net=[_guest_nic(nic) for nic in machine.machine.spec.nics if nic.addresses] if running else [],
    )


def _guest_nic(nic: NicSpec) -> Data:
    addresses = [
        vim.net.IpConfigInfo.IpAddress(ipAddress=address, prefixLength=24, state="preferred")
        for address in nic.addresses
    ]
    return vim.vm.GuestInfo.NicInfo(
        network=nic.network,
        ipAddress=list(nic.addresses),
        macAddress=nic.mac,
        connected=True,
        deviceConfigId=nic.key,
        ipConfig=vim.net.IpConfigInfo(ipAddress=addresses),
    )

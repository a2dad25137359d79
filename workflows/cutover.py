"""What the steps of a cutover do; their order, and what undoes each, is `workflows.itinerary`.

Two things are written into the job's record BEFORE they happen, so that the record never claims more than is true:
before the commit of the conversion, what it wrote becomes unseeded; before the target boots, its disks count as
unknown and are reseeded if the cutover is rolled back. Nothing else has to be done for the volumes on the way back:
the next sync mends them.
"""

from __future__ import annotations

from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.conversion import ConversionActivities
    from activities.source import SourceActivities
    from activities.target import TargetActivities
    from workflows.calls import (
        BOOT,
        CLEAN_UP,
        CONTROL,
        GLANCE,
        WHILE_OFF,
        Policy,
        call,
        evidence,
        explain,
        failure_type,
        on_host,
        power_off,
        refusal,
    )
    from workflows.gates import Gates
    from workflows.guest_fixes import GuestFixes
    from workflows.host_slots import HostSlots, give_reserved_back
    from workflows.names import LOOKS_AGAIN, RELEASED_LATER, SOURCE_FIRST
    from workflows.sync import CLEAN_UP_AGAIN
    from xms import go_no_go
    from xms.errors import BadInput
    from xms.evidence import described, needs_address
    from xms.job import shortened
    from xms.models import Baseline, Nic, SecureBoot
    from xms.orders.source import MARK, MarkMigrated, PowerOff
    from xms.orders.target import (
        BootServer,
        FinalizeVolumes,
        MakePorts,
        SeeRunning,
        ServerOrder,
        VolumesOrder,
    )

FOUND_LIMIT: Final = 300
"""Characters of what a step came to: a line, however many NICs a VM has."""

NEVER_STARTED: Final = ("BootRefused", "NeverStarted")
"""The failures of a boot that say that no guest ran on the volumes, so that they are what the conversion left."""


class CutoverRun(Gates, GuestFixes):
    """One attempt at a cutover: what its steps do."""

    async def make_ports(self) -> None:
        """The target's ports, before the downtime starts."""
        order = MakePorts(target=self.target, instance_name=self.spec.instance_name, nics=self.state.nics)
        made = await call(TargetActivities.make_ports, order, **CONTROL)
        self.state.nics = made.nics
        self._note_step(found=shortened("; ".join(_port(nic) for nic in made.nics), FOUND_LIMIT))
        self._refuse_unseen()

    def _refuse_unseen(self) -> None:
        """Where the ports got no address, nothing can be seen at one; better told before the downtime than after it."""
        unseen = [described(evidence) for evidence in self.order.evidence if needs_address(evidence)]
        if unseen and not self._addresses():
            raise refusal(
                BadInput,
                f"the target of {self.vm.vm} could not be seen by {', '.join(unseen)}",
                because="Neutron gave its ports no address: their networks have no subnet",
                means="the source was not touched",
                do="name an address, as in tcp=22,address=ADDRESS, or take evidence by the console",
            )

    def _addresses(self) -> tuple[str, ...]:
        return tuple(address for nic in self.state.nics for address in nic.port_ips)

    async def remove_ports(self) -> None:
        """Take the ports back that this job made."""
        removed = await call(TargetActivities.remove_ports, self.target, **CLEAN_UP)
        for text in removed.left:
            self.state.note(workflow.now(), "port left", text)
        gone = {"port_id": None, "port_mac": "", "port_ips": ()}
        self.state.nics = tuple(nic.model_copy(update=gone) for nic in self.state.nics)

    async def reserve_stream(self) -> None:
        """A stream from the source's host, so that the final delta waits for none with the source off."""
        await HostSlots(self.spec, self.state, self.state.host, urgent=True).reserve()
        self._note_step(found=f"of {self.state.source_host}" if self.state.reserved_slot else "the host has no limit")
        # The last moment before the source is stopped: the stream may have been waited for.
        self.follow(go_no_go.before_the_source_is_stopped(self.state, self.order, workflow.now()))

    async def give_stream_back(self) -> None:
        """Let others have it, where the final delta did not come to use it."""
        await give_reserved_back(self.state)

    async def power_off(self) -> None:
        """Stop the source, and have vCenter confirm it."""
        self.state.source_is_off = True
        order = PowerOff(
            vm=self.vm,
            shutdown_timeout_seconds=self.order.shutdown_timeout_seconds,
            hard_power_off=self.order.hard_power_off,
            was_running=self.state.cutover.source_was_running if self.state.cutover else False,
        )
        policy = power_off(self.order.shutdown_timeout_seconds)
        off = await call(SourceActivities.power_off, order, **policy)
        self._record(power_off=off.how)
        self._note_step(found=f"{off.how}: {off.because}" if off.because else off.how)

    async def power_on(self) -> None:
        """Let the source run again if it did, unless the operator chose otherwise. The target is gone by then."""
        if self.state.cutover is not None and not self.state.cutover.source_was_running:
            self._note("source stays off", "as it was before the cutover")
        elif self.order.power_on_source_after_failure or self.state.rolling_back:
            await call(SourceActivities.power_on, self.vm, **CLEAN_UP)
            self._record(source_on_at=workflow.now())
        else:
            self._note("source stays off", "as the cutover's order says")
        self.state.source_is_off = False

    async def forget_conversion(self) -> None:
        """Leave no attachment of a conversion that broke off; overlays are made afresh by the next one.

        What a cloud that does not answer keeps is released later: until then the lease alone says who may write.
        """
        try:
            await self._release_volumes(WHILE_OFF)
        except ActivityError as error:
            if not workflow.patched(RELEASED_LATER):
                raise
            trouble = explain(error, f"the volumes of {self.vm.vm} could not be released")
            self._note("clean-up failed", f"{trouble.what}: {trouble.because}; it is tried again")
            self.state.clean_up_at = workflow.now() + CLEAN_UP_AGAIN

    async def _release_volumes(self, policy: Policy) -> None:
        order = VolumesOrder(target=self.target, volume_ids=self.state.volume_ids, after_server=self.server_removed)
        await call(TargetActivities.release_volumes, order, **policy)

    async def finalize(self) -> None:
        """Bootable root volume, image metadata, no attachment to a worker."""
        converted = self._conversion()
        await self._release_volumes(WHILE_OFF)
        order = FinalizeVolumes(
            target=self.target,
            disks=self.state.disks,
            root_disk_key=converted.root_disk_key,
            firmware=converted.firmware,
            machine=converted.machine,
            block_bus=converted.block_bus,
            net_bus=converted.net_bus,
            os_type=converted.os_type,
            os_distro=converted.os_distro,
            os_version=converted.os_version,
            secure_boot=self._secure_boot(),
            guest_agent=self.spec.guest_agent,
        )
        await call(TargetActivities.finalize_volumes, order, **CONTROL)
        self._note_step(found=f"{converted.firmware}, {converted.machine}, disks on {converted.block_bus}")

    def _secure_boot(self) -> SecureBoot:
        """As ordered, else as the source has it, where a host can: the conversion may have changed what is signed."""
        if self.spec.secure_boot is not None:
            return self.spec.secure_boot
        return SecureBoot.OPTIONAL if self.state.secure_boot else SecureBoot.DISABLED

    async def boot(self) -> None:
        """Boot the instance. From here on its writes are unknown."""
        await self._refuse_running()
        before = self.state.disks
        self.state.disks = tuple(disk.model_copy(update={"baseline": Baseline()}) for disk in before)
        order = BootServer(
            target=self.target,
            spec=self.spec,
            disks=before,
            root_disk_key=self._conversion().root_disk_key,
            nics=self.state.nics,
            block_bus=self._conversion().block_bus,
        )
        try:
            made = await call(TargetActivities.boot_server, order, **BOOT)
        except ActivityError as error:
            if failure_type(error) in NEVER_STARTED:
                self.state.disks = before
            raise
        self._record(server_id=made.server_id)
        self._note_step(found=f"server {made.server_id}")

    async def remove_server(self) -> None:
        """Remove the target instance and see that it is gone: the source may run only then."""
        server = self.state.cutover.server_id if self.state.cutover else None
        # That its volumes are free is seen when they are released, which the source need not wait for.
        free = not workflow.patched(SOURCE_FIRST)
        order = ServerOrder(target=self.target, server_id=server or "", see_volumes_free=free)
        await call(TargetActivities.remove_server, order, **CLEAN_UP)
        self.server_removed = True
        self._record(server_id=None)

    async def see_running(self) -> None:
        """Evidence that the guest runs."""
        server = self.state.cutover.server_id if self.state.cutover else None
        order = SeeRunning(
            server=ServerOrder(target=self.target, server_id=server or ""),
            console_evidence=self.order.console_evidence,
            evidence=self.order.evidence,
            addresses=self._addresses(),
            vm=self.vm.vm,
            timeout_seconds=self.order.evidence_timeout_seconds,
        )
        policy = evidence(self.order.evidence_timeout_seconds)
        seen = await call(TargetActivities.see_running, order, **policy)
        self._record(evidence=seen.evidence)
        self._note_step(found=seen.evidence)
        if workflow.patched(LOOKS_AGAIN):
            await self._look_at_source_again()

    async def _look_at_source_again(self) -> None:
        """The target runs: the source must not. Where that cannot be seen now, the target is believed."""
        try:
            vm = await self._inspect(GLANCE)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            trouble = explain(error, f"{self.vm.vm} could not be looked at")
            self._note("source not seen", f"{trouble.because or trouble.kind}; see yourself that it is off")
            return
        self._refuse_unless_off(vm)

    async def complete(self) -> None:
        """Mark the source as migrated, drop the overlays. The target runs: nothing here can undo the cutover.

        A snapshot that could not be removed while the source was off is removed now: no later sync will do it.
        """
        for touch in (self._mark_source, self._drop_overlays, self._remove_last_snapshot):
            try:
                await touch()
            except ActivityError as error:
                trouble = explain(error, "finishing touches after the cutover")
                self._note("finishing touches failed", f"{trouble.what}: {trouble.because}; the migration is complete")

    async def _mark_source(self) -> None:
        server = self.state.cutover.server_id if self.state.cutover else None
        text = f"{MARK} {self.state.job_id} to server {server} in project {self.spec.destination}"
        await call(SourceActivities.mark_migrated, MarkMigrated(vm=self.vm, text=text), **CONTROL)
        self._note_step(found="the source is marked as migrated")

    async def _drop_overlays(self) -> None:
        if self._conversion().skipped:
            return
        order = self._conversion_order()
        await call(ConversionActivities.discard_conversion, order, **on_host(self._conversion().worker_queue))

    async def _remove_last_snapshot(self) -> None:
        if self.state.clean_up_at is not None:
            await call(SourceActivities.remove_snapshots, self.vm, **CLEAN_UP)
            self.state.clean_up_at = None

    async def take_mark_back(self) -> None:
        """The source is what it was before: nothing on it says that it moved."""
        await call(SourceActivities.unmark_migrated, self.vm, **CLEAN_UP)

    async def see_source_is_there(self) -> None:
        """Before a target is removed that people use: what is to take its place can be asked for.

        Raises:
            ActivityError: the source does not know the VM any more, or does not answer.
        """
        await self._inspect()


def _port(nic: Nic) -> str:
    """'Network adapter 1 on internal-net: 10.20.0.15, 00:50:56:9a:11:02'."""
    mac = nic.port_mac or nic.mac
    return f"{nic.label} on {nic.network}: {', '.join((*nic.port_ips, mac)) or 'no address'}"

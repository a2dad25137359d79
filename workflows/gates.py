"""The gates of a cutover: what can be known before anything is changed."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.conversion import ConversionLooks
    from activities.target import TargetActivities
    from workflows.calls import (
        CONTROL,
        LOOK,
        call,
        refusal,
    )
    from workflows.warm_passes import WarmPasses
    from xms import go_no_go, quantities
    from xms.errors import BadInput, NotRehearsed
    from xms.go_no_go import Verdict
    from xms.orders.conversion import LookBeforeConversion
    from xms.orders.source import VmDetails
    from xms.orders.target import (
        CheckTarget,
    )
    from xms.preflight.guests import Conversion as GuestConversion
    from xms.preflight.guests import conversion_of
    from xms.rehearsal import refuse_unless_rehearsed


class Gates(WarmPasses):
    """The step that refuses what would fail later, with the source off."""

    async def check_gates(self) -> None:
        """Both sides can still take part, as the VM is now; nothing is changed yet."""
        self._refuse_unrehearsed()
        vm = await self._inspect()
        spec = self.spec.remapped(self.order.network_map)
        check = CheckTarget(
            spec=spec, vm=vm, for_cutover=True, known=self.state.nics, evidence=self.order.awaited_evidence
        )
        target = await call(TargetActivities.check_target, check, **CONTROL)
        if workflow.patched("look-before-conversion"):
            await self._look_before_conversion(vm)
        self.state.take_in(vm)
        self.state.nics = target.nics
        self._record(source_was_running=vm.power_state == "poweredOn")
        running = "runs" if vm.power_state == "poweredOn" else "is off already"
        disks, nics = quantities.counted(len(vm.disks), "disk"), quantities.counted(len(target.nics), "NIC")
        self._note_step(found=f"the source {running}; {disks}, {nics}")
        self.cheap_snapshots = target.cheap_snapshots
        self._decide(
            "a roll-back after the target ran takes the volumes back to snapshots"
            if self.cheap_snapshots
            else "a roll-back after the target ran copies every disk in full again",
            f"of what is known of volume type {self.spec.volume_type} (target.snapshot_volume_types)",
        )
        if (found := go_no_go.at_opening(self.state, self.order, workflow.now())).verdict is Verdict.NO:
            self.follow(found)

    def _refuse_unrehearsed(self) -> None:
        try:
            refuse_unless_rehearsed(self.state, self.vm.vm, self.order, workflow.now())
        except NotRehearsed as error:
            raise refusal(NotRehearsed, error.what, because=error.because, means=error.means, do=error.do) from None

    async def _look_before_conversion(self, vm: VmDetails) -> None:
        """What can be known of the conversion before the source is stopped for it."""
        options = self.order.conversion
        strangers = {static.mac for static in options.static_addresses} - {nic.mac for nic in vm.nics}
        if strangers:
            raise refusal(
                BadInput,
                f"{self.vm.vm} has no NIC {', '.join(sorted(strangers))}",
                because=f"its NICs are {', '.join(nic.mac for nic in vm.nics) or 'none'}",
                means="the source was not touched",
                do="name one of them in --static-ip",
            )
        system = conversion_of(vm.guest_id)
        if options.static_addresses and system is GuestConversion.LINUX:
            raise refusal(
                BadInput,
                f"{self.vm.vm} cannot be given static addresses by its conversion",
                because="virt-v2v sets them in Windows alone, and vSphere says that it is "
                f"{vm.guest_name or vm.guest_id}",
                means="the source was not touched",
                do="leave --static-ip out: a Linux guest keeps its own network configuration",
            )
        look = LookBeforeConversion(vm=self.vm.vm, windows=system is GuestConversion.WINDOWS, options=options)
        if not options.skip:
            await call(ConversionLooks.look_before_conversion, look, **LOOK)

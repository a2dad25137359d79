"""The guest's conversion as a step of a cutover: on overlays, committed, and mended where a worker is lost."""

from __future__ import annotations

import asyncio
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.conversion import ConversionActivities
    from workflows import volume_snapshots
    from workflows.calls import (
        CONVERSION,
        call,
        explain,
        heed_cancellation,
        host_is_lost,
        last_heartbeat,
        on_host,
        refusal,
    )
    from workflows.cutover_attempt import CutoverAttempt
    from xms.change_map import ByteRanges
    from xms.cutover import ConversionProgress
    from xms.errors import ConversionFailed
    from xms.orders.conversion import ConversionOrder, Convert, Converted

CONVERSION_TRIES: Final = 3
"""How often a guest is converted anew because the worker that held its overlay was lost."""


class GuestFixes(CutoverAttempt):
    """Converts the guest, and keeps the record true meanwhile."""

    async def convert(self) -> None:
        """Convert on overlays and commit; with the overlays lost, mend the replica and begin again."""
        for _ in range(CONVERSION_TRIES):
            converted = await self._beside_snapshots()
            if converted.skipped:
                self.converted = converted
                return
            self._count_as_unseeded(converted)
            committing = workflow.now()
            try:
                await self._commit(converted)
            except ActivityError as error:
                if not host_is_lost(error):
                    raise
                self._note("conversion lost", f"{error.cause}; the replica is mended and the guest converted again")
                await self.final_delta()
            else:
                self.converted = converted
                if converted.seconds:
                    # An older worker measured nothing.
                    took = converted.seconds + (workflow.now() - committing).total_seconds()
                    self._note_step(work_seconds=took)
                return
        raise ApplicationError(
            f"the worker that converts was lost {CONVERSION_TRIES} times", type="ConversionLost", non_retryable=True
        )

    async def _beside_snapshots(self) -> Converted:
        """Convert, and make the snapshots of the volumes meanwhile: both only read them."""
        if not self.cheap_snapshots:
            return await self._convert_on_overlays()
        heed_cancellation()
        converting = asyncio.create_task(self._convert_on_overlays())
        # Both have ended before anything else is done, whichever failed: nothing is asked of the cloud behind our back.
        await asyncio.gather(converting, volume_snapshots.take(self.spec, self.state), return_exceptions=True)
        return await converting

    async def _convert_on_overlays(self) -> Converted:
        order = Convert(
            vm=self.vm,
            target_project=self.spec.target_project,
            target_name=self.spec.target,
            disks=self.state.disks,
            nics=self.state.nics,
            firmware=self.state.firmware,
            memory=self.state.memory,
            cpus=self.state.cpus,
            options=self.order.conversion,
        )
        what = "which disk boots" if self.order.conversion.skip else "virt-v2v on overlays"
        try:
            converted = await call(ConversionActivities.convert, order, summary=what, **CONVERSION)
        except ActivityError as error:
            self._record(converted_by=explain(error, what).worker_queue or _last_worker(error))
            raise
        self._record(converted_by="" if converted.skipped else converted.worker_queue)
        self._note_step(
            bytes=sum(disk.bytes for disk in converted.written),
            work_seconds=None if converted.skipped else converted.program_seconds,
            found=_found(converted),
        )
        for remark in converted.remarks:
            self._note("conversion", remark)
        return converted

    def _count_as_unseeded(self, converted: Converted) -> None:
        """From here on the commit may begin, so what it writes is no longer what the source has."""
        for written in converted.written:
            disk = self.state.disk(written.disk_key)
            unseeded = ByteRanges.decode(disk.baseline.unseeded) | ByteRanges.decode(written.ranges)
            baseline = disk.baseline.model_copy(
                update={"unseeded": unseeded.encode(self.state.unseeded_limit), "unseeded_bytes": unseeded.total}
            )
            self.state.replace_disk(disk.model_copy(update={"baseline": baseline}))

    async def _commit(self, converted: Converted) -> None:
        await call(
            ConversionActivities.commit_conversion,
            self._conversion_order(),
            summary="commit",
            **on_host(converted.worker_queue),
        )

    def _conversion_order(self) -> ConversionOrder:
        return ConversionOrder(
            vm=self.vm,
            target_project=self.spec.target_project,
            target_name=self.spec.target,
            disks=self.state.disks,
        )

    def _conversion(self) -> Converted:
        if self.converted is None:
            raise refusal(ConversionFailed, "no conversion was committed")
        return self.converted


def _last_worker(error: ActivityError) -> str:
    """The task queue of the worker that last said that it converts; empty where none did."""
    progress = last_heartbeat(error, ConversionProgress)
    return progress.worker_queue if progress else ""


def _found(converted: Converted) -> str:
    """What the conversion came to, in one line."""
    if converted.skipped:
        return f"skipped: the guest is ready; it boots by {converted.firmware}"
    system = " ".join(part for part in (converted.os_distro or converted.os_type, converted.os_version) if part)
    ran_on = f", converted on {converted.accelerator.upper()}" if converted.accelerator else ""
    return f"{system or 'a guest'}, boots by {converted.firmware}, disks on {converted.block_bus}{ran_on}"

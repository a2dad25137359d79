"""A source and a cloud of a few blocks each, behind the same activity names as the real ones.

The copies are real: a snapshot freezes the blocks, a stream copies what its plan names, and a test compares the
replica with the source at the end. `fail` makes the next calls of an activity fail, `calls` says what was called.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from xms.change_map import ByteRanges
from xms.conversion.options import remarks
from xms.models import DiskProgress, Nic, Trouble
from xms.orders.conversion import (
    Committed,
    ConversionOrder,
    Convert,
    Converted,
    DiskWritten,
    LookBeforeConversion,
)
from xms.orders.copy import StreamDisk, StreamResult
from xms.orders.rehearsal import CheckRehearsal, CloneVolumes, IsolatedNetwork, MakeIsolatedNetwork, VolumesCloned
from xms.orders.report import KeepReport, ReportKept
from xms.orders.source import (
    ChangeTracking,
    DiskPlan,
    Done,
    MarkMigrated,
    PlanDisk,
    PoweredOff,
    PoweredOn,
    PowerOff,
    SnapshotDisk,
    SnapshotsRemoved,
    SnapshotTaken,
    VmDetails,
    VmDisk,
    VmNic,
    VmOrder,
    VmQuery,
)
from xms.orders.target import (
    BootServer,
    CheckTarget,
    ExtendVolume,
    FinalizeVolumes,
    MakePorts,
    MakeVolume,
    PortsMade,
    PortsRemoved,
    RevertVolumes,
    SeenRunning,
    SeeRunning,
    ServerMade,
    ServerOrder,
    SnapshotsLeft,
    SnapshotVolumes,
    TargetChecked,
    TargetOrder,
    VolumeMade,
    VolumeSnapshot,
    VolumesOrder,
    VolumesReverted,
    VolumesSnapshotted,
)
from xms.rehearsal import is_rehearsal

BLOCK = 64 << 10


@dataclass
class SourceDisk:
    """Blocks by number; `changed[n]` holds what was written before snapshot n and after the one before it."""

    blocks: dict[int, int] = field(default_factory=dict)
    capacity: int = 64 * BLOCK
    changed: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


def failure(
    kind: str, *, needs_person: bool = False, retryable: bool = False, progress: DiskProgress | None = None
) -> ApplicationError:
    """What an activity raises for an XmsError of that class."""
    trouble = Trouble(kind=kind, what=f"{kind} happened", because="the test says so", needs_person=needs_person)
    details = (trouble,) if progress is None else (trouble, progress)
    return ApplicationError(kind, *details, type=kind, non_retryable=not retryable)


class World:
    """Both sides of a migration."""

    def __init__(self, disks: int = 2) -> None:  # noqa: PLR0915 - one switch or one record a line
        self.disks = {2000 + number: SourceDisk() for number in range(disks)}
        self.volumes: dict[str, dict[int, int]] = {}
        self.snapshots: dict[str, dict[int, dict[int, int]]] = {}
        self.sequence = 0
        self.writes = 0
        self.power = "poweredOn"
        self.servers: set[str] = set()
        self.ports: set[str] = set()
        self.ports_left: tuple[str, ...] = ()
        self.annotation = ""
        self.copies: set[str] = set()
        self.copied = 0
        self.copied_beside_a_stream = False
        self.networks: set[str] = set()
        self.rehearsed_servers: set[str] = set()
        self.rehearsed_ports: set[str] = set()
        self.rehearsed_on: set[str] = set()
        self.streams_now = 0
        self.attached: set[str] = set()
        self.overlay: dict[str, dict[int, int]] = {}
        self.worker_queue = "xms-data"
        self.guest_id = ""
        self.vm_nics: tuple[VmNic, ...] = ()
        self.os_type = "linux"
        self.conversions: list[Convert] = []
        self.looked_for: list[LookBeforeConversion] = []
        self.calls: list[str] = []
        self.reports: list[KeepReport] = []
        self.fail: dict[str, list[BaseException]] = defaultdict(list)
        self.before: dict[str, Callable[[], None]] = {}
        self.cut_short_after: int | None = None
        self.breaks_after: int | None = None
        self.compares_at_most: int | None = None
        self.rots: set[tuple[int, int]] = set()
        self.compares: list[tuple[int, ByteRanges]] = []
        self.flushes: int | None = None
        self.verified: list[bool] = []
        self.die_after: set[str] = set()
        self.hold = False
        self.late: set[str] = set()
        self.tracked = True
        self.host = ""
        self.host_streams: int | None = None
        self.host_bytes_in_flight: int | None = None
        self.streams: list[StreamDisk] = []
        self.both_ran = False
        self.name = ""
        self.consistency = ""
        self.reseed_reason = ""
        self.given_up = ""
        self.cheap_snapshots = False
        self.volume_snapshots: dict[str, dict[int, int]] = {}
        self.not_reverted: set[int] = set()

    def write(self, key: int, block: int) -> None:
        """The guest writes a block that was never written so before."""
        self.writes += 1
        self.disks[key].blocks[block] = self.writes
        self.disks[key].changed[self.sequence + 1].add(block)

    def corrupt(self, key: int, block: int, *, again: bool = False) -> None:
        """The storage behind a volume spoils a block; with `again` once more whenever it was written."""
        self.volumes[f"volume-{key}"][block] = -7
        if again:
            self.rots.add((key, block))

    def replica_equals_source(self) -> bool:
        """Every volume holds what its disk holds."""
        return all(self.volumes.get(f"volume-{key}") == disk.blocks for key, disk in self.disks.items())

    def activities(self) -> list[Callable[..., Any]]:
        """All of them, for a worker."""
        methods = [getattr(self, name) for name in dir(self) if not name.startswith("_")]
        return [self._mortal(method) for method in methods if hasattr(method, "__temporal_activity_definition")]

    def _mortal(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The activity.

        Where `late` has its name, its answer is held back, and no cancellation is heard meanwhile. Where `die_after`
        has it, its answer is lost once although the work is done.
        """

        @functools.wraps(method)
        async def mortal(order: Any) -> Any:  # noqa: ANN401 - any order, any answer
            answer = await method(order)
            while method.__name__ in self.late:  # noqa: ASYNC110 - a set that tests change, as `hold`
                await asyncio.sleep(0.02)
            if method.__name__ in self.die_after:
                self.die_after.remove(method.__name__)
                raise failure("Interrupted", retryable=True)
            return answer

        return mortal

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if hook := self.before.pop(name, None):
            hook()
        if self.fail[name]:
            raise self.fail[name].pop(0)
        self.both_ran |= bool(self.servers) and self.power == "poweredOn"

    # --- the source ---------------------------------------------------------------------------------------------------

    @activity.defn
    async def inspect_vm(self, order: VmQuery) -> VmDetails:
        self._called("inspect_vm")
        disks = tuple(
            VmDisk(key=key, label=f"Hard disk {key - 1999}", capacity=disk.capacity, path=f"[ds1] {key}.vmdk")
            for key, disk in self.disks.items()
        )
        return VmDetails(
            moref="vm-101",
            name=order.vm,
            power_state=self.power,
            cpus=1,
            memory=1 << 30,
            guest_id=self.guest_id,
            disks=disks,
            nics=self.vm_nics,
        )

    @activity.defn
    async def enable_change_tracking(self, order: VmOrder) -> ChangeTracking:
        del order
        self._called("enable_change_tracking")
        self.tracked = True
        return ChangeTracking(turned_on_now=True)

    @activity.defn
    async def take_snapshot(self, order: VmOrder) -> SnapshotTaken:
        self._called("take_snapshot")
        leftovers = len(self.snapshots)
        self.snapshots.clear()
        self.sequence += 1
        moref = f"snapshot-101-{self.sequence}"
        self.snapshots[moref] = {key: dict(disk.blocks) for key, disk in self.disks.items()}
        disks = tuple(
            SnapshotDisk(
                key=key,
                label=f"Hard disk {key - 1999}",
                capacity=disk.capacity,
                path=f"[ds1] {key}.vmdk",
                change_id=f"uuid/{self.sequence}" if self.tracked else None,
            )
            for key, disk in self.disks.items()
        )
        return SnapshotTaken(
            moref=moref,
            name=f"xms-{order.job_id}",
            taken_at=datetime.now(UTC),
            leftovers_removed=leftovers,
            host=self.host,
            host_streams=self.host_streams,
            host_bytes_in_flight=self.host_bytes_in_flight,
            vm_name=self.name,
            power_state=self.power,
            quiesced=self.consistency == "quiesced",
            consistency=self.consistency,
            disks=disks,
        )

    @activity.defn
    async def remove_snapshots(self, order: VmOrder) -> SnapshotsRemoved:
        del order
        self._called("remove_snapshots")
        removed = len(self.snapshots)
        self.snapshots.clear()
        return SnapshotsRemoved(removed=removed)

    @activity.defn
    async def plan_disk(self, order: PlanDisk) -> DiskPlan:
        self._called("plan_disk")
        disk = self.disks[order.disk.key]
        baseline = order.baseline
        reason, self.reseed_reason = self.reseed_reason, ""
        if baseline.change_id is None or reason:
            ranges = ByteRanges.whole(disk.capacity)
        else:
            since = int(baseline.change_id.split("/")[1])
            frozen = int(order.snapshot.rsplit("-", 1)[1])
            changed = {block for number in range(since + 1, frozen + 1) for block in disk.changed[number]}
            ranges = ByteRanges((block * BLOCK, BLOCK) for block in sorted(changed))
            ranges |= ByteRanges.decode(baseline.unseeded)
        full = baseline.change_id is None or bool(baseline.unseeded_bytes) or bool(reason)
        return DiskPlan(
            disk_key=order.disk.key, ranges=ranges.encode(), bytes=ranges.total, full=full, reseed_reason=reason
        )

    @activity.defn
    async def power_off(self, order: PowerOff) -> PoweredOff:
        del order
        self._called("power_off")
        self.power = "poweredOff"
        return PoweredOff(how="guest shut down")

    @activity.defn
    async def power_on(self, order: VmOrder) -> PoweredOn:
        del order
        self._called("power_on")
        self.power = "poweredOn"
        self.both_ran |= bool(self.servers)
        return PoweredOn(was_on=False)

    @activity.defn
    async def mark_migrated(self, order: MarkMigrated) -> Done:
        self._called("mark_migrated")
        self.annotation = order.text
        return Done()

    @activity.defn
    async def unmark_migrated(self, order: VmOrder) -> Done:
        del order
        self._called("unmark_migrated")
        self.annotation = ""
        return Done()

    # --- the copy -----------------------------------------------------------------------------------------------------

    @activity.defn
    async def stream_disk(self, order: StreamDisk) -> StreamResult:
        self.streams.append(order)
        self.streams_now += 1
        try:
            return await self._stream_disk(order)
        finally:
            self.streams_now -= 1

    async def _stream_disk(self, order: StreamDisk) -> StreamResult:
        self._called("stream_disk")
        while self.hold:
            activity.heartbeat()
            await asyncio.sleep(0.05)
        self.verified.append(order.verify)
        ranges = ByteRanges.decode(order.ranges)
        done = ranges
        if breaks_after := self.breaks_after:
            done = ranges.below(breaks_after)
            self.breaks_after = None
        if self.cut_short_after is not None and order.give_up_at is not None:
            done = ranges.below(self.cut_short_after)
            self.cut_short_after = None
        frozen = self.snapshots[order.snapshot][order.disk.key]
        volume = self.volumes[order.volume_id]
        for offset, length in done:
            for block in range(offset // BLOCK, (offset + length) // BLOCK):
                volume.pop(block, None)
                if block in frozen:
                    volume[block] = frozen[block]
                if (order.disk.key, block) in self.rots:
                    volume[block] = -7
        rest = ranges - done
        if breaks_after:
            # It wrote more than it had flushed, and that is lost.
            volume[breaks_after // BLOCK] = -9
            progress = DiskProgress(disk_key=order.disk.key, planned=ranges.total, flushed_to=breaks_after)
            raise failure("TransportFailed", progress=progress)
        compared, differing = self._compare(order, volume, frozen) if not rest else (ByteRanges(), ByteRanges())
        return StreamResult(
            disk_key=order.disk.key,
            bytes_read=done.total,
            bytes_written=done.total,
            remaining=rest.encode(),
            remaining_bytes=rest.total,
            verified=order.verify,
            cut_short=(self.given_up or "the snapshot grew too old") if rest else "",
            given_up=self.given_up,
            flushed_bytes=self.flushes,
            compared=compared.encode(),
            differing=differing.encode(),
            differing_bytes=differing.total,
        )

    def _compare(
        self, order: StreamDisk, volume: dict[int, int], frozen: dict[int, int]
    ) -> tuple[ByteRanges, ByteRanges]:
        """As much of it as there is time for, and the blocks of that which are not the snapshot's."""
        asked = ByteRanges.decode(order.compare)
        if asked:
            self.compares.append((order.disk.key, asked))
        compared = asked
        if self.compares_at_most is not None and asked:
            first = next(iter(asked))[0]
            compared = asked.below(first + self.compares_at_most)
        wrong = [block for block in volume.keys() | frozen.keys() if volume.get(block) != frozen.get(block)]
        return compared, ByteRanges((block * BLOCK, BLOCK) for block in wrong) & compared

    # --- the target ---------------------------------------------------------------------------------------------------

    @activity.defn
    async def check_target(self, order: CheckTarget) -> TargetChecked:
        self._called("check_target")
        nics = tuple(
            Nic(key=4000 + place, label="NIC", mac="", source_network=mapping.source, network=mapping.network)
            for place, mapping in enumerate(order.spec.network_map)
        )
        return TargetChecked(
            project_id="p", flavor_id="f", cloud="lab", nics=nics, cheap_snapshots=self.cheap_snapshots
        )

    @activity.defn
    async def snapshot_volumes(self, order: SnapshotVolumes) -> VolumesSnapshotted:
        self._called("snapshot_volumes")
        made = []
        for disk in order.disks:
            volume_id = disk.volume_id or ""
            self.volume_snapshots[f"of {volume_id}"] = dict(self.volumes[volume_id])
            snapshot = VolumeSnapshot(
                disk_key=disk.key, volume_id=volume_id, snapshot_id=f"of {volume_id}", baseline=disk.baseline
            )
            made.append(snapshot)
        return VolumesSnapshotted(snapshots=tuple(made))

    @activity.defn
    async def revert_volumes(self, order: RevertVolumes) -> VolumesReverted:
        self._called("revert_volumes")
        keys = [each.disk_key for each in order.snapshots if each.disk_key not in self.not_reverted]
        for each in order.snapshots:
            if each.disk_key in keys:
                self.volumes[each.volume_id] = self.volume_snapshots.pop(each.snapshot_id)
        refused = tuple(f"disk {key} was not reverted" for key in sorted(self.not_reverted))
        return VolumesReverted(disk_keys=tuple(keys), refused=refused)

    @activity.defn
    async def remove_volume_snapshots(self, order: VolumesOrder) -> SnapshotsLeft:
        del order
        self._called("remove_volume_snapshots")
        self.volume_snapshots.clear()
        return SnapshotsLeft()

    @activity.defn
    async def make_volume(self, order: MakeVolume) -> VolumeMade:
        self._called("make_volume")
        volume_id = f"volume-{order.disk_key}"
        found = volume_id in self.volumes
        self.volumes.setdefault(volume_id, {})
        return VolumeMade(volume_id=volume_id, size=order.capacity, found=found)

    @activity.defn
    async def extend_volume(self, order: ExtendVolume) -> VolumeMade:
        self._called("extend_volume")
        return VolumeMade(volume_id=order.volume_id, size=order.capacity)

    @activity.defn
    async def release_volumes(self, order: VolumesOrder) -> Done:
        del order
        self._called("release_volumes")
        self.attached.clear()
        return Done()

    @activity.defn
    async def delete_volumes(self, order: VolumesOrder) -> Done:
        self._called("delete_volumes")
        for volume_id in order.volume_ids:
            self.volumes.pop(volume_id, None)
        return Done()

    @activity.defn
    async def make_ports(self, order: MakePorts) -> PortsMade:
        self._called("make_ports")
        (self.rehearsed_ports if is_rehearsal(order.target.job_id) else self.ports).add(order.instance_name)
        if is_rehearsal(order.target.job_id):
            self.rehearsed_on |= {nic.network for nic in order.nics}
        return PortsMade(nics=order.nics)

    @activity.defn
    async def remove_ports(self, order: TargetOrder) -> PortsRemoved:
        self._called("remove_ports")
        if is_rehearsal(order.job_id):
            self.rehearsed_ports.clear()
            return PortsRemoved()
        self.ports.clear()
        return PortsRemoved(left=self.ports_left)

    @activity.defn
    async def finalize_volumes(self, order: FinalizeVolumes) -> Done:
        del order
        self._called("finalize_volumes")
        return Done()

    @activity.defn
    async def boot_server(self, order: BootServer) -> ServerMade:
        self._called("boot_server")
        for disk in order.disks:
            self.volumes[disk.volume_id or ""][0] = -1
        if is_rehearsal(order.target.job_id):
            self.rehearsed_servers.add("server-of-copy")
            return ServerMade(server_id="server-of-copy")
        self.servers.add("server-1")
        self.both_ran |= self.power == "poweredOn"
        return ServerMade(server_id="server-1")

    @activity.defn
    async def see_running(self, order: SeeRunning) -> SeenRunning:
        del order
        self._called("see_running")
        return SeenRunning(evidence="SEQ 42 on the console")

    @activity.defn
    async def remove_server(self, order: ServerOrder) -> Done:
        self._called("remove_server")
        (self.rehearsed_servers if is_rehearsal(order.target.job_id) else self.servers).clear()
        return Done()

    # --- a rehearsal ----------------------------------------------------------------------------------------------

    @activity.defn
    async def check_rehearsal(self, order: CheckRehearsal) -> Done:
        del order
        self._called("check_rehearsal")
        return Done()

    @activity.defn
    async def clone_volumes(self, order: CloneVolumes) -> VolumesCloned:
        self.copied_beside_a_stream |= self.streams_now > 0 or bool(self.snapshots)
        self._called("clone_volumes")
        self.copied += 1
        disks = []
        for disk in order.disks:
            copy = f"copy-{self.copied}-{disk.key}"
            self.volumes[copy] = dict(self.volumes[disk.volume_id or ""])
            self.copies.add(copy)
            disks.append(disk.model_copy(update={"volume_id": copy}))
        return VolumesCloned(disks=tuple(disks), seconds=0.1)

    @activity.defn
    async def make_isolated_network(self, order: MakeIsolatedNetwork) -> IsolatedNetwork:
        self._called("make_isolated_network")
        self.networks.add(order.name)
        return IsolatedNetwork(network_id="isolated", subnet_id="subnet")

    @activity.defn
    async def remove_isolated_network(self, order: TargetOrder) -> Done:
        self._called("remove_isolated_network")
        if is_rehearsal(order.job_id):
            self.networks.clear()
        return Done()

    @activity.defn
    async def delete_clones(self, order: TargetOrder) -> Done:
        self._called("delete_clones")
        if is_rehearsal(order.job_id):
            for copy in self.copies:
                del self.volumes[copy]
            self.copies.clear()
        return Done()

    def left_of_rehearsals(self) -> set[str]:
        """What should not be there after one."""
        return self.copies | self.networks | self.rehearsed_servers | self.rehearsed_ports

    # --- the report ---------------------------------------------------------------------------------------------------

    @activity.defn
    async def keep_report(self, order: KeepReport) -> ReportKept:
        if self.fail["keep_report"]:
            raise self.fail["keep_report"].pop(0)
        self.reports.append(order)
        return ReportKept(worker="control-1", file=f"/reports/{order.status.job_id}.html")

    # --- the conversion -----------------------------------------------------------------------------------------------

    @activity.defn
    async def look_before_conversion(self, order: LookBeforeConversion) -> Done:
        self.looked_for.append(order)
        self._called("look_before_conversion")
        return Done()

    @activity.defn
    async def convert(self, order: Convert) -> Converted:
        self._called("convert")
        self.conversions.append(order)
        key = order.disks[0].key
        if order.options.skip:
            return Converted(written=(), worker_queue=self.worker_queue, root_disk_key=key, skipped=True)
        self.overlay = {order.disks[0].volume_id or "": {1: -2, 3: -3}}
        written = ByteRanges([(1 * BLOCK, BLOCK), (3 * BLOCK, BLOCK)])
        return Converted(
            written=(DiskWritten(disk_key=key, ranges=written.encode(), bytes=written.total),),
            worker_queue=self.worker_queue,
            root_disk_key=key,
            os_type=self.os_type,
            os_distro="debian",
            os_version="12",
            program_seconds=61.5,
            accelerator="tcg",
            remarks=remarks(order.options, self.os_type),
        )

    @activity.defn
    async def commit_conversion(self, order: ConversionOrder) -> Committed:
        del order
        for volume_id, blocks in list(self.overlay.items()):
            self.volumes[volume_id][1] = blocks[1]
            self._called("commit_conversion")
            self.volumes[volume_id].update(blocks)
        return Committed(bytes=2 * BLOCK)

    @activity.defn
    async def discard_conversion(self, order: ConversionOrder) -> Done:
        del order
        self._called("discard_conversion")
        self.overlay = {}
        return Done()

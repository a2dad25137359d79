"""Jobs whose reports the tests, and whoever looks at a page, make: completed, rolled back, failed, abandoned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from xms.cutover import (
    Cutover,
    CutoverOrder,
    Decision,
    Evidence,
    PredictedPart,
    Prediction,
    Rehearsal,
    StepRecord,
    SyncFigures,
)
from xms.models import (
    Baseline,
    Disk,
    DiskVerification,
    Event,
    MigrationSpec,
    NetworkMapping,
    Nic,
    Phase,
    Trouble,
    Verification,
)
from xms.status import Events, JobStatus

GIB: Final = 1 << 30
MIB: Final = 1 << 20
NIGHT: Final = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
MADE_AT: Final = NIGHT + timedelta(hours=7)

SPEC: Final = MigrationSpec(
    source="prod-vcenter",
    vm="db-prod-01",
    target_project="infra",
    instance_name="db-prod-01",
    flavor="m1.xlarge",
    volume_type="ssd",
    availability_zone="az-1",
    network_map=(NetworkMapping(source="VM Network", network="internal-net", subnet="10.20.0.0"),),
    cadence_seconds=900,
    requested_by="ann@jump-1",
)
ORDER: Final = CutoverOrder(
    who="ann@jump-1",
    max_downtime_seconds=300,
    require_rehearsal_seconds=14 * 86_400,
    evidence=(Evidence(kind="console", pattern="login:"), Evidence(kind="tcp", port=5432)),
    rollback_period_seconds=86_400,
)


def at(seconds: float) -> datetime:
    """So many seconds after the cutover's beginning."""
    return NIGHT + timedelta(seconds=seconds)


def step(name: str, begins: float, ends: float | None, outcome: str = "done", **more: object) -> StepRecord:
    ended = None if ends is None else at(ends)
    record = StepRecord(name=name, started_at=at(begins), ended_at=ended, outcome=outcome)
    return record.model_copy(update=more)


def prediction(shutdown: float, delta: float, conversion: float, boot: float) -> Prediction:
    return Prediction(
        made_at=at(170),
        parts=(
            PredictedPart(name="shutdown", seconds=shutdown, basis="the last rehearsal", measured=False),
            PredictedPart(name="final delta", seconds=delta, basis="118 MiB at 208 MiB/s", measured=True),
            PredictedPart(name="conversion", seconds=conversion, basis="the last rehearsal", measured=True),
            PredictedPart(name="boot", seconds=boot, basis="the last rehearsal", measured=True),
            PredictedPart(name="own share", seconds=4.0, basis="measured on other jobs", measured=False),
        ),
    )


ASKED_AND_FITS: Final = (
    Decision(at=at(1), what="the rehearsal of Nov 21 counts", because="it passed 11h ago, 14d are allowed"),
    Decision(at=at(90), what="one more warm pass", because="6m 10s predicted, 5m are allowed"),
    Decision(at=at(170), what="the source is stopped", because="2m 43s predicted, 5m are allowed"),
)

COMPLETED_CUTOVER: Final = Cutover(
    number=2,
    ordered_by="ann@jump-1",
    ordered_at=at(0),
    order=ORDER,
    prediction=prediction(20, 1.2, 92, 45),
    decisions=ASKED_AND_FITS,
    steps=(
        step("Gates", 0, 1.2, found="the source runs; 2 disks, 1 NIC"),
        step("Warm Pass", 1.2, 170, bytes=9 * GIB, work_seconds=151.0, found="2 passes"),
        step("Ports", 170, 172.5, found="Network adapter 1 on internal-net: 10.20.0.15, 00:50:56:9a:11:02"),
        step("Reserve Stream", 172.5, 172.7, found="of esx-07.example"),
        step("Power Off Source", 172.7, 190.3, found="guest shut down"),
        step("Final Delta", 190.3, 198.0, bytes=118 * MIB, work_seconds=5.1, found="118 MiB read back and compared"),
        step("Guest Fixes", 198.0, 279.5, bytes=64 * MIB, work_seconds=80.1, found="Debian GNU/Linux 12, virtio"),
        step("Finalize", 279.5, 280.4, found="uefi, q35, disks on virtio"),
        step("Boot Target", 280.4, 299.1, found="server 6a1f0c52-0000-4000-8000-0000000000aa"),
        step("Evidence", 299.1, 323.4, found="console: db-prod-01 login:; port 5432 answers at 10.20.0.15"),
        step("Finishing Touches", 323.4, 325.0, found="the source is marked as migrated"),
    ),
    downtime_started_at=at(172.7),
    downtime_ended_at=at(323.4),
    power_off="guest shut down",
    evidence="console: db-prod-01 login:; port 5432 answers at 10.20.0.15",
    server_id="6a1f0c52-0000-4000-8000-0000000000aa",
    verified_bytes=118 * MIB,
)

DAY_BEFORE: Final = -86_400.0
FAILED_CUTOVER: Final = Cutover(
    number=1,
    ordered_by="bob@jump-1",
    ordered_at=at(DAY_BEFORE),
    order=CutoverOrder(who="bob@jump-1", hard_power_off=False, console_evidence="login:"),
    steps=(
        step("Gates", DAY_BEFORE, DAY_BEFORE + 1, found="the source runs; 2 disks, 1 NIC"),
        step("Warm Pass", DAY_BEFORE + 1, DAY_BEFORE + 61, bytes=2 * GIB, work_seconds=40.0),
        step(
            "Ports",
            DAY_BEFORE + 61,
            DAY_BEFORE + 63,
            "undone",
            undone_at=at(DAY_BEFORE + 180),
            found="Network adapter 1 on internal-net: 10.20.0.15, 00:50:56:9a:11:02",
        ),
        step("Reserve Stream", DAY_BEFORE + 63, DAY_BEFORE + 63.2, "undone", undone_at=at(DAY_BEFORE + 178)),
        step(
            "Power Off Source",
            DAY_BEFORE + 63.2,
            DAY_BEFORE + 90,
            "undone",
            undone_at=at(DAY_BEFORE + 177),
            found="guest shut down",
        ),
        step("Final Delta", DAY_BEFORE + 90, DAY_BEFORE + 95, bytes=300 * MIB, work_seconds=3.0),
        step("Guest Fixes", DAY_BEFORE + 95, DAY_BEFORE + 172, "undone", undone_at=at(DAY_BEFORE + 174)),
    ),
    downtime_started_at=at(DAY_BEFORE + 63.2),
    power_off="guest shut down",
    verified_bytes=300 * MIB,
    failed_at="Guest Fixes",
    source_on_at=at(DAY_BEFORE + 176.5),
    rolled_back_at=at(DAY_BEFORE + 180),
    trouble=Trouble(
        kind="ConversionFailed",
        what="db-prod-01 could not be converted",
        because="virt-v2v: error: not enough free space for conversion on filesystem '/boot' (9 MiB free, 20 needed)",
        means="the volumes are untouched, the replica is as of the final delta",
        do="free space in /boot of the guest, then order the cutover again",
        at=at(DAY_BEFORE + 172),
    ),
)

REHEARSAL: Final = Rehearsal(
    number=3,
    asked_by="ann@jump-1",
    started_at=at(-40_000),
    ended_at=at(-39_800),
    outcome="passed",
    replica_of=at(-40_700),
    steps=(
        step("Copy", -40_000, -39_997),
        step("Guest Fixes", -39_997, -39_905, found="Debian GNU/Linux 12, virtio"),
        step("Boot Target", -39_905, -39_860),
        step("Removal", -39_860, -39_800),
    ),
    conversion_seconds=92.0,
    boot_seconds=45.0,
    evidence="console: db-prod-01 login:",
)

SYNCS: Final = tuple(
    SyncFigures(
        snapshot_at=at(-900.0 * number),
        bytes=size,
        streaming_seconds=size / (200 * MIB),
        seconds=size / (200 * MIB) + 6,
    )
    for number, size in ((4, 900 * MIB), (3, 1200 * MIB), (2, 700 * MIB), (1, 3 * GIB))
)

STORY: Final = Events(
    events=(
        Event(at=at(-90_000), kind="submitted", text="db-prod-01: prod-vcenter -> infra", who="ann@jump-1"),
        Event(at=at(DAY_BEFORE), kind="command", text="cutover starts now", who="bob@jump-1"),
        Event(at=at(DAY_BEFORE), kind="cutover", text="begins", who="bob@jump-1"),
        Event(at=at(DAY_BEFORE + 172), kind="cutover failed", text="at Guest Fixes: virt-v2v: error: not enough space"),
        Event(at=at(DAY_BEFORE + 179), kind="port left", text="port 11d0 stays: somebody attached it to 'web-03'"),
        Event(at=at(DAY_BEFORE + 180), kind="rolled back", text="the job is Ready with its baselines; a sync follows"),
        Event(at=at(0), kind="command", text="cutover starts now", who="ann@jump-1"),
        Event(at=at(0), kind="cutover", text="begins", who="ann@jump-1"),
        Event(at=at(170), kind="decided", text="the source is stopped: 2m 43s predicted, 5m are allowed"),
        Event(at=at(325), kind="completed", text="the target runs: console: db-prod-01 login:"),
    ),
    dropped=312,
)

DISKS: Final = (
    Disk(
        key=2000,
        label="Hard disk 1",
        capacity=100 * GIB,
        volume_id="8f2c0000-0000-4000-8000-0000000000e1",
        baseline=Baseline(change_id="52/1"),
        bytes_full=61 * GIB,
        bytes_incremental=9 * GIB,
    ),
    Disk(
        key=2001,
        label="Hard disk 2",
        capacity=500 * GIB,
        volume_id="11d00000-0000-4000-8000-00000000009a",
        baseline=Baseline(change_id="52/1"),
        bytes_full=351 * GIB,
        bytes_incremental=52 * GIB,
    ),
)

COMPLETED: Final = JobStatus(
    job_id="warm-prod-vcenter-db-prod-01",
    spec=SPEC,
    phase=Phase.COMPLETED,
    since=at(325),
    disks=DISKS,
    nics=(
        Nic(
            key=4000,
            label="Network adapter 1",
            mac="00:50:56:9a:11:02",
            source_network="VM Network",
            network="internal-net",
            subnet="10.20.0.0",
            port_id="77aa0000-0000-4000-8000-000000000001",
            port_mac="00:50:56:9a:11:02",
            port_ips=("10.20.0.15",),
        ),
    ),
    cadence_seconds=900,
    last_sync_at=at(198),
    replica_of=at(190.5),
    bytes_full=412 * GIB,
    bytes_incremental=61 * GIB,
    sync_count=37,
    last_rate=208.0 * MIB,
    verification=Verification(
        asked_by="ann@jump-1",
        asked_at=at(-30_000),
        ended_at=at(-26_000),
        snapshots=2,
        disks=(
            DiskVerification(disk_key=2000, label="Hard disk 1", capacity=100 * GIB, compared=100 * GIB),
            DiskVerification(disk_key=2001, label="Hard disk 2", capacity=500 * GIB, compared=500 * GIB),
        ),
    ),
    cutover=COMPLETED_CUTOVER,
    earlier_cutovers=(FAILED_CUTOVER,),
    recent_syncs=(
        *SYNCS,
        SyncFigures(snapshot_at=at(190.5), bytes=118 * MIB, streaming_seconds=5.1, seconds=7.7, final=True),
    ),
    rehearsal=REHEARSAL,
    rehearsed=REHEARSAL,
    roll_back_until=at(325 + 86_400),
)

ROLLED_BACK: Final = COMPLETED.model_copy(
    update={
        "phase": Phase.READY,
        "since": at(DAY_BEFORE + 180),
        "cutover": FAILED_CUTOVER,
        "earlier_cutovers": (),
        "roll_back_until": None,
        "prediction": prediction(20, 1.2, 92, 45),
        "next_sync_at": at(DAY_BEFORE + 1000),
        "cutover_ordered": ORDER.model_copy(update={"at": at(0)}),
    }
)
"""As it was the day before."""

KEPT_OFF: Final = ROLLED_BACK.model_copy(
    update={
        "phase": Phase.FAILED,
        "cutover": FAILED_CUTOVER.model_copy(
            update={
                "kept": True,
                "source_on_at": None,
                "rolled_back_at": None,
                "steps": tuple(
                    found.model_copy(
                        update={"undone_at": None, "outcome": "failed" if found.name == "Guest Fixes" else "done"}
                    )
                    for found in FAILED_CUTOVER.steps
                ),
            }
        ),
        "trouble": FAILED_CUTOVER.trouble,
        "cutover_ordered": None,
    }
)
"""Its cutover failed, and all stays as it is until somebody orders the roll-back."""

ABANDONED: Final = COMPLETED.model_copy(
    update={"phase": Phase.ABANDONED, "cutover": None, "earlier_cutovers": (), "roll_back_until": None}
)
SUBMITTED: Final = JobStatus(job_id="warm-prod-vcenter-web-03", spec=SPEC, phase=Phase.INITIALIZING, since=at(-90_000))

HOSTILE: Final = "<script>alert('x')</script>\x1b[31m\u202e & \"quoted\""

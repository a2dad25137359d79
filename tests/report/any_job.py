"""Any status that a job may ever answer, sensible or not: what hypothesis makes of the models."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from tests.report.samples import COMPLETED, HOSTILE, NIGHT, SPEC
from xms.cutover import (
    ConversionOptions,
    Cutover,
    CutoverOrder,
    Decision,
    Evidence,
    OnFailure,
    PredictedPart,
    Prediction,
    Rehearsal,
    StaticAddress,
    StepRecord,
    SyncFigures,
    Window,
)
from xms.models import Event, NetworkMapping, Phase, Trouble
from xms.status import Events, JobStatus

MOMENTS = st.one_of(
    st.floats(-1e6, 1e6).map(lambda seconds: datetime.fromtimestamp(NIGHT.timestamp() + seconds, UTC)),
    st.datetimes(datetime(1970, 1, 2), datetime(9990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - as it asks
)
MAYBE = st.none() | MOMENTS
WORDS = st.text(max_size=40) | st.just(HOSTILE)
SECONDS = st.floats(0, 1e9)
BYTES = st.integers(0, 1 << 62)
TROUBLES = st.builds(
    Trouble,
    kind=WORDS,
    what=WORDS,
    because=WORDS,
    means=WORDS,
    do=WORDS,
    needs_person=st.booleans(),
    at=MAYBE,
    log_tail=WORDS,
)
STEPS = st.builds(
    StepRecord,
    name=st.sampled_from(["Gates", "Power Off Source", "Final Delta", "Guest Fixes", "Boot Target"]) | WORDS,
    started_at=MOMENTS,
    ended_at=MAYBE,
    outcome=st.sampled_from(["running", "done", "failed", "undone"]) | WORDS,
    bytes=st.none() | BYTES,
    found=WORDS,
    work_seconds=st.none() | SECONDS,
    undone_at=MAYBE,
)
PREDICTIONS = st.builds(
    Prediction,
    made_at=MOMENTS,
    parts=st.lists(
        st.builds(
            PredictedPart,
            name=st.sampled_from(["shutdown", "final delta", "conversion", "boot", "own share"]),
            seconds=SECONDS,
            basis=WORDS,
            measured=st.booleans(),
        ),
        max_size=5,
    ).map(tuple),
)
EVIDENCE = st.builds(
    Evidence,
    kind=st.sampled_from(["console", "agent", "tcp", "ping", "command"]),
    pattern=WORDS,
    port=st.none() | st.integers(1, 65535),
    address=WORDS,
    command=WORDS,
)
ORDERS = st.builds(
    CutoverOrder,
    who=WORDS,
    shutdown_timeout_seconds=st.integers(0, 10**6),
    hard_power_off=st.booleans(),
    power_on_source_after_failure=st.booleans(),
    on_failure=st.sampled_from(OnFailure),
    console_evidence=st.none() | WORDS,
    evidence=st.lists(EVIDENCE, max_size=3).map(tuple),
    network_map=st.lists(st.builds(NetworkMapping, source=WORDS, network=WORDS), max_size=2).map(tuple),
    max_downtime_seconds=st.none() | st.integers(1, 10**6),
    force=st.booleans(),
    at=MAYBE,
    window=st.none() | st.builds(Window, opens_at=MOMENTS, closes_at=MOMENTS, zone=WORDS),
    require_rehearsal_seconds=st.none() | st.integers(1, 10**6),
    conversion=st.builds(
        ConversionOptions,
        skip=st.booleans(),
        luks_keys=st.lists(WORDS, max_size=2).map(tuple),
        static_addresses=st.lists(
            st.builds(StaticAddress, mac=WORDS, address=WORDS, prefix_length=st.integers(0, 128)), max_size=2
        ).map(tuple),
    ),
    rollback_period_seconds=st.integers(0, 10**6),
)
CUTOVERS = st.builds(
    Cutover,
    number=st.integers(0, 9),
    ordered_by=WORDS,
    ordered_at=MOMENTS,
    order=st.none() | ORDERS,
    prediction=st.none() | PREDICTIONS,
    decisions=st.lists(st.builds(Decision, at=MOMENTS, what=WORDS, because=WORDS), max_size=2).map(tuple),
    steps=st.lists(STEPS, max_size=4).map(tuple),
    downtime_started_at=MAYBE,
    downtime_ended_at=MAYBE,
    power_off=WORDS,
    evidence=WORDS,
    server_id=st.none() | WORDS,
    verified_bytes=BYTES,
    failed_at=st.sampled_from(["", "Guest Fixes"]) | WORDS,
    source_on_at=MAYBE,
    rolled_back_at=MAYBE,
    rolled_back_by=WORDS,
    trouble=st.none() | TROUBLES,
)
REHEARSALS = st.builds(
    Rehearsal,
    number=st.integers(1, 9),
    asked_by=WORDS,
    started_at=MOMENTS,
    ended_at=MAYBE,
    outcome=st.sampled_from(["running", "passed", "failed", "broken off"]),
    replica_of=MAYBE,
    steps=st.lists(STEPS, max_size=2).map(tuple),
    conversion_seconds=st.none() | SECONDS,
    boot_seconds=st.none() | SECONDS,
    evidence=WORDS,
    trouble=st.none() | TROUBLES,
    left=st.lists(WORDS, max_size=2).map(tuple),
)
STATUSES = st.builds(
    JobStatus,
    job_id=WORDS,
    spec=WORDS.map(lambda name: SPEC.model_copy(update={"vm": name, "instance_name": name, "requested_by": name})),
    phase=st.sampled_from(Phase),
    since=MOMENTS,
    disks=st.sampled_from([(), COMPLETED.disks]),
    nics=st.sampled_from([(), COMPLETED.nics]),
    trouble=st.none() | TROUBLES,
    cutover=st.none() | CUTOVERS,
    earlier_cutovers=st.lists(CUTOVERS, max_size=2).map(tuple),
    cutover_ordered=st.none() | ORDERS,
    prediction=st.none() | PREDICTIONS,
    recent_syncs=st.lists(
        st.builds(
            SyncFigures,
            snapshot_at=MOMENTS,
            bytes=BYTES,
            streaming_seconds=SECONDS,
            seconds=SECONDS,
            full=st.booleans(),
            final=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    rehearsal=st.none() | REHEARSALS,
    rehearsed=st.none() | REHEARSALS,
    roll_back_until=MAYBE,
)
STORIES = st.builds(
    Events,
    events=st.lists(st.builds(Event, at=MOMENTS, kind=WORDS, text=WORDS, who=WORDS), max_size=3).map(tuple),
    dropped=st.integers(0, 10**6),
)

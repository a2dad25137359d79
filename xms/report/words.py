"""What a report says in words: the wishes of an order that are not the default, a prediction's error, a rate."""

from __future__ import annotations

from collections.abc import Iterator

from xms import quantities
from xms.cutover import ConversionOptions, CutoverOrder, OnFailure, SyncFigures
from xms.evidence import described
from xms.quantities import duration, moment_utc


def ordered(order: CutoverOrder) -> tuple[str, ...]:
    """Each wish of the order beside the defaults, in a few words."""
    return tuple(_ordered(order))


def _ordered(order: CutoverOrder) -> Iterator[str]:
    yield from _conditions(order)
    yield from _ways(order)
    yield from _conversion(order.conversion)
    if order.on_failure is OnFailure.KEEP_OFF:
        yield "kept as it is after a failure"
    if not order.power_on_source_after_failure:
        yield "the source stays off after a failure"
    if order.rollback_period_seconds:
        yield f"roll-back possible for {duration(order.rollback_period_seconds)}"


def _conditions(order: CutoverOrder) -> Iterator[str]:
    if order.window is not None:
        zone = f" ({order.window.zone})" if order.window.zone else ""
        yield f"in the window {moment_utc(order.window.opens_at)} to {moment_utc(order.window.closes_at)}{zone}"
    elif order.at is not None:
        yield f"not before {moment_utc(order.at)}"
    if order.max_downtime_seconds is not None:
        yield f"a downtime of at most {duration(order.max_downtime_seconds)}"
    if order.force:
        yield "although the prediction does not fit"
    if order.require_rehearsal_seconds is not None:
        yield f"rehearsed within {duration(order.require_rehearsal_seconds)}"


def _ways(order: CutoverOrder) -> Iterator[str]:
    default = CutoverOrder()
    if order.shutdown_timeout_seconds != default.shutdown_timeout_seconds:
        yield f"{duration(order.shutdown_timeout_seconds)} for the shutdown"
    if not order.hard_power_off:
        yield "no hard power-off"
    yield from (described(one) for one in order.awaited_evidence)
    if order.evidence_timeout_seconds != default.evidence_timeout_seconds:
        yield f"{duration(order.evidence_timeout_seconds)} for the evidence"
    if order.network_map:
        mapped = (f"{mapping.source} to {mapping.network}" for mapping in order.network_map)
        yield f"networks mapped for this cutover: {', '.join(mapped)}"


def _conversion(options: ConversionOptions) -> Iterator[str]:
    if options.skip:
        yield "no conversion"
    if options.luks_keys:
        yield f"LUKS keys {', '.join(options.luks_keys)}"
    if options.static_addresses:
        yield "static addresses " + ", ".join(
            f"{static.address}/{static.prefix_length} ({static.mac})" for static in options.static_addresses
        )


def error_words(percent: float) -> str:
    """How far a prediction was off what came: '6 % too much', '12 % too little', 'exact'."""
    rounded = round(abs(percent))
    if not rounded:
        return "exact"
    return f"{rounded} % too {'much' if percent > 0 else 'little'}"


def rate(sync: SyncFigures) -> str:
    """Bytes a second of a sync's streams; '-' where it copied nothing."""
    if not sync.bytes or sync.streaming_seconds <= 0:
        return quantities.ABSENT
    return quantities.rate(sync.bytes / sync.streaming_seconds)


def outcome_words(outcome: str, *, failed: bool) -> str:
    """What became of a step: one that failed and was undone since tells both."""
    return "failed, undone" if failed and outcome == "undone" else outcome

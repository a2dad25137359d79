"""What a source looks like on a terminal: the list, one registration, and the report of a check."""

from __future__ import annotations

from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.layout import INDENT, TROUBLE_STYLE, columns
from xms import quantities
from xms.orders.source import SourceHost, SourceList, SourceReport, SourceSummary
from xms.quantities import ABSENT, counted

LABEL: Final = 12

SHORT: Final = 32
"""Characters of a thumbprint that a list shows; JSON and `show` have it all."""

CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which clocks may differ before it is worth a word: the lag is reckoned by the source's clock."""


def listing(found: SourceList) -> RenderableType:
    """Every source on a line."""
    table = columns("SOURCE", "ENDPOINT", "USER", "DATACENTER", "TRUST")
    for source in found.sources:
        if source.problem:
            table.add_row(source.name, Text(ABSENT), Text(ABSENT), Text(ABSENT), Text("unusable", style=TROUBLE_STYLE))
            continue
        trust = source.trust if len(source.trust) <= SHORT else f"{source.trust[:SHORT]}.."
        table.add_row(source.name, f"{source.host}:{source.port}", source.username, source.datacenter or ABSENT, trust)
    problems = [Text(source.problem, style=TROUBLE_STYLE) for source in found.sources if source.problem]
    return Group(table, *problems)


def registration(source: SourceSummary, worker: str) -> RenderableType:
    """One source as it is registered."""
    if source.problem:
        return Group(Text(source.name), line("problem", source.problem, style=TROUBLE_STYLE), *_told_by(worker))
    streams = counted(source.host_streams, "stream") if source.host_streams else "any number of streams"
    return Group(
        Text(f"{source.name}: {source.host}:{source.port}"),
        line("user", source.username),
        line("datacenter", source.datacenter or "all"),
        line("trust", source.trust),
        line("timeout", f"{source.timeout_seconds:g} s for an answer"),
        line("hosts", f"port {source.nfc_port}; {streams} from each, {source.host_mib_in_flight} MiB in flight"),
        *_told_by(worker),
    )


def report(found: SourceReport) -> RenderableType:
    """What a check saw; what stands against a migration is in red."""
    version = f" {found.api_version}" if found.api_version else ""
    kind = {"HostAgent": ", an ESXi host without a vCenter"}.get(found.api, "")
    product = f"{found.product} {found.version}, build {found.build}"
    parts: list[RenderableType] = [
        Text(f"{found.source}: {product}{kind}"),
        line("API", f"{found.api or 'unknown'}{version}, answered in {found.milliseconds} ms"),
    ]
    if found.time is not None:
        parts.append(_clock(found))
    parts.append(_privileges(found))
    if found.hosts:
        parts.append(_hosts(found))
    if found.missing_privileges:
        parts += [Text(""), Padding(_missing(found), INDENT, expand=False)]
    if noteworthy := [host for host in found.hosts if not host.reachable and host.because]:
        parts += [Text(""), Padding(_unreached(noteworthy), INDENT, expand=False)]
    return Group(*parts)


def _clock(found: SourceReport) -> Text:
    ahead = found.clock_ahead_seconds
    moment = quantities.moment(found.time)
    if abs(ahead) < CLOCK_TOLERANCE:
        return line("clock", f"{moment}, as the worker's")
    words = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the worker's: lags are wrong by that"
    return line("clock", f"{moment}, {words}", style="yellow")


def _privileges(found: SourceReport) -> Text:
    if not found.missing_privileges:
        return line("privileges", "all that migrations need")
    return line("privileges", f"{len(found.missing_privileges)} missing", style=TROUBLE_STYLE)


def _hosts(found: SourceReport) -> Text:
    if found.hosts_not_tried:
        return line("hosts", f"{len(found.hosts)}, not tried: {found.hosts_not_tried}", style=TROUBLE_STYLE)
    reached = sum(host.reachable is True for host in found.hosts)
    failed = any(host.reachable is False for host in found.hosts)
    words = f"{reached} of {len(found.hosts)} reached by worker {found.hosts_tried_by}"
    return line("hosts", words, style=TROUBLE_STYLE if failed else "")


def _missing(found: SourceReport) -> RenderableType:
    table = columns("MISSING PRIVILEGE", "IN", "NEEDED BECAUSE")
    table.columns[-1].no_wrap = False
    for missing in found.missing_privileges:
        table.add_row(missing.privilege, ", ".join(missing.where), missing.needed_for)
    return table


def _unreached(hosts: list[SourceHost]) -> RenderableType:
    table = columns("HOST", "IN VCENTER", "NOT REACHED BECAUSE")
    table.columns[-1].no_wrap = False
    for host in hosts:
        table.add_row(
            host.name, host.connection, Text(host.because, style="" if host.reachable is None else TROUBLE_STYLE)
        )
    return table


def _told_by(worker: str) -> list[RenderableType]:
    return [line("told by", f"worker {worker}; each worker has its own configuration")] if worker else []


def line(label: str, words: str, *, style: str = "") -> Text:
    """A labelled line of a report."""
    return Text(f"  {label:<{LABEL}} ").append(words, style=style)

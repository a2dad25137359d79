"""What a preflight looks like on a terminal, and what it means for a submit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.exit_codes import ExitCode, exit_code_of
from cli.layout import INDENT, WIDE
from cli.machines import shown_names
from xms.errors import PreflightBlocked, XmsError
from xms.models import Trouble
from xms.orders.preflight import Finding, PreflightReport, Severity, Verdict, VmPreflight

STYLES: Final = {"Block": "bold red", "Warn": "yellow", "Pass": "green", "Note": "dim"}


def screen(report: PreflightReport, width: int) -> RenderableType:
    """Every VM with its verdict and findings; of several VMs the notes come together at the end."""
    return Group(*_screen(report, width))


def _screen(report: PreflightReport, width: int) -> Iterator[RenderableType]:
    names = shown_names([preflight.vm for preflight in report.vms])
    single = len(report.vms) == 1
    longest = max(len(name) for name in names.values())
    for preflight in report.vms:
        verdict = Text(preflight.verdict, style=STYLES[preflight.verdict])
        name = Text(f"{names[preflight.vm.moref]:<{longest}}  ", style="bold", no_wrap=True, overflow="ignore")
        yield name + verdict
        told = [finding for finding in preflight.findings if single or finding.severity is not Severity.NOTE]
        shown = without_what_was_not_asked(told)
        if shown:
            yield findings(shown, width)
    if not single:
        yield from _together(report, width)


def _together(report: PreflightReport, width: int) -> Iterator[RenderableType]:
    """The notes of all, each once, and the sum."""
    notes: dict[str, list[Finding]] = {}
    for preflight in report.vms:
        for note in preflight.of_severity(Severity.NOTE):
            notes.setdefault(note.rule, []).append(note)
    if notes:
        yield Text("")
        together = [_of_many(alike, len(report.vms)) for alike in notes.values()]
        yield findings(without_what_was_not_asked(together), width)
    verdicts = Counter(preflight.verdict for preflight in report.vms)
    sums = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in reversed(Verdict) if verdicts[verdict])
    yield Text("")
    yield Text(f"{len(report.vms)} VMs: {sums}")


def without_what_was_not_asked(found: Sequence[Finding]) -> list[Finding]:
    """The findings, with what nobody asked for as one note in the place of many."""
    told = [finding for finding in found if not finding.not_given]
    options = " ".join(finding.not_given for finding in found).split()
    missing = ", ".join(dict.fromkeys(option for option in options if option.startswith("--")))
    if not missing:
        return told
    return [*told, Finding(rule="target", severity=Severity.NOTE, found=f"not checked: {missing} not given")]


def _of_many(notes: Sequence[Finding], of: int) -> Finding:
    """One rule's notes of several VMs; where their words differ, the first one's stand for all."""
    number = len(notes)
    whom = "all VMs" if number == of else f"{number} VM{'s' * (number != 1)}"
    like = ", for example" if len({note.found for note in notes}) > 1 else ""
    return notes[0].model_copy(update={"found": f"{whom}{like}: {notes[0].found}"})


def findings(found: Sequence[Finding], width: int) -> RenderableType:
    """Findings with what to do about them; on a narrow terminal each rule has a line of its own."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=len(Severity.BLOCK))
    wide = width >= WIDE
    if wide:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in found:
        severity = Text(finding.severity, style=STYLES[finding.severity])
        if wide:
            table.add_row(severity, finding.rule, _words(finding))
        else:
            table.add_row(severity, Group(Text(finding.rule), _words(finding)))
    return Padding(table, INDENT, expand=False)


def _words(finding: Finding) -> RenderableType:
    lines = [Text(finding.found)]
    lines += [Text(f"because: {finding.because}")] if finding.because else []
    lines += [Text(f"do: {finding.do}", style="dim")] if finding.do else []
    return Group(*lines)


# --- for a submit -----------------------------------------------------------------------------------------------------


def plainly(found: Sequence[Finding]) -> str:
    """Findings as lines of an error's text."""
    lines = []
    for finding in found:
        because = f" ({finding.because})" if finding.because else ""
        lines.append(f"{finding.rule}: {finding.found}{because}" + (f"; do: {finding.do}" if finding.do else ""))
    return "\n".join(lines)


def refusal(preflight: VmPreflight, source: str) -> XmsError:
    """Why a VM whose verdict is Block is not submitted.

    Where all that stands against it is what was typed (a name that is not there), the error is of that kind.
    """
    from xms.client.failures import error_of

    blocking = preflight.of_severity(Severity.BLOCK)
    name = preflight.vm.name
    first = blocking[0]
    errors = [
        error_of(Trouble(kind=finding.kind, what=finding.found, because=finding.because, do=finding.do))
        for finding in blocking
        if finding.kind
    ]
    if len(errors) == len(blocking) and all(exit_code_of(error) is ExitCode.BAD_INPUT for error in errors):
        if len(blocking) == 1:
            return errors[0]
        return type(errors[0])(f"the target cannot take {name} as submitted", because=plainly(blocking))
    if len(blocking) == 1:
        because = f"{first.found}: {first.because}" if first.because else first.found
        return PreflightBlocked(
            f"{name} cannot be migrated: {first.rule}", because=because, means="nothing was started", do=first.do
        )
    return PreflightBlocked(
        f"{name} cannot be migrated: {len(blocking)} findings stand against it",
        because=plainly(blocking),
        means="nothing was started",
        do=f"mend them, then look again: xms preflight --source {source} --vm '{name}'",
    )

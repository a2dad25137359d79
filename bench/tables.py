"""A result for people: on the terminal, and in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.table import Table

from bench.errors import CannotMeasure
from bench.results import Result, Row
from xms.quantities import size

PAGE: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"

BEGIN: Final = "<!-- from here on written by: make bench BENCH=--page -->"
END: Final = "<!-- up to here -->"

COLUMNS: Final = ("name", "peer", "ratio", "min", "max", "rounds", "ours s", "peer s", "ours CPU", "peer CPU", "memory")


def cells(row: Row) -> Sequence[str]:
    """A row as the columns have it. CPU is that of the copying process and of the servers."""
    return (
        row.name,
        row.peer,
        f"{row.ratio_median:.2f}",
        f"{row.ratio_min:.2f}",
        f"{row.ratio_max:.2f}",
        str(row.rounds),
        seconds(row.ours.wall),
        seconds(row.theirs.wall),
        seconds(row.ours.cpu),
        seconds(row.theirs.cpu),
        size(row.ours.memory),
    )


def seconds(value: float) -> str:
    """Three significant digits, or milliseconds where it is less than one of them."""
    return f"{value:.3g}" if value >= 0.001 else "<0.001"  # noqa: PLR2004 - see above


def terminal_table(result: Result) -> Table:
    """The table of a run."""
    table = Table(title="wall time of ours / of the peer, within the same round; below 1 ours was faster")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)  # noqa: PLR2004 - names
    for row in result.rows:
        table.add_row(*cells(row))
    return table


def section(path: Path, result: Result) -> str:
    """The part of the page that comes from a file of results."""
    machine = result.machine
    lines = [
        BEGIN,
        "",
        f"From `bench/results/{path.name}`, {result.started:%Y-%m-%d}, {result.seconds / 60:.0f} minutes in all.",
        *(["", f"**Not a run of the whole protocol: {result.partial}.**"] if result.partial else []),
        "",
        f"- {machine.processor}, {machine.cores} cores, {size(machine.memory_bytes)} of memory, Linux {machine.kernel}",
        f"- disks on {machine.file_system}",
        f"- {machine.nbdkit}, {machine.nbdcopy}, {machine.qemu_img}, {machine.cp}",
        f"- libnbd {machine.libnbd}, Python {machine.python}, xms {machine.xms}",
        *(f"- {note}" for note in result.notes),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
        *(f"| {' | '.join(cells(row))} |" for row in result.rows),
        "",
        END,
    ]
    return "\n".join(lines)


def section_of_page() -> str:
    """The part as it stands in the page."""
    text = PAGE.read_text()
    return text[text.index(BEGIN) : text.index(END) + len(END)]


def write_page(path: Path) -> None:
    """Put the results of a file of bench/results into the page.

    Raises:
        CannotMeasure: there is no such file.
    """
    if not path.is_file():
        raise CannotMeasure(f"there is no file of results at {path}")
    PAGE.write_text(PAGE.read_text().replace(section_of_page(), section(path, Result.load(path))))

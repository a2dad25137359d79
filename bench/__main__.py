"""The command: `make bench`, or `python -m bench`."""

from __future__ import annotations

import fnmatch
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from bench.cases import Case, all_cases
from bench.errors import CannotMeasure, WrongCopy
from bench.machine import describe
from bench.results import DIRECTORY, Result, Row
from bench.rounds import measure
from bench.sizes import PROTOCOL, QUICK
from bench.tables import terminal_table, write_page
from bench.targets import DIRECT_IO, why_no_loop_device
from xms.quantities import size

ROUNDS: Final = 7
QUICK_ROUNDS: Final = 2
DISKS: Final = Path(__file__).parents[1] / ".cache" / "bench"

TABLE_WIDTH: Final = 160
"""where no terminal has a width of its own"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
screen = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def main(
    *,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each case is run; 7 unless quick.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="The case of this name: full-0ms, 'full-*'. Repeatable.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny disks, two rounds: shows that it works.")] = False,
    directory: Annotated[Path, typer.Option(help="Where the disks are; they are kept for the next run.")] = DISKS,
    output: Annotated[Path | None, typer.Option(help="The file of results, instead of one in bench/results.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Measure nothing; put results into docs/benchmarks.md.")] = False,
    results: Annotated[Path | None, typer.Option(help="With --page: of this file, instead of the newest.")] = None,
) -> None:
    """Measure the block engine beside other programs, print a table, and write it to bench/results."""
    try:
        if page:
            write_page(results or newest())
            return
        path = output
        for result in run(rounds or (QUICK_ROUNDS if quick else ROUNDS), only or [], directory, quick=quick):
            path = result.save(output)
    except (CannotMeasure, WrongCopy) as error:
        screen.print(f"{type(error).__name__}: {error}", style="bold red", markup=False)
        raise typer.Exit(1) from None
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = TABLE_WIDTH
    out.print(terminal_table(result))
    for line in [*result.notes, result.partial and f"not a run of the whole protocol: {result.partial}", str(path)]:
        if line:
            out.print(line, markup=False, soft_wrap=True)


def run(rounds: int, only: list[str], directory: Path, *, quick: bool) -> Iterator[Result]:
    """Measure what was asked for; yields all that is known so far after each case, and the whole at last.

    A run takes most of an hour, and one that is ended should not have been for nothing.

    Raises:
        CannotMeasure: something is missing, or a program failed.
        WrongCopy: a copy was wrong; the cases before it count.
    """
    sizes = QUICK if quick else PROTOCOL
    directory.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(directory).free) < sizes.free_space:
        raise CannotMeasure(f"{directory} has {size(free)} of free space, {size(sizes.free_space)} may be needed")
    started, clock = datetime.now(UTC), time.monotonic()
    known = all_cases(directory, sizes)
    chosen = [case for case in known if not only or is_named(case, only)]
    if not chosen:
        raise CannotMeasure(f"there is no case of that name; there are {', '.join(case.name for case in known)}")
    machine = describe(directory)
    notes = []
    for kind in DIRECT_IO:
        if any(case.target == kind for case in chosen) and (reason := why_no_loop_device(directory, kind)):
            notes.append(f"{kind} target: not possible here: {reason}")
            chosen = [case for case in chosen if case.target != kind]
            if not chosen:
                raise CannotMeasure(reason)
    rows: list[Row] = []
    partial = why_partial(rounds, only, quick=quick)
    for number, case in enumerate(chosen, start=1):
        try:
            runs = case.prepare()
        except CannotMeasure as error:
            # The others can still be measured: not every file system holds a sparse file of 10 TiB.
            notes.append(f"{case.name}: not possible here: {error}")
        else:
            rows.extend(measure(case, runs, rounds, lambda line: screen.print(line, markup=False)))
        unfinished = [] if number == len(chosen) else [f"ended after {case.name}"]
        yield Result(
            started=started,
            seconds=time.monotonic() - clock,
            machine=machine,
            partial="; ".join(partial + unfinished),
            notes=notes,
            rows=rows,
        )


def is_named(case: Case, patterns: list[str]) -> bool:
    """Whether one of the patterns is the case's name, or that of a row of it."""
    names = {case.name, *(pair.name for pair in case.pairs)}
    return any(fnmatch.filter(names, pattern) for pattern in patterns)


def why_partial(rounds: int, only: list[str], *, quick: bool) -> list[str]:
    """What makes a run less than the protocol."""
    reasons = []
    if quick:
        reasons.append("tiny disks")
    if rounds < ROUNDS:
        reasons.append(f"rounds: {rounds} instead of {ROUNDS}")
    if only:
        reasons.append(f"only {', '.join(only)}")
    return reasons


def newest() -> Path:
    """The newest file of results.

    Raises:
        CannotMeasure: there is none.
    """
    files = sorted(DIRECTORY.glob("*.json"))
    if not files:
        raise CannotMeasure(f"there are no results in {DIRECTORY}")
    return files[-1]


if __name__ == "__main__":
    app()

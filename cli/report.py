"""xms migration report: what became of a migration, for people, for programs, and as a page to keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from cli.migration import app
from cli.options import JobArgument, JobOption

if TYPE_CHECKING:
    from xms.report.model import Report

Format = Literal["text", "json", "html"]

FILE_WIDTH: Final = 100
"""Columns of a text that goes to a file or a program: it is read by people all the same."""


@app.command()
def report(
    job: JobArgument = None,
    job_option: JobOption = None,
    form: Annotated[
        Format, typer.Option("--format", help="For a terminal, for programs, or a page of its own for a browser.")
    ] = "text",
    output_file: Annotated[
        Path | None,
        typer.Option("--output-file", metavar="FILE", help="Write it there instead; a file of that name is replaced."),
    ] = None,
) -> None:
    """Tell what became of a migration: who, when, each step's time, bytes, downtime, verification, decisions."""
    from cli.output import say
    from cli.parsing import one_job
    from cli.session import ask

    job_id = one_job(job, job_option)
    told = ask(lambda migrations: migrations.report(job_id))
    if output_file is None:
        _print(told, form)
    else:
        _write(output_file, _as_text(told, form))
        say(f"written: {output_file}")


def _print(told: Report, form: Format) -> None:
    import sys

    from cli.output import console
    from cli.report_screens import report as screen

    out = console()
    if form == "text" and out.is_terminal:
        out.print(screen(told, out.width), crop=False)
    else:
        sys.stdout.write(_as_text(told, form))


def _as_text(told: Report, form: Format) -> str:
    match form:
        case "json":
            return told.model_dump_json(indent=2) + "\n"
        case "html":
            from xms.report.page import page

            return page(told)
        case "text":
            import io

            from rich.console import Console

            from cli.report_screens import report as screen

            out = io.StringIO()
            Console(file=out, width=FILE_WIDTH, highlight=False, markup=False, emoji=False).print(
                screen(told, FILE_WIDTH), crop=False
            )
            return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _write(file: Path, text: str) -> None:
    """Put the text into the file.

    Raises:
        BadInput: it cannot be written.
    """
    from xms.errors import BadInput

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"--output-file: {file} cannot be written",
            because=error.strerror or str(error),
            means="the report itself stays in Temporal",
            do="name a file in a directory that you may write to",
        ) from error

"""Options that several commands have, so that they are called and explained alike."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import Output

JobArgument = Annotated[str | None, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
JobOption = Annotated[str | None, typer.Option("--job", metavar="JOB", help="The same, as an option.")]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="For people or for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TimeoutOption = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Give up waiting after this time; the job goes on.")
]

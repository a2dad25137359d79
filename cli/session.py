"""One command's conversation with Temporal."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from xms.client import Migrations

Answer = TypeVar("Answer")


def ask(question: Callable[[Migrations], Awaitable[Answer]], waiting_for: str = "") -> Answer:
    """Connect, ask, answer.

    Args:
        question: what to do with the migrations.
        waiting_for: shown at a terminal while it takes time; empty for what is quick or shows itself.

    Raises:
        XmsError: as the client's methods say.
    """
    from xms.client import Migrations, quiet_runtime

    async def conversation() -> Answer:
        return await question(await Migrations.connect(runtime=quiet_runtime()))

    if not waiting_for or not sys.stderr.isatty():
        return asyncio.run(conversation())

    from cli.output import console

    with console(sys.stderr).status(f"{waiting_for} ...", spinner="line", spinner_style=""):
        return asyncio.run(conversation())


def who() -> str:
    """The operator for the record: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def confirm(question: str, *, yes: bool) -> None:
    """Have the operator confirm; `yes` is what --yes says.

    Raises:
        BadInput: there is no terminal to ask at, and no --yes.
        Refused: the operator says no.
    """
    from xms.errors import BadInput, Refused

    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(
            "this has to be confirmed, and there is no terminal to ask at", because=question, do="give --yes"
        )
    import typer

    if not typer.confirm(question, err=True):
        raise Refused("not confirmed", means="nothing was changed")

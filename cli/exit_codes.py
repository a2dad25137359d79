"""What the exit code of `xms` tells a script."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xms.errors import XmsError


class ExitCode(IntEnum):
    """The exit codes; docs/cli.md explains them, and a test compares the two."""

    OK = 0
    UNEXPECTED = 1
    """A mistake in XMS itself; the details are in the log file that the message names."""
    BAD_INPUT = 2
    """The command line cannot be used, or it names what the source or the target does not have."""
    REFUSED = 3
    """No such job, the job has ended, not in this phase, or the operator said no."""
    UNREACHABLE = 4
    """Temporal or a worker does not answer."""
    FAILED = 5
    """The source, the target or the job itself failed."""
    TIMED_OUT = 6
    """What was waited for did not come in the given time."""
    DIFFERS = 7
    """A verification found the replica to be something else than its source."""
    BLOCKED = 8
    """A preflight found what stands against a migration; nothing was started."""
    INTERRUPTED = 130
    """Ctrl-C."""


def exit_code_of(error: XmsError) -> ExitCode:
    """The exit code for an error, whether it was born here or in a worker."""
    from xms import errors

    match error:
        case errors.BadInput() | errors.ConfigurationError() | errors.VmNotFound() | errors.TargetNotFound():
            return ExitCode.BAD_INPUT
        case errors.PreflightBlocked():
            return ExitCode.BLOCKED
        case errors.Refused():
            return ExitCode.REFUSED
        case errors.TemporalUnreachable() | errors.TemporalRefusedLogin() | errors.NoWorker():
            return ExitCode.UNREACHABLE
        case errors.WaitedTooLong():
            return ExitCode.TIMED_OUT
        case errors.ReplicaDiffers():
            return ExitCode.DIFFERS
        case _:
            return ExitCode.FAILED

"""xms: the command line. Every way out of it passes `main`, so that no traceback reaches a user."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer

# Some modules register their commands on those of another one.
from cli import (  # noqa: F401
    conversion_log,
    cutover,
    migration,
    preflight,
    registration,
    rehearse,
    report,
    rollback,
    source,
    target,
    verbs,
    verification,
    vm,
)
from cli.exit_codes import ExitCode
from cli.output import print_error, wants_json

LOG_LIMIT: Final = 1 << 20
"""Bytes after which the log of mistakes begins anew."""

app = typer.Typer(
    name="xms",
    help="Warm migration of running VMware VMs into OpenStack.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(migration.app, name="migration")
app.add_typer(source.app, name="source")
app.add_typer(target.app, name="target")
app.add_typer(vm.app, name="vm")
app.command("preflight")(preflight.preflight)
if find_spec("cli.lab"):
    # The lab is left out where only the product is installed.
    app.add_typer(import_module("cli.lab").app, name="lab")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's signature of a callback
    if wanted:
        sys.stdout.write(f"xms {version('xms')}\n")
        raise typer.Exit


@app.callback()
def root(
    *,
    version_wanted: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Warm migration of running VMware VMs into OpenStack.

    Temporal is found by TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS_... or a TEMPORAL_PROFILE.
    """
    del version_wanted


def run(arguments: Sequence[str]) -> int:
    """Run one command line; what goes wrong is told on stderr, and by the exit code that is given back."""
    try:
        answer = app(args=list(arguments), prog_name="xms", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.Abort:
        # Ctrl-C or the end of the input at a question.
        sys.stderr.write("\n")
        return ExitCode.INTERRUPTED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else ExitCode.OK
    except BrokenPipeError:
        # The reader (head, less) has seen enough; what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the one place that turns every failure into words and a code
        return _explain(error, list(arguments))
    return answer if isinstance(answer, int) else ExitCode.OK


def _explain(error: Exception, arguments: list[str]) -> int:
    from cli.exit_codes import exit_code_of
    from cli.output import error_lines
    from xms.errors import XmsError

    as_json = wants_json(arguments)
    if isinstance(error, XmsError):
        code = exit_code_of(error)
        print_error(error_lines(error), _fields(error, code), as_json=as_json)
        _show_traceback()
        return code
    if isinstance(error, typer.TyperException):
        return _explain_usage(error, as_json=as_json)
    where = _log(error, arguments)
    lines = [
        f"error: xms itself failed: {type(error).__name__}",
        f"  because: {error}" if str(error) else "  because: it did not say why",
        f"  do: report it with {where}",
    ]
    fields = {"kind": type(error).__name__, "what": "xms itself failed", "because": str(error), "do": lines[-1][6:]}
    print_error(lines, fields | {"exit_code": int(ExitCode.UNEXPECTED)}, as_json=as_json)
    _show_traceback()
    return ExitCode.UNEXPECTED


def _fields(error: Any, code: ExitCode) -> dict[str, Any]:  # noqa: ANN401 - an XmsError, which is imported late
    found: dict[str, Any] = error.trouble().model_dump(mode="json", exclude={"at"})
    return found | {"exit_code": int(code)}


def _explain_usage(error: typer.TyperException, *, as_json: bool) -> int:
    """A command line that cannot be parsed."""
    if not error.format_message():
        # A group without a command has shown its help.
        return ExitCode.BAD_INPUT
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "xms"
    lines = [f"error: {error.format_message().rstrip('.')}", f"  do: {command} --help"]
    fields = {"kind": "Usage", "what": lines[0][7:], "do": f"{command} --help", "exit_code": int(ExitCode.BAD_INPUT)}
    print_error(lines, fields, as_json=as_json)
    return ExitCode.BAD_INPUT


def _log(error: Exception, arguments: list[str]) -> str:
    """Write the traceback where it can be sent from; where that fails, say how to see it."""
    import shlex
    import traceback

    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    path = state / "xms" / "xms.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        mode = "w" if path.exists() and path.stat().st_size > LOG_LIMIT else "a"
        path.touch(mode=0o600)
        with path.open(mode) as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} xms {shlex.join(arguments)}\n")
            log.write("".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return "what it prints with XMS_DEBUG=1"
    return f"the details in {path}"


def _show_traceback() -> None:
    if os.environ.get("XMS_DEBUG"):
        import traceback

        traceback.print_exc()


def main() -> NoReturn:
    """Entry point. It leaves without the interpreter's clean-up.

    The SDK's threads were seen to crash a short-lived process at exit after it had done its work, so the process ends
    at once when everything is written.
    """
    code = run(sys.argv[1:])
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

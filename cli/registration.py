"""xms source create and remove: they edit the configuration of the machine where they run, which is a worker's."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import OutputOption, YesOption
from cli.source import SourceArgument, app

if TYPE_CHECKING:
    from pydantic import SecretStr

    from xms import registration

CONFIG_HELP = "The worker's configuration file; else $XMS_CONFIG and the usual places."
ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="PATH", help=CONFIG_HELP)]


@app.command()
def create(  # noqa: PLR0913 - the command's options
    *,
    name: SourceArgument,
    host: Annotated[str, typer.Option(metavar="HOST", help="Name or address of the vCenter or ESXi host.")],
    username: Annotated[str, typer.Option(metavar="USER", help="The account, as in xms@vsphere.local.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="HTTPS port.")] = 443,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Its first line is the password; mode 0600. It is read at each log-in."),
    ] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the password.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="PATH", help="CA bundle that its certificate is verified with.")
    ] = None,
    thumbprint: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Exactly the certificate with this thumbprint is trusted.")
    ] = None,
    datacenter: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only VMs of this datacenter are seen.")
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not log in before it is registered.")] = False,
    config: ConfigOption = None,
    output: OutputOption = "table",
) -> None:
    """Register a source on this machine, after a log-in proved that it works; the worker here takes it up by itself.

    The password comes by a file, an environment variable, or a prompt. Without a CA bundle or a thumbprint the server's
    certificate is shown and has to be confirmed, at a terminal.
    """
    from cli import parsing
    from cli.output import console, print_json
    from xms import registration

    source = parsing.required(name, "SOURCE")
    address = parsing.required(host, "--host")
    _refuse_both(password_file=password_file, password_env=password_env)
    _refuse_both(ca_file=ca_file, thumbprint=thumbprint)
    place = registration.configuration(config)
    registration.refuse_known(place, source)
    if thumbprint is not None:
        thumbprint = registration.normal_thumbprint(thumbprint)
    elif ca_file is None:
        thumbprint = _trusted(address, port)
    done = registration.register(
        place,
        registration.Registration(
            name=source,
            host=address,
            port=port,
            username=parsing.required(username, "--username"),
            password=None if password_file else _password(password_env, username, address),
            password_file=password_file.absolute() if password_file else None,
            thumbprint=thumbprint,
            ca_file=ca_file.absolute() if ca_file else None,
            datacenter=datacenter,
        ),
        check=not no_check,
    )
    if output == "json":
        print_json({"source": source, "file": str(done.file), "product": done.product})
        return
    out = console()
    out.print(f"registered: {source}" + (f", {done.product}" if done.product else ", not checked"), soft_wrap=True)
    out.print(f"  in {done.file}, with the password in {done.password_file}", soft_wrap=True)
    out.print("  a worker that runs here takes it up by itself; every other worker needs it on its own machine")
    out.print(f"  see what it lacks with: xms source check {source}", soft_wrap=True)


def _refuse_both(**options: object) -> None:
    from xms.errors import BadInput

    names = [f"--{name.replace('_', '-')}" for name in options]
    if all(value is not None for value in options.values()):
        raise BadInput(f"{' and '.join(names)} are both given", because="one of them has to count", do="leave one out")


def _trusted(host: str, port: int) -> str:
    """The thumbprint of the certificate that the server shows, after the operator said that it is the right one."""
    from cli.output import say
    from xms.errors import BadInput, Refused
    from xms.registration import certificate_of, normal_thumbprint

    shown = certificate_of(host, port)
    if not sys.stdin.isatty():
        raise BadInput(
            f"the certificate of {host}:{port} is not known, and there is no terminal to ask at",
            because=f"its SHA-256 thumbprint is {shown.thumbprint}, which anybody in between could have shown",
            means="nothing was registered, and no password was sent",
            do="compare it with what the server's owner says, and give it with --thumbprint; or give --ca-file",
        )
    say(_described(shown, f"{host}:{port}"))
    answer = typer.prompt("Is it the right one? Type yes, or the thumbprint", default="no", err=True).strip()
    if answer.lower() != "yes":
        try:
            same = normal_thumbprint(answer) == shown.thumbprint
        except BadInput:
            same = False
        if not same:
            raise Refused("the certificate is not trusted", means="nothing was registered, and no password was sent")
    return shown.thumbprint


def _described(shown: registration.ShownCertificate, endpoint: str) -> str:
    own = " (signed by itself)" if shown.subject == shown.issuer else ""
    return "\n".join(
        [
            f"{endpoint} shows a certificate that nobody has vouched for here:",
            f"  subject    {shown.subject or '-'}",
            f"  issuer     {shown.issuer or '-'}{own}",
            f"  names      {', '.join(shown.names) or '-'}",
            f"  valid      {shown.valid_from:%Y-%m-%d} to {shown.valid_until:%Y-%m-%d}",
            f"  SHA-256    {shown.thumbprint}",
            "Compare the thumbprint with what the server's owner says.",
        ]
    )


def _password(variable: str | None, username: str, host: str) -> SecretStr:
    from pydantic import SecretStr

    from xms.errors import BadInput

    if variable is not None:
        password = os.environ.get(variable, "")
        missing = f"the environment variable {variable} is empty or not set"
    elif sys.stdin.isatty():
        password = str(typer.prompt(f"Password of {username} on {host}", hide_input=True, err=True))
        missing = "no password was typed"
    else:
        raise BadInput(
            "the password is missing",
            because="there is no terminal to ask for it at",
            do="give --password-file or --password-env; it is never taken from the command line",
        )
    if not password or "\n" in password or "\r" in password:
        raise BadInput("the password cannot be used", because=missing if not password else "it has more than one line")
    return SecretStr(password)


@app.command()
def remove(
    *,
    name: SourceArgument,
    force: Annotated[bool, typer.Option("--force", help="Also where jobs of the source have not ended.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    output: OutputOption = "table",
) -> None:
    """Remove a source from this machine's configuration, with the password file that `create` wrote."""
    from cli.output import console, print_json
    from cli.parsing import required
    from cli.session import confirm
    from xms import registration

    source = required(name, "SOURCE")
    place = registration.configuration(config)
    file = registration.registered_here(place, source)
    if not force:
        _refuse_with_jobs(source)
    confirm(f"Remove source {source} ({file})?", yes=yes)
    removed = registration.unregister(place, source)
    if output == "json":
        print_json({"source": source, "removed": [str(path) for path in removed]})
        return
    out = console()
    out.print(f"removed: {source}", soft_wrap=True)
    for path in removed:
        out.print(f"  {path}", soft_wrap=True)
    out.print("  the worker here follows by itself; remove it on the machines of the other workers, too")


def _refuse_with_jobs(source: str) -> None:
    from cli.output import say
    from cli.session import ask
    from xms.errors import Refused, TemporalRefusedLogin, TemporalUnreachable
    from xms.quantities import counted

    try:
        jobs = ask(lambda migrations: migrations.active_jobs(source))
    except (TemporalUnreachable, TemporalRefusedLogin) as error:
        say(f"whether jobs of {source} run is not known: {error.what}")
        return
    if jobs:
        shown = ", ".join(jobs[:5]) + (", .." if len(jobs) > 5 else "")  # noqa: PLR2004 - enough to know what is meant
        raise Refused(
            f"source {source} is not removed",
            because=f"{counted(len(jobs), 'job')} of it {'has' if len(jobs) == 1 else 'have'} not ended: {shown}",
            means="without the source they would be parked as Failed, and their snapshots could not be removed",
            do="let them end, or abandon them; or give --force",
        )

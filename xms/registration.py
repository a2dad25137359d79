"""Registering a source on the machine of a worker, and taking it away again: what `xms source create` and `remove` do.

A source is two files in `sources.d`: `NAME.toml`, and `NAME.password` where the password came by a prompt or an
environment variable. Each appears as a whole or not at all, and can be read by its owner alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr, ValidationError

from xms.config import SourceConfig, find_config, load_config, read_toml
from xms.durable_files import flush_names
from xms.errors import BadInput, ConfigurationError, Refused
from xms.sources import SourceFiles, registration_file, sources_directory
from xms.vsphere import shown_certificate as certificates
from xms.vsphere.session import connect
from xms.vsphere.shown_certificate import ShownCertificate
from xms.vsphere.source_check import see_datacenter

CERTIFICATE_SECONDS: Final = 15.0
"""Somebody waits at a terminal."""

DRAFT: Final = ".draft-"
DRAFT_SECONDS: Final = 3600.0
"""No command works on a draft for so long: an older one was left by one that was killed."""

PRIVATE_FILE: Final = 0o600
PRIVATE_DIRECTORY: Final = 0o700


@dataclass(frozen=True)
class Registration:
    """What a source is to be registered with.

    Attributes:
        password: what came by a prompt or an environment variable; None where `password_file` names a file.
        thumbprint, ca_file: one of them.
    """

    name: str
    host: str
    port: int
    username: str
    password: SecretStr | None
    password_file: Path | None
    thumbprint: str | None
    ca_file: Path | None
    datacenter: str | None


@dataclass(frozen=True)
class Registered:
    """What was written, and what the source said of itself.

    Attributes:
        product: empty where it was not asked.
    """

    file: Path
    password_file: Path
    product: str


def configuration(path: Path | None) -> Path:
    """The configuration file of this machine's worker, after it was read.

    Raises:
        ConfigurationError: there is none, or it cannot be used.
    """
    found = (path or find_config()).absolute()
    load_config(found)
    return found


def certificate_of(host: str, port: int) -> ShownCertificate:
    """What a server shows of itself, for a person to judge; nothing else is sent to it.

    Raises:
        SourceUnreachable: it could not be fetched.
    """
    return certificates.shown_certificate(host, port, timeout_seconds=CERTIFICATE_SECONDS)


def refuse_known(config: Path, name: str) -> None:
    """Refuse a name that is taken, or that cannot be one.

    Raises:
        BadInput: no source can have this name.
        Refused: a source has it already.
    """
    file = registration_file(config, name)
    if name in load_config(config).sources:
        raise Refused(f"source {name} is registered already", because=f"by [sources.{name}] in {config}")
    if file.exists():
        raise Refused(
            f"source {name} is registered already",
            because=f"by {file}",
            do=f"to change it, edit that file; to begin anew: xms source remove {name}",
        )


def register(config: Path, registration: Registration, *, check: bool) -> Registered:
    """Write a source's files; a running worker takes it up at its next use.

    Args:
        config: the worker's configuration file.
        registration: the source.
        check: log in first; nothing is written where that fails.

    Raises:
        BadInput: a value cannot be used.
        Refused: the name is taken.
        ConfigurationError: the password file can be read by others, or the directory cannot be written.
        SourceUnreachable, SourceNotTrusted, SourceRefusedLogin, SourceFault: the log-in failed.
    """
    name = registration.name
    refuse_known(config, name)
    directory = sources_directory(config)
    own_password = registration.password is not None
    with _explained(directory):
        directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        _sweep(directory)
        with contextlib.ExitStack() as drafts:
            password_file = registration.password_file or directory / f"{name}.password"
            readable = password_file
            if registration.password is not None:
                readable = drafts.enter_context(_draft(directory, registration.password.get_secret_value() + "\n"))
            source = _source(registration, readable)
            source.password()
            product = _log_in(name, source) if check else ""
            settled = source.model_copy(update={"password_file": password_file})
            text = as_toml(settled)
            draft = drafts.enter_context(_draft(directory, text))
            if read_toml(draft, SourceConfig) != settled:
                raise ConfigurationError(f"source {name} cannot be written", because="it reads back as another")
            if own_password:
                readable.replace(password_file)
            _appear(draft, registration_file(config, name), name)
            flush_names(directory)
    return Registered(file=registration_file(config, name), password_file=password_file, product=product)


def registered_here(config: Path, name: str) -> Path:
    """The file that registers a source on this machine.

    Raises:
        BadInput: no source can have this name.
        Refused: it is registered in the configuration file itself, or not at all.
    """
    file = registration_file(config, name)
    if file.exists():
        return file
    if name in load_config(config).sources:
        raise Refused(
            f"source {name} is not removed",
            because=f"it was registered by hand, in {config}",
            do=f"take [sources.{name}] out of that file; a running worker follows",
        )
    known = ", ".join(sorted(SourceFiles(config).look())) or "none"
    raise BadInput(f"no source is called '{name}' on this machine", because=f"its sources are: {known}")


def unregister(config: Path, name: str) -> tuple[Path, ...]:
    """Remove a source's files, and tell which. A password file that the source only named is left.

    Raises:
        BadInput, Refused: as `registered_here`.
        ConfigurationError: they cannot be removed.
    """
    file = registered_here(config, name)
    password_file = file.with_suffix(".password")
    with _explained(file.parent):
        # The source first: without its password it would be a source that fails.
        removed = [path for path in (file, password_file) if path.exists()]
        for path in removed:
            path.unlink(missing_ok=True)
        flush_names(file.parent)
    return tuple(removed)


def as_toml(source: SourceConfig) -> str:
    """A source as the text of its file: what was chosen, nothing that is a default."""
    values = source.model_dump(mode="json", exclude_defaults=True)
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["# Written by `xms source create`. A running worker takes up what is changed here.", *lines, ""])


def normal_thumbprint(text: str) -> str:
    """A SHA-256 thumbprint as the configuration has it, of any usual way to write one.

    Raises:
        BadInput: it is none.
    """
    digits = text.strip().rpartition("=")[2].replace(":", "").upper()
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        short = "; a SHA-1 thumbprint is not accepted" if re.fullmatch(r"[0-9A-F]{40}", digits) else ""
        raise BadInput(
            f"--thumbprint '{text}' is no SHA-256 thumbprint",
            because=f"it has to be 32 bytes in hexadecimal digits, as in AA:BB:..{short}",
            do="openssl x509 -noout -fingerprint -sha256 -in <its certificate>",
        )
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2))


def _source(registration: Registration, password_file: Path) -> SourceConfig:
    texts = (registration.host, registration.username, registration.datacenter or "", str(password_file))
    if not all(text.isprintable() for text in texts):
        raise BadInput("a value cannot be used", because="it has characters that cannot be printed")
    try:
        return SourceConfig(
            host=registration.host,
            port=registration.port,
            username=registration.username,
            password_file=password_file,
            thumbprint=normal_thumbprint(registration.thumbprint) if registration.thumbprint else None,
            ca_file=registration.ca_file,
            datacenter=registration.datacenter,
        )
    except ValidationError as error:
        values = "; ".join(f"--{'-'.join(map(str, item['loc'])) or 'trust'}: {item['msg']}" for item in error.errors())
        raise BadInput("the source cannot be registered", because=values.replace("_", "-")) from None


def _log_in(name: str, source: SourceConfig) -> str:
    with connect(name, source) as session:
        see_datacenter(session)
        about = session.content.about
        return f"{about.name} {about.version}, build {about.build}"


@contextlib.contextmanager
def _draft(directory: Path, text: str) -> Iterator[Path]:
    """A file with this text that only its owner can read, safe on the disk; gone at the end unless it was renamed."""
    path = directory / f"{DRAFT}{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sweep(directory: Path) -> None:
    """Remove what a command that was killed has left: there may be a password in it."""
    for path in directory.glob(f"{DRAFT}*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > DRAFT_SECONDS:
                path.unlink()


def _appear(draft: Path, file: Path, name: str) -> None:
    """Give a draft its name, unless somebody else's file got it meanwhile."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise Refused(f"source {name} is registered already", because=f"by {file}, since a moment ago") from None


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{directory} cannot be written",
            because=error.strerror or str(error),
            do="run this as the user that the worker runs as, on the worker's machine",
        ) from None


__all__ = [
    "Registered",
    "Registration",
    "ShownCertificate",
    "as_toml",
    "certificate_of",
    "configuration",
    "normal_thumbprint",
    "refuse_known",
    "register",
    "registered_here",
    "unregister",
]

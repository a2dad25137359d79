"""What nbdkit and VDDK say about themselves, kept within bounds, and what it means."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from xms.errors import (
    ProgramMissing,
    SnapshotLost,
    SourceForbidden,
    SourceNotTrusted,
    SourceRefusedLogin,
    SourceUnreachable,
    TransportFailed,
    XmsError,
)

KEPT_LINES: Final = 200
LINE_BYTES: Final = 2000
TOLD_LINES: Final = 3
RECENT_LINES: Final = 20
"""What was said before these was overcome: an export that is read had its log-in."""
END_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.3

AN_ERROR: Final = re.compile(r"error|VixDiskLib|failed|cannot", re.IGNORECASE)


@dataclass(frozen=True)
class Meaning:
    """What a line of the log means.

    Attributes:
        shows: found in the log, case ignored.
        kind: the error's class.
        what: the error's text; `{disk}` and `{host}` are filled in.
        retry_helps: the same call may succeed a moment later.
    """

    shows: re.Pattern[str]
    kind: type[XmsError]
    what: str
    means: str = ""
    do: str = ""
    retry_helps: bool = False


def _shows(*expressions: str) -> re.Pattern[str]:
    return re.compile("|".join(expressions), re.IGNORECASE)


GOES_ON: Final = "the sync goes on from its last checkpoint when it is tried again"

MEANINGS: Final = (
    Meaning(
        _shows("cannot open filter", "could not find filter", r"nbdkit-[\w-]+-filter.*no such file"),
        ProgramMissing,
        "this worker's nbdkit lacks a filter",
        do="install nbdkit's filters, 1.30 or newer; where one has no retry-request, set transport.retry_filter",
    ),
    Meaning(
        _shows(
            "cannot open shared object",
            r"could not (?:find|open) plugin",
            "cannot open plugin",
            r"nbdkit-\w+-plugin.*no such file",
            r"plugin.*is (?:not|missing)",
            r"required VDDK symbol",
            r"realpath: .*no such file",
            r"libvixDiskLib.*(?:no such file|not found)",
        ),
        ProgramMissing,
        "this worker cannot read VMware disks",
        do="install nbdkit's VDDK plugin and VMware's VDDK; configure transport.plugin and transport.libdir",
    ),
    Meaning(
        _shows(
            "incorrect user ?name",
            "invalid ?login",
            "cannot complete login",
            r"wrong (?:login|password|user)",
            r"login (?:was )?refused",
            r"\b401\b",
        ),
        SourceRefusedLogin,
        "{host} refused the log-in of VDDK",
        do="correct the user name or the password file",
    ),
    Meaning(
        _shows("do not have access rights", "NoPermission", "permission to perform this operation was denied"),
        SourceForbidden,
        "the account may not read {disk}",
        do="grant it VirtualMachine.Provisioning.DiskRandomRead and DiskLease on the VM",
    ),
    Meaning(
        _shows(
            r"snapshot\S*\b.*(?:not found|no such|unknown|gone|no longer|does not exist|could not be found)",
            r"(?:no|unknown) snapshot",
            "managed ?object ?not ?found",
            "already been deleted",
            r"VixDiskLib_Open: .*a file was not found",
        ),
        SnapshotLost,
        "{disk} cannot be read: its snapshot is gone",
        means="the replica is as the last committed sync left it",
        do="nothing: the next sync takes a new snapshot",
    ),
    Meaning(
        # A mismatch of the thumbprint is the one cause that is known of VDDK's "unknown error" here (rhbz#1905772).
        _shows(
            "thumbprint",
            r"certificate.*(?:verif|fail|differ|match|trust|invalid|unknown)",
            r"(?:verify|untrusted|invalid|unknown).*certificate",
            r"VixDiskLib_Open: .*unknown error",
        ),
        SourceNotTrusted,
        "VDDK does not trust {host}",
        do="check the source's thumbprint, and which hash this VDDK release takes (transport.thumbprint_hash)",
    ),
    Meaning(
        _shows(
            "failed to allocate the requested",
            "insufficient resources",
            "ran out of",
            "out of memory",
            r"too many \w*\s*(?:connections|sessions)",
            "vmware-authd socket",
        ),
        TransportFailed,
        "{disk} cannot be read: its ESXi host has no NFC connection or memory left",
        means=GOES_ON,
        do="copy fewer disks of this host at a time (worker.streams), end other backups of it, or raise its NFC limits",
        retry_helps=True,
    ),
    Meaning(
        _shows("failed to lock the file", "already in use", r"\bis locked\b", "already locked"),
        TransportFailed,
        "{disk} cannot be read: another program holds its lock",
        means=GOES_ON,
        do="see which backup reads this VM; the lock of a worker that was killed goes away after some minutes",
        retry_helps=True,
    ),
    Meaning(
        _shows(
            "connection refused",
            "server refused connection",
            "no route to host",
            "network is unreachable",
            "host is down",
            "name or service not known",
            "host ?name lookup",
            "timed out",
            "failed to connect to (?:server|peer)",
            "cannot connect to host",
            "host connection has been lost",
        ),
        SourceUnreachable,
        "{disk} cannot be read: its host is not reached",
        means=GOES_ON,
        do="any ESXi host may serve a disk: the worker has to resolve and reach all of them on TCP 443 and 902",
        retry_helps=True,
    ),
)
"""The first one that the log shows counts: what is told exactly stands before what others say, too."""


class NbdkitLog:
    """The last lines of a process's standard error, read as they come, so that it never waits for us.

    Args:
        process: started with `stderr=PIPE`.
        secret: replaced wherever it should ever appear.
    """

    def __init__(self, process: subprocess.Popen[bytes], *, secret: SecretStr) -> None:
        self._process = process
        self._secret = secret.get_secret_value()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reader = threading.Thread(target=self._read, name="nbdkit-log", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def close(self) -> None:
        """Wait for the end of the log; the process has to have ended."""
        self._reader.join(END_SECONDS)

    def text(self) -> str:
        """What was said so far; all of it when the process has ended."""
        # A client sees a failure a moment before its reason is read here.
        self._reader.join(END_SECONDS if self._process.poll() is not None else SETTLE_SECONDS)
        return "\n".join(self._lines)

    def so_far(self) -> str:
        """What was read of it by now, without waiting for more."""
        return "\n".join(tuple(self._lines))

    def _read(self) -> None:
        if self._process.stderr is None:
            return
        with self._process.stderr as stream:
            while line := stream.readline(LINE_BYTES):
                self._lines.append(line.decode(errors="replace").rstrip().replace(self._secret, "(password)"))


def explain(failure: TransportFailed, log: str, *, vm: str, host: str) -> XmsError:
    """The error that the log tells of, or the same failure with the log's last errors.

    Args:
        failure: what the client saw.
        log: nbdkit's, without secrets.
        vm: the VM's name.
        host: the source's address.
    """
    told = [line for line in log.splitlines() if AN_ERROR.search(line)][-TOLD_LINES:]
    because = "; ".join([*told, failure.because]) if told else failure.because
    meaning = _meaning(log)
    if meaning is None:
        return TransportFailed(f"the disk of {vm} cannot be read: {failure.what}", because=because, means=GOES_ON)
    what = meaning.what.format(disk=f"the disk of {vm}", host=host)
    return meaning.kind(what, because=because, means=meaning.means, do=meaning.do)


def no_retry_helps(log: str) -> bool:
    """Whether what the log tells of would be the same a moment later. A wrong password must not be repeated at all."""
    meaning = _meaning(log)
    return meaning is not None and not meaning.retry_helps


def _meaning(log: str) -> Meaning | None:
    recent = "\n".join(log.splitlines()[-RECENT_LINES:])
    return next((meaning for meaning in MEANINGS if meaning.shows.search(recent)), None)

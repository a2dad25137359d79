"""What nbdkit and VDDK say about themselves, kept within bounds, and what it means."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import deque
from typing import Final

from pydantic import SecretStr

from xms.errors import (
    ProgramMissing,
    SnapshotLost,
    SourceNotTrusted,
    SourceRefusedLogin,
    SourceUnreachable,
    TransportFailed,
    XmsError,
)

KEPT_LINES: Final = 200
LINE_BYTES: Final = 2000
TOLD_LINES: Final = 3
END_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.3

REFUSED_LOGIN: Final = re.compile(
    r"incorrect user ?name|invalid ?login|cannot complete login|wrong (?:login|password|user)|login (?:was )?refused"
    r"|\b401\b",
    re.IGNORECASE,
)
NOT_TRUSTED: Final = re.compile(r"thumbprint|certificate", re.IGNORECASE)
LOST_SNAPSHOT: Final = re.compile(
    r"snapshot\S*\b.*(?:not found|no such|unknown|gone|no longer|does not exist|could not be found)"
    r"|(?:no|unknown) snapshot"
    r"|managed ?object ?not ?found|already been deleted",
    re.IGNORECASE,
)
UNREACHABLE: Final = re.compile(
    r"connection refused|no route to host|host is down|name or service not known|timed out", re.IGNORECASE
)
NO_PLUGIN: Final = re.compile(
    r"cannot open shared object|libvixDiskLib|could not (?:find|open) plugin|cannot open plugin"
    r"|nbdkit-\w+-plugin.*no such file|plugin.*is (?:not|missing)",
    re.IGNORECASE,
)
AN_ERROR: Final = re.compile(r"error|VixDiskLib|failed|cannot", re.IGNORECASE)


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
    what = f"the disk of {vm} cannot be read: {failure.what}"
    if NO_PLUGIN.search(log):
        return ProgramMissing(
            "this worker cannot read VMware disks",
            because=because,
            do="install nbdkit's VDDK plugin and VMware's VDDK; configure transport.plugin and transport.libdir",
        )
    if REFUSED_LOGIN.search(log):
        return SourceRefusedLogin(
            f"{host} refused the log-in of VDDK", because=because, do="correct the user name or the password file"
        )
    if LOST_SNAPSHOT.search(log):
        return SnapshotLost(
            what, because=because, means="the replica is as the last committed sync left it; the next one goes on"
        )
    if NOT_TRUSTED.search(log):
        return SourceNotTrusted(
            f"VDDK does not trust {host}",
            because=because,
            do="check the source's thumbprint, and which hash this VDDK release takes (transport.thumbprint_hash)",
        )
    if UNREACHABLE.search(log):
        return SourceUnreachable(
            what,
            because=because,
            do="any ESXi host may serve a disk: the worker has to resolve and reach all of them on TCP 443 and 902",
        )
    return TransportFailed(
        what, because=because, means="the sync goes on from its last checkpoint when it is tried again"
    )

"""Signs of life that a worker looks for itself: a TCP port, an answer to a ping, a command of the operator's.

Nothing here asks the cloud. Each look is short, and says what it saw; `xms.openstack.evidence` looks again and again.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from xms import programs
from xms.config import EvidenceConfig
from xms.cutover import Evidence
from xms.errors import BadInput, OutOfSight, ProgramMissing
from xms.evidence import described, last_lines, needs_address, refuse_unusable
from xms.models import Nic
from xms.pulse import Pulse

CONNECT_SECONDS: Final = 3.0
PING_SECONDS: Final = 2
KEPT_BYTES: Final = 4096
"""The end of a program's output; of all else nothing is kept, however much it says."""

LAST_LINES: Final = 3
UNSEEN: Final = "the target was booted, and nobody has seen yet whether it works"

DISCARD_PORT: Final = 9
"""A datagram socket that is connected to it sends nothing; the kernel looks up the route."""


class Sign(Protocol):
    """One sign of life that is awaited.

    Attributes:
        name: what is awaited, as people read it.
        last: what the last look came to that did not see it.
    """

    name: str
    last: str

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """Look once, for `seconds` at most.

        Returns:
            What was seen, in one line; None where nothing was.

        Raises:
            OutOfSight: this worker lacks what it takes to look.
        """
        ...


class TcpSign:
    """One of the target's addresses accepts a connection. Nothing is sent, and nothing read."""

    def __init__(self, evidence: Evidence, addresses: Sequence[str], port: int) -> None:
        self.name = described(evidence)
        self.last = "the target has no address" if not addresses else "not tried"
        self._addresses = addresses
        self._port = port

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """Try each address in turn."""
        found = []
        for address in self._addresses:
            pulse()
            try:
                with socket.create_connection((address, self._port), timeout=min(CONNECT_SECONDS, seconds)):
                    return f"tcp: port {self._port} of {address} accepts connections"
            except OSError as error:
                found.append(f"{address}: {_reason(error)}")
        self.last = "; ".join(found) or self.last
        return None


class PingSign:
    """One of the target's addresses answers the system's `ping`, which needs no privilege of the worker."""

    def __init__(self, evidence: Evidence, addresses: Sequence[str]) -> None:
        self.name = described(evidence)
        self.last = "the target has no address" if not addresses else "not tried"
        self._addresses = addresses

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """One packet to each address in turn."""
        found = []
        for address in self._addresses:
            argv = ["ping", "-c", "1", "-W", str(PING_SECONDS), address]
            status, lines = _ran(argv, pulse, max(seconds, PING_SECONDS + 1.0), {})
            if status == 0:
                return f"ping: {address} answers"
            # 1 is no answer; with 2 ping says what hinders it: no route, no right.
            found.append(f"{address}: {'no answer' if status == 1 else lines[-1] if lines else f'exit code {status}'}")
        self.last = "; ".join(found) or self.last
        return None


class CommandSign:
    """A command of the operator's ends with exit code 0.

    Args:
        evidence: which one.
        config: of this worker, with its command line.
        environment: what tells it where to look.
    """

    def __init__(self, evidence: Evidence, config: EvidenceConfig, environment: Mapping[str, str]) -> None:
        self.name = described(evidence)
        self.last = "not run"
        self._command = evidence.command
        self._argv = config.commands.get(evidence.command)
        self._seconds = config.command_seconds
        self._environment = environment

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """Run it once."""
        if self._argv is None:
            raise OutOfSight(
                f"this worker has no command '{self._command}'",
                because="its configuration does not name it in [evidence.commands], another worker's did",
                means=UNSEEN,
                do="give all workers the same commands",
            )
        limit = min(self._seconds, seconds)
        status, lines = _ran(self._argv, pulse, limit, self._environment)
        said = " | ".join(lines)
        if status == 0:
            return f"command {self._command}: {said or 'exit code 0'}"
        outcome = _outcome(status, limit)
        self.last = f"{outcome}: {said}" if said else outcome
        return None


def sign_of(
    evidence: Evidence, addresses: Sequence[str], config: EvidenceConfig, environment: Mapping[str, str]
) -> Sign:
    """How a worker looks for it.

    Args:
        evidence: what is awaited; the console's is not a worker's.
        addresses: of the target's ports, for what names none itself.
        config: of this worker.
        environment: of a command.
    """
    places = (evidence.address,) if evidence.address else addresses
    match evidence.kind:
        case "tcp" if evidence.port is not None:
            return TcpSign(evidence, places, evidence.port)
        case "ping":
            return PingSign(evidence, places)
        case "command":
            return CommandSign(evidence, config, environment)
        case _:
            # The doors refuse it; an order that came by another way is refused here.
            refuse_unusable((evidence,))
            raise BadInput(f"evidence {described(evidence)} is none that a worker looks for")


def refuse_impossible(awaited: Sequence[Evidence], config: EvidenceConfig, nics: Sequence[Nic], worker: str) -> None:
    """Refuse what this worker could never see, before the source is touched.

    Args:
        awaited: what the order asks for.
        config: of this worker.
        nics: of the target.
        worker: its name, for the text.

    Raises:
        BadInput: a kind or value that cannot be, an unknown command, a look at addresses that there are none of, or
            an address that this worker has no route to.
        ProgramMissing: ping, or a command's program, is not installed on this worker.
    """
    refuse_unusable(awaited)
    for evidence in awaited:
        what = f"evidence {described(evidence)} cannot be seen"
        if needs_address(evidence) and not nics:
            raise BadInput(
                what,
                because="the target gets no port: the VM has no NIC",
                do=f"name an address, as in {evidence.kind},address=ADDRESS, or take evidence by the console",
            )
        if evidence.address and _is_out_of_reach(evidence.address):
            raise BadInput(
                what,
                because=f"worker {worker} has no route to {evidence.address}",
                do="give the worker a route, or take evidence by the console",
            )
        if evidence.kind == "command" and evidence.command not in config.commands:
            known = ", ".join(sorted(config.commands)) or "none"
            raise BadInput(
                what,
                because=f"the commands of worker {worker} are: {known}",
                do="take one of them, or add it to [evidence.commands] of every worker's configuration",
            )
        for program in _programs(evidence, config):
            if shutil.which(program) is None:
                raise ProgramMissing(
                    what,
                    because=f"worker {worker} has no program '{program}' on its PATH",
                    do="install it there (ping: package iputils-ping)",
                )


def _programs(evidence: Evidence, config: EvidenceConfig) -> tuple[str, ...]:
    match evidence.kind:
        case "ping":
            return ("ping", "setpriv")
        case "command":
            return (config.commands[evidence.command][0], "setpriv")
        case _:
            return ()


def _is_out_of_reach(address: str) -> bool:
    """Whether the kernel has no route at all; that a packet arrives, or that an answer does, nobody knows before."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as route:
            route.connect((address, DISCARD_PORT))
    except OSError as error:
        return error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return False


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    text = (error.strerror or str(error)).lower()
    return f"{text} (this worker has no route)" if error.errno == errno.ENETUNREACH else text


# --- programs ---------------------------------------------------------------------------------------------------------


def _ran(
    argv: Sequence[str], pulse: Pulse, seconds: float, environment: Mapping[str, str]
) -> tuple[int | None, list[str]]:
    """The exit status, None where the time was over, and the last lines of what it said."""
    status: int | None = None
    with _tail() as tail:
        try:
            status = programs.run(argv, output=tail.path, pulse=pulse, timeout=seconds, environment=environment)
        except programs.TookTooLong:
            status = None
        except ProgramMissing as missing:
            raise OutOfSight(
                missing.what, because="it is not on this worker's PATH", means=UNSEEN, do=missing.do
            ) from missing
    return status, tail.lines


def _outcome(status: int | None, seconds: float) -> str:
    if status is None:
        return f"not finished after {seconds:.0f} s"
    return f"exit code {status}" if status >= 0 else f"ended by signal {-status}"


class _Tail:
    """Takes what a program writes, and keeps the end of it: a pipe, so that nothing fills up."""

    def __init__(self, reading: int, writing: int) -> None:
        self.path = Path(f"/dev/fd/{writing}")
        self._reading = reading
        self._kept = b""
        self._over = threading.Event()

    @property
    def lines(self) -> list[str]:
        """The last of them."""
        return last_lines(self._kept.decode(errors="replace"), LAST_LINES)

    def collect(self) -> None:
        while True:
            over = self._over.is_set()
            if select.select([self._reading], [], [], 0 if over else 0.1)[0]:
                self._kept = (self._kept + os.read(self._reading, 1 << 16))[-KEPT_BYTES:]
            # What the program left running may go on writing: nobody reads it after the program's end.
            if over:
                return

    def end(self) -> None:
        self._over.set()


@contextmanager
def _tail() -> Iterator[_Tail]:
    reading, writing = os.pipe()
    tail = _Tail(reading, writing)
    thread = threading.Thread(target=tail.collect, name="tail", daemon=True)
    thread.start()
    try:
        yield tail
    finally:
        tail.end()
        thread.join()
        os.close(writing)
        os.close(reading)

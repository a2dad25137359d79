"""Whether a booted target works: it stays ACTIVE, and gives every sign of life that the order asks for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from xms.config import EvidenceConfig
from xms.cutover import Evidence, awaited_of
from xms.errors import TargetNotFound, TargetRejected
from xms.evidence import LONGEST_LINE, described, last_lines, plain
from xms.models import Model
from xms.openstack import servers
from xms.openstack.cloud import Cloud
from xms.orders.target import SeenRunning, SeeRunning
from xms.pulse import Pulse
from xms.signs import Sign, sign_of

STEADY_SECONDS: Final = 10.0
"""How long a server without a console has to stay ACTIVE to count as running, where nothing is asked for."""

SHORTEST_LOOK: Final = 1.0
"""Seconds that a look has at least, however little is left."""


def see_running(
    cloud: Cloud, order: SeeRunning, pulse: Pulse, config: EvidenceConfig | None = None, worker: str = ""
) -> SeenRunning:
    """Wait until every sign that the order asks for was seen, each once, of a server that is ACTIVE all the while.

    Where it asks for none, the console has any output, or, where there is no console, the server stays ACTIVE for ten
    seconds.

    Args:
        cloud: the target project.
        order: which server, which signs, how long.
        pulse: shown while it waits.
        config: this worker's commands.
        worker: its name: what it does not see, another one might.

    Raises:
        BootFailed: not all was seen in time, or the server is no longer ACTIVE.
        TargetRejected: a regular expression is none.
        OutOfSight: this worker lacks what it takes to look.
        BadInput: a kind of evidence that cannot be had.
    """
    server_id = order.server.server_id or _the_server(cloud, order.server.target.job_id)
    signs = _signs(cloud, server_id, order, config or EvidenceConfig())
    awaited, seen = list(signs), dict[str, str]()
    end = time.monotonic() + order.timeout_seconds
    watch = _watch(cloud, server_id, pulse)

    def look() -> bool | None:
        _refuse_inactive(cloud, server_id)
        for sign in tuple(awaited):
            answer = sign.look(watch, max(SHORTEST_LOOK, end - time.monotonic()))
            if answer is not None:
                seen[sign.name] = answer
                awaited.remove(sign)
        if awaited:
            return None
        _refuse_inactive(cloud, server_id)
        return True

    if cloud.wait_for(look, timeout=order.timeout_seconds, pulse=pulse) is None:
        missing = ", ".join(sign.name for sign in awaited)
        lines = [f"{sign.name}: {seen.get(sign.name) or f'not seen, last: {sign.last}'}" for sign in signs]
        if any(not isinstance(sign, _OfServer) for sign in awaited):
            lines.append(f"looked for from worker {worker or 'without a name'}")
        raise servers.boot_failure(
            cloud,
            servers.get(cloud, server_id),
            f"instance {server_id} gave no evidence of a running guest within {order.timeout_seconds} s: {missing}",
            found="\n".join(lines),
        )
    return SeenRunning(evidence="; ".join(seen[sign.name] for sign in signs))


def _signs(cloud: Cloud, server_id: str, order: SeeRunning, config: EvidenceConfig) -> list[Sign]:
    awaited = awaited_of(order.evidence, order.console_evidence)
    environment = {
        "XMS_SERVER_ID": server_id,
        "XMS_ADDRESSES": " ".join(order.addresses),
        "XMS_VM": order.vm,
        "XMS_JOB": order.server.target.job_id,
    }
    signs: list[Sign] = [
        ConsoleSign(cloud, server_id, evidence)
        if evidence.kind == "console"
        else sign_of(evidence, order.addresses, config, environment)
        for evidence in awaited
    ]
    return signs or [AnySign(cloud, server_id)]


def _the_server(cloud: Cloud, job_id: str) -> str:
    found = servers.of_job(cloud, job_id)
    if not found:
        raise TargetNotFound(f"job {job_id} has no instance")
    return str(found[0].id)


def _refuse_inactive(cloud: Cloud, server_id: str) -> None:
    server = servers.get(cloud, server_id)
    if server.status != "ACTIVE":
        raise servers.boot_failure(cloud, server, f"instance {server_id} is {server.status} instead of ACTIVE")


def _watch(cloud: Cloud, server_id: str, pulse: Pulse) -> Pulse:
    """A pulse of looks that take their time: meanwhile, too, a server that is no longer ACTIVE ends all at once."""
    looked_at = time.monotonic()

    def watch(detail: Model | None = None) -> None:
        nonlocal looked_at
        pulse(detail)
        if time.monotonic() - looked_at >= cloud.poll_seconds:
            _refuse_inactive(cloud, server_id)
            looked_at = time.monotonic()

    return watch


class _OfServer:
    """A sign that the cloud tells, so that it is the same from every worker."""

    name: str
    last: str

    def __init__(self, cloud: Cloud, server_id: str) -> None:
        self._console: Callable[[], str] = lambda: servers.console(cloud, server_id)


class ConsoleSign(_OfServer):
    """A line of the console matches a regular expression, as the guest sent it or as a terminal shows it.

    Raises:
        TargetRejected: it is none.
    """

    def __init__(self, cloud: Cloud, server_id: str, evidence: Evidence) -> None:
        super().__init__(cloud, server_id)
        self.name = described(evidence)
        self.last = "not read"
        try:
            self._wanted = re.compile(evidence.pattern)
        except re.error as error:
            raise TargetRejected(f"'{evidence.pattern}' is no regular expression", because=str(error)) from error

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """Read its end."""
        del pulse, seconds
        lines = self._console().splitlines()
        line = next((line for line in lines if self._wanted.search(line) or self._wanted.search(plain(line))), None)
        self.last = f"none of its last {len(lines)} lines matches" if lines else "it is empty"
        return None if line is None else f"console: {plain(line)[:LONGEST_LINE]}"


class AnySign(_OfServer):
    """Anything on the console, or a server without one that does not fall over."""

    def __init__(self, cloud: Cloud, server_id: str) -> None:
        super().__init__(cloud, server_id)
        self.name = "any sign of life"
        self.last = "its console is empty"
        self._began = time.monotonic()

    def look(self, pulse: Pulse, seconds: float) -> str | None:
        """Read its end."""
        del pulse, seconds
        lines = last_lines(self._console(), 1)
        if lines:
            return f"ACTIVE, console: {lines[-1]}"
        if time.monotonic() - self._began >= STEADY_SECONDS:
            return f"ACTIVE for {STEADY_SECONDS:.0f} s, without a console"
        return None

"""The calls of a step, told apart by name, and what may be done to one of them. Belongs to the worker's process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import requests.adapters

from tests.target_killed import late_call

ID: Final = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")
QUESTIONS: Final = ("GET", "HEAD")
LATE_SECONDS: Final = 0.8
SETTLED_SECONDS: Final = 0.2
CONSOLE: Final = "os-getConsoleOutput"


class Blow(StrEnum):
    """What happens at a call."""

    KILLED_BEFORE = "killed before the call is sent"
    KILLED_AFTER = "killed after the cloud has done what was asked, without its answer"
    CUT_AFTER = "the connection breaks after the cloud has done what was asked"
    LATE = "the connection breaks, and the cloud does what was asked when it was asked again already"
    UNAVAILABLE = "the cloud answers 503 instead of doing it"

    @property
    def kills(self) -> bool:
        return self in (Blow.KILLED_BEFORE, Blow.KILLED_AFTER)

    @property
    def at_questions(self) -> bool:
        """Whether it is something of its own where the call only asks.

        Killed before a question is killed after the call before it; a question that is not answered is the same
        whether the cloud or the connection failed, and does nothing when it comes late.
        """
        return self in (Blow.KILLED_AFTER, Blow.UNAVAILABLE)


@dataclass(frozen=True)
class Point:
    """One call of a step: its method and path without ids, and which of those that look the same."""

    call: str
    occurrence: int

    @property
    def changes(self) -> bool:
        """Whether it asks the cloud to change something of the job's; a token is nothing of a job."""
        return not self.call.startswith(QUESTIONS) and not self.call.endswith((CONSOLE, "/auth/tokens"))

    def __str__(self) -> str:
        return f"{self.call} #{self.occurrence}"


@dataclass
class Calls:
    """Counts the calls of a step, and strikes at one of them.

    A question that is asked again, without any change between, is the turn of a loop that waits, and no new point: how
    often it turns is chance.
    """

    points: list[Point] = field(default_factory=list)
    blow: Blow | None = None
    at: Point | None = None
    struck: bool = False
    late: subprocess.Popen[str] | None = None
    _asked: set[str] = field(default_factory=set)
    _seen: Counter[str] = field(default_factory=Counter)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, blow: Blow | None, at: Point | None) -> None:
        """A step begins, at one of whose calls something is to happen."""
        self.points, self.blow, self.at, self.struck = [], blow, at, False
        self._asked, self._seen = set(), Counter()

    def wait_for_late(self) -> None:
        """Until the call that comes late has been answered, and the cloud has done what it does in a while."""
        if self.late is not None:
            if self.late.wait() != 0:
                raise AssertionError("the late call was not sent")
            self.late = None
            time.sleep(SETTLED_SECONDS)

    def strikes(self, request: requests.PreparedRequest) -> bool:
        """Whether this call is the one; counts it."""
        call, changes = name_of(request)
        with self._turn:
            asked = f"{request.method} {request.url}"
            if asked in self._asked:
                return False
            if changes:
                self._asked.clear()
            else:
                self._asked.add(asked)
            self._seen[call] += 1
            point = Point(call, self._seen[call])
            self.points.append(point)
            if self.struck or point != self.at:
                return False
            self.struck = True
            return True


def name_of(request: requests.PreparedRequest) -> tuple[str, bool]:
    """The call's name, and whether it may change anything."""
    path = ID.sub("{id}", urlsplit(str(request.url)).path)
    method = str(request.method)
    action = ""
    if method == "POST" and path.endswith("/action") and request.body:
        action = next(iter(json.loads(_body(request))))
        path = f"{path} {action}"
    return f"{method} {path}", method not in QUESTIONS and action != CONSOLE


def _body(request: requests.PreparedRequest) -> str:
    body = request.body or ""
    if not isinstance(body, str | bytes):
        raise TypeError(f"{request.url} has a body that comes in pieces")
    return body if isinstance(body, str) else body.decode()


def die() -> None:
    """As `kill -9` does it: nothing of this process runs after it."""
    os.kill(os.getpid(), signal.SIGKILL)


def watch(calls: Calls) -> None:
    """Let every HTTP call of this process go through `calls`."""
    send = requests.adapters.HTTPAdapter.send

    def watched(
        adapter: requests.adapters.HTTPAdapter,
        request: requests.PreparedRequest,
        *arguments: Any,  # noqa: ANN401 - requests' own
        **named: Any,  # noqa: ANN401 - the same
    ) -> requests.Response:
        if not calls.strikes(request):
            return send(adapter, request, *arguments, **named)
        if calls.blow is Blow.KILLED_BEFORE:
            die()
        if calls.blow is Blow.UNAVAILABLE:
            return _unavailable(request)
        if calls.blow is Blow.LATE:
            calls.late = _send_later(request)
            raise _broken(request)
        response = send(adapter, request, *arguments, **named)
        if calls.blow is Blow.KILLED_AFTER:
            die()
        response.close()
        raise _broken(request)

    requests.adapters.HTTPAdapter.send = watched  # type: ignore[method-assign,assignment]


def _broken(request: requests.PreparedRequest) -> requests.exceptions.ConnectionError:
    return requests.exceptions.ConnectionError(
        "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
        request=request,
    )


def _send_later(request: requests.PreparedRequest) -> subprocess.Popen[str]:
    # A process of its own, since this one's worker goes on meanwhile, on its only connection to the cloud.
    late = subprocess.Popen([sys.executable, "-S", late_call.__file__], stdin=subprocess.PIPE, text=True)
    if late.stdin is None:
        raise AssertionError("a program with a pipe has none")
    with late.stdin as pipe:
        json.dump(
            {
                "seconds": LATE_SECONDS,
                "method": request.method,
                "url": request.url,
                "headers": dict(request.headers),
                "body": _body(request),
            },
            pipe,
        )
    return late


def _unavailable(request: requests.PreparedRequest) -> requests.Response:
    answer = requests.Response()
    answer.status_code, answer.reason, answer.url, answer.request = (
        503,
        "Service Unavailable",
        str(request.url),
        request,
    )
    answer._content = b"<html><body><h1>503 Service Unavailable</h1></body></html>"
    answer.headers["Content-Type"] = "text/html"
    return answer

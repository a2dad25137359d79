"""What the client asks again by itself, and what it never does.

It asks again, with growing pauses and for `seconds` at most, where the cloud did not answer or asks to wait:

- Nothing was done with the call: no connection came about, or the answer was 429 or 503. Any call is asked again.
- It is not known whether anything was done: 500, 502, 504 and their like, or the connection broke, or no answer came
  in time. A call that does the same when it is done twice is asked again (GET, HEAD, PUT, DELETE, and a log-in). Any
  other POST, and a PATCH, is not: it may have made something, and would make another one. It fails, and the next
  attempt of the activity FINDS what was made: activities look for what an earlier attempt left before they make
  anything. Nova's and Cinder's actions are POSTs, too.

All other answers are final: 2xx and 3xx, 501, and every other 4xx, a quota's 413 among them. A 401 is keystoneauth's
own: it logs in again, once, and repeats the call. A service that says how long to wait (Retry-After) is waited for so
long, or given up at once where that is longer than the time that is left.

A DELETE that is asked again may find nothing any more: whoever deletes has to take 404 for a success.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

import requests
import tenacity
import urllib3.exceptions
from keystoneauth1.session import TCPKeepAliveAdapter

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0

REFUSED_UNSEEN: Final = frozenset({429, 503})
"""Statuses by which a service, or a proxy before it, says that it did not take the call up."""
NOT_IMPLEMENTED: Final = 501
SERVER_ERRORS: Final = range(500, 600)
SAME_WHEN_DONE_TWICE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
LOG_IN: Final = "/auth/tokens"


class RepeatingAdapter(TCPKeepAliveAdapter):
    """Sends calls by the rule of this module.

    Args:
        seconds: how long one call is asked again at most, counted from its first try; the answer to the last try may
            take the call's time limit longer.
        rest: sleeps; may raise, which ends the call.
    """

    def __init__(self, seconds: float, rest: Callable[[float], None] = time.sleep) -> None:
        super().__init__()
        self._seconds = seconds
        self._rest = rest
        self._local = threading.local()

    @contextmanager
    def asked_once(self) -> Iterator[None]:
        """Ask nothing again on this thread: for calls that a later answer makes worthless."""
        before = getattr(self._local, "once", False)
        self._local.once = True
        try:
            yield
        finally:
            self._local.once = before

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - requests' own
        """Send a call, and again where the rule says so.

        Raises:
            requests.exceptions.RequestException: the last try had no answer.
        """
        if getattr(self._local, "once", False):
            return self._answer(request, *args, **kwargs)
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(partial(_may_ask_again, request))
            | tenacity.retry_if_result(partial(_should_ask_again, request)),
            stop=tenacity.stop_before_delay(self._seconds),
            wait=_pause,
            sleep=self._rest,
            before_sleep=partial(_tell, request),
            retry_error_callback=_last_answer,
        )
        response: requests.Response = tries(self._answer, request, *args, **kwargs)
        return response

    def _answer(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - requests' own
        response = super().send(request, *args, **kwargs)
        logger.debug("%s %s: HTTP %s, request %s", request.method, _path(request), *_outcome(response))
        if not (args[0] if args else kwargs.get("stream", False)):
            # The body is part of the answer: a connection that breaks in the middle of it is found here.
            response.content  # noqa: B018 - a property that reads
        return response


def _same_when_done_twice(request: requests.PreparedRequest) -> bool:
    return request.method in SAME_WHEN_DONE_TWICE or _path(request).endswith(LOG_IN)


def _should_ask_again(request: requests.PreparedRequest, response: requests.Response) -> bool:
    status = response.status_code
    if status in REFUSED_UNSEEN:
        return True
    return status in SERVER_ERRORS and status != NOT_IMPLEMENTED and _same_when_done_twice(request)


def _may_ask_again(request: requests.PreparedRequest, error: BaseException) -> bool:
    broken = (
        requests.exceptions.ConnectionError,
        requests.exceptions.Timeout,
        requests.exceptions.ChunkedEncodingError,
    )
    if not isinstance(error, broken) or isinstance(error, requests.exceptions.SSLError):
        return False
    return _never_connected(error) or _same_when_done_twice(request)


def _never_connected(error: BaseException) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", cause), urllib3.exceptions.NewConnectionError)


_growing = tenacity.wait_exponential(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS) + tenacity.wait_random(
    0, FIRST_PAUSE_SECONDS
)


def _pause(state: tenacity.RetryCallState) -> float:
    """What the service asks for; never less than the growing pause, so that a 0 does not become a storm."""
    growing = _growing(state)
    outcome = state.outcome
    if outcome is None or outcome.failed:
        return growing
    return max(growing, retry_after(outcome.result().headers.get("Retry-After", "")))


def retry_after(header: str) -> float:
    """Seconds that a Retry-After header asks to wait, given in seconds or as a date; 0 where it says nothing."""
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())


def _tell(request: requests.PreparedRequest, state: tenacity.RetryCallState) -> None:
    outcome = state.outcome
    if outcome is None:
        return
    if outcome.failed:
        because = f"no answer ({type(outcome.exception()).__name__})"
    else:
        because = "HTTP {}, request {}".format(*_outcome(outcome.result()))
    logger.warning("%s %s: %s; asked again in %.1f s", request.method, _path(request), because, state.upcoming_sleep)


def _outcome(response: requests.Response) -> tuple[int, str]:
    headers = response.headers
    request_id = headers.get("x-openstack-request-id") or headers.get("x-compute-request-id") or "none"
    return response.status_code, request_id


def _path(request: requests.PreparedRequest) -> str:
    return (request.path_url or "").partition("?")[0]


def _last_answer(state: tenacity.RetryCallState) -> requests.Response:
    if state.outcome is None:
        raise AssertionError("a call was given up that was never made")
    response: requests.Response = state.outcome.result()
    return response

"""Trouble with single calls, as a proxy before the services or the network makes it: `CallTrouble`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from lab.cloud.faults import Faults


@dataclass(frozen=True)
class CallTrouble:
    """What goes wrong with the calls that it fits.

    Attributes:
        method: the HTTP method; empty: any.
        path: a regular expression that the path has to contain; empty: any.
        status: the answer in place of the service's own; None: the service's.
        retry_after: the answer's Retry-After header; empty: none.
        breaks: closes the connection in place of an answer, before anything is done, or after the work was done.
        seconds: how long it takes before anything happens.
        done: the work is done, though `status` is answered: a proxy that lost the service's answer.
    """

    method: str = ""
    path: str = ""
    status: int | None = None
    retry_after: str = ""
    breaks: Literal["", "before the work", "after the work"] = ""
    seconds: float = 0.0
    done: bool = False

    def fits(self, method: str, path: str) -> bool:
        """Whether it befalls this call."""
        return self.method in {"", method} and re.search(self.path, path) is not None


class Network:
    """Between client and services: an ASGI application around another one."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, unless trouble was ordered for it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.faults.count_call(scope["method"], scope["path"])
        trouble = self.faults.trouble_for(scope["method"], scope["path"])
        if trouble is None:
            await self.app(scope, receive, send)
            return
        await asyncio.sleep(trouble.seconds)
        if trouble.breaks == "before the work":
            await _break(receive)
        elif trouble.breaks or trouble.done:
            await self.app(scope, receive, _say_nothing)
            await (_break(receive) if trouble.breaks else _answer(trouble, send))
        elif trouble.status is not None:
            await _answer(trouble, send)
        else:
            await self.app(scope, receive, send)


async def _say_nothing(message: MutableMapping[str, Any]) -> None:
    del message


async def _break(receive: Receive) -> None:
    # Uvicorn's object for the call is the only one that knows the connection.
    receive.__self__.transport.abort()  # type: ignore[attr-defined]
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(trouble: CallTrouble, send: Send) -> None:
    headers = [(b"content-type", b"text/html")]
    if trouble.retry_after:
        headers.append((b"retry-after", trouble.retry_after.encode()))
    await send({"type": "http.response.start", "status": trouble.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"<html><body>No server is available.</body></html>"})

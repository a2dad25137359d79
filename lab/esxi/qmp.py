"""A thread-safe client of QEMU's control protocol (QMP) with events that can be waited for."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]
EventListener: TypeAlias = Callable[[str, Json], None]

ANSWER_SECONDS: Final = 60.0


class QmpError(Exception):
    """QEMU refused a command; the text holds the command and QEMU's words."""


class QmpClosedError(QmpError):
    """QEMU is gone."""


class QmpTimeoutError(QmpError):
    """An answer or an event did not come in time."""


class _Expectation:
    """One event that somebody waits for."""

    def __init__(self, name: str, match: Json) -> None:
        self.name = name
        self._match = match
        self.seen = False

    def notice(self, name: str, data: Json) -> None:
        if name == self.name and all(data.get(key) == value for key, value in self._match.items()):
            self.seen = True

    def __str__(self) -> str:
        return f"{self.name} {dict(self._match)}"


class QmpClient:
    """One end of QEMU's control connection, shared by any number of threads.

    A thread of its own reads answers and events. `listener` is called in that thread for each event before anybody who
    waits for it goes on; it must not send commands.

    Args:
        connection: the other end is QEMU's monitor. The client closes it.
        listener: is told of each event.

    Raises:
        QmpClosedError: QEMU ended before it took commands.
    """

    def __init__(self, connection: socket.socket, *, listener: EventListener | None = None) -> None:
        self._listener = listener
        self._socket = connection
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._answers: dict[int, Json] = {}
        self._expectations: list[_Expectation] = []
        self._closed = False
        self._reader = threading.Thread(target=self._read, name="qmp", daemon=True)
        self._reader.start()
        try:
            self.command("qmp_capabilities")
        except QmpError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether QEMU ended, or `close` was called."""
        with self._changed:
            return self._closed

    def command(self, name: str, arguments: Json | None = None, *, seconds: float = ANSWER_SECONDS) -> Any:  # noqa: ANN401 - each command has its own shape
        """Send a command and return what QEMU returns.

        Raises:
            QmpError: QEMU refused it.
            QmpClosedError: QEMU is gone.
            QmpTimeoutError: no answer within `seconds`.
        """
        number = next(self._numbers)
        message = json.dumps({"execute": name, "arguments": dict(arguments or {}), "id": number}) + "\n"
        with self._changed:
            try:
                self._socket.sendall(message.encode())
            except OSError as error:
                raise QmpClosedError(f"{name}: QEMU is gone ({error})") from error
            if not self._changed.wait_for(lambda: number in self._answers or self._closed, seconds):
                raise QmpTimeoutError(f"{name}: no answer within {seconds:g} s")
            answer = self._answers.pop(number, None)
        if answer is None:
            raise QmpClosedError(f"{name}: QEMU ended before it answered")
        if "error" in answer:
            raise QmpError(f"{name}: {answer['error']['desc']}")
        return answer["return"]

    @contextmanager
    def expecting(self, event: str, /, *, seconds: float = ANSWER_SECONDS, **match: object) -> Iterator[None]:
        """Run the block, then wait until an event came, since the block's start, whose data has the items of `match`.

        Underscores in names of `match` stand for QMP's hyphens.

        Raises:
            QmpTimeoutError: it did not come within `seconds` of the block's end.
            QmpClosedError: QEMU ended before.
        """
        expectation = _Expectation(event, {key.replace("_", "-"): value for key, value in match.items()})
        with self._changed:
            self._expectations.append(expectation)
        try:
            yield
            with self._changed:
                if not self._changed.wait_for(lambda: expectation.seen or self._closed, seconds):
                    raise QmpTimeoutError(f"event {expectation} did not come within {seconds:g} s")
                if not expectation.seen:
                    raise QmpClosedError(f"QEMU ended before the event {expectation}")
        finally:
            with self._changed:
                self._expectations.remove(expectation)

    def close(self) -> None:
        """Close the connection; whoever waits gets QmpClosedError. Calling it again does nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            # The peer went first, which is what is wanted.
            return
        finally:
            self._reader.join()
            self._lines.close()
            self._socket.close()

    def _read(self) -> None:
        try:
            for line in self._lines:
                self._take(json.loads(line))
        except OSError:
            # A reset connection means what an end of file means.
            return
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _take(self, message: Json) -> None:
        if "event" in message:
            name, data = message["event"], message.get("data", {})
            if self._listener is not None:
                self._listener(name, data)
            with self._changed:
                for expectation in self._expectations:
                    expectation.notice(name, data)
                self._changed.notify_all()
        elif "id" in message:
            with self._changed:
                self._answers[message["id"]] = message
                self._changed.notify_all()

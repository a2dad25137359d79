"""The real Temporal server, embedded: one process, SQLite on disk, Web UI, the search attributes registered."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Final

from lab.programs import find_program, free_port
from workflows.names import SEARCH_ATTRIBUTES

START_SECONDS: Final = 30.0

_KINDS: Final = {"KEYWORD": "Keyword", "BOOL": "Bool", "DATETIME": "Datetime"}


class TemporalServer:
    """A Temporal server of one's own, for the lab and for tests; its database outlives it in `directory`."""

    def __init__(self, directory: Path, *, port: int | None = None, ui_port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.ui_port = ui_port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What TEMPORAL_ADDRESS has to be."""
        return f"127.0.0.1:{self.port}"

    @property
    def ui_url(self) -> str:
        """The Web UI."""
        return f"http://127.0.0.1:{self.ui_port}"

    def command(self) -> list[str]:
        """The server's command line."""
        attributes = [
            f"--search-attribute={key.name}={_KINDS[key.indexed_value_type.name]}" for key in SEARCH_ATTRIBUTES
        ]
        return [
            str(find_program("temporal")),
            "server",
            "start-dev",
            f"--db-filename={self.directory / 'temporal.sqlite'}",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            f"--ui-port={self.ui_port}",
            "--log-level=error",
            *attributes,
        ]

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time; the text names its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "temporal.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the Temporal server ended with status {self.process.returncode}: see {log}")
            if answers(self.port):
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the Temporal server did not answer within {START_SECONDS:.0f} s: see {log}")

    def stop(self) -> None:
        """End the server; the database stays."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def answers(port: int) -> bool:
    """Whether somebody listens on this port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0

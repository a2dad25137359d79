"""A whole lab: the stand-ins, Temporal and a worker, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab import vddk_library
from lab.layout import PASSWORD, SOURCE, USERNAME, Layout
from lab.programs import free_port
from lab.target_side import StandIn, TargetSide
from lab.temporal_server import TemporalServer, answers

PARTS: Final = ("temporal", "vsphere", "cloud", "worker")
TEMPORAL_PORT: Final = 7233
UI_PORT: Final = 8233

START_SECONDS: Final = 600.0
"""The first start builds the guest image, which takes a few minutes where there is no KVM."""


class LabError(Exception):
    """The lab could not be brought up; the text names the part and its log."""


@dataclass(frozen=True)
class PartStatus:
    """One process of the lab."""

    name: str
    pid: int | None
    running: bool
    where: str


class Lab:
    """The lab in one directory.

    Args:
        directory: where it lives.
        cache: where the guest image is kept.
        target: another cloud than the stand-in, which is not started then.
    """

    def __init__(self, directory: Path, cache: Path, target: TargetSide | None = None) -> None:
        self.layout = Layout(directory)
        self.cache = cache
        self.target = target or StandIn(self.layout)
        self.parts = tuple(part for part in PARTS if part != "cloud" or target is None)

    # --- up -----------------------------------------------------------------------------------------------------------

    def up(self, power_on: Sequence[str], say: Callable[[str], None]) -> None:
        """Start what does not run yet, and wait until all of it is ready.

        Args:
            power_on: the VMs that start with it.
            say: told what happens, in words.

        Raises:
            LabError: a part ended or was not ready in time.
        """
        self.layout.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory := self.layout.directory).chmod(0o700)
        if not self._runs("temporal"):
            say("starting Temporal")
            self._start_temporal()
        stand_ins = " and cloud" if "cloud" in self.parts else ""
        say(f"starting the stand-in vCenter{stand_ins}" + ("" if self.cache.is_dir() else "; building the guest image"))
        self._start("vsphere", "lab.vsphere_process", str(directory), str(self.cache), *power_on)
        if "cloud" in self.parts:
            self._start("cloud", "lab.cloud_process", str(directory))
            self._wait_for("cloud")
        self._wait_for("vsphere")
        self._write_config()
        if not self._runs("worker"):
            say("starting the worker")
            self.start_worker("worker")

    def _start_temporal(self) -> None:
        server = TemporalServer(self.layout.temporal, port=free_port(TEMPORAL_PORT), ui_port=free_port(UI_PORT))
        server.start()
        if server.process is None:
            raise LabError("Temporal did not start")
        self.layout.write_note("temporal", address=server.address, ui=server.ui_url)
        self._note_pid("temporal", server.process.pid)

    def _start(self, part: str, module: str, *arguments: str) -> None:
        if self._runs(part):
            return
        self.layout.note(part).unlink(missing_ok=True)
        pid = self._spawn(part, [sys.executable, "-m", module, *arguments], os.environ.copy())
        (self.layout.directory / f"{part}.pid").write_text(str(pid))

    def _spawn(self, part: str, command: list[str], environment: dict[str, str]) -> int:
        with self.layout.log(part).open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
                cwd=Path(__file__).parent.parent,
            )
        return process.pid

    def _wait_for(self, part: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.layout.read_note(part) is not None:
                return
            if not self._runs(part):
                raise LabError(f"the lab's {part} ended: see {self.layout.log(part)}")
            time.sleep(0.1)
        raise LabError(f"the lab's {part} was not ready after {START_SECONDS:.0f} s: see {self.layout.log(part)}")

    def _write_config(self) -> None:
        """The configuration of a worker of this lab, in the form that an operator writes."""
        vsphere = self.layout.read_note("vsphere") or {}
        self.layout.password.touch(mode=0o600)
        self.layout.password.write_text(PASSWORD + "\n")
        plugin = Path(__file__).parent / "vddk_plugin.py"
        self.layout.config.write_text(f"""\
# Written by `xms lab up`: a worker of the lab.
[worker]
name = "worker"
data_dir = "{self.layout.directory / "data"}"
metrics = "127.0.0.1:{free_port(9464)}"

[sources.{SOURCE}]
host = "127.0.0.1"
port = {vsphere["port"]}
username = "{USERNAME}"
password_file = "{self.layout.password}"
thumbprint = "{vsphere["thumbprint"]}"
# The stand-in's host serves its disks where the API is.
nfc_port = {vsphere["port"]}

{self.target.configuration()}
[transport]
plugin = "python {plugin}"
libdir = "{vddk_library.make(self.layout.vddk)}"

[conversion]
# The lab's guest is small, and so may be the machine.
memory_mib = 768
""")

    def start_worker(self, part: str, *, config: Path | None = None, role: str = "all") -> int:
        """Start a worker and wait until it says that it is ready. Returns its pid.

        Raises:
            LabError: it ended.
        """
        log = self.layout.log(part)
        before = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "worker", "--config", str(config or self.layout.config), "--role", role]
        pid = self._spawn(part, command, os.environ | self.environment())
        (self.layout.directory / f"{part}.pid").write_text(str(pid))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with log.open("rb") as lines:
                lines.seek(before)
                if b"worker is ready" in lines.read():
                    return pid
            if not alive(pid):
                raise LabError(f"the {part} ended: see {log}")
            time.sleep(0.1)
        raise LabError(f"the {part} was not ready after 60 s: see {log}")

    # --- looked at ----------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """What the CLI and workers need in their environment to reach this lab."""
        temporal = self.layout.read_note("temporal") or {}
        return {
            "TEMPORAL_ADDRESS": str(temporal.get("address", "")),
            "XMS_CONFIG": str(self.layout.config),
            "XMS_LAB": str(self.layout.directory),
        }

    def status(self) -> list[PartStatus]:
        """Every part, whether it runs, and where it is reached."""
        return [PartStatus(part, self._pid(part), self._runs(part), self._where(part)) for part in self.parts]

    def _where(self, part: str) -> str:
        note: dict[str, Any] = self.layout.read_note(part) or {}
        match part:
            case "temporal":
                return f"{note.get('address', '-')}, Web UI {note.get('ui', '-')}"
            case "vsphere":
                return f"https://127.0.0.1:{note.get('port', '-')}/sdk"
            case "cloud":
                return f"{note.get('url', '-')}, clouds.yaml {self.layout.clouds}"
            case _:
                return str(self.layout.log(part))

    # --- down ---------------------------------------------------------------------------------------------------------

    def down(self, *, wipe: bool = True) -> None:
        """End every process of the lab and, unless told otherwise, remove its directory."""
        pids = sorted(self.layout.directory.glob("*.pid"), key=lambda path: "worker" not in path.name)
        for path in pids:
            stop_process(int(path.read_text()))
            path.unlink()
        for part in self.parts:
            self.layout.note(part).unlink(missing_ok=True)
        if wipe and self.layout.directory.is_dir():
            shutil.rmtree(self.layout.directory)

    def _note_pid(self, part: str, pid: int) -> None:
        (self.layout.directory / f"{part}.pid").write_text(str(pid))

    def _pid(self, part: str) -> int | None:
        try:
            return int((self.layout.directory / f"{part}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _runs(self, part: str) -> bool:
        pid = self._pid(part)
        if part == "temporal" and pid is not None:
            note = self.layout.read_note(part) or {}
            return alive(pid) and answers(int(str(note.get("address", ":0")).rsplit(":", 1)[1]))
        return pid is not None and alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
        return b"\0State:\tZ" not in b"\0" + Path(f"/proc/{pid}/status").read_bytes().replace(b"\n", b"\0")
    except (ProcessLookupError, FileNotFoundError):
        return False


def stop_process(pid: int, seconds: float = 40.0) -> None:
    """Ask a process to end, and end it when it does not."""
    if not alive(pid):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while alive(pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.05)

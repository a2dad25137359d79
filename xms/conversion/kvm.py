"""Whether KVM works here: found out by booting a kernel on it, since /dev/kvm may be there and yet hang or abort.

libguestfs takes KVM wherever it can open the device, and a conversion that hangs on it would be noticed only by its
time limit, with the source off. So a worker tries it once, when it starts.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from xms import programs

QEMU: Final = "qemu-system-x86_64"
DEVICE: Final = Path("/dev/kvm")
KERNELS: Final = Path("/boot")

BOOT_SECONDS: Final = 20.0
"""A kernel on KVM comes to its end within two seconds; on a machine that has much to do within a few more."""
MERCY_SECONDS: Final = 5.0

GUEST_MEMORY: Final = "256"
NO_ROOT: Final = "Kernel panic - not syncing"
"""What a kernel without a root file system ends with: all of it has come up by then."""


Name = Literal["kvm", "tcg"]


@dataclass(frozen=True)
class Accelerator:
    """What the conversion's appliance runs on."""

    name: Name
    because: str


class Kvm:
    """The answer for this worker, which is remembered.

    Args:
        wanted: the configuration's conversion.use_kvm.
        qemu: the program that is tried.
        device: of KVM.
        kernels: directory of the kernels to boot, the newest of which is taken, as libguestfs does.
        seconds: how long a kernel may take.
    """

    def __init__(
        self,
        wanted: Literal["auto", "always", "never"],
        *,
        qemu: str = QEMU,
        device: Path = DEVICE,
        kernels: Path = KERNELS,
        seconds: float = BOOT_SECONDS,
    ) -> None:
        self._wanted = wanted
        self._qemu = qemu
        self._device = device
        self._kernels = kernels
        self._seconds = seconds
        self._lock = threading.Lock()
        self._found: Accelerator | None = None

    def accelerator(self) -> Accelerator:
        """KVM where it works or is ordered, else TCG; the first call takes as long as a kernel boots."""
        with self._lock:
            if self._found is None:
                self._found = self._choose()
            return self._found

    def _choose(self) -> Accelerator:
        if self._wanted == "always":
            return Accelerator("kvm", "conversion.use_kvm is 'always'")
        if self._wanted == "never":
            return Accelerator("tcg", "conversion.use_kvm is 'never'")
        trouble = self._trouble()
        return Accelerator("tcg", trouble) if trouble else Accelerator("kvm", "a kernel booted on it")

    def _trouble(self) -> str:
        """Why KVM cannot be used; empty where it can."""
        try:
            os.close(os.open(self._device, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"{self._device}: {error.strerror}"
        kernels = [path for path in self._kernels.glob("vmlinuz-*") if os.access(path, os.R_OK)]
        if not kernels:
            return f"{self._device} could not be tried: there is no kernel in {self._kernels} that can be read"
        with tempfile.TemporaryDirectory(prefix="xms-kvm-") as directory:
            console = Path(directory) / "console"
            return self._boot(max(kernels, key=lambda path: path.stat().st_mtime), console)

    def _boot(self, kernel: Path, console: Path) -> str:
        machine = ["-machine", "accel=kvm", "-cpu", "max", "-m", GUEST_MEMORY, "-nodefaults", "-display", "none"]
        what = ["-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
        try:
            status, said = _ended(
                [self._qemu, *machine, *what, "-serial", f"file:{console}"], console.with_suffix(".out"), self._seconds
            )
        except OSError as error:
            return f"{self._qemu} could not be started: {error.strerror}"
        if status is None:
            return f"a kernel did not come up on it within {self._seconds:.0f} s"
        if console.exists() and NO_ROOT in console.read_text(errors="replace"):
            return ""
        return f"{self._qemu} ended with status {status} on it: {said or 'without a word'}"


def _ended(argv: Sequence[str], output: Path, seconds: float) -> tuple[int | None, str]:
    """The exit status, None where it had to be killed, and the last line that the program said."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            programs.tied_to(os.getpid(), argv),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        end = time.monotonic() + MERCY_SECONDS
        # One that the kernel does not let go of is left behind: to wait for it would be to hang as well.
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        return None, ""
    lines = output.read_text(errors="replace").split("\n")
    return process.returncode, next((line.strip() for line in reversed(lines) if line.strip()), "")

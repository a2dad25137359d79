"""An overlay over a volume: what is written goes into a file of its own until it is committed."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xms import programs
from xms.change_map import ByteRanges
from xms.errors import ConversionFailed, WriteFailed
from xms.pulse import Pulse

QUICK_SECONDS: Final = 120.0
COMMIT_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Overlay:
    """A qcow2 file whose unwritten parts are those of the volume below it."""

    path: Path

    @classmethod
    def over(cls, volume_path: str, path: Path, pulse: Pulse) -> Overlay:
        """Make a new, empty overlay. The volume is only read through it.

        Raises:
            ConversionFailed: qemu-img could not make it.
        """
        overlay = cls(path)
        path.unlink(missing_ok=True)
        overlay._run("create", "-q", "-f", "qcow2", "-b", volume_path, "-F", "raw", str(path), pulse=pulse)
        return overlay

    def written(self, volume_path: str, pulse: Pulse) -> ByteRanges:
        """What a commit changes on the volume, in whole clusters; it may be less than what was written, never more.

        A conversion trims the guest's free space. Where the volume has nothing but zeroes there already, as far as its
        holes tell, that changes nothing.

        Raises:
            ConversionFailed: qemu-img could not read one of the two.
        """
        overlay = self._map("-f", "qcow2", str(self.path), pulse=pulse)
        volume = self._map("-f", "raw", volume_path, pulse=pulse)
        holes = ByteRanges((entry["start"], entry["length"]) for entry in volume if entry["zero"])
        own = [entry for entry in overlay if entry["depth"] == 0]
        data = ByteRanges((entry["start"], entry["length"]) for entry in own if not entry["zero"])
        zeroed = ByteRanges((entry["start"], entry["length"]) for entry in own if entry["zero"])
        return data | (zeroed - holes)

    def commit(self, volume_path: str, pulse: Pulse) -> None:
        """Write what the overlay holds into the volume, and flush it.

        The overlay stays as it is, so this may be repeated.

        Args:
            volume_path: where the volume is now; it may be another path than the one that the overlay was made over.
            pulse: shown while it runs.

        Raises:
            WriteFailed: the volume did not take it; it is neither the replica nor the converted disk until it is
            repeated.
        """
        try:
            # -d keeps the overlay as it is: emptying it takes time, and it is removed at the end anyway.
            self._run("commit", "-q", "-d", self._over(volume_path), pulse=pulse, timeout=COMMIT_SECONDS)
        except (ConversionFailed, OSError) as error:
            raise WriteFailed(
                f"the conversion was not committed to {volume_path}",
                because=error.because if isinstance(error, ConversionFailed) else str(error),
                means="the volume holds part of it until the commit is repeated",
            ) from error
        try:
            _flush(volume_path)
        except OSError as error:
            raise WriteFailed(
                f"the conversion was not flushed to {volume_path}",
                because=error.strerror or "",
                means="the volume may lack part of it until the commit is repeated",
            ) from error

    def keep(self) -> None:
        """Have it survive a failure of the machine's power.

        Raises:
            OSError: the file system did not take it.
        """
        _flush(str(self.path))

    def _over(self, volume_path: str) -> str:
        """qemu-img's name of the overlay over the volume where it is now; the file itself is not changed for it."""
        driver = "host_device" if stat.S_ISBLK(Path(volume_path).stat().st_mode) else "file"
        below = {"driver": "raw", "file": {"driver": driver, "filename": volume_path}}
        own = {"driver": "qcow2", "file": {"driver": "file", "filename": str(self.path)}, "backing": below}
        return f"json:{json.dumps(own)}"

    def _map(self, *arguments: str, pulse: Pulse) -> list[dict[str, Any]]:
        answer = json.loads(self._run("map", "--output=json", *arguments, pulse=pulse))
        return list(answer)

    def _run(self, verb: str, *arguments: str, pulse: Pulse, timeout: float = QUICK_SECONDS) -> str:
        output = self.path.with_suffix(f".{verb}.out")
        try:
            status = programs.run(["qemu-img", verb, *arguments], output=output, pulse=pulse, timeout=timeout)
            text = output.read_text(errors="replace")
        except programs.TookTooLong:
            raise ConversionFailed(
                f"qemu-img {verb} of {self.path.name} did not end", because=f"it took longer than {timeout:.0f} s"
            ) from None
        except OSError as error:
            raise ConversionFailed(f"qemu-img {verb} of {self.path.name} could not run", because=str(error)) from error
        finally:
            output.unlink(missing_ok=True)
        if status != 0:
            raise ConversionFailed(f"qemu-img {verb} of {self.path.name} failed", because=text.strip())
        return text


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The main job as a newcomer runs it: a real guest, the real virt-v2v, a target that boots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.stage import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.lab, pytest.mark.timeout(1200)]


def processes_of(directory: Path) -> list[str]:
    """Command lines that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if str(directory) in words:
            found.append(words)
    return found


def test_a_running_vm_moves_and_its_target_has_every_record_that_it_fsynced(tmp_path: Path) -> None:
    directory = tmp_path / "lab"
    demo = subprocess.run(
        [sys.executable, "-m", "lab.demo", "--directory", str(directory)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    proof = [line for line in demo.stdout.splitlines() if line.startswith(("  yes  ", "  NO   "))]
    assert len(proof) == 6
    assert all(line.startswith("  yes  ") for line in proof)
    assert processes_of(directory) == []
    assert not directory.exists()

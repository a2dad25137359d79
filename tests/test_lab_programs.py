"""What the lab starts, and where that listens."""

from __future__ import annotations

import subprocess
import sys

from lab.programs import free_port


def test_a_port_that_a_lab_was_given_is_given_to_no_other_lab_that_starts_meanwhile() -> None:
    port = free_port()
    ask = f"from lab.programs import free_port; print(free_port({port}), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert int(other.stdout.readline()) == port
        assert free_port(port) != port
        other.communicate("\n")
    assert free_port(port) == port
    assert free_port(port) == port

"""KVM is used where a kernel boots on it, and nowhere else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from xms.conversion.kvm import Kvm


def a_machine(directory: Path, qemu: str, **changes: Any) -> Kvm:  # noqa: ANN401 - whatever Kvm takes
    """One with a device that opens, a kernel, and a QEMU that does what the shell text says ($console is its file)."""
    (directory / "kvm").touch()
    (directory / "vmlinuz-6.1").touch()
    program = directory / "qemu"
    program.write_text(
        f'#!/bin/sh\nfor last; do :; done\nconsole="${{last#file:}}"\necho x >> {directory}/runs\n{qemu}\n'
    )
    program.chmod(0o755)
    told: dict[str, Any] = {
        "qemu": str(program),
        "device": directory / "kvm",
        "kernels": directory,
        "seconds": 5.0,
    } | changes
    return Kvm("auto", **told)


BOOTS = "echo '[1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)' > \"$console\""


def test_kvm_is_used_where_a_kernel_comes_up_on_it(tmp_path: Path) -> None:
    found = a_machine(tmp_path, BOOTS).accelerator()
    assert (found.name, found.because) == ("kvm", "a kernel booted on it")


def test_it_is_tried_once(tmp_path: Path) -> None:
    kvm = a_machine(tmp_path, BOOTS)
    assert kvm.accelerator() is kvm.accelerator()
    assert (tmp_path / "runs").read_text() == "x\n"


@pytest.mark.parametrize(
    ("qemu", "because"),
    [
        ("echo 'Assertion failed.' >&2; kill -ABRT $$", "status -6 on it: Assertion failed."),
        ("echo 'Could not access KVM kernel module' >&2; exit 1", "status 1 on it: Could not access KVM kernel module"),
        ("echo 'Linux version 6.1' > \"$console\"", "status 0 on it: without a word"),
    ],
)
def test_where_no_kernel_comes_up_the_appliance_is_emulated(tmp_path: Path, qemu: str, because: str) -> None:
    found = a_machine(tmp_path, qemu).accelerator()
    assert found.name == "tcg"
    assert because in found.because


def test_a_kvm_that_opens_and_hangs_is_found_out(tmp_path: Path) -> None:
    began = time.monotonic()
    found = a_machine(tmp_path, "exec sleep 60", seconds=1.0).accelerator()
    assert (found.name, found.because) == ("tcg", "a kernel did not come up on it within 1 s")
    assert time.monotonic() - began < 10


def test_without_a_device_a_kernel_or_a_program_it_is_emulated(tmp_path: Path) -> None:
    assert "No such file" in a_machine(tmp_path, BOOTS, device=tmp_path / "none").accelerator().because
    assert "no kernel" in a_machine(tmp_path, BOOTS, kernels=tmp_path / "none").accelerator().because
    without = Kvm("auto", qemu=str(tmp_path / "none"), device=tmp_path / "kvm", kernels=tmp_path).accelerator()
    assert (without.name, "not found" in without.because) == ("tcg", True)


def test_the_configuration_may_decide_without_a_trial(tmp_path: Path) -> None:
    assert Kvm("always", device=tmp_path / "none").accelerator().name == "kvm"
    assert Kvm("never").accelerator().name == "tcg"


@pytest.mark.slow
def test_what_this_machine_really_does_is_found_out_in_time() -> None:
    began = time.monotonic()
    found = Kvm("auto").accelerator()
    assert time.monotonic() - began < 30
    assert found.because

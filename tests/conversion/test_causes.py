# ruff: noqa: RUF001 - its quotation marks are part of what it says
"""What virt-v2v fails with, word for word, and what the operator is told.

Those of `SEEN` were said by virt-v2v 2.2 with libguestfs 1.48 on disks and workers that were made so; the others stand
in its source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from xms.conversion.causes import TAIL_CHARACTERS, TAIL_LINES, failure, last_words, tail

UNDETECTED: Final = (
    "inspection could not detect the source guest (or physical machine).\n\nAssuming that you are running "
    "virt-v2v/virt-p2v on a source which is supported (and not, for example, a blank disk), then this should not "
    "happen.\n\n"
)
HIBERNATED: Final = (
    "unable to mount the disk image for writing. This has probably happened because Windows Hibernation or Fast "
    "Restart is being used in this guest. You have to disable this (in the guest) in order to use virt-v2v.\n\n"
    "Original error message: mount: /dev/sda2 on / (options: 'ro'): mount exited with status 14"
)
DIRTY: Final = (
    "filesystem was mounted read-only, even though we asked for it to be mounted read-write.  This usually means that "
    "the filesystem was not cleanly unmounted.  Possible causes include trying to convert a guest which is running, or "
    "using Windows Hibernation or Fast Restart.\n\nOriginal error message: touch: open: /b: Read-only file system"
)
WRONG_KEY: Final = (
    "could not find key to open LUKS encrypted /dev/sda1.\n\nTry using --key on the command line.\n\nOriginal error: "
    "cryptsetup_open: cryptsetup exited with status 2: No key available with this passphrase. (0)"
)
SUPERMIN: Final = "libguestfs error: /usr/bin/supermin exited with error status 1, see debug messages above"
LAUNCH: Final = "libguestfs error: guestfs_launch failed, see earlier error messages"

SEEN: Final = (
    (UNDETECTED + "No root device found in this operating system image.", "no operating system was found", "--skip"),
    (UNDETECTED + "Inspection field ‘i_distro’ was ‘unknown’.", "does not support this guest", "virt-v2v-support(1)"),
    (
        "not enough free space for conversion on filesystem ‘/’.  26.4 MB free < 50 MB needed",
        "too full",
        "free space in the source VM",
    ),
    (
        (
            "multi-boot operating systems are not supported by virt-v2v. Use the --root option to change how virt-v2v "
            "handles this."
        ),
        "more than one operating system",
        "take the disks of the others out",
    ),
    ("exception: End_of_file", "more than one operating system", "take the disks of the others out"),
    ("could not read key from user", "no key was given", "--luks-key NAME"),
    (WRONG_KEY, "none of the given keys opens", "first line"),
    ("libguestfs error: too small value for memsize (must be at least 256)", "memory_mib is too small", "raise it"),
)

IN_THE_SOURCE: Final = (
    (HIBERNATED, "hibernated", "powercfg /h off"),
    (DIRTY, "dirty file system", "chkdsk"),
    ("not enough available inodes for conversion on filesystem ‘/’.  3 inodes", "too full", "inodes"),
    ("virt-v2v is unable to convert this guest type (linux/minix)", "does not support this guest", "--skip-conversion"),
    (
        (
            "libguestfs thinks this is not an installed operating system (it might be, for example, an installer disk "
            "or live CD).  If this is wrong, it is probably a bug in libguestfs.  root=/dev/sda1 fmt=installer"
        ),
        "does not support this guest",
        "--skip-conversion",
    ),
    ("only Xen kernels are installed in this guest.", "no kernel that runs on KVM", "regular kernel"),
    ("no installed kernel packages were found.\n\nThis probably indicates", "no kernel that runs on KVM", "regular"),
    ("inspection of the package database failed for this Linux guest.", "package database", "rpm --rebuilddb"),
    ("could not write to the guest filesystem: write: Input/output error", "cannot be written to", "fsck"),
    ("/opt/virtio-win.iso: cannot open virtio-win ISO file: exit 1", "drivers for Windows", "conversion.virtio_win"),
    ("libguestfs error: write: No space left on device", "data directory is full", "free space on the worker"),
    (
        "insufficient free space in the conversion server temporary directory /var/tmp (512 MB).",
        "data directory is full",
        "free space on the worker",
    ),
    (
        "libguestfs error: mkfs: appliance closed the connection unexpectedly.",
        "appliance did not start on this worker, or died",
        "libguestfs-test-tool",
    ),
)


@pytest.mark.parametrize(("said", "because", "remedy"), [*SEEN, *IN_THE_SOURCE])
def test_a_known_failure_says_what_it_is_and_what_to_do(said: str, because: str, remedy: str) -> None:
    error = failure("db", 1, said=said, text="", see="xms migration log warm-lab-db")
    assert error.what == "db was not converted"
    assert because in error.because
    assert " ".join(said.split()) in error.because
    assert remedy in error.do
    assert "xms migration log warm-lab-db" in error.do
    assert "still the replica" in error.means


@pytest.mark.parametrize(
    ("said", "line", "because"),
    [
        (SUPERMIN, "supermin: failed to find a suitable kernel (host_cpu=x86_64).", "no kernel for the conversion"),
        (
            SUPERMIN,
            "supermin: error: statvfs: No space left on device: /var/lib/xms/libguestfs/.guestfs-0/appliance.d/root",
            "data directory is full",
        ),
        (LAUNCH, "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69", "KVM does not work on this worker"),
        (
            LAUNCH,
            "qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory",
            "ran out of memory",
        ),
    ],
)
def test_where_the_error_only_refers_to_the_log_the_cause_is_found_there(said: str, line: str, because: str) -> None:
    error = failure("db", 1, said=said, text=f"libguestfs: launching\n{line}\nrm -rf -- '/tmp/v2v'\n", see="")
    assert because in error.because
    assert line in error.because


def test_a_failure_that_nobody_knows_is_told_in_its_own_words() -> None:
    error = failure("db", 1, said="something new", text="", see="xms migration log warm-lab-db")
    assert error.because == "virt-v2v: something new"
    assert error.do == "xms migration log warm-lab-db"
    assert failure("db", 3, said="", text="", see="").because == "virt-v2v: exit status 3"


def test_a_killed_virt_v2v_is_told_as_such() -> None:
    assert "signal 9" in failure("db", -9, said="", text="", see="").because


def test_errors_are_taken_from_the_lines_for_programs(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    said = [{"type": "message", "message": "Inspecting"}, {"type": "error", "message": "first"}]
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in [*said, {"type": "error", "message": "second\n"}]))
    with lines.open("a") as file:
        file.write('{"type": "err')
    assert last_words(lines, "virt-v2v-in-place: error: other") == "first; second"


def test_what_libguestfs_says_without_such_a_line_is_taken_from_the_output(tmp_path: Path) -> None:
    text = (
        "libguestfs: trace: v2v: cryptsetup_open = -1 (error)\n"
        f"virt-v2v-in-place: {WRONG_KEY}\nlibguestfs: trace: v2v: close\nmore\n"
    )
    assert last_words(tmp_path / "none", text) == WRONG_KEY
    assert last_words(
        tmp_path / "none", "getline: x\nvirt-v2v-in-place: could not read key from user\nlibguestfs: y"
    ) == ("could not read key from user")
    assert last_words(tmp_path / "none", "nothing") == ""


def test_the_end_of_the_log_is_bounded_and_without_the_programs_own_debugging() -> None:
    lines = [f"line {number}" for number in range(100)]
    noisy = "\n".join(f"{line}\nlibguestfs: trace: close\nguestfsd: <= x" for line in lines)
    assert tail(noisy) == "\n".join(lines[-TAIL_LINES:])
    assert len(tail("x" * 10_000)) == TAIL_CHARACTERS
    assert failure("db", 1, said="x", text=noisy, see="").log_tail == tail(noisy)

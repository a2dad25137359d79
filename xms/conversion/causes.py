"""Why virt-v2v failed, for who has to mend it: what it said, and what that means.

The messages are those of virt-v2v 2.2 and of libguestfs 1.48; the tests have them in full, most of them as real runs
gave them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from xms.conversion.log import printable
from xms.errors import ConversionFailed

UNCHANGED: Final = "the volumes are still the replica; nothing of the conversion was written to them"

TAIL_LINES: Final = 20
TAIL_CHARACTERS: Final = 2000

ANYWHERE: Final = 200_000
"""Characters at the log's end in which the cause of a failure is looked for where the last error only refers to it."""


@dataclass(frozen=True)
class Cause:
    """One kind of failure.

    Args:
        pattern: regular expression, in what virt-v2v said last.
        means: what it is, for who migrates.
        remedy: what to do.
    """

    pattern: str
    means: str
    remedy: str


GUEST: Final = (
    Cause(
        r"not enough (free )?(space|available inodes) for conversion",
        "a file system of the guest is too full to install drivers into",
        "free space in the source VM (100 MiB on / and the system drive, 50 MiB on /boot, and inodes), then cut over "
        "again",
    ),
    Cause(
        r"hibernat|fast (restart|startup)|unable to mount the disk image for writing|not cleanly unmounted|"
        r"unsafe state",
        "a Windows that is hibernated, was shut down by fast start-up, or has a dirty file system, cannot be changed",
        "turn hibernation and fast start-up off in the source VM (powercfg /h off), run chkdsk, shut it down whole, "
        "then cut over again",
    ),
    Cause(
        r"could not read key from user",
        "its disks are encrypted with LUKS, and no key was given for one of them",
        "put its passphrase into a file of the workers' conversion.keys_dir, then cut over with --luks-key NAME",
    ),
    Cause(
        r"could not find key to open LUKS|No key available with this passphrase",
        "its disks are encrypted with LUKS, and none of the given keys opens one of them",
        "see that the files of --luks-key hold the passphrase as their first line, then cut over again",
    ),
    Cause(
        r"BitLocker|encrypt|LUKS|passphrase",
        "its disks are encrypted",
        "decrypt them in the source VM (BitLocker: suspend or turn it off), then cut over again",
    ),
    Cause(
        r"multi-?boot|dual-?boot|more than one operating system|End_of_file",
        "there is more than one operating system on its disks, and virt-v2v cannot tell which is the VM's",
        "take the disks of the others out of the VM, or prepare the guest for KVM and cut over with --skip-conversion",
    ),
    Cause(
        r"no operating system|No root device found|inspection found no",
        "no operating system was found on its disks",
        "check that the VM boots from one of its own disks; where it is an appliance that runs on KVM as it is, cut "
        "over with --skip-conversion",
    ),
    Cause(
        r"unable to convert this guest|no conversion module|was .unknown.|not an installed operating system|"
        r"not supported by (virt-v2v|libguestfs)|could not detect the source guest|unknown package manager",
        "virt-v2v does not support this guest's operating system",
        "see virt-v2v-support(1) for those that it converts; prepare the guest for KVM (virtio drivers) and cut over "
        "with --skip-conversion",
    ),
    Cause(
        r"only Xen kernels are installed|no (installed kernel packages|kernels) were found",
        "the guest has no kernel that runs on KVM",
        "install a regular kernel with virtio drivers in the source VM, then cut over again",
    ),
    Cause(
        r"filesystem was mounted read-only|could not write to the guest filesystem",
        "a file system of the guest cannot be written to",
        "check the guest's file systems (fsck, chkdsk) and shut it down whole, then cut over again",
    ),
    Cause(
        r"inspection of the package database failed",
        "the guest's package database cannot be read",
        "mend it in the source VM (rpm --rebuilddb, dpkg --configure -a), then cut over again",
    ),
)
"""What the guest's owner mends."""

WORKER: Final = (
    Cause(
        r"virtio-win (ISO|directory)|cannot open virtio-win",
        "the drivers for Windows are not where this worker has them configured",
        "see conversion.virtio_win of the worker's configuration, then cut over again",
    ),
    Cause(
        r"No space left on device|insufficient free space in the conversion server|ENOSPC",
        "this worker's data directory is full",
        "free space on the worker, then cut over again",
    ),
    Cause(
        r"failed to find a suitable kernel",
        "this worker has no kernel for the conversion's appliance",
        "install a kernel that the worker's user can read (/boot/vmlinuz-* with its modules), then cut over again",
    ),
    Cause(
        r"Cannot allocate memory|cannot set up guest memory|Out of memory|oom-kill",
        "this worker, or the conversion's appliance, ran out of memory",
        "free memory on the worker, or raise conversion.memory_mib, then cut over again",
    ),
    Cause(
        r"too small value for memsize",
        "conversion.memory_mib is too small for the conversion's appliance",
        "raise it in the worker's configuration, then cut over again",
    ),
    Cause(
        r"failed to set MSR|kvm_\w+: Assertion|failed to initialize kvm|Could not access KVM|KVM internal error|"
        r"KVM: entry failed",
        "KVM does not work on this worker",
        'set conversion.use_kvm = "never" in the worker\'s configuration, then cut over again',
    ),
    Cause(
        r"appliance closed the connection unexpectedly|guestfs_launch failed|appliance failed to start|"
        r"unexpected end of file when reading from daemon|supermin exited with error status|connection to the daemon",
        "the conversion's appliance did not start on this worker, or died",
        "see that it does: libguestfs-test-tool (package libguestfs-tools), then cut over again",
    ),
)
"""What the worker's operator mends. The last error often only refers to it, so the log's end is searched, too."""


def failure(vm: str, status: int, *, said: str, text: str, see: str) -> ConversionFailed:
    """The error for a virt-v2v that failed.

    Args:
        vm: for the message.
        status: it ended with; negative is the signal that ended it.
        said: its last error.
        text: all of its log.
        see: how the operator sees the log.
    """
    because, remedy = _explained(status, said, text)
    error = ConversionFailed(
        f"{vm} was not converted", because=because, means=UNCHANGED, do=f"{remedy}; its log: {see}" if remedy else see
    )
    error.log_tail = tail(text)
    return error


def _explained(status: int, said: str, text: str) -> tuple[str, str]:
    if status < 0:
        return (
            f"virt-v2v was ended by signal {-status}; signal 9 mostly means that the worker ran out of memory",
            "see the worker's kernel log, then cut over again",
        )
    told = f" (virt-v2v: {' '.join(said.split())})" if said else ""
    for cause in (*GUEST, *WORKER[:-1]):
        if re.search(cause.pattern, said, re.IGNORECASE):
            return cause.means + told, cause.remedy
    appliance = WORKER[-1]
    if re.search(appliance.pattern, said, re.IGNORECASE):
        for cause in WORKER[:-1]:
            if found := re.search(rf"^.*(?:{cause.pattern}).*$", text[-ANYWHERE:], re.IGNORECASE | re.MULTILINE):
                return f"{cause.means} ({found[0].strip()})", cause.remedy
        return appliance.means + told, appliance.remedy
    return f"virt-v2v: {said or f'exit status {status}'}", ""


def last_words(machine_readable: Path, text: str) -> str:
    """What virt-v2v said that it failed with: in the JSON lines, else on its output; "" where it said nothing."""
    return _errors(machine_readable) or _last_error(text)


def _errors(machine_readable: Path) -> str:
    """The errors among the JSON lines; "" where the program wrote none or died in the middle of a line."""
    if not machine_readable.exists():
        return ""
    said = []
    for line in machine_readable.read_text(errors="replace").splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("type") == "error":
            said.append(str(message.get("message", "")).strip())
    return "; ".join(said)


def _last_error(text: str) -> str:
    """Errors of libguestfs' option parser (keys) are on the output alone, up to the next line of the trace."""
    found = re.findall(
        r"^virt-v2v[\w-]*: (?:error: )?(.*(?:\n(?!libguestfs:|rm -rf|guestfsd:|nbdkit:).*)*)", text, re.MULTILINE
    )
    return str(found[-1]).strip() if found else ""


def tail(text: str) -> str:
    """The log's last lines, without those of the programs' own debugging."""
    noise = re.compile(r"libguestfs: |guestfsd: |nbdkit: |rm -rf ")
    lines = [line for line in printable(text).split("\n") if line.strip() and not noise.match(line)]
    return "\n".join(lines[-TAIL_LINES:])[-TAIL_CHARACTERS:]

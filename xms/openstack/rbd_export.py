"""A Ceph RBD image as a file on this machine without a kernel client: qemu-storage-daemon exports it through FUSE.

Each export has a directory of its own, `<data_dir>/rbd/<volume>.<random>`, which only this user may enter: the file
that is the image, the daemon's log, and a file that the exporting process keeps locked. The path is never used twice:
a writer that lost the volume and sleeps finds a dead path when it wakes, not the next claim's.

Who wrote to the image before, and still has it open elsewhere, is fenced: its lock in Ceph is broken, which has Ceph
refuse whatever that client still sends. A client that is dead would keep the first write waiting half a minute else.

The daemon ends with the thread that exports (see `xms.programs.tied_to`). What a killed worker left, a
mount without a daemon as a rule, is found by the directory and ended before the next export.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from errno import EINVAL, ENOENT
from pathlib import Path
from typing import Any, Final, Self

from xms.errors import ConfigurationError, ProgramMissing, VolumeFailed
from xms.openstack.device import Device, size_of
from xms.openstack.mounts import is_mounted
from xms.programs import PASSED_ON, TookTooLong, run, tied_to
from xms.pulse import Pulse

log = logging.getLogger(__name__)

PROGRAM: Final = "qemu-storage-daemon"
UNMOUNT: Final = "fusermount3"
RBD: Final = "rbd"
DIRECTORY: Final = "rbd"
"""of all exports, below the worker's data directory"""
PROGRAMS: Final = {
    PROGRAM: "packages qemu-system-common and qemu-block-extra",
    UNMOUNT: "package fuse3",
    RBD: "package ceph-common",
    "setpriv": "package util-linux",
}
START_SECONDS: Final = 60.0
"""Ceph's own patience with monitors that do not answer is five minutes."""
END_SECONDS: Final = 60.0
"""How long the daemon may take to write what its cache holds; a flush that was answered does not depend on it."""
LOOK_SECONDS: Final = 0.1
OWNER: Final = "owner"

_NO_CREDENTIALS: Final = re.compile(r"error connecting: (No such file|Permission denied|Operation not permitted)")
_NOT_THERE: Final = re.compile(r"error (opening pool|reading header from) ")
_NO_MONITOR: Final = re.compile(r"error connecting: ")
_NO_DRIVER: Final = re.compile(r"(Unknown driver 'rbd'|does not accept value '(rbd|fuse|blkdebug)')")
_NO_FUSE: Final = re.compile(r"fuse: |/dev/fuse|FUSE", re.IGNORECASE)
_CONF: Final = re.compile(r"error reading conf file")


@dataclass(frozen=True)
class RbdImage:
    """An image, and as whom it is reached."""

    pool: str
    name: str
    user: str | None

    @classmethod
    def of(cls, connection_info: Mapping[str, Any]) -> Self:
        """What Cinder's connection info names. It holds no key: that stands in the worker's keyring.

        Raises:
            VolumeFailed: it names no image.
        """
        pool, _, name = str(connection_info.get("name", "")).partition("/")
        if not pool or not name:
            raise VolumeFailed(
                "a volume cannot be reached in Ceph",
                because=f"Cinder's connection info names no image: '{connection_info.get('name', '')}'",
            )
        user = connection_info.get("auth_username")
        return cls(pool, name, str(user) if user else None)


@contextlib.contextmanager
def exported(image: RbdImage, *, volume_id: str, ceph_conf: Path, exports: Path, pulse: Pulse) -> Iterator[Device]:
    """Have the image as a file until the context ends. Use it on a thread that lives as long.

    A flush of the file is answered when Ceph has the bytes. Holes cannot be punched into it, zero ranges can.

    Args:
        image: what to export.
        volume_id: names the directory; what is left of earlier exports of this volume is ended first.
        ceph_conf: the cluster's configuration on this machine, which names the keyring.
        exports: parent of the directories; made where it is missing.
        pulse: called while the daemon starts and ends.

    Raises:
        ProgramMissing: the daemon, its RBD driver or FUSE is not installed.
        ConfigurationError: no ceph.conf, or no key for the user.
        VolumeFailed: no monitor answers, the image is not there, the daemon ended, or an earlier writer was not fenced.
        xms.errors.Interrupted: the pulse said so.
    """
    what = f"volume {volume_id} did not appear on this worker"
    _check_installed(what)
    if not os.access(ceph_conf, os.R_OK):
        raise ConfigurationError(
            what,
            because=f"it is in Ceph, and {ceph_conf} is not there or cannot be read",
            do="put the cluster's ceph.conf and the keyring of the user that Cinder names on this worker, and its path "
            "into target.ceph_conf; or use attach = nova",
        )
    exports = exports.resolve()
    end_leftovers(exports, volume_id)
    with _own_directory(exports, volume_id) as directory:
        file = directory / "volume"
        file.touch(mode=0o600)
        process = _start(_command(image, ceph_conf, directory), directory, what)
        try:
            _wait_until_ready(process, directory, what, image, pulse)
            _fence(image, ceph_conf, directory, what, pulse)
            yield Device(str(file), _size(file, what))
        finally:
            _end(process, volume_id)
            _unmount(file)


def end_leftovers(exports: Path, volume_id: str = "") -> None:
    """End what killed workers left below `exports`, and whatever there is of the given volume, whosever it is.

    Who calls this with a volume holds its lease: another process of this machine that still exports it has lost it.
    """
    for directory in exports.resolve().glob("*.*"):
        if (volume_id and directory.name.startswith(f"{volume_id}.")) or _is_abandoned(directory):
            log.warning("an export that a killed worker left is ended: %s", directory)
            _kill_daemons(directory)
            _unmount(directory / "volume")
            shutil.rmtree(directory, ignore_errors=True)


def _check_installed(what: str) -> None:
    for program, origin in PROGRAMS.items():
        if shutil.which(program) is None:
            raise ProgramMissing(
                what,
                because=f"it is in Ceph, and the program {program} is not on PATH",
                do=f"install it on this worker ({origin}), or use attach = nova",
            )


def _command(image: RbdImage, ceph_conf: Path, directory: Path) -> list[str]:
    rbd = {
        "driver": "rbd",
        "node-name": "image",
        "pool": image.pool,
        "image": image.name,
        "conf": str(ceph_conf),
        "discard": "unmap",
        **({"user": image.user} if image.user else {}),
    }
    # QEMU 7.2 answers a punched hole with success and leaves the bytes there (seen: it passes the hole on as a discard,
    # which need not do anything). The filter refuses discards, so that a writer takes another way: zero ranges are
    # written as zeroes. A discard reaches the filter only where its node allows unmapping.
    refusing = {
        "driver": "blkdebug",
        "node-name": "volume",
        "image": "image",
        "discard": "unmap",
        "inject-error": [{"event": "none", "iotype": "discard", "errno": EINVAL, "once": False}],
    }
    export = {
        "type": "fuse",
        "id": "volume",
        "node-name": "volume",
        "mountpoint": str(directory / "volume"),
        "writable": True,
        "growable": False,
        "allow-other": "off",
    }
    return [
        PROGRAM,
        *("--blockdev", json.dumps(rbd)),
        *("--blockdev", json.dumps(refusing)),
        *("--export", json.dumps(export)),
        *("--pidfile", str(directory / "pid")),
    ]


def _start(command: list[str], directory: Path, what: str) -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LANG": "C.UTF-8"}
    try:
        with (directory / "log").open("wb") as output:
            return subprocess.Popen(
                tied_to(os.getpid(), command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C stops the worker, which then flushes through the daemon.
                start_new_session=True,
                env=environment,
            )
    except OSError as error:
        raise VolumeFailed(what, because=f"{PROGRAM} did not start: {error.strerror}") from error


def _wait_until_ready(
    process: subprocess.Popen[bytes], directory: Path, what: str, image: RbdImage, pulse: Pulse
) -> None:
    end = time.monotonic() + START_SECONDS
    # The daemon writes it when all of its exports are there.
    while not (directory / "pid").exists():
        pulse()
        if process.poll() is not None:
            raise explain(what, image, (directory / "log").read_text(errors="replace"), process.returncode)
        if time.monotonic() > end:
            raise VolumeFailed(
                what,
                because=f"Ceph did not answer within {START_SECONDS:.0f} s",
                do="see that this worker reaches the monitors and the OSDs of the storage network",
            )
        time.sleep(LOOK_SECONDS)


def _fence(image: RbdImage, ceph_conf: Path, directory: Path, what: str, pulse: Pulse) -> None:
    """Break the lock that an earlier client of the image has. Ours has none yet: it takes one with its first write.

    Ceph puts the owner of a broken lock on its blocklist. Left alone, a living client would be asked to hand the lock
    over, and could ask for it again: a worker that sleeps between its lease's check and its write has such a client.
    """
    for lock in json.loads(_rbd(image, ceph_conf, directory, what, pulse, "ls", "--format", "json") or "[]"):
        # The others are of people: "auto" is what librbd itself writes.
        if str(lock["id"]).startswith("auto "):
            log.warning("an earlier client of %s/%s is fenced: %s", image.pool, image.name, lock["address"])
            _rbd(image, ceph_conf, directory, what, pulse, "rm", str(lock["id"]), str(lock["locker"]))


def _rbd(image: RbdImage, ceph_conf: Path, directory: Path, what: str, pulse: Pulse, verb: str, *arguments: str) -> str:
    """What `rbd lock VERB` of the image answers."""
    user = ["--id", image.user] if image.user else []
    name = f"{image.pool}/{image.name}"
    argv = [RBD, "--conf", str(ceph_conf), *user, "lock", verb, name, *arguments]
    output = directory / f"lock-{verb}"
    try:
        status = run(argv, output=output, pulse=pulse, timeout=START_SECONDS)
    except TookTooLong:
        raise VolumeFailed(what, because=f"'rbd lock {verb}' took longer than {START_SECONDS:.0f} s") from None
    text = output.read_text(errors="replace")
    # 2: it was released or broken meanwhile.
    if status not in {0, ENOENT} or (status and verb == "ls"):
        raise VolumeFailed(
            what,
            because=f"an earlier writer could not be fenced: 'rbd lock {verb}' ended with {status}: {text.strip()}",
            means="nothing was written to it",
            do=f"give client.{image.user} the capability 'profile rbd' at the monitors",
        )
    return text


def explain(what: str, image: RbdImage, text: str, code: int) -> VolumeFailed | ConfigurationError | ProgramMissing:
    """What the daemon's last words mean; `code` is its exit code."""
    words = " ".join(re.sub(r"--(blockdev|export) \{.*\}: ", "", text).split()) or f"exit code {code}"
    because = f"{PROGRAM}: {words}"
    user = f"client.{image.user}" if image.user else "the default user"
    if _NO_DRIVER.search(text):
        return ProgramMissing(what, because=because, do="install the package qemu-block-extra, or use attach = nova")
    if _NO_CREDENTIALS.search(text):
        return ConfigurationError(
            what,
            because=f"{because} (as {user})",
            do=f"give this worker a keyring of {user}, where its ceph.conf looks for it, readable by the worker's user",
        )
    if _CONF.search(text):
        return ConfigurationError(what, because=because, do="correct target.ceph_conf")
    if _NOT_THERE.search(text):
        return VolumeFailed(
            what,
            because=f"{because} ({image.pool}/{image.name})",
            do="see that target.ceph_conf is of the cluster that Cinder keeps this volume type in",
        )
    if _NO_MONITOR.search(text):
        return VolumeFailed(
            what, because=because, do="see that this worker reaches the monitors of the storage network"
        )
    if _NO_FUSE.search(text):
        return ProgramMissing(
            what, because=because, do="let this worker use /dev/fuse (package fuse3; in a container: the device)"
        )
    return VolumeFailed(what, because=because)


def _size(file: Path, what: str) -> int:
    try:
        return size_of(str(file))
    except OSError as error:
        raise VolumeFailed(what, because=f"{file} cannot be opened: {error.strerror}") from error


def _end(process: subprocess.Popen[bytes], volume_id: str) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("the export of volume %s did not end within %.0f s and is killed", volume_id, END_SECONDS)
        process.kill()
        process.wait()


@contextlib.contextmanager
def _own_directory(exports: Path, volume_id: str) -> Iterator[Path]:
    exports.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory = Path(tempfile.mkdtemp(prefix=f"{volume_id}.", dir=exports))
    try:
        # The file gets its name when it is locked: nobody can find it in between and take its owner for dead.
        unnamed = directory / f"{OWNER}.new"
        with unnamed.open("x") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            unnamed.rename(directory / OWNER)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _is_abandoned(directory: Path) -> bool:
    try:
        with (directory / OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # One that lives, or that begins or ends at this moment.
        return False
    return True


def _kill_daemons(directory: Path) -> None:
    mountpoint = str(directory / "volume").encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(int(entry.name))
            try:
                # Looked at once the process is held: its number may have been another's before.
                if PROGRAM.encode() in (line := (entry / "cmdline").read_bytes()) and mountpoint in line:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    select.select([descriptor], [], [], END_SECONDS)
            finally:
                os.close(descriptor)


def _unmount(file: Path) -> None:
    """Take away a mount whose daemon is gone. One that is not there is a success."""
    if not is_mounted(file):
        return
    done = subprocess.run(
        [UNMOUNT, "-u", "-z", str(file)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if is_mounted(file):
        log.warning("%s stays mounted, without a daemon behind it: %s", file, done.stderr.strip())

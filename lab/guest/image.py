"""The guest image: a bootable Debian on a raw disk, built of the distribution's packages without loop devices."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILES: Final = Path(__file__).parent
ROOT_UUID: Final = "7d0c5a52-3f34-4b8e-9f5e-1c2a9d9b0001"
DATA_UUID: Final = "7d0c5a52-3f34-4b8e-9f5e-1c2a9d9b0002"
ROOT_SIZE: Final = 2 << 30
DATA_SIZE: Final = 1 << 30
PARTITION_START: Final = 1 << 20
"""Bytes before the root disk's only partition. The data disk has none: its file system begins at 0."""

PACKAGES: Final = (
    "dbus",  # systemd-logind, which obeys the power button, speaks over it
    "grub-pc-bin",
    "grub2-common",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "systemd-sysv",
    "udev",
    "zstd",
)
_PARTITIONS: Final = f"label-id:0xcafe0001\nstart={PARTITION_START // 512},type=83,bootable\n"
_TAIL: Final = 1 << 20
"""Bytes left free at the end of the root disk."""


class GuestImageError(Exception):
    """The image could not be built; the text holds the command and the end of what it said."""


@dataclass(frozen=True)
class GuestImage:
    """The built disks, which nobody writes: a machine gets copies.

    Attributes:
        root_disk: raw, 2 GiB, boots by BIOS, root file system at PARTITION_START.
        data_disk: raw, 1 GiB, an ext4 file system that the guest mounts at /srv/data when the disk is there.
    """

    root_disk: Path
    data_disk: Path

    def copy_root(self, to: Path) -> None:
        """Make a fresh, sparse copy of the root disk; what was at `to` is replaced."""
        _copy(self.root_disk, to)

    def copy_data(self, to: Path) -> None:
        """Make a fresh, sparse copy of the data disk; what was at `to` is replaced."""
        _copy(self.data_disk, to)


def build(cache: Path) -> GuestImage:
    """Return the image, which is built when the cache has none of these inputs: two minutes, 350 MB.

    Archive, trust and proxies are those of this machine's apt. Any number of builders may call it at once; one of them
    builds. One that is killed leaves nothing that a later one would take for an image.

    Raises:
        GuestImageError: a program of the build failed or is missing, or apt knows no Debian archive.
    """
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"guest-{_fingerprint()}"
    image = GuestImage(place / "root.raw", place / "data.raw")
    with _locked(cache / "lock"):
        if not place.is_dir():
            for leftover in cache.glob("*.partial"):
                shutil.rmtree(leftover)
            partial = place.with_suffix(".partial")
            partial.mkdir()
            _build_disks(partial)
            partial.rename(place)
    return image


def _build_disks(into: Path) -> None:
    # Without root, mmdebstrap works as one of the user's subordinate ids, which may not enter the user's own places.
    is_root = os.geteuid() == 0
    staging = Path(tempfile.mkdtemp(prefix="xms-guest-", dir=into if is_root else "/var/tmp"))  # noqa: S108 - made by mkdtemp
    as_builder = () if is_root else ("mmdebstrap", "--unshare-helper")
    try:
        if not is_root:
            staging.chmod(0o777)
        system, disk, data = staging / "root", staging / "root.raw", staging / "data.raw"
        _install(system)
        _make_bootable(system, disk)
        _sized(data, DATA_SIZE)
        # The builder may be another user than the one who made the files.
        for file in (disk, data):
            file.chmod(0o666)
        blocks = (ROOT_SIZE - PARTITION_START - _TAIL) // 1024
        options = ("-E", f"offset={PARTITION_START},lazy_itable_init=1,nodiscard", str(disk), f"{blocks}k")
        _run(*as_builder, *_make_ext4(ROOT_UUID, "root"), "-d", str(system), *options)
        _run(*_make_ext4(DATA_UUID, "data"), "-E", "lazy_itable_init=1,nodiscard", str(data))
        _run(*as_builder, "rm", "-rf", str(system))
        for file in (disk, data):
            _copy(file, into / file.name)
            (into / file.name).chmod(0o644)
    except BaseException:
        # What is left of the tree belongs to the builder; that it cannot be removed must not hide why.
        with contextlib.suppress(GuestImageError):
            _run(*as_builder, "rm", "-rf", str(staging / "root"))
        shutil.rmtree(staging, ignore_errors=True)
        raise
    shutil.rmtree(staging)


def _install(system: Path) -> None:
    environment = {"HERE": str(FILES), "ROOT_UUID": ROOT_UUID, "DATA_UUID": DATA_UUID}
    _run(
        "mmdebstrap",
        "--quiet",
        "--variant=apt",
        "--format=directory",
        "--components=main",
        f"--include={','.join(PACKAGES)}",
        *(f"--aptopt={line}" for line in _apt_transport()),
        f'--customize-hook=sh {shlex.quote(str(FILES / "customize.sh"))} "$1"',
        _codename(),
        str(system),
        _archive(),
        environment=environment,
    )


def _make_bootable(system: Path, disk: Path) -> None:
    """Put a partition table, GRUB's boot sector and its core image before the partition of an empty disk."""
    modules = system / "usr/lib/grub/i386-pc"
    core = disk.with_name("core.img")
    _sized(disk, ROOT_SIZE)
    _run("sfdisk", "-q", "--label", "dos", str(disk), given=_PARTITIONS)
    prefix = ("-p", "(hd0,msdos1)/boot/grub")
    drivers = ("biosdisk", "part_msdos", "ext2")
    _run("grub-mkimage", "-d", str(modules), "-O", "i386-pc", "-o", str(core), *prefix, *drivers)
    with disk.open("r+b") as file:
        # The sector's last bytes are the partition table.
        file.write((modules / "boot.img").read_bytes()[:440])
        file.seek(512)
        file.write(core.read_bytes())


def _make_ext4(identity: str, label: str) -> tuple[str, ...]:
    return ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-F", "-U", identity, "-L", label)


def _sized(file: Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)


def _fingerprint() -> str:
    """Of all that the image is made of, except the archive's state."""
    digest = hashlib.sha256()
    for file in sorted(each for each in FILES.iterdir() if each.suffix != ".py" and each.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    for value in (*PACKAGES, ROOT_UUID, DATA_UUID, ROOT_SIZE, DATA_SIZE, _PARTITIONS, _codename()):
        digest.update(str(value).encode() + b"\0")
    return digest.hexdigest()[:16]


def _codename() -> str:
    """Of the distribution that this machine runs, which the guest gets too."""
    for line in Path("/etc/os-release").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    raise GuestImageError("/etc/os-release has no VERSION_CODENAME: the guest image is built on Debian only")


def _archive() -> str:
    """The archive that this machine's apt takes its own release from."""
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    for line in targets.splitlines():
        uri, release, component = line.rsplit(" ", 2)
        if (release, component) == (_codename(), "main"):
            return uri
    raise GuestImageError(f"apt on this machine knows no archive of {_codename()} main")


def _apt_transport() -> list[str]:
    """How this machine's apt reaches its archive: proxies, certificates, what it overlooks."""
    topics = ("http", "https", "Check-Valid-Until", "Check-Date", "Retries")
    lines = _run("apt-config", "dump", "--no-empty", *(f"Acquire::{topic}" for topic in topics)).splitlines()
    return [line for line in lines if not line.startswith("Acquire::http::User-Agent")]


def _copy(disk: Path, to: Path) -> None:
    draft = to.with_name(f"{to.name}.draft")
    _run("cp", "--sparse=always", "--reflink=auto", str(disk), str(draft))
    draft.replace(to)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*command: str, given: str = "", environment: dict[str, str] | None = None) -> str:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    arguments: Sequence[str] = command
    try:
        done = subprocess.run(
            arguments,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"} | (environment or {}),
        )
    except FileNotFoundError as error:
        raise GuestImageError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise GuestImageError(f"{shlex.join(command)} ended with code {done.returncode}: {done.stderr[-3000:]}")
    return done.stdout

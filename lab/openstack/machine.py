"""What the OpenStack changes outside its directory, each with the way back: libvirt, a mount helper, two bridges."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from lab.openstack import ceph, processes
from lab.openstack.configuration import LIBVIRT_SECRET, filled
from lab.openstack.layout import BRIDGE, SHARED_BRIDGE, Layout, environment

QEMU_CONF: Final = Path("/etc/libvirt/qemu.conf")
"""libvirtd reads QEMU's settings from nowhere else."""

MOUNT_HELPER: Final = Path("/sbin/mount.nfs")
OURS: Final = "# xms lab"
OUR_BLOCK: Final = re.compile(r"^# xms lab begin.*?^# xms lab end\n", re.MULTILINE | re.DOTALL)
EXPORT_SIZE: Final = 20 << 30
VIRSH: Final = ("virsh", "-q", "-c", "qemu:///system")
RUNNING_GUESTS: Final = Path("/run/libvirt/qemu")
DEFINED_GUESTS: Final = Path("/etc/libvirt/qemu")
SECRETS: Final = Path("/etc/libvirt/secrets")


def start_libvirt(layout: Layout) -> None:
    """Libvirtd without systemd; its guests run as root, since cgroups and namespaces cannot be made here."""
    settings = QEMU_CONF.read_text()
    if not OUR_BLOCK.search(settings):
        QEMU_CONF.write_text(settings.rstrip("\n") + "\n" + filled(layout, "qemu.conf"))
    Path("/run/libvirt").mkdir(exist_ok=True)
    processes.start(layout, "libvirtd", ["libvirtd", "-f", f"{layout.etc}/libvirtd.conf"])
    processes.wait_for(layout, "libvirtd", lambda: _virsh("version") is not None, 30)


def give_ceph_key(layout: Layout) -> None:
    """Let libvirt's guests open RBD volumes. The key goes by a file: an argument could be read by everybody."""
    processes.run(layout, "libvirt", [*VIRSH, "secret-define", f"{layout.etc}/libvirt-secret.xml"])
    key = layout.etc / "libvirt-secret.key"
    key.touch(mode=0o600)
    key.write_text(ceph.cinder_key(layout))
    processes.run(layout, "libvirt", [*VIRSH, "secret-set-value", LIBVIRT_SECRET, "--file", str(key)])


def end_guests(layout: Layout, *, forget: bool) -> None:
    """End the guests of Nova, and let libvirt forget them, and the key of Ceph, where asked.

    Guests outlive libvirtd, and what it knows outlives the lab: where it does not run any more, it is started for that.
    """
    left = [*RUNNING_GUESTS.glob("instance-*.pid")]
    if forget:
        left += [*DEFINED_GUESTS.glob("instance-*.xml"), *SECRETS.glob(f"{LIBVIRT_SECRET}.xml")]
    if not processes.is_running(layout, "libvirtd"):
        if not left or not (layout.etc / "libvirtd.conf").exists():
            return
        start_libvirt(layout)
    for name in (_virsh("list", "--all", "--name") or "").split():
        if name.startswith("instance-"):
            _virsh("destroy", name)
            if forget:
                _virsh("undefine", "--nvram", name)
    if forget and LIBVIRT_SECRET in (_virsh("secret-list") or ""):
        _virsh("secret-undefine", LIBVIRT_SECRET)


def make_export(layout: Layout) -> None:
    """The "NFS" share: a file system of its own, bound where a client mounts it.

    Of its own, since `os.path.ismount`, by which Nova looks, does not see a directory bound on the same file system.
    """
    image = layout.directory / "nfs.img"
    layout.nfs_export.mkdir(exist_ok=True)
    if not layout.nfs_export.is_mount():
        if not image.exists():
            draft = image.with_suffix(".draft")
            with draft.open("wb") as file:
                file.truncate(EXPORT_SIZE)
            lazily = ["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
            processes.run(layout, "nfs", ["mkfs.ext4", *lazily, str(draft)])
            draft.replace(image)
        processes.run(layout, "nfs", ["mount", "-o", "loop,discard", str(image), str(layout.nfs_export)])
    if not MOUNT_HELPER.exists() or OURS in MOUNT_HELPER.read_text(errors="replace"):
        MOUNT_HELPER.write_text(filled(layout, "mount.nfs"))
        MOUNT_HELPER.chmod(0o755)


def make_bridges(layout: Layout) -> None:
    """The provider networks' bridges."""
    for bridge in (BRIDGE, SHARED_BRIDGE):
        if not Path(f"/sys/class/net/{bridge}").exists():
            processes.run(layout, "network", ["ip", "link", "add", bridge, "type", "bridge"])
            processes.run(layout, "network", ["ip", "link", "set", bridge, "up"])


def unmount(layout: Layout) -> None:
    """Unmount everything that is mounted below the directory, the deepest first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(f"{layout.directory}/")), reverse=True):
        processes.run(layout, "nfs", ["umount", place])


def take_back(layout: Layout) -> None:
    """Undo what was changed outside the directory."""
    for bridge in Path("/sys/class/net").iterdir():
        if bridge.name in {BRIDGE, SHARED_BRIDGE} or bridge.name.startswith("brq"):
            processes.run(layout, "network", ["ip", "link", "del", bridge.name])
    _drop_firewall_rules()
    if MOUNT_HELPER.exists() and OURS in MOUNT_HELPER.read_text(errors="replace"):
        MOUNT_HELPER.unlink()
    if QEMU_CONF.exists():
        QEMU_CONF.write_text(OUR_BLOCK.sub("", QEMU_CONF.read_text()))
    ceph.unlink(layout)


def _drop_firewall_rules() -> None:
    """The chains of Neutron's agent; nothing else is touched."""
    for program in ("iptables", "ip6tables"):
        for table in ("filter", "raw", "nat", "mangle"):
            save = [f"{program}-save", "-t", table]
            found = subprocess.run(save, check=False, capture_output=True, text=True, env=environment()).stdout
            if "neutron" in found:
                kept = "".join(line for line in found.splitlines(keepends=True) if "neutron" not in line)
                restore = [f"{program}-restore", "-T", table]
                subprocess.run(restore, input=kept, text=True, check=True, env=environment())


def _virsh(*words: str) -> str | None:
    done = subprocess.run([*VIRSH, *words], check=False, capture_output=True, text=True, env=environment())
    return None if done.returncode else done.stdout

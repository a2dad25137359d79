"""The userspace export of RBD images. A file stands for the image; the real one is in test_attach_for_real.py."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker import check_programs
from xms.config import Config, TargetConfig
from xms.errors import ConfigurationError, Interrupted, ProgramMissing, VolumeFailed, XmsError
from xms.models import Model
from xms.openstack import rbd_export
from xms.openstack.mounts import is_mounted
from xms.openstack.rbd_export import RbdImage, exported
from xms.pulse import no_pulse

IMAGE = RbdImage("volumes", "volume-1", "cinder")
SIZE = 8 << 20
SHIM = """#!/bin/sh
# The RBD driver becomes a file; everything else is the real daemon's affair.
first=$1; second=$2; shift 2
exec {real} "$first" "$(printf %s "$second" | sed 's#.*#{{"driver":"file","node-name":"image","filename":"{file}",\
"discard":"unmap"}}#')" "$@"
"""

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.W_OK)
    or any(shutil.which(program) is None for program in (rbd_export.PROGRAM, rbd_export.UNMOUNT)),
    reason="no FUSE here, or no qemu-storage-daemon",
)


@pytest.fixture
def ceph_conf(tmp_path: Path) -> Path:
    path = tmp_path / "ceph.conf"
    path.write_text("[global]\n")
    return path


@pytest.fixture
def exports(tmp_path: Path) -> Iterator[Path]:
    # Not tmp_path itself: pytest removes it, and would go into a mount that a failed test left.
    directory = tmp_path / "rbd"
    yield directory
    rbd_export.end_leftovers(directory, "v")


@pytest.fixture
def image_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "image"
    with file.open("wb") as opened:
        opened.truncate(SIZE)
    a_daemon(tmp_path, monkeypatch, SHIM.format(real=shutil.which(rbd_export.PROGRAM), file=file))
    return file


def a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, *, rbd: str = "echo '[]'") -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in ((rbd_export.PROGRAM, script), (rbd_export.RBD, f"#!/bin/sh\n{rbd}\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@needs_fuse
def test_an_image_is_a_file_of_its_size_while_it_is_exported(image_file: Path, ceph_conf: Path, exports: Path) -> None:
    with exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse) as device:
        assert device.size == SIZE
        assert Path(device.path).parent.stat().st_mode & 0o77 == 0
        with Path(device.path).open("r+b", buffering=0) as file:
            file.write(b"xms")
            os.fsync(file.fileno())
            assert image_file.read_bytes()[:3] == b"xms"
    assert not list(exports.iterdir())


@needs_fuse
def test_two_exports_never_have_the_same_path(image_file: Path, ceph_conf: Path, exports: Path) -> None:
    assert image_file
    paths = set()
    for _ in range(2):
        with exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse) as device:
            paths.add(device.path)
    assert len(paths) == 2


@needs_fuse
def test_an_export_ends_with_a_worker_that_is_killed_and_its_mount_is_removed_by_the_next(
    image_file: Path, ceph_conf: Path, exports: Path
) -> None:
    assert image_file
    script = f"""
import sys, time
from pathlib import Path
from xms.openstack.rbd_export import RbdImage, exported
from xms.openstack.mounts import is_mounted
from xms.pulse import no_pulse
image = RbdImage("volumes", "volume-1", "cinder")
with exported(image, volume_id="v", ceph_conf=Path({str(ceph_conf)!r}), exports=Path({str(exports)!r}),
              pulse=no_pulse) as device:
    print(device.path, flush=True)
    time.sleep(600)
"""
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    path = Path(worker.stdout.readline().strip())
    daemon = int((path.parent / "pid").read_text())
    worker.kill()
    worker.wait()
    worker.stdout.close()
    wait_until_gone(daemon)
    assert is_mounted(path)
    rbd_export.end_leftovers(exports)
    assert not is_mounted(path)
    assert not list(exports.iterdir())


@needs_fuse
def test_an_interrupted_start_leaves_nothing(image_file: Path, ceph_conf: Path, exports: Path) -> None:
    assert image_file

    def stop(detail: Model | None = None) -> None:
        del detail
        raise Interrupted("stop")

    with (
        pytest.raises(Interrupted),
        exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=stop),
    ):
        pytest.fail("it was exported")
    assert not list(exports.iterdir())


READY = """#!/bin/sh
while [ "$1" != --pidfile ]; do shift; done
echo $$ > "$2"
exec sleep 600
"""


def test_a_writer_that_ceph_does_not_fence_is_no_reason_to_go_on(
    tmp_path: Path, ceph_conf: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = '[{"id":"auto 1","locker":"client.7","address":"10.0.0.7:0/1"}]'
    a_daemon(
        tmp_path, monkeypatch, READY, rbd=f"case \"$*\" in *'lock ls'*) echo '{locks}';; *) echo no; exit 1;; esac"
    )
    with (
        pytest.raises(VolumeFailed, match="could not be fenced: 'rbd lock rm' ended with 1: no"),
        exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse),
    ):
        pytest.fail("it was exported")


def test_a_lock_that_a_person_set_is_not_broken(
    tmp_path: Path, ceph_conf: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = '[{"id":"mine","locker":"client.7","address":"10.0.0.7:0/1"}]'
    a_daemon(tmp_path, monkeypatch, READY, rbd=f"case \"$*\" in *'lock ls'*) echo '{locks}';; *) exit 1;; esac")
    with exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse) as device:
        assert device.size == 0


def test_an_export_of_a_living_owner_is_left_alone_unless_its_volume_is_wanted(exports: Path) -> None:
    alive, dead = exports / "a.1", exports / "b.1"
    for directory in (alive, dead):
        directory.mkdir(parents=True)
        (directory / "owner").touch()
    with (alive / "owner").open() as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        rbd_export.end_leftovers(exports)
        assert [directory.name for directory in exports.iterdir()] == ["a.1"]
        rbd_export.end_leftovers(exports, "a")
    assert not list(exports.iterdir())


def test_a_ceph_that_does_not_answer_is_given_up_in_time(
    tmp_path: Path, ceph_conf: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_daemon(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 600\n")
    monkeypatch.setattr(rbd_export, "START_SECONDS", 0.5)
    with (
        pytest.raises(VolumeFailed, match="monitors"),
        exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse),
    ):
        pytest.fail("it was exported")


def test_a_worker_without_ceph_conf_is_told_so_before_anything_is_started(tmp_path: Path, exports: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"target\.ceph_conf"),
        exported(IMAGE, volume_id="v", ceph_conf=tmp_path / "none", exports=exports, pulse=no_pulse),
    ):
        pytest.fail("it was exported")
    assert not exports.exists()


def test_a_missing_program_is_named_with_its_package(
    ceph_conf: Path, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with (
        pytest.raises(ProgramMissing, match="qemu-block-extra"),
        exported(IMAGE, volume_id="v", ceph_conf=ceph_conf, exports=exports, pulse=no_pulse),
    ):
        pytest.fail("it was exported")


def test_a_worker_that_is_set_up_for_ceph_says_at_its_start_what_it_lacks(
    tmp_path: Path, ceph_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("nbdkit", "qemu-img", "virt-v2v-in-place"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    check_programs(Config(target=TargetConfig(cloud="c", ceph_conf=tmp_path / "none")))
    check_programs(Config(target=TargetConfig(cloud="c", ceph_conf=ceph_conf, attach="nova")))
    with pytest.raises(ProgramMissing) as missing:
        check_programs(Config(target=TargetConfig(cloud="c", ceph_conf=ceph_conf)))
    assert rbd_export.PROGRAM in missing.value.what


@pytest.mark.parametrize(
    ("text", "kind", "do"),
    [
        ("error connecting: No such file or directory", ConfigurationError, r"keyring of client\.cinder"),
        ("error connecting: Permission denied", ConfigurationError, r"keyring of client\.cinder"),
        ("error connecting: Connection timed out", VolumeFailed, "reaches the monitors"),
        ("error reading conf file /c: No such file or directory", ConfigurationError, r"target\.ceph_conf"),
        ("error opening pool volumes: No such file or directory", VolumeFailed, "of the cluster that Cinder"),
        ("error reading header from volume-1: No such file or directory", VolumeFailed, "of the cluster that Cinder"),
        ("Unknown driver 'rbd'", ProgramMissing, "qemu-block-extra"),
        ("fuse: device not found, try 'modprobe fuse' first", ProgramMissing, "/dev/fuse"),
        ("Segmentation fault", VolumeFailed, ""),
    ],
)
def test_the_daemons_last_words_say_what_to_do(text: str, kind: type[XmsError], do: str) -> None:
    line = f'qemu-storage-daemon: --blockdev {{"driver": "rbd"}}: {text}\n'
    found = rbd_export.explain("volume v did not appear on this worker", IMAGE, line, 1)
    assert type(found) is kind
    assert text in found.because
    assert "--blockdev" not in found.because
    assert do.replace("\\", "") in found.do


@pytest.mark.parametrize("name", ["", "volumes", "/x"])
def test_connection_info_without_an_image_is_refused(name: str) -> None:
    with pytest.raises(VolumeFailed, match="names no image"):
        RbdImage.of({"name": name, "auth_username": "cinder"})


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if (Path("/proc") / str(pid) / "stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the daemon outlived its worker")

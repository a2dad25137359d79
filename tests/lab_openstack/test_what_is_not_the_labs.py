"""What the lab's real OpenStack must leave alone: directories, files and ports of somebody else."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab.openstack import ceph, database, processes
from lab.openstack.cloud import OpenStack
from lab.openstack.layout import Layout, OpenStackError


@pytest.fixture
def somebodys(tmp_path: Path) -> Path:
    directory = tmp_path / "somebodys"
    (directory / "etc").mkdir(parents=True)
    (directory / "etc/passwd").write_text("root\n")
    return directory


def cloud(directory: Path) -> OpenStack:
    return OpenStack(Layout(directory), directory / "cache", ("nfs",), agent=False)


def test_a_directory_of_somebody_else_is_not_wiped(somebodys: Path) -> None:
    with pytest.raises(OpenStackError, match="not the lab's"):
        cloud(somebodys).down(wipe=True)
    assert (somebodys / "etc/passwd").read_text() == "root\n"


def test_a_directory_of_somebody_else_is_not_filled(somebodys: Path) -> None:
    with pytest.raises(OpenStackError, match="not the lab's"):
        cloud(somebodys).up()
    assert [path.name for path in somebodys.iterdir()] == ["etc"]


def test_taking_down_what_never_was_is_a_success(tmp_path: Path) -> None:
    cloud(tmp_path / "nothing").down(wipe=True)
    assert not (tmp_path / "nothing").exists()


def test_a_taken_port_is_told_with_who_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(tmp_path / "cloud")
    layout.make_directories()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("lab.openstack.cloud.PORTS", {"keystone": taken.getsockname()[1]})
        with pytest.raises(OpenStackError, match=r"is taken by .+ \(pid \d+\), and keystone needs it"):
            OpenStack(layout, tmp_path)._refuse_taken_ports()


def test_what_is_up_is_not_taken_for_something_with_other_parts(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "cloud")
    layout.make_directories()
    OpenStack(layout, tmp_path, ("nfs",), agent=False)._refuse_other_parts()
    OpenStack(layout, tmp_path, ("rbd", "nfs"))._refuse_other_parts()
    processes.start(layout, "keystone", ["sleep", "60"])
    try:
        with pytest.raises(OpenStackError, match="it is up with rbd,nfs with agent, and nfs without agent"):
            OpenStack(layout, tmp_path, ("nfs",), agent=False)._refuse_other_parts()
        OpenStack(layout, tmp_path, ("rbd", "nfs"))._refuse_other_parts()
    finally:
        processes.stop(layout, "keystone")


def test_a_ceph_of_somebody_else_keeps_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc = tmp_path / "etc-ceph"
    etc.mkdir()
    (etc / "ceph.conf").write_text("somebody's\n")
    monkeypatch.setattr(ceph, "CLIENTS_LOOK_IN", etc)
    layout = Layout(tmp_path / "cloud")
    ceph._link(layout)
    assert (etc / "ceph.client.cinder.keyring").readlink() == layout.etc / "ceph/ceph.client.cinder.keyring"
    ceph.unlink(layout)
    assert [path.name for path in etc.iterdir()] == ["ceph.conf"]
    assert (etc / "ceph.conf").read_text() == "somebody's\n"


def test_accounts_of_a_run_that_was_cut_short_get_into_no_dump_of_empty_schemas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path / "cloud")
    layout.make_directories()
    monkeypatch.setattr(processes, "run", lambda *_: "")
    monkeypatch.setattr(database, "COMMITTED", tmp_path / "none")
    monkeypatch.setattr(database, "_sql", lambda *_: None)
    monkeypatch.setattr(database, "_dump", lambda *_: "tables;")

    def dies() -> None:
        raise OpenStackError("killed while the accounts were made")

    with pytest.raises(OpenStackError, match="killed"):
        database.make_schemas(layout, tmp_path / "cache", dies)
    database.make_schemas(layout, tmp_path / "cache", lambda: None)
    assert not (tmp_path / "cache").exists()
    fresh = Layout(tmp_path / "fresh")
    fresh.make_directories()
    database.make_schemas(fresh, tmp_path / "cache", lambda: None)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_restored_schemas_are_not_restored_again_over_the_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[str] = []
    monkeypatch.setattr(processes, "run", lambda *_: "")
    monkeypatch.setattr(database, "COMMITTED", tmp_path / "none")
    monkeypatch.setattr(database, "_dump", lambda *_: "tables;")
    monkeypatch.setattr(database, "_sql", lambda _, text: restored.append(text))
    layouts = [Layout(tmp_path / name) for name in ("first", "second")]
    for layout in layouts:
        layout.make_directories()
    database.make_schemas(layouts[0], tmp_path / "cache", lambda: None)
    restored.clear()

    def dies() -> None:
        raise OpenStackError("killed while the accounts were made")

    with pytest.raises(OpenStackError, match="killed"):
        database.make_schemas(layouts[1], tmp_path / "cache", dies)
    database.make_schemas(layouts[1], tmp_path / "cache", lambda: None)
    assert restored == ["tables;tables;"]

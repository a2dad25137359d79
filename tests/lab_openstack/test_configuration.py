from __future__ import annotations

import configparser
import stat
from pathlib import Path

import pytest

from lab.openstack import configuration, database, packages, processes, services
from lab.openstack.layout import BACK_ENDS, PORTS, Layout, OpenStackError


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "cloud")
    found.make_directories()
    return found


@pytest.mark.parametrize("agent", [True, False])
def test_every_template_is_filled_and_none_is_forgotten(layout: Layout, *, agent: bool) -> None:
    configuration.write(layout, BACK_ENDS, agent=agent)
    for place in configuration.FILES.values():
        assert "$directory" not in (layout.etc / place).read_text()
    elsewhere = {"clouds.yaml", "qemu.conf", "mount.nfs", "port_binder.txt"}
    assert {path.name for path in configuration.TEMPLATES.iterdir()} == {*configuration.FILES, *elsewhere}


def test_files_with_the_password_are_their_owners_alone(layout: Layout) -> None:
    configuration.write(layout, BACK_ENDS, agent=False)
    word = configuration.password(layout)
    holders = [path for path in layout.directory.rglob("*") if path.is_file() and word in path.read_text()]
    assert layout.clouds in holders
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_the_password_is_another_one_in_another_cloud_and_stays_the_same_in_one(tmp_path: Path) -> None:
    first, second = Layout(tmp_path / "first"), Layout(tmp_path / "second")
    assert configuration.password(first) == configuration.password(first) != configuration.password(second)


def test_only_the_back_ends_that_were_asked_for_are_configured(layout: Layout) -> None:
    configuration.write(layout, ("nfs",), agent=False)
    cinder = configparser.ConfigParser(interpolation=None, strict=False)
    cinder.read(layout.etc / "cinder.conf")
    assert cinder["DEFAULT"]["enabled_backends"] == cinder["DEFAULT"]["default_volume_type"] == "nfs"
    assert not set(packages.WITH_RBD) & set(packages.needed(("nfs",), agent=False))


def test_every_service_has_its_configuration_and_its_port_is_its_own(layout: Layout) -> None:
    configuration.write(layout, BACK_ENDS, agent=True)
    for service in services.ALL:
        named = [word.format(etc=layout.etc) for word in (*service.command, *service.environment.values())]
        places = [Path(word) for word in named if word.startswith(str(layout.etc))]
        assert places, service.name
        assert all(place.exists() for place in places if place.name != "port-binder"), service.name
    ports = [service.port for service in services.ALL if service.port]
    assert len(ports) == len(set(ports))
    assert set(ports) <= set(PORTS.values())


def test_a_process_is_known_again_and_another_one_with_its_pid_is_not_taken_for_it(layout: Layout) -> None:
    processes.start(layout, "sleeper", ["sleep", "60"])
    assert processes.is_running(layout, "sleeper")
    pid_file = layout.run / "sleeper.pid"
    pid, began = pid_file.read_text().split()
    pid_file.write_text(f"{pid} {int(began) - 1}")
    assert not processes.is_running(layout, "sleeper")
    pid_file.write_text(f"{pid} {began}")
    processes.stop(layout, "sleeper")
    assert not processes.is_running(layout, "sleeper")
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_fails_is_told_with_what_it_said_and_where_the_rest_stands(layout: Layout) -> None:
    with pytest.raises(OpenStackError, match=r"ls failed: .*No such file.*step\.log"):
        processes.run(layout, "step", ["ls", "/nowhere/at/all"])


def test_dumps_of_schemas_are_told_apart_by_the_versions_of_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "versions", lambda _: {"nova-common": "2:26.1.0-4"})
    first = database.versions_key()
    monkeypatch.setattr(packages, "versions", lambda _: {"nova-common": "2:26.1.0-5"})
    assert database.versions_key() != first

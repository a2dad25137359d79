"""User data: files of the workers, and nothing else of their machines."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from xms.errors import BadInput, ConfigurationError
from xms.openstack import user_data


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    inside = tmp_path / "user-data"
    inside.mkdir()
    return inside


def a_file(path: Path, content: bytes = b"#cloud-config\n", mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_file_of_the_directory_is_given_as_nova_wants_it(directory: Path) -> None:
    a_file(directory / "first-boot.yaml")
    assert base64.b64decode(user_data.encoded(directory, "first-boot.yaml")) == b"#cloud-config\n"


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", ".", "", "a/b", "a b", "linked", "folder"])
def test_nothing_outside_of_the_directory_can_be_named(directory: Path, name: str) -> None:
    outside = a_file(directory.parent / "secret", b"hidden")
    (directory / "linked").symlink_to(outside)
    (directory / "folder").mkdir(mode=0o700)
    with pytest.raises(BadInput, match="cannot be used") as error:
        user_data.encoded(directory, name)
    assert "hidden" not in str(error.value)


def test_a_file_that_others_may_read_is_refused(directory: Path) -> None:
    a_file(directory / "open", mode=0o640)
    with pytest.raises(BadInput, match="mode is 0640"):
        user_data.encoded(directory, "open")


def test_the_longest_that_nova_takes_is_taken_and_no_more(directory: Path) -> None:
    a_file(directory / "fits", b"x" * 49_149)
    a_file(directory / "long", b"x" * 49_152)
    assert len(user_data.encoded(directory, "fits")) == 65_532
    with pytest.raises(BadInput, match="Nova's limit"):
        user_data.encoded(directory, "long")


def test_a_worker_without_such_a_directory_says_so() -> None:
    with pytest.raises(ConfigurationError, match="names no directory of user data"):
        user_data.encoded(None, "first-boot.yaml")

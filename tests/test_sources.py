"""Where sources are registered, and that a running worker follows: `[sources.NAME]`, and a file each in sources.d."""

from __future__ import annotations

from pathlib import Path

import pytest

from xms.config import Config, SourceConfig
from xms.errors import BadInput, ConfigurationError
from xms.sources import load_followed_config, registration_file

TABLE = '[sources.{name}]\nhost = "{host}"\nusername = "u"\npassword_file = "/p"\n'
FILE = 'host = "{host}"\nusername = "u"\npassword_file = "/p"\n'


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "sources.d").mkdir()
    path = tmp_path / "config.toml"
    write(path, "by-hand")
    return path


def write(config: Path, *names: str, host: str = "one") -> None:
    config.write_text('[target]\ncloud = "lab"\n' + "".join(TABLE.format(name=name, host=host) for name in names))


def create(config: Path, name: str, host: str = "one") -> Path:
    path = registration_file(config, name)
    path.write_text(FILE.format(host=host))
    return path


def hosts(config: Config) -> dict[str, str]:
    return {name: source.host for name, source in config.registered().items() if isinstance(source, SourceConfig)}


def test_sources_of_both_kinds_are_known(place: Path) -> None:
    create(place, "by-file")
    assert hosts(load_followed_config(place)) == {"by-hand": "one", "by-file": "one"}


def test_without_a_directory_the_file_alone_counts(place: Path) -> None:
    (place.parent / "sources.d").rmdir()
    assert hosts(load_followed_config(place)) == {"by-hand": "one"}


def test_new_changed_and_removed_sources_are_taken_up_without_a_restart(place: Path) -> None:
    config = load_followed_config(place)
    file = create(place, "later")
    assert config.source("later").host == "one"
    file.write_text(FILE.format(host="two-two"))
    assert config.source("later").host == "two-two"
    file.unlink()
    with pytest.raises(ConfigurationError, match="no source is called 'later'"):
        config.source("later")
    write(place, "by-hand", "other", host="three")
    assert hosts(config) == {"by-hand": "three", "other": "three"}


def test_a_look_at_files_that_did_not_change_reads_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(place, "by-file")
    config = load_followed_config(place)
    monkeypatch.setattr(Path, "read_text", None)
    for _ in range(100):
        assert len(hosts(config)) == 2


def test_the_same_name_in_both_places_is_refused(place: Path) -> None:
    file = create(place, "by-hand", "two")
    with pytest.raises(ConfigurationError, match="source by-hand is registered twice") as refused:
        load_followed_config(place)
    assert str(file) in refused.value.because


def test_a_name_that_becomes_ambiguous_is_no_source_and_the_others_are(place: Path) -> None:
    create(place, "by-file")
    config = load_followed_config(place)
    second = create(place, "by-hand", "two")
    with pytest.raises(ConfigurationError, match="registered twice"):
        config.source("by-hand")
    assert config.source("by-file").host == "one"
    second.unlink()
    assert config.source("by-hand").host == "one"


@pytest.mark.parametrize("text", ["", "host = ", 'host = "x"\n', FILE.format(host="x") + 'pasword = "p"\n', "\xff"])
def test_a_file_that_breaks_while_the_worker_runs_counts_as_it_was(place: Path, text: str) -> None:
    file = create(place, "by-file")
    config = load_followed_config(place)
    file.write_bytes(text.encode("latin-1"))
    place.write_bytes(text.encode("latin-1"))
    assert hosts(config) == {"by-hand": "one", "by-file": "one"}
    file.write_text(FILE.format(host="mended"))
    assert config.source("by-file").host == "mended"


def test_a_file_that_was_never_right_is_a_source_that_says_what_is_wrong(place: Path) -> None:
    config = load_followed_config(place)
    file = create(place, "wrong")
    file.write_text(FILE.format(host="x") + 'thumprint = "AA"\n')
    with pytest.raises(ConfigurationError, match="source wrong cannot be used") as refused:
        config.source("wrong")
    assert "thumprint" in refused.value.because
    with pytest.raises(ConfigurationError, match="wrong cannot be used"):
        load_followed_config(place)


def test_files_that_are_no_registrations_are_left_alone(place: Path) -> None:
    for name in (".draft-0011", ".hidden.toml", "vcenter.password", "README"):
        (place.parent / "sources.d" / name).write_text("secret")
    assert hosts(load_followed_config(place)) == {"by-hand": "one"}


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "-a", ".a", "a b", "a" * 64, "ä", "a\n"])
def test_a_name_that_could_be_no_file_is_refused(place: Path, name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a source's name"):
        registration_file(place, name)

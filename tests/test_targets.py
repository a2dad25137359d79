"""Which cloud a migration goes to: `[target]` by default, `[targets.NAME]` where it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from xms.config import Config, load_config
from xms.errors import ConfigurationError


def configured(directory: Path, text: str) -> Config:
    file = directory / "config.toml"
    file.write_text(text)
    return load_config(file)


def test_a_target_is_found_by_its_name_and_the_default_one_by_none(tmp_path: Path) -> None:
    text = '[target]\ncloud = "one"\n[targets.west]\ncloud = "one"\nregion = "west"\n[targets.two]\ncloud = "two"\n'
    config = configured(tmp_path, text)
    assert config.target_named("").cloud == "one"
    assert config.target_named("").region is None
    assert config.target_named("west").region == "west"
    assert config.target_named("two").cloud == "two"


def test_an_unknown_target_is_told_with_those_that_are(tmp_path: Path) -> None:
    config = configured(tmp_path, '[target]\ncloud = "one"\n[targets.west]\ncloud = "w"\n[targets.east]\ncloud = "e"\n')
    with pytest.raises(ConfigurationError, match="no target is called 'moon'") as refused:
        config.target_named("moon")
    assert "east, west" in refused.value.because


def test_an_only_target_is_the_default_one_too(tmp_path: Path) -> None:
    config = configured(tmp_path, '[targets.west]\ncloud = "w"\n')
    assert config.target_named("") == config.target_named("west")


def test_of_several_targets_the_default_one_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured(tmp_path, '[targets.west]\ncloud = "w"\n[targets.east]\ncloud = "e"\n')
    assert "of several targets (east, west) none is the default one" in refused.value.because


@pytest.mark.parametrize("text", ["", "[targets]\n", '[targets."a b"]\ncloud = "x"\n', '[target]\nregion = "r"\n'])
def test_a_configuration_without_a_target_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError):
        configured(tmp_path, text)

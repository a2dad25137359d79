from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from tests.docs.pages import ROOT, blocks, rows
from xms.config import (
    Config,
    ConversionConfig,
    EvidenceConfig,
    SourceConfig,
    TargetConfig,
    TargetName,
    TransportConfig,
    WorkerConfig,
)

PAGE: Final = ROOT / "docs" / "configuration.md"
SECTIONS: Final[dict[str, type[BaseModel]]] = {
    "## `[worker]`": WorkerConfig,
    "## `[sources.NAME]`": SourceConfig,
    "## `[target]`": TargetConfig,
    "## `[transport]`": TransportConfig,
    "## `[conversion]`": ConversionConfig,
    "## `[evidence]`": EvidenceConfig,
}


def as_written(value: Any) -> str:  # noqa: ANN401 - any value of the configuration
    if value is None:
        return "none"
    plain = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return f"`{json.dumps(plain)}`"


@pytest.mark.parametrize(("heading", "section"), SECTIONS.items())
def test_every_key_is_documented_with_its_default(heading: str, section: type[BaseModel]) -> None:
    documented = {key: cells[0] for key, cells in rows(PAGE, heading).items()}
    expected = {}
    for key, field in section.model_fields.items():
        if field.is_required():
            expected[key] = "required"
        else:
            expected[key] = "the host's name" if field.default_factory else as_written(field.default)
    assert documented == expected


def test_every_section_is_documented() -> None:
    documented = {heading.strip("#` []").split(".")[0] for heading in (*SECTIONS, "## `[targets.NAME]`")}
    assert documented == set(Config.model_fields)


def test_other_targets_have_the_same_keys() -> None:
    assert Config.model_fields["targets"].annotation == dict[TargetName, TargetConfig]
    assert "## `[targets.NAME]`" in PAGE.read_text()


def test_the_example_is_a_configuration() -> None:
    (example,) = blocks(PAGE, "toml")
    config = Config.model_validate(tomllib.loads(example))
    assert config.source("prod-vcenter").datacenter == "Frankfurt"
    assert config.evidence.commands["db-answers"][0] == "/usr/local/bin/db-answers"

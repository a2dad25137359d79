"""The file of a run."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from bench.cost import Cost
from bench.machine import Machine

DIRECTORY: Final = Path(__file__).parent / "results"


class Row(BaseModel):
    """One comparison over all rounds. Ratios are of wall time within a round: below 1, the first one was faster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    peer: str
    """who it was compared with; for a ladder of sizes the row of the next smaller one"""
    target: str
    """file, block, block-direct, or none"""
    ratio_median: float
    ratio_min: float
    ratio_max: float
    rounds: int
    ours: Cost
    """medians, and the largest memory"""
    theirs: Cost


class Result(BaseModel):
    """A run of the benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    started: datetime
    seconds: float
    """of the whole run"""
    machine: Machine
    partial: str = Field(description="why this is not a run of the whole protocol; empty where it is")
    notes: list[str] = Field(description="what could not be measured here, and why")
    rows: list[Row]

    def save(self, path: Path | None = None) -> Path:
        """Write it to `path`, or to a file of the results' directory that is named for the time and the machine."""
        if path is None:
            machine = re.sub(r"[^a-z0-9]+", "-", f"{self.machine.processor} {self.machine.cores}".lower()).strip("-")
            path = DIRECTORY / f"{self.started:%Y-%m-%dT%H%M}-{machine}.json"
            DIRECTORY.mkdir(exist_ok=True)
        path.write_text(self.model_dump_json(indent=2) + "\n")
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """The result of a file."""
        return cls.model_validate_json(path.read_text())

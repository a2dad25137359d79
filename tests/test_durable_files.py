"""A file that is replaced is the old one or the new one, whatever happens meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from xms import durable_files


def test_a_file_is_replaced_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    for text in ("old", "né\n"):
        durable_files.replace(file, text)
        assert file.read_text(encoding="utf-8") == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_text_and_name_are_on_the_disk_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    file.write_text("old")
    seen: list[tuple[bool, str]] = []
    really_flush = os.fsync

    def flush(descriptor: int) -> None:
        really_flush(descriptor)
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), file.read_text()))

    monkeypatch.setattr(os, "fsync", flush)
    durable_files.replace(file, "new")
    assert seen == [(False, "old"), (True, "new")]


def test_a_file_that_cannot_be_written_stays_and_nothing_is_left_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "record.json"
    file.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable_files.replace(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]

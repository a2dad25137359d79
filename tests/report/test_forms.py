"""The three forms of a report: text for a terminal, JSON, and a page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as HypothesisPhase
from rich.console import Console

from cli import screens
from cli.report_screens import report as screen
from tests.report.any_job import STATUSES, STORIES
from tests.report.samples import (
    ABANDONED,
    COMPLETED,
    FAILED_CUTOVER,
    HOSTILE,
    KEPT_OFF,
    MADE_AT,
    ROLLED_BACK,
    STORY,
    SUBMITTED,
)
from workflows.details import describe
from xms.job import JobState
from xms.models import Event
from xms.report.build import report_of
from xms.report.model import Report
from xms.report.page import page
from xms.status import Events, JobStatus

GOLDEN: Final = Path(__file__).parent / "golden"
VOID: Final = frozenset({"meta", "rect", "line", "circle"})
JOBS: Final = {
    "completed": COMPLETED,
    "rolled-back": ROLLED_BACK,
    "kept-off": KEPT_OFF,
    "abandoned": ABANDONED,
    "submitted": SUBMITTED,
}


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def text_of(report: Report, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, highlight=False, markup=False, emoji=False).print(
        screen(report, width), crop=False
    )
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


class Read(HTMLParser):
    """A page as a browser takes it: every element that is opened is closed, in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "width"), [("completed", 80), ("completed", 100), ("kept-off", 80)])
def test_the_text_is_as_it_was_looked_at(name: str, width: int) -> None:
    file = GOLDEN / f"{name}-{width}.txt"
    text = text_of(report_of(JOBS[name], STORY, MADE_AT), width)
    assert text == file.read_text(), f"look at it, and write it into {file.name}:\n{text}"


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(name: str, width: int) -> None:
    text = text_of(report_of(JOBS[name], STORY, MADE_AT), width)
    assert all(len(line) <= width for line in text.splitlines())


def test_nothing_that_others_wrote_works_on_a_terminal() -> None:
    status = COMPLETED.model_copy(
        update={"cutover": COMPLETED.cutover and COMPLETED.cutover.model_copy(update={"evidence": HOSTILE})}
    )
    for text in (text_of(report_of(status, STORY, MADE_AT), 100), drawn(status)):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert r"\x1b[31m\u202e" in text


def drawn(status: JobStatus) -> str:
    out = io.StringIO()
    Console(file=out, width=100, force_terminal=False).print(screens.job(status, MADE_AT, 100), crop=False)
    return out.getvalue()


def test_the_end_of_a_programs_log_keeps_its_lines() -> None:
    assert FAILED_CUTOVER.trouble is not None
    trouble = FAILED_CUTOVER.trouble.model_copy(update={"log_tail": "first line\nsecond\x1b line"})
    status = ROLLED_BACK.model_copy(update={"cutover": FAILED_CUTOVER.model_copy(update={"trouble": trouble})})
    report = report_of(status, STORY, MADE_AT)
    assert "  its log    first line\n             second\\x1b line\n" in text_of(report, 80)
    assert "first line\nsecond\\x1b line</pre>" in page(report)


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", JOBS)
def test_the_page_is_balanced_and_brings_all_that_it_needs(name: str) -> None:
    text = page(report_of(JOBS[name], STORY, MADE_AT))
    read = Read(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in read.elements}
    for tag, attributes in read.elements:
        assert not {"src", "href", "style"} & set(attributes), tag
        assert not [attribute for attribute in attributes if attribute.startswith("on")], tag
    assert not re.findall(r"url\(|@import|https?:", text)


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else() -> None:
    text = page(report_of(COMPLETED, STORY, MADE_AT))
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [
        attributes["content"]
        for tag, attributes in Read(text).elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_the_page_tells_what_the_text_tells() -> None:
    told = Read(page(report_of(COMPLETED, STORY, MADE_AT))).text
    for words in (
        "db-prod-01 runs as db-prod-01 in infra, after a downtime of 2m 31s.",
        "Predicted 2m 42s 8 % too much",
        "Cutover 2 completed",
        "Guest Fixes 02:03:18 1m 22s done 64 MiB Debian GNU/Linux 12, virtio",
        "118 MiB of the final delta, read back from the volumes and compared",
        "02:01:30 one more warm pass 6m 10s predicted, 5m are allowed",
        "Cutover 1 rolled back",
        "Guest Fixes 02:01:35 1m 17s failed, undone",
        "port 11d0 stays: somebody attached it to 'web-03'",
        "Rehearsal 3 passed",
        "2026-11-22 02:03:10 UTC 118 MiB 5.1s 7.7s 23.1 MiB/s final delta",
        "312 older events were not kept.",
    ):
        assert words in told, words


def test_what_looks_like_html_is_shown_and_never_obeyed() -> None:
    named = COMPLETED.model_copy(update={"spec": COMPLETED.spec.model_copy(update={"vm": HOSTILE})})
    story = Events(events=(Event(at=MADE_AT, kind=HOSTILE, text=HOSTILE, who=HOSTILE),))
    text = page(report_of(named, story, MADE_AT))
    assert "<script" not in text
    assert "\x1b" not in text
    read = Read(text)
    assert read.text.count(r"""<script>alert('x')</script>\x1b[31m\u202e & "quoted\"""".replace('\\"', '"')) >= 4


def test_the_picture_shows_each_step_the_downtime_and_what_was_undone() -> None:
    read = Read(page(report_of(ROLLED_BACK, STORY, MADE_AT)))
    kinds = [attributes.get("class") for tag, attributes in read.elements if tag == "rect"]
    assert kinds.count("band") == 1
    assert (kinds.count("done"), kinds.count("undone"), kinds.count("failed")) == (3, 3, 1)
    assert len([tag for tag, _ in read.elements if tag == "circle"]) == 4


# --- whatever the status ----------------------------------------------------------------------------------------------


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(HypothesisPhase.explicit, HypothesisPhase.reuse, HypothesisPhase.generate),
)
@given(STATUSES, STORIES)
def test_any_status_makes_a_report_in_every_form(status: JobStatus, story: Events) -> None:
    report = report_of(status, story, MADE_AT)
    assert Report.model_validate_json(report.model_dump_json()) == report
    text = text_of(report, 80)
    assert not [character for character in text if unicodedata.category(character) == "Cc" and character != "\n"]
    read = Read(page(report))
    assert "script" not in {tag for tag, _ in read.elements}
    for width in (80, 120):
        Console(file=io.StringIO(), width=width).print(screens.job(status, MADE_AT, width), crop=False)
    state = JobState.fresh(status.spec, MADE_AT).model_copy(
        update={name: getattr(status, name) for name in ("cutover", "earlier_cutovers", "rehearsal", "rehearsed")}
    )
    assert len(describe(status.spec, state).encode()) < 20_000

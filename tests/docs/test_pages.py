from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, anchors, name

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else (page.parent / path).resolve()
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_path_that_is_named_exists(page: Path) -> None:
    for path in re.findall(
        r"`((?:workflows|activities|cli|xms|lab|bench|tests|docs|scripts)/[\w./-]*)`", page.read_text()
    ):
        assert (ROOT / path).exists(), path


def test_every_page_is_reached_from_the_readme() -> None:
    linked = {target for target in LINK.findall((ROOT / "README.md").read_text()) if target.startswith("docs/")}
    assert {name(page) for page in PAGES if page.parent.name == "docs"} <= linked


@pytest.mark.parametrize("image", sorted((ROOT / "docs" / "images").glob("*")), ids=lambda image: image.name)
def test_a_picture_is_small_enough_to_read_the_page_quickly(image: Path) -> None:
    assert image.read_bytes().startswith(b"\x89PNG")
    assert image.stat().st_size < 300_000

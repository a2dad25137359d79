"""How every screen looks: tables without lines, labelled facts, and the one colour of trouble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

TROUBLE_STYLE: Final = "red"

WIDE: Final = 100
"""Columns from which a screen has room for whole volume ids and three figures beside each other."""

INDENT: Final = (0, 0, 0, 2)


def columns(*headers: str, right: Sequence[str] = ()) -> Table:
    """A table as all screens have it: no lines, upper-case headers, two spaces between columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for header in headers:
        table.add_column(header, no_wrap=True, overflow="fold", justify="right" if header in right else "left")
    return table


def facts(labelled: Sequence[tuple[str, Text]]) -> RenderableType:
    """Labels at the left, what they name at the right, broken where the line ends."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, min_width=9)
    grid.add_column(overflow="fold")
    for label, text in labelled:
        grid.add_row(label, text)
    return Padding(grid, INDENT, expand=False)


def whole(label: str, text: str) -> Text:
    """A line with something to copy in it: left to the terminal to wrap, since a break of ours would be copied too."""
    return Text(f"  {label:<9}  {text}", no_wrap=True, overflow="ignore")

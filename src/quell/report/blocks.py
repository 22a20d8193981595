"""The pieces of a page: numbered figures and tables with captions and data, gathered in sections."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

import polars as pl
from markupsafe import Markup

EMBEDDED = 60_000  # bytes of one data file that a page carries; larger ones are only among Page.files


class Data(NamedTuple):
    """One file to download: its name, and a data: link where it is small enough to embed."""

    name: str
    link: str
    size: str


class Cell(NamedTuple):
    """One cell of a table: what is shown, and the number behind it in full."""

    text: str
    value: str = ""
    label: str = ""


class Panel(NamedTuple):
    """One small picture with its own title."""

    title: str
    picture: Markup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A numbered figure or table, or paragraphs; ``kind`` picks how the page lays it out."""

    kind: str  # figure, table, flow, text, box
    key: str = ""
    label: str = ""  # "Figure 3"
    title: str = ""
    caption: str = ""
    panels: tuple[Panel, ...] = ()
    legend: bool = False
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    narrow: str = "plain"  # on a narrow page each row is a "card", a "line" of text, "stacked" under its name, or plain
    paragraphs: tuple[str, ...] = ()
    flow: object = None
    data: tuple[Data, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    key: str
    title: str
    lead: str = ""
    blocks: tuple[Block, ...] = ()


class Numbering:
    """Counts figures and tables, and keeps every data file under its name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._counts = {"Figure": 0, "Table": 0}

    def next(self, kind: str) -> tuple[str, str]:
        """The label and the anchor of the next figure or table."""
        self._counts[kind] += 1
        label = f"{kind} {self._counts[kind]}"
        return label, label.lower().replace(" ", "-")

    def data(self, name: str, frame: pl.DataFrame) -> Data:
        """A frame as CSV to download."""
        content = csv(frame)
        file = f"{re.sub(r'[^a-z0-9]+', '-', name.lower().replace('%', 'percent')).strip('-') or 'data'}.csv"
        while file in self.files and self.files[file] != content:
            file = file.replace(".csv", "-more.csv")
        self.files[file] = content
        size = f"{max(1, round(len(content) / 1000)):,} kB"
        if len(content) > EMBEDDED:
            return Data(file, "", size)
        return Data(file, "data:text/csv;base64," + base64.b64encode(content).decode(), size)


def csv(frame: pl.DataFrame) -> bytes:
    """A frame as CSV: six significant digits, and no text that a spreadsheet would run as a formula."""
    floats = [name for name, kind in frame.schema.items() if kind.is_float()]
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    safe = frame.with_columns(
        *(pl.col(name).round_sig_figs(6) for name in floats),
        *(
            pl.when(pl.col(name).str.contains(r"^[=+\-@\t\r]")).then("'" + pl.col(name)).otherwise(name).alias(name)
            for name in texts
        ),
    )
    return safe.write_csv().encode()


def cells(values: Sequence[object], head: Sequence[str]) -> tuple[Cell, ...]:
    """Cells from texts or cells, each with its column's name for narrow pages."""
    return tuple(
        value._replace(label=name) if isinstance(value, Cell) else Cell(str(value), "", name)
        for value, name in zip(values, head, strict=True)
    )

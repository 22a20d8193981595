"""Numbered figures and tables of a design's page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from quell import figures
from quell.report.blocks import Block, Numbering, Panel, cells

_APART = re.compile(r" (?=±)|(?<=±) |(?<=\d) (?=%|people|events|years)")
Drawn = tuple[str, Any, str]  # title, matplotlib figure, words for who cannot see it


def figure(
    numbering: Numbering, title: str, caption: str, panels: Sequence[Drawn], data: Mapping[str, pl.DataFrame]
) -> Block:
    """A numbered figure of one or more panels, with the data behind it."""
    label, key = numbering.next("Figure")
    made = tuple(
        Panel(name, Markup(figures.svg(drawing, alt, f"{key}-{step}")))
        for step, (name, drawing, alt) in enumerate(panels)
    )
    kept = tuple(numbering.data(name, frame) for name, frame in data.items())
    return Block(kind="figure", key=key, label=label, title=title, caption=caption, panels=made, data=kept)


def table(
    numbering: Numbering,
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    data: Mapping[str, pl.DataFrame] | None = None,
) -> Block:
    """A numbered table, with data where there is more than it shows."""
    label, key = numbering.next("Table")
    body = tuple(cells([together(value) for value in row], head) for row in rows)
    kept = tuple(numbering.data(name, frame) for name, frame in (data or {}).items())
    return Block(
        kind="table",
        key=key,
        label=label,
        title=title,
        caption=caption,
        head=tuple(head),
        rows=body,
        narrow="card",
        data=kept,
    )


def together(value: Any) -> Any:
    """Text whose values stay on one line with their error and unit; anything else as it is.

    >>> together("5.6 % ± 1.2 of 500 trials") == "5.6\u00a0%\u00a0±\u00a01.2 of 500 trials"
    True
    """
    return _APART.sub("\u00a0", value) if type(value) is str else value


def box(lines: Sequence[str]) -> Block:
    return Block(kind="box", paragraphs=tuple(lines))


def frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows of plain data, whatever is missing in some of them."""
    return pl.DataFrame(list(rows), infer_schema_length=None)

"""Published figures on their predictions, all on one scale: the exam in one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from quell.figures.canvas import FAINT, GRID, INK, SIZE, TEAL, axes, drawn, sketch, strokes
from quell.figures.effects import LINE, SIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, BAND, HEADING = LINE + 0.24, 0.06, LINE + 0.14  # inches: a row, half of its band, a heading
LEFT, RIGHT, WORDS = -0.35, 1.35, 2.45  # a scale on which the 90 % interval runs from 0 to 1; then room for words
BELOW = 0.42


@drawn
def predicted(rows: pl.DataFrame) -> Figure:
    """Rows of group, label, value (text), published, lower, q25, median, q75, upper, foreseen: one band a row.

    Every band is stretched so that its 90 % interval (teal) has the same ends; a diamond beside it was missed, and a
    hollow one could not have been foreseen.
    """
    groups = rows["group"].unique(maintain_order=True).to_list()
    height = ROW * rows.height + HEADING * len(groups)
    figure = sketch(height + BELOW + 0.05)
    place = axes(figure, SIDE, BELOW, SIDE, 0.05)
    place.set_axis_off()
    place.set_xlim(LEFT, WORDS)
    place.set_ylim(0, height)
    top = height
    for group in groups:
        place.text(LEFT, top - 0.08, group, ha="left", va="top", fontweight="bold")
        top -= HEADING
        part = rows.filter(pl.col("group") == group)
        for row in part.iter_rows(named=True):
            _row(place, row, top)
            top -= ROW
    for at, text in ((0.0, "5 %"), (1.0, "95 %")):
        place.text(at, -0.05, text, ha="center", va="top", color=FAINT)
    place.text(0.5, -0.05 - LINE, "of simulated trials lie below", ha="center", va="top", color=FAINT)
    return figure


def _row(place: Axes, row: dict[str, Any], top: float) -> None:
    place.text(LEFT, top - 0.01, row["label"], ha="left", va="top", color=INK)
    y = top - LINE - 0.10
    place.text(RIGHT + 0.06, y, row["value"], ha="left", va="center_baseline", color=FAINT, fontsize=SIZE - 1)
    place.fill_between([LEFT, RIGHT], y - BAND, y + BAND, color=GRID, alpha=0.45, linewidth=0)
    place.fill_between([0, 1], y - BAND, y + BAND, color=TEAL, alpha=0.22, linewidth=0)
    where = {name: scaled(row[name], row["lower"], row["upper"]) for name in ("q25", "median", "q75", "published")}
    place.fill_between([where["q25"], where["q75"]], y - BAND, y + BAND, color=TEAL, alpha=0.42, linewidth=0)
    strokes(place, [((where["median"], y - BAND), (where["median"], y + BAND))], TEAL, 2.0, 1.0)
    at = min(max(where["published"], LEFT + 0.02), RIGHT - 0.02)
    marker = "D" if at == where["published"] else "<" if at < 0 else ">"
    filled = "black" if row["foreseen"] else "white"
    place.plot([at], [y], marker, color=filled, markeredgecolor="black", markeredgewidth=1.2, markersize=5.5)


def scaled(value: float, lower: float, upper: float) -> float:
    """Where a value lies if the interval runs from 0 to 1; an interval of no width is a point in the middle.

    >>> scaled(5.0, 4.0, 8.0), scaled(4.0, 4.0, 4.0), scaled(5.0, 4.0, 4.0)
    (0.25, 0.5, inf)
    """
    if upper > lower:
        return (value - lower) / (upper - lower)
    return 0.5 if value == lower else math.copysign(math.inf, value - lower)

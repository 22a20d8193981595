"""A user's own study, fitted: constants before and after, and each person's readings on what is predicted of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from quell.figures import canvas
from quell.figures.canvas import FAINT, GREY, GRID, INK, SIZE, TEAL, Scale, axes, drawn, frame, sketch, ticks
from quell.figures.effects import LINE, SIDE
from quell.figures.response import SHORT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, BAND, BELOW = LINE + 0.2, 0.05, 0.5  # inches: a row, half of its band, room for the axis
WITHIN = 1.645  # standard deviations to the ends of a 90 % interval


@drawn
def constants(rows: pl.DataFrame) -> Figure:
    """Rows of constant, prior, prior_sd_of_log, lower, median, upper, value (text): prior band grey, posterior teal, as ratios."""
    figure = sketch(ROW * rows.height + BELOW + 0.05)
    place = axes(figure, SIDE, BELOW, SIDE, 0.05)
    place.set_xscale("log")
    reach = WITHIN * rows["prior_sd_of_log"].to_numpy()
    low, high = _ends(
        [rows["lower"] / rows["prior"], rows["upper"] / rows["prior"], pl.Series(np.exp([*reach, *-reach]))]
    )
    low, high = low / 1.1, high * 1.1
    place.set_xlim(low, high)
    place.set_ylim(0, ROW * rows.height)
    for i, row in enumerate(rows.iter_rows(named=True)):
        _constant(place, row, ROW * (rows.height - i), (low, high))
    place.axvline(1.0, color=FAINT, linewidth=0.8, zorder=0.5)
    frame(place, Scale(at=canvas.log_ticks(low, high, 6), name="times the middle of the prior"), Scale(line=False))
    return figure


def _constant(place: Axes, row: dict[str, Any], top: float, ends: tuple[float, float]) -> None:
    y, sd = top - LINE - 0.09, row["prior_sd_of_log"]
    place.text(ends[0], top - 0.01, row["constant"].replace("_", " "), ha="left", va="top", color=INK)
    place.text(ends[1], top - 0.01, row["value"], ha="right", va="top", color=FAINT, fontsize=SIZE - 1)
    place.fill_between(np.exp([-WITHIN * sd, WITHIN * sd]), y - BAND, y + BAND, color=GRID, linewidth=0)
    lower, median, upper = (row[name] / row["prior"] for name in ("lower", "median", "upper"))
    place.fill_between([lower, upper], y - BAND, y + BAND, color=TEAL, alpha=0.75, linewidth=0)
    place.plot([median, median], [y - 1.6 * BAND, y + 1.6 * BAND], color=INK, linewidth=1.6)


@drawn
def individual(
    told: pl.DataFrame, without: pl.DataFrame, seen: pl.DataFrame, *, dose_days: Sequence[int], unit: str
) -> Figure:
    """One person: readings (dots; hollow below the limit) on the intervals of the truth and of a reading; ``without`` dashed.

    ``told`` and ``without`` have day, lower, median, upper, lower_reading, upper_reading; ``seen`` day, value, below.
    """
    figure = sketch(2.2)
    place = axes(figure, 0.62, 0.5, 0.1, 0.1)
    low, high = _ends([told["lower_reading"], told["upper_reading"], without["median"], seen["value"]])
    logarithmic = low > 0 and high / low > SHORT
    if logarithmic:
        place.set_yscale("log")
    place.fill_between(told["day"], told["lower_reading"], told["upper_reading"], color=TEAL, alpha=0.14, linewidth=0)
    place.fill_between(told["day"], told["lower"], told["upper"], color=TEAL, alpha=0.3, linewidth=0)
    if without.height:
        place.plot(without["day"], without["median"], color=GREY, linewidth=1.6, linestyle=(0, (5, 2)))
    place.plot(told["day"], told["median"], color=TEAL, linewidth=2)
    for below, fill in ((False, INK), (True, "white")):
        mine = seen.filter(pl.col("below") == below)
        place.plot(mine["day"], mine["value"], "o", color=fill, markeredgecolor=INK, markersize=4.2)
    place.set_ylim(*((low / 1.1, high * 1.1) if logarithmic else canvas.spread(low, high)))
    first, last = _ends([told["day"], seen["day"]])
    wide = (last - first) * 0.03 or 1
    place.set_xlim(first - wide, last + wide)
    heights = canvas.log_ticks(low, high, 5) if logarithmic else ticks(low, high, 4)
    name = ", ".join(word for word in (unit, "log scale" if logarithmic else "") if word)
    frame(place, Scale(at=ticks(first, last, 5), name="study day"), Scale(at=heights, name=name, grid=True))
    marks = [((day, 0.0), (day, 0.05)) for day in dose_days]
    canvas.strokes(place, marks, INK, 1.2, 1.0, transform=place.get_xaxis_transform())
    return figure


def _ends(columns: Sequence[pl.Series]) -> tuple[float, float]:
    """The least and the greatest number of some columns."""
    values = np.concatenate([one.to_numpy().astype(float) for one in columns])
    return float(np.nanmin(values)), float(np.nanmax(values))

"""Cumulative incidence, with the numbers at risk and the events so far under the axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from quell import units
from quell.analysis.description import ArmIncidence
from quell.figures import canvas
from quell.figures.canvas import Look, Scale, axes, drawn, frame, sketch, ticks
from quell.figures.effects import LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@drawn
def incidence(curves: Sequence[ArmIncidence], arms: Mapping[str, Look]) -> Figure:
    """Event curves upwards from zero with 95 % intervals, censor ticks, numbers at risk and cumulative events.

    Each curve stops where fewer than 10 % of its people remain at risk.
    """
    days = curves[0].table["day"].to_list()
    labels = {curve.arm: canvas.wrapped(arms[curve.arm].label, 13) for curve in curves}
    rows = sum(label.count("\n") + 1 for label in labels.values())
    table = 2 * (rows + 1) * LINE + 0.1
    left = 0.3 + 0.09 * max(len(line) for label in labels.values() for line in label.split("\n"))
    left = max(left, 0.95)
    figure = sketch(2.3 + 0.55 + table)
    place = axes(figure, left, table + 0.55, 0.22, 0.1)
    top = max([0.02, *(_curve(place, curve, arms[curve.arm]) for curve in curves)])
    high = min(1.0, top * 1.06)
    last = max(days[-1], *(curve.reliable_until for curve in curves)) if len(days) else 1.0
    place.set_ylim(0, high)
    place.set_xlim(0, last)
    heights = ticks(0, high, 5)
    name, length = _unit(days)
    horizontal = Scale(at=days, labels=[canvas.number(day / length, 0) for day in days], name=f"{name} since day 1")
    vertical = Scale(
        at=heights, labels=[f"{100 * height:.3g} %" for height in heights], name="with an event", grid=True
    )
    frame(place, horizontal, vertical)
    _table(figure, place, curves, arms, labels)
    return figure


def _unit(days: Sequence[float]) -> tuple[str, float]:
    step = days[1] - days[0] if len(days) > 1 else units.DAYS_PER_YEAR
    if step < 29:
        return "weeks", 7.0
    return ("years", units.DAYS_PER_YEAR) if step > 300 else ("months", units.DAYS_PER_YEAR / 12)


def _curve(place: Axes, found: ArmIncidence, look: Look) -> float:
    """Draw one arm; returns the height that its interval needs."""
    frame = found.curve.filter(pl.col("day") <= found.reliable_until)
    day = np.concatenate([[0.0], frame["day"].to_numpy()])
    height = np.concatenate([[0.0], frame["incidence"].to_numpy()])
    lower = np.concatenate([[0.0], frame["lower"].to_numpy()])
    upper = np.concatenate([[0.0], frame["upper"].to_numpy()])
    place.fill_between(day, lower, upper, step="post", color=look.colour, alpha=0.13, linewidth=0)
    place.step(day, height, where="post", color=look.colour, linewidth=2, linestyle=look.dash)
    lost = frame.filter(pl.col("censored") > 0)
    chosen = list(canvas.some(lost.height, 60))
    where = list(zip(lost["day"].to_numpy()[chosen], lost["incidence"].to_numpy()[chosen], strict=True))
    place.plot([x for x, _ in where], [y for _, y in where], "|", color=look.colour, markersize=6, markeredgewidth=1)
    return float(np.nanmax(upper)) if len(upper) else 0.0


def _table(
    figure: Figure, place: Axes, curves: Sequence[ArmIncidence], arms: Mapping[str, Look], labels: Mapping[str, str]
) -> None:
    width, height = figure.get_size_inches()
    box = place.get_position()
    low, high = place.get_xlim()
    y = (box.y0 * height - 0.55) / height
    for title, column in (("At risk", "at_risk"), ("Events so far", "cumulative_events")):
        figure.text(0.08 / width, y, title, va="top", fontweight="bold")
        y -= LINE / height
        for curve in curves:
            look = arms[curve.arm]
            figure.text(0.08 / width, y, labels[curve.arm], va="top", color=look.colour)
            for day, count in curve.table.select("day", column).iter_rows():
                x = box.x0 + box.width * (day - low) / (high - low)
                figure.text(x, y, str(count), va="top", ha="center")
            y -= (labels[curve.arm].count("\n") + 1) * LINE / height
        y -= 0.04 / height

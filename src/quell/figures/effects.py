"""Estimates with intervals: the forest, and published beside simulated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from quell.figures.canvas import (
    FAINT,
    INK,
    POINT,
    SIZE,
    TEAL,
    Scale,
    axes,
    drawn,
    frame,
    log_ticks,
    sketch,
    spread,
    ticks,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = SIZE * 1.35 / POINT  # one line of text, in inches
CHARACTERS = 50  # of a full line
SIDE = 0.18


@drawn
def forest(rows: pl.DataFrame, *, ratio: bool, sides: tuple[str, str], axis: str) -> Figure:
    """Rows of label, value (text), estimate, lower, upper, truth (or null), primary: one interval under each label.

    ``sides`` is what lies left and right of no effect. Ratios stand on a log axis.
    """
    labels = [label_of(row) for row in rows.iter_rows(named=True)]
    heights = [row_height(text) for text, _ in labels]
    deep = LINE * shortened(sides)[0].count("\n")
    figure = sketch(sum(heights) + 0.78 + deep)
    place = axes(figure, SIDE, 0.68 + deep, SIDE, 0.06)
    forest_rows(place, rows, labels, heights, ratio=ratio)
    forest_axis(place, ratio=ratio, sides=sides, axis=axis)
    return figure


def label_of(row: dict[str, Any]) -> tuple[str, str]:
    """A row's label on as many lines as it needs; a last empty line where its value finds no room beside it."""
    if len(row["label"]) + len(row["value"]) + 2 <= CHARACTERS:
        return row["label"], row["value"]
    return wrapped(row["label"], CHARACTERS) + "\n", row["value"]


def row_height(text: str) -> float:
    """The height of a forest row in inches: its label, then its interval."""
    return LINE * (text.count("\n") + 1) + 0.3


def forest_rows(
    place: Axes, rows: pl.DataFrame, labels: list[tuple[str, str]], heights: list[float], *, ratio: bool
) -> None:
    """Draw the rows from the top, each in its height (inches), on axes whose y runs in inches."""
    low, high = extent(rows, ratio)
    if ratio:
        place.set_xscale("log")
    place.set_xlim(low, high)
    top = sum(heights)
    place.set_ylim(0, top)
    null = 1.0 if ratio else 0.0
    place.axvline(null, color=FAINT, linewidth=1, linestyle=(0, (3, 2)))
    for row, (label, value), height in zip(rows.iter_rows(named=True), labels, heights, strict=True):
        _labelled(place, top, label, value, "bold" if row["primary"] else "normal")
        _interval(place, row, top - height + 0.14)
        top -= height


def _labelled(place: Axes, top: float, label: str, value: str, weight: str) -> None:
    """The label at the left; the value at the right of it, or under it where there is no room."""
    _boxed(place, 0, top, label.rstrip("\n"), "left", weight)
    if label.endswith("\n"):
        _boxed(place, 0, top - LINE * label.count("\n"), value, "left")
    else:
        _boxed(place, 1, top, value, "right")


def _boxed(place: Axes, x: float, y: float, text: str, side: Any, weight: str = "normal") -> None:
    if text:
        backing = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        where = place.get_yaxis_transform()
        place.text(x, y, text, transform=where, ha=side, va="top", fontweight=weight, linespacing=1.25, bbox=backing)


def _interval(place: Axes, row: dict[str, Any], y: float) -> None:
    low, high = place.get_xlim()
    colour = TEAL if row["primary"] else INK
    lower, upper = (row["lower"] if row["lower"] is not None else low), row["upper"]
    upper = high if upper is None else upper
    if row["lower"] is not None or row["upper"] is not None:
        place.plot([max(lower, low), min(upper, high)], [y, y], color=colour, linewidth=2.2 if row["primary"] else 1.6)
        for end, marker in ((lower, "<"), (upper, ">")):
            if not low < end < high:
                place.plot([min(max(end, low), high)], [y], marker, color=colour, markersize=6, clip_on=False)
    if row["estimate"] is not None and low <= row["estimate"] <= high:
        place.plot([row["estimate"]], [y], "s", color=colour, markersize=7.5 if row["primary"] else 6)
    if row["truth"] is not None and low <= row["truth"] <= high:
        place.plot([row["truth"]], [y], "o", color="white", markeredgecolor=INK, markeredgewidth=1.3, markersize=6)


def extent(rows: pl.DataFrame, ratio: bool) -> tuple[float, float]:
    """The shown range: all limits and no effect, but no more than eight times the estimates' own spread."""
    scale = math.log if ratio else float
    values: list[float] = [0.0]
    estimates: list[float] = [0.0]
    for row in rows.iter_rows(named=True):
        for name in ("estimate", "lower", "upper", "truth"):
            value = row[name]
            if value is None or not math.isfinite(value) or (ratio and value <= 0):
                continue
            values.append(scale(value))
            if name in ("estimate", "truth"):
                estimates.append(scale(value))
    reach = 8 * (max(estimates) - min(estimates)) or 1e300
    low, high = spread(max(min(values), min(estimates) - reach), min(max(values), max(estimates) + reach), 0.07)
    return (math.exp(low), math.exp(high)) if ratio else (low, high)


def forest_axis(place: Axes, *, ratio: bool, sides: tuple[str, str], axis: str) -> None:
    """Ticks, what lies on either side of no effect, and the name of the axis."""
    low, high = place.get_xlim()
    frame(place, Scale(at=log_ticks(low, high) if ratio else ticks(low, high), grid=True), Scale(line=False))
    height = place.bbox.height / POINT
    left, right = shortened(sides)
    place.text(0, -0.33 / height, left, transform=place.transAxes, ha="left", va="top", color=FAINT)
    place.text(1, -0.33 / height, right, transform=place.transAxes, ha="right", va="top", color=FAINT)
    if axis:
        below = 0.53 + LINE * left.count("\n")
        place.text(0.5, -below / height, axis, transform=place.transAxes, ha="center", va="top")


def shortened(sides: tuple[str, str]) -> tuple[str, str]:
    """The two sides' names, each on two lines where they do not fit beside each other."""
    if len(sides[0]) + len(sides[1]) <= 44:
        return sides
    left, right = (wrapped(side, 24) for side in sides)
    return (left if "\n" in left else left + "\n"), right


@drawn
def exam(rows: pl.DataFrame) -> Figure:
    """Published (black diamond with its interval) on the 50 % and 90 % band of simulated trials, one scale per row.

    Rows of label, value (text), published, published_lower, published_upper, q05, q25, q50, q75, q95.
    """
    labels = [label_of(row) for row in rows.iter_rows(named=True)]
    heights = [LINE * (text.count("\n") + 1) + 0.52 for text, _ in labels]
    figure = sketch(sum(heights) + 0.1)
    place = axes(figure, SIDE, 0.05, SIDE, 0.05)
    place.set_axis_off()
    place.set_xlim(0, 1)
    place.set_ylim(0, sum(heights))
    top = sum(heights)
    for row, (label, value), height in zip(rows.iter_rows(named=True), labels, heights, strict=True):
        _labelled(place, top, label, value, "bold")
        _exam_row(place, row, top - height + 0.32)
        top -= height
    return figure


def _exam_row(place: Axes, row: dict[str, Any], y: float) -> None:
    names = ("published", "published_lower", "published_upper", "q05", "q95")
    known = [row[name] for name in names if row[name] is not None and math.isfinite(row[name])]
    low, high = spread(min(known), max(known), 0.08)

    def at(value: float) -> float:
        return (value - low) / (high - low)

    place.plot([0, 1], [y - 0.11, y - 0.11], color=FAINT, linewidth=0.7)
    for tick in ticks(low, high, 4):
        place.plot([at(tick)] * 2, [y - 0.11, y - 0.14], color=FAINT, linewidth=0.7)
        place.text(at(tick), y - 0.15, f"{tick:.6g}".replace("-", "−"), ha="center", va="top", color=FAINT)
    place.fill_between([at(row["q05"]), at(row["q95"])], y - 0.075, y + 0.075, color=TEAL, alpha=0.22, linewidth=0)
    place.fill_between([at(row["q25"]), at(row["q75"])], y - 0.075, y + 0.075, color=TEAL, alpha=0.42, linewidth=0)
    place.plot([at(row["q50"])] * 2, [y - 0.075, y + 0.075], color=TEAL, linewidth=1.8)
    if row["published_lower"] is not None and row["published_upper"] is not None:
        place.plot([at(row["published_lower"]), at(row["published_upper"])], [y, y], color="black", linewidth=1.5)
    if row["published"] is not None:
        place.plot([at(row["published"])], [y], "D", color="black", markersize=7)

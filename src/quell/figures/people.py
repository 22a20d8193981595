"""People before and after, and over time, by arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from quell.analysis.description import Course, VersusBaseline
from quell.figures import canvas
from quell.figures.canvas import FAINT, INK, Look, Scale, axes, drawn, frame, sketch, ticks
from quell.figures.effects import LINE, forest_axis, forest_rows, label_of, row_height, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, RIGHT = 0.62, 0.1


@drawn
def paired(
    pairs: pl.DataFrame, means: pl.DataFrame, arms: Mapping[str, Look], *, moments: tuple[str, str], unit: str
) -> Figure:
    """Each person a thin line from baseline to follow-up, the arm's mean with its interval in front."""
    figure = sketch(2.9)
    place = axes(figure, LEFT, 0.62, RIGHT, 0.12)
    _paired(place, pairs, means, arms, moments=moments, unit=unit)
    return figure


@drawn
def answer(
    pairs: pl.DataFrame,
    means: pl.DataFrame,
    arms: Mapping[str, Look],
    *,
    moments: tuple[str, str],
    unit: str,
    rows: pl.DataFrame,
    sides: tuple[str, str],
) -> Figure:
    """The main figure: everybody before and after, and below it the difference between the arms."""
    labels = [label_of(row) for row in rows.iter_rows(named=True)]
    heights = [row_height(text) for text, _ in labels]
    deep = LINE * shortened(sides)[0].count("\n")
    below = sum(heights) + 0.7 + (len(arms) > 2) * 0.35 + deep
    figure = sketch(2.6 + below)
    place = axes(figure, LEFT, below + 0.5, RIGHT, 0.12)
    _paired(place, pairs, means, arms, moments=moments, unit=unit)
    strip = axes(figure, 0.18, 0.52 + deep, 0.18, 2.6 + below - sum(heights) - 0.58 - deep)
    forest_rows(strip, rows, labels, heights, ratio=False)
    forest_axis(strip, ratio=False, sides=sides, axis="")
    return figure


def _paired(
    place: Axes,
    pairs: pl.DataFrame,
    means: pl.DataFrame,
    arms: Mapping[str, Look],
    *,
    moments: tuple[str, str],
    unit: str,
) -> None:
    shown, labels, step = [], [], 2.9
    for index, (arm, look) in enumerate(arms.items()):
        mine = pairs.filter(pl.col("arm") == arm)
        left, right = index * step, index * step + 1.6
        chosen = list(canvas.some(mine.height))
        start, end = mine["baseline"].to_numpy()[chosen], mine["follow_up"].to_numpy()[chosen]
        lines = [((left, a), (right, b)) for a, b in zip(start, end, strict=True)]
        canvas.strokes(place, lines, look.colour, 0.8, 0.32)
        _means(place, means.filter(pl.col("arm") == arm), (left, right), look)
        shown += [left, right]
        labels += list(moments)
        x = (left + right) / 2
        name = f"{canvas.wrapped(look.label, 34 // len(arms))}"
        place.annotate(
            f"{name}, n = {mine.height}" if len(arms) < 3 else f"{name}\nn = {mine.height}",
            (x, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -20),
            textcoords="offset points",
            ha="center",
            va="top",
            color=look.colour,
            fontweight="bold",
        )
    place.set_xlim(-0.45, (len(arms) - 1) * step + 2.05)
    values = np.concatenate([pairs["baseline"].to_numpy(), pairs["follow_up"].to_numpy()])
    low, high = canvas.spread(float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    place.set_ylim(low, high)
    written = [_short(label) for label in labels] if len(arms) < 3 else ["before", "after"] * len(arms)
    frame(place, Scale(at=shown, labels=written), Scale(at=ticks(low, high, 5), name=unit, grid=True))


def _short(label: str) -> str:
    return label if len(label) <= 11 else label[:10] + "…"


def _means(place: Axes, means: pl.DataFrame, x: tuple[float, float], look: Look) -> None:
    rows = {row["moment"]: row for row in means.iter_rows(named=True)}
    two = [rows["baseline"], rows["follow_up"]]
    middle = [row["mean"] for row in two]
    place.plot(x, middle, color="white", linewidth=5)
    place.plot(x, middle, color=look.colour, linewidth=2.4, linestyle=look.dash)
    for at, row in zip(x, two, strict=True):
        place.plot([at, at], [row["lower"], row["upper"]], color=look.colour, linewidth=2.4)
        place.plot([at], [row["mean"]], look.marker, color=look.colour, markeredgecolor="white", markersize=8)


@drawn
def versus_baseline(found: VersusBaseline, arms: Mapping[str, Look], *, quantity: str, unit: str) -> Figure:
    """Change against baseline; the line is what the control arm alone predicts for everybody."""
    figure = sketch(3.0)
    place = axes(figure, LEFT, 0.55, RIGHT, 0.12)
    line = found.line
    if line.height:
        place.fill_between(line["baseline"], line["lower"], line["upper"], color=canvas.GREY, alpha=0.18, linewidth=0)
        place.plot(line["baseline"], line["expected"], color=canvas.GREY, linewidth=1.8, linestyle=(0, (5, 2)))
    for arm, look in arms.items():
        mine = found.points.filter(pl.col("arm") == arm)
        chosen = list(canvas.some(mine.height))
        x, y = mine["baseline"].to_numpy()[chosen], mine["change"].to_numpy()[chosen]
        fill = "none" if look.marker == "s" else look.colour
        place.plot(
            x, y, look.marker, color=look.colour, markerfacecolor=fill, markersize=4.4, alpha=0.75, markeredgewidth=0.9
        )
    place.axhline(0, color=FAINT, linewidth=0.8)
    points = found.points
    low, high = canvas.spread(*_range(points["baseline"]))
    place.set_xlim(low, high)
    below, above = canvas.spread(*_range(points["change"], 0.0))
    place.set_ylim(below, above)
    written = f", {unit}" if unit else ""
    horizontal = Scale(at=ticks(low, high), name=f"{quantity} at baseline{written}")
    frame(place, horizontal, Scale(at=ticks(below, above), name=f"change{written}"))
    return figure


def _range(values: pl.Series, *more: float) -> tuple[float, float]:
    known = [*values.drop_nulls().to_list(), *more] or [0.0, 1.0]
    return min(known), max(known)


@drawn
def course(found: Course, arms: Mapping[str, Look], *, dose_days: Sequence[int]) -> Figure:
    """Median with quartiles at each planned visit, each reading at its own day, doses as marks on the axis."""
    figure = sketch(2.55)
    direct = max(len(look.label) for look in arms.values()) <= 12
    place = axes(figure, LEFT, 0.52, 1.1 if direct else RIGHT, 0.1)
    summary, points = found.summary, found.points
    shown = np.concatenate([points["value"].to_numpy(), summary["median"].to_numpy()])
    logarithmic = bool(len(shown) and shown.min() > 0 and np.quantile(shown, 0.98) / np.quantile(shown, 0.02) > 6)
    if logarithmic:
        place.set_yscale("log")
    ends = []
    shift = 0.006 * float(np.ptp(summary["day"].to_numpy()) or 1)
    for index, (arm, look) in enumerate(arms.items()):
        offset = shift * (2 * index - len(arms) + 1)
        _dots(place, points.filter(pl.col("arm") == arm), offset, look)
        mine = summary.filter(pl.col("arm") == arm)
        if not mine.height:
            continue
        x = mine["day"].to_numpy() + offset
        canvas.strokes(
            place,
            [((a, b), (a, c)) for a, b, c in zip(x, mine["lower_quartile"], mine["upper_quartile"], strict=True)],
            look.colour,
            1.6,
            0.8,
        )
        place.plot(
            x,
            mine["median"],
            color=look.colour,
            linewidth=2,
            linestyle=look.dash,
            marker=look.marker,
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.8,
        )
        ends.append((look, float(x[-1]), float(mine["median"][-1])))
    _course_axes(place, found, shown, logarithmic, dose_days)
    if direct:
        _end_labels(place, ends)
    return figure


def _dots(place: Axes, points: pl.DataFrame, offset: float, look: Look) -> None:
    people = points["subject"].unique(maintain_order=True)
    kept = set(people[list(canvas.some(len(people), 60))])
    mine = points.filter(pl.col("subject").is_in(list(kept)))
    canvas.dots(place, mine["day"].to_numpy() + offset, mine["value"].to_numpy(), look.colour)


def _course_axes(place: Axes, found: Course, shown: np.ndarray, logarithmic: bool, dose_days: Sequence[int]) -> None:
    values = np.concatenate([found.summary["lower_quartile"].to_numpy(), found.summary["upper_quartile"].to_numpy()])
    edges = np.quantile(shown, [0.005, 0.995])
    low, high = float(min(edges[0], values.min())), float(max(edges[1], values.max()))
    low, high = (low / 1.12, high * 1.12) if logarithmic else canvas.spread(low, high)
    place.set_ylim(low, high)
    days = sorted(set(found.summary["day"].to_list()))
    wide = (days[-1] - days[0]) * 0.04 or 1
    place.set_xlim(days[0] - wide, days[-1] + wide)
    unit = ", ".join(word for word in (found.unit, "log scale" if logarithmic else "") if word)
    heights = canvas.log_ticks(low, high, 5) if logarithmic else ticks(low, high, 4)
    vertical = Scale(at=heights, name=unit or found.quantity, grid=True)
    frame(place, Scale(at=_uncrowded(days), name="study day"), vertical)
    doses = [day for day in dose_days if days[0] - wide <= day <= days[-1] + wide]
    strokes = [((day, 0.0), (day, 0.045)) for day in doses]
    canvas.strokes(place, strokes, INK, 1.2, 1.0, transform=place.get_xaxis_transform())


def _uncrowded(days: Sequence[int]) -> list[int]:
    """The days that can be written beside each other."""
    kept: list[int] = []
    room = (days[-1] - days[0]) * 0.085
    for day in days:
        if not kept or day - kept[-1] >= room:
            kept.append(day)
    return kept


def _end_labels(place: Axes, ends: list[tuple[Look, float, float]]) -> None:
    where = [place.transAxes.inverted().transform(place.transData.transform((x, y)))[1] for _, x, y in ends]
    for (look, _, _), height in zip(ends, canvas.apart(where, 0.1), strict=True):
        place.text(
            1.02, height, look.label, transform=place.transAxes, color=look.colour, va="center", fontweight="bold"
        )

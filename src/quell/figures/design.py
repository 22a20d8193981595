"""A design judged, drawn: chance of success by world and by true effect, when looks come, how trials end, example trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from quell.figures import canvas
from quell.figures.canvas import DASHES, FAINT, FURTHER, GREY, INK, MARKERS, TEAL, Scale, axes, drawn, frame, sketch
from quell.figures.effects import LINE, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 0.26  # inches: half of "100 %" stands beside the axis
LANE = 0.14  # inches: one size of a world
COLOURS = (TEAL, FURTHER[0], FURTHER[1], FURTHER[2], FURTHER[5])
BAR = 0.17  # inches
SMALL = 8.5  # text inside a bar
ROOM = 0.075  # of the bar: narrower parts carry no number


def _look(step: int) -> tuple[str, str, Any]:
    """Colour, marker and line of a size, so that grey print tells them apart."""
    return COLOURS[step % len(COLOURS)], MARKERS[step % len(MARKERS)], DASHES[step % len(DASHES)]


# -- chances of success ----------------------------------------------------------------------------------------------
@drawn
def chances(rows: pl.DataFrame, top: float = 1.0, level: float | None = None) -> Figure:
    """Rows of world, size, place (of the size), text, value, lower, upper: a world's sizes under its name, each with its interval.

    ``level`` marks what is allowed; ``top`` is the end of the axis.
    """
    sizes = rows.sort("place")["size"].unique(maintain_order=True).to_list()
    worlds = rows["world"].unique(maintain_order=True).to_list()
    parts = [rows.filter(pl.col("world") == world) for world in worlds]
    labels = [label_of({"label": world, "value": part["text"][0]}) for world, part in zip(worlds, parts, strict=True)]
    heights = [
        LINE * (label.count("\n") + 1) + LANE * part.height + 0.1
        for (label, _), part in zip(labels, parts, strict=True)
    ]
    named = [*sizes, *(["what is allowed"] if level is not None else [])] if len(sizes) > 1 or level is not None else []
    head = LINE * len(named) + (0.08 if named else 0)
    figure = sketch(sum(heights) + head + 0.62)
    place = axes(figure, SIDE, 0.52, SIDE, head + 0.06)
    place.set_xlim(0, top)
    place.set_ylim(0, sum(heights))
    y = sum(heights)
    for part, label, height in zip(parts, labels, heights, strict=True):
        _world(place, part, sizes, label, y)
        y -= height
    if level is not None:
        canvas.strokes(place, [((level, 0), (level, sum(heights)))], INK, 1.2, 1.0, dash=(0, (3, 2)), under=True)
    at = canvas.ticks(0, top, 5)
    name = "chance of success" if level is None else "success where the drug does nothing"
    places = 0 if top > 0.2 else 1
    labelled = [f"{100 * one:.{places}f} %" for one in at]
    frame(place, Scale(at=at, labels=labelled, name=name, grid=True), Scale(line=False))
    _legend(place, named, head, level is not None)
    return figure


def _labelled(place: Axes, text: str, value: str, top: float) -> None:
    """A name at the left; its value at the right of it, or under it where the name ends with an empty line."""
    where, backing = place.get_yaxis_transform(), {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    told: Any = {"transform": where, "va": "top", "bbox": backing, "linespacing": 1.4}
    place.text(0, top, text.rstrip("\n"), ha="left", **told)
    if text.endswith("\n"):
        place.text(0, top - LINE * text.count("\n"), value, ha="left", **told)
    else:
        place.text(1, top, value, ha="right", **told)


def _world(place: Axes, part: pl.DataFrame, sizes: Sequence[str], label: tuple[str, str], top: float) -> None:
    text, value = label
    _labelled(place, text, value, top)
    base = top - LINE * (text.count("\n") + 1) - 0.03
    for lane, row in enumerate(part.iter_rows(named=True)):
        colour, marker, _ = _look(sizes.index(row["size"]))
        y = base - LANE * (lane + 0.5)
        low, high = max(row["lower"], 0.0), min(row["upper"], place.get_xlim()[1])
        place.plot([low, high], [y, y], color=colour, linewidth=1.8)
        place.plot([row["value"]], [y], marker, color=colour, markersize=6, clip_on=False)


def _legend(place: Axes, names: Sequence[str], head: float, level: bool) -> None:
    """The sizes by their marks, one line each, above the axes."""
    height = place.bbox.height / canvas.POINT
    for step, name in enumerate(names):
        y = 1 + (head - LINE * (step + 0.5)) / height
        if level and step == len(names) - 1:
            place.plot(
                [0.0, 0.06],
                [y, y],
                color=INK,
                linewidth=1.2,
                linestyle=(0, (3, 2)),
                transform=place.transAxes,
                clip_on=False,
            )
        else:
            colour, marker, _ = _look(step)
            place.plot([0.03], [y], marker, color=colour, markersize=6, transform=place.transAxes, clip_on=False)
        place.text(0.09, y, name, ha="left", va="center_baseline", transform=place.transAxes)


class Axis(NamedTuple):
    """How the true effect is shown: its name, whether it is a ratio, and the value of no effect."""

    name: str
    ratio: bool
    null: float


@drawn
def by_truth(rows: pl.DataFrame, axis: Axis) -> Figure:
    """Rows of size, truth, lower, upper (as shown), success, low, high: the chance of success by the true effect.

    Under it a strip whose pieces, between the groups' limits, each hold the same share of the posterior.
    """
    sizes = rows["size"].unique(maintain_order=True).to_list()
    head = LINE * len(sizes) + 0.1
    figure = sketch(3.1 + head)
    place = axes(figure, 0.68, 0.7, 0.26, head)
    first = rows.filter(pl.col("size") == sizes[0])
    low, high = _range(rows, axis)
    if axis.ratio:
        place.set_xscale("log")
    place.set_xlim(low, high)
    place.set_ylim(0, 1)
    for step, size in enumerate(sizes):
        part = rows.filter(pl.col("size") == size)
        colour, marker, dash = _look(step)
        place.plot(part["truth"], part["success"], color=colour, linewidth=1.4, linestyle=dash)
        place.plot(part["truth"], part["success"], marker, color=colour, markersize=5.5)
        bars = [((x, a), (x, b)) for x, a, b in part.select("truth", "low", "high").iter_rows()]
        canvas.strokes(place, bars, colour, 1.3, 1.0)
    if low < axis.null < high:
        canvas.strokes(place, [((axis.null, 0), (axis.null, 1))], FAINT, 1.0, 1.0, dash=(0, (3, 2)), under=True)
    _strip(place, first, (low, high))
    at = canvas.log_ticks(low, high) if axis.ratio and high > 4 * low else canvas.ticks(low, high)
    heights = canvas.ticks(0, 1, 5)
    frame(
        place,
        Scale(at=(), name="", line=False),
        Scale(at=heights, labels=[f"{100 * y:.0f} %" for y in heights], name="chance of success", grid=True),
    )
    _below(place, at, f"true {axis.name}{' (log scale)' if axis.ratio else ''}")
    _legend(place, sizes, head, False)
    return figure


def _range(rows: pl.DataFrame, axis: Axis) -> tuple[float, float]:
    """The groups' limits, no effect among them; single far draws at either end do not stretch it beyond the means' range."""
    scale = math.log if axis.ratio else float
    middle = [scale(one) for one in rows["truth"]]
    reach = 0.35 * (max(middle) - min(middle))
    ends = [scale(one) for one in (*rows["lower"], *rows["upper"])]
    low = max(min(ends), min(middle) - reach)
    high = max(min(max(ends), max(middle) + reach), scale(axis.null))
    low, high = canvas.spread(low, high, 0.03)
    return (math.exp(low), math.exp(high)) if axis.ratio else (low, high)


def _strip(place: Axes, groups: pl.DataFrame, ends: tuple[float, float]) -> None:
    """Equal shares of the posterior side by side, in turn dark and light, under the axes."""
    height = place.bbox.height / canvas.POINT
    bottom, top = -0.2 / height, -0.06 / height
    edges = [groups["lower"][0], *groups["lower"][1:], groups["upper"][-1]]
    where = place.get_xaxis_transform()
    for step, (left, right) in enumerate(itertools.pairwise(edges)):
        left, right = (min(max(one, ends[0]), ends[1]) for one in (left, right))
        tint = 0.55 if step % 2 else 0.22
        place.fill_between(
            [left, right], bottom, top, color=TEAL, alpha=tint, linewidth=0, transform=where, clip_on=False
        )


def _below(place: Axes, at: Sequence[float], name: str) -> None:
    """Ticks and the name of the horizontal axis, under the strip."""
    height = place.bbox.height / canvas.POINT
    where = place.get_xaxis_transform()
    for tick in at:
        place.text(tick, -0.25 / height, canvas.number(tick), ha="center", va="top", transform=where)
    place.text(0.5, -0.5 / height, name, ha="center", va="top", transform=place.transAxes)


# -- when, and how it ends ----------------------------------------------------------------------------------------------
@drawn
def calendar(rows: pl.DataFrame) -> Figure:
    """Rows of label, value (text) and q05, q25, q50, q75, q95 in years: one band each on a shared axis of time."""
    labels = [label_of(row) for row in rows.iter_rows(named=True)]
    heights = [LINE * (text.count("\n") + 1) + 0.34 for text, _ in labels]
    figure = sketch(sum(heights) + 0.6)
    place = axes(figure, SIDE, 0.52, SIDE, 0.05)
    place.set_xlim(0, float(rows["q95"].max()) * 1.04)  # type: ignore[arg-type]
    place.set_ylim(0, sum(heights))
    top = sum(heights)
    for row, (text, value), height in zip(rows.iter_rows(named=True), labels, heights, strict=True):
        _labelled(place, text, value, top)
        _band(place, row, top - height + 0.15)
        top -= height
    frame(
        place,
        Scale(at=canvas.ticks(*place.get_xlim(), 7), name="years since the trial opened", grid=True),
        Scale(line=False),
    )
    return figure


def _band(place: Axes, row: Mapping[str, Any], y: float) -> None:
    place.fill_between([row["q05"], row["q95"]], y - 0.065, y + 0.065, color=TEAL, alpha=0.22, linewidth=0)
    place.fill_between([row["q25"], row["q75"]], y - 0.065, y + 0.065, color=TEAL, alpha=0.42, linewidth=0)
    place.plot([row["q50"]] * 2, [y - 0.065, y + 0.065], color=TEAL, linewidth=1.8)


WAYS = {
    "efficacy": ("success", TEAL, "white"),
    "final": ("no success at the last look", "#dfe4e6", INK),
    "futility": ("stopped for futility", "#b9aa98", INK),
    "gate": ("stopped at the surrogate's gate", FURTHER[5], "white"),
    "harm": ("stopped for harm", FURTHER[1], "white"),
}


@drawn
def ends(rows: pl.DataFrame) -> Figure:
    """Rows of label, look, reason, value: of each world and size one bar of all its trials by how they end.

    Success stands at the left, the first look first; a number in a part is the look, where it is wide enough.
    """
    labels = rows["label"].unique(maintain_order=True).to_list()
    used = [way for way in WAYS if way in set(rows["reason"])]
    head = LINE * len(used) + 0.1
    texts = ["\n".join(canvas.wrapped(line, 50) for line in label.split("\n")) for label in labels]
    heights = [LINE * (text.count("\n") + 1) + BAR + 0.14 for text in texts]
    figure = sketch(sum(heights) + head + 0.55)
    place = axes(figure, SIDE, 0.52, SIDE, head)
    place.set_xlim(0, 1)
    place.set_ylim(0, sum(heights))
    top = sum(heights)
    for label, text, height in zip(labels, texts, heights, strict=True):
        place.text(0, top, text, ha="left", va="top", linespacing=1.4)
        _parts(place, rows.filter(pl.col("label") == label), top - height + 0.1)
        top -= height
    at = canvas.ticks(0, 1, 5)
    frame(place, Scale(at=at, labels=[f"{100 * one:.0f} %" for one in at], name="share of trials"), Scale(line=False))
    _ways(place, used, head)
    return figure


def _parts(place: Axes, part: pl.DataFrame, base: float) -> None:
    """Success from the left, early first; then no success, futility, gate and harm, late first."""
    order = list(WAYS)
    rows = sorted(
        part.iter_rows(named=True),
        key=lambda row: (order.index(row["reason"]), row["look"] if row["reason"] == "efficacy" else -row["look"]),
    )
    left = 0.0
    for row in rows:
        _, colour, ink = WAYS[row["reason"]]
        right = left + row["value"]
        place.fill_between([left, right], base, base + BAR, color=colour, linewidth=0)
        canvas.strokes(place, [((right, base), (right, base + BAR))], "white", 1.2, 1.0)
        if row["value"] >= ROOM and row["look"]:
            place.text(
                (left + right) / 2,
                base + BAR / 2,
                f"{row['look']}",
                color=ink,
                fontsize=SMALL,
                ha="center",
                va="center_baseline",
            )
        left = right


def _ways(place: Axes, used: Sequence[str], head: float) -> None:
    height = place.bbox.height / canvas.POINT
    for step, way in enumerate(used):
        name, colour, _ = WAYS[way]
        y = 1 + (head - LINE * (step + 0.5)) / height
        half = 0.055 / height
        place.fill_between(
            [0, 0.05], y - half, y + half, color=colour, linewidth=0, transform=place.transAxes, clip_on=False
        )
        place.text(0.08, y, name, ha="left", va="center_baseline", transform=place.transAxes)


# -- example trials ------------------------------------------------------------------------------------------------------
@drawn
def paths(trials: pl.DataFrame, limits: pl.DataFrame, names: Sequence[str], looks: Sequence[str]) -> Figure:
    """Trials of trial (its number among names), look, z; limits of look, upper, lower, harm; looks with their labels.

    Z above zero speaks for the active arm.
    """
    head = LINE * (len(names) + 1) + 0.1
    figure = sketch(2.8 + head)
    place = axes(figure, 0.62, 0.5, 0.26, head)
    values = [
        one
        for frame_ in (trials["z"], *(limits[name] for name in ("upper", "lower", "harm")))
        for one in frame_.drop_nulls()
    ]
    low, high = canvas.spread(min(values), max(values), 0.1)
    place.set_xlim(0.7, len(looks) + 0.3)
    place.set_ylim(low, high)
    for name, dash in (("upper", "-"), ("lower", (0, (5, 2))), ("harm", (0, (1.5, 1.5)))):
        known = limits.filter(pl.col(name).is_not_null())
        place.plot(known["look"], known[name], color=INK, linewidth=1.1, linestyle=dash)
        for x, y in known.select("look", name).iter_rows():
            canvas.strokes(place, [((x - 0.07, y), (x + 0.07, y))], INK, 1.1, 1.0)
    for step, _ in enumerate(names):
        part = trials.filter(pl.col("trial") == step).sort("look")
        colour, marker, _ = _look(step)
        place.plot(part["look"], part["z"], color=colour, linewidth=1.8)
        place.plot(part["look"], part["z"], marker, color=colour, markersize=6.5)
    across = Scale(at=range(1, len(looks) + 1), labels=list(looks))
    frame(place, across, Scale(at=canvas.ticks(low, high, 6), name="Z (above 0: active better)", grid=True))
    _legend(place, names, head, False)
    _limit_names(place, head, len(names), limits)
    return figure


def _limit_names(place: Axes, head: float, after: int, limits: pl.DataFrame) -> None:
    """The lines of the limits by name, on one line under the trials' names."""
    height = place.bbox.height / canvas.POINT
    y, x = 1 + (head - LINE * (after + 0.5)) / height, 0.0
    for name, word, dash in (
        ("upper", "success", "-"),
        ("lower", "futility", (0, (5, 2))),
        ("harm", "harm", (0, (1.5, 1.5))),
    ):
        if limits[name].drop_nulls().is_empty():
            continue
        place.plot(
            [x, x + 0.08], [y, y], color=INK, linewidth=1.1, linestyle=dash, transform=place.transAxes, clip_on=False
        )
        place.text(x + 0.1, y, word, ha="left", va="center_baseline", transform=place.transAxes)
        x += 0.16 + 0.024 * len(word)


# -- designs against each other --------------------------------------------------------------------------------------------
@drawn
def front(rows: pl.DataFrame, column: str, name: str) -> Figure:
    """Rows of number, success, unbeaten and a column (people, years, cost): the fewer the better, against success."""
    figure = sketch(2.7)
    place = axes(figure, 0.68, 0.52, 0.25, 0.12)
    low, high = canvas.spread(float(rows[column].min()), float(rows[column].max()), 0.15)  # type: ignore[arg-type]
    bottom, top = canvas.spread(float(rows["success"].min()), float(rows["success"].max()), 0.2)  # type: ignore[arg-type]
    place.set_xlim(low, high)
    place.set_ylim(max(bottom, 0.0), min(top, 1.0))
    for row in rows.iter_rows(named=True):
        face = TEAL if row["unbeaten"] else "white"
        place.plot(
            [row[column]],
            [row["success"]],
            "o",
            color=face,
            markeredgecolor=TEAL if row["unbeaten"] else GREY,
            markersize=13,
        )
        place.text(
            row[column],
            row["success"],
            str(row["number"]),
            color="white" if row["unbeaten"] else INK,
            fontsize=SMALL,
            ha="center",
            va="center_baseline",
        )
    heights = canvas.ticks(*place.get_ylim(), 5)
    places = 0 if len(heights) < 2 or heights[1] - heights[0] > 0.0099 else 1
    labels = [f"{100 * y:.{places}f} %" for y in heights]
    frame(
        place,
        Scale(at=canvas.ticks(low, high, 4), name=name),
        Scale(at=heights, labels=labels, name="chance of success", grid=True),
    )
    return figure


__all__ = ["Axis", "by_truth", "calendar", "chances", "ends", "front", "paths"]

"""An effect in a country, drawn: events averted by year, the cost-effectiveness plane, what is worth which price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from quell.figures import canvas
from quell.figures.canvas import FAINT, GREY, INK, SIZE, TEAL, Scale, axes, drawn, frame, sketch, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = ((TEAL, "-"), (GREY, (0, (5, 2))))
BAR = 0.5  # inches: one row, a bar under two lines of words


@drawn
def averted(rows: pl.DataFrame) -> Figure:
    """Rows of year, value, lower, q25, q75, upper: the mean with bands of 50 and 95 % of the draws."""
    figure = sketch(2.9)
    place = axes(figure, 0.9, 0.5, 0.12, 0.12)
    years = rows["year"].to_list()
    place.fill_between(years, rows["lower"], rows["upper"], color=TEAL, alpha=0.14, linewidth=0)
    place.fill_between(years, rows["q25"], rows["q75"], color=TEAL, alpha=0.28, linewidth=0)
    place.plot(years, rows["value"], color=TEAL, linewidth=2.2)
    low, high = min(0.0, float(rows["lower"].min())), max(float(rows["upper"].max()), 1.0)  # type: ignore[arg-type]
    place.set_xlim(years[0], years[-1] * 1.02)
    place.set_ylim(low * 1.05, high * 1.05)
    heights = ticks(low, high, 5)
    frame(
        place,
        Scale(at=ticks(years[0], years[-1], 6), name="years after the drug comes into use"),
        Scale(at=heights, labels=[whole(one) for one in heights], name="heart attacks averted", grid=True),
    )
    _zero(place, low)
    return figure


@drawn
def plane(points: pl.DataFrame, mean: tuple[float, float], worths: Sequence[float], symbol: str = "£") -> Figure:
    """Points of qalys and cost, their mean, and a line for each worth of a QALY: below a line it is worth it."""
    figure = sketch(2.9)
    place = axes(figure, 0.78, 0.5, 0.12, 0.12)
    xs, ys = points["qalys"].to_list(), points["cost"].to_list()
    left, right = canvas.spread(min(0.0, *xs), max(0.0, *xs))
    top = max(*ys, 1.15 * worths[0] * max(mean[0], 0.0), 1.0)
    bottom, top = canvas.spread(min(0.0, *ys), top)
    place.set_xlim(left, right)
    place.set_ylim(bottom, top)
    canvas.dots(place, xs, ys, TEAL, size=2.8, alpha=0.4)
    for worth, (_, dash) in zip(worths, LOOKS, strict=False):
        ends = [(at, worth * at) for at in (max(left, bottom / worth), min(right, top / worth))]
        canvas.strokes(place, [ends], INK, 1.1, 0.8, dash=dash)
    place.plot([mean[0]], [mean[1]], "D", color=INK, markersize=5.5)
    for along in (((left, 0.0), (right, 0.0)), ((0.0, bottom), (0.0, top))):
        canvas.strokes(place, [along], FAINT, 0.8, 1.0, under=True)
    heights = ticks(bottom, top, 5)
    frame(
        place,
        Scale(at=ticks(left, right, 5), name="QALYs gained per person"),
        Scale(at=heights, labels=[money(one, symbol) for one in heights], name="cost added per person", grid=True),
    )
    return figure


@drawn
def by_price(rows: pl.DataFrame, column: str, symbol: str = "£") -> Figure:
    """Rows of price, worth and a column (``chance`` or ``information``): one line for each worth of a QALY."""
    figure = sketch(2.7)
    place = axes(figure, 0.72, 0.5, 0.2, 0.12)
    chance = column == "chance"
    top = 1.0 if chance else canvas.spread(0.0, float(rows[column].max()))[1]  # type: ignore[arg-type]
    last = float(rows["price"].max())  # type: ignore[arg-type]
    for worth, (colour, dash) in zip(sorted(rows["worth"].unique().to_list()), LOOKS, strict=False):
        part = rows.filter(pl.col("worth") == worth)
        place.plot(part["price"], part[column], color=colour, linewidth=2.2, linestyle=dash)
    place.set_xlim(0, last * 1.02)
    place.set_ylim(0, top)
    heights = ticks(0.0, top, 5)
    labels = [f"{100 * one:.0f} %" for one in heights] if chance else [money(one, symbol) for one in heights]
    name = "chance that it is worth it" if chance else "worth per person"
    across = ticks(0.0, last, 5)
    frame(
        place,
        Scale(at=across, labels=[money(one, symbol) for one in across], name="price of a course, giving it included"),
        Scale(at=heights, labels=labels, name=name, grid=True),
    )
    return figure


@drawn
def by_worth(rows: pl.DataFrame, worths: Sequence[float], symbol: str = "£") -> Figure:
    """Rows of worth and chance at one price: the acceptability curve, with the worths that decide marked."""
    figure = sketch(2.9)
    place = axes(figure, 0.72, 0.5, 0.3, 0.12)
    last = float(rows["worth"].max())  # type: ignore[arg-type]
    place.plot(rows["worth"], rows["chance"], color=TEAL, linewidth=2.2)
    place.set_xlim(0, last)
    place.set_ylim(0, 1)
    for worth, (_, dash) in zip(worths, LOOKS, strict=False):
        canvas.strokes(place, [((worth, 0.0), (worth, 1.0))], INK, 1.1, 0.8, dash=dash)
    across, heights = ticks(0.0, last, 4), ticks(0.0, 1.0, 5)
    frame(
        place,
        Scale(at=across, labels=[money(one, symbol) for one in across], name="worth of a QALY"),
        Scale(
            at=heights, labels=[f"{100 * one:.0f} %" for one in heights], name="chance that it is worth it", grid=True
        ),
    )
    return figure


@drawn
def explained(rows: pl.DataFrame) -> Figure:
    """Rows of label and share: what the doubt comes from, the largest first; words above each bar."""
    figure = sketch(BAR * rows.height + 0.45)
    place = axes(figure, 0.25, 0.4, 0.3, 0.05)
    place.set_xlim(0, 1)
    place.set_ylim(0, rows.height)
    for step, row in enumerate(rows.iter_rows(named=True)):
        base = rows.height - 1 - step
        place.fill_between([0, row["share"]], base + 0.08, base + 0.26, color=TEAL, alpha=0.75, linewidth=0)
        label = canvas.wrapped(f"{row['value']} {row['label']}", 48)
        place.text(0, base + 0.32, label, ha="left", va="bottom", color=INK, fontsize=SIZE, linespacing=1.05)
    frame(
        place,
        Scale(at=ticks(0.0, 1.0, 5), labels=[f"{20 * step} %" for step in range(6)], name="share of the variance"),
        Scale(line=False),
    )
    return figure


def whole(value: float) -> str:
    """A count for an axis.

    >>> whole(-1500.0), whole(250.0)
    ('−1,500', '250')
    """
    return f"{value:,.0f}".replace("-", "−")


def money(value: float, symbol: str = "£") -> str:
    """An amount for an axis.

    >>> money(-1500.0), money(25000.0)
    ('−£1,500', '£25,000')
    """
    return f"{'−' if value < 0 else ''}{symbol}{abs(value):,.0f}"


def _zero(place: Axes, low: float) -> None:
    if low < 0:
        canvas.strokes(place, [((place.get_xlim()[0], 0.0), (place.get_xlim()[1], 0.0))], FAINT, 0.8, 1.0, under=True)

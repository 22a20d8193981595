"""The schedule of activities: doses, visits and procedures on one time line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from quell.figures import canvas
from quell.figures.canvas import INK, TEAL, Scale, axes, drawn, frame, sketch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANE = 0.26


@drawn
def schedule(marks: pl.DataFrame) -> Figure:
    """Marks of lane, day, early, late (days of the window) and kind ("dose" or "procedure"), one lane under another."""
    lanes = marks["lane"].unique(maintain_order=True).to_list()
    names = [canvas.wrapped(lane, 18, 1) for lane in lanes]
    figure = sketch(LANE * len(lanes) + 0.62)
    left = 0.2 + 0.085 * max(len(name) for name in names)
    place = axes(figure, left, 0.52, 0.15, 0.08)
    for index, lane in enumerate(lanes):
        mine = marks.filter(pl.col("lane") == lane)
        y = len(lanes) - 1 - index
        dose = mine["kind"][0] == "dose"
        windows = [
            ((row["day"] + row["early"], y), (row["day"] + row["late"], y)) for row in mine.iter_rows(named=True)
        ]
        if not dose:
            canvas.strokes(place, windows, TEAL, 5.5, 0.25)
        place.plot(
            mine["day"],
            [y] * mine.height,
            "|" if dose else "o",
            color=INK if dose else TEAL,
            markersize=9 if dose else 5,
        )
    low, high = canvas.spread(
        float((marks["day"] + marks["early"]).min()),  # type: ignore[arg-type]
        float((marks["day"] + marks["late"]).max()),  # type: ignore[arg-type]
        0.03,
    )
    place.set_xlim(low, high)
    place.set_ylim(-0.6, len(lanes) - 0.4)
    horizontal = Scale(at=canvas.ticks(low, high, 7), name="study day (day 1 is the first dose)", grid=True)
    frame(place, horizontal, Scale(at=range(len(lanes)), labels=names[::-1], grid=True, line=False))
    return figure

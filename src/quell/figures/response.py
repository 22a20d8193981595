"""What a schedule does, one observable at a time: median and bands of patients, the same patients on placebo beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quell.figures import canvas
from quell.figures.canvas import GREY, INK, TEAL, Scale, axes, drawn, frame, sketch, ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORT = 3.0  # where the bands span less than this ratio the axis is even, else logarithmic


@drawn
def response(
    days: Sequence[int], active: Mapping[str, Any], placebo: Mapping[str, Any], dose_days: Sequence[int]
) -> Figure:
    """Median, middle half and 5 to 95 % of patients by study day; the placebo median dashed; doses as marks below."""
    figure = sketch(2.3)
    place = axes(figure, 0.62, 0.5, 0.1, 0.1)
    row = {name: np.array(active[name], dtype=float) for name in ("q05", "q25", "q50", "q75", "q95")}
    other = np.array(placebo["q50"], dtype=float)
    low, high = float(min(row["q05"].min(), other.min())), float(max(row["q95"].max(), other.max()))
    logarithmic = low > 0 and high / low > SHORT
    if logarithmic:
        place.set_yscale("log")
    place.fill_between(days, row["q05"], row["q95"], color=TEAL, alpha=0.14, linewidth=0)
    place.fill_between(days, row["q25"], row["q75"], color=TEAL, alpha=0.28, linewidth=0)
    place.plot(days, other, color=GREY, linewidth=1.8, linestyle=(0, (5, 2)))
    place.plot(days, row["q50"], color=TEAL, linewidth=2.2)
    place.set_ylim(*((low / 1.1, high * 1.1) if logarithmic else canvas.spread(low, high)))
    wide = (days[-1] - days[0]) * 0.02 or 1
    place.set_xlim(days[0] - wide, days[-1] + wide)
    unit = f"{active['unit']}{', log scale' if logarithmic else ''}"
    heights = canvas.log_ticks(low, high, 5) if logarithmic else ticks(low, high, 4)
    at = ticks(days[0], days[-1], 5)
    frame(place, Scale(at=at, name="study day"), Scale(at=heights, name=unit, grid=True))
    marks = [((day, 0.0), (day, 0.05)) for day in dose_days]
    canvas.strokes(place, marks, INK, 1.2, 1.0, transform=place.get_xaxis_transform())
    return figure

"""What dose and schedule do, as pictures: benefit by dose, the front of benefit and burden, where the answer turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quell.figures import canvas
from quell.figures.canvas import FAINT, FURTHER, GREY, INK, TEAL, Scale, axes, drawn, frame, sketch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
LANE = 0.3
HARMS = {
    "teff": ("effector T cells, rise", FURTHER[0], "-"),
    "fever": ("with a fever", FURTHER[1], (0, (5, 2))),
    "hypereosinophilia": ("above 1,500 eosinophils", FURTHER[2], (0, (1.5, 1.5))),
}


def _column(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def _dose_axis(place: Axes, dose: np.ndarray) -> Scale:
    place.set_xscale("log")
    place.set_xlim(dose[0], dose[-1])
    return Scale(at=canvas.log_ticks(float(dose[0]), float(dose[-1]), 6), name="dose of one injection, MIU (log scale)")


@drawn
def dose_response(curve: Rows, chosen: float, name: str, label: str) -> Figure:
    """A quantity by dose: the mean over draws, where nine in ten draws lie, zero as a dashed line, the chosen dose marked."""
    figure = sketch(2.5)
    place = axes(figure, 0.66, 0.52, 0.12, 0.1)
    dose, middle = _column(curve, "dose"), _column(curve, name)
    low, high = _column(curve, f"{name}_low"), _column(curve, f"{name}_high")
    across = _dose_axis(place, dose)
    place.fill_between(dose, low, high, color=TEAL, alpha=0.16, linewidth=0)
    place.plot(dose, middle, color=TEAL, linewidth=2.2)
    bottom, top = canvas.spread(min(float(low.min()), 0.0), max(float(high.max()), 0.0))
    place.set_ylim(bottom, top)
    place.plot([dose[0], dose[-1]], [0, 0], color=GREY, linewidth=1.2, linestyle=(0, (5, 2)))
    at = float(np.interp(np.log(chosen), np.log(dose), middle))
    place.plot([chosen], [at], "D", color="white", markeredgecolor=INK, markeredgewidth=1.4, markersize=6)
    frame(place, across, Scale(at=canvas.ticks(bottom, top, 5), name=label, grid=True))
    return figure


@drawn
def harms(curve: Rows, chosen: float) -> Figure:
    """Harms by dose in percent, each line with its name; the chosen dose as a vertical line."""
    figure = sketch(3.0)
    place = axes(figure, 0.5, 0.52, 0.12, 0.65)
    dose = _column(curve, "dose")
    across = _dose_axis(place, dose)
    top = max(100 * float(_column(curve, name).max()) for name in HARMS) * 1.08 or 1.0
    place.set_ylim(0, top)
    for step, (name, (label, colour, dash)) in enumerate(HARMS.items()):
        place.plot(dose, 100 * _column(curve, name), color=colour, linewidth=2, linestyle=dash)
        y = 1.32 - 0.105 * step
        place.plot(
            [0.02, 0.1], [y, y], color=colour, linewidth=2, linestyle=dash, transform=place.transAxes, clip_on=False
        )
        place.text(0.125, y, label, ha="left", va="center_baseline", transform=place.transAxes)
    place.plot([chosen, chosen], [0, top], color=INK, linewidth=1, linestyle=(0, (2, 2)))
    frame(place, across, Scale(at=canvas.ticks(0, top, 4), name="%", grid=True))
    return figure


@drawn
def dose_front(front: Rows, marked: Rows, label: str) -> Figure:
    """Benefit against injections: the front's points, larger doses darker; ``marked`` (label, injections, averted) named."""
    figure = sketch(3.0)
    place = axes(figure, 0.62, 0.52, 0.15, 0.12)
    x, y, dose = (_column(front, name) for name in ("injections", "averted", "dose"))
    place.set_xscale("log")
    low, high = (
        float(min(x.min(), *(m["injections"] for m in marked))),
        float(max(x.max(), *(m["injections"] for m in marked))),
    )
    place.set_xlim(low / 1.25, high * 1.25)
    top = max(float(y.max()), *(float(m["averted"]) for m in marked)) * 1.12 or 1.0
    place.set_ylim(min(0.0, float(y.min())), top)
    shade = np.log(dose / dose.min()) / max(float(np.log(dose.max() / dose.min())), 1e-9)
    for part in range(4):
        here = (shade >= part / 4 - 1e-9) & (shade <= (part + 1) / 4 + 1e-9)
        canvas.dots(place, x[here], y[here], TEAL, 4.5, 0.25 + 0.22 * part)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    for index, (one, marker) in enumerate(zip(marked, ("D", "s", "^", "o", "v", "P"), strict=False)):
        here = (float(one["injections"]), float(one["averted"]))
        place.plot(
            *[[part] for part in here],
            marker,
            color="white",
            markeredgecolor=INK,
            markeredgewidth=1.4,
            markersize=7,
            zorder=5,
        )
        left = index % 2 == 1  # beside one another names would meet: they stand above left and below right in turn
        at = (here[0] * (1 / 1.18 if left else 1.18), here[1] + (0.05 if left else -0.05) * top)
        place.text(
            *at, one["label"], ha="right" if left else "left", va="bottom" if left else "top", bbox=box, zorder=4
        )
    frame(
        place,
        Scale(at=canvas.log_ticks(low, high, 7), name="injections in the course (log scale)"),
        Scale(at=canvas.ticks(0, top, 5), name=label, grid=True),
    )
    return figure


@drawn
def turns(rows: Rows, assumed: float) -> Figure:
    """Which schedule is best by what a prevented event is worth in injections: one lane a schedule, its doses beside it."""
    figure = sketch(2 * LANE * len(rows) + 0.68)
    place = axes(figure, 0.15, 0.58, 0.42, 0.08)
    place.set_xscale("log")
    low, high = float(rows[0]["from"]), float(rows[-1]["to"])
    place.set_xlim(low, high)
    place.set_ylim(-0.15, len(rows) - 0.05)
    place.fill_between(
        [assumed * 0.985, assumed * 1.015], -0.15, len(rows) - 0.05, color=FAINT, alpha=0.35, linewidth=0
    )
    for index, row in enumerate(rows):
        y = len(rows) - 1 - index
        colour = GREY if row["dose"] is None else TEAL
        begin, end = float(row["from"]), float(row["to"])
        place.fill_between([begin, max(end, begin * 1.06)], y + 0.04, y + 0.3, color=colour, linewidth=0)
        place.text(low, y + 0.62, _named(row), ha="left", va="center_baseline")
    marks = [10.0**power for power in range(int(np.log10(low)), int(np.log10(high)) + 1)]
    labels = [f"{mark:,.0f}" for mark in marks]
    frame(
        place, Scale(at=marks, labels=labels, name="injections that one prevented event outweighs"), Scale(line=False)
    )
    return figure


def _named(row: Mapping[str, Any]) -> str:
    if row["dose"] is None:
        return "no drug"
    low, high = sorted((row["dose"], row["dose_to"]))
    dose = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    return f"{row['schedule']}: {dose} MIU"


@drawn
def injections(rows: Rows, label: str) -> Figure:
    """What one more MIU on each day would avert, with the Monte Carlo error of two standard errors; its burden dashed."""
    figure = sketch(2.4)
    place = axes(figure, 0.72, 0.52, 0.15, 0.1)
    day, value, error = (_column(rows, name) for name in ("day", "averted", "averted_error"))
    burden = value - _column(rows, "net")
    low = min(0.0, float((value - 2 * error).min()))
    high = max(float((value + 2 * error).max()), float(burden.max())) or 1.0
    bottom, top = canvas.spread(low, high)
    place.set_ylim(bottom, top)
    wide = max(0.04 * float(day[-1] - day[0]), 1.0)
    place.set_xlim(day[0] - wide, day[-1] + wide)
    canvas.strokes(
        place, [((d, v - 2 * e), (d, v + 2 * e)) for d, v, e in zip(day, value, error, strict=True)], TEAL, 1.6, 0.8
    )
    place.plot(day, value, "o", color=TEAL, markersize=4.5)
    place.plot([day[0] - wide, day[-1] + wide], [burden.mean()] * 2, color=GREY, linewidth=1.4, linestyle=(0, (5, 2)))
    frame(
        place,
        Scale(at=canvas.ticks(float(day[0]), float(day[-1]), 6), name="study day of the injection"),
        Scale(at=canvas.ticks(bottom, top, 4), name=label, grid=True),
    )
    return figure

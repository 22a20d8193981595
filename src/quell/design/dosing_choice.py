"""Which schedule and dose: the best on average over the draws, the best in each draw, and where the answer turns.

On average is how one must choose, not knowing the constants (sample average approximation, Kleywegt 2002,
doi:10.1137/S1052623499363220); the mean over draws of what the best in each would add is the expected regret, which is
also what perfect knowledge of the constants would be worth.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quell.design import answers, dosing_curves
from quell.design.dosing_aim import Aim, Shape, Worth
from quell.design.dosing_curves import PART, Curves

WORTHS = np.logspace(2, 6, 161)  # injections that one prevented event outweighs
FRONT_DOSES = 13  # doses of each schedule that stand for the front


class Surface(NamedTuple):
    """The curves at every log dose of a grid, and what follows from them; leading axes (shapes, doses)."""

    curves: Curves
    x: np.ndarray
    parts: np.ndarray  # (shapes, doses, draws, parts)
    total: np.ndarray  # (shapes, doses) 10^6 IU over the course
    injections: np.ndarray  # (shapes, doses)
    feverish: np.ndarray  # (shapes, doses, draws) share of people with a fever

    @property
    def mean(self) -> np.ndarray:
        """(shapes, doses, parts)"""
        return self.parts.mean(axis=2)

    def net(self, worth: Worth) -> np.ndarray:
        """Events averted per 1000 less burden, (shapes, doses, draws)."""
        averted = self.parts[..., PART["fall"]]
        return dosing_curves.net(averted, self.total, self.injections, self.curves.fever, worth)


class Choice(NamedTuple):
    """A schedule and the log of its dose; where no schedule is worth its burden it says so."""

    shape: Shape
    x: float
    net: float
    worthwhile: bool
    feasible: bool

    @property
    def dose(self) -> float:
        return float(np.exp(self.x))


def read(curves: Curves, x: np.ndarray) -> Surface:
    """The curves read at log doses."""
    total = np.outer(curves.injections, np.exp(x))
    times = np.repeat(curves.injections[:, None], len(x), axis=1)
    return Surface(curves, x, curves.at(x), total, times, dosing_curves.feverish(total, curves.fever))


def choose(surface: Surface, aim: Aim, among: np.ndarray | None = None) -> Choice:
    """The greatest mean net benefit within the limits; where none keeps them all, the one nearest to keeping them."""
    mean = surface.net(aim.worth).mean(axis=-1)
    fevers = surface.feverish.mean(axis=-1)
    kept = dosing_curves.allowed(aim.limits, surface.mean, fevers)
    if among is not None:
        kept &= among
    if kept.any():
        place = np.unravel_index(np.where(kept, mean, -np.inf).argmax(), mean.shape)
    else:
        rooms = dosing_curves.within(aim.limits, surface.mean, fevers)
        short = sum(np.minimum(room / np.abs(_limit(aim, name)), 0) for name, room in rooms.items()) + 0 * mean
        place = np.unravel_index(np.where(among if among is not None else True, short, -np.inf).argmax(), mean.shape)
    net = float(mean[place])
    return Choice(surface.curves.shapes[place[0]], float(surface.x[place[1]]), net, net > 0, bool(kept.any()))


def _limit(aim: Aim, name: str) -> float:
    return float(getattr(aim.limits, name))


class ByDraw(NamedTuple):
    """What one would choose if one knew the constants: schedule (-1: no drug), log dose and net benefit of each draw."""

    shape: np.ndarray
    x: np.ndarray
    net: np.ndarray


def by_draw(surface: Surface, aim: Aim) -> ByDraw:
    """The best of each draw within the limits of that draw; no drug is always a choice, of net benefit 0."""
    net = surface.net(aim.worth)
    kept = dosing_curves.allowed(aim.limits, surface.parts, surface.feverish)
    net = np.where(kept, net, -np.inf)
    flat = net.reshape(-1, net.shape[-1])
    place, best = flat.argmax(axis=0), flat.max(axis=0)
    shape, dose = np.unravel_index(place, net.shape[:2])
    none = ~(best > 0)
    return ByDraw(np.where(none, -1, shape), np.where(none, np.nan, surface.x[dose]), np.maximum(best, 0.0))


def told_by_draw(found: ByDraw, surface: Surface, chosen: np.ndarray) -> dict[str, Any]:
    """The distribution of the best over draws, and the expected regret of one choice; ``chosen`` is its net in each draw."""
    shapes, count = surface.curves.shapes, len(found.shape)
    each = np.arange(count)
    doses = np.exp(found.x[found.shape >= 0])
    picked = [(int((found.shape == i).sum()), shape) for i, shape in enumerate(shapes)]
    rows = [{"schedule": shape.words, "share": n / count} for n, shape in sorted(picked, key=lambda one: -one[0]) if n]
    shortfall = answers.mean(np.maximum(found.net, chosen) - chosen, each)
    return {
        "no drug": float((found.shape < 0).mean()),
        "schedules": rows,
        "dose": {f"q{round(100 * q):02}": float(np.quantile(doses, q)) for q in answers.QUANTILES}
        if len(doses)
        else {},
        "net": _mean(found.net, each),
        "regret": {"value": shortfall.value, "error": shortfall.error},
        "worse than no drug": float((chosen < 0).mean()),
    }


def _mean(values: np.ndarray, which: np.ndarray) -> dict[str, float]:
    found = answers.mean(values, which)
    return {"value": found.value, "error": found.error}


def front(surface: Surface) -> list[dict[str, Any]]:
    """Schedules and doses that no other beats in benefit, injections, fevers and effector T cells at once."""
    thin = np.linspace(surface.x[0], surface.x[-1], FRONT_DOSES)
    coarse = read(surface.curves, thin)
    fevers = coarse.total * coarse.curves.fever.mean()
    points: list[dict[str, Any]] = [
        {
            "schedule": shape.words,
            "days": shape.text,
            "injections": len(shape.days),
            "dose": float(np.exp(x)),
            "averted": 1000 * float(coarse.mean[i, j, PART["fall"]]),
            "fevers": float(fevers[i, j]),
            "teff": float(coarse.mean[i, j, PART["teff"]]),
            "hypereosinophilia": float(coarse.mean[i, j, PART["hypereosinophilia"]]),
        }
        for i, shape in enumerate(coarse.curves.shapes)
        for j, x in enumerate(coarse.x)
    ]
    kept = answers.front(points, ["injections", "fevers", "teff"], ["averted"])
    rows = [point for point, one in zip(points, kept, strict=True) if one]
    return sorted(rows, key=lambda row: (row["injections"], row["dose"]))


def turns(surface: Surface, aim: Aim) -> list[dict[str, Any]]:
    """The best schedule for every worth of a prevented event in injections (fevers in proportion): where the answer turns."""
    fevers = surface.total * surface.curves.fever.mean()
    burden = surface.injections + fevers * aim.worth.injections / aim.worth.fevers
    averted = surface.mean[..., PART["fall"]]
    kept = dosing_curves.allowed(aim.limits, surface.mean, surface.feverish.mean(axis=-1))
    rows: list[dict[str, Any]] = []
    for worth in WORTHS if kept.any() else ():
        net = np.where(kept, averted - burden / worth, -np.inf)
        shape, dose = np.unravel_index(net.argmax(), net.shape)
        some = net[shape, dose] > 0
        name = surface.curves.shapes[shape].words if some else "no drug"
        here = float(np.exp(surface.x[dose])) if some else None
        if rows and rows[-1]["schedule"] == name:
            rows[-1] |= {"to": float(worth), "dose_to": here}
        else:
            rows.append({"schedule": name, "from": float(worth), "to": float(worth), "dose": here, "dose_to": here})
    return rows

"""Doses that differ from one injection to the next: what each injection is worth, and whether an uneven course does better.

Every injection's dose is a variable; the slope of the net benefit along each is worked out exactly (``dosing_lives``), so
a course of many injections is improved by sequential quadratic steps (Kraft 1988) within the same limits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from quell.body.parameters import Parameters
from quell.design import answers, dosing_curves, dosing_lives
from quell.design.dosing_aim import Aim, Shape
from quell.design.dosing_curves import PART, Sample
from quell.keys import jax

MOST = 24  # injections whose worth is told, evenly chosen
PARTS = 3  # of the course after loading, each with a dose of its own
ROUNDS = 12


class Valued(NamedTuple):
    """Net benefit and limits by draw, and their slopes along each direction: (draws,), (directions, draws)."""

    net: np.ndarray
    rooms: dict[str, np.ndarray]
    slope: np.ndarray
    room_slopes: dict[str, np.ndarray]


def _many(who: dosing_lives.Group, times: int) -> dosing_lives.Group:
    """The same lives so many times over, for as many directions."""
    patients = jax.tree.map(lambda x: np.tile(x, (times,) + (1,) * (np.ndim(x) - 1)), who.patients)
    return dosing_lives.Group(patients, Parameters(*(np.tile(x, times) for x in who.constants)), who.draws * times)


def valued(aim: Aim, those: Sample, shape: Shape, amounts: np.ndarray, directions: np.ndarray) -> Valued:
    """The net benefit of uneven amounts (injections,) and its slope along directions (directions, injections), by draw."""
    count, lives = len(directions), len(those.group.patients.age)
    value, slope, _ = dosing_lives.effects(
        _many(those.group, count), shape.days, amounts, np.repeat(directions, lives, axis=0), horizon=aim.days, benefit=aim.benefit
    )  # fmt: skip
    draws = those.draws
    parts = dosing_lives.by_draw(value, count * draws).reshape(count, draws, -1)[0]
    slopes = dosing_lives.by_draw(slope, count * draws).reshape(count, draws, -1)
    total, injections = np.array(amounts.sum()), np.array(float(np.count_nonzero(amounts > 0)))
    net = dosing_curves.net(parts[:, PART["fall"]], total, injections, those.fever, aim.worth)
    fevers = directions.sum(axis=1)[:, None] * those.fever.mean(axis=1)
    d_net = 1000 * (slopes[..., PART["fall"]] - fevers / aim.worth.fevers)
    rooms = dosing_curves.within(aim.limits, parts, dosing_curves.feverish(total, those.fever))
    rises = {"fever": _feverish_slope(float(total), directions.sum(axis=1), those.fever)}
    d_rooms = {
        name: slopes[..., PART["treg"]] if name == "treg" else -rises.get(name, slopes[..., PART.get(name, 0)])
        for name in rooms
    }
    return Valued(net, rooms, d_net, d_rooms)


def _feverish_slope(total: float, along: np.ndarray, fever: np.ndarray) -> np.ndarray:
    """How the share of people with a fever moves along directions: (directions, draws)."""
    return along[:, None] * (fever * np.exp(-fever * total)).mean(axis=1)


def by_injection(aim: Aim, those: Sample, shape: Shape, dose: float) -> list[dict[str, Any]]:
    """What one more 10^6 IU on one day would do: events averted per 1000, and net of the fevers it brings."""
    days = np.array(shape.days)
    places = np.unique(np.linspace(0, len(days) - 1, min(MOST, len(days))).astype(int))
    found = valued(aim, those, shape, np.full(len(days), dose), np.eye(len(days))[places])
    cost = 1000 * those.fever.mean(axis=1) / aim.worth.fevers
    rows = []
    for place, slope in zip(places, found.slope, strict=True):
        net = answers.mean(slope, np.arange(those.draws))
        averted = answers.mean(slope + cost, np.arange(those.draws))
        row = {"day": int(days[place]), "averted": averted.value, "averted_error": averted.error}
        rows.append(row | {"net": net.value, "net_error": net.error})
    return rows


def groups(shape: Shape) -> np.ndarray:
    """Which injections share a dose: loading, and the rest of the course in equal parts; (groups, injections) of 0 and 1.

    Where there is loading alone, its parts.

    >>> groups(Shape(5, 7, 56)).sum(axis=1).tolist()
    [5.0, 3.0, 2.0, 2.0]
    """
    first = shape.loading if shape.loading > 1 and len(shape.days) > shape.loading else 0
    rest = [part for part in np.array_split(np.arange(first, len(shape.days)), PARTS) if len(part)]
    sets = ([np.arange(first)] if first else []) + rest
    return np.array([[1.0 if j in part else 0.0 for j in range(len(shape.days))] for part in sets])


def improve(aim: Aim, those: Sample, shape: Shape, dose: float) -> np.ndarray:
    """Doses of each group that do better on average than one even dose, within the limits: (injections,), 10^6 IU."""
    sets, (low, high) = groups(shape), aim.doses
    known: dict[bytes, Valued] = {}

    def at(x: np.ndarray) -> Valued:
        mark = x.tobytes()
        if mark not in known:
            known[mark] = valued(aim, those, shape, x @ sets, sets)
        return known[mark]

    begin = np.full(len(sets), dose)
    limits = [
        {
            "type": "ineq",
            "fun": lambda x, name=name: float(at(x).rooms[name].mean()),
            "jac": lambda x, name=name: at(x).room_slopes[name].mean(axis=-1),
        }
        for name in at(begin).rooms
    ]
    found = optimize.minimize(
        lambda x: -float(at(x).net.mean()),
        begin,
        jac=lambda x: -at(x).slope.mean(axis=-1),
        method="SLSQP",
        bounds=[(low, high)] * len(sets),
        constraints=limits,
        options={"maxiter": ROUNDS, "ftol": 1e-6},
    )
    kept = all(room.mean() >= -1e-6 for room in at(found.x).rooms.values())
    better = kept and at(found.x).net.mean() > at(begin).net.mean()
    return (found.x if better else begin) @ sets

"""Benefit and harm as smooth functions of the dose, for every schedule and every draw: from values and slopes at a few doses.

Between doses x_k on the logarithmic scale each quantity is the cubic that has the values and the slopes found there
(Hermite). Reactions need no lives: their rates are proportional to the dose (``body.harm``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from quell.body import parameters
from quell.body.population import Patient
from quell.calibrate import people
from quell.design import dosing_lives
from quell.design.dosing_aim import Aim, Limits, Shape, Worth
from quell.design.dosing_lives import Effect, Group
from quell.keys import at, jax
from quell.posterior import load

STEP = 1.0  # of the log dose between two lives, about
GRID = 0.02  # of the log dose at which curves are read
Tell = Callable[[str, float | None], None]


class Sample(NamedTuple):
    """The draws and people on whom schedules are compared, and who reacts how easily, (draws, people) per 10^6 IU."""

    group: Group
    rows: np.ndarray  # which draws of the posterior
    fever: np.ndarray

    @property
    def draws(self) -> int:
        return len(self.rows)


def sample(aim: Aim, rows: np.ndarray, count: int) -> Sample:
    """People of the population, evenly spread, in each of the draws ``rows`` of the aim's posterior."""
    constants = load(aim.stage).constants(rows)
    constants = parameters.without(constants, aim.without) if aim.without else constants
    patients: Patient = people.even(count, aim.population)
    prone = np.asarray(constants.reaction_proneness)[:, None] * np.asarray(patients.own["reaction_proneness"])
    return Sample(dosing_lives.group(patients, constants), rows, prone * np.asarray(constants.reaction_fever)[:, None])


def rows(aim: Aim, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws to choose on, and as many others to see what the choice is worth; by address.

    >>> first, fresh = rows(Aim(draws=10), 1)
    >>> len(set(first.tolist()) | set(fresh.tolist()))
    20
    """
    total = len(load(aim.stage).values)
    order = np.asarray(jax.random.permutation(at(key, "dosing", "draws"), total))
    count = min(aim.draws, total // 2)
    return order[:count], order[count : 2 * count]


class Curves(NamedTuple):
    """What every schedule does at every dose in every draw: values and slopes (by log dose) at a few doses."""

    shapes: tuple[Shape, ...]
    nodes: np.ndarray  # (nodes,) log of 10^6 IU
    value: np.ndarray  # (shapes, nodes, draws, parts of an effect)
    slope: np.ndarray
    control: np.ndarray  # (draws,) gathered hazard untreated
    fever: np.ndarray  # (draws, people) per 10^6 IU

    @property
    def injections(self) -> np.ndarray:
        """(shapes,)"""
        return np.array([len(shape.days) for shape in self.shapes], float)

    @property
    def grid(self) -> np.ndarray:
        """The log doses at which the curves are read, (doses,)."""
        return np.linspace(self.nodes[0], self.nodes[-1], 1 + round((self.nodes[-1] - self.nodes[0]) / GRID))

    def at(self, x: np.ndarray) -> np.ndarray:
        """Every part of an effect at log doses x: (shapes, doses, draws, parts)."""
        right = np.clip(np.searchsorted(self.nodes, x, side="right"), 1, len(self.nodes) - 1)
        left, wide = right - 1, self.nodes[right] - self.nodes[right - 1]
        t = (x - self.nodes[left]) / wide
        h00, h10, h01, h11 = 2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, 3 * t**2 - 2 * t**3, t**3 - t**2

        def part(array: np.ndarray, where: np.ndarray, weight: np.ndarray) -> np.ndarray:
            return array[:, where] * weight[None, :, None, None]

        ends = part(self.value, left, h00) + part(self.value, right, h01)
        return ends + part(self.slope, left, h10 * wide) + part(self.slope, right, h11 * wide)


def nodes(low: float, high: float) -> np.ndarray:
    """Log doses at which lives are lived.

    >>> len(nodes(0.08, 3.0))
    5
    """
    return np.linspace(math.log(low), math.log(high), 1 + max(3, math.ceil(math.log(high / low) / STEP)))


def curves(aim: Aim, those: Sample, shapes: Sequence[Shape], tell: Tell) -> Curves:
    """Live every schedule at every node; the direction is the dose itself, so slopes are by its logarithm."""
    x = nodes(*aim.doses)
    work = [(shape, dose) for shape in shapes for dose in np.exp(x)]
    load_of = np.cumsum([len(shape.days) + 5 for shape, _ in work])
    value, slope, control = [], [], np.zeros(0)
    for done, (shape, dose) in zip(load_of, work, strict=True):
        amount = np.full(len(shape.days), dose)
        lived = dosing_lives.effects(those.group, shape.days, amount, amount, horizon=aim.days, benefit=aim.benefit)
        value.append(dosing_lives.by_draw(lived[0], those.draws))
        slope.append(dosing_lives.by_draw(lived[1], those.draws))
        control = lived[2].reshape(those.draws, -1).mean(axis=1)
        tell("living every schedule at every dose", float(done / load_of[-1]))
    form = (len(shapes), len(x), those.draws, len(Effect._fields))
    return Curves(
        tuple(shapes), x, np.reshape(np.array(value), form), np.reshape(np.array(slope), form), control, those.fever
    )


PART = {name: place for place, name in enumerate(Effect._fields)}


def net(averted: np.ndarray, total: np.ndarray, injections: np.ndarray, fever: np.ndarray, worth: Worth) -> np.ndarray:
    """Events averted per 1000 people, less the burden in the same unit, in every draw: (..., draws).

    ``averted`` (..., draws) a person; ``total`` (...,) 10^6 IU over the course; ``fever`` (draws, people) per 10^6 IU.
    """
    fevers = total[..., None] * fever.mean(axis=-1)
    burden = injections[..., None] / worth.injections + fevers / worth.fevers
    return 1000 * (averted - burden)


def feverish(total: np.ndarray, fever: np.ndarray) -> np.ndarray:
    """Share of people with at least one fever over a course of ``total`` 10^6 IU: (..., draws); P = 1 - exp(-f a total)."""
    shares = np.empty((*total.shape, len(fever)))
    for draw, rate in enumerate(fever):
        shares[..., draw] = -np.expm1(-np.multiply.outer(total, rate)).mean(axis=-1)
    return shares


def within(limits: Limits, parts: np.ndarray, fevers: np.ndarray) -> dict[str, np.ndarray]:
    """How far inside each limit: positive within, negative beyond; ``parts`` (..., parts of an effect), ``fevers`` (...,)."""
    found = {}
    for name in ("teff", "nk", "hypereosinophilia"):
        limit = getattr(limits, name)
        if limit is not None:
            found[name] = limit - parts[..., PART[name]]
    if limits.treg is not None:
        found["treg"] = parts[..., PART["treg"]] - limits.treg
    if limits.fever is not None:
        found["fever"] = limits.fever - fevers
    return found


def allowed(limits: Limits, parts: np.ndarray, fevers: np.ndarray) -> np.ndarray:
    """Whether every limit is kept, (...,)."""
    kept = np.ones(parts.shape[:-1], bool)
    for room in within(limits, parts, fevers).values():
        kept &= room >= 0
    return kept

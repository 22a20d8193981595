"""The limits of a design's statistic at its looks, as they happened; all from `quell.analysis`.

Fractions of information are rounded to a two-hundredth of the plan, so that trials whose looks fell alike share limits.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.interim import conditional_limit, predictive_power
from quell.analysis.sequential import by_shape, by_spending, haybittle_peto, with_futility, with_harm
from quell.analysis.spending import spending
from quell.analysis.stopped import final_estimate, repeated_p
from quell.analysis.stopping import Boundaries
from quell.design.course import Game
from quell.design.declared import Design, DesignError
from quell.design.parts import Efficacy

ROUNDED = 200
GRID = np.arange(-800, 1401) / 100.0  # Z at which what follows a stop is worked out, to be read between


class Limits(NamedTuple):
    """Limits of Z at each look, (looks,): success at or above upper, futility at or below lower, harm at or below harm."""

    upper: np.ndarray
    lower: np.ndarray
    harm: np.ndarray
    boundaries: Boundaries


class Watch(NamedTuple):
    """What the limits follow from: the design's rules, and the information planned."""

    design: Design
    planned: tuple[float, ...]  # fractions of the last look's
    information: float  # at the last look, in units of the statistic: events times the product of the shares

    @property
    def final(self) -> float:
        """The standard error expected at the last look."""
        return self.information**-0.5


def watch(game: Game) -> Watch:
    """The plan of a design at one size."""
    ratio = np.array(game.design.ratio, float)
    share = ratio[0] / (ratio[0] + ratio[1])
    whole = float(game.total or game.variant.people) * share * (1 - share)
    return Watch(game.design, tuple(float(one) for one in game.planned), whole)


def limits(plan: Watch, fractions: tuple[float, ...] = ()) -> Limits:
    """The limits when the first looks were at these fractions of the planned information, the rest as planned.

    Raises DesignError in a sentence where no limits keep the rules.

    >>> from quell.design.parts import Variant
    >>> design = Design.load("ivory-3")
    >>> limits(Watch(design, (0.5, 0.75, 1.0), 84.0)).upper.round(3).tolist()
    [2.963, 2.359, 2.014]
    """
    steps = tuple(round(one * ROUNDED) for one in fractions)
    planned = tuple(round(one * ROUNDED) for one in plan.planned)
    return _limits(plan, steps if steps != planned[: len(steps)] else ())


@functools.lru_cache(maxsize=20_000)
def _limits(plan: Watch, steps: tuple[int, ...]) -> Limits:
    """Futility and harm limits stay as planned; where futility binds, so do the efficacy limits that rely on it."""
    if steps:
        planned = _limits(plan, ())
        if planned.boundaries.binding:
            return planned
        return planned._replace(upper=efficacy(plan, plan.design.level, steps).upper)
    try:
        return _planned(plan)
    except ClaimError as error:
        raise DesignError(f"design '{plan.design.name}': {error}") from None


def _planned(plan: Watch) -> Limits:
    design = plan.design
    usual = efficacy(plan, design.level)
    lower, upper = futility(plan, usual)
    nothing = np.full(len(upper), -np.inf)
    harm = nothing
    if design.harm:
        spend = spending(design.harm.function, design.harm.level, design.harm.parameter or None)
        harm = np.asarray(with_harm(usual._replace(lower=nothing), spend).harm)
    stays = np.array([not one.futility for one in design.looks[:-1]] + [True])
    lower = np.where(stays, -np.inf, lower)
    binding = bool(design.futility and design.futility.binding)
    return Limits(upper, lower, harm, usual._replace(lower=lower, upper=upper, binding=binding))


def happened(plan: Watch, steps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Information at the looks and the clock of the spending: as it happened, then as planned; the last look spends all."""
    told = np.array(plan.planned)
    told[: len(steps)] = np.array(steps) / ROUNDED
    told = np.maximum.accumulate(told) + np.arange(len(told)) * 1e-6  # rising, also where more came than was planned
    told = np.maximum(told, (np.arange(len(told)) + 1) / ROUNDED / 10)
    clock = np.minimum(told, 1 - 1e-6 * np.arange(len(told), 0, -1))
    return told / told[-1], np.append(clock[:-1], 1.0)


def efficacy(plan: Watch, alpha: float, steps: tuple[int, ...] = ()) -> Boundaries:
    """The efficacy limits alone, at one-sided error ``alpha``; those of a shape stay as planned."""
    rule, looks = plan.design.efficacy, plan.design.looks
    tested = np.array([one.efficacy for one in looks[:-1]] + [True])
    if rule.by == "posterior":
        return posterior(plan, alpha)
    if rule.by == "spending":
        information, clock = happened(plan, steps)
        spend = spending(rule.function, alpha, rule.parameter or None)
        return by_spending(information, spend, spend_at=clock, tested=tested)
    planned = np.array(plan.planned)
    kept = planned[tested]  # looks without a test are left out, and have no limit
    some = (
        by_shape(kept, alpha, shape=rule.shape) if rule.by == "shape" else haybittle_peto(kept, alpha, early=rule.early)
    )
    upper, spent = np.full(len(planned), np.inf), np.zeros(len(planned))
    upper[tested] = some.upper
    spent[tested] = some.spent
    return Boundaries(planned, np.full(len(planned), -np.inf), upper, alpha, False, np.maximum.accumulate(spent))


def posterior(plan: Watch, alpha: float) -> Boundaries:
    """The limits of Z at which the posterior chance of a benefit is what is asked, with information as planned.

    With estimate b = -z s (in favour), standard error s and prior N(m, t^2), the effect lies below -benefit with chance
    Phi((z / s - m / t^2 - benefit P) / sqrt P), P = 1 / s^2 + 1 / t^2. ``alpha`` is what the limits spend, not what was asked.
    """
    rule = plan.design.efficacy
    planned = np.array(plan.planned)
    upper = chance_limits(rule, plan.information * planned, len(planned))
    upper = np.where([one.efficacy for one in plan.design.looks[:-1]] + [True], upper, np.inf)
    whole = Boundaries(planned, np.full(len(planned), -np.inf), upper, 0.025, False, np.zeros(len(planned)))
    spent = np.cumsum(whole.crossing(0.0).upper)
    return whole._replace(alpha=float(spent[-1]), spent=spent)


def chance_limits(rule: Efficacy, information: np.ndarray, looks: int) -> np.ndarray:
    """Z at which the posterior chance is reached, at this information, (looks,)."""
    asked = np.broadcast_to(np.array(rule.chance), (looks,))
    mean, precision = (rule.prior.mean, rule.prior.sd**-2) if rule.prior else (0.0, 0.0)
    both = information + precision
    return (special.ndtri(asked) * np.sqrt(both) + mean * precision + rule.benefit * both) / np.sqrt(information)


def level(game: Game) -> float:
    """The one-sided type I error of a design's efficacy limits, futility overruled, in the normal approximation.

    For rules by posterior chance it is what follows from the rule; for all others it is the level laid down.
    """
    return float(efficacy(watch(game), game.design.level).crossing(0.0).power)


def futility(plan: Watch, usual: Boundaries) -> tuple[np.ndarray, np.ndarray]:
    """Futility limits (looks,), and the efficacy limits that go with them (others only where futility binds)."""
    rule, looks = plan.design.futility, len(usual.upper)
    none = np.full(looks, -np.inf)
    if rule is None or looks == 1:
        return none, usual.upper
    if rule.by == "spending":
        tested = np.array([one.futility for one in plan.design.looks])
        spend = spending(rule.function, 1 - rule.power, rule.parameter or None)
        found, _ = with_futility(usual, spend, binding=rule.binding, tested=tested)
        return np.asarray(found.lower, float).copy(), found.upper
    asked = np.broadcast_to(np.array(rule.limit), (looks - 1,))
    if rule.by == "z":
        if rule.binding and plan.design.efficacy.by == "spending":
            spend = spending(plan.design.efficacy.function, plan.design.level, plan.design.efficacy.parameter or None)
            bound = by_spending(usual.information, spend, futility=asked)
            return np.append(asked, -np.inf), bound.upper
        return np.append(asked, -np.inf), usual.upper
    drift = None if rule.ratio is None else -np.log(rule.ratio) / plan.final
    limit = none.copy()
    for k, chance in enumerate(asked):
        if rule.by == "conditional power":
            limit[k] = conditional_limit(float(chance), float(usual.information[k]), usual, drift)
        else:
            limit[k] = predictive_limit(float(chance), float(usual.information[k]), usual, plan)
    return limit, usual.upper


def predictive_limit(chance: float, information: float, usual: Boundaries, plan: Watch) -> float:
    """The Z now with which predictive power is this; under the prior of the effect, or a flat one."""
    rule = plan.design.futility
    prior = None
    if rule and rule.prior:  # of the drift: an effect in favour over the standard error at the end
        prior = (-rule.prior.mean / plan.final, rule.prior.sd / plan.final)
    low, high = -8.0, 8.0
    for _ in range(4):
        grid = np.linspace(low, high, 33)
        above = np.asarray(predictive_power(grid, information, usual, prior)) >= chance
        first = int(np.argmax(above)) if above.any() else len(grid) - 1
        low, high = grid[max(first - 1, 0)], grid[max(first, 1)]
    return float((low + high) / 2)


# -- after a stop, read from tables ------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=2_000)
def after_stop(plan: Watch, look: int) -> np.ndarray:
    """Lower limit, median-unbiased estimate and upper limit at Z = GRID for a standard error of 1, (3, grid)."""
    found = final_estimate(GRID, np.full(len(GRID), look), limits(plan).boundaries, se=1.0)
    return np.stack([found.lower, found.estimate, found.upper])


def adjusted(plan: Watch, look: int, z: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Lower limit, median-unbiased estimate and upper limit, (3, rows), after a stop at a look (from 0) with Z = z.

    Stage-wise ordering (Tsiatis, Rosner and Mehta 1984) with the looks as planned; in favour of the active arm.
    """
    table = after_stop(plan, look)
    return np.stack([np.interp(z, GRID, row, left=np.nan, right=np.nan) for row in table]) * se


@functools.lru_cache(maxsize=2_000)
def _sequential_p(plan: Watch, look: int) -> np.ndarray:
    """-Phi^-1 of the sequential p at Z = GRID, (grid,)."""
    found = repeated_p(GRID, np.full(len(GRID), look), lambda alpha: efficacy(plan, alpha))
    return -special.ndtri(np.asarray(found))


def sequential_p(plan: Watch, look: int, z: np.ndarray) -> np.ndarray:
    """The one-sided p of a further endpoint at the look where the trial stopped: the smallest level at which its own limits,
    of the same kind as the primary's, are reached (Maurer and Bretz 2013, doi:10.1080/19466315.2013.807748)."""
    rule = plan.design.efficacy
    if rule.by == "haybittle-peto":  # its early limit is the same at every level: the p is scaled to the look's own
        own = special.ndtr(-limits(plan).upper[look])
        return np.minimum(special.ndtr(-z) * plan.design.level / max(own, 1e-300), 1.0)
    if rule.by == "posterior" or len(plan.planned) == 1:
        return special.ndtr(-z)
    return special.ndtr(-np.interp(z, GRID, _sequential_p(plan, look)))

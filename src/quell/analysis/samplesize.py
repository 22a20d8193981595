"""How many patients, or events, a trial needs: means, rates, and survival with staggered entry and loss.

A group-sequential design multiplies the information of the fixed one by `sequential.inflation`. Answers are not rounded:
the caller decides how patients divide between arms.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from quell.analysis.claim import ClaimError

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


def means(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.025, ratio: float = 1.0, normal: bool = False
) -> float:
    """Total patients for a difference of two means: one-sided alpha, noncentral t (or normal) power.

    ratio is active over control. Raises ClaimError where the difference or an error is impossible.

    >>> round(means(0.5, 1.0), 4)
    127.5315
    """
    _check(power, alpha, difference != 0 and sd > 0 and ratio > 0)
    effect = abs(difference) / sd * np.sqrt(ratio) / (1 + ratio)
    by_normal = ((special.ndtri(1 - alpha) + special.ndtri(power)) / effect) ** 2
    if normal:
        return float(by_normal)

    def gap(n: float) -> float:
        return float(stats.nct.sf(special.stdtrit(n - 2, 1 - alpha), n - 2, effect * np.sqrt(n)) - power)

    low = 2.0 + 1e-6
    return float(optimize.brentq(gap, low, by_normal + 50, xtol=1e-10)) if gap(low) < 0 else low


def rates(active: float, control: float, *, power: float = 0.8, alpha: float = 0.025, ratio: float = 1.0) -> float:
    """Total patients for a difference of two rates: one-sided alpha, score test with pooled variance under no effect.

    Farrington and Manning 1990 at no difference, as in rpact. Raises ClaimError where a rate is not between 0 and 1.

    >>> round(rates(0.5, 0.3), 4)
    185.9977
    """
    _check(power, alpha, 0 < active < 1 and 0 < control < 1 and active != control and ratio > 0)
    pooled = (ratio * active + control) / (1 + ratio)
    under_null = np.sqrt(pooled * (1 - pooled) * (1 + ratio))
    under_effect = np.sqrt(ratio * control * (1 - control) + active * (1 - active))
    z = special.ndtri(1 - alpha) * under_null + special.ndtri(power) * under_effect
    return float((1 + 1 / ratio) * (z / (active - control)) ** 2)


def events(hazard_ratio: float, *, power: float = 0.8, alpha: float = 0.025, ratio: float = 1.0) -> float:
    """Events the log-rank test needs (Schoenfeld 1981): (1 + r)² / r x ((z_alpha + z_beta) / log HR)².

    >>> round(events(0.7), 4)
    246.7871
    """
    _check(power, alpha, hazard_ratio > 0 and hazard_ratio != 1 and ratio > 0)
    z = special.ndtri(1 - alpha) + special.ndtri(power)
    return float((1 + ratio) ** 2 / ratio * (z / np.log(hazard_ratio)) ** 2)


def counts(
    rate_ratio: float,
    control_rate: float,
    *,
    exposure: float = 1.0,
    dispersion: float = 0.0,
    power: float = 0.8,
    alpha: float = 0.025,
) -> float:
    """Total patients, 1:1, for a ratio of negative binomial (dispersion 0: Poisson) event rates (Zhu and Lakkis 2014, method 3's alternative variance).

    >>> round(counts(0.7, 0.5, exposure=2.0, dispersion=0.8), 1)
    497.1
    """
    _check(power, alpha, rate_ratio > 0 and rate_ratio != 1 and control_rate > 0 and exposure > 0 and dispersion >= 0)
    variance = (1 / control_rate + 1 / (rate_ratio * control_rate)) / exposure + 2 * dispersion
    z = special.ndtri(1 - alpha) + special.ndtri(power)
    return float(2 * variance * (z / np.log(rate_ratio)) ** 2)


class Piecewise(NamedTuple):
    """A rate constant between times: `starts` begins with 0, `values` has one for each start (the last runs on)."""

    starts: tuple[float, ...]
    values: tuple[float, ...]

    def integral(self, upto: np.ndarray) -> np.ndarray:
        """The integral from 0."""
        ends = np.append(self.starts[1:], np.inf)
        spans = np.clip(np.asarray(upto, float)[..., None], self.starts, ends) - np.asarray(self.starts)
        return spans @ np.asarray(self.values)

    def at(self, time: np.ndarray) -> np.ndarray:
        return np.asarray(self.values)[np.searchsorted(self.starts, time, side="right") - 1]


def constant(value: float) -> Piecewise:
    """A rate that never changes."""
    return Piecewise((0.0,), (float(value),))


class Survival(NamedTuple):
    """A survival trial: hazards by arm, loss to follow-up, accrual (its shape; ends at `enrolled_by`), active over control."""

    active: Piecewise
    control: Piecewise
    accrual: Piecewise
    enrolled_by: float
    loss: Piecewise = Piecewise((0.0,), (0.0,))
    ratio: float = 1.0

    def chance(self, day: float) -> float:
        """The chance that a patient, of either arm, who is to be enrolled has had the event by this calendar time."""
        share = self.ratio / (1 + self.ratio)
        return share * self._chance(self.active, day) + (1 - share) * self._chance(self.control, day)

    def _chance(self, hazard: Piecewise, day: float) -> float:
        breaks = {0.0, self.enrolled_by, *(s for s in self.accrual.starts if s < self.enrolled_by)}
        breaks |= {day - s for s in (*hazard.starts, *self.loss.starts)}
        edges = sorted(b for b in breaks if 0 <= b <= min(day, self.enrolled_by))
        edges = sorted({*edges, min(day, self.enrolled_by)})
        total = 0.0
        for a, b in itertools.pairwise(edges):
            entry = (a + b) / 2 + (b - a) / 2 * NODES
            total += (
                (b - a)
                / 2
                * float(np.dot(WEIGHTS, self.accrual.at(entry) * _had_event(hazard, self.loss, day - entry)))
            )
        return total / float(self.accrual.integral(np.array(self.enrolled_by)))

    def patients(self, needed: float, day: float) -> float:
        """Patients to enrol so that this many events are expected by the calendar time."""
        chance = self.chance(day)
        if chance <= 0:
            raise ClaimError(f"No event is expected by {day}: no number of patients gives {needed:.1f} events.")
        return needed / chance

    def when(self, needed: float, patients: float) -> float:
        """The calendar time by which this many events are expected; infinite where they never are."""
        last = self.enrolled_by
        for _ in range(40):
            if patients * self.chance(last) >= needed:
                return float(optimize.brentq(lambda day: patients * self.chance(day) - needed, 0.0, last, xtol=1e-11))
            last *= 1.5
        return float("inf")


def _had_event(hazard: Piecewise, loss: Piecewise, follow_up: np.ndarray) -> np.ndarray:
    """The chance of an observed event within a follow-up: sum over pieces of h / (h + g) x the fall of exp(-H - G)."""
    starts = sorted({*hazard.starts, *loss.starts})
    ends = [*starts[1:], np.inf]
    total = np.zeros(np.shape(follow_up))
    for a, b in zip(starts, ends, strict=True):
        h, g = float(hazard.at(np.array(a))), float(loss.at(np.array(a)))
        if h <= 0:
            continue
        reach = np.clip(follow_up, a, b)
        begun = np.exp(-hazard.integral(np.array(a)) - loss.integral(np.array(a)))
        total = total + h / (h + g) * begun * -np.expm1(-(h + g) * (reach - a))
    return total


def power_of(test: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The smallest size whose power, a rising function of it, is what is wanted.

    >>> round(power_of(lambda n: 1 - 1 / n, 0.9, 1, 100), 6)
    10.0
    """
    if not test(low) <= wanted <= test(high):
        raise ClaimError(f"The power {wanted} is not reached between {low:g} and {high:g}; widen the search.")
    return float(optimize.brentq(lambda n: test(n) - wanted, low, high, xtol=1e-10))


def _check(power: float, alpha: float, sensible: bool) -> None:
    if not 0 < alpha < power < 1:
        raise ClaimError(f"The power is {power} and alpha {alpha}; they need 0 < alpha < power < 1.")
    if not sensible:
        raise ClaimError("The effect is none, or a rate, spread or ratio is impossible: check the assumptions.")

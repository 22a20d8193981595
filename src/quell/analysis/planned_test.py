"""A test as planning sees it: how far from its null the effect lies, in standard errors, for a number of patients.

Every sample size of this room is one of two tests. In a normal test the estimate has standard deviation s0 / sqrt n under
the null and s1 / sqrt n under the effect, so that n = ((z_alpha s0 + z_beta s1) / effect)²; a t test has a noncentral t.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from scipy import optimize, special, stats

from quell.analysis.claim import ClaimError


class PlannedTest(Protocol):
    """What a planned test can say: its size for a power, and its power for a size (total patients, or events)."""

    def size(self, power: float = 0.8, alpha: float = 0.025) -> float: ...

    def power(self, n: float, alpha: float = 0.025) -> float: ...


class NormalTest(NamedTuple):
    """effect from the null, and sqrt n x the standard deviation of its estimate under the null and under the effect.

    >>> test = NormalTest(0.5, 2.0, 2.0)
    >>> round(test.size(0.8), 4), round(test.power(125.5821), 4)
    (125.5821, 0.8)
    """

    effect: float
    under_null: float
    under_effect: float

    def size(self, power: float = 0.8, alpha: float = 0.025) -> float:
        """Total n with this power, one-sided alpha. Raises ClaimError where the effect is none or the errors impossible."""
        check(power, alpha, self.effect != 0)
        z = special.ndtri(1 - alpha) * self.under_null + special.ndtri(power) * self.under_effect
        return float((z / self.effect) ** 2)

    def power(self, n: float, alpha: float = 0.025) -> float:
        """The power of n in total, one-sided alpha."""
        z = special.ndtri(1 - alpha) * self.under_null
        return float(special.ndtr((abs(self.effect) * np.sqrt(n) - z) / self.under_effect))


class StudentTest(NamedTuple):
    """The noncentrality of a t test per root patient, and its degrees of freedom for n in total.

    >>> round(StudentTest(0.25, lambda n: n - 2).size(0.8), 4)
    127.5315
    """

    noncentrality: float
    freedom: Callable[[float], float]

    def size(self, power: float = 0.8, alpha: float = 0.025) -> float:
        """Total n with this power, one-sided alpha. Raises ClaimError where the effect is none or the errors impossible."""
        check(power, alpha, self.noncentrality != 0)
        by_normal = ((special.ndtri(1 - alpha) + special.ndtri(power)) / self.noncentrality) ** 2
        low = 1.0 + 1e-6
        while self.freedom(low) <= 0:
            low += 0.5
        if self.power(low, alpha) >= power:
            return low
        return float(optimize.brentq(lambda n: self.power(n, alpha) - power, low, 2 * by_normal + 50, xtol=1e-10))

    def power(self, n: float, alpha: float = 0.025) -> float:
        """The power of n in total, one-sided alpha."""
        df = self.freedom(n)
        if df <= 0:
            return 0.0
        return float(stats.nct.sf(special.stdtrit(df, 1 - alpha), df, abs(self.noncentrality) * np.sqrt(n)))


def detectable(
    test: Callable[[float], PlannedTest],
    n: float,
    *,
    power: float = 0.8,
    alpha: float = 0.025,
    between: tuple[float, float],
) -> float:
    """The effect that n in total would find with this power; `test` makes the planned test of an effect.

    Effects are searched between the two given, the weakest first. Raises ClaimError where none there has the power.

    >>> round(detectable(lambda d: NormalTest(d, 2.0, 2.0), 125.5821, between=(0.01, 5.0)), 4)
    0.5
    """
    weak, strong = between
    if not test(weak).power(n, alpha) <= power <= test(strong).power(n, alpha):
        raise ClaimError(
            f"No effect between {weak:g} and {strong:g} is found with power {power} by {n:g}; widen the search."
        )
    low, high = min(between), max(between)
    return float(optimize.brentq(lambda effect: test(effect).power(n, alpha) - power, low, high, xtol=1e-12))


def power_of(test: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """The smallest size whose power, a rising function of it, is what is wanted.

    >>> round(power_of(lambda n: 1 - 1 / n, 0.9, 1, 100), 6)
    10.0
    """
    if not test(low) <= wanted <= test(high):
        raise ClaimError(f"The power {wanted} is not reached between {low:g} and {high:g}; widen the search.")
    return float(optimize.brentq(lambda n: test(n) - wanted, low, high, xtol=1e-10))


def check(power: float, alpha: float, sensible: bool = True) -> None:
    """Raises ClaimError where the errors or the assumptions are impossible."""
    if not 0 < alpha < power < 1:
        raise ClaimError(f"The power is {power} and alpha {alpha}; they need 0 < alpha < power < 1.")
    sensible_or_raise(sensible)


def sensible_or_raise(sensible: bool) -> None:
    if not sensible:
        raise ClaimError("The effect is none, or a rate, spread or ratio is impossible: check the assumptions.")

"""How many patients a comparison of rates (proportions) needs: differences, ratios and odds ratios, with margins."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.counts import Cells
from quell.analysis.planned_test import NormalTest, PlannedTest, check, sensible_or_raise
from quell.analysis.score import restricted_difference, restricted_ratio

Scale = Literal["difference", "ratio", "odds ratio"]
Method = Literal["score", "unpooled", "continuity"]
NO_EFFECT = {"difference": 0.0, "ratio": 1.0, "odds ratio": 1.0}


def rate_test(
    active: float,
    control: float,
    *,
    ratio: float = 1.0,
    scale: Scale = "difference",
    null: float | None = None,
    method: Method = "score",
) -> PlannedTest:
    """The test of two rates against a null difference, ratio or odds ratio (None: no effect; otherwise a margin).

    `score` takes the variance under the null from the restricted maximum likelihood (Farrington and Manning 1990; at no
    difference, the pooled rate); `unpooled` takes the rates themselves; `continuity` corrects the pooled test (Fleiss,
    Tytun and Ury 1980). The odds ratio is tested on its log, with Wald's variance. Raises ClaimError where a rate is not
    between 0 and 1, or the scale or method does not exist.

    >>> round(rate_test(0.25, 0.25, null=0.1).size(0.9), 4), round(rate_test(0.4, 0.25, scale="ratio").size(0.9), 4)
    (789.8178, 405.619)
    """
    sensible_or_raise(0 < active < 1 and 0 < control < 1 and ratio > 0)
    if scale not in NO_EFFECT or method not in ("score", "unpooled", "continuity"):
        raise ClaimError(
            f"No test of a {scale} by '{method}': choose {', '.join(NO_EFFECT)}; score, unpooled or continuity."
        )
    none = NO_EFFECT[scale] if null is None else float(null)
    if method == "continuity" and (scale != "difference" or none != 0):
        raise ClaimError("The continuity correction is for a difference against none; use method='score' for a margin.")
    if scale == "odds ratio":
        return _odds(active, control, ratio, none)
    test = _score(active, control, ratio, scale, none, method)
    return Corrected(test, abs(active - control), ratio) if method == "continuity" else test


def rates(
    active: float,
    control: float,
    *,
    power: float = 0.8,
    alpha: float = 0.025,
    ratio: float = 1.0,
    scale: Scale = "difference",
    null: float | None = None,
    method: Method = "score",
) -> float:
    """Total patients for a comparison of two rates; see `rate_test`.

    >>> round(rates(0.5, 0.3), 4)
    185.9977
    """
    return rate_test(active, control, ratio=ratio, scale=scale, null=null, method=method).size(power, alpha)


def one_rate(rate: float, null: float) -> NormalTest:
    """The test of one rate against a null, with the null's variance under the null.

    >>> round(one_rate(0.4, 0.25).size(0.9), 4)
    96.8937
    """
    sensible_or_raise(0 < rate < 1 and 0 < null < 1)
    return NormalTest(rate - null, float(np.sqrt(null * (1 - null))), float(np.sqrt(rate * (1 - rate))))


def one_rate_exact(rate: float, null: float, *, power: float = 0.8, alpha: float = 0.025, lasting: bool = False) -> int:
    """The smallest n with which the exact binomial test of one rate has this power; or, lasting, from which on it does.

    Power rises in a saw, so that a larger n may have less; `lasting` is past the last tooth that falls below the power,
    within twice the normal size.

    >>> one_rate_exact(0.4, 0.25, power=0.9), one_rate_exact(0.4, 0.25, power=0.9, lasting=True)
    (105, 111)
    """
    check(power, alpha, 0 < rate < 1 and 0 < null < 1 and rate != null)
    if rate < null:
        rate, null = 1 - rate, 1 - null
    sizes = np.arange(1, int(2 * one_rate(rate, null).size(power, alpha)) + 50)
    reached = np.array([_exact_power(int(n), rate, null, alpha) for n in sizes]) >= power
    if not lasting:
        return int(sizes[np.argmax(reached)])
    short = np.flatnonzero(~reached)
    return int(sizes[short[-1]] + 1) if len(short) else 1


def _exact_power(n: int, rate: float, null: float, alpha: float) -> float:
    """The chance of as many events as have a chance of at most alpha under the null."""
    before = np.arange(n)
    tail = special.bdtrc(before, n, null)
    fewest = int(np.argmax(tail <= alpha))
    return float(special.bdtrc(before[fewest], n, rate)) if tail[fewest] <= alpha else 0.0


class Corrected(NamedTuple):
    """A test of two rates with continuity correction: its size is that of the uncorrected one, enlarged."""

    uncorrected: NormalTest
    difference: float
    ratio: float

    def size(self, power: float = 0.8, alpha: float = 0.025) -> float:
        """Total n with this power, one-sided alpha: n / 4 (1 + sqrt(1 + 2 (1 + r) / (n r |difference|)))², n in control."""
        control = self.uncorrected.size(power, alpha) / (1 + self.ratio)
        more = 2 * (1 + self.ratio) / (control * self.ratio * self.difference)
        return float(control / 4 * (1 + np.sqrt(1 + more)) ** 2 * (1 + self.ratio))

    def power(self, n: float, alpha: float = 0.025) -> float:
        """The power of n in total, one-sided alpha."""
        control = n / (1 + self.ratio)
        # the inverse of the enlargement
        less = control - (1 + self.ratio) / (self.ratio * self.difference)
        before = (control + less) ** 2 / (4 * control) if control + less > 0 else 0.0
        return self.uncorrected.power(before * (1 + self.ratio), alpha)


def _score(active: float, control: float, ratio: float, scale: Scale, null: float, method: Method) -> NormalTest:
    """(p1 - null - p0) or (p1 - null p0) with its standard deviations per root patient."""
    weight = 1.0 if scale == "difference" else null
    effect = active - control - null if scale == "difference" else active - null * control
    x1, n1, x0, n0 = (np.asarray(value, float) for value in (ratio * active, ratio, control, 1.0))
    one: Cells = (x1, n1, x0, n0)
    restricted = restricted_difference if scale == "difference" else restricted_ratio

    def spread(p1: float, p0: float) -> float:
        return float(np.sqrt((1 + ratio) * (p1 * (1 - p1) / ratio + weight**2 * p0 * (1 - p0))))

    under_effect = spread(active, control)
    if method == "unpooled":
        return NormalTest(effect, under_effect, under_effect)
    p1, p0 = (float(p) for p in restricted(one, np.asarray(null)))
    return NormalTest(effect, spread(p1, p0), under_effect)


def _odds(active: float, control: float, ratio: float, null: float) -> NormalTest:
    spread = float(np.sqrt((1 + ratio) * (1 / (ratio * active * (1 - active)) + 1 / (control * (1 - control)))))
    effect = special.logit(active) - special.logit(control) - np.log(null)
    return NormalTest(float(effect), spread, spread)

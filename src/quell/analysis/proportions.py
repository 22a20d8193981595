"""Proportions: one, and the difference or ratio of two, with intervals that hold for small counts and empty cells.

A tally of counts shaped (...) is all that is needed; `tally` makes it from subjects shaped (..., n).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, critical, flag, two_sided

# R's fisher.test counts tables as "as unlikely" within this relative tolerance.
FISHER_TOLERANCE = 1e-7
BISECTIONS = 60


class Tally(NamedTuple):
    """Events and patients in the active and the control arm, each shaped (...) like the batch."""

    events_active: np.ndarray
    n_active: np.ndarray
    events_control: np.ndarray
    n_control: np.ndarray
    warnings: np.ndarray | int = 0

    @property
    def n(self) -> np.ndarray:
        return np.asarray(self.n_active) + np.asarray(self.n_control)


def tally(
    happened: np.ndarray, arm: np.ndarray, *, contrast: tuple[int, int] = (1, 0), include: np.ndarray | None = None
) -> Tally:
    """Count events and patients in the two arms of the contrast (active, control).

    happened (..., n) true, false or NaN where unknown (left out, with a caution); arm (..., n) whole codes; include
    (..., n).

    >>> tally(np.array([1, 0, 0, 1]), np.array([1, 1, 0, 0]))[:4]
    (array(1), array(2), array(1), array(2))
    """
    happened, arm = np.broadcast_arrays(np.asarray(happened, float), np.asarray(arm))
    asked = np.isin(arm, contrast)
    asked = asked if include is None else asked & (np.asarray(include) > 0)
    known = asked & np.isfinite(happened)
    active, control = (known & (arm == code) for code in contrast)
    events = happened > 0
    return Tally(
        np.asarray((active & events).sum(-1)),
        np.asarray(active.sum(-1)),
        np.asarray((control & events).sum(-1)),
        np.asarray(control.sum(-1)),
        flag((asked & ~known).any(-1), Caution.MISSING),
    )


def proportion(
    events: np.ndarray, n: np.ndarray, *, level: float = 0.95, method: Literal["wilson", "clopper-pearson"] = "wilson"
) -> Estimate:
    """One proportion with Wilson's score interval (1927) or the exact one of Clopper and Pearson (1934).

    events and n (...) are counts. Raises ClaimError where a count is impossible.

    >>> result = proportion(np.array(0), np.array(28), method="clopper-pearson")
    >>> float(result.lower), round(float(result.upper), 4)
    (0.0, 0.1234)
    """
    x, n = _counts(events, n)
    size = np.maximum(n, 1.0)
    share = x / size
    if method == "wilson":
        z2 = critical(level) ** 2
        centre = (share + z2 / (2 * size)) / (1 + z2 / size)
        half = np.sqrt(z2) / (1 + z2 / size) * np.sqrt(share * (1 - share) / size + z2 / (4 * size**2))
        lower, upper = centre - half, centre + half
    elif method == "clopper-pearson":
        tail = (1 - level) / 2
        lower = special.betaincinv(np.maximum(x, 0.5), n - x + 1, tail)
        upper = special.betaincinv(x + 1, np.maximum(n - x, 0.5), 1 - tail)
    else:
        raise ClaimError(f"The method is '{method}'; choose 'wilson' or 'clopper-pearson'.")
    lower, upper = np.where(x == 0, 0.0, lower), np.where(x == n, 1.0, upper)
    none = np.full(x.shape, np.nan)
    share, lower, upper = (np.where(n > 0, value, np.nan) for value in (share, lower, upper))
    se = np.sqrt(share * (1 - share) / size)
    warnings = flag(n == 0, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    return Estimate(share, se, lower, upper, none, none, none, n.astype(int), warnings, level)


def risk_difference(
    counts: Tally,
    *,
    level: float = 0.95,
    method: Literal["miettinen-nurminen", "newcombe"] = "miettinen-nurminen",
    test: Literal["score", "fisher"] = "score",
) -> Estimate:
    """Difference in proportions, active minus control, with a score or hybrid-score interval.

    Miettinen and Nurminen (1985, doi:10.1002/sim.4780040211): the differences whose score statistic, with variance from
    the restricted maximum likelihood and the factor n / (n - 1), lies within the critical value. Newcombe (1998, method
    10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I): Wilson limits joined. p is the score
    test's or Fisher's exact one; se is the unrestricted one. Raises ClaimError where a count is impossible.

    >>> result = risk_difference(Tally(0, 28, 3, 27), test="fisher")
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper, result.p)]
    [-0.111, -0.282, 0.018, 0.111]
    """
    x1, n1, x0, n0 = _pair_counts(counts)
    p1, p0 = x1 / np.maximum(n1, 1), x0 / np.maximum(n0, 1)
    z = critical(level)
    difference = p1 - p0
    if method == "newcombe":
        one, two = proportion(x1, n1, level=level), proportion(x0, n0, level=level)
        lower = difference - np.hypot(p1 - one.lower, two.upper - p0)
        upper = difference + np.hypot(one.upper - p1, p0 - two.lower)
    elif method == "miettinen-nurminen":
        lower = _root(lambda at: _difference_score((x1, n1, x0, n0), at) - z, -np.ones(x1.shape), difference)
        upper = _root(lambda at: _difference_score((x1, n1, x0, n0), at) + z, difference, np.ones(x1.shape))
    else:
        raise ClaimError(f"The method is '{method}'; choose 'miettinen-nurminen' or 'newcombe'.")
    statistic = _difference_score((x1, n1, x0, n0), np.zeros(x1.shape))
    se = np.sqrt(p1 * (1 - p1) / np.maximum(n1, 1) + p0 * (1 - p0) / np.maximum(n0, 1))
    return _compared(counts, (difference, se, lower, upper, statistic), level, test)


def risk_ratio(counts: Tally, *, level: float = 0.95, test: Literal["score", "fisher"] = "score") -> Estimate:
    """Ratio of proportions, active over control, with Miettinen and Nurminen's score interval (1985).

    The ratios r whose score statistic (p1 - r p0) / se, restricted maximum likelihood under p1 = r p0 and factor
    n / (n - 1), lies within the critical value. With no event in one arm the ratio is 0 or infinite and one limit
    remains; se is that of the log ratio, infinite there. Raises ClaimError where a count is impossible.

    >>> result = risk_ratio(Tally(3, 28, 6, 27))
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper)]
    [0.482, 0.14, 1.601]
    """
    x1, n1, x0, n0 = _pair_counts(counts)
    z = critical(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (x1 / n1) / (x0 / n0)
        se = np.where((x1 > 0) & (x0 > 0), np.sqrt(1 / x1 - 1 / n1 + 1 / x0 - 1 / n0), np.inf)
        middle = np.log(np.where((x1 > 0) & (x0 > 0), ratio, 1.0))
    ends = np.full(x1.shape, 40.0)
    centre = np.where(x1 == 0, -ends, np.where(x0 == 0, ends, middle))
    low = _root(lambda at: _ratio_score((x1, n1, x0, n0), np.exp(at)) - z, -ends, centre)
    high = _root(lambda at: _ratio_score((x1, n1, x0, n0), np.exp(at)) + z, centre, ends)
    lower, upper = np.where(x1 == 0, 0.0, np.exp(low)), np.where(x0 == 0, np.inf, np.exp(high))
    statistic = _ratio_score((x1, n1, x0, n0), np.ones(x1.shape))
    return _compared(counts, (ratio, se, lower, upper, statistic), level, test)


def fisher(counts: Tally) -> np.ndarray:
    """Fisher's exact two-sided p: the total probability of the tables no more likely than the one seen (as R's).

    counts (...); the hypergeometric probabilities of every table are laid out in one array. Raises ClaimError where a
    count is impossible.

    >>> round(float(fisher(Tally(0, 28, 3, 27))), 4)
    0.1115
    """
    x1, n1, x0, n0 = _pair_counts(counts)
    events = x1 + x0
    k = np.arange(int(events.max(initial=0)) + 1)
    events, n1, n0, seen = (value[..., None] for value in (events, n1, n0, x1))
    possible = (k <= np.minimum(n1, events)) & (k >= events - n0)
    spread = np.where(possible, k, np.maximum(events - n0, 0.0))
    log_mass = _log_choose(n1, spread) + _log_choose(n0, events - spread) - _log_choose(n1 + n0, events)
    mass = np.where(possible, np.exp(log_mass), 0.0)
    here = np.sum(np.where(k == seen, mass, 0.0), -1, keepdims=True)
    return np.minimum(np.sum(np.where(mass <= here * (1 + FISHER_TOLERANCE), mass, 0.0), -1), 1.0)


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _counts(events: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, size = np.broadcast_arrays(np.asarray(events, float), np.asarray(n, float))
    if not np.all((x >= 0) & (x <= size) & (x == np.floor(x)) & (size == np.floor(size))):
        raise ClaimError(
            "Counts must be whole, and events between 0 and the number of patients; check which is which: "
            "events first, then patients."
        )
    return x, size


def _pair_counts(counts: Tally) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x1, n1 = _counts(counts.events_active, counts.n_active)
    x0, n0 = _counts(counts.events_control, counts.n_control)
    x1, n1, x0, n0 = np.broadcast_arrays(x1, n1, x0, n0)
    return x1, n1, x0, n0


def _difference_score(
    cells: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], difference: np.ndarray
) -> np.ndarray:
    """Score statistic of a hypothesised difference; the restricted estimate solves Miettinen and Nurminen's cubic."""
    x1, n1, x0, n0 = cells
    total, events = n1 + n0, x1 + x0
    a3 = np.maximum(total, 1.0)
    a2 = (n1 + 2 * n0) * difference - total - events
    a1 = (n0 * difference - total - 2 * x0) * difference + events
    a0 = x0 * difference * (1 - difference)
    q = a2**3 / (3 * a3) ** 3 - a1 * a2 / (6 * a3**2) + a0 / (2 * a3)
    p = np.where(q >= 0, 1.0, -1.0) * np.sqrt(np.maximum(a2**2 / (3 * a3) ** 2 - a1 / (3 * a3), 0.0))
    cosine = np.clip(q / np.where(p == 0, 1.0, p**3), -1.0, 1.0)
    angle = (np.pi + np.arccos(cosine)) / 3
    p0 = np.clip(2 * p * np.cos(angle) - a2 / (3 * a3), 0.0, 1.0)
    p1 = np.clip(p0 + difference, 0.0, 1.0)
    excess = x1 / np.maximum(n1, 1) - x0 / np.maximum(n0, 1) - difference
    return _standardised(excess, p1 * (1 - p1) / np.maximum(n1, 1) + p0 * (1 - p0) / np.maximum(n0, 1), total)


def _ratio_score(cells: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ratio: np.ndarray) -> np.ndarray:
    """Score statistic of a hypothesised ratio; the restricted estimate solves a quadratic."""
    x1, n1, x0, n0 = cells
    a = (n1 + n0) * ratio
    b = -(n1 * ratio + x1 + n0 + x0 * ratio)
    c = x1 + x0
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
    # 2c / (-b + root) is (-b - root) / 2a without cancellation
    p0 = np.clip(2 * c / np.maximum(root - b, 1e-300), 0.0, 1.0)
    p1 = np.clip(p0 * ratio, 0.0, 1.0)
    excess = x1 / np.maximum(n1, 1) - ratio * x0 / np.maximum(n0, 1)
    variance = p1 * (1 - p1) / np.maximum(n1, 1) + ratio**2 * p0 * (1 - p0) / np.maximum(n0, 1)
    return _standardised(excess, variance, n1 + n0)


def _standardised(excess: np.ndarray, variance: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Excess over its standard error with the factor n / (n - 1); 0 / 0 is 0, and anything else over 0 is infinite."""
    variance = variance * total / np.maximum(total - 1, 1.0)
    certain = variance <= 1e-30
    z = excess / np.sqrt(np.where(certain, 1.0, variance))
    return np.where(certain, np.where(np.abs(excess) < 1e-12, 0.0, np.copysign(np.inf, excess)), z)


def _root(falling: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where a falling function crosses zero between low and high, by bisection; the nearer end where it does not."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = falling(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2


def _compared(counts: Tally, numbers: tuple[np.ndarray, ...], level: float, test: str) -> Estimate:
    """The comparison of two proportions with its p-value and cautions."""
    x1, n1, x0, n0 = _pair_counts(counts)
    estimate, se, lower, upper, statistic = numbers
    if test not in ("score", "fisher"):
        raise ClaimError(f"The test is '{test}'; choose 'score' or 'fisher'.")
    p = fisher(counts) if test == "fisher" else two_sided(statistic)
    statistic = np.full(p.shape, np.nan) if test == "fisher" else statistic
    empty, events = (n1 == 0) | (n0 == 0), x1 + x0
    lone = ((x1 == 0) | (x0 == 0)) & (events > 0)
    warnings = np.asarray(counts.warnings) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = (
        warnings | flag(~empty & lone, Caution.ARM_WITHOUT_EVENTS) | flag(~empty & (events == 0), Caution.NO_EVENTS)
    )
    warnings = warnings | flag(~empty & (events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)
    estimate, se, lower, upper, statistic, p = (
        np.where(empty, np.nan, value) for value in (estimate, se, lower, upper, statistic, p)
    )
    n, df = (n1 + n0).astype(int), np.full(p.shape, np.inf)
    return Estimate(estimate, se, lower, upper, statistic, df, p, n, np.broadcast_to(warnings, p.shape), level)

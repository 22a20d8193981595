"""Events per person-time, in the whole follow-up or interval by interval: rates, rate ratios and differences.

A hazard that is constant between cut days is the piecewise exponential model; its maximum-likelihood estimate in each
interval is events / person-time, and arms are compared within intervals, where hazards that cross do not cancel.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.armcounts import Subjects, columns, contrast_arms, missing_caution, over_trials
from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
    two_sided,
)

Interval = Literal["exact", "likelihood", "log"]
INTERVALS = ("exact", "likelihood", "log")


class PersonTime(NamedTuple):
    """Events and person-days of each arm in each interval, (..., arms, intervals), and people ever at risk in it."""

    events: np.ndarray
    days: np.ndarray
    people: np.ndarray
    n: np.ndarray
    warnings: np.ndarray


def person_time(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray | None = None,
    *,
    cuts: Sequence[float] = (),
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
) -> PersonTime:
    """Events and person-days by arm in the intervals (0, cut 1], (cut 1, cut 2], ..., (last cut, end of follow-up].

    An event on a cut day belongs to the interval that ends with it, as in R's survSplit. Raises ClaimError where the cuts
    do not rise from above 0, or as in `armcounts.columns`.

    >>> found = person_time(np.array([3.0, 5.0, 8.0]), np.array([1, 0, 1]), cuts=[5])
    >>> found.events.tolist(), found.days.tolist()
    ([[1, 1]], [[13.0, 3.0]])
    """
    edges = np.asarray([0.0, *cuts, np.inf], float)
    if not (np.diff(edges) > 0).all():
        raise ClaimError(f"The cuts are {list(cuts)}; give days that rise and are all above 0, for example [30, 365].")

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        start = np.zeros(()) if part.entry is None else np.maximum(np.nan_to_num(part.entry), 0.0)
        groups = [part.members(arm) for arm in range(part.arms)]
        events, days, people = [], [], []
        for low, high in itertools.pairwise(edges):
            within = (part.time <= high) & ((part.time > low) | (low == 0)) & (part.kind > 0)
            stay = np.clip(np.minimum(part.time, high) - np.maximum(start, low), 0.0, None)
            events.append(np.stack([(within & who).sum(-1) for who in groups], -1))
            days.append(np.stack([np.where(who, stay, 0.0).sum(-1) for who in groups], -1))
            people.append(np.stack([(who & (stay > 0)).sum(-1) for who in groups], -1))
        n = np.stack([who.sum(-1) for who in groups], -1)
        return (*(np.stack(parts, -1) for parts in (events, days, people)), n, missing_caution(part))

    return PersonTime(*over_trials(evaluate, columns(time, event, arm, include=include, entry=entry)))


def rate(
    time: np.ndarray,
    event: np.ndarray,
    *,
    cuts: Sequence[float] = (),
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    per: float = 1.0,
    level: float = 0.95,
    interval: Interval = "exact",
) -> Estimate:
    """Events per `per` person-days in each interval, fields (..., intervals); see `person_time` for the cuts.

    Limits: exact (Garwood 1936), likelihood (where twice the log-likelihood falls by the chi-square quantile), or log
    (rate exp(± z / sqrt(events))). se is that of the rate, sqrt(events) / person-time. Raises ClaimError where the
    interval has another name, or as in `person_time`.

    >>> found = rate(np.array([3.0, 5.0, 8.0]), np.array([1, 0, 1]), per=100)
    >>> found.estimate.round(2).tolist(), found.lower.round(2).tolist(), found.upper.round(2).tolist()
    ([12.5], [1.51], [45.15])
    """
    counted = person_time(time, event, cuts=cuts, include=include, entry=entry)
    events, days = counted.events[..., 0, :], counted.days[..., 0, :]
    lower, upper = _count_limits(events, level, interval)
    known = days > 0
    safe = np.where(known, days, 1.0) / per
    none = np.full(np.shape(safe), np.nan)
    fields = (events / safe, np.where(events > 0, np.sqrt(events) / safe, np.nan), lower / safe, upper / safe)
    value, se, lower, upper = (np.where(known, field, np.nan) for field in fields)
    warnings = counted.warnings[..., None] | flag(~known, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(known & (events == 0), Caution.NO_EVENTS)
    return Estimate(value, se, lower, upper, none, none, none, counted.people[..., 0, :], warnings, level)


def rate_ratio(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    cuts: Sequence[float] = (),
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "exact",
) -> Estimate:
    """Ratio of event rates (piecewise hazards), active over control, in each interval: fields (..., intervals).

    exact: given all events, those of the active arm are binomial (Przyborowski and Wilenski 1940), with Clopper and
    Pearson's limits and the p of R's poisson.test. likelihood: limits and p of the likelihood ratio. log: Wald on the log
    ratio, se = sqrt(1 / events + 1 / events), the piecewise exponential regression's. se is that of the log ratio, without a
    value where an arm has no event. Raises ClaimError as in `person_time`, or where the interval has another name.

    >>> time, event = np.array([2.0, 4.0, 9.0, 3.0, 9.0, 9.0]), np.array([1, 1, 0, 1, 0, 0])
    >>> found = rate_ratio(time, event, np.array([0, 0, 0, 1, 1, 1]))
    >>> found.estimate.round(4).tolist(), found.p.round(3).tolist()
    ([0.3571], [0.575])
    """
    _check(interval)
    counted = person_time(time, event, contrast_arms(arm, contrast), cuts=cuts, include=include, entry=entry)
    (d0, d1), (t0, t1) = (np.moveaxis(field, -2, 0) for field in (counted.events, counted.days))
    observed = (t0 > 0) & (t1 > 0)
    both = (d0 > 0) & (d1 > 0) & observed
    scale = np.where(observed, t0, 1.0) / np.where(observed, t1, 1.0)
    with np.errstate(divide="ignore"):
        ratio = np.where(d0 > 0, d1 / np.maximum(d0, 1), np.where(d1 > 0, np.inf, np.nan)) * scale
    se = np.where(both, np.sqrt(1 / np.maximum(d1, 1) + 1 / np.maximum(d0, 1)), np.nan)
    if interval == "log":
        log_ratio = np.log(np.where(both, ratio, 1.0))
        wald = exponentiate(normal_estimate(log_ratio, se, 0, 0, level))
        lower, upper, statistic, p = wald.lower, wald.upper, wald.statistic, wald.p
    else:
        limits = _shares(d1, d0, level) if interval == "exact" else _likelihood_shares(d1, d0, level)
        with np.errstate(divide="ignore"):
            lower, upper = (np.where(one < 1, one / (1 - np.where(one < 1, one, 0)), np.inf) * scale for one in limits)
        share = np.where(observed, t1, 1.0) / np.where(observed, t0 + t1, 2.0)
        statistic = _signed_root(d1, d0, share) if interval == "likelihood" else np.full(np.shape(ratio), np.nan)
        p = two_sided(statistic) if interval == "likelihood" else _binomial_p(d1, d1 + d0, share)
    known = [np.where(observed, field, np.nan) for field in (ratio, se, lower, upper, statistic)]
    p = np.where(observed, np.where(d0 + d1 == 0, 1.0, p), np.nan)
    warnings = counted.warnings[..., None] | _ratio_cautions(d0, d1, observed)
    df = np.full(np.shape(p), np.inf if interval != "exact" else np.nan)
    return Estimate(known[0], known[1], known[2], known[3], known[4], df, p, counted.people.sum(-2), warnings, level)


def rate_difference(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    cuts: Sequence[float] = (),
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    per: float = 1.0,
    level: float = 0.95,
) -> Estimate:
    """Difference in event rates, active minus control, per `per` person-days, in each interval: fields (..., intervals).

    se = sqrt(sum over arms of events / person-time²), with Wald's interval and z test. Raises ClaimError as in `person_time`.

    >>> time, event = np.array([2.0, 4.0, 9.0, 3.0, 9.0, 9.0]), np.array([1, 1, 0, 1, 0, 0])
    >>> rate_difference(time, event, np.array([0, 0, 0, 1, 1, 1]), per=100).estimate.round(3).tolist()
    [-8.571]
    """
    counted = person_time(time, event, contrast_arms(arm, contrast), cuts=cuts, include=include)
    (d0, d1), (t0, t1) = (np.moveaxis(field, -2, 0) for field in (counted.events, counted.days / per))
    observed = (t0 > 0) & (t1 > 0)
    t0, t1 = np.where(observed, t0, 1.0), np.where(observed, t1, 1.0)
    variance = d0 / t0**2 + d1 / t1**2
    known = observed & (variance > 0)
    se = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)
    difference = np.where(observed, d1 / t1 - d0 / t0, np.nan)
    warnings = counted.warnings[..., None] | _ratio_cautions(d0, d1, observed)
    return normal_estimate(difference, se, counted.people.sum(-2), warnings, level)


def _check(interval: str) -> None:
    if interval not in INTERVALS:
        raise ClaimError(f"The interval is '{interval}'; choose 'exact', 'likelihood' or 'log'.")


def _ratio_cautions(d0: np.ndarray, d1: np.ndarray, observed: np.ndarray) -> np.ndarray:
    total = d0 + d1
    warnings = flag(~observed, Caution.NOT_ESTIMABLE) | flag(observed & (total == 0), Caution.NO_EVENTS)
    lone = observed & (total > 0) & ((d0 == 0) | (d1 == 0))
    return warnings | flag(lone, Caution.ARM_WITHOUT_EVENTS) | flag(observed & (total < FEW_EVENTS), Caution.FEW_EVENTS)


def _count_limits(events: np.ndarray, level: float, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Limits of a Poisson mean of which this count was seen."""
    _check(interval)
    some, tail = events > 0, special.ndtr(-critical(level))
    d = np.where(some, events, 1)
    if interval == "exact":
        lower, upper = special.gammaincinv(d, tail), special.gammaincinv(events + 1.0, 1 - tail)
        return np.where(some, lower, 0.0), upper
    if interval == "log":
        factor = np.exp(critical(level) / np.sqrt(d))
        return np.where(some, d / factor, 0.0), np.where(some, d * factor, np.inf)
    # x - d log x rises by half the chi-square quantile from its least, d - d log d: Lambert's W solves it
    half = critical(level) ** 2 / 2
    argument = -np.exp(-1 - half / d)
    lower, upper = (-d * special.lambertw(argument, branch).real for branch in (0, -1))
    return np.where(some, lower, 0.0), np.where(some, upper, half)


def _shares(d1: np.ndarray, d0: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper and Pearson's limits of the active arm's share of the events."""
    tail = special.ndtr(-critical(level))
    lower = np.where(d1 > 0, special.betaincinv(np.maximum(d1, 1), d0 + 1.0, tail), 0.0)
    upper = np.where(d0 > 0, special.betaincinv(d1 + 1.0, np.maximum(d0, 1), 1 - tail), 1.0)
    return lower, upper


def _deviance(d1: np.ndarray, d0: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Twice the fall of the log-likelihood from the observed share of events to this one."""
    total = d1 + d0
    expected1, expected0 = np.maximum(total * share, 1e-300), np.maximum(total * (1 - share), 1e-300)
    return 2 * (special.xlogy(d1, d1 / expected1) + special.xlogy(d0, d0 / expected0))


def _likelihood_shares(d1: np.ndarray, d0: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the deviance reaches the chi-square quantile on either side of the observed share, by bisection."""
    target, best = critical(level) ** 2, d1 / np.maximum(d1 + d0, 1)
    limits = []
    for edge in (0.0, 1.0):
        near, far = best.astype(float), np.full(np.shape(best), edge)
        for _ in range(80):
            middle = (near + far) / 2
            inside = _deviance(d1, d0, middle) < target
            near, far = np.where(inside, middle, near), np.where(inside, far, middle)
        limits.append(np.where(d1 + d0 == 0, edge, near))
    lower, upper = limits
    return np.where(d1 == 0, 0.0, lower), np.where(d0 == 0, 1.0, upper)


def _signed_root(d1: np.ndarray, d0: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Signed root of the deviance at equal rates, where the active arm's share is its share of person-time."""
    return np.sign(d1 - (d1 + d0) * share) * np.sqrt(np.maximum(_deviance(d1, d0, share), 0.0))


def _binomial_p(x: np.ndarray, n: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Two-sided binomial p as R's binom.test: the probability of all counts no likelier than x, up to rounding (1e-7)."""
    seen = _log_binomial(x, n, share) + np.log1p(1e-7)
    below = x < n * share
    # beyond the mean probabilities fall away: bisect for the nearest count on the other side that is as unlikely as x
    low = np.where(below, np.ceil(n * share) - 1, -1)
    high = np.where(below, n + 1, np.floor(n * share) + 1)
    for _ in range(int(np.ceil(np.log2(float(np.max(n, initial=1)) + 3)))):
        middle = np.clip(np.floor((low + high) / 2), 0, n)
        fits = (_log_binomial(middle, n, share) <= seen) == below
        moved = high - low > 1
        low, high = np.where(moved & ~fits, middle, low), np.where(moved & fits, middle, high)
    lower_to, upper_from = np.where(below, x, low), np.where(below, high, x)
    n = np.asarray(n, np.int64)
    lower_tail = np.where(lower_to < 0, 0.0, special.bdtr(np.maximum(lower_to, 0), n, share))
    upper_tail = np.where(upper_from > n, 0.0, special.bdtrc(np.clip(upper_from - 1, 0, n), n, share))
    upper_tail = np.where(upper_from <= 0, 1.0, upper_tail)
    return np.where(x == n * share, 1.0, np.minimum(lower_tail + upper_tail, 1.0))


def _log_binomial(x: np.ndarray, n: np.ndarray, share: np.ndarray) -> np.ndarray:
    choose = special.gammaln(n + 1.0) - special.gammaln(x + 1.0) - special.gammaln(n - x + 1.0)
    return choose + special.xlogy(x, share) + special.xlog1py(n - x, -share)

"""Time to a first event, one arm at a time: Kaplan-Meier curves, survival at a day, quantiles, cumulative hazards.

Every function takes arrays shaped (..., n) with ... any batch of trials; `armcounts` counts who is at risk when. What
compares arms has rooms of its own (`logrank`, `milestone`, `restricted_mean`) and is found under this name too.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.armcounts import ArmCounts, Columns, Subjects, columns, count, missing_caution, over_trials
from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag
from quell.analysis.logrank import LogRank, logrank, one_step_ratio
from quell.analysis.milestone import landmark, milestone, point, survival_ratio
from quell.analysis.product_limit import Interval, at_exhaustion, product_limit, survival_limits
from quell.analysis.restricted_mean import restricted_mean, restricted_mean_difference, restricted_mean_ratio

__all__ = [
    "CumulativeHazard",
    "Curve",
    "LogRank",
    "cumulative_hazard",
    "kaplan_meier",
    "landmark",
    "logrank",
    "median",
    "milestone",
    "one_step_ratio",
    "quantile",
    "restricted_mean",
    "restricted_mean_difference",
    "restricted_mean_ratio",
    "survival_at",
    "survival_ratio",
]

# Survival this near the level asked for is at it: R's quantile.survfit allows the same.
TOLERANCE = float(np.sqrt(np.finfo(float).eps))


class Curve(NamedTuple):
    """A Kaplan-Meier curve for each trial of a batch; every field is (..., m) over distinct times, unused ones infinite.

    `variance` is Greenwood's, `at_risk` counts subjects at risk at the time, `events` and `censored` those leaving at it.
    """

    times: np.ndarray
    survival: np.ndarray
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    censored: np.ndarray


class CumulativeHazard(NamedTuple):
    """A cumulative hazard for each trial of a batch; every field is (..., m) over distinct times, unused ones infinite."""

    times: np.ndarray
    hazard: np.ndarray
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray


def kaplan_meier(
    time: np.ndarray,
    event: np.ndarray,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log",
) -> Curve:
    """Kaplan-Meier survival, S(t) = product over t_j <= t of (1 - d_j / Y_j), with Greenwood's variance.

    `interval` is on the log (R's default), log-log, plain, logit or arcsine scale. Where no event has happened yet those
    have no width; the limit is then exact for the Y still at risk, lower = ((1 - level) / 2)^(1/Y) (Clopper and Pearson),
    likewise the upper limit once survival is 0. Arguments, and what is raised, are as in `armcounts.columns`.

    >>> curve = kaplan_meier(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]))
    >>> curve.survival.round(3).tolist()
    [0.75, 0.5, 0.0]
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts, at_risk, events = _one_arm(part, every_time=True)
        assert counts.censored is not None
        survival, relative = product_limit(at_risk, events)
        exhausted = at_exhaustion(survival, at_risk)
        lower, upper = survival_limits(survival, relative, at_risk, exhausted, critical(level), interval)
        whole = (at_risk.astype(float), events.astype(float), counts.censored[0, :, 0].astype(float))
        return (counts.times[:, 0], survival, survival**2 * relative, lower, upper, *whole)

    return Curve(*over_trials(evaluate, columns(time, event, include=include, entry=entry), at_once=True))


def cumulative_hazard(
    time: np.ndarray,
    event: np.ndarray,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    ties: Literal["nelson-aalen", "fleming-harrington"] = "nelson-aalen",
    interval: Literal["log", "plain"] = "log",
) -> CumulativeHazard:
    """Cumulative hazard H(t): sum of d / Y with variance sum of d / Y^2 (Nelson 1972; Aalen 1978), as R's survfit(ctype = 1).

    `fleming-harrington` (1984; ctype = 2) lets tied events happen one after another: sum over i < d of 1 / (Y - i),
    variance of 1 / (Y - i)^2. Limits are H exp(± z se / H), or plain, H ± z se, not below 0. Arguments, and what is raised,
    are as in `armcounts.columns`.

    >>> found = cumulative_hazard(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]))
    >>> found.hazard.round(4).tolist()
    [0.25, 0.5833, 1.5833]
    """
    if ties not in ("nelson-aalen", "fleming-harrington") or interval not in ("log", "plain"):
        raise ClaimError(
            f"Ties are '{ties}' and the interval is '{interval}'; choose 'nelson-aalen' or 'fleming-harrington', and "
            "'log' or 'plain'."
        )

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts, at_risk, events = _one_arm(part, every_time=True)
        someone = np.maximum(at_risk, 1.0)
        if ties == "nelson-aalen":
            step, spread = events / someone, events / someone**2
        else:
            last = someone - events + 1
            step = special.digamma(someone + 1) - special.digamma(last)
            spread = special.polygamma(1, last) - special.polygamma(1, someone + 1)
        hazard, variance = np.cumsum(step, -1), np.cumsum(spread, -1)
        half = critical(level) * np.sqrt(variance)
        if interval == "plain":
            lower, upper = np.maximum(hazard - half, 0.0), hazard + half
        else:
            factor = np.exp(half / np.where(hazard > 0, hazard, 1.0))
            lower, upper = hazard / factor, hazard * factor
        whole = (at_risk.astype(float), events.astype(float))
        return (counts.times[:, 0], hazard, variance, lower, upper, *whole)

    return CumulativeHazard(*over_trials(evaluate, columns(time, event, include=include, entry=entry), at_once=True))


def survival_at(
    time: np.ndarray,
    event: np.ndarray,
    day: float,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log-log",
) -> Estimate:
    """Kaplan-Meier survival at one day, with its interval (as in `kaplan_meier`); se is Greenwood's.

    Arguments, and what is raised, are as in `armcounts.columns`. Past the last follow-up the curve is carried forward and
    a caution says so.

    >>> result = survival_at(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]), 6)
    >>> round(float(result.estimate), 3), round(float(result.lower), 3)
    (0.5, 0.058)
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        (found,) = point(part, day)
        lower, upper = found.limits(critical(level), interval)
        empty = found.n == 0
        values = (found.survival, found.survival * np.sqrt(found.relative), lower, upper)
        warnings = found.warnings | missing_caution(part) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
        warnings = warnings | flag(~empty & (found.events == 0), Caution.NO_EVENTS)
        return (*(np.where(empty, np.nan, value) for value in values), found.n, warnings)

    survival, se, lower, upper, n, warnings = over_trials(evaluate, columns(time, event, include=include, entry=entry))
    none = np.full(np.shape(survival), np.nan)
    return Estimate(survival, se, lower, upper, none, none, none, n, warnings, level)


def quantile(
    time: np.ndarray,
    event: np.ndarray,
    probability: float = 0.5,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log",
) -> Estimate:
    """The time by which this share of patients has had the event, where 1 - S(t) reaches it, as R's quantile.survfit.

    The limits are where the curve's limits do (Brookmeyer and Crowley 1982, doi:10.2307/2530286). A curve flat at the
    level gives the middle of the flat stretch, which may end with the last follow-up; what never gets there gives
    infinity and a caution. Raises ClaimError where the probability is not between 0 and 1; other arguments are as in
    `armcounts.columns`.

    >>> float(quantile(np.array([3.0, 5.0, 6.0, 8.0, 9.0]), np.array([1, 1, 1, 1, 1]), 0.25).estimate)
    5.0
    """
    if not 0 < probability < 1:
        raise ClaimError(
            f"The probability is {probability}; it must lie between 0 and 1, for example 0.5 for the median."
        )
    return _quantile(
        columns(time, event, include=include, entry=entry), 1 - probability, level, interval, to_the_end=True
    )


def median(
    time: np.ndarray,
    event: np.ndarray,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log",
) -> Estimate:
    """Median survival time, where the curve and its limits (Brookmeyer and Crowley 1982) cross one half.

    As R's survfit prints it: a curve flat at one half gives the middle of the flat stretch, but one that stays there to
    the end of follow-up gives its beginning; a curve or limit that never crosses gives infinity and a caution. Arguments,
    and what is raised, are as in `armcounts.columns`.

    >>> float(median(np.array([3.0, 5.0, 6.0, 8.0, 9.0]), np.array([1, 1, 1, 1, 1])).estimate)
    6.0
    """
    return _quantile(columns(time, event, include=include, entry=entry), 0.5, level, interval, to_the_end=False)


def _quantile(given: Columns, height: float, level: float, interval: Interval, *, to_the_end: bool) -> Estimate:
    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts, at_risk, events = _one_arm(part)
        survival, relative = product_limit(at_risk, events)
        exhausted = at_exhaustion(survival, at_risk)
        limits = survival_limits(survival, relative, at_risk, exhausted, critical(level), interval)
        end = part.last_day()[0] if to_the_end else None
        values = [_crossing(counts.times[:, 0], curve, height, end) for curve in (survival, *limits)]
        n = counts.n[0]
        reached = flag(np.isinf(values).any(0), Caution.NOT_REACHED) | flag(n == 0, Caution.EMPTY_ARM)
        return (*values, n, missing_caution(part) | reached)

    estimate, lower, upper, n, warnings = over_trials(evaluate, given)
    none = np.full(np.shape(estimate), np.nan)
    return Estimate(estimate, none, lower, upper, none, none, none, n, warnings, level)


def _one_arm(part: Subjects, *, every_time: bool = False) -> tuple[ArmCounts, np.ndarray, np.ndarray]:
    """The counts of a part without arms or strata, and at risk and events on its rungs (b, M)."""
    counts = count(part, every_time=every_time)
    return counts, counts.at_risk[0, :, 0], counts.events[0, 0, :, 0]


def _crossing(times: np.ndarray, curve: np.ndarray, height: float, end: np.ndarray | None) -> np.ndarray:
    """First time a falling curve is at or below a height; the middle of the stretch where it stays at that height.

    A stretch that never ends gives its beginning, or its middle up to the `end` of follow-up where that is given.
    """
    valid = np.isfinite(times)
    reached, passed = valid & (curve <= height + TOLERANCE), valid & (curve < height - TOLERANCE)
    first = np.where(reached, times, np.inf).min(-1, initial=np.inf)
    beyond = np.where(passed, times, np.inf).min(-1, initial=np.inf)
    if end is not None:
        beyond = np.minimum(
            beyond, np.where(np.isfinite(first), np.maximum(end, np.nan_to_num(first, posinf=0.0)), np.inf)
        )
    flat = (first < beyond) & np.isfinite(beyond)
    return np.where(flat, (first + np.where(flat, beyond, 0.0)) / 2, first)

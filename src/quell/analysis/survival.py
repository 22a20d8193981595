"""Time to a first event: Kaplan-Meier curves, risk at a day, medians, restricted means, log-rank tests.

Every function takes arrays shaped (..., n) with ... any batch of trials; `risksets` counts who is at risk when.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
)
from quell.analysis.risksets import risk_sets

Interval = Literal["log-log", "log", "plain"]


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


class LogRank(NamedTuple):
    """A k-sample log-rank test for each trial of a batch: observed and expected are (..., k), covariance (..., k, k)."""

    chi_square: np.ndarray
    df: np.ndarray
    p: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, level: float = 0.95) -> Estimate:
        """The test as an estimate without a size: statistic, df, p and n."""
        none = np.full(np.shape(self.p), np.nan)
        return Estimate(none, none, none, none, self.chi_square, self.df, self.p, self.n, self.warnings, level)


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

    `interval` is on the log (R's default), log-log or plain scale. Where no event has happened yet those have no width;
    the limit is then exact for the Y still at risk, lower = ((1 - level) / 2)^(1/Y) (Clopper and Pearson), likewise the
    upper limit once survival is 0. Arguments, and what is raised, are as in `risk_sets`.

    >>> curve = kaplan_meier(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]))
    >>> curve.survival.round(3).tolist()
    [0.75, 0.5, 0.0]
    """
    sets = risk_sets(time, event, include=include, entry=entry, every_time=True)
    at_risk, events = sets.at_risk(np.ones(1))[:, 0], sets.at_event(np.ones(1))[:, 0]
    censored = sets.at_event(np.ones(1), sets.kept & ~sets.event)[:, 0]
    survival, relative = _product_limit(at_risk, events)
    lower, upper = _limits(survival, relative, at_risk, _at_exhaustion(survival, at_risk), critical(level), interval)
    fields = (sets.times[:, 0], survival, survival**2 * relative, lower, upper, at_risk, events, censored)
    return Curve(*(field.reshape(*sets.batch, -1) for field in fields))


def survival_at(
    time: np.ndarray,
    event: np.ndarray,
    day: float,
    *,
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log-log",
) -> Estimate:
    """Kaplan-Meier survival at one day, with its interval (as in `kaplan_meier`); se is Greenwood's.

    Arguments, and what is raised, are as in `risk_sets`. Past the last follow-up the curve is carried forward and a
    caution says so.

    >>> result = survival_at(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]), 6)
    >>> round(float(result.estimate), 3), round(float(result.lower), 3)
    (0.5, 0.058)
    """
    point = _point(time, event, day, include)
    lower, upper = point.limits(critical(level), interval)
    none = np.full(np.shape(point.survival), np.nan)
    se = np.where(point.n > 0, point.survival * np.sqrt(point.relative), np.nan)
    empty = point.n == 0
    lower, upper, survival = (np.where(empty, np.nan, value) for value in (lower, upper, point.survival))
    warnings = point.warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(~empty & (point.events == 0), Caution.NO_EVENTS)
    return Estimate(survival, se, lower, upper, none, none, none, point.n, warnings, level)


def landmark(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    day: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log-log",
) -> Estimate:
    """Difference in Kaplan-Meier risk (1 - S) at a day, active minus control.

    The interval joins the two arms' own intervals (method of variance estimates recovery; Zou and Donner 2008,
    doi:10.1002/sim.3095), so that an arm without events is handled honestly; `plain` is Wald's with Greenwood
    variances. p is the level at which the interval just touches zero, and statistic its normal equivalent.
    time, event, arm and include (..., n). Raises ClaimError where shapes do not match.

    >>> time, event = np.array([3.0, 5.0, 9.0, 9.0, 2.0, 9.0, 9.0, 9.0]), np.array([1, 1, 0, 0, 1, 0, 0, 0])
    >>> result = landmark(time, event, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 8)
    >>> round(float(result.estimate), 3)
    -0.25
    """
    active, control = (_point(time, event, day, _members(arm, include, code)) for code in contrast)
    difference = control.survival - active.survival
    empty = (active.n == 0) | (control.n == 0)
    none = (active.events + control.events == 0) & ~empty
    one = ((active.events == 0) | (control.events == 0)) & ~none & ~empty
    warnings = active.warnings | control.warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(none, Caution.NO_EVENTS) | flag(one, Caution.ARM_WITHOUT_EVENTS)
    warnings = warnings | flag((active.events + control.events < FEW_EVENTS) & ~empty, Caution.FEW_EVENTS)
    se = np.sqrt(active.survival**2 * active.relative + control.survival**2 * control.relative)
    se = np.where(empty | (se == 0), np.nan, se)
    difference = np.where(empty, np.nan, difference)
    n = active.n + control.n
    lower, upper = _joined_limits(active, control, critical(level), interval)
    touching = _touching(active, control, interval)
    p = np.where(empty, np.nan, np.minimum(2 * special.ndtr(-touching), 1.0))
    lower, upper = np.where(empty, np.nan, lower), np.where(empty, np.nan, upper)
    df = np.full(np.shape(p), np.inf)
    return Estimate(difference, se, lower, upper, np.sign(difference) * touching, df, p, n, warnings, level)


def median(
    time: np.ndarray,
    event: np.ndarray,
    *,
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log",
) -> Estimate:
    """Median survival time, where the curve and its limits (Brookmeyer and Crowley 1982) cross one half.

    A curve flat at one half gives the middle of the flat stretch, as R's survfit does; a curve or limit that never
    crosses gives infinity and a caution. Arguments, and what is raised, are as in `risk_sets`.

    >>> float(median(np.array([3.0, 5.0, 6.0, 8.0, 9.0]), np.array([1, 1, 1, 1, 1])).estimate)
    6.0
    """
    sets = risk_sets(time, event, include=include)
    at_risk, events = sets.at_risk(np.ones(1))[:, 0], sets.at_event(np.ones(1))[:, 0]
    survival, relative = _product_limit(at_risk, events)
    lower, upper = _limits(survival, relative, at_risk, _at_exhaustion(survival, at_risk), critical(level), interval)
    values = [_crossing(sets.times[:, 0], curve).reshape(sets.batch) for curve in (survival, lower, upper)]
    n = sets.kept.sum(-1).reshape(sets.batch)
    none = np.full(sets.batch, np.nan)
    reached = flag(np.isinf(values).any(0), Caution.NOT_REACHED) | flag(n == 0, Caution.EMPTY_ARM)
    return Estimate(values[0], none, values[1], values[2], none, none, none, n, sets.warnings | reached, level)


def restricted_mean(
    time: np.ndarray, event: np.ndarray, until: float, *, include: np.ndarray | None = None, level: float = 0.95
) -> Estimate:
    """Restricted mean survival time, the area under the Kaplan-Meier curve from 0 to `until` (days).

    Variance: sum over events of (area from t_j to until)² d_j / (Y_j (Y_j - d_j)) (Klein and Moeschberger 2003, 4.5),
    as R's survfit prints. Arguments, and what is raised, are as in `risk_sets`.

    >>> round(float(restricted_mean(np.array([2.0, 4.0, 9.0]), np.array([1, 1, 0]), 6).estimate), 3)
    4.0
    """
    sets = risk_sets(time, event, include=include)
    at_risk, events = sets.at_risk(np.ones(1))[:, 0], sets.at_event(np.ones(1))[:, 0]
    survival, _ = _product_limit(at_risk, events)
    edges = np.minimum(sets.times[:, 0], until)
    start = np.zeros((len(edges), 1))
    widths = np.diff(np.concatenate([start, edges, start + until], -1), axis=-1)
    areas = widths * np.concatenate([start + 1, survival], -1)
    ahead = np.cumsum(areas[:, ::-1], -1)[:, ::-1][:, 1:]
    left = at_risk - events
    variance = np.sum(np.where(left > 0, ahead**2 * events / np.where(left > 0, at_risk * left, 1.0), 0.0), -1)
    n = sets.kept.sum(-1)
    observed = np.where(sets.kept, sets.time, 0.0).max(-1, initial=0.0)
    flat, empty = (n > 0) & (variance == 0), n == 0
    warnings = flag((observed < until) & (survival.min(-1, initial=1.0) > 0) & ~empty, Caution.BEYOND_FOLLOW_UP)
    warnings = warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | np.where(flat, np.where(events.any(-1), Caution.CONSTANT_OUTCOME, Caution.NO_EVENTS), 0)
    mean = np.where(empty, np.nan, areas.sum(-1))
    se = np.where(empty | flat, np.nan, np.sqrt(variance))
    mean, se, n, warnings = (np.reshape(value, sets.batch) for value in (mean, se, n, warnings))
    result = normal_estimate(mean, se, n, sets.warnings | warnings, level)
    none = np.full(sets.batch, np.nan)
    return result._replace(statistic=none, df=none, p=none)


def restricted_mean_difference(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    until: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Difference in restricted mean survival time to `until` (days), active minus control, with a z test.

    Each arm is `restricted_mean`; the arms are independent (Royston and Parmar 2013, doi:10.1186/1471-2288-13-152).

    >>> time, event = np.array([2.0, 4.0, 9.0, 3.0, 9.0, 9.0]), np.array([1, 1, 0, 1, 0, 0])
    >>> round(float(restricted_mean_difference(time, event, np.array([0, 0, 0, 1, 1, 1]), 6).estimate), 3)
    1.0
    """
    active, control = (restricted_mean(time, event, until, include=_members(arm, include, code)) for code in contrast)
    # an arm without events has no measurable spread; the other arm's alone is the (too small) error, and a caution says so
    parts = np.stack([active.se, control.se])
    se = np.where(np.isnan(parts).all(0), np.nan, np.sqrt(np.nansum(parts**2, 0)))
    without = (active.warnings ^ control.warnings) & Caution.NO_EVENTS
    warnings = (active.warnings | control.warnings) & ~np.where(without > 0, int(Caution.NO_EVENTS), 0)
    warnings = warnings | flag(without > 0, Caution.ARM_WITHOUT_EVENTS)
    difference = active.estimate - control.estimate
    se = np.where(np.isnan(difference), np.nan, se)
    return normal_estimate(difference, se, active.n + control.n, warnings, level)


def logrank(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    rho: float = 0.0,
    gamma: float = 0.0,
) -> LogRank:
    """Log-rank test of k arms, weighted S(t-)^rho (1 - S(t-))^gamma (Fleming and Harrington 1991), stratified if asked.

    chi-square = U' V^- U with U = observed - expected and V hypergeometric, on (arms with anyone at risk) - 1 degrees of
    freedom; rho = 1 is the Peto-Peto test, as in R's survdiff. Without any event the statistic is 0 and p is 1. arm
    (..., n) whole codes from 0, a negative code is no arm; the rest, and what is raised, as in `risk_sets`.

    >>> test = logrank(np.array([3.0, 5.0, 6.0, 8.0]), np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1]))
    >>> round(float(test.chi_square), 3), int(test.df)
    (2.882, 1)
    """
    arm = np.where(np.isfinite(arm), arm, -1).astype(int)
    include = (arm >= 0) if include is None else np.asarray(include, bool) & (arm >= 0)
    sets = risk_sets(time, event, include=include, entry=entry, strata=strata)
    code = np.broadcast_to(arm, (*sets.batch, sets.kept.shape[-1])).reshape(sets.kept.shape)
    member = [(code == k) & sets.kept for k in range(max(int(code.max(initial=0)), 1) + 1)]
    at_risk = np.stack([sets.at_risk(who) for who in member], -1)
    events = np.stack([sets.at_event(who) for who in member], -1)
    observed, expected, covariance = _log_rank_sums(at_risk, events, rho, gamma)
    chi_square, df = _quadratic_form(observed - expected, covariance)
    total = sets.event.sum(-1)
    present = sum(who.any(-1).astype(int) for who in member)
    warnings = flag(present < 2, Caution.EMPTY_ARM) | flag((total == 0) & (present > 1), Caution.NO_EVENTS)
    warnings = warnings | flag((total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)
    lone = np.any([who.any(-1) & ~(who & sets.event).any(-1) for who in member], 0) & (total > 0)
    warnings = warnings | flag(lone, Caution.ARM_WITHOUT_EVENTS) | flag((df == 0) & (total > 0), Caution.NOT_ESTIMABLE)
    p = np.where(df > 0, special.chdtrc(np.maximum(df, 1), chi_square), np.where(total == 0, 1.0, np.nan))
    p, chi_square = np.where(present < 2, np.nan, p), np.where(present < 2, np.nan, chi_square)
    fields = (chi_square, df, p, observed, expected, covariance, sets.kept.sum(-1), warnings | sets.warnings.ravel())
    return LogRank(*(field.reshape((*sets.batch, *field.shape[1:])) for field in fields))


def one_step_ratio(test: LogRank, level: float = 0.95) -> Estimate:
    """One-step (Peto) hazard ratio of a two-arm log-rank test, arm 1 over arm 0: log ratio = (O - E) / V, se 1 / sqrt(V).

    Its z is the log-rank Z. Close to the Cox estimate near no effect only (Yusuf et al. 1985,
    doi:10.1016/S0033-0620(85)80003-7). Raises ClaimError where the test has more than two arms.

    >>> test = logrank(np.array([3.0, 5.0, 6.0, 8.0]), np.array([1, 1, 1, 1]), np.array([0, 1, 0, 1]))
    >>> round(float(one_step_ratio(test).estimate), 3)
    0.397
    """
    if test.observed.shape[-1] != 2:
        raise ClaimError(f"A one-step hazard ratio compares two arms; this test has {test.observed.shape[-1]}.")
    excess, variance = (test.observed - test.expected)[..., 1], test.covariance[..., 1, 1]
    known = variance > 0
    se = np.where(known, 1 / np.sqrt(np.where(known, variance, 1.0)), np.nan)
    log_ratio = np.where(known, excess / np.where(known, variance, 1.0), np.nan)
    warnings = test.warnings | flag(~known, Caution.NOT_ESTIMABLE)
    return exponentiate(normal_estimate(log_ratio, se, test.n, warnings, level))


class Point(NamedTuple):
    """One arm's Kaplan-Meier curve at one day: survival, relative Greenwood variance, and what exact limits need."""

    survival: np.ndarray
    relative: np.ndarray
    still_at_risk: np.ndarray
    at_exhaustion: np.ndarray
    events: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def limits(self, z: np.ndarray, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
        return _limits(self.survival, self.relative, self.still_at_risk, self.at_exhaustion, z, interval)


def _product_limit(at_risk: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier survival on each rung and Greenwood's variance of its logarithm (0 once survival is 0)."""
    left = at_risk - events
    survival = np.cumprod(np.where(at_risk > 0, left / np.where(at_risk > 0, at_risk, 1.0), 1.0), -1)
    relative = np.cumsum(np.where(left > 0, events / np.where(left > 0, at_risk * left, 1.0), 0.0), -1)
    return survival, np.where(survival > 0, relative, 0.0)


def _at_exhaustion(survival: np.ndarray, at_risk: np.ndarray) -> np.ndarray:
    """How many were at risk when survival first became 0 (1 where it never did), kept on the last axis."""
    return np.maximum(np.where(survival > 0, 0.0, at_risk).max(-1, keepdims=True, initial=0.0), 1.0)


def _limits(
    survival: np.ndarray,
    relative: np.ndarray,
    still_at_risk: np.ndarray,
    at_exhaustion: np.ndarray,
    z: np.ndarray,
    interval: Interval,
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of survival; exact (Clopper-Pearson for those at risk) where survival is still 1, or already 0."""
    spread = z * np.sqrt(relative)
    inner = np.where((survival > 0) & (survival < 1), survival, 0.5)
    if interval == "log":
        lower, upper = inner * np.exp(-spread), inner * np.exp(spread)
    elif interval == "log-log":
        lower, upper = inner ** np.exp(-spread / np.log(inner)), inner ** np.exp(spread / np.log(inner))
    elif interval == "plain":
        lower, upper = inner * (1 - spread), inner * (1 + spread)
    else:
        raise ClaimError(f"The interval is '{interval}'; choose 'log-log', 'log' or 'plain'.")
    tail = special.ndtr(-z)
    none_yet = np.where(still_at_risk > 0, tail ** (1 / np.maximum(still_at_risk, 1.0)), 0.0)
    lower = np.where(survival >= 1, none_yet, np.where(survival <= 0, 0.0, np.maximum(lower, 0.0)))
    upper = np.where(
        survival >= 1, 1.0, np.where(survival <= 0, 1 - tail ** (1 / at_exhaustion), np.minimum(upper, 1.0))
    )
    return lower, upper


def _members(arm: np.ndarray, include: np.ndarray | None, code: int) -> np.ndarray:
    member = np.asarray(arm) == code
    return member if include is None else member & np.asarray(include, bool)


def _point(time: np.ndarray, event: np.ndarray, day: float, include: np.ndarray | None) -> Point:
    """The curve of one arm at one day."""
    sets = risk_sets(time, event, include=include)
    at_risk, events = sets.at_risk(np.ones(1))[:, 0], sets.at_event(np.ones(1))[:, 0]
    reached = sets.times[:, 0] <= day
    at_risk, events = np.where(reached, at_risk, 0.0), np.where(reached, events, 0.0)
    survival, relative = _product_limit(at_risk, events)
    exhausted = _at_exhaustion(survival, at_risk)[:, 0]
    last = (
        (survival[:, -1], relative[:, -1])
        if survival.shape[-1]
        else (np.ones(len(exhausted)), np.zeros(len(exhausted)))
    )
    still = (sets.kept & (sets.time >= day)).sum(-1)
    n = sets.kept.sum(-1)
    beyond = flag((still == 0) & (last[0] > 0) & (n > 0), Caution.BEYOND_FOLLOW_UP)
    fields = (*last, still, exhausted, events.sum(-1), n, beyond | sets.warnings.ravel())
    return Point(*(np.reshape(field, sets.batch) for field in fields))


def _joined_limits(active: Point, control: Point, z: np.ndarray, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the risk difference from the limits of each arm, by the distances to the nearer limits."""
    difference = control.survival - active.survival
    lower1, upper1 = active.limits(z, interval)
    lower0, upper0 = control.limits(z, interval)
    below = np.hypot(control.survival - lower0, upper1 - active.survival)
    above = np.hypot(upper0 - control.survival, active.survival - lower1)
    return difference - below, difference + above


def _touching(active: Point, control: Point, interval: Interval) -> np.ndarray:
    """Largest z whose interval leaves zero out (0 where none does), by bisection."""
    low, high = np.zeros(np.shape(active.survival)), np.full(np.shape(active.survival), 40.0)
    for _ in range(60):
        middle = (low + high) / 2
        lower, upper = _joined_limits(active, control, middle, interval)
        outside = (lower > 0) | (upper < 0)
        low, high = np.where(outside, middle, low), np.where(outside, high, middle)
    return low


def _crossing(times: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """First time a falling curve is at or below one half; the middle of the stretch where it stays at one half."""
    tolerance = 1e-9
    reached, passed = curve <= 0.5 + tolerance, curve < 0.5 - tolerance
    first = np.where(reached, times, np.inf).min(-1, initial=np.inf)
    beyond = np.where(passed, times, np.inf).min(-1, initial=np.inf)
    flat = (first < beyond) & np.isfinite(beyond)
    return np.where(flat, (first + np.where(flat, beyond, 0.0)) / 2, first)


def _log_rank_sums(
    at_risk: np.ndarray, events: np.ndarray, rho: float, gamma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted observed, expected (B, k) and hypergeometric covariance (B, k, k), summed over strata and rungs."""
    total, died = at_risk.sum(-1), events.sum(-1)
    share = at_risk / np.maximum(total, 1.0)[..., None]
    weight = np.ones_like(total)
    if rho or gamma:
        survival, _ = _product_limit(total, died)
        before = np.concatenate([np.ones_like(survival[..., :1]), survival[..., :-1]], -1)
        weight = before**rho * (1 - before) ** gamma
    observed = np.sum(weight[..., None] * events, (1, 2))
    expected = np.sum((weight * died)[..., None] * share, (1, 2))
    spread = weight**2 * died * (total - died) / np.maximum(total - 1, 1.0)
    covariance = -np.einsum("bsm,bsmk,bsml->bkl", spread, share, share)
    diagonal = np.einsum("bsm,bsmk->bk", spread, share)
    return observed, expected, covariance + diagonal[..., None] * np.eye(share.shape[-1])


def _quadratic_form(excess: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U' V^- U and its degrees of freedom (arms with any variance, less one)."""
    varied = np.diagonal(covariance, axis1=-2, axis2=-1) > 1e-12
    df = np.maximum(varied.sum(-1) - 1, 0)
    if excess.shape[-1] == 2:
        variance = covariance[..., 1, 1]
        return np.where(df > 0, excess[..., 1] ** 2 / np.where(df > 0, variance, 1.0), 0.0), df
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return np.einsum("bk,bkl,bl->b", excess, inverse, excess), df

"""Survival at one agreed day: risk differences that survive an arm without events, ratios, and tests on better scales."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.armcounts import Subjects, columns, contrast_arms, count, missing_caution, over_trials
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
from quell.analysis.product_limit import Interval, at_exhaustion, product_limit, survival_limits

Scale = Literal["plain", "log", "log-log", "logit", "arcsine"]
SCALES = ("plain", "log", "log-log", "logit", "arcsine")


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
        return survival_limits(self.survival, self.relative, self.still_at_risk, self.at_exhaustion, z, interval)


def landmark(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    day: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
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
    given = columns(time, event, contrast_arms(arm, contrast), include=include, entry=entry)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        control, active = point(part, day)
        return (*control, *active, missing_caution(part))

    # the arms' points of all trials together: the search for p is the same work for one trial as for a thousand
    *fields, missing = over_trials(evaluate, given)
    control, active = Point(*fields[: len(Point._fields)]), Point(*fields[len(Point._fields) :])
    empty, warnings = _two_point_cautions(active, control)
    difference = control.survival - active.survival
    se = np.sqrt(active.survival**2 * active.relative + control.survival**2 * control.relative)
    lower, upper = _joined_limits(active, control, critical(level), interval)
    touching = _touching(active, control, interval)
    p = np.minimum(2 * special.ndtr(-touching), 1.0)
    values = (difference, np.where(se == 0, np.nan, se), lower, upper, np.sign(difference) * touching)
    estimate, se, lower, upper, statistic = (np.where(empty, np.nan, value) for value in values)
    p, df = np.where(empty, np.nan, p), np.full(np.shape(p), np.inf)
    return Estimate(estimate, se, lower, upper, statistic, df, p, active.n + control.n, warnings | missing, level)


def milestone(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    day: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    scale: Scale = "log-log",
    level: float = 0.95,
) -> Estimate:
    """Survival of two arms compared at a day on a scale: f(S active) - f(S control), with a z test (Klein et al. 2007).

    The scales of doi:10.1002/sim.2864: plain, log (a survival ratio once exponentiated), log-log = log(-log S) (a ratio of
    cumulative hazards, the best behaved), logit, and arcsine = asin(sqrt S). With f'(S) from the delta method,
    variance = sum of f'(S)² S² (Greenwood's sum). Strata are weighed by the inverse of their variance. se, z and limits
    are on the scale; survival of 0 or 1 in an arm has no place on a scale but the plain one, and a caution says so.
    Raises ClaimError where the scale has another name or shapes do not match.

    >>> time, event = np.array([3.0, 5.0, 9.0, 9.0, 2.0, 9.0, 9.0, 9.0]), np.array([1, 1, 0, 0, 1, 0, 0, 0])
    >>> result = milestone(time, event, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 8)
    >>> round(float(result.estimate), 3), round(float(result.se), 3)
    (-0.879, 1.236)
    """
    if scale not in SCALES:
        raise ClaimError(f"The scale is '{scale}'; choose 'plain', 'log', 'log-log', 'logit' or 'arcsine'.")
    given = columns(time, event, contrast_arms(arm, contrast), include=include, strata=strata)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        survival, relative, n, events, beyond = _by_stratum(part, day)
        value, slope, placed = _on_scale(survival, scale)
        variance = ((slope * survival) ** 2 * relative).sum(0)
        usable = placed.all(0) & (variance > 0)
        weight = np.where(usable, 1 / np.where(usable, variance, 1.0), 0.0)
        total = weight.sum(-1)
        known = total > 0
        mean = (weight * (value[1] - value[0])).sum(-1) / np.where(known, total, 1.0)
        empty, warnings = _cautions(n, events)
        warnings = warnings | beyond | missing_caution(part) | flag(~known & ~empty, Caution.NOT_ESTIMABLE)
        plain = (survival[1] - survival[0])[..., 0] if scale == "plain" and part.strata == 1 else np.nan
        mean = np.where(empty, np.nan, np.where(known, mean, plain))
        se = np.where(known & ~empty, 1 / np.sqrt(np.where(known, total, 1.0)), np.nan)
        return mean, se, n.sum(0), warnings

    estimate, se, n, warnings = over_trials(evaluate, given)
    return normal_estimate(estimate, se, n, warnings, level)


def survival_ratio(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    day: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Ratio of survival at a day, active over control: `milestone` on the log scale, exponentiated; se of the log ratio.

    Arguments, and what is raised, are as in `milestone`.

    >>> time, event = np.array([3.0, 5.0, 9.0, 9.0, 2.0, 9.0, 9.0, 9.0]), np.array([1, 1, 0, 0, 1, 0, 0, 0])
    >>> round(float(survival_ratio(time, event, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 8).estimate), 3)
    1.5
    """
    return exponentiate(milestone(time, event, arm, day, contrast=contrast, include=include, scale="log", level=level))


def point(part: Subjects, day: float) -> tuple[Point, ...]:
    """Each arm's curve at one day, code 0 first, every field (b,)."""
    counts = count(part)
    reached = counts.times[:, 0] <= day
    still, n = part.under_observation(day), counts.n
    points = []
    for arm in range(len(n)):
        at_risk = np.where(reached, counts.at_risk[arm, :, 0], 0)
        events = np.where(reached, counts.events[0, arm, :, 0], 0)
        survival, relative = product_limit(at_risk, events)
        exhausted = at_exhaustion(survival, at_risk)[:, 0]
        last, spread = _last(survival, 1.0), _last(relative, 0.0)
        beyond = flag((still[arm] == 0) & (last > 0) & (n[arm] > 0), Caution.BEYOND_FOLLOW_UP)
        points.append(Point(last, spread, still[arm], exhausted, events.sum(-1), n[arm], beyond))
    return tuple(points)


def _last(curve: np.ndarray, start: float) -> np.ndarray:
    return curve[..., -1] if curve.shape[-1] else np.full(curve.shape[:-1], start)


def _by_stratum(part: Subjects, day: float) -> tuple[np.ndarray, ...]:
    """Survival and relative variance at a day (arms, b, S), subjects and events up to it (arms, b), and its caution."""
    counts = count(part)
    reached = counts.times <= day
    at_risk, events = np.where(reached, counts.at_risk, 0), np.where(reached, counts.events[0], 0)
    survival, relative = (
        _last(curve, start) for curve, start in zip(product_limit(at_risk, events), (1, 0), strict=True)
    )
    beyond = (part.under_observation(day) == 0) & (counts.n > 0) & (survival > 0).any(-1)
    return survival, relative, counts.n, events.sum((-1, -2)), flag(beyond.any(0), Caution.BEYOND_FOLLOW_UP)


def _on_scale(survival: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f(S), f'(S), and where S has a place on the scale."""
    placed = np.ones(survival.shape, bool) if scale == "plain" else (survival > 0) & (survival < 1)
    s = np.where(placed, survival, 0.5)
    if scale == "plain":
        return s, np.ones_like(s), placed
    if scale == "log":
        placed = survival > 0
        s = np.where(placed, survival, 0.5)
        return np.log(s), 1 / s, placed
    if scale == "log-log":
        return np.log(-np.log(s)), 1 / (s * np.log(s)), placed
    if scale == "logit":
        return special.logit(s), 1 / (s * (1 - s)), placed
    return np.arcsin(np.sqrt(s)), 1 / (2 * np.sqrt(s * (1 - s))), placed


def _two_point_cautions(active: Point, control: Point) -> tuple[np.ndarray, np.ndarray]:
    empty, warnings = _cautions(np.stack([control.n, active.n]), np.stack([control.events, active.events]))
    return empty, warnings | active.warnings | control.warnings


def _cautions(n: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether an arm is empty, and the doubts that few events bring; n and events are (2, b)."""
    empty, total = (n == 0).any(0), events.sum(0)
    none = (total == 0) & ~empty
    one = (events == 0).any(0) & ~none & ~empty
    warnings = flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(none, Caution.NO_EVENTS) | flag(one, Caution.ARM_WITHOUT_EVENTS)
    return empty, warnings | flag((total < FEW_EVENTS) & ~empty, Caution.FEW_EVENTS)


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

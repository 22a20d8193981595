"""Competing risks: how many have had an event of one kind by a day, when other kinds may come first.

The cumulative incidence of a cause (Aalen and Johansen 1978), with its variance, limits, difference between arms, and the
days lost to the cause. Gray's test is in `gray`, subdistribution hazards in `fine_gray`; a cause-specific hazard is
`cox.cox` with the other causes censored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.armcounts import (
    ArmCounts,
    Columns,
    Subjects,
    columns,
    contrast_arms,
    count,
    missing_caution,
    over_trials,
)
from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, critical, flag, normal_estimate
from quell.analysis.product_limit import INTERVALS, Interval, before, product_limit, scale_limits

Variance = Literal["infinitesimal jackknife", "aalen"]


class Incidence(NamedTuple):
    """A cumulative incidence curve for each trial of a batch; every field is (..., m) over event times of any cause.

    `event_free` is the Kaplan-Meier curve of all causes together; unused times are infinite.
    """

    times: np.ndarray
    incidence: np.ndarray
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    event_free: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray


class Causes(NamedTuple):
    """One arm's rungs (b, M): incidence of the cause, event-free survival after and before each rung, and the counts."""

    incidence: np.ndarray
    survival: np.ndarray
    earlier: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    others: np.ndarray


def cumulative_incidence(
    time: np.ndarray,
    cause: np.ndarray,
    *,
    of: int = 1,
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log-log",
    variance: Variance = "infinitesimal jackknife",
) -> Incidence:
    """Cumulative incidence F(t) = sum over t_j <= t of S(t_j-) d_j / Y_j of one cause (Aalen and Johansen 1978).

    cause (..., n) is 0 where censored, else the code 1, 2, ... of what happened; S is free of any of them. The variance is
    the infinitesimal jackknife's, as R's survfit, or Aalen's (1978) as R's cmprsk::cuminc. Limits are on the scale of
    `product_limit.scale_limits`, log-log being log(-log F) as in survfit and SAS. Other arguments, and what is raised, are
    as in `armcounts.columns`.

    >>> found = cumulative_incidence(np.array([2.0, 3.0, 5.0, 8.0]), np.array([1, 2, 1, 0]))
    >>> found.incidence.tolist(), found.event_free.tolist()
    ([0.25, 0.25, 0.5], [0.75, 0.5, 0.25])
    """
    _check(variance, interval)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts = count(part)
        one = _causes(counts, 0)
        spread = VARIANCES[variance](one)
        lower, upper = _limits(one.incidence, spread, level, interval)
        fields = (one.incidence, spread, lower, upper, one.survival, one.at_risk, one.events)
        return (counts.times[:, 0], *fields)

    return Incidence(*over_trials(evaluate, _columns(time, cause, None, of, include), at_once=True))


def incidence_at(
    time: np.ndarray,
    cause: np.ndarray,
    day: float,
    *,
    of: int = 1,
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log-log",
    variance: Variance = "infinitesimal jackknife",
) -> Estimate:
    """Cumulative incidence of one cause at a day, with its limits; arguments as in `cumulative_incidence`.

    Past the last follow-up the curve is carried forward and a caution says so. Where the cause has not happened yet the
    lower limit is 0 and the upper is exact for those then at risk (Clopper and Pearson), as if no other cause existed.

    >>> found = incidence_at(np.array([2.0, 3.0, 5.0, 8.0]), np.array([1, 2, 1, 0]), 6)
    >>> float(found.estimate), round(float(found.se), 4)
    (0.5, 0.25)
    """
    _check(variance, interval)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        value, spread, events, n, warnings = _arms_at(part, day, variance)
        lower, upper = _limits(value, spread, level, interval)
        still = np.maximum(part.under_observation(day), 1)
        nothing = (events == 0) & (n > 0)
        upper = np.where(nothing, 1 - ((1 - level) / 2) ** (1 / still), upper)
        lower = np.where(nothing, 0.0, lower)
        se = np.where((n > 0) & (spread > 0), np.sqrt(spread), np.where(n > 0, 0.0, np.nan))
        warnings = warnings | flag(nothing, Caution.NO_EVENTS)
        fields = (np.where(n > 0, field, np.nan)[0] for field in (value, se, lower, upper))
        return (*fields, n[0], warnings[0] | missing_caution(part))

    value, se, lower, upper, n, warnings = over_trials(evaluate, _columns(time, cause, None, of, include))
    none = np.full(np.shape(value), np.nan)
    return Estimate(value, se, lower, upper, none, none, none, n, warnings, level)


def incidence_difference(
    time: np.ndarray,
    cause: np.ndarray,
    arm: np.ndarray,
    day: float,
    *,
    of: int = 1,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
    variance: Variance = "infinitesimal jackknife",
) -> Estimate:
    """Difference in the cumulative incidence of one cause at a day, active minus control, with Wald's interval and z test.

    se² adds the arms' variances. Where an arm has no event of the cause its part of the error is missing, and a caution
    says so. Arguments, and what is raised, are as in `cumulative_incidence`.

    >>> time, cause = np.array([2.0, 3.0, 5.0, 8.0, 2.0, 4.0, 8.0, 8.0]), np.array([1, 2, 1, 0, 2, 1, 0, 0])
    >>> round(float(incidence_difference(time, cause, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 6).estimate), 3)
    -0.25
    """
    _check(variance, "plain")

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        value, spread, events, n, warnings = _arms_at(part, day, variance)
        return _difference(value, spread, events, n, warnings, missing_caution(part))

    estimate, se, n, warnings = over_trials(evaluate, _columns(time, cause, contrast_arms(arm, contrast), of, include))
    return normal_estimate(estimate, se, n, warnings, level)


def days_lost(
    time: np.ndarray,
    cause: np.ndarray,
    until: float,
    *,
    of: int = 1,
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Mean days lost to one cause before a day: the area under its cumulative incidence from 0 to `until` (Andersen 2013).

    All causes' losses and the restricted mean event-free time add up to `until`. The variance is the infinitesimal
    jackknife's, as R's survfit prints. Arguments are as in `cumulative_incidence`.

    >>> round(float(days_lost(np.array([2.0, 3.0, 5.0, 8.0]), np.array([1, 2, 1, 0]), 6).estimate), 3)
    1.25
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        value, spread, events, n, warnings = _lost(part, until)
        warnings = warnings | flag((events == 0) & (n > 0), Caution.NO_EVENTS) | missing_caution(part)
        se = np.where(spread > 0, np.sqrt(np.maximum(spread, 0)), np.nan)
        return np.where(n > 0, value, np.nan)[0], np.where(n > 0, se, np.nan)[0], n[0], warnings[0]

    value, se, n, warnings = over_trials(evaluate, _columns(time, cause, None, of, include))
    none = np.full(np.shape(value), np.nan)
    return normal_estimate(value, se, n, warnings, level)._replace(statistic=none, df=none, p=none)


def days_lost_difference(
    time: np.ndarray,
    cause: np.ndarray,
    arm: np.ndarray,
    until: float,
    *,
    of: int = 1,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Difference in days lost to one cause before a day, active minus control, with a z test; see `days_lost`.

    >>> time, cause = np.array([2.0, 3.0, 5.0, 8.0, 2.0, 4.0, 8.0, 8.0]), np.array([1, 2, 1, 0, 2, 1, 0, 0])
    >>> round(float(days_lost_difference(time, cause, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 6).estimate), 3)
    -0.75
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        value, spread, events, n, warnings = _lost(part, until)
        return _difference(value, spread, events, n, warnings, missing_caution(part))

    estimate, se, n, warnings = over_trials(evaluate, _columns(time, cause, contrast_arms(arm, contrast), of, include))
    return normal_estimate(estimate, se, n, warnings, level)


def _check(variance: str, interval: str) -> None:
    if variance not in VARIANCES:
        raise ClaimError(f"The variance is '{variance}'; choose 'infinitesimal jackknife' or 'aalen'.")
    if interval not in INTERVALS:
        raise ClaimError(f"The interval is '{interval}'; choose 'log-log', 'log', 'plain', 'logit' or 'arcsine'.")


def _columns(
    time: np.ndarray, cause: np.ndarray, arm: np.ndarray | None, of: int, include: np.ndarray | None
) -> Columns:
    return columns(time, this_or_other(cause, of), arm, include=include, kinds=2)


def this_or_other(cause: np.ndarray, of: int) -> np.ndarray:
    """1 for the cause, 2 for any other, 0 where censored; a missing cause stays NaN. Raises ClaimError for odd codes.

    >>> this_or_other(np.array([0, 1, 2, 3]), 2).tolist()
    [0.0, 2.0, 1.0, 2.0]
    """
    cause = np.asarray(cause)
    if cause.dtype.kind not in "iubf":
        raise ClaimError(
            "Causes are whole codes: 0 where censored, 1, 2, ... for what happened; number the labels first."
        )
    if int(of) != of or of < 1:
        raise ClaimError(f"The cause asked for is {of}; causes are coded 1, 2, ..., and 0 is censored.")
    known = np.isfinite(cause)
    return np.where(known, np.where(cause == of, 1.0, np.where(cause > 0, 2.0, 0.0)), np.nan)


def _causes(counts: ArmCounts, arm: int) -> Causes:
    at_risk, events, others = counts.at_risk[arm, :, 0], counts.events[0, arm, :, 0], counts.events[1, arm, :, 0]
    survival, _ = product_limit(at_risk, events + others)
    earlier = before(survival)
    incidence = np.cumsum(earlier * events / np.maximum(at_risk, 1), -1)
    return Causes(incidence, survival, earlier, at_risk, events, others)


def _jackknife(one: Causes) -> np.ndarray:
    """Sum of squares of each subject's influence on F(t), for every rung t: (b, M).

    With a = d / Y of all causes, F(t) changes by S(t_j-) [own cause] - R_j with an event on rung j, R_j = (F(t) - F_j) /
    (1 - a_j); being at risk takes off the mean of that over those at risk. Both are linear in F(t), so that running sums
    of squares and products serve all t at once.
    """
    someone = np.maximum(one.at_risk, 1)
    died = one.events + one.others
    keep = 1 - died / someone
    rest = np.where(keep > 0, 1 / np.where(keep > 0, keep, 1.0), 0.0)
    # influence = first + F(t) second, for an event of the cause, of another, and for leaving without
    constant = np.cumsum((one.earlier * one.events + one.incidence * rest * died) / someone**2, -1)
    slope = np.cumsum(rest * died / someone**2, -1)
    level = one.incidence * rest / someone
    first_own, first_other, second = (
        (one.earlier / someone + level) - constant,
        level - constant,
        slope - rest / someone,
    )
    after = np.concatenate([one.at_risk[..., 1:], np.zeros_like(one.at_risk[..., :1])], -1)
    left = one.at_risk - died - after
    square = one.events * first_own**2 + one.others * first_other**2
    product = (one.events * first_own + one.others * first_other) * second
    curve = died * second**2
    # who leaves between this rung and the next has been at risk up to this rung; at t it counts among the `at_risk` still
    gone = np.stack([left * constant**2, -left * constant * slope, left * slope**2])
    gone = np.concatenate([np.zeros_like(gone[..., :1]), np.cumsum(gone, -1)[..., :-1]], -1)
    sums = np.cumsum(np.stack([square, product, curve]), -1) + gone
    f, staying = one.incidence, one.at_risk - died
    return sums[0] + 2 * f * sums[1] + f**2 * sums[2] + staying * (f * slope - constant) ** 2


def _aalen(one: Causes) -> np.ndarray:
    """Aalen's variance with a correction for ties, as in cmprsk::cuminc: (b, M).

    Sum over other causes of ((F_j - F) / S_j)² and over the cause of (1 + (F_j - F) / S_j)², times S(t_j-)² d / Y² and
    1 - (d - 1) / (Y - 1) for d tied events.
    """
    someone = np.maximum(one.at_risk, 1)
    inverse = np.where(one.survival > 1e-12, 1 / np.where(one.survival > 1e-12, one.survival, 1.0), 0.0)

    def spread(events: np.ndarray) -> np.ndarray:
        tied = 1 - np.maximum(events - 1, 0) / np.maximum(someone - 1, 1)
        return one.earlier**2 * tied * events / someone**2

    ratio = one.incidence * inverse
    own, other = spread(one.events), np.where(inverse > 0, spread(one.others), 0.0)
    square = np.cumsum(own * (1 + ratio) ** 2 + other * ratio**2, -1)
    product = np.cumsum((own * (1 + ratio) + other * ratio) * inverse, -1)
    curve = np.cumsum((own + other) * inverse**2, -1)
    return np.maximum(square - 2 * one.incidence * product + one.incidence**2 * curve, 0.0)


VARIANCES: dict[str, Callable[[Causes], np.ndarray]] = {"infinitesimal jackknife": _jackknife, "aalen": _aalen}


def _limits(value: np.ndarray, spread: np.ndarray, level: float, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    inner = (value > 0) & (value < 1 - 1e-12)
    with np.errstate(over="ignore"):
        limits = scale_limits(
            np.where(inner, value, 0.5), np.sqrt(np.where(inner, spread, 0.0)), critical(level), interval
        )
    return np.where(inner, limits[0], value), np.where(inner, limits[1], value)


def _arms_at(part: Subjects, day: float, variance: Variance) -> tuple[np.ndarray, ...]:
    """Each arm's incidence and variance at a day, events of the cause by then, people, cautions: (arms, b) each."""
    counts = count(part)
    place = (counts.times[:, 0] <= day).sum(-1)[:, None]
    found = []
    for arm in range(part.arms):
        one = _causes(counts, arm)
        found.append(
            [
                _at(curve, place)
                for curve in (one.incidence, VARIANCES[variance](one), np.cumsum(one.events, -1), one.survival)
            ]
        )
    value, spread, events, survival = (np.stack(parts) for parts in zip(*found, strict=True))
    beyond = (part.under_observation(day) == 0) & (counts.n > 0) & (np.where(place.T > 0, survival, 1.0) > 0)
    warnings = flag(beyond, Caution.BEYOND_FOLLOW_UP) | flag(counts.n == 0, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    return value, spread, events, counts.n, warnings


def _at(curve: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A curve's value on its `place`-th rung, 0 before the first."""
    start = np.zeros((len(curve), 1))
    return np.take_along_axis(np.concatenate([start, curve], -1), place, -1)[:, 0]


def _difference(
    value: np.ndarray, spread: np.ndarray, events: np.ndarray, n: np.ndarray, warnings: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, ...]:
    empty, total = (n == 0).any(0), events.sum(0)
    variance = spread.sum(0)
    known = (variance > 0) & ~empty
    se = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)
    doubts = warnings[0] | warnings[1] | missing | flag((total == 0) & ~empty, Caution.NO_EVENTS)
    doubts = doubts | flag((events == 0).any(0) & (total > 0) & ~empty, Caution.ARM_WITHOUT_EVENTS)
    doubts = doubts | flag((total < FEW_EVENTS) & ~empty, Caution.FEW_EVENTS)
    doubts = doubts | flag(~known & ~empty & (total > 0), Caution.CONSTANT_OUTCOME)
    return np.where(empty, np.nan, value[1] - value[0]), se, n.sum(0), doubts


def _lost(part: Subjects, until: float) -> tuple[np.ndarray, ...]:
    """Each arm's days lost to the cause, variance, events by then, people, cautions: (arms, b) each.

    The loss is a sum over rungs of (until - t_j) S(t_j-) d_j / Y_j, of which each subject's influence is taken as in
    `_jackknife`, F(t) giving way to the area still ahead.
    """
    counts = count(part)
    times = counts.times[:, 0]
    reached = times <= until
    room = np.where(reached, until - np.where(reached, times, 0.0), 0.0)
    found = []
    for arm in range(part.arms):
        one = _causes(counts, arm)
        someone = np.maximum(one.at_risk, 1)
        died = np.where(reached, one.events + one.others, 0)
        own = np.where(reached, one.events, 0)
        steps = room * one.earlier * own / someone
        loss = steps.sum(-1)
        keep = 1 - died / someone
        ahead = loss[:, None] - np.cumsum(steps, -1)
        rest = np.where(keep > 0, ahead / np.where(keep > 0, keep, 1.0), 0.0)
        mean = np.cumsum((room * one.earlier * own - rest * died) / someone**2, -1)
        after = np.concatenate([one.at_risk[..., 1:], np.zeros_like(one.at_risk[..., :1])], -1)
        left = np.where(reached, one.at_risk - died - after, 0)
        influence = ((room * one.earlier - rest) / someone - mean, -rest / someone - mean, -mean)
        square = sum(who * change**2 for who, change in zip((own, died - own, left), influence, strict=True))
        # those still at risk after the last rung within reach
        place = reached.sum(-1)[:, None]
        found.append((loss, square.sum(-1) + _at(after, place) * _at(mean, place) ** 2, own.sum(-1)))
    value, spread, events = (np.stack(parts) for parts in zip(*found, strict=True))
    beyond = (part.last_day() < until) & (counts.n > 0)
    warnings = flag(beyond, Caution.BEYOND_FOLLOW_UP) | flag(counts.n == 0, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    return value, spread, events, counts.n, warnings

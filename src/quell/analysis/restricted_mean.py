"""Restricted mean survival time: the average event-free time up to an agreed day, and how arms differ in it.

It needs no proportional hazards. Numbers agree with R's survRM2 (Uno et al.), adjusted ones included.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.armcounts import Subjects, columns, contrast_arms, count, missing_caution, over_trials
from quell.analysis.claim import Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate
from quell.analysis.product_limit import product_limit

Measure = Literal["difference", "ratio", "lost ratio"]


class Means(NamedTuple):
    """Restricted mean of each arm, (arms, b), with its variance, people, and doubts."""

    mean: np.ndarray
    variance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray


def restricted_mean(
    time: np.ndarray,
    event: np.ndarray,
    until: float,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Restricted mean survival time, the area under the Kaplan-Meier curve from 0 to `until` (days).

    Variance: sum over events of (area from t_j to until)² d_j / (Y_j (Y_j - d_j)) (Klein and Moeschberger 2003, 4.5),
    as R's survfit prints. Arguments, and what is raised, are as in `armcounts.columns`.

    >>> round(float(restricted_mean(np.array([2.0, 4.0, 9.0]), np.array([1, 1, 0]), 6).estimate), 3)
    4.0
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        found = _means(part, until)
        return found.mean[0], found.variance[0], found.n[0], found.warnings[0] | missing_caution(part)

    given = columns(time, event, include=include, entry=entry)
    mean, variance, n, warnings = over_trials(evaluate, given)
    result = normal_estimate(mean, _root(variance), n, warnings, level)
    none = np.full(np.shape(mean), np.nan)
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
    mean, variance, n, warnings = _two_arms(time, event, arm, until, contrast, include)
    return normal_estimate(mean[..., 1] - mean[..., 0], _root(variance.sum(-1)), n, warnings, level)


def restricted_mean_ratio(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    until: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
    of: Literal["survived", "lost"] = "survived",
) -> Estimate:
    """Ratio of restricted mean survival times, active over control, or of times `lost` (until - mean), as survRM2.

    The interval and test are on the log scale: variance = sum over arms of variance / mean² (Uno et al. 2014,
    doi:10.1200/JCO.2014.55.2208); se is that of the log ratio. A mean (or loss) of zero gives no ratio and a caution.
    Raises ClaimError where `of` has another name, or as in `armcounts.columns`.

    >>> time, event = np.array([2.0, 4.0, 9.0, 3.0, 9.0, 9.0]), np.array([1, 1, 0, 1, 0, 0])
    >>> round(float(restricted_mean_ratio(time, event, np.array([0, 0, 0, 1, 1, 1]), 6).estimate), 3)
    1.25
    """
    if of not in ("survived", "lost"):
        raise ClaimError(f"The ratio is of '{of}' time; choose 'survived' or 'lost'.")
    mean, variance, n, warnings = _two_arms(time, event, arm, until, contrast, include)
    size = mean if of == "survived" else until - mean
    there = size > 1e-12 * until
    safe = np.where(there, size, 1.0)
    known = there.all(-1)
    log_ratio = np.where(known, np.log(safe[..., 1] / safe[..., 0]), np.nan)
    se = np.where(known, _root((variance / safe**2).sum(-1)), np.nan)
    empty = np.isnan(mean).any(-1)
    warnings = warnings | flag(~known & ~empty, Caution.NOT_ESTIMABLE)
    return exponentiate(normal_estimate(log_ratio, se, n, warnings, level))


def _root(variance: np.ndarray) -> np.ndarray:
    """Standard error; not known where nothing varies."""
    known = variance > 0
    return np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)


def _means(part: Subjects, until: float) -> Means:
    """Restricted mean of each arm of a part, NaN where nobody is."""
    counts = count(part)
    at_risk, events = counts.at_risk[:, :, 0], counts.events[0, :, :, 0]
    survival, _ = product_limit(at_risk, events)
    edges = np.minimum(counts.times[:, 0], until)
    start = np.zeros((len(edges), 1))
    widths = np.diff(np.concatenate([start, edges, start + until], -1), axis=-1)
    areas = widths * np.concatenate([np.ones((*survival.shape[:-1], 1)), survival], -1)
    ahead = np.cumsum(areas[..., ::-1], -1)[..., ::-1][..., 1:]
    left = at_risk - events
    variance = np.sum(np.where(left > 0, ahead**2 * events / np.where(left > 0, at_risk * left, 1), 0.0), -1)
    n, empty = counts.n, counts.n == 0
    reached = survival.min(-1, initial=1.0)
    warnings = flag((part.last_day() < until) & (reached > 0) & ~empty, Caution.BEYOND_FOLLOW_UP)
    warnings = warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    still, some = (variance == 0) & ~empty, (events * (counts.times[:, 0] < until)).any(-1)
    warnings = warnings | np.where(still, np.where(some, Caution.CONSTANT_OUTCOME, Caution.NO_EVENTS), 0)
    return Means(np.where(empty, np.nan, areas.sum(-1)), np.where(empty, np.nan, variance), n, warnings)


def _two_arms(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    until: float,
    contrast: tuple[int, int],
    include: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Restricted means and variances (..., 2), control first; n and warnings of both together.

    An arm without events has no measurable spread; the other arm's alone is the (too small) error, and a caution says so.
    """

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        found = _means(part, until)
        control, active = found.warnings
        without = (active ^ control) & Caution.NO_EVENTS
        warnings = (active | control) & ~np.where(without > 0, int(Caution.NO_EVENTS), 0)
        warnings = warnings | flag(without > 0, Caution.ARM_WITHOUT_EVENTS) | missing_caution(part)
        return found.mean.T, found.variance.T, found.n.sum(0), warnings

    given = columns(time, event, contrast_arms(arm, contrast), include=include)
    mean, variance, n, warnings = over_trials(evaluate, given)
    return mean, variance, n, warnings

"""Two methods that measure the same thing: limits of agreement, and the line between them when both have error.

first and second are arrays (..., n), one reading of each subject by each method; with repeats (..., n, m).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, normal_estimate
from quell.analysis.means import slope

Interval = Literal["exact", "approximate"]


class Limits(NamedTuple):
    """Bias (first minus second) and the limits that a share `coverage` of differences lies within, as estimates.

    `sd` (...) is the standard deviation of a difference between two single readings.
    """

    bias: Estimate
    lower: Estimate
    upper: Estimate
    sd: np.ndarray
    coverage: float


class Line(NamedTuple):
    """second = intercept + slope x first."""

    intercept: Estimate
    slope: Estimate


def limits_of_agreement(
    first: np.ndarray,
    second: np.ndarray,
    *,
    include: np.ndarray | None = None,
    coverage: float = 0.95,
    interval: Interval = "exact",
    level: float = 0.95,
) -> Limits:
    """Bland and Altman's limits of agreement, mean difference -/+ z sd (1986; 1999, doi:10.1177/096228029900800204).

    Each limit is a percentile of the differences: `exact` limits of it are from the noncentral t distribution (Carkeet
    2015), `approximate` ones t with se = sd sqrt(1/n + z² / (2 (n - 1))) (Bland and Altman 1999). For differences that
    grow with the size, take logarithms first, or see `proportional_bias`. Raises ClaimError where shapes do not match or
    a name is unknown.

    >>> found = limits_of_agreement(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.1, 1.8, 3.2, 3.7]))
    >>> [round(float(one.estimate), 3) for one in (found.lower, found.bias, found.upper)]
    [-0.417, 0.05, 0.517]
    """
    if interval not in ("exact", "approximate"):
        raise ClaimError(f"The interval is '{interval}'; choose 'exact' or 'approximate'.")
    values, kept, missing = _differences(first, second, include)
    n = kept.sum(-1)
    size = np.maximum(n, 1)
    mean = values.sum(-1) / size
    deviation = np.where(kept, values - mean[..., None], 0.0)
    sd = np.where(n > 1, np.sqrt(np.vecdot(deviation, deviation) / np.maximum(n - 1, 1)), np.nan)
    sd = np.where(sd <= 1e-14 * np.abs(values).max(-1, initial=0.0), np.where(n > 1, 0.0, np.nan), sd)
    warnings = missing | flag(n < 2, Caution.TOO_FEW) | flag(sd == 0, Caution.CONSTANT_OUTCOME)
    spread, df = np.where(sd > 0, sd, np.nan), np.where(n > 1, n - 1.0, np.nan)
    mean = np.where(n > 0, mean, np.nan)
    bias = normal_estimate(mean, spread / np.sqrt(size), n, warnings, level, np.where(sd > 0, df, np.nan))
    z = float(critical(coverage))
    near, far = _percentile_reach(n, z, level, interval)
    se = spread * np.sqrt(1 / size + z**2 / (2 * np.maximum(n - 1, 1)))
    lower = _limit(mean - z * sd, se, (mean - far * spread, mean - near * spread), n, warnings, level)
    upper = _limit(mean + z * sd, se, (mean + near * spread, mean + far * spread), n, warnings, level)
    return Limits(bias, lower, upper, sd, coverage)


def limits_with_repeats(
    first: np.ndarray, second: np.ndarray, *, pairs: bool = False, coverage: float = 0.95, level: float = 0.95
) -> Limits:
    """Limits of agreement between single readings where each subject is read several times by each method.

    Bland and Altman (1999, section 5; 2007, doi:10.1080/10543400701329422). The true value stays the same (`pairs`
    false): sd² = variance of the differences of subject means + (1 - 1/m1) s1² + (1 - 1/m2) s2², s² within subject and
    method (with unequal numbers, 1 - the mean of 1/m). It changes from pair to pair (`pairs` true): one-way analysis of
    variance of the differences, sd² = within + between. Limits of the limits by recovery of variances (Zou 2013,
    doi:10.1177/0962280211402548). first (..., n, m1) and second (..., n, m2), NaN where a reading is missing; only
    subjects read by both count.

    >>> first, second = np.array([[1.0, 1.2], [2.1, 1.9], [3.0, 3.3]]), np.array([[1.1, 1.2], [2.0, 2.0], [2.8, 3.2]])
    >>> round(float(limits_with_repeats(first, second).sd), 4), round(float(limits_with_repeats(first, second, pairs=True).sd), 4)
    (0.1979, 0.1258)
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim < 2 or second.ndim < 2 or (pairs and first.shape[-1] != second.shape[-1]):
        raise ClaimError("Repeated readings are arrays (..., n, m); for pairs both methods need the same m.")
    parts = _pairs(first - second) if pairs else _same_truth(first, second)
    mean, variances, dfs, weights, error, n, warnings = parts
    z, critical_ = float(critical(coverage)), float(critical(level))
    total = np.maximum(sum(w * v for w, v in zip(weights, variances, strict=True)), 0.0)
    sd = np.where(n > 1, np.sqrt(total), np.nan)
    known = (error > 0) & (sd > 0)
    warnings = warnings | flag(~known & (n > 1), Caution.CONSTANT_OUTCOME)
    bias = normal_estimate(mean, np.where(known, np.sqrt(np.where(known, error, 1.0)), np.nan), n, warnings, level)
    low, high = _recovered(total, variances, dfs, weights, level)
    half = critical_ * bias.se
    near = np.sqrt(half**2 + z**2 * (sd - np.sqrt(low)) ** 2)
    far = np.sqrt(half**2 + z**2 * (np.sqrt(high) - sd) ** 2)
    se = (near + far) / (2 * critical_)
    lower = _limit(mean - z * sd, se, (mean - z * sd - far, mean - z * sd + near), n, warnings, level)
    upper = _limit(mean + z * sd, se, (mean + z * sd - near, mean + z * sd + far), n, warnings, level)
    return Limits(bias, lower, upper, sd, coverage)


def proportional_bias(
    first: np.ndarray, second: np.ndarray, *, include: np.ndarray | None = None, level: float = 0.95
) -> Estimate:
    """Slope of the difference on the mean of two methods (Bland and Altman 1999): does the bias grow with the size?

    Unequal error variances of the methods also give a slope. Ordinary least squares; first and second (..., n).

    >>> first = np.array([1.0, 2.1, 3.3, 4.2])
    >>> round(float(proportional_bias(first, np.array([1.0, 2.0, 3.0, 4.0])).estimate), 4)
    0.0785
    """
    first, second = np.broadcast_arrays(np.asarray(first, float), np.asarray(second, float))
    return slope(first - second, (first + second) / 2, include=include, level=level)


def deming(
    first: np.ndarray,
    second: np.ndarray,
    *,
    error_ratio: float = 1.0,
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Line:
    """Deming regression: the line between two methods that both have error (Linnet 1993), with jackknife errors.

    error_ratio is the error variance of the first method over that of the second (R's mcr::mcreg convention); 1 is
    orthogonal regression. With d = 1 / error_ratio,
    slope = [syy - d sxx + sqrt((syy - d sxx)² + 4 d sxy²)] / (2 sxy). Jackknife standard errors with t on n - 2 degrees of
    freedom, as mcr's method.ci="jackknife"; the tests are of slope 0 and intercept 0. first and second (..., n). Raises
    ClaimError where the ratio is not positive.

    >>> line = deming(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.1, 2.1, 2.9, 4.2, 5.1]))
    >>> round(float(line.slope.estimate), 4), round(float(line.intercept.estimate), 4)
    (1.0124, 0.0429)
    """
    if not error_ratio > 0:
        raise ClaimError(f"The error ratio is {error_ratio}; it is a ratio of variances and must be above zero.")
    x, y, kept, missing = _both(first, second, include)
    n = kept.sum(-1)
    size = np.maximum(n, 1)[..., None]
    mean_x, mean_y = x.sum(-1, keepdims=True) / size, y.sum(-1, keepdims=True) / size
    dx, dy = np.where(kept, x - mean_x, 0.0), np.where(kept, y - mean_y, 0.0)
    sxx, syy, sxy = (np.vecdot(a, b)[..., None] for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    slope_all = _deming_slope(sxx, syy, sxy, 1 / error_ratio)
    # without one subject, moments about the mean lose n / (n - 1) of its square
    lost = size / np.maximum(size - 1, 1)
    slope_without = _deming_slope(sxx - lost * dx**2, syy - lost * dy**2, sxy - lost * dx * dy, 1 / error_ratio)
    less = np.maximum(size - 1, 1)
    level_without = mean_y - dy / less - slope_without * (mean_x - dx / less)
    level_all = (mean_y - slope_all * mean_x)[..., 0]
    good = (n > 2) & np.isfinite(slope_all[..., 0])
    warnings = missing | flag(n < 3, Caution.TOO_FEW) | flag((n > 2) & ~good, Caution.NOT_ESTIMABLE)
    whole = (n, kept, good, warnings, level)
    return Line(_jackknife(level_all, level_without, *whole), _jackknife(slope_all[..., 0], slope_without, *whole))


def passing_bablok(
    first: np.ndarray, second: np.ndarray, *, include: np.ndarray | None = None, level: float = 0.95
) -> Line:
    """Passing and Bablok's regression (1983): the shifted median of the slopes of all pairs, without a distribution.

    Slopes of -1 and of equal points are left out, K = those below -1; the slope is the median shifted by K, its limits
    the ranks M1 = round((N - C) / 2), C = z sqrt(n (n - 1) (2 n + 5) / 18), and N - M1 + 1; the intercept is the median of
    second - slope x first, its limits at the slope's. For positively related methods. All pairs are held: n² / 2 numbers
    a trial. first and second (..., n).

    >>> line = passing_bablok(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.5]), np.array([1.1, 2.1, 2.9, 4.2, 5.1, 6.3]))
    >>> round(float(line.slope.estimate), 4), round(float(line.intercept.estimate), 4)
    (0.9714, 0.1429)
    """
    x, y, kept, missing = _both(first, second, include)
    n = kept.sum(-1)
    i, j = np.triu_indices(x.shape[-1], 1)
    run, rise = x[..., i] - x[..., j], y[..., i] - y[..., j]
    used = kept[..., i] & kept[..., j] & ((run != 0) | (rise != 0)) & (rise != -run)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.where(run != 0, rise / np.where(run != 0, run, 1.0), np.copysign(np.inf, rise))
    below = (used & (slopes < -1)).sum(-1)
    ordered = np.sort(np.where(used, slopes, np.nan), -1)
    count = used.sum(-1)
    middle = (_ranked(ordered, count // 2 + (count % 2) + below) + _ranked(ordered, count // 2 + 1 + below)) / 2
    reach = critical(level) * np.sqrt(n * (n - 1.0) * (2 * n + 5) / 18)
    rank = np.rint((count - reach) / 2).astype(int)
    low, high = _ranked(ordered, rank + below), _ranked(ordered, count - rank + 1 + below)
    usable = (n > 2) & np.isfinite(middle)
    warnings = missing | flag(n < 3, Caution.TOO_FEW) | flag((n > 2) & ~usable, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(usable & ~(np.isfinite(low) & np.isfinite(high)), Caution.NOT_REACHED)
    none = np.full(np.shape(middle), np.nan)
    middle = np.where(usable, middle, np.nan)
    values = [np.where(kept, y - at[..., None] * np.where(kept, x, 0.0), np.nan) for at in (middle, high, low)]
    levels = [_median(one) for one in values]
    line = Estimate(middle, none, low, high, none, none, none, n, warnings, level)
    return Line(line._replace(estimate=levels[0], lower=levels[1], upper=levels[2]), line)


def _deming_slope(sxx: np.ndarray, syy: np.ndarray, sxy: np.ndarray, d: float) -> np.ndarray:
    along = syy - d * sxx
    known = sxy != 0
    return np.where(known, (along + np.sqrt(along**2 + 4 * d * sxy**2)) / np.where(known, 2 * sxy, 1.0), np.nan)


def _jackknife(
    value: np.ndarray,
    without: np.ndarray,
    n: np.ndarray,
    kept: np.ndarray,
    good: np.ndarray,
    warnings: np.ndarray,
    level: float,
) -> Estimate:
    """The estimate with the jackknife's error: standard deviation of pseudo-values over sqrt(n), t on n - 2."""
    size = np.maximum(n, 2)
    mean = np.where(kept, without, 0.0).sum(-1) / size
    square = np.sum(np.where(kept, without - mean[..., None], 0.0) ** 2, -1)
    se = np.sqrt(square * (size - 1) / size)
    known = good & np.isfinite(se) & (se > 1e-13 * np.abs(value))
    warnings = warnings | flag(good & ~known, Caution.CONSTANT_OUTCOME)
    df = np.where(known, n - 2.0, np.nan)
    return normal_estimate(np.where(good, value, np.nan), np.where(known, se, np.nan), n, warnings, level, df)


def _both(
    first: np.ndarray, second: np.ndarray, include: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first, second = np.asarray(first, float), np.asarray(second, float)
    values, kept, missing = _differences(first, second, include)
    first, second = (np.where(kept, np.broadcast_to(one, values.shape), 0.0) for one in (first, second))
    return first, second, kept, missing


def _differences(
    first: np.ndarray, second: np.ndarray, include: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """first - second, zero where not both are there; who is kept; and a caution where one is missing."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim == 0 or first.shape[-1:] != second.shape[-1:]:
        raise ClaimError(
            f"The two methods have shapes {first.shape} and {second.shape}; each subject needs both readings."
        )
    values = first - second
    asked = np.ones(values.shape, bool) if include is None else np.broadcast_to(np.asarray(include, bool), values.shape)
    kept = asked & np.isfinite(values)
    return np.where(kept, values, 0.0), kept, flag((asked & ~kept).any(-1), Caution.MISSING)


def _percentile_reach(n: np.ndarray, z: float, level: float, interval: str) -> tuple[np.ndarray, np.ndarray]:
    """How many sd from the mean the percentile mean + z sd may lie, at least and at most."""
    df = np.where(n > 1, n - 1.0, 1.0)
    size = np.maximum(n, 2)
    if interval == "approximate":
        half = critical(level, df) * np.sqrt(1 / size + z**2 / (2 * df))
        return z - half, z + half
    tail = (1 - level) / 2
    near, far = (special.nctdtrit(df, z * np.sqrt(size), at) / np.sqrt(size) for at in (tail, 1 - tail))
    return near, far


def _limit(
    estimate: np.ndarray,
    se: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    n: np.ndarray,
    warnings: np.ndarray,
    level: float,
) -> Estimate:
    none = np.full(np.shape(estimate), np.nan)
    return Estimate(estimate, se, *ends, none, none, none, n, warnings, level)


Parts = tuple[np.ndarray, list[np.ndarray], list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]


def _same_truth(first: np.ndarray, second: np.ndarray) -> Parts:
    """Mean difference and the variances that add up to that of one difference, while the true value stays the same."""
    one, other = _method(first), _method(second)
    kept = (one.readings > 0) & (other.readings > 0)
    n = kept.sum(-1)
    size = np.maximum(n, 1)
    difference = np.where(kept, one.mean - other.mean, 0.0)
    mean = np.where(n > 0, difference.sum(-1) / size, np.nan)
    between = np.sum(np.where(kept, difference - np.nan_to_num(mean)[..., None], 0.0) ** 2, -1) / np.maximum(n - 1, 1)
    variances, dfs, weights = [between], [np.maximum(n - 1.0, 1)], [np.ones(np.shape(n))]
    for method in (one, other):
        df = np.where(kept, np.maximum(method.readings - 1, 0), 0).sum(-1)
        variances.append(np.where(kept, method.square, 0.0).sum(-1) / np.maximum(df, 1))
        dfs.append(np.maximum(df, 1.0))
        weights.append(1 - np.where(kept, 1 / np.maximum(method.readings, 1), 0.0).sum(-1) / size)
    asked = (~np.isfinite(first)).any((-1, -2)) | (~np.isfinite(second)).any((-1, -2))
    warnings = flag(asked, Caution.MISSING) | flag(n < 2, Caution.TOO_FEW)
    return mean, variances, dfs, weights, between / size, n, warnings


def _pairs(differences: np.ndarray) -> Parts:
    """The same while the true value changes from pair to pair: within and between subjects, one-way."""
    method = _method(differences)
    kept = method.readings > 0
    n, total = kept.sum(-1), method.readings.sum(-1)
    size, count = np.maximum(n, 1), np.maximum(total, 1)
    mean = np.where(n > 0, (method.mean * method.readings).sum(-1) / count, np.nan)
    away = np.where(kept, method.mean - np.nan_to_num(mean)[..., None], 0.0)
    between = np.sum(method.readings * away**2, -1) / np.maximum(n - 1, 1)
    df = np.maximum(total - n, 0)
    within = np.where(df > 0, method.square.sum(-1) / np.maximum(df, 1), 0.0)
    typical = (count**2 - np.sum(method.readings**2, -1)) / (np.maximum(size - 1, 1) * count)
    typical = np.where(typical > 0, typical, 1.0)
    # a between-subject component below zero counts as zero
    enough = between > within
    weights = [np.where(enough, 1 / typical, 0.0), np.where(enough, 1 - 1 / typical, 1.0)]
    warnings = flag((~np.isfinite(differences)).any((-1, -2)), Caution.MISSING) | flag(n < 2, Caution.TOO_FEW)
    dfs = [np.maximum(n - 1.0, 1), np.maximum(df.astype(float), 1)]
    return mean, [between, within], dfs, weights, np.where(enough, between, within) / count, n, warnings


class _Method(NamedTuple):
    """One method's readings (..., n, m) by subject: mean, sum of squares about it, and how many."""

    mean: np.ndarray
    square: np.ndarray
    readings: np.ndarray


def _method(readings: np.ndarray) -> _Method:
    there = np.isfinite(readings)
    count = there.sum(-1)
    mean = np.where(there, readings, 0.0).sum(-1) / np.maximum(count, 1)
    away = np.where(there, np.where(there, readings, 0.0) - mean[..., None], 0.0)
    return _Method(mean, np.sum(away**2, -1), count)


def _recovered(
    total: np.ndarray, variances: list[np.ndarray], dfs: list[np.ndarray], weights: list[np.ndarray], level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of a weighted sum of variances from the chi-square limits of each (Zou 2013)."""
    tail = (1 - level) / 2
    below, above = np.zeros(np.shape(total)), np.zeros(np.shape(total))
    for variance, df, weight in zip(variances, dfs, weights, strict=True):
        low, high = df / special.chdtri(df, tail), df / special.chdtri(df, 1 - tail)
        below = below + (weight * variance * (1 - low)) ** 2
        above = above + (weight * variance * (high - 1)) ** 2
    return np.maximum(total - np.sqrt(below), 0.0), total + np.sqrt(above)


def _ranked(ordered: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The value of a rank (from 1) in sorted values, NaN beyond the ends."""
    if ordered.shape[-1] == 0:
        return np.full(ordered.shape[:-1], np.nan)
    inside = (rank >= 1) & (rank <= ordered.shape[-1])
    found = np.take_along_axis(ordered, np.clip(rank - 1, 0, ordered.shape[-1] - 1)[..., None], -1)[..., 0]
    return np.where(inside, found, np.nan)


def _median(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values, -1)
    count = np.isfinite(values).sum(-1)
    return (_ranked(ordered, (count + 1) // 2) + _ranked(ordered, count // 2 + 1)) / 2

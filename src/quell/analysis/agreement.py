"""Do readers, scans or instruments agree? Intraclass correlations, concordance, kappa and repeatability.

Ratings are arrays (..., n, k): n subjects, each read k times. Comparing two methods on one scale is in
`method_comparison`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, two_sided

Form = Literal["1,1", "2,1", "3,1", "1,k", "2,k", "3,k"]
FORMS = ("1,1", "2,1", "3,1", "1,k", "2,k", "3,k")
KappaWeights = Literal["none", "linear", "quadratic"]


class MeanSquares(NamedTuple):
    """Two-way analysis of variance of ratings (..., n, k): between subjects, within, between raters, and the rest."""

    subjects: np.ndarray
    within: np.ndarray
    raters: np.ndarray
    rest: np.ndarray
    n: np.ndarray
    k: int
    warnings: np.ndarray


class Repeatability(NamedTuple):
    """How far two readings of the same subject lie apart.

    within_sd: within-subject standard deviation; coefficient: 1.96 sqrt(2) within_sd, which 95 % of differences between
    two readings stay under; cv_rms: within-subject coefficient of variation, root mean square; cv_log: the same from
    logarithms, exp(within sd of logs) - 1. All are estimates; coefficients of variation are shares (0.1 is 10 %).
    """

    within_sd: Estimate
    coefficient: Estimate
    cv_rms: Estimate
    cv_log: Estimate


def intraclass(
    ratings: np.ndarray, form: Form = "2,1", *, include: np.ndarray | None = None, level: float = 0.95
) -> Estimate:
    """Intraclass correlation, in Shrout and Fleiss's six forms (1979, doi:10.1037/0033-2909.86.2.420).

    - "1,1": one-way; every subject has readers of its own. McGraw and Wong's (1996) ICC(1)
    - "2,1": two-way, readers random, absolute agreement: ICC(A,1). What two readers of one study need
    - "3,1": two-way, these readers only, consistency (a constant shift between readers does not count): ICC(C,1)
    - "1,k", "2,k", "3,k": the same for the mean of the k readings

    Limits are exact for forms 1 and 3 and Satterthwaite's for form 2, as R's psych::ICC. statistic is F against zero,
    with the numerator's df. ratings (..., n, k); subjects with a missing reading are left out, with a caution.
    include (..., n). Raises ClaimError where the form is unknown or there are fewer than two readings.

    >>> judges = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    >>> [round(float(intraclass(judges, form).estimate), 2) for form in FORMS]
    [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]
    """
    if form not in FORMS:
        raise ClaimError(f"The form is '{form}'; choose {', '.join(map(repr, FORMS[:-1]))} or '3,k'.")
    squares = mean_squares(ratings, include)
    n, k = np.asarray(squares.n, float), squares.k
    few = n < 2
    n = np.where(few, 2.0, n)
    noise = squares.within if form[0] == "1" else squares.rest
    df = (n - 1, n * (k - 1) if form[0] == "1" else (n - 1) * (k - 1))
    flat = (squares.subjects <= 0) & (noise <= 0)
    perfect = (noise <= 0) & ~flat
    ratio = np.where(noise > 0, squares.subjects / np.where(noise > 0, noise, 1.0), np.inf)
    if form[0] == "2":
        single, low, high = _absolute(squares, n, level)
    else:
        single = _from_ratio(ratio, k)
        low = _from_ratio(ratio / special.fdtri(*df, (1 + level) / 2), k)
        high = _from_ratio(ratio * special.fdtri(df[1], df[0], (1 + level) / 2), k)
    values = [single, low, high]
    if form.endswith("k"):
        with np.errstate(divide="ignore", invalid="ignore"):
            values = [np.where(np.isfinite(one), k * one / (1 + (k - 1) * one), one) for one in values]
    bad = few | flat
    p = np.where(perfect, 0.0, special.fdtrc(*df, np.where(np.isfinite(ratio), ratio, 0.0)))
    estimate, lower, upper, statistic, p = (np.where(bad, np.nan, one) for one in (*values, ratio, p))
    warnings = squares.warnings | flag(few, Caution.TOO_FEW) | flag(flat & ~few, Caution.CONSTANT_OUTCOME)
    warnings = warnings | flag(perfect & ~few, Caution.AT_BOUNDARY)
    none = np.full(np.shape(p), np.nan)
    return Estimate(
        estimate, none, lower, upper, statistic, np.where(bad, np.nan, df[0]), p, squares.n, warnings, level
    )


def concordance(
    first: np.ndarray, second: np.ndarray, *, include: np.ndarray | None = None, level: float = 0.95
) -> Estimate:
    """Lin's concordance correlation (1989, doi:10.2307/2532051): 2 s12 / (s1² + s2² + (mean1 - mean2)²).

    Moments with divisor n; variance and Fisher z interval as Lin's (with his correction of 2000) and R's epiR::epi.ccc;
    se is that of the coefficient. first and second (..., n).

    >>> result = concordance(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1.1, 2.3, 2.9, 4.2, 5.3]))
    >>> round(float(result.estimate), 4), round(float(result.lower), 4)
    (0.9885, 0.9159)
    """
    x, y, kept, missing = _paired(first, second, include)
    n = kept.sum(-1)
    x, mean_x = _deviations(x, kept)
    y, mean_y = _deviations(y, kept)
    size = np.maximum(n, 1)
    sx, sy, sxy = np.vecdot(x, x) / size, np.vecdot(y, y) / size, np.vecdot(x, y) / size
    total = sx + sy + (mean_x - mean_y) ** 2
    good = (sx > 0) & (sy > 0) & (n > 2)
    one = np.where(good, 1.0, np.nan)
    rho = 2 * sxy / np.where(good, total, np.nan)
    r = sxy / np.sqrt(np.where(good, sx * sy, np.nan))
    u2 = (mean_x - mean_y) ** 2 / np.sqrt(np.where(good, sx * sy, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = (
            (1 - r**2) * rho**2 * (1 - rho**2) / r**2 + 2 * rho**3 * (1 - rho) * u2 / r - rho**4 * u2**2 / (2 * r**2)
        )
    perfect = good & (np.abs(rho) >= 1 - 1e-15)
    known = good & np.isfinite(inner) & (inner > 0) & ~perfect
    se = np.where(known, np.sqrt(np.where(known, inner, 1.0) / np.maximum(n - 2, 1)), np.nan)
    half = critical(level) * se / (1 - np.where(known, rho, 0.0) ** 2)
    z = np.arctanh(np.where(known, rho, 0.0))
    warnings = missing | flag(n < 3, Caution.TOO_FEW) | flag(~good & (n > 2), Caution.CONSTANT_OUTCOME)
    warnings = warnings | flag(good & ~known, Caution.AT_BOUNDARY)
    none = np.full(np.shape(rho), np.nan)
    return Estimate(rho * one, se, np.tanh(z - half), np.tanh(z + half), none, none, none, n, warnings, level)


def kappa(
    first: np.ndarray,
    second: np.ndarray,
    *,
    categories: int | None = None,
    weights: KappaWeights = "none",
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Cohen's kappa of two readers' categories, plain (1960) or weighted (1968; linear or quadratic disagreement).

    Large-sample variance by Fleiss, Cohen and Everitt (1969), as R's psych::cohen.kappa; the test is against zero with
    the variance under no agreement beyond chance. first and second (..., n) whole codes from 0, negative or NaN where
    not read. Raises ClaimError where a name is unknown.

    >>> result = kappa(np.array([0, 0, 1, 1, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    >>> round(float(result.estimate), 4), round(float(result.se), 4)
    (0.75, 0.2264)
    """
    if weights not in ("none", "linear", "quadratic"):
        raise ClaimError(f"The weights are '{weights}'; choose 'none', 'linear' or 'quadratic'.")
    one, other = (np.asarray(values, float) for values in (first, second))
    one, other = (np.where(values >= 0, values, np.nan) for values in (one, other))
    x, y, kept, missing = _paired(one, other, include)
    count = int(max(x.max(initial=0), y.max(initial=0))) + 1 if categories is None else categories
    n = kept.sum(-1)
    cells = np.stack([(kept & (x == i) & (y == j)).sum(-1) for i in range(count) for j in range(count)], -1)
    share = cells.reshape(*n.shape, count, count) / np.maximum(n, 1)[..., None, None]
    value, variance, under_null, chance = _kappa_moments(share, _agreement_weights(count, weights), n)
    good = (n > 1) & (chance < 1)
    known, tested = good & (variance > 0), good & (under_null > 0)
    se = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)
    statistic = np.where(tested, value / np.sqrt(np.where(tested, under_null, 1.0)), np.nan)
    value = np.where(good, value, np.nan)
    half = critical(level) * se
    warnings = missing | flag(n < 2, Caution.TOO_FEW) | flag(~good & (n > 1), Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(good & ~known, Caution.AT_BOUNDARY)
    df = np.full(np.shape(value), np.inf)
    return Estimate(
        value, se, value - half, np.minimum(value + half, 1.0), statistic, df, two_sided(statistic), n, warnings, level
    )


def repeatability(readings: np.ndarray, *, include: np.ndarray | None = None, level: float = 0.95) -> Repeatability:
    """Within-subject standard deviation, repeatability coefficient and coefficients of variation of repeat readings.

    Within-subject variance is pooled over subjects (one-way analysis of variance), sum (m - 1) degrees of freedom,
    chi-square limits (Bland and Altman 1996, doi:10.1136/bmj.313.7059.744); the coefficient is 1.96 sqrt(2) times its
    root (ISO 5725, QIBA). cv_rms is the root of the mean over subjects of variance / mean², with Bland's normal interval
    of that mean; cv_log = exp(s) - 1 with s the within-subject standard deviation of logarithms. readings (..., n, m),
    NaN where a reading is missing; subjects with fewer than two do not count. include (..., n).

    >>> found = repeatability(np.array([[2.0, 2.2], [3.1, 2.9], [1.8, 1.8], [2.5, 2.8]]))
    >>> [round(float(one.estimate), 4) for one in found]
    [0.1458, 0.4041, 0.0574, 0.0591]
    """
    readings = np.asarray(readings, float)
    if readings.ndim < 2 or readings.shape[-1] < 2:
        raise ClaimError(
            "Repeatability needs at least two readings a subject: an array (..., n, m) with m of 2 or more."
        )
    asked = np.ones(readings.shape[:-1], bool) if include is None else np.asarray(include, bool)
    mean, square, count, kept = _within(readings, asked)
    df, n = np.where(kept, count - 1, 0).sum(-1), kept.sum(-1)
    warnings = flag((asked & ~np.isfinite(readings).all(-1)).any(-1), Caution.MISSING) | flag(df < 1, Caution.TOO_FEW)
    sd = _spread(np.where(kept, square, 0.0).sum(-1), df, n, warnings, level)
    coefficient = _scaled(sd, float(critical(0.95)) * np.sqrt(2))
    positive = kept & (mean > 0)
    share = np.where(positive, square / np.maximum(count - 1, 1) / np.where(positive, mean, 1.0) ** 2, 0.0)
    unusable = flag((kept & ~positive).any(-1), Caution.NOT_POSITIVE)
    rms = _root_mean_square(share, positive, warnings | unusable, level)
    logs = np.log(np.where(readings > 0, readings, np.nan), where=readings > 0, out=np.full(readings.shape, np.nan))
    _, log_square, log_count, log_kept = _within(logs, asked)
    log_df = np.where(log_kept, log_count - 1, 0).sum(-1)
    refused = flag((asked[..., None] & (readings <= 0)).any((-1, -2)), Caution.NOT_POSITIVE)
    log_sd = _spread(np.where(log_kept, log_square, 0.0).sum(-1), log_df, log_kept.sum(-1), warnings | refused, level)
    cv_log = log_sd._replace(
        **{name: np.expm1(getattr(log_sd, name)) for name in ("estimate", "lower", "upper")},
        se=log_sd.se * np.exp(log_sd.estimate),
    )
    return Repeatability(sd, coefficient, rms, cv_log)


def mean_squares(ratings: np.ndarray, include: np.ndarray | None = None) -> MeanSquares:
    """The analysis of variance of complete ratings (..., n, k).

    >>> squares = mean_squares(np.array([[1.0, 2.0], [3.0, 5.0]]))
    >>> float(squares.subjects), float(squares.within)
    (6.25, 1.25)
    """
    ratings = np.asarray(ratings, float)
    if ratings.ndim < 2 or ratings.shape[-1] < 2:
        raise ClaimError("Agreement needs ratings (..., n, k): a row for each subject, with two readings or more.")
    asked = np.ones(ratings.shape[:-1], bool) if include is None else np.asarray(include, bool)
    kept = asked & np.isfinite(ratings).all(-1)
    k, n = ratings.shape[-1], kept.sum(-1)
    size = np.maximum(n, 1)[..., None]
    values = np.where(kept[..., None], ratings, 0.0)
    values = np.where(kept[..., None], values - (values.mean(-1).sum(-1) / size[..., 0])[..., None, None], 0.0)
    by_subject, by_rater = values.mean(-1), values.sum(-2) / size
    between = k * np.sum(by_subject**2, -1)
    raters = np.sum(by_rater**2, -1) * n
    within = np.sum(np.where(kept[..., None], values - by_subject[..., None], 0.0) ** 2, (-1, -2))
    rest_values = values - by_subject[..., None] - by_rater[..., None, :]
    rest = np.sum(np.where(kept[..., None], rest_values, 0.0) ** 2, (-1, -2))
    scale = np.max(np.abs(np.where(kept[..., None], ratings, 0.0)), (-1, -2), initial=0.0)
    tiny = (1e-14 * scale) ** 2 * size[..., 0] * k
    between, raters, within, rest = (np.where(one <= tiny, 0.0, one) for one in (between, raters, within, rest))
    less = np.maximum(n - 1, 1)
    warnings = flag((asked & ~kept).any(-1), Caution.MISSING)
    return MeanSquares(
        between / less, within / (size[..., 0] * (k - 1)), raters / (k - 1), rest / (less * (k - 1)), n, k, warnings
    )


def _from_ratio(ratio: np.ndarray, k: int) -> np.ndarray:
    """(F - 1) / (F + k - 1); 1 where F is infinite."""
    finite = np.isfinite(ratio)
    value = np.where(finite, ratio, 1.0)
    return np.where(finite, (value - 1) / (value + k - 1), 1.0)


def _absolute(squares: MeanSquares, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ICC(2,1) with limits by Satterthwaite's degrees of freedom (Shrout and Fleiss 1979; McGraw and Wong 1996)."""
    b, j, e, k = squares.subjects, squares.raters, squares.rest, squares.k
    bottom = b + (k - 1) * e + k * (j - e) / n
    value = np.where(bottom > 0, (b - e) / np.where(bottom > 0, bottom, 1.0), np.nan)
    # times e², so that perfect consistency (e = 0) needs no division
    part, other = k * value * j, (n * (1 + (k - 1) * value) - k * value) * e
    below = (n - 1) * part**2 + other**2
    df = (k - 1) * (n - 1) * (part + other) ** 2 / np.where(below > 0, below, 1.0)
    usable = (below > 0) & np.isfinite(value) & (df > 0)
    df = np.where(usable, df, 1.0)
    upper_f, lower_f = special.fdtri(n - 1, df, (1 + level) / 2), special.fdtri(df, n - 1, (1 + level) / 2)
    shared = k * j + (k * n - k - n) * e
    low = n * (b - upper_f * e) / np.where(usable, upper_f * shared + n * b, 1.0)
    high = n * (lower_f * b - e) / np.where(usable, shared + n * lower_f * b, 1.0)
    same = np.isfinite(value) & (j == 0) & (e == 0)
    return (
        value,
        np.where(usable, low, np.where(same, value, np.nan)),
        np.where(usable, high, np.where(same, value, np.nan)),
    )


def _agreement_weights(count: int, kind: str) -> np.ndarray:
    distance = np.abs(np.subtract.outer(np.arange(count), np.arange(count))).astype(float)
    if kind == "none":
        return (distance == 0).astype(float)
    return 1 - (distance / max(count - 1, 1)) ** (1 if kind == "linear" else 2)


def _kappa_moments(
    share: np.ndarray, weight: np.ndarray, n: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Kappa, its variance, its variance without agreement beyond chance, and the agreement by chance."""
    row, column = share.sum(-1), share.sum(-2)
    product = row[..., :, None] * column[..., None, :]
    seen, chance = (weight * share).sum((-1, -2)), (weight * product).sum((-1, -2))
    room = np.where(chance < 1, 1 - chance, 1.0)
    value = (seen - chance) / room
    by_row, by_column = column @ weight.T, row @ weight
    means = by_row[..., :, None] + by_column[..., None, :]
    inner = (share * (weight * room[..., None, None] - means * (1 - seen)[..., None, None]) ** 2).sum((-1, -2))
    size = np.maximum(n, 1)
    variance = (inner - (seen * chance - 2 * chance + seen) ** 2) / (size * room**4)
    null = ((product * (weight - means) ** 2).sum((-1, -2)) - chance**2) / (size * room**2)
    return value, np.where(variance > 1e-15, variance, 0.0), np.where(null > 1e-15, null, 0.0), chance


def _paired(
    first: np.ndarray, second: np.ndarray, include: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two readings of each subject, zero where not both are there, who is kept, and a caution where one is missing."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim == 0 or first.shape[-1:] != second.shape[-1:]:
        raise ClaimError(f"The two readings have shapes {first.shape} and {second.shape}; each subject needs both.")
    first, second = np.broadcast_arrays(first, second)
    asked = np.ones(first.shape, bool) if include is None else np.broadcast_to(np.asarray(include, bool), first.shape)
    kept = asked & np.isfinite(first) & np.isfinite(second)
    missing = flag((asked & ~kept).any(-1), Caution.MISSING)
    return np.where(kept, first, 0.0), np.where(kept, second, 0.0), kept, missing


def _deviations(values: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = values.sum(-1) / np.maximum(kept.sum(-1), 1)
    centred = np.where(kept, values - mean[..., None], 0.0)
    flat = np.abs(centred).max(-1, initial=0.0) <= 1e-12 * np.abs(values).max(-1, initial=0.0)
    return np.where(flat[..., None], 0.0, centred), mean


def _within(readings: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, sum of squares about it and number of each subject's readings, and who has two or more."""
    there = np.isfinite(readings)
    count = there.sum(-1)
    kept = asked & (count > 1)
    mean = np.where(there, readings, 0.0).sum(-1) / np.maximum(count, 1)
    square = np.where(there, np.where(there, readings, 0.0) - mean[..., None], 0.0)
    return mean, np.sum(square**2, -1), count, kept


def _spread(square: np.ndarray, df: np.ndarray, n: np.ndarray, warnings: np.ndarray, level: float) -> Estimate:
    """A standard deviation from a sum of squares, with chi-square limits; se is s / sqrt(2 df)."""
    good = df > 0
    size = np.where(good, df, 1)
    sd = np.where(good, np.sqrt(square / size), np.nan)
    tail = (1 - level) / 2
    lower = sd * np.sqrt(size / special.chdtri(size, tail))
    upper = sd * np.sqrt(size / special.chdtri(size, 1 - tail))
    none = np.full(np.shape(sd), np.nan)
    se = np.where(sd > 0, sd / np.sqrt(2 * size), np.nan)
    warnings = warnings | flag(good & (square == 0), Caution.CONSTANT_OUTCOME)
    return Estimate(sd, se, lower, upper, none, np.where(good, df, np.nan), none, n, warnings, level)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    return estimate._replace(
        **{name: factor * getattr(estimate, name) for name in ("estimate", "se", "lower", "upper")}
    )


def _root_mean_square(share: np.ndarray, kept: np.ndarray, warnings: np.ndarray, level: float) -> Estimate:
    """Root of the mean of squared coefficients of variation, the interval from the normal one of their mean."""
    n = kept.sum(-1)
    mean = share.sum(-1) / np.maximum(n, 1)
    spread = np.where(kept, share - mean[..., None], 0.0)
    se = np.sqrt(np.sum(spread**2, -1) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    half = critical(level) * se
    value = np.where(n > 0, np.sqrt(mean), np.nan)
    known = (n > 1) & (value > 0)
    lower = np.where(known, np.sqrt(np.maximum(mean - half, 0.0)), np.nan)
    upper = np.where(known, np.sqrt(mean + half), np.nan)
    none = np.full(np.shape(value), np.nan)
    delta = np.where(known & (se > 0), se / (2 * np.where(known, value, 1.0)), np.nan)
    warnings = warnings | flag(n < 2, Caution.TOO_FEW) | flag((n > 1) & (value == 0), Caution.CONSTANT_OUTCOME)
    return Estimate(value, delta, lower, upper, none, none, none, n, warnings, level)

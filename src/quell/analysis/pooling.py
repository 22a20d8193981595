"""Many analyses of one incomplete trial made into one: Rubin's rules, and the jackknife.

Rubin's rules add to the mean variance of the completed-data analyses the variance between them; the jackknife leaves
out one subject at a time and repeats everything, imputation included. Under reference-based imputation they answer two
questions: Rubin's variance keeps the information that was lost (Cro, Carpenter and Kenward 2019,
doi:10.1111/rssa.12423); the jackknife's is how much the estimate varies from trial to trial (Wolbers et al. 2022,
doi:10.1002/pst.2234).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate

# Imputations are enough when their random error is below this share of the standard error (White et al. 2011).
TOLERATED_NOISE = 0.1


class Pooled(NamedTuple):
    """An estimate pooled over imputations, and where its variance comes from; every array is shaped (...).

    `within` is the mean variance of the analyses, `between` the variance of their estimates, `fraction_missing` the
    share of the information that the missing values held (Rubin 1987), and `monte_carlo` the standard error of the
    pooled estimate that more imputations would remove.
    """

    pooled: Estimate
    within: np.ndarray
    between: np.ndarray
    fraction_missing: np.ndarray
    monte_carlo: np.ndarray
    imputations: int


def rubin(
    estimate: np.ndarray,
    se: np.ndarray,
    *,
    df: np.ndarray | float = np.inf,
    n: np.ndarray | int = 0,
    warnings: np.ndarray | int = 0,
    level: float = 0.95,
) -> Pooled:
    """Pool the same analysis of m completed data sets by Rubin's rules, with the df of Barnard and Rubin (1999).

    Q = mean(estimate), W = mean(se²), B = var(estimate), T = W + (1 + 1/m) B, g = (1 + 1/m) B / T, and
    1/df = g² / (m - 1) + 1 / (df_obs), df_obs = (df + 1) / (df + 3) df (1 - g)   (doi:10.1093/biomet/86.4.948).

    estimate and se (..., m), one value per imputation; df (...) the degrees of freedom of the analysis were nothing
    missing (infinite gives Rubin's of 1987); n and warnings (...) pass through. Ratios are pooled as logarithms. Values
    that are not finite spoil their own trial only. Raises ClaimError where shapes differ.

    >>> result = rubin(np.array([1.0, 1.4, 1.2]), np.array([0.5, 0.6, 0.5]), df=40)
    >>> round(float(result.pooled.se), 4), round(float(result.pooled.df), 2), round(float(result.monte_carlo), 4)
    (0.5831, 23.04, 0.1155)
    """
    estimate, se = np.asarray(estimate, float), np.asarray(se, float)
    if estimate.ndim == 0 or estimate.shape != se.shape or estimate.shape[-1] == 0:
        raise ClaimError(
            f"The estimates have shape {estimate.shape} and their errors {se.shape}; give both as (..., m), one value "
            "per imputed data set, and at least one."
        )
    m = estimate.shape[-1]
    known = np.isfinite(estimate).all(-1) & np.isfinite(se).all(-1)
    estimate, se = np.where(known[..., None], estimate, 0.0), np.where(known[..., None], se, 1.0)
    mean, within = estimate.mean(-1), np.mean(se**2, -1)
    between = np.sum((estimate - mean[..., None]) ** 2, -1) / max(m - 1, 1)
    total = within + (1 + 1 / m) * between
    freedom, fraction = _freedom(within, between, total, m, np.broadcast_to(np.asarray(df, float), mean.shape))
    noise = np.sqrt(between / m)
    noisy = (noise > TOLERATED_NOISE * np.sqrt(total)) & known
    doubts = np.asarray(warnings) | flag(noisy | (m < 2), Caution.FEW_IMPUTATIONS)
    mean, total, within, between, fraction, noise = (
        np.where(known, value, np.nan) for value in (mean, total, within, between, fraction, noise)
    )
    se = np.full(mean.shape, np.nan) if m < 2 else np.sqrt(total)
    made = normal_estimate(mean, se, n, doubts, level, np.where(known, freedom, np.nan))
    return Pooled(made, within, between, fraction, noise, m)


def pool(analyses: Estimate, *, ratio: bool = False) -> Pooled:
    """`rubin` of an estimate whose last axis is the imputations, as any analysis of data (..., m, n) gives it.

    A ratio is pooled as its logarithm and handed back as a ratio. n is that of the first imputation and the cautions of
    all are kept.

    >>> from quell.analysis.means import ancova
    >>> completed = np.array([[1.0, 2.0, 4.0, 3.0, 5.0, 5.0], [1.0, 2.0, 4.0, 3.0, 6.0, 5.5]])
    >>> round(float(pool(ancova(completed, np.array([0, 0, 0, 1, 1, 1]))).pooled.estimate), 4)
    2.25
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.log(analyses.estimate) if ratio else np.asarray(analyses.estimate)
    freedom = np.asarray(analyses.df, float)
    freedom = np.where(np.isnan(freedom), np.inf, freedom).min(-1)
    doubts = np.bitwise_or.reduce(np.asarray(analyses.warnings), axis=-1)
    n = np.asarray(analyses.n)[..., 0]
    result = rubin(values, analyses.se, df=freedom, n=n, warnings=doubts, level=analyses.level)
    return result._replace(pooled=exponentiate(result.pooled)) if ratio else result


def jackknife(estimate: np.ndarray, without: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Standard error from leaving out one subject at a time: sqrt((n - 1)/n sum (theta_i - mean)²) (Efron 1982).

    without (..., n) are the estimates without subject i, kept (..., n) which subjects are in the analysis at all.
    Where one of them is not finite there is no error. `estimate` (...) only says whether there is one.

    >>> values = np.array([1.0, 2.0, 4.0, 5.0])
    >>> round(float(jackknife(values.mean(), (12 - values) / 3, np.ones(4, bool))), 4)
    0.9129
    """
    size = np.maximum(kept.sum(-1), 1)
    usable = np.isfinite(estimate) & (np.isfinite(without) | ~kept).all(-1) & (kept.sum(-1) > 1)
    values = np.where(kept & usable[..., None], without, 0.0)
    mean = values.sum(-1) / size
    squares = np.sum(np.where(kept, values - mean[..., None], 0.0) ** 2, -1)
    return np.where(usable, np.sqrt((size - 1) / size * squares), np.nan)


def _freedom(
    within: np.ndarray, between: np.ndarray, total: np.ndarray, m: int, df: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Barnard and Rubin's degrees of freedom, and Rubin's fraction of missing information."""
    share = (1 + 1 / m) * between / np.where(total > 0, total, 1.0)
    finite = np.where(np.isfinite(df), df, 1.0)
    observed = (finite + 1) / (finite + 3) * finite * (1 - share)
    with np.errstate(divide="ignore"):
        slow = share**2 / max(m - 1, 1) + np.where(np.isfinite(df), 1 / np.where(observed > 0, observed, np.nan), 0.0)
        freedom = 1 / slow
    ratio = share / np.where(share < 1, 1 - share, np.nan)
    with np.errstate(invalid="ignore"):
        fraction = (ratio + 2 / (freedom + 3)) / (ratio + 1)
    return freedom, np.where(between > 0, fraction, 0.0)

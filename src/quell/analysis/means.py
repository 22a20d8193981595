"""Differences of means: two samples, analysis of covariance, ratios of geometric means, dose trends, adjusted means.

Every function takes arrays shaped (..., n) with ... any batch of trials. Each estimate is one coefficient of a linear
model; its column is placed last and made orthogonal to all the others (Frisch-Waugh-Lovell), so that

    estimate = <u, y> / <u, u>,    u = the column's part that nothing else in the model explains,

which is accurate for ill-scaled covariates and says by itself whether the data determine the estimate (u = 0: they do
not). Orthogonalisation is Gram-Schmidt applied twice, as accurate as Householder QR (Giraud et al. 2005,
doi:10.1007/s00211-005-0615-4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import (
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
)

Covariance = Literal["classical", "HC2", "HC3"]

# A column whose unexplained part is smaller than this share of itself repeats the columns before it. R's lm uses 1e-7.
ALIASED = 1e-7
ROUNDING = 1e-12


class Subjects(NamedTuple):
    """The subjects of a linear model in one layout: float arrays with a shared batch shape, zero where not included."""

    outcome: np.ndarray
    arm: np.ndarray
    covariates: np.ndarray
    factors: tuple[np.ndarray, ...]
    include: np.ndarray
    warnings: np.ndarray


class Fit(NamedTuple):
    """The last coefficient of a linear model for each trial of a batch."""

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    n: np.ndarray
    warnings: np.ndarray


def ancova(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    level: float = 0.95,
    covariance: Covariance = "classical",
) -> Estimate:
    """Adjusted difference in means, active minus control, from outcome ~ arm + covariates + factors (least squares).

    The model is fitted to every arm in the data and the contrast (active, control) taken from it, with Student's t on
    n - rank degrees of freedom. `covariance` HC2 and HC3 are heteroscedasticity-consistent (MacKinnon and White 1985,
    doi:10.1016/0304-4076(85)90158-7).

    outcome (..., n); arm (..., n) whole codes, a negative code is no arm; covariates (..., n, p); factors: whole codes,
    each (..., n); include (..., n) true where the subject belongs to the analysis. Subjects with a missing value are
    left out and the estimate says so. Raises ClaimError where shapes do not match.

    >>> result = ancova(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(float(result.estimate), 4), round(float(result.p), 4), int(result.df)
    (1.1667, 0.2761, 4)
    """
    subjects = _subjects(outcome, arm, covariates, factors, include)
    active, control = _pair(contrast)
    others = [code for code in _codes(subjects.arm) if code not in (active, control)]
    columns = [subjects.include.astype(float), *_covariate_columns(subjects), *_factor_columns(subjects)]
    columns += [(subjects.arm == code).astype(float) for code in others]
    fit = _last_coefficient(subjects, [*columns, (subjects.arm == active).astype(float)], covariance)
    empty = ~(subjects.arm == active).any(-1) | ~(subjects.arm == control).any(-1)
    return _estimate(fit, level, flag(empty, Caution.EMPTY_ARM))


def slope(
    outcome: np.ndarray,
    dose: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    level: float = 0.95,
    covariance: Covariance = "classical",
) -> Estimate:
    """Change in the mean outcome per unit of dose, from outcome ~ dose + covariates + factors (least squares).

    The test of this slope is the usual test for a linear dose response. dose (..., n) is a number (mg, MIU, ...); the
    other arguments, and what is raised, are as in `ancova`.

    >>> result = slope(np.array([1.0, 1.2, 2.0, 2.1, 3.2, 2.9]), np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0]))
    >>> round(float(result.estimate), 4)
    0.975
    """
    dosed = np.asarray(dose, float)[..., None]
    joined = dosed if covariates is None else np.concatenate(np.broadcast_arrays(dosed, covariates[..., :1]), -1)
    if covariates is not None:
        joined = np.concatenate([joined[..., :1], np.broadcast_to(covariates, (*joined.shape[:-1], covariates.shape[-1]))], -1)
    subjects = _subjects(outcome, np.zeros(np.shape(dose), int), joined, factors, include)
    first, *rest = _covariate_columns(subjects)
    columns = [subjects.include.astype(float), *rest, *_factor_columns(subjects), first]
    return _estimate(_last_coefficient(subjects, columns, covariance), level, 0)


def ls_means(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    level: float = 0.95,
    weights: Literal["equal", "observed"] = "equal",
) -> Estimate:
    """Adjusted (least-squares) mean of each arm, from outcome ~ arm + covariates + factors.

    Covariates are held at their mean over the analysis; factor levels are weighted equally, as SAS LSMEANS and R
    emmeans do, or as observed. Fields of the result are shaped (..., arms): codes 0 to the largest in the data. The p
    tests a mean of zero. Arguments, and what is raised, are as in `ancova`.

    >>> result = ls_means(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> result.estimate.round(4).tolist()
    [2.0, 3.1667]
    """
    subjects = _subjects(outcome, arm, covariates, factors, include)
    nuisance = [*_covariate_columns(subjects), *_factor_columns(subjects, weights)]
    codes = range(max(_codes(subjects.arm), default=0) + 1)
    fits = [_estimate(_arm_mean(subjects, nuisance, code, codes), level, _empty(subjects, code)) for code in codes]
    stacked = [np.stack([np.asarray(fit[k]) for fit in fits], -1) for k in range(len(fits[0]) - 1)]
    return Estimate(*stacked, level=level)


def two_sample(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
    equal_variance: bool = False,
) -> Estimate:
    """Unadjusted difference in means, active minus control: Welch's t test, or Student's where variances are equal.

    Welch: se² = s1²/n1 + s0²/n0 with Satterthwaite's degrees of freedom (Welch 1947, doi:10.1093/biomet/34.1-2.28).
    outcome, arm and include (..., n). Only the two arms of the contrast are used. Raises ClaimError where shapes do not
    match.

    >>> result = two_sample(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(float(result.estimate), 4), round(float(result.df), 3)
    (1.1667, 3.779)
    """
    subjects = _subjects(outcome, arm, None, (), include)
    active, control = _pair(contrast)
    n1, mean1, square1 = _moments(subjects, active)
    n0, mean0, square0 = _moments(subjects, control)
    with np.errstate(divide="ignore", invalid="ignore"):
        if equal_variance:
            df = n1 + n0 - 2.0
            variance = (square1 + square0) / df * (1 / n1 + 1 / n0)
        else:
            part1, part0 = square1 / (n1 - 1) / n1, square0 / (n0 - 1) / n0
            variance = part1 + part0
            df = variance**2 / (part1**2 / (n1 - 1) + part0**2 / (n0 - 1))
    scale = np.maximum(np.abs(mean1), np.abs(mean0))
    constant = square1 + square0 <= (ROUNDING * scale) ** 2 * (n1 + n0)
    few = (n1 + n0 < 3) if equal_variance else (np.minimum(n1, n0) < 2)
    empty = np.minimum(n1, n0) == 0
    bad = few | constant | empty
    warnings = subjects.warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(few & ~empty, Caution.TOO_FEW) | flag(constant & ~few, Caution.CONSTANT_OUTCOME)
    se = np.where(bad, np.nan, np.sqrt(np.where(bad, 1.0, variance)))
    return normal_estimate(mean1 - mean0, se, n1 + n0, warnings, level, np.where(bad, np.nan, df))


def geometric_ratio(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    baseline: np.ndarray | None = None,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Adjusted ratio of geometric means, active over control: `ancova` of log outcome with log baseline, exponentiated.

    log outcome ~ arm + log baseline + covariates + factors; estimate and limits are exponentiated, se is that of the
    log ratio. outcome and baseline (..., n) are positive; subjects with a value of zero or less are left out and the
    estimate says so. Other arguments, and what is raised, are as in `ancova`.

    >>> result = geometric_ratio(np.array([1.0, 2.0, 4.0, 2.0, 4.0, 8.0]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(float(result.estimate), 4)
    2.0
    """
    logged, fails = _log(outcome, include, arm)
    if baseline is not None:
        log_baseline, baseline_fails = _log(baseline, include, arm)
        fails = fails | baseline_fails
        extra = np.broadcast_to(log_baseline, logged.shape)[..., None]
        covariates = extra if covariates is None else np.concatenate([extra, np.broadcast_to(
            covariates, (*extra.shape[:-1], np.shape(covariates)[-1]))], -1)
    result = ancova(
        logged, arm, contrast=contrast, covariates=covariates, factors=factors,
        include=~fails if include is None else np.asarray(include, bool) & ~fails, level=level,
    )
    return exponentiate(result._replace(warnings=result.warnings | flag(fails.any(-1), Caution.NOT_POSITIVE)))

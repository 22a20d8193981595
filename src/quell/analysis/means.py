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
    exponentiate,
    flag,
    normal_estimate,
    stack,
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
    (1.1667, 0.2771, 4)
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
    joined = _beside(np.asarray(dose, float), covariates)
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
    return stack(fits)


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
    (1.1667, 3.806)
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
    logged, fails = _log(outcome, arm, include)
    if baseline is not None:
        log_baseline, baseline_fails = _log(baseline, arm, include)
        fails = fails | baseline_fails
        covariates = _beside(log_baseline, covariates)
    result = ancova(
        logged,
        arm,
        contrast=contrast,
        covariates=covariates,
        factors=factors,
        include=~fails if include is None else np.asarray(include, bool) & ~fails,
        level=level,
    )
    return exponentiate(result._replace(warnings=result.warnings | flag(fails.any(-1), Caution.NOT_POSITIVE)))


def _subjects(
    outcome: np.ndarray,
    arm: np.ndarray,
    covariates: np.ndarray | None,
    factors: Sequence[np.ndarray],
    include: np.ndarray | None,
) -> Subjects:
    """One layout for all: included subjects with every value present; covariates centred; the rest set to zero."""
    outcome = np.asarray(outcome, float)
    covariates = np.zeros((*outcome.shape, 0)) if covariates is None else np.asarray(covariates, float)
    if covariates.ndim == 0 or covariates.shape[-2:-1] != outcome.shape[-1:]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but the outcome has {outcome.shape}; give covariates as "
            "(..., n, p): one row per subject and one column per covariate, also where there is only one."
        )
    codes = [_whole(values) for values in (arm, *factors)]
    asked = np.ones(outcome.shape, bool) if include is None else np.asarray(include, bool)
    try:
        outcome, asked, *codes = np.broadcast_arrays(outcome, asked, *codes)
        covariates = np.broadcast_to(covariates, (*outcome.shape, covariates.shape[-1]))
    except ValueError:
        shapes = ", ".join(str(np.shape(values)) for values in (outcome, asked, *codes, covariates))
        raise ClaimError(
            f"The outcome, include, arm, factors and covariates have shapes {shapes}, which do not fit together; "
            "each needs the same trials and subjects."
        ) from None
    asked = asked & (codes[0] >= 0)
    present = np.isfinite(outcome) & np.isfinite(covariates).all(-1)
    for factor in codes[1:]:
        present = present & (factor >= 0)
    kept = asked & present
    centred, constant = _centre(covariates, kept)
    warnings = flag((asked & ~present).any(-1), Caution.MISSING) | flag(constant, Caution.SINGULAR)
    arm_codes, *factor_codes = (np.where(kept, values, -1) for values in codes)
    return Subjects(np.where(kept, outcome, 0.0), arm_codes, centred, tuple(factor_codes), kept, warnings)


def _whole(values: np.ndarray) -> np.ndarray:
    """Whole-number codes; what is not finite becomes -1 (no arm, missing level)."""
    values = np.asarray(values)
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    if values.dtype.kind != "f":
        raise ClaimError("Arms and factors are whole codes 0, 1, 2, ...; number the labels first.")
    return np.where(np.isfinite(values), values, -1).astype(np.int64)


def _centre(covariates: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariates minus their mean over the kept subjects, zero elsewhere; and whether any does not vary at all."""
    weight = kept[..., None]
    size = np.maximum(kept.sum(-1), 1)[..., None, None]
    centred = np.where(weight, covariates, 0.0)
    largest = np.abs(centred).max(-2, keepdims=True, initial=0.0)
    for _ in range(2):
        centred = np.where(weight, centred - centred.sum(-2, keepdims=True) / size, 0.0)
    still = np.abs(centred).max(-2, keepdims=True, initial=0.0) <= ROUNDING * largest
    return np.where(still, 0.0, centred), still.any((-1, -2)) & kept.any(-1)


def _beside(first: np.ndarray, covariates: np.ndarray | None) -> np.ndarray:
    """One more covariate, put before the others: (..., n) and (..., n, p) make (..., n, p + 1)."""
    first = first[..., None]
    if covariates is None:
        return first
    covariates = np.asarray(covariates, float)
    batch = np.broadcast_shapes(first.shape[:-1], covariates.shape[:-1])
    parts = (np.broadcast_to(part, (*batch, part.shape[-1])) for part in (first, covariates))
    return np.concatenate(list(parts), -1)


def _pair(contrast: tuple[int, int]) -> tuple[int, int]:
    active, control = (int(code) for code in contrast)
    if active == control or min(active, control) < 0:
        raise ClaimError(f"The contrast is {contrast}; it needs two different arm codes, (active, control), from 0 up.")
    return active, control


def _codes(values: np.ndarray) -> list[int]:
    """The codes in use anywhere in the batch."""
    return [int(code) for code in np.unique(values) if code >= 0]


def _covariate_columns(subjects: Subjects) -> list[np.ndarray]:
    return list(np.moveaxis(subjects.covariates, -1, 0))


def _factor_columns(subjects: Subjects, weights: str = "indicator") -> list[np.ndarray]:
    """Columns for every level but each trial's own first; coded so that zero means the reference, or the average level.

    weights: "indicator" (reference level), "equal" (average over levels) or "observed" (average over subjects).
    """
    columns = []
    for factor in subjects.factors:
        levels = _codes(factor)
        first = np.where(factor >= 0, factor, np.iinfo(np.int64).max).min(
            -1, keepdims=True, initial=np.iinfo(np.int64).max
        )
        reference = (factor == first).astype(float)
        for code in levels[1:]:
            column = (factor == code).astype(float)
            here = column.any(-1, keepdims=True) & (first != code)
            if weights == "equal":
                column = column - reference
            elif weights == "observed":
                share = column.sum(-1, keepdims=True) / np.maximum(subjects.include.sum(-1, keepdims=True), 1)
                column = np.where(subjects.include, column - share, 0.0)
            columns.append(np.where(here, column, 0.0))
    return columns


def _last_coefficient(subjects: Subjects, columns: Sequence[np.ndarray], covariance: str = "classical") -> Fit:
    """Least-squares coefficient of the last column given all the others, with its standard error."""
    basis, norm, rank, dropped = _orthogonalise(columns)
    residual = _residual(subjects.outcome, basis[..., :-1, :])
    last = basis[..., -1, :]
    along = np.sum(last * residual, -1)
    residual = _residual(residual, basis)
    n = subjects.include.sum(-1)
    df = n - rank
    sum_of_squares = np.sum(residual**2, -1)
    constant = sum_of_squares <= ROUNDING**2 * np.sum(subjects.outcome**2, -1)
    estimable, few = norm > 0, df <= 0
    safe_norm = np.where(estimable, norm, 1.0)
    if covariance == "classical":
        variance = sum_of_squares / np.maximum(df, 1) / safe_norm**2
    else:
        variance, undetermined = _sandwich(last, residual, np.sum(basis**2, -2), covariance)
        variance, few = variance / safe_norm**2, few | undetermined
    warnings = subjects.warnings | flag(dropped, Caution.SINGULAR) | flag(~estimable, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(few, Caution.TOO_FEW) | flag(constant & ~few, Caution.CONSTANT_OUTCOME)
    bad = few | constant | ~estimable
    se = np.where(bad, np.nan, np.sqrt(np.where(bad, 1.0, variance)))
    return Fit(np.where(estimable, along / safe_norm, np.nan), se, np.where(bad, np.nan, df), n, warnings)


def _orthogonalise(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Orthonormal rows spanning the columns in order (aliased ones zero), the last one's norm, rank, any dropped."""
    batch, n = columns[0].shape[:-1], columns[0].shape[-1]
    basis = np.zeros((*batch, len(columns), n))
    rank, dropped = np.zeros(batch, int), np.zeros(batch, bool)
    norm = np.zeros(batch)
    for k, column in enumerate(columns):
        size = np.sqrt(np.sum(column**2, -1))
        rest = _residual(column, basis[..., :k, :])
        norm = np.sqrt(np.sum(rest**2, -1))
        aliased = norm <= ALIASED * size
        norm = np.where(aliased, 0.0, norm)
        basis[..., k, :] = np.where(aliased, 0.0, 1.0)[..., None] * rest / np.where(aliased, 1.0, norm)[..., None]
        rank = rank + ~aliased
        dropped = dropped | (aliased & (size > 0) & (k < len(columns) - 1))
    return basis, norm, rank, dropped


def _residual(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What an orthonormal basis (..., q, n) leaves unexplained of the values (..., n); projected out twice."""
    for _ in range(2):
        values = values - np.squeeze(np.swapaxes(basis, -1, -2) @ (basis @ values[..., None]), -1)
    return values


def _sandwich(
    last: np.ndarray, residual: np.ndarray, leverage: np.ndarray, covariance: str
) -> tuple[np.ndarray, np.ndarray]:
    """HC2 or HC3 variance of <last, y>; undetermined where a subject of weight is fitted exactly (leverage 1)."""
    powers = {"HC2": 1, "HC3": 2}
    if covariance not in powers:
        raise ClaimError(f"The covariance is '{covariance}'; choose 'classical', 'HC2' or 'HC3'.")
    fixed = leverage >= 1 - 1e-9
    room = np.where(fixed, 1.0, 1 - leverage) ** powers[covariance]
    undetermined = (fixed & (np.abs(last) > 1e-9)).any(-1)
    return np.sum(np.where(fixed, 0.0, last**2 * residual**2 / room), -1), undetermined


def _arm_mean(subjects: Subjects, nuisance: list[np.ndarray], code: int, codes: Sequence[int]) -> Fit:
    """With this arm as reference and every other column zero at its average, the intercept is the adjusted mean."""
    others = [(subjects.arm == other).astype(float) for other in codes if other != code]
    return _last_coefficient(subjects, [*nuisance, *others, subjects.include.astype(float)])


def _empty(subjects: Subjects, code: int) -> np.ndarray:
    return flag(~(subjects.arm == code).any(-1), Caution.EMPTY_ARM)


def _moments(subjects: Subjects, code: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and sum of squares about the mean of one arm."""
    member = subjects.arm == code
    n = member.sum(-1)
    mean = np.where(n > 0, np.sum(np.where(member, subjects.outcome, 0.0), -1) / np.maximum(n, 1), np.nan)
    deviation = np.where(member, subjects.outcome - np.nan_to_num(mean)[..., None], 0.0)
    return n, mean, np.sum(deviation**2, -1)


def _log(values: np.ndarray, arm: np.ndarray, include: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms, and which included subjects have none because their value is zero or less."""
    values = np.asarray(values, float)
    asked = _whole(arm) >= 0 if include is None else np.asarray(include, bool) & (_whole(arm) >= 0)
    fails = asked & (values <= 0)
    return np.log(np.where(values > 0, values, np.where(np.isnan(values), np.nan, 1.0))), fails


def _estimate(fit: Fit, level: float, warnings: np.ndarray | int) -> Estimate:
    return normal_estimate(fit.estimate, fit.se, fit.n, fit.warnings | warnings, level, fit.df)

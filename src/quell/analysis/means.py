"""Differences of means: two samples, analysis of covariance, ratios of geometric means, dose trends, adjusted means.

Every function takes arrays shaped (..., n) with ... any batch of trials. The adjusted ones are linear combinations of
the coefficients of a linear model (`linear_model`); `arm_model` has those whose effects differ between arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from quell.analysis.arm_model import ByArm, Weights, arm_model, arm_model_of, single
from quell.analysis.claim import Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate
from quell.analysis.codes import codes_of, two_arms, whole
from quell.analysis.linear_model import (
    ROUNDING,
    Covariance,
    Subjects,
    in_blocks,
    least_squares,
    level_columns,
    subjects,
)

__all__ = [
    "ByArm",
    "ancova",
    "arm_model",
    "arm_test",
    "as_percent",
    "change",
    "geometric_ratio",
    "ls_means",
    "slope",
    "two_sample",
]

Scale = Literal["difference", "percent", "log ratio"]


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
    cluster: np.ndarray | None = None,
) -> Estimate:
    """Adjusted difference in means, active minus control, from outcome ~ arm + covariates + factors (least squares).

    The model is fitted to every arm in the data and the contrast (active, control) taken from it, with Student's t on
    n - rank degrees of freedom. Strata of the randomisation are factors. `covariance` HC0 to HC4 are consistent under
    unequal variances, CR0, CR1 and CR1S also under clusters (with `cluster`): see `arm_model`.

    outcome (..., n); arm (..., n) whole codes, a negative code is no arm; covariates (..., n, p); factors: whole codes,
    each (..., n); include (..., n) true where the subject belongs to the analysis. Subjects with a missing value are
    left out and the estimate says so. Raises ClaimError where shapes do not match.

    >>> result = ancova(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(float(result.estimate), 4), round(float(result.p), 4), int(result.df)
    (1.1667, 0.2771, 4)
    """
    active, control = two_arms(contrast)

    def estimate(outcome, arm, covariates, include, cluster, *factors):
        people = subjects(outcome, arm, covariates, factors, include, cluster)
        codes = [active, control, *(code for code in codes_of(people.arm) if code not in (active, control))]
        members = [(people.arm == code).astype(float) for code in codes]
        fit = least_squares(people, [*members, *_adjusters(people)], covariance, len(codes))
        row = np.zeros((1, len(fit.basis)))
        row[0, :2] = 1.0, -1.0
        empty = (fit.triangle[..., 0, 0] == 0) | (fit.triangle[..., 1, 1] == 0)
        return single(fit.combination(row, level), empty)

    return in_blocks(estimate, [outcome, arm, covariates, include, cluster, *factors])


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
    people = subjects(outcome, np.zeros(np.shape(dose), int), joined, factors, include)
    fit = least_squares(people, [people.include.astype(float), *_adjusters(people)], covariance, 1)
    row = np.zeros((1, len(fit.basis)))
    row[0, 1] = 1.0
    return fit.combination(row, level).row((..., 0))


def ls_means(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    level: float = 0.95,
    weights: Weights = "equal",
    covariance: Covariance = "classical",
) -> Estimate:
    """Adjusted (least-squares) mean of each arm, from outcome ~ arm + covariates + factors.

    Covariates are held at their mean over the analysis; factor levels are weighted equally, as SAS LSMEANS and R
    emmeans do, or as observed (emmeans "proportional"). Fields of the result are shaped (..., arms): codes 0 to the
    largest in the data. The p tests a mean of zero. Effects that differ by arm: `arm_model`. Arguments, and what is
    raised, are as in `ancova`.

    >>> result = ls_means(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> result.estimate.round(4).tolist()
    [2.0, 3.1667]
    """
    arms = max(codes_of(whole(arm)), default=0) + 1

    def estimate(outcome, arm, covariates, include, *factors):
        people = subjects(outcome, arm, covariates, factors, include)
        return arm_model_of(people, ByArm(), arms, covariance, level).means(weights)

    return in_blocks(estimate, [outcome, arm, covariates, include, *factors])


def arm_test(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    covariance: Covariance = "classical",
    level: float = 0.95,
) -> Estimate:
    """F test that no arm differs from another, k - 1 degrees of freedom, from outcome ~ arm + covariates + factors.

    Types II and III of the analysis of variance are the same here; with interactions see `arm_model`. The result has a
    statistic (F), its numerator's df, p and n. Arguments, and what is raised, are as in `ancova`.

    >>> test = arm_test(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5, 7.0, 8.0]), np.array([0, 0, 0, 1, 1, 1, 2, 2]))
    >>> round(float(test.statistic), 3), int(test.df), round(float(test.p), 5)
    (16.898, 2, 0.00596)
    """
    return arm_model(
        outcome, arm, covariates=covariates, factors=factors, include=include, covariance=covariance, level=level
    ).arm_test()


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
    people = subjects(outcome, arm, None, (), include)
    active, control = two_arms(contrast)
    n1, mean1, square1 = _moments(people, active)
    n0, mean0, square0 = _moments(people, control)
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
    warnings = people.warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
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


def change(outcome: np.ndarray, baseline: np.ndarray, scale: Scale = "difference") -> np.ndarray:
    """Change from baseline: outcome - baseline, percent 100 (outcome / baseline - 1), or log(outcome / baseline).

    Where a scale does not exist (a baseline of zero, a logarithm of what is not positive) the value is missing (NaN).
    Adjusted for the baseline, the difference in change between arms is that in the outcome (also in logs): prefer
    `ancova` and `geometric_ratio` with the baseline as covariate to percent change, which is skewed and depends on the
    baseline (Vickers 2001, doi:10.1186/1471-2288-1-6).

    >>> change(np.array([3.0, 1.0]), np.array([2.0, 0.0]), "percent").tolist()
    [50.0, nan]
    """
    outcome, baseline = np.asarray(outcome, float), np.asarray(baseline, float)
    if scale == "difference":
        return outcome - baseline
    if scale == "percent":
        usable = baseline != 0
        return np.where(usable, 100 * (outcome / np.where(usable, baseline, 1.0) - 1), np.nan)
    if scale == "log ratio":
        usable = (outcome > 0) & (baseline > 0)
        ratio = np.where(usable, outcome, 1.0) / np.where(usable, baseline, 1.0)
        return np.where(usable, np.log(ratio), np.nan)
    raise ClaimError(f"The scale is '{scale}'; choose 'difference', 'percent' or 'log ratio'.")


def as_percent(ratio: Estimate) -> Estimate:
    """A ratio as a percent difference, 100 (ratio - 1); se by the delta method, 100 ratio x se of the log ratio.

    >>> half = as_percent(exponentiate(normal_estimate(np.log(0.5), 0.1, 20, 0, 0.95)))
    >>> float(half.estimate.round(6)), float(half.se.round(6)), float(half.upper.round(2))
    (-50.0, 5.0, -39.17)
    """
    values = {name: 100 * (getattr(ratio, name) - 1) for name in ("estimate", "lower", "upper")}
    return ratio._replace(**values, se=100 * ratio.estimate * ratio.se)


def _adjusters(people: Subjects) -> list[np.ndarray]:
    """The columns of the covariates and of the levels of the factors."""
    levels = [level_columns(factor, codes_of(factor)[1:]) for factor in people.factors]
    return [*people.covariates, *(column for parts in levels for _, column, _ in parts)]


def _beside(first: np.ndarray, covariates: np.ndarray | None) -> np.ndarray:
    """One more covariate, put before the others: (..., n) and (..., n, p) make (..., n, p + 1)."""
    first = first[..., None]
    if covariates is None:
        return first
    covariates = np.asarray(covariates, float)
    batch = np.broadcast_shapes(first.shape[:-1], covariates.shape[:-1])
    parts = (np.broadcast_to(part, (*batch, part.shape[-1])) for part in (first, covariates))
    return np.concatenate(list(parts), -1)


def _moments(people: Subjects, code: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and sum of squares about the mean of one arm."""
    member = people.arm == code
    n = member.sum(-1)
    mean = np.where(n > 0, np.sum(np.where(member, people.outcome, 0.0), -1) / np.maximum(n, 1), np.nan)
    deviation = np.where(member, people.outcome - np.nan_to_num(mean)[..., None], 0.0)
    return n, mean, np.sum(deviation**2, -1)


def _log(values: np.ndarray, arm: np.ndarray, include: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms, and which included subjects have none because their value is zero or less."""
    values = np.asarray(values, float)
    asked = whole(arm) >= 0 if include is None else np.asarray(include, bool) & (whole(arm) >= 0)
    fails = asked & (values <= 0)
    return np.log(np.where(values > 0, values, np.where(np.isnan(values), np.nan, 1.0))), fails

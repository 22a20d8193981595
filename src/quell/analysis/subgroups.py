"""Effects within subgroups, and whether they differ: the rows of a forest plot, and effects along a baseline.

A row is the effect within one level of a factor. What says whether the effect differs is the interaction test, not a
comparison of the rows' own p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis import cox as proportional
from quell.analysis.arm_model import ArmModel, ByArm, arm_model
from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, stack, without_a_size
from quell.analysis.codes import codes_of, two_arms, whole
from quell.analysis.counts import Tally, stratified_tally
from quell.analysis.linear_model import Covariance
from quell.analysis.proportions import odds_ratio, risk_difference, risk_ratio
from quell.analysis.stratified_proportions import breslow_day, differences_alike, ratios_alike

Scale = Literal["difference", "ratio", "odds ratio"]


class Forest(NamedTuple):
    """Effects within the levels of a factor, fields (..., levels), and the test that they are the same, (...).

    `levels` are the codes of the rows; `method` says how rows and test were made.
    """

    effects: Estimate
    interaction: Estimate
    levels: tuple[int, ...]
    method: str


class EffectAlong(NamedTuple):
    """The effect of an arm along a covariate, at the values `at` (m,): pointwise and for the whole line.

    effect: fields (..., m), pointwise; lower_band and upper_band (..., m) hold the whole line at once (Potthoff 1964:
    half-width sqrt(2 F)); boundaries (..., 2): where the pointwise interval begins or ceases to hold zero (Johnson and
    Neyman 1936), NaN where it never does; slope: how much the effect grows per unit of the covariate.
    """

    at: np.ndarray
    effect: Estimate
    lower_band: np.ndarray
    upper_band: np.ndarray
    boundaries: np.ndarray
    slope: Estimate


def forest_of_means(
    outcome: np.ndarray,
    arm: np.ndarray,
    subgroup: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    covariance: Covariance = "classical",
    level: float = 0.95,
) -> Forest:
    """Difference in means within each level of a factor, from ONE model with an interaction.

    outcome ~ arm x subgroup + covariates + factors: the slopes of the covariates and the residual variance are shared by
    the subgroups (for separate models, call `means.ancova` with `include`). The interaction is the F test that the
    contrast is the same at every level. subgroup (..., n) whole codes; the rest, and what is raised, as in
    `arm_model.arm_model`.

    >>> outcome = np.array([1.0, 2.0, 3.0, 4.0, 2.0, 2.5, 6.0, 7.5])
    >>> rows = forest_of_means(outcome, np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> rows.effects.estimate.round(3).tolist(), round(float(rows.interaction.p), 4)
    ([2.0, 4.5], 0.0779)
    """
    model = arm_model(
        outcome,
        arm,
        covariates=covariates,
        factors=[subgroup, *factors],
        include=include,
        by_arm=ByArm(factors=(0,)),
        covariance=covariance,
        level=level,
    )
    levels = _levels(subgroup)
    effects = stack([model.difference(contrast, "observed", levels={0: one}) for one in levels])
    people = model.people
    counts = [((people.factors[0] == one) & np.isin(people.arm, contrast)).sum(-1) for one in levels]
    effects = effects._replace(n=np.stack(counts, -1))
    rows = np.concatenate([model.contrast_row(contrast, "observed", one) for one in levels], -2)
    _, there = model.fit.solve(rows)
    kept = there[..., np.newaxis]
    mean = np.where(kept, rows, 0.0).sum(-2, keepdims=True) / np.maximum(kept.sum(-2, keepdims=True), 1)
    solved, _ = model.fit.solve(np.where(kept, rows - mean, 0.0))
    method = "one linear model with arm x subgroup; F test of the interaction"
    return Forest(effects, model.fit.test(solved, level), levels, method)


def forest_of_risks(
    happened: np.ndarray,
    arm: np.ndarray,
    subgroup: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    scale: Scale = "difference",
    level: float = 0.95,
) -> Forest:
    """Difference or ratio of risks, or odds ratio, within each level of a factor, from SEPARATE tables.

    Rows have Miettinen and Nurminen's intervals (odds ratios exact ones). The interaction is Cochran's Q test of equal
    differences or log ratios, or Breslow and Day's of equal odds ratios with Tarone's correction. happened (..., n) true,
    false or NaN; the rest as in `forest_of_means`.

    >>> happened, arm = np.array([1, 0, 0, 0, 1, 1, 1, 0] * 4), np.array([0, 0, 1, 1, 0, 0, 1, 1] * 4)
    >>> rows = forest_of_risks(happened, arm, np.array([0, 0, 0, 0, 1, 1, 1, 1] * 4))
    >>> rows.effects.estimate.tolist(), round(float(rows.interaction.p), 3)
    ([-0.5, -0.5], 1.0)
    """
    choice: dict[str, tuple[Callable[..., Estimate], Callable[..., Estimate], str]] = {
        "difference": (risk_difference, differences_alike, "Cochran's Q test of equal differences"),
        "ratio": (risk_ratio, ratios_alike, "Cochran's Q test of equal log ratios"),
        "odds ratio": (odds_ratio, _tarone, "Breslow and Day's test with Tarone's correction"),
    }
    if scale not in choice:
        raise ClaimError(f"The scale is '{scale}'; choose 'difference', 'ratio' or 'odds ratio'.")
    estimator, test, words = choice[scale]
    counts = stratified_tally(happened, arm, subgroup, contrast=contrast, include=include)
    levels = _levels(subgroup)
    shown = Tally(*(np.asarray(field)[..., list(levels)] for field in counts[:4]))
    effects = estimator(shown, level=level)
    missing = np.asarray(counts.warnings)[..., np.newaxis]
    effects = effects._replace(warnings=effects.warnings | missing)
    return Forest(effects, test(counts._replace(), level=level), levels, f"separate tables; {words}")


def forest_of_hazards(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    subgroup: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    covariates: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Forest:
    """Hazard ratio within each level of a factor, from ONE Cox model (Efron ties) with an interaction.

    hazard ~ subgroup + arm within subgroup + covariates: one baseline hazard, covariates' effects shared. The interaction
    is the likelihood-ratio test against one hazard ratio for all (as R's anova of two coxph). time, event, arm, subgroup
    and strata (..., n), covariates (..., n, p); what is raised, as in `cox.cox`.

    >>> time = np.array([5.0, 8, 12, 20, 6, 9, 15, 22, 4, 7, 11, 30, 3, 10, 14, 25])
    >>> event, arm, sex = np.array([1, 1, 1, 0] * 4), np.array([0, 1] * 8), np.array([0] * 8 + [1] * 8)
    >>> rows = forest_of_hazards(time, event, arm, sex)
    >>> rows.effects.estimate.round(3).tolist(), round(float(rows.interaction.p), 3)
    ([0.366, 0.271], 0.808)
    """
    active, control = two_arms(contrast)
    code, group = whole(arm), whole(subgroup)
    levels = _levels(subgroup)
    chosen = ((code == active) | (code == control)) & (group >= 0)
    chosen = chosen if include is None else chosen & (np.asarray(include) > 0)
    treated = (code == active).astype(float)
    main = [(group == one).astype(float) + 0 * treated for one in levels[1:]]
    if covariates is not None:
        main += list(np.moveaxis(np.asarray(covariates, float), -1, 0))
    shape = np.broadcast_shapes(np.shape(time), treated.shape, *(one.shape for one in main))
    within = [treated * (group == one) for one in levels]
    full = proportional.cox(time, event, _beside([*main, *within], shape), strata=strata, include=chosen, level=level)
    same = proportional.cox(time, event, _beside([*main, treated], shape), strata=strata, include=chosen, level=level)
    effects = stack([full.ratio(len(main) + k) for k in range(len(levels))])
    known = np.isfinite(effects.estimate)
    counts = np.stack([(chosen & (group == one) & (0 * np.asarray(time) == 0)).sum(-1) for one in levels], -1)
    effects = effects._replace(
        warnings=effects.warnings | flag(~known, Caution.NOT_ESTIMABLE), n=np.broadcast_to(counts, known.shape)
    )
    method = "one Cox model with arm within subgroup; likelihood-ratio test of the interaction"
    return Forest(effects, _likelihood_ratio(full, same), levels, method)


def effect_along(
    model: ArmModel, at: np.ndarray, *, contrast: tuple[int, int] = (1, 0), covariate: int = 0
) -> EffectAlong:
    """The effect, active minus control, at given values of a covariate whose slope differs by arm.

    model: from `arm_model(..., by_arm=ByArm(covariates=(covariate,)))`; the other covariates are at their mean, factors
    weighted equally. Regression to the mean is the same in both arms of a randomised trial, so the difference of slopes
    is free of it; measurement error of the baseline still makes it too small (`corrected_slope_difference` of
    `measured_baseline`). Raises ClaimError where the model has no such interaction.

    >>> x, arm = np.array([1.0, 2, 3, 4, 1, 2, 3, 4]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> model = arm_model(np.array([1.1, 2, 2.9, 4, 1, 1.4, 2.1, 2.4]), arm, covariates=x[:, None], by_arm=ByArm((0,)))
    >>> along = effect_along(model, np.array([1.0, 4.0]))
    >>> along.effect.estimate.round(3).tolist(), round(float(along.slope.estimate), 3)
    ([-0.07, -1.48], -0.47)
    """
    if covariate not in model.by_arm.covariates:
        raise ClaimError("This model has one slope for both arms; fit it with by_arm=ByArm(covariates=(0,)).")
    at = np.asarray(at, float)
    centre, slope = model.contrast_row(contrast), model.slope_row(contrast, covariate)
    away = at - model.people.centre[..., covariate, np.newaxis]
    effect = model.fit.combination(centre + away[..., np.newaxis] * slope, model.level)
    df = model.fit.df[..., np.newaxis]
    half = np.sqrt(2 * _f_quantile(model.level, 2, df)) * effect.se
    boundaries = _boundaries(model, np.concatenate([centre, slope], -2)) + model.people.centre[..., [covariate]]
    return EffectAlong(
        at,
        effect,
        effect.estimate - half,
        effect.estimate + half,
        boundaries,
        model.slope_difference(contrast, covariate),
    )


def _boundaries(model: ArmModel, rows: np.ndarray) -> np.ndarray:
    """Where |effect| is its critical value times its error: roots of a quadratic in the distance from the centre."""
    solved, estimable = model.fit.solve(rows)
    value = np.vecdot(solved, model.fit.along[..., np.newaxis, :])
    covariance = model.fit.covariances(solved)
    bound = critical(model.level, np.where(model.fit.df > 0, model.fit.df, np.nan)) ** 2
    a = value[..., 1] ** 2 - bound * covariance[..., 1, 1]
    b = value[..., 0] * value[..., 1] - bound * covariance[..., 0, 1]
    c = value[..., 0] ** 2 - bound * covariance[..., 0, 0]
    disc = b**2 - a * c
    real = (disc > 0) & (a != 0) & estimable.all(-1) & ~model.fit.constant
    root, a = np.sqrt(np.where(real, disc, 1.0)), np.where(real, a, 1.0)
    ends = np.sort(np.stack([(-b - root) / a, (-b + root) / a], -1), -1)
    return np.where(real[..., np.newaxis], ends, np.nan)


def _f_quantile(level: float, numerator: int, denominator: np.ndarray) -> np.ndarray:
    good = denominator > 0
    return np.where(good, special.fdtri(numerator, np.where(good, denominator, 1), level), np.nan)


def _levels(subgroup: np.ndarray) -> tuple[int, ...]:
    levels = tuple(codes_of(whole(subgroup)))
    if not levels:
        raise ClaimError("No patient has a subgroup: the subgroup codes are all negative or missing.")
    return levels


def _tarone(counts: Tally, level: float) -> Estimate:
    return breslow_day(counts, tarone=True, level=level)


def _beside(columns: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.broadcast_to(one, shape) for one in columns], -1)


def _likelihood_ratio(full: proportional.CoxFit, same: proportional.CoxFit) -> Estimate:
    """Twice the gain in log-likelihood, chi-square on the difference of free coefficients."""
    df = np.asarray(full.df - same.df, float)
    gain = np.maximum(2 * (full.log_likelihood[..., 1] - same.log_likelihood[..., 1]), 0.0)
    good = (df > 0) & np.isfinite(gain) & (full.events > 0)
    p = np.where(good, special.chdtrc(np.where(good, df, 1.0), np.where(good, gain, 0.0)), np.nan)
    warnings = full.warnings | flag(~good, Caution.NOT_ESTIMABLE)
    statistic, df = np.where(good, gain, np.nan), np.where(good, df, np.nan)
    return without_a_size(statistic, df, p, full.n, warnings, full.level)

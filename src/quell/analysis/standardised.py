"""Marginal effects adjusted for covariates: what the whole trial's patients would do under each arm, on average.

The mean outcome under arm a is the average, over everybody, of the model's prediction with their arm set to a
(g-computation, standardisation). Unlike a conditional odds ratio it means the same whichever covariates are adjusted
for; randomisation protects it if the model is wrong (Ye et al. 2023, doi:10.1080/24754269.2023.2205802; FDA 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.arm_model import NOWHERE, ArmModel, ByArm, arm_model_of
from quell.analysis.claim import Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate
from quell.analysis.codes import codes_of, two_arms
from quell.analysis.linear_model import subjects
from quell.analysis.logistic import Likelihood, LogisticFit, logistic

Variance = Literal["ye", "ye residual", "influence", "delta", "robust delta"]
VARIANCES = ("ye", "ye residual", "influence", "delta", "robust delta")


class Standardised(NamedTuple):
    """Mean outcome under each arm (..., arms) and its covariance (..., arms, arms), for each trial of a batch."""

    mean: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray
    level: float

    def means(self) -> Estimate:
        """The mean (risk) under every arm, fields (..., arms)."""
        se = np.sqrt(np.maximum(np.diagonal(self.covariance, axis1=-2, axis2=-1), 0.0))
        doubt = self.warnings[..., np.newaxis] | flag(np.isnan(self.mean), Caution.EMPTY_ARM)
        doubt = doubt | flag(~(se > 0), Caution.NOT_ESTIMABLE)
        return normal_estimate(self.mean, np.where(se > 0, se, np.nan), self.n[..., np.newaxis], doubt, self.level)

    def difference(self, contrast: tuple[int, int] = (1, 0)) -> Estimate:
        """Difference of the means (risk difference), active minus control."""
        return self._contrast(contrast, self.mean, np.ones(self.mean.shape))

    def ratio(self, contrast: tuple[int, int] = (1, 0)) -> Estimate:
        """Ratio of the means (risk ratio), active over control, with the delta method on its logarithm."""
        good = self.mean > 0
        safe = np.where(good, self.mean, 1.0)
        log = np.where(good, np.log(safe), np.nan)
        return exponentiate(self._contrast(contrast, log, np.where(good, 1 / safe, np.nan)))

    def odds_ratio(self, contrast: tuple[int, int] = (1, 0)) -> Estimate:
        """Marginal odds ratio of two risks, active over control, with the delta method on its logarithm."""
        good = (self.mean > 0) & (self.mean < 1)
        safe = np.where(good, self.mean, 0.5)
        slope = np.where(good, 1 / (safe * (1 - safe)), np.nan)
        return exponentiate(self._contrast(contrast, np.where(good, special.logit(safe), np.nan), slope))

    def _contrast(self, contrast: tuple[int, int], value: np.ndarray, slope: np.ndarray) -> Estimate:
        active, control = two_arms(contrast)
        if max(active, control) >= self.mean.shape[-1]:
            nothing = np.full(self.n.shape, np.nan)
            doubt = self.warnings | flag(np.ones(self.n.shape, bool), Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
            return normal_estimate(nothing, nothing, self.n, doubt, self.level)
        a, b = slope[..., active], slope[..., control]
        v = self.covariance
        variance = a**2 * v[..., active, active] + b**2 * v[..., control, control] - 2 * a * b * v[..., active, control]
        good = np.isfinite(variance) & (variance > 1e-24)
        se = np.where(good, np.sqrt(np.where(good, variance, 1.0)), np.nan)
        estimate = value[..., active] - value[..., control]
        empty = np.isnan(self.mean[..., active]) | np.isnan(self.mean[..., control])
        doubt = self.warnings | flag(~good, Caution.NOT_ESTIMABLE) | flag(empty, Caution.EMPTY_ARM)
        return normal_estimate(estimate, se, self.n, doubt, self.level)


def standardised_risks(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    by_arm: ByArm = NOWHERE,
    variance: Variance = "ye",
    likelihood: Likelihood = "maximum",
    level: float = 0.95,
) -> Standardised:
    """Risk under each arm, standardised over the covariates of everybody, from a logistic regression.

    Variance: `ye` (Ye et al. 2023, with the decomposition of Var(Y - m) that R's RobinCar and beeca use), which holds if
    the logistic model is wrong and counts the covariates as sampled; `ye residual`, the same with Var(Y - m) itself
    (beeca's mod=TRUE), never negative in small trials that fit well; `influence`, the mean square of the influence function
    1(A = a) (Y - m_a(X)) / P(A = a) + m_a(X) - mean; `delta`, the delta method with the inverse information (covariates
    fixed; Ge et al. 2011); `robust delta`, with the HC0 sandwich. Without covariates the risks are the proportions.
    Other arguments, and what is raised, are as in `logistic`.

    >>> happened = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 1])
    >>> age = np.array([[1.0], [3], [4], [2], [5], [3], [1], [4], [2], [5]])
    >>> risks = standardised_risks(happened, np.arange(10) // 5, covariates=age)
    >>> risks.mean.round(4).tolist(), round(float(risks.difference().se), 4)
    ([0.4, 0.8], 0.2665)
    """
    _known(variance)
    fit = logistic(
        outcome,
        arm,
        covariates=covariates,
        factors=factors,
        include=include,
        by_arm=by_arm,
        likelihood=likelihood,
        level=level,
    )
    predicted = [special.expit(fit.model.predictor(fit.coefficients, code)) for code in range(fit.model.arms)]
    slopes = [one * (1 - one) for one in predicted]
    covariance = _covariance(fit.model, fit, predicted, slopes, variance)
    return _standardised(fit.model, predicted, covariance, fit.warnings)


def standardised_means(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    variance: Literal["ye", "ye residual", "influence"] = "ye",
    level: float = 0.95,
) -> Standardised:
    """Mean outcome under each arm, standardised, with every covariate and factor interacting with arm (ANCOVA II).

    The estimate is Lin's (2013, doi:10.1214/12-AOAS583); it never loses precision to adjustment in large trials. Variance
    as Ye, Shao, Yi and Zhao (2023, ANHECOVA), covariates sampled; for Lin's with covariates fixed take
    `arm_model(..., by_arm=everything, covariance="HC2").difference(weights="observed")`, as R's estimatr::lm_lin.
    Arguments, and what is raised, are as in `arm_model`.

    >>> outcome = np.array([1.0, 4, 3, 2, 4, 4, 3, 5, 2, 6])
    >>> age = np.array([[1.0], [3], [4], [2], [5], [3], [1], [4], [2], [5]])
    >>> result = standardised_means(outcome, np.arange(10) // 5, covariates=age).difference()
    >>> round(float(result.estimate), 4), round(float(result.se), 4)
    (1.2, 0.359)
    """
    if variance not in ("ye", "ye residual", "influence"):
        raise ClaimError(f"The variance is '{variance}'; choose 'ye', 'ye residual' or 'influence'.")
    people = subjects(outcome, arm, covariates, factors, include)
    everything = ByArm(tuple(range(len(people.covariates))), tuple(range(len(people.factors))))
    arms = max(codes_of(people.arm), default=0) + 1
    model = arm_model_of(people, everything, arms, "classical", level)
    fit = LogisticFit(model, model.fit.along, np.zeros(()), np.zeros(()), np.zeros(()), np.zeros(()), level)
    predicted = [model.predictor(fit.coefficients, code) for code in range(arms)]
    covariance = _covariance(model, None, predicted, [], variance)
    return _standardised(model, predicted, covariance, model.fit.warnings)


def _known(variance: str) -> None:
    if variance not in VARIANCES:
        raise ClaimError(f"The variance is '{variance}'; choose {', '.join(map(repr, VARIANCES))}.")


def _standardised(
    model: ArmModel, predicted: list[np.ndarray], covariance: np.ndarray, warnings: np.ndarray
) -> Standardised:
    include = model.people.include
    n = include.sum(-1)
    empty = np.stack([~(model.people.arm == code).any(-1) for code in range(model.arms)], -1)
    mean = np.stack([np.where(include, one, 0.0).sum(-1) / np.maximum(n, 1) for one in predicted], -1)
    either = empty[..., :, np.newaxis] | empty[..., np.newaxis, :]
    return Standardised(np.where(empty, np.nan, mean), np.where(either, np.nan, covariance), n, warnings, model.level)


def _covariance(
    model: ArmModel,
    fit: LogisticFit | None,
    predicted: list[np.ndarray],
    slopes: list[np.ndarray],
    variance: str,
) -> np.ndarray:
    """Covariance of the arms' means, (..., arms, arms)."""
    if variance.startswith("ye"):
        return _ye(model, predicted, decomposed=variance == "ye")
    if variance == "influence" or fit is None:
        return _influence(model, predicted)
    include, basis = model.people.include, model.fit.basis
    n = np.maximum(include.sum(-1), 1)
    gradient = np.stack([model.gradient(np.where(include, s, 0.0), code) for code, s in enumerate(slopes)], -2)
    solved, _ = model.fit.solve(gradient / n[..., np.newaxis, np.newaxis])
    reach = solved @ fit.covariance
    if variance == "delta":
        return reach @ np.swapaxes(solved, -1, -2)
    residual = np.where(include, model.people.outcome - fit.risk, 0.0)
    scores = (reach @ np.stack(basis, -2)) * residual[..., np.newaxis, :]
    return scores @ np.swapaxes(scores, -1, -2)


def _influence(model: ArmModel, predicted: list[np.ndarray]) -> np.ndarray:
    include, arm = model.people.include, model.people.arm
    n = np.maximum(include.sum(-1, keepdims=True), 1)
    parts = []
    for code, one in enumerate(predicted):
        member = arm == code
        share = np.maximum(member.sum(-1, keepdims=True), 1) / n
        value = np.where(member, (model.people.outcome - one) / share, 0.0) + np.where(include, one, 0.0)
        parts.append(np.where(include, value - value.sum(-1, keepdims=True) / n, 0.0))
    stacked = np.stack(parts, -2) / n[..., np.newaxis]
    return stacked @ np.swapaxes(stacked, -1, -2)


def _ye(model: ArmModel, predicted: list[np.ndarray], decomposed: bool) -> np.ndarray:
    """Ye et al. (2023): for arms a, b with predictions m, and Cov_a over the patients of arm a,

    aa: Var_a(Y - m_a) / pi_a + 2 Cov_a(Y, m_a) - Var(m_a), where Var_a(Y - m_a) may be decomposed into
        Var_a(Y) - 2 Cov_a(Y, m_a) + Var(m_a) with the variance of m_a over everybody
    ab: Cov_a(Y, m_b) + Cov_b(Y, m_a) - Cov(m_a, m_b)        all divided by n.
    """
    people, arms = model.people, model.arms
    member = [people.arm == code for code in range(arms)]
    own = [_deviation(people.outcome, who) for who in member]
    whole = [_deviation(one, people.include) for one in predicted]
    n = np.maximum(people.include.sum(-1), 1)
    size = [who.sum(-1) for who in member]
    matrix = np.zeros((*n.shape, arms, arms))
    for a in range(arms):
        within, spread = _cov(own[a], predicted[a], size[a]), _cov(whole[a], predicted[a], n)
        if decomposed:
            residual = _cov(own[a], people.outcome, size[a]) - 2 * within + spread
        else:
            left = people.outcome - predicted[a]
            residual = _cov(_deviation(left, member[a]), left, size[a])
        matrix[..., a, a] = residual * n / np.maximum(size[a], 1) + 2 * within - spread
        for b in range(a):
            shared = _cov(own[a], predicted[b], size[a]) + _cov(own[b], predicted[a], size[b])
            matrix[..., a, b] = matrix[..., b, a] = shared - _cov(whole[a], predicted[b], n)
    return matrix / n[..., np.newaxis, np.newaxis]


def _deviation(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Values less their mean over the members, zero for others."""
    kept = np.where(member, values, 0.0)
    mean = kept.sum(-1, keepdims=True) / np.maximum(member.sum(-1, keepdims=True), 1)
    return np.where(member, kept - mean, 0.0)


def _cov(deviation: np.ndarray, other: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Sample covariance over the members, divisor their number less one; NaN where there is one or none."""
    return np.where(size > 1, np.vecdot(deviation, other) / np.maximum(size - 1, 1), np.nan)

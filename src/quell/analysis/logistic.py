"""Logistic regression of an event on arm, covariates and factors, for a batch of trials: maximum likelihood, or Firth's.

The columns are first made orthonormal (`linear_model`), so that Newton's steps are well conditioned and what repeats is
dropped, and odds ratios are linear combinations of the coefficients as in `arm_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.arm_model import NOWHERE, ArmModel, ByArm, arm_model_of, single
from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate
from quell.analysis.codes import codes_of
from quell.analysis.linear_model import BLOCK, subjects

Likelihood = Literal["maximum", "firth"]

# Newton needs about six steps where there is a maximum; the last of them is this small.
STEPS, SETTLED = 40, 1e-10
# With a maximum Newton's last steps are tiny; without one every step lengthens the linear predictor by about one.
STILL_MOVING = 1e-3
# A linear predictor beyond this is a risk of 0 or 1 to rounding.
FARTHEST = 30.0


class LogisticFit(NamedTuple):
    """A logistic fit for each trial of a batch, in the coordinates of the orthonormal columns of `model.fit.basis`.

    along (..., q); covariance (..., q, q) is the inverse information; risk (..., n) the fitted probabilities.
    """

    model: ArmModel
    along: np.ndarray
    covariance: np.ndarray
    risk: np.ndarray
    log_likelihood: np.ndarray
    warnings: np.ndarray
    level: float

    @property
    def coefficients(self) -> np.ndarray:
        """Coefficients of the model's own columns (..., q), by back substitution; dropped columns have 0."""
        triangle = self.model.fit.triangle
        beta = np.zeros(self.along.shape)
        for k in reversed(range(len(self.model.fit.basis))):
            pivot = triangle[..., k, k]
            rest = self.along[..., k] - np.vecdot(triangle[..., k, k + 1 :], beta[..., k + 1 :])
            beta[..., k] = np.where(pivot > 0, rest / np.where(pivot > 0, pivot, 1.0), 0.0)
        return beta

    def log_odds(self, weights: np.ndarray) -> Estimate:
        """The estimate of weights' beta, fields (..., m), Wald's interval and z test; weights (..., m, q)."""
        solved, estimable = self.model.fit.solve(weights)
        variance = np.einsum("...mi,...ij,...mj->...m", solved, self.covariance, solved)
        good = estimable & (variance > 0) & np.isfinite(variance)
        estimate = np.where(estimable, np.vecdot(solved, self.along[..., np.newaxis, :]), np.nan)
        se = np.where(good, np.sqrt(np.where(good, variance, 1.0)), np.nan)
        warnings = self.warnings[..., np.newaxis] | flag(~good, Caution.NOT_ESTIMABLE)
        n = np.broadcast_to(self.model.fit.n[..., np.newaxis], estimate.shape)
        return normal_estimate(estimate, se, n, warnings, self.level)

    def odds_ratio(self, contrast: tuple[int, int] = (1, 0)) -> Estimate:
        """Conditional odds ratio, active over control, at the mean of covariates that differ by arm (Wald)."""
        estimate = self.log_odds(self.model.contrast_row(contrast, "observed"))
        return exponentiate(single(estimate, self.model.lacks(contrast)))


def logistic(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    by_arm: ByArm = NOWHERE,
    likelihood: Likelihood = "maximum",
    level: float = 0.95,
) -> LogisticFit:
    """Logistic regression of outcome (true, false or NaN) on arm, covariates and factors, as R's glm(binomial).

    Newton's method with halved steps. Where arm or covariates divide events from non-events no maximum exists: a caution
    says so, and `firth` (penalty log det(information) / 2; Firth 1993, doi:10.1093/biomet/80.1.27, Heinze and Schemper
    2002, doi:10.1002/sim.1047; as R's logistf, with Wald intervals) is finite. Other arguments, and what is raised, are
    as in `arm_model`.

    >>> happened = np.array([0, 1, 1, 0, 0, 1, 0, 1, 1, 1])
    >>> age = np.array([[1.0], [3], [4], [2], [5], [3], [1], [4], [2], [5]])
    >>> fit = logistic(happened, np.arange(10) // 5, covariates=age)
    >>> round(float(fit.odds_ratio().estimate), 3)
    11.368
    """
    if likelihood not in ("maximum", "firth"):
        raise ClaimError(f"The likelihood is '{likelihood}'; choose 'maximum' or 'firth'.")
    outcome = np.asarray(outcome, float)
    outcome = np.where(np.isfinite(outcome), (outcome > 0).astype(float), np.nan)
    people = subjects(outcome, arm, covariates, factors, include)
    arms = max(codes_of(people.arm), default=0) + 1
    return logistic_of(arm_model_of(people, by_arm, arms, "classical", level), likelihood)


def logistic_of(model: ArmModel, likelihood: Likelihood = "maximum") -> LogisticFit:
    """The logistic fit of a model whose outcome is 0 or 1, already laid out."""
    people, firth = model.people, likelihood == "firth"
    batch, n = people.include.shape[:-1], people.include.shape[-1]
    columns = [np.broadcast_to(column, people.include.shape).reshape(-1, n) for column in model.fit.basis]
    happened, include = people.outcome.reshape(-1, n), people.include.reshape(-1, n)
    step = max(BLOCK // max(n, 1), 1)
    pieces = [
        _climb([one[k : k + step] for one in columns], happened[k : k + step], include[k : k + step], firth)
        for k in range(0, max(len(happened), 1), step)
    ]
    along, moving = (np.concatenate([piece[side] for piece in pieces]) for side in (0, 1))
    predictor, risk, height, information = _at(columns, happened, include, along)
    covariance = _inverse(information)
    farthest = np.abs(predictor).max(-1, initial=0.0)
    divided = (moving > STILL_MOVING) & (farthest > 5)
    events = happened.sum(-1)
    few = np.minimum(events, include.sum(-1) - events) < FEW_EVENTS
    warnings = flag(divided, Caution.DIVIDED) | flag((moving > 1e-6) & ~divided, Caution.NOT_CONVERGED)
    warnings = warnings | flag(few & include.any(-1), Caution.FEW_EVENTS)
    q = len(columns)
    kept = people.warnings | (model.fit.warnings & int(Caution.SINGULAR | Caution.MISSING))
    return LogisticFit(
        model,
        along.reshape(*batch, q),
        covariance.reshape(*batch, q, q),
        risk.reshape(*batch, n),
        height.reshape(batch),
        kept | warnings.reshape(batch),
        model.level,
    )


def _climb(
    columns: list[np.ndarray], happened: np.ndarray, include: np.ndarray, firth: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Newton's method from zero: the coordinates (B, q), and the longest last step of any linear predictor (B,)."""
    trials, q = happened.shape[0], len(columns)
    along, moving = np.zeros((trials, q)), np.zeros(trials)
    active = np.flatnonzero(include.any(-1))
    here, y, kept = [column[active] for column in columns], happened[active], include[active]
    at, predictor = along[active], np.zeros(y.shape)
    for _ in range(STEPS):
        if not active.size:
            break
        step = _step(here, y, kept, special.expit(predictor), firth)
        move = _predictor(here, step)
        limit = np.abs(move).max(-1)
        # a step that would lengthen the predictor by more than 4 is shortened: beyond, the quadratic is no guide
        share = np.minimum(1.0, 4.0 / np.maximum(limit, 1e-300))[:, np.newaxis]
        further = predictor + share * move
        inside = np.abs(further).max(-1) <= FARTHEST
        at = np.where(inside[:, np.newaxis], at + share * step, at)
        along[active], moving[active] = at, limit
        going = (limit > SETTLED) & inside
        if going.all():
            predictor = further
        else:
            active, at, y, kept, predictor = active[going], at[going], y[going], kept[going], further[going]
            here = [column[going] for column in here]
    return along, moving


def _step(
    columns: list[np.ndarray], happened: np.ndarray, include: np.ndarray, risk: np.ndarray, firth: bool
) -> np.ndarray:
    """Newton's step at fitted risks: inverse information x score (Firth's adds leverage x (1/2 - risk))."""
    weight = np.where(include, risk * (1 - risk), 0.0)
    inverse = _inverse(_information(columns, weight))
    excess = np.where(include, happened - risk, 0.0)
    if firth:
        stacked = np.stack(columns, 1)
        leverage = weight * np.sum((inverse @ stacked) * stacked, 1)
        excess = excess + np.where(include, leverage * (0.5 - risk), 0.0)
    gradient = np.stack([np.vecdot(column, excess) for column in columns], -1)
    return np.squeeze(inverse @ gradient[..., np.newaxis], -1)


def _at(
    columns: list[np.ndarray], happened: np.ndarray, include: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Linear predictor, fitted risks, log-likelihood and information at coordinates (B, q)."""
    predictor = _predictor(columns, at)
    risk = special.expit(predictor)
    height = np.sum(np.where(include, special.log_expit(np.where(happened > 0, predictor, -predictor)), 0.0), -1)
    return predictor, risk, height, _information(columns, np.where(include, risk * (1 - risk), 0.0))


def _information(columns: list[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Columns' weighted cross-products (B, q, q)."""
    q = len(columns)
    information = np.empty((len(weight), q, q))
    for i in range(q):
        weighted = weight * columns[i]
        for j in range(i + 1):
            information[:, i, j] = information[:, j, i] = np.vecdot(weighted, columns[j])
    return information


def _predictor(columns: list[np.ndarray], at: np.ndarray) -> np.ndarray:
    total = columns[0] * at[:, 0, np.newaxis]
    for k, column in enumerate(columns[1:], 1):
        total += column * at[:, k, np.newaxis]
    return total


def _inverse(information: np.ndarray) -> np.ndarray:
    """Inverse information; a column that was dropped (a zero row) stays at zero."""
    spread = np.diagonal(information, axis1=-2, axis2=-1)
    there = spread > 1e-300
    scale = np.where(there, 1 / np.sqrt(np.where(there, spread, 1.0)), 0.0)
    unit = information * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    unit = unit + np.eye(unit.shape[-1]) * np.where(there, 1e-15, 1.0)[:, np.newaxis, :]
    try:
        inverse = np.linalg.inv(unit)
    except np.linalg.LinAlgError:
        inverse = np.linalg.pinv(unit, hermitian=True)
    return inverse * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]

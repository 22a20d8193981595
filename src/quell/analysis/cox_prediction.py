"""Survival that a Cox fit predicts for given covariates: the baseline hazard of Breslow or Efron, as R's survfit.coxph."""

from __future__ import annotations

from typing import Literal

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag
from quell.analysis.cox import CoxFit
from quell.analysis.cox_likelihood import Spells, flattened, prepared, state, with_ties

Interval = Literal["log", "log-log", "plain"]


def predicted_survival(
    spells: Spells,
    fitted: CoxFit,
    at: np.ndarray,
    day: float,
    *,
    interval: Interval = "log",
) -> Estimate:
    """Survival to a day at covariates `at` (..., p): exp(-H(day) exp(x'b)), H the sum of c / phi over the terms until then.

    The variance of the cumulative hazard is exp(2 x'b) [sum c / phi² + q'Vq], q = sum of (c / phi) (m - x), V the fit's
    covariance (robust if the fit is); se is that of survival. `spells` is what was fitted, in one stratum. Past the last
    time a caution is given. Raises ClaimError for strata, or an interval there is not.

    >>> from quell.analysis.cox import fit
    >>> rows = Spells(np.array([2.0, 3, 5, 7, 8]), np.array([1, 1, 1, 0, 1]), np.array([[1.0], [0], [1], [0], [0]]))
    >>> result = predicted_survival(rows, fit(rows), np.array([1.0]), 4)
    >>> round(float(result.estimate), 4), round(float(result.se), 4)
    (0.3856, 0.3117)
    """
    if spells.strata is not None:
        raise ClaimError("The fit has strata, each with a baseline of its own; fit and predict one stratum at a time.")
    if interval not in ("log", "log-log", "plain"):
        raise ClaimError(f"The interval is '{interval}'; choose 'log', 'log-log' or 'plain'.")
    flat, batch = flattened(spells)
    ready = prepared(flat, fitted.ties)
    p = flat.covariates.shape[-1]
    b = np.nan_to_num(fitted.coefficients.reshape(len(flat.time), p))
    now = state(ready, b * ready.unit)
    # m is about the covariates' own mean, in units of their spread: bring x there
    kept = ready.sets.kept
    centre = np.sum(np.where(kept[..., None], flat.covariates, 0.0), 1) / np.maximum(kept.sum(-1), 1)[:, None]
    x = np.broadcast_to(np.asarray(at, float), (*batch, p)).reshape(len(flat.time), p) - centre
    used = ready.sets.times[:, 0] <= day

    def summed(per_rung: np.ndarray, per_term: np.ndarray) -> np.ndarray:
        return np.sum(np.where(used, with_ties(ready, per_rung, per_term)[0][:, 0], 0.0), -1)

    weight = np.where(ready.real, ready.term_weight, 1.0)
    tied_weight = 1.0 if ready.tied is None else ready.tied.term_weight
    hazard = summed(now.hazard, now.tied_hazard)
    square = summed(now.hazard**2 / weight, now.tied_hazard**2 / tied_weight)
    means = [summed(now.hazard * now.mean[j], now.tied_hazard * now.tied_mean[j]) for j in range(p)]
    q = np.stack(means, -1) * ready.unit - hazard[:, None] * x
    covariance = fitted.covariance.reshape(len(b), p, p)
    risk = np.exp(np.clip(np.vecdot(x, b), -500, 500))
    survival = np.exp(-hazard * risk)
    error = risk * np.sqrt(square + np.einsum("bj,bjk,bk->b", q, covariance, q))
    lower, upper = _limits(survival, hazard * risk, error, critical(fitted.level), interval)
    bad = np.isnan(fitted.coefficients).reshape(len(b), p).all(-1) | ~kept.any(-1)
    last = np.max(np.where(kept, flat.time, -np.inf), -1, initial=-np.inf)
    warnings = fitted.warnings.ravel() | flag(bad, Caution.NOT_ESTIMABLE) | flag(last < day, Caution.BEYOND_FOLLOW_UP)
    none = np.full(len(b), np.nan)
    values = [np.where(bad, np.nan, value) for value in (survival, survival * error, lower, upper)]
    fields = [*values, none, none, none, kept.sum(-1), warnings]
    shaped = dict(zip(Estimate._fields, (np.reshape(field, batch) for field in fields), strict=False))
    return Estimate(**shaped, level=fitted.level)


def _limits(
    survival: np.ndarray, hazard: np.ndarray, error: np.ndarray, z: np.ndarray, interval: str
) -> tuple[np.ndarray, np.ndarray]:
    """Limits from the error of the cumulative hazard, which is that of log survival."""
    if interval == "plain":
        return np.maximum(survival - z * survival * error, 0.0), np.minimum(survival + z * survival * error, 1.0)
    if interval == "log":
        return survival * np.exp(-z * error), np.minimum(survival * np.exp(z * error), 1.0)
    factor = np.exp(z * error / np.where(hazard > 0, hazard, np.inf))
    return np.exp(-hazard * factor), np.exp(-hazard / factor)

"""How sure a repeated-measures model is of its coefficients: standard errors, degrees of freedom, t and F tests.

For L b with V(L b) = L Phi L', and w the covariance of the covariance parameters theta:

    Satterthwaite     df = 2 (l'Phi l)^2 / (g'w g), g = d(l'Phi l)/d theta; for several rows, after rotation to
                      uncorrelated ones, 2 E / (E - r), E = sum of df / (df - 2) (Fai and Cornelius 1996,
                      doi:10.1080/00949659608811740)
    Kenward-Roger     Phi enlarged for what estimating theta adds, and F scaled by lambda on m degrees of freedom matched
                      to its first two moments (1997, doi:10.2307/2533558)

w is the inverse of the observed second derivatives, as in mmrm and SAS PROC MIXED.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import Caution, ClaimError, Estimate, flag, normal_estimate, without_a_size
from quell.analysis.reml import Fit
from quell.analysis.sandwich import Sandwich

Method = Literal[
    "satterthwaite",
    "kenward-roger",
    "kenward-roger-linear",
    "kenward-roger-sas",
    "empirical",
    "empirical-jackknife",
    "empirical-bias-reduced",
    "empirical-bias-reduced-clubsandwich",
    "between-within",
    "residual",
    "normal",
]
METHODS: tuple[str, ...] = Method.__args__  # type: ignore[attr-defined]
ADJUSTED = {"kenward-roger-linear": 0, "kenward-roger": 1, "kenward-roger-sas": 2}


class Inference(NamedTuple):
    """A fit with a way to judge it: the covariance of its coefficients, and where degrees of freedom come from.

    within (q,) says which columns vary within people (between-within needs it); sandwich holds a robust covariance.
    """

    fit: Fit
    method: str
    covariance: np.ndarray
    within: np.ndarray | None = None
    sandwich: Sandwich | None = None


class FTest(NamedTuple):
    """An F test of several rows L b = 0 at once, for each trial of a batch."""

    statistic: np.ndarray
    df_numerator: np.ndarray
    df_denominator: np.ndarray
    p: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, level: float = 0.95) -> Estimate:
        """The test as an estimate without a size: statistic, denominator degrees of freedom, p and n."""
        return without_a_size(self.statistic, self.df_denominator, self.p, self.n, self.warnings, level)


def inference(fit: Fit, method: str = "satterthwaite", within: np.ndarray | None = None) -> Inference:
    """A fit with the degrees of freedom of a method that needs no more than the fit (not the empirical ones).

    >>> y = np.array([[1.0, 2.0], [2.0, 2.5], [3.0, 5.0], [2.0, np.nan], [4.0, 4.5]])
    >>> from quell.analysis.reml import fit_reml
    >>> judged = inference(fit_reml(y, np.broadcast_to(np.eye(2), (5, 2, 2))), "kenward-roger-linear")
    >>> change = estimate(judged, np.array([-1.0, 1.0]))
    >>> round(float(change.estimate), 4), round(float(change.se), 4), round(float(change.df), 2)
    (1.0, 0.3715, 3.0)
    """
    check_method(method)
    if method in ADJUSTED:
        return Inference(fit, method, fit.adjusted[..., ADJUSTED[method], :, :], within)
    return Inference(fit, method, fit.covariance, within)


def check_method(method: str, likelihood: str = "reml") -> None:
    """Raises ClaimError for a method there is not, or one that does not go with the likelihood."""
    if method not in METHODS:
        raise ClaimError(f"The method is '{method}'; choose one of: {', '.join(METHODS)}.")
    if method in ADJUSTED and likelihood != "reml":
        raise ClaimError("Kenward and Roger's method is defined for REML only: use likelihood 'reml' or Satterthwaite.")


def estimate(judged: Inference, rows: np.ndarray, level: float = 0.95) -> Estimate:
    """L b for one row L (..., q) of weights per trial: estimate, error, t test and interval."""
    fit = judged.fit
    rows = np.asarray(rows, float)
    if rows.shape[-1:] != fit.coefficients.shape[-1:]:
        raise ClaimError(
            f"The weights have shape {rows.shape}; the model has {fit.coefficients.shape[-1]} coefficients."
        )
    with np.errstate(all="ignore"):
        value = np.sum(rows * fit.coefficients, -1)
        variance = _form(rows, judged.covariance)
        df = degrees(judged, rows)
    estimable = _estimable(fit, rows[..., None, :])[..., 0]
    bad = ~estimable | ~(variance > 0) | ~(df > 0)
    value = np.where(estimable, value, np.nan)
    se = np.where(bad, np.nan, np.sqrt(np.where(bad, 1.0, variance)))
    warnings = fit.warnings | flag(~estimable, Caution.NOT_ESTIMABLE) | flag(estimable & (df <= 0), Caution.TOO_FEW)
    return normal_estimate(value, se, fit.n, warnings, level, np.where(bad, np.nan, df))


def degrees(judged: Inference, rows: np.ndarray) -> np.ndarray:
    """Degrees of freedom of one row of weights (..., q) per trial."""
    fit, method = judged.fit, judged.method
    if method == "normal":
        return np.full(fit.n.shape, np.inf)
    if method == "residual":
        return np.broadcast_to((fit.observations - fit.rank).astype(float), np.sum(rows * fit.coefficients, -1).shape)
    if method == "between-within":
        return _between_within(judged, rows)
    if judged.sandwich is not None:
        return judged.sandwich.degrees(rows)
    gradient = np.einsum("...q,...mqr,...r->...m", rows, fit.slopes, rows)
    return 2 * _form(rows, fit.covariance) ** 2 / _form(gradient, fit.uncertainty)


def f_test(judged: Inference, rows: np.ndarray) -> FTest:
    """The F test of L b = 0 for rows L (..., r, q), with the method's denominator degrees of freedom."""
    fit = judged.fit
    rows = np.asarray(rows, float)
    count = rows.shape[-2]
    estimable = _estimable(fit, rows).all(-1)
    usable = estimable & fit.converged & np.isfinite(judged.covariance).all((-1, -2))
    safe = np.where(usable[..., None, None], judged.covariance, np.eye(rows.shape[-1]))
    with np.errstate(all="ignore"):
        spread, turned = np.linalg.eigh(rows @ safe @ np.swapaxes(rows, -1, -2))
        usable = usable & (spread[..., 0] > 1e-10 * spread[..., -1])
        value = np.where(usable[..., None], (rows @ fit.coefficients[..., None])[..., 0], 0.0)
        along = np.einsum("...ij,...i->...j", turned, value)
        statistic = np.sum(along**2 / np.where(usable[..., None], spread, 1.0), -1) / count
        if count > 1 and judged.method in ADJUSTED:
            df, scale = _kenward_roger(fit, rows, usable)
            statistic = statistic * scale
        else:
            df = _joint_degrees(judged, np.swapaxes(turned, -1, -2) @ rows)
    usable = usable & (df > 0)
    statistic, df = np.where(usable, statistic, np.nan), np.where(usable, df, np.nan)
    p = special.fdtrc(count, np.where(np.isinf(df), 1e15, df), statistic)
    warnings = fit.warnings | flag(~usable, Caution.NOT_ESTIMABLE)
    return FTest(statistic, np.full(p.shape, float(count)), df, p, fit.n, warnings)


def _joint_degrees(judged: Inference, rows: np.ndarray) -> np.ndarray:
    """Denominator of the F test of uncorrelated rows (..., r, q)."""
    each = np.stack([degrees(judged, rows[..., k, :]) for k in range(rows.shape[-2])], -1)
    if judged.method in ("residual", "normal", "between-within"):
        return each.min(-1)
    return _fai_cornelius(each)


def _fai_cornelius(each: np.ndarray) -> np.ndarray:
    """One denominator from the degrees of freedom of each uncorrelated row; their mean where they are all the same."""
    count = each.shape[-1]
    total = np.sum(each / (each - 2), -1)
    alike = np.ptp(each, axis=-1) < 1.5e-8
    return np.where(alike, each.mean(-1), np.where((each <= 2).any(-1), 2.0, 2 * total / (total - count)))


def _kenward_roger(fit: Fit, rows: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom m and scale lambda of Kenward and Roger's F, from the unadjusted covariance."""
    count = rows.shape[-2]
    phi = np.where(usable[..., None, None], fit.covariance, np.eye(rows.shape[-1]))
    middle = np.swapaxes(rows, -1, -2) @ np.linalg.inv(rows @ phi @ np.swapaxes(rows, -1, -2)) @ rows
    moved = middle[..., None, :, :] @ fit.slopes
    trace = np.einsum("...mqq->...m", moved)
    a1 = _form(trace, fit.uncertainty)
    a2 = np.einsum("...mn,...mqr,...nrq->...", fit.uncertainty, moved, moved)
    b = (a1 + 6 * a2) / (2 * count)
    g = ((count + 1) * a1 - (count + 4) * a2) / ((count + 2) * a2)
    denominator = 3 * count + 2 * (1 - g)
    c1, c2, c3 = g / denominator, (count - g) / denominator, (count + 2 - g) / denominator
    mean = 1 / (1 - a2 / count)
    variance = 2 / count * (1 + c1 * b) / ((1 - c2 * b) ** 2 * (1 - c3 * b))
    ratio = variance / (2 * mean**2)
    df = 4 + (count + 2) / (count * ratio - 1)
    return df, df / (mean * (df - 2))


def _between_within(judged: Inference, rows: np.ndarray) -> np.ndarray:
    """People less columns that do not vary within them, or the rest; the fewer of those a row touches (as in mmrm)."""
    fit, within = judged.fit, judged.within
    if within is None:
        raise ClaimError("Between-within degrees of freedom need to know which columns vary within people.")
    intercept = np.arange(len(within)) == 0
    between_columns = np.sum(~within & ~intercept)
    between = fit.n - between_columns - 1.0
    inside = fit.observations - fit.n - float(np.sum(within & ~intercept))
    touched = np.abs(rows) > 1e-12
    if within[~intercept].any():
        outside = (touched & ~within & ~intercept).any(-1)
    else:
        outside = np.ones(touched.shape[:-1], bool)
    return np.where(outside, np.minimum(between, inside) if within[~intercept].any() else between, inside)


def _form(vectors: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """x'A x for each trial."""
    return np.sum(vectors * (matrices @ vectors[..., None])[..., 0], -1)


def _estimable(fit: Fit, rows: np.ndarray) -> np.ndarray:
    """Whether each row (..., r, q) of L b is the same along every direction the data leave open."""
    moved = np.abs(rows @ fit.null).max(-1, initial=0.0)
    return moved <= 1e-7 * np.abs(rows).max(-1, initial=0.0)

"""Proportional hazards: Cox's partial likelihood, Firth's penalised one, and a hazard ratio that knows when none exists.

The likelihood itself is in `partial_likelihood`; here it is fitted to subjects or to the counts of two arms.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    two_sided,
)
from quell.analysis.partial_likelihood import (
    Likelihood,
    Sums,
    Ties,
    climb,
    evaluate,
    independent,
    inverse,
    profile,
)
from quell.analysis.risksets import RiskSets, risk_sets

Method = Literal["auto", "cox", "firth"]

FIELDS = Estimate._fields[:-1]


class CoxFit(NamedTuple):
    """A proportional-hazards fit for each trial of a batch: coefficients are log hazard ratios, (..., p).

    `log_likelihood` (..., 2) is at zero and at the estimate (penalised for Firth); score, wald and likelihood_ratio are
    chi-square statistics on df. For Firth, limits and p come from the profile penalised likelihood.
    """

    coefficients: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    statistic: np.ndarray
    p: np.ndarray
    covariance: np.ndarray
    log_likelihood: np.ndarray
    score: np.ndarray
    wald: np.ndarray
    likelihood_ratio: np.ndarray
    df: np.ndarray
    n: np.ndarray
    events: np.ndarray
    warnings: np.ndarray
    level: float

    def ratio(self, index: int = 0) -> Estimate:
        """The hazard ratio of one covariate, as an estimate; se is that of the log ratio."""
        return exponentiate(self.log_ratio(index))

    def log_ratio(self, index: int = 0) -> Estimate:
        """The log hazard ratio of one covariate, as an estimate."""
        parts = (self.coefficients, self.se, self.lower, self.upper, self.statistic)
        log, se, lower, upper, statistic = (field[..., index] for field in parts)
        df = np.full(np.shape(se), np.inf)
        return Estimate(log, se, lower, upper, statistic, df, self.p[..., index], self.n, self.warnings, self.level)


def cox(
    time: np.ndarray,
    event: np.ndarray,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
) -> CoxFit:
    """Cox regression by maximum partial likelihood (Cox 1972), as R's coxph: Wald intervals and tests.

    time, event, include, entry and strata as in `risk_sets`; covariates (..., n, p). Where the likelihood has no maximum
    the estimate is where the climb stopped, with a caution. Raises ClaimError where shapes do not match.

    >>> fit = cox(np.array([2.0, 3.0, 5.0, 7.0, 8.0]), np.array([1, 1, 1, 0, 1]), np.array([[1.0], [0], [1], [0], [0]]))
    >>> round(float(fit.coefficients[0]), 4)
    1.4388
    """
    sets, x = _prepared(time, event, covariates, include, entry, strata)
    return _fit_subjects(sets, x, ties, level, penalised=False)


def firth(
    time: np.ndarray,
    event: np.ndarray,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    level: float = 0.95,
) -> CoxFit:
    """Cox regression by Firth's penalised likelihood, finite even where one arm has no event.

    Penalty: log det(information) / 2 (Firth 1993; Heinze and Schemper 2001, doi:10.1111/j.0006-341X.2001.00114.x), with
    profile-penalised-likelihood limits and tests, as R's coxphf (which breaks ties by Breslow). Arguments, and what is
    raised, are as in `cox`.

    >>> fit = firth(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1]), np.array([[1.0], [1.0], [0.0]]))
    >>> round(float(fit.coefficients[0]), 4)
    1.3291
    """
    sets, x = _prepared(time, event, covariates, include, entry, strata)
    return _fit_subjects(sets, x, ties, level, penalised=True)


def hazard_ratio(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    level: float = 0.95,
    method: Method = "auto",
) -> Estimate:
    """Hazard ratio, active over control, of the two arms of the contrast: Cox (Efron ties), or Firth where none exists.

    Where every event that could have befallen either arm befell one of them (above all: an arm without events) the
    maximum-likelihood ratio is 0 or infinite; `auto` then reports Firth's estimate with its profile interval, and says
    so. `cox` reports 0 or infinity with an unbounded interval. se is that of the log ratio. time, event, arm, include and
    strata (..., n). Raises ClaimError where shapes do not match.

    >>> time, event = np.array([5.0, 9.0, 9.0, 9.0, 3.0, 6.0, 9.0, 9.0]), np.array([1, 0, 0, 0, 1, 1, 0, 0])
    >>> result = hazard_ratio(time, event, np.array([1, 1, 1, 1, 0, 0, 0, 0]))
    >>> round(float(result.estimate), 3)
    0.453
    """
    if method not in ("auto", "cox", "firth"):
        raise ClaimError(f"The method is '{method}'; choose 'auto', 'cox' or 'firth'.")
    active, control = contrast
    arm = np.asarray(arm)
    chosen = (arm == active) | (arm == control)
    sets = risk_sets(
        time, event, include=chosen if include is None else chosen & (np.asarray(include) > 0), strata=strata
    )
    code = np.broadcast_to(arm, (*sets.batch, sets.kept.shape[-1])).reshape(sets.kept.shape)
    members = [sets.kept & (code == one) for one in (control, active)]
    trials, rungs = len(sets.kept), sets.times.shape[1] * sets.times.shape[2]
    at_risk = np.stack([sets.at_risk(who).reshape(trials, rungs) for who in members], -1)
    events = np.stack([sets.at_event(who).reshape(trials, rungs) for who in members], -1)
    contested = np.where((at_risk > 0).all(-1, keepdims=True), events, 0.0).sum(1)
    monotone = (contested > 0).sum(-1) == 1
    by_firth = monotone if method == "auto" else np.full(trials, method == "firth")
    log_ratio = _log_ratio_of_arms(at_risk, events, by_firth, level)
    if method == "cox":
        log_ratio = _unbounded(log_ratio, monotone, contested)
    present = np.stack([who.any(-1) for who in members], -1)
    warnings = log_ratio.warnings | _arm_cautions(events.sum(1), present) | sets.warnings.ravel()
    warnings = warnings | flag(monotone, Caution.SEPARATION) | flag(by_firth & (contested.sum(-1) > 0), Caution.FIRTH)
    result = log_ratio._replace(n=sets.kept.sum(-1), warnings=warnings)
    return exponentiate(_shaped(result, sets.batch))


def _shaped(estimate: Estimate, batch: tuple[int, ...]) -> Estimate:
    fields: dict[str, Any] = {name: np.reshape(getattr(estimate, name), batch) for name in FIELDS}
    return estimate._replace(**fields)


def _log_ratio_of_arms(at_risk: np.ndarray, events: np.ndarray, by_firth: np.ndarray, level: float) -> Estimate:
    """Log hazard ratio of arm 1 over arm 0 from counts (B, M, 2); each trial by the likelihood it needs."""
    trials = len(events)
    fields: dict[str, Any] = {name: np.full(trials, np.nan) for name in FIELDS[:-2]}
    fields |= {name: np.zeros(trials, int) for name in FIELDS[-2:]}
    for penalised in (False, True):
        rows = by_firth == penalised
        if not rows.any():
            continue
        risk, died = at_risk[rows], events[rows]
        total = died[..., 1].sum(-1)[:, None]
        sums = functools.partial(_sums_over_arms, risk, died)
        fit = _fit(Likelihood(died.sum(-1), total, sums, "efron", penalised), level).log_ratio()
        for name in FIELDS:
            fields[name][rows] = getattr(fit, name)
    return Estimate(**fields)._replace(level=level)


def _unbounded(log_ratio: Estimate, monotone: np.ndarray, contested: np.ndarray) -> Estimate:
    """Where the likelihood rises without end: an infinite log ratio, limits that exclude nothing, and no p."""
    end = np.where(contested[:, 1] > 0, np.inf, -np.inf)
    values: dict[str, Any] = {
        "estimate": end,
        "se": np.inf,
        "lower": -np.inf,
        "upper": np.inf,
        "statistic": np.nan,
        "p": np.nan,
    }
    changed = {name: np.where(monotone, value, getattr(log_ratio, name)) for name, value in values.items()}
    return log_ratio._replace(**changed)


def _arm_cautions(events: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Cautions of a comparison of two arms, from their events and who is present (B, 2)."""
    total, both = events.sum(-1), present.all(-1)
    warnings = flag(~both, Caution.EMPTY_ARM) | flag(both & (total == 0), Caution.NO_EVENTS)
    warnings = warnings | flag(both & (total > 0) & (events == 0).any(-1), Caution.ARM_WITHOUT_EVENTS)
    return warnings | flag(both & (total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)


def _prepared(
    time: np.ndarray,
    event: np.ndarray,
    covariates: np.ndarray,
    include: np.ndarray | None,
    entry: np.ndarray | None,
    strata: np.ndarray | None,
) -> tuple[RiskSets, np.ndarray]:
    """Risk sets of the subjects with every covariate, and their covariates (B, n, p), zero where left out."""
    covariates = np.asarray(covariates, float)
    if covariates.ndim < 2 or covariates.shape[-2] != np.shape(time)[-1]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but time has {np.shape(time)}; give covariates as (..., n, p): "
            "one row per subject and one column per covariate, also where there is only one."
        )
    # a missing covariate is treated like a missing time: left out, with a caution
    known = np.isfinite(covariates).all(-1)
    sets = risk_sets(np.where(known, time, np.nan), event, include=include, entry=entry, strata=strata)
    rows = np.broadcast_to(covariates, (*sets.batch, *covariates.shape[-2:])).reshape(*sets.kept.shape, -1)
    return sets, np.where(sets.kept[..., None], rows, 0.0)


def _fit_subjects(sets: RiskSets, x: np.ndarray, ties: Ties, level: float, penalised: bool) -> CoxFit:
    """Standardise, fit, and return to the covariates' own units and the batch's own shape."""
    size = np.maximum(sets.kept.sum(-1), 1)[:, None, None]
    weight = sets.kept[..., None]
    x = np.where(weight, x - x.sum(1, keepdims=True) / size, 0.0)
    spread = np.sqrt(np.sum(x**2, 1, keepdims=True) / size)
    flat = spread <= 1e-12 * np.maximum(np.abs(x).max(1, keepdims=True, initial=0.0), 1e-300)
    unit = np.where(flat, 1.0, spread)
    x = np.where(flat, 0.0, x / unit)
    trials = len(x)
    events = sets.at_event(np.ones(1)).reshape(trials, sets.times.shape[1] * sets.times.shape[2])
    total = np.sum(np.where(sets.event[..., None], x, 0.0), 1)
    likelihood = Likelihood(events, total, lambda b, order: _sums_over_subjects(sets, x, b, order), ties, penalised)
    fit = _fit(likelihood, level)
    unit = unit[:, 0, :]
    named = {name: getattr(fit, name) / unit for name in ("coefficients", "se", "lower", "upper")}
    covariance = fit.covariance / (unit[:, :, None] * unit[:, None, :])
    # the information is in units of 1 / x²: so much does the penalty change with the units
    log_likelihood = fit.log_likelihood + (np.log(unit).sum(-1)[:, None] if penalised else 0.0)
    n, died = sets.kept.sum(-1), sets.event.sum(-1)
    warnings = fit.warnings | sets.warnings.ravel() | flag(died == 0, Caution.NO_EVENTS)
    warnings = warnings | flag((died > 0) & (died < FEW_EVENTS), Caution.FEW_EVENTS)
    fit = fit._replace(
        **named, covariance=covariance, log_likelihood=log_likelihood, n=n, events=died, warnings=warnings
    )
    shaped = {name: getattr(fit, name) for name in CoxFit._fields[:-1]}
    return fit._replace(**{name: field.reshape((*sets.batch, *field.shape[1:])) for name, field in shaped.items()})


def _sums_over_subjects(sets: RiskSets, x: np.ndarray, b: np.ndarray, order: int) -> Sums:
    """Sums of w, wx, wxx' (and wxxx), w = exp(x'b), by histogram over the ladder."""
    (trials, _, p), rungs = x.shape, sets.times.shape[1] * sets.times.shape[2]
    risk = np.einsum("bnp,bp->bn", x, b)
    w = np.exp(np.clip(risk, -500, 500))
    at_risk, at_event = [], []
    for k in range(order + 1):
        shape = (trials, rungs, *(p,) * k)
        pieces = [w if not index else w * np.prod([x[..., i] for i in index], 0) for index in np.ndindex(*(p,) * k)]
        at_risk.append(np.stack([sets.at_risk(one).reshape(trials, rungs) for one in pieces], -1).reshape(shape))
        at_event.append(np.stack([sets.at_event(one).reshape(trials, rungs) for one in pieces], -1).reshape(shape))
    return Sums(tuple(at_risk), tuple(at_event))


def _sums_over_arms(at_risk: np.ndarray, events: np.ndarray, b: np.ndarray, order: int) -> Sums:
    """The same sums for two arms coded 0 and 1: all powers of x are x, and subjects are only counts."""
    w = np.exp(np.clip(b, -500, 500))
    zero = (at_risk[..., 0] + w * at_risk[..., 1], events[..., 0] + w * events[..., 1])
    one = (w * at_risk[..., 1], w * events[..., 1])
    shapes = [(*one[0].shape, *(1,) * k) for k in range(1, order + 1)]
    return Sums(
        (zero[0], *(one[0].reshape(shape) for shape in shapes)), (zero[1], *(one[1].reshape(shape) for shape in shapes))
    )


def _fit(likelihood: Likelihood, level: float) -> CoxFit:
    """Fit flattened trials; coefficients that the data do not determine are NaN."""
    trials, p = likelihood.covariate_total.shape
    zero = np.zeros((trials, p))
    everything = np.ones((trials, p), bool)
    plain = evaluate(likelihood._replace(penalised=False), zero, everything)
    free = independent(plain.information)
    start = evaluate(likelihood, zero, free)
    b, value, converged = climb(likelihood, zero, free, free)
    covariance = inverse(value.information, free)
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    se = np.where(free & (variance > 0), np.sqrt(np.maximum(variance, 0.0)), np.nan)
    if likelihood.penalised:
        lower, upper, statistic = profile(likelihood, b, value.height, free, np.nan_to_num(se), level)
    else:
        half = critical(level) * se
        lower, upper, statistic = b - half, b + half, b / np.where(se > 0, se, np.nan)
    estimable = free.any(-1)
    warnings = flag(~free.all(-1) & estimable, Caution.SINGULAR) | flag(~estimable, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(~converged & estimable, Caution.NOT_CONVERGED)
    warnings = warnings | flag((np.abs(b) >= likelihood.bound).any(-1), Caution.SEPARATION)
    both = free[:, :, None] & free[:, None, :]
    return CoxFit(
        coefficients=np.where(free, b, np.nan),
        se=se,
        lower=np.where(free, lower, np.nan),
        upper=np.where(free, upper, np.nan),
        statistic=np.where(free, statistic, np.nan),
        p=two_sided(np.where(free, statistic, np.nan)),
        covariance=covariance,
        log_likelihood=np.stack([start.height, value.height], -1),
        score=np.einsum("bp,bpq,bq->b", plain.gradient, inverse(plain.information, free), plain.gradient),
        wald=np.einsum("bp,bpq,bq->b", b, np.where(both, value.information, 0.0), b),
        likelihood_ratio=np.maximum(2 * (value.height - start.height), 0.0),
        df=free.sum(-1),
        n=np.zeros(trials, int),
        events=likelihood.events.sum(-1),
        warnings=warnings,
        level=level,
    )

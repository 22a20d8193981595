"""Restricted mean survival time adjusted for covariates, by inverse-probability-of-censoring weighted regression.

As survRM2's adjusted analysis: E[min(T, until)], or until minus it, on arm and covariates (Tian, Zhao and Wei 2014).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.armcounts import contrast_arms
from quell.analysis.claim import Caution, ClaimError, Estimate, exponentiate, flag, normal_estimate
from quell.analysis.product_limit import product_limit
from quell.analysis.risksets import RiskSets, risk_sets

Measure = Literal["difference", "ratio", "lost ratio"]
# Fisher scoring of a well-posed log-linear mean needs about ten steps.
STEPS, CONVERGED = 60, 1e-11


class Regression(NamedTuple):
    """What the weighted regression needs: design (B, n, q), outcome, weight and membership (B, n)."""

    design: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray
    kept: np.ndarray


def adjusted_restricted_mean(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    until: float,
    covariates: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    measure: Measure = "difference",
    level: float = 0.95,
) -> Estimate:
    """Difference or ratio of restricted mean survival times adjusted for covariates, active against control.

    min(T, until) = b0 + b1 arm + covariates, or its log, or the log of the time `lost`; patients whose min(T, until) is seen
    weigh 1 / G, G the Kaplan-Meier curve of censoring within the arm. The sandwich variance carries the estimation of G
    (Tian, Zhao and Wei 2014, doi:10.1093/biostatistics/kxt050), as R's survRM2. Ratios are exponentiated, se is of the
    log. time, event, arm and include (..., n), covariates (..., n, p). Raises ClaimError where shapes do not match or the
    measure has another name.

    >>> time, event = np.array([2.0, 4.0, 9.0, 3.0, 9.0, 9.0]), np.array([1, 1, 0, 1, 0, 0])
    >>> age = np.array([[60.0], [50.0], [40.0], [55.0], [45.0], [40.0]])
    >>> found = adjusted_restricted_mean(time, event, np.array([0, 0, 0, 1, 1, 1]), 6, age)
    >>> round(float(found.estimate), 4)
    0.3158
    """
    if measure not in ("difference", "ratio", "lost ratio"):
        raise ClaimError(f"The measure is '{measure}'; choose 'difference', 'ratio' or 'lost ratio'.")
    sets, fit_to, warnings = _prepared(time, event, contrast_arms(arm, contrast), until, covariates, include)
    if measure == "lost ratio":
        fit_to = fit_to._replace(outcome=until - fit_to.outcome)
    if measure == "difference":
        slopes, converged = _weighted_least_squares(fit_to), np.ones(len(fit_to.kept), bool)
        fitted, information = _line(fit_to, slopes), fit_to.kept.astype(float)
    else:
        slopes, converged = _weighted_log_mean(fit_to)
        fitted = np.exp(np.clip(_line(fit_to, slopes), -700, 700))
        information = np.where(fit_to.kept, fitted, 0.0)
    score = fit_to.design * (fit_to.weight * (fit_to.outcome - fitted))[..., None]
    influence = _with_censoring(sets, score)
    bread = _inverse(np.swapaxes(fit_to.design * information[..., None], 1, 2) @ fit_to.design)
    covariance = bread @ (np.swapaxes(influence, 1, 2) @ influence) @ bread
    doubts = _confounded(fit_to)
    # what the data leave open never settles
    lost = ~converged & ((doubts & Caution.NOT_ESTIMABLE) == 0)
    warnings = warnings | doubts | flag(lost, Caution.NOT_CONVERGED)
    if measure != "difference":
        # an arm in which nobody survived, or lost, any time has no logarithm
        each = [fit_to.design[..., 1] == arm for arm in (0, 1)]
        some = np.all([(who * fit_to.weight * fit_to.outcome).sum(-1) > 1e-12 * until for who in each], 0)
        warnings = warnings | flag(~some, Caution.NOT_ESTIMABLE)
    return _estimate(sets, slopes, covariance, warnings, until, measure, level)


def _prepared(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    until: float,
    covariates: np.ndarray,
    include: np.ndarray | None,
) -> tuple[RiskSets, Regression, np.ndarray]:
    """Risk sets of censoring within arms, and the weighted regression of the time up to `until`."""
    covariates, time, event = np.asarray(covariates, float), np.asarray(time, float), np.asarray(event, float)
    if covariates.ndim < 2 or covariates.shape[-2] != time.shape[-1]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but time has {time.shape}; give covariates as (..., n, p): one "
            "row per subject and one column per covariate, also where there is only one."
        )
    known = np.isfinite(covariates).all(-1) & np.isfinite(event)
    seen = (event > 0) | (time >= until)
    member = (arm >= 0) if include is None else (arm >= 0) & np.asarray(include, bool)
    capped = np.where(known, np.minimum(time, until), np.nan)
    sets = risk_sets(capped, ~seen, include=member, strata=np.maximum(arm, 0))
    kept, batch = sets.kept, sets.batch
    rows = np.broadcast_to(covariates, (*batch, *covariates.shape[-2:])).reshape(*kept.shape, covariates.shape[-1])
    arms, watched = (np.broadcast_to(one, (*batch, kept.shape[-1])).reshape(kept.shape) for one in (arm, seen))
    design = np.concatenate([np.ones((*kept.shape, 1)), arms[..., None].astype(float), rows], -1)
    uncensored, _ = product_limit(sets.at_risk(np.ones(1)), sets.at_event(np.ones(1)))
    still = _at_subject(
        sets, np.concatenate([np.ones_like(uncensored[..., :1]), uncensored], -1) if uncensored.size else uncensored
    )
    usable = kept & watched & (still > 0)
    weight = np.where(usable, 1 / np.where(usable, still, 1.0), 0.0)
    outcome = np.where(kept, np.where(np.isfinite(sets.time), sets.time, 0.0), 0.0)
    fit_to = Regression(np.where(kept[..., None], design, 0.0), outcome, weight, kept)
    largest = [np.where(kept & (arms == one), outcome, 0.0).max(-1, initial=0.0) for one in (0, 1)]
    empty = ~np.all([(kept & (arms == one)).any(-1) for one in (0, 1)], 0)
    warnings = flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE) | sets.warnings.ravel()
    return sets, fit_to, warnings | flag((np.minimum(*largest) < until) & ~empty, Caution.BEYOND_FOLLOW_UP)


def _at_subject(sets: RiskSets, running: np.ndarray) -> np.ndarray:
    """A running curve over rungs, (B, S, M + 1) with its start first, as it stands at each subject's own time (B, n)."""
    if not running.size:
        return np.ones(sets.kept.shape)
    trial = np.arange(len(sets.kept))[:, None]
    return running[trial, sets.stratum, np.where(sets.kept, sets.last, 0)]


def _with_censoring(sets: RiskSets, score: np.ndarray) -> np.ndarray:
    """Each subject's score plus what its censoring, or being at risk of it, adds through the estimate of G."""
    at_risk = sets.at_risk(np.ones(1))
    leaving = sets.at_event(np.ones(1))
    if not at_risk.size:
        return score
    columns = []
    safe = np.maximum(at_risk, 1.0)
    for k in range(score.shape[-1]):
        mean = sets.at_risk(score[..., k]) / safe
        start = np.zeros_like(mean[..., :1])
        running = np.concatenate([start, np.cumsum(mean * leaving / safe, -1)], -1)
        own = _at_subject(sets, np.concatenate([start, mean], -1))
        columns.append(
            score[..., k] + np.where(sets.event, own, 0.0) - np.where(sets.kept, _at_subject(sets, running), 0.0)
        )
    return np.stack(columns, -1)


def _line(fit_to: Regression, slopes: np.ndarray) -> np.ndarray:
    return np.einsum("bnq,bq->bn", fit_to.design, slopes)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of each information matrix, on unit diagonal so that no unit of a covariate matters."""
    size = np.sqrt(np.maximum(np.einsum("bii->bi", matrix), 1e-300))
    scale = size[:, :, None] * size[:, None, :]
    return np.linalg.pinv(matrix / scale, rcond=1e-12, hermitian=True) / scale


def _confounded(fit_to: Regression) -> np.ndarray:
    """Cautions where the weighted design repeats a column, or leaves the arm's own effect undetermined."""
    information = np.swapaxes(fit_to.design * fit_to.weight[..., None], 1, 2) @ fit_to.design
    kept = _inverse(information) @ information
    singular = np.einsum("bii->b", kept) < information.shape[-1] - 0.5
    return flag(singular, Caution.SINGULAR) | flag(np.abs(kept[:, 1, 1] - 1) > 1e-6, Caution.NOT_ESTIMABLE)


def _weighted_least_squares(fit_to: Regression) -> np.ndarray:
    weighted = np.swapaxes(fit_to.design * fit_to.weight[..., None], 1, 2)
    return np.einsum(
        "bpq,bq->bp", _inverse(weighted @ fit_to.design), np.einsum("bqn,bn->bq", weighted, fit_to.outcome)
    )


def _weighted_log_mean(fit_to: Regression) -> tuple[np.ndarray, np.ndarray]:
    """Root of sum of weight x (outcome - exp(x b)) by Fisher scoring, from the log of the weighted mean."""
    total = np.maximum(fit_to.weight.sum(-1), 1e-300)
    mean = (fit_to.weight * fit_to.outcome).sum(-1) / total
    slopes = np.zeros((len(mean), fit_to.design.shape[-1]))
    slopes[:, 0] = np.log(np.maximum(mean, 1e-300))
    done = np.zeros(len(mean), bool)
    for _ in range(STEPS):
        fitted = np.exp(np.clip(_line(fit_to, slopes), -700, 700))
        gradient = np.einsum("bnq,bn->bq", fit_to.design, fit_to.weight * (fit_to.outcome - fitted))
        information = np.swapaxes(fit_to.design * (fit_to.weight * fitted)[..., None], 1, 2) @ fit_to.design
        step = np.einsum("bpq,bq->bp", _inverse(information), gradient)
        moved = np.abs(np.einsum("bnq,bq->bn", fit_to.design, step)).max(-1, initial=0.0)
        step = step / np.maximum(moved, 1.0)[:, None]
        slopes = np.where(done[:, None], slopes, slopes + step)
        done |= moved < CONVERGED
        if done.all():
            break
    return slopes, done


def _estimate(
    sets: RiskSets,
    slopes: np.ndarray,
    covariance: np.ndarray,
    warnings: np.ndarray,
    until: float,
    measure: Measure,
    level: float,
) -> Estimate:
    """The arm's slope as an estimate; where nothing varies but rounding, without an error."""
    rounding = 1e-10 * (until if measure == "difference" else 1.0)
    none = (warnings & Caution.NOT_ESTIMABLE) > 0
    variance = covariance[:, 1, 1]
    flat = ~(variance > rounding**2) & ~none
    slope = np.where(flat & (np.abs(slopes[:, 1]) < rounding), 0.0, slopes[:, 1])
    estimate = np.where(none, np.nan, slope)
    se = np.where(none | flat, np.nan, np.sqrt(np.where(none | flat, 1.0, variance)))
    warnings = warnings | flag(flat, Caution.CONSTANT_OUTCOME)
    estimate, se, n, warnings = (np.reshape(one, sets.batch) for one in (estimate, se, sets.kept.sum(-1), warnings))
    result = normal_estimate(estimate, se, n, warnings, level)
    return result if measure == "difference" else exponentiate(result)

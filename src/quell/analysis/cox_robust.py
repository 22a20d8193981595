"""Residuals of proportional-hazards fits, and the robust errors that are made of them.

With w_i, H_i and m as in `cox_likelihood`, the martingale residual is event - exp(x'b) H, the score residual is the same
with (x - m) inside the sums, and dfbeta is the score residual times the covariance. Efron's ties are treated as in R's
survival package (Therneau and Grambsch 2000).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import FEW_CLUSTERS, Caution, ClaimError, flag
from quell.analysis.cox_likelihood import (
    Prepared,
    Spells,
    State,
    cumulative_hazard,
    evaluate,
    exposure,
    flattened,
    of_events,
    prepared,
    state,
    with_ties,
)
from quell.analysis.partial_likelihood import Ties, inverse

Kind = Literal["martingale", "score", "dfbeta", "schoenfeld"]


class Clustered(NamedTuple):
    """The robust covariance (B, p, p), the robust score test at zero, and cautions."""

    covariance: np.ndarray
    score: np.ndarray
    warnings: np.ndarray


def residuals(
    spells: Spells, coefficients: np.ndarray, kind: Kind = "martingale", *, ties: Ties = "efron"
) -> np.ndarray:
    """Residuals of each subject (or row) at the coefficients (..., p) of a fit, as R's residuals.coxph.

    martingale (..., n); score, dfbeta (weighted by the case weights, if any) and schoenfeld (..., n, p), the last NaN for
    subjects without an event; all NaN for subjects left out. Raises ClaimError for a kind there is not, or shapes that do
    not match.

    >>> rows = Spells(np.array([2.0, 3.0, 5.0, 7.0]), np.array([1, 1, 0, 1]), np.array([[1.0], [0], [1], [0]]))
    >>> residuals(rows, np.array([0.5])).round(3).tolist()
    [0.689, 0.537, -0.763, -0.463]
    """
    if kind not in ("martingale", "score", "dfbeta", "schoenfeld"):
        raise ClaimError(f"The residual is '{kind}'; choose 'martingale', 'score', 'dfbeta' or 'schoenfeld'.")
    flat, batch = flattened(spells)
    ready = prepared(flat, ties)
    p = flat.covariates.shape[-1]
    b = np.nan_to_num(np.broadcast_to(coefficients, (*batch, p)).reshape(-1, p)) * ready.unit
    at = state(ready, b)
    kept = ready.sets.kept
    if kind == "martingale":
        found = np.where(kept, _martingale(ready, at), np.nan)
        return found.reshape(*batch, kept.shape[-1])
    found = schoenfeld(ready, at) if kind == "schoenfeld" else score_residuals(ready, at)
    if kind == "dfbeta":
        found = _dfbeta(ready, b, found)
    found = np.moveaxis(found, 0, -1) * (1 / ready.unit if kind == "dfbeta" else ready.unit)[:, None, :]
    seen = kept if kind != "schoenfeld" else kept & ready.sets.event
    return np.where(seen[..., None], found, np.nan).reshape(*batch, kept.shape[-1], p)


def _dfbeta(ready: Prepared, b: np.ndarray, score: np.ndarray) -> np.ndarray:
    free = np.ones(b.shape, bool)
    covariance = inverse(evaluate(ready, b).information, free)
    weight = 1.0 if ready.weights is None else ready.weights
    return weight * np.einsum("pbn,bpq->qbn", score, covariance)


def _martingale(ready: Prepared, at: State) -> np.ndarray:
    weight = np.ones(1) if ready.weights is None else np.where(ready.weights > 0, ready.weights, 1.0)
    return ready.sets.event - at.w / weight * cumulative_hazard(ready, at)


def score_residuals(ready: Prepared, at: State) -> np.ndarray:
    """Each subject's part of the score, (p, B, n), standardised and without case weights."""
    weight = np.ones(1) if ready.weights is None else np.where(ready.weights > 0, ready.weights, 1.0)
    risk = at.w / weight
    felt = cumulative_hazard(ready, at)
    found = schoenfeld(ready, at)
    for j, one in enumerate(ready.x):
        drift = exposure(ready, *with_ties(ready, at.hazard * at.mean[j], at.tied_hazard * at.tied_mean[j]))
        found[j] -= risk * (one * felt - drift)
    return np.where(ready.sets.kept, found, 0.0)


def schoenfeld(ready: Prepared, at: State) -> np.ndarray:
    """x - m at each event, m averaged over the terms of tied events; zero for those without: (p, B, n)."""
    found = np.zeros(ready.x.shape)
    event, tied = ready.sets.event, ready.tied
    for j, one in enumerate(ready.x):
        mean = at.mean[j]
        if tied is not None:
            mean = mean.copy()
            flat = mean.reshape(-1)
            whole = flat[tied.rung] + np.bincount(tied.rung_of_term, at.tied_mean[j], len(tied.rung))
            flat[tied.rung] = whole / tied.size
        found[j][event] = one[event] - of_events(ready, mean)
    return found


def whole_codes(cluster: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cluster codes as whole numbers from 0, flattened to (B, n)."""
    try:
        codes = np.broadcast_to(np.asarray(cluster), shape).reshape(-1, shape[-1])
    except ValueError:
        raise ClaimError(
            f"Cluster has shape {np.shape(cluster)}, which does not fit trials and subjects {shape}; give one code per row."
        ) from None
    if codes.dtype.kind in "iu" and (not codes.size or (codes.min() >= 0 and codes.max() < 4 * shape[-1])):
        return codes.astype(np.int64)
    _, number = np.unique(codes, return_inverse=True)
    return number.reshape(codes.shape)


def clustered(ready: Prepared, b: np.ndarray, naive: np.ndarray, free: np.ndarray, codes: np.ndarray) -> Clustered:
    """Robust covariance V U'U V of the summed, weighted score residuals U of each cluster (Lin and Wei 1989)."""
    sums, people = _by_cluster(ready, score_residuals(ready, state(ready, b)), codes)
    spread = np.einsum("pbk,qbk->bpq", sums, sums)
    covariance = naive @ spread @ naive
    at_zero, _ = _by_cluster(ready, score_residuals(ready, state(ready, np.zeros(b.shape))), codes)
    total = at_zero.sum(-1).T
    spread = inverse(np.einsum("pbk,qbk->bpq", at_zero, at_zero), free)
    score = np.einsum("bp,bpq,bq->b", total, spread, total)
    few = (people < FEW_CLUSTERS) & (people > 0)
    return Clustered(covariance, score, flag(few, Caution.FEW_CLUSTERS))


def _by_cluster(ready: Prepared, score: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of weighted residuals (p, B, n) over the rows of each cluster, (p, B, K); and how many clusters there are."""
    trials, size = len(codes), int(codes.max(initial=0)) + 1
    cell = (np.arange(trials)[:, None] * size + codes).ravel()
    if ready.weights is not None:
        score = score * ready.weights
    sums = np.stack([np.bincount(cell, one.ravel(), trials * size).reshape(trials, size) for one in score])
    present = np.bincount(cell, ready.sets.kept.ravel(), trials * size).reshape(trials, size) > 0
    return sums, present.sum(-1)

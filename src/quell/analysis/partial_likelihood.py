"""The partial likelihood of proportional hazards, plain or penalised, climbed for a whole batch of trials at once.

log L(b) = sum over event times of [ sum of x'b over the d events - sum_{l<d} log phi_l(b) ],
phi_l = sum of exp(x'b) over those at risk - f_l x the same sum over the d events,

with f_l = l / d for Efron's ties and 0 for Breslow's. Each log phi is the cumulant function of a weighted risk set, so
that the score, the information and the gradient of Firth's penalty, log det(information) / 2, are sums of its first
three cumulants (mean, covariance, third central moment of x).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

Ties = Literal["efron", "breslow"]

STEPS = 60
HALVINGS = 12
CONVERGED = 1e-9
NUDGE = 1e-4
# A standardised log hazard ratio this large is on its way to infinity; with Firth's penalty it may yet have a peak.
DIVERGED = 12.0
DIVERGED_PENALISED = 60.0


class Sums(NamedTuple):
    """Weighted sums over those at risk at each event time, and over the events there: orders 0 to 3 of x."""

    at_risk: tuple[np.ndarray, ...]
    at_event: tuple[np.ndarray, ...]


class Likelihood(NamedTuple):
    """Trials flattened: events per time (B, M), their covariate total (B, p), and the sums at any coefficients."""

    events: np.ndarray
    covariate_total: np.ndarray
    sums: Callable[[np.ndarray, int], Sums]
    ties: Ties
    penalised: bool

    @property
    def bound(self) -> float:
        """Standardised coefficients beyond this are diverging."""
        return DIVERGED_PENALISED if self.penalised else DIVERGED


class Value(NamedTuple):
    """The log likelihood (penalised or not) with its gradient, and the information, at some coefficients."""

    height: np.ndarray
    gradient: np.ndarray
    information: np.ndarray


def evaluate(likelihood: Likelihood, b: np.ndarray, free: np.ndarray) -> Value:
    """Height, gradient and information at coefficients b (B, p); coefficients not free count as absent."""
    order = 3 if likelihood.penalised else 2
    sums = likelihood.sums(b, order)
    d = likelihood.events
    height = np.einsum("bp,bp->b", likelihood.covariate_total, b)
    gradient = likelihood.covariate_total
    information = np.zeros((*b.shape, b.shape[-1]))
    third = np.zeros((*b.shape, b.shape[-1], b.shape[-1]))
    deepest = int(d.max(initial=0)) if likelihood.ties == "efron" else min(1, int(d.max(initial=0)))
    for ell in range(deepest):
        counts = (d > ell).astype(float) if likelihood.ties == "efron" else d
        share = ell / np.maximum(d, 1.0)
        log_total, mean, variance, skew = _cumulants(sums, share, counts > 0)
        height = height - np.sum(counts * log_total, -1)
        gradient = gradient - np.einsum("bm,bmp->bp", counts, mean)
        information = information + np.einsum("bm,bmpq->bpq", counts, variance)
        if skew is not None:
            third = third + np.einsum("bm,bmpqr->bpqr", counts, skew)
    if likelihood.penalised:
        height = height + _log_determinant(information, free) / 2
        gradient = gradient + np.einsum("bqr,bpqr->bp", inverse(information, free), third) / 2
    return Value(height, gradient, information)


def _cumulants(
    sums: Sums, share: np.ndarray, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Log total, mean, covariance and third central moment of x over those at risk, less a share of the events."""
    parts = []
    for k, (risk, dead) in enumerate(zip(*sums, strict=True)):
        expand = (...,) + (None,) * k
        parts.append(np.where(used[expand], risk - share[expand] * dead, 1.0 if k == 0 else 0.0))
    total, first, second = parts[0], parts[1] / parts[0][..., None], parts[2] / parts[0][..., None, None]
    square = first[..., :, None] * first[..., None, :]
    log_total = np.log(total)
    if len(parts) == 3:
        return log_total, first, second - square, None
    raw = parts[3] / total[..., None, None, None]
    cube = square[..., None] * first[..., None, None, :]
    cross = second[..., :, :, None] * first[..., None, None, :]
    skew = raw - cross - np.moveaxis(cross, -1, -2) - np.moveaxis(cross, -1, -3) + 2 * cube
    return log_total, first, second - square, skew


def masked(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The information with the rows and columns of coefficients that are not free made those of the identity."""
    both = free[..., :, None] & free[..., None, :]
    return np.where(both, information, np.where(np.eye(free.shape[-1], dtype=bool) & ~both, 1.0, 0.0))


def inverse(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Inverse over the free coefficients, zero elsewhere."""
    known = masked(information, free)
    if known.shape[-1] == 1:
        result = 1 / np.where(known > 0, known, np.inf)
    else:
        result = np.linalg.pinv(known, rcond=1e-13, hermitian=True)
    return np.where(free[..., :, None] & free[..., None, :], result, 0.0)


def _log_determinant(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    sign, log = np.linalg.slogdet(masked(information, free))
    return np.where(sign > 0, log, -np.inf)


def independent(information: np.ndarray) -> np.ndarray:
    """Which coefficients (B, p) the information determines, given the ones before: those with a Cholesky pivot."""
    rest = information.copy()
    scale = np.diagonal(information, axis1=-2, axis2=-1)
    kept = np.zeros(scale.shape, bool)
    for k in range(scale.shape[-1]):
        pivot = rest[:, k, k]
        kept[:, k] = (pivot > 1e-9 * scale[:, k]) & (pivot > 1e-12)
        column = rest[:, :, k] * (kept[:, k] / np.where(kept[:, k], pivot, 1.0))[:, None]
        rest = rest - column[:, :, None] * rest[:, k, None, :]
    return kept


def _curvature_inverse(
    likelihood: Likelihood, b: np.ndarray, value: Value, free: np.ndarray, moving: np.ndarray
) -> np.ndarray:
    """Inverse of minus the second derivative over the moving coefficients, zero elsewhere.

    Unpenalised, that is the information. With the penalty it is differenced from the gradient, because the information
    alone makes Newton's method crawl where events are few; where it is not positive, the information serves.
    """
    if not likelihood.penalised or not moving.any():
        return inverse(value.information, moving)
    columns = []
    for j in range(b.shape[-1]):
        nudge = np.zeros(b.shape[-1])
        nudge[j] = NUDGE
        ahead, behind = (evaluate(likelihood, b + way * nudge, free).gradient for way in (1, -1))
        columns.append((behind - ahead) / (2 * NUDGE))
    curvature = np.stack(columns, -1)
    curvature = masked((curvature + np.swapaxes(curvature, -1, -2)) / 2, moving)
    lowest = np.linalg.eigvalsh(curvature)[..., 0]
    firm = (lowest > 1e-8)[:, None, None]
    return inverse(np.where(firm, curvature, value.information), moving)


def climb(
    likelihood: Likelihood, start: np.ndarray, free: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, Value, np.ndarray]:
    """Newton's method from start over the moving coefficients, halving steps that descend; and which trials converged."""
    b, value = start, evaluate(likelihood, start, free)
    going = np.asarray(moving.any(-1))
    for _ in range(STEPS):
        step = np.einsum("bpq,bq->bp", _curvature_inverse(likelihood, b, value, free, moving), value.gradient)
        step = np.clip(np.where(going[:, None], step, 0.0), -2.0, 2.0)
        going = going & (np.abs(step) > CONVERGED).any(-1) & (np.abs(b) < likelihood.bound).all(-1)
        if not going.any():
            break
        step = np.where(going[:, None], step, 0.0)
        following = evaluate(likelihood, b + step, free)
        for _ in range(HALVINGS):
            worse = going & ~(following.height >= value.height - 1e-11 * np.abs(value.height))
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
            following = evaluate(likelihood, b + step, free)
        b, value = b + step, following
    return b, value, ~going & (np.abs(b) < likelihood.bound).all(-1)


def profile(
    likelihood: Likelihood, best: np.ndarray, peak: np.ndarray, free: np.ndarray, se: np.ndarray, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limits where the profile falls by half the chi-square quantile, and signed roots of the likelihood ratio at zero."""
    lower, upper, statistic = (np.full(best.shape, np.nan) for _ in range(3))
    drop = special.chdtri(1, 1 - level) / 2
    for j in range(best.shape[-1]):
        moving = free.copy()
        moving[:, j] = False

        def depth(at: np.ndarray, start: np.ndarray, j: int = j, moving: np.ndarray = moving) -> tuple:
            fixed = start.copy()
            fixed[:, j] = at
            b, value, _ = climb(likelihood, fixed, free, moving)
            return value.height - peak, b

        lower[:, j] = _fall(depth, best, j, -np.maximum(se[:, j], 0.1), drop)
        upper[:, j] = _fall(depth, best, j, np.maximum(se[:, j], 0.1), drop)
        at_zero, _ = depth(np.zeros(len(best)), best)
        statistic[:, j] = np.sign(best[:, j]) * np.sqrt(np.maximum(-2 * at_zero, 0.0))
    return lower, upper, statistic


def _fall(
    depth: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    best: np.ndarray,
    j: int,
    stride: np.ndarray,
    drop: float,
) -> np.ndarray:
    """Where along coefficient j, from the peak, the profile has fallen by `drop`: bracket outward, then false position."""
    inside, high = best[:, j], np.full(len(best), drop)
    outside = best[:, j] + 2 * stride
    fallen, path = depth(outside, best)
    low = fallen + drop
    for _ in range(20):
        short = low > 0
        if not short.any():
            break
        inside, high = np.where(short, outside, inside), np.where(short, low, high)
        stride = 1.6 * stride
        outside = np.where(short, outside + stride, outside)
        fallen, path = depth(outside, path)
        low = fallen + drop
    bracketed = low <= 0
    for _ in range(50):
        guess = inside + (outside - inside) * high / np.where(high > low, high - low, 1.0)
        fallen, path = depth(guess, path)
        value = fallen + drop
        if np.all((np.abs(value) < 1e-10) | ~bracketed | ~np.isfinite(value)):
            break
        above = value > 0
        # Illinois: the end that stays is halved, so that both ends close in
        inside, high = np.where(above, guess, inside), np.where(above, value, high / 2)
        outside, low = np.where(above, outside, guess), np.where(above, low / 2, value)
    return np.where(bracketed, guess, np.nan)

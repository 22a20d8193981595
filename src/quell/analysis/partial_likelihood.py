"""Likelihoods of a few coefficients, climbed for a whole batch of trials at once, and profiled for their limits.

The partial likelihood of proportional hazards (Cox 1972) is

log L(b) = sum over event times of [ sum of x'b over the d events - sum_{l<d} log phi_l(b) ],
phi_l = sum of exp(x'b) over those at risk - f_l x the same sum over the d events,

with f_l = l / d for Efron's ties and 0 for Breslow's. Firth (1993) adds log det(information) / 2. `cox_likelihood`
evaluates it for subjects with covariates, `arm_likelihood` for the counts of two arms; here is what both need to be
climbed: a `Hill` to evaluate, Newton's method, and the profile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

Ties = Literal["efron", "breslow"]

# Newton's steps and halvings on the way to a maximum, and down to a limit of a profile: well-posed ones need about six.
STEPS, HALVINGS, DESCENTS = 60, 12, 25
# The step, in standardised units, at which another changes nothing that is shown.
CONVERGED = 1e-9
# Half the width of a central difference of the gradient, in standardised units.
NUDGE = 1e-4
# A standardised log hazard ratio this large is on its way to infinity; with Firth's penalty it may yet have a peak.
DIVERGED = 12.0
DIVERGED_PENALISED = 60.0


class Value(NamedTuple):
    """The log likelihood (penalised or not) with its gradient, the information, and minus its second derivative.

    height (B,), gradient (B, p), information (B, p, p); `curvature` is None where the information is that derivative, or
    where it is not known.
    """

    height: np.ndarray
    gradient: np.ndarray
    information: np.ndarray
    curvature: np.ndarray | None = None


class Hill(NamedTuple):
    """A log likelihood to climb: its value at coefficients b (B, p), where those not free (B, p) count as absent."""

    evaluate: Callable[[np.ndarray, np.ndarray], Value]
    penalised: bool = False

    @property
    def bound(self) -> float:
        """Standardised coefficients beyond this are diverging."""
        return DIVERGED_PENALISED if self.penalised else DIVERGED


def masked(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The information with the rows and columns of coefficients that are not free made those of the identity."""
    if free.all():
        return information
    both = free[..., :, None] & free[..., None, :]
    return np.where(both, information, np.where(np.eye(free.shape[-1], dtype=bool) & ~both, 1.0, 0.0))


def inverse(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Inverse of a positive definite matrix over the free coefficients, zero elsewhere and where a pivot vanishes.

    Gauss-Jordan elimination, which needs no pivoting for such matrices, for the whole batch at once.
    """
    rest = masked(information, free).astype(float)
    scale = 1e-14 * np.abs(np.diagonal(rest, axis1=-2, axis2=-1))
    for k in range(free.shape[-1]):
        pivot = rest[..., k, k]
        firm = pivot > scale[..., k]
        over = np.where(firm, 1 / np.where(firm, pivot, 1.0), 0.0)
        row = rest[..., k, :] * over[..., None]
        column = rest[..., :, k].copy()
        rest -= column[..., :, None] * row[..., None, :]
        rest[..., k, :] = row
        rest[..., :, k] = -column * over[..., None]
        rest[..., k, k] = over
    if free.all():
        return rest
    return np.where(free[..., :, None] & free[..., None, :], rest, 0.0)


def log_determinant(information: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Log determinant over the free coefficients; minus infinity where it is not positive."""
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


def _curvature_inverse(hill: Hill, b: np.ndarray, value: Value, free: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Inverse of minus the second derivative over the moving coefficients, zero elsewhere.

    Unpenalised, that is the information. With the penalty it is given, or differenced from the gradient, because the
    information alone makes Newton's method crawl where events are few; where it is not positive, the information serves.
    """
    if not hill.penalised or not moving.any():
        return inverse(value.information, moving)
    curvature = _differenced(hill, b, free) if value.curvature is None else value.curvature
    curvature = masked((curvature + np.swapaxes(curvature, -1, -2)) / 2, moving)
    lowest = np.linalg.eigvalsh(curvature)[..., 0]
    firm = (lowest > 1e-8)[:, None, None]
    return inverse(np.where(firm, curvature, value.information), moving)


def _differenced(hill: Hill, b: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Minus the second derivative, from central differences of the gradient."""
    columns = []
    for j in range(b.shape[-1]):
        nudge = np.zeros(b.shape[-1])
        nudge[j] = NUDGE
        ahead, behind = (hill.evaluate(b + way * nudge, free).gradient for way in (1, -1))
        columns.append((behind - ahead) / (2 * NUDGE))
    return np.stack(columns, -1)


def climb(
    hill: Hill, start: np.ndarray, free: np.ndarray, moving: np.ndarray, value: Value | None = None, steps: int = STEPS
) -> tuple[np.ndarray, Value, np.ndarray]:
    """Newton's method from start over the moving coefficients, halving steps that descend; and which trials converged.

    `value` is that at the start, where it is known already; trials that need more than `steps` have not converged.
    """
    b, value = start, hill.evaluate(start, free) if value is None else value
    going = np.asarray(moving.any(-1))
    for _ in range(steps):
        step = np.squeeze(_curvature_inverse(hill, b, value, free, moving) @ value.gradient[..., None], -1)
        step = np.clip(np.where(going[:, None], step, 0.0), -2.0, 2.0)
        within = (np.abs(b) < hill.bound).all(-1)
        going = going & within & (np.abs(step) > CONVERGED).any(-1)
        if not going.any():
            break
        step = np.where(going[:, None], step, 0.0)
        following = hill.evaluate(b + step, free)
        for _ in range(HALVINGS):
            worse = going & ~(following.height >= value.height - 1e-11 * np.abs(value.height))
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
            following = hill.evaluate(b + step, free)
        b, value = b + step, following
    return b, value, ~going & (np.abs(b) < hill.bound).all(-1)


def profile(
    hill: Hill, best: np.ndarray, peak: np.ndarray, free: np.ndarray, se: np.ndarray, level: float
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
            b, value, _ = climb(hill, fixed, free, moving)
            return value.height - peak, b

        for limit, way in ((lower, -1), (upper, 1)):
            limit[:, j], found = _descend(hill, best, peak - drop, free, j, way)
            if not found.all():
                slow = _fall(depth, best, j, way * np.maximum(se[:, j], 0.1), drop)
                limit[:, j] = np.where(found, limit[:, j], slow)
        at_zero, _ = depth(np.zeros(len(best)), best)
        statistic[:, j] = np.sign(best[:, j]) * np.sqrt(np.maximum(-2 * at_zero, 0.0))
    return lower, upper, statistic


def _descend(
    hill: Hill, best: np.ndarray, target: np.ndarray, free: np.ndarray, j: int, way: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where along coefficient j the profile meets the target height, and which trials found it.

    Newton's method on that height and on the other coefficients' scores at once (Venzon and Moolgavkar 1988): the step is
    C (g + a e_j), C the inverse curvature and a such that the quadratic at hand meets the target.
    """
    b, met = best, np.zeros(len(best), bool)
    axis = np.arange(best.shape[-1]) == j
    for _ in range(DESCENTS):
        value = hill.evaluate(b, free)
        covariance = _curvature_inverse(hill, b, value, free, free)
        variance = covariance[:, j, j]
        known = np.isfinite(value.height) & (variance > 0)
        rise = np.squeeze(covariance @ np.where(free, value.gradient, 0.0)[..., None], -1)
        above = np.where(known, 2 * (value.height - target) + np.vecdot(value.gradient, rise), -1.0)
        slope = way * np.sqrt(np.maximum(above, 0.0) / np.where(known, variance, 1.0))
        step = rise + covariance[:, :, j] * slope[:, None]
        others = np.abs(np.where(axis, 0.0, step)).max(-1, initial=0.0)
        met = known & (np.abs(value.height - target) < 1e-10) & (others < 1e-6)
        if np.all(met | ~known | (above < 0)):
            break
        b = np.where((known & ~met)[:, None], b + np.clip(step, -1.0, 1.0), b)
    return b[:, j], met & ((b[:, j] - best[:, j]) * way > 0)


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
    guess = outside
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

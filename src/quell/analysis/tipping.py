"""How much worse the unseen values would have to be for a result to be lost: delta adjustment and the tipping point.

Every imputed value of an arm at the visit is shifted by a delta (after imputation, as rbmi's delta argument does). The
estimate is then linear in the deltas of the two arms and its variance quadratic,

    estimate(d) = a + d1 c1 + d0 c0,    variance(d) = (1, d1, d0) V (1, d1, d0)'

with c the analysis of who is unseen in an arm, so that any number of deltas costs one analysis.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, flag, normal_estimate
from quell.analysis.follow_up import FollowUp, laid_out
from quell.analysis.imputation import Imputed, analysed, check_visit, impute
from quell.analysis.missing import replicates
from quell.analysis.pooling import rubin
from quell.analysis.reference_based import AT_RANDOM, Assumption

# Where p first crosses is looked for on a coarse scan, and then halved down to rounding.
SCAN, BISECTIONS = 64, 60
DIRECTIONS = {"active": (1.0, 0.0), "control": (0.0, 1.0), "both": (1.0, 1.0)}


class DeltaResponse(NamedTuple):
    """The estimate as a function of the deltas added to imputed values in the active and in the control arm.

    parts (..., m, 3) and variance (..., m, 3, 3) belong to (1, delta active, delta control), for each of m imputations
    (m = 1, `pooled` false, for conditional means); df (...) is that of the analysis; complete (...) marks trials where
    nothing was imputed, whose plain analysis stands.
    """

    parts: np.ndarray
    variance: np.ndarray
    df: np.ndarray
    n: np.ndarray
    warnings: np.ndarray
    complete: np.ndarray
    pooled: bool
    level: float

    def at(self, active: np.ndarray | float = 0.0, control: np.ndarray | float = 0.0) -> Estimate:
        """The estimate at these deltas; they broadcast to a grid, and the result is shaped (..., *grid)."""
        active, control = np.broadcast_arrays(np.asarray(active, float), np.asarray(control, float))
        along = np.stack([np.ones(active.size), active.ravel(), control.ravel()], -1)
        return _reshaped(self._along(along), active.shape)

    def _along(self, along: np.ndarray) -> Estimate:
        """At deltas along (..., g, 3): fields (..., g)."""
        weights = along[..., None, :]
        estimate = np.sum(self.parts[..., None, :, :] * weights, -1)
        spread = np.einsum("...gmi,...mij,...gmj->...gm", np.broadcast_to(
            weights, (*estimate.shape, 3)), self.variance, np.broadcast_to(weights, (*estimate.shape, 3)))  # fmt: skip
        se = np.sqrt(np.maximum(spread, 0.0))
        df, n, warnings = (field[..., None] for field in (self.df, self.n, self.warnings))
        plain = normal_estimate(estimate[..., 0], se[..., 0], n, warnings, self.level, df)
        if not self.pooled:
            return plain
        pooled = rubin(estimate, se, df=df, n=n, warnings=warnings, level=self.level).pooled
        keep = self.complete[..., None]
        fields: dict[str, Any] = {
            name: np.where(keep, getattr(plain, name), getattr(pooled, name)) for name in Estimate._fields[:-1]
        }
        return pooled._replace(**fields)

    def tipping(self, arms: Literal["active", "control", "both"] = "active") -> tuple[np.ndarray, np.ndarray]:
        """The delta (...) nearest zero, on the way to no difference, at which p reaches 1 - level; and cautions (...).

        NaN where the result is not significant to begin with, or no imputed value can change it.
        """
        if arms not in DIRECTIONS:
            raise ClaimError(f"The arms to shift are '{arms}'; choose {', '.join(map(repr, DIRECTIONS))}.")
        direction = np.array([0.0, *DIRECTIONS[arms]])
        none = np.array([1.0, 0.0, 0.0])
        mean = self.parts.mean(-2)
        slope = mean @ direction
        significant = self._along(none[None]).p[..., 0] < 1 - self.level
        possible = significant & (np.abs(slope) > 0)
        far = np.where(possible, -mean[..., 0] / np.where(possible, slope, 1.0), 0.0)
        delta = _first_crossing(self, far, none, direction)
        warnings = flag(np.isfinite(mean[..., 0]) & ~significant, Caution.NOTHING_TO_TIP)
        warnings = warnings | flag(significant & ~possible, Caution.NOT_REACHED)
        return np.where(possible, delta, np.nan), self.warnings | warnings


class TippingPoint(NamedTuple):
    """The delta (...) at which significance is lost, the deltas asked for (g,) and the estimates there, (..., g)."""

    delta: np.ndarray
    deltas: np.ndarray
    path: Estimate
    warnings: np.ndarray


def tipping_point(
    data: FollowUp,
    assumption: Assumption = AT_RANDOM,
    deltas: np.ndarray | None = None,
    *,
    contrast: tuple[int, int] = (1, 0),
    visit: int = -1,
    level: float = 0.95,
    arms: Literal["active", "control", "both"] = "active",
    imputations: int = 0,
    key: Any = None,
) -> TippingPoint:
    """The delta that, added to every imputed value of the active arm (or both), makes the difference non-significant.

    By conditional means and the jackknife, or with `imputations` and a key by multiple imputation and Rubin's rules.
    The path holds estimate, interval and p at each of `deltas` for a figure; the delta itself is found exactly, wherever it
    lies. deltas (g,) are in units of the outcome. The rest, and what is raised, as in `missing.conditional_mean`.

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.9], [2, 2]])
    >>> result = tipping_point(FollowUp(seen + 9 * (np.arange(8) % 2)[:, None], np.arange(8) % 2), arms="control")
    >>> round(float(result.delta), 3)
    10.119
    """
    if imputations:
        if key is None:
            raise ClaimError("Multiple imputation draws random numbers: give a key, for example key=2026.")
        made = impute(data, assumption, imputations=imputations, key=key)
        response = imputed_response(made, contrast=contrast, visit=visit, level=level)
    else:
        response = delta_response(data, assumption, contrast=contrast, visit=visit, level=level)
    deltas = np.zeros(0) if deltas is None else np.atleast_1d(np.asarray(deltas, float))
    if arms not in DIRECTIONS:
        raise ClaimError(f"The arms to shift are '{arms}'; choose {', '.join(map(repr, DIRECTIONS))}.")
    active, control = DIRECTIONS[arms]
    path = response.at(active * deltas, control * deltas)
    delta, warnings = response.tipping(arms)
    return TippingPoint(delta, deltas, path, warnings)


def delta_response(
    data: FollowUp,
    assumption: Assumption = AT_RANDOM,
    *,
    contrast: tuple[int, int] = (1, 0),
    visit: int = -1,
    level: float = 0.95,
) -> DeltaResponse:
    """How the conditional-mean estimate and its jackknife error move with delta; `conditional_mean` is at (0, 0).

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.5], [2, 2]])
    >>> response = delta_response(FollowUp(seen, np.arange(8) % 2))
    >>> response.at(0.0, np.array([0.0, 4.0])).estimate.round(4).tolist()
    [0.0629, -0.9371]
    """
    layout = laid_out(data, (*contrast, assumption.reference))
    made = replicates(layout, assumption.checked(), contrast=contrast, visit=visit, level=level)
    values = np.concatenate([made.estimate[..., None], made.by_delta], -1)
    parts, variance = values[:, 0], _jackknifed(values[:, 1:], made.kept)
    plain = np.stack([made.whole.estimate, np.zeros(len(parts)), np.zeros(len(parts))], -1)
    parts = np.where(made.complete[:, None], plain, parts)
    exact = np.zeros_like(variance)
    exact[:, 0, 0] = made.whole.se**2
    variance = np.where(made.complete[:, None, None], exact, variance)
    df = np.where(made.complete, made.whole.df, np.inf)
    warnings = np.where(made.complete, made.whole.warnings, made.warnings | int(Caution.ASSUMED_UNSEEN))
    shape = layout.batch
    return DeltaResponse(
        parts.reshape((*shape, 1, 3)),
        variance.reshape((*shape, 1, 3, 3)),
        df.reshape(shape),
        made.kept.sum(-1).reshape(shape),
        warnings.reshape(shape),
        made.complete.reshape(shape),
        False,
        level,
    )


def imputed_response(
    made: Imputed, *, contrast: tuple[int, int] = (1, 0), visit: int = -1, level: float = 0.95
) -> DeltaResponse:
    """How the estimate pooled over imputations moves with delta; `imputation.pooled_difference` is at (0, 0).

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.5], [2, 2]])
    >>> made = impute(FollowUp(seen, np.arange(8) % 2), imputations=5, burn_in=20, key=1)
    >>> at = imputed_response(made).at(0.0, np.array([0.0, 4.0])).estimate
    >>> round(float(at[1] - at[0]), 6)
    -1.0
    """
    values = made.outcome[..., check_visit(visit, made.outcome.shape[-1])]
    unseen, arm = made.unseen[..., visit], made.arm
    scale = np.where(made.include[..., None, :], np.nan_to_num(values), 0.0).std((-1, -2))
    scale = np.where(scale > 0, scale, 1.0)[..., None, None]
    rows = [
        np.broadcast_to((scale[..., 0] * (unseen & (arm == code)))[..., None, :], values.shape) for code in contrast
    ]
    rows = [values, *rows]

    single = [analysed(made, row, contrast, level) for row in rows]
    parts = np.stack([one.estimate for one in single], -1)
    alone = [np.nan_to_num(one.se**2) for one in single]
    variance = np.zeros((*parts.shape, 3))
    for i in range(3):
        variance[..., i, i] = alone[i]
        for j in range(i):
            both = np.nan_to_num(analysed(made, rows[i] + rows[j], contrast, level).se ** 2)
            variance[..., i, j] = variance[..., j, i] = (both - alone[i] - alone[j]) / 2
    unit = np.concatenate([np.ones_like(scale), 1 / scale, 1 / scale], -1)
    variance = variance * unit[..., :, None] * unit[..., None, :]
    first = single[0].row((..., 0))
    imputed = np.asarray(made.unseen[..., visit].any(-1))
    warnings = np.bitwise_or.reduce(single[0].warnings, -1) | np.where(imputed, made.warnings, 0)
    return DeltaResponse(parts * unit, variance, first.df, first.n, warnings, ~imputed, True, level)


def _jackknifed(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Jackknife covariance (trials, 3, 3) of estimates without each one, (trials, n, 3); NaN where one is missing."""
    size = np.maximum(kept.sum(-1), 1)[:, None]
    usable = (np.isfinite(values).all(-1) | ~kept).all(-1) & (kept.sum(-1) > 1)
    values = np.where((kept & usable[:, None])[..., None], values, 0.0)
    centred = np.where(kept[..., None], values - (values.sum(1) / size)[:, None], 0.0)
    covariance = ((size - 1) / size)[..., None] * np.swapaxes(centred, 1, 2) @ centred
    return np.where(usable[:, None, None], covariance, np.nan)


def _first_crossing(response: DeltaResponse, far: np.ndarray, none: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """The first delta between 0 and `far` (where the difference is none) at which p is no longer below 1 - level."""
    share = np.linspace(0, 1, SCAN + 1)
    along = none + (far[..., None] * share)[..., None] * direction
    lost = ~(response._along(along).p < 1 - response.level)
    first = np.maximum(np.argmax(lost, -1), 1)
    low, high = (first - 1) / SCAN, first / SCAN
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        at = none + (far * middle)[..., None, None] * direction
        kept = response._along(at).p[..., 0] < 1 - response.level
        low, high = np.where(kept, middle, low), np.where(kept, high, middle)
    return far * high


def _reshaped(estimate: Estimate, grid: tuple[int, ...]) -> Estimate:
    fields: dict[str, Any] = {}
    for name in Estimate._fields[:-1]:
        value = np.asarray(getattr(estimate, name))
        fields[name] = value.reshape((*value.shape[:-1], *grid))
    return estimate._replace(**fields)

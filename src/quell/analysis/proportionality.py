"""Whether hazards are proportional: the score test of Grambsch and Therneau (1994), as R's cox.zph (survival >= 3).

A coefficient that changes with time, b + theta g(t), is tested at theta = 0. With I_j the information of event time j and
g centred, the scores are sum over events of g(t) (x - m), and their information with b is made of the blocks
sum I_j, sum g_j I_j and sum g_j² I_j.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special, stats

from quell.analysis.claim import Caution, ClaimError, Estimate, flag, without_a_size
from quell.analysis.codes import two_arms
from quell.analysis.cox import CoxFit, fit
from quell.analysis.cox_likelihood import Prepared, Spells, flattened, of_events, prepared, slopes, state
from quell.analysis.partial_likelihood import Ties, inverse
from quell.analysis.risksets import RiskSets, risk_sets

Transform = Literal["km", "identity", "rank", "log"]

# At this p the caution is raised.
DOUBTFUL = 0.05


class Proportionality(NamedTuple):
    """The test for each trial of a batch: by covariate (..., p), each on 1 df, and of all together (...) on df."""

    chi_square: np.ndarray
    p: np.ndarray
    global_chi_square: np.ndarray
    global_df: np.ndarray
    global_p: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, index: int | None = None, level: float = 0.95) -> Estimate:
        """The test of one covariate (or, without index, of all) as an estimate without a size."""
        if index is None:
            statistic, df, p = self.global_chi_square, np.asarray(self.global_df, float), self.global_p
        else:
            statistic, df, p = self.chi_square[..., index], np.ones(self.global_p.shape), self.p[..., index]
        return without_a_size(statistic, df, p, self.n, self.warnings, level)

    def doubt(self, estimate: Estimate, index: int | None = None) -> Estimate:
        """The estimate with the caution NON_PROPORTIONAL where p < 0.05 for one covariate (or, without index, for any)."""
        p = self.global_p if index is None else self.p[..., index]
        doubtful = flag(np.nan_to_num(p, nan=1.0) < DOUBTFUL, Caution.NON_PROPORTIONAL)
        return estimate._replace(warnings=np.asarray(estimate.warnings) | doubtful)


def proportionality(spells: Spells, fitted: CoxFit, transform: Transform = "km") -> Proportionality:
    """Test of proportional hazards for each covariate of a Cox fit and for all together, against time transformed by g.

    g is 1 - the Kaplan-Meier curve just before t ("km", R's default, of all subjects together), t itself ("identity"), its
    rank among all times ("rank") or its logarithm ("log"). `spells` is what was fitted. NaN, with a caution, where there
    is no fit, or where all events fall at one time. Raises ClaimError for a transform there is not.

    >>> rows = Spells(np.arange(1.0, 9.0), np.ones(8), np.array([1.0, 1, 1, 0, 1, 0, 0, 0])[:, None])
    >>> float(proportionality(rows, fit(rows)).global_p.round(4))
    0.6619
    """
    if transform not in ("km", "identity", "rank", "log"):
        raise ClaimError(f"The transform is '{transform}'; choose 'km', 'identity', 'rank' or 'log'.")
    flat, batch = flattened(spells)
    ready = prepared(flat, fitted.ties)
    p = flat.covariates.shape[-1]
    coefficients = fitted.coefficients.reshape(-1, p)
    free = np.isfinite(coefficients)
    at = state(ready, np.nan_to_num(coefficients) * ready.unit)
    g = _on_rungs(ready, _transformed(ready, flat, transform))
    (_, whole), (score, cross), (_, square) = (slopes(ready, at, scale) for scale in (None, g, g**2))
    # the score of theta, less what the estimated b explains of it
    explained = cross @ inverse(whole, free)
    variance = square - explained @ cross
    one = np.diagonal(variance, axis1=-2, axis2=-1)
    size = np.diagonal(square, axis1=-2, axis2=-1)
    usable = free & (one > 1e-10 * np.maximum(size, 1e-300)) & (size > 0)
    usable &= (fitted.warnings.ravel() & int(Caution.SEPARATION | Caution.NOT_CONVERGED) == 0)[:, None]
    chi_square = np.where(usable, score**2 / np.where(usable, one, 1.0), np.nan)
    both = usable[:, :, None] & usable[:, None, :]
    together = np.einsum("bp,bpq,bq->b", score, inverse(np.where(both, variance, 0.0), usable), score)
    df = usable.sum(-1)
    together = np.where(df > 0, together, np.nan)
    warnings = fitted.warnings.ravel() | flag(~usable.any(-1), Caution.NOT_ESTIMABLE)
    global_p = np.where(df > 0, special.chdtrc(np.maximum(df, 1), np.nan_to_num(together)), np.nan)
    single_p = np.where(usable, special.chdtrc(1, np.nan_to_num(chi_square)), np.nan)
    fields = (chi_square, single_p, together, df, global_p, ready.sets.kept.sum(-1), warnings)
    return Proportionality(*(field.reshape((*batch, *field.shape[1:])) for field in fields))


def proportionality_of_arms(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    ties: Ties = "efron",
    transform: Transform = "km",
) -> Proportionality:
    """The test for the hazard ratio of two arms, so that `.doubt(ratio)` adds the caution to it.

    Arguments as in `cox.hazard_ratio`; it costs about one more fit. NaN where the ratio does not exist.

    >>> time, arm = np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), np.array([1, 1, 1, 0, 1, 0, 0, 0])
    >>> float(proportionality_of_arms(time, np.ones(8), arm).p[0].round(4))
    0.6619
    """
    active, control = two_arms(contrast)
    arm = np.asarray(arm)
    chosen = (arm == active) | (arm == control)
    chosen = chosen if include is None else chosen & (np.asarray(include) > 0)
    spells = Spells(time, event, (arm == active)[..., None].astype(float), None, strata, chosen)
    return proportionality(spells, fit(spells, ties=ties), transform)


def _transformed(ready: Prepared, flat: Spells, transform: Transform) -> np.ndarray:
    """g at each subject's time, (B, n); meaningful at events."""
    kept = ready.sets.kept
    time = np.where(kept, flat.time, 1.0)
    if transform == "identity":
        return time
    if transform == "log":
        # an event on day 0 has no logarithm: it counts as half a day
        return np.log(np.maximum(time, 0.5 if np.any(time <= 0) else 0.0))
    if transform == "rank":
        return np.nan_to_num(stats.rankdata(np.where(kept, time, np.nan), axis=-1, nan_policy="omit"))
    sets = ready.sets
    if sets.times.shape[1] > 1:
        sets = risk_sets(np.where(kept, time, np.nan), flat.event, include=kept, entry=flat.entry)
    return _before(sets)


def _before(sets: RiskSets) -> np.ndarray:
    """1 - Kaplan-Meier survival just before each subject's event, all subjects as one stratum: (B, n)."""
    at_risk, died = sets.at_risk(np.ones(1))[:, 0], sets.at_event(np.ones(1))[:, 0]
    survival = np.cumprod(1 - died / np.maximum(at_risk, 1), -1)
    before = np.concatenate([np.zeros((len(survival), 2)), 1 - survival], -1)
    return np.take_along_axis(before, np.where(sets.kept, sets.last, 0), -1)


def _on_rungs(ready: Prepared, of_subject: np.ndarray) -> np.ndarray:
    """g at the rungs of the ladder, (B, S, M), centred at its mean over the events."""
    event = ready.sets.event
    centre = np.sum(np.where(event, of_subject, 0.0), -1) / np.maximum(event.sum(-1), 1)
    g = np.zeros(ready.term_weight.shape)
    places = of_events(ready, np.arange(g.size).reshape(g.shape))
    g.ravel()[places] = (of_subject - centre[:, None])[event]
    return g

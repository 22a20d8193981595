"""MaxCombo: the largest of several weighted log-rank tests, with the p that their correlation allows.

For trials in which the effect may come early, late, or in between, and nobody can promise which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quell.analysis.armcounts import Subjects, columns, contrast_arms, count, missing_caution, over_trials
from quell.analysis.claim import Caution, ClaimError, Estimate, flag, without_a_size
from quell.analysis.logrank import NO_VARIANCE, Alternative, count_cautions, rung_sums, rung_weights, tail_of
from quell.analysis.normal_maximum import exceedance

# G(rho, gamma): any time, late, early, middle.
USUAL = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))


class MaxCombo(NamedTuple):
    """A MaxCombo test for each trial of a batch: `z` (..., w) of each weight, their correlation (..., w, w), and p.

    z is (O - E) / sqrt(V) of the active arm: below zero where it has fewer events than expected. `separate` holds the p of
    each weight alone, in the same tail or tails, without any correction.
    """

    statistic: np.ndarray
    p: np.ndarray
    z: np.ndarray
    separate: np.ndarray
    correlation: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, level: float = 0.95) -> Estimate:
        """The test as an estimate without a size: the extreme z, p and n."""
        none = np.full(np.shape(self.p), np.nan)
        return without_a_size(self.statistic, none, self.p, self.n, self.warnings, level)


def maxcombo(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    weights: Sequence[tuple[float, float]] = USUAL,
    alternative: Alternative = "two-sided",
) -> MaxCombo:
    """Largest of several Fleming-Harrington G(rho, gamma) log-rank tests of two arms (Lin et al. 2020; Karrison 2016).

    The statistics are jointly normal with covariance sum of w_a w_b v, v the hypergeometric variance of each event day;
    p = P(max |Z| > max |z|), or one-sided of min z (`less`: the active arm has the lower hazard, as simtrial's maxcombo) or
    max z. p is integrated exactly (see `normal_maximum`), also where a weight is the sum of others. Raises ClaimError
    where no weight is given, one is below zero, or as in `armcounts.columns`.

    >>> time, arm = np.array([2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]), np.array([0, 0, 0, 1, 0, 1, 1, 1])
    >>> found = maxcombo(time, np.ones(8), arm)
    >>> found.z.round(3).tolist(), round(float(found.p), 4)
    ([-2.218, -1.823, -2.135, -1.856], 0.0519)
    """
    pairs = [(float(rho), float(gamma)) for rho, gamma in weights]
    if not pairs:
        raise ClaimError("A MaxCombo test needs at least one weight (rho, gamma), for example (0, 0).")
    tail_of(np.zeros(()), alternative)
    given = columns(time, event, contrast_arms(arm, contrast), include=include, entry=entry, strata=strata)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts = count(part)
        rungs = rung_sums(counts)
        (share,) = rungs.share
        excess = counts.events[0, 1] - rungs.died * share
        spread = rungs.spread * share * (1 - share)
        found = [rung_weights(counts, "fleming-harrington", *pair) for pair in pairs]
        by_weight = np.stack([np.ones_like(share) if one is None else one for one in found], 1)
        score = (by_weight * excess[:, None]).sum((2, 3))
        covariance = np.einsum("bwsm,bvsm->bwv", by_weight * spread[:, None], by_weight, optimize=True)
        present, total, warnings = count_cautions(counts)
        return score, covariance, present, total, counts.n.sum(0), warnings | missing_caution(part)

    score, covariance, present, total, n, warnings = over_trials(evaluate, given)
    return _judged(score, covariance, present, total, n, warnings, alternative)


def _judged(
    score: np.ndarray,
    covariance: np.ndarray,
    present: np.ndarray,
    total: np.ndarray,
    n: np.ndarray,
    warnings: np.ndarray,
    alternative: Alternative,
) -> MaxCombo:
    """z, their correlation, and the p of the most extreme; a weight without variance (no late event, say) is left out."""
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    known = variance > NO_VARIANCE * np.maximum(1.0, variance.max(-1, keepdims=True))
    error = np.sqrt(np.where(known, variance, 1.0))
    nothing = (total == 0) & (present > 1)
    z = np.where(nothing[..., None], 0.0, np.where(known, score / error, np.nan))
    correlation = covariance / (error[..., :, None] * error[..., None, :])
    toward = np.abs(z) if alternative == "two-sided" else -z if alternative == "less" else z
    toward = np.where(known, toward, -np.inf)
    side = np.argmax(toward, -1)[..., None]
    any_known = known.any(-1)
    # a weight left out repeats one that is not, which changes no maximum
    instead = np.where(known, np.arange(known.shape[-1]), np.argmax(known, -1)[..., None])
    repeated = np.take_along_axis(correlation, instead[..., None, :], -1)
    repeated = np.take_along_axis(repeated, instead[..., :, None], -2)
    reach = np.where(any_known, toward.max(-1), np.nan)
    p = exceedance(reach, repeated, two_sided=alternative == "two-sided")
    p = np.where(nothing, 1.0, p)
    statistic = np.take_along_axis(z, side, -1)[..., 0]
    warnings = warnings | flag(~any_known & ~nothing & (present > 1), Caution.NOT_ESTIMABLE)
    pairs = known[..., :, None] & known[..., None, :]
    correlation = np.where(pairs, correlation, np.where(np.eye(known.shape[-1], dtype=bool), 1.0, np.nan))
    return MaxCombo(statistic, p, z, tail_of(z, alternative), correlation, n, warnings)

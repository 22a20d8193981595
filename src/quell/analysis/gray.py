"""Gray's test: whether the cumulative incidence of one cause is the same in k arms, other causes present.

A log-rank test of subdistribution hazards (Gray 1988, doi:10.1214/aos/1176350951): people who had another event first
stay in the risk set, in the share of them that censoring would have left there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from quell.analysis.armcounts import Subjects, columns, count, missing_caution, over_trials
from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, flag, without_a_size
from quell.analysis.competing import this_or_other
from quell.analysis.product_limit import before


class GrayTest(NamedTuple):
    """Gray's k-sample test for each trial of a batch: score (..., k - 1) of all arms but the last, covariance (..., k - 1, k - 1)."""

    chi_square: np.ndarray
    df: np.ndarray
    p: np.ndarray
    score: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, level: float = 0.95) -> Estimate:
        """The test as an estimate without a size: statistic, df, p and n."""
        return without_a_size(self.chi_square, self.df, self.p, self.n, self.warnings, level)


class Rungs(NamedTuple):
    """What the test needs on each rung, arms first, (k, b, S, M): counts, and curves before (`earlier`) and after it.

    `pooled` curves and totals are (b, S, M): the cumulative incidence of the cause, were it the same in all arms.
    """

    at_risk: np.ndarray
    own: np.ndarray
    others: np.ndarray
    free: np.ndarray
    free_earlier: np.ndarray
    incidence_earlier: np.ndarray
    effective: np.ndarray
    total: np.ndarray
    pooled: np.ndarray
    pooled_earlier: np.ndarray


def gray(
    time: np.ndarray,
    cause: np.ndarray,
    arm: np.ndarray,
    *,
    of: int = 1,
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    rho: float = 0.0,
) -> GrayTest:
    """Gray's test of the cumulative incidence of one cause in k arms, weighted (1 - F)^rho, stratified if asked.

    Score of arm i: sum over event times of w (d_i - d R_i / sum R), R_i = Y_i (1 - F_i(t-)) / S_i(t-) the subdistribution's
    risk set; its covariance, and the handling of ties, as in R's cmprsk::cuminc. chi-square on k - 1 degrees of freedom.
    cause (..., n) is 0 where censored, else a code 1, 2, ...; arm (..., n) whole codes from 0; the rest, and what is
    raised, are as in `armcounts.columns`.

    >>> time, cause = np.array([2.0, 3.0, 5.0, 8.0, 4.0, 6.0, 7.0, 8.0]), np.array([1, 2, 1, 0, 2, 1, 0, 0])
    >>> found = gray(time, cause, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> round(float(found.chi_square), 3), int(found.df)
    (0.695, 1)
    """
    if rho < 0:
        raise ClaimError(f"rho is {rho}; it may not be below 0. 0 weighs all times alike, 1 the early ones more.")
    given = columns(time, this_or_other(cause, of), arm, include=include, strata=strata, kinds=2)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts = count(part)
        at_risk, (own, others) = counts.at_risk.astype(float), counts.events.astype(float)
        score, covariance = _summed(_rungs(at_risk, own, others), rho)
        return _tested(score, covariance, counts.n, own.sum((-1, -2)), missing_caution(part))

    return GrayTest(*over_trials(evaluate, given))


def _rungs(at_risk: np.ndarray, own: np.ndarray, others: np.ndarray) -> Rungs:
    """Curves of each arm; those of an arm in which nobody is left stay where they are."""
    here = at_risk > 0
    someone = np.where(here, at_risk, 1.0)
    free = np.cumprod(np.where(here, 1 - (own + others) / someone, 1.0), -1)
    free_earlier = before(free)
    incidence = np.cumsum(free_earlier * own / someone, -1)
    incidence_earlier = before(incidence, 0.0)
    # in Gray's notation, total is the sum of h_r: the risk sets that censoring alone would have left
    effective = np.where(here, at_risk / np.where(here, free_earlier, 1.0), 0.0)
    total = effective.sum(0)
    pooled = np.cumsum(own.sum(0) / np.where(total > 0, total, 1.0), -1)
    return Rungs(
        at_risk, own, others, free, free_earlier, incidence_earlier, effective, total, pooled, before(pooled, 0.0)
    )


def _summed(rungs: Rungs, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores (b, k - 1) and covariance (b, k - 1, k - 1), summed over rungs and strata."""
    k = len(rungs.at_risk)
    left = 1 - rungs.pooled_earlier
    weight = np.where(left > 1e-12, np.maximum(left, 0), 0.0) ** rho
    died = rungs.own.sum(0)
    risk = rungs.effective * (1 - rungs.incidence_earlier)
    share = risk / np.where(risk.sum(0) > 0, risk.sum(0), 1.0)
    score = (weight * (rungs.own - died * share)).sum((-1, -2))[: k - 1].T
    covariance = np.zeros((len(died), k - 1, k - 1))
    factor = rungs.effective / np.where(rungs.total > 0, rungs.total, 1.0)
    hazard = died / np.where((rungs.total > 0) & (left > 0), rungs.total * np.where(left > 0, left, 1.0), 1.0)
    for r in range(k):
        # a[i]: how the score of arm i answers to an event in arm r; c[i]: the same, accumulated
        a = np.stack([weight * rungs.effective[i] * ((i == r) - factor[r]) for i in range(k - 1)])
        c = np.cumsum(a * hazard, -1)
        last = c[..., -1:] if c.shape[-1] else c
        for change, spread in _changes(r, rungs, died):
            answer = [(a[i] if spread[1] else 0.0) - change * (c[i] - last[i]) for i in range(k - 1)]
            for i in range(k - 1):
                for j in range(i + 1):
                    covariance[:, i, j] += (answer[i] * answer[j] * spread[0]).sum((-1, -2))
    return score, covariance + np.swapaxes(np.tril(covariance, -1), 1, 2)


def _changes(r: int, rungs: Rungs, died: np.ndarray) -> list[tuple[np.ndarray, tuple[np.ndarray, bool]]]:
    """For events of the cause, then of others, in arm r: what one changes, and its variance with the correction for ties."""
    at_risk, earlier, free = rungs.at_risk[r], rungs.free_earlier[r], rungs.free[r]
    here, alive = at_risk > 0, free > 0
    someone = np.where(here, at_risk, 1.0)
    ratio = np.where(alive, (1 - rungs.pooled) / np.where(alive, free, 1.0), 0.0)
    expected = rungs.total * earlier
    tied = np.where(died > 1, 1 - (died - 1) / np.where(died > 1, np.maximum(expected - 1, 1e-12), 1.0), 1.0)
    own = np.where(
        here & (died > 0), tied * earlier * died / np.where(rungs.total > 0, rungs.total, 1.0) / someone, 0.0
    )
    other = rungs.others[r]
    tied = np.where(other > 1, 1 - (other - 1) / np.where(other > 1, at_risk - 1, 1.0), 1.0)
    spread = np.where(here & alive, tied * earlier**2 * other / someone**2, 0.0)
    return [(np.where(alive, 1 - ratio, 1.0), (own, True)), (-ratio, (spread, False))]


def _tested(
    score: np.ndarray, covariance: np.ndarray, n: np.ndarray, events: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, ...]:
    size = np.einsum("bii->bi", covariance)
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    chi_square = np.einsum("bi,bij,bj->b", score, inverse, score)
    present, total = (n > 0).sum(0), events.sum(0)
    df = np.where((size > 1e-12).any(-1), np.maximum(present - 1, 0), 0)
    warnings = missing | flag(present < 2, Caution.EMPTY_ARM) | flag((total == 0) & (present > 1), Caution.NO_EVENTS)
    warnings = warnings | flag((total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)
    lone = ((n > 0) & (events == 0)).any(0) & (total > 0)
    warnings = warnings | flag(lone, Caution.ARM_WITHOUT_EVENTS) | flag((df == 0) & (total > 0), Caution.NOT_ESTIMABLE)
    p = np.where(
        df > 0, special.chdtrc(np.maximum(df, 1), np.maximum(chi_square, 0.0)), np.where(total == 0, 1.0, np.nan)
    )
    p, chi_square = np.where(present < 2, np.nan, p), np.where(present < 2, np.nan, chi_square)
    return chi_square, df, p, score, covariance, n.sum(0), warnings

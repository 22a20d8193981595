"""Log-rank tests: k arms, strata, late entry, and weights that look early, late or in the middle of follow-up.

Every statistic is a sum over event days of weight x (observed - expected), with the hypergeometric covariance; the
counts come from `armcounts`, a few trials at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.armcounts import ArmCounts, Subjects, columns, count, missing_caution, over_trials
from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    exponentiate,
    flag,
    normal_estimate,
    without_a_size,
)
from quell.analysis.product_limit import before, product_limit

Weights = Literal["fleming-harrington", "gehan", "tarone-ware", "peto-peto", "modified peto-peto", "modest"]
Alternative = Literal["two-sided", "less", "greater"]

# A variance below this is that of rounding, not of data.
NO_VARIANCE = 1e-12


class LogRank(NamedTuple):
    """A k-sample log-rank test for each trial of a batch: observed and expected are (..., k), covariance (..., k, k)."""

    chi_square: np.ndarray
    df: np.ndarray
    p: np.ndarray
    observed: np.ndarray
    expected: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray

    def test(self, level: float = 0.95) -> Estimate:
        """The test as an estimate without a size: statistic, df, p and n."""
        return without_a_size(self.chi_square, self.df, self.p, self.n, self.warnings, level)

    def z(self, alternative: Alternative = "two-sided", level: float = 0.95) -> Estimate:
        """Signed z of two arms, (O - E) / sqrt(V) of arm 1: below zero where arm 1 has fewer events than expected.

        `less` is the one-sided test that arm 1 has the lower hazard. Raises ClaimError where there are more arms.
        """
        self._two_arms("A signed statistic")
        return trend(self, scores=(0.0, 1.0), alternative=alternative, level=level)

    def _two_arms(self, what: str) -> None:
        if self.observed.shape[-1] != 2:
            raise ClaimError(f"{what} compares two arms; this test has {self.observed.shape[-1]}.")


def logrank(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    rho: float = 0.0,
    gamma: float = 0.0,
    weights: Weights = "fleming-harrington",
) -> LogRank:
    """Log-rank test of k arms, weighted S(t-)^rho (1 - S(t-))^gamma (Fleming and Harrington 1991), stratified if asked.

    chi-square = U' V^- U with U = observed - expected and V hypergeometric, on (arms with anyone at risk) - 1 degrees of
    freedom; S is the Kaplan-Meier curve of all arms of a stratum, so rho = 1 is R's survdiff(rho = 1). Other `weights`
    are as in `rung_weights`. Without any event the statistic is 0 and p is 1. arm (..., n) whole codes from 0, a negative
    code is no arm; the rest, and what is raised, as in `armcounts.columns`.

    >>> test = logrank(np.array([3.0, 5.0, 6.0, 8.0]), np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1]))
    >>> round(float(test.chi_square), 3), int(test.df)
    (2.882, 1)
    """
    given = columns(time, event, arm, include=include, entry=entry, strata=strata)

    def evaluate(part: Subjects) -> tuple[np.ndarray, ...]:
        counts = count(part)
        sums = log_rank_sums(counts, rung_weights(counts, weights, rho, gamma))
        return _tested(counts, *sums, missing_caution(part))

    return LogRank(*over_trials(evaluate, given))


def trend(
    test: LogRank,
    scores: Sequence[float] | None = None,
    *,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> Estimate:
    """Test for a trend of the hazard over ordered arms: z = c'U / sqrt(c'Vc) with scores c, 0, 1, 2, ... if not given.

    U = observed - expected and V its covariance (Tarone 1975, doi:10.1093/biomet/62.3.679). Below zero: fewer events
    where scores are high; `less` tests that alone. Raises ClaimError where the scores are not one for each arm.

    >>> test = logrank(np.array([3.0, 5.0, 6.0, 8.0]), np.array([1, 1, 1, 1]), np.array([0, 0, 1, 1]))
    >>> round(float(trend(test).statistic), 3)
    -1.698
    """
    arms = test.observed.shape[-1]
    c = np.arange(arms, dtype=float) if scores is None else np.asarray(scores, float)
    if c.shape != (arms,):
        raise ClaimError(
            f"There are {arms} arms but scores of shape {c.shape}; give one score for each arm, code 0 first."
        )
    excess = (test.observed - test.expected) @ c
    variance = np.einsum("k,...kl,l->...", c, test.covariance, c)
    known = variance > NO_VARIANCE
    z = np.where(known, excess / np.sqrt(np.where(known, variance, 1.0)), np.where(np.isnan(test.p), np.nan, 0.0))
    p = np.where(~known & (test.p < 1), np.nan, tail_of(z, alternative))
    df = np.full(np.shape(z), np.inf)
    warnings = test.warnings | flag(~known & (test.p < 1), Caution.NOT_ESTIMABLE)
    return without_a_size(z, df, p, test.n, warnings, level)


def tail_of(z: np.ndarray, alternative: Alternative) -> np.ndarray:
    """The normal p of z: in both tails, or in the lower (`less`) or upper (`greater`) one."""
    if alternative not in ("two-sided", "less", "greater"):
        raise ClaimError(f"The alternative is '{alternative}'; choose 'two-sided', 'less' or 'greater'.")
    if alternative == "two-sided":
        return 2 * special.ndtr(-np.abs(z))
    return special.ndtr(z if alternative == "less" else -np.asarray(z))


def one_step_ratio(test: LogRank, level: float = 0.95) -> Estimate:
    """One-step (Peto) hazard ratio of a two-arm log-rank test, arm 1 over arm 0: log ratio = (O - E) / V, se 1 / sqrt(V).

    Its z is the log-rank Z. Close to the Cox estimate near no effect only (Yusuf et al. 1985,
    doi:10.1016/S0033-0620(85)80003-7). Raises ClaimError where the test has more than two arms.

    >>> test = logrank(np.array([3.0, 5.0, 6.0, 8.0]), np.array([1, 1, 1, 1]), np.array([0, 1, 0, 1]))
    >>> round(float(one_step_ratio(test).estimate), 3)
    0.397
    """
    test._two_arms("A one-step hazard ratio")
    excess, variance = (test.observed - test.expected)[..., 1], test.covariance[..., 1, 1]
    known = variance > 0
    se = np.where(known, 1 / np.sqrt(np.where(known, variance, 1.0)), np.nan)
    log_ratio = np.where(known, excess / np.where(known, variance, 1.0), np.nan)
    warnings = test.warnings | flag(~known, Caution.NOT_ESTIMABLE)
    return exponentiate(normal_estimate(log_ratio, se, test.n, warnings, level))


def rung_weights(counts: ArmCounts, weights: Weights, rho: float = 0.0, gamma: float = 0.0) -> np.ndarray | None:
    """The weight of each rung, (b, S, M), from all arms of a stratum together; None where all weigh the same.

    fleming-harrington: S(t-)^rho (1 - S(t-))^gamma. gehan: Y (Gehan 1965). tarone-ware: sqrt(Y) (Tarone and Ware 1977).
    peto-peto: S~(t) = product (1 - d / (Y + 1)) (Peto and Peto 1972); modified: S~(t) Y / (Y + 1) (Andersen et al. 1982).
    modest: min(1 / S(t-), 2), for effects that come late (Magirr and Burman 2019, doi:10.1002/sim.8186). Raises
    ClaimError for another name.
    """
    if weights != "fleming-harrington" and (rho or gamma):
        raise ClaimError(f"rho and gamma belong to Fleming-Harrington weights, not to '{weights}'; leave them out.")
    if weights == "fleming-harrington" and not rho and not gamma:
        return None
    total, died = counts.at_risk.sum(0), counts.events[0].sum(0)
    if weights == "gehan":
        return total.astype(float)
    if weights == "tarone-ware":
        return np.sqrt(total)
    if weights in ("peto-peto", "modified peto-peto"):
        shrunk = np.cumprod(1 - died / (total + 1), -1)
        return shrunk if weights == "peto-peto" else shrunk * total / (total + 1)
    earlier = before(product_limit(total, died)[0])
    if weights == "modest":
        return 1 / np.maximum(earlier, 0.5)
    if weights != "fleming-harrington":
        raise ClaimError(
            f"The weights are '{weights}'; choose 'fleming-harrington', 'gehan', 'tarone-ware', 'peto-peto', "
            "'modified peto-peto' or 'modest'."
        )
    if min(rho, gamma) < 0:
        raise ClaimError(f"rho = {rho} and gamma = {gamma}; neither may be below 0.")
    return earlier**rho * (1 - earlier) ** gamma


class RungSums(NamedTuple):
    """For two arms, rung by rung (b, S, M): events, expected share of arm 1, hypergeometric variance."""

    total: np.ndarray
    died: np.ndarray
    share: list[np.ndarray]
    spread: np.ndarray


def rung_sums(counts: ArmCounts) -> RungSums:
    """Totals on each rung, each arm's share of those at risk, and d (Y - d) / (Y - 1)."""
    total, died = counts.at_risk.sum(0), counts.events[0].sum(0)
    someone = np.maximum(total, 1)
    share = [counts.at_risk[arm] / someone for arm in range(1, len(counts.at_risk))]
    return RungSums(total, died, share, died * (total - died) / np.maximum(total - 1, 1))


def log_rank_sums(counts: ArmCounts, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted observed, expected (b, k) and hypergeometric covariance (b, k, k), summed over strata and rungs.

    Arm 0 is what is left: the rows of the covariance add up to zero.
    """
    rungs, arms = rung_sums(counts), len(counts.at_risk)
    events, spread = counts.events[0], rungs.spread
    weighted = (lambda values: values) if weight is None else (lambda values: weight * values)
    observed = np.stack([weighted(one).sum((1, 2)) for one in events], -1).astype(float)
    died = weighted(rungs.died)
    spread = weighted(weighted(spread))
    expected, covariance = np.empty(observed.shape), np.zeros((*observed.shape, arms))
    for a, share in enumerate(rungs.share, 1):
        expected[:, a] = (died * share).sum((1, 2))
        part = spread * share
        for b, other in enumerate(rungs.share[: a - 1], 1):
            covariance[:, a, b] = covariance[:, b, a] = -(part * other).sum((1, 2))
        covariance[:, a, a] = (part * (1 - share)).sum((1, 2))
    expected[:, 0] = observed.sum(-1) - expected[:, 1:].sum(-1)
    covariance[:, 0, 1:] = covariance[:, 1:, 0] = -covariance[:, 1:, 1:].sum(1)
    covariance[:, 0, 0] = -covariance[:, 0, 1:].sum(-1)
    return observed, expected, covariance


def count_cautions(counts: ArmCounts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms with anybody, events of all arms, and the doubts that follow, each (b,)."""
    by_arm = counts.events[0].sum((-1, -2))
    present, total = (counts.n > 0).sum(0), by_arm.sum(0)
    warnings = flag(present < 2, Caution.EMPTY_ARM) | flag((total == 0) & (present > 1), Caution.NO_EVENTS)
    warnings = warnings | flag((total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)
    lone = ((counts.n > 0) & (by_arm == 0)).any(0) & (total > 0)
    return present, total, warnings | flag(lone, Caution.ARM_WITHOUT_EVENTS)


def _tested(
    counts: ArmCounts, observed: np.ndarray, expected: np.ndarray, covariance: np.ndarray, missing: np.ndarray
) -> tuple[np.ndarray, ...]:
    chi_square, df = _quadratic_form(observed - expected, covariance)
    present, total, warnings = count_cautions(counts)
    warnings = warnings | missing | flag((df == 0) & (total > 0), Caution.NOT_ESTIMABLE)
    p = np.where(df > 0, special.chdtrc(np.maximum(df, 1), chi_square), np.where(total == 0, 1.0, np.nan))
    p, chi_square = np.where(present < 2, np.nan, p), np.where(present < 2, np.nan, chi_square)
    return chi_square, df, p, observed, expected, covariance, counts.n.sum(0), warnings


def _quadratic_form(excess: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U' V^- U and its degrees of freedom (arms with any variance, less one)."""
    varied = np.diagonal(covariance, axis1=-2, axis2=-1) > NO_VARIANCE
    df = np.maximum(varied.sum(-1) - 1, 0)
    if excess.shape[-1] == 2:
        variance = covariance[..., 1, 1]
        return np.where(df > 0, excess[..., 1] ** 2 / np.where(df > 0, variance, 1.0), 0.0), df
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return np.einsum("bk,bkl,bl->b", excess, inverse, excess), df

"""Comparisons by ranks: Wilcoxon's test with Hodges and Lehmann's shift, and van Elteren's test within strata."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special, stats

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, two_sided, without_a_size
from quell.analysis.codes import codes_of, two_arms
from quell.analysis.linear_model import Subjects, subjects

Distribution = Literal["auto", "exact", "normal"]

# R's wilcox.test is exact where no values tie and both arms have fewer patients than this.
SMALL = 50
# Differences of pairs held in memory at a time.
PAIRS_AT_ONCE = 1 << 22


class RankSum(NamedTuple):
    """Wilcoxon's W (pairs in which the active value is larger, ties half), its mean and variance, and whether any tie."""

    w: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    tied: np.ndarray
    n1: np.ndarray
    n0: np.ndarray


def wilcoxon(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    distribution: Distribution = "auto",
    correct: bool = True,
    level: float = 0.95,
) -> Estimate:
    """Wilcoxon's rank-sum test and Hodges and Lehmann's shift (1963), the median of all differences active - control.

    `auto` is exact without ties and with fewer than 50 patients an arm, otherwise (and with ties always) normal with the
    variance corrected for ties and (`correct`) for continuity, as R's wilcox.test. Limits are differences of a rank: exact ones from the
    distribution of W; otherwise rank n1 n0 / 2 - z sqrt(n1 n0 (n + 1) / 12), rounded (Moses; R solves for a shift
    instead). statistic is R's W. outcome, arm and include (..., n). Raises ClaimError where a name is unknown.

    >>> result = wilcoxon(np.array([1.1, 2.3, 0.7, 1.9, 2.8, 3.4, 2.1]), np.array([0, 0, 0, 0, 1, 1, 1]))
    >>> round(float(result.estimate), 2), float(result.statistic), round(float(result.p), 4)
    (1.25, 11.0, 0.1143)
    """
    if distribution not in ("auto", "exact", "normal"):
        raise ClaimError(f"The distribution is '{distribution}'; choose 'auto', 'exact' or 'normal'.")
    people = subjects(outcome, arm, include=include)
    active, control = two_arms(contrast)
    batch, n = people.include.shape[:-1], people.include.shape[-1]
    values, code = people.outcome.reshape(-1, n), people.arm.reshape(-1, n)
    members = code == active, code == control
    sums = _rank_sum(values, *members)
    small = ~sums.tied & (np.maximum(sums.n1, sums.n0) < SMALL)
    exact = {"auto": small, "exact": ~sums.tied, "normal": np.zeros_like(small)}[distribution]
    p = np.where(exact, _exact_p(sums, exact), _normal_p(sums, correct))
    ranks = np.where(exact, _exact_rank(sums, exact, level), _normal_rank(sums, level))
    estimate, lower, upper = _shift(values, *members, ranks)
    empty = (sums.n1 == 0) | (sums.n0 == 0)
    warnings = people.warnings.reshape(-1) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(~empty & (sums.variance <= 0), Caution.CONSTANT_OUTCOME)
    p, w = (np.where(empty, np.nan, value) for value in (p, sums.w))
    none = np.full(p.shape, np.nan)
    result = Estimate(estimate, none, lower, upper, w, none, p, sums.n1 + sums.n0, warnings, level)
    shaped: dict[str, Any] = {name: np.reshape(getattr(result, name), batch) for name in Estimate._fields[:-1]}
    return result._replace(**shaped)


def van_elteren(
    outcome: np.ndarray,
    arm: np.ndarray,
    strata: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Van Elteren's test (1960): Wilcoxon's within strata, each weighted by 1 / (its patients + 1).

    chi-square = [sum (W - E) / (n + 1)]² / sum V / (n + 1)² on 1 degree of freedom, V corrected for ties; SAS PROC FREQ
    CMH2 with modified ridit scores. The result has a statistic, df, p and n. strata (..., n) whole codes.

    >>> outcome, arm = np.array([1.0, 2.0, 3.0, 4.0, 2.5, 3.5, 5.0, 6.0]), np.array([0, 0, 1, 1, 0, 1, 0, 1])
    >>> round(float(van_elteren(outcome, arm, np.array([0, 0, 0, 0, 1, 1, 1, 1])).p), 4)
    0.1003
    """
    people = subjects(outcome, arm, None, [strata], include)
    active, control = two_arms(contrast)
    top, bottom = np.zeros(people.include.shape[:-1]), np.zeros(people.include.shape[:-1])
    used, lone = np.zeros(top.shape, int), np.zeros(top.shape, bool)
    for code in codes_of(people.factors[0]):
        here = people.factors[0] == code
        members = here & (people.arm == active), here & (people.arm == control)
        sums = _rank_sum(people.outcome, *members)
        both, size = (sums.n1 > 0) & (sums.n0 > 0), sums.n1 + sums.n0
        top = top + np.where(both, (sums.w - sums.mean) / (size + 1), 0.0)
        bottom = bottom + np.where(both, sums.variance / (size + 1) ** 2, 0.0)
        used, lone = used + np.where(both, size, 0), lone | (~both & (size > 0))
    good = bottom > 0
    chi_square = np.where(good, top**2 / np.where(good, bottom, 1.0), np.nan)
    p = np.where(good, special.chdtrc(1.0, np.where(good, chi_square, 0.0)), np.nan)
    warnings = people.warnings | _doubts(people, active, control) | flag(lone & (used > 0), Caution.LONE_STRATUM)
    warnings = warnings | flag(~good & (used > 0), Caution.CONSTANT_OUTCOME) | flag(used == 0, Caution.NOT_ESTIMABLE)
    return without_a_size(chi_square, np.where(good, 1.0, np.nan), p, used, warnings, level)


def _doubts(people: Subjects, active: int, control: int) -> np.ndarray:
    there = [(people.arm == code).any(-1) for code in (active, control)]
    return flag(~(there[0] & there[1]), Caution.EMPTY_ARM)


def _rank_sum(values: np.ndarray, active: np.ndarray, control: np.ndarray) -> RankSum:
    """W and its moments given the ties; members (..., n) of the two arms."""
    either = active | control
    n1, n0 = active.sum(-1), control.sum(-1)
    n = n1 + n0
    ranks = stats.rankdata(np.where(either, values, np.inf), axis=-1) if values.size else np.zeros(values.shape)
    w = np.where(active, ranks, 0.0).sum(-1) - n1 * (n1 + 1) / 2
    ordered = np.sort(np.where(either, values, np.inf), -1)
    # each value's run of equals: its length is where the next differs less where it began
    length = (
        stats.rankdata(ordered, "max", axis=-1) - stats.rankdata(ordered, "min", axis=-1) + 1 if values.size else ranks
    )
    excess = np.sum(np.where(np.isfinite(ordered), length**2 - 1.0, 0.0), -1)
    spread = n + 1 - excess / np.maximum(n * (n - 1), 1)
    return RankSum(w, n1 * n0 / 2, np.maximum(n1 * n0 / 12 * spread, 0.0), excess > 0, n1, n0)


def _normal_p(sums: RankSum, correct: bool) -> np.ndarray:
    away = sums.w - sums.mean
    away = away - np.sign(away) * 0.5 * correct
    good = sums.variance > 0
    p = two_sided(np.where(good, away / np.sqrt(np.where(good, sums.variance, 1.0)), 0.0))
    return np.where(good, np.minimum(p, 1.0), np.nan)


def _sizes(sums: RankSum, where: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """The different pairs of arm sizes among some trials, and which trials have them."""
    rows = np.flatnonzero(where & (sums.n1 > 0) & (sums.n0 > 0))
    sizes = np.stack([sums.n1[rows], sums.n0[rows]], -1)
    kinds, which = np.unique(sizes, axis=0, return_inverse=True) if len(rows) else (sizes, np.zeros(0, int))
    return [(int(n1), int(n0), rows[which.ravel() == k]) for k, (n1, n0) in enumerate(kinds)]


def _exact_p(sums: RankSum, where: np.ndarray) -> np.ndarray:
    p = np.full(sums.w.shape, np.nan)
    for n1, n0, rows in _sizes(sums, where):
        below = _distribution(n1, n0)
        w = sums.w[rows].astype(int)
        p[rows] = np.minimum(2 * np.minimum(below[w], below[n1 * n0 - w]), 1.0)
    return p


def _exact_rank(sums: RankSum, where: np.ndarray, level: float) -> np.ndarray:
    """The rank of the lower limit: R's qwilcox((1 - level) / 2), at least 1."""
    rank = np.ones(sums.w.shape)
    for n1, n0, rows in _sizes(sums, where):
        rank[rows] = max(int(np.searchsorted(_distribution(n1, n0), (1 - level) / 2 * (1 - 1e-12))), 1)
    return rank


def _normal_rank(sums: RankSum, level: float) -> np.ndarray:
    pairs = sums.n1 * sums.n0
    return np.maximum(np.rint(pairs / 2 - critical(level) * np.sqrt(pairs * (sums.n1 + sums.n0 + 1) / 12)), 1)


@functools.lru_cache(maxsize=256)
def _distribution(n1: int, n0: int) -> np.ndarray:
    """P(W <= w) for w = 0 ... n1 n0: the ways to choose n1 ranks by their sum, counted one rank at a time."""
    total = n1 * n0
    ways = np.zeros((n1 + 1, total + 1))
    ways[0, 0] = 1.0
    for rank in range(1, n1 + n0 + 1):
        for k in range(min(rank, n1), 0, -1):
            # the k-th smallest chosen with this rank stands above rank - k of those not chosen
            above = rank - k
            if above <= n0:
                ways[k, above:] += ways[k - 1, : total + 1 - above]
    cumulative: np.ndarray = np.cumsum(ways[n1]) / ways[n1].sum()
    return cumulative


def _shift(values: np.ndarray, active: np.ndarray, control: np.ndarray, rank: np.ndarray) -> tuple[Any, ...]:
    """Median and the rank-th smallest and largest of all differences active - control, in blocks of trials."""
    trials, n = values.shape
    found = np.full((3, trials), np.nan)
    step = max(PAIRS_AT_ONCE // max(n * n, 1), 1)
    for start in range(0, trials, step):
        part = slice(start, start + step)
        one = np.where(active[part], values[part], np.nan)[:, :, None]
        other = np.where(control[part], values[part], np.nan)[:, None, :]
        ordered = np.sort((one - other).reshape(len(one), -1), -1)
        count = np.isfinite(ordered).sum(-1)
        here = np.minimum(rank[part].astype(int), np.maximum(count, 1))
        middle = (_at(ordered, (count + 1) // 2, count) + _at(ordered, count // 2 + 1, count)) / 2
        found[:, part] = middle, _at(ordered, here, count), _at(ordered, count - here + 1, count)
    return tuple(found)


def _at(ordered: np.ndarray, rank: np.ndarray, count: np.ndarray) -> np.ndarray:
    place = np.clip(rank - 1, 0, max(ordered.shape[-1] - 1, 0))
    found = (
        np.take_along_axis(ordered, place[:, None], -1)[:, 0] if ordered.shape[-1] else np.full(len(ordered), np.nan)
    )
    return np.where(count > 0, found, np.nan)

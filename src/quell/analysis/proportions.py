"""Proportions: one, and the difference, ratio or odds ratio of two, with intervals that hold for small counts.

A tally of counts shaped (...) is all that is needed; `tally` makes it from subjects shaped (..., n). Exact methods are
in `exact_proportions`, strata in `stratified_proportions`, covariates in `standardised`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, two_sided
from quell.analysis.counts import Cells, Tally, cells_of, checked, compared, distinct, stratified_tally, tally
from quell.analysis.exact_proportions import barnard, boschloo, conditional_odds_ratio, exact_difference, fisher
from quell.analysis.score import (
    difference_excess,
    log_score_interval,
    odds_excess,
    ratio_excess,
    root,
    score_interval,
)

__all__ = [
    "NumberNeeded",
    "Tally",
    "fisher",
    "number_needed",
    "odds_ratio",
    "proportion",
    "risk_difference",
    "risk_ratio",
    "stratified_tally",
    "tally",
]

OneSample = Literal["wilson", "clopper-pearson", "mid-p", "agresti-coull", "jeffreys", "wald"]
DifferenceMethod = Literal["miettinen-nurminen", "mee", "newcombe", "agresti-caffo", "wald", "chan-zhang"]
RatioMethod = Literal["miettinen-nurminen", "log"]
OddsMethod = Literal["exact", "mid-p", "miettinen-nurminen", "log"]
Test = Literal["score", "pearson", "fisher", "mid-p", "barnard", "boschloo"]

TESTS: dict[str, Callable[[Tally], np.ndarray]] = {
    "fisher": fisher,
    "mid-p": lambda counts: fisher(counts, mid_p=True),
    "barnard": barnard,
    "boschloo": boschloo,
}
# Logarithms of ratios are looked for between these; odds ratios further out are lost to rounding.
FARTHEST, FARTHEST_ODDS = 40.0, 25.0


class NumberNeeded(NamedTuple):
    """Patients to treat for one more (positive) or one fewer (negative) event, 1 / risk difference, each (...).

    Where the interval of the difference holds zero (`through_infinity`), the numbers it allows run from `lower` (fewer
    events) down through infinity to `upper` (more events): all below lower and all above upper (Altman 1998,
    doi:10.1136/bmj.317.7168.1309); otherwise they lie between lower and upper.
    """

    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    through_infinity: np.ndarray
    warnings: np.ndarray


def proportion(events: np.ndarray, n: np.ndarray, *, level: float = 0.95, method: OneSample = "wilson") -> Estimate:
    """One proportion with an interval: Wilson's score (1927), or the exact one of Clopper and Pearson (1934).

    Also `mid-p` (half the probability of what was seen counts as beyond it), `agresti-coull` (1998), `jeffreys` and
    `wald`. events and n (...) are counts. Raises ClaimError where a count is impossible or the method unknown.

    >>> result = proportion(np.array(0), np.array(28), method="clopper-pearson")
    >>> float(result.lower), round(float(result.upper), 4)
    (0.0, 0.1234)
    """
    x, n = checked(events, n)
    if method not in ONE_SAMPLE:
        raise ClaimError(f"The method is '{method}'; choose {', '.join(map(repr, ONE_SAMPLE))}.")
    size = np.maximum(n, 1.0)
    share = x / size
    lower, upper = ONE_SAMPLE[method](x, size, level)
    if method not in ("wald", "agresti-coull"):
        lower, upper = np.where(x == 0, 0.0, lower), np.where(x == n, 1.0, upper)
    none = np.full(x.shape, np.nan)
    share, lower, upper = (np.where(n > 0, value, np.nan) for value in (share, lower, upper))
    se = np.sqrt(share * (1 - share) / size)
    warnings = flag(n == 0, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    return Estimate(share, se, lower, upper, none, none, none, n.astype(int), warnings, level)


def risk_difference(
    counts: Tally, *, level: float = 0.95, method: DifferenceMethod = "miettinen-nurminen", test: Test = "score"
) -> Estimate:
    """Difference in proportions, active minus control.

    Intervals: `miettinen-nurminen` (1985, doi:10.1002/sim.4780040211), the differences whose score statistic, with
    variance from the restricted maximum likelihood and the factor n / (n - 1), lies within the critical value; `mee`, the
    same without the factor; `newcombe` (1998, method 10, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>
    3.0.CO;2-I), Wilson limits joined; `agresti-caffo` (2000), Wald's after one success and one failure more in each arm;
    `wald`; `chan-zhang`, exact (`exact_difference`). Tests: `score` (that of Miettinen and Nurminen), `pearson` (without
    n / (n - 1)), `fisher`, Fisher's `mid-p`, and the exact unconditional `barnard` and `boschloo`. se is the unrestricted
    one. Raises ClaimError where a count is impossible or a name unknown.

    >>> result = risk_difference(Tally(0, 28, 3, 27), test="fisher")
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper, result.p)]
    [-0.111, -0.282, 0.018, 0.111]
    """
    if method not in DIFFERENCES:
        raise ClaimError(f"The method is '{method}'; choose {_listed(DIFFERENCES)}.")
    cells, which = distinct(cells_of(counts))
    _, n1, _, n0 = cells
    p1, p0 = _shares(cells)
    lower, upper = DIFFERENCES[method](cells, level)
    se = np.sqrt(p1 * (1 - p1) / np.maximum(n1, 1) + p0 * (1 - p0) / np.maximum(n0, 1))
    statistic = difference_excess(cells, np.zeros(n1.shape), test != "pearson").standardised()
    return _compared(counts, cells, which, (p1 - p0, se, lower, upper, statistic), level, test)


def risk_ratio(
    counts: Tally, *, level: float = 0.95, method: RatioMethod = "miettinen-nurminen", test: Test = "score"
) -> Estimate:
    """Ratio of proportions, active over control, with Miettinen and Nurminen's score interval (1985).

    The ratios r whose score statistic (p1 - r p0) / se, restricted maximum likelihood under p1 = r p0 and factor
    n / (n - 1), lies within the critical value; `log` is Wald's interval of the log ratio (Katz 1978). With no event in
    one arm the ratio is 0 or infinite and one limit remains; se is that of the log ratio, infinite there. Tests as in
    `risk_difference`. Raises ClaimError where a count is impossible or a name unknown.

    >>> result = risk_ratio(Tally(3, 28, 6, 27))
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper)]
    [0.482, 0.14, 1.601]
    """
    if method not in ("miettinen-nurminen", "log"):
        raise ClaimError(f"The method is '{method}'; choose 'miettinen-nurminen' or 'log'.")
    cells, which = distinct(cells_of(counts))
    x1, n1, x0, n0 = cells
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (x1 / n1) / (x0 / n0)
        se = np.where((x1 > 0) & (x0 > 0), np.sqrt(1 / x1 - 1 / n1 + 1 / x0 - 1 / n0), np.inf)
        middle = np.log(np.where((x1 > 0) & (x0 > 0), ratio, 1.0))
    z = critical(level)
    if method == "log":
        lower, upper = _log_wald(middle, se, z)
    else:
        centre = np.where(x1 == 0, -FARTHEST, np.where(x0 == 0, FARTHEST, middle))
        ends = (np.full(x1.shape, -FARTHEST), centre, np.full(x1.shape, FARTHEST))
        lower, upper = log_score_interval(lambda at: ratio_excess(cells, at), ends, 1.5 * z * _rough(se), z)
        lower, upper = np.where(x1 == 0, 0.0, np.exp(lower)), np.where(x0 == 0, np.inf, np.exp(upper))
    statistic = difference_excess(cells, np.zeros(x1.shape), test != "pearson").standardised()
    return _compared(counts, cells, which, (ratio, se, lower, upper, statistic), level, test)


def odds_ratio(counts: Tally, *, level: float = 0.95, method: OddsMethod = "exact", test: Test = "fisher") -> Estimate:
    """Odds ratio, active over control.

    `exact`: the conditional maximum-likelihood estimate and the exact limits of R's fisher.test (`mid-p`: half the
    probability of what was seen counts as beyond it); `miettinen-nurminen`: the cross product (a d) / (b c) and the
    odds ratios whose score lies within the critical value, factor n / (n - 1); `log`: the cross product and Woolf's
    interval (1955). se is Woolf's, of the log odds ratio, infinite where a cell is empty. Tests as in `risk_difference`.
    Raises ClaimError where a count is impossible or a name unknown.

    >>> result = odds_ratio(Tally(3, 28, 6, 27))
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper, result.p)]
    [0.427, 0.061, 2.294, 0.295]
    """
    if method not in ("exact", "mid-p", "miettinen-nurminen", "log"):
        raise ClaimError(f"The method is '{method}'; choose 'exact', 'mid-p', 'miettinen-nurminen' or 'log'.")
    cells, which = distinct(cells_of(counts))
    x1, n1, x0, n0 = cells
    table = np.stack([x1, n1 - x1, x0, n0 - x0])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (table[0] * table[3]) / (table[1] * table[2])
        se = np.where((table > 0).all(0), np.sqrt((1 / table).sum(0)), np.inf)
        middle = np.log(np.where((table > 0).all(0), ratio, 1.0))
    z = critical(level)
    if method in ("exact", "mid-p"):
        ratio, lower, upper = conditional_odds_ratio(cells, level, mid_p=method == "mid-p")
    elif method == "log":
        lower, upper = _log_wald(middle, se, z)
    else:
        none, all_ = (table[0] == 0) | (table[3] == 0), (table[1] == 0) | (table[2] == 0)
        centre = np.where(none & ~all_, -FARTHEST_ODDS, np.where(all_ & ~none, FARTHEST_ODDS, middle))
        ends = (np.full(x1.shape, -FARTHEST_ODDS), centre, np.full(x1.shape, FARTHEST_ODDS))
        lower, upper = log_score_interval(lambda at: odds_excess(cells, at), ends, 1.5 * z * _rough(se), z)
        lower, upper = np.where(none, 0.0, np.exp(lower)), np.where(all_, np.inf, np.exp(upper))
    statistic = difference_excess(cells, np.zeros(x1.shape), test != "pearson").standardised()
    return _compared(counts, cells, which, (ratio, se, lower, upper, statistic), level, test)


def number_needed(difference: Estimate) -> NumberNeeded:
    """Patients to treat for one more or one fewer event, from a risk difference (also a stratified or adjusted one).

    >>> needed = number_needed(risk_difference(Tally(30, 100, 50, 100)))
    >>> round(float(needed.estimate), 2), round(float(needed.lower), 2), round(float(needed.upper), 2)
    (-5.0, -15.56, -3.04)
    """
    with np.errstate(divide="ignore"):
        estimate, low, high = (
            1 / np.asarray(value) for value in (difference.estimate, difference.lower, difference.upper)
        )
    through = (difference.lower < 0) & (difference.upper > 0)
    # the reciprocal turns the order round within one sign
    lower, upper = np.where(through, low, high), np.where(through, high, low)
    return NumberNeeded(estimate, lower, upper, through, difference.warnings)


def _wilson(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    return wilson(x, n, critical(level))


def wilson(x: np.ndarray, n: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score limits at a critical value z, which may differ by trial."""
    share, z2 = x / n, z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return centre - half, centre + half


def _clopper_pearson(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    tail = (1 - level) / 2
    lower = special.betaincinv(np.maximum(x, 0.5), n - x + 1, tail)
    return lower, special.betaincinv(x + 1, np.maximum(n - x, 0.5), 1 - tail)


def _jeffreys(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    tail = (1 - level) / 2
    return special.betaincinv(x + 0.5, n - x + 0.5, tail), special.betaincinv(x + 0.5, n - x + 0.5, 1 - tail)


def _mid_p(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """P(beyond x) + P(x) / 2 equals each tail."""
    tail, share = (1 - level) / 2, x / n

    def below(at: np.ndarray) -> np.ndarray:  # P(X < x) + P(X = x) / 2
        fewer = np.where(x > 0, special.betaincc(np.maximum(x, 1.0), n - x + 1, at), 0.0)
        return (fewer + np.where(x < n, special.betaincc(x + 1, np.maximum(n - x, 1.0), at), 1.0)) / 2

    lower = root(lambda at: tail - (1 - below(at)), np.zeros(x.shape), share)
    return lower, root(lambda at: below(at) - tail, share, np.ones(x.shape))


def _agresti_coull(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    z = critical(level)
    return _wald(x + z**2 / 2, n + z**2, level)


def _wald(x: np.ndarray, n: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    half = critical(level) * np.sqrt(x / n * (1 - x / n) / n)
    return x / n - half, x / n + half


ONE_SAMPLE: dict[str, Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]] = {
    "wilson": _wilson,
    "clopper-pearson": _clopper_pearson,
    "mid-p": _mid_p,
    "agresti-coull": _agresti_coull,
    "jeffreys": _jeffreys,
    "wald": _wald,
}


def _score_difference(cells: Cells, level: float, correct: bool = True) -> tuple[np.ndarray, np.ndarray]:
    p1, p0 = _shares(cells)
    ends = (-np.ones(p1.shape), p1 - p0, np.ones(p1.shape))
    return score_interval(lambda at: difference_excess(cells, at, correct), ends, critical(level))


def _newcombe(cells: Cells, level: float) -> tuple[np.ndarray, np.ndarray]:
    x1, n1, x0, n0 = cells
    p1, p0 = _shares(cells)
    one, other = proportion(x1, n1, level=level), proportion(x0, n0, level=level)
    lower = p1 - p0 - np.hypot(p1 - one.lower, other.upper - p0)
    return lower, p1 - p0 + np.hypot(one.upper - p1, p0 - other.lower)


def _wald_difference(cells: Cells, level: float, more: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Wald's interval after `more` successes and failures in each arm; within -1 and 1."""
    x1, n1, x0, n0 = cells
    size1, size0 = np.maximum(n1 + 2 * more, 1), np.maximum(n0 + 2 * more, 1)
    p1, p0 = (x1 + more) / size1, (x0 + more) / size0
    half = critical(level) * np.sqrt(p1 * (1 - p1) / size1 + p0 * (1 - p0) / size0)
    return np.maximum(p1 - p0 - half, -1.0), np.minimum(p1 - p0 + half, 1.0)


DIFFERENCES: dict[str, Callable[[Cells, float], tuple[np.ndarray, np.ndarray]]] = {
    "miettinen-nurminen": _score_difference,
    "mee": lambda cells, level: _score_difference(cells, level, correct=False),
    "newcombe": _newcombe,
    "agresti-caffo": lambda cells, level: _wald_difference(cells, level, more=1.0),
    "wald": _wald_difference,
    "chan-zhang": exact_difference,
}


def _shares(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    x1, n1, x0, n0 = cells
    return x1 / np.maximum(n1, 1), x0 / np.maximum(n0, 1)


def _rough(se: np.ndarray) -> np.ndarray:
    """A finite width to look first: the standard error, or one where it is infinite."""
    return np.where(np.isfinite(se), np.maximum(se, 0.05), 1.5)


def _log_wald(middle: np.ndarray, se: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wald's interval of a log ratio; without a standard error it excludes nothing."""
    known = np.isfinite(se)
    half = z * np.where(known, se, 1.0)
    return np.where(known, np.exp(middle - half), 0.0), np.where(known, np.exp(middle + half), np.inf)


def _compared(
    counts: Tally, cells: Cells, which: np.ndarray, numbers: tuple[np.ndarray, ...], level: float, test: str
) -> Estimate:
    """The comparison of two proportions, from the different tables to the trials, with its p-value and cautions."""
    if test not in ("score", "pearson", *TESTS):
        raise ClaimError(f"The test is '{test}'; choose {_listed(['score', 'pearson', *TESTS])}.")
    *rest, statistic = numbers
    if test in TESTS:
        p, statistic = TESTS[test](Tally(*cells)), np.full(statistic.shape, np.nan)
    else:
        p = two_sided(statistic)
    return compared(counts, tuple(value[which] for value in (*rest, statistic)), p[which], level)


def _listed(names: Iterable[str]) -> str:
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}"

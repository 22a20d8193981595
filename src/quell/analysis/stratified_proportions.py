"""Proportions compared within strata and brought together: difference, ratio, odds ratio, tests, and are they alike?

Every function takes a `Tally` whose fields are (..., strata), as `counts.stratified_tally` makes it. A stratum with
patients of one arm only says nothing about the comparison and has no weight; a caution tells.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
    two_sided,
    without_a_size,
)
from quell.analysis.counts import Cells, Tally, cells_of
from quell.analysis.proportions import wilson
from quell.analysis.score import Excess, difference_excess, restricted_difference, root

StratumWeights = Literal["mantel-haenszel", "miettinen-nurminen"]
Interval = Literal["miettinen-nurminen", "sato", "newcombe", "summary score", "wald"]

# The most rounds of fitting weights to the risks that they themselves weigh.
ROUNDS = 50


class Strata(NamedTuple):
    """The cells of the strata that compare (others zero), their Mantel-Haenszel weights n1 n0 / n, and the doubts."""

    cells: Cells
    weight: np.ndarray
    warnings: np.ndarray

    @property
    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        x1, n1, x0, n0 = self.cells
        return x1 / np.maximum(n1, 1), x0 / np.maximum(n0, 1)

    @property
    def sizes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Patients of the active arm, of the control arm and of both; one where a stratum is empty."""
        _, n1, _, n0 = self.cells
        return np.maximum(n1, 1.0), np.maximum(n0, 1.0), np.maximum(n1 + n0, 1.0)

    @property
    def n(self) -> np.ndarray:
        return (self.cells[1] + self.cells[3]).sum(-1).astype(int)


def common_difference(
    counts: Tally,
    *,
    level: float = 0.95,
    method: Interval = "miettinen-nurminen",
    weights: StratumWeights = "mantel-haenszel",
) -> Estimate:
    """Risk difference common to all strata, active minus control.

    - `miettinen-nurminen` (1985, doi:10.1002/sim.4780040211): the differences d with
      |sum w (p1 - p0 - d)| <= z sqrt(sum w² V(d)), V from the restricted likelihood in each stratum with n / (n - 1).
      Weights w: `mantel-haenszel` n1 n0 / n (as R's ratesci and metalite.ae's "ss"; its test at d = 0 is the
      Cochran-Mantel-Haenszel test), or `miettinen-nurminen` (theirs: 1 / (r1 (1 - r1) / (r0 (1 - r0)) / n1 + 1 / n0) with r the weighted
      restricted risks, found by iteration at each d; the estimate is where the score is zero).
    - `sato`: Mantel and Haenszel's estimate with Sato's variance (1989), as SAS PROC FREQ commonriskdiff(cl=mh).
    - `newcombe`: stratified Wilson limits joined (Yan and Su 2010, doi:10.1198/sbr.2009.0049), Mantel-Haenszel weights,
      as SAS commonriskdiff(cl=newcombe).
    - `summary score`: strata's Miettinen-Nurminen intervals weighted by their squared widths, as SAS cl=score.
    - `wald`: Mantel-Haenszel weights with the unrestricted variances.

    p tests no difference by the method itself (for `newcombe` by Sato's). Raises ClaimError where a count is impossible
    or a name unknown.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> result = common_difference(counts)
    >>> [round(float(value), 4) for value in (result.estimate, result.lower, result.upper, result.p)]
    [0.2738, 0.0891, 0.4405, 0.004]
    """
    if weights not in ("mantel-haenszel", "miettinen-nurminen"):
        raise ClaimError(f"The weights are '{weights}'; choose 'mantel-haenszel' or 'miettinen-nurminen'.")
    strata = _strata(counts)
    if method == "miettinen-nurminen":
        return _score(strata, weights, level)
    if method == "summary score":
        return _summary_score(strata, level)
    if method not in ("sato", "newcombe", "wald"):
        raise ClaimError(
            f"The method is '{method}'; choose 'miettinen-nurminen', 'sato', 'newcombe', 'summary score' or 'wald'."
        )
    p1, p0 = strata.shares
    estimate = _mean(strata.weight, p1 - p0)
    if method == "wald":
        variance = _mean_variance(strata.weight, sum(_variances(strata)))  # type: ignore[arg-type]
        return _finished(strata, normal_estimate(estimate, _root(variance), strata.n, 0, level))
    sato = normal_estimate(estimate, _root(_sato(strata, estimate)), strata.n, 0, level)
    if method == "newcombe":
        lower, upper = _newcombe(strata, estimate, critical(level))
        sato = sato._replace(lower=lower, upper=upper)
    return _finished(strata, sato)


def common_ratio(counts: Tally, *, level: float = 0.95) -> Estimate:
    """Mantel-Haenszel risk ratio common to all strata, active over control.

    Variance of its logarithm by Greenland and Robins (1985, doi:10.2307/2530643), as SAS PROC FREQ and R's epi.2by2.
    Raises ClaimError where a count is impossible.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> result = common_ratio(counts)
    >>> [round(float(value), 4) for value in (result.estimate, result.lower, result.upper)]
    [2.1636, 1.2336, 3.7948]
    """
    strata = _strata(counts)
    x1, n1, x0, n0 = strata.cells
    total = strata.sizes[2]
    top, bottom = (x1 * n0 / total).sum(-1), (x0 * n1 / total).sum(-1)
    spread = ((n1 * n0 * (x1 + x0) - x1 * x0 * total) / total**2).sum(-1)
    return _ratio(strata, top, bottom, spread, level)


def common_odds_ratio(counts: Tally, *, level: float = 0.95) -> Estimate:
    """Mantel-Haenszel odds ratio common to all strata, active over control.

    Variance of its logarithm by Robins, Breslow and Greenland (1986, doi:10.2307/2531052), as SAS PROC FREQ and R's
    mantelhaen.test. Raises ClaimError where a count is impossible.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> result = common_odds_ratio(counts)
    >>> [round(float(value), 4) for value in (result.estimate, result.lower, result.upper)]
    [3.3132, 1.4456, 7.5934]
    """
    strata = _strata(counts)
    x1, n1, x0, n0 = strata.cells
    total = strata.sizes[2]
    for_, against = x1 * (n0 - x0) / total, x0 * (n1 - x1) / total
    alike, unlike = (x1 + n0 - x0) / total, (x0 + n1 - x1) / total
    top, bottom = for_.sum(-1), against.sum(-1)
    safe = (top > 0) & (bottom > 0)
    r, s = np.where(safe, top, 1.0), np.where(safe, bottom, 1.0)
    variance = (alike * for_).sum(-1) / (2 * r**2) + (unlike * against).sum(-1) / (2 * s**2)
    variance = variance + (alike * against + unlike * for_).sum(-1) / (2 * r * s)
    return _ratio(strata, top, bottom, variance * r * s, level)


def cochran_mantel_haenszel(counts: Tally, *, correct: bool = False, level: float = 0.95) -> Estimate:
    """Cochran-Mantel-Haenszel test that the arms do not differ in any stratum, chi-square on 1 degree of freedom.

    (sum x1 - E)² / sum V with hypergeometric E and V; `correct` takes 0.5 off |sum x1 - E| (R's mantelhaen.test does by
    default, SAS does not). The result has a statistic, df, p and n. Raises ClaimError where a count is impossible.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> round(float(cochran_mantel_haenszel(counts).statistic), 4)
    8.3052
    """
    strata = _strata(counts)
    x1, n1, x0, n0 = strata.cells
    total, events = strata.sizes[2], x1 + x0
    excess = np.abs((x1 - n1 * events / total).sum(-1))
    variance = (n1 * n0 * events * (total - events) / (total**2 * np.maximum(total - 1, 1))).sum(-1)
    excess = np.maximum(excess - 0.5, 0.0) if correct else excess
    chi_square = np.where(variance > 0, excess**2 / np.where(variance > 0, variance, 1.0), 0.0)
    return _test(strata, chi_square, np.ones(chi_square.shape), level)


def breslow_day(counts: Tally, *, tarone: bool = False, level: float = 0.95) -> Estimate:
    """Breslow and Day's test (1980) that the odds ratio is the same in every stratum, chi-square on strata - 1.

    At the Mantel-Haenszel odds ratio; `tarone` adds Tarone's correction (1985). SAS PROC FREQ gives it without. The
    result has a statistic, df, p and n. Raises ClaimError where a count is impossible.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> round(float(breslow_day(counts).statistic), 4)
    1.4929
    """
    strata = _strata(counts)
    x1, n1, x0, n0 = strata.cells
    common = common_odds_ratio(counts).estimate
    known = np.isfinite(common) & (common > 0)
    odds = np.where(known, common, 1.0)[..., np.newaxis]
    events = x1 + x0
    a, b = odds - 1, n0 - events + odds * (n1 + events)
    disc = np.sqrt(np.maximum(b**2 - 4 * a * odds * n1 * events, 0.0))
    expected = 2 * odds * n1 * events / np.maximum(b + disc, 1e-300)
    cells = np.stack([expected, n1 - expected, events - expected, n0 - events + expected])
    informs = (cells > 1e-12).all(0)
    variance = np.where(informs, 1 / (1 / np.where(informs, cells, 1.0)).sum(0), 0.0)
    excess = np.where(informs, x1 - expected, 0.0)
    chi_square = np.sum(np.where(informs, excess**2 / np.where(informs, variance, 1.0), 0.0), -1)
    total = variance.sum(-1)
    if tarone:
        chi_square = chi_square - np.where(total > 0, excess.sum(-1) ** 2 / np.where(total > 0, total, 1.0), 0.0)
    return _test(strata, np.where(known, chi_square, np.nan), informs.sum(-1) - 1.0, level)


def differences_alike(counts: Tally, *, level: float = 0.95) -> Estimate:
    """Cochran's Q test that the risk difference is the same in every stratum, chi-square on strata - 1.

    Q = sum w (d - d̄)² with inverse unrestricted variances w (Fleiss 1981); strata whose variance is zero do not count
    (a caution says an arm there has no event, or only events). The result has a statistic, df, p and n.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> round(float(differences_alike(counts).statistic), 4)
    1.7187
    """
    strata = _strata(counts)
    p1, p0 = strata.shares
    return _alike(strata, p1 - p0, sum(_variances(strata)), level)  # type: ignore[arg-type]


def ratios_alike(counts: Tally, *, level: float = 0.95) -> Estimate:
    """Cochran's Q test that the risk ratio is the same in every stratum, from log ratios and their variances.

    As `differences_alike`, on the logarithm; strata without an event in an arm do not count.

    >>> counts = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))
    >>> round(float(ratios_alike(counts).statistic), 4)
    1.1438
    """
    strata = _strata(counts)
    x1, n1, x0, n0 = strata.cells
    both = (x1 > 0) & (x0 > 0)
    one, other, size1, size0 = (np.where(both, value, 1.0) for value in (x1, x0, n1, n0))
    return _alike(
        strata,
        np.log(one / size1) - np.log(other / size0),
        np.where(both, 1 / one - 1 / size1 + 1 / other - 1 / size0, 0.0),
        level,
    )


def _strata(counts: Tally) -> Strata:
    x1, n1, x0, n0 = cells_of(counts)
    if x1.ndim == 0:
        raise ClaimError("Strata are the last axis of the counts; make them with stratified_tally, or use Tally.")
    compares = (n1 > 0) & (n0 > 0)
    lone = ((n1 > 0) | (n0 > 0)) & ~compares
    x1, n1, x0, n0 = (np.where(compares, value, 0.0) for value in (x1, n1, x0, n0))
    empty = ~compares.any(-1)
    a, b = x1.sum(-1), x0.sum(-1)
    events = a + b
    warnings = np.asarray(counts.warnings) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(lone.any(-1) & ~empty, Caution.LONE_STRATUM)
    warnings = warnings | flag(~empty & (events == 0), Caution.NO_EVENTS)
    warnings = warnings | flag(~empty & (events == (n1 + n0).sum(-1)), Caution.CONSTANT_OUTCOME)
    warnings = warnings | flag(~empty & (events > 0) & ((a == 0) | (b == 0)), Caution.ARM_WITHOUT_EVENTS)
    warnings = warnings | flag(~empty & (events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)
    weight = np.where(compares, n1 * n0 / np.maximum(n1 + n0, 1.0), 0.0)
    return Strata((x1, n1, x0, n0), weight, warnings)


def _mean(weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    total = weight.sum(-1)
    return np.where(total > 0, (weight * values).sum(-1) / np.where(total > 0, total, 1.0), np.nan)


def _mean_variance(weight: np.ndarray, variance: np.ndarray) -> np.ndarray:
    total = weight.sum(-1)
    return np.where(total > 0, (weight**2 * variance).sum(-1) / np.where(total > 0, total, 1.0) ** 2, np.nan)


def _root(variance: np.ndarray) -> np.ndarray:
    return np.where(variance > 0, np.sqrt(np.where(variance > 0, variance, 1.0)), np.nan)


def _variances(strata: Strata) -> tuple[np.ndarray, np.ndarray]:
    (p1, p0), (n1, n0, _) = strata.shares, strata.sizes
    return p1 * (1 - p1) / n1, p0 * (1 - p0) / n0


def _sato(strata: Strata, estimate: np.ndarray) -> np.ndarray:
    """Sato's variance (1989): (d sum P + sum Q) / (sum w)²."""
    x1, n1, x0, n0 = strata.cells
    total = strata.sizes[2]
    p = (n1**2 * x0 - n0**2 * x1 + n1 * n0 * (n0 - n1) / 2) / total**2
    q = (x1 * (n0 - x0) + x0 * (n1 - x1)) / (2 * total)
    weight = strata.weight.sum(-1)
    return np.where(weight > 0, (estimate * p.sum(-1) + q.sum(-1)) / np.where(weight > 0, weight, 1.0) ** 2, np.nan)


def _newcombe(strata: Strata, estimate: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yan and Su (2010): each arm's stratified Wilson limits, at the critical value that their weights call for."""
    x1, _, x0, _ = strata.cells
    size1, size0, _ = strata.sizes
    total = strata.weight.sum(-1, keepdims=True)
    w = strata.weight / np.where(total > 0, total, 1.0)
    first, second = _variances(strata)
    low1, high1 = _stratified_wilson(x1, size1, w, first, z)
    low0, high0 = _stratified_wilson(x0, size0, w, second, z)
    part1, part0 = (w**2 / size1).sum(-1), (w**2 / size0).sum(-1)
    lower = estimate - z * np.sqrt(part1 * low1 * (1 - low1) + part0 * high0 * (1 - high0))
    return lower, estimate + z * np.sqrt(part1 * high1 * (1 - high1) + part0 * low0 * (1 - low0))


def _stratified_wilson(
    x: np.ndarray, n: np.ndarray, w: np.ndarray, variance: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """sum w x Wilson limits at z sqrt(sum w² v) / sum w sqrt(v); with no variance anywhere, v is taken as 1 / n."""
    v = np.where(variance.any(-1, keepdims=True), variance, 1 / n)
    spread = (w * np.sqrt(v)).sum(-1)
    at = z * np.sqrt((w**2 * v).sum(-1)) / np.where(spread > 0, spread, 1.0)
    lower, upper = wilson(x, n, at[..., np.newaxis])
    return np.clip((w * lower).sum(-1), 0, 1), np.clip((w * upper).sum(-1), 0, 1)


def _score(strata: Strata, weights: str, level: float) -> Estimate:
    """The differences whose weighted score lies within the critical value; the estimate is where it is zero."""
    p1, p0 = strata.shares
    z = critical(level)

    def excess(at: np.ndarray) -> Excess:
        within = difference_excess(strata.cells, at[..., np.newaxis] + np.zeros(p1.shape))
        w = _score_weights(strata, at, weights)
        return Excess(_mean(w, within.excess), _mean_variance(w, within.variance))

    one = np.ones(p1.shape[:-1])
    if weights == "mantel-haenszel":
        estimate = np.nan_to_num(_mean(strata.weight, p1 - p0))
    else:
        estimate = root(lambda at: excess(at).excess, -one, one)
    lower = root(lambda at: excess(at).beyond(z), -one, estimate)
    upper = root(lambda at: excess(at).beyond(-z), estimate, one)
    statistic = excess(np.zeros(estimate.shape)).standardised()
    first, second = _variances(strata)
    se = np.sqrt(_mean_variance(_score_weights(strata, estimate, weights), first + second))
    df, p = np.full(estimate.shape, np.inf), two_sided(statistic)
    return _finished(strata, Estimate(estimate, se, lower, upper, statistic, df, p, strata.n, strata.warnings, level))


def _score_weights(strata: Strata, at: np.ndarray, weights: str) -> np.ndarray:
    """Each stratum's weight at a hypothesised difference."""
    if weights == "mantel-haenszel":
        return strata.weight
    n1, n0, _ = strata.sizes
    r1, r0 = restricted_difference(strata.cells, at[..., np.newaxis] + np.zeros(strata.weight.shape))
    w = strata.weight
    for _ in range(ROUNDS):
        one, other = _mean(w, r1)[..., np.newaxis], _mean(w, r0)[..., np.newaxis]
        ratio = one * (1 - one) / np.maximum(other * (1 - other), 1e-12)
        ratio = np.where(np.isfinite(ratio), np.clip(ratio, 1e-9, 1e9), 1.0)
        new = np.where(strata.weight > 0, 1 / (ratio / n1 + 1 / n0), 0.0)
        settled = np.all(np.abs(new - w) <= 1e-13 * np.maximum(np.abs(w), 1e-300))
        w = new
        if settled:
            break
    return w


def _summary_score(strata: Strata, level: float) -> Estimate:
    """SAS's summary score: midpoints and half-widths (over z) of the strata's Miettinen-Nurminen intervals."""
    p1, p0 = strata.shares
    z = critical(level)
    one = np.ones(p1.shape)
    lower = root(lambda at: difference_excess(strata.cells, at).beyond(z), -one, p1 - p0)
    upper = root(lambda at: difference_excess(strata.cells, at).beyond(-z), p1 - p0, one)
    width = (upper - lower) / (2 * z)
    inverse = np.where(strata.weight > 0, 1 / np.maximum(width, 1e-12) ** 2, 0.0)
    total = inverse.sum(-1)
    estimate = _mean(inverse, (lower + upper) / 2)
    se = np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), np.nan)
    return _finished(strata, normal_estimate(estimate, se, strata.n, 0, level))


def _ratio(strata: Strata, top: np.ndarray, bottom: np.ndarray, spread: np.ndarray, level: float) -> Estimate:
    """top / bottom, log variance spread / (top bottom); 0 or infinite, with limits that exclude nothing, where one is 0."""
    known = (top > 0) & (bottom > 0)
    log = np.log(np.where(known, top, 1.0)) - np.log(np.where(known, bottom, 1.0))
    variance = np.where(known, spread / np.where(known, top * bottom, 1.0), np.nan)
    result = exponentiate(normal_estimate(log, _root(variance), strata.n, 0, level))
    either = (top > 0) | (bottom > 0)
    end = np.where(top > 0, np.inf, 0.0)
    result = result._replace(
        estimate=np.where(known, result.estimate, np.where(either, end, np.nan)),
        lower=np.where(known, result.lower, np.where(either, 0.0, np.nan)),
        upper=np.where(known, result.upper, np.where(either, np.inf, np.nan)),
        warnings=flag(~known, Caution.NOT_ESTIMABLE),
    )
    return _finished(strata, result)


def _alike(strata: Strata, values: np.ndarray, variance: np.ndarray, level: float) -> Estimate:
    informs = (strata.weight > 0) & (variance > 0)
    weight = np.where(informs, 1 / np.where(informs, variance, 1.0), 0.0)
    mean = np.nan_to_num(_mean(weight, values))[..., np.newaxis]
    return _test(strata, np.sum(weight * (values - mean) ** 2, -1), informs.sum(-1) - 1.0, level)


def _test(strata: Strata, chi_square: np.ndarray, df: np.ndarray, level: float) -> Estimate:
    """A chi-square test without an estimate; not made where no degree of freedom is left."""
    good = (df > 0) & np.isfinite(chi_square) & (strata.weight > 0).any(-1)
    p = np.where(good, special.chdtrc(np.where(good, df, 1.0), np.where(good, chi_square, 1.0)), np.nan)
    statistic, df = np.where(good, chi_square, np.nan), np.where(good, df, np.nan)
    warnings = strata.warnings | flag(~good, Caution.NOT_ESTIMABLE)
    return without_a_size(statistic, df, p, strata.n, warnings, level)


def _finished(strata: Strata, result: Estimate) -> Estimate:
    """With the strata's cautions; nothing where no stratum compares the arms."""
    nothing = ~(strata.weight > 0).any(-1)
    fields: dict[str, Any] = {
        name: np.where(nothing, np.nan, getattr(result, name))
        for name in ("estimate", "se", "lower", "upper", "statistic", "p")
    }
    unknown = np.isnan(fields["lower"]) & ~nothing
    warnings = strata.warnings | result.warnings | flag(unknown, Caution.NOT_ESTIMABLE)
    return result._replace(**fields, warnings=warnings, n=strata.n)

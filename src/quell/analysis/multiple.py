"""Several endpoints, one error: adjusted p-values of the usual procedures, for one trial or many.

p (..., m): m hypotheses of each of a batch of trials. An adjusted p is the smallest level at which the procedure rejects
the hypothesis. A missing p (NaN) stays missing and does not count among the hypotheses, as in R's p.adjust. For
procedures with weights and an order of passing error on, see `graphical`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, two_sided
from quell.analysis.graphical import Graph, adjusted, fallback_graph

Rule = Callable[[np.ndarray], np.ndarray]


def bonferroni(p: Any) -> np.ndarray:
    """Adjusted p: m p, (..., m).

    >>> bonferroni([0.01, 0.04]).tolist()
    [0.02, 0.08]
    """
    return _by_rank(p, lambda ranked: ranked * ranked.shape[-1])


def holm(p: Any) -> np.ndarray:
    """Adjusted p of Holm's step-down procedure (1979), (..., m): valid whatever the correlation, and never weaker than Bonferroni.

    >>> holm([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    return _by_rank(p, lambda ranked: np.maximum.accumulate(ranked * _left(ranked), -1))


def hochberg(p: Any) -> np.ndarray:
    """Adjusted p of Hochberg's step-up procedure (1988), (..., m): valid for independent or positively dependent tests.

    >>> hochberg([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    return _by_rank(p, lambda ranked: _from_largest(ranked * _left(ranked)))


def hommel(p: Any) -> np.ndarray:
    """Adjusted p of Hommel's procedure (1988), (..., m): the closed test by Simes, valid where Hochberg is and never weaker.

    >>> hommel([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    return _by_rank(p, _hommel)


def benjamini_hochberg(p: Any) -> np.ndarray:
    """Adjusted p for the false discovery rate (Benjamini and Hochberg 1995), (..., m): not for confirming endpoints.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(4).tolist()
    [0.03, 0.04, 0.04]
    """
    return _by_rank(p, lambda ranked: _from_largest(ranked * ranked.shape[-1] / np.arange(1, ranked.shape[-1] + 1)))


def benjamini_yekutieli(p: Any) -> np.ndarray:
    """Adjusted p for the false discovery rate under any dependence (Benjamini and Yekutieli 2001), (..., m).

    >>> benjamini_yekutieli([0.01, 0.04, 0.03]).round(4).tolist()
    [0.055, 0.0733, 0.0733]
    """

    def rule(ranked: np.ndarray) -> np.ndarray:
        order = np.arange(1, ranked.shape[-1] + 1)
        return _from_largest(ranked * ranked.shape[-1] * np.sum(1 / order) / order)

    return _by_rank(p, rule)


def fixed_sequence(p: Any) -> np.ndarray:
    """Adjusted p of tests in a fixed order, each at full level until one fails, (..., m): the largest p so far.

    A missing p ends the sequence.

    >>> fixed_sequence([0.01, 0.04, 0.03]).tolist()
    [0.01, 0.04, 0.04]
    """
    p = _checked(p)
    return np.where(np.isnan(p), np.nan, np.maximum.accumulate(np.where(np.isnan(p), 1.0, p), -1))


def fallback(p: Any, weights: Sequence[float]) -> np.ndarray:
    """Adjusted p of Wiens and Dmitrienko's fallback procedure (2005), (..., m): a fixed order, each with a share of the error.

    A rejected hypothesis hands its share to the next. Raises ClaimError where weights do not fit.

    >>> fallback([0.01, 0.04, 0.03], [0.5, 0.25, 0.25]).round(4).tolist()
    [0.02, 0.0533, 0.0533]
    """
    return adjusted(p, fallback_graph(weights))


def co_primary(p: Any) -> np.ndarray:
    """The p of a claim that needs every endpoint, (...): the largest one. No adjustment is needed, but power is lost.

    >>> float(co_primary([0.01, 0.04]))
    0.04
    """
    return _checked(p).max(-1)


def serial_gatekeeping(p: Any, families: Sequence[Sequence[int]], within: Rule = holm) -> np.ndarray:
    """Adjusted p of families tested in order, each only if all of the family before are rejected, (..., m).

    families are the positions of each; `within` adjusts inside a family (Maurer, Hothorn and Lehmacher 1995). Raises
    ClaimError where a hypothesis is in no family or in two.

    >>> serial_gatekeeping([0.01, 0.02, 0.001, 0.3], [[0, 1], [2, 3]]).round(3).tolist()
    [0.02, 0.02, 0.02, 0.3]
    """
    p = _checked(p)
    if sorted(k for family in families for k in family) != list(range(p.shape[-1])):
        raise ClaimError(f"The families must hold each of the {p.shape[-1]} hypotheses (from 0) once.")
    found, gate = np.full(p.shape, np.nan), np.zeros(p.shape[:-1])
    for family in families:
        chosen = list(family)
        found[..., chosen] = np.maximum(within(p[..., chosen]), gate[..., None])
        gate = np.where(np.isnan(found[..., chosen]).any(-1), 1.0, np.nan_to_num(found[..., chosen], nan=1.0).max(-1))
    return found


def graphical(p: Any, graph: Graph) -> np.ndarray:
    """Adjusted p of a graphical procedure, (..., m): `graphical.adjusted`.

    >>> from quell.analysis.graphical import holm_graph
    >>> graphical([0.01, 0.04, 0.03], holm_graph(3)).round(4).tolist()
    [0.03, 0.06, 0.06]
    """
    return adjusted(p, graph)


def bonferroni_intervals(
    estimate: Any, se: Any, *, df: Any = np.inf, n: Any = 0, level: float = 0.95, rule: Rule = bonferroni
) -> Estimate:
    """Intervals that hold together, (..., m): each at level 1 - (1 - level) / m; p adjusted by the rule.

    >>> found = bonferroni_intervals(np.array([1.0, 2.0]), np.array([0.5, 0.5]))
    >>> found.lower.round(4).tolist(), found.p.round(4).tolist()
    ([-0.1207, 0.8793], [0.091, 0.0001])
    """
    estimate, se, df = np.broadcast_arrays(*(np.asarray(value, float) for value in (estimate, se, df)))
    known = np.isfinite(estimate) & np.isfinite(se)
    count = np.maximum(known.sum(-1, keepdims=True), 1)
    half = np.empty(estimate.shape)
    for one in np.unique(count):
        rows = np.broadcast_to(count == one, estimate.shape)
        half[rows] = (critical(1 - (1 - level) / int(one), df) * se)[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = estimate / se
    p, warnings = rule(two_sided(statistic, df)), flag(~known, Caution.NOT_ESTIMABLE)
    patients = np.broadcast_to(np.asarray(n), estimate.shape)
    return Estimate(estimate, se, estimate - half, estimate + half, statistic, df, p, patients, warnings, level)


def holm_lower_limits(estimate: Any, se: Any, *, df: float = np.inf, alpha: float = 0.025) -> np.ndarray:
    """One-sided lower limits, (..., m), that agree with Holm's procedure at alpha (Strassburger and Bretz 2008).

    Hypotheses not rejected get the limit at alpha over their number; the rejected are above 0, and no more can be said
    unless all are: then each is the larger of 0 and its limit at alpha / m.

    >>> holm_lower_limits(np.array([1.0, 2.0, 0.2]), np.array([0.5, 0.5, 0.5])).round(4).tolist()
    [-0.1207, 0.0, -0.9207]
    """
    estimate, se = np.broadcast_arrays(np.asarray(estimate, float), np.asarray(se, float))
    z, m = estimate / se, estimate.shape[-1]
    both = two_sided(z, df)
    rejected = holm(np.where(z > 0, both / 2, 1 - both / 2)) <= alpha
    left = m - rejected.sum(-1, keepdims=True)
    cut = np.array([float(critical(1 - 2 * alpha / max(k, 1), df)) for k in range(m + 1)])
    all_of_them = np.maximum(0.0, estimate - cut[m] * se)
    return np.where(left == 0, all_of_them, np.where(rejected, 0.0, estimate - cut[left] * se))


ADJUSTMENTS: dict[Literal["bonferroni", "holm", "hochberg", "hommel", "fixed sequence", "benjamini-hochberg"], Rule] = {
    "bonferroni": bonferroni,
    "holm": holm,
    "hochberg": hochberg,
    "hommel": hommel,
    "fixed sequence": fixed_sequence,
    "benjamini-hochberg": benjamini_hochberg,
}


# -- how it is done ----------------------------------------------------------------------------------------------------
def _checked(p: Any) -> np.ndarray:
    p = np.asarray(p, float)
    if p.ndim == 0:
        raise ClaimError("Give the p-values of several hypotheses, (..., m); one alone needs no adjustment.")
    if np.any((p < 0) | (p > 1)):
        raise ClaimError("A p-value lies between 0 and 1; NaN says that it is missing.")
    return p


def _by_rank(p: Any, rule: Rule) -> np.ndarray:
    """A rule for p-values in rising order, applied to the ones known of each trial, at most 1."""
    p = _checked(p)
    if p.size == 0:
        return p.copy()
    rows = p.reshape(-1, p.shape[-1])
    order = np.argsort(rows, -1, kind="stable")
    ranked, counts = np.take_along_axis(rows, order, -1), np.isfinite(rows).sum(-1)
    found = np.full(rows.shape, np.nan)
    for count in np.unique(counts[counts > 0]):
        chosen = counts == count
        found[chosen, :count] = np.minimum(rule(ranked[chosen, :count]), 1.0)
    back = np.empty(rows.shape)
    np.put_along_axis(back, order, found, -1)
    return back.reshape(p.shape)


def _left(ranked: np.ndarray) -> np.ndarray:
    """How many hypotheses are left at each rank."""
    return np.arange(ranked.shape[-1], 0, -1)


def _from_largest(values: np.ndarray) -> np.ndarray:
    """The smallest from each rank on."""
    return np.minimum.accumulate(values[..., ::-1], -1)[..., ::-1]


def _hommel(ranked: np.ndarray) -> np.ndarray:
    """Wright's algorithm (1992), one pass for each size of the intersection, (trials, m)."""
    m = ranked.shape[-1]
    rank = np.arange(1, m + 1)
    found = np.repeat((m * ranked / rank).min(-1, keepdims=True), m, -1)
    for size in range(m - 1, 1, -1):
        # the size - 1 largest, and the others
        largest = ranked[:, m - size + 1 :]
        cut = (size * largest / np.arange(2, size + 1)).min(-1, keepdims=True)
        others = np.minimum(size * ranked[:, : m - size + 1], cut)
        reach = np.concatenate([others, np.repeat(others[:, -1:], size - 1, -1)], -1)
        found = np.maximum(found, reach)
    return np.maximum(found, ranked)

"""Graphical multiple testing: hypotheses share the error by weights, and pass it on along arrows when they are rejected.

Bretz, Maurer, Brannath and Posch (2009, doi:10.1002/sim.3495). Node j holds the share w_j of alpha; once rejected, it
hands the part g_jk of its share to node k. Every Bonferroni-based closed test with these properties is such a graph: Holm, fixed
sequence, fallback, gatekeeping. Sequential p-values of a group-sequential trial (`stopped.repeated_p`, the smallest so far)
may be put in for p (Maurer and Bretz 2013).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis.claim import ClaimError

# Weights that add up to one may exceed it by this much.
ROUNDING = 1e-9


class Graph(NamedTuple):
    """Weights (m,) of the hypotheses, and transitions (m, m): the share of row's weight that goes to column."""

    weights: np.ndarray
    transitions: np.ndarray

    def without(self, node: int) -> Graph:
        """The graph once a hypothesis (from 0) is rejected: its weight passed on, its arrows joined.

        >>> holm_graph(3).without(0).weights.round(4).tolist()
        [0.0, 0.5, 0.5]
        """
        _known(self, node)
        batch = _State(self.weights[None], self.transitions[None], np.array([node]))
        weights, transitions = batch.passed_on()
        return Graph(weights[0], transitions[0])


def graph(weights: Any, transitions: Any) -> Graph:
    """A graph, checked: weights are 0 or more and sum to at most 1, rows of transitions too, and no arrow returns to its node.

    Raises ClaimError with the rule that is broken.

    >>> graph([0.5, 0.5], [[0, 1], [1, 0]]).weights.tolist()
    [0.5, 0.5]
    """
    weights, transitions = np.asarray(weights, float), np.asarray(transitions, float)
    m = weights.size
    if weights.shape != (m,) or transitions.shape != (m, m) or not m:
        raise ClaimError(f"A graph of {m} hypotheses needs {m} weights and {m} x {m} transitions.")
    if not np.isfinite(weights).all() or not np.isfinite(transitions).all():
        raise ClaimError("A weight or transition is missing; put 0 where no error is given or passed on.")
    if np.any(weights < 0) or weights.sum() > 1 + ROUNDING:
        raise ClaimError(f"The weights are {weights.tolist()}; they must be 0 or more and sum to at most 1.")
    if np.any(np.diag(transitions) != 0):
        raise ClaimError(
            f"Hypothesis {int(np.argmax(np.diag(transitions) != 0)) + 1} passes error to itself; put 0 there."
        )
    if np.any(transitions < 0) or np.any(transitions.sum(1) > 1 + ROUNDING):
        row = int(np.argmax((transitions < 0).any(1) | (transitions.sum(1) > 1 + ROUNDING)))
        raise ClaimError(
            f"Hypothesis {row + 1} passes on {transitions[row].tolist()}; shares must be 0 or more and sum to at most 1."
        )
    return Graph(weights, transitions)


def adjusted(p: Any, procedure: Graph) -> np.ndarray:
    """Adjusted p of the graphical procedure, (..., m): the smallest alpha at which each hypothesis is rejected.

    p (..., m), NaN where missing (never rejected). Algorithm 2 of Bretz et al. (2009): again and again the smallest p / w
    is rejected, its level made monotone and its weight passed on. Raises ClaimError where shapes do not fit.

    >>> gate = parallel_gatekeeping_graph(2, 2)
    >>> adjusted([0.01, 0.005, 0.01, 0.5], gate).round(4).tolist()
    [0.02, 0.01, 0.02, 0.5]
    """
    p = np.asarray(p, float)
    m = len(procedure.weights)
    if p.ndim == 0 or p.shape[-1] != m:
        raise ClaimError(f"The graph has {m} hypotheses, but p is shaped {p.shape}; give (..., {m}).")
    if np.any((p < 0) | (p > 1)):
        raise ClaimError("A p-value lies between 0 and 1; NaN says that it is missing.")
    rows = p.reshape(-1, m)
    found, level, here = np.ones(rows.shape), np.zeros(len(rows)), np.arange(len(rows))
    left = ~np.isnan(rows)
    weights, transitions = (np.broadcast_to(part, (len(rows), *part.shape)).copy() for part in procedure)
    for _ in range(m):
        able = left & (weights > ROUNDING**2)
        ratio = np.where(able, rows / np.where(able, weights, 1.0), np.inf)
        node = ratio.argmin(-1)
        level = np.maximum(level, np.minimum(ratio[here, node], 1.0))
        chosen = np.isfinite(ratio[here, node])
        found[here[chosen], node[chosen]] = level[chosen]
        left[here[chosen], node[chosen]] = False
        if not chosen.any():
            break
        weights, transitions = _State(weights, transitions, node).passed_on(chosen)
    return np.where(np.isnan(rows), np.nan, found).reshape(p.shape)


def rejected(p: Any, procedure: Graph, alpha: float = 0.025) -> np.ndarray:
    """Which hypotheses the procedure rejects at this level, (..., m).

    >>> rejected([0.01, 0.005, 0.01, 0.5], parallel_gatekeeping_graph(2, 2)).tolist()
    [True, True, True, False]
    """
    # rounding must not decide where p equals its share of alpha
    return np.nan_to_num(adjusted(p, procedure), nan=1.0) <= alpha * (1 + 1e-12)


def closure_weights(procedure: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The closed test behind a graph: which hypotheses are in each intersection, and their weights, (2^m - 1, m) each.

    Raises ClaimError for more than 14 hypotheses.

    >>> inside, weights = closure_weights(fixed_sequence_graph(2))
    >>> inside.tolist(), weights.tolist()
    ([[True, True], [True, False], [False, True]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    """
    m = len(procedure.weights)
    if m > 14:
        raise ClaimError(f"{m} hypotheses have {2**m - 1} intersections; use `adjusted`, which needs none of them.")
    inside = np.array([row for row in itertools.product([True, False], repeat=m) if any(row)])
    weights = np.zeros(inside.shape)
    for row, members in enumerate(inside):
        smaller = procedure
        for node in np.flatnonzero(~members):
            smaller = smaller.without(int(node))
        weights[row] = np.where(members, smaller.weights, 0.0)
    return inside, weights


def closed_test(p: Any, procedure: Graph, test: Literal["bonferroni", "simes"] = "bonferroni") -> np.ndarray:
    """Adjusted p of the closed test with the graph's weights, (..., m): weighted Bonferroni or weighted Simes.

    Simes (Benjamini and Hochberg 1997) is valid for independent or positively dependent tests and never weaker. Raises
    ClaimError for more than 14 hypotheses or another test.

    >>> closed_test([0.03, 0.04], holm_graph(2), "simes").tolist()
    [0.04, 0.04]
    """
    if test not in ("bonferroni", "simes"):
        raise ClaimError(f"The test is '{test}'; choose bonferroni or simes.")
    p = np.asarray(p, float)
    missing, found = np.isnan(p), np.zeros(p.shape)
    filled = np.where(missing, 1.0, p)
    order = np.argsort(filled, -1)
    ranked = np.take_along_axis(filled, order, -1)
    for members, weights in zip(*closure_weights(procedure), strict=True):
        share = np.take_along_axis(np.broadcast_to(weights, p.shape), order, -1)
        share = np.cumsum(share, -1) if test == "simes" else share
        ratio = np.where(share > 0, ranked / np.where(share > 0, share, 1.0), np.inf)
        counted = np.take_along_axis(np.broadcast_to(members, p.shape), order, -1)
        local = np.minimum(np.where(counted, ratio, np.inf).min(-1, keepdims=True), 1.0)
        found = np.where(members, np.maximum(found, local), found)
    return np.where(missing, np.nan, found)


# -- graphs ------------------------------------------------------------------------------------------------------------
def holm_graph(m: int, weights: Sequence[float] | None = None) -> Graph:
    """Holm's procedure, weighted if weights are given: a rejected share goes to the others by their weights.

    >>> holm_graph(3).transitions.round(2).tolist()
    [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    """
    shares = np.full(m, 1 / m) if weights is None else np.asarray(weights, float)
    if shares.shape != (m,) or np.any(shares <= 0):
        raise ClaimError(f"Holm's procedure for {m} hypotheses needs {m} weights above 0.")
    rest = shares.sum() - shares
    passed = shares[None, :] / np.where(rest > 0, rest, 1.0)[:, None] * (1 - np.eye(m))
    return graph(shares, passed)


def fixed_sequence_graph(m: int) -> Graph:
    """A fixed order: the first has everything and hands it to the next.

    >>> fixed_sequence_graph(2).transitions.tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return graph(np.eye(m)[0], np.eye(m, k=1))


def fallback_graph(weights: Sequence[float]) -> Graph:
    """A fixed order in which each has a share, and hands it to the next (Wiens and Dmitrienko 2005).

    >>> fallback_graph([0.5, 0.5]).transitions.tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return graph(weights, np.eye(len(weights), k=1))


def parallel_gatekeeping_graph(gate: int, behind: int) -> Graph:
    """Primary hypotheses, each with its share; any rejected opens the secondary ones, among which Holm holds (Dmitrienko et al. 2003).

    >>> parallel_gatekeeping_graph(2, 2).transitions.tolist()
    [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    """
    m = gate + behind
    weights, transitions = np.zeros(m), np.zeros((m, m))
    weights[:gate] = 1 / gate
    transitions[:gate, gate:] = 1 / behind
    if behind > 1:
        transitions[gate:, gate:] = (1 - np.eye(behind)) / (behind - 1)
    return graph(weights, transitions)


class _State(NamedTuple):
    """Weights (trials, m), transitions (trials, m, m) and the node that each trial rejects (trials,)."""

    weights: np.ndarray
    transitions: np.ndarray
    node: np.ndarray

    def passed_on(self, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Weights and transitions after the rejection, in the chosen trials."""
        here = np.arange(len(self.node))
        away, into = self.transitions[here, self.node], self.transitions[here, :, self.node]
        weights = self.weights + self.weights[here, self.node][:, None] * away
        loop = into * away
        joined = (self.transitions + into[:, :, None] * away[:, None, :]) / np.where(loop < 1 - ROUNDING, 1 - loop, 1)[
            ..., None
        ]
        joined = np.where((loop < 1 - ROUNDING)[..., None], joined, 0.0) * (1 - np.eye(weights.shape[-1]))
        weights[here, self.node] = 0.0
        joined[here, self.node] = 0.0
        joined[here, :, self.node] = 0.0
        if chosen is None:
            return weights, joined
        return (
            np.where(chosen[:, None], weights, self.weights),
            np.where(chosen[:, None, None], joined, self.transitions),
        )


def _known(procedure: Graph, node: int) -> None:
    if not 0 <= node < len(procedure.weights):
        raise ClaimError(f"The graph has hypotheses 0 to {len(procedure.weights) - 1}; there is no {node}.")

"""Trials changed at an interim look: stage-wise p-values combined by a rule fixed in advance.

Each stage is tested on its own patients (or increments); the stages' p-values, independent without an effect, are
combined by a function chosen before the trial, so that sample size, arms or hypotheses may change on what was seen
(Bauer and Köhne 1994; Lehmacher and Wassmer 1999; Cui, Hung and Wang 1999).
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from quell.analysis import pieces
from quell.analysis.claim import ClaimError
from quell.analysis.stopping import solve

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)


def inverse_normal(p: Any, weights: Any) -> np.ndarray:
    """Z after each stage from one-sided stage-wise p (..., K): sum of w_j Phi^-1(1 - p_j) over sqrt of the sum of w_j², so far.

    weights (K,) are fixed in advance, usually the square roots of the planned increments of information; the result,
    (..., K), is compared with the upper limits of a group-sequential design of those increments (Lehmacher and Wassmer
    1999). Raises ClaimError where there is not one positive weight for each stage.

    >>> inverse_normal(np.array([0.1, 0.01]), np.sqrt([0.5, 0.5])).round(4).tolist()
    [1.2816, 2.5512]
    """
    return weighted_z(-special.ndtri(np.asarray(p, float)), weights)


def weighted_z(z: Any, weights: Any) -> np.ndarray:
    """Z after each stage from the stages' own z (..., K), by weights fixed in advance (Cui, Hung and Wang 1999), (..., K).

    >>> weighted_z(np.array([1.0, 2.0]), np.sqrt([0.5, 0.5])).round(4).tolist()
    [1.0, 2.1213]
    """
    z, weights = np.asarray(z, float), np.asarray(weights, float)
    if weights.shape != z.shape[-1:] or not np.all(weights > 0):
        raise ClaimError(f"The weights are {weights.tolist()}; give one above 0 for each of the {z.shape[-1]} stages.")
    return np.cumsum(weights * z, -1) / np.sqrt(np.cumsum(weights**2))


def stage_z(z: Any, information: Any) -> np.ndarray:
    """The stages' own z (..., K), independent without an effect, from cumulative z and the information at each look.

    >>> stage_z(np.array([1.0, 2.1213]), np.array([0.5, 1.0])).round(3).tolist()
    [1.0, 2.0]
    """
    z, information = np.asarray(z, float), np.asarray(information, float)
    score = np.diff(z * np.sqrt(information), prepend=0.0, axis=-1)
    return score / np.sqrt(np.diff(information, prepend=0.0, axis=-1))


class FisherTest(NamedTuple):
    """Fisher's combination: reject at stage k where prod p_j^w_j is at most critical[k]; stop where p_k is above futility[k].

    critical, weights and spent are (K,); futility (K - 1,), 1 where no p stops the trial.
    """

    critical: np.ndarray
    futility: np.ndarray
    weights: np.ndarray
    spent: np.ndarray


def fisher(p: Any, weights: Any = None) -> np.ndarray:
    """Fisher's combination of stage-wise p (..., K) after each stage: prod of p_j^w_j, (..., K).

    >>> fisher(np.array([0.1, 0.02])).round(4).tolist()
    [0.1, 0.002]
    """
    p = np.asarray(p, float)
    return np.cumprod(p ** (1.0 if weights is None else np.asarray(weights, float)), -1)


def fisher_by_spending(spent: Any, *, futility: Any = None, weights: Any = None) -> FisherTest:
    """Critical products that spend given errors, cumulative (K,) (Bauer and Köhne 1994; Wassmer 1999).

    Raises ClaimError where errors do not rise, or limits do not fit.

    >>> fisher_by_spending([0.01, 0.025], futility=[0.5]).critical.round(6).tolist()
    [0.01, 0.003834]
    """
    spent, futility, weights = _stages(spent, futility, weights)
    critical = np.zeros(len(spent))
    for k, due in enumerate(np.diff(spent, prepend=0.0)):
        before = float(critical[k - 1]) if k else 1.0
        critical[k] = _critical(critical[:k], futility, weights[: k + 1], float(due), before)
    return FisherTest(critical, futility, weights, spent)


def fisher_equal(alpha: float, stages: int, *, futility: Any = None) -> FisherTest:
    """Critical products with the same level at every stage: the stage's test alone, prod of k uniform p, has one size.

    >>> fisher_equal(0.025, 2).critical.round(6).tolist()
    [0.015788, 0.002221]
    """
    _, futility, weights = _stages(np.full(stages, alpha), futility, None)

    def critical(level: float) -> np.ndarray:
        # prod of k uniforms is below c with the chance that a chi-square on 2k is above -2 log c
        return np.exp(-special.chdtri(2 * np.arange(1, stages + 1), level) / 2)

    def error(level: float) -> float:
        return float(_errors(critical(level), futility, weights).sum()) - alpha

    found = critical(solve(error, alpha / stages / 4, alpha))
    return FisherTest(found, futility, weights, np.cumsum(_errors(found, futility, weights)))


def _stages(spent: Any, futility: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    spent = np.atleast_1d(np.asarray(spent, float))
    futility = np.ones(len(spent) - 1) if futility is None else np.atleast_1d(np.asarray(futility, float))
    weights = np.ones(len(spent)) if weights is None else np.atleast_1d(np.asarray(weights, float))
    if not (np.all(np.diff(spent) >= 0) and spent[0] > 0 and spent[-1] < 1):
        raise ClaimError(f"The errors spent are {spent.tolist()}; they must rise from above 0 to below 1.")
    if len(futility) != len(spent) - 1 or len(weights) != len(spent) or np.any(weights <= 0) or np.any(futility <= 0):
        raise ClaimError(f"{len(spent)} stages need {len(spent) - 1} futility limits of p and {len(spent)} weights.")
    return spent, np.minimum(futility, 1.0), weights


class _Product(NamedTuple):
    """Trials going on after a stage: nodes of -log of the product, and their mass; its density in pieces."""

    place: np.ndarray
    mass: np.ndarray
    density: pieces.Pieces | None


def _errors(critical: np.ndarray, futility: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The chance, without effect, of first rejecting at each stage."""
    found = np.zeros(len(critical))
    state = _Product(np.zeros(1), np.ones(1), None)
    for k, limit in enumerate(-np.log(critical)):
        found[k] = np.dot(state.mass, np.minimum(np.exp(-(limit - state.place) / weights[k]), 1.0))
        if k + 1 < len(critical):
            state = _next(state, limit, -np.log(futility[k]) * weights[k], weights[k])
    return found


def _next(state: _Product, limit: float, least: float, weight: float) -> _Product:
    """-log of the product after a stage in which it grew by at least `least` and stayed below the limit."""
    before = np.zeros(1) if state.density is None else state.density.edges
    breaks = np.unique(np.clip(np.append(before + least, limit), 0.0, limit))
    if len(breaks) < 2:
        return _Product(np.zeros(0), np.zeros(0), pieces.Pieces(np.array([limit, limit + 1]), np.zeros((1, 1))))
    middle, half = (breaks[1:] + breaks[:-1])[:, None] / 2, np.diff(breaks)[:, None] / 2
    density = pieces.through(breaks, _grown(state, middle + half * np.cos(pieces.ANGLES), least, weight))
    place = (middle + half * NODES).ravel()
    return _Product(place, density.at(place) * (half * WEIGHTS).ravel(), density)


def _grown(state: _Product, x: np.ndarray, least: float, weight: float) -> np.ndarray:
    """The integral of f(y) exp(-(x - y) / w) / w over y below x - least, where f is the density so far."""
    if state.density is None:
        return np.exp(-x / weight) / weight
    total = np.zeros(x.shape)
    for low, high in itertools.pairwise(state.density.edges):
        end = np.clip(x - least, low, high)
        half = (end - low)[..., None] / 2
        y = low + half * (1 + NODES)
        inside = state.density.at(y.ravel()).reshape(y.shape) * np.exp(-(x[..., None] - y) / weight)
        total += np.sum(half * WEIGHTS * inside, -1) / weight
    return total


def _critical(before: np.ndarray, futility: np.ndarray, weights: np.ndarray, due: float, highest: float) -> float:
    """The next critical product, given those before: the chance of first reaching it is the error due."""

    def gap(log_limit: float) -> float:
        limits = np.append(before, np.exp(log_limit))
        return float(_errors(limits, futility[: len(before)], weights)[-1]) - due

    return float(np.exp(solve(gap, np.log(highest) - 40, np.log(highest) if len(before) else 0.0)))

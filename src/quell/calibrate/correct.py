"""From the surrogate's posterior to the body's own: importance sampling with the real model's likelihood.

    w = likelihood by the body / likelihood by the surrogate        the prior and the surrogate's sampling cancel

so the target is the posterior of the real model, whatever the surrogate missed. The largest weights are smoothed by a
generalised Pareto tail, whose shape k says whether they can be relied on (Vehtari 2024), and draws are taken in proportion.
Independence Metropolis-Hastings has the same target, but stays long at each heavy weight: it was worth a third as much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from quell import keys
from quell.calibrate import diagnose
from quell.keys import jax

MOST_SHAPE = 0.7


class Weighed(NamedTuple):
    """Weights that sum to one, shape (draws,), and the shape of their tail: k-hat, below 0.7 where they can be relied on."""

    weights: np.ndarray
    shape: float

    @property
    def share(self) -> float:
        """How many draws the weights are worth, as a share."""
        return float(1 / (self.weights**2).sum() / len(self.weights))


def smoothed(log_weights: np.ndarray) -> Weighed:
    """Pareto-smoothed importance weights (Vehtari 2024): the largest become the tail's expected order statistics.

    >>> round(smoothed(np.zeros(1000)).share, 6)
    1.0
    """
    weights = np.exp(log_weights - log_weights.max())
    count = len(weights)
    size = int(min(0.2 * count, 3 * np.sqrt(count)))
    order = np.argsort(weights)
    last, cut = order[count - size :], weights[order[count - size - 1]]
    over = weights[last] - cut
    if size < 5 or over[-1] <= 1e-12:
        return Weighed(weights / weights.sum(), -np.inf)
    shape, scale = _pareto(np.maximum(over, 1e-300))
    chance = (np.arange(size) + 0.5) / size
    weights[last] = np.minimum(cut + scale * np.expm1(-shape * np.log1p(-chance)) / shape, 1.0)
    return Weighed(weights / weights.sum(), shape)


def _pareto(x: np.ndarray) -> tuple[float, float]:
    """Shape and scale of sorted excesses (Zhang and Stephens 2009), with the weak prior of the PSIS paper."""
    n = len(x)
    m = 30 + int(np.sqrt(n))
    b = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    b = b / (3 * x[int(n / 4 + 0.5) - 1]) + 1 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    likelihood = n * (np.log(-b / k) - k - 1)
    centre = (b * np.exp(likelihood - special.logsumexp(likelihood))).sum()
    shape = np.log1p(-centre * x).mean()
    return float((n * shape + 10 * 0.5) / (n + 10)), float(-shape / centre)


def worth(weights: np.ndarray, x: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Effective draws for the mean of each column of x (draws, quantities): var / MCSE^2 (Vehtari 2024, section 2.3).

    ``same`` numbers the draws that are copies of one another: their weights count as one.

    >>> worth(np.full(4, 0.25), np.array([[0.0], [1.0], [0.0], [1.0]]), np.arange(4)).tolist()
    [4.0]
    """
    gap = x - weights @ x
    _, first, number = np.unique(same, return_index=True, return_inverse=True)
    together = np.bincount(number, weights)
    return (weights @ gap**2) / (together**2 @ gap[first] ** 2)


def judged(weights: np.ndarray, x: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effective draws of bulk and tails of each column of x: of rank scores, and of being beyond the 5 and 95 % quantiles."""
    bulk = worth(weights, diagnose.ranked(x[None])[0], same)
    ends = []
    for share in (0.05, 0.95):
        order = np.argsort(x, axis=0)
        ladder = np.cumsum(weights[order], axis=0)
        place = np.minimum((ladder < share).sum(axis=0), len(x) - 1)
        limit = np.take_along_axis(x, np.take_along_axis(order, place[None], axis=0), axis=0)
        ends.append(worth(weights, (x <= limit).astype(float), same))
    return bulk, np.minimum(*ends)


def systematic(weights: np.ndarray, count: int, key: keys.Key) -> np.ndarray:
    """So many places drawn in proportion to weights, as evenly as can be (Kitagawa 1996).

    >>> systematic(np.array([1.0, 0.0, 3.0]), 4, keys.root(1)).tolist()
    [0, 2, 2, 2]
    """
    begin = float(jax.random.uniform(keys.at(key, "begin")))
    ladder = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(ladder, (begin + np.arange(count)) / count), len(weights) - 1)


def autocorrelation(chains: np.ndarray, lag: int = 1) -> np.ndarray:
    """Correlation of draws so far apart, of each quantity; chains (chains, draws, quantities)."""
    gaps = chains - chains.mean(axis=(0, 1))
    return (gaps[:, lag:] * gaps[:, :-lag]).mean(axis=(0, 1)) / (gaps**2).mean(axis=(0, 1))

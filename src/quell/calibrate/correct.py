"""From the surrogate's posterior to the body's own: independence Metropolis-Hastings with the real model's likelihood.

Proposals are the surrogate's draws, thinned until they are as good as independent; one is accepted with chance
min(1, w' / w), w = likelihood by the body / likelihood by the surrogate (Hastings 1970; Liu 1996). The prior and the
surrogate's own sampling cancel, so the chain's target is the posterior of the real model, whatever the surrogate missed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from quell import keys
from quell.keys import jax


class Corrected(NamedTuple):
    """Which proposal each draw is, shape (chains, draws); how often one was accepted; how heavy the weights' tail is."""

    chosen: np.ndarray
    acceptance: float
    tail: float  # Pareto k-hat: below 0.7 the weights can be relied on


def metropolis(log_weights: np.ndarray, key: keys.Key) -> Corrected:
    """Independence Metropolis-Hastings through proposals in their order; log_weights (chains, draws).

    >>> found = metropolis(np.zeros((2, 50)), keys.root(1))
    >>> found.acceptance, found.chosen[0, :3].tolist()
    (1.0, [0, 1, 2])
    """
    chance = np.log(np.asarray(jax.random.uniform(keys.at(key, "accept"), log_weights.shape)))
    chosen = np.zeros(log_weights.shape, dtype=int)
    now = np.zeros(len(log_weights), dtype=int)
    rows, accepted = np.arange(len(log_weights)), 0
    for step in range(1, log_weights.shape[1]):
        better = chance[:, step] < log_weights[:, step] - log_weights[rows, now]
        now = np.where(better, step, now)
        accepted += int(better.sum())
        chosen[:, step] = now
    return Corrected(chosen, accepted / max(chance[:, 1:].size, 1), pareto_tail(log_weights.ravel()))


def pareto_tail(log_weights: np.ndarray) -> float:
    """The shape of the generalised Pareto tail of importance weights: k-hat (Zhang and Stephens 2009; Vehtari 2024).

    >>> pareto_tail(np.zeros(1000)) < 0.1
    True
    """
    count = len(log_weights)
    size = int(min(0.2 * count, 3 * np.sqrt(count)))
    ordered = np.sort(np.exp(log_weights - log_weights.max()))
    over = ordered[-size:] - ordered[-size - 1] if size < count else ordered
    if size < 5 or over[-1] <= 1e-12:
        return -np.inf
    return _pareto_shape(np.maximum(over, 1e-300))


def _pareto_shape(x: np.ndarray) -> float:
    """Zhang and Stephens' estimate from sorted excesses, with the weak prior of the PSIS paper."""
    n = len(x)
    m = 30 + int(np.sqrt(n))
    b = 1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))
    b = b / (3 * x[int(n / 4 + 0.5) - 1]) + 1 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    likelihood = n * (np.log(-b / k) - k - 1)
    weights = np.exp(likelihood - special.logsumexp(likelihood))
    centre = (b * weights).sum() / weights.sum()
    shape = np.log1p(-centre * x).mean()
    return float((n * shape + 10 * 0.5) / (n + 10))


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

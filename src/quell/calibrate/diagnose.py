"""Whether chains can be trusted: rank-normalised split R-hat, effective draws of the bulk and of the tails (Vehtari 2021)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special, stats

MOST_RHAT, LEAST_DRAWS = 1.01, 400.0


class Diagnosis(NamedTuple):
    """Of each quantity, arrays of shape (quantities,)."""

    names: tuple[str, ...]
    rhat: np.ndarray
    bulk: np.ndarray
    tail: np.ndarray


def _split(chains: np.ndarray) -> np.ndarray:
    """Each chain in halves: (2 chains, draws / 2, ...)."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, chains.shape[1] - half :]])


def ranked(chains: np.ndarray) -> np.ndarray:
    """Normal scores of the ranks over all chains (Blom 1958)."""
    ranks = stats.rankdata(chains.reshape(-1, *chains.shape[2:]), axis=0).reshape(chains.shape)
    return special.ndtri((ranks - 0.375) / (chains.shape[0] * chains.shape[1] + 0.25))


def split_rhat(chains: np.ndarray) -> np.ndarray:
    """sqrt of total over within-chain variance of split chains (Gelman 2013); chains (chains, draws, ...)."""
    halves = _split(chains)
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    n = halves.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((n - 1) / n + between / within)


def rhat(chains: np.ndarray) -> np.ndarray:
    """The larger of R-hat of the ranks and of the ranks of the distance from the median."""
    folded = np.abs(chains - np.median(chains, axis=(0, 1)))
    return np.maximum(split_rhat(ranked(chains)), split_rhat(ranked(folded)))


def effective(chains: np.ndarray) -> np.ndarray:
    """Effective draws of split chains by Geyer's initial monotone sequence (1992); chains (chains, draws, ...)."""
    halves = _split(np.asarray(chains, dtype=float))
    m, n = halves.shape[:2]
    covariance = _autocovariance(halves)
    within = covariance[:, 0].mean(axis=0) * n / (n - 1)
    total = within * (n - 1) / n + halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (within - covariance.mean(axis=0) * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].reshape(n // 2, 2, *rho.shape[1:]).sum(axis=1)
    positive = np.cumprod(pairs > 0, axis=0)
    sums = np.minimum.accumulate(np.where(positive > 0, pairs, np.inf), axis=0)
    length = 2 * np.where(positive > 0, sums, 0.0).sum(axis=0) - 1
    # an anti-correlated chain cannot be worth more than n log10 n draws
    return m * n / np.maximum(length, 1 / np.log10(m * n))


def _autocovariance(chains: np.ndarray) -> np.ndarray:
    """Of every lag, divided by n: (chains, draws, ...), by the fast Fourier transform."""
    n = chains.shape[1]
    gaps = chains - chains.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(gaps, n=2 * n, axis=1)) ** 2
    return np.fft.irfft(power, n=2 * n, axis=1)[:, :n] / n


def bulk(chains: np.ndarray) -> np.ndarray:
    """Effective draws for means and medians: of the rank scores."""
    return effective(ranked(chains))


def tail(chains: np.ndarray) -> np.ndarray:
    """Effective draws for the 5 and 95 % quantiles: the smaller of the two."""
    ends = np.quantile(chains, (0.05, 0.95), axis=(0, 1))
    return np.minimum(*(effective((chains <= end).astype(float)) for end in ends))


def diagnose(names: tuple[str, ...], chains: np.ndarray) -> Diagnosis:
    """Every quantity of chains (chains, draws, quantities)."""
    return Diagnosis(names, rhat(chains), bulk(chains), tail(chains))


def faults(one: Diagnosis, divergences: int) -> list[str]:
    """What failed, in sentences that name the parameter; nothing where all is well.

    >>> faults(Diagnosis(("growth",), np.array([1.2]), np.array([900.0]), np.array([800.0])), 0)
    ['growth: R-hat is 1.200, above 1.01: the chains disagree. Draw longer chains.']
    """
    found = []
    for i, name in enumerate(one.names):
        if not one.rhat[i] <= MOST_RHAT:
            found.append(
                f"{name}: R-hat is {one.rhat[i]:.3f}, above {MOST_RHAT}: the chains disagree. Draw longer chains."
            )
        for what, values in (("bulk", one.bulk), ("tail", one.tail)):
            if not values[i] >= LEAST_DRAWS:
                found.append(
                    f"{name}: its {what} has {values[i]:.0f} effective draws, fewer than {LEAST_DRAWS:.0f}. Draw longer chains."
                )
    if divergences:
        found.append(
            f"{divergences} divergent transitions: part of the posterior was not explored. Take smaller steps."
        )
    return found

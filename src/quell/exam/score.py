"""How well predictions stood: shares inside intervals, where in its prediction each figure fell, and what was to be expected.

Arrays are shaped (figures, trials): what simulated trials give; (figures,): what is published.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from quell.analysis.proportions import proportion


class Band(NamedTuple):
    """The central interval that holds a share of the simulated trials, (figures,)."""

    share: float
    lower: np.ndarray
    upper: np.ndarray

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Which values lie inside; (figures,) or (figures, trials)."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        return (self.lower.reshape(shape) <= values) & (values <= self.upper.reshape(shape))


class Coverage(NamedTuple):
    """How many published figures lie inside, and how many would if the model were right."""

    share: float  # of trials that the interval is meant to hold
    inside: int
    of: int
    lower: float  # exact 95 % interval of the share inside, figures taken as independent
    upper: float
    expected_low: float  # in 90 % of trials of a right model, figures as related as they are
    expected_high: float
    as_few: float  # how often a right model has so few inside, or fewer


def band(values: np.ndarray, share: float) -> Band:
    """The central interval of each row of values (figures, trials).

    >>> band(np.arange(101.0)[None], 0.9)[1:]
    (array([5.]), array([95.]))
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no trial gives a value: NaN is right
        lower, upper = np.nanquantile(values, [(1 - share) / 2, (1 + share) / 2], axis=1)
    return Band(share, lower, upper)


def coverage(values: np.ndarray, published: np.ndarray, share: float) -> Coverage:
    """The published figures inside the central intervals, beside each simulated trial taken as if it had been published.

    Figures of one trial go together, so the binomial interval (Clopper and Pearson 1934) is too short; the expected
    counts hold what they share.

    >>> coverage(np.tile(np.arange(101.0), (4, 1)), np.array([50.0, 2.0, 5.0, 95.0]), 0.9)[:3]
    (0.9, 3, 4)
    """
    found = band(values, share)
    inside, of = int(found.holds(published).sum()), len(published)
    each = found.holds(values)[:, np.isfinite(values).all(axis=0)].sum(axis=0)
    low, high = np.quantile(each, [0.05, 0.95]) if each.size else (np.nan, np.nan)
    exact = proportion(np.array(inside), np.array(of), method="clopper-pearson")
    as_few = float(np.mean(each <= inside)) if each.size else float("nan")
    return Coverage(share, inside, of, float(exact.lower), float(exact.upper), float(low), float(high), as_few)


def places(values: np.ndarray, published: np.ndarray) -> np.ndarray:
    """The share of trials below each published figure, half of those equal to it counted (mid-probability), (figures,).

    Of a right model these are spread evenly from 0 to 1 (Dawid 1984, doi:10.2307/2981683).

    >>> places(np.array([[0.0, 0.0, 1.0, 2.0]]), np.array([0.0]))
    array([0.25])
    """
    known = np.isfinite(values)
    below, equal = (values < published[:, None]) & known, (values == published[:, None]) & known
    return (below.sum(axis=1) + equal.sum(axis=1) / 2) / np.maximum(known.sum(axis=1), 1)


def interval_score(found: Band, published: np.ndarray) -> np.ndarray:
    """Width, and a fine for each published figure outside, (figures,): small is good (Gneiting and Raftery 2007).

    (u - l) + 2 / a (l - x) [x < l] + 2 / a (x - u) [x > u] with a = 1 - share, doi:10.1198/016214506000001437.

    >>> interval_score(Band(0.9, np.zeros(2), np.ones(2)), np.array([0.5, 1.1])).round(6).tolist()
    [1.0, 3.0]
    """
    fine = 2 / (1 - found.share)
    outside = np.maximum(found.lower - published, 0) + np.maximum(published - found.upper, 0)
    return found.upper - found.lower + fine * outside


def remaining(width: np.ndarray, before: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """What is left of the doubt about the model, as a share of what the prior had: widths with chance taken out, (figures,).

    sqrt((w^2 - c^2) / (w0^2 - c^2)), where w and w0 are the widths after and before the evidence and c the width if the model
    were known exactly, which is the chance of a small trial; NaN where the prior adds nothing to chance.

    >>> remaining(np.array([5.0]), np.array([13.0]), np.array([3.0])).round(3)
    array([0.316])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        had = before**2 - chance**2
        left = np.sqrt(np.maximum(width**2 - chance**2, 0) / had)
    return np.where(had > 0.02 * before**2, left, np.nan)

"""Score statistics of two proportions under a hypothesised difference, ratio or odds ratio, and where they turn.

Miettinen and Nurminen (1985, doi:10.1002/sim.4780040211): the observed excess over its standard error at the restricted
maximum likelihood, with the factor n / (n - 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quell.analysis.counts import Cells

Function = Callable[[np.ndarray], np.ndarray]

# Bisection, than which the search for a root is never slower, needs about sixty steps to the last bit.
STEPS = 100


class Excess(NamedTuple):
    """How far the data are from a hypothesis, and the variance of that under it (with the factor n / (n - 1))."""

    excess: np.ndarray
    variance: np.ndarray

    def standardised(self) -> np.ndarray:
        """Excess over its standard error; 0 / 0 is 0, and anything else over 0 is infinite."""
        certain = self.variance <= 1e-30
        z = self.excess / np.sqrt(np.where(certain, 1.0, self.variance))
        return np.where(certain, np.where(np.abs(self.excess) < 1e-12, 0.0, np.copysign(np.inf, self.excess)), z)

    def beyond(self, z: np.ndarray | float) -> np.ndarray:
        """excess - z standard errors: of the sign of score - z, and finite everywhere."""
        return self.excess - z * np.sqrt(self.variance)


def difference_excess(cells: Cells, difference: np.ndarray, correct: bool = True) -> Excess:
    """At a hypothesised p1 - p0; the restricted estimate solves Miettinen and Nurminen's cubic.

    `correct`: with n / (n - 1), otherwise as Mee (1984) and Farrington and Manning (1990).
    """
    x1, n1, x0, n0 = cells
    p1, p0 = restricted_difference(cells, difference)
    excess = x1 / np.maximum(n1, 1) - x0 / np.maximum(n0, 1) - difference
    variance = p1 * (1 - p1) / np.maximum(n1, 1) + p0 * (1 - p0) / np.maximum(n0, 1)
    return Excess(excess, variance * (_factor(n1 + n0) if correct else 1.0))


def restricted_difference(cells: Cells, difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood p1 and p0 given p1 - p0."""
    x1, n1, x0, n0 = cells
    total, events = n1 + n0, x1 + x0
    a3 = np.maximum(total, 1.0)
    a2 = (n1 + 2 * n0) * difference - total - events
    a1 = (n0 * difference - total - 2 * x0) * difference + events
    a0 = x0 * difference * (1 - difference)
    b = a2 / (3 * a3)
    q = b**3 - a1 * a2 / (6 * a3**2) + a0 / (2 * a3)
    p = np.where(q >= 0, 1.0, -1.0) * np.sqrt(np.maximum(b**2 - a1 / (3 * a3), 0.0))
    cosine = np.clip(q / np.where(p == 0, 1.0, p**3), -1.0, 1.0)
    p0 = np.clip(2 * p * np.cos((np.pi + np.arccos(cosine)) / 3) - b, 0.0, 1.0)
    return np.clip(p0 + difference, 0.0, 1.0), p0


def ratio_excess(cells: Cells, ratio: np.ndarray) -> Excess:
    """At a hypothesised p1 / p0; the restricted estimate solves a quadratic."""
    x1, n1, x0, n0 = cells
    p1, p0 = restricted_ratio(cells, ratio)
    one, other = 1 / (1 + ratio), ratio / (1 + ratio)  # both sides over 1 + ratio, so that they stay of order one
    excess = one * x1 / np.maximum(n1, 1) - other * x0 / np.maximum(n0, 1)
    variance = one**2 * p1 * (1 - p1) / np.maximum(n1, 1) + other**2 * p0 * (1 - p0) / np.maximum(n0, 1)
    return Excess(excess, variance * _factor(n1 + n0))


def restricted_ratio(cells: Cells, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood p1 and p0 given p1 / p0."""
    x1, n1, x0, n0 = cells
    a = (n1 + n0) * ratio
    b = -(n1 * ratio + x1 + n0 + x0 * ratio)
    c = x1 + x0
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
    # 2c / (-b + root) is (-b - root) / 2a without cancellation
    p0 = np.clip(2 * c / np.maximum(root - b, 1e-300), 0.0, 1.0)
    return np.clip(p0 * ratio, 0.0, 1.0), p0


def odds_excess(cells: Cells, odds_ratio: np.ndarray) -> Excess:
    """At a hypothesised odds ratio; excess is that of events in the active arm over n1 p1."""
    x1, n1, x0, n0 = cells
    a, events = n0 * (odds_ratio - 1), x1 + x0
    b = n1 * odds_ratio + n0 - events * (odds_ratio - 1)
    root = np.sqrt(np.maximum(b**2 + 4 * a * events, 0.0))
    p0 = np.clip(2 * events / np.maximum(b + root, 1e-300), 0.0, 1.0)
    p1 = p0 * odds_ratio / np.maximum(1 - p0 + p0 * odds_ratio, 1e-300)
    inside1, inside0 = n1 * p1 * (1 - p1), n0 * p0 * (1 - p0)
    both = (inside1 > 0) & (inside0 > 0)
    variance = np.where(both, inside1 * inside0 / np.where(both, inside1 + inside0, 1.0), 0.0)
    return Excess(x1 - n1 * p1, variance * _factor(n1 + n0))


def _factor(total: np.ndarray) -> np.ndarray:
    return total / np.maximum(total - 1, 1.0)


def root(falling: Function, low: np.ndarray, high: np.ndarray, tolerance: float = 1e-15) -> np.ndarray:
    """Where a falling function crosses zero between low and high; the nearer end where it does not.

    Chandrupatla's bracketed inverse quadratic interpolation (1997, doi:10.1016/s0965-9978(96)00051-8): never slower
    than bisection, and superlinear on smooth functions. The function must be finite; a value of zero at an end does not
    count as the crossing, because a score interval may touch zero at the estimate itself.

    >>> float(root(lambda x: 2 - x**2, np.array(0.0), np.array(2.0)).round(12))
    1.414213562373
    """
    newest, far = np.array(low, float), np.array(high, float)
    start, stop = falling(newest), falling(far)
    at_newest = np.where(start > 1e-12, start, np.abs(stop) + 1e-3)
    at_far = np.where(stop < -1e-12, stop, -np.abs(start) - 1e-3)
    share = np.full(newest.shape, 0.5)
    for _ in range(STEPS):
        x = newest + share * (far - newest)
        value = falling(x)
        same = (value > 0) == (at_newest > 0)
        third, at_third = np.where(same, newest, far), np.where(same, at_newest, at_far)
        far, at_far = np.where(same, far, newest), np.where(same, at_far, at_newest)
        newest, at_newest = x, value
        best = np.where(np.abs(at_newest) < np.abs(at_far), newest, far)
        width = np.abs(far - newest)
        least = np.where(width > 0, (2e-16 * np.abs(best) + tolerance) / np.where(width > 0, width, 1.0), 1.0)
        done = (least > 0.5) | (value == 0)
        if done.all():
            break
        share = np.clip(_interpolated((newest, far, third), (at_newest, at_far, at_third)), least, 1 - least)
        share = np.where(done, 0.0, share)
    return np.where(at_newest == 0, newest, best) if STEPS and newest.size else newest


def _interpolated(x: tuple[np.ndarray, ...], f: tuple[np.ndarray, ...]) -> np.ndarray:
    """The next point as a share of the way from the newest to the far end: inverse quadratic where safe, else half."""
    (x1, x2, x3), (f1, f2, f3) = x, f
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        along, height = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        safe = (height**2 < along) & ((1 - height) ** 2 < 1 - along)
        guess = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
    return np.where(safe & np.isfinite(guess), guess, 0.5)


def score_interval(
    excess: Callable[[np.ndarray], Excess], ends: tuple[np.ndarray, np.ndarray, np.ndarray], z: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """The hypotheses between ends (lowest, estimate, highest) whose score lies within z."""
    lowest, middle, highest = ends
    lower = root(lambda at: excess(at).beyond(z), lowest, middle)
    return lower, root(lambda at: excess(at).beyond(-z), middle, highest)


def log_score_interval(
    excess: Callable[[np.ndarray], Excess],
    ends: tuple[np.ndarray, np.ndarray, np.ndarray],
    guess: np.ndarray,
    z: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """The same on a log scale, first bracketed by the middle -/+ `guess` where that lies beyond the limit."""
    lowest, middle, highest = ends

    def below(at: np.ndarray) -> np.ndarray:
        return excess(np.exp(at)).beyond(z)

    def above(at: np.ndarray) -> np.ndarray:
        return excess(np.exp(at)).beyond(-z)

    near = np.maximum(middle - guess, lowest)
    start = np.where(below(near) > 0, near, lowest)
    stop = np.where(below(near) > 0, middle, np.where(near > lowest, near, middle))
    lower = root(below, start, stop)
    near = np.minimum(middle + guess, highest)
    stop = np.where(above(near) < 0, near, highest)
    start = np.where(above(near) < 0, middle, np.where(near < highest, near, middle))
    return lower, root(above, start, stop)

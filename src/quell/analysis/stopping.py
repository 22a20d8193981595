"""The chance that a test watched look by look stops: the numerical heart of every group-sequential method.

At look k the statistic Z_k is normal with mean drift x sqrt(I_k) and variance 1, and the score S_k = Z_k sqrt(I_k) has
independent increments (Jennison and Turnbull 2000, chapter 3). The density of S among trials still running is carried
from look to look (Armitage, McPherson and Rowe 1969) on Gauss-Legendre panels no wider than its kernels, which is exact
to about 1e-12. It is carried once, under one reference drift: any other drift only reweights the same paths, by

    exp((drift - reference) S - (drift² - reference²) I / 2),

so that a thousand drifts cost little more than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from quell.analysis.claim import ClaimError

# Z beyond this many standard errors from its mean has probability below 1e-17.
FAR = 8.6
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
# Limits beyond this are never crossed: the chance is below 1e-300.
NEVER = 37.0
# Drifts further apart than this many standard deviations of Z are reached from references of their own.
REACH = 30.0
# Limits or drifts done at once.
BLOCK = 4096
ROOT_TWO_PI = np.sqrt(2 * np.pi)


class Boundaries(NamedTuple):
    """A group-sequential test: information fraction, lower (futility) and upper (efficacy) limits of Z, each (K,).

    `alpha` is one-sided; two-sided symmetric tests spend it on either side. Limits that cannot be crossed are infinite.
    `binding` says whether the type I error relies on stopping at the lower limits. `spent` (K,) is the one-sided error
    spent by each look. `inner` (K,), in two-sided tests with futility: the trial also stops where |Z| is below it.
    """

    information: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    alpha: float
    binding: bool
    spent: np.ndarray
    inner: np.ndarray | None = None
    harm: np.ndarray | None = None

    @property
    def stage_levels(self) -> np.ndarray:
        """The one-sided local level of each look."""
        return special.ndtr(-self.upper)

    def crossing(self, drift: Any = 0.0) -> Crossing:
        """The chance of first crossing each limit at each look, at a drift or many."""
        return crossing(self.information, self.lower, self.upper, drift, inner=self.inner)

    def harm_crossing(self, drift: Any = 0.0) -> Crossing:
        """The same where only harm stops the trial on the lower side, futility being overruled."""
        lower = np.full(len(self.upper), -np.inf) if self.harm is None else self.harm
        return crossing(self.information, lower, self.upper, drift)


class Crossing(NamedTuple):
    """The chance of first crossing the upper and the lower limit at each look, (..., K) each; and of stopping between."""

    upper: np.ndarray
    lower: np.ndarray
    inner: np.ndarray | float = 0.0

    @property
    def power(self) -> Any:
        """The chance of crossing an upper limit at any look, (...)."""
        return self.upper.sum(-1)

    def expected(self, information: np.ndarray) -> Any:
        """Mean of any quantity known at each look (information, patients, events, days) at the time the trial stops."""
        stops = (self.upper + self.lower + self.inner)[..., :-1]
        return stops @ np.asarray(information[:-1], float) + (1 - stops.sum(-1)) * float(information[-1])


class Walk(NamedTuple):
    """The trials still running after a look: quadrature nodes of their score, (m,), and their mass there, (..., m).

    Mass is under the `reference` drift. Walks that start in different places, (...) each, carry an `origin`.
    """

    score: np.ndarray
    mass: np.ndarray
    information: float
    reference: float = 0.0
    span: tuple[float, float] = (0.0, 0.0)
    origin: np.ndarray | float = 0.0
    since: float = 0.0

    def weighted(self, drift: Any) -> np.ndarray:
        """The mass under another drift (...)."""
        if np.ndim(drift) == 0 and float(drift) == self.reference:
            return self.mass
        extra = np.asarray(drift, float)[..., None] - self.reference
        path = self.score - np.asarray(self.origin, float)[..., None] - self.reference * (self.information - self.since)
        weight = extra * path - extra**2 * (self.information - self.since) / 2
        return self.mass * np.exp(np.minimum(weight, 700.0))

    def tail(self, limit: Any, now: float, drift: Any = 0.0, below: bool = False) -> Any:
        """The chance that Z at the next look passes the limit (...), at a drift (...)."""
        limit, drift = np.asarray(limit, float), np.asarray(drift, float)
        if self.mass.ndim > 1 or max(limit.size, drift.size) <= BLOCK:
            return self._tail(limit, now, drift, below)
        # in blocks, so that the memory stays small
        limit, drift = np.broadcast_arrays(limit, drift)
        found, flat = np.empty(limit.size), (limit.ravel(), drift.ravel())
        for first in range(0, limit.size, BLOCK):
            some = slice(first, first + BLOCK)
            found[some] = self._tail(flat[0][some], now, flat[1][some], below)
        return found.reshape(limit.shape)

    def _tail(self, limit: np.ndarray, now: float, drift: np.ndarray, below: bool) -> Any:
        step = now - self.information
        z = (limit[..., None] * np.sqrt(now) - self.score - drift[..., None] * step) / np.sqrt(step)
        return np.sum(self.weighted(drift) * special.ndtr(z if below else -z), -1)

    def limit(self, now: float, chance: float, drift: float = 0.0, below: bool = False) -> float:
        """The limit of Z at the next look that is passed with this chance; infinite where the chance is none."""
        sign = -1.0 if below else 1.0
        mass, width = self.weighted(drift), np.sqrt(now - self.information)
        all_of_it = mass.sum()
        if chance < 1e-300 or all_of_it <= chance:
            return sign * np.inf if chance < all_of_it else -sign * np.inf
        place = (self.score + drift * width**2) / width
        wanted = special.ndtri(chance / all_of_it)

        def gap(limit: float) -> tuple[float, float]:
            z = sign * (limit * np.sqrt(now) / width - place)
            reached = special.ndtri(min(max(mass @ special.ndtr(-z) / all_of_it, 1e-320), 1 - 1e-16))
            slope = mass @ np.exp((reached**2 - z**2) / 2) / all_of_it * np.sqrt(now) / width
            return sign * (wanted - reached), slope

        start = (np.dot(mass, place) / all_of_it - sign * wanted) * width / np.sqrt(now)
        return newton(gap, start, -NEVER, NEVER)

    def onward(self, regions: Sequence[tuple[float, float]], now: float, then: float | None = None) -> Walk:
        """The density where the trial goes on, (low, high) of Z, at the next look; `then` is the look after it."""
        step = now - self.information
        width = np.sqrt(step)
        low, high = (
            end(self.score, initial=reached) + rate * step + sign * FAR * width
            for end, reached, rate, sign in (
                (np.min, np.inf, self.span[0], -1),
                (np.max, -np.inf, self.span[1], 1),
            )
        )
        panel = 2 * min(width, np.sqrt(then - now)) if then is not None else 2 * width
        pieces = [_nodes(max(a * np.sqrt(now), low), min(b * np.sqrt(now), high), panel) for a, b in regions]
        score, weight = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        density = _diffuse(score - self.reference * step, self, width)
        return self._replace(score=score, mass=density * weight, information=now)


def start(span: tuple[float, float] = (0.0, 0.0), *, score: Any = 0.0, information: float = 0.0) -> Walk:
    """Every trial before its first look (or at a score (...) seen at some information), for drifts within the span."""
    score = np.asarray(score, float)
    return Walk(score[..., None], np.ones((*score.shape, 1)), information, sum(span) / 2, span, score, information)


def crossing(
    information: np.ndarray, lower: np.ndarray, upper: np.ndarray, drift: Any = 0.0, *, inner: np.ndarray | None = None
) -> Crossing:
    """The chance of first crossing each limit at each look; drift (...) is the mean of Z at information 1.

    information, lower and upper (K,), information rising; the chances are (..., K). With `inner` (K,) trials also stop
    where |Z| is below it (not at the last look). Raises ClaimError where they do not fit.

    >>> found = crossing(np.array([0.5, 1.0]), np.full(2, -np.inf), np.array([2.7965, 1.9774]))
    >>> found.upper.round(5).tolist()
    [0.00258, 0.02242]
    """
    information, (lower, upper) = rising(information), limits_of(information, lower, upper)
    drift = np.asarray(drift, float)
    found = np.zeros((3, *drift.shape, len(information)))
    for group in drift_groups(drift, information[-1]):
        found[:, group] = _crossing(information, lower, upper, drift[group], inner)
    return Crossing(found[0], found[1], found[2] if inner is not None else 0.0)


def _crossing(
    information: np.ndarray, lower: np.ndarray, upper: np.ndarray, drift: np.ndarray, inner: np.ndarray | None
) -> np.ndarray:
    over, under, within = np.zeros((3, *drift.shape, len(information)))
    walks = walk(information, lower, upper, (float(drift.min()), float(drift.max())), inner=inner)
    for k, (state, now) in enumerate(zip(walks, information, strict=True)):
        over[..., k], under[..., k] = state.tail(upper[k], now, drift), state.tail(lower[k], now, drift, below=True)
        if inner is not None and inner[k] > 0 and k < len(information) - 1:
            within[..., k] = state.tail(-inner[k], now, drift) - state.tail(inner[k], now, drift)
    return np.stack([over, under, within])


def walk(
    information: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    span: tuple[float, float],
    *,
    inner: np.ndarray | None = None,
    begun: Walk | None = None,
) -> list[Walk]:
    """The trials still running before each look, K walks good for every drift of the span."""
    states = [start(span) if begun is None else begun]
    for k, now in enumerate(information[:-1]):
        regions = going_on(lower[k], upper[k], 0.0 if inner is None else inner[k])
        states.append(states[-1].onward(regions, now, information[k + 1]))
    return states


def going_on(lower: float, upper: float, inner: float = 0.0) -> list[tuple[float, float]]:
    """The values of Z with which a trial goes on."""
    return [(lower, -inner), (inner, upper)] if inner > 0 else [(lower, upper)]


def drift_groups(drift: np.ndarray, information: float) -> list[Any]:
    """Index of drifts near enough to share a reference."""
    if drift.size == 0:
        return []
    bins = np.floor((drift - drift.min()) * np.sqrt(information) / REACH)
    return [...] if np.all(bins == 0) else [bins == one for one in np.unique(bins)]


def _nodes(low: float, high: float, panel: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of an interval, in panels of at most this width."""
    if not high > low:
        return np.zeros(0), np.zeros(0)
    edges = np.linspace(low, high, max(int(np.ceil((high - low) / panel)), 1) + 1)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half + half * NODES).ravel(), (half * WEIGHTS).ravel()


def _diffuse(targets: np.ndarray, state: Walk, width: float) -> np.ndarray:
    """The density at the targets (m',) after a normal step of this width from the walk's mass."""
    if state.score.ndim > 1 or state.score.shape == (1,):
        return state.mass * np.exp(-(((targets - state.score) / width) ** 2) / 2) / (ROOT_TWO_PI * width)
    # nodes are in order: only those within reach matter, which matters where looks are close together
    reach = (FAR + (state.span[1] - state.span[0]) / 2 * width) * width
    density = np.zeros((*state.mass.shape[:-1], len(targets)))
    for first in range(0, len(targets), 256):
        block = targets[first : first + 256]
        a, b = np.searchsorted(state.score, [block.min() - reach, block.max() + reach])
        kernel = np.exp(-(((block - state.score[a:b, None]) / width) ** 2) / 2)
        density[..., first : first + 256] = state.mass[..., a:b] @ kernel
    return density / (ROOT_TWO_PI * width)


def rising(information: Any) -> np.ndarray:
    """Information at the looks, checked."""
    looks = np.atleast_1d(np.asarray(information, float))
    if (
        looks.ndim != 1
        or not len(looks)
        or not np.isfinite(looks).all()
        or looks[0] <= 0
        or np.any(np.diff(looks) <= 0)
    ):
        raise ClaimError(f"The looks are at information {looks.tolist()}; they must rise from above 0, as in 0.5, 1.")
    return looks


def limits_of(information: Any, *sides: Any) -> list[np.ndarray]:
    """Limits, checked: one value for each look."""
    found = [np.atleast_1d(np.asarray(side, float)) for side in sides]
    if any(side.shape != np.shape(np.atleast_1d(information)) for side in found):
        raise ClaimError("Information, lower and upper limits need one value for each look.")
    if any(np.isnan(side).any() for side in found):
        raise ClaimError("A limit is missing (NaN); give infinity where a look has no limit.")
    return found


def newton(gap: Callable[[float], tuple[float, float]], begin: float, low: float, high: float) -> float:
    """The root of a rising function given with its slope; by bracketing where Newton's steps fail."""
    x = min(max(begin, low), high)
    for _ in range(30):
        value, slope = gap(x)
        step = value / slope if slope > 0 else np.inf
        if not np.isfinite(step) or not low <= x - step <= high:
            break
        x -= step
        if abs(step) < 1e-13 * (1 + abs(x)):
            return float(x)
    return solve(lambda x: gap(x)[0], low, high)


def solve(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function crosses zero; the nearer end where it does not."""
    ends = function(low), function(high)
    if ends[0] * ends[1] > 0:
        return low if abs(ends[0]) < abs(ends[1]) else high
    return float(optimize.brentq(function, low, high, xtol=1e-13, rtol=1e-14))

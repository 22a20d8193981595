"""The log-rank test of two arms in a batch of trials, each cut at a calendar day; with weights, and strata.

On whole days it needs no sorting: a histogram of who leaves when, sums along the days, and a term for each day with an
event. `quell.analysis.logrank` says the same of the same people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quell.design.kernel_events import Followed, as_counted, count, room
from quell.design.kernel_native import compiled

Pair = tuple[int, int]  # control, active
NO_VARIANCE = 1e-12  # as in quell.analysis.logrank: that of rounding


class LogRanks(NamedTuple):
    """A log-rank test for each trial of a batch, and what is there at its look."""

    excess: np.ndarray  # (trials,) observed less expected events on the active arm
    variance: np.ndarray  # (trials,) hypergeometric
    events: np.ndarray  # (trials, 2) int64: control, active
    people: np.ndarray  # (trials, 2) int64 randomised by then

    @property
    def z(self) -> np.ndarray:
        """Standardised, in favour of the active arm: above zero where it has fewer events than expected; 0 without any."""
        known = self.variance > NO_VARIANCE
        return np.where(known, -self.excess / np.sqrt(np.where(known, self.variance, 1.0)), 0.0)

    @property
    def log_ratio(self) -> np.ndarray:
        """Peto's one-step log hazard ratio, active over control; NaN without an event."""
        known = self.variance > NO_VARIANCE
        return np.where(known, self.excess / np.where(known, self.variance, 1.0), np.nan)


class WeightedLogRanks(NamedTuple):
    """Several weighted log-rank tests for each trial, and how they vary together."""

    excess: np.ndarray  # (trials, weights)
    covariance: np.ndarray  # (trials, weights, weights)
    events: np.ndarray  # (trials, 2) int64: control, active
    people: np.ndarray  # (trials, 2) int64

    @property
    def z(self) -> np.ndarray:
        """Standardised, in favour of the active arm, (trials, weights); 0 where nothing varies."""
        variance = np.diagonal(self.covariance, axis1=1, axis2=2)
        known = variance > NO_VARIANCE
        return np.where(known, -self.excess / np.sqrt(np.where(known, variance, 1.0)), 0.0)


def logrank(
    people: Followed, cut: np.ndarray | int, *, pair: Pair = (0, 1), strata: np.ndarray | None = None
) -> LogRanks:
    """The log-rank test of a pair of arms (control, active) at a calendar day, one for all trials or one for each.

    ``strata`` (trials or 1, n) are whole codes from 0. As `quell.analysis.logrank` on whole days of follow-up.

    >>> day, never = np.array([[3, 5, 6, 8]], np.int32), np.full((1, 4), 2**30, np.int32)
    >>> found = logrank(Followed(0 * day, day, never, np.array([[0, 0, 1, 1]], np.int8)), 100)
    >>> round(float(found.z[0]), 3), found.events.tolist()
    (1.698, [[2, 2]])
    """
    found = _empty(len(people.entry))
    cuts, codes, groups, longest = as_counted(people, cut, strata)
    _logrank(people, cuts, codes, pair, (groups, longest), found)
    return found


def _empty(trials: int) -> LogRanks:
    return LogRanks(*np.zeros((2, trials)), *np.zeros((2, trials, 2), np.int64))


@compiled
def _logrank(people, cut, stratum, pair, size, found):
    counts = room(size[0], size[1], people.entry.shape[1])
    for t in range(len(people.entry)):
        count(people, t, cut[t], pair, stratum, counts)
        last = counts.begins[-1]
        found.excess[t], found.variance[t] = log_rank_sums(counts.rungs, last)
        tell(counts, found.events[t], found.people[t])


@compiled
def tell(counts, events, people):
    """Events and people of both arms at the look."""
    people[:] = counts.seen
    for k in range(counts.begins[-1]):
        events[0] += np.int64(counts.rungs[k, 3])
        events[1] += np.int64(counts.rungs[k, 4])


@compiled
def log_rank_sums(rungs, last):
    """Observed less expected on the active arm, and the hypergeometric variance, over the first rungs (Mantel 1966)."""
    excess, variance = 0.0, 0.0
    for k in range(last):
        died, total = rungs[k, 3] + rungs[k, 4], rungs[k, 1] + rungs[k, 2]
        share = rungs[k, 2] / total
        excess += rungs[k, 4] - died * share
        if total > 1.0:
            variance += died * share * (1.0 - share) * (total - died) / (total - 1.0)
    return excess, variance


def weighted_logrank(
    people: Followed,
    cut: np.ndarray | int,
    weights: Sequence[tuple[float, float]],
    *,
    pair: Pair = (0, 1),
    strata: np.ndarray | None = None,
) -> WeightedLogRanks:
    """Fleming and Harrington's tests S(t-)^rho (1 - S(t-))^gamma for each (rho, gamma), with their joint covariance.

    S is the Kaplan-Meier curve of both arms of a stratum; as `quell.analysis.logrank(rho=, gamma=)` and, for several,
    `quell.analysis.maxcombo`.

    >>> day, never = np.array([[3, 5, 6, 8]], np.int32), np.full((1, 4), 2**30, np.int32)
    >>> people = Followed(0 * day, day, never, np.array([[0, 0, 1, 1]], np.int8))
    >>> weighted_logrank(people, 100, [(0, 0), (0, 1)]).z.round(3).tolist()
    [[1.698, 1.414]]
    """
    trials, powers = len(people.entry), np.array(weights, float).reshape(-1, 2)
    counted = np.zeros((2, trials, 2), np.int64)
    found = WeightedLogRanks(np.zeros((trials, len(powers))), np.zeros((trials, len(powers), len(powers))), *counted)
    cuts, codes, groups, longest = as_counted(people, cut, strata)
    _weighted(people, cuts, codes, pair, (groups, longest), powers, found)
    return found


@compiled
def _weighted(people, cut, stratum, pair, size, powers, found):
    counts, weight = room(size[0], size[1], people.entry.shape[1]), np.empty(len(powers))
    for t in range(len(people.entry)):
        count(people, t, cut[t], pair, stratum, counts)
        tell(counts, found.events[t], found.people[t])
        for s in range(size[0]):
            surviving = 1.0
            for k in range(counts.begins[s], counts.begins[s + 1]):
                rung = counts.rungs[k]
                for w in range(len(powers)):
                    weight[w] = powered(surviving, powers[w, 0]) * powered(1.0 - surviving, powers[w, 1])
                add_rung(rung, weight, found.excess[t], found.covariance[t])
                surviving *= 1.0 - (rung[3] + rung[4]) / (rung[1] + rung[2])


@compiled
def powered(base, power):
    """A power, the usual ones at once; 0 to the power 0 is 1."""
    return 1.0 if power == 0.0 else base if power == 1.0 else base**power


@compiled
def add_rung(rung, weight, excess, covariance):
    """Add a rung's weighted observed less expected, and its share of the covariance."""
    died, total = rung[3] + rung[4], rung[1] + rung[2]
    share = rung[2] / total
    spread = died * share * (1.0 - share) * (total - died) / max(total - 1.0, 1.0)
    for w in range(len(weight)):
        excess[w] += weight[w] * (rung[4] - died * share)
        for v in range(len(weight)):
            covariance[w, v] += weight[w] * weight[v] * spread

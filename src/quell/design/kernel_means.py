"""Event-free time up to a day, and measured outcomes: means of two arms in a batch of trials."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.kernel_events import Followed, as_counted, count, one_stratum, room
from quell.design.kernel_native import compiled
from quell.design.logrank_kernel import Pair, tell


class RestrictedMeans(NamedTuple):
    """Restricted mean event-free time of both arms (control, active) for each trial, in days, with its variance."""

    mean: np.ndarray  # (trials, 2)
    variance: np.ndarray  # (trials, 2)
    events: np.ndarray  # (trials, 2) int64
    people: np.ndarray  # (trials, 2) int64

    @property
    def difference(self) -> np.ndarray:
        """Active less control, (trials,): above zero is better."""
        return self.mean[:, 1] - self.mean[:, 0]

    @property
    def se(self) -> np.ndarray:
        return np.sqrt(self.variance.sum(-1))

    @property
    def z(self) -> np.ndarray:
        """In favour of the active arm; 0 where nothing varies."""
        return np.where(self.se > 0, self.difference / np.where(self.se > 0, self.se, 1.0), 0.0)


def restricted_mean(people: Followed, cut: np.ndarray | int, until: int, *, pair: Pair = (0, 1)) -> RestrictedMeans:
    """The area under each arm's Kaplan-Meier curve up to day ``until``, of a batch cut at a calendar day.

    As `quell.analysis.restricted_mean.restricted_mean_difference`. Nobody followed so long: the last height goes on.

    >>> day, never = np.array([[2, 4, 9, 3, 9, 9]], np.int32), np.full((1, 6), 2**30, np.int32)
    >>> people = Followed(0 * day, day, never, np.array([[0, 0, 0, 1, 1, 1]], np.int8))
    >>> round(float(restricted_mean(people, 100, 6).difference[0]), 3)
    1.0
    """
    trials = len(people.entry)
    found = RestrictedMeans(*np.zeros((2, trials, 2)), *np.zeros((2, trials, 2), np.int64))
    cuts, _, _, longest = as_counted(people, cut, None)
    _restricted(people, cuts, one_stratum(people.entry.shape[1]), pair, longest, float(until), found)
    return found


@compiled
def _restricted(people, cut, stratum, pair, longest, until, found):
    counts, n = room(1, longest, people.entry.shape[1]), people.entry.shape[1]
    area = np.empty(n + 1)
    for t in range(len(people.entry)):
        count(people, t, cut[t], pair, stratum, counts)
        tell(counts, found.events[t], found.people[t])
        for side in range(2):
            some = found.people[t, side] > 0
            mean, variance = mean_and_variance(counts.rungs[: counts.begins[1]], side, until, area)
            found.mean[t, side], found.variance[t, side] = (mean, variance) if some else (np.nan, np.nan)


@compiled
def mean_and_variance(rungs, side, until, area):
    """Restricted mean of one side, and the sum over its events of (area ahead)^2 d / (Y (Y - d)) (Klein and Moeschberger 2003)."""
    surviving, day, total, last = 1.0, 0.0, 0.0, len(rungs)
    for k in range(last):
        here = min(rungs[k, 0], until)
        total += surviving * (here - day)
        area[k], day = total, here  # the area up to rung k
        at_risk, died = rungs[k, 1 + side], rungs[k, 3 + side]
        if died > 0.0:
            surviving *= 1.0 - died / at_risk
    total += surviving * (until - day)
    variance = 0.0
    for k in range(last):
        at_risk, died = rungs[k, 1 + side], rungs[k, 3 + side]
        if died > 0.0 and at_risk > died:
            variance += (total - area[k]) ** 2 * died / (at_risk * (at_risk - died))
    return total, variance

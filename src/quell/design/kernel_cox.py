"""Cox's model of two arms in a batch of trials, each cut at a calendar day, from the same counts as the log-rank test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.kernel_events import Followed, as_counted, count, room
from quell.design.kernel_native import compiled
from quell.design.logrank_kernel import Pair, log_rank_sums, tell

STEPS = 50
CLOSE = 1e-11  # a step of the log hazard ratio below this is the last
STRIDE = 2.0  # no step is longer: the likelihood is concave but far from its top flat


class HazardRatios(NamedTuple):
    """Cox's log hazard ratio, active over control, for each trial: infinite (and se NaN) where one arm has no event."""

    log_ratio: np.ndarray  # (trials,)
    se: np.ndarray  # (trials,)
    events: np.ndarray  # (trials, 2) int64: control, active
    people: np.ndarray  # (trials, 2) int64

    @property
    def z(self) -> np.ndarray:
        """Wald's statistic in favour of the active arm."""
        return -self.log_ratio / self.se


def cox(
    people: Followed, cut: np.ndarray | int, *, pair: Pair = (0, 1), strata: np.ndarray | None = None
) -> HazardRatios:
    """Cox's log hazard ratio of a pair of arms at a calendar day, with Efron's ties (1977), by Newton from Peto's step.

    As `quell.analysis.cox.hazard_ratio(method="cox")`. NaN where no day with an event has both arms at risk.

    >>> day, never = np.array([[5, 9, 3, 6]], np.int32), np.full((1, 4), 2**30, np.int32)
    >>> found = cox(Followed(0 * day, day, never, np.array([[1, 1, 0, 0]], np.int8)), 100)
    >>> round(float(found.log_ratio[0]), 3)
    -0.941
    """
    trials = len(people.entry)
    found = HazardRatios(*np.empty((2, trials)), *np.zeros((2, trials, 2), np.int64))
    cuts, codes, groups, longest = as_counted(people, cut, strata)
    _cox(people, cuts, codes, pair, (groups, longest), found)
    return found


@compiled
def _cox(people, cut, stratum, pair, size, found):
    counts = room(size[0], size[1], people.entry.shape[1])
    for t in range(len(people.entry)):
        count(people, t, cut[t], pair, stratum, counts)
        tell(counts, found.events[t], found.people[t])
        found.log_ratio[t], found.se[t] = log_hazard_ratio(counts.rungs, counts.begins[-1])


@compiled
def log_hazard_ratio(rungs, last):
    """The top of the partial likelihood and its standard error, from rungs."""
    on_control, on_active = _contested(rungs, last)
    if on_control + on_active == 0.0:
        return np.nan, np.nan
    if on_active == 0.0 or on_control == 0.0:
        return (-np.inf if on_active == 0.0 else np.inf), np.nan
    excess, variance = log_rank_sums(rungs, last)
    b, information = (excess / variance if variance > 0.0 else 0.0), 0.0
    for _ in range(STEPS):
        slope, information = _score(rungs, last, np.exp(b))
        step = min(max(slope / information, -STRIDE), STRIDE)
        b += step
        if abs(step) < CLOSE:
            break
    return b, 1.0 / np.sqrt(information)


@compiled
def _contested(rungs, last):
    """Events of each arm on days on which both have somebody at risk."""
    on_control, on_active = 0.0, 0.0
    for k in range(last):
        if rungs[k, 1] > 0.0 and rungs[k, 2] > 0.0:
            on_control += rungs[k, 3]
            on_active += rungs[k, 4]
    return on_control, on_active


@compiled
def _score(rungs, last, ratio):
    """Slope and curvature of the log partial likelihood: the i-th of d events of a day has i / d of them gone (Efron)."""
    slope, information = 0.0, 0.0
    for k in range(last):
        died = rungs[k, 3] + rungs[k, 4]
        slope += rungs[k, 4]
        for i in range(np.int64(died)):
            gone = i / died
            active = ratio * (rungs[k, 2] - gone * rungs[k, 4])
            share = active / (active + rungs[k, 1] - gone * rungs[k, 3])
            slope -= share
            information += share * (1.0 - share)
    return slope, information

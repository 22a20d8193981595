"""Which part of a composite came first, and when the others come: worked out only where the composite has happened.

The first event of a union of causes is drawn from their summed hazard. Given that it comes at t, it is of part g with the
chance dH_g(t) / sum of dH(t), and what is gathered of the other parts has not reached their thresholds: these lie an
exponential further on (its lack of memory), so that the parts have the same law as if each had been drawn by itself.
"""

from __future__ import annotations

import numpy as np

from quell.design.crowd import Crowd, Fates
from quell.design.kernels import exponential, uniform


def part_times(parts: Fates, crowd: Crowd, end: np.ndarray | float) -> np.ndarray:
    """Days to the first event of each part, (parts, trials, n) float32, given the union's, the first row of ``crowd.time``.

    Only where the union comes by the calendar day ``end`` (trials,); inf elsewhere. Beyond the last knot the last
    interval's hazard goes on.
    """
    union = crowd.time[0]
    found = np.full((len(parts.groups), *union.shape), np.inf, np.float32)
    trial, place = np.nonzero(crowd.arrival + union <= np.reshape(end, (-1, 1)) + 1.0)
    if not len(trial):
        return found
    if len(parts.groups) == 1:
        return union[None].copy()
    n, t = union.shape[1], union[trial, place].astype(float)
    of_person = (crowd.draw[trial], crowd.arm[trial, place], crowd.person[trial, place])
    gathered = [parts.gathered[of_person[0], g, of_person[1], of_person[2]].astype(float) for g in range(len(found))]
    interval = np.clip(np.searchsorted(parts.knots, t, side="right") - 1, 0, len(parts.knots) - 2)
    slopes = np.stack([_slope(one, parts.knots, interval) for one in gathered])
    chance = np.cumsum(slopes, 0)
    wanted = uniform(crowd.seed, n, "part that comes first")[trial, place] * chance[-1]
    first = np.minimum((chance <= wanted).sum(0), len(found) - 1)
    for g, one in enumerate(gathered):
        so_far = one[np.arange(len(t)), interval] + slopes[g] * (t - parts.knots[interval])
        later = so_far + exponential(crowd.seed, n, f"part {g} after another")[trial, place]
        found[g, trial, place] = np.where(first == g, t, np.maximum(_reached(one, parts.knots, later), t))
    return found


def _slope(gathered: np.ndarray, knots: np.ndarray, interval: np.ndarray) -> np.ndarray:
    """The hazard per day in an interval of each person, (people,), from what is gathered at the knots, (people, knots)."""
    row = np.arange(len(gathered))
    return (gathered[row, interval + 1] - gathered[row, interval]) / (knots[interval + 1] - knots[interval])


def _reached(gathered: np.ndarray, knots: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The day on which what is gathered reaches what is wanted, (people,); inf where the hazard has ended."""
    row = np.arange(len(gathered))
    interval = np.clip((gathered <= wanted[:, None]).sum(-1) - 1, 0, len(knots) - 2)
    slope = _slope(gathered, knots, interval)
    with np.errstate(divide="ignore", invalid="ignore"):
        day = knots[interval] + (wanted - gathered[row, interval]) / slope
    return np.where(slope > 0, day, np.inf)

"""From fates to whole days: when people have events, the calendar day of the k-th, and how many are at risk on a day.

Calendar day C of a trial ends C days after its opening. A person randomised on calendar day `entry` has been followed for
C - entry days by then; an event on study day d (1: within the first day) is known from calendar day entry + d on. An
event and a loss on one day: the event came first, as in the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quell.design.crowd import Crowd, Fates
from quell.design.kernel_chance import FATE, bits, high, stream, unit_exponential
from quell.design.kernel_native import compiled
from quell.design.kernel_people import inverted

LONGEST = 36_525  # days: a hundred years
NEVER = 1 << 30  # a day that does not come


class Followed(NamedTuple):
    """People of a batch of trials on whole days, (trials, n) each: what every test at every look is made from."""

    entry: np.ndarray  # int32 calendar day of randomisation; NEVER
    event: np.ndarray  # int32 study day of the first event of the endpoint, from 1; NEVER
    lost: np.ndarray  # int32 study day of the loss, from 1; NEVER
    arm: np.ndarray  # int8; -1 not randomised


class Counts(NamedTuple):
    """Room for one trial at one look: people leaving and dying by day and arm, and the rungs, the days with an event.

    A rung is a row of `rungs`: study day, at risk on control and active, events on control and active. Stratum s has the
    rungs from `begins[s]` to `begins[s + 1]`.
    """

    left: np.ndarray  # (strata, days, 2) int32
    died: np.ndarray  # (strata, days, 2) int32
    rungs: np.ndarray  # (events, 5) float64
    begins: np.ndarray  # (strata + 1,) int64
    seen: np.ndarray  # (2,) int64 people randomised


def first(fates: Fates, crowd: Crowd) -> np.ndarray:
    """Days from randomisation to the first event of each group of causes under the own arm, (groups, trials, n) float32.

    Each gathered hazard is inverted at a unit exponential of (trial, person, group), the same under every arm. inf where a
    person is not randomised, or the hazard has ended.
    """
    found = np.empty((len(fates.groups), *crowd.arm.shape), np.float32)
    days, gathered = np.asarray(fates.knots, float), np.ascontiguousarray(fates.gathered, np.float32)
    place = (crowd.draw.astype(np.int64), crowd.person.astype(np.int32), crowd.arm.astype(np.int8))
    _first(np.ascontiguousarray(crowd.seed, np.uint64), days, gathered, *place, found)
    return found


@compiled
def _first(seed, days, gathered, draw, person, arm, found):
    arms, people = gathered.shape[2], gathered.shape[3]
    rows = gathered.reshape(-1, len(days))
    for t in range(len(seed)):
        for g in range(len(found)):
            source = stream(seed[t], FATE + g)
            for j in range(found.shape[2]):
                if arm[t, j] < 0:
                    found[g, t, j] = np.inf
                else:
                    wanted = unit_exponential(high(bits(source, j)))
                    row = ((draw[t] * len(found) + g) * arms + arm[t, j]) * people + person[t, j]
                    found[g, t, j] = inverted(days, rows, row, wanted)


def whole(time: np.ndarray) -> np.ndarray:
    """Days from randomisation as study days, int32: the day on which it happens, from 1; NEVER beyond a hundred years.

    >>> whole(np.array([0.2, 3.0, np.inf])).tolist()
    [1, 3, 1073741824]
    """
    return np.where(time <= LONGEST, np.maximum(np.ceil(np.minimum(time, LONGEST)), 1), NEVER).astype(np.int32)


def followed(crowd: Crowd, groups: Sequence[int]) -> Followed:
    """The people of a batch on whole days, for an endpoint: the first event of any of these groups of causes."""
    time = crowd.time[list(groups)].min(0)
    enters = (crowd.arrival <= LONGEST) & (crowd.arm >= 0)
    entry = np.where(enters, np.floor(np.where(enters, crowd.arrival, 0)), NEVER).astype(np.int32)
    return Followed(entry, whole(time), whole(crowd.lost), np.asarray(crowd.arm, np.int8))


def day_of_events(people: Followed, needed: np.ndarray, latest: np.ndarray | int = NEVER) -> np.ndarray:
    """The calendar day on which each needed number of events is known, (trials, looks) int32: at most ``latest``, or NEVER.

    ``needed`` and ``latest`` are (looks,), or (trials, looks) where trials differ; where none are needed, it is the latest day.

    >>> day = np.array([[5, 2, 9]], np.int32)
    >>> people = Followed(0 * day, day, 0 * day + NEVER, np.zeros((1, 3), np.int8))
    >>> day_of_events(people, np.array([1, 3])).tolist()
    [[2, 9]]
    """
    needed = np.atleast_2d(np.asarray(needed, np.int64))
    shape = (len(people.entry), needed.shape[1])
    found = np.empty(shape, np.int32)
    _day_of_events(people, np.broadcast_to(needed, shape).copy(), found)
    return np.minimum(found, latest).astype(np.int32)


@compiled
def _day_of_events(people, needed, found):
    entry, event, lost, arm = people
    on_day = np.zeros(2 * LONGEST + 2, np.int32)
    for t in range(len(entry)):
        last = 0
        for j in range(entry.shape[1]):
            if arm[t, j] >= 0 and event[t, j] <= lost[t, j] and event[t, j] < NEVER and entry[t, j] < NEVER:
                day = entry[t, j] + event[t, j]
                on_day[day] += 1
                last = max(last, day)
        for k in range(found.shape[1]):
            so_far, day = 0, -1
            while so_far < needed[t, k] and day < last:
                day += 1
                so_far += on_day[day]
            found[t, k] = NEVER if so_far < needed[t, k] or needed[t, k] <= 0 else day
        on_day[: last + 1] = 0


# -- at risk, day by day -----------------------------------------------------------------------------------------------
@compiled
def room(strata, days, n):
    """Room for the counts of trials of n people followed for at most so many days."""
    left, died = np.zeros((strata, days + 2, 2), np.int32), np.zeros((strata, days + 2, 2), np.int32)
    return Counts(left, died, np.empty((n, 5)), np.zeros(strata + 1, np.int64), np.zeros(2, np.int64))


@compiled
def count(people, t, cut, pair, stratum, counts):
    """Count trial t at calendar day ``cut``: people at risk and events of the pair (control, active), rung by rung."""
    entry, event, lost, arm = people
    left, died = counts.left, counts.died
    longest = 0
    counts.seen[:] = 0
    for j in range(entry.shape[1]):
        follow_up = cut - entry[t, j]
        side = 1 if arm[t, j] == pair[1] else 0 if arm[t, j] == pair[0] else -1
        if side < 0 or follow_up < 0:
            continue
        here = stratum[t % len(stratum), j]
        leaves = min(event[t, j], lost[t, j], follow_up, left.shape[1] - 2)
        counts.seen[side] += 1
        left[here, leaves, side] += 1
        if event[t, j] <= leaves:
            died[here, leaves, side] += 1
        longest = max(longest, leaves)
    rungs = 0
    for s in range(len(left)):
        counts.begins[s] = rungs
        rungs = _climb(left[s], died[s], longest, counts.rungs, rungs)
    counts.begins[len(left)] = rungs


@compiled
def _climb(left, died, longest, rungs, k):
    """The rungs of a stratum, the earliest first, from rung k on; the room is left empty for the next trial."""
    at_risk_0, at_risk_1 = 0, 0
    for day in range(longest + 1):
        at_risk_0 += left[day, 0]
        at_risk_1 += left[day, 1]
    for day in range(longest + 1):
        if died[day, 0] + died[day, 1] > 0:
            rungs[k, 0], rungs[k, 1], rungs[k, 2] = day, at_risk_0, at_risk_1
            rungs[k, 3], rungs[k, 4] = died[day, 0], died[day, 1]
            died[day, 0] = died[day, 1] = 0
            k += 1
        at_risk_0 -= left[day, 0]
        at_risk_1 -= left[day, 1]
        left[day, 0] = left[day, 1] = 0
    return k


def one_stratum(n: int) -> np.ndarray:
    """Everybody in one stratum, (1, n)."""
    return np.zeros((1, n), np.int16)


def as_counted(
    people: Followed, cut: np.ndarray | int, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Cuts (trials,) int64, strata (trials or 1, n) int16 from 0, how many strata, and the longest follow-up at any cut."""
    cuts = np.broadcast_to(np.asarray(cut, np.int64), (len(people.entry),)).copy()
    codes = one_stratum(people.entry.shape[1]) if strata is None else np.atleast_2d(np.asarray(strata, np.int16))
    longest = int(max(0, np.max(np.minimum(cuts, 2 * LONGEST) - people.entry.min(-1, initial=NEVER), initial=0)))
    return cuts, np.ascontiguousarray(codes), int(codes.max(initial=0)) + 1, min(longest, LONGEST)

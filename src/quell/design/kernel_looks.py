"""The plain two-arm design in one go: from seeds to the log-rank test at every look, without an array of people in between.

The same bits as the parts put together (arrivals, permuted blocks, fates, loss, cut, log-rank), many times as fast, since
only people who have an event or are lost are looked at again: who is at risk on study day t at calendar day C are those
who came by C - t, less those who left before t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.crowd import Fates
from quell.design.kernel_chance import ENTRY, FATE, LOW, PERSON, S32, SPAN, bits, high, low, stream, unit_exponential
from quell.design.kernel_events import LONGEST
from quell.design.kernel_native import compiled
from quell.design.kernel_people import as_curve, inverted, picked
from quell.design.logrank_kernel import NO_VARIANCE, log_rank_sums
from quell.sentences import BadInput

# In a packed count the active arm counts in units of this, the control arm in ones.
ACTIVE = 1 << 32
ONES = ACTIVE - 1
# The chance to have left by the end is compared with this much to spare, and then worked out.
SPARE = 1e-6


class Plain(NamedTuple):
    """A two-arm design with looks at numbers of events; arrays as in `arrivals`, `allocate` and `lost`."""

    n: int
    entry_days: np.ndarray  # (K,) calendar days
    entry_gathered: np.ndarray  # (K,) people expected by then
    ratio: tuple[int, int]  # control, active
    block: int  # 0: twice the ratio's sum
    lost_days: np.ndarray  # (K,) days from randomisation
    lost_gathered: np.ndarray  # (K,) gathered hazard of loss
    events: np.ndarray  # (looks,) needed for each look; 0: the look is on its latest day
    latest: np.ndarray  # (looks,) the calendar day on which it is held at the latest


class Looked(NamedTuple):
    """What each trial sees at each look."""

    day: np.ndarray  # (trials, looks) int32 calendar day
    events: np.ndarray  # (trials, looks, 2) int64: control, active
    people: np.ndarray  # (trials, looks, 2) int64 randomised by then
    excess: np.ndarray  # (trials, looks) observed less expected events on the active arm
    variance: np.ndarray  # (trials, looks)

    @property
    def z(self) -> np.ndarray:
        """Standardised, in favour of the active arm, (trials, looks)."""
        known = self.variance > NO_VARIANCE
        return np.where(known, -self.excess / np.sqrt(np.where(known, self.variance, 1.0)), 0.0)

    @property
    def log_ratio(self) -> np.ndarray:
        """Peto's one-step log hazard ratio, active over control, (trials, looks); NaN without an event."""
        known = self.variance > NO_VARIANCE
        return np.where(known, self.excess / np.where(known, self.variance, 1.0), np.nan)


class Ready(NamedTuple):
    """A plain design as the kernel wants it."""

    entry_days: np.ndarray
    entry_gathered: np.ndarray
    full: np.ndarray  # (2,) int64 places of a block for control and active
    lost_days: np.ndarray
    lost_gathered: np.ndarray  # (1, K)
    lost_by: float  # a low half above this is not lost by the end
    events: np.ndarray  # (looks,) int64
    latest: np.ndarray  # (looks,) int64


class Room(NamedTuple):
    """Room for one trial of n people over D calendar days."""

    wait: np.ndarray  # (n,) float64 unit exponential before each arrival, then their sums
    fate: np.ndarray  # (n,) float64 unit exponential of the first event
    side: np.ndarray  # (n,) uint64 half for the arm
    loss: np.ndarray  # (n,) float64 half for the loss
    place: np.ndarray  # (n,) int64 in the bank
    entry: np.ndarray  # (n,) int64 calendar day
    arm: np.ndarray  # (n,) int64
    order: np.ndarray  # (n,) int64 who may leave
    at_end: np.ndarray  # (arms, people) float64 hazard gathered by the longest follow-up
    leaver: np.ndarray  # (n, 3) int64 calendar day of entry, study day of leaving, packed one
    ends: np.ndarray  # (n,) bool: the leaver leaves by an event
    come: np.ndarray  # (D,) int64 packed people come by each day
    known: np.ndarray  # (D,) int64 events known by each day
    left: np.ndarray  # (D + 2,) int64 packed, differences
    died: np.ndarray  # (D + 2,) int64 packed
    rungs: np.ndarray  # (n, 5) float64


def looks(seed: np.ndarray, draw: np.ndarray, plan: Plain, fates: Fates) -> Looked:
    """The log-rank test at every look of a plain two-arm design, from seeds on; ``fates`` hold one group and two arms.

    ``draw`` (trials,) is the world that each trial's people live in; everybody in it may take part. Raises BadInput where
    the fates are of more than one group or two arms, or no look has a latest day within a hundred years.

    >>> even = Fates((("infarction",),), np.array([0.0, 1000.0]), np.tile(np.array([0, 0.2], np.float32), (1, 1, 2, 1, 1)))
    >>> day, none = np.array([0.0, 100.0]), np.zeros(2)
    >>> plan = Plain(400, day, 4 * day, (1, 1), 4, day, none, np.array([20, 40]), np.array([2000, 2000]))
    >>> looks(np.array([5], np.uint64), np.array([0]), plan, even).events.sum(-1).tolist()
    [[20, 40]]
    """
    if fates.gathered.shape[1] != 1 or fates.gathered.shape[2] != 2:
        raise BadInput(
            f"The plain design takes one group of causes and two arms; here are {fates.gathered.shape[1]} and {fates.gathered.shape[2]}."
        )
    ready = _ready(plan)
    found = _found(len(seed), len(ready.events))
    gathered = np.ascontiguousarray(fates.gathered[:, 0], np.float32)
    knots = np.ascontiguousarray(fates.knots, float)
    _looks(np.ascontiguousarray(seed, np.uint64), draw.astype(np.int64), int(plan.n), ready, knots, gathered, found)
    return found


def _ready(plan: Plain) -> Ready:
    unit = sum(plan.ratio)
    block = plan.block or 2 * unit
    latest = np.atleast_1d(np.asarray(plan.latest, np.int64))
    if not (latest.min() >= 0 and latest.max() <= LONGEST):
        raise BadInput(f"The latest days of the looks are {latest.tolist()}; each lies between 0 and {LONGEST}.")
    if block % unit:
        ratio = f"{plan.ratio[0]}:{plan.ratio[1]}"
        raise BadInput(f"A block of {block} cannot hold arms in the ratio {ratio}. Take a multiple of {unit}.")
    entry_days, entry_gathered = as_curve(plan.entry_days, plan.entry_gathered)
    lost_days, lost_gathered = as_curve(plan.lost_days, plan.lost_gathered)
    at_end = _at(lost_days, lost_gathered[0], float(latest.max()))
    lost_by = min(-np.expm1(-at_end) * (1 + SPARE) * SPAN + 1, SPAN) if at_end > 0 else -1.0
    full = np.asarray(plan.ratio, np.int64) * (block // unit)
    events = np.atleast_1d(np.asarray(plan.events, np.int64))
    return Ready(entry_days, entry_gathered[0], full, lost_days, lost_gathered, lost_by, events, latest)


def _at(days: np.ndarray, gathered: np.ndarray, day: float) -> float:
    """A gathered hazard on a day; the last interval's hazard goes on."""
    slope = (gathered[-1] - gathered[-2]) / (days[-1] - days[-2])
    return float(np.interp(day, days, gathered) + max(day - days[-1], 0.0) * slope)


def _found(trials: int, count: int) -> Looked:
    by_look, by_arm = (trials, count), (trials, count, 2)
    whole = np.empty(by_look, np.int32), np.zeros(by_arm, np.int64), np.zeros(by_arm, np.int64)
    return Looked(*whole, np.empty(by_look), np.empty(by_look))


@compiled
def _looks(seed, draw, n, plan, knots, gathered, found):
    last = plan.latest.max()
    arms, people = gathered.shape[1], gathered.shape[2]
    room, rows = _room(n, last, arms, people), gathered.reshape(-1, len(knots))
    before = -1
    for t in range(len(seed)):
        if draw[t] != before:
            gathered_by(knots, gathered[draw[t]], last, room.at_end)
            before = draw[t]
        chances(seed[t], n, people, room)
        came = enrol(n, last, plan.entry_days, plan.entry_gathered, room)
        allocate_blocks(came, plan.full, room)
        count = who_may_leave(came, plan.lost_by, room)
        leavers = follow(count, plan, knots, rows, draw[t] * arms * people, room)
        for k in range(len(plan.events)):
            day = look_day(room.known, plan.events[k], plan.latest[k])
            found.day[t, k] = day
            rungs = at_risk(leavers, day, room)
            found.excess[t, k], found.variance[t, k] = log_rank_sums(room.rungs, rungs)
            for rung in range(rungs):
                found.events[t, k, 0] += np.int64(room.rungs[rung, 3])
                found.events[t, k, 1] += np.int64(room.rungs[rung, 4])
            found.people[t, k, 0], found.people[t, k, 1] = room.come[day] & ONES, room.come[day] >> 32


@compiled
def _room(n, last, arms, people):
    return Room(
        np.empty(n),
        np.empty(n),
        np.empty(n, np.uint64),
        np.empty(n),
        np.zeros(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n + 1, np.int64),
        np.empty((arms, people)),
        np.empty((n, 3), np.int64),
        np.empty(n, np.bool_),
        np.empty(last + 1, np.int64),
        np.empty(last + 1, np.int64),
        np.zeros(last + 3, np.int64),
        np.zeros(last + 3, np.int64),
        np.empty((n, 5)),
    )


@compiled
def gathered_by(knots, gathered, day, found):
    """The hazard that each person has gathered by a day under each arm, with a little to spare."""
    k = min(max(np.searchsorted(knots, day) - 1, 0), len(knots) - 2)
    share = (day - knots[k]) / (knots[k + 1] - knots[k])
    for arm in range(gathered.shape[0]):
        for i in range(gathered.shape[1]):
            start = np.float64(gathered[arm, i, k])
            found[arm, i] = (start + share * (gathered[arm, i, k + 1] - start)) * (1.0 + SPARE)


@compiled
def chances(seed, n, people, room):
    """Everybody's chance: loops without a branch, so that the processor takes several people at a time."""
    source = stream(seed, ENTRY)
    for j in range(n):
        word = bits(source, j)
        room.side[j] = word & LOW
        room.wait[j] = unit_exponential(high(word))
    source = stream(seed, FATE)
    for j in range(n):
        word = bits(source, j)
        room.loss[j] = low(word)
        room.fate[j] = unit_exponential(high(word))
    if people > 1:
        source = stream(seed, PERSON)
        for j in range(n):
            room.place[j] = picked(bits(source, j) >> S32, people)


@compiled
def enrol(n, last, days, gathered, room):
    """The calendar day of entry of everybody who comes by the last day; returns how many do. Uses up `wait`."""
    so_far = 0.0
    for j in range(n):
        so_far += room.wait[j]
        room.wait[j] = so_far
    came, k_last = 0, len(days) - 2
    for k in range(k_last + 1):
        upto = n if k == k_last else np.searchsorted(room.wait, gathered[k + 1], side="right")
        rise = gathered[k + 1] - gathered[k]
        if rise > 0.0:
            slope = (days[k + 1] - days[k]) / rise
            for j in range(came, upto):
                arrival = np.float32(days[k] + (room.wait[j] - gathered[k]) * slope)
                room.entry[j] = np.int64(min(arrival, np.float32(last + 1)))
            came = max(came, upto)
    return np.searchsorted(room.entry[:came], last + 1)


@compiled
def allocate_blocks(came, full, room):
    """The arm of everybody, in permuted blocks; fills `come`, packed people come by each day."""
    room.come[:] = 0
    left_0, left_1 = full[0], full[1]
    for j in range(came):
        arm = 1 if picked(room.side[j], left_0 + left_1) >= left_0 else 0
        left_0 -= 1 - arm
        left_1 -= arm
        if left_0 + left_1 == 0:
            left_0, left_1 = full[0], full[1]
        room.arm[j] = arm
        room.come[room.entry[j]] += 1 << (arm << 5)
    for day in range(1, len(room.come)):
        room.come[day] += room.come[day - 1]


@compiled
def who_may_leave(came, lost_by, room):
    """Whose event or loss may come by the last day, into `order`, without a branch to guess; returns how many."""
    count = 0
    for j in range(came):
        room.order[count] = j
        dies = room.fate[j] <= room.at_end[room.arm[j], room.place[j]]
        count += dies | (room.loss[j] <= lost_by)
    return count


@compiled
def follow(count, plan, knots, rows, start, room):
    """When those of `order` leave; returns how many do by the last day. Fills `leaver` and `known`.

    ``rows`` holds everybody's gathered hazards, this trial's from row ``start`` on.
    """
    people, last = room.at_end.shape[1], len(room.known) - 1
    # under names of their own: a field of a tuple is counted as in use each time that it is touched, which costs more
    # than the arithmetic here
    fate, at_end, known, leaver, ends = room.fate, room.at_end, room.known, room.leaver, room.ends
    losing, days, gathered = room.loss, plan.lost_days, plan.lost_gathered
    known[:] = 0
    leavers = 0
    for i in range(count):
        j = room.order[i]
        entry, arm, place = room.entry[j], room.arm[j], room.place[j]
        event, loss = last + 1, last + 1
        if fate[j] <= at_end[arm, place]:
            event = study_day(inverted(knots, rows, start + arm * people + place, fate[j]), last)
        if losing[j] <= plan.lost_by:
            loss = study_day(inverted(days, gathered, 0, unit_exponential(losing[j])), last)
        leaves = min(event, loss)
        if entry + leaves <= last:
            leaver[leavers, 0], leaver[leavers, 1], leaver[leavers, 2] = entry, leaves, 1 << (arm << 5)
            ends[leavers] = event <= loss
            known[entry + leaves] += event <= loss
            leavers += 1
    for day in range(1, last + 1):
        known[day] += known[day - 1]
    return leavers


@compiled
def study_day(time, last):
    """The study day, from 1, of a time kept in single precision; beyond the last day, the day after it."""
    kept = np.float64(np.float32(time))
    return np.int64(max(np.ceil(kept), 1.0)) if kept <= last else last + 1


@compiled
def look_day(known, needed, latest):
    """The first calendar day on which the events needed are known, at most the latest; the latest where none are needed."""
    if needed <= 0 or known[latest] < needed:
        return latest
    return np.searchsorted(known, needed)


@compiled
def at_risk(leavers, cut, room):
    """The rungs of a look at calendar day ``cut``; returns how many there are, and leaves the room empty."""
    latest = 0
    for i in range(leavers):
        entry, leaves, one = room.leaver[i, 0], room.leaver[i, 1], room.leaver[i, 2]
        if entry + leaves <= cut:
            room.left[leaves + 1] += one
            room.left[cut - entry + 1] -= one
            if room.ends[i]:
                room.died[leaves] += one
                latest = max(latest, leaves)
    gone, k = 0, 0
    for day in range(1, latest + 1):
        gone += room.left[day]
        died = room.died[day]
        if died:
            still = room.come[cut - day] - gone
            room.rungs[k, 0], room.rungs[k, 1], room.rungs[k, 2] = day, still & ONES, still >> 32
            room.rungs[k, 3], room.rungs[k, 4] = died & ONES, died >> 32
            k += 1
    room.left[: cut + 2] = 0
    room.died[: latest + 1] = 0
    return k

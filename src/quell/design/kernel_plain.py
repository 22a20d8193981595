"""The plain two-arm design person by person in one go, for `quell.design.plain`: from seeds to every look, and to the end.

The same bits as the parts put together (arrivals, blocks, fates, loss, cut, log-rank, Cox, parts of a composite). Nobody
is followed who cannot leave in time: the end is guessed from the hazards, a person's chance is held against the chance to
have left by then, and where the guess was too early the trial is followed once more, for longer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.kernel_chance import ENTRY, FATE, LOW, PERSON, S32, SPAN, bits, high, low, stream
from quell.design.kernel_chance import unit_exponential as exponential
from quell.design.kernel_events import LONGEST
from quell.design.kernel_looks import ONES, SPARE, study_day
from quell.design.kernel_native import compiled
from quell.design.kernel_people import inverted, picked
from quell.design.logrank_kernel import log_rank_sums

STRIDE = 64  # days between which the end is guessed
MARGIN = 2.0  # standard deviations of the events more than needed are expected by the guess
ENOUGH = 0.8  # the chance to have left by a later day serves an earlier one, if it is not much earlier

# Columns of Kept.who.
PERSON_IN_TRIAL, PLACE, ENTERED, ARM, LEAVES, ENDS = range(6)
COLUMNS = 6


class Plan(NamedTuple):
    """What the people of the trials come by; L looks."""

    n: int
    days: np.ndarray  # (K,) calendar days
    gathered: np.ndarray  # (trials or 1, K) people expected by then
    full: np.ndarray  # (2,) int64 places of a block for control and active
    blocks: bool  # False: one by one
    loss: np.ndarray  # (2,) rates of loss per day under each arm
    events: np.ndarray  # (L,) int64 needed for each look; 0: on its latest day
    latest: np.ndarray  # (L,) int64 calendar day on which it is held at the latest; NEVER
    horizon: int  # days after the last entry on which the last look is held at the latest


class World(NamedTuple):
    """Who the people are; the first group of causes is the primary's."""

    knots: np.ndarray  # (K,) float64 days
    gathered: np.ndarray  # (draws, groups, 2, people, K) float32
    ends: np.ndarray  # (groups,) bool: an event of the group ends follow-up for the primary
    risk: np.ndarray  # (draws, K) share of people with a primary event by each knot, for the guess of the end alone
    order: np.ndarray  # (draws, people) int32, those eligible first
    eligible: np.ndarray  # (draws,) int64 how many are


class Kept(NamedTuple):
    """What is kept of a batch of trials: the looks, and those who left; people come (D) by calendar day, packed by arm."""

    day: np.ndarray  # (T, L) int32
    events: np.ndarray  # (T, L) int64
    people: np.ndarray  # (T, L) int64 randomised by then
    screened: np.ndarray  # (T, L) int64 screened by the last of them
    excess: np.ndarray  # (T, L) observed less expected events on the active arm
    variance: np.ndarray  # (T, L)
    come: np.ndarray  # (T, D) int64, to the last day looked at
    leavers: np.ndarray  # (T,) int64 how many are kept
    who: (
        np.ndarray
    )  # (T, n, 6) int32 person in trial, place in the bank, day of entry, arm, study day of leaving, by event
    when: np.ndarray  # (T, n, groups + 1) float32 days to each group's event, and to the loss


class Room(NamedTuple):
    """Room for one trial of n people."""

    wait: np.ndarray  # (n,) float64
    side: np.ndarray  # (n,) uint32 half for the arm
    entry: np.ndarray  # (n,) int64 calendar day
    arm: np.ndarray  # (n,) int64
    place: np.ndarray  # (n,) int64 in the bank
    row: np.ndarray  # (n,) int64 arm and place in one
    may: np.ndarray  # (n,) bool
    order: np.ndarray  # (n + 1,) int64 who may leave
    chance: np.ndarray  # (groups, 2 people) uint32 halves up to this one have the event by the day looked to
    source: np.ndarray  # (groups,) uint64
    known: np.ndarray  # (D,) int64 events known by each day
    left: np.ndarray  # (D,) int64 packed, differences
    died: np.ndarray  # (D,) int64 packed
    rungs: np.ndarray  # (n, 5) float64


def played(seed: np.ndarray, draw: np.ndarray, plan: Plan, world: World) -> Kept:
    """Trials of a plain design up to every look, each by its seed (T,) and the draw (T,) that its people live in."""
    trials, looks, groups = len(seed), len(plan.events), world.gathered.shape[1]
    longest = int(min(plan.latest.max(), LONGEST + plan.horizon))
    by_look = (trials, looks)
    kept = Kept(
        day=np.zeros(by_look, np.int32),
        events=np.zeros(by_look, np.int64),
        people=np.zeros(by_look, np.int64),
        screened=np.zeros(by_look, np.int64),
        excess=np.zeros(by_look),
        variance=np.zeros(by_look),
        come=np.empty((trials, longest + 1), np.int64),
        leavers=np.zeros(trials, np.int64),
        who=np.empty((trials, plan.n, COLUMNS), np.int32),
        when=np.empty((trials, plan.n, groups + 1), np.float32),
    )
    _played(seed, draw.astype(np.int64), plan, world, kept)
    return kept


@compiled
def _played(seed, draw, plan, world, kept):
    room = room_for(plan.n, kept.come.shape[1], world.gathered.shape[1], world.gathered.shape[3])
    reach = plan.latest.max()
    before_draw, before_day = -1, -1
    for t in range(len(seed)):
        come = kept.come[t]
        opening = _enter(seed[t], t, plan, room)
        last = min(reach, opening + plan.horizon)
        came = np.searchsorted(room.entry, last + 1)
        _allocate(came, last, plan, come, room)
        _live(seed[t], draw[t], came, world, room)
        day = _guess(last, plan, world, draw[t], come)
        while True:
            if draw[t] != before_draw or day > before_day or day < ENOUGH * before_day:
                _chances(world.knots, world.gathered[draw[t]], day, room.chance)
                before_draw, before_day = draw[t], day
            count = _may_leave(came, before_day, plan, room)
            kept.leavers[t] = _follow(count, day, draw[t], plan, world, kept.who[t], kept.when[t], room)
            if day == last or _early(day, last, plan, room.known):
                break
            day = min(last, day + day // 4 + STRIDE)
        _look(t, last, day, plan, kept, room)
        if world.eligible[draw[t]] < world.order.shape[1]:
            _screen(seed[t], world.eligible[draw[t]] / world.order.shape[1], kept.people[t], kept.screened[t])
        else:
            kept.screened[t] = kept.people[t]


@compiled
def room_for(n, days, groups, people):
    return Room(
        np.empty(n),
        np.empty(n, np.uint32),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.bool_),
        np.empty(n + 1, np.int64),
        np.empty((groups, 2 * people), np.uint32),
        np.empty(groups, np.uint64),
        np.empty(days, np.int64),
        np.zeros(days + 2, np.int64),
        np.zeros(days + 2, np.int64),
        np.empty((n, 5)),
    )


@compiled
def _enter(seed, t, plan, room):
    """Everybody's calendar day of entry, and the half for the arm; returns the day of the last entry."""
    source, wait, side, entry = stream(seed, ENTRY), room.wait, room.side, room.entry
    days, gathered, row, n = plan.days, plan.gathered, t % len(plan.gathered), len(room.wait)
    for j in range(n):
        word = bits(source, j)
        side[j] = np.uint32(word & LOW)
        wait[j] = exponential(high(word))
    so_far = 0.0
    for j in range(n):
        so_far += wait[j]
        wait[j] = so_far
    came, k_last = 0, len(days) - 2
    for k in range(k_last + 1):
        start, stop = gathered[row, k], gathered[row, k + 1]
        upto = n if k == k_last else came + np.searchsorted(wait[came:], stop, side="right")
        day, slope = days[k], (days[k + 1] - days[k]) / (stop - start) if stop > start else np.inf
        for j in range(came, upto):
            arrival = np.float32(day + (wait[j] - start) * slope)
            entry[j] = np.int64(arrival) if arrival <= LONGEST else LONGEST + 1
        came = upto
    entered = np.searchsorted(entry, LONGEST + 1)
    return entry[entered - 1] if entered else 0


@compiled
def _allocate(came, last, plan, come, room):
    """The arm of everybody who comes by the last day; fills ``come``, packed people come by each day."""
    side, entry, arms = room.side, room.entry, room.arm
    full_0, full_1, blocks = plan.full[0], plan.full[1], plan.blocks
    left_0, left_1 = full_0, full_1
    for j in range(came):
        arm = 1 if picked(side[j], left_0 + left_1) >= left_0 else 0
        arms[j] = arm
        if blocks:
            left_0 -= 1 - arm
            left_1 -= arm
            if left_0 + left_1 == 0:
                left_0, left_1 = full_0, full_1
    so_far, before = np.int64(0), 0
    for j in range(came):
        for day in range(before, entry[j]):
            come[day] = so_far
        so_far, before = so_far + (np.int64(1) << (arms[j] << 5)), entry[j]
    come[before : last + 1] = so_far


@compiled
def _live(seed, draw, came, world, room):
    """Who everybody is in the bank, and the chances that they live by."""
    source, place, row, arm = stream(seed, PERSON), room.place, room.row, room.arm
    people, eligible, order = world.order.shape[1], world.eligible[draw], world.order[draw]
    for j in range(came):
        place[j] = picked(bits(source, j) >> S32, eligible)
    if eligible < people:
        for j in range(came):
            place[j] = order[place[j]]
    for j in range(came):
        row[j] = arm[j] * people + place[j]
    for g in range(len(room.source)):
        room.source[g] = stream(seed, FATE + g)


@compiled
def _guess(last, plan, world, draw, come):
    """A day by which all events needed will have come, most likely; the last where they may not."""
    needed = plan.events.max()
    goal, day = needed + MARGIN * (np.sqrt(needed) + 1.0), 0
    for k in range(len(plan.events)):
        if plan.events[k] <= 0:
            day = max(day, plan.latest[k])
    knots, risk = world.knots, world.risk[draw]
    steps = (last + 1) // STRIDE
    by_step, fresh = np.empty(steps), np.empty(steps)
    k, before = 0, 0
    for s in range(steps):
        middle = (s + 0.5) * STRIDE
        while k < len(knots) - 2 and middle > knots[k + 1]:
            k += 1
        by_step[s] = risk[k] + (middle - knots[k]) * (risk[k + 1] - risk[k]) / (knots[k + 1] - knots[k])
        now = come[(s + 1) * STRIDE - 1]
        now = (now & ONES) + (now >> 32)
        fresh[s], before = now - before, now
    for s in range(steps):
        expected = 0.0
        for r in range(s + 1):
            expected += fresh[r] * by_step[s - r]
        if expected >= goal:
            return min(last, max(day, (s + 1) * STRIDE))
    return last


@compiled
def _chances(knots, gathered, day, found):
    """The half up to which a person has each group's event within so many days, with a little to spare.

    1 - exp(-h) is at most h - h^2 / 2 + h^3 / 6, which is close enough where few have left, and soon worked out.
    """
    people = gathered.shape[2]
    k = min(max(np.searchsorted(knots, day + 1) - 1, 0), len(knots) - 2)
    part = (day + 1 - knots[k]) / (knots[k + 1] - knots[k])
    for g in range(len(found)):
        for arm in range(2):
            for i in range(people):
                start = np.float64(gathered[g, arm, i, k])
                h = (start + part * (gathered[g, arm, i, k + 1] - start)) * (1.0 + SPARE)
                most = h * (1.0 - h * (0.5 - h / 6.0))
                found[g, arm * people + i] = np.uint32(min(most * SPAN + 1.0, SPAN - 1.0))


@compiled
def _may_leave(came, day, plan, room):
    """Who may have an event of any group, or be lost, within so many days, into ``order``; returns how many."""
    may, row, order, lost = room.may, room.row, room.order, _lost_by(day, plan.loss.max())
    chance, source = room.chance[0], room.source[0]
    for j in range(came):
        word = bits(source, j)
        may[j] = (np.int64(word & LOW) <= lost) | (np.uint32(word >> S32) <= chance[row[j]])
    for g in range(1, len(room.chance)):
        chance, source = room.chance[g], room.source[g]
        for j in range(came):
            may[j] |= np.uint32(bits(source, j) >> S32) <= chance[row[j]]
    count = 0
    for j in range(came):
        order[count] = j
        count += may[j]
    return count


@compiled
def _lost_by(day, rate):
    """The half up to which a person may be lost within so many days, with a little to spare."""
    return np.int64(-np.expm1(-rate * (day + 1) * (1.0 + SPARE)) * SPAN + 1.0) if rate > 0.0 else np.int64(-1)


@compiled
def _lost(word, arm, loss):
    """Days until a person is lost, as `Recruit.lost` has them."""
    if loss[0] == loss[1]:
        return np.float32(exponential(low(word)) * (1.0 / loss[0]) if loss[0] > 0.0 else np.inf)
    wait = np.float32(exponential(low(word)))
    return np.float32(np.float64(wait) / loss[arm])


@compiled
def _follow(count, day, draw, plan, world, who, when, room):
    """When those of ``order`` leave; keeps those to whom something happens by a calendar day, and returns how many do."""
    order, entered, arms, places, known = room.order, room.entry, room.arm, room.place, room.known
    knots, people, ends, loss = world.knots, world.order.shape[1], world.ends, plan.loss
    groups, rows = len(ends), world.gathered.reshape(-1, len(knots))
    start, lost_by = draw * groups * 2 * people, _lost_by(day, loss.max())
    known[: day + 1] = 0
    kept = 0
    for i in range(count):
        j = order[i]
        entry, arm, place = entered[j], arms[j], places[j]
        row, word = arm * people + place, bits(room.source[0], j)
        when[kept, groups] = _lost(word, arm, loss) if np.int64(word & LOW) <= lost_by else np.inf
        event, out = day + 1, study_day(when[kept, groups], day)
        earliest = out
        for g in range(groups):
            half = word >> S32 if g == 0 else bits(room.source[g], j) >> S32
            if np.uint32(half) > room.chance[g, row]:
                when[kept, g] = np.inf
                continue
            when[kept, g] = inverted(knots, rows, start + g * 2 * people + row, exponential(np.float64(half)))
            happens = study_day(when[kept, g], day)
            earliest = min(earliest, happens)
            if g == 0:
                event = happens
            elif ends[g]:
                out = min(out, happens)
        if entry + earliest <= day:
            leaves, by_event = min(event, out), event <= out
            who[kept, PERSON_IN_TRIAL], who[kept, PLACE], who[kept, ENTERED] = j, place, entry
            who[kept, ARM], who[kept, LEAVES], who[kept, ENDS] = arm, leaves, by_event
            if by_event and entry + leaves <= day:
                known[entry + leaves] += 1
            kept += 1
    so_far = 0
    for d in range(day + 1):
        so_far += known[d]
        known[d] = so_far
    return kept


@compiled
def _early(day, last, plan, known):
    """Whether every look is held by a day."""
    for k in range(len(plan.events)):
        if min(plan.latest[k], last) > day and (plan.events[k] <= 0 or known[day] < plan.events[k]):
            return False
    return True


@compiled
def _look(t, last, upto, plan, kept, room):
    """Every look of a trial: its day, and the log-rank test. Events are known until day ``upto``, enough for every look."""
    come, who, count, before = kept.come[t], kept.who[t], kept.leavers[t], 0
    for k in range(len(plan.events)):
        latest, needed = min(plan.latest[k], last), plan.events[k]
        day = latest
        if needed > 0 and (latest > upto or room.known[latest] >= needed):
            day = np.searchsorted(room.known[: min(latest, upto) + 1], needed)
        day = max(day, before)
        before = day
        rungs = rungs_at(who, count, day, come, room)
        kept.day[t, k] = day
        kept.excess[t, k], kept.variance[t, k] = log_rank_sums(room.rungs, rungs)
        for rung in range(rungs):
            kept.events[t, k] += np.int64(room.rungs[rung, 3] + room.rungs[rung, 4])
        kept.people[t, k] = (come[day] & ONES) + (come[day] >> 32)


@compiled
def rungs_at(who, count, cut, come, room):
    """The days with an event at a calendar day: study day, at risk and events of each arm; returns how many there are."""
    left, died, rungs = room.left, room.died, room.rungs
    latest = 0
    for i in range(count):
        entry, leaves = who[i, ENTERED], who[i, LEAVES]
        if entry + leaves <= cut:
            one = np.int64(1) << (np.int64(who[i, ARM]) << 5)
            left[leaves + 1] += one
            left[cut - entry + 1] -= one
            if who[i, ENDS]:
                died[leaves] += one
                latest = max(latest, leaves)
    gone, k = 0, 0
    for day in range(1, latest + 1):
        gone += left[day]
        ended = died[day]
        if ended:
            still = come[cut - day] - gone
            rungs[k, 0], rungs[k, 1], rungs[k, 2] = day, still & ONES, still >> 32
            rungs[k, 3], rungs[k, 4] = ended & ONES, ended >> 32
            k += 1
    left[: cut + 2] = 0
    died[: latest + 1] = 0
    return k


@compiled
def _screen(seed, eligible, people, screened):
    """People screened when the last of those randomised by each look came in, as `persons` counts them."""
    source, so_far, scale, j = stream(seed, PERSON), np.int64(0), -1.0 / np.log(1.0 - eligible), 0
    for k in range(len(people)):
        while j < max(people[k], 1):
            so_far += 1 + np.int64(exponential(low(bits(source, j))) * scale)
            j += 1
        screened[k] = so_far

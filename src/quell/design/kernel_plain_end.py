"""The end of a plain design's trials: Cox's estimate, and tests of further endpoints, from those who left.

Parts of a composite are drawn as in `components`, to the bit, and only for those to whom something happened by the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.kernel_chance import bits, high, share, stream
from quell.design.kernel_chance import unit_exponential as exponential
from quell.design.kernel_cox import log_hazard_ratio
from quell.design.kernel_looks import study_day
from quell.design.kernel_native import compiled
from quell.design.kernel_plain import (
    ARM,
    COLUMNS,
    ENDS,
    ENTERED,
    LEAVES,
    PERSON_IN_TRIAL,
    PLACE,
    Kept,
    room_for,
    rungs_at,
)
from quell.design.logrank_kernel import log_rank_sums


def estimates(kept: Kept, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cox's log hazard ratio of each trial at a calendar day (T,) on which one of its looks was held, and its error."""
    value, se = np.empty((2, len(cut)))
    _estimates(kept, cut.astype(np.int64), value, se)
    return value, se


@compiled
def _estimates(kept, cut, value, se):
    room = room_for(kept.who.shape[1], kept.come.shape[1], 1, 1)
    for t in range(len(cut)):
        rungs = rungs_at(kept.who[t], kept.leavers[t], cut[t], kept.come[t], room)
        value[t], se[t] = log_hazard_ratio(room.rungs, rungs)


class Parts(NamedTuple):
    """The parts of the primary (P of them), and the further endpoints (E) as unions of them and of the fates' groups (G)."""

    gathered: np.ndarray  # (draws, P, 2, people, K) float32
    purpose: np.ndarray  # (P + 1,) uint64: for which part comes first, and for each part after another
    own: np.ndarray  # (E, P + G) bool: an event of the endpoint; the first of the G is the primary itself
    other: np.ndarray  # (E, P + G) bool: a death that ends its follow-up


def further_tests(
    seed: np.ndarray, draw: np.ndarray, rows: np.ndarray, cut: np.ndarray, kept: Kept, knots: np.ndarray, parts: Parts
) -> tuple[np.ndarray, np.ndarray]:
    """Log-rank tests of the further endpoints in some trials (R,) at calendar days (R,): excess and variance, (R, E)."""
    excess, variance = np.empty((2, len(rows), len(parts.own)))
    of_trial = seed[rows], draw[rows].astype(np.int64), rows.astype(np.int64), cut.astype(np.int64)
    _further_tests(*of_trial, kept, knots, parts, excess, variance)
    return excess, variance


@compiled
def _further_tests(seed, draw, rows, cut, kept, knots, parts, excess, variance):
    most = kept.leavers.max() + 1
    room = room_for(most, kept.come.shape[1], 1, 1)
    times, who = np.empty((most, parts.own.shape[1]), np.float32), np.empty((most, COLUMNS), np.int32)
    when = np.empty((most, kept.when.shape[2]), np.float32)
    for r in range(len(rows)):
        t, day = rows[r], cut[r]
        count = _by(kept.who[t], kept.when[t], kept.leavers[t], day, who, when)
        _part_times(seed[r], draw[r], who, count, day, when, knots, parts, times)
        for e in range(len(parts.own)):
            _as_endpoint(who, count, day, when, times, parts.own[e], parts.other[e])
            rungs = rungs_at(who, count, day, kept.come[t], room)
            excess[r, e], variance[r, e] = log_rank_sums(room.rungs, rungs)


@compiled
def _by(all_who, all_when, count, day, who, when):
    """Those to whom something happened by a calendar day; returns how many."""
    k = 0
    for i in range(count):
        soonest = np.inf
        for g in range(all_when.shape[1]):
            soonest = min(soonest, all_when[i, g])
        if all_who[i, ENTERED] + soonest <= day:
            for c in range(COLUMNS):
                who[k, c] = all_who[i, c]
            for g in range(all_when.shape[1]):
                when[k, g] = all_when[i, g]
            k += 1
    return k


@compiled
def _as_endpoint(who, count, last, when, times, own, other):
    """The days of leaving for an endpoint."""
    lost = when.shape[1] - 1
    for i in range(count):
        event, out = last + 1, study_day(when[i, lost], last)
        for p in range(len(own)):
            if own[p]:
                event = min(event, study_day(times[i, p], last))
            elif other[p]:
                out = min(out, study_day(times[i, p], last))
        who[i, LEAVES], who[i, ENDS] = min(event, out), event <= out


@compiled
def _part_times(seed, draw, who, count, last, when, knots, parts, times):
    """Days to each part of the primary, as `components.part_times` draws them, and to each other group."""
    number, people = parts.gathered.shape[1], parts.gathered.shape[3]
    rows, slopes = parts.gathered.reshape(-1, len(knots)), np.empty(number)
    which = stream(seed, parts.purpose[0])
    for i in range(count):
        for g in range(when.shape[1] - 1):
            times[i, number + g] = when[i, g]
        union = when[i, 0]
        if number == 1:
            times[i, 0] = union
            continue
        times[i, :number] = np.inf
        if who[i, ENTERED] + study_day(union, last) > last:
            continue
        j, t = who[i, PERSON_IN_TRIAL], np.float64(union)
        k = _interval(knots, t)
        start = (draw * number * 2 + who[i, ARM]) * people + who[i, PLACE]
        whole = 0.0
        for p in range(number):
            row = start + p * 2 * people
            slopes[p] = (np.float64(rows[row, k + 1]) - np.float64(rows[row, k])) / (knots[k + 1] - knots[k])
            whole += slopes[p]
        wanted, chance, first = share(high(bits(which, j))) * whole, 0.0, 0
        for p in range(number - 1):
            chance += slopes[p]
            first += chance <= wanted
        for p in range(number):
            if p == first:
                times[i, p] = union
                continue
            row = start + p * 2 * people
            source = stream(seed, parts.purpose[p + 1])
            so_far = np.float64(rows[row, k]) + slopes[p] * (t - knots[k])
            times[i, p] = max(_reached(knots, rows, row, so_far + exponential(high(bits(source, j)))), t)


@compiled
def _interval(knots, day):
    """The number of the interval between knots that a day lies in; the last one goes on."""
    return min(max(np.searchsorted(knots, day, side="right") - 1, 0), len(knots) - 2)


@compiled
def _reached(knots, rows, row, wanted):
    """The day on which what is gathered reaches what is wanted; inf where the hazard has ended."""
    k = -1
    for m in range(len(knots)):
        k += rows[row, m] <= wanted
    k = min(max(k, 0), len(knots) - 2)
    slope = (np.float64(rows[row, k + 1]) - np.float64(rows[row, k])) / (knots[k + 1] - knots[k])
    return knots[k] + (wanted - np.float64(rows[row, k])) / slope if slope > 0.0 else np.inf

"""Who comes when, where, who they are in the bank, and which arm they get: kernels over a batch of trials.

What is the j-th person's depends on the trial's seed and j, and on people before; never on those after.
"""

from __future__ import annotations

import numpy as np

from quell.design.kernel_chance import ENTRY, FATE, PERSON, PLACE, S32, bits, high, low, share, stream, unit_exponential
from quell.design.kernel_native import compiled
from quell.sentences import BadInput


# -- arrivals ----------------------------------------------------------------------------------------------------------
def arrivals(seed: np.ndarray, n: int, days: np.ndarray, gathered: np.ndarray) -> np.ndarray:
    """When each of n people comes, (trials, n) float32 calendar days, not decreasing: a Poisson process.

    ``gathered`` (K,), or (trials, K) where trials differ, is the expected number come by each of ``days`` (K,), linear
    between; the last rate goes on. The j-th person comes when it passes the sum of j unit exponentials. inf: never.

    >>> seed = np.array([1, 2], np.uint64)
    >>> bool((np.diff(arrivals(seed, 50, np.array([0.0, 100.0]), np.array([0.0, 200.0]))) >= 0).all())
    True
    """
    found = np.empty((len(seed), n), np.float32)
    _arrivals(_words(seed), *as_curve(days, gathered), found)
    return found


@compiled
def _arrivals(seed, days, gathered, found):
    for t in range(len(seed)):
        source, row = stream(seed[t], ENTRY), t % len(gathered)
        so_far, k = 0.0, 0
        for j in range(found.shape[1]):
            so_far += unit_exponential(high(bits(source, j)))
            while k < len(days) - 2 and so_far > gathered[row, k + 1]:
                k += 1
            found[t, j] = on_line(days, gathered, row, k, so_far)


@compiled
def on_line(days, gathered, row, k, wanted):
    """The day on which a row's gathered rate passes what is wanted, on the line from knot k, which is passed; or inf."""
    rise = gathered[row, k + 1] - gathered[row, k]
    slope = (days[k + 1] - days[k]) / rise if rise > 0.0 else np.inf
    return days[k] + (wanted - gathered[row, k]) * slope


@compiled
def inverted(days, gathered, row, wanted):
    """The day on which a row of gathered hazards, (rows, K), passes what is wanted; the last interval's hazard goes on.

    The inner knots passed are counted, all of them: a few tens compared at once are faster than a search that guesses.
    """
    passed = 0
    for k in range(1, len(days) - 1):
        passed += wanted > gathered[row, k]
    return on_line(days, gathered, row, passed, wanted)


def sites(seed: np.ndarray, arrival: np.ndarray, opening: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The site of each person, (trials, n) int16: one of those open on arrival, in proportion to their weights.

    ``opening`` (S,) are calendar days, not decreasing; ``weight`` (S,), or (trials, S) where trials differ, is each site's
    rate. Given that somebody comes to one of several Poisson processes, it is to each in proportion to its rate.

    >>> sites(np.array([1], np.uint64), np.array([[0.5, 9.0]]), np.array([0.0, 5.0]), np.array([1.0, 0.0])).tolist()
    [[0, 0]]
    """
    found = np.empty(arrival.shape, np.int16)
    whole = np.cumsum(np.atleast_2d(np.asarray(weight, float)), -1)
    _sites(_words(seed), np.asarray(arrival, np.float32), np.asarray(opening, float), whole, found)
    return found


@compiled
def _sites(seed, arrival, opening, whole, found):
    for t in range(len(seed)):
        source, so_far, open_now = stream(seed[t], PLACE), whole[t % len(whole)], 1
        for j in range(found.shape[1]):
            while open_now < len(opening) and opening[open_now] <= arrival[t, j]:
                open_now += 1
            wanted = share(high(bits(source, j))) * so_far[open_now - 1]
            found[t, j] = np.searchsorted(so_far[:open_now], wanted, side="right")


# -- who they are ------------------------------------------------------------------------------------------------------
def persons(seed: np.ndarray, n: int, draw: np.ndarray, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place in the bank of each person, (trials, n) int32, and how many have been screened when they come in, the same.

    ``eligible`` (draws, people): who may take part; ``draw`` (trials,): the world that a trial's people live in. Anybody
    eligible is as likely as any other, again and again; those turned away before are geometric. Raises BadInput where a
    draw has nobody.

    >>> who, screened = persons(np.array([1], np.uint64), 3, np.array([0]), np.array([[False, True]]))
    >>> who.tolist(), bool((screened[0] >= [1, 2, 3]).all())
    ([[1, 1, 1]], True)
    """
    eligible = np.atleast_2d(eligible)
    counted = eligible.sum(-1)
    if (counted[draw] == 0).any():
        empty = int(np.flatnonzero(counted == 0)[0])
        raise BadInput(
            f"None of the {eligible.shape[1]} people of draw {empty} pass the limits at entry. Loosen them, or live more people."
        )
    order = np.argsort(~eligible, -1, kind="stable").astype(np.int32)
    found, screened = np.empty((2, len(seed), n), np.int32)
    _persons(_words(seed), draw.astype(np.int64), order, counted.astype(np.int64), found, screened)
    return found, screened


@compiled
def _persons(seed, draw, order, counted, found, screened):
    for t in range(len(seed)):
        source, here = stream(seed[t], PERSON), draw[t]
        turned_away, so_far = 1.0 - counted[here] / order.shape[1], np.int64(0)
        scale = 0.0 if turned_away <= 0.0 else -1.0 / np.log(turned_away)
        for j in range(found.shape[1]):
            word = bits(source, j)
            so_far += 1 + np.int64(unit_exponential(low(word)) * scale)
            found[t, j] = order[here, picked(word >> S32, counted[here])]
            screened[t, j] = so_far


@compiled
def picked(half, count):
    """A whole number from 0 to below count, from a half (Lemire 2019, doi:10.1145/3230636, without rejection)."""
    return np.int64((np.uint64(half) * np.uint64(count)) >> S32)


# -- arms --------------------------------------------------------------------------------------------------------------
def allocate(
    seed: np.ndarray, n: int, ratio: tuple[int, ...], *, block: int = 0, within: np.ndarray | None = None
) -> np.ndarray:
    """The arm of each person, (trials, n) int8, in permuted blocks: each holds every arm in the ratio, in any order.

    ``block`` is a multiple of the ratio's sum (0: twice); 1 stands for simple randomisation. ``within`` (trials, n) are whole
    codes from 0 of what has blocks of its own (sites). Each place takes an arm in proportion to what is left of the block.

    >>> arms = allocate(np.array([7], np.uint64), 8, (1, 1), block=4)
    >>> arms[0, :4].sum(), arms[0, 4:].sum()
    (np.int64(2), np.int64(2))
    """
    unit = sum(ratio)
    size = block or 2 * unit
    if size != 1 and size % unit:
        raise BadInput(
            f"A block of {block} cannot hold arms in the ratio {':'.join(map(str, ratio))}. Take a multiple of {unit}."
        )
    found = np.empty((len(seed), n), np.int8)
    full = np.asarray(ratio, np.int64) * max(size // unit, 1)
    code = np.zeros((1, n), np.int16) if within is None else np.asarray(within, np.int16)
    _allocate(_words(seed), full, size != 1, code, found)
    return found


@compiled
def _allocate(seed, full, blocks, within, found):
    arms, whole = len(full), full.sum()
    left = np.empty((within.max() + 1, arms), np.int64)
    total = np.empty(len(left), np.int64)
    for t in range(len(seed)):
        source, code = stream(seed[t], ENTRY), within[t % len(within)]
        left[:], total[:] = full, whole
        for j in range(found.shape[1]):
            here = code[j]
            rest, arm = picked(bits(source, j) & np.uint64(0xFFFFFFFF), total[here]), 0
            while rest >= left[here, arm]:
                rest -= left[here, arm]
                arm += 1
            found[t, j] = arm
            if blocks:
                left[here, arm] -= 1
                total[here] -= 1
                if total[here] == 0:
                    left[here], total[here] = full, whole


def allocate_by_chance(seed: np.ndarray, period: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The arm of each person, (trials, n) int8, by chances that change from period to period (response-adaptive).

    ``period`` (trials, n) is the period in which each comes, from 0; ``chance`` (trials, periods, arms) adds up to 1. It
    spends the same number as `allocate`, so that designs share their randomness.

    >>> allocate_by_chance(np.array([7], np.uint64), np.array([[0, 1]]), np.array([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
    [[0, 1]]
    """
    found = np.empty(period.shape, np.int8)
    _by_chance(_words(seed), np.asarray(period, np.int64), np.cumsum(np.asarray(chance, float), -1), found)
    return found


@compiled
def _by_chance(seed, period, whole, found):
    last = whole.shape[2] - 1
    for t in range(len(seed)):
        source = stream(seed[t], ENTRY)
        for j in range(found.shape[1]):
            bounds = whole[t, period[t, j]]
            wanted = share(low(bits(source, j))) * bounds[last]
            arm = 0
            while arm < last and wanted >= bounds[arm]:
                arm += 1
            found[t, j] = arm


# -- loss --------------------------------------------------------------------------------------------------------------
def lost(seed: np.ndarray, n: int, days: np.ndarray, gathered: np.ndarray) -> np.ndarray:
    """When each person is lost to follow-up, (trials, n) float32 days from randomisation; inf: never.

    ``gathered`` (K,) is the gathered hazard of loss at ``days`` (K,) from randomisation, from 0; the last hazard goes on.

    >>> bool(np.isinf(lost(np.array([1], np.uint64), 4, np.array([0.0, 1.0]), np.zeros(2))).all())
    True
    """
    found = np.empty((len(seed), n), np.float32)
    _lost(_words(seed), *as_curve(days, gathered), found)
    return found


@compiled
def _lost(seed, days, gathered, found):
    for t in range(len(seed)):
        source = stream(seed[t], FATE)
        for j in range(found.shape[1]):
            found[t, j] = inverted(days, gathered, 0, unit_exponential(low(bits(source, j))))


def _words(seed: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(seed, np.uint64)


def as_curve(days: np.ndarray, gathered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots (K,) and what is gathered by them, (rows, K), as the kernels want them; at least two knots."""
    days, gathered = np.ascontiguousarray(days, float), np.ascontiguousarray(np.atleast_2d(np.asarray(gathered, float)))
    if len(days) < 2 or gathered.shape[1] != len(days) or gathered[:, 0].any():
        raise BadInput(
            f"A curve needs two knots or more, and a value at each, from 0: {len(days)} days, {gathered.shape} values."
        )
    return days, gathered

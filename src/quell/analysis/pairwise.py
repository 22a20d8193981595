"""Who wins each pair: priorities compared one after the other, for all pairs of two groups of patients, in batch.

A priority is turned into small whole codes per trial (ranks of its values). Sorted by code, the opponents a patient
beats are the first so many of them: a set kept as bits, 64 opponents to a word, looked up rather than compared. What is
still undecided is a bitwise "and", how many were beaten a count of bits. Pairs are taken in tiles, across trials at
once, and only how many pairs each patient won and lost is kept: no array of all pairs of all trials is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis.claim import ClaimError

# A tile has at most this many rows and columns, and this many pairs over all its trials: masks of half a megabyte.
SIDE = 2_048
PAIRS_AT_ONCE = 4_000_000
# Counts of recurrent events are compared pair by pair, in smaller pieces.
COUNTED_AT_ONCE = 100_000
# Codes, twice over, fit in 16 bits (which are sorted fastest) up to here.
FEW_DAYS = 16_000
# A difference reaches the margin within this share of it: 0.3 - 0.1 is a margin of 0.2.
ROUNDING = 1e-9


class Survival(NamedTuple):
    """Time to an event (death, first infarction): the one known to have the event later wins.

    i wins where j had the event and i was followed beyond it. `margin` in days: the difference that counts (0: any).
    A patient censored on the day of the other's event was still at risk that day, as in every risk set of this room,
    and so `wins`; Pocock et al. (2012) and the R packages WINS and BuyseTest call it a `tie`. time, event (..., n).
    """

    time: np.ndarray
    event: np.ndarray
    margin: float = 0.0
    censored_same_day: Literal["wins", "tie"] = "wins"


class Recurrences(NamedTuple):
    """Number of recurrent events over the follow-up both patients share: fewer wins; equal numbers tie.

    days (..., n, k), NaN where there are fewer than k events; follow_up (..., n) ends at death or censoring. With
    `then="last"` equal, non-zero numbers are decided by the later last event (the last-event-assisted win ratio of Mao,
    Kim and Li 2022, R package WR); for their first-event-assisted one add a `Survival` of the first event after this.
    """

    days: np.ndarray
    follow_up: np.ndarray
    then: Literal["last", ""] = ""


class Measure(NamedTuple):
    """A continuous or ordinal outcome: higher wins (or lower), by at least `margin` (0: any difference).

    `at_least=False` asks for more than the margin (R package WINS). value (..., n); a missing value decides nothing.
    """

    value: np.ndarray
    margin: float = 0.0
    better: Literal["higher", "lower"] = "higher"
    at_least: bool = True


Priority = Survival | Recurrences | Measure


class Ranks(NamedTuple):
    """Codes of a priority in which i beats j exactly where reach_i > bar_j; each (B, n) small whole numbers."""

    reach: np.ndarray
    bar: np.ndarray

    def at(self, index: np.ndarray) -> Ranks:
        """The codes of groups of patients, (G, m) places in the flat batch; beyond its end nobody wins or loses."""
        return Ranks(_gather(self.reach, index, -1), _gather(self.bar, index, np.iinfo(self.bar.dtype).max))

    def part(self, places: slice) -> Ranks:
        return Ranks(self.reach[:, places], self.bar[:, places])

    def meet(self, other: Ranks) -> tuple[np.ndarray, np.ndarray]:
        """Whom of the other group each patient beats, and to whom each loses, as bits (G, m, words)."""
        return _below(self.reach, other.bar), _below(-self.bar, -other.reach)


class Histories(NamedTuple):
    """Codes of recurrent events (B, n, k) and of the follow-up (B, n); an event counts up to the follow-up's code."""

    events: np.ndarray
    follow_up: np.ndarray
    last_decides: bool

    def at(self, index: np.ndarray) -> Histories:
        never = np.iinfo(self.events.dtype).max
        events = np.stack([_gather(event, index, never) for event in np.moveaxis(self.events, -1, 0)], -1)
        return Histories(events, _gather(self.follow_up, index, -1), self.last_decides)

    def part(self, places: slice) -> Histories:
        return Histories(self.events[:, places], self.follow_up[:, places], self.last_decides)

    def meet(self, other: Histories) -> tuple[np.ndarray, np.ndarray]:
        """Whom of the other group each patient beats, and to whom each loses, as bits (G, m, words)."""
        groups, opponents = other.follow_up.shape
        width = max(COUNTED_AT_ONCE // max(groups * opponents, 1), 1)
        pieces = [self._pairs(slice(top, top + width), other) for top in range(0, self.follow_up.shape[-1], width)]
        win, lose = (np.concatenate(parts, -2) for parts in zip(*pieces, strict=True))
        return win, lose

    def _pairs(self, rows: slice, other: Histories) -> tuple[np.ndarray, np.ndarray]:
        mine, theirs = self.events[:, rows, None], other.events[:, None]
        until_mine, until_theirs = self.follow_up[:, rows, None], other.follow_up[:, None]
        shape = np.broadcast_shapes(until_mine.shape, until_theirs.shape)
        own, their = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
        own_last, their_last = np.full(shape, -1, mine.dtype), np.full(shape, -1, mine.dtype)
        for k in range(mine.shape[-1]):
            within_own, within_their = mine[..., k] <= until_theirs, theirs[..., k] <= until_mine
            own += within_own
            their += within_their
            if self.last_decides:
                own_last = np.maximum(own_last, np.where(within_own, mine[..., k], -1))
                their_last = np.maximum(their_last, np.where(within_their, theirs[..., k], -1))
        win, lose = own < their, own > their
        if self.last_decides:
            equal = own == their
            win |= equal & (own_last > their_last)
            lose |= equal & (own_last < their_last)
        return _bits(win), _bits(lose)


class Score(NamedTuple):
    """Pairs won and lost by each patient of the flat batch, and by the rows of each group at each priority (G, L)."""

    won: np.ndarray
    lost: np.ndarray
    wins: np.ndarray
    losses: np.ndarray


def flatten(priority: Priority, shape: tuple[int, ...]) -> Priority:
    """The same priority with the trials on one axis: (B, n), days (B, n, k). Raises ClaimError on shapes and names."""
    if isinstance(priority, Survival):
        _one_of(priority.censored_same_day, ("wins", "tie"), "A patient censored on the day of the other's event")
        time, event = (_shaped(values, shape) for values in (priority.time, priority.event))
        return priority._replace(time=time, event=event)
    if isinstance(priority, Measure):
        _one_of(priority.better, ("higher", "lower"), "The better value of a measure")
        return priority._replace(value=_shaped(priority.value, shape))
    _one_of(priority.then, ("last", ""), "What decides equal numbers of events")
    days = np.asarray(priority.days, float)
    if days.ndim < 2 or days.shape[-2] != shape[-1]:
        raise ClaimError(
            f"The days of recurrent events have shape {days.shape}, but there are {shape[-1]} patients; give them as "
            "(..., n, k): a row for each patient and a column for each event, NaN where there are fewer."
        )
    return priority._replace(
        days=_shaped(days, (*shape, days.shape[-1]), 2), follow_up=_shaped(priority.follow_up, shape)
    )


def part(priority: Priority, trials: slice) -> Priority:
    """Some trials of a flattened priority."""
    arrays: dict[str, Any] = {
        name: value[trials] for name, value in priority._asdict().items() if isinstance(value, np.ndarray)
    }
    return priority._replace(**arrays)


def encode(priority: Priority, kept: np.ndarray) -> tuple[Ranks | Histories, np.ndarray]:
    """Codes of a flattened priority for the patients kept (B, n), and who of them lacks its value (B, n)."""
    if isinstance(priority, Recurrences):
        return _encode_recurrences(priority, kept)
    if isinstance(priority, Survival):
        missing = ~(priority.time >= 0) | np.isinf(priority.time) | np.isnan(priority.event)
        happened = priority.event > 0
        bar = np.where(happened, priority.time, np.inf)
        at_least: np.ndarray | bool = priority.margin > 0
        if priority.margin == 0 and priority.censored_same_day == "wins":
            at_least = ~happened
        reach = priority.time - _slack(priority.margin, priority.time, at_least=True)
    else:
        missing = ~np.isfinite(priority.value)
        bar = priority.value if priority.better == "higher" else -priority.value
        at_least = priority.margin > 0 and priority.at_least
        reach = bar - _slack(priority.margin, priority.value, priority.at_least)
    absent = missing | ~kept
    reach, bar = _ranks(np.where(absent, -np.inf, reach), np.where(absent, np.inf, bar))
    return Ranks(2 * reach + np.asarray(at_least, reach.dtype), 2 * bar), missing & kept


def play(levels: Sequence[Ranks | Histories], rows: np.ndarray, columns: np.ndarray, size: int) -> Score:
    """Compare every row with every column of each group: places (G, m) in the flattened batch, `size` where unused."""
    groups = len(rows)
    count = np.stack([(rows < size).sum(-1), (columns < size).sum(-1)])
    score = Score(
        *(np.zeros(size + 1, np.int64) for _ in range(2)),
        *(np.zeros((groups, len(levels)), np.int64) for _ in range(2)),
    )
    # groups come smallest first, so that those compared together are of about one size
    order = np.argsort(count.prod(0), kind="stable")
    order = order[count.prod(0)[order] > 0]
    largest = np.minimum(np.maximum.accumulate(count[:, order], -1), SIDE).prod(0)
    start = 0
    while start < len(order):
        several = np.arange(1, len(order) - start + 1) * largest[start:] <= PAIRS_AT_ONCE
        stop = start + max(int(several.sum()), 1)
        chosen = order[start:stop]
        most = count[:, chosen].max(-1)
        here, there = rows[chosen, : most[0]], columns[chosen, : most[1]]
        ours, theirs = [level.at(here) for level in levels], [level.at(there) for level in levels]
        score.won[here], score.lost[here], score.wins[chosen], score.losses[chosen] = _duel(ours, theirs, here.shape)
        if rows is not columns:
            score.won[there], score.lost[there], _, _ = _duel(theirs, ours, there.shape)
        start = stop
    return score


def _duel(
    ours: Sequence[Ranks | Histories], theirs: Sequence[Ranks | Histories], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs won and lost by each of ours (G, m), and by all of a group at each priority (G, L)."""
    won, lost = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    wins, losses = np.zeros((shape[0], len(ours)), np.int64), np.zeros((shape[0], len(ours)), np.int64)
    opponents = theirs[0][-1 if isinstance(theirs[0], Ranks) else 1].shape[-1]  # type: ignore[union-attr]
    for left in range(0, opponents, SIDE):
        against = [level.part(slice(left, left + SIDE)) for level in theirs]
        for top in range(0, shape[-1], SIDE):
            down = slice(top, top + SIDE)
            undecided: np.ndarray | None = None
            for number, (level, other) in enumerate(zip(ours, against, strict=True)):
                win, lose = level.part(down).meet(other)  # type: ignore[arg-type]
                if undecided is not None:
                    win, lose = win & undecided, lose & undecided
                beaten, lost_to = _count_bits(win), _count_bits(lose)
                won[:, down] += beaten
                lost[:, down] += lost_to
                wins[:, number] += beaten.sum(-1)
                losses[:, number] += lost_to.sum(-1)
                settled = win | lose
                undecided = ~settled if undecided is None else undecided & ~settled
    return won, lost, wins, losses


def _below(probe: np.ndarray, against: np.ndarray) -> np.ndarray:
    """For each probe (G, m), which of the others (G, k) are smaller: bits (G, m, words of 64)."""
    (groups, m), k = probe.shape, against.shape[-1]
    words = (k + 63) // 64
    group = np.arange(groups)[:, None]
    # in a stable sort a probe comes before those equal to it, so that what stands before it is smaller
    order = np.argsort(np.concatenate([probe, against], -1), -1, kind="stable")
    smaller = np.empty(order.size, np.int64)
    smaller[(order + group * (m + k)).ravel()] = np.cumsum(order >= m, -1).ravel()
    smaller = smaller.reshape(groups, m + k) + group * (k + 1)
    # row r of a group's sets: its r smallest, one more in each row
    sets = np.zeros((groups * (k + 1), words), np.uint64)
    who = np.arange(k)
    sets.ravel()[smaller[:, m:] * words + (who >> 6)] = np.left_shift(np.uint64(1), (who & 63).astype(np.uint64))
    shaped = sets.reshape(groups, k + 1, words)
    np.bitwise_or.accumulate(shaped, axis=1, out=shaped)
    return sets.take(smaller[:, :m].ravel(), axis=0).reshape(groups, m, words)


def _bits(pairs: np.ndarray) -> np.ndarray:
    """Booleans (..., k) as bits (..., words of 64), the first in the lowest bit."""
    packed = np.packbits(pairs, axis=-1, bitorder="little")
    words = np.zeros((*packed.shape[:-1], -(-packed.shape[-1] // 8) * 8), np.uint8)
    words[..., : packed.shape[-1]] = packed
    return words.view(np.dtype("<u8")).astype(np.uint64, copy=False)


def _count_bits(words: np.ndarray) -> np.ndarray:
    counts = np.bitwise_count(words)
    # a handful of words is summed faster one after the other than along the last axis
    return sum(np.moveaxis(counts, -1, 0)[1:], counts[..., 0].astype(np.int64))


def _gather(codes: np.ndarray, index: np.ndarray, beyond: int) -> np.ndarray:
    return np.append(codes.ravel(), np.array(beyond, codes.dtype))[index]


def _encode_recurrences(priority: Recurrences, kept: np.ndarray) -> tuple[Histories, np.ndarray]:
    days, follow_up = priority.days, priority.follow_up
    absent = ~(follow_up >= 0) | np.isinf(follow_up) | ~kept
    counted = np.isfinite(days) & (days <= follow_up[..., None]) & ~absent[..., None]
    values = np.where(counted, days, np.inf).reshape(len(kept), math.prod(days.shape[1:]))
    codes, until = _ranks(values, np.where(absent, -np.inf, follow_up))
    events = np.where(counted, codes.reshape(days.shape), np.iinfo(codes.dtype).max).astype(codes.dtype)
    return Histories(events, np.where(absent, -1, until).astype(until.dtype), priority.then == "last"), absent & kept


def _shaped(values: np.ndarray, shape: tuple[int, ...], last: int = 1) -> np.ndarray:
    """Values as floats for every trial, with the trials on one axis before the last one or two."""
    values = np.asarray(values, float)
    try:
        whole = np.broadcast_to(values, shape)
    except ValueError:
        raise ClaimError(
            f"A priority has values shaped {values.shape}, which do not fit {shape}: one for each trial and patient."
        ) from None
    return whole.reshape(math.prod(shape[:-last]), *shape[-last:])


def _slack(margin: float, values: np.ndarray, at_least: bool) -> float:
    """The margin, widened by rounding so that 0.3 - 0.1 counts as 0.2; exact where all numbers are whole."""
    if not margin >= 0:
        raise ClaimError(f"The margin is {margin}; a difference that counts is zero or more.")
    if margin == 0 or (float(margin).is_integer() and _all_whole(values)):
        return margin
    return margin * (1 - ROUNDING if at_least else 1 + ROUNDING)


def _all_whole(values: np.ndarray) -> bool:
    """Whether every finite value is a whole number."""
    return not np.any((np.rint(values) != values) & np.isfinite(values))


def _ranks(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole codes, from 0, in the order of the values of both arrays of a trial (equal values, equal codes)."""
    values = np.concatenate([first, second], -1)
    finite = np.isfinite(values)
    least = values.min(initial=np.inf, where=finite)
    most = values.max(initial=-np.inf, where=finite)
    if most < least:
        codes = np.where(values > 0, 1.0, 0.0)
    elif most - least < FEW_DAYS and _all_whole(values):
        # whole days: the day is the code
        codes = np.clip(values, least - 1, most + 1) - (least - 1)
    else:
        order = np.argsort(values, -1)
        ranked = np.take_along_axis(values, order, -1)
        steps = np.cumsum(ranked[..., 1:] != ranked[..., :-1], -1)
        codes = np.empty(values.shape)
        np.put_along_axis(codes, order, np.concatenate([np.zeros((len(values), 1)), steps], -1), -1)
    codes = codes.astype(np.int16 if codes.max(initial=0) < FEW_DAYS + 3 else np.int32)
    return codes[..., : first.shape[-1]], codes[..., first.shape[-1] :]


def _one_of(value: str, names: tuple[str, ...], what: str) -> None:
    if value not in names:
        raise ClaimError(f"{what} is '{value}'; choose {' or '.join(repr(name) for name in names)}.")

"""Who is at risk and who has the event, arm by arm and day by day, for any number of trials: counted, never looped.

One `bincount` over (trial, stratum, arm, kind of event, day) and one cumulative sum along the days give every risk set.
Whole days are counted on a day grid; other times are ranked first. Trials are worked on a few at a time, so that the
counts of a part stay in the processor's cache: that, and not arithmetic, decides the speed of ten thousand trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.codes import two_arms, whole

# Up to this many grid days per subject, counting days is cheaper than ranking times.
DAYS_PER_SUBJECT = 8
# Counters and subjects worked on at a time: two megabytes of whole numbers; more or fewer was slower where measured.
AT_A_TIME = 1 << 18


class Columns(NamedTuple):
    """The columns of B trials of n subjects as (B, n) views; `kinds` counts event codes 1, 2, ..., `strata` dense codes."""

    time: np.ndarray
    event: np.ndarray
    arm: np.ndarray | None
    include: np.ndarray | None
    entry: np.ndarray | None
    stratum: np.ndarray | None
    arms: int
    kinds: int
    strata: int
    batch: tuple[int, ...]


class Subjects(NamedTuple):
    """Some trials, cleaned: `kind` is 0 where censored; `kept` None means everybody; arms of those left out mean nothing."""

    time: np.ndarray
    kind: np.ndarray
    arm: np.ndarray | None
    entry: np.ndarray | None
    stratum: np.ndarray | None
    kept: np.ndarray | None
    arms: int
    kinds: int
    strata: int
    missing: np.ndarray

    def members(self, arm: int) -> np.ndarray:
        """Who of the kept subjects is of this arm, (b, n)."""
        everyone = np.ones(self.time.shape, bool) if self.kept is None else self.kept
        return everyone if self.arm is None else everyone & (self.arm == arm)

    def last_day(self) -> np.ndarray:
        """The longest follow-up of each arm, (arms, b); 0 where it has nobody."""
        who = (self.members(arm) for arm in range(self.arms))
        return np.stack([np.where(one, self.time, 0.0).max(-1, initial=0.0) for one in who])

    def under_observation(self, day: float) -> np.ndarray:
        """How many of each arm are at risk on a day, (arms, b)."""
        here = self.time >= day
        if self.entry is not None:
            here = here & (self.entry < day)
        return np.stack([(self.members(arm) & here).sum(-1) for arm in range(self.arms)])


class ArmCounts(NamedTuple):
    """At risk and events on each rung (distinct event time) of b trials and S strata; unused rungs are zero, at infinity.

    `times` (b, S, M), `at_risk` (arms, b, S, M), `events` (kinds, arms, b, S, M); `n` and `censored` (arms, b): all
    subjects, and those on each rung who left without an event where every time was asked for (arms, b, S, M).
    """

    times: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    censored: np.ndarray | None
    n: np.ndarray


def columns(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray | None = None,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    kinds: int = 1,
) -> Columns:
    """The subjects' columns under one batch shape, without copying what all trials share.

    time (..., n) days from the origin, event (..., n) true or a code 1, 2, ... up to `kinds` where the time is an event,
    arm (..., n) whole codes (negative or missing: no arm), entry (..., n) for those observed only from later on, strata
    (..., n) whole codes. Raises ClaimError where shapes do not match.

    >>> columns(np.array([3.0, 5.0]), np.array([1, 0]), np.array([0, 1])).arms
    2
    """
    given = {"time": time, "event": event, "arm": arm, "include": include, "entry": entry, "strata": strata}
    arrays = {name: np.asarray(values) for name, values in given.items() if values is not None}
    try:
        shape = np.broadcast_shapes(*(values.shape for values in arrays.values()))
    except ValueError:
        raise ClaimError(_shapes(arrays)) from None
    if not shape or arrays["time"].ndim == 0:
        raise ClaimError("Time and event need one value per subject, shaped (..., n).")
    if arm is not None:
        arrays["arm"] = whole(arrays["arm"], "Arms and strata")
    levels = 1
    if strata is not None:
        arrays["strata"], levels = _dense(whole(arrays["strata"], "Arms and strata"))
    if entry is not None:
        arrays["entry"] = arrays["entry"].astype(float, copy=False)
    arrays["time"] = arrays["time"].astype(float, copy=False)
    flat = {name: _rows(values, shape) for name, values in arrays.items()}
    return Columns(
        flat["time"],
        flat["event"],
        flat.get("arm"),
        flat.get("include"),
        flat.get("entry"),
        flat.get("strata"),
        1 if arm is None else max(int(arrays["arm"].max(initial=0)) + 1, 2),
        kinds,
        levels,
        shape[:-1],
    )


def contrast_arms(arm: np.ndarray, contrast: tuple[int, int]) -> np.ndarray:
    """Arm codes as 1 (active), 0 (control) and -1 (neither); raises ClaimError where the contrast is not two arms."""
    active, control = two_arms(contrast)
    arm = np.asarray(arm)
    return np.where(arm == active, 1, np.where(arm == control, 0, -1))


def over_trials(
    evaluate: Callable[[Subjects], tuple[np.ndarray, ...]], given: Columns, *, at_once: bool = False
) -> list[np.ndarray]:
    """What `evaluate` says of each part of the trials (arrays with trials first), joined and shaped like the batch."""
    parts = [evaluate(part) for part in _parts(given, at_once)]
    joined = [np.concatenate(fields) if len(parts) > 1 else fields[0] for fields in zip(*parts, strict=True)]
    return [field.reshape((*given.batch, *field.shape[1:])) for field in joined]


def missing_caution(subjects: Subjects) -> np.ndarray:
    return flag(subjects.missing, Caution.MISSING)


class Rungs(NamedTuple):
    """The marked days: row and day of each, its place among rows of `longest` rungs, and the grid (rows, arms, days)."""

    row: np.ndarray
    day: np.ndarray
    slot: np.ndarray
    longest: int
    grid: tuple[int, int, int]

    def pick(self, flat: np.ndarray, back: int = 0) -> np.ndarray:
        """Flat counts over the grid to rungs (arms, rows, longest); `back` days earlier, zero before the first."""
        rows, arms, days = self.grid
        at = self.row * (arms * days) + self.day - back
        out = np.zeros((arms, rows * self.longest), np.int64)
        for arm in range(arms):
            found = flat.take(at + arm * days, mode="clip")
            out[arm, self.slot] = np.where(self.day >= back, found, 0) if back else found
        return out.reshape(arms, rows, self.longest)


def count(subjects: Subjects, *, every_time: bool = False) -> ArmCounts:
    """At risk and events on the rungs of each trial and stratum: the distinct event times, or every time.

    A subject is at risk after entry, up to and including the own time; one censored on a day was still at risk then.

    >>> part = next(_parts(columns(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1])), True))
    >>> found = count(part)
    >>> found.times[0, 0].tolist(), found.at_risk[0, 0, 0].tolist(), found.events[0, 0, 0, 0].tolist()
    ([3.0, 5.0, 8.0], [4, 3, 1], [1, 1, 1])
    """
    day, entry_day, days, value = _days(subjects)
    trials, arms, kinds, strata = len(day), subjects.arms, subjects.kinds, subjects.strata
    grid, group, kept = (trials * strata, arms, days), _group(subjects), subjects.kept
    cell = day + group * days
    happened = subjects.kind > 0 if kept is None else (subjects.kind > 0) & kept
    leaving, at_event = cell.ravel() if kept is None else cell[kept], cell[happened]
    rungs = _rungs(leaving if every_time else at_event, grid)
    gone = _running(leaving, grid)
    n = gone.reshape(grid)[..., -1]
    gone_before = rungs.pick(gone, back=1)
    if entry_day is None:
        entered = np.broadcast_to(n.T[..., None], gone_before.shape)
    else:
        entry_cell = entry_day + group * days
        entered = rungs.pick(_running(entry_cell.ravel() if kept is None else entry_cell[kept], grid), back=1)
    if kinds > 1:
        at_event = at_event + (subjects.kind[happened] - 1) * math.prod(grid)
    of_kind = np.bincount(at_event, minlength=kinds * math.prod(grid)).reshape(kinds, -1)
    events = np.stack([rungs.pick(flat) for flat in of_kind]) if kinds > 1 else rungs.pick(of_kind[0])[None]
    times = np.full(grid[0] * rungs.longest, np.inf)
    times[rungs.slot] = value[rungs.row // strata if len(value) > 1 else 0, rungs.day]
    shape = (trials, strata, rungs.longest)
    times = times.reshape(shape)
    at_risk = np.where(times < np.inf, (entered - gone_before).reshape(arms, *shape), 0)
    censored = rungs.pick(gone) - gone_before - events.sum(0) if every_time else None
    return ArmCounts(
        times,
        at_risk,
        events.reshape(kinds, arms, *shape),
        None if censored is None else censored.reshape(arms, *shape),
        n.reshape(trials, strata, arms).sum(1).T,
    )


def _running(cell: np.ndarray, grid: tuple[int, int, int]) -> np.ndarray:
    """Subjects in each cell of the grid, summed along its days; flat."""
    counted = np.bincount(cell, minlength=math.prod(grid))
    along = counted.reshape(grid)
    np.cumsum(along, -1, out=along)
    return counted


def _rungs(cell: np.ndarray, grid: tuple[int, int, int]) -> Rungs:
    """The days of each row on which any arm has one of these cells."""
    rows, arms, days = grid
    marked = np.zeros(grid, bool)
    marked.reshape(-1)[cell] = True
    anyone = marked[:, 0]
    for arm in range(1, arms):
        anyone = anyone | marked[:, arm]
    row, day = np.divmod(np.flatnonzero(anyone), days)
    sizes = np.bincount(row, minlength=rows)
    longest = int(sizes.max(initial=0))
    # the k-th rung of a row has slot row x longest + k
    start = np.arange(rows) * longest - (np.cumsum(sizes) - sizes)
    return Rungs(row, day, np.arange(len(row)) + np.repeat(start, sizes), longest, grid)


def _parts(given: Columns, at_once: bool) -> Iterator[Subjects]:
    trials, n = given.time.shape
    highest = float(given.time.max(initial=0.0))
    days = highest + 1 if 0 <= highest < DAYS_PER_SUBJECT * n else n
    size = AT_A_TIME // max(n, int(days) * given.strata * given.arms * given.kinds, 1)
    size = trials if at_once else max(size, 1)
    for start in range(0, max(trials, 1), max(size, 1)):
        yield _cleaned(given, slice(start, start + size))


def _cleaned(given: Columns, rows: slice) -> Subjects:
    """These trials, with who is kept: included, of an arm, with a time of zero or more after entry, and an event known."""
    time, event, arm, include, entry, stratum = (None if field is None else field[rows] for field in given[:6])
    assert time is not None and event is not None
    asked = _both(
        None if include is None else include > 0, None if arm is None or arm.min(initial=0) >= 0 else arm >= 0
    )
    present = None
    if not (time.min(initial=0.0) >= 0 and time.max(initial=0.0) < np.inf):
        present = np.isfinite(time) & (time >= 0)
    if event.dtype.kind == "f" and not np.isfinite(event).all():
        present = _both(present, np.isfinite(event))
    if stratum is not None and stratum.min(initial=0) < 0:
        present = _both(present, stratum >= 0)
    if entry is not None:
        present = _both(present, entry < time)
    kept, missing = _both(asked, present), np.zeros(len(time), bool)
    if present is not None:
        missing = (~present if asked is None else asked & ~present).any(-1)
        time = np.where(present, time, 0.0)
    return Subjects(time, _kinds(event, given.kinds), arm, entry, stratum, kept, *given[6:9], missing)


def _kinds(event: np.ndarray, kinds: int) -> np.ndarray:
    """Which kind of event, 0 for none: true or false where there is one kind, else whole codes."""
    if kinds == 1:
        return event if event.dtype == bool else event > 0
    return np.where((event >= 1) & (event <= kinds), event, 0).astype(np.int64)


def _both(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return one if other is None else other if one is None else one & other


def _group(subjects: Subjects) -> np.ndarray:
    """A number for each trial, stratum and arm: (b, n), or (b, 1) where there is nothing to tell apart."""
    group = np.arange(len(subjects.time))[:, None] * subjects.strata
    if subjects.stratum is not None:
        group = group + subjects.stratum
    return group if subjects.arm is None else group * subjects.arms + subjects.arm


def _days(subjects: Subjects) -> tuple[np.ndarray, np.ndarray | None, int, np.ndarray]:
    """Each time (and entry) as a rising whole number, how many numbers, and the time that each stands for, (b or 1, G).

    With late entry the grid has one more number below the earliest time, for those who entered before it.
    """
    time, entry = subjects.time, subjects.entry
    n = time.shape[-1]
    if not time.size:
        return (
            np.zeros(time.shape, np.int64),
            None if entry is None else np.zeros(time.shape, np.int64),
            1,
            np.zeros((1, 1)),
        )
    lowest, highest = float(time.min()), float(time.max())
    spread = highest - lowest
    if entry is not None:
        entry = np.clip(np.where(np.isnan(entry), 0.0, entry), lowest - 1, highest)
    if spread < DAYS_PER_SUBJECT * n * (1 if entry is None else 2):
        day = time.astype(np.int64)
        if (day == time).all() and (entry is None or (np.floor(entry) == entry).all()):
            first = int(lowest) - (entry is not None)
            if first:
                day -= first
            width = int(highest) - first + 1
            entered = None if entry is None else (entry - first).astype(np.int64)
            return day, entered, width, first + np.arange(width, dtype=float)[None]
    both = time if entry is None else np.concatenate([time, entry], -1)
    group, value = _ranked(both)
    return group[:, :n], None if entry is None else group[:, n:], value.shape[-1], value


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each distinct value of a trial, rising with the value (b, k), and the value of each number (b, k)."""
    order = np.argsort(values, -1)
    ranked = np.take_along_axis(values, order, -1)
    number = np.zeros(values.shape, np.int64)
    np.cumsum(ranked[:, 1:] != ranked[:, :-1], -1, out=number[:, 1:])
    group, value = np.empty(values.shape, np.int64), np.full(values.shape, np.inf)
    np.put_along_axis(group, order, number, -1)
    np.put_along_axis(value, number, ranked, -1)
    return group, value


def _rows(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The column as (trials, n); what all trials share stays one row, seen from each."""
    trials = int(np.prod(shape[:-1]))
    if values.ndim <= 1 or all(size == 1 for size in values.shape[:-1]):
        return np.broadcast_to(values.reshape(-1) if values.ndim else values, (trials, shape[-1]))
    return np.broadcast_to(values, shape).reshape(trials, shape[-1])


def _dense(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes renumbered 0, 1, 2, ... (a missing one stays -1), and how many there are."""
    levels = np.unique(codes)
    levels = levels[levels >= 0]
    return np.where(codes >= 0, np.searchsorted(levels, codes), -1), max(len(levels), 1)


def _shapes(arrays: dict[str, np.ndarray]) -> str:
    named = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
    return f"These columns do not fit together: {named}; each needs the same trials and subjects."

"""Who is at risk when: a ladder of distinct times for each trial, and each subject's place on it.

Trials record whole days, so subjects are counted on a ladder of distinct times, and every statistic of survival is a
histogram and a cumulative sum over its rungs: no loop over trials. A subject is at risk on the rungs after entry, up to
and including the subject's own time; a subject censored on a day was still at risk that day. Where times are whole and
days are few, the ladder is a day grid and nothing is sorted; otherwise times are ranked. Ties are exact equality.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from quell.analysis.armcounts import DAYS_PER_SUBJECT
from quell.analysis.claim import Caution, ClaimError, flag


class RiskSets(NamedTuple):
    """Who is at risk when: B trials flattened to one axis, S strata, M rungs (distinct times; unused rungs at infinity).

    `time` (B, n) holds the subjects' own times. `last` counts the rungs at or before a subject's time, `first` those at or
    before entry, so that rung j (from 0) finds the subject at risk where first <= j < last, and an event falls on rung
    last - 1.
    """

    times: np.ndarray
    time: np.ndarray
    last: np.ndarray
    first: np.ndarray | None
    event: np.ndarray
    kept: np.ndarray
    stratum: np.ndarray
    batch: tuple[int, ...]
    warnings: np.ndarray

    def at_risk(self, weight: np.ndarray) -> np.ndarray:
        """Sum of a weight (B, n) over the subjects at risk on each rung: (B, S, M)."""
        weight = np.where(self.kept, weight, 0.0)
        above = self._histogram(self.last, weight)
        if self.first is not None:
            above = above - self._histogram(self.first, weight)
        # summed from the last rung down, so that nothing at risk is exactly zero; a copy, because strides are slow
        return np.cumsum(np.ascontiguousarray(above[..., :0:-1]), -1)[..., ::-1]

    def at_event(self, weight: np.ndarray, event: np.ndarray | None = None) -> np.ndarray:
        """Sum of a weight (B, n) over the subjects whose event falls on each rung: (B, S, M)."""
        event = self.event if event is None else event
        return self._histogram(np.where(event, self.last, 0), np.where(event, weight, 0.0))[..., 1:]

    def _histogram(self, rung: np.ndarray, weight: np.ndarray) -> np.ndarray:
        trials, strata, rungs = self.times.shape
        row = np.arange(trials)[:, None] * strata
        cell = (row if strata == 1 else row + self.stratum) * (rungs + 1) + rung
        counts = np.bincount(cell.ravel(), np.broadcast_to(weight, cell.shape).ravel(), trials * strata * (rungs + 1))
        return counts.reshape(trials, strata, rungs + 1)


def risk_sets(
    time: np.ndarray,
    event: np.ndarray,
    *,
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    every_time: bool = False,
) -> RiskSets:
    """Ladder of the distinct event times (or every time) of each trial and stratum, with each subject's place on it.

    time (..., n) in days from the origin; event (..., n) true where the time is an event; entry (..., n) for subjects
    who come under observation later; strata (..., n) whole codes. Subjects with a missing or negative time, or an entry
    not before it, are left out and a caution says so. Raises ClaimError where shapes do not match.

    >>> sets = risk_sets(np.array([3.0, 5.0, 5.0, 8.0]), np.array([1, 0, 1, 1]))
    >>> sets.times[0, 0].tolist(), sets.at_risk(np.ones((1, 4)))[0, 0].tolist()
    ([3.0, 5.0, 8.0], [4.0, 3.0, 1.0])
    """
    time, happened, asked, start, stratum = _aligned(time, event, include, entry, strata)
    batch, n = time.shape[:-1], time.shape[-1]
    present = np.isfinite(time) & (time >= 0) & np.isfinite(happened) & (stratum >= 0)
    if start is not None:
        present = present & (start < time)
    rows = (math.prod(batch), n)
    kept = (asked & present).reshape(rows)
    occurred = kept & (happened.reshape(rows) > 0)
    time, stratum = time.reshape(rows), np.where(kept, stratum.reshape(rows), 0)
    values = time if start is None else np.concatenate([time, start.reshape(rows)], -1)
    marks = kept if every_time else occurred
    if strata is None or not stratum.size:
        codes, ladders = np.zeros(1, int), [_ladder(values, kept, marks)]
    else:
        codes = np.unique(stratum)
        ladders = [_ladder(values, kept & (stratum == code), marks) for code in codes]
    rungs = max(times.shape[-1] for _, times in ladders)
    place = ladders[0][0] if len(ladders) == 1 else np.sum([place for place, _ in ladders], 0)
    times = [np.pad(part, ((0, 0), (0, rungs - part.shape[-1])), constant_values=np.inf) for _, part in ladders]
    return RiskSets(
        np.stack(times, 1),
        time,
        place[:, :n],
        None if start is None else place[:, n:],
        occurred,
        kept,
        stratum if len(codes) == 1 and codes[0] == 0 else np.searchsorted(codes, stratum),
        batch,
        flag((asked & ~present).any(-1), Caution.MISSING).reshape(batch),
    )


def _aligned(
    time: np.ndarray,
    event: np.ndarray,
    include: np.ndarray | None,
    entry: np.ndarray | None,
    strata: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """The same batch shape for all, with event as 0/1 floats and strata as whole codes."""
    given = (
        time,
        event,
        True if include is None else include,
        0 if entry is None else entry,
        0 if strata is None else strata,
    )
    try:
        days, happened, asked, start, stratum = np.broadcast_arrays(*(np.asarray(values, float) for values in given))
    except ValueError:
        shapes = ", ".join(str(np.shape(values)) for values in given)
        raise ClaimError(
            f"Time, event, include, entry and strata have shapes {shapes}, which do not fit together; each needs the "
            "same trials and subjects."
        ) from None
    if days.ndim == 0:
        raise ClaimError("Time and event need one value per subject, shaped (..., n).")
    codes = np.where(np.isfinite(stratum), stratum, -1).astype(int)
    return days, happened, asked > 0, None if entry is None else start, codes


def _ladder(values: np.ndarray, kept: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rungs at or before each value (B, k), zero where not kept; and the times of the rungs (B, M)."""
    trials, n = kept.shape
    valid = kept if values.shape[-1] == n else np.concatenate([kept, kept], -1)
    group, group_time = _groups(values, valid)
    size = group_time.shape[-1]
    if not size:
        return np.zeros(values.shape, int), np.full((trials, 0), np.inf)
    cell = group + np.arange(trials)[:, None] * size
    marked = np.zeros(trials * size, bool)
    marked[cell[:, :n][kept & marks]] = True
    at = np.flatnonzero(marked)
    rung = np.cumsum(marked.reshape(trials, size), -1)
    times = np.full((trials, int(rung[:, -1].max(initial=0))), np.inf)
    trial, place = np.divmod(at, size)
    times[trial, rung.take(at) - 1] = group_time[trial, place]
    return np.where(valid, rung.take(cell), 0), times


def _groups(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each distinct value of a trial, rising with the value (B, k); and the value of each number (B, G)."""
    values = np.where(valid, values, 0.0)
    trials, k = values.shape
    if not values.size:
        return np.zeros(values.shape, int), np.zeros((trials, 0))
    lowest, highest = values.min(), values.max()
    if highest - lowest < DAYS_PER_SUBJECT * k and np.all(values == np.floor(values)):
        days = lowest + np.arange(int(highest - lowest) + 1)
        return (values - lowest).astype(np.int64), np.broadcast_to(days, (trials, len(days)))
    order = np.argsort(values, -1)
    ranked = np.take_along_axis(values, order, -1)
    number = np.concatenate([np.zeros((trials, 1), int), np.cumsum(ranked[:, 1:] != ranked[:, :-1], -1)], -1)
    group, group_time = np.empty((trials, k), np.int64), np.full((trials, k), np.inf)
    np.put_along_axis(group, order, number, -1)
    np.put_along_axis(group_time, number, ranked, -1)
    return group, group_time

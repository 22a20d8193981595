"""Who had the event in which arm: the counts that comparisons of proportions need, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, flag

Cells = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Tally(NamedTuple):
    """Events and patients in the active and the control arm, each shaped (...) like the batch."""

    events_active: np.ndarray
    n_active: np.ndarray
    events_control: np.ndarray
    n_control: np.ndarray
    warnings: np.ndarray | int = 0

    @property
    def n(self) -> np.ndarray:
        return np.asarray(self.n_active) + np.asarray(self.n_control)


def tally(
    happened: np.ndarray, arm: np.ndarray, *, contrast: tuple[int, int] = (1, 0), include: np.ndarray | None = None
) -> Tally:
    """Count events and patients in the two arms of the contrast (active, control).

    happened (..., n) true, false or NaN where unknown (left out, with a caution); arm (..., n) whole codes; include
    (..., n).

    >>> tally(np.array([1, 0, 0, 1]), np.array([1, 1, 0, 0]))[:4]
    (array(1), array(2), array(1), array(2))
    """
    happened, arm = np.broadcast_arrays(np.asarray(happened, float), np.asarray(arm))
    asked = (arm == contrast[0]) | (arm == contrast[1])
    asked = asked if include is None else asked & (np.asarray(include) > 0)
    known = asked & np.isfinite(happened)
    active, control = (known & (arm == code) for code in contrast)
    events = happened > 0
    return Tally(
        np.asarray((active & events).sum(-1)),
        np.asarray(active.sum(-1)),
        np.asarray((control & events).sum(-1)),
        np.asarray(control.sum(-1)),
        flag((asked & ~known).any(-1), Caution.MISSING),
    )


def stratified_tally(
    happened: np.ndarray,
    arm: np.ndarray,
    strata: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
) -> Tally:
    """The same counts in every stratum: fields (..., strata), codes 0 to the largest in the data.

    strata (..., n) whole codes; patients whose stratum is unknown (negative, NaN) are left out, with a caution.

    >>> stratified_tally(np.array([1, 0, 0, 1]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]))[:2]
    (array([1, 0]), array([1, 1]))
    """
    stratum = np.asarray(strata)
    stratum = np.where(np.isfinite(stratum) & (stratum >= 0), stratum, -1).astype(int)
    happened = np.where(stratum >= 0, np.asarray(happened, float), np.nan)
    kept = stratum >= 0 if include is None else (np.asarray(include) > 0) & (stratum >= 0)
    parts = [
        tally(happened, arm, contrast=contrast, include=kept & (stratum == code))
        for code in range(int(stratum.max(initial=0)) + 1)
    ]
    whole = tally(happened, arm, contrast=contrast, include=include)
    fields = {name: np.stack([np.asarray(getattr(part, name)) for part in parts], -1) for name in Tally._fields[:4]}
    return Tally(**fields, warnings=whole.warnings)


def checked(events: Any, n: Any) -> tuple[np.ndarray, np.ndarray]:
    """Counts as floats; raises ClaimError where they are impossible."""
    x, size = np.broadcast_arrays(np.asarray(events, float), np.asarray(n, float))
    if not np.all((x >= 0) & (x <= size) & (x == np.floor(x)) & (size == np.floor(size))):
        raise ClaimError(
            "Counts must be whole, and events between 0 and the number of patients; check which is which: "
            "events first, then patients."
        )
    return x, size


def cells_of(counts: Tally) -> Cells:
    """Events and patients (active, then control) as float arrays of one shape; impossible counts raise ClaimError."""
    x1, n1 = checked(counts.events_active, counts.n_active)
    x0, n0 = checked(counts.events_control, counts.n_control)
    x1, n1, x0, n0 = np.broadcast_arrays(x1, n1, x0, n0)
    return x1, n1, x0, n0


def distinct(cells: Cells) -> tuple[Cells, np.ndarray]:
    """The different tables of a batch, each (k,), and for each trial which one it is: trials repeat small tables.

    >>> tables, which = distinct((np.array([1.0, 2.0, 1.0]), np.full(3, 5.0), np.zeros(3), np.full(3, 5.0)))
    >>> tables[0].tolist(), which.tolist()
    ([1.0, 2.0], [0, 1, 0])
    """
    shape = np.shape(cells[0])
    flat = [np.ravel(cell).astype(np.int64) for cell in cells]
    key = np.zeros(flat[0].shape, np.int64)
    spans = [int(part.max(initial=0)) + 1 for part in flat]
    if np.prod([float(span) for span in spans]) > 2**62:
        return (tuple(np.ravel(cell) for cell in cells)), np.arange(flat[0].size).reshape(shape)  # type: ignore[return-value]
    for part, span in zip(flat, spans, strict=True):
        key = key * span + part
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    x1, n1, x0, n0 = (part[first].astype(float) for part in flat)
    return (x1, n1, x0, n0), which.reshape(shape)


def doubts(counts: Tally) -> np.ndarray:
    """The cautions of a comparison of two arms: empty, without events, or few."""
    x1, n1, x0, n0 = cells_of(counts)
    empty, events = (n1 == 0) | (n0 == 0), x1 + x0
    lone = ((x1 == 0) | (x0 == 0)) & (events > 0)
    warnings = np.asarray(counts.warnings) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = (
        warnings | flag(~empty & lone, Caution.ARM_WITHOUT_EVENTS) | flag(~empty & (events == 0), Caution.NO_EVENTS)
    )
    return warnings | flag(~empty & (events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)


def compared(counts: Tally, numbers: tuple[np.ndarray, ...], p: np.ndarray, level: float) -> Estimate:
    """An estimate, se, lower, upper, statistic and p of two arms as an Estimate: nothing where an arm is empty."""
    _, n1, _, n0 = cells_of(counts)
    empty = (n1 == 0) | (n0 == 0)
    estimate, se, lower, upper, statistic, p = (np.where(empty, np.nan, value) for value in (*numbers, p))
    n, df = (n1 + n0).astype(int), np.full(p.shape, np.inf)
    return Estimate(estimate, se, lower, upper, statistic, df, p, n, np.broadcast_to(doubts(counts), p.shape), level)

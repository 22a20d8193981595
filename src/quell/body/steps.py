"""The time mesh that every arm of a protocol shares: fine after a dose, coarser later, coarse in follow-up."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from quell.body.parameters import load


class Step(NamedTuple):
    """One step of the slow organs: when, how long, which dose (-1: none) enters at which of its substeps."""

    begin: float
    length: float
    dose: int
    enter: int
    substeps: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Steps in time: hashable, shared by all arms. ``mesh`` makes one."""

    dose_days: tuple[int, ...]
    observe_days: tuple[int, ...]
    until_day: int
    steps: tuple[Step, ...]


# The grading of the mesh, chosen by measurement (benchmarks/lives.py): days after a dose -> (first step, growth, longest)
GRADING = ((1, (0.003, 1.18, 0.018)), (2, (0.022, 1.06, 0.06)), (3, (0.07, 1.2, 0.2)), (4, (0.2, 1.2, 0.25)))
QUIET = (0.34, 1.0, 0.34)
WASHOUT = 9  # days after a dose until nothing of it is left (the slowest absorber keeps a billionth)
LATER = (0.05, 7.0)  # follow-up steps: share of the time since washout, and the longest, days


@functools.cache
def mesh(dose_days: tuple[int, ...], observe_days: tuple[int, ...], until_day: int) -> Mesh:
    """The time mesh of a protocol: fine after a dose, coarser later, coarse in follow-up.

    ``dose_days`` and ``observe_days`` are study days in rising order; readings before study day 1 come from the closed
    form of ``start``. Raises ValueError in a sentence when days are out of order or past ``until_day``.

    >>> mesh((1, 2), (1, 5), 30).until_day
    30
    """
    for what, days in (("dose", dose_days), ("observation", observe_days)):
        if list(days) != sorted(set(days)):
            raise ValueError(f"the {what} days {days} are not in rising order. Sort them and name each once.")
        if days and days[-1] > until_day:
            raise ValueError(f"the {what} on day {days[-1]} is after the end, day {until_day}. Follow for longer.")
    if dose_days and dose_days[0] < 1:
        raise ValueError(f"the dose on day {dose_days[0]} is before study day 1. The first dose day is day 1.")
    if until_day < 1:
        raise ValueError(f"a life until day {until_day} has no time in it. Let it run to day 1 or later.")
    edges = _edges(dose_days, observe_days, until_day)
    return Mesh(
        dose_days,
        observe_days,
        until_day,
        tuple(_step(a, b, dose_days) for a, b in itertools.pairwise(edges)),
    )


def _edges(dose_days: tuple[int, ...], observe_days: tuple[int, ...], until_day: int) -> list[int]:
    """Whole days at which the slow organs step."""
    quiet = (max(dose_days) if dose_days else 0) + WASHOUT
    stops = sorted({day - 1 for day in observe_days if day > 1} | {until_day})
    edges, longest = [0], 1.0
    while edges[-1] < until_day:
        now = edges[-1]
        if now >= quiet:
            longest = min(1 + LATER[0] * (now - quiet), LATER[1])
        stop = next(s for s in stops if s > now)
        edges.append(min(now + int(longest), stop))
    return edges


def _step(begin: int, end: int, dose_days: tuple[int, ...]) -> Step:
    doses = [day - 1 for day in dose_days if day - 1 <= begin]
    since = begin - doses[-1] if doses else WASHOUT
    length = float(end - begin)
    grading = next((grade for until, grade in GRADING if since < until), QUIET)
    if since >= WASHOUT:
        return Step(float(begin), length, -1, 0, ())
    if since > 0:
        return Step(float(begin), length, -1, 0, _graded(length, *grading))
    lag = load().absorption_lag
    return Step(float(begin), length, dose_days.index(begin + 1), 1, (lag, *_graded(length - lag, *grading)))


def _graded(length: float, first: float, growth: float, longest: float) -> tuple[float, ...]:
    """Steps that grow from ``first`` to ``longest`` and fill ``length`` exactly."""
    steps = [first]
    while sum(steps) < length:
        steps.append(min(steps[-1] * growth, longest))
    scale = length / sum(steps)
    return tuple(step * scale for step in steps)


def refine(grid: Mesh, times: int) -> Mesh:
    """The same mesh with every step and substep in ``times`` parts: what is left of the error shows by comparison.

    >>> len(refine(mesh((), (), 30), 2).steps) == 2 * len(mesh((), (), 30).steps)
    True
    """
    steps: list[Step] = []
    for step in grid.steps:
        begin, count = step.begin, len(step.substeps)
        for part in range(times):
            here = tuple(step.substeps[i // times] / times for i in range(part * count, (part + 1) * count))
            enter = step.enter * times - part * count
            dose = step.dose if 0 <= enter < count else -1
            length = sum(here) or step.length / times
            steps.append(Step(begin, length, dose, max(enter, 0), here))
            begin += length
    return dataclasses.replace(grid, steps=tuple(steps))


class Tables(NamedTuple):
    """The mesh as arrays: per step, its start, length, dose and range of substeps; per observation, its range of steps."""

    begin: Any
    length: Any
    dose: Any
    enter: Any
    first: Any
    last: Any
    substeps: Any
    segment_first: Any
    segment_last: Any


@functools.cache
def tables_of(grid: Mesh) -> Tables:
    """The mesh as arrays, for loops that run inside compiled programs."""
    counts = np.array([len(step.substeps) for step in grid.steps])
    last = np.cumsum(counts)
    begin = np.array([step.begin for step in grid.steps])
    stops = [day - 1 - NEAR for day in grid.observe_days if day >= 1]
    ends = np.append(np.searchsorted(begin, stops), len(begin)).astype(np.int64)
    return Tables(
        begin=begin,
        length=np.array([step.length for step in grid.steps]),
        dose=np.array([step.dose for step in grid.steps]),
        enter=last - counts + np.array([step.enter for step in grid.steps]),
        first=last - counts,
        last=last,
        substeps=np.array([length for step in grid.steps for length in step.substeps] or [0.0]),
        segment_first=np.append(0, ends[:-1]),
        segment_last=ends,
    )


NEAR = 1e-6  # days: sums of steps that should meet a whole day may miss it by rounding

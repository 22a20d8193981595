"""The steps that every arm of a protocol shares: fine after a dose, coarser later, coarse in follow-up."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np

from quell.body.parameters import load
from quell.machine import Tape

EMIT, INJECT, SMALL, COAST, LARGE, STRIKE = -1, 0, 1, 2, 3, 4  # the pieces of ``course``, by number


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The calendar of a protocol, and how finely it is stepped through: hashable, shared by all arms."""

    dose_days: tuple[int, ...]
    observe_days: tuple[int, ...]
    until_day: int
    fineness: int = 1  # of every step
    closely: int = 1  # of the small steps, on top

    @property
    def early(self) -> tuple[int, ...]:
        """Observation days before study day 1: read off the closed form of ``start``."""
        return tuple(day for day in self.observe_days if day < 1)


# Grading, chosen by measurement (docs/measured.md). Small steps: on the day of a dose they start at FIRST, double after
# every REPEAT and end at LONGEST[0]; on the days after it they are LONGEST[age]. All in days.
FIRST, REPEAT = 0.003, 2
LONGEST = (0.043, 0.04, 0.0715, 0.25, 0.5, 0.5, 0.5)
WASHOUT = len(LONGEST)  # days after a dose until nothing of it is left (the slowest absorber keeps a billionth)
BUSY, DAILY = 14, 2  # until this day there are so many steps of tissue a day, then one while the drug is there
LATER = (0.06, 14.0)  # follow-up steps: share of the time since washout, and the longest, days


@functools.cache
def mesh(dose_days: tuple[int, ...], observe_days: tuple[int, ...], until_day: int) -> Mesh:
    """The steps of a protocol: fine after a dose, coarser later, coarse in follow-up.

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
    return Mesh(dose_days, observe_days, until_day)


def refine(grid: Mesh, times: int) -> Mesh:
    """The same calendar with every step in ``times`` parts: what is left of the error shows by comparison.

    >>> refine(mesh((), (), 30), 2).fineness
    2
    """
    return dataclasses.replace(grid, fineness=grid.fineness * times)


def closer(grid: Mesh, times: int) -> Mesh:
    """The same calendar with the small steps in ``times`` parts: tissue, and the events in it, keep their steps.

    >>> closer(mesh((), (), 30), 2).closely
    2
    """
    return dataclasses.replace(grid, closely=grid.closely * times)


@dataclasses.dataclass
class Writer:
    """Instructions, one after another, in days."""

    rows: list[tuple[int, float, float, int]] = dataclasses.field(default_factory=list)

    def do(self, piece: int, days: float = 0.0, at: float = 0.0, column: int = -1) -> None:
        self.rows.append((piece, days, at, column))

    def tape(self) -> Tape:
        keys = [round(days, 12) for _, days, _, _ in self.rows]
        lengths = tuple(sorted(set(keys)))
        place = {length: i for i, length in enumerate(lengths)}
        return Tape(
            lengths=lengths,
            piece=np.array([row[0] for row in self.rows], dtype=np.int32),
            level=np.array([place[key] for key in keys], dtype=np.int32),
            argument=np.array([row[2] for row in self.rows], dtype=np.float64),
            column=np.array([row[3] for row in self.rows], dtype=np.int32),
        )


@functools.cache
def tape(grid: Mesh) -> Tape:
    """The calendar as instructions for the machine of ``course``."""
    write = Writer()
    reads = {day - 1 for day in grid.observe_days if day >= 1}
    doses = {day - 1: column for column, day in enumerate(grid.dose_days)}
    for begin, end in itertools.pairwise(_edges(grid)):
        if begin in reads:
            write.do(EMIT)
        since = min((begin - day for day in doses if day <= begin), default=WASHOUT)
        if since >= WASHOUT:
            _long(write, begin, end, grid.fineness)
        else:
            _day(write, begin, since, doses.get(begin, -1), grid)
    if grid.until_day in reads:
        write.do(EMIT)
    return write.tape()


def _edges(grid: Mesh) -> list[int]:
    """Whole days at which the slow organs step."""
    quiet = (max(grid.dose_days) if grid.dose_days else 0) + WASHOUT
    stops = sorted({day - 1 for day in grid.observe_days if day > 1} | {grid.until_day})
    edges, longest = [0], 1.0
    while edges[-1] < grid.until_day:
        now = edges[-1]
        if now >= quiet:
            longest = min(1 + LATER[0] * (now - quiet), LATER[1])
        stop = next(s for s in stops if s > now)
        edges.append(min(now + int(longest), stop))
    return edges


def _long(write: Writer, begin: int, end: int, fineness: int) -> None:
    days = (end - begin) / fineness
    for part in range(fineness):
        write.do(COAST, days)
        write.do(LARGE, days, begin + part * days)
        write.do(STRIKE, days)


def _day(write: Writer, begin: int, since: int, dose: int, grid: Mesh) -> None:
    """One day with drug in the body: small steps to the end of each step of tissue."""
    lag = load().absorption_lag
    small = _graded(lag) if since == 0 else _even(1.0, LONGEST[since])
    edges = _split(small, grid.fineness * grid.closely)
    parts = grid.fineness * (DAILY if begin < BUSY else 1)
    marks = [i / parts for i in range(1, parts + 1)]
    edges = _merged(edges, marks)
    entered, now, reached = since > 0, 0.0, 0
    for edge in edges:
        write.do(SMALL, edge - now)
        now = edge
        if not entered and abs(now - lag) < NEAR:
            write.do(INJECT, column=dose)
            entered = True
        if abs(now - marks[reached]) < NEAR:
            reached, days = reached + 1, 1.0 / parts
            write.do(LARGE, days, begin + now - days)
            write.do(STRIKE, days)


NEAR = 1e-9  # days: edges closer than this are one


def _graded(lag: float) -> list[float]:
    """The small steps of the day of a dose: to the end of the lag, then doubling."""
    steps, days = [lag], FIRST
    while days < LONGEST[0]:
        steps += [days] * REPEAT
        days *= 2
    rest = 0.5 - sum(steps)
    return steps + _even(rest, LONGEST[0]) + _even(0.5, LONGEST[0])


def _even(length: float, longest: float) -> list[float]:
    count = max(math.ceil(length / longest - NEAR), 1)
    return [length / count] * count


def _split(steps: list[float], parts: int) -> list[float]:
    """The ends of the steps, each in so many parts."""
    return list(itertools.accumulate(step / parts for step in steps for _ in range(parts)))


def _merged(edges: list[float], marks: list[float]) -> list[float]:
    """All edges in order; where two nearly meet, the mark."""
    kept = [edge for edge in edges if min(abs(edge - mark) for mark in marks) > NEAR]
    return sorted(kept + marks)


@functools.cache
def dense(dose_days: tuple[int, ...], until_day: int, per_day: int) -> Tape:
    """Instructions that read so many times a day, at even intervals from the reading of study day 1; drug within the day."""
    write, lag = Writer(), load().absorption_lag
    doses = [(day - 1 + lag, column) for column, day in enumerate(dose_days)]
    for i in range(until_day * per_day):
        begin, end = i / per_day, (i + 1) / per_day
        write.do(EMIT)
        now, half = begin, (begin + end) / 2
        for stop in sorted({half, end, *(at for at, _ in doses if begin < at < end)}):
            write.do(SMALL, stop - now)
            now = stop
            for column in [column for at, column in doses if at == stop]:
                write.do(INJECT, column=column)
        write.do(LARGE, end - begin, begin)
        write.do(STRIKE, end - begin)
    return write.tape()

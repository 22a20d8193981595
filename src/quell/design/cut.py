"""When the data are cut: the calendar day of each look, by events, by the calendar, or by people followed up."""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np

from quell.design.course import Course, Game, some
from quell.design.kernels import NEVER, day_of_events
from quell.design.parts import Look


class Cut(Protocol):
    """The calendar day of a look in each of some trials, (rows,)."""

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class ByEvents:
    """When the events that the look waits for have come, at the latest on day ``latest``."""

    latest: int

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        return day_of_events(some(course.people, rows), course.target[rows, look : look + 1], self.latest)[:, 0]


@dataclasses.dataclass(frozen=True)
class ByCalendar:
    """On a fixed day after opening."""

    day: int

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        return np.full(len(rows), self.day)


@dataclasses.dataclass(frozen=True)
class ByPeople:
    """When a share of those planned has been in the trial until the day of the reading."""

    share: float
    day: int
    latest: int

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        entry = course.people.entry[rows]
        wanted = np.ceil(self.share * course.wanted[rows]).astype(int)
        last = np.take_along_axis(entry, np.maximum(wanted - 1, 0)[:, None], -1)[:, 0].astype(np.int64)
        return np.minimum(last + self.day, self.latest)


def cut_of(game: Game, look: Look) -> Cut:
    """The rule for a look; without ``latest`` a look waits until everybody has lived as long as the bank's people do."""
    latest = math.floor(Look(day=look.latest).calendar) if look.latest else NEVER
    horizon = game.design.horizon_days
    if look.clock == "day":
        return Held(ByCalendar(math.floor(look.calendar)), horizon)
    if look.clock == "people":
        return Held(ByPeople(look.people or 1.0, game.design.primary.day, latest), horizon)
    return Held(ByEvents(latest), horizon)


@dataclasses.dataclass(frozen=True)
class Held:
    """A look's own day, but after the look before it, and never later than anybody has lived."""

    usual: Cut
    horizon: int

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        entry = course.people.entry[rows]
        end = np.where(entry < NEVER, entry, 0).max(-1) + self.horizon
        before = course.day[rows, look - 1] if look else np.zeros(len(rows), np.int32)
        return np.maximum(np.minimum(self.usual(course, rows, look), end), before)

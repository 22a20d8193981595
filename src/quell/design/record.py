"""What is read off a course when it has ended: who was taken in, the effect, and tests of further endpoints."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from quell.design.course import GATE, Course, Game, some
from quell.design.secondary import LogRanks
from quell.design.statistic import Data, Statistic


class Record(Protocol):
    """Read off a course that ended on some days, (trials,)."""

    def enrolled(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """People randomised, and how many had been screened when the last of them came, (trials,) each."""
        ...

    def effect(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The estimate and its standard error, (trials,) each; NaN where there is none."""
        ...

    def tests(self, course: Course, rows: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Z of the further endpoints in some trials that ended on these days, (rows, endpoints)."""
        ...


@dataclasses.dataclass(frozen=True)
class Whole:
    """From everybody who might have come."""

    game: Game
    statistic: Statistic

    def enrolled(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        people = taken_in(self.game, course) & (np.floor(course.crowd.arrival) <= end[:, None])
        last = people.shape[1] - 1 - people[:, ::-1].argmax(-1)
        came = people.sum(-1)
        last = np.where(came > 0, last, 0)
        return came, np.take_along_axis(course.screened, last[:, None], -1)[:, 0]

    def effect(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, se = np.full((2, len(course.trial)), np.nan)
        for arm in range(1, len(self.game.design.arms)):
            here = np.flatnonzero((course.arm == arm) & (course.reason != GATE))
            if len(here):
                effect = self.statistic.effect(self._final(course, here, end, arm))
                value[here], se[here] = effect.value, effect.se
        return value, se

    def tests(self, course: Course, rows: np.ndarray, end: np.ndarray) -> np.ndarray:
        return LogRanks(self.game)(course, rows, end)

    def _final(self, course: Course, here: np.ndarray, end: np.ndarray, arm: int) -> Data:
        """What the estimate at the end is made from."""
        people = some(course.people, here)
        if self.game.design.enrich:
            outside = course.subgroup[here, None] & ~course.marked(self.game)[here]
            people = people._replace(arm=np.where(outside, np.int8(-1), people.arm))
        strata = course.period if len(course.period) == 1 else course.period[here]
        return Data(people, end[here], (0, arm), strata if strata.any() else None, course, here)


def taken_in(game: Game, course: Course) -> np.ndarray:
    """Who is randomised if the trial lasts, (trials, n), whatever became of the arm."""
    if game.design.enrich:
        return course.people.arm >= 0
    return np.arange(course.crowd.arm.shape[1]) < course.wanted[:, None]

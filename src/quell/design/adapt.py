"""What changes for the trials that go on after a look: size, population, arms. Each rule takes a course and gives it back."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from scipy import special

from quell import units
from quell.analysis.interim import promising_zone
from quell.design.adaptations import Enrich, Resize, Select, Surrogate
from quell.design.course import FUTILITY, GATE, Course, Game, some, taken
from quell.design.kernels import NEVER, Followed
from quell.design.limits import limits, watch
from quell.design.parts import Primary
from quell.design.recruit import Recruit, reallocated
from quell.design.statistic import Data, Measured

STEPS = 64  # sizes tried between the plan and the most


class Adapt(Protocol):
    """What is done after a look (from 0) with the trials still running."""

    def __call__(self, course: Course, look: int) -> Course: ...


@dataclasses.dataclass(frozen=True)
class Nothing:
    """The trial goes on as planned."""

    def __call__(self, course: Course, look: int) -> Course:
        return course


@dataclasses.dataclass(frozen=True)
class ByRate:
    """People are added so that the events come in time: expected events from the rate of both arms together, blinded.

    With rate h and people who came, or will come at the planned pace, on day a, D(n) = seen + sum of 1 - exp(-h (T - a)) by
    the day T of the finish, those at risk now counting from now.
    """

    game: Game
    rule: Resize

    def __call__(self, course: Course, look: int) -> Course:
        rows = course.running
        if look + 1 != self.rule.look or not len(rows):
            return course
        people, cut = some(course.people, rows), course.day[rows, look].astype(float)
        finish = units.days(self.rule.finish)
        at_risk, seen, exposure = self._so_far(people, cut)
        rate = seen / np.maximum(exposure, 1.0)
        rest = 1 - np.exp(-rate * np.maximum(finish - cut, 0))
        sizes = np.linspace(1.0, self.rule.most, STEPS) * self.game.variant.people
        arrival = course.crowd.arrival[rows]
        later = np.where(arrival > cut[:, None], 1 - np.exp(-rate[:, None] * np.maximum(finish - arrival, 0)), 0.0)
        coming = np.cumsum(later, -1)
        due = seen + at_risk * rest
        last = np.minimum(sizes.astype(int), arrival.shape[1]) - 1
        enough = due[:, None] + coming[:, last] >= self.game.total
        chosen = np.where(enough.any(-1), enough.argmax(-1), len(sizes) - 1)
        wanted = course.wanted.copy()
        wanted[rows] = last[chosen] + 1
        return larger(course, wanted)

    def _so_far(self, people: Followed, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """People at risk at the cut, events, and days lived at risk, (rows,) each."""
        inside = (people.arm >= 0) & (people.entry <= cut[:, None])
        followed = np.where(inside, cut[:, None] - people.entry, 0)
        leaves = np.minimum(np.minimum(people.event, people.lost), followed)
        happened = inside & (people.event <= leaves)
        return (inside & (leaves == followed) & ~happened).sum(-1), happened.sum(-1), leaves.sum(-1)


@dataclasses.dataclass(frozen=True)
class ByVariance:
    """People in proportion to the variance of both arms together, blinded, over the one planned with; never fewer."""

    game: Game
    rule: Resize
    reading: Measured

    def __call__(self, course: Course, look: int) -> Course:
        rows = course.running
        if look + 1 != self.rule.look or not len(rows):
            return course
        data = Data(some(course.people, rows), course.day[rows, look], (0, 1), None, course, rows)
        values = np.where(self.reading.there(data), self.reading.values(data, self.game.design.primary.reading), np.nan)
        factor = np.nanvar(values, axis=-1, ddof=1) / (self.rule.sd or 1.0) ** 2
        wanted = course.wanted.copy()
        wanted[rows] = np.ceil(self.game.variant.people * np.clip(factor, 1.0, self.rule.most)).astype(int)
        return larger(course, wanted)


@dataclasses.dataclass(frozen=True)
class Promising:
    """Events, and people in proportion, are added where the result is promising."""

    game: Game
    rule: Resize

    def __call__(self, course: Course, look: int) -> Course:
        rows, rule = course.running, self.rule
        if look + 1 != rule.look or not len(rows):
            return course
        alpha = float(special.ndtr(-limits_at_end(self.game)))
        at = float(self.game.planned[look])
        z = course.combined[rows, look]
        factor = np.asarray(promising_zone(z, at, zone=rule.zone, power=rule.power, alpha=alpha, most=rule.most), float)
        for later in range(look + 1, course.target.shape[1]):
            course.target[rows, later] = np.ceil(self.game.targets[later] * factor).astype(int)
        if not rule.people:
            return course
        wanted = course.wanted.copy()
        wanted[rows] = np.ceil(self.game.variant.people * factor).astype(int)
        return larger(course, wanted)


def limits_at_end(game: Game) -> float:
    """The planned limit of Z at the last look."""
    return float(limits(watch(game)).upper[-1])


@dataclasses.dataclass(frozen=True)
class Narrow:
    """The trial goes on with everyone, with the subgroup alone, or not at all."""

    game: Game
    rule: Enrich

    def __call__(self, course: Course, look: int) -> Course:
        rows = course.running
        if look + 1 != self.rule.look or not len(rows):
            return course
        z = course.z[rows, look]
        alone = (z[:, 0] < self.rule.everyone) & (z[:, 1] >= self.rule.subgroup)
        course.end(rows[(z[:, 0] < self.rule.everyone) & ~alone], look + 1, FUTILITY)
        course.subgroup[rows[alone]] = True
        return only_marked(course, self.game, look)


def only_marked(course: Course, game: Game, look: int) -> Course:
    """Where the subgroup alone goes on, others who come later are turned away, and the number wanted is filled with it."""
    day = np.where(course.subgroup, course.day[:, look], NEVER)
    turned = (np.floor(course.crowd.arrival) > day[:, None]) & ~course.marked(game)
    arm = np.where(turned, np.int8(-1), course.crowd.arm)
    place = np.cumsum(arm >= 0, -1)
    arm = np.where(place > course.wanted[:, None], np.int8(-1), arm)
    return course._replace(people=course.people._replace(arm=arm))


@dataclasses.dataclass(frozen=True)
class Choose:
    """One active arm goes on with control: the one of the largest Z, or of the best reading; or none, where none is good enough."""

    game: Game
    rule: Select
    usual: Recruit

    def __call__(self, course: Course, look: int) -> Course:
        rows = course.running
        if look + 1 != self.rule.look or not len(rows):
            return course
        course.arm[rows] = 1 + self._merit(course, rows, look).argmax(-1)
        best = course.z[rows, look].max(-1)
        course.end(rows[best < self.rule.least], look + 1, FUTILITY)
        later = np.floor(course.crowd.arrival) > course.day[:, look : look + 1]
        course = reallocated(course._replace(stage=later), self.game, self.usual, later)
        dropped = (course.people.arm > 0) & (course.people.arm != course.arm[:, None])
        return course._replace(people=course.people._replace(arm=np.where(dropped, np.int8(-1), course.people.arm)))

    def _merit(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        """What the arms are ranked by, (rows, active arms)."""
        if self.rule.by == "z":
            return course.z[rows, look]
        asked = Primary(
            reading=self.rule.reading, baseline=self.rule.baseline, day=self.rule.day, better=self.rule.better
        )
        read, people = Measured(self.game, asked), some(course.people, rows)
        arms = range(1, len(self.game.design.arms))
        return np.stack(
            [read(Data(people, course.day[rows, look], (0, arm), None, course, rows)).z for arm in arms], -1
        )


@dataclasses.dataclass(frozen=True)
class Gate:
    """The surrogate of the first people: measured, and where it is a gate, trials that it does not let through end there."""

    game: Game
    rule: Surrogate

    def __call__(self, course: Course) -> Course:
        rule, rows = self.rule, np.arange(len(course.trial))
        first = min(rule.people, course.people.arm.shape[1])
        cut = course.people.entry[:, first - 1].astype(np.int64) + rule.day
        read = Measured(self.game, rule, first)
        data = Data(course.people, cut, (0, 1), None, course, rows)
        effect, found = read.effect(data), read(data)
        course.surrogate[:] = np.stack([effect.value, effect.se], -1)
        if rule.gate is None:
            return course
        shut = special.ndtr(-found.z) > rule.gate
        course.end(rows[shut], 0, GATE)
        course.day[shut, 0] = cut[shut]
        if rule.outcome == "everyone":
            return course
        late = course.people.entry > cut[:, None]
        return course._replace(people=course.people._replace(arm=np.where(late, course.people.arm, np.int8(-1))))


def larger(course: Course, wanted: np.ndarray) -> Course:
    """The course with other numbers of people wanted."""
    return course._replace(wanted=wanted, people=taken(course.people._replace(arm=course.crowd.arm), wanted))


def adapt_of(game: Game, usual: Recruit) -> Adapt:
    """The rule of a design."""
    design = game.design
    if design.resize:
        match design.resize.by:
            case "blinded rate":
                return ByRate(game, design.resize)
            case "blinded variance":
                return ByVariance(game, design.resize, Measured(game, design.primary))
            case _:
                return Promising(game, design.resize)
    if design.enrich:
        return Narrow(game, design.enrich)
    if design.select:
        return Choose(game, design.select, usual)
    return Nothing()

"""The rules of a plain design, at every seam: two arms, a log-rank test of a timed primary, nothing changed on the way.

They say the same of every trial as the general rules, to the bit, without an array of all people: `kernel_plain` goes from
seeds to every look at once, and keeps those who left.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from quell.design import kernels
from quell.design.course import Course, Game, blank
from quell.design.crowd import Crowd
from quell.design.declared import ADAPTATIONS, DEATHS
from quell.design.kernel_chance import purpose_number
from quell.design.kernel_plain import Kept, Plan, World, played
from quell.design.kernel_plain_end import Parts, estimates, further_tests
from quell.design.kernels import NEVER, LogRanks
from quell.design.parts import Look
from quell.design.recruit import coming, draws_of

FIRST, AFTER = "part that comes first", "part {} after another"  # purposes of `components.part_times`


def is_plain(game: Game) -> bool:
    """Whether the plain rules are this design's.

    >>> from quell.design.declared import Design
    >>> from quell.design.scene import game
    >>> is_plain(game(Design.load("ivory-3"), 0, "ratio-0.7", (), 1))
    True
    """
    design, rule = game.design, game.design.allocation
    changed = any(getattr(design, name) for name in (*ADAPTATIONS, "surrogate"))
    by_site = rule.within == "site" and rule.method != "simple" and design.recruitment.sites > 1
    joint = bool(design.secondary and design.secondary.co_primary)
    tested = design.timed and design.test.method == "log-rank" and all(one.clock != "people" for one in design.looks)
    return tested and len(design.arms) == 2 and not (changed or by_site or joint)


# -- recruit -----------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class Recruit:
    """Everybody comes, and all looks are worked out; who goes on is for the judge to say."""

    game: Game
    world: World

    def __call__(self, trial: np.ndarray) -> Course:
        seed, draw = kernels.seeds(self.game.key, trial), draws_of(trial, self.game.scene.draws).astype(np.int32)
        if (self.world.eligible[draw] == 0).any():
            kernels.persons(seed, 0, draw, self.game.scene.eligible)  # says what is wrong
        nobody = np.zeros((0, 0))
        crowd = Crowd(seed, draw, nobody, nobody, nobody, nobody, nobody, nobody)
        return blank(self.game, trial, crowd, 1)._replace(
            kept=played(seed, draw, plan_of(self.game, seed, draw), self.world)
        )


def plan_of(game: Game, seed: np.ndarray, draw: np.ndarray) -> Plan:
    """What the people of some trials come by."""
    design, rule = game.design, game.design.allocation
    unit = sum(design.ratio)
    block = 1 if rule.method == "simple" else rule.block or 2 * unit
    days, gathered = coming(game, seed, draw)
    return Plan(
        n=game.variant.people,
        days=np.ascontiguousarray(days, float),
        gathered=np.ascontiguousarray(gathered, float),
        full=np.asarray(design.ratio, np.int64) * max(block // unit, 1),
        blocks=block != 1,
        loss=np.asarray(design.dropout.rates(design.arms), float),
        events=np.where([one.clock == "day" for one in design.looks], 0, game.targets).astype(np.int64),
        latest=np.array([_latest(one) for one in design.looks], np.int64),
        horizon=design.horizon_days,
    )


def _latest(look: Look) -> int:
    if look.clock == "day":
        return math.floor(look.calendar)
    return math.floor(Look(day=look.latest).calendar) if look.latest else NEVER


def world_of(game: Game) -> World:
    """Who the people of a world are."""
    scene, ratio = game.scene, np.asarray(game.design.ratio, np.float32)
    gathered = np.ascontiguousarray(scene.fates.gathered, np.float32)
    share = ratio / ratio.sum()
    risk = sum(share[arm] * -np.expm1(-gathered[:, 0, arm]).mean(1) for arm in range(2))
    return World(
        knots=np.ascontiguousarray(scene.fates.knots, float),
        gathered=gathered,
        ends=np.array([g > 0 and set(one) <= set(DEATHS) for g, one in enumerate(scene.fates.groups)]),
        risk=np.asarray(risk, float),
        order=np.argsort(~scene.eligible, -1, kind="stable").astype(np.int32),
        eligible=scene.eligible.sum(-1).astype(np.int64),
    )


# -- look --------------------------------------------------------------------------------------------------------------
def kept_of(course: Course) -> Kept:
    """What the kernel kept of a plain course."""
    assert course.kept is not None
    return course.kept


@dataclasses.dataclass(frozen=True)
class Cut:
    """The day worked out."""

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        return kept_of(course).day[rows, look]


@dataclasses.dataclass(frozen=True)
class Compared:
    """The log-rank test worked out."""

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        kept = kept_of(course)
        course.z[rows, look, 0] = course.combined[rows, look] = _z(kept.excess, kept.variance)[rows, look]
        course.information[rows, look, 0] = kept.variance[rows, look]
        course.events[rows, look], course.enrolled[rows, look] = kept.events[rows, look], kept.people[rows, look]


def _z(excess: np.ndarray, variance: np.ndarray) -> np.ndarray:
    nobody = np.zeros((0, 2), np.int64)
    return LogRanks(excess, variance, nobody, nobody).z


# -- at the end --------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, eq=False)
class Record:
    """What is read off a plain course when it has ended."""

    game: Game
    parts: Parts

    def enrolled(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """People randomised, and screened until the last of them, (trials,) each."""
        kept, every, last = kept_of(course), np.arange(len(end)), course.look - 1
        return kept.people[every, last], kept.screened[every, last]

    def effect(self, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cox's log hazard ratio and its standard error, (trials,) each."""
        value, se = estimates(kept_of(course), end)
        return np.where(np.isfinite(value), value, np.nan), se

    def tests(self, course: Course, rows: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Log-rank Z of the further endpoints, (rows, endpoints)."""
        crowd, knots = course.crowd, np.asarray(self.game.scene.parts.knots, float)
        return _z(*further_tests(crowd.seed, crowd.draw, rows, end, kept_of(course), knots, self.parts))


def parts_of(game: Game) -> Parts:
    """The further endpoints as unions of the primary's parts and of the other groups; the primary itself is of its own."""
    scene, rule = game.scene, game.design.secondary
    parts, groups = scene.parts.groups, scene.fates.groups
    kinds, own, other = (*parts, *groups), [], []
    itself = np.arange(len(kinds)) == len(parts)
    for name in rule.endpoints if rule else ():
        causes = game.design.causes(name)
        counts = np.array([one[0] in causes for one in kinds]) & ~itself
        dead = np.array([set(one) <= set(DEATHS) for one in kinds])
        if game.design.endpoints.index(name) == 0:
            counts, dead = itself, dead & (np.arange(len(kinds)) > len(parts))
        own.append(counts)
        other.append(dead & ~counts & ~itself)
    names = [FIRST, *(AFTER.format(g) for g in range(len(parts)))]
    table = np.zeros((0, len(kinds)), bool)
    return Parts(
        np.ascontiguousarray(scene.parts.gathered, np.float32),
        np.array([purpose_number(one) for one in names], np.uint64),
        np.array(own) if own else table,
        np.array(other) if other else table,
    )

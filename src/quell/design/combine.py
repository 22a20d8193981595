"""What is compared with the limits at a look: one statistic, or stages combined by a rule fixed in advance.

Where a trial is changed on what was seen, each stage is tested on its own data and the stages are joined by weights laid
down in the plan, so that the level holds whatever was changed (Bauer and Köhne 1994; Lehmacher and Wassmer 1999). Where
one of several hypotheses is chosen, every intersection with it must be rejected (closed testing, Marcus et al. 1976).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Protocol

import numpy as np
from scipy import special

from quell.analysis.combination import inverse_normal, stage_z, weighted_z
from quell.analysis.dunnett import dunnett
from quell.analysis.normal_maximum import exceedance
from quell.design.course import Course, Game, some, taken, watched
from quell.design.statistic import Data, Statistic

LEAST_P, MOST_P = 1e-16, 1 - 1e-16


class Comparisons(Protocol):
    """Which comparisons a look makes, written into the course's z and information, and what they come to together."""

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None: ...


@dataclasses.dataclass(frozen=True)
class One:
    """The active arm against control, in everyone; stratified by period of allocation. Plain, or by fixed weights."""

    game: Game
    statistic: Statistic
    fixed_weights: bool = False

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        strata = course.period if len(course.period) == 1 else course.period[rows]
        data = Data(
            some(course.people, rows), course.day[rows, look], (0, 1), strata if strata.any() else None, course, rows
        )
        noted(self.statistic, data, course, look, 0)
        course.combined[rows, look] = course.z[rows, look, 0]
        if self.fixed_weights and look:
            course.combined[rows, look] = by_fixed_weights(self.game, course, rows, look)


def by_fixed_weights(game: Game, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
    """The stages' own statistics joined by the planned information of each (Cui, Hung and Wang 1999), (rows,)."""
    own = stages(course, rows, look, 0)
    return weighted_z(own, planned_weights(game, look))[:, -1]


def planned_weights(game: Game, look: int) -> np.ndarray:
    """The square roots of the planned increments of information up to a look, (look + 1,)."""
    return np.sqrt(np.diff(game.planned[: look + 1], prepend=0.0))


def stages(course: Course, rows: np.ndarray, look: int, comparison: int) -> np.ndarray:
    """The stages' own statistics of a comparison, (rows, look + 1); 0 where a stage brought no information."""
    z, information = course.z[rows, : look + 1, comparison], course.information[rows, : look + 1, comparison]
    rising = np.maximum.accumulate(np.nan_to_num(information), -1)
    stirred = np.diff(rising, prepend=0.0) > 1e-9
    steps = np.where(stirred, rising, rising + np.arange(1, look + 2) * 1e-9)
    return np.where(stirred, stage_z(np.nan_to_num(z), steps), 0.0)


def noted(statistic: Statistic, data: Data, course: Course, look: int, comparison: int) -> None:
    """Make a comparison and write down what it says."""
    found, rows = statistic(data), data.rows
    course.z[rows, look, comparison] = found.z
    course.information[rows, look, comparison] = found.information
    if comparison == 0:
        course.events[rows, look] = found.events
        course.enrolled[rows, look] = found.enrolled


def counted(course: Course, rows: np.ndarray, look: int) -> None:
    """Events and people of all arms in play at a look, where the comparisons are of some of them."""
    people, day = some(course.people, rows), course.day[rows, look][:, None]
    inside = (people.arm >= 0) & (people.entry <= day)
    leaves = np.minimum(people.lost, day - people.entry)
    course.events[rows, look] = (inside & (people.event <= leaves)).sum(-1)
    course.enrolled[rows, look] = inside.sum(-1)


@dataclasses.dataclass(frozen=True)
class Arms:
    """Each active arm against control; Dunnett's test of each stage up to the choice, then the chosen arm's alone."""

    game: Game
    statistic: Statistic
    chosen_at: int  # the look, from 0

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        arms = range(1, len(self.game.design.arms))
        for arm in arms:
            here = rows if look <= self.chosen_at else rows[course.arm[rows] == arm]
            if len(here):
                data = Data(some(course.people, here), course.day[here, look], (0, arm), None, course, here)
                noted(self.statistic, data, course, look, arm - 1)
        counted(course, rows, look)
        if look <= self.chosen_at:
            course.arm[rows] = 1 + course.z[rows, look].argmax(-1)
        course.combined[rows, look] = self.closed(course, rows, look)

    def closed(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        """The least combined Z over all intersections that contain the arm carried on, (rows,)."""
        count, weights = len(self.game.design.active), planned_weights(self.game, look)
        own = np.stack([stages(course, rows, look, arm) for arm in range(count)], -1)
        found = np.full(len(rows), np.inf)
        for members in intersections(count):
            p = self.p_values(own, course.arm[rows] - 1, members)
            inside = np.isin(course.arm[rows] - 1, members)
            found = np.where(inside, np.minimum(found, inverse_normal(p, weights)[:, -1]), found)
        return found

    def p_values(self, own: np.ndarray, chosen: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
        """The p of an intersection in each stage, (rows, stages), from the stages' own statistics (rows, stages, arms)."""
        alone = special.ndtr(-np.take_along_axis(own, chosen[:, None, None], -1)[..., 0])
        first = self.chosen_at + 1
        joint = by_dunnett(own[:, :first][..., list(members)], self.game, members)
        return np.clip(np.concatenate([joint, alone[:, first:]], -1), LEAST_P, MOST_P)


def by_dunnett(z: np.ndarray, game: Game, members: tuple[int, ...]) -> np.ndarray:
    """The single-step p of the largest of some arms' statistics, (...), from z (..., arms)."""
    if len(members) == 1:
        return special.ndtr(-z[..., 0])
    ratio = game.design.ratio
    sizes = [ratio[arm + 1] for arm in members]
    return dunnett(z, sizes, ratio[0], alternative="greater", step_down=False).min(-1)


def intersections(count: int) -> list[tuple[int, ...]]:
    """All sets of hypotheses, from 0.

    >>> intersections(2)
    [(0,), (1,), (0, 1)]
    """
    return [some for size in range(1, count + 1) for some in itertools.combinations(range(count), size)]


@dataclasses.dataclass(frozen=True)
class Cohorts(Arms):
    """As `Arms`, where something else than the statistic chose: those who came before and after the choice are two stages.

    Each is followed to the end, and the first one's people of every arm count, chosen or not, so that nothing that told
    how they would do decides what is tested in them (Jenkins, Stone and Jennison 2011). One claim, at the last look.
    """

    share: float = 0.5  # of the information planned to come from the first cohort

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        if look <= self.chosen_at:
            Arms.__call__(self, course, rows, look)
            return
        everyone = some(taken(watched(self.game, course.crowd, 0), course.wanted), rows)
        cut, chosen, arms = course.day[rows, look], course.arm[rows] - 1, len(self.game.design.active)
        later = course.stage[rows]
        first = everyone._replace(arm=np.where(later, np.int8(-1), everyone.arm))
        second = everyone._replace(arm=np.where(later, everyone.arm, np.int8(-1)))
        z = [self.statistic(Data(first, cut, (0, arm), None, course, rows)).z for arm in range(1, arms + 1)]
        after = np.zeros(len(rows))
        for arm in range(arms):
            found = self.statistic(Data(second, cut, (0, arm + 1), None, course, rows))
            after = np.where(chosen == arm, found.z, after)
        self.note(course, rows, look)
        weights, least = np.sqrt([self.share, 1 - self.share]), np.full(len(rows), np.inf)
        for members in intersections(arms):
            joint = by_dunnett(np.stack(z, -1)[:, list(members)], self.game, members)
            both = np.clip(np.stack([joint, special.ndtr(-after)], -1), LEAST_P, MOST_P)
            inside = np.isin(chosen, members)
            least = np.where(inside, np.minimum(least, inverse_normal(both, weights)[:, -1]), least)
        course.combined[rows, look] = least

    def note(self, course: Course, rows: np.ndarray, look: int) -> None:
        """The chosen arm's plain statistic, for the record."""
        for arm in range(1, len(self.game.design.arms)):
            here = rows[course.arm[rows] == arm]
            if len(here):
                data = Data(some(course.people, here), course.day[here, look], (0, arm), None, course, here)
                noted(self.statistic, data, course, look, arm - 1)
        counted(course, rows, look)


@dataclasses.dataclass(frozen=True)
class Populations:
    """Everyone, and the subgroup that may go on alone; after the choice only what was chosen is tested."""

    game: Game
    statistic: Statistic
    chosen_at: int

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        marked, people, cut = course.marked(self.game)[rows], some(course.people, rows), course.day[rows, look]
        noted(self.statistic, Data(people, cut, (0, 1), None, course, rows), course, look, 0)
        inside = people._replace(arm=np.where(marked, people.arm, np.int8(-1)))
        noted(self.statistic, Data(inside, cut, (0, 1), None, course, rows), course, look, 1)
        course.combined[rows, look] = self.closed(course, rows, look)

    def closed(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        """The lesser combined Z of the chosen population's hypothesis and of both together, (rows,)."""
        weights, first = planned_weights(self.game, look), min(look, self.chosen_at) + 1
        own = np.stack([stages(course, rows, look, one) for one in (0, 1)], -1)
        chosen = course.subgroup[rows].astype(int)
        alone = special.ndtr(-np.take_along_axis(own, chosen[:, None, None], -1)[..., 0])
        joint = np.concatenate([self.joint(course, rows, own[:, :first]), alone[:, first:]], -1)
        both = [inverse_normal(np.clip(p, LEAST_P, MOST_P), weights)[:, -1] for p in (alone, joint)]
        return np.minimum(*both)

    def joint(self, course: Course, rows: np.ndarray, own: np.ndarray) -> np.ndarray:
        """The p of the larger statistic; they correlate as the root of the subgroup's share of the information."""
        information = np.diff(course.information[rows, : own.shape[1]], prepend=0.0, axis=1)
        share = np.clip(information[..., 1] / np.maximum(information[..., 0], 1e-9), 0.0, 1.0)
        correlation = np.ones((*share.shape, 2, 2))
        correlation[..., 0, 1] = correlation[..., 1, 0] = np.sqrt(share)
        return exceedance(own.max(-1), correlation, two_sided=False)


def comparisons_of(game: Game, statistic: Statistic) -> tuple[Comparisons, int]:
    """The rule for a design, and how many comparisons it makes."""
    design = game.design
    if design.select:
        at = design.select.look - 1
        if design.select.by == "reading":
            return Cohorts(game, statistic, at, design.select.share), len(design.active)
        return Arms(game, statistic, at), len(design.active)
    if design.enrich:
        return Populations(game, statistic, design.enrich.look - 1), 2
    return One(game, statistic, bool(design.resize and design.resize.by == "promising zone")), 1

"""Whether a trial ends at a look, and why: its statistic against the limits as the looks happened."""

from __future__ import annotations

import dataclasses

import numpy as np

from quell.design.course import EFFICACY, FINAL, FUTILITY, HARM, Course, Game
from quell.design.limits import ROUNDED, Limits, Watch, chance_limits, limits, watch


@dataclasses.dataclass(frozen=True)
class Judge:
    """Success where the statistic reaches the efficacy limit; else harm; else futility; all end at the last look.

    ``fixed``: stages are joined by planned weights, so that the planned limits hold whatever came of the looks.
    """

    game: Game
    plan: Watch
    fixed: bool = False

    def __call__(self, course: Course, rows: np.ndarray, look: int) -> None:
        z, last = course.combined[rows, look], look + 1 == len(self.game.design.looks)
        tested = last or self.game.design.looks[look].efficacy
        upper, lower, harm = self.limits(course, rows, look)
        success = (z >= upper) & tested
        worse = ~success & (z <= harm)
        futile = ~success & ~worse & (z <= lower) & (not last)
        for chosen, reason in ((success, EFFICACY), (worse, HARM), (futile, FUTILITY)):
            course.end(rows[chosen], look + 1, reason)
        if last:
            course.end(rows[~(success | worse)], look + 1, FINAL)

    def limits(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        """Upper, lower and harm limits of each trial at this look, (3, rows)."""
        if self.game.design.efficacy.by == "posterior":
            return self.by_chance(course, rows, look)
        if self.fixed or not self.game.total:
            return np.tile(_at(limits(self.plan), look)[:, None], len(rows))
        fractions = np.round(ROUNDED * course.events[rows, : look + 1] / self.game.total).astype(int)
        patterns, which = np.unique(fractions, axis=0, return_inverse=True)
        found = [_at(limits(self.plan, tuple(one / ROUNDED)), look) for one in patterns]
        return np.array(found).T[:, which.ravel()]

    def by_chance(self, course: Course, rows: np.ndarray, look: int) -> np.ndarray:
        """The limits of a posterior chance at the information that each trial has."""
        usual = _at(limits(self.plan), look)
        rule = self.game.design.efficacy
        asked = dataclasses.replace(rule, chance=(rule.chance[min(look, len(rule.chance) - 1)],))
        information = np.maximum(course.information[rows, look, 0], 1e-9)
        return np.stack([chance_limits(asked, information, len(rows)), *np.tile(usual[1:, None], len(rows))])


def _at(found: Limits, look: int) -> np.ndarray:
    return np.array([found.upper[look], found.lower[look], found.harm[look]])


def judge_of(game: Game) -> Judge:
    """The judge of a design."""
    design = game.design
    joined = design.select or design.enrich or (design.resize and design.resize.by == "promising zone")
    return Judge(game, watch(game), bool(joined))

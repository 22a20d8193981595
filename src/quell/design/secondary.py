"""Further endpoints at the end of a trial: their p, adjusted by the procedure that the design lays down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from quell.analysis import multiple
from quell.analysis.graphical import graph
from quell.design.components import part_times
from quell.design.course import EFFICACY, Course, Game, watched
from quell.design.crowd import Crowd
from quell.design.kernels import logrank
from quell.design.limits import sequential_p, watch

Tests = Callable[[Course, np.ndarray, np.ndarray], np.ndarray]  # course, rows, their ends: Z of each, (rows, endpoints)


def further(game: Game, course: Course, end: np.ndarray, tests: Tests) -> dict[str, np.ndarray]:
    """One column for each further endpoint: its adjusted one-sided p, at most the level where it is claimed too.

    At the look where the trial stopped each is tested with limits of its own of the same kind as the primary's, and its
    sequential p goes into the procedure (Maurer and Bretz 2013). NaN where the primary did not succeed.
    """
    rule = game.design.secondary
    if rule is None:
        return {}
    p = np.full((len(course.trial), len(rule.endpoints)), np.nan)
    rows = np.flatnonzero(course.reason == EFFICACY)
    if len(rows):
        z, found, plan = tests(course, rows, end[rows]), np.ones((len(rows), len(rule.endpoints))), watch(game)
        for look in np.unique(course.look[rows]):
            here = course.look[rows] == look
            found[here] = sequential_p(plan, int(look) - 1, z[here])
        p[rows] = _by_procedure(game, found)
    return {f"p_{name}": p[:, column] for column, name in enumerate(rule.endpoints)}


@dataclasses.dataclass(frozen=True)
class LogRanks:
    """Log-rank tests of the further endpoints, the arm carried on against control."""

    game: Game

    def __call__(self, course: Course, rows: np.ndarray, end: np.ndarray) -> np.ndarray:
        rule, game = self.game.design.secondary, self.game
        assert rule is not None
        crowd = chosen(course.crowd, rows)
        times = part_times(game.scene.parts, crowd, end)
        strata = None if len(course.period) == 1 else course.period[rows]
        z = np.zeros((len(rows), len(rule.endpoints)))
        for column, name in enumerate(rule.endpoints):
            people = watched(game, crowd, game.design.endpoints.index(name), times)
            people = people._replace(arm=course.people.arm[rows])
            for arm in np.unique(course.arm[rows]):
                here = course.arm[rows] == arm
                z[here, column] = logrank(people, end, pair=(0, int(arm)), strata=strata).z[here]
        return z


def chosen(crowd: Crowd, rows: np.ndarray) -> Crowd:
    """The crowd of some trials."""
    return Crowd(
        *(
            part[:, rows] if name == "time" else part if len(part) == 1 else part[rows]
            for name, part in crowd._asdict().items()
        )
    )


def _by_procedure(game: Game, p: np.ndarray) -> np.ndarray:
    """Adjusted p, (rows, endpoints)."""
    rule = game.design.secondary
    assert rule is not None
    if rule.co_primary or rule.procedure == "fixed sequence":
        return p if rule.co_primary else multiple.fixed_sequence(p)
    if rule.procedure == "holm":
        return multiple.holm(p)
    return multiple.graphical(p, graph(rule.weights, rule.transitions))

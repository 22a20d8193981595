"""A chunk of trials under way: who is in them, what was seen at each look, which go on. Rules take it and give it back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.design.components import part_times
from quell.design.crowd import Bank, Crowd, Fates
from quell.design.declared import DEATHS, Design
from quell.design.kernel_plain import Kept
from quell.design.kernels import LONGEST, NEVER, Followed, first, followed
from quell.design.parts import Variant

REASONS = ("", "efficacy", "futility", "harm", "final", "gate")
RUNNING, EFFICACY, FUTILITY, HARM, FINAL, GATE = range(len(REASONS))


class Scene(NamedTuple):
    """What a design is played on: the people of one world, their fates, and the truth."""

    bank: Bank
    fates: Fates  # arms in the design's order; the first group is the primary
    parts: Fates  # the parts of the primary
    draws: np.ndarray  # (used,) draws that trials live in
    eligible: np.ndarray  # (draws, people) bool: who passes the design's limits at entry
    marked: np.ndarray  # (draws, people) bool: who is in the subgroup that an adaptive enrichment may choose
    truth: np.ndarray  # (2, active arms, draws) the true effect in everyone, and in the subgroup
    arms: tuple[int, ...]  # place of the design's arms in the bank


class Game(NamedTuple):
    """A design at one size in one world; every rule may look at it."""

    design: Design
    variant: Variant
    scene: Scene
    key: int

    @property
    def total(self) -> int:
        """The events planned at the last look; 0 where the looks do not go by events."""
        return self.variant.events or self.design.looks[-1].events or 0

    @property
    def targets(self) -> np.ndarray:
        """Events planned at each look, (looks,); 0 for a look that does not go by events."""
        return np.array([one.target(self.total) for one in self.design.looks])

    @property
    def planned(self) -> np.ndarray:
        """Fractions of the last look's information planned at the looks, (looks,)."""
        looks, targets = self.design.looks, self.targets
        if self.total and (targets > 0).all():
            return targets / targets[-1]
        if looks[-1].people:
            return np.array([one.people or 0.0 for one in looks]) / looks[-1].people
        # calendar looks: information planned in proportion to time, as nothing better is known before
        return np.array([one.calendar for one in looks]) / max(looks[-1].calendar, 1.0)


class Course(NamedTuple):
    """A chunk of trials; arrays are (trials, ...), and K looks, C comparisons."""

    trial: np.ndarray  # (T,) numbers of the trials
    crowd: Crowd  # everyone who might come; its arm is what each gets if taken in
    screened: np.ndarray  # (T, n) int32 people screened when each comes in
    people: Followed  # the primary endpoint; arm -1: not taken in
    period: np.ndarray  # (T, n) int16 stratum of the test: the allocation's period
    stage: np.ndarray  # (T, n) bool: came after the arms were chosen
    day: np.ndarray  # (T, K) int32 calendar day of each look; NEVER where it was not held
    events: np.ndarray  # (T, K) int64
    enrolled: np.ndarray  # (T, K) int64
    z: np.ndarray  # (T, K, C) each comparison's statistic on all data so far
    information: np.ndarray  # (T, K, C) its information
    combined: np.ndarray  # (T, K) what the limits are compared with
    target: np.ndarray  # (T, K) events that each look waits for
    wanted: np.ndarray  # (T,) people to take in
    arm: np.ndarray  # (T,) int8 the active arm carried on
    subgroup: np.ndarray  # (T,) bool: only the subgroup goes on
    look: np.ndarray  # (T,) look at which it ended, from 1; 0 at the gate
    reason: np.ndarray  # (T,) int8 place in REASONS; 0 while running
    surrogate: np.ndarray  # (T, 2) difference and its standard error
    kept: Kept | None = None  # of a plain design: in place of people and of a crowd, which are empty

    @property
    def running(self) -> np.ndarray:
        """Numbers of the rows still running."""
        return np.flatnonzero(self.reason == RUNNING)

    def marked(self, game: Game) -> np.ndarray:
        """Who belongs to the subgroup, (T, n)."""
        return game.scene.marked[self.crowd.draw[:, None], self.crowd.person]

    def end(self, rows: np.ndarray, look: int, reason: int) -> None:
        """End some trials at a look."""
        self.look[rows], self.reason[rows] = look, reason


def begun(game: Game, trial: np.ndarray, crowd: Crowd, screened: np.ndarray, comparisons: int) -> Course:
    """A chunk before anything is looked at; the crowd's times are worked out here."""
    crowd = crowd._replace(time=first(game.scene.fates, crowd))
    course = blank(game, trial, crowd, comparisons)
    people, period = taken(watched(game, crowd, 0), course.wanted), np.zeros((1, crowd.arm.shape[1]), np.int16)
    return course._replace(screened=screened, people=people, period=period)


def blank(game: Game, trial: np.ndarray, crowd: Crowd, comparisons: int) -> Course:
    """A chunk of which nothing is known but its crowd."""
    trials, looks = len(trial), len(game.design.looks)
    nothing, nobody = np.full((trials, looks, comparisons), np.nan), np.zeros((trials, 0), np.int32)
    return Course(
        trial=trial,
        crowd=crowd,
        screened=np.zeros((0, 0), np.int32),
        people=Followed(nobody, nobody, nobody, nobody.astype(np.int8)),
        period=np.zeros((1, 0), np.int16),
        stage=np.zeros((1, 1), bool),
        day=np.full((trials, looks), NEVER, np.int32),
        events=np.zeros((trials, looks), np.int64),
        enrolled=np.zeros((trials, looks), np.int64),
        z=nothing,
        information=nothing.copy(),
        combined=nothing[..., 0].copy(),
        target=np.broadcast_to(game.targets, (trials, looks)).copy(),
        wanted=np.full(trials, game.variant.people),
        arm=np.ones(trials, np.int8),
        subgroup=np.zeros(trials, bool),
        look=np.zeros(trials, np.int64),
        reason=np.zeros(trials, np.int8),
        surrogate=np.full((trials, 2), np.nan),
    )


def watched(game: Game, crowd: Crowd, number: int, times: np.ndarray | None = None) -> Followed:
    """The people on whole days for a timed endpoint, by its place; a death that is not part of it ends follow-up.

    ``times`` (parts, trials, n) are those of the primary's parts, needed for every endpoint but the primary itself.
    """
    if not game.design.timed:
        return followed(crowd._replace(time=np.full((1, *crowd.arm.shape), np.inf, np.float32)), [0])
    causes = game.design.causes(game.design.endpoints[number])
    groups = game.scene.fates.groups
    if number == 0:
        own, other = crowd.time[:1], crowd.time[[g for g, one in enumerate(groups) if g and set(one) <= set(DEATHS)]]
    else:
        every = np.concatenate(
            [part_times(game.scene.parts, crowd, LONGEST) if times is None else times, crowd.time[1:]]
        )
        kinds = [*game.scene.parts.groups, *groups[1:]]
        own = every[[g for g, one in enumerate(kinds) if one[0] in causes]]
        other = every[[g for g, one in enumerate(kinds) if one[0] not in causes and set(one) <= set(DEATHS)]]
    lost = np.minimum(crowd.lost, other.min(0)) if len(other) else crowd.lost
    return followed(crowd._replace(time=own, lost=lost), range(len(own)))


def taken(people: Followed, wanted: np.ndarray) -> Followed:
    """Only the first ``wanted`` (trials,) of each trial are taken in."""
    beyond = np.arange(people.arm.shape[1]) >= wanted[:, None]
    return people._replace(arm=np.where(beyond, np.int8(-1), people.arm)) if beyond.any() else people


def some(people: Followed, rows: np.ndarray) -> Followed:
    """The people of some trials."""
    return people if len(rows) == len(people.entry) else Followed(*(part[rows] for part in people))

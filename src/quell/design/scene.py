"""What a design is played on: the people of one world, their fates under the design's arms, and the truth there."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import numpy as np

from quell.design import assumed, bank
from quell.design.course import Game, Scene
from quell.design.crowd import Bank, Fates
from quell.design.declared import Design, DesignError
from quell.design.parts import Criterion, Variant, World
from quell.design.recruit import PER_MONTH
from quell.design.truths import true_effect
from quell.promises import whole_days
from quell.sentences import near

PEOPLE = 4_000  # of a world by assumption
GRID = 200  # days on which the expected course of a trial is worked out
_building = threading.Lock()


def scene(design: Design, variant: int, world: str, paths: Sequence[str], key: int) -> Scene:
    """The scene of a design at one size in one world; built once, kept while it is used. Raises DesignError in a sentence.

    ``paths`` are the shards of the world's bank; none where the world is by assumption.
    """
    with _building:
        return _scene(design, variant, world, tuple(map(str, paths)), key)


@functools.lru_cache(maxsize=6)
def _scene(design: Design, variant: int, name: str, paths: tuple[str, ...], key: int) -> Scene:
    world = design.world(name)
    people, fates = _people(design, world, paths, key)
    arms = tuple(_arm(people, name) for name in design.arms)
    fates = _of_arms(fates, arms)
    parts = _of_arms(bank.fates(people, design.parts), arms) if len(design.endpoints) > 1 else fates
    eligible = np.ones((people.draws, people.people), bool)
    for limit in design.entry:
        eligible &= keeps(people, limit, world.name)
    marked = keeps(people, design.enrich.limit, world.name) if design.enrich else np.zeros(eligible.shape, bool)
    bare = Scene(people, fates, parts, np.arange(people.draws), eligible, marked, np.zeros((2, 1, people.draws)), arms)
    truth = _truth(Game(design, design.variants[variant], bare, key))
    draws = bank.best(truth[0, 0] * _better(design), world.best) if world.best else bare.draws
    return bare._replace(truth=truth, draws=np.asarray(draws))


def _of_arms(fates: Fates, arms: tuple[int, ...]) -> Fates:
    """Fates with the arms in the design's order."""
    if arms == tuple(range(fates.gathered.shape[2])):
        return fates
    return fates._replace(gathered=np.ascontiguousarray(fates.gathered[:, :, list(arms)]))


def _people(design: Design, world: World, paths: tuple[str, ...], key: int) -> tuple[Bank, Fates]:
    if world.assumed:
        causes = design.causes(design.primary.endpoint) if design.timed else ("infarction",)
        found = assumed.bank(
            world.assumed, design.arms, causes=causes, horizon=design.horizon_days, people=PEOPLE, key=key
        )
        return found, bank.fates(found, design.groups)
    dosed = any(dose.quantity.value > 0 for dose in design.plan.arm(design.control).doses)
    return bank.opened(paths, world, design.groups, dosed_control=dosed)


def _arm(people: Bank, name: str) -> int:
    if name not in people.arms:
        raise DesignError(f"nobody in the bank lived under arm '{name}'. {near(name, people.arms)}")
    return people.arms.index(name)


def keeps(people: Bank, limit: Criterion, world: str) -> np.ndarray:
    """Who keeps a limit at entry, (draws, people): on a covariate, or on a reading at baseline."""
    baseline = f"{limit.quantity}, baseline"
    if limit.quantity in people.covariates:
        return np.asarray(limit.limit.allows(people.covariates[limit.quantity]), bool)
    if baseline in people.readings:
        return np.asarray(limit.limit.allows(people.readings[baseline][:, 0]), bool)
    known = [
        *people.covariates,
        *(one.removesuffix(", baseline") for one in people.readings if one.endswith("baseline")),
    ]
    raise DesignError(
        f"'{limit.quantity}' is not known of the people of world '{world}' at entry. {near(limit.quantity, known)} "
        "A world by assumption knows its [[worlds.assumed.markers]] and readings."
    )


def _better(design: Design) -> float:
    """-1 where a larger effect is better, so that the best are the smallest."""
    larger = design.test.method in ("restricted mean", "win ratio") or design.primary.better == "higher"
    return -1.0 if larger else 1.0


def _truth(game: Game) -> np.ndarray:
    """The true effect on the scale of the estimate, (everyone or subgroup, active arms, draws); NaN where it is not known."""
    design, scene = game.design, game.scene
    groups = [scene.eligible] if not design.enrich else [scene.eligible, scene.eligible & scene.marked]
    found = np.full((2, len(design.active), scene.bank.draws), np.nan)
    for number, who in enumerate(groups):
        for arm in range(1, len(design.arms)):
            found[number, arm - 1] = _one_truth(game, arm, who)
    return found


def _one_truth(game: Game, arm: int, who: np.ndarray) -> np.ndarray:
    design, scene = game.design, game.scene
    if design.primary.reading:
        places = (scene.arms[0], scene.arms[arm])
        return true_effect(scene.bank, *places, 1.0, "difference in means", of=design.primary.reading, who=who)
    causes = design.causes(design.primary.endpoint)
    if design.test.method == "win ratio":
        return np.full(scene.bank.draws, np.nan)
    if design.test.method == "restricted mean":
        scale, until, evenly = "difference in restricted mean time", float(whole_days(design.test.until)), 0.0
    else:
        (until, evenly), scale = expected_follow_up(game), "hazard ratio"
    chosen = None if who.all() else who
    return true_effect(scene.fates, 0, arm, until, scale, of=causes, evenly_from=evenly, who=chosen)


def expected_follow_up(game: Game) -> tuple[float, float]:
    """The longest and the shortest follow-up at the end of a trial that comes as expected, in days.

    Recruitment is as declared, and the end is when the mean gathered hazards bring the events planned (or the day of the
    last look). In a draw with another risk the end is another; the hazard ratio of each draw is taken over this follow-up.
    """
    design, fates = game.design, game.scene.fates
    last = design.looks[-1]
    opened = float(design.recruitment.opening_days.mean())
    rate = design.recruitment.sites * design.recruitment.per_site_per_month * PER_MONTH
    taken = opened + game.variant.people / max(rate * float(game.scene.eligible.mean()), 1e-9)
    latest = design.horizon_days if not last.latest else whole_days(last.latest)
    if last.day:
        return last.calendar, max(last.calendar - taken, 0.0)
    hazard = fates.gathered[game.scene.draws, 0].mean((0, 1, 2), dtype=float)
    days = np.linspace(0.0, float(latest), GRID)
    risk = -np.expm1(-np.interp(days, fates.knots, hazard))
    gathered = np.concatenate([[0.0], np.cumsum((risk[1:] + risk[:-1]) / 2 * np.diff(days))])
    # people come evenly until `taken`: the mean of the risk over follow-up from T - taken to T
    begun = np.interp(np.maximum(days - taken, 0), days, gathered)
    events = game.variant.people * (gathered - begun) / taken
    end = float(np.interp(game.total, np.maximum.accumulate(events), days))
    return max(end, 1.0), max(end - taken, 0.0)


def game(design: Design, variant: int, world: str, paths: Sequence[str], key: int) -> Game:
    """A design at one size in one world, ready to be played."""
    chosen: Variant = design.variants[variant]
    return Game(design, chosen, scene(design, variant, world, paths, key), key)

"""Laws of the plain design's own rules: they say of every trial what the general rules say, to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from quell.design import conduct, kernel_plain, kernels, plain, scene
from quell.design.course import Game
from quell.design.crowd import Bank
from quell.design.declared import Design
from quell.design.fates import fates
from quell.design.parts import Allocation, Dropout, Look, Recruitment, Secondary, Variant
from quell.design.worlds import Assumed, Ratio, World

TRIALS = np.arange(40)
SIZE = (Variant(people=400, events=40),)
CAUSES = ("infarction", "stroke", "arrest", "revascularisation", "cardiovascular_death", "other_death")


def design(**changes: object) -> Design:
    """IVORY-3, small, with one world by assumption."""
    said = Assumed(risk=("20 % by 2 years",), ratios=(Ratio(ratio=0.6),), source="assumed")
    usual: dict = {"variants": SIZE, "worlds": (World(name="said", assumed=said),), **changes}
    return Design.load("ivory-3").but(**usual)


def lives(of: Game, draws: int = 3, people: int = 30) -> Game:
    """The game with a bank as lives make it: people of several draws, a hazard and a death of their own, some turned away."""
    rng = np.random.default_rng(5)
    knots = np.append(0.0, np.geomspace(2.0, of.design.horizon_days, 12).round())
    rate = rng.gamma(2.0, 1e-4, (draws, 1, people, 1)) * np.array([1.0, 0.6])[None, :, None, None]
    gathered = (rate * knots**0.9).astype(np.float32)
    prone = rng.gamma(2.0, 0.3, (draws, len(CAUSES), people)).astype(np.float32)
    prone[:, -1] *= 3e-4
    never = np.full((draws, 2, people), np.inf, np.float32)
    first = dict.fromkeys(CAUSES, never)
    bank = Bank(of.design.arms, knots, gathered, 1.5 * gathered, prone, first, never, {}, {}, of.design.horizon_days)
    eligible = rng.random((draws, people)) < 0.7
    new = of.scene._replace(
        bank=bank,
        fates=fates(bank, of.design.groups),
        parts=fates(bank, of.design.parts),
        draws=np.arange(draws),
        eligible=eligible,
        marked=np.zeros_like(eligible),
        truth=np.zeros((2, 1, draws)),
    )
    return of._replace(scene=new)


def both(of: Game) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same trials by the general rules and by the plain ones."""
    assert plain.is_plain(of)
    rules = conduct.general_rules(of), conduct.plain_rules(of)
    general, fast = (conduct.rows(of, one, conduct.play(of, one, TRIALS)) for one in rules)
    return general, fast


CASES = {
    "as declared": {},
    "loss by arm, one by one": {
        "dropout": Dropout(per_year=0.05, by_arm={"placebo": 0.2}),
        "allocation": Allocation(method="simple", within="trial"),
    },
    "two to one, no loss, calendar looks": {
        "dropout": Dropout(),
        "allocation": Allocation(ratio=(1, 2), within="trial"),
        "looks": (Look(day="1.2 years"), Look(day="2 years")),
        "variants": (Variant(people=400, events=200),),
    },
    "few events by the last day": {
        "looks": (Look(fraction=0.5, latest="1 year"), Look(fraction=1.0, latest="2 years")),
        "recruitment": Recruitment(sites=5, per_site_per_month=3.0, source="assumed"),
    },
    "no further endpoint": {"secondary": None},
    "the primary among the further endpoints": {
        "secondary": Secondary(endpoints=("MACE", "death from any cause"), procedure="holm")
    },
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("lived", [False, True])
def test_plain_rules_say_what_the_general_ones_say(case: str, lived: bool) -> None:
    of = scene.game(design(**CASES[case]), 0, "said", (), 3)
    general, fast = both(lives(of) if lived else of)
    assert general["success"].any()
    assert general.equals(fast, null_equal=True)
    assert conduct.written(general) == conduct.written(fast)


def test_a_guess_too_early_changes_nothing() -> None:
    """Where the risk that the end is guessed from is far too high, trials are followed again, to the same looks."""
    of = lives(scene.game(design(), 0, "said", (), 3))
    world, seed = plain.world_of(of), kernels.seeds(1, TRIALS)
    draw = TRIALS % 3
    plan = plain.plan_of(of, seed, draw)
    usual = kernel_plain.played(seed, draw, plan, world)
    for risk in (np.ones_like(world.risk), np.zeros_like(world.risk)):
        other = kernel_plain.played(seed, draw, plan, world._replace(risk=risk))
        for name in ("day", "events", "people", "screened", "excess", "variance"):
            assert (getattr(usual, name) == getattr(other, name)).all()


def test_what_is_not_plain_goes_by_the_general_rules() -> None:
    within = dataclasses.replace(Design.load("ivory-3").allocation, within="site")
    for one in (
        design(allocation=within),
        Design.load("ivory-3-response-adaptive"),
        Design.load("ivory-3-promising-zone"),
    ):
        assert not plain.is_plain(scene.game(one, 0, one.worlds[-1].name, (), 1))

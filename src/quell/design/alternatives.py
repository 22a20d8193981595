"""A design against others on the same trials: one without early looks, further ones; its smallest size; a bigger scan phase.

Trial k has the same people, fate and constants whatever the design, so differences are far surer than the numbers.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from quell import evidence
from quell.design import bank, carried, conduct, search
from quell.design.carried import Cell, Tell, silent
from quell.design.declared import Design
from quell.design.engine import LOCAL, Engine
from quell.design.parts import Look, Variant
from quell.design.verdict import Verdict, compared

PHASES = (40, 60, 100, 200, 400)  # people of a scan phase whose worth is asked
ROUND = 50  # people to which a smallest size is rounded
READING = "TBRmax, day 61"


def fixed(design: Design) -> Design:
    """The same trial looked at once, at the end: what an adaptive one is measured against (ICH E20, draft of 2025).

    >>> [len(one.looks) for one in (Design.load("ivory-3"), fixed(Design.load("ivory-3")))]
    [3, 1]
    """
    last = design.looks[-1]
    end = Look(fraction=1.0, latest=last.latest) if last.fraction else last
    plain = {name: None for name in ("futility", "harm", "resize", "enrich", "respond", "surrogate")}
    return design.but(name=f"{design.name}-fixed", looks=(dataclasses.replace(end, efficacy=True),), **plain)


def middle(design: Design) -> int:
    """The size at which designs are compared: the middle one of those declared."""
    return (len(design.variants) - 1) // 2 if len(design.variants) < 3 else len(design.variants) // 2


def worlds_compared(verdict: Verdict) -> list[str]:
    """The main world, and of those by assumption at the middle size the first with an effect and the first without."""
    design, at = verdict.design, middle(verdict.design)
    tried = [one for one in design.worlds if Cell(one.name, at) in verdict.tables]
    assumed = [one for one in tried if one.assumed and one.name != verdict.main]
    chosen = [next((one for one in assumed if one.null is null), None) for null in (False, True)]
    return [one.name for one in (design.world(verdict.main), *chosen) if one and one in tried]


def against(
    verdict: Verdict,
    others: Sequence[Design],
    folder: pathlib.Path,
    *,
    engine: Engine = LOCAL,
    place: pathlib.Path | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """The design at its middle size against others at theirs, in each world that they share: regret and Pareto front."""
    at, worlds = middle(verdict.design), worlds_compared(verdict)
    found: dict[str, dict[str, pl.DataFrame]] = {
        world: {verdict.design.name: verdict.tables[Cell(world, at)]} for world in worlds
    }
    for other in others:
        known = {one.name for one in other.worlds}
        wanted = [Cell(world, middle(other)) for world in worlds if world in known]
        tables = carried.carry(other, verdict.effort, folder, wanted=wanted, engine=engine, place=place, tell=tell)
        for cell, table in tables.items():
            found[cell.world][other.name] = table
    return {world: compared(tables) for world, tables in found.items() if len(tables) > 1}


def smallest(
    verdict: Verdict, world: str, target: float, *, place: pathlib.Path | None = None, tell: Tell = silent
) -> dict[str, Any]:
    """The fewest people for a chance of success in a world, the events growing in proportion; with its error.

    Between a quarter of the smallest size declared and four times the largest. Raises BadInput for an impossible target.
    """
    design, effort = verdict.design, verdict.effort
    shards = carried.banks(design, effort, worlds=[world], place=place, tell=tell)[world]
    one = design.variants[middle(design)]

    def sized(people: int) -> Design:
        events = None if one.events is None else max(1, round(one.events * people / one.people))
        return design.but(variants=(Variant(people=people, events=events),))

    def evaluate(people: int, begin: int, end: int) -> dict[str, np.ndarray]:
        job = conduct.Job(design=sized(people), world=world, variant=0, key=effort.key, paths=shards)
        table = pl.concat(
            [conduct.trials(job, np.arange(a, min(a + conduct.CHUNK, end))) for a in range(begin, end, conduct.CHUNK)]
        )
        return {name: table[name].to_numpy() for name in ("draw", "success")}

    few, many = (edge([v.people for v in design.variants]) for edge in (min, max))
    between = (max(few // 4 // ROUND * ROUND, ROUND), many * 4 // ROUND * ROUND)
    found = search.smallest(evaluate, target, between, step=ROUND, trials=effort.trials, tell=tell)
    return found._asdict() | {"world": world, "points": [{"n": n, **rate._asdict()} for n, rate in found.points]}


# -- a bigger scan phase -----------------------------------------------------------------------------------------------
def information(verdict: Verdict, place: pathlib.Path | None = None) -> dict[str, Any]:
    """What a scan phase of n people before the trial would be worth: should the trial go on, given what it shows?

    Net benefit of going on in a draw: its chance of success times what a success is worth, less the trial's expected
    cost. What a success is worth is not known; it is set where going on and stopping are equally good without more
    information, which is where information is worth most. The scan's error is that of IVORY's follow-up (E051).
    """
    design = verdict.design
    table = verdict.tables[Cell(verdict.main, middle(design))]
    world = design.world(verdict.main)
    if "cost" not in table.columns or not world.posterior:
        return {}
    shards = carried.banks(design, verdict.effort, worlds=[world.name], place=place)[world.name]
    people = bank.read(shards)
    if READING not in people.readings:
        return {}
    of_draw = table.group_by("draw").agg(pl.col("success").mean(), pl.col("cost").mean()).sort("draw")
    draw, success, cost = (of_draw[name].cast(pl.Float64).to_numpy() for name in ("draw", "success", "cost"))
    effect = bank.true_effect(
        people, design.control, design.active[0], design.horizon_days, "difference in means", of=READING
    )
    worth = float(cost.mean() / success.mean()) if success.mean() > 0 else 0.0
    sd = evidence.figure("E051").value
    found = search.worth_of_surrogate(
        effect[draw.astype(int)], success * worth - cost, PHASES, sd=sd, success=success, key=verdict.effort.key
    )
    return _worth(found, design, worth, sd)


def _worth(found: search.Worth, design: Design, worth: float, sd: float) -> dict[str, Any]:
    told = found._asdict() | {name: getattr(found, name)._asdict() for name in ("now", "perfect", "partial")}
    told["by_n"] = [one._asdict() | {"worth": one.worth._asdict()} for one in found.by_n]
    currency = design.costs.currency if design.costs else ""
    largest = found.by_n[-1]
    share = largest.worth.value / found.perfect.value if found.perfect.value > 0 else 0.0
    words = (
        f"A scan phase of {largest.n} people would be worth {100 * share:.0f} % of knowing everything before the trial; "
        f"{100 * largest.goes_on:.0f} % of such phases would let the trial go on."
    )
    assumed = (
        f"a success is worth {worth:,.0f} {currency}, at which going on and stopping are equally good without more "
        f"information; one person's scan has a standard deviation of {sd:g} (E051)"
    )
    return told | {"unit": currency, "words": words, "assumed": assumed, "success_is_worth": worth}


def as_dict(
    verdict: Verdict, comparisons: Mapping[str, Any], smaller: Mapping[str, Any], worth: Mapping[str, Any]
) -> dict[str, Any]:
    """The verdict with what else was asked."""
    told = verdict.as_dict()
    more = {"compared": comparisons, "smallest": smaller, "information": worth}
    return told | {name: dict(one) for name, one in more.items() if one}

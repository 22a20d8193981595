"""A design judged: what its simulated trials say of it in every world, against planning by hand, and against other designs.

Every number has its Monte Carlo error; those of worlds whose constants are uncertain are clustered by draw (``answers``).
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import polars as pl

from quell import __version__
from quell.analysis.sequential import inflation
from quell.analysis.survival_size import events as events_needed
from quell.design import answers, carried
from quell.design.carried import Cell, Effort, Tell, silent
from quell.design.course import Game
from quell.design.declared import Design
from quell.design.engine import LOCAL, Engine
from quell.design.limits import Watch, limits, watch
from quell.design.repeats import Rate

POWER = 0.9
PLANNED_RATIOS = (0.5, 0.6, 0.7, 0.8)  # for which the classical calculation is shown
PLANNED_RISK = (0.11, 730.5)  # on control: 11 % by two years, as reported of IVORY-FINALE (E063.placebo)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the trials of a design came to in each world and at each size."""

    design: Design
    effort: Effort
    tables: Mapping[Cell, pl.DataFrame]

    def chance(self, what: str = "success", world: str = "", variant: int | None = None) -> Rate:
        """How often something happens (a logical column of the tables), in the main world at the design's last size.

        Raises DesignError where there is no such world or size.
        """
        cell = Cell(world or self.main, self.sizes(world or self.main)[-1] if variant is None else variant)
        table = self.tables[cell]
        found = answers.rate(table[what].to_numpy(), table["draw"].to_numpy())
        return Rate(value=found.value, error=found.error, trials=found.n)

    @property
    def main(self) -> str:
        """The world that the answer is about: the first that draws from a posterior and takes nothing out; else the first."""
        tried = [one for one in self.design.worlds if any(cell.world == one.name for cell in self.tables)]
        lived = [one for one in tried if one.posterior and not one.without and one.best is None]
        return (lived or tried)[0].name

    def sizes(self, world: str) -> list[int]:
        """The variants tried in a world."""
        return [cell.variant for cell in self.tables if cell.world == self.design.world(world).name]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        design = self.design
        return {
            "design": design.name,
            "title": design.title,
            "question": design.question,
            "fingerprint": design.fingerprint,
            "protocol": design.plan.name,
            "version": __version__,
            **self.effort._asdict(),
            "level": design.level,
            "main": self.main,
            "estimates": design.estimates,
            "worlds": [_world(one) for one in design.worlds],
            "variants": [limits_of(design, number) for number in range(len(design.variants))],
            "cells": [self._cell(cell) for cell in self.tables],
            "sizes": {world: self._between_sizes(world) for world in self._worlds_of_many()},
            "classical": classical(design),
            "examples": answers.examples(self.tables[Cell(self.main, self.sizes(self.main)[-1])]),
            "truth_of_main": answers.estimation(self.tables[Cell(self.main, self.sizes(self.main)[-1])])["truth"],
            "population": design.plan.population.description,
            "protocol_assumptions": [{"about": one.about, "text": one.text} for one in design.plan.assumptions],
            "assumptions": list(design.assumptions),
            "declared": design.declared(),
        }

    def _cell(self, cell: Cell) -> dict[str, Any]:
        table, world = self.tables[cell], self.design.world(cell.world)
        told = {"world": cell.world, "variant": cell.variant, "null": world.null, **_size(self.design, cell.variant)}
        return told | answers.scenario(table) | {"by_truth": answers.by_truth(table) if world.posterior else []}

    def _worlds_of_many(self) -> list[str]:
        return [one.name for one in self.design.worlds if len(self.sizes(one.name)) > 1]

    def _between_sizes(self, world: str) -> dict[str, Any]:
        """The sizes of the design against each other in one world, on the same trials."""
        names = {variant: self.design.variants[variant].name for variant in self.sizes(world)}
        tables = {names[variant]: self.tables[Cell(world, variant)] for variant in names}
        return compared(tables)


def compared(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Designs against each other on shared trials: regret of success, and who is beaten in everything (Pareto).

    The front is of the chance of success (more is better) against people, time and, where costs are declared, cost.
    """
    draw = next(iter(tables.values()))["draw"].to_numpy()
    success = {name: table["success"].to_numpy().astype(float) for name, table in tables.items()}
    less = [name for name in ("enrolled", "duration", "cost") if all(name in one.columns for one in tables.values())]
    points = {
        name: {"success": float(success[name].mean())}
        | {k: v for one in less for k, v in _mean(table, one, draw).items()}
        for name, table in tables.items()
    }
    kept = answers.front(list(points.values()), less, ["success"])
    return {
        "regret": answers.regret(success, draw),
        "front": [{"design": name, "unbeaten": on} | points[name] for name, on in zip(points, kept, strict=True)],
    }


def _mean(table: pl.DataFrame, name: str, draw: np.ndarray) -> dict[str, float]:
    """The mean of a column and its Monte Carlo error."""
    found = answers.mean(table[name].cast(pl.Float64).to_numpy(), draw)
    return {name: found.value, f"{name}_error": found.error}


def judge(
    design: Design,
    *,
    trials: int,
    key: int,
    folder: pathlib.Path,
    engine: Engine = LOCAL,
    wanted: Sequence[Cell] | None = None,
    place: pathlib.Path | None = None,
    tell: Tell = silent,
) -> Verdict:
    """Simulate ``trials`` trials of every cell of a design and say what they came to; see ``carried.carry``."""
    effort = Effort(trials, key)
    tables = carried.carry(design, effort, folder, wanted=wanted, engine=engine, place=place, tell=tell)
    return Verdict(design=design, effort=effort, tables=tables)


# -- planning by hand --------------------------------------------------------------------------------------------------
def classical(design: Design, power: float = POWER) -> list[dict[str, Any]]:
    """What the classical calculation asks for: events by Schoenfeld's formula, times the inflation by the design's looks.

    People are those in whom so many events come by two years if 11 % have one by then on control (E063.placebo) and
    nobody is lost; only for a timed primary. Source: Schoenfeld 1981, doi:10.1093/biomet/68.1.316.

    >>> [(row["ratio"], round(row["fixed"])) for row in classical(Design.load("ivory-3"))]
    [(0.5, 87), (0.6, 161), (0.7, 330), (0.8, 844)]
    """
    if not design.timed:
        return []
    factor = inflation(limits(_plan(design)).boundaries, power)
    bare = inflation(limits(_plan(design.but(futility=None))).boundaries, power)
    share = design.ratio[0] / (design.ratio[0] + design.ratio[1])
    risk = PLANNED_RISK[0]
    found = []
    for ratio in PLANNED_RATIOS:
        fixed = events_needed(ratio, power=power, alpha=design.level, ratio=(1 - share) / share)
        both = share * risk + (1 - share) * (1 - (1 - risk) ** ratio)
        found.append(
            {"ratio": ratio, "power": power, "fixed": fixed, "events": math.ceil(fixed * factor), "inflation": factor}
            | {"events_without_futility": math.ceil(fixed * bare)}
            | {"people": math.ceil(fixed * factor / both), "risk": risk, "days": PLANNED_RISK[1]}
        )
    return found


# -- words about parts -------------------------------------------------------------------------------------------------
def _world(one: Any) -> dict[str, Any]:
    kind = "assumed" if one.assumed else one.posterior
    source = one.assumed.source if one.assumed else ""
    return {"name": one.name, "label": one.shown, "kind": kind, "null": one.null, "best": one.best, "source": source}


def _size(design: Design, variant: int) -> dict[str, Any]:
    one = design.variants[variant]
    return {"size": one.name, "people": one.people, "events": one.events}


def limits_of(design: Design, number: int) -> dict[str, Any]:
    """A size with the limits planned for it."""
    told = limits(_plan(design, number))
    rows = {name: [float(x) for x in np.asarray(getattr(told, name))] for name in ("upper", "lower", "harm")}
    return _size(design, number) | {"limits": rows}


def _plan(design: Design, variant: int = 0) -> Watch:
    """What the limits follow from; nobody need live for it."""
    return watch(Game(design, design.variants[variant], cast(Any, None), 0))

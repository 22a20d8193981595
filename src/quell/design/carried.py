"""A design carried out: the banks of its worlds made or found, its trials run over an engine, and kept as tables.

Banks lie in the user's cache folder (or ``QUELL_CACHE``) and serve every design whose people, arms and worlds they are;
the trials of a run lie in its own folder. Both are found again after a kill, and neither depends on the engine.
"""

from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from quell import store
from quell.design import bank, conduct
from quell.design.declared import Design
from quell.design.engine import LOCAL, Engine, Task, carry_out

Tell = Callable[[str, float | None], None]

BANK_KEY = 1  # people do not depend on the trials' key: another key is other trials in the same worlds


def silent(step: str, share: float | None) -> None:
    """Tells nobody."""


class Cell(NamedTuple):
    """One world at one size of a design."""

    world: str
    variant: int


class Effort(NamedTuple):
    """How much is simulated, and where it is kept: trials of each cell; draws of the constants, people of each draw."""

    trials: int
    key: int
    draws: int = bank.DRAWS
    people: int = bank.PEOPLE


def cells(design: Design) -> list[Cell]:
    """Every world at the sizes that are tried in it.

    >>> Cell("after-ivory", 1) in cells(Design.load("ivory-3"))
    True
    """
    sizes = range(len(design.variants))
    found = []
    for world in design.worlds:
        chosen = [variant for variant in sizes if variant + 1 in world.variants]  # a design may have fewer sizes than
        found += [Cell(world.name, variant) for variant in chosen or sizes]  # the one from which it takes its worlds
    return found


def banks(
    design: Design,
    effort: Effort,
    *,
    worlds: Collection[str] | None = None,
    place: pathlib.Path | None = None,
    engine: Engine = LOCAL,
    tell: Tell = silent,
) -> Mapping[str, tuple[str, ...]]:
    """The shards of each world's bank (all worlds unless said), made where not there; none for a world by assumption."""
    asked = [world for world in design.worlds if worlds is None or world.name in worlds]
    recipes = {world.name: _recipe(design, world, effort) for world in asked if world.assumed is None}
    found: dict[str, tuple[str, ...]] = {}
    root = place or store.folder() / "banks"
    for recipe in dict.fromkeys(recipes.values()):
        folder = root / recipe.fingerprint
        tasks = [Task(f"people-{number:04}.parquet", (recipe, number)) for number in range(recipe.shards)]
        paths = carry_out(bank.shard, tasks, folder, engine=engine, what="people", tell=tell)
        found |= {name: tuple(map(str, paths)) for name, one in recipes.items() if one == recipe}
    return {world.name: found.get(world.name, ()) for world in asked}


def _recipe(design: Design, world: bank.World, effort: Effort) -> bank.Recipe:
    return bank.recipe(
        design.plan, world, draws=effort.draws, people=effort.people, horizon=design.horizon_days, key=BANK_KEY
    )


def carry(
    design: Design,
    effort: Effort,
    folder: pathlib.Path,
    *,
    wanted: Sequence[Cell] | None = None,
    place: pathlib.Path | None = None,
    engine: Engine = LOCAL,
    tell: Tell = silent,
) -> Mapping[Cell, pl.DataFrame]:
    """The trials of each cell, one row each; what lies whole in ``folder`` is not run again.

    Raises BadInput where a world cannot be lived, workers or disk fail.
    """
    wanted = cells(design) if wanted is None else wanted
    worlds = {cell.world for cell in wanted}
    shards = banks(design, effort, worlds=worlds, place=place, engine=engine, tell=tell)
    jobs = {
        cell: conduct.Job(
            design=design, world=cell.world, variant=cell.variant, key=effort.key, paths=shards[cell.world]
        )
        for cell in wanted
    }
    numbers = range(-(-effort.trials // conduct.CHUNK))
    tasks = [Task(f"{_name(job)}-{number:05}.parquet", (job, number)) for job in jobs.values() for number in numbers]
    reads = sorted({pathlib.Path(path) for job in jobs.values() for path in job.paths})
    paths = carry_out(conduct.chunk, tasks, folder, engine=engine, reads=reads, what="trials", tell=tell)
    parts = iter(paths)
    return {cell: _table([next(parts) for _ in numbers]).head(effort.trials) for cell in jobs}


def _table(paths: Sequence[pathlib.Path]) -> pl.DataFrame:
    """Chunks one after another; their digests were looked at, so that they are read here and not apart."""
    return pl.concat([pl.read_parquet(path, use_statistics=False) for path in paths], how="vertical_relaxed")


@functools.lru_cache(maxsize=1024)
def _name(job: conduct.Job) -> str:
    """What names a job's chunks: all that they follow from, quell's source included."""
    people = [pathlib.Path(path).parent.name for path in job.paths[:1]]
    parts = (job.design.fingerprint, job.world, job.variant, job.key, people, len(job.paths))
    return hashlib.sha256("\x1f".join([store.source(), *map(repr, parts)]).encode()).hexdigest()[:20]

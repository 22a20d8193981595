"""The worlds of an exam: what is known, what was known before any evidence, and one where only chance is left."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell import keys, posterior, store
from quell.body import structure
from quell.calibrate import space
from quell.trial import World

KEY, DRAWS = 1, 1000
BEFORE = "before the evidence"


class Worlds(NamedTuple):
    """The world examined; what was known before the evidence; and the first with its constants known, so that chance is left."""

    name: str
    examined: World
    prior: World
    chance: World


def worlds(name: str) -> Worlds:
    """The worlds of an exam, by the name of the one examined. Raises TrialError for one that does not exist."""
    world = World(name)
    known = dataclasses.replace(world, name=f"{world.name}, constants known", uncertain=False)
    return Worlds(name, world if world.uncertain else world.drawn(), before(), known)


@functools.cache
def before() -> World:
    """The calibration's own prior: every constant as wide as before the likelihood, every structure as often.

    The table's uncertainties already hold some of the evidence (``calibrate/priors.toml`` says which), so a world drawn from
    the table is no fair measure of what the evidence has done. The link to events is fitted first, which takes some seconds.
    """
    kept = store.answer((BEFORE, KEY, DRAWS), _drawn)
    values = np.array(kept["values"])
    structures = {name: np.array(options) for name, options in kept["structures"].items()}
    told = {"draws": hashlib.sha256(values.tobytes()).hexdigest()}
    made = posterior.Draws(tuple(kept["names"]), values, structures, told)
    return World(BEFORE, parameters=made.middle(), uncertain=True, draws=made)


def _drawn() -> dict[str, Any]:
    """Draws of the prior, as plain lists."""
    where = space.space()
    z, numbers = space.even_draws(keys.at(KEY, BEFORE), DRAWS, where)
    values = np.asarray(space.effective(jnp.asarray(z), where.ratios[numbers], where))
    options = np.array(where.structures)[numbers]
    named = {one.name: options[:, i].tolist() for i, one in enumerate(structure.table())}
    return {"names": where.names, "values": values.tolist(), "structures": named}


def digest(world: World) -> str:
    """What tells one set of draws from another; empty for a world without any."""
    draws = world.draws or (posterior.load(world.stage) if world.stage in posterior.STAGES else None)
    return str(draws.provenance["draws"]) if draws else ""

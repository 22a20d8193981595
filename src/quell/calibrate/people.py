"""The virtual patients on whom the body is held against published figures: few, evenly spread, the same for every trial of constants.

With the same people every time, a summary such as a mean is a smooth function of the constants, which is what sampling
needs; with scores spread evenly (one person in each of n equal parts of every score: a Latin hypercube, McKay 1979) a few
hundred people stand for a population.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from quell import blocks, keys
from quell.body import parameters, population, risk
from quell.keys import jax

KEY = 11
NEVER = np.inf  # thresholds of fate: nothing happens by chance, so that a course is the expected one


@functools.cache
def _drawing(name: str) -> blocks.Program:
    people = population.POPULATIONS[name]

    def one(z: jax.Array) -> population.Patient:
        never = risk.Causes(jnp.full(risk.SUCCESSIVE, NEVER), *(jnp.full((), NEVER) for _ in risk.ONCE))
        return population.of_scores(population.correlated(z, people), never, parameters.load(), people)

    return blocks.Program(one, identity=("calibrating people", name))


@functools.cache
def even(count: int, name: str = "ivory") -> population.Patient:
    """``count`` people of a population with evenly spread scores; arrays of shape (count,)."""
    here = keys.at(KEY, "people", name)
    places = [
        np.asarray(jax.random.permutation(keys.at(here, score), count))
        for score in population.scored(population.POPULATIONS[name])
    ]
    z = special.ndtri((np.stack(places, axis=1) + 0.5) / count)
    return blocks.over(_drawing(name), z)


def after(count: int, since: float, name: str = "ivory", **changed: Any) -> population.Patient:
    """Such people so many days after their index event on study day 1, with some covariates set.

    >>> after(8, 7.0).days_since_infarction.tolist()[:2]
    [7.0, 7.0]
    """
    given = {"days_since_infarction": since} | changed
    full: dict[str, Any] = {k: np.broadcast_to(np.asarray(v, float), (count,)) for k, v in given.items()}
    return even(count, name)._replace(**full)


def in_turn(count: int, share: float) -> np.ndarray:
    """1 for so large a share of people, evenly among them, and 0 for the others.

    >>> in_turn(5, 0.4).tolist()
    [0.0, 0.0, 1.0, 0.0, 1.0]
    """
    return np.diff(np.floor(np.arange(count + 1) * share + 1e-9))

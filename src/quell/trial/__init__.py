"""Where promise meets body: recruit, randomise, dose, visit, measure, lose.

``run`` gives one trial's Study, which holds no truth; ``simulate`` many trials as arrays; ``truth`` the value of every
estimand in this world, from the same people living under every arm.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from quell import keys
from quell.protocol import Protocol
from quell.study import Study
from quell.trial.attend import follow
from quell.trial.counterfactual import Selection, Truth, potential, selection, truth, truths
from quell.trial.plan import lay_out
from quell.trial.record import Records, keep
from quell.trial.recruit import enrol, parameters_of
from quell.trial.world import Conduct, TrialError, World

__all__ = [
    "Conduct",
    "Records",
    "Selection",
    "Study",
    "TrialError",
    "Truth",
    "World",
    "lay_out",
    "potential",
    "run",
    "selection",
    "simulate",
    "truth",
    "truths",
]


def run(protocol: Protocol, world: World | None = None, *, key: int | keys.Key) -> Study:
    """One trial of a protocol in a world, as the Study it would leave behind.

    >>> from quell.protocol import Protocol
    >>> study = run(Protocol.load("ivory"), key=2026)
    >>> len(study.randomised)
    63
    """
    one = jnp.reshape(keys.root(key), (1,))
    return simulate(protocol, world or World(), key=one).study(0)


def simulate(
    protocol: Protocol,
    world: World,
    *,
    key: keys.Key,
    people: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Records:
    """One trial for each key of an array, together; arrays of shape (trials, people).

    Trial k is, bit for bit, ``run(protocol, world, key=key[k])``: no trial depends on the others.
    """
    number = people or protocol.population.planned
    lay_out(protocol)  # says in a sentence what cannot be simulated, before any work
    p = parameters_of(world, key=key)
    enrolled = enrol(protocol, p, number, key=key)
    shape = enrolled.arm.shape
    person = jax.jit(jax.vmap(jax.vmap(lambda k, i: keys.at(k, "subject", i), in_axes=(None, 0))))(
        key, enrolled.candidate
    )
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), enrolled)
    repeated = jax.tree.map(lambda leaf: leaf.repeat(number), p)
    followed = follow(protocol, world.conduct, flat.patient, repeated, flat.screening_day, flat.arm, key=person.ravel())
    if progress:
        progress(shape[0], shape[0])
    return keep(protocol, enrolled, followed, shape)

"""Where promise meets body: recruit, randomise, dose, visit, measure, lose.

``run`` gives one trial's Study, which holds no truth; ``simulate`` many trials as arrays; ``truth`` the value of every
estimand in this world, from the same people living under every arm.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from quell import keys
from quell.protocol import Protocol
from quell.study import Study
from quell.trial.attend import follow
from quell.trial.counterfactual import Selection, Truth, potential, selection, truth, truths
from quell.trial.plan import lay_out
from quell.trial.record import Records, keep
from quell.trial.recruit import gather, parameters_of
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
    "settled",
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
    return simulate(protocol, world or World(), np.asarray(keys.data(key))[None]).study(0)


def settled(world: World, key: int | keys.Key) -> World:
    """The one world in which the trial of this key is run, so that its truth can be told; a certain world is itself.

    >>> settled(World().drawn(), 7).uncertain
    False
    """
    if not world.uncertain:
        return world
    drawn = parameters_of(world, np.asarray(keys.data(key))[None])
    one = type(drawn)(*(float(np.asarray(value)[0]) for value in drawn))
    return dataclasses.replace(world, name=f"{world.name}, one draw", parameters=one, uncertain=False)


def simulate(protocol: Protocol, world: World, words: np.ndarray, *, people: int | None = None) -> Records:
    """One trial for each key (given as its words, shape (trials, 2)), together; arrays of shape (trials, people).

    Trial k is, bit for bit, ``run(protocol, world, key=keys.of(words[k]))``: no trial depends on the others.
    """
    number = people or protocol.population.planned
    lay_out(protocol)  # says in a sentence what cannot be simulated, before any work
    enrolled, all_people, p = gather(protocol, world, number, words)
    followed = follow(protocol, world.conduct, all_people, p, all_people.arm)
    return keep(protocol, enrolled, followed, enrolled.arm.shape)

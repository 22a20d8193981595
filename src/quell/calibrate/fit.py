"""The fit: learn the surrogate where it matters, sample it, and let the body itself weigh each draw."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import stats

from quell import keys
from quell.calibrate import correct, diagnose, sample, surrogate
from quell.calibrate.rows import SPREADS
from quell.calibrate.sample import GROUPS, Chains, Data, Length
from quell.calibrate.space import JOINT, LINKED, Space, effective, even_draws, features
from quell.calibrate.summaries import Summaries, Tell
from quell.calibrate.surrogate import Surrogate
from quell.keys import jax


class Effort(NamedTuple):
    """How many worlds are lived to learn from (evenly over the prior, then where the posterior seems to be), and drawn."""

    rounds: tuple[int, ...]
    search: Length  # of the sampling between rounds
    final: Length
    proposals: int  # of each chain, put to the body


FULL = Effort(rounds=(1000, 900, 1200), search=Length(300, 250, accept=0.8), final=Length(600, 2600), proposals=1300)
AFTER = Effort(rounds=(900, 600), search=Length(300, 200, accept=0.8), final=Length(600, 2600), proposals=1300)
QUICK = Effort(rounds=(96, 96), search=Length(100, 48, accept=0.8), final=Length(120, 100, accept=0.8), proposals=32)
QUICK_AFTER = QUICK._replace(rounds=(64,))
TRUST = (0.02, 0.4, 1.0)  # what a world of an earlier round weighs beside the last: the first was spread over the prior


class Fitted(NamedTuple):
    """Draws of the real model's posterior, shape (chains, draws, ...), and what says whether to trust them."""

    chains: Chains
    simulated: np.ndarray  # (chains, draws, terms) the body's own summaries
    diagnosis: diagnose.Diagnosis
    faults: list[str]
    share: float  # of the proposals, that they are worth once weighed
    tail: float  # Pareto k-hat of the weights
    misses: np.ndarray  # (terms,) of the surrogate, against the body at the proposals
    correlation: float  # largest between successive proposals


def steps(where: Space) -> tuple[np.ndarray, np.ndarray]:
    """One step of a prior deviation each way for each constant, then none: coordinates and structures."""
    n = len(where.names)
    z = np.zeros((2 * n + 1, n))
    z[2 * np.arange(n), np.arange(n)], z[2 * np.arange(n) + 1, np.arange(n)] = 1, -1
    return z, np.zeros(len(z), dtype=int)


def moving(summaries: Summaries, seen: Data, tell: Tell) -> list[np.ndarray]:
    """Which constants move each term, by one step of each, either way."""
    z, structures = steps(summaries.where)
    values = summaries(z, structures, "which constants matter")
    shifts = np.abs(values[:-1].reshape(-1, 2, values.shape[1]) - values[-1]).max(axis=1)
    scale = np.array([SPREADS[GROUPS[group]][0] for group in seen.group])
    active = surrogate.moving(shifts, np.hypot(seen.error, scale / 3))
    joint = len(summaries.where.names) + np.arange(JOINT)
    tell(f"{len(np.unique(np.concatenate(active)))} of {joint[0]} constants move a published figure", None)
    risk = [GROUPS[group] == "risk" for group in seen.group]
    return [np.append(some, joint) if bends else some for some, bends in zip(active, risk, strict=True)]


class Lived(NamedTuple):
    """Worlds lived to learn from."""

    z: np.ndarray
    structures: np.ndarray
    values: np.ndarray
    round: np.ndarray


def begin(summaries: Summaries, count: int, key: keys.Key) -> Lived:
    """The first round: evenly over the prior, drawn in a little."""
    z, structures = even_draws(keys.at(key, "first"), count, summaries.where, 0.8)
    return Lived(z, structures, summaries(z, structures, "learning, round 1"), np.zeros(count, dtype=int))


def follow(before: Chains, count: int, summaries: Summaries) -> Lived:
    """The first round of a later stage: at draws of the stage before."""
    step = max(1, before.structures.size // count)
    z, structures = before.z.reshape(-1, before.z.shape[-1])[::step], before.structures.ravel()[::step]
    return Lived(z, structures, summaries(z, structures, "learning, round 1"), np.zeros(len(z), dtype=int))


def learn(lived: Lived, active: list[np.ndarray], where: Space) -> Surrogate:
    """The surrogate of all worlds so far, the latest round weighing most."""
    last = lived.round.max()
    trust = np.array(TRUST)[lived.round - last - 1] if last else np.ones(len(lived.round))
    return surrogate.learn(scaled(lived.z, lived.structures, where), lived.values, active, trust)


def scaled(z: np.ndarray, structures: np.ndarray, where: Space) -> np.ndarray:
    """Coordinates on the scale of the surrogate."""
    return np.asarray(features(effective(jnp.asarray(z), where.ratios[structures], where), where))


def again(lived: Lived, chains: Chains, count: int, summaries: Summaries) -> Lived:
    """Another round, at draws of the surrogate's posterior."""
    some = chains.every(max(1, chains.z.shape[0] * chains.z.shape[1] // count))
    z = some.z.reshape(-1, some.z.shape[-1])[:count]
    structures, number = some.structures.ravel()[:count], lived.round.max() + 1
    values = summaries(z, structures, f"learning, round {number + 1}")
    more = Lived(z, structures, values, np.full(len(z), number))
    return Lived(*(np.concatenate(pair) for pair in zip(lived, more, strict=True)))


def fit(
    lived: Lived,
    active: list[np.ndarray],
    seen: Data,
    summaries: Summaries,
    effort: Effort,
    key: keys.Key,
    cut: bool = True,
) -> Fitted:
    """Rounds after the first, the final sampling, and the correction by the body.

    With ``cut`` the link keeps what the outcome trials say of it: rates in registers do not speak to what lowering
    inflammation does, so their feedback on it is left out (a cut posterior: Plummer 2015).
    """
    where, tell = summaries.where, summaries.tell
    one, off = learn(lived, active, where), sample.NO_FEEDBACK
    for number, count in enumerate(effort.rounds[1:], 2):
        chains = sample.nuts(one, seen, where, effort.search, keys.at(key, "search", number), off)
        off = off + sample.feedback(chains, where) if cut else off
        lived = again(lived, chains, count, summaries)
        one = learn(lived, active, where)
    tell("sampling", None)
    chains = sample.nuts(one, seen, where, effort.final, keys.at(key, "final"), off)
    weights = linked(chains, where) if cut else np.zeros(chains.structures.shape)
    told = diagnose.diagnose(named(where), np.concatenate([chains.z, chains.tau], axis=-1))
    proposals, places = proposed(chains, weights, effort.proposals, key)
    pool = np.minimum(told.bulk, told.tail) / chains.structures.size
    found = corrected(proposals, places, np.minimum(pool, 1.0), one, seen, summaries, key)
    return found._replace(faults=found.faults + [f"before correction, {one}" for one in diagnose.faults(told, 0)])


def proposed(chains: Chains, weights: np.ndarray, count: int, key: keys.Key) -> tuple[Chains, np.ndarray]:
    """So many draws of each chain in proportion to log weights, in an order of chance; and which draws they are."""
    places = []
    for number, mine in enumerate(weights):
        here = keys.at(key, "proposed", number)
        some = correct.systematic(np.exp(mine - mine.max()), count, here)
        places.append(np.asarray(jax.random.permutation(keys.at(here, "order"), some)))
    return taken(chains, np.array(places)), np.array(places)


def taken(chains: Chains, places: np.ndarray) -> Chains:
    """Some draws of each chain, by their places (chains, draws)."""
    rows = np.arange(len(places))[:, None], places
    return Chains(chains.z[rows], chains.tau[rows], chains.structures[rows], chains.divergences)


def linked(chains: Chains, where: Space) -> np.ndarray:
    """Log weights that give the link's coordinate its own distribution back: standard normal over what was sampled."""
    z = chains.z[..., where.place(LINKED[0])]
    found = stats.gaussian_kde(z.ravel())
    grid = np.linspace(z.min(), z.max(), 256)
    return stats.norm.logpdf(z) - np.interp(z, grid, np.log(found(grid)))


def named(where: Space) -> tuple[str, ...]:
    """What is sampled: constants, then spreads between studies."""
    return (*where.names, *(f"spread of {group}" for group in GROUPS))


def corrected(
    proposals: Chains,
    places: np.ndarray,
    pool: np.ndarray,
    one: Surrogate,
    seen: Data,
    summaries: Summaries,
    key: keys.Key,
) -> Fitted:
    """The surrogate's draws weighed by the real model's likelihood, and drawn again in proportion, chain by chain.

    ``places`` says which proposals are copies of one draw, ``pool`` how much each quantity's draws were worth before.
    """
    where, shape = summaries.where, proposals.structures.shape
    z, structures = proposals.z.reshape(-1, len(where.names)), proposals.structures.ravel()
    tau = proposals.tau.reshape(-1, len(GROUPS))
    values = summaries(z, structures, "put to the body")
    guessed = np.asarray(surrogate.evaluate(one, scaled(z, structures, where)))
    gap = sample.pointwise(values, tau, seen) - sample.pointwise(guessed, tau, seen, sample.doubt(one))
    found = correct.smoothed(np.asarray(gap.sum(axis=-1)))
    apart = found.weights.reshape(shape)
    draws = [correct.systematic(mine, shape[1], keys.at(key, "drawn", i)) for i, mine in enumerate(apart)]
    chains = taken(proposals, np.array(draws))
    both = np.concatenate([chains.z, chains.tau], axis=-1)
    copies = (places + 10**6 * np.arange(shape[0])[:, None]).ravel()
    bulk, tail = correct.judged(found.weights, np.concatenate([z, tau], axis=-1), copies)
    told = diagnose.Diagnosis(named(where), diagnose.rhat(both), pool * bulk, pool * tail)
    return Fitted(
        chains=chains,
        simulated=values.reshape(*shape, -1)[np.arange(shape[0])[:, None], np.array(draws)],
        diagnosis=told,
        faults=diagnose.faults(told, proposals.divergences) + unreliable(found),
        share=found.share,
        tail=found.shape,
        misses=np.sqrt(((guessed - values) ** 2).mean(axis=0)),
        correlation=float(np.abs(correct.autocorrelation(proposals.z)).max()),
    )


def unreliable(found: correct.Weighed) -> list[str]:
    """A sentence where the weights cannot be relied on."""
    if found.shape < correct.MOST_SHAPE:
        return []
    return [
        f"the weights of the body against its surrogate have a Pareto k of {found.shape:.2f}, above {correct.MOST_SHAPE}: "
        "learn from more worlds."
    ]

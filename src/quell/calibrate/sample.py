"""Sampling the surrogate's posterior by NUTS, structures summed out; the heterogeneity between studies sampled with it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell import keys
from quell.calibrate.rows import SPREADS, Term
from quell.calibrate.space import LINKED, Space, effective, features
from quell.calibrate.surrogate import Surrogate, evaluate
from quell.keys import jax

GROUPS = tuple(SPREADS)


class Chains(NamedTuple):
    """Draws of shape (chains, draws, ...): coordinates, spreads between studies, and a structure for each."""

    z: np.ndarray
    tau: np.ndarray  # (chains, draws, groups)
    structures: np.ndarray
    divergences: int

    def every(self, step: int) -> Chains:
        """Each ``step``-th draw."""
        z, tau, structures = (x[:, step - 1 :: step] for x in (self.z, self.tau, self.structures))
        return Chains(z, tau, structures, self.divergences)


class Data(NamedTuple):
    """The terms as arrays of shape (terms,)."""

    value: np.ndarray
    error: np.ndarray
    group: np.ndarray


def data(terms: list[Term]) -> Data:
    """The published side of the terms."""
    return Data(
        np.array([one.value for one in terms]),
        np.array([one.error for one in terms]),
        np.array([GROUPS.index(one.group) for one in terms]),
    )


def pointwise(simulated: Any, tau: Any, seen: Data, more: Any = 0.0) -> Any:
    """log N(y; f, se^2 + tau^2 + more) of each term: simulated (..., terms), tau (..., groups)."""
    variance = seen.error**2 + tau[..., seen.group] ** 2 + more
    return -0.5 * ((seen.value - simulated) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


class Parts(NamedTuple):
    """A surrogate and its data apart: terms that no structure changes, and those that some do."""

    rest: Surrogate
    rest_data: Data
    moved: Surrogate
    moved_data: Data


def parted(one: Surrogate, seen: Data, where: Space) -> Parts:
    """The surrogate in its two parts: what no structure changes need be worked out once only."""
    changed = np.flatnonzero((where.ratios != 1).any(axis=0))
    moved = (one.slopes[:, np.isin(one.used, changed)] != 0).any(axis=1)
    which, rest = np.flatnonzero(moved), np.flatnonzero(~moved)
    some = [(one.of(terms), Data(*(x[terms] for x in seen))) for terms in (rest, which)]
    return Parts(*some[0], *some[1])


def by_structure(z: Any, tau: Any, parts: Parts, where: Space) -> Any:
    """Log likelihood by the surrogate under every structure: z (constants,), tau (groups,); shape (structures,)."""

    def some(one: Surrogate, mine: Data, ratios: np.ndarray) -> Any:
        x = features(effective(jnp.broadcast_to(z, ratios.shape), ratios, where), where)
        return pointwise(evaluate(one, x), tau, mine, doubt(one)).sum(axis=-1)

    alike = some(parts.rest, parts.rest_data, np.ones((1, len(where.names))))
    return alike + some(parts.moved, parts.moved_data, where.ratios)


def doubt(one: Surrogate) -> Any:
    """The variance counted for what the surrogate misses: twice its square, for tails that the body can cut."""
    return 2 * one.misses**2


class Length(NamedTuple):
    """How long to sample."""

    warmup: int
    draws: int
    chains: int = 4
    accept: float = 0.95


@functools.cache
def _sampler(length: Length, where: _Same, shape: tuple[int, ...]) -> Any:
    """A compiled sampler: the surrogate and the data are its arguments, so that it is compiled once a shape."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS

    space = where.space
    scales = np.array([SPREADS[group][0] for group in GROUPS])

    link = space.place(LINKED[0])

    def model(parts: Parts, feedback: Any) -> None:
        z = numpyro.sample("z", dist.Normal(0, 1).expand([len(space.names)]).to_event(1))
        tau = numpyro.sample("tau", dist.HalfNormal(scales).to_event(1))
        likely = by_structure(z, tau, parts, space)
        numpyro.factor("evidence", jax.scipy.special.logsumexp(likely) - np.log(len(space.structures)))
        numpyro.factor("no feedback", -feedback[0] * z[link] - feedback[1] * z[link] ** 2)

    numpyro.enable_x64()
    return MCMC(
        NUTS(model, target_accept_prob=length.accept, max_tree_depth=7),
        num_warmup=length.warmup,
        num_samples=length.draws,
        num_chains=length.chains,
        chain_method="vectorized",
        progress_bar=False,
        jit_model_args=True,
    )


class _Same:
    """A space as a key of the cache of samplers: the same space is the same key."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __hash__(self) -> int:
        return hash(self.space.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.space is self.space


NO_FEEDBACK = np.zeros(2)


def feedback(chains: Chains, where: Space) -> np.ndarray:
    """What the other figures say of the link, as a slope and a curve of the log likelihood of its coordinate.

    From the mean m and deviation s of draws made without taking it off: (m / s^2, (1 - 1 / s^2) / 2).
    """
    z = chains.z[..., where.place(LINKED[0])]
    return np.array([z.mean() / z.var(), (1 - 1 / z.var()) / 2])


def nuts(
    one: Surrogate, seen: Data, where: Space, length: Length, key: keys.Key, taken_off: np.ndarray = NO_FEEDBACK
) -> Chains:
    """Chains of the surrogate's posterior (NUTS, Hoffman and Gelman 2014), each draw with a structure of its own.

    ``taken_off`` is the ``feedback`` on the link to leave out.
    """
    parts = parted(one, seen, where)
    shape = (*parts.rest.slopes.shape, *parts.moved.slopes.shape)
    run = _sampler(length, _Same(where), shape)
    run.run(keys.at(key, "nuts"), parts, jnp.asarray(taken_off), extra_fields=("diverging",))
    found = run.get_samples(group_by_chain=True)
    likely = jax.lax.map(
        lambda x: by_structure(x[0], x[1], parts, where), tuple(_flat(found[name]) for name in ("z", "tau"))
    )
    structures = jax.random.categorical(keys.at(key, "structure"), likely, axis=-1)
    return Chains(
        np.asarray(found["z"]),
        np.asarray(found["tau"]),
        np.asarray(structures).reshape(length.chains, length.draws),
        int(np.asarray(run.get_extra_fields()["diverging"]).sum()),
    )


def _flat(chains: Any) -> Any:
    return chains.reshape(-1, chains.shape[-1])

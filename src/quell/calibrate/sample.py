"""Sampling the surrogate's posterior by NUTS, structures summed out; the heterogeneity between studies sampled with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell import keys
from quell.calibrate.rows import SPREADS, Term
from quell.calibrate.space import Space, effective, features
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
        return Chains(*(x[:, step - 1 :: step] for x in self[:3]), self.divergences)


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


def by_structure(z: Any, tau: Any, one: Surrogate, seen: Data, where: Space) -> Any:
    """Log likelihood by the surrogate under every structure: z (constants,), tau (groups,); shape (structures,).

    Terms that no structure changes are worked out once.
    """
    changed = np.flatnonzero((where.ratios != 1).any(axis=0))
    moved = (one.slopes[:, np.isin(one.used, changed)] != 0).any(axis=1)
    which, rest = np.flatnonzero(moved), np.flatnonzero(~moved)

    def some(terms: np.ndarray, ratios: np.ndarray) -> Any:
        part, mine = one.of(terms), Data(*(x[terms] for x in seen))
        x = features(effective(jnp.broadcast_to(z, ratios.shape), ratios, where), where)
        return pointwise(evaluate(part, x), tau, mine, part.misses**2).sum(axis=-1)

    return some(rest, np.ones((1, len(where.names)))) + some(which, where.ratios)


class Length(NamedTuple):
    """How long to sample."""

    warmup: int
    draws: int
    chains: int = 4


def nuts(one: Surrogate, seen: Data, where: Space, length: Length, key: keys.Key) -> Chains:
    """Chains of the surrogate's posterior (NUTS, Hoffman and Gelman 2014), each draw with a structure of its own."""
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS

    scales = np.array([SPREADS[group][0] for group in GROUPS])

    def model() -> None:
        z = numpyro.sample("z", dist.Normal(0, 1).expand([len(where.names)]).to_event(1))
        tau = numpyro.sample("tau", dist.HalfNormal(scales).to_event(1))
        likely = by_structure(z, tau, one, seen, where)
        numpyro.factor("evidence", jax.scipy.special.logsumexp(likely) - np.log(len(where.structures)))
        numpyro.deterministic("likely", likely)

    numpyro.enable_x64()
    run = MCMC(
        NUTS(model, target_accept_prob=0.85, max_tree_depth=7),
        num_warmup=length.warmup,
        num_samples=length.draws,
        num_chains=length.chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    run.run(keys.at(key, "nuts"), extra_fields=("diverging",))
    found = run.get_samples(group_by_chain=True)
    structures = jax.random.categorical(keys.at(key, "structure"), found["likely"], axis=-1)
    return Chains(
        np.asarray(found["z"]),
        np.asarray(found["tau"]),
        np.asarray(structures),
        int(np.asarray(run.get_extra_fields()["diverging"]).sum()),
    )

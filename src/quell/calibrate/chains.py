"""Chains of a study's posterior by NUTS, in blocks: how far they are can be said, and a run that was stopped goes on.

Coordinates are those of ``hierarchy.Mode.at``, of one size already, so only the step is adapted: learning a metric from a
warm-up of a few hundred draws in more than a thousand dimensions made chains mix worse. A block is one compiled program, run
for warm-up and draws alike by as many threads as there are cores. What was finished is kept under a name that follows from
where the chains begin, the density and its slope there included: another study, key or version never finds it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import hashlib
import io
import pathlib
import zipfile
from typing import Any, NamedTuple

import numpy as np

from quell import blocks, keys
from quell.calibrate.hierarchy import Draws, Mode, Model, density, population, unsure
from quell.calibrate.sample import Length
from quell.calibrate.summaries import Tell, silent
from quell.delivery import write_whole
from quell.keys import jax
from quell.store import source

ACCEPT, DEEPEST = 0.8, 7  # of NUTS: aim of acceptance, doublings of a trajectory
BLOCK = 25  # transitions


class Unfinished(NamedTuple):
    """What is kept of chains that are not at their end: by block, in a folder, under the name of where they began."""

    folder: pathlib.Path | None
    name: str

    def read(self, number: int, like: Any) -> Any:
        """A finished block of the form of ``like``; None where there is none, or it is damaged."""
        if self.folder is None:
            return None
        shapes, form = jax.tree.flatten(like)
        try:
            with np.load(io.BytesIO(self._path(number).read_bytes()), allow_pickle=False) as held:
                found = [held[f"{i}"] for i in range(len(shapes))]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None
        fits = all(a.shape == b.shape and a.dtype == b.dtype for a, b in zip(found, shapes, strict=True))
        return jax.tree.unflatten(form, found) if fits else None

    def write(self, number: int, made: Any) -> None:
        """Keep a block, whole or not at all; a disk that is full loses nothing but time."""
        if self.folder is None:
            return
        content = io.BytesIO()
        np.savez(content, **{f"{i}": x for i, x in enumerate(jax.tree.leaves(made))})
        with contextlib.suppress(OSError):
            write_whole(self._path(number), content.getvalue())

    def _path(self, number: int) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / f"{self.name}-{number:04d}.npz"


def potential(model: Model, about: Mode, at: dict[str, Any]) -> Any:
    """Minus the log density at coordinates: ``common`` of the population, ``spread`` between people, ``score`` of people."""
    place = about.at(at["common"], at["spread"], at["score"], unsure(model.choice))
    return -density(model, place.zeta, place.eta, place.own) - place.volume


def nuts(
    model: Model,
    about: Mode,
    length: Length,
    key: keys.Key,
    folder: pathlib.Path | None = None,
    tell: Tell = silent,
) -> Draws:
    """Chains by NUTS (Hoffman and Gelman 2014), each begun at a draw of the approximation about the mode.

    With a ``folder`` what is finished is kept there, and a run that was stopped goes on to the same bytes.
    """
    warm, more = (-(-count // BLOCK) for count in (length.warmup, length.draws))
    states, onward = _begun(model, about, warm * BLOCK, length.chains, key)
    kept, made = Unfinished(folder, _name(states)), []
    form = [jax.eval_shape(onward, states[0])] * length.chains
    program = functools.cache(lambda: jax.jit(onward).lower(states[0]).compile(dict(blocks.FAST)))
    with concurrent.futures.ThreadPoolExecutor(min(blocks.workers(), length.chains)) as pool:
        for number in range(warm + more):
            tell("sampling", number / (warm + more))
            found = kept.read(number, form)
            if found is None:
                found = [jax.tree.map(np.asarray, one) for one in pool.map(program(), states)]
                kept.write(number, found)
            states = [state for state, _ in found]
            made += [[draws for _, draws in found]] if number >= warm else []
    each = [Draws(*(np.concatenate(x) for x in zip(*chain, strict=True))) for chain in zip(*made, strict=True)]
    return Draws(*(np.stack(x)[:, : length.draws] for x in zip(*each, strict=True)))


def _begun(model: Model, about: Mode, warmup: int, chains: int, key: keys.Key) -> tuple[list[Any], Any]:
    """Where each chain begins, and the function that takes it one block on: (state) -> (state, draws)."""
    import numpyro
    from numpyro.infer.hmc import hmc

    numpyro.enable_x64()
    begin, sample = hmc(potential_fn=lambda at: potential(model, about, at), algo="NUTS")

    def step(state: Any, _: None) -> tuple[Any, Draws]:
        state = sample(state)
        place = about.at(state.z["common"], state.z["spread"], state.z["score"], unsure(model.choice))
        theta, omega = population(model.choice, place.zeta, place.eta)
        energy, density = state.energy, -state.potential_energy
        return state, Draws(theta, omega, place.own, state.diverging, energy, state.num_steps, density)

    def onward(state: Any) -> tuple[Any, Draws]:
        return jax.lax.scan(step, state, None, length=BLOCK)

    @jax.jit
    def first(seed: Any, at: dict[str, Any]) -> Any:
        how = {"adapt_mass_matrix": False, "target_accept_prob": ACCEPT, "max_tree_depth": DEEPEST}
        return begin(at, warmup, rng_key=seed, **how)

    sizes = {"common": about.zeta.shape, "spread": model.left.shape, "score": model.mean.shape}
    at = {name: jax.random.normal(keys.at(key, "begin", name), (chains, *size)) for name, size in sizes.items()}
    seeds = keys.data(jax.random.split(keys.at(key, "nuts"), chains))  # plain words, which can be kept
    places = [(seeds[c], {name: x[c] for name, x in at.items()}) for c in range(chains)]
    return [jax.tree.map(np.asarray, first(*place)) for place in places], onward


def _name(states: list[Any]) -> str:
    """What tells these chains from others: where they begin, and the density and slope there."""
    found = hashlib.sha256(source().encode())
    for leaf in jax.tree.leaves(states):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:24]

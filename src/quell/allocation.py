"""Randomisation lists: who gets which arm, in which order, within which stratum.

Permuted blocks give each arm its share within every block; the block sizes may vary at random. The list is a pure
function of the key and the stratum, so it can be sealed before the trial and remade after it.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quell import blocks, keys
from quell.protocol import Protocol


def shares(protocol: Protocol) -> tuple[int, ...]:
    """Each arm's share of a block, in the order of the arms."""
    return tuple(protocol.allocation.ratio.get(arm.name, 1) for arm in protocol.arms)


@functools.partial(jax.jit, static_argnames=("ratio", "sizes", "length"))
def _blocks(key: keys.Key, ratio: tuple[int, ...], sizes: tuple[int, ...], length: int) -> jax.Array:
    """Blocks one after another: block b has its own size and order; the list is their concatenation."""
    longest, unit = max(sizes), sum(ratio)
    pattern = jnp.array([arm for arm, share in enumerate(ratio) for _ in range(share)] * (longest // unit))

    def block(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        size = jax.random.choice(keys.at(key, "size", index), jnp.array(sizes))
        chance = jax.random.uniform(keys.at(key, "block", index), (longest,))
        inside = jnp.arange(longest) < size
        return pattern[jnp.argsort(jnp.where(inside, chance, 2.0))], inside

    arms, inside = jax.vmap(block)(jnp.arange(-(-length // min(sizes))))
    order = jnp.argsort(~inside.ravel(), stable=True)  # drop the places beyond each block's own size
    return arms.ravel()[order][:length]


@functools.partial(jax.jit, static_argnames=("ratio", "length"))
def _simple(key: keys.Key, ratio: tuple[int, ...], length: int) -> jax.Array:
    return jax.random.choice(key, len(ratio), (length,), p=jnp.array(ratio) / sum(ratio))


def sequence(protocol: Protocol, length: int, *, key: keys.Key) -> jax.Array:
    """The arms of the first ``length`` people of one stratum, as indices into ``protocol.arms``; shape (length,).

    >>> from quell.protocol import Protocol
    >>> first = sequence(Protocol.load("ivory"), 8, key=keys.at(2026, "allocation", "Cambridge"))
    >>> sorted(first[:4].tolist()), sorted(first[4:].tolist())
    ([0, 0, 1, 1], [0, 0, 1, 1])
    """
    plan = protocol.allocation
    if plan.method == "simple":
        return _simple(key, shares(protocol), length)
    return _blocks(key, shares(protocol), plan.blocks, length)


def assign(protocol: Protocol, stratum: np.ndarray, strata: int, words: np.ndarray) -> np.ndarray:
    """The arm of each person of one or more trials, enrolled in order; stratum and result have shape (trials, people).

    ``words`` holds the words of one key per trial. The j-th person of a stratum gets the j-th place of its list.
    """
    places = blocks.over(_lists(protocol, stratum.shape[-1], strata), words, width=64)
    arm = np.empty(stratum.shape, dtype=int)
    for s in range(strata):
        here = stratum == s
        rank = np.cumsum(here, axis=-1) - 1
        arm = np.where(here, np.take_along_axis(places[:, s], np.maximum(rank, 0), axis=-1), arm)
    return arm


@functools.cache
def _lists(protocol: Protocol, length: int, strata: int) -> Any:
    """The compiled program that makes every stratum's list of a trial, vectorised over trials."""

    def one(words: jax.Array) -> jax.Array:
        each = jax.vmap(lambda s: sequence(protocol, length, key=keys.at(keys.of(words), "allocation", s)))
        return each(jnp.arange(strata))

    return blocks.Program(one, identity=("allocation", protocol.allocation, shares(protocol), length, strata))

"""Randomness by address: every random number has a name, so adding one changes no other.

A key is a JAX threefry key. ``at(2026, "subject", 17, "pet", 61)`` is the same key on every machine, in every
chunk and in every order; numbers are then drawn from it with ``jax.random``. Salmon et al. 2011
(doi:10.1145/2063384.2063405) describe the counter-based generators this rests on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

Key = Any  # a scalar typed PRNG key (jax.random.key)


def number(name: str) -> int:
    """The 32-bit number that stands for a name in an address (BLAKE2s; the same on every machine).

    >>> number("pet") == number("pet"), number("pet") == number("PET")
    (True, False)
    """
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "big")


def root(key: int | Key) -> Key:
    """A user's integer as a key; a key stays what it is."""
    return jax.random.key(key) if isinstance(key, int) else key


def at(key: int | Key, *address: str | int | jax.Array) -> Key:
    """The key at an address: names and integers, read from left to right.

    Integers may be traced arrays, so ``vmap(lambda i: at(key, "subject", i))(indices)`` gives one key per subject.

    >>> bool((jax.random.key_data(at(1, "a", 2)) == jax.random.key_data(at(at(1, "a"), 2))).all())
    True
    """
    here = root(key)
    for step in address:
        here = jax.random.fold_in(here, number(step) if isinstance(step, str) else step)
    return here


def data(key: int | Key) -> Any:
    """The two 32-bit words of each key, of shape (..., 2): plain numbers that can be kept, cut and handed on.

    >>> bool((data(2**40 + 5) == jax.random.key_data(jax.random.key(2**40 + 5))).all())
    True
    """
    if isinstance(key, int):  # what jax.random.key does, without compiling a program for it
        return np.array([key >> 32 & 0xFFFFFFFF, key & 0xFFFFFFFF], dtype=np.uint32)
    return jax.random.key_data(key)


def of(words: Any) -> Key:
    """The keys behind their words."""
    return jax.random.wrap_key_data(jnp.asarray(words))


def numbered(key: int | Key, name: str, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """The words of ``at(key, name, i)`` for many numbers i, of shape (numbers, 2)."""
    return np.asarray(_numbered(data(key), number(name), jnp.asarray(numbers)))


@jax.jit
def _numbered(words: jax.Array, name: jax.Array, numbers: jax.Array) -> jax.Array:
    under = jax.random.fold_in(of(words), name)
    return jax.lax.map(lambda i: data(jax.random.fold_in(under, i)), numbers)


def each(key: int | Key, names: Sequence[str | int]) -> Key:
    """The keys at several addresses one step further, as an array: ``each(k, names)[i]`` is ``at(k, names[i])``.

    One loop instead of many operations, so that programs with hundreds of named numbers stay small and load quickly.
    """
    numbers = jnp.array([number(name) if isinstance(name, str) else name for name in names], dtype=jnp.uint32)
    return jax.lax.map(lambda one: jax.random.fold_in(root(key), one), numbers)

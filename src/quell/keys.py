"""Randomness by address: every random number has a name, so adding one changes no other.

A key is a JAX threefry key. ``at(2026, "subject", 17, "pet", 61)`` is the same key on every machine, in every
chunk and in every order; numbers are then drawn from it with ``jax.random``. Salmon et al. 2011
(doi:10.1145/2063384.2063405) describe the counter-based generators this rests on.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)

Key = Any  # a scalar typed PRNG key (jax.random.key)


def keep_compilations(folder: pathlib.Path | None = None) -> None:
    """Keep compiled programs between runs, so that the second run starts at once.

    The folder is the user's cache folder, or ``QUELL_CACHE``; it may be deleted at any time.
    """
    import platformdirs

    chosen = folder or pathlib.Path(os.environ.get("QUELL_CACHE") or platformdirs.user_cache_dir("quell"))
    jax.config.update("jax_compilation_cache_dir", str(chosen / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


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


def each(key: int | Key, names: Sequence[str | int]) -> Key:
    """The keys at several addresses one step further, as an array: ``each(k, names)[i]`` is ``at(k, names[i])``.

    One loop instead of many operations, so that programs with hundreds of named numbers stay small and load quickly.
    """
    numbers = jnp.array([number(name) if isinstance(name, str) else name for name in names], dtype=jnp.uint32)
    return jax.lax.map(lambda one: jax.random.fold_in(root(key), one), numbers)

"""A pure program for one, run over many: in blocks of one width, so the bytes never depend on how many there are.

Every block has the same shape (the last is padded), so a program is compiled once, and a person's numbers depend on
nobody else's presence. Blocks run on threads; the order of their results is the order of the people.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

WIDTH = 1024


def count(tree: Any) -> int:
    """The number of people in a tree of arrays with one leading axis."""
    return int(np.shape(jax.tree.leaves(tree)[0])[0])


def workers() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def over(
    program: Callable[..., Any],
    *people: Any,
    width: int = WIDTH,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Run a compiled, vectorised program over trees of arrays of shape (people, ...); returns NumPy arrays.

    ``program`` takes trees of shape (width, ...); ``progress`` is told how many blocks of how many are done.

    >>> over(jax.jit(lambda x: x * 2), np.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]
    """
    number = count(people)
    starts = range(0, max(number, 1), width)

    def block(start: int) -> Any:
        part = jax.tree.map(lambda leaf: _padded(leaf, start, width), people)
        return jax.tree.map(np.asarray, program(*part))

    results: list[Any] = []
    with concurrent.futures.ThreadPoolExecutor(threads or workers()) as pool:
        for done, result in enumerate(pool.map(block, starts), 1):
            results.append(result)
            if progress:
                progress(done, len(starts))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:number], *results)


def _padded(leaf: Any, start: int, width: int) -> Any:
    """One block of an array; the last person stands in for those who are not there."""
    part = leaf[start : start + width]
    missing = width - part.shape[0]
    if missing == 0:
        return part
    if jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
        return jnp.concatenate([part, jnp.repeat(leaf[-1:], missing, axis=0)])
    return np.concatenate([np.asarray(part), np.repeat(np.asarray(leaf[-1:]), missing, axis=0)])

"""A pure program for one, run over many: in blocks of one width, so the bytes never depend on how many there are.

Every block has the same shape (the last is padded), so a program is compiled once, and a person's numbers depend on
nobody else's presence. Blocks run on threads; the order of their results is the order of the people.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jax import export

from quell import store
from quell.keys import jax  # keys turns on 64-bit numbers, on which every program rests

WIDTH = 1024

# What the compiler is asked for on a processor. Threads are over blocks, not inside them.
FAST = {"xla_cpu_prefer_vector_width": "512", "xla_cpu_multi_thread_eigen": "False"}  # twice the speed
SOON = {
    "xla_backend_optimization_level": "1",
    "xla_cpu_multi_thread_eigen": "False",
}  # two thirds of the time to compile


def count(tree: Any) -> int:
    """The number of people in a tree of arrays with one leading axis."""
    return int(np.shape(jax.tree.leaves(tree)[0])[0])


def workers() -> int:
    """The processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Program:
    """A pure function of one person, vectorised and compiled; kept on disk, so that a second run need not even trace it.

    ``identity`` is everything the function depends on besides its arguments and quell's source; a ``hot`` program is
    run so often that the compiler may take its time. Trees of plain tuples,
    dictionaries and quell's own named tuples go in and come out.

    >>> double = Program(lambda x: {"twice": x * 2}, identity=("doubling",))
    >>> double(np.arange(3.0))["twice"].tolist()
    [0.0, 2.0, 4.0]
    """

    def __init__(
        self, function: Callable[..., Any], identity: tuple[Any, ...], in_axes: Any = 0, *, hot: bool = False
    ) -> None:
        self.function = jax.vmap(function, in_axes=in_axes)
        self.identity = identity
        self.options = FAST if hot else SOON
        self.traces = 0
        self._made: dict[Any, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *trees: Any) -> Any:
        leaves, structure = jax.tree.flatten(trees)
        leaves = [np.asarray(leaf) for leaf in leaves]
        shape = (str(structure), tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        with self._lock:
            if shape not in self._made:
                self._made[shape] = self._make(leaves, structure, shape)
        compiled, form = self._made[shape]
        return plant(form, iter(compiled(*leaves)))

    def _make(self, leaves: list[np.ndarray], structure: Any, shape: Any) -> tuple[Any, Any]:
        name = store.digest("program", self.identity, shape, jax.default_backend())
        known, form = store.find("programs", name), store.find("programs", f"{name}.json")
        if known is None or form is None:
            known, form = self._trace(leaves, structure)
            store.put("programs", name, known)
            store.put("programs", f"{name}.json", form)
        program = export.deserialize(bytearray(known))
        options = self.options if jax.default_backend() == "cpu" else None
        return jax.jit(program.call, compiler_options=options).lower(*leaves).compile(), json.loads(form)

    def _trace(self, leaves: list[np.ndarray], structure: Any) -> tuple[bytes, bytes]:
        forms: list[Any] = []

        def flat(*given: Any) -> list[Any]:
            self.traces += 1
            found = self.function(*jax.tree.unflatten(structure, given))
            forms.append(form_of(found))
            return jax.tree.leaves(found)

        program = export.export(jax.jit(flat))(*leaves)
        return bytes(program.serialize()), json.dumps(forms[0]).encode()


def form_of(tree: Any) -> Any:
    """The form of a tree as JSON: what its leaves are to be planted in."""
    if isinstance(tree, dict):
        return {"dict": {key: form_of(tree[key]) for key in sorted(tree)}}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kind = type(tree)
        return {"named": [kind.__module__, kind.__qualname__], "parts": [form_of(part) for part in tree]}
    if isinstance(tree, (tuple, list)):
        return {"parts": [form_of(part) for part in tree]}
    return None


def plant(form: Any, leaves: Iterator[Any]) -> Any:
    """A tree of that form with these leaves; named tuples are quell's own and no others."""
    if form is None:
        return next(leaves)
    if "dict" in form:
        return {key: plant(part, leaves) for key, part in form["dict"].items()}
    parts = [plant(part, leaves) for part in form["parts"]]
    if "named" not in form:
        return tuple(parts)
    module, name = form["named"]
    if not module.startswith("quell."):
        raise ValueError(f"a program of quell makes quell's own records, not {module}.{name}")
    return getattr(importlib.import_module(module), name)(*parts)


def over(
    program: Callable[..., Any],
    *people: Any,
    shared: tuple[Any, ...] = (),
    width: int = WIDTH,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Run a program over trees of arrays of shape (people, ...); returns NumPy arrays.

    ``program`` takes trees of shape (width, ...), then those ``shared`` by all; ``progress`` is told how many blocks
    of how many are done.

    >>> over(Program(lambda x: x * 2, identity=("doubling",)), np.arange(3.0)).tolist()
    [0.0, 2.0, 4.0]
    """
    number = count(people)
    starts = range(0, max(number, 1), width)

    def block(start: int) -> Any:
        part = jax.tree.map(lambda leaf: _padded(leaf, start, width), people)
        return jax.tree.map(np.asarray, program(*part, *shared))

    results: list[Any] = []
    with concurrent.futures.ThreadPoolExecutor(threads or workers()) as pool:
        for done, result in enumerate(pool.map(block, starts), 1):
            results.append(result)
            if progress:
                progress(done, len(starts))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:number], *results)


def _padded(leaf: Any, start: int, width: int) -> Any:
    """One block of an array; the last person stands in for those who are not there."""
    part = np.asarray(leaf)[start : start + width]
    missing = width - part.shape[0]
    return part if missing == 0 else np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])

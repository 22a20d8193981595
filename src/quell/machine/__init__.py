"""A machine that lives people: pieces written in JAX for one person, run over many from a tape that all share.

Each piece is traced once and becomes straight-line code on the processor's vectors, one lane per person: ten times
faster than small compiled loops over arrays. The tape is data, so another calendar needs no new compilation. The same
machine is run by JAX itself (``traced``) for gradients, for graphics processors, and to check the other way.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quell.blocks import plant, workers
from quell.keys import jax
from quell.machine import native
from quell.machine import traced as by_jax

EMIT = -1  # on a tape: what can be seen now goes into the next row
CHUNK = 4096  # people at a time in one thread: memory for numbers under way does not grow with their number


@dataclasses.dataclass(frozen=True, eq=False)
class Tape:
    """Instructions shared by all: which piece, at which step length, with which number, and which column of givens."""

    lengths: tuple[float, ...]
    piece: np.ndarray
    level: np.ndarray
    argument: np.ndarray
    column: np.ndarray

    @property
    def rows(self) -> int:
        """How often it emits."""
        return int((np.asarray(self.piece) == EMIT).sum())


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Machine:
    """Pure functions of one person, on trees of scalars.

    ``begin(inputs) -> (state, constants)``; ``pace(constants, length) -> factors``, what depends only on the person and a
    step's length, worked out once per length on the tape; each of ``pieces`` is
    ``piece(state, constants, factors, argument, given) -> state``; ``emit(state, constants)`` is what can be seen;
    ``finish(state, constants)`` what is told at the end. A piece named in ``when`` is passed over where
    ``when[name](state, constants)`` is zero for everybody at hand; where it is zero for one, the piece must change nothing
    for that one.

    >>> def begin(x): return {"level": x}, {}
    >>> def halve(state, constants, factors, argument, given): return {"level": state["level"] * factors["left"] + given}
    >>> one = Machine(identity=("halving",), begin=begin, pace=lambda constants, days: {"left": 0.5**days},
    ...     pieces={"halve": halve}, emit=lambda state, constants: state, finish=lambda state, constants: state)
    >>> tape = Tape((1.0,), np.array([0, -1]), np.array([0, 0]), np.zeros(2), np.array([0, -1]))
    >>> one.run(np.array([8.0, 2.0]), np.array([[1.0], [0.0]]), tape)[0]["level"].ravel().tolist()
    [5.0, 1.0]
    """

    identity: tuple[Any, ...]
    begin: Callable[..., Any]
    pace: Callable[..., Any]
    pieces: dict[str, Callable[..., Any]]
    emit: Callable[..., Any]
    finish: Callable[..., Any]
    when: dict[str, Callable[..., Any]] = dataclasses.field(default_factory=dict)

    def run(
        self,
        inputs: Any,
        given: np.ndarray,
        tape: Tape,
        *,
        threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Any, Any]:
        """Everybody's course: what was seen, arrays of shape (people, rows), and the outcome, of shape (people,).

        ``inputs`` is a tree of numbers or arrays of shape (people,); ``given`` has shape (people, columns).
        No byte depends on who else is there or on the number of threads.
        """
        kernel = native.kernel(self, inputs)
        leaves = [np.asarray(leaf, dtype=np.float64) for leaf in jax.tree.leaves(inputs)]
        people = given.shape[0]
        seen: list[np.ndarray] = [np.empty((people, tape.rows)) for _ in range(kernel.seen)]
        outcome: list[np.ndarray] = [np.empty(people) for _ in range(kernel.outcome)]
        chunks = list(_chunks(people, threads or workers()))

        def chunk(part: slice) -> None:
            block = [leaf if leaf.ndim == 0 else leaf[part] for leaf in leaves]
            rows, ends = kernel.run(block, given[part], tape)
            for target, row in zip(seen, rows, strict=True):
                target[part] = row.T
            for target, end in zip(outcome, ends, strict=True):
                target[part] = end

        with concurrent.futures.ThreadPoolExecutor(threads or workers()) as pool:
            for done, _ in enumerate(pool.map(chunk, chunks), 1):
                if progress:
                    progress(done, len(chunks))
        return plant(kernel.forms["seen"], iter(seen)), plant(kernel.forms["outcome"], iter(outcome))

    def traced(self, inputs: Any, given: Any, tape: Tape) -> tuple[Any, Any]:
        """One person's course by JAX: may be vectorised, compiled, differentiated. ``given`` has shape (columns,)."""
        return by_jax.run(self, inputs, given, tape)


def _chunks(people: int, threads: int) -> Iterator[slice]:
    """Parts of the people, in whole vectors, so that every thread has work."""
    size = min(CHUNK, -(-people // (threads * native.WIDTH)) * native.WIDTH)
    return (slice(start, min(start + size, people)) for start in range(0, people, size))

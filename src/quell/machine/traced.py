"""The machine run by JAX: the tape is scanned, each instruction switches to its piece."""

from __future__ import annotations

from typing import Any

import numpy as np

from quell.keys import jax


def run(machine: Any, inputs: Any, given: Any, tape: Any) -> tuple[Any, Any]:
    """What one person's course shows, leaves of shape (rows,), and its outcome."""
    jnp = jax.numpy
    state, constants = _floats(machine.begin(inputs))
    lengths = jnp.asarray(tape.lengths)
    factors = jax.vmap(lambda days: _floats(machine.pace(constants, days)))(lengths)
    columns = jnp.append(jnp.asarray(given, dtype=float), 0.0)
    blank = jax.eval_shape(machine.emit, state, constants)
    seen = jax.tree.map(lambda leaf: jnp.zeros((tape.rows + 1,), dtype=float), blank)
    piece = np.asarray(tape.piece)
    row = np.where(piece < 0, np.cumsum(piece < 0) - 1, tape.rows)
    instructions = tuple(jnp.asarray(x) for x in (piece + 1, tape.level, tape.argument, tape.column, row))

    def choose(done: Any) -> Any:
        def branch(now: Any, rows: Any, by: Any, at: Any, amount: Any, place: Any) -> Any:
            return _floats(done(now, constants, by, at, amount)), rows

        return branch

    def look(now: Any, rows: Any, by: Any, at: Any, amount: Any, place: Any) -> Any:
        shown = _floats(machine.emit(now, constants))
        return now, jax.tree.map(lambda all_, one: all_.at[place].set(one), rows, shown)

    branches = [look, *(choose(done) for done in machine.pieces.values())]

    def step(carry: Any, instruction: Any) -> tuple[Any, None]:
        which, level, at, column, place = instruction
        by = jax.tree.map(lambda leaf: leaf[level], factors)
        return jax.lax.switch(which, branches, *carry, by, at, columns[column], place), None

    (state, seen), _ = jax.lax.scan(step, (state, seen), instructions)
    return jax.tree.map(lambda leaf: leaf[: tape.rows], seen), machine.finish(state, constants)


def _floats(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype=float), tree)

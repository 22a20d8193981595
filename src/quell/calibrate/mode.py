"""The most probable constants of a study and the normal approximation about them, by damped Gauss-Newton steps.

The curvature has the form of an arrow: people meet only in the population's constants, so that each person is solved alone.

    [L_i  C_i] [dx_i ]   [g_i]        L = J'J + W, W = 1 / (omega c)^2      J: readings in errors, by constants
    [C_i'  D ] [dzeta] = [g  ]        dzeta = (D - sum C'L^-1 C)^-1 (g - sum C'L^-1 g_i)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell.calibrate import hierarchy
from quell.calibrate.followed import errors
from quell.calibrate.hierarchy import Mode, Model
from quell.keys import jax
from quell.measure import pet

STEPS, SHRINK = 25, (1.0, 0.5, 0.25, 0.1, 0.03)
ENOUGH = 0.01  # of a log density gained in a step: no more is looked for


class Curvature(NamedTuple):
    """Each person's own block, its solution for the population, and the population's block with people taken out."""

    inverse: np.ndarray  # (people, personal, personal) L^-1
    along: np.ndarray  # (people, personal, fitted) -L^-1 C
    common: np.ndarray  # (fitted, fitted)


class Finder:
    """Finds the mode of a study's model; compiled once, though the shapes are learned again."""

    def __init__(self, model: Model) -> None:
        flat = jnp.zeros(len(model.choice.personal))

        def density(arrays: Any, zeta: Any, own: Any) -> Any:
            return hierarchy.density(hierarchy.relearned(model, arrays), zeta, flat, own)

        self._value = jax.jit(density)
        self._slope = jax.jit(jax.grad(density, argnums=(1, 2)))
        self._moves = jax.jit(lambda arrays, zeta, own: _moves(hierarchy.relearned(model, arrays), zeta, own))

    def __call__(self, model: Model, begin: Mode | None = None) -> Mode:
        """The mode with the spreads between people as the table has them, and the approximation about it."""
        choice, arrays = model.choice, hierarchy.learned(model)
        zeta = np.zeros(len(choice.population)) if begin is None else begin.zeta
        own = choice.centre[choice.personal] + choice.spread[choice.personal] * model.mean
        own = own if begin is None else begin.own
        now = float(self._value(arrays, zeta, own))
        for _ in range(STEPS):
            curve = _curvature(model, np.asarray(self._moves(arrays, zeta, own)))
            step, step_own = _step(curve, *(np.asarray(x) for x in self._slope(arrays, zeta, own)))
            tried = [(float(self._value(arrays, zeta + s * step, own + s * step_own)), s) for s in SHRINK]
            best, share = max((one for one in tried if np.isfinite(one[0])), default=(now, 0.0))
            if not best > now + ENOUGH:
                break
            now, zeta, own = best, zeta + share * step, own + share * step_own
        curve = _curvature(model, np.asarray(self._moves(arrays, zeta, own)))
        root = np.linalg.cholesky(np.linalg.inv(curve.common))
        return Mode(zeta, own, root, curve.along, np.linalg.cholesky(curve.inverse))


def _step(curve: Curvature, g: np.ndarray, g_own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss-Newton step for slopes g of the population and of each person."""
    step = np.linalg.solve(curve.common, g + np.einsum("npe,np->e", curve.along, g_own))
    return step, np.einsum("npq,nq->np", curve.inverse, g_own) + curve.along @ step


def _moves(model: Model, zeta: Any, own: Any) -> Any:
    """How readings, in errors, move with each constant: (constants, people, visits, kinds)."""
    theta, _ = hierarchy.population(model.choice, zeta, jnp.zeros(len(model.choice.personal)))
    x = hierarchy.constants(model, theta, own)
    scan = pet.pet().scan_sd
    error = jnp.stack(
        [jnp.sqrt(e**2 + model.missed[:, :, k] ** 2 + (scan**2 if kind.location else 0.0))
         for k, (kind, e) in enumerate(zip(model.who.kinds, errors(model.who.kinds), strict=True))], axis=-1)  # fmt: skip
    there = np.isfinite(model.who.value)

    def one(direction: Any) -> Any:
        tangent = jnp.broadcast_to(direction, x.shape)
        moved = jax.jvp(lambda y: jnp.stack(hierarchy.readings(model, y), axis=-1), (x,), (tangent,))[1]
        return jnp.where(there, moved / error, 0.0)

    return jax.lax.map(one, jnp.eye(x.shape[1]))


def _curvature(model: Model, moves: np.ndarray) -> Curvature:
    choice = model.choice
    count, people = moves.shape[:2]
    j = np.moveaxis(moves.reshape(count, people, -1), 0, 2)  # (people, readings, constants)
    personal, fitted = choice.personal, choice.population
    through = np.zeros((count, len(fitted)))  # constants by zeta, where they are not people's own
    through[fitted, np.arange(len(fitted))] = np.where(np.isin(fitted, personal), 0.0, choice.sigma[fitted])
    own, shared = j[:, :, personal], j @ through
    pull = 1 / (choice.spread[personal] * model.left) ** 2
    onto = np.where(fitted == personal[:, None], choice.sigma[fitted], 0.0)  # people's prior means by zeta
    block = np.swapaxes(own, 1, 2) @ own + np.diag(pull)
    cross = np.swapaxes(own, 1, 2) @ shared - pull[:, None] * onto
    inverse = np.linalg.inv(block)
    inverse = (inverse + np.swapaxes(inverse, 1, 2)) / 2
    along = -inverse @ cross
    common = np.eye(len(fitted)) + people * onto.T @ (pull[:, None] * onto)
    common = common + (np.swapaxes(shared, 1, 2) @ shared + np.swapaxes(cross, 1, 2) @ along).sum(axis=0)
    return Curvature(inverse, along, (common + common.T) / 2)

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
ROUNDS = 2  # of mode and spreads in turn
ENOUGH = 0.01  # of a log density gained in a step: no more is looked for


class Curvature(NamedTuple):
    """Each person's own block, its solution for the population, and the population's block with people taken out."""

    inverse: np.ndarray  # (people, personal, personal) L^-1
    along: np.ndarray  # (people, personal, fitted) -L^-1 C
    common: np.ndarray  # (fitted, fitted)
    pull: np.ndarray  # (personal,) W


class Finder:
    """Finds the mode of a study's model; compiled once, though the shapes are learned again."""

    def __init__(self, model: Model) -> None:
        def density(arrays: Any, zeta: Any, own: Any, eta: Any) -> Any:
            return hierarchy.density(hierarchy.relearned(model, arrays), zeta, eta, own)

        self._value = jax.jit(density)
        self._slope = jax.jit(jax.grad(density, argnums=(1, 2)))
        self._moves = jax.jit(lambda arrays, zeta, own: _moves(hierarchy.relearned(model, arrays), zeta, own))

    def __call__(self, model: Model, begin: Mode | None = None) -> Mode:
        """The mode given how far people differ, that found from the mode in turn; and the approximation about it."""
        choice = model.choice
        zeta = np.zeros(len(choice.population)) if begin is None else begin.zeta
        own = choice.centre[choice.personal] + choice.spread[choice.personal] * model.mean
        own = own if begin is None else begin.own
        eta = np.zeros(len(choice.personal)) if begin is None else begin.eta
        for _ in range(ROUNDS):
            zeta, own, curve = self._climbed(model, zeta, own, eta)
            eta, deviation = _apart(model, zeta, own, eta, curve)
        zeta, own, curve = self._climbed(model, zeta, own, eta)
        root = np.linalg.cholesky(np.linalg.inv(curve.common))
        roots, shift = np.linalg.cholesky(curve.inverse), _shift(model, zeta, own, eta, curve)
        return Mode(zeta, own, root, curve.along, roots, eta, deviation, curve.pull, shift)

    def _climbed(
        self, model: Model, zeta: np.ndarray, own: np.ndarray, eta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Curvature]:
        """The mode given the scores of spreads, and its curvature."""
        arrays = hierarchy.learned(model)
        now = float(self._value(arrays, zeta, own, eta))
        for _ in range(STEPS):
            curve = _curvature(model, np.asarray(self._moves(arrays, zeta, own)), eta)
            step, step_own = _step(curve, *(np.asarray(x) for x in self._slope(arrays, zeta, own, eta)))
            tried = [(float(self._value(arrays, zeta + s * step, own + s * step_own, eta)), s) for s in SHRINK]
            best, share = max((one for one in tried if np.isfinite(one[0])), default=(now, 0.0))
            if not best > now + ENOUGH:
                break
            now, zeta, own = best, zeta + share * step, own + share * step_own
        return zeta, own, _curvature(model, np.asarray(self._moves(arrays, zeta, own)), eta)


def _middles(model: Model, zeta: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where people's own constants are expected, (people, personal), and the part of it that covariates make."""
    theta, omega = (np.asarray(x) for x in hierarchy.population(model.choice, zeta, eta))
    known = omega * model.mean
    return theta[model.choice.personal] + known, known


def _apart(
    model: Model, zeta: np.ndarray, own: np.ndarray, eta: np.ndarray, curve: Curvature
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of spreads where the marginal likelihood is greatest, by one step of Fisher's, and their deviation.

    d log p / d log omega = sum_i (E z_ik^2 - 1), and its information 2 sum_i r_ik^2: z a person's score, r how much is known of it.
    """
    unsure = hierarchy.unsure(model.choice)
    left = np.diagonal(curve.inverse, axis1=1, axis2=2) * curve.pull
    score = (own - _middles(model, zeta, eta)[0]) ** 2 * curve.pull + left - 1
    precision = 1 + 2 * unsure**2 * ((1 - left) ** 2).sum(axis=0)
    step = (unsure * score.sum(axis=0) - eta) / precision
    return eta + np.clip(step, -1, 1), 1 / np.sqrt(precision)


def _shift(model: Model, zeta: np.ndarray, own: np.ndarray, eta: np.ndarray, curve: Curvature) -> np.ndarray:
    """How people's own constants move as the log of each spread does: (people, personal, personal)."""
    middle, known = _middles(model, zeta, eta)
    return curve.inverse * (curve.pull * (2 * (own - middle) + known))[:, None, :]


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


def _curvature(model: Model, moves: np.ndarray, eta: np.ndarray) -> Curvature:
    choice = model.choice
    count, people = moves.shape[:2]
    j = np.moveaxis(moves.reshape(count, people, -1), 0, 2)  # (people, readings, constants)
    personal, fitted = choice.personal, choice.population
    through = np.zeros((count, len(fitted)))  # constants by zeta, where they are not people's own
    through[fitted, np.arange(len(fitted))] = np.where(np.isin(fitted, personal), 0.0, choice.sigma[fitted])
    own, shared = j[:, :, personal], j @ through
    pull = 1 / (choice.spread[personal] * np.exp(hierarchy.unsure(choice) * eta) * model.left) ** 2
    onto = np.where(fitted == personal[:, None], choice.sigma[fitted], 0.0)  # people's prior means by zeta
    block = np.swapaxes(own, 1, 2) @ own + np.diag(pull)
    cross = np.swapaxes(own, 1, 2) @ shared - pull[:, None] * onto
    inverse = np.linalg.inv(block)
    inverse = (inverse + np.swapaxes(inverse, 1, 2)) / 2
    along = -inverse @ cross
    common = np.eye(len(fitted)) + people * onto.T @ (pull[:, None] * onto)
    common = common + (np.swapaxes(shared, 1, 2) @ shared + np.swapaxes(cross, 1, 2) @ along).sum(axis=0)
    return Curvature(inverse, along, (common + common.T) / 2, pull)

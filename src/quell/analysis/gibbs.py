"""Bayesian multiple imputation: parameters and unseen values drawn in turn (data augmentation).

Outcomes over the visits are multivariate normal with a regression on the design, Y = X B + E, rows of E ~ N(0, S), and
the prior p(B, S) proportional to |S|^-(visits + 1)/2 (Jeffreys), as Schafer's norm and SAS PROC MI with MCMC have it:

    unseen values | B, S  normal given the seen values of the same subject
    S | values            inverse Wishart, df = n - rank(X), scale the residual sums of squares and products
    B | S, values         normal about least squares, covariance S x (X'X)^-1      (Schafer 1997, chapters 5 and 6)

Every imputation has a chain of its own, so that imputations are independent; all chains of all trials step together.
Random numbers are drawn at (key, name, "imputation", m, step): another imputation changes none of the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.reference_based import given_seen, root_of

# A design column that explains less of itself than this beyond the columns before it is left out, as R's lm does.
ALIASED = 1e-7
# The least eigenvalue of the residual correlations; below it visits repeat each other.
DEGENERATE = 1e-10
# Steps before a draw is kept: rbmi's default.
BURN_IN = 200


class Regression(NamedTuple):
    """What is fixed along a chain, for trials on one axis.

    outcome (trials, n, visits), NaN unseen; design (trials, n, q) zero where not kept and in aliased columns; projector
    (trials, q, n) gives least squares, root (trials, q, q) a root of (X'X)^-1; df (trials,) is n - rank; `sound`
    (trials,) whether there is enough to draw from; `aliased` (trials,) whether a column was left out.
    """

    outcome: np.ndarray
    design: np.ndarray
    kept: np.ndarray
    projector: np.ndarray
    root: np.ndarray
    df: np.ndarray
    sound: np.ndarray
    aliased: np.ndarray


class Drawn(NamedTuple):
    """One draw per chain: coefficients (trials, m, q, visits) and covariance (trials, m, visits, visits)."""

    coefficients: np.ndarray
    covariance: np.ndarray


def regression(outcome: np.ndarray, design: np.ndarray, kept: np.ndarray) -> Regression:
    """Prepare the regression of outcome (trials, n, visits) on design (trials, n, q) among kept (trials, n) subjects.

    It is sound where every visit has been seen in more subjects than there are columns and visits together, with every
    column (arm) among them, and the visits vary and do not repeat each other.

    >>> y = np.array([[[1.0, 2.0], [2.0, 1.0], [4.0, 3.0], [3.0, 5.0], [5.0, 4.0]]])
    >>> made = regression(y, np.ones((1, 5, 1)), np.ones((1, 5), bool))
    >>> made.sound.tolist(), made.df.tolist()
    ([True], [4])
    """
    visits = outcome.shape[-1]
    outcome = np.where(kept[..., None], outcome, np.nan)
    design, aliased = _without_aliased(np.where(kept[..., None], design, 0.0))
    used = np.asarray(np.abs(design).max(-2, initial=0.0) > 0)
    rank = used.sum(-1)
    gram = np.swapaxes(design, -1, -2) @ design + _diagonal(~used)
    root = np.linalg.inv(np.swapaxes(np.linalg.cholesky(gram), -1, -2))
    projector = root @ np.swapaxes(root, -1, -2) @ np.swapaxes(design, -1, -2)
    sound = _enough(np.isfinite(outcome).astype(float), (design != 0).astype(float), rank)
    made = Regression(outcome, design, kept, projector, root, kept.sum(-1) - rank, sound, aliased)
    sums = _sums(_started(made), made)[1]
    scale = np.sqrt(np.maximum(np.diagonal(sums, axis1=-2, axis2=-1), 0.0))
    size = np.abs(np.where(np.isnan(outcome), 0.0, outcome)).max(-2, initial=0.0)
    varies = (scale > ALIASED * size).all(-1)
    scale = np.where(varies[:, None], scale, 1.0)
    correlation = np.where(sound[:, None, None], sums / (scale[:, :, None] * scale[:, None, :]), np.eye(visits))
    least = np.linalg.eigvalsh(correlation)[..., 0] if visits else np.ones(len(sound))
    return made._replace(sound=sound & varies & (least > DEGENERATE))


def draw(made: Regression, words: np.ndarray, steps: int = BURN_IN) -> Drawn:
    """Parameters after `steps` steps of a chain per imputation, from keys' words (trials, m, 2).

    Trials that are not sound get coefficients and covariances of no meaning, never an error.

    >>> from quell import keys
    >>> y = np.array([[[1.0, 2.0], [2.0, 1.0], [4.0, 3.0], [3.0, 5.0], [5.0, np.nan], [2.0, 2.5]]])
    >>> made = regression(y, np.ones((1, 6, 1)), np.ones((1, 6), bool))
    >>> words = keys.numbered(1, "imputation", range(3))[None]
    >>> one, other = draw(made, words, 20), draw(made, words[:, :2], 20)
    >>> bool(np.all(one.covariance[:, :2] == other.covariance))
    True
    """
    trials, n, visits = made.outcome.shape
    columns = made.design.shape[-1]
    sizes = (n * visits, columns * visits, visits * visits)
    shapes = (np.maximum(made.df, visits + 1)[:, None] - np.arange(visits)) / 2
    values = np.repeat(_started(made)[:, None], words.shape[1], 1)
    patterns = _patterns(made)
    result = Drawn(np.zeros((trials, words.shape[1], columns, visits)), np.zeros((*words.shape[:2], visits, visits)))
    for step in range(steps):
        normal, uniform = random_numbers(words, step, sum(sizes), visits)
        gamma = special.gammaincinv(shapes[:, None], uniform)
        unseen, slopes, wishart = (
            part.reshape(*words.shape[:2], -1, visits) for part in np.split(normal, np.cumsum(sizes[:-1]), axis=-1)
        )
        result = _parameters(values, made, slopes, wishart, gamma)
        values = _values(result, made, patterns, unseen)
    return result


def chains(words: np.ndarray, imputations: int, name: str) -> np.ndarray:
    """The words (trials, m, 2) of the keys at (key, name, "imputation", m), from the trials' (trials, 2)."""
    import jax
    import jax.numpy as jnp

    from quell import keys

    def one(word: Any) -> Any:
        here = keys.at(keys.of(word), name, "imputation")
        return jax.vmap(lambda m: keys.data(keys.at(here, m)))(jnp.arange(imputations))

    return np.asarray(jax.vmap(one)(jnp.asarray(words)))


def random_numbers(words: np.ndarray, step: int, normals: int, uniforms: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard normals (trials, m, normals) and uniforms (trials, m, uniforms) at one step of each chain."""
    import jax.numpy as jnp

    one = _drawer()(jnp.asarray(words), step, normals, uniforms)
    return np.asarray(one[0]), np.asarray(one[1])


@functools.cache
def _drawer() -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    from quell import keys

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def drawn(words: Any, step: Any, normals: int, uniforms: int) -> Any:
        def one(word: Any) -> Any:
            here = keys.at(keys.of(word), step)
            smallest = jnp.finfo(float).tiny
            return (
                jax.random.normal(keys.at(here, "normal"), (normals,)),
                jax.random.uniform(keys.at(here, "uniform"), (uniforms,), minval=smallest),
            )

        return jax.vmap(jax.vmap(one))(words)

    return drawn


def _without_aliased(design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The design with columns that repeat those before them set to zero, and whether a column that varied was."""
    basis = np.zeros_like(design)
    design = design.copy()
    aliased = np.zeros(design.shape[0], bool)
    for k in range(design.shape[-1]):
        column = design[..., k]
        rest = column
        for _ in range(2):
            rest = rest - np.squeeze(basis[..., :k] @ (np.swapaxes(basis[..., :k], -1, -2) @ rest[..., None]), -1)
        size, left = np.linalg.norm(column, axis=-1), np.linalg.norm(rest, axis=-1)
        gone = left <= ALIASED * size
        basis[..., k] = np.where(gone[:, None], 0.0, rest / np.where(gone, 1.0, left)[:, None])
        design[..., k] = np.where(gone[:, None], 0.0, column)
        aliased |= gone & (size > 0)
    return design, aliased


def _enough(seen: np.ndarray, used: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Whether each trial has been seen enough for its posterior distribution to be one (a safe rule, not the least)."""
    visits = seen.shape[-1]
    together = np.swapaxes(seen, -1, -2) @ seen
    every = np.asarray(np.diagonal(together, axis1=-2, axis2=-1) > (rank + visits)[:, None])
    columns = np.swapaxes(seen, -1, -2) @ used
    present = used.max(-2, keepdims=True, initial=0.0) > 0
    return (
        every.all(-1) & (together > (rank + 1)[:, None, None]).all((-1, -2)) & ((columns > 0) | ~present).all((-1, -2))
    )


def _diagonal(values: np.ndarray) -> np.ndarray:
    return values[..., None] * np.eye(values.shape[-1])


def _started(made: Regression) -> np.ndarray:
    """Values with the unseen at their regression on the design, visit by visit: where every chain starts."""
    seen = np.isfinite(made.outcome)
    known = np.where(seen, made.outcome, 0.0)
    filled = known.copy()
    for visit in range(known.shape[-1]):
        rows = np.where(seen[..., visit, None], made.design, 0.0)
        gram = np.swapaxes(rows, -1, -2) @ rows
        slight = ALIASED**2 * np.trace(gram, axis1=-2, axis2=-1)[:, None, None] + 1e-300
        empty = np.diagonal(gram, axis1=-2, axis2=-1) == 0
        slope = np.linalg.solve(
            gram + slight * np.eye(gram.shape[-1]) + _diagonal(empty),
            np.swapaxes(rows, -1, -2) @ known[..., visit, None],
        )
        filled[..., visit] = np.where(
            seen[..., visit] | ~made.kept, known[..., visit], np.squeeze(made.design @ slope, -1)
        )
    return filled


def _sums(values: np.ndarray, made: Regression) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares coefficients, and residual sums of squares and products, of (trials, [m,] n, visits)."""
    chains = values.ndim == 4
    projector = made.projector[:, None] if chains else made.projector
    design = made.design[:, None] if chains else made.design
    slope = projector @ values
    residual = values - design @ slope
    return slope, np.swapaxes(residual, -1, -2) @ residual


def _parameters(
    values: np.ndarray, made: Regression, slopes: np.ndarray, wishart: np.ndarray, gamma: np.ndarray
) -> Drawn:
    """S = G G' with G = L A^-T, L L' the residual sums and A Bartlett's triangle; B about least squares."""
    visits = values.shape[-1]
    slope, sums = _sums(values, made)
    fine = made.sound[:, None] & np.isfinite(sums).all((-1, -2))
    sums = np.where(fine[..., None, None], sums, np.eye(visits))
    triangle = np.tril(wishart, -1) + _diagonal(np.sqrt(2 * gamma))
    spread = root_of(sums) @ np.swapaxes(np.linalg.inv(triangle), -1, -2)
    slope = slope + made.root[:, None] @ slopes @ np.swapaxes(spread, -1, -2)
    return Drawn(slope, spread @ np.swapaxes(spread, -1, -2))


def _patterns(made: Regression) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For every pattern of visits seen (visits,) with something unseen: in which trial and row its subjects stand."""
    seen = np.isfinite(made.outcome)
    code = seen.astype(np.int64) @ (1 << np.arange(seen.shape[-1]))
    lacking = made.kept & ~seen.all(-1)
    return [
        (*np.nonzero(lacking & (code == one)), (int(one) >> np.arange(seen.shape[-1])) & 1 == 1)
        for one in np.unique(code[lacking])
    ]


def _values(
    drawn: Drawn, made: Regression, patterns: list[tuple[np.ndarray, np.ndarray, np.ndarray]], noise: np.ndarray
) -> np.ndarray:
    """Seen values with the unseen drawn anew."""
    values = np.where(np.isnan(made.outcome), 0.0, made.outcome)[:, None]
    values = np.repeat(values, noise.shape[1], 1)
    for trial, row, pattern in patterns:
        weights, root = given_seen(drawn.covariance, pattern)
        means = np.einsum("kq,kmqv->kmv", made.design[trial, row], drawn.coefficients[trial])
        here = values[trial, :, row]
        part = np.einsum("kmuv,kmv->kmu", weights[trial], np.where(pattern, here - means, 0.0))
        part += np.einsum("kmuv,kmv->kmu", root[trial], noise[trial, :, row])
        values[trial, :, row] = np.where(pattern, here, means + part)
    return values

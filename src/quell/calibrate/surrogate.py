"""A polynomial that stands for the body while sampling: each term of the likelihood by the constants that move it.

    f(x) = a + sum b_i x_i + sum c_ij x_i x_j      x: constants on the scale of ``space.features``

learned by ridge regression from worlds the body lived, the penalty chosen by leaving one out. What it misses is measured
(``misses``), counted as error while sampling, and put right afterwards by the body itself (``correct``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

CURVED = 0.3  # a curvature is believed to be this much smaller than a slope
PENALTIES = 10.0 ** np.arange(-7.0, 3.0)


class Piece(NamedTuple):
    """The polynomial of one term."""

    active: np.ndarray  # (k,) which constants
    middle: np.ndarray  # (k,) where their scale begins
    width: np.ndarray  # (k,)
    start: float
    slopes: np.ndarray  # (k,)
    bends: np.ndarray  # (k, k), upper triangle


class Surrogate(NamedTuple):
    """All terms, and what each misses (root mean square over worlds left out, on the natural scale)."""

    pieces: tuple[Piece, ...]
    misses: np.ndarray


def moving(shifts: np.ndarray, errors: np.ndarray, least: float = 0.02) -> list[np.ndarray]:
    """Which constants move each term: those whose step of one prior deviation moves it by ``least`` of its error.

    ``shifts`` (constants, terms) is the larger of the two steps; ``errors`` (terms,).
    """
    return [np.flatnonzero(shifts[:, j] > least * errors[j]) for j in range(shifts.shape[1])]


def learn(x: np.ndarray, values: np.ndarray, active: list[np.ndarray], weights: np.ndarray) -> Surrogate:
    """The polynomials of all terms: x (worlds, constants), values (worlds, terms), weights (worlds,) of the worlds."""
    found = [_piece(x[:, some], values[:, j], some, weights) for j, some in enumerate(active)]
    return Surrogate(tuple(one for one, _ in found), np.array([miss for _, miss in found]))


def _piece(x: np.ndarray, y: np.ndarray, active: np.ndarray, weights: np.ndarray) -> tuple[Piece, float]:
    share = weights / weights.sum()
    middle = share @ x
    width = np.sqrt(share @ (x - middle) ** 2) + 1e-9
    scaled, level = (x - middle) / width, float(share @ y)
    upper = np.triu_indices(len(active))
    basis = np.column_stack([np.ones(len(y)), scaled, CURVED * scaled[:, upper[0]] * scaled[:, upper[1]]])
    coefficients, miss = _ridge(basis, y - level, weights)
    bends = np.zeros((len(active), len(active)))
    k = len(active)
    bends[upper] = CURVED * coefficients[1 + k :]
    return Piece(active, middle, width, level + coefficients[0], coefficients[1 : 1 + k], bends), miss


def _ridge(basis: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Weighted ridge regression, its penalty chosen by leaving one out (Golub 1979); and the error so found.

    The constant is not penalised: it is taken out of every column first.
    """
    share, root = weights / weights.sum(), np.sqrt(weights)
    centre = share @ basis[:, 1:]
    u, s, v = np.linalg.svd(root[:, None] * (basis[:, 1:] - centre), full_matrices=False)
    target = root * (y - share @ y)
    along = u.T @ target
    best: tuple[float, Any] = (np.inf, None)
    for penalty in PENALTIES * s[0] ** 2 / 100:
        shrink = s**2 / (s**2 + penalty)
        left = (target - u @ (shrink * along)) / np.maximum(1 - (u**2) @ shrink - share, 1e-3)
        miss = float(np.sqrt((left**2).sum() / weights.sum()))
        if miss < best[0]:
            best = miss, penalty
    miss, penalty = best
    slopes = v.T @ (s / (s**2 + penalty) * along)
    return np.concatenate([[share @ y - centre @ slopes], slopes]), miss


def evaluate(one: Surrogate, x: Any) -> Any:
    """The terms at constants x (..., constants) on the surrogate's scale; shape (..., terms). Written with jax.numpy."""
    found = []
    for piece in one.pieces:
        scaled = (x[..., piece.active] - piece.middle) / piece.width
        found.append(piece.start + scaled @ piece.slopes + ((scaled @ piece.bends) * scaled).sum(axis=-1))
    return jnp.stack(found, axis=-1)

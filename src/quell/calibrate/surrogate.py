"""A polynomial that stands for the body while sampling: each term of the likelihood by the constants that move it.

    f(x) = a + sum b_i x_i + sum c_ij x_i x_j      x: constants on the scale of ``space.features``

learned by ridge regression from worlds the body lived, the penalty chosen by leaving one out. What it misses is measured
(``misses``), counted as error while sampling, and put right afterwards by the body itself (``correct``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

CURVED = 0.3  # a curvature is believed to be this much smaller than a slope
PENALTIES = 10.0 ** np.arange(-7.0, 3.0)


class Surrogate(NamedTuple):
    """The polynomials of all terms over the constants that any of them uses."""

    used: np.ndarray  # (d,) which constants
    middle: np.ndarray  # (d,) where their scale begins
    width: np.ndarray  # (d,)
    start: np.ndarray  # (terms,)
    slopes: np.ndarray  # (terms, d)
    bends: np.ndarray  # (terms, d, d), upper triangles
    misses: np.ndarray  # (terms,) root mean square over worlds left out, on the natural scale

    def of(self, terms: np.ndarray) -> Surrogate:
        """Some of the terms, over the constants that they use."""
        mine = np.flatnonzero((self.slopes[terms] != 0).any(axis=0))
        inside = self.bends[np.ix_(terms, mine, mine)]
        axes = (self.used[mine], self.middle[mine], self.width[mine])
        return Surrogate(*axes, self.start[terms], self.slopes[np.ix_(terms, mine)], inside, self.misses[terms])


def moving(shifts: np.ndarray, errors: np.ndarray, least: float = 0.02) -> list[np.ndarray]:
    """Which constants move each term: those whose step of one prior deviation moves it by ``least`` of its error.

    ``shifts`` (constants, terms) is the larger of the two steps; ``errors`` (terms,).
    """
    return [np.flatnonzero(shifts[:, j] > least * errors[j]) for j in range(shifts.shape[1])]


def learn(x: np.ndarray, values: np.ndarray, active: list[np.ndarray], weights: np.ndarray) -> Surrogate:
    """The polynomials of all terms: x (worlds, constants), values (worlds, terms), weights (worlds,) of the worlds."""
    used = np.unique(np.concatenate(active))
    share = weights / weights.sum()
    middle = share @ x[:, used]
    width = np.sqrt(share @ (x[:, used] - middle) ** 2) + 1e-9
    scaled = (x[:, used] - middle) / width
    parts = [_piece(scaled, values[:, j], np.searchsorted(used, some), weights) for j, some in enumerate(active)]
    return Surrogate(used, middle, width, *map(np.array, zip(*parts, strict=True)))


def _piece(scaled: np.ndarray, y: np.ndarray, active: np.ndarray, weights: np.ndarray) -> tuple[Any, ...]:
    """One term's start, slopes, bends and miss."""
    mine, level = scaled[:, active], float(weights @ y / weights.sum())
    upper = np.triu_indices(len(active))
    basis = np.column_stack([np.ones(len(y)), mine, CURVED * mine[:, upper[0]] * mine[:, upper[1]]])
    coefficients, miss = _ridge(basis, y - level, weights)
    slopes, bends = np.zeros(scaled.shape[1]), np.zeros((scaled.shape[1],) * 2)
    slopes[active] = coefficients[1 : 1 + len(active)]
    bends[active[upper[0]], active[upper[1]]] = CURVED * coefficients[1 + len(active) :]
    return level + coefficients[0], slopes, bends, miss


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
    scaled = (x[..., one.used] - one.middle) / one.width
    terms, d = one.slopes.shape
    bent = (scaled @ one.bends.reshape(terms * d, d).T).reshape(*scaled.shape[:-1], terms, d) + one.slopes
    return one.start + (bent * scaled[..., None, :]).sum(axis=-1)

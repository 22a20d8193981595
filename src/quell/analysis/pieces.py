"""A smooth function as polynomials in pieces: computed at a few hundred points, then read by a million trials.

Each piece is interpolated at Chebyshev nodes, where a function analytic well beyond its piece is met to rounding error
(Trefethen 2013, chapter 8).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DEGREE = 23
ANGLES = np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1)
# values at the nodes to Chebyshev coefficients
TRANSFORM = 2 / (DEGREE + 1) * np.cos(np.outer(np.arange(DEGREE + 1), ANGLES))
TRANSFORM[0] /= 2


class Pieces(NamedTuple):
    """Edges (p + 1,) and Chebyshev coefficients (p, DEGREE + 1) of a function."""

    edges: np.ndarray
    coefficients: np.ndarray

    def at(self, x: np.ndarray) -> np.ndarray:
        """The function at x (n,); x beyond the edges is taken to them."""
        x = np.clip(x, self.edges[0], self.edges[-1])
        piece = np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, len(self.edges) - 2)
        low, high = self.edges[piece], self.edges[piece + 1]
        return _series(self.coefficients[piece].T, np.clip((2 * x - low - high) / (high - low), -1, 1))

    def inverse(self, value: np.ndarray) -> np.ndarray:
        """Where a rising function takes these values (n,); the nearer edge where it does not."""
        starts = self.at(self.edges[:-1])
        piece = np.clip(np.searchsorted(starts, value, side="right") - 1, 0, len(starts) - 1)
        coefficients = self.coefficients[piece].T
        low, high = np.full(np.shape(value), -1.0), np.full(np.shape(value), 1.0)
        for _ in range(54):
            middle = (low + high) / 2
            above = _series(coefficients, middle) >= value
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return self.edges[piece] + (self.edges[piece + 1] - self.edges[piece]) * (1 + (low + high) / 2) / 2


def _series(coefficients: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Clenshaw's sum of a Chebyshev series, coefficients (terms, n), at t (n,) within -1 to 1."""
    after, now = np.zeros(t.shape), np.zeros(t.shape)
    for row in coefficients[:0:-1]:
        after, now = now, row + 2 * t * now - after
    return coefficients[0] + t * now - after


def nodes(low: float, high: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges of pieces no wider than this, and the points at which the function is needed, (pieces, DEGREE + 1).

    >>> edges, points = nodes(0.0, 3.0, 1.0)
    >>> cubes = through(edges, points**3)
    >>> cubes.at(np.array([0.5, 2.5])).round(9).tolist(), cubes.inverse(np.array([8.0])).round(9).tolist()
    ([0.125, 15.625], [2.0])
    """
    edges = np.linspace(low, high, max(int(np.ceil((high - low) / width)), 1) + 1)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    return edges, middle[:, None] + half[:, None] * np.cos(ANGLES)


def through(edges: np.ndarray, values: np.ndarray) -> Pieces:
    """The pieces through values at the points of `nodes`, (pieces, DEGREE + 1)."""
    return Pieces(edges, values @ TRANSFORM.T)

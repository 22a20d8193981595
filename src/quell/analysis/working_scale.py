"""Designs and outcomes brought to a working scale, on which sums of cross-products keep their precision.

Sums of squares lose the digits in which large means agree. So an explicit design is made orthonormal and its outcome the
residual of least squares, of scale 1, before anything is summed; and columns that repeat others are found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, flag
from quell.analysis.cross_products import Rows, pattern_codes
from quell.analysis.restricted_likelihood import symmetric_inverse

# A column whose unexplained variance is smaller than this share of its own repeats the columns before it.
ALIASED = 1e-10


class Model(NamedTuple):
    """Trials made ready: rows on a working scale, y = offset'x + scale x working y, b = offset + scale to_raw working b.

    to_raw and null may have a batch of 1; null (., q, q) holds directions found undetermined before the working scale.
    """

    rows: Rows
    groups: int
    to_raw: np.ndarray
    offset: np.ndarray
    scale: np.ndarray
    null: np.ndarray | None
    warnings: np.ndarray

    def prepared(self) -> Model:
        """Shared data with their products made, for many trials to draw on."""
        return self._replace(rows=self.rows.prepared())

    def part(self, index: slice) -> Model:
        """Some of the trials of shared data."""
        rows = self.rows._replace(include=self.rows.include[index])
        return self._replace(
            rows=rows, offset=self.offset[index], scale=self.scale[index], warnings=self.warnings[index]
        )


def independent_columns(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which columns do not repeat those before them, from their cross-products; and what the others repeat.

    The second, (B, q, q), has for each repeated column j the direction e_j - c along which coefficients may move without
    changing any fitted value, and zero elsewhere.
    """
    batch, q, _ = gram.shape
    work = gram.copy()
    kept = np.zeros((batch, q), bool)
    for k in range(q):
        pivot = work[:, k, k]
        good = pivot > ALIASED * gram[:, k, k]
        kept[:, k] = good
        pivot = np.where(good, pivot, 1.0)
        row, column = work[:, k] / pivot[:, None], work[:, :, k].copy()
        swept = work - column[:, :, None] * row[:, None, :]
        swept[:, k] = row
        swept[:, :, k] = -column / pivot[:, None]
        swept[:, k, k] = 1 / pivot
        work = np.where(good[:, None, None], swept, work)
    null = np.where(~kept[:, None, :] & kept[:, :, None], -work, 0.0)
    each = np.arange(q)
    null[:, each, each] = ~kept
    return kept, null


def unexplained(gram: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Sum of squares of the outcome (last) that least squares on the kept columns leaves: (B,)."""
    both = kept[:, :, None] & kept[:, None, :]
    inverse = symmetric_inverse(np.where(both, gram[:, :-1, :-1], np.eye(kept.shape[1])))[0]
    along = np.where(kept, gram[:, :-1, -1], 0.0)
    return gram[:, -1, -1] - np.einsum("bi,bij,bj->b", along, inverse, along)


def explicit_model(outcome: np.ndarray, design: np.ndarray, group: np.ndarray, include: np.ndarray) -> Model:
    """An explicit design made ready: its columns made orthonormal, the outcome its least-squares residual of scale 1."""
    n, visits, q = design.shape[1:]
    observed = np.isfinite(outcome) & np.isfinite(design).all(-1)
    who = include if len(outcome) == len(include) else np.asarray(include.any(0, keepdims=True))
    used = observed & who[..., None]
    x = np.where(used[..., None], design, 0.0).reshape(len(design), n * visits, q)
    y = np.where(used, outcome, 0.0).reshape(len(design), n * visits)
    basis, triangle, kept, null = _orthonormal(x)
    residual = y
    for _ in range(2):
        residual = residual - (basis @ (np.swapaxes(basis, -1, -2) @ residual[..., None]))[..., 0]
    to_raw = np.where(kept[:, :, None] & kept[:, None, :], np.linalg.inv(triangle), np.eye(q) * kept[:, None, :])
    offset = (to_raw @ (np.swapaxes(basis, -1, -2) @ (y - residual)[..., None]))[..., 0]
    spread, size = np.sum(residual**2, -1), np.maximum(used.sum((-1, -2)), 1)
    varies = spread > 1e-24 * np.sum(y**2, -1)
    scale = np.where(varies, np.sqrt(spread / size), 0.0)
    values = np.concatenate([basis, (residual / np.where(varies, scale, 1.0)[:, None])[..., None]], -1)
    layout = np.arange(visits * (q + 1)).reshape(visits, q + 1)
    pattern = pattern_codes(observed, group.astype(np.int64))
    rows = Rows(values.reshape(len(values), n, -1), layout, pattern, include)
    blind = include & ((group >= 0) & ~observed.any(-1))
    dropped = ~kept.all(-1) & used.any((-1, -2))
    warnings = flag(blind.any(-1), Caution.MISSING) | flag(dropped, Caution.SINGULAR)
    every = len(include)
    raw = np.where(kept[:, :, None] & kept[:, None, :], to_raw, np.eye(q))
    return Model(rows, int(group.max(initial=0)) + 1, raw, np.broadcast_to(offset, (every, q)),
                 np.broadcast_to(scale, (every,)), null, warnings)  # fmt: skip


def _orthonormal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x = Q R by Gram-Schmidt applied twice; columns repeating earlier ones are zero in Q, identity in R.

    Also which columns were kept, and the directions e_j - c along which the others repeat them.
    """
    batch, rows, q = x.shape
    basis, triangle = np.zeros((batch, rows, q)), np.zeros((batch, q, q))
    kept = np.zeros((batch, q), bool)
    for k in range(q):
        rest = x[..., k]
        size = np.sqrt(np.sum(rest**2, -1))
        before = basis[..., :k]
        for _ in range(2):
            along = (np.swapaxes(before, -1, -2) @ rest[..., None])[..., 0]
            triangle[:, :k, k] += along
            rest = rest - (before @ along[..., None])[..., 0]
        norm = np.sqrt(np.sum(rest**2, -1))
        kept[:, k] = norm > 1e-7 * size
        basis[..., k] = np.where(kept[:, k], 1.0, 0.0)[:, None] * rest / np.where(kept[:, k], norm, 1.0)[:, None]
        triangle[:, k, k] = np.where(kept[:, k], norm, 1.0)
    repeats = np.linalg.solve(np.where(kept[:, None, :], triangle, np.eye(q)), triangle)
    null = np.where(~kept[:, None, :] & kept[:, :, None], -repeats, 0.0)
    null[:, np.arange(q), np.arange(q)] = ~kept
    return basis, np.where(kept[:, None, :], triangle, np.eye(q)), kept, null

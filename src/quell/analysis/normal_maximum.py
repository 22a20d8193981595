"""The largest of several correlated normal variables: how often it exceeds what was seen. Exact geometry, no sampling.

Write Z = B X with X standard normal and unit rows b_j (B B' is the correlation). That no Z_j exceeds its limit is that X
lies in the polytope {b_j x <= c_j}, or {|b_j x| <= c_j}. As the polytope grows from scale s to s + ds it gains, through
each of its faces, c_j phi(s c_j) times the normal measure of the face, which is a polytope of one dimension less. So

    P(outside) = [0 is outside] + sum over faces of the integral from 1 to infinity of c_j phi(s c_j) measure(s face_j) ds,

down to polygons, whose measure is a sum of Owen's T functions over their edges (Owen 1956). What lies outside is summed
itself, so small probabilities keep their digits; a correlation without full rank, which mvtnorm's exact algorithms
refuse, is no exception. Cost: one Gauss-Legendre integral for each dimension above two.
"""

from __future__ import annotations

import numpy as np
from scipy import special

# Gauss-Legendre nodes on a stretch of normal tail at most 9 standard errors long: 13 digits and more.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)
# Past this many standard errors a normal tail adds nothing to a double.
FAR = 39.0
# Directions (eigenvalues) this small are rounding: variables this alike are one.
RANK = 1e-11
# Trials worked on at a time.
AT_A_TIME = 256


def exceedance(limit: np.ndarray, correlation: np.ndarray, *, two_sided: bool = True) -> np.ndarray:
    """P(max |Z_j| > limit), or P(max Z_j > limit), for standard normal Z with this correlation.

    limit (...), correlation (..., k, k), positive semidefinite; NaN in either gives NaN. Ten digits or more.

    >>> round(float(exceedance(np.array(1.96), np.eye(2))), 6), round(1 - 0.9500042**2, 6)
    (0.097492, 0.097492)
    """
    limit, correlation = np.asarray(limit, float), np.asarray(correlation, float)
    k = correlation.shape[-1]
    batch = np.broadcast_shapes(limit.shape, correlation.shape[:-2])
    limits = np.broadcast_to(limit, batch).reshape(-1)
    matrices = np.broadcast_to(correlation, (*batch, k, k)).reshape(-1, k, k)
    found = np.full(len(limits), np.nan)
    known = np.isfinite(limits) & np.isfinite(matrices).all((1, 2))
    if two_sided:
        found[known & (limits <= 0)] = 1.0
        known &= limits > 0
    for rows in np.array_split(np.flatnonzero(known), max(1, -(-int(known.sum()) // AT_A_TIME))):
        if len(rows):
            found[rows] = _exceedance(limits[rows], matrices[rows], two_sided)
    return found.reshape(batch)


def _exceedance(limit: np.ndarray, correlation: np.ndarray, two_sided: bool) -> np.ndarray:
    rows = _directions(correlation)
    if two_sided:
        rows = np.concatenate([rows, -rows], -2)
    present = _distinct(rows)
    # the polytope is that of limits of one (or minus one), scaled; at zero it is a cone, the same from either side
    heights = np.broadcast_to(np.where(limit < 0, -1.0, 1.0)[:, None], present.shape)
    scale = np.abs(limit)[:, None]
    if two_sided and rows.shape[-1] > 2:
        # opposite faces are alike
        faces = [_beyond_face(j, rows, heights, present, scale) for j in range(correlation.shape[-1])]
        outside = 2 * np.sum(faces, 0)
    else:
        outside = _outside(rows, heights, present, scale)
    return np.clip(outside[:, 0], 0.0, 1.0)


def _directions(correlation: np.ndarray) -> np.ndarray:
    """Unit rows B (b, k, r) with B B' the correlation; r is the largest rank of the batch, at least two."""
    values, vectors = np.linalg.eigh(correlation)
    values = np.where(values > RANK, values, 0.0)
    rank = max(int((values > 0).sum(-1).max()), 2)
    rows = vectors * np.sqrt(values)[:, None, :]
    if rows.shape[-1] < rank:
        rows = np.concatenate([np.zeros((*rows.shape[:-1], rank - rows.shape[-1])), rows], -1)
    rows = rows[..., -rank:]
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-300)


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Which rows are not a repetition of an earlier one, (b, J)."""
    same = np.einsum("bjr,bkr->bjk", rows, rows) > 1 - RANK
    return ~np.tril(same, -1).any(-1)


def _outside(rows: np.ndarray, heights: np.ndarray, present: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """P(X outside the polytope, scaled) for rows (b, J, r), heights and present (b, J), and scales (b, q): (b, q)."""
    beyond = (present & (heights < 0)).any(-1).astype(float)
    if rows.shape[-1] == 2:
        return beyond[:, None] + _beyond_edges(rows, heights, present, scale)
    total = np.repeat(beyond[:, None], scale.shape[-1], -1)
    for j in range(rows.shape[-2]):
        total += _beyond_face(j, rows, heights, present, scale)
    return total


def _beyond_face(j: int, rows: np.ndarray, heights: np.ndarray, present: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Signed measure of the cone beyond face j: integral over s of c phi(s c) times the measure of the face at s."""
    height = heights[:, j]
    face_rows, face_heights, face_present, empty = _face(j, rows, heights, present)
    size = np.maximum(np.abs(height), 1e-160)[:, None]
    start = np.minimum(scale * size, FAR)
    # phi falls by 1e-17 over this stretch
    half = (np.sqrt(start**2 + 78.0) - start)[..., None] / 2
    x = start[..., None] + half * (1 + NODES)
    inner = (x / size[..., None]).reshape(len(rows), -1)
    inside = 1 - _outside(face_rows, face_heights, face_present, inner).reshape(x.shape)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    measure = (half * WEIGHTS * density * np.clip(inside, 0.0, 1.0)).sum(-1)
    counted = present[:, j] & ~empty & (height != 0)
    return np.where(counted[:, None], np.sign(height)[:, None] * measure, 0.0)


def _face(
    j: int, rows: np.ndarray, heights: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The other constraints within face j, in coordinates of the face; and whether a parallel one leaves it empty."""
    axis = rows[:, j]
    along = np.einsum("bkr,br->bk", rows, axis)
    # a reflection that takes the axis of the face to the first coordinate; the others span the face
    mirror = axis.copy()
    mirror[:, 0] += np.where(axis[:, 0] >= 0, 1.0, -1.0)
    mirror /= np.linalg.norm(mirror, axis=-1, keepdims=True)
    turned = rows - 2 * np.einsum("bkr,br->bk", rows, mirror)[..., None] * mirror[:, None, :]
    across = turned[..., 1:]
    size = np.linalg.norm(across, axis=-1)
    crossing = size > np.sqrt(2 * RANK)
    safe = np.where(crossing, size, 1.0)
    left = heights - along * heights[:, j : j + 1]
    other = present.copy()
    other[:, j] = False
    empty = (other & ~crossing & (left < 0)).any(-1)
    return across / safe[..., None], left / safe, other & crossing, empty


def _beyond_edges(rows: np.ndarray, heights: np.ndarray, present: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Signed measure of the wedges beyond the edges of a polygon: sign(c) [T(c s, high / c) - T(c s, low / c)] summed."""
    total = np.zeros(scale.shape)
    for j in range(rows.shape[-2]):
        height = heights[:, j]
        low, high, empty = _edge(j, rows, heights, present)
        size = np.maximum(np.abs(height), 1e-160)
        counted = present[:, j] & ~empty & (high > low) & (height != 0)
        reach = scale * size[:, None]
        ends = [special.owens_t(reach, (end / size)[:, None]) for end in (low, high)]
        total += np.where(counted[:, None], np.sign(height)[:, None] * (ends[1] - ends[0]), 0.0)
    return total


def _edge(
    j: int, rows: np.ndarray, heights: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where along line j the other constraints let it run, from low to high; and whether they leave nothing of it."""
    axis = rows[:, j]
    along = np.einsum("bkr,br->bk", rows, axis)
    across = rows[..., 1] * axis[:, :1] - rows[..., 0] * axis[:, 1:]
    left = heights - along * heights[:, j : j + 1]
    other = present.copy()
    other[:, j] = False
    crossing = other & (np.abs(across) > np.sqrt(2 * RANK))
    meets = left / np.where(crossing, across, 1.0)
    high = np.where(crossing & (across > 0), meets, np.inf).min(-1, initial=np.inf)
    low = np.where(crossing & (across < 0), meets, -np.inf).max(-1, initial=-np.inf)
    return low, high, (other & ~crossing & (left < 0)).any(-1)

"""The linear model under every difference of means: one layout, one least-squares fit, any linear combination of it.

The columns of the model are made orthonormal one after the other by Gram-Schmidt applied twice, as accurate as
Householder QR (Giraud et al. 2005, doi:10.1007/s00211-005-0615-4), so that

    X = Q R,    weights' beta = a' Q' y    with    a' R = weights',

which keeps its digits for ill-scaled covariates and says by itself whether the data determine a combination: they do
where the triangular system has a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import FEW_CLUSTERS, Caution, ClaimError, Estimate, flag, normal_estimate, without_a_size
from quell.analysis.codes import whole

Covariance = Literal["classical", "HC0", "HC1", "HC2", "HC3", "HC4", "CR0", "CR1", "CR1S"]
COVARIANCES = ("classical", "HC0", "HC1", "HC2", "HC3", "HC4", "CR0", "CR1", "CR1S")

# A column whose unexplained part is smaller than this share of itself repeats the columns before it. R's lm uses 1e-7.
ALIASED = 1e-7
# What is left of a column or an outcome below this share of it is rounding.
ROUNDING = 1e-12
# Trials are read in blocks whose arrays stay in the processor's cache.
BLOCK = 1 << 16


class Subjects(NamedTuple):
    """The subjects of a model in one layout: arrays (..., n) with a shared batch shape, zero where not included.

    covariates: one array each, centred at the mean `centre` (..., p) of the included; arm, factors, cluster: codes, -1
    where not included.
    """

    outcome: np.ndarray
    arm: np.ndarray
    covariates: tuple[np.ndarray, ...]
    centre: np.ndarray
    factors: tuple[np.ndarray, ...]
    include: np.ndarray
    warnings: np.ndarray
    cluster: np.ndarray | None = None


class LinearFit(NamedTuple):
    """A least-squares fit for each trial of a batch: orthonormal columns `basis`, each (..., n), with X = Q R.

    triangle R (..., q, q); along Q'y (..., q); residual (..., n); rank and n (...). A column that repeats others has a
    zero in the basis and on the diagonal of R.
    """

    basis: tuple[np.ndarray, ...]
    triangle: np.ndarray
    along: np.ndarray
    residual: np.ndarray
    rank: np.ndarray
    n: np.ndarray
    warnings: np.ndarray
    constant: np.ndarray
    covariance: Covariance = "classical"
    cluster: np.ndarray | None = None

    @property
    def df(self) -> np.ndarray:
        """Residual degrees of freedom n - rank; for a cluster-robust error the number of clusters less one."""
        return self.n - self.rank if self.cluster is None else clusters(self.cluster) - 1

    @property
    def variance(self) -> np.ndarray:
        """Residual variance on n - rank degrees of freedom."""
        return np.vecdot(self.residual, self.residual) / np.maximum(self.n - self.rank, 1)

    def combination(self, weights: np.ndarray, level: float = 0.95) -> Estimate:
        """The estimate of weights' beta; weights (..., m, q) give fields (..., m)."""
        solved, estimable = self.solve(weights)
        variance, undetermined = self.variances(solved)
        one = np.newaxis
        few = (self.df <= 0)[..., one] | undetermined
        warnings = self.warnings[..., one] | flag(~estimable, Caution.NOT_ESTIMABLE) | flag(few, Caution.TOO_FEW)
        warnings = warnings | flag(self.constant[..., one] & ~few, Caution.CONSTANT_OUTCOME)
        bad = few | self.constant[..., one] | ~estimable | (variance <= 0)
        se = np.where(bad, np.nan, np.sqrt(np.where(bad, 1.0, variance)))
        estimate = np.where(estimable, np.vecdot(solved, self.along[..., one, :]), np.nan)
        n = np.broadcast_to(self.n[..., one], estimate.shape)
        return normal_estimate(estimate, se, n, warnings, level, np.where(bad, np.nan, self.df[..., one]))

    def solve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """a with a' R = weights' (forward substitution), and whether there is one: (..., m, q) and (..., m)."""
        q = self.triangle.shape[-1]
        batch = np.broadcast_shapes(weights.shape[:-2], self.triangle.shape[:-2])
        solved = np.zeros((*batch, weights.shape[-2], q))
        estimable = np.broadcast_to(np.isfinite(weights).all(-1), solved.shape[:-1]).copy()
        weights = np.nan_to_num(weights)
        for k in range(q):
            parts = solved[..., :k] * self.triangle[..., np.newaxis, :k, k]
            gap = weights[..., k] - parts.sum(-1)
            pivot = self.triangle[..., np.newaxis, k, k]
            kept = pivot > 0
            solved[..., k] = np.where(kept, gap / np.where(kept, pivot, 1.0), 0.0)
            size = np.abs(weights[..., k]) + np.abs(parts).sum(-1)
            estimable &= kept | (np.abs(gap) <= 10 * ALIASED * size)
        return solved, estimable

    def variances(self, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of a' Q' y for each row a, and whether a subject fitted exactly leaves it undetermined."""
        if self.covariance == "classical":
            variance = self.variance[..., np.newaxis] * np.vecdot(solved, solved)
            return variance, np.zeros(variance.shape, bool)
        scores, undetermined = self._scores(solved)
        return np.vecdot(scores, scores), undetermined

    def covariances(self, solved: np.ndarray) -> np.ndarray:
        """Covariance of a' Q' y between the rows a: (..., m, m)."""
        if self.covariance == "classical":
            return self.variance[..., np.newaxis, np.newaxis] * (solved @ np.swapaxes(solved, -1, -2))
        scores, _ = self._scores(solved)
        return scores @ np.swapaxes(scores, -1, -2)

    def _scores(self, solved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each subject's (or cluster's) contribution to a' Q' y, (..., m, n), scaled so that their squares add up."""
        reach = solved @ np.stack(self.basis, -2)
        if self.cluster is not None:
            scale = _cluster_scale(self.covariance, clusters(self.cluster), self.n, self.rank)
            scores = _cluster_sums(reach * self.residual[..., np.newaxis, :], self.cluster)
            return scores * np.sqrt(scale)[..., np.newaxis, np.newaxis], np.zeros(reach.shape[:-1], bool)
        leverage = sum((column**2 for column in self.basis), np.zeros(self.residual.shape))
        fixed = leverage >= 1 - 1e-9
        size = np.sqrt(np.vecdot(solved, solved))[..., np.newaxis]
        undetermined = (fixed[..., np.newaxis, :] & (np.abs(reach) > 1e-9 * size)).any(-1)
        if self.covariance in ("HC0", "HC1"):
            undetermined = np.zeros_like(undetermined)
        weight = _leverage_weight(self.covariance, np.where(fixed, 0.0, leverage), self.n, self.rank)
        weighted = np.where(fixed, 0.0, self.residual * np.sqrt(weight))
        return reach * weighted[..., np.newaxis, :], undetermined

    def test(self, solved: np.ndarray, level: float = 0.95) -> Estimate:
        """Wald's F test that every a' Q' y is zero, on (rank, df) degrees of freedom; rows may depend on each other.

        statistic is F and df the numerator's; n and cautions as usual.
        """
        value = np.vecdot(solved, self.along[..., np.newaxis, :])
        chi_square, rank = quadratic_form(value, self.covariances(solved))
        bad = (self.df <= 0) | self.constant | (rank == 0)
        statistic = np.where(bad, np.nan, chi_square / np.maximum(rank, 1))
        p = f_tail(statistic, rank, self.df)
        warnings = self.warnings | flag(self.df <= 0, Caution.TOO_FEW) | flag(rank == 0, Caution.NOT_ESTIMABLE)
        warnings = warnings | flag(self.constant & (self.df > 0), Caution.CONSTANT_OUTCOME)
        return without_a_size(statistic, np.where(bad, np.nan, rank), p, self.n, warnings, level)


def subjects(
    outcome: np.ndarray,
    arm: np.ndarray,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
) -> Subjects:
    """One layout for all: included subjects with every value present; covariates centred; the rest set to zero.

    outcome (..., n); arm, factors and cluster (..., n) whole codes, negative where unknown; covariates (..., n, p);
    include (..., n). Raises ClaimError where shapes do not match.

    >>> subjects(np.array([1.0, np.nan, 3.0]), np.array([0, 0, 1])).include.tolist()
    [True, False, True]
    """
    outcome = np.asarray(outcome, float)
    values = np.zeros((*outcome.shape, 0)) if covariates is None else np.asarray(covariates, float)
    if values.ndim == 0 or values.shape[-2:-1] != outcome.shape[-1:]:
        raise ClaimError(
            f"Covariates have shape {values.shape}, but the outcome has {outcome.shape}; give covariates as "
            "(..., n, p): one row per subject and one column per covariate, also where there is only one."
        )
    codes = [whole(one) for one in (arm, *factors, *(() if cluster is None else (cluster,)))]
    asked = np.ones(outcome.shape, bool) if include is None else np.asarray(include, bool)
    outcome, asked, values, *codes = _fitted(outcome, asked, values, codes)
    asked = asked & (codes[0] >= 0)
    present = np.isfinite(outcome)
    columns = [values[..., j] for j in range(values.shape[-1])]
    for column in columns:
        present = present & np.isfinite(column)
    for code in codes[1:]:
        present = present & (code >= 0)
    kept = asked & present
    centred = [_centre(column, kept) for column in columns]
    centre = np.stack([mean for _, mean, _ in centred], -1) if centred else np.zeros((*kept.shape[:-1], 0))
    still = np.any([flat for _, _, flat in centred], 0) if centred else np.zeros(kept.shape[:-1], bool)
    warnings = flag((asked & ~present).any(-1), Caution.MISSING) | flag(still, Caution.SINGULAR)
    if kept.all():
        shown = codes
    else:
        outcome, shown = np.where(kept, outcome, 0.0), [np.where(kept, code, -1) for code in codes]
    groups = shown.pop() if cluster is not None else None
    return Subjects(
        outcome, shown[0], tuple(one for one, _, _ in centred), centre, tuple(shown[1:]), kept, warnings, groups
    )


def least_squares(
    people: Subjects, columns: Sequence[np.ndarray], covariance: Covariance = "classical", expected: int = 0
) -> LinearFit:
    """Fit outcome ~ columns, each (..., n) and zero where not included; the first `expected` are disjoint indicators.

    Raises ClaimError where the covariance is unknown, or is cluster-robust without clusters.

    >>> people = subjects(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]))
    >>> fit = least_squares(people, [(people.arm == code).astype(float) for code in (0, 1)])
    >>> fit.combination(np.array([[-1.0, 1.0]])).estimate.tolist()
    [3.0]
    """
    if covariance not in COVARIANCES:
        known = ", ".join(map(repr, COVARIANCES[:-1]))
        raise ClaimError(f"The covariance is '{covariance}'; choose {known} or '{COVARIANCES[-1]}'.")
    if covariance.startswith("CR") and people.cluster is None:
        raise ClaimError(f"The covariance '{covariance}' is cluster-robust; say which cluster each subject belongs to.")
    basis, triangle, rank, dropped = _orthonormal(columns, people.include.shape, expected)
    along, residual = _project(people.outcome, basis)
    n = people.include.sum(-1)
    scale = np.vecdot(people.outcome, people.outcome)
    constant = np.vecdot(residual, residual) <= ROUNDING**2 * scale
    warnings = people.warnings | flag(dropped, Caution.SINGULAR)
    groups = people.cluster if covariance.startswith("CR") else None
    if groups is not None:
        warnings = warnings | flag(clusters(groups) < FEW_CLUSTERS, Caution.FEW_SITES)
    return LinearFit(tuple(basis), triangle, along, residual, rank, n, warnings, constant, covariance, groups)


def _orthonormal(
    columns: Sequence[np.ndarray], shape: tuple[int, ...], expected: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Orthonormal columns in order (those that repeat others zero), R, the rank, and whether any was dropped."""
    batch, q = shape[:-1], len(columns)
    triangle = np.zeros((*batch, q, q))
    rank, dropped = np.zeros(batch, int), np.zeros(batch, bool)
    basis: list[np.ndarray] = []
    for k, column in enumerate(columns):
        square = np.vecdot(column, column)
        if k < expected:
            rest, left = column, square
        else:
            triangle[..., :k, k], rest = _project(column, basis)
            left = np.vecdot(rest, rest)
        kept = left > ALIASED**2 * square
        norm = np.sqrt(np.where(kept, left, 0.0))
        triangle[..., k, k] = norm
        basis.append(rest * (kept / np.where(kept, norm, 1.0))[..., np.newaxis])
        rank += kept
        dropped |= ~kept & (square > 0)
    return basis, triangle, rank, dropped


def _project(values: np.ndarray, basis: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of values (..., n) along orthonormal columns, and what is left; projected out twice."""
    shape = np.broadcast_shapes(values.shape, *(column.shape for column in basis[:1]))
    rest = np.array(np.broadcast_to(values, shape))
    along = np.zeros((*shape[:-1], len(basis)))
    part = np.empty(shape)
    for _ in range(2):
        for k, column in enumerate(basis):
            share = np.vecdot(column, rest)
            along[..., k] += share
            np.multiply(column, share[..., np.newaxis], out=part)
            rest -= part
    return along, rest


def _fitted(outcome: np.ndarray, asked: np.ndarray, values: np.ndarray, codes: list[np.ndarray]) -> list[np.ndarray]:
    """Everything broadcast to one batch of one number of subjects."""
    try:
        shape = np.broadcast_shapes(outcome.shape, asked.shape, values.shape[:-1], *(code.shape for code in codes))
        wide = np.broadcast_to(values, (*shape, values.shape[-1]))
        return [
            *(np.broadcast_to(one, shape) for one in (outcome, asked)),
            wide,
            *(np.broadcast_to(code, shape) for code in codes),
        ]
    except ValueError:
        shapes = ", ".join(str(one.shape) for one in (outcome, asked, *codes, values))
        raise ClaimError(
            f"The outcome, include, arm, factors and covariates have shapes {shapes}, which do not fit together; "
            "each needs the same trials and subjects."
        ) from None


def _centre(column: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A covariate minus its mean over the kept subjects, zero elsewhere; the mean; and whether it does not vary."""
    everyone = bool(kept.all())
    size = np.maximum(kept.sum(-1), 1)[..., np.newaxis]
    values = np.ascontiguousarray(column) if everyone else np.where(kept, column, 0.0)
    largest = np.abs(values).max(-1, keepdims=True, initial=0.0)
    # halved where the sum could overflow; twice, so that the mean of what is left is zero to rounding
    mean = values.sum(-1, keepdims=True) / size
    centred = values - mean if everyone else np.where(kept, values - mean, 0.0)
    again = centred.sum(-1, keepdims=True) / size
    centred = centred - again if everyone else np.where(kept, centred - again, 0.0)
    still = np.abs(centred).max(-1, keepdims=True, initial=0.0) <= ROUNDING * largest
    if still.any():
        centred = np.where(still, 0.0, centred)
    return centred, (mean + again)[..., 0], still[..., 0] & kept.any(-1)


def quadratic_form(value: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """value' V^- value and the rank of V, from its eigenvalues after scaling to a unit diagonal; shapes (...).

    >>> statistic, rank = quadratic_form(np.array([1.0, 1.0, 0.0]), np.diag([1.0, 4.0, 0.0]))
    >>> float(statistic), int(rank)
    (1.25, 2)
    """
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    used = np.isfinite(variance) & (variance > 0) & np.isfinite(value)
    scale = np.where(used, 1 / np.sqrt(np.where(used, variance, 1.0)), 0.0)
    both = used[..., :, np.newaxis] & used[..., np.newaxis, :]
    unit = np.where(both, covariance, 0.0) * scale[..., :, np.newaxis] * scale[..., np.newaxis, :]
    roots, directions = np.linalg.eigh(unit)
    real = roots > 1e-10 * np.maximum(roots.max(-1, keepdims=True, initial=0.0), 1e-300)
    turned = np.einsum("...ij,...i->...j", directions, np.where(used, value, 0.0) * scale)
    return np.sum(np.where(real, turned**2 / np.where(real, roots, 1.0), 0.0), -1), real.sum(-1)


def f_tail(statistic: np.ndarray, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Upper tail of the F distribution; not a number where a degree of freedom is missing."""
    good = (numerator > 0) & (denominator > 0) & np.isfinite(statistic)
    tail = special.fdtrc(np.where(good, numerator, 1), np.where(good, denominator, 1), np.where(good, statistic, 1.0))
    return np.where(good, tail, np.nan)


def clusters(cluster: np.ndarray) -> np.ndarray:
    """How many clusters each trial has."""
    ordered = np.sort(cluster, -1)
    first = (ordered[..., :1] >= 0).sum(-1)
    return first + ((ordered[..., 1:] != ordered[..., :-1]) & (ordered[..., 1:] >= 0)).sum(-1)


def _cluster_sums(scores: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    """Scores (..., m, n) added up within clusters: (..., m, largest code + 1)."""
    groups = int(cluster.max(initial=0)) + 1
    batch, (m, n) = scores.shape[:-2], scores.shape[-2:]
    flat = np.broadcast_to(np.maximum(cluster, 0)[..., np.newaxis, :], scores.shape).reshape(-1, n)
    index = np.arange(len(flat))[:, np.newaxis] * groups + flat
    sums = np.bincount(index.ravel(), scores.ravel(), len(flat) * groups)
    return sums.reshape(*batch, m, groups)


def _cluster_scale(kind: str, groups: np.ndarray, n: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """CR0: 1; CR1: G / (G - 1); CR1S: that times (n - 1) / (n - rank), as Stata and R's sandwich::vcovCL."""
    scale = np.ones(np.shape(groups))
    if kind != "CR0":
        scale = scale * groups / np.maximum(groups - 1, 1)
    return scale * (n - 1) / np.maximum(n - rank, 1) if kind == "CR1S" else scale


def _leverage_weight(kind: str, leverage: np.ndarray, n: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """What each squared residual is multiplied by: MacKinnon and White (1985) HC0 to HC3, Cribari-Neto (2004) HC4."""
    size, columns = (np.asarray(value, float)[..., np.newaxis] for value in (n, rank))
    if kind == "HC0":
        return np.ones(leverage.shape)
    if kind == "HC1":
        return np.broadcast_to(size / np.maximum(size - columns, 1.0), leverage.shape)
    power: np.ndarray | float = {"HC2": 1.0, "HC3": 2.0}.get(kind, 0.0)
    if kind == "HC4":
        power = np.minimum(4.0, size * leverage / np.maximum(columns, 1.0))
    return (1 - leverage) ** -power


def in_blocks(work: Callable[..., Estimate], arrays: Sequence[np.ndarray | None], covariates: int = 2) -> Estimate:
    """work(*arrays) for a batch of trials, block by block, so that its arrays stay in the processor's cache.

    Arrays are (..., n), but the one numbered `covariates` (..., n, p); the first is the outcome. An array without trials
    of its own is shared by all. The result is that of work(*arrays) in one go.
    """
    tails = [2 if k == covariates else 1 for k in range(len(arrays))]
    shapes = [
        np.shape(one)[: max(np.ndim(one) - tail, 0)] for one, tail in zip(arrays, tails, strict=True) if one is not None
    ]
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError:
        return work(*arrays)
    trials, n = math.prod(batch), (_shape(arrays[0]) or (1,))[-1]
    step = max(BLOCK // max(n, 1), 1)
    if trials <= step:
        return work(*arrays)
    flat = [_flattened(one, batch, tail) for one, tail in zip(arrays, tails, strict=True)]
    pieces = [work(*(_piece(one, shared, start, step) for one, shared in flat)) for start in range(0, trials, step)]
    fields: dict[str, Any] = {}
    for name in Estimate._fields[:-1]:
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        fields[name] = joined.reshape(batch + joined.shape[1:])
    return pieces[0]._replace(**fields)


def _shape(array: np.ndarray | None) -> tuple[int, ...]:
    return () if array is None else np.shape(array)


def _flattened(array: np.ndarray | None, batch: tuple[int, ...], tail: int) -> tuple[np.ndarray | None, bool]:
    if array is None or np.ndim(array) <= tail:
        return array, True
    array = np.asarray(array)
    wide = np.broadcast_to(array, (*batch, *array.shape[array.ndim - tail :]))
    return wide.reshape(-1, *array.shape[array.ndim - tail :]), False


def _piece(array: np.ndarray | None, shared: bool, start: int, step: int) -> np.ndarray | None:
    return array if shared or array is None else array[start : start + step]


def level_columns(factor: np.ndarray, levels: Sequence[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(level, column, is reference): an indicator for every level, zero for each trial's own first, its reference."""
    large = np.iinfo(np.int64).max
    first = np.where(factor >= 0, factor, large).min(-1, keepdims=True, initial=large)
    for code in levels:
        reference = first == code
        yield code, ((factor == code) & ~reference).astype(float), reference[..., 0]

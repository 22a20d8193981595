"""Linear models for repeated measures fitted by restricted (or full) maximum likelihood, a batch of trials at once.

The restricted log-likelihood of y ~ N(X b, V(theta)) (Patterson and Thompson 1971, doi:10.1093/biomet/58.3.545) is

    -2 log L(theta) = (N - q) log 2 pi + sum_i log|V_i| + log|X'V^-1 X| + r'V^-1 r,    r = y - X b(theta),

with b(theta) by generalised least squares. Here are its value and exact first and second derivatives; `likelihood_search`
climbs on them. All needs the data only through `cross_products.Sums`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from quell.analysis.covariance_structures import (
    Structure,
    expand,
    natural_bend,
    pairs,
    square,
)
from quell.analysis.cross_products import Sums, both_orders
from quell.analysis.partial_likelihood import masked


class Point(NamedTuple):
    """The likelihood at some parameters: -log L (without constants), its derivatives, and what they were made of."""

    height: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    possible: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    slopes: np.ndarray
    inverses: np.ndarray
    value: np.ndarray
    first: np.ndarray
    second: np.ndarray


class Problem(NamedTuple):
    """What is fitted: the sums, the structure, which coefficients and parameters are free, and which likelihood."""

    sums: Sums
    structure: Structure
    kept: np.ndarray
    free: np.ndarray
    restricted: bool

    def take(self, index: np.ndarray) -> Problem:
        """The problem of some of the trials."""
        return self._replace(sums=self.sums.take(index), kept=self.kept[index], free=self.free[index])


def evaluate(problem: Problem, theta: np.ndarray) -> Point:
    """-log L and its first and second derivatives by theta, at theta (B, groups x m)."""
    sums, restricted = problem.sums, problem.restricted
    batch = len(theta)
    with np.errstate(all="ignore"):
        v, first, second = expanded(problem, theta)
        inverses, log_determinant, possible = _pattern_inverses(v, sums)
        weights = inverses[:, sums.pattern, sums.first, sums.second]
        a = (weights[:, None, :] @ sums.products)[:, 0][:, square(sums.columns + 1)]
        phi, log_det_a, definite = symmetric_inverse(masked(a[:, :-1, :-1], problem.kept))
        phi = np.where(problem.kept[:, :, None] & problem.kept[:, None, :], phi, 0.0)
        beta = np.einsum("bij,bj->bi", phi, a[:, :-1, -1])
        spread = a[:, -1, -1] - np.einsum("bi,bi->b", beta, a[:, :-1, -1])
        height = np.sum(sums.counts * log_determinant, -1) + spread + restricted * log_det_a
        moment = moment_matrix(phi, beta, restricted)
        residual = sums.residual_products(moment)
        by_v = _first_by_covariance(sums, inverses, residual)
        by_v_twice = second_by_covariance(sums, inverses, residual)
        change = _changes(sums, inverses, first)
        slopes = (change @ sums.products)[..., square(sums.columns + 1)]
        gradient = np.einsum("bgp,bgpm->bgm", by_v, first).reshape(batch, -1)
        hessian = _blocks(by_v, by_v_twice, first, second)
        hessian = hessian - _coefficient_part(slopes, phi, beta, restricted)
    possible = possible & definite & (spread >= 0) & np.isfinite(height) & np.isfinite(hessian).all((-1, -2))
    design = slopes[..., :-1, :-1]
    return Point(height / 2, gradient / 2, hessian / 2, possible, beta, phi, design, inverses, v, first, second)


def expanded(problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """v, its first and its second derivatives, with an axis of groups after that of trials."""
    groups, visits = problem.sums.groups, problem.sums.visits.shape[1]
    each = expand(problem.structure, theta.reshape(len(theta) * groups, -1), visits)
    v, first, second = (field.reshape(len(theta), groups, *field.shape[1:]) for field in each)
    return v, first, second


def _pattern_inverses(v: np.ndarray, sums: Sums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse of the covariance of the visits seen, zero elsewhere, for each pattern; and its log determinant."""
    visits = sums.visits.shape[1]
    both = sums.visits[:, :, None] & sums.visits[:, None, :]
    covariance = np.where(both, v[:, sums.group][:, :, square(visits)], np.eye(visits))
    inverse, log_determinant, possible = symmetric_inverse(covariance.reshape(-1, visits, visits))
    shape = (len(v), len(sums.group))
    inverse = np.where(both, inverse.reshape(*shape, visits, visits), 0.0)
    return inverse, log_determinant.reshape(shape), (possible.reshape(shape) | (sums.counts == 0)).all(-1)


def moment_matrix(phi: np.ndarray, beta: np.ndarray, restricted: bool) -> np.ndarray:
    """M with x_a'M x_b = r_a r_b (+ x_a'Phi x_b), the outcome being the last entry of x: (B, q + 1, q + 1)."""
    signed = np.concatenate([-beta, np.ones((len(beta), 1))], -1)
    moment = signed[:, :, None] * signed[:, None, :]
    if restricted:
        moment[:, :-1, :-1] += phi
    return moment


def _first_by_covariance(sums: Sums, inverses: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Derivatives of sum n log|V| + tr(V^-1 G), G held fixed, by the entries of V: (B, groups, p)."""
    visits = sums.visits.shape[1]
    first, second = pairs(visits)
    slope = sums.counts[:, :, None, None] * inverses - inverses @ residual @ inverses
    by_group = [slope[:, sums.group == group].sum(1)[:, first, second] for group in range(sums.groups)]
    return np.stack(by_group, 1) * both_orders(visits)


def second_by_covariance(sums: Sums, inverses: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Its second derivatives: (B, groups, p, p)."""
    batch, visits = len(inverses), sums.visits.shape[1]
    bend = 2 * inverses @ residual @ inverses - sums.counts[:, :, None, None] * inverses
    twice = []
    for group in range(sums.groups):
        here = sums.group == group
        outer = bend[:, here].reshape(batch, -1, visits**2)
        twice.append(_paired(np.swapaxes(outer, 1, 2) @ inverses[:, here].reshape(batch, -1, visits**2), visits))
    return np.stack(twice, 1)


def _paired(product: np.ndarray, visits: int) -> np.ndarray:
    """Sum of C_wx W_yz (B, T^2, T^2) to sum of tr(C dV_p W dV_q) over the two orders of each pair: (B, p, p)."""
    flat = product.reshape(len(product), -1)
    where, half = _orders(visits)
    return sum(np.take(flat, index, axis=1) for index in where) * half


@functools.lru_cache
def _orders(visits: int) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    first, second = pairs(visits)
    half = both_orders(visits) / 2
    c, d, e, f = first[:, None], second[:, None], first, second
    size = visits**2

    def at(w: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return (w * visits + x) * size + y * visits + z

    return (at(f, c, d, e), at(e, c, d, f), at(f, d, c, e), at(e, d, c, f)), half[:, None] * half


def _changes(sums: Sums, inverses: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Derivatives of the entries of the inverses by theta: (B, groups x m, R)."""
    batch, visits = len(inverses), sums.visits.shape[1]
    c, d = pairs(visits)
    half = both_orders(visits) / 2
    flat = inverses.reshape(batch, -1)
    parameters = first.shape[-1]
    result = np.zeros((batch, sums.groups * parameters, len(sums.pattern)))
    for group in range(sums.groups):
        here = np.flatnonzero(sums.group[sums.pattern] == group)
        from_a = ((sums.pattern * visits + sums.first) * visits)[here]
        from_b = ((sums.pattern * visits + sums.second) * visits)[here]
        a_c, a_d = np.take(flat, c[:, None] + from_a, axis=1), np.take(flat, d[:, None] + from_a, axis=1)
        b_c, b_d = np.take(flat, c[:, None] + from_b, axis=1), np.take(flat, d[:, None] + from_b, axis=1)
        by_v = -(a_c * b_d + a_d * b_c) * half[:, None]
        block = slice(group * parameters, (group + 1) * parameters)
        result[:, block, here] = np.swapaxes(first[:, group], -1, -2) @ by_v
    return result


def _blocks(by_v: np.ndarray, by_v_twice: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The chain rule from V to theta: J'HJ + sum of g d2V, one block per group."""
    batch, groups, _, parameters = first.shape
    blocks = np.swapaxes(first, -1, -2) @ by_v_twice @ first
    bend = by_v[:, :, None, :] @ second.reshape(batch, groups, second.shape[2], -1)
    blocks = blocks + bend.reshape(batch, groups, parameters, parameters)
    result = np.zeros((batch, groups * parameters, groups * parameters))
    for group in range(groups):
        block = slice(group * parameters, (group + 1) * parameters)
        result[:, block, block] = blocks[:, group]
    return result


def _coefficient_part(slopes: np.ndarray, phi: np.ndarray, beta: np.ndarray, restricted: bool) -> np.ndarray:
    """What the profiled coefficients take from the second derivatives: 2 f'Phi f (+ tr(Phi dA Phi dA))."""
    batch, parameters = slopes.shape[:2]
    design = slopes[..., :-1, :-1]
    force = slopes[..., :-1, -1] - (design @ beta[:, None, :, None])[..., 0]
    result = 2 * force @ phi @ np.swapaxes(force, -1, -2)
    if restricted:
        moved = phi[:, None] @ design
        turned = np.swapaxes(moved, -1, -2).reshape(batch, parameters, -1)
        result = result + moved.reshape(batch, parameters, -1) @ np.swapaxes(turned, -1, -2)
    return result


def information(problem: Problem, point: Point) -> np.ndarray:
    """Fisher's information on theta, coefficients aside: J' (1/2 sum n tr(W dV W dV)) J."""
    sums = problem.sums
    batch, visits = len(point.value), sums.visits.shape[1]
    blocks = []
    for group in range(sums.groups):
        here = sums.group == group
        flat = point.inverses[:, here].reshape(batch, -1, visits**2)
        weighted = np.swapaxes(flat * sums.counts[:, here, None], 1, 2) @ flat
        blocks.append(_paired(weighted, visits))
    none = np.zeros_like(point.value)
    return _blocks(none, np.stack(blocks, 1), point.first, np.zeros_like(point.second)) / 2


def kenward_roger(problem: Problem, point: Point, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Kenward and Roger's covariance of the coefficients in three forms: (B, 3, q, q).

    Phi + 2 Phi [sum_ij w_ij (Q_ij - P_i Phi P_j - R_ij / 4)] Phi (1997, doi:10.2307/2533558), w the covariance of
    theta: without R (linear), with R for mmrm's parameters, and with R for SAS's (variances and correlations).
    """
    sums = problem.sums
    groups, visits = sums.groups, sums.visits.shape[1]
    each = w.shape[-1] // groups
    inner, bends = np.zeros_like(point.inverses), np.zeros((2, *point.inverses.shape))
    natural = natural_bend(problem.structure, theta.reshape(-1, each), visits)
    for group in range(groups):
        here = sums.group == group
        block = w[:, group * each : (group + 1) * each, group * each : (group + 1) * each]
        jacobian = point.first[:, group]
        by_v = (jacobian @ block @ np.swapaxes(jacobian, -1, -2))[:, square(visits)][..., square(visits)]
        inner[:, here] = np.einsum("bcdef,bkde->bkcf", by_v, point.inverses[:, here])
        curve = np.einsum("bpij,bij->bp", point.second[:, group], block)
        bends[0][:, here] = curve[:, None, square(visits)]
        if natural is not None:
            per_group = natural.reshape(len(w), groups, each)[:, group]
            curve = curve - np.einsum("bpi,bi,bii->bp", jacobian, per_group, block)
            bends[1][:, here] = curve[:, None, square(visits)]
    q_sum, r_sum, r_natural = (_design_sum(sums, point.inverses, one) for one in (inner, *bends))
    phi = point.covariance
    moved = phi[:, None] @ point.slopes
    p_sum = _double_sum(w, moved, moved @ phi[:, None])
    linear = phi + 2 * (phi @ q_sum @ phi - p_sum)
    forms = [linear, *(linear - phi @ r @ phi / 2 for r in (r_sum, r_natural))]
    return np.stack(forms, 1)


def _double_sum(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sum over i and j of w_ij A_i B_j for matrices A and B (B, m, q, q)."""
    batch, count, q, _ = left.shape
    mixed = (weights @ left.reshape(batch, count, q * q)).reshape(batch, count, q, q)
    return np.swapaxes(mixed, 1, 2).reshape(batch, q, count * q) @ right.reshape(batch, count * q, q)


def _design_sum(sums: Sums, inverses: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Sum over people of X'W M W X for a matrix M of each pattern: (B, q, q)."""
    weights = (inverses @ middle @ inverses)[:, sums.pattern, sums.first, sums.second]
    total = (weights[:, None, :] @ sums.products)[:, 0]
    return total[:, square(sums.columns + 1)][:, :-1, :-1]


def symmetric_inverse(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse, log determinant and positive definiteness of symmetric matrices (B, k, k), by sweeping.

    Gauss-Jordan elimination without pivoting, which positive definite matrices need not; a matrix that is not positive
    definite gives no meaningful inverse.
    """
    size = matrix.shape[-1]
    work = np.array(np.moveaxis(matrix, 0, -1), order="C")
    log_determinant = np.zeros(len(matrix))
    definite = np.ones(len(matrix), bool)
    with np.errstate(all="ignore"):
        for k in range(size):
            original = matrix[:, k, k]
            pivot = work[k, k].copy()
            good = pivot > 1e-13 * np.abs(original)
            definite &= good
            pivot = np.where(good, pivot, 1.0)
            log_determinant += np.log(pivot)
            row = work[k] / pivot
            column = work[:, k].copy()
            work -= column[:, None] * row[None]
            work[k] = row
            work[:, k] = -column / pivot
            work[k, k] = 1 / pivot
    return np.moveaxis(work, -1, 0), log_determinant, definite

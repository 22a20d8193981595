"""The search for the top of a restricted likelihood, a batch of trials at once; and where other software stops searching.

Newton's method on exact second derivatives, halving a step that does not climb, and on Fisher's information where those
are not positive definite. It ends where a further step changes nothing that double precision can show. The incumbents
stop earlier, which shows from about the fourth digit of their degrees of freedom on; `solve_as_sas` and `solve_as_mmrm`
follow their paths to their stops, so that their printed digits can be reproduced.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize

from quell.analysis.covariance_structures import FACTORED, HIGHEST, LINEAR, Structure, free, pairs, square, start
from quell.analysis.cross_products import Sums
from quell.analysis.partial_likelihood import masked
from quell.analysis.restricted_likelihood import (
    Point,
    Problem,
    evaluate,
    expanded,
    information,
    moment_matrix,
    second_by_covariance,
    symmetric_inverse,
)

STEPS = 60
HALVINGS = 25
# Newton's decrement (in log-likelihood) at which one more step is exact to rounding; and what rounding may leave of it
# where visits are all but copies of each other (a thousandth of a standard error).
NEARLY, CONVERGED = 1e-9, 1e-6
LONGEST_STEP = 2.0
# SAS PROC MIXED stops where g'H^-1 g / |-2 log L| falls below this (CONVH); mmrm's optim() where a step gains less than
# 1e7 machine precisions of log L. Both leave a decrement well below the third.
SAS_STOP, MMRM_STOP, STOPPED = 1e-8, 1e7 * np.finfo(float).eps, 1e-2


class Solution(NamedTuple):
    """Where the likelihood is highest, and whether that is a proper maximum."""

    theta: np.ndarray
    point: Point
    uncertainty: np.ndarray
    converged: np.ndarray
    free: np.ndarray

    def take(self, index: np.ndarray) -> Solution:
        """The solution of some of the trials."""
        point = Point(*(field[index] for field in self.point))
        return Solution(self.theta[index], point, self.uncertainty[index], self.converged[index], self.free[index])


def solve(sums: Sums, structure: Structure, kept: np.ndarray, restricted: bool) -> Solution:
    """The parameters and coefficients at which the (restricted) likelihood of each trial is highest."""
    visits, seen = sums.visits.shape[1], sums.seen()
    form = FACTORED if structure.correlation == "unstructured" else structure
    informed = free(form, seen.reshape(-1, seen.shape[-1]), visits).reshape(len(seen), -1)
    problem = Problem(sums, form, kept, informed, restricted)
    guess = starting_covariance(sums, kept, seen)
    theta = start(form, guess.reshape(-1, visits, visits)).reshape(len(seen), -1)
    theta, point = _climb(problem, _inside(problem, np.where(informed, theta, 0.0)))
    if form is structure:
        return _finish(problem, theta, point)
    found = np.where(point.possible[:, None, None, None], point.value[..., square(visits)], np.eye(visits))
    theta = start(structure, found.reshape(-1, visits, visits)).reshape(len(seen), -1)
    problem = problem._replace(structure=structure)
    return _finish(problem, theta, evaluate(problem, theta))


def _inside(problem: Problem, theta: np.ndarray) -> np.ndarray:
    """Correlations drawn towards zero until every covariance matrix is positive definite."""
    groups, visits = problem.sums.groups, problem.sums.visits.shape[1]
    deviations = visits if problem.structure.heterogeneous else 1
    correlation = np.tile(np.arange(theta.shape[1] // groups) >= deviations, groups)
    for _ in range(HALVINGS):
        v = expanded(problem, theta)[0].reshape(-1, len(pairs(visits)[0]))
        fine = np.asarray(symmetric_inverse(v[:, square(visits)])[2].reshape(len(theta), groups).all(-1))
        if fine.all():
            break
        theta = np.where(~fine[:, None] & correlation, 0.7 * theta, theta)
    return theta


def starting_covariance(sums: Sums, kept: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Covariance of the least-squares residuals, pair by pair of visits, made positive definite: (B, groups, T, T)."""
    visits = sums.visits.shape[1]
    gram = sums.gram()
    beta = np.einsum("bij,bj->bi", symmetric_inverse(masked(gram[:, :-1, :-1], kept))[0], gram[:, :-1, -1] * kept)
    by_pattern = sums.residual_products(moment_matrix(np.zeros_like(gram[:, :-1, :-1]), beta, False))
    total = np.stack([by_pattern[:, sums.group == group].sum(1) for group in range(sums.groups)], 1)
    covariance = total / np.maximum(seen, 1)[..., square(visits)]
    variance = np.einsum("bgii->bgi", covariance)
    variance = np.where(np.einsum("bgii->bgi", seen[..., square(visits)]) > 0, np.maximum(variance, 1e-6), 1.0)
    deviation = np.sqrt(variance)
    scale = deviation[..., :, None] * deviation[..., None, :]
    correlation = np.clip(covariance / scale, -HIGHEST, HIGHEST)
    eye = np.eye(visits)
    # Pairs of visits seen in different people need not fit together: the more is missing, the further from the edge.
    largest = np.einsum("bgii->bgi", seen[..., square(visits)]).max(-1)
    missing = 1 - seen.min(-1) / np.maximum(largest, 1)
    margin = (1e-9 + 0.05 * missing)[..., None, None] * eye
    for _ in range(HALVINGS):
        correlation = np.where(eye > 0, 1.0, correlation)
        fine = symmetric_inverse((correlation - margin).reshape(-1, visits, visits))[2]
        if fine.all():
            break
        correlation = correlation * np.where(fine.reshape(correlation.shape[:2]), 1.0, 0.8)[..., None, None]
    return correlation * scale


def _climb(problem: Problem, theta: np.ndarray) -> tuple[np.ndarray, Point]:
    """Newton's method on every trial at once; those at the top rest while the others climb on."""
    point = evaluate(problem, theta)
    climbing = point.possible.copy()
    for _ in range(STEPS):
        index = np.flatnonzero(climbing)
        if not len(index):
            break
        here = Point(*(field[index] for field in point))
        some = problem.take(index)
        step, decrement = _direction(some, here, theta[index])
        nearly = decrement < NEARLY
        new_theta, new_point, moved = _forward(some, theta[index], here, step)
        theta[index] = new_theta
        for field, value in zip(point, new_point, strict=True):
            field[index] = value
        climbing[index] = ~nearly & moved
    return theta, point


def _finish(problem: Problem, theta: np.ndarray, point: Point, limit: float = CONVERGED) -> Solution:
    hessian = masked(point.hessian, problem.free)
    uncertainty, _, definite = symmetric_inverse(hessian)
    gradient = np.where(problem.free, point.gradient, 0.0)
    decrement = np.einsum("bi,bij,bj->b", gradient, uncertainty, gradient)
    converged = point.possible & definite & (np.abs(decrement) < limit)
    both = problem.free[:, :, None] & problem.free[:, None, :]
    return Solution(theta, point, np.where(both, uncertainty, 0.0), converged, problem.free)


def _direction(problem: Problem, point: Point, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Newton's step, or Fisher's where the second derivatives are not positive definite; and the decrement."""
    inverse, _, definite = symmetric_inverse(masked(point.hessian, problem.free))
    bad = np.flatnonzero(~definite)
    if len(bad):
        expected = masked(information(problem.take(bad), Point(*(field[bad] for field in point))), problem.free[bad])
        inverse[bad] = _bent_inverse(masked(point.hessian[bad], problem.free[bad]), expected)
    gradient = np.where(problem.free, point.gradient, 0.0)
    step = -np.einsum("bij,bj->bi", inverse, gradient)
    decrement = -np.sum(step * gradient, -1)
    longest = (np.abs(step) / (1 + np.abs(theta))).max(-1, initial=0.0)
    step = step * np.minimum(1.0, LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
    return step, np.where(definite, decrement, np.inf)


def _bent_inverse(hessian: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """An indefinite matrix inverted with its directions of negative curvature turned up, in the metric of another.

    Newton's step then leaves a saddle rather than seeking it (Dauphin et al. 2014, arXiv:1406.2572).
    """
    values, vectors = np.linalg.eigh(scale)
    root = vectors / np.sqrt(np.maximum(values, 1e-9 * values[:, -1:]))[:, None, :]
    curvature, axes = np.linalg.eigh(np.swapaxes(root, -1, -2) @ hessian @ root)
    axes = root @ axes
    return (axes / np.maximum(np.abs(curvature), 1e-3)[:, None, :]) @ np.swapaxes(axes, -1, -2)


def _forward(
    problem: Problem, theta: np.ndarray, here: Point, step: np.ndarray
) -> tuple[np.ndarray, Point, np.ndarray]:
    """Go along the step as far as the likelihood does not fall; and whether any way was found."""
    new_theta = theta + step
    there = evaluate(problem, new_theta)
    worse = ~_no_worse(there, here)
    share = 1.0
    for _ in range(HALVINGS):
        index = np.flatnonzero(worse)
        if not len(index):
            break
        share = share / 2
        new_theta[index] = theta[index] + share * step[index]
        again = evaluate(problem.take(index), new_theta[index])
        for field, value in zip(there, again, strict=True):
            field[index] = value
        worse[index] = ~_no_worse(again, Point(*(field[index] for field in here)))
    new_theta[worse] = theta[worse]
    for field, value in zip(there, here, strict=True):
        field[worse] = value[worse]
    return new_theta, there, ~worse


def _no_worse(there: Point, here: Point) -> np.ndarray:
    return there.possible & (there.height <= here.height + 1e-9 * (1 + np.abs(here.height)))


def solve_as_sas(sums: Sums, kept: np.ndarray, restricted: bool, constant: np.ndarray) -> Solution:
    """An unstructured covariance as SAS PROC MIXED fits it: from MIVQUE0, by Newton-Raphson on its elements.

    MIVQUE0 (Goodnight 1978) is one scoring step from V = I. constant (B,) completes -log L, whose size enters the rule.
    """
    visits = sums.visits.shape[1]
    informed = sums.seen().reshape(len(kept), -1) > 0
    problem = Problem(sums, LINEAR, kept, informed, restricted)
    theta = np.tile(np.eye(visits)[pairs(visits)], (len(kept), sums.groups))
    point = evaluate(problem, theta)
    scoring = symmetric_inverse(masked(_expected(problem, point), informed))[0]
    theta = theta - np.einsum("bij,bj->bi", scoring, point.gradient)
    moving = informed.all(-1)
    for _ in range(STEPS):
        point = evaluate(problem, theta)
        inverse, _, definite = symmetric_inverse(masked(point.hessian, informed))
        step = np.einsum("bij,bj->bi", inverse, point.gradient)
        rule = np.abs(np.sum(step * point.gradient, -1)) / np.abs(point.height + constant)
        moving = moving & point.possible & ~(definite & (rule < SAS_STOP))
        if not moving.any():
            break
        theta = np.where(moving[:, None], theta - step, theta)
    return _finish(problem, theta, evaluate(problem, theta), STOPPED)


def _expected(problem: Problem, point: Point) -> np.ndarray:
    """Expected second derivatives of the restricted likelihood by the elements of V: tr(P dV P dV) / 2."""
    sums, phi = problem.sums, point.covariance
    moment = np.zeros((len(phi), phi.shape[1] + 1, phi.shape[1] + 1))
    moment[:, :-1, :-1] = phi
    twice = second_by_covariance(sums, point.inverses, sums.residual_products(moment))
    blocks = np.zeros_like(point.hessian)
    each = twice.shape[-1]
    for group in range(sums.groups):
        block = slice(group * each, (group + 1) * each)
        blocks[:, block, block] = -twice[:, group]
    moved = phi[:, None] @ point.slopes
    turned = np.swapaxes(moved, -1, -2).reshape(*moved.shape[:2], -1)
    return (blocks + moved.reshape(turned.shape) @ np.swapaxes(turned, -1, -2)) / 2


def solve_as_mmrm(
    sums: Sums, structure: Structure, kept: np.ndarray, restricted: bool, constant: np.ndarray, scale: np.ndarray
) -> Solution:
    """As R's mmrm fits by default: L-BFGS-B (five corrections) from unit variances, stopping where optim() does.

    One trial after another. scale (B,) is the working scale of the outcome, from which the path starts.
    """
    visits = sums.visits.shape[1]
    informed = free(structure, sums.seen().reshape(-1, len(pairs(visits)[0])), visits).reshape(len(kept), -1)
    problem = Problem(sums, structure, kept, informed, restricted)
    each = informed.shape[1] // sums.groups
    deviations = np.arange(each) < (visits if structure.heterogeneous else 1)
    theta = np.tile(np.where(deviations, -np.log(scale)[:, None], 0.0), (1, sums.groups))
    for trial in range(len(theta)):
        theta[trial] = _by_quasi_newton(problem.take(np.array([trial])), theta[trial], float(constant[trial]))
    return _finish(problem, theta, evaluate(problem, theta), STOPPED)


def _by_quasi_newton(problem: Problem, theta: np.ndarray, constant: float) -> np.ndarray:
    def value(at: np.ndarray) -> tuple[float, np.ndarray]:
        point = evaluate(problem, at[None])
        if not point.possible[0]:
            return 1e10, np.zeros_like(at)
        return float(point.height[0]) + constant, np.where(problem.free[0], point.gradient[0], 0.0)

    options = {"maxcor": 5, "ftol": MMRM_STOP, "gtol": 0.0, "maxiter": 300}
    return optimize.minimize(value, theta, jac=True, method="L-BFGS-B", options=options).x

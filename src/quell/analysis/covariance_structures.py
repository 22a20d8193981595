"""How repeated measurements of one person vary together: covariance structures and their derivatives.

A structure says how the covariance matrix of the visits, V, depends on a few parameters theta:

    V_ab = s_a s_b R_ab(r),    s = exp(log standard deviations; one for all visits where homogeneous),

where R is a correlation matrix whose entries are products of powers of correlations r = t / sqrt(1 + t^2) (compound
symmetry: r between -1 / (visits - 1) and 1 on the logistic scale),

    compound symmetry    R_ab = r                    autoregressive   R_ab = r^|a - b|
    Toeplitz             R_ab = r_|a - b|            ante-dependence  R_ab = r_a r_(a+1) ... r_(b-1)

or, unstructured, R = N N' with N lower triangular of unit diagonal and free entries t (so s N is Cholesky's factor).
These are the parameters of the R package mmrm, on which its Kenward-Roger adjustment depends. Only the pairs a <= b of
visits are kept: v (..., pairs), in the order of `pairs`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError


class Structure(NamedTuple):
    """A covariance structure: its name, its correlations, and whether each visit has its own variance."""

    name: str
    correlation: str
    heterogeneous: bool


class Expansion(NamedTuple):
    """v(theta) with its first and second derivatives: (B, pairs), (B, pairs, m), (B, pairs, m, m)."""

    value: np.ndarray
    first: np.ndarray
    second: np.ndarray


STRUCTURES: dict[str, Structure] = {
    one.name: one
    for one in (
        Structure("unstructured", "unstructured", True),
        Structure("heterogeneous Toeplitz", "toeplitz", True),
        Structure("Toeplitz", "toeplitz", False),
        Structure("heterogeneous autoregressive", "autoregressive", True),
        Structure("autoregressive", "autoregressive", False),
        Structure("heterogeneous compound symmetry", "symmetry", True),
        Structure("compound symmetry", "symmetry", False),
        Structure("heterogeneous ante-dependence", "ante-dependence", True),
        Structure("ante-dependence", "ante-dependence", False),
        Structure("heterogeneous independent", "independent", True),
        Structure("independent", "independent", False),
    )
}
# The largest correlation a search starts from.
HIGHEST = 1 - 1e-9
# Unstructured, with the entries of V themselves as parameters, as in SAS; nothing keeps V positive definite.
LINEAR = Structure("unstructured", "linear", True)
# Unstructured, as unit lower triangular B and log deviations c with V = B diag(exp 2c) B': the search runs on these, since
# they stay of moderate size however close to one correlations are.
FACTORED = Structure("unstructured", "factored", True)
FREE_FORMS = ("unstructured", "linear", "factored")
# What other software calls them: R's mmrm, then SAS PROC MIXED.
ALSO_CALLED = {
    "us": "unstructured",
    "un": "unstructured",
    "toeph": "heterogeneous Toeplitz",
    "toep": "Toeplitz",
    "ar1h": "heterogeneous autoregressive",
    "arh(1)": "heterogeneous autoregressive",
    "heterogeneous ar(1)": "heterogeneous autoregressive",
    "ar1": "autoregressive",
    "ar(1)": "autoregressive",
    "csh": "heterogeneous compound symmetry",
    "cs": "compound symmetry",
    "adh": "heterogeneous ante-dependence",
    "ante(1)": "heterogeneous ante-dependence",
    "ad": "ante-dependence",
}
# What is tried, in this order, where the structure asked for cannot be fitted; never independence, which would overstate
# what repeated visits of one person say.
SIMPLER = ("heterogeneous Toeplitz", "heterogeneous autoregressive", "compound symmetry")


def structure_named(name: str) -> Structure:
    """The structure of that name, in quell's words or those of mmrm or SAS.

    >>> structure_named("toeph").name
    'heterogeneous Toeplitz'
    """
    lower = str(name).lower()
    by_lower = {one.lower(): one for one in STRUCTURES}
    full = by_lower.get(lower) or ALSO_CALLED.get(lower)
    if full is None:
        raise ClaimError(f"There is no covariance structure '{name}'; choose one of: {', '.join(STRUCTURES)}.")
    return STRUCTURES[full]


def simpler_than(structure: Structure) -> tuple[Structure, ...]:
    """The structures to fall back on, in order: those of `SIMPLER` with fewer parameters (counted at five visits)."""
    own = parameter_count(structure, 5)
    return tuple(STRUCTURES[name] for name in SIMPLER if parameter_count(STRUCTURES[name], 5) < own)


@functools.lru_cache
def pairs(visits: int) -> tuple[np.ndarray, np.ndarray]:
    """First and second visit (a <= b) of every pair of visits, row by row."""
    return np.triu_indices(visits)


@functools.lru_cache
def square(visits: int) -> np.ndarray:
    """Where the entry (a, b) of a symmetric matrix stands among the pairs: (visits, visits)."""
    first, second = pairs(visits)
    where = np.zeros((visits, visits), int)
    where[first, second] = where[second, first] = np.arange(len(first))
    return where


@functools.lru_cache
def incidence(visits: int) -> np.ndarray:
    """How often a visit stands in a pair, 0, 1 or 2: (pairs, visits)."""
    first, second = pairs(visits)
    each = np.arange(visits)
    return (first[:, None] == each).astype(float) + (second[:, None] == each)


@functools.lru_cache
def powers(correlation: str, visits: int) -> np.ndarray:
    """The power of each correlation parameter in each pair's correlation: (pairs, parameters)."""
    first, second = pairs(visits)
    lag = second - first
    steps = np.arange(max(visits - 1, 0))
    if visits == 1 or correlation == "independent":
        return np.zeros((len(first), 0))
    if correlation == "symmetry":
        return (lag[:, None] > 0).astype(float)
    if correlation == "autoregressive":
        return lag[:, None].astype(float)
    if correlation == "toeplitz":
        return (lag[:, None] == steps + 1).astype(float)
    return ((first[:, None] <= steps) & (steps < second[:, None])).astype(float)


@functools.lru_cache
def lower_entries(visits: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the free entries of a unit lower triangular matrix, row by row."""
    return np.tril_indices(visits, -1)


def parameter_count(structure: Structure, visits: int) -> int:
    """How many parameters a structure has.

    >>> parameter_count(STRUCTURES["unstructured"], 4), parameter_count(STRUCTURES["autoregressive"], 4)
    (10, 2)
    """
    deviations = visits if structure.heterogeneous else 1
    return deviations + _correlations(structure, visits)


def expand(structure: Structure, theta: np.ndarray, visits: int) -> Expansion:
    """The covariances of the pairs of visits, and their derivatives, at parameters theta (B, m)."""
    count = theta.shape[1] - _correlations(structure, visits)
    first, second = pairs(visits)
    if structure.correlation == "linear":
        whole = (len(theta), *2 * (len(first),))
        return Expansion(theta, np.broadcast_to(np.eye(len(first)), whole), np.zeros((*whole, len(first))))
    if structure.correlation == "factored":
        return _factored(theta, visits)
    logs = np.broadcast_to(theta[:, :count], (len(theta), visits))
    scale = np.exp(logs[:, first] + logs[:, second])
    shape, slope, bend = _correlation(structure, theta[:, count:], visits)
    value = scale * shape
    by_correlation = scale[:, :, None] * slope
    by_deviation = incidence(visits) if structure.heterogeneous else np.full((len(first), 1), 2.0)
    jacobian = np.concatenate([value[:, :, None] * by_deviation, by_correlation], -1)
    hessian = np.empty((*jacobian.shape, jacobian.shape[-1]))
    hessian[:, :, :count, :count] = value[:, :, None, None] * (by_deviation[:, :, None] * by_deviation[:, None, :])
    hessian[:, :, :count, count:] = by_deviation[:, :, None] * by_correlation[:, :, None, :]
    hessian[:, :, count:, :count] = np.swapaxes(hessian[:, :, :count, count:], -1, -2)
    hessian[:, :, count:, count:] = scale[:, :, None, None] * bend
    return Expansion(value, jacobian, hessian)


def start(structure: Structure, covariance: np.ndarray) -> np.ndarray:
    """Parameters (B, m) near a positive definite covariance matrix (B, visits, visits)."""
    visits = covariance.shape[-1]
    deviation = np.sqrt(np.einsum("bii->bi", covariance))
    if structure.correlation in ("unstructured", "factored"):
        factor = np.linalg.cholesky(covariance)
        diagonal = np.einsum("bii->bi", factor)
        rows, columns = lower_entries(visits)
        unit = diagonal[:, rows if structure.correlation == "unstructured" else columns]
        return np.concatenate([np.log(diagonal), factor[:, rows, columns] / unit], -1)
    first, second = pairs(visits)
    correlation = covariance[:, first, second] / (deviation[:, first] * deviation[:, second])
    exponents = powers(structure.correlation, visits)
    simple = exponents * (exponents.sum(-1, keepdims=True) == 1)
    mean = correlation @ simple / np.maximum(simple.sum(0), 1)
    lowest = -0.9 / max(visits - 1, 1) if structure.correlation == "symmetry" else -HIGHEST
    mean = np.clip(mean, lowest, HIGHEST)
    logs = np.log(deviation) if structure.heterogeneous else np.log(deviation).mean(-1, keepdims=True)
    return np.concatenate([logs, _unlink(structure, mean, visits)], -1)


def free(structure: Structure, seen: np.ndarray, visits: int) -> np.ndarray:
    """Which parameters (B, m) the visits seen can inform; seen (B, pairs) counts subjects with both visits."""
    first, second = pairs(visits)
    present = seen[:, first == second] > 0
    if structure.correlation in ("unstructured", "factored"):
        rows, columns = lower_entries(visits)
        return np.concatenate([present, present[:, rows] & present[:, columns]], -1)
    informed = (seen > 0).astype(float) @ powers(structure.correlation, visits) > 0
    deviations = present if structure.heterogeneous else present.any(-1, keepdims=True)
    return np.concatenate([deviations, informed], -1)


def natural_bend(structure: Structure, theta: np.ndarray, visits: int) -> np.ndarray | None:
    """phi'' / phi' of SAS's parameters phi(theta), variances and correlations; None where V is linear in SAS's."""
    if structure.correlation in FREE_FORMS or (
        not structure.heterogeneous and structure.correlation in ("symmetry", "toeplitz", "independent")
    ):
        return None
    count = theta.shape[1] - _correlations(structure, visits)
    _, slope, bend = _link(structure, theta[:, count:], visits)
    return np.concatenate([np.full((len(theta), count), 2.0), bend / slope], -1)


def _correlations(structure: Structure, visits: int) -> int:
    if structure.correlation in FREE_FORMS:
        return visits * (visits - 1) // 2
    return powers(structure.correlation, visits).shape[1]


def _correlation(structure: Structure, t: np.ndarray, visits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R of the pairs with its first and second derivatives by t."""
    if structure.correlation == "unstructured":
        return _unit_cholesky(t, visits)
    if structure.correlation == "independent":
        first, second = pairs(visits)
        shape = (len(t), len(first))
        return np.broadcast_to((first == second) * 1.0, shape), np.zeros((*shape, 0)), np.zeros((*shape, 0, 0))
    r, r1, r2 = _link(structure, t, visits)
    value, slope, bend = _monomial(r, powers(structure.correlation, visits))
    diagonal = np.arange(t.shape[1])
    bend = bend * r1[:, None, :, None] * r1[:, None, None, :]
    bend[:, :, diagonal, diagonal] += slope * r2[:, None, :]
    return value, slope * r1[:, None, :], bend


def _link(structure: Structure, t: np.ndarray, visits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlations r(t) with their first and second derivatives."""
    if structure.correlation == "symmetry":
        share = special.expit(t)
        width = 1 + 1 / max(visits - 1, 1)
        slope = width * share * (1 - share)
        return width * share - (width - 1), slope, slope * (1 - 2 * share)
    return t / np.sqrt(1 + t**2), (1 + t**2) ** -1.5, -3 * t / (1 + t**2) ** 2.5


def _unlink(structure: Structure, r: np.ndarray, visits: int) -> np.ndarray:
    """The t of correlations r."""
    if structure.correlation == "symmetry":
        width = 1 + 1 / max(visits - 1, 1)
        return special.logit((r + width - 1) / width)
    return r / np.sqrt(1 - r**2)


def _monomial(r: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Products of r_j to the power e_pj, with their first and second derivatives by r."""
    base, count = r[:, None, :], exponents.shape[1]
    plain = base**exponents
    once = exponents * base ** np.maximum(exponents - 1, 0)
    twice = exponents * (exponents - 1) * base ** np.maximum(exponents - 2, 0)
    value = plain.prod(-1)
    slope = np.empty((*value.shape, count))
    bend = np.empty((*value.shape, count, count))
    for j in range(count):
        others = [i for i in range(count) if i != j]
        slope[..., j] = once[..., j] * plain[..., others].prod(-1)
        bend[..., j, j] = twice[..., j] * plain[..., others].prod(-1)
        for k in others:
            rest = [i for i in others if i != k]
            bend[..., j, k] = once[..., j] * once[..., k] * plain[..., rest].prod(-1)
    return value, slope, bend


def _unit_cholesky(t: np.ndarray, visits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """N N' of the pairs, N unit lower triangular with entries t, with its derivatives by t."""
    first, second = pairs(visits)
    rows, columns = lower_entries(visits)
    factor = np.broadcast_to(np.eye(visits), (len(t), visits, visits)).copy()
    factor[:, rows, columns] = t
    value = (factor @ np.swapaxes(factor, -1, -2))[:, first, second]
    in_first, in_second = first[:, None] == rows, second[:, None] == rows
    slope = in_first * factor[:, second[:, None], columns] + in_second * factor[:, first[:, None], columns]
    return value, slope, np.broadcast_to(_unit_cholesky_bend(visits), (len(t), len(first), len(rows), len(rows)))


def _factored(theta: np.ndarray, visits: int) -> Expansion:
    """V = B D B' of the pairs, with its derivatives by log deviations c (D = exp 2c) and the entries of B."""
    first, second = pairs(visits)
    rows, columns = lower_entries(visits)
    each = np.arange(visits)
    d = np.exp(2 * theta[:, None, :visits])
    factor = np.broadcast_to(np.eye(visits), (len(theta), visits, visits)).copy()
    factor[:, rows, columns] = theta[:, visits:]
    by_deviation = 2 * factor[:, first] * factor[:, second] * d
    in_first, in_second = first[:, None] == rows, second[:, None] == rows
    by_entry = in_first * factor[:, second[:, None], columns] + in_second * factor[:, first[:, None], columns]
    by_entry = by_entry * d[:, :, columns]
    bend = np.zeros((*by_deviation.shape[:2], theta.shape[1], theta.shape[1]))
    bend[:, :, each, each] = 2 * by_deviation
    mixed = 2 * by_entry[:, :, None, :] * (each[:, None] == columns)
    bend[:, :, :visits, visits:] = mixed
    bend[:, :, visits:, :visits] = np.swapaxes(mixed, -1, -2)
    bend[:, :, visits:, visits:] = _unit_cholesky_bend(visits) * d[:, :, columns, None]
    return Expansion(by_deviation.sum(-1) / 2, np.concatenate([by_deviation, by_entry], -1), bend)


@functools.lru_cache
def _unit_cholesky_bend(visits: int) -> np.ndarray:
    first, second = pairs(visits)
    rows, columns = lower_entries(visits)
    same = columns[:, None] == columns
    in_first, in_second = first[:, None] == rows, second[:, None] == rows
    return same * (in_first[:, :, None] & in_second[:, None, :]) + same * (
        in_second[:, :, None] & in_first[:, None, :]
    ).astype(float)

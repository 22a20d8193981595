"""Fitting a linear model for repeated measures by REML or ML: the engine under `repeated.mmrm`, for any design.

`fit_reml` takes an explicit design, a row for each person and visit, and answers with coefficients, their covariance, the
covariance of the visits, and all that degrees of freedom need. Where the covariance structure asked for cannot be
fitted in a trial, simpler ones are tried in a stated order, and a caution and `structure_used` say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.covariance_structures import (
    STRUCTURES,
    Structure,
    pairs,
    parameter_count,
    simpler_than,
    square,
    structure_named,
)
from quell.analysis.cross_products import Sums, cross_products
from quell.analysis.likelihood_search import Solution, solve, solve_as_mmrm, solve_as_sas
from quell.analysis.restricted_likelihood import Problem, kenward_roger, symmetric_inverse
from quell.analysis.working_scale import Model, explicit_model, independent_columns, unexplained

Likelihood = Literal["reml", "ml"]
NAMES = tuple(STRUCTURES)
# A share of the outcome's variance left unexplained that is no more than rounding.
PERFECT = 1e-13
# Working memory for a batch is kept near this many bytes by taking some of its trials at a time.
MEMORY = 6e7


class Covariance(NamedTuple):
    """Which covariance of the visits to fit, and how.

    structure: a name of `covariance_structures.STRUCTURES` (or mmrm's or SAS's: "us", "toeph", "ar(1)", ...);
    fallback: the structures tried in order where it cannot be fitted (None: `SIMPLER` ones; () for none);
    likelihood: "reml" or "ml"; by_arm: one covariance matrix for each arm (in `mmrm`); stop: "exact" searches to rounding,
    "sas" (unstructured only) and "mmrm" stop where these programs do by default, to reproduce their printed digits;
    degrees: whether to make what degrees of freedom need (a tenth of the work), or leave it NaN.
    """

    structure: str = "unstructured"
    fallback: Sequence[str] | None = None
    likelihood: Likelihood = "reml"
    by_arm: bool = False
    stop: Literal["exact", "sas", "mmrm"] = "exact"
    degrees: bool = True


class Fit(NamedTuple):
    """A repeated-measures model fitted to each trial of a batch (...); NaN where it could not be.

    coefficients (..., q), 0 for a column dropped as aliased; covariance (..., q, q) of the coefficients, model-based;
    visit_covariance (..., groups, visits, visits); log_likelihood (restricted under REML); parameters: how many
    covariance parameters; structure: index into `NAMES` of the structure used; n people and observations analysed; rank of
    the design; null (..., q, q): directions of the coefficients the data do not determine.

    For degrees of freedom: uncertainty (..., m, m) is the covariance of the covariance parameters theta (the inverse of
    the observed second derivatives), slopes (..., m, q, q) the derivative of the coefficients' covariance by each theta,
    and adjusted (..., 3, q, q) its Kenward-Roger form (linear; mmrm's; SAS's), NaN under ML. The last two are NaN where
    `Covariance` asks for no degrees of freedom.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    visit_covariance: np.ndarray
    log_likelihood: np.ndarray
    parameters: np.ndarray
    structure: np.ndarray
    converged: np.ndarray
    n: np.ndarray
    observations: np.ndarray
    rank: np.ndarray
    null: np.ndarray
    uncertainty: np.ndarray
    slopes: np.ndarray
    adjusted: np.ndarray
    warnings: np.ndarray

    @property
    def aic(self) -> np.ndarray:
        """Akaike's criterion with covariance parameters only counted, as mmrm (and SAS under REML) do."""
        return -2 * self.log_likelihood + 2 * self.parameters

    @property
    def bic(self) -> np.ndarray:
        """Schwarz's criterion with covariance parameters only counted, and n the number of people."""
        return -2 * self.log_likelihood + np.log(np.maximum(self.n, 1)) * self.parameters

    @property
    def structure_used(self) -> np.ndarray:
        """The name of the covariance structure fitted to each trial."""
        return np.array(NAMES)[self.structure]


def fit_reml(
    outcome: np.ndarray,
    design: np.ndarray,
    structure: str | Covariance = "unstructured",
    *,
    group: np.ndarray | None = None,
    include: np.ndarray | None = None,
) -> Fit:
    """Fit y_i ~ N(X_i b, V) by REML (or ML), V of the structure asked for, to every trial of a batch.

    The method is that of `restricted_likelihood`. outcome (..., n, visits), NaN where a visit is missed; design (..., n,
    visits, q), NaN where not to be used; group (..., n) whole codes of people with a covariance matrix of their own (a
    negative code leaves the person out); include (..., n). Batches broadcast: where outcome and design have no batch axes,
    and include has, the trials share data (leave-one-out, bootstrap of people) and the cross-products are made once.
    Structures, fallbacks and ML are said by `Covariance`. Raises ClaimError where shapes do not match.

    >>> y = np.array([[1.0, 2.0], [2.0, 2.5], [3.0, 5.0], [2.0, np.nan], [4.0, 4.5]])
    >>> visit = np.broadcast_to(np.eye(2), (5, 2, 2))
    >>> fit = fit_reml(y, visit)
    >>> fit.coefficients.round(4).tolist(), fit.covariance.round(4)[0].tolist(), bool(fit.converged)
    ([2.4, 3.4], [0.26, 0.26], True)
    """
    outcome, design = np.asarray(outcome, float), np.asarray(design, float)
    if outcome.ndim < 2 or design.shape[-3:-1] != outcome.shape[-2:]:
        raise ClaimError(
            f"The outcome has shape {outcome.shape} and the design {design.shape}; they need (..., people, visits) and "
            "(..., people, visits, columns)."
        )
    n, visits = outcome.shape[-2:]
    group = np.zeros(n, int) if group is None else np.asarray(group)
    include = np.ones(n, bool) if include is None else np.asarray(include, bool)
    for name, values in (("group", group), ("include", include)):
        if values.shape[-1:] != (n,):
            raise ClaimError(f"'{name}' has shape {values.shape}; its last axis must be the {n} people of the outcome.")
    data = np.broadcast_shapes(outcome.shape[:-2], design.shape[:-3], group.shape[:-1])
    batch = np.broadcast_shapes(data, include.shape[:-1])
    if int(np.prod(data)) != 1:
        data = batch
    size, q = int(np.prod(data)), design.shape[-1]
    outcome = np.broadcast_to(outcome, (*data, n, visits)).reshape(size, n, visits)
    design = np.broadcast_to(design, (*data, n, visits, q)).reshape(size, n, visits, q)
    group = np.broadcast_to(group, (*data, n)).reshape(size, n)
    include = np.broadcast_to(include, (*batch, n)).reshape(int(np.prod(batch)), n)
    counts = (visits * (q + 1), visits, q, int(group.max(initial=0)) + 1)

    def prepare(index: slice) -> Model:
        return explicit_model(outcome[index], design[index], group[index], include[index])

    if size == 1:
        prepare = explicit_model(outcome, design, group, include).prepared().part
    return fit_in_parts(prepare, batch, n * (size > 1), counts, options_of(structure))


def options_of(structure: str | Covariance) -> Covariance:
    """What is asked for, checked."""
    options = structure if isinstance(structure, Covariance) else Covariance(structure)
    if options.likelihood not in ("reml", "ml"):
        raise ClaimError(f"The likelihood is '{options.likelihood}'; choose 'reml' or 'ml'.")
    if options.stop not in ("exact", "sas", "mmrm"):
        raise ClaimError(f"The stop is '{options.stop}'; choose 'exact', 'sas' or 'mmrm'.")
    if options.stop == "sas" and structure_named(options.structure).correlation != "unstructured":
        raise ClaimError("Only an unstructured covariance can be fitted as SAS does; choose stop 'exact' or 'mmrm'.")
    return options


def fit_in_parts(
    prepare: Callable[[slice], Model],
    batch: tuple[int, ...],
    n: int,
    size: tuple[int, int, int, int],
    options: Covariance,
) -> Fit:
    """Fit a batch some trials at a time; n people of their own each, size (numbers per person, visits, columns, groups)."""
    numbers, visits, columns, groups = size
    total = int(np.prod(batch))
    asked = structure_named(options.structure)
    parameters = groups * parameter_count(asked, visits)
    pair_count = len(pairs(visits)[0])
    patterns = min(groups * (2**visits - 1), max(n, 100))
    each = 8 * (n * numbers * (numbers + 1) + patterns * pair_count * ((columns + 1) ** 2 / 4 + parameters / 2))
    each += 8 * (3 * pair_count * parameters**2 + 4 * parameters * (columns + 1) ** 2)
    step = int(np.clip(MEMORY / each, 1, max(total, 1)))
    parts = [_fit(prepare(slice(k, k + step)), options) for k in range(0, max(total, 1), step)]
    joined = Fit(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))
    return Fit(*(field.reshape((*batch, *field.shape[1:])) for field in joined))


def _fit(model: Model, options: Covariance) -> Fit:
    """Fit a part of a batch: the structure asked for, then simpler ones for the trials where it fails."""
    sums = cross_products(model.rows, model.groups)
    asked, restricted = structure_named(options.structure), options.likelihood == "reml"
    names = options.fallback
    others = simpler_than(asked) if names is None else tuple(map(structure_named, names))
    tries = [(asked, options.stop)] + ([] if options.stop == "exact" else [(asked, "exact")])
    tries += [(structure, "exact") for structure in others]
    gram = sums.gram()
    kept, aliased = independent_columns(gram[:, :-1, :-1])
    result = _blank(sums, model, kept, aliased, [asked, *others])
    varies = (model.scale > 0) & (unexplained(gram, kept) > PERFECT * gram[:, -1, -1])
    enough = result.observations > result.rank
    result.warnings[enough & ~varies] |= int(Caution.CONSTANT_OUTCOME)
    left = np.flatnonzero(enough & varies)
    constant = _constant(result, kept, model, restricted)
    for structure, stop in tries:
        if not len(left):
            break
        some = sums.take(left)
        if stop == "sas":
            solution = solve_as_sas(some, kept[left], restricted, constant[left])
        elif stop == "mmrm":
            solution = solve_as_mmrm(some, structure, kept[left], restricted, constant[left], model.scale[left])
        else:
            solution = solve(some, structure, kept[left], restricted)
        good = np.flatnonzero(solution.converged)
        if len(good):
            problem = Problem(some, structure, kept[left], solution.free, restricted).take(good)
            _write(result, left[good], _part(problem, solution.take(good), options.degrees), structure is not asked)
        left = left[~solution.converged]
    result.warnings[left] |= int(Caution.NOT_CONVERGED)
    return _to_raw(result._replace(log_likelihood=result.log_likelihood - constant), model)


def _constant(fit: Fit, kept: np.ndarray, model: Model, restricted: bool) -> np.ndarray:
    """What -log L on the working scale lacks of that of the data."""
    free_observations = fit.observations - restricted * fit.rank
    scale = np.where(model.scale > 0, model.scale, 1.0)
    stretch = np.log(np.abs(np.einsum("bii->bi", model.to_raw)))  # to_raw is triangular
    return free_observations * (np.log(2 * np.pi) / 2 + np.log(scale)) - restricted * np.sum(kept * stretch, -1)


def _blank(sums: Sums, model: Model, kept: np.ndarray, aliased: np.ndarray, structures: Sequence[Structure]) -> Fit:
    """A fit on the working scale with nothing fitted yet, and room for the largest structure."""
    batch, visits, q = len(sums.counts), sums.visits.shape[1], sums.columns
    m = sums.groups * max(parameter_count(structure, visits) for structure in structures)
    n, observations = sums.counts.sum(-1), sums.counts @ sums.visits.sum(-1)
    rank = kept.sum(-1)
    empty, few = n == 0, (observations <= rank) & (n > 0)
    warnings = model.warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE) | flag(few, Caution.TOO_FEW)
    return Fit(
        coefficients=np.full((batch, q), np.nan),
        covariance=np.full((batch, q, q), np.nan),
        visit_covariance=np.full((batch, sums.groups, visits, visits), np.nan),
        log_likelihood=np.full(batch, np.nan),
        parameters=np.zeros(batch, int),
        structure=np.full(batch, NAMES.index(structures[0].name)),
        converged=np.zeros(batch, bool),
        n=n.astype(int),
        observations=observations.astype(int),
        rank=rank,
        null=aliased,
        uncertainty=np.zeros((batch, m, m)),
        slopes=np.zeros((batch, m, q, q)),
        adjusted=np.full((batch, 3, q, q), np.nan),
        warnings=np.broadcast_to(warnings, (batch,)).copy(),
    )


class _Part(NamedTuple):
    """What one structure gave for the trials in which it converged."""

    coefficients: np.ndarray
    covariance: np.ndarray
    visit_covariance: np.ndarray
    log_likelihood: np.ndarray
    parameters: np.ndarray
    structure: np.ndarray
    uncertainty: np.ndarray
    slopes: np.ndarray
    adjusted: np.ndarray
    boundary: np.ndarray


def _part(problem: Problem, solution: Solution, degrees: bool) -> _Part:
    """What is kept of a solution."""
    point, visits = solution.point, problem.sums.visits.shape[1]
    phi, w = point.covariance, solution.uncertainty
    slopes, adjusted = np.full(point.slopes.shape, np.nan), np.full((len(phi), 3, *phi.shape[1:]), np.nan)
    if degrees:
        slopes = -(phi[:, None] @ point.slopes @ phi[:, None])
    if degrees and problem.restricted:
        adjusted = kenward_roger(problem, point, solution.theta, w)
    covariance = point.value[..., square(visits)]
    structure = np.full(len(phi), NAMES.index(problem.structure.name))
    parameters = problem.free.sum(-1)
    edge = _at_edge(covariance)
    return _Part(point.coefficients, phi, covariance, -point.height, parameters, structure, w, slopes, adjusted, edge)


def _at_edge(covariance: np.ndarray) -> np.ndarray:
    """Whether some combination of visits (standardised) has next to no variance: B of (B, groups, T, T)."""
    deviation = np.sqrt(np.einsum("bgii->bgi", covariance))
    correlation = covariance / (deviation[..., None] * deviation[..., None, :])
    inverse = symmetric_inverse(correlation.reshape(-1, *correlation.shape[2:]))[0]
    return np.einsum("bii->bi", inverse).max(-1, initial=0.0).reshape(covariance.shape[:2]).max(-1, initial=0.0) > 1e6


def _write(result: Fit, index: np.ndarray, part: _Part, simpler: bool) -> None:
    """Put what was fitted into the places of its trials; fewer parameters leave the rest of their space zero."""
    m = part.uncertainty.shape[-1]
    for name in (
        "coefficients",
        "covariance",
        "visit_covariance",
        "log_likelihood",
        "parameters",
        "structure",
        "adjusted",
    ):
        getattr(result, name)[index] = getattr(part, name)
    result.uncertainty[index, :m, :m] = part.uncertainty
    result.slopes[index, :m] = part.slopes
    result.converged[index] = True
    result.warnings[index] |= flag(part.boundary, Caution.AT_BOUNDARY)
    if simpler:
        result.warnings[index] |= int(Caution.SIMPLER_COVARIANCE)


def _to_raw(fit: Fit, model: Model) -> Fit:
    """From the working scale to that of the data."""
    raw, scale = model.to_raw, np.where(model.scale > 0, model.scale, 1.0)

    def turn(covariance: np.ndarray) -> np.ndarray:
        extra = (None,) * (covariance.ndim - 3)
        there = raw[(slice(None), *extra)]
        return (scale**2)[(slice(None), None, None, *extra)] * (there @ covariance @ np.swapaxes(there, -1, -2))

    null = raw @ fit.null
    if model.null is not None:
        null = np.concatenate([null, np.broadcast_to(model.null, (len(null), *model.null.shape[1:]))], -1)
    beta = np.einsum("...ij,...j->...i", raw, fit.coefficients)
    return fit._replace(
        coefficients=model.offset + scale[:, None] * beta,
        covariance=turn(fit.covariance),
        visit_covariance=(scale**2)[:, None, None, None] * fit.visit_covariance,
        slopes=turn(fit.slopes),
        adjusted=turn(fit.adjusted),
        null=null,
    )

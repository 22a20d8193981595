"""Missing outcomes of a trial over visits: the difference at a visit under a stated assumption about what was not seen.

What counts as missing follows from the estimand (`strategies`: ICH E9(R1)); what is assumed of it is an `Assumption`
(`reference_based`: at random, jump to reference, copy reference, copy increments, last mean carried forward, and a
shift delta of any of these). Two ways lead to the estimate and, under reference-based rules, to different errors:

    conditional_mean      deterministic; jackknife error: how much the estimate varies from trial to trial (here)
    multiple_imputation   random; Rubin's error: keeps the information that was lost (`imputation`)
    tipping_point         how much worse the unseen values would have to be for the result to be lost (`tipping`)

Not here: imputation of times to an event (Jackson et al. 2014, doi:10.1002/sim.6274), of covariates, of counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, Estimate, flag, normal_estimate
from quell.analysis.follow_up import FollowUp, Layout, Part, laid_out, normal_of, parts
from quell.analysis.imputation import check_visit
from quell.analysis.means import ancova
from quell.analysis.pooling import jackknife
from quell.analysis.reference_based import AT_RANDOM, Assumption, Normal, completed
from quell.analysis.reml import Covariance, fit_reml

# The least eigenvalue of the visits' correlations at which the conditional distribution can be had from them.
DEGENERATE = 1e-10


class Replicates(NamedTuple):
    """The estimate of every trial, with everybody first and then without each subject in turn: (trials, 1 + n).

    `by_delta` (trials, 1 + n, 2) is how much a delta of 1 in the active and in the control arm adds: the estimate is
    linear in them. kept (trials, n) are those in the analysis; `whole` is the plain analysis, for trials in which none
    is unseen at the visit (`complete`).
    """

    estimate: np.ndarray
    by_delta: np.ndarray
    kept: np.ndarray
    complete: np.ndarray
    whole: Estimate
    warnings: np.ndarray


def conditional_mean(
    data: FollowUp,
    assumption: Assumption = AT_RANDOM,
    *,
    contrast: tuple[int, int] = (1, 0),
    visit: int = -1,
    level: float = 0.95,
) -> Estimate:
    """Difference at a visit, active minus control, with unseen values at their conditional mean and a jackknife error.

    The deterministic method of Wolbers et al. (2022, doi:10.1002/pst.2234), as R's rbmi with method_condmean(type =
    "jackknife"): outcomes ~ visit x (arm + covariates), unstructured covariance, by REML; each unseen value is set to
    its mean given the subject's seen ones under the assumption; outcome at the visit ~ arm + covariates. All of it is
    repeated without each subject: se² = (n - 1)/n sum (theta_i - mean)²; normal test and interval. This is the
    repeated-sampling error; under J2R, CR and CIR it is smaller than Rubin's (`imputation.multiple_imputation`).

    Values seen after the event inform the model under MAR only; they are kept. Subjects without any value are imputed
    from their covariates. Where nothing is unseen at the visit, the result is `means.ancova`. Raises ClaimError where
    shapes do not match or a word is not known.

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.5], [2, 2]])
    >>> result = conditional_mean(FollowUp(seen, np.arange(8) % 2), Assumption("J2R", reference=0))
    >>> round(float(result.estimate), 4), round(float(result.se), 4)
    (0.0629, 0.7721)
    """
    layout = laid_out(data, (*contrast, assumption.reference))
    made = replicates(layout, assumption.checked(), contrast=contrast, visit=visit, level=level)
    se = jackknife(made.estimate[:, 0], made.estimate[:, 1:], made.kept)
    return estimate_of(made, layout, made.estimate[:, 0], se, level)


def estimate_of(made: Replicates, layout: Layout, value: np.ndarray, se: np.ndarray, level: float) -> Estimate:
    """The estimate (..., of the batch) of a value and error per trial; the plain analysis where nothing is unseen."""
    n = made.kept.sum(-1)
    warnings = made.warnings | flag(np.isfinite(value) & ~np.isfinite(se), Caution.TOO_FEW)
    imputed = normal_estimate(value, se, n, warnings | int(Caution.ASSUMED_UNSEEN), level)
    fields: dict[str, Any] = {
        name: np.where(made.complete, getattr(made.whole, name), getattr(imputed, name)).reshape(layout.batch)
        for name in Estimate._fields[:-1]
    }
    return imputed._replace(**fields)


def replicates(
    layout: Layout, assumption: Assumption, *, contrast: tuple[int, int], visit: int, level: float
) -> Replicates:
    """The analysis of every trial with everybody and without each subject; fits where nothing is unseen are spared."""
    subjects = layout.subjects
    trials, n, visits = subjects.outcome.shape
    check_visit(visit, visits)
    complete = ~(np.isnan(subjects.outcome[..., visit]) & subjects.kept).any(-1)
    whole = _analysed(layout, subjects.outcome[..., visit], subjects.kept, contrast, level)
    estimate, by_delta = np.full((trials, 1 + n), np.nan), np.zeros((trials, 1 + n, 2))
    warnings = layout.warnings | (whole.warnings & ~int(Caution.MISSING | Caution.CONSTANT_OUTCOME | Caution.TOO_FEW))
    delta = layout.delta(assumption)
    # one trial is n + 1 fits that share their data: that is the batch here, and trials follow each other
    for trial in np.flatnonzero(~complete):
        one = layout.cut(slice(trial, trial + 1))
        here = assumption._replace(delta=delta[trial : trial + 1])
        estimate[trial], by_delta[trial], doubts = _one_trial(one, here, contrast, visit)
        warnings[trial] |= doubts
    return Replicates(estimate, by_delta, subjects.kept, complete, whole, warnings)


def _one_trial(
    layout: Layout, assumption: Assumption, contrast: tuple[int, int], visit: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Estimates (1 + n,), what a delta in either arm adds to them (1 + n, 2), and the doubts of one trial."""
    subjects = layout.subjects
    n = subjects.kept.shape[1]
    include = np.concatenate([np.ones((1, n), bool), ~np.eye(n, dtype=bool)]) & subjects.kept[0]
    normal, doubts, sound = _fitted(layout, assumption, include)
    values = completed(subjects, normal, assumption)[0, ..., visit]
    values = np.where(sound[:, None], values, np.nan)
    analysed = _analysed(layout, values, include, contrast)
    unseen = np.isnan(subjects.outcome[0, :, visit]) & subjects.kept[0]
    shifted = [(unseen & (subjects.arm[0] == code)).astype(float) for code in contrast]
    by_delta = [_analysed(layout, np.broadcast_to(one, include.shape), include, contrast).estimate for one in shifted]
    estimate = np.where(sound, analysed.estimate, np.nan)
    lost = np.isnan(values[0]) & subjects.kept[0]
    warnings = doubts | int(flag(~sound[0], Caution.NOT_ESTIMABLE)) | int(flag(sound[0] & lost.any(), Caution.MISSING))
    singular = int(analysed.warnings[0]) & int(Caution.SINGULAR)
    return estimate, np.stack(by_delta, -1), warnings | singular


def _analysed(
    layout: Layout, values: np.ndarray, include: np.ndarray, contrast: tuple[int, int], level: float = 0.95
) -> Estimate:
    return ancova(
        values, layout.subjects.arm, contrast=contrast, covariates=layout.covariates, include=include, level=level
    )


def _fitted(layout: Layout, assumption: Assumption, include: np.ndarray) -> tuple[Normal, int, np.ndarray]:
    """The arms' distributions by REML for every set of people (R, n), the doubts, and which sets could be fitted."""
    outcome = layout.modelled(assumption)[0]
    visits = outcome.shape[-1]
    coefficients, covariances = [], []
    doubts, sound = 0, np.ones(len(include), bool)
    for piece in parts(layout, assumption):
        people = include & piece.members[0]
        slopes, covariance, warnings, good = _regression(outcome, piece, people)
        present = people.any(-1)
        coefficients.append(slopes)
        covariances.append(covariance)
        doubts |= warnings
        sound &= good | ~present
    keep = sound[:, None, None]
    coefficients = [np.where(keep, one, 0.0)[None] for one in coefficients]
    covariances = [np.where(keep, one, np.eye(visits))[None] for one in covariances]
    return normal_of(coefficients, covariances, layout.arms), doubts, sound


def _regression(outcome: np.ndarray, piece: Part, people: np.ndarray) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Coefficients (R, q, visits), covariance (R, visits, visits) of outcome on visit x design, doubts, success."""
    n, visits = outcome.shape
    columns = piece.design.shape[-1]
    design = np.einsum("vw,nq->nvwq", np.eye(visits), piece.design[0]).reshape(n, visits, visits * columns)
    fit = fit_reml(outcome, design, Covariance(fallback=(), degrees=False), include=people)
    slopes = np.swapaxes(fit.coefficients.reshape(-1, visits, columns), -1, -2)
    covariance = fit.visit_covariance[:, 0]
    seen = np.isfinite(outcome) & people[:, :, None]
    arms_seen = _every_column_seen(piece, seen)
    good = fit.converged & arms_seen & np.isfinite(slopes).all((-1, -2)) & np.isfinite(covariance).all((-1, -2))
    unit = np.where(good[:, None, None], covariance, np.eye(visits))
    scale = np.sqrt(np.einsum("rvv->rv", unit))
    least = np.linalg.eigvalsh(unit / (scale[:, :, None] * scale[:, None, :]))[:, 0]
    good = good & (least > DEGENERATE)
    kept = int(Caution.NOT_CONVERGED | Caution.AT_BOUNDARY | Caution.SINGULAR)
    return slopes, covariance, int(fit.warnings[0]) & kept, good


def _every_column_seen(piece: Part, seen: np.ndarray) -> np.ndarray:
    """Whether, in every set of people, each arm (and covariate) that has people has one seen at every visit."""
    used = (piece.design[0] != 0).astype(float)
    times = np.einsum("rnv,nq->rvq", seen.astype(float), used)
    return ((times > 0).all(1) | (times == 0).all(1)).all(-1) & (times > 0).any((-1, -2))

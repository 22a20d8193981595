"""Multiple imputation of outcomes over visits, at random or by reference: data sets without holes, ready to analyse.

Parameters come from their posterior distribution (`gibbs`), unseen values from the normal distribution that the
assumption makes of them (`reference_based`), so that the imputations are proper in Rubin's sense.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, flag
from quell.analysis.follow_up import FollowUp, Layout, laid_out, normal_of, parts
from quell.analysis.gibbs import BURN_IN, chains, draw, random_numbers, regression
from quell.analysis.means import ancova
from quell.analysis.pooling import Pooled, pool
from quell.analysis.reference_based import AT_RANDOM, Assumption, Normal, completed

# Trials are imputed in blocks of about this many numbers at a time, to bound the memory.
BLOCK = 400_000


class Imputed(NamedTuple):
    """Completed data: outcome (..., m, n, visits), and who they are; unseen (..., n, visits) what was filled in.

    Where the data do not determine the imputation model, what was filled in is NaN and `warnings` (...) say why.
    """

    outcome: np.ndarray
    arm: np.ndarray
    covariates: np.ndarray
    include: np.ndarray
    unseen: np.ndarray
    warnings: np.ndarray


def impute(
    data: FollowUp,
    assumption: Assumption = AT_RANDOM,
    *,
    imputations: int = 20,
    burn_in: int = BURN_IN,
    key: Any,
) -> Imputed:
    """Proper imputations of every unseen value under the assumption, by data augmentation (see `gibbs`).

    Values seen after the event inform neither the model (under a rule other than MAR) nor are they changed. The same
    key gives the same numbers; in a batch, trial k has the key at (key, "trial", k), or its own from an array of keys
    shaped like the batch. Any analysis of `outcome` can be pooled by `pooling.pool`. Raises ClaimError where shapes do
    not match or a word is not known.

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.5], [2, 2]])
    >>> made = impute(FollowUp(seen, np.arange(8) % 2), imputations=3, burn_in=20, key=1)
    >>> made.outcome.shape, bool(np.isnan(made.outcome).any()), int(made.unseen.sum())
    ((3, 8, 2), False, 1)
    """
    assumption = assumption.checked()
    if imputations < 1 or burn_in < 1:
        raise ClaimError(f"There are {imputations} imputations after {burn_in} steps each; both are at least 1.")
    layout = laid_out(data, (assumption.reference, 1))
    trials, n, visits = layout.subjects.outcome.shape
    words = _words(key, layout.batch)
    step = max(BLOCK // max(imputations * n * visits, 1), 1)
    outcome = np.empty((trials, imputations, n, visits))
    warnings = layout.warnings.copy()
    delta = layout.delta(assumption)
    for start in range(0, trials, step):
        block = slice(start, start + step)
        here = assumption._replace(delta=delta[block])
        outcome[block], doubts = _block(layout.cut(block), here, words[block], imputations, burn_in)
        warnings[block] |= doubts
    subjects = layout.subjects
    unseen = np.isnan(subjects.outcome) & subjects.kept[..., None]
    fields = (outcome, subjects.arm, layout.covariates, subjects.kept, unseen)
    warnings = warnings | flag(unseen.any((-1, -2)), Caution.ASSUMED_UNSEEN)
    return Imputed(*(field.reshape((*layout.batch, *field.shape[1:])) for field in (*fields, warnings)))


def multiple_imputation(
    data: FollowUp,
    assumption: Assumption = AT_RANDOM,
    *,
    contrast: tuple[int, int] = (1, 0),
    visit: int = -1,
    level: float = 0.95,
    imputations: int = 20,
    burn_in: int = BURN_IN,
    key: Any,
) -> Pooled:
    """Difference at a visit, active minus control: multiple imputation, ANCOVA of each data set, Rubin's rules.

    Outcome ~ arm + covariates at `visit` in each of the imputed data sets, pooled with Barnard and Rubin's degrees of
    freedom. Rubin's variance is information-anchored under J2R, CR and CIR: larger than the sampling variance (see
    `missing.conditional_mean`). A caution says when the random error of imputing exceeds a tenth of the standard error.
    Where nothing is unseen at the visit, the result is `means.ancova`. Arguments, and what is raised, as in `impute`.

    >>> seen = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, 3.2], [2, 3], [1, 0.5], [2, 2]])
    >>> result = multiple_imputation(FollowUp(seen, np.arange(8) % 2), imputations=3, burn_in=20, key=1)
    >>> round(float(result.pooled.estimate), 4), int(result.pooled.df)
    (0.15, 6)
    """
    made = impute(data, assumption, imputations=imputations, burn_in=burn_in, key=key)
    return pooled_difference(made, contrast=contrast, visit=visit, level=level)


def pooled_difference(
    made: Imputed, *, contrast: tuple[int, int] = (1, 0), visit: int = -1, level: float = 0.95
) -> Pooled:
    """ANCOVA at a visit of each imputed data set, pooled; as `multiple_imputation`, for data imputed already."""
    values = made.outcome[..., check_visit(visit, made.outcome.shape[-1])]
    several = analysed(made, values, contrast, level)
    result = pool(several)
    whole = np.asarray(~made.unseen[..., visit].any(-1))
    return result._replace(pooled=_whole_or(whole, several, result.pooled, made.warnings))


def analysed(made: Imputed, values: np.ndarray, contrast: tuple[int, int], level: float) -> Estimate:
    """ANCOVA of values (..., m, n) at one visit; no estimate where the imputation failed and left them unseen."""
    result = ancova(
        values,
        made.arm[..., None, :],
        contrast=contrast,
        covariates=made.covariates[..., None, :, :],
        include=made.include[..., None, :],
        level=level,
    )
    failed = (made.warnings & int(Caution.NOT_ESTIMABLE)) > 0
    lost = failed[..., None] & (np.isnan(values) & made.include[..., None, :]).any(-1)
    return result._replace(estimate=np.where(lost, np.nan, result.estimate))


def check_visit(visit: int, visits: int) -> int:
    """The index itself, or ClaimError where there is no such visit."""
    if not -visits <= visit < visits:
        raise ClaimError(f"Visit {visit} is asked for, but there are {visits}: 0 is the first and -1 the last.")
    return visit


def _whole_or(whole: np.ndarray, several: Estimate, pooled: Estimate, warnings: np.ndarray) -> Estimate:
    """Where nothing was unseen, the analysis as it is: no imputation, so no assumption and no rule for its df."""
    first = several.row((..., 0))
    fields: dict[str, Any] = {
        name: np.where(whole, getattr(first, name), getattr(pooled, name)) for name in Estimate._fields[:-1]
    }
    fields["warnings"] = np.where(
        whole,
        first.warnings | (warnings & int(Caution.MISSING)),
        pooled.warnings | warnings | flag(np.ones_like(whole), Caution.ASSUMED_UNSEEN),
    )
    return pooled._replace(**fields)


def _block(
    layout: Layout, assumption: Assumption, words: np.ndarray, imputations: int, burn_in: int
) -> tuple[np.ndarray, np.ndarray]:
    """Completed outcomes (trials, m, n, visits) and the doubts of one block of trials."""
    outcome = layout.modelled(assumption)
    drawn, sound, aliased = [], np.ones(len(words), bool), np.zeros(len(words), bool)
    pieces = parts(layout, assumption)
    for number, piece in enumerate(pieces):
        made = regression(outcome, piece.design, piece.members)
        own = chains(words, imputations, f"arm {number}" if len(pieces) > 1 else "arms")
        drawn.append(draw(made, own, burn_in))
        present = piece.members.any(-1)
        sound, aliased = sound & (made.sound | ~present), aliased | made.aliased
    normal = normal_of([one.coefficients for one in drawn], [one.covariance for one in drawn], layout.arms)
    normal, whole = _steady(normal, sound)
    size = outcome.shape[1] * outcome.shape[2]
    noise = random_numbers(chains(words, imputations, "values"), 0, size, 0)[0]
    filled = completed(layout.subjects, normal, assumption, noise.reshape(*noise.shape[:2], *outcome.shape[1:]))
    unseen = np.isnan(layout.subjects.outcome) & layout.subjects.kept[..., None]
    filled = np.where(unseen[:, None] & ~whole[:, None, None, None], np.nan, filled)
    lost = ~whole & unseen.any((-1, -2))
    return filled, flag(lost, Caution.NOT_ESTIMABLE) | flag(aliased, Caution.SINGULAR)


def _steady(normal: Normal, sound: np.ndarray) -> tuple[Normal, np.ndarray]:
    """Unit covariances where a trial's cannot be trusted, so that it spoils no other; and which trials are whole."""
    finite = np.isfinite(normal.covariance).all((1, 2, 3, 4)) & np.isfinite(normal.coefficients).all((1, 2, 3, 4))
    whole = sound & finite
    keep = whole[:, None, None, None, None]
    unit = np.eye(normal.covariance.shape[-1])
    return Normal(np.where(keep, normal.coefficients, 0.0), np.where(keep, normal.covariance, unit)), whole


def _words(key: Any, batch: tuple[int, ...]) -> np.ndarray:
    """The words (trials, 2) of every trial's key."""
    from quell import keys

    if not batch:
        return np.asarray(keys.data(key)).reshape(1, 2)
    words = np.asarray(keys.data(key))
    if words.shape == (*batch, 2):
        return words.reshape(-1, 2)
    return np.asarray(keys.numbered(key, "trial", range(int(np.prod(batch))))).reshape(-1, 2)

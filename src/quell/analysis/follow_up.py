"""Outcomes of subjects over visits, with the covariates and arm that explain them and the event that interrupts them.

`FollowUp` is what a user has; `laid_out` makes one layout of it for imputation: trials on one axis, covariates
standardised, and, per subject, the first visit after which a value is no longer taken to be missing at random.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.codes import whole
from quell.analysis.reference_based import Assumption, Normal, Subjects
from quell.analysis.strategies import first_visit_affected

# A covariate that spreads by less than this share of its size is constant.
ROUNDING = 1e-12


class FollowUp(NamedTuple):
    """A trial's outcome over the visits, for any batch of trials.

    outcome (..., n, visits), NaN unseen; arm (..., n) whole codes, negative is no arm; covariates (..., n, p) known
    before treatment; `affected` (..., n) the first visit after an intercurrent event (0 the first; NaN never), or None:
    then the first visit after the last value seen; include (..., n) true where the subject belongs to the analysis.
    """

    outcome: np.ndarray
    arm: np.ndarray
    covariates: np.ndarray | None = None
    affected: np.ndarray | None = None
    include: np.ndarray | None = None


class Layout(NamedTuple):
    """Trials on one axis: the subjects, how they came (batch), their covariates as given, and the doubts so far."""

    subjects: Subjects
    batch: tuple[int, ...]
    covariates: np.ndarray
    arms: int
    warnings: np.ndarray

    def cut(self, block: slice) -> Layout:
        """Some of the trials."""
        subjects = Subjects(*(field[block] for field in self.subjects))
        return self._replace(subjects=subjects, covariates=self.covariates[block], warnings=self.warnings[block])

    def delta(self, assumption: Assumption) -> np.ndarray:
        """The shift of imputed values, (trials, n, visits); ClaimError where its shape does not fit."""
        size = self.subjects.outcome.shape[1:]
        try:
            return np.broadcast_to(assumption.delta, (*self.batch, *size)).reshape(-1, *size)
        except ValueError:
            raise ClaimError(
                f"The delta has shape {np.shape(assumption.delta)}, not that of the outcome {(*self.batch, *size)}; "
                "for one arm only give np.where(arm == 1, delta, 0.0)[..., None]."
            ) from None

    def modelled(self, assumption: Assumption) -> np.ndarray:
        """Outcomes that inform the imputation model: under a rule other than MAR, none after the event (as rbmi)."""
        if assumption.rule == "MAR":
            return self.subjects.outcome
        other = self.subjects.arm != assumption.reference
        return np.where(self.subjects.after & other[..., None], np.nan, self.subjects.outcome)


class Part(NamedTuple):
    """One regression of the imputation model: its design (trials, n, q), and who is in it (trials, n)."""

    design: np.ndarray
    members: np.ndarray


def laid_out(data: FollowUp, arms: tuple[int, ...]) -> Layout:
    """One layout for all. `arms` are the codes the analysis names, so that they exist even where nobody has them.

    Subjects with an unknown covariate are left out (a caution says so); subjects without any value are kept. Raises
    ClaimError where shapes do not match.

    >>> data = FollowUp(np.array([[1.0, np.nan], [2.0, 3.0]]), np.array([0, 1]))
    >>> laid_out(data, (1, 0)).subjects.affected.tolist()
    [[1, 2]]
    """
    outcome = np.asarray(data.outcome, float)
    outcome = np.where(np.isfinite(outcome), outcome, np.nan)
    affected = _first_unseen(outcome) if data.affected is None else first_visit_affected(outcome, data.affected)
    first_visit_affected(outcome, None)
    outcome, arm, covariates, affected, include = _together(data, outcome, affected)
    batch, size = outcome.shape[:-2], outcome.shape[-2:]
    trials = int(np.prod(batch))
    outcome, covariates = outcome.reshape(trials, *size), covariates.reshape(trials, size[0], covariates.shape[-1])
    arm, affected, include = (values.reshape(trials, size[0]) for values in (arm, affected, include))
    asked = include & (arm >= 0)
    kept = asked & np.isfinite(covariates).all(-1)
    design = np.concatenate([kept[..., None].astype(float), _standardised(covariates, kept)], -1)
    count = max(int(np.max(arm, initial=0)), *arms) + 1
    subjects = Subjects(outcome, np.where(kept, arm, -1), affected, design, kept)
    return Layout(subjects, batch, covariates, count, flag((asked & ~kept).any(-1), Caution.MISSING))


def parts(layout: Layout, assumption: Assumption) -> list[Part]:
    """The regressions that make up the imputation model: one with arms as columns, or one for each arm.

    Every column is free to act differently at every visit (arm x visit, covariate x visit).
    """
    subjects = layout.subjects
    codes = range(layout.arms)
    if assumption.covariance == "by arm":
        return [Part(subjects.design, subjects.kept & (subjects.arm == code)) for code in codes]
    indicators = np.stack([subjects.arm == code for code in codes], -1).astype(float)
    return [Part(np.concatenate([indicators, subjects.design[..., 1:]], -1), subjects.kept)]


def normal_of(coefficients: list[np.ndarray], covariances: list[np.ndarray], arms: int) -> Normal:
    """The arms' distributions from the regressions of `parts`: coefficients (trials, draws, q, visits) of each."""
    if len(coefficients) == arms and arms > 1:
        return Normal(np.stack(coefficients, 2), np.stack(covariances, 2))
    slopes = coefficients[0][:, :, arms:]
    each = [np.concatenate([coefficients[0][:, :, code : code + 1], slopes], 2) for code in range(arms)]
    return Normal(np.stack(each, 2), np.repeat(covariances[0][:, :, None], arms, 2))


def _first_unseen(outcome: np.ndarray) -> np.ndarray:
    """The first visit after the last value seen."""
    return np.where(np.isfinite(outcome), np.arange(1, outcome.shape[-1] + 1), 0).max(-1, initial=0)


def _together(data: FollowUp, outcome: np.ndarray, affected: np.ndarray) -> tuple[np.ndarray, ...]:
    people = outcome.shape[:-1]
    covariates = np.zeros((*people, 0)) if data.covariates is None else np.asarray(data.covariates, float)
    if covariates.ndim < 2 or covariates.shape[-2] != people[-1]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but there are subjects {people}; give (..., n, p): "
            "one row per subject and one column per covariate, also where there is only one."
        )
    arm = whole(data.arm, "Arms")
    include = np.ones(people, bool) if data.include is None else np.asarray(data.include, bool)
    try:
        batch = np.broadcast_shapes(people, arm.shape, include.shape, affected.shape, covariates.shape[:-1])
        arm, include, affected = (np.broadcast_to(values, batch) for values in (arm, include, affected))
        return (
            np.broadcast_to(outcome, (*batch, outcome.shape[-1])),
            arm,
            np.broadcast_to(covariates, (*batch, covariates.shape[-1])),
            affected,
            include,
        )
    except ValueError:
        raise ClaimError(
            f"There are subjects {people}, but arm, include and covariates are {arm.shape}, {include.shape} and "
            f"{covariates.shape}, which do not fit together; each needs the same trials and subjects."
        ) from None


def _standardised(covariates: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Covariates less their mean over their standard deviation among the kept; zero elsewhere and where constant."""
    weight = kept[..., None]
    size = np.maximum(kept.sum(-1), 1)[..., None, None]
    values = np.where(weight, covariates, 0.0)
    largest = np.abs(values).max(-2, keepdims=True, initial=0.0)
    for _ in range(2):
        values = np.where(weight, values - values.sum(-2, keepdims=True) / size, 0.0)
    spread = np.sqrt(np.sum(values**2, -2, keepdims=True) / size)
    still = spread <= ROUNDING * largest
    return np.where(still, 0.0, values / np.where(still, 1.0, spread))

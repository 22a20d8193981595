"""Repeated measures: the mixed model for repeated measures (MMRM), its means by visit, contrasts and tests.

    y_iv = mean(arm_i, visit v, covariates_i) + e_iv,    (e_i1, ..., e_iT) ~ N(0, V),

V free (unstructured) or simpler, fitted by REML to every visit observed (Mallinckrodt et al. 2008,
doi:10.1177/009286150804200402). People who miss visits stay in with those they have; that is right where what is missing
depends only on what was seen (missing at random). `reml.fit_reml` is the same engine for any design.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, flag, stack, without_a_size
from quell.analysis.codes import two_arms, whole
from quell.analysis.degrees_of_freedom import FTest, Inference, Method, check_method, estimate, f_test, inference
from quell.analysis.reml import Covariance, Fit, fit_in_parts, options_of
from quell.analysis.sandwich import POWERS, sandwich
from quell.analysis.visit_design import (
    Columns,
    People,
    Terms,
    columns_of,
    model_of,
    people_of,
    shift_of,
    weights_of,
)

__all__ = ["Covariance", "RepeatedMeasures", "Terms", "mmrm"]
Weights = Literal["equal", "observed"]


@dataclass(frozen=True)
class RepeatedMeasures:
    """A fitted MMRM for each trial of a batch (...). Arms are named by their codes, visits by position 0, 1, 2, ..."""

    judged: Inference
    columns: Columns
    people: People
    batch: tuple[int, ...]
    level: float

    def contrast(
        self, visit: int | None = None, contrast: tuple[int, int] = (1, 0), *, weights: Weights = "equal"
    ) -> Estimate:
        """Adjusted difference in means, active minus control, at a visit, or (None) averaged over the visits equally."""
        active, control = two_arms(contrast)
        if not {active, control} <= set(self.columns.arms):
            return self._without_an_arm()
        return self._row(self._mean_row(active, visit, weights) - self._mean_row(control, visit, weights), contrast)

    def mean(self, arm: int, visit: int | None = None, *, weights: Weights = "equal") -> Estimate:
        """Adjusted (least-squares) mean of an arm at a visit, or (None) averaged over the visits equally.

        Covariates stand at their mean over the observations; factor levels weigh the same ("equal", as SAS LSMEANS and R
        emmeans do) or as observed.
        """
        return self._row(self._mean_row(arm, visit, weights), (arm,))

    def linear(self, weights: np.ndarray) -> Estimate:
        """Any weighted sum of the coefficients, weights (..., q) in the order of `names`."""
        return self._row(self._centred(weights), ())

    def test(self, what: str | np.ndarray) -> FTest:
        """An F test (type III): of "arm", "visit", "arm by visit", "arm at any visit", "factor 0", "covariate 0", or rows.

        "arm" and "visit" compare means averaged equally over the other; "arm by visit" asks whether the difference
        between arms changes; "arm at any visit" whether there is one at all. Rows are weights (..., r, q) of `names`;
        by Satterthwaite's method the degrees of freedom of several rows depend a little on how they are written (here,
        as in R, differences from the first arm and visit), by Kenward and Roger's they do not.
        """
        rows = self._named_rows(what) if isinstance(what, str) else self._centred(what)
        return f_test(self.judged, rows)

    @property
    def names(self) -> tuple[str, ...]:
        """What each coefficient belongs to."""
        return tuple(column.name for column in self.columns.columns)

    @property
    def table(self) -> Estimate:
        """Every coefficient, on a last axis in the order of `names`."""
        return stack([self.linear(row) for row in np.eye(len(self.names))])

    @property
    def coefficients(self) -> np.ndarray:
        """The coefficients (..., q); NaN where the data do not determine one."""
        return self.table.estimate

    @property
    def se(self) -> np.ndarray:
        """Their standard errors."""
        return self.table.se

    @property
    def df(self) -> np.ndarray:
        """Their degrees of freedom."""
        return self.table.df

    @property
    def fit(self) -> Fit:
        """The fit underneath; its coefficients belong to centred covariates."""
        return self.judged.fit

    @property
    def covariance(self) -> np.ndarray:
        """Covariance matrix of the visits: (..., visits, visits), or (..., arms, visits, visits) where each arm has one."""
        whole = self.fit.visit_covariance
        return whole if whole.shape[-3] > 1 else whole[..., 0, :, :]

    @property
    def log_likelihood(self) -> np.ndarray:
        """The (restricted) log-likelihood."""
        return self.fit.log_likelihood

    @property
    def aic(self) -> np.ndarray:
        """Akaike's criterion (`Fit.aic`)."""
        return self.fit.aic

    @property
    def bic(self) -> np.ndarray:
        """Schwarz's criterion (`Fit.bic`)."""
        return self.fit.bic

    @property
    def structure(self) -> np.ndarray:
        """The name of the covariance structure used in each trial."""
        return self.fit.structure_used

    @property
    def warnings(self) -> np.ndarray:
        """Cautions of the fit."""
        return self.fit.warnings

    def _without_an_arm(self) -> Estimate:
        """What can be said where no trial of the batch has anybody in one of the arms."""
        none, doubts = np.full(self.batch, np.nan), int(Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
        n = np.asarray(self.people.kept.sum(-1)).reshape(self.batch)
        return without_a_size(none, none, none, n, self.warnings | doubts, self.level)

    def _row(self, rows: np.ndarray, arms: tuple[int, ...]) -> Estimate:
        result = estimate(self.judged, rows, self.level)
        empty = np.zeros(self.batch, bool)
        for code in arms:
            here = (self.people.kept & (self.people.arm == code)).any(-1)
            empty = empty | ~here.reshape(self.batch)
        return result._replace(warnings=result.warnings | flag(empty, Caution.EMPTY_ARM))

    def _centred(self, rows: np.ndarray) -> np.ndarray:
        """Weights of the coefficients as given, as weights of those of centred covariates."""
        rows, q = np.asarray(rows, float), len(self.names)
        if rows.shape[-1:] != (q,):
            raise ClaimError(
                f"The weights have shape {rows.shape}; there are {q} coefficients: {', '.join(self.names)}."
            )
        shift = np.broadcast_to(shift_of(self.people, self.columns), (len(self.people.kept), q, q))
        shift = shift.reshape((*self.batch, q, q))
        return (rows[..., None, :] @ shift)[..., 0, :] if rows.ndim <= len(self.batch) + 1 else rows @ shift

    def _mean_row(self, arm: int | None, visit: int | None, weights: str = "equal") -> np.ndarray:
        if arm is not None and arm not in self.columns.arms:
            raise ClaimError(f"No one in the analysis has arm {arm}; the arms are {list(self.columns.arms)}.")
        if visit is not None and visit not in range(self.columns.visits):
            raise ClaimError(f"There is no visit {visit}; they are numbered 0 to {self.columns.visits - 1}.")
        if weights not in ("equal", "observed"):
            raise ClaimError(f"The weights are '{weights}'; choose 'equal' or 'observed'.")
        rows = weights_of(self.people, self.columns, arm, visit, weights)
        return rows.reshape((*self.batch, rows.shape[-1]))

    def _named_rows(self, what: str) -> np.ndarray:
        first, *other_arms = self.columns.arms
        later = range(1, self.columns.visits)
        difference = {
            (arm, visit): self._mean_row(arm, visit) - self._mean_row(first, visit)
            for arm in other_arms
            for visit in (None, *range(self.columns.visits))
        }
        rows: list[np.ndarray] = []
        if what == "arm":
            rows = [difference[arm, None] for arm in other_arms]
        elif what == "arm at any visit" and self.columns.terms.arm_by_visit:
            rows = [difference[arm, visit] for arm in other_arms for visit in range(self.columns.visits)]
        elif what == "arm by visit" and self.columns.terms.arm_by_visit:
            rows = [difference[arm, visit] - difference[arm, 0] for arm in other_arms for visit in later]
        elif what == "visit" and self.columns.terms.visit:
            rows = [self._mean_row(None, visit) - self._mean_row(None, 0) for visit in later]
        elif what.split(" ")[0] in ("factor", "covariate"):
            rows = self._effect_rows(what)
        if not rows:
            tests = "arm, visit, arm by visit, arm at any visit, factor 0, covariate 0"
            raise ClaimError(
                f"There is no '{what}' to test in this model; where the model has them, there are: {tests}."
            )
        return np.stack(rows, -2)

    def _effect_rows(self, what: str) -> list[np.ndarray]:
        """One row for each column of a factor or covariate, averaged over the visits where it meets them."""
        rows = []
        columns = self.columns.columns
        for column in columns:
            if column.visit is None and f"{column.kind} {column.position}" == what:
                row = [
                    (one.source == column.source) / (1 if one.visit is None else self.columns.visits) for one in columns
                ]
                rows.append(np.broadcast_to(np.array(row, float), (*self.batch, len(row))))
        return rows


def mmrm(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    terms: Terms = Terms(),  # noqa: B008
    structure: str | Covariance = "unstructured",
    method: Method = "satterthwaite",
    level: float = 0.95,
) -> RepeatedMeasures:
    """The mixed model for repeated measures: outcome ~ factors + covariates + arm x visit, V unstructured, by REML.

    `terms` says which effects there are, `structure` which covariance the visits have (a name, or `Covariance` for ML,
    one matrix per arm, or other fallbacks), `method` where errors and degrees of freedom come from:

        satterthwaite                      model-based errors; R mmrm's default, SAS ddfm=satterthwaite
        kenward-roger-linear               Kenward-Roger without second derivatives (mmrm "Kenward-Roger-Linear")
        kenward-roger                      with those of mmrm's parameters (mmrm "Kenward-Roger")
        kenward-roger-sas                  with those of SAS's parameters (SAS ddfm=kr)
        empirical, -jackknife, -bias-reduced   robust errors CR0, CR3, CR2, their own Satterthwaite df
        between-within, residual, normal   model-based errors

    outcome (..., n, visits), NaN where missed; arm (..., n) whole codes, a negative code is no arm; covariates (..., n, p)
    and factors (each (..., n), whole codes) of the person; include (..., n). Someone with no visit or a missing covariate
    is left out and the estimates say so. Raises ClaimError where shapes do not match or names are unknown.

    >>> y = np.array([[1.0, 2.0], [2.0, 2.5], [3.0, 5.0], [2.0, np.nan], [4.0, 4.5], [3.0, 4.8], [5.0, 7.0], [3.5, 5.0]])
    >>> fit = mmrm(y, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    >>> last = fit.contrast(1, (1, 0))
    >>> round(float(last.estimate), 4), round(float(last.se), 4), round(float(last.df), 3)
    (2.1583, 0.9083, 6.263)
    """
    options = options_of(structure)
    check_method(method, options.likelihood)
    outcome = np.asarray(outcome, float)
    if outcome.ndim < 2:
        raise ClaimError(f"The outcome has shape {outcome.shape}; repeated measures need (..., people, visits).")
    arrays, kept_include, batch = _arrays(outcome, arm, covariates, factors, include)
    people, arms, levels = people_of(*arrays, kept_include)
    if not arms:
        arms = [0]
    columns = columns_of(arms, [codes or [0] for codes in levels], people.spread.shape[-1], outcome.shape[-1], terms)
    n, q = outcome.shape[-2], len(columns.columns)
    size = (columns.sources + columns.visits, columns.visits, q, len(arms) if options.by_arm else 1)
    if len(people.outcome) == 1:
        n, prepare = 0, model_of(people, columns, options.by_arm, slice(None)).prepared().part
    else:
        prepare = functools.partial(model_of, people, columns, options.by_arm)
    fit = fit_in_parts(prepare, batch, n, size, options)
    return RepeatedMeasures(_judged(fit, method, people, columns, options), columns, people, batch, level)


def _arrays(
    outcome: np.ndarray,
    arm: np.ndarray,
    covariates: np.ndarray | None,
    factors: Sequence[np.ndarray],
    include: np.ndarray | None,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]], np.ndarray, tuple[int, ...]]:
    """Everything in one layout (B or 1, n, ...), include (B, n); and the batch."""
    n, visits = outcome.shape[-2:]
    codes = [whole(values) for values in (arm, *factors)]
    covariates = np.zeros((n, 0)) if covariates is None else np.asarray(covariates, float)
    include = np.ones(n, bool) if include is None else np.asarray(include, bool)
    shaped = [("arm", codes[0]), *((f"factor {k}", one) for k, one in enumerate(codes[1:])), ("include", include)]
    for name, values in shaped:
        if values.shape[-1:] != (n,):
            raise ClaimError(f"'{name}' has shape {values.shape}; its last axis must be the {n} people of the outcome.")
    if covariates.ndim < 2 or covariates.shape[-2] != n:
        raise ClaimError(f"The covariates have shape {covariates.shape}; they need (..., {n} people, covariates).")
    data = np.broadcast_shapes(outcome.shape[:-2], covariates.shape[:-2], *(one.shape[:-1] for one in codes))
    batch = np.broadcast_shapes(data, include.shape[:-1])
    if int(np.prod(data)) != 1:
        data = batch
    size = int(np.prod(data))
    outcome = np.broadcast_to(outcome, (*data, n, visits)).reshape(size, n, visits)
    covariates = np.broadcast_to(covariates, (*data, n, covariates.shape[-1])).reshape(size, n, covariates.shape[-1])
    first, *others = (np.broadcast_to(one, (*data, n)).reshape(size, n) for one in codes)
    include = np.broadcast_to(include, (*batch, n)).reshape(int(np.prod(batch)), n)
    return (outcome, first, covariates, others), include, batch


def _judged(fit: Fit, method: str, people: People, columns: Columns, options: Covariance) -> Inference:
    if method not in POWERS:
        return inference(fit, method, np.array([column.visit is not None for column in columns.columns]))
    batch = fit.n.shape
    layout = columns.layout()[:, :-1]
    with_zero = np.concatenate([people.numbers, np.zeros((*people.numbers.shape[:-1], 1))], -1)
    design = with_zero[..., layout]
    outcome = np.where(people.kept[..., None], people.outcome, np.nan)
    group = np.searchsorted(columns.arms, people.arm) if options.by_arm else np.zeros(people.arm.shape, int)

    def each_trial(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (len(people.kept), *values.shape[1:])).reshape((*batch, *values.shape[1:]))

    robust = sandwich(each_trial(outcome), each_trial(design), fit, each_trial(group), method)
    return Inference(fit, method, robust.covariance, None, robust)

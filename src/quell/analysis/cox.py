"""Proportional hazards: Cox's partial likelihood, Firth's penalised one, and a hazard ratio that knows when none exists.

`cox` and `firth` fit subjects with covariates, `fit` does so for whatever `Spells` can say (late entry, covariates that
change, weights, offset, robust errors by cluster), `hazard_ratio` compares two arms by their counts. The likelihoods
themselves are in `cox_likelihood` and `arm_likelihood`, residuals and robust errors in `cox_robust`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis import cox_likelihood
from quell.analysis.arm_likelihood import ArmTerms, arm_terms
from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    two_sided,
)
from quell.analysis.codes import two_arms
from quell.analysis.cox_likelihood import Prepared, Spells, flattened, prepared
from quell.analysis.cox_robust import Clustered, clustered, whole_codes
from quell.analysis.partial_likelihood import Hill, Ties, Value, climb, independent, inverse, profile
from quell.analysis.risksets import risk_sets

__all__ = ["CoxFit", "Spells", "cox", "firth", "fit", "hazard_ratio"]

Method = Literal["auto", "cox", "firth"]
Interval = Literal["profile", "wald"]

FIELDS = Estimate._fields[:-1]
# Trials are fitted in groups whose arrays fit a core's cache; most converge in fewer steps than the first round allows.
VALUES_AT_ONCE = 32_768
FIRST_STEPS = 6
# A coefficient whose information falls below this share of that at zero has left everything it could tell behind.
VANISHED = 1e-10


class CoxFit(NamedTuple):
    """A proportional-hazards fit for each trial of a batch: coefficients are log hazard ratios, (..., p).

    `log_likelihood` (..., 2) is at zero and at the estimate (penalised for Firth); score, wald and likelihood_ratio are
    chi-square statistics on df. With clusters, `covariance` is the robust one, from which come se, limits, p and wald,
    and `robust_score` is the robust score test (NaN otherwise); `naive` is the inverse information. For Firth, limits and
    p come from the profile penalised likelihood, unless Wald's are asked for.
    """

    coefficients: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    statistic: np.ndarray
    p: np.ndarray
    covariance: np.ndarray
    naive: np.ndarray
    log_likelihood: np.ndarray
    score: np.ndarray
    robust_score: np.ndarray
    wald: np.ndarray
    likelihood_ratio: np.ndarray
    df: np.ndarray
    n: np.ndarray
    events: np.ndarray
    warnings: np.ndarray
    level: float
    ties: Ties = "efron"

    def ratio(self, index: int = 0) -> Estimate:
        """The hazard ratio of one covariate, as an estimate; se is that of the log ratio."""
        return exponentiate(self.log_ratio(index))

    def log_ratio(self, index: int = 0) -> Estimate:
        """The log hazard ratio of one covariate, as an estimate."""
        parts = (self.coefficients, self.se, self.lower, self.upper, self.statistic)
        log, se, lower, upper, statistic = (field[..., index] for field in parts)
        df = np.full(np.shape(se), np.inf)
        return Estimate(log, se, lower, upper, statistic, df, self.p[..., index], self.n, self.warnings, self.level)


ARRAYS = CoxFit._fields[:-2]


class Found(NamedTuple):
    """Where the climb of each flattened trial ended: coefficients (B, p), start and end, and what the data determine."""

    b: np.ndarray
    plain: Value
    start: Value
    value: Value
    free: np.ndarray
    converged: np.ndarray


def cox(
    time: np.ndarray,
    event: np.ndarray,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    cluster: np.ndarray | None = None,
    level: float = 0.95,
) -> CoxFit:
    """Cox regression by maximum partial likelihood (Cox 1972), as R's coxph: Wald intervals and tests.

    time, event, include, entry and strata as in `risk_sets`; covariates (..., n, p); cluster as in `fit`. Where the
    likelihood has no maximum the estimate is where the climb stopped, with a caution. Raises ClaimError where shapes do
    not match.

    >>> fit = cox(np.array([2.0, 3.0, 5.0, 7.0, 8.0]), np.array([1, 1, 1, 0, 1]), np.array([[1.0], [0], [1], [0], [0]]))
    >>> round(float(fit.coefficients[0]), 4)
    1.4388
    """
    spells = Spells(time, event, covariates, entry, strata, include)
    return fit(spells, ties=ties, cluster=cluster, level=level)


def fit(spells: Spells, *, ties: Ties = "efron", cluster: np.ndarray | None = None, level: float = 0.95) -> CoxFit:
    """Cox regression of rows (start, stop] with weights, offset and strata; robust errors where `cluster` is given.

    cluster (..., n) holds a whole code for each row: rows of one code are one person, and the covariance is D'D, D the sums
    of (weighted) dfbeta residuals by person (Lin and Wei 1989, doi:10.1080/01621459.1989.10478874), as R's
    coxph(cluster=). A code of its own for every row is coxph(robust=TRUE). Raises ClaimError where shapes do not match, a
    weight is negative, or `ties` is neither 'efron' nor 'breslow'.

    >>> rows = Spells(np.array([2.0, 4.0, 3.0, 5.0, 7.0]), np.array([1, 1, 1, 0, 1]), np.array([[1.0], [1], [0], [0], [0]]),
    ...                 entry=np.array([0.0, 2.0, 0.0, 0.0, 0.0]))
    >>> robust = fit(rows, cluster=np.array([0, 0, 1, 2, 3]))
    >>> float(robust.coefficients[0].round(4)), float(robust.se[0].round(4))
    (1.663, 0.9107)
    """
    flat, batch = flattened(spells)
    codes = None if cluster is None else whole_codes(cluster, (*batch, flat.time.shape[-1]))
    return _in_groups(flat, batch, lambda rows, steps, start: _plain(flat, codes, rows, ties, level, steps, start))


def firth(
    time: np.ndarray,
    event: np.ndarray,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    include: np.ndarray | None = None,
    entry: np.ndarray | None = None,
    interval: Interval = "profile",
    level: float = 0.95,
) -> CoxFit:
    """Cox regression by Firth's penalised likelihood, finite even where one arm has no event.

    Penalty: log det(information) / 2 (Firth 1993; Heinze and Schemper 2001, doi:10.1111/j.0006-341X.2001.00114.x), with
    profile-penalised-likelihood limits and tests, as R's coxphf (which breaks ties by Breslow); `interval` "wald" is its
    pl = FALSE. Arguments, and what is raised, are as in `cox`.

    >>> fit = firth(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1]), np.array([[1.0], [1.0], [0.0]]))
    >>> round(float(fit.coefficients[0]), 4)
    1.3291
    """
    if interval not in ("profile", "wald"):
        raise ClaimError(f"The interval is '{interval}'; choose 'profile' or 'wald'.")
    flat, batch = flattened(Spells(time, event, covariates, entry, strata, include))

    def work(rows: Rows, steps: int, start: np.ndarray | None) -> tuple[CoxFit, np.ndarray, np.ndarray]:
        ready = prepared(_some(flat, rows), ties)
        hills = cox_likelihood.hill(ready, True), cox_likelihood.hill(ready, False)
        return _finished(ready, hills[0], _found(*hills, ready.event_total.shape, 2**31, None), ties, level, interval)

    return _in_groups(flat, batch, work)


def hazard_ratio(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    level: float = 0.95,
    method: Method = "auto",
) -> Estimate:
    """Hazard ratio, active over control, of the two arms of the contrast: Cox (Efron ties), or Firth where none exists.

    Where every event that could have befallen either arm befell one of them (above all: an arm without events) the
    maximum-likelihood ratio is 0 or infinite; `auto` then reports Firth's estimate with its profile interval, and says
    so. `cox` reports 0 or infinity with an unbounded interval. se is that of the log ratio. time, event, arm, include and
    strata (..., n). Raises ClaimError where shapes do not match.

    >>> time, event = np.array([5.0, 9.0, 9.0, 9.0, 3.0, 6.0, 9.0, 9.0]), np.array([1, 0, 0, 0, 1, 1, 0, 0])
    >>> result = hazard_ratio(time, event, np.array([1, 1, 1, 1, 0, 0, 0, 0]))
    >>> round(float(result.estimate), 3)
    0.453
    """
    if method not in ("auto", "cox", "firth"):
        raise ClaimError(f"The method is '{method}'; choose 'auto', 'cox' or 'firth'.")
    active, control = two_arms(contrast)
    arm = np.asarray(arm)
    chosen = (arm == active) | (arm == control)
    sets = risk_sets(
        time, event, include=chosen if include is None else chosen & (np.asarray(include) > 0), strata=strata
    )
    code = np.broadcast_to(arm, (*sets.batch, sets.kept.shape[-1])).reshape(sets.kept.shape)
    members = [sets.kept & (code == one) for one in (control, active)]
    trials, rungs = len(sets.kept), sets.times.shape[1] * sets.times.shape[2]
    at_risk = np.stack([sets.at_risk(who).reshape(trials, rungs) for who in members], -1)
    events = np.stack([sets.at_event(who).reshape(trials, rungs) for who in members], -1)
    contested = np.where((at_risk > 0).all(-1, keepdims=True), events, 0.0).sum(1)
    monotone = (contested > 0).sum(-1) == 1
    by_firth = monotone if method == "auto" else np.full(trials, method == "firth")
    log_ratio = _log_ratio_of_arms(arm_terms(at_risk, events), by_firth, level)
    if method == "cox":
        log_ratio = unbounded(log_ratio, monotone, contested)
    present = np.stack([who.any(-1) for who in members], -1)
    warnings = log_ratio.warnings | arm_cautions(events.sum(1), present) | sets.warnings.ravel()
    warnings = warnings | flag(monotone, Caution.SEPARATION) | flag(by_firth & (contested.sum(-1) > 0), Caution.FIRTH)
    result = log_ratio._replace(n=sets.kept.sum(-1), warnings=warnings)
    return exponentiate(_shaped(result, sets.batch))


def _shaped(estimate: Estimate, batch: tuple[int, ...]) -> Estimate:
    fields: dict[str, Any] = {name: np.reshape(getattr(estimate, name), batch) for name in FIELDS}
    return estimate._replace(**fields)


def _log_ratio_of_arms(terms: ArmTerms, by_firth: np.ndarray, level: float) -> Estimate:
    """Log hazard ratio of arm 1 over arm 0 from their counts; each trial by the likelihood it needs."""
    trials = len(by_firth)
    fields: dict[str, Any] = {name: np.full(trials, np.nan) for name in FIELDS[:-2]}
    fields |= {name: np.zeros(trials, int) for name in FIELDS[-2:]}
    for with_penalty in (False, True):
        rows = np.nonzero(by_firth == with_penalty)[0]
        size = max(1, VALUES_AT_ONCE // max(terms.active.shape[-1], 1))
        for part in (rows[k : k + size] for k in range(0, len(rows), size)):
            some = terms.rows(part)
            climbed, plain = some.hill(with_penalty), some.hill(False)
            found = _found(climbed, plain, (len(part), 1), 2**31, None)
            result = _result(climbed, found, level, "profile").log_ratio()
            for name in FIELDS:
                fields[name][part] = getattr(result, name)
    return Estimate(**fields)._replace(level=level)


def unbounded(log_ratio: Estimate, monotone: np.ndarray, contested: np.ndarray) -> Estimate:
    """Where the likelihood rises without end: an infinite log ratio, limits that exclude nothing, and no p."""
    end = np.where(contested[..., 1] > 0, np.inf, -np.inf)
    values: dict[str, Any] = {
        "estimate": end,
        "se": np.inf,
        "lower": -np.inf,
        "upper": np.inf,
        "statistic": np.nan,
        "p": np.nan,
    }
    changed = {name: np.where(monotone, value, getattr(log_ratio, name)) for name, value in values.items()}
    return log_ratio._replace(**changed)


def ratio_of_arms(log_ratio: Estimate, events: np.ndarray, present: np.ndarray) -> Estimate:
    """The ratio of two arms, from its logarithm, their events and who is present (..., 2), control first.

    Where one arm alone has events it is 0 or infinite, with an unbounded interval and a caution.
    """
    monotone = present.all(-1) & ((events > 0).sum(-1) == 1)
    warnings = np.where(monotone, log_ratio.warnings & ~int(Caution.NOT_CONVERGED), log_ratio.warnings)
    log_ratio = log_ratio._replace(warnings=warnings | arm_cautions(events, present))
    return exponentiate(unbounded(log_ratio, monotone, events))


def arm_cautions(events: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Cautions of a comparison of two arms, from their events and who is present (..., 2)."""
    total, both = events.sum(-1), present.all(-1)
    warnings = flag(~both, Caution.EMPTY_ARM) | flag(both & (total == 0), Caution.NO_EVENTS)
    warnings = warnings | flag(both & (total > 0) & (events == 0).any(-1), Caution.ARM_WITHOUT_EVENTS)
    return warnings | flag(both & (total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)


def _some(flat: Spells, chosen: Rows) -> Spells:
    """Some of the flattened trials."""
    fields: dict[str, Any] = {name: None if field is None else field[chosen] for name, field in flat._asdict().items()}
    return Spells(**fields)


Rows = slice | np.ndarray
Work = Callable[[Rows, int, "np.ndarray | None"], tuple[CoxFit, np.ndarray, np.ndarray]]


def _in_groups(flat: Spells, batch: tuple[int, ...], work: Work) -> CoxFit:
    """Fit all trials, a group at a time; those that need more steps than most go on together afterwards."""
    trials, n = flat.time.shape
    size = max(1, VALUES_AT_ONCE // max(n, 1))
    parts, late, where = [], [], []
    for first in range(0, max(trials, 1), size):
        result, unfinished, b = work(slice(first, first + size), FIRST_STEPS, None)
        parts.append(result)
        late.append(first + np.flatnonzero(unfinished))
        where.append(b[unfinished])
    whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    rows, start = np.concatenate(late), np.concatenate(where)
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        result, _, _ = work(rows[part], 2**31, start[part])
        for name in ARRAYS:
            whole[name][rows[part]] = getattr(result, name)
    shaped: dict[str, Any] = {name: field.reshape((*batch, *field.shape[1:])) for name, field in whole.items()}
    return parts[0]._replace(**shaped)


def _plain(
    flat: Spells,
    codes: np.ndarray | None,
    rows: Rows,
    ties: Ties,
    level: float,
    steps: int,
    start: np.ndarray | None,
) -> tuple[CoxFit, np.ndarray, np.ndarray]:
    ready = prepared(_some(flat, rows), ties)
    hill = cox_likelihood.hill(ready, False)
    found = _found(hill, hill, ready.event_total.shape, steps, start)
    result, unfinished, b = _finished(ready, hill, found, ties, level, "wald", in_units=codes is None)
    if codes is not None:
        people = clustered(ready, found.b, result.naive, found.free, codes[rows])
        result = _in_units(_robust(result, found, people, level), ready.unit)
    return result, unfinished, b


def _found(climbed: Hill, plain: Hill, shape: tuple[int, ...], steps: int, start: np.ndarray | None) -> Found:
    """Climb from zero (or from where an earlier climb stopped) over the coefficients that the data determine."""
    zero, everything = np.zeros(shape), np.ones(shape, bool)
    unpenalised = plain.evaluate(zero, everything)
    free = independent(unpenalised.information)
    at_zero = climbed.evaluate(zero, free) if climbed.penalised else unpenalised
    if start is None:
        b, value, converged = climb(climbed, zero, free, free, at_zero, min(steps, 60))
    else:
        b, value, converged = climb(climbed, start, free, free, None, min(steps, 60))
    return Found(b, unpenalised, at_zero, value, free, converged)


def _finished(
    ready: Prepared,
    hill: Hill,
    found: Found,
    ties: Ties,
    level: float,
    interval: Interval,
    in_units: bool = True,
) -> tuple[CoxFit, np.ndarray, np.ndarray]:
    """The fit of subjects with its counts and cautions; which trials need more steps; and where they stopped."""
    result = _result(hill, found, level, interval)
    n, died = ready.sets.kept.sum(-1), ready.sets.event.sum(-1)
    warnings = result.warnings | cox_likelihood.cautions_of(ready, FEW_EVENTS)
    result = result._replace(n=n, events=died, warnings=warnings, ties=ties)
    if hill.penalised:
        # the information is in units of 1 / x²: so much does the penalty change with the units
        change = np.log(ready.unit).sum(-1)[:, None]
        result = result._replace(log_likelihood=result.log_likelihood + change)
    unfinished = ~found.converged & found.free.any(-1) & (np.abs(found.b) < hill.bound).all(-1)
    return _in_units(result, ready.unit) if in_units else result, unfinished, found.b


def _in_units(result: CoxFit, unit: np.ndarray) -> CoxFit:
    """From standardised covariates back to the covariates' own units."""
    square = unit[:, :, None] * unit[:, None, :]
    named = {name: getattr(result, name) / unit for name in ("coefficients", "se", "lower", "upper")}
    return result._replace(**named, covariance=result.covariance / square, naive=result.naive / square)


def _result(hill: Hill, found: Found, level: float, interval: Interval) -> CoxFit:
    """The fit of flattened trials, in standardised units; coefficients that the data do not determine are NaN."""
    b, free, value = found.b, found.free, found.value
    trials = len(b)
    covariance = inverse(value.information, free)
    se = _root(covariance, free)
    if hill.penalised and interval == "profile":
        lower, upper, statistic = profile(hill, b, value.height, free, np.nan_to_num(se), level)
    else:
        lower, upper, statistic = _wald(b, se, level)
    estimable = free.any(-1)
    warnings = flag(~free.all(-1) & estimable, Caution.SINGULAR) | flag(~estimable, Caution.NOT_ESTIMABLE)
    endless = (np.abs(b) >= hill.bound).any(-1) | _vanished(found)
    warnings = warnings | flag((~found.converged | endless) & estimable, Caution.NOT_CONVERGED)
    warnings = warnings | flag(endless, Caution.SEPARATION)
    lower, upper, statistic = (np.where(free, field, np.nan) for field in (lower, upper, statistic))
    both = free[:, :, None] & free[:, None, :]
    plain = found.plain
    return CoxFit(
        coefficients=np.where(free, b, np.nan),
        se=se,
        lower=lower,
        upper=upper,
        statistic=statistic,
        p=two_sided(statistic),
        covariance=covariance,
        naive=covariance,
        log_likelihood=np.stack([found.start.height, value.height], -1),
        score=_quadratic(plain.gradient, inverse(plain.information, free)),
        robust_score=np.full(trials, np.nan),
        wald=_quadratic(b, np.where(both, value.information, 0.0)),
        likelihood_ratio=np.maximum(2 * (value.height - found.start.height), 0.0),
        df=free.sum(-1),
        n=np.zeros(trials, int),
        events=np.zeros(trials, int),
        warnings=warnings,
        level=level,
    )


def _vanished(found: Found) -> np.ndarray:
    """Whether a climb came to rest, for want of information, on a slope without an end."""
    here, at_zero = (np.diagonal(value.information, axis1=-2, axis2=-1) for value in (found.value, found.plain))
    return np.asarray((found.free & (here < VANISHED * at_zero)).any(-1))


def _robust(result: CoxFit, found: Found, people: Clustered, level: float) -> CoxFit:
    """The fit with the robust covariance in place of the inverse information."""
    se = _root(people.covariance, found.free)
    lower, upper, statistic = _wald(found.b, se, level)
    return result._replace(
        se=se,
        lower=lower,
        upper=upper,
        statistic=statistic,
        p=two_sided(statistic),
        covariance=people.covariance,
        robust_score=people.score,
        wald=_quadratic(found.b, inverse(people.covariance, found.free)),
        warnings=result.warnings | people.warnings,
    )


def _root(covariance: np.ndarray, free: np.ndarray) -> np.ndarray:
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    return np.where(free & (variance > 0), np.sqrt(np.maximum(variance, 0.0)), np.nan)


def _wald(b: np.ndarray, se: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    half = critical(level) * se
    return b - half, b + half, b / se


def _quadratic(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.vecdot(vector, np.squeeze(matrix @ vector[..., None], -1))

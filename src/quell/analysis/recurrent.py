"""Several events for one person: rows (start, stop] from event days, and the proportional models of repeated events.

Andersen and Gill (1982): one intensity for all events of a person. Lin, Wei, Yang and Ying (2000): the same estimate as a
ratio of rates, with robust errors by person. Prentice, Williams and Peterson (1981): a baseline of its own for each further
event, in total or in gap time. Wei, Lin and Weissfeld (1989): the time to each first, second, ... event by itself.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis import cox
from quell.analysis.claim import Caution, ClaimError, Estimate, flag, normal_estimate, without_a_size
from quell.analysis.codes import two_arms
from quell.analysis.cox import CoxFit, ratio_of_arms
from quell.analysis.cox_likelihood import Spells
from quell.analysis.cox_robust import residuals
from quell.analysis.partial_likelihood import Ties, inverse

Clock = Literal["total", "gap"]


class Episodes(NamedTuple):
    """Rows of follow-up between events, (..., r): whose, from when to when, and whether (and how many) events ended it.

    `person` holds codes from 0, `number` how many events came before, `death` whether the person died at `stop`; `include`
    marks rows in use. `people` (...) counts persons, `warnings` (...) doubts.
    """

    person: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    event: np.ndarray
    number: np.ndarray
    occurrences: np.ndarray
    death: np.ndarray
    include: np.ndarray
    people: np.ndarray
    warnings: np.ndarray

    def of_people(self, values: np.ndarray) -> np.ndarray:
        """A value of each person (..., n) for each row (..., r); or (..., n, p) for (..., r, p) covariates."""
        values = np.asarray(values)
        extra = values.ndim - self.person.ndim
        if extra not in (0, 1):
            values = np.broadcast_to(values, (*self.person.shape[:-1], *values.shape[-1:]))
            extra = 0
        index = self.person if not extra else self.person[..., None]
        shape = (*self.person.shape[:-1], *values.shape[-1 - extra :])
        return np.take_along_axis(np.broadcast_to(values, shape), index, -1 - extra)

    def among(self, include: np.ndarray | None) -> Episodes:
        """The rows of some persons only, include (..., n)."""
        if include is None:
            return self
        rows = self.include & (self.of_people(include) > 0)
        people = np.broadcast_to(np.asarray(include) > 0, (*self.person.shape[:-1], np.shape(include)[-1]))
        return self._replace(include=rows, people=_count_people(self.person, rows, people.shape[-1]))


def episodes(
    days: np.ndarray,
    until: np.ndarray,
    *,
    died: np.ndarray | None = None,
    include: np.ndarray | None = None,
) -> Episodes:
    """Rows (start, stop] from the days of each person's events, (..., n, k), infinite where none, and the end of follow-up.

    until (..., n) in days from the origin; died (..., n): whether follow-up ended by death. Events after the end are left
    out; several events of a person on one day end one row, with its `occurrences`, and a caution. Persons without follow-up (missing
    or not after day 0), and events without a day or not after day 0, are left out with a caution. Raises ClaimError where
    shapes do not match.

    >>> rows = episodes(np.array([[30.0, 90.0], [np.inf, np.inf]]), np.array([100.0, 60.0]))
    >>> rows.start[rows.include].tolist(), rows.stop[rows.include].tolist(), rows.event[rows.include].tolist()
    ([0.0, 30.0, 90.0, 0.0], [30.0, 90.0, 100.0, 60.0], [True, True, False, False])
    """
    days, until = np.asarray(days, float), np.asarray(until, float)
    if days.ndim < 2 or until.ndim < 1 or days.shape[-2] != until.shape[-1]:
        raise ClaimError(
            f"Event days have shape {days.shape} and the end of follow-up {until.shape}; give days as (..., n, k): one row "
            "per person and one column per event, infinite where there is none, and the end as (..., n)."
        )
    batch = np.broadcast_shapes(days.shape[:-2], until.shape[:-1])
    n, k = days.shape[-2:]
    days, until = np.broadcast_to(days, (*batch, n, k)), np.broadcast_to(until, (*batch, n))
    asked = np.broadcast_to(True if include is None else np.asarray(include) > 0, (*batch, n))
    dead = np.broadcast_to(False if died is None else np.asarray(died) > 0, (*batch, n))
    followed = asked & np.isfinite(until) & (until > 0)
    unknown = asked[..., None] & (np.isnan(days) | (days <= 0))
    happened = np.sort(np.where((days > 0) & (days <= until[..., None]), days, np.inf), -1)
    again = np.zeros(happened.shape, bool)
    again[..., 1:] = (happened[..., 1:] == happened[..., :-1]) & np.isfinite(happened[..., 1:])
    count = (
        np.stack([(happened == happened[..., j : j + 1]).sum(-1) for j in range(k)], -1) if k else np.zeros(days.shape)
    )
    order = np.argsort(np.where(again, np.inf, happened), -1, kind="stable")
    first = np.take_along_axis(np.where(again, np.inf, happened), order, -1)
    count = np.take_along_axis(count, order, -1)
    zero, never = np.zeros((*batch, n, 1)), np.full((*batch, n, 1), np.inf)
    start, stop = np.concatenate([zero, first], -1), np.concatenate([first, never], -1)
    event = np.isfinite(stop)
    stop = np.where(event, stop, np.where(followed, until, 0.0)[..., None])
    used = followed[..., None] & (start < stop)
    death = dead[..., None] & used & (stop == until[..., None])
    warnings = flag((again & followed[..., None]).any((-1, -2)), Caution.SAME_DAY)
    warnings = warnings | flag((asked & ~followed).any(-1) | unknown.any((-1, -2)), Caution.MISSING)
    number = np.broadcast_to(np.arange(k + 1), start.shape)
    person = np.broadcast_to(np.arange(n)[:, None], start.shape)
    counts = np.where(event & used, np.concatenate([count, zero], -1), 0)
    rows = [person, np.where(used, start, 0.0), stop, event & used, number, counts, death, used]
    shaped: dict[str, Any] = {
        name: np.reshape(field, (*batch, n * (k + 1))) for name, field in zip(Episodes._fields, rows, strict=False)
    }
    return Episodes(**shaped, people=followed.sum(-1), warnings=warnings)


def andersen_gill(
    rows: Episodes,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    robust: bool = False,
    ties: Ties = "efron",
    level: float = 0.95,
) -> CoxFit:
    """Andersen and Gill's model of repeated events; with `robust`, the rates model of Lin, Wei, Yang and Ying (`lwyy`).

    covariates (..., n, p) and strata (..., n) are of persons (for covariates that change, `cox.fit` takes rows); n counts
    persons. Raises ClaimError where shapes do not match.

    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf], [50.0, 55.0]]), np.full(4, 100.0))
    >>> float(andersen_gill(rows, np.array([[0.0], [1.0], [1.0], [0.0]])).ratio().estimate.round(3))
    0.25
    """
    return _by_person(rows, covariates, strata, rows.start, rows.stop, robust=robust, ties=ties, level=level)


def lwyy(
    rows: Episodes,
    covariates: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    level: float = 0.95,
) -> CoxFit:
    """Ratio of event rates by the proportional rates model, robust by person (Lin, Wei, Yang and Ying 2000).

    The estimate is Andersen and Gill's; the error allows a person's events to go together. doi:10.1111/1467-9868.00259.
    Arguments, and what is raised, are as in `andersen_gill`.

    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf], [50.0, 55.0]]), np.full(4, 100.0))
    >>> float(lwyy(rows, np.array([[0.0], [1.0], [1.0], [0.0]])).se[0].round(3))
    0.707
    """
    return andersen_gill(rows, covariates, strata=strata, robust=True, ties=ties, level=level)


def rate_ratio(
    rows: Episodes,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    ties: Ties = "efron",
    level: float = 0.95,
) -> Estimate:
    """Ratio of the event rates of two arms, active over control, by LWYY: all events counted, errors robust by person.

    arm and strata (..., n) are of persons; se is that of the log ratio. Where an arm has no event the ratio is 0 or
    infinite, with an unbounded interval and a caution. Raises ClaimError where shapes do not match.

    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf], [50.0, 55.0]]), np.full(4, 100.0))
    >>> float(rate_ratio(rows, np.array([0, 1, 1, 0])).estimate.round(3))
    0.25
    """
    active, control = two_arms(contrast)
    arm = np.asarray(arm)
    some = rows.among((arm == active) | (arm == control))
    fitted = lwyy(some, (arm == active)[..., None].astype(float), strata=strata, ties=ties, level=level)
    code = some.of_people(arm)
    members = [some.include & (code == one) for one in (control, active)]
    events = np.stack([np.sum(some.event & who, -1) for who in members], -1)
    present = np.stack([who.any(-1) for who in members], -1)
    return ratio_of_arms(fitted.log_ratio(), events, present)


def prentice_williams_peterson(
    rows: Episodes,
    covariates: np.ndarray,
    *,
    clock: Clock = "total",
    most: int | None = None,
    robust: bool = True,
    ties: Ties = "efron",
    level: float = 0.95,
) -> CoxFit:
    """Conditional model: those with k events are at risk of the next, each k with its own baseline (PWP 1981).

    `clock` "total" counts days from the origin, "gap" from the last event; `most` leaves out what comes after that many
    events. doi:10.1093/biomet/68.2.373. Other arguments, and what is raised, are as in `andersen_gill`.

    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [40.0, 70.0], [50.0, 85.0]]), np.full(4, 100.0))
    >>> float(prentice_williams_peterson(rows, np.array([[0.0], [1.0], [1.0], [0.0]]), clock="gap").ratio().estimate.round(3))
    1.257
    """
    if clock not in ("total", "gap"):
        raise ClaimError(f"The clock is '{clock}'; choose 'total' (from the origin) or 'gap' (from the last event).")
    if most is not None:
        rows = rows._replace(include=rows.include & (rows.number < most))
    start, stop = (rows.start, rows.stop) if clock == "total" else (None, rows.stop - rows.start)
    return _by_person(rows, covariates, None, start, stop, number=True, robust=robust, ties=ties, level=level)


def _by_person(
    rows: Episodes,
    covariates: np.ndarray,
    strata: np.ndarray | None,
    start: np.ndarray | None,
    stop: np.ndarray,
    *,
    number: bool = False,
    robust: bool,
    ties: Ties,
    level: float,
) -> CoxFit:
    covariates = np.asarray(covariates, float)
    if covariates.ndim < 2:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}; give them as (..., n, p): one row per person and one column per "
            "covariate, also where there is only one."
        )
    rank = rows.person.ndim + 1
    covariates = covariates.reshape((1,) * (rank - covariates.ndim) + covariates.shape)
    covariates = np.broadcast_to(covariates, (*rows.person.shape[:-1], *covariates.shape[-2:]))
    by_row = rows.of_people(covariates)
    code: Any = None if strata is None else rows.of_people(strata)
    if number:
        code = rows.number
    spells = Spells(stop, rows.event, by_row, start, code, rows.include)
    fitted = cox.fit(spells, ties=ties, cluster=rows.person if robust else None, level=level)
    return fitted._replace(n=rows.people, warnings=fitted.warnings | rows.warnings)


def _count_people(person: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    flat, kept = person.reshape(-1, person.shape[-1]), rows.reshape(-1, rows.shape[-1])
    cell = np.arange(len(flat))[:, None] * n + flat
    seen = np.bincount(cell.ravel(), kept.ravel(), len(flat) * n).reshape(len(flat), n) > 0
    return seen.sum(-1).reshape(person.shape[:-1])


class Marginal(NamedTuple):
    """Wei, Lin and Weissfeld's fit: log hazard ratios (..., K, p) of the K events, jointly with covariance (..., Kp, Kp)."""

    coefficients: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    warnings: np.ndarray
    level: float

    def each(self, event: int, index: int = 0) -> Estimate:
        """Log hazard ratio of one covariate for the event of one order (0 is the first)."""
        place = event * self.coefficients.shape[-1] + index
        variance = self.covariance[..., place, place]
        se = np.sqrt(np.where(variance > 0, variance, np.nan))
        return normal_estimate(self.coefficients[..., event, index], se, self.n, self.warnings, self.level)

    def average(self, index: int = 0) -> Estimate:
        """The weighted average log hazard ratio with the smallest variance: c = V^-1 1 / (1' V^-1 1)."""
        b, covariance, usable = self._of(index)
        precision = inverse(covariance, usable)
        total = precision.sum((-1, -2))
        some = usable.any(-1) & (total > 0)
        estimate = np.where(some, np.einsum("...jk,...k->...", precision, b) / np.where(some, total, 1.0), np.nan)
        se = np.where(some, 1 / np.sqrt(np.where(some, total, 1.0)), np.nan)
        warnings = self.warnings | flag(~some, Caution.NOT_ESTIMABLE)
        return normal_estimate(estimate, se, self.n, warnings, self.level)

    def test(self, index: int = 0) -> Estimate:
        """Wald's test that the covariate has no effect on any of the K events, chi-square on K df."""
        b, covariance, usable = self._of(index)
        statistic = np.einsum("...j,...jk,...k->...", b, inverse(covariance, usable), b)
        df = usable.sum(-1).astype(float)
        p = np.where(df > 0, special.chdtrc(np.maximum(df, 1), statistic), np.nan)
        statistic = np.where(df > 0, statistic, np.nan)
        return without_a_size(statistic, df, p, self.n, self.warnings, self.level)

    def _of(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        events, p = self.coefficients.shape[-2:]
        places = np.arange(events) * p + index
        covariance = self.covariance[..., places[:, None], places]
        b = self.coefficients[..., index]
        usable = np.isfinite(b) & (np.diagonal(covariance, axis1=-2, axis2=-1) > 0)
        return np.where(usable, b, 0.0), np.nan_to_num(covariance), usable


def wei_lin_weissfeld(
    days: np.ndarray,
    until: np.ndarray,
    covariates: np.ndarray,
    *,
    include: np.ndarray | None = None,
    ties: Ties = "efron",
    level: float = 0.95,
) -> Marginal:
    """Marginal models of the time to each first, second, ... k-th event, all at risk from the start; jointly robust.

    days (..., n, k) as in `episodes` (k says how many events are modelled), until (..., n), covariates (..., n, p). Each
    event has its own baseline and coefficients; their joint covariance is that of the persons' dfbeta residuals (Wei, Lin
    and Weissfeld 1989, doi:10.1080/01621459.1989.10478873), as R's coxph(~ x * strata(event) + cluster(id)).

    >>> days = np.array([[30.0, 90.0], [20.0, np.inf], [40.0, 70.0], [50.0, 55.0], [80.0, np.inf]])
    >>> both = wei_lin_weissfeld(days, np.full(5, 100.0), np.array([[0.0], [1.0], [1.0], [0.0], [1.0]]))
    >>> both.coefficients[:, 0].round(3).tolist(), float(both.average().se.round(3))
    ([-0.274, -1.439], 0.606)
    """
    days, until = np.asarray(days, float), np.asarray(until, float)
    if days.ndim < 2 or until.ndim < 1 or days.shape[-2] != until.shape[-1] or not days.shape[-1]:
        raise ClaimError(
            f"Event days have shape {days.shape} and the end of follow-up {until.shape}; give days as (..., n, k): one row "
            "per person and one column per event, infinite where there is none, and the end as (..., n)."
        )
    asked = np.ones(until.shape, bool) if include is None else np.asarray(include) > 0
    unknown = np.isnan(days).any(-1) & asked
    days = np.sort(np.where(np.isnan(days), np.inf, days), -1)
    fits, parts = [], []
    for event in range(days.shape[-1]):
        happened = days[..., event] <= until
        time = np.where(np.isnan(until), np.nan, np.minimum(days[..., event], until))
        spells = Spells(time, happened, covariates, include=asked)
        fits.append(cox.fit(spells, ties=ties, level=level))
        parts.append(np.nan_to_num(residuals(spells, fits[-1].coefficients, "dfbeta", ties=ties)))
    apart = np.concatenate(parts, -1)
    coefficients = np.stack([one.coefficients for one in fits], -2)
    gone = np.isnan(coefficients).reshape(*coefficients.shape[:-2], apart.shape[-1])
    covariance = np.where(gone[..., :, None] | gone[..., None, :], np.nan, np.swapaxes(apart, -1, -2) @ apart)
    warnings = np.bitwise_or.reduce([one.warnings for one in fits], 0) | flag(unknown.any(-1), Caution.MISSING)
    return Marginal(coefficients, covariance, fits[0].n, warnings, level)

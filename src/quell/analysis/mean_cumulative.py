"""How many events a person has had by a day, on average: the mean cumulative function, and its difference between arms.

Without death it is Nelson and Aalen's estimate, R(t) = sum over t_j <= t of dN_j / Y_j, with the robust variance of Lawless
and Nadeau (1995), sum over persons of [sum_j Y_ij / Y_j (dN_ij - dR_j)]²: the infinitesimal jackknife of R's
survfit(id=)$std.chaz, and reda's "LawlessNadeau". Where death ends follow-up it is Cook and Lawless's (1997)
mu(t) = integral of S(u-) dR(u), S the Kaplan-Meier curve of death, with the variance of Ghosh and Lin (2000).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from quell.analysis.claim import FEW_EVENTS, Caution, ClaimError, Estimate, critical, flag, normal_estimate
from quell.analysis.cox_robust import FEW_CLUSTERS
from quell.analysis.recurrent import Episodes
from quell.analysis.risksets import RiskSets, risk_sets

Interval = Literal["log", "plain"]


class MeanCumulative(NamedTuple):
    """A mean cumulative function for each trial of a batch; every field is (..., m) over distinct days, unused infinite."""

    times: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    deaths: np.ndarray


class Steps(NamedTuple):
    """The flattened rows on the ladder of days with an event or a death, and the counts there (B, M)."""

    sets: RiskSets
    person: np.ndarray
    persons: int
    occurrences: np.ndarray
    death: np.ndarray
    at_risk: np.ndarray
    events: np.ndarray
    deaths: np.ndarray
    alive: np.ndarray
    death_risk: np.ndarray


def mean_cumulative(
    rows: Episodes, *, include: np.ndarray | None = None, level: float = 0.95, interval: Interval = "log"
) -> MeanCumulative:
    """The mean number of events per person over time, with robust variance (see above); `include` (..., n) picks persons.

    If anybody's rows end in death, deaths count as the end of events, not as censoring. `interval` is on the log scale
    (never below zero) or plain. Raises ClaimError for an interval there is not, or where shapes do not match.

    >>> from quell.analysis.recurrent import episodes
    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf]]), np.array([100.0, 50.0, 80.0]))
    >>> curve = mean_cumulative(rows)
    >>> curve.times.tolist(), curve.mean.round(3).tolist()
    ([20.0, 30.0, 90.0], [0.333, 0.667, 1.667])
    """
    _check(interval)
    some = rows.among(include)
    batch = some.person.shape[:-1]
    steps = _steps(some)
    mean = np.cumsum(_increments(steps), -1)
    variance = np.zeros(mean.shape)
    for j in range(mean.shape[-1]):
        variance[:, j] = np.sum(_influence(steps, np.arange(mean.shape[-1]) <= j) ** 2, -1)
    half = critical(level) * np.sqrt(variance)
    lower, upper = _limits(mean, half, interval)
    fields = (steps.sets.times[:, 0], mean, variance, lower, upper, steps.at_risk, steps.events, steps.deaths)
    return MeanCumulative(*(field.reshape(*batch, mean.shape[-1]) for field in fields))


def mean_cumulative_at(
    rows: Episodes,
    day: float,
    *,
    include: np.ndarray | None = None,
    level: float = 0.95,
    interval: Interval = "log",
) -> Estimate:
    """The mean number of events per person by one day, as `mean_cumulative`.

    Past the last follow-up the curve is carried forward and a caution says so. Raises ClaimError for an interval there is
    not, or where shapes do not match.

    >>> from quell.analysis.recurrent import episodes
    >>> rows = episodes(np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf]]), np.array([100.0, 50.0, 80.0]))
    >>> result = mean_cumulative_at(rows, 60)
    >>> round(float(result.estimate), 3), round(float(result.se), 3)
    (0.667, 0.272)
    """
    _check(interval)
    some = rows.among(include)
    batch = some.person.shape[:-1]
    steps = _steps(some)
    used = steps.sets.times[:, 0] <= day
    mean = np.sum(np.where(used, _increments(steps), 0.0), -1)
    se = np.sqrt(np.sum(_influence(steps, used) ** 2, -1))
    lower, upper = _limits(mean, critical(level) * se, interval)
    seen = some.include.any(-1).ravel()
    total = np.sum(np.where(used, steps.events, 0.0), -1)
    last = np.max(np.where(some.include, some.stop, -np.inf), -1, initial=-np.inf).ravel()
    warnings = some.warnings.ravel() | flag(~seen, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(seen & (total == 0), Caution.NO_EVENTS)
    warnings = warnings | flag(seen & (total > 0) & (total < FEW_EVENTS), Caution.FEW_EVENTS)
    warnings = warnings | flag(seen & (last < day), Caution.BEYOND_FOLLOW_UP)
    people = np.asarray(some.people).ravel()
    warnings = warnings | flag(seen & (people < FEW_CLUSTERS), Caution.FEW_CLUSTERS)
    mean, lower, upper = (np.where(seen, value, np.nan) for value in (mean, lower, upper))
    # without an event the jackknife sees no error at all
    se = np.where(seen & (total > 0), se, np.nan)
    lower, upper = (np.where(total > 0, value, np.nan) for value in (lower, upper))
    none = np.full(mean.shape, np.nan)
    fields = (mean, se, lower, upper, none, none, none, people, warnings)
    shaped: dict[str, Any] = {
        name: np.reshape(field, batch) for name, field in zip(Estimate._fields, fields, strict=False)
    }
    return Estimate(**shaped, level=level)


def mean_cumulative_difference(
    rows: Episodes,
    arm: np.ndarray,
    day: float,
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Difference in mean number of events per person by a day, active minus control, with a normal interval.

    se² is the sum of the arms' robust variances; arm and include (..., n) are of persons. Raises ClaimError where shapes do
    not match.

    >>> from quell.analysis.recurrent import episodes
    >>> days = np.array([[30.0, 90.0], [20.0, np.inf], [np.inf, np.inf], [40.0, np.inf]])
    >>> rows = episodes(days, np.array([100.0, 50.0, 80.0, 70.0]))
    >>> float(mean_cumulative_difference(rows, np.array([0, 0, 1, 1]), 60).estimate)
    -0.5
    """
    arm = np.asarray(arm)
    asked = np.asarray(True if include is None else np.asarray(include) > 0)
    active, control = (
        mean_cumulative_at(rows, day, include=(arm == code) & asked, level=level, interval="plain") for code in contrast
    )
    none = flag((active.estimate == 0) & (control.estimate == 0), Caution.NO_EVENTS)
    one = flag((active.estimate == 0) != (control.estimate == 0), Caution.ARM_WITHOUT_EVENTS)
    # an arm without events adds nothing to the error; two such arms leave none to estimate
    se = np.sqrt(np.nan_to_num(active.se) ** 2 + np.nan_to_num(control.se) ** 2)
    difference = active.estimate - control.estimate
    se = np.where(np.isfinite(difference) & (se > 0), se, np.nan)
    warnings = (active.warnings | control.warnings) & ~int(Caution.NO_EVENTS)
    warnings = warnings | none | np.where(np.isfinite(difference), one, 0)
    return normal_estimate(difference, se, active.n + control.n, warnings, level)


def _check(interval: str) -> None:
    if interval not in ("log", "plain"):
        raise ClaimError(f"The interval is '{interval}'; choose 'log' or 'plain'.")


def _limits(mean: np.ndarray, half: np.ndarray, interval: str) -> tuple[np.ndarray, np.ndarray]:
    if interval == "plain":
        return mean - half, mean + half
    factor = np.exp(np.minimum(half / np.where(mean > 0, mean, np.inf), 700.0))
    return mean / factor, mean * factor


def _steps(rows: Episodes) -> Steps:
    """Counts of a flattened batch on its ladder; S(u-) is 1 where nobody dies."""
    shape = (int(np.prod(rows.person.shape[:-1])), rows.person.shape[-1])
    start, stop, event, death, include = (
        np.reshape(field, shape) for field in (rows.start, rows.stop, rows.event, rows.death, rows.include)
    )
    sets = risk_sets(stop, event | death, include=include, entry=start)
    count = np.where(include, np.reshape(rows.occurrences, shape), 0.0)
    at_risk = sets.at_risk(np.ones(1))[:, 0]
    events = sets.at_event(count, event & include)[:, 0]
    deaths = sets.at_event(np.ones(1), death & include)[:, 0]
    death_risk = deaths / np.maximum(at_risk, 1)
    survival = np.cumprod(1 - death_risk, -1)
    alive = np.concatenate([np.ones((len(survival), 1)), survival], -1)[:, :-1]
    person = np.reshape(rows.person, shape)
    persons = int(person.max(initial=-1)) + 1
    return Steps(sets, person, persons, count, death & include, at_risk, events, deaths, alive, death_risk)


def _increments(steps: Steps) -> np.ndarray:
    return steps.alive * steps.events / np.maximum(steps.at_risk, 1)


def _influence(steps: Steps, used: np.ndarray) -> np.ndarray:
    """What each person adds to the error of the mean at the last day used, (B, persons).

    Events: sum of S(u-) / Y (dN_i - Y_i dR). Deaths: each takes from the curve what was still to come after it, with
    weight (dD_i - Y_i dD / Y) / Y (Ghosh and Lin 2000).
    """
    sets = steps.sets
    per_event = np.where(used, steps.alive / np.maximum(steps.at_risk, 1), 0.0)
    increments = np.where(used, _increments(steps), 0.0)
    part = steps.occurrences * _at_stop(sets, per_event)
    part = part - _over(sets, increments / np.maximum(steps.at_risk, 1))
    if steps.deaths.any():
        total = np.cumsum(increments, -1)
        to_come = total[:, -1:] - total
        per_death = np.where(used, to_come / np.maximum(steps.at_risk, 1), 0.0)
        part = part - steps.death * _at_stop(sets, per_death) + _over(sets, per_death * steps.death_risk)
    part = np.where(sets.kept, part, 0.0)
    cell = np.arange(len(part))[:, None] * steps.persons + steps.person
    return np.bincount(cell.ravel(), part.ravel(), len(part) * steps.persons).reshape(len(part), steps.persons)


def _at_stop(sets: RiskSets, per_rung: np.ndarray) -> np.ndarray:
    """A rung's quantity (B, M) for the rows that end on it; meaningful for rows that end in an event or a death."""
    padded = np.concatenate([np.zeros((len(per_rung), 1)), per_rung], -1)
    return np.take_along_axis(padded, np.where(sets.kept, sets.last, 0), -1)


def _over(sets: RiskSets, per_rung: np.ndarray) -> np.ndarray:
    """Sum of a rung's quantity (B, M) over the rungs at which each row is at risk."""
    total = np.concatenate([np.zeros((len(per_rung), 1)), np.cumsum(per_rung, -1)], -1)
    felt = np.take_along_axis(total, np.where(sets.kept, sets.last, 0), -1)
    if sets.first is None:
        return felt
    return felt - np.take_along_axis(total, np.where(sets.kept, sets.first, 0), -1)

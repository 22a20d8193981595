"""From one patient to a country: how many events are averted by when, and how many must be treated to avert one.

With n(s) people treated in quarter s, and A(t) infarctions averted per person within t of treatment,

    averted by T = sum_s n(s) (A(T - s) + A(T - s - 1)) / 2         (people are treated all through a quarter)

The number needed to treat is 1 over the difference of the risks of a first repeat infarction by a time. Where the
interval of that difference reaches 0 the number has no upper end (Altman 1998, doi:10.1136/bmj.317.7168.1309).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from quell.impact.cohort import PER_YEAR, Lived

UPTAKES = (0.1, 0.25, 0.5, 0.75, 1.0)
YEARS = (1, 2, 5, 10)
NEEDED_AT = (1, 2, 5)


class Said(NamedTuple):
    """A quantity over the draws: its mean with Monte Carlo error, and the 95 % interval."""

    value: float
    error: float
    lower: float
    upper: float

    def times(self, factor: float) -> Said:
        return Said(*(factor * one for one in self))


def said(draws: np.ndarray) -> Said:
    """The mean over draws, its error (of independent draws: an upper bound, for they are stratified), 2.5 and 97.5 %.

    >>> said(np.array([1.0, 3.0])).value
    2.0
    """
    lower, upper = np.quantile(draws, [0.025, 0.975])
    error = float(draws.std(ddof=1) / math.sqrt(len(draws))) if len(draws) > 1 else math.nan
    return Said(float(draws.mean()), error, float(lower), float(upper))


def eligible(drawn: Mapping[str, np.ndarray]) -> np.ndarray:
    """People a year who survive an infarction and could be treated, (draws,)."""
    return drawn["admissions"] * drawn["survive"] * drawn["eligible"]


def treated(drawn: Mapping[str, np.ndarray], years: int, uptake: np.ndarray | float | None = None) -> np.ndarray:
    """People treated in each quarter of so many years, (quarters, draws), while uptake rises evenly to its peak.

    >>> drawn = {name: np.array([value]) for name, value in
    ...          dict(admissions=1000.0, survive=0.8, eligible=0.5, uptake=0.5, ramp_years=1.0).items()}
    >>> treated(drawn, 2)[:, 0]
    array([ 6.25, 18.75, 31.25, 43.75, 50.  , 50.  , 50.  , 50.  ])
    """
    middles = (np.arange(years * PER_YEAR) + 0.5) / PER_YEAR
    ramp = np.asarray(drawn["ramp_years"])
    with np.errstate(divide="ignore"):
        risen = np.where(ramp > 0, np.minimum(middles[:, None] / ramp, 1.0), 1.0)
    peak = drawn["uptake"] if uptake is None else uptake
    return eligible(drawn) / PER_YEAR * peak * risen


def averted(control: np.ndarray, active: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Events averted by the end of each quarter, (quarters + 1, draws).

    ``control`` and ``active``: cumulative events per person by quarter after treatment; ``people``: treated by quarter.

    >>> averted(np.array([[0.0], [0.2], [0.2]]), np.array([[0.0], [0.1], [0.1]]), np.array([[100.0], [0.0]]))[:, 0]
    array([ 0.,  5., 10.])
    """
    each = control - active
    quarters = len(people)
    middle = (each[1 : quarters + 1] + each[:quarters]) / 2
    found = np.zeros((quarters + 1, people.shape[1]))
    for quarter in range(quarters):
        found[quarter + 1 :] += people[quarter] * middle[: quarters - quarter]
    return found


def by_uptake(control: Lived, active: Lived, drawn: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Infarctions and cardiovascular deaths averted by uptake and year, and people treated: one row each."""
    most = max(YEARS)
    people = treated(drawn, most, 1.0)
    given = np.concatenate([np.zeros((1, people.shape[1])), people.cumsum(axis=0)])
    counts = {
        "infarctions": averted(control.infarctions, active.infarctions, people),
        "cardiovascular_deaths": averted(control.cardiovascular_deaths, active.cardiovascular_deaths, people),
        "treated": given,
    }
    return [
        {"uptake": uptake, "years": years}
        | {name: said(uptake * table[years * PER_YEAR])._asdict() for name, table in counts.items()}
        for uptake in UPTAKES
        for years in YEARS
    ]


def over_time(control: Lived, active: Lived, drawn: Mapping[str, np.ndarray], years: int = 10) -> list[dict[str, Any]]:
    """Infarctions averted by the end of each year at the uptake supposed, with limits of 95 and 50 %."""
    table = averted(control.infarctions, active.infarctions, treated(drawn, years))[::PER_YEAR]
    rows = []
    for year, draws in enumerate(table):
        low, q25, q75, high = np.quantile(draws, [0.025, 0.25, 0.75, 0.975])
        rows.append(dict(year=year, value=float(draws.mean()), lower=low, q25=q25, q75=q75, upper=high))
    return [{name: float(one) for name, one in row.items()} for row in rows]


def needed(control: Lived, active: Lived) -> list[dict[str, Any]]:
    """Risks of another infarction with and without treatment and the number needed to treat, by time."""
    rows = []
    for years in NEEDED_AT:
        without, with_it = control.first[years * PER_YEAR], active.first[years * PER_YEAR]
        fewer = said(without - with_it)
        rows.append(
            {
                "years": years,
                "without": said(without)._asdict(),
                "with": said(with_it)._asdict(),
                "fewer": fewer._asdict(),
                "number": number_needed(fewer),
            }
        )
    return rows


def number_needed(fewer: Said) -> dict[str, float | bool]:
    """The number needed to treat and its limits; ``open`` where the interval reaches no effect, or harm.

    ``lower`` is the best case. Where open, ``upper`` is the number needed to harm in the worst case (infinite if none).

    >>> number_needed(Said(0.02, 0.0, 0.01, 0.04))
    {'value': 50.0, 'lower': 25.0, 'upper': 100.0, 'open': False}
    """
    value, lower, upper = (1 / one if one else math.inf for one in (fewer.value, fewer.upper, fewer.lower))
    return {"value": value, "lower": lower, "upper": abs(upper), "open": fewer.lower <= 0}

"""How far a simulation leaves what has been studied: doses, courses, people. Outside, the model extrapolates, and says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from quell.body import population
from quell.protocol import Protocol
from quell.sentences import near
from quell.trial import TrialError, lay_out
from quell.units import DAYS_PER_YEAR, Rule

SURFACE = 1.95  # m2, of the typical patient: for doses written per m2
TAIL = 1.6449  # normal score of the 95th percentile: people are judged by nine in ten of them
WEEK = 7


class Studied(NamedTuple):
    """A range that published studies cover."""

    name: str
    unit: str
    low: float
    high: float
    sources: str
    ratio: bool = True  # distance in doublings; otherwise in tens of the unit


DOSE = Studied("dose on one day", "MIU", 0.08, 3.0, "E077 (0.04 MIU/m2) to E087")
KINETICS = Studied("dose with published kinetics", "MIU", 0.08, 36.0, "E077 to E096")
TOTAL = Studied("dose of a whole course", "MIU", 0.08, 52.5, "E077, E086")
WEEKLY = Studied("doses in one week", "doses", 1, 5, "E071, E086, E087")
COURSE = Studied("days from the first to the last dose", "days", 1, 70, "E086, E088 (harm and response)")
CELLS = Studied("days of dosing with published cell counts", "days", 1, 5, "E071 (daily), E078 to E080 (once)")
AGE = Studied(
    "age",
    "years",
    34,
    75,
    "E027: the people of IVORY; the ages of the studies that calibrate are not on file",
    ratio=False,
)
ONSET = Studied("days from the infarction to the first dose", "days", 0, 14, "E013, E107", ratio=False)
CRP = Studied("hsCRP asked for at entry", "mg/L", 0.5, 12.8, "E107 (quartiles), E139")
HORIZON = Studied("follow-up", "years", 0, 7, "E136", ratio=False)


class Reach(NamedTuple):
    """How far a simulation goes along one range, and how far that is outside it."""

    studied: Studied
    low: float
    high: float

    @property
    def distance(self) -> float:
        """0 inside; outside in doublings of the nearer end, or in tens of years or days.

        >>> Reach(DOSE, 1.5, 12.0).distance, Reach(AGE, 40.0, 85.0).distance
        (2.0, 1.0)
        """
        s = self.studied
        if s.ratio:
            beyond = [
                math.log2(self.high / s.high) if self.high > 0 else 0.0,
                math.log2(s.low / self.low) if self.low > 0 else 0.0,
            ]
        else:
            beyond = [(self.high - s.high) / 10, (s.low - self.low) / 10]
        return max(0.0, *beyond)

    @property
    def sentence(self) -> str:
        """What lies outside, in words; empty inside."""
        if not self.distance:
            return ""
        s = self.studied
        here = f"{self.high:.3g}" if self.low == self.high else f"{self.low:.3g} to {self.high:.3g}"
        far = f"{self.distance:.1f}"
        beyond = f"{far} doubling{'' if far == '1.0' else 's'}" if s.ratio else f"{10 * self.distance:.3g} {s.unit}"
        return (
            f"{s.name}: {here} {s.unit}; studied {s.low:g} to {s.high:g} ({s.sources}), so this lies {beyond} outside."
        )


class Applicability(NamedTuple):
    """Every range with what the simulation reaches of it."""

    reaches: tuple[Reach, ...]

    @property
    def distance(self) -> float:
        """The largest distance; 0 where everything was studied."""
        return max((one.distance for one in self.reaches), default=0.0)

    @property
    def sentences(self) -> list[str]:
        """One warning for each range that is left."""
        return [one.sentence for one in self.reaches if one.distance]

    def plain(self) -> dict[str, Any]:
        """The same as plain data, for results and pages.

        >>> sorted(of_course([1.5], [1]).plain())
        ['distance', 'reaches', 'sentences']
        """
        reached = [
            {"range": one.studied.name, "unit": one.studied.unit, "low": one.low, "high": one.high}
            | {"studied_low": one.studied.low, "studied_high": one.studied.high}
            | {"sources": one.studied.sources, "distance": one.distance}
            for one in self.reaches
        ]
        return {"distance": self.distance, "sentences": self.sentences, "reaches": reached}


def applicability(protocol: Protocol) -> Applicability:
    """How far a protocol's doses, people and follow-up lie outside what has been studied.

    Raises TrialError where the protocol cannot be simulated.

    >>> [one.split(":")[0] for one in applicability(Protocol.load("ivory")).sentences]
    ['days of dosing with published cell counts']
    """
    plan = lay_out(protocol)
    arms = [
        [amount * (SURFACE if per else 1.0) for amount, per in zip(amounts, area, strict=True)]
        for amounts, area in zip(plan.amounts, plan.per_area, strict=True)
    ]
    reached = [one for amounts in arms for one in _doses(amounts, plan.dose_days)]
    rules = [(rule.quantity, rule.limit) for rule in protocol.population.eligibility]
    people = _people(protocol.population.people, rules)
    return Applicability((*_widest(reached), *people, Reach(HORIZON, 0, plan.horizon / DAYS_PER_YEAR)))


def of_course(
    amounts: Sequence[float], days: Sequence[int], *, people: str = "ivory", until: int | None = None
) -> Applicability:
    """The same for doses (MIU) on study days, given to people of a population.

    >>> of_course([1.5] * 5, range(1, 6)).distance
    0.0
    """
    last = until if until is not None else max(days)
    return Applicability((*_doses(amounts, days), *_people(people, []), Reach(HORIZON, 0, last / DAYS_PER_YEAR)))


def _doses(amounts: Sequence[float], days: Sequence[int]) -> list[Reach]:
    """What one arm's doses reach; nothing where no drug is given."""
    given = [(day, amount) for day, amount in zip(days, amounts, strict=True) if amount > 0]
    if not given:
        return []
    on, each = [day for day, _ in given], [amount for _, amount in given]
    most = max(sum(start <= day < start + WEEK for day in on) for start in on)
    course = float(on[-1] - on[0] + 1)
    total = sum(each)
    return [
        Reach(DOSE, min(each), max(each)),
        Reach(KINETICS, min(each), max(each)),
        Reach(TOTAL, total, total),
        Reach(WEEKLY, most, most),
        Reach(COURSE, course, course),
        Reach(CELLS, course, course),
    ]


def _widest(reached: Sequence[Reach]) -> list[Reach]:
    """One reach for each range over all arms."""
    ranges = dict.fromkeys(one.studied for one in reached)
    return [
        Reach(s, min(r.low for r in reached if r.studied == s), max(r.high for r in reached if r.studied == s)) for s in ranges
    ]  # fmt: skip


Rules = Sequence[tuple[str, Rule]]
COVARIATES = {"age": (AGE, DAYS_PER_YEAR), "days_since_infarction": (ONSET, 1.0)}  # with days in the unit


def _people(name: str, rules: Rules) -> list[Reach]:
    """Nine in ten of the people, inside what the protocol admits; and the inflammation it asks for."""
    if name not in population.POPULATIONS:
        raise TrialError(f"the population '{name}' is unknown. {near(name, population.POPULATIONS)}")
    found = []
    for covariate, (studied, unit) in COVARIATES.items():
        one = next(c for c in population.POPULATIONS[name].covariates if c.name == covariate)
        ends = tuple(float(population.value(one, z)) for z in (-TAIL, TAIL))
        limits = [rule._replace(value=rule.value / unit) for quantity, rule in rules if quantity == studied.name]
        found.append(Reach(studied, *_admitted(ends, limits)))
    return found + [Reach(CRP, rule.value, rule.value) for quantity, rule in rules if quantity == "hsCRP"]


def _admitted(ends: tuple[float, ...], rules: Sequence[Rule]) -> tuple[float, float]:
    """A range inside limits; the limit itself where nobody usual is left.

    >>> _admitted((40.0, 70.0), [Rule("at least", 65.0, "time")]), _admitted((40.0, 70.0), [Rule("above", 80.0, "time")])
    ((65.0, 70.0), (80.0, 80.0))
    """
    low, high = ends
    for rule in rules:
        if rule.relation in ("at least", "above"):
            low = max(low, rule.value)
            high = max(high, low)
        else:
            high = min(high, rule.value)
            low = min(low, high)
    return low, high

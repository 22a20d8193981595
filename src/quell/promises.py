"""The parts of a protocol: drug, dose, arm, visit, endpoint, estimand, analysis, and how a real study maps to them.

Each is a value, validated at birth. The form follows ICH E9(R1) for estimands and SPIRIT 2025 for content.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import Any, Literal, TypeVar, cast, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass

from quell import units

T = TypeVar("T")
_STRICT = pydantic.ConfigDict(extra="forbid", str_strip_whitespace=True)

LONGEST_STUDY = 40 * 366


@dataclass_transform(frozen_default=True, kw_only_default=True)
def promise(kind: type[T]) -> type[T]:
    """A frozen, keyword-only, validated declaration."""
    return cast(type[T], dataclass(kind, frozen=True, kw_only=True, config=_STRICT))


def duration(text: str | float) -> str:
    """The canonical spelling of a length of time: whole years where possible, else days."""
    length = units.days(text)
    years = length / units.DAYS_PER_YEAR
    return f"{years:.0f} years".replace("1 years", "1 year") if years == int(years) > 0 else f"{length:.12g} days"


def whole_days(text: str) -> int:
    """The last whole day within a length of time: 2 years is 730 days.

    >>> whole_days("2 years"), whole_days("8 weeks")
    (730, 56)
    """
    return math.floor(units.days(text))


@promise
class Drug:
    """A drug, and what its mass means biologically, as in ``potency = "18 MIU = 1.1 mg"``."""

    name: str
    description: str = ""
    potency: str = ""

    def canonical(self, amount: str) -> str:
        """An amount of this drug in one unit, so that micrograms and international units are one dose."""
        found = units.quantity(amount, "biological dose", "biological dose per area", "mass", "mass per area")
        if self.potency and found.dimension.startswith("mass"):
            per_mg = self._biological_per_milligram()
            dimension = found.dimension.replace("mass", "biological dose")
            found = units.Quantity(units.exactly(float(f"{found.value * per_mg:.9g}")), dimension)
        return str(found)

    def _biological_per_milligram(self) -> float:
        left, _, right = self.potency.partition("=")
        return units.quantity(left, "biological dose").value / units.quantity(right, "mass").value

    @pydantic.field_validator("potency")
    @classmethod
    def _readable(cls, potency: str) -> str:
        if potency:
            left, equals, right = potency.partition("=")
            if not equals:
                raise ValueError(f"'{potency}' is not a potency. Write it as '18 MIU = 1.1 mg'.")
            units.quantity(left, "biological dose")
            units.quantity(right, "mass")
        return potency


@promise
class Dose:
    """One dosing pattern: how much, of what, by which route, on which study days (day 1 is the first dose)."""

    drug: str
    amount: str
    days: str
    route: Literal["subcutaneous", "intravenous", "oral", "transdermal", "intramuscular", "inhaled"] = "subcutaneous"

    @property
    def quantity(self) -> units.Quantity:
        return units.quantity(self.amount)

    @property
    def on(self) -> tuple[int, ...]:
        """The study days of the doses."""
        return units.day_pattern(self.days)

    @pydantic.field_validator("amount")
    @classmethod
    def _amount(cls, amount: str) -> str:
        found = units.quantity(amount, "biological dose", "biological dose per area", "mass", "mass per area")
        if found.value < 0:
            raise ValueError(f"'{amount}' is negative. A placebo is 0.")
        return str(found)

    @pydantic.field_validator("days", mode="before")
    @classmethod
    def _days(cls, days: Any) -> str:
        pattern = units.day_pattern(str(days))
        if pattern[0] < 1:
            raise ValueError(f"'{days}' doses on day {pattern[0]}, before the first day of treatment. Begin at day 1.")
        if pattern[-1] > LONGEST_STUDY:
            raise ValueError(f"'{days}' doses on day {pattern[-1]}, after {LONGEST_STUDY} days. Is that a slip?")
        return units.write_days(pattern)


@promise
class Arm:
    """One arm: its doses, or ``untreated = true`` where the arm gets nothing by design."""

    name: str
    label: str = ""
    doses: tuple[Dose, ...] = ()
    control: bool = False
    untreated: bool = False
    level: float | None = None  # the dose level used by a dose-response analysis

    @pydantic.model_validator(mode="after")
    def _dosed(self) -> Arm:
        if not self.doses and not self.untreated:
            raise ValueError(
                f"arm '{self.name}' has no doses. Add [[arms.doses]] with drug, amount, days; "
                "a placebo is a dose of amount 0, and an arm that gets nothing says untreated = true."
            )
        if self.doses and self.untreated:
            raise ValueError(f"arm '{self.name}' is untreated and has doses. Remove one of the two.")
        return self

    @property
    def shown(self) -> str:
        return self.label or self.name


@promise
class Criterion:
    """One rule of eligibility on a quantity known at screening; as in ``rule = "above 2 mg/L"``."""

    quantity: str
    rule: str
    source: str = ""

    @property
    def limit(self) -> units.Rule:
        return units.rule(self.rule)

    @pydantic.field_validator("rule")
    @classmethod
    def _rule(cls, rule: str) -> str:
        return str(units.rule(rule))


@promise
class Population:
    """Who is asked to take part, how many, where, and how fast they come."""

    description: str
    people: str = "ivory"  # the virtual population that stands for them
    planned: int = pydantic.Field(gt=0, le=1_000_000)
    sites: tuple[str, ...] = ("site 1",)
    per_month: float = pydantic.Field(default=2.0, gt=0)  # enrolled by all sites together
    start: str = "2020-01-01"
    eligibility: tuple[Criterion, ...] = ()

    @pydantic.field_validator("start")
    @classmethod
    def _date(cls, start: str) -> str:
        try:
            return datetime.date.fromisoformat(start).isoformat()
        except ValueError:
            raise ValueError(f"'{start}' is not a date. Write year-month-day, such as 2020-01-31.") from None


@promise
class Allocation:
    """How people are assigned to arms; ``ratio`` names each arm's share."""

    method: Literal["permuted blocks", "simple"] = "permuted blocks"
    ratio: dict[str, int] = dataclasses.field(default_factory=dict)
    strata: tuple[str, ...] = ()
    blocks: tuple[int, ...] = (4,)

    def __hash__(self) -> int:
        return hash((self.method, tuple(self.ratio.items()), self.strata, self.blocks))

    @pydantic.field_validator("ratio")
    @classmethod
    def _positive(cls, ratio: dict[str, int]) -> dict[str, int]:
        for arm, share in ratio.items():
            if not 1 <= share <= 20:
                raise ValueError(f"the share of '{arm}' is {share}. Write a whole number from 1 to 20.")
        return ratio


@promise
class Visit:
    """One planned visit: its study day, the days it may fall early or late, and what is done."""

    name: str
    day: int
    window: tuple[int, int] = (0, 0)
    kind: Literal["screening", "baseline", "treatment", "follow-up"] = "treatment"
    procedures: tuple[str, ...] = ()

    @pydantic.field_validator("day", mode="before")
    @classmethod
    def _day(cls, day: Any) -> int:
        return units.day(day)

    @pydantic.field_validator("window")
    @classmethod
    def _window(cls, window: tuple[int, int]) -> tuple[int, int]:
        if not window[0] <= 0 <= window[1]:
            raise ValueError(f"{list(window)} is not a window. Write [-2, 3]: two days early to three days late.")
        return window


@promise
class AnalysisSet:
    """A named part of the people randomised: by flags in the record, or by what the quell record says of them."""

    name: str
    description: str = ""
    flags: dict[str, str] = dataclasses.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.flags.items())))


@promise
class FollowUp:
    """Long follow-up after treatment: of whom, how many of them take part, and until when (from day 1)."""

    of: Literal["all randomised", "those who completed treatment"] = "all randomised"
    until: str
    participation: float = pydantic.Field(default=1.0, gt=0, le=1)
    landmarks: tuple[str, ...] = ()

    @property
    def days(self) -> int:
        return whole_days(self.until)

    @pydantic.field_validator("until")
    @classmethod
    def _until(cls, until: str) -> str:
        return duration(until)

    @pydantic.field_validator("landmarks")
    @classmethod
    def _landmarks(cls, landmarks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(duration(one) for one in landmarks)


@promise
class Assumption:
    """Something the sources do not give and the protocol supposes."""

    about: str
    text: str
    source: str = ""


@promise
class Readings:
    """Where one quantity stands in a foreign data set: which rows, which columns."""

    dataset: str
    quantity: str
    location: str = ""
    where: dict[str, str] = dataclasses.field(default_factory=dict)
    value: str = "AVAL"
    baseline: str = "BASE"
    visit: str = "AVISIT"
    day: str = "ADY"

    def __hash__(self) -> int:
        return hash((self.dataset, self.quantity, tuple(self.where.items())))


@promise
class Occurrences:
    """Where one kind of event stands in a foreign data set: time and censoring columns."""

    dataset: str
    event: str
    where: dict[str, str] = dataclasses.field(default_factory=dict)
    time: str = "AVAL"
    censored: str = "CNSR"

    def __hash__(self) -> int:
        return hash((self.dataset, self.event, tuple(self.where.items())))


@promise
class Source:
    """How the tables of a real study map to this protocol. CDISC names live here and in exchange, nowhere else."""

    standard: Literal["ADaM"] = "ADaM"
    subjects: str = "adsl"
    arm: str = "TRT01P"
    arms: dict[str, str] = dataclasses.field(default_factory=dict)
    columns: dict[str, str] = dataclasses.field(default_factory=dict)
    readings: tuple[Readings, ...] = ()
    events: tuple[Occurrences, ...] = ()

    def __hash__(self) -> int:
        return hash((self.standard, tuple(self.arms.items()), self.readings, self.events))

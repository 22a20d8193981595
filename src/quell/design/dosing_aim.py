"""What a dose and schedule shall do: benefit wanted, harm borne, what is worth what, and which schedules are tried."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pydantic

from quell import applicability, posterior, units
from quell.body import population
from quell.promises import duration, promise, whole_days
from quell.sentences import BadInput, explain, near

MOST_DOSES = 400  # injections in one schedule
MOST_SHAPES = 60


@promise
class Worth:
    """How many of each burden one prevented event outweighs; the answer says where it turns with this.

    Assumed, for no patient has been asked: an event costs half a year of healthy life, an injection ten minutes of it and a
    fever a third of a day, each rounded.

    >>> round(Worth().of(1.0, injections=10.0, fevers=0.1), 3)
    0.4
    """

    injections: float = pydantic.Field(default=25_000.0, gt=0)
    fevers: float = pydantic.Field(default=500.0, gt=0)

    def of(self, averted: float, *, injections: float, fevers: float) -> float:
        """Events averted per 1000 people, less what injections and fevers (per person) cost in the same unit."""
        return averted - 1000 * (injections / self.injections + fevers / self.fevers)


@promise
class Limits:
    """What the average patient may bear, and the response that must be reached; rises are shares of the value on day 1.

    ``teff`` and ``nk``: the highest rise of effector T and natural killer cells; ``treg``: the mean rise of regulatory T
    cells while dosing, at least; ``fever`` and ``hypereosinophilia`` (above 1,500/µL): shares of patients. The defaults are assumed.
    """

    treg: float | None = pydantic.Field(default=None, gt=0, le=20)
    teff: float | None = pydantic.Field(default=0.10, gt=0, le=20)
    nk: float | None = pydantic.Field(default=None, gt=0, le=20)
    fever: float | None = pydantic.Field(default=None, gt=0, le=1)
    hypereosinophilia: float | None = pydantic.Field(default=0.05, gt=0, le=1)


class Shape(NamedTuple):
    """When a schedule injects: so many daily loading doses, then one every ``interval`` days (0: none) until day ``course``."""

    loading: int
    interval: int
    course: int

    @property
    def days(self) -> tuple[int, ...]:
        """The study days of the injections.

        >>> Shape(5, 7, 56).days[-2:]
        (47, 54)
        """
        first = tuple(range(1, 1 + max(self.loading, 1)))
        later = range(first[-1] + self.interval, self.course + 1, self.interval) if self.interval else ()
        return (*first, *later)

    @property
    def text(self) -> str:
        """The days as one writes them: 1..5, 12..54 every 7."""
        return units.write_days(self.days)

    @property
    def words(self) -> str:
        """In words, for tables and axes.

        >>> Shape(5, 7, 56).words, Shape(0, 28, 730).words
        ('5 daily, then every 7 days to day 54', 'every 28 days to day 729')
        """
        if not self.interval:
            return f"{self.loading} daily doses and no more"
        rhythm = f"every {self.interval} days to day {self.days[-1]}"
        return f"{self.loading} daily, then {rhythm}" if self.loading > 1 else rhythm


@promise
class Aim:
    """What is sought: the schedule whose benefit over ``horizon``, less its burden at ``worth``, is greatest within ``limits``.

    The dose of an injection is continuous; ``loading``, ``intervals`` (days) and ``courses`` are tried in every combination,
    and loading alone.
    ``beyond``: doses above the highest low dose studied are tried too, up to those with published kinetics.
    ``draws`` sets of constants as the evidence leaves them at ``stage``, each with the same ``people``.

    >>> len(Aim().shapes), Aim().doses
    (25, (0.08, 3.0))
    """

    horizon: str = "2 years"
    population: str = "ivory"
    stage: str = "after-ivory"
    without: Literal["", "efficacy", "drug"] = ""
    benefit: Literal["infarction", "MACE"] = "infarction"
    loading: tuple[int, ...] = (0, 5)
    intervals: tuple[int, ...] = (3, 7, 14, 28)
    courses: tuple[str, ...] = ("8 weeks", "6 months", "2 years")
    beyond: bool = False
    limits: Limits = Limits()
    worth: Worth = Worth()
    draws: int = pydantic.Field(default=64, ge=4, le=500)
    people: int = pydantic.Field(default=16, ge=4, le=500)

    @property
    def days(self) -> int:
        """The horizon in whole days."""
        return whole_days(self.horizon)

    @property
    def doses(self) -> tuple[float, float]:
        """The least and the greatest dose that are tried, 10^6 IU."""
        return applicability.DOSE.low, applicability.KINETICS.high if self.beyond else applicability.DOSE.high

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every schedule that is tried, each once; two that inject on the same days are one."""
        made = [Shape(loading, 0, loading) for loading in self.loading if loading > 1]
        made += [
            Shape(loading, interval, whole_days(course))
            for course in self.courses
            for interval in self.intervals
            for loading in self.loading
        ]
        return tuple({shape.days: shape for shape in made if shape.days[-1] <= self.days}.values())

    @pydantic.field_validator("horizon")
    @classmethod
    def _horizon(cls, horizon: str) -> str:
        if not 28 <= units.days(horizon) <= 3660:
            raise ValueError(f"'{horizon}' lies outside 4 weeks to 10 years. Write a horizon such as '2 years'.")
        return duration(horizon)

    @pydantic.field_validator("courses")
    @classmethod
    def _courses(cls, courses: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(duration(one) for one in courses)

    @pydantic.field_validator("population")
    @classmethod
    def _population(cls, name: str) -> str:
        if name not in population.POPULATIONS:
            raise ValueError(f"'{name}' is no population. {near(name, population.POPULATIONS)}")
        return name

    @pydantic.field_validator("stage")
    @classmethod
    def _stage(cls, stage: str) -> str:
        if stage not in posterior.STAGES:
            raise ValueError(f"there is no world '{stage}'. {near(stage, posterior.STAGES)}")
        return stage

    @pydantic.field_validator("loading")
    @classmethod
    def _loading(cls, loading: tuple[int, ...]) -> tuple[int, ...]:
        if not loading or not all(0 <= one <= 28 for one in loading):
            raise ValueError(f"loading is {list(loading)}: whole numbers of daily doses from 0 to 28, such as [0, 5].")
        return loading

    @pydantic.field_validator("intervals")
    @classmethod
    def _intervals(cls, intervals: tuple[int, ...]) -> tuple[int, ...]:
        if not intervals or not all(1 <= one <= 365 for one in intervals):
            raise ValueError(f"intervals are {list(intervals)}: whole days from 1 to 365, such as [7, 14].")
        return intervals

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Aim:
        shapes = self.shapes
        if not shapes:
            raise ValueError(
                f"no schedule ends within the horizon of {self.horizon}: the courses are {', '.join(self.courses)}. "
                "Shorten them, or lengthen the horizon."
            )
        if len(shapes) > MOST_SHAPES:
            raise ValueError(f"{len(shapes)} schedules are asked for; at most {MOST_SHAPES} are tried. Name fewer.")
        longest = max(shapes, key=lambda one: len(one.days))
        if len(longest.days) > MOST_DOSES:
            raise ValueError(
                f"'{longest.words}' has {len(longest.days)} injections; at most {MOST_DOSES} are tried. "
                "Lengthen the interval or shorten the course."
            )
        return self


# -- from the words of a command line ----------------------------------------------------------------------------------
_BURDEN = re.compile(r"\s*([\d,]+(?:\.\d+)?)\s*(\w+)\s*")
_LIMIT = re.compile(r"\s*([\w-]+)\s*=\s*(?:(none)|(\d+(?:\.\d+)?)\s*(%?))\s*")


def ask(**asked: Any) -> Aim:
    """An aim from what was asked; raises BadInput, in sentences, where ``Aim`` would refuse it.

    >>> ask(horizon="1 year", courses=("8 weeks",)).days
    365
    """
    try:
        return Aim(**asked)
    except pydantic.ValidationError as error:
        raise BadInput(explain(error, Aim, asked, "optimise")) from None
    except units.UnitError as error:
        raise BadInput(str(error)) from None


def burden(text: str) -> Worth:
    """What one prevented event outweighs, as in "25000 injections; 500 fevers"; what is not named keeps its default.

    Raises BadInput, in a sentence, where it cannot be read.

    >>> burden("10,000 injections")
    Worth(injections=10000.0, fevers=500.0)
    """
    given: dict[str, float] = {}
    for part in text.split(";"):
        found, known = _BURDEN.fullmatch(part), ("injections", "fevers")
        if not found:
            raise BadInput(f"--burden: '{part.strip()}' cannot be read. Write it as '25000 injections; 500 fevers'.")
        if found[2] not in known:
            raise BadInput(f"--burden: '{found[2]}' is not priced. {near(found[2], known)}")
        given[found[2]] = float(found[1].replace(",", ""))
    if min(given.values()) <= 0:
        raise BadInput("--burden: one prevented event outweighs more than nothing. Write a number above 0.")
    return Worth(**given)


def limits(texts: Sequence[str]) -> Limits:
    """Limits as in "teff=10 %" or "hypereosinophilia=none"; what is not named keeps its default.

    Raises BadInput, in a sentence, where one cannot be read.

    >>> limits(["teff=20 %", "treg=0.5"]).teff
    0.2
    """
    known, given = tuple(Limits.__dataclass_fields__), dict[str, float | None]()
    for text in texts:
        found = _LIMIT.fullmatch(text)
        if not found:
            raise BadInput(f"--limit: '{text}' cannot be read. Write it as 'teff=10 %', or 'teff=none'.")
        if found[1] not in known:
            raise BadInput(f"--limit: '{found[1]}' is no limit. {near(found[1], known)}")
        given[found[1]] = None if found[2] else float(found[3]) / (100 if found[4] else 1)
    try:
        return Limits(**given)
    except pydantic.ValidationError as error:
        raise BadInput(explain(error, Limits, given, "--limit")) from None

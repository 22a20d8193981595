"""What is supposed of a country: every input with its unit, spread, source, date and status, and what is not known.

The spread of an input is turned into a distribution by the usual moments (Briggs, Claxton and Sculpher 2006, chapter
4): shares are beta, costs gamma, ratios lognormal. ``draw`` gives each input's values by its own address, so that one
input more, or another spread of one, leaves the draws of all others as they were.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import math
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
import pydantic
from scipy import special, stats

from quell import evidence, keys
from quell.promises import promise
from quell.sentences import BadInput, explain, near, read_toml

COUNTRIES = ("uk",)
Z = float(special.ndtri(0.975))
NEEDED = (
    *("admissions", "survive", "eligible", "uptake", "ramp_years", "age", "women"),
    *("repeat_men_year_1", "repeat_men_year_7", "repeat_women_year_1", "repeat_women_year_7", "trend", "again"),
    *("fatal_men", "fatal_women", "mortality_first", "mortality_repeat", "cardiovascular_share", "wane_years"),
    *("quality_infarction", "quality_gain", "quality_repeat"),
    *("cost_infarction", "cost_second_year", "cost_third_year", "cost_cardiovascular_death", "cost_other_death"),
    *("cost_year", "discount", "worth_low", "worth_high", "decision_years"),
)
SHARES = frozenset(("share", "risk"))


class ImpactError(BadInput):
    """Inputs or an effect from which nothing can be said of a country, in sentences."""


@promise
class Input:
    """One number: its value, unit, spread (95 % limits; for uniform the ends), where it is from and how it is known."""

    name: str = pydantic.Field(pattern=r"^[a-z][a-z0-9_]*$")
    meaning: str = pydantic.Field(min_length=1)
    value: float
    unit: str = pydantic.Field(min_length=1)
    status: Literal["sourced", "derived", "assumed"]
    source: str = pydantic.Field(min_length=1)
    date: str = pydantic.Field(min_length=4)
    spread: Literal["held", "normal", "lognormal", "beta", "gamma", "uniform"] = "held"
    lower: float | None = None
    upper: float | None = None
    evidence: tuple[str, ...] = ()
    note: str = ""

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Input:
        if not math.isfinite(self.value) or self.value < 0:
            raise ValueError(f"'{self.name}' is {self.value:g}. Write a number of 0 or more.")
        if self.unit in SHARES and self.value > 1:
            raise ValueError(
                f"'{self.name}' is {self.value:g}, and a {self.unit} is at most 1. Is it in per cent? Divide by 100."
            )
        if self.spread == "held":
            if self.lower is not None or self.upper is not None:
                raise ValueError(f"'{self.name}' is held and has limits. Say its spread, or remove them.")
            return self
        if self.lower is None or self.upper is None or not self.lower <= self.value <= self.upper:
            raise ValueError(
                f"'{self.name}' is {self.spread} around {self.value:g}: it needs lower and upper on either side."
            )
        if self.spread in ("lognormal", "gamma") and not self.lower > 0:
            raise ValueError(f"'{self.name}' is {self.spread}, so that its lower limit lies above 0.")
        if self.spread == "beta" and not (self.lower > 0 and self.upper < 1):
            raise ValueError(f"'{self.name}' is beta, so that its limits lie between 0 and 1.")
        for one in self.evidence:
            evidence.figure(one)
        return self

    @property
    def error(self) -> float:
        """The standard error that the 95 % limits imply."""
        return 0.0 if self.lower is None or self.upper is None else (self.upper - self.lower) / (2 * Z)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        """Values at probabilities p, of the same shape; all the same where the input is held.

        >>> cost = Input(name="cost", meaning="care", value=710, unit="GBP", spread="gamma", lower=460, upper=970,
        ...              status="sourced", source="a paper", date="2020")
        >>> np.round(cost.quantile(np.array([0.5])))
        array([702.])
        """
        se, mean = self.error, self.value
        match self.spread:
            case "held":
                return np.full(np.shape(p), mean)
            case "uniform":
                return np.asarray(self.lower + (self.upper - self.lower) * p)  # type: ignore[operator]
            case "normal":
                return mean + se * special.ndtri(p)
            case "lognormal":
                return mean * np.exp(math.log(self.upper / self.lower) / (2 * Z) * special.ndtri(p))  # type: ignore[operator]
            case "beta":
                size = mean * (1 - mean) / se**2 - 1
                return stats.beta.ppf(p, mean * size, (1 - mean) * size)
            case _:
                return stats.gamma.ppf(p, (mean / se) ** 2, scale=se**2 / mean)


@promise
class Gap:
    """Something the answer would need and nobody knows."""

    about: str = pydantic.Field(min_length=1)
    text: str = pydantic.Field(min_length=1)


@promise
class Check:
    """A published risk that no input follows from, for the model without treatment to be held against."""

    what: Literal["deaths", "first", "cardiovascular_deaths"]
    years: int = pydantic.Field(ge=1, le=30)
    value: float = pydantic.Field(gt=0, lt=1)
    lower: float
    upper: float
    source: str = pydantic.Field(min_length=1)


@promise
class LifeTable:
    """Deaths per person-year of men and women, by age from ``first_age`` on."""

    first_age: int = pydantic.Field(ge=0, le=60)
    men: tuple[float, ...] = pydantic.Field(min_length=41)
    women: tuple[float, ...] = pydantic.Field(min_length=41)
    source: str = pydantic.Field(min_length=1)
    date: str = pydantic.Field(min_length=4)
    note: str = ""

    @pydantic.model_validator(mode="after")
    def _even(self) -> LifeTable:
        if len(self.men) != len(self.women):
            raise ValueError(f"the life table has {len(self.men)} ages of men and {len(self.women)} of women.")
        if not all(0 < one < 2 for one in (*self.men, *self.women)):
            raise ValueError("the life table's rates are deaths per person-year: each lies between 0 and 2.")
        return self

    @property
    def last_age(self) -> int:
        return self.first_age + len(self.men) - 1

    def rate(self, age: float, *, women: bool) -> float:
        """Deaths per person-year at an age; the last one holds for all later ages.

        >>> Inputs.load().life_table.rate(67.4, women=False)
        0.014892
        """
        column = self.women if women else self.men
        return column[min(max(math.floor(age) - self.first_age, 0), len(column) - 1)]


@promise
class Inputs:
    """All that is supposed of a country. ``load`` reads it, ``but`` gives one with other values."""

    name: str = pydantic.Field(min_length=1)
    title: str = pydantic.Field(min_length=1)
    currency: str = "GBP"
    symbol: str = "£"
    price_year: int
    date: str
    inputs: tuple[Input, ...]
    life_table: LifeTable
    gaps: tuple[Gap, ...] = ()
    checks: tuple[Check, ...] = ()

    @classmethod
    def load(cls, path: str | pathlib.Path | None = None) -> Inputs:
        """The inputs of a TOML file, or those shipped (None, or the name of a country); raises ImpactError in sentences.

        >>> Inputs.load()["admissions"].value
        105120.0
        """
        if path is None or str(path) in COUNTRIES:
            return _shipped()
        place = pathlib.Path(path)
        if not place.suffix and not place.exists():
            raise ImpactError(
                f"there are no inputs for '{path}'. {near(str(path), COUNTRIES)} "
                "For another country copy the shipped file and say its own numbers: quell impact --inputs mine.toml"
            )
        return _read(place)

    def __getitem__(self, name: str) -> Input:
        for one in self.inputs:
            if one.name == name:
                return one
        raise ImpactError(f"there is no input '{name}'. {near(name, NEEDED)}")

    def but(self, **values: float) -> Inputs:
        """The same with other values, each held at what is said and marked as assumed.

        >>> Inputs.load().but(uptake=0.8)["uptake"].value
        0.8
        """
        for name in values:
            self[name]
        told = [
            dataclasses.replace(
                one,
                value=float(values[one.name]),
                spread="held",
                lower=None,
                upper=None,
                evidence=(),
                status="assumed",
                source="given by the user",
            )
            if one.name in values
            else one
            for one in self.inputs
        ]
        return dataclasses.replace(self, inputs=tuple(told))

    @property
    def values(self) -> dict[str, float]:
        """The value of each input."""
        return {one.name: one.value for one in self.inputs}

    def draw(self, draws: int, *, key: int) -> dict[str, np.ndarray]:
        """Values of every input, each of shape (draws,): stratified, so that even few draws have the right spread.

        >>> drawn = Inputs.load().draw(100, key=1)
        >>> bool(np.ptp(drawn["age"]) == 0), round(float(drawn["trend"].mean()), 2)
        (True, 0.72)
        """
        return {one.name: one.quantile(_strata(draws, one.name, key)) for one in self.inputs}

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Inputs:
        names = [one.name for one in self.inputs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"'{twice}' is said twice. Keep one.")
        unknown = next((name for name in names if name not in NEEDED), None)
        if unknown:
            raise ValueError(f"'{unknown}' is not an input that quell knows. {near(unknown, NEEDED)}")
        missing = next((name for name in NEEDED if name not in names), None)
        if missing:
            raise ValueError(f"'{missing}' is missing. Add it to [[inputs]], with its source or as assumed.")
        for who in ("men", "women"):
            first, seventh = self[f"repeat_{who}_year_1"].value, self[f"repeat_{who}_year_7"].value
            if not 0 < first < seventh < 1:
                raise ValueError(f"the risks of {who} are {first:g} by 1 year and {seventh:g} by 7: they must rise.")
        if not self.life_table.first_age <= self["age"].value < self.life_table.last_age:
            raise ValueError(
                f"the age {self['age'].value:g} is outside the life table, which runs from {self.life_table.first_age} "
                f"to {self.life_table.last_age}."
            )
        return self


def _strata(draws: int, name: str, key: int) -> np.ndarray:
    """One probability from each of so many equal strata, in an order of its own; shape (draws,)."""
    here = keys.at(key, "impact", name)
    order = np.asarray(jax.random.permutation(keys.at(here, "order"), draws))
    within = np.asarray(jax.random.uniform(keys.at(here, "within"), (draws,)))
    return np.clip((order + within) / draws, 1e-12, 1 - 1e-12)


@functools.cache
def _shipped() -> Inputs:
    return _read(pathlib.Path(str(importlib.resources.files("quell.impact") / "impact.toml")))


def _read(place: pathlib.Path) -> Inputs:
    declared: Mapping[str, Any] = read_toml(place)
    try:
        return Inputs(**declared)
    except pydantic.ValidationError as error:
        raise ImpactError(explain(error, Inputs, declared, place.name)) from None

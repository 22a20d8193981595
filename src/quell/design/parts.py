"""The parts of a design: who comes and how fast, the worlds it is tried in, when it is looked at, and by what rules it ends.

Each is a value, validated at birth, that only says; what is done with it stands in `recruit`, `cut`, `judge`, `adapt`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pydantic

from quell import units
from quell.analysis.claim import ClaimError
from quell.analysis.spending import NEEDS, spending
from quell.design.worlds import Assumed, Marker, Ratio, Reading, World
from quell.promises import Criterion, duration, promise
from quell.sentences import near

__all__ = [
    "Allocation",
    "Assumed",
    "Change",
    "Costs",
    "Criterion",
    "Dropout",
    "Efficacy",
    "Futility",
    "Harm",
    "Look",
    "Marker",
    "Primary",
    "Prior",
    "Ratio",
    "Reading",
    "Recruitment",
    "Secondary",
    "Test",
    "Variant",
    "World",
]

MOST_SITES = 5_000


# -- who comes ---------------------------------------------------------------------------------------------------------
@promise
class Change:
    """A factor on a rate from some time on (0 at first: ``after = "0 days"``)."""

    after: str = "0 days"
    times: float = pydantic.Field(ge=0, le=100)

    @property
    def day(self) -> float:
        return units.days(self.after)

    @pydantic.field_validator("after")
    @classmethod
    def _after(cls, after: str) -> str:
        return duration(after) if units.days(after) else "0 days"


@promise
class Recruitment:
    """How people come: sites open evenly over ``opening``, each then enrols ``per_site_per_month``.

    ``changes`` are factors on every site's rate over calendar time. Sites differ by a gamma with this coefficient of
    variation, drawn anew in each trial (``spread``; Anisimov and Fedorov 2007, doi:10.1002/sim.2956).
    """

    sites: int = pydantic.Field(default=1, ge=1, le=MOST_SITES)
    per_site_per_month: float = pydantic.Field(gt=0, le=10_000)
    opening: str = "0 days"
    spread: float = pydantic.Field(default=0.0, ge=0, le=3)
    changes: tuple[Change, ...] = ()
    source: str = ""

    @property
    def opening_days(self) -> np.ndarray:
        """The calendar day on which each site opens, (sites,): the first on day 0, the last at the end of ``opening``."""
        return np.linspace(0.0, units.days(self.opening), self.sites) if self.sites > 1 else np.zeros(1)

    @pydantic.field_validator("opening")
    @classmethod
    def _opening(cls, opening: str) -> str:
        return duration(opening) if units.days(opening) else "0 days"


@promise
class Allocation:
    """How people are assigned; the ratio stands in the order of control and active arms, 1 each unless said."""

    method: Literal["permuted blocks", "simple"] = "permuted blocks"
    ratio: tuple[int, ...] = ()
    block: int = pydantic.Field(default=0, ge=0, le=100)  # 0: twice the sum of the ratio
    within: Literal["trial", "site"] = "site"  # what has blocks of its own


@promise
class Dropout:
    """How people are lost to follow-up: at an even rate, the share lost in a year, another one in arms named ``by_arm``."""

    per_year: float = pydantic.Field(default=0.0, ge=0, lt=1)
    by_arm: dict[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""

    def __hash__(self) -> int:
        return hash((self.per_year, tuple(self.by_arm.items())))

    def rates(self, arms: tuple[str, ...]) -> np.ndarray:
        """Per day, (arms,).

        >>> Dropout(per_year=0.02).rates(("placebo",)).round(7).tolist()
        [5.53e-05]
        """
        share = np.array([self.by_arm.get(arm, self.per_year) for arm in arms])
        return -np.log1p(-share) / units.DAYS_PER_YEAR

    @pydantic.field_validator("by_arm")
    @classmethod
    def _shares(cls, by_arm: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= one < 1 for one in by_arm.values()):
            raise ValueError(f"the yearly losses are {by_arm}. Each lies between 0 and 1.")
        return by_arm


# -- what is asked, of how many ----------------------------------------------------------------------------------------
@promise
class Primary:
    """What the trial is about: an ``endpoint`` of the protocol that is a time to an event, or a ``reading`` of the bank."""

    endpoint: str = ""
    reading: str = ""
    baseline: str = ""  # the reading that an analysis of covariance adjusts for
    day: int = pydantic.Field(default=61, ge=1)  # study day of the reading
    better: Literal["lower", "higher"] = "lower"

    @pydantic.model_validator(mode="after")
    def _one(self) -> Primary:
        if bool(self.endpoint) == bool(self.reading):
            raise ValueError('the primary is an endpoint = "MACE" or a reading = "TBRmax, day 61". Say one of them.')
        return self


@promise
class Variant:
    """One size of the design: people randomised, and the events at the last look where the looks go by events."""

    people: int = pydantic.Field(ge=4, le=200_000)
    events: int | None = pydantic.Field(default=None, ge=1, le=200_000)

    @property
    def name(self) -> str:
        """
        >>> Variant(people=3000, events=331).name
        '3,000 people, 331 events'
        """
        return f"{self.people:,} people" + (f", {self.events:,} events" if self.events else "")


# -- looks, limits, tests ----------------------------------------------------------------------------------------------
@promise
class Look:
    """When the data are cut: at a number of ``events`` (or a ``fraction`` of the last look's), a calendar ``day``, or when
    a ``people`` share of those planned has been followed up (measured endpoints). The last look says how the trial ends;
    ``latest`` is the calendar time at which the look is held although too few events have come.
    """

    events: int | None = pydantic.Field(default=None, ge=1, le=1_000_000)
    fraction: float | None = pydantic.Field(default=None, gt=0, le=1)
    day: str = ""
    people: float | None = pydantic.Field(default=None, gt=0, le=1)
    latest: str = ""
    efficacy: bool = True
    futility: bool = True

    @property
    def calendar(self) -> float:
        return units.days(self.day)

    @property
    def clock(self) -> str:
        """What it goes by: events, fraction, day or people."""
        return next(name for name in ("events", "fraction", "day", "people") if getattr(self, name))

    def target(self, total: int | None) -> int:
        """How many events it waits for: its own number, or its fraction of the total.

        >>> Look(fraction=0.5).target(331)
        166
        """
        return round(self.fraction * (total or 0)) if self.fraction else int(self.events or 0)

    @pydantic.field_validator("day", "latest")
    @classmethod
    def _day(cls, day: str) -> str:
        return duration(day) if day else ""

    @pydantic.model_validator(mode="after")
    def _one_clock(self) -> Look:
        said = [name for name in ("events", "fraction", "day", "people") if getattr(self, name)]
        if len(said) != 1:
            found = " and ".join(said) or "nothing"
            raise ValueError(f"a look is at events, fraction, day or people; here it says {found}. Say one of them.")
        return self


@promise
class Prior:
    """What is believed of the effect on its working scale (log hazard ratio, or difference): normal."""

    mean: float = 0.0
    sd: float = pydantic.Field(default=10.0, gt=0)
    source: str = ""


SPENDING = tuple(NEEDS)


@promise
class Efficacy:
    """How success is claimed.

    ``spending``: the error is spent by ``function`` (with ``parameter``); ``shape``: limits c t^(shape - 1/2);
    ``haybittle-peto``: Z above ``early`` before the last look; ``posterior``: the chance of benefit under ``prior`` is at
    least ``chance`` (one for each look, or one). Only the first three keep the level by construction.
    """

    by: Literal["spending", "shape", "haybittle-peto", "posterior"] = "spending"
    function: str = "obrien-fleming"
    parameter: tuple[float, ...] = ()
    shape: float = 0.0
    early: float = pydantic.Field(default=3.0, gt=0)
    chance: tuple[float, ...] = ()
    prior: Prior | None = None
    benefit: float = 0.0  # the effect that must be passed: log hazard ratio, or difference, in favour

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Efficacy:
        _function_known(self.function, self.parameter)
        if (self.by == "posterior") != bool(self.chance):
            raise ValueError('efficacy by = "posterior" needs chance = [0.99, ...], and no other rule takes it.')
        if any(not 0.5 < one < 1 for one in self.chance):
            raise ValueError(f"the chances are {list(self.chance)}. Each lies between 0.5 and 1.")
        return self


@promise
class Futility:
    """How the trial stops for want of benefit; not ``binding`` unless said: success is judged as if it were overruled.

    ``spending``: the type II error (1 - ``power``) is spent by ``function``; ``conditional power`` (under the trend, or
    under ``ratio``), ``predictive power`` (under ``prior``, or a flat one), ``z``: below ``limit`` (one for each early look, or one).
    """

    by: Literal["spending", "conditional power", "predictive power", "z"] = "spending"
    function: str = "hwang-shih-decani"
    parameter: tuple[float, ...] = (-2.0,)
    power: float = pydantic.Field(default=0.9, gt=0.5, lt=1)
    limit: tuple[float, ...] = ()
    ratio: float | None = pydantic.Field(default=None, gt=0)
    prior: Prior | None = None
    binding: bool = False

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Futility:
        if self.function in NEEDS and not NEEDS[self.function][0]:
            object.__setattr__(self, "parameter", ())
        _function_known(self.function, self.parameter)
        if (self.by != "spending") != bool(self.limit):
            raise ValueError(
                f'futility by = "{self.by}" and limit = {list(self.limit)} do not fit: {_LIMITS[self.by]}.'
            )
        if "power" in self.by and any(not 0 < one < 1 for one in self.limit):
            raise ValueError(f"the limits of {self.by} are {list(self.limit)}. Each lies between 0 and 1.")
        if self.binding and self.by not in ("spending", "z"):
            raise ValueError(f'futility by = "{self.by}" cannot be binding. Use z or spending, or binding = false.')
        return self


_LIMITS = {
    "spending": "spending needs no limit",
    "conditional power": "write limit = [0.1]",
    "predictive power": "write limit = [0.05]",
    "z": "write limit = [0.0]",
}


@promise
class Harm:
    """Stopping because the active arm is worse: its own error, spent by a function."""

    level: float = pydantic.Field(default=0.025, gt=0, lt=0.5)
    function: str = "pocock"
    parameter: tuple[float, ...] = ()

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Harm:
        _function_known(self.function, self.parameter)
        return self


def _function_known(function: str, parameter: tuple[float, ...]) -> None:
    """Raises ValueError, in a sentence, where the spending function or its parameters are impossible."""
    if function not in NEEDS:
        raise ValueError(f"there is no spending function '{function}'. {near(function, NEEDS)}")
    try:
        spending(function, 0.025, parameter or None)
    except ClaimError as error:
        raise ValueError(str(error)) from None


@promise
class Test:
    """The primary test. ``weighted`` is Fleming and Harrington's G(rho, gamma); ``win ratio`` compares ``levels`` in order.

    ``until`` is the horizon of a restricted mean. ``stratified``: sites or entry-limits are not strata unless said.
    """

    __test__ = False  # no test of pytest's

    method: Literal[
        "log-rank", "weighted log-rank", "max-combo", "cox", "restricted mean", "ancova", "difference", "win ratio"
    ] = "log-rank"
    rho: float = pydantic.Field(default=0.0, ge=0, le=5)
    gamma: float = pydantic.Field(default=0.0, ge=0, le=5)
    until: str = ""
    levels: tuple[str, ...] = ()

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Test:
        if self.method == "restricted mean" and not self.until:
            raise ValueError('the restricted mean needs a horizon. Add until = "2 years".')
        if self.until:
            object.__setattr__(self, "until", duration(self.until))
        if (self.method == "win ratio") != bool(self.levels):
            raise ValueError(
                'the win ratio compares levels = ["death from any cause", "MACE"]; no other test has levels.'
            )
        return self

    @property
    def measured(self) -> bool:
        return self.method in ("ancova", "difference")


@promise
class Secondary:
    """Further endpoints after the primary has succeeded: each tested with Cox's score at the end, by a procedure.

    ``fixed sequence`` goes on until one fails; ``holm`` shares the level; ``graphical`` takes ``weights`` and
    ``transitions``; with ``co_primary`` the claim needs every one of them besides the primary.
    """

    endpoints: tuple[str, ...] = pydantic.Field(min_length=1, max_length=12)
    procedure: Literal["fixed sequence", "holm", "graphical"] = "fixed sequence"
    weights: tuple[float, ...] = ()
    transitions: tuple[tuple[float, ...], ...] = ()
    co_primary: bool = False

    @pydantic.model_validator(mode="after")
    def _drawn(self) -> Secondary:
        size = len(self.endpoints)
        if (self.procedure == "graphical") != bool(self.weights):
            raise ValueError(
                "the graphical procedure needs weights and transitions, and no other procedure takes them."
            )
        if self.weights and (len(self.weights) != size or {len(row) for row in self.transitions} != {size}):
            raise ValueError(f"a graph of {size} endpoints needs {size} weights and {size} rows of {size} transitions.")
        return self


@promise
class Costs:
    """What a trial costs: fixed, for each person screened and randomised, and for each month that it is open."""

    currency: str = "GBP"
    fixed: float = pydantic.Field(default=0.0, ge=0)
    per_screened: float = pydantic.Field(default=0.0, ge=0)
    per_person: float = pydantic.Field(default=0.0, ge=0)
    per_month: float = pydantic.Field(default=0.0, ge=0)
    source: str = ""

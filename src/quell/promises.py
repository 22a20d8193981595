"""The parts of a protocol: drug, dose, arm, visit, endpoint, estimand, analysis, and how a real study maps to them.

Each is a value, validated at birth. The form follows ICH E9(R1) for estimands and SPIRIT 2025 for content.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import Any, Literal, NamedTuple, TypeVar, cast, dataclass_transform

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
class Endpoint:
    """What is measured on each person, at its own scale.

    ``continuous``: a quantity at a visit. ``responder``: whether it keeps a rule. ``longitudinal``: at several visits, of
    which ``visit`` (the last, unless said) is compared. ``time-to-event``: the first of the ``components``; ``composite``
    is the same, said plainly; ``competing`` events end the time in which it could happen. ``recurrent``: every occurrence
    of the components. ``hierarchical``: other endpoints compared pair by pair of people, the first of ``levels`` first;
    a difference of at most ``margin`` in a measured level decides nothing.
    """

    name: str
    kind: Literal[
        "continuous", "responder", "longitudinal", "time-to-event", "composite", "recurrent", "hierarchical"
    ]
    quantity: str = ""
    location: str = ""
    visit: str = ""
    visits: tuple[str, ...] = ()
    scale: Literal["value", "change", "percent change", "ratio to baseline"] = "value"
    unit: str = ""
    responds: str = ""
    components: tuple[str, ...] = ()
    competing: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    margin: float | None = pydantic.Field(default=None, ge=0)
    better: Literal["lower", "higher"] = "lower"

    @property
    def timed(self) -> bool:
        return self.kind in ("time-to-event", "composite")

    @property
    def counted(self) -> bool:
        """Whether it is made of things that happen, once or again."""
        return self.timed or self.kind == "recurrent"

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Endpoint:
        needs = {
            "continuous": ("quantity", "visit"),
            "responder": ("quantity", "visit", "responds"),
            "longitudinal": ("quantity", "visits"),
            "time-to-event": ("components",),
            "composite": ("components",),
            "recurrent": ("components",),
            "hierarchical": ("levels",),
        }[self.kind]
        for field in needs:
            if not getattr(self, field):
                raise ValueError(f"a {self.kind} endpoint needs '{field}'. Add it.")
        if self.responds:
            units.rule(self.responds)
        if self.kind == "hierarchical":
            object.__setattr__(self, "better", "higher")  # more wins are better, whatever its levels count
        if self.kind == "longitudinal":
            object.__setattr__(self, "visit", self.visit or self.visits[-1])
            if self.visit not in self.visits:
                raise ValueError(f"'{self.visit}' is not among its visits. Add it, or leave visit out for the last one.")
        return self


@promise
class IntercurrentEvent:
    """Something that may happen after the start and changes what the endpoint means, and what is done about it.

    ``recorded`` names how the record shows it: kinds of events, "stopping treatment", or "already derived" where the
    values stand as the strategy wants them. Without it the strategy is only stated, and the claim says so.
    """

    event: str
    strategy: Literal["treatment policy", "hypothetical", "composite", "while on treatment", "principal stratum"]
    recorded: tuple[str, ...] = ()


LONGER_IS_BETTER = ("difference in restricted mean time", "ratio of restricted mean time")  # time free of an event
STOPPING = "stopping treatment"  # the one intercurrent event that milestones, not events, record
DERIVED = "already derived"


@promise
class Estimand:
    """The question in ICH E9(R1)'s five attributes: treatment, population, variable, intercurrent events, summary."""

    name: str
    endpoint: str
    active: tuple[str, ...]
    control: str
    population: str = "randomised"
    intercurrent_events: tuple[IntercurrentEvent, ...] = ()
    summary: Literal[
        "difference in means",
        "ratio of geometric means",
        "risk difference",
        "risk ratio",
        "hazard ratio",
        "difference in restricted mean time",
        "ratio of restricted mean time",
        "equality of survival",
        "equality of cumulative incidence",
        "slope on dose",
        "odds ratio",
        "subdistribution hazard ratio",
        "rate ratio",
        "difference in mean number of events",
        "win ratio",
        "win odds",
        "net benefit",
    ]
    until: str = ""  # the horizon of a risk, or of a restricted mean

    @pydantic.field_validator("until")
    @classmethod
    def _until(cls, until: str) -> str:
        return duration(until) if until else ""


class Way(NamedTuple):
    """A method: the summaries it estimates, and the kinds of endpoint it can read."""

    summaries: tuple[str, ...]
    kinds: tuple[str, ...]
    horizon: bool = False  # whether it needs the estimand's ``until``


MEASURED, TIMED, VISITS = ("continuous",), ("time-to-event", "composite"), ("longitudinal",)
MEAN, RISKS = "difference in means", ("risk difference", "risk ratio", "odds ratio")
METHODS: dict[str, Way] = {
    "ancova": Way((MEAN,), MEASURED),
    "robust ancova": Way((MEAN,), MEASURED),
    "ancova on logs": Way(("ratio of geometric means",), MEASURED),
    "two-sample t": Way((MEAN,), MEASURED),
    "slope on dose": Way(("slope on dose",), MEASURED),
    "mmrm": Way((MEAN,), VISITS),
    "conditional mean imputation": Way((MEAN,), VISITS),
    "multiple imputation": Way((MEAN,), VISITS),
    "score interval": Way(RISKS[:2], ("responder", *TIMED)),
    "fisher exact": Way(RISKS[:2], ("responder", *TIMED)),
    "stratified score interval": Way(RISKS[:1], ("responder", *TIMED)),
    "standardised logistic": Way(RISKS, ("responder", *TIMED)),
    "kaplan-meier difference": Way(RISKS[:1], TIMED, horizon=True),
    "aalen-johansen difference": Way(RISKS[:1], TIMED, horizon=True),
    "log-rank": Way(("equality of survival",), TIMED),
    "max-combo": Way(("equality of survival",), TIMED),
    "gray": Way(("equality of cumulative incidence",), TIMED),
    "cox": Way(("hazard ratio",), TIMED),
    "firth cox": Way(("hazard ratio",), TIMED),
    "fine-gray": Way(("subdistribution hazard ratio",), TIMED),
    "restricted mean": Way(
        ("difference in restricted mean time", "ratio of restricted mean time"), TIMED, horizon=True
    ),
    "proportional rates": Way(("rate ratio",), ("recurrent",)),
    "negative binomial": Way(("rate ratio",), ("recurrent",)),
    "mean cumulative function": Way(("difference in mean number of events",), ("recurrent",), horizon=True),
    "win statistics": Way(("win ratio", "win odds", "net benefit"), ("hierarchical",)),
}
NEEDS_COMPETING = ("aalen-johansen difference", "gray", "fine-gray")
IMPUTES = ("conditional mean imputation", "multiple imputation")


@promise
class Prior:
    """What is believed of an effect beforehand: normal, of the logarithm where the effect is a ratio.

    With ``vague_sd`` it is a robust mixture: ``weight`` is the share of this belief, and the rest a vague normal about no
    effect, so that data that disagree soon outweigh the belief (Schmidli et al. 2014).
    """

    mean: float = 0.0
    sd: float = pydantic.Field(gt=0)
    weight: float = pydantic.Field(default=1.0, gt=0, le=1)
    vague_sd: float | None = pydantic.Field(default=None, gt=0)
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Prior:
        if (self.weight < 1) != (self.vague_sd is not None):
            raise ValueError("a prior with a weight below 1 needs vague_sd for the rest, and the other way round.")
        return self


@promise
class Analysis:
    """How one estimand is estimated; exactly one analysis of a trial is primary.

    ``covariance`` (unstructured, unless said) and ``degrees`` (kenward-roger-linear) belong to ``mmrm``; ``assume`` (missing
    at random) and ``delta`` (added to what is imputed in the active arm) to the imputations. With a ``prior`` the claim is
    the posterior, given the method's estimate.
    """

    name: str
    estimand: str
    method: Literal[
        "ancova",
        "robust ancova",
        "ancova on logs",
        "two-sample t",
        "slope on dose",
        "mmrm",
        "conditional mean imputation",
        "multiple imputation",
        "score interval",
        "fisher exact",
        "stratified score interval",
        "standardised logistic",
        "kaplan-meier difference",
        "aalen-johansen difference",
        "log-rank",
        "max-combo",
        "gray",
        "cox",
        "firth cox",
        "fine-gray",
        "restricted mean",
        "proportional rates",
        "negative binomial",
        "mean cumulative function",
        "win statistics",
    ]
    role: Literal["primary", "secondary", "sensitivity", "supplementary", "exploratory"] = "secondary"
    adjust: tuple[str, ...] = ()  # covariates; "baseline" is the endpoint's own baseline
    factors: tuple[str, ...] = ()
    strata: tuple[str, ...] = ()
    level: float = pydantic.Field(default=0.95, gt=0.5, lt=1)
    covariance: Literal[
        "", "unstructured", "heterogeneous Toeplitz", "Toeplitz", "heterogeneous autoregressive", "autoregressive",
        "heterogeneous compound symmetry", "compound symmetry", "heterogeneous ante-dependence", "ante-dependence"
    ] = ""  # fmt: skip
    degrees: Literal[
        "", "satterthwaite", "kenward-roger", "kenward-roger-linear", "kenward-roger-sas", "empirical-jackknife"
    ] = ""  # fmt: skip
    assume: Literal[
        "", "missing at random", "jump to reference", "copy reference", "copy increments in reference"
    ] = ""  # fmt: skip
    delta: float | None = None
    prior: Prior | None = None  # makes the claim Bayesian


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

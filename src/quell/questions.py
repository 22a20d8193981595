"""The questions of a protocol: what is measured, which estimand is asked about, and by which method it is answered.

Estimands follow ICH E9(R1): treatment, population, variable, intercurrent events, summary.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import pydantic

from quell import units
from quell.promises import duration, promise


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
    kind: Literal["continuous", "responder", "longitudinal", "time-to-event", "composite", "recurrent", "hierarchical"]
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
                raise ValueError(
                    f"'{self.visit}' is not among its visits. Add it, or leave visit out for the last one."
                )
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
JOINT = ("log-rank", "gray", "slope on dose")  # compare every arm at once, and so make one claim
DIVIDES = ("ancova", "robust ancova", "cox", "firth cox", "score interval", "fisher exact")  # by subgroup
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
    subgroups: tuple[str, ...] = ()  # factors within whose levels the effect is shown, with a test of interaction
    modifiers: tuple[str, ...] = ()  # covariates with which the effect may grow; "baseline" is the endpoint's own


@promise
class Testing:
    """Several analyses under one error: which, by which procedure, and in which order.

    ``fixed sequence`` goes on until a test fails; ``co-primary`` needs every one. ``graphical`` gives each analysis a share
    of the error (``weights``) and says to whom it passes on once it has succeeded (``transitions``, a row for each; Bretz et
    al. 2009). Claims then carry an adjusted p, to be held against the error that belongs to their level.
    """

    procedure: Literal["fixed sequence", "bonferroni", "holm", "hochberg", "hommel", "graphical", "co-primary"]
    analyses: tuple[str, ...] = pydantic.Field(min_length=2)
    weights: tuple[float, ...] = ()
    transitions: tuple[tuple[float, ...], ...] = ()

    @pydantic.model_validator(mode="after")
    def _drawn(self) -> Testing:
        drawn, size = self.procedure == "graphical", len(self.analyses)
        if bool(self.weights) != drawn or bool(self.transitions) != drawn:
            raise ValueError(
                "the graphical procedure needs weights and transitions, and no other procedure takes them."
            )
        if drawn and (len(self.weights) != size or {len(row) for row in self.transitions} != {size}):
            raise ValueError(f"a graph of {size} analyses needs {size} weights and {size} rows of {size} transitions.")
        return self

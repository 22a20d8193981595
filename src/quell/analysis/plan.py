"""The protocol's analyses, carried out: from columns to claims. Blind: it sees the promise and the record, no more.

Every method takes the same request and gives one result per comparison, batched over trials. A study is a batch of none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from quell import outcomes, units
from quell.analysis import cox, means, proportions, survival
from quell.analysis.claim import Claim, Claims, Estimate, claim_from
from quell.promises import Analysis, Endpoint, Estimand
from quell.protocol import Protocol
from quell.study import Columns, Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One comparison to be made: which analysis of which estimand, for which arms, on which columns."""

    protocol: Protocol
    columns: Columns
    analysis: Analysis
    estimand: Estimand
    endpoint: Endpoint
    active: str
    include: np.ndarray

    @property
    def contrast(self) -> tuple[int, int]:
        names = self.columns.arms
        return names.index(self.active), names.index(self.estimand.control)

    @property
    def until(self) -> float:
        return float(int(units.days(self.estimand.until)))

    def outcome(self) -> np.ndarray:
        return outcomes.measured(self.protocol, self.columns, self.endpoint)

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        return self.columns.first(self.endpoint.components)

    def model(self) -> dict[str, Any]:
        """The covariates and factors of a linear model."""
        adjust = outcomes.adjusters(self.protocol, self.columns, self.analysis, self.endpoint)
        factors = outcomes.grouping(self.columns, (*self.analysis.factors, *self.analysis.strata))
        return {"covariates": adjust, "factors": factors, "include": self.include, "level": self.analysis.level}

    def comparison(self) -> dict[str, Any]:
        """Which arms are compared, among whom, at which level."""
        return {"contrast": self.contrast, "include": self.include, "level": self.analysis.level}

    def strata(self) -> np.ndarray | None:
        """One code for each combination of the strata; None where there are none."""
        codes = outcomes.grouping(self.columns, self.analysis.strata)
        if not codes:
            return None
        return np.ravel_multi_index([code + 1 for code in codes], [int(code.max()) + 2 for code in codes])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one analysis found, for one trial or many: the numbers, and the words that go with them."""

    name: str
    request: Request
    method: str
    estimate: Estimate
    scale: str
    unit: str
    arms: tuple[str, str] | None


def results(protocol: Protocol, columns: Columns) -> list[Result]:
    """Every declared analysis, for every comparison it makes; shapes follow the columns' leading axes."""
    return [result for analysis in protocol.analyses for result in _results(protocol, columns, analysis)]


def analyse(protocol: Protocol, study: Study) -> Claims:
    """The protocol's analyses of a study, real or simulated, as claims by name.

    Raises StudyError in a sentence where the study lacks what an analysis needs.
    """
    return Claims([_claim(result) for result in results(protocol, study.columns(protocol))])


def _results(protocol: Protocol, columns: Columns, analysis: Analysis) -> list[Result]:
    estimand = protocol.estimand(analysis.estimand)
    endpoint = protocol.endpoint(estimand.endpoint)
    include = outcomes.members(columns, estimand.population) & (columns.arm >= 0)
    single = analysis.method in ("log-rank", "slope on dose")
    found = []
    for active in estimand.active[:1] if single else estimand.active:
        request = Request(
            protocol=protocol,
            columns=columns,
            analysis=analysis,
            estimand=estimand,
            endpoint=endpoint,
            active=active,
            include=include,
        )
        several = len(estimand.active) > 1 and not single
        name = f"{analysis.name}: {active} against {estimand.control}" if several else analysis.name
        estimate, words = METHODS[analysis.method](request)
        paired = None if single and len(estimand.active) > 1 else (active, estimand.control)
        shown = None if paired is None or single else (protocol.arm(paired[0]).shown, protocol.arm(paired[1]).shown)
        found.append(
            Result(
                name=name,
                request=request,
                method=words,
                estimate=estimate,
                scale=SCALES[estimand.summary],
                unit=_unit(endpoint, estimand),
                arms=shown,
            )
        )
    return found


SCALES = {
    "difference in means": "difference",
    "ratio of geometric means": "ratio",
    "risk difference": "risk difference",
    "risk ratio": "risk ratio",
    "hazard ratio": "hazard ratio",
    "difference in restricted mean time": "difference",
    "equality of survival": "difference",
    "slope on dose": "difference",
}


def _unit(endpoint: Endpoint, estimand: Estimand) -> str:
    if estimand.summary == "difference in restricted mean time":
        return "days"
    if estimand.summary == "difference in means":
        return "%" if endpoint.scale == "percent change" else endpoint.unit
    return ""


def _claim(result: Result) -> Claim:
    request = result.request
    return claim_from(
        result.estimate,
        name=result.name,
        estimand=describe(request.estimand, request.endpoint),
        method=result.method,
        scale=result.scale,
        unit=result.unit,
        arms=result.arms,
        role=request.analysis.role,
        counts=_counts(request),
    )


def describe(estimand: Estimand, endpoint: Endpoint) -> str:
    """The estimand in words: its five attributes (ICH E9(R1)).

    >>> p = Protocol.load("ivory")
    >>> describe(p.estimands[6], p.endpoints[6])[:62]
    'risk difference in hsCRP below 2 mg/L at day 61, aldesleukin a'
    """
    what = endpoint.name if endpoint.timed else f"{endpoint.name} at {endpoint.visit}"
    scale = "" if endpoint.scale == "value" or endpoint.timed else f" ({endpoint.scale})"
    until = f" by {estimand.until}" if estimand.until else ""
    events = "; ".join(f"{one.event}: {one.strategy}" for one in estimand.intercurrent_events)
    return (
        f"{estimand.summary} in {what}{scale}{until}, {' and '.join(estimand.active)} against {estimand.control}, "
        f"in those {estimand.population}{f' ({events})' if events else ''}"
    )


def _counts(request: Request) -> tuple[tuple[str, float], ...]:
    """Events and people by arm, for endpoints that count."""
    arms = list(dict.fromkeys((*request.estimand.active, request.estimand.control)))
    if request.endpoint.timed:
        happened = request.times()[1].astype(float)
    elif request.endpoint.kind == "responder":
        happened = request.outcome()
    else:
        return ()
    rows: list[tuple[str, float]] = []
    for arm in arms:
        who = request.include & (request.columns.arm == request.columns.arms.index(arm)) & ~np.isnan(happened)
        rows += [(f"{arm} events", float(happened[who].sum())), (f"{arm} people", float(who.sum()))]
    return tuple(rows)


# -- the methods -------------------------------------------------------------------------------------------------------
def _ancova(request: Request) -> tuple[Estimate, str]:
    found = means.ancova(request.outcome(), request.columns.arm, contrast=request.contrast, **request.model())
    return found, f"analysis of covariance (least squares){_adjusted(request)}"


def _ancova_on_logs(request: Request) -> tuple[Estimate, str]:
    model = request.model()
    before = outcomes.baseline(request.protocol, request.columns, request.endpoint)
    adjusted = "baseline" in request.analysis.adjust
    rest = dataclasses.replace(request.analysis, adjust=tuple(a for a in request.analysis.adjust if a != "baseline"))
    model["covariates"] = outcomes.adjusters(request.protocol, request.columns, rest, request.endpoint)
    found = means.geometric_ratio(
        request.outcome(),
        request.columns.arm,
        contrast=request.contrast,
        baseline=before if adjusted else None,
        **model,
    )
    return found, f"analysis of covariance of logarithms{_adjusted(request)}"


def _adjusted(request: Request) -> str:
    parts = [*request.analysis.adjust, *request.analysis.factors, *request.analysis.strata]
    return f", adjusted for {', '.join(parts)}" if parts else ""


def _two_sample(request: Request) -> tuple[Estimate, str]:
    found = means.two_sample(
        request.outcome(),
        request.columns.arm,
        **request.comparison(),
    )
    return found, "Welch's t test, unadjusted"


def _slope(request: Request) -> tuple[Estimate, str]:
    arms = (*request.estimand.active, request.estimand.control)
    dose = np.full(request.columns.arm.shape, np.nan)
    for name in arms:
        level = request.protocol.arm(name).level
        if level is None:
            raise outcomes.StudyError(
                f"analysis '{request.analysis.name}' needs the dose level of arm '{name}'. Add level = … to the arm."
            )
        dose = np.where(request.columns.arm == request.columns.arms.index(name), level, dose)
    found = means.slope(request.outcome(), dose, **request.model())
    return found, f"linear trend in dose by least squares{_adjusted(request)}"


def _tally(request: Request) -> proportions.Tally:
    """Responders, or people with an event by the horizon; those not known for so long are left out, with a caution."""
    if request.endpoint.timed:
        time, event = request.times()
        known = np.where(time >= request.until, 0.0, np.nan)
        happened = np.where(event & (time <= request.until), 1.0, known)
    else:
        happened = request.outcome()
    return proportions.tally(happened, request.columns.arm, contrast=request.contrast, include=request.include)


def _score(request: Request) -> tuple[Estimate, str]:
    found = proportions.risk_difference(_tally(request), level=request.analysis.level)
    return found, "Miettinen and Nurminen's score interval and test (1985)"


def _fisher(request: Request) -> tuple[Estimate, str]:
    found = proportions.risk_difference(_tally(request), level=request.analysis.level, test="fisher")
    return found, "Fisher's exact test, with Miettinen and Nurminen's interval"


def _landmark(request: Request) -> tuple[Estimate, str]:
    time, event = request.times()
    found = survival.landmark(
        time,
        event,
        request.columns.arm,
        request.until,
        **request.comparison(),
    )
    return (
        found,
        f"difference in Kaplan–Meier risk at day {request.until:.0f}, log-log intervals joined (Zou and Donner 2008)",
    )


def _log_rank(request: Request) -> tuple[Estimate, str]:
    time, event = request.times()
    arms = [request.columns.arms.index(name) for name in (*request.estimand.active, request.estimand.control)]
    include = request.include & np.isin(request.columns.arm, arms)
    test = survival.logrank(time, event, request.columns.arm, strata=request.strata(), include=include)
    nothing = np.full(np.shape(test.p), np.nan)
    found = Estimate(
        nothing,
        nothing,
        nothing,
        nothing,
        test.chi_square,
        test.df,
        test.p,
        test.n,
        test.warnings,
        request.analysis.level,
    )
    stratified = f", stratified by {', '.join(request.analysis.strata)}" if request.analysis.strata else ""
    return found, f"log-rank test{stratified}"


def _hazard(method: str, words: str) -> Callable[[Request], tuple[Estimate, str]]:
    def estimate(request: Request) -> tuple[Estimate, str]:
        time, event = request.times()
        found = cox.hazard_ratio(
            time,
            event,
            request.columns.arm,
            strata=request.strata(),
            **request.comparison(),
            method=method,  # type: ignore[arg-type]
        )
        return found, words

    return estimate


def _restricted_mean(request: Request) -> tuple[Estimate, str]:
    time, event = request.times()
    found = survival.restricted_mean_difference(
        time,
        event,
        request.columns.arm,
        request.until,
        **request.comparison(),
    )
    return found, f"difference in restricted mean time to day {request.until:.0f} (area under Kaplan–Meier curves)"


METHODS: dict[str, Callable[[Request], tuple[Estimate, str]]] = {
    "ancova": _ancova,
    "ancova on logs": _ancova_on_logs,
    "two-sample t": _two_sample,
    "slope on dose": _slope,
    "score interval": _score,
    "fisher exact": _fisher,
    "kaplan-meier difference": _landmark,
    "log-rank": _log_rank,
    "cox": _hazard("cox", "Cox proportional hazards, Efron's ties"),
    "firth cox": _hazard(
        "firth",
        "Cox proportional hazards with Firth's penalty and profile-likelihood interval (Heinze and Schemper 2001)",
    ),
    "restricted mean": _restricted_mean,
}


def rejects(estimate: Estimate, level: float) -> np.ndarray:
    """Whether each trial's test rejects no effect at the analysis's level; a test that could not be done does not."""
    return np.nan_to_num(estimate.p, nan=1.0) < 1 - level

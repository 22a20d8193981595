"""One comparison that a protocol asks for, as the methods see it: the columns it needs, and what becomes of the answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from quell import outcomes
from quell.analysis.claim import Estimate
from quell.analysis.follow_up import FollowUp
from quell.promises import whole_days
from quell.protocol import Protocol
from quell.questions import Analysis, Endpoint, Estimand
from quell.study import Columns, StudyError


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
        return float(whole_days(self.estimand.until))

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the estimand, the control last."""
        return tuple(dict.fromkeys((*self.estimand.active, self.estimand.control)))

    def outcome(self) -> np.ndarray:
        """The measured endpoint, (..., n), after what the estimand does about intercurrent events."""
        return outcomes.measured(self.protocol, self.columns, self.endpoint, self.estimand.intercurrent_events)

    def series(self) -> np.ndarray:
        """The measured endpoint at its visits, (..., n, visits)."""
        return outcomes.series(self.protocol, self.columns, self.endpoint, self.estimand.intercurrent_events)

    def follow_up(self) -> FollowUp:
        """The measured endpoint over visits, as imputation wants it."""
        endpoint, met = self.endpoint, self.estimand.intercurrent_events
        return FollowUp(
            outcome=self.series(),
            arm=self.columns.arm,
            covariates=self.adjusters(),
            affected=outcomes.affected(self.protocol, self.columns, endpoint, met),
            include=self.include,
        )

    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """Days to the first event, and whether it came, (..., n)."""
        return outcomes.timed(self.columns, self.endpoint, self.estimand.intercurrent_events)

    def causes(self) -> tuple[np.ndarray, np.ndarray]:
        """Days to the first of what happened, and which: 0 nothing, 1 the endpoint's, 2 a competing event."""
        return outcomes.causes(self.columns, self.endpoint, self.estimand.intercurrent_events)

    def every(self) -> tuple[np.ndarray, np.ndarray]:
        """All days of a recurrent endpoint, (..., n, most), inf where there are fewer; and the end of follow-up."""
        return self.columns.every(self.endpoint.components)

    def happened(self) -> np.ndarray:
        """Response, or event by the horizon: 1, 0, and NaN where the person was not known for so long."""
        if not self.endpoint.timed:
            return self.outcome()
        time, event = self.times()
        known = np.where(time >= self.until, 0.0, np.nan)
        return np.where(event & (time <= self.until), 1.0, known)

    def adjusters(self) -> np.ndarray | None:
        return outcomes.adjusters(self.protocol, self.columns, self.analysis, self.endpoint)

    def factors(self) -> list[np.ndarray]:
        return outcomes.grouping(self.columns, (*self.analysis.factors, *self.analysis.strata))

    def model(self) -> dict[str, Any]:
        """The covariates and factors of a linear model."""
        shared = {"include": self.include, "level": self.analysis.level}
        return {"covariates": self.adjusters(), "factors": self.factors()} | shared

    def regressors(self) -> np.ndarray:
        """The active arm as 1 and the control as 0, then covariates and factors, (..., n, p), for a regression of two arms."""
        arm = (self.columns.arm == self.contrast[0]).astype(float)[..., None]
        adjusters = self.adjusters()
        parts = [arm] if adjusters is None else [arm, adjusters]
        for codes in outcomes.grouping(self.columns, self.analysis.factors):
            levels = [(codes == level).astype(float) for level in range(1, int(codes.max(initial=0)) + 1)]
            missing = codes < 0
            parts += [np.where(missing, np.nan, one)[..., None] for one in levels]
        batch = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return np.concatenate([np.broadcast_to(part, (*batch, part.shape[-1])) for part in parts], axis=-1)

    @property
    def regresses(self) -> bool:
        """Whether there is anything besides the arm to regress on."""
        return bool(self.analysis.adjust or self.analysis.factors)

    def two_arms(self) -> np.ndarray:
        """Who is in a comparison of the two arms alone."""
        return self.include & np.isin(self.columns.arm, self.contrast)

    def all_arms(self) -> np.ndarray:
        """Who is in a test of all the estimand's arms at once."""
        return self.include & np.isin(self.columns.arm, [self.columns.arms.index(name) for name in self.arms])

    def comparison(self) -> dict[str, Any]:
        """Which arms are compared, among whom, at which level."""
        return {"contrast": self.contrast, "include": self.include, "level": self.analysis.level}

    def strata(self) -> np.ndarray | None:
        """One code for each combination of the strata; None where there are none."""
        codes = outcomes.grouping(self.columns, self.analysis.strata)
        if not codes:
            return None
        joined = np.ravel_multi_index([code + 1 for code in codes], [int(code.max()) + 2 for code in codes])
        return np.where(np.all([code >= 0 for code in codes], axis=0), joined, -1)

    def dose(self) -> np.ndarray:
        """The dose level of each person's arm; NaN in arms that are not compared."""
        level = np.full(self.columns.arm.shape, np.nan)
        for name in self.arms:
            given = self.protocol.arm(name).level
            if given is None:
                raise StudyError(
                    f"analysis '{self.analysis.name}' needs the dose level of arm '{name}'. Add level = … to the arm."
                )
            level = np.where(self.columns.arm == self.columns.arms.index(name), given, level)
        return level

    @property
    def adjusted(self) -> str:
        """What a model adjusts for, as the end of a sentence."""
        parts = [*self.analysis.adjust, *self.analysis.factors, *self.analysis.strata]
        return f", adjusted for {', '.join(parts)}" if parts else ""

    @property
    def stratified(self) -> str:
        return f", stratified by {', '.join(self.analysis.strata)}" if self.analysis.strata else ""

    def counts(self) -> tuple[tuple[str, float], ...]:
        """Events and people by arm, for endpoints that count."""
        if self.endpoint.timed:
            happened = self.times()[1].astype(float)
        elif self.endpoint.kind == "recurrent":
            days, until = self.every()
            happened = np.where(np.isnan(until), np.nan, np.isfinite(days).sum(axis=-1))
        elif self.endpoint.kind == "responder":
            happened = self.outcome()
        else:
            return ()
        rows: list[tuple[str, float]] = []
        for arm in self.arms:
            who = self.include & (self.columns.arm == self.columns.arms.index(arm)) & ~np.isnan(happened)
            rows += [(f"{arm} events", float(happened[who].sum())), (f"{arm} people", float(who.sum()))]
        return tuple(rows)


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


SCALES = {
    "difference in means": "difference",
    "ratio of geometric means": "ratio",
    "risk difference": "risk difference",
    "risk ratio": "risk ratio",
    "odds ratio": "odds ratio",
    "hazard ratio": "hazard ratio",
    "subdistribution hazard ratio": "subdistribution hazard ratio",
    "rate ratio": "rate ratio",
    "difference in mean number of events": "difference",
    "difference in restricted mean time": "difference",
    "ratio of restricted mean time": "ratio",
    "equality of survival": "difference",
    "equality of cumulative incidence": "difference",
    "slope on dose": "difference",
    "win ratio": "win ratio",
    "win odds": "win odds ratio",
    "net benefit": "net benefit",
}


def unit(endpoint: Endpoint, estimand: Estimand) -> str:
    """The unit of an estimate."""
    if estimand.summary == "difference in restricted mean time":
        return "days"
    if estimand.summary == "difference in means":
        return "%" if endpoint.scale == "percent change" else endpoint.unit
    return ""


def describe(estimand: Estimand, endpoint: Endpoint) -> str:
    """The estimand in words: its five attributes (ICH E9(R1)).

    >>> p = Protocol.load("ivory")
    >>> describe(p.estimands[6], p.endpoints[6])[:62]
    'risk difference in hsCRP below 2 mg/L at day 61, aldesleukin a'
    """
    what = f"{endpoint.name} at {endpoint.visit}" if endpoint.visit else endpoint.name
    scale = "" if endpoint.scale == "value" or not endpoint.visit else f" ({endpoint.scale})"
    until = f" by {estimand.until}" if estimand.until else ""
    events = "; ".join(f"{one.event}: {one.strategy}" for one in estimand.intercurrent_events)
    return (
        f"{estimand.summary} in {what}{scale}{until}, {' and '.join(estimand.active)} against {estimand.control}, "
        f"in those {estimand.population}{f' ({events})' if events else ''}"
    )

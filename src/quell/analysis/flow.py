"""The CONSORT flow: who went how far through a trial, and why the others did not, counted from the record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from quell.analysis.description import baseline
from quell.protocol import Protocol
from quell.questions import Endpoint, Estimand
from quell.study import Columns, Study

NO_REASON = "reason not recorded"
ANALYSED = "analysed for the primary question"


class Exit(NamedTuple):
    """Why some people left between two boxes of the flow, and how many."""

    reason: str
    n: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """One box of the flow: who is here, of which earlier box, and why the others of that box are not."""

    name: str
    n: int
    of: str = ""
    exits: tuple[Exit, ...] = ()

    @property
    def left(self) -> str:
        """How many of the earlier box are not here, in words."""
        n = sum(one.n for one in self.exits)
        return f"{n} did not complete treatment" if self.name == "completed treatment" else f"{n} not {self.name}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flow:
    """The CONSORT flow: the boxes before randomisation, then those of each arm.

    In every box, n + the exits = n of the box named by ``of``; the arms' first boxes add up to ``randomised``.
    """

    before: tuple[Box, ...]
    arms: dict[str, tuple[Box, ...]]

    def frame(self) -> pl.DataFrame:
        """The flow as rows: arm (empty before randomisation), box, n, and each exit's reason and count."""
        rows = []
        for arm, boxes in (("", self.before), *self.arms.items()):
            for box in boxes:
                rows.append({"arm": arm, "box": box.name, "of": box.of, "n": box.n, "reason": "", "left": None})
                rows += [
                    {"arm": arm, "box": box.name, "of": box.of, "n": box.n, "reason": one.reason, "left": one.n}
                    for one in box.exits
                ]
        return pl.DataFrame(rows, schema=_FLOW)


_FLOW = {
    name: pl.Int64() if name in ("n", "left") else pl.String() for name in ("arm", "box", "of", "n", "reason", "left")
}


def flow(study: Study, protocol: Protocol, columns: Columns | None = None) -> Flow:
    """The way of everybody through the trial, counted from the milestones and readings (CONSORT 2025, doi:10.1136/bmj-2024-081123).

    >>> from quell.protocol import Protocol
    >>> record = pl.DataFrame({"subject": ["1", "2", "3"], "site": "A", "arm": ["aldesleukin", "placebo", None]})
    >>> found = flow(Study(protocol="ivory", tables={"subjects": record}), Protocol.load("ivory"))
    >>> [(box.name, box.n) for box in found.before]
    [('screened', 3), ('randomised', 2)]
    """
    people = study["subjects"]["subject"].to_list()
    road = _Road(study)
    randomised = set(study.randomised["subject"])
    before = [Box(name="screened", n=len(people))]
    here, name = list(people), "screened"
    if "eligible" in road.names:
        eligible = [one for one in here if one in randomised or road.reached(one, "eligible")]
        before.append(_box("eligible", name, here, eligible, lambda one: road.reason(one, "eligible")))
        here, name = eligible, "eligible"
    chosen = [one for one in here if one in randomised]
    before.append(_box("randomised", name, here, chosen, lambda one: road.reason(one, "randomised")))
    if len(before) == 2 and before[0].n == before[1].n:
        before = [Box(name="randomised", n=before[1].n)]
    return Flow(before=tuple(before), arms=_arms(study, protocol, road, columns or study.columns(protocol)))


class _Road:
    """Who reached which milestone, and the reason of who did not."""

    def __init__(self, study: Study) -> None:
        table = study["milestones"]
        self.names = set(table["milestone"])
        rows = table.select("subject", "milestone", "reached", "reason").iter_rows()
        self._rows = {(subject, milestone): (bool(reached), reason) for subject, milestone, reached, reason in rows}

    def reached(self, subject: str, milestone: str) -> bool:
        return self._rows.get((subject, milestone), (False, ""))[0]

    def reason(self, subject: str, *milestones: str) -> str:
        """The first reason given at these milestones."""
        for milestone in milestones:
            reached, reason = self._rows.get((subject, milestone), (True, ""))
            if not reached and reason:
                return str(reason)
        return NO_REASON


def _box(name: str, of: str, parents: Sequence[str], members: Sequence[str], why: Callable[[str], str]) -> Box:
    inside = set(members)
    counts: dict[str, int] = {}
    for one in parents:
        if one not in inside:
            reason = why(one)
            counts[reason] = counts.get(reason, 0) + 1
    exits = tuple(Exit(reason, n) for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Box(name=name, n=len(members), of=of, exits=exits)


def _arms(study: Study, protocol: Protocol, road: _Road, columns: Columns) -> dict[str, tuple[Box, ...]]:
    subjects = study.randomised["subject"].to_list()
    estimand = protocol.estimand(protocol.primary.estimand)
    included, without = _analysed(columns, protocol, estimand)
    at = {one: place for place, one in enumerate(subjects)}
    found = {}
    for index, arm in enumerate(columns.arms):
        members = [one for one, code in zip(subjects, columns.arm, strict=True) if code == index]
        boxes = [Box(name="randomised", n=len(members))]
        here = {"randomised": members}
        for step in ("treated", "completed treatment", "followed up"):
            if step in road.names and (step != "followed up" or protocol.follow_up):
                of = _parent(step, protocol, here)
                stay = [one for one in here[of] if road.reached(one, step)]
                boxes.append(_box(step, of, here[of], stay, functools.partial(_reason, road, step)))
                here[step] = stay
        of = estimand.population if estimand.population in here else "randomised"
        stay = [one for one in here[of] if included[at[one]]]
        reasons = {one: road.reason(one, *_STEPS) for one in here[of]}
        reasons = {one: why if why != NO_REASON else without[at[one]] for one, why in reasons.items()}
        boxes.append(_box(ANALYSED, of, here[of], stay, reasons.__getitem__))
        found[arm] = tuple(boxes)
    return found


def _reason(road: _Road, step: str, one: str) -> str:
    return road.reason(one, step)


_STEPS = ("treated", "completed treatment", "followed up")


def _parent(step: str, protocol: Protocol, here: dict[str, list[str]]) -> str:
    if step == "followed up" and protocol.follow_up and protocol.follow_up.of == "all randomised":
        return "randomised"
    return list(here)[-1]


def _analysed(columns: Columns, protocol: Protocol, estimand: Estimand) -> tuple[np.ndarray, list[str]]:
    """Who can be in the primary analysis, and for everybody else what is missing."""
    endpoint = protocol.endpoint(estimand.endpoint)
    inside = columns.sets.get(estimand.population, np.ones(columns.arm.shape, dtype=bool))
    outcome, word = _outcome(columns, endpoint)
    needs = [(inside, f"not in the set '{estimand.population}'"), (outcome, word)]
    if "baseline" in protocol.primary.adjust and endpoint.quantity:
        known = np.isfinite(baseline(columns, protocol, endpoint.quantity, endpoint.location))
        needs.append((known, f"no baseline {endpoint.quantity}"))
    included = np.all([need for need, _ in needs], axis=0)
    words = [next((why for need, why in needs if not need[at]), "") for at in range(len(included))]
    return included, words


def _outcome(columns: Columns, endpoint: Endpoint) -> tuple[np.ndarray, str]:
    if endpoint.counted:
        ends = [columns.followed[kind] for kind in (*endpoint.components, "") if kind in columns.followed]
        known = np.any([np.isfinite(end) for end in ends], axis=0) if ends else np.zeros(columns.arm.shape, dtype=bool)
        return known, "not followed"
    if endpoint.kind == "hierarchical":
        return np.ones(columns.arm.shape, dtype=bool), ""
    visits = endpoint.visits or (endpoint.visit,)
    arrays = [columns.readings.get((endpoint.quantity, endpoint.location, visit)) for visit in visits]
    known = [np.isfinite(array) for array in arrays if array is not None]
    word = f"no {endpoint.quantity} at {visits[-1]}"
    return (np.any(known, axis=0) if known else np.zeros(columns.arm.shape, dtype=bool)), word

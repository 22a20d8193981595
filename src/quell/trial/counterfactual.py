"""The truth: every estimand on the same people living under every arm, with nobody missing; and what selection does.

Only a simulated world has a truth. It carries its own Monte Carlo error, by the jackknife over groups of people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from quell import keys, outcomes
from quell.promises import whole_days
from quell.protocol import Protocol
from quell.questions import Endpoint, Estimand
from quell.study import Columns
from quell.trial.attend import follow
from quell.trial.plan import lay_out
from quell.trial.record import Records, keep
from quell.trial.recruit import gather
from quell.trial.world import World

GROUPS = 20
PEOPLE = 200  # in each group

Outcome = tuple[np.ndarray, np.ndarray]  # (value, 1) of a measured endpoint, or (time, event); flat over people


class Truth(NamedTuple):
    """The value of an estimand in a world, with its Monte Carlo error."""

    value: float
    error: float
    people: int


class Selection(NamedTuple):
    """What an estimand becomes when only some are looked at: absolute risks and their difference."""

    estimand: str
    of: str
    active: Truth
    control: Truth
    difference: Truth


def potential(
    protocol: Protocol, world: World, *, key: int | keys.Key, groups: int = GROUPS, people: int = PEOPLE
) -> dict[str, Records]:
    """The same people under every arm, nobody missing: for each arm, records of shape (groups, people).

    Doses are missed and people leave the drug as they would in the trial; nothing that happens goes unseen.
    """
    lay_out(protocol)
    words = keys.numbered(key, "truth", np.arange(groups))
    enrolled, everyone, p = gather(protocol, world, people, words)
    found = {}
    for code, arm in enumerate(protocol.arms):
        lived = follow(protocol, world.conduct, everyone, p, np.full(groups * people, code))
        all_here = enrolled._replace(arm=np.full_like(enrolled.arm, code))
        found[arm.name] = keep(protocol, all_here, lived, (groups, people), complete=True)
    return found


def truth(
    protocol: Protocol,
    world: World | None = None,
    *,
    key: int | keys.Key = 0,
    groups: int = GROUPS,
    people: int = PEOPLE,
) -> dict[str, Truth]:
    """The true value of every analysis's estimand in this world, by the name of the analysis.

    Where an estimand has several active arms there is one value for each, under the name of its claim.
    """
    return truths(protocol, potential(protocol, world or World(), key=key, groups=groups, people=people))


def truths(protocol: Protocol, lived: Mapping[str, Records]) -> dict[str, Truth]:
    """As ``truth``, from lives already lived."""
    columns = {name: records.columns() for name, records in lived.items()}
    found: dict[str, Truth] = {}
    for analysis in protocol.analyses:
        estimand = protocol.estimand(analysis.estimand)
        summary = _summary(estimand, protocol.endpoint(estimand.endpoint))
        if summary is None or outcomes.imagined(estimand.intercurrent_events):
            continue  # a life in which nobody stopped is not among those lived here
        for active in estimand.active:
            name = (
                analysis.name if len(estimand.active) == 1 else f"{analysis.name}: {active} against {estimand.control}"
            )
            pair = [
                (_outcome(protocol, columns[arm], estimand), outcomes.members(columns[arm], estimand.population))
                for arm in (active, estimand.control)
            ]
            found[name] = _jackknife(summary, pair)
    return found


def selection(protocol: Protocol, lived: Mapping[str, Records]) -> list[Selection]:
    """How the true risk difference depends on whom one looks at: all, those who completed, those who always would."""
    if not protocol.follow_up:
        return []
    columns = {name: records.columns() for name, records in lived.items()}
    rows: list[Selection] = []
    for estimand in protocol.estimands:
        if estimand.summary != "risk difference" or not estimand.until or estimand.population == "randomised":
            continue
        active, control = columns[estimand.active[0]], columns[estimand.control]
        done = [outcomes.members(one, "completed treatment") for one in (active, control)]
        joined = [outcomes.members(one, "followed up") for one in (active, control)]
        everyone = np.ones_like(done[0])
        for of, chosen in (
            ("everyone randomised", [everyone, everyone]),
            ("in each arm, those who completed treatment", done),
            ("those who would complete in either arm", [done[0] & done[1]] * 2),
            ("in each arm, those who completed and joined follow-up", joined),
        ):
            both = [_outcome(protocol, one, estimand) for one in (active, control)]
            rows.append(_selected(estimand, of, list(zip(both, chosen, strict=True))))
    return rows


def _selected(estimand: Estimand, of: str, pair: list[tuple[Outcome, np.ndarray]]) -> Selection:
    """Risk by the estimand's horizon in each arm, and their difference, among those chosen."""
    until = whole_days(estimand.until)
    return Selection(
        estimand.name,
        of,
        _jackknife(lambda a, c: _risk(a, until), pair),
        _jackknife(lambda a, c: _risk(c, until), pair),
        _jackknife(lambda a, c: _risk(a, until) - _risk(c, until), pair),
    )


def _outcome(protocol: Protocol, columns: Columns, estimand: Estimand) -> Outcome:
    endpoint, met = protocol.endpoint(estimand.endpoint), estimand.intercurrent_events
    if endpoint.competing:
        return outcomes.causes(columns, endpoint, met)
    if endpoint.timed:
        return outcomes.timed(columns, endpoint, met)
    if endpoint.kind == "recurrent":
        days, until = columns.every(endpoint.components)
        horizon = np.minimum(until, whole_days(estimand.until) if estimand.until else np.inf)
        return (days <= horizon[..., None]).sum(axis=-1).astype(float), horizon
    value = outcomes.measured(protocol, columns, endpoint, met)
    return value, ~np.isnan(value)


def _jackknife(summary: Callable[[Outcome, Outcome], float], pair: list[tuple[Outcome, np.ndarray]]) -> Truth:
    """A summary of all groups, with the jackknife error over groups (Efron and Stein 1981)."""
    groups = pair[0][1].shape[0]

    def without(group: int | None) -> float:
        rest = [g for g in range(groups) if g != group]
        active, control = [(first[rest][who[rest]], second[rest][who[rest]]) for (first, second), who in pair]
        return float(summary(active, control))

    left_out = np.array([without(g) for g in range(groups)])
    error = np.sqrt((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum())
    return Truth(without(None), float(error), int(pair[0][1].sum()))


def _summary(estimand: Estimand, endpoint: Endpoint) -> Callable[[Outcome, Outcome], float] | None:
    """How an estimand's summary measure is computed from complete outcomes under two arms; None where it is not."""
    until = whole_days(estimand.until) if estimand.until else np.inf
    mean = lambda outcome: outcome[0][outcome[1].astype(bool)].mean()  # noqa: E731 - reads as the equation
    log_mean = lambda outcome: np.log(outcome[0][outcome[1].astype(bool)]).mean()  # noqa: E731
    risk = mean if endpoint.kind == "responder" else (lambda outcome: _risk(outcome, until))
    odds = lambda outcome: risk(outcome) / (1 - risk(outcome))  # noqa: E731
    table: dict[str, Callable[[Outcome, Outcome], Any]] = {
        "difference in means": lambda a, c: mean(a) - mean(c),
        "ratio of geometric means": lambda a, c: np.exp(log_mean(a) - log_mean(c)),
        "risk difference": lambda a, c: risk(a) - risk(c),
        "risk ratio": lambda a, c: risk(a) / risk(c),
        "odds ratio": lambda a, c: odds(a) / odds(c),
        "difference in restricted mean time": lambda a, c: _area(a, until) - _area(c, until),
        "ratio of restricted mean time": lambda a, c: _area(a, until) / _area(c, until),
        "hazard ratio": _hazard_ratio,
        "rate ratio": lambda a, c: (a[0].sum() / a[1].sum()) / (c[0].sum() / c[1].sum()),
        "difference in mean number of events": lambda a, c: a[0].mean() - c[0].mean(),
    }
    return table.get(estimand.summary)


def _by_day(outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Events and people at risk on each whole day."""
    time, event = outcome[0].astype(int), outcome[1] == 1
    length = int(time.max(initial=0)) + 1
    ended = np.bincount(time, minlength=length)
    return np.bincount(time[event], minlength=length), ended[::-1].cumsum()[::-1]


def _survival(outcome: Outcome) -> np.ndarray:
    """Product-limit survival at the end of each day (Kaplan and Meier 1958)."""
    events, at_risk = _by_day(outcome)
    return np.cumprod(1 - events / np.maximum(at_risk, 1))


def _risk(outcome: Outcome, until: float) -> float:
    """The share who have had the event by a day; where others compete with it (cause 2), they are not risk-free of it."""
    if (outcome[1] == 2).any():  # nobody is censored before the horizon here, so the cumulative incidence is a share
        return float(((outcome[1] == 1) & (outcome[0] <= until)).mean())
    survival = _survival(outcome)
    return float(1 - survival[min(int(until), len(survival) - 1)])


def _area(outcome: Outcome, until: float) -> float:
    """Mean event-free time to a horizon: the area under the survival curve, in days."""
    survival = _survival(outcome)[: int(until)]
    return float(survival.sum() + (int(until) - len(survival)) * (survival[-1] if len(survival) else 1.0))


def _hazard_ratio(active: Outcome, control: Outcome) -> float:
    """The value to which Cox's estimate converges on these lives: the root of the partial-likelihood score."""
    (d1, r1), (d0, r0) = _by_day(active), _by_day(control)
    length = max(len(d1), len(d0))
    d1, r1, d0, r0 = (np.pad(x, (0, length - len(x))).astype(float) for x in (d1, r1, d0, r0))
    events = d1 + d0
    if d1.sum() == 0 or d0.sum() == 0:
        return float("nan")
    beta = 0.0
    for _ in range(50):
        share = r1 * np.exp(beta) / np.maximum(r1 * np.exp(beta) + r0, 1e-300)
        step = (d1 - events * share).sum() / (events * share * (1 - share)).sum()
        beta += step
        if abs(step) < 1e-12:
            break
    return float(np.exp(beta))

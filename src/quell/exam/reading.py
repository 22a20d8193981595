"""How a published figure is read from simulated trials: columns of shape (trials, people) to one value for each trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from quell import outcomes
from quell.design import Repeats
from quell.protocol import Protocol
from quell.study import Columns

ACTIVE, CONTROL = "aldesleukin", "placebo"
PRIMARY = "index vessel TBRmax"
Read = Callable[[Protocol, Columns], np.ndarray]
Part = Literal["value", "sd", "lower quartile", "upper quartile"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One published figure and how it is read, from each trial's columns (``read``) or from its analysis (``answer``)."""

    figure: str  # its id in evidence.toml
    name: str
    unit: str
    read: Read | None = None
    answer: Callable[[Repeats], np.ndarray] | None = None
    part: Part = "value"  # what of the published figure is asked
    decimals: int | None = None  # printed of the published figure: a simulated one is rounded as its paper would have
    percent: bool = False  # published as a count of n people, compared as a percentage
    follows: str = ""  # other published figures that this one is worked out from: it counts once, with them
    reading: str = ""  # why this is another reading of a figure that is counted elsewhere
    rests_on: str = ""  # the evidence behind the prediction, by id; empty where there is none
    beyond: str = ""  # why the model could not have predicted it
    why: str = ""  # said where the published figure lies outside
    note: str = ""

    def values(self, found: Repeats) -> np.ndarray:
        """One value for each simulated trial, as it would have been printed: 3 of 28 is published as 11 %, not as 10.714."""
        exact = self.answer(found) if self.answer else found.watched[self.name]
        return exact if self.decimals is None else np.round(exact, self.decimals)


def both(figure: str, name: str, unit: str, read: Callable[[str], Read], **more: Any) -> list[Question]:
    """One question for each arm."""
    return [
        Question(figure=f"{figure}.{arm}", name=f"{name}, {arm}", unit=unit, read=read(arm), **more)
        for arm in (CONTROL, ACTIVE)
    ]


def of_arm(columns: Columns, arm: str, values: np.ndarray) -> np.ndarray:
    """Values of one arm, NaN elsewhere."""
    return np.where(columns.arm == columns.arms.index(arm), values, np.nan)


def covariate(name: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    """A summary of what people are like."""
    return lambda protocol, columns: summary(of_arm(columns, arm, columns.covariates[name]), axis=-1)


def share(factor: str, level: str, arm: str) -> Read:
    """The percentage of an arm with one level of a factor."""

    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        code = columns.levels[factor].index(level) if level in columns.levels[factor] else -1
        return 100 * np.nanmean(of_arm(columns, arm, (columns.factors[factor] == code).astype(float)), axis=-1)

    return read


def before(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    """A summary of an endpoint's baseline."""
    return lambda protocol, columns: summary(
        of_arm(columns, arm, outcomes.baseline(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def after(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    """A summary of an endpoint at its visit."""
    return lambda protocol, columns: summary(
        of_arm(columns, arm, outcomes.measured(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def spread(values: np.ndarray, axis: int) -> np.ndarray:
    """The standard deviation of a sample, missing values left out."""
    return np.nanstd(values, axis=axis, ddof=1)


def quartile(which: int) -> Callable[..., np.ndarray]:
    """The lower (1) or upper (3) quartile, missing values left out."""
    return lambda values, axis: np.nanpercentile(values, 25 * which, axis=axis)


def imbalance(protocol: Protocol, columns: Columns) -> np.ndarray:
    """Baseline of the primary endpoint, placebo minus active, from means printed to two decimals as those it is worked out from."""
    mean = [np.round(before(PRIMARY, arm, np.nanmean)(protocol, columns), 2) for arm in (CONTROL, ACTIVE)]
    return mean[0] - mean[1]


def event_by(endpoint: str, arm: str, day: int, *, count: bool = False) -> Read:
    """The people of an arm whose first event came by a day, as a percentage of those followed or as a count."""

    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        time, event = columns.first(protocol.endpoint(endpoint).components)
        who = outcomes.members(columns, "followed up") & (columns.arm == columns.arms.index(arm))
        happened = (event & (time <= day) & who).sum(axis=-1)
        return happened.astype(float) if count else 100 * happened / np.maximum(who.sum(axis=-1), 1)

    return read


def all_events_by(endpoint: str, arm: str, day: int) -> Read:
    """Every event of an arm's people by a day, several in one person counted each."""

    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        who = outcomes.members(columns, "followed up") & (columns.arm == columns.arms.index(arm))
        kinds = protocol.endpoint(endpoint).components
        return sum(((columns.occurrences[kind] <= day) & who[..., None]).sum(axis=(-2, -1)) for kind in kinds) + 0.0

    return read


def members(name: str) -> Read:
    """How many people are in a set."""
    return lambda protocol, columns: outcomes.members(columns, name).sum(axis=-1).astype(float)


def members_of(name: str, arm: str, *, inside: bool = True) -> Read:
    """How many people of an arm are in a set, or are not."""
    return lambda protocol, columns: (
        ((outcomes.members(columns, name) == inside) & (columns.arm == columns.arms.index(arm)))
        .sum(axis=-1)
        .astype(float)
    )


def remaining_spread(protocol: Protocol, columns: Columns) -> np.ndarray:
    """Standard deviation of the primary endpoint at follow-up about its own arm and baseline (residual of ANCOVA)."""
    endpoint = protocol.endpoint(PRIMARY)
    follow_up, start = outcomes.measured(protocol, columns, endpoint), outcomes.baseline(protocol, columns, endpoint)
    known = np.isfinite(follow_up) & np.isfinite(start)
    arm = columns.arm[..., None] == np.arange(len(columns.arms))
    x, y = (_centred(values, known, arm) for values in (start, follow_up))
    slope = (x * y).sum(-1, keepdims=True) / (x * x).sum(-1, keepdims=True)
    return np.sqrt(((y - slope * x) ** 2).sum(-1) / (known.sum(-1) - len(columns.arms) - 1))


def _centred(values: np.ndarray, known: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Values less their arm's mean; zero where unknown."""
    member = arm & known[..., None]
    filled = np.where(known, values, 0.0)
    mean = (filled[..., None] * member).sum(-2) / np.maximum(member.sum(-2), 1)
    return np.where(known, filled - (mean[..., None, :] * member).sum(-1), 0.0)


def percent_of_placebo(found: Repeats) -> np.ndarray:
    """The primary difference over the level on placebo at follow-up."""
    return 100 * found.estimates[PRIMARY].estimate / found.watched["TBRmax at follow-up, placebo"]

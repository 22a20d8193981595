"""Published figures against simulated trials: what the record says, beside what many trials of this world would show.

A figure that was used to describe the people is an input and is shown as one; only the others are predictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from quell import evidence, outcomes
from quell.design import Repeats
from quell.protocol import Protocol
from quell.study import Columns

ACTIVE, CONTROL = "aldesleukin", "placebo"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """One published figure and what simulated trials show of it: quantiles over trials."""

    name: str
    unit: str
    published: float
    published_lower: float | None
    published_upper: float | None
    q05: float
    q25: float
    q50: float
    q75: float
    q95: float
    trials: int
    source: str
    role: str  # input or predicted
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """How a published figure is read from simulated trials: columns of shape (trials, people) to one value a trial."""

    figure: str
    read: Callable[[Protocol, Columns], np.ndarray]
    note: str = ""


def _of(columns: Columns, arm: str, values: np.ndarray) -> np.ndarray:
    """Values of one arm, NaN elsewhere."""
    return np.where(columns.arm == columns.arms.index(arm), values, np.nan)


def _covariate(name: str, arm: str, summary: Callable[..., np.ndarray]) -> Callable[[Protocol, Columns], np.ndarray]:
    return lambda protocol, columns: summary(_of(columns, arm, columns.covariates[name]), axis=-1)


def _share(factor: str, level: str, arm: str) -> Callable[[Protocol, Columns], np.ndarray]:
    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        code = columns.levels[factor].index(level) if level in columns.levels[factor] else -1
        return 100 * np.nanmean(_of(columns, arm, (columns.factors[factor] == code).astype(float)), axis=-1)

    return read


def _before(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Callable[[Protocol, Columns], np.ndarray]:
    return lambda protocol, columns: summary(
        _of(columns, arm, outcomes.baseline(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def _after(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Callable[[Protocol, Columns], np.ndarray]:
    return lambda protocol, columns: summary(
        _of(columns, arm, outcomes.measured(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def _event_by(endpoint: str, arm: str, day: int, count: bool = False) -> Callable[[Protocol, Columns], np.ndarray]:
    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        time, event = columns.first(protocol.endpoint(endpoint).components)
        who = outcomes.members(columns, "followed up") & (columns.arm == columns.arms.index(arm))
        happened = (event & (time <= day) & who).sum(axis=-1)
        return happened.astype(float) if count else 100 * happened / np.maximum(who.sum(axis=-1), 1)

    return read


def _members(name: str) -> Callable[[Protocol, Columns], np.ndarray]:
    return lambda protocol, columns: outcomes.members(columns, name).sum(axis=-1).astype(float)


def _sd(values: np.ndarray, axis: int) -> np.ndarray:
    return np.nanstd(values, axis=axis, ddof=1)

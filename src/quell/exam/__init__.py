"""Published figures against simulated trials: what the record says, beside what many trials of this world would show.

A figure that was used to describe the people is an input and is shown as one; only the others are predictions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from quell import evidence, outcomes
from quell.design import Repeats, Watch
from quell.protocol import Protocol
from quell.study import Columns

ACTIVE, CONTROL = "aldesleukin", "placebo"
Read = Callable[[Protocol, Columns], np.ndarray]


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

    figure: str  # its id in evidence.toml
    name: str
    unit: str
    read: Read
    percent: bool = False  # published as a count of n people, compared as a percentage
    note: str = ""


def _of(columns: Columns, arm: str, values: np.ndarray) -> np.ndarray:
    """Values of one arm, NaN elsewhere."""
    return np.where(columns.arm == columns.arms.index(arm), values, np.nan)


def _covariate(name: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    return lambda protocol, columns: summary(_of(columns, arm, columns.covariates[name]), axis=-1)


def _share(factor: str, level: str, arm: str) -> Read:
    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        code = columns.levels[factor].index(level) if level in columns.levels[factor] else -1
        return 100 * np.nanmean(_of(columns, arm, (columns.factors[factor] == code).astype(float)), axis=-1)

    return read


def _before(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    return lambda protocol, columns: summary(
        _of(columns, arm, outcomes.baseline(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def _after(endpoint: str, arm: str, summary: Callable[..., np.ndarray]) -> Read:
    return lambda protocol, columns: summary(
        _of(columns, arm, outcomes.measured(protocol, columns, protocol.endpoint(endpoint))), axis=-1
    )


def _event_by(endpoint: str, arm: str, day: int, count: bool = False) -> Read:
    def read(protocol: Protocol, columns: Columns) -> np.ndarray:
        time, event = columns.first(protocol.endpoint(endpoint).components)
        who = outcomes.members(columns, "followed up") & (columns.arm == columns.arms.index(arm))
        happened = (event & (time <= day) & who).sum(axis=-1)
        return happened.astype(float) if count else 100 * happened / np.maximum(who.sum(axis=-1), 1)

    return read


def _members(name: str) -> Read:
    return lambda protocol, columns: outcomes.members(columns, name).sum(axis=-1).astype(float)


def _remaining_spread(protocol: Protocol, columns: Columns) -> np.ndarray:
    """Standard deviation of the primary endpoint at follow-up about its own arm and baseline (residual of ANCOVA)."""
    endpoint = protocol.endpoint("index vessel TBRmax")
    after, before = outcomes.measured(protocol, columns, endpoint), outcomes.baseline(protocol, columns, endpoint)
    known = np.isfinite(after) & np.isfinite(before)
    arm = columns.arm[..., None] == np.arange(len(columns.arms))
    x, y = (_centred(values, known, arm) for values in (before, after))
    slope = (x * y).sum(-1, keepdims=True) / (x * x).sum(-1, keepdims=True)
    return np.sqrt(((y - slope * x) ** 2).sum(-1) / (known.sum(-1) - len(columns.arms) - 1))


def _centred(values: np.ndarray, known: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """Values less their arm's mean; zero where unknown."""
    member = arm & known[..., None]
    filled = np.where(known, values, 0.0)
    mean = (filled[..., None] * member).sum(-2) / np.maximum(member.sum(-2), 1)
    return np.where(known, filled - (mean[..., None, :] * member).sum(-1), 0.0)


def _both(figure: str, name: str, unit: str, read: Callable[[str], Read], **more: Any) -> list[Question]:
    """One question for each arm."""
    return [
        Question(figure=f"{figure}.{arm}", name=f"{name}, {arm}", unit=unit, read=read(arm), **more)
        for arm in (CONTROL, ACTIVE)
    ]


FIRST_SCAN = "depends on the day of the first scan, which is not published and assumed to be day 1"

QUESTIONS: dict[str, list[Question]] = {
    "ivory": [
        *_both("E027", "age, median", "years", lambda arm: _covariate("age", arm, np.nanmedian)),
        *_both("E028", "women", "%", lambda arm: _share("female", "yes", arm), percent=True),
        *_both("E029", "body mass index, mean", "kg/m2", lambda arm: _covariate("body mass index", arm, np.nanmean)),
        *_both(
            "E034", "LDL cholesterol, median", "mmol/L", lambda arm: _covariate("LDL cholesterol", arm, np.nanmedian)
        ),
        *_both("E035", "GRACE score, mean", "points", lambda arm: _covariate("GRACE score", arm, np.nanmean)),
        Question(figure="E025", name="completed treatment", unit="people", read=_members("completed treatment")),
        *_both("E032", "baseline hsCRP, median", "mg/L", lambda arm: _before("hsCRP", arm, np.nanmedian)),
        *_both(
            "E046",
            "baseline TBRmax, mean",
            "TBR",
            lambda arm: _before("index vessel TBRmax", arm, np.nanmean),
            note=FIRST_SCAN,
        ),
        Question(
            figure="E052",
            name="TBRmax at follow-up, placebo",
            unit="TBR",
            read=_after("index vessel TBRmax", CONTROL, np.nanmean),
        ),
        Question(figure="E051", name="residual SD of TBRmax", unit="TBR", read=_remaining_spread),
        Question(figure="E048", name="difference in TBRmax (primary)", unit="TBR", read=lambda p, c: np.empty(0)),
    ],
    "ivory-finale": [
        Question(figure="E062", name="joined long-term follow-up", unit="people", read=_members("followed up")),
        *_both(
            "E063",
            "another heart attack by 2 years",
            "%",
            lambda arm: _event_by("myocardial infarction", arm, 730),
            note="0 of about 28 against 3 of about 27: Fisher's exact p is about 0.11",
        ),
        *_both(
            "E065",
            "people with MACE by 2.5 years",
            "people",
            lambda arm: _event_by("MACE", arm, 913, count=True),
            note="published as events; may count several in one person",
        ),
    ],
}

# Figures that are answered by an analysis of each trial rather than by its columns.
ESTIMATED = {"E048": "index vessel TBRmax"}


def watch(protocol: Protocol) -> Watch | None:
    """What to look at in each simulated trial of a protocol with published results; None where there are none."""
    asked = QUESTIONS.get(protocol.name)
    if not asked:
        return None
    return lambda columns: {one.name: one.read(protocol, columns) for one in asked if one.figure not in ESTIMATED}


def comparisons(found: Repeats) -> list[Comparison]:
    """Each published figure of the protocol beside its quantiles over simulated trials."""
    return [_compare(one, found) for one in QUESTIONS.get(found.protocol.name, [])]


def _compare(asked: Question, found: Repeats) -> Comparison:
    figure = evidence.figure(asked.figure)
    seen = found.estimates[ESTIMATED[asked.figure]].estimate if asked.figure in ESTIMATED else found.watched[asked.name]
    q05, q25, q50, q75, q95 = np.nanquantile(seen, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
    scale = 100 / figure.n if asked.percent and figure.n else 1.0
    return Comparison(
        name=asked.name,
        unit=asked.unit,
        published=figure.value * scale,
        published_lower=figure.lower,
        published_upper=figure.upper,
        q05=q05,
        q25=q25,
        q50=q50,
        q75=q75,
        q95=q95,
        trials=found.trials,
        source=f"{figure.id}: {figure.source.citation}",
        role="input" if figure.role == "describes" else "predicted",
        note=asked.note or figure.note,
    )

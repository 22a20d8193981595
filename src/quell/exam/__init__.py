"""Published figures against simulated trials: what the record says, beside what many trials of this world would show.

A figure that was used to describe the people is an input and is shown as one; only the others are predictions.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from quell import evidence
from quell.design import Repeats, Watch
from quell.exam.published import ALL, QUESTIONS
from quell.exam.reading import Question
from quell.protocol import Protocol

__all__ = ["ALL", "QUESTIONS", "Comparison", "Question", "comparisons", "on_record", "quantiles", "watch"]


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


def watch(protocol: Protocol, asked: Sequence[Question] | None = None) -> Watch | None:
    """What to look at in each simulated trial of a protocol with published results; None where there are none."""
    asked = QUESTIONS.get(protocol.name, ()) if asked is None else asked
    if not asked:
        return None
    return lambda columns: {one.name: one.read(protocol, columns) for one in asked if one.read}


def comparisons(found: Repeats) -> list[Comparison]:
    """Each published figure of the protocol beside its quantiles over simulated trials."""
    return [_compare(one, found) for one in QUESTIONS.get(found.protocol.name, ())]


def on_record(asked: Question) -> tuple[float, float | None, float | None]:
    """What is published, on the scale of the question: the value and its 95 % interval where there is one.

    >>> on_record(next(one for one in QUESTIONS["ivory"] if one.figure == "E048"))
    (-0.171, -0.308, -0.034)
    """
    figure = evidence.figure(asked.figure)
    if asked.part == "value":
        scale = 100 / figure.n if asked.percent and figure.n else 1.0
        return figure.value * scale, figure.lower, figure.upper
    quartiles = figure.iqr or (float("nan"), float("nan"))
    known = {"sd": figure.sd, "lower quartile": quartiles[0], "upper quartile": quartiles[1]}[asked.part]
    return float("nan") if known is None else known, None, None


def quantiles(values: np.ndarray) -> list[float]:
    """The 5th, 25th, 50th, 75th and 95th percentile over trials; NaN where no trial gives a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no trial gives a value: NaN is right
        return np.nanquantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()


def _compare(asked: Question, found: Repeats) -> Comparison:
    figure = evidence.figure(asked.figure)
    value, lower, upper = on_record(asked)
    q05, q25, q50, q75, q95 = quantiles(asked.values(found))
    return Comparison(
        name=asked.name,
        unit=asked.unit,
        published=value,
        published_lower=lower,
        published_upper=upper,
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

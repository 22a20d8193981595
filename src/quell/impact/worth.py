"""Whether it is worth it: net benefit, the price at which it just is, and what it would be worth to know for certain.

With QALYs gained q, costs of care added c (the drug not counted), a QALY worth w, and the price p of a course

    net benefit  b = w q - c - p,     worth it on average where  E b > 0
    highest price    E(w q - c),      ratio (ICER)  E(c + p) / E q
    acceptable       P(b > 0),        perfect information  E max(b, 0) - max(E b, 0)

Claxton 1999 (doi:10.1016/S0167-6296(98)00039-3): decide by the mean; the spread says what more research is worth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from quell.impact.markov import discounted

CURVE = 41  # points on a curve
POINTS = 400  # draws shown on the plane


class Gain(NamedTuple):
    """What treating one person adds, each of shape (draws,): QALYs, life years (both discounted), costs of care."""

    qalys: np.ndarray
    life_years: np.ndarray
    care: np.ndarray

    def worth(self, qaly: float) -> np.ndarray:
        """The highest price of a course by draw: what its health is worth, less the care that it adds."""
        return qaly * self.qalys - self.care


def perfect(benefit: np.ndarray) -> float:
    """Expected value of perfect information per decision about one person, from net benefits over draws.

    >>> perfect(np.array([-1.0, 3.0])), perfect(np.array([2.0, 3.0]))
    (0.5, 0.0)
    """
    return float(np.maximum(benefit, 0).mean() - max(benefit.mean(), 0.0))


def acceptable(benefit: np.ndarray) -> float:
    """The share of draws in which it is worth it."""
    return float((benefit > 0).mean())


def ratio(gain: Gain, price: float) -> dict[str, Any]:
    """Cost per QALY gained, or what to say instead of a ratio.

    >>> ratio(Gain(np.array([0.1]), np.array([0.1]), np.array([0.0])), 1000.0)["value"]
    10000.0
    """
    cost, health = float(gain.care.mean()) + price, float(gain.qalys.mean())
    tiny = 1e-12
    if health <= tiny:
        same = abs(health) <= tiny
        words = "no health is gained" if same else "health is lost"
        return {"value": math.nan, "words": f"{words}, so there is no cost per QALY"}
    if cost < 0:
        return {"value": cost / health, "words": "it saves money and gains health"}
    return {"value": cost / health, "words": ""}


def by_price(gain: Gain, worths: Mapping[str, float]) -> list[dict[str, float | str]]:
    """Chance of being worth it and value of perfect information per person, by price of a course and worth of a QALY."""
    highest = {name: gain.worth(worth) for name, worth in worths.items()}
    top = max(float(np.quantile(one, 0.99)) for one in highest.values())
    return [
        {
            "price": float(price),
            "worth": worths[name],
            "chance": acceptable(draws - price),
            "information": perfect(draws - price),
        }
        for name, draws in highest.items()
        for price in np.linspace(0, round_up(top), CURVE)
    ]


def by_worth(gain: Gain, price: float, most: float) -> list[dict[str, float]]:
    """Chance of being worth it by what a QALY is worth, at a price: the usual acceptability curve."""
    return [
        {"worth": float(worth), "chance": acceptable(gain.worth(worth) - price)}
        for worth in np.linspace(0, most, CURVE)
    ]


def of_nation(per_person: float, people_a_year: float, years: float, discount: float) -> float:
    """A value per person for all who would be treated in the years a decision stands, discounted.

    >>> round(of_nation(1.0, 100.0, 2.0, 0.0))
    200
    """
    middles = np.arange(math.ceil(years)) + 0.5
    return float(per_person * people_a_year * discounted(middles, discount).sum())


def plane(gain: Gain, price: float) -> list[dict[str, float]]:
    """Some of the draws as points: QALYs gained, and cost added with the drug at its price."""
    step = max(1, len(gain.qalys) // POINTS)
    return [
        {"qalys": float(q), "cost": float(c) + price}
        for q, c in zip(gain.qalys[::step], gain.care[::step], strict=True)
    ][:POINTS]


def explained(values: np.ndarray, by: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """How much of the variance each input explains by itself: R^2 of a cubic in its ranks, corrected for its terms.

    First-order indices (Strong, Oakley and Brennan 2014, doi:10.1177/0272989X13505910, with a polynomial for the
    smooth). An input that does not vary explains nothing.

    >>> x = np.linspace(0, 1, 100)
    >>> explained(x**2, {"x": x, "held": np.ones(100)})
    [{'name': 'x', 'share': 1.0}]
    """
    rows = []
    for name, draws in by.items():
        if np.ptp(draws) == 0 or np.ptp(values) == 0:
            continue
        place = np.argsort(np.argsort(draws)) / (len(draws) - 1)
        terms = np.polynomial.legendre.legvander(2 * place - 1, 3)
        left = values - terms @ np.linalg.lstsq(terms, values, rcond=None)[0]
        share = 1 - (left @ left / (len(values) - 4)) / values.var(ddof=1)
        rows.append({"name": name, "share": round(max(float(share), 0.0), 4)})
    return sorted(rows, key=lambda row: -row["share"])


def round_up(value: float) -> float:
    """A value raised to a round number, for the end of an axis.

    >>> round_up(1840.0), round_up(0.0)
    (2000.0, 100.0)
    """
    if value <= 0:
        return 100.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))

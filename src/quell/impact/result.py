"""The answer: what an effect would mean for a country, from the inputs' draws to plain data."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from quell.impact import nation, worth
from quell.impact.cohort import PER_YEAR, Lived, live
from quell.impact.effect import LONGEST, Effect, of_limits, ratio_of, years_of
from quell.impact.effect import of_draws as effect_of_draws
from quell.impact.inputs import ImpactError, Inputs
from quell.impact.nation import said
from quell.impact.worth import Gain

DRAWS, FEWEST, MOST = 1000, 2, 20_000
SCENARIO_DRAWS = 2000  # at most so many for each other supposition
HIGHER_RISK, YOUNGER = 1.71, 56.5  # E139: hsCRP high and staying so; E027: median age in IVORY
Tell = Callable[[str, float | None], None]


def silent(what: str, share: float | None) -> None:
    """Tell nobody how far it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Impact:
    """What treating people would do to them and to a country; ``as_dict`` is the whole answer as plain data."""

    inputs: Inputs
    effect: Effect
    drawn: Mapping[str, np.ndarray]
    control: Lived
    active: Lived
    price: float | None
    key: int

    @property
    def draws(self) -> int:
        return len(self.drawn["age"])

    @property
    def gain(self) -> Gain:
        """QALYs, life years and costs of care that treating one person adds, by draw."""
        return gained(self.control, self.active)

    @functools.cached_property
    def scenarios(self) -> list[dict[str, Any]]:
        """The same under other suppositions, one at a time."""
        return [_scenario(self, name, inputs, effect) for name, inputs, effect in _others(self)]

    def as_dict(self) -> dict[str, Any]:
        """Every number with its interval, as JSON holds it."""
        return {
            "country": self.inputs.title,
            "currency": self.inputs.currency,
            "symbol": self.inputs.symbol,
            "price_year": self.inputs.price_year,
            "inputs_date": self.inputs.date,
            "effect": self.effect.words,
            "draws": self.draws,
            "key": self.key,
            "price": self.price,
            "people": self._people(),
            "averted": nation.by_uptake(self.control, self.active, self.drawn),
            "over_time": nation.over_time(self.control, self.active, self.drawn),
            "needed": nation.needed(self.control, self.active),
            "person": self._person(),
            "worth": self._worth(),
            "plane": worth.plane(self.gain, self.price or 0.0),
            "curves": worth.by_price(self.gain, self._worths()),
            "acceptability": self._acceptability(),
            "explained": self._explained(),
            "scenarios": self.scenarios,
            "checks": self._checks(),
            "inputs": [_plain(one) for one in self.inputs.inputs],
            "gaps": [_plain(one) for one in self.inputs.gaps],
            "life_table": {name: getattr(self.inputs.life_table, name) for name in ("source", "date", "note")},
        }

    def _worths(self) -> dict[str, float]:
        return {name: self.inputs[name].value for name in ("worth_low", "worth_high")}

    def _people(self) -> dict[str, Any]:
        eligible = nation.eligible(self.drawn)
        ten = nation.treated(self.drawn, 10).sum(axis=0)
        return {
            "eligible": said(eligible)._asdict(),
            "treated_a_year": said(eligible * self.drawn["uptake"])._asdict(),
            "treated_in_10_years": said(ten)._asdict(),
        } | {
            name: self.inputs[name].value for name in ("admissions", "survive", "uptake", "ramp_years", "age", "women")
        }

    def _person(self) -> dict[str, Any]:
        """What one person lives through without and with treatment, and what is gained."""
        totals = ("years", "life_years", "qalys", "cost")
        return {
            name: {
                "without": said(getattr(self.control, name))._asdict(),
                "with": said(getattr(self.active, name))._asdict(),
                "gain": said(getattr(self.active, name) - getattr(self.control, name))._asdict(),
            }
            for name in totals
        }

    def _worth(self) -> list[dict[str, Any]]:
        """By what a QALY is worth: the highest price, and at the price (given, or that one) chance, ratio, information."""
        a_year = float((nation.eligible(self.drawn) * self.drawn["uptake"]).mean())
        years, discount = self.inputs["decision_years"].value, self.inputs["discount"].value
        rows = []
        for qaly in self._worths().values():
            draws = self.gain.worth(qaly)
            price = max(float(draws.mean()), 0.0) if self.price is None else self.price
            information = worth.perfect(draws - price)
            rows.append(
                {
                    "worth": qaly,
                    "highest_price": said(draws)._asdict(),
                    "price": price,
                    "net_benefit": said(draws - price)._asdict(),
                    "chance": worth.acceptable(draws - price),
                    "ratio": worth.ratio(self.gain, price),
                    "information": information,
                    "information_nation": worth.of_nation(information, a_year, years, discount),
                }
            )
        return rows

    def _acceptability(self) -> list[dict[str, float]]:
        price = self.price if self.price is not None else self._worth()[0]["price"]
        return worth.by_worth(self.gain, price, 2 * self.inputs["worth_high"].value)

    def _explained(self) -> list[dict[str, Any]]:
        """What the doubt about the highest price comes from."""
        by = {"effect": self.effect.log_ratio.mean(axis=1)} | dict(self.drawn)
        rows = worth.explained(self.gain.worth(self.inputs["worth_low"].value), by)
        meaning = {one.name: one.meaning for one in self.inputs.inputs} | {"effect": "the treatment's effect"}
        return [row | {"meaning": meaning[row["name"]]} for row in rows]

    def _checks(self) -> list[dict[str, Any]]:
        return [
            _plain(one) | {"model": said(getattr(self.control, one.what)[one.years * PER_YEAR])._asdict()}
            for one in self.inputs.checks
        ]


def gained(control: Lived, active: Lived) -> Gain:
    """What a treated course adds to an untreated one."""
    return Gain(active.qalys - control.qalys, active.life_years - control.life_years, active.cost - control.cost)


def of_effect(
    effect: Effect, *, inputs: Inputs | None = None, price: float | None = None, draws: int = DRAWS, key: int = 1
) -> Impact:
    """What an effect means for the country of the inputs; ``price``: of a course, everything included.

    >>> none = of_effect(effect_of_draws(np.zeros((1, 2))), draws=20)
    >>> float(abs(none.gain.qalys).max())
    0.0
    """
    inputs = inputs or Inputs.load()
    _check(draws, price)
    drawn = inputs.draw(draws, key=key)
    whole = effect.over(draws)
    control, active = live(inputs, drawn, whole.nothing), live(inputs, drawn, whole)
    return Impact(inputs=inputs, effect=whole, drawn=drawn, control=control, active=active, price=price, key=key)


def of_ratio(
    ratio: float,
    lower: float,
    upper: float,
    *,
    lasts: float = 2.0,
    inputs: Inputs | None = None,
    price: float | None = None,
    draws: int = DRAWS,
    key: int = 1,
) -> Impact:
    """What a hazard ratio of another infarction means, with its 95 % interval and the years it was seen to last.

    >>> found = of_ratio(0.7, 0.5, 0.98, draws=50)
    >>> found.gain.qalys.mean() > 0, found.draws
    (np.True_, 50)
    """
    _check(draws, price)
    effect = of_limits(ratio, lower, upper, lasts=lasts, draws=draws, key=key)
    return of_effect(effect, inputs=inputs, price=price, draws=draws, key=key)


def of_draws(
    log_ratio: np.ndarray,
    *,
    log_ratio_death: np.ndarray | None = None,
    risks: np.ndarray | None = None,
    words: str = "",
    inputs: Inputs | None = None,
    price: float | None = None,
    draws: int | None = None,
    key: int = 1,
) -> Impact:
    """What draws of an effect mean: tables of (draws, years) of log hazard ratios, and of hazards without treatment.

    >>> found = of_draws(np.log(np.full((40, 2), 0.8)), draws=40)
    >>> found.effect.lasts
    2.0
    """
    effect = effect_of_draws(log_ratio, log_ratio_death=log_ratio_death, risks=risks, words=words)
    return of_effect(effect, inputs=inputs, price=price, draws=draws or max(DRAWS, effect.draws), key=key)


def run(
    hazard_ratio: str = "",
    *,
    effect: Effect | None = None,
    country: str = "uk",
    inputs: str | pathlib.Path | None = None,
    lasts: str | float = "2 years",
    price: float | None = None,
    draws: int = DRAWS,
    key: int = 1,
    tell: Tell = silent,
) -> dict[str, Any]:
    """The whole answer as plain data, from what a person types: '0.7 (0.5 to 0.98)', or an effect by draws.

    >>> sorted(run("0.7 (0.5 to 0.98)", draws=20))[:3]
    ['acceptability', 'averted', 'checks']
    """
    if bool(hazard_ratio) == (effect is not None):
        raise ImpactError(
            "say the effect once: a design whose simulations have it, or --hazard-ratio '0.7 (0.5 to 0.98)'."
        )
    supposed = Inputs.load(inputs or country)
    tell("living with and without the treatment", None)
    common: dict[str, Any] = {"inputs": supposed, "price": price, "draws": draws, "key": key}
    if effect is None:
        found = of_ratio(*ratio_of(hazard_ratio), lasts=years_of(lasts), **common)
    else:
        found = of_effect(effect, **common)
    tell("trying other suppositions", None)
    return found.as_dict()


def _check(draws: int, price: float | None) -> None:
    if not FEWEST <= draws <= MOST:
        raise ImpactError(f"{draws:,} draws: write a number from {FEWEST} to {MOST:,}; {DRAWS:,} are usual.")
    if price is not None and not (math.isfinite(price) and price >= 0):
        raise ImpactError(f"a course cannot cost {price:g}. Write 0 or more, or leave the price out.")


def _others(of: Impact) -> Iterator[tuple[str, Inputs, Effect]]:
    """What else might be supposed: name, inputs, effect."""
    inputs, effect = of.inputs, of.effect
    yield "as supposed", inputs, effect
    yield "the effect ends with the time observed", inputs.but(wane_years=0), effect
    yield "the effect fades over 10 years", inputs.but(wane_years=10), effect
    yield "the effect lasts for life", inputs, effect._replace(lasts=float(LONGEST))
    yield "cardiovascular death falls as infarction does", inputs, effect._replace(log_ratio_death=effect.log_ratio)
    if effect.risks is None:
        higher = inputs.but(trend=inputs["trend"].value * HIGHER_RISK)
        yield f"patients at {HIGHER_RISK:g} times the risk (hsCRP that stays high)", higher, effect
        for check in (one for one in inputs.checks if one.what == "first"):
            model = float(of.control.first[check.years * PER_YEAR].mean())
            scale = math.log1p(-check.value) / math.log1p(-model)
            yield (
                f"patients at the risk that {check.source.split(',')[0]} counts",
                inputs.but(trend=inputs["trend"].value * scale),
                effect,
            )
    first = inputs.but(mortality_repeat=inputs["mortality_first"].value)
    yield "a repeat infarction does not raise later mortality", first, effect
    if inputs.life_table.first_age <= YOUNGER < inputs.life_table.last_age:
        yield f"patients aged {YOUNGER:g}, as in IVORY", inputs.but(age=YOUNGER), effect


def _scenario(of: Impact, name: str, inputs: Inputs, effect: Effect) -> dict[str, Any]:
    """One other supposition: only what it changes is drawn anew, so that all share their chance."""
    step = max(1, of.draws // SCENARIO_DRAWS)
    rows = np.arange(0, of.draws, step)
    changed = {one.name for one, old in zip(inputs.inputs, of.inputs.inputs, strict=True) if one != old}
    drawn = {
        key: np.full(len(rows), inputs[key].value) if key in changed else one[rows] for key, one in of.drawn.items()
    }
    tables = (None if one is None else one[rows] for one in (effect.log_ratio_death, effect.risks))
    thin = Effect(effect.log_ratio[rows], effect.lasts, effect.words, *tables)
    control, active = (
        (of.control, of.active)
        if not changed and effect is of.effect and step == 1
        else (live(inputs, drawn, thin.nothing), live(inputs, drawn, thin))
    )
    gain, five = gained(control, active), 5 * PER_YEAR
    return {
        "name": name,
        "draws": len(rows),
        "averted_per_1000": said(1000 * (control.infarctions[five] - active.infarctions[five]))._asdict(),
        "qalys": said(gain.qalys)._asdict(),
    } | {f"price_{name}": said(gain.worth(of.inputs[f"worth_{name}"].value))._asdict() for name in ("low", "high")}


def _plain(one: Any) -> dict[str, Any]:
    return {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}

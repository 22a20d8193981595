"""What an effect would mean for a country, in plain words: counts in honest digits, and what one must not conclude."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from quell.report import words

Found = Mapping[str, Any]


def count(value: float) -> str:
    """A count of people or events in honest digits: three.

    >>> count(1234.5), count(66.6), count(-0.2)
    ('1,230', '67', '0')
    """
    if not math.isfinite(value):
        return words.number(value)
    power = max(0, math.floor(math.log10(abs(value))) - 2) if abs(value) >= 1 else 0
    text = f"{round(value / 10**power) * 10**power:,.0f}"
    return "0" if text == "-0" else text.replace("-", "−")


def span(one: Mapping[str, float], write: Callable[[float], str] = count) -> str:
    """A value and its 95 % limits.

    >>> span({"value": 66.6, "lower": 4.9, "upper": 116.6})
    '67 (5 to 117)'
    """
    return f"{write(one['value'])} ({write(one['lower'])} to {write(one['upper'])})"


def percent(value: float) -> str:
    """A share as per cent, one decimal.

    >>> percent(0.0444)
    '4.4 %'
    """
    return words.number(100 * value, 1) + words.PERCENT


def small(value: float) -> str:
    """A gain of health: three decimals.

    >>> small(0.0565)
    '0.057'
    """
    return words.number(value, 3)


def money(found: Found) -> Callable[[float], str]:
    """How an amount of the country's money is written: three digits, and no pennies."""

    def write(value: float) -> str:
        text = count(abs(value))
        return f"{'−' if value < 0 and text != '0' else ''}{found['symbol']}{text}"

    return write


def number(one: Mapping[str, Any]) -> str:
    """A number needed to treat with its limits, or that there may be none.

    >>> number({"value": 64.0, "lower": 36.5, "upper": 855.0, "open": False})
    '64 (37 to 855)'
    >>> number({"value": 64.0, "lower": 36.5, "upper": 300.0, "open": True})
    '64 (37 to none: perhaps 300 to harm one)'
    """
    if one["value"] <= 0 or not math.isfinite(one["value"]):
        return "none"
    worst = "" if not math.isfinite(one["upper"]) else f": perhaps {count(math.ceil(one['upper']))} to harm one"
    upper = f"none{worst}" if one["open"] else count(math.ceil(one["upper"]))
    return f"{count(math.ceil(one['value']))} ({count(math.ceil(one['lower']))} to {upper})"


def sentence(found: Found) -> str:
    """The answer in one breath: events averted in ten years, patients per event, and the price."""
    uptake = found["people"]["uptake"]
    ten = found["over_time"][-1]
    two = next(row for row in found["needed"] if row["years"] == 2)
    pounds = money(found)
    low, high = found["worth"]
    if low["highest_price"]["value"] <= 0:
        price = "At no price would it be worth it."
    else:
        price = (
            f"A course would be worth up to {span(low['highest_price'], pounds)}, everything included, where a QALY is worth "
            f"{pounds(low['worth'])}, and up to {span(high['highest_price'], pounds)} at {pounds(high['worth'])}."
        )
    given = f"Given to {100 * uptake:.0f} % of eligible patients it would"
    if ten["value"] <= 0:
        more = {"value": -ten["value"], "lower": -ten["upper"], "upper": -ten["lower"]}
        what = f"bring {span(more)} more heart attacks" if ten["value"] < 0 else "avert no heart attack"
        return f"{given} {what} in the first ten years. {price}"
    return (
        f"{given} avert {span(ten)} heart attacks in the first ten years; {number(two['number'])} patients are treated for "
        f"each one averted within two years. {price}"
    )


def summary(found: Found) -> str:
    people = found["people"]
    return (
        f"Supposing: {found['effect']}. {count(people['admissions'])} admissions a year, {100 * people['survive']:.0f} % "
        f"survive, {span(people['eligible'])} a year are eligible; uptake rises over {people['ramp_years']:g} years. "
        f"{found['draws']:,} draws of the effect and of every input; in brackets where 95 % of them lie."
    )


def sure(found: Found) -> list[str]:
    """How sure: what the doubt comes from, and how the model fits what it was not given."""
    names = {"deaths": "deaths", "first": "another infarction", "cardiovascular_deaths": "cardiovascular deaths"}
    top = found["explained"][:2]
    lines = []
    if top:
        told = "; ".join(f"{row['meaning']} ({100 * row['share']:.0f} %)" for row in top)
        lines.append(f"What the doubt about the price comes from, most of all: {told}.")
    for one in found["checks"]:
        lines.append(
            f"Published and not used: {names[one['what']]} by {one['years']} years {percent(one['value'])} "
            f"({percent(one['lower'])} to {percent(one['upper'])}; {one['source']}). The model says "
            f"{span(one['model'], percent)}: {against(one)}."
        )
    low = found["worth"][0]
    lines.append(
        f"To know everything for certain would be worth {money(found)(low['information'])} per patient at a price of "
        f"{money(found)(low['price'])}, or {money(found)(low['information_nation'])} for the country "
        f"{'(that price is where the decision is most open)' if found['price'] is None and low['price'] > 0 else 'while the decision stands'}."
    )
    return lines


def against(one: Mapping[str, Any]) -> str:
    """Whether the model agrees with a published risk."""
    if one["model"]["lower"] <= one["upper"] and one["lower"] <= one["model"]["upper"]:
        return "they agree"
    return "too many" if one["model"]["value"] > one["value"] else "too few"


def beware(found: Found) -> list[str]:
    """What not to conclude: the first gaps, and what the drug has not shown."""
    assumed = sum(one["status"] == "assumed" for one in found["inputs"])
    return [
        "That the drug prevents heart attacks: the effect is put in, not found.",
        f"That the intervals hold all doubt: {assumed} of {len(found['inputs'])} inputs are assumed, and how they hang together is too.",
        *(one["text"] for one in found["gaps"][:2]),
    ]

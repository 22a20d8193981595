"""Written quantities become numbers here, once, and nowhere else.

Inside quell every number is a plain float in one canonical unit for its dimension: days, milligrams per litre,
million international units (MIU), cells per microlitre. People write ``"1.5 MIU"``, ``"2 mg/L"``, ``"18 years or
more"``, ``"1..5, 12..54 every 7"``; these functions read them, and say what is wrong when they cannot.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from typing import NamedTuple

DAYS_PER_YEAR = 365.25


class UnitError(ValueError):
    """A written quantity that cannot be read; the message says what, why and what to write instead."""


class Unit(NamedTuple):
    """How one unit converts: canonical value = value * factor, in the dimension's canonical unit."""

    dimension: str
    factor: float


CANONICAL = {
    "time": "day",
    "biological dose": "MIU",
    "biological dose per area": "MIU/m2",
    "mass": "mg",
    "mass per area": "mg/m2",
    "concentration": "mg/L",
    "cell concentration": "cells/µL",
    "length": "mm",
    "cholesterol": "mmol/L",
    "fraction": "1",
    "troponin": "ng/L",
    "body mass index": "kg/m2",
    "activity": "IU/mL",
}

UNITS: dict[str, Unit] = {
    "minute": Unit("time", 1 / 1440),
    "hour": Unit("time", 1 / 24),
    "day": Unit("time", 1.0),
    "week": Unit("time", 7.0),
    "month": Unit("time", DAYS_PER_YEAR / 12),
    "year": Unit("time", DAYS_PER_YEAR),
    "IU": Unit("biological dose", 1e-6),
    "kIU": Unit("biological dose", 1e-3),
    "MIU": Unit("biological dose", 1.0),
    "IU/m2": Unit("biological dose per area", 1e-6),
    "MIU/m2": Unit("biological dose per area", 1.0),
    "ng": Unit("mass", 1e-6),
    "ug": Unit("mass", 1e-3),
    "mg": Unit("mass", 1.0),
    "g": Unit("mass", 1e3),
    "kg": Unit("mass", 1e6),
    "ug/m2": Unit("mass per area", 1e-3),
    "mg/m2": Unit("mass per area", 1.0),
    "ug/L": Unit("concentration", 1e-3),
    "mg/L": Unit("concentration", 1.0),
    "mg/dL": Unit("concentration", 10.0),
    "g/L": Unit("concentration", 1e3),
    "cells/µL": Unit("cell concentration", 1.0),
    "cells/mL": Unit("cell concentration", 1e-3),
    "10^9/L": Unit("cell concentration", 1e3),
    "10^6/L": Unit("cell concentration", 1.0),
    "mm": Unit("length", 1.0),
    "cm": Unit("length", 10.0),
    "mmol/L": Unit("cholesterol", 1.0),
    "ng/L": Unit("troponin", 1.0),
    "kg/m2": Unit("body mass index", 1.0),
    "IU/mL": Unit("activity", 1.0),
    "1": Unit("fraction", 1.0),
    "%": Unit("fraction", 0.01),
}

_PLAIN = {"µ": "u", "μ": "u", "²": "2", "microgram": "ug", "micrograms": "ug", "mcg": "ug", "MU": "MIU"}
_PLURAL = {"min": "minute", "h": "hour", "d": "day", "wk": "week", "mo": "month", "y": "year", "yr": "year"}


def unit(name: str) -> Unit:
    """The unit of that name. Plurals, short forms, ``µ`` and ``²`` are understood.

    >>> unit("weeks").factor
    7.0
    """
    return UNITS[_spelling(name)]


def _spelling(name: str) -> str:
    text = name.strip()
    if text.replace("μ", "µ").replace("uL", "µL") in UNITS:
        return text.replace("μ", "µ").replace("uL", "µL")
    for written, plain in _PLAIN.items():
        text = plain if text == written else text.replace(written, plain) if len(written) == 1 else text
    text = _PLURAL.get(text, text)
    if text not in UNITS and text.endswith("s") and text[:-1] in UNITS:
        text = text[:-1]
    if text not in UNITS:
        near = difflib.get_close_matches(text, UNITS, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UnitError(f"'{name}' is no unit that quell knows.{hint}")
    return text


def exactly(value: float) -> float:
    """A converted value without the dust of the conversion: 91.7 µg and 0.0917 mg are one number.

    >>> exactly(91.7 * 1e-3) == 0.0917
    True
    """
    return float(f"{value:.12g}")


class Quantity(NamedTuple):
    """A number in the canonical unit of its dimension."""

    value: float
    dimension: str

    @property
    def unit(self) -> str:
        return CANONICAL[self.dimension]

    def __str__(self) -> str:
        return f"{self.value:.12g} {self.unit}"


_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(\S.*?)?\s*$")


def quantity(text: str, *dimensions: str) -> Quantity:
    """Read ``"1.5 MIU"``: a number, a space, a unit. Raises UnitError in a sentence.

    ``dimensions`` are those allowed here; none means any.

    >>> quantity("91.7 µg")
    Quantity(value=0.0917, dimension='mass')
    """
    wanted = " or ".join(dict.fromkeys(CANONICAL[name] for name in dimensions)) or "a unit"
    match = _QUANTITY.match(text)
    if not match:
        raise UnitError(
            f"'{text}' is not a quantity. Write a number and a unit, such as '1.5 {wanted.split(' or ')[0]}'."
        )
    number, name = match.groups()
    if name is None:
        raise UnitError(f"'{text}' has no unit. Write one after the number: {wanted}.")
    found = unit(name)
    if dimensions and found.dimension not in dimensions:
        raise UnitError(f"'{text}' is a {found.dimension}; this needs {_a(dimensions[0])}, in {wanted}.")
    value = exactly(float(number) * found.factor)
    if not math.isfinite(value):
        raise UnitError(f"'{text}' is not a finite number.")
    return Quantity(value, found.dimension)


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def days(text: str | int | float) -> float:
    """A length of time in days: ``"2 years"`` is 730.5, ``"8 weeks"`` is 56; a bare number is in days."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    return quantity(str(text), "time").value


def day(text: str | int) -> int:
    """One study day: 12, ``"12"`` or ``"day 12"``. Day 1 is the day of the first dose.

    >>> day("day 12"), day(-14)
    (12, -14)
    """
    match = re.fullmatch(r"\s*(?:day\s*)?([-+]?\d+)\s*", str(text), re.IGNORECASE)
    if not match:
        raise UnitError(f"'{text}' is not a study day. Write a whole number, such as 12 or 'day 12'.")
    return int(match.group(1))


LONGEST_SCHEDULE = 5_000

_PART = re.compile(r"^([-+]?\d+)(?:\s*\.\.\s*([-+]?\d+)(?:\s+every\s+(\d+))?)?$")


def day_pattern(text: str) -> tuple[int, ...]:
    """Dosing days: ``"1..5, 12..54 every 7"`` is 1 to 5, then every seventh day from 12 to 54.

    >>> day_pattern("1..3, 12..26 every 7")
    (1, 2, 3, 12, 19, 26)
    """
    found: list[int] = []
    for part in str(text).split(","):
        match = _PART.match(part.strip())
        if not match:
            raise UnitError(
                f"'{part.strip()}' in '{text}' is not a day or a range of days. "
                "Write days as '1..5, 12..54 every 7': ranges with two dots, 'every' for the step, commas between."
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first:
            raise UnitError(f"the range '{part.strip()}' in '{text}' ends before it starts. Write '{last}..{first}'.")
        if step < 1 or (last - first) // step > LONGEST_SCHEDULE:
            raise UnitError(f"the range '{part.strip()}' in '{text}' has no sensible step. Write 'every 1' or more.")
        found.extend(range(first, last + 1, step))
    if len(set(found)) != len(found):
        repeated = sorted({d for d in found if found.count(d) > 1})
        raise UnitError(f"'{text}' names day {repeated[0]} twice. Name each day once.")
    if len(found) > LONGEST_SCHEDULE:
        raise UnitError(f"'{text}' has {len(found)} days; at most {LONGEST_SCHEDULE} are possible.")
    return tuple(sorted(found))


def write_days(chosen: tuple[int, ...]) -> str:
    """The shortest way to write dosing days; ``day_pattern`` reads it back to the same days.

    >>> write_days((1, 2, 3, 4, 5, 12, 19, 26))
    '1..5, 12..26 every 7'
    """
    parts: list[str] = []
    rest = list(chosen)
    while rest:
        step = rest[1] - rest[0] if len(rest) > 1 else 1
        length = 1
        while length < len(rest) and rest[length] - rest[length - 1] == step:
            length += 1
        length = length if length > 2 else 1
        last = rest[length - 1]
        parts.append(str(rest[0]) if length == 1 else f"{rest[0]}..{last}" + ("" if step == 1 else f" every {step}"))
        rest = rest[length:]
    return ", ".join(parts)


class Rule(NamedTuple):
    """A limit on a quantity: value ``at least`` / ``above`` / ``at most`` / ``below`` the canonical number."""

    relation: str
    value: float
    dimension: str

    def allows(self, x):
        """Whether x, in the canonical unit, keeps the rule; works on arrays."""
        compare = {"at least": operator.ge, "above": operator.gt, "at most": operator.le, "below": operator.lt}
        return compare[self.relation](x, self.value)

    def __str__(self) -> str:
        factor = DAYS_PER_YEAR if self.dimension == "time" else 1
        name = "years" if self.dimension == "time" else CANONICAL[self.dimension]
        return f"{self.relation} {exactly(self.value / factor):.12g} {name}"


_RELATIONS = (
    (r"^(?:at least|from|no less than|>=|≥)\s*(.+)$", "at least"),
    (r"^(?:more than|above|over|greater than|>)\s*(.+)$", "above"),
    (r"^(?:at most|up to|no more than|<=|≤)\s*(.+)$", "at most"),
    (r"^(?:less than|below|under|<)\s*(.+)$", "below"),
    (r"^(.+?)\s+(?:or more|and over|or older|or above)$", "at least"),
    (r"^(.+?)\s+(?:or less|or under|or younger|or below)$", "at most"),
)


def rule(text: str, *dimensions: str) -> Rule:
    """Read ``"above 2 mg/L"`` or ``"18 years or more"``.

    >>> str(rule("18 years or more"))
    'at least 18 years'
    """
    for pattern, relation in _RELATIONS:
        match = re.match(pattern, text.strip(), re.IGNORECASE)
        if match:
            found = quantity(match.group(1), *dimensions)
            return Rule(relation, found.value, found.dimension)
    raise UnitError(
        f"'{text}' is not a rule. Write 'above 2 mg/L', 'at least 18 years', 'at most 85 years' or 'below 2 mg/L'."
    )

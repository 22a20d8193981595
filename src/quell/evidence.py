"""Published figures as numbers, each with its source, its status and what it may be used for.

``evidence.toml`` is the table; ``figure("E048")`` is one entry. A figure that *validates* is never fitted to: the
results of IVORY and IVORY-FINALE are of that kind, always, so that agreement with them means something.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from quell.sentences import BadInput, explain, near, read_toml

_STRICT = pydantic.ConfigDict(extra="forbid", str_strip_whitespace=True)
RESULTS = (
    "E025",
    "E026",
    "E032",
    "E046",
    *(f"E{number:03}" for number in range(48, 57)),
    "E063",
    "E064",
    "E065",
    "E066",
)


class EvidenceError(BadInput):
    """A table of evidence that cannot be used, in sentences."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Citation:
    """Who says it, and where it can be read."""

    citation: str = pydantic.Field(min_length=1)
    link: str = ""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Figure:
    """One published number with its spread: a 95 % interval, a standard error or deviation, quartiles or a range."""

    id: str = pydantic.Field(pattern=r"^E\d{3}(\.[a-z0-9.-]+)?$")
    name: str = pydantic.Field(min_length=1)
    population: str = pydantic.Field(min_length=1)
    value: float
    unit: str = pydantic.Field(min_length=1)
    source: Citation
    status: Literal["read", "derived", "recalled", "unknown"]
    role: Literal["calibrates", "validates", "describes"]
    lower: float | None = None
    upper: float | None = None
    se: float | None = pydantic.Field(default=None, gt=0)
    sd: float | None = pydantic.Field(default=None, gt=0)
    iqr: tuple[float, float] | None = None
    range: tuple[float, float] | None = None
    n: int | None = pydantic.Field(default=None, gt=0)
    note: str = ""

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Figure:
        if not math.isfinite(self.value):
            raise ValueError(f"{self.id} has the value {self.value}, which is not a finite number.")
        if (self.lower is None) != (self.upper is None):
            raise ValueError(f"{self.id} has one end of an interval. Give both lower and upper, or neither.")
        for kind, ends in (("interval", self.interval), ("iqr", self.iqr), ("range", self.range)):
            if ends and not ends[0] <= self.value <= ends[1]:
                raise ValueError(f"{self.id}: the {kind} {ends[0]:g} to {ends[1]:g} does not contain {self.value:g}.")
        if not self.source.link and self.status != "recalled":
            raise ValueError(f"{self.id} is {self.status}, and its source has no link. Add one.")
        if self.role == "calibrates" and self.id[:4] in RESULTS:
            raise ValueError(f"{self.id} is a result of IVORY and cannot calibrate: it validates.")
        if self.unit == "people" and self.n is not None and not 0 <= self.value <= self.n:
            raise ValueError(f"{self.id} counts {self.value:g} people of {self.n}.")
        return self

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval."""
        return None if self.lower is None or self.upper is None else (self.lower, self.upper)

    @property
    def share(self) -> float:
        """The share of n, for a count of people.

        >>> round(figure("E028.placebo").share, 3)
        0.226
        """
        if self.unit != "people" or self.n is None:
            raise EvidenceError(f"{self.id} ({self.name}) is not a count of people among n.")
        return self.value / self.n

    def __str__(self) -> str:
        spread = f" ({self.lower:g} to {self.upper:g})" if self.interval else ""
        return (
            f"{self.id} {self.name}, {self.population}: {self.value:g}{spread} {self.unit} [{self.status}; {self.role}]"
        )


@functools.cache
def load(path: pathlib.Path | None = None) -> Mapping[str, Figure]:
    """Every figure by its id; raises EvidenceError in sentences.

    >>> load()["E048"].interval
    (-0.308, -0.034)
    """
    place = path or pathlib.Path(str(importlib.resources.files("quell") / "evidence.toml"))
    declared = read_toml(place)
    for key in declared:
        if key not in ("figures", "sources"):
            raise EvidenceError(
                f"{place.name} has the key '{key}', which quell does not know. {near(key, ('figures', 'sources'))}"
            )
    sources = {name: _citation(name, one, place.name) for name, one in declared.get("sources", {}).items()}
    found: dict[str, Figure] = {}
    for entry in declared.get("figures", []):
        one = _figure(entry, sources, place.name)
        if one.id in found:
            raise EvidenceError(f"{place.name} has two figures called '{one.id}'. Give each its own id.")
        found[one.id] = one
    unused = sources.keys() - {entry["source"] for entry in declared.get("figures", [])}
    if unused:
        raise EvidenceError(f"{place.name}: no figure cites the source '{min(unused)}'. Remove it.")
    return found


def figure(id: str) -> Figure:
    """One figure by its id; raises EvidenceError naming the nearest one.

    >>> figure("E071").value
    1.46
    """
    figures = load()
    if id not in figures:
        parts = sorted(one for one in figures if one.startswith(f"{id}."))
        hint = f"It has parts: {', '.join(parts)}." if parts else near(id, figures)
        raise EvidenceError(f"there is no figure '{id}' in the evidence. {hint}")
    return figures[id]


def _citation(name: str, declared: Any, file: str) -> Citation:
    if not re.fullmatch(r"[a-z0-9-]+", name) or not isinstance(declared, Mapping):
        raise EvidenceError(f"{file}: the source '{name}' is not a name with a citation and a link.")
    try:
        return Citation(**declared)
    except pydantic.ValidationError as error:
        raise EvidenceError(explain(error, Citation, declared, f"{file}, source '{name}'")) from None


def _figure(declared: Any, sources: Mapping[str, Citation], file: str) -> Figure:
    if not isinstance(declared, Mapping):
        raise EvidenceError(
            f"{file}: a figure is a table of id, name, population, value, unit, source, status and role."
        )
    id = str(declared.get("id", "without id"))
    source = str(declared.get("source"))
    if source not in sources:
        raise EvidenceError(
            f"{file}, figure '{id}', cites '{source}', which is not among [sources]. {near(source, sources)}"
        )
    try:
        return Figure(**{**declared, "source": sources[source]})
    except pydantic.ValidationError as error:
        raise EvidenceError(explain(error, Figure, declared, f"{file}, figure '{id}'")) from None

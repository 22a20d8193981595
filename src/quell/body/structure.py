"""Structures that the evidence cannot tell apart, as named options of the body: uncertainty that no interval shows.

Each is a change of constants, so every part of quell that takes parameters takes them, drawn or not.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from importlib import resources

from quell.body.parameters import Parameters, load
from quell.sentences import BadInput, near


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One structure: what it says, and the constants it changes from their values in the table."""

    name: str
    meaning: str
    source: str
    changes: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternative:
    """A question of structure with its options; the first is the one used unless another is asked for."""

    name: str
    title: str
    options: tuple[Option, ...]


@functools.cache
def table() -> tuple[Alternative, ...]:
    """Every question of structure and its options.

    >>> [one.name for one in table()]
    ['limit', 'depletion', 'contraction']
    """
    text = resources.files("quell.body").joinpath("structure.toml").read_text(encoding="utf-8")
    return tuple(
        Alternative(
            name=name,
            title=row["title"],
            options=tuple(Option(name=option, **what) for option, what in row["options"].items()),
        )
        for name, row in tomllib.loads(text).items()
    )


def structured(parameters: Parameters, chosen: dict[str, str]) -> Parameters:
    """The constants under chosen structures, such as {"limit": "consumption"}: each change is a ratio to the table's value.

    So drawn constants keep their draw. Raises BadInput when a question or an option has another name.

    >>> structured(load(), {"depletion": "none"}).depletion
    0.0
    """
    known = {one.name: {option.name: option for option in one.options} for one in table()}
    base = load()
    for question, option in chosen.items():
        if question not in known:
            raise BadInput(f"'{question}' is no question of structure. {near(question, known)}")
        if option not in known[question]:
            raise BadInput(f"'{option}' is no option of '{question}'. {near(option, known[question])}")
        for name, value in known[question][option].changes.items():
            ratio = value / getattr(base, name)
            parameters = parameters._replace(**{name: getattr(parameters, name) * ratio})
    return parameters

"""Validation errors as sentences: what is wrong, where, why, and what to write instead."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
import tomllib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

LARGEST_DECLARATION = 2_000_000  # bytes; a protocol is a few kilobytes, so more is not one


class BadInput(ValueError):  # noqa: N818 - it names the input, which is at fault, not the program
    """Something a person gave cannot be used; the message is for them. The command line ends with exit code 2."""


def near(word: str, known: Iterable[str]) -> str:
    """'Did you mean …?' for a word that is not among the known ones, or the list of them.

    >>> near("dosse", ["doses", "name"])
    "Did you mean 'doses'?"
    """
    names = [str(name) for name in known]
    lowered = {name.lower(): name for name in names}
    found = difflib.get_close_matches(str(word).lower(), lowered, n=1, cutoff=0.6)
    if found:
        return f"Did you mean '{lowered[found[0]]}'?"
    if not names:
        return "None is declared."
    shown = ", ".join(f"'{name}'" for name in names[:12])
    return f"Known here: {shown}{' …' if len(names) > 12 else ''}."


def read_toml(path: pathlib.Path) -> dict[str, Any]:
    """A TOML file as a dictionary, bounded in size; raises BadInput in a sentence."""
    try:
        size = path.stat().st_size
        if size > LARGEST_DECLARATION:
            raise BadInput(f"{path} has {size:,} bytes; a declaration has at most {LARGEST_DECLARATION:,}. Is it data?")
        if size == 0:
            raise BadInput(f"{path} is empty. Start from a built-in protocol: quell check ivory --show > mine.toml")
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not TOML: {error}.") from None
    except RecursionError:
        raise BadInput(f"{path} is nested too deeply to be a declaration.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from None


def explain(error: pydantic.ValidationError, kind: type, declared: Mapping[str, Any], where: str) -> str:
    """All the errors of one declaration as sentences, one a line."""
    errors = [dict(one) for one in error.errors(include_url=False)[:10]]
    # a part that failed makes its list look too short: the part's own error says it better
    errors = [one for one in errors if one["type"] != "too_short" or len(errors) == 1]
    lines = [_sentence(one, kind, declared) for one in errors if not _misspelt(one, errors, kind)]
    return "\n".join(f"{where}: {line}" for line in dict.fromkeys(lines))


def _misspelt(missing: dict[str, Any], errors: list[dict[str, Any]], kind: type) -> bool:
    """Whether a missing key is only misspelt: the unknown key beside it already gets the hint."""
    if not str(missing["type"]).startswith("missing"):
        return False
    beside = [one["loc"][-1] for one in errors if one["type"] in _UNKNOWN and one["loc"][:-1] == missing["loc"][:-1]]
    return any(
        f"'{missing['loc'][-1]}'" in near(str(word), _fields(kind, list(missing["loc"][:-1]))) for word in beside
    )


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")

# What pydantic says in a programmer's words, in a person's.
_NEEDED = {
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_parsing": "a number is needed",
    "float_type": "a number is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed",
    "string_type": "text in quotes is needed",
    "tuple_type": "a list in square brackets is needed",
    "dict_type": "a table of names and values is needed",
    "dataclass_type": "a table of names and values is needed",
}


def _sentence(error: dict[str, Any], kind: type, declared: Mapping[str, Any]) -> str:
    loc = [step for step in error["loc"] if not str(step).startswith(("function-", "dataclass", "tagged"))]
    place, last = _place(loc[:-1], declared), str(loc[-1]) if loc else ""
    match error["type"]:
        case kind_of if kind_of in _UNKNOWN:
            return f"{place} has the key '{last}', which quell does not know. {near(last, _fields(kind, loc[:-1]))}"
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return f"{place} lacks '{last}'. Add it."
        case "value_error" | "assertion_error":
            return f"{_place(loc, declared)}: {error['ctx']['error']!s}" if loc else str(error["ctx"]["error"])
        case "literal_error" | "enum":
            known = [word.strip("' ") for word in str(error["ctx"]["expected"]).replace(" or ", ", ").split(",")]
            return f"{_place(loc, declared)} is '{error['input']}'. {near(str(error['input']), known)}"
        case _:
            said = _NEEDED.get(error["type"], error["msg"][0].lower() + error["msg"][1:])
            return f"{_place(loc, declared)} is {_shown(error['input'])}: {said}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "…"


def _place(loc: list[Any], declared: Mapping[str, Any]) -> str:
    """Where in the declaration, by name where there is one: arm 'active', doses, entry 2."""
    words: list[str] = []
    here: Any = declared
    for step in loc:
        here = _inside(here, step)
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, Mapping) else None
            words[-1] = f"{words[-1]} '{name}'" if isinstance(name, str) else f"{words[-1]} entry {step + 1}"
        else:
            words.append(str(step))
    return ", ".join(words) or "the declaration"


def _inside(here: Any, step: Any) -> Any:
    try:
        return here[step]
    except (KeyError, IndexError, TypeError):
        return None


def _fields(kind: type, loc: list[Any]) -> list[str]:
    """The keys allowed at a place, found by walking the dataclass annotations."""
    here: Any = kind
    for step in loc:
        if isinstance(step, int) or not dataclasses.is_dataclass(here):
            continue
        here = _element(typing.get_type_hints(here).get(str(step)))
    return [field.name for field in dataclasses.fields(here)] if dataclasses.is_dataclass(here) else []


def _element(annotation: Any) -> Any:
    """The dataclass inside ``tuple[X, ...]`` or ``X | None``."""
    if dataclasses.is_dataclass(annotation):
        return annotation
    return next((a for a in map(_element, typing.get_args(annotation)) if dataclasses.is_dataclass(a)), None)

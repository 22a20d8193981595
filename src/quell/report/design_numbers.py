"""A design's numbers as they are written on its page, and where they stand in its verdict.

``±`` is everywhere one Monte Carlo standard error, clustered by draw where a world's constants are uncertain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from quell.report import words
from quell.units import DAYS_PER_YEAR

Found = Mapping[str, Any]
One = Mapping[str, Any]

NOTHING = "–"
MOST_SIZES = 4  # told one by one in a sentence


# -- numbers -------------------------------------------------------------------------------------------------------------
def known(value: Any) -> bool:
    """Whether there is a finite number.

    >>> known(0.0), known(None), known(float("nan"))
    (True, False, False)
    """
    return value is not None and math.isfinite(value)


def with_error(one: One | None, scale: float = 1.0, unit: str = "", least: int = 0) -> str:
    """A value with its Monte Carlo error to two digits of the error.

    >>> with_error({"value": 3712.1, "error": 8.42}), with_error({"value": 0.0271, "error": 0.0041}, unit=" TBR")
    ('3,712.1 ± 8.4', '0.0271 ± 0.0041 TBR')
    """
    if one is None or not known(one["value"]):
        return NOTHING
    if not known(one["error"]):
        return f"{grouped(scale * one['value'], 2)}{unit} (error not known)"
    at = max(words.decimals(scale * one["error"]), least) if one["error"] else least
    return f"{grouped(scale * one['value'], at)} ± {grouped(scale * one['error'], at)}{unit}"


def grouped(value: float, places: int) -> str:
    """A number with thousands apart and a true minus.

    >>> grouped(-12345.6, 0)
    '−12,346'
    """
    text = f"{value:,.{places}f}"
    return (text[1:] if text.startswith("-") and not text.strip("-0.,") else text).replace("-", "−")


def percent(one: One | None, trials: int | None = None) -> str:
    """A frequency with its error, as percent; where it always or never happened, of how many trials.

    >>> percent({"value": 0.3462, "error": 0.0213}), percent({"value": 0.0, "error": 0.0}, 1000)
    ('34.6 % ± 2.1', '0 % (0 of 1,000)')
    """
    if one is None or not known(one["value"]):
        return NOTHING
    if not one["error"] and one["value"] in (0.0, 1.0):
        happened = "" if trials is None else f" ({trials if one['value'] else 0:,} of {trials:,})"
        return f"{100 * one['value']:.0f} %{happened}"
    if not known(one["error"]):
        return f"{100 * one['value']:.1f} % (error not known)"
    at = words.decimals(100 * one["error"])
    return f"{words.number(100 * one['value'], at)} % ± {words.number(100 * one['error'], at)}"


def count(one: One | None) -> str:
    """A mean number of people or events, in whole ones; its error is at least one.

    >>> count({"value": 3712.1, "error": 8.4}), count({"value": 2399.9, "error": 0.1})
    ('3,712 ± 8', '2,400 ± 1')
    """
    if one is None or not known(one["value"]):
        return NOTHING
    error = f" ± {max(1, math.ceil(one['error'] - 0.5)):,}" if known(one["error"]) and one["error"] else ""
    return f"{one['value']:,.0f}{error}"


def years(one: One | None, spread: bool = False) -> str:
    """A mean number of days as years, with its error; with ``spread`` where nine in ten trials lie.

    >>> years({"value": 1190.0, "error": 4.9, "q05": 1018.0, "q95": 1524.0}, spread=True)
    '3.26 ± 0.01 (2.8 to 4.2)'
    """
    if one is None or not known(one["value"]):
        return NOTHING
    error = f" ± {max(one['error'] / DAYS_PER_YEAR, 0.01):.2f}" if known(one["error"]) else ""
    between = f" ({in_years(one['q05'])} to {in_years(one['q95'])})" if spread and known(one.get("q05")) else ""
    return f"{one['value'] / DAYS_PER_YEAR:.2f}{error}{between}"


def in_years(days: float) -> str:
    """Days as years, one decimal."""
    return f"{days / DAYS_PER_YEAR:.1f}"


def listed(parts: Sequence[str], last: str = "and") -> str:
    """
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return "".join(parts) if len(parts) < 2 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


# -- effects -------------------------------------------------------------------------------------------------------------
def is_ratio(found: Found) -> bool:
    """Whether the working scale of the effect is the logarithm of a ratio."""
    declared = found["declared"]
    return not declared["primary"].get("reading") and declared.get("test", {}).get("method") != "restricted mean"


def effect_name(found: Found) -> str:
    """What the effect is called, on the scale on which it is shown."""
    declared = found["declared"]
    if declared["primary"].get("reading"):
        return f"difference in {declared['primary']['reading']}"
    method = declared.get("test", {}).get("method", "log-rank")
    named = {"restricted mean": "difference in restricted mean time, days", "win ratio": "win ratio"}
    return named.get(method, "hazard ratio")


def effect(found: Found, value: Any) -> str:
    """An effect from its working scale: ratios from their logarithm."""
    if not known(value):
        return NOTHING
    return words.number(math.exp(value), 2) if is_ratio(found) else words.significant(value, 3)


def effects(found: Found, lower: Any, upper: Any) -> str:
    return f"{effect(found, lower)} to {effect(found, upper)}"


def larger_is_better(found: Found) -> bool:
    """Whether a larger effect favours the active arm."""
    declared = found["declared"]
    method = declared.get("test", {}).get("method", "log-rank")
    return method in ("restricted mean", "win ratio") or declared["primary"].get("better") == "higher"


def by_strength(found: Found, cell: One) -> list[One]:
    """The groups of draws by true effect, the strongest first, each with its limits in rising order."""
    groups = list(cell.get("by_truth") or ())
    return groups[::-1] if larger_is_better(found) else groups


def edge(found: Found, group: One, *, strong: bool) -> str:
    """Where the strongest or weakest group begins: "0.89 or less"."""
    more = strong == larger_is_better(found)
    return f"{effect(found, group['lower' if more else 'upper'])} or {'more' if more else 'less'}"


def part(groups: int) -> str:
    """
    >>> part(10), part(7)
    ('tenth', 'of 7 equal parts')
    """
    return {2: "half", 3: "third", 4: "quarter", 5: "fifth", 10: "tenth"}.get(groups, f"of {groups} equal parts")


def allowed(found: Found) -> str:
    """The one-sided level as percent."""
    return f"{100 * found['level']:.3g} %"


# -- worlds and cells -----------------------------------------------------------------------------------------------------
class Focus(NamedTuple):
    """The world that the answer is about, and what was found in it, smallest size first."""

    world: One
    cells: tuple[One, ...]
    lived: bool  # its effect comes from the biology, not by assumption


def worlds(found: Found) -> dict[str, One]:
    return {one["name"]: one for one in found["worlds"]}


def is_lived(world: One) -> bool:
    """Whether the world draws from a posterior, takes nothing out and keeps every draw."""
    return world["kind"] != "assumed" and not world["null"] and not world.get("best")


def cells_of(found: Found, world: str) -> tuple[One, ...]:
    """The cells of one world, smallest size first."""
    mine = [cell for cell in found["cells"] if cell["world"] == world]
    return tuple(sorted(mine, key=lambda cell: (cell["people"], cell["events"] or 0)))


def ordered(found: Found) -> list[One]:
    """The cells by world in the design's order, smallest size first."""
    names = dict.fromkeys(cell["world"] for cell in found["cells"])
    return [cell for name in names for cell in cells_of(found, name)]


def cell_at(found: Found, world: str, variant: int) -> One | None:
    return next((one for one in found["cells"] if (one["world"], one["variant"]) == (world, variant)), None)


def focus(found: Found) -> Focus:
    """The main world; where only worlds by assumption were tried, the first in which the drug does something."""
    known_worlds = worlds(found)
    main = known_worlds[found["main"]]
    if main["null"]:
        others = [cell["world"] for cell in found["cells"] if not cell["null"]]
        main = known_worlds[others[0]] if others else main
    return Focus(main, cells_of(found, main["name"]), is_lived(main))


def nulls(found: Found) -> list[One]:
    """The cells in which no arm does anything, so that every success is an error."""
    return [cell for cell in found["cells"] if cell["null"]]


def shown(found: Found, world: str) -> str:
    """A world as it is called on the page."""
    return str(worlds(found)[world]["label"])


def drug(found: Found) -> str:
    return listed(found["declared"].get("active", ["the drug"]), "or")


def by_size(cells: Sequence[One], write: Callable[[One], str]) -> str:
    """Something of each size: "31 % with 2,400 people and 35 % with 4,000"."""
    some = cells if len(cells) <= MOST_SIZES else [cells[0], cells[-1]]
    if len({cell["people"] for cell in some}) < len(some):
        return listed([f"{write(cell)} with {cell['size']}" for cell in some])
    parts = [f"{write(cell)} with {cell['people']:,}{'' if step else ' people'}" for step, cell in enumerate(some)]
    return listed(parts)

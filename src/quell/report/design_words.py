"""A design's verdict in plain words: the answer in three sentences, how sure it is, and what not to conclude."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quell.report import words
from quell.report.design_numbers import (
    MOST_SIZES,
    Focus,
    Found,
    One,
    allowed,
    by_size,
    by_strength,
    cell_at,
    cells_of,
    count,
    edge,
    effect,
    effect_name,
    effects,
    focus,
    in_years,
    known,
    listed,
    nulls,
    part,
    percent,
    shown,
    years,
)

USUAL = 0.7  # the hazard ratio told on the first screen, where it was tried
HALF = 0.5  # above it success is more likely than failure


# -- the answer -----------------------------------------------------------------------------------------------------------
def sentence(found: Found) -> str:
    """The answer in three sentences: the chance of success; people and years; what could go wrong."""
    return " ".join(one for one in (_chance(found), _takes(found), _wrong(found)) if one)


def _chance(found: Found) -> str:
    here = focus(found)
    if here.world["null"]:
        return (
            "Only worlds in which the drug does nothing were tried, so nothing is known here of the chance of success."
        )
    if here.lived:
        said = by_size(here.cells, lambda cell: percent(cell["success"], cell["trials"]))
        return f"{_rather(here)}: averaged over what the evidence leaves open, its chance of success is {said}."
    told = [
        _in_world(found, name) for name in dict.fromkeys(cell["world"] for cell in found["cells"] if not cell["null"])
    ]
    return (
        f"The chance that the trial succeeds is {listed(told[:MOST_SIZES])}: each supposes the effect, and what the biology makes of "
        "it was not simulated here."
    )


def _rather(here: Focus) -> str:
    """The verdict in a clause."""
    enough = [cell["success"]["value"] > HALF for cell in here.cells]
    if not any(enough):
        return "The trial would more likely fail to show a benefit than show one"
    return "The trial would more likely show a benefit than not" + ("" if all(enough) else ", if it is large enough")


def _in_world(found: Found, world: str) -> str:
    cell = cells_of(found, world)[-1]
    return f"{percent(cell['success'], cell['trials'])} with {cell['people']:,} people (“{shown(found, world)}”)"


def _takes(found: Found) -> str:
    here = focus(found)
    cells = here.cells
    some = cells if len(cells) <= MOST_SIZES else (cells[0], cells[-1])
    people = listed([_three(cell["enrolled"]["value"]) for cell in some], "or")
    length = listed([in_years(cell["duration"]["value"]) for cell in some], "or")
    errors = [_relative(cell[name]) for cell in some for name in ("enrolled", "duration")]
    size = ", smallest size first" if len(some) > 1 else ""
    where = "" if here.lived else f", in the world “{here.world['label']}”"
    return f"On average it takes {people} people and {length} years{size}{where} (± at most {max(100 * max(errors), 0.1):.1g} %)."


def _three(value: float) -> str:
    """Three digits.

    >>> _three(6078.2)
    '6,080'
    """
    return f"{float(f'{value:.3g}'):,.0f}"


def _relative(one: One) -> float:
    return abs(one["error"] / one["value"]) if known(one["error"]) and one["value"] else 0.0


def _wrong(found: Found) -> str:
    ways = [one for one in (_too_little(found), _by_luck(found)) if one]
    if len(ways) == 2:
        return f"It can go wrong in two ways: {ways[0]}; or {ways[1]}."
    return f"It can go wrong: {ways[0]}." if ways else ""


def _too_little(found: Found) -> str:
    here = focus(found)
    groups = by_strength(found, here.cells[-1]) if here.cells else []
    if not groups:
        return ""
    weak = groups[-1]
    size = f" with {here.cells[-1]['people']:,} people" if len(here.cells) > 1 else ""
    return (
        f"the drug may do too little (in the weakest {part(len(groups))} of what is left open, {effect_name(found)} "
        f"{edge(found, weak, strong=False)}, the chance is {percent(weak['success'])}{size})"
    )


def _by_luck(found: Found) -> str:
    errors = nulls(found)
    if not errors:
        return ""
    worst = max(errors, key=lambda cell: cell["success"]["value"])
    most = " at most" if len(errors) > 1 else ""
    return (
        f"luck may make a drug that does nothing look good, in{most} {percent(worst['success'], worst['trials'])} of trials "
        f"({allowed(found)} is allowed)"
    )


def headline(found: Found) -> str:
    """The title of the first picture: whether success is more likely than failure, and where."""
    here = focus(found)
    enough = [cell for cell in here.cells if cell["success"]["value"] > HALF]
    if not here.lived:
        return "Chance of success in each world, if what it supposes holds"
    where = "on the evidence"
    if not enough:
        return f"At no size tried is success more likely than failure {where}"
    if len(enough) == len(here.cells):
        return f"Success is more likely than failure {where}"
    return f"Success is more likely than failure {where} from {enough[0]['size']} on"


def summary(found: Found) -> str:
    """What would be done, and how it was tried, for somebody who plans no trials."""
    declared = found["declared"]
    who = found.get("population", "")
    people = words.capital(who) if who else "People"
    arms = listed([*declared.get("active", []), declared.get("control", "control")], "or")
    looks = len(declared.get("looks", [1]))
    plan = f"{people} would get {arms} by chance. The results are looked at {times(looks)}: the trial may end early at each look."
    tried = (
        f"Nobody was treated: the trial was played {found['trials']:,} times with virtual people in each of "
        f"{len({cell['world'] for cell in found['cells']})} worlds. ± is one standard error of the simulation."
    )
    return f"{plan if looks > 1 else plan.split('. ')[0] + '.'} {tried}"


def times(number: int) -> str:
    """
    >>> times(1), times(3)
    ('once', '3 times')
    """
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def sure(found: Found) -> list[str]:
    """How sure: what the average hides, what planning by hand says, what the error is made of."""
    lines = [_spread(found), _by_hand(found), _less_even(found), _error(found)]
    return [line for line in lines if line]


def _spread(found: Found) -> str:
    here = focus(found)
    if not here.cells or not here.lived:
        return "Every effect is put in by hand: how likely each is, nobody says here."
    cell, groups = here.cells[-1], by_strength(found, here.cells[-1])
    truth = cell["estimation"]["truth"]
    if not groups or not known(truth.get("q05")):
        return ""
    strong, weak = groups[0], groups[-1]
    return (
        f"The average hides much. Nine tenths of the true {effect_name(found)}s that the evidence leaves open lie in "
        f"{effects(found, truth['q05'], truth['q95'])} (median {effect(found, truth['q50'])}); with {cell['people']:,} people the chance is "
        f"{percent(strong['success'])} in the strongest {part(len(groups))} ({edge(found, strong, strong=True)}) and "
        f"{percent(weak['success'])} in the weakest."
    )


def _by_hand(found: Found) -> str:
    here = focus(found)
    pairs = [(pair, pair.assured) for pair in by_hand(found) if pair.assured and pair.powers]
    if not pairs or not here.lived:
        return ""
    one, assured = min(pairs, key=lambda pair: abs(pair[0].row["ratio"] - USUAL))
    return (
        f"Planning by hand would promise more: where the hazard ratio is {one.row['ratio']:g} for certain, {one.size} give "
        f"{percent(one.powers[0]['success'], one.powers[0]['trials'])}; on the evidence the same trial has {percent(assured['success'])}."
    )


def _less_even(found: Found) -> str:
    """Delayed and waning effects, where such worlds were tried."""
    told = []
    for one in found["declared"]["worlds"]:
        ratios = (one.get("assumed") or {}).get("ratios", [])
        for cell in cells_of(found, one["name"])[-1:] if len(ratios) > 1 else ():
            told.append(f"{percent(cell['success'], cell['trials'])} ({lower_first(one.get('label', one['name']))})")
    return f"An effect that comes late or fades costs much: {listed(told)}." if told else ""


def lower_first(text: str) -> str:
    """A label inside a sentence; names and figures keep their spelling.

    >>> lower_first("No effect at first"), lower_first("HR 1")
    ('no effect at first', 'HR 1')
    """
    first = text.split(" ", 1)[0]
    return text if first.isupper() and len(first) > 1 else text[:1].lower() + text[1:]


def _error(found: Found) -> str:
    here = focus(found)
    if not here.cells:
        return ""
    draws = max(cell["draws"] for cell in here.cells)
    if draws < 2:
        return f"± rests on {here.cells[-1]['trials']:,} trials of each kind; it does not hold what is wrong with the assumptions."
    return (
        f"± rests on {here.cells[-1]['trials']:,} trials that share {draws:,} sets of constants of the body, so it holds the doubt "
        "about those constants too; it does not hold what is wrong with the model."
    )


class ByHand(NamedTuple):
    """One row of the classical calculation beside what was simulated at the size planned for it."""

    row: One
    size: str
    powers: tuple[One, ...]  # cells of worlds that assume this hazard ratio from the start
    assured: One | None  # the cell of the lived world at the same size


def by_hand(found: Found) -> list[ByHand]:
    """The classical rows, each with the worlds that assume its hazard ratio, and the lived world at the same size."""
    here, pairs = focus(found), []
    for row in found.get("classical") or ():
        powers = tuple(cell for name in _assuming(found, row["ratio"]) for cell in cells_of(found, name)[-1:])
        size = powers[0]["size"] if powers else ""
        same = cell_at(found, here.world["name"], powers[0]["variant"]) if powers and here.lived else None
        pairs.append(ByHand(row, size, powers, same))
    return pairs


def _assuming(found: Found, ratio: float) -> list[str]:
    """The worlds by assumption in which every active arm has this one hazard ratio from the start."""
    names = []
    for one in found["declared"]["worlds"]:
        said = one.get("assumed") or {}
        if [each.get("ratio") for each in said.get("ratios", [])] == [ratio] and not said.get("markers"):
            names.append(one["name"])
    return names


def beware(found: Found) -> list[str]:
    """What not to conclude."""
    lines = ["That the drug works: virtual people live by quell’s assumptions, and nobody was treated."]
    if focus(found).lived:
        lines.append(
            "That the chance of success is known: the link from inflammation to events is uncertain, and the model has been held "
            "against two small trials only."
        )
    lines.append(
        "That benefit outweighs harm: the trial’s limits watch its primary endpoint, and no rate of serious side effects is put in."
    )
    if found["declared"].get("costs"):
        lines.append("What the trial would cost: its costs are assumed, to compare designs with each other.")
    return [*lines, *found.get("warnings", ())]


# -- the terminal -----------------------------------------------------------------------------------------------------------
def lines(found: Found) -> list[str]:
    """The verdict in five to ten lines, for the terminal."""
    here = focus(found)
    told = [f"{found['title'] or found['design']}: {found['trials']:,} trials of each kind, key {found['key']}"]
    told += [f"  {_line(cell)}" for cell in here.cells[:3]]
    errors = nulls(found)
    if errors:
        told.append(f"  wrongly successful where the drug does nothing: {_at_most(errors)} ({allowed(found)} allowed)")
    spread = _spread(found) if here.lived else ""
    told += [f"  {line}" for line in (spread, _by_hand(found), _less_even(found)) if line]
    told += [f"  {one}" for one in smallest_words(found)[:1]]
    return told[:10]


def _line(cell: One) -> str:
    return (
        f"{cell['size']} in the world '{cell['world']}': succeeds in {percent(cell['success'], cell['trials'])}; "
        f"{count(cell['enrolled'])} people, {years(cell['duration'])} years"
    )


def _at_most(errors: Sequence[One]) -> str:
    return listed([percent(cell["success"], cell["trials"]) for cell in errors[:4]])


def smallest_words(found: Found) -> list[str]:
    """What is said of the smallest size for a target; ``found["smallest"]`` is one answer, or some by name."""
    said = found.get("smallest")
    if not said:
        return []
    rows = [said] if isinstance(said, Mapping) and "words" in said else said
    pairs = rows.items() if isinstance(rows, Mapping) else (("", one) for one in rows)
    return [f"{f'{name}: ' if name else ''}{words.capital(one['words'])}" for name, one in pairs]

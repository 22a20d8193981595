"""A design beside planning by hand, beside its other sizes and other designs, and a few of its trials told one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from quell.figures import design as pictures
from quell.report import words
from quell.report.blocks import Block, Numbering, Section
from quell.report.design_blocks import box, figure, frame, table
from quell.report.design_numbers import (
    NOTHING,
    Found,
    One,
    cell_at,
    count,
    effect,
    effect_name,
    effects,
    focus,
    in_years,
    known,
    percent,
    shown,
    with_error,
    years,
)
from quell.report.design_words import ByHand, by_hand, smallest_words
from quell.units import DAYS_PER_YEAR

ENDED = {
    "efficacy": "success claimed",
    "final": "no success at the last look",
    "futility": "stopped for futility",
    "gate": "stopped at the surrogate’s gate",
    "harm": "stopped for harm",
}
COLUMNS = {"enrolled": "people taken in", "duration": "years", "cost": "cost, million"}
WRITTEN: dict[str, Callable[[One | None], str]] = {
    "enrolled": count,
    "duration": years,
    "cost": lambda one: with_error(one, 1e-6),
}
SCALES = {"enrolled": 1.0, "duration": 1 / DAYS_PER_YEAR, "cost": 1e-6}
MOST_SHOWN = 12  # designs on one front


# -- planning by hand -----------------------------------------------------------------------------------------------------
def classical_section(found: Found, numbering: Numbering) -> Section | None:
    """The classical calculation and the answer from the biology, side by side."""
    pairs = by_hand(found)
    if not pairs:
        return None
    first = pairs[0].row
    head = (
        "Hazard ratio supposed",
        "Events, one look",
        "Events, these looks",
        "People",
        "Size tried for it",
        "Simulated power there, if the ratio holds",
        "Assurance there, on the evidence",
    )
    body = [_hand_row(pair, found) for pair in pairs]
    caption = (
        f"By hand: Schoenfeld’s events for {100 * first['power']:g} % power at one-sided {100 * found['level']:g} %, times the inflation by "
        f"this design’s looks and limits, futility included ({first['inflation']:.3f}); people in whom they come by two years if "
        f"{100 * first['risk']:g} % have one by then on control and nobody is lost (E063.placebo, 3 of some 27 people). A calculation has "
        "no Monte Carlo error. Power in brackets: the supposed risk on control."
    )
    block = table(
        numbering,
        "Planning by hand, and what the biology makes of it",
        head,
        body,
        caption,
        {"planning by hand": _hand_frame(found)},
    )
    return Section(
        key="by-hand", title="By hand and by biology, side by side", lead=_hand_lead(found, pairs), blocks=(block,)
    )


def _hand_lead(found: Found, pairs: Sequence[ByHand]) -> str:
    lived = focus(found).lived
    said = [f"{one.row['ratio']:g}: {one.row['events']:,}" for one in pairs]
    hand = f"By hand, events needed by hazard ratio are {', '.join(said)}."
    if not lived:
        return f"{hand} No world of the biology was tried in this run, so only what is supposed can be shown beside it."
    return (
        f"{hand} That calculation supposes the effect. The biology does not: it says how large the effect may be, and its assurance at the "
        "same size stands beside the power."
    )


def _hand_row(pair: ByHand, found: Found) -> list[str]:
    row = pair.row
    powers = [f"{percent(cell['success'], cell['trials'])}{_risk(found, cell['world'])}" for cell in pair.powers]
    assured = percent(pair.assured["success"], pair.assured["trials"]) if pair.assured else "not simulated"
    events = f"{row['events']:,}"
    if known(row.get("events_without_futility")):
        events += f" ({row['events_without_futility']:,} without futility)"
    return [
        f"{row['ratio']:g}",
        f"{row['fixed']:,.0f}",
        events,
        f"{row['people']:,}",
        pair.size or NOTHING,
        "; ".join(powers) or "not simulated",
        assured,
    ]


def _risk(found: Found, world: str) -> str:
    said = next((one.get("assumed") for one in found["declared"]["worlds"] if one["name"] == world), None)
    return f" ({', '.join(said['risk'])})" if said else ""


def _hand_frame(found: Found) -> pl.DataFrame:
    rows = []
    for pair in by_hand(found):
        here = pair.assured["success"] if pair.assured else {"value": None, "error": None}
        for cell in pair.powers or ({},):
            power = cell.get("success", {"value": None, "error": None})
            rows.append(
                {
                    **pair.row,
                    "size": pair.size,
                    "world": cell.get("world", ""),
                    "power_simulated": power["value"],
                    "power_error": power["error"],
                    "assurance": here["value"],
                    "assurance_error": here["error"],
                }
            )
    return frame(rows)


# -- sizes and designs ----------------------------------------------------------------------------------------------------
def sizes_section(found: Found, numbering: Numbering) -> Section | None:
    """The sizes of the design against each other, in the world that the answer is about; the smallest size for a target."""
    here = (found.get("sizes") or {}).get(focus(found).world["name"])
    targets = smallest_words(found)
    if not here and not targets:
        return None
    blocks = _compared(found, here, "sizes", numbering) if here else []
    if targets:
        blocks.append(box(targets))
    lead = "Sizes share their trials’ people, fates and constants, so that differences are surer than the chances themselves."
    return Section(key="sizes", title="Sizes compared", lead=lead, blocks=tuple(blocks))


def compared_section(found: Found, numbering: Numbering) -> Section | None:
    """Other designs on the same trials: ``compared`` is one comparison, or several by world."""
    told = found.get("compared")
    if not told:
        return None
    several = {"": told} if "front" in told or "regret" in told else told
    blocks: list[Block] = []
    for world, one in several.items():
        blocks += _compared(found, one, "designs", numbering, world)
    lead = "Alternatives to this design, played on the same people, fates and constants as far as their rules let them be the same."
    return Section(key="alternatives", title="Other designs compared", lead=lead, blocks=tuple(blocks))


def _compared(found: Found, one: Mapping[str, Any], what: str, numbering: Numbering, world: str = "") -> list[Block]:
    rows = one.get("front") or ()
    numbers = {row["design"]: step for step, row in enumerate(rows, start=1)}
    regrets = {row["design"]: row for row in one.get("regret") or ()}
    columns = [name for name in COLUMNS if all(name in row for row in rows)]
    means = {name: _means(found, name) for name in columns} if what == "sizes" else {}
    head = (
        "",
        what[:-1].capitalize(),
        "Chance of success",
        "Behind the best by",
        *(words.capital(COLUMNS[name]) for name in columns),
        "Beaten in everything",
    )
    body = []
    for row in rows:
        regret = regrets.get(row["design"])
        chance = percent(regret["mean"]) if regret else f"{100 * row['success']:.1f} %"
        behind = NOTHING if regret is None else "the best" if regret["best"] else percent(regret["regret"])
        told = [means.get(name, {}).get(row["design"]) or _alone(row, name) for name in columns]
        body.append(
            [str(numbers[row["design"]]), row["design"], chance, behind, *told, "no" if row["unbeaten"] else "yes"]
        )
    where = f", {world}" if world else ""
    caption = (
        "Behind the best: in chance of success, paired on shared trials. Beaten: another is at least as good in chance, people, time and "
        "cost and better in one (Pareto)."
    )
    blocks = [
        table(
            numbering,
            f"{what.capitalize()} compared{where}",
            head,
            body,
            caption,
            {f"{what} compared{where}": frame(rows)},
        )
    ]
    if columns and len(rows) > 1:
        blocks.insert(0, _front(found, rows[:MOST_SHOWN], columns, what, numbering))
    return blocks


def _means(found: Found, name: str) -> dict[str, str]:
    """People, years or cost of each size with their errors."""
    return {cell["size"]: WRITTEN[name](cell.get(name)) for cell in focus(found).cells}


def _axis(found: Found, name: str) -> str:
    currency = (found["declared"].get("costs") or {}).get("currency", "")
    return f"mean {COLUMNS[name]}{f' {currency}' if name == 'cost' and currency else ''}"


def _alone(row: One, name: str) -> str:
    """A mean of one design with its error."""
    told = {"value": row[name], "error": row.get(f"{name}_error")}
    return WRITTEN[name](told)


def _front(found: Found, rows: Sequence[One], columns: Sequence[str], what: str, numbering: Numbering) -> Block:
    drawn = frame(
        [
            {"number": n, "success": row["success"], "unbeaten": row["unbeaten"]}
            | {name: SCALES[name] * row[name] for name in columns}
            for n, row in enumerate(rows, start=1)
        ]
    )
    alt = "; ".join(f"{row['design']}: {100 * row['success']:.0f} %" for row in rows)
    panels = [("", pictures.front(drawn, name, _axis(found, name)), alt) for name in columns]
    beaten = sum(not row["unbeaten"] for row in rows)
    said = f"{beaten} of {len(rows)} are beaten in everything" if beaten else "none is beaten in everything"
    title = f"{words.capital(what)} by chance of success and what they take: {said}"
    caption = "Numbers as in the table; filled: no other is at least as good in all. Judged on means; differences within their errors leave it open."
    return figure(numbering, title, caption, panels, {})


# -- information ----------------------------------------------------------------------------------------------------------
def information_section(found: Found, numbering: Numbering) -> Section | None:
    """What knowing more would be worth before the trial is begun."""
    told = found.get("information")
    if not told:
        return None
    unit = f" {told['unit']}" if told.get("unit") else ""
    names = {
        "now": "The better of going on and stopping, now",
        "perfect": "Knowing everything would add",
        "partial": "Knowing the true effect on the surrogate would add",
    }
    body = [[words_, with_error(_mean(told[key]), unit=unit)] for key, words_ in names.items() if key in told]
    blocks = [table(numbering, "Worth of information", ("What", "Worth"), body)]
    rows = told.get("by_n") or ()
    if rows:
        head = ("People with scans", "Adds", "Then goes on", "Success if it goes on")
        sized = [
            [
                f"{row['n']:,}",
                with_error(_mean(row["worth"]), unit=unit),
                _share(row.get("goes_on")),
                _share(row.get("success")),
            ]
            for row in rows
        ]
        blocks.append(table(numbering, "A surrogate phase of so many people", head, sized))
    lines = [words.capital(str(one)) for one in (told.get("words"), told.get("assumed")) if one]
    return Section(
        key="information",
        title="What a larger surrogate phase would change",
        blocks=(*blocks, *([box(lines)] if lines else [])),
    )


def _mean(value: Any) -> One:
    return value if isinstance(value, Mapping) else dict(zip(("value", "error"), value, strict=False))


def _share(value: Any) -> str:
    if isinstance(value, Mapping):
        return percent(value)
    return f"{100 * value:.0f} %" if known(value) else NOTHING


# -- example trials ---------------------------------------------------------------------------------------------------------
def examples_section(found: Found, numbering: Numbering) -> Section | None:
    """A few trials, drawn by rule, told look by look."""
    trials = found.get("examples") or ()
    if not trials:
        return None
    place = _examined(found)
    head = (
        "Trial",
        "Trials that end so",
        *(f"Look {n}" for n in range(1, _looks(trials) + 1)),
        "End",
        "Estimate",
        "Truth in its world",
    )
    body = [_story(found, place, one, _looks(trials)) for one in trials]
    caption = (
        f"World “{shown(found, found['main'])}”, {place['size']}. Drawn by rule: one trial of each way to end, the most frequent first, the one whose last Z is "
        f"the middle one of its kind. Estimates: {effect_name(found)}, {found['estimates']}, with the 95 % interval after the stop. The number runs "
        "the trial again."
    )
    told = table(numbering, "Example trials, look by look", head, body, caption, {"example trials": frame(trials)})
    drawn = _paths(found, place, trials, numbering)
    return Section(key="examples", title="Example trials", blocks=(*([drawn] if drawn else []), told))


def _examined(found: Found) -> One:
    """The size from which the examples are: the last tried in the main world."""
    tried = [cell["variant"] for cell in found["cells"] if cell["world"] == found["main"]]
    return found["variants"][tried[-1]]


def _looks(trials: Sequence[One]) -> int:
    return max([int(key.removeprefix("z_")) for one in trials for key in one if key.startswith("z_")] or [0])


def _story(found: Found, place: One, one: One, looks: int) -> list[str]:
    told = [_at_look(place, one, look) for look in range(1, looks + 1)]
    end = f"{in_years(one['duration'])} years, {one['enrolled']:,} people: {ENDED.get(one['reason'], one['reason'])}"
    middle = one.get("adjusted") if known(one.get("adjusted")) else one.get("estimate")
    limits = f" ({effects(found, one['lower'], one['upper'])})" if known(one.get("lower")) else ""
    said = f"{effect(found, middle)}{limits}" if known(middle) else NOTHING
    return [f"{one['trial']:,}", f"{100 * one['share']:.1f} %", *told, end, said, effect(found, one.get("truth"))]


def _at_look(place: One, one: One, look: int) -> str:
    """What was seen at a look: the day, events, Z, and where Z lay."""
    if not known(one.get(f"z_{look}")):
        return NOTHING
    z = one[f"z_{look}"]
    parts = [f"{in_years(one[f'day_{look}'])} years"] if known(one.get(f"day_{look}")) else []
    if known(one.get(f"events_{look}")):
        parts.append(f"{one[f'events_{look}']:,.0f} events")
    limits = place.get("limits", {})
    return f"{', '.join([*parts, f'Z {words.number(z, 2)}'])}{_against(limits, look - 1, z)}"


def _against(limits: Mapping[str, Sequence[Any]], look: int, z: float) -> str:
    """Where Z lies among the planned limits."""
    at = {name: values[look] for name, values in limits.items() if look < len(values) and known(values[look])}
    if "upper" in at and z >= at["upper"]:
        return f", above {words.number(at['upper'], 2)}: success"
    if "harm" in at and z <= at["harm"]:
        return f", below {words.number(at['harm'], 2)}: harm"
    if "lower" in at and z <= at["lower"]:
        return f", below {words.number(at['lower'], 2)}: futility"
    if "upper" not in at:
        return ""
    between = "lower" in at
    return (
        f", between {words.number(at['lower'], 2)} and {words.number(at['upper'], 2)}"
        if between
        else f", below {words.number(at['upper'], 2)}"
    )


def _paths(found: Found, place: One, trials: Sequence[One], numbering: Numbering) -> Block | None:
    looks = _looks(trials)
    limits = place.get("limits", {})
    if not looks or not limits.get("upper"):
        return None
    points = [
        {"trial": step, "look": look, "z": one[f"z_{look}"]}
        for step, one in enumerate(trials)
        for look in range(1, looks + 1)
        if known(one.get(f"z_{look}"))
    ]
    rows = [
        {"look": look + 1}
        | {name: limits[name][look] if known(limits[name][look]) else None for name in ("upper", "lower", "harm")}
        for look in range(looks)
    ]
    names = [f"trial {one['trial']:,}: {ENDED.get(one['reason'], one['reason'])}" for one in trials]
    drawn = pictures.paths(
        frame(points),
        pl.DataFrame(rows, schema={"look": pl.Int64, "upper": pl.Float64, "lower": pl.Float64, "harm": pl.Float64}),
        names,
        _ticks(found, looks),
    )
    caption = "Z at each look; black: planned limits for success, futility and harm, which in each trial follow the information that it has."
    alt = "; ".join(names)
    return figure(numbering, "Example trials against the limits", caption, [("", drawn, alt)], {})


def _ticks(found: Found, looks: int) -> list[str]:
    """A name for each look, with its events where the main cell has them."""
    tried = [cell["variant"] for cell in found["cells"] if cell["world"] == found["main"]]
    cell = cell_at(found, found["main"], tried[-1]) or {}
    told = []
    for n in range(1, looks + 1):
        at: One = next((one for one in cell.get("looks", ()) if one["look"] == n), {})
        events = f"\n{at['events']['value']:,.0f} events" if known((at.get("events") or {}).get("value")) else ""
        told.append(f"look {n}{events}")
    return told

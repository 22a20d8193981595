"""What a design's simulated trials came to, as sections of its page: chances, true effects, errors, looks, ends, estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from quell.figures import design as pictures
from quell.report import words
from quell.report.blocks import Block, Numbering, Section
from quell.report.design_blocks import figure, frame, table
from quell.report.design_numbers import (
    NOTHING,
    Found,
    One,
    allowed,
    by_strength,
    cells_of,
    count,
    effect,
    effect_name,
    effects,
    focus,
    in_years,
    is_ratio,
    known,
    nulls,
    ordered,
    part,
    percent,
    shown,
    with_error,
    worlds,
    years,
)
from quell.report.design_words import headline
from quell.units import DAYS_PER_YEAR

CAPTION = "Bars: 95 % intervals of the simulation (1.96 Monte Carlo errors). The first world is the one that the answer is about."
SURE = 1.959963984540054  # errors that an interval of 95 % reaches to either side
ENDS = {"efficacy": "Success", "final": "No success", "futility": "Futility", "gate": "Gate", "harm": "Harm"}


# -- chances ------------------------------------------------------------------------------------------------------------
def chance_figure(found: Found, numbering: Numbering) -> Block:
    """The first picture: the chance of success in every world in which the drug does something."""
    rows = _chance_rows(found, _working(found))
    alt = "; ".join(f"{row['world']}, {row['size']}: {100 * row['value']:.1f} %" for row in rows.iter_rows(named=True))
    panel = ("", pictures.chances(rows), alt)
    return figure(numbering, headline(found), CAPTION, [panel], {"chance of success": _all_cells(found)})


def chance_drawing(found: Found) -> Any:
    """The same picture, as a matplotlib figure."""
    return pictures.chances(_chance_rows(found, _working(found)))


def _working(found: Found) -> list[One]:
    """The cells in which the drug does something; all, where it does nothing in any."""
    return [cell for cell in found["cells"] if not cell["null"]] or list(found["cells"])


def _chance_rows(found: Found, cells: Sequence[One]) -> pl.DataFrame:
    """Worlds in the design's order, the main one first; their sizes, smallest first."""
    main = focus(found).world["name"]
    names = sorted(dict.fromkeys(cell["world"] for cell in cells), key=lambda name: name != main)
    rows = []
    for name in names:
        mine = [cell for cell in cells_of(found, name) if cell in cells]
        text = ", ".join(f"{100 * cell['success']['value']:.3g}" for cell in mine) + " %"
        for cell in mine:
            one = cell["success"]
            half = SURE * one["error"] if known(one["error"]) else 0.0
            limits = {"lower": max(one["value"] - half, 0.0), "upper": min(one["value"] + half, 1.0)}
            rows.append(
                {"world": shown(found, name), "size": cell["size"], "text": text, "value": one["value"]} | limits
            )
    order = {one["size"]: n for n, one in enumerate(found["variants"])}
    return _sized(rows, order)


def _sized(rows: list[dict[str, Any]], order: dict[str, int]) -> pl.DataFrame:
    """Rows with the sizes of the design in its own order, so that each size has one mark on every picture."""
    return frame(rows).with_columns(place=pl.col("size").replace_strict(order, default=0, return_dtype=pl.Int64))


def _all_cells(found: Found) -> pl.DataFrame:
    """One row for every world and size."""
    rows = []
    for cell in found["cells"]:
        row = {name: cell[name] for name in ("world", "size", "people", "events", "null", "trials", "draws")}
        for name in ("success", "enrolled", "screened", "duration", "cost"):
            if name in cell:
                row |= {name: cell[name]["value"], f"{name}_error": cell[name]["error"]}
        rows.append(row)
    return frame(rows)


def chance_section(found: Found, numbering: Numbering) -> Section:
    cost = any("cost" in cell for cell in found["cells"])
    currency = (found["declared"].get("costs") or {}).get("currency", "GBP")
    head = (
        "World",
        "Size",
        "Chance of success",
        "People taken in",
        "Years (5 to 95 % of trials)",
        *((f"Cost, million {currency}",) if cost else ()),
        "Trials",
        "Sets of constants",
    )
    body = []
    for cell in ordered(found):
        spent = [with_error(cell.get("cost"), 1e-6)] if cost else []
        row = [
            shown(found, cell["world"]),
            cell["size"],
            percent(cell["success"], cell["trials"]),
            count(cell["enrolled"]),
        ]
        body.append([*row, years(cell["duration"], spread=True), *spent, f"{cell['trials']:,}", _draws(cell)])
    caption = (
        "± is one Monte Carlo standard error; where the constants are drawn it is clustered by set of constants, since trials of one set "
        "are alike. Where nothing works, success is an error."
    )
    block = table(numbering, "Every world at every size tried", head, body, caption)
    return Section(key="chance", title="Chance of success by world and size", blocks=(block,))


def _draws(cell: One) -> str:
    return f"{cell['draws']:,}" if cell["draws"] > 1 else NOTHING


# -- true effects -------------------------------------------------------------------------------------------------------
def truth_section(found: Found, numbering: Numbering) -> Section | None:
    """The chance of success against the true effect, in the world that the answer is about."""
    here = focus(found)
    cells = [cell for cell in here.cells if cell.get("by_truth")]
    if not cells:
        return None
    rows = frame([_group(found, cell, group) for cell in cells for group in cell["by_truth"]])
    axis = pictures.Axis(effect_name(found), is_ratio(found), 1.0 if is_ratio(found) else 0.0)
    last, groups = cells[-1], by_strength(found, cells[-1])
    most, least = percent(groups[0]["success"]), percent(groups[-1]["success"])
    title = f"The average of {percent(last['success'])} hides chances from {least} to {most}"
    caption = (
        f"Draws of the world “{here.world['label']}” in {len(groups)} groups of one size by their true {effect_name(found)}; at each group’s "
        "mean the frequency of success with one Monte Carlo error. The strip beneath has a piece for each group, of the same share of what "
        "the evidence leaves open: narrow pieces are where most of it lies. Dashed: no effect."
    )
    alt = "; ".join(
        f"{row['truth']:.3g}: {100 * row['success']:.0f} %"
        for row in rows.filter(pl.col("size") == last["size"]).iter_rows(named=True)
    )
    drawn = figure(
        numbering, title, caption, [("", pictures.by_truth(rows, axis), alt)], {"success by true effect": rows}
    )
    return Section(
        key="truth",
        title="Assurance, and the chance given the true effect",
        lead=_mass(found),
        blocks=(drawn, _truth_table(found, numbering)),
    )


def _group(found: Found, cell: One, group: One) -> dict[str, Any]:
    """A group of draws as the picture wants it, on the scale on which effects are shown."""
    at = math.exp if is_ratio(found) else float
    one = group["success"]
    half = one["error"] if known(one["error"]) else 0.0
    limits = {"low": max(one["value"] - half, 0.0), "high": min(one["value"] + half, 1.0)}
    shown_at = {name: at(group[name]) for name in ("truth", "lower", "upper")}
    return {"size": cell["size"], **shown_at, "success": one["value"], **limits, "draws": group["draws"]}


def _mass(found: Found) -> str:
    """Where the posterior's mass lies."""
    truth = focus(found).cells[-1]["estimation"]["truth"]
    told = found.get("truth_of_main") or truth
    if not known(told.get("q05")):
        told = truth
    return (
        f"Assurance is the chance of success averaged over what the evidence leaves open. Half of the true {effect_name(found)}s lie in "
        f"{effects(found, told['q25'], told['q75'])}, nine tenths in {effects(found, told['q05'], told['q95'])}, the median is "
        f"{effect(found, told['q50'])}. A steering committee may weigh these futures otherwise than the average does."
    )


def _truth_table(found: Found, numbering: Numbering) -> Block:
    cells = [cell for cell in focus(found).cells if cell.get("by_truth")]
    head = (f"True {effect_name(found)}", "Sets of constants", *(f"Chance: {cell['size']}" for cell in cells))
    columns = [by_strength(found, cell) for cell in cells]
    body = [
        [
            effects(found, groups[0]["lower"], groups[0]["upper"]),
            f"{groups[0]['draws']:,}",
            *(percent(one["success"]) for one in groups),
        ]
        for groups in zip(*columns, strict=False)
    ]
    differ = (
        ""
        if len(cells) == 1
        else " The true effect is taken over the expected follow-up, so it differs a little by size; the limits are those of the smallest."
    )
    return table(
        numbering,
        f"By {part(len(columns[0]))}s of what the evidence leaves open, the strongest first",
        head,
        body,
        f"Assurance is the mean of a column.{differ}",
    )


# -- type I error ---------------------------------------------------------------------------------------------------------
def error_section(found: Found, numbering: Numbering) -> Section | None:
    errors = nulls(found)
    if not errors:
        return None
    rows = _chance_rows(found, errors)
    top = max(2 * found["level"], float(rows["upper"].max()) * 1.15)  # type: ignore[arg-type]
    beyond = [
        cell for cell in errors if cell["success"]["value"] - found["level"] > 3 * (cell["success"]["error"] or 0.0)
    ]
    title = (
        f"Claimed to work where it does nothing: more often than the {allowed(found)} allowed in {len(beyond)} of {len(errors)}"
        if beyond
        else f"Claimed to work where it does nothing: within three Monte Carlo errors of the {allowed(found)} allowed, or below"
    )
    alt = "; ".join(f"{row['world']}, {row['size']}: {100 * row['value']:.2f} %" for row in rows.iter_rows(named=True))
    caption = "Bars: 95 % intervals of the simulation. The futility rule is obeyed here, which makes success rarer than the level."
    drawn = figure(
        numbering,
        title,
        caption,
        [("", pictures.chances(rows, min(top, 1.0), found["level"]), alt)],
        {"type I error": rows},
    )
    head = ("World", "Size", "Type I error", "Allowed", "Difference in Monte Carlo errors")
    body = [
        [
            shown(found, cell["world"]),
            cell["size"],
            percent(cell["success"], cell["trials"]),
            allowed(found),
            _apart(cell, found["level"]),
        ]
        for cell in errors
    ]
    lead = "Every success in these worlds is an error. One-sided: the error of claiming a benefit that is not there."
    return Section(
        key="error", title="Type I error", lead=lead, blocks=(drawn, table(numbering, "Type I error", head, body))
    )


def _apart(cell: One, level: float) -> str:
    one = cell["success"]
    return words.number((one["value"] - level) / one["error"], 1) if known(one["error"]) and one["error"] else NOTHING


# -- looks ----------------------------------------------------------------------------------------------------------------
def looks_section(found: Found, numbering: Numbering) -> Section:
    """Events, people and time at each look, in the world that the answer is about."""
    here = focus(found)
    panels = []
    for cell in here.cells:
        rows = frame([*_bands(cell), _last_band(cell)])
        alt = "; ".join(f"{row['label']}: {row['value']}" for row in rows.iter_rows(named=True))
        panels.append((cell["size"], pictures.calendar(rows), alt))
    first = here.cells[-1]["looks"][0]["day"] if here.cells[-1]["looks"] else here.cells[-1]["duration"]
    title = (
        f"The first look comes after {in_years(first['value'])} years with {here.cells[-1]['people']:,} people, and half the trials are "
        f"over by {in_years(here.cells[-1]['duration']['q50'])} years"
    )
    caption = f"World “{here.world['label']}”. Bands: middle half and 5 to 95 % of the trials that reach a look; stroke: median. ± is one Monte Carlo error."
    block = figure(numbering, title, caption, panels, {"looks": _all_looks(found)})
    head = ("Size", "Look", "Reached by", "Events", "People taken in", "Years (5 to 95 % of trials)")
    body = [
        [
            cell["size"],
            str(one["look"]),
            percent(one["reached"], cell["trials"]),
            count(one.get("events")),
            count(one.get("enrolled")),
            years(one.get("day"), spread=True),
        ]
        for cell in here.cells
        for one in cell["looks"]
    ]
    return Section(
        key="looks",
        title="Events, people and time by look",
        blocks=(block, table(numbering, f"Looks in the world “{here.world['label']}”", head, body)),
    )


def _bands(cell: One) -> list[dict[str, Any]]:
    found = []
    for one in cell["looks"]:
        day = one.get("day") or {}
        if not known(day.get("q50")):
            continue
        what = f"Look {one['look']}: {one['events']['value']:,.0f} events" if "events" in one else f"Look {one['look']}"
        people = f", {one['enrolled']['value']:,.0f} people" if "enrolled" in one else ""
        found.append(
            {"label": what + people, "value": f"reached by {100 * one['reached']['value']:.0f} %"} | _in_years(day)
        )
    return found


def _last_band(cell: One) -> dict[str, Any]:
    one = cell["duration"]
    return {"label": "End of the trial", "value": f"{years(one)} years"} | _in_years(one)


def _in_years(one: One) -> dict[str, float]:
    return {name: one[name] / DAYS_PER_YEAR for name in ("q05", "q25", "q50", "q75", "q95")}


def _all_looks(found: Found) -> pl.DataFrame:
    rows = []
    for cell in found["cells"]:
        for one in cell["looks"]:
            row: dict[str, Any] = {"world": cell["world"], "size": cell["size"], "look": one["look"]}
            for name in ("reached", "events", "enrolled", "day"):
                row |= {name if key == "value" else f"{name}_{key}": value for key, value in one.get(name, {}).items()}
            rows.append(row)
    return frame(rows)


# -- ends -----------------------------------------------------------------------------------------------------------------
def ends_section(found: Found, numbering: Numbering) -> Section:
    """How trials end: at which look, and why."""
    ways = sorted(
        {(one["reason"], one["look"]) for cell in found["cells"] for one in cell["ends"]},
        key=lambda way: (list(ENDS).index(way[0]), way[1]),
    )
    head = ("World", "Size", *(f"{ENDS[reason]}{f', look {look}' if look else ''}" for reason, look in ways))
    body = []
    for cell in ordered(found):
        ends = {(one["reason"], one["look"]): one for one in cell["ends"]}
        body.append(
            [
                shown(found, cell["world"]),
                cell["size"],
                *(percent(ends.get(way)) if way in ends else "0 %" for way in ways),
            ]
        )
    stopping = table(numbering, "Stopping by look and reason", head, body)
    return Section(key="ends", title="How trials end", blocks=(_ends_figure(found, numbering), stopping))


def _ends_figure(found: Found, numbering: Numbering) -> Block:
    """One bar for each world and size; worlds that are drawn and worlds by assumption apart."""
    kinds = worlds(found)
    rows = [
        {
            "kind": "assumed" if kinds[cell["world"]]["kind"] == "assumed" else "drawn",
            "world": cell["world"],
            "size": cell["size"],
        }
        | {
            "label": _bar_label(found, cell),
            "look": one["look"],
            "reason": one["reason"],
            "value": one["value"],
            "error": one["error"],
        }
        for cell in ordered(found)
        for one in cell["ends"]
    ]
    panels = []
    for kind, name in (("drawn", "Constants drawn from the posterior"), ("assumed", "Worlds by assumption")):
        part_ = frame([row for row in rows if row["kind"] == kind])
        if part_.height:
            said = (
                f"{row['label']}: {row['reason']} at look {row['look']} {100 * row['value']:.0f} %"
                for row in part_.iter_rows(named=True)
            )
            panels.append((name, pictures.ends(part_), "; ".join(said)))
    caption = "One bar holds all trials of a world and size. Numbers in it: the look. Success at the left; then what ended without."
    data = frame(rows).drop("label")
    return figure(numbering, _ends_title(found), caption, panels, {"how trials end": data})


def _bar_label(found: Found, cell: One) -> str:
    """World and size, on a line of its own each where one has no room for both."""
    name = shown(found, cell["world"])
    return f"{name}{': ' if len(name) + len(cell['size']) < 48 else chr(10)}{cell['size']}"


def _ends_title(found: Found) -> str:
    cell = focus(found).cells[-1]
    ways = {reason: sum(one["value"] for one in cell["ends"] if one["reason"] == reason) for reason in ENDS}
    early = sum(one["value"] for one in cell["ends"] if one["look"] < len(cell["looks"]))
    return (
        f"With {cell['people']:,} people {100 * early:.0f} % of trials end before the last look; in all {100 * ways['futility']:.0f} % for futility, "
        f"{100 * ways['harm']:.1f} % for harm"
    )

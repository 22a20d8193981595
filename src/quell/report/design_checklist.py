"""What regulators ask of a simulation report, item by item: where it is met on the page, or honestly that it is not.

ICH E20 in its draft of 25 June 2025 (Step 2b) and FDA's guidance on adaptive designs of November 2019, in our own words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from markupsafe import Markup

from quell.report.blocks import Cell, Numbering, Section
from quell.report.design_blocks import box, table
from quell.report.design_numbers import (
    Found,
    focus,
    known,
    nulls,
    percent,
)

E20, FDA = "ICH E20", "FDA 2019"
ADAPTS = ("resize", "enrich", "select", "respond")
DEFAULT = (500, 200)  # sets of constants, people of each


class Item(NamedTuple):
    """One thing asked for: by whom, whether it is met ("met", "in part", "not met"), in which section, and how."""

    asked: str
    by: str
    met: str
    where: str
    how: str


def section(found: Found, shown: Mapping[str, str], numbering: Numbering) -> Section:
    """The checklist, whose places are sections of this page (``shown``: their keys and titles)."""
    found_items = items(found, shown)
    head = ("Asked for", "By", "Met", "Where", "How, or why not")
    body = [[one.asked, one.by, one.met, _link(one.where, shown), one.how] for one in found_items]
    met = sum(one.met == "met" for one in found_items)
    partly = sum(one.met == "in part" for one in found_items)
    lead = (
        f"{met} of {len(body)} items are met here, {partly} in part, {len(body) - met - partly} not. E20 is a draft; a page cannot stand for the protocol, "
        "the analysis plan or the charter of the data monitoring committee."
    )
    block = table(numbering, "ICH E20 (draft of 25 June 2025) and FDA (2019)", head, body)
    return Section(key="checklist", title="What regulators ask of a simulation report", lead=lead, blocks=(block,))


def _link(where: str, shown: Mapping[str, str]) -> Cell:
    if where not in shown:
        return Cell("")
    return Cell(Markup('<a href="#{}">{}</a>').format(where, shown[where]))


def items(found: Found, shown: Mapping[str, str]) -> list[Item]:
    """Every item, judged by what is on the page."""
    return [*_planned(found), *_simulated(found, shown), *_told(found, shown), *_outside(found)]


def _item(asked: str, by: str, there: bool, where: str, how: str, otherwise: str) -> Item:
    return Item(asked, by, "met" if there else "not met", where, how if there else f"Not met: {otherwise}")


def _planned(found: Found) -> list[Item]:
    one = found["declared"]
    futility = one.get("futility") or {}
    adapts = [name for name in ADAPTS if one.get(name)]
    kept = one.get("efficacy", {}).get("by", "spending") != "posterior"
    binding = "binding, and the efficacy limits rely on it" if futility.get("binding") else "not binding"
    no_futility = "" if futility else "There is no futility rule. "
    return [
        Item(
            "Number, timing and kind of interim analyses and their rules, laid down beforehand, binding or not",
            f"{E20}, {FDA}",
            "met",
            "design",
            f"Declared, with a fingerprint. {no_futility or f'Futility is {binding}.'}",
        ),
        Item(
            "What is estimated: endpoint, treatments, population, events that intervene, summary (ICH E9(R1))",
            E20,
            "in part",
            "design",
            f"The estimands stand in the protocol ‘{found['protocol']}’; this page names the endpoint only.",
        ),
        _item(
            "Type I error kept although futility is overruled",
            E20,
            kept and not futility.get("binding"),
            "error",
            "Efficacy limits are worked out as if there were no futility rule.",
            "the claim’s limits do not keep the level by construction."
            if not kept
            else "the futility rule is binding.",
        ),
        Item(
            "Adaptations that count events are on the primary, not on a marker that goes with it",
            E20,
            "met" if not adapts or one.get("select", {}).get("by") != "reading" else "in part",
            "design",
            _adapted(adapts),
        ),
    ]


def _adapted(adapts: list[str]) -> str:
    if not adapts:
        return "Looks go by primary events; nothing but stopping adapts."
    return f"It adapts ({', '.join(adapts)}); stages are combined by rules fixed beforehand (closed testing, weights)."


def _simulated(found: Found, shown: Mapping[str, str]) -> list[Item]:
    errors = nulls(found)
    risks = {tuple((one.get("assumed") or {}).get("risk", ())) for one in found["declared"]["worlds"]} - {()}
    fixed = "alternatives" in shown
    return [
        _item(
            "Type I error under more than one way in which nothing works",
            FDA,
            len({cell["world"] for cell in errors}) > 1,
            "error",
            f"{len({cell['world'] for cell in errors})} worlds, {len(errors)} combinations with size.",
            f"{len({cell['world'] for cell in errors})} such world was tried.",
        ),
        Item(
            "Power or chance of success over a range of effects",
            f"{E20}, {FDA}",
            "met",
            "chance",
            f"{len({cell['world'] for cell in found['cells']})} worlds, delayed and waning effects where declared.",
        ),
        Item(
            "Expected people, time, events; stopping by look",
            f"{E20}, {FDA}",
            "met",
            "looks",
            "Means and quantiles over trials, with Monte Carlo errors; the chances of each end stand beside them.",
        ),
        Item(
            "Bias, mean squared error and coverage of estimates",
            f"{E20}, {FDA}",
            "met" if known(focus(found).cells[-1]["estimation"]["coverage"]["value"]) else "not met",
            "estimates",
            "Naive and adjusted, against each world’s own truth.",
        ),
        _item(
            "Against a design that does not adapt, in the same engine",
            E20,
            fixed,
            "alternatives",
            "Alternatives share this design’s people and fates.",
            "no other design was run beside it; planning by hand, with one look, stands beside it instead.",
        ),
        Item(
            "A grid of what is not of interest but matters (event rate, recruitment, loss)",
            E20,
            "in part",
            "worlds",
            f"Event rates: {len(risks)} by assumption, and those of the drawn worlds. Not met: recruitment and loss to follow-up are not varied.",
        ),
        Item(
            "Number of simulations justified by Monte Carlo precision",
            f"{E20}, {FDA}",
            "met",
            "precision",
            "From the errors wanted and reached.",
        ),
    ]


def _told(found: Found, shown: Mapping[str, str]) -> list[Item]:
    return [
        Item(
            "Key questions, options considered, characteristics chosen",
            E20,
            "met" if "alternatives" in shown or "sizes" in shown else "in part",
            "sizes" if "sizes" in shown else "chance",
            "Sizes (and other designs, where shown) by chance of success, people, time and cost.",
        ),
        Item(
            "Prior knowledge, and why these parameters",
            E20,
            "met",
            "worlds",
            "Each world with its source; what is assumed is called so.",
        ),
        Item(
            "How data are generated and analysed; number of simulations",
            f"{E20}, {FDA}",
            "met",
            "precision",
            "Virtual people live under every arm with one fate; trials draw from them and are analysed as real ones.",
        ),
        Item(
            "Software, code, and how to run it again",
            f"{E20}, {FDA}",
            "met",
            "precision",
            "Open source; version, key and fingerprint give the same bytes.",
        ),
        _item(
            "Example trials",
            f"{E20}, {FDA}",
            "examples" in shown,
            "examples",
            "One of each way to end, drawn by rule.",
            "none was drawn.",
        ),
        Item(
            "Limitations, and what they mean for the clinic",
            E20,
            "met",
            "limits",
            "Stated; their weight is for the committee to judge.",
        ),
    ]


def _outside(found: Found) -> list[Item]:
    return [
        Item(
            "Two final analyses after an early stop: at the stop, and with the data that come in after it",
            E20,
            "not met",
            "",
            "Not met: data that overrun the stop are not simulated.",
        ),
        Item(
            "Who saw unblinded results, and when",
            E20,
            "not met",
            "",
            "Not met: a matter of conduct; to be laid down before the first look, and logged.",
        ),
        Item(
            "A data monitoring committee behind a firewall, with a charter",
            FDA,
            "not met",
            "",
            "Not met: a matter of conduct.",
        ),
        Item(
            "Safety data large enough to judge harm after an early stop",
            f"{E20}, {FDA}",
            "not met",
            "limits",
            "Not met: side effects are not simulated in the trials of a design.",
        ),
    ]


# -- precision, software, limits ------------------------------------------------------------------------------------------
def precision_section(found: Found) -> Section:
    """Why so many trials; with which software, and how to run them again."""
    return Section(
        key="precision",
        title="Number of trials, software, and how to run it again",
        blocks=(box([*_precision(found), *_software(found)]),),
    )


def _precision(found: Found) -> list[str]:
    trials, level = found["trials"], found["level"]
    error = math.sqrt(level * (1 - level) / trials)
    lines = [
        f"{trials:,} trials of each world and size. Where trials are independent a type I error of {100 * level:g} % then has a Monte Carlo "
        f"error of {100 * error:.2f} percentage points, and a chance of one half {100 * math.sqrt(0.25 / trials):.2f}; an error of 0.10 at "
        f"{100 * level:g} % would take {math.ceil(level * (1 - level) / 0.001**2):,} trials."
    ]
    here = focus(found)
    if here.cells and here.cells[-1]["draws"] > 1:
        cell = here.cells[-1]
        alone = math.sqrt(max(cell["success"]["value"] * (1 - cell["success"]["value"]), 0.0) / cell["trials"])
        lines.append(
            f"Where constants are drawn, the {cell['draws']:,} sets count for more than the trials: the chance is {percent(cell['success'])}, while "
            f"independent trials would have an error of {100 * alone:.2f}. More sets, not more trials, would make it smaller."
        )
    return lines


def _software(found: Found) -> list[str]:
    command = found.get("command") or f"quell repeat {found['design']} --trials {found['trials']} --key {found['key']}"
    other = (found["draws"], found["people"]) != DEFAULT
    bank = (
        f" Sets of constants: {found['draws']:,}, people of each: {found['people']:,} (not the usual {DEFAULT[0]} and {DEFAULT[1]})."
        if other
        else ""
    )
    return [
        f"quell {found['version']}, open source; design fingerprint {found['fingerprint']}, protocol {found['protocol']}, key {found['key']}.{bank}",
        f"To run it again, byte for byte, on any number of cores or workers: {command}",
        "Random numbers are addressed by key, world, trial and person, so that neither order nor workers matter, and sizes and designs share them.",
    ]


def limits_section(found: Found) -> Section:
    """What the simulation does not hold."""
    lived = focus(found).lived
    lines = [
        "Structure: errors are those of chance and, where constants are drawn, of constants. What the model leaves out is in no interval.",
        *(
            [
                "Effect: the step from inflammation to events rests on other drugs’ outcome trials and genetics, which disagree; this drug has no outcome trial."
            ]
            if lived
            else []
        ),
        "Exposure: nobody has been given this drug for so long after an infarction; what follows the studied weeks is carried over.",
        "People: virtual people are like those of the small trials; a large trial takes in others, at sites that differ more.",
        "Conduct: recruitment, loss to follow-up and costs are assumed, and do not depend on how the trial goes.",
        "Harm: limits for harm watch the primary endpoint; side effects, their cost and unblinding by them are not in these trials.",
        *found.get("limitations", ()),
    ]
    return Section(key="limits", title="Limitations", blocks=(box(lines),))

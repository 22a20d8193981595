"""What a design declares, in words: who, what, how many, when it is looked at, by which rules it ends, in which worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quell.report import words
from quell.report.blocks import Numbering, Section
from quell.report.design_blocks import table
from quell.report.design_numbers import (
    NOTHING,
    Found,
    One,
    effect_name,
    known,
    listed,
)
from quell.units import DAYS_PER_YEAR

FUNCTIONS = {
    "obrien-fleming": "O’Brien and Fleming’s spending (Lan and DeMets)",
    "pocock": "Pocock’s spending (Lan and DeMets)",
    "hwang-shih-decani": "Hwang, Shih and DeCani’s spending",
    "kim-demets": "Kim and DeMets’ spending",
}
ADAPTATIONS = {
    "entry": "Taken in only",
    "resize": "Size judged anew",
    "enrich": "Enrichment at a look",
    "select": "Choice of an arm",
    "respond": "Allocation that responds",
    "surrogate": "Surrogate sub-study",
}


def section(found: Found, numbering: Numbering) -> Section:
    """The design in one table, and its limits in another."""
    head = ("Item", "Declared", "Source")
    plan = table(numbering, "The design", head, rows(found), "Where no source is given the choice is the design’s own.")
    return Section(key="design", title="The design", blocks=(plan, *limits(found, numbering)))


def rows(found: Found) -> list[list[str]]:
    """Item, what is declared, source."""
    one = found["declared"]
    told = [
        ["Question", found.get("question", ""), ""],
        [
            "Arms",
            f"{listed(one.get('active', []))} against {one.get('control', 'control')}; protocol {found['protocol']}",
            "",
        ],
        ["Primary endpoint", _primary(one), ""],
        ["Sizes", "; ".join(each["size"] for each in found["variants"]), ""],
        ["Recruitment", _recruitment(one["recruitment"]), one["recruitment"].get("source", "")],
        ["Allocation", _allocation(one), ""],
        ["Loss to follow-up", _dropout(one.get("dropout", {})), one.get("dropout", {}).get("source", "")],
        ["Looks", "; ".join(_look(n, each) for n, each in enumerate(one["looks"], start=1)), ""],
        ["Claim of success", _efficacy(one, found["level"]), _prior(one.get("efficacy", {}))],
        ["Stop for futility", _futility(one.get("futility")), _prior(one.get("futility") or {})],
        ["Stop for harm", _harm(one.get("harm")), ""],
        ["Further endpoints", _secondary(one.get("secondary")), ""],
        *([name, _parts(one[key]), _source(one[key])] for key, name in ADAPTATIONS.items() if one.get(key)),
        ["Estimate and interval after the stop", found.get("estimates", ""), ""],
        ["Costs", _costs(one.get("costs")), (one.get("costs") or {}).get("source", "")],
    ]
    return [row for row in told if row[1]]


def _primary(one: One) -> str:
    primary, test = one["primary"], one.get("test", {})
    method = test.get("method", "log-rank")
    if method == "weighted log-rank":
        method += f" G({test.get('rho', 0):g}, {test.get('gamma', 0):g})"
    until = f" until {test['until']}" if test.get("until") else ""
    if primary.get("reading"):
        base = f", adjusted for {primary['baseline']}" if primary.get("baseline") else ""
        return f"{primary['reading']} ({primary.get('better', 'lower')} is better), by {method}{base}"
    return f"time to the first {primary['endpoint']}, by the {method} test{until}"


def _recruitment(one: One) -> str:
    sites = one.get("sites", 1)
    opening = f", opened evenly over {one['opening']}" if one.get("opening") not in (None, "", "0 days") else ""
    changes = "".join(
        f", times {each['times']:g} after {each.get('after', '0 days')}" for each in one.get("changes", ())
    )
    spread = f"; sites differ (coefficient of variation {one['spread']:g})" if one.get("spread") else ""
    return f"{sites:,} site{'s' if sites > 1 else ''}{opening}; each then enrols {one['per_site_per_month']:g} a month{changes}{spread}"


def _allocation(one: One) -> str:
    said = one.get("allocation", {})
    ratio = ":".join(str(share) for share in said.get("ratio", ())) or ":".join("1" * (1 + len(one.get("active", "1"))))
    block = f" of {said['block']}" if said.get("block") else ""
    within = {"trial": "over the whole trial", "site": "within each site"}[said.get("within", "site")]
    how = f"permuted blocks{block} {within}" if said.get("method", "permuted blocks") != "simple" else "simple"
    return f"{ratio} (control first), {how}"


def _dropout(one: One) -> str:
    arms = "".join(f", {100 * share:g} % on {arm}" for arm, share in one.get("by_arm", {}).items())
    return f"{100 * one.get('per_year', 0.0):g} % a year{arms}"


def _look(number: int, one: One) -> str:
    if one.get("fraction"):
        when = f"at {100 * one['fraction']:g} % of the events"
    elif one.get("events"):
        when = f"at {one['events']:,} events"
    elif one.get("day"):
        when = f"{one['day']} after the opening"
    else:
        when = f"when {100 * one['people']:g} % of the people are read"
    latest = f", {one['latest']} after the opening at the latest" if one.get("latest") else ""
    without = [name for name in ("efficacy", "futility") if one.get(name) is False]
    return f"{number}: {when}{latest}{f' (no {listed(without)})' if without else ''}"


def _function(one: One) -> str:
    name = FUNCTIONS.get(one.get("function", ""), one.get("function", ""))
    given = listed([f"{value:g}" for value in one.get("parameter", ())])
    return f"{name}{f' ({given})' if given else ''}".replace("(-", "(−")


def _efficacy(one: One, level: float) -> str:
    said = one.get("efficacy", {})
    by = said.get("by", "spending")
    if by == "posterior":
        chances = listed([f"{chance:g}" for chance in said["chance"]])
        return f"posterior chance of benefit at least {chances}; its type I error follows and is simulated below"
    told = {
        "spending": f"limits from {_function(said)}",
        "shape": f"limits of Wang and Tsiatis’ shape {said.get('shape', 0):g}",
        "haybittle-peto": f"Z above {said.get('early', 3):g} before the last look (Haybittle and Peto)",
    }[by]
    return f"{told}, one-sided level {100 * level:g} %"


def _prior(one: One) -> str:
    prior = one.get("prior") or {}
    return f"prior: {prior['source']}" if prior.get("source") else ""


def _futility(one: Any) -> str:
    if not one:
        return "no rule"
    binding = "binding" if one.get("binding") else "not binding: success is judged as if it could be overruled"
    limit = listed([f"{value:g}".replace("-", "−") for value in one.get("limit", ())])
    if one.get("by", "spending") == "spending":
        return (
            f"limits from {_function(one)} of the type II error of {100 * (1 - one.get('power', 0.9)):.3g} %; {binding}"
        )
    ratio = f" under a hazard ratio of {one['ratio']:g}" if one.get("ratio") else ""
    return f"{one['by']} below {limit}{ratio}; {binding}"


def _harm(one: Any) -> str:
    return f"limits from {_function(one)}, one-sided level {100 * one['level']:g} %" if one else "no rule"


def _secondary(one: Any) -> str:
    if not one:
        return ""
    procedure = "each needed for the claim too" if one.get("co_primary") else one.get("procedure", "fixed sequence")
    return f"{'; '.join(one['endpoints'])} ({procedure})"


def _costs(one: Any) -> str:
    if not one:
        return ""
    names = {
        "fixed": "fixed",
        "per_screened": "a person screened",
        "per_person": "a person randomised",
        "per_month": "a month",
    }
    told = [f"{one[key]:,.0f} {name}" for key, name in names.items() if one.get(key)]
    return f"{one.get('currency', 'GBP')} {', '.join(told)}; only to compare designs"


def _source(one: Any) -> str:
    several = one if isinstance(one, Sequence) and not isinstance(one, str) else [one]
    return "; ".join(each["source"] for each in several if each.get("source"))


def _parts(one: Any) -> str:
    """Any other rule as it is declared."""
    if isinstance(one, Mapping):
        return ", ".join(f"{key} {_parts(value)}" for key, value in one.items() if key != "source")
    if isinstance(one, (list, tuple)):
        return " and ".join(_parts(each) for each in one)
    return f"{one:g}" if isinstance(one, float) else str(one)


# -- limits --------------------------------------------------------------------------------------------------------------
def limits(found: Found, numbering: Numbering) -> tuple[Any, ...]:
    """The planned limits of Z at each look, and about which estimate they are."""
    ratio = effect_name(found) == "hazard ratio"
    head = (
        "Size",
        "Look",
        "Planned at",
        "Success: Z at or above",
        *(("About a hazard ratio of",) if ratio else ()),
        "Futility: Z at or below",
        "Harm: Z at or below",
    )
    body = []
    for one in found["variants"]:
        for look, upper in enumerate(one.get("limits", {}).get("upper", ())):
            planned, at = _planned(found, one, look)
            near = [_near(found, upper, at)] if ratio else []
            below = [_z(one["limits"][name][look]) for name in ("lower", "harm")]
            body.append([one["size"], str(look + 1), planned, _z(upper), *near, *below])
    if not body:
        return ()
    about = (
        " The hazard ratio is exp(−Z/√V), with V the product of the arms’ shares times the events (Schoenfeld 1981)."
        if ratio
        else ""
    )
    caption = (
        f"Z above zero speaks for the active arm. In each trial the limits follow the information that it has.{about}"
    )
    return (table(numbering, "Planned limits", head, body, caption),)


def _z(value: Any) -> str:
    return words.number(value, 2) if known(value) else NOTHING


def _planned(found: Found, one: One, look: int) -> tuple[str, float | None]:
    """When a look is planned, and at how many events where it goes by them."""
    said = found["declared"]["looks"][look]
    total = one.get("events") or found["declared"]["looks"][-1].get("events")
    if said.get("fraction") and total:
        return f"{round(said['fraction'] * total):,} events", round(said["fraction"] * total)
    if said.get("events"):
        return f"{said['events']:,} events", said["events"]
    return _look(look + 1, said).split(": ", 1)[1].split(",")[0], None


def _near(found: Found, z: Any, events: float | None) -> str:
    ratio = found["declared"].get("allocation", {}).get("ratio") or [1, 1]
    share = ratio[0] / (ratio[0] + ratio[1])
    if not known(z) or not events:
        return NOTHING
    return words.number(math.exp(-z / math.sqrt(share * (1 - share) * events)), 2)


# -- worlds ----------------------------------------------------------------------------------------------------------------
def worlds_section(found: Found, numbering: Numbering) -> Section:
    """Every world: what drives it, and where that comes from; assumed parts named as such."""
    head = ("World", "Kind", "What it says", "Source", "Sizes tried")
    declared = {one["name"]: one for one in found["declared"]["worlds"]}
    body = [
        [
            one["label"],
            _kind(one),
            _says(declared.get(one["name"], {}), found),
            one.get("source") or _drawn(one),
            _tried(found, one["name"]),
        ]
        for one in found["worlds"]
    ]
    caption = "In worlds of the biology the effect is not put in: it follows from the doses through cells, inflammation and vessels to events."
    block = table(numbering, "Worlds", head, body, caption)
    lines = [["Design", text] for text in found.get("assumptions", ())]
    lines += [[words.capital(one["about"]), one["text"]] for one in found.get("protocol_assumptions", ())]
    more = [table(numbering, "Further assumptions", ("About", "Assumption"), lines)] if lines else []
    return Section(key="worlds", title="Worlds and what is assumed in them", lead=LEAD, blocks=(block, *more))


LEAD = (
    "A number is worth what the world it was found in is worth. Assumed: somebody chose it. Drawn: constants come from the posterior of "
    "the model given published studies."
)


def _kind(one: One) -> str:
    null = ", where nothing works" if one["null"] else ""
    return f"assumed{null}" if one["kind"] == "assumed" else f"drawn{null}"


def _drawn(one: One) -> str:
    return f"posterior ‘{one['kind']}’; see the pages of the model, the evidence and the exam"


def _tried(found: Found, world: str) -> str:
    sizes = [cell["size"] for cell in found["cells"] if cell["world"] == world]
    return "; ".join(sizes) if sizes else "not simulated in this run"


def _says(one: One, found: Found) -> str:
    said = one.get("assumed")
    if not said:
        return _posterior(one, found)
    control = f"{found['declared']['primary'].get('endpoint', 'event')} on control {listed(said['risk'])}"
    ratios = said.get("ratios") or [{"after": "0 days", "ratio": 1.0}]
    told = [_ratio(each) for each in ratios]
    parts = [control, f"hazard ratio {', '.join(told)}"]
    parts += [f"{each['name']} log-normal, median {each['median']:g}" for each in said.get("markers", ())]
    parts += [
        f"{name} {each['mean']:g}, SD {each['sd']:g}, difference {words.number(each.get('difference', 0.0), 2)}"
        for name, each in said.get("readings", {}).items()
    ]
    return "; ".join(parts)


def _ratio(one: One) -> str:
    arm = f" on {one['arm']}" if one.get("arm") else ""
    after = one.get("after", "0 days")
    return f"{one['ratio']:g}{arm}{'' if after == '0 days' else f' from {_time(after)} on'}"


def _time(text: str) -> str:
    """A length of time as a person says it.

    >>> _time("182.625 days"), _time("61 days"), _time("2 years")
    ('0.5 years', '61 days', '2 years')
    """
    number, _, unit = text.partition(" ")
    if unit != "days" or float(number) == int(float(number)):
        return text
    return f"{float(number) / DAYS_PER_YEAR:.3g} years"


def _posterior(one: One, found: Found) -> str:
    draws = f"{found['draws']:,} sets of constants, {found['people']:,} people each"
    without = {"efficacy": "; the drug calms nothing", "drug": "; no drug", "loop": "; an infarction does not inflame"}
    best = f"; only the {100 * one['best']:g} % of sets with the largest true effect" if one.get("best") else ""
    conduct = {"usual": "doses missed as in IVORY", "perfect": "every dose taken"}.get(one.get("conduct", "usual"), "")
    return f"{draws}; {conduct}{without.get(one.get('without', ''), '')}{best}"

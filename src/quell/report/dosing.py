"""The page of ``quell optimise dose``: which dose and schedule, how sure that is, and where the answer turns."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import polars as pl
from markupsafe import Markup

from quell.figures import canvas
from quell.figures import dosing as figures
from quell.report import words
from quell.report.blocks import Panel, csv

Found = Mapping[str, Any]
EVENTS = {"infarction": "infarctions", "MACE": "first events of infarction, stroke and cardiovascular death"}
MOST_ROWS = 12
PARTS = {
    "net": ("net benefit, events averted per 1,000", 1.0), "averted": ("events averted per 1,000", 1.0),
    "relative": ("relative fall of the hazard, %", 100.0), "wall": ("fall of coronary TBR, mean over the horizon", 1.0),
    "treg": ("rise of regulatory T cells while dosing, %", 100.0), "teff": ("highest rise of effector T cells, %", 100.0),
    "nk": ("highest rise of natural killer cells, %", 100.0), "eosinophilia": ("eosinophilia (above 500/µL), % of patients", 100.0),
    "hypereosinophilia": ("hypereosinophilia (above 1,500/µL), % of patients", 100.0),
}  # fmt: skip
REACTIONS = {
    "fever": "a fever",
    "flu_like": "flu-like symptoms",
    "injection_site": "an injection-site reaction",
    "any": "any adverse event",
}


class Section(NamedTuple):
    """A heading with what it says, pictures and a table."""

    key: str
    title: str
    lead: str
    panels: tuple[Panel, ...] = ()
    head: tuple[str, ...] = ()
    rows: Sequence[Sequence[str]] = ()


def build(found: Found) -> tuple[str, dict[str, bytes]]:
    """The page as HTML, and its data as CSV by name; ``found`` is ``Dosing.as_dict()``."""
    folder = importlib.resources.files("quell") / "pages"
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((folder / "dosing.html").read_text(encoding="utf-8"))
    html = template.render(
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        research=words.RESEARCH,
        title=_title(found),
        sentence=sentence(found),
        notes=[f"{one[0].upper()}{one[1:]}" for one in found["warnings"]],
        sections=[
            _doses(found),
            _effects(found),
            _front(found),
            _turns(found),
            _schedules(found),
            _unknown(found),
            _bodies(found),
            _each(found),
        ],
        provenance=_provenance(found),
    )
    return html, frames(found)


def frames(found: Found) -> dict[str, bytes]:
    """Every table behind the page as CSV."""
    flat = [{k: v for k, v in row.items() if not isinstance(v, dict)} | _spread(row) for row in found["schedules"]]
    named = {
        "curve": found["curve"],
        "front": found["front"],
        "turns": found["turns"],
        "schedules": flat,
        "injections": found["injections"],
    }
    return {
        f"{name}.csv": csv(pl.DataFrame(list(rows), infer_schema_length=None)) for name, rows in named.items() if rows
    }


def _spread(row: Found) -> dict[str, float]:
    return {
        f"{name}_{part}": value for name, one in row.items() if isinstance(one, dict) for part, value in one.items()
    }


# -- words -------------------------------------------------------------------------------------------------------------
def _title(found: Found) -> str:
    one = found["chosen"]
    if not one["worthwhile"]:
        return "No drug is better than any schedule tried"
    return f"{words.significant(one['dose'], 2)} MIU, {one['schedule']}"


def sentence(found: Found) -> str:
    """The answer in a sentence or three: benefit with its spread, burden, and how sure the choice is."""
    one, aim = found["chosen"], found["aim"]
    name = EVENTS[aim["benefit"]]
    first = (
        f"{words.significant(one['dose'], 2)} MIU on days {one['days']} ({one['injections']} injections) would avert "
        f"{_sure(one['averted'])} {name} per 1,000 patients in {aim['horizon']}, of {words.significant(one['control']['value'], 3)} expected; "
        f"{words.number(100 * one['reactions']['fever']['value'], 0)} % of patients would have a fever."
    )
    if not one["worthwhile"]:
        first = f"The least bad schedule is not worth its burden: {first}"
    regret, none = found["by_draw"]["regret"], found["by_draw"]["no drug"]
    second = (
        f"Not knowing the body costs {words.significant(regret['value'], 2)} (Monte Carlo error {words.significant(regret['error'], 1)}) events per 1,000 "
        f"against the best choice in each draw, which is no drug at all in {words.number(100 * none, 0)} % of draws."
    )
    return f"{first} {second}"


def _range(one: Mapping[str, float], factor: float = 1.0) -> str:
    at = words.decimals(factor * max(one["high"] - one["low"], one["error"]) / 4)
    return words.span(factor * one["value"], factor * one["low"], factor * one["high"], min(at, 3))


def _sure(one: Mapping[str, float]) -> str:
    """A mean over draws and where nine in ten of them lie, in words."""
    return _range(one).replace("(", "(nine in ten draws: ")


def _panel(title: str, figure: Any, alt: str, key: str) -> Panel:
    return Panel(title, Markup(canvas.svg(figure, alt, f"dosing-{key}")))


def _doses(found: Found) -> Section:
    curve, dose = found["curve"], found["chosen"]["dose"]
    label = "averted per 1,000"
    panels = (
        _panel(
            "Events averted", figures.dose_response(curve, dose, "averted", label), "events averted by dose", "averted"
        ),
        _panel("Net of burden", figures.dose_response(curve, dose, "net", label), "net benefit by dose", "net"),
        _panel("Harm", figures.harms(curve, dose), "harms by dose", "harms"),
    )
    lead = (
        f"The schedule '{found['chosen']['schedule']}' by dose: mean, and where nine in ten draws of what is not known lie. The diamond, and the dotted "
        "line under harm, is the chosen dose; the dashed line is no drug."
    )
    return Section("doses", "Dose", lead, panels)


def _effects(found: Found) -> Section:
    columns = [("chosen", found["chosen"])]
    if found["inside"]:
        columns.append(("best of those studied", found["inside"]))
    columns += [(f"{one['label']}, as declared", one) for one in found["declared"]]
    rows = [["dose, MIU", *(words.significant(one["dose"], 3) for _, one in columns)]]
    rows.append(["schedule", *(one.get("schedule", "as in the protocol") for _, one in columns)])
    rows.append(["injections", *(str(one["injections"]) for _, one in columns)])
    rows += [[label, *(_range(one[name], factor) for _, one in columns)] for name, (label, factor) in PARTS.items()]
    rows += [
        [f"patients with {label}, %", *(_range(one["reactions"][name], 100.0) for _, one in columns)]
        for name, label in REACTIONS.items()
    ]
    rows.append(["patients treated for each event averted", *(_whole(one["needed to treat"]) for _, one in columns)])
    rows.append(["injections for each event averted", *(_whole(one["injections per event"]) for _, one in columns)])
    lead = (
        "On draws and people other than those the choice was made on; in brackets where nine in ten draws lie. Reactions are beyond what placebo brings, at "
        "least one over the course (E087, E089; the two trials counted differently)."
    )
    return Section("effects", "Benefit and harm", lead, head=("", *(name for name, _ in columns)), rows=rows)


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _front(found: Found) -> Section:
    one = found["chosen"]
    marked = [{"label": "chosen", "injections": one["injections"], "averted": one["averted"]["value"]}]
    marked += [
        {"label": a["label"], "injections": a["injections"], "averted": a["averted"]["value"]}
        for a in found["declared"]
    ]
    drawing = figures.dose_front(found["front"], marked, "averted per 1,000")
    lead = (
        "Schedules and doses that no other beats in benefit, injections, fevers and effector T cells at once; darker points are larger doses. Limits are not "
        "applied here. Points are means over the draws on which the choice was made."
    )
    return Section(
        "front",
        "Benefit against burden",
        lead,
        (_panel("Events averted and injections", drawing, "the front", "front"),),
    )


def _turns(found: Found) -> Section:
    worth = found["aim"]["worth"]
    lead = (
        "The best schedule within the limits by what one prevented event is worth in injections, fevers being priced in proportion. The grey line is what was "
        f"assumed: {worth['injections']:,.0f} injections, or {worth['fevers']:,.0f} fevers."
    )
    if not found["turns"]:
        return Section(
            "turns", "Where the answer turns", "No schedule keeps every limit, so there is nothing to choose."
        )
    drawing = figures.turns(found["turns"], worth["injections"])
    return Section(
        "turns", "Where the answer turns", lead, (_panel("Best schedule", drawing, "best schedule by worth", "turns"),)
    )


def _schedules(found: Found) -> Section:
    rows = [
        [
            row["schedule"] if row["feasible"] else f"{row['schedule']} (passes a limit)",
            words.significant(row["dose"], 2),
            str(row["injections"]),
            _range(row["averted"]),
            _range(row["net"]),
            f"{words.significant(row['shortfall']['value'], 2)} ± {words.significant(row['shortfall']['error'], 1)}",
        ]
        for row in found["schedules"][:MOST_ROWS]
    ]
    lead = (
        f"Each at its own best dose, the best {min(len(rows), MOST_ROWS)} of {len(found['schedules'])}; the shortfall against the best has its Monte Carlo "
        "error, both on the same draws."
    )
    head = ("schedule", "dose, MIU", "injections", "averted per 1,000", "net", "shortfall")
    return Section("schedules", "Schedules", lead, head=head, rows=rows)


def _unknown(found: Found) -> Section:
    by, rows = found["by_draw"], []
    rows += [["no drug", f"{100 * by['no drug']:.0f} % of draws"]]
    rows += [[row["schedule"], f"{100 * row['share']:.0f} % of draws"] for row in by["schedules"][:MOST_ROWS]]
    if by["dose"]:
        ends = f"{words.significant(by['dose']['q05'], 2)} to {words.significant(by['dose']['q95'], 2)}"
        rows.append(["dose, median (5 to 95 %)", f"{words.significant(by['dose']['q50'], 2)} ({ends}) MIU"])
    rows.append(["draws in which the chosen schedule is worse than no drug", f"{100 * by['worse than no drug']:.0f} %"])
    lead = "What one would choose if one knew the constants of the body: the best in each draw, within the limits in that draw."
    return Section("unknown", "What is not known", lead, head=("", ""), rows=rows)


def _bodies(found: Found) -> Section:
    rows = [
        [
            f"{row['question']}: {row['option']}",
            str(row["draws"]),
            _range(row["averted"]),
            f"{100 * row['hypereosinophilia']:.1f} %",
        ]
        for row in found["bodies"]
    ]
    lead = "What the chosen schedule does in bodies that the evidence cannot tell apart; each row is the draws of one option."
    head = ("structure", "draws", "averted per 1,000", "hypereosinophilia")
    return Section("bodies", "Bodies that the evidence cannot tell apart", lead, head=head, rows=rows)


def _each(found: Found) -> Section:
    parts, gain = found["uneven"]["parts"], found["uneven"]["gain"]
    drawing = figures.injections(found["injections"], "per 1,000 and MIU")
    rows = [
        [
            f"days {one['from']} to {one['to']}" if one["to"] > one["from"] else f"day {one['from']}",
            f"{one['dose']:.2f} MIU",
        ]
        for one in parts
    ]
    rows.append(
        [
            "gain over one even dose, per 1,000",
            f"{words.significant(gain['value'], 2)} ± {words.significant(gain['error'], 1)}",
        ]
    )
    better = gain["value"] > 2 * gain["error"] > 0
    verdict = "uneven doses do better" if better else "no uneven course was found that does better beyond the error"
    lead = (
        "What one more MIU on a day would avert, by the exact slope through the body (bars: two Monte Carlo errors); the dashed line is what its fevers cost. "
        f"Below, doses that differ over the course, judged on other draws: {verdict}."
    )
    panel = _panel("Worth of each injection", drawing, "worth of each injection by day", "each")
    return Section("injections", "Each injection", lead, (panel,), head=("", ""), rows=rows)


def _provenance(found: Found) -> list[tuple[str, str]]:
    aim, error = found["aim"], found["numerical_error"]
    limits = ", ".join(f"{name} {value:g}" for name, value in aim["limits"].items() if value is not None) or "none"
    return [
        (
            "World",
            f"{aim['stage']}{', without ' + aim['without'] if aim['without'] else ''}: {aim['draws']} draws to choose on, as many to judge",
        ),
        (
            "People",
            f"{aim['people']} of the population '{aim['population']}' in each draw to choose on, {found['judged on']} to judge",
        ),
        ("Limits", limits),
        ("Tried", f"{len(found['schedules'])} schedules; doses continuous, by values and exact slopes"),
        (
            "Numerical error",
            f"{error['averted']:.1g} of {error['of']:.3g} averted per 1,000, when small steps are halved",
        ),
        ("Key", str(found["key"])),
        ("Fingerprint", found["fingerprint"]),
        ("Version", f"quell {found['version']}"),
    ]

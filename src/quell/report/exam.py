"""The page of ``quell exam``: every published result on its prediction, the score, and honest words on what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from quell import figures, report
from quell.report import examined, words
from quell.report.blocks import Block, Cell, Numbering, Panel, Section, cells
from quell.report.words import Answer

TITLE = "Published results on what was predicted of them"


class Headline(NamedTuple):
    """What the page calls itself, in the place of a protocol."""

    title: str = "IVORY and IVORY-FINALE, predicted from other people's studies"
    question: str = "Does a model that has not seen IVORY's results say where they lie?"
    name: str = "exam"
    phase: str = ""


def build(found: Mapping[str, Any], versions: Mapping[str, str] | None = None) -> report.Page:
    """The page and its data: the same exam gives the same bytes."""
    numbering = Numbering()
    answer = Answer(TITLE, examined.sentence(found), tuple(examined.sure(found)), tuple(examined.beware(found)))
    main = picture(found, numbering)
    parts = sections(found, numbering)
    html = report.template().render(
        protocol=Headline(),
        answer=answer,
        summary=f"{found['trials']:,} trials of each in the world '{found['world']}', the body's constants drawn anew for each trial.",
        research=words.RESEARCH,
        main=main,
        sections=parts,
        looks=[],
        simulated=True,
        provenance=provenance(found, versions or {}),
        style=report.style(),
    )
    return report.Page(html=html, files=dict(numbering.files))


def frame(found: Mapping[str, Any]) -> pl.DataFrame:
    """Every figure on its prediction, one row each."""
    kept = (
        "name",
        "unit",
        "published",
        "lower",
        "q25",
        "median",
        "q75",
        "upper",
        "role",
        "scored",
        "inside_50",
        "inside_90",
    )
    marks = ("place", "width_ratio", "chance_ratio", "doubt_left", "rests_on", "source")
    return pl.DataFrame(
        [{name: one.get(name) for name in (*kept, *marks)} for one in found["figures"]], infer_schema_length=None
    )


def rows(found: Mapping[str, Any]) -> pl.DataFrame:
    """The scored figures as the picture wants them."""
    titles = {"ivory": "IVORY", "ivory-finale": "IVORY-FINALE"}
    return pl.DataFrame(
        [
            {"group": titles[one["protocol"]], "label": examined.named(one), "value": f"{examined.value(one)} in {examined.interval(one)}"}
            | {name: float(one[name]) for name in ("published", "lower", "q25", "median", "q75", "upper")}
            | {"foreseen": not one["beyond"]}
            for one in examined.scored(found)
        ]
    )  # fmt: skip


def drawing(found: Mapping[str, Any]) -> Any:
    """The picture of the exam, as a matplotlib figure."""
    return figures.predicted(rows(found))


CAPTION = (
    "Each teal band runs from the 5th to the 95th percentile of simulated trials, stretched to one length; its dark part from the 25th to the "
    "75th, the stroke is the median. Diamonds: published, on grey where outside; hollow where the model could not have foreseen the "
    "finding. Beside each the published figure and the 90 % interval."
)


def picture(found: Mapping[str, Any], numbering: Numbering) -> Block:
    """The scored figures on one scale."""
    label, key = numbering.next("Figure")
    inside = found["score"]["all"]["inside_90"]
    alt = "; ".join(f"{row['label']}: {row['value']}" for row in rows(found).iter_rows(named=True))
    panel = Panel("", Markup(figures.svg(drawing(found), alt, key)))
    title = f"{inside['inside']} of {inside['of']} published results lie in their 90 % interval"
    data = (numbering.data("exam", frame(found)),)
    return Block(kind="figure", key=key, label=label, title=title, caption=CAPTION, panels=(panel,), data=data)


def sections(found: Mapping[str, Any], numbering: Numbering) -> tuple[Section, ...]:
    return (
        _missed(found),
        _unforeseen(found),
        Section(
            key="zero-against-eleven", title="0 % against 11 %", blocks=(_said(examined.second_infarction(found)),)
        ),
        _table(found, numbering),
        _more(found, numbering),
        _forecasts(found, numbering),
    )


def _said(lines: Sequence[str]) -> Block:
    return Block(kind="box", paragraphs=tuple(lines))


def _missed(found: Mapping[str, Any]) -> Section:
    lines = examined.misses(found) or ["Every published result lies in its 90 % interval."]
    return Section(key="missed", title="What failed", blocks=(_said(lines),))


def _unforeseen(found: Mapping[str, Any]) -> Section:
    lines = [f"{examined.joined(names)}: {why}." for why, names in examined.unforeseen(found)]
    lead = "Lying in an interval is not having been foreseen. Of these the model could say only how far they might go:"
    return Section(key="unforeseen", title="What could not have been foreseen", lead=lead, blocks=(_said(lines),))


HEAD = (
    "Result",
    "Published",
    "Median",
    "50 %",
    "90 %",
    "Trials below",
    "Width, of that before",
    "Chance alone",
    "Doubt left",
    "Rests on",
    "Source",
)


def line(one: Mapping[str, Any]) -> list[str]:
    """One result as a row of the table."""
    at = examined.places(one)
    return [
        f"{one['name']}{'' if one['inside_90'] else ' (outside)'}",
        examined.published(one),
        words.number(one["median"], at),
        examined.interval(one, "q25", "q75"),
        examined.interval(one),
        examined.place(one),
        examined.ratio(one["width_ratio"]),
        examined.ratio(one["chance_ratio"]),
        examined.ratio(one["doubt_left"]),
        examined.rests(one),
        source(one),
    ]


def source(one: Mapping[str, Any]) -> str:
    """Who published it, and what is to be known of it."""
    remarks = [f"worked out from {one['follows']}" if one["follows"] else "", one["note"]]
    return one["source"] + "".join(f" ({remark})" for remark in remarks if remark)


WIDTHS = (
    "Width: of the 90 % interval, as a share of that before the evidence. Chance alone: the same if the model were known exactly, which no evidence can "
    "go below. Doubt left: what remains of the doubt about the model, chance taken out."
)


def _table(found: Mapping[str, Any], numbering: Numbering) -> Section:
    label, key = numbering.next("Table")
    body = tuple(cells(line(one), HEAD) for one in examined.scored(found))
    block = Block(
        kind="table",
        key=key,
        label=label,
        title="Results on their predictions",
        caption=WIDTHS,
        head=HEAD,
        rows=body,
        narrow="card",
    )
    return Section(key="results", title="Every result", blocks=(block,))


def short(one: Mapping[str, Any]) -> list[str]:
    """An input or second reading as a row."""
    return [one["name"], examined.published(one), examined.interval(one), one["reading"] or "input", one["source"]]


def _more(found: Mapping[str, Any], numbering: Numbering) -> Section:
    label, key = numbering.next("Table")
    head = ("Figure", "Published", "Simulated, 90 %", "Why it does not count", "Source")
    body = tuple(cells(short(one), head) for one in (*examined.readings(found), *examined.inputs(found)))
    lines = [f"{one['figure']}: {one['said']}." for one in (*found["by_design"], *found["not_published"])]
    block = Block(
        kind="table", key=key, label=label, title="Inputs and second readings", head=head, rows=body, narrow="card"
    )
    return Section(key="inputs", title="What does not count", blocks=(block, _said(lines)))


def forecast(one: Mapping[str, Any]) -> list[str | Cell]:
    """What one declared analysis would find, as a row."""
    at = words.decimals((one["upper"] - one["lower"]) / 2)
    middle = words.number(one["median"], at)
    rejects = f"{100 * one['rejects']['value']:.0f} %"
    return [one["name"], one["protocol"], one["scale"], middle, examined.interval(one), rejects]


def _forecasts(found: Mapping[str, Any], numbering: Numbering) -> Section:
    label, key = numbering.next("Table")
    head = ("Analysis", "Protocol", "Scale", "Median", "90 %", "Trials that reject")
    known = [one for one in found["forecasts"] if one["median"] is not None and one["median"] == one["median"]]
    body = tuple(cells(forecast(one), head) for one in known)
    lead = "What each declared analysis would find. Most of these numbers are not on file: whoever has them can hold them against this."
    block = Block(
        kind="table",
        key=key,
        label=label,
        title="Forecasts of every declared analysis",
        head=head,
        rows=body,
        narrow="card",
    )
    return Section(key="forecasts", title="Forecasts without a published number", lead=lead, blocks=(block,))


def provenance(found: Mapping[str, Any], versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the exam followed from."""
    prints = ", ".join(f"{name} {one}" for name, one in found["protocols"].items())
    lines = [
        ("World", f"{found['world']}; before: '{found['prior']}'"),
        ("Trials", f"{found['trials']:,} of each protocol in each world"),
        ("Protocols", prints),
        ("Key", str(found["key"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in lines if text]

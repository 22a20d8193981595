"""The page of ``quell impact``: what an effect would mean for a country, at which price, and what is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from quell import figures, report
from quell.figures import impact as pictures
from quell.report import words
from quell.report.blocks import Block, Numbering, Panel, Section, cells
from quell.report.impact_words import Found, beware, money, number, percent, sentence, small, span, summary, sure
from quell.report.words import Answer

KIND = "Model of a country"
STRONG = 0.02  # shares of the doubt below this are noise of the draws, and not drawn


class Headline(NamedTuple):
    """What the page calls itself, in the place of a protocol."""

    title: str
    question: str
    name: str = "impact"
    phase: str = ""


def build(found: Found, versions: Mapping[str, str] | None = None) -> report.Page:
    """The page of one answer (``Impact.as_dict()``) and its data: the same answer gives the same bytes."""
    numbering = Numbering()
    title = f"What the effect would mean for the {found['country']}"
    answer = Answer(title, sentence(found), tuple(sure(found)), tuple(beware(found)))
    main = _averted(found, numbering)
    html = report.template().render(
        kind=KIND,
        protocol=Headline(title, f"What would it mean for the {found['country']}?"),
        answer=answer,
        summary=summary(found),
        research=words.RESEARCH,
        main=main,
        sections=sections(found, numbering),
        looks=[],
        simulated=True,
        provenance=provenance(found, versions or {}),
        style=report.style(),
    )
    return report.Page(html=html, files=dict(numbering.files))


def page(found: Any) -> str:
    """The page as HTML, of an ``Impact`` or of its plain data."""
    return build(found if isinstance(found, Mapping) else found.as_dict()).html


# -- the first picture ----------------------------------------------------------------------------------------------------
def _figure(numbering: Numbering, title: str, caption: str, panels: Sequence[tuple[str, Any, str]], data: Any) -> Block:
    """A numbered figure of one or more panels: title, drawing, words for who cannot see it."""
    label, key = numbering.next("Figure")
    drawn = tuple(
        Panel(name, Markup(figures.svg(drawing, alt, f"{key}-{step}")))
        for step, (name, drawing, alt) in enumerate(panels)
    )
    kept = tuple(numbering.data(name, frame) for name, frame in data)
    return Block(kind="figure", key=key, label=label, title=title, caption=caption, panels=drawn, data=kept)


def _averted(found: Found, numbering: Numbering) -> Block:
    rows = pl.DataFrame(found["over_time"])
    last = found["over_time"][-1]
    return _figure(
        numbering,
        f"{span(last)} heart attacks averted in ten years",
        f"Mean, and where 50 and 95 % of the draws lie, at an uptake that rises to {100 * found['people']['uptake']:.0f} %.",
        [("", pictures.averted(rows), f"heart attacks averted by year, {span(last)} by year 10")],
        [("averted by year", rows)],
    )


# -- sections ---------------------------------------------------------------------------------------------------------------
def sections(found: Found, numbering: Numbering) -> tuple[Section, ...]:
    return (
        _nation(found, numbering),
        _patients(found, numbering),
        _price(found, numbering),
        _scenarios(found, numbering),
        _doubt(found, numbering),
        _inputs(found, numbering),
        _gaps(found),
    )


def _table(
    numbering: Numbering, title: str, head: Sequence[str], rows: Any, caption: str = "", narrow: str = "card"
) -> Block:
    label, key = numbering.next("Table")
    body = tuple(cells(row, head) for row in rows)
    return Block(
        kind="table", key=key, label=label, title=title, caption=caption, head=tuple(head), rows=body, narrow=narrow
    )


def _nation(found: Found, numbering: Numbering) -> Section:
    head = ("Uptake", "Years", "People treated", "Heart attacks averted", "Cardiovascular deaths averted")
    rows = [
        [
            f"{100 * row['uptake']:.0f} %",
            str(row["years"]),
            span(row["treated"]),
            span(row["infarctions"]),
            span(row["cardiovascular_deaths"]),
        ]
        for row in found["averted"]
    ]
    caption = f"Uptake is the peak, reached evenly over {found['people']['ramp_years']:g} years. Repeat heart attacks, fatal ones counted."
    return Section(
        key="nation",
        title="The country",
        blocks=(_table(numbering, "Averted by uptake and duration", head, rows, caption),),
    )


def _patients(found: Found, numbering: Numbering) -> Section:
    head = ("Within", "Risk without", "Risk with", "Fewer", "Number to treat")
    rows = [
        [
            f"{row['years']} year{'' if row['years'] == 1 else 's'}",
            span(row["without"], percent),
            span(row["with"], percent),
            span(row["fewer"], percent),
            number(row["number"]),
        ]
        for row in found["needed"]
    ]
    caption = "Risk of another heart attack, death counted as an end. Where the interval reaches no effect, no number is large enough (Altman 1998)."
    first = _table(numbering, "Patients to treat for one heart attack averted", head, rows, caption)
    names = {
        "years": ("Years of life", lambda value: words.number(value, 2)),
        "life_years": ("Years of life, discounted", lambda value: words.number(value, 2)),
        "qalys": ("QALYs, discounted", small),
        "cost": ("Cost of care, discounted", money(found)),
    }
    lives = [
        [names[name][0], *(span(one[side], names[name][1]) for side in ("without", "with", "gain"))]
        for name, one in found["person"].items()
    ]
    discount = next(one["value"] for one in found["inputs"] if one["name"] == "discount")
    gain = found["person"]["qalys"]["gain"]["value"]
    cancel = f"Harm of a course worth {365 * gain:.0f} days in full health would cancel the gain." if gain > 0 else ""
    second = _table(
        numbering,
        "One patient's remaining life",
        ("From treatment to death", "Without", "With", "Gain"),
        lives,
        f"Of a patient aged {found['people']['age']:g}, {100 * found['people']['women']:g} % women; discounted at {100 * discount:g} % a year. The drug's own cost is not counted. {cancel}",
    )
    return Section(key="patients", title="One patient", blocks=(first, second))


def _price(found: Found, numbering: Numbering) -> Section:
    pounds = money(found)
    price = found["worth"][0]["price"] if found["price"] is None else found["price"]
    supposed = "the highest that is worth it, at the lower worth of a QALY" if found["price"] is None else "as given"
    lead = (
        f"A course is worth at most what its health is worth, less the care that longer lives cost: that is the price with "
        f"giving and watching the drug included, in pounds of {found['price_year']}."
    )
    return Section(
        key="price",
        title="At which price it is worth it",
        lead=lead,
        blocks=(
            _worths(found, numbering, pounds),
            _plane(found, numbering, f"Price of a course: {pounds(price)}, {supposed}.", price),
            _curves(found, numbering),
        ),
    )


def _worths(found: Found, numbering: Numbering, pounds: Callable[[float], str]) -> Block:
    head = ["Worth of a QALY", "Highest price of a course", "Certainty, per patient", "Certainty, country"]
    rows = [
        [
            pounds(row["worth"]),
            span(row["highest_price"], pounds),
            pounds(row["information"]),
            pounds(row["information_nation"]),
        ]
        for row in found["worth"]
    ]
    priced = found["price"] is not None
    if priced:
        head += ["Cost per QALY", "Net benefit", "Chance worth it"]
        for line, row in zip(rows, found["worth"], strict=True):
            ratio = row["ratio"]
            line += [
                ratio["words"] or pounds(ratio["value"]),
                span(row["net_benefit"], pounds),
                f"{100 * row['chance']:.0f} %",
            ]
    at = f"at {pounds(found['price'])}" if priced else "at the highest price, where the decision is most open"
    caption = (
        f"Certainty: expected value of perfect information {at}, for the country over the years that a decision is supposed to "
        "stand. Cost per QALY: mean cost over mean gain; at the highest price it is the worth of a QALY."
    )
    return _table(numbering, "What a course is worth", head, rows, caption)


def _plane(found: Found, numbering: Numbering, priced: str, price: float) -> Block:
    gain = found["person"]
    shift = price - (found["price"] or 0.0)  # without a price the points cost only their care
    points = pl.DataFrame(found["plane"]).with_columns(pl.col("cost") + shift)
    mean = (gain["qalys"]["gain"]["value"], gain["cost"]["gain"]["value"] + price)
    worths = [row["worth"] for row in found["worth"]]
    pounds = money(found)
    lines = f"Below a line it is worth it: unbroken {pounds(worths[0])} a QALY, dashed {pounds(worths[1])}."
    curve = pl.DataFrame(found["acceptability"])
    symbol = found["symbol"]
    return _figure(
        numbering,
        "Cost and health together, and how often they are worth it",
        f"{priced} Dots: draws; diamond: the mean. {lines} To the right, the chance by what a QALY is worth.",
        [
            (
                "Cost-effectiveness plane",
                pictures.plane(points, mean, worths, symbol),
                "cost against QALYs gained, by draw",
            ),
            (
                "Acceptability curve",
                pictures.by_worth(curve, worths, symbol),
                "chance of being worth it, by worth of a QALY",
            ),
        ],
        [("cost-effectiveness plane", points), ("acceptability", curve)],
    )


def _curves(found: Found, numbering: Numbering) -> Block:
    rows = pl.DataFrame(found["curves"])
    worths = [money(found)(row["worth"]) for row in found["worth"]]
    symbol = found["symbol"]
    return _figure(
        numbering,
        "Chance of being worth it, and the worth of certainty, by price",
        f"Unbroken: a QALY worth {worths[0]}; dashed: {worths[1]}. More research is worth most where the decision is open.",
        [
            ("Chance that a course is worth its price", pictures.by_price(rows, "chance", symbol), "chance by price"),
            (
                "Perfect information, per patient",
                pictures.by_price(rows, "information", symbol),
                "worth of certainty by price",
            ),
        ],
        [("by price", rows)],
    )


def _scenarios(found: Found, numbering: Numbering) -> Section:
    pounds = money(found)
    worths = [pounds(row["worth"]) for row in found["worth"]]
    head = (
        "Supposing",
        "Averted per 1,000 in 5 years",
        "QALYs gained",
        *(f"Highest price, {one} a QALY" for one in worths),
    )
    rows = [
        [
            f"{row['name'][0].upper()}{row['name'][1:]}",
            span(row["averted_per_1000"]),
            span(row["qalys"], small),
            span(row["price_low"], pounds),
            span(row["price_high"], pounds),
        ]
        for row in found["scenarios"]
    ]
    draws = found["scenarios"][0]["draws"]
    caption = f"One supposition changed at a time, {draws:,} draws. Heart attacks averted of 1,000 people treated."
    return Section(
        key="scenarios",
        title="If something else is supposed",
        blocks=(_table(numbering, "Other suppositions", head, rows, caption),),
    )


def _doubt(found: Found, numbering: Numbering) -> Section:
    kept = [row for row in found["explained"] if row["share"] >= STRONG]
    if not kept:
        return Section(key="doubt", title="What the doubt comes from", lead="No input that varies explains any of it.")
    rows = pl.DataFrame(
        {
            "label": [row["meaning"] for row in kept],
            "value": [f"{100 * row['share']:.0f} %" for row in kept],
            "share": [row["share"] for row in kept],
        }
    )
    block = _figure(
        numbering,
        f"{kept[0]['meaning'][0].upper()}{kept[0]['meaning'][1:]} explains {rows['value'][0]} of the variance of the highest price",
        "The share that each explains by itself (first-order index), from 2 % on. Held inputs and the form of the model are not in it.",
        [("", pictures.explained(rows), "; ".join(f"{label} {value}" for label, value, _ in rows.iter_rows()))],
        [("what the doubt comes from", pl.DataFrame(found["explained"]))],
    )
    return Section(key="doubt", title="What the doubt comes from", blocks=(block,))


def limits(one: Mapping[str, Any]) -> str:
    """An input's spread in words.

    >>> limits({"spread": "beta", "lower": 0.55, "upper": 0.57}), limits({"spread": "held"})
    ('0.55 to 0.57 (beta)', 'held')
    """
    return "held" if one["spread"] == "held" else f"{one['lower']:,g} to {one['upper']:,g} ({one['spread']})"


def _inputs(found: Found, numbering: Numbering) -> Section:
    head = ("Input", "Value", "95 % limits", "Status", "Source", "Date", "Note")
    rows = [
        [
            f"{one['meaning'][0].upper()}{one['meaning'][1:]}",
            f"{one['value']:,g} {one['unit']}",
            limits(one),
            one["status"],
            one["source"] + (f" ({', '.join(one['evidence'])})" if one["evidence"] else ""),
            one["date"],
            one["note"],
        ]
        for one in found["inputs"]
    ]
    table = found["life_table"]
    caption = f"Mortality by age and sex: {table['source']}, {table['date']}. {table['note']} Decline of quality of life with age: Ara and Brazier 2010."
    return Section(
        key="inputs",
        title="Every input",
        lead=f"Last looked at: {found['inputs_date']}. Sourced: read there; derived: worked out from it; assumed: nobody measured it.",
        blocks=(_table(numbering, "Inputs", head, rows, caption),),
    )


def _gaps(found: Found) -> Section:
    lines = tuple(f"{one['about'][0].upper()}{one['about'][1:]}: {one['text']}" for one in found["gaps"])
    return Section(key="gaps", title="What is not known", blocks=(Block(kind="box", paragraphs=lines),))


def provenance(found: Found, versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the answer followed from."""
    price = "none: the highest worth it is sought" if found["price"] is None else money(found)(found["price"])
    lines = [
        ("Effect", found["effect"]),
        ("Inputs", f"{found['country']}, looked at {found['inputs_date']}"),
        ("Price", price),
        ("Draws", f"{found['draws']:,}"),
        ("Key", str(found["key"])),
        ("Model", "Markov cohort of quarter years to age 100, half-cycle correction; net benefit by Claxton 1999"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in lines if text]

"""The page of a user's own study, fitted: what it tells of the population and of each person, and what not to trust."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from quell import figures, report
from quell.calibrate import own_study
from quell.calibrate.own_study import AS_GIVEN
from quell.report import words
from quell.report.blocks import Block, Cell, Numbering, Panel, Section, cells
from quell.report.words import Answer

SHOWN, DRAWN = 6, 14  # people with a panel for each quantity; constants in the picture


class Headline(NamedTuple):
    """What the page calls itself, in the place of a protocol."""

    title: str
    question: str = "What do these readings tell of the population and of each person?"
    name: str = "own study"
    phase: str = ""


class Told(NamedTuple):
    """A fit as data: ``own_study.summary``, with key and version, and the tables ``own_study.predictions`` and ``seen``."""

    found: Mapping[str, Any]
    predictions: pl.DataFrame
    seen: pl.DataFrame

    @property
    def subjects(self) -> list[str]:
        return self.predictions["subject"].unique(maintain_order=True).to_list()


def build(told: Told, versions: Mapping[str, str] | None = None) -> report.Page:
    """The page and its data, no subject's name in either: the same fit gives the same bytes."""
    found, numbering = told.found, Numbering()
    answer = Answer("Readings, person by person", sentence(found), tuple(sure(found)), tuple(beware(told)))
    main = _constants(found, numbering)
    parts = (_faults(told), *_people(told, numbering), _table(found, numbering))
    html = report.template().render(
        protocol=Headline(f"The model fitted to a study that followed {found['protocol']}"),
        answer=answer,
        summary=f"Readings: {', '.join(found['quantities'])}. {found['treated']} people were given the drug.",
        research=words.RESEARCH,
        main=main,
        sections=parts,
        looks=[],
        simulated=False,
        provenance=provenance(found, versions or {}),
        style=report.style(),
    )
    return report.Page(html=html, files=dict(numbering.files))


# -- words ---------------------------------------------------------------------------------------------------------------
def sentence(found: Mapping[str, Any]) -> str:
    """What was fitted, and what the study spoke of most."""
    people, most = sum(found["people"].values()), own_study.learned(dict(found))[:3]
    names = ", ".join(row["constant"].replace("_", " ") for row in most)
    fitted = f"{len(found['constants'])} constants of the population and {len(found['personal'])} of each person"
    spoke = f"They tell most of {names}." if most else "They tell little of any constant: the prior speaks."
    return f"{found['readings']:,} readings of {people} people were fitted with {fitted}. {spoke}"


def sure(found: Mapping[str, Any]) -> list[str]:
    """How far the draws and the predictions can be trusted."""
    one, inside = found["diagnosis"], found["inside"]
    share = f"{100 * inside['readings'] / inside['of']:.0f} %" if inside["of"] else "none"
    return [
        f"{one['draws']:,} draws in {one['chains']} chains: largest R-hat {one['largest_rhat']:.4f} ({_named(one['of_rhat'])}), least "
        f"effective draws {min(one['least_bulk'], one['least_tail']):.0f}, {one['divergences']} divergent transitions.",
        f"{inside['readings']:,} of {inside['of']:,} readings from day 1 on ({share}) lie in their own {100 * found['level']:.0f} % interval; they "
        "were seen by the fit, so this shows no more than that it can describe them.",
        f"The variance of {len(own_study.learned(dict(found)))} of {len(found['constants'])} constants fell by a fifth or more.",
    ]


def beware(told: Told) -> list[str]:
    """What one must not conclude."""
    found, faults = told.found, told.found["faults"]
    silent = [_named(row["constant"]) for row in found["constants"] if row["contraction"] < own_study.LEARNED]
    lines = [f"{len(faults)} faults were found: see What failed."] if faults else []
    if silent:
        lines.append(f"For {', '.join(silent)} the prior speaks, not this study.")
    if found["assumed"]:
        lines.append(f"The study does not give {', '.join(found['assumed'])}: the population's usual value was taken.")
    return [
        *lines,
        "Constants that are not fitted stay at the table's value, and the structure of the body is held: intervals do not hold that doubt.",
        "Predictions are of people without an infarction since, within the doses that were given.",
    ]


def _named(constant: str) -> str:
    return constant.replace("_", " ")


def unnamed(text: str, subjects: Sequence[str]) -> str:
    """A sentence with the place of a person in the order of names instead of the name.

    >>> unnamed("subject B-07: the body refuses", ["A-01", "B-07"])
    'person 2: the body refuses'
    """
    found = re.match(r"subject (.+?): ", text)
    if found is None or found[1] not in subjects:
        return text
    return f"person {list(subjects).index(found[1]) + 1}: {text[found.end() :]}"


def _faults(told: Told) -> Section:
    lines = [unnamed(one, told.subjects) for one in told.found["faults"]] or ["No fault was found."]
    return Section(key="faults", title="What failed", blocks=(Block(kind="box", paragraphs=tuple(lines)),))


# -- pictures ------------------------------------------------------------------------------------------------------------
def _value(row: Mapping[str, Any]) -> str:
    return (
        f"{words.significant(row['median'])} ({words.significant(row['lower'])} to {words.significant(row['upper'])})"
    )


def _constants(found: Mapping[str, Any], numbering: Numbering) -> Block:
    label, key = numbering.next("Figure")
    rows = sorted(found["constants"], key=lambda row: -row["contraction"])
    table = pl.DataFrame([{**row, "value": _value(row)} for row in rows], infer_schema_length=None)
    alt = "; ".join(f"{_named(row['constant'])} {_value(row)}" for row in rows[:DRAWN])
    drawing = figures.constants(table.head(DRAWN))
    return Block(
        kind="figure",
        key=key,
        label=label,
        title="The constants this study speaks of most",
        caption="Grey: 90 % of the prior, teal: 90 % after the study with its median, each as a ratio to the middle of the prior.",
        panels=(Panel("", Markup(figures.svg(drawing, alt, key))),),
        data=(numbering.data("constants", table.drop("value")),),
    )


def chosen(told: Told) -> list[str]:
    """The people who are shown: evenly of each arm, in the order of names."""
    arms = dict(told.seen.select("subject", "arm").unique(maintain_order=True).iter_rows())
    groups = [[name for name in told.subjects if arms[name] == arm] for arm in dict.fromkeys(arms.values())]
    each = max(1, SHOWN // len(groups))
    return [name for group in groups for name in group[:: max(1, -(-len(group) // each))][:each]]


def _people(told: Told, numbering: Numbering) -> list[Section]:
    """A figure for each quantity."""
    kinds = told.seen.select("quantity", "location").unique(maintain_order=True).sort("quantity", "location")
    blocks = tuple(_quantity(told, quantity, location, numbering) for quantity, location in kinds.iter_rows())
    lead = (
        f"{len(chosen(told))} of {len(told.subjects)} people, evenly from each arm; the files beside the page hold everybody. Dots: readings, "
        "hollow below the assay's limit. Dark: 90 % interval of the truth by the body; light: of a reading, with its error. Dashed: "
        "the same person without the drug. Strokes below: doses."
    )
    return [Section(key="people", title="Person by person", lead=lead, blocks=blocks)]


def _quantity(told: Told, quantity: str, location: str, numbering: Numbering) -> Block:
    label, key = numbering.next("Figure")
    mine = (pl.col("quantity") == quantity) & (pl.col("location") == location)
    predicted, seen = told.predictions.filter(mine), told.seen.filter(mine)
    named = f"{quantity}, {location}" if location else quantity
    return Block(
        kind="figure",
        key=key,
        label=label,
        title=named,
        caption="Each panel is one person, under the doses that were given.",
        panels=tuple(_panel(told, predicted, seen, subject, key) for subject in chosen(told)),
        data=(numbering.data(f"{named} predicted", _numbered(predicted, told.subjects)),),
    )


def _panel(told: Told, predicted: pl.DataFrame, seen: pl.DataFrame, subject: str, key: str) -> Panel:
    place = told.subjects.index(subject) + 1
    his, mine = predicted.filter(pl.col("subject") == subject).sort("day"), seen.filter(pl.col("subject") == subject)
    arm = told.seen.filter(pl.col("subject") == subject)["arm"][0]
    quantity = predicted["quantity"][0]
    without = his.filter(pl.col("doses") != AS_GIVEN)
    drawing = figures.individual(
        his.filter(pl.col("doses") == AS_GIVEN),
        without,
        mine.sort("day"),
        dose_days=told.found["dose_days"] if without.height else [],
        unit=told.found["units"].get(quantity, ""),
    )
    alt = f"{quantity} of person {place} by study day: {mine.height} readings on the predicted interval"
    return Panel(f"person {place}, {arm}", Markup(figures.svg(drawing, alt, f"{key}-{place}")))


def _numbered(table: pl.DataFrame, subjects: Sequence[str]) -> pl.DataFrame:
    """People by number in place of their names."""
    places = {name: i + 1 for i, name in enumerate(subjects)}
    return table.with_columns(person=pl.col("subject").replace_strict(places)).drop("subject", "quantity", "location")


HEAD = ("Constant", "Prior", "After, 90 %", "Variance fell", "Spread between people")


def _table(found: Mapping[str, Any], numbering: Numbering) -> Section:
    label, key = numbering.next("Table")
    body = tuple(cells(_line(row), HEAD) for row in found["constants"])
    block = Block(
        kind="table",
        key=key,
        label=label,
        title="Constants of the population",
        caption="Spread: standard deviation of the log between people; without an interval it is the table's.",
        head=HEAD,
        rows=body,
        narrow="card",
    )
    return Section(key="constants", title="Every constant", blocks=(block,))


def _line(row: Mapping[str, Any]) -> list[str | Cell]:
    spread = words.number(row["spread"], 2)
    if row["spread_lower"] is not None:
        spread = f"{spread} ({words.number(row['spread_lower'], 2)} to {words.number(row['spread_upper'], 2)})"
    return [
        _named(row["constant"]),
        f"{words.significant(row['prior'])}, log ± {words.number(row['prior_sd_of_log'], 2)}",
        _value(row),
        f"{100 * max(0.0, row['contraction']):.0f} %",
        spread,
    ]


def provenance(found: Mapping[str, Any], versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the fit followed from."""
    lines = [
        ("Study", found["study"]),
        ("Protocol", f"{found['protocol']}, fingerprint {found['fingerprint']}"),
        ("Work", "quick: for a check, not for use" if found["quick"] else "full"),
        ("Key", str(found["key"])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    return [(name, text) for name, text in lines if text]

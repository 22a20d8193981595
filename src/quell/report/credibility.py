"""Credibility as sections of a page: goals set beforehand, verification, validation, applicability, assumptions, sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quell.report import words
from quell.report.blocks import Block, Numbering, Section, cells

LEAD = (
    "In the order of ICH M15 (2026) and ASME V&V 40 (2018). Goals were set in the code before the runs and are judged by machine; an unmet goal "
    "is shown as one."
)


def sections(told: Mapping[str, Any], numbering: Numbering) -> tuple[Section, ...]:
    """The parts of a credibility report, from a dossier."""
    return (
        _purpose(told, numbering),
        goals(told, numbering),
        _uncertainty(told),
        reach(told["applicability"], numbering),
        _assumptions(told, numbering),
        _sources(told, numbering),
    )


def _purpose(told: Mapping[str, Any], numbering: Numbering) -> Section:
    head = (
        "Context of use",
        "Quantity of interest",
        "Influence of the model",
        "Consequence if wrong",
        "Risk",
        "What else decides",
    )
    names = ("use", "quantity", "influence", "consequence", "risk", "beside")
    body = [[one[name] for name in names] for one in told["uses"]]
    block = _table(numbering, "Contexts of use and model risk", head, body)
    return Section(key="use", title="Question of interest and contexts of use", lead=told["question"], blocks=(block,))


def goals(told: Mapping[str, Any], numbering: Numbering) -> Section:
    """Goals, what was found, and whether they are met: the one section that a report of a trial carries too."""
    head = ("Goal", "Kind", "Threshold", "Found", "Met")
    body = [
        [one["goal"], one["kind"], one["threshold"], one["found"], "yes" if one["met"] else "no"]
        for one in told["goals"]
    ]
    met = sum(one["met"] for one in told["goals"])
    measured = told["measured"]
    lines = (
        *_numbers(measured),
        *_reasons(told),
        f"Where nothing works: {measured['trials']:,} IVORY trials in the world '{measured['world']}'; the mean difference is "
        f"{words.number(measured['bias_of_nothing']['value'], 4)} ± {words.number(measured['bias_of_nothing']['error'], 4)} TBR.",
        "The tests' folders state their evidence: laws (properties), reference (agreement with a named incumbent), sentences (messages), files. "
        "Three independent solvers agree with a life to about 1e-4, and the exported model with another program.",
        "Use error: a protocol that cannot be lived or read is refused with a sentence before any work.",
    )
    lead = f"{LEAD} {met} of {len(body)} are met."
    return Section(key="goals", title="Goals: verification and validation", lead=lead, blocks=(_table(numbering, "Goals and findings", head, body), _box(lines)))  # fmt: skip


def _numbers(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """The error of lives in words, and what it does to answers."""
    life, answer = measured["life"], measured["answer"]
    rough, fine = answer["effect"]
    return (
        f"Error of a life: IVORY's doses in {life['patients']:,} people, each with constants drawn from the world of the exam, lived again "
        f"four times as finely; 99 in 100 people stay below {life['percentile_99']:.1e} in every observable on every day, and the largest "
        f"is in {life['observable'].replace('_', ' ')}.",
        f"What it does to answers: the mean difference in TBR between arms is {words.number(rough, 5)} and, four times as finely, "
        f"{words.number(fine, 5)}; {answer['events'][0]:,} and {answer['events'][1]:,} of 2 × {answer['lives']:,} people have an infarction "
        f"or die in {answer['years']:.0f} years.",
    )


def _reasons(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a goal of verification is not met, where one is not."""
    measured, unmet = told["measured"], {one["goal"] for one in told["goals"] if not one["met"]}
    tissue = (
        "Why tissue misses its order: its steps last half a day to a day while the drug is there, and it sees the blood at their start, middle "
        "and end; a dose acts within hours. Hazards gather from one middle stage, which is right to second order only. Placebo is exact."
    )
    lost = (
        f"{measured['answer']['lost']} lives were left out: where the drug lowers C-reactive protein most, the middle of a long step sees it "
        "below zero. They are strong responders, so leaving them out moves the mean difference."
    )
    order = any("tissue" in goal for goal in unmet)
    return (*((tissue,) if order else ()), *((lost,) if measured["answer"]["lost"] else ()))


def of_run(told: Mapping[str, Any], numbering: Numbering) -> Section:
    """What one simulation may be used for (``quell.credibility.of_run``): its items, and how far it leaves what was studied.

    Warnings of applicability are not repeated here: the page says them once, at its head.
    """
    head = ("Item", "This simulation")
    body = [[name, text] for name, text in _items(told) if text]
    table = _table(numbering, "What this simulation may be used for", head, body)
    far = reach({"": told["applicability"]}, numbering).blocks[-1]
    return Section(key="credibility", title="Credibility: what this may be used for", lead=RUN, blocks=(table, far))


RUN = (
    "The items that ICH M15 (2026) asks of a model that informs a decision, filled in from this run. The model as a whole, with its goals "
    "and its exam, is judged on the page docs/credibility.md."
)


def _items(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    checked, held, away = told["verification"], told["validation"], told["applicability"]["distance"]
    return [
        ("Question of interest", told["question"]),
        ("Context of use", words.capital(told["use"]) + "."),
        ("Quantity of interest", words.capital(told["quantity"]) + "."),
        ("Influence of the model", f"{words.capital(told['influence'])}. Besides it decide: {told['beside']}."),
        ("Consequence of a wrong decision", words.capital(told["consequence"]) + "."),
        ("Risk", f"{words.capital(told['risk'])} (the higher of influence and consequence)."),
        ("Verification", _verified(checked)),
        ("Validation", _validated(held)),
        ("Uncertainty", " ".join(told["uncertainty"])),
        ("Applicability", f"Distance {away:.1f} from what was studied; 0 is inside."),
    ]


def _verified(checked: Mapping[str, Any]) -> str:
    met = "met" if checked["met"] else "not met; the page of the model says what that does to answers"
    return (
        f"{checked['patients']} such lives, lived again four times as finely, differ by at most {checked['largest']:.1e} relative "
        f"({checked['observable'].replace('_', ' ')}); goal {checked['goal']:g}: {met}."
    )


def _validated(held: Mapping[str, Any]) -> str:
    if not held["figures"]:
        return "Nothing published of exactly this was held against this run; the exam of the model is on its own page."
    outside = f"; outside: {'; '.join(held['outside'])}" if held["outside"] else ""
    return f"{held['inside']} of {held['figures']} published results lie inside 90 % of simulated trials{outside}."


def _uncertainty(told: Mapping[str, Any]) -> Section:
    every = told["score"]["all"]
    lines = (
        f"World of the exam: '{told['world']}'. Constants are drawn anew for each simulated trial, so intervals hold what is not known of the "
        "body, of people and of chance; no result rests on one best value.",
        f"Validation: {every['inside_90']['inside']} of {every['figures']} published results within 90 %, {every['inside_50']['inside']} within 50 %; "
        f"a right model would have {every['inside_90']['expected_low']:.0f} to {every['inside_90']['expected_high']:.0f} and "
        f"{every['inside_50']['expected_low']:.0f} to {every['inside_50']['expected_high']:.0f}.",
        "The comparators are uncertain themselves: 31 and 32 people, published to two or three digits, some from secondary sources.",
        "Agreement is measured by intervals, places in the prediction, and the interval score; the page of the exam has each figure.",
    )
    return Section(key="uncertainty", title="Uncertainty, and the exam", blocks=(_box(lines),))


def reach(applies: Mapping[str, Any], numbering: Numbering) -> Section:
    """How far protocols leave what was studied (``quell.credibility.applies`` by name): a section for any report."""
    named = any(applies)  # one simulation alone needs no name
    head = ("Range", *(("Protocol",) if named else ()), "Reached", "Studied", "Distance", "Studies")
    body = []
    for protocol, known in applies.items():
        for one in known["reaches"]:
            reached = f"{one['low']:.3g}" if one["low"] == one["high"] else f"{one['low']:.3g} to {one['high']:.3g}"
            studied = f"{one['studied_low']:g} to {one['studied_high']:g} {one['unit']}"
            body.append(
                [
                    one["range"],
                    *([protocol] if named else []),
                    reached,
                    studied,
                    f"{one['distance']:.1f}",
                    one["sources"],
                ]
            )
    lines = dict.fromkeys(f"{protocol}: {text}" for protocol, known in applies.items() for text in known["sentences"])
    lead = "Distance is 0 inside what was studied; outside, doublings of the nearer end (doses, courses, hsCRP) or tens of years or days."
    title = f"How far {'each protocol' if named else 'this simulation'} leaves what was studied"
    table = _table(numbering, title, head, body)
    boxes = (_box(tuple(lines)),) if lines else ()
    return Section(key="applicability", title="Applicability", lead=lead, blocks=(*boxes, table))


def _assumptions(told: Mapping[str, Any], numbering: Numbering) -> Section:
    body = [[one["about"], one["text"], one["weight"]] for one in told["assumptions"]]
    table = _table(numbering, "What is assumed", ("About", "Assumption", "How its weight is shown"), body)
    return Section(key="assumptions", title="Assumptions", blocks=(table,))


def _sources(told: Mapping[str, Any], numbering: Numbering) -> Section:
    body = [[one["file"], one["what"], one["sha256"][:16]] for one in told["sources"]]
    body += [[f"protocol {name}", "as declared", one] for name, one in told["protocols"].items()]
    keys = ", ".join(f"{name} {key}" for name, key in told["keys"].items())
    lines = [f"Keys: {keys}."]
    if told.get("versions"):
        lines.append("Versions: " + ", ".join(f"{name} {one}" for name, one in told["versions"].items()) + ".")
    table = _table(
        numbering, "Data sources and their digests (the first 16 digits of SHA-256)", ("Source", "What", "Digest"), body
    )
    return Section(key="sources", title="Data, software, keys", blocks=(table, _box(tuple(lines))))


def _table(numbering: Numbering, title: str, head: tuple[str, ...], body: list[list[str]]) -> Block:
    label, key = numbering.next("Table")
    rows = tuple(cells(row, head) for row in body)
    return Block(kind="table", key=key, label=label, title=title, head=head, rows=rows, narrow="card")


def _box(lines: tuple[str, ...]) -> Block:
    return Block(kind="box", paragraphs=lines)

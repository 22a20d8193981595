"""Laws of applicability and credibility: distance grows outwards, goals are judged by their numbers, pages follow from data."""

from __future__ import annotations

import copy
import hashlib
import importlib.resources
import json
import pathlib

import pytest

from quell import credibility
from quell.applicability import AGE, CELLS, DOSE, Reach, applicability, of_course
from quell.protocol import Protocol
from quell.report import credibility as report
from quell.report.blocks import Numbering
from tools import credibility_page, exam_page, markdown

DOCS = pathlib.Path(exam_page.__file__).parent.parent / "docs"
IVORY = Protocol.load("ivory")


def dosed(amount: str, days: str) -> Protocol:
    declared = (
        IVORY.to_toml().replace('amount = "1.5 MIU"', f'amount = "{amount}"').replace("1..5, 12..54 every 7", days)
    )
    import tomllib

    return Protocol.of(tomllib.loads(declared))


# -- applicability ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reach", [(DOSE, 0.02, 20.0), (AGE, 10.0, 99.0)])
def test_distance_is_nothing_inside_and_grows_outwards(reach):
    studied, low, high = reach
    assert Reach(studied, studied.low, studied.high).distance == 0
    last = 0.0
    for share in (0.2, 0.6, 1.0):
        up = Reach(studied, studied.low, studied.high + share * (high - studied.high))
        down = Reach(studied, studied.low - share * (studied.low - low), studied.high)
        assert up.distance > last and down.distance > 0
        last = up.distance


def test_ivory_leaves_only_the_days_on_which_cells_were_counted():
    known = applicability(IVORY)
    (outside,) = [one for one in known.reaches if one.distance]
    assert outside.studied == CELLS and known.distance == outside.distance
    assert known.sentences == [outside.sentence] and "54 days; studied 1 to 5" in outside.sentence


def test_five_daily_doses_are_studied_and_much_more_is_not():
    assert applicability(dosed("1.5 MIU", "1..5")).distance == 0
    far = applicability(dosed("12 MIU", "1..28"))
    names = {one.studied.name for one in far.reaches if one.distance}
    assert {"dose on one day", "dose of a whole course", "doses in one week"} <= names
    assert far.distance > applicability(dosed("6 MIU", "1..28")).distance


def test_units_and_the_order_of_arms_change_nothing():
    assert applicability(dosed("1500000 IU", "1..5")) == applicability(dosed("1.5 MIU", "1..5"))
    turned = IVORY.but(arms=tuple(reversed(IVORY.arms)))
    assert set(applicability(turned).reaches) == set(applicability(IVORY).reaches)


def test_per_square_metre_is_of_the_typical_patient():
    by_area, absolute = (applicability(dosed(amount, "1..5")).reaches[0] for amount in ("1 MIU/m2", "1.95 MIU"))
    assert by_area.high == pytest.approx(absolute.high)


def test_a_schedule_and_a_protocol_agree():
    days = IVORY.dose_days
    both = applicability(IVORY), of_course([1.5] * len(days), days)
    assert both[0].sentences == both[1].sentences


def test_other_people_are_told_apart():
    assert any(text.startswith("age: ") for text in of_course([1.5], [1], people="post-mi").sentences)
    assert not of_course([1.5], [1]).sentences and not of_course([0.0], [1]).sentences


# -- credibility ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def kept():
    return json.loads(exam_page.DATA.read_text("utf-8")), json.loads(credibility_page.DATA.read_text("utf-8"))[
        "measured"
    ]


def test_goals_turn_with_their_numbers(kept):
    found, measured = copy.deepcopy(kept)
    measured |= {
        "life": measured["life"] | {"largest": 1e-6},
        "order": {"cells": 4.0, "tissue": 4.0},
        "false_alarm": {"value": 0.05, "error": 0.01},
    }
    found["score"]["all"]["inside_90"] |= {"inside": 19, "of": 20}
    for one in found["figures"]:
        one |= {"width_ratio": 0.4, "doubt_left": 0.2}
    assert all(one["met"] for one in credibility.goals(found, measured))
    measured |= {
        "life": measured["life"] | {"largest": 1e-2},
        "order": {"cells": 2.0, "tissue": 2.0},
        "false_alarm": {"value": 0.2, "error": 0.01},
    }
    found["score"]["all"]["inside_90"] |= {"inside": 17}
    for one in found["figures"]:
        one |= {"width_ratio": None, "doubt_left": 0.6}
    assert not any(one["met"] for one in credibility.goals(found, measured))


def test_no_use_is_riskier_than_treating_a_patient_and_that_is_none():
    assert [one.risk for one in credibility.USES].count("not a use") == 1
    assert all(one.beside for one in credibility.USES)


def test_sources_are_told_by_their_bytes():
    root = importlib.resources.files("quell")
    for one in credibility.sources():
        assert one["sha256"] == hashlib.sha256((root / one["file"]).read_bytes()).hexdigest()


def test_assumptions_are_those_of_the_protocols(kept):
    told = credibility.dossier(*kept)
    texts = {one["text"] for one in told["assumptions"]}
    for name in told["protocols"]:
        assert {one.text for one in Protocol.load(name).assumptions} <= texts
    json.dumps(told)


def test_the_section_says_which_goals_are_met(kept):
    told = credibility.dossier(*kept)
    table = report.goals(told, Numbering()).blocks[0]
    assert [row[-1].text == "yes" for row in table.rows] == [one["met"] for one in told["goals"]]


# -- pages ------------------------------------------------------------------------------------------------------------
def test_the_pages_follow_from_their_numbers(kept):
    assert (DOCS / "exam.md").read_text("utf-8") == exam_page.page(kept[0])
    told = json.loads(credibility_page.DATA.read_text("utf-8"))
    assert (DOCS / "credibility.md").read_text("utf-8") == credibility_page.page(told)
    assert told["score"] == kept[0]["score"]


def test_every_miss_on_the_page_has_a_reason(kept):
    for one in kept[0]["figures"]:
        assert not one["scored"] or one["inside_90"] or one["why"], one["name"]


def test_markdown_keeps_every_cell():
    table = report._table(Numbering(), "t", ("a", "b"), [["x|y", "z"]])
    assert markdown._block(table)[1:4] == ["| a | b |", "|---|---|", "| x\\|y | z |"]

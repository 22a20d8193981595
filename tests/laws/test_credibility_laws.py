"""Laws of applicability and credibility: distance grows outwards, goals are judged by their numbers, pages follow from data."""

from __future__ import annotations

import copy
import hashlib
import importlib.resources
import json
import pathlib

import numpy as np
import pytest

from quell import credibility, exam, keys, posterior, response
from quell.analysis.claim import Claims
from quell.applicability import AGE, CELLS, DOSE, Reach, applicability, of_course
from quell.protocol import Protocol
from quell.report import build
from quell.report import credibility as report
from quell.report import response as response_page
from quell.report.blocks import Numbering
from quell.study import Study
from quell.trial import World
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
        "answer": measured["answer"] | {"effect": [-0.15, -0.15001], "events": [100, 100]},
        "false_alarm": {"value": 0.05, "error": 0.01},
    }
    found["score"]["all"]["inside_90"] |= {"inside": 19, "of": 20}
    for one in found["figures"]:
        one |= {"width_ratio": 0.4, "doubt_left": 0.2}
    assert all(one["met"] for one in credibility.goals(found, measured))
    measured |= {
        "life": measured["life"] | {"largest": 1e-2},
        "order": {"cells": 2.0, "tissue": 2.0},
        "answer": measured["answer"] | {"effect": [-0.15, -0.16], "events": [100, 90]},
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


def test_reasons_stand_where_a_goal_is_missed_and_nowhere_else(kept):
    told = credibility.dossier(*kept)
    missed = copy.deepcopy(told)
    missed["measured"]["answer"]["lost"] = 3
    for one in missed["goals"]:
        one["met"] = False
    said = report.goals(missed, Numbering()).blocks[1].paragraphs
    assert any("3 lives were left out" in line for line in said) and any("misses its order" in line for line in said)
    for one in told["goals"]:
        one["met"] = True
    told["measured"]["answer"]["lost"] = 0
    quiet = report.goals(told, Numbering()).blocks[1].paragraphs
    assert not any("left out" in line or "misses" in line for line in quiet)


# -- one simulation ---------------------------------------------------------------------------------------------------
def test_errors_are_of_the_worlds_own_constants():
    central, drawn = (credibility.life_error(IVORY, World(name), 16) for name in ("prior", "before-ivory"))
    assert central["patients"] == drawn["patients"] == 16 and central["largest"] != drawn["largest"]
    assert credibility.life_error(IVORY, World(), 16) == central


def test_the_most_dosed_arm_is_lived():
    lives = credibility._lives(IVORY.but(arms=tuple(reversed(IVORY.arms))), World(), 3)
    assert (lives.given == 1.5).all() and lives.given.shape == (3, len(IVORY.dose_days))
    area = credibility._lives(dosed("0.5 MIU/m2", "1..5"), World(), 3)
    np.testing.assert_allclose(area.given[:, 0], 0.5 * area.people.body_surface_area)


HELD = [
    exam.Comparison(name=name, unit="1", published=value, published_lower=None, published_upper=None, q05=0.0, q25=0.2, q50=0.5, q75=0.8, q95=1.0, trials=9, source="E048", role=role)
    for name, value, role in (("in", 0.5, "predicted"), ("out", 1.5, "predicted"), ("known", 9.0, "input"))
]  # fmt: skip


def test_a_run_is_judged_by_its_own_results():
    told = credibility.of_trial("run", IVORY, World(), compared=HELD, unsure=["so much"])
    assert told["question"] == IVORY.question and told["risk"] == credibility.RUNS["run"].risk
    assert told["validation"] == {"figures": 2, "inside": 1, "outside": ["out"]}
    assert told["uncertainty"][0] == "so much" and "one set" in told["uncertainty"][1]
    assert "anew" in credibility.known_of(World("before-ivory"))[0]
    assert told["applicability"]["sentences"] == applicability(IVORY).sentences
    for largest, met in ((1e-5, True), (1e-3, False)):
        checked = credibility.of_run(
            "run", "?", applicability(IVORY), told["verification"] | {"largest": largest}, held=(), unsure=()
        )
        assert checked["verification"]["met"] is met
    with pytest.raises(KeyError):
        credibility.of_run("dream", "?", applicability(IVORY), told["verification"], held=(), unsure=())


ITEMS = ("Question of interest", "Context of use", "Influence", "Consequence", "Risk", "Verification", "Validation", "Uncertainty", "Applicability")  # fmt: skip


def test_the_section_of_a_run_has_every_item_and_its_reach():
    told = credibility.of_trial("repeat", IVORY, World(), compared=HELD)
    table, far = report.of_run(told, Numbering()).blocks
    items = [row[0].text for row in table.rows]
    assert all(any(text.startswith(item) for text in items) for item in ITEMS)
    assert "1 of 2" in next(row[1].text for row in table.rows if row[0].text == "Validation")
    assert len(far.rows) == len(told["applicability"]["reaches"]) and "Protocol" not in far.head


def test_a_page_warns_once_of_what_was_not_studied():
    told = credibility.of_trial("run", IVORY, World())
    empty = Study(protocol="ivory", tables={"subjects": Study(protocol="", tables={})["subjects"]})
    more = {"protocol": IVORY, "study": empty, "claims": Claims([]), "simulated": True}
    (sentence,) = told["applicability"]["sentences"]
    page = build(**more, credibility=told).html
    assert page.count(sentence) == 1 and page.count('id="credibility"') == 1
    assert sentence not in build(**more).html


def test_a_response_warns_where_it_leaves_what_was_studied():
    far = response.respond("6 MIU", "1..28", patients=8, until=30, draws=0, population_name="post-mi")
    expected = of_course([6.0] * 28, range(1, 29), people="post-mi", until=30)
    assert far["warnings"][: len(expected.sentences)] == expected.sentences and far["applicability"] == expected.plain()
    assert len(set(far["warnings"])) == len(far["warnings"])
    near = response.respond("1.5 MIU", "1..5", patients=8, until=8, draws=0)
    assert near["applicability"]["distance"] == 0 and not any("studied" in one for one in near["warnings"])
    html, _ = response_page.build(far | {"credibility": credibility.of_response(far)})
    assert all(html.lower().count(one.lower()) == 1 for one in expected.sentences)
    assert 'id="credibility"' in html


def test_a_response_draws_from_the_world_asked_for():
    every = posterior.load("before-ivory")
    knows = response.known("before-ivory", {"limit": "tight"})
    assert set(knows.draws.structures["limit"]) == {"tight"} and knows.structures["limit"] == "tight"
    assert knows.structures["depletion"] == response.DRAWN
    drawn = knows.another(keys.at(1, "constants", 0))
    rows = every.values[every.structures["limit"] == "tight"]
    mine = [getattr(drawn, name) for name in every.names]
    assert (rows == mine).all(axis=1).any()
    assert knows.middle.growth == np.median(rows[:, every.names.index("growth")])


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

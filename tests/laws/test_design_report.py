"""Laws of a design's page: the same bytes, its numbers with their errors, sections only where there is something to say."""

from __future__ import annotations

import copy
import html.parser
import json
import re
from typing import Any

import pytest

from quell.report import design, design_checklist, design_numbers, design_words
from quell.report.blocks import Numbering
from tools import design_page

SIZES = ("2,400 people, 165 events", "4,000 people, 337 events")


def one(value: float, error: float = 0.01, **more: float) -> dict[str, float]:
    return {"value": value, "error": error, **more}


def spread(middle: float) -> dict[str, float]:
    return {
        name: middle * times for name, times in (("q05", 0.8), ("q25", 0.9), ("q50", 1.0), ("q75", 1.1), ("q95", 1.2))
    }


def cell(world: str, variant: int, success: float, *, null: bool = False, draws: int = 1) -> dict[str, Any]:
    """One world at one size, made up; a tenth ends early, half of it for futility."""
    people, events = (2400, 165) if variant == 0 else (4000, 337)
    ends = [("efficacy", 1, success / 4), ("efficacy", 2, 3 * success / 4), ("futility", 1, 0.05), ("harm", 1, 0.01)]
    ends.append(("final", 2, 1 - sum(share for *_, share in ends)))
    truth = 0.0 if null else -0.1 if draws > 1 else -0.357
    groups = [
        {"truth": at, "lower": at - 0.04, "upper": at + 0.04, "draws": 50, "success": one(chance, 0.02)}
        for at, chance in ((-0.4, 0.91), (-0.2, 0.4), (0.0, 0.021))
    ]
    return {
        "world": world, "variant": variant, "null": null, "size": SIZES[variant], "people": people, "events": events,
        "trials": 1000, "draws": draws, "success": one(success),
        "ends": [{"look": look, "reason": reason, **one(share)} for reason, look, share in ends],
        "looks": [
            {"look": n, "reached": one(1.0 if n == 1 else 0.6, 0.0 if n == 1 else 0.02)}
            | {"events": one(events * n / 2) | spread(events * n / 2), "enrolled": one(people * 0.9) | spread(people * 0.9)}
            | {"day": one(700.0 * n, 3.0) | spread(700.0 * n)}
            for n in (1, 2)
        ],
        "enrolled": one(people * 0.95, 4.0), "screened": one(people * 1.1, 4.0), "duration": one(1190.0, 4.9) | spread(1190.0),
        "estimation": {
            "truth": one(truth, 0.0) | (spread(truth) if truth else {}), "coverage": one(0.948, 0.007),
            "estimate": {"mean": one(truth), "bias": one(-0.0213, 0.0041), "rmse": one(0.14, 0.003)},
            "adjusted": {"mean": one(truth), "bias": one(-0.0031, 0.0042), "rmse": one(0.141, 0.003)},
        },
        "secondary": {"myocardial infarction": one(success / 3)}, "cost": one(4.1e7, 9e4) | spread(4.1e7),
        "by_truth": groups if draws > 1 and not null else [],
    }  # fmt: skip


def example(trial: int, reason: str, zs: list[float]) -> dict[str, Any]:
    told = {"share": 0.5, "trial": trial, "draw": 3, "success": reason == "efficacy", "look": len(zs), "reason": reason}
    told |= {
        "enrolled": 3541,
        "screened": 3600,
        "duration": 1178.0,
        "arm": 1,
        "estimate": -0.2,
        "se": 0.1,
        "adjusted": -0.19,
    }
    told |= {"lower": -0.4, "upper": 0.01, "truth": -0.12}
    for look, z in enumerate(zs, start=1):
        told |= {
            f"events_{look}": 168.0 * look,
            f"enrolled_{look}": 3541.0,
            f"day_{look}": 700.0 * look,
            f"z_{look}": z,
        }
    return told


def verdict() -> dict[str, Any]:
    """A verdict as ``Verdict.as_dict()`` gives it, of a design with two sizes, two looks and four worlds."""
    kinds = [
        ("after-ivory", "What is left open", "after-ivory", False),
        ("no-efficacy", "The drug calms nothing", "after-ivory", True),
    ]
    kinds += [
        ("ratio-0.7", "Hazard ratio 0.7", "assumed", False),
        ("late", "Late, then hazard ratio 0.7", "assumed", False),
    ]
    ratios = {"ratio-0.7": [{"after": "0 days", "ratio": 0.7}]}
    ratios["late"] = [{"after": "0 days", "ratio": 1.0}, {"after": "182.625 days", "ratio": 0.7}]
    declared = {
        "name": "mine", "title": "Mine: a trial", "question": "Does it work?", "protocol": "ivory-3", "control": "placebo",
        "active": ["aldesleukin"], "level": 0.025, "primary": {"endpoint": "MACE", "day": 61, "better": "lower"},
        "worlds": [
            {"name": name, "label": label}
            | ({"assumed": {"risk": ["7.1 % by 22.6 months"], "ratios": ratios[name], "source": "E124; assumed"}} if kind == "assumed" else {"posterior": kind, "conduct": "usual"})
            for name, label, kind, _ in kinds
        ],
        "recruitment": {"sites": 120, "per_site_per_month": 1.0, "opening": "1 year", "spread": 1.0, "source": "assumed"},
        "allocation": {"method": "permuted blocks", "block": 4, "within": "trial"}, "dropout": {"per_year": 0.01, "source": "assumed"},
        "looks": [{"fraction": 0.5, "latest": "5 years"}, {"fraction": 1.0}], "test": {"method": "log-rank"},
        "efficacy": {"by": "spending", "function": "obrien-fleming"}, "costs": {"currency": "GBP", "per_person": 9000.0, "source": "assumed"},
        "futility": {"by": "spending", "function": "hwang-shih-decani", "parameter": [-2.0], "power": 0.9, "binding": False},
        "secondary": {"endpoints": ["myocardial infarction"], "procedure": "fixed sequence"},
    }  # fmt: skip
    limits = {"upper": [2.97, 2.01], "lower": [0.45, None], "harm": [-2.16, -2.33]}
    cells = [cell("after-ivory", n, chance, draws=500) for n, chance in ((0, 0.21), (1, 0.34))]
    cells += [cell("no-efficacy", n, 0.022, null=True, draws=500) for n in (0, 1)]
    cells += [cell("ratio-0.7", 1, 0.882), cell("late", 1, 0.638)]
    front = [
        {"design": size, "unbeaten": n != 1, "success": 0.2, "enrolled": 2300.0, "duration": 900.0, "cost": 2e7}
        for n, size in enumerate(SIZES)
    ]
    regret = [
        {"design": size, "mean": one(0.2), "regret": one(0.1 * n), "best": n == 0} for n, size in enumerate(SIZES)
    ]
    return {
        "design": "mine", "title": "Mine: a trial", "question": "Does it work?", "fingerprint": "ebd15be7f0adda5e", "protocol": "ivory-3",
        "version": "0.1.0", "trials": 1000, "key": 7, "draws": 500, "people": 200, "level": 0.025, "main": "after-ivory",
        "estimates": "median-unbiased, stage-wise ordering", "declared": declared, "assumptions": [], "cells": cells,
        "worlds": [{"name": name, "label": label, "kind": kind, "null": null, "best": None, "source": ""} for name, label, kind, null in kinds],
        "variants": [{"size": size, "people": int(size[:5].replace(",", "")), "events": (165, 337)[n], "limits": limits} for n, size in enumerate(SIZES)],
        "sizes": {"after-ivory": {"regret": regret, "front": front}},
        "classical": [{"ratio": 0.7, "power": 0.9, "fixed": 330.4, "events": 358, "inflation": 1.08, "people": 3795, "risk": 0.11, "days": 730.5}],
        "examples": [example(780, "futility", [-0.46]), example(67, "efficacy", [1.9, 2.6])],
    }  # fmt: skip


class Page(html.parser.HTMLParser):
    """Follows tags; remembers ids, links and what a browser would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in {"meta", "link", "br", "hr", "img"}:
            self.open.append(tag)
        self.ids += [str(found["id"])] if found.get("id") else []
        self.links += [str(found[name]) for name in ("href", "src") if found.get(name)]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return verdict()


@pytest.fixture(scope="module")
def page(found: dict[str, Any]) -> Page:
    return Page(design.build(found).html)


def test_the_same_verdict_gives_the_same_bytes_read_back_from_json_too(found):
    first, again = design.build(found), design.build(json.loads(json.dumps(found)))
    assert first.html == again.html
    assert first.files == again.files


def test_the_page_stands_alone_and_its_links_lead_somewhere(page):
    assert not page.wrong
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert all(link.startswith(("#", "data:")) for link in page.links)


def test_every_chance_is_on_the_page_with_its_error(found, page):
    for each in found["cells"]:
        assert design_numbers.percent(each["success"], each["trials"]) in page.words
        assert "±" in design_numbers.percent(each["success"], each["trials"])


def test_the_first_screen_says_what_a_committee_must_know(found):
    said = design.sentence(found)
    for part in (
        "21.0 % ± 1.0",
        "34.0 % ± 1.0",
        "2,280 or 3,800 people",
        "3.3 or 3.3 years",
        "weakest",
        "does nothing",
        "2.2 % ± 1.0",
    ):
        assert part in said, part
    assert "more likely fail" in said


def test_the_average_does_not_hide_the_futures_that_it_is_made_of(found, page):
    groups = found["cells"][1]["by_truth"]
    assert all(design_numbers.percent(group["success"]) in page.words for group in groups)
    assert "hides" in page.words


def test_the_sentence_of_planning_for_research_stands_once(page):
    assert page.words.count("not for treating a patient") == 1


def test_planning_by_hand_stands_beside_the_biology_at_the_same_size(found):
    pair = design_words.by_hand(found)[0]
    assert [each["world"] for each in pair.powers] == ["ratio-0.7"]
    assert pair.assured["world"] == "after-ivory"
    assert pair.assured["size"] == pair.size == SIZES[1]


OPTIONAL = {"sizes": "sizes", "classical": "by-hand", "examples": "examples"}


@pytest.mark.parametrize(("key", "section"), OPTIONAL.items())
def test_a_section_shows_only_where_its_key_is_there(found, key, section):
    told = {name: value for name, value in found.items() if name != key}
    keys = [part.key for part in design.sections(told, Numbering())]
    assert section not in keys
    assert section in [part.key for part in design.sections(found, Numbering())]


MORE = {
    "compared": {"front": [{"design": "other", "unbeaten": True, "success": 0.3, "enrolled": 100.0, "duration": 50.0}]},
    "information": {
        "now": one(3.0),
        "perfect": one(5.0),
        "by_n": [{"n": 120, "worth": one(0.4), "goes_on": 0.7, "success": 0.5}],
    },
    "smallest": {"n": 5000, "words": "5,000 people reach 50 % (4,800 to 5,200)."},
    "warnings": ["a course of 104 weeks is longer than anybody was given."],
    "truth_of_main": {"q05": -0.5, "q25": -0.3, "q50": -0.2, "q75": -0.1, "q95": 0.0},
}


@pytest.mark.parametrize("key", MORE)
def test_what_may_be_added_later_is_shown(found, key):
    said = Page(design.build(found | {key: MORE[key]}).html).words
    telling = {
        "compared": "other",
        "information": "120",
        "smallest": "5,000 people reach",
        "warnings": "104 weeks",
        "truth_of_main": "0.61 to 1.00",
    }
    assert telling[key] in said


def test_worlds_by_assumption_alone_make_no_assurance(found):
    told = copy.deepcopy(found)
    told["cells"] = [each for each in told["cells"] if each["world"] in ("ratio-0.7", "late")]
    told |= {"main": "ratio-0.7", "sizes": {}, "examples": []}
    text = Page(design.build(told).html).words
    assert "truth" not in [part.key for part in design.sections(told, Numbering())]
    assert "was not simulated here" in text
    assert "not simulated" in text


def test_where_nothing_works_only_errors_are_told(found):
    told = copy.deepcopy(found)
    told["cells"] = [each for each in told["cells"] if each["null"]]
    told |= {"main": "no-efficacy", "sizes": {}, "examples": [], "classical": []}
    assert "nothing is known here of the chance of success" in Page(design.build(told).html).words


def test_a_type_one_error_beyond_the_level_is_called_one(found):
    told = copy.deepcopy(found)
    told["cells"][2]["success"] = one(0.09, 0.01)
    assert "more often than the 2.5 % allowed in 1 of 2" in Page(design.build(told).html).words


def test_a_measured_primary_has_no_hazard_ratio(found):
    told = copy.deepcopy(found)
    told["declared"]["primary"] = {"reading": "TBRmax, day 61", "baseline": "TBRmax, baseline", "better": "lower"}
    told["declared"]["test"] = {"method": "ancova"}
    told["classical"] = []
    said = Page(design.build(told).html).words
    assert "difference in TBRmax, day 61" in said
    assert "About a hazard ratio of" not in said


def test_the_strongest_group_is_the_one_that_favours_the_active_arm(found):
    lower = found["cells"][1]
    assert design_numbers.by_strength(found, lower)[0]["truth"] == -0.4
    told = copy.deepcopy(found)
    told["declared"]["test"]["method"] = "restricted mean"
    assert design_numbers.by_strength(told, lower)[0]["truth"] == 0.0


def test_every_item_of_the_checklist_says_where_or_why_not(found):
    shown = {part.key: part.title for part in design.sections(found, Numbering())}
    items = design_checklist.items(found, shown)
    assert {item.by for item in items} >= {"ICH E20", "FDA 2019", "ICH E20, FDA 2019"}
    for item in items:
        assert item.met in ("met", "in part", "not met")
        assert item.where in shown or item.met == "not met"
        assert (item.met == "not met") == item.how.startswith("Not met"), item.asked
    assert sum(item.met == "not met" for item in items) >= 4


def test_a_checklist_without_examples_does_not_claim_them(found):
    told = found | {"examples": []}
    items = design_checklist.items(told, {part.key: part.title for part in design.sections(told, Numbering())})
    assert next(item for item in items if item.asked == "Example trials").met == "not met"


def test_what_is_not_known_is_a_dash(found):
    """A win ratio has no truth; one trial has no error; JSON has null for both."""
    told = copy.deepcopy(found)
    nothing = {"value": None, "error": None}
    for each in told["cells"]:
        sides = {name: {"mean": nothing, "bias": nothing, "rmse": nothing} for name in ("estimate", "adjusted")}
        each |= {"estimation": {"truth": nothing, "coverage": nothing, **sides}, "by_truth": []}
        each["success"] = {"value": 0.3, "error": None}
    said = Page(design.build(told).html).words
    assert "30.0 % (error not known)" in said
    assert not re.search(r"\bnan\b|\bNone\b", said)


def test_names_from_a_file_are_escaped(found):
    told = copy.deepcopy(found) | {"title": "<script>alert(1)</script>"}
    told["worlds"][0]["label"] = "<img src=x>"
    html_ = design.build(told).html
    assert "<script" not in html_
    assert "<img" not in html_


def test_data_behind_the_pictures_are_those_of_the_verdict(found):
    files = design.build(found).files
    rows = files["chance-of-success.csv"].decode().splitlines()
    assert len(rows) == 1 + len(found["cells"])
    assert {"how-trials-end.csv", "looks.csv", "estimates.csv", "example-trials.csv"} <= set(files)


def test_the_terminal_gets_a_few_lines(found):
    lines = design.lines(found)
    assert 5 <= len(lines) <= 10
    assert all("None" not in line and "nan" not in line for line in lines)


def test_nothing_unknown_slips_through(page):
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.words)


def test_the_page_of_the_docs_says_what_the_report_says(found, tmp_path):
    (tmp_path / "verdict.json").write_text(json.dumps(found), "utf-8")
    design_page.main(str(tmp_path / "verdict.json"), tmp_path)
    text = (tmp_path / "mine.md").read_text("utf-8")
    assert design.sentence(found) in text
    assert "By hand and by biology" in text
    assert json.loads((tmp_path / "mine.json").read_text("utf-8"))["cells"] == found["cells"]
    assert (tmp_path / "pictures" / "mine.svg").exists()

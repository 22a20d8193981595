"""Laws of description: people are neither lost nor invented, and what is counted is what is recorded."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest

from quell.analysis import description
from quell.analysis.flow import ANALYSED, Flow, flow
from quell.protocol import Protocol
from quell.study import Study
from quell.tables import TABLES

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import record

IVORY, FINALE = Protocol.load("ivory"), Protocol.load("ivory-finale")
STEPS = ("eligible", "randomised", "treated", "completed treatment", "followed up")


@st.composite
def records(draw: st.DrawFn) -> Study:
    """Any record that the tables allow: milestones missing, out of order or contradictory, reasons absent."""
    n = draw(st.integers(1, 25))
    names = [f"s{index}" for index in range(n)]
    arm = draw(st.lists(st.sampled_from(["aldesleukin", "placebo", None]), min_size=n, max_size=n))
    rows = []
    for step in draw(st.sets(st.sampled_from(STEPS))):
        for name in names:
            if draw(st.booleans()):
                reached, reason = draw(st.booleans()), draw(st.sampled_from([None, "", "declined", "adverse event"]))
                rows.append({"subject": name, "milestone": step, "reached": reached, "day": None, "reason": reason})
    readings = []
    for visit in ("screening", "day 61"):
        for name in names:
            value = draw(st.sampled_from([None, 2.0, 2.5]))
            reading = {"subject": name, "visit": visit, "day": 1, "quantity": "TBRmax", "location": "index vessel"}
            readings.append(reading | {"value": value, "unit": "1", "status": "measured"})
    subjects = pl.DataFrame({"subject": names, "site": "A", "arm": pl.Series(arm, dtype=pl.String)})
    return Study(
        protocol="ivory",
        tables={
            "subjects": subjects,
            "milestones": pl.DataFrame(rows, schema=dict(TABLES["milestones"].columns)),
            "readings": pl.DataFrame(readings, schema=dict(TABLES["readings"].columns)),
        },
    )


def adds_up(found: Flow) -> None:
    for boxes in (found.before, *found.arms.values()):
        here = {box.name: box.n for box in boxes}
        for box in boxes[1:]:
            assert box.n + sum(one.n for one in box.exits) == here[box.of]
        assert all(one.n > 0 and one.reason for box in boxes for one in box.exits)
    assert found.before[-1].name == "randomised"
    assert sum(boxes[0].n for boxes in found.arms.values()) == found.before[-1].n


@pytest.mark.parametrize("protocol", [IVORY, FINALE], ids=lambda one: one.name)
@hypothesis.given(study=records())
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_flow_adds_up_in_every_box(protocol: Protocol, study: Study) -> None:
    found = flow(study, protocol)
    adds_up(found)
    assert found.before[0].n in (study["subjects"].height, study.randomised.height)


@hypothesis.given(study=records())
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_flow_analyses_exactly_those_with_both_scans(study: Study) -> None:
    found = flow(study, IVORY)
    wide = study["readings"].drop_nulls("value").group_by("subject").agg(pl.col("visit").n_unique())
    both = set(wide.filter(pl.col("visit") == 2)["subject"])
    for arm, boxes in found.arms.items():
        members = set(study.randomised.filter(pl.col("arm") == arm)["subject"])
        assert boxes[-1].name == ANALYSED
        assert boxes[-1].n == len(members & both)


@pytest.mark.parametrize("seed", range(4))
def test_the_flow_of_a_whole_trial_adds_up(seed: int) -> None:
    for protocol in (IVORY, FINALE):
        adds_up(flow(record.ivory(protocol, seed=seed), protocol))
    adds_up(flow(record.pilot(record.three_arms(), seed=seed), record.three_arms()))


@hypothesis.given(order=st.permutations(range(40)))
@hypothesis.settings(max_examples=10, deadline=None)
def test_the_order_of_rows_changes_no_count(order: list[int]) -> None:
    study = record.ivory(IVORY, screened=40)
    tables = dict(study.tables) | {"subjects": study["subjects"][order]}
    tables["milestones"] = study["milestones"].sample(fraction=1, shuffle=True, seed=order[0])
    shuffled = dataclasses.replace(study, tables=tables)
    assert flow(shuffled, IVORY) == flow(study, IVORY)
    key = ["variable", "level", "arm"]
    one, two = (description.table_one(each, IVORY).sort(key) for each in (study, shuffled))
    for name in one.columns:
        if one.schema[name].is_float():
            np.testing.assert_allclose(one[name].to_numpy(), two[name].to_numpy(), rtol=1e-12)
        else:
            assert one[name].equals(two[name])


@pytest.mark.parametrize("seed", range(3))
def test_table_one_counts_everybody_once(seed: int) -> None:
    study = record.ivory(IVORY, seed=seed)
    table = description.table_one(study, IVORY)
    sizes = dict(study.randomised["arm"].value_counts().iter_rows()) | {description.TOTAL: study.randomised.height}
    assert table.select((pl.col("n") + pl.col("missing")) == pl.col("arm").replace_strict(sizes)).to_series().all()
    arms = table.filter(pl.col("arm") != description.TOTAL).group_by("variable", "level", maintain_order=True)
    totals = table.filter(pl.col("arm") == description.TOTAL)
    added = arms.agg(pl.col("n").sum(), pl.col("count").sum())
    assert added["n"].to_list() == totals["n"].to_list()
    assert added["count"].to_list() == totals["count"].fill_null(0).to_list()
    for variable in ("infarct type", "smoking", "site"):
        levels = totals.filter(pl.col("variable") == variable)
        assert levels["count"].sum() == levels["n"][0]
    known = study.randomised["LDL"].drop_nulls()
    ldl = totals.filter(pl.col("variable") == "LDL").row(0, named=True)
    assert (ldl["n"], ldl["missing"]) == (len(known), study.randomised.height - len(known))
    assert "p" not in table.columns


def test_yes_and_no_is_one_row_like_a_flag() -> None:
    answers = ["yes", "no", None, "yes"]
    people = pl.DataFrame({"subject": list("abcd"), "site": "A", "arm": ["placebo"] * 4, "statin": answers})
    flags = people.with_columns(pl.col("statin") == "yes")
    for subjects in (people, flags):
        table = description.table_one(Study(protocol="ivory", tables={"subjects": subjects}), IVORY)
        rows = table.filter(pl.col("variable") == "statin", pl.col("arm") == description.TOTAL)
        assert rows.select("level", "n", "missing", "count").rows() == [("", 3, 1, 2)]


def test_baseline_is_the_last_reading_at_or_before_the_baseline_visit() -> None:
    rows = [
        ("a", "screening", 5.0),
        ("a", "day 1", 7.0),
        ("b", "screening", 4.0),
        ("b", "day 1", None),
        ("b", "day 5", 1.0),
    ]
    readings = [
        {
            "subject": who,
            "visit": visit,
            "day": 1,
            "quantity": "hsCRP",
            "location": "",
            "value": value,
            "unit": "mg/L",
            "status": "",
        }
        for who, visit, value in rows
    ]
    people = pl.DataFrame({"subject": ["a", "b", "c"], "site": "A", "arm": ["aldesleukin", "placebo", "placebo"]})
    tables = {"subjects": people, "readings": pl.DataFrame(readings, schema=dict(TABLES["readings"].columns))}
    study = Study(protocol="ivory", tables=tables)
    found = description.baseline(study.columns(IVORY), IVORY, "hsCRP")
    np.testing.assert_array_equal(found, [7.0, 4.0, np.nan])
    pairs = description.paired(study, IVORY, "hsCRP")
    assert pairs.rows() == [("b", "placebo", 4.0, 1.0, -3.0)]


def test_courses_are_of_what_was_measured_and_only_of_people_randomised() -> None:
    study = record.ivory(IVORY)
    for course in description.courses(study, IVORY):
        mine = study["readings"].filter(pl.col("quantity") == course.quantity, pl.col("location") == course.location)
        assert course.summary["n"].sum() == course.points.height == mine["value"].drop_nulls().len()
        assert course.summary.select((pl.col("lower_quartile") <= pl.col("median")).all()).item()
        assert set(course.summary["visit"]) <= {visit.name for visit in IVORY.visits}
    assert {course.quantity for course in description.courses(study, IVORY)} == {*record.CELLS, "hsCRP"}


@hypothesis.given(shift=st.floats(-5, 5), factor=st.floats(0.1, 10))
@hypothesis.settings(max_examples=25, deadline=None)
def test_the_regression_line_is_of_the_control_arm_alone(shift: float, factor: float) -> None:
    """Whatever happens in the active arm, the line stays; a change of unit changes the intercept and not the slope."""
    pairs = description.paired(record.ivory(IVORY), IVORY, "TBRmax", "index vessel")
    line = description.versus_baseline(pairs, "placebo")
    active = pl.col("arm") == "aldesleukin"
    moved = pairs.with_columns(pl.when(active).then(pl.col("change") + shift).otherwise("change").alias("change"))
    assert description.versus_baseline(moved, "placebo").slope == line.slope
    scaled = pairs.with_columns(pl.col("baseline") * factor, pl.col("change") * factor)
    found = description.versus_baseline(scaled, "placebo")
    assert found.slope == pytest.approx(line.slope, rel=1e-9)
    assert found.intercept == pytest.approx(line.intercept * factor, rel=1e-9)


def test_noise_alone_makes_the_line_fall() -> None:
    """Two readings of one unchanging thing with equal noise and signal: the slope is minus one half."""
    rng = np.random.default_rng(7)
    true = rng.normal(0, 1, 20_000)
    first, second = true + rng.normal(0, 1, 20_000), true + rng.normal(0, 1, 20_000)
    pairs = pl.DataFrame(
        {"subject": "", "arm": "placebo", "baseline": first, "follow_up": second, "change": second - first}
    )
    found = description.versus_baseline(pairs, "placebo")
    assert found.slope == pytest.approx(-0.5, abs=0.03)
    assert found.slope_lower < found.slope < found.slope_upper


@pytest.mark.parametrize("seed", range(3))
def test_numbers_at_risk_and_events_add_up(seed: int) -> None:
    study = record.ivory(FINALE, seed=seed)
    columns = study.columns(FINALE)
    days = description.axis_days(FINALE, columns)
    assert days[0] == 0
    for arm in columns.arms:
        found = description.incidence(
            columns, FINALE.endpoint("MACE"), arm, population="followed up", days=[*days, 1e6]
        )
        table = found.table
        assert table["at_risk"][0] == found.n
        assert table["at_risk"][-1] == 0
        assert table["cumulative_events"][-1] == found.events
        assert table["at_risk"].is_sorted(descending=True)
        assert table["cumulative_events"].is_sorted()
        assert found.curve["incidence"].is_sorted()
        curve = found.curve
        assert curve.select(
            ((pl.col("lower") <= pl.col("incidence")) & (pl.col("incidence") <= pl.col("upper"))).all()
        ).item()
        assert curve["events"].sum() == found.events
        assert curve["censored"].sum() + found.events == found.n


def test_an_arm_without_people_has_an_empty_curve() -> None:
    study = record.ivory(FINALE, screened=30)
    tables = dict(study.tables) | {"subjects": study["subjects"].with_columns(arm=pl.lit("placebo"))}
    columns = dataclasses.replace(study, tables=tables).columns(FINALE)
    found = description.incidence(columns, FINALE.endpoint("MACE"), "aldesleukin", days=[0.0, 365.0])
    assert (found.n, found.events, found.curve.height) == (0, 0, 0)
    assert found.table["at_risk"].to_list() == [0, 0]

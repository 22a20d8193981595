"""The verbs about designs at the command line: exit codes, sentences, and JSON alone on standard output."""

import json

import pytest
from typer.testing import CliRunner

from quell import cli
from quell.sentences import BadInput

TINY = """
name = "tiny"
title = "A tiny trial"
protocol = "ivory-3"
[primary]
endpoint = "MACE"
[[variants]]
people = 200
events = 20
[recruitment]
per_site_per_month = 20
[[looks]]
fraction = 0.5
[[looks]]
fraction = 1.0
latest = "7 years"
[[worlds]]
name = "ratio-0.5"
[worlds.assumed]
risk = ["11 % by 2 years"]
ratios = [{ ratio = 0.5 }]
[[worlds]]
name = "null"
[worlds.assumed]
risk = ["11 % by 2 years"]
"""


def ran(*words):
    return CliRunner().invoke(cli.app, list(words), catch_exceptions=True)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_design_is_repeated_checked_and_reported(tiny, tmp_path):
    done = ran("repeat", str(tiny), "--trials", "250", "--out", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {(one["world"], one["trials"]) for one in found["cells"]} == {("ratio-0.5", 250), ("null", 250)}
    assert all(one["success"]["error"] > 0 for one in found["cells"])
    assert set(found["compared"]["null"]["front"][0]) >= {"design", "unbeaten", "success", "enrolled"}
    assert (tmp_path / "out" / "report.html").read_text().count("not for treating a patient") == 1
    checked = json.loads(ran("check", str(tiny), "--json").stdout)
    assert checked["kind"] == "design" and checked["sizes"][0]["limits"]["upper"][0] > 2


def test_the_same_key_gives_the_same_trials_and_another_key_others(tiny, tmp_path):
    def trials(key, folder):
        assert ran("repeat", str(tiny), "--trials", "250", "--key", key, "--out", str(tmp_path / folder)).exit_code == 0
        return (tmp_path / folder / "trials.parquet").read_bytes()

    assert trials("1", "a") == trials("1", "b") != trials("2", "c")


def test_the_smallest_size_for_a_target_is_told_with_its_error(tiny, tmp_path):
    done = ran("repeat", str(tiny), "--trials", "250", "--target", "0.8", "--out", str(tmp_path / "out"), "--json")
    found = json.loads(done.stdout)["smallest"]["ratio-0.5"]
    assert found["reached"] and found["low"] <= found["n"] <= found["high"] + 50


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("repeat", "ivory-33"), "ivory-3"),
        (("repeat", "ivory-3", "--engine", "dusk"), "dask"),
        (("repeat", "ivory-3", "--against", "ivory-4"), "there is no design 'ivory-4'"),
        (("impact",), "quell impact needs a design"),
        (("impact", "ivory-3", "--world", "null"), "in which people live"),
        (("impact", "--hazard-ratio", "very good"), "0.7 (0.5 to 0.98)"),
        (("optimise", "ivory", "--world", "nowhere"), "there is no world 'nowhere'"),
        (("optimise", "ivory", "--burden", "3 wishes"), "wishes"),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(words, said):
    done = ran(*words)
    assert isinstance(done.exception, BadInput) and said in str(done.exception), (done.exception, done.output)


def test_a_target_that_cannot_be_is_refused(tiny, tmp_path):
    done = ran("repeat", str(tiny), "--trials", "250", "--target", "1.5", "--out", str(tmp_path / "out"))
    assert isinstance(done.exception, BadInput) and "1.5" in str(done.exception)


def test_looks_by_day_and_by_events_are_not_mixed(tiny):
    tiny.write_text(TINY.replace("fraction = 0.5", 'day = "2 years"'))
    done = ran("check", str(tiny))
    assert isinstance(done.exception, BadInput) and "some looks go by day and others by fraction" in str(done.exception)


def test_a_calendar_look_with_more_events_than_planned_is_judged(tiny, tmp_path):
    days = TINY.replace("fraction = 0.5", 'day = "3 years"').replace(
        'fraction = 1.0\nlatest = "7 years"', 'day = "5 years"'
    )
    tiny.write_text(days)
    done = ran("repeat", str(tiny), "--trials", "250", "--out", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.output

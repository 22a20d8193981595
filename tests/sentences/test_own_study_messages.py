"""What somebody is told whose study cannot be fitted: one sentence, before any work is done, and exit code 2."""

import polars as pl
import pytest

from quell import own_verb
from quell.sentences import BadInput

PEOPLE = {"subject": ["01", "02"], "arm": ["aldesleukin", "placebo"], "index event": ["STEMI", "NSTEMI"]}
DOSES = {"subject": ["01", "02"], "day": [1, 1], "drug": "aldesleukin", "amount": [1.5, 0.0], "unit": "MIU"}


def told(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        pl.DataFrame(table).write_csv(folder / f"{name}.csv")
    with pytest.raises(BadInput) as error:
        own_verb.own_study(folder, "ivory", folder=folder / "out", tell=lambda step, share: None)
    assert not (folder / "out").exists()
    return str(error.value)


def readings(days):
    return pl.DataFrame(
        [(who, f"day {day}", day, "Treg %", 5.0 + day, "%") for who in PEOPLE["subject"] for day in days],
        schema=["subject", "visit", "day", "quantity", "value", "unit"],
        orient="row",
    )


def test_a_study_without_the_day_of_the_index_event(tmp_path):
    said = told(tmp_path / "study", subjects=PEOPLE, doses=DOSES, readings=readings((1, 5)))
    assert "does not give 'days from index event to study day 1' of subject '01' (a number)" in said


def test_a_study_that_is_too_short(tmp_path):
    people = PEOPLE | {"days from index event to study day 1": [5.0, 7.0]}
    said = told(tmp_path / "study", subjects=people, doses=DOSES, readings=readings((1,)))
    assert said == (
        "nobody in the study has readings at two visits; how a person changes cannot be learned from one. Give the "
        "readings of later visits in the table 'readings'."
    )


def test_a_study_without_readings_that_can_be_fitted(tmp_path):
    people = PEOPLE | {"days from index event to study day 1": [5.0, 7.0]}
    other = readings((1, 5)).with_columns(quantity=pl.lit("IL-6"))
    assert told(tmp_path / "study", subjects=people, doses=DOSES, readings=other).startswith(
        "the study has no readings of Treg, Treg %, ILC2, eosinophils, hsCRP, TBRmax with a value above zero and a day."
    )


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="there is no folder"):
        own_verb.own_study(tmp_path / "none", "ivory", folder=tmp_path / "out", tell=lambda step, share: None)

"""What a user is told whose study cannot be fitted person by person, or who asks a fit for what it cannot foretell."""

import dataclasses

import polars as pl
import pytest

from quell.calibrate import followed, individual
from quell.protocol import Protocol
from quell.sentences import BadInput
from quell.study import Study, StudyError

IVORY = Protocol.load("ivory")
PEOPLE = {"index event": ["STEMI", "NSTEMI"], "days from index event to study day 1": [5.0, 7.0]}


def study(**changed):
    """Two people, a dose and two readings each; ``changed`` replaces whole tables."""
    who = ["01", "02"]
    tables = {
        "subjects": pl.DataFrame({"subject": who, "arm": ["aldesleukin", "placebo"], **PEOPLE}),
        "doses": pl.DataFrame({"subject": who, "day": [1, 1], "drug": "aldesleukin", "amount": [1.5, 0.0], "unit": "MIU"}),
        "readings": pl.DataFrame(
            {"subject": who * 2, "visit": ["day 1"] * 2 + ["day 5"] * 2, "quantity": "Treg %", "value": [6.0, 5.0, 9.0, 5.1]}
        ),
    }  # fmt: skip
    from quell.tables import canonical

    made = {name: canonical(name, table) for name, table in (tables | changed).items()}
    return Study(protocol="ivory", tables={name: table for name, table in made.items() if table.width})


def refused(**changed):
    with pytest.raises(StudyError) as error:
        followed.followed(study(**changed), IVORY)
    return str(error.value)


def test_a_study_that_has_all_is_taken():
    who = followed.followed(study(), IVORY)
    assert who.subjects == ("01", "02") and who.day.tolist() == [[1, 5], [1, 5]]
    assert who.amounts.tolist() == [[1.5], [0.0]] and "body surface area" in who.assumed


def test_without_doses():
    none = pl.DataFrame(schema={"subject": pl.String, "day": pl.Int32, "drug": pl.String, "amount": pl.Float64})
    assert refused(doses=none) == (
        "the study has no doses. Give the table 'doses': who was given what, on which study day."
    )


def test_masked_doses():
    masked = study()["doses"].with_columns(amount=pl.lit(None, dtype=pl.Float64))
    assert "is the study still masked?" in refused(doses=masked)


def test_doses_in_a_unit_that_is_none():
    odd = study()["doses"].with_columns(unit=pl.lit("spoons"))
    assert "table 'doses'" in refused(doses=odd) and "spoons" in refused(doses=odd)


def test_a_dose_before_day_1():
    early = study()["doses"].with_columns(day=pl.lit(0, dtype=pl.Int32))
    assert (
        refused(doses=early) == "a dose lies before study day 1. Day 1 is the day of the first dose: count from there."
    )


def test_without_readings():
    none = study()["readings"].clear()
    assert refused(readings=none) == (
        "the study has no readings of Treg, Treg %, ILC2, eosinophils, hsCRP, TBRmax with a value above zero and a day. "
        "Give them in the table 'readings'."
    )


def test_one_patient():
    one = study()["readings"].filter(pl.col("subject") == "01")
    assert refused(readings=one) == (
        "the study has readings of 1 randomised person; what differs between people needs two or more. "
        "Give the readings of the others too."
    )


def test_an_index_event_that_is_missing_or_unknown():
    people = study()["subjects"]
    assert refused(subjects=people.drop("index event")) == (
        "table 'subjects' does not give 'index event' of subject '01' (one of unstable angina, NSTEMI, STEMI), and the "
        "course before the drug follows from it. Add it, or leave out the people of whom it is unknown."
    )
    odd = people.with_columns(pl.Series("index event", ["STEMI", "NSTEMY"]))
    assert refused(subjects=odd).endswith("'NSTEMY' is unknown. Did you mean 'NSTEMI'?")


def test_a_quantity_that_is_not_fitted():
    with pytest.raises(StudyError, match=r"the model of one person has no 'treg'\. Did you mean 'Treg'\?"):
        followed.followed(study(), IVORY, ("treg",))


def test_too_few_draws():
    with pytest.raises(BadInput, match="2 draws in 4 chains cannot be judged"):
        individual.fit_study(study(), IVORY, key=1, effort=individual.Effort(draws=2))


def test_predictions_that_cannot_be():
    empty = object.__new__(individual.Individual)  # only what the refusal looks at
    object.__setattr__(empty, "protocol", IVORY)
    object.__setattr__(empty, "who", followed.followed(study(), IVORY))
    with pytest.raises(BadInput, match="study days of 1 or later"):
        empty.predict([0])
    with pytest.raises(BadInput, match=r"the protocol has no arm 'plcebo'\. Did you mean 'placebo'\?"):
        empty._dosed("plcebo")
    with pytest.raises(BadInput, match="doses are MIU by study day"):
        empty._dosed({1: -1.0})
    with pytest.raises(BadInput, match="nobody named is in the study"):
        empty.predict_visit({"03": 61})
    assert dataclasses.is_dataclass(empty)

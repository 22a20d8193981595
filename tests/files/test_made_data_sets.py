"""Dataset-JSON and ADaM files that these tests make: what is right is read, what is wrong is named in a sentence."""

from __future__ import annotations

import copy
import datetime
import json
import math
import pathlib
import tomllib

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quell.bounded import FileError
from quell.exchange import dataset_json, read_study
from quell.protocol import Protocol
from quell.sentences import BadInput

KINDS = ("string", "integer", "float", "decimal", "boolean", "date", "datetime", "time")
HEAD = {
    "datasetJSONCreationDateTime": "2024-11-11T15:09:13",
    "datasetJSONVersion": "1.1.0",
    "itemGroupOID": "IG.MADE",
    "records": 2,
    "name": "MADE",
    "label": "made by this test",
    "columns": [{"itemOID": f"IT.{kind}", "name": kind, "label": kind, "dataType": kind} for kind in KINDS],
}
ROW = ["a", 1, 1.5, "2.50", True, "2013-02", "2013-02-12T08:30:15Z", "08:30"]


def made(rows=None, **changes) -> dict:
    rows = [ROW, [None] * len(KINDS)] if rows is None else rows
    return HEAD | {"records": len(rows), "rows": rows} | changes


def written(folder: pathlib.Path, data, name: str = "made.json") -> pathlib.Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def cell(kind: str, value) -> dict:
    row = list(ROW)
    row[KINDS.index(kind)] = value
    return made([ROW, row])


def column(**changes) -> list:
    return [HEAD["columns"][0] | changes, *HEAD["columns"][1:]]


# -- Dataset-JSON ----------------------------------------------------------------------------------------------------
def test_every_kind_of_column_is_read(tmp_path):
    frame, metadata = dataset_json.read(written(tmp_path, made()))
    assert frame.rows()[0] == ("a", 1, 1.5, 2.5, True, "2013-02", "2013-02-12T08:30:15Z", "08:30")
    assert frame.rows()[1] == (None,) * len(KINDS)
    assert metadata == HEAD


def test_rows_before_what_explains_them_are_read(tmp_path):
    data = made()
    backwards = {key: data[key] for key in reversed(data)}
    assert dataset_json.read(written(tmp_path, backwards))[0].equals(
        dataset_json.read(written(tmp_path, data, "b.json"))[0]
    )


REFUSED = {
    "a date that is not in the calendar": (
        cell("date", "2024-02-30"),
        "made.json, column 'date', row 2: '2024-02-30' is not a day of the calendar.",
    ),
    "a month that is not in the calendar": (
        cell("datetime", "2024-13"),
        "made.json, column 'datetime', row 2: '2024-13' is not a day of the calendar.",
    ),
    "a date of another form": (
        cell("date", "30/02/2024"),
        "made.json, column 'date', row 2: '30/02/2024' is not an ISO 8601 date, such as 2024-02-29.",
    ),
    "an hour that is not on the clock": (
        cell("time", "25:10"),
        "made.json, column 'time', row 2: '25:10' is not a time of the clock.",
    ),
    "text in a number": (cell("integer", "many"), "made.json, column 'integer', row 2: \"many\" is not a number."),
    "a number in a text": (cell("string", 5), "made.json, column 'string', row 2: 5 is not text."),
    "true in a number": (cell("float", True), "made.json, column 'float', row 2: true is not a number."),
    "a word in a flag": (cell("boolean", "Y"), "made.json, column 'boolean', row 2: \"Y\" is not true or false."),
    "a decimal that is none": (cell("decimal", "1,5"), "made.json, column 'decimal', row 2: \"1,5\" is not a number."),
    "a number too large": (
        cell("integer", 2**70),
        "made.json, column 'integer', row 2: \"1180591620717411303424\" is not a number that can be held.",
    ),
    "a list in a cell": (cell("string", ["a"]), "made.json, column 'string', row 2: [\"a\"] is not text."),
    "a short row": (made([ROW, ROW[:3]]), "made.json, row 2, has 3 values; there are 8 columns."),
    "a row that is none": (made([ROW, 5]), "made.json, row 2, has no list; there are 8 columns."),
    "a wrong count": (made(records=3), "made.json says it has 3 records and has 2 rows. Is it cut off?"),
    "another version": (
        made(datasetJSONVersion="1.0.0"),
        "made.json is Dataset-JSON 1.0.0; quell reads 1.1. Convert it.",
    ),
    "a missing key": (
        {key: value for key, value in made().items() if key != "name"},
        "made.json lacks 'name': it is not Dataset-JSON 1.1, which requires datasetJSONCreationDateTime, "
        "datasetJSONVersion, itemGroupOID, records, name, label, columns.",
    ),
    "an unknown key": (
        made(studyOid="x"),
        "made.json has the key 'studyOid', which Dataset-JSON 1.1 does not know. Did you mean 'studyOID'?",
    ),
    "a column twice": (
        made(columns=column(name="integer")),
        "made.json declares two columns called 'integer'. Give each its own name.",
    ),
    "a column of no kind": (
        made(columns=column(dataType="text")),
        "made.json, column 'string': dataType is 'text'. Known here: 'string', 'integer', 'decimal', 'float', 'double', "
        "'boolean', 'datetime', 'date', 'time', 'URI'.",
    ),
    "a column without a label": (
        made(columns=[{"itemOID": "a", "name": "b", "dataType": "string"}]),
        "made.json: column 1 lacks 'label'. Every column has itemOID, name, label and dataType.",
    ),
    "no columns": (made(columns=[]), "made.json declares no columns. Dataset-JSON needs a list of them."),
    "not a number": (
        json.dumps(cell("float", math.nan)),
        "made.json has NaN, which is not a JSON number. Write null for a missing value.",
    ),
    "cut off": (json.dumps(made())[:-30], "made.json is not JSON: it ends in the middle."),
    "more than one object": (
        json.dumps(made()) + "{}",
        "made.json is not JSON: something follows the end of the object.",
    ),
    "not an object": ("[1, 2]", "made.json is not JSON: '{' should stand where there is '['."),
    "nested without end": ('{"label": ' + "[" * 100_000, "made.json is not JSON: it is nested too deeply."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_dataset_json_is_named(tmp_path, case):
    data, expected = REFUSED[case]
    with pytest.raises(FileError) as caught:
        dataset_json.read(written(tmp_path, data))
    assert str(caught.value) == expected


@pytest.mark.parametrize("suffix", dataset_json.SUFFIXES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), max_size=6),
    seed=st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_frame_comes_back(tmp_path, suffix, text, seed):
    frame = pl.DataFrame(
        {"TEXT": text, "NUMBER": [seed * at for at in range(len(text))], "WHOLE": list(range(len(text)))},
        schema={"TEXT": pl.String, "NUMBER": pl.Float64, "WHOLE": pl.Int64},
    ).with_columns(pl.col("NUMBER").replace([math.inf, -math.inf], None).fill_nan(None))
    dataset_json.write(frame, tmp_path / f"t{suffix}")
    again, told = dataset_json.read(tmp_path / f"t{suffix}")
    assert again.equals(frame) and told["records"] == frame.height


def test_the_same_data_make_the_same_compressed_bytes(tmp_path):
    frame, metadata = dataset_json.read(written(tmp_path, made()))
    for name in ("one.dsjc", "two.dsjc"):
        dataset_json.write(frame, tmp_path / name, metadata)
    assert (tmp_path / "one.dsjc").read_bytes() == (tmp_path / "two.dsjc").read_bytes()


# -- ADaM ------------------------------------------------------------------------------------------------------------
PILOT = tomllib.loads((pathlib.Path(__file__).parents[2] / "examples" / "cdisc-pilot.toml").read_text("utf-8"))
ARMS = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]


def trial() -> dict[str, pl.DataFrame]:
    """Six people in three arms, and one never randomised."""
    people = [f"0{at}" for at in range(6)]
    adsl = pl.DataFrame(
        {
            "USUBJID": [*people, "07"],
            "SITEID": ["701"] * 7,
            "SITEGR1": ["701"] * 7,
            "TRT01P": [*(ARMS * 2), "Screen Failure"],
            "TRTSDT": [*(["2013-01-10"] * 6), None],
            "TRTEDT": [*(["2013-06-26"] * 6), None],
            "COMP24FL": [*("YYYNYN"), ""],
            "DCSREAS": ["", "", "", "Adverse Event", "", "Withdrew Consent", ""],
            "AGE": [70, 71, 72, 73, 74, 75, 76],
            "SEX": ["F"] * 7,
            "RACE": ["WHITE"] * 7,
            "BMIBL": [24.5] * 7,
            "MMSETOT": [20] * 7,
            "EDUCLVL": [12] * 7,
            "DURDIS": [30.0] * 7,
            "EFFFL": [*(["Y"] * 6), ""],
            "ITTFL": [*(["Y"] * 6), ""],
            "SAFFL": [*(["Y"] * 6), ""],
        }
    )
    rows = [
        (who, visit, day, value)
        for who in people
        for visit, day, value in (("BASELINE", -3, 20.5), ("Week 24", 168, 22.0))
    ]
    adadas = pl.DataFrame(rows, schema=["USUBJID", "AVISIT", "ADY", "AVAL"], orient="row").with_columns(
        PARAMCD=pl.lit("ACTOT"), ANL01FL=pl.lit("Y"), BASE=pl.lit(20.5), DTYPE=pl.lit("")
    )
    adtte = pl.DataFrame({"USUBJID": people, "AVAL": [10, 20, 30, 40, 50, 60], "CNSR": [0, 1, 0, 1, 0, 2]})
    return {"adsl": adsl, "adadas": adadas, "adtte": adtte.with_columns(PARAMCD=pl.lit("TTDE"))}


def study_of(folder: pathlib.Path, data: dict[str, pl.DataFrame], protocol: dict | None = None, form: str = "json"):
    for name, frame in data.items():
        if form == "csv":
            frame.write_csv(folder / f"{name}.csv")
        else:
            dataset_json.write(frame, folder / f"{name}.{form}")
    return read_study(folder, Protocol.of(protocol or PILOT))


@pytest.mark.parametrize("form", ["json", "ndjson", "dsjc", "csv"])
def test_a_trial_is_read_from_any_form(tmp_path, form):
    study = study_of(tmp_path, trial(), form=form)
    columns = study.columns(Protocol.of(PILOT))
    assert columns.arm.tolist() == [0, 1, 2, 0, 1, 2]
    assert study["subjects"]["arm"].null_count() == 1
    day, happened = columns.first(("dermatologic event",))
    assert day.tolist() == [10, 20, 30, 40, 50, 60]
    assert happened.tolist() == [True, False, True, False, True, False]
    assert columns.levels["site group"] == ("701",)
    assert columns.sets["efficacy"].sum() == 6


def test_adam_days_before_the_first_dose_are_counted_through_zero(tmp_path):
    study = study_of(tmp_path, trial())
    assert set(study["readings"].filter(pl.col("visit") == "Baseline")["day"]) == {-2}


def test_the_way_through_the_trial_can_be_cut_at_a_day(tmp_path):
    study = study_of(tmp_path, trial())
    end = study["milestones"].filter(pl.col("milestone") == "completed treatment").sort("subject")
    assert end["day"].to_list() == [168] * 6
    assert end["reason"].to_list() == [None, None, None, "Adverse Event", None, "Withdrew Consent"]
    early = study.as_of(datetime.date(2013, 3, 1))["milestones"]
    assert "completed treatment" not in early["milestone"].to_list()


def test_the_baseline_column_stands_in_for_a_baseline_visit(tmp_path):
    data = trial()
    data["adadas"] = data["adadas"].filter(pl.col("AVISIT") == "Week 24")
    columns = study_of(tmp_path, data).columns(Protocol.of(PILOT))
    np.testing.assert_array_equal(columns.reading("ADAS-Cog(11)", "", "Baseline"), [20.5] * 6)


def changed(name: str, **columns):
    def change(data, protocol):
        data[name] = data[name].with_columns(**columns)

    return change


def told(**source):
    def change(data, protocol):
        protocol["source"] |= source

    return change


def dropped(name: str, column: str | None = None):
    def change(data, protocol):
        if column is None:
            del data[name]
        else:
            data[name] = data[name].drop(column)

    return change


def doubled(name: str):
    def change(data, protocol):
        data[name] = pl.concat([data[name], data[name].head(1)])

    return change


MAPPINGS = {
    "an absent data set": (dropped("adtte"), "has no data set 'adtte' (.json, .ndjson, .dsjc, .parquet, .csv)."),
    "an absent column": (dropped("adsl", "SITEGR1"), "data set 'adsl' lacks the column 'SITEGR1'. Did you mean 'SITEID'?"),
    "no subject": (dropped("adtte", "USUBJID"), "data set 'adtte' lacks the column 'USUBJID': it is not about subjects."),
    "an arm without a mapping": (
        told(arms={"Placebo": "placebo", "Xanomeline High Dose": "high"}),
        "data set 'adsl', column 'TRT01P', has 'Xanomeline Low Dose', which source.arms does not map. "
        "Did you mean 'Xanomeline High Dose'? Write source.arms = { \"Xanomeline Low Dose\" = \"<arm>\" }.",
    ),
    "an arm mapped to none": (
        told(arms=dict(zip(ARMS, ["placebo", "lo", "high"], strict=True))),
        "is in the arm 'lo', which the protocol has not. Did you mean 'low'?",
    ),
    "a condition that nobody meets": (
        changed("adadas", PARAMCD=pl.lit("ACITM01")),
        "no row of data set 'adadas' has PARAMCD = 'ACTOT'.",
    ),
    "a person twice": (doubled("adsl"), "data set 'adsl' has 2 rows with USUBJID '00'."),
    "a visit twice": (doubled("adadas"), "data set 'adadas' has 2 rows with USUBJID '00' and AVISIT 'BASELINE'."),
    "a time twice": (doubled("adtte"), "data set 'adtte' has 2 rows with USUBJID '00'."),
    "two baselines": (
        changed("adadas", BASE=pl.int_range(pl.len()).cast(pl.Float64)),
        "data set 'adadas' gives subject '",
    ),
    "time in months": (
        changed("adtte", AVALU=pl.lit("MONTHS")),
        "data set 'adtte' counts 'dermatologic event' in months; quell needs days. Convert it.",
    ),
    "a fraction of a day": (
        changed("adtte", AVAL=pl.lit(1.5)),
        "data set 'adtte', column 'AVAL', row 1: '1.5' is not a whole number of days (6 rows are like this).",
    ),
    "no censoring": (
        changed("adtte", CNSR=pl.lit(None).cast(pl.Int64)),
        "data set 'adtte' does not say whether '00' was censored (CNSR is empty).",
    ),
    "a date that is not in the calendar": (
        changed("adsl", TRTSDT=pl.lit("2013-02-30")),
        "data set 'adsl', column 'TRTSDT', row 1: '2013-02-30' is not a date of the calendar",
    ),
    "no baseline": (
        lambda data, protocol: data.update(
            adadas=data["adadas"].drop("BASE").with_columns(AVISIT=pl.lit("Week 24"), n=pl.int_range(pl.len()))
            .unique("USUBJID").drop("n")
        ),
        "data set 'adadas' has no baseline of 'ADAS-Cog(11)': neither the column 'BASE' nor rows at the visit 'Baseline'.",
    ),
    "a stranger": (
        lambda data, protocol: data.update(adtte=data["adtte"].with_columns(USUBJID=pl.col("USUBJID") + "x")),
        "table 'events' speaks of subject '00x', who is not in the table 'subjects' (and of 2 others).",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MAPPINGS)
def test_a_mapping_that_does_not_fit_is_named(tmp_path, case):
    change, expected = MAPPINGS[case]
    data, protocol = trial(), copy.deepcopy(PILOT)
    change(data, protocol)
    with pytest.raises(BadInput) as caught:
        study_of(tmp_path, data, protocol)
    assert expected in str(caught.value)

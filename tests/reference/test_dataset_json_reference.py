"""Agreement with CDISC's own files and schema (Dataset-JSON 1.1, cdisc-org/DataExchange-DatasetJson) and with the
published primary table 14-3.01 of the CDISC pilot, by statsmodels 0.14 on the arrays that quell hands to analysis."""

from __future__ import annotations

import json
import os
import pathlib

import jsonschema
import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm

from quell.exchange import dataset_json, describe, read_study
from quell.protocol import Protocol

ROOT = pathlib.Path(__file__).parents[2]
DATA = pathlib.Path(os.environ.get("QUELL_REFERENCE_DATA", ROOT.parent / "shared" / "data")) / "cdisc_pilot"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the CDISC pilot data are not at {DATA}")

FILES = ("adsl.json", "adadas.json", "adtte.json")


@pytest.fixture(scope="module")
def pilot() -> Protocol:
    return Protocol.load(ROOT / "examples" / "cdisc-pilot.toml")


@pytest.fixture(scope="module")
def columns(pilot):
    return read_study(DATA, pilot).columns(pilot)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("suffix", dataset_json.SUFFIXES)
def test_published_files_come_back_the_same(tmp_path, file, suffix):
    frame, metadata = dataset_json.read(DATA / file)
    dataset_json.write(frame, tmp_path / f"again{suffix}", metadata)
    again, told = dataset_json.read(tmp_path / f"again{suffix}")
    assert again.equals(frame)
    assert told == metadata


@pytest.mark.parametrize("file", FILES)
def test_what_is_read_is_what_the_json_library_reads(file):
    frame, metadata = dataset_json.read(DATA / file)
    plain = json.loads((DATA / file).read_text("utf-8"))
    assert metadata == {key: value for key, value in plain.items() if key != "rows"}
    for at, column in enumerate(plain["columns"]):
        assert frame[column["name"]].to_list() == [row[at] for row in plain["rows"]]


def test_the_three_forms_of_the_standard_hold_the_same():
    frames = [dataset_json.read(DATA / f"adsl{suffix}")[0] for suffix in dataset_json.SUFFIXES]
    assert frames[0].equals(frames[1]) and frames[0].equals(frames[2])


@pytest.mark.parametrize("file", FILES)
def test_what_is_written_keeps_the_published_schema(tmp_path, file):
    schema = json.loads((DATA / "dataset.schema.json").read_text("utf-8"))
    frame, metadata = dataset_json.read(DATA / file)
    for name, told in (("given.json", metadata), ("made.json", None)):
        dataset_json.write(frame.head(50), tmp_path / name, told)
        jsonschema.validate(json.loads((tmp_path / name).read_text("utf-8")), schema)


def test_numbers_in_a_column_declared_integer_are_read_and_remarked():
    found = describe(DATA / "adadas.json")
    assert found["problems"] == []
    assert found["tables"]["ADADAS"]["rows"] == 12_463
    assert "Column 'AVAL' is declared integer and holds other numbers; it is read as they stand." in found["notes"]


def test_the_pilot_has_the_published_numbers_of_people_and_events(pilot, columns):
    assert columns.arms == ("placebo", "low", "high")
    assert [int((columns.arm == arm).sum()) for arm in range(3)] == [86, 84, 84]
    change = columns.reading("ADAS-Cog(11)", "", "Week 24") - columns.reading("ADAS-Cog(11)", "", "Baseline")
    read = columns.sets["efficacy"] & np.isfinite(change)
    assert [int((read & (columns.arm == arm)).sum()) for arm in range(3)] == [79, 81, 74]
    day, happened = columns.first(("dermatologic event",))
    assert [int(happened[columns.arm == arm].sum()) for arm in range(3)] == [29, 62, 61]
    assert day.min() == 1 and np.isfinite(day).all()
    assert int(columns.sets["completed treatment"].sum()) == 118


def published(columns):
    """Outcome, arm, and the part of the design that all models share: site groups and baseline."""
    base = columns.reading("ADAS-Cog(11)", "", "Baseline")
    kept = columns.sets["efficacy"]
    sites = np.eye(len(columns.levels["site group"]))[columns.factors["site group"]][kept]
    change = (columns.reading("ADAS-Cog(11)", "", "Week 24") - base)[kept]
    return change, columns.arm[kept], np.column_stack([sites, base[kept]])


@pytest.mark.parametrize(
    ("active", "control", "difference", "error", "p"),
    [("low", "placebo", -0.5, 0.82, 0.569), ("high", "placebo", -1.0, 0.84, 0.233), ("high", "low", -0.5, 0.84, 0.520)],
)
def test_published_contrasts_come_out_of_the_arrays(columns, active, control, difference, error, p):
    change, arm, shared = published(columns)
    other = [at for at, name in enumerate(columns.arms) if name != control]
    fit = sm.OLS(change, np.column_stack([*(arm == at for at in other), shared])).fit()
    at = other.index(columns.arms.index(active))
    assert round(fit.params[at], 1) == difference
    assert round(fit.bse[at], 2) == error
    assert round(fit.pvalues[at], 3) == p


def test_the_published_dose_response_comes_out_of_the_arrays(columns, pilot):
    change, arm, shared = published(columns)
    dose = np.array([pilot.arm(name).level for name in columns.arms])[arm]
    assert round(sm.OLS(change, np.column_stack([dose, shared])).fit().pvalues[0], 3) == 0.245


def test_reading_the_compressed_form_makes_the_same_study(tmp_path, pilot):
    for file in FILES:
        frame, metadata = dataset_json.read(DATA / file)
        dataset_json.write(frame, tmp_path / file.replace(".json", ".dsjc"), metadata)
    assert read_study(tmp_path, pilot) == read_study(DATA, pilot)


def test_the_pilot_written_as_tables_reads_back(tmp_path, pilot):
    from quell.tables import write_folder

    study = read_study(DATA, pilot)
    for form in ("csv", "parquet"):
        write_folder(study.tables, tmp_path / form, form, protocol=pilot.name, digest=study.digest)
        again = read_study(tmp_path / form, pilot)
        assert again == study
        assert all(again.tables[name].equals(table) for name, table in study.tables.items())
        assert again.tables["subjects"]["site group"].dtype == pl.String

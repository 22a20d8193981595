"""Laws of study tables: written and read they are the same, in every form."""

from __future__ import annotations

import datetime
import json

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quell.tables import TABLES, canonical, read_folder, write_folder

LAW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# any text that is text: no surrogates, no NUL
WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
KINDS = {
    "String": st.none() | WORD | st.sampled_from(["=1+1", 'say "no", twice', "two\nlines", "NA", " 007 ", "é", "true"]),
    "Int32": st.none() | st.integers(-20_000, 20_000),
    "Float64": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "Boolean": st.none() | st.booleans(),
    "Date": st.none() | st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 12, 31)),
}


@st.composite
def studies(draw) -> dict[str, pl.DataFrame]:
    found = {}
    for name in ("subjects", *draw(st.sets(st.sampled_from([name for name in TABLES if name != "subjects"])))):
        schema = dict(TABLES[name].columns)
        if name == "subjects":
            further = draw(
                st.dictionaries(
                    st.sampled_from(["age", "site group", "x, y", "smoker"]), st.sampled_from(list(KINDS)[:4])
                )
            )
            schema |= {column: getattr(pl, kind)() for column, kind in further.items()}
        rows = draw(st.integers(1 if name == "subjects" else 0, 5))
        columns = {c: draw(st.lists(KINDS[str(kind)], min_size=rows, max_size=rows)) for c, kind in schema.items()}
        found[name] = pl.DataFrame(columns, schema=schema)
    return found


@LAW
@given(tables=studies())
def test_reading_what_was_written_gives_it_back(tmp_path_factory, tables):
    written_and_read(tmp_path_factory, tables, "csv")


@settings(LAW, max_examples=10)
@given(tables=studies())
def test_reading_parquet_gives_it_back(tmp_path_factory, tables):
    # each Parquet file is decoded in a process of its own, which takes its time
    written_and_read(tmp_path_factory, {"subjects": tables["subjects"]}, "parquet")


def written_and_read(tmp_path_factory, tables, form):
    folder = tmp_path_factory.mktemp("study")
    write_folder(tables, folder, form)
    again = read_folder(folder)
    assert again.keys() == tables.keys()
    for name, table in tables.items():
        assert again[name].equals(canonical(name, table)), name
        assert again[name].schema == canonical(name, table).schema


@LAW
@given(studies())
def test_the_canonical_form_is_its_own(tables):
    for name, table in tables.items():
        once = canonical(name, table)
        assert canonical(name, once).equals(once)
        assert canonical(name, once.select(reversed(once.columns))).select(once.columns).equals(once)


def test_writing_leaves_other_files_and_a_manifest(tmp_path):
    tables = {"subjects": pl.DataFrame({"subject": ["1"], "arm": ["a"], "age": [61]})}
    (tmp_path / "report.html").write_text("kept")
    write_folder(tables, tmp_path, "parquet", protocol="ivory", fingerprint="f", digest="d")
    write_folder(tables, tmp_path, "csv", protocol="ivory", fingerprint="f", digest="d")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.html", "study.json", "subjects.csv"]
    told = json.loads((tmp_path / "study.json").read_text())
    assert told["rows"] == {"subjects": 1} and told["covariates"] == {"age": "number"} and told["protocol"] == "ivory"


def test_codes_that_look_like_numbers_stay_words_where_the_manifest_or_the_protocol_says_so(tmp_path):
    tables = {"subjects": pl.DataFrame({"subject": ["1", "2"], "arm": ["a", "b"], "site group": ["701", "900"]})}
    write_folder(tables, tmp_path)
    assert read_folder(tmp_path)["subjects"]["site group"].to_list() == ["701", "900"]
    (tmp_path / "study.json").unlink()
    assert read_folder(tmp_path)["subjects"]["site group"].to_list() == [701.0, 900.0]
    assert read_folder(tmp_path, words=["site group"])["subjects"]["site group"].to_list() == ["701", "900"]

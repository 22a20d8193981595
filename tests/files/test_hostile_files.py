"""Files that break the rules: each is refused in one sentence, quickly and without holding it."""

from __future__ import annotations

import json
import os
import pathlib
import time
import tracemalloc
import zlib
from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quell import parquet
from quell.bounded import FileError, read_csv, read_ndjson
from quell.exchange import dataset_json, describe
from quell.parquet import read_parquet
from quell.sentences import BadInput
from quell.tables import read_folder, typed

READERS: dict[str, Callable] = {
    ".csv": read_csv,
    ".ndjson": read_ndjson,
    ".parquet": read_parquet,
    ".json": dataset_json.read,
    ".dsjc": dataset_json.read,
}
HEAD = {
    "datasetJSONCreationDateTime": "2024-11-11T15:09:13",
    "datasetJSONVersion": "1.1.0",
    "itemGroupOID": "IG.T",
    "records": 1,
    "name": "T",
    "label": "made by this test",
    "columns": [{"itemOID": "IT.T.A", "name": "A", "label": "a", "dataType": "string"}],
}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(read: Callable, path: pathlib.Path) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)
    message = str(caught.value)
    assert (message.count("\n") == 0 and len(message) < 400 and message.endswith(".")) or message.endswith("?")
    assert "Traceback" not in message
    return message


def grown(path: pathlib.Path, start: bytes, size: int = 1_000_000_000) -> pathlib.Path:
    """A file that begins with ``start`` and eight megabytes of one cell, and is sparse up to its size."""
    path.write_bytes(start + b"z" * 8_000_000)
    os.truncate(path, size)
    return path


@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".csv", b"subject,arm\n01,"),
        (".csv", b'subject,arm\n01,"'),
        (".ndjson", b'{"subject": "'),
        (".json", json.dumps(HEAD)[:-1].encode() + b', "rows": [["'),
        (".json", b'{"datasetJSONVersion": "'),
    ],
)
def test_a_cell_of_one_gigabyte_is_refused_at_once_and_never_held(tmp_path, suffix, start):
    path = grown(tmp_path / f"big{suffix}", start)
    tracemalloc.start()
    began = time.perf_counter()
    message = refused(READERS[suffix], path)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "longer than 4,000,000" in message
    assert seconds < 5
    assert peak < 60_000_000


def test_a_compressed_file_is_not_unpacked_beyond_one_cell(tmp_path):
    squeeze = zlib.compressobj(1)
    packed = squeeze.compress(json.dumps(HEAD).encode() + b'\n["')
    packed += b"".join(squeeze.compress(b"z" * 1_000_000) for _ in range(200)) + squeeze.flush()
    path = tmp_path / "bomb.dsjc"
    path.write_bytes(packed)
    assert len(packed) < 2_000_000
    tracemalloc.start()
    message = refused(dataset_json.read, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "longer than 4,000,000 bytes" in message
    assert peak < 60_000_000


def test_a_file_of_nothing_but_empty_lines_is_refused(tmp_path):
    path = tmp_path / "subjects.csv"
    path.write_bytes(b"subject,arm\n" + b"\n" * 3_000_000)
    assert refused(read_csv, path) == "subjects.csv has more than 100,000 empty lines. Take them out."


def test_a_parquet_page_is_refused_by_what_it_would_unpack_to(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_LARGEST_PAGE", 1_000_000)
    path = tmp_path / "subjects.parquet"
    pl.DataFrame({"subject": ["z" * 2_000_000]}).write_parquet(path)
    assert path.stat().st_size < 10_000
    assert "unpacks to more than" in refused(read_parquet, path)


def test_a_long_cell_within_a_parquet_page_is_refused(tmp_path):
    path = tmp_path / "subjects.parquet"
    pl.DataFrame({"subject": ["01", "z" * 100_000]}).write_parquet(path)
    assert "column 'subject', row 2" in refused(read_parquet, path)


def test_a_file_larger_than_is_read_is_refused_unread(tmp_path):
    path = grown(tmp_path / "subjects.csv", b"subject,arm\n", 3_000_000_000)
    assert "3,000,000,000 bytes" in refused(read_csv, path)


CSV = {
    "NUL": (b"subject,arm\n01,pla\x00cebo\n", "line 2, has a NUL byte"),
    "UTF-16": ("subject,arm\n01,placebo\n".encode("utf-16"), "is UTF-16 text"),
    "Latin-1": ("subject,arm\n01,Zürich\n".encode("latin-1"), "line 2, is not UTF-8 (byte 5 is 0xfc"),
    "two columns of one name": (b"subject,arm,arm\n01,a,b\n", "two columns called 'arm'"),
    "a column without a name": (b"subject,\n01,a\n", "column 2 has no name"),
    "too few cells": (b"subject,arm\n01,a\n02\n", "line 3, has 1 cells; the header has 2"),
    "too many cells": (b"subject,arm\n01,a,b\n", "line 2, has 3 cells; the header has 2"),
    "semicolons": (b"subject;arm\n01;a\n", "separated by semicolons"),
    "an open quotation mark": (b'subject,arm\n01,"a\n', "Is a quotation mark open"),
    "a spreadsheet": (b"PK\x03\x04rest", "zip archive or a spreadsheet"),
    "nothing": (b"", "subjects.csv is empty"),
    "only an empty line": (b"\n\n", "begins with an empty line"),
    "too many columns": (",".join(f"c{at}" for at in range(2_001)).encode() + b"\n", "2,001 columns"),
}


@pytest.mark.parametrize("case", CSV)
def test_broken_csv_is_named(tmp_path, case):
    text, expected = CSV[case]
    path = tmp_path / "subjects.csv"
    path.write_bytes(text)
    assert expected in refused(read_csv, path)


def test_a_formula_is_text(tmp_path):
    (tmp_path / "subjects.csv").write_text('subject,arm\n"=HYPERLINK(""x"")",placebo\n')
    assert read_folder(tmp_path)["subjects"]["subject"][0] == '=HYPERLINK("x")'


def test_a_mark_of_utf_8_and_windows_line_ends_are_understood(tmp_path):
    (tmp_path / "subjects.csv").write_bytes(b"\xef\xbb\xbfsubject,arm\r\n01,placebo\r\n")
    assert read_folder(tmp_path)["subjects"].select("subject", "arm").rows() == [("01", "placebo")]


def test_a_folder_or_a_device_is_not_a_file(tmp_path):
    assert "is not a file" in refused(read_csv, tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is not a file" in refused(read_csv, tmp_path / "pipe.csv")


@pytest.mark.parametrize("suffix", READERS)
@FUZZ
@given(data=st.binary(max_size=400))
def test_random_bytes_are_a_table_or_a_sentence(tmp_path, suffix, data):
    path = tmp_path / f"subjects{suffix}"
    path.write_bytes(data)
    try:
        found = READERS[suffix](path)
    except BadInput as error:
        assert str(error)
    else:
        assert found is not None
    assert set(describe(path)) == {"path", "kind", "tables", "problems", "notes"}


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> dict[str, bytes]:
    """One small data set in every form."""
    folder = tmp_path_factory.mktemp("honest")
    frame = pl.DataFrame(
        {"A": [f"x{at}" for at in range(30)], "B": [at * 1.5 for at in range(30)], "C": [1, None, 3] * 10}
    )
    frame.write_csv(folder / "t.csv")
    frame.write_ndjson(folder / "lines.ndjson")
    frame.write_parquet(folder / "t.parquet")
    dataset_json.write(frame, folder / "t.json")
    dataset_json.write(frame, folder / "t.dsjc")
    (folder / "lines.ndjson").rename(folder / "t.ndjson")
    return {suffix: (folder / f"t{suffix}").read_bytes() for suffix in READERS}


@pytest.mark.parametrize("suffix", READERS)
@FUZZ
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6), cut=st.floats(0.3, 1)
)
def test_a_damaged_file_is_a_table_or_a_sentence(tmp_path, honest, suffix, changes, cut):
    damaged = bytearray(honest[suffix])
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    path = tmp_path / f"t{suffix}"
    path.write_bytes(bytes(damaged[: int(cut * len(damaged))] if cut < 0.6 else damaged))
    try:
        found = READERS[suffix](path)
    except BadInput as error:
        assert str(error)
    else:
        assert found is not None


CELL = st.one_of(
    st.none(), st.text(max_size=8), st.sampled_from(["1", "2024-02-30", "1e999", "<2", "NA", "12.0", "nan"])
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["subjects", "milestones", "doses", "readings", "events", "followed", "sets"]),
    st.lists(st.lists(CELL, min_size=4, max_size=4), max_size=5),
)
def test_any_text_becomes_typed_columns_and_sentences(name, rows):
    columns = ["subject", "arm", "enrolled", "age"] if name == "subjects" else ["subject", "day", "value", "reached"]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    found, problems = typed(name, frame, f"{name}.csv")
    assert found.height == frame.height
    assert all(isinstance(problem, str) and problem for problem in problems)


def test_the_reader_says_which_file_is_absent(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        read_csv(tmp_path / "subjects.csv")

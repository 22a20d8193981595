"""CDISC Dataset-JSON 1.1, read and written: ``.json``, ``.ndjson`` and compressed ``.dsjc``.

The file is streamed: one row at a time is decoded, so that neither a cell of one gigabyte nor a file that unpacks to a
thousand times its size is ever held. Source: CDISC Dataset-JSON version 1.1.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from quell.bounded import CHUNK, LARGEST_FILE, FileError, cells_within, chunks, decoded, lines, within
from quell.exchange import iso, pulled
from quell.sentences import near

SUFFIXES = (".json", ".ndjson", ".dsjc")
REQUIRED = ("datasetJSONCreationDateTime", "datasetJSONVersion", "itemGroupOID", "records", "name", "label", "columns")
KNOWN = (
    *REQUIRED,
    "fileOID",
    "dbLastModifiedDateTime",
    "originator",
    "sourceSystem",
    "studyOID",
    "metaDataVersionOID",
    "metaDataRef",
)
TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "decimal": pl.Float64(),
    "float": pl.Float64(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "datetime": pl.String(),
    "date": pl.String(),
    "time": pl.String(),
    "URI": pl.String(),
}
_BLOCK = 20_000

Metadata = dict[str, Any]


def read(path: pathlib.Path) -> tuple[pl.DataFrame, Metadata]:
    """A data set and what its file says of it (everything but the rows).

    Dates and times stay ISO 8601 text, since they may be partial, and are checked against the calendar. A column
    declared integer that holds other numbers, as published files do, is read as float. Raises FileError in a sentence.
    """
    metadata, rows = _opened(path)
    names = _columns(metadata, path.name)
    kinds = [column["dataType"] for column in metadata["columns"]]
    blocks = [_block([], names, kinds, path.name, 0)]
    pending: list[list[Any]] = []
    count = 0
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise FileError(
                f"{path.name}, row {count + len(pending) + 1}, has {found}; there are {len(names)} columns."
            )
        pending.append(row)
        if len(pending) == _BLOCK:
            blocks.append(_block(pending, names, kinds, path.name, count))
            count += len(pending)
            within(count, len(names), path.name)
            pending = []
    blocks.append(_block(pending, names, kinds, path.name, count))
    count += len(pending)
    _keys_known(metadata, path.name)  # again: keys may follow the rows
    if metadata["records"] != count:
        raise FileError(
            f"{path.name} says it has {metadata['records']:,} records and has {count:,} rows. Is it cut off?"
        )
    return pl.concat(blocks, how="vertical_relaxed"), metadata


def write(frame: pl.DataFrame, path: pathlib.Path, metadata: Metadata | None = None) -> None:
    """Write a data set; ``metadata`` as ``read`` gives it, or made from the frame. ``read`` gives both back."""
    head = described(frame, path.stem, metadata or {})
    names = _columns(head, path.name)
    if names != frame.columns:
        raise FileError(f"{path.name}: the metadata names the columns {names[:5]}, the data {frame.columns[:5]}.")
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.writelines(_packed(_lines(frame, head, path.suffix), path.suffix))
        os.replace(beside, path)
    except OSError as error:
        raise FileError(f"{path} cannot be written: {error.strerror or error}.") from None


def described(frame: pl.DataFrame, name: str, metadata: Metadata) -> Metadata:
    """Metadata for a frame: what is given, and what the standard requires beside it."""
    kinds = {pl.Boolean: "boolean", pl.Float64: "float", pl.Float32: "float", pl.String: "string"}
    columns = [
        {
            "itemOID": f"IT.{name.upper()}.{column}",
            "name": column,
            "label": column,
            "dataType": "integer" if kind.is_integer() else kinds.get(type(kind), "string"),
        }
        for column, kind in frame.schema.items()
    ]
    made = {
        "datasetJSONCreationDateTime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "datasetJSONVersion": "1.1.0",
        "itemGroupOID": f"IG.{name.upper()}",
        "name": name.upper(),
        "label": name,
        "columns": columns,
    }
    return made | metadata | {"records": frame.height}


# -- reading ---------------------------------------------------------------------------------------------------------
def _opened(path: pathlib.Path) -> tuple[Metadata, Iterator[Any]]:
    """The metadata and the rows still to come, whichever form the bytes have."""
    pieces = _unpacked(path) if path.suffix == ".dsjc" else chunks(path)
    if path.suffix == ".json":
        return pulled.dataset(pieces, path.name, REQUIRED)
    text = lines(pieces, path.name)
    first = next(text, "")
    head = decoded(first, f"{path.name}, line 1")
    if not isinstance(head, dict):
        raise FileError(f"{path.name}, line 1, is not an object: it should hold the metadata of the data set.")
    if "rows" in head:
        raise FileError(f"{path.name} holds the rows within its first line. Name it .json.")
    rest = (decoded(line, f"{path.name}, line {number}") for number, line in enumerate(text, 2) if line.strip())
    return head, rest


def _unpacked(path: pathlib.Path) -> Iterator[bytes]:
    """The bytes of a zlib or gzip stream, a megabyte at a time and no more than are read of a plain file."""
    inflate = zlib.decompressobj(wbits=47)
    total = 0
    try:
        for piece in chunks(path):
            while piece and not inflate.eof:
                out = inflate.decompress(piece, CHUNK)
                total += len(out)
                if total > LARGEST_FILE:
                    raise FileError(
                        f"{path.name} unpacks to more than {LARGEST_FILE:,} bytes, which is more than is read."
                    )
                yield out
                piece = inflate.unconsumed_tail
    except zlib.error:
        raise FileError(f"{path.name} is not compressed as .dsjc (zlib or gzip), or is damaged.") from None
    if not inflate.eof:
        raise FileError(f"{path.name} is cut off: its compressed stream does not end.")


def _columns(metadata: Metadata, name: str) -> list[str]:
    """The column names; raises FileError where the metadata is not Dataset-JSON 1.1."""
    for key in REQUIRED:
        if key not in metadata:
            raise FileError(f"{name} lacks '{key}': it is not Dataset-JSON 1.1, which requires {', '.join(REQUIRED)}.")
    for key in metadata:
        if key not in KNOWN:
            raise FileError(
                f"{name} has the key '{_short(key)}', which Dataset-JSON 1.1 does not know. {near(key, KNOWN)}"
            )
    version = metadata["datasetJSONVersion"]
    if not re.fullmatch(r"1\.1(\.\d+)?", str(version)):
        raise FileError(f"{name} is Dataset-JSON {_short(version)}; quell reads 1.1. Convert it.")
    records = metadata["records"]
    if not isinstance(records, int) or isinstance(records, bool) or records < 0:
        raise FileError(f"{name}: records is {_short(records)}, not a number of rows.")
    columns = metadata["columns"]
    if not isinstance(columns, list) or not columns:
        raise FileError(f"{name} declares no columns. Dataset-JSON needs a list of them.")
    within(records, len(columns), name)
    names = [_column(column, at, name) for at, column in enumerate(columns, 1)]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise FileError(f"{name} declares two columns called '{twice}'. Give each its own name.")
    return names


def _keys_known(metadata: Metadata, name: str) -> None:
    for key in metadata:
        if key not in KNOWN:
            raise FileError(
                f"{name} has the key '{_short(key)}', which Dataset-JSON 1.1 does not know. {near(key, KNOWN)}"
            )


def _column(column: Any, at: int, name: str) -> str:
    for key in ("itemOID", "name", "label", "dataType"):
        if not isinstance(column, dict) or not isinstance(column.get(key), str):
            raise FileError(f"{name}: column {at} lacks '{key}'. Every column has itemOID, name, label and dataType.")
    if column["dataType"] not in TYPES:
        raise FileError(
            f"{name}, column '{column['name']}': dataType is '{_short(column['dataType'])}'. {near(column['dataType'], TYPES)}"
        )
    if not 0 < len(column["name"]) <= 200:
        raise FileError(f"{name}: the name of column {at} has {len(column['name']):,} characters; 1 to 200 are a name.")
    return str(column["name"])


def _block(rows: list[list[Any]], names: list[str], kinds: list[str], name: str, before: int) -> pl.DataFrame:
    columns: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else ((),) * len(names)
    series = [
        _series(column, kind, list(values), f"{name}, column '{column}'", before)
        for column, kind, values in zip(names, kinds, columns, strict=True)
    ]
    return cells_within(pl.DataFrame(series), name, before)


_ALLOWED: dict[str, tuple[type, ...]] = {
    "integer": (int, float),
    "float": (int, float),
    "double": (int, float),
    "decimal": (int, float, str),
    "boolean": (bool,),
}
_PLAIN = {
    "integer": "a number",
    "float": "a number",
    "double": "a number",
    "decimal": "a number",
    "boolean": "true or false",
}


def _series(column: str, kind: str, values: list[Any], where: str, before: int) -> pl.Series:
    """One column of a block in its type; raises FileError at the first value that does not fit."""
    allowed = (*_ALLOWED.get(kind, (str,)), type(None))
    if not set(map(type, values)) <= set(allowed):
        row = next(at for at, value in enumerate(values) if type(value) not in allowed)
        raise FileError(_misfit(where, before + row, values[row], _PLAIN.get(kind, "text")))
    if kind in ("date", "datetime", "time"):
        _possible(values, kind, where, before)
    if kind == "decimal":
        values = [_decimal(value, where, before + row) for row, value in enumerate(values)]
    wanted = TYPES[kind]
    if kind == "integer" and float in map(type, values):
        wanted = pl.Float64()
    if wanted.is_numeric():
        _finite(values, wanted, where, before)
    return pl.Series(column, values, dtype=wanted, strict=False)


def _misfit(where: str, row: int, value: Any, wanted: str) -> str:
    return f"{where}, row {row + 1}: {_short(json.dumps(value))} is not {wanted}."


def _possible(values: list[Any], kind: str, where: str, before: int) -> None:
    wrong = {text: iso.fault(text, kind) for text in set(values) if text}
    if any(wrong.values()):
        row = next(at for at, text in enumerate(values) if text and wrong[text])
        raise FileError(f"{where}, row {before + row + 1}: '{_short(values[row])}' {wrong[values[row]]}.")


def _decimal(value: Any, where: str, row: int) -> float | None:
    """A decimal, which the standard lets stand as text so that no digit is lost on the way."""
    if value in (None, ""):
        return None
    if isinstance(value, str) and not re.fullmatch(
        r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?", value
    ):
        raise FileError(_misfit(where, row, value, "a number"))
    return float(value)


def _finite(values: list[Any], wanted: pl.DataType, where: str, before: int) -> None:
    largest = 2**63 if wanted == pl.Int64 else math.inf
    for row, value in enumerate(values):
        if value is not None and not -largest < value < largest:
            raise FileError(_misfit(where, before + row, str(value), "a number that can be held"))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


# -- writing ---------------------------------------------------------------------------------------------------------
def _lines(frame: pl.DataFrame, head: Metadata, suffix: str) -> Iterator[str]:
    rows = (json.dumps(list(row), ensure_ascii=False, allow_nan=False) for row in frame.iter_rows())
    if suffix != ".json":
        yield json.dumps(head, ensure_ascii=False) + "\n"
        yield from (row + "\n" for row in rows)
        return
    yield json.dumps(head, ensure_ascii=False)[:-1] + ',"rows":['
    yield from (("," if at else "") + row for at, row in enumerate(rows))
    yield "]}"


def _packed(text: Iterator[str], suffix: str) -> Iterator[bytes]:
    if suffix != ".dsjc":
        yield from (line.encode() for line in text)
        return
    # a gzip stream (31), as the published examples are; it carries no date, so equal data give equal bytes
    deflate = zlib.compressobj(9, wbits=31)
    yield from (deflate.compress(line.encode()) for line in text)
    yield deflate.flush()

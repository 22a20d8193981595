"""Other people's formats: a real study becomes the same Study that a virtual one is."""

from __future__ import annotations

import pathlib
from typing import Any

import polars as pl

from quell.bounded import FileError, read_csv, read_ndjson
from quell.exchange import dataset_json
from quell.exchange.adam import READERS as ADAM_READERS
from quell.exchange.adam import read_adam
from quell.parquet import read_parquet
from quell.protocol import Protocol
from quell.sentences import BadInput, near
from quell.study import Study
from quell.tables import MOST_PROBLEMS, READERS, TABLES, TableError, check, doubts, read_folder, typed

__all__ = ["describe", "read_adam", "read_study"]


def read_study(path: str | pathlib.Path, protocol: Protocol) -> Study:
    """The study in a folder: quell's own tables where there is a table of subjects, else ADaM as protocol.source says.

    Raises TableError or FileError with every problem found, a sentence a line.
    """
    folder = pathlib.Path(path)
    if not folder.exists():
        raise TableError(f"there is no folder '{folder}'. Name the folder that holds the tables of the study.")
    if not folder.is_dir():
        raise TableError(f"{folder} is one file. Name the folder that holds all the tables of the study.")
    if protocol.source is not None and not _native(folder):
        return read_adam(folder, protocol)
    return Study.read(folder, protocol)


def _native(folder: pathlib.Path) -> bool:
    return any((folder / f"subjects{suffix}").is_file() for suffix in READERS)


def describe(path: str | pathlib.Path, protocol: Protocol | None = None) -> dict[str, Any]:
    """What a file or folder is, its rows and columns, and its problems as sentences; it raises nothing for bad input.

    The keys are ``path``, ``kind``, ``tables`` (name to rows and columns), ``problems`` and ``notes``.
    """
    place = pathlib.Path(path)
    found: dict[str, Any] = {"path": str(place), "kind": "", "tables": {}, "problems": [], "notes": []}
    try:
        if place.is_dir():
            _describe_folder(place, protocol, found)
        else:
            _describe_file(place, found)
    except BadInput as error:
        found["problems"] += str(error).split("\n")[:MOST_PROBLEMS]
    return found


def _describe_folder(folder: pathlib.Path, protocol: Protocol | None, found: dict[str, Any]) -> None:
    if _native(folder):
        found["kind"] = "study folder"
        tables = read_folder(folder, words=protocol.categories if protocol else ())
        found["tables"] = {name: _sized(table) for name, table in tables.items()}
        if protocol:
            found["problems"] += check(tables, protocol)
            found["notes"] += doubts(tables, protocol)
        return
    data = [entry for entry in sorted(folder.iterdir()) if entry.suffix.lower() in ADAM_READERS]
    found["kind"] = "folder of data sets"
    if protocol and protocol.source:
        study = read_adam(folder, protocol)
        found["tables"] = {name: _sized(table) for name, table in study.tables.items()}
        found["notes"] += doubts(study.tables, protocol)
    elif not data:
        raise TableError(f"{folder} holds neither subjects.csv nor a data set. Name the folder of the study.")
    else:
        found["notes"].append("A protocol with a [source] says how these data sets make a study: add --protocol FILE.")
        for entry in data:
            try:
                found["tables"][entry.name] = _sized(ADAM_READERS[entry.suffix.lower()](entry))
            except BadInput as error:  # a folder may hold other things beside its data sets
                found["notes"].append(f"Not a data set: {error}")


def _describe_file(path: pathlib.Path, found: dict[str, Any]) -> None:
    match path.suffix.lower():
        case ".csv" | ".parquet":
            frame = read_csv(path) if path.suffix.lower() == ".csv" else read_parquet(path)
            _describe_table(path, frame, found)
        case ".ndjson" if path.stem in TABLES:
            _describe_table(path, read_ndjson(path), found)
        case ".json" | ".ndjson" | ".dsjc":
            frame, metadata = dataset_json.read(path)
            found["kind"] = f"CDISC Dataset-JSON {metadata['datasetJSONVersion']}: {metadata['label']}"
            found["tables"][metadata["name"]] = _sized(frame)
            found["notes"] += _not_whole(frame, metadata)
        case suffix:
            known = ("a study folder", ".toml", *dict.fromkeys([*READERS, *dataset_json.SUFFIXES]))
            what = f"has the ending '{suffix}'" if suffix else "has no ending"
            raise FileError(f"{path} {what}; quell reads {', '.join(known)}. {near(suffix, known[1:])}")


def _describe_table(path: pathlib.Path, frame: pl.DataFrame, found: dict[str, Any]) -> None:
    found["tables"][path.stem] = _sized(frame)
    if path.stem in TABLES:
        found["kind"] = f"the table '{path.stem}' of a study"
        found["problems"] += typed(path.stem, frame, path.name)[1]
    else:
        found["kind"] = "a table"
        found["notes"].append(f"The tables of a study are called {', '.join(TABLES)}. {near(path.stem, TABLES)}")


def _not_whole(frame: pl.DataFrame, metadata: dataset_json.Metadata) -> list[str]:
    declared = {column["name"] for column in metadata["columns"] if column["dataType"] == "integer"}
    return [
        f"Column '{column}' is declared integer and holds other numbers; it is read as they stand."
        for column, kind in frame.schema.items()
        if column in declared and not kind.is_integer()
    ]


def _sized(table: pl.DataFrame) -> dict[str, Any]:
    return {"rows": table.height, "columns": list(table.columns)}

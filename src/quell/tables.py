"""The declared tables of a study, and how they are read from files that may be hostile: bounded, never executed."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import polars as pl

from quell.bounded import chunks, decoded, lines, read_csv, read_ndjson
from quell.cells import DATE, DAY, FLAG, NUMBER, TEXT, converted, covariate, covariate_type
from quell.parquet import read_parquet
from quell.promises import LONGEST_STUDY
from quell.protocol import Protocol
from quell.sentences import BadInput, near


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The declared columns of one table; ``key`` names those that identify a row."""

    name: str
    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    needs: tuple[str, ...]  # columns a file must have; the others may be left out
    open: bool = False  # whether further columns (covariates) are allowed


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        # everybody screened; arm is empty for those never randomised; further columns are baseline covariates
        Table(
            name="subjects",
            columns={"subject": TEXT, "site": TEXT, "arm": TEXT, "enrolled": DATE},
            key=("subject",),
            needs=("subject", "arm"),
            open=True,
        ),
        # the way through the trial: screened, eligible, randomised, treated, completed treatment, followed up
        Table(
            name="milestones",
            columns={"subject": TEXT, "milestone": TEXT, "reached": FLAG, "day": DAY, "reason": TEXT},
            key=("subject", "milestone"),
            needs=("subject", "milestone", "reached"),
        ),
        Table(
            name="doses",
            columns={"subject": TEXT, "day": DAY, "drug": TEXT, "amount": NUMBER, "unit": TEXT, "given": FLAG},
            key=("subject", "drug", "day"),
            needs=("subject", "day", "drug", "amount"),
        ),
        # status: measured, below limit (value is half the limit), not done (value is empty)
        Table(
            name="readings",
            columns={
                "subject": TEXT,
                "visit": TEXT,
                "day": DAY,
                "quantity": TEXT,
                "location": TEXT,
                "value": NUMBER,
                "unit": TEXT,
                "status": TEXT,
            },
            key=("subject", "visit", "quantity", "location"),
            needs=("subject", "visit", "quantity", "value"),
        ),
        Table(
            name="events",
            columns={"subject": TEXT, "event": TEXT, "day": DAY},
            key=("subject", "event", "day"),
            needs=("subject", "event", "day"),
        ),
        # until when each person is known, for every kind of event (event empty) or for one
        Table(
            name="followed",
            columns={"subject": TEXT, "event": TEXT, "until": DAY, "reason": TEXT},
            key=("subject", "event"),
            needs=("subject", "until"),
        ),
        Table(
            name="sets",
            columns={"subject": TEXT, "set": TEXT},
            key=("subject", "set"),
            needs=("subject", "set"),
        ),
    )
}

STATUSES = ("measured", "below limit", "not done")
MILESTONES = ("screened", "eligible", "randomised", "treated", "completed treatment", "followed up")
MEANINGS = {
    "subject": "who, a name or number that is this person's alone",
    "arm": "the name of the arm in the protocol, empty for those never randomised",
    "milestone": f"one of {', '.join(MILESTONES)}",
    "reached": "true or false",
    "day": "the study day; day 1 is the day of the first dose",
    "drug": "the name of the drug in the protocol",
    "amount": "how much, a number",
    "visit": "the name of the visit in the protocol",
    "quantity": "what was measured, by its name in the protocol",
    "value": "the number measured, empty where it was not done",
    "event": "what happened, by its name in the protocol",
    "until": "the study day until which the person is known",
    "set": "the name of an analysis set in the protocol",
}
READERS: dict[str, Callable[[pathlib.Path], pl.DataFrame]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".ndjson": read_ndjson,
}
MANIFEST = "study.json"
LARGEST_MANIFEST = 1_000_000
MOST_PROBLEMS = 20
FIRST_YEAR, LAST_YEAR = 1900, 2100


class TableError(BadInput):
    """Tables that cannot be used, in sentences."""


def canonical(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A table in its declared types and order of columns; empty text is missing, a numeric covariate is a float.

    >>> canonical("sets", pl.DataFrame({"set": ["safety"], "subject": ["01"]})).columns
    ['subject', 'set']
    """
    declared = TABLES[name].columns
    further = [column for column in table.columns if column not in declared]
    kinds = {column: covariate_type(table[column]) for column in further}
    filled = [
        (pl.col(column) if column in table.columns else pl.lit(None)).cast(kind).alias(column)
        for column, kind in ({**declared, **kinds}).items()
    ]
    text = pl.col(pl.String)
    return table.select(filled).with_columns(pl.when(text == "").then(None).otherwise(text).name.keep())


# -- reading ---------------------------------------------------------------------------------------------------------
def read_folder(folder: pathlib.Path, words: Iterable[str] = ()) -> dict[str, pl.DataFrame]:
    """The tables of a study folder, each ``<name>.csv``, ``.parquet`` or ``.ndjson``; only ``subjects`` is required.

    ``words`` names covariates that are categories even where they look like numbers (a site group called 701).
    Raises TableError with every problem found, a sentence a line: file, column, row, value, and what to write.
    """
    files = _files(folder)
    kinds = _kinds(folder) | dict.fromkeys(words, "text")
    problems: list[str] = []
    tables: dict[str, pl.DataFrame] = {}
    for name, path in files.items():
        found, wrong = typed(name, READERS[path.suffix](path), path.name, kinds)
        tables[name] = found
        problems += wrong
    if problems:
        raise TableError("\n".join(problems[:MOST_PROBLEMS]))
    return tables


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of each table that is there, in the declared order."""
    if not folder.is_dir():
        raise TableError(f"{folder} is not a folder. Name the folder that holds subjects.csv and the other tables.")
    there = sorted(entry for entry in folder.iterdir() if entry.suffix in READERS)
    for entry in there:
        close = difflib.get_close_matches(entry.stem.lower(), TABLES, n=1, cutoff=0.8)
        if entry.stem not in TABLES and close and not any(other.stem == close[0] for other in there):
            raise TableError(f"{entry.name} is no table of a study. Did you mean '{close[0]}{entry.suffix}'?")
    found: dict[str, pathlib.Path] = {}
    for name in TABLES:
        files = [entry for entry in there if entry.stem == name]
        if len(files) > 1:
            both = " and ".join(entry.name for entry in files)
            raise TableError(f"{folder} holds {both}. Keep one of them: which is the table '{name}'?")
        if files:
            found[name] = files[0]
    if "subjects" not in found:
        raise TableError(
            f"{folder} has no subjects.csv (or .parquet, .ndjson), the one table that every study needs. "
            "Write one with a row for each person and the columns subject and arm."
        )
    return found


def _kinds(folder: pathlib.Path) -> dict[str, str]:
    """What the manifest says of the covariates; nothing where there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    text = "".join(lines(chunks(path, largest=LARGEST_MANIFEST), path.name))
    found = decoded(text, path.name)
    kinds = found.get("covariates", {}) if isinstance(found, dict) else None
    if not isinstance(kinds, dict) or not all(kind in ("text", "number", "flag") for kind in kinds.values()):
        raise TableError(f"{path.name} is not a study's manifest. Delete it, or write the study again.")
    return kinds


def typed(
    name: str, text: pl.DataFrame, file: str, kinds: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """A table in its declared types, and what could not be converted, as sentences."""
    table = TABLES[name]
    problems = _columns_wrong(table, text, file)
    columns: list[pl.Series] = []
    for column, kind in table.columns.items():
        if column in text.columns:
            columns.append(converted(text[column], kind, file, problems))
        else:
            columns.append(pl.Series(column, [None] * text.height, dtype=kind))
    if table.open:
        further = [text[column] for column in text.columns if column not in table.columns]
        columns += [covariate(one, (kinds or {}).get(one.name, ""), file, problems) for one in further]
    if not text.height and name == "subjects":
        problems.append(f"{file} has column names and no rows: a study without people. Write a row for each person.")
    return pl.DataFrame(columns), problems


def _columns_wrong(table: Table, text: pl.DataFrame, file: str) -> list[str]:
    missing = [column for column in table.needs if column not in text.columns]
    further = [column for column in text.columns if column not in table.columns]
    problems = []
    for column in missing:
        close = difflib.get_close_matches(column, [one.lower() for one in further], n=1, cutoff=0.6)
        hint = f" Is '{close[0]}' meant? Then rename it." if close else f" Add it: {MEANINGS[column]}."
        problems.append(f"{file} lacks the column '{column}'.{hint}")
    if not table.open and not missing:
        problems += [
            f"{file} has the column '{column}', which is not part of the table '{table.name}'. {near(column, table.columns)}"
            for column in further
        ]
    return problems


# -- writing ---------------------------------------------------------------------------------------------------------
def write_folder(
    tables: Mapping[str, pl.DataFrame],
    folder: pathlib.Path,
    form: Literal["csv", "parquet"] = "csv",
    *,
    protocol: str = "",
    fingerprint: str = "",
    digest: str = "",
) -> None:
    """Write the tables and a manifest, ``study.json``: each beside its place, then all renamed, the manifest last.

    Reading them gives the tables back in canonical form. Other files of the folder are left alone.
    """
    kept = {name: canonical(name, tables[name]) for name in TABLES if name in tables}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        staged = {name: _staged(table, folder / f".{name}.{form}.part", form) for name, table in kept.items()}
        for name in TABLES:
            for suffix in READERS:
                (folder / f"{name}{suffix}").unlink(missing_ok=True)
            if name in staged:
                os.replace(staged[name], folder / f"{name}.{form}")
        beside = folder / f".{MANIFEST}.part"
        beside.write_text(_manifest(kept, protocol, fingerprint, digest), encoding="utf-8")
        os.replace(beside, folder / MANIFEST)
    except OSError as error:
        raise TableError(f"the study cannot be written to {folder}: {error.strerror or error}.") from None


def _staged(table: pl.DataFrame, path: pathlib.Path, form: str) -> pathlib.Path:
    if form == "csv":
        table.write_csv(path)
    else:
        table.write_parquet(path, compression="zstd")
    return path


def _manifest(tables: Mapping[str, pl.DataFrame], protocol: str, fingerprint: str, digest: str) -> str:
    names = {"String": "text", "Float64": "number", "Boolean": "flag"}
    subjects = tables.get("subjects", pl.DataFrame())
    further = {
        column: str(kind) for column, kind in subjects.schema.items() if column not in TABLES["subjects"].columns
    }
    found = {
        "quell": importlib.metadata.version("quell"),
        "protocol": protocol,
        "fingerprint": fingerprint,
        "digest": digest,
        "rows": {name: table.height for name, table in tables.items()},
        "covariates": {column: names[kind] for column, kind in further.items()},
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


# -- checking against the protocol -------------------------------------------------------------------------------------
def check(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    """Why these tables cannot be this protocol's record, at most twenty sentences; empty where they can.

    >>> from quell.protocol import Protocol
    >>> check({"subjects": pl.DataFrame({"subject": ["1"], "arm": ["plcebo"]})}, Protocol.load("ivory"))
    ["table 'subjects', subject '1', is in the arm 'plcebo', which the protocol has not. Did you mean 'placebo'?"]
    """
    problems: list[str] = []
    ready: dict[str, pl.DataFrame] = {}
    for name, table in tables.items():
        if name not in TABLES:
            problems.append(f"a study has no table '{name}'. {near(name, TABLES)}")
            continue
        missing = [column for column in TABLES[name].needs if column not in table.columns]
        problems += [f"table '{name}' lacks the column '{column}'. Add it: {MEANINGS[column]}." for column in missing]
        if not missing:
            found, wrong = typed(name, table, f"table '{name}'")
            ready[name] = found
            problems += wrong
    if "subjects" not in tables:
        problems.append("the study has no table 'subjects'. Give one with a row for each person.")
    for look in (_keys_once, _arms_known, _people_known, _times_possible, _statuses_known):
        problems += look(ready, protocol)
    return list(dict.fromkeys(problems))[:MOST_PROBLEMS]


def doubts(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    """What is allowed but may be a slip: visits, quantities and events that the protocol does not name."""
    visits = [visit.name for visit in protocol.visits]
    quantities = [endpoint.quantity for endpoint in protocol.endpoints if endpoint.quantity]
    expected = (
        ("readings", "visit", visits),
        ("readings", "quantity", quantities),
        ("events", "event", protocol.events),
    )
    found = []
    for name, column, known in expected:
        if name in tables and column in tables[name].columns and known:
            there = tables[name][column].cast(pl.String).drop_nulls().unique(maintain_order=True)
            found += [
                f"table '{name}' has the {column} '{one}', which the protocol does not name. {near(one, known)}"
                for one in there
                if one and one not in known
            ]
    return found[:MOST_PROBLEMS]


def _keys_once(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    problems = []
    for name, table in tables.items():
        key = list(TABLES[name].key)
        nobody = table["subject"].is_null().arg_true()
        if len(nobody):
            problems.append(f"table '{name}', row {nobody[0] + 1}, does not say which subject it is about. Fill it in.")
        twice = table.filter(pl.struct(key).is_duplicated() & pl.col("subject").is_not_null())
        if twice.height:
            first = ", ".join(f"{part} '{twice[part][0]}'" for part in key if twice[part][0] is not None)
            rows = table.with_row_index("row").join(twice.head(1), on=key, how="semi", nulls_equal=True)["row"] + 1
            shown = " and ".join(f"{row}" for row in rows.head(3))
            problems.append(f"table '{name}' has {first} more than once (rows {shown}). Keep one row.")
    return problems


def _arms_known(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    subjects = tables.get("subjects")
    if subjects is None or not subjects.height:
        return []
    names = [arm.name for arm in protocol.arms]
    wrong = subjects.filter(pl.col("arm").is_not_null() & ~pl.col("arm").is_in(names)).unique(
        "arm", maintain_order=True
    )
    problems = [
        f"table 'subjects', subject '{row['subject']}', is in the arm '{_shown(row['arm'])}', "
        f"which the protocol has not. {near(row['arm'], names)}"
        for row in wrong.head(5).iter_rows(named=True)
    ]
    if subjects["arm"].null_count() == subjects.height:
        problems.append(
            f"nobody in the table 'subjects' has an arm: no one was randomised. Fill in the column 'arm' with {' or '.join(names)}."
        )
    return problems


def _people_known(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    if "subjects" not in tables:
        return []
    known = tables["subjects"]["subject"].drop_nulls()
    problems = []
    for name, table in tables.items():
        strangers = table.filter(pl.col("subject").is_not_null() & ~pl.col("subject").is_in(known.implode()))["subject"]
        if len(strangers):
            problems.append(
                f"table '{name}' speaks of subject '{_shown(strangers[0])}', who is not in the table 'subjects'"
                f"{f' (and of {strangers.n_unique() - 1:,} others)' if strangers.n_unique() > 1 else ''}."
            )
    return problems


def _times_possible(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    problems = []
    if "subjects" in tables:
        enrolled = pl.col("enrolled").dt.year()
        odd = tables["subjects"].filter((enrolled < FIRST_YEAR) | (enrolled > LAST_YEAR))
        for row in odd.head(1).iter_rows(named=True):
            problems.append(
                f"table 'subjects', subject '{row['subject']}', enrolled on {row['enrolled']}: "
                f"a year from {FIRST_YEAR} to {LAST_YEAR} is possible. Is that a slip?"
            )
    for name, table in tables.items():
        for column in (one for one in ("day", "until") if one in table.columns):
            far = table.filter(pl.col(column).abs() > LONGEST_STUDY)
            for row in far.head(1).iter_rows(named=True):
                problems.append(
                    f"table '{name}', subject '{row['subject']}', has the {column} {row[column]:,}, "
                    f"which is more than {LONGEST_STUDY:,} days away. Is it a date, or a slip?"
                )
    return problems


def _statuses_known(tables: Mapping[str, pl.DataFrame], protocol: Protocol) -> list[str]:
    readings = tables.get("readings")
    if readings is None:
        return []
    wrong = readings.filter(pl.col("status").is_not_null() & ~pl.col("status").is_in(list(STATUSES)))
    problems = [
        f"table 'readings', subject '{row['subject']}', has the status '{_shown(row['status'])}'. {near(row['status'], STATUSES)}"
        for row in wrong.head(1).iter_rows(named=True)
    ]
    for row in (
        readings.filter((pl.col("status") == "not done") & pl.col("value").is_not_null()).head(1).iter_rows(named=True)
    ):
        problems.append(
            f"table 'readings', subject '{row['subject']}', has the value {row['value']:g} and the status 'not done'. Keep one."
        )
    return problems


def _shown(value: str) -> str:
    return value if len(value) <= 60 else value[:57] + "…"

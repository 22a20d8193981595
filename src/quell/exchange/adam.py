"""A study in CDISC ADaM data sets, mapped to quell's tables by the protocol's ``[source]``.

ADaM names (USUBJID, AVAL, CNSR, SAFFL) are spoken here and nowhere else. Source: CDISC ADaM Implementation Guide 1.1.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import polars as pl

from quell.bounded import read_csv
from quell.cells import DATE, DAY, NUMBER, TEXT, converted
from quell.exchange import dataset_json
from quell.parquet import read_parquet
from quell.promises import Occurrences, Readings, Source
from quell.protocol import Protocol
from quell.sentences import near
from quell.study import Study
from quell.tables import TABLES, TableError, canonical, check

SUBJECT = "USUBJID"
READERS = {
    ".json": lambda path: dataset_json.read(path)[0],
    ".ndjson": lambda path: dataset_json.read(path)[0],
    ".dsjc": lambda path: dataset_json.read(path)[0],
    ".parquet": read_parquet,
    ".csv": read_csv,
}

# Where a quell name is usually found in the subject-level data set; source.columns says otherwise, by the same names.
USUAL = {
    "site": ("SITEID",),
    "enrolled": ("TRTSDT", "RANDDT", "RFSTDTC"),
    "treated": ("SAFFL",),
    "completed treatment": ("EOTSTT", "EOSSTT"),
}
REASONS = ("DCTREAS", "DCSREAS", "DCDECOD")


def read_adam(folder: pathlib.Path, protocol: Protocol) -> Study:
    """A Study from ADaM data sets in Dataset-JSON, Parquet or CSV.

    Raises TableError or FileError in sentences: a data set or column that is absent, an arm without a mapping, a
    condition that no row meets, a subject or visit that comes twice.
    """
    source = protocol.source
    if source is None:
        raise TableError(f"the protocol '{protocol.name}' does not say how to read ADaM. Add a [source] to it.")
    datasets = _Datasets(folder)
    people = datasets[source.subjects]
    _once(people, (SUBJECT,), source.subjects)
    subjects = _subjects(people, source, protocol)
    begun = [_readings(datasets[one.dataset], one, protocol) for one in source.readings]
    times = [_times(datasets[one.dataset], one) for one in source.events]
    tables = {
        "subjects": subjects,
        "milestones": _milestones(people, subjects, source),
        "readings": _together("readings", begun),
        "events": _together("events", [time.filter("happened") for time in times]),
        "followed": _together("followed", [time.rename({"day": "until"}) for time in times]),
        "sets": _sets(people, protocol),
    }
    ready = {name: canonical(name, table.select(_kept(name, table))) for name, table in tables.items()}
    problems = check(ready, protocol)
    if problems:
        raise TableError("\n".join(problems))
    return Study(protocol=protocol.name, tables=ready, origin=f"ADaM data sets in {folder.name}")


def _kept(name: str, table: pl.DataFrame) -> list[str]:
    return [column for column in table.columns if TABLES[name].open or column in TABLES[name].columns]


def _together(name: str, tables: list[pl.DataFrame]) -> pl.DataFrame:
    parts = [canonical(name, table.select(_kept(name, table))) for table in tables]
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict(TABLES[name].columns))


class _Datasets(Mapping[str, pl.DataFrame]):
    """The data sets of a folder by name, whatever their form and case, each read once."""

    def __init__(self, folder: pathlib.Path) -> None:
        if not folder.is_dir():
            raise TableError(f"{folder} is not a folder. Name the folder that holds the ADaM data sets.")
        order = list(READERS)
        there = [entry for entry in sorted(folder.iterdir()) if entry.suffix.lower() in READERS]
        there.sort(key=lambda entry: order.index(entry.suffix.lower()), reverse=True)
        self.folder, self.files = folder, {entry.stem.lower(): entry for entry in there}
        self.read: dict[str, pl.DataFrame] = {}

    def __getitem__(self, name: str) -> pl.DataFrame:
        path = self.files.get(name.lower())
        if path is None:
            raise TableError(
                f"{self.folder} has no data set '{name}' ({', '.join(READERS)}). {near(name, sorted(self.files))}"
            )
        if name not in self.read:
            frame = READERS[path.suffix.lower()](path)
            if SUBJECT not in frame.columns:
                raise TableError(f"data set '{name}' lacks the column '{SUBJECT}': it is not about subjects.")
            self.read[name] = frame
        return self.read[name]

    def __iter__(self):
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


# -- columns ---------------------------------------------------------------------------------------------------------
def _column(frame: pl.DataFrame, column: str, dataset: str) -> pl.Series:
    if column not in frame.columns:
        raise TableError(f"data set '{dataset}' lacks the column '{column}'. {near(column, frame.columns)}")
    return frame[column]


def _value(frame: pl.DataFrame, column: str, dataset: str, kind: pl.DataType) -> pl.Series:
    """One column in a type of quell's, raising a sentence at the first value that does not fit."""
    problems: list[str] = []
    given = _column(frame, column, dataset)
    if kind == DATE and given.dtype == pl.String:
        given = given.str.slice(0, 10)
    found = converted(given.cast(pl.String), kind, f"data set '{dataset}'", problems)
    if problems:
        raise TableError(problems[0])
    return found


def _matching(frame: pl.DataFrame, where: Mapping[str, str], dataset: str) -> pl.DataFrame:
    """The rows that meet every condition; raises TableError at the first condition that none meets."""
    for column, wanted in where.items():
        given = _column(frame, column, dataset)
        given = given.cast(pl.String).fill_null("")
        if frame[column].dtype.is_float():
            given = given.str.strip_suffix(".0")
        kept = frame.filter(given == wanted)
        if not kept.height:
            raise TableError(
                f"no row of data set '{dataset}' has {column} = '{wanted}'. {near(wanted, given.unique().sort().to_list())}"
            )
        frame = kept
    return frame


def _once(frame: pl.DataFrame, key: tuple[str, ...], dataset: str) -> None:
    twice = frame.filter(pl.struct(key).is_duplicated())
    if twice.height:
        first = " and ".join(f"{part} '{twice[part][0]}'" for part in key)
        raise TableError(
            f"data set '{dataset}' has {twice.filter(pl.struct(key) == pl.struct(key).first()).height} rows with {first}. "
            "Add a condition under 'where' that keeps one, such as ANL01FL = \"Y\"."
        )


# -- tables ----------------------------------------------------------------------------------------------------------
def _subjects(people: pl.DataFrame, source: Source, protocol: Protocol) -> pl.DataFrame:
    """Everybody in the subject-level data set; the arm is empty where it stands for nobody randomised."""
    name = source.subjects
    arms = source.arms or {arm.name: arm.name for arm in protocol.arms}
    given = _column(people, source.arm, name).cast(pl.String).fill_null("")
    failed = given.str.to_lowercase().is_in(
        ["", "screen failure", "not assigned", "not treated", "scrnfail", "notassgn"]
    )
    if "ITTFL" in people.columns:
        failed = failed | (people["ITTFL"].fill_null("") == "N")
    unknown = given.filter(~failed & ~given.is_in(list(arms)))
    if len(unknown):
        raise TableError(
            f"data set '{name}', column '{source.arm}', has '{unknown[0]}', which source.arms does not map. "
            f'{near(unknown[0], arms)} Write source.arms = {{ "{unknown[0]}" = "<arm>" }}.'
        )
    arm = given.replace_strict(arms, default=None, return_dtype=pl.String)
    columns = {
        "subject": _value(people, SUBJECT, name, TEXT),
        "site": _usual(people, source, "site", TEXT),
        "arm": arm.set(failed, None),
        "enrolled": _usual(people, source, "enrolled", DATE),
    }
    further = {quell: column for quell, column in source.columns.items() if quell not in USUAL}
    for quell, column in further.items():
        columns[quell] = _column(people, column, name)
    found = pl.DataFrame([series.alias(column) for column, series in columns.items()])
    return found.with_columns(pl.col(words).cast(pl.String) for words in protocol.categories if words in found.columns)


def _usual(people: pl.DataFrame, source: Source, quell: str, kind: pl.DataType) -> pl.Series:
    """The column that source.columns names for a quell name, else the usual one; missing where there is none."""
    if quell in source.columns:
        return _value(people, source.columns[quell], source.subjects, kind)
    for column in USUAL[quell]:
        if column in people.columns:
            return _value(people, column, source.subjects, kind)
    return pl.Series(quell, [None] * people.height, dtype=kind)


def _milestones(people: pl.DataFrame, subjects: pl.DataFrame, source: Source) -> pl.DataFrame:
    """The way through the trial, as far as the subject-level data set tells it, dated so that ``as_of`` can cut it."""
    who, entered = subjects["subject"], subjects["arm"].is_not_null()
    nothing = pl.Series([None] * len(who), dtype=pl.String)
    first, last = pl.Series([1] * len(who), dtype=DAY), _last_day(people, subjects, source)
    steps = [("screened", ~entered | entered, last.clear(len(who)), nothing), ("randomised", entered, first, nothing)]
    treated = _reached(people, source, "treated")
    if treated is not None:
        steps.append(("treated", treated & entered, first, nothing))
    completed = _reached(people, source, "completed treatment")
    if completed is not None:
        reason = next((people[column].cast(pl.String) for column in REASONS if column in people.columns), nothing)
        steps.append(("completed treatment", completed & entered, last, reason.set(completed, None)))
    return pl.concat(
        pl.DataFrame({"subject": who, "milestone": step, "reached": reached, "day": day, "reason": reason}).filter(
            pl.lit(step == "screened") | entered
        )
        for step, reached, day, reason in steps
    )


def _last_day(people: pl.DataFrame, subjects: pl.DataFrame, source: Source) -> pl.Series:
    """The study day of the last dose; missing where a date is."""
    if "TRTEDT" not in people.columns:
        return pl.Series([None] * people.height, dtype=DAY)
    last = _value(people, "TRTEDT", source.subjects, DATE)
    return (last - subjects["enrolled"]).dt.total_days().cast(DAY) + 1


def _reached(people: pl.DataFrame, source: Source, milestone: str) -> pl.Series | None:
    """Who reached a milestone: a flag of Y, or a status of COMPLETED; None where nothing tells."""
    named = source.columns.get(milestone)
    column = named or next((one for one in USUAL[milestone] if one in people.columns), None)
    if column is None:
        return None
    given = _column(people, column, source.subjects).cast(pl.String).fill_null("").str.to_uppercase()
    known = ["Y", "N", "", "COMPLETED", "DISCONTINUED", "ONGOING"]
    odd = given.filter(~given.is_in(known))
    if len(odd):
        raise TableError(
            f"data set '{source.subjects}', column '{column}', has '{odd[0]}'. {near(odd[0], known[:1] + known[3:])}"
        )
    return given.is_in(["Y", "COMPLETED"])


def _study_day(day: pl.Series) -> pl.Series:
    """ADaM counts day -1, then day 1; quell has a day 0 between them, so that days can be subtracted."""
    return pl.select(pl.when(day < 0).then(day + 1).otherwise(day).alias("day")).to_series()


def _readings(frame: pl.DataFrame, source: Readings, protocol: Protocol) -> pl.DataFrame:
    """One quantity at its visits; where the baseline visit has no row of its own, the baseline column gives it."""
    name = source.dataset
    rows = _matching(frame, source.where, name)
    _column(rows, source.visit, name)
    _once(rows, (SUBJECT, source.visit), name)
    day = pl.Series([None] * rows.height, dtype=DAY)
    if source.day in rows.columns:
        day = _study_day(_value(rows, source.day, name, DAY))
    found = pl.DataFrame(
        {
            "subject": rows[SUBJECT].cast(pl.String),
            "visit": _visits(_value(rows, source.visit, name, TEXT), protocol),
            "day": day,
            "value": _value(rows, source.value, name, NUMBER),
        }
    )
    begun = _baselines(rows, found, source, protocol)
    both = pl.concat([found, begun], how="diagonal").with_columns(
        quantity=pl.lit(source.quantity),
        location=pl.lit(source.location),
        unit=pl.lit(_unit(source.quantity, protocol)),
    )
    return both.with_columns(
        status=pl.when(pl.col("value").is_null()).then(pl.lit("not done")).otherwise(pl.lit("measured"))
    )


def _visits(given: pl.Series, protocol: Protocol) -> pl.Series:
    """Visits by the protocol's spelling of their names, where only the case differs."""
    spelled = {visit.name.lower(): visit.name for visit in protocol.visits}
    return pl.Series("visit", [spelled.get(one.lower(), one) if one else one for one in given], dtype=pl.String)


def _baselines(rows: pl.DataFrame, found: pl.DataFrame, source: Readings, protocol: Protocol) -> pl.DataFrame:
    """The baseline of those without a row at the baseline visit."""
    visit = protocol.baseline.name
    empty = found.head(0)
    if not source.baseline or source.baseline not in rows.columns:
        if visit in found["visit"]:
            return empty
        raise TableError(
            f"data set '{source.dataset}' has no baseline of '{source.quantity}': neither the column "
            f"'{source.baseline}' nor rows at the visit '{visit}'. {near(source.baseline, rows.columns)}"
        )
    base = found.select("subject", value=_value(rows, source.baseline, source.dataset, NUMBER))
    differing = base.drop_nulls().group_by("subject").agg(pl.col("value").n_unique()).filter(pl.col("value") > 1)
    if differing.height:
        raise TableError(
            f"data set '{source.dataset}' gives subject '{differing['subject'][0]}' more than one {source.baseline}. "
            "Add a condition under 'where' that keeps one kind of reading."
        )
    at_visit = found.filter(pl.col("visit") == visit).select("subject")
    lacking = base.drop_nulls().unique("subject", maintain_order=True).join(at_visit, on="subject", how="anti")
    return lacking.with_columns(visit=pl.lit(visit))


def _unit(quantity: str, protocol: Protocol) -> str | None:
    units = [endpoint.unit for endpoint in protocol.endpoints if endpoint.quantity == quantity and endpoint.unit]
    return units[0] if units else None


def _times(frame: pl.DataFrame, source: Occurrences) -> pl.DataFrame:
    """Time to one kind of event in days from the first dose, counted as day 1; CNSR 0 is an event, others censored."""
    name = source.dataset
    rows = _matching(frame, source.where, name)
    _once(rows, (SUBJECT,), name)
    if "AVALU" in rows.columns:
        units = rows["AVALU"].cast(pl.String).drop_nulls().str.to_uppercase().unique().to_list()
        odd = [unit for unit in units if unit not in ("DAY", "DAYS", "")]
        if odd:
            raise TableError(
                f"data set '{name}' counts '{source.event}' in {str(odd[0]).lower()}; quell needs days. Convert it."
            )
    censored = _value(rows, source.censored, name, NUMBER)
    if censored.null_count():
        who = rows[SUBJECT].filter(censored.is_null())[0]
        raise TableError(f"data set '{name}' does not say whether '{who}' was censored ({source.censored} is empty).")
    reasons = "EVNTDESC" if "EVNTDESC" in rows.columns else None
    return pl.DataFrame(
        {
            "subject": rows[SUBJECT].cast(pl.String),
            "event": [source.event] * rows.height,
            "day": _study_day(_value(rows, source.time, name, DAY)),
            "happened": censored == 0,
            "reason": rows[reasons].cast(pl.String) if reasons else pl.Series([None] * rows.height, dtype=pl.String),
        }
    )


def _sets(people: pl.DataFrame, protocol: Protocol) -> pl.DataFrame:
    """Who is in each of the protocol's sets, by the flags that define it."""
    source = protocol.source.subjects if protocol.source else ""
    found = [pl.DataFrame(schema=dict(TABLES["sets"].columns))]
    for one in protocol.sets:
        if one.flags:
            members = _matching(people, one.flags, source)[SUBJECT].cast(pl.String)
            found.append(pl.DataFrame({"subject": members, "set": [one.name] * len(members)}))
    return pl.concat(found)

"""What a trial recorded: columnar tables with declared columns. There is no column for the truth.

A Study is the same whether its people were virtual or real. ``columns`` lays it out as arrays by subject, which is
all that analysis ever sees; ``as_of`` is the study as it stood on a calendar day.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import polars as pl

from quell.protocol import STANDARD_SETS, Protocol
from quell.sentences import BadInput, near
from quell.tables import TABLES, TableError, canonical, check, read_folder, write_folder


class StudyError(BadInput):
    """A study that cannot be used, in sentences."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """A study as arrays by subject, with any number of leading axes for trials: all that analysis sees.

    Every array has shape (..., subjects); a missing number is NaN, an event that did not happen is inf.
    """

    arms: tuple[str, ...]
    arm: np.ndarray  # index into arms; -1 for nobody's place
    sets: Mapping[str, np.ndarray]  # who is in each analysis set, boolean
    readings: Mapping[tuple[str, str, str], np.ndarray]  # (quantity, location, visit) to values
    covariates: Mapping[str, np.ndarray]
    factors: Mapping[str, np.ndarray]  # integer codes, -1 missing
    levels: Mapping[str, tuple[str, ...]]  # what the codes of a factor mean
    events: Mapping[str, np.ndarray]  # study day of the first of each kind
    followed: Mapping[str, np.ndarray]  # study day until which known; "" for every kind of event
    # every day of each kind of event, (..., subjects, most that anybody had), inf where there are fewer
    occurrences: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    stopped: np.ndarray | None = None  # study day on which treatment was stopped early; inf where it was not
    visited: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # visit to study day; NaN unknown

    def reading(self, quantity: str, location: str, visit: str) -> np.ndarray:
        """One quantity at one visit; raises StudyError where the study never recorded it."""
        found = self.readings.get((quantity, location, visit))
        if found is None:
            there = sorted({_where(*key) for key in self.readings})
            raise StudyError(
                f"the study has no readings of {_where(quantity, location, visit)}. {near(_where(quantity, location, visit), there)}"
            )
        return found

    def every(self, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """All days of these events, (..., subjects, most), inf where there are fewer; and until when each was followed."""
        never = np.full((*self.arm.shape, 1), np.inf)
        days = np.concatenate([self.occurrences.get(kind, never) for kind in kinds], axis=-1)
        until = self.until(kinds)
        kept = np.where(days <= until[..., None], days, np.inf)
        return np.sort(kept, axis=-1), np.where(np.isfinite(until), until, np.nan)

    def until(self, kinds: tuple[str, ...]) -> np.ndarray:
        """Until which study day each person is known for these events. Raises StudyError where nobody is."""
        ends = [self.followed[kind] for kind in kinds if kind in self.followed]
        until = np.min(ends, axis=0) if ends else self.followed.get("", np.full(self.arm.shape, np.inf))
        if not np.isfinite(until).any():
            raise StudyError("the study does not say until when anybody was followed. Give the table 'followed'.")
        return until

    def first(self, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Time in whole days and whether it ended with one of these events: the first of a composite."""
        never = np.full(self.arm.shape, np.inf)
        day = np.min([self.events.get(kind, never) for kind in kinds], axis=0)
        until = self.until(kinds)
        happened = np.isfinite(day) & ((day <= until) | ~np.isfinite(until))
        known = np.where(np.isfinite(until), until, np.nan)  # without an event, nothing says until when they were seen
        return np.where(happened, day, known), happened


def _where(quantity: str, location: str, visit: str) -> str:
    return f"{quantity}{f' of the {location}' if location else ''} at {visit}"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One trial's record: the protocol's name, the tables, and where they came from."""

    protocol: str
    tables: Mapping[str, pl.DataFrame]
    origin: str = ""

    def __getitem__(self, name: str) -> pl.DataFrame:
        """A table by name; an optional one that is absent is empty."""
        if name in self.tables:
            return self.tables[name]
        if name not in TABLES:
            raise StudyError(f"a study has no table '{name}'. {near(name, TABLES)}")
        return pl.DataFrame(schema=dict(TABLES[name].columns))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Study) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """SHA-256 of the tables' contents (rows in key order), first 16 hexadecimal digits."""
        found = hashlib.sha256(self.protocol.encode())
        for name in sorted(self.tables):
            table = canonical(name, self[name]).sort([k for k in TABLES[name].key if k in self[name].columns])
            found.update(name.encode() + table.select(sorted(table.columns)).write_csv(float_precision=9).encode())
        return found.hexdigest()[:16]

    @staticmethod
    def read(folder: str | pathlib.Path, protocol: Protocol) -> Study:
        """A study from a folder of quell's own tables. Raises TableError with every problem, a sentence a line."""
        folder = pathlib.Path(folder)
        tables = read_folder(folder, words=protocol.categories)
        problems = check(tables, protocol)
        if problems:
            raise TableError("\n".join(problems))
        return Study(protocol=protocol.name, tables=tables, origin=f"tables in {folder.name}")

    def write(self, folder: str | pathlib.Path, form: Literal["csv", "parquet"] = "csv") -> None:
        """Write the tables and a manifest; ``read`` gives an equal study back."""
        write_folder(self.tables, pathlib.Path(folder), form, protocol=self.protocol, digest=self.digest)

    def masked(self) -> Study:
        """The study as those see it who must not know: arms have letters, doses no amounts.

        Letters follow the order in which arms first appear, which says nothing of which is which.
        """
        letters = {
            arm: f"arm {chr(65 + i)}" for i, arm in enumerate(self.randomised["arm"].unique(maintain_order=True))
        }
        subjects = self["subjects"].with_columns(pl.col("arm").replace(letters))
        doses = self["doses"].with_columns(amount=pl.lit(None, dtype=pl.Float64))
        return dataclasses.replace(self, tables={**self.tables, "subjects": subjects, "doses": doses})

    @property
    def randomised(self) -> pl.DataFrame:
        return self["subjects"].filter(pl.col("arm").is_not_null())

    def as_of(self, day: datetime.date) -> Study:
        """The study as known at the end of a calendar day: nothing later, and nobody enrolled later."""
        subjects = self["subjects"].filter(pl.col("enrolled") <= day)
        known = subjects.select("subject", limit=(pl.lit(day) - pl.col("enrolled")).dt.total_days().cast(pl.Int32) + 1)
        tables = {name: _until(table, known) for name, table in self.tables.items() if name != "subjects"}
        return dataclasses.replace(self, tables={"subjects": subjects} | tables)

    def columns(self, protocol: Protocol) -> Columns:
        """The people randomised, as arrays, in the order of the subjects table."""
        subjects = self.randomised
        names = [arm.name for arm in protocol.arms]
        unknown = set(subjects["arm"].unique()) - set(names)
        if unknown:
            raise StudyError(
                f"the study has the arm '{min(unknown)}', which the protocol has not. {near(min(unknown), names)}"
            )
        order = subjects["subject"]
        covariates, factors, levels = _baseline(subjects)
        return Columns(
            arms=tuple(names),
            arm=np.array([names.index(arm) for arm in subjects["arm"]], dtype=int),
            sets=_memberships(self, order, protocol),
            readings=_readings(self["readings"], order),
            covariates=covariates,
            factors=factors,
            levels=levels,
            events=_days_of(self["events"], order, "event", "day"),
            followed=_days_of(self["followed"].with_columns(pl.col("event").fill_null("")), order, "event", "until"),
            occurrences=_all_days(self["events"], order),
            stopped=_stopped(self["milestones"], order),
            visited=_visited(self["readings"], order),
        )


def _until(table: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Rows of people known by then, dated by then; follow-up and milestones are cut, not dropped, at that day."""
    rows = table.join(known, on="subject", how="inner", maintain_order="left")
    if "until" in table.columns:
        cut = pl.col("until") > pl.col("limit")
        rows = rows.with_columns(
            until=pl.min_horizontal("until", "limit"),
            reason=pl.when(cut).then(pl.lit("still followed")).otherwise("reason"),
        )
    elif "day" in table.columns:
        rows = rows.filter(pl.col("day").is_null() | (pl.col("day") <= pl.col("limit")))
    return rows.drop("limit")


def _place(order: pl.Series, subjects: pl.Series) -> np.ndarray:
    """The position of each row's subject in the order; -1 for somebody else."""
    position = pl.DataFrame({"subject": order, "at": np.arange(len(order))})
    found = pl.DataFrame({"subject": subjects}).join(position, on="subject", how="left", maintain_order="left")
    return found["at"].fill_null(-1).to_numpy()


def _readings(table: pl.DataFrame, order: pl.Series) -> dict[tuple[str, str, str], np.ndarray]:
    found: dict[tuple[str, str, str], np.ndarray] = {}
    rows = table.select(
        pl.col("quantity"),
        pl.col("location").fill_null(""),
        pl.col("visit").fill_null(""),
        pl.col("value").cast(pl.Float64).fill_null(np.nan),
        at=pl.Series(_place(order, table["subject"]), dtype=pl.Int64),
    ).filter(pl.col("at") >= 0)
    for quantity, location, visit, value, at in (
        rows.group_by("quantity", "location", "visit", maintain_order=True).agg("value", "at").rows()
    ):
        values = np.full(len(order), np.nan)
        values[at] = value
        found[quantity, location, visit] = values
    return found


def _days_of(table: pl.DataFrame, order: pl.Series, kind: str, day: str) -> dict[str, np.ndarray]:
    """The first day of each kind, by subject; inf where there is none."""
    found: dict[str, np.ndarray] = {}
    for (name,), rows in table.drop_nulls(day).group_by(kind, maintain_order=True):
        first = rows.group_by("subject", maintain_order=True).agg(pl.col(day).min())
        values = np.full(len(order), np.inf)
        at = _place(order, first["subject"])
        values[at[at >= 0]] = first[day].to_numpy()[at >= 0]
        found[str(name)] = values
    return found


def _all_days(table: pl.DataFrame, order: pl.Series) -> dict[str, np.ndarray]:
    """Every day of each kind of event, (subjects, most), rising; inf where there are fewer."""
    found: dict[str, np.ndarray] = {}
    for (name,), rows in table.drop_nulls("day").group_by("event", maintain_order=True):
        rows = rows.sort("day").with_columns(number=pl.int_range(pl.len()).over("subject"))
        at, number = _place(order, rows["subject"]), rows["number"].to_numpy()
        values = np.full((len(order), int(number.max()) + 1), np.inf)
        values[at[at >= 0], number[at >= 0]] = rows["day"].to_numpy()[at >= 0]
        found[str(name)] = values
    return found


def _stopped(milestones: pl.DataFrame, order: pl.Series) -> np.ndarray | None:
    """The day on which each person's treatment ended before its time; None where the record does not say."""
    rows = milestones.filter(pl.col("milestone") == "completed treatment")
    if not rows.height:
        return None
    early = rows.filter(~pl.col("reached")).drop_nulls("day")
    values, at = np.full(len(order), np.inf), _place(order, early["subject"])
    values[at[at >= 0]] = early["day"].to_numpy()[at >= 0]
    return values


def _visited(readings: pl.DataFrame, order: pl.Series) -> dict[str, np.ndarray]:
    """The study day of each visit, by subject; NaN where it is not known."""
    rows = (
        readings.drop_nulls(["visit", "day"]).group_by("visit", "subject", maintain_order=True).agg(pl.col("day").min())
    )
    found: dict[str, np.ndarray] = {}
    for (visit,), these in rows.group_by("visit", maintain_order=True):
        values, at = np.full(len(order), np.nan), _place(order, these["subject"])
        values[at[at >= 0]] = these["day"].to_numpy()[at >= 0]
        found[str(visit)] = values
    return found


def _memberships(study: Study, order: pl.Series, protocol: Protocol) -> dict[str, np.ndarray]:
    found = {"randomised": np.ones(len(order), dtype=bool)}
    milestones, sets = study["milestones"], study["sets"]
    for name in STANDARD_SETS[1:]:
        reached = milestones.filter((pl.col("milestone") == name) & pl.col("reached"))["subject"]
        if name in milestones["milestone"]:
            found[name] = np.isin(order.to_numpy(), reached.to_numpy())
    for name in (one.name for one in protocol.sets):
        members = sets.filter(pl.col("set") == name)["subject"]
        found[name] = np.isin(order.to_numpy(), members.to_numpy())
    return found


def _baseline(
    subjects: pl.DataFrame,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Numbers as covariates; words, flags and sites as factors coded in sorted order."""
    covariates: dict[str, np.ndarray] = {}
    factors: dict[str, np.ndarray] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for name in subjects.columns:
        if name in ("subject", "arm", "enrolled"):
            continue
        column: Any = subjects[name]
        if column.dtype.is_numeric():
            covariates[name] = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
        else:
            words = column.cast(pl.String)
            levels[name] = tuple(sorted(words.drop_nulls().unique().to_list()))
            code = {word: index for index, word in enumerate(levels[name])}
            factors[name] = np.array([code.get(word, -1) for word in words], dtype=int)
    return covariates, factors, levels

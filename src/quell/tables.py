"""The declared tables of a study, and how they are read from files that may be hostile: bounded, never executed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import polars as pl


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The declared columns of one table; ``key`` names those that identify a row."""

    name: str
    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    open: bool = False  # whether further columns (covariates) are allowed


_TEXT, _DAY, _NUMBER, _FLAG, _DATE = pl.String(), pl.Int32(), pl.Float64(), pl.Boolean(), pl.Date()

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        # everybody screened; arm is empty for those never randomised; further columns are baseline covariates
        Table(
            name="subjects",
            columns={"subject": _TEXT, "site": _TEXT, "arm": _TEXT, "enrolled": _DATE},
            key=("subject",),
            open=True,
        ),
        # the way through the trial: screened, eligible, randomised, treated, completed treatment, followed up
        Table(
            name="milestones",
            columns={"subject": _TEXT, "milestone": _TEXT, "reached": _FLAG, "day": _DAY, "reason": _TEXT},
            key=("subject", "milestone"),
        ),
        Table(
            name="doses",
            columns={"subject": _TEXT, "day": _DAY, "drug": _TEXT, "amount": _NUMBER, "unit": _TEXT, "given": _FLAG},
            key=("subject", "drug", "day"),
        ),
        # status: measured, below limit (value is half the limit), not done (value is empty)
        Table(
            name="readings",
            columns={
                "subject": _TEXT,
                "visit": _TEXT,
                "day": _DAY,
                "quantity": _TEXT,
                "location": _TEXT,
                "value": _NUMBER,
                "unit": _TEXT,
                "status": _TEXT,
            },
            key=("subject", "visit", "quantity", "location"),
        ),
        Table(name="events", columns={"subject": _TEXT, "event": _TEXT, "day": _DAY}, key=("subject", "event", "day")),
        # until when each person is known, for every kind of event (event empty) or for one
        Table(
            name="followed",
            columns={"subject": _TEXT, "event": _TEXT, "until": _DAY, "reason": _TEXT},
            key=("subject", "event"),
        ),
        Table(name="sets", columns={"subject": _TEXT, "set": _TEXT}, key=("subject", "set")),
    )
}

OPTIONAL = ("milestones", "doses", "events", "followed", "sets", "readings")

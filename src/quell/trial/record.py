"""From what happened to what was recorded: the same arrays become analysis columns at once, or a Study's tables.

What is missing is missing here: visits not kept, scans that failed, everything after leaving, death or being lost.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from quell.body.population import COVARIATES
from quell.measure import assay
from quell.protocol import Protocol
from quell.study import Columns, Study
from quell.tables import TABLES
from quell.trial.attend import Followed
from quell.trial.plan import DEATHS, EVENTS, Plan, lay_out, unit_of
from quell.trial.recruit import Enrolled

# What a patient knows about each covariate, at the precision of a case report form.
DECIMALS = {"age": 0, "bmi": 1, "ldl": 2, "troponin": 0, "grace": 0, "days_since_infarction": 0, "body_surface_area": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records:
    """One or more trials as arrays of shape (trials, people, ...): no column for the truth."""

    protocol: Protocol
    enrolled: Enrolled
    covariates: Mapping[str, np.ndarray]
    readings: Mapping[tuple[str, str, str], np.ndarray]
    visit_day: np.ndarray
    present: np.ndarray  # (trials, people, visits) whether the visit was kept
    given: np.ndarray  # (trials, people, dose days) MIU
    offered: np.ndarray  # whether the person was still there for each dose day
    events: Mapping[str, np.ndarray]  # study days, (trials, people, occurrences)
    until: np.ndarray
    leaves: np.ndarray
    death: np.ndarray
    treated: np.ndarray
    completed: np.ndarray
    joined: np.ndarray

    @property
    def trials(self) -> int:
        return len(self.until)

    def columns(self) -> Columns:
        """All trials at once, as analysis sees them; equal, trial by trial, to ``study(k).columns(protocol)``."""
        words, numbers, levels = {}, {}, {}
        for name, values in self.covariates.items():
            if values.dtype.kind in "fi":
                numbers[name] = values
            else:
                levels[name] = tuple(sorted(set(values.ravel().tolist())))
                words[name] = np.searchsorted(np.array(levels[name]), values)
        return Columns(
            arms=tuple(arm.name for arm in self.protocol.arms),
            arm=self.enrolled.arm,
            sets={
                "randomised": np.ones(self.until.shape, dtype=bool),
                "treated": self.treated,
                "completed treatment": self.completed,
                "followed up": self.joined,
            },
            readings=self.readings,
            covariates=numbers,
            factors=words,
            levels=levels,
            events={kind: days.min(axis=-1) for kind, days in self.events.items()},
            followed={"": self.until},
            occurrences=dict(self.events),
            stopped=np.where(self.completed, np.inf, np.minimum(self.leaves, self.death)),
            visited={
                visit.name: np.where(self.present[..., v], self.visit_day[..., v], np.nan)
                for v, visit in enumerate(lay_out(self.protocol).visits)
            },
        )

    def study(self, trial: int = 0) -> Study:
        """One of the trials as tables."""
        who = [f"{self.protocol.name}-{number + 1:04d}" for number in self.enrolled.candidate[trial]]
        tables = {
            "subjects": _subjects(self, trial, who),
            "milestones": _milestones(self, trial, who),
            "doses": _doses(self, trial, who),
            "readings": _readings(self, trial, who),
            "events": _events(self, trial, who),
            "followed": _followed(self, trial, who),
        }
        declared = {name: _as_declared(name, table) for name, table in tables.items()}
        return Study(protocol=self.protocol.name, tables=declared, origin="simulated by quell")


def keep(
    protocol: Protocol, enrolled: Enrolled, followed: Followed, shape: tuple[int, int], *, complete: bool = False
) -> Records:
    """The record of what happened, with everything unseen taken out; ``shape`` is (trials, people).

    ``complete`` keeps what a trial would have missed (after death there is nothing to see): for the truth only.
    """
    plan = lay_out(protocol)
    by_trial = lambda leaf: leaf.reshape(*shape, *leaf.shape[1:])  # noqa: E731 - one line says it
    behaviour = type(followed.behaviour)(*(by_trial(leaf) for leaf in followed.behaviour))
    happened = {kind: _days(getattr(followed.events, field), shape) for kind, field in EVENTS.items()}
    death = np.minimum.reduce([happened[kind].min(axis=-1) for kind in DEATHS])
    completed = (behaviour.leaves > plan.treated_until) & (death > plan.treated_until)
    joined = completed & behaviour.joins if protocol.follow_up else np.zeros(shape, dtype=bool)
    if protocol.follow_up and protocol.follow_up.of == "all randomised":
        joined = behaviour.joins
    until = np.minimum(plan.horizon, death) if complete else _last_known(plan, behaviour, joined, death)
    gone = death if complete else np.minimum(behaviour.leaves, death)
    present = (behaviour.kept | complete) & (behaviour.visit_day < gone[..., None])
    return Records(
        protocol=protocol,
        enrolled=enrolled,
        covariates=_covariates(protocol, enrolled),
        readings=_seen(
            plan,
            {key: by_trial(leaf) for key, leaf in followed.readings.items()},
            present,
            behaviour.scanned | complete,
        ),
        visit_day=behaviour.visit_day,
        present=present,
        given=by_trial(followed.given),
        offered=np.array(plan.dose_days) < np.minimum(behaviour.leaves, death)[..., None],
        events={kind: np.where(days <= until[..., None], days, np.inf) for kind, days in happened.items()},
        until=until,
        leaves=behaviour.leaves,
        death=death,
        treated=(behaviour.taken > 0).any(axis=-1) if plan.dose_days else np.ones(shape, dtype=bool),
        completed=completed,
        joined=joined,
    )


def _days(leaf: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Study days of one kind of event, (trials, people, occurrences)."""
    return np.asarray(leaf).reshape(*shape, -1)


def _last_known(plan: Plan, behaviour: Any, joined: np.ndarray, death: np.ndarray) -> np.ndarray:
    """The last study day on which each person is known, whether or not anything happened."""
    in_trial = np.minimum(behaviour.leaves, plan.seen_until)
    later = np.minimum(behaviour.lost, plan.horizon)
    return np.minimum(np.where(joined, np.maximum(later, in_trial), in_trial), death)


def _seen(
    plan: Plan, readings: Mapping[tuple[str, str, str], np.ndarray], present: np.ndarray, scanned: np.ndarray
) -> dict[tuple[str, str, str], np.ndarray]:
    place = {visit.name: index for index, visit in enumerate(plan.visits)}
    found = {}
    for (quantity, location, visit), values in readings.items():
        there = present[..., place[visit]] & (scanned[..., place[visit]] if location else True)
        found[quantity, location, visit] = np.where(there, values, np.nan)
    return found


def _covariates(protocol: Protocol, enrolled: Enrolled) -> dict[str, np.ndarray]:
    """What a case report form says of each person: words for codes, yes and no, rounded numbers."""
    found: dict[str, np.ndarray] = {"site": np.array(protocol.population.sites)[enrolled.site]}
    for field, (label, _, kind) in COVARIATES.items():
        values = np.asarray(getattr(enrolled.patient, field))
        if kind == "number":
            found[label] = np.round(values, DECIMALS.get(field, 1))
        else:
            words = ("no", "yes") if kind == "yes" else kind
            found[label] = np.array(words)[values.astype(int)]
    return found


# -- tables ----------------------------------------------------------------------------------------------------------
def _as_declared(name: str, table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col(column).cast(kind) for column, kind in TABLES[name].columns.items())


def _date(protocol: Protocol, day: int) -> datetime.date:
    return datetime.date.fromisoformat(protocol.population.start) + datetime.timedelta(days=int(day))


def _failures(records: Records, trial: int) -> list[tuple[str, int]]:
    """Those screened and not enrolled, with the index of the criterion they failed."""
    failed = records.enrolled.failed[trial, : records.enrolled.screened[trial]]
    return [(f"{records.protocol.name}-{i + 1:04d}", int(c)) for i, c in enumerate(failed) if c >= 0]


def _subjects(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    names = [arm.name for arm in records.protocol.arms]
    enrolled = pl.DataFrame(
        {
            "subject": who,
            "arm": [names[code] for code in records.enrolled.arm[trial]],
            "enrolled": [_date(records.protocol, day) for day in records.enrolled.day[trial]],
        }
        | {name: values[trial] for name, values in records.covariates.items()}
    )
    screened_only = pl.DataFrame(
        {"subject": [name for name, _ in _failures(records, trial)]}, schema={"subject": pl.String}
    )
    first = ["subject", "site", "arm", "enrolled"]
    return pl.concat([enrolled, screened_only], how="diagonal").select(*first, pl.exclude(first))


def _milestones(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    plan = lay_out(records.protocol)
    rows: list[tuple[str, str, bool, int | None, str | None]] = []
    criteria = records.protocol.population.eligibility
    for name, criterion in _failures(records, trial):
        rows.append((name, "screened", True, None, None))
        rows.append((name, "eligible", False, None, f"not {criteria[criterion].quantity} {criteria[criterion].rule}"))
    for i, name in enumerate(who):
        screened = int(records.enrolled.screening_day[trial, i])
        leaves, death = records.leaves[trial, i], records.death[trial, i]
        why = "died" if death <= leaves else "left the trial"
        completed, treated = bool(records.completed[trial, i]), bool(records.treated[trial, i])
        rows += [
            (name, "screened", True, screened, None),
            (name, "eligible", True, screened, None),
            (name, "randomised", True, 1, None),
            (name, "treated", treated, 1 if treated else None, None if treated else "no dose given"),
            (
                name,
                "completed treatment",
                completed,
                plan.treated_until if completed else int(min(leaves, death)),
                None if completed else why,
            ),
        ]
        if records.protocol.follow_up:
            joined = bool(records.joined[trial, i])
            reason = None if joined else ("did not complete treatment" if not completed else "did not join")
            rows.append((name, "followed up", joined, plan.seen_until if joined else None, reason))
    return pl.DataFrame(rows, schema=list(TABLES["milestones"].columns), orient="row", infer_schema_length=None)


def _doses(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    """Every dose offered while the person was in the trial; ``given`` is false where it was missed."""
    plan = lay_out(records.protocol)
    drug = next((dose.drug for arm in records.protocol.arms for dose in arm.doses), "")
    planned = np.array(plan.amounts)[records.enrolled.arm[trial]]
    rows = [
        (
            name,
            day,
            drug,
            float(records.given[trial, i, d]),
            "MIU",
            bool(planned[i, d] == 0 or records.given[trial, i, d] > 0),
        )
        for i, name in enumerate(who)
        for d, day in enumerate(plan.dose_days)
        if records.offered[trial, i, d]
    ]
    return pl.DataFrame(rows, schema=list(TABLES["doses"].columns), orient="row", infer_schema_length=None)


def _readings(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    plan = lay_out(records.protocol)
    place = {visit.name: index for index, visit in enumerate(plan.visits)}
    parts = []
    for (quantity, location, visit), values in records.readings.items():
        v = place[visit]
        here = records.present[trial, :, v]
        value = values[trial]
        parts.append(
            pl.DataFrame(
                {
                    "subject": who,
                    "visit": visit,
                    "day": records.visit_day[trial, :, v].astype(int),
                    "quantity": quantity,
                    "location": location,
                    "value": pl.Series(value, nan_to_null=True),
                    "unit": unit_of(quantity),
                    "status": np.where(
                        np.isnan(value), "not done", np.where(_below(quantity, value), "below limit", "measured")
                    ),
                }
            ).filter(here)
        )
    return pl.concat(parts) if parts else pl.DataFrame(schema=dict(TABLES["readings"].columns))


def _below(quantity: str, value: np.ndarray) -> np.ndarray:
    """Whether a value stands for one below the limit of quantification."""
    test = assay.by_name().get(quantity)
    return np.zeros(value.shape, dtype=bool) if test is None else value < test.limit


def _events(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    rows = [
        (who[i], kind, int(day))
        for kind, days in records.events.items()
        for i, each in enumerate(days[trial])
        for day in each
        if np.isfinite(day)
    ]
    return pl.DataFrame(rows, schema=dict(TABLES["events"].columns), orient="row")


def _followed(records: Records, trial: int, who: list[str]) -> pl.DataFrame:
    plan = lay_out(records.protocol)
    until, death, leaves = records.until[trial], records.death[trial], records.leaves[trial]
    end = np.where(records.joined[trial], plan.horizon, plan.seen_until)
    reason = np.where(
        until == death,
        "died",
        np.where(until >= end, "end of follow-up", np.where(until == leaves, "left the trial", "lost")),
    )
    return pl.DataFrame({"subject": who, "event": "", "until": until.astype(int), "reason": reason})

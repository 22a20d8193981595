"""A made-up record in the shape that a trial leaves, for the laws of description and report."""

from __future__ import annotations

import datetime
import math

import numpy as np
import polars as pl

from quell.protocol import Protocol
from quell.study import Study
from quell.tables import TABLES

CELLS = {
    "Treg": ("cells/µL", 55, 0.35, 1.9),
    "Treg %": ("%", 7, 0.25, 1.75),
    "effector T": ("cells/µL", 900, 0.3, 1.05),
    "NK": ("cells/µL", 210, 0.4, 1.1),
    "CD56bright NK": ("cells/µL", 12, 0.4, 2.2),
    "ILC2": ("cells/µL", 0.03, 0.5, 2.0),
    "eosinophils": ("cells/µL", 180, 0.5, 2.2),
    "IL-5": ("pg/mL", 1.2, 0.6, 4.0),
    "IL-6": ("pg/mL", 5.0, 0.8, 0.9),
}
VESSELS = ("ascending aorta", "left carotid", "right carotid")


def ivory(protocol: Protocol, seed: int = 1, screened: int = 110, effect: float = -0.2) -> Study:
    """A trial of the protocol's arms: screening, randomising, dosing, blood, scans, and events where it follows up."""
    rng = np.random.default_rng(seed)
    names = [f"{index + 1:04d}" for index in range(screened)]
    eligible = rng.random(screened) < 0.72
    randomised = eligible & (np.cumsum(eligible) <= protocol.population.planned)
    arms = [arm.name for arm in protocol.arms]
    arm = np.array([arms[index % len(arms)] for index in rng.permutation(screened)], dtype=object)
    arm[~randomised] = None
    treated = randomised & (rng.random(screened) < 0.98)
    completed = treated & (rng.random(screened) < 0.93)
    joined = completed & (rng.random(screened) < 0.92)
    tables = {
        "subjects": _subjects(rng, protocol, names, arm),
        "milestones": _milestones(protocol, rng, names, (eligible, randomised, treated, completed, joined)),
        "readings": _readings(protocol, rng, names, arm, completed, effect),
    }
    if protocol.follow_up:
        tables |= _life(protocol, rng, names, arm, joined)
    return Study(protocol=protocol.name, tables=tables, origin="made up")


def _subjects(rng: np.random.Generator, protocol: Protocol, names: list[str], arm: np.ndarray) -> pl.DataFrame:
    n = len(names)
    start = datetime.date.fromisoformat(protocol.population.start)
    ldl = np.round(rng.lognormal(math.log(2.0), 0.4, n), 2)
    return pl.DataFrame(
        {
            "subject": names,
            "site": rng.choice(protocol.population.sites, n),
            "arm": pl.Series(list(arm), dtype=pl.String),
            "enrolled": [start + datetime.timedelta(days=14 * index) for index in range(n)],
            "age": np.round(np.clip(rng.normal(57, 10, n), 30, 85), 0),
            "female": rng.random(n) < 0.17,
            "BMI": np.round(rng.normal(29.6, 5, n), 1),
            "infarct type": rng.choice(["unstable angina", "NSTEMI", "STEMI"], n, p=[0.03, 0.42, 0.55]),
            "LDL": [None if rng.random() < 0.05 else float(value) for value in ldl],
            "GRACE": np.round(rng.normal(96, 21, n), 0),
            "hypertension": rng.random(n) < 0.95,
            "smoking": rng.choice(["never", "current", "previous"], n),
        }
    )


def _milestones(
    protocol: Protocol, rng: np.random.Generator, names: list[str], reached: tuple[np.ndarray, ...]
) -> pl.DataFrame:
    steps = ["eligible", "randomised", "treated", "completed treatment", "followed up"]
    reasons = {
        "eligible": ["hsCRP not above 2 mg/L", "declined", "active infection"],
        "randomised": ["declined", "trial full"],
        "treated": ["withdrew before the first dose"],
        "completed treatment": ["adverse event", "withdrew consent", "COVID-19 restrictions"],
        "followed up": ["declined follow-up", "moved away"],
    }
    rows = [{"subject": name, "milestone": "screened", "reached": True, "day": -3, "reason": ""} for name in names]
    here = np.ones(len(names), dtype=bool)
    for step, there in zip(steps, reached, strict=True):
        if step == "followed up" and not protocol.follow_up:
            continue
        for index in np.flatnonzero(here):
            reason = "" if there[index] else str(rng.choice(reasons[step]))
            rows.append(
                {
                    "subject": names[index],
                    "milestone": step,
                    "reached": bool(there[index]),
                    "day": 1 if there[index] else None,
                    "reason": reason,
                }
            )
        here = there
    return pl.DataFrame(rows, schema=dict(TABLES["milestones"].columns))


def _readings(
    protocol: Protocol,
    rng: np.random.Generator,
    names: list[str],
    arm: np.ndarray,
    completed: np.ndarray,
    effect: float,
) -> pl.DataFrame:
    rows: list[dict[str, object]] = []
    for index, name in enumerate(names):
        if arm[index] is not None:
            active = 0.0 if arm[index] == protocol.control.name else effect
            rows += _one_person(protocol, rng, name, active, bool(completed[index]))
    return pl.DataFrame(rows, schema=dict(TABLES["readings"].columns))


def _one_person(
    protocol: Protocol, rng: np.random.Generator, name: str, effect: float, completed: bool
) -> list[dict[str, object]]:
    wall, crp, heart = rng.normal(2.3, 0.25, 3), rng.normal(math.log(9), 0.9), rng.normal(52, 8)
    own = {quantity: rng.normal(0, spread) for quantity, (_, _, spread, _) in CELLS.items()}
    rows: list[dict[str, object]] = []
    for visit in protocol.visits:
        day = visit.day + int(rng.integers(visit.window[0], visit.window[1] + 1))
        on = 0.0 if visit.day <= 1 or not effect else 0.6 if visit.day < 10 else 1.0
        found: list[tuple[str, str, float, str]] = []
        if "cells" in visit.procedures:
            for quantity, (unit, median, _, fold) in CELLS.items():
                log = math.log(median) + own[quantity] + on * math.log(fold) + rng.normal(0, 0.15)
                found.append((quantity, "", math.exp(log), unit))
        if "hsCRP" in visit.procedures:
            fall = 1.1 * (1 - math.exp(-max(visit.day, 0) / 20))
            found.append(("hsCRP", "", math.exp(crp - fall + rng.normal(0, 0.4)), "mg/L"))
        if "PET" in visit.procedures:
            seen = wall + rng.normal(0, 0.1, 3) + (on * effect - 0.05 if visit.day > 1 else 0)
            worst = float(seen[int(np.argmax(wall))])
            found += [("TBRmax", vessel, float(value), "1") for vessel, value in zip(VESSELS, seen, strict=True)]
            found.append(("TBRmax", "index vessel", worst, "1"))
            found.append(("TBRmax of active slices", "index vessel", worst + 0.15, "1"))
            found.append(("active slices", "index vessel", max(0.0, float(round(20 * (worst - 1.7)))), "1"))
        if "ejection fraction" in visit.procedures:
            found.append(("ejection fraction", "", heart + (3 if visit.day > 1 else 0) + rng.normal(0, 3), "%"))
        for quantity, location, value, unit in found:
            missed = (visit.day > 30 and not completed) or rng.random() < 0.02
            rows.append(
                {"subject": name, "visit": visit.name, "day": day, "quantity": quantity, "location": location}
                | {"value": None if missed else value, "unit": unit, "status": "not done" if missed else "measured"}
            )
    return rows


def _life(
    protocol: Protocol, rng: np.random.Generator, names: list[str], arm: np.ndarray, joined: np.ndarray
) -> dict[str, pl.DataFrame]:
    events, followed = [], []
    assert protocol.follow_up is not None
    for index in np.flatnonzero(joined):
        rate = 0.13 if arm[index] == protocol.control.name else 0.05
        until = int(rng.integers(900, protocol.follow_up.days))
        for kind, share in zip(protocol.events, (0.15, 0.4, 0.03, 0.1, 0.4, 0.1), strict=False):
            day = 61 + rng.exponential(365 / (rate * share))
            if day < until:
                events.append({"subject": names[index], "event": kind, "day": int(day)})
                if kind.endswith("death"):
                    until = int(day)
        followed.append({"subject": names[index], "event": "", "until": until, "reason": "end of follow-up"})
    return {
        "events": pl.DataFrame(events, schema=dict(TABLES["events"].columns)),
        "followed": pl.DataFrame(followed, schema=dict(TABLES["followed"].columns)),
    }


THREE_ARMS = """
name = "pilot"
title = "A patch for memory: three arms"
question = "Does a higher dose of the patch slow the loss of memory?"
[population]
description = "Adults with mild to moderate dementia"
planned = 240
[[drugs]]
name = "patch"
[[arms]]
name = "placebo"
label = "Placebo"
control = true
doses = [{ drug = "patch", amount = "0 mg", days = "1..168", route = "transdermal" }]
[[arms]]
name = "low"
label = "Low dose"
doses = [{ drug = "patch", amount = "54 mg", days = "1..168", route = "transdermal" }]
[[arms]]
name = "high"
label = "High dose"
doses = [{ drug = "patch", amount = "81 mg", days = "1..168", route = "transdermal" }]
[allocation]
blocks = [6]
[[visits]]
name = "baseline"
day = 1
kind = "baseline"
procedures = ["memory score"]
[[visits]]
name = "week 24"
day = 168
procedures = ["memory score"]
[[endpoints]]
name = "memory score"
kind = "continuous"
quantity = "memory score"
visit = "week 24"
scale = "change"
unit = "points"
[[endpoints]]
name = "skin reaction"
kind = "time-to-event"
components = ["skin reaction"]
[[estimands]]
name = "memory, high against placebo"
endpoint = "memory score"
active = ["high"]
control = "placebo"
summary = "difference in means"
[[estimands]]
name = "skin reaction"
endpoint = "skin reaction"
active = ["low", "high"]
control = "placebo"
summary = "equality of survival"
[[analyses]]
name = "memory, high against placebo"
estimand = "memory, high against placebo"
method = "ancova"
role = "primary"
adjust = ["baseline"]
factors = ["site"]
[[analyses]]
name = "skin reaction"
estimand = "skin reaction"
method = "log-rank"
"""


def three_arms() -> Protocol:
    """A protocol of three arms with no scan and no cells."""
    import tomllib

    return Protocol.of(tomllib.loads(THREE_ARMS))


def pilot(protocol: Protocol, seed: int = 3, people: int = 240) -> Study:
    """A record without milestones, as a real study often comes."""
    rng = np.random.default_rng(seed)
    arms = [arm.name for arm in protocol.arms]
    names = [f"01-{index:03d}" for index in range(people)]
    arm = [arms[index % len(arms)] for index in range(people)]
    shift = dict(zip(arms, (0.0, -0.5, -1.0), strict=False))
    readings, events, followed = [], [], []
    for name, group in zip(names, arm, strict=True):
        start = rng.normal(24, 9)
        for visit, value in (("baseline", start), ("week 24", start + 2 + shift[group] + rng.normal(0, 5))):
            readings.append(
                {"subject": name, "visit": visit, "day": 1, "quantity": "memory score", "location": ""}
                | {"value": value, "unit": "points", "status": "measured"}
            )
        day, until = int(rng.exponential(300 if group == "placebo" else 90)) + 1, int(rng.integers(60, 200))
        if day <= until:
            events.append({"subject": name, "event": "skin reaction", "day": day})
        followed.append({"subject": name, "event": "skin reaction", "until": until, "reason": ""})
    subjects = pl.DataFrame(
        {
            "subject": names,
            "site": rng.choice(["701", "702", "703"], people),
            "arm": arm,
            "enrolled": [datetime.date(2013, 1, 1)] * people,
            "age": rng.normal(75, 8, people).round(),
            "sex": rng.choice(["F", "M"], people),
        }
    )
    return Study(
        protocol=protocol.name,
        tables={
            "subjects": subjects,
            "readings": pl.DataFrame(readings, schema=dict(TABLES["readings"].columns)),
            "events": pl.DataFrame(events, schema=dict(TABLES["events"].columns)),
            "followed": pl.DataFrame(followed, schema=dict(TABLES["followed"].columns)),
        },
        origin="made up",
    )

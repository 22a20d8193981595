"""What a study saw of each person, as arrays: covariates as the body takes them, doses, and readings by visit and day.

Nothing here is fitted. What a study does not say of a person is the population's usual value, and is said to be so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from quell import units
from quell.body import population
from quell.body.parameters import spreads
from quell.calibrate.people import NEVER, even
from quell.measure import assay, pet
from quell.protocol import Arm, Protocol
from quell.sentences import near
from quell.study import Study, StudyError
from quell.tables import canonical

MIU_PER_MG = 18.0 / 1.1  # E098
NEEDED = ("infarct_type", "days_since_infarction")  # without these no course before the drug can be worked out


class Kind(NamedTuple):
    """One quantity that can be fitted: the field of the body, where it is read, and the constants it rises with exactly."""

    name: str
    location: str
    observable: str
    scale: tuple[str, ...]  # log reading = sum of their logs + what the other constants make of it


KINDS: tuple[Kind, ...] = (
    Kind("Treg", "", "treg", ("cd4_count", "treg_share")),
    Kind("Treg %", "", "treg_percent", ("treg_share",)),
    Kind("ILC2", "", "ilc2", ("ilc2_count",)),
    Kind("eosinophils", "", "eosinophils", ("eosinophil_count",)),
    Kind("NK", "", "nk", ("nk_count",)),
    Kind("CD56bright NK", "", "nk_bright", ("bright_count",)),
    Kind("hsCRP", "", "crp", ("residual_crp", "surge")),
    *(
        Kind("TBRmax", vessel, f"tbr_{vessel.replace(' ', '_')}", (f"uptake_{vessel.replace(' ', '_')}", "recruitment"))
        for vessel in pet.pet().vessels
    ),
)
USUAL = ("Treg", "Treg %", "ILC2", "eosinophils", "hsCRP", "TBRmax")


class Followed(NamedTuple):
    """The people of a study and what was read of them; arrays with a leading axis of people."""

    subjects: tuple[str, ...]
    arms: tuple[str, ...]
    people: population.Patient
    dose_days: tuple[int, ...]
    amounts: np.ndarray  # (people, dose days) 10^6 IU
    kinds: tuple[Kind, ...]
    visits: tuple[str, ...]
    day: np.ndarray  # (people, visits) study day, whole; that of the others where a visit was missed
    value: np.ndarray  # (people, visits, kinds) NaN where there is none
    below: np.ndarray  # (people, visits, kinds) whether it was below the assay's limit
    assumed: tuple[str, ...]  # covariates that the study does not give

    @property
    def treated(self) -> np.ndarray:
        return self.amounts.sum(axis=1) > 0

    def only(self, people: np.ndarray) -> Followed:
        """Some of the people."""
        chosen = population.Patient(*(_rows(x, people) for x in self.people))
        subjects, arms = (tuple(np.array(x)[people].tolist()) for x in (self.subjects, self.arms))
        arrays = {name: getattr(self, name)[people] for name in ("amounts", "day", "value", "below")}
        return self._replace(subjects=subjects, arms=arms, people=chosen, **arrays)


def _rows(x: Any, people: np.ndarray) -> Any:
    if isinstance(x, dict):
        return {name: one[people] for name, one in x.items()}
    return type(x)(*(one[people] for one in x)) if isinstance(x, tuple) else x[people]


def followed(study: Study, protocol: Protocol, quantities: Sequence[str] = ()) -> Followed:
    """The people randomised who have a reading, with what was read; raises StudyError, in a sentence, where nothing can be fitted."""
    names = tuple(quantities) or USUAL
    known = sorted({kind.name for kind in KINDS})
    for name in names:
        if name not in known:
            raise StudyError(f"the model of one person has no '{name}'. {near(name, known)}")
    kinds = tuple(kind for kind in KINDS if kind.name in names)
    readings = _readings(study, kinds, protocol)
    there = set(readings["subject"])
    people = study.randomised.filter(pl.col("subject").is_in(list(there))).sort("subject")
    if people.height < 2:
        raise StudyError(
            f"the study has readings of {people.height} randomised person{'' if people.height == 1 else 's'}; what "
            "differs between people needs two or more. Give the readings of the others too."
        )
    covariates, assumed = _covariates(people, protocol.population.people)
    dose_days, amounts = _doses(study, people["subject"], covariates.body_surface_area)
    visits, day, value, below = _by_visit(readings, people["subject"], kinds)
    if np.isfinite(value).any(axis=2).sum(axis=1).max() < 2:
        raise StudyError(
            "nobody in the study has readings at two visits; how a person changes cannot be learned from one. Give the "
            "readings of later visits in the table 'readings'."
        )
    present = tuple(i for i in range(len(kinds)) if np.isfinite(value[:, :, i]).any())
    return Followed(
        tuple(people["subject"]),
        tuple(people["arm"]),
        covariates,
        dose_days,
        amounts,
        tuple(kinds[i] for i in present),
        visits,
        day,
        value[:, :, present],
        below[:, :, present],
        assumed,
    )


def _readings(study: Study, kinds: tuple[Kind, ...], protocol: Protocol) -> pl.DataFrame:
    """Readings of these kinds with a value and a day; a day that is missing is the visit's planned one."""
    planned = {visit.name: visit.day for visit in protocol.visits}
    wanted = pl.DataFrame({"quantity": [k.name for k in kinds], "location": [k.location for k in kinds]})
    found = (
        canonical("readings", study["readings"])
        .with_columns(pl.col("location").fill_null(""))
        .join(wanted, on=["quantity", "location"], how="semi")
        .filter(pl.col("value").is_not_null() & pl.col("value").is_finite() & (pl.col("value") > 0))
        .with_columns(day=pl.coalesce("day", pl.col("visit").replace_strict(planned, default=None).cast(pl.Int32)))
        .drop_nulls("day")
    )
    if not found.height:
        raise StudyError(
            f"the study has no readings of {', '.join(dict.fromkeys(k.name for k in kinds))} with a value above zero and "
            "a day. Give them in the table 'readings'."
        )
    return found


def _by_visit(
    readings: pl.DataFrame, subjects: pl.Series, kinds: tuple[Kind, ...]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Visits in the order of their days; day, value and whether below the limit, by person, visit and kind."""
    middle = readings.group_by("visit").agg(pl.col("day").median()).sort("day", "visit")
    visits = tuple(middle["visit"])
    row = {name: i for i, name in enumerate(subjects)}
    column = {name: i for i, name in enumerate(visits)}
    place = {(kind.name, kind.location): i for i, kind in enumerate(kinds)}
    shape = (len(row), len(visits), len(kinds))
    day = np.broadcast_to(np.round(middle["day"].to_numpy()).astype(int), shape[:2]).copy()
    value, below = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    fields = ("subject", "visit", "day", "quantity", "location", "value", "status")
    for subject, visit, when, quantity, location, x, status in readings.select(fields).iter_rows():
        if subject not in row:
            continue
        i, v, k = row[subject], column[visit], place[quantity, location]
        test = assay.by_name().get(quantity)
        day[i, v], value[i, v, k] = when, x
        below[i, v, k] = status == "below limit" or (test is not None and x < test.limit)
    return visits, day, value, below


# -- doses -----------------------------------------------------------------------------------------------------------
def _doses(study: Study, subjects: pl.Series, area: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """The days on which anybody was dosed, and what each person was given, 10^6 IU."""
    table = canonical("doses", study["doses"]).filter(pl.col("subject").is_in(subjects.to_list())).drop_nulls("day")
    if not table.height:
        raise StudyError("the study has no doses. Give the table 'doses': who was given what, on which study day.")
    if table["amount"].null_count() == table.height:
        raise StudyError("the doses have no amounts: is the study still masked? Fit it once it is not.")
    if (table["day"] < 1).any():
        raise StudyError("a dose lies before study day 1. Day 1 is the day of the first dose: count from there.")
    days = tuple(sorted(set(table["day"].to_list())))
    row, amounts = {name: i for i, name in enumerate(subjects)}, np.zeros((len(subjects), len(days)))
    for subject, day, amount, unit, given in table.select("subject", "day", "amount", "unit", "given").iter_rows():
        if given is not False and amount:
            amounts[row[subject], days.index(day)] += amount * _miu(unit or "MIU", area[row[subject]])
    return days, amounts


@functools.cache
def _unit(unit: str) -> units.Quantity:
    try:
        return units.quantity(f"1 {unit}", "biological dose", "biological dose per area", "mass", "mass per area")
    except units.UnitError as error:
        raise StudyError(f"table 'doses': {error}") from None


def _miu(unit: str, area: float) -> float:
    """One of a unit of dose, in 10^6 IU, for a person of this surface."""
    found = _unit(unit)
    mine = found.value * (MIU_PER_MG if found.dimension.startswith("mass") else 1.0)
    return mine * area if found.dimension.endswith("per area") else mine


def calendar(arm: Arm, area: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """The doses of an arm of a protocol: days, and amounts for people of these surfaces, 10^6 IU."""
    days = tuple(sorted({day for dose in arm.doses for day in dose.on})) or (1,)
    amounts = np.zeros((len(area), len(days)))
    for dose in arm.doses:
        each = dose.quantity.value * (MIU_PER_MG if dose.quantity.dimension.startswith("mass") else 1.0)
        mine = each * (area if dose.quantity.dimension.endswith("per area") else 1.0)
        amounts[:, [days.index(day) for day in dose.on]] += np.reshape(mine, (-1, 1))
    return days, amounts


# -- covariates ------------------------------------------------------------------------------------------------------
def _covariates(table: pl.DataFrame, name: str) -> tuple[population.Patient, tuple[str, ...]]:
    """People as the body takes them, nothing of their own biology known; and which covariates had to be assumed."""
    usual, count = even(64, name), table.height
    values: dict[str, Any] = {}
    assumed = []
    for field in population.Patient._fields[:-2]:
        label, _, kind = population.COVARIATES.get(field, (field, "", "number"))
        column = next((one for one in (label, field) if one in table.columns), None)
        found = np.full(count, np.nan) if column is None else _coded(table[column], kind, field)
        if np.isnan(found).any():
            if field in NEEDED:
                _refuse(table, found, label, kind)
            found = np.where(np.isnan(found), float(np.median(getattr(usual, field))), found)
            assumed += [label] if field in population.COVARIATES else []
        values[field] = found
    own = {one: np.ones(count) for one in spreads()}
    never = type(usual.thresholds)(
        *(np.full((count, *np.shape(x)[1:]), NEVER) for x in usual.thresholds)
    )  # readings are of the expected course
    return population.Patient(**values, own=own, thresholds=never), tuple(assumed)


def _refuse(table: pl.DataFrame, found: np.ndarray, label: str, kind: Any) -> None:
    who = table["subject"][int(np.flatnonzero(np.isnan(found))[0])]
    words = f"one of {', '.join(kind)}" if isinstance(kind, tuple) else "a number"
    raise StudyError(
        f"table 'subjects' does not give '{label}' of subject '{who}' ({words}), and the course before the drug follows "
        "from it. Add it, or leave out the people of whom it is unknown."
    )


def _coded(column: pl.Series, kind: Any, field: str) -> np.ndarray:
    """A covariate as the body codes it; NaN where it is missing."""
    if kind == "number" or column.dtype.is_numeric():
        return column.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()
    words = ("no", "yes") if kind == "yes" else kind
    code = {str(word).lower(): float(i) for i, word in enumerate(words)} | {"false": 0.0, "true": 1.0}
    text = column.cast(pl.String)
    unknown = [one for one in text.drop_nulls().unique().sort() if one.lower() not in code]
    if unknown:
        raise StudyError(
            f"table 'subjects', column '{column.name}': '{unknown[0]}' is unknown. {near(unknown[0], words)}"
        )
    return np.array([np.nan if one is None else code[one.lower()] for one in text])


def scores(people: population.Patient, name: str) -> tuple[list[str], np.ndarray]:
    """Normal scores of the covariates that the population correlates with people's own biology; shape (people, scores)."""
    described = population.POPULATIONS[name]
    joined = dict.fromkeys(one for a, b, *_ in described.correlations for one in (a, b))
    found = {one.name: _score(one, getattr(people, one.name)) for one in described.covariates if one.name in joined}
    return list(found), np.stack(list(found.values()), axis=1) if found else np.zeros((len(people.age), 0))


def _score(one: population.Covariate, x: np.ndarray) -> np.ndarray:
    """Where a covariate lies in its population, as a normal score between -3 and 3."""
    centre, spread = one.values[:2]
    raw = np.log(np.maximum(x, 1e-9) / centre) if one.kind == "lognormal" else x - centre
    return np.clip(raw / spread, -3, 3)


def expected(people: population.Patient, constants: Sequence[str], name: str) -> tuple[np.ndarray, np.ndarray]:
    """What covariates tell of people's own constants: the mean of each normal score (people, constants), and its spread left.

    E[z | c] = S_zc S_cc^-1 c, the population's correlations (a Gaussian copula).
    """
    known, c = scores(people, name)
    described = population.POPULATIONS[name]
    order = [*known, *constants]
    s = np.eye(len(order))
    for a, b, r, _ in described.correlations:
        if a in order and b in order:
            s[order.index(a), order.index(b)] = s[order.index(b), order.index(a)] = r
    n = len(known)
    weights = np.linalg.solve(s[:n, :n], s[:n, n:]) if n else np.zeros((0, len(constants)))
    left = 1 - (s[:n, n:] * weights).sum(axis=0)
    return c @ weights, np.sqrt(np.maximum(left, 1e-6))


def errors(kinds: Iterable[Kind]) -> np.ndarray:
    """The standard deviation of the log of a blood reading of each kind; of TBRmax the part of one vessel, in TBR."""
    instrument = pet.pet()
    vessel = math.hypot(instrument.vessel_sd, instrument.slice_sd / math.sqrt(instrument.slices))
    tests = assay.by_name()
    return np.array(
        [vessel if k.location else math.hypot(tests[k.name].analytic, tests[k.name].within_person) for k in kinds]
    )

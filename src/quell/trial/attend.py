"""Following each virtual person: doses taken and missed, visits kept and missed, leaving, and what instruments read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quell import blocks, keys
from quell.body import course, parameters
from quell.measure import assay, cardiac, pet
from quell.protocol import Protocol
from quell.trial.plan import PROCEDURES, Plan, before_treatment, lay_out, possible_days
from quell.trial.recruit import Enrolled
from quell.trial.world import Conduct
from quell.units import DAYS_PER_YEAR

PET_LOCATION = "index vessel"


Values = Any  # traced numbers of one person, or NumPy arrays of many


class Behaviour(NamedTuple):
    """What one person does in the trial: decided by chance and prognosis, never by the arm."""

    taken: Values  # (dose days,) 1 where the dose is given, if still in the trial
    visit_day: Values  # (visits,) the actual study day of each visit
    kept: Values  # (visits,) whether the visit is kept, if still in the trial
    scanned: Values  # (visits,) whether a scan of that visit succeeds
    leaves: Values  # study day of leaving the trial
    joins: Values  # whether long follow-up is joined, if offered
    lost: Values  # study day of being lost to long follow-up


def behave(
    plan: Plan, conduct: Conduct, participation: float, grace: jax.Array, screening_day: jax.Array, *, key: keys.Key
) -> Behaviour:
    """One person's behaviour. Leaving has a constant hazard that grows with the GRACE score (an assumption)."""
    names = [visit.name for visit in plan.visits]
    always = jnp.array([visit.kind in ("screening", "baseline") for visit in plan.visits])
    rate = -jnp.log1p(-conduct.leaves) / conduct.leaving_time
    rate = rate * jnp.exp(conduct.leaving_per_grace * (grace - conduct.grace_centre))
    leaves = 1 + jax.random.exponential(keys.at(key, "leaves")) / rate
    remains = jax.random.exponential(keys.at(key, "lost")) * DAYS_PER_YEAR / jnp.maximum(conduct.lost_per_year, TINY)
    return Behaviour(
        taken=_chances(key, "dose", plan.dose_days) >= conduct.dose_missed,
        visit_day=_actual_days(plan, screening_day, _chances(key, "visit day", names)),
        kept=always | (_chances(key, "visit", names) >= conduct.visit_missed),
        scanned=always | (_chances(key, "failed scan", names) >= conduct.scan_failed),
        leaves=jnp.ceil(leaves),
        joins=jax.random.uniform(keys.at(key, "joins")) < participation,
        lost=jnp.ceil(plan.seen_until + remains),
    )


TINY = 1e-12  # keeps a rate of zero from dividing


def _chances(key: keys.Key, what: str, names: Sequence[str | int]) -> jax.Array:
    """One uniform number for each name under an address."""
    return jax.lax.map(jax.random.uniform, keys.each(keys.at(key, what), names)) if len(names) else jnp.zeros(0)


def _actual_days(plan: Plan, screening_day: jax.Array, chances: jax.Array) -> jax.Array:
    """The study day each visit falls on: any day of its window alike; screening when it was."""
    first = jnp.array([possible_days(visit).start for visit in plan.visits])
    width = jnp.array([len(possible_days(visit)) for visit in plan.visits])
    screened = jnp.array([before_treatment(visit) for visit in plan.visits])
    return jnp.where(screened, screening_day, first + jnp.minimum(jnp.floor(chances * width), width - 1))


def injections(plan: Plan, arm: jax.Array, surface: jax.Array, behaviour: Behaviour) -> jax.Array:
    """The amounts actually injected on each dose day, in MIU, of shape (dose days,)."""
    amount = jnp.array(plan.amounts)[arm] * jnp.where(jnp.array(plan.per_area)[arm], surface, 1.0)
    present = jnp.array(plan.dose_days) < behaviour.leaves
    return jnp.where(behaviour.taken & present, amount, 0.0)


class Reports(NamedTuple):
    """Everything the instruments report of one person; ``by_name`` says what each place means."""

    blood: Values  # (visits, assays)
    echocardiogram: Values  # (visits,)
    scans: pet.Scan  # each field with a leading axis of scans


def read(plan: Plan, screened: Any, seen: Any, behaviour: Behaviour, *, key: keys.Key) -> Reports:
    """All readings of one person at all visits, whether asked for or not; ``by_name`` keeps those asked for.

    ``screened`` is what could be observed at screening, ``seen`` the same on every day looked at since.
    """
    names = [visit.name for visit in plan.visits]
    states = _states(plan, screened, seen, behaviour.visit_day)
    true_values = jnp.stack([getattr(states, test.observable) for test in assay.assays()], axis=-1)
    tests = [test.name for test in assay.assays()]
    blood_keys = jax.vmap(lambda k: keys.each(k, names))(keys.each(keys.at(key, "reading"), tests)).T
    echo_keys = keys.each(keys.at(key, "reading", "ejection fraction"), names)
    return Reports(
        # lax.map where vmap would do: a loop keeps the compiled program small, and so quick to load
        blood=jax.lax.map(lambda xk: assay.panel(assay.assays(), xk[0], key=xk[1]), (true_values, blood_keys)),
        echocardiogram=jax.lax.map(
            lambda xk: cardiac.ejection_fraction(xk[0], key=xk[1]), (states.ejection_fraction, echo_keys)
        ),
        scans=_scans(plan, states, key),
    )


def _scans(plan: Plan, states: Any, key: keys.Key) -> pet.Scan:
    scanned = [index for index, visit in enumerate(plan.visits) if "PET" in visit.procedures]
    instrument = pet.pet()
    if not scanned:
        return pet.Scan(*(jnp.zeros((0,)) for _ in pet.Scan._fields))
    fields = ["tbr_" + vessel.replace(" ", "_") for vessel in instrument.vessels]
    signals = jnp.stack([getattr(states, field) for field in fields], axis=-1)[jnp.array(scanned)]
    scans = keys.each(keys.at(key, "scan"), [plan.visits[index].name for index in scanned])
    return pet.simulate(instrument, signals, person=keys.at(key, "vessels"), scans=scans)


def _states(plan: Plan, screened: Any, seen: Any, days: jax.Array) -> Any:
    """What could be observed of the body on the actual day of each visit, each field of shape (visits,)."""
    before = jnp.array([before_treatment(visit) for visit in plan.visits])
    place = jnp.searchsorted(jnp.array(plan.observe, dtype=float), days)
    return jax.tree.map(lambda early, series: jnp.where(before, early, series[place]), screened, seen)


def by_name(plan: Plan, reports: Reports) -> dict[tuple[str, str, str], np.ndarray]:
    """The readings that the protocol's procedures ask for, by quantity, location and visit; arrays of shape (people,)."""
    found: dict[tuple[str, str, str], np.ndarray] = {}
    scan = 0
    for v, visit in enumerate(plan.visits):
        wanted = [quantity for procedure in visit.procedures for quantity in PROCEDURES[procedure]]
        for a, test in enumerate(assay.assays()):
            if test.name in wanted:
                found[test.name, "", visit.name] = reports.blood[:, v, a]
        if "ejection fraction" in wanted:
            found["ejection fraction", "", visit.name] = reports.echocardiogram[:, v]
        if "PET" in visit.procedures:
            found |= _of_scan(reports.scans, scan, visit.name)
            scan += 1
    return found


def _of_scan(scans: pet.Scan, number: int, visit: str) -> dict[tuple[str, str, str], np.ndarray]:
    vessels = {("TBRmax", vessel, visit): scans.vessel[:, number, v] for v, vessel in enumerate(pet.pet().vessels)}
    index = {
        "TBRmax": scans.index_vessel,
        "TBRmax of active slices": scans.active_mean,
        "active slices": scans.active_slices,
        "TBRmax of most diseased segment": scans.segment,
    }
    return vessels | {(quantity, PET_LOCATION, visit): values[:, number] for quantity, values in index.items()}


@functools.cache
def _behaving(protocol: Protocol, conduct: Conduct) -> Any:
    plan = lay_out(protocol)
    participation = protocol.follow_up.participation if protocol.follow_up else 0.0

    def one(words: jax.Array, patient: Any, screening_day: jax.Array, arm: jax.Array) -> tuple[Behaviour, jax.Array]:
        key = keys.of(words)
        behaviour = behave(plan, conduct, participation, patient.grace, screening_day, key=key)
        return behaviour, injections(plan, arm, patient.body_surface_area, behaviour)

    return blocks.Program(one, identity=("behaving", protocol.fingerprint, conduct))


@functools.cache
def _reading(protocol: Protocol) -> Any:
    plan = lay_out(protocol)

    def one(words: jax.Array, screened: Any, seen: Any, behaviour: Behaviour) -> Any:
        return read(plan, screened, seen, behaviour, key=keys.of(words))

    return blocks.Program(one, identity=("reading", protocol.fingerprint))


class Followed(NamedTuple):
    """What happened to each person, seen and unseen; arrays with one leading axis of people."""

    behaviour: Behaviour
    given: np.ndarray  # (people, dose days) MIU
    readings: dict[tuple[str, str, str], np.ndarray]
    events: Any
    valid: np.ndarray


def follow(
    protocol: Protocol, conduct: Conduct, people: Enrolled, p: parameters.Parameters, arm: np.ndarray
) -> Followed:
    """Live, dose and measure people, each under an arm; what a trial would not have seen is not yet removed.

    ``people``, ``p`` and ``arm`` have one leading axis of people.
    """
    plan = lay_out(protocol)
    behaviour, given = blocks.over(
        _behaving(protocol, conduct), people.address, people.patient, people.screening_day, arm
    )
    mesh = course.mesh(plan.dose_days, plan.observe, plan.horizon)
    life = course.many(people.patient, given, p, mesh)
    reports = blocks.over(_reading(protocol), people.address, people.seen, life.observed, behaviour)
    return Followed(behaviour, given, by_name(plan, reports), life.events, life.valid)

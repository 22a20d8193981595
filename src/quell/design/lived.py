"""Lives for a bank: one draw's people under each arm, the hazards they gather undisturbed, and what then befalls them.

The hazards are gathered by the body's own rule, read at the knots; nothing is integrated a second time. A life is lived
with its own thresholds for everything but infarction, which alone disturbs the body; those whose hazard of infarction
crosses its threshold are lived once more, the loop and all. Either way the events are those of ``course.many``.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from quell import blocks, keys
from quell.body import course, person, population, risk, steps
from quell.body.parameters import Parameters, Scalar
from quell.body.population import Patient
from quell.design.fates import BASELINE
from quell.keys import jax
from quell.machine import Machine, Tape
from quell.protocol import Protocol
from quell.trial import Conduct, attend, recruit
from quell.trial.plan import Plan, lay_out
from quell.trial.world import TrialError

EARLY = ("screening", "baseline")  # kinds of visit before the first dose: nobody who is randomised lacks them
PERFECT = Conduct(**dict.fromkeys((field.name for field in dataclasses.fields(Conduct)), 0.0) | {"leaving_time": 1.0})

DOUBT = 0.3  # a limit for hazards: up to it those gathered over eight years of weekly doses were right to 2e-3, their
# error that of the steps of tissue and not of the doubtful ones (docs/measured.md); ``course.DOUBT`` adds up over doses
PART = 2 * blocks.WIDTH  # people lived at a time: bounds memory, changes nothing else

Values = Any  # traced numbers of one person, or NumPy arrays of many


# -- the machine of ``course``, which also tells the hazards gathered -------------------------------------------------
class Seen(NamedTuple):
    """What is read on a day: what could be observed, and the hazards of infarction gathered (see ``crowd.Bank``)."""

    observed: course.Observed
    vascular: Scalar
    scarred: Scalar


class Ended(NamedTuple):
    """How a life ended, and each cause's hazard as a share of the trajectory it follows; other death: per day."""

    outcome: course.Outcome
    prone: risk.Causes


def _emit(now: course.Moment, who: person.Person) -> Seen:
    gathered, prone = now.tissue, who.prone
    scarred = gathered.cardiovascular_death * prone.infarction / prone.cardiovascular_death
    return Seen(course.emit(now, who), gathered.infarction, scarred)


def _finish(now: course.Moment, who: person.Person) -> Ended:
    shares = risk.Causes(*(rate / who.prone.infarction for rate in who.prone))
    return Ended(course.finish(now, who), shares._replace(other_death=who.prone.other_death))


MACHINE: Machine = dataclasses.replace(course.MACHINE, identity=("life, hazards gathered",), emit=_emit, finish=_finish)


def _live(patients: Patient, amounts: np.ndarray, p: Parameters, setting: Setting, arm: int) -> tuple[Seen, Ended]:
    """As ``course.many``: lives in doubt are lived again with smaller steps, and those that are no number with smaller

    steps of tissue too. One thread: shards run beside one another."""
    tape = steps.tape if any(setting.plan.amounts[arm]) else _undosed
    mesh = setting.mesh

    def run(who: Any, grid: course.Mesh) -> tuple[Seen, Ended]:
        turns = patients.thresholds.infarction[who]
        apart = tuple(turns[:, i] for i in range(risk.SUCCESSIVE))
        some, constants = (jax.tree.map(lambda leaf: np.asarray(leaf)[who], tree) for tree in (patients, p))
        some = some._replace(thresholds=some.thresholds._replace(infarction=apart))
        return MACHINE.run((some, constants), amounts[who], tape(grid), threads=1)

    found = run(slice(None), mesh)
    for finer in course.FINER:
        outcome = found[1].outcome
        unsound = ~np.isfinite(outcome.sound)
        doubtful = ~(outcome.doubt <= DOUBT) & ~unsound
        if not (unsound | doubtful).any():
            break
        for some, grid in ((doubtful, steps.closer(mesh, finer)), (unsound, steps.refine(mesh, finer))):
            if some.any():
                again = np.flatnonzero(some)
                _put(found, again, run(again, grid))
    return found


@functools.lru_cache(maxsize=16)
def _undosed(grid: course.Mesh) -> Tape:
    """The same steps of tissue, before each of which the blood coasts in closed form: where nothing is injected."""
    tape = steps.tape(grid)
    kept = ~np.isin(tape.piece, (steps.INJECT, steps.SMALL))
    before = np.roll(tape.piece, 1)
    rows = []
    for i in np.flatnonzero(kept):
        if tape.piece[i] == steps.LARGE and before[i] != steps.COAST:
            rows.append((steps.COAST, tape.level[i], 0.0, -1))
        rows.append((tape.piece[i], tape.level[i], tape.argument[i], tape.column[i]))
    piece, level, argument, column = zip(*rows, strict=True)
    return Tape(tape.lengths, np.array(piece), np.array(level), np.array(argument), np.array(column))


def _put(whole: Any, who: np.ndarray, part: Any) -> None:
    """Replace the numbers of some people."""
    for old, new in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        old[who] = new


# -- people -------------------------------------------------------------------------------------------------------------
class People(NamedTuple):
    """The people of some draws, eligible and enrolled, with one leading axis; and the constants each lives with."""

    enrolled: recruit.Enrolled
    parameters: Parameters
    draws: int
    screened: np.ndarray  # (draws, people) candidates screened since the one enrolled before, the person included


def gather(protocol: Protocol, p: Parameters, number: int, words: np.ndarray) -> People:
    """``number`` eligible people for each draw; ``p`` of shape (draws,), ``words`` one key each.

    Raises TrialError where hardly anybody is eligible.
    """
    found = recruit.enrol(protocol, p, number, words)
    everyone = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    screened = np.diff(found.candidate, axis=1, prepend=-1)
    return People(everyone, jax.tree.map(lambda leaf: np.repeat(leaf, number), p), len(words), screened)


def covariates(people: People) -> dict[str, np.ndarray]:
    """What is known of each person at entry, (draws, people): covariates by field, hsCRP at screening, and how many were

    screened for the person (sums to the number screened, whoever is left out later)."""
    shape = people.screened.shape
    found = {name: np.asarray(getattr(people.enrolled.patient, name)) for name in population.COVARIATES}
    found["hsCRP"] = people.enrolled.hscrp
    return {name: column.reshape(shape) for name, column in found.items()} | {"screened": people.screened}


# -- one arm ------------------------------------------------------------------------------------------------------------
class Lives(NamedTuple):
    """Everybody under one arm; arrays of shape (people,), gathered hazards (people, knots)."""

    vascular: np.ndarray
    scarred: np.ndarray
    prone: risk.Causes
    first: dict[str, np.ndarray]
    infarctions: np.ndarray
    readings: dict[str, np.ndarray]


class Setting(NamedTuple):
    """What the lives of all arms share; hashable, so that each is compiled once."""

    protocol: Protocol
    conduct: Conduct
    knots: tuple[int, ...]

    @property
    def plan(self) -> Plan:
        return lay_out(self.protocol)

    @property
    def looks(self) -> tuple[int, ...]:
        """Study days on which the body is looked at: those of the visits, and the knots (a reading of day d is at d - 1)."""
        return tuple(sorted({*self.plan.observe, *(knot + 1 for knot in self.knots)}))

    @property
    def mesh(self) -> course.Mesh:
        return course.mesh(self.plan.dose_days, self.looks, self.looks[-1])


def under(setting: Setting, people: People, arm: int) -> Lives:
    """Live everybody under one arm: hazards of the undisturbed life, then events and readings of the life with its events.

    Raises TrialError where a life leaves the range in which the body makes sense.
    """
    lives = []
    for start in range(0, len(people.enrolled.screening_day), PART):
        part = slice(start, start + PART)
        who, p = (jax.tree.map(lambda leaf, part=part: leaf[part], x) for x in (people.enrolled, people.parameters))
        lives.append(_under(setting, who, p, arm))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *lives)


def _under(setting: Setting, who: recruit.Enrolled, p: Parameters, arm: int) -> Lives:
    behaviour, given = blocks.over(
        _behaving(setting.protocol, setting.conduct),
        who.address,
        who.patient,
        who.screening_day,
        np.full(len(who.screening_day), arm),
        threads=1,
    )
    thresholds = who.patient.thresholds
    calm = thresholds._replace(infarction=np.full_like(thresholds.infarction, np.inf))
    seen, ended = _live(who.patient._replace(thresholds=calm), given, p, setting, arm)
    at = [setting.looks.index(knot + 1) for knot in setting.knots]
    vascular, scarred = seen.vascular[:, at], seen.scarred[:, at]
    _sound(vascular, scarred)
    struck = np.flatnonzero(vascular[:, -1] >= thresholds.infarction[:, 0])
    if len(struck):
        some, constants = (jax.tree.map(lambda leaf: np.asarray(leaf)[struck], x) for x in (who.patient, p))
        again = _live(some, given[struck], constants, setting, arm)
        _put((seen.observed, ended.outcome), struck, (again[0].observed, again[1].outcome))
    first, infarctions = _happened(ended.outcome.events, setting.knots[-1])
    readings = _readings(setting, who, seen.observed, behaviour, first)
    return Lives(vascular, scarred, ended.prone, first, infarctions, readings)


def _sound(*gathered: np.ndarray) -> None:
    bad = ~np.logical_and.reduce([np.isfinite(one).all(axis=1) & (one >= 0).all(axis=1) for one in gathered])
    if bad.any():
        raise TrialError(
            f"{bad.sum()} of {len(bad)} lives gather a hazard that is not a number: constants of these draws are out of "
            "range. Calibrate again (quell calibrate), or take another stage."
        )


def _happened(events: risk.Events, horizon: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Study day of the first event of each cause within the horizon, inf where none; and how many infarctions."""
    infarctions = np.stack(events.infarction, axis=-1)
    first = events._replace(infarction=infarctions.min(axis=-1))._asdict()
    kept = {cause: np.where(days <= horizon, days, np.inf) for cause, days in first.items()}
    return kept, (infarctions <= horizon).sum(axis=-1)


@functools.cache
def _behaving(protocol: Protocol, conduct: Conduct) -> blocks.Program:
    """How a person behaves, and what is injected; the same under every arm but for the doses."""
    plan = lay_out(protocol)

    def one(words: Values, patient: Patient, screening_day: Values, arm: Values) -> tuple[attend.Behaviour, Values]:
        behaviour = attend.behave(plan, conduct, 1.0, patient.grace, screening_day, key=keys.of(words))
        return behaviour, attend.injections(plan, arm, patient.body_surface_area, behaviour)

    return blocks.Program(one, identity=("bank, behaving", protocol.fingerprint, conduct))


# -- readings -------------------------------------------------------------------------------------------------------------
@functools.cache
def _reading(protocol: Protocol) -> blocks.Program:
    plan = lay_out(protocol)

    def one(words: Values, screened: Values, seen: Values, behaviour: attend.Behaviour) -> attend.Reports:
        return attend.read(plan, screened, seen, behaviour, key=keys.of(words))

    return blocks.Program(one, identity=("bank, reading", protocol.fingerprint))


def wanted(protocol: Protocol) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """The readings kept, by name: where each stands (quantity, location, visit), the last that is there counting.

    Those of the measured endpoints at their visits, and at baseline.

    >>> list(wanted(Protocol.load("ivory")))[:2]
    ['TBRmax, baseline', 'TBRmax, day 61']
    """
    first = [visit.name for visit in protocol.visits if visit.kind in EARLY]
    found: dict[str, tuple[tuple[str, str, str], ...]] = {}
    for one in protocol.endpoints:
        if not one.quantity:
            continue
        what = one.quantity if one.location in ("", attend.PET_LOCATION) else f"{one.quantity} of {one.location}"
        found[f"{what}, {BASELINE}"] = tuple((one.quantity, one.location, visit) for visit in first)
        for visit in dict.fromkeys((one.visit, *one.visits)):
            if visit and visit not in first:
                found[f"{what}, {visit}"] = ((one.quantity, one.location, visit),)
    return found


def _readings(
    setting: Setting, who: recruit.Enrolled, seen: course.Observed, behaviour: attend.Behaviour, first: dict
) -> dict[str, np.ndarray]:
    """What the instruments read at the visits kept, NaN where nothing is: missed, failed, after leaving or death."""
    plan = setting.plan
    rows = [setting.looks.index(day) for day in plan.observe]
    observed = course.Observed(*(column[:, rows] for column in seen))
    reports = blocks.over(_reading(setting.protocol), who.address, who.seen, observed, behaviour, threads=1)
    read = attend.by_name(plan, reports)
    death = np.minimum(first["cardiovascular_death"], first["other_death"])
    gone = np.minimum(behaviour.leaves, death)[:, None]
    early = np.array([visit.kind in EARLY for visit in plan.visits])
    present = behaviour.kept & ((behaviour.visit_day < gone) | early)
    place = {visit.name: index for index, visit in enumerate(plan.visits)}

    def value(where: tuple[str, str, str]) -> np.ndarray:
        v = place[where[2]]
        there = present[:, v] & (behaviour.scanned[:, v] if where[1] else True)
        return np.where(there, read[where], np.nan)

    found = {}
    for name, places in wanted(setting.protocol).items():
        values = [value(where) for where in places if where in read]
        if values:
            found[name] = functools.reduce(lambda old, new: np.where(np.isnan(new), old, new), values)
    return found

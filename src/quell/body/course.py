"""One life under one dosing calendar, on a tape of steps that every arm of a protocol shares.

Time runs in days from the reading on study day 1: a reading on study day d is taken at d - 1, a dose of that day is
given just after it. The drug and the cells advance in small steps, the wall, the heart and the hazards in days: both by
the fourth-order rule of ``relax``, exact where no drug drives. The blood never feels the tissue but through an
infarction, so the tissue sees what the blood offers at the ends of its steps and all that it brings within them. A
failure is a value, not an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quell import blocks
from quell.body import immunity, relax, risk
from quell.body import person as persons
from quell.body.immunity import Blood
from quell.body.parameters import Parameters, Scalar
from quell.body.person import UNITS, Observed, Person, State, Tissue, observe, person, start
from quell.body.population import Patient
from quell.body.risk import Events
from quell.body.steps import Mesh, closer, dense, mesh, refine, tape
from quell.machine import Machine

__all__ = [
    "UNITS",
    "VALID",
    "Events",
    "Life",
    "Mesh",
    "Observed",
    "State",
    "accuracy",
    "live",
    "many",
    "mesh",
    "observe",
    "person",
    "refine",
    "start",
    "trajectory",
]  # fmt: skip

VALID = {
    0: "The life is fine.",
    1: "A state is not a number: a parameter or covariate is out of its range. Look at the patient's covariates and factors.",
    2: "A concentration or a cell count fell below zero. Check for negative doses or parameters.",
}


class Life(NamedTuple):
    """Readings on the observation days, events by study day, whether the life can be trusted (see ``VALID``), and doubt:

    the sum over steps of the embedded rule's error, a bound without a scale; see ``accuracy``."""

    observed: Observed
    events: Events
    valid: Scalar
    doubt: Scalar


class Moment(NamedTuple):
    """What the machine carries from step to step."""

    blood: Blood
    tissue: Tissue
    offers: tuple[Scalar, Scalar, Scalar]  # of the blood to the wall: as the step of tissue began, now, in all since
    rates: risk.Causes  # hazards now
    events: Events
    passed: tuple[Scalar, Scalar, Scalar]  # of the last step: an infarction (1 or 0), how long ago, at what hazard
    loss: tuple[Scalar, Scalar]  # of interleukin-2 at the start of the last small step, and that step's length
    ends: tuple[Scalar, ...]  # drive at the end of the last small step, of what is watched
    doubt: Scalar


class Pace(NamedTuple):
    """What depends on a person and on the length of a step: the closed form over half of it."""

    days: Scalar
    blood: relax.Factors
    tissue: relax.Factors


WATCHED = ("dividing", "desensitised", "away", "spent")  # dimensionless, of the order of one, and the fastest
FORESEEN = 0.75  # how far the foreseen loss may leave that of the start of the step, as a share of it
DOUBT = 0.01  # lives with more are stepped more finely: below it no error beyond 1e-4 was seen (docs/measured.md)
FINER = (2, 4, 8)
EMBEDDED = 0.1  # error of the embedded third-order rule: a tenth of the gap between one step's end and the next's start


def begin(inputs: tuple[Patient, Parameters]) -> tuple[Moment, Person]:
    """A patient at the reading of study day 1."""
    patient, parameters = inputs
    who = person(patient, parameters)
    state, zero = persons.begun(patient, who, 1.0), jnp.zeros(())
    rates = persons.hazards(state.tissue, who)
    nothing = (zero, zero, zero)
    loss = (who.kinetics.usual, jnp.ones(()))
    ends = (zero,) * len(WATCHED)
    return Moment(state.blood, state.tissue, (zero, zero, zero), rates, risk.none(), nothing, loss, ends, zero), who


def pace(who: Person, days: Scalar) -> Pace:
    """The closed forms over half a step."""
    return Pace(
        days,
        relax.factors(who.blood, immunity.LINKS, days / 2),
        relax.factors(who.tissue, persons.LINKS, days / 2, persons.STAYS),
    )


def inject(now: Moment, who: Person, by: Pace, at: Scalar, amount: Scalar) -> Moment:
    """The absorbable part of a dose (10^6 IU) enters the depot: depot + F dose."""
    depot = now.blood.depot + who.kinetics.absorbed * amount
    return now._replace(blood=now.blood._replace(depot=depot))


def small(now: Moment, who: Person, by: Pace, at: Scalar, amount: Scalar) -> Moment:
    """A small step of drug and cells; interleukin-2 relaxes by the loss foreseen for the middle of the step."""
    begun = immunity.loss(now.blood, who.response, who.kinetics)
    earlier, days = now.loss
    foreseen = begun + (begun - earlier) / days * by.days / 2
    rate = jnp.clip(foreseen, FORESEEN * begun, begun / FORESEEN)
    half = relax.renew(by.blood, who.blood, immunity.LINKS, "il2", rate, by.days / 2)

    def push(x: Blood, share: int) -> Blood:
        return immunity.drive(x, rate, who.response, who.kinetics)

    blood, drives, _ = relax.step(now.blood, push, half, immunity.LINKS, by.days)
    undriven = relax.relax(relax.relax(now.blood, half, immunity.LINKS), half, immunity.LINKS).il2
    felt = relax.weighed(tuple(x.il2 for x in drives), rate * by.days, half.left.il2**2)
    blood = blood._replace(il2=undriven + by.days * felt)
    first, _, last = drives
    gaps = (jnp.abs(getattr(first, name) - end) for name, end in zip(WATCHED, now.ends, strict=True))
    doubt = now.doubt + EMBEDDED * by.days * sum(gaps)
    start, before, total = now.offers
    offer = immunity.offered(blood, who.own)
    turn = immunity.offered_change(now.blood, first.ilc2, who.own) - immunity.offered_change(blood, last.ilc2, who.own)
    total = total + by.days * ((before + offer) / 2 + by.days / 12 * turn)  # trapezoid, corrected at its ends
    return now._replace(
        blood=blood,
        offers=(start, offer, total),
        loss=(begun, by.days),
        ends=tuple(getattr(last, name) for name in WATCHED),
        doubt=doubt,
    )


def coast(now: Moment, who: Person, by: Pace, at: Scalar, amount: Scalar) -> Moment:
    """Drug and cells over a long step once the drug is gone: in closed form."""
    half = relax.relax(now.blood, by.blood, immunity.LINKS)
    whole = relax.relax(half, by.blood, immunity.LINKS)
    start, _, _ = now.offers
    mid, end = immunity.offered(half, who.own), immunity.offered(whole, who.own)
    return now._replace(blood=whole, offers=(start, end, by.days * (start + 4 * mid + end) / 6))


def large(now: Moment, who: Person, by: Pace, at: Scalar, amount: Scalar) -> Moment:
    """A step of tissue that begins at ``at``, after the blood's; what crosses its threshold happens.

    The blood's offer is the parabola through its ends that brings as much in all: a dose is felt within hours. C-reactive
    protein returns fast against long steps, so its drive is weighed; hazards gather from the state that results (Simpson).
    """
    begun, ended, total = now.offers
    mean = (6 * total / by.days - begun - ended) / 4
    offers = (begun, mean, mean, ended)

    def press(x: Tissue, stage: int) -> Tissue:
        return persons.drive(x, offers[stage], who)

    tissue, drives, halfway = relax.step(now.tissue, press, by.tissue, persons.LINKS, by.days)
    undriven = relax.relax(now.tissue, by.tissue, persons.LINKS)
    whole = relax.relax(undriven, by.tissue, persons.LINKS).crp
    eased, left, z = tuple(x.crp for x in drives), by.tissue.left.crp, who.tissue.rates.crp * by.days
    half = undriven.crp + by.days / 2 * relax.weighed(relax.quarter(eased), z / 2, left)
    tissue = tissue._replace(crp=whole + by.days * relax.weighed(eased, z, left**2))
    middle, end = persons.hazards(halfway._replace(crp=half), who), persons.hazards(tissue, who)
    before = risk.Causes(*(getattr(now.tissue, name) for name in persons.GATHERED))
    after = jax.tree.map(lambda h, a, b, c: h + by.days * (a + 4 * b + c) / 6, before, now.rates, middle, end)
    tissue = tissue._replace(**after._asdict())
    passed = risk.pass_time(now.events, before, after, who.fate, at, by.days)
    return now._replace(
        tissue=tissue,
        offers=(ended, ended, jnp.zeros(())),
        rates=end,
        events=passed.events,
        passed=(passed.hit, passed.ago, (after.infarction - before.infarction) / by.days),
    )


def hit(now: Moment, who: Person) -> Scalar:
    """Whether there was an infarction in the last step."""
    return now.passed[0]


def strike(now: Moment, who: Person, by: Pace, at: Scalar, amount: Scalar) -> Moment:
    """The loop: a new infarction (taken as an NSTEMI) inflames, scars, and leaves an unhealed culprit.

    What it did since it came is in closed form; hazard gathers anew from then at the rate of the unhealed culprit.
    """
    p, x, (struck, ago, rate) = who.own, now.tissue, now.passed
    size = struck * p.infarction_feedback
    blow = persons.struck(jnp.zeros(()), jnp.ones(()), ago, who)
    tissue = Tissue(*(a + size * b for a, b in zip(x, blow, strict=True)))
    endangered = (1 + p.vulnerability) / (1 + x.vulnerability)
    anew = rate * ago * jnp.where(size > 0, endangered, 1.0)
    tissue = tissue._replace(
        vulnerability=jnp.where(size > 0, blow.vulnerability, x.vulnerability),
        infarction=jnp.where(struck > 0, anew, x.infarction),
    )
    lowered = p.treg_deficit * jnp.exp(-ago / p.treg_deficit_time)
    blood = now.blood._replace(deficit=jnp.where(size > 0, lowered, now.blood.deficit))
    offer = immunity.offered(blood, who.own)
    again = persons.hazards(tissue, who)
    rates = risk.Causes(*(jnp.where(struck > 0, new, old) for new, old in zip(again, now.rates, strict=True)))
    offer = jnp.where(struck > 0, offer, now.offers[0])
    offers = (offer, offer, jnp.zeros(()))
    return now._replace(blood=blood, tissue=tissue, offers=offers, rates=rates)


def emit(now: Moment, who: Person) -> Observed:
    """What could be seen now."""
    return observe(State(now.blood, now.tissue), who)


class Outcome(NamedTuple):
    """How a life ended: events, and what tells whether it can be trusted."""

    events: Events
    sound: Scalar
    doubt: Scalar


def finish(now: Moment, who: Person) -> Outcome:
    """The end: events, doubt, and a sum that is a number only if every state is one."""
    return Outcome(now.events, sum(jax.tree.leaves((now.blood, now.tissue))), now.doubt)


PIECES = {"inject": inject, "small": small, "coast": coast, "large": large, "strike": strike}
MACHINE = Machine(
    identity=("life",),
    begin=begin,
    pace=pace,
    pieces=PIECES,
    emit=emit,
    finish=finish,
    when={"strike": hit},
)


def _inputs(patients: Patient, parameters: Parameters) -> tuple[Patient, Parameters]:
    """What the machine takes: scalars only, so the thresholds of successive infarctions one by one."""
    turns = patients.thresholds.infarction
    apart = tuple(turns[..., i] for i in range(risk.SUCCESSIVE))
    return patients._replace(thresholds=patients.thresholds._replace(infarction=apart)), parameters


def live(patient: Patient, amounts: Scalar, parameters: Parameters, mesh: Mesh) -> Life:
    """One life, run by JAX: for gradients, graphics processors and checks. ``many`` is the fast way.

    ``amounts`` is what was injected on each dose day, 10^6 IU, shape (number of dose days,): zero is placebo or missed.
    A patient who has died is still read as if alive: whoever reads must stop at death.
    """
    amounts = jnp.asarray(amounts, dtype=float)
    seen, outcome = MACHINE.traced(_inputs(patient, parameters), amounts, tape(mesh))
    early = [observe(start(patient, parameters, day), person(patient, parameters)) for day in mesh.early]
    observed = jax.tree.map(lambda late, *before: jnp.concatenate([*map(jnp.atleast_1d, before), late]), seen, *early)
    events = outcome.events._replace(infarction=jnp.stack(outcome.events.infarction))
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in (outcome.sound, *observed)]).all()
    positive = jnp.stack([jnp.all(x >= 0) for x in (*observed, amounts)]).all()
    return Life(observed, events, jnp.where(finite, jnp.where(positive, 0, 2), 1), outcome.doubt)


@functools.cache
def _early(days: tuple[int, ...]) -> blocks.Program:
    """Readings before study day 1, in closed form."""

    def one(patient: Patient, parameters: Parameters) -> tuple[Observed, ...]:
        return tuple(observe(start(patient, parameters, day), person(patient, parameters)) for day in days)

    return blocks.Program(one, identity=("before day 1", days))


def many(
    patients: Patient,
    amounts: Any,
    parameters: Parameters,
    mesh: Mesh,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Life:
    """Many lives at once, as numpy arrays with a leading axis of patients.

    ``amounts`` has shape (N, number of dose days). ``parameters`` are shared, or one set per patient (leading axis N).
    Lives whose ``doubt`` passes ``DOUBT`` are lived again, the small steps halved, quartered, in eighths.
    No byte depends on N, on order or on the number of cores. ``progress(done, of)`` is called now and then.
    Raises ValueError when shapes do not agree.
    """
    total = int(np.shape(patients.age)[0])
    if total == 0:
        raise ValueError("there are no patients to live. Draw at least one.")
    amounts = np.asarray(amounts, dtype=float)
    if amounts.shape != (total, len(mesh.dose_days)):
        raise ValueError(
            f"amounts have shape {amounts.shape}; {total} patients and {len(mesh.dose_days)} dose days "
            f"need {(total, len(mesh.dose_days))}."
        )
    seen, outcome = MACHINE.run(_inputs(patients, parameters), amounts, tape(mesh), progress=progress)
    for finer in FINER:
        again = np.flatnonzero(~(outcome.doubt <= DOUBT))  # also what is not a number
        if len(again) == 0:
            break
        some = jax.tree.map(lambda x, who=again: x[who] if np.ndim(x) else x, _inputs(patients, parameters))
        better = MACHINE.run(some, amounts[again], tape(closer(mesh, finer)))
        for old, new in zip(jax.tree.leaves((seen, outcome)), jax.tree.leaves(better), strict=True):
            old[again] = new
    if mesh.early:
        batched = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x, float), (total,)), parameters)
        first = blocks.over(_early(mesh.early), patients, batched)
        seen = Observed(
            *(
                np.column_stack([*(getattr(one, name) for one in first), getattr(seen, name)])
                for name in Observed._fields
            )
        )
    events = outcome.events._replace(infarction=np.stack(outcome.events.infarction, axis=1))
    return Life(seen, events, _verdict(seen, amounts, outcome.sound), outcome.doubt)


def trajectory(
    patients: Patient, amounts: Any, parameters: Parameters, dose_days: tuple[int, ...], until_day: int, per_day: int
) -> Observed:
    """What could be seen so many times a day: arrays of shape (N, until_day * per_day), from the reading of study day 1.

    The drug within a day, for figures and for comparison with its published kinetics; ``many`` reads whole days.
    """
    tape_ = dense(tuple(dose_days), until_day, per_day)
    seen, _ = MACHINE.run(_inputs(patients, parameters), np.asarray(amounts, dtype=float), tape_)
    return seen


FLOORS = {"il2": 0.01}  # IU/mL: a tenth of what half-saturates the signal of regulatory T cells
TIGHT = 4  # times finer: what is left of its error is a two-hundredth


def accuracy(
    patients: Patient, amounts: Any, parameters: Parameters, mesh: Mesh, *, sample: int = 64
) -> dict[str, Any]:
    """The numerical error of a run, measured: some of its patients, evenly chosen, lived again four times as finely.

    The largest and the 99th percentile over patients of the relative error in any observable on any day (interleukin-2
    above ``FLOORS``), and where the largest was. Events are put off: what follows an infarction moves with its hour, and
    that is known to a hundredth of a day.
    """
    total = int(np.shape(patients.age)[0])
    who = np.unique(np.linspace(0, total - 1, min(sample, total)).astype(int))
    some, given = jax.tree.map(lambda x: np.asarray(x)[who], patients), np.asarray(amounts, dtype=float)[who]
    some = some._replace(thresholds=jax.tree.map(lambda x: np.full_like(x, np.inf), some.thresholds))
    own = jax.tree.map(lambda x: np.asarray(x)[who] if np.ndim(x) else x, parameters)
    rough, fine = many(some, given, own, mesh).observed, many(some, given, own, refine(mesh, TIGHT)).observed
    gaps = {
        name: (np.abs(a - b) / (np.abs(b) + FLOORS.get(name, 0.0) + np.finfo(float).tiny)).max(axis=1)
        for name, a, b in zip(rough._fields, rough, fine, strict=True)
    }
    worst = max(gaps, key=lambda name: gaps[name].max())
    each = np.max(list(gaps.values()), axis=0)
    return {
        "patients": len(who),
        "largest": float(each.max()),
        "percentile_99": float(np.quantile(each, 0.99)),
        "observable": worst,
        "patient": int(who[gaps[worst].argmax()]),
    }


def _verdict(seen: Observed, amounts: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """0, or the code of what went wrong (see ``VALID``), of each patient."""
    finite, positive = np.isfinite(sound), np.ones(len(sound), dtype=bool)
    for column in seen:
        low, total = column.min(axis=1), column.sum(axis=1)
        finite, positive = finite & np.isfinite(total), positive & (low >= 0)
    positive &= (amounts >= 0).all(axis=1)
    finite |= (amounts < 0).any(axis=1)
    return np.where(finite, np.where(positive, 0, 2), 1)

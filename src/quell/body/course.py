"""One life under one dosing calendar, on a time mesh that every arm of a protocol shares.

Time runs in days from the reading on study day 1: a reading on study day d is taken at d - 1, a dose of that day is
given just after it. Within a day the drug and the cells advance in small steps (exponential midpoint rule, second
order; the drug exactly); the wall, the heart and the hazards advance in whole days. A failure is a value, not an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quell import blocks, units
from quell.body import drug, heart, immunity, risk, vessel
from quell.body.parameters import Parameters, Scalar, personal
from quell.body.population import Patient
from quell.body.risk import Events
from quell.body.steps import Mesh, Tables, mesh, refine, tables_of

__all__ = [
    "VALID", "Events", "Life", "Mesh", "Observed", "State", "live", "many", "mesh", "observe", "refine", "start",
]  # fmt: skip

VALID = {
    0: "The life is fine.",
    1: "A state is not a number: a parameter or covariate is out of its range. Look at the patient's covariates and factors.",
    2: "A concentration or a cell count fell below zero. Check for negative doses or parameters.",
}


class State(NamedTuple):
    """The whole patient at one moment."""

    drug: drug.Drug
    cells: immunity.Cells
    inflammation: immunity.Inflammation
    vessel: vessel.Vessel
    heart: heart.Heart
    risk: risk.Risk


class Observed(NamedTuple):
    """What could be seen of a patient at one moment, without error."""

    il2: Scalar  # IU/mL
    treg: Scalar  # cells/µL
    treg_percent: Scalar  # % of CD4 cells
    teff: Scalar  # cells/µL
    nk: Scalar  # cells/µL
    nk_bright: Scalar  # cells/µL
    ilc2: Scalar  # cells/µL
    eosinophils: Scalar  # cells/µL
    il5: Scalar  # pg/mL
    il6: Scalar  # ng/L
    crp: Scalar  # mg/L
    tbr_ascending_aorta: Scalar
    tbr_left_carotid: Scalar
    tbr_right_carotid: Scalar
    tbr_coronary: Scalar
    ejection_fraction: Scalar  # %
    infarct_mass: Scalar  # g
    hazard: Scalar  # of infarction, per year


class Life(NamedTuple):
    """Readings on the observation days, events by study day, and whether the life can be trusted (see ``VALID``)."""

    observed: Observed
    events: Events
    valid: Scalar


def start(patient: Patient, parameters: Parameters, study_day: Scalar) -> State:
    """The patient before any drug, in closed form, at the reading of a study day of 1 or earlier.

    Everything follows from the time since the index event; before it the patient is stable.

    >>> from quell import keys
    >>> from quell.body import population
    >>> from quell.body.parameters import load
    >>> who = population.draw(keys.root(1), load(), population.POPULATIONS["ivory"])
    >>> float(start(who, load(), 1).drug.il2)
    0.0
    """
    p = personal(parameters, patient.own)
    days = patient.days_since_infarction + study_day - 1
    since, happened = jnp.maximum(days, 0), jnp.where(days >= 0, 1.0, 0.0)
    stemi, nstemi = _type(patient)
    surge = happened * immunity.surge_size(stemi, nstemi, p)
    inflammation = immunity.after(since, surge, p)
    whole = heart.infarct(
        heart.Heart(p.old_scar * patient.previous_infarction, jnp.zeros(()), jnp.zeros(())),
        happened * heart.infarct_size(stemi, nstemi, p),
        p,
    )
    return State(
        drug=drug.none(),
        cells=immunity.healthy(),
        inflammation=inflammation._replace(deficit=happened * inflammation.deficit),
        vessel=vessel.after(since, happened * vessel.supply_size(stemi, nstemi, p), p),
        heart=heart.heal(whole, since, p),
        risk=risk.start(since, p),
    )


def _type(patient: Patient) -> tuple[Scalar, Scalar]:
    return jnp.where(patient.infarct_type == 2, 1.0, 0.0), jnp.where(patient.infarct_type == 1, 1.0, 0.0)


def observe(state: State, patient: Patient, parameters: Parameters) -> Observed:
    """What could be seen of a patient in a state, without error.

    Cells of the blood are those of the body less those away; TBR and ejection fraction as in ``vessel`` and ``heart``.
    """
    return _observe(state, person(patient, parameters))


class Person(NamedTuple):
    """A patient with what follows from his or her own constants, worked out once."""

    patient: Patient
    own: Parameters
    affinity: immunity.Affinity
    kinetics: drug.Kinetics
    prone: risk.Causes


def person(patient: Patient, parameters: Parameters) -> Person:
    """The patient's own constants and what follows from them."""
    p = personal(parameters, patient.own)
    affinity = immunity.affinity(p)
    return Person(patient, p, affinity, drug.kinetics(p, affinity.treg), risk.proneness(patient, p))


def _observe(state: State, who: Person) -> Observed:
    p, cells = who.own, state.cells
    calmed = vessel.calm_blood(state.vessel.calming, p)
    u = immunity.signal(state.drug.il2, cells.cd122, who.affinity, p)
    treg = p.cd4_count * p.treg_share * immunity.treg_fold(cells, state.inflammation.deficit) * (1 - cells.away)
    teff = p.cd4_count * (1 - p.treg_share) * cells.teff * (1 - p.teff_margination * cells.away)
    in_nk = 1 - p.nk_margination * cells.away
    coronary = vessel.uptake(state.vessel, p.uptake_coronary)
    now = _hazards(state, who)
    return Observed(
        il2=state.drug.il2,
        treg=treg,
        treg_percent=heart.PERCENT * treg / (treg + teff),
        teff=teff,
        nk=p.nk_count * cells.nk * in_nk,
        nk_bright=p.bright_count * cells.bright * in_nk,
        ilc2=p.ilc2_count * cells.ilc2,
        eosinophils=p.eosinophil_count * cells.eosinophils * (1 - p.eosinophil_margination * cells.away),
        il5=p.il5_level * immunity.il5_fold(cells, u, p),
        il6=immunity.il6(state.inflammation, calmed, p),
        crp=state.inflammation.crp,
        tbr_ascending_aorta=vessel.uptake(state.vessel, p.uptake_ascending_aorta),
        tbr_left_carotid=vessel.uptake(state.vessel, p.uptake_left_carotid),
        tbr_right_carotid=vessel.uptake(state.vessel, p.uptake_right_carotid),
        tbr_coronary=coronary,
        ejection_fraction=heart.ejection_fraction(state.heart, who.patient.body_surface_area, p),
        infarct_mass=heart.mass(state.heart),
        hazard=now.infarction * units.DAYS_PER_YEAR,
    )


def _hazards(state: State, who: Person) -> risk.Causes:
    p = who.own
    uptake = vessel.uptake(state.vessel, p.uptake_coronary)
    scar = heart.scar_percent(state.heart, who.patient.body_surface_area, p)
    return risk.hazards(who.prone, state.risk.vulnerability, state.inflammation.crp, uptake, scar, p)


def live(patient: Patient, amounts: Scalar, parameters: Parameters, mesh: Mesh) -> Life:
    """One life: readings on the mesh's observation days, and events until its last day.

    ``amounts`` is what was injected on each dose day, 10^6 IU, shape (number of dose days,): zero is placebo or missed.
    A patient who has died is still read as if alive: whoever reads must stop at death.
    """
    who = person(patient, parameters)
    tables = Tables(*(jnp.asarray(column) for column in tables_of(mesh)))
    doses = jnp.append(jnp.asarray(amounts, dtype=float), 0.0)

    def segment(state, ends):
        state = jax.lax.fori_loop(ends[0], ends[1], lambda i, now: _day(i, now, doses, tables, who), state)
        return state, _observe(state, who)

    begun = start(patient, parameters, 1)
    final, seen = jax.lax.scan(segment, begun, (tables.segment_first, tables.segment_last))
    early = [_observe(start(patient, parameters, day), who) for day in mesh.observe_days if day < 1]
    observed = jax.tree.map(
        lambda late, *before: jnp.concatenate([*map(jnp.atleast_1d, before), late[:-1]]), seen, *early
    )
    return Life(observed, final.risk.events, _verdict(final, observed, doses))


def _verdict(final: State, observed: Observed, doses: Scalar) -> Scalar:
    """0, or the code of what went wrong (see ``VALID``)."""
    numbers = [*jax.tree.leaves(final.cells), *final.risk.gathered, final.drug.il2, *observed]
    finite = jnp.stack([jnp.all(jnp.isfinite(x)) for x in numbers]).all()
    positive = jnp.stack([jnp.all(x >= 0) for x in (*observed, doses)]).all()
    return jnp.where(finite, jnp.where(positive, 0, 2), 1)


def _day(i: Scalar, state: State, doses: Scalar, tables: Tables, who: Person) -> State:
    """One step of the slow organs (a day, or several in follow-up), with the fast ones inside it."""
    p, length = who.own, tables.length[i]
    usual = 1 - state.inflammation.deficit * jnp.exp(-length / 2 / p.treg_deficit_time)
    amount = doses[tables.dose[i]]

    def substep(j, now):
        injected = drug.inject(now.drug, jnp.where(j == tables.enter[i], amount, 0.0), p)
        return _advance(now._replace(drug=injected), usual, tables.substeps[j], who)

    begun = Fast(state.drug, state.cells, state.vessel.calming, jnp.zeros(()))
    fast = jax.lax.fori_loop(tables.first[i], tables.last[i], substep, begun)
    rest = jnp.where(tables.first[i] == tables.last[i], 1, 0)
    fast = jax.lax.fori_loop(0, rest, lambda _, now: _rest(now, usual, length, p), fast)
    moved = _slow(state, fast, length, p)
    gathered, hit = _gather(state, moved, tables.begin[i], length, who)
    harm = risk.infarct(risk.Harm(moved.inflammation, moved.vessel, moved.heart, gathered.vulnerability), hit, p)
    after = gathered._replace(vulnerability=harm.vulnerability)
    return State(moved.drug, moved.cells, harm.inflammation, harm.vessel, harm.heart, after)


class Fast(NamedTuple):
    """What advances in small steps: drug, cells, the calming cells in the wall, and their sum over time."""

    drug: drug.Drug
    cells: immunity.Cells
    calming: Scalar
    area: Scalar


def _advance(now: Fast, usual: Scalar, days: Scalar, who: Person) -> Fast:
    """One small step: rates at its start give its middle, rates at its middle give its end (exponential midpoint)."""
    half = immunity.kept(days / 2, who.own, immunity.slow_decay)
    whole = immunity.Kept(*(left * left for left in half))
    by_half = (jnp.exp(-who.kinetics.absorption * days / 2), jnp.exp(-who.kinetics.transit * days / 2))
    by_whole = (by_half[0] * by_half[0], by_half[1] * by_half[1])
    first = _half_step(now, now, usual, (half, by_half, days / 2), who)
    last = _half_step(now, first, usual, (whole, by_whole, days), who)
    return last._replace(area=now.area + days * first.calming)


def _rest(now: Fast, usual: Scalar, days: Scalar, p: Parameters) -> Fast:
    """A step of any length once the drug is gone: no substeps are needed."""
    half, whole = immunity.settle(now.cells, days / 2, p), immunity.settle(now.cells, days, p)
    offered = immunity.calming_signal(half, usual, p)
    middle = vessel.enter(now.calming, immunity.calming_signal(now.cells, usual, p), days / 2, p)
    return Fast(
        jax.tree.map(jnp.zeros_like, now.drug),
        whole,
        vessel.enter(now.calming, offered, days, p),
        now.area + days * middle,
    )


def _half_step(begun: Fast, now: Fast, usual: Scalar, step: tuple, who: Person) -> Fast:
    """From ``begun`` over a step with the rates of ``now``."""
    p, (left, drug_left, days) = who.own, step
    u = immunity.signal(now.drug.il2, now.cells.cd122, who.affinity, p)
    lost = drug.loss(immunity.treg_fold(now.cells, 1 - usual), now.cells.cd122, u.engaged, who.kinetics)
    return Fast(
        drug.advance(begun.drug, lost, drug_left, days, who.kinetics),
        immunity.advance(begun.cells, now.cells, u, 1 - usual, left, days, p),
        vessel.enter(begun.calming, immunity.calming_signal(now.cells, usual, p), days, p),
        begun.area,
    )


def _slow(state: State, fast: Fast, length: Scalar, p: Parameters) -> State:
    """The slow organs over a step, given what the fast ones did in it."""
    mean = fast.area / length
    late = immunity.centre(p.crp_turnover, length) / length - 0.5
    felt = mean + (fast.calming - state.vessel.calming) * late
    wall = vessel.advance(state.vessel, vessel.calm(mean, p), length, p)
    return State(
        drug=fast.drug,
        cells=fast.cells,
        inflammation=immunity.subside(state.inflammation, vessel.calm_blood(felt, p), length, p),
        vessel=wall._replace(calming=fast.calming),
        heart=heart.heal(state.heart, length, p),
        risk=state.risk,
    )


def _gather(before: State, after: State, begin: Scalar, length: Scalar, who: Person) -> tuple[risk.Risk, Scalar]:
    """Hazard over a step, from the mean of the organs before and after it; what happens; an infarction, 1 or 0."""
    now, tau = before.risk, who.own.vulnerability_time
    end = now.vulnerability * jnp.exp(-length / tau)
    mean = now._replace(vulnerability=(now.vulnerability - end) * tau / length)
    halfway = after._replace(
        inflammation=_mean(before.inflammation, after.inflammation),
        vessel=_mean(before.vessel, after.vessel),
        heart=_mean(before.heart, after.heart),
        risk=mean,
    )
    rates = _hazards(halfway, who)
    return risk.pass_time(now._replace(vulnerability=end), who.patient.thresholds, rates, begin, length)


def _mean(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: (x + y) / 2, a, b)


@functools.cache
def program(grid: Mesh, batched: bool) -> blocks.Program:
    """The compiled life on a mesh, with parameters for each patient or shared by all."""

    def one(patient: Patient, amounts: Scalar, parameters: Parameters) -> Life:
        return live(patient, amounts, parameters, grid)

    return blocks.Program(one, identity=("life", grid, batched), in_axes=(0, 0, 0 if batched else None), hot=True)


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
    Blocks of a fixed width run on every core: no byte depends on N, on order or on the number of cores.
    ``progress(done, of)`` is called after each block, in blocks. Raises ValueError when shapes do not agree.
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
    batched = np.ndim(parameters.bioavailability) == 1
    life = program(mesh, batched)
    if batched:
        return blocks.over(life, patients, amounts, parameters, progress=progress)
    shared = Parameters(*(np.float64(x) for x in parameters))
    return blocks.over(life, patients, amounts, shared=(shared,), progress=progress)

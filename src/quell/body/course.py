"""One life under one dosing calendar, on a time mesh that every arm of a protocol shares.

Time runs in days from the reading on study day 1: a reading on study day d is taken at d - 1, a dose of that day is
given just after it. Within a day the drug and the cells advance in small steps (exponential midpoint rule, second
order; the drug exactly); the wall, the heart and the hazards advance in whole days. A failure is a value, not an error.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quell import units
from quell.body import drug, heart, immunity, risk, vessel
from quell.body.parameters import Parameters, Scalar, load, personal
from quell.body.population import Patient
from quell.body.risk import Events

BLOCK = 512  # patients advanced together; always this many, so that no byte depends on how many were asked for

WIDE = {"xla_cpu_prefer_vector_width": "512"}  # widest vectors where the processor has them: twice the speed

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


class Step(NamedTuple):
    """One step of the slow organs: when, how long, which dose (-1: none) enters at which of its substeps."""

    begin: float
    length: float
    dose: int
    enter: int
    substeps: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Steps in time: hashable, shared by all arms. ``mesh`` makes one."""

    dose_days: tuple[int, ...]
    observe_days: tuple[int, ...]
    until_day: int
    steps: tuple[Step, ...]


# The grading of the mesh, chosen by measurement (benchmarks/lives.py): days after a dose -> (first step, growth, longest)
GRADING = ((1, (0.003, 1.18, 0.018)), (2, (0.022, 1.06, 0.06)), (3, (0.07, 1.2, 0.2)), (4, (0.2, 1.2, 0.25)))
QUIET = (0.34, 1.0, 0.34)
WASHOUT = 9  # days after a dose until nothing of it is left (the slowest absorber keeps a billionth)
LATER = (0.05, 7.0)  # follow-up steps: share of the time since washout, and the longest, days


@functools.cache
def mesh(dose_days: tuple[int, ...], observe_days: tuple[int, ...], until_day: int) -> Mesh:
    """The time mesh of a protocol: fine after a dose, coarser later, coarse in follow-up.

    ``dose_days`` and ``observe_days`` are study days in rising order; readings before study day 1 come from the closed
    form of ``start``. Raises ValueError in a sentence when days are out of order or past ``until_day``.

    >>> mesh((1, 2), (1, 5), 30).until_day
    30
    """
    for what, days in (("dose", dose_days), ("observation", observe_days)):
        if list(days) != sorted(set(days)):
            raise ValueError(f"the {what} days {days} are not in rising order. Sort them and name each once.")
        if days and days[-1] > until_day:
            raise ValueError(f"the {what} on day {days[-1]} is after the end, day {until_day}. Follow for longer.")
    if dose_days and dose_days[0] < 1:
        raise ValueError(f"the dose on day {dose_days[0]} is before study day 1. The first dose day is day 1.")
    if until_day < 1:
        raise ValueError(f"a life until day {until_day} has no time in it. Let it run to day 1 or later.")
    edges = _edges(dose_days, observe_days, until_day)
    return Mesh(dose_days, observe_days, until_day, tuple(_step(a, b, dose_days) for a, b in zip(edges, edges[1:], strict=False)))


def _edges(dose_days: tuple[int, ...], observe_days: tuple[int, ...], until_day: int) -> list[int]:
    """Whole days at which the slow organs step."""
    quiet = (max(dose_days) if dose_days else 0) + WASHOUT
    stops = sorted({day - 1 for day in observe_days if day > 1} | {until_day})
    edges, longest = [0], 1.0
    while edges[-1] < until_day:
        now = edges[-1]
        if now >= quiet:
            longest = min(1 + LATER[0] * (now - quiet), LATER[1])
        stop = next(s for s in stops if s > now)
        edges.append(min(now + int(longest), stop))
    return edges


def _step(begin: int, end: int, dose_days: tuple[int, ...]) -> Step:
    doses = [day - 1 for day in dose_days if day - 1 <= begin]
    since = begin - doses[-1] if doses else WASHOUT
    length = float(end - begin)
    grading = next((grade for until, grade in GRADING if since < until), QUIET)
    if since >= WASHOUT:
        return Step(float(begin), length, -1, 0, ())
    if since > 0:
        return Step(float(begin), length, -1, 0, _graded(length, *grading))
    lag = load().absorption_lag
    return Step(float(begin), length, dose_days.index(begin + 1), 1, (lag, *_graded(length - lag, *grading)))


def _graded(length: float, first: float, growth: float, longest: float) -> tuple[float, ...]:
    """Steps that grow from ``first`` to ``longest`` and fill ``length`` exactly."""
    steps = [first]
    while sum(steps) < length:
        steps.append(min(steps[-1] * growth, longest))
    scale = length / sum(steps)
    return tuple(step * scale for step in steps)


def refine(grid: Mesh, times: int) -> Mesh:
    """The same mesh with every step and substep in ``times`` parts: what is left of the error shows by comparison.

    >>> len(refine(mesh((), (), 30), 2).steps) == 2 * len(mesh((), (), 30).steps)
    True
    """
    steps: list[Step] = []
    for step in grid.steps:
        begin, count = step.begin, len(step.substeps)
        for part in range(times):
            here = tuple(step.substeps[i // times] / times for i in range(part * count, (part + 1) * count))
            enter = step.enter * times - part * count
            dose = step.dose if 0 <= enter < count else -1
            length = sum(here) or step.length / times
            steps.append(Step(begin, length, dose, max(enter, 0), here))
            begin += length
    return dataclasses.replace(grid, steps=tuple(steps))


def start(patient: Patient, parameters: Parameters, study_day: Scalar) -> State:
    """The patient before any drug, in closed form, at the reading of a study day of 1 or earlier.

    Everything follows from the time since the index event; before it the patient is stable.

    >>> from quell import keys
    >>> from quell.body import population
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
    whole = heart.infarct(heart.Heart(p.old_scar * patient.previous_infarction, jnp.zeros(()), jnp.zeros(())),
                          happened * heart.infarct_size(stemi, nstemi, p), p)
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


class Tables(NamedTuple):
    """The mesh as arrays: per step, its start, length, dose and range of substeps; per observation, its range of steps."""

    begin: Any
    length: Any
    dose: Any
    enter: Any
    first: Any
    last: Any
    substeps: Any
    segment_first: Any
    segment_last: Any


@functools.cache
def _tables(grid: Mesh) -> Tables:
    counts = np.array([len(step.substeps) for step in grid.steps])
    last = np.cumsum(counts)
    begin = np.array([step.begin for step in grid.steps])
    stops = [day - 1 - NEAR for day in grid.observe_days if day >= 1]
    ends = np.append(np.searchsorted(begin, stops), len(begin)).astype(np.int64)
    return Tables(
        begin=begin,
        length=np.array([step.length for step in grid.steps]),
        dose=np.array([step.dose for step in grid.steps]),
        enter=last - counts + np.array([step.enter for step in grid.steps]),
        first=last - counts,
        last=last,
        substeps=np.array([length for step in grid.steps for length in step.substeps] or [0.0]),
        segment_first=np.append(0, ends[:-1]),
        segment_last=ends,
    )


NEAR = 1e-6  # days: sums of steps that should meet a whole day may miss it by rounding


def live(patient: Patient, amounts: Scalar, parameters: Parameters, mesh: Mesh) -> Life:
    """One life: readings on the mesh's observation days, and events until its last day.

    ``amounts`` is what was injected on each dose day, 10^6 IU, shape (number of dose days,): zero is placebo or missed.
    A patient who has died is still read as if alive: whoever reads must stop at death.
    """
    who = person(patient, parameters)
    tables = Tables(*(jnp.asarray(column) for column in _tables(mesh)))
    doses = jnp.append(jnp.asarray(amounts, dtype=float), 0.0)

    def segment(state, ends):
        state = jax.lax.fori_loop(ends[0], ends[1], lambda i, now: _day(i, now, doses, tables, who), state)
        return state, _observe(state, who)

    begun = start(patient, parameters, 1)
    final, seen = jax.lax.scan(segment, begun, (tables.segment_first, tables.segment_last))
    early = [_observe(start(patient, parameters, day), who) for day in mesh.observe_days if day < 1]
    observed = jax.tree.map(lambda late, *before: jnp.concatenate([*map(jnp.atleast_1d, before), late[:-1]]), seen, *early)
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
    p, half = who.own, immunity.kept(days / 2, who.own)
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
    return Fast(jax.tree.map(jnp.zeros_like, now.drug), whole, vessel.enter(now.calming, offered, days, p), now.area + days * middle)


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
    halfway = State(after.drug, after.cells, *(_mean(a, b) for a, b in zip(before[2:5], after[2:5], strict=True)), mean)
    rates = _hazards(halfway, who)
    return risk.pass_time(now._replace(vulnerability=end), who.patient.thresholds, rates, begin, length)


def _mean(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: (x + y) / 2, a, b)


@functools.cache
def _compiled(grid: Mesh, batched: bool) -> Callable[..., Life]:
    each = jax.vmap(lambda patient, amounts, parameters: live(patient, amounts, parameters, grid),
                    in_axes=(0, 0, 0 if batched else None))
    return jax.jit(each, compiler_options=WIDE)


def many(patients: Patient, amounts: Any, parameters: Parameters, mesh: Mesh, *,
         progress: Callable[[int, int], None] | None = None) -> Life:
    """Many lives at once, as numpy arrays with a leading axis of patients.

    ``amounts`` has shape (N, number of dose days). ``parameters`` are shared, or one set per patient (leading axis N).
    Blocks of a fixed width run on every core: no byte depends on N, on order or on the number of cores.
    ``progress(done, N)`` is called after each block. Raises ValueError when shapes do not agree.
    """
    total = int(np.shape(patients.age)[0])
    amounts = np.asarray(amounts, dtype=float)
    if amounts.shape != (total, len(mesh.dose_days)):
        raise ValueError(f"amounts have shape {amounts.shape}; {total} patients and {len(mesh.dose_days)} dose days "
                         f"need {(total, len(mesh.dose_days))}.")
    batched = np.ndim(parameters.bioavailability) == 1
    leaves = jax.tree.map(np.asarray, (patients, amounts, parameters if batched else None))
    shared = Parameters(*(np.float64(x) for x in parameters)) if not batched else None
    run = _compiled(mesh, batched)

    def block(first: int) -> Life:
        rows = np.minimum(np.arange(first, first + BLOCK), total - 1)
        who, given, theirs = jax.tree.map(lambda x: x[rows], leaves)
        return jax.tree.map(np.asarray, run(who, given, shared if theirs is None else theirs))

    blocks = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(block, range(0, total, BLOCK)):
            blocks.append(done)
            if progress:
                progress(min(len(blocks) * BLOCK, total), total)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:total], *blocks)

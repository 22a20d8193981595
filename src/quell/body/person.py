"""A patient with what follows from his or her own constants, and the whole of the body at one moment."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from quell import units
from quell.body import drug, heart, immunity, relax, risk, vessel
from quell.body.immunity import Blood
from quell.body.parameters import Parameters, Scalar, personal
from quell.body.population import Patient


class Tissue(NamedTuple):
    """The slow part of the body: inflammation, wall, heart, and the hazard gathered since the start."""

    surge: Scalar  # inflammatory drive above the resting one, mg/L
    crp: Scalar  # C-reactive protein above the resting one, mg/L
    calming: Scalar  # calming cells in the wall beyond the usual number, fold
    supply: Scalar  # marrow and spleen activation, with ``delay`` taken off
    delay: Scalar
    resident: Scalar  # wall inflammation beyond the stable patient's, fold
    recruited: Scalar
    neutrophils: Scalar  # in the infarct, as shares of a reference infarct
    inflammatory: Scalar
    reparative: Scalar
    fibroblasts: Scalar
    scar: Scalar  # g
    fast: Scalar  # g
    slow: Scalar  # g
    dilation: Scalar  # share of end-diastolic volume gained
    vulnerability: Scalar  # excess hazard of the unhealed culprit
    infarction: Scalar  # hazard gathered since the last one
    stroke: Scalar
    arrest: Scalar
    revascularisation: Scalar
    cardiovascular_death: Scalar
    other_death: Scalar


LINKS = (relax.Link("surge", "crp"), *vessel.LINKS, *heart.LINKS)
GATHERED = risk.Causes._fields
STAYS = ("scar", *GATHERED)  # no rate of return


class Person(NamedTuple):
    """One patient's constants: own parameters, and what is worked out from them once."""

    own: Parameters
    response: immunity.Response
    kinetics: drug.Kinetics
    blood: relax.Relaxation
    tissue: relax.Relaxation
    prone: risk.Causes
    fate: risk.Causes  # thresholds; of infarction, a tuple
    area: Scalar  # body surface, m2
    statin: Scalar  # made stronger on day 1: 1 or 0
    percent: Scalar  # % of the left ventricle per gram


class State(NamedTuple):
    """The whole patient at one moment."""

    blood: Blood
    tissue: Tissue


class Observed(NamedTuple):
    """What could be seen of a patient at one moment, without error. ``UNITS`` holds the units."""

    il2: Scalar
    treg: Scalar
    treg_percent: Scalar
    teff: Scalar
    nk: Scalar
    nk_bright: Scalar
    ilc2: Scalar
    eosinophils: Scalar
    il5: Scalar
    il6: Scalar
    crp: Scalar
    tbr_ascending_aorta: Scalar
    tbr_left_carotid: Scalar
    tbr_right_carotid: Scalar
    tbr_coronary: Scalar
    ejection_fraction: Scalar
    infarct_mass: Scalar
    hazard: Scalar  # of infarction
    soluble_cd25: Scalar
    end_diastolic_volume: Scalar


COUNT, TBR = "cells/µL", "TBR"
UNITS = Observed(
    "IU/mL", COUNT, "%", COUNT, COUNT, COUNT, COUNT, COUNT, "pg/mL", "ng/L", "mg/L", TBR, TBR, TBR, TBR, "%", "g", "1/year",
    "fold", "mL",
)  # fmt: skip


def person(patient: Patient, parameters: Parameters) -> Person:
    """The patient's own constants and what follows from them; thresholds of infarction may be an array or a tuple."""
    p = personal(parameters, patient.own)
    response = immunity.response(p)
    kinetics = drug.kinetics(p, response.affinity.treg)
    area = patient.body_surface_area
    turns = patient.thresholds.infarction
    fate = patient.thresholds._replace(infarction=tuple(turns[i] for i in range(risk.SUCCESSIVE)))
    return Person(
        own=p,
        response=response,
        kinetics=kinetics,
        blood=relax.Relaxation(immunity.rates(p, kinetics), immunity.strengths(p)),
        tissue=relax.Relaxation(rates(p), (p.crp_turnover, *vessel.strengths(p), *heart.strengths(p))),
        prone=risk.proneness(patient, p),
        fate=fate,
        area=area,
        statin=patient.statin_intensified,
        percent=heart.scar_percent(jnp.ones(()), area, p),
    )


def rates(p: Parameters) -> Tissue:
    """Rates of return of the slow part, per day."""
    return Tissue(
        surge=p.surge_decay,
        crp=p.crp_turnover,
        **vessel.rates(p),
        **heart.rates(p),
        vulnerability=1 / p.vulnerability_time,
        **dict.fromkeys(GATHERED, jnp.zeros(())),
    )


def start(patient: Patient, parameters: Parameters, study_day: Scalar) -> State:
    """The patient before any drug, in closed form, at the reading of a study day of 1 or earlier.

    Everything follows from the time since the index event; before it the patient is stable.

    >>> from quell import keys
    >>> from quell.body import population
    >>> from quell.body.parameters import load
    >>> who = population.draw(keys.root(1), load(), population.POPULATIONS["ivory"])
    >>> float(start(who, load(), 1).blood.il2)
    0.0
    """
    return begun(patient, person(patient, parameters), study_day)


def begun(patient: Patient, who: Person, study_day: Scalar) -> State:
    """As ``start``, with the person at hand."""
    p = who.own
    days = patient.days_since_infarction + study_day - 1
    since, happened = jnp.maximum(days, 0.0), jnp.where(days >= 0, 1.0, 0.0)
    stemi, nstemi = (jnp.where(patient.infarct_type == kind, 1.0, 0.0) for kind in (2, 1))
    blow = struck(stemi, nstemi, since, who)
    old = p.old_scar * patient.previous_infarction
    tissue = Tissue(*(happened * part for part in blow))
    widened = heart.widening((tissue.scar, tissue.fast, tissue.slow), since, p) * who.percent
    steady = p.dilation_gain * who.percent * old
    tissue = tissue._replace(scar=tissue.scar + old, dilation=widened + steady)
    low = immunity.healthy()._replace(deficit=happened * p.treg_deficit)
    return State(relax.relax(low, relax.factors(who.blood, immunity.LINKS, since), immunity.LINKS), tissue)


def struck(stemi: Scalar, nstemi: Scalar, ago: Scalar, who: Person) -> Tissue:
    """What an infarction of a type has done to tissue when it is so many days ago."""
    p, zero = who.own, jnp.zeros(())
    supply = vessel.supply_size(stemi, nstemi, p)
    blow = dict.fromkeys(Tissue._fields, zero) | heart.infarct(heart.infarct_size(stemi, nstemi, p), p)
    blow |= {"surge": immunity.surge_size(stemi, nstemi, p), "supply": supply, "delay": supply}
    blow |= {"vulnerability": p.vulnerability}
    return relax.relax(Tissue(**blow), relax.factors(who.tissue, LINKS, ago, STAYS), LINKS)


def hazards(x: Tissue, who: Person) -> risk.Causes:
    """Hazards per day in a state."""
    p = who.own
    uptake = vessel.uptake(x.resident, x.recruited, p.uptake_coronary)
    scar = who.percent * (x.scar + x.fast + x.slow)
    return risk.hazards(who.prone, x.vulnerability, p.residual_crp + x.crp, uptake, scar, p)


def drive(x: Tissue, offered: Scalar, who: Person) -> Tissue:
    """What calming adds to the relaxation of tissue, per day; ``offered`` is what the blood brings. Hazards gather apart."""
    p = who.own
    calmed = vessel.calm(x.calming, who.statin, p)
    eased = p.crp_turnover * (p.residual_crp + x.surge) * (1 / vessel.calm_blood(x.calming, p) - 1)
    nothing = dict.fromkeys(Tissue._fields, relax.NOTHING)
    changes: dict[str, Any] = nothing | {"crp": eased, "calming": p.tissue_entry * offered}
    changes |= vessel.drive(x.supply - x.delay, calmed, p)
    changes |= heart.drive(x.inflammatory, x.fast, who.percent * (x.scar + x.fast + x.slow), x.calming, p)
    return Tissue(**changes)


def observe(state: State, who: Person) -> Observed:
    """What could be seen of a patient in a state, without error.

    Cells of the blood are those of the body less those away; TBR and ejection fraction as in ``vessel`` and ``heart``.
    """
    p, x, y = who.own, state.blood, state.tissue
    stayed = 1 - x.away  # a cell of another kind leaves at its own ratio of rates, so the shares are powers
    treg = p.cd4_count * p.treg_share * immunity.treg_fold(x) * stayed
    teff = p.cd4_count * (1 - p.treg_share) * (1 + x.teff) * stayed**p.teff_margination
    in_nk = stayed**p.nk_margination
    mass = y.scar + y.fast + y.slow
    vessels = {
        f"tbr_{name}": vessel.uptake(y.resident, y.recruited, getattr(p, f"uptake_{name}")) for name in vessel.VESSELS
    }
    return Observed(
        il2=x.il2,
        treg=treg,
        treg_percent=heart.PERCENT * treg / (treg + teff),
        teff=teff,
        nk=p.nk_count * (1 + x.nk) * in_nk,
        nk_bright=p.bright_count * (1 + x.bright) * in_nk,
        ilc2=p.ilc2_count * (1 + x.ilc2),
        eosinophils=p.eosinophil_count * (1 + x.eosinophils) * stayed**p.eosinophil_margination,
        il5=p.il5_level * immunity.il5_fold(x, who.response, who.kinetics),
        il6=immunity.il6(y.surge, vessel.calm_blood(y.calming, p), p),
        crp=p.residual_crp + y.crp,
        **vessels,
        ejection_fraction=heart.ejection_fraction(who.percent * mass, p),
        infarct_mass=mass,
        hazard=hazards(y, who).infarction * units.DAYS_PER_YEAR,
        soluble_cd25=1 + x.soluble,
        end_diastolic_volume=heart.end_diastolic_volume(y.dilation, who.area, p),
    )


def slopes(state: State, who: Person) -> State:
    """The whole right-hand side, per day: relaxation and drive. What other solvers and other formats get.

    The equations stand in ``drug``, ``immunity``, ``vessel``, ``heart`` and ``risk``.
    """
    blood = relax.slopes(state.blood, who.blood, immunity.LINKS)
    tissue = relax.slopes(state.tissue, who.tissue, LINKS)
    pushed = immunity.drive(state.blood, who.kinetics.usual, who.response, who.kinetics)
    pressed = drive(state.tissue, immunity.offered(state.blood, who.own), who)
    pressed = pressed._replace(**hazards(state.tissue, who)._asdict())
    return State(relax.add(blood, pushed), relax.add(tissue, pressed))

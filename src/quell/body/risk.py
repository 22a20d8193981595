"""Hazards of infarction, stroke, arrest, revascularisation and death; and what an infarction does to the body: the loop.

An event comes when its cumulative hazard crosses a threshold drawn once per patient (unit exponential), so the same
patient under two treatments shares fate wherever the treatment does nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell import units
from quell.body import heart, immunity, vessel
from quell.body.parameters import Parameters, Scalar

SUCCESSIVE = 4  # infarctions followed in one life


class Causes(NamedTuple):
    """One number per cause; infarctions may recur."""

    infarction: Scalar
    stroke: Scalar
    arrest: Scalar
    revascularisation: Scalar
    cardiovascular_death: Scalar
    other_death: Scalar


class Events(NamedTuple):
    """Study days of events, infinite if none; ``infarction`` holds the successive ones, shape (4,)."""

    infarction: Scalar
    stroke: Scalar
    arrest: Scalar
    revascularisation: Scalar
    cardiovascular_death: Scalar
    other_death: Scalar


class Risk(NamedTuple):
    """Hazard gathered since the start (infarction: since the last one), and what has happened."""

    gathered: Causes
    vulnerability: Scalar  # excess hazard of the unhealed culprit, decaying
    infarctions: Scalar
    events: Events


def start(days: Scalar, p: Parameters) -> Risk:
    """Nothing gathered, nothing happened, ``days`` after the index event."""
    never, zero = jnp.full((), jnp.inf), jnp.zeros(())
    events = Events(jnp.full((SUCCESSIVE,), jnp.inf), never, never, never, never, never)
    excess = p.vulnerability * jnp.exp(-days / p.vulnerability_time)
    return Risk(Causes(zero, zero, zero, zero, zero, zero), excess, zero, events)


def proneness(patient, p: Parameters) -> Causes:
    """Rates per day of a patient by age, diabetes, earlier infarction and revascularisation, before inflammation.

    Rate = h0 share exp(slope (age - age0)) HR...: ratios from E135, shares from the placebo arm of COLCOT (E124).
    """
    older = patient.age - p.reference_age
    history = p.diabetes_ratio**patient.diabetes * p.previous_infarction_ratio**patient.previous_infarction
    history = history * p.unrevascularised_ratio ** (1 - patient.angioplasty_for_index)
    base = p.infarction_rate * history / units.DAYS_PER_YEAR
    return Causes(
        infarction=base * jnp.exp(p.age_infarction * older),
        stroke=base * p.stroke_share * jnp.exp(p.age_stroke * older),
        arrest=base * p.arrest_share * jnp.exp(p.age_arrest * older),
        revascularisation=base * p.revascularisation_share * jnp.exp(p.age_revascularisation * older),
        cardiovascular_death=base * p.cardiovascular_death_share * jnp.exp(p.age_cardiovascular_death * older),
        other_death=p.other_death_rate / units.DAYS_PER_YEAR * jnp.exp(p.age_other_death * older),
    )


def hazards(prone: Causes, vulnerability: Scalar, crp: Scalar, uptake: Scalar, scar: Scalar, p: Parameters) -> Causes:
    """Hazards per day now: h = rate (1 + AV(t)) (CRP/CRP0)^theta exp(psi (TBR - TBR0)); scar adds to arrest and death.

    theta from CANTOS and the IL6R allele (E118 to E120, E132), psi shrunk from E113, scar from E143.
    """
    stable = 1 + p.reference_uptake
    inflamed = (1 + vulnerability) * jnp.exp(
        p.crp_hazard * jnp.log(crp / p.reference_crp) + p.uptake_hazard * (uptake - stable)
    )
    scarred = inflamed * jnp.exp(p.scar_hazard * (scar - p.reference_scar))
    return Causes(
        infarction=prone.infarction * inflamed,
        stroke=prone.stroke * inflamed,
        arrest=prone.arrest * scarred,
        revascularisation=prone.revascularisation * inflamed,
        cardiovascular_death=prone.cardiovascular_death * scarred,
        other_death=prone.other_death,
    )


def pass_time(risk: Risk, thresholds: Causes, rates: Causes, time: Scalar, days: Scalar) -> tuple[Risk, Scalar]:
    """Gather hazard for ``days``; what crosses its threshold happens, unless death came first. Also: an infarction, 1 or 0.

    An event falls on the study day in which the threshold is crossed, the hazard being even within the step.
    """
    happened, gathered = risk.events, risk.gathered
    alive = jnp.isinf(happened.cardiovascular_death) & jnp.isinf(happened.other_death)
    rates = Causes(*(jnp.where(alive, rate, 0) for rate in rates))
    turn = jnp.arange(SUCCESSIVE) == risk.infarctions
    more = risk.infarctions < SUCCESSIVE
    next_infarction = jnp.where(more, jnp.sum(jnp.where(turn, thresholds.infarction, 0)), jnp.inf)
    goals = thresholds._replace(infarction=next_infarction)
    crossing = Causes(*(_crossing(*each, time, days) for each in zip(gathered, goals, rates, strict=True)))
    never = jnp.inf
    cardiovascular = jnp.where(jnp.isinf(happened.cardiovascular_death), crossing.cardiovascular_death, never)
    death = jnp.minimum(cardiovascular, crossing.other_death)
    first = {
        name: jnp.where(jnp.isinf(old) & (new <= death), _study_day(new, time), old)
        for name, old, new in (
            ("stroke", happened.stroke, crossing.stroke),
            ("arrest", happened.arrest, crossing.arrest),
            ("revascularisation", happened.revascularisation, crossing.revascularisation),
            ("cardiovascular_death", happened.cardiovascular_death, crossing.cardiovascular_death),
            ("other_death", happened.other_death, crossing.other_death),
        )
    }
    hit = jnp.isfinite(crossing.infarction) & (crossing.infarction <= death)
    infarction = jnp.where(turn & hit, _study_day(crossing.infarction, time), happened.infarction)
    total = Causes(*(have + rate * days for have, rate in zip(gathered, rates, strict=True)))
    total = total._replace(infarction=jnp.where(hit, 0, total.infarction))
    events = Events(infarction=infarction, **first)
    return Risk(total, risk.vulnerability, risk.infarctions + hit, events), jnp.where(hit, 1.0, 0.0)


def _crossing(gathered: Scalar, goal: Scalar, rate: Scalar, time: Scalar, days: Scalar) -> Scalar:
    """When within the step the threshold is crossed; infinite if it is not, or was before."""
    crossed = (gathered < goal) & (gathered + rate * days >= goal)
    return jnp.where(crossed, time + (goal - gathered) / jnp.where(crossed, rate, 1), jnp.inf)


def _study_day(moment: Scalar, time: Scalar) -> Scalar:
    return jnp.maximum(jnp.ceil(moment), jnp.floor(time) + 1)


class Harm(NamedTuple):
    """The parts of the body that an infarction changes."""

    inflammation: immunity.Inflammation
    vessel: vessel.Vessel
    heart: heart.Heart
    vulnerability: Scalar


def infarct(harm: Harm, hit: Scalar, p: Parameters) -> Harm:
    """The loop: a new infarction (hit = 1; taken as an NSTEMI) inflames, scars, and leaves an unhealed culprit."""
    size = hit * p.infarction_feedback
    no, yes = jnp.zeros(()), jnp.ones(())
    old = harm.inflammation
    return Harm(
        inflammation=old._replace(
            surge=old.surge + size * immunity.surge_size(no, yes, p),
            deficit=old.deficit + size * (p.treg_deficit - old.deficit),
        ),
        vessel=vessel.infarct(harm.vessel, size * vessel.supply_size(no, yes, p)),
        heart=heart.infarct(harm.heart, size * heart.infarct_size(no, yes, p), p),
        vulnerability=jnp.where(size > 0, p.vulnerability * size, harm.vulnerability),
    )

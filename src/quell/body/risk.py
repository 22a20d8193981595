"""Hazards of infarction, stroke, arrest, revascularisation and death; and what an infarction does to the body: the loop.

    h_k = rate_k (1 + AV(t)) (CRP / CRP0)^theta exp(psi (TBR - TBR0))      times exp(g_sc (scar% - sc0)) for arrest, death
    rate_k = h0 q_k exp(g_k (age - age0) + g_L (LDL - LDL0)) HR_diabetes HR_previous HR_not-revascularised
    AV' = -AV / tau                                                        an infarction sets it

An event comes when its cumulative hazard crosses a threshold drawn once per patient (unit exponential), so the same
patient under two treatments shares fate wherever the treatment does nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell import units
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


ONCE = tuple(name for name in Causes._fields if name != "infarction")


def none() -> Events:
    """Nothing has happened; the four infarctions as a tuple."""
    never = jnp.full((), jnp.inf)
    return Events((never,) * SUCCESSIVE, *(never for _ in ONCE))


def proneness(patient, p: Parameters) -> Causes:
    """Rates per day of a patient by age, LDL, diabetes, earlier infarction and revascularisation, before inflammation.

    Ratios from E135, shares from the placebo arm of COLCOT (E124).
    """
    older = patient.age - p.reference_age
    history = p.diabetes_ratio**patient.diabetes * p.previous_infarction_ratio**patient.previous_infarction
    history = history * p.unrevascularised_ratio ** (1 - patient.angioplasty_for_index)
    lipids = jnp.exp(p.ldl_hazard * (patient.ldl - p.reference_ldl))
    base = p.infarction_rate * history * lipids / units.DAYS_PER_YEAR
    return Causes(
        infarction=base * jnp.exp(p.age_infarction * older),
        stroke=base * p.stroke_share * jnp.exp(p.age_stroke * older),
        arrest=base * p.arrest_share * jnp.exp(p.age_arrest * older),
        revascularisation=base * p.revascularisation_share * jnp.exp(p.age_revascularisation * older),
        cardiovascular_death=base * p.cardiovascular_death_share * jnp.exp(p.age_cardiovascular_death * older),
        other_death=p.other_death_rate / units.DAYS_PER_YEAR * jnp.exp(p.age_other_death * older),
    )


def hazards(prone: Causes, vulnerability: Scalar, crp: Scalar, uptake: Scalar, scar: Scalar, p: Parameters) -> Causes:
    """Hazards per day now, from vulnerability AV, CRP (mg/L), coronary uptake (TBR) and scar (% LV).

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


class Passed(NamedTuple):
    """What a step brought: events so far; hazard gathered; whether there was an infarction (1 or 0), and how long ago."""

    events: Events
    gathered: Causes
    hit: Scalar
    ago: Scalar


def pass_time(events: Events, before: Causes, after: Causes, fate: Causes, begin: Scalar, days: Scalar) -> Passed:
    """What crosses its threshold in a step happens, unless death came first.

    ``before`` and ``after`` are the hazards gathered (infarction: since the last one); ``fate`` holds the thresholds.
    An event falls on the study day in which the threshold is crossed, the hazard being even within the step.
    """
    alive = jnp.isinf(events.cardiovascular_death) & jnp.isinf(events.other_death)
    goals = fate._replace(infarction=_next(events.infarction, fate.infarction))
    crossing = Causes(
        *(_crossing(a, b, goal, alive, begin, days) for a, b, goal in zip(before, after, goals, strict=True))
    )
    death = jnp.minimum(crossing.cardiovascular_death, crossing.other_death)
    first = {
        name: jnp.where(
            jnp.isinf(getattr(events, name)) & (getattr(crossing, name) <= death),
            _study_day(getattr(crossing, name), begin),
            getattr(events, name),
        )
        for name in ONCE
    }
    struck = jnp.isfinite(crossing.infarction) & (crossing.infarction <= death)
    day = _study_day(crossing.infarction, begin)
    infarctions, earlier = [], jnp.asarray(True)
    for old in events.infarction:
        infarctions.append(jnp.where(struck & earlier & jnp.isinf(old), day, old))
        earlier = earlier & jnp.isfinite(old)
    hit = jnp.where(struck, 1.0, 0.0)
    ago = jnp.where(struck, begin + days - crossing.infarction, 0.0)
    return Passed(Events(tuple(infarctions), **first), after, hit, ago)


def _next(happened: tuple[Scalar, ...], thresholds: tuple[Scalar, ...]) -> Scalar:
    """The threshold of the next infarction; infinite after the last one followed."""
    goal = jnp.full((), jnp.inf)
    for old, threshold in zip(reversed(happened), reversed(thresholds), strict=True):
        goal = jnp.where(jnp.isinf(old), threshold, goal)
    return goal


def _crossing(before: Scalar, after: Scalar, goal: Scalar, alive: Scalar, begin: Scalar, days: Scalar) -> Scalar:
    """When within the step the threshold is crossed; infinite if it is not, or was before."""
    crossed = alive & (before < goal) & (after >= goal)
    rate = jnp.where(crossed, after - before, 1.0) / days
    return jnp.where(crossed, begin + (goal - before) / rate, jnp.inf)


def _study_day(moment: Scalar, begin: Scalar) -> Scalar:
    return jnp.maximum(jnp.ceil(moment), jnp.floor(begin) + 1)

"""The infarct is cleared, scars and costs ejection fraction; the ventricle widens with it.

    neutrophils'  = -kn neutrophils                       an infarction starts them at its size
    inflammatory' = kn neutrophils - (1 + s) ks inflammatory    macrophages, which switch to
    reparative'   = (1 + s) ks inflammatory - kr reparative
    fibroblasts'  = kf (inflammatory - fibroblasts)      called by macrophages
    scar'         = -kx_h n0 s inflammatory               inflammation that is calmed extends the scar less
    fast'         = -(1 + s) fast / t1                    what heals fast, by clearance (E142)
    slow'         = -slow / t2                            what heals slowly
    dilation'     = kv (gv scar% - dilation)              end-diastolic volume, rise as a share (E145)
    mass          = scar + fast + slow
    EF            = EF0 exp(-dEF scar% / EF0)

s = g / (1 + g), g = eps h calming, is the calming of the healing heart by regulatory cells, between 0 and 1: it doubles
the pace of healing at most (E075, E146: in mice; in people assumed). Untreated (s = 0) the infarct follows E142.
"""

from __future__ import annotations

import jax.numpy as jnp

from quell.body.parameters import Parameters, Scalar
from quell.body.relax import Link, between

PERCENT = 100.0
LINKS = (
    Link("neutrophils", "inflammatory"),
    Link("inflammatory", "reparative"),
    Link("inflammatory", "fibroblasts"),
)


def rates(p: Parameters) -> dict[str, Scalar]:
    """Rates of decay of the infarct's cells and parts, per day; a scar stays."""
    return {
        "neutrophils": p.neutrophil_loss,
        "inflammatory": p.macrophage_switch,
        "reparative": p.macrophage_loss,
        "fibroblasts": p.fibroblast_turnover,
        "scar": jnp.zeros(()),
        "fast": 1 / p.healing_fast_time,
        "slow": 1 / p.healing_slow_time,
        "dilation": p.dilation_rate,
    }


def strengths(p: Parameters) -> tuple[Scalar, ...]:
    """What feeds what, in the order of ``LINKS``, per day."""
    return p.neutrophil_loss, p.macrophage_switch, p.fibroblast_turnover


def infarct_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Size of an infarction of a type, relative to the masses of E142."""
    unstable = 1 - stemi - nstemi
    return p.infarct_size * (stemi + nstemi * p.infarct_nstemi + unstable * p.infarct_unstable)


def infarct(size: Scalar, p: Parameters) -> dict[str, Scalar]:
    """What a new infarction of a size adds."""
    masses = {"scar": p.scar_mass, "fast": p.healing_fast_mass, "slow": p.healing_slow_mass}
    return {"neutrophils": size} | {part: size * mass for part, mass in masses.items()}


def drive(inflammatory: Scalar, fast: Scalar, percent: Scalar, calming: Scalar, p: Parameters) -> dict:
    """What calming adds to healing, and what the scar (in percent) does to volume, per day."""
    g = p.calming * p.healing * calming
    calmed = g / (1 + g)
    switched = calmed * p.macrophage_switch * inflammatory
    return {
        "inflammatory": -switched,
        "reparative": switched,
        "scar": -p.scar_extension * p.scar_mass * inflammatory * calmed,
        "fast": -calmed * fast / p.healing_fast_time,
        "dilation": p.dilation_rate * p.dilation_gain * percent,
    }


def scar_percent(mass: Scalar, area: Scalar, p: Parameters) -> Scalar:
    """Infarct as a percentage of the left ventricle, whose mass follows body surface ``area`` (m2)."""
    return PERCENT * mass / (p.left_ventricle_mass * area / p.reference_area)


def ejection_fraction(percent: Scalar, p: Parameters) -> Scalar:
    """Ejection fraction, %: EF0 exp(-dEF scar% / EF0), which starts at dEF per % LV (an assumption: no fact fixes it)."""
    return p.ejection_fraction * jnp.exp(-p.ejection_fraction_loss * percent / p.ejection_fraction)


def end_diastolic_volume(dilation: Scalar, area: Scalar, p: Parameters) -> Scalar:
    """End-diastolic volume, mL: by body surface ``area`` (m2), and wider with the scar."""
    return p.end_diastolic_index * area * (1 + dilation)


def widening(parts: tuple[Scalar, Scalar, Scalar], days: Scalar, p: Parameters) -> Scalar:
    """Dilation, per % LV of a gram, so many days after an infarction of which ``parts`` (scar, fast, slow; g) are left.

    dilation = kv gv sum_i m_i (exp(-r_i t) - exp(-kv t)) / (kv - r_i), m_i the masses at the infarction.
    """
    rates = (jnp.zeros(()), 1 / p.healing_fast_time, 1 / p.healing_slow_time)
    seen = [
        mass * jnp.exp(rate * days) * between(rate, p.dilation_rate, days)
        for mass, rate in zip(parts, rates, strict=True)
    ]
    return p.dilation_rate * p.dilation_gain * sum(seen)

"""The infarct heals to a scar; the scar costs ejection fraction."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell.body.parameters import Parameters, Scalar

PERCENT = 100.0


class Heart(NamedTuple):
    """Infarct mass, g: what stays as scar, what heals fast and what heals slowly (E142)."""

    scar: Scalar
    fast: Scalar
    slow: Scalar


def infarct_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Size of an infarction of a type, relative to the masses of E142."""
    unstable = 1 - stemi - nstemi
    return p.infarct_size * (stemi + nstemi * p.infarct_nstemi + unstable * p.infarct_unstable)


def infarct(x: Heart, size: Scalar, p: Parameters) -> Heart:
    """A new infarction of a size."""
    return Heart(x.scar + size * p.scar_mass, x.fast + size * p.healing_fast_mass, x.slow + size * p.healing_slow_mass)


def heal(x: Heart, days: Scalar, p: Parameters) -> Heart:
    """The infarct ``days`` later: both healing parts decay."""
    return Heart(x.scar, x.fast * jnp.exp(-days / p.healing_fast_time), x.slow * jnp.exp(-days / p.healing_slow_time))


def mass(x: Heart) -> Scalar:
    """Infarct mass by magnetic resonance, g."""
    return x.scar + x.fast + x.slow


def scar_percent(x: Heart, area: Scalar, p: Parameters) -> Scalar:
    """Infarct as a percentage of the left ventricle, whose mass follows body surface ``area`` (m2)."""
    return PERCENT * mass(x) / (p.left_ventricle_mass * area / p.reference_area)


def ejection_fraction(x: Heart, area: Scalar, p: Parameters) -> Scalar:
    """Ejection fraction, %: EF0 exp(-dEF infarct / EF0), which starts at dEF per % LV (an assumption: no fact fixes it)."""
    return p.ejection_fraction * jnp.exp(-p.ejection_fraction_loss * scar_percent(x, area, p) / p.ejection_fraction)

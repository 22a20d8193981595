"""Wall inflammation, vessel by vessel, and the glucose uptake that a scanner would see.

The wall holds resident inflammation (1 in a stable patient) and inflammation recruited from marrow and spleen after an
infarction; both turn over at one rate and both are calmed by regulatory cells that have entered the wall.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell.body.immunity import between, toward
from quell.body.parameters import Parameters, Scalar

VESSELS = ("ascending_aorta", "left_carotid", "right_carotid", "coronary")


class Vessel(NamedTuple):
    """The wall and its supply; folds of the stable patient's inflammation."""

    calming: Scalar  # calming cells in the wall beyond the usual number, fold
    supply: Scalar  # marrow and spleen activation, with ``delay`` taken off
    delay: Scalar  # the part of it that has not yet arrived
    resident: Scalar
    recruited: Scalar


def supply_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Supply of inflammatory cells after an infarction of a type (E106: STEMI above NSTEMI)."""
    unstable = 1 - stemi - nstemi
    return p.recruitment * (
        stemi * p.recruitment_stemi + nstemi * p.recruitment_nstemi + unstable * p.recruitment_unstable
    )


def after(days: Scalar, size: Scalar, p: Parameters) -> Vessel:
    """The wall ``days`` after an infarction with supply ``size``: W' = kW (Q - W), Q = size (exp(-kQ s) - exp(-(kQ + kr) s))."""
    late = p.recruitment_decay + p.recruitment_rise
    recruited = (
        size
        * p.wall_turnover
        * (between(p.recruitment_decay, p.wall_turnover, days) - between(late, p.wall_turnover, days))
    )
    return Vessel(
        calming=jnp.zeros(()),
        supply=size * jnp.exp(-p.recruitment_decay * days),
        delay=size * jnp.exp(-late * days),
        resident=jnp.ones(()),
        recruited=recruited,
    )


def calm(calming: Scalar, p: Parameters) -> Scalar:
    """By how much the wall's inflammation is divided: 1 + eps (calming cells beyond the usual number)."""
    return 1 + p.calming * calming


def calm_blood(calming: Scalar, p: Parameters) -> Scalar:
    """By how much the inflammatory drive in blood is divided."""
    return 1 + p.calm_blood * p.calming * calming


def enter(calming: Scalar, offered: Scalar, days: Scalar, p: Parameters) -> Scalar:
    """Calming cells enter the wall from blood: X' = kx (offered - X)."""
    return toward(calming, offered, jnp.exp(-p.tissue_entry * days))


def advance(x: Vessel, calmed: Scalar, days: Scalar, p: Parameters) -> Vessel:
    """The wall ``days`` later: W' = kW ((1 + Q) / calm - W), exact while the calming stays; ``calming`` is not moved."""
    late = p.recruitment_decay + p.recruitment_rise
    left = jnp.exp(-p.wall_turnover * days)
    arrived = p.wall_turnover * (
        x.supply * between(p.recruitment_decay, p.wall_turnover, days) - x.delay * between(late, p.wall_turnover, days)
    )
    return x._replace(
        supply=x.supply * jnp.exp(-p.recruitment_decay * days),
        delay=x.delay * jnp.exp(-late * days),
        resident=toward(x.resident, 1 / calmed, left),
        recruited=x.recruited * left + arrived / calmed,
    )


def infarct(x: Vessel, size: Scalar) -> Vessel:
    """A new infarction adds to the supply."""
    return x._replace(supply=x.supply + size, delay=x.delay + size)


def uptake(x: Vessel, stable: Scalar) -> Scalar:
    """TBR of a vessel: 1 + B (resident + recruited), B the stable uptake above blood."""
    return 1 + stable * (x.resident + x.recruited)

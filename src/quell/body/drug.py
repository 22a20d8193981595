"""A subcutaneous dose becomes interleukin-2 in blood: a depot, a transit, and loss by kidneys and regulatory T cells."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell.body.parameters import Parameters, Scalar

AVOGADRO = 6.02214076e23  # molecules per mole
PICO = 1e12  # picomoles per mole
IU_PER_ML = 1000.0  # 10^6 IU in 1 L is 1000 IU/mL


class Drug(NamedTuple):
    """Interleukin-2 in the depot and in transit (10^6 IU), and in blood (IU/mL)."""

    depot: Scalar
    transit: Scalar
    il2: Scalar


def none() -> Drug:
    """No drug anywhere."""
    zero = jnp.zeros(())
    return Drug(zero, zero, zero)


def inject(drug: Drug, amount: Scalar, p: Parameters) -> Drug:
    """The absorbable part of a dose (10^6 IU) enters the depot."""
    return drug._replace(depot=drug.depot + p.bioavailability * amount)


class Kinetics(NamedTuple):
    """What a patient's drug kinetics need, worked out once: rates per day, and IU/mL per 10^6 IU."""

    absorption: Scalar
    transit: Scalar
    passing: Scalar  # k1 / (k2 - k1)
    inflow: Scalar  # 1000 k2 / V
    kidneys: Scalar  # CL / V
    cells: Scalar  # loss through the receptors of the usual regulatory T cells when little drug is bound


def kinetics(p: Parameters, keff: Scalar) -> Kinetics:
    """The constants of one patient's kinetics; ``keff`` is the half-saturation of regulatory T cells, pM."""
    transit = apart(p.transit, p.absorption)
    receptors = p.treg_seen * p.treg_cd122
    return Kinetics(
        absorption=p.absorption,
        transit=transit,
        passing=p.absorption / (transit - p.absorption),
        inflow=IU_PER_ML * transit / p.volume,
        kidneys=p.clearance / p.volume,
        cells=receptors * p.internalisation * PICO / (AVOGADRO * keff * p.volume),
    )


def loss(treg: Scalar, cd122: Scalar, engaged: Scalar, k: Kinetics) -> Scalar:
    """Loss from blood per day: kidneys, and uptake through the free receptors of regulatory T cells.

    (CL + CLt) / V, CLt = n T b CD122 kint / (Keff + L) in litres per day, where 1 / (Keff + L) = (1 - engaged) / Keff
    (E092, E102): the more cells, the faster; the more drug, the slower.
    """
    return k.kidneys + k.cells * treg * cd122 * (1 - engaged)


def advance(drug: Drug, lost: Scalar, kept: tuple[Scalar, Scalar], days: Scalar, k: Kinetics) -> Drug:
    """The exact course of depot, transit and blood while the loss per day stays as it is.

    D1' = -k1 D1, D2' = k1 D1 - k2 D2, C' = 1000 k2 D2 / V - loss C; ``kept`` is exp(-k1 days), exp(-k2 days).
    """
    by_absorption, by_transit = kept
    left = jnp.exp(-lost * days)
    passing = drug.depot * k.passing
    rest = drug.transit - passing
    slow, fast = apart(lost - k.absorption, 0), apart(lost - k.transit, 0)
    arrived = (passing * (by_absorption - left) * fast + rest * (by_transit - left) * slow) / (slow * fast)
    il2 = drug.il2 * left + k.inflow * arrived
    return Drug(drug.depot * by_absorption, passing * by_absorption + rest * by_transit, jnp.maximum(il2, 0))


NEAR = 1e-5  # per day: costs a relative error below 1e-5 per day of step, saves ten digits of cancellation


def apart(rate: Scalar, other: Scalar) -> Scalar:
    """The rate, moved off another that it nearly equals, so that their difference can be divided by."""
    gap = rate - other
    return jnp.where(jnp.abs(gap) < NEAR, other + jnp.where(gap < 0, -NEAR, NEAR), rate)

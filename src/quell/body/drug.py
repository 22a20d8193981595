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


def elimination(treg: Scalar, cd122: Scalar, keff: Scalar, il2: Scalar, p: Parameters) -> Scalar:
    """Loss from blood per day: kidneys, and uptake through the receptors of regulatory T cells.

    (CL + CLt) / V, CLt = n T b CD122 kint / (Keff + L) in litres per day (E092, E102; the more cells, the faster).
    """
    molecules = p.treg_seen * treg * cd122 * p.treg_cd122
    by_cells = molecules * p.internalisation * PICO / (AVOGADRO * (keff + p.picomolar_per_unit * il2))
    return (p.clearance + by_cells) / p.volume


def advance(drug: Drug, loss: Scalar, kept: tuple[Scalar, Scalar], days: Scalar, p: Parameters) -> Drug:
    """The exact course of depot, transit and blood while the loss per day stays as it is.

    D1' = -k1 D1, D2' = k1 D1 - k2 D2, C' = 1000 k2 D2 / V - loss C; ``kept`` is exp(-k1 days), exp(-k2 days).
    """
    fast, slow = apart(p.transit, p.absorption), p.absorption
    by_absorption, by_transit = kept
    left = jnp.exp(-loss * days)
    fed = drug.depot * slow / (fast - slow)
    rest = drug.transit - fed
    inflow = IU_PER_ML * fast / p.volume * (
        fed * (by_absorption - left) / apart(loss - slow, 0) + rest * (by_transit - left) / apart(loss - fast, 0)
    )
    il2 = drug.il2 * left + inflow
    return Drug(drug.depot * by_absorption, fed * by_absorption + rest * by_transit, jnp.maximum(il2, 0))


def apart(rate: Scalar, other: Scalar) -> Scalar:
    """The rate, moved off another that it nearly equals, so that their difference can be divided by."""
    gap = rate - other
    return jnp.where(jnp.abs(gap) < NEAR, other + jnp.where(gap < 0, -NEAR, NEAR), rate)


NEAR = 1e-5  # per day: costs a relative error below 1e-5 per day of step, saves ten digits of cancellation

"""A subcutaneous dose becomes interleukin-2 in blood: a depot, a transit, and loss by kidneys and regulatory T cells.

    depot'    = -k1 depot                                   a dose adds F dose, after the lag (E095)
    transit'  =  k1 depot - k2 transit
    il2'      =  1000 k2 transit / V - loss il2
    loss      =  free (CL + n T b CD122 kint / (Keff + L)) / V
    soluble'  =  ks (T (1 + As u) - soluble)                soluble CD25, fold
    free      =  1 / (1 + soluble S0 / KS)                  what soluble CD25 leaves free (E096, E101)

T and b are the regulatory T cells and the CD122 left on them, u their signal, L the free interleukin-2 in pM. The loss
through their receptors grows with the cells and falls with the drug (E092, E102). Doses are 10^6 IU.
"""

from __future__ import annotations

from typing import NamedTuple

from quell.body.parameters import Parameters, Scalar
from quell.body.relax import Link

AVOGADRO = 6.02214076e23  # molecules per mole
PICO = 1e12  # picomoles per mole
IU_PER_ML = 1000.0  # 10^6 IU in 1 L is 1000 IU/mL

LINKS = (Link("depot", "transit"), Link("transit", "il2"))


class Kinetics(NamedTuple):
    """What a patient's drug kinetics need, worked out once: rates per day, and IU/mL per 10^6 IU."""

    absorbed: Scalar  # F
    kidneys: Scalar  # CL / V
    cells: Scalar  # loss through the receptors of the usual regulatory T cells when little drug is bound
    usual: Scalar  # the whole loss of a patient at rest
    soluble: Scalar  # S0 / KS
    picomolar: Scalar  # pM per IU/mL


def kinetics(p: Parameters, keff: Scalar) -> Kinetics:
    """The constants of one patient's kinetics; ``keff`` is the half-saturation of regulatory T cells, pM."""
    kidneys = p.clearance / p.volume
    cells = p.treg_seen * p.treg_cd122 * p.internalisation * PICO / (AVOGADRO * keff * p.volume)
    bound = p.soluble_receptor / p.soluble_affinity
    return Kinetics(p.bioavailability, kidneys, cells, (kidneys + cells) / (1 + bound), bound, p.picomolar_per_unit)


def rates(p: Parameters, k: Kinetics) -> dict[str, Scalar]:
    """Rates of return of depot, transit, blood and soluble receptor, per day."""
    return {"depot": p.absorption, "transit": p.transit, "il2": k.usual, "soluble": p.soluble_turnover}


def strengths(p: Parameters) -> tuple[Scalar, ...]:
    """Depot feeds transit by k1, transit feeds blood by 1000 k2 / V."""
    return p.absorption, IU_PER_ML * p.transit / p.volume


def free(soluble: Scalar, k: Kinetics) -> Scalar:
    """Share of interleukin-2 that is not bound to soluble CD25; ``soluble`` counts from 1."""
    return 1 / (1 + (1 + soluble) * k.soluble)


def loss(treg: Scalar, cd122: Scalar, unengaged: Scalar, unbound: Scalar, k: Kinetics) -> Scalar:
    """Loss from blood per day; 1 / (Keff + L) is ``unengaged`` / Keff."""
    return unbound * (k.kidneys + k.cells * treg * cd122 * unengaged)

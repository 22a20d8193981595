"""Interleukin-2 acts on cells by the share of CD122 it engages; cells divide, leave the blood, and return.

Regulatory T cells carry most CD25, hence the highest affinity (E102, E103): a low dose reaches them first.

    o_c = L / (L + Keff_c)         Keff_c = Kd / (1 + CD25_c / kap)
    u_c = A b_c o_c / (1 + A b_c o_c)

    dividing'     = kP (G u R T / (1 + expanded/K) - dividing)
    expanded'     = kT (dividing - expanded)                T = 1 - deficit + expanded
    deficit'      = -deficit / tlow                         raised by an infarction
    R'            = kR (1 - R) - cR kT G u R                share still able to respond
    b'            = krec (1 - b) - kdn o b                  CD122 on regulatory T cells
    away'         = kin u (1 - away) - kout away            share out of blood
    c'            = kc (1 - c + G gc u_c c / (1 + (c-1)/K)) effector T, NK, CD56bright NK, ILC2
    marrow'       = kmar (ILC2 (1 + A5 u_I) - marrow)       interleukin-5 drives the marrow
    eosinophils'  = kO (marrow - eosinophils)

    surge'        = -kD surge                               raised by an infarction
    CRP'          = kC ((res + surge) / calm - CRP)

In the code every cell counts from its healthy value: ``ilc2`` is the excess, ILC2 is 1 + ilc2; ``spent`` is 1 - R and
``desensitised`` 1 - b. So all are zero at rest.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell.body import drug
from quell.body.parameters import Parameters, Scalar
from quell.body.relax import NOTHING, Link, quotients


class Blood(NamedTuple):
    """The fast part of the body: the drug, and cells as excess over the patient's healthy value."""

    depot: Scalar  # 10^6 IU
    transit: Scalar  # 10^6 IU
    il2: Scalar  # IU/mL
    soluble: Scalar  # soluble CD25, excess fold
    dividing: Scalar  # expansion that the divisions under way will lead to
    expanded: Scalar  # regulatory T cells beyond the undisturbed course
    deficit: Scalar  # their fall after an infarction
    spent: Scalar  # share of them no longer able to respond
    desensitised: Scalar  # share of their CD122 lost
    away: Scalar  # share of them out of blood
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar
    marrow: Scalar  # eosinophils maturing
    eosinophils: Scalar


LINKS = (
    *drug.LINKS,
    Link("dividing", "expanded"),
    Link("ilc2", "marrow"),
    Link("marrow", "eosinophils"),
    Link("expanded", "soluble"),
    Link("deficit", "soluble"),
)


class Affinity(NamedTuple):
    """Half-saturating interleukin-2 of each cell's receptors, pM."""

    treg: Scalar
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar


class Response(NamedTuple):
    """What drives one patient's cells, worked out once, in the units of the equations."""

    affinity: Affinity
    amplification: Scalar
    crowd: Scalar  # 1 + kdn/krec + A
    births: Scalar  # kP G K
    spend: Scalar  # cR kT G
    loss: Scalar  # kdn
    leave: Scalar  # kin
    teff: Scalar  # kE G gE K A
    nk: Scalar
    bright: Scalar
    ilc2: Scalar
    niche: Scalar  # K
    il5: Scalar  # A5
    marrow: Scalar  # kmar A5
    soluble: Scalar  # ks As


class Signal(NamedTuple):
    """Each cell's signal, 0 to 1; and the share of receptors of regulatory T cells engaged."""

    engaged: Scalar
    treg: Scalar
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar


def healthy() -> Blood:
    """Blood that has met no drug and no infarction."""
    return Blood(*(jnp.zeros(()) for _ in Blood._fields))


def affinity(p: Parameters) -> Affinity:
    """Keff = Kd / (1 + CD25 / kap): CD25 raises the affinity (E102, E103)."""
    counts = (p.treg_cd25, p.teff_cd25, p.nk_cd25, p.bright_cd25, p.ilc2_cd25)
    return Affinity(*(p.intermediate_affinity / (1 + count / p.cd25_doubling) for count in counts))


def response(p: Parameters) -> Response:
    """The constants of one patient's cells."""
    strongest = p.growth * p.niche * p.amplification
    return Response(
        affinity=affinity(p),
        amplification=p.amplification,
        crowd=1 + p.cd122_loss / p.cd122_recovery + p.amplification,
        births=p.cycle_exit * p.growth * p.niche,
        spend=p.depletion * p.treg_return * p.growth,
        loss=p.cd122_loss,
        leave=p.margination,
        teff=strongest * p.teff_turnover * p.teff_response,
        nk=strongest * p.nk_turnover * p.nk_response,
        bright=strongest * p.bright_turnover * p.bright_response,
        ilc2=strongest * p.ilc2_turnover * p.ilc2_response,
        niche=p.niche,
        il5=p.il5_response,
        marrow=p.marrow_turnover * p.il5_response,
        soluble=p.soluble_turnover * p.soluble_response,
    )


def rates(p: Parameters, k: drug.Kinetics) -> Blood:
    """Rates of return to rest, per day."""
    return Blood(
        **drug.rates(p, k),
        dividing=p.cycle_exit,
        expanded=p.treg_return,
        deficit=1 / p.treg_deficit_time,
        spent=p.replenishment,
        desensitised=p.cd122_recovery,
        away=p.margination_return,
        teff=p.teff_turnover,
        nk=p.nk_turnover,
        bright=p.bright_turnover,
        ilc2=p.ilc2_turnover,
        marrow=p.marrow_turnover,
        eosinophils=p.eosinophil_turnover,
    )


def strengths(p: Parameters) -> tuple[Scalar, ...]:
    """What feeds what, in the order of ``LINKS``, per day."""
    shed = p.soluble_turnover
    return *drug.strengths(p), p.treg_return, p.marrow_turnover, p.eosinophil_turnover, shed, -shed


def signal(bound: Scalar, cd122: Scalar, r: Response) -> Signal:
    """u_c = A b_c o_c / (1 + A b_c o_c), o_c = L / (L + Keff_c), at a level L of ``bound`` pM.

    b is a state in regulatory T cells. In the others it is at its balance krec / (krec + kdn o), so that
    u = A L / (Keff + (1 + kdn/krec + A) L).
    """
    full, crowd, keff = r.amplification * bound, r.crowd * bound, r.affinity
    strong, open_ = full * cd122, bound + keff.treg
    others = [full / (k + crowd) for k in (keff.teff, keff.nk, keff.bright, keff.ilc2)]
    return Signal(bound / open_, strong / (open_ + strong), *others)


def loss(x: Blood, r: Response, k: drug.Kinetics) -> Scalar:
    """Loss of interleukin-2 from blood per day, as the cells now are."""
    unbound, cd122 = drug.free(x.soluble, k), 1 - x.desensitised
    unengaged = 1 / (1 + k.picomolar * unbound * x.il2 / r.affinity.treg)
    return drug.loss(treg_fold(x), cd122, unengaged, unbound, k)


def drive(x: Blood, rate: Scalar, r: Response, k: drug.Kinetics) -> Blood:
    """What interleukin-2 adds to the relaxations, per day; zero without drug.

    ``rate`` is the loss of interleukin-2 that its relaxation counts with.
    """
    unbound = drug.free(x.soluble, k)
    bound = k.picomolar * unbound * x.il2
    able, cd122, treg = 1 - x.spent, 1 - x.desensitised, treg_fold(x)
    strong, free = r.amplification * bound * cd122, bound + r.affinity.treg
    room = r.niche + x.expanded
    engaged, u_treg, crowded = quotients((bound, free), (strong, free + strong), (treg, room))
    crowd = r.crowd * bound

    def growth(name: str) -> tuple[Scalar, Scalar]:
        """kc G gc u_c c / (1 + (c-1)/K), as a quotient."""
        cells = getattr(x, name)
        above = getattr(r, name) * bound * (1 + cells)
        return above, (getattr(r.affinity, name) + crowd) * (r.niche + cells)

    teff, nk = quotients(growth("teff"), growth("nk"))
    u_ilc2 = (r.amplification * bound, r.affinity.ilc2 + crowd)
    bright, ilc2, u_ilc2 = quotients(growth("bright"), growth("ilc2"), u_ilc2)
    return Blood(
        depot=NOTHING,
        transit=NOTHING,
        il2=(rate - drug.loss(treg, cd122, 1 - engaged, unbound, k)) * x.il2,
        soluble=r.soluble * treg * u_treg,
        dividing=r.births * u_treg * crowded * able,
        expanded=NOTHING,
        deficit=NOTHING,
        spent=r.spend * u_treg * able,
        desensitised=r.loss * engaged * cd122,
        away=r.leave * u_treg * (1 - x.away),
        teff=teff,
        nk=nk,
        bright=bright,
        ilc2=ilc2,
        marrow=r.marrow * (1 + x.ilc2) * u_ilc2,
        eosinophils=NOTHING,
    )


def treg_fold(x: Blood) -> Scalar:
    """Regulatory T cells of the whole body: the undisturbed course 1 - deficit, and the expanded."""
    return 1 - x.deficit + x.expanded


def il5_fold(x: Blood, r: Response, k: drug.Kinetics) -> Scalar:
    """Interleukin-5, fold: ILC2 (1 + A5 u), at balance (E074)."""
    bound = k.picomolar * drug.free(x.soluble, k) * x.il2
    return (1 + x.ilc2) * (1 + r.il5 * signal(bound, 1 - x.desensitised, r).ilc2)


def offered(x: Blood, p: Parameters) -> Scalar:
    """What the blood offers the wall: the rise of regulatory T cells over their usual number, and of ILC2."""
    return p.calm_treg * x.expanded / (1 - x.deficit) + p.calm_ilc2 * x.ilc2


def offered_change(x: Blood, growth: Scalar, p: Parameters) -> Scalar:
    """How fast that changes, per day; ``growth`` is what drives ILC2."""
    stays = 1 - x.deficit
    rise = p.treg_return * (x.dividing - x.expanded) - x.expanded * x.deficit / (stays * p.treg_deficit_time)
    return p.calm_treg * rise / stays + p.calm_ilc2 * (growth - p.ilc2_turnover * x.ilc2)


def surge_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Inflammatory drive at an infarction of a type, mg/L; what is neither STEMI nor NSTEMI is unstable angina."""
    unstable = 1 - stemi - nstemi
    return p.surge * (stemi * p.surge_stemi + nstemi * p.surge_nstemi + unstable * p.surge_unstable)


def il6(surge: Scalar, calm: Scalar, p: Parameters) -> Scalar:
    """Interleukin-6, ng/L: a power of the calmed inflammatory drive."""
    return p.il6_level * ((p.residual_crp + surge) / calm / p.reference_crp) ** p.il6_exponent

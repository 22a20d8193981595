"""Interleukin-2 acts on cells by the share of CD122 it engages; cells divide, leave the blood, and return.

Regulatory T cells carry most CD25, hence the highest affinity (E102, E103): a low dose reaches them first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from quell.body.drug import apart
from quell.body.parameters import Parameters, Scalar

TERMS = 5  # of the series in ``slow_decay``


class Cells(NamedTuple):
    """The fast part: folds of the patient's healthy value, shares between 0 and 1."""

    dividing: Scalar  # expansion that the divisions under way will lead to
    expanded: Scalar  # regulatory T cells beyond the undisturbed course
    reserve: Scalar  # share of regulatory T cells still able to respond
    cd122: Scalar  # CD122 left on regulatory T cells
    away: Scalar  # share of regulatory T cells out of blood
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar
    marrow: Scalar  # eosinophils maturing
    eosinophils: Scalar


class Inflammation(NamedTuple):
    """The slow part: what an infarction leaves in blood."""

    deficit: Scalar  # fall of regulatory T cells, fold
    surge: Scalar  # inflammatory drive above the resting one, mg/L
    crp: Scalar  # mg/L


class Affinity(NamedTuple):
    """Half-saturating interleukin-2 of each cell's receptors, pM."""

    treg: Scalar
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar


class Signal(NamedTuple):
    """Each cell's signal, 0 to 1; and the share of receptors of regulatory T cells engaged."""

    engaged: Scalar
    treg: Scalar
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar


class Kept(NamedTuple):
    """What is left of a gap after a step, exp(-rate days), for the constant rates."""

    dividing: Scalar
    expanded: Scalar
    teff: Scalar
    nk: Scalar
    bright: Scalar
    ilc2: Scalar
    marrow: Scalar
    eosinophils: Scalar


def healthy() -> Cells:
    """Cells that have met no drug."""
    zero, one = jnp.zeros(()), jnp.ones(())
    return Cells(zero, zero, one, one, zero, one, one, one, one, one, one)


def affinity(p: Parameters) -> Affinity:
    """Keff = Kd / (1 + CD25 / kap): CD25 raises the affinity (E102, E103)."""
    counts = (p.treg_cd25, p.teff_cd25, p.nk_cd25, p.bright_cd25, p.ilc2_cd25)
    return Affinity(*(p.intermediate_affinity / (1 + count / p.cd25_doubling) for count in counts))


def signal(il2: Scalar, cd122: Scalar, keff: Affinity, p: Parameters) -> Signal:
    """u_c = A b_c o_c / (1 + A b_c o_c), o_c = L / (L + Keff_c).

    b is a state in regulatory T cells. In the others it is at its balance krec / (krec + kdn o), so that
    u = A L / (Keff + (1 + kdn/krec + A) L).
    """
    bound = p.picomolar_per_unit * il2
    full = p.amplification * bound
    strong = full * cd122
    crowd = (1 + p.cd122_loss / p.cd122_recovery + p.amplification) * bound
    free = bound + keff.treg
    others = [k + crowd for k in (keff.teff, keff.nk, keff.bright, keff.ilc2)]
    u_treg = strong / (free + strong)
    return Signal(bound / free, u_treg, *(full / other for other in others))


def treg_fold(cells: Cells, deficit: Scalar) -> Scalar:
    """Regulatory T cells of the whole body: the undisturbed course 1 - deficit, and the expanded."""
    return 1 - deficit + cells.expanded


def kept(days: Scalar, p: Parameters, decay: Callable[[Scalar], Scalar] = lambda z: jnp.exp(-z)) -> Kept:
    """exp(-rate days) of the constant rates; ``decay`` is how exp(-z) is worked out."""
    return Kept(
        dividing=jnp.exp(-p.cycle_exit * days),
        expanded=decay(p.treg_return * days),
        teff=decay(p.teff_turnover * days),
        nk=decay(p.nk_turnover * days),
        bright=decay(p.bright_turnover * days),
        ilc2=decay(p.ilc2_turnover * days),
        marrow=jnp.exp(-p.marrow_turnover * days),
        eosinophils=jnp.exp(-p.eosinophil_turnover * days),
    )


def slow_decay(z: Scalar) -> Scalar:
    """exp(-z) for small z, four times as fast: its series at z/2, squared, so never negative; error below z^5 / 1900."""
    series = sum((-z / 2) ** k / math.factorial(k) for k in range(TERMS))
    return series * series


def toward(x: Scalar, target: Scalar, left: Scalar) -> Scalar:
    """Relaxation x' = rate (target - x) with a constant target: between x and target, so never negative."""
    return target + (x - target) * left


def advance(start: Cells, now: Cells, u: Signal, deficit: Scalar, left: Kept, days: Scalar, p: Parameters) -> Cells:
    """Cells ``days`` after ``start`` when rates and targets are those of ``now`` with signal ``u``.

    D' = kP (G u R T / (1 + (T-1)+/K) - D)           dividing
    X' = kT (D - X),  T = 1 - deficit + X            expanded
    R' = kR (1 - R) - cR kT G u R                    reserve
    b' = krec (1 - b) - kdn o b                      CD122
    m' = kin u (1 - m) - kout m                      away
    c' = kc (1 - c + G gc u_c c / (1 + (c-1)/K))     teff, nk, bright, ilc2
    M' = kmar (IL5 - M),  O' = kO (M - O)            eosinophils
    """
    treg = treg_fold(now, deficit)
    drive = p.growth * u.treg
    spend = p.replenishment + p.depletion * p.treg_return * drive
    trade = p.cd122_recovery + p.cd122_loss * u.engaged
    leave = p.margination * u.treg
    move = leave + p.margination_return
    births = p.niche * drive * now.reserve * treg / (p.niche + jnp.maximum(treg - 1, 0))
    marrow = ahead(start.marrow, now.marrow, p.eosinophil_turnover, days)
    return Cells(
        dividing=toward(start.dividing, births, left.dividing),
        expanded=toward(start.expanded, now.dividing, left.expanded),
        reserve=toward(start.reserve, p.replenishment / spend, slow_decay(spend * days)),
        cd122=toward(start.cd122, p.cd122_recovery / trade, jnp.exp(-trade * days)),
        away=toward(start.away, leave / move, jnp.exp(-move * days)),
        teff=toward(start.teff, 1 + _growth(now.teff, p.teff_response * u.teff, p), left.teff),
        nk=toward(start.nk, 1 + _growth(now.nk, p.nk_response * u.nk, p), left.nk),
        bright=toward(start.bright, 1 + _growth(now.bright, p.bright_response * u.bright, p), left.bright),
        ilc2=toward(start.ilc2, 1 + _growth(now.ilc2, p.ilc2_response * u.ilc2, p), left.ilc2),
        marrow=toward(start.marrow, il5_fold(now, u, p), left.marrow),
        eosinophils=toward(start.eosinophils, marrow, left.eosinophils),
    )


def settle(cells: Cells, days: Scalar, p: Parameters) -> Cells:
    """Cells ``days`` later when the drug is gone: every part relaxes to its resting value, in closed form."""
    left = kept(days, p)
    ripening = p.treg_return * between(p.cycle_exit, p.treg_return, days)
    lasting = p.marrow_turnover * (cells.ilc2 - 1) / apart(p.marrow_turnover - p.ilc2_turnover, 0)
    passing = cells.marrow - 1 - lasting
    maturing = passing * between(p.marrow_turnover, p.eosinophil_turnover, days)
    maturing = maturing + lasting * between(p.ilc2_turnover, p.eosinophil_turnover, days)
    return Cells(
        dividing=cells.dividing * left.dividing,
        expanded=cells.expanded * left.expanded + cells.dividing * ripening,
        reserve=toward(cells.reserve, 1, jnp.exp(-p.replenishment * days)),
        cd122=toward(cells.cd122, 1, jnp.exp(-p.cd122_recovery * days)),
        away=cells.away * jnp.exp(-p.margination_return * days),
        teff=toward(cells.teff, 1, left.teff),
        nk=toward(cells.nk, 1, left.nk),
        bright=toward(cells.bright, 1, left.bright),
        ilc2=toward(cells.ilc2, 1, left.ilc2),
        marrow=1 + passing * left.marrow + lasting * left.ilc2,
        eosinophils=toward(cells.eosinophils, 1, left.eosinophils) + p.eosinophil_turnover * maturing,
    )


def _growth(cells: Scalar, response: Scalar, p: Parameters) -> Scalar:
    return p.growth * response * cells * p.niche / (p.niche + (cells - 1))


def ahead(first: Scalar, middle: Scalar, rate: Scalar, days: Scalar) -> Scalar:
    """A target that moves evenly, taken where a relaxation feels it: at its ``centre`` of memory."""
    return first + 2 * (middle - first) * centre(rate, days) / days


def il5_fold(cells: Cells, u: Signal, p: Parameters) -> Scalar:
    """Interleukin-5, fold: ILC2 (1 + A5 u), at balance (E074)."""
    return cells.ilc2 * (1 + p.il5_response * u.ilc2)


def calming_signal(cells: Cells, usual: Scalar, p: Parameters) -> Scalar:
    """What the blood offers the wall: the rise of regulatory T cells over their ``usual`` number, and of ILC2."""
    return p.calm_treg * cells.expanded / usual + p.calm_ilc2 * (cells.ilc2 - 1)


def surge_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Inflammatory drive at an infarction of a type, mg/L; what is neither STEMI nor NSTEMI is unstable angina."""
    unstable = 1 - stemi - nstemi
    return p.surge * (stemi * p.surge_stemi + nstemi * p.surge_nstemi + unstable * p.surge_unstable)


def after(days: Scalar, size: Scalar, p: Parameters) -> Inflammation:
    """Inflammation ``days`` after an infarction of a surge ``size``, in a patient who was stable before it."""
    surge = size * jnp.exp(-p.surge_decay * days)
    crp = p.residual_crp + size * p.crp_turnover * between(p.surge_decay, p.crp_turnover, days)
    return Inflammation(p.treg_deficit * jnp.exp(-days / p.treg_deficit_time), surge, crp)


def subside(x: Inflammation, calm: Scalar, days: Scalar, p: Parameters) -> Inflammation:
    """Inflammation ``days`` later: the surge decays; CRP follows the calmed drive, CRP' = kC ((res + surge)/calm - CRP)."""
    left = jnp.exp(-p.crp_turnover * days)
    by_surge = x.surge * p.crp_turnover * between(p.surge_decay, p.crp_turnover, days)
    crp = x.crp * left + (p.residual_crp * (1 - left) + by_surge) / calm
    return Inflammation(x.deficit * jnp.exp(-days / p.treg_deficit_time), x.surge * jnp.exp(-p.surge_decay * days), crp)


def il6(x: Inflammation, calm: Scalar, p: Parameters) -> Scalar:
    """Interleukin-6, ng/L: a power of the calmed inflammatory drive."""
    return p.il6_level * ((p.residual_crp + x.surge) / calm / p.reference_crp) ** p.il6_exponent


def between(rate: Scalar, other: Scalar, days: Scalar) -> Scalar:
    """(exp(-rate days) - exp(-other days)) / (other - rate): one exponential seen through another."""
    gap = apart(other - rate, 0)
    return (jnp.exp(-rate * days) - jnp.exp(-(rate + gap) * days)) / gap


def centre(rate: Scalar, days: Scalar) -> Scalar:
    """The moment in a step at which a steady change acts on a relaxation as it does on the whole: its centre of memory.

    days - 1/rate + days / (exp(rate days) - 1): the middle for a slow relaxation, near the end for a fast one.
    """
    return days - 1 / rate + days / jnp.expm1(rate * days)

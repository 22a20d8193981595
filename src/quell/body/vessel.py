"""Wall inflammation, vessel by vessel, and the glucose uptake that a scanner would see.

The wall holds resident inflammation (1 in a stable patient) and inflammation recruited from marrow and spleen after an
infarction; both turn over at one rate and both are divided by what calms them.

    calming'   = kx (wT expanded / usual + wI ilc2 - calming)    regulatory cells that have entered the wall
    supply'    = -kQ supply                                      raised by an infarction, as is
    delay'     = -(kQ + kR0) delay                               the part of it that has not yet arrived
    resident'  = kW (1 / calm - resident)
    recruited' = kW ((supply - delay) / calm - recruited)
    calm       = (1 + eps calming) (1 + eps_s statin)
    TBR_v      = 1 + B_v (resident + recruited)

So the fall is larger where inflammation was higher. In the code ``resident`` counts from 1.
"""

from __future__ import annotations

from quell.body.parameters import Parameters, Scalar
from quell.body.relax import Link

VESSELS = ("ascending_aorta", "left_carotid", "right_carotid", "coronary")
LINKS = (Link("supply", "recruited"), Link("delay", "recruited"))


def rates(p: Parameters) -> dict[str, Scalar]:
    """Rates of return of the wall and its supply, per day."""
    return {
        "calming": p.tissue_entry,
        "supply": p.recruitment_decay,
        "delay": p.recruitment_decay + p.recruitment_rise,
        "resident": p.wall_turnover,
        "recruited": p.wall_turnover,
    }


def strengths(p: Parameters) -> tuple[Scalar, ...]:
    """What feeds what, in the order of ``LINKS``, per day."""
    return p.wall_turnover, -p.wall_turnover


def supply_size(stemi: Scalar, nstemi: Scalar, p: Parameters) -> Scalar:
    """Supply of inflammatory cells after an infarction of a type (E106: STEMI above NSTEMI)."""
    unstable = 1 - stemi - nstemi
    return p.recruitment * (
        stemi * p.recruitment_stemi + nstemi * p.recruitment_nstemi + unstable * p.recruitment_unstable
    )


def calm(calming: Scalar, statin: Scalar, p: Parameters) -> Scalar:
    """By how much the wall's inflammation is divided: by calming cells, and by a statin made stronger (E108)."""
    return (1 + p.calming * calming) * (1 + p.statin_calming * statin)


def calm_blood(calming: Scalar, p: Parameters) -> Scalar:
    """By how much the inflammatory drive in blood is divided: 1 + cb eps calming."""
    return 1 + p.calm_blood * p.calming * calming


def drive(supplied: Scalar, calmed: Scalar, p: Parameters) -> dict[str, Scalar]:
    """What calming takes from the wall, per day: kW (1 / calm - 1) of the resident and of the supply."""
    spared = p.wall_turnover * (1 / calmed - 1)
    return {"resident": spared, "recruited": spared * supplied}


def uptake(resident: Scalar, recruited: Scalar, stable: Scalar) -> Scalar:
    """TBR of a vessel: 1 + B (resident + recruited), B the stable uptake above blood; ``resident`` counts from 1."""
    return 1 + stable * (1 + resident + recruited)

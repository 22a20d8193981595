"""What the protocol asks of each virtual person: doses in million units by day, visits, and days to look at the body."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from quell.measure import assay
from quell.protocol import Protocol, Visit
from quell.sentences import near
from quell.trial.world import TrialError

# The drug the body knows: every dose of it is interleukin-2 in million international units.
KNOWN_DRUG = "aldesleukin"

CELLS = ("Treg", "Treg %", "effector T", "NK", "CD56bright NK", "ILC2", "eosinophils")
PROCEDURES: dict[str, tuple[str, ...]] = {
    "dose": (),
    "cells": CELLS,
    "hsCRP": ("hsCRP",),
    "cytokines": ("IL-6", "IL-5"),
    "ejection fraction": ("ejection fraction",),
    "PET": ("TBRmax", "TBRmax of active slices", "active slices", "TBRmax of most diseased segment"),
}

# What the protocol calls an event, and the field of the body's life that holds it.
EVENTS = {
    "myocardial infarction": "infarction",
    "ischaemic stroke": "stroke",
    "resuscitated cardiac arrest": "arrest",
    "unplanned revascularisation": "revascularisation",
    "cardiovascular death": "cardiovascular_death",
    "other death": "other_death",
}
DEATHS = ("cardiovascular death", "other death")


class Plan(NamedTuple):
    """A protocol laid out for simulation; hashable, so that each plan is compiled once."""

    dose_days: tuple[int, ...]
    amounts: tuple[tuple[float, ...], ...]  # by arm and dose day, MIU or MIU/m2
    per_area: tuple[tuple[bool, ...], ...]
    visits: tuple[Visit, ...]
    observe: tuple[int, ...]  # study days from 1 on at which the body is looked at
    treated_until: int  # the final dosing day
    seen_until: int  # the last day of the planned visits
    horizon: int  # the last day anybody is followed


@functools.cache
def lay_out(protocol: Protocol) -> Plan:
    """The plan of a protocol. Raises TrialError where the body cannot live it or the instruments cannot read it."""
    _simulable(protocol)
    days = protocol.dose_days
    amounts = np.zeros((len(protocol.arms), len(days)))
    area = np.zeros_like(amounts, dtype=bool)
    for row, arm in enumerate(protocol.arms):
        for dose in arm.doses:
            at = [days.index(day) for day in dose.on]
            amounts[row, at] += dose.quantity.value
            area[row, at] |= dose.quantity.dimension.endswith("per area")
    seen = max(visit.day + visit.window[1] for visit in protocol.visits)
    return Plan(
        dose_days=days,
        amounts=tuple(map(tuple, amounts.tolist())),
        per_area=tuple(map(tuple, area.tolist())),
        visits=protocol.visits,
        observe=tuple(sorted({day for visit in protocol.visits for day in possible_days(visit) if day >= 1})),
        treated_until=max(days, default=1),
        seen_until=seen,
        horizon=max(seen, protocol.follow_up.days) if protocol.follow_up else seen,
    )


def possible_days(visit: Visit) -> range:
    """The study days a visit may fall on: within its window, except that dosing visits keep their day."""
    early, late = (0, 0) if "dose" in visit.procedures else visit.window
    return range(visit.day + early, visit.day + late + 1)


def before_treatment(visit: Visit) -> bool:
    """Whether a visit comes before the first dose."""
    return visit.kind == "screening"


def unit_of(quantity: str) -> str:
    """The unit in which virtual readings of a quantity are given."""
    if quantity in assay.by_name():
        return assay.by_name()[quantity].unit
    return assay.instruments()["echocardiogram"]["unit"] if quantity == "ejection fraction" else "1"


def _simulable(protocol: Protocol) -> None:
    for arm in protocol.arms:
        for dose in arm.doses:
            if dose.quantity.value > 0 and (dose.drug != KNOWN_DRUG or not dose.quantity.dimension.startswith("bio")):
                raise TrialError(
                    f"arm '{arm.name}' doses {dose.amount} of {dose.drug}; virtual bodies know only {KNOWN_DRUG} in MIU. "
                    "A protocol of another drug can be used to analyse a real study (quell analyse), not to simulate one."
                )
    for visit in protocol.visits:
        for procedure in visit.procedures:
            if procedure not in PROCEDURES:
                raise TrialError(
                    f"visit '{visit.name}' has the procedure '{procedure}', which no virtual instrument does. {near(procedure, PROCEDURES)}"
                )
        if before_treatment(visit) and "dose" in visit.procedures:
            raise TrialError(f"screening visit '{visit.name}' gives a dose. Doses begin on day 1.")
    for event in protocol.events:
        if event not in EVENTS:
            raise TrialError(f"an endpoint counts '{event}', which virtual people do not have. {near(event, EVENTS)}")

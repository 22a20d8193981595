"""From a bank to fates: gathered hazards of the groups of causes that a trial's endpoints are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from quell.design.crowd import CAUSES, Bank, Fates
from quell.sentences import BadInput, near
from quell.trial.plan import CELLS

SCARRED = ("arrest", "cardiovascular_death")  # causes whose hazard grows with the scar (quell.body.risk)
STEADY = "other_death"  # a rate of its own, which nothing moves
BASELINE = "baseline"  # what the last reading before the first dose is called
DEATHS = ("cardiovascular_death", STEADY)
UNTOUCHED = (*CELLS, "IL-5")  # what the drug moves in blood although nothing is calmed


def fates(bank: Bank, groups: Sequence[Sequence[str]]) -> Fates:
    """Gathered hazards of disjoint groups of causes, (draws, groups, arms, people, knots).

    A cause's hazard is its ``prone`` times the trajectory it follows. Time to the first event of a group is where its
    gathered hazard passes a unit exponential; the groups' exponentials are independent, given the person. Exact for
    whatever comes before the first infarction, so for every group, or first of several, that infarction is part of or
    ends; a group without infarction is taken as if none had come before (the loop is left out; see ``Bank.first``).
    Raises BadInput where a cause is unknown or in two groups.

    >>> from quell.design.assumed import bank
    >>> from quell.design.parts import Assumed
    >>> people = bank(Assumed(risk=("11 % by 2 years",)), ("placebo",), causes=("infarction",), horizon=731, people=8)
    >>> fates(people, (("infarction",), ("other_death",))).gathered.shape
    (1, 2, 1, 8, 3)
    """
    apart = tuple(tuple(group) for group in groups)
    _disjoint(apart)
    draws, arms, people, knots = bank.vascular.shape
    gathered = np.empty((draws, len(apart), arms, people, knots), dtype=np.float32)
    for number, group in enumerate(apart):
        gathered[:, number] = _gathered(bank, group)
    gathered.setflags(write=False)
    return Fates(apart, np.asarray(bank.knots, dtype=np.float64), gathered)


def _gathered(bank: Bank, group: tuple[str, ...]) -> np.ndarray:
    """One group's gathered hazard, (draws, arms, people, knots)."""
    share = {name: bank.prone[:, CAUSES.index(name), None, :, None] for name in group}
    inflamed = [one for name, one in share.items() if name not in (*SCARRED, STEADY)]
    scarred = [one for name, one in share.items() if name in SCARRED]
    found = np.zeros(bank.vascular.shape, dtype=np.float32)
    for trajectory, shares in ((bank.vascular, inflamed), (bank.scarred, scarred)):
        if shares:
            found += trajectory * np.sum(shares, axis=0, dtype=np.float32)
    if STEADY in share:
        found += share[STEADY] * np.asarray(bank.knots, dtype=np.float32)
    return found


def _disjoint(groups: tuple[tuple[str, ...], ...]) -> None:
    said = [cause for group in groups for cause in group]
    for cause in said:
        if cause not in CAUSES:
            raise BadInput(f"'{cause}' is no cause of an event that virtual people have. {near(cause, CAUSES)}")
        if said.count(cause) > 1:
            raise BadInput(f"'{cause}' stands in two groups of causes. Name it in one; an endpoint may join groups.")
    if not all(groups):
        raise BadInput("a group of causes is empty. Name at least one cause in it.")


def without(bank: Bank, what: str) -> Bank:
    """The same people where the drug calms nothing (``efficacy``) or does nothing (``drug``): nobody is lived again.

    The first arm is the control, which gets no drug: then every arm's hazards, events and readings of the tissue are its
    own. ``efficacy`` leaves each arm the cells that the drug moves in blood. Nothing is copied.

    >>> from quell.design.assumed import bank
    >>> from quell.design.parts import Assumed, Ratio
    >>> said = Assumed(risk=("11 % by 2 years",), ratios=(Ratio(ratio=0.5),))
    >>> still = without(bank(said, ("placebo", "drug"), causes=("infarction",), horizon=731, people=8), "efficacy")
    >>> bool((still.vascular[:, 1] == still.vascular[:, 0]).all())
    True
    """

    def control(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values[:, :1], values.shape)

    def read(name: str, values: np.ndarray) -> np.ndarray:
        if what == "drug" or name.rsplit(",", 1)[0] not in UNTOUCHED:
            return control(values)
        return np.where(np.isnan(control(values)), np.float32(np.nan), values)  # who is dead now is dead there

    return bank._replace(
        vascular=control(bank.vascular),
        scarred=control(bank.scarred),
        first=_each(bank.first, control),
        infarctions=control(bank.infarctions),
        readings={name: read(name, values) for name, values in bank.readings.items()},
    )


def _each(tables: Mapping[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: change(values) for name, values in tables.items()}

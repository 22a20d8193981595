"""What a bank says of survival without an event, year by year and arm by arm: the way from a trial to a country."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quell import units
from quell.design import bank
from quell.design.declared import Design

INFARCTION = ("infarction",)


def by_year(design: Design, paths: Sequence[str], causes: Sequence[str] = INFARCTION) -> tuple[np.ndarray, np.ndarray]:
    """Control's and the first active arm's survival without a first event at the ends of years, each (draws, years + 1).

    S(t) = mean over people of exp(-H(t)): the share without one, had nothing else ended follow-up.
    """
    people = bank.read(paths)
    fates = bank.fates(people, (tuple(causes),))
    ends = units.DAYS_PER_YEAR * np.arange(int(people.horizon // units.DAYS_PER_YEAR) + 1)
    arms = [people.arms.index(name) for name in (design.control, design.active[0])]
    return tuple(_survival(fates.gathered[:, 0, arm], fates.knots, ends) for arm in arms)  # type: ignore[return-value]


def _survival(gathered: np.ndarray, knots: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(draws, people, knots) of gathered hazard to (draws, days); hazards are even between knots."""
    after = np.clip(np.searchsorted(knots, days, side="right"), 1, len(knots) - 1)
    share = (days - knots[after - 1]) / (knots[after] - knots[after - 1])
    at = gathered[..., after - 1] * (1 - share) + gathered[..., after] * share
    return np.exp(-at).mean(axis=1)

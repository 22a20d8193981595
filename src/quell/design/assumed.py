"""A bank by assumption: people whose hazards are said, not lived, in the form of the bank of whole lives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from quell import keys
from quell.body.parameters import load
from quell.design.crowd import CAUSES, Bank
from quell.design.fates import BASELINE, DEATHS, STEADY
from quell.design.parts import Assumed, Marker
from quell.keys import jax
from quell.sentences import BadInput, near
from quell.units import DAYS_PER_YEAR

PEOPLE = 4_000


def published() -> dict[str, float]:
    """How often each vascular cause comes, relative to infarction (E124, in the body's table of constants).

    >>> published()["infarction"]
    1.0
    """
    p = load()
    return {"infarction": 1.0} | {
        name: getattr(p, f"{name}_share") for name in CAUSES if name not in ("infarction", STEADY)
    }


def bank(
    assumed: Assumed,
    arms: Sequence[str],
    *,
    causes: Sequence[str],
    horizon: int,
    people: int = PEOPLE,
    key: int | keys.Key = 0,
) -> Bank:
    """People of a world by assumption, one draw: gathered hazards of the primary exact at the knots, which hold every change.

    ``arms`` begins with the control; ``causes`` are the primary's. ``vascular`` and ``scarred`` are the primary's gathered
    hazard, and ``prone`` how large a part of it each cause is; vascular causes that are not in the primary come as often as
    published, relative to those that are, and other deaths at the published rate of the reference patient. Where other
    death is in the primary its part is counted with the others', so that ratios act on all of it. With markers that raise
    the hazard the risk said is that of everybody together. Raises BadInput in a sentence.

    >>> found = bank(Assumed(risk=("11 % by 2 years",)), ("placebo",), causes=("infarction", "stroke"), horizon=731, people=8)
    >>> round(float(1 - np.exp(-found.vascular[0, 0, 0, 1])), 6)
    0.11
    """
    shares = _shares(assumed, tuple(causes))
    markers = {one.name: _levels(one, people, key) for one in assumed.markers}
    doublings = {one.name: np.log2(markers[one.name] / one.median) for one in assumed.markers}
    proneness = np.prod(
        [one.hazard_per_doubling ** doublings[one.name] for one in assumed.markers] + [np.ones(people)], axis=0
    )
    benefit = np.prod(
        [one.ratio_per_doubling ** doublings[one.name] for one in assumed.markers] + [np.ones(people)], axis=0
    )
    knots = _knots(assumed, arms[1:], horizon)
    control = np.diff(_gathered(assumed, proneness, knots))  # of a person of proneness 1
    rows = [proneness[:, None] * control]
    rows += [(proneness * benefit)[:, None] * control * _ratios(assumed, arm, knots) for arm in arms[1:]]
    gathered = np.stack([np.cumsum(np.pad(row, ((0, 0), (1, 0))), axis=-1) for row in rows])
    first = _first(gathered, knots, shares, horizon, key)
    primary = gathered[None].astype(np.float32)
    return Bank(
        arms=tuple(arms),
        knots=knots,
        vascular=primary,
        scarred=primary,
        prone=np.repeat(np.array([shares[cause] for cause in CAUSES], dtype=np.float32)[None, :, None], people, axis=2),
        first=first,
        infarctions=np.isfinite(first["infarction"]).astype(np.uint8),
        readings=_readings(assumed, arms, people, key),
        covariates={name: level[None].astype(np.float32) for name, level in markers.items()}
        | {"screened": np.ones((1, people), dtype=np.float32)},
        horizon=horizon,
    )


def _shares(assumed: Assumed, causes: tuple[str, ...]) -> dict[str, float]:
    """Each cause's hazard as a part of the primary's; other death, per day."""
    for cause in (*causes, *assumed.shares):
        if cause not in CAUSES:
            raise BadInput(f"'{cause}' is no cause of an event that virtual people have. {near(cause, CAUSES)}")
    usual = published()
    moved = [cause for cause in causes if cause in usual]
    if not moved:
        raise BadInput(
            "a primary of other deaths alone cannot be assumed: nothing is taken to move them. Add cardiovascular_death."
        )
    said = {cause: share for cause, share in assumed.shares.items() if cause in moved}
    for cause in assumed.shares:
        if cause not in moved:
            raise BadInput(f"shares names '{cause}', which is not in the primary endpoint. {near(cause, moved)}")
    silent = [cause for cause in moved if cause not in said]
    left = 1.0 - sum(said.values())
    if not silent and left > 1e-9:
        raise BadInput(
            f"the shares of all causes of the primary add up to {sum(said.values()):g}. They make 1 together."
        )
    known = sum(usual[cause] for cause in silent)
    found = said | {cause: left * usual[cause] / known for cause in silent}
    primary = sum(usual[cause] for cause in moved)
    others = {cause: often / primary for cause, often in usual.items() if cause not in moved}
    return found | others | {STEADY: 0.0 if STEADY in causes else load().other_death_rate / DAYS_PER_YEAR}


def _levels(marker: Marker, people: int, key: int | keys.Key) -> np.ndarray:
    """A marker's level in each person, log-normal, by address."""
    z = np.asarray(jax.random.normal(keys.at(key, "marker", marker.name), (people,)))
    return marker.median * np.exp(marker.log_sd * z)


def _knots(assumed: Assumed, active: Sequence[str], horizon: int) -> np.ndarray:
    """Every day on which a hazard changes, and the horizon; days from 0."""
    changes = [day for day, _ in assumed.risks] + [day for arm in active for day, _ in assumed.ratio(arm)]
    return np.array(sorted({0.0, float(horizon), *(float(day) for day in changes if 0 < day < horizon)}))


def _gathered(assumed: Assumed, proneness: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """The hazard that a person of proneness 1 gathers on control by each knot: G with mean exp(-proneness G) = 1 - risk.

    Even between the risks said; the last slope runs on.
    """

    def level(risk: float) -> float:
        certain = -np.log1p(-risk)
        reach = certain / proneness.min()  # by then even the least prone have gathered enough
        if np.ptp(proneness) == 0:
            return reach
        return optimize.brentq(lambda g: np.exp(-proneness * g).mean() - (1 - risk), 0.0, reach, xtol=1e-15, rtol=1e-14)

    days = np.array([0.0, *(day for day, _ in assumed.risks)])
    levels = np.array([0.0, *(level(risk) for _, risk in assumed.risks)])
    slope = (levels[-1] - levels[-2]) / (days[-1] - days[-2])
    return np.where(knots <= days[-1], np.interp(knots, days, levels), levels[-1] + slope * (knots - days[-1]))


def _ratios(assumed: Assumed, arm: str, knots: np.ndarray) -> np.ndarray:
    """An active arm's hazard ratio in each interval between knots."""
    since, ratio = zip(*assumed.ratio(arm), strict=True)
    return np.array(ratio)[np.searchsorted(since, knots[:-1], side="right") - 1]


def _first(
    gathered: np.ndarray, knots: np.ndarray, shares: dict[str, float], horizon: int, key: int | keys.Key
) -> dict[str, np.ndarray]:
    """The day of each cause's first event, (1, arms, people), inf where none by the horizon or death came first.

    A unit exponential for each person and cause, the same under every arm; causes beside one another, no cause changing
    another's hazard.
    """
    arms, people, _ = gathered.shape
    found = {}
    for cause in CAUSES:
        fate = np.asarray(jax.random.exponential(keys.at(key, "fate", cause), (people,)))
        share = np.float64(shares[cause])
        if cause == STEADY:
            times = np.broadcast_to(
                np.divide(fate, share, out=np.full(people, np.inf), where=share > 0), (arms, people)
            )
        else:
            goal = np.divide(fate, share, out=np.full(people, np.inf), where=share > 0)
            times = np.stack(
                [[_crossing(row, knots, end) for row, end in zip(arm, goal, strict=True)] for arm in gathered]
            )
        found[cause] = np.ceil(times)
    death = np.minimum.reduce([found[cause] for cause in DEATHS])
    return {
        cause: np.where((days <= death) & (days <= horizon), days, np.inf)[None].astype(np.float32)
        for cause, days in found.items()
    }


def _crossing(gathered: np.ndarray, knots: np.ndarray, goal: float) -> float:
    """The day on which the gathered hazard reaches a goal; inf where it does not by the last knot."""
    return float(np.interp(goal, gathered, knots)) if goal <= gathered[-1] else np.inf


def _readings(assumed: Assumed, arms: Sequence[str], people: int, key: int | keys.Key) -> dict[str, np.ndarray]:
    """Each measured endpoint at baseline and at its day, (1, arms, people): the same person's under every arm but for the effect."""
    found = {}
    for name, said in assumed.readings.items():
        z, own = (
            np.asarray(jax.random.normal(keys.at(key, "reading", name, when), (people,)))
            for when in ("before", "after")
        )
        later = said.correlation * z + np.sqrt(1 - said.correlation**2) * own
        effects = np.array([0.0, *(said.effect(arm) for arm in arms[1:])])[:, None]
        baseline = np.broadcast_to(said.mean + said.sd * z, (len(arms), people))
        found[f"{name}, {BASELINE}"] = baseline[None].astype(np.float32)
        found[f"{name}, day {said.day}"] = (said.mean + said.sd * later + effects)[None].astype(np.float32)
    return found

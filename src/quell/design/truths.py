"""What a trial's estimate converges to in each draw of a world: the effect on everybody, from the people in the bank.

With S_i(t) = exp(-H_i(t)) a person's chance of being at risk, and dN_a the mean over people of the endpoint's events in a
short interval, arm a's gathered marginal hazard rises by

    dL_a = dN_a / R_a          R_a the share at risk: the mean of S_i over people, logarithmic mean over the interval

Deaths that are not of the endpoint end being at risk, as they censor in a trial. Then, on each scale,

    hazard ratio      the root b of  sum C R0 R1 (dL1 - exp(b) dL0) / (R0 + R1 exp(b)) = 0
    risk              1 - exp(-L_a)                        what Kaplan and Meier's curve comes to
    restricted mean   integral of exp(-L_a)

The first is the value to which Cox's estimate (and so the log-rank test's) converges whatever the shape of the hazards
(Struthers and Kalbfleisch 1986, doi:10.1093/biomet/73.2.363), for arms of one size; C(t) is the share not yet censored by
the end of the trial: 1 until ``evenly_from``, then falling evenly to 0 at ``until_day``, as recruitment at an even pace
makes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from quell.design.crowd import CAUSES, Bank, Fates
from quell.design.fates import DEATHS, fates
from quell.sentences import BadInput, near

PARTS = 4  # of each interval between knots: what is left of the error is below 1e-5 on the log hazard ratio
STEPS = 50  # of Newton's rule at most
CLOSE = 1e-12

TIMED = (
    "hazard ratio",
    "risk difference",
    "risk ratio",
    "difference in restricted mean time",
    "ratio of restricted mean time",
)
MEASURED = ("difference in means", "ratio of geometric means")
SCALES = (*TIMED, *MEASURED)


class Course(NamedTuple):
    """The two arms over short intervals; arrays of shape (2, draws, intervals), control first."""

    middle: np.ndarray  # (intervals,) days
    length: np.ndarray  # (intervals,) days
    at_risk: np.ndarray
    hazard: np.ndarray  # gathered in the interval, marginal


def true_effect(
    source: Bank | Fates,
    control: int | str,
    active: int | str,
    until_day: float,
    scale: str,
    *,
    of: Sequence[str] | str = (),
    evenly_from: float = 0.0,
    who: np.ndarray | None = None,
) -> np.ndarray:
    """The true effect of an arm over control in each draw, (draws,), on its working scale: ratios as logarithms.

    ``scale`` is one of ``SCALES``. ``of`` names the endpoint's causes (all groups of Fates, where it is left out), or, for
    a measured endpoint, a reading of the bank. Arms by number, or by name where ``source`` is a Bank. ``who``
    (draws, people) says whom the trial enrols; everybody where it is left out. Raises BadInput in a sentence.

    >>> from quell.design.assumed import bank
    >>> from quell.design.parts import Assumed, Ratio
    >>> said = Assumed(risk=("11 % by 2 years",), ratios=(Ratio(ratio=0.75),))
    >>> people = bank(said, ("placebo", "drug"), causes=("infarction",), horizon=1461, people=8)
    >>> float(np.exp(true_effect(people, "placebo", "drug", 1461, "hazard ratio", of=("infarction",)))[0].round(5))
    0.75
    """
    scale = scale.removeprefix("log ")
    if scale not in SCALES:
        raise BadInput(f"no true value is known on the scale '{scale}'. {near(scale, SCALES)}")
    places = (_place(source, control), _place(source, active))
    if scale in MEASURED:
        return _of_means(_reading(source, of), places, scale, who)
    groups, chosen = _groups(source, of)
    return _of_times(run(groups, chosen, places, until_day, who), until_day, scale, evenly_from)


def run(
    groups: Fates, chosen: Sequence[int], arms: tuple[int, int], until_day: float, who: np.ndarray | None = None
) -> Course:
    """The two arms' course until a day: the endpoint is the first event of the ``chosen`` groups."""
    if not until_day > 0:
        raise BadInput(f"a true effect until day {until_day:g} has no time in it. Take a later day.")
    ending = [n for n, group in enumerate(groups.groups) if n not in chosen and set(group) <= set(DEATHS)]
    edges = _edges(groups.knots, until_day)
    pairs = [_arm(groups.gathered[:, :, arm], groups.knots, edges, (list(chosen), ending), who) for arm in arms]
    at_risk, hazard = (np.stack(one) for one in zip(*pairs, strict=True))
    return Course((edges[1:] + edges[:-1]) / 2, np.diff(edges), at_risk, hazard)


def _edges(knots: np.ndarray, until_day: float) -> np.ndarray:
    """The ends of short intervals: those between knots, in ``PARTS``; where they run long, no longer than the last one."""
    outer = np.append(knots[knots < until_day], until_day)
    parts = np.arange(PARTS) / PARTS
    return np.append((outer[:-1, None] + np.diff(outer)[:, None] * parts).ravel(), until_day)


def _arm(
    gathered: np.ndarray,
    knots: np.ndarray,
    edges: np.ndarray,
    groups: tuple[list[int], list[int]],
    who: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Share at risk and marginal hazard of one arm, (draws, intervals); ``gathered`` is (draws, groups, people, knots)."""
    own, ending = (gathered[:, group].sum(axis=1, dtype=np.float64) for group in groups)
    shares, hazards = [], []
    before: tuple[np.ndarray, ...] | None = None
    for mine, other in zip(_at(own, knots, edges), _at(ending, knots, edges), strict=True):
        alive = np.exp(-(mine + other))
        if before is not None:
            was, was_other, was_alive = before
            gained, total = mine - was, mine + other - was - was_other
            part = np.divide(gained, total, out=np.zeros_like(gained), where=total > 0)
            start, end = _mean(was_alive, who), _mean(alive, who)
            at_risk = _logarithmic_mean(start, end)
            shares.append(at_risk)
            hazards.append(_mean(part * (was_alive - alive), who) / at_risk)
        before = (mine, other, alive)
    return np.stack(shares, axis=-1), np.stack(hazards, axis=-1)


def _at(gathered: np.ndarray, knots: np.ndarray, days: np.ndarray) -> Iterator[np.ndarray]:
    """The gathered hazard on each of some days, (draws, people): even between knots, running on after the last."""
    place = np.clip(np.searchsorted(knots, days, side="right") - 1, 0, len(knots) - 2)
    share = (days - knots[place]) / (knots[place + 1] - knots[place])
    return (gathered[..., k] + w * (gathered[..., k + 1] - gathered[..., k]) for k, w in zip(place, share, strict=True))


def _mean(values: np.ndarray, who: np.ndarray | None) -> np.ndarray:
    """The mean over people, (draws,), of those enrolled."""
    return values.mean(axis=-1) if who is None else (values * who).sum(axis=-1) / np.sum(who, axis=-1)


def _logarithmic_mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a - b) / ln(a / b): the mean of what falls exponentially from a to b."""
    fall = np.log(a / b)
    small = np.abs(fall) < 1e-9
    return np.where(small, (a + b) / 2, (a - b) / np.where(small, 1.0, fall))


def _of_times(course: Course, until_day: float, scale: str, evenly_from: float) -> np.ndarray:
    if scale == "hazard ratio":
        return _cox(course, until_day, evenly_from)
    gathered = np.cumsum(course.hazard, axis=-1)
    if scale.startswith("risk"):
        control, active = -np.expm1(-gathered[..., -1])
    else:
        begun = np.exp(-(gathered - course.hazard))
        small = course.hazard < 1e-9
        within = np.where(small, 1.0, -np.expm1(-course.hazard) / np.where(small, 1.0, course.hazard))
        control, active = (begun * within * course.length).sum(axis=-1)
    return active - control if "difference" in scale else np.log(active / control)


def _cox(course: Course, until_day: float, evenly_from: float) -> np.ndarray:
    """The root of the score of Cox's partial likelihood in expectation, (draws,), by Newton's rule."""
    (r0, r1), (h0, h1) = course.at_risk, course.hazard
    weight = np.clip((until_day - course.middle) / max(until_day - evenly_from, CLOSE), 0.0, 1.0)
    beta = np.zeros(len(r0))
    for _ in range(STEPS):
        ratio = np.exp(beta)[:, None]
        share = r1 * ratio / (r0 + r1 * ratio)  # of the risk set, the active arm's, weighted
        events = r0 * h0 + r1 * h1
        score = (weight * (r1 * h1 - events * share)).sum(axis=-1)
        information = (weight * events * share * (1 - share)).sum(axis=-1)
        step = np.divide(score, information, out=np.full_like(beta, np.nan), where=information > 0)
        beta = beta + step
        if not (np.abs(step) > CLOSE).any():
            break
    return beta


def _of_means(values: np.ndarray, arms: tuple[int, int], scale: str, who: np.ndarray | None) -> np.ndarray:
    """The difference of mean readings over those who have one, (draws,); of mean logarithms for a ratio."""
    means = []
    for arm in arms:
        read = values[:, arm].astype(np.float64)
        read = np.log(read) if scale == "ratio of geometric means" else read
        known = np.isfinite(read) & (True if who is None else np.asarray(who, bool))
        number = known.sum(axis=-1)
        total = np.where(known, read, 0.0).sum(axis=-1)
        means.append(np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0))
    return means[1] - means[0]


def _place(source: Bank | Fates, arm: int | str) -> int:
    if isinstance(source, Bank):
        if isinstance(arm, str) and arm not in source.arms:
            raise BadInput(f"nobody lived under an arm '{arm}'. {near(arm, source.arms)}")
        return source.arms.index(arm) if isinstance(arm, str) else arm
    if isinstance(arm, str):
        raise BadInput(f"fates know arms by number, not by name: say which number '{arm}' has.")
    return arm


def _reading(source: Bank | Fates, of: Sequence[str] | str) -> np.ndarray:
    name = of if isinstance(of, str) else " ".join(of)
    known = source.readings if isinstance(source, Bank) else {}
    if name not in known:
        raise BadInput(f"no reading '{name}' was taken of the people in the bank. {near(name, known)}")
    return known[name]


def _groups(source: Bank | Fates, of: Sequence[str] | str) -> tuple[Fates, list[int]]:
    """Fates, and which of their groups the endpoint is made of; deaths that are not of it end being at risk."""
    causes = (of,) if isinstance(of, str) else tuple(of)
    if isinstance(source, Bank):
        rest = tuple(cause for cause in DEATHS if cause not in causes)
        return fates(source, (causes, *((cause,) for cause in rest))), [0]
    if not causes:
        return source, list(range(len(source.groups)))
    chosen = [n for n, group in enumerate(source.groups) if set(group) <= set(causes)]
    covered = {cause for n in chosen for cause in source.groups[n]}
    missing = [cause for cause in causes if cause not in covered]
    if missing:
        known = [cause for group in source.groups for cause in group]
        raise BadInput(
            f"the endpoint's cause '{missing[0]}' is in no group of its own causes. {near(missing[0], known or CAUSES)}"
        )
    return source, chosen


def best(
    source: Bank | Fates | np.ndarray,
    share: float,
    *,
    control: int | str = 0,
    active: int | str = 1,
    until_day: float = 0,
) -> np.ndarray:
    """The numbers of the draws with the largest true effect, in rising order: this share of them, at least one.

    ``source`` may be the effects themselves, (draws,), of which the smallest are the best; else the hazard ratio until a
    day (the last lived, where it is left out) of all groups of Fates, or of infarction in a Bank, is worked out.

    >>> best(np.array([0.1, -0.3, -0.2, 0.0]), 0.5).tolist()
    [1, 2]
    """
    effects = source
    if isinstance(source, Bank | Fates):
        of = ("infarction",) if isinstance(source, Bank) else ()
        effects = true_effect(source, control, active, until_day or float(source.knots[-1]), "hazard ratio", of=of)
    effects = np.asarray(effects)
    count = max(1, round(share * len(effects)))
    return np.sort(np.argsort(effects, kind="stable")[:count])

"""What becomes of people after an infarction, with and without the treatment: a Markov model of quarter years.

    free  --infarction-->  repeat 1 … repeat 8  -->  later          (repeat k: the k-th quarter after the last infarction)
      \\                       \\                       \\
       cardiovascular death, other death                            (an infarction kills a share at once)

Hazards a year, by sex, at age a and time t since treatment:

    infarction   h(t) trend again^[repeated] exp(b(t))              h from the risks by 1 and 7 years
    all deaths   m(a) R, R the mortality ratio after a first or a repeat infarction (m: life table)
    of which     m(a) (1 - c) other; the rest, less the infarctions that kill, cardiovascular (never below 0)

Deaths by infarction are part of the excess, so that they are not counted twice. The treatment changes b only, unless an
effect on death is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from quell.impact.effect import Effect
from quell.impact.inputs import Inputs
from quell.impact.markov import competing, counted, discounted, occupancy, rate, worth

PER_YEAR = 4
QUARTERS = 2 * PER_YEAR  # states in which the time since a repeat infarction is remembered
FREE, REPEAT, LATER = 0, 1, 1 + QUARTERS
CARDIOVASCULAR, OTHER = LATER + 1, LATER + 2
STATES = OTHER + 1
ALIVE = (np.arange(STATES) <= LATER).astype(float)
REPEATED = ALIVE * (np.arange(STATES) >= REPEAT)
FIRST_YEAR = REPEATED * (np.arange(STATES) < REPEAT + PER_YEAR)
SECOND_YEAR = (REPEATED - FIRST_YEAR) * (np.arange(STATES) < LATER)
CLASSES = np.stack([ALIVE - REPEATED, FIRST_YEAR, REPEATED - FIRST_YEAR], axis=-1)  # (states, 3), as in Rates
NAMES = (
    "free of another infarction",
    *(f"quarter {k} after a repeat infarction" for k in range(1, QUARTERS + 1)),
    "later after a repeat infarction",
    "dead, cardiovascular",
    "dead, other",
)
LONGEST_AGE = 100

Values = Mapping[str, np.ndarray]


class Rates(NamedTuple):
    """Hazards a year by class of state (free; year after a repeat infarction; later), each (draws, 3)."""

    infarction: np.ndarray
    cardiovascular: np.ndarray
    other: np.ndarray


class Lived(NamedTuple):
    """What a cohort lived through, per person: cumulative counts by quarter (quarters + 1, draws), totals (draws,)."""

    infarctions: np.ndarray
    first: np.ndarray  # of those free of another infarction: their risk of one
    cardiovascular_deaths: np.ndarray
    deaths: np.ndarray
    free: np.ndarray  # share alive and free of another infarction
    years: np.ndarray  # of life, not discounted
    life_years: np.ndarray  # discounted
    qalys: np.ndarray
    cost: np.ndarray

    def mixed(self, other: Lived, share: np.ndarray) -> Lived:
        """This cohort and a share of another; share: (draws,)."""
        return Lived(*(a * (1 - share) + b * share for a, b in zip(self, other, strict=True)))


def live(inputs: Inputs, drawn: Values, effect: Effect | None) -> Lived:
    """Men and women, treated by an effect or not, until age 100; ``drawn``: (draws,) of each input.

    >>> inputs = Inputs.load()
    >>> held = {name: np.array([value]) for name, value in inputs.values.items()}
    >>> lived = live(inputs, held, None)
    >>> lived.first[4].round(3), lived.years.round(1)
    (array([0.044]), array([12.7]))
    """
    men, women = (_of_sex(inputs, drawn, effect, women=women) for women in (False, True))
    return men.mixed(women, drawn["women"])


def hazard_without(drawn: Values, quarter: int, *, women: bool, effect: Effect | None = None) -> np.ndarray:
    """Hazard a year of another infarction without treatment in a quarter after the first one, (draws,)."""
    year = quarter // PER_YEAR
    if effect is not None and effect.risks is not None:
        return effect.risks[:, min(year, effect.risks.shape[1] - 1)]
    who = "women" if women else "men"
    first, seventh = (rate(drawn[f"repeat_{who}_year_{year}"]) for year in (1, 7))
    return np.asarray(drawn["trend"] * (first if year < 1 else (seventh - first) / 6))


def rates(inputs: Inputs, drawn: Values, effect: Effect | None, quarter: int, *, women: bool) -> Rates:
    """Hazards of a quarter without treatment, and the effect of it on them; (draws, 3) each."""
    population = inputs.life_table.rate(float(drawn["age"][0]) + (quarter + 0.5) / PER_YEAR, women=women)
    fresh = hazard_without(drawn, 0, women=women, effect=effect)
    now = hazard_without(drawn, quarter, women=women, effect=effect)
    settled = hazard_without(drawn, 10**6, women=women, effect=effect)
    infarction = np.stack([now, drawn["again"] * fresh, drawn["again"] * settled], axis=-1)
    fatal = drawn["fatal_women" if women else "fatal_men"]
    ratio = np.stack([drawn["mortality_first"], *2 * [drawn["mortality_repeat"]]], axis=-1)
    other = population * (1 - drawn["cardiovascular_share"])[:, None]
    excess = population * ratio - other - fatal[:, None] * infarction
    return Rates(infarction, np.maximum(excess, 0.0), np.broadcast_to(other, infarction.shape))


def matrix(chance: np.ndarray, fatal: np.ndarray) -> np.ndarray:
    """The transition matrices of a quarter, (draws, states, states), from chances (draws, 3 classes, 3 causes).

    Causes in the order of ``Rates``; ``fatal``: (draws,) the share of infarctions that kill.

    >>> matrix(np.full((1, 3, 3), 0.1), np.array([0.25])).sum(axis=-1).round(12).tolist()[0][:2]
    [1.0, 1.0]
    """
    found = np.zeros((len(chance), STATES, STATES))
    for state in range(LATER + 1):
        kind = 0 if state == FREE else 1 if state < REPEAT + PER_YEAR else 2
        infarction, cardiovascular, other = np.moveaxis(chance[:, kind], -1, 0)
        onward = state if state in (FREE, LATER) else state + 1
        found[:, state, onward] += 1 - infarction - cardiovascular - other
        found[:, state, REPEAT] += infarction * (1 - fatal)
        found[:, state, CARDIOVASCULAR] += cardiovascular + infarction * fatal
        found[:, state, OTHER] += other
    found[:, CARDIOVASCULAR, CARDIOVASCULAR] = found[:, OTHER, OTHER] = 1.0
    return found


def _of_sex(inputs: Inputs, drawn: Values, effect: Effect | None, *, women: bool) -> Lived:
    draws = len(drawn["age"])
    quarters = int(np.ceil((LONGEST_AGE - drawn["age"][0]) * PER_YEAR))
    middles = (np.arange(quarters) + 0.5) / PER_YEAR
    log_ratio, log_ratio_death = _effects(effect, middles, drawn)
    fatal = drawn["fatal_women" if women else "fatal_men"]
    chances = np.empty((quarters, draws, 3, 3))

    def step(quarter: int) -> np.ndarray:
        now = rates(inputs, drawn, effect, quarter, women=women)
        change, less_death = np.exp(log_ratio[:, quarter, None]), np.exp(log_ratio_death[:, quarter, None])
        hazards = np.stack([now.infarction * change, now.cardiovascular * less_death, now.other], axis=-1)
        chances[quarter] = competing(hazards, 1 / PER_YEAR)
        return matrix(chances[quarter], fatal)

    start = np.zeros((draws, STATES))
    start[:, FREE] = 1.0
    lived = occupancy(start, step, quarters)
    return _counted(lived, chances, drawn, women=women)


def _effects(effect: Effect | None, middles: np.ndarray, drawn: Values) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.zeros((len(drawn["age"]), len(middles)))
    if effect is None:
        return nothing, nothing
    death = effect.log_ratio_death
    wane = drawn["wane_years"]
    return effect.at(middles, wane), nothing if death is None else effect.at(middles, wane, death)


def _counted(lived: np.ndarray, chances: np.ndarray, drawn: Values, *, women: bool) -> Lived:
    """Events, life years, quality-adjusted life years and costs of a course of states."""
    here = lived[:-1] @ CLASSES
    new = here[..., None] * chances  # (quarters, draws, classes, causes)
    infarctions, fatal = new[..., 0].sum(-1), drawn["fatal_women" if women else "fatal_men"]
    cardiovascular = np.diff(lived[:, :, CARDIOVASCULAR], axis=0)
    other = np.diff(lived[:, :, OTHER], axis=0)
    yearly = float(drawn["discount"][0])
    middles = (np.arange(len(new)) + 0.5) / PER_YEAR
    bills = (
        infarctions * (1 - fatal) * drawn["cost_infarction"]
        + cardiovascular * drawn["cost_cardiovascular_death"]
        + other * drawn["cost_other_death"]
    )
    weights, discount = counted(len(lived) - 1) / PER_YEAR, discounted(np.arange(len(lived)) / PER_YEAR, yearly)
    return Lived(
        infarctions=_gathered(infarctions),
        first=_gathered(new[:, :, 0, 0]),
        cardiovascular_deaths=lived[:, :, CARDIOVASCULAR],
        deaths=lived[:, :, CARDIOVASCULAR] + lived[:, :, OTHER],
        free=lived[:, :, FREE],
        years=worth(lived, ALIVE, weights, np.ones(len(lived))),
        life_years=worth(lived, ALIVE, weights, discount),
        qalys=_qalys(lived, drawn, weights, discount, women=women),
        cost=_care(lived, drawn, weights, discount) + discounted(middles, yearly) @ bills,
    )


def _qalys(lived: np.ndarray, drawn: Values, weights: np.ndarray, discount: np.ndarray, *, women: bool) -> np.ndarray:
    """Years times their quality: that at an infarction, what a year of recovery adds, what a repeat one takes.

    The decline with age is that of the general population, relative to the age at the start (Ara and Brazier 2010).
    """
    ends = np.arange(len(lived)) / PER_YEAR
    age = float(drawn["age"][0])
    decline = population_quality(age + ends, women=women) / population_quality(np.array(age), women=women)
    recovered = np.zeros((len(lived), STATES))  # months, at most 12
    recovered[:, FREE] = 12 * np.minimum(ends, 1.0)
    recovered[:, REPEAT:LATER] = 12 * np.minimum((np.arange(QUARTERS) + 0.5) / PER_YEAR, 1.0)
    recovered[:, LATER] = 12.0
    return (
        drawn["quality_infarction"] * worth(lived, ALIVE, weights * decline, discount)
        + drawn["quality_gain"] * worth(lived, recovered, weights * decline, discount)
        - drawn["quality_repeat"] * worth(lived, REPEATED, weights * decline, discount)
    )


def _care(lived: np.ndarray, drawn: Values, weights: np.ndarray, discount: np.ndarray) -> np.ndarray:
    """What living costs beyond the events themselves: every year, and more in the two years after a repeat infarction."""
    return (
        drawn["cost_year"] * worth(lived, ALIVE, weights, discount)
        + drawn["cost_second_year"] * worth(lived, FIRST_YEAR, weights, discount)
        + drawn["cost_third_year"] * worth(lived, SECOND_YEAR, weights, discount)
    )


def population_quality(age: np.ndarray, *, women: bool) -> np.ndarray:
    """EQ-5D of people in England by age and sex (Ara and Brazier 2010, doi:10.1111/j.1524-4733.2010.00700.x).

    >>> round(float(population_quality(np.array(67.4), women=False)), 3)
    0.804
    """
    return 0.9508566 + 0.0212126 * (not women) - 0.0002587 * age - 0.0000332 * age**2


def _gathered(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, counts.shape[1])), counts.cumsum(axis=0)])

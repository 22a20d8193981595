"""What the rooms of a design hand to each other: people in a bank, their fates in a trial, and what a trial came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

CAUSES = ("infarction", "stroke", "arrest", "revascularisation", "cardiovascular_death", "other_death")


class Bank(NamedTuple):
    """Virtual people of one world, each living under every arm with the same fate; whole lives and gathered hazards.

    Draws are sets of constants of the body; all people of a draw live in the same world. ``knots[0]`` is 0.
    """

    arms: tuple[str, ...]
    knots: np.ndarray  # (K,) days from randomisation
    vascular: np.ndarray  # (draws, arms, people, K) float32: gathered hazard of an infarction while none has come
    scarred: np.ndarray  # (draws, arms, people, K) float32: the same, times exp(g_sc (scar - scar0)) at each moment
    prone: np.ndarray  # (draws, causes, people) float32: a cause's hazard over its trajectory; other death: per day
    first: Mapping[
        str, np.ndarray
    ]  # cause: (draws, arms, people) float32, day of its first event in the life lived, inf
    infarctions: np.ndarray  # (draws, arms, people) how many infarctions within the horizon
    readings: Mapping[str, np.ndarray]  # "TBRmax, baseline", "TBRmax, day 61", ...: (draws, arms, people) float32
    covariates: Mapping[str, np.ndarray]  # "age", "hsCRP", "TBRmax", "infarct_type", ...: (draws, people) float32
    horizon: int  # last day lived

    @property
    def draws(self) -> int:
        return int(self.vascular.shape[0])

    @property
    def people(self) -> int:
        return int(self.vascular.shape[2])


class Fates(NamedTuple):
    """Gathered hazards of disjoint groups of causes, of which a trial's endpoints are unions; ready for sampling.

    Beyond the last knot the last interval's hazard goes on.
    """

    groups: tuple[tuple[str, ...], ...]  # causes of each group
    knots: np.ndarray  # (K,) float64 days from randomisation, from 0
    gathered: np.ndarray  # (draws, groups, arms, people, K) float32, not decreasing along K


class Crowd(NamedTuple):
    """The people of a chunk of trials, in the order in which they come; arrays of shape (trials, n)."""

    seed: np.ndarray  # (trials,) uint64
    draw: np.ndarray  # (trials,) int32: the draw that all of a trial's people live in
    person: np.ndarray  # (trials, n) int32, place in the bank
    arrival: np.ndarray  # (trials, n) float32 calendar days from the opening of the trial, not decreasing
    site: np.ndarray  # (trials, n) int16
    arm: np.ndarray  # (trials, n) int8; -1 not randomised
    time: (
        np.ndarray
    )  # (groups, trials, n) float32 days from randomisation to the first event of a group under the own arm; inf
    lost: np.ndarray  # (trials, n) float32 days from randomisation until lost to follow-up; inf


# What a trial came to: one row each. Looks are numbered from 1; a column for a look not reached holds null.
RESULT = {
    "trial": "number of the trial, from 0",
    "draw": "draw of the world's constants",
    "success": "the trial's claim is made",
    "look": "look at which it ended",
    "reason": "efficacy, futility, harm, final, gate (surrogate stage failed)",
    "enrolled": "people randomised",
    "screened": "people screened for them",
    "duration": "days from opening to the end",
    "arm": "number of the arm carried to the end (the active one of two)",
    "estimate": "of the primary effect at the end, on its working scale (log hazard ratio, difference)",
    "se": "its standard error",
    "adjusted": "median-unbiased estimate after the stop",
    "lower": "interval after the stop",
    "upper": "interval after the stop",
    "truth": "the effect's true value in this draw's world, same scale",
    "surrogate": "difference of the surrogate (active less control) where one is measured",
    "surrogate_se": "its standard error",
}
BY_LOOK = {
    "events_{look}": "primary events at the look (people with an outcome for a measured endpoint)",
    "enrolled_{look}": "people randomised by then",
    "day_{look}": "calendar day of the look",
    "z_{look}": "standardised statistic in favour of the active arm (combined where stages are combined)",
}
BY_SECONDARY = {"p_{endpoint}": "one-sided p of a further endpoint at the end"}

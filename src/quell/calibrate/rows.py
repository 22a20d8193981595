"""Each published figure as a term of the likelihood: how it was summarised, on which scale, with what error.

On its natural scale (the logarithm of a time, a level or a fold; the logit of a share, the log of a cumulative hazard) a published value y and the body's
own f differ by the study's error and by what sets studies apart:  y ~ N(f, se^2 + tau^2), tau one for each group of figures
with a half-normal prior. ``figures_used`` is the only door through which evidence comes in: it refuses what validates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quell import evidence
from quell.evidence import EvidenceError, Figure

STAGES = ("before-ivory", "after-ivory")
Z95 = 1.959964

# Half-normal scale of the spread between studies, on the natural scale, and why.
SPREADS = {
    "kinetics": (0.3, "laboratories and units disagree up to threefold (E093, E095, E096)"),
    "potency": (0.5, "in vitro against in vivo, and laboratories"),
    "cells": (0.05, "populations and gating of the same counts: a few percent of the fold"),
    "wall": (0.03, "scanners and readers: a few percent of uptake"),
    "blood": (0.2, "populations: C-reactive protein differs by a fifth between cohorts"),
    "apart": (0.1, "populations: how far people differ, by a tenth between cohorts"),
    "heart": (0.1, "methods of imaging"),
    "risk": (0.2, "registers, ages and years: rates differ by a fifth"),
    "harm": (0.3, "how reactions are asked for"),
    "effect": (0.02, "one trial's difference against the same drug in another: TBR"),
}


class Term(NamedTuple):
    """One term of the likelihood, on its natural scale."""

    key: str  # name of the simulated summary
    summary: str  # what the publication reports
    group: str
    scale: str  # log, logit, hazard, fold, plain
    value: float
    error: float
    sources: tuple[str, ...]
    why: str  # where the error is not published as such


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """How a term follows from published figures."""

    key: str
    summary: str
    group: str
    scale: str
    ids: tuple[str, ...]
    read: Callable[[list[Figure]], tuple[float, float]]  # value and error on the natural scale
    why: str = ""


def figures_used(ids: tuple[str, ...], stage: str) -> list[Figure]:
    """The figures a term rests on; raises EvidenceError for one that may not be fitted to at this stage.

    Before IVORY only what calibrates may be used; after it also what validates, never what describes.

    >>> [one.value for one in figures_used(("E071",), "before-ivory")]
    [1.46]
    """
    allowed = ("calibrates",) if stage == "before-ivory" else ("calibrates", "validates")
    found = [evidence.figure(one) for one in ids]
    for one in found:
        if one.role not in allowed:
            raise EvidenceError(
                f"{one.id} ({one.name}, {one.population}) {one.role} and may not be fitted to at the stage '{stage}'. "
                f"Only a figure that {' or '.join(allowed)} can."
            )
    return found


def natural(values: np.ndarray, scale: str) -> np.ndarray:
    """Values on the scale of a term: log; logit of a percentage; log of the hazard that makes a percentage; log of a fold.

    >>> [round(float(natural(np.array(50.0), scale)), 3) for scale in ("log", "logit", "hazard", "fold", "plain")]
    [3.912, 0.0, -0.367, 0.405, 50.0]
    """
    if scale == "plain":
        return np.asarray(values)
    if scale == "log":
        return np.log(values)
    if scale == "logit":
        share = np.clip(values / 100, 1e-9, 1 - 1e-9)
        return np.log(share) - np.log1p(-share)
    if scale == "hazard":
        return np.log(-np.log1p(-np.clip(values / 100, 1e-12, 1 - 1e-12)))
    return np.log1p(values / 100)


# ---- how published summaries are read --------------------------------------------------------------------------------


def _mean(figures: list[Figure]) -> tuple[float, float]:
    """A mean with its standard deviation and n, logged: se = sd / (mean sqrt n)."""
    (one,) = figures
    return float(np.log(one.value)), _need(one.sd, one) / (one.value * float(np.sqrt(_need(one.n, one))))


def _above_blood(n: int) -> Callable[[list[Figure]], tuple[float, float]]:
    """A mean TBR, as uptake above blood, where the n of a part is worked out."""

    def read(figures: list[Figure]) -> tuple[float, float]:
        (one,) = figures
        return float(np.log(one.value)), _need(one.sd, one) / (one.value * float(np.sqrt(n)))

    return read


def _median(figures: list[Figure]) -> tuple[float, float]:
    """A median with quartiles and n, log-normal: se = 1.253 (ln q3 - ln q1) / 1.349 / sqrt n."""
    (one,) = figures
    low, high = one.iqr or (np.nan, np.nan)
    return float(np.log(one.value)), float(1.2533 * np.log(high / low) / 1.349 / np.sqrt(_need(one.n, one)))


def _apart(figures: list[Figure]) -> tuple[float, float]:
    """How far quartiles lie apart, r = log(q3 / q1), logged: log-normal, se(r) = 1.573 sd / sqrt n, sd = r / 1.349."""
    (one,) = figures
    low, high = one.iqr or (np.nan, np.nan)
    return float(np.log(np.log(high / low))), float(1.573 / 1.349 / np.sqrt(_need(one.n, one)))


def _range(figures: list[Figure]) -> tuple[float, float]:
    """Least and greatest of 18 log-normal people: their middle; sd = range / 3.64 (expected range of 18, Tippett 1925)."""
    low, high = figures
    spread = float(np.log(high.value / low.value)) / 3.64
    return float(np.log(low.value * high.value) / 2), spread / float(np.sqrt(_need(low.n, low)))


def _alone(error: float) -> Callable[[list[Figure]], tuple[float, float]]:
    """A value published without spread, with an assumed error of its log."""
    return lambda figures: (float(np.log(figures[0].value)), error)


def _ratio(figures: list[Figure]) -> tuple[float, float]:
    """A percentage change with its 95 % interval, as the log of the ratio; a fall given as positive is turned."""
    (one,) = figures
    sign = -1 if one.name.startswith("greater fall") else 1
    low, high = sorted(sign * end for end in one.interval or (np.nan, np.nan))
    return float(np.log1p(sign * one.value / 100)), float(np.log((100 + high) / (100 + low)) / (2 * Z95))


def _change(figures: list[Figure]) -> tuple[float, float]:
    """A percentage change with its standard error."""
    (one,) = figures
    return float(np.log1p(one.value / 100)), _need(one.se, one) / (100 + one.value)


def _rise(rise: float, per_log_dose: float, spread: float) -> Callable[[list[Figure]], tuple[float, float]]:
    """The dose for a given rise, read across the curve at that dose (Fieller 1954): the rise there, with the error

    of the dose times the curve's slope (points per log dose), and that of a mean over people who differ by ``spread``.
    """

    def read(figures: list[Figure]) -> tuple[float, float]:
        (one,) = figures
        if one.interval:
            dose = float(np.log(one.interval[1] / one.interval[0])) / (2 * Z95)
        else:
            dose = _need(one.se, one) / one.value
        error = np.hypot(per_log_dose * dose, spread / np.sqrt(_need(one.n, one)))
        return float(np.log1p(rise / 100)), float(error / (100 + rise))

    return read


def _share(figures: list[Figure]) -> tuple[float, float]:
    """Percentages of the same n that add up, as a logit: se = 1 / sqrt(n p q)."""
    share, n = sum(one.value for one in figures) / 100, _need(figures[0].n, figures[0])
    return float(np.log(share / (1 - share))), float(1 / np.sqrt(n * share * (1 - share)))


def _risk(n: float) -> Callable[[list[Figure]], tuple[float, float]]:
    """A cumulative risk in a register or an arm of so many people, as the log of its cumulative hazard H."""

    def read(figures: list[Figure]) -> tuple[float, float]:
        share = figures[0].value / 100
        hazard = -np.log1p(-share)
        return float(np.log(hazard)), float(np.sqrt(share / (n * (1 - share))) / hazard)

    return read


def _counted(figures: list[Figure]) -> tuple[float, float]:
    """People with a reaction beyond placebo: P = 1 - (1 - P_active) / (1 - P_placebo), halves added to small counts."""
    shares = [(one.value + 0.5) / (_need(one.n, one) + 1) for one in figures]
    beyond = min(max(1 - (1 - shares[0]) / (1 - shares[1]), 0.01), 0.99)
    errors = [p * (1 - p) / (_need(one.n, one) + 1) / (1 - p) ** 2 for p, one in zip(shares, figures, strict=True)]
    return float(np.log(beyond / (1 - beyond))), float(np.sqrt(sum(errors)) / beyond)  # d logit = d log(1-P) / P


def _reacted(figures: list[Figure]) -> tuple[float, float]:
    """People with any event among n, halves added: the logit and its usual variance."""
    (one,) = figures
    yes, no = one.value + 0.5, _need(one.n, one) - one.value + 0.5
    return float(np.log(yes / no)), float(np.sqrt(1 / yes + 1 / no))


def _difference(figures: list[Figure]) -> tuple[float, float]:
    """A difference of means with its 95 % interval."""
    (one,) = figures
    low, high = one.interval or (np.nan, np.nan)
    return one.value, (high - low) / (2 * Z95)


def _level(figures: list[Figure]) -> tuple[float, float]:
    """A mean of n people whose residual standard deviation is published beside it."""
    level, residual = figures
    return float(np.log(level.value)), residual.value / (level.value * float(np.sqrt(_need(level.n, level))))


def _arms(figures: list[Figure]) -> tuple[float, float]:
    """Arms before treatment as one group: means with their deviations, or medians with their quartiles, logged."""
    n = np.array([_need(one.n, one) for one in figures])
    value = float(n @ np.log([one.value for one in figures]) / n.sum())
    if figures[0].iqr is None:
        spread = np.mean([_need(one.sd, one) / one.value for one in figures])
    else:
        spread = 1.2533 * np.mean([np.log(one.iqr[1] / one.iqr[0]) / 1.349 for one in figures if one.iqr])
    return value, float(spread / np.sqrt(n.sum()))


def _few(count: int, n: int) -> Callable[[list[Figure]], tuple[float, float]]:
    """So few events among n, a half added: the log of the cumulative hazard, and 1 / sqrt of the count."""
    hazard = -float(np.log1p(-(count + 0.5) / (n + 1)))
    return lambda figures: (float(np.log(hazard)), float(1 / np.sqrt(count + 0.5)))


def _between(figures: list[Figure]) -> tuple[float, float]:
    """Two arms' percentage changes as the log of their ratio, with the error of the comparison at 12 weeks."""
    strong, weak, at_twelve = figures
    return float(np.log((100 + strong.value) / (100 + weak.value))), _ratio([at_twelve])[1]


def _need(value: float | None, one: Figure) -> float:
    if value is None:
        raise EvidenceError(f"{one.id} lacks the spread or the number of people that its term needs.")
    return float(value)


ASSUMED = "no spread is published; its error is assumed"

ROWS: tuple[Row, ...] = (
    Row(key="tmax", summary="mean", group="kinetics", scale="log", ids=("E095.peak-time",), read=_mean),
    Row(key="half_life", summary="mean", group="kinetics", scale="log", ids=("E095.half-life",), read=_mean),
    Row(key="cmax", summary="range", group="kinetics", scale="log", ids=("E095.peak-low", "E095.peak-high"), read=_range,
        why="12 to 18 MIU, taken at 15"),
    Row(key="auc36", summary="mean", group="kinetics", scale="log", ids=("E096.once",), read=_alone(0.2), why=ASSUMED),
    Row(key="clearance", summary="mean", group="kinetics", scale="log", ids=("E092.clearance",), read=_alone(0.15), why=ASSUMED),
    Row(key="bioavailability", summary="mean", group="kinetics", scale="log", ids=("E093",), read=_alone(0.4),
        why="from muscle, not from under the skin; error assumed"),
    Row(key="window_begins", summary="least effective level", group="potency", scale="log", ids=("E082.low",), read=_alone(0.5), why=ASSUMED),
    Row(key="window_ends", summary="greatest selective level", group="potency", scale="log", ids=("E082.high",), read=_alone(0.5), why=ASSUMED),
    Row(key="rise_1.46", summary="dose for a given rise", group="cells", scale="fold", ids=("E071",), read=_rise(75, 6, 41),
        why="the dose's error times the slope (6 points per log dose), and people who differ by 41 points"),
    Row(key="max_0.101", summary="dose for a given rise", group="cells", scale="fold", ids=("E078",), read=_rise(10, 4.3, 7.2),
        why="as E071: slope 4.3 points, people 7"),
    Row(key="max_0.497", summary="dose for a given rise", group="cells", scale="fold", ids=("E079",), read=_rise(20, 4.2, 10.4),
        why="as E071: slope 4.2 points, people 10"),
    Row(key="day_after", summary="mean change", group="cells", scale="fold", ids=("E080",), read=_change),
    Row(key="tbr_stable", summary="mean", group="wall", scale="log", ids=("E106.stable",), read=_above_blood(40)),
    Row(key="tbr_stemi", summary="mean", group="wall", scale="log", ids=("E106.stemi",), read=_above_blood(24),
        why="24 of 40: so that the parts average to the whole"),
    Row(key="tbr_nstemi", summary="mean", group="wall", scale="log", ids=("E106.nstemi",), read=_above_blood(16),
        why="16 of 40: so that the parts average to the whole"),
    Row(key="statin_12", summary="difference of mean changes", group="wall", scale="fold", ids=("E108.between",), read=_ratio),
    Row(key="statin_4", summary="difference of mean changes", group="wall", scale="fold",
        ids=("E108.80.4-weeks", "E108.10.4-weeks", "E108.between"), read=_between, why="error as at 12 weeks"),
    Row(key="crp_mi", summary="median", group="blood", scale="log", ids=("E107.mi",), read=_median),
    Row(key="crp_stable", summary="median", group="blood", scale="log", ids=("E107.stable",), read=_median),
    Row(key="crp_mi_apart", summary="quartiles", group="apart", scale="log", ids=("E107.mi",), read=_apart),
    Row(key="crp_stable_apart", summary="quartiles", group="apart", scale="log", ids=("E107.stable",), read=_apart),
    Row(key="crp_year", summary="share", group="blood", scale="logit", ids=("E139.persistent", "E139.increased"), read=_share),
    Row(key="mass_week", summary="mean", group="heart", scale="log", ids=("E142.week",), read=_mean),
    Row(key="mass_4_months", summary="mean", group="heart", scale="log", ids=("E142.4-months",), read=_mean),
    Row(key="mass_14_months", summary="mean", group="heart", scale="log", ids=("E142.14-months",), read=_mean),
    Row(key="share_acute", summary="mean", group="heart", scale="log", ids=("E144.scar",), read=_mean),
    Row(key="dilated", summary="share", group="heart", scale="logit", ids=("E145",), read=_share),
    Row(key="second_year", summary="cumulative risk", group="risk", scale="hazard", ids=("E136.men.year-1",), read=_risk(258000),
        why="two thirds of 387,452 are men (assumed); the register's own error is nothing beside what sets registers apart"),
    Row(key="second_seven", summary="cumulative risk", group="risk", scale="hazard", ids=("E136.men.year-7",), read=_risk(258000)),
    Row(key="sweden_year", summary="cumulative risk", group="risk", scale="hazard", ids=("E135.year-1",), read=_risk(97254)),
    Row(key="sweden_later", summary="cumulative risk", group="risk", scale="hazard", ids=("E135.later",), read=_risk(76108)),
    Row(key="colcot_placebo", summary="cumulative risk", group="risk", scale="hazard", ids=("E124.placebo",), read=_risk(2379)),
    Row(key="harm_injection_site", summary="counts", group="harm", scale="logit", ids=("E089.site.interleukin", "E089.site.placebo"), read=_counted),
    Row(key="harm_fever", summary="counts", group="harm", scale="logit", ids=("E089.fever.interleukin", "E089.fever.placebo"), read=_counted),
    Row(key="harm_flu_like", summary="counts", group="harm", scale="logit", ids=("E089.flu.interleukin", "E089.flu.placebo"), read=_counted),
    Row(key="harm_any_0.33", summary="counts", group="harm", scale="logit", ids=("E087.0.33",), read=_reacted),
    Row(key="harm_any_1", summary="counts", group="harm", scale="logit", ids=("E087.1",), read=_reacted),
    Row(key="harm_any_3", summary="counts", group="harm", scale="logit", ids=("E087.3",), read=_reacted),
)  # fmt: skip

# Only after IVORY. E048.percent, E050, E053 restate these; E051 tells of spread between people, which is held fixed; E065
# counts events of which these infarctions are part.
ROWS_AFTER: tuple[Row, ...] = (
    Row(key="ivory_difference", summary="difference of means", group="effect", scale="plain", ids=("E048",), read=_difference),
    Row(key="ivory_placebo", summary="mean", group="wall", scale="log", ids=("E052", "E051"), read=_level, why="error from E051"),
    Row(key="ivory_first", summary="mean", group="wall", scale="log", ids=("E046.placebo", "E046.aldesleukin"), read=_arms),
    Row(key="ivory_crp", summary="median", group="blood", scale="log", ids=("E032.placebo", "E032.aldesleukin"), read=_arms),
    Row(key="finale_active", summary="counts", group="risk", scale="hazard", ids=("E063.aldesleukin",), read=_few(0, 28),
        why="0 % of those followed; 28 is not published but follows from 55 in all"),
    Row(key="finale_placebo", summary="counts", group="risk", scale="hazard", ids=("E064",), read=_few(3, 27), why="3 of 27"),
)  # fmt: skip

# What calibrates on file and is no term here, and why.
ELSEWHERE = {
    "E072": "two events in 41 people: no constant answers to them",
    "E081": "set the constants of CD122 beforehand; the course of CD122 is not among what can be seen",
    "E087.placebo": "enters with the other arms of Hartemann",
    "E089": "infections and serious events: no constant answers to them",
    "E091": "no constant of thrombosis",
    "E092": "half-lives after a vein need the two compartments that the body does not have",
    "E094": "set the volume, which is held fixed", "E095.lag": "set the lag, which is held fixed",
    "E096.twice": "shares its arm's error with E096.once", "E097": "ranges of a label, without a population",
    "E101": "affinities, held fixed", "E102": "receptor counts: the priors themselves", "E103": "affinities, held fixed",
    "E104": "set the noise of the scan, an instrument's", "E105": "set the noise of the scan, an instrument's",
    "E106.mi": "the average of E106.stemi and E106.nstemi", "E106.troponin": "set a correlation between people",
    "E108.80": "enters as the comparison of the arms", "E108.10": "enters as the comparison of the arms",
    "E109": "another drug and pathway, p38: that a calm may be nothing is in the prior of calming",
    "E110": "segments of one vessel chosen by their own value",
    "E113": "association, not effect: shrunk into the prior of uptake_hazard", "E114": "as E113",
    "E118": "in ``link``", "E120": "in ``link``", "E121": "in ``link``", "E122": "in ``link``, within E121", "E123": "within E121",
    "E124": "in ``link``", "E126": "in ``link``", "E127": "a summary of trials that ``link`` has one by one",
    "E128": "in ``link``", "E129": "in ``link``", "E130": "in ``link``", "E132": "in ``link``", "E133": "unit unsure",
    "E134": "in ``link``", "E135": "ratios by age and history: the priors themselves",
    "E136.women": "hazards do not differ by sex but through age", "E137": "E136 restated", "E138": "a trend over years",
    "E139": "association within a trial", "E139.attenuated": "adds up to one with the others", "E139.low": "as E139.attenuated",
    "E143": "deaths and heart failure together: its lower bound set the prior of scar_hazard",
    "E144.fdg": "no constant of uptake in the heart",
}  # fmt: skip


def terms(stage: str = "before-ivory") -> list[Term]:
    """Every term of the likelihood at a stage, or raises EvidenceError where one may not be used.

    >>> len(terms()), terms()[0].key
    (38, 'tmax')
    """
    found = []
    for row in ROWS if stage == "before-ivory" else ROWS + ROWS_AFTER:
        value, error = row.read(figures_used(row.ids, stage))
        found.append(Term(row.key, row.summary, row.group, row.scale, value, error, row.ids, row.why))
    return found

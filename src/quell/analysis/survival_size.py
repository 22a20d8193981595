"""How many events, patients and months a survival trial needs, with staggered entry, changing hazards and loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import optimize

from quell.analysis.claim import ClaimError
from quell.analysis.planned_test import NormalTest, check, sensible_or_raise

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
Method = Literal["schoenfeld", "freedman", "hsieh-freedman"]


def event_test(
    hazard_ratio: float, *, ratio: float = 1.0, null: float = 1.0, method: Method = "schoenfeld"
) -> NormalTest:
    """The log-rank test as planning sees it, its size in events, against a null hazard ratio (a margin).

    Per event, with r = active over control: Schoenfeld (1981) log(HR / null) over (1 + r) / sqrt r; Freedman (1982)
    (1 - HR) over (1 + r HR) / sqrt r; Hsieh and Freedman (1992) (1 - HR) / (1 + HR) over (1 + r) / (2 sqrt r). Raises
    ClaimError where a ratio or method is impossible.

    >>> round(event_test(0.7, ratio=2, method="freedman").size(0.9), 4)
    336.2375
    """
    sensible_or_raise(hazard_ratio > 0 and ratio > 0 and null > 0)
    tests = {
        "schoenfeld": (np.log(hazard_ratio / null), (1 + ratio) / np.sqrt(ratio)),
        "freedman": (1 - hazard_ratio, (1 + ratio * hazard_ratio) / np.sqrt(ratio)),
        "hsieh-freedman": ((1 - hazard_ratio) / (1 + hazard_ratio), (1 + ratio) / np.sqrt(ratio) / 2),
    }
    if method not in tests or (method != "schoenfeld" and null != 1):
        raise ClaimError(f"The method is '{method}'; choose {', '.join(tests)} (with a margin, schoenfeld).")
    effect, spread = (float(value) for value in tests[method])
    return NormalTest(effect, spread, spread)


def events(
    hazard_ratio: float,
    *,
    power: float = 0.8,
    alpha: float = 0.025,
    ratio: float = 1.0,
    null: float = 1.0,
    method: Method = "schoenfeld",
) -> float:
    """Events the log-rank test needs; see `event_test`. Schoenfeld (1981): (1 + r)² / r x ((z_alpha + z_beta) / log HR)².

    >>> round(events(0.7), 4)
    246.7871
    """
    return event_test(hazard_ratio, ratio=ratio, null=null, method=method).size(power, alpha)


class Piecewise(NamedTuple):
    """A rate constant between times: `starts` begins with 0, `values` has one for each start (the last runs on)."""

    starts: tuple[float, ...]
    values: tuple[float, ...]

    def integral(self, upto: Any) -> Any:
        """The integral from 0."""
        ends = np.append(self.starts[1:], np.inf)
        spans = np.clip(np.asarray(upto, float)[..., None], self.starts, ends) - np.asarray(self.starts)
        return spans @ np.asarray(self.values)

    def at(self, time: Any) -> np.ndarray:
        """The rate at a time."""
        return np.asarray(self.values)[np.searchsorted(self.starts, time, side="right") - 1]

    def times(self, factor: float) -> Piecewise:
        """The rate multiplied: proportional hazards."""
        return self._replace(values=tuple(float(factor) * value for value in self.values))


def constant(value: float) -> Piecewise:
    """A rate that never changes."""
    return Piecewise((0.0,), (float(value),))


def hazard_of(risk: float, time: float) -> float:
    """The constant hazard with which this share has had the event by this time (median: a risk of 0.5).

    >>> round(hazard_of(0.11, 24), 6)
    0.004856
    """
    if not (0 < risk < 1 and time > 0):
        raise ClaimError(f"The risk is {risk} by {time}; a risk lies between 0 and 1, at a time above 0.")
    return float(-np.log1p(-risk) / time)


class SurvivalTrial(NamedTuple):
    """A survival trial: hazards by arm, loss to follow-up, accrual (its shape, or patients per time; ends at `enrolled_by`).

    `ratio` is active over control; `loss` is that of both arms, unless the active one has its own.
    """

    active: Piecewise
    control: Piecewise
    accrual: Piecewise
    enrolled_by: float
    loss: Piecewise = Piecewise((0.0,), (0.0,))
    ratio: float = 1.0
    active_loss: Piecewise | None = None

    def chance(self, day: float) -> float:
        """The chance that a patient, of either arm, who is to be enrolled has had the event by this calendar time."""
        share = self.ratio / (1 + self.ratio)
        active, control = self.arm_chances(day)
        return share * active + (1 - share) * control

    def arm_chances(self, day: float) -> tuple[float, float]:
        """The same in the active and in the control arm."""
        loss = self.loss if self.active_loss is None else self.active_loss
        return self._chance(self.active, loss, day), self._chance(self.control, self.loss, day)

    def _chance(self, hazard: Piecewise, loss: Piecewise, day: float) -> float:
        last = min(day, self.enrolled_by)
        breaks = {0.0, last, *(s for s in self.accrual.starts if s < last)}
        breaks |= {day - s for s in (*hazard.starts, *loss.starts)}
        total = 0.0
        for a, b in itertools.pairwise(sorted(b for b in breaks if 0 <= b <= last)):
            entry = (a + b) / 2 + (b - a) / 2 * NODES
            had = self.accrual.at(entry) * _had_event(hazard, loss, day - entry)
            total += (b - a) / 2 * float(np.dot(WEIGHTS, had))
        return total / float(self.accrual.integral(self.enrolled_by))

    def enrolled(self, patients: float, day: Any) -> Any:
        """How many of the patients are enrolled by a calendar time (...)."""
        share = self.accrual.integral(np.minimum(day, self.enrolled_by)) / self.accrual.integral(self.enrolled_by)
        return patients * share

    def patients(self, needed: float, day: float) -> float:
        """Patients to enrol so that this many events are expected by the calendar time."""
        chance = self.chance(day)
        if chance <= 0:
            raise ClaimError(f"No event is expected by {day}: no number of patients gives {needed:.1f} events.")
        return needed / chance

    def when(self, needed: float, patients: float) -> float:
        """The calendar time by which this many events are expected; infinite where they never are."""
        last = self.enrolled_by
        for _ in range(40):
            if patients * self.chance(last) >= needed:
                return float(optimize.brentq(lambda day: patients * self.chance(day) - needed, 0.0, last, xtol=1e-11))
            last *= 1.5
        return float("inf")


def lachin_foulkes(
    trial: SurvivalTrial,
    day: float,
    *,
    hazard_ratio: float,
    power: float = 0.8,
    alpha: float = 0.025,
    null: float = 1.0,
) -> float:
    """Total patients by Lachin and Foulkes (1986), with the variance of the log hazard ratio under the null and the effect.

    The variance is the sum over arms of one over the expected events by the end of the trial (`day`). Hazards are those
    of control times the ratio; under the null both arms keep the mean hazard of the trial. Raises ClaimError where an
    assumption is impossible.

    >>> trial = SurvivalTrial(constant(0.7 * 0.2), constant(0.2), constant(1.0), 0.5, constant(0.1))
    >>> round(lachin_foulkes(trial, 2.0, hazard_ratio=0.7, power=0.9), 3)
    1410.538
    """
    check(power, alpha, hazard_ratio > 0 and null > 0 and hazard_ratio != null)
    share = trial.ratio / (1 + trial.ratio)
    mean = (1 + hazard_ratio * trial.ratio) / (1 + null * trial.ratio)

    def spread(active: float, control: float) -> float:
        arms = trial._replace(active=trial.control.times(active), control=trial.control.times(control))
        one, other = arms.arm_chances(day)
        if min(one, other) <= 0:
            raise ClaimError(f"No event is expected by {day}: the trial can show nothing by then.")
        return float(np.sqrt(1 / (share * one) + 1 / ((1 - share) * other)))

    test = NormalTest(float(np.log(hazard_ratio / null)), spread(null * mean, mean), spread(hazard_ratio, 1.0))
    return test.size(power, alpha)


def enrolment(trial: SurvivalTrial, follow_up: float, size: Callable[[SurvivalTrial, float], float]) -> SurvivalTrial:
    """The trial with the accrual time it needs: accrual in patients per time, and the last patient followed this long.

    size gives the patients needed by a trial that ends at a time. Raises ClaimError where no accrual time is enough.

    >>> trial = SurvivalTrial(constant(0.05), constant(0.1), constant(6.0), 1.0)
    >>> found = enrolment(trial, 12.0, lambda one, day: one.patients(88.0, day))
    >>> round(found.enrolled_by, 3), round(found.patients(88.0, found.enrolled_by + 12), 3)
    (19.359, 116.152)
    """

    def gap(until: float) -> float:
        longer = trial._replace(enrolled_by=until)
        return float(trial.accrual.integral(until)) - size(longer, until + follow_up)

    low = high = max(trial.enrolled_by, 1e-6)
    for _ in range(60):
        if gap(high) >= 0:
            break
        low, high = high, high * 1.5
    else:
        raise ClaimError("No accrual time gives enough patients; enrol faster, or follow them longer.")
    while low == high or gap(low) > 0:
        low = low / 1.5
        if low < 1e-9:
            return trial._replace(enrolled_by=low)
    return trial._replace(enrolled_by=float(optimize.brentq(gap, low, high, xtol=1e-12)))


def drift(hazard_ratio: float, needed: Any, *, ratio: float = 1.0, null: float = 1.0) -> Any:
    """The mean of the log-rank Z with this many events (...), positive where the hazard ratio is below the null's.

    >>> round(float(drift(0.7, 337)), 4)
    3.2738
    """
    return -np.log(hazard_ratio / null) * np.sqrt(np.asarray(needed, float) * ratio) / (1 + ratio)


def critical_hazard_ratio(z: Any, needed: Any, *, ratio: float = 1.0, null: float = 1.0) -> Any:
    """The hazard ratio that just crosses a limit of Z with this many events (...).

    >>> round(float(critical_hazard_ratio(1.96, 337)), 4)
    0.8077
    """
    return null * np.exp(-np.asarray(z, float) * (1 + ratio) / np.sqrt(np.asarray(needed, float) * ratio))


def _had_event(hazard: Piecewise, loss: Piecewise, follow_up: np.ndarray) -> np.ndarray:
    """The chance of an observed event within a follow-up: sum over pieces of h / (h + g) x the fall of exp(-H - G)."""
    starts = sorted({*hazard.starts, *loss.starts})
    total = np.zeros(np.shape(follow_up))
    for a, b in zip(starts, [*starts[1:], np.inf], strict=True):
        h, g = float(hazard.at(a)), float(loss.at(a))
        if h <= 0:
            continue
        reach = np.clip(follow_up, a, b)
        begun = np.exp(-hazard.integral(a) - loss.integral(a))
        total = total + h / (h + g) * begun * -np.expm1(-(h + g) * (reach - a))
    return total

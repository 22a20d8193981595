"""The size of a group-sequential trial: largest and expected patients or events, and when its looks fall.

The information of a fixed test is multiplied by `sequential.inflation`; the looks are at its fractions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.planned_test import PlannedTest
from quell.analysis.sequential import Boundaries, Crossing, needed_drift
from quell.analysis.survival_size import SurvivalTrial, critical_hazard_ratio, event_test


class SequentialSize(NamedTuple):
    """Patients (or events) of a group-sequential trial.

    fixed: a trial with one look; by_look (K,), its last the largest; expected without effect, with half of it, and with
    all; stops under the effect, and drift its mean Z at full information.
    """

    fixed: float
    by_look: np.ndarray
    expected_null: float
    expected_half: float
    expected_effect: float
    stops: Crossing
    drift: float

    @property
    def largest(self) -> float:
        """Patients (or events) of a trial that stops at no look."""
        return float(self.by_look[-1])


def sequential_size(test: PlannedTest, boundaries: Boundaries, *, power: float = 0.8) -> SequentialSize:
    """The size of a planned test watched at these looks.

    The fixed size, at the boundaries' alpha, times (drift needed / (z_alpha + z_beta))². Raises ClaimError where the
    power cannot be reached.

    >>> from quell.analysis.samplesize import mean_test
    >>> from quell.analysis.sequential import by_spending, spending
    >>> looks = by_spending(np.array([0.5, 0.75, 1.0]), spending("obrien-fleming", 0.025))
    >>> found = sequential_size(mean_test(0.5, 1.2, ratio=2), looks, power=0.9)
    >>> round(found.largest, 4), round(found.expected_effect, 4)
    (279.3002, 213.4392)
    """
    fixed, drift = test.size(power, boundaries.alpha), needed_drift(boundaries, power)
    one_look = special.ndtri(1 - boundaries.alpha) + special.ndtri(power)
    by_look = fixed * (drift / one_look) ** 2 * boundaries.information
    stops = boundaries.crossing(np.array([0.0, drift / 2, drift]))
    nothing, half, effect = (float(value) for value in stops.expected(by_look))
    return SequentialSize(fixed, by_look, nothing, half, effect, boundaries.crossing(drift), drift)


def sequential_power(test: PlannedTest, boundaries: Boundaries, largest: float) -> Crossing:
    """The chance of stopping at each limit and look in a trial of this largest size.

    The drift is that of a fixed test of this size: z_alpha + the normal quantile of its power.

    >>> from quell.analysis.samplesize import event_test
    >>> from quell.analysis.sequential import by_spending, spending
    >>> looks = by_spending(np.array([0.5, 0.75, 1.0]), spending("obrien-fleming", 0.025))
    >>> round(float(sequential_power(event_test(0.75), looks, 300).power), 6)
    0.693544
    """
    reached = test.power(largest, boundaries.alpha)
    return boundaries.crossing(
        float(special.ndtri(1 - boundaries.alpha) + special.ndtri(np.clip(reached, 1e-16, 1 - 1e-16)))
    )


class SequentialSurvival(NamedTuple):
    """A group-sequential survival trial: events, calendar times, patients enrolled and critical hazard ratios, (K,) each.

    Expected events are in `size`; duration and patients are expected under the effect.
    """

    size: SequentialSize
    patients: float
    times: np.ndarray
    enrolled: np.ndarray
    critical: np.ndarray
    expected_duration: float
    expected_patients: float


def sequential_survival(
    trial: SurvivalTrial,
    boundaries: Boundaries,
    *,
    hazard_ratio: float,
    ends: float | None = None,
    patients: float | None = None,
    power: float = 0.8,
    null: float = 1.0,
) -> SequentialSurvival:
    """A survival trial watched at these looks: how many patients, if it `ends` then; or when it ends, with these `patients`.

    Events by Schoenfeld (1981); patients and times from the trial's hazards, accrual and loss under the effect. Raises
    ClaimError where neither or both of `ends` and `patients` are given, or too few events would ever come.

    >>> from quell.analysis.sequential import by_spending, spending
    >>> from quell.analysis.survival_size import constant
    >>> looks = by_spending(np.array([0.5, 0.75, 1.0]), spending("obrien-fleming", 0.025))
    >>> trial = SurvivalTrial(constant(0.7 * np.log(2) / 20), constant(np.log(2) / 20), constant(1.0), 24.0)
    >>> found = sequential_survival(trial, looks, hazard_ratio=0.7, ends=36.0, power=0.9)
    >>> round(found.patients, 4), found.times.round(4).tolist()
    (682.7313, [22.2805, 28.4905, 36.0])
    """
    if (ends is None) == (patients is None):
        raise ClaimError("Give either the time at which the trial ends or the number of its patients, and not both.")
    size = sequential_size(event_test(hazard_ratio, ratio=trial.ratio, null=null), boundaries, power=power)
    enrolled = trial.patients(size.largest, float(ends)) if patients is None else float(patients)  # type: ignore[arg-type]
    times = np.array([trial.when(needed, enrolled) for needed in size.by_look])
    if not np.isfinite(times).all():
        raise ClaimError(f"{enrolled:.0f} patients will never have {size.largest:.0f} events; enrol more.")
    if ends is not None:
        times[-1] = ends
    by_look = np.asarray(trial.enrolled(enrolled, times))
    critical: Any = critical_hazard_ratio(boundaries.upper, size.by_look, ratio=trial.ratio, null=null)
    expected = (float(size.stops.expected(values)) for values in (times, by_look))
    return SequentialSurvival(size, enrolled, times, by_look, np.asarray(critical), *expected)

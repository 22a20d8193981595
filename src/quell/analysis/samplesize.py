"""How many patients a trial needs: means, ratios of means, counts; rates and survival are in rooms of their own.

Each family has a planned test, with `.size(power, alpha)` and `.power(n, alpha)`, and a function that gives the size at
once. alpha is one-sided: half of a two-sided one. Sizes are totals over both arms, `ratio` active to control, and are not
rounded: the caller decides how patients divide between arms. A group-sequential design multiplies the size of the
fixed one by `sequential.inflation`; see `sequential_size`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from quell.analysis.claim import ClaimError
from quell.analysis.planned_test import (
    NormalTest,
    PlannedTest,
    StudentTest,
    detectable,
    power_of,
    sensible_or_raise,
)
from quell.analysis.rate_size import one_rate, one_rate_exact, rate_test, rates
from quell.analysis.survival_size import (
    Piecewise,
    SurvivalTrial,
    constant,
    enrolment,
    event_test,
    events,
    hazard_of,
    lachin_foulkes,
)

__all__ = [
    "NormalTest",
    "Piecewise",
    "PlannedTest",
    "StudentTest",
    "SurvivalTrial",
    "constant",
    "count_test",
    "counts",
    "detectable",
    "enrolment",
    "event_test",
    "events",
    "geometric_means",
    "hazard_of",
    "inflated",
    "lachin_foulkes",
    "mean_ratio",
    "mean_test",
    "means",
    "one_mean",
    "one_rate",
    "one_rate_exact",
    "power_of",
    "rate_test",
    "rates",
    "repeated_measures_factor",
    "welch",
]


def mean_test(
    difference: float,
    sd: float,
    *,
    ratio: float = 1.0,
    null: float = 0.0,
    correlation: float = 0.0,
    normal: bool = False,
) -> PlannedTest:
    """The test of a difference of two means with one sd, against a null difference (a margin): t on n - 2 degrees, or normal.

    `correlation` with a baseline covariate leaves the variance sd² (1 - correlation²) and takes one more degree of freedom
    (Borm, Fransen and Lemmens 2007). Raises ClaimError where an assumption is impossible.

    >>> round(mean_test(0.5, 1.2, ratio=2, normal=True).size(0.9), 4)
    272.3524
    """
    sensible_or_raise(sd > 0 and ratio > 0 and -1 < correlation < 1)
    spread = sd * np.sqrt(1 - correlation**2) * (1 + ratio) / np.sqrt(ratio)
    if normal:
        return NormalTest(difference - null, spread, spread)
    return StudentTest((difference - null) / spread, lambda n: n - 2 - (correlation != 0))


def means(
    difference: float,
    sd: float,
    *,
    power: float = 0.8,
    alpha: float = 0.025,
    ratio: float = 1.0,
    normal: bool = False,
    null: float = 0.0,
    correlation: float = 0.0,
) -> float:
    """Total patients for a difference of two means; see `mean_test`.

    Raises ClaimError where the difference or an error is impossible.

    >>> round(means(0.5, 1.0), 4), round(means(0.0, 1.0, null=-0.4, power=0.9), 4)
    (127.5315, 264.6211)
    """
    return mean_test(difference, sd, ratio=ratio, null=null, correlation=correlation, normal=normal).size(power, alpha)


def one_mean(difference: float, sd: float, *, null: float = 0.0, normal: bool = False) -> PlannedTest:
    """The test of one mean, or of a mean paired difference (sd is that of the differences): t on n - 1 degrees.

    >>> round(one_mean(0.5, 1.2).size(0.9), 4)
    62.4752
    """
    sensible_or_raise(sd > 0)
    return NormalTest(difference - null, sd, sd) if normal else StudentTest((difference - null) / sd, lambda n: n - 1)


def welch(
    difference: float, sd_active: float, sd_control: float, *, ratio: float = 1.0, null: float = 0.0
) -> PlannedTest:
    """The test of a difference of two means whose spreads differ: Welch's t, degrees of freedom by Satterthwaite.

    >>> round(welch(0.5, 1.0, 1.0).size(0.8), 4), round(welch(0.5, 1.0, 2.0).size(0.8), 4)
    (127.5315, 316.5826)
    """
    sensible_or_raise(sd_active > 0 and sd_control > 0 and ratio > 0)
    active, control = sd_active**2 * (1 + ratio) / ratio, sd_control**2 * (1 + ratio)

    def freedom(n: float) -> float:
        most, least = n * ratio / (1 + ratio) - 1, n / (1 + ratio) - 1
        return (active + control) ** 2 / (active**2 / most + control**2 / least) if min(most, least) > 0 else 0.0

    return StudentTest((difference - null) / np.sqrt(active + control), freedom)


def mean_ratio(
    ratio_of_means: float, cv: float, *, null: float = 1.0, ratio: float = 1.0, normal: bool = False
) -> PlannedTest:
    """The test of a ratio of two means of normal outcomes, cv = sd / control mean (Sasabuchi; Hauschke et al. 1999).

    >>> round(mean_ratio(1.3, 0.8).size(0.9), 4)
    300.8116
    """
    sensible_or_raise(cv > 0 and ratio > 0 and null > 0)
    spread = cv * np.sqrt((1 + ratio) * (1 / ratio + null**2))
    effect = ratio_of_means - null
    return NormalTest(effect, spread, spread) if normal else StudentTest(effect / spread, lambda n: n - 2)


def geometric_means(
    ratio_of_means: float, cv: float, *, null: float = 1.0, ratio: float = 1.0, correlation: float = 0.0
) -> PlannedTest:
    """The test of a ratio of geometric means of log-normal outcomes; the log has variance log(1 + cv²).

    >>> round(geometric_means(0.75, 0.6).size(0.9), 4)
    158.1
    """
    sensible_or_raise(cv > 0 and ratio_of_means > 0 and null > 0)
    sd = float(np.sqrt(np.log1p(cv**2)))
    return mean_test(float(np.log(ratio_of_means)), sd, ratio=ratio, null=float(np.log(null)), correlation=correlation)


def count_test(
    rate_ratio: float,
    control_rate: float,
    *,
    exposure: float = 1.0,
    dispersion: float = 0.0,
    ratio: float = 1.0,
    null: float = 1.0,
    variance: Literal["alternative", "control", "restricted"] = "alternative",
) -> NormalTest:
    """The test of a ratio of negative binomial event rates (dispersion 0: Poisson), on its log (Zhu and Lakkis 2014).

    The variance under the null takes the rates of the alternative (their method 2), the control rate in both arms (1), or
    the rates that maximise the expected likelihood under the null (3). Raises ClaimError where a rate is impossible.

    >>> round(count_test(0.7, 0.5, exposure=2.0, dispersion=0.8, variance="restricted").size(), 3)
    490.562
    """
    sensible_or_raise(
        rate_ratio > 0 and control_rate > 0 and exposure > 0 and dispersion >= 0 and ratio > 0 and null > 0
    )
    pooled = control_rate * (1 + ratio * rate_ratio) / (1 + ratio * null)
    base = {"alternative": control_rate, "control": control_rate, "restricted": pooled}
    if variance not in base:
        raise ClaimError(f"The variance under the null is '{variance}'; choose {', '.join(base)}.")

    def spread(control: float, active: float) -> float:
        per_control = (1 / control + 1 / (ratio * active)) / exposure + (1 + ratio) * dispersion / ratio
        return float(np.sqrt((1 + ratio) * per_control))

    under_effect = spread(control_rate, rate_ratio * control_rate)
    under_null = under_effect if variance == "alternative" else spread(base[variance], null * base[variance])
    return NormalTest(float(np.log(rate_ratio / null)), under_null, under_effect)


def counts(
    rate_ratio: float,
    control_rate: float,
    *,
    exposure: float = 1.0,
    dispersion: float = 0.0,
    power: float = 0.8,
    alpha: float = 0.025,
    ratio: float = 1.0,
    null: float = 1.0,
    variance: Literal["alternative", "control", "restricted"] = "alternative",
) -> float:
    """Total patients for a ratio of event rates; see `count_test`.

    >>> round(counts(0.7, 0.5, exposure=2.0, dispersion=0.8), 1)
    497.1
    """
    test = count_test(
        rate_ratio,
        control_rate,
        exposure=exposure,
        dispersion=dispersion,
        ratio=ratio,
        null=null,
        variance=variance,
    )
    return test.size(power, alpha)


def inflated(
    n: float, *, attrition: float = 0.0, cluster_size: float = 1.0, intraclass: float = 0.0, cv: float = 0.0
) -> float:
    """Patients to enrol so that, after losses and for clusters, as much is known as from n independent ones.

    n x (1 + ((1 + cv²) m - 1) rho) / (1 - attrition): m the mean cluster size, cv its coefficient of variation, rho the
    intraclass correlation (Eldridge, Ashby and Kerry 2006). Raises ClaimError where a share is impossible.

    >>> round(inflated(100, attrition=0.1, cluster_size=20, intraclass=0.05), 4)
    216.6667
    """
    if not (0 <= attrition < 1 and cluster_size >= 1 and -1 <= intraclass <= 1 and cv >= 0):
        raise ClaimError("Attrition lies from 0 to below 1, a cluster has 1 or more, and a correlation is at most 1.")
    return n * (1 + ((1 + cv**2) * cluster_size - 1) * intraclass) / (1 - attrition)


def repeated_measures_factor(correlations: np.ndarray, retained: np.ndarray) -> float:
    """How many more patients a repeated-measures analysis of the last visit needs than complete data would.

    correlations (visits, visits) between visits; retained (visits,) is the share of patients still seen at each, never
    rising. The variance of the last mean is the last element of the inverse of the mean information of the patterns of
    drop-out (Lu, Luo and Chen 2008). Raises ClaimError where shapes or shares do not fit.

    >>> round(repeated_measures_factor(np.array([[1.0, 0.6], [0.6, 1.0]]), np.array([1.0, 0.8])), 4)
    1.16
    """
    correlations, retained = np.asarray(correlations, float), np.asarray(retained, float)
    visits = len(retained)
    if (
        correlations.shape != (visits, visits)
        or np.any(np.diff(retained) > 0)
        or not 0 < retained[-1] <= retained[0] <= 1
    ):
        raise ClaimError(
            "Give a correlation for each pair of visits, and shares retained that never rise, from 1 down."
        )
    information = np.zeros((visits, visits))
    for seen, share in enumerate(retained - np.append(retained[1:], 0.0), start=1):
        information[:seen, :seen] += share * np.linalg.inv(correlations[:seen, :seen])
    return float(np.linalg.inv(information)[-1, -1] / correlations[-1, -1])

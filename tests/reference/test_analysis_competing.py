"""Competing risks against R 4.2.2: survival 3.5-3 (survfit of several states) and cmprsk 2.2-11 (cuminc, crr)."""

import csv
import json

import numpy as np
import pytest

from quell.analysis import competing, cox
from quell.analysis.fine_gray import fine_gray
from quell.analysis.gray import gray

# Sixty made patients with ties, two causes, two arms, three strata and two groups of censoring.
PATIENT = np.arange(60)
TIME = 3.0 + (11 * PATIENT) % 29 + (PATIENT % 4 >= 2) * ((3 * PATIENT) % 5)
CAUSE = np.array([1, 2, 0, 1, 1, 2, 0, 2, 1, 0])[(7 * PATIENT + PATIENT // 10) % 10]
ARM, STRATUM, GROUP = (PATIENT // 2) % 2, PATIENT % 3, (PATIENT % 7 > 3).astype(int)
X = np.stack([ARM, (13 * PATIENT) % 17 / 4], -1)


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


@pytest.mark.parametrize(
    ("interval", "limits"),
    # summary(survfit(Surv(time, factor(cause, 0:2)) ~ 1, conf.type = ...), times = c(10, 20)), state 1
    [
        ("log-log", [[0.0321238617584, 0.177540140354], [0.165603981212, 0.400087542465]]),
        ("log", [[0.0377781415158, 0.201966902233], [0.179740417526, 0.427134851017]]),
        ("plain", [[0.0141343202423, 0.16056466904], [0.157161775005, 0.396998477853]]),
        ("logit", [[0.0367971046473, 0.193406349086], [0.173981921875, 0.410882574721]]),
    ],
)
def test_incidence_as_survfit(interval, limits):
    curve = competing.cumulative_incidence(TIME, CAUSE, interval=interval)
    for day, (lower, upper), value, se, free in zip(
        (10, 20),
        limits,
        (0.0873494946412, 0.277080126429),
        (0.0373553672294, 0.0611839566289),
        (0.842224808371, 0.497785615787),
        strict=True,
    ):
        found = competing.incidence_at(TIME, CAUSE, day, interval=interval)
        close([found.estimate, found.se, found.lower, found.upper], [value, se, lower, upper])
        at = np.sum(curve.times <= day) - 1
        close(
            [curve.incidence[at], np.sqrt(curve.variance[at]), curve.lower[at], curve.upper[at]],
            [value, se, lower, upper],
        )
        close(curve.event_free[at], free)


def test_incidence_of_the_other_cause_at_the_end_and_by_arm():
    other = competing.incidence_at(TIME, CAUSE, 20, of=2)
    close([other.estimate, other.se], [0.225134257784, 0.0575774501983])
    last = competing.incidence_at(TIME, CAUSE, 31)
    close([last.estimate, last.se], [0.540868791765, 0.0789848258755])
    # survfit(... ~ arm) at day 20: 0.341181041181 (0.0927091859358) and 0.212254901961 (0.0775470860062)
    difference = competing.incidence_difference(TIME, CAUSE, ARM, 20)
    close(difference.estimate, 0.212254901961 - 0.341181041181)
    close(difference.se, np.hypot(0.0927091859358, 0.0775470860062))


def test_incidence_and_aalens_variance_as_cuminc():
    # timepoints(cuminc(time, cause, arm), c(10, 20, 30)): rows arm 0 and 1 of cause 1, then of cause 2
    value = [
        [0.1848096348096, 0.341181041181, 0.429139957265],
        [0, 0.212254901961, 0.482843137255],
        [0.111519036519, 0.306983294483, 0.424261849242],
        [0.0333333333333, 0.138333333333, 0.192450980392],
    ]
    variance = [
        [0.00586400391336, 0.00909177409851, 0.0105429525037],
        [0, 0.0062315731184, 0.012573745381],
        [0.00388435945815, 0.00877539590839, 0.0136520872642],
        [0.00111111111111, 0.00430459011961, 0.0067063063766],
    ]
    for k, (of, arm) in enumerate([(1, 0), (1, 1), (2, 0), (2, 1)]):
        for j, day in enumerate((10, 20, 30)):
            found = competing.incidence_at(TIME, CAUSE, day, of=of, include=arm == ARM, variance="aalen")
            close([found.estimate, found.se**2], [value[k][j], variance[k][j]])


def test_days_lost_as_survfit():
    # print(survfit(... ~ arm), rmean = 25): days in the states event-free, 1, 2
    for arm, (free, one, two) in enumerate([(16.343606, 5.093716, 3.562678), (20.766471, 2.355196, 1.878333)]):
        lost = [competing.days_lost(TIME, CAUSE, 25, of=of, include=arm == ARM).estimate for of in (1, 2)]
        close([*lost, 25 - sum(lost)], [one, two, free], rtol=3e-7)


@pytest.mark.parametrize(
    ("groups", "asked", "expected"),
    # cuminc(time, cause, group, strata, rho)$Tests: statistic and p of cause 1, of cause 2
    [
        ("arm", {}, [0.125347435843, 0.723305610444, 1.472404823579, 0.224966649701]),
        ("arm", {"rho": 1}, [0.499431485842, 0.479750028924, 1.522787464767, 0.217198153610]),
        ("arm", {"strata": STRATUM}, [0.263185750175, 0.607939900935, 1.447651526702, 0.228905159028]),
        ("stratum", {}, [0.460151862792, 0.794473274748, 0.679494948125, 0.711950085927]),
        ("stratum", {"strata": ARM, "rho": 0.5}, [0.678354279373, 0.712356251349, 0.543421315101, 0.762074729762]),
    ],
)
def test_gray_as_cuminc(groups, asked, expected):
    group = ARM if groups == "arm" else STRATUM
    found = [gray(TIME, CAUSE, group, of=of, **asked) for of in (1, 2)]
    close([found[0].chi_square, found[0].p, found[1].chi_square, found[1].p], expected)


@pytest.mark.parametrize(
    ("asked", "slopes", "se", "likelihood"),
    # crr(time, cause, cbind(arm, x), gtol = 1e-12): coef, sqrt(diag(var)), c(loglik.null, loglik)
    [
        ({}, [-0.064739435759, -0.0588803508798], [0.390038328018, 0.15147722339], [-85.9076527259, -85.8267893354]),
        (
            {"of": 2},
            [-0.467575084077, 0.0524569592211],
            [0.444404419237, 0.161919211835],
            [-65.31484988, -64.8185147337],
        ),
        (
            {"censoring_group": GROUP},
            [-0.0693933778818, -0.0570332270007],
            [0.389747940389, 0.1515467813],
            [-85.8360510478, -85.7570159108],
        ),
    ],
)
def test_fine_gray_as_crr(asked, slopes, se, likelihood):
    fit = fine_gray(TIME, CAUSE, X, **asked)
    close(fit.coefficients, slopes)
    close(fit.se, se)
    close(fit.log_likelihood, likelihood)


def test_fine_gray_past_the_follow_up_of_a_censoring_group():
    # the same without ties: one group's follow-up ends first, and crr then thinks nobody of it left to be censored
    fit = fine_gray(TIME + (PATIENT + 1) * 1e-4, CAUSE, X, censoring_group=GROUP)
    close(fit.coefficients, [-0.0735258921432, -0.0529234463611])
    close(fit.se, [0.397761415112, 0.154170681004])


def test_model_based_errors_and_covariance_as_crr():
    fit = fine_gray(TIME, CAUSE, X)
    close(fit.model_se, [0.410657098922, 0.161611708928])
    close(fit.covariance[0, 1], 0.00604865006148)


def test_without_other_causes_it_is_cox_and_kaplan_meier():
    one = np.where(CAUSE == 1, 1, 0)
    fit = fine_gray(TIME, one, X)
    close(fit.coefficients, cox.cox(TIME, one, X, ties="breslow").coefficients, rtol=1e-7)
    close(
        competing.incidence_at(TIME, one, 20).estimate,
        1
        - competing.cumulative_incidence(TIME, one).event_free[
            np.sum(competing.cumulative_incidence(TIME, one).times <= 20) - 1
        ],
    )


def test_a_cause_specific_hazard_is_cox_with_the_others_censored():
    # coxph(Surv(time, cause == 1) ~ x)
    fit = cox.cox(TIME, CAUSE == 1, X)
    close(fit.coefficients, [-0.39541043192, -0.041745761362], rtol=1e-8)
    close(fit.se, [0.419177801731, 0.152717400207], rtol=1e-8)


@pytest.fixture(scope="module")
def mgus2(reference_data):
    """Plasma cell malignancy (cause 1) or death without it (cause 2), in months; men; age."""
    with (reference_data / "survival" / "mgus2.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    malignancy = np.array([float(row["pstat"]) for row in rows])
    time = np.where(malignancy == 1, *(np.array([float(row[name]) for row in rows]) for name in ("ptime", "futime")))
    cause = np.where(malignancy == 1, 1, 2 * np.array([float(row["death"]) for row in rows]))
    return (
        time,
        cause,
        np.array([int(row["sex"] == "M") for row in rows]),
        np.array([float(row["age"]) for row in rows]),
    )


@pytest.fixture(scope="module")
def r(reference_data):
    return json.loads((reference_data / "reference" / "survival_and_boundaries.json").read_text())


def test_mgus2_incidence(mgus2, r):
    time, cause, man, _ = mgus2
    table = r["mgus2_AJ"]
    for sex, day, value, se in zip(table["strata"], table["time"], table["pstate"], table["se"], strict=True):
        for of in (1, 2):
            found = competing.incidence_at(time, cause, day, of=of, include=man == (sex == "sex=M"))
            close([found.estimate, found.se], [value[of], se[of]])


def test_mgus2_gray_and_fine_gray(mgus2, r):
    time, cause, man, age = mgus2
    for of in (1, 2):
        found, expected = gray(time, cause, man, of=of), r["mgus2_gray"][of - 1]
        close([found.chi_square, found.p, found.df], [expected["stat"], expected["pv"], expected["df"]])
    fit, expected = fine_gray(time, cause, np.stack([man, age], -1)), r["mgus2_finegray"]
    # crr stopped at its default gtol of 1e-6
    close(fit.coefficients, expected["coef"], rtol=1e-7)
    close(fit.se, expected["se"], rtol=1e-8)
    close(fit.log_likelihood[1], expected["loglik"])

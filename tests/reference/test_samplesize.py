"""Sample sizes against rpact 3.3.4, gsDesign's published examples, and formulas of the papers written out again here."""

import itertools

import numpy as np
import pytest
from scipy import integrate, special, stats

from quell.analysis import samplesize, sequential, survival_size
from quell.analysis.claim import ClaimError
from quell.analysis.samplesize import Piecewise, SurvivalTrial, constant
from quell.analysis.sequential_size import sequential_power, sequential_size, sequential_survival

LOOKS = sequential.by_spending(np.array([0.5, 0.75, 1.0]), sequential.spending("obrien-fleming", 0.025))


# rpact 3.3.4: getSampleSizeMeans(alpha = 0.025, beta = 0.1). Its search for t stops about 1e-8 of n from the power asked
@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (samplesize.mean_test(0.5, 1.2, ratio=2), 274.2874265711),
        (samplesize.mean_test(0.5, 1.2, ratio=2, normal=True), 272.3524057525),
        (samplesize.mean_test(0.0, 1.0, null=-0.4), 264.621135428),
        (samplesize.mean_test(0.1, 1.0, null=-0.4, ratio=1.5), 177.0666464227),
        (samplesize.one_mean(0.5, 1.2), 62.4751995217),
        (samplesize.mean_ratio(1.3, 0.8), 300.811539615),
        (samplesize.mean_ratio(1.0, 0.4, null=0.8, ratio=2), 145.6893191339),
    ],
)
def test_means_of_rpact(test, expected):
    np.testing.assert_allclose(test.size(0.9), expected, rtol=1e-7)


# rpact 3.3.4: getSampleSizeRates(alpha = 0.025, beta = 0.1, normalApproximation = TRUE)
@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"active": 0.4, "control": 0.25, "ratio": 2.0}, 459.099777446),
        ({"active": 0.25, "control": 0.25, "null": 0.1}, 789.817817049),
        ({"active": 0.2, "control": 0.25, "null": 0.08, "ratio": 1.5}, 440.313859517),
        ({"active": 0.4, "control": 0.25, "scale": "ratio"}, 405.619019024),
        ({"active": 0.25, "control": 0.25, "scale": "ratio", "null": 1.3, "ratio": 2.0}, 2183.744208764),
    ],
)
def test_rates_of_rpact(rates, expected):
    np.testing.assert_allclose(samplesize.rates(power=0.9, **rates), expected, rtol=1e-9)


def test_one_rate_of_rpact():
    np.testing.assert_allclose(samplesize.one_rate(0.4, 0.25).size(0.9), 96.8936763551, rtol=1e-11)
    assert samplesize.one_rate_exact(0.4, 0.25, power=0.9) == 105
    # by direct sums of binomial chances, at the size and just below it
    for n, enough in ((105, True), (104, False)):
        fewest = next(k for k in range(n + 1) if stats.binom.sf(k - 1, n, 0.25) <= 0.025)
        assert bool(stats.binom.sf(fewest - 1, n, 0.4) >= 0.9) is enough


def test_power_of_rpact():
    # getPowerMeans and getPowerRates (alpha = 0.025)
    powers = [
        (samplesize.mean_test(0.5, 1.2, ratio=2), 200, 0.78939297698),
        (samplesize.mean_test(0.5, 1.2, normal=True), 200, 0.83801054041),
        (samplesize.rate_test(0.4, 0.25, ratio=2), 300, 0.73900652742),
        (samplesize.rate_test(0.2, 0.25, null=0.08), 800, 0.99249646592),
    ]
    for test, n, expected in powers:
        np.testing.assert_allclose(test.power(n), expected, rtol=1e-10)


def test_power_of_t_in_r():
    # R 4.2.2: power.t.test(n = 20, delta = 1, sd = 1)$power; power.t.test(power = .90, delta = 1, tol = 1e-12)$n
    np.testing.assert_allclose(samplesize.mean_test(1.0, 1.0).power(40), 0.868952801692, rtol=1e-9)
    np.testing.assert_allclose(samplesize.mean_test(1.0, 1.0).size(0.9) / 2, 22.0210955701, rtol=1e-9)
    # power.prop.test(p1 = .50, p2 = .75, power = .90)$n
    np.testing.assert_allclose(samplesize.rates(0.75, 0.5, power=0.9) / 2, 76.7069301141, rtol=5e-8)


def test_continuity_correction_of_fleiss():
    # Fleiss, Tytun and Ury (1980), equal arms: n' = n / 4 (1 + sqrt(1 + 4 / (n d)))², n of one arm by the pooled test
    n = samplesize.rates(0.4, 0.25, power=0.9) / 2
    found = samplesize.rates(0.4, 0.25, power=0.9, method="continuity") / 2
    np.testing.assert_allclose(found, n / 4 * (1 + np.sqrt(1 + 4 / (n * 0.15))) ** 2, rtol=1e-12)
    test = samplesize.rate_test(0.4, 0.25, ratio=2.0, method="continuity")
    np.testing.assert_allclose(test.power(test.size(0.85)), 0.85, rtol=1e-12)


def test_unpooled_and_odds_ratio_formulas():
    z = special.ndtri(0.975) + special.ndtri(0.9)
    unpooled = 2 * z**2 * (0.4 * 0.6 + 0.25 * 0.75) / 0.15**2
    np.testing.assert_allclose(samplesize.rates(0.4, 0.25, power=0.9, method="unpooled"), unpooled, rtol=1e-12)
    log_odds = np.log(0.4 / 0.6 / (0.25 / 0.75))
    odds = 3 * z**2 * (1 / (2 * 0.24) + 1 / 0.1875) / log_odds**2
    np.testing.assert_allclose(samplesize.rates(0.4, 0.25, power=0.9, ratio=2, scale="odds ratio"), odds, rtol=1e-12)


# rpact 3.3.4: getSampleSizeSurvival(typeOfComputation, hazardRatio = 0.7, allocationRatioPlanned = 2), alpha 0.025, beta 0.1
@pytest.mark.parametrize(
    ("method", "events"), [("schoenfeld", 371.67515321), ("freedman", 336.23753797), ("hsieh-freedman", 379.58065809)]
)
def test_events_of_rpact(method, events):
    np.testing.assert_allclose(samplesize.events(0.7, power=0.9, ratio=2, method=method), events, rtol=1e-10)


def test_non_inferior_survival_of_rpact():
    # lambda2 = log(2) / 20, hazardRatio = 1, thetaH0 = 1.3, accrual over 24, follow-up 12
    events = samplesize.events(1.0, null=1.3, power=0.9)
    hazard = constant(np.log(2) / 20)
    np.testing.assert_allclose(events, 610.58600722, rtol=1e-10)
    np.testing.assert_allclose(
        SurvivalTrial(hazard, hazard, constant(1.0), 24.0).patients(events, 36.0), 1105.9978326, rtol=1e-9
    )
    np.testing.assert_allclose(
        survival_size.critical_hazard_ratio(special.ndtri(0.975), events, null=1.3), 1.1092977979, rtol=1e-9
    )


PIECES = Piecewise((0.0, 6.0, 18.0), (0.03, 0.02, 0.01))


def lost(share):
    return constant(-np.log(1 - share) / 12)


def test_piecewise_survival_of_rpact():
    # piecewiseSurvivalTime, accrualTime = c(0, 6, 24), accrualIntensity = c(0.3, 1) relative, dropout 3 and 5 % a year
    trial = SurvivalTrial(
        PIECES.times(0.7), PIECES, Piecewise((0.0, 6.0), (0.3, 1.0)), 24.0, lost(0.05), 2.0, lost(0.03)
    )
    mine = sequential_survival(trial, LOOKS, hazard_ratio=0.7, ends=42.0, power=0.9)
    np.testing.assert_allclose(trial.patients(mine.size.fixed, 42.0), 1135.5183992, rtol=1e-9)
    np.testing.assert_allclose(mine.patients, 1156.2708709, rtol=1e-8)
    np.testing.assert_allclose(mine.size.by_look, [189.23390119, 283.85085179, 378.46780239], rtol=1e-8)
    np.testing.assert_allclose(mine.critical, [0.6332723785, 0.74302576589, 0.80282486484], rtol=1e-8)
    expected = [mine.size.expected_null, mine.size.expected_half, mine.size.expected_effect]
    np.testing.assert_allclose(expected, [377.41049102, 358.45259655, 289.2223316], rtol=1e-8)
    # rpact integrates events over a broken accrual to 2e-5 only: exact times are in the next test
    np.testing.assert_allclose(mine.times, [23.334438323, 30.155225478, 42.0], rtol=2e-5)
    np.testing.assert_allclose(
        [mine.expected_duration, mine.expected_patients], [32.123662102, 1146.2446118], rtol=1e-5
    )


def test_chance_of_an_event_by_direct_integration():
    trial = SurvivalTrial(
        PIECES.times(0.7), PIECES, Piecewise((0.0, 6.0), (0.3, 1.0)), 24.0, lost(0.05), 2.0, lost(0.03)
    )

    def had(hazard, loss, follow_up):
        edges = [*(s for s in (0.0, 6.0, 18.0) if s < follow_up), follow_up]
        rate = lambda u: float(hazard.at(u) * np.exp(-hazard.integral(u) - loss.integral(u)))  # noqa: E731
        return sum(integrate.quad(rate, a, b, epsabs=1e-13)[0] for a, b in itertools.pairwise(edges))

    for day in (23.0, 30.15474916):
        total = 0.0
        for hazard, loss, share in ((PIECES.times(0.7), lost(0.03), 2 / 3), (PIECES, lost(0.05), 1 / 3)):
            edges = sorted({0.0, 6.0, min(day, 24.0), *(day - s for s in (6.0, 18.0) if 0 < day - s < 24)})
            for a, b in itertools.pairwise(edges):
                weight = share * (0.3 if a < 6 else 1.0) / 19.8
                total += weight * integrate.quad(lambda e: had(hazard, loss, day - e), a, b, epsabs=1e-12)[0]  # noqa: B023
        np.testing.assert_allclose(trial.chance(day), total, rtol=1e-10)


def test_follow_up_found_by_rpact():
    # accrualIntensity = c(15, 40) a month: 810 patients; the trial lasts until the last event needed
    trial = SurvivalTrial(PIECES.times(0.7), PIECES, Piecewise((0.0, 6.0), (15.0, 40.0)), 24.0, lost(0.03))
    mine = sequential_survival(trial, LOOKS, hazard_ratio=0.7, patients=810.0, power=0.9)
    np.testing.assert_allclose(mine.times[[0, 2]], [25.500824327, 56.735596947], rtol=2e-7)
    np.testing.assert_allclose(mine.times[1], 36.135789218, rtol=2e-6)  # rpact's integral again


def test_power_of_a_sequential_survival_trial_of_rpact():
    # getPowerSurvival(hazardRatio = 0.75, maxNumberOfEvents = 300, directionUpper = FALSE)
    stops = sequential_power(samplesize.event_test(0.75), LOOKS, 300)
    np.testing.assert_allclose(stops.power, 0.69354406553, rtol=1e-7)
    np.testing.assert_allclose(stops.upper, [0.11489454544, 0.30926786922, 0.26938165087], rtol=1e-7)


def test_sequential_means_and_rates_of_rpact():
    means = sequential_size(samplesize.mean_test(0.5, 1.2, ratio=2), LOOKS, power=0.9)
    np.testing.assert_allclose(means.by_look, [139.65012009, 209.47518013, 279.30024017], rtol=5e-8)
    expected = [means.expected_null, means.expected_half, means.expected_effect]
    np.testing.assert_allclose(expected, [278.51996952, 264.52949412, 213.43920452], rtol=5e-8)
    rates = sequential_size(samplesize.rate_test(0.4, 0.25), LOOKS, power=0.9)
    np.testing.assert_allclose(rates.largest, 413.03201845, rtol=5e-9)
    expected = [rates.expected_null, rates.expected_half, rates.expected_effect]
    np.testing.assert_allclose(expected, [411.87814632, 391.18888987, 315.63605318], rtol=5e-9)
    futile, _ = sequential.with_futility(LOOKS, sequential.spending("obrien-fleming", 0.1))
    means = sequential_size(samplesize.mean_test(0.5, 1.2), futile, power=0.9)
    expected = [means.largest, means.expected_null, means.expected_half, means.expected_effect]
    np.testing.assert_allclose(expected, [264.23894031, 162.04218026, 206.95714184, 193.22284385], rtol=3e-7)


# gsDesign 3.x documentation of nSurv: Lachin and Foulkes (1986), hazard ratio 0.5, eta = log(2) / 40; printed n and events
@pytest.mark.parametrize(
    ("ends", "enrolled_by", "hazards", "n", "events"),
    [
        (36.0, 24.0, constant(np.log(2) / 6), 119.8184, 86.3258),
        (18.0, 6.0, constant(np.log(2) / 6), 137.2033, 86.8217),
        (18.0, 12.0, constant(np.log(2) / 6), 155.8581, 87.2677),
        (18.0, 6.0, Piecewise((0.0, 3.0), (np.log(2) / 6, np.log(2) / 12)), 183.8174, 87.9869),
    ],
)
def test_lachin_and_foulkes_of_gsdesign(ends, enrolled_by, hazards, n, events):
    trial = SurvivalTrial(hazards.times(0.5), hazards, constant(1.0), enrolled_by, constant(np.log(2) / 40))
    found = samplesize.lachin_foulkes(trial, ends, hazard_ratio=0.5, power=0.9)
    np.testing.assert_allclose([found, found * trial.chance(ends)], [n, events], atol=5e-5)


def test_more_of_gsdesign():
    # nSurv(lambdaC = c(.4, 0), hr = 2 / 3, S = 1, minfup = 1): events in the first month only
    hazards = Piecewise((0.0, 1.0), (0.4, 0.0))
    trial = SurvivalTrial(hazards.times(2 / 3), hazards, constant(1.0), 17.0)
    found = samplesize.lachin_foulkes(trial, 18.0, hazard_ratio=2 / 3, power=0.9)
    np.testing.assert_allclose([found, found * trial.chance(18.0)], [914.4375, 257.7578], atol=5e-5)
    # nSurv(gamma = c(1, 3, 6), R = c(3, 6, 9), T = NULL, minfup = 12): the accrual time is found
    hazard = constant(np.log(2) / 6)
    trial = SurvivalTrial(
        hazard.times(0.5), hazard, Piecewise((0.0, 3.0, 9.0), (1.0, 3.0, 6.0)), 1.0, constant(np.log(2) / 40)
    )
    size = lambda one, day: samplesize.lachin_foulkes(one, day, hazard_ratio=0.5, power=0.9)  # noqa: E731
    longer = samplesize.enrolment(trial, 12.0, size)
    np.testing.assert_allclose(longer.enrolled_by, 25.7809, atol=5e-5)
    np.testing.assert_allclose(longer.accrual.integral(longer.enrolled_by), 121.6855, atol=5e-5)
    # gsSurv(k = 4, ...): times and patients at a quarter, half and three quarters of 115.06648 events, 159.70989 patients
    trial = SurvivalTrial(hazard.times(0.5), hazard, constant(1.0), 24.0, constant(np.log(2) / 40))
    times = [trial.when(events, 159.70989) for events in (28.76662, 57.53324, 86.29986)]
    np.testing.assert_allclose(times, [12.24228, 18.97078, 25.02728], atol=2e-5)
    np.testing.assert_allclose(trial.enrolled(159.70989, times), [81.46723, 126.24254, 159.70989], atol=2e-4)


# the coming trial: 11 % at two years in control, 90 % power, two-sided 5 %, looks at 1/2, 3/4 and all, O'Brien-Fleming spending
@pytest.mark.parametrize(("hazard_ratio", "events"), [(0.5, 90), (0.6, 165), (0.7, 337), (0.8, 860)])
def test_the_coming_trial(hazard_ratio, events):
    size = sequential_size(samplesize.event_test(hazard_ratio), LOOKS, power=0.9)
    assert int(np.ceil(size.largest)) == events
    control = samplesize.hazard_of(0.11, 24)
    trial = SurvivalTrial(constant(hazard_ratio * control), constant(control), constant(1.0), 24.0)
    found = sequential_survival(trial, LOOKS, hazard_ratio=hazard_ratio, ends=48.0, power=0.9)
    np.testing.assert_allclose(found.patients * trial.chance(48.0), size.largest, rtol=1e-12)
    assert np.all(np.diff(found.times) > 0) and found.expected_duration < 48


def test_the_coming_trial_of_rpact():
    # rpact 3.3.4, kMax = 3, sided = 2, asOF, pi2 = 0.11 at 24, accrual over 24, follow-up 24: maximum events and subjects
    equal = sequential.by_spending(
        np.arange(1, 4) / 3, sequential.spending("obrien-fleming", 0.025), two_sided_test=True
    )
    control = samplesize.hazard_of(0.11, 24)
    theirs = {0.5: (88.5161688472, 727.149505354), 0.6: (162.977699276, 1257.13221201), 0.7: (334.293804106, 2432.7684157), 0.8: (854.09238451, 5888.49011185)}  # fmt: skip
    for ratio, (events, subjects) in theirs.items():
        trial = SurvivalTrial(constant(ratio * control), constant(control), constant(1.0), 24.0)
        found = sequential_survival(trial, equal, hazard_ratio=ratio, ends=48.0, power=0.9)
        np.testing.assert_allclose([found.size.largest, found.patients], [events, subjects], rtol=1e-7)


def test_counts_as_written_in_the_paper():
    # Zhu and Lakkis (2014), doi:10.1002/sim.5947, equations for n of control, by method; ratio active over control theta
    r0, rr, t, k, theta = 0.8, 0.7, 1.5, 0.6, 1.5
    z = special.ndtri(0.975), special.ndtri(0.85)
    alternative = (1 + 1 / (theta * rr)) / (t * r0) + (1 + theta) * k / theta
    nulls = {
        "control": (1 + 1 / theta) / (t * r0) + (1 + theta) * k / theta,
        "alternative": alternative,
        "restricted": (1 + theta) ** 2 / (t * theta * (r0 + theta * rr * r0)) + (1 + theta) * k / theta,
    }
    for method, null in nulls.items():
        control = (z[0] * np.sqrt(null) + z[1] * np.sqrt(alternative)) ** 2 / np.log(rr) ** 2
        found = samplesize.counts(rr, r0, exposure=t, dispersion=k, power=0.85, ratio=theta, variance=method)
        np.testing.assert_allclose(found, control * (1 + theta), rtol=1e-12)


def test_welch_by_simulation_free_integration():
    # equal spreads and arms: the t test; else between the normal size with either spread
    np.testing.assert_allclose(samplesize.welch(0.5, 1.0, 1.0).size(), samplesize.means(0.5, 1.0), rtol=1e-9)
    test = samplesize.welch(0.6, 0.8, 1.6, ratio=1.5)
    n = test.size(0.9)
    active, control = 0.64 / (0.6 * n), 2.56 / (0.4 * n)
    df = (active + control) ** 2 / (active**2 / (0.6 * n - 1) + control**2 / (0.4 * n - 1))
    reached = stats.nct.sf(stats.t.ppf(0.975, df), df, 0.6 / np.sqrt(active + control))
    np.testing.assert_allclose(reached, 0.9, rtol=1e-9)


def test_covariates_clusters_and_losses():
    with_baseline = samplesize.mean_test(0.5, 1.0, correlation=0.6, normal=True).size()
    np.testing.assert_allclose(with_baseline, 0.64 * samplesize.means(0.5, 1.0, normal=True), rtol=1e-12)
    np.testing.assert_allclose(
        samplesize.inflated(100, cluster_size=10, intraclass=0.02, cv=0.5), 100 * (1 + 11.5 * 0.02)
    )
    # two visits, a share q seen at the second: variance (1 - rho² (1 - q)) / q, by the conditional mean given the first
    rho, q = 0.6, 0.8
    found = samplesize.repeated_measures_factor(np.array([[1, rho], [rho, 1]]), np.array([1.0, q]))
    np.testing.assert_allclose(found, (1 - rho**2) / q + rho**2, rtol=1e-12)
    assert samplesize.repeated_measures_factor(np.eye(3), np.ones(3)) == pytest.approx(1.0)


def test_detectable_effects_invert_power():
    found = samplesize.detectable(lambda d: samplesize.mean_test(d, 1.2), 200, power=0.9, between=(0.01, 5.0))
    np.testing.assert_allclose(samplesize.means(found, 1.2, power=0.9), 200, rtol=1e-7)
    ratio = samplesize.detectable(samplesize.event_test, 337, power=0.9, between=(0.99, 0.2))
    np.testing.assert_allclose(
        ratio, np.exp(-2 * (special.ndtri(0.975) + special.ndtri(0.9)) / np.sqrt(337)), rtol=1e-10
    )


MISTAKES = {
    "0 < alpha < power < 1": lambda: samplesize.means(0.5, 1.0, power=0.01),
    "The effect is none": lambda: samplesize.rates(0.5, 1.5),
    "check the assumptions": lambda: samplesize.events(1.0),
    "use method='score'": lambda: samplesize.rates(0.3, 0.2, null=0.1, method="continuity"),
    "choose difference, ratio, odds ratio": lambda: samplesize.rates(0.3, 0.2, scale="log"),
    "with a margin, schoenfeld": lambda: samplesize.events(0.7, null=1.3, method="freedman"),
    "widen the search": lambda: samplesize.detectable(samplesize.event_test, 10, between=(0.99, 0.9)),
    "choose alternative, control": lambda: samplesize.counts(0.7, 1.0, variance="pooled"),
    "Attrition lies": lambda: samplesize.inflated(100, attrition=1.0),
    "shares retained": lambda: samplesize.repeated_measures_factor(np.eye(2), np.array([0.8, 1.0])),
    "a risk lies between": lambda: samplesize.hazard_of(1.2, 24),
    "No event is expected by": lambda: SurvivalTrial(constant(0), constant(0), constant(1), 1.0).patients(10, 5),
    "not both": lambda: sequential_survival(
        SurvivalTrial(constant(0.1), constant(0.1), constant(1), 1.0), LOOKS, hazard_ratio=0.7
    ),
    "enrol more": lambda: sequential_survival(
        SurvivalTrial(constant(0.1), constant(0.1), constant(1), 1.0), LOOKS, hazard_ratio=0.7, patients=50.0
    ),
    "enrol faster": lambda: samplesize.enrolment(
        SurvivalTrial(constant(0.1), constant(0.1), constant(1e-300), 1.0), 1.0, lambda one, day: 1e9
    ),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_get_a_sentence(words):
    with pytest.raises(ClaimError, match=words):
        MISTAKES[words]()


def test_when_events_never_come():
    trial = SurvivalTrial(constant(0.01), constant(0.01), constant(1.0), 1.0, constant(0.5))
    assert trial.when(100.0, 50.0) == np.inf

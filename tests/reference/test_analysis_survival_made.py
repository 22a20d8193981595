"""Survival on forty made patients, against R 4.2.2 (survival 3.5-3, mvtnorm): intervals, weights, milestones, rates.

Patients have ties, two arms whose curves cross, three strata and late entry; every number is from R on the same rule,
called or (where no package has the method) written out in R.
"""

import numpy as np
import pytest
from scipy import special

from quell.analysis import piecewise, survival
from quell.analysis.adjusted_restricted_mean import adjusted_restricted_mean
from quell.analysis.claim import Caution
from quell.analysis.logrank import trend
from quell.analysis.maxcombo import maxcombo
from quell.analysis.normal_maximum import exceedance


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


PATIENT = np.arange(40)
TIME = 3.0 + (11 * PATIENT) % 29 + (PATIENT % 4 >= 2) * ((3 * PATIENT) % 5)
EVENT = (7 * PATIENT) % 10 < 7
ARM, STRATUM, ENTRY = (PATIENT // 2) % 2, PATIENT % 3, (5.0 * PATIENT) % 7
X = np.stack([(13 * PATIENT) % 17 / 4, STRATUM == 1], -1)


@pytest.mark.parametrize(
    ("interval", "lower", "upper"),
    # summary(survfit(Surv(time, event) ~ 1, conf.type = ...), times = 15); survival 0.677682757886, se 0.0772803380148
    [
        ("plain", 0.526216078664, 0.829149437108),
        ("log", 0.541949328495, 0.847411180694),
        ("log-log", 0.501043524776, 0.803278132306),
        ("logit", 0.51242389109, 0.807924513205),
        ("arcsine", 0.51960382416, 0.817261981222),
    ],
)
def test_survival_at_a_day_on_five_scales(interval, lower, upper):
    found = survival.survival_at(TIME, EVENT, 15, interval=interval)
    close([found.estimate, found.se], [0.677682757886, 0.0772803380148])
    close([found.lower, found.upper], [lower, upper])
    curve = survival.kaplan_meier(TIME, EVENT, interval=interval)
    at = np.sum(curve.times <= 15) - 1
    close([curve.survival[at], curve.lower[at], curve.upper[at]], [0.677682757886, lower, upper])


def test_survival_of_those_who_come_late():
    # summary(survfit(Surv(entry, time, event) ~ 1), times = 15): one entered at the time of leaving and is left out
    found = survival.survival_at(TIME, EVENT, 15, entry=ENTRY, interval="log")
    expected = [0.681956827586, 0.0846244940553, 0.53472525223, 0.869727234225]
    close([found.estimate, found.se, found.lower, found.upper], expected)
    assert found.warnings == Caution.MISSING


@pytest.mark.parametrize(
    ("interval", "lower", "upper"),
    # quantile(survfit(...), c(.25, .5, .75)): 14, 21, 29 with these limits; what R calls NA is never reached
    [
        ("plain", [11, 17, 23], [19, 28, 31]),
        ("log", [11, 18, 26], [19, 28, np.inf]),
        ("log-log", [7, 17, 23], [19, 28, 31]),
        ("logit", [7, 17, 26], [19, 28, np.inf]),
        ("arcsine", [11, 17, 23], [19, 28, 31]),
    ],
)
def test_quantiles(interval, lower, upper):
    for k, (probability, day) in enumerate(zip((0.25, 0.5, 0.75), (14, 21, 29), strict=True)):
        found = survival.quantile(TIME, EVENT, probability, interval=interval)
        assert [found.estimate, found.lower, found.upper] == [day, lower[k], upper[k]]
    middle = survival.median(TIME, EVENT, interval=interval)
    assert [middle.estimate, middle.lower, middle.upper] == [21, lower[1], upper[1]]


def test_a_curve_that_stays_at_one_half():
    # Surv(c(1, 2, 3, 4), c(1, 1, 0, 0)): quantile() says 1.5 and 3, print() says a median of 2
    time, event = np.array([1.0, 2, 3, 4]), np.array([1, 1, 0, 0])
    assert [float(survival.quantile(time, event, q).estimate) for q in (0.25, 0.5)] == [1.5, 3.0]
    assert survival.median(time, event).estimate == 2


@pytest.mark.parametrize(
    ("ties", "at15", "at_end"),
    # survfit(..., stype = 2, ctype = 1 or 2): cumhaz and std.chaz at day 15 and at the end
    [
        ("nelson-aalen", [0.375035540879, 0.109776538177], [2.13199108533, 0.525698828211]),
        ("fleming-harrington", [0.3826485745, 0.112089072217], [2.24918522412, 0.575214818053]),
    ],
)
def test_cumulative_hazard(ties, at15, at_end):
    curve = survival.cumulative_hazard(TIME, EVENT, ties=ties)
    at = np.sum(curve.times <= 15) - 1
    close([curve.hazard[at], np.sqrt(curve.variance[at])], at15)
    close([curve.hazard[-1], np.sqrt(curve.variance[-1])], at_end)


@pytest.mark.parametrize(
    ("rho", "plain", "stratified"),
    # survdiff(Surv(time, event) ~ arm, rho = rho)$chisq, and with + strata(stratum)
    [(0, 1.50637222791, 1.00109842117), (1, 1.71303841188, 1.2363448126), (0.5, 1.68950533567, 1.2122132998)],
)
def test_logrank_as_survdiff(rho, plain, stratified):
    close(survival.logrank(TIME, EVENT, ARM, rho=rho).chi_square, plain)
    close(survival.logrank(TIME, EVENT, ARM, rho=rho, strata=STRATUM).chi_square, stratified)


def test_logrank_of_three_arms_and_its_trend():
    # survdiff(Surv(time, event) ~ stratum): obs, exp, var; trend = c'(O - E) / sqrt(c'Vc) with c = 0, 1, 2
    test = survival.logrank(TIME, EVENT, STRATUM)
    close(test.chi_square, 1.16619904805)
    close(test.expected, [9.87244434366, 9.60987268329, 8.51768297305])
    close(test.covariance[0], [5.93207848697, -3.15524448873, -2.77683399824])
    found = trend(test)
    close(found.statistic, 0.0859651758985)
    close(found.p, 2 * special.ndtr(-0.0859651758985))


@pytest.mark.parametrize(
    ("asked", "excess", "variance"),
    # sum of w (O - E) and of w^2 V over event times, written out in R; fh: w = S(t-)^rho (1 - S(t-))^gamma
    [
        ({"weights": "gehan"}, -78, 3772.04502262),
        ({"weights": "tarone-ware"}, -14.9493607499, 134.944330189),
        ({"weights": "peto-peto"}, -2.33821790145, 2.58380841939),
        ({"weights": "modified peto-peto"}, -2.23915891733, 2.39392639331),
        ({"weights": "modest"}, -4.55631928391, 15.2647318038),
        ({"entry": ENTRY}, -2.11607289414, 5.60881802676),
        ({"entry": ENTRY, "strata": STRATUM, "gamma": 1}, -0.399998590819, 1.16979984668),
        ({"strata": STRATUM, "rho": 0.5, "gamma": 2}, -0.194999993067, 0.141475719311),
    ],
)
def test_weighted_logrank(asked, excess, variance):
    test = survival.logrank(TIME, EVENT, ARM, **asked)
    close([(test.observed - test.expected)[1], test.covariance[1, 1]], [excess, variance])
    close(test.z().statistic, excess / np.sqrt(variance))
    less = test.z("less").p
    close([less, test.z("greater").p], [test.z().p / 2, 1 - test.z().p / 2])


@pytest.mark.parametrize(
    ("weights", "two", "one", "rtol"),
    # mvtnorm 1 - pmvnorm(...): Miwa (two-sided, 4097 or 2048 steps) and TVPACK (one-sided) are good to ten digits and
    # seven respectively; the usual four are linearly dependent, where only GenzBretz works, good to 1e-7 at 5e7 points
    [
        (((0, 0), (0, 1), (1, 1)), 0.33591982457, 0.167961344745, 1e-9),
        (((0, 0), (0, 0.5), (0.5, 0), (0.5, 0.5)), 0.29214576978, 0.146073953331, 3e-9),
        (((0, 0), (2, 2)), None, 0.152248360606, 1e-10),
        (((0, 0), (0, 1), (1, 0), (1, 1)), 0.342989847135, 0.171856496489, 2e-7),
    ],
)
def test_maxcombo_as_mvtnorm(weights, two, one, rtol):
    if two is not None:
        close(maxcombo(TIME, EVENT, ARM, weights=weights).p, two, rtol=rtol)
    close(maxcombo(TIME, EVENT, ARM, weights=weights, alternative="less").p, one, rtol=rtol)


def test_maxcombo_of_the_published_ovarian_example():
    # data(ovarian) of R's survival; the R package FastSurvival prints for it z -1.0309, 0.0101, -1.2980, -0.0576, statistic
    # -1.298019, p 0.3023 two-sided, 0.2045 for G(0,0) and G(0,1), and 0.1511426 one-sided where simtrial has 0.1512125
    # (both by random sampling)
    time = "59 115 156 421 431 448 464 475 477 563 638 744 769 770 803 855 1040 1106 1129 1206 1227 268 329 353 365 377"
    event = "11101011011000000000011110"
    arm = "11121122121222111122211222"
    time, event, arm = (np.array([float(one) for one in row]) for row in (time.split(), event, arm))
    found = maxcombo(time, event, arm - 1)
    np.testing.assert_allclose(found.z, [-1.0309, 0.0101, -1.2980, -0.0576], atol=5e-5)
    assert float(found.statistic) == pytest.approx(-1.298019, abs=5e-7)
    assert float(found.p) == pytest.approx(0.302361309657, abs=1e-6)  # mvtnorm GenzBretz at 5e7 points
    one = maxcombo(time, event, arm - 1, alternative="less")
    assert float(one.p) == pytest.approx(0.151197691537, abs=1e-6) and abs(one.p - 0.1512) < 1e-4
    two_weights = maxcombo(time, event, arm - 1, weights=[(0, 0), (0, 1)], alternative="less")
    assert float(two_weights.p) == pytest.approx(0.2045, abs=5e-5)


def test_the_maximum_of_independent_and_of_equal_normals():
    for limit in (0.3, 1.96, 4.0):
        for k in (1, 2, 3, 4):
            close(exceedance(limit, np.eye(k)), -np.expm1(k * np.log1p(-2 * special.ndtr(-limit))), rtol=1e-12)
            close(exceedance(limit, np.eye(k), two_sided=False), -np.expm1(k * special.log_ndtr(limit)), rtol=1e-12)
            close(exceedance(limit, np.ones((k, k))), 2 * special.ndtr(-limit), rtol=1e-12)


def test_restricted_means_as_survrm2():
    # survRM2's rmst2 (tau = 25), its unadjusted formulas written out in R
    means = [survival.restricted_mean(TIME, EVENT, 25, include=arm == ARM) for arm in (1, 0)]
    expected = [20.5354545455, 1.32143108748, 16.6335339605, 1.815797568]
    close([means[0].estimate, means[0].se, means[1].estimate, means[1].se], expected)
    check(
        survival.restricted_mean_difference(TIME, EVENT, ARM, 25),
        [3.901920585, 2.24572948659, -0.499628327736, 8.30346949773, 0.0823016553263],
    )
    check(
        survival.restricted_mean_ratio(TIME, EVENT, ARM, 25),
        [1.23458157444, 0.126719106767, 0.963066534351, 1.58264419912, 0.0963152283578],
    )
    check(
        survival.restricted_mean_ratio(TIME, EVENT, ARM, 25, of="lost"),
        [0.533623806449, 0.367027759657, 0.259908570731, 1.09559437001, 0.0870410471008],
    )


def check(found, expected):
    close([found.estimate, found.se, found.lower, found.upper, found.p], expected)


@pytest.mark.parametrize(
    ("measure", "log", "se", "p"),
    # Tian, Zhao and Wei (2014) as survRM2's adjusted analysis, written out in R (lm and glm with weights); the same code
    # gives -0.210 (-0.883 to 0.463), p = 0.540 for pbc at ten years adjusted for age, bilirubin and albumin
    [
        ("difference", 2.36731952877, 2.2989326429, 0.303128676631),
        ("ratio", 0.130346964637, 0.127805659872, 0.30778341543),
        ("lost ratio", -0.363169188929, 0.367341883864, 0.32283889675),
    ],
)
def test_adjusted_restricted_mean(measure, log, se, p):
    found = adjusted_restricted_mean(TIME, EVENT, ARM, 25, X, measure=measure)
    close([found.estimate, found.se, found.p], [log if measure == "difference" else np.exp(log), se, p])


@pytest.mark.parametrize(
    ("day", "scale", "estimate", "se"),
    # f(S1) - f(S0) and its delta-method error from summary(survfit(Surv(time, event) ~ arm), times = day): Klein et al. 2007
    [
        (15, "plain", 0.00170758928571, 0.15419655704),
        (15, "log-log", -0.00649832045929, 0.586796597081),
        (20, "plain", 0.230586154917, 0.17166989766),
        (20, "log", 0.466819927098, 0.377868259399),
        (20, "log-log", -0.678325259131, 0.519554756994),
        (20, "logit", 0.939268140923, 0.72506421088),
        (20, "arcsine", 0.23268420523, 0.176402388714),
    ],
)
def test_milestone_on_five_scales(day, scale, estimate, se):
    found = survival.milestone(TIME, EVENT, ARM, day, scale=scale)
    close([found.estimate, found.se], [estimate, se])
    if scale == "log":
        close(survival.survival_ratio(TIME, EVENT, ARM, day).estimate, np.exp(estimate))
    if scale == "plain":
        wald = survival.landmark(TIME, EVENT, ARM, day, interval="plain")
        close([-wald.estimate, wald.se, -wald.upper, -wald.lower], [found.estimate, found.se, found.lower, found.upper])


def test_stratified_milestone():
    # strata weighed by the inverse of their variance, from survfit(Surv(time, event) ~ arm + stratum) at day 15
    for scale, expected in (
        ("log-log", [0.0249053378144, 0.626459416371]),
        ("plain", [0.0218746073525, 0.14644177414]),
    ):
        found = survival.milestone(TIME, EVENT, ARM, 15, strata=STRATUM, scale=scale)
        close([found.estimate, found.se], expected)


def test_rates_by_interval():
    # survSplit at days 10 and 20; poisson.test for each interval
    counted = piecewise.person_time(TIME, EVENT, ARM, cuts=[10, 20])
    assert counted.events.tolist() == [[5, 5, 4], [0, 7, 7]]
    assert counted.days.tolist() == [[162, 107, 33], [200, 130, 75]]
    rates = piecewise.rate(TIME, EVENT, cuts=[10, 20])
    close(rates.estimate, [0.0138121546961, 0.0506329113924, 0.101851851852])
    close(rates.lower, [0.00448476903348, 0.0261627641718, 0.0508440774744])
    close(rates.upper, [0.0322329615451, 0.0884455065324, 0.182241097345])
    ratios = piecewise.rate_ratio(TIME, EVENT, ARM, cuts=[10, 20])
    close(ratios.estimate, [0, 1.15230769231, 0.77])
    close(ratios.lower, [0, 0.314822189935, 0.195750610564])
    close(ratios.upper, [0.883936075198, 4.60432051194, 3.5869644139])
    close(ratios.p, [0.0179486678198, 1, 0.745402250378])
    # glm(event ~ arm + offset(log(days)), poisson): Wald, and the likelihood-ratio test
    wald = piecewise.rate_ratio(TIME, EVENT, ARM, cuts=[10, 20], interval="log")
    close(wald.p[1:], [0.808692917395, 0.67668286137], rtol=1e-8)
    likelihood = piecewise.rate_ratio(TIME, EVENT, ARM, cuts=[10, 20], interval="likelihood")
    close(likelihood.p[1:], [0.808028746812, 0.680651039753])
    # confint(glm) interpolates the profile: three digits
    close(likelihood.lower[1:], [0.367801030467, 0.232535289357], rtol=2e-4)
    close(likelihood.upper[1:], [3.89347848253, 2.93990669271], rtol=3e-4)


@pytest.mark.parametrize(
    ("events", "days", "expected"),
    # poisson.test(events, days)
    [
        ((3, 10), (100, 120), [0.36, 0.0636647885817, 1.39814233258, 0.162043168005]),
        ((0, 7), (50, 60), [0, 0, 0.832576776116, 0.0183741908972]),
        ((5, 5), (100, 100), [1, 0.230142468938, 4.34513457952, 1]),
        ((300, 250), (1000, 1001), [1.2012, 1.0122027569, 1.42646680501, 0.0329958982561]),
        ((2, 0), (10, 90), [np.inf, 1.690281997, np.inf, 0.01]),
    ],
)
def test_rate_ratio_as_poisson_test(events, days, expected):
    # one patient with each arm's person-time, and others whose follow-up adds none
    time = np.array([*days, *np.zeros(sum(events))], float)
    event = np.array([0, 0, *np.ones(sum(events))])
    arm = np.array([1, 0, *np.repeat([1, 0], events)])
    found = piecewise.rate_ratio(time, event, arm)
    close([found.estimate[0], found.lower[0], found.upper[0], found.p[0]], expected)


def test_likelihood_limits_of_a_rate():
    # 2 (d log(d / x) - d + x) = qchisq(0.95, 1) at d = 9, by uniroot
    found = piecewise.rate(np.ones(9), np.ones(9), interval="likelihood")
    close([found.lower[0] * 9, found.upper[0] * 9], [4.32461381044, 16.2242983821])

"""Proportions against Newcombe 1998 (Table II), SAS's migraine example, R 4.2.2, epiR, statsmodels 0.15 and SciPy 1.17.

Where no package is at hand, R and this file write the restricted likelihood out and find roots by uniroot.
"""

import numpy as np
import pytest
from scipy import optimize, special, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from quell.analysis import stratified_proportions as stratified
from quell.analysis.exact_proportions import barnard, boschloo
from quell.analysis.proportions import Tally, fisher, odds_ratio, proportion, risk_difference, risk_ratio, tally

# Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, Table II:
# method 6 (Miettinen and Nurminen) and method 10 (hybrid score)
NEWCOMBE = [
    ((56, 70, 48, 80), (0.0528, 0.3382), (0.0524, 0.3339)),
    ((9, 10, 3, 10), (0.1700, 0.8406), (0.1705, 0.8090)),
    ((5, 56, 0, 29), (-0.0326, 0.1933), (-0.0381, 0.1926)),
    ((0, 10, 0, 10), (-0.2879, 0.2879), (-0.2775, 0.2775)),
    ((10, 10, 0, 20), (0.7156, 1.0000), (0.6791, 1.0000)),
]
TABLES = [(0, 28, 3, 27), (3, 28, 6, 27), (12, 40, 20, 41), (1, 9, 8, 9), (28, 28, 20, 27), (0, 5, 5, 5)]


@pytest.mark.parametrize(("counts", "score", "hybrid"), NEWCOMBE)
def test_risk_difference_gives_newcombes_table(counts, score, hybrid):
    for method, expected in (("miettinen-nurminen", score), ("newcombe", hybrid)):
        result = risk_difference(Tally(*counts), method=method)
        assert (round(float(result.lower), 4), round(float(result.upper), 4)) == expected


def restricted_score(x1, n1, x0, n0, p1_given_p0):
    """Miettinen and Nurminen's statistic with the restricted likelihood maximised numerically."""

    def cost(p0):
        p1 = p1_given_p0(p0)
        if not 0 <= p1 <= 1:
            return 1e9
        cells = ((x1, p1), (n1 - x1, 1 - p1), (x0, p0), (n0 - x0, 1 - p0))
        return -sum(max(float(special.xlogy(count, chance)), -1e6) for count, chance in cells)

    grid = np.linspace(0, 1, 20001)
    start = grid[int(np.argmin([cost(p) for p in grid]))]
    best = optimize.minimize_scalar(
        cost, bounds=(max(0, start - 1e-4), min(1, start + 1e-4)), method="bounded", options={"xatol": 1e-12}
    ).x
    return best, p1_given_p0(best)


@pytest.mark.parametrize("counts", TABLES[:4])
def test_the_limits_of_a_risk_difference_have_the_critical_score(counts):
    x1, n1, x0, n0 = counts
    result = risk_difference(Tally(*counts))
    for limit, sign in ((float(result.lower), 1), (float(result.upper), -1)):
        p0, p1 = restricted_score(x1, n1, x0, n0, lambda p, limit=limit: p + limit)
        variance = (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0) * (n1 + n0) / (n1 + n0 - 1)
        assert (x1 / n1 - x0 / n0 - limit) / np.sqrt(variance) == pytest.approx(sign * 1.959964, rel=2e-4)


@pytest.mark.parametrize("counts", [(3, 28, 6, 27), (12, 40, 20, 41), (1, 9, 8, 9), (0, 28, 3, 27)])
def test_risk_ratio_agrees_with_statsmodels(counts):
    low, high = confint_proportions_2indep(*counts, method="score", compare="ratio", correction=True)
    result = risk_ratio(Tally(*counts))
    assert float(result.lower) == pytest.approx(low, rel=1e-8, abs=1e-12)
    assert float(result.upper) == pytest.approx(high, rel=1e-8)


@pytest.mark.parametrize("counts", TABLES)
def test_newcombe_agrees_with_statsmodels(counts):
    expected = confint_proportions_2indep(*counts, method="newcomb", compare="diff")
    result = risk_difference(Tally(*counts), method="newcombe")
    np.testing.assert_allclose([result.lower, result.upper], expected, atol=1e-12)


def test_fisher_agrees_with_scipy_for_every_small_table():
    n1, n0 = 9, 7
    x1, x0 = (grid.ravel() for grid in np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1)))
    expected = [stats.fisher_exact([[a, n1 - a], [b, n0 - b]])[1] for a, b in zip(x1, x0, strict=True)]
    np.testing.assert_allclose(fisher(Tally(x1, n1, x0, n0)), expected, rtol=1e-10)


def test_fisher_of_the_two_year_events_of_ivory():
    # 0 of 28 against 3 of 27 (evidence E064): p = 0.11
    assert round(float(fisher(Tally(0, 28, 3, 27))), 2) == 0.11


@pytest.mark.parametrize(("method", "name"), [("wilson", "wilson"), ("clopper-pearson", "beta")])
def test_one_proportion_agrees_with_statsmodels(method, name):
    events = np.arange(13)
    result = proportion(events, np.array(12), method=method)
    expected = np.array([proportion_confint(k, 12, method=name) for k in events])
    np.testing.assert_allclose(np.stack([result.lower, result.upper], -1), expected, atol=1e-12)


def test_tally_counts_subjects_of_two_arms_only():
    happened, arm = np.array([1, 0, 1, np.nan, 1]), np.array([0, 0, 1, 1, 2])
    counts = tally(happened, arm)
    assert [int(value) for value in counts[:4]] == [1, 1, 1, 2]
    assert counts.warnings > 0


# table: conditional odds ratio, exact limits, mid-p limits; R 4.2.2, noncentral hypergeometric by dhyper, uniroot 1e-14
EXACT = {
    (3, 28, 6, 27): (0.426621673766, 0.0614962361181, 2.29374214733, 0.0786737729653, 1.92946476381),
    (12, 40, 20, 41): (0.454555366769, 0.162647713933, 1.227046575625, 0.177765103484, 1.132455162088),
    (1, 9, 8, 9): (0.024465280012216, 0.000314965892121, 0.405419546977115, 0.000636424194732, 0.305610352882),
}


@pytest.mark.parametrize("counts", EXACT)
def test_the_conditional_odds_ratio_is_fishers(counts):
    exact, mid = odds_ratio(Tally(*counts)), odds_ratio(Tally(*counts), method="mid-p")
    found = [exact.estimate, exact.lower, exact.upper, mid.lower, mid.upper]
    np.testing.assert_allclose(found, EXACT[counts], rtol=1e-9)
    if counts == (3, 28, 6, 27):
        # R 4.2.2: fisher.test, whose root search stops at four digits
        np.testing.assert_allclose(found[:3], [0.426619512034, 0.0614765166662, 2.2938047105658], rtol=4e-4)
        p = [fisher(Tally(*counts), tail=tail) for tail in ("less", "greater")]
        np.testing.assert_allclose(p, [0.215817278336, 0.936694115623], rtol=1e-10)


# R 4.2.2, every table and a fine grid over the common risk, refined by optimize: Boschloo with Fisher's two-sided p
@pytest.mark.parametrize(
    ("counts", "boschloos", "barnards"),
    [
        ((0, 28, 3, 27), 0.104791089783, 0.0742119807728),
        ((3, 28, 6, 27), 0.280609972992, 0.280664464748),
        ((1, 9, 8, 9), 0.00131225585937, None),
        ((7, 12, 2, 13), 0.0297732837751, 0.0297732837751),
    ],
)
def test_unconditional_tests_agree_with_brute_force_and_scipy(counts, boschloos, barnards):
    x1, n1, x0, n0 = counts
    table = [[x1, x0], [n1 - x1, n0 - x0]]
    assert float(boschloo(Tally(*counts))) == pytest.approx(boschloos, rel=1e-8)
    if barnards is not None:
        assert float(barnard(Tally(*counts))) == pytest.approx(barnards, rel=1e-8)
    for tail in ("less", "greater"):
        expected = stats.boschloo_exact(table, alternative=tail).pvalue
        assert float(boschloo(Tally(*counts), tail=tail)) == pytest.approx(expected, rel=1e-7)
        expected = stats.barnard_exact(table, alternative=tail).pvalue
        assert float(barnard(Tally(*counts), tail=tail)) == pytest.approx(expected, rel=1e-7)


# R 4.2.2: Chan and Zhang's limits from every table's score at each difference, restricted likelihood by uniroot
@pytest.mark.parametrize(
    ("counts", "limits"),
    [
        ((0, 28, 3, 27), (-0.2935237434024, 0.0180609509723)),
        ((7, 12, 2, 13), (0.028477416208, 0.737037229202)),
        ((3, 10, 4, 9), (-0.560770000497, 0.314465715211)),
    ],
)
def test_exact_limits_of_a_difference_agree_with_brute_force(counts, limits):
    found = risk_difference(Tally(*counts), method="chan-zhang")
    np.testing.assert_allclose([found.lower, found.upper], limits, rtol=1e-7)


# R 4.2.2, restricted likelihoods by uniroot: score limits of the ratio, of the odds ratio, and Mee's of the difference
SCORES = {
    (3, 28, 6, 27): (0.140365322524, 1.6009153874, 0.101229134881, 1.77348982722, -0.320481063653, 0.0872408101336),
    (12, 40, 20, 41): (0.342936057601, 1.06865158755, 0.181486797259, 1.11681481341, -0.384719652222, 0.025200959079),
    (9, 10, 3, 10): (1.32795657348, 8.69191494902, 2.02158884836, 189.621819706, 0.182126499457, 0.83695033089),
}


@pytest.mark.parametrize("counts", SCORES)
def test_score_limits_agree_with_restricted_likelihoods(counts):
    table = Tally(*counts)
    found = [risk_ratio(table), odds_ratio(table, method="miettinen-nurminen"), risk_difference(table, method="mee")]
    np.testing.assert_allclose([limit for one in found for limit in (one.lower, one.upper)], SCORES[counts], rtol=1e-9)


@pytest.mark.parametrize("counts", TABLES)
def test_simple_intervals_agree_with_statsmodels(counts):
    for mine, theirs in (("wald", "wald"), ("agresti-caffo", "agresti-caffo")):
        expected = np.clip(confint_proportions_2indep(*counts, method=theirs, compare="diff"), -1, 1)
        found = risk_difference(Tally(*counts), method=mine)
        np.testing.assert_allclose([found.lower, found.upper], expected, atol=1e-12)
    x1, n1, x0, n0 = counts
    if 0 < x1 < n1 and 0 < x0 < n0:
        for found, compare in ((risk_ratio(Tally(*counts), method="log"), "ratio"),
                               (odds_ratio(Tally(*counts), method="log"), "odds-ratio")):  # fmt: skip
            theirs = "log" if compare == "ratio" else "logit"
            expected = confint_proportions_2indep(*counts, method=theirs, compare=compare)
            np.testing.assert_allclose([found.lower, found.upper], expected, rtol=1e-10)


# R 4.2.2: pbinom and uniroot (mid-p), qbeta (Jeffreys); at 0 and n Jeffreys' limit is set to 0 or 1 (Brown et al. 2001)
@pytest.mark.parametrize(
    ("events", "mid", "jeffreys"),
    [
        (3, (0.0279867662476, 0.264531268284), (0.0311165503915, 0.259070821391)),
        (0, (0, 0.101465735573), (0, 0.0850712000323)),
        (27, (0.836208554419, 0.998213633461), (0.844954588004, 0.996119072712)),
    ],
)
def test_mid_p_and_jeffreys_limits(events, mid, jeffreys):
    for method, expected in (("mid-p", mid), ("jeffreys", jeffreys)):
        found = proportion(np.array(events), np.array(28), method=method)
        np.testing.assert_allclose([found.lower, found.upper], expected, rtol=1e-9)
    found = proportion(np.array(events), np.array(28), method="agresti-coull")
    low, high = proportion_confint(events, 28, method="agresti_coull")  # statsmodels cuts it at 0 and 1
    np.testing.assert_allclose(np.clip([found.lower, found.upper], 0, 1), [low, high], atol=1e-12)


# SAS/STAT PROC FREQ, Cochran-Mantel-Haenszel example (migraine; active and placebo, better and same, by gender)
MIGRAINE = Tally(np.array([16, 12]), np.array([27, 28]), np.array([5, 7]), np.array([25, 26]))


def test_every_printed_digit_of_sas_migraine_example():
    cmh, odds = stratified.cochran_mantel_haenszel(MIGRAINE), stratified.common_odds_ratio(MIGRAINE)
    ratio, alike = stratified.common_ratio(MIGRAINE), stratified.breslow_day(MIGRAINE)
    same = Tally(*(MIGRAINE[1] - MIGRAINE[0], MIGRAINE[1], MIGRAINE[3] - MIGRAINE[2], MIGRAINE[3]))
    second = stratified.common_ratio(same)
    rounded = [
        round(float(value), 4) for one in (odds, ratio, second) for value in (one.estimate, one.lower, one.upper)
    ]
    assert rounded == [3.3132, 1.4456, 7.5934, 2.1636, 1.2336, 3.7948, 0.6420, 0.4705, 0.8761]
    assert (round(float(cmh.statistic), 4), round(float(cmh.p), 4)) == (8.3052, 0.0040)
    assert (round(float(alike.statistic), 4), round(float(alike.p), 4)) == (1.4929, 0.2218)


# Four strata with an empty cell. R 4.2.2: mantelhaen.test; epiR 2.0.57 epi.2by2; otherwise the formulas written out in R
STRATA = Tally(np.array([12, 5, 20, 0]), np.array([30, 14, 41, 6]), np.array([6, 7, 11, 2]), np.array([28, 16, 38, 7]))


def limits(found):
    return found.estimate, found.lower, found.upper


def test_mantel_haenszel_is_rs():
    odds, ratio = stratified.common_odds_ratio(STRATA), stratified.common_ratio(STRATA)
    np.testing.assert_allclose(limits(odds), [1.65025520108, 0.887818931331, 3.06745230654], rtol=1e-10)
    np.testing.assert_allclose(limits(ratio), [1.39055146144, 0.918507628197, 2.1051903191], rtol=1e-10)
    plain, corrected = (stratified.cochran_mantel_haenszel(STRATA, correct=correct) for correct in (False, True))
    np.testing.assert_allclose([plain.statistic, plain.p], [2.52161348537, 0.112295631971], rtol=1e-10)
    np.testing.assert_allclose([corrected.statistic, corrected.p], [2.0494822141, 0.152257964197], rtol=1e-10)


def test_common_differences_are_epirs_and_the_published_formulas():
    sato, wald = (stratified.common_difference(STRATA, method=method) for method in ("sato", "wald"))
    # epiR: ARisk.mh.sato and ARisk.mh.green (per 100)
    np.testing.assert_allclose(limits(sato), [0.113090798947, -0.0253325859903, 0.251514183883], rtol=1e-10)
    np.testing.assert_allclose(limits(wald), [0.113090798947, -0.0213818360821, 0.247563433975], rtol=1e-10)
    score, own = (
        stratified.common_difference(STRATA, weights=weights) for weights in ("mantel-haenszel", "miettinen-nurminen")
    )
    expected = [0.113090798947, -0.0264078448251, 0.249342950397, 1.58795890544, 0.112295631971]
    np.testing.assert_allclose([*limits(score), score.statistic, score.p], expected, rtol=1e-9)
    expected = [0.113585395852, -0.0265170799883, 0.250356561509, 1.58795890544, 0.112295631971]
    np.testing.assert_allclose([*limits(own), own.statistic, own.p], expected, rtol=1e-9)
    joined = stratified.common_difference(STRATA, method="newcombe")
    np.testing.assert_allclose(limits(joined)[1:], [-0.0260120506274, 0.246022409548], rtol=1e-10)
    summary = stratified.common_difference(STRATA, method="summary score")
    expected = [0.101465446466, 0.067971168286, -0.0317555953619, 0.234686488294]
    np.testing.assert_allclose([summary.estimate, summary.se, summary.lower, summary.upper], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (stratified.differences_alike, [7.41079961834, 3, 0.0598952352707]),
        (stratified.ratios_alike, [2.17818093669, 2, 0.33652243236]),
        # also epiR's epi.2by2: 5.33495, p 0.1488506
        (stratified.breslow_day, [5.33494956286, 3, 0.14885057558]),
        (lambda counts: stratified.breslow_day(counts, tarone=True), [5.33394822322, 3, 0.14891464863]),
    ],
)
def test_homogeneity_tests(test, expected):
    found = test(STRATA)
    np.testing.assert_allclose([found.statistic, found.df, found.p], expected, rtol=1e-9)


def test_fishers_mid_p_takes_half_of_what_was_seen():
    for counts in TABLES:
        x1, n1, x0, n0 = counts
        seen = stats.hypergeom.pmf(x1, n1 + n0, x1 + x0, n1)
        assert float(fisher(Tally(*counts), mid_p=True)) == pytest.approx(float(fisher(Tally(*counts))) - seen / 2)

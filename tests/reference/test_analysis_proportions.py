"""Proportions against Newcombe 1998 (Table II), statsmodels 0.15, SciPy 1.17 and a brute-force restricted likelihood."""

import numpy as np
import pytest
from scipy import optimize, special, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from quell.analysis.proportions import Tally, fisher, proportion, risk_difference, risk_ratio, tally

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

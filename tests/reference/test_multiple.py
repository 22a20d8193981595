"""Multiple testing against R 4.2.2's p.adjust, mvtnorm and multcomp, and the worked graphs of Bretz et al."""

import numpy as np
import pytest

from quell.analysis import dunnett, graphical, multiple

# R 4.2.2: p.adjust(p, method)
P = [0.0004, 0.013, 0.021, 0.0105, 0.33, 0.047, 0.0009]
ADJUSTED = {
    "bonferroni": [0.0028, 0.091, 0.147, 0.0735, 1, 0.329, 0.0063],
    "holm": [0.0028, 0.0525, 0.063, 0.0525, 0.33, 0.094, 0.0054],
    "hochberg": [0.0028, 0.052, 0.063, 0.052, 0.33, 0.094, 0.0054],
    "hommel": [0.0028, 0.042, 0.063, 0.042, 0.33, 0.094, 0.0054],
    "benjamini_hochberg": [0.0028, 0.02275, 0.0294, 0.02275, 0.33, 0.0548333333333333, 0.00315],
    "benjamini_yekutieli": [0.00726, 0.0589875, 0.07623, 0.0589875, 0.855642857142857, 0.142175, 0.0081675],
}


@pytest.mark.parametrize("rule", ADJUSTED)
def test_p_adjust_of_r(rule):
    np.testing.assert_allclose(getattr(multiple, rule)(P), ADJUSTED[rule], rtol=1e-12)


def test_p_adjust_of_r_with_near_ties_and_a_missing_p():
    close = [0.02, 0.021, 0.022, 0.03, 0.9]
    np.testing.assert_allclose(multiple.hochberg(close), [0.06, 0.06, 0.06, 0.06, 0.9], rtol=1e-12)
    np.testing.assert_allclose(multiple.hommel(close), [0.045, 0.045, 0.045, 0.06, 0.9], rtol=1e-12)
    holed = [0.02, np.nan, 0.022, 0.03, 0.9]
    np.testing.assert_allclose(multiple.holm(holed), [0.08, np.nan, 0.08, 0.08, 0.9], rtol=1e-12)
    np.testing.assert_allclose(multiple.hommel(holed), [0.045, np.nan, 0.045, 0.06, 0.9], rtol=1e-12)
    np.testing.assert_allclose(multiple.benjamini_hochberg(holed), [0.04, np.nan, 0.04, 0.04, 0.9], rtol=1e-12)


# mvtnorm: 1 - pmvt of the maximum, sizes 20, 15 and 25 against 30; TVPACK for df infinite one-sided, GenzBretz otherwise
def test_dunnett_of_mvtnorm():
    t, sizes = [2.1, 2.6, 1.4], [20, 15, 25]
    cases = [
        (np.inf, "greater", [0.048051560385, 0.0132030280334, 0.192082038082], 1e-9),
        (np.inf, "two-sided", [0.0960513401315, 0.026405261536, 0.379061042057], 3e-7),
        (86, "greater", [0.0514623720872, 0.0153638444326, 0.195171594177], 1e-6),
        (86, "two-sided", [0.102822704085, 0.0307243935257, 0.384302286946], 3e-7),
    ]
    for df, alternative, expected, error in cases:
        found = dunnett.dunnett(t, sizes, 30, df=df, alternative=alternative, step_down=False)
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=error)


def test_dunnett_of_multcomp():
    # R: glht(lm(y ~ g), mcp(g = "Dunnett")), 6, 4, 5 and 5 a group; error of its integral reported as 5e-4
    found = dunnett.dunnett([1.62146340848, 2.13849871213, 2.29928808898], [4, 5, 5], 6, df=16, step_down=False)
    np.testing.assert_allclose(found, [0.288851174145, 0.120931973902, 0.089919652522], atol=5e-4)
    step_down = dunnett.dunnett([1.62146340848, 2.13849871213, 2.29928808898], [4, 5, 5], 6, df=16)
    # adjusted("free"): the last step is the t test alone
    np.testing.assert_allclose(step_down[0], 0.1244556478983, rtol=1e-7)
    np.testing.assert_allclose(step_down[1:], [0.0900695114821, 0.0900695114821], atol=5e-4)


# Dunnett (1964), table of the two-sided 5 % points, equal groups, infinite degrees: 2.21, 2.35, 2.44 for 2, 3, 4 treatments
@pytest.mark.parametrize(("arms", "limit"), [(1, 1.96), (2, 2.21), (3, 2.35), (4, 2.44)])
def test_table_of_dunnett(arms, limit):
    assert abs(dunnett.dunnett_limit(np.ones(arms), 1) - limit) < 6e-3


def updated(graph, nodes):
    for node in nodes:
        graph = graph.without(node)
    return graph


def test_parallel_gatekeeping():
    # Bretz et al. (2009), section 3: two primary hypotheses with half of alpha each, two secondary; after H1 the secondary
    # ones have a quarter each, after H2 as well a half each, and then Holm
    gate = graphical.parallel_gatekeeping_graph(2, 2)
    np.testing.assert_allclose(gate.without(0).weights, [0, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(updated(gate, [0, 1]).weights, [0, 0, 0.5, 0.5])
    np.testing.assert_allclose(updated(gate, [0, 2]).weights, [0, 0.5, 0, 0.5])
    np.testing.assert_allclose(updated(gate, [0, 2]).transitions[1], [0, 0, 0, 1])
    # p of gMCP's own unit test, by hand: H1 and H2 at 0.01 / 0.5; then Holm on 0.03 and 0.04
    np.testing.assert_allclose(graphical.adjusted([0.01, 0.01, 0.03, 0.04], gate), [0.02, 0.02, 0.06, 0.06])


def test_two_doses_and_two_endpoints():
    # Bretz et al. (2011, doi:10.1002/bimj.201000239), the diabetes example: H1, H2 primary at two doses (half of alpha each),
    # each hands half to the other dose and half to its own secondary hypothesis, H3 or H4, which hands on to the other
    # dose's primary
    graph = graphical.graph([0.5, 0.5, 0, 0], [[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]])
    one = graph.without(0)
    np.testing.assert_allclose(one.weights, [0, 0.75, 0.25, 0])
    # by the updating rule: g24 = (0.5 + 0.5 x 0) / (1 - 0.25), g23 = 0.25 / 0.75, g42 = g43 = 0.5
    np.testing.assert_allclose(
        one.transitions, [[0] * 4, [0, 0, 1 / 3, 2 / 3], [0, 1, 0, 0], [0, 0.5, 0.5, 0]], atol=1e-15
    )
    found = graphical.adjusted([0.01, 0.005, 0.03, 0.04], graph)
    # H2 at 0.005 / 0.5; then H1 at 0.01 / 0.75 = 0.0133; then H3 and H4 with half each
    np.testing.assert_allclose(found, [0.01 / 0.75, 0.01, 0.06, 0.06], rtol=1e-12)


def test_fallback_and_fixed_sequence_by_hand():
    # Wiens and Dmitrienko (2005): H1 at 0.5; fails at alpha 0.025, so that H2 keeps its quarter, H3 gets both
    found = multiple.fallback([0.02, 0.005, 0.01], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(found, [0.04, 0.02, 0.02])
    np.testing.assert_allclose(multiple.fixed_sequence([0.01, np.nan, 0.001]), [0.01, np.nan, 1.0])


def test_intervals_of_bonferroni():
    # R: qnorm(1 - 0.05 / 6) = 2.3939798; qt(1 - 0.05 / 6, 20) = 2.61258542303
    found = multiple.bonferroni_intervals(np.array([1.0, 2.0, 0.5]), 0.5)
    np.testing.assert_allclose(found.upper - found.estimate, np.full(3, 2.39397979) * 0.5, rtol=1e-8)
    found = multiple.bonferroni_intervals(np.array([1.0, 2.0, 0.5]), 0.5, df=20)
    np.testing.assert_allclose(found.estimate - found.lower, np.full(3, 2.61258542303) * 0.5, rtol=1e-9)


def test_lower_limits_of_holm():
    # Strassburger and Bretz (2008): of z 3, 2.2 and 1 at 0.025, Holm rejects the first (0.025 / 3) but not 2.2 at 0.0125
    found = multiple.holm_lower_limits(np.array([3.0, 2.2, 1.0]), 1.0)
    np.testing.assert_allclose(found, [0.0, 2.2 - 2.2414027276, 1.0 - 2.2414027276], rtol=1e-8)
    # all rejected: the larger of 0 and the limit at 0.025 / 3
    found = multiple.holm_lower_limits(np.array([3.0, 2.8, 2.3]), 1.0)
    np.testing.assert_allclose(found, [3.0 - 2.3939797998, 2.8 - 2.3939797998, 0.0], rtol=1e-8)

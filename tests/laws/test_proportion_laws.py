"""What must hold of every comparison of proportions: symmetry, coherence of interval and test, batches, empty cells."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import stratified_proportions as stratified
from quell.analysis.claim import Caution, claim_from
from quell.analysis.counts import stratified_tally
from quell.analysis.exact_proportions import barnard, boschloo, fisher
from quell.analysis.proportions import (
    DIFFERENCES,
    ONE_SAMPLE,
    Tally,
    number_needed,
    odds_ratio,
    proportion,
    risk_difference,
    risk_ratio,
    tally,
)
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import seeds


def swapped(t):
    return Tally(t.events_control, t.n_control, t.events_active, t.n_active)


def asked(estimator):
    """An estimator of the counts, whichever arm is called active."""
    return lambda t, contrast: estimator(t if contrast == (1, 0) else swapped(t))


# name: (estimator of (counts, contrast), scale)
ESTIMATORS = {
    **{f"difference, {m}": (asked(lambda t, m=m: risk_difference(t, method=m)), "difference") for m in DIFFERENCES},
    **{f"ratio, {m}": (asked(lambda t, m=m: risk_ratio(t, method=m)), "ratio") for m in ("miettinen-nurminen", "log")},
    **{f"odds ratio, {m}": (asked(lambda t, m=m: odds_ratio(t, method=m)), "ratio")
       for m in ("exact", "mid-p", "miettinen-nurminen", "log")},
    **{f"difference, {test}": (asked(lambda t, test=test: risk_difference(t, test=test)), "difference")
       for test in ("pearson", "mid-p", "barnard", "boschloo")},
}  # fmt: skip
WITHIN = {
    **{f"common difference, {m}": (asked(lambda t, m=m: stratified.common_difference(t, method=m)), "difference")
       for m in ("miettinen-nurminen", "sato", "newcombe", "summary score", "wald")},
    "common difference, miettinen-nurminen weights": (
        asked(lambda t: stratified.common_difference(t, weights="miettinen-nurminen")), "difference"),
    "common ratio": (asked(stratified.common_ratio), "ratio"),
    "common odds ratio": (asked(stratified.common_odds_ratio), "ratio"),
    "CMH": (asked(stratified.cochran_mantel_haenszel), "test"),
    "Breslow-Day": (asked(stratified.breslow_day), "test"),
    "alike": (asked(stratified.differences_alike), "test"),
}  # fmt: skip
each = pytest.mark.parametrize("name", ESTIMATORS)

TABLES = Tally(*(np.array(column) for column in zip(
    *[(0, 6, 3, 7), (3, 9, 3, 9), (7, 7, 2, 8), (1, 8, 6, 9), (0, 5, 0, 6), (5, 5, 6, 6), (4, 10, 0, 9), (9, 30, 15, 28)],
    strict=True,
)))  # fmt: skip


def failures(t):
    return Tally(t.n_active - t.events_active, t.n_active, t.n_control - t.events_control, t.n_control)


close = functools.partial(laws.close, rtol=1e-7, atol=1e-9)


def strata(seed, trials=()):
    draw = np.random.default_rng(seed)
    n1, n0 = draw.integers(0, 15, (*trials, 4)), draw.integers(1, 15, (*trials, 4))
    risk = draw.uniform(0, 0.9, (*trials, 4))
    return Tally(draw.binomial(n1, risk), n1, draw.binomial(n0, risk), n0)


siblings = laws.Siblings(ESTIMATORS, lambda seed, trials=(): TABLES, 1e-7, 1e-9)
within = laws.Siblings(WITHIN, strata, 1e-7, 1e-9)


@each
def test_swapping_the_arms_flips_the_sign_and_nothing_else(name):
    estimator, scale = ESTIMATORS[name]
    laws.turned_round(siblings, scale, estimator(TABLES, (1, 0)), estimator(TABLES, (0, 1)))


@each
def test_counting_failures_instead_turns_the_difference_and_the_odds_round(name):
    estimator, scale = ESTIMATORS[name]
    if name.startswith("ratio"):
        pytest.skip("a risk ratio is not symmetric in what is counted")
    one, other = estimator(TABLES, (1, 0)), estimator(failures(TABLES), (1, 0))
    close([other.estimate, other.lower, other.upper], laws.turned(scale, one))
    close([other.se, other.p], [one.se, one.p])


@each
def test_a_batch_is_its_trials_one_by_one_and_limits_are_in_order(name):
    estimator, _ = ESTIMATORS[name]
    laws.one_by_one(siblings, name, TABLES, (8,))
    whole = estimator(TABLES, (1, 0))
    for k in range(8):
        assert claim_from(whole.row(k), name=name, method=name).n == TABLES.n[k]
    known = np.isfinite(whole.estimate)
    assert np.all(whole.lower[known] <= whole.estimate[known] + 1e-12)
    assert np.all(whole.estimate[known] <= whole.upper[known] + 1e-12)


@each
def test_an_empty_arm_and_an_empty_batch(name):
    estimator, _ = ESTIMATORS[name]
    nobody = estimator(Tally(np.array(0), np.array(0), np.array(2), np.array(5)), (1, 0))
    assert np.isnan(nobody.estimate) and np.isnan(nobody.p) and nobody.warnings & Caution.EMPTY_ARM
    assert estimator(Tally(*(np.zeros(0, int) for _ in range(4))), (1, 0)).p.shape == (0,)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_score_interval_and_its_test_agree(n1, n0, share1, share0, level):
    counts = Tally(round(share1 * n1), n1, round(share0 * n0), n0)
    for estimator, null in ((risk_difference, 0.0), (risk_ratio, 1.0)):
        result = estimator(counts, level=level)
        if abs(float(result.p) - (1 - level)) > 1e-9:
            assert (result.p < 1 - level) == (result.lower > null or result.upper < null)
    odds = odds_ratio(counts, level=level, method="miettinen-nurminen", test="score")
    if abs(float(odds.p) - (1 - level)) > 1e-9:
        assert (odds.p < 1 - level) == (odds.lower > 1 or odds.upper < 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 80), st.floats(0, 1), st.sampled_from([0.5, 0.95, 0.999]))
def test_exact_limits_hold_the_other_kinds(n, share, level):
    x = np.array(round(share * n))
    exact = proportion(x, np.array(n), level=level, method="clopper-pearson")
    for method in ONE_SAMPLE:
        result = proportion(x, np.array(n), level=level, method=method)
        assert result.lower <= result.estimate + 1e-12 and result.estimate <= result.upper + 1e-12
    mid = proportion(x, np.array(n), level=level, method="mid-p")
    assert exact.lower <= mid.lower + 1e-12 and mid.upper <= exact.upper + 1e-12


def test_exact_tests_keep_their_size_and_boschloo_is_never_above_fisher():
    n1, n0 = 7, 8
    x1, x0 = (grid.ravel() for grid in np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1)))
    every = Tally(x1, np.full(x1.shape, n1), x0, np.full(x1.shape, n0))
    assert np.all(boschloo(every) <= fisher(every) + 1e-12)
    from scipy import stats

    for test, risk in itertools.product((boschloo, barnard, fisher), (0.05, 0.3, 0.5)):
        chance = stats.binom.pmf(x1, n1, risk) * stats.binom.pmf(x0, n0, risk)
        for alpha in (0.01, 0.05, 0.2):
            assert chance[test(every) <= alpha].sum() <= alpha + 1e-9


def test_the_exact_interval_of_a_difference_covers():
    from scipy import stats

    n1, n0 = 5, 4
    x1, x0 = (grid.ravel() for grid in np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1)))
    result = risk_difference(
        Tally(x1, np.full(x1.shape, n1), x0, np.full(x1.shape, n0)), method="chan-zhang", level=0.9
    )
    for risk1, risk0 in itertools.product((0.1, 0.5, 0.8), (0.05, 0.4, 0.9)):
        inside = (result.lower <= risk1 - risk0) & (risk1 - risk0 <= result.upper)
        chance = stats.binom.pmf(x1, n1, risk1) * stats.binom.pmf(x0, n0, risk0)
        assert chance[inside].sum() >= 0.9 - 1e-9


def test_numbers_needed_go_through_infinity_where_nothing_is_shown():
    clear = number_needed(risk_difference(Tally(30, 100, 50, 100)))
    assert not clear.through_infinity and clear.lower < clear.estimate < clear.upper < 0
    unclear = number_needed(risk_difference(Tally(30, 100, 35, 100)))
    assert unclear.through_infinity and unclear.lower < 0 < unclear.upper and unclear.estimate < unclear.lower


test_swapping_the_arms_of_every_stratum_flips_the_sign = laws.swap(within, 8)
test_the_order_of_the_strata_means_nothing = laws.order(within, 8)
test_stratified_trials_as_a_batch_are_each_alone = laws.batch(within, 8, (3,))


def degenerate():
    yield "no events", Tally(np.array([0, 0]), np.array([5, 6]), np.array([0, 0]), np.array([4, 7]))
    yield "all events", Tally(np.array([5, 6]), np.array([5, 6]), np.array([4, 7]), np.array([4, 7]))
    yield "events in one arm", Tally(np.array([0, 0]), np.array([5, 6]), np.array([2, 3]), np.array([4, 7]))
    yield "a stratum of one arm", Tally(np.array([2, 1]), np.array([6, 1]), np.array([2, 0]), np.array([4, 0]))
    yield "nobody", Tally(np.array([0, 0]), np.array([0, 0]), np.array([0, 0]), np.array([0, 0]))
    yield "one stratum", Tally(np.array([1]), np.array([5]), np.array([3]), np.array([4]))


test_degenerate_strata_give_an_answer_or_a_doubt = laws.degenerate(within, degenerate())


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_one_stratum_is_no_stratum_and_its_score_test_is_cochrans(seed):
    draw = np.random.default_rng(seed)
    n1, n0 = draw.integers(5, 40, 2)
    counts = Tally(draw.binomial(n1, 0.4), n1, draw.binomial(n0, 0.5), n0)
    lone = Tally(*(np.array([field]) for field in counts[:4]))
    plain, one = risk_difference(counts), stratified.common_difference(lone)
    close([one.estimate, one.lower, one.upper, one.p], [plain.estimate, plain.lower, plain.upper, plain.p])
    joined = stratified.common_difference(lone, method="newcombe")
    newcombe = risk_difference(counts, method="newcombe")
    close([joined.lower, joined.upper], [newcombe.lower, newcombe.upper])
    many = strata(seed)
    score, cmh = stratified.common_difference(many), stratified.cochran_mantel_haenszel(many)
    close([score.statistic**2, score.p], [cmh.statistic, cmh.p])


def test_people_make_the_tables_of_their_strata():
    draw = np.random.default_rng(3)
    happened, arm, site = draw.random((2, 40)) < 0.4, draw.integers(0, 3, (2, 40)), draw.integers(-1, 3, (2, 40))
    counts = stratified_tally(happened, arm, site, contrast=(2, 0))
    assert np.asarray(counts.n_active).shape == (2, 3)
    for code in range(3):
        one = tally(happened, arm, contrast=(2, 0), include=site == code)
        for mine, whole in zip(one[:4], counts[:4], strict=True):
            np.testing.assert_array_equal(mine, np.asarray(whole)[:, code])
    assert np.all(np.asarray(counts.warnings) == int(Caution.MISSING))


ASKED = [
    (lambda: proportion(np.array(1), np.array(3), method="exact"), "'wilson', 'clopper-pearson'"),
    (lambda: risk_difference(Tally(1, 5, 2, 5), method="best"), "'miettinen-nurminen', .* or 'chan-zhang'"),
    (lambda: risk_difference(Tally(1, 5, 2, 5), test="best"), "'score', 'pearson', .* or 'boschloo'"),
    (lambda: risk_ratio(Tally(1, 5, 2, 5), method="best"), "'miettinen-nurminen' or 'log'"),
    (lambda: odds_ratio(Tally(1, 5, 2, 5), method="best"), "'exact', 'mid-p'"),
    (lambda: fisher(Tally(1, 5, 2, 5), tail="both"), "'two-sided', 'less' or 'greater'"),
    (lambda: stratified.common_difference(strata(1), weights="none"), "'mantel-haenszel' or 'miettinen-nurminen'"),
    (lambda: stratified.common_difference(strata(1), method="none"), "'sato', 'newcombe'"),
    (lambda: stratified.common_ratio(Tally(1, 5, 2, 5)), "last axis of the counts"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(ASKED)

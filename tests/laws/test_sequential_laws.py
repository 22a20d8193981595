"""Laws of group-sequential tests: error is what was promised, a batch is a loop, symmetry, and mistakes get a sentence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from quell.analysis import combination, interim, sequential, spending, stopped
from quell.analysis.claim import Caution, ClaimError, claim_from
from quell.analysis.planned_test import NormalTest
from quell.analysis.sequential_size import sequential_power, sequential_size

FOUR = np.array([0.3, 0.55, 0.8, 1.0])
DESIGN = sequential.by_spending(FOUR, sequential.spending("obrien-fleming", 0.025))
SPENDINGS = {
    "obrien-fleming": None,
    "pocock": None,
    "kim-demets": 3,
    "hwang-shih-decani": 2,
    "exponential": 0.75,
    "xi-gallo": 0.5,
    "logistic": (1.0, 1.5),
    "normal": (0.5, 1.0),
    "cauchy": (0.2, 1.2),
    "at-end": None,
}
looks = (
    st.lists(st.floats(0.02, 1.0), min_size=1, max_size=5, unique=True)
    .map(sorted)
    .filter(lambda x: np.all(np.diff([0.0, *x]) > 0.005))
)


@settings(max_examples=25)
@given(looks, st.sampled_from(sorted(SPENDINGS)), st.booleans(), st.sampled_from([0.005, 0.025, 0.1]))
def test_error_spent_is_the_error_promised(times, kind, two_sided, alpha):
    spend = sequential.spending(kind, alpha, SPENDINGS[kind])
    design = sequential.by_spending(np.array(times) / times[-1], spend, two_sided_test=two_sided)
    crossed = design.crossing()
    np.testing.assert_allclose(crossed.upper.cumsum(), design.spent, atol=1e-11)
    np.testing.assert_allclose(design.spent[-1], alpha, rtol=1e-12)
    assert np.all(np.isfinite(design.upper) | (np.diff(design.spent, prepend=0.0) < 1e-300))
    if two_sided:
        np.testing.assert_allclose(crossed.lower, crossed.upper, atol=1e-12)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock", "kim-demets", "hwang-shih-decani"])
@pytest.mark.parametrize("looks", [[0.13, 0.4, 0.42, 1.0], [0.5, 0.501, 1.0], [1.0]])
def test_futility_keeps_both_errors(kind, looks):
    spend = lambda error: sequential.spending(kind, error, SPENDINGS[kind])  # noqa: E731
    design = sequential.by_spending(np.array(looks), spend(0.025))
    binding, drift = sequential.with_futility(design, spend(0.1), binding=True)
    assert abs(binding.crossing().power - 0.025) < 1e-10
    assert abs(binding.crossing(drift).power - 0.9) < 1e-9
    assert np.all(binding.upper <= design.upper + 1e-12)
    free, _ = sequential.with_futility(design, spend(0.1))
    np.testing.assert_array_equal(free.upper, design.upper)
    assert sequential.crossing(*free[:3]).power <= 0.025 + 1e-12
    np.testing.assert_allclose(sequential.needed_drift(free, 0.9) ** 2, _**2, rtol=1e-9)


def test_many_drifts_are_each_drift_alone():
    drifts = np.array([[-40.0, -3.0, 0.0], [2.5, 6.0, 90.0]])
    together = DESIGN.crossing(drifts)
    for where in np.ndindex(drifts.shape):
        alone = DESIGN.crossing(float(drifts[where]))
        np.testing.assert_allclose(together.upper[where], alone.upper, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(together.lower[where], alone.lower, rtol=1e-9, atol=1e-15)
    assert together.upper.shape == (2, 3, 4) and together.power.shape == (2, 3)
    assert DESIGN.crossing(np.zeros((0,))).upper.shape == (0, 4)


def test_signs_may_be_swapped():
    lower, upper = np.array([-2.0, -1.0, 0.2, 1.5]), np.array([3.0, 2.5, 2.2, 2.0])
    one, other = sequential.crossing(FOUR, lower, upper, 1.3), sequential.crossing(FOUR, -upper, -lower, -1.3)
    np.testing.assert_allclose(one.upper, other.lower, rtol=1e-10)
    np.testing.assert_allclose(one.lower, other.upper, rtol=1e-10)


def test_information_in_another_unit_changes_nothing():
    design = sequential.by_shape(FOUR * 400, 0.025)
    np.testing.assert_allclose(design.upper, sequential.by_shape(FOUR, 0.025).upper, rtol=1e-11)


def test_looks_very_close_together_are_one_look():
    close = sequential.crossing(np.array([0.5, 0.500001, 1.0]), np.full(3, -np.inf), np.array([2.5, 2.5, 2.0]))
    once = sequential.crossing(np.array([0.5, 1.0]), np.full(2, -np.inf), np.array([2.5, 2.0]))
    np.testing.assert_allclose(close.power, once.power, atol=2e-5)


def test_a_look_without_a_test_leaves_its_error_to_the_next():
    spend = sequential.spending("pocock", 0.025)
    skipped = sequential.by_spending(FOUR, spend, tested=np.array([False, True, True, True]))
    assert np.isinf(skipped.upper[0])
    np.testing.assert_allclose(skipped.upper[1:], sequential.by_spending(FOUR[1:], spend).upper, rtol=1e-11)


# -- looks as they happened --------------------------------------------------------------------------------------------
def test_as_planned_nothing_changes():
    spend = sequential.spending("obrien-fleming", 0.025)
    again = sequential.retimed(FOUR * 300, spend, maximum=300, past=DESIGN.upper[:2])
    np.testing.assert_allclose(again.upper, DESIGN.upper, rtol=1e-10)


@pytest.mark.parametrize("final", [160.0, 200.0, 260.0])
@pytest.mark.parametrize("two_sided", [False, True])
def test_re_timed_looks_spend_all_of_the_error_and_keep_the_past(final, two_sided):
    spend = sequential.spending("obrien-fleming", 0.025)
    past = sequential.retimed(np.array([90.0, 140.0, 200.0]), spend, maximum=200, two_sided_test=two_sided).upper[:2]
    actual = np.array([90.0, 140.0, final])
    design = sequential.retimed(actual, spend, maximum=200, past=past, two_sided_test=two_sided)
    np.testing.assert_array_equal(design.upper[:2], past)
    np.testing.assert_allclose(design.crossing().power, 0.025, rtol=1e-10)
    np.testing.assert_allclose(design.information, actual / final)


def test_past_limits_at_other_information_than_planned():
    # the first limit was used at 120 events, later found to be 100: the error it spent is counted at 100
    spend = sequential.spending("pocock", 0.025)
    design = sequential.retimed(np.array([100.0, 200.0]), spend, maximum=200, past=np.array([2.5]))
    np.testing.assert_allclose(design.crossing().upper.cumsum(), design.spent, rtol=1e-10)
    np.testing.assert_allclose(design.spent[-1], 0.025)
    with pytest.raises(ClaimError, match="nothing is left"):
        sequential.retimed(np.array([100.0, 200.0]), spend, maximum=200, past=np.array([1.5]))


def test_the_spending_clock_may_be_the_calendar():
    spend = sequential.spending("kim-demets", 0.025, 2)
    design = sequential.by_spending(np.array([0.3, 0.9, 1.0]), spend, spend_at=np.array([1 / 3, 2 / 3, 1.0]))
    np.testing.assert_allclose(design.spent, 0.025 * np.array([1 / 9, 4 / 9, 1.0]))


# -- after a stop ------------------------------------------------------------------------------------------------------
def test_a_batch_of_stopped_trials_is_each_trial_alone():
    draw = np.random.default_rng(5)
    look = draw.integers(0, 4, 1200)
    z = draw.normal(2.2, 1.0, 1200)
    together = stopped.final_estimate(z, look, DESIGN, se=0.3, n=100)
    for k in range(0, 1200, 97):
        alone = stopped.final_estimate(z[k], look[k], DESIGN, se=0.3, n=100)
        for field in ("estimate", "lower", "upper", "p"):
            np.testing.assert_allclose(getattr(together, field)[k], getattr(alone, field), rtol=1e-9, atol=1e-11)
    assert np.all((together.lower < together.estimate) & (together.estimate < together.upper))


@pytest.mark.parametrize("ordering", ["stage-wise", "mean", "likelihood-ratio"])
def test_limits_are_where_the_p_says(ordering):
    z, look = np.array([4.1, 2.9, 2.4, 1.1, -0.8]), np.array([0, 1, 2, 3, 3])
    found = stopped.final_estimate(z, look, DESIGN, se=np.sqrt(1 / DESIGN.information[look]), ordering=ordering)
    for chance, drift in ((0.025, found.lower), (0.5, found.estimate), (0.975, found.upper)):
        at = stopped.stagewise_p(z, look, DESIGN, drift, ordering=ordering)
        np.testing.assert_allclose(at, chance, rtol=1e-8)
    np.testing.assert_allclose(
        found.p, 2 * np.minimum(q := stopped.stagewise_p(z, look, DESIGN, ordering=ordering), 1 - q)
    )


@pytest.mark.parametrize("ordering", ["stage-wise", "mean", "likelihood-ratio"])
@pytest.mark.parametrize("truth", [0.0, 2.0, 3.5])
def test_intervals_cover_and_the_estimate_is_median_unbiased(ordering, truth):
    trials, draw = 6000, np.random.default_rng(3)
    steps = draw.normal(size=(trials, 4)) * np.sqrt(np.diff(FOUR, prepend=0)) + truth * np.diff(FOUR, prepend=0)
    z = steps.cumsum(1) / np.sqrt(FOUR)
    crossed = z >= DESIGN.upper
    crossed[:, -1] = True
    look = crossed.argmax(1)
    chance = stopped.stagewise_p(z[np.arange(trials), look], look, DESIGN, truth, ordering=ordering)
    # at the truth the chance is uniform: all of calibration at once
    for at in (0.025, 0.5, 0.975):
        assert abs(np.mean(chance <= at) - at) < 4 * np.sqrt(at * (1 - at) / trials)


def test_changing_the_sign_of_a_two_sided_trial_changes_the_sign_of_its_claim():
    design = sequential.by_shape(FOUR, 0.025, shape="pocock", two_sided_test=True)
    z, look = np.array([2.9, 2.4, 1.0]), np.array([1, 2, 3])
    one, other = (stopped.final_estimate(sign * z, look, design, se=0.2) for sign in (1, -1))
    np.testing.assert_allclose(one.estimate, -other.estimate, rtol=1e-8)
    np.testing.assert_allclose(one.lower, -other.upper, rtol=1e-8)
    np.testing.assert_allclose(one.p, other.p, rtol=1e-8)


def test_trials_that_did_not_stop_or_are_missing_stay_missing():
    z, look = np.array([2.5, np.nan, 3.0]), np.array([3, 2, -1])
    found = stopped.final_estimate(z, look, DESIGN, se=np.array([0.1, 0.1, 0.1]), n=10)
    assert np.isfinite(found.estimate[0]) and np.isnan(found.estimate[1:]).all() and np.isnan(found.p[1:]).all()
    assert found.warnings.tolist() == [0, int(Caution.NOT_ESTIMABLE), int(Caution.NOT_ESTIMABLE)]
    assert claim_from(found.row(0), name="effect", method="stage-wise ordering").p is not None
    assert stopped.final_estimate(np.zeros(0), np.zeros(0, int), DESIGN, se=np.zeros(0)).estimate.shape == (0,)
    assert np.isnan(stopped.bias_adjusted(z, look, DESIGN, se=0.1)).tolist() == [False, True, True]
    assert np.isnan(stopped.repeated_interval(z * 0.1, 0.1, look, DESIGN).lower).tolist() == [False, True, True]


def test_extreme_results_have_limits_too():
    # at the first look, and far below any crossing, as a fixed test; far above, as the crossings ranked above it allow
    z, look = np.array([50.0, -50.0, 30.0, 38.0]), np.array([0, 3, 1, 2])
    found = stopped.final_estimate(z, look, DESIGN, se=np.sqrt(1 / FOUR[look]))
    half = special.ndtri(0.975)
    np.testing.assert_allclose(found.estimate[:2], z[:2] / np.sqrt(FOUR[look[:2]]), rtol=1e-9)
    np.testing.assert_allclose(found.lower[:2], (z[:2] - half) / np.sqrt(FOUR[look[:2]]), rtol=1e-9)
    at = stopped.stagewise_p(z[2:], look[2:], DESIGN, found.estimate[2:])
    np.testing.assert_allclose(at, 0.5, rtol=1e-8)


def test_no_lower_limit_is_never_crossed():
    assert not DESIGN.crossing(np.array([-1e4, -60.0, 0.0, 60.0])).lower.any()


def test_the_bias_adjusted_effect_lies_below_an_early_large_one():
    found = stopped.bias_adjusted(np.array([4.2, 3.0]), np.array([0, 1]), DESIGN, se=0.1)
    assert np.all(found < np.array([0.42, 0.3])) and np.all(found > 0)
    drift = found / 0.1 / np.sqrt(FOUR[:2])
    np.testing.assert_allclose(
        drift + stopped.mean_bias(drift, DESIGN), np.array([4.2, 3.0]) / np.sqrt(FOUR[:2]), rtol=1e-8
    )


def test_a_repeated_interval_leaves_out_zero_exactly_when_the_limit_is_crossed():
    z = np.linspace(1.5, 4.5, 31)
    for look in range(4):
        found = stopped.repeated_interval(z * 0.1, 0.1, look, DESIGN)
        np.testing.assert_array_equal(found.lower > 0, z > DESIGN.upper[look])


# -- at a look, and after a change --------------------------------------------------------------------------------------
def test_conditional_power_of_a_batch_is_that_of_each_trial():
    z, drift = np.array([-3.0, 0.5, 2.0, np.nan, 35.0]), np.array([0.0, 3.0, -2.0, 1.0, 2.0])
    together = interim.conditional_power(z, 0.3, DESIGN, drift)
    for k in (0, 1, 2, 4):
        np.testing.assert_allclose(together[k], interim.conditional_power(z[k], 0.3, DESIGN, drift[k]), rtol=1e-9)
    assert np.isnan(together[3]) and together[4] > 0.999999


def test_conditional_power_averages_to_power():
    # the law of total probability over Z at the first look
    mean, nodes, weights = 2.7 * np.sqrt(0.3), *np.polynomial.legendre.leggauss(100)
    half = (DESIGN.upper[0] - mean + 9) / 2
    z = mean - 9 + half * (1 + nodes)
    density = half * weights * np.exp(-((z - mean) ** 2) / 2) / np.sqrt(2 * np.pi)
    going_on = np.dot(density, interim.conditional_power(z, 0.3, DESIGN, 2.7))
    crossed = DESIGN.crossing(2.7)
    np.testing.assert_allclose(crossed.upper[0] + going_on, crossed.power, rtol=1e-10)


def test_a_combination_test_keeps_its_error_when_the_second_stage_is_enlarged():
    design = sequential.by_shape(np.array([0.5, 1.0]), 0.025)
    draw = np.random.default_rng(2)
    first, second = draw.normal(size=(2, 200_000))
    # sizes grow for promising results; the weights stay those of the plan, so that the second stage is still N(0, 1)
    sizes = interim.promising_zone(first, 0.5, zone=(0.3, 0.8), power=0.8, alpha=0.025, most=3.0)
    assert sizes.max() <= 3.0 and (sizes > 1).any()
    z = combination.weighted_z(np.stack([first, second], -1), np.sqrt([0.5, 0.5]))
    claimed = (z >= design.upper).any(-1).mean()
    assert abs(claimed - 0.025) < 4 * np.sqrt(0.025 * 0.975 / 200_000)


def test_size_and_power_are_inverse():
    test = NormalTest(0.3, 2.1, 2.0)
    size = sequential_size(test, DESIGN, power=0.85)
    assert size.expected_effect < size.largest and size.fixed < size.largest
    np.testing.assert_allclose(size.stops.power, 0.85, rtol=1e-9)
    plain = NormalTest(0.3, 2.0, 2.0)
    found = sequential_power(plain, DESIGN, sequential_size(plain, DESIGN, power=0.85).largest)
    np.testing.assert_allclose(found.power, 0.85, rtol=1e-8)


# -- mistakes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("times", [[0.5, 0.5], [0.0, 1.0], [], [1.0, 0.5], [np.nan]])
def test_looks_that_do_not_rise_get_a_sentence(times):
    with pytest.raises(ClaimError, match="must rise"):
        sequential.by_shape(np.array(times), 0.025)


MISTAKES = {
    "choose obrien-fleming": lambda: sequential.spending("fleming", 0.025),
    "needs a parameter, for example -4": lambda: sequential.spending("hwang-shih-decani", 0.025),
    "must be above 0, for example 3": lambda: sequential.spending("kim-demets", 0.025, -1),
    "needs a parameter, for example \\(1, 1\\)": lambda: sequential.spending("logistic", 0.025, 1.0),
    "error to spend is 1.5": lambda: sequential.spending("pocock", 1.5),
    "times that rise": lambda: spending.given(np.array([0.5, 0.9]), np.array([0.01, 0.025])),
    "must not fall": lambda: spending.given(np.array([0.5, 1.0]), np.array([0.03, 0.025])),
    "choose 'obrien-fleming', 'pocock'": lambda: sequential.by_shape(FOUR, 0.025, shape="fleming"),
    "meet the efficacy limits": lambda: sequential.by_spending(
        FOUR, spending.spending("pocock", 0.025), futility=np.array([1.5, 1.9, 2.0])
    ),
    "too little power": lambda: sequential.needed_drift(DESIGN._replace(upper=np.full(4, np.inf)), 0.9),
    "standard deviation 0": lambda: interim.assurance(DESIGN, (3.0, 0.0)),
    "between 0 and 0.5": lambda: sequential.by_shape(FOUR, 0.7),
    "4 looks need 3 futility limits": lambda: sequential.by_shape(FOUR, 0.025, futility=np.array([0.0])),
    "say for each of them": lambda: sequential.by_spending(FOUR, spending.spending("pocock", 0.025), tested=np.array([True])),
    "one value for each look": lambda: sequential.crossing(FOUR, np.zeros(3), np.ones(4)),
    "A limit is missing": lambda: sequential.crossing(FOUR, np.full(4, np.nan), np.ones(4)),
    "must lie between alpha": lambda: sequential.needed_drift(DESIGN, 0.01),
    "make it with two_sided_test": lambda: sequential.with_inner_futility(DESIGN, spending.spending("pocock", 0.1)),
    "there is no look 4": lambda: stopped.stagewise_p(2.0, 4, DESIGN),
    "ordering is 'best'": lambda: stopped.stagewise_p(2.0, 1, DESIGN, ordering="best"),
    "a look still to come": lambda: interim.conditional_power(1.0, 1.0, DESIGN),
    "conditional power is 1.2": lambda: interim.conditional_limit(1.2, 0.3, DESIGN),
    "zone must lie": lambda: interim.promising_zone(1.0, 0.5, zone=(0.8, 0.3), power=0.8, alpha=0.025, most=2.0),
    "one above 0 for each": lambda: combination.weighted_z([1.0, 2.0], [1.0]),
    "must rise from above 0 to below 1": lambda: combination.fisher_by_spending([0.03, 0.02]),
    "need 1 futility limits": lambda: combination.fisher_by_spending([0.01, 0.02], futility=[0.5, 0.5]),
    "that follows a stop at each": lambda: stopped.overrun(DESIGN, [0.1], DESIGN.upper),
    "more past limits than looks": lambda: sequential.retimed(FOUR[:1], spending.spending("pocock", 0.025), past=np.ones(2)),
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_get_a_sentence(words):
    with pytest.raises(ClaimError, match=words):
        MISTAKES[words]()

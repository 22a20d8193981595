"""What must hold of every adjusted mean, risk and subgroup effect: symmetry, units, order, batches, doubt where due."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import linear_model, means
from quell.analysis.arm_model import ByArm, arm_model
from quell.analysis.claim import Caution
from quell.analysis.logistic import logistic
from quell.analysis.measured_baseline import corrected_slope, corrected_slope_difference, oldham
from quell.analysis.ranks import van_elteren, wilcoxon
from quell.analysis.standardised import standardised_means, standardised_risks
from quell.analysis.subgroups import effect_along, forest_of_hazards, forest_of_means, forest_of_risks
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, numbers, seeds

N = 36


def made(seed, trials=()):
    """Trials with a little of everything: sites, missing values, excluded subjects, clusters, three arms."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    baseline = draw.normal(2, 1, shape)
    arm = draw.integers(0, 3, shape)
    outcome = np.exp(0.3 * baseline - 0.4 * arm + draw.normal(0, 0.5, shape))
    return {
        "outcome": np.where(draw.random(shape) < 0.05, np.nan, outcome),
        "event": (draw.random(shape) < 0.25 + 0.2 * arm).astype(float),
        "arm": arm,
        "baseline": baseline,
        "site": draw.integers(0, 3, shape),
        "cluster": draw.integers(0, 9, shape),
        "died": draw.random(shape) < 0.8,
        "time": np.ceil(draw.exponential(300, shape)),
        "include": draw.random(shape) < 0.9,
    }


def adjusted(d, **more):
    return {"covariates": d["baseline"][..., None], "factors": [d["site"]], "include": d["include"], **more}


def model(d, **more):
    return arm_model(d["outcome"], d["arm"], by_arm=ByArm((0,), (0,)), **adjusted(d, **more))


def risks(d, variance="ye"):
    return standardised_risks(d["event"], d["arm"], variance=variance, **adjusted(d))


def forest(maker, d, c, outcome, index=None):
    rows = maker(outcome, d["arm"], d["site"], contrast=c, include=d["include"])
    return rows.interaction if index is None else rows.effects.row((..., index))


def along(d, c):
    return effect_along(model(d), np.array([1.0]), contrast=c).effect.row((..., 0))


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "CR1": (lambda d, c: means.ancova(d["outcome"], d["arm"], contrast=c, covariance="CR1", cluster=d["cluster"],
                                      **adjusted(d)), "difference"),
    "HC4": (lambda d, c: means.ancova(d["outcome"], d["arm"], contrast=c, covariance="HC4", **adjusted(d)),
            "difference"),
    "arm test": (lambda d, c: means.arm_test(d["outcome"], d["arm"], **adjusted(d)), "test"),
    "by arm": (lambda d, c: model(d).difference(c), "difference"),
    "by arm, observed, HC3": (lambda d, c: model(d, covariance="HC3").difference(c, "observed"), "difference"),
    "type III": (lambda d, c: model(d).arm_test(), "test"),
    "type II": (lambda d, c: model(d).arm_test("II"), "test"),
    "interaction": (lambda d, c: model(d).interaction_test(), "test"),
    "slopes": (lambda d, c: model(d).slope_difference(c), "difference"),
    "along": (along, "difference"),
    "risk difference": (lambda d, c: risks(d).difference(c), "difference"),
    "risk ratio": (lambda d, c: risks(d, "influence").ratio(c), "ratio"),
    "marginal odds ratio": (lambda d, c: risks(d, "robust delta").odds_ratio(c), "ratio"),
    "odds ratio": (lambda d, c: logistic(d["event"], d["arm"], **adjusted(d)).odds_ratio(c), "ratio"),
    "Firth's odds ratio": (lambda d, c: logistic(d["event"], d["arm"], likelihood="firth", **adjusted(d)).odds_ratio(c),
                           "ratio"),
    "ANCOVA II": (lambda d, c: standardised_means(d["outcome"], d["arm"], variance="influence",
                                                  **adjusted(d)).difference(c), "difference"),
    "forest of means": (lambda d, c: forest(forest_of_means, d, c, d["outcome"], 0), "difference"),
    "forest test": (lambda d, c: forest(forest_of_means, d, c, d["outcome"]), "test"),
    "forest of risks": (lambda d, c: forest(forest_of_risks, d, c, d["event"], 0), "difference"),
    "risks test": (lambda d, c: forest(forest_of_risks, d, c, d["event"]), "test"),
    "hazards test": (lambda d, c: forest_of_hazards(d["time"], d["died"], d["arm"], d["site"], contrast=c,
                                                    include=d["include"]).interaction, "test"),
    "Wilcoxon": (lambda d, c: wilcoxon(d["outcome"], d["arm"], contrast=c, include=d["include"]), "difference"),
    "van Elteren": (lambda d, c: van_elteren(d["outcome"], d["arm"], d["site"], contrast=c, include=d["include"]),
                    "test"),
    "Oldham": (lambda d, c: oldham(d["outcome"], d["baseline"], include=d["include"]), "test"),
    "Blomqvist": (lambda d, c: corrected_slope(d["outcome"], d["baseline"], 0.1, include=d["include"]), "test"),
}  # fmt: skip
siblings = laws.Siblings(ESTIMATORS, made)

# where the covariates divide events from non-events, other sums of the same numbers stop elsewhere on the way to infinity
stopping = siblings._replace(
    settled=lambda name, found: (
        name not in ("odds ratio", "marginal odds ratio") or not found.warnings & Caution.DIVIDED
    ),
)
# W counts pairs, and the other arm's W is n1 n0 - W
test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(stopping, 5, unsigned=("Wilcoxon",))
test_the_order_of_the_rows_means_nothing = laws.order(stopping, 4, contrast=(2, 0))
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 3, (2, 2))
# a forest of no trial has no rows to name
FORESTS = [name for name in ESTIMATORS if name.startswith(("forest", "risks", "hazards"))]
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings, without=FORESTS)


def degenerate():
    base = made(3)
    whole = {**base, "outcome": np.nan_to_num(base["outcome"], nan=1.0), "include": np.ones(N, bool)}
    yield "one patient", {**whole, "include": np.arange(N) == 0}
    yield "two patients", {**whole, "include": np.arange(N) < 2, "arm": np.arange(N) % 2}
    yield "nobody", {**whole, "include": np.zeros(N, bool)}
    yield "no events", {**whole, "event": np.zeros(N), "died": np.zeros(N, bool)}
    yield "all events", {**whole, "event": np.ones(N)}
    yield "the event is the arm", {**whole, "event": (whole["arm"] == 1).astype(float)}
    yield "constant outcome", {**whole, "outcome": np.full(N, 0.1)}
    yield "outcome is the arm", {**whole, "outcome": whole["arm"] + 1.0}
    yield "constant baseline", {**whole, "baseline": np.full(N, 0.3)}
    yield "one arm", {**whole, "arm": np.zeros(N, int)}
    yield "site is the arm", {**whole, "site": whole["arm"]}
    yield "a cell is empty", {**whole, "site": np.where(whole["arm"] == 1, 0, whole["site"])}
    yield "all missing", {**whole, "outcome": np.full(N, np.nan), "event": np.full(N, np.nan)}
    yield "huge", {**whole, "outcome": 1e100 * whole["outcome"], "baseline": 1e100 * whole["baseline"]}
    yield "tiny", {**whole, "outcome": 1e-100 * whole["outcome"], "baseline": 1e-100 * whole["baseline"]}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


@settings(max_examples=15, deadline=None)
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_scale_the_estimate(seed, scale, shift):
    data = made(seed)
    other = {**data, "outcome": shift + scale * data["outcome"], "baseline": shift + scale * data["baseline"]}
    for name in ("CR1", "HC4", "by arm", "by arm, observed, HC3", "ANCOVA II", "forest of means"):
        estimator, _ = ESTIMATORS[name]
        one, two = estimator(data, (1, 0)), estimator(other, (1, 0))
        for field in ("estimate", "se", "lower", "upper"):
            close(getattr(two, field) / scale, getattr(one, field), rtol=1e-5)
    for name in ("arm test", "type III", "type II", "interaction", "forest test", "slopes", "risk difference"):
        estimator, _ = ESTIMATORS[name]
        close(estimator(other, (1, 0)).p, estimator(data, (1, 0)).p, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_adjusted_for_the_baseline_change_and_outcome_say_the_same(seed):
    data = made(seed)
    changed = {**data, "outcome": means.change(data["outcome"], data["baseline"])}
    for name in ("HC4", "by arm", "ANCOVA II"):
        estimator, _ = ESTIMATORS[name]
        close(numbers(estimator(changed, (1, 0))), numbers(estimator(data, (1, 0))))


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_blocks_change_nothing(seed):
    data = made(seed, (7,))
    whole = numbers(ESTIMATORS["HC4"][0](data, (1, 0)))
    shared = means.ls_means(data["outcome"], data["arm"][0], covariates=data["baseline"][..., None])
    held, linear_model.BLOCK = linear_model.BLOCK, 2 * N
    try:
        close(numbers(ESTIMATORS["HC4"][0](data, (1, 0))), whole)
        again = means.ls_means(data["outcome"], data["arm"][0], covariates=data["baseline"][..., None])
        close(again.estimate, shared.estimate)
    finally:
        linear_model.BLOCK = held


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_hc0_is_cr0_when_everybody_is_a_cluster(seed):
    data = made(seed)
    alone = means.ancova(
        data["outcome"], data["arm"], covariance="CR0", cluster=np.arange(N), covariates=data["baseline"][:, None]
    )
    plain = means.ancova(data["outcome"], data["arm"], covariance="HC0", covariates=data["baseline"][:, None])
    close([alone.estimate, alone.se], [plain.estimate, plain.se], rtol=1e-10)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_two_arms_tested_is_the_difference_squared(seed):
    data = made(seed)
    two = {**data, "arm": data["arm"] % 2}
    difference, test = ESTIMATORS["by arm"][0](two, (1, 0)), ESTIMATORS["type III"][0](two, (1, 0))
    close([difference.statistic**2, difference.p], [test.statistic, test.p])
    rows = forest_of_means(two["outcome"], two["arm"], two["site"], include=two["include"])
    extra = arm_model(two["outcome"], two["arm"], factors=[two["site"]], include=two["include"], by_arm=ByArm((), (0,)))
    close(
        [rows.interaction.statistic, rows.interaction.p],
        [extra.interaction_test().statistic, extra.interaction_test().p],
    )


def test_a_divided_outcome_is_said_and_firth_is_finite():
    data = {**made(5), "include": np.ones(N, bool)}
    event = (data["arm"] == 1).astype(float)
    divided = logistic(event, data["arm"], covariates=data["baseline"][:, None])
    assert divided.odds_ratio().warnings & Caution.DIVIDED
    firth = logistic(event, data["arm"], covariates=data["baseline"][:, None], likelihood="firth").odds_ratio()
    assert 1 < firth.estimate < 1e5 and not firth.warnings & Caution.DIVIDED
    # the risks are still what was seen, and their difference has no sampling error to speak of
    risk = standardised_risks(event, data["arm"], covariates=data["baseline"][:, None])
    np.testing.assert_allclose(risk.mean, [0, 1, 0], atol=1e-3)


def test_a_subgroup_whose_events_are_all_in_one_arm_is_said_whichever_arm_is_active():
    data = made(1)
    lone = data["include"] & data["died"] & (data["site"] == 1)
    assert (data["arm"][lone] == 1).any() and not (data["arm"][lone] == 0).any()
    for contrast in ((1, 0), (0, 1)):
        assert ESTIMATORS["hazards test"][0](data, contrast).warnings & Caution.SEPARATION


def test_without_covariates_standardising_gives_the_proportions():
    data = made(8)
    risk = standardised_risks(data["event"], data["arm"], variance="influence")
    seen = [data["event"][data["arm"] == code] for code in range(3)]
    np.testing.assert_allclose(risk.mean, [one.mean() for one in seen], rtol=1e-10)
    expected = np.sqrt(seen[1].var() / len(seen[1]) + seen[0].var() / len(seen[0]))
    np.testing.assert_allclose(risk.difference((1, 0)).se, expected, rtol=1e-9)


def test_regression_to_the_mean_is_seen_and_taken_out():
    """Nothing happens to anybody, the baseline is read with error: change still goes against baseline in each arm."""
    draw = np.random.default_rng(17)
    truth = draw.normal(2.0, 0.4, (400, 80))
    baseline, later = (truth + draw.normal(0, 0.3, truth.shape) for _ in range(2))
    arm = np.broadcast_to(np.arange(80) % 2, truth.shape)
    naive = means.slope(means.change(later, baseline), baseline)
    share = 0.3**2 / (0.3**2 + 0.4**2)
    assert abs(naive.estimate.mean() + share) < 0.02 and (naive.p < 0.05).mean() > 0.8
    corrected = corrected_slope(later, baseline, 0.3**2)
    assert abs(np.median(corrected.estimate)) < 0.03
    assert 0.92 < ((corrected.lower < 0) & (corrected.upper > 0)).mean() < 0.98
    assert abs(oldham(later, baseline).estimate.mean()) < 0.02
    between = arm_model(later, arm, covariates=baseline[..., None], by_arm=ByArm((0,))).slope_difference()
    assert abs(between.estimate.mean()) < 0.03 and 0.02 < (between.p < 0.05).mean() < 0.08
    # a true difference of slopes of -0.5 is seen at (1 - share) of its size, and given back
    effect = later - 0.5 * (truth - 2.0) * arm
    seen = arm_model(effect, arm, covariates=baseline[..., None], by_arm=ByArm((0,))).slope_difference()
    back = corrected_slope_difference(seen, baseline, 0.3**2)
    assert abs(seen.estimate.mean() + 0.5 * (1 - share)) < 0.03 and abs(back.estimate.mean() + 0.5) < 0.04


def test_more_noise_than_spread_is_said():
    data = made(2)
    result = corrected_slope(data["outcome"], data["baseline"], 50.0)
    assert np.isnan(result.estimate) and result.warnings & Caution.NOISY_BASELINE


Y, ARM = np.arange(6.0), np.array([0, 0, 0, 1, 1, 1])
ASKED = [
    (lambda: means.ancova(Y, ARM, covariance="HC9"), "'classical', 'HC0'.* or 'CR1S'"),
    (lambda: means.ancova(Y, ARM, covariance="CR1"), "say which cluster"),
    (lambda: arm_model(Y, ARM, by_arm=ByArm((0,))), "count them from 0"),
    (lambda: arm_model(Y, ARM).interaction_test(), "name it in by_arm"),
    (lambda: arm_model(Y, ARM).means("even"), "'equal' or 'observed'"),
    (lambda: arm_model(Y, ARM).arm_test("IV"), "'II' or 'III'"),
    (lambda: means.change(Y, Y, "fold"), "'difference', 'percent' or 'log ratio'"),
    (lambda: standardised_risks(ARM, ARM, variance="hc"), "'ye', 'ye residual'"),
    (lambda: standardised_risks(ARM, ARM).difference((1, 1)), "two different arm codes"),
    (lambda: logistic(ARM, ARM, likelihood="bayes"), "'maximum' or 'firth'"),
    (lambda: effect_along(arm_model(Y, ARM, covariates=Y[:, None]), Y), "one slope for both arms"),
    (lambda: forest_of_risks(ARM, ARM, ARM, scale="log"), "'difference', 'ratio' or 'odds ratio'"),
    (lambda: forest_of_means(Y, ARM, np.full(6, -1)), "No patient has a subgroup"),
    (lambda: corrected_slope(Y, Y, -1.0), "cannot be negative"),
    (lambda: wilcoxon(Y, ARM, distribution="t"), "'auto', 'exact' or 'normal'"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(ASKED)

"""What must hold of a repeated-measures model, whatever the data: symmetry, units, order, batches, and known answers."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import means
from quell.analysis.claim import Caution, ClaimError, claim_from
from quell.analysis.covariance_structures import STRUCTURES, expand, pairs, parameter_count, square, structure_named
from quell.analysis.degrees_of_freedom import METHODS
from quell.analysis.reml import fit_reml
from quell.analysis.repeated import Covariance, Terms, mmrm
from quell.analysis.restricted_likelihood import symmetric_inverse
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import numbers, seeds

N, VISITS = 36, 3
each_structure = pytest.mark.parametrize("structure", STRUCTURES)
each_method = pytest.mark.parametrize("method", METHODS)


def made(seed, trials=(), n=N, visits=VISITS):
    """Trials with a covariate, a factor, excluded people, and visits missing in any pattern."""
    draw = np.random.default_rng(seed)
    shape = (*trials, n)
    baseline, person = draw.normal(40, 9, shape), draw.normal(0, 1, shape)
    arm = draw.integers(0, 2, shape)
    outcome = 0.1 * baseline[..., None] + person[..., None] - 0.4 * arm[..., None] + draw.normal(0, 1, (*shape, visits))
    return {
        "outcome": np.where(draw.random((*shape, visits)) < 0.15, np.nan, outcome),
        "arm": arm,
        "covariates": baseline[..., None],
        "factors": [draw.integers(0, 3, shape)],
        "include": draw.random(shape) < 0.95,
    }


def fitted(data, **more):
    return mmrm(data["outcome"], data["arm"], covariates=data["covariates"], factors=data["factors"],
                include=data["include"], **more)  # fmt: skip


def at(visit):
    """A contrast at a visit (None: on average), of the trial with its arms so named."""
    return lambda data, c: fitted({**data, "arm": (data["arm"] == c[0]).astype(int)}).contrast(visit)


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "first visit": (at(0), "difference"),
    "last visit": (at(2), "difference"),
    "all visits": (at(None), "difference"),
}
siblings = laws.Siblings(ESTIMATORS, made, 1e-6, 1e-9)
close = functools.partial(laws.close, rtol=1e-6, atol=1e-9)

test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 5)
test_the_order_of_people_means_nothing = laws.order(siblings, 5)


@each_structure
def test_derivatives_are_those_of_the_covariance(structure):
    one, step = STRUCTURES[structure], 1e-5
    for visits in (1, 2, 5):
        count = parameter_count(one, visits)
        theta = np.random.default_rng(1).normal(0, 0.5, (2, count))
        here = expand(one, theta, visits)
        for k, unit in enumerate(np.eye(count)):
            up, down = expand(one, theta + step * unit, visits), expand(one, theta - step * unit, visits)
            np.testing.assert_allclose((up.value - down.value) / (2 * step), here.first[..., k], atol=1e-7)
            np.testing.assert_allclose((up.first - down.first) / (2 * step), here.second[..., k], atol=1e-7)


@each_structure
def test_structures_are_what_they_are_called(structure):
    one, visits = STRUCTURES[structure], 4
    theta = np.random.default_rng(2).normal(0, 0.3, (1, parameter_count(one, visits)))
    v = expand(one, theta, visits).value[0][square(visits)]
    deviation = np.sqrt(np.diag(v))
    r = v / np.outer(deviation, deviation)
    first, second = pairs(visits)
    assert (len(np.unique(deviation.round(12))) > 1) == one.heterogeneous
    lag_one = np.diag(r, 1)
    by_lag = [np.ptp(np.diag(r, lag)) < 1e-12 for lag in range(1, visits)]
    if one.correlation in ("toeplitz", "autoregressive", "symmetry", "independent"):
        assert all(by_lag)
    if one.correlation == "autoregressive":
        close(r[first, second], lag_one[0] ** (second - first))
    if one.correlation == "ante-dependence":
        close(r[0, 3], np.prod(lag_one))
    if one.correlation == "symmetry":
        assert np.ptp(r[first, second][first != second]) < 1e-12
    if one.correlation == "independent":
        close(r, np.eye(visits))


@settings(max_examples=4)
@given(seed=seeds)
def test_the_order_of_visits_means_nothing_to_an_unstructured_covariance(seed):
    data = made(seed)
    turned = {**data, "outcome": data["outcome"][:, ::-1]}
    close(numbers(fitted(turned).contrast(0)), numbers(fitted(data).contrast(2)))
    close(fitted(turned).log_likelihood, fitted(data).log_likelihood)


@settings(max_examples=6)
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_scale_the_estimate(seed, scale, shift):
    data = made(seed)
    other = {**data, "outcome": shift + scale * data["outcome"], "covariates": shift + scale * data["covariates"]}
    one, two = fitted(data).contrast(2), fitted(other).contrast(2)
    close([two.estimate, two.se], [scale * one.estimate, scale * one.se])
    close([two.df, two.p], [one.df, one.p])


@each_method
def test_a_batch_is_its_trials_one_by_one(method):
    data = made(3, (2, 2), visits=4)
    structure = "heterogeneous autoregressive" if method == "empirical" else "unstructured"
    whole = fitted(data, method=method, structure=structure)
    tests = whole.test("arm by visit")
    for index in np.ndindex(2, 2):
        fit = fitted(laws.part(data, index), method=method, structure=structure)
        for visit in (3, None):
            close(numbers(whole.contrast(visit).row(index)), numbers(fit.contrast(visit)))
            close(numbers(whole.mean(0, visit).row(index)), numbers(fit.mean(0, visit)))
        close([tests.statistic[index], tests.df_denominator[index]], list(fit.test("arm by visit")[:3:2]))
        close(whole.log_likelihood[index], fit.log_likelihood)


def test_leave_one_out_as_a_batch_is_leave_one_out_one_by_one():
    data = made(5, n=24)
    design = np.concatenate([np.broadcast_to(np.eye(VISITS), (24, VISITS, VISITS)),
                             data["arm"][:, None, None] * np.eye(VISITS)], -1)  # fmt: skip
    without = ~np.eye(24, dtype=bool)
    batch = fit_reml(data["outcome"], design, include=without)
    for who in (0, 7, 23):
        alone = fit_reml(data["outcome"][without[who]], design[without[who]])
        close(batch.coefficients[who], alone.coefficients)
        close(batch.covariance[who], alone.covariance)
        close(batch.visit_covariance[who], alone.visit_covariance)
        close(batch.log_likelihood[who], alone.log_likelihood)
    shared = mmrm(data["outcome"], data["arm"], covariates=data["covariates"], include=without)
    alone = mmrm(data["outcome"], data["arm"], covariates=data["covariates"], include=without[7])
    close(numbers(shared.contrast(2).row(7)), numbers(alone.contrast(2)))


def test_an_inverse_leaves_its_matrix_as_it_was():
    matrix = np.array([[[2.0, 0.5], [0.5, 1.0]]])
    inverse, log_determinant, definite = symmetric_inverse(matrix)
    assert matrix.tolist() == [[[2.0, 0.5], [0.5, 1.0]]] and definite.all()
    close([inverse @ matrix, log_determinant], [np.eye(2)[None], np.log([1.75])])


def test_the_low_level_fit_is_the_same_model():
    data = made(8)
    outcome, arm, baseline = data["outcome"], data["arm"], data["covariates"][..., 0]
    fit = mmrm(outcome, arm, covariates=baseline[:, None])
    one, visit = np.ones(outcome.shape), np.eye(VISITS)[1:]
    columns = [one, one * baseline[:, None], one * arm[:, None], *(one * row for row in visit)]
    columns += [arm[:, None] * row for row in visit]
    low = fit_reml(outcome, np.stack(columns, -1))
    close(fit.coefficients, low.coefficients)
    close(fit.se, np.sqrt(np.diag(low.covariance)))
    close(fit.log_likelihood, low.log_likelihood)
    close(fit.covariance, low.visit_covariance[0])
    close(numbers(fit.linear(np.eye(len(columns))[1])), numbers(fit.table.row(1)))


def complete(seed, n=24, visits=4):
    draw = np.random.default_rng(seed)
    return draw.normal(0, 1, (n, 1)) + draw.normal(0, 1, (n, visits)), np.arange(n) % 2


def test_one_visit_is_the_analysis_of_covariance():
    data = made(11)
    data["outcome"] = data["outcome"][:, :1]
    fit = fitted(data)
    theirs = means.ancova(data["outcome"][:, 0], data["arm"], covariates=data["covariates"], factors=data["factors"],
                          include=data["include"])  # fmt: skip
    for method in ("satterthwaite", "kenward-roger-linear", "residual"):
        mine = fitted(data, method=method).contrast(0)
        close([mine.estimate, mine.se, mine.df, mine.p], [theirs.estimate, theirs.se, theirs.df, theirs.p])
    close(fit.mean(1, 0).estimate, means.ls_means(data["outcome"][:, 0], data["arm"], covariates=data["covariates"],
                                                  factors=data["factors"], include=data["include"]).estimate[1])  # fmt: skip


def test_complete_data_give_the_t_test_at_each_visit():
    outcome, arm = complete(1)
    for method in ("satterthwaite", "kenward-roger-linear", "kenward-roger-sas"):
        fit = mmrm(outcome, arm, method=method)
        for visit in range(4):
            mine, theirs = fit.contrast(visit), means.two_sample(outcome[:, visit], arm, equal_variance=True)
            close([mine.estimate, mine.se, mine.df, mine.p], [theirs.estimate, theirs.se, theirs.df, theirs.p])


def test_complete_data_with_compound_symmetry_are_the_split_plot_analysis_of_variance():
    outcome, arm = complete(4)
    n, visits = outcome.shape
    fit = mmrm(outcome, arm, structure="compound symmetry", method="kenward-roger-linear")
    person, cell = outcome.mean(1), np.stack([outcome[arm == a].mean(0) for a in (0, 1)])
    between = visits * sum(((person[arm == a] - cell[a].mean()) ** 2).sum() for a in (0, 1)) / (n - 2)
    inside = outcome - person[:, None] - cell[arm] + cell[arm].mean(1, keepdims=True)
    within = (inside**2).sum() / ((n - 2) * (visits - 1))
    effect = cell - cell.mean(1, keepdims=True) - cell.mean(0) + cell.mean()
    test = fit.test("arm by visit")
    close(test.statistic, n / 2 * (effect**2).sum() / (visits - 1) / within)
    close(test.df_denominator, (n - 2) * (visits - 1))
    arms = fit.test("arm")
    close(arms.statistic, visits * n / 2 * ((cell.mean(1) - cell.mean()) ** 2).sum() / between)
    close(arms.df_denominator, n - 2)


def test_the_same_numbers_in_the_incumbents_manner():
    # an easy problem, where all three searches end at the same top
    data = made(21, n=60)
    exact = fitted(data)
    for stop in ("sas", "mmrm"):
        other = fitted(data, structure=Covariance(stop=stop))
        assert 0 <= exact.log_likelihood - other.log_likelihood < 1e-4
        close(other.contrast(2).estimate, exact.contrast(2).estimate, rtol=1e-2)
        close(other.contrast(2).df, exact.contrast(2).df, rtol=1e-2)


def test_one_covariance_matrix_for_each_arm():
    data = made(13, n=80)
    outcome, arm = data["outcome"] * np.where(data["arm"] == 1, 3.0, 1.0)[:, None], data["arm"]
    both = mmrm(outcome, arm, structure=Covariance(by_arm=True))
    alone = [mmrm(outcome, np.where(arm == a, 0, -1)) for a in (0, 1)]
    close(both.covariance, [one.covariance for one in alone])
    close(both.mean(1, 2).estimate, alone[1].mean(0, 2).estimate)
    close(both.log_likelihood, alone[0].log_likelihood + alone[1].log_likelihood)


def test_a_structure_that_cannot_be_fitted_gives_way_and_says_so():
    outcome, _ = complete(2, n=18, visits=3)
    outcome[::2, 0] = np.nan
    outcome[1::2, 1] = np.nan  # nobody has both of the first two visits: their covariance is unknown
    fit = mmrm(outcome, np.arange(18) // 9)
    assert str(fit.structure) == "heterogeneous Toeplitz"
    assert fit.contrast(2).warnings & Caution.SIMPLER_COVARIANCE
    refused = mmrm(outcome, np.arange(18) // 9, structure=Covariance(fallback=()))
    assert refused.warnings & Caution.NOT_CONVERGED and np.isnan(refused.contrast(2).estimate)
    chosen = mmrm(outcome, np.arange(18) // 9, structure=Covariance(fallback=("cs",)))
    assert str(chosen.structure) == "compound symmetry"


@each_method
def test_one_bad_trial_does_not_spoil_the_others(method):
    good, arm = complete(6, n=16, visits=3)
    batch = np.stack([good, np.ones_like(good), np.full_like(good, np.nan), np.where(arm[:, None] == 1, np.nan, good),
                      np.arange(3.0) + arm[:, None], np.repeat(good[:, :1], 3, 1)])  # fmt: skip
    fit = mmrm(batch, arm, method=method)
    for estimate in (fit.contrast(1), fit.contrast(None), fit.mean(0, 1)):
        assert np.isfinite(estimate.se[0])
    contrast = fit.contrast(1)
    close(numbers(contrast.row(0)), numbers(mmrm(good, arm, method=method).contrast(1)))
    assert np.isnan(contrast.estimate[1:]).all() and np.isnan(fit.test("arm by visit").p[1:]).all()
    assert contrast.warnings[1] & Caution.CONSTANT_OUTCOME and contrast.warnings[4] & Caution.CONSTANT_OUTCOME
    assert contrast.warnings[2] & Caution.EMPTY_ARM and contrast.warnings[3] & Caution.EMPTY_ARM
    assert contrast.warnings[5] & Caution.NOT_CONVERGED
    assert np.isfinite(fit.mean(0, 1).se[3]) or method.startswith("between")


def test_cells_nobody_was_seen_in_are_not_estimable_and_the_rest_are():
    outcome, arm = complete(9, n=20, visits=3)
    outcome[arm == 1, 2] = np.nan
    fit = mmrm(outcome, arm)
    assert np.isfinite(fit.contrast(1).se) and np.isfinite(fit.mean(0, 2).se)
    for lost in (fit.contrast(2), fit.contrast(None), fit.mean(1, 2)):
        assert np.isnan(lost.estimate) and lost.warnings & Caution.NOT_ESTIMABLE
    outcome[:, 1] = np.nan
    fit = mmrm(outcome, arm)
    assert np.isfinite(fit.contrast(0).se) and np.isnan(fit.contrast(1).se)


def test_repeated_columns_change_nothing():
    data = made(15)
    twice = {**data, "covariates": np.concatenate([data["covariates"], 2 * data["covariates"] + 1], -1)}
    close(numbers(fitted(twice).contrast(2)), numbers(fitted(data).contrast(2)))
    constant = {**data, "covariates": np.ones((N, 1))}
    without = {**data, "covariates": np.zeros((N, 0))}
    close(numbers(fitted(constant).contrast(2)), numbers(fitted(without).contrast(2)))
    close(fitted(twice).log_likelihood, fitted(data).log_likelihood, rtol=1e-9)


def test_people_without_a_visit_or_a_covariate_are_left_out_and_counted():
    data = made(17)
    data["include"] = np.ones(N, bool)
    data["outcome"][0] = np.nan
    data["covariates"][1] = np.nan
    fit = fitted(data)
    assert fit.fit.n == N - 2 and fit.warnings & Caution.MISSING
    kept = np.arange(N) > 1
    close(numbers(fitted(laws.part(data, kept)).contrast(1))[:-1], numbers(fit.contrast(1))[:-1])


def test_few_people_and_no_trials():
    outcome, arm = complete(3, n=4, visits=2)
    for n in (1, 2, 3, 4):
        fit = mmrm(outcome[:n], arm[:n])
        assert np.isfinite(fit.mean(0, 0).se) or fit.warnings & (Caution.TOO_FEW | Caution.NOT_CONVERGED)
    none = mmrm(np.zeros((0, 4, 2)), arm[:4])
    assert none.contrast(0).estimate.shape == (0,) if len(none.columns.arms) > 1 else none.fit.n.shape == (0,)


def test_visits_almost_copies_of_each_other():
    draw = np.random.default_rng(1)
    outcome = np.repeat(draw.normal(size=(30, 1)), 3, 1) + 0.01 * draw.normal(size=(30, 3))
    fit = mmrm(outcome, np.arange(30) % 2)
    mine, theirs = fit.contrast(2), means.two_sample(outcome[:, 2], np.arange(30) % 2, equal_variance=True)
    close([mine.se, mine.df], [theirs.se, theirs.df])


def test_terms_choose_the_columns():
    data = made(19)
    assert fitted(data).names == (
        "intercept", "factor 0: 1", "factor 0: 2", "covariate 0", "arm 1", "visit 1", "visit 2",
        "arm 1 at visit 1", "arm 1 at visit 2",
    )  # fmt: skip
    more = fitted(data, terms=Terms(covariates_by_visit=True, factors_by_visit=(0,)))
    assert len(more.names) == 9 + 2 + 4
    same = fitted(data, terms=Terms(arm_by_visit=False))
    close(numbers(same.contrast(0)), numbers(same.contrast(2)))
    bare = fitted(data, terms=Terms(visit=False, arm_by_visit=False))
    close(numbers(bare.contrast(0)), numbers(bare.contrast(None)))
    equal, observed = fitted(data).mean(0, 1), fitted(data).mean(0, 1, weights="observed")
    assert equal.estimate != observed.estimate


def test_baseline_by_visit_is_the_analysis_of_covariance_of_each_visit():
    outcome, arm = complete(23, n=30, visits=3)
    baseline = outcome[:, :1]
    fit = mmrm(outcome[:, 1:], arm, covariates=baseline, terms=Terms(covariates_by_visit=True))
    for visit in (0, 1):
        theirs = means.ancova(outcome[:, visit + 1], arm, covariates=baseline)
        mine = fit.contrast(visit)
        close([mine.estimate, mine.se, mine.df], [theirs.estimate, theirs.se, theirs.df])


def test_a_claim_is_one_sentence():
    outcome, arm = complete(2)
    claim = claim_from(mmrm(outcome, arm).contrast(3), name="FEV1 at the last visit", method="MMRM",
                       arms=("active", "placebo"))  # fmt: skip
    assert str(claim).startswith("active minus placebo = ") and claim.df is not None


SAID = {
    "outcome": (lambda o, a: mmrm(o[:, 0], a), "repeated measures need"),
    "arm": (lambda o, a: mmrm(o, a[:-1]), "its last axis must be the 24 people"),
    "labels": (lambda o, a: mmrm(o, np.array(["x"] * 24)), "number the labels first"),
    "structure": (lambda o, a: mmrm(o, a, structure="banded"), "There is no covariance structure 'banded'"),
    "likelihood": (lambda o, a: mmrm(o, a, structure=Covariance(likelihood="pql")), "choose 'reml' or 'ml'"),
    "method": (lambda o, a: mmrm(o, a, method="kr"), "choose one of: satterthwaite"),
    "ml": (lambda o, a: mmrm(o, a, structure=Covariance(likelihood="ml"), method="kenward-roger"), "REML only"),
    "stop": (lambda o, a: mmrm(o, a, structure=Covariance("cs", stop="sas")), "Only an unstructured covariance"),
    "terms": (lambda o, a: mmrm(o, a, terms=Terms(visit=False)), "need the visits in the model"),
    "visit": (lambda o, a: mmrm(o, a).contrast(4), "numbered 0 to 3"),
    "who": (lambda o, a: mmrm(o, a).mean(7, 0), "No one in the analysis has arm 7"),
    "test": (lambda o, a: mmrm(o, a).test("sex"), "There is no 'sex' to test"),
    "same": (lambda o, a: mmrm(o, a).contrast(0, (1, 1)), "two different arm codes"),
    "weights": (lambda o, a: mmrm(o, a).linear(np.ones(3)), "there are 8 coefficients"),
    "design": (lambda o, a: fit_reml(o, np.ones((24, 3, 1))), "(..., people, visits, columns)"),
}


@pytest.mark.parametrize("mistake", SAID)
def test_a_mistake_gets_a_sentence(mistake):
    call, sentence = SAID[mistake]
    with pytest.raises(ClaimError) as said:
        call(*complete(1))
    assert sentence in str(said.value)


def test_structures_have_the_names_of_other_software():
    assert structure_named("ARH(1)").name == structure_named("ar1h").name == "heterogeneous autoregressive"


def test_three_arms_in_any_order():
    data = made(29, n=60)
    arm = np.random.default_rng(29).integers(0, 3, 60)
    # Kenward and Roger's F, for Fai and Cornelius's degrees of freedom depend on how the rows are written
    fit = fitted({**data, "arm": arm}, method="kenward-roger-linear")
    one, two = fit.contrast(1, (2, 0)), fit.contrast(1, (1, 0))
    close(one.estimate - two.estimate, fit.contrast(1, (2, 1)).estimate)
    turned = fitted({**data, "arm": (arm + 1) % 3}, method="kenward-roger-linear")
    close(numbers(turned.contrast(1, (0, 1))), numbers(one))
    for what in ("arm", "visit", "arm by visit", "arm at any visit", "factor 0", "covariate 0"):
        close(fit.test(what)[:4], turned.test(what)[:4])
    assert fit.test("arm").df_numerator == 2 and fit.test("arm by visit").df_numerator == 4


@pytest.mark.parametrize("method", ["kenward-roger-linear", "satterthwaite", "empirical-jackknife"])
def test_where_nothing_works_few_trials_succeed(method):
    draw = np.random.default_rng(31)
    trials, n = 1500, 40
    outcome = draw.normal(size=(trials, n, 1)) + draw.normal(size=(trials, n, 3)).cumsum(-1)
    outcome = np.where(draw.random(outcome.shape) < 0.15, np.nan, outcome)
    fit = mmrm(outcome, np.arange(n) % 2, method=method)
    error = np.sqrt(0.05 * 0.95 / trials)
    assert (fit.contrast(2).p < 0.05).mean() < 0.05 + 3 * error
    if method != "satterthwaite":  # its F test is known to be liberal with so few people
        assert (fit.test("arm at any visit").p < 0.05).mean() < 0.05 + 3 * error
    assert (fit.contrast(2).p < 0.05).mean() > 0.05 - 4 * error

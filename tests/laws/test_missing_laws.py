"""What must hold of missing-data methods, whatever the data: symmetry, units, order, batches, limits, and doubt."""

import functools

import numpy as np
import pytest

from quell import keys
from quell.analysis.claim import Caution, Estimate
from quell.analysis.follow_up import FollowUp
from quell.analysis.imputation import impute, multiple_imputation
from quell.analysis.means import ancova
from quell.analysis.missing import conditional_mean
from quell.analysis.pooling import rubin
from quell.analysis.reference_based import AT_RANDOM, RULES, Assumption, mean_under
from quell.analysis.strategies import (
    composite_failure,
    composite_trimmed,
    composite_worst,
    hypothetical,
    treatment_policy,
    while_on_treatment,
)
from quell.analysis.tipping import delta_response, tipping_point
from quell.questions import IntercurrentEvent
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import numbers

rules = pytest.mark.parametrize("rule", RULES)
COVARIANCES = ("pooled", "by arm")
each_covariance = pytest.mark.parametrize("covariance", COVARIANCES)
N, VISITS = 36, 3


def made(seed=0, trials=(), effect=-1.0, dropout=(0.15, 0.15)):
    """Trials with correlated visits, a covariate, and people who drop out after at least one visit, by arm."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    arm = np.broadcast_to(np.arange(N) % 2, shape)
    x = draw.normal(size=shape)
    steps = draw.normal(size=(*shape, VISITS))
    y = 5 + x[..., None] + draw.normal(size=(*shape, 1)) + 0.7 * steps + effect * arm[..., None] * np.arange(VISITS)
    chance = np.where(arm == 1, dropout[1], dropout[0])[..., None]
    gone = np.cumsum(draw.random((*shape, VISITS - 1)) < chance, -1) > 0
    y[..., 1:] = np.where(gone, np.nan, y[..., 1:])
    return FollowUp(y, arm, x[..., None])


close = functools.partial(laws.close, rtol=1e-7, atol=1e-9)


def imputed(data, assumption=AT_RANDOM, **options):
    return multiple_imputation(data, assumption, imputations=4, burn_in=15, key=7, **options).pooled


@rules
@each_covariance
def test_nothing_missing_is_the_plain_analysis_to_the_last_bit(rule, covariance):
    data = made(dropout=(0, 0))
    plain = ancova(data.outcome[..., -1], data.arm, covariates=data.covariates)
    assumption = Assumption(rule, covariance=covariance, delta=3.0)
    for result in (conditional_mean(data, assumption), imputed(data, assumption)):
        np.testing.assert_array_equal(numbers(result), numbers(plain))
    assert not plain.warnings & Caution.ASSUMED_UNSEEN
    response = delta_response(data, assumption).at(np.array([0.0, 9.0]))
    close(response.estimate, [plain.estimate] * 2)
    close(response.p, [plain.p] * 2)


@rules
def test_holes_at_an_earlier_visit_alone_assume_nothing(rule):
    data = made(dropout=(0, 0))
    data.outcome[3, 0] = np.nan
    assert not conditional_mean(data, Assumption(rule)).warnings & Caution.ASSUMED_UNSEEN


def test_where_only_the_reference_drops_out_every_rule_is_missing_at_random():
    data = made(dropout=(0.3, 0))
    random = numbers(conditional_mean(data))
    for rule in RULES:
        close(numbers(conditional_mean(data, Assumption(rule, reference=0))), random)
        close(numbers(imputed(data, Assumption(rule, reference=0))), numbers(imputed(data)))


def assuming(rule, covariance):
    """The effect under a rule whose reference is the control arm, with the arms named anew where they are swapped."""

    def estimate(data, contrast):
        swapped = data._replace(arm=data.arm if contrast == (1, 0) else 1 - data.arm)
        return conditional_mean(swapped, Assumption(rule, reference=contrast[1], covariance=covariance))

    return estimate


def drawn(rule, covariance):
    return lambda data, contrast: imputed(data, Assumption(rule, covariance=covariance), contrast=contrast)


# name: (estimator of (data, contrast), scale)
ESTIMATORS, DRAWN = (
    {f"{rule}, {covariance}": (method(rule, covariance), "difference") for rule in RULES for covariance in COVARIANCES}
    for method in (assuming, drawn)
)
siblings = laws.Siblings(ESTIMATORS, made, 1e-7, 1e-9)

test_swapping_the_labels_and_the_reference_flips_the_sign = laws.swap(siblings, 2)
test_the_other_contrast_of_the_same_draws_has_the_other_sign = laws.swap(siblings._replace(estimators=DRAWN), 1)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 2)


@rules
@pytest.mark.parametrize("scale", [1e-3, 250.0])
def test_units_scale_the_estimate(rule, scale):
    data = made(5)
    other = data._replace(outcome=40 * scale + scale * data.outcome, covariates=1e4 + 3 * data.covariates)
    assumption, scaled = Assumption(rule, delta=0.5), Assumption(rule, delta=0.5 * scale)
    for method in (conditional_mean, imputed):
        one, two = method(data, assumption), method(other, scaled)
        close([two.estimate / scale, two.se / scale, two.p], [one.estimate, one.se, one.p], rtol=1e-6)


@rules
def test_a_batch_is_its_trials_one_by_one(rule):
    data, assumption = made(6, (2, 2)), Assumption(rule)
    whole = conditional_mean(data, assumption)
    random = imputed(data, assumption)
    assert np.shape(whole.estimate) == np.shape(random.p) == (2, 2)
    for number, index in enumerate(np.ndindex(2, 2)):
        alone = laws.part(data, index)
        close(numbers(whole.row(index)), numbers(conditional_mean(alone, assumption)))
        own = multiple_imputation(alone, assumption, imputations=4, burn_in=15, key=keys.at(7, "trial", number))
        close(numbers(random.row(index)), numbers(own.pooled))


def test_trials_may_bring_their_own_keys_and_differ_in_them():
    data = made(6, (2,))
    alone = laws.part(data, 0)
    same = laws.together(alone, alone)
    words = keys.data(keys.each(3, ["a", "b"]))
    result = multiple_imputation(same, imputations=3, burn_in=5, key=keys.of(words)).pooled.estimate
    assert result[0] != result[1]
    close(result[1], multiple_imputation(alone, imputations=3, burn_in=5, key=keys.at(3, "b")).pooled.estimate)


def test_an_empty_batch_is_an_empty_answer():
    data = laws.part(made(1, (2,)), slice(0, 0))
    assert conditional_mean(data).p.shape == (0,) and imputed(data).p.shape == (0,)
    assert tipping_point(data, deltas=np.zeros(3)).path.p.shape == (0, 3)


def test_the_same_key_gives_the_same_bytes_and_more_imputations_change_none():
    data = made(8)
    one = impute(data, Assumption("J2R"), imputations=3, burn_in=8, key=1).outcome
    two = impute(data, Assumption("J2R"), imputations=3, burn_in=8, key=1).outcome
    assert one.tobytes() == two.tobytes()
    close(impute(data, Assumption("J2R"), imputations=5, burn_in=8, key=1).outcome[:3], one, rtol=1e-10)
    assert not np.allclose(impute(data, Assumption("J2R"), imputations=3, burn_in=8, key=2).outcome, one)
    seen = np.isfinite(data.outcome)
    assert (one[:, seen] == data.outcome[seen]).all() and np.isfinite(one).all()


def test_delta_zero_is_no_delta_and_the_response_starts_there():
    data = made(9)
    for rule in RULES:
        plain = conditional_mean(data, Assumption(rule))
        close(numbers(conditional_mean(data, Assumption(rule, delta=np.zeros(VISITS)))), numbers(plain))
        close(numbers(delta_response(data, Assumption(rule)).at()), numbers(plain))


@pytest.mark.parametrize("arms", ["active", "control", "both"])
@pytest.mark.parametrize("imputations", [0, 4])
def test_past_the_tipping_point_and_only_there_significance_is_lost(arms, imputations):
    data = made(10, effect=-2.0, dropout=(0.1, 0.3))
    found = tipping_point(data, arms=arms, imputations=imputations, key=3)
    assert np.isfinite(found.delta) and found.warnings & Caution.ASSUMED_UNSEEN
    shares = np.array([0.0, 0.5, 0.98, 1.0, 1.02, 1.1])
    path = tipping_point(data, deltas=found.delta * shares, arms=arms, imputations=imputations, key=3).path
    assert (np.diff(path.p) > 0).all() and (np.diff(path.estimate) > 0).all()
    close(path.p[3], 0.05, rtol=1e-6)


def test_a_table_of_deltas_is_linear_in_both():
    response = delta_response(made(11), Assumption("CIR"))
    deltas = np.linspace(-2, 2, 5)
    table = response.at(deltas[:, None], deltas)
    assert table.p.shape == (5, 5)
    close(np.diff(table.estimate, 2, axis=0), 0, rtol=1)
    close(table.estimate[2, 2], conditional_mean(made(11), Assumption("CIR")).estimate)


def test_without_significance_there_is_nothing_to_tip():
    found = tipping_point(made(12, effect=0.0))
    assert np.isnan(found.delta) and found.warnings & Caution.NOTHING_TO_TIP
    complete = tipping_point(made(12, effect=-3.0, dropout=(0, 0)))
    assert np.isnan(complete.delta) and complete.warnings & Caution.NOT_REACHED


def test_rules_agree_where_the_arms_do_and_differ_where_they_must():
    own, reference = np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.5, 0.7])
    for rule in RULES:
        close(mean_under(rule, own, own, np.array(2)), own if rule != "LMCF" else [1.0, 2.0, 2.0])
        assert mean_under(rule, own, reference, np.array(3)).tolist() == own.tolist()
    for rule in ("J2R", "CR", "CIR"):
        assert mean_under(rule, own, reference, np.array(0)).tolist() == reference.tolist()


def test_reference_based_effects_lie_between_none_and_that_at_random():
    data = made(13, effect=-2.0, dropout=(0.0, 0.35))
    effects = {rule: float(conditional_mean(data, Assumption(rule)).estimate) for rule in RULES}
    assert effects["MAR"] < effects["CIR"] < effects["J2R"] < 0
    assert effects["MAR"] < effects["CR"] < effects["J2R"]


def broken():
    """Trials in which something is wrong, each with a sound one beside it."""
    sound = made(14)
    y, arm = sound.outcome, sound.arm
    constant, blank, emptied, twice = (y.copy() for _ in range(4))
    constant[np.isfinite(constant)] = 3.0
    blank[:] = np.nan
    emptied[arm == 1, -1] = np.nan
    twice[:, 1] = twice[:, 0]
    few = y.copy()
    few[6:] = np.nan
    return sound, {"constant": constant, "all missing": blank, "arm unseen": emptied, "repeated": twice, "few": few}


@pytest.mark.parametrize("what", ["constant", "all missing", "arm unseen", "repeated", "few"])
@pytest.mark.parametrize("method", [conditional_mean, imputed])
@each_covariance
def test_a_broken_trial_answers_with_a_caution_and_spoils_no_other(what, method, covariance):
    sound, cases = broken()
    data = FollowUp(np.stack([sound.outcome, cases[what]]), sound.arm, sound.covariates)
    result = method(data, Assumption("J2R", covariance=covariance))
    assert isinstance(result, Estimate)
    alone = method(data._replace(outcome=data.outcome[:1]), Assumption("J2R", covariance=covariance))
    close(numbers(result.row(0)), numbers(alone.row(0)))
    doubts = int(result.warnings[1]) & ~int(Caution.ASSUMED_UNSEEN | Caution.FEW_IMPUTATIONS)
    assert doubts and np.isnan(result.se[1])


def test_one_patient_one_arm_and_nobody():
    data = made(15)
    for include in (np.arange(N) < 1, data.arm == 1, np.zeros(N, bool)):
        for method in (conditional_mean, imputed):
            result = method(data._replace(include=include))
            assert np.isnan(result.se) and result.warnings
    single = conditional_mean(FollowUp(data.outcome[:, :1], data.arm, data.covariates))
    close(numbers(single), numbers(ancova(data.outcome[:, 0], data.arm, covariates=data.covariates)))


def test_unknown_covariates_leave_a_patient_out_and_say_so():
    data = made(16)
    x = data.covariates.copy()
    x[4] = np.nan
    some = conditional_mean(data._replace(covariates=x))
    close(some.estimate, conditional_mean(data._replace(include=np.arange(N) != 4)).estimate)
    assert some.warnings & Caution.MISSING and some.n == N - 1


def test_few_imputations_are_noticed():
    quiet, loud = np.array([1.0, 1.01, 0.99, 1.0]), np.array([1.0, 2.0, 0.0, 1.5])
    assert not rubin(quiet, np.full(4, 0.5)).pooled.warnings & Caution.FEW_IMPUTATIONS
    assert rubin(loud, np.full(4, 0.5)).pooled.warnings & Caution.FEW_IMPUTATIONS
    assert np.isnan(rubin(quiet[:1], np.array([0.5])).pooled.se)


def test_strategies_touch_only_what_follows_the_event_and_bear_the_names_of_the_estimand():
    y = np.arange(12.0).reshape(3, 4)
    affected = np.array([2, np.nan, 0])
    changed = [hypothetical(y, affected), composite_worst(y, affected, 99.0), while_on_treatment(y, affected)]
    for one in changed:
        assert (one[1] == y[1]).all() and (one[0, :2] == y[0, :2]).all()
    assert (treatment_policy(y, affected) == y).all()
    assert while_on_treatment(y, affected)[0].tolist() == [0, 1, 1, 1]
    assert np.isnan(while_on_treatment(y, affected)[2]).all()
    assert (while_on_treatment(y, affected, baseline=np.full(3, 5.0))[2] == 5).all()
    assert composite_failure(np.ones((3, 4)), affected).sum(-1).tolist() == [2, 4, 0]
    from quell.analysis.strategies import STRATEGIES

    for name in STRATEGIES:
        assert IntercurrentEvent(event="stopped", strategy=name).strategy == name


def test_trimming_nobody_is_welch_and_the_value_of_a_failure_means_nothing():
    from quell.analysis.means import two_sample

    data = made(17, dropout=(0, 0))
    y, nobody = data.outcome[:, -1], np.zeros(N, bool)
    close(numbers(composite_trimmed(y, nobody, data.arm).difference), numbers(two_sample(y, data.arm)))
    failed = np.arange(N) % 9 == 0
    one = composite_trimmed(y, failed, data.arm).difference
    other = composite_trimmed(np.where(failed, -1e6, y), failed, data.arm).difference
    close(numbers(one), numbers(other))
    better = composite_trimmed(-y, failed, data.arm, better="higher").difference
    close([better.estimate, better.se], [-one.estimate, one.se])
    lost = composite_trimmed(y, failed, data.arm, share=0.0).difference
    assert np.isnan(lost.estimate) and lost.warnings & Caution.NOT_ESTIMABLE

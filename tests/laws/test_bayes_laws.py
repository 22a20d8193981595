"""What must hold of every Bayesian reading: data add up, flat priors step back, arms mirror, conflicts are seen."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import bayes, borrowing, cox, means
from quell.analysis.claim import Caution, Estimate, claim_from, critical, normal_estimate
from quell.analysis.mixtures import beta, flat, gamma, normal
from quell.analysis.posteriors import two_proportions, two_rates
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import seeds

MEASURES = ("difference", "ratio", "odds ratio")
each_measure = pytest.mark.parametrize("measure", MEASURES)


close = functools.partial(laws.close, rtol=1e-9, atol=1e-12)


def estimate(value, se, df=np.inf, n=40):
    return normal_estimate(value, se, n, 0, 0.95, df)


def priors():
    return {
        "normal": normal(-0.1, 0.3),
        "robust": borrowing.robust(normal(-0.3, 0.1), normal(0, 1), 0.3),
        "from trials": borrowing.map_prior(np.array([-0.2, 0.1, -0.4]), np.full(3, 0.15), heterogeneity=0.2).prior,
    }


def posteriors():
    draw = np.random.default_rng(7)
    robust = borrowing.robust(beta(11, 32), beta(1, 1))
    yield from priors().items()
    yield "t", bayes.effect(estimate(0.4, 0.2, 5), priors()["robust"])
    yield "beta", robust.updated(3, 9)
    yield "beta at the edge", beta(0.5, 0.5).updated(0, 12)
    yield "gamma", gamma(0.5, 2.0).updated(0, 10)
    for measure in MEASURES:
        yield measure, two_proportions(beta(0.5, 0.5).updated(7, 20), robust.updated(4, 9), measure)
        yield f"{measure} without events", two_proportions(beta(0.5, 0.5), beta(1, 1).updated(0, 30), measure)
    yield "rates", two_rates(gamma(0.5, 0.01).updated(3, 20), gamma(0.5, 0.01).updated(0, 25))
    events, time = draw.integers(0, 5, (3, 2)), draw.uniform(20, 50, (3, 2))
    yield "hazards", bayes.hazard_ratio(events, time, priors()["robust"], shape=0.5, rate=1.0)


POSTERIORS = dict(posteriors())
each_posterior = pytest.mark.parametrize("name", POSTERIORS)


@each_posterior
@settings(max_examples=8, deadline=None)
@given(q=st.floats(0.001, 0.999))
def test_a_quantile_undoes_a_chance(name, q):
    posterior = POSTERIORS[name]
    close(posterior.below(posterior.quantile(q)), q, atol=2e-10)


@each_posterior
def test_density_mean_and_sd_are_those_of_the_chances(name):
    posterior = POSTERIORS[name]
    edges = np.array([float(posterior.quantile(q)) for q in (0.2, 0.35, 0.5, 0.65, 0.8)])
    x, weight = np.polynomial.legendre.leggauss(24)
    for low, high in itertools.pairwise(edges):
        nodes = low + (high - low) * (x + 1) / 2
        area = sum(w * float(posterior.density(node)) for w, node in zip(weight, nodes, strict=True)) * (high - low) / 2
        close(area, 0.15, rtol=1e-6)
    u = (np.arange(400) + 0.5) / 400
    values = np.array([float(posterior.quantile(q)) for q in u[::20]])
    assert np.all(np.diff(values) > 0)
    # Chebyshev's inequality: a mean or sd of another distribution would break it
    for k in (1.5, 3.0):
        outside = posterior.below(posterior.mean - k * posterior.sd) + posterior.above(
            posterior.mean + k * posterior.sd
        )
        assert posterior.sd > 0 and outside <= 1 / k**2


@settings(max_examples=20, deadline=None)
@given(first=st.floats(-1, 1), second=st.floats(-1, 1), se=st.floats(0.05, 1), name=st.sampled_from(sorted(priors())))
def test_data_seen_in_turn_are_data_seen_at_once(first, second, se, name):
    prior = priors()[name]
    turn = prior.updated(first, se).updated(second, 2 * se)
    pooled_variance = 1 / (1 / se**2 + 1 / (2 * se) ** 2)
    once = prior.updated((first / se**2 + second / (2 * se) ** 2) * pooled_variance, np.sqrt(pooled_variance))
    close([turn.mean, turn.sd, turn.below(0)], [once.mean, once.sd, once.below(0)])


@settings(max_examples=20, deadline=None)
@given(events=st.integers(0, 20), more=st.integers(0, 20))
def test_counts_seen_in_turn_are_counts_seen_at_once(events, more):
    prior = borrowing.robust(beta(11, 32), beta(1, 1))
    turn, once = prior.updated(events, 20).updated(more, 20), prior.updated(events + more, 40)
    close([*turn.weights, turn.mean], [*once.weights, once.mean])
    rates = borrowing.robust(gamma(5, 20), gamma(0.5, 1))
    turn, once = rates.updated(events, 20).updated(more, 20), rates.updated(events + more, 40)
    close([*turn.weights, turn.mean], [*once.weights, once.mean])


@settings(max_examples=15, deadline=None)
@given(value=st.floats(-2, 2), se=st.floats(0.05, 1), df=st.sampled_from([1.0, 3.0, 11.0, 80.0, np.inf]))
def test_under_a_flat_prior_the_interval_is_the_confidence_interval(value, se, df):
    result = estimate(value, se, df)
    read = bayes.reading(bayes.effect(result, flat()), result.n)
    close([read.estimate, read.lower, read.upper], [result.estimate, result.lower, result.upper], atol=1e-9)
    assert np.isnan(read.p) and np.isnan(read.statistic)


def test_the_reference_prior_of_means_is_students_t_test():
    draw = np.random.default_rng(2)
    y, arm = draw.normal(0, 1, (4, 15)), np.arange(15) % 2
    y[1, 3] = np.nan
    test = means.two_sample(y, arm, equal_variance=True)
    read = bayes.reading(bayes.two_means(y, arm), test.n)
    close([read.estimate, read.lower, read.upper], [test.estimate, test.lower, test.upper])


@settings(max_examples=15, deadline=None)
@given(value=st.floats(-3, 3), se=st.floats(0.05, 1), df=st.sampled_from([2.0, 9.0, np.inf]), unit=st.floats(0.01, 100))
def test_units_scale_the_posterior(value, se, df, unit):
    one = bayes.effect(estimate(value, se, df), normal(0.2, 0.5))
    other = bayes.effect(estimate(value * unit, se * unit, df), normal(0.2 * unit, 0.5 * unit))
    close([other.mean / unit, other.sd / unit, other.below(0)], [one.mean, one.sd, one.below(0)])


@each_measure
@settings(max_examples=6, deadline=None)
@given(seed=seeds)
def test_swapping_the_arms_mirrors_the_comparison(measure, seed):
    draw = np.random.default_rng(seed)
    n1, n0 = draw.integers(1, 60, 2)
    active, control = (
        beta(0.5, 0.5).updated(draw.integers(0, n1 + 1), n1),
        beta(2, 3).updated(draw.integers(0, n0 + 1), n0),
    )
    one, other = two_proportions(active, control, measure), two_proportions(control, active, measure)
    for q in (0.025, 0.5):
        close(one.quantile(q), -other.quantile(1 - q), rtol=1e-7, atol=1e-9)
    close([one.mean, one.sd, one.below(0)], [-other.mean, other.sd, other.above(0)], atol=1e-10)


@settings(max_examples=6, deadline=None)
@given(seed=seeds)
def test_no_difference_no_ratio_and_no_odds_ratio_are_one_event(seed):
    draw = np.random.default_rng(seed)
    active, control = (beta(*draw.uniform(0.5, 40, 2)) for _ in range(2))
    chances = [two_proportions(active, control, measure).below(0) for measure in MEASURES]
    close(chances, np.full(3, chances[0]), atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(events=st.tuples(st.integers(1, 30), st.integers(1, 30)), time=st.tuples(st.floats(5, 500), st.floats(5, 500)))
def test_one_interval_of_constant_hazard_is_a_rate_ratio(events, time):
    (d0, d1), (t0, t1) = events, time
    hazards = bayes.hazard_ratio(np.array([[d0, d1]]), np.array([[t0, t1]]), flat())
    rates = two_rates(gamma(d1, t1), gamma(d0, t0))
    close([hazards.below(0), hazards.mean, hazards.sd], [rates.below(0), rates.mean, rates.sd], rtol=1e-8, atol=1e-10)


def test_many_events_make_the_piecewise_hazard_ratio_the_cox_posterior():
    draw = np.random.default_rng(5)
    arm = np.arange(4000) % 2
    life = draw.exponential(np.where(arm == 1, 500, 400))
    time, event = np.minimum(life, 600), life < 600
    fitted = cox.hazard_ratio(time, event, arm)
    prior = bayes.sceptical(np.log(0.8))
    exact = bayes.hazard_ratio(*bayes.person_time(time, event, arm, (150.0, 300.0, 450.0)), prior)
    near = bayes.effect(fitted, prior, ratio=True)
    # the two likelihoods differ by what happens within the intervals
    close([exact.mean, exact.sd], [near.mean, near.sd], atol=2e-3, rtol=1e-2)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_person_time_adds_up(seed):
    draw = np.random.default_rng(seed)
    time, event, arm = np.ceil(draw.exponential(9, (3, 20))), draw.random((3, 20)) < 0.5, draw.integers(0, 2, (3, 20))
    events, at_risk = bayes.person_time(time, event, arm, (3.0, 7.0, 20.0))
    for k in range(2):
        close(events[..., k].sum(-1), (event & (arm == k)).sum(-1))
        close(at_risk[..., k].sum(-1), np.where(arm == k, time, 0).sum(-1))


@pytest.mark.parametrize("df", [4.0, np.inf])
def test_a_robust_prior_gives_way_where_a_firm_one_does_not(df):
    firm = normal(0.0, 0.1)
    robust = borrowing.robust(firm, normal(0, 2), 0.1)
    weights, pulls = [], []
    for value in (0.0, 0.5, 1.0, 3.0):
        posterior = bayes.effect(estimate(value, 0.1, df), robust)
        pulls.append(value - float(posterior.mean))
        weights.append(float(robust.updated(value, 0.1).weights[1]))
    assert weights == sorted(weights) and weights[0] < 0.1 and weights[-1] > 0.999
    assert pulls[-1] < 0.1 < 3 - float(firm.updated(3.0, 0.1).mean)


@settings(max_examples=15, deadline=None)
@given(value=st.floats(0.5, 3), se=st.floats(0.05, 0.2), level=st.sampled_from([0.9, 0.95, 0.99]))
def test_the_tipping_sceptics_posterior_just_touches_no_effect(value, se, level):
    tipping = bayes.tipping_sceptic(estimate(value, se), level=level)
    posterior = normal(0, tipping.sd).updated(value, se)
    close(posterior.quantile((1 - level) / 2), 0, atol=1e-9)
    close(tipping.limit, critical(level) * tipping.sd)


@settings(max_examples=15, deadline=None)
@given(value=st.floats(-1, 1), se=st.floats(0.05, 1), name=st.sampled_from(sorted(priors())))
def test_a_bayes_factor_is_the_prior_over_the_posterior_density_at_no_effect(value, se, name):
    prior = priors()[name]
    factor = bayes.bayes_factor(estimate(value, se), prior)
    close(factor, prior.density(0) / prior.updated(value, se).density(0), rtol=1e-8)


@settings(max_examples=15, deadline=None)
@given(mean=st.floats(-1, 1), se=st.floats(0.05, 0.5))
def test_assurance_of_a_certain_effect_is_power_and_mirrors(mean, se):
    from scipy import special

    close(bayes.assurance(normal(mean, 1e-9), se), special.ndtr(special.ndtri(0.025) - mean / se), rtol=1e-6)
    close(bayes.assurance(normal(mean, 0.2), se), bayes.assurance(normal(-mean, 0.2), se, favours="higher"))
    # however large the next trial, its success is no surer than the effect
    close(bayes.assurance(normal(mean, 0.2), 1e-9), normal(mean, 0.2).below(0), atol=1e-6)


def test_sample_sizes_of_single_components_are_what_they_say():
    close([borrowing.effective_sample_size(beta(5, 15), method) for method in ("elir", "moment")], [20, 20])
    close(
        [borrowing.effective_sample_size(normal(1, 0.5), method, unit_sd=4) for method in ("elir", "moment")], [64, 64]
    )
    close([borrowing.effective_sample_size(gamma(8, 30), method) for method in ("elir", "moment")], [30, 30])
    both = normal(np.array([0.0, 1.0]), np.array([0.5, 0.1]))
    close(borrowing.effective_sample_size(both, unit_sd=2.0), [16, 400])


@settings(max_examples=10, deadline=None)
@given(seed=seeds, unit=st.floats(0.1, 30), shift=st.floats(-5, 5))
def test_a_prior_from_trials_knows_no_order_and_no_units(seed, unit, shift):
    draw = np.random.default_rng(seed)
    y, s = draw.normal(0, 0.3, (2, 4)), draw.uniform(0.05, 0.4, (2, 4))
    one = borrowing.map_prior(y, s, heterogeneity=0.2).prior
    other = borrowing.map_prior(shift + unit * y[:, ::-1], unit * s[:, ::-1], heterogeneity=0.2 * unit).prior
    close([(other.mean - shift) / unit, other.sd / unit], [one.mean, one.sd], rtol=1e-7, atol=1e-8)
    for k in range(2):
        alone = borrowing.map_prior(y[k], s[k], heterogeneity=0.2).prior
        close([alone.mean, alone.sd], [one.mean[k], one.sd[k]])
    with_gap = borrowing.map_prior(np.append(y[0], np.nan), np.append(s[0], np.nan), heterogeneity=0.2).prior
    close(with_gap.mean, one.mean[0])


def test_without_heterogeneity_the_trials_are_pooled():
    y, s = np.array([-0.2, 0.1, -0.4]), np.array([0.1, 0.2, 0.15])
    prior = borrowing.map_prior(y, s, heterogeneity=1e-6).prior
    close([prior.mean, prior.sd], [np.sum(y / s**2) / np.sum(1 / s**2), 1 / np.sqrt(np.sum(1 / s**2))], rtol=1e-6)
    # trials far apart defy a prior of little heterogeneity: it must be integrated where it is, not where it began
    apart = borrowing.map_prior(np.array([-10.0, 10.0]), np.array([0.1, 0.1]), heterogeneity=0.1)
    assert 1.0 < apart.heterogeneity < 2.0
    close(apart.prior.mean, 0, atol=1e-9)


def test_proportions_mirror_and_pool():
    events, n = np.array([23, 12, 19]), np.array([107, 44, 51])
    one, other = (borrowing.map_prior_of_proportions(x, n).prior for x in (events, n - events))
    close([other.mean, other.sd], [1 - one.mean, one.sd], rtol=2e-3)
    pooled = borrowing.map_prior_of_proportions(events, n, heterogeneity=1e-3, spread=50.0).prior
    # with no heterogeneity and a flat logit the posterior is Beta(events, non-events)
    exact = beta(54, 148)
    close([pooled.mean, pooled.sd], [exact.mean, exact.sd], rtol=1e-4)


def made(seed, trials=()):
    """What trials showed: an effect with its error, and counts."""
    draw = np.random.default_rng(seed)
    return {
        "value": draw.normal(0, 1, trials),
        "se": draw.uniform(0.1, 0.5, trials),
        "df": draw.choice([2.0, 30.0, np.inf], trials),
        "events": draw.integers(0, 10, trials),
        "n": draw.integers(10, 40, trials),
    }


def hazards(d):
    counts, time = np.stack([d["events"], d["events"] + 1], -1)[..., None, :], np.full((1, 2), 30.0)
    return bayes.hazard_ratio(counts, time, priors()["robust"])


def read(posterior):
    return lambda d, contrast: bayes.reading(posterior(d), d["n"])


# name: (estimator of (data, contrast), scale)
READINGS = {
    "effect": (read(lambda d: bayes.effect(estimate(d["value"], d["se"], d["df"]), priors()["robust"])), "size"),
    "proportions": (read(lambda d: two_proportions(borrowing.robust(beta(11, 32), beta(1, 1)).updated(d["events"], d["n"]),
                                                   beta(3, 9))), "size"),
    "hazards": (read(hazards), "size"),
    "rates": (read(lambda d: two_rates(gamma(1, 1).updated(d["events"], d["n"]), gamma(2, 9))), "size"),
}  # fmt: skip
readings = laws.Siblings(READINGS, made, 1e-8, 1e-9)
test_a_batch_is_its_trials_one_by_one = laws.batch(readings, 2)
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(readings)


def test_what_was_not_estimated_is_not_believed():
    result = estimate(np.array([0.3, np.nan]), np.array([0.1, np.nan]), np.array([9.0, np.nan]))
    read = bayes.reading(bayes.effect(result, normal(0, 1)), result.n)
    assert np.isfinite(read.estimate[0]) and np.isnan(read.estimate[1])
    assert read.warnings[1] == Caution.NOT_ESTIMABLE and read.warnings[0] == 0
    assert claim_from(read.row(1), name="x", method="y").sentence.endswith("not estimable, n = 40")


def test_an_arm_without_events_needs_a_proper_prior():
    events, time = np.array([[[0, 3]], [[4, 3]], [[0, 0]]]), np.full((3, 1, 2), 9.0)
    under_flat = bayes.reading(bayes.hazard_ratio(events, time, flat()), 20)
    assert np.isfinite(under_flat.upper).tolist() == [False, True, False]
    assert under_flat.warnings.tolist() == [Caution.NOT_ESTIMABLE, 0, Caution.NOT_ESTIMABLE]
    alone = bayes.reading(bayes.hazard_ratio(events[1], time[1], flat()), 20)
    close([under_flat.lower[1], under_flat.upper[1]], [alone.lower, alone.upper])
    # nothing seen: the prior stays
    unmoved = bayes.hazard_ratio(events, time, normal(-0.1, 0.3))
    close([unmoved.mean[2], unmoved.sd[2]], [-0.1, 0.3])


def test_a_flat_prior_has_no_quantile():
    assert np.isnan(flat().quantile(0.5)) and flat().below(3.0) == 0.5


def test_tiny_samples_have_a_posterior_or_none():
    y = np.array([[1.0, np.nan, np.nan, np.nan], [1.0, 2.0, np.nan, np.nan], [1.0, 2.0, 3.0, np.nan], [np.nan] * 4])
    posterior = bayes.two_means(y, np.array([0, 1, 0, 1]))
    known = np.isfinite(bayes.reading(posterior, 1).estimate)
    assert known.tolist() == [False, False, True, False]
    informed = bayes.MeansPrior(patients=(2.0, 2.0), shape=2.0, scale=1.0)
    assert np.all(np.isfinite(bayes.reading(bayes.two_means(y, np.array([0, 1, 0, 1]), prior=informed), 1).lower))


def test_a_wider_level_is_a_wider_interval_and_words_travel():
    prior = bayes.sceptical(-0.3)
    posterior = bayes.effect(estimate(-0.2, 0.1), prior)
    narrow, wide = (bayes.reading(posterior, 40, level=level) for level in (0.8, 0.99))
    assert wide.lower < narrow.lower < narrow.upper < wide.upper and isinstance(wide, Estimate)
    assert "sceptical" in prior.words and prior.words in posterior.words
    assert borrowing.robust(prior, normal(0, 2), 0.25).words.startswith("75% sceptical")


MISTAKES = [
    (lambda: normal(0, 0), "must be above zero"),
    (lambda: beta(0, 1), "must be above zero"),
    (lambda: gamma(1, -1), "must be above zero"),
    (lambda: bayes.sceptical(0.0), "the alternative is no effect|The alternative is no effect"),
    (lambda: bayes.sceptical(0.3, chance=0.7), "between 0 and 0.5"),
    (lambda: bayes.effect(estimate(1, 1), normal(0, 1), likelihood="z"), "'t' or 'normal'"),
    (lambda: bayes.reading(normal(0, 1), 5, centre="mode"), "'mean' or 'median'"),
    (lambda: bayes.reading(normal(0, 1), 5, level=95), "for example 0.95"),
    (lambda: bayes.assurance(normal(0, 1), 0.1, alpha=5), "between 0 and 1"),
    (lambda: bayes.assurance(normal(0, 1), 0.1, favours="up"), "'lower' or 'higher'"),
    (lambda: bayes.bayes_factor(estimate(1, 1), flat()), "no Bayes factor"),
    (lambda: bayes.hazard_ratio(np.ones(3), np.ones(3), flat()), "control, then active"),
    (lambda: bayes.two_means(np.ones(3), np.ones(3), prior=bayes.MeansPrior(shape=-1.0)), "zero is the least"),
    (lambda: two_proportions(beta(1, 1), beta(1, 1), "logit"), "'ratio' or 'odds ratio'"),
    (lambda: borrowing.from_study(0.1, 0.1, power=2), "above 0"),
    (lambda: borrowing.from_study(0.1, 0.1, between=-1), "cannot be negative"),
    (lambda: borrowing.robust(beta(1, 1), beta(1, 1), 1.5), "between 0 and 1"),
    (lambda: borrowing.robust(beta(1, 1), normal(0, 1)), "two of one kind"),
    (lambda: borrowing.robust(normal(0, 1), flat()), "no height"),
    (lambda: borrowing.map_prior(np.array([np.nan]), np.array([1.0]), heterogeneity=1), "no earlier trial"),
    (lambda: borrowing.map_prior(np.array([1.0]), np.array([0.0]), heterogeneity=1), "above zero"),
    (lambda: borrowing.map_prior_of_proportions(np.array([5]), np.array([3])), "0 <= events <= n"),
    (lambda: borrowing.effective_sample_size(normal(0, 1)), "give unit_sd"),
    (lambda: borrowing.effective_sample_size(beta(1, 1), "size"), "'moment' or 'morita'"),
    (lambda: borrowing.effective_sample_size(beta(0.5, 1)), "below 1"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(MISTAKES)

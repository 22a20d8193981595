"""What must hold of survival statistics, whatever the data: symmetry, order, units of time, batches, parts, and doubt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from quell.analysis import armcounts, piecewise, survival
from quell.analysis.adjusted_restricted_mean import adjusted_restricted_mean
from quell.analysis.claim import Caution, Estimate
from quell.analysis.logrank import trend
from quell.analysis.maxcombo import maxcombo
from quell.analysis.normal_maximum import exceedance
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, seeds

N = 24
NODES = np.polynomial.legendre.leggauss(400)


def made(seed, trials=()):
    """Trials with ties, censoring, late entry, missing times, and subjects left out."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    time = np.minimum(np.ceil(draw.exponential(300, shape)), 365.0)
    return {
        "time": np.where(draw.random(shape) < 0.04, np.nan, time),
        "event": draw.random(shape) < draw.choice([0.0, 0.1, 0.5, 0.9], (*trials, 1)),
        "arm": draw.integers(0, 2, shape),
        "site": draw.integers(0, 3, shape),
        "entry": draw.integers(-3, 40, shape).astype(float),
        "covariates": draw.normal(size=(*shape, 1)),
        "include": draw.random(shape) < 0.9,
    }


def followed(d):
    return d["time"], d["event"], d["arm"]


def first(estimate):
    """The first interval of a piecewise estimate."""
    return Estimate(*(np.asarray(field)[..., 0] for field in estimate[:-1]), estimate.level)


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "milestone, plain": (lambda d, c: survival.milestone(*followed(d), 200, contrast=c, include=d["include"],
                                                         scale="plain"), "difference"),
    "milestone, log-log": (lambda d, c: survival.milestone(*followed(d), 200, contrast=c, strata=d["site"]), "difference"),
    "milestone, arcsine": (lambda d, c: survival.milestone(*followed(d), 200, contrast=c, scale="arcsine"), "difference"),
    "survival ratio": (lambda d, c: survival.survival_ratio(*followed(d), 200, contrast=c), "ratio"),
    "landmark, logit": (lambda d, c: survival.landmark(*followed(d), 200, contrast=c, entry=d["entry"],
                                                       interval="logit"), "difference"),
    "restricted mean ratio": (lambda d, c: survival.restricted_mean_ratio(*followed(d), 300, contrast=c), "ratio"),
    "lost time ratio": (lambda d, c: survival.restricted_mean_ratio(*followed(d), 300, contrast=c, of="lost"), "ratio"),
    "adjusted difference": (lambda d, c: adjusted_restricted_mean(*followed(d), 300, d["covariates"], contrast=c), "difference"),
    "adjusted ratio": (lambda d, c: adjusted_restricted_mean(*followed(d), 300, d["covariates"], contrast=c,
                                                             include=d["include"], measure="ratio"), "ratio"),
    "rate ratio, exact": (lambda d, c: first(piecewise.rate_ratio(*followed(d), cuts=[150], contrast=c)), "ratio"),
    "rate ratio, likelihood": (lambda d, c: first(piecewise.rate_ratio(*followed(d), contrast=c, entry=d["entry"],
                                                                       interval="likelihood")), "ratio"),
    "rate difference": (lambda d, c: first(piecewise.rate_difference(*followed(d), contrast=c)), "difference"),
    "late log-rank": (lambda d, c: survival.logrank(d["time"], d["event"], chosen(d, c), strata=d["site"],
                                                    entry=d["entry"], rho=0.5, gamma=1).test(), "test"),
    "Gehan": (lambda d, c: survival.logrank(d["time"], d["event"], chosen(d, c), weights="gehan").z(), "signed test"),
    "modest": (lambda d, c: survival.logrank(d["time"], d["event"], chosen(d, c), weights="modest").test(), "test"),
    "MaxCombo": (lambda d, c: maxcombo(*followed(d), contrast=c, entry=d["entry"], strata=d["site"]).test(), "signed test"),
}  # fmt: skip
siblings = laws.Siblings(ESTIMATORS, made)


def chosen(d, contrast):
    return (d["arm"] == contrast[0]).astype(int)


def in_other_units(data, scale):
    """Times scaled are no longer whole days: ranked times must agree with the day grid."""
    return {**data, "time": data["time"] * scale, "entry": data["entry"] * scale}


test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 8)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 6)
test_the_unit_of_time_means_nothing_to_a_test = laws.scaled(
    siblings, 6, [name for name, (_, scale) in ESTIMATORS.items() if "test" in scale], in_other_units
)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 4)
test_a_batch_is_the_same_in_whatever_parts = laws.pieces(siblings, 4, (armcounts, "AT_A_TIME", 1))
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)


def degenerate():
    base = {**made(3), "include": np.ones(N, bool)}
    base["time"] = np.nan_to_num(base["time"], nan=30.0)
    yield "one patient", {key: values[:1] for key, values in base.items()}
    yield "two patients", {key: values[:2] for key, values in base.items()} | {"arm": np.array([0, 1])}
    yield "nobody", {key: values[:0] for key, values in base.items()}
    yield "no events", {**base, "event": np.zeros(N, bool)}
    yield "all events", {**base, "event": np.ones(N, bool)}
    yield "all at one time", {**base, "event": np.ones(N, bool), "time": np.full(N, 30.0)}
    yield "events in one arm", {**base, "event": base["arm"] == 0}
    yield "empty arm", {**base, "arm": np.zeros(N, int)}
    yield "other arms only", {**base, "arm": np.full(N, 2)}
    yield "all missing", {**base, "time": np.full(N, np.nan)}
    yield "time zero", {**base, "time": np.zeros(N)}
    yield "the covariate is the arm", {**base, "covariates": base["arm"][:, None].astype(float)}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


def test_curves_and_quantiles_of_degenerate_data_are_quiet():
    for case, data in degenerate():
        quantile = survival.quantile(data["time"], data["event"], 0.3, entry=data["entry"])
        hazard = survival.cumulative_hazard(data["time"], data["event"], ties="fleming-harrington")
        assert (hazard.lower <= hazard.hazard).all() and (hazard.hazard <= hazard.upper).all(), case
        assert np.isfinite(quantile.estimate) or quantile.warnings & Caution.NOT_REACHED, case
        rate = piecewise.rate(data["time"], data["event"], cuts=[100])
        assert rate.estimate.shape == (2,), case


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_log_rank_sums_are_those_of_the_textbook(seed):
    """Event time by event time, with strata and late entry, in plain Python."""
    d = made(seed)
    test = survival.logrank(*followed(d), strata=d["site"], entry=d["entry"], rho=0.3, gamma=0.7)
    observed = expected = variance = 0.0
    ok = np.isfinite(d["time"]) & (d["entry"] < d["time"])
    for site in range(3):
        here, left = ok & (d["site"] == site), 1.0
        for t in np.unique(d["time"][here & d["event"]]):
            risk = here & (d["time"] >= t) & (d["entry"] < t)
            dying = risk & d["event"] & (d["time"] == t)
            y, y1, died = risk.sum(), (risk & (d["arm"] == 1)).sum(), dying.sum()
            weight = left**0.3 * (1 - left) ** 0.7
            observed += weight * (dying & (d["arm"] == 1)).sum()
            expected += weight * died * y1 / y
            variance += weight**2 * died * (y - died) / max(y - 1, 1) * y1 / y * (1 - y1 / y)
            left *= 1 - died / y
    close([test.observed[1], test.expected[1], test.covariance[1, 1]], [observed, expected, variance], rtol=1e-10)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_trend_over_two_arms_is_the_log_rank_test(seed):
    test = survival.logrank(*followed(made(seed)))
    found = trend(test, scores=(3, 7))
    if test.df == 1:
        close([found.statistic**2, found.p], [test.chi_square, test.p])


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_maxcombo_of_one_weight_is_that_weight_and_more_weights_only_raise_p_above_the_least(seed):
    d = made(seed, (5,))
    alone = maxcombo(*followed(d), weights=[(0, 1)])
    close(alone.p, alone.separate[..., 0])
    found = maxcombo(*followed(d))
    least = np.nanmin(np.where(np.isnan(found.separate), 1.0, found.separate), -1)
    known = ~np.isnan(found.p)
    assert (found.p[known] >= least[known] - 1e-12).all()
    assert (found.p[known] <= np.minimum(4 * least[known], 1) + 1e-12).all()


def test_the_normal_maximum_of_dependent_variables_is_its_double_integral():
    """Four variables of rank three (the first is made of the second and third): integrate the region as it is defined."""
    draw = np.random.default_rng(5)
    rows = draw.normal(size=(3, 3))
    rows = np.concatenate([[rows[0] + rows[1]], rows])
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    limit = 1.4

    grid = np.linspace(-6.5, 6.5, 1601)
    x, y = grid[:, None, None], grid[None, :, None]
    ends = [(sign * limit - rows[:, 0] * x - rows[:, 1] * y) / rows[:, 2] for sign in (-1, 1)]
    low, high = np.minimum(*ends).max(-1), np.maximum(*ends).min(-1)
    density = np.exp(-(x**2 + y**2) / 2)[..., 0] / (2 * np.pi)
    inside = np.sum(np.maximum(special.ndtr(high) - special.ndtr(low), 0.0) * density) * (grid[1] - grid[0]) ** 2
    assert float(exceedance(limit, rows @ rows.T)) == pytest.approx(1 - inside, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(limit=st.floats(-2, 4), correlation=st.floats(0.01, 0.95))
def test_the_normal_maximum_of_three_alike_is_an_integral_over_what_they_share(limit, correlation):
    matrix = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    nodes, weights = NODES
    shared = 9 * nodes
    below = special.ndtr((limit - np.sqrt(correlation) * shared) / np.sqrt(1 - correlation)) ** 3
    outside = 1 - np.sum(9 * weights * np.exp(-(shared**2) / 2) / np.sqrt(2 * np.pi) * below)
    assert float(exceedance(limit, matrix, two_sided=False)) == pytest.approx(outside, abs=1e-11)


@settings(max_examples=20, deadline=None)
@given(events=st.tuples(st.integers(0, 30), st.integers(0, 30)), days=st.tuples(st.floats(1, 1e4), st.floats(1, 1e4)))
def test_p_and_interval_of_a_likelihood_rate_ratio_agree(events, days):
    time = np.array([*days, *np.zeros(sum(events))])
    event = np.array([0, 0, *np.ones(sum(events))])
    arm = np.array([1, 0, *np.repeat([1, 0], events)])
    found = first(piecewise.rate_ratio(time, event, arm, interval="likelihood"))
    if abs(float(found.p) - 0.05) > 1e-7:
        assert (found.p < 0.05) == (found.lower > 1 or found.upper < 1)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_person_time_is_cut_without_loss(seed):
    d = made(seed)
    whole = piecewise.person_time(*followed(d), entry=d["entry"])
    cut = piecewise.person_time(*followed(d), cuts=[30, 100, 250], entry=d["entry"])
    close(cut.days.sum(-1), whole.days[..., 0])
    assert (cut.events.sum(-1) == whole.events[..., 0]).all()


def test_without_censoring_adjusting_for_nothing_changes_nothing():
    d = made(12)
    time, event = np.nan_to_num(d["time"], nan=5.0), np.ones(N)
    plain = survival.restricted_mean_difference(time, event, d["arm"], 300)
    adjusted = adjusted_restricted_mean(time, event, d["arm"], 300, np.zeros((N, 0)))
    close([adjusted.estimate, adjusted.se], [plain.estimate, plain.se])


MISTAKES = [
    (lambda d: survival.quantile(d["time"], d["event"], 1.5), "between 0 and 1"),
    (lambda d: survival.logrank(*followed(d), weights="late"), "'tarone-ware'"),
    (lambda d: survival.logrank(*followed(d), weights="gehan", rho=1), "leave them out"),
    (lambda d: survival.logrank(*followed(d), rho=-1), "below 0"),
    (lambda d: survival.logrank(*followed(d)).z("lower"), "'less' or 'greater'"),
    (lambda d: survival.logrank(d["time"], d["event"], d["site"]).z(), "compares two arms"),
    (lambda d: trend(survival.logrank(*followed(d)), scores=(1, 2, 3)), "one score for each arm"),
    (lambda d: survival.logrank(d["time"], d["event"], np.array(list("ab") * 12)), "number the labels first"),
    (lambda d: survival.milestone(*followed(d), 200, scale="probit"), "'logit' or 'arcsine'"),
    (lambda d: survival.landmark(*followed(d), 200, contrast=(1, 1)), "two different arm codes"),
    (lambda d: survival.restricted_mean_ratio(*followed(d), 200, of="left"), "'survived' or 'lost'"),
    (lambda d: adjusted_restricted_mean(*followed(d), 200, d["covariates"][:, 0]), "give covariates as"),
    (lambda d: adjusted_restricted_mean(*followed(d), 200, d["covariates"], measure="odds"), "'lost ratio'"),
    (lambda d: piecewise.rate(d["time"], d["event"], cuts=[9, 3]), "days that rise"),
    (lambda d: piecewise.rate(d["time"], d["event"], interval="wald"), "'exact', 'likelihood' or 'log'"),
    (lambda d: piecewise.rate_ratio(*followed(d), interval="wald"), "'exact', 'likelihood' or 'log'"),
    (lambda d: survival.cumulative_hazard(d["time"], d["event"], ties="breslow"), "'nelson-aalen'"),
    (lambda d: maxcombo(*followed(d), weights=[]), "at least one weight"),
    (lambda d: maxcombo(*followed(d), alternative="one-sided"), "'less' or 'greater'"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(MISTAKES, made(1))


def test_an_arm_whose_events_come_after_the_horizon_has_none_before_it():
    time, event = np.array([2.0, 4.0, 9.0, 7.0, 8.0, 9.0]), np.array([1, 1, 0, 1, 1, 0])
    found = survival.restricted_mean_difference(time, event, np.array([0, 0, 0, 1, 1, 1]), 6)
    assert int(found.warnings) & int(Caution.ARM_WITHOUT_EVENTS)
    assert not int(found.warnings) & int(Caution.CONSTANT_OUTCOME)

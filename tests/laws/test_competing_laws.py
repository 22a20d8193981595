"""What must hold of competing risks, whatever the data: nobody is lost, symmetry, order, batches, units, and doubt."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import armcounts, competing, survival
from quell.analysis.claim import Caution
from quell.analysis.fine_gray import fine_gray
from quell.analysis.gray import gray
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, numbers, seeds

N = 26


def made(seed, trials=()):
    """Trials with ties, censoring, two causes, missing times and causes, and subjects left out."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    cause = draw.choice([0, 1, 1, 2, 2, 3], shape).astype(float)
    cause = np.where(draw.random(shape) < draw.choice([0.0, 0.3], (*trials, 1)), 0, cause)
    return {
        "time": np.where(draw.random(shape) < 0.04, np.nan, np.minimum(np.ceil(draw.exponential(200, shape)), 365.0)),
        "cause": np.where(draw.random(shape) < 0.04, np.nan, cause),
        "arm": draw.integers(0, 2, shape),
        "site": draw.integers(0, 3, shape),
        "covariates": draw.normal(size=(*shape, 1)),
        "include": draw.random(shape) < 0.9,
    }


def chosen(d, contrast):
    return (d["arm"] == contrast[0]).astype(int)


def with_arm(d, contrast):
    return np.concatenate([chosen(d, contrast)[..., None], d["covariates"]], -1)


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "difference": (lambda d, c: competing.incidence_difference(d["time"], d["cause"], d["arm"], 150, contrast=c,
                                                               include=d["include"]), "difference"),
    "difference, Aalen": (lambda d, c: competing.incidence_difference(d["time"], d["cause"], d["arm"], 150, contrast=c,
                                                                      of=2, variance="aalen"), "difference"),
    "days lost": (lambda d, c: competing.days_lost_difference(d["time"], d["cause"], d["arm"], 300, contrast=c), "difference"),
    "Gray": (lambda d, c: gray(d["time"], d["cause"], chosen(d, c), strata=d["site"], rho=0.5).test(), "test"),
    "Fine-Gray": (lambda d, c: fine_gray(d["time"], d["cause"], with_arm(d, c), include=d["include"]).ratio(0), "ratio"),
}  # fmt: skip


def settled(name, estimate):
    """A fit on its way to infinity stops where it stops: of that, only the doubt is compared."""
    return not np.any(estimate.warnings & (Caution.SEPARATION | Caution.NOT_CONVERGED))


siblings = laws.Siblings(ESTIMATORS, made, settled=settled)

test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 12)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 8)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 5)
test_a_batch_is_the_same_in_whatever_parts = laws.pieces(siblings, 5, (armcounts, "AT_A_TIME", 1))
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)
test_time_in_other_units_changes_no_test = laws.scaled(
    siblings, 8, ("Gray", "Fine-Gray"), lambda data, scale: {**data, "time": data["time"] * scale}
)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_everybody_is_somewhere(seed):
    d = made(seed)
    curves = [competing.cumulative_incidence(d["time"], d["cause"], of=of) for of in (1, 2, 3)]
    close(sum(curve.incidence for curve in curves) + curves[0].event_free, 1.0)
    lost = sum(competing.days_lost(d["time"], d["cause"], 300, of=of).estimate for of in (1, 2, 3))
    close(
        lost
        + survival.restricted_mean(d["time"], np.where(np.isnan(d["cause"]), np.nan, d["cause"] > 0), 300).estimate,
        300,
    )


def incidence_and_loss(weight, time, cause, day):
    """Aalen and Johansen's estimate with weights, by its definition: at a day, and its area up to the day."""
    free, incidence, area, before = 1.0, 0.0, 0.0, 0.0
    for t in np.unique(time[(cause > 0) & (time <= day)]):
        area, before = area + incidence * (t - before), t
        at_risk = weight[time >= t].sum()
        incidence += free * weight[(time == t) & (cause == 1)].sum() / at_risk
        free *= 1 - weight[(time == t) & (cause > 0)].sum() / at_risk
    return np.array([incidence, area + incidence * (day - before)])


@settings(max_examples=12, deadline=None)
@given(seed=seeds, day=st.sampled_from([60, 150, 300, 365]))
def test_the_jackknife_is_the_sum_of_squared_influences(seed, day):
    d = made(seed)
    ok = np.isfinite(d["time"]) & np.isfinite(d["cause"])
    time, cause = d["time"][ok], d["cause"][ok]
    # everybody at risk leaving at once is a corner where the derivative from outside does not exist
    change, influence = 1e-6, []
    for k in range(len(time)):
        weights = [np.ones(len(time)) + sign * change * (np.arange(len(time)) == k) for sign in (1, -1)]
        influence.append(
            (incidence_and_loss(weights[0], time, cause, day) - incidence_and_loss(weights[1], time, cause, day))
            / 2
            / change
        )
    expected = np.sqrt(np.sum(np.square(influence), 0))
    found = competing.incidence_at(time, cause, day), competing.days_lost(time, cause, day)
    close([np.nan_to_num(one.se) for one in found], expected, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_units_of_a_covariate_scale_its_coefficient(seed, scale, shift):
    d = made(seed)
    one = fine_gray(d["time"], d["cause"], d["covariates"])
    other = fine_gray(d["time"], d["cause"], shift + scale * d["covariates"])
    if settled("Fine-Gray", one):
        close(other.coefficients * scale, one.coefficients)
        close(other.se * scale, one.se)
        close(other.log_likelihood, one.log_likelihood)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_numbering_the_causes_otherwise_changes_nothing(seed):
    d = made(seed)
    renumbered = np.select([d["cause"] == 1, d["cause"] == 2], [2.0, 1.0], d["cause"])
    for ask in (
        lambda cause, of: gray(d["time"], cause, d["arm"], of=of).test(),
        lambda cause, of: competing.incidence_at(d["time"], cause, 150, of=of),
    ):
        close(numbers(ask(renumbered, 2)), numbers(ask(d["cause"], 1)))


def degenerate():
    base = {**made(3), "include": np.ones(N, bool)}
    base = {**base, "time": np.nan_to_num(base["time"], nan=30.0), "cause": np.nan_to_num(base["cause"], nan=1.0)}
    yield "one patient", {key: values[:1] for key, values in base.items()}
    yield "two patients", {key: values[:2] for key, values in base.items()} | {"arm": np.array([0, 1])}
    yield "nobody", {key: values[:0] for key, values in base.items()}
    yield "no events", {**base, "cause": np.zeros(N)}
    yield "other causes only", {**base, "cause": np.full(N, 2.0)}
    yield "all events of one cause", {**base, "cause": np.ones(N)}
    yield "all at one time", {**base, "time": np.full(N, 30.0)}
    yield "events in one arm", {**base, "cause": np.where(base["arm"] == 0, 1.0, 0.0)}
    yield "empty arm", {**base, "arm": np.zeros(N, int)}
    yield "all missing", {**base, "time": np.full(N, np.nan)}
    yield "time zero", {**base, "time": np.zeros(N)}
    yield "the covariate is the arm", {**base, "covariates": base["arm"][:, None].astype(float)}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


def test_a_curve_without_an_estimate_says_so():
    for case, data in degenerate():
        one = competing.incidence_at(data["time"], data["cause"], 100)
        assert np.isnan(one.estimate) == bool(one.warnings & Caution.NOT_ESTIMABLE), case


def test_an_arm_without_the_event_has_no_subdistribution_ratio_and_says_so():
    time, cause = np.arange(1.0, 21.0), np.tile([1, 0, 2, 0], 5)
    arm = (cause != 1).astype(float)
    fit = fine_gray(time, cause, arm[:, None])
    assert fit.warnings & Caution.SEPARATION


MISTAKES = [
    (lambda d: competing.incidence_at(d["time"], d["cause"], 9, of=0), "coded 1, 2"),
    (lambda d: competing.incidence_at(d["time"], np.array(["death"] * N), 9), "number the labels first"),
    (lambda d: competing.incidence_at(d["time"], d["cause"], 9, interval="wilson"), "'logit' or 'arcsine'"),
    (lambda d: competing.incidence_at(d["time"], d["cause"], 9, variance="delta"), "or 'aalen'"),
    (lambda d: gray(d["time"], d["cause"], d["arm"], rho=-1), "may not be below 0"),
    (lambda d: gray(d["time"], d["cause"][:4], d["arm"]), "do not fit together"),
    (lambda d: fine_gray(d["time"], d["cause"], d["covariates"][:, 0]), "give covariates as"),
    (lambda d: fine_gray(d["time"], d["cause"][:4], d["covariates"]), "do not fit together"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(MISTAKES, made(1))

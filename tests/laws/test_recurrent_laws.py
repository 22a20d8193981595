"""What must hold of repeated events whatever the data: order, units, labels, batches, and doubt where it is due."""

import numpy as np
import pytest
from hypothesis import given, settings

from quell.analysis import mean_cumulative as mcf
from quell.analysis import negative_binomial as nb
from quell.analysis import recurrent
from quell.analysis.claim import Caution
from quell.analysis.survival import survival_at
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, seeds

N, K = 40, 4
few = settings(max_examples=8, deadline=None)


def made(seed, trials=()):
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    gaps = np.ceil(draw.exponential(draw.gamma(1, 60, (*shape, 1)) + 5, (*shape, K)))
    days = np.where(draw.random((*shape, K)) < 0.9, np.cumsum(gaps, -1), np.inf)
    return {
        "days": days,
        "until": draw.integers(50, 150, shape).astype(float),
        "died": draw.random(shape) < 0.2,
        "arm": draw.integers(0, 2, shape),
        "x": draw.normal(1, 2, shape),
        "include": draw.random(shape) < 0.95,
    }


def rows_of(d):
    return recurrent.episodes(d["days"], d["until"], died=d["died"], include=d["include"])


def counts_of(d):
    return np.sum(d["days"] <= d["until"][..., None], -1)


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "LWYY": (lambda d, c: recurrent.rate_ratio(rows_of(d), d["arm"], contrast=c), "ratio"),
    "mean cumulative": (lambda d, c: mcf.mean_cumulative_difference(rows_of(d), d["arm"], 100, contrast=c), "difference"),
    "negative binomial": (lambda d, c: nb.count_ratio(counts_of(d), d["until"], d["arm"], contrast=c,
                                                      include=d["include"]), "ratio"),
    "adjusted": (lambda d, c: nb.count_ratio(counts_of(d), d["until"], d["arm"], contrast=c,
                                             covariates=d["x"][..., None], errors="robust"), "ratio"),
    "Poisson": (lambda d, c: nb.count_ratio(counts_of(d), d["until"], d["arm"], contrast=c, model="poisson",
                                            errors="robust", include=d["include"]), "ratio"),
}  # fmt: skip
siblings = laws.Siblings(ESTIMATORS, made)

test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 8)
test_the_order_of_persons_and_events_means_nothing = laws.order(
    siblings, 8, also=lambda data: {**data, "days": data["days"][:, ::-1]}
)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 8)
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)
test_units_of_time_change_no_ratio = laws.scaled(
    siblings,
    8,
    ("LWYY", "negative binomial", "Poisson"),
    lambda data, scale: {**data, "days": data["days"] * scale, "until": data["until"] * scale},
)


@few
@given(seed=seeds)
def test_with_one_event_each_the_models_of_repeated_events_are_coxs(seed):
    data = made(seed)
    days, x = data["days"][:, :1], data["x"][:, None]
    rows = recurrent.episodes(days, data["until"])
    # follow-up ends with the event
    rows = rows._replace(include=rows.include & (rows.number == 0))
    one = recurrent.lwyy(rows, x)
    two = recurrent.prentice_williams_peterson(rows, x, most=1)
    three = recurrent.wei_lin_weissfeld(days, data["until"], x)
    close([one.coefficients, one.se], [two.coefficients, two.se])
    close([one.coefficients, one.se], [three.coefficients[0], np.sqrt(np.diag(three.covariance))])
    close([three.average().estimate, three.average().se], [one.coefficients[0], one.se[0]])


@few
@given(seed=seeds)
def test_one_fatal_event_each_has_the_mean_of_a_survival_curve(seed):
    data = made(seed)
    first = np.min(data["days"], -1)
    until = np.minimum(first, data["until"])
    rows = recurrent.episodes(first[:, None], until, died=first <= data["until"])
    mean = mcf.mean_cumulative_at(rows, 80)
    curve = survival_at(until, first <= data["until"], 80)
    close([mean.estimate], [1 - curve.estimate])


@few
@given(seed=seeds)
def test_the_curve_passes_through_its_points(seed):
    rows = rows_of(made(seed))
    curve = mcf.mean_cumulative(rows)
    for day in (40, 90):
        at, j = mcf.mean_cumulative_at(rows, day), int(np.sum(curve.times <= day)) - 1
        close([at.estimate, at.lower, at.upper], [curve.mean[j], curve.lower[j], curve.upper[j]])


def test_many_events_on_one_day():
    rows = recurrent.episodes(np.array([[20.0, 20.0, 50.0], [30.0, np.inf, np.inf]]), np.array([60.0, 80.0]))
    assert rows.occurrences[rows.event].tolist() == [2, 1, 1] and rows.warnings == Caution.SAME_DAY
    assert mcf.mean_cumulative_at(rows, 25).estimate == 1.0


def test_rows_leave_out_what_is_not_known():
    days = np.array([[20.0, np.nan], [0.0, np.inf], [30.0, np.inf], [np.inf, np.inf]])
    rows = recurrent.episodes(days, np.array([60.0, 60.0, np.nan, 30.0]))
    assert rows.people == 3 and rows.event.sum() == 1 and rows.warnings == Caution.MISSING


def degenerate():
    base = {**made(3), "include": np.ones(N, bool), "died": np.zeros(N, bool)}
    yield "one person", {**base, "include": np.arange(N) == 0}
    yield "nobody", {**base, "include": np.zeros(N, bool)}
    yield "no events", {**base, "days": np.full((N, K), np.inf)}
    yield "one event", {**base, "days": np.where(np.arange(N * K).reshape(N, K) == 8, 20.0, np.inf)}
    yield "an arm without events", {**base, "days": np.where(base["arm"][:, None] == 1, np.inf, base["days"])}
    yield "empty arm", {**base, "arm": np.zeros(N, int)}
    yield "no follow-up", {**base, "until": np.zeros(N)}
    yield "all missing", {**base, "until": np.full(N, np.nan)}
    yield "all on one day", {**base, "days": np.full((N, K), 20.0)}
    yield "everybody dies", {**base, "died": np.ones(N, bool)}
    yield "constant covariate", {**base, "x": np.ones(N)}
    yield "covariate is the arm", {**base, "x": base["arm"] * 2.0}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


@pytest.mark.parametrize(("case", "data"), list(degenerate()), ids=lambda one: one if isinstance(one, str) else "")
def test_degenerate_data_spoil_no_other_model(case, data):
    rows, x = rows_of(data), np.stack([data["arm"], data["x"]], -1)
    for clock in ("total", "gap"):
        fitted = recurrent.prentice_williams_peterson(rows, x, clock=clock)
        assert fitted.warnings or np.isfinite(fitted.p).all(), case
    both = recurrent.wei_lin_weissfeld(data["days"], data["until"], x, include=data["include"])
    for result in (both.average(), both.test(), both.each(0)):
        assert result.warnings or np.isfinite(result.p), case
    curve = mcf.mean_cumulative(rows)
    assert np.isfinite(curve.mean[np.isfinite(curve.times)]).all()


def test_counts_that_vary_less_than_chance_are_poissons():
    count, arm = np.tile([2, 3, 2, 3], 10), np.arange(40) % 2
    result = nb.count_ratio(count, np.ones(40), arm)
    plain = nb.count_ratio(count, np.ones(40), arm, model="poisson")
    assert result.warnings == Caution.NO_EXTRA_VARIATION and plain.warnings == 0
    close([result.estimate, result.se], [plain.estimate, plain.se])


def test_a_dispersion_that_the_data_hardly_determine_is_found_in_every_unit():
    data = made(325)
    for unit in (1.0, 1.5, 7.0):
        result = nb.count_ratio(counts_of(data), data["until"] * unit, data["arm"], include=data["include"])
        assert result.warnings == 0


def test_an_arm_without_events_has_no_finite_ratio():
    data = dict(degenerate())["an arm without events"]
    for name in ("LWYY", "negative binomial", "Poisson"):
        result = ESTIMATORS[name][0](data, (1, 0))
        assert (result.estimate, result.lower, result.upper) == (0, 0, np.inf)
        assert result.warnings & Caution.ARM_WITHOUT_EVENTS and not result.warnings & Caution.NOT_CONVERGED


D, U, X = np.full((3, 2), np.inf), np.ones(3), np.arange(6.0).reshape(3, 2)
ASKED = [
    (lambda: recurrent.episodes(D, U[:2]), "give days as"),
    (lambda: recurrent.wei_lin_weissfeld(D, U[:2], D), "give days as"),
    (lambda: recurrent.lwyy(recurrent.episodes(D, U), U), "give them as"),
    (lambda: recurrent.prentice_williams_peterson(recurrent.episodes(D, U), D, clock="calendar"), "'total'"),
    (lambda: mcf.mean_cumulative(recurrent.episodes(D, U), interval="exact"), "'log' or 'plain'"),
    (lambda: nb.count_regression(-U, U, X), "negative or not whole"),
    (lambda: nb.count_regression(U, U, U), "give them as"),
    (lambda: nb.count_regression(U, U[:2], X), "do not fit together"),
    (lambda: nb.count_regression(U, U, X, model="quasi"), "'negative binomial' or 'poisson'"),
    (lambda: nb.count_regression(U, U, X, errors="HC3"), "'model' or 'robust'"),
    (lambda: nb.event_rate(U, U, errors="wald"), "'exact' or 'robust'"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(ASKED)

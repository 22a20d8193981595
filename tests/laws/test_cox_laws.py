"""What must hold of Cox's model whatever the data: units, order, splitting, batches, clusters, and doubt where it is due."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import cox as room
from quell.analysis.claim import Caution
from quell.analysis.cox import Spells, cox, firth, fit, hazard_ratio
from quell.analysis.cox_prediction import predicted_survival
from quell.analysis.cox_robust import residuals
from quell.analysis.proportionality import proportionality, proportionality_of_arms
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, seeds

N = 40
few = settings(max_examples=10, deadline=None)


def made(seed, trials=()):
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    x = np.stack([draw.integers(0, 2, shape), draw.normal(3, 2, shape)], -1).astype(float)
    time = np.ceil(draw.exponential(60 * np.exp(-0.3 * x[..., 0]), shape))
    return Spells(
        time=np.minimum(time, 100.0),
        event=(time <= 100) & (draw.random(shape) < 0.8),
        covariates=x,
        entry=np.where(draw.random(shape) < 0.3, draw.integers(0, 5, shape), 0) * (time > 5),
        strata=draw.integers(0, 2, shape),
        include=draw.random(shape) < 0.95,
        weights=draw.choice([0.5, 1.0, 2.0], shape),
        offset=draw.normal(0, 0.2, shape),
    )


def clusters(seed, trials=()):
    return np.random.default_rng(seed).integers(0, 25, (*trials, N))


def numbers(fitted):
    return [np.asarray(getattr(fitted, name), float) for name in room.ARRAYS]


def asked(ties):
    """Everything that a fit and its test of proportionality say."""

    def answer(data, contrast):
        fitted = fit(data["rows"], ties=ties, cluster=data["people"])
        test = proportionality(data["rows"], fitted)
        return [*numbers(fitted), test.chi_square, test.global_p]

    return answer


siblings = laws.Siblings(
    {ties: (asked(ties), "fit") for ties in ("efron", "breslow")},
    lambda seed, trials=(): {"rows": made(seed, trials), "people": clusters(seed, trials)},
)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 10)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 10)


@few
@given(seed=seeds)
def test_how_trials_are_grouped_means_nothing(seed):
    rows, people = made(seed, (9,)), clusters(seed, (9,))
    # one trial without an end to climb to, among others that have one
    rows.event[4] &= rows.covariates[4, :, 0] > 0
    whole = fit(rows, cluster=people)
    before = room.VALUES_AT_ONCE
    try:
        room.VALUES_AT_ONCE = 2 * N
        parts = fit(rows, cluster=people)
    finally:
        room.VALUES_AT_ONCE = before
    ending = np.arange(9) != 4
    close(laws.part(numbers(parts), ending), laws.part(numbers(whole), ending))
    assert parts.warnings[4] == whole.warnings[4] and whole.warnings[4] & Caution.SEPARATION


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_of_a_covariate_scale_its_coefficient(seed, scale, shift):
    rows, people = made(seed), clusters(seed)
    other = rows._replace(covariates=rows.covariates * [1, scale] + [0, shift])
    one, two = fit(rows, cluster=people), fit(other, cluster=people)
    close([two.coefficients * [1, scale], two.se * [1, scale], two.p], [one.coefficients, one.se, one.p], 1e-5)
    close([two.score, two.robust_score, two.wald], [one.score, one.robust_score, one.wald], 1e-5)
    tests = [proportionality(*pair).chi_square for pair in ((rows, one), (other, two))]
    close(tests[:1], tests[1:], 1e-4)


@few
@given(seed=seeds)
def test_a_row_split_in_two_is_the_same_person(seed):
    rows, people = made(seed), np.arange(N)
    middle = (rows.entry + rows.time) / 2
    early = rows._replace(time=middle, event=np.zeros(N, bool))
    late = rows._replace(entry=middle)
    both = laws.each_array(lambda *halves: np.concatenate(halves), early, late)
    for ties in ("efron", "breslow"):
        whole, parts = fit(rows, ties=ties, cluster=people), fit(both, ties=ties, cluster=np.tile(people, 2))
        close(
            [parts.coefficients, parts.se, parts.log_likelihood], [whole.coefficients, whole.se, whole.log_likelihood]
        )


@few
@given(seed=seeds)
def test_residuals_add_up(seed):
    rows = made(seed)
    fitted = fit(rows)
    weights = np.where(np.isfinite(residuals(rows, fitted.coefficients)), rows.weights, 0.0)
    if not fitted.warnings & Caution.NOT_CONVERGED:
        martingale = np.nan_to_num(residuals(rows, fitted.coefficients))
        score = np.nan_to_num(residuals(rows, fitted.coefficients, "score"))
        assert abs(np.sum(weights * martingale)) < 1e-8
        np.testing.assert_allclose(weights @ score, 0, atol=1e-6)
        schoenfeld = np.nan_to_num(residuals(rows, fitted.coefficients, "schoenfeld"))
        np.testing.assert_allclose(weights @ schoenfeld, 0, atol=1e-6)


@few
@given(seed=seeds)
def test_two_engines_agree_on_two_arms(seed):
    rows = made(seed)._replace(entry=None, weights=None, offset=None, covariates=made(seed).covariates[:, :1])
    arm = rows.covariates[:, 0].astype(int)
    counted = hazard_ratio(rows.time, rows.event, arm, strata=rows.strata, include=rows.include)
    fitted = fit(rows).ratio()
    if not counted.warnings & Caution.FIRTH:
        close([counted.estimate, counted.se, counted.p], [fitted.estimate, fitted.se, fitted.p])


def degenerate():
    base = made(3)._replace(entry=None, include=None)
    yield "one patient", base._replace(include=np.arange(N) == 0)
    yield "nobody", base._replace(include=np.zeros(N, bool))
    yield "no events", base._replace(event=np.zeros(N, bool))
    yield "all events at one time", base._replace(event=np.ones(N, bool), time=np.full(N, 30.0))
    yield "one event", base._replace(event=np.arange(N) == 7)
    yield "constant covariates", base._replace(covariates=np.ones((N, 2)))
    yield "one covariate twice", base._replace(covariates=np.repeat(base.covariates[:, :1], 2, 1))
    yield "events in one arm", base._replace(event=base.covariates[:, 0] == 1)
    yield "all missing", base._replace(time=np.full(N, np.nan))
    yield "missing covariates", base._replace(covariates=np.full((N, 2), np.nan))
    yield "everybody enters at the end", base._replace(entry=base.time)
    yield "every subject a stratum", base._replace(strata=np.arange(N))
    yield "time zero", base._replace(time=np.zeros(N))


@pytest.mark.parametrize(("case", "rows"), list(degenerate()), ids=lambda one: one if isinstance(one, str) else "")
def test_degenerate_data_give_an_answer_or_a_doubt(case, rows):
    fits = [fit(rows), fit(rows, cluster=np.arange(N)), firth(rows.time, rows.event, rows.covariates)]
    for fitted in fits:
        if np.isnan(fitted.p).any() or np.isnan(fitted.se).any():
            assert fitted.warnings, case
    test = proportionality(rows, fits[0])
    if np.isnan(test.global_p):
        assert test.warnings, case
    one = rows._replace(strata=None)
    predicted = predicted_survival(one, fit(one), np.zeros(2), 20)
    assert np.isfinite(predicted.estimate) or predicted.warnings, case
    # a bad trial does not spoil the one beside it
    other = made(4)._replace(entry=rows.entry if rows.entry is None else made(4).entry, include=rows.include)
    close(laws.part(numbers(fit(laws.together(rows, other))), 1), numbers(fit(other)))


def test_a_batch_of_no_trials():
    rows = Spells(np.zeros((0, 5)), np.zeros((0, 5)), np.zeros((0, 5, 2)))
    assert fit(rows, cluster=np.arange(5)).coefficients.shape == (0, 2)
    assert proportionality(rows, fit(rows)).chi_square.shape == (0, 2)
    assert firth(rows.time, rows.event, rows.covariates).se.shape == (0, 2)


def test_twenty_clusters_and_no_doubt():
    rows = made(5)
    assert not fit(rows, cluster=np.arange(N) % 20)._replace().warnings & Caution.FEW_CLUSTERS
    assert fit(rows._replace(include=None), cluster=np.arange(N) % 19).warnings & Caution.FEW_CLUSTERS


def test_no_proportionality_is_tested_where_no_ratio_exists():
    arm = np.repeat([0, 1], 20)
    test = proportionality_of_arms(1.0 + np.arange(40) % 20, arm == 1, arm)
    assert np.isnan(test.p[0]) and test.warnings & Caution.SEPARATION


T, E, X = np.arange(1.0, 7.0), np.ones(6), np.arange(6.0)[:, None]
ASKED = [
    (lambda: cox(T, E, X[:5]), "give covariates as"),
    (lambda: cox(T, E[:4], X), "do not fit together"),
    (lambda: cox(T, E, X[:, :0]), "at least one column"),
    (lambda: predicted_survival(Spells(T, E, X, strata=E), cox(T, E, X), np.zeros(1), 3), "one stratum at a time"),
    (lambda: cox(T, E, X, ties="exact"), "'efron' or 'breslow'"),
    (lambda: cox(T, E, X, cluster=np.arange(3)), "one code per row"),
    (lambda: fit(Spells(T, E, X, weights=-np.ones(6))), "weight is negative"),
    (lambda: firth(T, E, X, interval="exact"), "'profile' or 'wald'"),
    (lambda: residuals(Spells(T, E, X), np.zeros(1), "deviance"), "'martingale', 'score', 'dfbeta' or 'schoenfeld'"),
    (lambda: proportionality(Spells(T, E, X), cox(T, E, X), "sqrt"), "'km', 'identity', 'rank' or 'log'"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(ASKED)

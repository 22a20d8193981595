"""What must hold of agreement between readers and methods: order, units, batches, perfect and useless readings."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis.agreement import FORMS, concordance, intraclass, kappa, repeatability
from quell.analysis.claim import Caution, claim_from
from quell.analysis.method_comparison import (
    deming,
    limits_of_agreement,
    limits_with_repeats,
    passing_bablok,
    proportional_bias,
)
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import numbers, seeds

N = 24


def made(seed, trials=()):
    draw = np.random.default_rng(seed)
    truth = draw.normal(2.2, 0.5, (*trials, N, 1))
    readings = truth + draw.normal(0, 0.15, (*trials, N, 3)) + np.array([0.0, 0.1, -0.05])
    return np.where(draw.random(readings.shape) < 0.02, np.nan, readings)


def codes(readings):
    return np.where(np.isfinite(readings), np.clip(np.floor(readings), 0, 3), -1)


def pair(readings):
    return readings[..., 0], readings[..., 1]


# name: (estimator of readings, power of the unit it is in, whether order of the two readers matters)
ESTIMATORS = {
    **{f"ICC({form})": (lambda r, form=form: intraclass(r, form), 0) for form in FORMS},
    "concordance": (lambda r: concordance(*pair(r)), 0),
    "kappa": (lambda r: kappa(*pair(codes(r)), weights="quadratic", categories=4), None),
    "bias": (lambda r: limits_of_agreement(*pair(r)).bias, 1),
    "upper limit": (lambda r: limits_of_agreement(*pair(r)).upper, 1),
    "approximate limit": (lambda r: limits_of_agreement(*pair(r), interval="approximate").lower, 1),
    "limit with repeats": (lambda r: limits_with_repeats(r[..., :2], r[..., 1:]).upper, 1),
    "limit of pairs": (lambda r: limits_with_repeats(r[..., :2], r[..., 1:], pairs=True).lower, 1),
    "proportional bias": (lambda r: proportional_bias(*pair(r)), 0),
    "Deming slope": (lambda r: deming(*pair(r), error_ratio=2.0).slope, 0),
    "Deming intercept": (lambda r: deming(*pair(r)).intercept, 1),
    "Passing-Bablok": (lambda r: passing_bablok(*pair(r)).slope, 0),
    "within sd": (lambda r: repeatability(r).within_sd, 1),
    "coefficient": (lambda r: repeatability(r).coefficient, 1),
    "cv": (lambda r: repeatability(r).cv_rms, 0),
    "log cv": (lambda r: repeatability(r).cv_log, 0),
}
each = pytest.mark.parametrize("name", ESTIMATORS)
SIZES = {name: (lambda r, c, ask=ask: ask(r), "size") for name, (ask, _) in ESTIMATORS.items()}
siblings = laws.Siblings(SIZES, made, 1e-7, 1e-9)
close = functools.partial(laws.close, rtol=1e-7, atol=1e-9)

test_the_order_of_subjects_means_nothing = laws.order(siblings, 4)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 4, (3,))
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)


@each
@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_the_limits_hold_the_estimate(name, seed):
    result = ESTIMATORS[name][0](made(seed))
    assert result.lower <= result.estimate <= result.upper
    assert claim_from(result, name=name, method=name).n == int(result.n)


@pytest.mark.parametrize("name", [name for name, (_, power) in ESTIMATORS.items() if power is not None])
@settings(max_examples=4, deadline=None)
@given(seed=seeds, scale=st.floats(1e-3, 1e3))
def test_units_scale_what_has_a_unit_and_nothing_else(name, seed, scale):
    estimator, power = ESTIMATORS[name]
    readings = made(seed)
    one, other = estimator(readings), estimator(scale * readings)
    for field in ("estimate", "lower", "upper"):
        close(getattr(other, field) / scale**power, getattr(one, field))


@pytest.mark.parametrize("form", FORMS)
def test_the_order_of_readers_and_a_shift_of_all_mean_nothing(form):
    readings = made(7)
    close(numbers(intraclass(readings[:, ::-1] + 5.0, form)), numbers(intraclass(readings, form)))


def test_a_reader_who_reads_high_spoils_agreement_but_not_consistency():
    readings = np.nan_to_num(made(3), nan=2.0)
    shifted = readings + np.array([0.0, 0.0, 1.0])
    close(numbers(intraclass(shifted, "3,1")), numbers(intraclass(readings, "3,1")))
    for form in ("1,1", "2,1"):
        assert intraclass(shifted, form).estimate < intraclass(readings, form).estimate - 0.1
    assert concordance(shifted[:, 0], shifted[:, 2]).estimate < concordance(readings[:, 0], readings[:, 2]).estimate


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_swapping_the_methods_turns_the_line_round(seed):
    x, y = pair(made(seed))
    line, back = deming(x, y, error_ratio=2.0), deming(y, x, error_ratio=0.5)
    close(back.slope.estimate, 1 / line.slope.estimate)
    close(back.intercept.estimate, -line.intercept.estimate / line.slope.estimate, rtol=1e-6)
    bias, turned = limits_of_agreement(x, y), limits_of_agreement(y, x)
    close([turned.lower.lower, turned.upper.upper], [-bias.upper.upper, -bias.lower.lower])
    for weights in ("none", "linear"):
        one, other = (codes(values) for values in (x, y))
        close(numbers(kappa(one, other, weights=weights)), numbers(kappa(other, one, weights=weights)))


def test_exact_limits_of_agreement_cover_the_percentile():
    draw = np.random.default_rng(5)
    difference = draw.normal(0.1, 0.2, (4000, 12))
    upper = limits_of_agreement(difference, np.zeros_like(difference), level=0.9).upper
    truth = 0.1 + 1.959964 * 0.2
    assert abs(((upper.lower < truth) & (truth < upper.upper)).mean() - 0.9) < 0.016


def test_the_repeatability_coefficient_holds_95_percent_of_differences():
    draw = np.random.default_rng(6)
    readings = draw.normal(2, 0.5, (3000, 1)) + draw.normal(0, 0.1, (3000, 2))
    coefficient = repeatability(readings).coefficient.estimate
    assert abs((np.abs(readings[:, 0] - readings[:, 1]) < coefficient).mean() - 0.95) < 0.015


def degenerate():
    whole = np.nan_to_num(made(3), nan=2.0)
    yield "one subject", np.where(np.arange(N)[:, None] == 0, whole, np.nan)
    yield "two subjects", np.where(np.arange(N)[:, None] < 2, whole, np.nan)
    yield "nobody", np.full((N, 3), np.nan)
    yield "everything the same", np.full((N, 3), 1.7)
    yield "perfect agreement", np.repeat(whole[:, :1], 3, 1)
    yield "a constant shift", whole[:, :1] + np.array([0.0, 1.0, 2.0])
    yield "one reader is stuck", np.stack([whole[:, 0], np.full(N, 2.0), whole[:, 2]], -1)
    yield "below zero", -whole
    yield "nothing shared", np.random.default_rng(1).normal(size=(N, 3))


test_degenerate_readings_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


def test_perfect_agreement_is_one():
    readings = dict(degenerate())["perfect agreement"]
    for form in FORMS:
        result = intraclass(readings, form)
        assert result.estimate == result.lower == result.upper == 1 and result.warnings & Caution.AT_BOUNDARY
    assert abs(concordance(*pair(readings)).estimate - 1) < 1e-12
    assert kappa(*pair(codes(readings))).estimate == 1


X = np.arange(5.0)
ASKED = [
    (lambda: intraclass(np.ones((5, 2)), "4,1"), "'1,1', '2,1'"),
    (lambda: intraclass(X), "two readings or more"),
    (lambda: repeatability(X), "at least two readings"),
    (lambda: concordance(X, X[:4]), "each subject needs both"),
    (lambda: kappa(X, X, weights="cubic"), "'none', 'linear' or 'quadratic'"),
    (lambda: limits_of_agreement(X, X[:3]), "each subject needs both readings"),
    (lambda: limits_of_agreement(X, X, interval="wide"), "'exact' or 'approximate'"),
    (lambda: limits_with_repeats(X, X), r"arrays \(..., n, m\)"),
    (lambda: deming(X, X, error_ratio=0.0), "must be above zero"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(ASKED)

"""What must hold of every estimator, whatever the data: symmetry, units, order, batches, and doubt where it is due."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import cox, means, survival
from quell.analysis.claim import Caution, Estimate
from quell.analysis.proportions import risk_difference, risk_ratio, tally
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import close, seeds

N = 24


def made(seed, trials=()):
    """Trials with a little of everything: ties, censoring, an adjusted outcome, excluded and missing subjects."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    baseline = draw.normal(2, 1, shape)
    arm = draw.integers(0, 2, shape)
    outcome = np.exp(0.3 * baseline - 0.4 * arm + draw.normal(0, 0.5, shape))
    outcome = np.where(draw.random(shape) < 0.05, np.nan, outcome)
    return {
        "outcome": outcome,
        "arm": arm,
        "baseline": baseline,
        "site": draw.integers(0, 3, shape),
        "time": np.minimum(np.ceil(draw.exponential(300, shape)), 365.0),
        "event": draw.random(shape) < draw.choice([0.0, 0.1, 0.5, 0.9], (*trials, 1)),
        "include": draw.random(shape) < 0.9,
    }


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    "ancova": (lambda d, c: means.ancova(d["outcome"], d["arm"], contrast=c, covariates=d["baseline"][..., None],
                                         factors=[d["site"]], include=d["include"]), "difference"),
    "HC3": (lambda d, c: means.ancova(d["outcome"], d["arm"], contrast=c, covariates=d["baseline"][..., None],
                                      include=d["include"], covariance="HC3"), "difference"),
    "Welch": (lambda d, c: means.two_sample(d["outcome"], d["arm"], contrast=c, include=d["include"]), "difference"),
    "geometric ratio": (lambda d, c: means.geometric_ratio(d["outcome"], d["arm"], contrast=c,
                                                           include=d["include"]), "ratio"),
    "risk difference": (lambda d, c: risk_difference(tally(d["event"], d["arm"], contrast=c,
                                                           include=d["include"])), "difference"),
    "Newcombe": (lambda d, c: risk_difference(tally(d["event"], d["arm"], contrast=c), method="newcombe",
                                              test="fisher"), "difference"),
    "risk ratio": (lambda d, c: risk_ratio(tally(d["event"], d["arm"], contrast=c, include=d["include"])), "ratio"),
    "landmark": (lambda d, c: survival.landmark(d["time"], d["event"], d["arm"], 200, contrast=c,
                                                include=d["include"]), "difference"),
    "restricted mean": (lambda d, c: survival.restricted_mean_difference(
        d["time"], d["event"], d["arm"], 300, contrast=c, include=d["include"]), "difference"),
    "hazard ratio": (lambda d, c: cox.hazard_ratio(d["time"], d["event"], d["arm"], contrast=c,
                                                   strata=d["site"], include=d["include"]), "ratio"),
    "log-rank": (lambda d, c: survival.logrank(d["time"], d["event"], (d["arm"] == c[0]).astype(int),
                                               strata=d["site"], include=d["include"]).test(), "test"),
}  # fmt: skip
siblings = laws.Siblings(ESTIMATORS, made)

test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 15)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 10)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings, 6)
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)
# scaled times are no longer whole days: the ranked ladder must agree with the day grid
test_time_in_other_units_changes_no_test = laws.scaled(
    siblings, 15, ("hazard ratio", "log-rank"), lambda data, scale: {**data, "time": data["time"] * scale}
)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_units_scale_the_estimate(seed, scale, shift):
    data = made(seed)
    in_other_units = {**data, "outcome": shift + scale * data["outcome"], "baseline": shift + scale * data["baseline"]}
    for name in ("ancova", "HC3", "Welch"):
        estimator, _ = ESTIMATORS[name]
        one, other = estimator(data, (1, 0)), estimator(in_other_units, (1, 0))
        for field in ("estimate", "se", "lower", "upper"):
            close(getattr(other, field) / scale, getattr(one, field))
        close([other.p, other.statistic], [one.p, one.statistic])


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_the_hazard_ratio_is_blind_to_which_engine_counted(seed):
    data = made(seed)
    arms = cox.hazard_ratio(data["time"], data["event"], data["arm"], method="firth")
    subjects = cox.firth(data["time"], data["event"], data["arm"][:, None].astype(float)).ratio()
    close([arms.estimate, arms.se, arms.p], [subjects.estimate, subjects.se, subjects.p], rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_p_and_interval_of_a_landmark_agree(seed):
    result = ESTIMATORS["landmark"][0](made(seed), (1, 0))
    if abs(float(result.p) - 0.05) > 1e-9:
        assert (result.p < 0.05) == (result.lower > 0 or result.upper < 0)


def degenerate():
    base = made(3)
    whole = {**base, "outcome": np.nan_to_num(base["outcome"], nan=1.0), "include": np.ones(N, bool)}
    yield "one patient", {**whole, "include": np.arange(N) == 0}
    yield "two patients", {**whole, "include": np.arange(N) < 2, "arm": np.arange(N) % 2}
    yield "nobody", {**whole, "include": np.zeros(N, bool)}
    yield "no events", {**whole, "event": np.zeros(N, bool)}
    yield "all events", {**whole, "event": np.ones(N, bool)}
    yield "all at one time", {**whole, "event": np.ones(N, bool), "time": np.full(N, 30.0)}
    yield "events in one arm", {**whole, "event": whole["arm"] == 0}
    yield "constant outcome", {**whole, "outcome": np.full(N, 0.1)}
    yield "outcome is the arm", {**whole, "outcome": whole["arm"] + 1.0}
    yield "empty arm", {**whole, "arm": np.zeros(N, int)}
    yield "other arms only", {**whole, "arm": np.full(N, 2)}
    yield "all missing", {**whole, "outcome": np.full(N, np.nan), "time": np.full(N, np.nan)}
    yield "time zero", {**whole, "time": np.zeros(N)}
    yield "negative outcome", {**whole, "outcome": -whole["outcome"]}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


def test_nothing_happening_is_no_evidence():
    data = dict(degenerate())["no events"]
    for name in ("log-rank", "risk difference", "Newcombe", "landmark"):
        result = ESTIMATORS[name][0](data, (1, 0))
        assert result.p == 1 and result.warnings & Caution.NO_EVENTS


def test_a_wider_level_is_a_wider_interval():
    data = made(12)
    for kind in (means.ancova, means.two_sample):
        narrow, wide = (kind(data["outcome"], data["arm"], level=level) for level in (0.9, 0.99))
        assert wide.lower < narrow.lower < narrow.upper < wide.upper
        assert isinstance(wide, Estimate) and wide.level == 0.99

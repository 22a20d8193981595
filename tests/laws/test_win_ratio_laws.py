"""What must hold of a hierarchical comparison: each pair as judged by hand, symmetry, order, units, batches, doubt."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis import pairwise
from quell.analysis import win_ratio as wins
from quell.analysis.claim import Caution
from tests.laws import estimator_laws as laws
from tests.laws.estimator_laws import numbers, seeds

N = 26
VARIANCES = ("u-statistic", "unbiased", "second-order", "null")
close = functools.partial(laws.close, rtol=1e-9, atol=1e-9)


def made(seed, trials=(), whole=True):
    """Deaths, recurrences and a walk, with ties, censoring and missing values, in three arms and two strata."""
    draw = np.random.default_rng(seed)
    shape = (*trials, N)
    life, stop = draw.exponential(300, shape), draw.uniform(100, 400, shape)
    days = draw.uniform(0, 500, (*shape, 3))
    walk = draw.normal(0, 3, shape)
    if whole:
        life, stop, days, walk = (
            np.ceil(life / 10) * 10,
            np.ceil(stop / 10) * 10,
            np.ceil(days / 10) * 10,
            np.round(walk),
        )
    time = np.minimum(life, stop)
    return {
        "time": time,
        "event": life <= stop,
        "days": np.where((days <= time[..., None]) & (draw.random(days.shape) < 0.7), days, np.nan),
        "walk": np.where(draw.random(shape) < 0.1, np.nan, walk),
        "arm": draw.integers(0, 3, shape),
        "stratum": draw.integers(0, 2, shape),
        "include": draw.random(shape) < 0.9,
    }


HIERARCHIES = {
    "death, count, walk": lambda d: [wins.Survival(d["time"], d["event"]), wins.Recurrences(d["days"], d["time"]),
                                     wins.Measure(d["walk"], margin=2)],
    "strict death, last event": lambda d: [wins.Survival(d["time"], d["event"], censored_same_day="tie"),
                                           wins.Recurrences(d["days"], d["time"], then="last")],
    "death by a month, lower walk": lambda d: [wins.Survival(d["time"], d["event"], margin=30),
                                               wins.Measure(d["walk"], better="lower")],
    "more than the margin": lambda d: [wins.Survival(d["time"], d["event"]),
                                       wins.Measure(d["walk"], margin=2, at_least=False)],
}  # fmt: skip
each = pytest.mark.parametrize("name", HIERARCHIES)


def verdict(priorities, i, j):
    """1 where i wins against j, -1 where it loses, 0 for a tie: one pair, by the rules in words."""
    for one in priorities:
        result = judge(one, i, j) - judge(one, j, i)
        if result:
            return result
    return 0


def judge(one, i, j):
    if isinstance(one, wins.Survival):
        if np.isnan(one.time[i]) or np.isnan(one.time[j]) or not one.event[j]:
            return 0
        if one.margin:
            return int(one.time[i] - one.time[j] >= one.margin)
        same_day = one.time[i] == one.time[j] and not one.event[i] and one.censored_same_day == "wins"
        return int(one.time[i] > one.time[j] or same_day)
    if isinstance(one, wins.Recurrences):
        shared = min(one.follow_up[i], one.follow_up[j])
        mine, theirs = ([day for day in one.days[k] if day <= shared] for k in (i, j))
        if len(mine) == len(theirs) > 0 and one.then == "last":
            return int(max(mine) > max(theirs))
        return int(len(mine) < len(theirs))
    if np.isnan(one.value[i]) or np.isnan(one.value[j]):
        return 0
    difference = (one.value[i] - one.value[j]) * (1 if one.better == "higher" else -1)
    return int(difference > 0 and (difference >= one.margin if one.at_least else difference > one.margin))


MEASURES = {
    "win ratio": (wins.win_ratio, "ratio"),
    "win odds": (wins.win_odds, "ratio"),
    "net benefit": (wins.net_benefit, "difference"),
}


def asked(measure, name="death, count, walk", **options):
    """A measure of a hierarchy."""

    def estimate(data, contrast):
        shared = {"contrast": contrast, "include": data["include"], "strata": data["stratum"]}
        return measure(wins.compare(HIERARCHIES[name](data), data["arm"], **shared), **options)

    return estimate


def finkelstein_schoenfeld(name="death, count, walk"):
    """Finkelstein and Schoenfeld's test of a hierarchy."""
    return lambda data, contrast: wins.finkelstein_schoenfeld(
        HIERARCHIES[name](data), data["arm"], contrast=contrast, include=data["include"], strata=data["stratum"]
    )


# name: (estimator of (data, contrast), scale)
ESTIMATORS = {
    f"{name}, {variance}": (asked(measure, variance=variance), scale)
    for name, (measure, scale) in MEASURES.items()
    for variance in VARIANCES
} | {"Finkelstein-Schoenfeld": (finkelstein_schoenfeld(), "signed test")}
OF_HIERARCHIES = {
    f"{name} of {hierarchy}": (asked(measure, hierarchy), scale)
    for name, (measure, scale) in MEASURES.items()
    for hierarchy in HIERARCHIES
} | {
    f"Finkelstein-Schoenfeld of {hierarchy}": (finkelstein_schoenfeld(hierarchy), "signed test")
    for hierarchy in HIERARCHIES
}
siblings = laws.Siblings(ESTIMATORS, made, 1e-9, 1e-9)


def every(data):
    """Each measure of the first hierarchy, and the test."""
    names = [f"{name}, u-statistic" for name in MEASURES] + ["Finkelstein-Schoenfeld"]
    return {name.split(",")[0]: ESTIMATORS[name][0](data, (1, 0)) for name in names}


test_swapping_the_arms_flips_the_sign_and_nothing_else = laws.swap(siblings, 6)
test_the_order_of_the_rows_means_nothing = laws.order(siblings, 8)
test_a_batch_is_its_trials_one_by_one = laws.batch(siblings._replace(estimators=OF_HIERARCHIES), 4)
test_an_empty_batch_is_an_empty_answer = laws.empty_batch(siblings)


@each
@settings(max_examples=8, deadline=None)
@given(seed=seeds, whole=st.booleans())
def test_every_pair_is_judged_as_by_hand(name, seed, whole):
    data = made(seed, whole=whole)
    priorities = HIERARCHIES[name](data)
    contest = wins.compare(priorities, data["arm"], strata=data["stratum"])
    pairs = [(i, j) for i in range(N) for j in range(N) if data["arm"][i] == 1 and data["arm"][j] == 0
             and data["stratum"][i] == data["stratum"][j]]  # fmt: skip
    result = np.array([verdict(priorities, i, j) for i, j in pairs])
    assert [contest.wins.sum(), contest.losses.sum(), contest.ties[-1], contest.pairs] == [
        np.sum(result == 1), np.sum(result == -1), np.sum(result == 0), len(pairs)
    ]  # fmt: skip


@settings(max_examples=6, deadline=None)
@given(seed=seeds)
def test_tiles_and_pieces_change_nothing(seed):
    data = made(seed, (5,))
    whole = every(data)
    sizes = pairwise.SIDE, pairwise.PAIRS_AT_ONCE, pairwise.COUNTED_AT_ONCE, wins.VALUES_AT_ONCE
    try:
        pairwise.SIDE, pairwise.PAIRS_AT_ONCE, pairwise.COUNTED_AT_ONCE, wins.VALUES_AT_ONCE = 3, 20, 10, 30
        for name, result in every(data).items():
            np.testing.assert_array_equal(numbers(result), numbers(whole[name]))
    finally:
        pairwise.SIDE, pairwise.PAIRS_AT_ONCE, pairwise.COUNTED_AT_ONCE, wins.VALUES_AT_ONCE = sizes


def test_outcomes_shared_by_trials_are_spread_over_them():
    data = made(3)
    arms = np.stack([data["arm"], data["arm"][::-1]])
    both = wins.compare(HIERARCHIES["death, count, walk"](data), arms)
    for k in range(2):
        close(both.wins[k], wins.compare(HIERARCHIES["death, count, walk"](data), arms[k]).wins)


@settings(max_examples=8, deadline=None)
@given(seed=seeds, scale=st.floats(0.01, 50))
def test_time_and_measure_in_other_units_change_nothing(seed, scale):
    data = made(seed, whole=False)
    scaled = {**data, "time": data["time"] * scale, "days": data["days"] * scale, "walk": data["walk"] * scale}
    for rule in (
        lambda d, s: [wins.Survival(d["time"], d["event"], margin=20 * s), wins.Measure(d["walk"], margin=2 * s)],
        lambda d, s: [wins.Survival(d["time"], d["event"]), wins.Recurrences(d["days"], d["time"], "last")],
    ):
        one, other = wins.compare(rule(data, 1), data["arm"]), wins.compare(rule(scaled, scale), data["arm"])
        np.testing.assert_array_equal([one.wins, one.losses], [other.wins, other.losses])


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_one_survival_time_is_gehans_test(seed):
    """Wins minus losses is the log-rank excess weighted by those at risk: the arms' pairs and the risk sets agree."""
    data = made(seed)
    keep = data["arm"] < 2
    time, event, arm = data["time"][keep], data["event"][keep], data["arm"][keep]
    contest = wins.compare([wins.Survival(time, event)], arm)
    excess = 0.0
    for day in np.unique(time[event]):
        at_risk, died = time >= day, event & (time == day)
        excess += (arm[died] == 0).sum() * (arm[at_risk] == 1).sum() - (arm[died] == 1).sum() * (
            arm[at_risk] == 0
        ).sum()
    assert contest.wins.sum() - contest.losses.sum() == excess


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_the_measures_agree_with_each_other(seed):
    results = every(made(seed))
    benefit, odds = results["net benefit"], results["win odds"]
    close(odds.estimate, (1 + benefit.estimate) / (1 - benefit.estimate))
    contest = wins.compare(HIERARCHIES["death, count, walk"](made(seed)), made(seed)["arm"])
    atanh, odds = wins.net_benefit(contest, interval="atanh"), wins.win_odds(contest)
    # the log odds are twice the inverse hyperbolic tangent of the net benefit
    close([atanh.lower, atanh.upper, atanh.p], [(odds.lower - 1) / (odds.lower + 1), (odds.upper - 1) / (odds.upper + 1),
                                                odds.p])  # fmt: skip


def test_a_gain_that_only_a_lower_priority_sees_is_counted_there():
    time, walk = np.full(8, 100.0), np.array([5.0, 6, 7, 8, 1, 2, 3, 4])
    contest = wins.compare([wins.Survival(time, np.zeros(8)), wins.Measure(walk)], np.repeat([1, 0], 4))
    assert contest.wins.tolist() == [0, 16] and contest.ties.tolist() == [16, 0]


def test_differences_within_rounding_reach_the_margin():
    contest = wins.compare([wins.Measure(np.array([0.3, 0.1]), margin=0.2)], np.array([1, 0]))
    assert contest.wins.sum() == 1
    contest = wins.compare([wins.Measure(np.array([0.3, 0.1]), margin=0.2, at_least=False)], np.array([1, 0]))
    assert contest.wins.sum() == 0


def degenerate():
    base = {**made(5), "include": np.ones(N, bool)}
    yield "one patient", {**base, "include": np.arange(N) == 0}
    yield "two patients", {**base, "include": np.arange(N) < 2, "arm": np.arange(N) % 2, "stratum": np.zeros(N, int)}
    yield "nobody", {**base, "include": np.zeros(N, bool)}
    yield "no winner", {**base, "event": np.zeros(N, bool), "days": np.full((N, 3), np.nan), "walk": np.zeros(N)}
    yield "always the active arm", {**base, "event": np.zeros(N, bool), "days": np.full((N, 3), np.nan),
                                    "walk": 10.0 * base["arm"]}  # fmt: skip
    yield "all at one time", {**base, "event": np.ones(N, bool), "time": np.full(N, 30.0)}
    yield "empty arm", {**base, "arm": np.zeros(N, int)}
    yield "other arms only", {**base, "arm": np.full(N, 2)}
    yield "all missing", {**base, "time": np.full(N, np.nan), "walk": np.full(N, np.nan)}
    yield "strata of one arm", {**base, "stratum": base["arm"]}


test_degenerate_data_give_an_answer_or_a_doubt = laws.degenerate(siblings, degenerate())


def test_where_nobody_wins_there_is_no_evidence():
    results = every(dict(degenerate())["no winner"])
    assert results["net benefit"].estimate == 0 and results["win odds"].estimate == 1
    for name in ("net benefit", "win odds", "Finkelstein-Schoenfeld"):
        assert results[name].p == 1 and results[name].warnings & Caution.ONE_SIDED
    assert np.isnan(results["win ratio"].estimate)


def test_nine_thousand_patients_are_compared_in_little_memory():
    import tracemalloc

    draw = np.random.default_rng(1)
    time, arm = np.ceil(draw.exponential(2000, 9000)), np.arange(9000) % 2
    priorities = [wins.Survival(np.minimum(time, 365), time <= 365), wins.Measure(draw.normal(0, 1, 9000))]
    tracemalloc.start()
    wins.compare(priorities, arm)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # all pairs as bytes would be 20 megabytes for each of several arrays
    assert peak < 20e6


MISTAKES = [
    (lambda d: wins.compare([], d["arm"]), "no outcome to compare"),
    (lambda d: wins.compare([wins.Measure(d["walk"][:5])], d["arm"]), "do not fit together"),
    (lambda d: wins.compare([wins.Survival(d["time"], d["event"][:5])], d["arm"]), "do not fit"),
    (lambda d: wins.compare([wins.Recurrences(d["time"], d["time"])], d["arm"]), "a column for each event"),
    (lambda d: wins.compare([wins.Measure(d["walk"], margin=-1)], d["arm"]), "zero or more"),
    (lambda d: wins.compare([wins.Measure(d["walk"], better="up")], d["arm"]), "'higher' or 'lower'"),
    (lambda d: wins.compare([wins.Measure(d["walk"])], d["arm"], contrast=(1, 1)), "two different arm codes"),
    (lambda d: wins.compare([wins.Measure(np.array(1.0))], np.array(1)), "one value per patient"),
    (lambda d: wins.win_ratio(wins.compare([wins.Measure(d["walk"])], d["arm"]), variance="x"), "'second-order' or"),
    (lambda d: wins.win_ratio(wins.compare([wins.Measure(d["walk"])], d["arm"]), weights="x"), "'equal' or 'size'"),
    (lambda d: wins.net_benefit(wins.compare([wins.Measure(d["walk"])], d["arm"]), interval="x"), "'plain' or 'atanh'"),
    (lambda d: wins.matched(np.array(-1), np.array(3)), "cannot be negative"),
]


test_a_mistake_is_answered_with_a_sentence = laws.mistakes(MISTAKES, made(1))

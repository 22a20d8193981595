"""Laws of searching among designs: a race finds the best and says when it cannot; the smallest n; the worth of information."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from quell.design import search
from quell.sentences import BadInput

CHANCE = {"poor": 0.70, "fair": 0.80, "good": 0.88}


def uniforms(begin: int, end: int) -> np.ndarray:
    """The same number for a trial whichever part of the run it is asked in."""
    return np.array([np.random.default_rng(k).random() for k in range(begin, end)])


def coins(name, begin, end):
    k = np.arange(begin, end)
    return {"draw": k % 50, "success": uniforms(begin, end) < CHANCE[name], "enrolled": np.full(end - begin, 100.0)}


def success(trials):
    return trials["success"].astype(float)


def test_a_race_finds_the_best_and_drops_the_others_early():
    found = search.race(list(CHANCE), coins, success, first=200, most=1600)
    assert found.best == "good" and found.decided
    assert found.trials < 3 * 1600 and {r.candidate for r in found.racers if r.left} == {"poor", "fair"}


def test_what_is_alike_is_not_decided():
    def twins(name, begin, end):
        side = {"one": 1, "other": 2}[name]
        draws = np.array([np.random.default_rng([k, side]).random() for k in range(begin, end)])
        return {"draw": np.arange(begin, end), "success": draws < 0.8}

    found = search.race(["one", "other"], twins, success, first=100, most=400)
    assert not found.decided and found.racers[1].left == 0 and found.trials == 800


def test_a_race_seldom_loses_the_best():
    """Over many races of close designs the best is dropped in fewer than one in twenty."""
    lost = 0
    for seed in range(100):
        table = np.random.default_rng(seed).normal(size=(2, 400)) + np.array([[0.1], [0.0]])

        def look(row, begin, end, table=table):
            return {"draw": np.arange(begin, end), "gain": table[row, begin:end]}

        found = search.race([0, 1], look, lambda trials: trials["gain"], first=50, most=400)
        lost += any(r.candidate == 0 and r.left for r in found.racers)
    assert lost < 5


def test_nobody_to_race_is_said():
    with pytest.raises(BadInput, match="no design to compare"):
        search.race([], coins, success)


def power(n, begin, end):
    u = np.random.default_rng(7).random(20_000)[begin:end]
    return {"draw": np.arange(begin, end), "success": u < special.ndtr(0.1 * math.sqrt(n) - 1.96)}


TRUE_N = ((1.96 + special.ndtri(0.9)) / 0.1) ** 2


def test_the_smallest_n_is_that_of_the_formula():
    found = search.smallest(power, 0.9, (100, 5000), trials=20_000)
    assert found.reached and found.low <= TRUE_N <= found.high and abs(found.n - TRUE_N) < 40
    assert len(found.points) < 8


def test_the_interval_of_the_smallest_n_holds():
    """In 200 repetitions the 95 % interval holds the true n about as often as it says."""
    held = 0
    for seed in range(200):
        u = np.random.default_rng(seed).random(1000)

        def one(n, begin, end, u=u):
            return {"draw": np.arange(begin, end), "success": u[begin:end] < special.ndtr(0.1 * math.sqrt(n) - 1.96)}

        found = search.smallest(one, 0.9, (100, 5000), trials=1000)
        held += found.low <= TRUE_N <= found.high
    assert 180 <= held <= 199


def test_targets_out_of_reach_are_said():
    assert not search.smallest(power, 0.99, (100, 400), trials=2000).reached
    assert search.smallest(power, 0.5, (2000, 4000), trials=2000).n == 2000
    for target, between in ((1.0, (10, 20)), (0.9, (20, 10))):
        with pytest.raises(BadInput):
            search.smallest(power, target, between)


# -- worth of information ----------------------------------------------------------------------------------------------
def scores(count: int, mean: float, sd: float) -> np.ndarray:
    return mean + sd * special.ndtri((np.arange(count) + 0.5) / count)


def test_worth_rises_with_n_and_stays_below_perfect():
    effect = scores(400, -0.1, 0.2)
    noise = np.random.default_rng(3).normal(0, 0.2, 400)
    found = search.worth_of_surrogate(effect, effect + noise, [20, 60, 200, 1000, 10_000], sd=1.0)
    worths = [one.worth.value for one in found.by_n]
    assert worths == sorted(worths) and worths[0] >= -1e-12
    assert worths[-1] <= found.partial.value + 3 * found.partial.error
    assert found.partial.value < found.perfect.value


def test_a_surrogate_that_tells_nothing_is_worth_nothing():
    source = np.random.default_rng(4)
    found = search.worth_of_surrogate(source.normal(size=400), source.normal(0.1, 1, 400), [100], sd=1.0)
    assert abs(found.by_n[0].worth.value) < 3 * found.by_n[0].worth.error + 0.01


@pytest.mark.parametrize("mean", [-0.15, 0.0, 0.1])
@pytest.mark.parametrize("n", [40, 160, 640])
def test_the_normal_case_is_raiffas_and_schlaifers(mean, n):
    """EVSI = s (phi(u) - u Phi(-u)), s^2 = v^2 / (v + se^2), u = |mean| / s: the unit normal linear loss integral.

    Raiffa and Schlaifer 1961, Applied Statistical Decision Theory; Ades, Lu and Claxton 2004 (doi:10.1177/0272989X04263162).
    """
    sd, prior = 1.3, 0.3
    effect = scores(2000, mean, prior)
    found = search.worth_of_surrogate(effect, effect, [n], sd=sd).by_n[0].worth
    se2 = (2 * sd) ** 2 / n
    s = prior**2 / math.sqrt(prior**2 + se2)
    u = abs(mean) / s
    exact = s * (math.exp(-u * u / 2) / math.sqrt(2 * math.pi) - u * special.ndtr(-u))
    assert found.value == pytest.approx(exact, abs=0.004)


def test_perfect_information_of_the_normal_case():
    net = scores(4000, -0.1, 0.3)
    u = 0.1 / 0.3
    exact = 0.3 * (math.exp(-u * u / 2) / math.sqrt(2 * math.pi) - u * special.ndtr(-u))
    assert search.perfect(net).value == pytest.approx(exact, rel=1e-3)


def test_errors_hold():
    """The spread of EVSI over repeated posteriors is about what the jackknife says."""
    values, errors = [], []
    for seed in range(60):
        effect = np.random.default_rng(seed).normal(0.05, 0.3, 200)
        one = search.worth_of_surrogate(effect, effect, [100], sd=1.0).by_n[0].worth
        values.append(one.value)
        errors.append(one.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.5)


def test_going_on_raises_the_chance_of_success():
    effect = scores(400, -0.1, 0.3)
    found = search.worth_of_surrogate(effect, effect, [400], sd=1.0, success=special.ndtr(5 * effect))
    assert (
        not found.goes_on
        and 0 < found.by_n[0].goes_on < 0.6
        and found.by_n[0].success > special.ndtr(5 * effect).mean()
    )


def test_shapes_that_disagree_are_said():
    with pytest.raises(BadInput, match="one of each for every draw"):
        search.worth_of_surrogate(np.zeros(50), np.zeros(49), [10], sd=1.0)
    with pytest.raises(BadInput, match="4 people the least"):
        search.worth_of_surrogate(np.zeros(50), np.zeros(50), [2], sd=1.0)

"""Laws of the answers: errors that know which trials are alike, and sums that add up."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from quell.design import answers


def test_a_mean_of_trials_of_their_own_has_the_usual_error():
    values = np.random.default_rng(1).normal(size=500)
    found = answers.mean(values, np.arange(500))
    assert found.error == pytest.approx(values.std(ddof=1) / np.sqrt(500), rel=1e-12)


def test_one_world_alone_is_as_if_trials_were_their_own():
    values = np.random.default_rng(2).normal(size=50)
    assert answers.mean(values, np.zeros(50, int)).error == pytest.approx(answers.mean(values, np.arange(50)).error)


@pytest.mark.parametrize("within", [1, 4, 25])
def test_the_error_holds_when_draws_differ(within):
    """The spread of the mean over many repetitions is what the error says, however many trials share a draw."""
    source, draws = np.random.default_rng(within), 40
    which = np.repeat(np.arange(draws), within)
    found, told = [], []
    for _ in range(600):
        chance = source.beta(1, 1, draws)
        happened = source.random(len(which)) < chance[which]
        one = answers.rate(happened, which)
        found.append(one.value)
        told.append(one.error**2)
    assert np.sqrt(np.mean(told)) == pytest.approx(np.std(found), rel=0.12)


def test_trials_left_out_change_nothing_else():
    values, draw = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0, 0, 1, 2])
    kept = np.isfinite(values)
    assert answers.mean(values, draw) == answers.mean(values[kept], draw[kept])


def trials() -> pl.DataFrame:
    source, n = np.random.default_rng(3), 400
    truth = np.repeat(source.normal(-0.2, 0.1, 40), 10)
    estimate = truth + source.normal(0, 0.1, n)
    z = -estimate / 0.1
    early = z > 2.5
    frame = pl.DataFrame(
        {
            "trial": np.arange(n), "draw": np.repeat(np.arange(40), 10), "success": z > 1.96, "look": np.where(early, 1, 2),
            "reason": np.where(early, "efficacy", "final"), "enrolled": np.full(n, 100), "screened": np.full(n, 150),
            "duration": np.where(early, 300.0, 500.0), "estimate": estimate, "se": np.full(n, 0.1), "adjusted": estimate,
            "lower": estimate - 0.196, "upper": estimate + 0.196, "truth": truth, "z_1": z, "day_1": np.full(n, 300.0),
            "events_1": np.full(n, 50), "enrolled_1": np.full(n, 100), "p_death": source.random(n),
        }
    )  # fmt: skip
    late = pl.col("look") == 2
    return frame.with_columns(
        day_2=pl.when(late).then(500.0), events_2=pl.when(late).then(80), z_2=pl.when(late).then(pl.col("z_1"))
    )


def test_the_ends_of_trials_add_up_to_one():
    found = answers.scenario(trials())
    assert sum(one["value"] for one in found["ends"]) == pytest.approx(1)
    reached = found["looks"][1]["reached"]["value"]
    early = sum(one["value"] for one in found["ends"] if one["look"] == 1)
    assert reached == pytest.approx(1 - early)


def test_an_unbiased_estimate_with_right_intervals_is_said_to_be_so():
    found = answers.scenario(trials())["estimation"]
    bias, coverage = found["estimate"]["bias"], found["coverage"]
    assert abs(bias["value"]) < 4 * bias["error"]
    assert abs(coverage["value"] - 0.95) < 4 * coverage["error"] + 0.02
    assert found["estimate"]["rmse"]["value"] == pytest.approx(0.1, rel=0.15)


def test_rows_may_come_in_any_order():
    one, other = trials(), trials().sample(fraction=1, shuffle=True, seed=1)
    a, b = answers.scenario(one), answers.scenario(other)
    assert a["success"] == pytest.approx(b["success"]) and a["ends"] == [pytest.approx(x) for x in b["ends"]]
    assert [x["trial"] for x in answers.examples(one)] == [x["trial"] for x in answers.examples(other)]


def test_success_rises_with_the_true_effect():
    groups = answers.by_truth(trials(), 4)
    shares = [one["success"]["value"] for one in groups]
    assert shares == sorted(shares, reverse=True) and sum(one["draws"] for one in groups) == 40


def test_regret_of_shared_trials_has_less_error_than_of_separate_ones():
    source = np.random.default_rng(4)
    common = source.normal(size=1000)
    rows = answers.regret({"a": common + 0.1, "b": common}, np.arange(1000))
    assert rows[0]["design"] == "a" and rows[1]["regret"]["value"] == pytest.approx(0.1)
    assert rows[1]["regret"]["error"] < 1e-9 < rows[1]["mean"]["error"]

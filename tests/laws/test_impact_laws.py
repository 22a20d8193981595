"""What must hold of any answer for a country, whatever the inputs."""

import dataclasses
import itertools
import json

import hypothesis as h
import hypothesis.strategies as st
import numpy as np
import pytest

from quell import delivery, impact, report
from quell.impact import cohort, effect, markov, nation, worth
from quell.report import impact as page

INPUTS = impact.Inputs.load()
DRAWN = INPUTS.draw(60, key=3)
BETTER = effect.of_limits(0.7, 0.5, 0.98, lasts=2, draws=60, key=3)


def lived(change: float) -> cohort.Lived:
    """A cohort under one certain hazard ratio."""
    return cohort.live(INPUTS, DRAWN, effect.of_draws(np.log(np.full((60, 2), change))))


@pytest.fixture(scope="module")
def found() -> impact.Impact:
    return impact.of_ratio(0.7, 0.5, 0.98, draws=60, key=3)


# -- the engine ----------------------------------------------------------------------------------------------------------
@h.given(st.lists(st.floats(0, 20), min_size=3, max_size=3), st.floats(0, 1))
def test_rows_of_every_matrix_add_up_to_one(hazards: list[float], fatal: float) -> None:
    chances = markov.competing(np.array([[hazards] * 3]), 0.25)
    table = cohort.matrix(chances, np.array([fatal]))
    assert np.allclose(table.sum(axis=-1), 1.0, atol=1e-12)
    assert (table >= -1e-15).all()


@h.given(st.lists(st.floats(0, 5), min_size=2, max_size=4), st.floats(0.01, 2))
def test_competing_causes_share_what_one_hazard_would_do(hazards: list[float], years: float) -> None:
    each = markov.competing(np.array(hazards), years)
    assert each.sum() == pytest.approx(-np.expm1(-years * sum(hazards)), abs=1e-12)


def test_nobody_is_lost_or_made() -> None:
    here = lived(0.7)
    assert np.all(np.diff(here.deaths, axis=0) >= -1e-15)
    assert np.all((here.free >= 0) & (here.free + here.deaths <= 1 + 1e-12))


def test_half_cycle_correction_converges_faster_than_counting_starts() -> None:
    """Time alive under a hazard of 0.3 for 10 years is (1 - e^-3) / 0.3."""
    exact, errors = -np.expm1(-3.0) / 0.3, {}
    for how in ("start", "half-cycle", "simpson"):
        errors[how] = []
        for cycles in (10, 20, 40):
            stays = np.exp(-0.3 * 10 / cycles)
            there = markov.occupancy(
                np.array([[1.0, 0.0]]), lambda _, stays=stays: np.array([[[stays, 1 - stays], [0.0, 1.0]]]), cycles
            )
            value = markov.worth(there, np.array([10 / cycles, 0]), markov.counted(cycles, how), np.ones(cycles + 1))
            errors[how].append(abs(value[0] - exact))
    falls = {how: [a / b for a, b in itertools.pairwise(one)] for how, one in errors.items()}
    assert falls["start"] == pytest.approx([2, 2], rel=0.1)
    assert falls["half-cycle"] == pytest.approx([4, 4], rel=0.1)
    assert falls["simpson"] == pytest.approx([16, 16], rel=0.1)


# -- no effect, more effect --------------------------------------------------------------------------------------------------
def test_no_effect_does_nothing_at_all() -> None:
    none = impact.of_draws(np.zeros((5, 3)), draws=40)
    for name in cohort.Lived._fields:
        assert np.array_equal(getattr(none.control, name), getattr(none.active, name)), name
    told = none.as_dict()
    assert told["worth"][0]["ratio"]["words"] == "no health is gained, so there is no cost per QALY"
    assert all(row["infarctions"]["upper"] == 0 for row in told["averted"])
    assert told["needed"][0]["number"]["open"]


def test_a_harmful_effect_costs_health() -> None:
    worse = impact.of_ratio(1.3, 1.1, 1.6, draws=40)
    assert (worse.gain.qalys < 0).mean() > 0.9
    assert worse._worth()[0]["price"] == 0.0  # nothing is paid for harm


def test_a_stronger_effect_averts_more_and_gains_more() -> None:
    ladder = [lived(change) for change in (1.0, 0.9, 0.7, 0.4)]
    for weak, strong in itertools.pairwise(ladder):
        assert np.all(strong.infarctions[4:] < weak.infarctions[4:])
        assert np.all(strong.qalys > weak.qalys)
        assert np.all(strong.deaths[20] < weak.deaths[20])


def test_a_longer_effect_is_worth_more(found: impact.Impact) -> None:
    by_name = {row["name"]: row["qalys"]["value"] for row in found.scenarios}
    assert (
        by_name["the effect ends with the time observed"]
        < by_name["as supposed"]
        < by_name["the effect fades over 10 years"]
        < by_name["the effect lasts for life"]
    )


def test_the_effect_is_whole_until_it_fades_and_then_none() -> None:
    half = effect.of_draws(np.log(np.full((1, 2), 0.5)))
    times = np.array([0.1, 1.9, 2.0, 4.999, 5.0, 30.0])
    for wane, after in ((3.0, 0.0), (0.0, 0.0)):
        there = half.at(times, np.array([wane]))[0]
        assert there[0] == there[1] == there[2] == pytest.approx(np.log(0.5))
        assert there[4] == there[5] == after
        assert abs(there[3]) < 0.001


# -- the nation -----------------------------------------------------------------------------------------------------------------
def test_counts_are_in_proportion_to_people_and_uptake(found: impact.Impact) -> None:
    rows = {(row["uptake"], row["years"]): row for row in found.as_dict()["averted"]}
    for years in nation.YEARS:
        values = [rows[uptake, years]["infarctions"]["value"] / uptake for uptake in nation.UPTAKES]
        assert values == pytest.approx([values[0]] * len(values), rel=1e-9)
    twice = {**found.drawn, "admissions": 2 * found.drawn["admissions"]}
    more = nation.by_uptake(found.control, found.active, twice)
    assert [row["infarctions"]["value"] for row in more] == pytest.approx(
        [2 * row["infarctions"]["value"] for row in rows.values()], rel=1e-9
    )


def test_averted_rises_with_uptake_and_with_time(found: impact.Impact) -> None:
    rows = found.as_dict()["averted"]
    table = np.array([row["infarctions"]["value"] for row in rows]).reshape(len(nation.UPTAKES), len(nation.YEARS))
    assert np.all(np.diff(table, axis=0) > 0) and np.all(np.diff(table, axis=1) > 0)


def test_everybody_treated_at_once_averts_what_one_cohort_does(found: impact.Impact) -> None:
    """One quarter of people and then nobody: the nation's count is that of a single cohort, half a quarter late."""
    people = np.zeros((20, found.draws))
    people[0] = 1000
    there = nation.averted(found.control.infarctions, found.active.infarctions, people)
    each = 1000 * (found.control.infarctions - found.active.infarctions)
    assert np.allclose(there[20], (each[19] + each[20]) / 2)


def test_number_needed_to_treat() -> None:
    sure = nation.number_needed(nation.Said(0.02, 0, 0.01, 0.04))
    assert (sure["value"], sure["lower"], sure["upper"], sure["open"]) == (50, 25, 100, False)
    unsure = nation.number_needed(nation.Said(0.02, 0, -0.01, 0.04))
    assert unsure["open"] and unsure["upper"] == 100  # of harm


# -- worth ------------------------------------------------------------------------------------------------------------------------
def test_ratio_does_not_change_with_the_number_of_patients() -> None:
    gain = worth.Gain(np.array([0.1, 0.2]), np.array([0.1, 0.2]), np.array([10.0, -5.0]))
    many = worth.Gain(*(1000 * one for one in gain))
    assert worth.ratio(gain, 500.0)["value"] == pytest.approx(worth.ratio(many, 500_000.0)["value"])


def test_at_the_highest_price_the_cost_per_qaly_is_what_a_qaly_is_worth(found: impact.Impact) -> None:
    for row in found._worth():
        assert row["ratio"]["value"] == pytest.approx(row["worth"], rel=1e-9)
        assert row["net_benefit"]["value"] == pytest.approx(0, abs=1e-6)


def test_dearer_is_less_often_worth_it_and_information_peaks_where_it_is_undecided(found: impact.Impact) -> None:
    for row in found._worth():
        curve = [one for one in worth.by_price(found.gain, {"it": row["worth"]})]
        chances = [one["chance"] for one in curve]
        assert chances == sorted(chances, reverse=True)
        assert max(one["information"] for one in curve) <= row["information"] + 1e-9
        assert all(one["information"] >= 0 for one in curve)


@h.given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=30))
def test_perfect_information_is_never_worth_less_than_nothing(benefits: list[float]) -> None:
    assert worth.perfect(np.array(benefits)) >= -1e-9


def test_certain_effects_leave_nothing_to_learn_about_them() -> None:
    sure = impact.of_draws(np.log(np.full((1, 2), 0.7)), draws=200)
    assert not [row for row in sure._explained() if row["name"] == "effect"]
    doubtful = impact.of_ratio(0.7, 0.4, 1.2, draws=200)
    assert doubtful._explained()[0]["name"] == "effect"


# -- draws -------------------------------------------------------------------------------------------------------------------------
def test_draws_of_an_input_do_not_hang_on_the_others() -> None:
    other = dataclasses.replace(INPUTS, inputs=tuple(reversed(INPUTS.but(uptake=0.9).inputs)))
    again = other.draw(60, key=3)
    assert all(np.array_equal(again[name], DRAWN[name]) for name in DRAWN if name != "uptake")
    assert not np.array_equal(INPUTS.draw(60, key=4)["trend"], DRAWN["trend"])


@pytest.mark.parametrize("one", [one for one in INPUTS.inputs if one.spread != "held"], ids=lambda one: one.name)
def test_spread_of_an_input_is_what_it_says(one: impact.Input) -> None:
    drawn = one.quantile((np.arange(2000) + 0.5) / 2000)
    assert drawn.mean() == pytest.approx(one.value, rel=0.03)
    if one.spread != "uniform":
        assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([one.lower, one.upper], rel=0.16)
    assert drawn.min() >= 0 or one.spread == "normal"


def test_survival_gives_back_the_hazards_it_was_made_of() -> None:
    hazards = np.array([[0.05, 0.02, 0.02]])
    ends = np.concatenate([[[1.0]], np.exp(-hazards.cumsum(axis=1))], axis=1)
    better = np.concatenate([[[1.0]], np.exp(-(0.7 * hazards).cumsum(axis=1))], axis=1)
    made = impact.of_survival(ends, better)
    assert np.exp(made.log_ratio) == pytest.approx(0.7 * np.ones((1, 3)))
    assert made.risks == pytest.approx(hazards)
    there = impact.of_effect(made, draws=10)
    assert there.control.first[4] == pytest.approx(-np.expm1(-0.05), rel=0.03)  # less those who died first


# -- the answer and its page ----------------------------------------------------------------------------------------------------------
def test_the_answer_is_plain_data_and_its_page_always_the_same(found: impact.Impact) -> None:
    told = found.as_dict()
    assert json.loads(delivery.to_json(told))["draws"] == 60
    again = impact.run("0.7 (0.5 to 0.98)", draws=60, key=3)
    assert delivery.to_json(again) == delivery.to_json(told)
    first, second = page.build(told), page.build(again)
    assert first.html == second.html and first.files == second.files
    assert isinstance(first, report.Page)


def test_every_gap_and_every_input_is_on_the_page(found: impact.Impact) -> None:
    html = page.build(found.as_dict()).html
    for gap in INPUTS.gaps:
        assert gap.text.split(":")[0].replace("'", "&#39;") in html, gap.about
    assert html.count("assumed") >= sum(one.status == "assumed" for one in INPUTS.inputs)

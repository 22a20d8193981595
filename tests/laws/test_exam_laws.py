"""Laws of the exam: nothing published is left off, marks follow from numbers, and a right model gets the marks it should."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from quell import design, evidence, exam, keys
from quell.body import parameters
from quell.calibrate import space
from quell.exam import published, score, sitting, worlds
from quell.protocol import Protocol
from quell.report import exam as page
from quell.report import examined
from quell.trial import World, recruit, simulate

ASKED = [one for group in exam.ALL.values() for one in group]
TRIALS = 24


@pytest.fixture(scope="module")
def found():
    same = World().drawn()
    return sitting.sit(worlds.Worlds("prior", same, same, World()), trials=TRIALS, key=5, tell=lambda step, share: None)


# -- nothing left off -------------------------------------------------------------------------------------------------
def test_every_validating_figure_is_on_the_page():
    asked = {one.figure for one in ASKED}
    for one in evidence.load().values():
        if one.role == "validates":
            assert one.id in asked, one.id


def test_every_result_on_file_or_not_is_accounted_for():
    asked = {one.figure[:4] for one in ASKED}
    for one in evidence.RESULTS:
        assert one in asked or one in published.NOT_PUBLISHED, one


def test_every_published_spread_of_a_validating_figure_is_asked_too():
    asked = {(one.figure, one.part) for one in ASKED}
    for one in evidence.load().values():
        if one.role != "validates":
            continue
        assert one.sd is None or (one.id, "sd") in asked, one.id
        assert one.iqr is None or {(one.id, "lower quartile"), (one.id, "upper quartile")} <= asked, one.id


def test_everything_that_describes_the_people_is_shown_as_an_input():
    asked = {one.figure for one in ASKED}
    for one in evidence.load().values():
        number = int(one.id[1:4])
        if one.role == "describes" and (24 <= number <= 47 or number in (61, 62)):
            assert one.id in asked or one.id[:4] in published.BY_DESIGN, one.id


def test_only_predictions_count_and_each_says_what_it_rests_on():
    for one in ASKED:
        assert sitting.scored(one) == (evidence.figure(one.figure).role == "validates" and not one.reading)
        assert (one.read is None) != (one.answer is None)
        if sitting.scored(one):
            assert one.rests_on, one.name
    assert len({one.name for one in ASKED}) == len(ASKED)


def test_what_is_worked_out_from_other_figures_counts_once_with_them():
    for one in ASKED:
        derived = evidence.figure(one.figure).status == "derived" and sitting.scored(one)
        assert bool(one.follows) == (derived and one.figure != "E050"), (
            one.name
        )  # E050 is the interval's width: the only one of it


def test_no_prediction_rests_on_what_it_predicts():
    for one in ASKED:
        for id_ in evidence.RESULTS:
            assert id_ not in one.rests_on, one.name


# -- the marks of a right model ---------------------------------------------------------------------------------------
def test_a_right_model_is_marked_as_one():
    rng = np.random.default_rng(1)
    values, target = rng.gamma(3.0, size=(4000, 2000)), rng.gamma(3.0, size=4000)
    for share in (0.5, 0.9):
        marked = score.coverage(values, target, share)
        assert abs(marked.inside / marked.of - share) < 5 * np.sqrt(share * (1 - share) / 4000)
        assert marked.lower <= marked.inside / marked.of <= marked.upper
        assert marked.expected_low - 20 <= marked.inside <= marked.expected_high + 20
    assert stats.kstest(score.places(values, target), "uniform").pvalue > 1e-3


def test_counts_are_placed_evenly_too():
    rng = np.random.default_rng(2)
    found = score.places(rng.poisson(2.0, size=(4000, 1500)), rng.poisson(2.0, size=4000))
    assert abs(found.mean() - 0.5) < 5 / np.sqrt(12 * 4000)


def test_figures_that_go_together_miss_together():
    rng = np.random.default_rng(3)
    shared, own = rng.normal(size=4000), rng.normal(size=(10, 4000))
    apart, together = (score.coverage(rows, np.zeros(10), 0.9) for rows in (own, np.tile(shared, (10, 1))))
    exact = stats.binom(10, 0.9).ppf([0.05, 0.95])
    assert (apart.expected_low, apart.expected_high) == tuple(exact)
    assert (together.expected_low, together.expected_high) == (0, 10)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (25.0, -7.0)])
def test_units_change_no_mark(scale, shift):
    rng = np.random.default_rng(4)
    values, target = rng.normal(size=(30, 400)), rng.normal(size=30)
    moved, aim = scale * values + shift, scale * target + shift
    assert score.coverage(values, target, 0.9) == score.coverage(moved, aim, 0.9)
    np.testing.assert_array_equal(score.places(values, target), score.places(moved, aim))
    one, other = (score.interval_score(score.band(v, 0.9), t) for v, t in ((values, target), (moved, aim)))
    np.testing.assert_allclose(scale * one, other, rtol=1e-9)


def test_neither_a_wider_nor_a_narrower_interval_than_the_right_one_scores_better():
    target = np.random.default_rng(5).normal(size=200_000)

    def scored(half):
        ends = np.full(target.shape, half)
        return score.interval_score(score.Band(0.9, -ends, ends), target).mean()

    right = scored(stats.norm.ppf(0.95))
    assert right < scored(1.2) and right < scored(2.3)


def test_a_trial_without_a_value_changes_nothing():
    rng = np.random.default_rng(6)
    values, target = rng.normal(size=(5, 300)), rng.normal(size=5)
    more = np.concatenate([values, np.full((5, 40), np.nan)], axis=1)
    assert score.coverage(values, target, 0.9) == score.coverage(more, target, 0.9)
    np.testing.assert_array_equal(score.places(values, target), score.places(more, target))


# -- the sitting ------------------------------------------------------------------------------------------------------
def test_each_figure_carries_what_the_contract_asks(found):
    assert len(found["figures"]) == len(ASKED)
    for one in found["figures"]:
        assert {"name", "published", "lower", "median", "upper", "source"} <= one.keys() and one["level"] == 0.9
        assert one["lower"] <= one["q25"] <= one["median"] <= one["q75"] <= one["upper"], one["name"]
        assert one["inside_90"] == (one["lower"] <= one["published"] <= one["upper"])
        assert one["inside_90"] or not one["inside_50"]
        assert ("place" in one) == one["scored"]
    json.dumps(found)


def test_the_score_is_the_count_of_the_page(found):
    counted = examined.scored(found)
    every, once = found["score"]["all"], found["score"]["once"]
    assert every["figures"] == len(counted) and once["figures"] == sum(not one["follows"] for one in counted)
    for share in ("inside_50", "inside_90"):
        assert every[share]["inside"] == sum(one[share] for one in counted)
    assert len(examined.missed(found)) == every["figures"] - every["inside_90"]["inside"]
    assert not [one for one in examined.inputs(found) if one["scored"]]


def test_the_exam_reads_a_figure_as_quell_run_does(found):
    ivory = Protocol.load("ivory")
    repeated = design.repeat(ivory, World().drawn(), trials=TRIALS, key=5, watch=exam.watch(ivory))
    told = {one["name"]: one for one in found["figures"]}
    for one in exam.comparisons(repeated):
        assert told[one.name]["published"] == one.published
        np.testing.assert_allclose(
            [told[one.name][end] for end in ("lower", "median", "upper")], [one.q05, one.q50, one.q95], rtol=1e-7
        )


def test_the_prior_against_itself_is_as_wide_and_chance_alone_no_wider(found):
    for one in examined.scored(found):
        assert one["width_ratio"] == 1.0 or one["lower"] == one["upper"], one["name"]
        np.testing.assert_allclose([one["prior_lower"], one["prior_upper"]], [one["lower"], one["upper"]], rtol=1e-9)


@pytest.mark.slow
def test_before_the_evidence_more_is_open():
    before, where = worlds.before(), space.space()
    usual = (where.ratios == 1).all(axis=0) & ~np.isin(where.names, space.LINKED)  # no structure, no link moves them
    spread = np.log(before.draws.values[:, usual]).std(axis=0)
    table = np.array([one.uncertainty for one in parameters.table() if one.uncertainty > 0])[usual]
    np.testing.assert_allclose(spread, where.spread[usual], rtol=0.02)
    assert (spread > 0.98 * table).all() and (spread > 1.5 * table).sum() > 10
    assert all(len(set(options)) == 3 for options in before.draws.structures.values())  # structures are mixed


@pytest.mark.slow
def test_a_world_with_draws_is_told_from_another():
    one, other = worlds.before(), World()
    assert worlds.digest(one) and not worlds.digest(other)
    first, again = (recruit.parameters_of(one, keys.numbered(4, "trial", np.arange(3))) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(set(first.growth.tolist())) == 3
    assert set(first.growth.tolist()) <= set(one.draws.values[:, one.draws.names.index("growth")].tolist())


def test_follow_up_is_of_the_same_people():
    words = keys.numbered(3, "trial", np.arange(2))
    one, other = (simulate(Protocol.load(name), World().drawn(), words) for name in sitting.PROTOCOLS)
    np.testing.assert_array_equal(one.covariates["age"], other.covariates["age"])
    np.testing.assert_array_equal(one.enrolled.arm, other.enrolled.arm)


def test_readings_from_columns_by_hand():
    ivory, finale = Protocol.load("ivory"), Protocol.load("ivory-finale")
    words = keys.numbered(3, "trial", np.arange(2))
    columns = simulate(finale, World(), words).columns()
    asked = {one.name: one for one in published.FINALE}
    people = asked["people with MACE by 2.5 years, placebo"].read(finale, columns)
    events = asked["MACE by 2.5 years, placebo"].read(finale, columns)
    assert (events >= people).all() and events.sum() > 0
    control = (columns.arm == columns.arms.index("placebo")) & columns.sets["followed up"]
    by_hand = sum((columns.occurrences[kind] <= 913)[control].sum() for kind in finale.endpoint("MACE").components)
    assert events.sum() == by_hand
    columns = simulate(ivory, World(), words).columns()
    table = {one.name: one for one in exam.ALL["ivory"] if one.read}
    means = [table[f"baseline TBRmax, mean, {arm}"].read(ivory, columns) for arm in ("placebo", "aldesleukin")]
    printed = np.round(means, 2)  # the published imbalance is worked out from two printed means
    np.testing.assert_allclose(
        table["baseline imbalance, placebo minus aldesleukin"].read(ivory, columns), printed[0] - printed[1]
    )
    left = [table[f"{what}, placebo"].read(ivory, columns) for what in ("completed treatment", "did not complete")]
    np.testing.assert_array_equal(left[0] + left[1], (columns.arm == columns.arms.index("placebo")).sum(-1))


def test_zero_against_eleven_percent_is_what_fisher_says(found):
    first = found["second_infarction"]["readings"][0]
    assert first["p"] == pytest.approx(stats.fisher_exact([[0, 28], [3, 24]])[1], rel=1e-12)
    assert first["lower"] < 0 < first["upper"] and first["difference"] == pytest.approx(-3 / 27)
    assert found["second_infarction"]["if_seven_were_people"]["p"] == pytest.approx(
        stats.fisher_exact([[0, 31], [7, 22]])[1], rel=1e-12
    )


# -- the page ---------------------------------------------------------------------------------------------------------
def test_the_page_stands_alone_and_names_every_figure(found):
    kept = json.loads(json.dumps(found))
    built = page.build(kept)
    assert built.html == page.build(found).html and "<script" not in built.html and "https:" not in built.html
    for one in found["figures"]:
        assert one["name"].replace("'", "&#39;") in built.html, one["name"]
    for id_ in (*published.NOT_PUBLISHED, *published.BY_DESIGN):
        assert id_ in built.html
    assert "exam.csv" in built.files and len(built.files["exam.csv"].splitlines()) == len(ASKED) + 1


def test_a_miss_is_told_with_its_reason(found):
    worse = json.loads(json.dumps(found))
    one = next(one for one in worse["figures"] if one["scored"])
    one |= {"published": one["upper"] * 10, "inside_90": False, "inside_50": False}
    (told,) = [
        line
        for line in examined.misses(worse)
        if line.lower().startswith(one["name"].split(",")[0].lower() + ", median, placebo")
    ]
    assert one["why"][5:40] in told
    assert dataclasses.is_dataclass(page.build(worse))


def test_a_world_that_has_seen_the_results_sits_no_exam(found):
    assert "no exam" not in examined.sentence(found)
    assert "no exam" in examined.sentence(found | {"examined": "after-ivory"})

"""Laws of the bank: hazards are gathered as the body gathers them, fates are those of lives, no person hangs on another."""

import concurrent.futures
import dataclasses
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quell import keys
from quell.body import course
from quell.design import assumed, bank, lived
from quell.design.crowd import CAUSES, Fates
from quell.design.parts import Assumed, Marker, Ratio, Reading, World
from quell.protocol import Protocol
from quell.trial import World as Body
from quell.trial import simulate
from quell.trial.world import usual_conduct

IVORY = Protocol.load("ivory")
NOW = World(name="now", posterior="after-ivory")
MACE = ("infarction", "stroke", "arrest", "revascularisation", "cardiovascular_death")


def made(draws=25, people=40, horizon=730, key=7, world=NOW, protocol=IVORY):
    return bank.recipe(protocol, world, draws=draws, people=people, horizon=horizon, key=key)


def kept(folder: pathlib.Path, recipe) -> bank.Bank:
    paths = []
    for number in range(recipe.shards):
        paths.append(folder / f"{recipe.fingerprint}-{number}.parquet")
        paths[-1].write_bytes(bank.shard(recipe, number))
    return bank.read(paths)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bank")


@pytest.fixture(scope="module")
def people(folder):
    return kept(folder, made())


@pytest.fixture(scope="module")
def bodies():
    """The people of the bank and how they live in it, before anything is made of them."""
    recipe = made()
    words = keys.numbered(recipe.key, "bank", np.arange(recipe.draws))
    found = lived.gather(IVORY, bank._constants(recipe, 0, recipe.draws), recipe.people, words)
    return found, lived.Setting(IVORY, usual_conduct(), recipe.knots)


# -- what is gathered ----------------------------------------------------------------------------------------------------
def test_gathered_hazards_begin_at_nothing_and_never_fall(people):
    for gathered in (people.vascular, people.scarred, bank.fates(people, (MACE, ("other_death",))).gathered):
        assert (gathered[..., 0] == 0).all()
        assert (np.diff(gathered, axis=-1) >= 0).all() and np.isfinite(gathered).all()
    assert (people.prone > 0).all()


def test_what_is_gathered_is_the_integral_of_the_hazard_that_can_be_observed(bodies, people):
    found, setting = bodies
    who, days = found.enrolled, tuple(range(1, 202))
    undisturbed = who.patient.thresholds._replace(infarction=np.full_like(who.patient.thresholds.infarction, np.inf))
    _, amounts = lived.blocks.over(
        lived._behaving(IVORY, setting.conduct), who.address, who.patient, who.screening_day, np.zeros(1000, int)
    )
    mesh = course.mesh(setting.plan.dose_days, days, 201)
    seen = course.many(who.patient._replace(thresholds=undisturbed), amounts, found.parameters, mesh).observed
    rate = seen.hazard / 365.25
    whole = np.concatenate([np.zeros((1000, 1)), np.cumsum((rate[:, 1:] + rate[:, :-1]) / 2, axis=1)], axis=1)
    place = [k for k, knot in enumerate(people.knots) if 10 < knot <= 200]
    mine = people.vascular[:, people.arms.index("aldesleukin")].reshape(1000, -1)[:, place]
    wanted = whole[:, [int(people.knots[k]) for k in place]]
    # what is left is the trapezoid's error in the first days, when C-reactive protein falls fast
    assert np.quantile(np.abs(mine / wanted - 1), 0.99) < 0.02
    assert abs(mine.mean() / wanted.mean() - 1) < 2e-3


def test_lives_are_those_of_the_body(bodies, people):
    found, setting = bodies
    who = found.enrolled
    _, amounts = lived.blocks.over(
        lived._behaving(IVORY, setting.conduct), who.address, who.patient, who.screening_day, np.zeros(1000, int)
    )
    life = course.many(who.patient, amounts, found.parameters, setting.mesh)
    fine = (life.valid == 0) & (life.doubt < course.DOUBT)
    active = people.arms.index("aldesleukin")
    for cause in CAUSES:
        days = getattr(life.events, cause)
        days = days.min(axis=1) if cause == "infarction" else days
        mine = people.first[cause][:, active].reshape(-1)
        np.testing.assert_array_equal(mine[fine], np.where(days <= people.horizon, days, np.inf)[fine])
    assert np.isfinite(people.first["infarction"]).sum() > 20


def test_a_cause_comes_where_its_gathered_hazard_passes_the_persons_own_threshold(bodies, people):
    found, _ = bodies
    death = np.minimum(people.first["cardiovascular_death"], people.first["other_death"])
    for cause in CAUSES:
        own = getattr(found.enrolled.patient.thresholds, cause)
        goal = (own[:, 0] if cause == "infarction" else own).reshape(people.draws, 1, people.people)
        gathered = bank.fates(people, ((cause,),)).gathered[:, 0]
        after = (gathered < goal[..., None]).sum(axis=-1)  # the knot by which the threshold is passed
        came, day = after < len(people.knots), people.first[cause]
        latest = np.where(came, people.knots[np.minimum(after, len(people.knots) - 1)], np.inf)
        earliest = np.where(came, people.knots[after - 1], people.horizon)
        # in the undisturbed life: no death, no infarction before
        fair = np.minimum(people.first["infarction"], death) >= np.where(came, np.minimum(day, latest), people.horizon)
        agrees = np.where(came, (day > earliest) & (day <= latest), ~np.isfinite(day))
        assert (agrees | ~fair).mean() > 0.9995, cause
        assert fair.mean() > 0.8


def test_fates_drawn_anew_come_when_lives_have_their_events(people):
    gathered = bank.fates(people, (MACE,)).gathered[:, 0].astype(float)
    happened = np.minimum.reduce([people.first[cause] for cause in MACE])
    other = people.first["other_death"]
    alive = np.exp(-people.prone[:, CAUSES.index("other_death"), None, :, None] * people.knots)
    for arm in range(len(people.arms)):
        for k in (5, 10, 16, len(people.knots) - 1):
            # lives in which other death came first end without: the chance of both still to come
            expected = np.exp(-gathered[:, arm, :, k]) * alive[:, 0, :, k]
            found = (np.minimum(happened, other)[:, arm] > people.knots[k]).mean()
            error = np.sqrt((expected * (1 - expected)).sum()) / expected.size
            assert abs(found - expected.mean()) < 4 * error


def test_loops_make_second_infarctions_and_nothing_else_does(people):
    again = people.infarctions > np.isfinite(people.first["infarction"])
    assert again.any() and not (people.infarctions[~np.isfinite(people.first["infarction"])] > 0).any()


# -- the same in another world -------------------------------------------------------------------------------------------
def test_without_efficacy_is_what_living_without_efficacy_comes_to(folder, people):
    derived = bank.without(people, "efficacy")
    recipe = made()
    really = dataclasses.replace(recipe, world=dataclasses.replace(recipe.world, without="efficacy"))
    lived_so = kept(folder, really)
    np.testing.assert_allclose(lived_so.vascular[:, 1], lived_so.vascular[:, 0], rtol=1e-5)
    np.testing.assert_allclose(derived.vascular, lived_so.vascular, rtol=1e-5)
    np.testing.assert_allclose(derived.scarred, lived_so.scarred, rtol=1e-5)
    for cause in CAUSES:
        assert (derived.first[cause] == lived_so.first[cause]).mean() > 0.9995
    for name in ("TBRmax, day 61", "hsCRP, day 61", "Treg %, day 54"):
        assert np.nanquantile(np.abs(derived.readings[name] / lived_so.readings[name] - 1), 0.99) < 1e-4
    assert np.nanmean(derived.readings["Treg %, day 54"][:, 1]) > 1.2 * np.nanmean(
        derived.readings["Treg %, day 54"][:, 0]
    )
    assert (bank.true_effect(derived, 0, 1, 730, "hazard ratio", of=MACE) == 0).all()


def test_worlds_with_the_same_lives_share_a_bank():
    for other in (
        World(name="null", posterior="after-ivory", without="efficacy"),
        World(name="none", posterior="after-ivory", without="drug"),
        World(name="good", posterior="after-ivory", best=0.1),
    ):
        assert made(world=other).fingerprint == made().fingerprint
    for other in (
        World(name="x", posterior="before-ivory"),
        World(name="x", posterior="after-ivory", conduct="perfect"),
        World(name="x", posterior="after-ivory", without="loop"),
    ):
        assert made(world=other).fingerprint != made().fingerprint
    renamed = IVORY.but(name="another", title="another title")
    assert made(protocol=renamed).fingerprint == made().fingerprint
    assert made(key=8).fingerprint != made().fingerprint


def test_the_effect_on_the_scan_is_that_of_simulated_trials(people):
    true = bank.true_effect(people, "placebo", "aldesleukin", 0, "difference in means", of="TBRmax, day 61")
    records = simulate(IVORY, Body("after-ivory"), keys.numbered(1, "trial", np.arange(40)), people=40)
    scans = records.columns().reading("TBRmax", "index vessel", "day 61")
    arm = records.enrolled.arm
    each = [np.nanmean(scans[k][arm[k] == 0]) - np.nanmean(scans[k][arm[k] == 1]) for k in range(40)]
    error = np.hypot(np.std(each) / np.sqrt(40), true.std() / np.sqrt(len(true)))
    assert abs(true.mean() - np.mean(each)) < 4 * error
    assert true.mean() < -3 * true.std() / np.sqrt(len(true))


# -- people are found by address ---------------------------------------------------------------------------------------
def test_more_people_and_more_draws_change_nobody(folder, people):
    for fewer in (kept(folder, made(draws=3)), kept(folder, made(people=10, draws=25))):
        d, n = fewer.draws, fewer.people
        np.testing.assert_array_equal(fewer.vascular, people.vascular[:d, :, :n])
        np.testing.assert_array_equal(fewer.readings["TBRmax, day 61"], people.readings["TBRmax, day 61"][:d, :, :n])
        np.testing.assert_array_equal(fewer.covariates["age"], people.covariates["age"][:d, :n])
        np.testing.assert_array_equal(fewer.first["other_death"], people.first["other_death"][:d, :, :n])


def test_a_shard_is_the_same_bytes_again_and_on_threads(monkeypatch):
    recipe = made(draws=4, people=10)
    once = bank.shard(recipe, 0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(bank.shard, [recipe] * 2, [0] * 2)) == [once] * 2
    monkeypatch.setattr(lived, "PART", 13)
    assert bank.shard(recipe, 0) == once


def test_shards_in_any_number_and_order_are_one_bank(tmp_path, monkeypatch):
    whole = kept(tmp_path, made(draws=4, people=10))
    monkeypatch.setattr(bank, "SHARD", 3)
    recipe = made(draws=4, people=10)
    paths = [tmp_path / f"part-{number}" for number in range(recipe.shards)]
    for number, path in enumerate(paths):
        path.write_bytes(bank.shard(recipe, number))
    for order in (paths, paths[::-1]):
        found = bank.read(order)
        np.testing.assert_array_equal(found.vascular, whole.vascular)
        np.testing.assert_array_equal(found.covariates["hsCRP"], whole.covariates["hsCRP"])


def test_everybody_keeps_the_protocols_eligibility_and_screening_is_counted(people):
    assert (people.covariates["hsCRP"] > 2).all() and (people.covariates["age"] <= 86).all()
    assert (people.covariates["screened"] >= 1).all() and people.covariates["screened"].mean() > 1.02


def test_a_reading_before_the_first_dose_is_the_same_under_every_arm_and_never_missing(people):
    for name, values in people.readings.items():
        if name == "TBRmax, baseline" or name == "hsCRP, baseline":
            np.testing.assert_array_equal(values[:, 0], values[:, 1])
            assert np.isfinite(values).all()
    missing = np.isnan(people.readings["TBRmax, day 61"]).mean()
    assert 0.02 < missing < 0.2  # those who left, died, or whose scan failed
    with pytest.raises(ValueError, match="read-only"):
        people.vascular[0] = 0


def test_arms_of_no_drug_are_one_and_more_drug_is_another(folder):
    three = IVORY.but(
        arms=(
            *IVORY.arms,
            dataclasses.replace(IVORY.control, name="nothing", control=False),
            dataclasses.replace(
                IVORY.arm("aldesleukin"),
                name="half",
                doses=(dataclasses.replace(IVORY.arm("aldesleukin").doses[0], amount="0.75 MIU"),),
            ),
        ),
        allocation=dataclasses.replace(IVORY.allocation, ratio={}, strata=()),
    )
    found = kept(folder, made(draws=4, people=20, protocol=three))
    assert found.arms == ("placebo", "aldesleukin", "nothing", "half")
    np.testing.assert_array_equal(found.vascular[:, 0], found.vascular[:, 2])
    cells = np.nanmean(found.readings["Treg %, day 54"], axis=(0, 2))
    assert cells[0] == cells[2] < cells[3] < cells[1]


def test_perfect_conduct_misses_nothing(folder):
    perfect = kept(folder, made(draws=4, people=20, world=World(name="p", posterior="after-ivory", conduct="perfect")))
    assert (
        np.isnan(perfect.readings["TBRmax, day 61"]).mean()
        <= (perfect.first["cardiovascular_death"] < 70).mean() + (perfect.first["other_death"] < 70).mean()
    )


# -- worlds by assumption ------------------------------------------------------------------------------------------------
SAID = Assumed(
    risk=("6 % by 1 year", "11 % by 2 years"),
    ratios=(Ratio(ratio=1.0), Ratio(after="90 days", ratio=0.7)),
    markers=(Marker(name="hsCRP", median=4.0, log_sd=0.8, hazard_per_doubling=1.3, ratio_per_doubling=0.9),),
    readings={"TBRmax": Reading(mean=2.3, sd=0.3, correlation=0.6, difference=-0.15)},
)


@given(st.floats(0.02, 0.6), st.floats(1.0, 3.0), st.integers(1, 50))
def test_the_risk_said_is_the_risk_found_whatever_the_markers(risk, per_doubling, key):
    said = Assumed(
        risk=(f"{100 * risk / 2:.4f} % by 1 year", f"{100 * risk:.4f} % by 2 years"),
        markers=(Marker(name="x", median=1.0, log_sd=0.7, hazard_per_doubling=per_doubling),),
    )
    found = assumed.bank(said, ("placebo",), causes=("infarction", "stroke"), horizon=1200, people=64, key=key)
    gathered = bank.fates(found, (("infarction", "stroke"),)).gathered[0, 0, 0].astype(float)
    at = list(found.knots).index(730.5)
    assert 1 - np.exp(-gathered[:, at]).mean() == pytest.approx(float(f"{risk:.6f}"), rel=1e-5)


def test_eleven_percent_by_two_years():
    found = assumed.bank(
        Assumed(risk=("11 % by 2 years",)), ("placebo", "drug"), causes=MACE, horizon=1461, people=50_000
    )
    gathered = bank.fates(found, (MACE,)).gathered[0, 0]
    np.testing.assert_allclose(-np.expm1(-gathered[..., list(found.knots).index(730.5)]), 0.11, rtol=1e-6)
    days = np.minimum.reduce([found.first[cause] for cause in MACE])[0]
    assert abs((days <= 730.5).mean() - 0.11 * 0.992) < 0.006  # a few die of other causes first
    np.testing.assert_array_equal(days[0], days[1])  # no ratio: the same fate


def test_hazard_ratios_change_on_their_day_and_markers_move_them():
    found = assumed.bank(SAID, ("placebo", "drug"), causes=MACE, horizon=1461, people=500)
    level = np.log2(found.covariates["hsCRP"][0] / 4.0)
    control, active = (np.diff(found.vascular[0, arm].astype(float)) for arm in (0, 1))
    before = found.knots[1:] <= 90
    np.testing.assert_allclose((active / control)[:, before], (0.9**level)[:, None] * np.ones(before.sum()), rtol=1e-4)
    np.testing.assert_allclose(
        (active / control)[:, ~before], 0.7 * (0.9**level)[:, None] * np.ones((~before).sum()), rtol=1e-4
    )
    difference = bank.true_effect(found, 0, 1, 0, "difference in means", of="TBRmax, day 61")
    assert difference == pytest.approx(-0.15, abs=1e-5)
    joint = np.corrcoef(found.readings["TBRmax, baseline"][0, 0], found.readings["TBRmax, day 61"][0, 0])[0, 1]
    assert abs(joint - 0.6) < 0.12


def test_shares_are_those_said_and_the_rest_as_published():
    said = Assumed(risk=("11 % by 2 years",), shares={"infarction": 0.5})
    found = assumed.bank(
        said, ("placebo",), causes=("infarction", "stroke", "cardiovascular_death"), horizon=731, people=4
    )
    share = dict(zip(CAUSES, found.prone[0, :, 0], strict=True))
    usual = assumed.published()
    assert share["infarction"] == pytest.approx(0.5)
    assert share["stroke"] / share["cardiovascular_death"] == pytest.approx(
        usual["stroke"] / usual["cardiovascular_death"]
    )
    assert share["infarction"] + share["stroke"] + share["cardiovascular_death"] == pytest.approx(1)


def test_more_assumed_people_change_nobody():
    few, many = (assumed.bank(SAID, ("placebo", "drug"), causes=MACE, horizon=731, people=n) for n in (10, 40))
    np.testing.assert_array_equal(few.covariates["hsCRP"], many.covariates["hsCRP"][:, :10])
    np.testing.assert_array_equal(few.readings["TBRmax, day 61"], many.readings["TBRmax, day 61"][..., :10])


# -- true effects ---------------------------------------------------------------------------------------------------------
def constant(ratio, rate=2e-4, knots=(0.0, 100.0, 400.0, 1500.0), other=0.0):
    """Fates of one person whose hazard is even, and one with another cause of death."""
    days = np.array(knots)
    own = np.stack([rate * days, rate * ratio * days])[None, None, :, None]
    death = np.broadcast_to(other * days, own.shape)
    return Fates((("infarction",), ("other_death",)), days, np.concatenate([own, death], axis=1))


@given(st.floats(0.2, 3.0), st.floats(1e-6, 3e-3), st.floats(50, 3000), st.floats(0, 1e-3), st.floats(0, 0.9))
def test_an_even_hazard_ratio_is_found_whatever_the_censoring(ratio, rate, until, other, share):
    fates = constant(ratio, rate, other=other)
    found = bank.true_effect(fates, 0, 1, until, "hazard ratio", of=("infarction",), evenly_from=share * until)
    assert found[0] == pytest.approx(np.log(ratio), abs=1e-6)
    risk = bank.true_effect(fates, 0, 1, until, "risk difference", of=("infarction",))
    assert risk[0] == pytest.approx(np.exp(-rate * until) - np.exp(-rate * ratio * until), abs=1e-8)
    area = bank.true_effect(fates, 0, 1, until, "difference in restricted mean time", of=("infarction",))
    wanted = [(1 - np.exp(-h * until)) / h for h in (rate, rate * ratio)]
    assert area[0] == pytest.approx(wanted[1] - wanted[0], rel=1e-6, abs=1e-5)


def test_arms_changed_about_change_the_sign_and_nothing_else(people):
    for scale, of in (("hazard ratio", MACE), ("risk difference", MACE), ("difference in means", "TBRmax, day 61")):
        there, back = (bank.true_effect(people, *arms, 700, scale, of=of) for arms in ((0, 1), (1, 0)))
        np.testing.assert_allclose(there, -back, rtol=1e-9, atol=1e-12)


def test_cox_on_many_lives_comes_to_the_true_effect():
    """Late effect, uniform censoring: the estimate of one very large trial against the value said."""
    said = Assumed(risk=("30 % by 2 years",), ratios=(Ratio(ratio=1.0), Ratio(after="200 days", ratio=0.5)))
    found = assumed.bank(said, ("placebo", "drug"), causes=("infarction",), horizon=1000, people=4)
    true = bank.true_effect(bank.fates(found, (("infarction",),)), 0, 1, 1000, "hazard ratio")
    rng, n = np.random.default_rng(1), 100_000
    gathered = found.vascular[0, :, 0].astype(float)
    times = np.concatenate([np.interp(rng.exponential(size=n), g, found.knots, right=np.inf) for g in gathered])
    censored = rng.uniform(0, 1000, 2 * n)
    arm, event = np.repeat([0.0, 1.0], n), times <= censored
    order = np.argsort(np.minimum(times, censored))
    arm, event, beta = arm[order], event[order], 0.0
    for _ in range(8):
        weight = np.exp(beta * arm)
        share = (np.cumsum((weight * arm)[::-1]) / np.cumsum(weight[::-1]))[::-1]
        information = (share * (1 - share))[event].sum()
        beta += (arm - share)[event].sum() / information
    assert abs(beta - true[0]) < 4 / np.sqrt(information)
    assert np.log(0.55) < true[0] < np.log(0.9)  # the time without effect dilutes it


@given(st.integers(1, 40), st.floats(0.02, 1.0))
def test_the_best_draws_are_those_of_the_largest_effect(number, share):
    effects = np.random.default_rng(number).normal(size=number)
    chosen = bank.best(effects, share)
    rest = np.setdiff1d(np.arange(number), chosen)
    assert len(chosen) == max(1, round(share * number)) and (np.diff(chosen) > 0).all()
    assert not len(rest) or effects[chosen].max() <= effects[rest].min()

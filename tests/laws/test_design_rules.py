"""Laws of designs and of their rules: the same trials everywhere, exact where an exact answer is known, and the level kept."""

import dataclasses
import io
import itertools
import tomllib

import numpy as np
import polars as pl
import pytest
from scipy import special, stats

from quell.design import answers, conduct, limits, scene
from quell.design.adaptations import Enrich, Resize, Respond, Select, Surrogate
from quell.design.combine import One
from quell.design.components import part_times
from quell.design.course import EFFICACY, FUTILITY, HARM
from quell.design.crowd import BY_LOOK, RESULT, Crowd, Fates
from quell.design.declared import Design
from quell.design.kernels import seeds, uniform
from quell.design.parts import (
    Allocation,
    Criterion,
    Dropout,
    Efficacy,
    Futility,
    Look,
    Primary,
    Recruitment,
    Secondary,
    Test,
    Variant,
)
from quell.design.recruit import draws_of, expected
from quell.design.worlds import Assumed, Marker, Ratio, Reading, World

RISK = ("20 % by 2 years",)
MARKERS = (Marker(name="hsCRP", median=9.2, log_sd=1.2),)
NULL = World(name="null", assumed=Assumed(risk=RISK, markers=MARKERS, readings={"TBRmax": Reading(mean=2.3, sd=0.28)}))
EFFECT = World(
    name="effect",
    assumed=Assumed(
        risk=RISK,
        ratios=(Ratio(ratio=0.7),),
        markers=MARKERS,
        readings={"TBRmax": Reading(mean=2.3, sd=0.28, difference=-0.15)},
    ),
)
SITES = Recruitment(sites=10, per_site_per_month=4, opening="6 months", spread=0.5)
LOOKS = (Look(fraction=0.5), Look(fraction=1.0))
SMALL = (Variant(people=500, events=90),)
PLAIN = Design.load("ivory-3").but(
    variants=SMALL,
    worlds=(NULL, EFFECT),
    recruitment=SITES,
    looks=LOOKS,
    futility=None,
    harm=None,
    secondary=None,
    costs=None,
)
DOSES = Design.load("ivory-3-dose-selection").but(
    variants=(Variant(people=600, events=90),), worlds=(NULL, EFFECT), recruitment=SITES, looks=LOOKS, harm=None,
    secondary=None, costs=None,
)  # fmt: skip
MARKED = Criterion(quantity="hsCRP", rule="above 9 mg/L")
ADAPTIVE = {
    "promising zone": PLAIN.but(resize=Resize(by="promising zone", zone=(0.1, 0.9), most=2.0)),
    "blinded rate": PLAIN.but(resize=Resize(by="blinded rate", finish="2 years", most=2.0)),
    "adaptive enrichment": PLAIN.but(enrich=Enrich(limit=MARKED, everyone=0.5, subgroup=0.0)),
    "dose by outcome": DOSES.but(select=Select(by="z", least=0.0)),
    "dose by reading": DOSES.but(
        looks=(Look(fraction=0.3, efficacy=False), Look(fraction=1.0)),
        select=Select(by="reading", reading="TBRmax, day 61", baseline="TBRmax, baseline", share=0.4),
    ),
    "response-adaptive": PLAIN.but(respond=Respond(updates=("6 months", "9 months"), power=1.0)),
    "gate": PLAIN.but(surrogate=Surrogate(reading="TBRmax, day 61", baseline="TBRmax, baseline", people=60, gate=0.5)),
    "posterior": PLAIN.but(efficacy=Efficacy(by="posterior", chance=(0.99, 0.98))),
    "blinded variance": PLAIN.but(
        primary=Primary(reading="TBRmax, day 61", baseline="TBRmax, baseline"), variants=(Variant(people=60),),
        looks=(Look(people=0.5), Look(people=1.0)), test=Test(method="ancova"),
        resize=Resize(by="blinded variance", sd=0.25, most=2.0),
    ),
}  # fmt: skip


def played(design: Design, world: str, trials: int, key: int = 1) -> pl.DataFrame:
    return conduct.trials(conduct.Job(design=design, world=world, key=key), np.arange(trials))


# -- what is declared --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*Design.names(), "template"])
def test_a_design_reads_back_from_its_own_text(name: str) -> None:
    design = Design.load(name)
    again = Design.of(tomllib.loads(design.text()))
    assert again == design and again.fingerprint == design.fingerprint and hash(again) == hash(design)


def test_groups_of_causes_are_disjoint_and_make_up_every_endpoint() -> None:
    design = Design.load("ivory-3")
    causes = [cause for group in (*design.parts, *design.groups[1:]) for cause in group]
    assert len(causes) == len(set(causes)) and set(itertools.chain(*design.parts)) == set(design.groups[0])
    for name in design.endpoints:
        inside = [part for part in (*design.parts, *design.groups[1:]) if set(part) <= set(design.causes(name))]
        assert set(itertools.chain(*inside)) == set(design.causes(name))


def test_trials_are_spread_over_draws_evenly() -> None:
    counted = np.bincount(draws_of(np.arange(2000), np.arange(500)))
    assert (counted == 4).all()
    assert (
        np.ptp(np.sort(draws_of(np.arange(50), np.arange(500)))[1:] // 10) > 40
    )  # few trials reach all over the draws


# -- the same trials everywhere ----------------------------------------------------------------------------------------
def test_a_chunk_is_its_trials_whatever_is_asked_with_them() -> None:
    job = conduct.Job(design=PLAIN, world="effect", key=5)
    data = conduct.chunk(job, 1)
    assert conduct.chunk(job, 1) == data
    table = pl.read_parquet(io.BytesIO(data))
    assert table["trial"].to_list() == list(range(250, 500))
    some = conduct.trials(job, np.array([251, 490]))
    assert some.equals(table.filter(pl.col("trial").is_in([251, 490])))


def test_columns_are_those_promised() -> None:
    table = played(PLAIN, "effect", 4)
    assert table.columns[: len(RESULT)] == list(RESULT)
    assert set(table.columns[len(RESULT) :]) == {name.format(look=look) for name in BY_LOOK for look in (1, 2)}


def test_a_larger_trial_contains_the_smaller_one() -> None:
    sizes = PLAIN.but(variants=(*SMALL, Variant(people=800, events=90)))
    crowds = []
    for variant in (0, 1):
        of = scene.game(sizes, variant, "effect", (), 1)
        crowds.append(conduct.general_rules(of).recruit(np.arange(5)).crowd)
    for name in ("arrival", "person", "arm", "time", "lost"):
        small, large = getattr(crowds[0], name), getattr(crowds[1], name)
        assert np.array_equal(small, large[..., : small.shape[-1]]), name


def test_worlds_share_people_and_chance() -> None:
    crowds = [
        conduct.general_rules(scene.game(PLAIN, 0, world, (), 1)).recruit(np.arange(5)).crowd
        for world in ("null", "effect")
    ]
    assert np.array_equal(crowds[0].arrival, crowds[1].arrival) and np.array_equal(crowds[0].person, crowds[1].person)
    control = crowds[0].arm == 0
    assert np.array_equal(crowds[0].time[0][control], crowds[1].time[0][control])
    assert (crowds[0].time[0] <= crowds[1].time[0]).all()  # nobody fares worse where the drug works


# -- exact where an exact answer is known ------------------------------------------------------------------------------
def test_stopping_agrees_with_the_closed_form() -> None:
    design = PLAIN.but(
        futility=Futility(by="z", limit=(0.5,), function="obrien-fleming"), variants=(Variant(people=900, events=200),)
    )
    of = scene.game(design, 0, "effect", (), 1)
    plan = limits.watch(of)
    found = played(design, "effect", 2000)
    drift = -np.log(0.7) * np.sqrt(plan.information)
    stops = limits.limits(plan).boundaries._replace(lower=limits.limits(plan).lower).crossing(drift)
    for look, reason, exact in (
        (1, "efficacy", stops.upper[0]),
        (1, "futility", stops.lower[0]),
        (2, "efficacy", stops.upper[1]),
    ):
        simulated = answers.rate(
            ((found["look"] == look) & (found["reason"] == reason)).to_numpy(), np.arange(found.height)
        )
        # the log-rank test's drift is that of a hazard ratio near one: at 0.7 it is some hundredths less
        assert abs(simulated.value - exact) < 3.5 * simulated.error + 0.02, (look, reason, simulated.value, exact)


def test_adjusted_estimates_are_median_unbiased_and_intervals_cover() -> None:
    found = played(PLAIN.but(variants=(Variant(people=900, events=200),)), "effect", 2000)
    below = (found["adjusted"] < found["truth"]).mean()
    assert abs(below - 0.5) < 3.5 * np.sqrt(0.25 / 2000) + 0.01
    covered = ((found["lower"] <= found["truth"]) & (found["truth"] <= found["upper"])).mean()
    assert abs(covered - 0.95) < 3.5 * np.sqrt(0.05 * 0.95 / 2000) + 0.005


def test_the_level_of_a_posterior_rule_is_what_is_stated() -> None:
    design = ADAPTIVE["posterior"]
    stated = limits.level(scene.game(design, 0, "null", (), 1))
    found = answers.rate(played(design, "null", 2000)["success"].to_numpy(), np.arange(2000))
    assert 0.02 < stated < 0.04 and abs(found.value - stated) < 3.5 * found.error


def test_a_flat_prior_makes_a_posterior_chance_a_one_sided_p() -> None:
    rule = Efficacy(by="posterior", chance=(0.975,))
    assert limits.chance_limits(rule, np.array([7.0]), 1)[0] == pytest.approx(special.ndtri(0.975))


def test_parts_of_a_composite_have_their_own_law() -> None:
    knots, n, trials = np.array([0.0, 100.0, 400.0]), 400, 50
    one, other = np.array([0.0, 0.5, 0.8]), np.array([0.0, 0.1, 1.4])
    shaped = np.stack([one, other])[None, :, None, None].astype(np.float32)
    parts = Fates((("infarction",), ("stroke",)), knots, shaped)
    seed = seeds(3, np.arange(trials))
    shape = (trials, n)
    wait = -np.log1p(-uniform(seed, n, "the union"))
    union = np.interp(wait, one + other, knots, right=np.inf)
    crowd = Crowd(seed, np.zeros(trials, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros((1, n), np.int16),
                  np.zeros(shape, np.int8), union[None].astype(np.float32), np.full(shape, np.inf))  # fmt: skip
    times = part_times(parts, crowd, 400.0)
    reached = np.isfinite(union)
    assert np.allclose(times.min(0)[reached], union[reached], rtol=1e-5)
    for row, gathered in zip(times, (one, other), strict=True):
        for day in (50.0, 100.0, 250.0, 380.0):
            risk = -np.expm1(-np.interp(day, knots, gathered))
            assert abs((row <= day).mean() - risk) < 4 * np.sqrt(risk * (1 - risk) / times[0].size)


def test_people_come_as_declared() -> None:
    days, gathered = expected(SITES, np.full((1, 10), 0.1))
    whole = np.interp(days[-2], days, gathered[0])
    opening = SITES.opening_days
    assert whole == pytest.approx((0.1 * (days[-2] - opening)).sum())


# -- rules -------------------------------------------------------------------------------------------------------------
def test_looks_wait_for_their_events() -> None:
    found = played(PLAIN, "null", 300)
    first, second = found["events_1"].to_numpy(), found["events_2"].drop_nulls().to_numpy()
    assert (first >= 45).all() and (first <= 49).all() and (second >= 90).all()
    both = found.filter(pl.col("day_2").is_not_null())
    assert (both["day_2"] > both["day_1"]).all() and (both["enrolled_2"] >= both["enrolled_1"]).all()


def test_calendar_looks_are_on_their_day_and_spend_by_events() -> None:
    design = PLAIN.but(looks=(Look(day="1 year"), Look(day="2 years")))
    found = played(design, "null", 100)
    assert (found["day_1"] == 365).all() and found["events_1"].n_unique() > 5
    plan = limits.watch(scene.game(design, 0, "null", (), 1))
    early, late = limits.limits(plan, (0.3,)), limits.limits(plan, (0.7,))
    assert early.upper[0] > late.upper[0] > late.upper[1]  # less information, less spent


def test_a_gate_leaks_nothing_into_the_outcome() -> None:
    narrow = dataclasses.replace(ADAPTIVE["gate"].surrogate, gate=0.01)
    gated = played(ADAPTIVE["gate"].but(surrogate=narrow), "effect", 300)
    free = played(PLAIN, "effect", 300)
    through = gated["reason"] != "gate"
    assert 0 < through.sum() < 300
    same = ["success", "look", "reason", "z_1", "z_2", "estimate", "duration"]
    assert gated.filter(through).select(same).equals(free.filter(through).select(same))


def test_people_before_the_gate_can_be_left_out() -> None:
    rule = dataclasses.replace(ADAPTIVE["gate"].surrogate, outcome="after the gate")
    found = played(ADAPTIVE["gate"].but(surrogate=rule), "effect", 60).filter(pl.col("reason") != "gate")
    free = played(PLAIN, "effect", 60).filter(pl.col("trial").is_in(found["trial"].to_list()))
    assert (found["duration"] > free["duration"]).mean() > 0.8  # the same events take longer without them


def test_a_promising_zone_adds_only_where_it_is_promising() -> None:
    of = scene.game(ADAPTIVE["promising zone"], 0, "effect", (), 1)
    course = conduct.play(of, conduct.general_rules(of), np.arange(300))
    going = course.look == 2
    more = course.target[:, 1] > 90
    assert more.any() and (~more & going).any()
    z = course.combined[going & more, 0]
    assert z.min() > course.combined[going & ~more, 0].min() and z.max() < 2.5
    assert (course.wanted[more] > 500).all() and (course.wanted[~more] == 500).all()


def test_fixed_weights_change_nothing_where_nothing_was_changed() -> None:
    of = scene.game(ADAPTIVE["promising zone"], 0, "effect", (), 1)
    course = conduct.play(of, conduct.general_rules(of), np.arange(200))
    kept = (course.look == 2) & (course.target[:, 1] == 90)
    gap = np.abs(course.combined[kept, 1] - course.z[kept, 1, 0])
    assert np.median(gap) < 0.05  # information as it was, not as planned, is all that differs


def test_blinded_re_estimation_adds_people_where_events_are_rare() -> None:
    rare = World(name="rare", assumed=Assumed(risk=("8 % by 2 years",)))
    design = ADAPTIVE["blinded rate"].but(worlds=(NULL, rare))
    assert played(design, "rare", 100)["enrolled"].mean() > played(design, "null", 100)["enrolled"].mean() + 100


def test_the_best_arm_is_carried_on() -> None:
    better = World(
        name="better",
        assumed=Assumed(
            risk=RISK,
            ratios=(Ratio(ratio=0.5, arm="3 MIU"),),
            readings={"TBRmax": Reading(mean=2.3, sd=0.28, by_arm={"3 MIU": -0.3})},
        ),
    )
    for name in ("dose by outcome", "dose by reading"):
        found = played(ADAPTIVE[name].but(worlds=(NULL, better)), "better", 100)
        assert (found["arm"] == 3).mean() > 0.8, name


def test_a_subgroup_that_alone_benefits_is_chosen() -> None:
    marker = (Marker(name="hsCRP", median=9.2, log_sd=1.2, ratio_per_doubling=0.7),)
    world = World(name="some", assumed=Assumed(risk=RISK, ratios=(Ratio(ratio=1.0),), markers=marker))
    of = scene.game(ADAPTIVE["adaptive enrichment"].but(worlds=(world,)), 0, "some", (), 1)
    course = conduct.play(of, conduct.general_rules(of), np.arange(200))
    assert course.subgroup.mean() > 0.2
    late = np.floor(course.crowd.arrival) > course.day[:, :1]
    outside = late & (course.people.arm >= 0) & ~course.marked(of) & course.subgroup[:, None]
    assert not outside.any()  # nobody else is taken in after the choice


def test_response_adaptive_allocation_favours_the_better_arm() -> None:
    of = scene.game(ADAPTIVE["response-adaptive"], 0, "effect", (), 1)
    course = conduct.general_rules(of).recruit(np.arange(100))
    shares = [course.crowd.arm[course.period == number].mean() for number in range(3)]
    assert abs(shares[0] - 0.5) < 0.02 and shares[2] > 0.55


def test_limits_at_entry_are_kept_and_screening_is_counted() -> None:
    design = PLAIN.but(entry=(MARKED,))
    of = scene.game(design, 0, "null", (), 1)
    course = conduct.general_rules(of).recruit(np.arange(20))
    assert (of.scene.bank.covariates["hsCRP"][0, course.crowd.person] > 9).all()
    found = played(design, "null", 20)
    assert 1.8 < found["screened"].mean() / found["enrolled"].mean() < 2.3


def test_loss_differs_by_arm_where_it_is_said_to() -> None:
    design = PLAIN.but(dropout=Dropout(per_year=0.05, by_arm={"aldesleukin": 0.4}))
    crowd = conduct.general_rules(scene.game(design, 0, "null", (), 1)).recruit(np.arange(20)).crowd
    shares = [(crowd.lost[crowd.arm == arm] < 365.25).mean() for arm in (0, 1)]
    assert shares[0] == pytest.approx(0.05, abs=0.01) and shares[1] == pytest.approx(0.4, abs=0.02)


def test_co_primary_endpoints_must_all_succeed() -> None:
    both = Secondary(endpoints=("myocardial infarction",), co_primary=True)
    alone, needed = played(PLAIN, "effect", 200), played(PLAIN.but(secondary=both), "effect", 200)
    assert needed["success"].sum() < alone["success"].sum()
    assert (needed.filter(pl.col("success"))["p_myocardial infarction"] <= 0.025 + 1e-3).all()


def test_further_endpoints_are_claimed_only_in_order() -> None:
    names = ("myocardial infarction", "death from any cause")
    found = played(PLAIN.but(secondary=Secondary(endpoints=names)), "effect", 200)
    p = found.filter(pl.col("success")).select([f"p_{name}" for name in names]).to_numpy()
    assert (p[:, 1] >= p[:, 0]).all() and found.filter(~pl.col("success"))[
        "p_death from any cause"
    ].null_count() == found.filter(~pl.col("success")).height


@pytest.mark.parametrize("method", ["cox", "weighted log-rank", "restricted mean", "max-combo", "win ratio"])
def test_every_method_is_level_and_has_power(method: str) -> None:
    told = {"until": "2 years"} if method == "restricted mean" else {}
    told |= {"levels": ("death from any cause", "MACE")} if method == "win ratio" else {}
    design = PLAIN.but(
        looks=(Look(day="30 months"),), test=Test(method=method, **told), variants=(Variant(people=200),)
    )
    null, effect = (played(design, world, 200)["success"].mean() for world in ("null", "effect"))
    assert null <= 0.025 + 4 * np.sqrt(0.025 * 0.975 / 200) and effect > null


def test_harm_and_futility_are_told_apart() -> None:
    worse = World(name="worse", assumed=Assumed(risk=RISK, ratios=(Ratio(ratio=3.0),)))
    design = Design.load("ivory-3").but(variants=SMALL, recruitment=SITES, worlds=(worse,), looks=LOOKS, secondary=None)
    of = scene.game(design, 0, "worse", (), 1)
    course = conduct.play(of, conduct.general_rules(of), np.arange(200))
    assert (course.reason == HARM).mean() > 0.6 and not (course.reason == EFFICACY).any()
    at_first = course.combined[(course.reason == FUTILITY) & (course.look == 1), 0]
    assert (at_first > limits.limits(limits.watch(of)).harm[0]).all()


def test_allocation_keeps_its_ratio_within_sites() -> None:
    design = PLAIN.but(allocation=Allocation(within="site", ratio=(1, 2), block=3))
    crowd = conduct.general_rules(scene.game(design, 0, "null", (), 1)).recruit(np.arange(10)).crowd
    for trial, site in itertools.product(range(10), range(10)):
        arms = crowd.arm[trial, crowd.site[trial] == site]
        assert abs(2 * (arms == 0).sum() - (arms == 1).sum()) <= 4  # at most one block is open


# -- the level ---------------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ADAPTIVE))
def test_the_level_is_kept_under_every_adaptive_rule(name: str) -> None:
    design = ADAPTIVE[name]
    allowed = limits.level(scene.game(design, 0, "null", (), 1)) if name == "posterior" else design.level
    found = answers.rate(played(design, "null", 4000)["success"].to_numpy(), np.arange(4000))
    assert found.value <= allowed + 3 * found.error, (name, found)


@pytest.mark.slow
def test_choosing_an_arm_and_testing_it_alone_would_not_keep_the_level() -> None:
    of = scene.game(ADAPTIVE["dose by outcome"].but(select=Select(by="z", least=-10.0)), 0, "null", (), 1)
    rules = conduct.general_rules(of)

    class Naive(One):
        def __call__(self, course, rows, look):  # type: ignore[no-untyped-def]
            rules.comparisons(course, rows, look)
            course.combined[rows, look] = course.z[rows, look, course.arm[rows] - 1]

    naive = dataclasses.replace(rules, comparisons=Naive(of, rules.statistic))
    course = conduct.play(of, naive, np.arange(2000))
    wrong = (course.reason == EFFICACY).mean()
    assert stats.binom.sf(int(wrong * 2000) - 1, 2000, 0.025) < 1e-4

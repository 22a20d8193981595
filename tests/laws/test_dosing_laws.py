"""Laws of dose and schedule: slopes are those of lives, no efficacy means no drug, limits hold, nobody's bytes depend on others."""

from __future__ import annotations

import functools
import html

import numpy as np
import pytest

from quell.design import dosing, dosing_choice, dosing_curves, dosing_lives, dosing_uneven
from quell.design.dosing_aim import Aim, Limits, Shape, Worth
from quell.figures import dosing as figures
from quell.report import dosing as report

SHAPE = Shape(5, 7, 56)
SMALL = {"intervals": (7,), "courses": ("8 weeks",), "loading": (5,), "horizon": "1 year", "draws": 6, "people": 4}
FREE = Limits(teff=None, hypereosinophilia=None)


@functools.cache
def those(**changed):
    aim = Aim(**(SMALL | changed))
    return aim, dosing_curves.sample(aim, dosing_curves.rows(aim, 1)[0], aim.people)


def effects(amounts, directions, who=None, **more):
    aim, sample = those()
    group = who or sample.group
    return dosing_lives.effects(
        group, SHAPE.days, np.asarray(amounts), np.asarray(directions), horizon=aim.days, benefit="infarction", **more
    )


@functools.cache
def curves():
    aim, sample = those()
    return dosing_curves.curves(aim, sample, aim.shapes, lambda step, share: None)


@functools.cache
def found():
    return dosing.optimise(Aim(**SMALL), key=1)


@pytest.mark.parametrize("direction", ["all", "first", "last"])
def test_slopes_are_those_of_lives(direction):
    """The derivative along a direction is the central difference of lives, to the error of the difference."""
    along = {"all": np.ones(12), "first": np.eye(12)[0], "last": np.eye(12)[-1]}[direction]
    doses, h = np.full(12, 0.7), 1e-4
    _, slope, _ = effects(doses, along)
    up, down = effects(doses + h * along, along)[0], effects(doses - h * along, along)[0]
    for name, exact, a, b in zip(dosing_lives.Effect._fields, slope, up, down, strict=True):
        difference = (a - b) / (2 * h)
        np.testing.assert_allclose(exact, difference, atol=1e-5 * np.abs(difference).max() + 1e-12, err_msg=name)


def test_no_dose_does_nothing():
    value, _, _ = effects(np.zeros(12), np.zeros(12))
    for name in ("fall", "wall", "teff", "treg"):
        scale = 1e-6 if name in ("fall", "wall") else 0.3  # cells recover from the index event without drug
        assert np.abs(getattr(value, name)).max() < scale, name


def test_nobody_depends_on_company():
    _, sample = those()
    few = dosing_lives.Group(*(type(x)(*_first(x)) for x in sample.group[:2]), draws=1)
    alone, crowd = effects(np.full(12, 1.0), np.ones(12), few), effects(np.full(12, 1.0), np.ones(12))
    for a, b in zip((*alone[0], *alone[1]), (*crowd[0], *crowd[1]), strict=True):
        assert a.tobytes() == b[:4].tobytes()


def _first(tree):
    return [{k: v[:4] for k, v in one.items()} if isinstance(one, dict) else _cut(one) for one in tree]


def _cut(one):
    return type(one)(*(x[:4] for x in one)) if isinstance(one, tuple) else one[:4]


def test_curves_pass_through_lives_between_their_nodes():
    """At a dose that no node has, the curve is within a hundredth of the lives' mean."""
    sample = those()[1]
    place = curves().shapes.index(SHAPE)
    for dose in (0.13, 0.8, 2.2):
        lived = dosing_lives.by_draw(effects(np.full(12, dose), np.zeros(12))[0], sample.draws).mean(axis=0)
        read = dosing_choice.read(curves(), np.array([np.log(dose)])).mean[place, 0]
        np.testing.assert_allclose(read, lived, rtol=0.01, atol=1e-5)


def test_without_efficacy_no_drug_is_the_choice():
    answer = dosing.optimise(Aim(**(SMALL | {"without": "efficacy"})), key=1)
    assert not answer.chosen["worthwhile"] and answer.by_draw["no drug"] == 1
    assert abs(answer.chosen["averted"]["value"]) < 1e-3 and "no drug is the better choice" in " ".join(answer.warnings)


def test_a_tighter_limit_never_helps_and_is_kept():
    surface = dosing_choice.read(curves(), curves().grid)
    worth = Worth(injections=1e9, fevers=1e9)
    last = np.inf
    for limit in (None, 0.08, 0.05, 0.02):
        limits = Limits(teff=limit, hypereosinophilia=None)
        chosen = dosing_choice.choose(surface, Aim(**SMALL, worth=worth, limits=limits))
        assert chosen.feasible and chosen.net <= last
        last = chosen.net
        if limit is not None:
            here = dosing_choice.read(curves(), np.array([chosen.x])).mean[curves().shapes.index(chosen.shape), 0]
            assert here[dosing_curves.PART["teff"]] <= limit + 1e-9
    assert not dosing_choice.choose(surface, Aim(**SMALL, limits=Limits(treg=15.0))).feasible


def test_the_settled_dose_has_no_slope_left():
    """Inside the range and the limits the slope of the mean net benefit by log dose vanishes."""
    aim, sample = Aim(**SMALL, limits=FREE, worth=Worth(injections=1e6, fevers=800)), those()[1]
    surface = dosing_choice.read(curves(), curves().grid)
    choice = dosing_choice.choose(surface, aim)
    assert surface.x[3] < choice.x < surface.x[-4]
    settled = dosing._settled(aim, sample, surface, choice)
    left, before = (
        abs(dosing._slope(aim, sample, one.shape, one.x).slope.sum(axis=0).mean()) for one in (settled, choice)
    )
    assert left < 1e-3 and left <= before + 1e-9


def test_regret_is_what_knowing_the_constants_would_add():
    surface = dosing_choice.read(curves(), curves().grid)
    aim = Aim(**SMALL, limits=FREE)
    best = dosing_choice.by_draw(surface, aim)
    net = surface.net(aim.worth)
    assert (best.net >= net.max(axis=(0, 1)) - 1e-12).all() and (best.net >= 0).all()
    told = dosing_choice.told_by_draw(best, surface, net[0, 0])
    assert told["regret"]["value"] == pytest.approx((best.net - net[0, 0]).mean()) and told["regret"]["value"] >= 0


def test_worth_more_never_means_fewer_events():
    surface = dosing_choice.read(curves(), curves().grid)
    rows = dosing_choice.turns(surface, Aim(**SMALL, limits=FREE))
    assert rows[0]["from"] == pytest.approx(100) and rows[-1]["to"] == pytest.approx(1e6)
    times = [
        0 if row["schedule"] == "no drug" else len(next(s for s in curves().shapes if s.words == row["schedule"]).days)
        for row in rows
    ]
    assert times == sorted(times)


def test_the_front_is_not_beaten():
    surface = dosing_choice.read(curves(), curves().grid)
    for row in (rows := dosing_choice.front(surface)):
        beaten = [
            other for other in rows
            if other is not row and other["averted"] >= row["averted"] and other["injections"] <= row["injections"]
            and other["fevers"] <= row["fevers"] and other["teff"] <= row["teff"]
        ]  # fmt: skip
        assert not beaten


def test_uneven_doses_do_no_worse_where_they_were_sought():
    aim, sample = those()
    doses = dosing_uneven.improve(aim, sample, SHAPE, 1.0)
    even = np.full(12, 1.0)
    nets = [dosing_uneven.valued(aim, sample, SHAPE, one, one[None]).net.mean() for one in (even, doses)]
    assert nets[1] >= nets[0] and (doses >= aim.doses[0] - 1e-9).all() and (doses <= aim.doses[1] + 1e-9).all()


def test_what_an_injection_is_worth_adds_up_to_the_slope():
    aim, sample = those()
    rows = dosing_uneven.by_injection(aim, sample, SHAPE, 1.0)
    whole = dosing_uneven.valued(aim, sample, SHAPE, np.ones(12), np.ones((1, 12))).slope.mean()
    assert sum(row["net"] for row in rows) == pytest.approx(whole, rel=1e-9)


def test_the_same_key_is_the_same_answer_and_another_is_not():
    again = dosing.optimise(Aim(**SMALL), key=1)
    assert again.as_dict() == found().as_dict()
    other = dosing_curves.rows(Aim(**SMALL), 2)[0]
    assert set(other.tolist()) != set(dosing_curves.rows(Aim(**SMALL), 1)[0].tolist())


def test_an_answer_says_what_it_rests_on():
    told = found().as_dict()
    assert any("assumed" in one for one in told["warnings"]) and told["chosen"]["averted"]["error"] > 0
    assert sum(one.startswith("extrapolated") for one in told["warnings"]) == len(told["chosen"]["outside"])
    assert told["numerical_error"]["averted"] < 1e-3
    aim, sample = those()
    weekly = dosing._told_choice(aim, sample, dosing_choice.Choice(Shape(5, 7, 180), 0.0, 0.0, True, True))
    assert any("days from the first to the last dose" in one for one in weekly["outside"])


def test_schedules_that_do_as_well_are_named():
    number = {"value": 1.0, "error": 0.1}
    rows = [
        {"schedule": name, "dose": 1.0, "feasible": True, "net": number, "shortfall": {"value": gap, "error": 0.02}}
        for name, gap in (("best", 0.0), ("twin", 0.03), ("behind", 0.5))
    ]
    (told,) = dosing._alike(rows)
    assert "twin" in told and "behind" not in told and not dosing._alike(rows[::2])


def test_beyond_what_was_studied_is_tried_only_when_asked_and_said():
    assert Aim(**SMALL).doses[1] == 3 and Aim(**SMALL, beyond=True).doses[1] == 36
    aim, sample = those()
    far = dosing._told_choice(aim, sample, dosing_choice.Choice(SHAPE, float(np.log(12)), 0.0, True, True))
    assert any(one.startswith("dose on one day: 12") for one in far["outside"])


def test_wider_events_are_more_events():
    narrow, wide = (
        dosing_lives.effects(those()[1].group, SHAPE.days, np.ones(12), np.ones(12), horizon=365, benefit=one)
        for one in ("infarction", "MACE")
    )
    assert (wide[2] > narrow[2]).all() and (np.abs(wide[0].fall) >= np.abs(narrow[0].fall) - 1e-12).all()


def test_the_page_stands_alone():
    told = found().as_dict()
    page, files = report.build(told)
    assert report.sentence(told) in html.unescape(page)
    assert "<script" not in page and "https:" not in page and "http:" not in page
    assert {"curve.csv", "front.csv", "schedules.csv"} <= files.keys()


def test_pictures_compute_no_statistic():
    rows = [{"dose": d, "net": 1.0, "net_low": 0.5, "net_high": 2.0} for d in (0.1, 1.0, 3.0)]
    assert figures.dose_response(rows, 1.0, "net", "net").get_size_inches()[0] == pytest.approx(4.4)

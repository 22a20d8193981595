"""The model of one person fitted to a study: its parts agree with the body and with closed forms, and it finds the truth."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy import stats

from quell import keys
from quell.body import parameters
from quell.calibrate import choice, followed, foretell, groups, hierarchy, individual, shapes
from quell.measure import assay, pet
from quell.protocol import Protocol
from quell.trial import World, run

IVORY = Protocol.load("ivory")


def smaller(planned):
    return dataclasses.replace(IVORY, population=dataclasses.replace(IVORY.population, planned=planned))


@pytest.fixture(scope="module")
def study():
    return run(smaller(10), key=5)


@pytest.fixture(scope="module")
def who(study):
    return followed.followed(study, IVORY)


def tiny(study, key=1):
    return individual.fit_study(study, IVORY, key=key, quantities=("Treg %",), draws=16, chains=2, quick=True)


@pytest.fixture(scope="module")
def fitted(study):
    return tiny(study)


# -- what was seen -----------------------------------------------------------------------------------------------------
def test_what_was_given_and_read_is_what_the_tables_say(study, who):
    for i in (0, 3):
        doses = study["doses"].filter(pl.col("subject") == who.subjects[i])
        assert who.amounts[i].sum() == doses["amount"].sum()
        rows = study["readings"].filter((pl.col("subject") == who.subjects[i]) & (pl.col("quantity") == "ILC2"))
        k = [kind.name for kind in who.kinds].index("ILC2")
        for visit, day, value in rows.select("visit", "day", "value").iter_rows():
            v = who.visits.index(visit)
            assert (who.day[i, v], who.value[i, v, k]) == (day, value)


def test_rows_in_another_order_are_the_same_study(study, who):
    turned = {name: table.reverse() for name, table in study.tables.items()}
    again = followed.followed(dataclasses.replace(study, tables=turned), IVORY)
    assert again.subjects == who.subjects and again.visits == who.visits
    np.testing.assert_array_equal(again.value, who.value)
    np.testing.assert_array_equal(again.amounts, who.amounts)


def test_doses_in_mg_are_those_in_miu(study, who):
    doses = study["doses"].with_columns(amount=pl.col("amount") * 1.1 / 18, unit=pl.lit("mg"))
    again = followed.followed(dataclasses.replace(study, tables={**study.tables, "doses": doses}), IVORY)
    np.testing.assert_allclose(again.amounts, who.amounts, rtol=1e-12)


def test_covariates_tell_of_constants_as_a_correlated_normal_does(who):
    mean, left = followed.expected(who.people, ("residual_crp", "growth"), "ivory")
    z = np.clip(np.log(who.people.bmi / 28.9) / 0.19, -3, 3)
    np.testing.assert_allclose(mean[:, 0], 0.3 * z, atol=1e-12)  # of all that is known, bmi alone speaks of it
    assert left == pytest.approx([np.sqrt(1 - 0.3**2), 1.0])
    assert not mean[:, 1].any()


# -- the parts agree with the body ---------------------------------------------------------------------------------------
def test_readings_put_together_from_shapes_are_the_bodys(who):
    known = choice.prior()
    names = (
        "growth",
        "cd4_count",
        "treg_share",
        "ilc2_count",
        "eosinophil_count",
        "residual_crp",
        "surge",
        "recruitment",
    )
    names += tuple(f"uptake_{vessel.replace(' ', '_')}" for vessel in pet.pet().vessels)
    z = np.asarray(keys.jax.random.normal(keys.root(3), (4, len(who.subjects), len(names))))
    x = np.array([known[name][0] for name in names]) + 0.3 * z
    values, own = (
        {name: np.exp(x[:, :, i]) for i, name in enumerate(names)},
        shapes.others(keys.root(4), names, z.shape[:2]),
    )
    made, seen = shapes.live(who, values, own), shapes.body(who, values, own)
    scale = {name: x[:, :, i, None] for i, name in enumerate(names)}
    for kind, found in zip(who.kinds, shapes.expected(who.kinds, made, scale, np), strict=True):
        exact = getattr(seen, kind.observable)
        np.testing.assert_allclose(found, exact if kind.location else np.log(exact), atol=2e-8, err_msg=kind.name)


def test_polynomials_give_back_a_polynomial():
    x = np.asarray(keys.jax.random.normal(keys.root(1), (200, 3)))
    y = np.column_stack([1 + x[:, 0] - 0.5 * x[:, 1] * x[:, 2], x[:, 2] ** 2])
    middle, width, weights, miss = shapes._one(x, y, np.ones(200))
    np.testing.assert_allclose(shapes.basis((x - middle) / width, np) @ weights.T, y, atol=1e-4)
    assert (miss < 1e-3).all()


def test_the_likelihood_is_the_normal_one_with_a_common_error_of_a_scan_and_a_limit(who):
    k = [kind.name for kind in who.kinds].index("hsCRP")
    below = who.below.copy()
    value = who.value.copy()
    value[0, :, k], below[0, :, k] = 0.1, True
    mine = who._replace(value=value, below=below)
    truth = [np.full(who.day.shape, 1.9 if kind.location else 1.0) for kind in who.kinds]
    found = np.asarray(hierarchy.likelihood(mine, truth, np.zeros(who.value.shape), np))
    total, instrument = 0.0, pet.pet()
    for j, kind in enumerate(who.kinds):
        for v in range(len(who.visits)):
            y = value[0, v, j]
            if kind.location or not np.isfinite(y):
                continue
            test = assay.by_name()[kind.name]
            s = np.hypot(test.analytic, test.within_person)
            if below[0, v, j]:
                total += stats.norm.logcdf((np.log(test.limit) - 1.0 + s**2 / 2) / s)
            else:
                rounded = np.hypot(s, 10.0**-test.decimals / np.sqrt(12) / y)
                total += stats.norm.logpdf(np.log(y), 1.0 - s**2 / 2, rounded) + np.log(2 * np.pi) / 2
    vessels = [j for j, kind in enumerate(who.kinds) if kind.location]
    covariance = instrument.scan_sd**2 + np.eye(3) * hierarchy.errors_of_vessel() ** 2
    for v in range(len(who.visits)):
        y = value[0, v, vessels]
        if np.isfinite(y).all():
            total += stats.multivariate_normal.logpdf(y, np.full(3, 1.9), covariance) + 1.5 * np.log(2 * np.pi)
    assert found[0] == pytest.approx(total, rel=1e-10)


def test_predicted_readings_err_as_the_instruments_do(who):
    truth = [np.full((4000, 1, 1), 1.9) for _ in who.kinds]
    for kind, noisy in zip(who.kinds, foretell.read(who.kinds, truth, keys.root(2)), strict=True):
        if kind.location:
            instrument = pet.pet()
            error = np.sqrt(instrument.scan_sd**2 + hierarchy.errors_of_vessel() ** 2)
            assert noisy.std() == pytest.approx(error, rel=0.05) and noisy.mean() == pytest.approx(1.9, abs=0.01)
        elif kind.name == "eosinophils":
            assert (noisy == 5).all()  # two cells per microlitre lie below the limit, and are read as half of it
        else:
            assert np.log(noisy).std() == pytest.approx(followed.errors((kind,))[0], rel=0.05)


# -- the fit -----------------------------------------------------------------------------------------------------------
def test_a_fit_has_everything_for_everybody(fitted, study):
    constants, own = fitted.constants(), fitted.own()
    assert {"growth", "treg_share"} <= set(constants["constant"])
    for table in (constants, own):
        assert (table["lower"] <= table["median"]).all() and (table["median"] <= table["upper"]).all()
    assert set(own["subject"]) == set(fitted.who.subjects) and len(fitted.faults) > 0  # so few draws cannot be enough
    told = groups.groups(fitted)
    assert told["posterior"]["own"].shape == (2, 16, len(fitted.who.subjects), len(told["coords"]["personal"]))
    for group in ("posterior", "sample_stats", "posterior_predictive"):
        assert {x.shape[0] for x in told[group].values()} == {2}
    for name, dims in told["dims"].items():
        shown = told["posterior"].get(name, told["posterior_predictive"].get(name))
        assert shown.shape[2:] == tuple(len(told["coords"][one]) for one in dims)


def test_files_hold_the_draws(fitted, tmp_path):
    groups.write(fitted, tmp_path)
    population = pl.read_parquet(tmp_path / "population.parquet")
    place = fitted.choice.names.index("growth")
    np.testing.assert_allclose(population["growth"], np.exp(fitted.draws.flat().theta[:, place]))
    assert pl.read_parquet(tmp_path / "people.parquet").height == fitted.people[..., 0].size


def test_another_schedule_is_the_same_person_without_the_drug(fitted):
    given, without = fitted.predict([5, 12]), fitted.predict([5, 12], "placebo")
    treated = [name for name, some in zip(fitted.who.subjects, fitted.who.treated, strict=True) if some]
    both = given.join(without, on=["subject", "day", "quantity", "location"], suffix="_without")
    moved = both.filter(pl.col("subject").is_in(treated) & (pl.col("day") == 12))
    assert (moved["median"] > moved["median_without"]).all()
    same = both.filter(~pl.col("subject").is_in(treated))
    assert same["median"].to_list() == same["median_without"].to_list()
    # an end alone may cross by the chance of few draws; the width may not
    assert (given["upper_reading"] - given["lower_reading"] > given["upper"] - given["lower"]).all()
    on = {day: 1.5 for day in (1, 2, 3, 4, 5)}
    daily = fitted.predict([5], on).filter(pl.col("subject").is_in(treated))
    assert daily["median"].to_list() == pytest.approx(given.filter((pl.col("day") == 5) & pl.col("subject").is_in(treated))["median"].to_list())  # fmt: skip


def test_the_key_decides_and_higher_readings_raise_the_constant(fitted, study):
    again = tiny(study)
    np.testing.assert_array_equal(again.draws.theta, fitted.draws.theta)
    np.testing.assert_array_equal(again.people, fitted.people)
    readings = study["readings"].with_columns(
        value=pl.when(pl.col("quantity") == "Treg %").then(pl.col("value") * 1.3).otherwise("value")
    )
    higher = tiny(dataclasses.replace(study, tables={**study.tables, "readings": readings}))
    share = lambda one: one.constants().filter(pl.col("constant") == "treg_share")["median"].item()  # noqa: E731
    assert share(higher) > 1.05 * share(fitted)


# -- recovery: minutes each; the results are in docs/questions/fit-my-own-study.md --------------------------------------
SHIFTED = (("growth", "treg_return"), ("calming", "ilc2_response"), ("amplification", "surge_decay"))


def world(names):
    table = {one.name: one for one in parameters.table()}
    moved = {name: table[name].value * np.exp(table[name].uncertainty) for name in names}
    return World("moved", parameters=parameters.load()._replace(**moved))


@pytest.mark.slow
@pytest.mark.parametrize("names", SHIFTED, ids=" and ".join)
def test_known_constants_are_found_and_the_last_visit_foretold(names):
    truth = world(names)
    study = run(smaller(60), truth, key=20 + SHIFTED.index(names))
    last = study["readings"].filter(pl.col("visit") == "day 61").drop_nulls("value")
    readings = study["readings"].filter(pl.col("visit") != "day 61")
    held = dataclasses.replace(study, tables={**study.tables, "readings": readings})
    whole = individual.fit_study(study, IVORY, key=1, draws=400)
    assert found_share(whole, truth) >= 0.75 and all(inside(whole, truth, name) for name in names)
    fitted = individual.fit_study(held, IVORY, key=1, draws=400)
    assert 0.85 <= covered(fitted, last)["inside"].mean() <= 0.96


def inside(fitted, truth, name, level=0.9):
    row = fitted.constants(level).filter(pl.col("constant") == name)
    return row["lower"].item() <= getattr(truth.parameters, name) <= row["upper"].item()


def found_share(fitted, truth):
    return np.mean([inside(fitted, truth, name) for name in fitted.constants()["constant"]])


def covered(fitted, last):
    """Readings of a visit that the fit has not seen, and whether each lies in its 90 % predictive interval."""
    day = dict(last.group_by("subject").agg(pl.col("day").first()).iter_rows())
    told = fitted.predict_visit(day)
    both = told.join(last.with_columns(pl.col("location").fill_null("")), on=["subject", "day", "quantity", "location"])
    return both.with_columns(inside=pl.col("value").is_between(pl.col("lower_reading"), pl.col("upper_reading")))

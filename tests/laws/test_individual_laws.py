"""The model of one person fitted to a study: its parts agree with the body and with closed forms, and it finds the truth."""

import dataclasses
import html
import json
import pathlib
import zlib

import numpy as np
import polars as pl
import pytest
from scipy import stats

from quell import keys, own_verb
from quell.body import parameters
from quell.calibrate import choice, followed, foretell, groups, hierarchy, individual, own_study, shapes, zarr
from quell.measure import assay, pet
from quell.protocol import Protocol
from quell.trial import World, run

IVORY = Protocol.load("ivory")
TINY, MIDDLE = individual.QUICK._replace(draws=16), individual.Effort(draws=400)


def smaller(planned):
    return dataclasses.replace(IVORY, population=dataclasses.replace(IVORY.population, planned=planned))


@pytest.fixture(scope="module")
def study():
    return run(smaller(10), key=5)


@pytest.fixture(scope="module")
def who(study):
    return followed.followed(study, IVORY)


def tiny(study, folder=None):
    return individual.fit_study(study, IVORY, key=1, quantities=("Treg %",), effort=TINY, folder=folder)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    return tmp_path_factory.mktemp("unfinished")


@pytest.fixture(scope="module")
def fitted(study, unfinished):
    return tiny(study, unfinished)


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


def test_the_store_that_arviz_reads_holds_the_groups(fitted):
    held, told = zarr.store(groups.groups(fitted)), groups.groups(fitted)
    described = json.loads(held[".zmetadata"])["metadata"]
    for group in zarr.GROUPS:
        for name, one in told[group].items():
            form = json.loads(held[f"{group}/{name}/.zarray"])
            chunk = zlib.decompress(held[f"{group}/{name}/{'.'.join('0' * one.ndim)}"])
            np.testing.assert_array_equal(np.frombuffer(chunk, form["dtype"]).reshape(form["shape"]), one)
            dims = described[f"{group}/{name}/.zattrs"]["_ARRAY_DIMENSIONS"]
            assert len(dims) == one.ndim and all(f"{group}/{dim}/.zarray" in held for dim in dims)
    assert json.loads(held["posterior/subject/.zarray"])["dtype"].startswith("<U")


def test_a_summary_counts_what_was_read_and_foretells_the_treated_without_the_drug(fitted, study):
    told = own_study.predictions(fitted)
    treated = int(fitted.who.treated.sum())
    per_person = len(own_study.days(fitted))
    assert told.height == per_person * (len(fitted.who.subjects) + treated)
    found = own_study.summary(fitted, study, told)
    readings = study["readings"].filter(pl.col("quantity") == "Treg %").drop_nulls("value")
    assert found["readings"] == readings.height and found["treated"] == treated
    assert found["inside"]["of"] == readings.filter(pl.col("day") >= 1).height
    assert 0.7 < found["inside"]["readings"] / found["inside"]["of"] <= 1


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


def test_a_fit_that_was_stopped_goes_on_to_the_same_bytes(fitted, study, unfinished):
    blocks = sorted(unfinished.iterdir())
    assert len(blocks) == 3  # two of warm-up, one of draws
    blocks[1].write_bytes(blocks[1].read_bytes()[:100])  # cut off, as a full disk leaves it
    whole, changed = blocks[0].stat().st_mtime_ns, blocks[2].read_bytes()
    blocks[2].unlink()
    again = tiny(study, unfinished)
    np.testing.assert_array_equal(again.draws.theta, fitted.draws.theta)
    np.testing.assert_array_equal(again.people, fitted.people)
    assert sorted(unfinished.iterdir()) == blocks and blocks[0].stat().st_mtime_ns == whole
    assert blocks[2].read_bytes() == changed


def test_higher_readings_raise_the_constant(fitted, study, unfinished):
    readings = study["readings"].with_columns(
        value=pl.when(pl.col("quantity") == "Treg %").then(pl.col("value") * 1.3).otherwise("value")
    )
    higher = tiny(
        dataclasses.replace(study, tables={**study.tables, "readings": readings}), unfinished
    )  # finds nothing there
    share = lambda one: one.constants().filter(pl.col("constant") == "treg_share")["median"].item()  # noqa: E731
    assert share(higher) > 1.05 * share(fitted)


# -- what the command delivers -------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_verb_delivers_a_page_tables_and_a_store(study, tmp_path):
    study.write(tmp_path / "study")
    said = []
    how = {"key": 1, "quick": True, "quantities": ("Treg %",)}
    found = own_verb.own_study(
        tmp_path / "study", "ivory", folder=tmp_path / "out", **how, tell=lambda step, share: said.append(step)
    )
    out = tmp_path / "out"
    assert not (out / "unfinished").exists() and "sampling" in said
    assert {pathlib.Path(one).name for one in found["files"]} >= {
        "report.html",
        "fit.json",
        "draws.zarr",
        "predictions.parquet",
    }
    assert json.loads((out / "fit.json").read_text())["study"] == study.digest
    page = (out / "report.html").read_text()
    assert found["lines"][0] in html.unescape(page) and found["faults"]  # so few draws cannot be enough, and it is said
    assert not any(subject in page for subject in study["subjects"]["subject"])
    predicted = pl.read_parquet(out / "predictions.parquet")
    assert set(predicted["doses"]) == {"as given", "placebo"} and set(predicted["quantity"]) == {"Treg %"}


# -- recovery: minutes each; the results are in docs/questions/fit-my-own-study.md --------------------------------------
SHIFTED = (("growth", "treg_return"), ("calming", "ilc2_response"), ("amplification", "surge_decay"))


def world(names):
    table = {one.name: one for one in parameters.table()}
    moved = {name: table[name].value * np.exp(table[name].uncertainty) for name in names}
    return World("moved", parameters=parameters.load()._replace(**moved))


@pytest.mark.slow
def test_where_every_constant_is_drawn_from_its_prior_intervals_hold_them_and_the_last_visit():
    """Those that are not fitted included, which stay at the table's value in the fit: what that costs is in the count."""
    uncertain = [one for one in parameters.table() if one.uncertainty > 0]
    z = np.asarray(keys.jax.random.normal(keys.at(77, "truth", 2), (len(uncertain),)))
    differ = set(parameters.WIDER.values())  # how far people differ has a prior of its own
    moved = {
        one.name: one.value * np.exp(one.uncertainty * score)
        for one, score in zip(uncertain, z, strict=True)
        if one.name not in differ
    }
    truth = World("drawn", parameters=parameters.load()._replace(**moved))
    study = run(smaller(60), truth, key=42)
    last = study["readings"].filter(pl.col("visit") == "day 61").drop_nulls("value")
    readings = study["readings"].filter(pl.col("visit") != "day 61")
    held = dataclasses.replace(study, tables={**study.tables, "readings": readings})
    fitted = individual.fit_study(held, IVORY, key=1, effort=MIDDLE)
    assert abs(found_share(fitted, truth) - 0.9) <= 3 * np.sqrt(0.9 * 0.1 / len(fitted.constants()))
    agrees(covered(fitted, last))
    far = [name for name in fitted.constants()["constant"] if not inside(fitted, truth, name, 0.999)]
    assert all(any(name in fault for fault in fitted.faults) for name in far), (
        far
    )  # a constant that is missed is warned of


@pytest.mark.slow
@pytest.mark.parametrize("names", SHIFTED, ids=" and ".join)
def test_known_constants_are_found_and_the_last_visit_foretold(names):
    truth = world(names)
    study = run(smaller(60), truth, key=20 + SHIFTED.index(names))
    last = study["readings"].filter(pl.col("visit") == "day 61").drop_nulls("value")
    readings = study["readings"].filter(pl.col("visit") != "day 61")
    held = dataclasses.replace(study, tables={**study.tables, "readings": readings})
    fitted = individual.fit_study(held, IVORY, key=1, effort=MIDDLE)
    share, count = found_share(fitted, truth), len(fitted.constants())
    assert share >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / count)
    agrees(covered(fitted, last))
    assert narrower(fitted, last) < 0.75
    whole = individual.fit_study(study, IVORY, key=1, effort=MIDDLE)
    assert found_share(whole, truth) >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / count)
    assert all(inside(whole, truth, name, 0.99) for name in names)


def agrees(found, level=0.9):
    """Coverage within three errors: the binomial one, or that of people, whose readings of one day go together, if it is larger."""
    each = found.group_by("subject").agg(pl.col("inside").mean())["inside"]
    error = max(np.sqrt(level * (1 - level) / found.height), each.std() / np.sqrt(len(each)))
    assert abs(found["inside"].mean() - level) <= 3 * error, (found["inside"].mean(), error)


def narrower(fitted, last):
    """How wide predictive intervals are, as a share of those that people of the same arm make without knowing whose."""
    mine = (covered(fitted, last)
            .with_columns(wide=pl.col("upper_reading") - pl.col("lower_reading"))
            .join(fitted_arms(fitted), on="subject"))  # fmt: skip
    ends = mine.group_by("quantity", "location", "arm").agg(
        pl.col("wide").median() / (pl.col("value").quantile(0.95) - pl.col("value").quantile(0.05))
    )
    return ends["wide"].median()


def fitted_arms(fitted):
    return pl.DataFrame({"subject": fitted.who.subjects, "arm": fitted.who.arms})


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

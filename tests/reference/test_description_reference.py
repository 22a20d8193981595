"""Description agrees with numpy, scipy, statsmodels and lifelines on the same people."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import scipy.stats

from quell.analysis import description
from quell.protocol import Protocol
from quell.study import Columns, Study
from quell.tables import TABLES

IVORY, FINALE = Protocol.load("ivory"), Protocol.load("ivory-finale")


def people(n: int = 61, seed: int = 5) -> Study:
    rng = np.random.default_rng(seed)
    names = [f"{index}" for index in range(n)]
    subjects = pl.DataFrame(
        {
            "subject": names,
            "site": "A",
            "arm": ["aldesleukin" if index % 2 else "placebo" for index in range(n)],
            "age": rng.normal(57, 10, n),
            "troponin": rng.lognormal(4, 1.5, n),
        }
    )
    rows = []
    for visit, shift in (("screening", 0.0), ("day 61", -0.2)):
        for name in names:
            row = {"subject": name, "visit": visit, "day": 1, "quantity": "TBRmax", "location": "index vessel"}
            rows.append(row | {"value": 2.3 + rng.normal(shift, 0.3), "unit": "1", "status": "measured"})
    readings = pl.DataFrame(rows, schema=dict(TABLES["readings"].columns))
    return Study(protocol="ivory", tables={"subjects": subjects, "readings": readings})


def test_table_one_against_numpy_and_scipy() -> None:
    """numpy 2 percentiles (linear) and standard deviations (n - 1); scipy.stats.skew picks the form."""
    study = people()
    table = description.table_one(study, IVORY)
    for name, kind in (("age", "mean (SD)"), ("troponin", "median (IQR)")):
        values = study["subjects"][name].to_numpy()
        row = table.filter(pl.col("variable") == name, pl.col("arm") == description.TOTAL).row(0, named=True)
        found = [row["mean"], row["sd"], row["lower_quartile"], row["median"], row["upper_quartile"]]
        expected = [values.mean(), values.std(ddof=1), *np.percentile(values, [25, 50, 75])]
        assert found == pytest.approx(expected, rel=1e-12)
        assert row["kind"] == kind
        assert description.skewness(values) == pytest.approx(scipy.stats.skew(values), rel=1e-12)


def test_mean_intervals_against_scipy() -> None:
    """scipy.stats.t.interval on the standard error of the mean."""
    pairs = description.paired(people(), IVORY, "TBRmax", "index vessel")
    for row in description.paired_means(pairs, ["aldesleukin", "placebo"], level=0.9).iter_rows(named=True):
        values = pairs.filter(pl.col("arm") == row["arm"])[row["moment"]].to_numpy()
        lower, upper = scipy.stats.t.interval(0.9, len(values) - 1, values.mean(), scipy.stats.sem(values))
        assert (row["lower"], row["mean"], row["upper"]) == pytest.approx((lower, values.mean(), upper), rel=1e-10)


def test_the_line_of_regression_to_the_mean_against_statsmodels() -> None:
    """statsmodels 0.14 or later: OLS of change on baseline in the control arm, and its interval for the mean."""
    api = pytest.importorskip("statsmodels.api")
    pairs = description.paired(people(), IVORY, "TBRmax", "index vessel")
    found = description.versus_baseline(pairs, "placebo")
    control = pairs.filter(pl.col("arm") == "placebo")
    fit = api.OLS(control["change"].to_numpy(), api.add_constant(control["baseline"].to_numpy())).fit()
    assert (found.intercept, found.slope) == pytest.approx(tuple(fit.params), rel=1e-9)
    assert (found.slope_lower, found.slope_upper) == pytest.approx(tuple(fit.conf_int()[1]), rel=1e-9)
    frame = fit.get_prediction(api.add_constant(found.line["baseline"].to_numpy())).summary_frame()
    np.testing.assert_allclose(found.line["lower"], frame["mean_ci_lower"], rtol=1e-8)
    np.testing.assert_allclose(found.line["upper"], frame["mean_ci_upper"], rtol=1e-8)


def columns_of(time: np.ndarray, happened: np.ndarray) -> Columns:
    nobody: dict[str, np.ndarray] = {}
    return Columns(
        arms=("aldesleukin", "placebo"),
        arm=np.ones(len(time), dtype=int),
        sets={},
        readings={},
        covariates=nobody,
        factors=nobody,
        levels={},
        events={"myocardial infarction": np.where(happened, time, np.inf)},
        followed={"": time},
    )


def test_incidence_against_lifelines() -> None:
    """lifelines 0.30: KaplanMeierFitter (log-log interval) and its event table."""
    lifelines = pytest.importorskip("lifelines")
    rng = np.random.default_rng(11)
    time, happened = np.ceil(rng.exponential(400, 80)), rng.random(80) < 0.6
    days = [0.0, 100.0, 365.0, 700.0]
    endpoint = FINALE.endpoint("myocardial infarction")
    found = description.incidence(columns_of(time, happened), endpoint, "placebo", days=days)
    peer = lifelines.KaplanMeierFitter().fit(time, happened)
    inside = found.curve.filter((pl.col("incidence") > 0) & (pl.col("incidence") < 1))
    at = inside["day"].to_numpy()
    np.testing.assert_allclose(1 - inside["incidence"], peer.survival_function_at_times(at), rtol=1e-10)
    limits = peer.confidence_interval_survival_function_.loc[at].to_numpy()
    np.testing.assert_allclose(1 - inside["upper"], limits[:, 0], rtol=1e-8)
    np.testing.assert_allclose(1 - inside["lower"], limits[:, 1], rtol=1e-8)
    table = peer.event_table
    for day, at_risk, events in found.table.iter_rows():
        assert at_risk == (time >= day).sum() == table.loc[table.index >= day, "removed"].sum()
        assert events == table.loc[table.index <= day, "observed"].sum()

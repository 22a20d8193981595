"""Survival against R survival 3.5-3 (stored numbers), lifelines 0.30, statsmodels 0.15, and the CDISC pilot's ADTTE."""

import csv
import json
import os
import pathlib

import numpy as np
import pytest
from lifelines.statistics import logrank_test
from scipy import optimize
from statsmodels.duration.hazard_regression import PHReg

from quell.analysis import cox, survival
from quell.analysis.claim import Caution

DATA = pathlib.Path(
    os.environ.get("QUELL_REFERENCE_DATA", pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data")
)


def columns(name, *wanted):
    file = DATA / "survival" / f"{name}.csv"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    return [np.array([float(row[one]) if row[one] else np.nan for row in rows]) for one in wanted]


@pytest.fixture(scope="module")
def r():
    file = DATA / "reference" / "survival_and_boundaries.json"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def lung():
    time, status, sex, ecog, age = columns("lung", "time", "status", "sex", "ph.ecog", "age")
    return time, status == 2, (sex == 2).astype(int), ecog, age


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


def test_logrank(r, lung):
    time, event, sex, ecog, _ = lung
    test = survival.logrank(time, event, sex)
    close(test.chi_square, r["lung_logrank"]["chisq"])
    close(test.observed, r["lung_logrank"]["obs"])
    close(test.expected, r["lung_logrank"]["exp"])
    close(test.covariance[0, 0], r["lung_logrank"]["var"])
    close(survival.logrank(time, event, sex, rho=1).chi_square, r["lung_petopeto"]["chisq"])
    stratified = survival.logrank(time, event, sex, strata=ecog)
    close(stratified.chi_square, r["lung_strat_logrank"]["chisq"])
    assert stratified.warnings == Caution.MISSING and stratified.n == 227


def test_logrank_of_three_arms(r):
    time, status, etype = columns("colon", "time", "status", "etype")
    with (DATA / "survival" / "colon.csv").open() as lines:
        arm = np.array([["Obs", "Lev", "Lev+5FU"].index(row["rx"]) for row in csv.DictReader(lines)])
    test = survival.logrank(time, status, arm, include=etype == 2)
    close(test.chi_square, r["colon_logrank"]["chisq"])
    assert test.df == r["colon_logrank"]["df"]


def test_kaplan_meier_at_days(r, lung):
    time, event, sex, _, _ = lung
    expected = r["lung_km_at"]
    for k, (label, day) in enumerate(zip(expected["strata"], expected["time"], strict=True)):
        arm = sex == int(label[-1]) - 1
        result = survival.survival_at(time, event, day, include=arm, interval="log")
        close(
            [result.estimate, result.se, result.lower, result.upper],
            [expected["surv"][k], expected["se"][k], expected["lo"][k], expected["hi"][k]],
        )
        curve = survival.kaplan_meier(time, event, include=arm)
        assert curve.at_risk[np.searchsorted(curve.times, day)] == expected["nrisk"][k]
    for interval in ("log", "log-log"):
        result = survival.survival_at(time, event, 365, interval=interval)
        close([result.estimate, result.lower, result.upper], r[f"lung_km365_{interval}"])


def test_curve_passes_through_its_points(lung):
    time, event, _, _, _ = lung
    curve = survival.kaplan_meier(time, event, interval="log")
    for day in (11, 365, 883, 1022):
        point = survival.survival_at(time, event, day, interval="log")
        j = np.sum(curve.times <= day) - 1
        close(
            [curve.survival[j], np.sqrt(curve.variance[j]), curve.lower[j], curve.upper[j]],
            [point.estimate, point.se, point.lower, point.upper],
        )
    assert curve.events.sum() == 165 and curve.censored.sum() == 63 and curve.at_risk[0] == 228


def test_median_and_restricted_mean(r, lung):
    time, event, sex, _, _ = lung
    for arm in (0, 1):
        result = survival.median(time, event, include=sex == arm)
        expected = [r["lung_km"][name][arm] for name in ("median", "lo", "hi")]
        assert [float(value) for value in (result.estimate, result.lower, result.upper)] == expected
        mean = survival.restricted_mean(time, event, 600, include=sex == arm)
        close([mean.estimate, mean.se], [r["lung_rmst600"]["rmean"][arm], r["lung_rmst600"]["se"][arm]])
    difference = survival.restricted_mean_difference(time, event, sex, 600)
    close(difference.estimate, np.diff(r["lung_rmst600"]["rmean"])[0])
    close(difference.se, np.hypot(*r["lung_rmst600"]["se"]))


@pytest.mark.parametrize("model", ["lung_cox_sex", "lung_cox_efron"])
def test_cox(r, lung, model):
    time, event, sex, ecog, age = lung
    x = np.stack([sex], -1) if model == "lung_cox_sex" else np.stack([age, sex, ecog], -1)
    check_cox(cox.cox(time, event, x), r[model])


def test_cox_of_eight_covariates(r):
    trt, time, status, karno, diagnosed, age, prior = columns(
        "veteran", "trt", "time", "status", "karno", "diagtime", "age", "prior"
    )
    with (DATA / "survival" / "veteran.csv").open() as lines:
        cell = np.array([row["celltype"] for row in csv.DictReader(lines)])
    kinds = [(cell == kind).astype(float) for kind in ("smallcell", "adeno", "large")]
    check_cox(cox.cox(time, status, np.stack([trt, *kinds, karno, diagnosed, age, prior], -1)), r["veteran_cox"])


def check_cox(fit, expected):
    close(fit.coefficients, np.atleast_1d(expected["coef"]), rtol=1e-8)
    close(fit.se, np.atleast_1d(expected["se"]), rtol=1e-8)
    close(fit.log_likelihood, expected["loglik"], rtol=1e-10)
    close([fit.score, fit.wald], [expected["score"], expected["wald"]], rtol=1e-8)
    assert (fit.n, fit.events) == (expected["n"], expected["nevent"])


def test_hazard_ratio_of_two_arms_is_the_cox_model(r, lung):
    time, event, sex, _, _ = lung
    result = cox.hazard_ratio(time, event, sex)
    close(np.log(result.estimate), r["lung_cox_sex"]["coef"], rtol=1e-8)
    close(result.se, r["lung_cox_sex"]["se"], rtol=1e-8)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_stratified_cox_with_late_entry_agrees_with_statsmodels(ties):
    draw = np.random.default_rng(5)
    n = 90
    x = draw.normal(size=(n, 2))
    # half days, because statsmodels counts a subject at risk already on the day of entry; R and quell do not
    entry = draw.integers(0, 6, n) + 0.5
    time = entry + 0.5 + np.floor(draw.exponential(12 * np.exp(-0.6 * x[:, 0])))
    event, strata = draw.random(n) < 0.7, draw.integers(0, 3, n)
    fit = cox.cox(time, event, x, strata=strata, entry=entry, ties=ties)
    peer = PHReg(time, x, status=event.astype(int), entry=entry, strata=strata, ties=ties).fit(tol=1e-12)
    close(fit.coefficients, peer.params, rtol=1e-6)
    close(fit.se, peer.bse, rtol=1e-6)


def test_cox_with_late_entry_agrees_with_r(r):
    # Andersen and Gill's model: one row per interval at risk; the naive standard errors of R's coxph
    start, stop, event, *x = columns("bladder2", "start", "stop", "event", "rx", "size", "number")
    fit = cox.cox(stop, event, np.stack(x, -1), entry=start)
    close(fit.coefficients, r["bladder2_AG_LWYY"]["coef"], rtol=1e-8)
    close(fit.se, r["bladder2_AG_LWYY"]["naive"], rtol=1e-8)


def test_logrank_agrees_with_lifelines_on_fractional_times():
    draw = np.random.default_rng(6)
    time, event, arm = draw.exponential(size=80), draw.random(80) < 0.6, draw.integers(0, 2, 80)
    peer = logrank_test(time[arm == 1], time[arm == 0], event[arm == 1], event[arm == 0])
    test = survival.logrank(time, event, arm)
    close([test.chi_square, test.p], [peer.test_statistic, peer.p_value])


def test_cdisc_pilot_time_to_dermatologic_event():
    file = DATA / "cdisc_pilot" / "adtte.json"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    table = json.loads(file.read_text())
    names = [column["name"] for column in table["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in table["rows"]]
    arms = ["Placebo", "Xanomeline Low Dose", "Xanomeline High Dose"]
    arm = np.array([arms.index(row["TRTA"]) for row in rows])
    event = np.array([row["CNSR"] != 1 for row in rows])
    test = survival.logrank(np.array([row["AVAL"] for row in rows], float), event, arm)
    assert np.bincount(arm).tolist() == [86, 84, 84] and test.observed.tolist() == [29, 62, 61]
    assert round(float(test.chi_square), 4) == 60.2696 and test.df == 2


def penalised(time, event, x, b):
    """Firth's penalised log partial likelihood, subject by subject, no ties; information by its definition."""
    height, information = 0.0, 0.0
    for t, xi in zip(time[event], x[event], strict=True):
        at_risk = x[time >= t]
        weight = np.exp(at_risk @ b)
        weight = weight / weight.sum()
        mean = weight @ at_risk
        height += xi @ b - np.log(np.exp(at_risk @ b).sum())
        information = information + (at_risk - mean).T @ (weight[:, None] * (at_risk - mean))
    return height + 0.5 * np.linalg.slogdet(information)[1]


def test_firth_is_the_peak_and_profile_of_the_penalised_likelihood():
    # no published coxphf output was at hand: the peer is the definition itself, maximised by SciPy
    draw = np.random.default_rng(8)
    n = 24
    x = np.column_stack([np.repeat([1.0, 0.0], n // 2), draw.normal(size=n)])
    time = draw.permutation(n) + 1.0
    event = (draw.random(n) < 0.5) & (x[:, 0] == 0)
    fit = cox.firth(time, event, x)
    best = optimize.minimize(
        lambda b: -penalised(time, event, x, b),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 5000},
    )
    close(fit.coefficients, best.x, rtol=1e-6)
    close(fit.log_likelihood[1], -best.fun, rtol=1e-9)

    def profile(at):
        inner = optimize.minimize_scalar(lambda c: -penalised(time, event, x, np.array([at, c])), tol=1e-12)
        return -inner.fun

    for limit in (fit.lower[0], fit.upper[0]):
        assert -best.fun - profile(float(limit)) == pytest.approx(3.841458820694124 / 2, abs=1e-6)
    assert float(fit.statistic[0]) ** 2 == pytest.approx(2 * (-best.fun - profile(0.0)), abs=1e-6)


def test_firth_of_three_patients_solves_its_score_equation():
    # the monotone example of R's coxphf manual: times 1, 2, 3, all events, x = 1, 1, 0. With w = exp(b),
    # log L = 2 b - log(2 w + 1) - log(w + 1) and the information is 2 w / (2 w + 1)^2 + w / (w + 1)^2
    def score(b):
        w = np.exp(b)
        information = 2 * w / (2 * w + 1) ** 2 + w / (w + 1) ** 2
        slope = 2 * w * (1 - 2 * w) / (2 * w + 1) ** 3 + w * (1 - w) / (w + 1) ** 3
        return 2 - 2 * w / (2 * w + 1) - w / (w + 1) + slope / information / 2

    fit = cox.firth(np.array([1.0, 2.0, 3.0]), np.ones(3), np.array([[1.0], [1.0], [0.0]]))
    close(fit.coefficients[0], optimize.brentq(score, 0, 5, xtol=1e-14), rtol=1e-8)


def test_an_arm_without_events_gets_firth_and_says_so():
    time = np.concatenate([np.full(52, 730.0), [100.0, 200.0, 300.0]])
    event, arm = time < 730, np.repeat([1, 0], [28, 27])
    result = cox.hazard_ratio(time, event, arm)
    by_subject = cox.firth(time, event, arm[:, None].astype(float)).ratio()
    np.testing.assert_allclose(np.array(result[:7]), np.array(by_subject[:7]), rtol=1e-7)
    wanted = Caution.ARM_WITHOUT_EVENTS | Caution.SEPARATION | Caution.FIRTH | Caution.FEW_EVENTS
    assert result.warnings == wanted
    plain = cox.hazard_ratio(time, event, arm, method="cox")
    assert (plain.estimate, plain.lower, plain.upper) == (0, 0, np.inf)

"""Means against the CDISC pilot's published table, statsmodels 0.15 (OLS, HC2/HC3) and SciPy 1.17 (t tests)."""

import json
import os
import pathlib

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from quell.analysis import means
from quell.analysis.claim import Caution, claim_from

DATA = pathlib.Path(
    os.environ.get("QUELL_REFERENCE_DATA", pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data")
)
ARMS = ("Placebo", "Xanomeline Low Dose", "Xanomeline High Dose")


@pytest.fixture(scope="module")
def week_24():
    """Change in ADAS-Cog(11) at Week 24, last observation carried forward, efficacy population."""
    file = DATA / "cdisc_pilot" / "adadas.json"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    table = json.loads(file.read_text())
    names = [column["name"] for column in table["columns"]]
    wanted = {"PARAMCD": "ACTOT", "AVISIT": "Week 24", "ANL01FL": "Y", "EFFFL": "Y", "ITTFL": "Y"}
    rows = [dict(zip(names, row, strict=True)) for row in table["rows"]]
    rows = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    sites = sorted({row["SITEGR1"] for row in rows})
    return {
        "outcome": np.array([row["CHG"] for row in rows], float),
        "arm": np.array([ARMS.index(row["TRTP"]) for row in rows]),
        "dose": np.array([row["TRTPN"] for row in rows], float),
        "covariates": np.array([row["BASE"] for row in rows], float)[:, None],
        "factors": [np.array([sites.index(row["SITEGR1"]) for row in rows])],
    }


# CDISC pilot study report, table 14-3.01: difference (standard error), p
PUBLISHED = [((1, 0), -0.5, 0.82, 0.569), ((2, 0), -1.0, 0.84, 0.233), ((2, 1), -0.5, 0.84, 0.520)]


@pytest.mark.parametrize(("contrast", "difference", "se", "p"), PUBLISHED)
def test_ancova_gives_every_printed_digit_of_the_cdisc_pilot(week_24, contrast, difference, se, p):
    adjusted = {name: week_24[name] for name in ("covariates", "factors")}
    result = means.ancova(week_24["outcome"], week_24["arm"], contrast=contrast, **adjusted)
    assert np.bincount(week_24["arm"]).tolist() == [79, 81, 74]
    assert (round(float(result.estimate), 1), round(float(result.se), 2), round(float(result.p), 3)) == (
        difference,
        se,
        p,
    )
    assert result.warnings == 0


def test_slope_gives_the_published_dose_response(week_24):
    arguments = {name: week_24[name] for name in ("outcome", "dose", "covariates", "factors")}
    assert round(float(means.slope(**arguments).p), 3) == 0.245


def test_ls_means_average_the_sites_equally(week_24):
    arguments = {name: week_24[name] for name in ("outcome", "arm", "covariates", "factors")}
    x = np.column_stack(
        [
            np.eye(3)[week_24["arm"]],
            week_24["covariates"],
            np.eye(week_24["factors"][0].max() + 1)[week_24["factors"][0]][:, 1:],
        ]
    )
    fit = sm.OLS(week_24["outcome"], x).fit()
    sites = x.shape[1] - 4 + 1
    for weights, site_row in (("equal", np.full(sites - 1, 1 / sites)), ("observed", x[:, 4:].mean(0))):
        rows = np.column_stack([np.eye(3), np.full((3, 1), x[:, 3].mean()), np.tile(site_row, (3, 1))])
        expected = fit.t_test(rows)
        result = means.ls_means(**arguments, weights=weights)
        np.testing.assert_allclose(result.estimate, expected.effect, rtol=1e-10)
        np.testing.assert_allclose(result.se, expected.sd, rtol=1e-10)
    ancova = means.ancova(**arguments, contrast=(1, 0))
    np.testing.assert_allclose(result.estimate[1] - result.estimate[0], ancova.estimate, rtol=1e-9)


@pytest.fixture(scope="module")
def made():
    draw = np.random.default_rng(11)
    n = 70
    arm, site = draw.integers(0, 3, n), draw.integers(0, 4, n)
    baseline = draw.normal(size=n)
    outcome = 0.4 * arm + 0.8 * baseline + 0.3 * site + draw.normal(size=n) * (1 + 0.5 * arm)
    return outcome, arm, baseline, site


@pytest.mark.parametrize("covariance", ["classical", "HC2", "HC3"])
def test_ancova_agrees_with_statsmodels(made, covariance):
    outcome, arm, baseline, site = made
    x = np.column_stack([np.ones(len(arm)), arm == 1, arm == 2, baseline, np.eye(4)[site][:, 1:]]).astype(float)
    fit = sm.OLS(outcome, x).fit(cov_type="nonrobust" if covariance == "classical" else covariance, use_t=True)
    result = means.ancova(
        outcome, arm, contrast=(2, 0), covariates=baseline[:, None], factors=[site], covariance=covariance
    )
    lower, upper = fit.conf_int()[2]
    expected = [fit.params[2], fit.bse[2], lower, upper, fit.tvalues[2], fit.df_resid, fit.pvalues[2]]
    np.testing.assert_allclose(np.array(result[:7], float), expected, rtol=1e-9)


def test_ancova_keeps_its_digits_for_an_ill_scaled_covariate(made):
    outcome, arm, baseline, _ = made
    plain = means.ancova(outcome, arm, covariates=baseline[:, None])
    far = means.ancova(outcome, arm, covariates=(1e-3 * baseline + 2.0e6)[:, None])
    np.testing.assert_allclose(far.estimate, plain.estimate, rtol=1e-5)  # 2e6 + 0.001 itself keeps 7 digits
    wide = means.ancova(outcome, arm, covariates=np.stack([baseline, 1e9 * baseline**2], -1))
    same = means.ancova(outcome, arm, covariates=np.stack([baseline, baseline**2], -1))
    np.testing.assert_allclose(wide.estimate, same.estimate, rtol=1e-10)


@pytest.mark.parametrize("equal_variance", [True, False])
def test_two_sample_agrees_with_scipy(made, equal_variance):
    outcome, arm, _, _ = made
    expected = stats.ttest_ind(outcome[arm == 2], outcome[arm == 1], equal_var=equal_variance)
    result = means.two_sample(outcome, arm, contrast=(2, 1), equal_variance=equal_variance)
    limits = expected.confidence_interval()
    np.testing.assert_allclose(
        [result.statistic, result.p, result.df, result.lower, result.upper],
        [expected.statistic, expected.pvalue, expected.df, limits.low, limits.high],
        rtol=1e-10,
    )


def test_geometric_ratio_is_ancova_of_logarithms(made):
    outcome, arm, baseline, _ = made
    result = means.geometric_ratio(np.exp(outcome), arm, baseline=np.exp(baseline))
    x = np.column_stack([np.ones(len(arm)), arm == 1, arm == 2, baseline]).astype(float)
    fit = sm.OLS(outcome, x).fit()
    expected = np.exp([fit.params[1], *fit.conf_int()[1]])
    np.testing.assert_allclose([result.estimate, result.lower, result.upper], expected, rtol=1e-9)
    np.testing.assert_allclose([result.se, result.p], [fit.bse[1], fit.pvalues[1]], rtol=1e-9)


def test_a_repeated_covariate_is_dropped_and_said(made):
    outcome, arm, baseline, _ = made
    plain = means.ancova(outcome, arm, covariates=baseline[:, None])
    doubled = means.ancova(outcome, arm, covariates=np.stack([baseline, 3 * baseline - 1], -1))
    np.testing.assert_allclose(np.array(doubled[:7], float), np.array(plain[:7], float), rtol=1e-9)
    assert doubled.warnings == Caution.SINGULAR
    assert "dropped" in claim_from(doubled, name="doubled", method="ANCOVA").warnings[0]


def test_an_arm_confounded_with_a_site_is_not_estimated(made):
    outcome, arm, _, _ = made
    result = means.ancova(outcome, arm, factors=[arm])
    assert np.isnan(result.estimate)
    assert result.warnings & Caution.NOT_ESTIMABLE

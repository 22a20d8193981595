"""Means and standardised risks against the CDISC pilot's published table, R 4.2.2, statsmodels 0.15 and SciPy 1.17.

R: lm, glm, sandwich 3.0-2 (vcovHC, vcovCL), clubSandwich 0.5.8 (vcovCR), emmeans 1.8.4; g-computation and Firth's
likelihood written out in base R.
"""

import json
import os
import pathlib

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from quell.analysis import means
from quell.analysis.arm_model import ByArm, arm_model
from quell.analysis.claim import Caution, claim_from
from quell.analysis.logistic import logistic
from quell.analysis.ranks import van_elteren, wilcoxon
from quell.analysis.standardised import standardised_means, standardised_risks

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


# Forty-one subjects of three arms and four sites, made by arithmetic so that R could make the same.
ROW = np.setdiff1d(np.arange(48), [0, 3, 12, 13, 25, 29, 40])
ARM, SITE, CLUSTER = ROW % 3, (ROW * 7) // 3 % 4, (ROW * 5) % 16 // 2
X, Z = 1.5 + ((ROW * 37) % 23) / 10, ((ROW * 11) % 13) / 4
Y = 2 + 0.4 * ARM + 0.9 * X + 0.35 * ARM * X * 0.5 + 0.3 * SITE + (((ROW * 29) % 17) - 8) / 9 * (1 + 0.3 * ARM)
RESPONSE = 1 / (1 + np.exp(1.2 - 0.5 * ARM - 0.7 * (X - 2.5))) > ((ROW * 31) % 19) / 19
ADJUSTED = {"covariates": np.stack([X, Z], -1), "factors": [SITE]}

# name: what R printed (%.12g); contrasts are arm 2 minus arm 0
R_SAYS = {
    "ancova classical": [1.68416147367, 0.298668126236, 1.07651660198, 2.29180634536, 2.79697489611e-06],
    "ancova HC0": [1.68416147367, 0.277878680357, 1.11881304765, 2.24950989969, 8.06830974053e-07],
    "ancova HC1": [1.68416147367, 0.309734930706, 1.05400101899, 2.31432192834, 5.07187433385e-06],
    "ancova HC2": [1.68416147367, 0.313022717839, 1.04731196577, 2.32101098156, 6.00416762533e-06],
    "ancova HC3": [1.68416147367, 0.353258974177, 0.965450686743, 2.40287226059, 3.65387752546e-05],
    "ancova HC4": [1.68416147367, 0.319006633463, 1.0351375979, 2.33318534944, 8.08976517516e-06],
    "CR1S of sandwich vcovCL": [0.390636126901],
    "CR0": [0.331897060571],
    "CR1": [0.354812882381],
    "CR1S": [0.390636126901],
    "CR1 test": [0.354812882381, 7, 0.00209171550379],
    "ls means equal": [
        4.82380120051,
        5.65604859957,
        6.50796267418,
        0.220517319365,
        0.21995864743,
        0.201419150882,
        4.37515534091,
        5.20853936657,
        6.09817233051,
    ],
    "ls means observed": [
        4.82353050234,
        5.6557779014,
        6.50769197601,
        0.220065714616,
        0.220277143405,
        0.201367975516,
        4.37580343951,
        5.20762068347,
        6.09800574941,
    ],
    "arm test": [15.989815539, 2, 1.39526122902e-05],
    "arm test HC3": [11.8741150347, 2, 0.000130396734317],
    "by arm means equal": [4.81346213782, 5.64160739278, 6.53196732002, 0.257319933811, 0.246066488368, 0.218658688517],
    "by arm means observed": [
        4.81286631867,
        5.64623074156,
        6.52812148657,
        0.255077421427,
        0.246339638504,
        0.218434981852,
    ],
    "by arm difference": [1.7185051822, 0.337562954798, 1.02328126281, 2.41372910159, 2.94631128594e-05],
    "by arm difference at x 3 z 1": [1.87708573125, 0.36691306562, 1.1214141271, 2.6327573354, 2.76225926384e-05],
    "by arm difference in sites": [
        2.00005134362,
        1.58525459585,
        1.36161145947,
        1.92710332987,
        0.782418985189,
        0.597019161354,
        0.61712904312,
        0.687034568777,
        0.01703874181,
        0.0135906117058,
        0.0367685641029,
        0.0095974140558,
    ],
    "type III arm": [13.117, 2, 0.00012726324738],
    "slopes": [1.21991189408, 0.947649865416, 1.60237086531, 0.438213186654, 0.401172642916, 0.316054387395],
    "slope difference": [0.38245897123, 0.540603012395, -0.730933774532, 1.49585171699, 0.485819498904],
    "interaction x": [0.848627274075, 2, 0.439964442983],
    "interaction site": [0.319111711919, 6, 0.920805779664],
    "interaction all": [0.415020876996, 8, 0.901006396014],
    "type II arm": [13.7222498976, 2, 9.50606465829e-05],
    "by arm difference HC3": [1.7185051822, 0.480170667671, 0.729575180232, 2.70743518417, 0.00144765957345],
    "interaction x HC3": [0.42156053478, 2, 0.660599257684],
    "Lin HC2": [1.65128596546, 0.299116064641],
    "Welch": [1.45482905983, 0.441023224158, 0.541857290226, 2.36780082943, 22.7097152606, 0.00317643973152],
    "slope on i": [-0.00910262681357, 0.0121282521741, -0.750530800557, 0.457951389837],
    "logistic": [0.573487824379, 0.835415845218, 0.686469891207, 0.492416844497, -24.689873785],
    "risks": [0.333500700716, 0.292586386038, 0.457706643058],
    "delta": [0.179015475462, 0.472589685802, 0.766200500108, 0.12900054843, 0.122182067677, 0.123697937934],
    "robust delta": [0.17537517255, 0.467922152029, 0.753453644532, 0.131492257958, 0.121279262168, 0.117929068943],
    "ye": [0.182304899276, 0.484571596361, 0.782095798419, 0.1356656101, 0.127424654022, 0.125103182696],
    "ye residual": [0.181536424142, 0.481146784352, 0.777984943759, 0.133930630728, 0.128849705035, 0.125852879298],
    "influence": [0.17485285416, 0.464034852974, 0.749669139935, 0.129836042517, 0.123024580613, 0.121148656088],
    "effects": [0.124205942342, 1.37243082871, 1.6867700368],
    "anhecova ye": [1.71827154055, 0.2438262468],
    "anhecova ye residual": [1.71827154055, 0.273070207393],
    "firth": [0.469950886434, 0.813398949949],
}


def says(name, *values, rtol=1e-9):
    np.testing.assert_allclose(np.concatenate([np.ravel(one) for one in values]), R_SAYS[name], rtol=rtol)


def five(found):
    return found.estimate, found.se, found.lower, found.upper, found.p


def three(found):
    return found.statistic, found.df, found.p


@pytest.fixture(scope="module")
def by_arm():
    """y ~ arm * x + arm * site + z"""
    return arm_model(Y, ARM, by_arm=ByArm((0,), (0,)), **ADJUSTED)


@pytest.mark.parametrize("covariance", ["classical", "HC0", "HC1", "HC2", "HC3", "HC4"])
def test_ancova_gives_sandwich_errors(covariance):
    says(f"ancova {covariance}", *five(means.ancova(Y, ARM, contrast=(2, 0), covariance=covariance, **ADJUSTED)))


@pytest.mark.parametrize("covariance", ["CR0", "CR1", "CR1S"])
def test_cluster_robust_errors_are_club_sandwichs(covariance):
    found = means.ancova(Y, ARM, contrast=(2, 0), covariance=covariance, cluster=CLUSTER, **ADJUSTED)
    says(covariance, found.se)
    assert found.warnings & Caution.FEW_SITES
    if covariance == "CR1S":
        says("CR1S of sandwich vcovCL", found.se)
    if covariance == "CR1":
        says("CR1 test", found.se, found.df, found.p)


@pytest.mark.parametrize("weights", ["equal", "observed"])
def test_adjusted_means_are_emmeans(by_arm, weights):
    found = means.ls_means(Y, ARM, weights=weights, **ADJUSTED)
    says(f"ls means {weights}", found.estimate, found.se, found.lower)
    found = by_arm.means(weights)
    says(f"by arm means {weights}", found.estimate, found.se)


def test_differences_under_interaction_are_emmeans(by_arm):
    says("by arm difference", *five(by_arm.difference((2, 0))))
    says("by arm difference at x 3 z 1", *five(by_arm.difference((2, 0), at=np.array([3.0, 1.0]))))
    found = [by_arm.difference((2, 0), levels={0: site}) for site in range(4)]
    columns = [[getattr(one, name) for one in found] for name in ("estimate", "se", "p")]
    says("by arm difference in sites", *columns)
    robust = arm_model(Y, ARM, by_arm=ByArm((0,), (0,)), covariance="HC3", **ADJUSTED)
    says("by arm difference HC3", *five(robust.difference((2, 0))))
    slopes = by_arm.slopes()
    says("slopes", slopes.estimate, slopes.se)
    says("slope difference", *five(by_arm.slope_difference((2, 0))))


def test_f_tests_are_anovas(by_arm):
    says("arm test", *three(means.arm_test(Y, ARM, **ADJUSTED)))
    says("arm test HC3", *three(means.arm_test(Y, ARM, covariance="HC3", **ADJUSTED)))
    says("type II arm", *three(by_arm.arm_test("II")))
    says("interaction x", *three(by_arm.interaction_test(covariates=[0])))
    says("interaction site", *three(by_arm.interaction_test(factors=[0])))
    says("interaction all", *three(by_arm.interaction_test()))
    robust = arm_model(Y, ARM, by_arm=ByArm((0,), (0,)), covariance="HC3", **ADJUSTED)
    says("interaction x HC3", *three(robust.interaction_test(covariates=[0])))
    # emmeans::joint_tests rounds F to three decimals, but not its p
    third = by_arm.arm_test("III")
    np.testing.assert_allclose([third.df, third.p], R_SAYS["type III arm"][1:], rtol=1e-9)
    np.testing.assert_allclose(third.statistic, R_SAYS["type III arm"][0], atol=5.1e-4)


def test_an_empty_cell_leaves_what_the_others_say():
    """The same model without any patient of arm 0 at site 0: emmeans and joint_tests, anova for the interaction."""
    row = np.setdiff1d(np.arange(48), [0, 3, 12, 13, 24, 29, 36])
    arm, site, x, z = row % 3, (row * 7) // 3 % 4, 1.5 + ((row * 37) % 23) / 10, ((row * 11) % 13) / 4
    y = 2 + 0.4 * arm + 0.9 * x + 0.35 * arm * x * 0.5 + 0.3 * site + (((row * 29) % 17) - 8) / 9 * (1 + 0.3 * arm)
    model = arm_model(y, arm, covariates=np.stack([x, z], -1), factors=[site], by_arm=ByArm((0,), (0,)))
    found = model.difference((2, 0))
    assert np.isnan(found.estimate) and found.warnings & Caution.NOT_ESTIMABLE
    means_ = model.means()
    np.testing.assert_allclose(means_.estimate, [np.nan, 5.57354432497, 6.44561638285], rtol=1e-9)
    np.testing.assert_allclose(means_.se, [np.nan, 0.219846987143, 0.216008772423], rtol=1e-9)
    third = model.arm_test()
    np.testing.assert_allclose([third.df, third.p], [1, 0.00897688264088], rtol=1e-9)
    assert third.warnings & Caution.NOT_ESTIMABLE
    np.testing.assert_allclose(
        three(model.interaction_test(factors=[0])), [0.356441339654, 5, 0.873373756141], rtol=1e-9
    )


def test_linear_models_with_other_questions():
    found = arm_model(Y, ARM, covariates=np.stack([X, Z], -1), by_arm=ByArm((0, 1)), covariance="HC2")
    says("Lin HC2", found.difference((2, 0)).estimate, found.difference((2, 0)).se)
    found = means.two_sample(Y, ARM, contrast=(2, 0))
    says("Welch", found.estimate, found.se, found.lower, found.upper, found.df, found.p)
    found = means.slope(Y, ROW.astype(float), covariates=X[:, None], factors=[SITE])
    says("slope on i", found.estimate, found.se, found.statistic, found.p)


def test_logistic_regression_is_glm():
    fit = logistic(RESPONSE, ARM, **ADJUSTED)
    found = fit.odds_ratio((2, 0))
    says("logistic", np.log(found.estimate), found.se, found.statistic, found.p, fit.log_likelihood)
    found = logistic(RESPONSE, ARM, likelihood="firth", **ADJUSTED).odds_ratio((2, 0))
    says("firth", np.log(found.estimate), found.se)


@pytest.mark.parametrize("variance", ["delta", "robust delta", "ye", "ye residual", "influence"])
def test_standardised_risks_are_g_computation(variance):
    risks = standardised_risks(RESPONSE, ARM, variance=variance, **ADJUSTED)
    effects = [kind((2, 0)) for kind in (risks.difference, risks.ratio, risks.odds_ratio)]
    says("risks", risks.mean)
    says("effects", [one.estimate for one in effects])
    says(variance, [one.se for one in effects], risks.means().se)


@pytest.mark.parametrize("variance", ["ye", "ye residual"])
def test_ancova_with_interactions_is_anhecova(variance):
    found = standardised_means(Y, ARM, variance=variance, **ADJUSTED).difference((2, 0))
    says(f"anhecova {variance}", found.estimate, found.se)


def test_logistic_agrees_with_statsmodels():
    design = np.column_stack([np.ones(len(ROW)), ARM == 1, ARM == 2, X, Z, np.eye(4)[SITE][:, 1:]]).astype(float)
    fit = sm.Logit(RESPONSE.astype(float), design).fit(disp=0, tol=1e-12)
    found = logistic(RESPONSE, ARM, **ADJUSTED).odds_ratio((2, 0))
    np.testing.assert_allclose([np.log(found.estimate), found.se], [fit.params[2], fit.bse[2]], rtol=1e-7)


def test_the_pilots_ls_means_and_arm_test(week_24):
    """R 4.2.2: anova(lm(CHG ~ TRTP + BASE + SITEGR1)) on the same rows."""
    arguments = {name: week_24[name] for name in ("outcome", "arm", "covariates", "factors")}
    test = means.arm_test(**arguments)
    np.testing.assert_allclose([test.statistic, test.df, test.p], [0.716482275988, 2, 0.489603712885], rtol=1e-9)


def test_wilcoxon_is_wilcox_test():
    """R 4.2.2: wilcox.test(conf.int = TRUE, exact = TRUE); with ties exact = FALSE, with and without correction."""
    found = wilcoxon(Y, ARM, contrast=(2, 0))
    numbers = [found.statistic, found.p, found.estimate, found.lower, found.upper]
    np.testing.assert_allclose(numbers, [156, 0.00608057868456, 1.37444444444, 0.38, 2.33944444444], rtol=1e-9)
    narrow = wilcoxon(Y, ARM, contrast=(2, 0), level=0.8)
    np.testing.assert_allclose([narrow.lower, narrow.upper], [0.75, 1.93388888889], rtol=1e-9)
    tied = wilcoxon(np.round(Y), ARM, contrast=(2, 0))
    np.testing.assert_allclose([tied.statistic, tied.p, tied.estimate], [160.5, 0.00307658055883, 2], rtol=1e-9)
    np.testing.assert_allclose(
        wilcoxon(np.round(Y), ARM, contrast=(2, 0), correct=False).p, 0.00284822324023, rtol=1e-9
    )


def test_van_elteren_is_the_formula():
    """R 4.2.2, ranks and tie-corrected variances within sites written out."""
    for outcome, expected in ((Y, [4.70493873942, 0.0300760737673]), (np.round(Y), [8.16922703097, 0.00426070604461])):
        found = van_elteren(outcome, ARM, SITE, contrast=(2, 0))
        np.testing.assert_allclose([found.statistic, found.p], expected, rtol=1e-9)


def test_the_normal_wilcoxon_is_scipys_mann_whitney():
    expected = stats.mannwhitneyu(Y[ARM == 2], Y[ARM == 1], method="asymptotic")
    found = wilcoxon(Y, ARM, contrast=(2, 1), distribution="normal")
    np.testing.assert_allclose([found.statistic, found.p], [expected.statistic, expected.pvalue], rtol=1e-10)

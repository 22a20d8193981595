"""Missing data against an independent transcription in R, exact posterior distributions, and the published formulas.

The R transcription (R 4.2.2, nlme 3.1) shares nothing with quell: REML by EM of a multivariate regression with holes,
iterated to 1e-13 (and equal to nlme::gls with corSymm and varIdent to 1e-7, where gls stops); conditional means and the
reference-based means and covariances as in Carpenter, Roger and Kenward (2013) and rbmi's strategies.R; lm at the last
visit; everything repeated without each subject, se = sqrt((n - 1) / n sum (theta - mean)^2) as rbmi's pool.
"""

import csv

import numpy as np
import pytest

from quell import keys
from quell.analysis import gibbs
from quell.analysis.follow_up import FollowUp
from quell.analysis.imputation import impute, multiple_imputation, pooled_difference
from quell.analysis.missing import conditional_mean
from quell.analysis.pooling import pool, rubin
from quell.analysis.proportions import risk_difference, tally
from quell.analysis.reference_based import Assumption, covariance_under, given_seen
from quell.analysis.strategies import composite_trimmed
from quell.analysis.tipping import delta_response, imputed_response, tipping_point


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


def made(n=40, visits=4):
    """Forty subjects, four visits, dropouts and two holes, by formula; the last seen visit is where the event comes."""
    i, v = np.arange(1, n + 1)[:, None], np.arange(1, visits + 1)[None]
    arm, x = i % 2, np.sin(i * 1.7) * 2 + np.cos(i * 0.31)
    u, w = 1.5 * np.sin(i * 2.3 + 1), np.cos(i * 0.77)
    y = 10 + 0.6 * x + u + 0.5 * w * v + 0.4 * v - 0.7 * arm * v * 0.5
    y = y + 0.8 * np.sin(i * 3.1 * v + v**2) + 0.5 * np.cos(i * 5.3 + v * 1.9)
    drop, k = np.full(n, visits + 1), np.arange(1, n + 1)
    drop[k % 5 == 0], drop[k % 7 == 3], drop[k % 11 == 4], drop[16] = 3, 4, 2, 1
    y[v >= drop[:, None]] = np.nan
    y[7, 1] = y[20, 0] = np.nan
    seen = np.where(np.isfinite(y), v, 0).max(-1)
    return FollowUp(y, arm[:, 0], x), seen


# (covariance, rule): estimate and jackknife standard error, from the R transcription
CONDITIONAL = {
    ("pooled", "MAR"): (-1.432656251302, 0.739259999529),
    ("pooled", "J2R"): (-0.859063764524, 0.473375105483),
    ("pooled", "CR"): (-1.152188967350, 0.581423614219),
    ("pooled", "CIR"): (-1.176076935943, 0.562738557785),
    ("by arm", "MAR"): (-1.459564866975, 0.807581654786),
    ("by arm", "J2R"): (-0.841046069397, 0.460041306478),
    ("by arm", "CR"): (-1.162222556746, 0.567824144564),
    ("by arm", "CIR"): (-1.171713717722, 0.549461862385),
}


@pytest.mark.parametrize(("covariance", "rule"), CONDITIONAL)
def test_conditional_mean_and_jackknife(covariance, rule):
    data, _ = made()
    result = conditional_mean(data, Assumption(rule, covariance=covariance))
    close([result.estimate, result.se], CONDITIONAL[covariance, rule])
    assert result.n == 40 and np.isinf(result.df)


def test_last_mean_carried_forward_and_delta():
    data, seen = made()
    # the one active subject never seen has no mean to carry: here imputed at random, as without an event
    without = np.where((seen == 0) & (data.arm == 1), np.nan, seen)
    result = conditional_mean(data._replace(affected=without), Assumption("LMCF"))
    close([result.estimate, result.se], [-1.513614346687, 0.656039778171])
    by_data = conditional_mean(data, Assumption("J2R", delta=1.5 * data.arm[:, None]))
    by_line = delta_response(data, Assumption("J2R")).at(1.5)
    for shifted in (by_data, by_line):
        close([shifted.estimate, shifted.se], [-0.258508865618, 0.564753279755])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("J2R", (-0.882737311073, 0.468485978427)),
        ("CIR", (-1.189688524094, 0.562115055700)),
        ("CR", (-1.152902819767, 0.575816282116)),
    ],
)
def test_values_seen_after_the_event_are_kept_but_do_not_inform_the_model(rule, expected):
    data, seen = made()
    number = np.arange(1, 41)
    affected = np.where((number % 9 == 0) & (seen == 4), 2, seen)
    result = conditional_mean(data._replace(affected=affected), Assumption(rule))
    close([result.estimate, result.se], expected)


@pytest.fixture(scope="module")
def fev(reference_data):
    with (reference_data / "mmrm" / "fev_data.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    subjects = list(dict.fromkeys(row["USUBJID"] for row in rows))
    at = {subject: k for k, subject in enumerate(subjects)}
    y, arm, x = np.full((len(at), 4), np.nan), np.zeros(len(at), int), np.zeros((len(at), 1))
    for row in rows:
        k = at[row["USUBJID"]]
        arm[k], x[k] = row["ARMCD"] == "TRT", float(row["FEV1_BL"])
        y[k, int(row["VISITN"]) - 1] = float(row["FEV1"]) if row["FEV1"] else np.nan
    return FollowUp(y, arm, x)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("MAR", (5.004293843411, 1.737802536440)),
        ("J2R", (3.526202763534, 1.237526392140)),
        ("CR", (4.190049444999, 1.262988383489)),
        ("CIR", (4.551465767402, 1.264030538884)),
    ],
)
def test_repeated_lung_function(fev, rule, expected):
    result = conditional_mean(fev, Assumption(rule))
    close([result.estimate, result.se], expected)
    assert result.n == 200


def test_covariance_after_the_event_and_the_conditional_distribution():
    # R: the formula of Carpenter, Roger and Kenward (2013), 4.3, written as in rbmi's compute_sigma, with solve()
    reference = np.array([[4, 1.2, 0.9, 0.5], [1.2, 3, 1.1, 0.8], [0.9, 1.1, 5, 1.5], [0.5, 0.8, 1.5, 6]])
    own = np.array([[5, 2, 1.4, 1], [2, 4, 1.6, 1.2], [1.4, 1.6, 6, 2.2], [1, 1.2, 2.2, 7]])
    covariance = covariance_under("J2R", own, reference, 2)
    close(covariance[2], [1.282196969697, 1.51893939394, 5.18165820133, 1.62269212006])
    close(covariance[3], [0.748106060606, 1.08712121212, 1.62269212006, 6.08337996442])
    weights, root = given_seen(covariance, np.array([True, True, False, False]))
    close((weights @ [1.3, -0.4, 0, 0])[2:], [0.0441287878788, -0.0320075757576])
    left = [[4.53655303030, 1.18314393939], [1.18314393939, 5.77746212121]]
    close((root @ root.T)[2:, 2:], left)


def test_rubins_rules():
    # R, from the formulas of Rubin (1987) and Barnard and Rubin (1999); m = 5, complete-data df 57
    estimate, se = np.array([1.10, 1.45, 0.93, 1.27, 1.61]), np.array([0.51, 0.55, 0.49, 0.60, 0.53])
    result = rubin(estimate, se, df=57)
    pooled = result.pooled
    close([pooled.estimate, pooled.se, pooled.df], [1.2720000000000, 0.6135666222995, 26.8490587003574])
    close([pooled.p, pooled.lower], [0.0478844330927, 0.0127340325147])
    close([result.within, result.between, result.fraction_missing], [0.28872, 0.07312, 0.2844610206027])
    close(rubin(estimate, se).pooled.df, 73.6329225900053)
    close(result.monte_carlo, np.sqrt(0.07312 / 5))


def test_trimmed_means():
    # R: means of the lowest n - 2, Winsorised sums of squares over h (h - 1), Welch's df
    active = np.array([3.1, 4.2, 5.0, 5.5, 6.1, 7.7, 9.9, 2.0])
    control = np.array([4.0, 5.1, 5.2, 6.8, 7.3, 8.8, 11.5, 12.0, 3.3])
    outcome, arm = np.concatenate([active, control]), np.repeat([1, 0], [8, 9])
    failed = np.zeros(17, bool)
    failed[[6, 15]] = True  # one failure in each arm; a share of 1/4 trims two of eight and two of nine
    result = composite_trimmed(outcome, failed, arm, share=0.25).difference
    got = [result.estimate, result.se, result.df, result.p]
    close(got, [-1.469047619048, 1.195950232105, 10.810956282476, 0.245384943014])


def chains_of(made, number, steps):
    return gibbs.draw(made, gibbs.chains(keys.data(11)[None], number, "test"), steps)


def test_draws_from_complete_data_have_the_known_posterior_distribution():
    # B matrix-t about least squares, E(S) = R / (df - visits - 1); so var(b_jv) = (X'X)^-1_jj E(S)_vv
    data, _ = made()
    whole = np.isfinite(data.outcome).all(-1)
    y, x = data.outcome[whole], np.column_stack([np.ones(whole.sum()), data.arm[whole], data.covariates[whole]])
    regression = gibbs.regression(y[None], x[None], np.ones((1, len(y)), bool))
    number = 4_000
    drawn = chains_of(regression, number, 1)
    slope, *_ = np.linalg.lstsq(x, y, rcond=None)
    residual = y - x @ slope
    mean = residual.T @ residual / (len(y) - 3 - 4 - 1)
    variance = np.linalg.inv(x.T @ x).diagonal()[:, None] * mean.diagonal()
    error = np.sqrt(variance / number)
    assert (np.abs(drawn.coefficients[0].mean(0) - slope) < 4 * error).all()
    np.testing.assert_allclose(drawn.coefficients[0].var(0), variance, rtol=0.15)
    np.testing.assert_allclose(drawn.covariance[0].mean(0), mean, rtol=0.1, atol=0.1)


def test_draws_from_monotone_data_have_the_known_posterior_distribution():
    # two visits, the second missing in some (Anderson 1957; Little and Rubin 2002, 7.3): under the Jeffreys prior
    # RSS / s_22.1 ~ chi-square(n2 - 1) and b_21 | s ~ N(least squares in those seen twice, s / SSx)
    data, _ = made()
    y = data.outcome[:, [0, 2]][np.isfinite(data.outcome[:, 0])]
    twice = np.isfinite(y[:, 1])
    n2, x = twice.sum(), y[twice, 0]
    slope, intercept = np.polyfit(x, y[twice, 1], 1)
    rss = np.sum((y[twice, 1] - intercept - slope * x) ** 2)
    regression = gibbs.regression(y[None], np.ones((1, len(y), 1)), np.ones((1, len(y)), bool))
    number = 3_000
    drawn = chains_of(regression, number, 40)
    s = drawn.covariance[0]
    b21, left = s[:, 0, 1] / s[:, 0, 0], s[:, 1, 1] - s[:, 0, 1] ** 2 / s[:, 0, 0]
    variance = rss / (n2 - 3) / np.sum((x - x.mean()) ** 2)
    assert abs(b21.mean() - slope) < 4 * np.sqrt(variance / number)
    np.testing.assert_allclose(b21.var(), variance, rtol=0.1)
    np.testing.assert_allclose(left.mean(), rss / (n2 - 3), rtol=0.03)
    expected = y[twice, 1].mean() + slope * (y[:, 0].mean() - x.mean())
    drawn_mean = drawn.coefficients[0, :, 0, 1]
    assert abs(drawn_mean.mean() - expected) < 4 * drawn_mean.std() / np.sqrt(number)


@pytest.mark.parametrize(("covariance", "rule"), [("pooled", "MAR"), ("pooled", "J2R"), ("by arm", "CIR")])
def test_multiple_imputation_finds_the_conditional_mean_within_its_monte_carlo_error(covariance, rule):
    data, _ = made()
    result = multiple_imputation(data, Assumption(rule, covariance=covariance), imputations=200, burn_in=60, key=5)
    expected, error = CONDITIONAL[covariance, rule]
    # the posterior mean of the parameters is not their REML value: allow a tenth of a standard error besides
    assert abs(result.pooled.estimate - expected) < 3 * result.monte_carlo + 0.1 * error
    if rule != "MAR":  # information-anchored: Rubin's error exceeds the repeated-sampling one
        assert result.pooled.se > 1.15 * error


def test_imputed_responders_are_pooled_like_any_analysis():
    data, _ = made()
    completed = impute(data, Assumption("J2R"), imputations=12, burn_in=40, key=5)
    responded = completed.outcome[..., -1] < 11.0
    by_hand = [risk_difference(tally(one, data.arm)) for one in responded]
    pooled = pool(risk_difference(tally(responded, completed.arm[None]))).pooled
    close(pooled.estimate, np.mean([one.estimate for one in by_hand]))
    within = np.mean([one.se**2 for one in by_hand])
    close(pooled.se**2, within + (1 + 1 / 12) * np.var([one.estimate for one in by_hand], ddof=1))


def test_the_tipping_point_of_imputed_data_is_that_of_shifted_data():
    data, _ = made()
    shift = np.where(data.arm == 1, 2.5, 0.0)
    completed = impute(data, imputations=8, burn_in=30, key=5)
    moved = completed._replace(outcome=completed.outcome + np.where(completed.unseen, shift[:, None], 0.0))
    line, again = imputed_response(completed).at(2.5), pooled_difference(moved).pooled
    close([line.estimate, line.se, line.df, line.p], [again.estimate, again.se, again.df, again.p], rtol=1e-8)
    data = data._replace(outcome=data.outcome - 1.5 * data.arm[:, None])
    tip = tipping_point(data, Assumption("MAR"))
    shifted = conditional_mean(data, Assumption("MAR", delta=float(tip.delta) * data.arm[:, None]))
    close(shifted.p, 0.05, rtol=1e-7)

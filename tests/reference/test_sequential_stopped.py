"""What is said at a look and after a stop, and combination tests, against rpact 3.3.4 and direct simulation or integration."""

import numpy as np
import pytest
from scipy import integrate, special, stats

from quell.analysis import combination, interim, sequential, stopped
from quell.analysis.samplesize import SurvivalTrial, constant

FOUR = np.array([0.3, 0.55, 0.8, 1.0])
DESIGN = sequential.by_spending(FOUR, sequential.spending("obrien-fleming", 0.025))

# rpact 3.3.4: getAnalysisResults of a difference of means, normalApproximation = TRUE, asOF at 0.3, 0.55, 0.8, 1;
# n1 = n2 = 30, 25, 25; means 1.2, 0.9, 1.6 and 0.4, 0.5, 0.3; standard deviations 1.5 and 1.6
Z = np.array([1.9979199162, 2.1043866630, 3.4032621543])
EFFECT = np.array([0.8, 0.61818181818, 0.83125])


def test_repeated_intervals_of_rpact():
    found = stopped.repeated_interval(EFFECT, EFFECT / Z, np.arange(3), DESIGN)
    np.testing.assert_allclose(found.lower, [-0.77306507061, -0.20665634063, 0.27531089098], rtol=1e-7)
    np.testing.assert_allclose(found.upper, [2.3730650701, 1.4430199771, 1.3871891091], rtol=1e-7)


def test_repeated_p_of_rpact():
    def family(alpha):
        return sequential.by_spending(FOUR, sequential.spending("obrien-fleming", alpha))

    found = stopped.repeated_p(Z, np.arange(3), family)
    # rpact searches to 1e-6 in p; the definition itself holds to 1e-9
    np.testing.assert_allclose(found, [0.2125946070995, 0.0796850981388, 0.0013466317692], atol=2e-6)
    for k, p in enumerate(found):
        np.testing.assert_allclose(family(float(p)).upper[k], Z[k], rtol=1e-9)


def test_final_analysis_of_rpact():
    found = stopped.final_estimate(Z[2], 2, DESIGN, se=EFFECT[2] / Z[2])
    np.testing.assert_allclose(found.p / 2, 0.0026262237164, rtol=1e-7)
    numbers = [found.lower, found.upper, found.estimate]
    np.testing.assert_allclose(numbers, [0.2366889588822, 1.2694097903584, 0.7669080180297], rtol=2e-8)


def test_final_analysis_of_rpact_two_sided():
    # Pocock, sided = 2, alpha = 0.05, two looks: z 2.7448905951, difference 0.65
    design = sequential.by_shape(np.array([0.5, 1.0]), 0.025, shape="pocock", two_sided_test=True)
    found = stopped.final_estimate(2.7448905951, 1, design, se=0.65 / 2.7448905951)
    numbers = [found.p, found.lower, found.upper, found.estimate]
    np.testing.assert_allclose(numbers, [0.032502827785, 0.054765944713, 1.084718003660, 0.596762304857], atol=2e-7)


def test_conditional_power_of_rpact():
    # getConditionalPower(stage 1, z 1.2909944487, nPlanned = c(50, 50, 40), thetaH1, assumedStDev = 1.5): by each later look
    z, unit = 1.2909944487, np.sqrt(200 / 4) / 1.5
    assumed = {
        0.6: [0.090721159364, 0.551010982975, 0.796336372533],
        0.0: [0.0029748485699, 0.0311690371494, 0.0666967530068],
    }
    for effect, expected in assumed.items():
        for k in (1, 2, 3):
            upto = DESIGN._replace(
                **{side: getattr(DESIGN, side)[: k + 1] for side in ("information", "lower", "upper")}
            )
            found = interim.conditional_power(z, 0.3, upto, effect * unit)
            np.testing.assert_allclose(found, expected[k - 1], rtol=5e-8)


def test_conditional_power_in_closed_form():
    # one look left: Phi((z sqrt t - c + drift (1 - t)) / sqrt(1 - t)) (Lan, Simon and Halperin 1982)
    design = sequential.by_shape(np.array([0.5, 1.0]), 0.025)
    for z, drift in ((0.3, 2.0), (1.5, 0.0), (2.4, -1.0)):
        exact = special.ndtr((z * np.sqrt(0.5) - design.upper[1] + drift * 0.5) / np.sqrt(0.5))
        np.testing.assert_allclose(interim.conditional_power(z, 0.5, design, drift), exact, rtol=1e-12)
    # flat prior: Phi((z - c sqrt t) / sqrt(1 - t)) (Spiegelhalter et al. 1986)
    exact = special.ndtr((1.5 - design.upper[1] * np.sqrt(0.5)) / np.sqrt(0.5))
    np.testing.assert_allclose(interim.predictive_power(1.5, 0.5, design), exact, rtol=1e-9)


def test_predictive_power_with_a_prior_by_direct_integration():
    mean, sd, z, t = 2.0, 1.0, 1.2, 0.3
    precision = t + sd**-2
    posterior = stats.norm((z * np.sqrt(t) + mean / sd**2) / precision, precision**-0.5)
    exact = integrate.quad(
        lambda d: posterior.pdf(d) * float(interim.conditional_power(z, t, DESIGN, d)), -6, 10, epsabs=1e-10
    )[0]
    np.testing.assert_allclose(interim.predictive_power(z, t, DESIGN, (mean, sd)), exact, rtol=1e-8)


def test_conditional_and_predictive_power_of_gsdesign():
    # gsDesign 3.x, vignette on harm bounds: gsBoundSummary at the futility bounds; its prior is normal around half the effect
    hazard = constant(np.log(2) / 36)
    trial = SurvivalTrial(hazard.times(0.75), hazard, constant(1.0), 18.0)
    looks = np.array([trial.chance(month) for month in (12, 24, 36, 48, 60)])
    base = sequential.by_spending(looks / looks[-1], sequential.spending("obrien-fleming", 0.0125))
    design, drift = sequential.with_futility(base, sequential.spending("hwang-shih-decani", 0.1, -2))
    prior = (drift / 2, 10 * drift / (special.ndtri(0.9875) + special.ndtri(0.9)))
    trend, planned, averaged = (
        [0.0, 0.0024, 0.0396, 0.1578],
        [0.5942, 0.4033, 0.3449, 0.3906],
        [0.0097, 0.0358, 0.0776, 0.1793],
    )
    for k in range(4):
        z, t = design.lower[k], design.information[k]
        np.testing.assert_allclose(interim.conditional_power(z, t, design), trend[k], atol=5e-5)
        np.testing.assert_allclose(interim.conditional_power(z, t, design, drift), planned[k], atol=6e-5)
        np.testing.assert_allclose(interim.predictive_power(z, t, design, prior), averaged[k], atol=5e-5)


def test_assurance_in_closed_form():
    # one look: Phi((mean - z_alpha) / sqrt(1 + sd²))
    one = sequential.by_shape(np.array([1.0]), 0.025)
    exact = special.ndtr((3.0 - special.ndtri(0.975)) / np.sqrt(1 + 1.5**2))
    np.testing.assert_allclose(interim.assurance(one, (3.0, 1.5)), exact, rtol=1e-9)


def test_crossing_chances_are_those_of_the_multivariate_normal():
    looks = np.array([0.2, 0.45, 0.5, 1.0])
    lower, upper = np.array([-1.0, -0.3, 0.1, 1.9]), np.array([3.1, 2.4, 2.6, 1.9])
    found = sequential.crossing(looks, lower, upper, 1.7)
    covariance = np.sqrt(np.minimum.outer(looks, looks) / np.maximum.outer(looks, looks))
    mean = 1.7 * np.sqrt(looks)
    for k in range(1, 4):
        sides = np.append(lower[:k], upper[k]), np.append(upper[:k], np.inf)
        # the first three by SciPy's Genz algorithm, good to about 1e-6
        exact = stats.multivariate_normal(
            mean[: k + 1], covariance[: k + 1, : k + 1], abseps=1e-8, releps=1e-8, maxpts=2_000_000
        )
        chance = exact.cdf(sides[1], lower_limit=sides[0], rng=np.random.default_rng(1))
        np.testing.assert_allclose(found.upper[k], chance, atol=3e-6)
    joint = integrate.quad(
        lambda s: stats.norm.pdf(s, 1.7 * 0.2, np.sqrt(0.2)) * special.ndtr(-(2.4 * np.sqrt(0.45) - s - 1.7 * 0.25) / 0.5),
        -1.0 * np.sqrt(0.2), 3.1 * np.sqrt(0.2), epsabs=1e-13,
    )[0]  # fmt: skip
    np.testing.assert_allclose(found.upper[1], joint, rtol=1e-11)


def test_bias_of_a_stopped_trial_by_simulation():
    truth, draw = 2.5, np.random.default_rng(3)
    steps = draw.normal(size=(200_000, 4)) * np.sqrt(np.diff(FOUR, prepend=0)) + truth * np.diff(FOUR, prepend=0)
    score = steps.cumsum(1)
    crossed = score / np.sqrt(FOUR) >= DESIGN.upper
    crossed[:, -1] = True
    last = crossed.argmax(1)
    estimate = (score / FOUR)[np.arange(len(last)), last]
    error = estimate.std() / np.sqrt(len(last))
    assert abs(estimate.mean() - truth - stopped.mean_bias(truth, DESIGN)) < 4 * error


def test_overrun_by_the_multivariate_normal():
    design = sequential.by_shape(np.array([0.5, 1.0]), 0.025)
    claimed, lost = stopped.overrun(design, [0.1, 0.0], [1.96, design.upper[1]])
    rho = np.sqrt(0.5 / 0.6)
    first = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf([-design.upper[0], -1.96])
    np.testing.assert_allclose(claimed, first + design.crossing().upper[1], atol=1e-8)
    np.testing.assert_allclose(lost, design.crossing().upper[0] - first, atol=1e-8)


# rpact 3.3.4: getDesignFisher(kMax, alpha = 0.025, method = "equalAlpha", alpha0Vec): criticalValues, alphaSpent
@pytest.mark.parametrize(
    ("stages", "stop", "critical", "spent"),
    [
        (2, 1.0, [0.0157880731519, 0.00222054375435], [0.0157880731519, 0.025]),
        (2, 0.5, [0.0168703069139, 0.00239880965689], [0.0168703069139, 0.025]),
        (3, 1.0, [0.0123085467187, 0.00166359229551, 0.000291066872411], [0.0123085467187, 0.0196241296281, 0.025]),
        (3, 0.5, [0.0141952623801, 0.00196241140977, 0.000349323589647], [0.0141952623801, 0.0211847827542, 0.025]),
    ],
)
def test_fisher_designs_of_rpact(stages, stop, critical, spent):
    mine = combination.fisher_equal(0.025, stages, futility=[stop] * (stages - 1))
    np.testing.assert_allclose(mine.critical, critical, rtol=1e-7)
    np.testing.assert_allclose(mine.spent, spent, rtol=1e-7)


def test_fisher_by_spending_of_rpact():
    # userDefinedAlpha, informationRates = c(0.3, 0.6, 1): weights are sqrt((t_k - t_{k-1}) / t_1)
    mine = combination.fisher_by_spending(
        [0.005, 0.01, 0.025], futility=[0.7, 0.5], weights=np.sqrt(np.diff([0, 0.3, 0.6, 1]) / 0.3)
    )
    np.testing.assert_allclose(mine.critical, [0.005, 0.00101180934847, 0.00063624957624], rtol=1e-7)
    # Bauer and Köhne (1994): c = exp(-chi²(4 df, 1 - alpha) / 2) = 0.0038 at alpha 0.025, whatever alpha_0 = 0.5 buys
    full = combination.fisher_by_spending([0.0101890304703, 0.025], futility=[0.5])
    np.testing.assert_allclose(full.critical[1], 0.00380422346631, rtol=1e-8)


def test_inverse_normal_is_the_sequential_test_without_changes():
    z = np.array([1.1, 2.2, 2.0])
    looks = np.array([0.4, 0.7, 1.0])
    stages = combination.stage_z(z, looks)
    weights = np.sqrt(np.diff(looks, prepend=0.0))
    np.testing.assert_allclose(combination.weighted_z(stages, weights), z, rtol=1e-12)
    np.testing.assert_allclose(combination.inverse_normal(special.ndtr(-stages), weights), z, rtol=1e-12)
    # rpact 3.3.4: getDesignInverseNormal(informationRates = c(0.4, 1), typeOfDesign = "OF")
    upper = sequential.by_shape(np.array([0.4, 1.0]), 0.025).upper
    np.testing.assert_allclose(upper, [3.1095305842, 1.9666398200], rtol=1e-6)

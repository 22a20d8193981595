"""Bayesian readings against R 4.2.2 (integrate and uniroot on the formulas) and the published output of R's RBesT."""

import numpy as np
import pytest
from scipy import integrate, stats

from quell.analysis import bayes, borrowing, means
from quell.analysis.claim import Caution, Estimate
from quell.analysis.mixtures import BetaMixture, GammaMixture, NormalMixture, beta, gamma, normal
from quell.analysis.posteriors import two_proportions, two_rates


def close(mine, theirs, rtol=1e-10):
    np.testing.assert_allclose(np.asarray(mine, float), theirs, rtol=rtol)


def estimate(value, se, df=np.inf, n=40):
    return Estimate(*(np.asarray(field) for field in (value, se, np.nan, np.nan, np.nan, df, np.nan, n, 0)))


def limits(posterior):
    return [posterior.quantile(q) for q in (0.025, 0.5, 0.975)]


# R: p(d) proportional to dnorm(d, m, s) * dt((d - estimate) / se, df), integrate(rel.tol = 1e-13), uniroot
STUDENT = {
    (-0.17, 0.07, 57, 0.0, 0.0912): (-0.10579681473840419, 0.05655239304009627, 0.96789322036958525,
                                     -0.21554154882000148, -0.10623646082586817, 0.00644403054613578),
    (2.0, 0.5, 3, 0.0, 0.4): (0.299228811840527, 0.419131828839165, 0.238252757206802, -0.522507862561705,
                              0.299421526684130, 1.118758379696216),
    (5.0, 0.3, 8, 0.0, 0.5): (0.487228462602933, 0.527914459978669, 0.178005252891386, -0.541625569281906,
                              0.485095151590992, 1.528307273697590),
}  # fmt: skip


@pytest.mark.parametrize("case", STUDENT, ids=str)
def test_a_normal_prior_and_a_t_likelihood(case):
    value, se, df, mean, sd = case
    posterior = bayes.effect(estimate(value, se, df), normal(mean, sd))
    close([posterior.mean, posterior.sd, posterior.below(0), *limits(posterior)], STUDENT[case])


def test_a_difference_in_means_with_unknown_variance():
    # R: integrated over the control mean, the logarithm of the standard deviation and the difference, each flat but the
    # last, which is normal(0, 1)
    result = means.ancova(np.array([2, 3, 4.5, 2.5, 1, 2, 3, 2.2, 1.4]), np.repeat([1, 0], [4, 5]))
    posterior = bayes.effect(result, normal(0, 1))
    close([posterior.mean, posterior.below(0)], [0.7430141637351054, 0.0970669825474112], rtol=1e-9)


# R: integrate(dbeta(p, 10, 22) * pbeta(g(p), 4, 28)), uniroot
PROPORTIONS = {
    "difference": (-0.3825433972555048, -0.1872118976461369, 0.0070063223327618),
    "ratio": (0.109294815268650, 0.381987564133120, 1.033910459782788),
    "odds ratio": (0.0700203228888108, 0.2956153259457084, 1.0437940202987410),
}


@pytest.mark.parametrize("measure", PROPORTIONS)
def test_two_proportions(measure):
    posterior = two_proportions(beta(1, 1).updated(3, 30), beta(1, 1).updated(9, 30), measure)
    close(posterior.below(0), 0.9707139671385826)
    found = limits(posterior)
    np.testing.assert_allclose(found if measure == "difference" else np.exp(found), PROPORTIONS[measure], rtol=1e-8)


def test_a_rate_ratio_is_an_f_distribution():
    # R: qf(c(.025, .5, .975), 9, 21) * (4.5 / 50) / (10.5 / 48), pf
    posterior = two_rates(gamma(0.5, 1e-9).updated(4, 50 - 1e-9), gamma(0.5, 1e-9).updated(10, 48 - 1e-9))
    close(np.exp(limits(posterior)), [0.112659927708027, 0.393854027345660, 1.151055326881244])
    close(posterior.below(0), 0.954994737419044)
    # R: integrate(dnorm(z) * P(log ratio < qnorm(.025) * .3 - .3 * z))
    close(bayes.assurance(posterior, 0.3), 0.706001915895603)


def test_a_piecewise_exponential_hazard_ratio():
    # R: integrate of the marginal posterior, hazards integrated out by their Gamma(0.5, 10) priors
    events, time = np.array([[6, 4], [5, 3]]), np.array([[280, 300], [190, 220.0]])
    posterior = bayes.hazard_ratio(events, time, normal(0, 0.3), shape=0.5, rate=10)
    close([posterior.below(0), *limits(posterior), posterior.mean], [
        0.758522042236214, -0.670749187556692, -0.176397663227460, 0.316610660941328, -0.176573081542383
    ], rtol=1e-9)  # fmt: skip


def test_conjugate_means_are_student_t():
    # DeGroot (1970), written out: arms worth 4 and 10 patients of means 1 and 2, variance inverse gamma (3, 2)
    prior = bayes.MeansPrior(means=(1.0, 2.0), patients=(4.0, 10.0), shape=3.0, scale=2.0)
    y1, y0 = np.array([2, 3, 4.5, 2.5]), np.array([1, 2, 3, 2.2, 1.4])
    posterior = bayes.two_means(np.concatenate([y1, y0]), np.repeat([1, 0], [4, 5]), prior=prior)
    a = 3 + 9 / 2
    squares = np.sum((y1 - y1.mean()) ** 2) + np.sum((y0 - y0.mean()) ** 2)
    b = 2 + 0.5 * (squares + 4 * 4 / 8 * (y1.mean() - 1) ** 2 + 10 * 5 / 15 * (y0.mean() - 2) ** 2)
    centre = (4 + y1.sum()) / 8 - (20 + y0.sum()) / 15
    student = stats.t(2 * a, centre, np.sqrt(b / a * (1 / 8 + 1 / 15)))
    close(limits(posterior), student.ppf([0.025, 0.5, 0.975]))
    close([posterior.mean, posterior.sd], [student.mean(), student.std()])


# ess() of RBesT 1.8, from its help page (7 digits)
SIZES = [
    (borrowing.robust(beta(10, 2), beta(1, 1), 0.2), None, {"elir": 7.65152, "moment": 3.161034, "morita": 8.487603}),
    (NormalMixture(weights=np.array([0.5, 0.5]), means=np.array([0.0, 3]), sds=np.array([2.0, 4])), 10.0,
     {"elir": 10.82796, "moment": 8.163265}),
    (NormalMixture(weights=np.array([0.5, 0.5]), means=np.array([0.0, 3]), sds=np.array([2.0, 4])), 20.0,
     {"elir": 43.31185}),
    (GammaMixture(weights=np.array([0.3, 0.7]), shapes=np.array([20.0, 50]), rates=np.array([4.0, 10])), None,
     {"elir": 7.159378}),
]  # fmt: skip


@pytest.mark.parametrize(("prior", "unit_sd", "expected"), SIZES)
def test_effective_sample_sizes(prior, unit_sd, expected):
    for method, size in expected.items():
        close(borrowing.effective_sample_size(prior, method, unit_sd=unit_sd), size, rtol=5e-7)


ANKYLOSING = BetaMixture(  # automixfit(gMAP(AS)) of RBesT's introduction
    weights=np.array([0.4612914, 0.1917812, 0.1893896, 0.1575378]),
    a=np.array([33.9513487, 19.4400089, 12.2692310, 2.2521243]),
    b=np.array([103.0146367, 41.5205219, 55.9202833, 5.4812202]),
)


def test_the_mixture_of_the_ankylosing_spondylitis_example():
    close([ANKYLOSING.mean, ANKYLOSING.sd], [0.25545885, 0.08662045], rtol=5e-8)
    # RBesT's own root finder stops at about 1e-5
    close(limits(ANKYLOSING), [0.10730400, 0.24758768, 0.46276759], rtol=1e-4)
    sizes = [borrowing.effective_sample_size(ANKYLOSING, method) for method in ("elir", "moment", "morita")]
    assert [round(float(size)) for size in sizes] == [38, 24, 95]
    robust = borrowing.robust(ANKYLOSING, beta(1, 1), 0.2)
    # printed as 27, where this is 26.502
    assert abs(float(borrowing.effective_sample_size(robust)) - 27) < 0.51


RESPONDERS, PATIENTS = [23, 12, 19, 9, 39, 6, 9, 10], [107, 44, 51, 39, 139, 20, 78, 35]


def test_the_prior_from_the_ankylosing_spondylitis_trials():
    # RBesT's gMAP (half-normal 1, normal(0, 2)) by 4000 MCMC draws: mean 0.255, sd 0.0864, quantiles 0.106, 0.247, 0.461;
    # tau 0.387. Importance sampling of the same model, 150 000 draws: mean 0.25827, sd 0.0873, tau 0.3789.
    found = borrowing.map_prior_of_proportions(RESPONDERS, PATIENTS)
    np.testing.assert_allclose([found.prior.mean, found.prior.sd], [0.25827, 0.0873], atol=4e-4)
    np.testing.assert_allclose(limits(found.prior), [0.106, 0.247, 0.461], atol=0.012)
    np.testing.assert_allclose(found.heterogeneity, 0.3789, atol=2e-3)
    assert found.warnings == 0


def test_a_meta_analytic_predictive_prior():
    # R: tau integrated out with integrate(rel.tol = 1e-13), mu flat, tau half-normal(0.3)
    found = borrowing.map_prior(
        np.array([-0.21, -0.05, -0.32, 0.04, -0.17]), np.array([0.11, 0.08, 0.15, 0.12, 0.07]), heterogeneity=0.3
    )
    close([found.prior.mean, found.prior.sd, found.heterogeneity, *limits(found.prior)], [
        -0.131466617037593, 0.154779676817789, 0.104496856178903, -0.460357997820131, -0.129818620640037,
        0.188457595458997,
    ], rtol=1e-9)  # fmt: skip
    close(found.overall.sd, 0.0755158624780722)


def test_a_robust_control_arm():
    # R: Beta(0.5, 1) and 15 of 24 on the active arm; 80 % Beta(11, 32), 20 % Beta(1, 1) and 2 of 6 on the control arm
    control = borrowing.robust(beta(11, 32), beta(1, 1), 0.2).updated(2, 6)
    close(control.weights, [0.887451180742029, 0.112548819257971])
    posterior = two_proportions(beta(0.5, 1).updated(15, 24), control)
    close([posterior.below(0), *limits(posterior)], [
        0.0146396092837235, 0.0501068342490500, 0.3382466196800776, 0.5572301697278422
    ], rtol=1e-9)  # fmt: skip


def test_assurance_is_power_averaged_over_belief():
    posterior = bayes.effect(estimate(2.0, 0.5, 3), normal(0, 0.4))

    def weighted(truth):
        return posterior.density(truth) * stats.norm.cdf(stats.norm.ppf(0.025) + (0.1 - truth) / 0.3)

    expected = integrate.quad(weighted, -6, 8, epsabs=1e-13, epsrel=1e-11, limit=200)[0]
    close(bayes.assurance(posterior, 0.3, margin=0.1), expected, rtol=1e-9)


def test_matthews_scepticism_limit():
    # Matthews (2001): (U - L)² / (4 sqrt(U L)) for the interval L to U of a log ratio
    lower, upper = np.log([0.53, 0.82])
    se = (upper - lower) / (2 * stats.norm.ppf(0.975))
    tipping = bayes.tipping_sceptic(estimate(np.exp((lower + upper) / 2), se), ratio=True)
    close(np.log(tipping.limit), (upper - lower) ** 2 / (4 * np.sqrt(upper * lower)))


def test_few_trials_and_conflict_are_said():
    few = borrowing.map_prior(np.array([0.1, 0.2]), np.array([0.1, 0.1]), heterogeneity=0.2)
    assert few.warnings == Caution.FEW_STUDIES
    # R: 2 * pnorm(-3 / sqrt(1 + 0.25))
    p, caution = bayes.surprise(estimate(3.0, 1.0), normal(0, 0.5))
    close(p, 0.00729035809153564)
    assert caution == Caution.PRIOR_CONFLICT

"""The link against numbers nobody here computed with it: the random-effects formulas in base R, and a grid by hand."""

import numpy as np
import pytest

from quell.calibrate import link
from quell.keys import jax


def test_random_effects_agree_with_base_r():
    """R 4.2.2, base formulas of DerSimonian and Laird (1986) and Higgins (2009) on ln HR and (ln U - ln L) / (2 * 1.959964)."""
    found = link.pooled()
    assert found == pytest.approx(
        (0.8504401266, 0.7475548441, 0.9674854154, 0.1152665142, 0.5574530874, 1.297415738), rel=1e-6
    )


def test_pathway_likelihood_is_the_multivariate_normal_of_scipy():
    from scipy import stats

    rows, effects, tau = link.comparisons(), np.array([0.3, 0.4, 0.1, 0.2]), 0.1
    found = np.asarray(link.pathway_likelihoods(rows, effects, tau, 2.0, 0.0))
    for place, pathway in enumerate(link.PATHWAYS):
        mine = [one for one in rows if one.pathway == pathway]
        se, x = (np.array([getattr(one, what) for one in mine]) for what in ("error", "lowered"))
        same = np.array([[a.trial == b.trial for b in mine] for a in mine], float)
        covariance = np.outer(se, se) * (np.eye(len(se)) + 0.37 * (same - np.eye(len(se))))
        covariance += 0 if pathway == "interleukin-6" else tau**2 * same
        x = x * (2.0 if pathway == "interleukin-6" else 1.0)
        y = [one.effect for one in mine]
        for column, b in enumerate((effects[place], 0.0)):
            assert found[place, column] == pytest.approx(stats.multivariate_normal.logpdf(y, -b * x, covariance))


@pytest.mark.slow
def test_sampling_agrees_with_importance_sampling_from_the_prior():
    """The posterior by NUTS against 200,000 weighted draws from the prior: another method, the same likelihood."""
    rng, rows, n = np.random.default_rng(9), link.comparisons(), 200_000
    beta, omega, tau = rng.normal(0, 0.5, n), np.abs(rng.normal(0, 0.3, n)), np.abs(rng.normal(0, 0.15, n))
    real, longer = rng.uniform(size=n), np.exp(rng.normal(np.log(2), 0.5, n))
    (level, change) = (4.27, 1.28)
    unsure = rng.normal(0, (1.81 - 0.75) / (2 * 1.959964) / (level - change), n)
    effects = beta[:, None] + omega[:, None] * rng.normal(size=(n, 4))
    both = np.asarray(
        jax.vmap(lambda e, t, g, u: link.pathway_likelihoods(rows, e, t, g, u))(effects, tau, longer, unsure)
    )
    likely = np.logaddexp(np.log(real)[:, None] + both[..., 0], np.log1p(-real)[:, None] + both[..., 1]).sum(axis=1)
    w = np.exp(likely - likely.max())
    found = link.shipped()
    for name, draws in (("beta", beta), ("omega", omega), ("tau", tau), ("real", real)):
        mean = (w * draws).sum() / w.sum()
        spread = np.sqrt((w * (draws - mean) ** 2).sum() / w.sum())
        assert getattr(found, name).mean() == pytest.approx(mean, abs=0.08 * spread), name
        assert getattr(found, name).std() == pytest.approx(spread, rel=0.08), name


@pytest.mark.slow
def test_the_link_that_is_shipped_is_what_a_fit_finds():
    """A shorter fit of another key, within four errors of both: the error of a mean by the effective draws of its chains."""
    from quell.calibrate import diagnose

    held, again = link.shipped(), link.fit(key=99, draws=500)
    for name in link.SAMPLED:
        mean, other = held.chains[name].mean(), again.chains[name].mean()
        spread = held.chains[name].std()
        error = spread * np.sqrt(sum(1 / diagnose.effective(one.chains[name]) for one in (held, again)))
        assert abs(mean - other) <= 4 * error, name
    for one, other in zip(held.effects.T, again.effects.T, strict=True):
        assert abs((one == 0).mean() - (other == 0).mean()) <= 0.05


def test_it_can_say_that_it_could_be_nothing():
    found = link.summary(link.shipped())
    assert 0.1 < found["new"]["nothing"] < 0.5
    assert found["new"]["lower"] <= 0 < found["new"]["median"]
    assert found["pathways"]["methotrexate"]["nothing"] > found["pathways"]["interleukin-6"]["nothing"]
    assert found["divergences"] == 0


def test_chains_of_the_link_agree():
    from quell.calibrate import diagnose

    for name, chains in link.shipped().chains.items():
        assert diagnose.rhat(chains) < 1.01 and diagnose.bulk(chains) > 400 and diagnose.tail(chains) > 400, name

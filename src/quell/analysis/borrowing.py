"""Borrowing from earlier trials: meta-analytic-predictive priors, robust mixtures, and what a prior is worth.

An earlier result (of IVORY, say) becomes a prior for the next trial; a vague component beside it lets the data overrule
it where the two disagree (Schmidli et al. 2014, doi:10.1111/biom.12242). The heterogeneity between trials is integrated
by quadrature, not sampled, so a prior has no Monte Carlo error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from scipy import special

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.mixtures import BetaMixture, GammaMixture, Mixture, NormalMixture, flat, normal

Kind = TypeVar("Kind", bound=Mixture)

# Fewer studies than this draw a caution: their heterogeneity is hardly estimated.
FEW_STUDIES = 5
# The grid of log odds: a power of two of points, far past any proportion, for the fast Fourier transform.
LOGIT_END, LOGIT_POINTS = 60.0, 8192


class HistoricalPrior(NamedTuple):
    """What earlier trials say of the next: the predictive prior, the posterior of the overall mean, and that of the
    heterogeneity tau as nodes and weights (..., Q); cautions (...)."""

    prior: Mixture
    overall: NormalMixture
    tau: np.ndarray
    tau_weights: np.ndarray
    warnings: np.ndarray

    @property
    def heterogeneity(self) -> np.ndarray:
        """Posterior mean of tau (...)."""
        return np.sum(self.tau * self.tau_weights, -1)


def from_study(
    estimate: float, se: float, *, power: float = 1.0, between: float = 0.0, words: str = ""
) -> NormalMixture:
    """A normal prior from one earlier result and its standard error, discounted if asked.

    sd² = se² / power + between²: power prior with exponent `power` in (0, 1] (Ibrahim and Chen 2000), and `between`,
    the standard deviation by which two trials' truths are believed to differ (commensurate prior). Raises ClaimError
    where a number is impossible.

    >>> prior = from_study(-0.17, 0.07, power=0.5)
    >>> round(float(prior.mean), 2), round(float(prior.sd), 4)
    (-0.17, 0.099)
    """
    if not 0 < power <= 1:
        raise ClaimError(
            f"The power of a prior is {power}; it must lie above 0 (nothing borrowed) and at most be 1 (all)."
        )
    if between < 0:
        raise ClaimError(f"The standard deviation between trials is {between}; it cannot be negative.")
    told = words or f"earlier estimate {estimate:.3g} with standard error {se:.3g}"
    told += f", to the power {power:.3g}" if power < 1 else ""
    told += f", widened by {between:.3g} between trials" if between > 0 else ""
    return normal(estimate, np.sqrt(se**2 / power + between**2), told)


def robust(prior: Kind, vague: Kind, weight: float = 0.2) -> Kind:
    """The prior mixed with a vague one of the given weight, so that data in conflict with it overrule it.

    For proportions `beta(1, 1)` is usual; for means a normal with one patient's worth (unit-information). Raises
    ClaimError where the weight is not within (0, 1), the kinds differ, or a flat prior is mixed in.

    >>> from quell.analysis.mixtures import beta
    >>> prior = robust(beta(11, 32), beta(1, 1), 0.2)
    >>> prior.updated(10, 12).weights.round(3).tolist()
    [0.015, 0.985]
    """
    if not 0 < weight < 1:
        raise ClaimError(f"The vague component has weight {weight}; it must lie between 0 and 1, for example 0.2.")
    if type(prior) is not type(vague):
        raise ClaimError(
            f"A {type(prior).__name__} cannot be mixed with a {type(vague).__name__}; give two of one kind."
        )
    if any(np.any(np.isinf(part.sds)) for part in (prior, vague) if isinstance(part, NormalMixture)):
        raise ClaimError(
            "A flat prior has no height to weigh against another; give the vague component a standard deviation."
        )
    batch = np.broadcast_shapes(prior.weights.shape[:-1], vague.weights.shape[:-1])

    def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.concatenate([np.broadcast_to(part, (*batch, part.shape[-1])) for part in (one, other)], -1)

    parameters = {
        name: joined(value, getattr(vague, name))
        for name, value in vars(prior).items()
        if isinstance(value, np.ndarray)
    }
    parameters["weights"] = joined((1 - weight) * prior.weights, weight * vague.weights)
    return replace(prior, **parameters, words=f"{1 - weight:.0%} {prior.words}; {weight:.0%} {vague.words}")


def map_prior(
    estimates: np.ndarray,
    ses: np.ndarray,
    *,
    heterogeneity: float,
    overall: NormalMixture | None = None,
) -> HistoricalPrior:
    """Meta-analytic-predictive prior for the truth of the next trial from earlier estimates and standard errors.

    y_i ~ N(theta_i, s_i²), theta_i ~ N(mu, tau²), tau half-normal with scale `heterogeneity`, mu flat or `overall`
    (one normal); the prior is that of theta of a new trial (Neuenschwander et al. 2010,
    doi:10.1177/1740774509356002). Given tau it is normal; tau is integrated by Gauss-Legendre in asinh(tau /
    smallest s), exact to rounding. estimates, ses (..., trials), NaN where there is none. Raises ClaimError where
    there is no trial, or an error is not positive.

    >>> prior = map_prior(np.array([-0.2, -0.1, -0.3]), np.array([0.1, 0.1, 0.15]), heterogeneity=0.1).prior
    >>> round(float(prior.mean), 4), round(float(prior.sd), 4)
    (-0.1819, 0.1158)
    """
    estimates, ses = np.broadcast_arrays(np.asarray(estimates, float), np.asarray(ses, float))
    present = np.isfinite(estimates) & np.isfinite(ses)
    if estimates.ndim == 0 or not np.all(present.any(-1)):
        raise ClaimError(
            "There is no earlier trial to borrow from; give estimates and standard errors shaped (..., trials)."
        )
    if np.any(present & (ses <= 0)) or not heterogeneity > 0:
        raise ClaimError("Standard errors and the scale of the heterogeneity must be above zero.")
    overall = flat() if overall is None else overall
    if overall.weights.shape[-1] != 1:
        raise ClaimError("The prior of the overall mean is a mixture; give one normal, or none for a flat one.")
    spread = np.where(present, estimates, -np.inf).max(-1) - np.where(present, estimates, np.inf).min(-1)
    # heterogeneity that data far apart force on a prior of little lies near sqrt(spread x scale)
    end = 8.8 * heterogeneity + 3 * np.sqrt(spread * heterogeneity) * estimates.shape[-1] ** 0.25
    tau, step = _tau_nodes(np.where(present, ses, np.inf).min(-1), end)
    variance = np.where(present, ses**2, 1.0)[..., None, :] + tau[..., None] ** 2
    precision = np.where(present[..., None, :], 1 / variance, 0.0)
    own = 1 / overall.sds**2
    total = precision.sum(-1) + own
    values = np.where(present, estimates, 0.0)[..., None, :]
    mean = (np.sum(precision * values, -1) + own * overall.means) / total
    misfit = np.sum(precision * (values - mean[..., None]) ** 2, -1) + own * (mean - overall.means) ** 2
    log_weight = -0.5 * np.sum(np.where(present[..., None, :], np.log(variance), 0.0), -1)
    log_weight = log_weight - 0.5 * (np.log(total) + misfit + (tau / heterogeneity) ** 2)
    weight = step * np.exp(log_weight - log_weight.max(-1, keepdims=True))
    weight = weight / weight.sum(-1, keepdims=True)
    count = present.sum(-1)
    words = _told(int(count.max(initial=0)), heterogeneity)
    prior = NormalMixture(weights=weight, means=mean, sds=np.sqrt(1 / total + tau**2), words=words)
    centre = NormalMixture(
        weights=weight, means=mean, sds=np.sqrt(1 / total), words="overall mean of the earlier trials"
    )
    return HistoricalPrior(prior, centre, tau, weight, flag(count < FEW_STUDIES, Caution.FEW_STUDIES))


def map_prior_of_proportions(
    events: np.ndarray,
    n: np.ndarray,
    *,
    heterogeneity: float = 1.0,
    spread: float = 2.0,
    components: int = 3,
) -> HistoricalPrior:
    """Meta-analytic-predictive prior for a proportion from earlier events and patients, as a mixture of betas.

    events_i ~ binomial(n_i, p_i), logit p_i ~ N(mu, tau²), mu ~ N(0, spread²), tau half-normal (model and defaults of
    R's RBesT, gMAP). Random effects are convolved by Fourier transform on a grid of log odds; the predictive
    distribution is then approximated by the beta mixture nearest to it (least Kullback-Leibler divergence, by
    expectation-maximisation), which can be updated by the next trial's counts. events, n (trials). Raises ClaimError
    where a count is impossible.

    >>> found = map_prior_of_proportions(np.array([23, 12, 19]), np.array([107, 44, 51]))
    >>> round(float(found.prior.mean), 3), round(float(found.prior.sd), 3)
    (0.299, 0.138)
    """
    events, n = np.atleast_1d(np.asarray(events, float)), np.atleast_1d(np.asarray(n, float))
    if events.ndim != 1 or events.shape != n.shape or np.any(events < 0) or np.any(events > n) or not np.all(n >= 1):
        raise ClaimError(
            "Earlier trials need events and patients, one of each per trial: 0 <= events <= n and n of 1 or more."
        )
    points = LOGIT_POINTS * max(1, int(2 ** np.ceil(np.log2(np.sqrt(n.max()) / 60))))
    logit = (np.arange(points) - points // 2) * (2 * LOGIT_END / points)
    peak = special.xlogy(events, events / n) + special.xlogy(n - events, 1 - events / n)
    fit = events[:, None] * special.log_expit(logit) + (n - events)[:, None] * special.log_expit(-logit) - peak[:, None]
    waves = np.fft.rfft(np.exp(fit))
    frequency = 2 * np.pi * np.fft.rfftfreq(points, logit[1] - logit[0])
    tau, step = _tau_nodes(np.array(1 / np.sqrt(n.max())), 8.8 * heterogeneity)
    before = np.exp(-0.5 * (logit / spread) ** 2)
    predictive, overall, weight = np.zeros(points), np.zeros(points), np.zeros(tau.shape)
    for k, at in enumerate(tau):
        blur = np.exp(-0.5 * (at * frequency) ** 2)
        seen = np.maximum(np.fft.irfft(waves * blur, points), 0.0).prod(0) * before
        share = step[k] * np.exp(-0.5 * (at / heterogeneity) ** 2)
        weight[k] = share * seen.sum()
        overall += share * seen
        predictive += share * np.maximum(np.fft.irfft(np.fft.rfft(seen) * blur, points), 0.0)
    words = _told(len(n), heterogeneity)
    prior = _nearest_betas(special.expit(logit), special.expit(-logit), predictive / predictive.sum(), components)
    mean = np.sum(logit * overall) / overall.sum()
    centre = normal(mean, np.sqrt(np.sum((logit - mean) ** 2 * overall) / overall.sum()), "overall log odds (moments)")
    doubt = flag(len(n) < FEW_STUDIES, Caution.FEW_STUDIES)
    return HistoricalPrior(replace(prior, words=words), centre, tau, weight / weight.sum(), doubt)


def effective_sample_size(
    prior: Mixture, method: Literal["elir", "moment", "morita"] = "elir", *, unit_sd: float | None = None
) -> np.ndarray:
    """How many patients' worth of information a prior holds (...).

    "elir": expected local-information ratio, the mean over the prior of its curvature over one patient's Fisher
    information (Neuenschwander et al. 2020, doi:10.1111/biom.13252); "moment": of the conjugate prior with the same
    mean and sd; "morita": the curvature at the mode, less a flattened prior's (Morita et al. 2008, with the
    constants of R's RBesT). Normal priors need unit_sd, the standard deviation of one patient's value (2 for a log
    hazard ratio per event); gamma priors count events' exposure (Poisson). Raises ClaimError where the question has
    no answer.

    >>> from quell.analysis.mixtures import beta
    >>> mixture = robust(beta(10, 2), beta(1, 1), 0.2)
    >>> [round(float(effective_sample_size(mixture, method)), 4) for method in ("elir", "moment", "morita")]
    [7.6515, 3.161, 8.4876]
    """
    if method not in ("elir", "moment", "morita"):
        raise ClaimError(f"The method is '{method}'; choose 'elir', 'moment' or 'morita'.")
    if isinstance(prior, NormalMixture):
        if unit_sd is None or not unit_sd > 0:
            raise ClaimError(
                "A normal prior is worth patients of some spread: give unit_sd, one patient's standard deviation."
            )
        return _normal_size(prior, method, unit_sd)
    if method == "moment":
        mean, variance = prior.mean, prior.sd**2
        return mean * (1 - mean) / variance - 1 if isinstance(prior, BetaMixture) else mean / variance
    if isinstance(prior, BetaMixture):
        return _beta_size(prior, method)
    if isinstance(prior, GammaMixture) and method == "elir":
        return _gamma_size(prior)
    raise ClaimError(f"No '{method}' sample size is defined here for a {type(prior).__name__}; use 'elir' or 'moment'.")


def _tau_nodes(smallest: np.ndarray, largest: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of tau (..., Q) up to the largest and their widths: Gauss-Legendre in asinh(tau / smallest)."""
    end = np.arcsinh(largest / smallest)[..., None]
    panels = max(int(np.ceil(np.max(end, initial=0.0) / 0.9)), 5)
    place, width = _panels(np.linspace(0, 1, panels + 1), 16)
    return smallest[..., None] * np.sinh(end * place), smallest[..., None] * np.cosh(end * place) * end * width


def _told(trials: int, scale: float) -> str:
    return f"meta-analytic-predictive from {trials} earlier trials (half-normal heterogeneity, scale {scale:.3g})"


def _nearest_betas(x: np.ndarray, rest: np.ndarray, mass: np.ndarray, components: int) -> BetaMixture:
    """The mixture of betas nearest to a distribution given by masses at x (rest = 1 - x): expectation-maximisation."""
    used = np.flatnonzero(mass > 1e-13 * mass.max())
    # the logarithm of the odds lies on an even grid, of which a few hundred points hold the whole shape
    used = used[:: max(len(used) // 400, 1)]
    x, rest, mass = x[used], rest[used], mass[used] / mass[used].sum()
    log_x, log_rest = np.log(x), np.log(rest)
    # begin with the distribution's own spread around several of its quantiles
    cumulative = np.cumsum(mass)
    centre = np.interp((np.arange(components) + 0.5) / components, cumulative, x)
    mean = np.sum(mass * x)
    size = mean * (1 - mean) / np.sum(mass * (x - mean) ** 2) - 1
    a, b = centre * size * 1.5 ** np.arange(components), (1 - centre) * size * 1.5 ** np.arange(components)
    weight, before = np.full(components, 1 / components), -np.inf
    for _ in range(3000):
        height = (a[:, None] - 1) * log_x + (b[:, None] - 1) * log_rest - special.betaln(a, b)[:, None]
        joint = np.log(weight)[:, None] + height
        total = special.logsumexp(joint, axis=0)
        share = np.exp(joint - total) * mass
        weight = np.maximum(share.sum(-1), 1e-12)
        a, b = _beta_fit(share @ log_x / weight, share @ log_rest / weight, a, b)
        weight = weight / weight.sum()
        fit = float(np.sum(mass * total))
        if fit - before < 1e-9:
            break
        before = fit
    order = np.argsort(-weight)
    return BetaMixture(weights=weight[order], a=a[order], b=b[order])


def _beta_fit(log_x: np.ndarray, log_rest: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters with these mean logarithms, by Newton's method on the digamma equations from where they are."""
    for _ in range(20):
        both = special.digamma(a + b)
        miss = special.digamma(a) - both - log_x, special.digamma(b) - both - log_rest
        shared, of_a, of_b = (special.polygamma(1, part) for part in (a + b, a, b))
        determinant = (of_a - shared) * (of_b - shared) - shared**2
        step_a = ((of_b - shared) * miss[0] + shared * miss[1]) / determinant
        step_b = ((of_a - shared) * miss[1] + shared * miss[0]) / determinant
        a, b = np.where(step_a < a, a - step_a, a / 2), np.where(step_b < b, b - step_b, b / 2)
        if np.all(np.abs(step_a) <= 1e-12 * a) and np.all(np.abs(step_b) <= 1e-12 * b):
            break
    return a, b


def _panels(breaks: np.ndarray, nodes: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights (..., Q) between the sorted break points (..., P)."""
    breaks = np.sort(breaks, -1)
    x, weight = np.polynomial.legendre.leggauss(nodes)
    width = np.diff(breaks, axis=-1)[..., None]
    at = breaks[..., :-1, None] + width * (x + 1) / 2
    flat_shape = (*breaks.shape[:-1], at.shape[-2] * nodes)
    return at.reshape(flat_shape), (width * weight / 2).reshape(flat_shape)


# The breaks between panels of integration, in standard deviations from each component's mean: densest where the mass is.
STEPS = np.array([-9.0, -6.5, -5, -4, -3, -2.25, -1.5, -0.75, 0, 0.75, 1.5, 2.25, 3, 4, 5, 6.5, 9])


def _curvature(log_height: np.ndarray, slope: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Density and minus the second derivative of its logarithm, from the components' (..., K) logarithms,
    first and second derivatives of the logarithms."""
    total = special.logsumexp(log_height, axis=-1)
    share = np.exp(log_height - total[..., None])
    gradient = np.sum(share * slope, -1)
    return np.exp(total), gradient**2 - np.sum(share * (bend + slope**2), -1)


def _normal_size(prior: NormalMixture, method: str, unit_sd: float) -> np.ndarray:
    if method == "moment":
        return unit_sd**2 / prior.sd**2
    means, sds = prior.means, prior.sds

    def shape(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope = -(x[..., None] - means[..., None, :]) / sds[..., None, :] ** 2
        with np.errstate(divide="ignore"):
            log_height = np.log(prior.weights)[..., None, :] + 0.5 * slope * (x[..., None] - means[..., None, :])
        log_height = log_height - np.log(sds)[..., None, :] - 0.5 * np.log(2 * np.pi)
        return _curvature(log_height, slope, np.broadcast_to(-1 / sds[..., None, :] ** 2, slope.shape))

    breaks = (means[..., None] + sds[..., None] * STEPS).reshape(*means.shape[:-1], means.shape[-1] * len(STEPS))
    if method == "elir":
        x, width = _panels(breaks)
        height, curvature = shape(x)
        return unit_sd**2 * np.sum(width * height * curvature, -1)
    mode = _mode(lambda x: shape(x)[0], breaks)
    return unit_sd**2 * (shape(mode)[1][..., 0] - 1 / (100 * (sds**2).max(-1)))


def _beta_size(prior: BetaMixture, method: str) -> np.ndarray:
    a, b = prior.a[..., None, :], prior.b[..., None, :]
    if method == "elir" and (np.any(prior.a < 1) or np.any(prior.b < 1)):
        raise ClaimError("A beta component has a parameter below 1: its curvature has no mean. Use method='moment'.")

    def shape(logit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, rest = special.expit(logit)[..., None], special.expit(-logit)[..., None]
        log_x, log_rest = special.log_expit(logit)[..., None], special.log_expit(-logit)[..., None]
        log_height = (a - 1) * log_x + (b - 1) * log_rest - special.betaln(a, b) + np.log(prior.weights)[..., None, :]
        return _curvature(log_height, (a - 1) / x - (b - 1) / rest, -(a - 1) / x**2 - (b - 1) / rest**2)

    mean = special.digamma(prior.a) - special.digamma(prior.b)
    sd = np.sqrt(special.polygamma(1, prior.a) + special.polygamma(1, prior.b))
    breaks = (mean[..., None] + sd[..., None] * STEPS).reshape(*mean.shape[:-1], mean.shape[-1] * len(STEPS))
    if method == "elir":
        ends = np.array([-150.0, -80, -40, -25, -15, -8, 8, 15, 25, 40, 80, 150])
        ends = np.broadcast_to(ends, (*mean.shape[:-1], len(ends)))
        logit, width = _panels(np.concatenate([breaks, ends], -1))
        height, curvature = shape(logit)
        # one patient's information is 1 / (x (1 - x)), and x (1 - x) again for integrating over the logit
        ratio = np.exp(2 * (special.log_expit(logit) + special.log_expit(-logit)))
        return np.sum(width * height * curvature * ratio, -1)
    logit = _mode(lambda at: shape(at)[0], breaks)
    x = special.expit(logit)[..., 0]
    expected = prior.mean / x**2 + (1 - prior.mean) / (1 - x) ** 2
    flattened = (x / 100 - 1) / x**2 + ((1 - x) / 100 - 1) / (1 - x) ** 2
    return (shape(logit)[1][..., 0] - flattened) / expected


def _gamma_size(prior: GammaMixture) -> np.ndarray:
    if np.any(prior.shapes <= 1):
        raise ClaimError("A gamma component has a shape of 1 or less: its curvature has no mean. Use method='moment'.")
    shapes, rates = prior.shapes[..., None, :], prior.rates[..., None, :]
    centre, sd = special.digamma(prior.shapes) - np.log(prior.rates), np.sqrt(special.polygamma(1, prior.shapes))
    # the logarithm of a gamma value has a long lower tail
    steps = np.append(STEPS, [-14.0, -20, -30, -50])
    breaks = (centre[..., None] + sd[..., None] * steps).reshape(*centre.shape[:-1], centre.shape[-1] * len(steps))
    log_rate, width = _panels(breaks)
    x = np.exp(log_rate)[..., None]
    log_height = shapes * np.log(rates) + (shapes - 1) * log_rate[..., None] - rates * x - special.gammaln(shapes)
    log_height = log_height + np.log(prior.weights)[..., None, :]
    height, curvature = _curvature(log_height, (shapes - 1) / x - rates, -(shapes - 1) / x**2)
    return np.sum(width * height * curvature * x[..., 0] ** 2, -1)


def _mode(height: Any, breaks: np.ndarray) -> np.ndarray:
    """Where a density is highest, (..., 1): the best of a fine grid, narrowed by golden sections."""
    breaks = np.sort(breaks, -1)
    grid, _ = _panels(breaks, 8)
    best = height(grid).argmax(-1)[..., None]
    low = np.take_along_axis(grid, np.maximum(best - 1, 0), -1)
    high = np.take_along_axis(grid, np.minimum(best + 1, grid.shape[-1] - 1), -1)
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        rising = height(left) < height(right)
        low, high = np.where(rising, left, low), np.where(rising, high, right)
    return (low + high) / 2

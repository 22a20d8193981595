"""Bayesian readings of the primary analyses: what the data leave one to believe, starting from a stated prior.

Priors and posteriors are `mixtures` (or, for two arms, `posteriors`): conjugate, or integrated by quadrature, never
sampled. A posterior answers directly: `.below(x)` and `.above(x)` are chances, `.quantile(q)` limits; `reading` makes
the `Estimate` of it. Effects are on the scale of the estimate: a difference, or the logarithm of a ratio.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis import piecewise
from quell.analysis.armcounts import contrast_arms
from quell.analysis.claim import Caution, ClaimError, Estimate, critical, exponentiate, flag
from quell.analysis.mixtures import Mixture, NormalMixture, flat, normal
from quell.analysis.posteriors import Tabulated, tabulated

# A prior under which data this unlikely, or less, are called surprising (Box 1980).
SURPRISING = 0.05
# Standard deviations of a log hazard ratio's posterior that are integrated on either side of its mode.
REACH = 12.0


def sceptical(alternative: float, chance: float = 0.05) -> NormalMixture:
    """A sceptic's normal prior: no effect on average, and a small chance of an effect beyond the alternative.

    Spiegelhalter, Freedman and Parmar (1994, doi:10.2307/2983527): mean 0, sd = |alternative| / z(1 - chance).
    alternative is a difference or a log ratio. Raises ClaimError where it is zero or the chance not in (0, 0.5).

    >>> round(float(sceptical(np.log(0.7)).sd), 4)
    0.2168
    """
    sd = abs(alternative) / _tail(chance, alternative)
    words = f"sceptical: normal with mean 0 and a {chance:.0%} chance of an effect beyond {alternative:.3g}"
    return normal(0.0, sd, words)


def enthusiastic(alternative: float, chance: float = 0.05) -> NormalMixture:
    """An enthusiast's normal prior: the alternative on average, and a small chance of no effect or the opposite.

    As `sceptical`, with mean at the alternative.

    >>> round(float(enthusiastic(np.log(0.7)).below(0)), 4)
    0.95
    """
    sd = abs(alternative) / _tail(chance, alternative)
    words = f"enthusiastic: normal with mean {alternative:.3g} and a {chance:.0%} chance of no effect or the opposite"
    return normal(alternative, sd, words)


def effect(
    result: Estimate,
    prior: NormalMixture,
    *,
    ratio: bool = False,
    likelihood: Literal["t", "normal"] = "t",
) -> NormalMixture:
    """The posterior of an effect from its estimate: a normal (mixture) prior times the estimate's likelihood.

    Where the estimate has degrees of freedom (ANCOVA, t test) the likelihood "t" is exact for normal outcomes with flat
    priors on the other coefficients and the logarithm of the error: t on df about the estimate, taken as a normal whose
    variance is integrated by quadrature. Without degrees of freedom (Cox), or with "normal", the standard error counts
    as known. `ratio=True` says that the estimate is a ratio with the se of its logarithm; prior and posterior are then
    on the log scale. Where nothing was estimated the posterior is not defined (NaN).

    >>> ancova = Estimate(*map(np.asarray, (-0.17, 0.07, -0.31, -0.03, -2.43, 57.0, 0.018, 60, 0)))
    >>> posterior = effect(ancova, sceptical(-0.15))
    >>> round(float(posterior.mean), 4), round(float(posterior.below(0)), 4)
    (-0.1058, 0.9679)
    """
    if likelihood not in ("t", "normal"):
        raise ClaimError(f"The likelihood is '{likelihood}'; choose 't' or 'normal'.")
    estimate, se = _on_scale(result, ratio)
    df = np.broadcast_to(np.asarray(result.df, float), estimate.shape)
    known = np.isfinite(estimate) & (se > 0) & np.isfinite(se)
    estimate, se = np.where(known, estimate, 0.0), np.where(known, se, 1.0)
    df = np.where(np.isfinite(df) & (df > 0), df, np.inf)
    if likelihood == "normal" or np.all(np.isinf(df)):
        posterior = prior.updated(estimate, se)
    else:
        posterior = _student(prior, estimate, se, df)
    words = f"posterior from the prior: {prior.words}" if prior.words else ""
    return replace(posterior, weights=np.where(known[..., None], posterior.weights, np.nan), words=words)


def reading(
    posterior: Mixture,
    n: Any,
    *,
    level: float = 0.95,
    centre: Literal["mean", "median"] = "median",
    ratio: bool = False,
    warnings: Any = 0,
) -> Estimate:
    """The posterior as an estimate: its median (or mean), standard deviation and equal-tailed credible interval.

    Statistic, df and p are NaN: ask the posterior for chances instead. `ratio=True` exponentiates centre and limits of
    a posterior on the log scale, se staying that of the logarithm; the centre is then the median (the mean of a ratio
    is not the exponential of its mean log). n (...) patients. Raises ClaimError where a name is unknown.

    >>> result = reading(normal(-0.3, 0.1), 60, ratio=True)
    >>> [round(float(value), 4) for value in (result.estimate, result.lower, result.upper)]
    [0.7408, 0.609, 0.9012]
    """
    if centre not in ("mean", "median"):
        raise ClaimError(f"The centre is '{centre}'; choose 'mean' or 'median'.")
    critical(level)
    middle = posterior.mean if centre == "mean" and not ratio else posterior.quantile(0.5)
    lower, upper = posterior.quantile((1 - level) / 2), posterior.quantile((1 + level) / 2)
    none = np.full(middle.shape, np.nan)
    n = np.broadcast_to(np.asarray(n), middle.shape)
    warnings = np.asarray(warnings) | flag(np.isnan(middle), Caution.NOT_ESTIMABLE)
    sd = np.broadcast_to(posterior.sd, middle.shape)
    result = Estimate(middle, sd, lower, upper, none, none, none, n, np.broadcast_to(warnings, middle.shape), level)
    return exponentiate(result) if ratio else result


def surprise(result: Estimate, prior: NormalMixture, *, ratio: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """How surprising the estimate is under the prior: Box's two-sided predictive p, and the caution it earns (...).

    Box (1980, doi:10.2307/2982063), for the normal likelihood; p below 0.05 is a conflict of prior and data.

    >>> p, caution = surprise(Estimate(*map(np.asarray, (3.0, 1.0, 1, 5, 3, np.inf, 0.003, 40, 0))), normal(0, 0.5))
    >>> round(float(p), 4), int(caution) == Caution.PRIOR_CONFLICT
    (0.0073, True)
    """
    estimate, se = _on_scale(result, ratio)
    chance = prior.predicted(se).below(estimate)
    p = 2 * np.minimum(chance, 1 - chance)
    return p, flag(p < SURPRISING, Caution.PRIOR_CONFLICT)


def assurance(
    posterior: Mixture,
    next_se: Any,
    *,
    alpha: float = 0.025,
    favours: Literal["lower", "higher"] = "lower",
    margin: float = 0.0,
) -> np.ndarray:
    """The chance that a next trial with standard error next_se succeeds, given all that is believed now (assurance).

    Success is a one-sided test at alpha of the effect against `margin`: the power of the next trial averaged over the
    posterior (Spiegelhalter and Freedman 1986; O'Hagan et al. 2005, doi:10.1002/pst.175). next_se (...) is for example
    sd sqrt(1/n1 + 1/n0) for means and 2 / sqrt(events) for a log hazard ratio with equal arms. Raises ClaimError where
    alpha or the direction is impossible.

    >>> round(float(assurance(normal(-0.2, 0.1), 0.08)), 4)
    0.6321
    """
    if not 0 < alpha < 1:
        raise ClaimError(f"The one-sided alpha is {alpha}; it must lie between 0 and 1, for example 0.025.")
    if favours not in ("lower", "higher"):
        raise ClaimError(f"Success favours '{favours}'; choose 'lower' or 'higher'.")
    next_se = np.asarray(next_se, float)
    sign = 1.0 if favours == "lower" else -1.0
    z = special.ndtri(alpha)

    # the next estimate is truth + se x Z: where the truth must lie for success, over the chance Z
    if isinstance(posterior, NormalMixture):
        spread = np.hypot(posterior.sds, next_se[..., None])
        reach = (z * next_se[..., None] + sign * (margin - posterior.means)) / spread
        return np.sum(posterior.weights * special.ndtr(reach), -1)
    chance = np.linspace(-REACH, REACH, 241)
    mass = np.exp(-0.5 * chance**2)
    edges = margin + sign * z * next_se[..., None] - next_se[..., None] * chance
    lies_below = np.stack([posterior.below(edges[..., k]) for k in range(len(chance))], -1)
    return np.sum(mass * (lies_below if favours == "lower" else 1 - lies_below), -1) / mass.sum()


def bayes_factor(result: Estimate, prior: NormalMixture, *, ratio: bool = False) -> np.ndarray:
    """Bayes factor of an effect drawn from the prior against no effect at all: above 1 the data speak for an effect.

    Density of the estimate under the prior over its density under zero, for the normal likelihood (Jeffreys 1961).

    >>> result = Estimate(*map(np.asarray, (-0.3, 0.1, -0.5, -0.1, -3.0, np.inf, 0.003, 40, 0)))
    >>> round(float(bayes_factor(result, normal(0, 0.2))), 3)
    16.367
    """
    estimate, se = _on_scale(result, ratio)
    if np.any(np.isinf(prior.sds)):
        raise ClaimError(
            "A flat prior has no Bayes factor: it foresees every result equally little. Give a proper prior."
        )
    foreseen = prior.log_foresight(estimate[..., None], se[..., None])
    null = -0.5 * (estimate / se) ** 2 - np.log(se) - 0.5 * np.log(2 * np.pi)
    return np.sum(prior.weights * np.exp(foreseen - null[..., None]), -1)


class Tipping(NamedTuple):
    """The sceptical prior that just undoes a result (...): its standard deviation, and its limit at the level.

    A sceptic whose prior interval lies within ± limit (for a ratio: between 1 / limit and limit) is not convinced; NaN
    where the result is not significant to begin with, and nothing is there to undo.
    """

    sd: np.ndarray
    limit: np.ndarray


def tipping_sceptic(result: Estimate, *, ratio: bool = False, level: float = 0.95) -> Tipping:
    """How sceptical one must be not to be convinced: the prior about no effect whose posterior interval touches it.

    sd² = se² / (z² / z_level² - 1) (Matthews 2001, doi:10.1016/S0378-3758(00)00232-9; Held 2019); its limit is
    Matthews's scepticism limit, (U - L)² / (4 sqrt(U L)) in terms of the interval L to U.

    >>> result = Estimate(*map(np.asarray, (0.66, 0.1, 0, 0, 0, np.inf, 0, 1703, 0)))
    >>> tipping = tipping_sceptic(result, ratio=True)
    >>> round(float(tipping.sd), 4), round(float(tipping.limit), 4)
    (0.0535, 1.1105)
    """
    estimate, se = _on_scale(result, ratio)
    bar = critical(level)
    excess = (estimate / se / bar) ** 2 - 1
    significant = excess > 0
    sd = np.where(significant, se / np.sqrt(np.where(significant, excess, 1.0)), np.nan)
    limit = bar * sd
    return Tipping(sd, np.exp(limit) if ratio else limit)


class MeansPrior(NamedTuple):
    """Normal-inverse-gamma prior of two arms with one variance: mean of each arm, worth `patients` of it; and the
    variance, inverse gamma with `shape` and `scale`. Zeros are the reference prior, which repeats Student's t."""

    means: tuple[float, float] = (0.0, 0.0)
    patients: tuple[float, float] = (0.0, 0.0)
    shape: float = 0.0
    scale: float = 0.0

    @property
    def words(self) -> str:
        if not any((*self.patients, self.shape, self.scale)):
            return "reference prior (flat means, flat logarithm of the variance)"
        arms = " and ".join(f"{m:.4g} worth {k:.4g} patients" for m, k in zip(self.means, self.patients, strict=True))
        return f"normal-inverse-gamma: means {arms}; variance inverse gamma ({self.shape:.4g}, {self.scale:.4g})"


REFERENCE = MeansPrior()


def two_means(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    prior: MeansPrior = REFERENCE,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
) -> NormalMixture:
    """The posterior of a difference in means, active minus control, by the conjugate normal-inverse-gamma prior.

    With k patients' worth of prior mean m in an arm of n: posterior mean (k m + n y) / (k + n); the difference is t on
    2 a' degrees of freedom with variance (b'/a') (1/(k1 + n1) + 1/(k0 + n0)), a' = a + (N - flat arms)/2, b' = b + half
    of the sums of squares within arms and of n k (y - m)² / (n + k) (DeGroot 1970). outcome, arm and include (..., n);
    missing outcomes are left out. Raises ClaimError where a prior number is negative.

    >>> posterior = two_means(np.array([1.0, 2.0, 3.0, 2.0, 3.0, 4.5]), np.array([0, 0, 0, 1, 1, 1]))
    >>> round(float(posterior.quantile(0.025)), 4), round(float(posterior.quantile(0.975)), 4)
    (-1.4098, 3.7431)
    """
    if min(*prior.patients, prior.shape, prior.scale) < 0:
        raise ClaimError(
            "A normal-inverse-gamma prior has a negative number of patients, shape or scale; zero is the least."
        )
    outcome, arm = np.broadcast_arrays(np.asarray(outcome, float), np.asarray(arm, float))
    kept = np.isfinite(outcome) & (True if include is None else np.asarray(include, bool))
    shape, scale = np.asarray(prior.shape, float), np.asarray(prior.scale, float)
    means, variances = [], []
    for code, centre, worth in zip(contrast, prior.means, prior.patients, strict=True):
        mine = kept & (arm == code)
        n = mine.sum(-1).astype(float)
        average = np.where(mine, outcome, 0.0).sum(-1) / np.maximum(n, 1)
        squares = np.where(mine, outcome - average[..., None], 0.0)
        total = np.where(n + worth > 0, n + worth, np.nan)
        scale = scale + 0.5 * np.sum(squares**2, -1) + 0.5 * n * worth / total * (average - centre) ** 2
        shape = shape + 0.5 * (n - (worth == 0))
        means.append((n * average + worth * centre) / total)
        variances.append(1 / total)
    shape = np.where(shape > 0, shape, np.nan)
    se = np.sqrt(scale / shape * (variances[0] + variances[1]))
    none = np.full(se.shape, np.nan)
    as_estimate = Estimate(means[0] - means[1], se, none, none, none, 2 * shape, none, none, none)
    return replace(effect(as_estimate, flat()), words=prior.words)


def hazard_ratio(
    events: np.ndarray,
    time: np.ndarray,
    prior: NormalMixture,
    *,
    shape: Any = 0.0,
    rate: Any = 0.0,
) -> Tabulated:
    """The exact posterior of a log hazard ratio when hazards are constant within intervals and proportional throughout.

    events and time (..., intervals, 2): events and time at risk of the control, then the active arm (see
    `person_time`). With independent Gamma(shape, rate) priors on the intervals' control hazards these integrate away,

        p(b | data) proportional to p(b) exp(b D1) product over j of (rate + E0j + exp(b) E1j)^-(shape + Dj),

    and one dimension is left for quadrature; zeros give the prior 1/hazard. Under a flat prior an arm without events
    has no posterior (NaN). Raises ClaimError where shapes do not match.

    >>> posterior = hazard_ratio(np.array([[10, 6]]), np.array([[100.0, 110.0]]), flat())
    >>> round(float(np.exp(posterior.quantile(0.5))), 4), round(float(posterior.below(0)), 4)
    (0.5332, 0.8887)
    """
    events, time = np.broadcast_arrays(np.asarray(events, float), np.asarray(time, float))
    if events.ndim < 2 or events.shape[-1] != 2:
        raise ClaimError(
            f"Events and time have shape {events.shape}; give (..., intervals, 2): control, then active arm."
        )
    power = (shape + events.sum(-1))[..., None]
    at_risk0, at_risk1 = (rate + time[..., 0])[..., None], time[..., 1][..., None]
    died = events[..., 1].sum(-1)[..., None]
    occupied = (power > 0) & (at_risk0 + at_risk1 > 0)
    at_risk0 = np.where(occupied, at_risk0, 1.0)

    def log_density(b: np.ndarray) -> np.ndarray:
        hazard = np.where(occupied, power, 0.0) * np.log(at_risk0 + at_risk1 * np.exp(b)[..., None, :])
        fit = died * b - hazard.sum(-2)
        if np.all(np.isinf(prior.sds)):
            return fit
        return fit + special.logsumexp(
            -0.5 * ((b[..., None] - prior.means[..., None, :]) / prior.sds[..., None, :]) ** 2,
            b=(prior.weights / prior.sds)[..., None, :],
            axis=-1,
        )

    # under a flat prior an arm without events leaves the posterior without an end
    endless = np.isinf(prior.sds).all(-1, keepdims=True) & ((died == 0) | (events[..., 0].sum(-1)[..., None] == 0))
    low, high = _support(log_density, np.broadcast_to(endless, died.shape), prior)
    words = f"piecewise exponential; log hazard ratio: {prior.words}"
    posterior = tabulated(log_density, low, high, words)
    return replace(posterior, weights=np.where(endless, np.nan, posterior.weights))


def person_time(
    time: np.ndarray,
    event: np.ndarray,
    arm: np.ndarray,
    cuts: tuple[float, ...] = (),
    *,
    contrast: tuple[int, int] = (1, 0),
    include: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Events and time at risk between the cuts, control then active arm: two arrays (..., intervals, 2).

    time, event, arm and include (..., n); an event on a cut belongs to the interval it ends. Who has a missing time or
    event is left out. It is `piecewise.person_time` of two arms; raises ClaimError as that does.

    >>> events, at_risk = person_time(np.array([5.0, 9, 3, 9]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1]), (4.0,))
    >>> events.tolist(), at_risk.tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [[8.0, 7.0], [6.0, 5.0]])
    """
    counted = piecewise.person_time(time, event, contrast_arms(arm, contrast), cuts=cuts, include=include)
    events, at_risk = (np.swapaxes(field, -1, -2).astype(float) for field in (counted.events, counted.days))
    return events, at_risk


def _tail(chance: float, alternative: float) -> float:
    if not 0 < chance < 0.5:
        raise ClaimError(
            f"The chance in the prior's tail is {chance}; it must lie between 0 and 0.5, for example 0.05."
        )
    if alternative == 0 or not np.isfinite(alternative):
        raise ClaimError(
            "The alternative is no effect; give the effect the trial was planned for (a log ratio for ratios)."
        )
    return float(special.ndtri(1 - chance))


def _on_scale(result: Estimate, ratio: bool) -> tuple[np.ndarray, np.ndarray]:
    """Estimate and se on the scale of the effect: the logarithm for ratios."""
    estimate, se = np.broadcast_arrays(np.asarray(result.estimate, float), np.asarray(result.se, float))
    se = np.where(se > 0, se, np.nan)
    if not ratio:
        return estimate, se
    positive = estimate > 0
    return np.where(positive, np.log(np.where(positive, estimate, 1.0)), np.nan), se


def _student(prior: NormalMixture, estimate: np.ndarray, se: np.ndarray, df: np.ndarray) -> NormalMixture:
    """Normal (mixture) prior times a t likelihood, the t a normal with precision g / se², g ~ Gamma(df/2, df/2).

    Log g lies on an even grid (a trapezoid sum of an analytic function, exact to rounding), from where its posterior
    can begin if the estimate is as far from the prior as it is, to where it must end.
    """
    some = np.where(np.isinf(df), 1e12, df)[..., None]
    far = np.max(
        ((estimate[..., None] - np.where(np.isinf(prior.sds), estimate[..., None], prior.means)) / se[..., None]) ** 2,
        -1,
    )
    ends = 80 / some
    low = np.log((some + 1) / (some + far[..., None])) - ends - np.sqrt(2 * ends)
    high = np.log1p(ends + np.sqrt(2 * ends))
    count = int(np.clip(np.max(high - low, initial=0.0) / 0.2, 81, 600))
    grid = low + (high - low) * np.linspace(0, 1, count)
    # the density of log g, relative to its value at g = 1
    log_weight = 0.5 * some * (grid - np.expm1(grid))
    spread = se[..., None] * np.exp(-grid / 2)
    base = NormalMixture(
        weights=prior.weights[..., None, :], means=prior.means[..., None, :], sds=prior.sds[..., None, :]
    )
    there, error = estimate[..., None, None], spread[..., None]
    pull = 1 / (1 + base.sds**2 / error**2)
    means = np.where(np.isinf(base.sds), there, there + pull * (base.means - there))
    sds = np.broadcast_to(1 / np.sqrt(1 / base.sds**2 + 1 / error**2), means.shape)
    with np.errstate(divide="ignore"):
        log_weight = log_weight[..., None] + base.log_foresight(there, error) + np.log(base.weights)
    log_weight = np.broadcast_to(log_weight, means.shape)
    flat_shape = (*means.shape[:-2], means.shape[-2] * means.shape[-1])
    means, sds, log_weight = (part.reshape(flat_shape) for part in (means, sds, log_weight))
    weight = np.exp(log_weight - log_weight.max(-1, keepdims=True))
    return NormalMixture(weights=weight / weight.sum(-1, keepdims=True), means=means, sds=sds)


def _support(log_density: Any, endless: np.ndarray, prior: NormalMixture) -> tuple[np.ndarray, np.ndarray]:
    """Where a log hazard ratio's posterior has its mass, (..., 1): a wide grid, narrowed to where the density is."""
    flat_prior = np.isinf(prior.sds).all(-1, keepdims=True)
    reach = np.abs(prior.means) + REACH * np.where(np.isinf(prior.sds), 1.0, prior.sds)
    end = np.where(flat_prior, 40.0, reach.max(-1, keepdims=True))
    low, high = np.broadcast_to(-end, endless.shape), np.broadcast_to(end, endless.shape)
    for _ in range(12):
        grid = low + (high - low) * np.linspace(0, 1, 401)
        height = log_density(grid)
        inside = height > height.max(-1, keepdims=True) - 45
        first, last = inside.argmax(-1), 400 - inside[..., ::-1].argmax(-1)
        left = np.take_along_axis(grid, np.maximum(first - 1, 0)[..., None], -1)
        right = np.take_along_axis(grid, np.minimum(last + 1, 400)[..., None], -1)
        if np.all((right - left) > 0.5 * (high - low)):
            break
        low, high = np.where(endless, low, left), np.where(endless, high, right)
    return low, high

"""What is believed, as mixtures of normal, beta or gamma distributions: priors, posteriors, and their words.

Mixtures are closed under everything done with them here: data update every component by its own conjugate rule and the
weights by how well each component foresaw the data, w_k' proportional to w_k times its marginal likelihood, so that no
sampling is needed. Components lie on the last axis, (..., K) over any batch of trials. Scale mixtures of normals also
hold Student's t and the predictions of a hierarchical model, with one component for each node of an exact quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError

NEWTON_STEPS = 100
LOG_ROOT_TWO_PI = 0.5 * np.log(2 * np.pi)


@dataclass(frozen=True, eq=False, kw_only=True)
class Mixture:
    """A distribution for each trial of a batch as weighted components; weights (..., K) sum to one.

    `words` says it in the words of a methods section.
    """

    weights: np.ndarray
    words: str = ""

    def component_below(self, x: np.ndarray) -> np.ndarray:
        """Chance of each component below x, both (..., K)."""
        raise NotImplementedError

    def component_density(self, x: np.ndarray) -> np.ndarray:
        """Density of each component at x, both (..., K)."""
        raise NotImplementedError

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of each component (..., K)."""
        raise NotImplementedError

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values between which the quantile lies, each (...)."""
        raise NotImplementedError

    @property
    def mean(self) -> np.ndarray:
        means, _ = self.component_moments()
        return np.sum(self.weights * means, -1)

    @property
    def sd(self) -> np.ndarray:
        means, variances = self.component_moments()
        spread = (means - self.mean[..., None]) ** 2
        return np.sqrt(np.sum(self.weights * (variances + spread), -1))

    def below(self, x: Any) -> np.ndarray:
        """Chance of a value below x (...)."""
        return np.sum(self.weights * self.component_below(np.asarray(x, float)[..., None]), -1)

    def above(self, x: Any) -> np.ndarray:
        """Chance of a value above x (...)."""
        return 1 - self.below(x)

    def density(self, x: Any) -> np.ndarray:
        """Density at x (...)."""
        return np.sum(self.weights * self.component_density(np.asarray(x, float)[..., None]), -1)

    def quantile(self, q: Any) -> np.ndarray:
        """The value below which the chance is q (...), by Newton's method kept within a shrinking bracket."""
        q = np.broadcast_to(np.asarray(q, float), np.broadcast_shapes(np.shape(q), np.shape(self.mean)))
        known = np.isfinite(self.weights).all(-1) & np.isfinite(self.sd)
        low, high = (np.where(known, np.broadcast_to(end, q.shape), 0.0) for end in self.bracket(q))
        # begin where a normal distribution with this mean and sd has its quantile
        scale, span = np.where(known, self.sd, 1.0), high - low
        x = np.clip(np.where(known, self.mean, 0.0) + special.ndtri(q) * scale, low + span / 100, high - span / 100)
        previous, settled = np.full(q.shape, np.inf), ~known
        for _ in range(NEWTON_STEPS):
            excess = self.below(x) - q
            low, high = np.where(excess < 0, x, low), np.where(excess >= 0, x, high)
            slope = self.density(x)
            # a step that did not halve the excess (an infinite density, a flat tail) is followed by a halving
            usable = (slope > 1e-200) & (slope < 1e200) & (np.abs(excess) <= previous / 2)
            previous = np.abs(excess)
            step = x - excess / np.where(usable, slope, 1.0)
            usable = usable & (step >= low) & (step <= high)
            following = np.where(usable, step, (low + high) / 2)
            # Newton's step squares the error: after one from so near there is nothing left to do
            last = usable & (previous <= 1e-8 * np.minimum(q, 1 - q))
            stays = settled | (excess == 0)
            x = np.where(stays, x, following)
            settled = stays | last | (high - low <= 1e-15 * np.abs(x))
            if np.all(settled):
                break
        return np.where(known, x, np.nan)

    def reweighted(self, log_likelihood: np.ndarray, **parameters: Any) -> Self:
        """The same family after data that each component foresaw with this log marginal likelihood (..., K)."""
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weights) + log_likelihood
        top = log_weight.max(-1, keepdims=True)
        weight = np.exp(log_weight - np.where(np.isfinite(top), top, 0.0))
        return replace(self, weights=weight / weight.sum(-1, keepdims=True), **parameters)


@dataclass(frozen=True, eq=False, kw_only=True)
class NormalMixture(Mixture):
    """A mixture of normal distributions; one component with an infinite sd is the flat (improper) prior.

    >>> posterior = normal(0.0, 0.5).updated(-0.4, 0.25)
    >>> round(float(posterior.mean), 3), round(float(posterior.sd), 4), round(float(posterior.below(0)), 4)
    (-0.32, 0.2236, 0.9238)
    """

    means: np.ndarray
    sds: np.ndarray

    def component_below(self, x: np.ndarray) -> np.ndarray:
        return special.ndtr((x - self.means) / self.sds)

    def component_density(self, x: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((x - self.means) / self.sds) ** 2 - LOG_ROOT_TWO_PI) / self.sds

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        return self.means, self.sds**2

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sds = np.where(np.isinf(self.sds), 1.0, self.sds)
        points = self.means + special.ndtri(q)[..., None] * sds
        # components that data have ruled out need not be searched
        points = np.where(
            self.weights > 0, points, np.max(np.where(self.weights > 0, points, -np.inf), -1, keepdims=True)
        )
        return points.min(-1), points.max(-1)

    def updated(self, estimate: Any, se: Any) -> NormalMixture:
        """The posterior after an estimate with known standard error, both (...)."""
        estimate, se = (np.asarray(value, float)[..., None] for value in (estimate, se))
        precision = 1 / self.sds**2 + 1 / se**2
        # written as a step from the prior mean, or from the estimate where the prior is flat
        pull = 1 / (1 + self.sds**2 / se**2)
        means = np.where(np.isinf(self.sds), estimate, estimate + pull * (self.means - estimate))
        return self.reweighted(self.log_foresight(estimate, se), means=means, sds=1 / np.sqrt(precision))

    def log_foresight(self, estimate: np.ndarray, se: np.ndarray) -> np.ndarray:
        """Log density with which each component foresaw an estimate with this error (..., K); 0 where it is flat."""
        spread = np.hypot(np.where(np.isinf(self.sds), 1.0, self.sds), se)
        fit = -0.5 * ((estimate - self.means) / spread) ** 2 - np.log(spread) - LOG_ROOT_TWO_PI
        return np.where(np.isinf(self.sds), 0.0, fit)

    def predicted(self, se: Any) -> NormalMixture:
        """The distribution of a new estimate with standard error se (...)."""
        sds = np.hypot(self.sds, np.asarray(se, float)[..., None])
        return replace(self, sds=sds, means=np.broadcast_to(self.means, sds.shape))

    def minus(self, other: NormalMixture) -> NormalMixture:
        """The distribution of the difference of two independent values."""
        mine, theirs = (slice(None), None), (None, slice(None))
        weights = self.weights[(..., *mine)] * other.weights[(..., *theirs)]
        means = self.means[(..., *mine)] - other.means[(..., *theirs)]
        sds = np.hypot(self.sds[(..., *mine)], other.sds[(..., *theirs)])
        weights, means, sds = (
            part.reshape(*part.shape[:-2], part.shape[-2] * part.shape[-1])
            for part in np.broadcast_arrays(weights, means, sds)
        )
        return NormalMixture(weights=weights, means=means, sds=sds, words=f"{self.words} minus {other.words}")


@dataclass(frozen=True, eq=False, kw_only=True)
class BetaMixture(Mixture):
    """A mixture of beta distributions for a proportion, updated by events among patients.

    >>> posterior = beta(1, 1).updated(3, 10)
    >>> round(float(posterior.mean), 4), round(float(posterior.quantile(0.5)), 4)
    (0.3333, 0.3238)
    """

    a: np.ndarray
    b: np.ndarray

    def component_below(self, x: np.ndarray) -> np.ndarray:
        return special.betainc(self.a, self.b, np.clip(x, 0.0, 1.0))

    def component_density(self, x: np.ndarray) -> np.ndarray:
        inside = (x > 0) & (x < 1)
        x = np.where(inside, x, 0.5)
        log_density = (self.a - 1) * np.log(x) + (self.b - 1) * np.log1p(-x) - special.betaln(self.a, self.b)
        return np.where(inside, np.exp(log_density), 0.0)

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        total = self.a + self.b
        mean = self.a / total
        return mean, mean * (1 - mean) / (total + 1)

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = special.betaincinv(self.a, self.b, q[..., None])
        return points.min(-1), points.max(-1)

    def updated(self, events: Any, n: Any) -> BetaMixture:
        """The posterior after so many events among n patients, both (...)."""
        events, n = (np.asarray(value, float)[..., None] for value in (events, n))
        a, b = self.a + events, self.b + (n - events)
        return self.reweighted(special.betaln(a, b) - special.betaln(self.a, self.b), a=a, b=b)


@dataclass(frozen=True, eq=False, kw_only=True)
class GammaMixture(Mixture):
    """A mixture of gamma distributions (shape, rate) for an event rate, updated by events over time at risk.

    >>> posterior = gamma(2, 10).updated(6, 40)
    >>> round(float(posterior.mean), 3), round(float(posterior.quantile(0.5)), 4)
    (0.16, 0.1534)
    """

    shapes: np.ndarray
    rates: np.ndarray

    def component_below(self, x: np.ndarray) -> np.ndarray:
        return special.gammainc(self.shapes, self.rates * np.maximum(x, 0.0))

    def component_density(self, x: np.ndarray) -> np.ndarray:
        inside = x > 0
        x = np.where(inside, x, 1.0)
        power = self.shapes * np.log(self.rates) + (self.shapes - 1) * np.log(x)
        return np.where(inside, np.exp(power - self.rates * x - special.gammaln(self.shapes)), 0.0)

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        return self.shapes / self.rates, self.shapes / self.rates**2

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = special.gammaincinv(self.shapes, q[..., None]) / self.rates
        return points.min(-1), points.max(-1)

    def updated(self, events: Any, time: Any) -> GammaMixture:
        """The posterior after so many events over so much time at risk, both (...)."""
        events, time = (np.asarray(value, float)[..., None] for value in (events, time))
        shapes, rates = self.shapes + events, self.rates + time
        log_likelihood = special.gammaln(shapes) - special.gammaln(self.shapes)
        log_likelihood = log_likelihood + self.shapes * np.log(self.rates) - shapes * np.log(rates)
        return self.reweighted(log_likelihood, shapes=shapes, rates=rates)


def normal(mean: Any, sd: Any, words: str = "") -> NormalMixture:
    """One normal distribution. Raises ClaimError where the standard deviation is not positive.

    >>> normal(0.0, 0.2).words
    'normal with mean 0 and standard deviation 0.2'
    """
    mean, sd = np.broadcast_arrays(np.asarray(mean, float), np.asarray(sd, float))
    if np.any(sd <= 0):
        raise ClaimError(f"A normal prior has standard deviation {_shown(sd)}; it must be above zero.")
    words = words or f"normal with mean {_shown(mean)} and standard deviation {_shown(sd)}"
    return NormalMixture(weights=np.ones((*mean.shape, 1)), means=mean[..., None], sds=sd[..., None], words=words)


def flat() -> NormalMixture:
    """The flat prior, under which the posterior repeats the estimate.

    >>> flat().words
    'flat (every value equally likely)'
    """
    return normal(0.0, np.inf, "flat (every value equally likely)")


def beta(a: Any, b: Any, words: str = "") -> BetaMixture:
    """One beta distribution: as if a - 1 events and b - 1 non-events had been seen on top of the uniform Beta(1, 1).

    Raises ClaimError where a or b is not positive.

    >>> beta(0.5, 0.5).words
    'Beta(0.5, 0.5)'
    """
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    if np.any(a <= 0) or np.any(b <= 0):
        raise ClaimError(f"A beta prior has a = {_shown(a)} and b = {_shown(b)}; both must be above zero.")
    words = words or f"Beta({_shown(a)}, {_shown(b)})"
    return BetaMixture(weights=np.ones((*a.shape, 1)), a=a[..., None], b=b[..., None], words=words)


def gamma(shape: Any, rate: Any, words: str = "") -> GammaMixture:
    """One gamma distribution: as if `shape` events had been seen over `rate` of time at risk.

    Raises ClaimError where shape or rate is not positive.

    >>> gamma(0.5, 1e-6).words
    'Gamma(0.5, 1e-06)'
    """
    shape, rate = np.broadcast_arrays(np.asarray(shape, float), np.asarray(rate, float))
    if np.any(shape <= 0) or np.any(rate <= 0):
        raise ClaimError(f"A gamma prior has shape {_shown(shape)} and rate {_shown(rate)}; both must be above zero.")
    words = words or f"Gamma({_shown(shape)}, {_shown(rate)})"
    return GammaMixture(weights=np.ones((*shape.shape, 1)), shapes=shape[..., None], rates=rate[..., None], words=words)


def _shown(value: np.ndarray) -> str:
    return f"{float(value):.4g}" if np.ndim(value) == 0 else "one for each trial"

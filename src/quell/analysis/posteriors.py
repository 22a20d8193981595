"""Posteriors of a comparison that no mixture holds: two proportions, two rates, and a density known only by formula.

Each is exact up to rounding: one arm's distribution is integrated over the other's by quadrature with doubly exponential
ends (Takahasi and Mori 1974), which the infinite densities of Beta(1/2, 1/2) at 0 and 1 do not disturb.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.mixtures import BetaMixture, GammaMixture, Mixture

Measure = Literal["difference", "ratio", "odds ratio"]

# Mass left outside the range of integration, on either side.
OUTSIDE = 1e-16
PANELS, NODES = 24, 16


def _doubly_exponential(step: float = 0.04, reach: float = 3.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes on (0, 1), what is left of 1, and weights: t = 1 / (1 + exp(-pi sinh u)), u on an even grid."""
    u = np.arange(-reach, reach + step / 2, step)
    t = special.expit(np.pi * np.sinh(u))
    rest = special.expit(-np.pi * np.sinh(u))
    return t, rest, step * np.pi * np.cosh(u) * t * rest


PLACE, REST, WEIGHT = _doubly_exponential()


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoProportions(Mixture):
    """Active against control proportion: their difference, or the logarithm of their risk or odds ratio.

    Parameters of the beta distributions (..., K), one component for each pair of the arms' components.
    """

    a1: np.ndarray
    b1: np.ndarray
    a0: np.ndarray
    b0: np.ndarray
    measure: Measure

    def component_below(self, x: np.ndarray) -> np.ndarray:
        return self._integral(x, of_density=False)

    def component_density(self, x: np.ndarray) -> np.ndarray:
        return self._integral(x, of_density=True)

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        arms = ((self.a1, self.b1), (self.a0, self.b0))
        (mean1, variance1), (mean0, variance0) = (_moments(a, b, self.measure) for a, b in arms)
        return mean1 - mean0, variance1 + variance0

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        end = 1.0 if self.measure == "difference" else 700.0
        return np.full(q.shape, -end), np.full(q.shape, end)

    def _integral(self, x: np.ndarray, of_density: bool) -> np.ndarray:
        """Chance (or density) of each component at x: the narrower arm's density times the wider one's chance."""
        first = _moments(self.a1, self.b1, self.measure)[1] < _moments(self.a0, self.b0, self.measure)[1]
        a, b = np.where(first, self.a1, self.a0), np.where(first, self.b1, self.b0)
        wide = np.where(first, self.a0, self.a1), np.where(first, self.b0, self.b1)
        shift = np.where(first, -x, x)
        a, b, shift, first, c, d = np.broadcast_arrays(a, b, shift, first, *wide)
        low, high, above, beyond = self._range(a, b, shift)
        width = np.maximum(high - low, 0.0)[..., None]
        q = low[..., None] + width * PLACE
        rest = above[..., None] + width * REST
        log_density = (a[..., None] - 1) * np.log(np.maximum(q, 1e-300)) + (b[..., None] - 1) * np.log(
            np.maximum(rest, 1e-300)
        )
        mass = WEIGHT * width * np.exp(log_density - special.betaln(a, b)[..., None])
        at, at_rest, slope = self._image(q, rest, shift[..., None], low[..., None] + width * 0, width)
        c, d = c[..., None], d[..., None]
        if of_density:
            log_wide = (c - 1) * np.log(np.maximum(at, 1e-300)) + (d - 1) * np.log(np.maximum(at_rest, 1e-300))
            return np.sum(mass * np.exp(np.minimum(log_wide - special.betaln(c, d), 690.0)) * slope, -1)
        chance = np.sum(mass * special.betainc(c, d, np.clip(at, 0.0, 1.0)), -1) + beyond
        return np.clip(np.where(first, 1 - chance, chance), 0.0, 1.0)

    def _range(
        self, a: np.ndarray, b: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Where the narrower arm's value lies and the image is in (0, 1): low, high, 1 - high; and the mass past it."""
        low, above = _start(a, b), _start(b, a)
        high, beyond = 1 - above, np.zeros(a.shape)
        if self.measure == "odds ratio":
            return low, high, above, beyond
        if self.measure == "difference":
            low = np.maximum(low, np.minimum(-shift, 1.0))
            edge, past = 1 - shift, shift
        else:
            with np.errstate(over="ignore"):
                edge, past = np.exp(-shift), -np.expm1(-shift)
        cut = past > above
        beyond = np.where(cut, special.betainc(b, a, np.clip(past, 0.0, 1.0)), 0.0)
        high, above = np.where(cut, np.clip(edge, 0.0, 1.0), high), np.where(cut, np.clip(past, 0.0, 1.0), above)
        return np.minimum(low, high), high, above, beyond

    def _image(
        self, q: np.ndarray, rest: np.ndarray, shift: np.ndarray, low: np.ndarray, width: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The wider arm's value at which the measure is x, 1 minus it, and its derivative by x (its size)."""
        if self.measure == "difference":
            return np.maximum(low + shift, 0.0) + width * PLACE, rest - shift, np.ones(q.shape)
        if self.measure == "ratio":
            with np.errstate(over="ignore", invalid="ignore"):
                at = np.where(q > 0, np.exp(np.minimum(np.log(np.maximum(q, 1e-300)) + shift, 0.0)), 0.0)
            return at, 1 - at, at
        logit = np.log(np.maximum(q, 1e-300)) - np.log(np.maximum(rest, 1e-300)) + shift
        at, at_rest = special.expit(logit), special.expit(-logit)
        return at, at_rest, at * at_rest


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoRates(Mixture):
    """Logarithm of the ratio of two gamma-distributed rates, active over control: exactly a beta-prime distribution."""

    shapes1: np.ndarray
    shapes0: np.ndarray
    log_scale: np.ndarray

    def component_below(self, x: np.ndarray) -> np.ndarray:
        return special.betainc(self.shapes1, self.shapes0, special.expit(x + self.log_scale))

    def component_density(self, x: np.ndarray) -> np.ndarray:
        logit = x + self.log_scale
        log_density = self.shapes1 * special.log_expit(logit) + self.shapes0 * special.log_expit(-logit)
        return np.exp(log_density - special.betaln(self.shapes1, self.shapes0))

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        mean = special.digamma(self.shapes1) - special.digamma(self.shapes0) - self.log_scale
        return mean, special.polygamma(1, self.shapes1) + special.polygamma(1, self.shapes0)

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(q.shape, -1500.0), np.full(q.shape, 1500.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tabulated(Mixture):
    """A distribution known by its log density (up to a constant) between `low` and `high` (..., 1), by Gauss-Legendre."""

    log_density: Callable[[np.ndarray], np.ndarray]
    low: np.ndarray
    high: np.ndarray

    def component_below(self, x: np.ndarray) -> np.ndarray:
        top = np.clip(x, self.low, self.high)
        total = self._integrate(self.high)[0]
        return np.clip(self._integrate(top)[0] / total, 0.0, 1.0)

    def component_density(self, x: np.ndarray) -> np.ndarray:
        inside = (x >= self.low) & (x <= self.high)
        peak = self._peak()
        height = np.exp(self.log_density(np.clip(x, self.low, self.high)) - peak)
        return np.where(inside, height / self._integrate(self.high)[0], 0.0)

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        total, first, second = self._integrate(self.high)
        mean = first / total
        return mean, np.maximum(second / total - mean**2, 0.0)

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.low[..., 0], self.high[..., 0]

    def _integrate(self, top: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integrals of the density, and of it times the value and its square, from low to top (..., 1)."""
        nodes, mass = self._nodes(top)
        parts = (np.sum(mass * nodes**power, -1, keepdims=True) for power in range(3))
        return next(parts), next(parts), next(parts)

    def _nodes(self, top: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, weight = np.polynomial.legendre.leggauss(NODES)
        place = ((np.arange(PANELS)[:, None] + (x + 1) / 2) / PANELS).ravel()
        width = top - self.low
        nodes = self.low + width * place
        return nodes, np.exp(self.log_density(nodes) - self._peak()) * width * np.tile(weight, PANELS) / (2 * PANELS)

    def _peak(self) -> np.ndarray:
        grid = self.low + (self.high - self.low) * np.linspace(0, 1, 65)
        return self.log_density(grid).max(-1, keepdims=True)


def two_proportions(active: BetaMixture, control: BetaMixture, measure: Measure = "difference") -> TwoProportions:
    """The posterior of a comparison of two independent proportions, from each arm's own posterior.

    The difference active minus control; or the log of the risk ratio or odds ratio, active over control. Raises
    ClaimError where the measure is unknown.

    >>> from quell.analysis.mixtures import beta
    >>> posterior = two_proportions(beta(1, 1).updated(3, 30), beta(1, 1).updated(9, 30))
    >>> round(float(posterior.below(0)), 4), round(float(posterior.quantile(0.5)), 4)
    (0.9707, -0.1872)
    """
    if measure not in ("difference", "ratio", "odds ratio"):
        raise ClaimError(f"The measure is '{measure}'; choose 'difference', 'ratio' or 'odds ratio'.")
    weights, a1, b1, a0, b0 = _pairs(active.weights, control.weights, (active.a, active.b), (control.a, control.b))
    return TwoProportions(weights=weights, a1=a1, b1=b1, a0=a0, b0=b0, measure=measure)


def two_rates(active: GammaMixture, control: GammaMixture) -> TwoRates:
    """The posterior of the log rate ratio, active over control, from each arm's own posterior.

    >>> from quell.analysis.mixtures import gamma
    >>> posterior = two_rates(gamma(0.5, 1e-6).updated(4, 50.0), gamma(0.5, 1e-6).updated(10, 48.0))
    >>> round(float(np.exp(posterior.quantile(0.5))), 4), round(float(posterior.below(0)), 4)
    (0.3939, 0.955)
    """
    parts = _pairs(active.weights, control.weights, (active.shapes, active.rates), (control.shapes, control.rates))
    weights, shapes1, rates1, shapes0, rates0 = parts
    return TwoRates(weights=weights, shapes1=shapes1, shapes0=shapes0, log_scale=np.log(rates1) - np.log(rates0))


def _start(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where all but a negligible mass of a beta distribution begins."""
    start = special.betaincinv(a, b, OUTSIDE)
    # the inverse sometimes fails so far out; the chance below x is then less than x^a / (a B(a, b)), near enough
    bound = np.exp((np.log(OUTSIDE * a) + special.betaln(a, b)) / a)
    return np.where(np.isfinite(start), start, np.minimum(bound, 0.5))


def _pairs(
    weights1: np.ndarray, weights0: np.ndarray, arm1: tuple[np.ndarray, ...], arm0: tuple[np.ndarray, ...]
) -> list[np.ndarray]:
    """Every component of one arm with every component of the other, on one last axis."""
    first = [part[..., :, None] for part in arm1]
    second = [part[..., None, :] for part in arm0]
    together = np.broadcast_arrays(weights1[..., :, None] * weights0[..., None, :], *first, *second)
    return [part.reshape(*part.shape[:-2], -1) for part in together]


def _moments(a: np.ndarray, b: np.ndarray, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a beta-distributed proportion, its logarithm, or its logit."""
    total = a + b
    if measure == "difference":
        return a / total, a * b / (total**2 * (total + 1))
    if measure == "ratio":
        return special.digamma(a) - special.digamma(total), special.polygamma(1, a) - special.polygamma(1, total)
    return special.digamma(a) - special.digamma(b), special.polygamma(1, a) + special.polygamma(1, b)

"""Posteriors of a comparison that no mixture holds: two proportions, two rates, and a density known only by formula.

Each is exact up to rounding: one arm's distribution is integrated over the other's by quadrature with doubly
exponential ends (Takahasi and Mori 1974), which the infinite densities of Beta(1/2, 1/2) at 0 and 1 do not disturb.
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
TINY = 1e-300
NODES = 16
# Comparisons of proportions integrated together: their nodes fit in a megabyte or two.
CELLS_AT_ONCE = 1_000


def _doubly_exponential(step: float = 0.04, reach: float = 3.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes on (0, 1), what is left of 1, and weights: t = 1 / (1 + exp(-pi sinh u)), u on an even grid."""
    u = np.arange(-reach, reach + step / 2, step)
    t = special.expit(np.pi * np.sinh(u))
    rest = special.expit(-np.pi * np.sinh(u))
    return t, rest, step * np.pi * np.cosh(u) * t * rest


def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on (0, 1)."""
    x, weight = np.polynomial.legendre.leggauss(NODES)
    return (x + 1) / 2, weight / 2


PLACE, REST, WEIGHT = _doubly_exponential()
LEGENDRE = _legendre()


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
        c, d = np.where(first, self.a0, self.a1), np.where(first, self.b0, self.b1)
        cells = np.broadcast_arrays(a, b, c, d, first, np.where(first, -x, x))
        shape = cells[0].shape
        flat = [cell.ravel() for cell in cells]
        pieces = [slice(start, start + CELLS_AT_ONCE) for start in range(0, flat[0].size, CELLS_AT_ONCE)]
        parts = [self._piece([cell[piece] for cell in flat], of_density) for piece in pieces]
        return np.concatenate(parts).reshape(shape) if parts else np.zeros(shape)

    def _piece(self, cells: list[np.ndarray], of_density: bool) -> np.ndarray:
        """A few comparisons: the narrower arm's a, b (the active one's if first), the wider one's c, d; the shift."""
        a, b, c, d, first, shift = cells
        low, high, above, beyond = self._range(a, b, shift)
        width = np.maximum(high - low, 0.0)[..., None]
        q, rest = low[..., None] + width * PLACE, above[..., None] + width * REST
        mass = WEIGHT * width * np.exp(_log_beta(q, rest, a[..., None], b[..., None]))
        at, at_rest, slope = self._image(q, rest, shift, low, high, above, width)
        c, d = c[..., None], d[..., None]
        if of_density:
            return np.sum(mass * np.exp(np.minimum(_log_beta(at, at_rest, c, d), 690.0)) * slope, -1)
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
            edge, past = np.exp(np.minimum(-shift, 0.0)), -np.expm1(np.minimum(-shift, 0.0))
        cut = past > above
        beyond = np.where(cut, special.betainc(b, a, np.clip(past, 0.0, 1.0)), 0.0)
        high, above = np.where(cut, np.clip(edge, 0.0, 1.0), high), np.where(cut, np.clip(past, 0.0, 1.0), above)
        return np.minimum(low, high), high, above, beyond

    def _image(
        self,
        q: np.ndarray,
        rest: np.ndarray,
        shift: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        above: np.ndarray,
        width: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The wider arm's value at which the measure is x, 1 minus it (both exact near 0), and its slope."""
        if self.measure == "difference":
            start, end = np.maximum(low + shift, 0.0), np.maximum(above - shift, 0.0)
            return start[..., None] + width * PLACE, end[..., None] + width * REST, np.ones(q.shape)
        if self.measure == "ratio":
            grown = np.exp(np.minimum(shift, 700.0))
            end = np.maximum(-np.expm1(np.minimum(shift + np.log(np.maximum(high, TINY)), 0.0)), 0.0)
            end = np.where(end < 4e-16, 0.0, end)
            return (
                np.minimum(grown[..., None] * q, 1.0),
                end[..., None] + grown[..., None] * width * REST,
                grown[..., None] * q,
            )
        logit = np.log(np.maximum(q, TINY)) - np.log(np.maximum(rest, TINY)) + shift[..., None]
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
    """A distribution known by its log density up to a constant: integrals over even panels from `low`.

    One component: low and the panels' width are (..., 1), the chance below each panel's start (..., panels + 1).
    """

    log_density: Callable[[np.ndarray], np.ndarray]
    low: np.ndarray
    width: np.ndarray
    chances: np.ndarray
    log_total: np.ndarray
    moments: tuple[np.ndarray, np.ndarray]

    def component_below(self, x: np.ndarray) -> np.ndarray:
        panels = self.chances.shape[-1] - 1
        place = np.clip((x - self.low) / self.width, 0.0, panels)
        number = np.minimum(place.astype(int), panels - 1)
        start = self.low + number * self.width
        reach = (place - number) * self.width
        inside = np.sum(np.exp(self.log_density(start + reach * LEGENDRE[0]) - self.log_total) * LEGENDRE[1], -1)
        before = np.take_along_axis(np.broadcast_to(self.chances, (*number.shape[:-1], panels + 1)), number, -1)
        return np.clip(before + reach * inside[..., None], 0.0, 1.0)

    def component_density(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self.log_density(x) - self.log_total)

    def component_moments(self) -> tuple[np.ndarray, np.ndarray]:
        return self.moments

    def bracket(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.low[..., 0], (self.low + self.width * (self.chances.shape[-1] - 1))[..., 0]


def tabulated(
    log_density: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, words: str = ""
) -> Tabulated:
    """The distribution with this log density (of (..., m) values) between low and high (..., 1); nothing is outside.

    Panels are as narrow as two of the narrowest normal curves the density resembles anywhere.

    >>> posterior = tabulated(lambda x: -0.5 * (x - 1) ** 2, np.array([-9.0]), np.array([11.0]))
    >>> round(float(posterior.below(2)), 6), round(float(posterior.sd), 6)
    (0.841345, 1.0)
    """
    grid = low + (high - low) * np.linspace(0, 1, 401)
    height = log_density(grid)
    relevant = height > height.max(-1, keepdims=True) - 45
    bend = np.abs(np.diff(height, 2, axis=-1)) * (400 / (high - low)) ** 2
    sharpest = np.sqrt(np.where(relevant[..., 1:-1], bend, 0.0).max(-1, keepdims=True, initial=0.0))
    panels = int(np.clip(np.ceil(np.max((high - low) * sharpest / 2, initial=1.0)), 12, 600))
    width = (high - low) / panels
    nodes = (low + width * np.arange(panels))[..., None] + width[..., None] * LEGENDRE[0]
    flat_nodes = nodes.reshape(*nodes.shape[:-2], panels * NODES)
    logs = log_density(flat_nodes)
    peak = logs.max(-1, keepdims=True)
    mass = (np.exp(logs - peak).reshape(nodes.shape) * LEGENDRE[1]).sum(-1) * width
    total = mass.sum(-1, keepdims=True)
    chances = np.concatenate([np.zeros(total.shape), np.cumsum(mass, -1)], -1) / total
    weight = np.exp(logs - peak) * np.tile(LEGENDRE[1], panels) * width / total
    mean = np.sum(weight * flat_nodes, -1, keepdims=True)
    variance = np.sum(weight * (flat_nodes - mean) ** 2, -1, keepdims=True)
    return Tabulated(
        weights=np.ones(total.shape), words=words, log_density=log_density, low=low, width=width, chances=chances,
        log_total=peak + np.log(total), moments=(mean, variance),
    )  # fmt: skip


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


def _log_beta(x: np.ndarray, rest: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log density of a beta distribution at x = 1 - rest, exact near both ends."""
    return (a - 1) * np.log(np.maximum(x, TINY)) + (b - 1) * np.log(np.maximum(rest, TINY)) - special.betaln(a, b)


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
    return [part.reshape(*part.shape[:-2], part.shape[-2] * part.shape[-1]) for part in together]


def _moments(a: np.ndarray, b: np.ndarray, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a beta-distributed proportion, its logarithm, or its logit."""
    total = a + b
    if measure == "difference":
        return a / total, a * b / (total**2 * (total + 1))
    if measure == "ratio":
        return special.digamma(a) - special.digamma(total), special.polygamma(1, a) - special.polygamma(1, total)
    return special.digamma(a) - special.digamma(b), special.polygamma(1, a) + special.polygamma(1, b)

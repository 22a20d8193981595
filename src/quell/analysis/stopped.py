"""After a stop: p-values, estimates and intervals that know the trial was watched.

A trial that stops because its result is large has, on average, too large a result. Outcomes of a trial that may stop are
put in an order, and the p of one is the chance of another at least as far out in that order. At drift 0 it is the p; the
drifts at which it is (1 - level) / 2, 1/2 and (1 + level) / 2 are the lower limit, the median-unbiased estimate and the
upper limit (Tsiatis, Rosner and Mehta 1984; Jennison and Turnbull 2000, chapter 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from quell.analysis import pieces
from quell.analysis.claim import Caution, ClaimError, Estimate, flag, two_sided
from quell.analysis.stopping import Boundaries, Walk, drift_groups, limits_of, walk

Ordering = Literal["stage-wise", "mean", "likelihood-ratio"]
# the power of the information in the statistic that an ordering compares across looks
COMPARED = {"mean": 0.5, "likelihood-ratio": 0.0}
# Trials per look from which it pays to read the answer from a piecewise polynomial in z (exact to about 1e-12).
MANY = 256
PIECE = 1.0


def stagewise_p(
    z: Any, look: Any, boundaries: Boundaries, drift: Any = 0.0, *, ordering: Ordering = "stage-wise"
) -> Any:
    """The one-sided p of stopping at a look (from 0) with Z = z: the chance of an outcome at least as far out.

    z, look and drift (...). Orders: `stage-wise`, an earlier crossing is further out (Tsiatis et al. 1984); `mean`, by
    estimated effect (Emerson and Fleming 1990); `likelihood-ratio`, by z (Chang 1989). Futility limits count only where binding. At drift 0 it is the p; elsewhere it makes
    intervals. NaN where z or look is missing (look -1). Raises ClaimError where the design has no such look.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(stagewise_p(3.0, 0, by_shape(np.array([0.5, 1.0]), 0.025))), 5)
    0.00135
    """
    z, look, drift = np.broadcast_arrays(np.asarray(z, float), _looks(look, boundaries), np.asarray(drift, float))
    found = np.full(z.shape, np.nan)
    for k, chosen in _by_look(z, look):
        chosen = chosen & np.isfinite(drift)
        found[chosen] = _chances(z[chosen], drift[chosen], boundaries, k, ordering)
    return found[()]


def final_estimate(
    z: Any,
    look: Any,
    boundaries: Boundaries,
    *,
    se: Any,
    n: Any = 0,
    level: float = 0.95,
    ordering: Ordering = "stage-wise",
) -> Estimate:
    """Median-unbiased estimate, interval and two-sided p after a stop at a look (from 0), for one trial or many.

    z, look, se and n (...). se is that of the effect at this look, so that effect = z x se; the estimate is on its
    scale. p is twice the smaller one-sided p. Orders and what is raised are as in `stagewise_p`.

    >>> from quell.analysis.sequential import by_shape
    >>> found = final_estimate(3.0, 0, by_shape(np.array([0.5, 1.0]), 0.025), se=0.1)
    >>> [round(float(v), 4) for v in (found.estimate, found.lower, found.upper)]
    [0.3, 0.104, 0.496]
    """
    z, se, look = np.broadcast_arrays(np.asarray(z, float), np.asarray(se, float), _looks(look, boundaries))
    tail = (1 - level) / 2
    found = np.full((3, *z.shape), np.nan)
    for k, chosen in _by_look(z, look):
        found[:, chosen] = _drifts(z[chosen], boundaries, k, ordering, np.array([tail, 0.5, 1 - tail]))
    p = np.asarray(stagewise_p(z, look, boundaries, ordering=ordering))
    lower, middle, upper = found * se * np.sqrt(boundaries.information[np.maximum(look, 0)])
    warning = flag(np.isnan(middle), Caution.NOT_ESTIMABLE)
    df, count = np.full(z.shape, np.inf), np.broadcast_to(np.asarray(n), z.shape)
    return Estimate(middle, se, lower, upper, z, df, 2 * np.minimum(p, 1 - p), count, warning, level)


def bias_adjusted(z: Any, look: Any, boundaries: Boundaries, *, se: Any) -> np.ndarray:
    """The effect whose estimate would on average be the one observed (Whitehead 1986), (...), on the scale of se.

    Solves drift + bias(drift) = z / sqrt(information); the bias of the final z / sqrt(information) is taken over every
    stop of the design, futility limits included. Arguments are as in `final_estimate`.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(bias_adjusted(3.0, 0, by_shape(np.array([0.5, 1.0]), 0.025), se=0.1)), 4)
    0.2801
    """
    z, se, look = np.broadcast_arrays(np.asarray(z, float), np.asarray(se, float), _looks(look, boundaries))
    root = np.sqrt(boundaries.information[np.maximum(look, 0)])
    observed = np.where(look >= 0, z / root, np.nan)
    known = np.isfinite(observed)
    found = np.full(z.shape, np.nan)
    if known.any():
        reach = 2 / np.sqrt(boundaries.information[0])
        edges, points = pieces.nodes(observed[known].min() - reach, observed[known].max() + reach, 1.0)
        expected = pieces.through(edges, points + mean_bias(points, boundaries))
        found[known] = expected.inverse(observed[known])
    return (found * se * root)[()]


def mean_bias(drift: Any, boundaries: Boundaries) -> Any:
    """The mean of the final z / sqrt(information) minus the drift (...): how much a watched trial overstates.

    E(S_T / I_T) - drift = d/d(drift) of E(log likelihood) summed over stops: sum over k of the derivative of the chance
    of stopping at k, divided by I_k (Whitehead 1986).

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(mean_bias(2.8, by_shape(np.array([0.5, 1.0]), 0.025))), 4)
    0.2021
    """
    drift, step = np.asarray(drift, float), 1e-4
    information = boundaries.information
    change = (-_stops(drift + 2 * step, boundaries) + 8 * _stops(drift + step, boundaries)) / (12 * step)
    change -= (-_stops(drift - 2 * step, boundaries) + 8 * _stops(drift - step, boundaries)) / (12 * step)
    return (change @ (1 / information))[()]


def repeated_interval(effect: Any, se: Any, look: Any, boundaries: Boundaries, *, n: Any = 0) -> Estimate:
    """Effect ± c_k se at look k (from 0): holds at every look together, whether or not the trial stops (Jennison and Turnbull 1989).

    effect, se, look and n (...). p is the unadjusted one; see `repeated_p`.

    >>> from quell.analysis.sequential import by_shape
    >>> found = repeated_interval(0.3, 0.1, 0, by_shape(np.array([0.5, 1.0]), 0.025))
    >>> round(float(found.lower), 4), found.level
    (0.0203, 0.95)
    """
    effect, se, look = np.broadcast_arrays(np.asarray(effect, float), np.asarray(se, float), _looks(look, boundaries))
    limit = np.where(look >= 0, boundaries.upper[np.maximum(look, 0)], np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        half, z = limit * se, effect / se
    warning = flag(~np.isfinite(half) | ~np.isfinite(effect), Caution.NOT_ESTIMABLE)
    count, df = np.broadcast_to(np.asarray(n), effect.shape), np.full(effect.shape, np.inf)
    return Estimate(
        effect, se, effect - half, effect + half, z, df, two_sided(z), count, warning, 1 - 2 * boundaries.alpha
    )


def repeated_p(z: Any, look: Any, design: Callable[[float], Boundaries]) -> Any:
    """The smallest one-sided alpha at which a design of this kind would have stopped at this look with Z = z (...).

    design makes the boundaries at an alpha. The p of a look is valid whatever the rule that stopped the trial; the
    smallest over the looks so far is the sequential p-value (Liu and Anderson 2008). Found to a relative 1e-9 between
    1e-12 and 0.5, and given as those limits beyond them. Raises ClaimError where the design has no such look.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(repeated_p(2.5, 1, lambda alpha: by_shape(np.array([0.5, 1.0]), alpha))), 5)
    0.00629
    """
    # limits are nearly linear in the normal quantile of alpha
    edges, points = pieces.nodes(special.ndtri(1e-12), special.ndtri(0.4999999), 2.0)
    limits = -np.array([[design(float(special.ndtr(x))).upper for x in row] for row in points])
    z, look = np.broadcast_arrays(np.asarray(z, float), _looks(look, limits.shape[-1]))
    found = np.full(z.shape, np.nan)
    for k, chosen in _by_look(z, look):
        found[chosen] = special.ndtr(pieces.through(edges, limits[..., k]).inverse(-z[chosen]))
    return found[()]


def overrun(boundaries: Boundaries, extra: Any, limits: Any, drift: Any = 0.0) -> tuple[Any, Any]:
    """The chance of a claim when data go on arriving after a stop for benefit, and of a stop whose claim is lost by them.

    extra (K,) is the information that arrives after a stop at each look (0 at the last); the claim is made where the final
    Z is at least limits (K,). At drift (...) 0 the first is the type I error. With limits of the looks, or of the final
    test alone, the error of such rules can be seen before they are used. Raises ClaimError where extra does not fit.

    >>> from quell.analysis.sequential import by_shape
    >>> design = by_shape(np.array([0.5, 1.0]), 0.025)
    >>> [round(float(found), 5) for found in overrun(design, [0.1, 0.0], design.upper)]
    [0.02373, 0.00127]
    """
    extra = np.asarray(extra, float)
    information, (lower, upper, limits) = (
        boundaries.information,
        limits_of(boundaries.information, boundaries.lower, boundaries.upper, limits),
    )
    if extra.shape != information.shape or np.any(extra < 0):
        raise ClaimError(
            f"There are {len(information)} looks: give the information, 0 or more, that follows a stop at each."
        )
    drift = np.asarray(drift, float)
    walks = walk(information, lower, upper, (float(drift.min()), float(drift.max())))
    claimed, lost = np.zeros(drift.shape), np.zeros(drift.shape)
    for k, (state, now) in enumerate(zip(walks, information, strict=True)):
        if extra[k] == 0:
            claimed = claimed + state.tail(max(limits[k], upper[k]), now, drift)
            continue
        beyond = state.onward([(upper[k], np.inf)], now, now + extra[k])
        claimed = claimed + beyond.tail(limits[k], now + extra[k], drift)
        lost = lost + beyond.tail(limits[k], now + extra[k], drift, below=True)
    return claimed[()], lost[()]


# -- how it is done ----------------------------------------------------------------------------------------------------
class _Order:
    """Stops of a design at least as far out as one at look k, by an order, for drifts within a span."""

    def __init__(self, boundaries: Boundaries, look: int, ordering: Ordering, span: tuple[float, float]) -> None:
        if ordering != "stage-wise" and ordering not in COMPARED:
            raise ClaimError(f"The ordering is '{ordering}'; choose stage-wise, {', '.join(COMPARED)}.")
        looks = look + 1 if ordering == "stage-wise" else len(boundaries.information)
        self.look, self.ordering, self.information = look, ordering, boundaries.information[:looks]
        ignored = np.full(len(boundaries.lower), -np.inf)
        lower = boundaries.lower if boundaries.binding else ignored
        self.lower, self.upper = (side[:looks] for side in limits_of(boundaries.information, lower, boundaries.upper))
        self.walks = walk(self.information, self.lower, self.upper, span)

    def chance(self, z: np.ndarray, drift: np.ndarray) -> np.ndarray:
        """The chance of a stop at least as far out as Z = z, both (n,), at the look."""
        total = np.zeros(np.broadcast_shapes(z.shape, drift.shape))
        for k, (state, now) in enumerate(zip(self.walks, self.information, strict=True)):
            total += self._at_look(k, state, now, z, drift)
        return np.clip(total, 0.0, 1.0)

    def _at_look(self, k: int, state: Walk, now: float, z: np.ndarray, drift: np.ndarray) -> np.ndarray:
        if self.ordering == "stage-wise":
            return state.tail(z if k == self.look else self.upper[k], now, drift)
        limit = z * (now / self.information[self.look]) ** COMPARED[self.ordering]
        if k + 1 == len(self.information):
            return state.tail(limit, now, drift)
        over = state.tail(np.maximum(limit, self.upper[k]), now, drift)
        below = np.minimum(limit, self.lower[k])
        return over + state.tail(below, now, drift) - state.tail(self.lower[k], now, drift)


def _chances(z: np.ndarray, drift: np.ndarray, boundaries: Boundaries, look: int, ordering: Ordering) -> np.ndarray:
    """The chance of a stop at least as far out, (n,); many at one drift are read from a polynomial on the normal scale."""
    if ordering == "stage-wise" and len(z) > MANY and np.ptp(drift) == 0:
        edges, points = pieces.nodes(z.min(), z.max() + 1e-9, PIECE)
        if points.size < len(z):
            exact = _chances(points.ravel(), np.full(points.size, drift[0]), boundaries, look, ordering)
            quantiles = special.ndtri(np.clip(exact, 1e-300, 1 - 1e-16)).reshape(points.shape)
            return special.ndtr(pieces.through(edges, quantiles).at(z))
    found = np.full(z.shape, np.nan)
    for group in drift_groups(drift, boundaries.information[-1]):
        some = drift[group]
        order = _Order(boundaries, look, ordering, (float(some.min()), float(some.max())))
        found[group] = order.chance(z[group], some)
    return found


def _drifts(z: np.ndarray, boundaries: Boundaries, look: int, ordering: Ordering, chances: np.ndarray) -> np.ndarray:
    """The drifts at which the chance of a stop at least as far out takes these values, (chances, n)."""
    if ordering != "stage-wise" or len(z) < MANY:
        return _solved(z, boundaries, look, ordering, chances)
    edges, points = pieces.nodes(z.min(), z.max() + 1e-9, PIECE)
    if points.size >= len(z):
        return _solved(z, boundaries, look, ordering, chances)
    values = _solved(points.ravel(), boundaries, look, ordering, chances)
    return np.stack([pieces.through(edges, row.reshape(points.shape)).at(z) for row in values])


def _solved(z: np.ndarray, boundaries: Boundaries, look: int, ordering: Ordering, chances: np.ndarray) -> np.ndarray:
    """As `_drifts`, each by root-finding on the normal scale, where the chance is nearly linear in the drift."""
    root = np.sqrt(boundaries.information)
    if ordering == "stage-wise" and not _may_stop_before(boundaries, look):
        return (z + special.ndtri(chances)[:, None]) / root[look]
    # an extreme result is no further out than the earlier crossings that are ranked above it
    z = np.minimum(z, 35.0)
    middle, even = z / root[look], (boundaries.upper / root)[: max(look, 1)].min()
    reach = min((special.ndtri(max(chances)) + 3) / root[0], 40.0)
    found = np.full((len(chances), len(z)), np.nan)
    for group in drift_groups(middle, boundaries.information[-1]):
        from_, to = np.minimum(middle[group], even) - reach, middle[group] + reach
        near, far = from_.min(), to.max()
        order = _Order(boundaries, look, ordering, (near, far))
        wanted, place = np.broadcast_arrays(special.ndtri(chances)[:, None], z[group])

        def gap(drift: np.ndarray, place: np.ndarray, wanted: np.ndarray, order: _Order = order) -> np.ndarray:
            return special.ndtri(np.clip(order.chance(place, drift), 1e-300, 1 - 1e-16)) - wanted

        ends = tuple(np.broadcast_to(end, wanted.shape) for end in (from_, to))
        root = elementwise.find_root(gap, ends, args=(place, wanted), tolerances={"xatol": 1e-12, "xrtol": 1e-13})
        found[:, group] = np.where(root.success, root.x, np.nan)
    return found


def _may_stop_before(boundaries: Boundaries, look: int) -> bool:
    """Whether a look before this one could have stopped the trial, as far as the p counts stops."""
    upper = np.isfinite(boundaries.upper[:look]).any()
    return bool(upper or (boundaries.binding and np.isfinite(boundaries.lower[:look]).any()))


def _stops(drift: np.ndarray, boundaries: Boundaries) -> np.ndarray:
    """The chance of stopping at each look, (..., K)."""
    found = boundaries.crossing(drift)
    stops = np.array(found.upper + found.lower + found.inner)
    stops[..., -1] = 1 - stops[..., :-1].sum(-1)
    return stops


def _looks(look: Any, boundaries: Boundaries | int) -> np.ndarray:
    """Look numbers, checked; negative is no stop."""
    looks, last = np.asarray(look, int), boundaries if isinstance(boundaries, int) else len(boundaries.information)
    if np.any(looks >= last):
        raise ClaimError(f"The design has {last} looks, counted from 0; there is no look {looks.max()}.")
    return looks


def _by_look(z: np.ndarray, look: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each look at which trials stopped, and which they are."""
    for k in np.unique(look[look >= 0]):
        chosen = (look == k) & np.isfinite(z)
        if chosen.any():
            yield int(k), chosen

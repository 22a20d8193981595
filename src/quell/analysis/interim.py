"""At a look: how likely the trial is to succeed if it goes on.

Given Z = z at information t, the rest of the trial is again a walk of scores, begun at z sqrt(t): its density is carried
to the looks still to come for a whole batch of trials at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.stopping import REACH, Boundaries, start, walk


def conditional_power(z: Any, information: float, boundaries: Boundaries, drift: Any = None) -> Any:
    """The chance of crossing an upper limit at a later look, given Z = z now; drift None is the current trend.

    z and drift (...); information is the fraction at which z was seen; looks at or before it are past. Futility limits
    still to come stop the trial. Drift is the mean of Z at full information: the one of the design for the assumed
    effect, 0 for none (Lan, Simon and Halperin 1982). Raises ClaimError where no look is left.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(conditional_power(1.5, 0.5, by_shape(np.array([0.5, 1.0]), 0.025))), 3)
    0.581
    """
    ahead = boundaries.information > information
    if not ahead.any() or information <= 0:
        raise ClaimError("Conditional power needs a look still to come, and information above 0 now.")
    z = np.asarray(z, float)
    z, drift = np.broadcast_arrays(z, z / np.sqrt(information) if drift is None else np.asarray(drift, float))
    known = np.isfinite(z) & np.isfinite(drift)
    found = np.full(z.shape, np.nan)
    # trials in reach of one another share their quadrature nodes
    place, pace = np.where(known, z, 0.0), np.where(known, drift, 0.0)
    group = np.stack([np.floor(place / REACH), np.floor(pace / REACH)])[:, known]
    for one in np.unique(group, axis=1).T:
        chosen = known & (np.floor(place / REACH) == one[0]) & (np.floor(pace / REACH) == one[1])
        found[chosen] = _chance(z[chosen] * np.sqrt(information), information, boundaries, drift[chosen], ahead)
    return found[()]


def _chance(score: np.ndarray, at: float, boundaries: Boundaries, drift: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    looks = boundaries.information[ahead]
    lower, upper = boundaries.lower[ahead], boundaries.upper[ahead]
    inner = None if boundaries.inner is None else boundaries.inner[ahead]
    total = np.zeros(score.shape)
    # in blocks, so that the memory stays small
    for first in range(0, len(score), 4096):
        some = slice(first, first + 4096)
        span = (float(drift[some].min()), float(drift[some].max()))
        walks = walk(looks, lower, upper, span, inner=inner, begun=start(span, score=score[some], information=at))
        for state, limit, now in zip(walks, upper, looks, strict=True):
            total[some] += state.tail(limit, now, drift[some])
    return total


def predictive_power(
    z: Any, information: float, boundaries: Boundaries, prior: tuple[float, float] | None = None
) -> Any:
    """Conditional power averaged over what is believed of the drift after seeing z (...): normal prior (mean, sd) or a flat one.

    Spiegelhalter, Freedman and Blackburn (1986). Gauss-Hermite quadrature of 61 nodes; raises as `conditional_power`.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(predictive_power(1.5, 0.5, by_shape(np.array([0.5, 1.0]), 0.025))), 3)
    0.557
    """
    z = np.asarray(z, float)
    precision = information + (0.0 if prior is None else prior[1] ** -2)
    mean = (z * np.sqrt(information) + (0.0 if prior is None else prior[0] * prior[1] ** -2)) / precision
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    drifts = mean[..., None] + nodes / np.sqrt(precision)
    return (conditional_power(z[..., None], information, boundaries, drifts) @ weights / weights.sum())[()]


def conditional_error(z: Any, information: float, boundaries: Boundaries) -> Any:
    """The chance, without any effect, of still crossing an upper limit given Z = z (...) now (Müller and Schäfer 2001).

    A trial may be changed in any way from here on, if the rest is tested at this level.

    >>> from quell.analysis.sequential import by_shape
    >>> round(float(conditional_error(1.5, 0.5, by_shape(np.array([0.5, 1.0]), 0.025))), 4)
    0.0974
    """
    return conditional_power(z, information, boundaries, 0.0)


def assurance(boundaries: Boundaries, prior: tuple[float, float]) -> float:
    """Power averaged over what is believed of the drift before the trial: a normal prior (mean, sd) (O'Hagan et al. 2005).

    >>> from quell.analysis.sequential import by_shape
    >>> round(assurance(by_shape(np.array([0.5, 1.0]), 0.025), (3.24, 1.0)), 4)
    0.8154
    """
    mean, sd = prior
    if not sd > 0:
        raise ClaimError(f"The prior of the drift has standard deviation {sd}; it must be above 0.")
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    return float(boundaries.crossing(mean + sd * nodes).power @ weights / weights.sum())


def conditional_limit(power: float, information: float, boundaries: Boundaries, drift: float | None = None) -> float:
    """The Z now with which conditional power is this: a futility limit by conditional power.

    Raises ClaimError where the power is not between 0 and 1, or no look is left.

    >>> from quell.analysis.sequential import by_shape
    >>> round(conditional_limit(0.2, 0.5, by_shape(np.array([0.5, 1.0]), 0.025)), 3)
    0.977
    """
    if not 0 < power < 1:
        raise ClaimError(f"The conditional power is {power}; it must lie between 0 and 1.")
    low, high = -12.0, 12.0
    for _ in range(12):
        grid = np.linspace(low, high, 65)
        above = np.asarray(conditional_power(grid, information, boundaries, drift)) >= power
        first = int(np.argmax(above)) if above.any() else len(grid) - 1
        low, high = grid[max(first - 1, 0)], grid[max(first, 1)]
    return float((low + high) / 2)


def promising_zone(
    z: Any, information: float, *, zone: tuple[float, float], power: float, alpha: float, most: float
) -> Any:
    """The final information, as a multiple of the plan, that a promising interim result asks for (Mehta and Pocock 2011).

    Two looks, the interim at this fraction of the plan. Where conditional power under the trend, with the planned final
    limit z_alpha, lies within `zone`, information is raised until it is `power`, to at most `most` times the plan;
    elsewhere the plan stands. z (...). Raises ClaimError where the zone, fraction or largest increase is impossible.

    >>> promising_zone([1.0, 1.6, 2.5], 0.5, zone=(0.36, 0.8), power=0.8, alpha=0.025, most=2.0).round(3).tolist()
    [1.0, 1.348, 1.0]
    """
    if not (0 < zone[0] < zone[1] <= 1 and 0 < information < 1 <= most and 0 < power < 1):
        raise ClaimError("The zone must lie within 0 to 1, the interim within the plan, and the increase be 1 or more.")
    z, final = np.asarray(z, float), special.ndtri(1 - alpha)

    def chance(rest: Any) -> Any:
        whole = information + rest
        return special.ndtr(
            (z * np.sqrt(information) - final * np.sqrt(whole)) / np.sqrt(rest) + z * np.sqrt(rest / information)
        )

    low, high = np.full(z.shape, 1 - information), np.full(z.shape, most - information)
    now = chance(low)
    for _ in range(60):
        middle = (low + high) / 2
        enough = chance(middle) >= power
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    promising = (now >= zone[0]) & (now < min(zone[1], power))
    return np.where(promising, information + high, 1.0)[()]

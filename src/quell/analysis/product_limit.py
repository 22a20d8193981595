"""The product-limit estimator on counts: survival, Greenwood's variance, and limits on five scales.

Arrays here have the rungs (distinct event times) on the last axis; what they mean is told in `armcounts`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError

Interval = Literal["log-log", "log", "plain", "logit", "arcsine"]
INTERVALS = ("log-log", "log", "plain", "logit", "arcsine")


def product_limit(at_risk: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kaplan-Meier survival on each rung and Greenwood's variance of its logarithm (0 once survival is 0).

    S(t) = product (1 - d/Y); var log S = sum d / (Y (Y - d)) (Kaplan and Meier 1958; Greenwood 1926).

    >>> survival, relative = product_limit(np.array([4.0, 3.0]), np.array([1.0, 1.0]))
    >>> survival.tolist(), relative.round(4).tolist()
    ([0.75, 0.5], [0.0833, 0.25])
    """
    left = at_risk - events
    survival = np.cumprod(np.where(at_risk > 0, left / np.where(at_risk > 0, at_risk, 1.0), 1.0), -1)
    relative = np.cumsum(np.where(left > 0, events / np.where(left > 0, at_risk * left, 1.0), 0.0), -1)
    return survival, np.where(survival > 0, relative, 0.0)


def before(curve: np.ndarray, start: float = 1.0) -> np.ndarray:
    """The curve just before each rung: its value on the rung before, `start` on the first."""
    return np.concatenate([np.full_like(curve[..., :1], start), curve[..., :-1]], -1)


def at_exhaustion(survival: np.ndarray, at_risk: np.ndarray) -> np.ndarray:
    """How many were at risk when survival first became 0 (1 where it never did), kept on the last axis."""
    return np.maximum(np.where(survival > 0, 0.0, at_risk).max(-1, keepdims=True, initial=0.0), 1.0)


def scale_limits(value: np.ndarray, se: np.ndarray, z: np.ndarray, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Limits of a probability strictly between 0 and 1: value ± z se on the named scale, turned back, within 0 and 1.

    The scales are those of R's survfit: log, log-log = log(-log p), plain, logit, arcsine = asin(sqrt p). Raises
    ClaimError where the interval has another name.

    >>> [round(float(limit), 4) for limit in scale_limits(np.array(0.5), np.array(0.1), np.array(1.96), "logit")]
    [0.3135, 0.6865]
    """
    spread = z * se
    if interval == "log":
        lower, upper = value * np.exp(-spread / value), value * np.exp(spread / value)
    elif interval == "log-log":
        power = spread / (value * np.log(value))
        lower, upper = value ** np.exp(-power), value ** np.exp(power)
    elif interval == "plain":
        lower, upper = value - spread, value + spread
    elif interval == "logit":
        centre, half = special.logit(value), spread / (value * (1 - value))
        lower, upper = special.expit(centre - half), special.expit(centre + half)
    elif interval == "arcsine":
        centre, half = np.arcsin(np.sqrt(value)), spread / (2 * np.sqrt(value * (1 - value)))
        lower, upper = np.sin(np.maximum(centre - half, 0)) ** 2, np.sin(np.minimum(centre + half, np.pi / 2)) ** 2
    else:
        raise ClaimError(f"The interval is '{interval}'; choose 'log-log', 'log', 'plain', 'logit' or 'arcsine'.")
    return np.maximum(lower, 0.0), np.minimum(upper, 1.0)


def survival_limits(
    survival: np.ndarray,
    relative: np.ndarray,
    still_at_risk: np.ndarray,
    exhausted: np.ndarray,
    z: np.ndarray,
    interval: Interval,
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of survival; exact (Clopper-Pearson for those at risk) where survival is still 1, or already 0."""
    inner = np.where((survival > 0) & (survival < 1), survival, 0.5)
    with np.errstate(over="ignore"):
        lower, upper = scale_limits(inner, inner * np.sqrt(relative), z, interval)
    tail = special.ndtr(-z)
    none_yet = np.where(still_at_risk > 0, tail ** (1 / np.maximum(still_at_risk, 1.0)), 0.0)
    lower = np.where(survival >= 1, none_yet, np.where(survival <= 0, 0.0, lower))
    upper = np.where(survival >= 1, 1.0, np.where(survival <= 0, 1 - tail ** (1 / exhausted), upper))
    return lower, upper

"""Several active arms against one control: Dunnett's test, single-step and step-down.

Statistics against a shared control have correlations lambda_i lambda_j, lambda_i² = n_i / (n_i + n_0), so that given the control
they are independent and the chance that all stay below c is one integral over the control, and one over the pooled
standard deviation (Dunnett 1955).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import special

from quell.analysis import pieces
from quell.analysis.claim import ClaimError

Alternative = Literal["greater", "two-sided"]
# Nodes over what the comparisons share (as far as the normal has any mass) and over the spread of the error.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)
SPREAD_NODES, SPREAD_WEIGHTS = np.polynomial.legendre.leggauss(40)
FAR = 9.0
# Trials from which it pays to read the answer from a piecewise polynomial.
MANY = 500


def dunnett(
    statistic: Any,
    sizes: Any,
    control: float,
    *,
    df: float = np.inf,
    alternative: Alternative = "two-sided",
    step_down: bool = True,
) -> np.ndarray:
    """Adjusted p of each active arm's t (or z) against the shared control, (..., m).

    statistic (..., m) with a pooled standard deviation on df degrees (infinite: known); sizes (m,) and control are patients.
    Step-down (Dunnett and Tamhane 1991) is never weaker than the single step. NaN stays NaN and is not counted as an arm.
    Raises ClaimError where sizes do not fit.

    >>> dunnett([2.1, 2.6, 1.4], [20, 15, 25], 30, df=86, step_down=False).round(5).tolist()
    [0.10282, 0.03072, 0.3843]
    """
    statistic, sizes = np.asarray(statistic, float), np.asarray(sizes, float)
    if statistic.ndim == 0 or sizes.shape != statistic.shape[-1:] or np.any(sizes <= 0) or control <= 0 or not df > 0:
        raise ClaimError(
            "Dunnett's test needs one size above 0 for each statistic, of the control too, and df above 0."
        )
    if alternative not in ("greater", "two-sided"):
        raise ClaimError(f"The alternative is '{alternative}'; choose greater or two-sided.")
    loading = np.sqrt(sizes / (sizes + control))
    rows = statistic.reshape(-1, statistic.shape[-1])
    size = np.abs(rows) if alternative == "two-sided" else rows
    order = np.argsort(np.where(np.isnan(size), np.inf, -size), -1, kind="stable")
    found, reached = np.full(rows.shape, np.nan), np.zeros(len(rows))
    for step in range(rows.shape[-1]):
        arm = order[:, step]
        here = np.take_along_axis(size, arm[:, None], -1)[:, 0]
        reached = np.maximum(
            reached, _by_arms(here, size, order[:, step if step_down else 0 :], loading, df, alternative)
        )
        found[np.arange(len(rows)), arm] = np.where(np.isnan(here), np.nan, reached)
    return found.reshape(statistic.shape)


def dunnett_limit(
    sizes: Any, control: float, *, level: float = 0.95, df: float = np.inf, alternative: Alternative = "two-sided"
) -> float:
    """The limit that no statistic passes with this chance when no arm differs: for simultaneous intervals.

    >>> round(dunnett_limit([20, 20, 20], 20, df=76), 4)
    2.3969
    """
    sizes = np.asarray(sizes, float)
    loading = np.sqrt(sizes / (sizes + control))
    low, high = 0.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        inside = 1 - float(_beyond(np.array([middle]), loading, df, alternative)[0])
        low, high = (low, middle) if inside >= level else (middle, high)
    return (low + high) / 2


def _by_arms(
    here: np.ndarray, size: np.ndarray, arms: np.ndarray, loading: np.ndarray, df: float, alternative: Alternative
) -> np.ndarray:
    """The chance that the largest statistic of each trial's arms passes `here`, (trials,)."""
    known = ~np.isnan(np.take_along_axis(size, arms, -1))
    members = np.zeros(size.shape, bool)
    np.put_along_axis(members, arms, known, -1)
    found = np.ones(len(here))
    for group in np.unique(members, axis=0):
        chosen = (members == group).all(-1) & ~np.isnan(here)
        if group.any() and chosen.any():
            found[chosen] = _read(here[chosen], loading[group], df, alternative)
    return found


def _read(limit: np.ndarray, loading: np.ndarray, df: float, alternative: Alternative) -> np.ndarray:
    """`_beyond`, through a polynomial in pieces where there are many limits."""
    low, high = float(limit.min()), float(limit.max())
    if len(limit) < MANY or not np.isfinite([low, high]).all():
        return _beyond(limit, loading, df, alternative)
    edges, points = pieces.nodes(low, high + 1e-9, 1.0)
    if points.size >= len(limit):
        return _beyond(limit, loading, df, alternative)
    return pieces.through(edges, _beyond(points.ravel(), loading, df, alternative).reshape(points.shape)).at(limit)


def _beyond(limit: np.ndarray, loading: np.ndarray, df: float, alternative: Alternative) -> np.ndarray:
    """The chance that any of the statistics passes the limit (n,)."""
    spread, share = _pooled_spread(df)
    z = FAR * NODES
    weight = FAR * WEIGHTS * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    rest = np.sqrt(1 - loading**2)
    found = np.zeros(limit.shape)
    for s, part in zip(spread, share, strict=True):
        cut = (limit * s)[:, None, None]
        inside = special.ndtr((cut - z[:, None] * loading) / rest)
        if alternative == "two-sided":
            inside = inside - special.ndtr((-cut - z[:, None] * loading) / rest)
        found += part * (inside.prod(-1) @ weight)
    return np.clip(1 - found, 0.0, 1.0)


def _pooled_spread(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the pooled standard deviation over the true one, chi / sqrt(df)."""
    if np.isinf(df):
        return np.ones(1), np.ones(1)
    low, high = (np.sqrt(special.chdtri(df, tail) / df) for tail in (1 - 1e-15, 1e-15))
    s = (low + high) / 2 + (high - low) / 2 * SPREAD_NODES
    log_density = df / 2 * np.log(df / 2) - special.gammaln(df / 2) + np.log(2) + (df - 1) * np.log(s) - df * s**2 / 2
    return s, (high - low) / 2 * SPREAD_WEIGHTS * np.exp(log_density)

"""What many simulated trials of a design say: each number with its Monte Carlo error, trials of one draw being alike.

In a world whose constants are uncertain the trials of one draw share them, so their outcomes are not independent: with
r_i = x_i - mean and R_d its sum over the trials of draw d,

    se(mean)^2 = D / (D - 1) sum_d R_d^2 / N^2        (linearised ratio, Cochran 1977; D draws, N trials)

which is the usual error where every trial has a draw of its own, and far more than it where few draws are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

RATIOS = ("hazard ratio", "risk ratio", "rate ratio", "odds ratio", "win ratio")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Mean(NamedTuple):
    """A mean (or frequency) over trials with its Monte Carlo error; ``n`` trials of ``draws`` sets of constants."""

    value: float
    error: float
    n: int
    draws: int


def mean(values: np.ndarray, draw: np.ndarray) -> Mean:
    """The mean over trials, missing ones left out, and its error when trials of one draw are alike; both of shape (trials,).

    >>> mean(np.array([1.0, 0.0, 1.0, 1.0]), np.arange(4))
    Mean(value=0.75, error=0.25, n=4, draws=4)
    >>> round(mean(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0, 0, 1, 1])).error, 3)
    0.5
    """
    known = np.isfinite(values)
    x, which = np.asarray(values, float)[known], draw[known]
    if not len(x):
        return Mean(math.nan, math.nan, 0, 0)
    middle = float(x.mean())
    _, place = np.unique(which, return_inverse=True)
    draws = int(place.max()) + 1
    rest = x - middle if draws == 1 else np.bincount(place, x - middle)
    groups = len(rest)
    error = math.sqrt(groups / (groups - 1) * float((rest**2).sum())) / len(x) if groups > 1 else math.nan
    return Mean(middle, error, len(x), draws)


def rate(happened: np.ndarray, draw: np.ndarray) -> Mean:
    """A frequency over trials and its error; shape (trials,)."""
    return mean(np.asarray(happened, float), draw)


def scenario(trials: pl.DataFrame) -> dict[str, Any]:
    """The operating characteristics of one design in one world: what its trials came to, as plain data.

    ``trials`` has the columns of ``crowd.RESULT`` and, for each look, of ``crowd.BY_LOOK``.
    """
    draw = trials["draw"].to_numpy()
    told = {
        "trials": trials.height,
        "draws": int(trials["draw"].n_unique()),
        "success": _said(rate(trials["success"].to_numpy(), draw)),
        "ends": ends(trials),
        "looks": looks(trials),
        "enrolled": _said(mean(_numbers(trials, "enrolled"), draw)),
        "screened": _said(mean(_numbers(trials, "screened"), draw)),
        "duration": _said(mean(_numbers(trials, "duration"), draw)) | _spread(_numbers(trials, "duration")),
        "estimation": estimation(trials),
        "secondary": secondary(trials),
    }
    if "cost" in trials.columns:
        told["cost"] = _said(mean(_numbers(trials, "cost"), draw)) | _spread(_numbers(trials, "cost"))
    return told


def ends(trials: pl.DataFrame) -> list[dict[str, Any]]:
    """How often a trial ends at each look, and why."""
    draw = trials["draw"].to_numpy()
    pairs = sorted(trials.select("look", "reason").unique().iter_rows())
    return [
        {"look": int(look), "reason": reason}
        | _said(rate(((trials["look"] == look) & (trials["reason"] == reason)).to_numpy(), draw))
        for look, reason in pairs
    ]


def looks(trials: pl.DataFrame) -> list[dict[str, Any]]:
    """What is there at each look, over the trials that reach it: events, people, the day; and how many reach it."""
    draw, found, number = trials["draw"].to_numpy(), [], 1
    while f"day_{number}" in trials.columns:
        day = _numbers(trials, f"day_{number}")
        parts = {
            name: _said(mean(_numbers(trials, f"{name}_{number}"), draw))
            | _spread(_numbers(trials, f"{name}_{number}"))
            for name in ("events", "enrolled", "day")
            if f"{name}_{number}" in trials.columns
        }
        found.append({"look": number, "reached": _said(rate(np.isfinite(day), draw)), **parts})
        number += 1
    return found


def estimation(trials: pl.DataFrame) -> dict[str, Any]:
    """Bias, root mean squared error and coverage against each draw's own truth, of the naive and the adjusted estimate."""
    draw, truth = trials["draw"].to_numpy(), _numbers(trials, "truth")
    lower, upper = _numbers(trials, "lower"), _numbers(trials, "upper")
    known = np.isfinite(lower) & np.isfinite(upper) & np.isfinite(truth)
    covers = np.where(known, (lower <= truth) & (truth <= upper), np.nan)
    found: dict[str, Any] = {"truth": _said(mean(truth, draw)) | _spread(truth), "coverage": _said(mean(covers, draw))}
    for name in ("estimate", "adjusted"):
        if name in trials.columns:
            gap = _numbers(trials, name) - truth
            square = mean(gap**2, draw)
            root = math.sqrt(square.value) if square.value > 0 else math.nan
            found[name] = {
                "mean": _said(mean(_numbers(trials, name), draw)),
                "bias": _said(mean(gap, draw)),
                "rmse": {"value": root, "error": square.error / (2 * root) if root > 0 else math.nan},
            }
    return found


def secondary(trials: pl.DataFrame, level: float = 0.025) -> dict[str, Any]:
    """How often each further endpoint is claimed as well: the primary succeeds and its own one-sided p is at most ``level``."""
    draw, success = trials["draw"].to_numpy(), trials["success"].to_numpy()
    return {
        name.removeprefix("p_"): _said(rate(success & (_numbers(trials, name) <= level), draw))
        for name in trials.columns
        if name.startswith("p_")
    }


def regret(outcomes: Mapping[str, np.ndarray], draw: np.ndarray) -> list[dict[str, Any]]:
    """How much worse than the best each design is, on the same trials: people, fate and constants are shared.

    ``outcomes`` holds for each design what is wanted of each trial, larger is better, (trials,). The best is the one of the
    greatest mean; a regret that is within two of its errors of zero leaves the choice open.

    >>> rows = regret({"a": np.array([1.0, 1.0, 0.0]), "b": np.array([1.0, 0.0, 0.0])}, np.arange(3))
    >>> [(row["design"], round(row["regret"]["value"], 3)) for row in rows]
    [('a', 0.0), ('b', 0.333)]
    """
    average = {name: float(np.nanmean(values)) for name, values in outcomes.items()}
    best = max(average, key=lambda name: average[name])
    return [
        {"design": name, "mean": _said(mean(values, draw)), "regret": _said(mean(outcomes[best] - values, draw)), "best": name == best}
        for name, values in sorted(outcomes.items(), key=lambda item: -average[item[0]])
    ]  # fmt: skip


def by_truth(trials: pl.DataFrame, groups: int = 10) -> list[dict[str, Any]]:
    """Success by the size of the true effect: draws in equal groups, best first. What the average over the posterior hides."""
    truth, draw = _numbers(trials, "truth"), trials["draw"].to_numpy()
    known = np.isfinite(truth)
    if not known.any() or np.ptp(truth[known]) == 0:
        return []
    of_draw = {int(d): float(t) for d, t in zip(draw[known], truth[known], strict=True)}
    order = sorted(of_draw, key=lambda one: of_draw[one])
    found = []
    for part in np.array_split(np.array(order), min(groups, len(order))):
        here = np.isin(draw, part)
        effects = [of_draw[int(one)] for one in part]
        row = {"truth": float(np.mean(effects)), "lower": min(effects), "upper": max(effects), "draws": len(part)}
        found.append(row | {"success": _said(rate(trials["success"].to_numpy()[here], draw[here]))})
    return found


def examples(trials: pl.DataFrame, count: int = 4) -> list[dict[str, Any]]:
    """Trials out of the run, one of each way to end, the most frequent first: the one whose last statistic is the middle one.

    They are drawn by rule, not by eye, and each can be run again by its number.
    """
    ways = trials.group_by("look", "reason").len().sort(["len", "look", "reason"], descending=[True, False, False])
    found = []
    for look, reason, frequency in ways.head(count).iter_rows():
        some = trials.filter((pl.col("look") == look) & (pl.col("reason") == reason))
        column = f"z_{look}" if f"z_{look}" in some.columns else "estimate"
        middle = some.sort(column, "trial").row(some.height // 2, named=True)
        found.append({"share": frequency / trials.height} | {k: v for k, v in middle.items() if v is not None})
    return found


def front(points: Sequence[Mapping[str, float]], less: Sequence[str], more: Sequence[str]) -> list[bool]:
    """Which points no other is at least as good as in everything and better in something (Pareto); judged on the means.

    >>> front([{"power": 0.8, "n": 100}, {"power": 0.7, "n": 120}], ["n"], ["power"])
    [True, False]
    """
    good = np.array([[-point[name] for name in less] + [point[name] for name in more] for point in points])
    beaten = np.all(good[None] >= good[:, None], axis=-1) & np.any(good[None] > good[:, None], axis=-1)
    return [bool(x) for x in ~beaten.any(axis=1)]


def _numbers(trials: pl.DataFrame, name: str) -> np.ndarray:
    """A column as floats, NaN where there is none."""
    return (
        trials[name].cast(pl.Float64).fill_null(math.nan).to_numpy()
        if name in trials.columns
        else np.full(trials.height, math.nan)
    )


def _said(found: Mean) -> dict[str, Any]:
    return {"value": found.value, "error": found.error}


def _spread(values: np.ndarray) -> dict[str, Any]:
    """Quantiles over trials."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {}
    return {f"q{round(100 * share):02}": float(np.quantile(known, share)) for share in QUANTILES}

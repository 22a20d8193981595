"""Exact inference for two proportions: conditional (Fisher) and unconditional (Barnard, Boschloo, Chan and Zhang).

Conditional methods fix the total number of events: the active arm's share of them is hypergeometric. Unconditional ones
fix only the arms' sizes and take the worst case over the unknown common risk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.counts import Cells, Tally, cells_of, distinct
from quell.analysis.score import difference_excess, root

Tail = Literal["two-sided", "less", "greater"]

# Tables are "as extreme" within this relative tolerance, as in R's fisher.test.
SAME = 1e-7
# Risks at which a nuisance proportion is tried, and again around the best; more where n is large.
GRID, REFINED = 512, 33
# Odds further out than exp of this are lost to rounding.
LARGEST_LOG_ODDS = 60.0


def fisher(counts: Tally, *, tail: Tail = "two-sided", mid_p: bool = False) -> np.ndarray:
    """Fisher's exact p; two-sided, the total probability of the tables no more likely than the one seen (as R's).

    `less` and `greater` are about the active arm's events; with `mid_p` only half the probability of the table seen
    counts (Lancaster 1961). counts (...). Raises ClaimError where a count is impossible.

    >>> round(float(fisher(Tally(0, 28, 3, 27))), 4)
    0.1115
    """
    cells, which = distinct(cells_of(counts))
    log_mass, k = _log_hypergeometric(cells)
    mass = np.exp(log_mass)
    seen = k == cells[0][..., None]
    here = np.sum(np.where(seen, mass, 0.0), -1, keepdims=True)
    beyond = {
        "two-sided": mass <= here * (1 + SAME),
        "less": k <= cells[0][..., None],
        "greater": k >= cells[0][..., None],
    }
    if tail not in beyond:
        raise ClaimError(f"The tail is '{tail}'; choose 'two-sided', 'less' or 'greater'.")
    total = np.sum(np.where(beyond[tail], mass, 0.0), -1)
    return np.minimum(total - (here[..., 0] / 2 if mid_p else 0.0), 1.0)[which]


def barnard(counts: Tally, *, tail: Tail = "two-sided") -> np.ndarray:
    """Barnard's exact unconditional p with the pooled z statistic (Suissa and Shuster 1985), as scipy.stats.barnard_exact.

    The probability of a z at least as extreme, at the common risk that makes it largest. counts (...). Raises ClaimError
    where a count is impossible.

    >>> round(float(barnard(Tally(0, 28, 3, 27))), 4)
    0.0742
    """
    sign = {"two-sided": None, "greater": 1.0, "less": -1.0}
    if tail not in sign:
        raise ClaimError(f"The tail is '{tail}'; choose 'two-sided', 'less' or 'greater'.")

    def extremity(cells: Cells) -> np.ndarray:
        z = difference_excess(cells, np.zeros(cells[0].shape), correct=False).standardised()
        return np.abs(z) if sign[tail] is None else sign[tail] * z

    return _worst_case(counts, extremity)


def boschloo(counts: Tally, *, tail: Tail = "two-sided") -> np.ndarray:
    """Boschloo's exact unconditional p: Fisher's p as the statistic (1970), uniformly more powerful than Fisher's test.

    One-sided as scipy.stats.boschloo_exact; two-sided with Fisher's two-sided p, as R's Exact::exact.test (SciPy doubles
    the smaller one-sided p instead). counts (...). Raises ClaimError where a count is impossible.

    >>> round(float(boschloo(Tally(0, 28, 3, 27))), 4)
    0.1048
    """
    return _worst_case(counts, lambda cells: -fisher(Tally(*cells), tail=tail))


def conditional_odds_ratio(
    cells: Cells, level: float = 0.95, *, mid_p: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Conditional maximum-likelihood odds ratio and exact limits, as R's fisher.test (there to about four digits).

    Given the number of events, those of the active arm follow Fisher's noncentral hypergeometric distribution; the
    estimate makes their mean the number seen, each limit makes the tail (with half of what was seen: mid-p) half of
    1 - level. cells: events and patients (active, then control), each (...).

    >>> ratio, lower, upper = conditional_odds_ratio(tuple(map(np.array, (3.0, 28.0, 6.0, 27.0))))
    >>> round(float(ratio), 5), round(float(lower), 5), round(float(upper), 5)
    (0.42662, 0.0615, 2.29374)
    """
    x = cells[0][..., None]
    log_mass, k = _log_hypergeometric(cells)
    share, tail = (0.5 if mid_p else 1.0), (1 - level) / 2
    upper_tail = np.where(k > x, 1.0, np.where(k == x, share, 0.0))
    lower_tail = np.where(k < x, 1.0, np.where(k == x, share, 0.0))

    def expected(log_odds: np.ndarray, weight: np.ndarray) -> np.ndarray:
        height = log_mass + (k - x) * log_odds[..., None]
        mass = np.exp(height - height.max(-1, keepdims=True))
        return np.sum(mass * weight, -1) / mass.sum(-1)

    end = np.full(cells[0].shape, LARGEST_LOG_ODDS)
    first, last = _support(cells)
    lowest, highest = cells[0] == first, cells[0] == last
    estimate = root(lambda at: cells[0] - expected(at, k.astype(float)), -end, end, 1e-13)
    lower = root(lambda at: tail - expected(at, upper_tail), -end, end, 1e-13)
    upper = root(lambda at: expected(at, lower_tail) - tail, -end, end, 1e-13)
    none = lowest & highest
    estimate = np.where(none, np.nan, np.where(lowest, 0.0, np.where(highest, np.inf, np.exp(estimate))))
    return estimate, np.where(lowest, 0.0, np.exp(lower)), np.where(highest, np.inf, np.exp(upper))


def exact_difference(cells: Cells, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Exact unconditional limits of a risk difference (Chan and Zhang 1999), as SAS's exact riskdiff(method=score).

    Two one-sided tests, each ordering the tables by the score statistic at the hypothesised difference and taking the
    worst case over the control risk; each rejects at half of 1 - level. cells (...), as in `conditional_odds_ratio`.

    >>> lower, upper = exact_difference(tuple(map(np.array, (0.0, 28.0, 3.0, 27.0))))
    >>> round(float(lower), 4), round(float(upper), 4)
    (-0.2935, 0.0181)
    """
    tables = np.stack([np.ravel(cell) for cell in cells], -1).tolist()
    limits = np.array([_exact_limits(x1, n1, x0, n0, level) for x1, n1, x0, n0 in tables])
    return tuple(limits.reshape(-1, 2)[:, side].reshape(np.shape(cells[0])) for side in (0, 1))  # type: ignore[return-value]


def _exact_limits(x1: float, n1: float, x0: float, n0: float, level: float) -> tuple[float, float]:
    if min(n1, n0) == 0:
        return np.nan, np.nan
    upper = -_lower_limit(n1 - x1, n1, n0 - x0, n0, level)
    return _lower_limit(x1, n1, x0, n0, level), upper


def _lower_limit(x1: float, n1: float, x0: float, n0: float, level: float) -> float:
    """The largest difference rejected in favour of more: where the worst-case tail passes (1 - level) / 2."""
    observed = x1 / n1 - x0 / n0
    if observed == -1:
        return -1.0
    axes = np.arange(n1 + 1), np.arange(n0 + 1)
    one, other = (grid.astype(float) for grid in np.meshgrid(*axes, indexing="ij"))
    tables = (one, np.full(one.shape, n1), other, np.full(one.shape, n0))

    def tail(difference: float) -> float:
        score = difference_excess(tables, np.full(one.shape, difference), correct=False).standardised()
        extreme = (score >= score[int(x1), int(x0)] - 1e-9).astype(float)
        low, high = max(0.0, -difference), min(1.0, 1 - difference)
        angles = np.linspace(0, np.pi / 2, GRID)
        for _ in range(4):
            p0 = low + (high - low) * np.sin(angles) ** 2
            active, control = _binomial(axes[0], n1, np.clip(p0 + difference, 0, 1)), _binomial(axes[1], n0, p0)
            chance = np.sum((active @ extreme) * control, -1)
            best = int(chance.argmax())
            angles = np.linspace(angles[max(best - 1, 0)], angles[min(best + 1, len(angles) - 1)], REFINED)
        return float(chance.max())

    below, above = -1.0, observed
    while above - below > 1e-10:
        middle = (below + above) / 2
        below, above = (middle, above) if tail(middle) <= (1 - level) / 2 else (below, middle)
    return (below + above) / 2


def _worst_case(counts: Tally, extremity: Callable[[Cells], np.ndarray]) -> np.ndarray:
    """The largest probability, over the common risk, of tables at least as extreme as the one seen."""
    cells, which = distinct(cells_of(counts))
    p = np.full(cells[0].shape, np.nan)
    for n1, n0 in {(int(a), int(b)) for a, b in zip(cells[1], cells[3], strict=True)}:
        rows = np.flatnonzero((cells[1] == n1) & (cells[3] == n0))
        if min(n1, n0) > 0:
            p[rows] = _worst_of_size(n1, n0, [cells[0][rows], cells[2][rows]], extremity)
    return p[which]


def _worst_of_size(n1: int, n0: int, seen: list[np.ndarray], extremity: Callable[[Cells], np.ndarray]) -> np.ndarray:
    """For arms of one size: P(risk) = sum over totals s of P(extreme | s) x binomial(s; n1 + n0, risk), maximised."""
    one, other = (grid.ravel().astype(float) for grid in np.meshgrid(np.arange(n1 + 1), np.arange(n0 + 1)))
    height = extremity((one, np.full(one.shape, float(n1)), other, np.full(one.shape, float(n0))))
    total = (one + other).astype(int)
    given = np.exp(_log_choose(n1, one) + _log_choose(n0, other) - _log_choose(n1 + n0, total.astype(float)))
    here = height[(seen[1] * 0 + seen[0] + seen[1] * (n1 + 1)).astype(int)]
    p = np.empty(here.shape)
    for t, value in enumerate(here):
        slack = SAME * max(abs(value), 1e-300) if np.isfinite(value) else 0.0
        conditional = np.bincount(total, np.where(height >= value - slack, given, 0.0), n1 + n0 + 1)
        p[t] = _largest(conditional, n1 + n0)
    return np.minimum(p, 1.0)


def _largest(conditional: np.ndarray, n: int) -> float:
    angles = np.linspace(0, np.pi / 2, max(GRID, int(16 * np.sqrt(n))))
    for _ in range(4):
        chance = _binomial(np.arange(n + 1), n, np.sin(angles) ** 2) @ conditional
        best = int(chance.argmax())
        angles = np.linspace(angles[max(best - 1, 0)], angles[min(best + 1, len(angles) - 1)], REFINED)
    return float(chance.max())


def _binomial(k: np.ndarray, n: float, p: np.ndarray) -> np.ndarray:
    """Binomial probabilities of k at each p: (p, k)."""
    p = p[:, None]
    return np.exp(_log_choose(n, k.astype(float)) + special.xlogy(k, p) + special.xlog1py(n - k, -p))


def _support(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    x1, n1, x0, n0 = cells
    return np.maximum(x1 + x0 - n0, 0.0), np.minimum(n1, x1 + x0)


def _log_hypergeometric(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Log probability (..., k) of k events in the active arm given the total, and k; -infinite where impossible."""
    x1, n1, x0, n0 = (value[..., None] for value in cells)
    events = x1 + x0
    k = np.arange(int(events.max(initial=0)) + 1)
    possible = (k <= np.minimum(n1, events)) & (k >= events - n0)
    spread = np.where(possible, k, np.maximum(events - n0, 0.0))
    log_mass = _log_choose(n1, spread) + _log_choose(n0, events - spread) - _log_choose(n1 + n0, events)
    return np.where(possible, log_mass, -np.inf), k


def _log_choose(n: np.ndarray | float, k: np.ndarray) -> np.ndarray:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)

"""Group-sequential tests: their boundaries, by shape or by spending, at planned or at actual looks; and their size.

Upper boundaries are for benefit; statistics are signed so that large is good. Boundaries are limits of Z at information
fractions. What may be said at a look is in `interim`, after a stop in `stopped`; patients and events in
`sequential_size`. All are also found here, under one name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError
from quell.analysis.interim import conditional_power, predictive_power
from quell.analysis.spending import Spending, given, increments, spending
from quell.analysis.stopped import final_estimate, repeated_interval, repeated_p, stagewise_p
from quell.analysis.stopping import (
    Boundaries,
    Crossing,
    Walk,
    crossing,
    going_on,
    limits_of,
    rising,
    solve,
    start,
    walk,
)

__all__ = [
    "Boundaries",
    "Crossing",
    "by_shape",
    "by_spending",
    "conditional_power",
    "crossing",
    "final_estimate",
    "given",
    "haybittle_peto",
    "inflation",
    "needed_drift",
    "predictive_power",
    "repeated_interval",
    "repeated_p",
    "retimed",
    "spending",
    "stagewise_p",
    "with_futility",
    "with_harm",
    "with_inner_futility",
]

NAMED_SHAPES = {"obrien-fleming": 0.0, "pocock": 0.5}


def by_spending(
    information: np.ndarray,
    spend: Spending,
    *,
    spend_at: np.ndarray | None = None,
    two_sided_test: bool = False,
    futility: np.ndarray | None = None,
    tested: np.ndarray | None = None,
) -> Boundaries:
    """Efficacy limits that spend the error `spend` gives, look by look; looks may be unequal.

    information (K,) is a fraction of the final one; spend_at (K,) is the clock of the spending where that is another
    (calendar time). Two-sided tests are symmetric and spend on each side. futility (K - 1,) are binding lower limits of
    Z. tested (K,) is false at looks without an efficacy test. Raises ClaimError where looks do not rise.

    >>> by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025)).upper.round(4).tolist()
    [2.9626, 1.9686]
    """
    information = rising(information)
    due = increments(spend, information if spend_at is None else rising(spend_at), tested)
    lower = _binding(futility, len(information))
    upper = _limits(information, due, lower, two_sided_test)
    _apart(lower, upper)
    lower = -upper if two_sided_test else lower
    binding = two_sided_test or futility is not None
    alpha = float(spend(np.ones(1))[0])
    return Boundaries(information, _closed(lower, upper, futility), upper, alpha, binding, np.cumsum(due))


def retimed(
    information: np.ndarray,
    spend: Spending,
    *,
    maximum: float = 1.0,
    past: np.ndarray | None = None,
    spend_at: np.ndarray | None = None,
    two_sided_test: bool = False,
) -> Boundaries:
    """Efficacy limits at the looks as they happened: unequal, under-run or over-run; the last look spends all that is left.

    information (K,) is what was (or will be) seen, in the unit of `maximum`, the information planned: the clock of the
    spending is their ratio, or spend_at (K,) such as calendar time. past (<= K,) are limits already used, which stay;
    the error they spent is computed at the actual information. The result's fractions are of the last look (Lan and
    DeMets 1989). Raises ClaimError where looks do not rise or past limits already spent everything.

    >>> late = retimed(np.array([110.0, 230.0]), spending("obrien-fleming", 0.025), maximum=200)
    >>> late.upper.round(4).tolist(), late.information.round(4).tolist()
    ([2.8059, 1.978], [0.4783, 1.0])
    """
    information = rising(information)
    clock = information / maximum if spend_at is None else rising(spend_at)
    alpha = float(spend(np.ones(1))[0])
    target = np.append(np.minimum(spend(clock[:-1]), alpha), alpha)
    kept = np.zeros(0) if past is None else np.atleast_1d(np.asarray(past, float))
    if len(kept) > len(information):
        raise ClaimError("There are more past limits than looks: give the information of every look.")
    fractions, due = information / information[-1], np.diff(target, prepend=0.0)
    if len(kept):
        below = -kept if two_sided_test else np.full(len(kept), -np.inf)
        used = crossing(fractions[: len(kept)], below, kept).upper
        if used.sum() >= alpha and len(kept) < len(information):
            raise ClaimError(
                f"The past limits already spent {used.sum():.4g} of {alpha:g}: nothing is left to test with."
            )
        rest = np.maximum(np.maximum.accumulate(np.append(used.sum(), target[len(kept) :])), used.sum())
        due = np.append(used, np.diff(rest))
    upper = _limits(fractions, due, _binding(None, len(fractions)), two_sided_test, kept)
    lower = -upper if two_sided_test else np.full(len(upper), -np.inf)
    return Boundaries(fractions, lower, upper, alpha, two_sided_test, np.cumsum(due))


def by_shape(
    information: np.ndarray,
    alpha: float,
    *,
    shape: float | str = "obrien-fleming",
    two_sided_test: bool = False,
    futility: np.ndarray | None = None,
) -> Boundaries:
    """Limits of one shape, c t^(shape - 1/2): O'Brien-Fleming (0), Pocock (1/2), Wang-Tsiatis (any; 1987).

    c makes the one-sided error alpha (on each side of a two-sided test). futility (K - 1,) are binding lower limits of
    Z. Raises ClaimError where looks do not rise.

    >>> by_shape(np.array([0.5, 1.0]), 0.025).upper.round(4).tolist()
    [2.7965, 1.9774]
    """
    information = rising(information)
    if isinstance(shape, str) and shape not in NAMED_SHAPES:
        raise ClaimError(f"The shape is '{shape}'; choose 'obrien-fleming', 'pocock' or a Wang-Tsiatis number.")
    form = (information / information[-1]) ** ((NAMED_SHAPES[shape] if isinstance(shape, str) else shape) - 0.5)
    return _scaled(information, alpha, lambda c: c * form, two_sided_test, futility)


def haybittle_peto(
    information: np.ndarray,
    alpha: float,
    *,
    early: float = 3.0,
    two_sided_test: bool = False,
    futility: np.ndarray | None = None,
) -> Boundaries:
    """One high limit at every early look, and at the last look the limit that makes the error alpha (Haybittle 1971, Peto 1976).

    >>> haybittle_peto(np.array([0.5, 1.0]), 0.025).upper.round(4).tolist()
    [3.0, 1.9673]
    """
    information = rising(information)
    before = np.full(len(information) - 1, float(early))
    return _scaled(information, alpha, lambda c: np.append(before, c), two_sided_test, futility)


def with_futility(
    boundaries: Boundaries,
    spend: Spending,
    *,
    binding: bool = False,
    spend_at: np.ndarray | None = None,
    tested: np.ndarray | None = None,
) -> tuple[Boundaries, float]:
    """Add futility limits that spend the type II error, and give the drift the test then needs.

    The drift is such that efficacy and futility meet at the last look. Non-binding (the default) leaves the efficacy
    limits as they are, so that the type I error holds though a futility stop is overruled; binding ones are recomputed
    with the error that futility saves (Pampallona, Tsiatis and Kim 2001). spend_at (K,) is another clock; tested (K,) is
    false at looks without futility. Raises ClaimError where none can be found.

    >>> base = by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025))
    >>> bounds, drift = with_futility(base, spending("obrien-fleming", 0.2))
    >>> bool(bounds.lower[-1] == bounds.upper[-1]), round(drift, 3)
    (True, 2.879)
    """
    clock = boundaries.information if spend_at is None else rising(spend_at)
    due = increments(spend, clock, None if tested is None else np.append(tested[:-1], True))
    fixed = _fixed_drift(boundaries, 1 - due.sum())
    drift = _grown(lambda drift: _both_limits(boundaries, due, drift, binding)[2], fixed)
    lower, upper, _ = _both_limits(boundaries, due, drift, binding)
    lower[-1] = upper[-1]
    return boundaries._replace(lower=lower, upper=upper, binding=binding), drift


def with_harm(boundaries: Boundaries, spend: Spending, *, binding: bool = False) -> Boundaries:
    """Add lower limits that spend their own error under no effect: an asymmetric test that may stop for harm.

    The chance, without effect, of first crossing the harm limit by each look, were futility overruled, is what `spend`
    gives. A test without futility then stops at them (gsDesign test types 5 and 6: binding recomputes the efficacy limits
    so that alpha is spent among trials not stopped); one with futility keeps it, and tells harm apart (types 7 and 8).

    >>> base = by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025))
    >>> with_harm(base, spending("pocock", 0.1)).harm.round(4).tolist()
    [-1.5381, -1.5161]
    """
    due, alpha = increments(spend, boundaries.information), np.diff(boundaries.spent, prepend=0.0)
    looks, upper = boundaries.information, boundaries.upper.copy()
    alone = not np.isfinite(boundaries.lower).any()
    harm, state = np.zeros(len(looks)), start()
    for k, now in enumerate(looks):
        harm[k] = state.limit(now, due[k], below=True)
        upper[k] = state.limit(now, alpha[k]) if binding and alone else upper[k]
        state = _advance(state, looks, k, harm[k], upper[k])
    lower = harm if alone else np.maximum(boundaries.lower, harm)
    return boundaries._replace(lower=lower, upper=upper, binding=binding or boundaries.binding, harm=harm)


def with_inner_futility(
    boundaries: Boundaries, spend: Spending, *, binding: bool = False, spend_at: np.ndarray | None = None
) -> tuple[Boundaries, float]:
    """Add futility to a two-sided symmetric test: stop where |Z| is small, spending the type II error; and the drift needed.

    Early looks whose one-sided futility limit would be below zero have none (`inner` 0), and the error is spent from the
    next one, as in rpact. Otherwise as `with_futility`. Raises ClaimError where the test is not two-sided.

    >>> base = by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025), two_sided_test=True)
    >>> bounds, drift = with_inner_futility(base, spending("pocock", 0.1))
    >>> bounds.inner.round(3).tolist(), round(drift, 3)
    ([0.928, 1.969], 3.483)
    """
    if not np.allclose(boundaries.lower, -boundaries.upper):
        raise ClaimError(
            "Inner futility limits belong to a two-sided symmetric test; make it with two_sided_test=True."
        )
    due = increments(spend, boundaries.information if spend_at is None else rising(spend_at))
    drift = _grown(
        lambda drift: _inner_limits(boundaries, due, drift, binding)[2], _fixed_drift(boundaries, 1 - due.sum())
    )
    inner, upper, _ = _inner_limits(boundaries, due, drift, binding)
    inner[-1] = upper[-1]
    return boundaries._replace(inner=inner, lower=-upper, upper=upper, binding=binding), drift


def needed_drift(boundaries: Boundaries, power: float) -> float:
    """The drift (mean of Z at full information) that gives the test this power; its square over the fixed test's is the inflation.

    Raises ClaimError where the power is not between alpha and 1, or is never reached.

    >>> round(needed_drift(by_shape(np.array([0.5, 1.0]), 0.025), 0.8), 4)
    2.8125
    """
    if not boundaries.alpha < power < 1:
        raise ClaimError(f"The power is {power}; it must lie between alpha ({boundaries.alpha:g}) and 1.")
    fixed = _fixed_drift(boundaries, power)
    information, (lower, upper) = boundaries.information, limits_of(boundaries.information, *boundaries[1:3])
    walks = walk(information, lower, upper, (0.0, 2 * fixed), inner=boundaries.inner)

    def gap(drift: float) -> float:
        reached = sum(float(w.tail(u, now, drift)) for w, u, now in zip(walks, upper, information, strict=True))
        return special.ndtri(min(max(reached, 1e-300), 1 - 1e-16)) - special.ndtri(power)

    return _grown(gap, fixed)


def inflation(boundaries: Boundaries, power: float) -> float:
    """How much larger the largest information is than a fixed test's of the same error and power.

    >>> round(inflation(by_shape(np.array([0.5, 1.0]), 0.025), 0.8), 4)
    1.0078
    """
    return (needed_drift(boundaries, power) / _fixed_drift(boundaries, power)) ** 2


# -- how limits are found ----------------------------------------------------------------------------------------------
def _fixed_drift(boundaries: Boundaries, power: float) -> float:
    """The drift a test with one look would need."""
    return float(special.ndtri(1 - boundaries.alpha) + special.ndtri(power))


def _advance(state: Walk, looks: np.ndarray, k: int, lower: float, upper: float, inner: float = 0.0) -> Walk:
    """The trials going on after look k; nobody after the last."""
    if k + 1 == len(looks):
        return state
    return state.onward(going_on(lower, upper, inner), looks[k], looks[k + 1])


def _limits(
    looks: np.ndarray, due: np.ndarray, lower: np.ndarray, two_sided_test: bool, past: np.ndarray | None = None
) -> np.ndarray:
    """Upper limits that spend the error due at each look; past ones are kept."""
    upper, state = np.zeros(len(looks)), start()
    for k, now in enumerate(looks):
        upper[k] = past[k] if past is not None and k < len(past) else state.limit(now, due[k])
        state = _advance(state, looks, k, -upper[k] if two_sided_test else lower[k], upper[k])
    return upper


def _scaled(
    information: np.ndarray, alpha: float, form: Any, two_sided_test: bool, futility: np.ndarray | None
) -> Boundaries:
    """Limits form(c), with c so that the error is alpha."""
    if not 0 < alpha < 0.5:
        raise ClaimError(f"The one-sided error is {alpha}; it must lie between 0 and 0.5, for example 0.025.")
    binding = _binding(futility, len(information))

    def spent(c: float) -> np.ndarray:
        lower, upper = limits_of(information, -form(c) if two_sided_test else np.minimum(binding, form(c)), form(c))
        walks = walk(information, lower, upper, (0.0, 0.0))
        return np.array([w.tail(u, now) for w, u, now in zip(walks, upper, information, strict=True)])

    wanted = special.ndtri(alpha)

    def gap(c: float) -> float:
        return special.ndtri(np.clip(spent(c).sum(), 1e-300, 1 - 1e-16)) - wanted

    c = _grown(lambda c: -gap(c), -wanted)
    upper = form(c)
    _apart(binding, upper)
    lower = -upper if two_sided_test else _closed(binding, upper, futility)
    return Boundaries(information, lower, upper, alpha, two_sided_test or futility is not None, np.cumsum(spent(c)))


def _binding(futility: np.ndarray | None, looks: int) -> np.ndarray:
    """Lower limits (K,) from K - 1 (or K) futility limits, or none."""
    if futility is None:
        return np.full(looks, -np.inf)
    lower = np.atleast_1d(np.asarray(futility, float))
    if len(lower) not in (looks - 1, looks):
        raise ClaimError(f"{looks} looks need {looks - 1} futility limits, but {len(lower)} were given.")
    return np.append(lower[: looks - 1], -np.inf)


def _apart(lower: np.ndarray, upper: np.ndarray) -> None:
    if np.any(lower[:-1] >= upper[:-1]) or upper[-1] == -np.inf:
        raise ClaimError(
            f"The futility limits {lower[:-1].round(3).tolist()} meet the efficacy limits {upper.round(3).tolist()} before "
            "the last look; lower them, or make them non-binding."
        )


def _closed(lower: np.ndarray, upper: np.ndarray, futility: np.ndarray | None) -> np.ndarray:
    """With futility, the last look leaves no trial undecided."""
    return lower if futility is None else np.append(lower[:-1], upper[-1])


def _grown(gap: Any, begin: float) -> float:
    """The root of a rising function that is expected a little above (or below) where the search begins."""
    low = high = begin
    for _ in range(40):
        if gap(high) >= 0:
            break
        low, high = high, high * 1.15
    else:
        raise ClaimError("No design reaches this: the futility limits leave too little power. Spend less on futility.")
    while low == high or gap(low) > 0:
        low, high = low / 1.15, (low if low != high else high)
        if low < 1e-6:
            return low
    return solve(gap, low, high)


def _both_limits(boundaries: Boundaries, due: np.ndarray, drift: float, binding: bool) -> tuple:
    """Futility (and, if binding, efficacy) limits at a drift; and by how much they overlap at the last look."""
    looks = boundaries.information
    lower, upper = np.zeros(len(looks)), boundaries.upper.copy()
    alpha, state = np.diff(boundaries.spent, prepend=0.0), start((0.0, drift))
    for k, now in enumerate(looks):
        if binding:
            upper[k] = state.limit(now, alpha[k])
        lower[k] = state.limit(now, due[k], drift, below=True)
        if lower[k] >= upper[k] and k < len(looks) - 1:
            # the limits meet before the last look: the drift is too large
            return lower, upper, 1.0 + lower[k] - upper[k]
        state = _advance(state, looks, k, lower[k], upper[k])
    return lower, upper, float(lower[-1] - upper[-1])


def _inner_limits(boundaries: Boundaries, due: np.ndarray, drift: float, binding: bool) -> tuple:
    """Inner futility limits of a two-sided test at a drift; and by how much they overlap at the last look."""
    looks = boundaries.information
    inner, upper = np.zeros(len(looks)), boundaries.upper.copy()
    alpha, state = np.diff(boundaries.spent, prepend=0.0), start((0.0, drift))
    skipped = _looks_without_inner(looks, due, drift)
    # the error is spent from the first look with a limit
    due = np.append(np.zeros(skipped), due[skipped:] * due.sum() / due[skipped:].sum())
    for k, now in enumerate(looks):
        if binding:
            upper[k] = state.limit(now, alpha[k])
        inner[k] = _inner_limit(state, now, due[k], drift)
        if inner[k] >= upper[k] and k < len(looks) - 1:
            return inner, upper, 1.0 + inner[k] - upper[k]
        state = _advance(state, looks, k, -upper[k], upper[k], inner[k])
    return inner, upper, float(inner[-1] - upper[-1])


def _looks_without_inner(looks: np.ndarray, due: np.ndarray, drift: float) -> int:
    """How many looks have so little to spend that a one-sided futility limit would be below zero."""
    state = start((0.0, drift))
    for k, now in enumerate(looks[:-1]):
        lower = state.limit(now, due[k], drift, below=True)
        if lower >= 0:
            return k
        state = _advance(state, looks, k, lower, np.inf)
    return len(looks) - 1


def _inner_limit(state: Walk, now: float, chance: float, drift: float) -> float:
    """The c with this chance that |Z| is below it."""

    def gap(c: float) -> float:
        return float(state.tail(-c, now, drift) - state.tail(c, now, drift)) - chance

    return solve(gap, 0.0, 12.0) if chance > 0 else 0.0

"""Searching among designs: a race with shared randomness, the smallest n for a target, and what a bigger surrogate is worth.

Nothing here knows how a trial is simulated. An ``Evaluate`` is asked for the trials from one number to another of one
candidate and answers with arrays, one entry a trial: ``draw`` (which set of constants), ``success``, and whatever else is
wanted (``enrolled``, ``duration``, ``cost``). Trial k of every candidate shares its people, fate and constants with trial
k of every other, so differences are far surer than the numbers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import special

from quell import keys
from quell.design import answers
from quell.design.answers import Mean
from quell.keys import jax
from quell.sentences import BadInput

C = TypeVar("C", bound=Hashable)
Trials = Mapping[str, np.ndarray]
Evaluate = Callable[[C, int, int], Trials]
Tell = Callable[[str, float | None], None]

BEYOND = 3.0  # errors by which a candidate must fall behind to leave the race
CONFIDENCE = 1.959963984540054
NEAREST = 5  # points to which the curve of success by n is fitted


def silent(step: str, share: float | None) -> None:
    """Tells nobody."""


# -- a race ------------------------------------------------------------------------------------------------------------
class Racer(NamedTuple):
    """One candidate at the end of a race: what it reached, and how far it fell short of the best, with Monte Carlo errors."""

    candidate: Any
    value: Mean
    shortfall: Mean
    trials: int
    left: int  # the round after which it left; 0 if it was there at the end


class Race(NamedTuple):
    """The outcome of a race: the best first. ``decided``: whether the best is ahead of all others beyond the error."""

    racers: tuple[Racer, ...]
    decided: bool
    trials: int  # trials simulated, over all candidates

    @property
    def best(self) -> Any:
        return self.racers[0].candidate


def race(
    candidates: Sequence[C],
    evaluate: Evaluate[C],
    gain: Callable[[Trials], np.ndarray],
    *,
    first: int = 250,
    most: int = 10_000,
    tell: Tell = silent,
) -> Race:
    """The candidate of the greatest mean gain a trial, found by dropping whoever is behind beyond the error.

    After each round (``first`` trials, then twice as many ... up to ``most``) a candidate leaves that lies more than
    three Monte Carlo errors of the paired difference behind the best (successive elimination on common random numbers:
    Even-Dar 2006, Jamieson and Talwalkar 2016); the race ends when one is left or the trials are used up.
    Raises BadInput where there is nobody to race.

    >>> def coin(p, begin, end):
    ...     k = np.arange(begin, end)
    ...     return {"draw": k, "success": (k * 0.6180339887) % 1 < p}
    >>> race([0.3, 0.8, 0.5], coin, lambda trials: trials["success"].astype(float), first=100, most=400).best
    0.8
    """  # fmt: skip
    if not candidates:
        raise BadInput("there is no design to compare. Name at least one.")
    known: dict[Any, list[Trials]] = {one: [] for one in candidates}
    racing, left, done, turn = list(dict.fromkeys(candidates)), dict.fromkeys(candidates, 0), 0, 0
    while done < most and (len(racing) > 1 or done == 0):
        turn, end = turn + 1, min(max(first, 2 * done), most)
        for one in racing:
            known[one].append(evaluate(one, done, end))
            tell(f"round {turn}: {len(racing)} designs, trials to {end:,}", end / most)
        done = end
        gains = {one: _joined(known[one], gain) for one in racing}
        for one in _behind(gains, _draws(known[racing[0]])):
            racing.remove(one)
            left[one] = turn
    return _ranked(known, left, gain)


def _joined(parts: Sequence[Trials], gain: Callable[[Trials], np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(gain(part), float) for part in parts])


def _draws(parts: Sequence[Trials]) -> np.ndarray:
    return np.concatenate([np.asarray(part["draw"]) for part in parts])


def _behind(gains: Mapping[Any, np.ndarray], draw: np.ndarray) -> list[Any]:
    """Who is behind the best beyond the error of the paired difference."""
    best = max(gains, key=lambda one: float(np.nanmean(gains[one])))
    found = []
    for one, gain in gains.items():
        gap = answers.mean(gains[best] - gain, draw)
        if one != best and gap.value > BEYOND * (gap.error if math.isfinite(gap.error) else math.inf):
            found.append(one)
    return found


def _ranked(known: Mapping[Any, list[Trials]], left: Mapping[Any, int], gain: Callable[[Trials], np.ndarray]) -> Race:
    """Everybody, the best first: those who stayed, by their mean; then those who left, the last to leave first."""
    gains = {one: _joined(parts, gain) for one, parts in known.items()}
    order = sorted(known, key=lambda one: (left[one] > 0, -left[one], -float(np.nanmean(gains[one]))))
    best, racers = order[0], []
    for one in order:
        n = min(len(gains[one]), len(gains[best]))
        draw = _draws(known[one])
        shortfall = answers.mean(gains[best][:n] - gains[one][:n], draw[:n])
        racers.append(Racer(one, answers.mean(gains[one], draw), shortfall, len(gains[one]), left[one]))
    decided = all(r.shortfall.value > BEYOND * r.shortfall.error for r in racers[1:])
    return Race(tuple(racers), decided, sum(r.trials for r in racers))


def compare(
    candidates: Sequence[C],
    evaluate: Evaluate[C],
    *,
    trials: int,
    less: Sequence[str],
    more: Sequence[str],
    tell: Tell = silent,
) -> list[dict[str, Any]]:
    """Every candidate on the same trials: the mean of each column with its error, and whether it is on the Pareto front.

    The front is judged on the means of the columns ``less`` (the fewer the better) and ``more``.

    >>> def one(n, begin, end):
    ...     k = np.arange(begin, end)
    ...     return {"draw": k, "success": (k * 0.6180339887) % 1 < n / 10, "enrolled": np.full(len(k), n)}
    >>> rows = compare([4, 8], one, trials=100, less=["enrolled"], more=["success"])
    >>> [row["front"] for row in rows]
    [True, True]
    """  # fmt: skip
    rows: list[dict[str, Any]] = []
    for place, one in enumerate(candidates):
        found = evaluate(one, 0, trials)
        draw = np.asarray(found["draw"])
        means = {name: answers.mean(np.asarray(found[name], float), draw) for name in (*less, *more)}
        rows.append({"candidate": one} | {name: {"value": m.value, "error": m.error} for name, m in means.items()})
        tell("comparing designs", (place + 1) / len(candidates))
    points = [{name: row[name]["value"] for name in (*less, *more)} for row in rows]
    for row, kept in zip(rows, answers.front(points, less, more), strict=True):
        row["front"] = kept
    return rows


# -- the smallest n ----------------------------------------------------------------------------------------------------
class Smallest(NamedTuple):
    """The smallest n whose chance of success reaches the target, and where that n lies for the Monte Carlo error (95 %).

    ``reached`` False: no n up to the largest does; ``points``: what was simulated, n with its frequency of success.
    """

    n: int
    low: float
    high: float
    reached: bool
    target: float
    points: tuple[tuple[int, Mean], ...]
    words: str


def smallest(
    evaluate: Evaluate[int],
    target: float,
    between: tuple[int, int],
    *,
    step: int = 2,
    trials: int = 10_000,
    rounds: int = 8,
    tell: Tell = silent,
) -> Smallest:
    """The smallest n (a multiple of ``step``) whose chance of success, power or assurance, is at least ``target``.

    Stochastic root finding on the probit scale, where the chance of success of many trials is nearly straight in the root
    of n: after the ends, each n tried is where the fit of all points so far meets the target (Robbins and Monro 1951;
    Wu 1985, doi:10.1080/01621459.1985.10478213, with the probit for the logit). The fit weighs points by their Monte Carlo
    errors; the interval is what the error of so many trials leaves open.
    Raises BadInput where the target or the range is impossible.

    >>> def power(n, begin, end):
    ...     u = (np.arange(begin, end) * 0.6180339887) % 1
    ...     return {"draw": np.arange(begin, end), "success": u < special.ndtr(0.1 * math.sqrt(n) - 1.96)}
    >>> found = smallest(power, 0.9, (200, 4000), trials=4000)
    >>> bool(abs(found.n - ((1.96 + special.ndtri(0.9)) / 0.1) ** 2) < 40)
    True
    """  # fmt: skip
    low, high = _range(target, between, step)
    points: dict[int, Mean] = {}

    def at(n: int) -> Mean:
        if n not in points:
            found = evaluate(n, 0, trials)
            points[n] = answers.rate(np.asarray(found["success"]), np.asarray(found["draw"]))
            tell(f"n = {n:,}: {100 * points[n].value:.1f} % succeed", len(points) / (rounds + 2))
        return points[n]

    if at(low).value >= target:
        return _ended(low, True, target, points, f"even the smallest, {low:,}, reaches {100 * target:.0f} %.")
    if at(high).value < target:
        return _ended(high, False, target, points, f"not even {high:,} people reach {100 * target:.0f} %: {100 * at(high).value:.1f} % succeed.")  # fmt: skip
    below, above, last = low, high, 0.0
    for _ in range(rounds):
        root, lower, upper = _crossing(points, target)
        if above - below <= max(step, upper - lower):  # the error is wider than what is left to search
            break
        guess = _multiple((root, upper, lower)[int(np.sign(last))], step)  # from the other side than the last
        n = guess if below < guess < above else _multiple((below + above) / 2, step)
        last = target - at(n).value
        below, above = (n, above) if last > 0 else (below, n)
    root, lower, upper = _crossing(points, target)
    n = min(max(math.ceil(root / step) * step, below), above) if math.isfinite(root) else above
    text = f"{n:,} people reach {100 * target:.0f} % ({lower:,.0f} to {upper:,.0f} for the Monte Carlo error of {trials:,} trials each)."
    return Smallest(n, lower, upper, True, target, tuple(sorted(points.items())), text)


def _range(target: float, between: tuple[int, int], step: int) -> tuple[int, int]:
    low, high = between
    if not 0 < target < 1:
        raise BadInput(f"the target is {target:g}: a chance of success between 0 and 1, such as 0.9.")
    if not 0 < low < high or step < 1:
        raise BadInput(
            f"n is looked for from {low} to {high} in steps of {step}: the first must be smaller, all above zero."
        )
    return -(-low // step) * step, high // step * step


def _multiple(n: float, step: int) -> int:
    return round(n / step) * step if math.isfinite(n) else -1


def _ended(n: int, reached: bool, target: float, points: Mapping[int, Mean], words: str) -> Smallest:
    edge = (math.nan, n) if reached else (n, math.inf)
    return Smallest(n, edge[0], edge[1], reached, target, tuple(sorted(points.items())), words)


def _crossing(points: Mapping[int, Mean], target: float) -> tuple[float, float, float]:
    """Where probit(success) = a + b sqrt(n) meets the target (least squares of the five nearest points), and its 95 % interval.

    All n share their trials, so the points err together: the interval is the error of the nearest one through the slope.
    """
    aimed = special.ndtri(target)
    near = sorted(points, key=lambda n: abs(special.ndtri(_inner(points[n])) - aimed))[:NEAREST]
    y = np.array([special.ndtri(_inner(points[n])) for n in near])
    x, error = np.sqrt(np.array(near, float)), np.array([_least(points[n]) for n in near])
    error = error * math.sqrt(2 * math.pi) * np.exp(y**2 / 2)  # on the probit scale
    w = 1 / error**2
    centre = (w * x).sum() / w.sum()
    slope = float((w * (x - centre) * y).sum() / (w * (x - centre) ** 2).sum())
    if not slope > 0:
        return math.nan, 0.0, math.inf
    root = float(centre + (aimed - (w * y).sum() / w.sum()) / slope)
    half = CONFIDENCE * float(error[0]) / slope
    return root**2, max(root - half, 0.0) ** 2, (root + half) ** 2


def _inner(one: Mean) -> float:
    """A frequency kept off 0 and 1 by half a trial."""
    return min(max(one.value, 0.5 / one.n), 1 - 0.5 / one.n)


def _least(one: Mean) -> float:
    """The error of a frequency, never below that of independent trials."""
    p = _inner(one)
    usual = math.sqrt(p * (1 - p) / one.n)
    return max(one.error, usual) if math.isfinite(one.error) else usual


# -- worth of information ----------------------------------------------------------------------------------------------
class Sized(NamedTuple):
    """A surrogate phase of ``n`` people: what it adds (EVSI), how often the trial then goes on, and succeeds if it does."""

    n: int
    worth: Mean
    goes_on: float
    success: float  # of trials that go on; not a number where it was not given


class Worth(NamedTuple):
    """What information is worth, in the unit of the net benefit of going on, with errors over draws.

    ``now``: the better of going on and stopping without more information; ``perfect``: what knowing everything would add
    (EVPI); ``partial``: what knowing the true effect on the surrogate would (EVPPI); ``by_n``: what phases of n people do.
    """

    now: Mean
    goes_on: bool  # without more information
    success: float  # without more information, if it goes on
    perfect: Mean
    partial: Mean
    by_n: tuple[Sized, ...]


REPEATS = 16  # readings of a surrogate simulated for each draw
KNOTS = (0, 1, 2, 3, 5, 8)  # inner knots among which the regression chooses
PARTS = 20  # of the draws, for the jackknife


def perfect(net: np.ndarray) -> Mean:
    """The expected value of perfect information, E max(NB, 0) - max(E NB, 0), of going on with ``net`` (draws,).

    >>> perfect(np.array([1.0, -1.0])).value
    0.5
    """
    return answers.mean(np.maximum(net, 0) - (net if net.mean() > 0 else 0), np.arange(len(net)))


def worth_of_surrogate(
    effect: np.ndarray,
    net: np.ndarray,
    sizes: Sequence[int],
    *,
    sd: float,
    success: np.ndarray | None = None,
    key: int = 2026,
) -> Worth:
    """What a surrogate phase (PET) of n people, half on each arm, adds to the choice of going on or stopping.

    ``effect`` (draws,): the true difference of the surrogate in each draw; ``net`` (draws,): the net benefit of going on in
    that draw, 0 being that of stopping; ``sd``: of one person's reading, so that the difference read has the error
    2 sd / sqrt(n); ``success`` (draws,): the chance of success of the trial that follows.

    EVSI by regression (Strong 2015, doi:10.1177/0272989X15575286): readings are simulated in every draw, the expected net
    benefit given a reading is a natural cubic spline whose knots are chosen by generalised cross-validation, and
    EVSI = E max(g(x), 0) - max(E NB, 0). Errors are those of a jackknife by groups of draws. Readings share their random
    numbers over n. Raises BadInput where shapes disagree or there are fewer than 40 draws.

    >>> effect = special.ndtri((np.arange(200) + 0.5) / 200)
    >>> found = worth_of_surrogate(effect, effect - 0.3, [50, 400], sd=10.0)
    >>> 0 < found.by_n[0].worth.value < found.by_n[1].worth.value < found.perfect.value
    True
    """  # fmt: skip
    effect, net = np.asarray(effect, float), np.asarray(net, float)
    if effect.shape != net.shape or net.ndim != 1 or len(net) < 2 * PARTS:
        raise BadInput(
            f"effects of shape {effect.shape} and net benefits of shape {net.shape}: one of each for every draw is needed, "
            f"for {2 * PARTS} draws or more."
        )
    if not sd > 0 or not all(n >= 4 for n in sizes):
        raise BadInput(
            f"a reading with SD {sd:g} and phases of {list(sizes)} people: the SD is above 0, and 4 people the least."
        )
    chance = np.full(len(net), math.nan) if success is None else np.asarray(success, float)
    z = np.asarray(jax.random.normal(keys.at(key, "surrogate"), (len(net), REPEATS)))
    goes = bool(net.mean() > 0)
    rows = [_sized(n, effect[:, None] + 2 * sd / math.sqrt(n) * z, net, chance) for n in sizes]
    each = np.arange(len(net))
    return Worth(
        now=answers.mean(net, each) if goes else Mean(0.0, 0.0, len(net), len(net)),
        goes_on=goes,
        success=float(chance.mean()) if goes else math.nan,
        perfect=perfect(net),
        partial=_worth(effect[:, None], net)[0],
        by_n=tuple(rows),
    )


def _sized(n: int, readings: np.ndarray, net: np.ndarray, chance: np.ndarray) -> Sized:
    worth, fitted = _worth(readings, net)
    on = fitted > 0
    success = float((on * chance[:, None]).sum() / on.sum()) if on.any() else math.nan
    return Sized(n, worth, float(on.mean()), success)


def _worth(readings: np.ndarray, net: np.ndarray) -> tuple[Mean, np.ndarray]:
    """EVSI from readings (draws, repeats), its jackknife error, and the expected net benefit given each reading."""
    knots, curve = _best_curve(readings, net)
    fitted = curve.reshape(readings.shape)
    value = float(np.maximum(fitted, 0).mean() - max(net.mean(), 0))
    part, count = np.arange(len(net)) * PARTS // len(net), len(net)
    without = []
    for one in range(PARTS):
        kept = part != one
        again = _curve(readings[kept], net[kept], knots)
        without.append(np.maximum(again, 0).mean() - max(net[kept].mean(), 0))
    error = math.sqrt((PARTS - 1) / PARTS * float(((np.array(without) - np.mean(without)) ** 2).sum()))
    return Mean(value, error, count, count), fitted


def _best_curve(readings: np.ndarray, net: np.ndarray) -> tuple[int, np.ndarray]:
    """The spline of the least generalised cross-validation score; draws, not readings, are what is independent."""
    scores = {}
    for knots in KNOTS:
        fitted = _curve(readings, net, knots)
        wrong = ((net[:, None] - fitted.reshape(readings.shape)) ** 2).mean()
        scores[knots] = (wrong / (1 - (knots + 2) / len(net)) ** 2, fitted)
    knots = min(scores, key=lambda one: scores[one][0])
    return knots, scores[knots][1]


def _curve(readings: np.ndarray, net: np.ndarray, knots: int) -> np.ndarray:
    """Least squares of the net benefit on a natural cubic spline of the readings, at the readings, flat."""
    x = readings.ravel()
    y = np.repeat(net, readings.shape[1])
    basis = _natural(x, np.quantile(x, np.linspace(0.02, 0.98, knots + 2)))
    coefficients, *_ = np.linalg.lstsq(basis, y, rcond=None)
    return np.asarray(basis @ coefficients)


def _natural(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """The natural cubic spline basis of Hastie, Tibshirani and Friedman (2009, eq. 5.4-5.5): (points, knots)."""
    wide = knots[-1] - knots[0] or 1.0
    t, k = (x - knots[0]) / wide, (knots - knots[0]) / wide

    def bent(i: int) -> np.ndarray:
        return (np.maximum(t - k[i], 0) ** 3 - np.maximum(t - k[-1], 0) ** 3) / (k[-1] - k[i] or 1.0)

    columns = [np.ones_like(t), t, *(bent(i) - bent(len(k) - 2) for i in range(len(k) - 2))]
    return np.stack(columns, axis=1)

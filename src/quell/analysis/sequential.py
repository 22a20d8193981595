"""Group-sequential tests: boundaries, the chance of crossing them, and what may be claimed at or after a stop.

At look k the statistic Z_k is normal with mean drift x sqrt(I_k) and variance 1, and sqrt(I_k) Z_k has independent
increments (Jennison and Turnbull 2000, chapter 3). The density of Z_k among trials still running is carried from look to
look (Armitage, McPherson and Rowe 1969) by Gauss-Legendre panels no wider than its kernel, which is exact to about 1e-12.
Upper boundaries are for benefit; statistics are signed so that large is good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from quell.analysis.claim import Caution, ClaimError, Estimate, two_sided

# Z beyond this many standard errors from its mean has probability below 1e-17.
FAR = 8.6
NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
NEVER = 38.0


class Boundaries(NamedTuple):
    """A group-sequential test: information fraction, lower (futility) and upper (efficacy) limits of Z, each (K,).

    `alpha` is one-sided; two-sided symmetric tests spend it on either side. Limits that cannot be crossed are infinite.
    """

    information: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    alpha: float
    binding: bool
    spent: np.ndarray

    @property
    def stage_levels(self) -> np.ndarray:
        """The one-sided local level of each look."""
        return special.ndtr(-self.upper)


class Crossing(NamedTuple):
    """The chance of first crossing the upper and the lower limit at each look, (K,) each."""

    upper: np.ndarray
    lower: np.ndarray

    @property
    def power(self) -> float:
        return float(self.upper.sum())

    def expected(self, information: np.ndarray) -> float:
        """Mean of any quantity known at each look (information, patients, events, days) at the time the trial stops."""
        stops = self.upper + self.lower
        final = 1 - stops[:-1].sum()
        return float(np.dot(stops[:-1], information[:-1]) + final * information[-1])


def crossing(information: np.ndarray, lower: np.ndarray, upper: np.ndarray, drift: float = 0.0) -> Crossing:
    """The chance of first crossing each limit at each look; drift is the mean of Z at information 1.

    information, lower and upper (K,), information rising. Raises ClaimError where they do not fit.

    >>> found = crossing(np.array([0.5, 1.0]), np.full(2, -np.inf), np.array([2.7965, 1.9774]))
    >>> found.upper.round(5).tolist()
    [0.00258, 0.02242]
    """
    information = _rising(information)
    lower, upper = (np.clip(np.asarray(side, float), -NEVER, NEVER) for side in (lower, upper))
    if not lower.shape == upper.shape == information.shape:
        raise ClaimError("Information, lower and upper limits need one value for each look.")
    over, under = np.zeros(len(information)), np.zeros(len(information))
    state = _Running(np.zeros(1), np.ones(1), 0.0)
    for k, now in enumerate(information):
        over[k], under[k] = state.tail(upper[k], now, drift), state.tail(lower[k], now, drift, below=True)
        state = state.onward(lower[k], upper[k], now, drift)
    return Crossing(over, under)


class _Running(NamedTuple):
    """The trials still running after a look: quadrature nodes of the score S = Z sqrt(I), and their mass."""

    score: np.ndarray
    mass: np.ndarray
    information: float

    def tail(self, limit: float, now: float, drift: float, below: bool = False) -> float:
        """The chance that Z at the next look passes the limit."""
        step = now - self.information
        z = (limit * np.sqrt(now) - self.score - drift * step) / np.sqrt(step)
        return float(np.dot(self.mass, special.ndtr(z if below else -z)))

    def limit(self, now: float, chance: float, drift: float, below: bool = False) -> float:
        """The limit of Z at the next look that is passed with this chance."""
        return _solve(lambda limit: self.tail(limit, now, drift, below) - chance, -NEVER, NEVER)

    def onward(self, lower: float, upper: float, now: float, drift: float) -> _Running:
        """The density between the limits at the next look."""
        step, width = now - self.information, np.sqrt(now - self.information)
        low = max(lower * np.sqrt(now), self.score.min(initial=0.0) + drift * step - FAR * width)
        high = min(upper * np.sqrt(now), self.score.max(initial=0.0) + drift * step + FAR * width)
        if high <= low or not len(self.score):
            return _Running(np.zeros(0), np.zeros(0), now)
        edges = np.linspace(low, high, max(int(np.ceil((high - low) / width / 2)), 1) + 1)
        half = np.diff(edges)[:, None] / 2
        nodes = (edges[:-1, None] + half + half * NODES).ravel()
        z = (nodes[:, None] - self.score - drift * step) / width
        density = np.exp(-(z**2) / 2) @ self.mass / (np.sqrt(2 * np.pi) * width)
        return _Running(nodes, density * (half * WEIGHTS).ravel(), now)


# -- spending ----------------------------------------------------------------------------------------------------------
def spending(kind: str, alpha: float, parameter: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """A spending function: error spent by information fraction t in (0, 1].

    `obrien-fleming` 2 - 2 Phi(z_{1-alpha/2} / sqrt t) and `pocock` alpha ln(1 + (e - 1) t) (Lan and DeMets 1983);
    `hwang-shih-decani` alpha (1 - e^{-g t}) / (1 - e^{-g}) (1990); `kim-demets` alpha t^rho (1987). Raises ClaimError
    for another name or a missing parameter.

    >>> float(spending("kim-demets", 0.025, 2)(np.array(0.5)))
    0.00625
    """
    if kind in ("hwang-shih-decani", "kim-demets") and parameter is None:
        raise ClaimError(
            f"The spending function '{kind}' needs a parameter, for example {-4 if kind[0] == 'h' else 3}."
        )
    g = 0.0 if parameter is None else float(parameter)
    if kind == "kim-demets" and g <= 0:
        raise ClaimError(f"The Kim-DeMets power is {g}; it must be above 0.")
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "obrien-fleming": lambda t: 2 * special.ndtr(-special.ndtri(1 - alpha / 2) / np.sqrt(t)),
        "pocock": lambda t: alpha * np.log1p((np.e - 1) * t),
        "hwang-shih-decani": lambda t: alpha * (t if g == 0 else np.expm1(-g * t) / np.expm1(-g)),
        "kim-demets": lambda t: alpha * t**g,
    }
    if kind not in functions:
        raise ClaimError(f"The spending function is '{kind}'; choose {', '.join(functions)}.")
    return lambda t: functions[kind](np.minimum(np.asarray(t, float), 1.0))


def by_spending(
    information: np.ndarray,
    spend: Callable[[np.ndarray], np.ndarray],
    *,
    spend_at: np.ndarray | None = None,
    two_sided_test: bool = False,
) -> Boundaries:
    """Efficacy limits that spend the error `spend` gives, look by look; looks may be unequal and re-timed.

    information (K,) is a fraction of the final one; spend_at (K,) is the clock of the spending where that is another
    (calendar time). Two-sided tests are symmetric and spend on each side. Raises ClaimError where looks do not rise.

    >>> by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025)).upper.round(4).tolist()
    [2.9626, 1.9686]
    """
    information = _rising(information)
    clock = information if spend_at is None else _rising(spend_at)
    due = np.diff(np.concatenate([[0.0], spend(clock)]))
    upper = np.zeros(len(information))
    state = _Running(np.zeros(1), np.ones(1), 0.0)
    for k, now in enumerate(information):
        upper[k] = state.limit(now, due[k], 0.0)
        state = state.onward(-upper[k] if two_sided_test else -NEVER, upper[k], now, 0.0)
    lower = -upper if two_sided_test else np.full(len(upper), -np.inf)
    return Boundaries(information, lower, upper, float(spend(np.ones(1))[0]), two_sided_test, np.cumsum(due))


def by_shape(
    information: np.ndarray, alpha: float, *, shape: float | str = "obrien-fleming", two_sided_test: bool = False
) -> Boundaries:
    """Limits of one shape, c t^(shape - 1/2): O'Brien-Fleming (0), Pocock (1/2), Wang-Tsiatis (any; 1987).

    c makes the one-sided error alpha (on each side of a two-sided test). Raises ClaimError where looks do not rise.

    >>> by_shape(np.array([0.5, 1.0]), 0.025).upper.round(4).tolist()
    [2.7965, 1.9774]
    """
    information = _rising(information)
    named = {"obrien-fleming": 0.0, "pocock": 0.5}
    if isinstance(shape, str) and shape not in named:
        raise ClaimError(f"The shape is '{shape}'; choose 'obrien-fleming', 'pocock' or a Wang-Tsiatis number.")
    form = (information / information[-1]) ** ((named[shape] if isinstance(shape, str) else float(shape)) - 0.5)

    def error(c: float) -> np.ndarray:
        return crossing(information, -c * form if two_sided_test else np.full(len(form), -np.inf), c * form).upper

    c = _solve(lambda c: error(c).sum() - alpha, 0.01, 12.0)
    lower = -c * form if two_sided_test else np.full(len(form), -np.inf)
    return Boundaries(information, lower, c * form, alpha, two_sided_test, np.cumsum(error(c)))


def with_futility(
    boundaries: Boundaries, spend: Callable[[np.ndarray], np.ndarray], *, binding: bool = False
) -> tuple[Boundaries, float]:
    """Add futility limits that spend the type II error, and give the drift the test then needs.

    The drift is such that efficacy and futility meet at the last look. Non-binding (the default) leaves the efficacy
    limits as they are, so that the type I error holds though a futility stop is overruled; binding ones are recomputed
    with the error that futility saves (Pampallona, Tsiatis and Kim 2001). Raises ClaimError where none can be found.

    >>> base = by_spending(np.array([0.5, 1.0]), spending("obrien-fleming", 0.025))
    >>> bounds, drift = with_futility(base, spending("obrien-fleming", 0.2))
    >>> bool(bounds.lower[-1] == bounds.upper[-1]), round(drift, 3)
    (True, 2.879)
    """
    due = np.diff(np.concatenate([[0.0], spend(boundaries.information)]))

    def limits(drift: float) -> tuple[np.ndarray, np.ndarray, float]:
        return _both_limits(boundaries, due, drift, binding)

    drift = _solve(lambda drift: limits(drift)[2], 0.5, 12.0)
    lower, upper, _ = limits(drift)
    lower[-1] = upper[-1]
    return boundaries._replace(lower=lower, upper=upper, binding=binding), drift


def _both_limits(boundaries: Boundaries, due: np.ndarray, drift: float, binding: bool) -> tuple:
    """Futility (and, if binding, efficacy) limits at a drift; and by how much they overlap at the last look."""
    looks = boundaries.information
    lower, upper = np.zeros(len(looks)), boundaries.upper.copy()
    alpha = np.diff(np.concatenate([[0.0], boundaries.spent]))
    null = alternative = _Running(np.zeros(1), np.ones(1), 0.0)
    for k, now in enumerate(looks):
        if binding:
            upper[k] = null.limit(now, alpha[k], 0.0)
        lower[k] = alternative.limit(now, due[k], drift, below=True)
        if lower[k] >= upper[k] and k < len(looks) - 1:
            # the limits meet before the last look: the drift is too large
            return lower, upper, 1.0 + lower[k] - upper[k]
        null = null.onward(min(lower[k], upper[k]), upper[k], now, 0.0)
        alternative = alternative.onward(min(lower[k], upper[k]), upper[k], now, drift)
    return lower, upper, float(lower[-1] - upper[-1])


def needed_drift(boundaries: Boundaries, power: float) -> float:
    """The drift (mean of Z at full information) that gives the test this power; its square over the fixed test's is the inflation.

    Raises ClaimError where the power is not between alpha and 1.

    >>> round(needed_drift(by_shape(np.array([0.5, 1.0]), 0.025), 0.8), 4)
    2.8125
    """
    if not boundaries.alpha < power < 1:
        raise ClaimError(f"The power is {power}; it must lie between alpha ({boundaries.alpha}) and 1.")
    information, lower, upper = boundaries[:3]
    return _solve(lambda drift: crossing(information, lower, upper, drift).power - power, 0.0, 20.0)


def inflation(boundaries: Boundaries, power: float) -> float:
    """How much larger the largest information is than a fixed test's of the same error and power.

    >>> round(inflation(by_shape(np.array([0.5, 1.0]), 0.025), 0.8), 4)
    1.0078
    """
    fixed = special.ndtri(1 - boundaries.alpha) + special.ndtri(power)
    return float(needed_drift(boundaries, power) ** 2 / fixed**2)


# -- at a look, and after the stop -------------------------------------------------------------------------------------
def conditional_power(z: float, information: float, boundaries: Boundaries, drift: float | None = None) -> float:
    """The chance of crossing an upper limit at a later look, given Z = z now; drift None is the current trend.

    information is the fraction at which z was seen; looks at or before it are past. Raises ClaimError where none is left.

    >>> round(conditional_power(1.5, 0.5, by_shape(np.array([0.5, 1.0]), 0.025)), 3)
    0.581
    """
    ahead = boundaries.information > information
    if not ahead.any() or information <= 0:
        raise ClaimError("Conditional power needs a look still to come, and information above 0 now.")
    now = z / np.sqrt(information) if drift is None else drift
    looks = boundaries.information[ahead]
    rest = looks - information
    shift = z * np.sqrt(information)
    upper, lower = (
        (side[ahead] * np.sqrt(looks) - shift) / np.sqrt(rest) for side in (boundaries.upper, boundaries.lower)
    )
    return crossing(rest, lower, upper, now).power


def predictive_power(
    z: float, information: float, boundaries: Boundaries, prior: tuple[float, float] | None = None
) -> float:
    """Conditional power averaged over what is believed of the drift after seeing z: normal prior (mean, sd) or a flat one.

    >>> round(predictive_power(1.5, 0.5, by_shape(np.array([0.5, 1.0]), 0.025)), 3)
    0.557
    """
    precision = information + (0.0 if prior is None else prior[1] ** -2)
    mean = (z * np.sqrt(information) + (0.0 if prior is None else prior[0] * prior[1] ** -2)) / precision
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    drifts = mean + nodes / np.sqrt(precision)
    chances = [conditional_power(z, information, boundaries, float(drift)) for drift in drifts]
    return float(np.dot(weights, chances) / weights.sum())


def stagewise_p(z: float, look: int, boundaries: Boundaries, drift: float = 0.0) -> float:
    """The one-sided p of stopping at this look (from 0) with Z = z, in the stage-wise ordering (Tsiatis et al. 1984).

    Futility limits count only where binding. At drift 0 it is the p; elsewhere it makes intervals.

    >>> round(stagewise_p(3.0, 0, by_shape(np.array([0.5, 1.0]), 0.025)), 5)
    0.00135
    """
    lower = boundaries.lower if boundaries.binding else np.full(len(boundaries.lower), -np.inf)
    upper = np.append(boundaries.upper[:look], z)
    found = crossing(boundaries.information[: look + 1], np.append(lower[:look], -np.inf), upper, drift)
    return float(found.upper.sum())


def final_estimate(
    z: float, look: int, boundaries: Boundaries, *, se: float, n: int = 0, level: float = 0.95
) -> Estimate:
    """Median-unbiased estimate, interval and two-sided p after a stop at this look, by stage-wise ordering.

    se is that of the effect at this look, so that effect = z x se; the estimate is on its scale.

    >>> found = final_estimate(3.0, 0, by_shape(np.array([0.5, 1.0]), 0.025), se=0.1)
    >>> [round(float(v), 4) for v in (found.estimate, found.lower, found.upper)]
    [0.3, 0.104, 0.496]
    """
    unit = se * np.sqrt(boundaries.information[look])

    def at(chance: float) -> float:
        middle = z / np.sqrt(boundaries.information[look])
        reach = 12 / np.sqrt(boundaries.information[0])
        return unit * _solve(
            lambda drift: stagewise_p(z, look, boundaries, drift) - chance, middle - reach, middle + reach
        )

    tail = (1 - level) / 2
    p = stagewise_p(z, look, boundaries)
    numbers = np.array([at(0.5), se, at(tail), at(1 - tail), z, np.inf, 2 * min(p, 1 - p)])
    middle, error, lower, upper, statistic, df, both = numbers
    return Estimate(middle, error, lower, upper, statistic, df, both, np.asarray(n), np.asarray(0), level)


def repeated_interval(effect: np.ndarray, se: np.ndarray, look: int, boundaries: Boundaries, *, n: int = 0) -> Estimate:
    """Effect ± c_k se at look k (from 0): holds at every look together, whether or not the trial stops (Jennison and Turnbull 1989).

    >>> found = repeated_interval(0.3, 0.1, 0, by_shape(np.array([0.5, 1.0]), 0.025))
    >>> round(float(found.lower), 4), found.level
    (0.0203, 0.95)
    """
    effect, se = np.asarray(effect, float), np.asarray(se, float)
    half = boundaries.upper[look] * se
    warning = np.full(effect.shape, 0 if np.all(np.isfinite(half)) else int(Caution.NOT_ESTIMABLE))
    z = effect / se
    p = two_sided(z)
    count = np.full(effect.shape, n)
    df = np.full(effect.shape, np.inf)
    return Estimate(effect, se, effect - half, effect + half, z, df, p, count, warning, 1 - 2 * boundaries.alpha)


def _rising(information: np.ndarray) -> np.ndarray:
    looks = np.atleast_1d(np.asarray(information, float))
    if (
        looks.ndim != 1
        or not len(looks)
        or looks[0] <= 0
        or np.any(np.diff(looks) <= 0)
        or not np.isfinite(looks).all()
    ):
        raise ClaimError(f"The looks are at information {looks.tolist()}; they must rise from above 0, as in 0.5, 1.")
    return looks


def _solve(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a monotone function crosses zero; the nearer end where it does not."""
    ends = function(low), function(high)
    if ends[0] * ends[1] > 0:
        return low if abs(ends[0]) < abs(ends[1]) else high
    return float(optimize.brentq(function, low, high, xtol=1e-13, rtol=1e-14))

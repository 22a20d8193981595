"""Spending functions: how much of an error a trial may have used by each look (Lan and DeMets 1983).

A spending function maps the information fraction t, in (0, 1], to the error spent so far; at t = 1 it is all spent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from quell.analysis.claim import ClaimError

Spending = Callable[[np.ndarray], np.ndarray]
Parameter = float | tuple[float, ...] | None

# the parameters a function needs, and an example of them
NEEDS: dict[str, tuple[int, str]] = {
    "obrien-fleming": (0, ""),
    "pocock": (0, ""),
    "hwang-shih-decani": (1, "-4"),
    "kim-demets": (1, "3"),
    "exponential": (1, "0.75"),
    "xi-gallo": (1, "0.5"),
    "logistic": (2, "(1, 1)"),
    "normal": (2, "(1, 1)"),
    "cauchy": (2, "(1, 1)"),
    "at-end": (0, ""),
}
# the two-parameter families: a distribution function and its inverse (Anderson and Clark 2010)
FAMILIES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "logistic": (special.expit, special.logit),
    "normal": (special.ndtr, special.ndtri),
    "cauchy": (lambda x: 0.5 + np.arctan(x) / np.pi, lambda t: np.tan(np.pi * (t - 0.5))),
}


def spending(kind: str, alpha: float, parameter: Parameter = None) -> Spending:
    """A spending function: error spent by information fraction t in (0, 1].

    `obrien-fleming` 2 - 2 Phi(z_{1-alpha/2} / sqrt t) and `pocock` alpha ln(1 + (e - 1) t) (Lan and DeMets 1983);
    `hwang-shih-decani` alpha (1 - e^{-g t}) / (1 - e^{-g}) (1990); `kim-demets` alpha t^rho (1987); `exponential`
    alpha^(t^-nu); `xi-gallo` 2 - 2 Phi((z_{alpha/2} - z_g sqrt(1 - t)) / sqrt t), conditional error g (2019);
    `logistic`, `normal` and `cauchy` alpha F(a + b F^-1(t)) with parameter (a, b); `at-end` nothing before t = 1.
    Raises ClaimError for another name, an impossible alpha, or a missing or impossible parameter.

    >>> float(spending("kim-demets", 0.025, 2)(np.array(0.5)))
    0.00625
    """
    if not 0 < alpha < 1:
        raise ClaimError(f"The error to spend is {alpha}; it must lie between 0 and 1, for example 0.025.")
    first, second = _parameters(kind, parameter)
    z = special.ndtri(1 - alpha / 2)
    functions: dict[str, Spending] = {
        "obrien-fleming": lambda t: 2 * special.ndtr(-z / np.sqrt(t)),
        "pocock": lambda t: alpha * np.log1p((np.e - 1) * t),
        "hwang-shih-decani": lambda t: alpha * (t if first == 0 else np.expm1(-first * t) / np.expm1(-first)),
        "kim-demets": lambda t: alpha * t**first,
        "exponential": lambda t: alpha ** (t**-first),
        "xi-gallo": lambda t: 2 * special.ndtr(-(z - special.ndtri(1 - first) * np.sqrt(1 - t)) / np.sqrt(t)),
        "at-end": lambda t: np.where(t >= 1, alpha, 0.0),
    }
    if kind in FAMILIES:
        to, back = FAMILIES[kind]
        functions[kind] = lambda t: alpha * to(first + second * back(np.minimum(t, 1 - 1e-16)))
    return lambda t: np.where(np.asarray(t, float) >= 1, alpha, functions[kind](np.clip(t, 1e-300, 1.0)))


def given(times: np.ndarray, spent: np.ndarray) -> Spending:
    """A spending function through given points: error `spent` by the information fractions `times`, linear between.

    times (K,) rise from above 0 to 1; spent (K,) does not fall. Raises ClaimError where they do not.

    >>> given(np.array([0.5, 1.0]), np.array([0.01, 0.025]))(np.array([0.25, 0.5, 1.0])).tolist()
    [0.005, 0.01, 0.025]
    """
    times, spent = np.atleast_1d(np.asarray(times, float)), np.atleast_1d(np.asarray(spent, float))
    if times.shape != spent.shape or times.ndim != 1 or np.any(np.diff(times) <= 0) or times[0] <= 0 or times[-1] != 1:
        raise ClaimError("A spending by points needs as many times as errors, and times that rise from above 0 to 1.")
    if not np.all(np.diff(spent, prepend=0.0) >= 0) or not 0 < spent[-1] < 1:
        raise ClaimError(f"The errors spent are {spent.tolist()}; they must not fall, and end between 0 and 1.")
    x, y = np.append(0.0, times), np.append(0.0, spent)
    return lambda t: np.interp(t, x, y)


def increments(spend: Spending, clock: np.ndarray, tested: np.ndarray | None = None) -> np.ndarray:
    """The error due at each look, (K,), by a spending function on its clock; what a look without a test leaves is due at the next.

    Raises ClaimError where `tested` does not have a value for each look.
    """
    spent = np.maximum.accumulate(np.asarray(spend(clock), float))
    if tested is not None:
        if np.shape(tested) != np.shape(clock):
            raise ClaimError(f"There are {len(clock)} looks: say for each of them whether it is tested.")
        spent = np.maximum.accumulate(np.where(tested, spent, 0.0))
    return np.diff(spent, prepend=0.0)


def _parameters(kind: str, parameter: Parameter) -> tuple[float, float]:
    if kind not in NEEDS:
        raise ClaimError(f"The spending function is '{kind}'; choose {', '.join(NEEDS)}.")
    count, example = NEEDS[kind]
    numbers = () if parameter is None else tuple(float(value) for value in np.atleast_1d(np.asarray(parameter)))
    if count and len(numbers) != count:
        raise ClaimError(f"The spending function '{kind}' needs a parameter, for example {example}.")
    first, second = (*numbers, 0.0, 0.0)[:2] if count else (0.0, 0.0)
    if kind in ("kim-demets", "exponential") and first <= 0:
        raise ClaimError(f"The power of '{kind}' is {first:g}; it must be above 0, for example {example}.")
    if kind == "xi-gallo" and not 0 < first < 1:
        raise ClaimError(f"The conditional error of 'xi-gallo' is {first:g}; it must lie between 0 and 1.")
    if kind in FAMILIES and second <= 0:
        raise ClaimError(f"The slope b of '{kind}' is {second:g}; it must be above 0, for example (a, b) = {example}.")
    return first, second

"""Relaxations in chains, in closed form: what every organ does when nothing drives it.

Each quantity y_i, counted from its resting value, returns to rest at its own rate and may feed others:

    y_i' = -rate_i y_i + sum_j strength_ij y_j

The feeding has no circle and no path longer than two, so the solution over any time is a sum of exponentials: one for
each quantity, a divided difference of two for each link and of three for each path (Bateman 1910).
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from quell.body.parameters import Scalar


class Link(NamedTuple):
    """One quantity feeds another: their names."""

    source: str
    target: str


class Relaxation(NamedTuple):
    """Rates of return per day (a tree like the quantities), and the strength of each link per day."""

    rates: Any
    strengths: tuple[Scalar, ...]


class Factors(NamedTuple):
    """What is left of each quantity after a time, and what reaches the target of each link and of each path."""

    left: Any
    links: tuple[Scalar, ...]
    paths: tuple[Scalar, ...]


NEAR = 1e-6  # per day: rates closer than this count as one; what that costs is below 1e-5 over a step of a week


def between(rate: Scalar, other: Scalar, days: Scalar) -> Scalar:
    """(exp(-rate days) - exp(-other days)) / (other - rate): one exponential seen through another.

    >>> round(float(between(1.0, 2.0, 1.0)), 6), round(float(between(1.0, 1.0, 1.0)), 6)
    (0.232544, 0.367879)
    """
    return divided(jnp.exp(-rate * days), jnp.exp(-other * days), other - rate, days)


def divided(left: Scalar, other: Scalar, gap: Scalar, days: Scalar) -> Scalar:
    """(left - other) / gap, the gap being that of their rates; where it vanishes, the limit days left."""
    one = jnp.abs(gap) < NEAR
    return jnp.where(one, days * left, (left - other) / jnp.where(one, 1.0, gap))


def paths_of(links: tuple[Link, ...]) -> list[tuple[int, int]]:
    """The pairs of links that follow one another."""
    pairs = itertools.product(range(len(links)), repeat=2)
    return [(first, second) for first, second in pairs if links[first].target == links[second].source]


def factors(relaxation: Relaxation, links: tuple[Link, ...], days: Scalar, stays: tuple[str, ...] = ()) -> Factors:
    """The closed form over a time: exp(-rate days), and its divided differences along links and paths.

    What ``stays`` has no rate of return: it only gathers.
    """
    rates = relaxation.rates._asdict()
    left = {name: jnp.ones(()) if name in stays else jnp.exp(-rate * days) for name, rate in rates.items()}
    along = tuple(
        strength * _seen(rates, left, *link, days) for strength, link in zip(relaxation.strengths, links, strict=True)
    )
    far = tuple(_far(relaxation, rates, left, links, path, days) for path in paths_of(links))
    return Factors(type(relaxation.rates)(**left), along, far)


def renew(
    by: Factors, relaxation: Relaxation, links: tuple[Link, ...], name: str, rate: Scalar, days: Scalar
) -> Factors:
    """The factors when one quantity, which feeds none, returns at another rate."""
    rates = relaxation.rates._asdict() | {name: rate}
    left = by.left._asdict() | {name: jnp.exp(-rate * days)}
    along = [
        strength * _seen(rates, left, *link, days) if link.target == name else old
        for old, strength, link in zip(by.links, relaxation.strengths, links, strict=True)
    ]
    far = [
        _far(relaxation, rates, left, links, path, days) if links[path[1]].target == name else old
        for old, path in zip(by.paths, paths_of(links), strict=True)
    ]
    return Factors(by.left._replace(**{name: left[name]}), tuple(along), tuple(far))


def _seen(rates: dict[str, Scalar], left: dict[str, Scalar], source: str, target: str, days: Scalar) -> Scalar:
    """The divided difference along a link."""
    return divided(left[source], left[target], rates[target] - rates[source], days)


def _far(
    relaxation: Relaxation, rates: dict, left: dict, links: tuple[Link, ...], path: tuple[int, int], days: Scalar
) -> Scalar:
    """The divided difference along two links, times their strengths; symmetric, so divided by the wider gap."""
    (a, b), (_, c) = links[path[0]], links[path[1]]
    strength = relaxation.strengths[path[0]] * relaxation.strengths[path[1]]
    ends, sides = rates[c] - rates[a], rates[b] - rates[a]
    through, past = _seen(rates, left, b, c, days), _seen(rates, left, a, c, days)
    wide = jnp.abs(ends) >= jnp.abs(sides)
    above = jnp.where(wide, _seen(rates, left, a, b, days), past) - through
    gap = jnp.where(wide, ends, sides)
    one = jnp.abs(gap) < NEAR  # all three rates are one: the limit
    return strength * jnp.where(one, days * days / 2 * left[a], above / jnp.where(one, 1.0, gap))


def relax(state: Any, by: Factors, links: tuple[Link, ...]) -> Any:
    """The quantities after the time that ``by`` was worked out for, when nothing drives them."""
    before = state._asdict()
    after = {name: left * before[name] for name, left in by.left._asdict().items()}
    for share, (source, target) in zip(by.links, links, strict=True):
        after[target] = after[target] + share * before[source]
    for share, (first, second) in zip(by.paths, paths_of(links), strict=True):
        target = links[second].target
        after[target] = after[target] + share * before[links[first].source]
    return type(state)(**after)


def slopes(state: Any, relaxation: Relaxation, links: tuple[Link, ...]) -> Any:
    """The right-hand side of the relaxation, per day."""
    here = state._asdict()
    change = {name: -rate * here[name] for name, rate in relaxation.rates._asdict().items()}
    for strength, (source, target) in zip(relaxation.strengths, links, strict=True):
        change[target] = change[target] + strength * here[source]
    return type(state)(**change)


def add(state: Any, drive: Any) -> Any:
    """The sum of a relaxation's slopes and a drive in which some quantities may be driven by nothing."""
    return jax.tree.map(lambda a, b: a if b is NOTHING else a + b, state, drive)


def step(state: Any, drive: Any, by: Factors, links: tuple[Link, ...], days: Scalar) -> tuple[Any, tuple, Any]:
    """One step of the fourth-order Runge-Kutta rule on top of the closed form (Lawson 1967): exact when nothing drives.

    ``drive(state, stage)`` gives what is added to the relaxation at stage 0 (the start), 1 and 2 (the middle) and 3 (the
    end). What feeds nothing may be left out of stage 1: its stage 2 counts twice (Simpson). ``by`` belongs to half the step. Returns the state, and the drive at the start, middle and
    end of the step: the gap between one step's end and the next one's start tells the error.
    """

    def half(y: Any) -> Any:
        return relax(y, by, links)

    def plus(y: Any, weight: Scalar, k: Any) -> Any:
        return jax.tree.map(lambda a, b: a if b is NOTHING else a + weight * b, y, k)

    def fill(k: Any) -> Any:
        return jax.tree.map(lambda a: jnp.zeros(()) if a is NOTHING else a, k)

    first = drive(state, 0)
    begun, carried = half(state), half(fill(first))
    second = drive(plus(begun, days / 2, carried), 1)
    third = drive(plus(begun, days / 2, second), 2)
    last = drive(half(plus(begun, days, third)), 3)
    # each middle stage alone is wrong in second order; their mean is not
    middle = jax.tree.map(lambda a, b: NOTHING if a is NOTHING else (a + b) / 2, second, third)
    halfway = plus(plus(begun, days / 4, carried), days / 4, second)
    gathered = plus(plus(begun, days / 6, carried), 2 * days / 3, middle)
    return plus(half(gathered), days / 6, last), (first, middle, last), halfway


def weighed(drives: tuple[Scalar, Scalar, Scalar], z: Scalar, left: Scalar) -> Scalar:
    """The mean of a drive over a step as one quantity feels it that returns with z = rate days; ``left`` is exp(-z).

    integral_0^1 exp(-z (1 - t)) N(t) dt with N the parabola through its start, middle and end: what is felt of a drive
    does not go wrong where the return is fast (the functions phi of exponential integrators, Hochbruck 2010).
    """
    first, middle, last = drives
    phi1 = (1 - left) / z
    phi2 = (1 - phi1) / z
    phi3 = (1 / 2 - phi2) / z
    return phi1 * first - phi2 * (3 * first - 4 * middle + last) + 4 * phi3 * (first - 2 * middle + last)


def quarter(drives: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
    """A drive at the start, middle and end of the first half of a step, from its parabola over the whole.

    >>> quarter((0.0, 1.0, 4.0))
    (0.0, 0.25, 1.0)
    """
    first, middle, last = drives
    return first, (3 * first + 6 * middle - last) / 8, middle


def quotients(*pairs: tuple[Scalar, Scalar]) -> list[Scalar]:
    """Several quotients from one division, which costs a processor as much as ten products: a/b = a d / (b d).

    >>> quotients((1.0, 2.0), (3.0, 4.0))
    [0.5, 0.75]
    """
    whole = 1 / math.prod(below for _, below in pairs)
    return [
        above * whole * math.prod(below for j, (_, below) in enumerate(pairs) if j != i)
        for i, (above, _) in enumerate(pairs)
    ]


class Nothing:
    """In place of a drive: this quantity is not driven."""


NOTHING = Nothing()

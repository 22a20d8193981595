"""Trials of a design a second and core: the plain two-arm design in one go, and put together from its parts.

Run: python -m benchmarks.designs
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import seconds
from quell.design import kernels
from quell.design.crowd import Crowd, Fates

ENROLMENT, LATEST, YEAR = 500.0, 1500, 365.25  # days
RISK, RATIO, LOSS = 0.10, 0.8, 0.02  # a year, on control; hazard ratio; lost a year
# patients, events at each look, trials measured
SIZES = ((600, (30, 60, 90), 10_000), (9_000, (450, 900), 1_500))


def assumed(risk: float = RISK) -> Fates:
    """One hazard for everybody."""
    rate = -np.log1p(-risk) / YEAR * LATEST
    gathered = np.array([[0.0, rate], [0.0, rate * RATIO]], np.float32)
    return Fates((("primary",),), np.array([0.0, LATEST]), gathered.reshape(1, 1, 2, 1, 2))


def banked(draws: int = 50, people: int = 200, knots: int = 20) -> Fates:
    """A bank of people whose hazards differ and change."""
    mean, source = -np.log1p(-RISK) / YEAR * LATEST / (knots - 1), np.random.default_rng(1)
    steps = source.exponential(mean, (draws, 1, 1, people, knots)) * np.array([1, RATIO]).reshape(1, 1, 2, 1, 1)
    steps[..., 0] = 0
    return Fates((("primary",),), np.linspace(0, LATEST, knots), np.cumsum(steps, -1).astype(np.float32))


def plan(n: int, events: tuple[int, ...]) -> kernels.Plain:
    loss = np.array([0.0, -np.log1p(-LOSS)])
    latest = np.full(len(events), LATEST)
    days = np.array([0.0, ENROLMENT]), np.array([0.0, n])
    return kernels.Plain(n, *days, (1, 1), 4, np.array([0.0, YEAR]), loss, np.array(events), latest)


def put_together(seed: np.ndarray, draw: np.ndarray, one: kernels.Plain, fates: Fates) -> list[kernels.LogRanks]:
    """The same trials from the parts, as designs with more rules need them."""
    n, everybody = one.n, np.ones((fates.gathered.shape[0], fates.gathered.shape[3]), bool)
    arrival = kernels.arrivals(seed, n, one.entry_days, one.entry_gathered)
    person, _ = kernels.persons(seed, n, draw, everybody)
    arm = kernels.allocate(seed, n, one.ratio, block=one.block)
    lost = kernels.lost(seed, n, one.lost_days, one.lost_gathered)
    bare = Crowd(seed, draw, person, arrival, np.zeros((1, n), np.int16), arm, np.empty((0, 0, 0)), lost)
    people = kernels.followed(bare._replace(time=kernels.first(fates, bare)), (0,))
    day = kernels.day_of_events(people, one.events, one.latest)
    return [kernels.logrank(people, day[:, look]) for look in range(day.shape[1])]


def show(name: str, work: Callable[[], Any], trials: int, n: int) -> None:
    work()
    took = seconds(work)
    print(f"{name:52s} {trials / took:10,.0f} trials/s {1e9 * took / trials / n:7.1f} ns a person")


def main() -> None:
    """Print trials a second and core, from seeds to the log-rank test at every look; arrivals, fates and loss included."""
    for n, events, trials in SIZES:
        one = plan(n, events)
        for world, fates in (("one hazard", assumed()), ("a bank of people", banked())):
            seed = kernels.seeds(1, np.arange(trials))
            draw = np.arange(trials) % fates.gathered.shape[0]
            what = f"{n} people, {len(events)} looks, {world}"
            show(what, lambda: kernels.looks(seed, draw, one, fates), trials, n)  # noqa: B023
            few = 250  # a chunk of a design
            show(f"{what}, from parts", lambda: put_together(seed[:few], draw[:few], one, fates), few, n)  # noqa: B023


if __name__ == "__main__":
    main()

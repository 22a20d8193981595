"""How many five-year lives a second, and how far the mesh is from a finer one. Run: python -m benchmarks.lives [count]"""

from __future__ import annotations

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from quell import blocks, keys
from quell.body import course, parameters, population

DOSES = (1, 2, 3, 4, 5, *range(12, 55, 7))
READINGS = (1, 5, 12, 26, 40, 54, 61)
FIVE_YEARS = 1826
FLOORS = {"il2": 0.1}  # IU/mL: below it the error is absolute


def people(count: int) -> population.Patient:
    """Candidates for IVORY."""
    constants, who = parameters.load(), population.POPULATIONS["ivory"]
    draw = jax.jit(jax.vmap(lambda i: population.draw(keys.at(2026, "subject", i), constants, who)))
    return jax.tree.map(np.asarray, draw(jnp.arange(count)))


def speed(count: int) -> None:
    """Wall and processor time of ``count`` five-year lives, compilation apart."""
    constants, grid = parameters.load(), course.mesh(DOSES, READINGS, FIVE_YEARS)
    patients, given = people(count), np.full((count, len(DOSES)), 1.5)
    begin = time.perf_counter()
    course.many(jax.tree.map(lambda x: x[:1], patients), given[:1], constants, grid)
    compiled = time.perf_counter()
    worked = time.process_time()
    course.many(patients, given, constants, grid)
    wall, worked = time.perf_counter() - compiled, time.process_time() - worked
    substeps = sum(len(step.substeps) for step in grid.steps)
    print(f"mesh: {len(grid.steps)} steps of the slow organs, {substeps} of the fast; block of {blocks.WIDTH}")
    print(f"compilation {compiled - begin:.1f} s")
    print(f"{count:,} five-year lives: {wall:.2f} s wall, {worked:.2f} s of processor; {count / wall:,.0f} lives/s")
    print(f"one million lives, projected: {wall * 1e6 / count:.0f} s")


def error(count: int = 512, times: int = 6) -> None:
    """Relative error of every reading against the same mesh in ``times`` parts; the worst patient is named."""
    days = (1, 2, 3, 5, 6, 7, 8, 12, 13, 19, 20, 26, 40, 47, 48, 54, 55, 56, 61, 75, 90, 180, 365, 730, FIVE_YEARS)
    constants, grid = parameters.load(), course.mesh(DOSES, days, FIVE_YEARS)
    patients, given = people(count), np.full((count, len(DOSES)), 1.5)
    patients = patients._replace(thresholds=jax.tree.map(lambda x: x * np.inf, patients.thresholds))
    seen, exact = (course.many(patients, given, constants, g).observed for g in (grid, course.refine(grid, times)))
    print(f"{'reading':22s}{'median':>10s}{'99 %':>10s}{'worst':>10s}  of {count} patients, worst of {len(days)} days")
    for name, a, b in zip(seen._fields, seen, exact, strict=True):
        gap = np.abs(a - b) / (np.abs(b) + FLOORS.get(name, 0.0))
        who, day = np.unravel_index(gap.argmax(), gap.shape)
        worst = gap.max(axis=1)
        print(
            f"{name:22s}{np.median(worst):10.1e}{np.quantile(worst, 0.99):10.1e}{gap.max():10.1e}"
            f"  subject {who}, day {days[day]}"
        )


def main() -> None:
    """Print speed and error of a hundred thousand five-year lives."""
    speed(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    error()


if __name__ == "__main__":
    main()

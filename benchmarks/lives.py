"""How many five-year lives a second, how far from the truth, how long to compile, how much memory. python -m benchmarks.lives"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from quell import blocks, keys, machine
from quell.body import course, parameters, population, steps
from quell.keys import jax

DOSES = (1, 2, 3, 4, 5, *range(12, 55, 7))
READINGS = (1, 5, 12, 26, 40, 54, 61)
FIVE_YEARS = 1826
CHUNK = 20_000


def people(count: int, first: int = 0) -> population.Patient:
    """Candidates for IVORY."""
    draw = blocks.Program(
        lambda i: population.draw(keys.at(2026, "subject", i), parameters.load(), population.POPULATIONS["ivory"]),
        identity=("benchmark",),
    )
    return blocks.over(draw, np.arange(first, first + count))


def speed(count: int, threads: int) -> float:
    """Five-year lives per second on so many cores, with what is lived again in finer steps; drawing people apart."""
    constants, grid = parameters.load(), course.mesh(DOSES, READINGS, FIVE_YEARS)
    patients, given = people(count), np.full((count, len(DOSES)), 1.5)
    course.many(jax.tree.map(lambda x: x[:1], patients), given[:1], constants, grid)
    before = machine.workers
    machine.workers = lambda: threads
    try:
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            course.many(patients, given, constants, grid)
            times.append(time.perf_counter() - begin)
    finally:
        machine.workers = before
    return count / min(times)


def compilation() -> tuple[float, float]:
    """Seconds to the first life in a fresh process, from nothing and from the disk: importing apart."""
    code = (
        "import time\nfrom benchmarks import lives\nfrom quell import store\nfrom quell.body import course, parameters, sbml\n"
        "import numpy as np, jax\nstore.keep()\nwho = jax.tree.map(lambda x: np.asarray(x)[None], sbml.typical())\n"
        "begin = time.perf_counter()\n"
        "course.many(who, np.ones((1, 12)), parameters.load(), course.mesh(lives.DOSES, lives.READINGS, 1826))\n"
        "print(time.perf_counter() - begin)"
    )
    with tempfile.TemporaryDirectory() as folder:
        run = lambda: float(  # noqa: E731
            subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"QUELL_CACHE": folder},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        return run(), run()


def memory(count: int) -> tuple[float, float]:
    """Seconds, and peak resident memory (GB), of a process that lives so many in chunks and keeps only counts."""
    code = (
        "import resource, time\nfrom benchmarks import lives\nbegin = time.perf_counter()\n"
        f"lives.reduced({count})\n"
        "print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return float(found[0]), float(found[1])


def reduced(count: int) -> int:
    """Live so many in chunks, people drawn as they come, and count who has another infarction."""
    grid, hit = course.mesh(DOSES, READINGS, FIVE_YEARS), 0
    for first in range(0, count, CHUNK):
        some = people(min(CHUNK, count - first), first)
        life = course.many(some, np.full((len(some.age), len(DOSES)), 1.5), parameters.load(), grid)
        hit += int(np.isfinite(life.events.infarction[:, 0]).sum())
    return hit


def error(count: int = 1000) -> None:
    """Relative error of every reading against the same calendar in a quarter of the steps; the worst patient is named."""
    days = (1, 2, 3, 5, 6, 7, 8, 12, 13, 19, 20, 26, 40, 47, 48, 54, 55, 56, 61, 75, 90, 180, 365, 730, FIVE_YEARS)
    constants, grid = parameters.load(), course.mesh(DOSES, days, FIVE_YEARS)
    patients, given = people(count), np.full((count, len(DOSES)), 1.5)
    patients = patients._replace(thresholds=jax.tree.map(lambda x: x * np.inf, patients.thresholds))
    seen, exact = (course.many(patients, given, constants, g).observed for g in (grid, course.refine(grid, 4)))
    print(f"{'reading':22s}{'median':>10s}{'99 %':>10s}{'worst':>10s}  of {count} patients, worst of {len(days)} days")
    for name, a, b in zip(seen._fields, seen, exact, strict=True):
        gap = np.abs(a - b) / (np.abs(b) + course.FLOORS.get(name, 0.0))
        who, day = np.unravel_index(gap.argmax(), gap.shape)
        worst = gap.max(axis=1)
        print(
            f"{name:22s}{np.median(worst):10.1e}{np.quantile(worst, 0.99):10.1e}{gap.max():10.1e}  subject {who}, day {days[day]}"
        )


def main() -> None:
    """Print speed, error, compilation and memory."""
    tape = steps.tape(course.mesh(DOSES, READINGS, FIVE_YEARS))
    kinds = np.bincount(np.asarray(tape.piece) + 1)
    print(f"steps of a five-year life: {kinds[2]} small ones of drug and cells, {kinds[5]} of tissue")
    for threads in (1, blocks.workers()):
        print(f"{threads} core(s): {speed(50_000, threads):,.0f} five-year lives/s")
    cold, warm = compilation()
    print(f"first life of a fresh process: {cold:.2f} s with compilation, {warm:.2f} s from disk")
    for count in (1_000, 10_000, 100_000, *([1_000_000] if "--million" in sys.argv else [])):
        seconds, peak = memory(count)
        print(f"{count:>9,} lives, drawn and reduced in a process of their own: {seconds:6.1f} s, peak {peak:.2f} GB")
    error()
    print(f"this process's peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()

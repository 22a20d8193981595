"""How long a bank takes from nothing, how much memory, how near its hazards are, how fast it is read. python -m benchmarks.bank"""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from quell import keys, store
from quell.body import steps
from quell.design import bank, lived
from quell.design.parts import World
from quell.protocol import Protocol

NOW = World(name="now", posterior="after-ivory")
CASES = (("ivory", 5 * 365), ("ivory-3", 6 * 365))  # protocol, days lived
MACE = ("infarction", "stroke", "arrest", "revascularisation", "cardiovascular_death")
FINER = 4  # times, every step: the reference


def whole(name: str, horizon: int, folder: pathlib.Path, threads: int) -> tuple[float, float, list[pathlib.Path]]:
    """Seconds by the clock and of the processor for 500 draws of 200 people under every arm; and the shards."""
    recipe = bank.recipe(Protocol.load(name), NOW, horizon=horizon, key=1)

    def make(number: int) -> pathlib.Path:
        path = folder / f"{name}-{number}.parquet"
        path.write_bytes(bank.shard(recipe, number))
        return path

    begin, spent = time.perf_counter(), time.process_time()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        paths = list(pool.map(make, range(recipe.shards)))
    return time.perf_counter() - begin, time.process_time() - spent, paths


def error(name: str, horizon: int) -> tuple[float, float, float]:
    """Largest and 99th percentile of the relative error in a person's gathered hazard at any knot, and in their mean.

    500 people of 25 draws under the first active arm, against every step in ``FINER`` parts.
    """
    protocol = Protocol.load(name)
    recipe = bank.recipe(protocol, NOW, draws=25, people=20, horizon=horizon, key=1)
    setting = lived.Setting(protocol, lived.PERFECT, recipe.knots)
    people = lived.gather(protocol, bank._constants(recipe, 0, 25), 20, keys.numbered(1, "bank", np.arange(25)))
    arm = [one.name for one in protocol.arms].index(next(one.name for one in protocol.arms if not one.control))
    rough = lived.under(setting, people, arm).vascular[:, 1:]
    before = steps.tape
    steps.tape = lambda grid: before(steps.refine(grid, FINER))  # type: ignore[assignment]
    try:
        fine = lived.under(setting, people, arm).vascular[:, 1:]
    finally:
        steps.tape = before
    each = np.abs(rough / fine - 1).max(axis=1)
    return float(each.max()), float(np.quantile(each, 0.99)), float(np.abs(rough.mean(0) / fine.mean(0) - 1).max())


def between(folder: pathlib.Path) -> float:
    """The largest error of the mean survival between knots: against a bank with twice as many knots."""
    found = []
    for intervals in (bank.INTERVALS, 4 * bank.INTERVALS):
        usual, bank.INTERVALS = bank.INTERVALS, intervals
        try:
            recipe = bank.recipe(Protocol.load("ivory"), NOW, draws=25, people=40, horizon=5 * 365, key=1)
        finally:
            bank.INTERVALS = usual
        path = folder / f"knots-{intervals}.parquet"
        path.write_bytes(bank.shard(recipe, 0))
        found.append(bank.fates(bank.read([path]), (MACE,)))
    days = found[1].knots
    rough = found[0].gathered[:, 0].reshape(-1, len(found[0].knots))
    survival = np.exp(-np.array([np.interp(days, found[0].knots, row) for row in rough])).mean(0)
    return float(np.abs(survival - np.exp(-found[1].gathered[:, 0].reshape(-1, len(days))).mean(0)).max())


def peak() -> float:
    """The most memory this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def alone(name: str, horizon: int) -> str:
    """A case in a fresh process with an empty cache: what a first run takes, compilation included."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.bank", name, str(horizon)]
        done = subprocess.run(
            command, env=os.environ | {"QUELL_CACHE": cache}, capture_output=True, text=True, check=True
        )
    return done.stdout.strip()


def case(name: str, horizon: int) -> None:
    """One case, in this process."""
    store.keep()
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        clock, spent, paths = whole(name, horizon, pathlib.Path(folder), threads)
        size = sum(path.stat().st_size for path in paths) / 1e6
        begin = time.perf_counter()
        found = bank.read(paths)
        reading = time.perf_counter() - begin
        begin = time.perf_counter()
        bank.true_effect(found, 0, 1, horizon, "hazard ratio", of=MACE)
        truth = time.perf_counter() - begin
    print(
        f"{name}, {found.draws} draws of {found.people} people, {len(found.arms)} arms, {horizon} days, {threads} threads: "
        f"{clock:.0f} s ({spent:.0f} s of processor; load {os.getloadavg()[0]:.1f}), at most {peak():.0f} MB, "
        f"{size:.0f} MB on disk, read in {reading:.2f} s, true hazard ratios in {truth:.2f} s"
    )


def main() -> None:
    """Print the figures of docs/measured.md."""
    store.keep()
    for name, horizon in CASES:
        print("from an empty cache:", alone(name, horizon))
    for name, horizon in CASES:
        largest, usual, mean = error(name, horizon)
        print(f"{name}: gathered hazard off by {largest:.1e} at most, {usual:.1e} in 99 %, {mean:.1e} in the mean")
    with tempfile.TemporaryDirectory() as folder:
        print(f"between knots: mean survival off by {between(pathlib.Path(folder)):.1e} at most")


if __name__ == "__main__":
    case(sys.argv[1], int(sys.argv[2])) if len(sys.argv) > 2 else main()

"""How long a person waits: the commands from the shell, and many trials as one array program.

Run: python -m benchmarks.trials
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from quell import store, trial
from quell.design import Repeats, repeat
from quell.protocol import Protocol

TRIALS = 2_000


def shell(*arguments: str, cache: str) -> float:
    """Wall seconds of one quell command with its own cache of compiled programs."""
    environment = os.environ | {"QUELL_CACHE": cache}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "quell", *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def waits() -> None:
    with tempfile.TemporaryDirectory() as cache:
        out = str(pathlib.Path(cache) / "out")
        print(f"quell --help                  {min(shell('--help', cache=cache) for _ in range(3)):6.2f} s")
        print(
            f"quell run ivory, first time   {shell('run', 'ivory', '--out', out, cache=cache):6.2f} s (with compilation)"
        )
        again = [shell("run", "ivory", "--out", out, "--key", str(key), cache=cache) for key in (7, 8)]
        print(f"quell run ivory, second time  {min(again):6.2f} s (another key)")


def show(found: Repeats, seconds: float, truths: dict[str, trial.Truth] | None = None) -> None:
    one = found.performance("index vessel TBRmax", (truths or {}).get("index vessel TBRmax"))
    print(f"{found.trials} trials of IVORY in '{found.world}': {seconds:.1f} s, {found.people / seconds:,.0f} people/s")
    print(f"  primary: mean {one.mean:.4f} ± {one.mean_error:.4f}, spread {one.spread:.4f}, rejects in {one.rejects}")
    if one.truth:
        print(
            f"  truth {one.truth.value:.4f} ± {one.truth.error:.4f}, bias {one.bias:.4f} ± {one.bias_error:.4f}, interval holds it in {one.covers}"
        )


def main() -> None:
    """Print what a person waits for, and what 2,000 trials find with and without an effect."""
    store.keep()
    waits()
    ivory = Protocol.load("ivory")
    repeat(ivory, trials=2, key=0)
    for world in (trial.World(), trial.World().without("efficacy")):
        start = time.perf_counter()
        found = repeat(ivory, world, trials=TRIALS, key=2026)
        seconds = time.perf_counter() - start
        show(found, seconds, trial.truth(ivory, world, key=1))


if __name__ == "__main__":
    main()

"""All benchmarks in one run: ``python -m benchmarks``, or ``make bench``; one of them: ``python -m benchmarks survival``."""

import importlib
import platform
import sys

from quell.blocks import workers

PARTS = (
    "lives",
    "means",
    "repeated",
    "survival",
    "cox",
    "win_ratio",
    "missing",
    "sequential",
    "trials",
    "designs",
    "calibration",
    "bank",
)

if __name__ == "__main__":
    chosen = sys.argv[1:] or PARTS
    print(f"{platform.processor() or platform.machine()}, {workers()} cores, Python {platform.python_version()}")
    for name in chosen:
        print(f"\n== {name} ==", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()

"""All benchmarks in one run: ``python -m benchmarks``, or ``make bench``."""

import platform

from benchmarks import estimators, lives, trials
from quell.blocks import workers

if __name__ == "__main__":
    print(f"{platform.processor() or platform.machine()}, {workers()} cores, Python {platform.python_version()}")
    for part in (lives, estimators, trials):
        print(f"\n== {part.__name__} ==")
        part.main()

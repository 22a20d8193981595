"""The clock of the benchmarks: the processor's own time, so that what else the machine does counts little."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """Processor time of the best of some runs, all threads added up: what one core would need."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best

"""How fast the posterior of the full model is sampled: effective draws a second of the slowest constant, from scratch.

Run: python -m benchmarks.calibration [quick]. Everything counts: the link, every world lived, sampling and correction.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile
from typing import Any

from quell import calibrate, store


def main() -> None:
    """Calibrate in an empty folder and print time, effective draws, acceptance and what was lived."""
    store.keep()
    quick = "quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = calibrate.run(pathlib.Path(folder), quick=quick)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"calibration on {cores} cores{' (quick)' if quick else ''}: {found['seconds']:.0f} s in all")
    print(f"  {found['lived']:,} sets of constants lived by the body")
    for stage, seconds in found["seconds_of_stage"].items():
        print(f"{stage}: {seconds:.0f} s, {found['effective_draws_per_second'][stage]:.2f} effective draws a second")
        _told(found[stage])


def _told(stage: dict[str, Any]) -> None:
    """What says whether the draws of a stage can be trusted."""
    one = stage["diagnosis"]
    print(f"  {len(stage['constants'])} constants")
    print(
        f"  effective draws: bulk {one['least_bulk']:.0f} ({one['of_bulk']}), tail {one['least_tail']:.0f} ({one['of_tail']})"
    )
    print(f"  largest R-hat {one['largest_rhat']:.4f} ({one['of_rhat']}); {one['divergences']} divergences")
    print(f"  weighed by the body, the draws are worth {one['share_of_proposals']:.0%}; Pareto k {one['pareto_k']:.2f}")
    for fault in stage["faults"]:
        print(f"  {fault}")


if __name__ == "__main__":
    main()

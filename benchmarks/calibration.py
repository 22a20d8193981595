"""How fast the posterior of the full model is sampled: effective draws a second of the slowest constant, from scratch.

Run: python -m benchmarks.calibration [quick]. Everything counts: the link, every world lived, sampling and correction.
"""

from __future__ import annotations

import os
import pathlib
import sys
import tempfile

from quell import calibrate, store


def main() -> None:
    """Calibrate in an empty folder and print time, effective draws, acceptance and what was lived."""
    store.keep()
    quick = "quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        found = calibrate.run(pathlib.Path(folder), quick=quick)
    one = found["diagnosis"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"calibration of {len(found['constants'])} constants on {cores} cores{' (quick)' if quick else ''}")
    print(f"  {found['seconds']:.0f} s in all; {found['lived']:,} sets of constants lived by the body")
    print(
        f"  effective draws: bulk {one['least_bulk']:.0f} ({one['of_bulk']}), tail {one['least_tail']:.0f} ({one['of_tail']})"
    )
    print(f"  {found['effective_draws_per_second']:.2f} effective draws a second, slowest constant and tail")
    print(f"  largest R-hat {one['largest_rhat']:.4f} ({one['of_rhat']}); {one['divergences']} divergences")
    print(
        f"  weighed by the body, the surrogate's draws are worth {one['share_of_proposals']:.0%}; Pareto k {one['pareto_k']:.2f}"
    )
    for fault in found["faults"]:
        print(f"  {fault}")


if __name__ == "__main__":
    main()

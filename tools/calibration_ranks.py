"""Simulation-based calibration: a hundred synthetic studies fitted, their ranks kept in docs/parts/calibration-ranks.json.

``python -m tools.calibration_ranks FOLDER [studies] [seconds]`` goes on where it stopped; each study is kept as it is done.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

import numpy as np

from quell import keys, store
from quell.calibrate import ranks, rows, sample, space
from quell.calibrate.summaries import Summaries
from quell.delivery import write_whole

KEPT = pathlib.Path(__file__).parent.parent / "docs" / "parts" / "calibration-ranks.json"
STUDIES, KEY = 100, 31
MOST = 8  # fits of one process: each compiles its own programs, which in the end fill its maps of memory


def main() -> None:
    """Fit what is not fitted yet, within the seconds given, and write what all together show."""
    folder = pathlib.Path(sys.argv[1])
    studies = int(sys.argv[2]) if len(sys.argv) > 2 else STUDIES
    until = time.monotonic() + (float(sys.argv[3]) if len(sys.argv) > 3 else 1e9)
    store.keep()
    where, terms = space.space(), rows.terms()
    summaries = Summaries(terms, where, folder)
    first, active = ranks.begun(summaries, keys.root(KEY))
    alone = Summaries(terms, where)
    found, fitted = [], 0
    for number in range(studies):
        place = folder / "ranks" / f"{number:03}.json"
        if not place.exists():
            if time.monotonic() > until:
                continue
            done = ranks.rank(number, first, active, sample.data(terms), alone, keys.root(KEY))
            write_whole(place, json.dumps(done).encode())
            fitted += 1
            if fitted == MOST and time.monotonic() < until:
                _afresh(until)
            print(f"study {number}: share {done['share']:.2f}, k {done['pareto_k']:.2f}", flush=True)
        found.append(json.loads(place.read_text("utf-8")))
    KEPT.write_text(json.dumps(summary(found, where, ranks.informed(active, where)), indent=1) + "\n", "utf-8")


def _afresh(until: float) -> None:
    """Go on in a new process, with what is left of the time."""
    left = [] if until > 1e8 else [str(until - time.monotonic())]
    studies = sys.argv[2:3] or [str(STUDIES)]
    os.execv(sys.executable, [sys.executable, "-m", "tools.calibration_ranks", sys.argv[1], *studies, *left])


def summary(found: list[dict], where: space.Space, informed: tuple[int, ...]) -> dict:
    """Ranks of the constants that figures move with, and of the spreads; and how uniform they are."""
    every = np.array([one["ranks"] for one in found])
    wanted = [*informed, *range(len(where.names), every.shape[1])]
    names = [*where.names, *(f"spread of {group}" for group in sample.GROUPS)]
    told = ranks.uniformity(every[:, wanted])
    p = np.sort(told["p"])
    return {
        "studies": len(found),
        "quantities": len(wanted),
        "least_p": float(p[0]),
        "least_p_corrected": float(min(1, p[0] * len(p))),
        "below_0.05": int((p < 0.05).sum()),
        "median_share": float(np.median([one["share"] for one in found])),
        "k_above_0.7": sum(one["pareto_k"] > 0.7 for one in found),
        "divergences": sum(one["divergences"] for one in found),
        "by_quantity": {
            names[i]: {"chi_square": round(float(c), 3), "p": round(float(q), 4), "ranks": every[:, i].tolist()}
            for i, c, q in zip(wanted, told["chi_square"], told["p"], strict=True)
        },
    }


if __name__ == "__main__":
    main()

"""How many Cox regressions a core fits in a second, beside the usual packages called once per trial.

Run: OMP_NUM_THREADS=1 python benchmarks/cox.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import seconds
from quell.analysis import recurrent
from quell.analysis.cox import cox, firth, hazard_ratio
from quell.analysis.proportionality import proportionality_of_arms

TRIALS, PATIENTS, PEER_TRIALS = 2_048, 600, 10
FIVE_YEARS = 1826.0


def per_second(work: Callable[[], Any], trials: int, repeats: int = 5) -> float:
    return trials / seconds(work, repeats)


def made(share: float) -> dict[str, np.ndarray]:
    """Two arms with two covariates, followed on whole days for five years; `share` of the patients have the event."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=(TRIALS, PATIENTS, 3))
    x[..., 0] = np.arange(PATIENTS) % 2
    life = draw.exponential(np.exp(0.4 * x[..., 0] - 0.3 * x[..., 1]))
    life = np.ceil(life * FIVE_YEARS / np.quantile(life, share))
    return {"time": np.minimum(life, FIVE_YEARS), "event": life <= FIVE_YEARS, "x": x, "arm": x[..., 0].astype(int)}


def peers(data: dict[str, np.ndarray], p: int) -> dict[str, Callable[[int], Any]]:
    """One fit per call with p covariates."""
    import pandas as pd
    from lifelines import CoxPHFitter
    from statsmodels.duration.hazard_regression import PHReg

    t, e, x = data["time"], data["event"].astype(int), data["x"][..., :p]

    def lifelines(k: int) -> Any:
        table = pd.DataFrame({"time": t[k], "event": e[k]} | {f"x{j}": x[k, :, j] for j in range(p)})
        return CoxPHFitter().fit(table, "time", "event")

    return {
        "statsmodels PHReg": lambda k: PHReg(t[k], x[k], status=e[k], ties="efron").fit(),
        "lifelines CoxPHFitter": lifelines,
    }


def loop(peer: Callable[[int], Any]) -> Callable[[], Any]:
    return lambda: [peer(k) for k in range(PEER_TRIALS)]


def methods(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    """Other questions to the same trials, all at once."""
    t, e, x, arm = data["time"], data["event"], data["x"], data["arm"]
    return {
        "hazard ratio of two arms": lambda: hazard_ratio(t, e, arm),
        "the same by Firth": lambda: hazard_ratio(t, e, arm, method="firth"),
        "test of proportional hazards": lambda: proportionality_of_arms(t, e, arm),
        "Cox, 3 covariates, robust": lambda: cox(t, e, x, cluster=np.arange(PATIENTS)),
    }


def beside_peers(data: dict[str, np.ndarray], p: int) -> None:
    t, e, x = data["time"], data["event"], data["x"][..., :p]
    rate = per_second(lambda: cox(t, e, x), TRIALS)
    print(f"  Cox, {p} covariate{'s' * (p > 1)}: quell {rate:9.0f}")
    for name, peer in peers(data, p).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = per_second(loop(peer), PEER_TRIALS, 2)
        print(f"    {name:22s} {theirs:9.1f}   ({rate / theirs:.0f} x)")


def main() -> None:
    """Print fits per second of a core's time for each method, and of the peers in the same run."""
    for share in (0.2, 0.8):
        data = made(share)
        print(
            f"{TRIALS} trials of {PATIENTS} patients on whole days, {share:.0%} with an event: fits per second, one process"
        )
        for p in (1, 3):
            beside_peers(data, p)
        for name, work in methods(data).items():
            print(f"  {name:30s} quell {per_second(work, TRIALS, 3):9.0f}")
    few = [values[:64] for values in (data["time"], data["event"], data["x"])]
    print(f"  {'Firth, 3 covariates':30s} quell {per_second(lambda: firth(*few), 64, 1):9.0f}")
    days = np.cumsum(np.ceil(np.random.default_rng(2).exponential(900, (TRIALS, PATIENTS, 4))), -1)
    rows = recurrent.episodes(days, np.full((TRIALS, PATIENTS), FIVE_YEARS))
    rate = per_second(lambda: recurrent.rate_ratio(rows, np.arange(PATIENTS) % 2), TRIALS, 2)
    print(f"  {'LWYY, up to 4 events each':30s} quell {rate:9.0f}")


if __name__ == "__main__":
    main()

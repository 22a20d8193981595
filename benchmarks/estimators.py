"""How fast the estimators read a batch of trials, beside the usual packages called once per trial.

Run: python benchmarks/estimators.py
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from quell.analysis import cox, means, survival
from quell.analysis.proportions import fisher, risk_difference, tally

TRIALS, PATIENTS, PEER_TRIALS = 2_000, 60, 40
FIVE_YEARS = 1826.0


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def made(trials: int, patients: int) -> dict[str, np.ndarray]:
    """Two arms, an outcome with its baseline, and infarctions over five years in one patient of six."""
    draw = np.random.default_rng(1)
    shape = (trials, patients)
    baseline = draw.normal(2, 0.4, shape)
    arm = np.broadcast_to(np.arange(patients) % 2, shape)
    hazard = np.where(arm == 1, 0.5, 1.0) * 0.17 / FIVE_YEARS
    life = np.ceil(draw.exponential(1 / hazard))
    return {
        "baseline": baseline,
        "outcome": 0.7 * baseline - 0.1 * arm + draw.normal(0, 0.3, shape),
        "arm": arm,
        "time": np.minimum(life, FIVE_YEARS),
        "event": life <= FIVE_YEARS,
    }


def estimators(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    follow_up = (data["time"], data["event"], data["arm"])
    return {
        "ANCOVA": lambda: means.ancova(data["outcome"], data["arm"], covariates=data["baseline"][..., None]),
        "Welch": lambda: means.two_sample(data["outcome"], data["arm"]),
        "Fisher": lambda: fisher(tally(data["event"], data["arm"])),
        "Miettinen-Nurminen": lambda: risk_difference(tally(data["event"], data["arm"])),
        "log-rank": lambda: survival.logrank(*follow_up),
        "landmark": lambda: survival.landmark(*follow_up, 730),
        "restricted mean": lambda: survival.restricted_mean_difference(*follow_up, 730),
        "hazard ratio (Cox, Firth where needed)": lambda: cox.hazard_ratio(*follow_up),
        "hazard ratio (Firth)": lambda: cox.hazard_ratio(*follow_up, method="firth"),
        "Cox, adjusted for baseline": lambda: cox.cox(*follow_up[:2], np.stack([data["arm"], data["baseline"]], -1)),
    }


def peers(data: dict[str, np.ndarray]) -> dict[str, Callable[[int], Any]]:
    """The same questions, one trial per call."""
    import statsmodels.api as sm
    from lifelines.statistics import logrank_test
    from scipy import stats
    from statsmodels.duration.hazard_regression import PHReg

    t, e, a, y, b = (data[name] for name in ("time", "event", "arm", "outcome", "baseline"))

    def table(k: int) -> list[list[int]]:
        return [[int((e[k] & (a[k] == arm)).sum()), int((~e[k] & (a[k] == arm)).sum())] for arm in (1, 0)]

    return {
        "ANCOVA": lambda k: sm.OLS(y[k], np.column_stack([np.ones(len(y[k])), a[k], b[k]])).fit().pvalues,
        "Welch": lambda k: stats.ttest_ind(y[k][a[k] == 1], y[k][a[k] == 0], equal_var=False),
        "Fisher": lambda k: stats.fisher_exact(table(k)),
        "log-rank": lambda k: logrank_test(t[k][a[k] == 1], t[k][a[k] == 0], e[k][a[k] == 1], e[k][a[k] == 0]).p_value,
        "hazard ratio (Cox, Firth where needed)": lambda k: PHReg(
            t[k], a[k][:, None].astype(float), status=e[k].astype(int), ties="efron"
        ).fit(),
        "Cox, adjusted for baseline": lambda k: PHReg(
            t[k], np.column_stack([a[k], b[k]]), status=e[k].astype(int), ties="efron"
        ).fit(),
    }


def main() -> None:
    """Print trials per second, and the ratio to statsmodels, SciPy or lifelines called in a loop."""
    data = made(TRIALS, PATIENTS)
    incumbents = peers(data)
    print(f"{TRIALS} trials of {PATIENTS} patients, one process, {FIVE_YEARS:.0f} days")
    for name, work in estimators(data).items():
        mine = seconds(work)
        line = f"{name:40s} {1000 * mine:9.1f} ms {TRIALS / mine:12.0f} trials/s"
        if name in incumbents:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = seconds(lambda name=name: [incumbents[name](k) for k in range(PEER_TRIALS)], 1)  # type: ignore[misc]
            line += f"   {theirs / PEER_TRIALS * TRIALS / mine:8.0f} x a loop"
        print(line)
    large = made(20, 9000)
    for name in ("log-rank", "hazard ratio (Cox, Firth where needed)", "restricted mean"):
        mine = seconds(estimators(large)[name], 1)
        print(f"20 trials of 9000 patients: {name:40s} {20 / mine:8.0f} trials/s")


if __name__ == "__main__":
    main()

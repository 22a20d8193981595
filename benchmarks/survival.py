"""How fast survival statistics read a batch of trials on one core, beside lifelines called once per trial.

Run: python -m benchmarks.survival
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import seconds
from quell.analysis import competing, survival
from quell.analysis.fine_gray import fine_gray
from quell.analysis.gray import gray
from quell.analysis.maxcombo import maxcombo

FIVE_YEARS, PEER_TRIALS = 1826.0, 20


def made(trials: int, patients: int, days: float = FIVE_YEARS) -> dict[str, np.ndarray]:
    """Two arms over whole days: an event in one patient of six, another cause in one of ten, staggered censoring."""
    draw = np.random.default_rng(1)
    shape = (trials, patients)
    arm = np.broadcast_to(np.arange(patients) % 2, shape)
    life = np.ceil(draw.exponential(days / np.where(arm == 1, 0.14, 0.2)))
    other = np.ceil(draw.exponential(days / 0.1, shape))
    end = np.ceil(draw.uniform(0.6 * days, days, shape))
    first = np.minimum(np.minimum(life, other), end)
    cause = np.where(first == end, 0, np.where(life <= other, 1, 2))
    return {"time": first, "event": cause == 1, "cause": cause, "arm": arm}


def work(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    follow_up = (data["time"], data["event"], data["arm"])
    causes = (data["time"], data["cause"])
    return {
        "log-rank": lambda: survival.logrank(*follow_up),
        "log-rank, G(0, 1)": lambda: survival.logrank(*follow_up, gamma=1),
        "MaxCombo of four weights": lambda: maxcombo(*follow_up),
        "Kaplan-Meier curve, all patients": lambda: survival.kaplan_meier(*follow_up[:2]),
        "restricted mean, difference": lambda: survival.restricted_mean_difference(*follow_up, 1095),
        "Kaplan-Meier difference at a day": lambda: survival.landmark(*follow_up, 1095),
        "cumulative incidence, difference": lambda: competing.incidence_difference(*causes, data["arm"], 1095),
        "Gray's test": lambda: gray(*causes, data["arm"]),
        "Fine-Gray, one covariate": lambda: fine_gray(*causes, data["arm"][..., None].astype(float)),
    }


def peers(data: dict[str, np.ndarray]) -> dict[str, Callable[[int], Any]]:
    """The same questions to lifelines, one trial per call."""
    from lifelines import KaplanMeierFitter
    from lifelines.statistics import logrank_test
    from lifelines.utils import restricted_mean_survival_time

    t, e, a = (data[name] for name in ("time", "event", "arm"))

    def arms(k: int) -> list[Any]:
        return [KaplanMeierFitter().fit(t[k][a[k] == arm], e[k][a[k] == arm]) for arm in (0, 1)]

    def test(k: int, **weights: Any) -> float:
        zero, one = a[k] == 0, a[k] == 1
        return float(logrank_test(t[k][zero], t[k][one], e[k][zero], e[k][one], **weights).p_value)

    return {
        "log-rank": test,
        "log-rank, G(0, 1)": lambda k: test(k, weightings="fleming-harrington", p=0, q=1),
        "Kaplan-Meier curve, all patients": lambda k: KaplanMeierFitter().fit(t[k], e[k]),
        "restricted mean, difference": lambda k: [restricted_mean_survival_time(fit, t=1095) for fit in arms(k)],
    }


def looped(ask: Callable[[int], Any]) -> None:
    for k in range(PEER_TRIALS):
        ask(k)


def main() -> None:
    """Print trials per second on one core, and the ratio to lifelines called in a loop in the same run."""
    for trials, patients in ((2_000, 600), (200, 9_000)):
        data = made(trials, patients)
        incumbents = peers(data)
        print(f"{patients} patients, {trials} trials, one process, {FIVE_YEARS:.0f} days")
        for name, run in work(data).items():
            mine = seconds(run)
            line = f"{name:36s} {trials / mine:10.0f} trials/s"
            if name in incumbents:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = seconds(functools.partial(looped, incumbents[name]), 1)
                line += (
                    f"   lifelines {PEER_TRIALS / theirs:6.0f} trials/s: {theirs / PEER_TRIALS * trials / mine:6.0f} x"
                )
            print(line)


if __name__ == "__main__":
    main()

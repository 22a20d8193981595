"""Trials per second and core: means and responders, beside statsmodels and SciPy called once per trial in the same run.

Run: python -m benchmarks.means
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import seconds
from quell.analysis import means
from quell.analysis.agreement import intraclass
from quell.analysis.counts import stratified_tally
from quell.analysis.proportions import risk_difference, tally
from quell.analysis.standardised import standardised_risks
from quell.analysis.stratified_proportions import common_difference

TRIALS, PATIENTS, PEER_TRIALS = 10_000, 60, 60


def made(trials: int, patients: int) -> dict[str, np.ndarray]:
    """Two arms, an outcome with its baseline, a site of four, and a response in four of ten."""
    draw = np.random.default_rng(1)
    shape = (trials, patients)
    baseline = draw.normal(2, 0.4, shape)
    arm = np.broadcast_to(np.arange(patients) % 2, shape)
    chance = 1 / (1 + np.exp(-(-0.8 + 0.7 * arm + 1.2 * (baseline - 2))))
    return {
        "baseline": baseline,
        "arm": arm,
        "site": np.broadcast_to(np.arange(patients) // 2 % 4, shape),
        "outcome": 0.7 * baseline - 0.1 * arm + draw.normal(0, 0.3, shape),
        "response": (draw.random(shape) < chance).astype(float),
    }


def methods(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    y, a, b, r = (data[name] for name in ("outcome", "arm", "baseline", "response"))
    return {
        "ANCOVA, one covariate": lambda: means.ancova(y, a, covariates=b[..., None]),
        "ANCOVA, one covariate, HC3": lambda: means.ancova(y, a, covariates=b[..., None], covariance="HC3"),
        "Welch": lambda: means.two_sample(y, a),
        "Miettinen-Nurminen": lambda: risk_difference(tally(r, a)),
        "Miettinen-Nurminen, four strata": lambda: common_difference(stratified_tally(r, a, data["site"])),
        "Boschloo": lambda: risk_difference(tally(r, a), test="boschloo"),
        "logistic, standardised (Ye)": lambda: standardised_risks(r, a, covariates=b[..., None]).difference(),
        "intraclass correlation": lambda: intraclass(np.stack([y, b], -1)),
    }


def peers(data: dict[str, np.ndarray]) -> dict[str, Callable[[int], Any]]:
    """The same questions, one trial per call."""
    import statsmodels.api as sm
    from scipy import stats
    from statsmodels.stats.proportion import confint_proportions_2indep

    y, a, b, r = (data[name] for name in ("outcome", "arm", "baseline", "response"))

    def design(k: int) -> np.ndarray:
        return np.column_stack([np.ones(PATIENTS), a[k], b[k]])

    def score(k: int) -> Any:
        x1, x0 = (int(r[k][a[k] == arm].sum()) for arm in (1, 0))
        with contextlib.suppress(ValueError):  # its root search fails for some tables
            return confint_proportions_2indep(x1, PATIENTS // 2, x0, PATIENTS // 2, method="score", compare="diff")

    def standardised(k: int) -> Any:
        return sm.Logit(r[k], design(k)).fit(disp=0).get_margeff(dummy=True).margeff

    def boschloo(k: int) -> Any:
        x1, x0 = (int(r[k][a[k] == arm].sum()) for arm in (1, 0))
        return stats.boschloo_exact([[x1, x0], [PATIENTS // 2 - x1, PATIENTS // 2 - x0]])

    return {
        "ANCOVA, one covariate": lambda k: sm.OLS(y[k], design(k)).fit().pvalues,
        "ANCOVA, one covariate, HC3": lambda k: sm.OLS(y[k], design(k)).fit(cov_type="HC3").pvalues,
        "Welch": lambda k: stats.ttest_ind(y[k][a[k] == 1], y[k][a[k] == 0], equal_var=False),
        "Miettinen-Nurminen": score,
        "Boschloo": boschloo,
        "logistic, standardised (Ye)": standardised,
    }


def main() -> None:
    """Print trials per second, and the ratio to statsmodels or SciPy called in a loop."""
    data = made(TRIALS, PATIENTS)
    incumbents = peers(data)
    print(f"{TRIALS} trials of {PATIENTS} patients, one process")
    for name, work in methods(data).items():
        mine = seconds(work)
        line = f"{name:36s} {1000 * mine:9.1f} ms {TRIALS / mine:12.0f} trials/s"
        if name in incumbents:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = seconds(lambda name=name: [incumbents[name](k) for k in range(PEER_TRIALS)], 1)  # type: ignore[misc]
            line += f"   {theirs / PEER_TRIALS * TRIALS / mine:8.0f} x a loop"
        print(line)


if __name__ == "__main__":
    main()

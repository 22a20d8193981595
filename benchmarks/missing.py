"""How fast trials with missing outcomes are analysed, beside statsmodels' MICE called once per trial.

MICE is the nearest peer in Python: multiple imputation at random by chained equations, with Rubin's variance; it has no
reference-based imputation and no jackknife. Run: python -m benchmarks.missing
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.clock import seconds
from quell.analysis.follow_up import FollowUp
from quell.analysis.imputation import multiple_imputation
from quell.analysis.missing import conditional_mean
from quell.analysis.reference_based import Assumption
from quell.analysis.tipping import tipping_point

TRIALS, VISITS, IMPUTATIONS = 8, 4, 20


def made(trials: int, patients: int) -> FollowUp:
    """Two arms, four visits and a baseline; one in three of the patients drops out, at a visit of their own."""
    draw = np.random.default_rng(1)
    shape = (trials, patients)
    arm = np.broadcast_to(np.arange(patients) % 2, shape)
    baseline = draw.normal(size=shape)
    outcome = baseline[..., None] + draw.normal(size=(*shape, 1)) + draw.normal(size=(*shape, VISITS))
    outcome = outcome - 0.3 * arm[..., None] * np.arange(VISITS)
    dropped = np.where(draw.random(shape) < 1 / 3, draw.integers(1, VISITS, shape), VISITS)
    return FollowUp(np.where(np.arange(VISITS) < dropped[..., None], outcome, np.nan), arm, baseline[..., None])


def methods(data: FollowUp) -> dict[str, Callable[[], Any]]:
    jump = Assumption("J2R", reference=0)
    return {
        "J2R, conditional mean, jackknife": lambda: conditional_mean(data, jump),
        "at random, conditional mean, jackknife": lambda: conditional_mean(data),
        "tipping point and 41 deltas, conditional mean": lambda: tipping_point(data, deltas=np.linspace(-2, 2, 41)),
        f"J2R, {IMPUTATIONS} Bayesian imputations, Rubin": lambda: multiple_imputation(
            data, jump, imputations=IMPUTATIONS, key=1
        ),
    }


def mice(data: FollowUp, k: int) -> Any:
    """One trial by statsmodels: chained equations over the visits, then the same analysis of covariance."""
    import pandas as pd
    from statsmodels.imputation.mice import MICE, MICEData
    from statsmodels.regression.linear_model import OLS

    assert data.covariates is not None
    columns = {f"y{v}": data.outcome[k, :, v] for v in range(VISITS)}
    table = pd.DataFrame({"arm": data.arm[k].astype(float), "x": data.covariates[k, :, 0], **columns})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = MICE(f"y{VISITS - 1} ~ arm + x", OLS, MICEData(table)).fit(10, IMPUTATIONS)
    return fit.params


def main() -> None:
    for patients in (60, 200):
        data = made(TRIALS, patients)
        print(f"{patients} patients, {VISITS} visits:")
        for name, work in methods(data).items():
            work()
            print(f"  {name:48s} {TRIALS / seconds(work, 2):9.1f} trials per second")
        peer = seconds(lambda data=data: mice(data, 0), 2)  # type: ignore[misc]
        name = f"statsmodels MICE, at random, {IMPUTATIONS} imputations"
        print(f"  {name:48s} {1 / peer:9.2f} trials per second")


if __name__ == "__main__":
    main()

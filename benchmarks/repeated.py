"""How fast repeated measures are fitted in batch, beside the nearest peers called once per trial, in the same process.

statsmodels has no model with an unstructured covariance of the visits; its MixedLM (random intercept, so compound symmetry)
and GEE (exchangeable) are the nearest. Run: python -m benchmarks.repeated, with OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import statsmodels.api as sm
from statsmodels.regression.mixed_linear_model import MixedLM

from benchmarks.clock import seconds
from quell.analysis.reml import fit_reml
from quell.analysis.repeated import Covariance, mmrm

TRIALS, PATIENTS, VISITS, PEER_TRIALS = 1_000, 200, 4, 5
COVARIANCE = np.array([[1.0, 0.6, 0.5, 0.4], [0.6, 1.2, 0.7, 0.5], [0.5, 0.7, 1.5, 0.8], [0.4, 0.5, 0.8, 2.0]])


def made() -> dict[str, np.ndarray]:
    """Two arms, a baseline, four visits; a tenth of the visits missed in any pattern, or a quarter of people dropping out."""
    draw = np.random.default_rng(1)
    people = (TRIALS, PATIENTS)
    baseline = draw.normal(size=people)
    arm = np.broadcast_to(np.arange(PATIENTS) % 2, people)
    noise = draw.normal(size=(*people, VISITS)) @ np.linalg.cholesky(COVARIANCE).T
    outcome = 0.5 * baseline[..., None] - 0.2 * arm[..., None] + noise
    leaves = np.where(draw.random(people) < 0.25, draw.integers(1, VISITS, people), VISITS)
    return {
        "baseline": baseline,
        "arm": arm,
        "missed": np.where(draw.random(outcome.shape) < 0.1, np.nan, outcome),
        "dropped out": np.where(np.arange(VISITS) < leaves[..., None], outcome, np.nan),
    }


def fits(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    arm, covariates = data["arm"], data["baseline"][..., None]

    def last(pattern: str, **more: Any) -> Callable[[], Any]:
        return lambda: mmrm(data[pattern], arm, covariates=covariates, **more).contrast(VISITS - 1)

    return {
        "unstructured, Satterthwaite, visits missed": last("missed"),
        "unstructured, Satterthwaite, dropout": last("dropped out"),
        "unstructured, Kenward-Roger, visits missed": last("missed", method="kenward-roger"),
        "unstructured by arm, visits missed": last("missed", structure=Covariance(by_arm=True)),
        "heterogeneous Toeplitz, visits missed": last("missed", structure="heterogeneous Toeplitz"),
        "compound symmetry, visits missed": last("missed", structure="compound symmetry"),
        "unstructured, jackknife (CR3) errors": last("missed", method="empirical-jackknife"),
    }


def long_table(data: dict[str, np.ndarray], trial: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One trial as a long table: outcome, design and person of every visit seen."""
    outcome = data["missed"][trial]
    person, visit = np.nonzero(np.isfinite(outcome))
    arm, baseline = data["arm"][trial][person], data["baseline"][trial][person]
    later = (visit[:, None] == np.arange(1, VISITS)).astype(float)
    design = np.column_stack([np.ones(len(person)), baseline, arm, later, arm[:, None] * later])
    return outcome[person, visit], design, person


def peers(data: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    tables = [long_table(data, trial) for trial in range(PEER_TRIALS)]

    def mixed() -> list[Any]:
        return [MixedLM(y, x, groups=person).fit(reml=True) for y, x, person in tables]

    def gee() -> list[Any]:
        exchangeable = sm.cov_struct.Exchangeable
        return [sm.GEE(y, x, groups=person, cov_struct=exchangeable()).fit() for y, x, person in tables]

    return {"statsmodels MixedLM (random intercept)": mixed, "statsmodels GEE (exchangeable)": gee}


def leave_one_out(data: dict[str, np.ndarray]) -> Callable[[], Any]:
    """One trial of 200 people fitted again without each of them."""
    eye = np.broadcast_to(np.eye(VISITS), (PATIENTS, VISITS, VISITS))
    design = np.concatenate([eye, data["arm"][0][:, None, None] * eye, data["baseline"][0][:, None, None] * eye], -1)
    without = ~np.eye(PATIENTS, dtype=bool)
    return lambda: fit_reml(data["missed"][0], design, include=without)


def main() -> None:
    data = made()
    print(f"{PATIENTS} people, {VISITS} visits; fits per second")
    for name, work in fits(data).items():
        print(f"{name:48s} {TRIALS / seconds(work, 2):10.0f}")
    print(f"{'leave-one-out of one trial (explicit design)':48s} {PATIENTS / seconds(leave_one_out(data), 2):10.0f}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, work in peers(data).items():
            print(f"{name:48s} {PEER_TRIALS / seconds(work, 1):10.1f}")


if __name__ == "__main__":
    main()

"""The declared methods for what happens: first events, competing and repeated ones. Each takes a request; see `plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from quell.analysis import cox, survival
from quell.analysis.claim import Estimate
from quell.analysis.request import Request

Answer = tuple[Estimate, str]


def _landmark(request: Request) -> Answer:
    found = survival.landmark(*request.times(), request.columns.arm, request.until, **request.comparison())
    day = f"{request.until:.0f}"
    return found, f"difference in Kaplan–Meier risk at day {day}, log-log intervals joined (Zou and Donner 2008)"


def _compared(request: Request) -> np.ndarray:
    """Who is in a test of all the estimand's arms at once."""
    arms = [request.columns.arms.index(name) for name in request.arms]
    return request.include & np.isin(request.columns.arm, arms)


def _log_rank(request: Request) -> Answer:
    arm, include = request.columns.arm, _compared(request)
    test = survival.logrank(*request.times(), arm, strata=request.strata(), include=include)
    return test.test(request.analysis.level), f"log-rank test{request.stratified}"


def _restricted_mean(request: Request) -> Answer:
    found = survival.restricted_mean_difference(
        *request.times(), request.columns.arm, request.until, **request.comparison()
    )
    words = f"restricted mean time to day {request.until:.0f} (area under Kaplan–Meier curves)"
    return found, f"difference in {words}"


def _hazard(method: Literal["cox", "firth"], words: str) -> Callable[[Request], Answer]:
    def estimate(request: Request) -> Answer:
        arm = request.columns.arm
        found = cox.hazard_ratio(*request.times(), arm, strata=request.strata(), method=method, **request.comparison())
        return found, f"{words}{request.stratified}"

    return estimate


METHODS: dict[str, Callable[[Request], Answer]] = {
    "kaplan-meier difference": _landmark,
    "log-rank": _log_rank,
    "cox": _hazard("cox", "Cox proportional hazards, Efron's ties"),
    "firth cox": _hazard(
        "firth",
        "Cox proportional hazards with Firth's penalty and profile-likelihood interval (Heinze and Schemper 2001)",
    ),
    "restricted mean": _restricted_mean,
}

"""The declared methods for what happens: first events, competing and repeated ones, and pairs. See `plan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from quell import outcomes
from quell.analysis import (
    competing,
    cox,
    fine_gray,
    gray,
    maxcombo,
    mean_cumulative,
    negative_binomial,
    proportionality,
    recurrent,
    survival,
    win_ratio,
)
from quell.analysis.claim import Estimate
from quell.analysis.pairwise import Measure, Priority, Survival
from quell.analysis.request import Request

Answer = tuple[Estimate, str]


# -- first events ------------------------------------------------------------------------------------------------------
def _landmark(request: Request) -> Answer:
    found = survival.landmark(*request.times(), request.columns.arm, request.until, **request.comparison())
    day = f"{request.until:.0f}"
    return found, f"difference in Kaplan–Meier risk at day {day}, log-log intervals joined (Zou and Donner 2008)"


def _log_rank(request: Request) -> Answer:
    test = survival.logrank(*request.times(), request.columns.arm, strata=request.strata(), include=request.all_arms())
    return test.test(request.analysis.level), f"log-rank test{request.stratified}"


def _max_combo(request: Request) -> Answer:
    test = maxcombo.maxcombo(
        *request.times(),
        request.columns.arm,
        contrast=request.contrast,
        strata=request.strata(),
        include=request.include,
    )
    weights = ", ".join(f"({rho:g}, {gamma:g})" for rho, gamma in maxcombo.USUAL)
    words = f"MaxCombo test, Fleming–Harrington weights {weights}{request.stratified}"
    return test.test(request.analysis.level), words


def _hazard(method: Literal["cox", "firth"], words: str) -> Callable[[Request], Answer]:
    def estimate(request: Request) -> Answer:
        time, event = request.times()
        level, strata = request.analysis.level, request.strata()
        said = f"{words}{_adjusted(request)}{request.stratified}"
        if request.regresses:
            regress = cox.cox if method == "cox" else cox.firth
            fit = regress(time, event, request.regressors(), strata=strata, include=request.two_arms(), level=level)
            return fit.ratio(0), said
        arm = request.columns.arm
        ratio = cox.hazard_ratio(time, event, arm, strata=strata, method=method, **request.comparison())
        if ratio.estimate.ndim:  # one study is asked whether its hazards are proportional; ten thousand are not
            return ratio, said
        test = proportionality.proportionality_of_arms(
            time, event, arm, contrast=request.contrast, strata=strata, include=request.include
        )
        return test.doubt(ratio), said

    return estimate


def _adjusted(request: Request) -> str:
    parts = [*request.analysis.adjust, *request.analysis.factors]
    return f", adjusted for {', '.join(parts)}" if parts else ""


def _restricted_mean(request: Request) -> Answer:
    words = f"restricted mean time to day {request.until:.0f} (area under Kaplan–Meier curves)"
    compare, kind = survival.restricted_mean_difference, "difference in"
    if request.estimand.summary == "ratio of restricted mean time":
        compare, kind = survival.restricted_mean_ratio, "ratio of"
    found = compare(*request.times(), request.columns.arm, request.until, **request.comparison())
    return found, f"{kind} {words}"


# -- competing events --------------------------------------------------------------------------------------------------
def _incidence(request: Request) -> Answer:
    found = competing.incidence_difference(
        *request.causes(), request.columns.arm, request.until, **request.comparison()
    )
    others = ", ".join(request.endpoint.competing)
    return found, f"difference in Aalen–Johansen risk at day {request.until:.0f}, competing with {others}"


def _gray(request: Request) -> Answer:
    test = gray.gray(*request.causes(), request.columns.arm, strata=request.strata(), include=request.all_arms())
    return test.test(request.analysis.level), f"Gray's test{request.stratified}"


def _fine_gray(request: Request) -> Answer:
    time, cause = request.causes()
    fit = fine_gray.fine_gray(
        time, cause, request.regressors(), include=request.two_arms(), level=request.analysis.level
    )
    return fit.ratio(0), f"Fine and Gray's regression of the subdistribution hazard{_adjusted(request)}"


# -- repeated events ---------------------------------------------------------------------------------------------------
def _episodes(request: Request, include: np.ndarray) -> recurrent.Episodes:
    days, until = request.every()
    died = np.zeros(until.shape, bool)
    for kind in request.endpoint.competing:
        died = died | (request.columns.events.get(kind, np.full(until.shape, np.inf)) <= until)
    return recurrent.episodes(days, until, died=died if request.endpoint.competing else None, include=include)


def _proportional_rates(request: Request) -> Answer:
    level, strata = request.analysis.level, request.strata()
    rows = _episodes(request, request.two_arms())
    words = f"proportional rates of repeated events, robust errors (Lin, Wei, Yang and Ying 2000){_adjusted(request)}"
    if request.regresses:
        fit = recurrent.lwyy(rows, request.regressors(), strata=strata, level=level)
        return fit.ratio(0), f"{words}{request.stratified}"
    found = recurrent.rate_ratio(rows, request.columns.arm, contrast=request.contrast, strata=strata, level=level)
    return found, f"{words}{request.stratified}"


def _negative_binomial(request: Request) -> Answer:
    days, until = request.every()
    count = np.where(np.isnan(until), np.nan, np.isfinite(days).sum(axis=-1))
    covariates = request.regressors()[..., 1:] if request.regresses else None
    found = negative_binomial.count_ratio(
        count, until, request.columns.arm, covariates=covariates, **request.comparison()
    )
    return found, f"negative binomial regression of the number of events, time as exposure{_adjusted(request)}"


def _mean_cumulative(request: Request) -> Answer:
    found = mean_cumulative.mean_cumulative_difference(
        _episodes(request, request.two_arms()), request.columns.arm, request.until, **request.comparison()
    )
    ends = "deaths ending it" if request.endpoint.competing else "no terminal event declared"
    return found, f"difference in mean number of events by day {request.until:.0f} ({ends})"


# -- pairs -------------------------------------------------------------------------------------------------------------
def _priority(request: Request, name: str) -> Priority:
    """One level of a hierarchical endpoint, as pairs are compared on it."""
    endpoint, met = request.protocol.endpoint(name), request.estimand.intercurrent_events
    if endpoint.timed:
        return Survival(*outcomes.timed(request.columns, endpoint, met))
    if endpoint.kind == "recurrent":
        days, until = request.columns.every(endpoint.components)
        return win_ratio.Recurrences(np.where(np.isinf(days), np.nan, days), until)
    value = outcomes.measured(request.protocol, request.columns, endpoint, met)
    margin = endpoint.margin if endpoint.margin is not None else request.endpoint.margin
    return Measure(value, margin or 0.0, endpoint.better, at_least=False)


def _win(request: Request) -> Answer:
    levels = [_priority(request, name) for name in request.endpoint.levels]
    contest = win_ratio.compare(
        levels, request.columns.arm, contrast=request.contrast, strata=request.strata(), include=request.include
    )
    of = {"win ratio": win_ratio.win_ratio, "win odds": win_ratio.win_odds, "net benefit": win_ratio.net_benefit}
    found = of[request.estimand.summary](contest, level=request.analysis.level)
    order = ", then ".join(request.endpoint.levels)
    return found, f"all pairs compared on {order} (Pocock et al. 2012), U-statistic error{request.stratified}"


METHODS: dict[str, Callable[[Request], Answer]] = {
    "kaplan-meier difference": _landmark,
    "log-rank": _log_rank,
    "max-combo": _max_combo,
    "cox": _hazard("cox", "Cox proportional hazards, Efron's ties"),
    "firth cox": _hazard(
        "firth",
        "Cox proportional hazards with Firth's penalty and profile-likelihood interval (Heinze and Schemper 2001)",
    ),
    "restricted mean": _restricted_mean,
    "aalen-johansen difference": _incidence,
    "gray": _gray,
    "fine-gray": _fine_gray,
    "proportional rates": _proportional_rates,
    "negative binomial": _negative_binomial,
    "mean cumulative function": _mean_cumulative,
    "win statistics": _win,
}

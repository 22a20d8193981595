"""The declared methods for what is measured: means, visits, responses. Each takes a request; see `plan`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from quell import outcomes
from quell.analysis import means, proportions
from quell.analysis.claim import Estimate
from quell.analysis.request import Request

Answer = tuple[Estimate, str]


def _ancova(request: Request) -> Answer:
    found = means.ancova(request.outcome(), request.columns.arm, contrast=request.contrast, **request.model())
    return found, f"analysis of covariance (least squares){request.adjusted}"


def _ancova_robust(request: Request) -> Answer:
    found = means.ancova(
        request.outcome(), request.columns.arm, contrast=request.contrast, covariance="HC3", **request.model()
    )
    return found, f"analysis of covariance with heteroscedasticity-consistent errors (HC3){request.adjusted}"


def _ancova_on_logs(request: Request) -> Answer:
    model = request.model()
    before = outcomes.baseline(request.protocol, request.columns, request.endpoint)
    adjusted = "baseline" in request.analysis.adjust
    rest = dataclasses.replace(request.analysis, adjust=tuple(a for a in request.analysis.adjust if a != "baseline"))
    model["covariates"] = outcomes.adjusters(request.protocol, request.columns, rest, request.endpoint)
    found = means.geometric_ratio(
        request.outcome(),
        request.columns.arm,
        contrast=request.contrast,
        baseline=before if adjusted else None,
        **model,
    )
    return found, f"analysis of covariance of logarithms{request.adjusted}"


def _two_sample(request: Request) -> Answer:
    found = means.two_sample(request.outcome(), request.columns.arm, **request.comparison())
    return found, "Welch's t test, unadjusted"


def _slope(request: Request) -> Answer:
    found = means.slope(request.outcome(), request.dose(), **request.model())
    return found, f"linear trend in dose by least squares{request.adjusted}"


def _tally(request: Request) -> proportions.Tally:
    """Responders, or people with an event by the horizon; those not known for so long are left out, with a caution."""
    return proportions.tally(
        request.happened(), request.columns.arm, contrast=request.contrast, include=request.include
    )


def _score(request: Request) -> Answer:
    if request.estimand.summary == "risk ratio":
        found = proportions.risk_ratio(_tally(request), level=request.analysis.level)
    else:
        found = proportions.risk_difference(_tally(request), level=request.analysis.level)
    return found, "Miettinen and Nurminen's score interval and test (1985)"


def _fisher(request: Request) -> Answer:
    compare = proportions.risk_ratio if request.estimand.summary == "risk ratio" else proportions.risk_difference
    found = compare(_tally(request), level=request.analysis.level, test="fisher")
    return found, "Fisher's exact test, with Miettinen and Nurminen's interval"


METHODS: dict[str, Callable[[Request], Answer]] = {
    "ancova": _ancova,
    "robust ancova": _ancova_robust,
    "ancova on logs": _ancova_on_logs,
    "two-sample t": _two_sample,
    "slope on dose": _slope,
    "score interval": _score,
    "fisher exact": _fisher,
}

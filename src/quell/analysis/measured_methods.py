"""The declared methods for what is measured: means, visits, responses. Each takes a request; see `plan`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from quell import outcomes
from quell.analysis import imputation, means, missing, proportions, repeated, standardised, stratified_proportions
from quell.analysis.claim import Estimate
from quell.analysis.counts import stratified_tally
from quell.analysis.reference_based import Assumption, Rule
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


def _stratified_score(request: Request) -> Answer:
    strata = request.strata()
    happened, arm = request.happened(), request.columns.arm
    counts = stratified_tally(
        happened,
        arm,
        np.zeros(np.shape(arm), int) if strata is None else strata,
        contrast=request.contrast,
        include=request.include,
    )
    found = stratified_proportions.common_difference(counts, level=request.analysis.level)
    words = "Miettinen and Nurminen's stratified score interval and test, Mantel–Haenszel weights"
    return found, f"{words}{request.stratified}"


def _standardised(request: Request) -> Answer:
    found = standardised.standardised_risks(request.happened(), request.columns.arm, **request.model())
    of = {"risk difference": found.difference, "risk ratio": found.ratio, "odds ratio": found.odds_ratio}
    words = "risks standardised over everybody's covariates by logistic regression, variance of Ye et al. (2023)"
    return of[request.estimand.summary](request.contrast), f"{words}{request.adjusted}"


def _mmrm(request: Request) -> Answer:
    analysis, endpoint = request.analysis, request.endpoint
    degrees = analysis.degrees or "kenward-roger-linear"
    fit = repeated.mmrm(
        request.series(),
        request.columns.arm,
        terms=repeated.Terms(covariates_by_visit=True),
        structure=analysis.covariance or "unstructured",
        method=degrees,
        **request.model(),
    )
    found = fit.contrast(endpoint.visits.index(endpoint.visit), request.contrast)
    used = ", ".join(sorted({str(name) for name in np.ravel(fit.structure)}))
    words = f"mixed model for repeated measures (REML, {used} covariance, {degrees})"
    return found, f"{words} at {endpoint.visit}{request.adjusted}"


# the names of the assumptions in a protocol, and as imputation calls them (Carpenter, Roger and Kenward 2013)
RULES: dict[str, Rule] = {
    "": "MAR",
    "missing at random": "MAR",
    "jump to reference": "J2R",
    "copy reference": "CR",
    "copy increments in reference": "CIR",
}


def _assumption(request: Request) -> tuple[Assumption, str]:
    """What is assumed of values never seen, and that in words."""
    active, control = request.contrast
    assume, delta = request.analysis.assume or "missing at random", request.analysis.delta or 0.0
    shift = np.where(request.columns.arm == active, delta, 0.0)[..., None]
    said = f"{assume}{f', plus {delta:g} on {request.active}' if delta else ''}"
    return Assumption(RULES[assume], control, shift), f"unseen values: {said}"


def _conditional_mean(request: Request) -> Answer:
    assumption, said = _assumption(request)
    at = request.endpoint.visits.index(request.endpoint.visit)
    found = missing.conditional_mean(
        request.follow_up(), assumption, contrast=request.contrast, visit=at, level=request.analysis.level
    )
    words = f"conditional mean imputation with jackknife (Wolbers et al. 2022), {said}"
    return found, f"{words}, at {request.endpoint.visit}{request.adjusted}"


# Their random error is below a tenth of the standard error unless half of the information is missing (a caution says so).
IMPUTATIONS = 50


def _multiple(request: Request) -> Answer:
    assumption, said = _assumption(request)
    at = request.endpoint.visits.index(request.endpoint.visit)
    # one address for every trial, so that a trial's answer does not depend on which others are analysed with it
    from quell import keys

    key = keys.at(keys.number(request.protocol.fingerprint), "imputation", request.analysis.name)
    found = imputation.multiple_imputation(
        request.follow_up(),
        assumption,
        contrast=request.contrast,
        visit=at,
        level=request.analysis.level,
        imputations=IMPUTATIONS,
        key=keys.jax.numpy.broadcast_to(key, request.columns.arm.shape[:-1]),
    )
    noise = float(np.max(np.nan_to_num(found.monte_carlo)))
    words = (
        f"{IMPUTATIONS} imputations pooled by Rubin's rules (random error of the pooled estimate {noise:.1g}), {said}"
    )
    return found.pooled, f"{words}, at {request.endpoint.visit}{request.adjusted}"


METHODS: dict[str, Callable[[Request], Answer]] = {
    "ancova": _ancova,
    "robust ancova": _ancova_robust,
    "ancova on logs": _ancova_on_logs,
    "two-sample t": _two_sample,
    "slope on dose": _slope,
    "stratified score interval": _stratified_score,
    "standardised logistic": _standardised,
    "mmrm": _mmrm,
    "conditional mean imputation": _conditional_mean,
    "multiple imputation": _multiple,
    "score interval": _score,
    "fisher exact": _fisher,
}

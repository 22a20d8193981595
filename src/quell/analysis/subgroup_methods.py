"""The subgroups a protocol asks about: the effect within each level of a factor, and whether it differs between them.

Also whether the effect grows with a covariate, such as the baseline: a difference of slopes, which regression to the mean
leaves alone because it is the same in both arms (`subgroups.effect_along` gives the whole line).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from quell import outcomes
from quell.analysis import subgroups
from quell.analysis.arm_model import ByArm, arm_model
from quell.analysis.linear_model import Covariance
from quell.analysis.request import Request, Result

SCALES = {"risk difference": "difference", "risk ratio": "ratio"}


def divided(of: Result) -> Iterator[Result]:
    """The results within the subgroups of a result, each followed by the test of interaction; then those along covariates."""
    for name in of.request.analysis.subgroups:
        yield from _within(of, name)
    for name in of.request.analysis.modifiers:
        yield _along(of, name)


def _within(of: Result, name: str) -> Iterator[Result]:
    request = _exploratory(of.request)
    (codes,) = outcomes.grouping(request.columns, (name,))
    forest = _forest(request, name, codes)
    words = request.columns.levels.get(name, ())
    for place, code in enumerate(forest.levels):
        level = words[code] if code < len(words) else str(code)
        yield dataclasses.replace(
            of,
            name=f"{of.name}, {name} {level}",
            request=dataclasses.replace(request, include=request.include & (codes == code)),
            method=f"{of.method}; within subgroups: {forest.method}",
            estimate=forest.effects.row((..., place)),
        )
    yield dataclasses.replace(
        of,
        name=f"{of.name}, interaction with {name}",
        request=request,
        method=f"{of.method}; interaction: {forest.method}",
        estimate=forest.interaction,
        scale="difference",
        unit="",
        arms=None,
    )


def _exploratory(request: Request) -> Request:
    return dataclasses.replace(request, analysis=dataclasses.replace(request.analysis, role="exploratory"))


def _forest(request: Request, name: str, codes: np.ndarray) -> subgroups.Forest:
    arm, analysis = request.columns.arm, request.analysis
    if analysis.method in ("cox", "firth cox"):
        covariates = request.regressors()[..., 1:] if request.regresses else None
        return subgroups.forest_of_hazards(
            *request.times(), arm, codes, covariates=covariates, strata=request.strata(), **request.comparison()
        )
    if analysis.method in ("score interval", "fisher exact"):
        scale = SCALES[request.estimand.summary]
        return subgroups.forest_of_risks(request.happened(), arm, codes, scale=scale, **request.comparison())  # type: ignore[arg-type]
    kept = [one for one in (*analysis.factors, *analysis.strata) if one != name]
    model = request.model() | {"factors": outcomes.grouping(request.columns, tuple(kept))}
    errors: Covariance = "HC3" if analysis.method == "robust ancova" else "classical"
    return subgroups.forest_of_means(
        request.outcome(), arm, codes, contrast=request.contrast, covariance=errors, **model
    )


def _along(of: Result, name: str) -> Result:
    """How much the effect changes per unit of a covariate."""
    request = _exploratory(of.request)
    adjust = tuple(dict.fromkeys((name, *request.analysis.adjust)))
    wider = dataclasses.replace(request, analysis=dataclasses.replace(request.analysis, adjust=adjust))
    model = arm_model(request.outcome(), request.columns.arm, by_arm=ByArm(covariates=(0,)), **wider.model())
    return dataclasses.replace(
        of,
        name=f"{of.name}, effect per unit of {name}",
        request=request,
        method=f"{of.method}; difference between the arms' slopes on {name}",
        estimate=model.slope_difference(request.contrast, 0),
        unit="",
    )

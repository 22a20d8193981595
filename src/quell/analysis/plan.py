"""The protocol's analyses, carried out: from columns to claims. Blind: it sees the promise and the record, no more.

Every method takes the same request and gives one result per comparison, batched over trials. A study is a batch of none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quell import outcomes
from quell.analysis import event_methods, measured_methods
from quell.analysis.claim import Claim, Claims, Estimate, claim_from
from quell.analysis.request import SCALES, Request, Result, describe, unit
from quell.analysis.subgroup_methods import divided
from quell.analysis.twin import twin
from quell.protocol import Protocol
from quell.questions import Analysis
from quell.study import Columns, Study

METHODS: dict[str, Callable[[Request], tuple[Estimate, str]]] = measured_methods.METHODS | event_methods.METHODS

# Methods that compare every arm at once, and so make one claim
JOINT = ("log-rank", "gray", "max-combo", "slope on dose")


def results(protocol: Protocol, columns: Columns) -> list[Result]:
    """Every declared analysis, for every comparison it makes; shapes follow the columns' leading axes."""
    return [result for analysis in protocol.analyses for result in _results(protocol, columns, analysis)]


def analyse(protocol: Protocol, study: Study) -> Claims:
    """The protocol's analyses of a study, real or simulated, as claims by name.

    Raises StudyError in a sentence where the study lacks what an analysis needs.
    """
    return Claims([_claim(result) for result in results(protocol, study.columns(protocol))])


def _results(protocol: Protocol, columns: Columns, analysis: Analysis) -> list[Result]:
    estimand = protocol.estimand(analysis.estimand)
    endpoint = protocol.endpoint(estimand.endpoint)
    include = outcomes.members(columns, estimand.population) & (columns.arm >= 0)
    joint = analysis.method in JOINT
    found = []
    for active in estimand.active[:1] if joint else estimand.active:
        request = Request(
            protocol=protocol,
            columns=columns,
            analysis=analysis,
            estimand=estimand,
            endpoint=endpoint,
            active=active,
            include=include,
        )
        several = len(estimand.active) > 1 and not joint
        scale = SCALES[estimand.summary]
        estimate, words = twin(request, *METHODS[analysis.method](request), scale.endswith(("ratio", "odds")))
        result = Result(
            name=f"{analysis.name}: {active} against {estimand.control}" if several else analysis.name,
            request=request,
            method=words,
            estimate=estimate,
            scale=scale,
            unit=unit(endpoint, estimand),
            arms=None if joint else (protocol.arm(active).shown, protocol.arm(estimand.control).shown),
        )
        found += [result, *divided(result)]
    return found


def _claim(result: Result) -> Claim:
    request = result.request
    return claim_from(
        result.estimate,
        name=result.name,
        estimand=describe(request.estimand, request.endpoint),
        method=result.method,
        scale=result.scale,
        unit=result.unit,
        arms=result.arms,
        role=request.analysis.role,
        counts=request.counts(),
        warnings=outcomes.unhandled(request.estimand.intercurrent_events),
    )


def rejects(estimate: Estimate, level: float) -> np.ndarray:
    """Whether each trial's test rejects no effect at the analysis's level; a test that could not be done does not."""
    return np.nan_to_num(estimate.p, nan=1.0) < 1 - level

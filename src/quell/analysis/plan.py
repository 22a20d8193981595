"""The protocol's analyses, carried out: from columns to claims. Blind: it sees the promise and the record, no more.

Every method takes the same request and gives one result per comparison, batched over trials. A study is a batch of none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quell import outcomes
from quell.analysis import event_methods, measured_methods, multiple
from quell.analysis.claim import Claim, ClaimError, Claims, Estimate, claim_from
from quell.analysis.graphical import graph
from quell.analysis.request import SCALES, Request, Result, describe, unit
from quell.analysis.subgroup_methods import divided
from quell.analysis.twin import twin
from quell.protocol import Protocol
from quell.questions import JOINT, Analysis
from quell.study import Columns, Study, StudyError

METHODS: dict[str, Callable[[Request], tuple[Estimate, str]]] = measured_methods.METHODS | event_methods.METHODS


def results(protocol: Protocol, columns: Columns) -> list[Result]:
    """Every declared analysis, for every comparison it makes; shapes follow the columns' leading axes."""
    return [result for analysis in protocol.analyses for result in _results(protocol, columns, analysis)]


def analyse(protocol: Protocol, study: Study) -> Claims:
    """The protocol's analyses of a study, real or simulated, as claims by name.

    Raises StudyError in a sentence where the study lacks what an analysis needs.
    """
    found = results(protocol, study.columns(protocol))
    adjusted = adjusted_p(protocol, found)
    return Claims([_claim(result, adjusted.get(result.name)) for result in found])


def adjusted_p(protocol: Protocol, found: Sequence[Result]) -> dict[str, np.ndarray]:
    """The p of each analysis that is tested together with others, adjusted by the declared procedure, (...)."""
    testing = protocol.testing
    if testing is None:
        return {}
    by_name = {result.name: result.estimate.p for result in found}
    p = np.stack([by_name[name] for name in testing.analyses], axis=-1)
    if testing.procedure == "graphical":
        adjusted = multiple.graphical(p, graph(testing.weights, testing.transitions))
    elif testing.procedure == "co-primary":
        adjusted = np.broadcast_to(multiple.co_primary(p)[..., None], p.shape)
    else:
        adjusted = multiple.ADJUSTMENTS[testing.procedure](p)
    return {name: adjusted[..., place] for place, name in enumerate(testing.analyses)}


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
        try:
            estimate, words = twin(request, *METHODS[analysis.method](request), scale.endswith(("ratio", "odds")))
        except ClaimError as error:  # what a method cannot do with this study, told with the analysis it befell
            raise StudyError(f"analysis '{analysis.name}': {error}") from None
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


def _claim(result: Result, adjusted: np.ndarray | None) -> Claim:
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
        adjusted_p=None if adjusted is None else float(adjusted),
        warnings=outcomes.unhandled(request.estimand.intercurrent_events),
    )


def rejects(estimate: Estimate, level: float) -> np.ndarray:
    """Whether each trial's test rejects no effect at the analysis's level; a test that could not be done does not."""
    return np.nan_to_num(estimate.p, nan=1.0) < 1 - level

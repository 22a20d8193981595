"""From what was recorded to the variable an endpoint asks for: baseline, change, response, time to the first event.

The one place where endpoints are derived: from the columns of a real study, of one simulated trial, or of many.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from quell import units
from quell.promises import Analysis, Endpoint
from quell.protocol import Protocol
from quell.sentences import near
from quell.study import Columns, StudyError


def baseline(protocol: Protocol, columns: Columns, endpoint: Endpoint) -> np.ndarray:
    """The last value at or before the baseline visit, of shape (..., subjects); NaN where there is none."""
    found = np.full(columns.arm.shape, np.nan)
    for visit in protocol.visits:
        if visit.kind in ("screening", "baseline"):
            value = columns.readings.get((endpoint.quantity, endpoint.location, visit.name))
            found = found if value is None else np.where(np.isnan(value), found, value)
    return found


def measured(protocol: Protocol, columns: Columns, endpoint: Endpoint, visit: str = "") -> np.ndarray:
    """A continuous endpoint at its own scale, or a response as 0 and 1; shape (..., subjects), NaN where missing."""
    value = columns.reading(endpoint.quantity, endpoint.location, visit or endpoint.visit)
    if endpoint.responds:
        response = units.rule(endpoint.responds).allows(value).astype(float)
        return np.where(np.isnan(value), np.nan, response)
    before = None if endpoint.scale == "value" else baseline(protocol, columns, endpoint)
    with np.errstate(divide="ignore", invalid="ignore"):
        match endpoint.scale:
            case "change":
                return value - before
            case "percent change":
                return 100 * (value - before) / before
            case "ratio to baseline":
                return value / before
    return value


def members(columns: Columns, name: str) -> np.ndarray:
    """Who is in a set: boolean of shape (..., subjects). Raises StudyError where the record does not say."""
    found = columns.sets.get(name)
    if found is None:
        raise StudyError(f"the study does not say who is in the set '{name}'. {near(name, columns.sets)}")
    return found


def adjusters(protocol: Protocol, columns: Columns, analysis: Analysis, endpoint: Endpoint) -> np.ndarray | None:
    """The covariates an analysis adjusts for, of shape (..., subjects, covariates); None where there are none."""
    if not analysis.adjust:
        return None
    chosen = [
        baseline(protocol, columns, endpoint) if name == "baseline" else _known(columns.covariates, name, "covariate")
        for name in analysis.adjust
    ]
    return np.stack(np.broadcast_arrays(*chosen), axis=-1)


def grouping(columns: Columns, names: tuple[str, ...]) -> list[np.ndarray]:
    """The coded factors of those names, each of shape (..., subjects)."""
    return [_known(columns.factors, name, "factor") for name in names]


def _known(table: Mapping[str, np.ndarray], name: str, kind: str) -> np.ndarray:
    if name not in table:
        raise StudyError(f"the study has no {kind} '{name}'. {near(name, table)}")
    return table[name]

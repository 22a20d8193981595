"""From what was recorded to the variable an endpoint asks for: baseline, change, response, time to the first event.

The one place where endpoints are derived: from the columns of a real study, of one simulated trial, or of many. What an
estimand does about intercurrent events (ICH E9(R1)) is done here, so that it is done alike to a record and to the truth:

- *treatment policy*: nothing; what was measured afterwards counts;
- *hypothetical*: values after the event are taken out, times end there (as if it could have been prevented);
- *composite*: the event is itself a bad outcome: the worst value seen, no response, an event on that day;
- *while on treatment*: the last value before the event; times end there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from quell import units
from quell.protocol import Protocol
from quell.questions import DERIVED, STOPPING, Analysis, Endpoint, IntercurrentEvent
from quell.sentences import near
from quell.study import Columns, StudyError

Met = Sequence[IntercurrentEvent]


def baseline(protocol: Protocol, columns: Columns, endpoint: Endpoint) -> np.ndarray:
    """The last value at or before the baseline visit, of shape (..., subjects); NaN where there is none."""
    found = np.full(columns.arm.shape, np.nan)
    for visit in protocol.visits:
        if visit.kind in ("screening", "baseline"):
            value = columns.readings.get((endpoint.quantity, endpoint.location, visit.name))
            found = found if value is None else np.where(np.isnan(value), found, value)
    return found


def measured(protocol: Protocol, columns: Columns, endpoint: Endpoint, met: Met = ()) -> np.ndarray:
    """A measured endpoint at its own scale, or a response as 0 and 1; shape (..., subjects), NaN where missing."""
    names = _visits(protocol, columns, endpoint, met)
    return series(protocol, columns, endpoint, met, names)[..., names.index(endpoint.visit)]


def series(
    protocol: Protocol, columns: Columns, endpoint: Endpoint, met: Met = (), visits: Sequence[str] = ()
) -> np.ndarray:
    """A measured endpoint at each of its visits, (..., subjects, visits), after what is done about intercurrent events.

    Raises StudyError where the study never recorded a visit, or not when the intercurrent event happened.
    """
    names = visits or endpoint.visits or (endpoint.visit,)
    values = np.stack([columns.reading(endpoint.quantity, endpoint.location, name) for name in names], axis=-1)
    failed = np.zeros(values.shape, dtype=bool)
    for one in _acting(met):
        after = _days(protocol, columns, names) > day_of(columns, one)[..., None]
        match one.strategy:
            case "hypothetical":
                values = np.where(after, np.nan, values)
            case "while on treatment":
                values = carried(values, after)
            case "composite":
                failed = failed | after
    values = _scaled(protocol, columns, endpoint, values)
    return np.where(failed, worst(endpoint, values), values) if failed.any() else values


def affected(protocol: Protocol, columns: Columns, endpoint: Endpoint, met: Met = ()) -> np.ndarray | None:
    """The first visit, by number, after a hypothetical strategy's event, (..., subjects); the number of visits for never.

    None where no such event is recorded: then what was never seen counts from the last value on.
    """
    acting = [one for one in _acting(met) if one.strategy == "hypothetical"]
    if not acting:
        return None
    first = np.min([day_of(columns, one) for one in acting], axis=0)
    return (_days(protocol, columns, endpoint.visits) <= first[..., None]).sum(axis=-1)


def timed(columns: Columns, endpoint: Endpoint, met: Met = ()) -> tuple[np.ndarray, np.ndarray]:
    """Time in whole days and whether it ended with the endpoint's event; both (..., subjects)."""
    time, event = columns.first(endpoint.components)
    for one in _acting(met):
        day = day_of(columns, one)
        if one.strategy == "composite":
            before = day < time
            time, event = np.where(before, day, time), event | (day <= time)
        elif one.strategy in ("hypothetical", "while on treatment"):
            time, event = np.minimum(time, day), event & (time <= day)
    return time, event


def causes(columns: Columns, endpoint: Endpoint, met: Met = ()) -> tuple[np.ndarray, np.ndarray]:
    """Time in whole days and how it ended: 0 censored, 1 the endpoint's event, 2 an event that competes with it."""
    time, event = timed(columns, endpoint, met)
    other, competes = columns.first(endpoint.competing)
    first = competes & (other < np.where(event, time, np.inf)) & (other <= time)
    return np.where(first, other, time), np.where(first, 2, event.astype(int))


def day_of(columns: Columns, event: IntercurrentEvent) -> np.ndarray:
    """The study day on which an intercurrent event befell each person, inf where it did not; (..., subjects)."""
    never = np.full(columns.arm.shape, np.inf)
    days: list[np.ndarray] = [columns.events.get(kind, never) for kind in event.recorded if kind != STOPPING]
    if STOPPING in event.recorded:
        if columns.stopped is None:
            raise StudyError(
                f"the intercurrent event '{event.event}' needs to know when treatment stopped. "
                "Give the table 'milestones' with the milestone 'completed treatment' and its day."
            )
        days.append(columns.stopped)
    return np.min(days, axis=0)


def imagined(met: Met) -> bool:
    """Whether the estimand is about lives that nobody lives: those in which an event that is recorded did not happen."""
    return any(one.strategy == "hypothetical" for one in _acting(met))


def unhandled(met: Met) -> tuple[str, ...]:
    """A sentence for every strategy that is stated and cannot be carried out on the record."""
    stated = [one for one in met if one.strategy != "treatment policy" and not one.recorded]
    said = [
        f"The strategy for '{one.event}' ({one.strategy}) is stated, but not how the record shows the event "
        "(recorded = …): the values were used as they stand."
        for one in stated
    ]
    strata = [one for one in met if one.strategy == "principal stratum" and one.recorded]
    return (
        *said,
        *(f"Who would have had '{one.event}' on the other arm is never seen: no stratum was formed." for one in strata),
    )


def carried(values: np.ndarray, after: np.ndarray, first: np.ndarray | float = np.nan) -> np.ndarray:
    """Values (..., visits) with the last one seen before the event in place of those after it; ``first`` where there was none.

    >>> carried(np.array([[1.0, np.nan, 3.0, 4.0]]), np.array([[False, False, True, True]]))
    array([[ 1., nan,  1.,  1.]])
    """
    last, found = np.broadcast_to(np.asarray(first, float), values.shape[:-1]), values.copy()
    for visit in range(values.shape[-1]):
        here, gone = values[..., visit], after[..., visit]
        last = np.where(gone | np.isnan(here), last, here)
        found[..., visit] = np.where(gone, last, here)
    return found


def worst(endpoint: Endpoint, values: np.ndarray) -> np.ndarray:
    """What a person with a failing intercurrent event counts as: no response, or the worst value anybody had at the visit."""
    if endpoint.responds:
        return np.asarray(0.0 if endpoint.better == "higher" else 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nobody was seen at that visit: NaN is right
        extreme = np.nanmin if endpoint.better == "higher" else np.nanmax
        return np.asarray(extreme(values, axis=-2, keepdims=True))


def _acting(met: Met) -> list[IntercurrentEvent]:
    """The intercurrent events about which something is done here."""
    return [
        one
        for one in met
        if one.recorded
        and DERIVED not in one.recorded
        and one.strategy not in ("treatment policy", "principal stratum")
    ]


def _visits(protocol: Protocol, columns: Columns, endpoint: Endpoint, met: Met) -> tuple[str, ...]:
    """The visits needed for the one asked for: earlier ones only where a last value may be carried forward."""
    if not any(one.strategy == "while on treatment" for one in _acting(met)):
        return (endpoint.visit,)
    planned = [one.name for one in protocol.visits if one.day > protocol.baseline.day]
    until = planned[: planned.index(endpoint.visit) + 1] if endpoint.visit in planned else [endpoint.visit]
    seen = [name for name in until if (endpoint.quantity, endpoint.location, name) in columns.readings]
    return tuple(dict.fromkeys((*seen, endpoint.visit)))


def _days(protocol: Protocol, columns: Columns, names: Sequence[str]) -> np.ndarray:
    """The study day of each visit, (..., subjects, visits): as kept, else as planned."""
    planned = {one.name: float(one.day) for one in protocol.visits}
    kept = [columns.visited.get(name, np.full(columns.arm.shape, np.nan)) for name in names]
    return np.stack([np.where(np.isnan(day), planned[name], day) for name, day in zip(names, kept, strict=True)], -1)


def _scaled(protocol: Protocol, columns: Columns, endpoint: Endpoint, values: np.ndarray) -> np.ndarray:
    """Values (..., subjects, visits) as responses, or at the endpoint's scale."""
    if endpoint.responds:
        response = units.rule(endpoint.responds).allows(values).astype(float)
        return np.where(np.isnan(values), np.nan, response)
    if endpoint.scale == "value":
        return values
    before = baseline(protocol, columns, endpoint)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        match endpoint.scale:
            case "change":
                return values - before
            case "percent change":
                return 100 * (values - before) / before
            case _:
                return values / before


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

"""The partial likelihood of subjects with covariates: prepared once, evaluated by histograms over the event times.

With w_i = (case weight) exp(x_i'b), the sums over those at risk at each event time are reverse cumulative sums of
histograms. The rest is written per subject, as residuals are: with H_i the cumulative hazard a subject was exposed to,

gradient = sum of x_i (event_i - w_i H_i),   information = sum of w_i H_i x_i x_i' - sum over terms of c m m',

m the weighted mean of x over those at risk. Efron's l-th term at a time of d tied events sees the dying with weight
1 - l / d; a rung without ties is one term, and only tied rungs have further ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.partial_likelihood import Hill, Ties, Value, inverse, log_determinant
from quell.analysis.risksets import RiskSets, risk_sets


class Spells(NamedTuple):
    """Spells under observation, each a subject or a row (start, stop] of one: every field (..., n), covariates (..., n, p).

    time (the end of the row) and event; entry (its start: late entry, covariates that change, repeated events); strata in
    whole codes; include; case weights, greater than zero; offset, added to x'b.
    """

    time: np.ndarray
    event: np.ndarray
    covariates: np.ndarray
    entry: np.ndarray | None = None
    strata: np.ndarray | None = None
    include: np.ndarray | None = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None


class TiedTerms(NamedTuple):
    """Efron's further terms (l >= 1): R tied rungs (flat), their E events (flat subjects), and T terms."""

    rung: np.ndarray
    size: np.ndarray
    subject: np.ndarray
    rung_of_subject: np.ndarray
    rung_of_term: np.ndarray
    share: np.ndarray
    term_weight: np.ndarray
    trial: np.ndarray


class Prepared(NamedTuple):
    """Trials laid out for the likelihood: covariates (p, B, n) centred and in units of their spread, and the ladder.

    `cell` and `entry_cell` (B n,) place each subject in a histogram of B x S x (M + 1) bins, the first of each ladder for
    those never at risk; `term_weight` (B, S, M) is the weight of one term of a rung, `real` where the rung has an event.
    """

    sets: RiskSets
    x: np.ndarray
    unit: np.ndarray
    weights: np.ndarray | None
    offset: np.ndarray | None
    cell: np.ndarray
    entry_cell: np.ndarray | None
    term_weight: np.ndarray
    real: np.ndarray
    tied: TiedTerms | None
    event_total: np.ndarray


class State(NamedTuple):
    """The likelihood's parts at some coefficients: subjects' w (B, n), and per rung log phi, c / phi and m of its term.

    `tied_hazard` (T,) and `tied_mean` (p, T) are those of the further terms.
    """

    w: np.ndarray
    log_phi: np.ndarray
    hazard: np.ndarray
    mean: np.ndarray
    tied_log_phi: np.ndarray
    tied_hazard: np.ndarray
    tied_mean: np.ndarray


def flattened(spells: Spells) -> tuple[Spells, tuple[int, ...]]:
    """Every field with its batch flattened to one axis, (B, n), and the batch's shape."""
    covariates = np.asarray(spells.covariates, float)
    time = np.asarray(spells.time, float)
    if covariates.ndim < 2 or not time.ndim or covariates.shape[-2] != time.shape[-1]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but time has {time.shape}; give covariates as (..., n, p): "
            "one row per subject and one column per covariate, also where there is only one."
        )
    given = {name: np.asarray(value) for name, value in spells._asdict().items() if value is not None}
    try:
        shapes = [value.shape for name, value in given.items() if name != "covariates"]
        shape = np.broadcast_shapes(*shapes, covariates.shape[:-1])
    except ValueError:
        words = ", ".join(f"{name} {value.shape}" for name, value in given.items())
        raise ClaimError(
            f"The spells have fields of shapes {words}, which do not fit together; each needs the same trials and "
            "subjects."
        ) from None
    if not covariates.shape[-1]:
        raise ClaimError("There is no covariate; give at least one column, for example the arm as 0 and 1.")
    trials = int(np.prod(shape[:-1]))
    fields = {}
    for name, value in given.items():
        own = value.shape[-1:] if name == "covariates" else ()
        fields[name] = np.broadcast_to(value, (*shape, *own)).reshape(trials, shape[-1], *own)
    return Spells(**fields), shape[:-1]


def prepared(spells: Spells, ties: Ties) -> Prepared:
    """Risk sets of the flattened trials' subjects with every value, with standardised covariates, and their tied terms."""
    if ties not in ("efron", "breslow"):
        raise ClaimError(f"Ties are '{ties}'; choose 'efron' or 'breslow'.")
    known = np.isfinite(spells.covariates).all(-1)
    weights, offset = spells.weights, spells.offset
    if weights is not None:
        weights = np.asarray(weights, float)
        if np.any(weights < 0):
            raise ClaimError("A case weight is negative; weights count how many subjects a row stands for.")
        known = known & np.isfinite(weights) & (weights > 0)
    if offset is not None:
        offset = np.asarray(offset, float)
        known = known & np.isfinite(offset)
    time = np.where(known, spells.time, np.nan)
    sets = risk_sets(time, spells.event, include=spells.include, entry=spells.entry, strata=spells.strata)
    x, unit = _standardised(np.ascontiguousarray(np.moveaxis(spells.covariates, -1, 0), float), sets.kept)
    weights, offset = (None if value is None else np.where(sets.kept, value, 0.0) for value in (weights, offset))
    trials, strata, rungs = sets.times.shape
    ladder = (np.arange(trials)[:, None] * strata + sets.stratum) * (rungs + 1)
    cell = ladder + sets.last
    entry_cell = None if sets.first is None else (ladder + np.where(sets.kept, sets.first, 0)).ravel()
    died = np.flatnonzero(sets.event)
    bins = trials * strata * (rungs + 1)
    cell = cell.ravel()
    where = cell[died]
    d = np.bincount(where, None, bins).reshape(trials, strata, rungs + 1)[..., 1:]
    if weights is None:
        term_weight = d.astype(float)
    else:
        term_weight = np.bincount(where, weights.ravel()[died], bins).reshape(trials, strata, rungs + 1)[..., 1:]
    tied = None
    if ties == "efron" and np.any(d > 1):
        term_weight = term_weight / np.maximum(d, 1)
        # from a histogram's bin to its rung: each ladder has one bin more
        tied = _tied_terms(d, term_weight, died, where - 1 - where // (rungs + 1))
    happened = sets.event.astype(float) if weights is None else np.where(sets.event, weights, 0.0)
    event_total = np.vecdot(x, happened).T
    return Prepared(sets, x, unit, weights, offset, cell, entry_cell, term_weight, d > 0, tied, event_total)


def _standardised(x: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariates (p, B, n) about their mean in units of their spread, zero where left out; and the units (B, p)."""
    size = np.maximum(kept.sum(-1), 1)[:, None]
    x = np.where(kept, x, 0.0)
    x = np.where(kept, x - x.sum(-1, keepdims=True) / size, 0.0)
    spread = np.sqrt(np.vecdot(x, x)[..., None] / size)
    flat = spread <= 1e-12 * np.maximum(np.abs(x).max(-1, keepdims=True, initial=0.0), 1e-300)
    unit = np.where(flat, 1.0, spread)
    return np.where(flat, 0.0, x / unit), np.moveaxis(unit[..., 0], 0, -1)


def _tied_terms(d: np.ndarray, term_weight: np.ndarray, died: np.ndarray, where: np.ndarray) -> TiedTerms:
    """The further terms of the rungs with d > 1, from the events (flat subjects) and the rungs where they fall (flat)."""
    flat = d.ravel()
    rung = np.flatnonzero(flat > 1)
    number = np.full(flat.shape, -1)
    number[rung] = np.arange(len(rung))
    tied = number[where] >= 0
    size = flat[rung]
    further = size - 1
    of = np.repeat(np.arange(len(rung)), further)
    rank = 1 + np.arange(len(of)) - np.repeat(np.cumsum(further) - further, further)
    return TiedTerms(
        rung=rung,
        size=size,
        subject=died[tied],
        rung_of_subject=number[where][tied],
        rung_of_term=of,
        share=rank / size[of],
        term_weight=term_weight.ravel()[rung][of],
        trial=rung[of] // (d.shape[1] * d.shape[2]),
    )


def at_risk_sum(prepared: Prepared, weight: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Sum of a weight (B, n) over those at risk on each rung: (B, S, M)."""
    trials, strata, size = prepared.sets.times.shape
    bins = trials * strata * (size + 1)
    above = np.bincount(prepared.cell, weight.ravel(), bins)
    if prepared.entry_cell is not None:
        above -= np.bincount(prepared.entry_cell, weight.ravel(), bins)
    out = np.empty((trials, strata, size)) if out is None else out
    np.cumsum(above.reshape(trials, strata, size + 1)[..., :0:-1], -1, out=out[..., ::-1])
    return out


def exposure(prepared: Prepared, per_rung: np.ndarray, tied_down: np.ndarray | None) -> np.ndarray:
    """What accrues to each subject over the rungs at risk, (B, n); tied events are spared the share `tied_down` (R,)."""
    trials, strata, size = prepared.sets.times.shape
    ladder = np.zeros((trials, strata, size + 1))
    np.cumsum(per_rung, -1, out=ladder[..., 1:])
    ladder = ladder.ravel()
    felt = ladder[prepared.cell]
    if prepared.entry_cell is not None:
        felt = felt - ladder[prepared.entry_cell]
    if prepared.tied is not None and tied_down is not None:
        felt[prepared.tied.subject] -= tied_down[prepared.tied.rung_of_subject]
    return felt.reshape(prepared.sets.event.shape)


def state(prepared: Prepared, b: np.ndarray) -> State:
    """The parts of the likelihood at coefficients b (B, p), standardised."""
    w = np.zeros(prepared.x.shape[1:]) if prepared.offset is None else prepared.offset.copy()
    part = np.empty(w.shape)
    for one, slope in zip(prepared.x, b.T, strict=True):
        w += np.multiply(one, slope[:, None], out=part)
    np.exp(np.clip(w, -500, 500, out=w), out=w)
    if prepared.weights is not None:
        w *= prepared.weights
    total = at_risk_sum(prepared, w)
    sums = np.empty((len(prepared.x), *total.shape))
    for one, out in zip(prepared.x, sums, strict=True):
        at_risk_sum(prepared, np.multiply(one, w, out=part), out)
    # rounding may leave nothing of a sum from which early entries were taken
    safe = np.where(prepared.real & (total > 0), total, 1.0)
    none = np.zeros(0)
    log_phi, hazard, mean = np.log(safe), prepared.term_weight / safe, np.divide(sums, safe, out=sums)
    if prepared.tied is None:
        return State(w, log_phi, hazard, mean, none, none, np.zeros((len(b.T), 0)))
    tied = prepared.tied
    dying = np.bincount(tied.rung_of_subject, w.ravel()[tied.subject], len(tied.rung))
    of = tied.rung[tied.rung_of_term]
    phi = total.ravel()[of] - tied.share * dying[tied.rung_of_term]
    phi = np.where(phi > 0, phi, 1.0)
    means = np.empty((len(sums), len(of)))
    tied_w = w.ravel()[tied.subject]
    for k, one in enumerate(prepared.x):
        dying = np.bincount(tied.rung_of_subject, one.ravel()[tied.subject] * tied_w, len(tied.rung))
        means[k] = (mean[k].ravel()[of] * safe.ravel()[of] - tied.share * dying[tied.rung_of_term]) / phi
    return State(w, log_phi, hazard, mean, np.log(phi), tied.term_weight / phi, means)


def height(prepared: Prepared, at: State, b: np.ndarray) -> np.ndarray:
    """The log partial likelihood (B,)."""
    value = np.vecdot(prepared.event_total, b) - np.vecdot(prepared.term_weight, at.log_phi).sum(-1)
    if prepared.offset is not None:
        weight = 1.0 if prepared.weights is None else prepared.weights
        value = value + np.sum(np.where(prepared.sets.event, prepared.offset * weight, 0.0), -1)
    if prepared.tied is not None:
        tied = prepared.tied
        value = value - np.bincount(tied.trial, tied.term_weight * at.tied_log_phi, len(value))
    return value


def cumulative_hazard(prepared: Prepared, at: State, scale: np.ndarray | None = None) -> np.ndarray:
    """H: the hazard each subject was exposed to, at w = 1, (B, n); each rung's times `scale` (B, S, M) where given."""
    hazard, tied_hazard = at.hazard, at.tied_hazard
    if scale is not None:
        hazard = hazard * scale
    tied = prepared.tied
    if tied is None:
        return exposure(prepared, hazard, None)
    if scale is not None:
        tied_hazard = tied_hazard * scale.ravel()[tied.rung][tied.rung_of_term]
    return exposure(prepared, *with_ties(prepared, hazard, tied_hazard))


def with_ties(prepared: Prepared, per_rung: np.ndarray, per_term: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A rung's quantity over all its terms, and the share of it that the dying are spared."""
    tied = prepared.tied
    if tied is None:
        return per_rung, None
    whole = per_rung.copy()
    whole.ravel()[tied.rung] += np.bincount(tied.rung_of_term, per_term, len(tied.rung))
    return whole, np.bincount(tied.rung_of_term, per_term * tied.share, len(tied.rung))


def slopes(prepared: Prepared, at: State, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (B, p) and information (B, p, p); each rung's part times `scale` (B, S, M) where given."""
    felt = at.w * cumulative_hazard(prepared, at, scale)
    x, count, tied = prepared.x, prepared.term_weight, prepared.tied
    total = prepared.event_total
    tied_count = None if tied is None else tied.term_weight
    if scale is not None:
        count = count * scale
        total = event_total(prepared, scale)
        tied_count = None if tied is None else tied.term_weight * scale.ravel()[tied.rung][tied.rung_of_term]
    trials, p = total.shape
    gradient, information = np.empty((trials, p)), np.empty((trials, p, p))
    rungs = count.shape[1] * count.shape[2]
    flat = at.mean.reshape(p, trials, rungs)
    count = count.reshape(trials, rungs)
    for j in range(p):
        felt_x, counted = felt * x[j], count * flat[j]
        gradient[:, j] = total[:, j] - np.vecdot(felt, x[j])
        for k in range(j + 1):
            square = np.vecdot(felt_x, x[k]) - np.vecdot(counted, flat[k])
            if tied is not None:
                square -= np.bincount(tied.trial, tied_count * at.tied_mean[j] * at.tied_mean[k], trials)
            information[:, j, k] = information[:, k, j] = square
    return gradient, information


def event_total(prepared: Prepared, scale: np.ndarray) -> np.ndarray:
    """Sum of x over the events, each times its rung's `scale` (B, S, M): (B, p)."""
    died = np.nonzero(prepared.sets.event)
    weight = of_events(prepared, scale)
    if prepared.weights is not None:
        weight = weight * prepared.weights[died]
    return np.stack([np.bincount(died[0], weight * one[died], len(one)) for one in prepared.x], -1)


def of_events(prepared: Prepared, per_rung: np.ndarray) -> np.ndarray:
    """A rung's quantity (B, S, M) for each event, in the order of np.nonzero(event)."""
    cells = prepared.cell.reshape(prepared.sets.event.shape)[prepared.sets.event]
    return per_rung.ravel()[cells - 1 - cells // (per_rung.shape[-1] + 1)]


def evaluate(prepared: Prepared, b: np.ndarray) -> Value:
    """Height, gradient and information at standardised coefficients b (B, p)."""
    at = state(prepared, b)
    return Value(height(prepared, at, b), *slopes(prepared, at))


def penalised(prepared: Prepared, b: np.ndarray, free: np.ndarray) -> Value:
    """The same with Firth's penalty, log det(information) / 2, whose gradient needs the third cumulants."""
    at = state(prepared, b)
    value = Value(height(prepared, at, b), *slopes(prepared, at))
    leverage = _leverage(prepared, at, inverse(value.information, free))
    return Value(
        value.height + log_determinant(value.information, free) / 2, value.gradient + leverage / 2, value.information
    )


def _leverage(prepared: Prepared, at: State, covariance: np.ndarray) -> np.ndarray:
    """Sum over terms of c E[(x - m) (x - m)' V (x - m)], (B, p): the gradient of log det(information).

    With q = x'Vx, E[x q] - m E[q] - 2 (E[x x'] - m m') V m: only sums of x, x x', q and x q over those at risk are needed.
    """
    x, p = prepared.x, len(prepared.x)
    q = np.einsum("pbn,bpq,qbn->bn", x, covariance, x, optimize=True)
    pieces = [q, *(one * q for one in x), *(x[j] * x[k] for j in range(p) for k in range(p))]
    sums = np.stack([at_risk_sum(prepared, at.w * piece) for piece in pieces])
    safe = np.where(
        prepared.real & (at.hazard > 0), prepared.term_weight / np.where(at.hazard > 0, at.hazard, 1.0), 1.0
    )
    trials, rungs = len(at.w), at.hazard.shape[1] * at.hazard.shape[2]
    mean = at.mean.reshape(p, trials, rungs)
    trial = np.broadcast_to(np.arange(trials)[:, None], mean.shape[1:])
    total = _third(sums.reshape(len(pieces), trials, rungs) / safe.reshape(trials, rungs), mean, covariance, trial)
    total = np.sum(total * prepared.term_weight.reshape(trials, rungs), -1)
    tied = prepared.tied
    if tied is None:
        return total.T
    of = tied.rung[tied.rung_of_term]
    flat = sums.reshape(len(pieces), trials * rungs)[:, of]
    for k, piece in enumerate(pieces):
        dying = np.bincount(tied.rung_of_subject, (at.w * piece).ravel()[tied.subject], len(tied.rung))
        flat[k] -= tied.share * dying[tied.rung_of_term]
    more = _third(flat * (at.tied_hazard / tied.term_weight), at.tied_mean, covariance, tied.trial)
    return (total + np.stack([np.bincount(tied.trial, tied.term_weight * one, trials) for one in more])).T


def _third(moments: np.ndarray, mean: np.ndarray, covariance: np.ndarray, trial: np.ndarray) -> np.ndarray:
    """E[(x - m) (x - m)' V (x - m)] from the means of q, x q and x x' (1 + p + p², ...) at terms of the trials: (p, ...)."""
    p = len(mean)
    along = np.stack([sum(covariance[trial, j, k] * mean[k] for k in range(p)) for j in range(p)])
    second = moments[1 + p :].reshape(p, p, *mean.shape[1:])
    centre = sum(mean[k] * along[k] for k in range(p))
    third = [
        moments[1 + j]
        - mean[j] * moments[0]
        - 2 * sum(second[j, k] * along[k] for k in range(p))
        + 2 * mean[j] * centre
        for j in range(p)
    ]
    return np.stack(third)


def hill(prepared: Prepared, with_penalty: bool) -> Hill:
    """The likelihood to climb, plain or with Firth's penalty."""
    if with_penalty:
        return Hill(lambda b, free: penalised(prepared, b, free), True)
    return Hill(lambda b, free: evaluate(prepared, b))


def cautions_of(prepared: Prepared, few: int) -> np.ndarray:
    """Cautions of a fit from its events and what was left out (B,)."""
    died = prepared.sets.event.sum(-1)
    warnings = prepared.sets.warnings.ravel() | flag(died == 0, Caution.NO_EVENTS)
    return warnings | flag((died > 0) & (died < few), Caution.FEW_EVENTS)

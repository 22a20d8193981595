"""Subdistribution hazards: how covariates move the cumulative incidence of one cause, other causes present.

Fine and Gray's proportional model (1999, doi:10.1080/01621459.1999.10474144), in agreement with R's cmprsk::crr. People
who had another event first stay at risk with weight G(t-) / G(their time), G the Kaplan-Meier curve of censoring.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    two_sided,
)
from quell.analysis.competing import this_or_other
from quell.analysis.product_limit import before
from quell.analysis.risksets import RiskSets, risk_sets

# Newton needs about six steps where there is a maximum; the last of them is this small.
STEPS, CONVERGED = 50, 1e-10
# A linear predictor that spreads this far at a would-be maximum is on its way to infinity.
RUNAWAY = 18.0
# Numbers of trials x subjects x sums worked on at a time.
AT_A_TIME = 1 << 22


class FineGray(NamedTuple):
    """A subdistribution-hazards fit for each trial of a batch: coefficients are log ratios, (..., p).

    se and covariance are the robust ones that carry the estimation of censoring; `model_se` is from the information alone.
    `log_likelihood` (..., 2) is at zero and at the estimate.
    """

    coefficients: np.ndarray
    se: np.ndarray
    model_se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    statistic: np.ndarray
    p: np.ndarray
    covariance: np.ndarray
    log_likelihood: np.ndarray
    n: np.ndarray
    events: np.ndarray
    warnings: np.ndarray
    level: float

    def log_ratio(self, index: int = 0) -> Estimate:
        """The log subdistribution hazard ratio of one covariate, as an estimate."""
        fields = (self.coefficients, self.se, self.lower, self.upper, self.statistic)
        log, se, lower, upper, statistic = (field[..., index] for field in fields)
        df = np.full(np.shape(se), np.inf)
        return Estimate(log, se, lower, upper, statistic, df, self.p[..., index], self.n, self.warnings, self.level)

    def ratio(self, index: int = 0) -> Estimate:
        """The subdistribution hazard ratio of one covariate, as an estimate; se is that of the log ratio."""
        return exponentiate(self.log_ratio(index))


class Risks(NamedTuple):
    """What does not change while climbing, for B trials on M rungs of distinct times and C censoring groups.

    `uncensored` (B, C, M) is G just before each rung, `own_share` (B, n) G just before each subject's time; `died` (B, M)
    counts events of the cause; membership of censoring groups is (C, B, n).
    """

    sets: RiskSets
    x: np.ndarray
    own: np.ndarray
    other: np.ndarray
    censored: np.ndarray
    group: np.ndarray
    members: np.ndarray
    uncensored: np.ndarray
    own_share: np.ndarray
    died: np.ndarray


class Sums(NamedTuple):
    """Log-likelihood (B,), score (B, p), information (B, p, p), and weighted risk-set sums S0 (B, M) and means (B, M, p)."""

    log_likelihood: np.ndarray
    score: np.ndarray
    information: np.ndarray
    total: np.ndarray
    mean: np.ndarray


def fine_gray(
    time: np.ndarray,
    cause: np.ndarray,
    covariates: np.ndarray,
    *,
    of: int = 1,
    include: np.ndarray | None = None,
    censoring_group: np.ndarray | None = None,
    level: float = 0.95,
) -> FineGray:
    """Fine and Gray's regression of one cause's subdistribution hazard on covariates, as R's cmprsk::crr (Breslow ties).

    cause (..., n) is 0 where censored, else a code 1, 2, ...; covariates (..., n, p); censoring_group (..., n) whole codes
    among which G is estimated separately. Wald intervals and tests with crr's robust error. Where the likelihood has no
    maximum the estimate is where the climb stopped, with a caution. Raises ClaimError where shapes do not match.

    >>> time, cause = np.array([2.0, 3.0, 5.0, 8.0, 4.0, 6.0, 7.0, 8.0]), np.array([1, 2, 1, 0, 2, 1, 0, 0])
    >>> fit = fine_gray(time, cause, np.array([0, 0, 0, 0, 1, 1, 1, 1.0])[:, None])
    >>> round(float(fit.coefficients[0]), 4)
    -1.0333
    """
    batch, columns = _flattened(time, this_or_other(cause, of), covariates, include, censoring_group)
    trials, n, p = columns[2].shape
    size = max(1, AT_A_TIME // max(n * (p + 1) ** 2, 1))
    parts = [_fitted(*(one[k : k + size] for one in columns)) for k in range(0, max(trials, 1), size)]
    coefficients, covariance, information, likelihood, counted, events, warnings = (
        np.concatenate(fields).reshape((*batch, *fields[0].shape[1:])) for fields in zip(*parts, strict=True)
    )
    se, model_se = (_root(np.diagonal(one, axis1=-2, axis2=-1)) for one in (covariance, information))
    statistic = coefficients / se
    half = critical(level) * se
    limits = (coefficients - half, coefficients + half)
    # all events at one time: every influence is zero, and with it the robust error
    still = (np.isfinite(coefficients) & np.isnan(se)).any(-1) & (events > 0)
    warnings = warnings | flag(still, Caution.CONSTANT_OUTCOME)
    tested = (*limits, statistic, two_sided(statistic), covariance, likelihood, counted, events, warnings)
    return FineGray(coefficients, se, model_se, *tested, level)


def _root(variance: np.ndarray) -> np.ndarray:
    known = variance > 0
    return np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)


def _flattened(
    time: np.ndarray,
    kind: np.ndarray,
    covariates: np.ndarray,
    include: np.ndarray | None,
    group: np.ndarray | None,
) -> tuple[tuple[int, ...], list[np.ndarray]]:
    """The batch shape; and time, kind, covariates, include and censoring group with all trials on one axis."""
    covariates = np.asarray(covariates, float)
    given = [np.asarray(time, float), kind, np.asarray(True if include is None else include, bool)]
    given.append(np.asarray(0 if group is None else group, float))
    if covariates.ndim < 2 or covariates.shape[-2] != given[0].shape[-1]:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}, but time has {given[0].shape}; give covariates as (..., n, p): one "
            "row per subject and one column per covariate, also where there is only one."
        )
    try:
        shape = np.broadcast_shapes(*(one.shape for one in given), covariates.shape[:-1])
    except ValueError:
        shapes = ", ".join(str(one.shape) for one in (*given, covariates))
        raise ClaimError(
            f"Time, cause, include, censoring group and covariates have shapes {shapes}, which do not fit together; each "
            "needs the same trials and subjects."
        ) from None
    trials = int(np.prod(shape[:-1]))
    days, kinds, asked, groups = (np.broadcast_to(one, shape).reshape(trials, shape[-1]) for one in given)
    x = np.broadcast_to(covariates, (*shape, covariates.shape[-1])).reshape(trials, shape[-1], covariates.shape[-1])
    return shape[:-1], [days, kinds, x, asked, groups]


def _fitted(
    time: np.ndarray, kind: np.ndarray, x: np.ndarray, asked: np.ndarray, group: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Coefficients, robust and model covariance, log-likelihoods, n, events and doubts of some trials."""
    known = np.isfinite(x).all(-1) & np.isfinite(group)
    sets = risk_sets(np.where(known, time, np.nan), kind, include=asked, every_time=True)
    risks = _risks(sets, np.where(sets.kept[..., None], x, 0.0), np.where(sets.kept, kind, 0), group)
    at_zero, fit, slopes, converged = _climb(risks)
    inverse, flat = _inverse(fit.information)
    # no information at zero means repeated covariates; none only where the climb ends, that it had no end
    singular = _inverse(at_zero.information)[1]
    bread = np.where((singular | flat)[:, None, None], np.nan, inverse)
    influence = _influence(risks, slopes, fit)
    covariance = bread @ (np.swapaxes(influence, 1, 2) @ influence) @ bread
    n, events = sets.kept.sum(-1), risks.own.sum(-1)
    predictor = np.where(sets.kept, np.einsum("bnp,bp->bn", risks.x, slopes), 0.0)
    runaway = predictor.max(-1, initial=0.0) - predictor.min(-1, initial=0.0) > RUNAWAY
    warnings = sets.warnings | flag(n == 0, Caution.EMPTY_ARM) | flag((events == 0) & (n > 0), Caution.NO_EVENTS)
    warnings = warnings | flag((events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)
    warnings = (
        warnings | flag(singular, Caution.SINGULAR | Caution.NOT_ESTIMABLE) | flag(~converged, Caution.NOT_CONVERGED)
    )
    warnings = warnings | flag((runaway | flat) & ~singular, Caution.SEPARATION)
    coefficients = np.where(singular[:, None], np.nan, slopes)
    likelihood = np.stack([at_zero.log_likelihood, fit.log_likelihood], -1)
    return coefficients, covariance, bread, likelihood, n, events, warnings


def _risks(sets: RiskSets, x: np.ndarray, kind: np.ndarray, group: np.ndarray) -> Risks:
    own, other = sets.kept & (kind == 1), sets.kept & (kind == 2)
    censored = sets.kept & (kind == 0)
    size = np.maximum(sets.kept.sum(-1), 1)[:, None, None]
    x = np.where(sets.kept[..., None], x - x.sum(1, keepdims=True) / size, 0.0)
    codes = np.unique(group[np.isfinite(group)]) if group.size else np.zeros(1)
    members = np.stack([sets.kept & (group == code) for code in (codes if len(codes) else np.zeros(1))])
    curves = []
    for who in members:
        at_risk, leaving = sets.at_risk(who)[:, 0], sets.at_event(who, censored)[:, 0]
        curve = np.cumprod(np.where(at_risk > 0, 1 - leaving / np.where(at_risk > 0, at_risk, 1.0), 1.0), -1)
        # past the last follow-up of a group nothing tells of its censoring: nobody is thought to be left, as in crr
        curves.append(np.where(at_risk > 0, before(curve), 0.0))
    uncensored = np.stack(curves, 1)
    which = np.argmax(members, 0)
    share = np.ones(sets.kept.shape)
    if uncensored.size:
        trial = np.arange(len(share))[:, None]
        share = np.where(sets.kept, uncensored[trial, which, np.maximum(sets.last - 1, 0)], 1.0)
    died = sets.at_event(np.ones(1), own)[:, 0]
    return Risks(sets, x, own, other, censored, which, members, uncensored, share, died)


def _weighted(risks: Risks, value: np.ndarray) -> np.ndarray:
    """Sum of a value over the weighted risk set of each rung, (B, M): those at risk, and those who had another event."""
    total = risks.sets.at_risk(value)[:, 0]
    for c, who in enumerate(risks.members):
        total = total + risks.uncensored[:, c] * _had_another(risks, value, who)
    return total


def _had_another(risks: Risks, value: np.ndarray, who: np.ndarray) -> np.ndarray:
    """Running sum, before each rung, of value / G over the members who had another event: (B, M)."""
    step = risks.sets.at_event(value / risks.own_share, risks.other & who)[:, 0]
    return np.cumsum(step, -1) - step


def _evaluate(risks: Risks, slopes: np.ndarray) -> Sums:
    predictor = np.clip(np.einsum("bnp,bp->bn", risks.x, slopes), -500, 500)
    weight = np.where(risks.sets.kept, np.exp(predictor), 0.0)
    p = risks.x.shape[-1]
    total = _weighted(risks, weight)
    here = (risks.died > 0) & (total > 0)
    safe = np.where(here, total, 1.0)
    mean = [_weighted(risks, weight * risks.x[..., j]) / safe for j in range(p)]
    deaths = np.where(here, risks.died, 0)
    likelihood = np.where(risks.own, predictor, 0.0).sum(-1) - (deaths * np.log(safe)).sum(-1)
    score = np.where(risks.own[..., None], risks.x, 0.0).sum(1) - np.stack([(deaths * one).sum(-1) for one in mean], -1)
    information = np.zeros((len(total), p, p))
    for j in range(p):
        for k in range(j + 1):
            second = _weighted(risks, weight * risks.x[..., j] * risks.x[..., k]) / safe
            information[:, j, k] = information[:, k, j] = (deaths * (second - mean[j] * mean[k])).sum(-1)
    return Sums(likelihood, score, information, safe, np.stack(mean, -1))


def _inverse(information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of each information matrix, on unit diagonal so that units do not matter; and which have none."""
    size = np.einsum("bii->bi", information)
    known = size > 1e-14
    scale = np.sqrt(np.where(known, size, 1.0))
    unit = information / (scale[:, :, None] * scale[:, None, :])
    eye = np.eye(size.shape[-1])
    unit = np.where(known[:, :, None] & known[:, None, :], unit, eye)
    values, vectors = np.linalg.eigh(unit)
    singular = (values.min(-1, initial=1.0) < 1e-10) | ~known.all(-1)
    inverse = (vectors / np.maximum(values, 1e-10)[:, None, :]) @ np.swapaxes(vectors, 1, 2)
    return inverse / (scale[:, :, None] * scale[:, None, :]), singular


def _climb(risks: Risks) -> tuple[Sums, Sums, np.ndarray, np.ndarray]:
    """Newton's method from zero, each trial's step halved until its likelihood does not fall."""
    slopes = np.zeros((len(risks.x), risks.x.shape[-1]))
    at_zero = now = _evaluate(risks, slopes)
    done = np.zeros(len(slopes), bool)
    for _ in range(STEPS):
        step = np.einsum("bpq,bq->bp", _inverse(now.information)[0], now.score)
        moved = np.abs(np.einsum("bnp,bp->bn", risks.x, step)).max(-1, initial=0.0)
        step = np.where(done[:, None], 0.0, step / np.maximum(moved / 4, 1.0)[:, None])
        after = _evaluate(risks, slopes + step)
        for _ in range(20):
            worse = after.log_likelihood < now.log_likelihood - 1e-9 * np.abs(now.log_likelihood)
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
            after = _evaluate(risks, slopes + step)
        slopes, now, done = slopes + step, after, done | (moved < CONVERGED)
        if done.all():
            break
    return at_zero, now, slopes, done


def _influence(risks: Risks, slopes: np.ndarray, fit: Sums) -> np.ndarray:
    """Each subject's part of the score, and what its censoring adds through the estimate of G (crr's eta and psi): (B, n, p)."""
    sets, weight = risks.sets, np.exp(np.clip(np.einsum("bnp,bp->bn", risks.x, slopes), -500, 500))
    if not fit.total.size:
        return np.zeros(risks.x.shape)
    place = np.maximum(sets.last - 1, 0)
    hazard = risks.died / fit.total
    columns = []
    for j in range(risks.x.shape[-1]):
        x, mean = risks.x[..., j], fit.mean[..., j]
        at_own = np.take_along_axis(mean, place, -1)
        until = x * _until(hazard, place) - _until(hazard * mean, place)
        later, psi = np.zeros(x.shape), np.zeros(x.shape)
        for c, who in enumerate(risks.members):
            share = risks.uncensored[:, c]
            ahead, ahead_mean = _from(hazard * share), _from(hazard * share * mean)
            beyond = x * _after(ahead, place) - _after(ahead_mean, place)
            later = np.where(risks.other & who, beyond / risks.own_share, later)
            # crr (2.2-11) lets only a group's own events pull on the estimate of its censoring; with one group, all do
            pulling = sets.at_event(who, risks.own)[:, 0] / fit.total * share
            pull = _from(pulling) * _had_another(risks, weight * x, who)
            pull = pull - _from(pulling * mean) * _had_another(risks, weight, who)
            at_risk = np.maximum(sets.at_risk(who)[:, 0], 1.0)
            leaving = sets.at_event(who, risks.censored)[:, 0]
            own_pull = np.where(risks.censored, np.take_along_axis(pull / at_risk, place, -1), 0.0)
            psi = np.where(who, own_pull - _until(pull * leaving / at_risk**2, place), psi)
        eta = np.where(risks.own, x - at_own, 0.0) - weight * (until + later)
        columns.append(np.where(sets.kept, eta + psi, 0.0))
    return np.stack(columns, -1)


def _until(step: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Running sum of a step over the rungs up to and including each subject's own."""
    return np.take_along_axis(np.cumsum(step, -1), place, -1)


def _from(step: np.ndarray) -> np.ndarray:
    """Sum of a step over each rung and all that follow."""
    return np.cumsum(step[..., ::-1], -1)[..., ::-1]


def _after(ahead: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Sum over the rungs that follow each subject's own."""
    following = np.concatenate([ahead[..., 1:], np.zeros_like(ahead[..., :1])], -1)
    return np.take_along_axis(following, place, -1)

"""How often events happen: rates per person-time, and regressions of counts with the logarithm of exposure as offset.

Negative binomial (variance mu + mu² / theta; as R's MASS::glm.nb), or Poisson with errors from the model or robust ones
(HC0, as sandwich::sandwich; White 1980). log mu = log exposure + x'b.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import special

from quell.analysis.claim import (
    FEW_EVENTS,
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
)
from quell.analysis.codes import two_arms
from quell.analysis.cox import ratio_of_arms
from quell.analysis.partial_likelihood import independent, inverse

Model = Literal["negative binomial", "poisson"]
Errors = Literal["model", "robust"]

# Coefficients and dispersion take turns, so that rounds may be many.
ROUNDS = 200
STEP_ENOUGH = 1e-10
# A log rate this far from the average (in standardised units) is on its way to infinity.
DIVERGED = 15.0
# Beyond this theta the counts are Poisson's for every purpose.
LARGEST_THETA = 1e7


class CountFit(NamedTuple):
    """A regression of counts for each trial of a batch: intercept and log rate ratios, (..., 1 + p).

    theta is infinite, with a caution, where the counts vary no more than Poisson's; `theta_se` is glm.nb's SE.theta.
    """

    coefficients: np.ndarray
    se: np.ndarray
    covariance: np.ndarray
    theta: np.ndarray
    theta_se: np.ndarray
    log_likelihood: np.ndarray
    n: np.ndarray
    events: np.ndarray
    warnings: np.ndarray
    level: float

    def log_ratio(self, index: int = 0) -> Estimate:
        """The log rate ratio of one covariate (0 is the first after the intercept)."""
        place = index + 1
        return normal_estimate(self.coefficients[..., place], self.se[..., place], self.n, self.warnings, self.level)

    def ratio(self, index: int = 0) -> Estimate:
        """The rate ratio of one covariate; se is that of the log ratio."""
        return exponentiate(self.log_ratio(index))


class Counts(NamedTuple):
    """Flattened trials: counts and offsets (B, n), design (1 + p, B, n) with the intercept first, how many exceed k."""

    y: np.ndarray
    offset: np.ndarray
    x: np.ndarray
    kept: np.ndarray
    beyond: np.ndarray


class Solution(NamedTuple):
    """Where the climb ended: coefficients (B, 1 + p), theta (B,), means (B, n), and what the data determine."""

    b: np.ndarray
    theta: np.ndarray
    mu: np.ndarray
    free: np.ndarray
    converged: np.ndarray


def count_regression(
    count: np.ndarray,
    exposure: np.ndarray,
    covariates: np.ndarray,
    *,
    include: np.ndarray | None = None,
    model: Model = "negative binomial",
    errors: Errors = "model",
    level: float = 0.95,
) -> CountFit:
    """Maximum-likelihood regression of counts (..., n) over person-time `exposure` (..., n) on covariates (..., n, p).

    Model errors use the expected information, given theta, as glm.nb's summary does. Persons with a missing value or an
    exposure not above zero are left out with a caution. Raises ClaimError where shapes do not match, a count is negative or
    not whole, or for a model or errors there are not.

    >>> count, arm = np.array([0, 2, 1, 7, 0, 0, 1, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> fit = count_regression(count, np.full(8, 2.0), arm[:, None])
    >>> float(fit.ratio().estimate.round(3)), float(fit.theta.round(3))
    (0.4, 1.141)
    """
    if model not in ("negative binomial", "poisson"):
        raise ClaimError(f"The model is '{model}'; choose 'negative binomial' or 'poisson'.")
    if errors not in ("model", "robust"):
        raise ClaimError(f"Errors are '{errors}'; choose 'model' or 'robust'.")
    data, back, batch, missing = _counts(count, exposure, covariates, include)
    found = _climb(data, model)
    covariance = _covariance(data, found, errors)
    # from centred covariates in units of their spread back to their own
    b = np.einsum("bij,bj->bi", back, np.where(found.free, found.b, 0.0))
    covariance = back @ covariance @ np.swapaxes(back, -1, -2)
    variance = np.diagonal(covariance, axis1=-2, axis2=-1)
    known = found.free & (variance > 0)
    events = data.y.sum(-1)
    estimable = found.free.any(-1) & (events > 0)
    warnings = flag(missing, Caution.MISSING) | flag(events == 0, Caution.NO_EVENTS)
    warnings = warnings | flag(~estimable, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag((events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)
    warnings = warnings | flag(~found.free.all(-1) & estimable, Caution.SINGULAR)
    warnings = warnings | flag(~found.converged & estimable, Caution.NOT_CONVERGED)
    if model == "negative binomial":
        warnings = warnings | flag(np.isinf(found.theta) & estimable, Caution.NO_EXTRA_VARIATION)
    known = known & estimable[:, None]
    fields = (
        np.where(found.free & estimable[:, None], b, np.nan),
        np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan),
        covariance,
        found.theta,
        _theta_error(data, found),
        _height(data, found.mu, found.theta),
        data.kept.sum(-1),
        events.astype(int),
        warnings,
    )
    shaped: dict[str, Any] = {
        name: np.reshape(field, (*batch, *field.shape[1:]))
        for name, field in zip(CountFit._fields, fields, strict=False)
    }
    return CountFit(**shaped, level=level)


def count_ratio(
    count: np.ndarray,
    exposure: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    covariates: np.ndarray | None = None,
    include: np.ndarray | None = None,
    model: Model = "negative binomial",
    errors: Errors = "model",
    level: float = 0.95,
) -> Estimate:
    """Ratio of the event rates of two arms, active over control, from counts and person-time; se is that of the log ratio.

    Where one arm has no event the ratio is 0 or infinite with an unbounded interval and a caution. Arguments, and what is
    raised, are as in `count_regression`; arm (..., n).

    >>> count, arm = np.array([0, 2, 1, 7, 0, 0, 1, 3]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> ratio = count_ratio(count, np.full(8, 2.0), arm, model="poisson", errors="robust")
    >>> float(ratio.estimate.round(3)), float(ratio.se.round(3))
    (0.4, 0.815)
    """
    active, control = two_arms(contrast)
    count, exposure, arm = np.broadcast_arrays(np.asarray(count, float), np.asarray(exposure, float), np.asarray(arm))
    chosen = (arm == active) | (arm == control)
    chosen = chosen if include is None else chosen & (np.asarray(include) > 0)
    x = (arm == active)[..., None].astype(float)
    if covariates is not None:
        x = np.concatenate([x, np.broadcast_to(covariates, (*arm.shape, np.shape(covariates)[-1]))], -1)
    fitted = count_regression(count, exposure, x, include=chosen, model=model, errors=errors, level=level)
    used = chosen & np.isfinite(count) & np.isfinite(exposure) & (exposure > 0) & np.isfinite(x).all(-1)
    members = [used & (arm == code) for code in (control, active)]
    events = np.stack([np.sum(np.where(who, count, 0.0), -1) for who in members], -1)
    present = np.stack([who.any(-1) for who in members], -1)
    return ratio_of_arms(fitted.log_ratio(), events, present)


def event_rate(
    count: np.ndarray,
    exposure: np.ndarray,
    *,
    include: np.ndarray | None = None,
    errors: Literal["exact", "robust"] = "exact",
    level: float = 0.95,
) -> Estimate:
    """Events per unit of person-time, sum of counts over sum of exposure, with Garwood's exact (1936) or a robust interval.

    Exact takes the events as Poisson's; robust (log scale, se by the persons' residuals) lets a person's events go together.
    count, exposure and include (..., n). se is that of the rate. Raises ClaimError for errors there are not.

    >>> rate = event_rate(np.array([0, 2, 1, 7]), np.full(4, 2.0))
    >>> [round(float(value), 3) for value in (rate.estimate, rate.lower, rate.upper)]
    [1.25, 0.599, 2.299]
    """
    if errors not in ("exact", "robust"):
        raise ClaimError(f"Errors are '{errors}'; choose 'exact' or 'robust'.")
    count, exposure = np.broadcast_arrays(np.asarray(count, float), np.asarray(exposure, float))
    asked = np.ones(count.shape, bool) if include is None else np.asarray(include) > 0
    known = np.isfinite(count) & np.isfinite(exposure) & (exposure > 0)
    used = asked & known
    y, t = np.where(used, count, 0.0), np.where(used, exposure, 0.0)
    events, time = y.sum(-1), t.sum(-1)
    some = time > 0
    rate = np.where(some, events / np.where(some, time, 1.0), np.nan)
    safe = np.where(some, time, np.nan)
    if errors == "exact":
        lower = np.where(events > 0, special.gammaincinv(np.maximum(events, 1.0), (1 - level) / 2), 0.0) / safe
        upper = special.gammaincinv(events + 1, (1 + level) / 2) / safe
        se = np.sqrt(events) / safe
    else:
        se = np.sqrt(np.sum((y - np.nan_to_num(rate)[..., None] * t) ** 2, -1)) / safe
        positive = np.where(events > 0, rate, np.nan)
        factor = np.exp(critical(level) * se / positive)
        lower, upper = positive / factor, positive * factor
        se = np.where(events > 0, se, np.nan)
    none = np.full(np.shape(rate), np.nan)
    warnings = flag((asked & ~known).any(-1), Caution.MISSING) | flag(~some, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(some & (events == 0), Caution.NO_EVENTS)
    warnings = warnings | flag(some & (events > 0) & (events < FEW_EVENTS), Caution.FEW_EVENTS)
    return Estimate(rate, se, lower, upper, none, none, none, used.sum(-1), warnings, level)


def _counts(
    count: np.ndarray, exposure: np.ndarray, covariates: np.ndarray, include: np.ndarray | None
) -> tuple[Counts, np.ndarray, tuple[int, ...], np.ndarray]:
    """Flattened trials; the map from standardised coefficients to the covariates' own (B, 1+p, 1+p); who is missing."""
    count, exposure, covariates = (np.asarray(values, float) for values in (count, exposure, covariates))
    asked = np.asarray(True if include is None else np.asarray(include) > 0)
    if covariates.ndim < 2:
        raise ClaimError(
            f"Covariates have shape {covariates.shape}; give them as (..., n, p), also where there is only one."
        )
    try:
        shape = np.broadcast_shapes(count.shape, exposure.shape, asked.shape, covariates.shape[:-1])
    except ValueError:
        raise ClaimError(
            f"Counts, exposure, include and covariates have shapes {count.shape}, {exposure.shape}, {asked.shape} and "
            f"{covariates.shape}, which do not fit together; each needs the same trials and persons."
        ) from None
    p = covariates.shape[-1]
    count, exposure, asked = (
        np.broadcast_to(values, shape).reshape(-1, shape[-1]) for values in (count, exposure, asked)
    )
    covariates = np.broadcast_to(covariates, (*shape, p)).reshape(-1, shape[-1], p)
    known = np.isfinite(count) & np.isfinite(exposure) & (exposure > 0) & np.isfinite(covariates).all(-1)
    kept = asked & known
    y = np.where(kept, count, 0.0)
    if np.any(y < 0) or np.any(y != np.floor(y)):
        raise ClaimError("A count is negative or not whole; counts are numbers of events, 0, 1, 2, ...")
    size = np.maximum(kept.sum(-1), 1)[:, None]
    x = np.where(kept, np.moveaxis(covariates, -1, 0), 0.0)
    centre = x.sum(-1, keepdims=True) / size
    x = np.where(kept, x - centre, 0.0)
    spread = np.sqrt(np.sum(x**2, -1, keepdims=True) / size)
    unit = np.where(spread > 1e-12 * np.maximum(np.abs(centre), 1e-300), spread, 1.0)
    x = np.where(unit == spread, x / unit, 0.0)
    design = np.concatenate([kept[None].astype(float), x])
    back = np.zeros((len(y), 1 + p, 1 + p))
    back[:, 0, 0] = 1.0
    places = np.arange(1, 1 + p)
    back[:, places, places] = (1 / unit[..., 0]).T
    back[:, 0, 1:] = -(centre / unit)[..., 0].T
    beyond = np.stack([np.sum(y > k, -1) for k in range(int(y.max(initial=0)))] or [np.zeros(len(y))], -1)
    offset = np.log(np.where(kept, exposure, 1.0))
    return Counts(y, offset, design, kept, beyond), back, shape[:-1], (asked & ~known).any(-1)


def _means(data: Counts, b: np.ndarray) -> np.ndarray:
    risk = np.einsum("pbn,bp->bn", data.x, b) + data.offset
    return np.where(data.kept, np.exp(np.clip(risk, -300, 300)), 0.0)


def _information(data: Counts, weight: np.ndarray) -> np.ndarray:
    return np.einsum("pbn,bn,qbn->bpq", data.x, weight, data.x, optimize=True)


def _climb(data: Counts, model: str) -> Solution:
    """Coefficients by Fisher scoring at the current theta, and theta by Newton's method on its logarithm, in turn."""
    trials, width = len(data.y), len(data.x)
    events, time = data.y.sum(-1), np.sum(np.where(data.kept, np.exp(data.offset), 0.0), -1)
    free = independent(_information(data, data.kept.astype(float)))
    b = np.zeros((trials, width))
    b[:, 0] = np.where(events > 0, np.log(np.maximum(events, 1.0) / np.maximum(time, 1e-300)), 0.0)
    start = b.copy()
    theta = np.full(trials, np.inf)
    b, going = _score(data, b, theta, start, free & (events > 0)[:, None], ROUNDS)
    if model == "poisson":
        return Solution(b, theta, _means(data, b), free, ~going)
    mu = _means(data, b)
    # does the likelihood rise as theta comes down from infinity?
    excess = np.sum((data.y - mu) ** 2 - data.y, -1)
    spread = np.sum(mu**2, -1) / np.maximum(excess, 1e-300)
    varied = (excess > 0) & (events > 0)
    theta = np.where(varied, np.clip(spread, 1e-3, 1e5), np.inf)
    going = varied.copy()
    for _ in range(ROUNDS):
        theta, change = _next_theta(data, mu, theta, going)
        following, _ = _score(data, b, theta, start, free & going[:, None], 1)
        change = np.maximum(change, np.abs(following - b).max(-1, initial=0.0))
        b = following
        mu = _means(data, b)
        theta = np.where(theta > LARGEST_THETA, np.inf, theta)
        lost = (np.abs(b - start) > DIVERGED).any(-1)
        going = going & (change > STEP_ENOUGH) & np.isfinite(theta) & ~lost
        if not going.any():
            break
    lost = (np.abs(b - start) > DIVERGED).any(-1)
    return Solution(b, theta, mu, free, ~going & ~lost)


def _score(
    data: Counts, b: np.ndarray, theta: np.ndarray, start: np.ndarray, moving: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fisher scoring of the coefficients at a given theta; and which trials have not converged."""
    going = np.asarray(moving.any(-1))
    for _ in range(rounds):
        mu = _means(data, b)
        shrink = 1 + mu / theta[:, None]
        gradient = np.einsum("pbn,bn->bp", data.x, (data.y - mu) / shrink * data.kept)
        step = np.squeeze(inverse(_information(data, mu / shrink), moving) @ gradient[..., None], -1)
        step = np.clip(np.where(going[:, None], step, 0.0), -2.0, 2.0)
        b = b + step
        going = going & (np.abs(step) > STEP_ENOUGH).any(-1) & (np.abs(b - start) < DIVERGED).all(-1)
        if not going.any():
            break
    return b, going | (np.abs(b - start) >= DIVERGED).any(-1)


def _next_theta(data: Counts, mu: np.ndarray, theta: np.ndarray, going: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One Newton step of log theta at given means, no longer than 1; and its length, in errors of log theta where large.

    A theta that the data hardly determine has a flat likelihood, on which rounding alone makes steps.
    """
    safe = np.where(going, theta, 1.0)
    slope, information = _theta_slopes(data, mu, safe)
    bend = safe**2 * information - safe * slope
    # where the likelihood is not concave in log theta, go uphill by the largest step
    step = np.where(bend > 0, safe * slope / np.where(bend > 0, bend, 1.0), np.sign(slope))
    step = np.where(going, np.clip(step, -1.0, 1.0), 0.0)
    return np.where(going, safe * np.exp(step), theta), np.abs(step) * np.where(
        bend > 0, np.sqrt(np.clip(bend, 0.0, 1.0)), 1.0
    )


def _theta_slopes(data: Counts, mu: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of the log likelihood in theta, and minus the second (the information of MASS::theta.ml)."""
    ladder = theta[:, None] + np.arange(data.beyond.shape[-1])
    both = theta[:, None] + mu
    slope = np.sum(data.beyond / ladder, -1)
    slope = slope - np.sum(np.where(data.kept, np.log1p(mu / theta[:, None]) + (data.y - mu) / both, 0.0), -1)
    bend = np.sum(data.beyond / ladder**2, -1)
    parts = -1 / theta[:, None] + 2 / both - (data.y + theta[:, None]) / both**2
    return slope, bend + np.sum(np.where(data.kept, parts, 0.0), -1)


def _theta_error(data: Counts, found: Solution) -> np.ndarray:
    finite = np.isfinite(found.theta)
    _, information = _theta_slopes(data, found.mu, np.where(finite, found.theta, 1.0))
    known = finite & (information > 0)
    return np.where(known, 1 / np.sqrt(np.where(known, information, 1.0)), np.nan)


def _covariance(data: Counts, found: Solution, errors: str) -> np.ndarray:
    shrink = 1 + found.mu / found.theta[:, None]
    bread = inverse(_information(data, found.mu / shrink), found.free)
    if errors == "model":
        return bread
    residual = np.where(data.kept, (data.y - found.mu) / shrink, 0.0)
    return bread @ _information(data, residual**2) @ bread


def _height(data: Counts, mu: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The log likelihood, with its constants."""
    finite = np.isfinite(theta)
    safe = np.where(finite, theta, 1.0)[:, None]
    positive = np.where(mu > 0, mu, 1.0)
    shared = data.y * np.log(positive) - special.gammaln(data.y + 1)
    poisson = np.sum(np.where(data.kept, shared - mu, 0.0), -1)
    ladder = np.sum(data.beyond * np.log(safe + np.arange(data.beyond.shape[-1])), -1)
    parts = shared - safe * np.log1p(mu / safe) - data.y * np.log(safe + mu)
    return np.where(finite, ladder + np.sum(np.where(data.kept, parts, 0.0), -1), poisson)

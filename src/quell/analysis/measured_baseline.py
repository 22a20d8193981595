"""A baseline measured with error: why change goes against it, and what is left when the error is taken out.

Within one arm, whoever is high by chance at baseline comes back towards the mean: the slope of change on baseline is
negative even if nothing happens to anybody (regression to the mean). With x = true + error, var(error) known (from
repeat scans, say) and k = var(error) / var(x), the observed slope b of change on baseline and the true one beta obey

    b = beta (1 - k) - k,    beta = (b + k) / (1 - k)        (Blomqvist 1977).

Between randomised arms -k cancels, and the difference of slopes is only attenuated, by 1 - k.
"""

from __future__ import annotations

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, critical, flag, normal_estimate, two_sided
from quell.analysis.linear_model import subjects
from quell.analysis.means import change, slope

# More noise than signal in the baseline: corrected slopes are then mostly guesswork.
MOSTLY_NOISE = 0.5


def corrected_slope(
    outcome: np.ndarray,
    baseline: np.ndarray,
    error_variance: np.ndarray | float,
    *,
    error_df: float = np.inf,
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Slope of true change on true baseline within one arm, freed of regression to the mean (Blomqvist 1977).

    (b + k) / (1 - k) with b the slope of outcome - baseline on baseline. se by the delta method for normal values:
    var = [var(b) + (1 + beta)² var(k)] / (1 - k)², var(k) = k² (2 / (n - 1) + 2 / error_df). error_variance is that of
    one baseline measurement ((...) or a number), known, or estimated on `error_df` degrees of freedom. outcome and
    baseline (..., n). Where the error is at least the whole spread nothing is determined, and a caution says so.

    >>> baseline = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    >>> result = corrected_slope(0.8 * baseline + np.array([0.1, -0.2, 0.1, 0.1, -0.2, 0.1]), baseline, 0.5)
    >>> round(float(result.estimate), 4)
    -0.0667
    """
    observed = slope(change(outcome, baseline), baseline, include=include, level=level)
    k, noise = _noise_share(outcome, baseline, error_variance, include)
    room = np.where(noise, np.nan, 1 - k)
    estimate = (observed.estimate + k) / room
    spread = k**2 * (2 / np.maximum(observed.n - 1, 1) + 2 / error_df)
    variance = (observed.se**2 + (1 + estimate) ** 2 * spread) / room**2
    return _doubted(normal_estimate(estimate, np.sqrt(variance), observed.n, observed.warnings, level), k, noise)


def corrected_slope_difference(
    difference: Estimate, baseline: np.ndarray, error_variance: np.ndarray | float, *, include: np.ndarray | None = None
) -> Estimate:
    """A difference of slopes between arms, with its attenuation by the baseline's error taken out: / (1 - k).

    difference: `arm_model(...).slope_difference()` on that baseline alone (other covariates change k). Estimate, limits
    and se are divided alike, so the test stays what it was; k is taken as known.

    >>> observed = normal_estimate(-0.2, 0.1, 40, 0, 0.95)
    >>> baseline = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> float(corrected_slope_difference(observed, baseline, 0.5).estimate)
    -0.25
    """
    k, noise = _noise_share(baseline, baseline, error_variance, include)
    room = np.where(noise, np.nan, 1 - k)
    fields = {name: getattr(difference, name) / room for name in ("estimate", "lower", "upper", "se")}
    return _doubted(difference._replace(**fields), k, noise)


def oldham(
    outcome: np.ndarray, baseline: np.ndarray, *, include: np.ndarray | None = None, level: float = 0.95
) -> Estimate:
    """Oldham's correlation of change with the mean of outcome and baseline (1962): is there more change where high?

    Free of regression to the mean if both are measured with the same error; it is then zero exactly when the spread does
    not change (the same test as Pitman and Morgan's). Student's t on n - 2 degrees of freedom, Fisher's z interval; se is
    that of z, 1 / sqrt(n - 3). outcome and baseline (..., n).

    >>> result = oldham(np.array([2.0, 2.4, 3.5, 3.1]), np.array([1.0, 2.5, 3.0, 4.5]))
    >>> round(float(result.estimate), 4), round(float(result.p), 4)
    (-0.7844, 0.2156)
    """
    change_, mean = np.asarray(outcome, float) - np.asarray(baseline, float), _midpoint(outcome, baseline)
    people = subjects(change_, np.zeros(np.shape(change_), int), mean[..., np.newaxis], (), include)
    n = people.include.sum(-1)
    x = people.covariates[0]
    y = np.where(people.include, people.outcome - (people.outcome.sum(-1) / np.maximum(n, 1))[..., np.newaxis], 0.0)
    size = np.sqrt(np.vecdot(x, x)) * np.sqrt(np.vecdot(y, y))
    good = (size > 0) & (n > 2)
    r = np.where(good, np.clip(np.vecdot(x, y) / np.where(good, size, 1.0), -1.0, 1.0), np.nan)
    df = np.where(good, n - 2.0, np.nan)
    statistic = r * np.sqrt(df / np.maximum(1 - r**2, 1e-300))
    known = good & (n > 3) & (np.abs(r) < 1 - 1e-15)
    se = np.where(known, 1 / np.sqrt(np.maximum(n - 3, 1)), np.nan)
    z = np.arctanh(np.where(known, r, 0.0))
    half = critical(level) * se
    warnings = people.warnings & ~int(Caution.SINGULAR)
    warnings = warnings | flag(n < 4, Caution.TOO_FEW) | flag((size == 0) & (n > 3), Caution.CONSTANT_OUTCOME)
    warnings = warnings | flag(good & ~known & (n > 3), Caution.AT_BOUNDARY)
    return Estimate(
        r, se, np.tanh(z - half), np.tanh(z + half), statistic, df, two_sided(statistic, df), n, warnings, level
    )


def _midpoint(outcome: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    return (np.asarray(outcome, float) + np.asarray(baseline, float)) / 2


def _noise_share(
    outcome: np.ndarray, baseline: np.ndarray, error_variance: np.ndarray | float, include: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """k = error variance over the variance of the baseline in the analysis, and whether it leaves nothing."""
    if np.any(np.asarray(error_variance) < 0) or not np.all(np.isfinite(error_variance)):
        raise ClaimError("The error variance is the square of a standard deviation; it cannot be negative or missing.")
    people = subjects(
        outcome, np.zeros(np.shape(outcome), int), np.asarray(baseline, float)[..., np.newaxis], (), include
    )
    n = people.include.sum(-1)
    x = people.covariates[0]
    spread = np.vecdot(x, x) / np.maximum(n - 1, 1)
    k = np.where(spread > error_variance, error_variance / np.where(spread > 0, spread, 1.0), 1.0)
    return np.minimum(k, 1.0), k >= 1


def _doubted(estimate: Estimate, k: np.ndarray, noise: np.ndarray) -> Estimate:
    warnings = estimate.warnings | flag(k > MOSTLY_NOISE, Caution.NOISY_BASELINE) | flag(noise, Caution.NOT_ESTIMABLE)
    return estimate._replace(warnings=warnings)

"""What is done about an intercurrent event: the strategies of ICH E9(R1), each as a change of the data.

Every function takes an outcome (..., n, visits), NaN where missing, and `affected` (..., n): the index of the first
visit after the intercurrent event (0 is the first visit; NaN, or the number of visits and more, is never). It gives an
outcome of the same shape, in which the variable of the estimand stands; what is still missing then is a separate
question, for `missing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, flag, normal_estimate
from quell.outcomes import carried

# share x n is a whole number up to rounding when the share is a count over n
SLACK = 1e-9


def after_event(outcome: np.ndarray, affected: np.ndarray | None) -> np.ndarray:
    """Which values (..., n, visits) come after the event.

    >>> after_event(np.zeros((2, 3)), np.array([1, np.nan])).tolist()
    [[False, True, True], [False, False, False]]
    """
    outcome = np.asarray(outcome, float)
    return np.arange(outcome.shape[-1]) >= first_visit_affected(outcome, affected)[..., None]


def first_visit_affected(outcome: np.ndarray, affected: np.ndarray | None) -> np.ndarray:
    """`affected` as whole numbers (..., n), the number of visits where there is no event.

    Raises ClaimError where it is negative, not whole, or of another shape than the subjects.

    >>> first_visit_affected(np.zeros((3, 4)), np.array([2, np.nan, 9])).tolist()
    [2, 4, 4]
    """
    outcome = np.asarray(outcome, float)
    if outcome.ndim < 2:
        raise ClaimError(
            f"The outcome has shape {outcome.shape}; give it as (..., n, visits): one row per subject and one column "
            "per visit, also where there is only one visit."
        )
    visits = outcome.shape[-1]
    if affected is None:
        return np.full(outcome.shape[:-1], visits)
    values = np.asarray(affected, float)
    values = np.where(np.isnan(values), np.inf, values)
    if (values < 0).any() or (np.isfinite(values) & (values != np.floor(values))).any():
        raise ClaimError(
            "The first visit affected by the event is a whole number: 0 for the first visit, 1 for the second, ...; "
            "NaN (or the number of visits) where there was no event."
        )
    try:
        return np.broadcast_to(np.minimum(values, visits).astype(int), outcome.shape[:-1])
    except ValueError:
        raise ClaimError(
            f"The first visit affected has shape {values.shape}, but there are subjects {outcome.shape[:-1]}; give one "
            "number per subject."
        ) from None


def treatment_policy(outcome: np.ndarray, affected: np.ndarray) -> np.ndarray:
    """The outcome whatever happened: values after the event are used as they were observed.

    Estimates the effect of being given the treatment, with the event as part of what follows from it.

    >>> treatment_policy(np.array([[1.0, 2.0, 3.0]]), np.array([1])).tolist()
    [[1.0, 2.0, 3.0]]
    """
    first_visit_affected(outcome, affected)
    return np.array(outcome, float)


def hypothetical(outcome: np.ndarray, affected: np.ndarray) -> np.ndarray:
    """The outcome had the event not happened: values after it are set missing, to be imputed at random.

    Estimates the effect in a world without the event; the imputation (missing at random, or another assumption that is
    named) is what describes that world, and the data cannot check it.

    >>> hypothetical(np.array([[1.0, 2.0, 3.0]]), np.array([1])).tolist()
    [[1.0, nan, nan]]
    """
    return np.where(after_event(outcome, affected), np.nan, outcome)


def composite_worst(outcome: np.ndarray, affected: np.ndarray, worst: np.ndarray | float) -> np.ndarray:
    """The event is a bad outcome: every value after it is the worst value, given by the user on the outcome's scale.

    Estimates the effect on a variable that counts the event as that bad. `worst` is a number, or broadcasts to the
    outcome. The mean depends on the value chosen; `composite_trimmed` asks only that the event is worse than any value.

    >>> composite_worst(np.array([[1.0, 2.0, np.nan]]), np.array([2]), 10.0).tolist()
    [[1.0, 2.0, 10.0]]
    """
    return np.where(after_event(outcome, affected), worst, outcome)


def composite_failure(responded: np.ndarray, affected: np.ndarray) -> np.ndarray:
    """The event is failure: a responder (1, 0, NaN unknown) shaped (..., n, visits) counts as 0 after it.

    Estimates the effect on the chance to respond without the event.

    >>> composite_failure(np.array([[1.0, 1.0, np.nan]]), np.array([1])).tolist()
    [[1.0, 0.0, 0.0]]
    """
    return np.where(after_event(responded, affected), 0.0, responded)


def while_on_treatment(outcome: np.ndarray, affected: np.ndarray, *, baseline: np.ndarray | None = None) -> np.ndarray:
    """The outcome as long as the event had not happened: the last value observed before it stands for all later visits.

    Estimates the effect up to the event. A subject without a value before it gets `baseline` (..., n) where that is
    given, and stays missing otherwise.

    >>> while_on_treatment(np.array([[1.0, np.nan, 3.0, 4.0]]), np.array([2])).tolist()
    [[1.0, nan, 1.0, 1.0]]
    """
    after = after_event(outcome, affected)
    outcome = np.asarray(outcome, float)
    return carried(outcome, after, np.nan if baseline is None else baseline)


# The names are those of `quell.questions.IntercurrentEvent.strategy`; composite has more than one form.
STRATEGIES: dict[str, Callable[..., np.ndarray]] = {
    "treatment policy": treatment_policy,
    "hypothetical": hypothetical,
    "composite": composite_worst,
    "while on treatment": while_on_treatment,
}


def strategy(name: str) -> Callable[..., np.ndarray]:
    """The function of a strategy by its name in ICH E9(R1).

    Raises ClaimError for a principal stratum, which is a set of people and no change of the data, and for other names.

    >>> strategy("hypothetical").__name__
    'hypothetical'
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name == "principal stratum":
        raise ClaimError(
            "A principal stratum is the set of people who would (or would not) have the event under each arm; who they "
            "are is not observed, so no change of the data gives it. Choose another strategy, or model the stratum."
        )
    raise ClaimError(f"The strategy is '{name}'; choose {', '.join(map(repr, STRATEGIES))} or 'principal stratum'.")


class Trimmed(NamedTuple):
    """A difference of trimmed means, and the share of patients that was trimmed from each arm, shaped (...)."""

    difference: Estimate
    share: np.ndarray


def composite_trimmed(
    outcome: np.ndarray,
    failed: np.ndarray,
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    share: np.ndarray | float | None = None,
    better: str = "lower",
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Trimmed:
    """The event is worse than any outcome: the same share of the worst is trimmed from both arms, and means compared.

    Permutt and Li (2017, doi:10.1002/pst.1768). `failed` (..., n) (the event, or no value) rank below every outcome. In
    each arm the floor(share n) worst are left out; share defaults to the least that trims all failures of both arms
    (then adaptive, and said so by `share`). Variance from Winsorised squares, Welch's df (Yuen 1974,
    doi:10.1093/biomet/61.1.165), for trimming at one end: se² = sum of SSW / (h (h - 1)), df from h - 1.

    outcome, failed and arm (..., n), the outcome at one visit; better is "lower" or "higher". Raises ClaimError for any
    other. Where an arm has more failures than are trimmed there is no estimate.

    >>> outcome = np.array([1.0, 2.0, 3.0, 4.0, np.nan, 2.0, 4.0, 5.0, 6.0, 9.0])
    >>> result = composite_trimmed(outcome, np.isnan(outcome), np.repeat([1, 0], 5))
    >>> round(float(result.difference.estimate), 3), float(result.share)
    (-1.75, 0.2)
    """
    if better not in ("lower", "higher"):
        raise ClaimError(f"Better is '{better}'; say 'lower' or 'higher'.")
    sign = 1.0 if better == "lower" else -1.0
    outcome, failed, arm = np.broadcast_arrays(np.asarray(outcome, float), np.asarray(failed, bool), np.asarray(arm))
    asked = np.isfinite(arm) if include is None else np.isfinite(arm) & np.asarray(include, bool)
    failed = failed | ~np.isfinite(outcome)
    score = np.where(failed, np.inf, sign * np.where(failed, 0.0, outcome))
    members = [asked & (arm == code) for code in contrast]
    losses = [(who & failed).sum(-1) / np.maximum(who.sum(-1), 1) for who in members]
    share = np.maximum(*losses) if share is None else np.broadcast_to(np.asarray(share, float), losses[0].shape)
    active, control = (_trimmed_mean(score, who, share) for who in members)
    n = sum(who.sum(-1) for who in members)
    return Trimmed(_difference(active, control, sign, np.asarray(n), level), share)


class _Kept(NamedTuple):
    """What trimming leaves of one arm: its mean, how many, and the variance of the mean (from Winsorised squares)."""

    mean: np.ndarray
    size: np.ndarray
    variance: np.ndarray


def _trimmed_mean(score: np.ndarray, who: np.ndarray, share: np.ndarray) -> _Kept:
    """Mean of the lowest n - floor(share n) scores of one arm; infinite where a failure is among them."""
    n = who.sum(-1)
    kept = n - np.floor(np.clip(share, 0, 1) * n + SLACK).astype(int)
    ordered = np.sort(np.where(who, score, np.inf), -1)
    rank = np.arange(score.shape[-1])
    inside = rank < kept[..., None]
    lost = (inside & ~np.isfinite(ordered)).any(-1) | (kept == 0)
    ordered = np.where(inside & ~lost[..., None], ordered, 0.0)
    edge = np.take_along_axis(ordered, np.maximum(kept - 1, 0)[..., None], -1)
    winsorised = np.where(inside, ordered, np.where(rank < n[..., None], edge, 0.0))
    middle = winsorised.sum(-1) / np.maximum(n, 1)
    squares = np.sum(np.where(rank < n[..., None], winsorised - middle[..., None], 0.0) ** 2, -1)
    mean = np.where(lost, np.nan, ordered.sum(-1) / np.maximum(kept, 1))
    return _Kept(mean, kept, squares / np.maximum(kept * (kept - 1), 1))


def _difference(active: _Kept, control: _Kept, sign: float, n: np.ndarray, level: float) -> Estimate:
    """Welch's comparison of two trimmed means, on the outcome's own scale."""
    difference = sign * (active.mean - control.mean)
    variance = active.variance + control.variance
    unknown, few = np.isnan(difference), np.minimum(active.size, control.size) < 2
    constant = ~unknown & ~few & (variance <= 0)
    bad = unknown | few | constant
    variance = np.where(bad, 1.0, variance)
    spread = [arm.variance**2 / np.maximum(arm.size - 1, 1) for arm in (active, control)]
    df = np.where(bad, np.nan, variance**2 / np.where(bad, 1.0, spread[0] + spread[1]))
    warnings = flag(n == 0, Caution.EMPTY_ARM) | flag(unknown, Caution.NOT_ESTIMABLE)
    warnings = warnings | flag(few & ~unknown, Caution.TOO_FEW) | flag(constant, Caution.CONSTANT_OUTCOME)
    return normal_estimate(difference, np.where(bad, np.nan, np.sqrt(variance)), n, warnings, level, df)

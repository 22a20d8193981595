"""What may be claimed: an estimate with its error, its interval, its n and its doubts.

Kernels in this room take arrays shaped (..., n), where ... is any batch of trials, and return an `Estimate` of arrays
shaped (...). One study is a batch of none: `claim_from` makes its `Claim`, which prints as one sentence.
"""

from __future__ import annotations

import difflib
import enum
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import special


class ClaimError(ValueError):
    """A claim that cannot be made; the message says what is missing and what to do."""


class Caution(enum.IntFlag):
    """Why an estimate deserves doubt, as one bit each, so that a batch of trials can carry its doubts in an array."""

    EMPTY_ARM = 1
    NO_EVENTS = 2
    ARM_WITHOUT_EVENTS = 4
    FEW_EVENTS = 8
    SEPARATION = 16
    FIRTH = 32
    CONSTANT_OUTCOME = 64
    SINGULAR = 128
    NOT_ESTIMABLE = 256
    TOO_FEW = 512
    NOT_CONVERGED = 1024
    BEYOND_FOLLOW_UP = 2048
    NOT_REACHED = 4096
    MISSING = 8192
    NOT_POSITIVE = 16384
    # repeated measures
    SIMPLER_COVARIANCE = 1 << 15
    AT_BOUNDARY = 1 << 16
    # survival and competing risks
    NON_PROPORTIONAL = 1 << 19
    # recurrent events
    FEW_CLUSTERS = 1 << 23
    SAME_DAY = 1 << 24
    NO_EXTRA_VARIATION = 1 << 25
    # means, responders and agreement
    DIVIDED = 1 << 31
    FEW_SITES = 1 << 32
    LONE_STRATUM = 1 << 33
    NOISY_BASELINE = 1 << 34
    # win ratio
    UNDECIDED_MISSING = 1 << 27
    ONE_SIDED = 1 << 28
    # Bayesian readings and borrowing
    PRIOR_CONFLICT = 1 << 29
    FEW_STUDIES = 1 << 30
    # imputation
    ASSUMED_UNSEEN = 1 << 35
    FEW_IMPUTATIONS = 1 << 36
    NOTHING_TO_TIP = 1 << 37


SENTENCES: dict[Caution, str] = {
    Caution.EMPTY_ARM: "An arm of this comparison has no patient in the analysis.",
    Caution.NO_EVENTS: "No event was observed: the data cannot tell the arms apart.",
    Caution.ARM_WITHOUT_EVENTS: "An arm has no event: large-sample intervals are unreliable; read the exact ones.",
    Caution.FEW_EVENTS: "Fewer than 10 events: large-sample intervals are unreliable.",
    Caution.SEPARATION: "The maximum-likelihood hazard ratio does not exist: the likelihood rises without end.",
    Caution.FIRTH: "Firth's penalised likelihood with a profile-likelihood interval was used instead.",
    Caution.CONSTANT_OUTCOME: "The outcome does not vary within the model: its error cannot be estimated.",
    Caution.SINGULAR: "A covariate or factor level repeats others (or is empty) and was dropped from the model.",
    Caution.NOT_ESTIMABLE: "The data do not determine this quantity: it is confounded with the adjustment, or unobserved.",
    Caution.TOO_FEW: "Too few patients: no degrees of freedom are left to estimate the error.",
    Caution.NOT_CONVERGED: "The fit did not converge: do not use this estimate.",
    Caution.BEYOND_FOLLOW_UP: "The day asked for lies beyond the last follow-up of an arm: its curve is carried forward.",
    Caution.NOT_REACHED: "The curve or its limit does not reach the level asked for.",
    Caution.MISSING: "Patients with a missing value were left out of this analysis.",
    Caution.NOT_POSITIVE: "Values of zero or less have no logarithm: their patients were left out.",
    Caution.SIMPLER_COVARIANCE: "The covariance asked for could not be fitted; the simpler one named in the method was used.",
    Caution.AT_BOUNDARY: "A variance or correlation is estimated at the edge of what is possible: its error is understated.",
    Caution.NON_PROPORTIONAL: "The hazards do not look proportional (p < 0.05): one ratio does not describe the whole follow-up.",
    Caution.FEW_CLUSTERS: "Fewer than 20 people carry the robust error: it is likely too small.",
    Caution.SAME_DAY: "Several events of one person on one day were taken as one where days are modelled.",
    Caution.NO_EXTRA_VARIATION: "The counts vary no more than chance alone would have it: Poisson's model was used instead.",
    Caution.DIVIDED: "The covariates divide those with the event from those without: the maximum-likelihood odds ratio does not exist.",
    Caution.FEW_SITES: "Fewer than 20 clusters carry the cluster-robust error: it is likely too small.",
    Caution.LONE_STRATUM: "A stratum holds patients of one arm only: it does not inform the comparison.",
    Caution.NOISY_BASELINE: "The stated measurement error leaves little or no true spread of the baseline: slopes on it are not determined.",
    Caution.UNDECIDED_MISSING: "Values were missing: their pairs were left undecided at that priority and compared at the next.",
    Caution.ONE_SIDED: "An arm won no pair: the win ratio has no error; read the net benefit or the Finkelstein-Schoenfeld test.",
    Caution.PRIOR_CONFLICT: "The data are surprising under the prior (predictive p < 0.05): report both, not only their average.",
    Caution.FEW_STUDIES: "Fewer than five earlier studies: how much they differ comes mostly from its prior.",
    Caution.ASSUMED_UNSEEN: "Values never observed were imputed under the stated assumption, which the data cannot check.",
    Caution.FEW_IMPUTATIONS: "Too few imputations: their random error exceeds a tenth of the standard error.",
    Caution.NOTHING_TO_TIP: "The result is not significant to begin with: no change of the missing values can tip it.",
}

# Fewer events, or clusters, than these draw a caution.
FEW_EVENTS, FEW_CLUSTERS = 10, 20


def cautions(code: int) -> tuple[str, ...]:
    """The sentences behind a caution code, in a fixed order.

    >>> cautions(Caution.FEW_EVENTS)
    ('Fewer than 10 events: large-sample intervals are unreliable.',)
    """
    return tuple(sentence for flag, sentence in SENTENCES.items() if int(code) & flag)


def flag(condition: Any, caution: Caution) -> np.ndarray:
    """The caution's bit wherever the condition holds, shape of the condition."""
    return np.where(condition, int(caution), 0)


class Estimate(NamedTuple):
    """An estimate for each trial of a batch; every field but level is shaped (...) like the batch."""

    estimate: np.ndarray
    se: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    statistic: np.ndarray
    df: np.ndarray
    p: np.ndarray
    n: np.ndarray
    warnings: np.ndarray
    level: float = 0.95

    def row(self, index: Any) -> Estimate:
        """The estimate of one trial (or of one slice of trials)."""
        return self._replace(**{name: np.asarray(getattr(self, name))[index] for name in self._fields[:-1]})


def critical(level: float, df: Any = np.inf) -> np.ndarray:
    """Two-sided critical value: Student's t quantile at (1 + level) / 2, normal where df is infinite.

    >>> round(float(critical(0.95)), 4), round(float(critical(0.95, 10)), 4)
    (1.96, 2.2281)
    """
    if not 0 < level < 1:
        raise ClaimError(f"The confidence level is {level}; it must lie between 0 and 1, for example 0.95.")
    df = np.asarray(df, float)
    if df.size > 1 and (df == df.flat[0]).all():  # most batches share one: the quantile is slow, and needed once
        return np.full(df.shape, critical(level, df.flat[0]))
    student = special.stdtrit(np.where(np.isfinite(df) & (df > 0), df, 1.0), (1 + level) / 2)
    return np.where(df > 0, np.where(np.isinf(df), special.ndtri((1 + level) / 2), student), np.nan)


def two_sided(statistic: Any, df: Any = np.inf) -> np.ndarray:
    """Two-sided p of a t statistic (normal where df is infinite), exact in the far tail.

    >>> round(float(two_sided(1.96)), 4)
    0.05
    """
    statistic, df = np.asarray(statistic, float), np.asarray(df, float)
    student = special.stdtr(np.where(np.isfinite(df) & (df > 0), df, 1.0), -np.abs(statistic))
    return np.where(df > 0, 2 * np.where(np.isinf(df), special.ndtr(-np.abs(statistic)), student), np.nan)


def stack(estimates: Sequence[Estimate]) -> Estimate:
    """Several estimates of one batch (for example one per arm) side by side, on a new last axis."""
    fields: dict[str, Any] = {
        name: np.stack([np.asarray(getattr(one, name)) for one in estimates], -1) for name in Estimate._fields[:-1]
    }
    return estimates[0]._replace(**fields)


def without_a_size(statistic: Any, df: Any, p: Any, n: Any, warnings: Any, level: float) -> Estimate:
    """A test as an estimate that has no size, error or interval."""
    none = np.full(np.shape(p), np.nan)
    return Estimate(none, none, none, none, statistic, df, p, n, warnings, level)


def normal_estimate(estimate: Any, se: Any, n: Any, warnings: Any, level: float, df: Any = np.inf) -> Estimate:
    """Estimate ± critical value x se, with its t (df given) or z test against zero; NaN se gives NaN interval."""
    estimate, se, df = np.broadcast_arrays(np.asarray(estimate, float), np.asarray(se, float), np.asarray(df, float))
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = estimate / se
    half = critical(level, df) * se
    p = two_sided(statistic, df)
    n, warnings = (np.broadcast_to(np.asarray(value), estimate.shape) for value in (n, warnings))
    return Estimate(estimate, se, estimate - half, estimate + half, statistic, df, p, n, warnings, level)


def exponentiate(log_scale: Estimate) -> Estimate:
    """The same estimate on the ratio scale: estimate and limits exponentiated; se stays that of the log ratio."""
    with np.errstate(over="ignore"):
        values = {name: np.exp(getattr(log_scale, name)) for name in ("estimate", "lower", "upper")}
    return log_scale._replace(**values)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One estimate as it may be said aloud; it cannot be made without an n and an error.

    `estimate`, `lower` and `upper` are in `unit`; on a ratio scale (`scale` ending in "ratio" or "odds") no effect is 1 and `se`
    is that of the logarithm. A pure test has no estimate but a statistic, a p and an n. What could not be estimated is
    None, and then `warnings` says why. `adjusted_p` is the p of an analysis that is tested together with others.

    >>> print(Claim(name="index vessel TBRmax", method="ANCOVA", estimate=-0.17, se=0.07, lower=-0.31, upper=-0.03,
    ...             p=0.0152, n=60, arms=("aldesleukin", "placebo")))
    aldesleukin minus placebo = -0.17 (-0.31 to -0.03), p = 0.015, n = 60
    """

    name: str
    method: str
    n: int
    estimand: str = ""
    estimate: float | None = None
    se: float | None = None
    lower: float | None = None
    upper: float | None = None
    level: float = 0.95
    statistic: float | None = None
    df: float | None = None
    p: float | None = None
    unit: str = ""
    warnings: tuple[str, ...] = ()
    role: str = ""
    scale: str = "difference"
    arms: tuple[str, str] | None = None
    counts: tuple[tuple[str, float], ...] = ()
    adjusted_p: float | None = None

    def __post_init__(self) -> None:
        for field in ("estimate", "se", "lower", "upper", "statistic", "df", "p", "adjusted_p"):
            object.__setattr__(self, field, _number(getattr(self, field), field, self.name))
        object.__setattr__(self, "warnings", tuple(self.warnings))
        object.__setattr__(self, "counts", tuple((str(label), _plain(count)) for label, count in self.counts))
        _check_words(self)
        _check_numbers(self)
        _check_error(self)

    @property
    def null(self) -> float:
        """The value that means no effect: 1 for a ratio, otherwise 0."""
        return 1.0 if self.is_ratio else 0.0

    @property
    def is_ratio(self) -> bool:
        return self.scale.endswith(("ratio", "odds"))

    @property
    def sentence(self) -> str:
        """The claim in one sentence: what, how much, between what, p and n."""
        if self.estimate is not None:
            parts = [f"{_subject(self)} = {_value_and_interval(self)}"]
        elif self.p is not None and self.statistic is not None:
            parts = [f"{self.name}: {_test_words(self)}"]
        elif self.p is not None:
            parts = [f"{self.name}: {self.method}"]
        else:
            parts = [f"{_subject(self)}: not estimable"]
        if self.p is not None:
            parts.append("p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}")
        return ", ".join([*parts, f"n = {self.n}"])

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """The claim as JSON-safe values; what is not finite becomes None (null)."""
        fields = "name estimand method estimate se lower upper level statistic df p n unit warnings role scale arms counts adjusted_p"
        return {field: _json_safe(getattr(self, field)) for field in fields.split()}


def claim_from(estimate: Estimate, **fields: Any) -> Claim:
    """The claim of one study: the numbers of an estimate shaped (), the words (name, method, arms ...) from `fields`.

    Raises ClaimError where the estimate holds more than one trial, or the claim would have no error or no n.

    >>> one = normal_estimate(-0.5, 0.25, n=40, warnings=0, level=0.95)
    >>> print(claim_from(one, name="change in hsCRP", method="ANCOVA", unit="mg/L"))
    change in hsCRP = -0.50 mg/L (-0.99 to -0.01), p = 0.046, n = 40
    """
    if np.ndim(estimate.estimate) > 0:
        shape = np.shape(estimate.estimate)
        raise ClaimError(f"A claim is made from one study, but this estimate has shape {shape}; take .row(k) of it.")
    numbers: dict[str, Any] = {
        field: float(getattr(estimate, field)) for field in ("estimate", "se", "lower", "upper", "statistic", "df", "p")
    }
    if math.isinf(numbers["df"]):
        numbers["df"] = None
    warnings = (*cautions(int(estimate.warnings)), *fields.pop("warnings", ()))
    return Claim(**numbers, n=int(estimate.n), level=estimate.level, warnings=warnings, **fields)


class Claims:
    """An ordered, unchangeable collection of claims, found by name.

    >>> claims = Claims([Claim(name="hsCRP", method="t test", estimate=1.0, se=0.4, n=20)])
    >>> claims["hsCRP"].n, len(claims), claims.names
    (20, 1, ('hsCRP',))
    """

    __slots__ = ("_by_name",)

    def __init__(self, claims: Iterable[Claim]) -> None:
        by_name: dict[str, Claim] = {}
        for claim in claims:
            if claim.name in by_name:
                raise ClaimError(
                    f"Two claims are named '{claim.name}'; give each its own name so that it can be found."
                )
            by_name[claim.name] = claim
        self._by_name = by_name

    def __getitem__(self, name: str) -> Claim:
        if name in self._by_name:
            return self._by_name[name]
        near = difflib.get_close_matches(name, self.names, n=3, cutoff=0.4)
        hint = (
            f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else f"there are: {', '.join(self.names) or 'none'}."
        )
        raise KeyError(f"No claim is named '{name}'; {hint}")

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Claims) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return "\n".join(f"{claim.name}: {claim}" for claim in self) or "no claims"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._by_name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Every claim as JSON-safe values, by name."""
        return {name: claim.to_dict() for name, claim in self._by_name.items()}


def _number(value: Any, field: str, name: str) -> float | None:
    if value is None:
        return None
    if np.ndim(value) > 0:
        raise ClaimError(
            f"The claim '{name}' has an array for {field}; a claim is one number: take one row of a batch."
        )
    return None if math.isnan(float(value)) else float(value)


def _plain(count: Any) -> float:
    return int(count) if float(count).is_integer() else float(count)


def _check_words(claim: Claim) -> None:
    if not claim.name:
        raise ClaimError("A claim needs a name, for example 'index vessel TBRmax'.")
    if not claim.method:
        raise ClaimError(f"The claim '{claim.name}' names no method; say how it was estimated, for example 'ANCOVA'.")
    if not 0 < claim.level < 1:
        raise ClaimError(f"The claim '{claim.name}' has level {claim.level}; it must lie between 0 and 1.")


def _check_numbers(claim: Claim) -> None:
    if isinstance(claim.n, bool) or not isinstance(claim.n, int | np.integer) or claim.n < 0:
        raise ClaimError(f"The claim '{claim.name}' has n = {claim.n!r}; n is the whole number of patients analysed.")
    object.__setattr__(claim, "n", int(claim.n))
    if claim.p is not None and not 0 <= claim.p <= 1:
        raise ClaimError(f"The claim '{claim.name}' has p = {claim.p}; a p-value lies between 0 and 1.")
    if claim.se is not None and claim.se < 0:
        raise ClaimError(f"The claim '{claim.name}' has standard error {claim.se}; it cannot be negative.")
    order = [value for value in (claim.lower, claim.estimate, claim.upper) if value is not None]
    if order != sorted(order):
        raise ClaimError(f"The claim '{claim.name}' has limits out of order: {' , '.join(map(str, order))}.")


def _check_error(claim: Claim) -> None:
    has_error = claim.se is not None or (claim.lower is not None and claim.upper is not None)
    is_test = claim.estimate is None and claim.p is not None
    if has_error or is_test or claim.warnings:
        return
    raise ClaimError(
        f"The claim '{claim.name}' has no error: give a standard error or both limits of an interval "
        "(or, for a test, its p-value; or a warning that says why there is none)."
    )


def _subject(claim: Claim) -> str:
    if claim.arms is None:
        return claim.name
    active, control = claim.arms
    if claim.is_ratio:
        kind = "" if claim.scale == "ratio" else f", {claim.scale}"
        return f"{active} over {control}{kind}"
    kind = "" if claim.scale == "difference" else f", {claim.scale}"
    return f"{active} minus {control}{kind}"


def _value_and_interval(claim: Claim) -> str:
    write = _ratio_writer if claim.is_ratio else _writer(claim)
    value = write(claim.estimate or 0.0) + ("" if claim.unit in ("", "1") else f" {claim.unit}")
    if claim.lower is None or claim.upper is None:
        return value if claim.se is None else f"{value} (standard error {_significant(claim.se)})"
    kind = "" if claim.level == 0.95 else f"{100 * claim.level:.4g} % interval "
    return f"{value} ({kind}{write(claim.lower)} to {write(claim.upper)})"


def _writer(claim: Claim) -> Callable[[float], str]:
    """Decimals that show the interval's half-width (else the standard error) to two significant digits."""
    spread = claim.se
    if claim.lower is not None and claim.upper is not None and math.isfinite(claim.upper - claim.lower):
        spread = (claim.upper - claim.lower) / 2
    spread = spread if spread and math.isfinite(spread) else abs(claim.estimate or 0.0)
    decimals = 2 if not spread or math.isinf(spread) else max(0, 1 - math.floor(math.log10(spread) + 1e-9))
    return lambda value: _unsigned_zero(f"{value:.{decimals}f}") if math.isfinite(value) else _endless(value)


def _ratio_writer(value: float) -> str:
    if not math.isfinite(value):
        return _endless(value)
    return f"{value:.2f}" if 0.1 <= value < 100 or value == 0 else _significant(value)


def _significant(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def _unsigned_zero(text: str) -> str:
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _endless(value: float) -> str:
    return "not reached" if value > 0 else "-infinity"


def _test_words(claim: Claim) -> str:
    freedom = "" if claim.df is None else f" on {claim.df:g} degree{'' if claim.df == 1 else 's'} of freedom"
    return f"{claim.method}, statistic = {claim.statistic:.2f}{freedom}"


def _json_safe(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_json_safe(item) for item in value]
    return value

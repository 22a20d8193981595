"""What the treatment does to the hazard of another infarction, by the year after it: from a ratio, or from draws."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import jax
import numpy as np
from scipy import special

from quell import keys, units
from quell.impact.inputs import ImpactError, Z

LONGEST = 200  # years; "for life"


class Effect(NamedTuple):
    """An effect in draws: the log hazard ratio of each year after treatment, and what it rests on.

    After ``lasts`` years the last year's effect fades evenly (on the log scale) to nothing; how slowly is an input.
    ``risks`` are hazards a year of another infarction without the treatment, where they are known better than from the
    inputs; the last year's hold on.
    """

    log_ratio: np.ndarray  # (draws, years): another infarction
    lasts: float  # years after which it fades
    words: str
    log_ratio_death: np.ndarray | None = None  # (draws, years): cardiovascular death other than by infarction
    risks: np.ndarray | None = None  # (draws, years)

    @property
    def draws(self) -> int:
        return len(self.log_ratio)

    def over(self, draws: int) -> Effect:
        """The effect in so many draws, its rows used in turn."""
        rows = np.arange(draws) % self.draws
        tables = (None if one is None else one[rows] for one in (self.log_ratio_death, self.risks))
        return Effect(self.log_ratio[rows], self.lasts, self.words, *tables)

    @property
    def nothing(self) -> Effect:
        """The same people without the treatment."""
        return self._replace(log_ratio=np.zeros_like(self.log_ratio), log_ratio_death=None)

    def at(self, years: np.ndarray, wane: np.ndarray, what: np.ndarray | None = None) -> np.ndarray:
        """The log hazard ratio at times after treatment, (draws, times); ``wane``: (draws,) years of fading.

        >>> half = Effect(np.log([[0.5]]), lasts=2, words="")
        >>> np.exp(half.at(np.array([1.0, 3.0, 5.0]), np.array([2.0]))).round(2)
        array([[0.5 , 0.71, 1.  ]])
        """
        table = self.log_ratio if what is None else what
        year = np.minimum(years.astype(int), table.shape[1] - 1)
        past = np.maximum(years - self.lasts, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(past > 0, np.maximum(1 - past / np.asarray(wane)[:, None], 0.0), 1.0)
        return table[:, year] * left


def of_limits(ratio: float, lower: float, upper: float, *, lasts: float, draws: int, key: int) -> Effect:
    """Draws of one hazard ratio from its 95 % interval, normal on the log scale.

    >>> effect = of_limits(0.7, 0.5, 0.98, lasts=2, draws=1000, key=1)
    >>> effect.log_ratio.shape, round(float(np.exp(np.median(effect.log_ratio))), 2)
    ((1000, 1), 0.7)
    """
    if not all(map(math.isfinite, (ratio, lower, upper))) or not 0 < lower <= ratio <= upper:
        raise ImpactError(
            f"{ratio:g} ({lower:g} to {upper:g}) is not a hazard ratio and its interval: "
            "write three numbers above 0 with the first between the others, as 0.7 (0.5 to 0.98)."
        )
    if not 0 < lasts <= LONGEST:
        raise ImpactError(f"an effect cannot last {lasts:g} years. Say a time such as 2 years.")
    here = keys.at(key, "impact", "effect")
    order = np.asarray(jax.random.permutation(keys.at(here, "order"), draws))
    within = np.asarray(jax.random.uniform(keys.at(here, "within"), (draws,)))
    normal = special.ndtri(np.clip((order + within) / draws, 1e-12, 1 - 1e-12))
    log_ratio = math.log(ratio) + math.log(upper / lower) / (2 * Z) * normal
    told = f"hazard ratio {ratio:g} ({lower:g} to {upper:g}), assumed to hold for {_years(lasts)}"
    return Effect(log_ratio[:, None], lasts, told)


def of_draws(
    log_ratio: np.ndarray,
    *,
    log_ratio_death: np.ndarray | None = None,
    risks: np.ndarray | None = None,
    words: str = "",
) -> Effect:
    """An effect from draws, (draws, years) each: log hazard ratios by year, and hazards a year without treatment.

    >>> of_draws(np.log(np.full((500, 2), 0.8))).lasts
    2.0
    """
    tables = {"log_ratio": log_ratio, "log_ratio_death": log_ratio_death, "risks": risks}
    shape = np.shape(log_ratio)
    for name, table in tables.items():
        if table is None:
            continue
        if np.ndim(table) != 2 or np.shape(table) != shape or 0 in shape:
            raise ImpactError(
                f"{name} has the shape {np.shape(table)}. Each is a table of draws by years, of one shape for all."
            )
        if not np.all(np.isfinite(table)):
            raise ImpactError(f"{name} holds numbers that are not finite: a hazard ratio of 0 has no logarithm.")
    if risks is not None and np.min(risks) < 0:
        raise ImpactError("risks holds negative hazards. They are events a year.")
    told = words or f"{shape[0]:,} draws of the hazard ratio in years 1 to {shape[1]}"
    others = (None if table is None else np.asarray(table, float) for table in (log_ratio_death, risks))
    return Effect(np.asarray(log_ratio, float), float(shape[1]), told, *others)


def of_survival(control: np.ndarray, active: np.ndarray, *, words: str = "") -> Effect:
    """An effect from shares still free of infarction at the ends of years, (draws, years + 1) each, the first 1.

    The hazard of a year is -log(S_end / S_begin): so the bank's gathered hazards, averaged over people as
    S = mean exp(-H), give both the effect and the risk.

    >>> effect = of_survival(np.array([[1.0, 0.9, 0.85]]), np.array([[1.0, 0.95, 0.90]]))
    >>> np.exp(effect.log_ratio).round(2), effect.risks.round(3)
    (array([[0.49, 0.95]]), array([[0.105, 0.057]]))
    """
    for name, table in (("control", control), ("active", active)):
        if np.ndim(table) != 2 or np.shape(table) != np.shape(control) or np.shape(table)[1] < 2:
            raise ImpactError(f"{name} has the shape {np.shape(table)}: it is draws by ends of years, from 0 on.")
        if not np.all((table > 0) & (table <= 1)) or not np.all(np.diff(table, axis=1) < 0):
            raise ImpactError(f"{name} is not survival: shares between 0 and 1 that fall every year.")
    hazards = [-np.diff(np.log(np.asarray(table, float)), axis=1) for table in (control, active)]
    return of_draws(np.log(hazards[1] / hazards[0]), risks=hazards[0], words=words)


_NUMBER = r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*"
_RATIO = re.compile(rf"{_NUMBER}(?:\({_NUMBER}(?:to|-|–|,){_NUMBER}\)|,{_NUMBER},{_NUMBER})")


def ratio_of(text: str) -> tuple[float, float, float]:
    """The numbers of "0.7 (0.5 to 0.98)", or of "0.7,0.5,0.98"; raises ImpactError in a sentence.

    >>> ratio_of("0.7 (0.5 to 0.98)"), ratio_of("0.7,0.5,0.98")
    ((0.7, 0.5, 0.98), (0.7, 0.5, 0.98))
    """
    found = _RATIO.fullmatch(text)
    if not found:
        raise ImpactError(
            f"'{text}' is not a hazard ratio with its interval. Write it as '0.7 (0.5 to 0.98)': without an interval the "
            "answer would look surer than it is."
        )
    ratio, lower, upper = (float(one) for one in found.groups() if one is not None)
    return ratio, lower, upper


def years_of(text: str | float) -> float:
    """A length of time in years; "life" is for ever.

    >>> years_of("18 months"), years_of("life")
    (1.5, 200.0)
    """
    if isinstance(text, str) and text.strip().lower() in ("life", "for life"):
        return float(LONGEST)
    if isinstance(text, (int, float)):
        return float(text)
    try:
        return units.days(text) / units.DAYS_PER_YEAR
    except units.UnitError as error:
        raise ImpactError(f"{error} How long was the effect seen to last?") from None


def _years(years: float) -> str:
    return "life" if years >= LONGEST else f"{years:g} year{'' if years == 1 else 's'}"

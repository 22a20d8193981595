"""IVORY and IVORY-FINALE as settings: what each world makes of the trial as it was run. Used at the stage ``after-ivory`` only.

Candidates whose C-reactive protein exceeds 2 mg/L, the hottest vessel of a noisy first scan, twelve doses, a second scan
on study day 61, infarctions to two years; in its expectation, the same people under both arms.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from quell import keys
from quell.body.parameters import Parameters
from quell.calibrate import settings
from quell.calibrate.people import even
from quell.keys import jax
from quell.measure import pet
from quell.units import DAYS_PER_YEAR

DOSES = (1, 2, 3, 4, 5, 12, 19, 26, 33, 40, 47, 54)
DOSE = 1.5  # MIU (E009)
FOLLOW_UP, TWO_YEARS = 61, 730
LOOKS = (1, 5, 12, 19, 33, 47, 61, 75, 90, 120, 180, 270, 365, 540, 730)  # study days at which hazards are read
LIMIT = 2.0  # mg/L of C-reactive protein at screening
READING = 0.1  # log; between-day spread of C-reactive protein at screening, as of the assay and of days
VESSELS = ("ascending_aorta", "left_carotid", "right_carotid")


def ivory(p: Parameters, count: int) -> settings.Values:
    """The index vessel's difference and level on day 61 and first reading, hsCRP, and infarctions by two years, %."""
    who = even(count)
    seen = {dose: settings.lived(who, dose, DOSES, LOOKS, p) for dose in (DOSE, 0.0)}
    screened = settings.before(who._replace(days_since_infarction=np.maximum(who.days_since_infarction - 3, 0.0)), p)
    eligible = stats.norm.cdf(np.log(screened.crp / LIMIT) / READING)
    weights = eligible / eligible.sum(axis=-1, keepdims=True)
    noise = reading_noise(count)
    signals = {dose: np.stack([getattr(one, f"tbr_{v}") for v in VESSELS], axis=-1) for dose, one in seen.items()}
    before = signals[0.0][:, :, 0] + noise
    index = before.argmax(axis=-1)[..., None]
    follow = LOOKS.index(FOLLOW_UP)
    end = {dose: np.take_along_axis(one[:, :, follow], index, axis=-1)[..., 0] for dose, one in signals.items()}
    risk = {dose: _infarctions(one.hazard) for dose, one in seen.items()}
    mean = lambda x: (weights * x).sum(axis=-1)  # noqa: E731
    none = np.zeros(len(p.growth))
    found = {
        "ivory_difference": mean(end[DOSE] - end[0.0]),
        "ivory_placebo": mean(end[0.0]),
        "ivory_first": mean(before.max(axis=-1)),
        "ivory_crp": _median(seen[0.0].crp[..., 0], weights),
        "finale_active": settings.PERCENT * mean(risk[DOSE]),
        "finale_placebo": settings.PERCENT * mean(risk[0.0]),
    }
    return {name: (value, none) for name, value in found.items()}


def reading_noise(count: int) -> np.ndarray:
    """Errors of a first scan that do not touch all vessels alike, the same in every world; shape (count, vessels)."""
    instrument = pet.pet()
    spread = np.hypot(instrument.vessel_sd, instrument.slice_sd / np.sqrt(instrument.slices))
    return spread * np.asarray(jax.random.normal(keys.at(11, "first scan"), (count, len(VESSELS))))


def _infarctions(rate: np.ndarray) -> np.ndarray:
    """Chance of an infarction by two years from hazards per year at ``LOOKS`` (trapezoids)."""
    days = np.array(LOOKS, float)
    return -np.expm1(-((rate[..., 1:] + rate[..., :-1]) / 2 * np.diff(days)).sum(axis=-1) / DAYS_PER_YEAR)


def _median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted median of each row."""
    order = np.argsort(values, axis=-1)
    ladder = np.cumsum(np.take_along_axis(weights, order, axis=-1), axis=-1)
    ranked = np.take_along_axis(np.log(values), order, axis=-1)
    return np.exp([np.interp(0.5, a, b) for a, b in zip(ladder, ranked, strict=True)])

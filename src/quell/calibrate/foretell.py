"""What people will show, by the body itself at draws of their constants: intervals of the truth and of a reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from quell import keys
from quell.calibrate import shapes
from quell.calibrate.followed import Followed, Kind, errors
from quell.keys import jax
from quell.measure import assay, pet


def lived(
    logs: np.ndarray, factors: Mapping[str, np.ndarray], names: Sequence[str], who: Followed, day: np.ndarray
) -> list[np.ndarray]:
    """Readings without error by kind, (draws, people, days): logs (draws, people, constants), day (people, days)."""
    values = {name: np.exp(logs[:, :, i]) for i, name in enumerate(names)}
    seen = shapes.body(who, values, dict(factors), day)
    return [getattr(seen, kind.observable) for kind in who.kinds]


def read(kinds: Sequence[Kind], truth: list[np.ndarray], key: keys.Key) -> list[np.ndarray]:
    """Readings of the truth with the instruments' errors, as ``assay.panel`` and ``pet.simulate`` make them."""
    found, scan = [], np.asarray(jax.random.normal(keys.at(key, "scan"), truth[0].shape))
    for kind, x, error in zip(kinds, truth, errors(kinds), strict=True):
        z = np.asarray(jax.random.normal(keys.at(key, kind.name, kind.location), x.shape))
        if kind.location:
            found.append(x + pet.pet().scan_sd * scan + error * z)
            continue
        test = assay.by_name()[kind.name]
        value = x * np.exp(error * z - error**2 / 2)
        found.append(np.where(value < test.limit, test.limit / 2, np.round(value, test.decimals)))
    return found


def foretold(
    logs: np.ndarray,
    factors: Mapping[str, np.ndarray],
    names: Sequence[str],
    who: Followed,
    day: np.ndarray,
    key: keys.Key,
    level: float,
) -> pl.DataFrame:
    """One row for each person, day and quantity: interval of the truth, and of a reading with its error."""
    truth = lived(logs, factors, names, who, day)
    ends = ((1 - level) / 2, 0.5, (1 + level) / 2)
    tables = []
    for kind, exact, noisy in zip(who.kinds, truth, read(who.kinds, truth, key), strict=True):
        low, mid, high = np.quantile(exact, ends, axis=0)
        low_read, mid_read, high_read = np.quantile(noisy, ends, axis=0)
        tables.append(
            pl.DataFrame(
                {
                    "subject": np.repeat(who.subjects, day.shape[1]),
                    "day": day.ravel(),
                    "quantity": kind.name,
                    "location": kind.location,
                    "lower": low.ravel(),
                    "median": mid.ravel(),
                    "upper": high.ravel(),
                    "lower_reading": low_read.ravel(),
                    "median_reading": mid_read.ravel(),
                    "upper_reading": high_read.ravel(),
                }
            )
        )
    return pl.concat(tables)

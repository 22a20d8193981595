"""FDG-PET/CT of the artery wall: the maximum target-to-background ratio (TBRmax), slice by slice and by vessel.

Reading level: a vessel is a row of slices; each slice's TBRmax is the vessel's true signal plus the person's own
pattern along the vessel, plus the errors of the scan, the vessel and the slice.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from quell import keys
from quell.measure.assay import instruments

Values = Any  # traced numbers of one person, or NumPy arrays of many


class PET(NamedTuple):
    """The scanner and the reading rules; ``active`` is the TBRmax from which a slice counts as active (E020)."""

    vessels: tuple[str, ...]
    slices: int
    scan_sd: float
    vessel_sd: float
    slice_sd: float
    pattern_sd: float
    active: float
    decimals: int


class Scan(NamedTuple):
    """What a reader reports of one scan."""

    vessel: Values  # mean TBRmax of each vessel, (vessels,)
    index_vessel: Values  # mean TBRmax of the index vessel
    active_slices: Values  # number of slices of the index vessel at or above the threshold
    active_mean: Values  # mean TBRmax over the slices of the index vessel that were active at baseline
    segment: Values  # mean of the three neighbouring slices that were hottest at baseline, in the index vessel


@functools.cache
def pet() -> PET:
    """The instrument with its published error."""
    entry = instruments()["pet"]
    values = {field: entry[field] for field in PET._fields}
    return PET(**values | {"vessels": tuple(values["vessels"])})


def slices(instrument: PET, signal: jax.Array, *, person: keys.Key, scan: keys.Key) -> jax.Array:
    """TBRmax of every slice, (vessels, slices), from the true signal of each vessel, (vessels,).

    ``person`` fixes the pattern along the vessels, the same at each visit; ``scan`` the errors of this scan.
    """
    shape = (len(instrument.vessels), instrument.slices)
    pattern = jax.random.normal(keys.at(person, "pattern"), shape)
    pattern = pattern - pattern.mean(axis=-1, keepdims=True)  # the mean of the vessel is its signal
    common = instrument.scan_sd * jax.random.normal(keys.at(scan, "scan"))
    vessel = instrument.vessel_sd * jax.random.normal(keys.at(scan, "vessel"), shape[:1])
    single = instrument.slice_sd * jax.random.normal(keys.at(scan, "slice"), shape)
    return signal[:, None] + instrument.pattern_sd * pattern + common + vessel[:, None] + single


def simulate(instrument: PET, signals: jax.Array, *, person: keys.Key, scans: keys.Key) -> Scan:
    """The readings of several scans of one person, the first being the baseline that chooses the index vessel.

    ``signals`` has shape (scans, vessels), ``scans`` one key each; every field of the result has a leading axis of
    scans. Active slices and the most diseased segment are chosen at baseline too.
    """
    rows = jax.lax.map(lambda one: slices(instrument, one[0], person=person, scan=one[1]), (signals, scans))
    index = jnp.argmax(rows[0].mean(axis=-1))
    before = rows[0][index]
    hottest = jnp.argmax(before[:-2] + before[1:-1] + before[2:])
    was_active = before >= instrument.active
    row = rows[:, index]
    number = jnp.where(was_active.any(), was_active.sum(), jnp.nan)
    reported = Scan(
        vessel=rows.mean(axis=-1),
        index_vessel=row.mean(axis=-1),
        active_slices=(row >= instrument.active).sum(axis=-1).astype(float),
        active_mean=jnp.where(was_active, row, 0.0).sum(axis=-1) / number,
        segment=jax.lax.dynamic_slice_in_dim(row, hottest, 3, axis=1).mean(axis=-1),
    )
    return jax.tree.map(lambda x: jnp.round(x, instrument.decimals), reported)

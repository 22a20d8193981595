"""The heart: ejection fraction by echocardiography, with its error between readings."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from quell import keys
from quell.measure.assay import instruments


def ejection_fraction(true_value: jax.Array, *, key: keys.Key) -> jax.Array:
    """One reading in percent: the true value plus a normal error, within what a reader would report."""
    entry = instruments()["echocardiogram"]
    reading = true_value + entry["sd"] * jax.random.normal(key)
    return jnp.round(jnp.clip(reading, entry["lowest"], entry["highest"]), entry["decimals"])

"""Blood: cells and molecules, read with an analytic error, a day-to-day variation, and a limit of quantification."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from quell import keys


class Assay(NamedTuple):
    """One blood test: what it reads of the body, and how well."""

    name: str
    unit: str
    observable: str
    analytic: float
    within_person: float
    limit: float
    decimals: int


@functools.cache
def instruments() -> dict[str, Any]:
    """The numbers of every instrument, with source and status."""
    return tomllib.loads((importlib.resources.files("quell.measure") / "instruments.toml").read_text("utf-8"))


@functools.cache
def assays() -> tuple[Assay, ...]:
    """Every blood test that virtual patients can have."""
    return tuple(
        Assay(name, *(entry[field] for field in Assay._fields[1:])) for name, entry in instruments()["assay"].items()
    )


@functools.cache
def by_name() -> dict[str, Assay]:
    """The blood tests by name."""
    return {test.name: test for test in assays()}


def simulate(assay: Assay, true_value: jax.Array, *, key: keys.Key) -> jax.Array:
    """A reading of the true value: reading = true · exp(s z − s²/2), s² = analytic² + within-person².

    Below the limit of quantification the reading is half the limit. The same key on the same day is the same
    reading; other days vary independently, as does another quantity.
    """
    return panel((assay,), true_value[None], key=key[None])[0]


def panel(tests: tuple[Assay, ...], true_values: jax.Array, *, key: keys.Key) -> jax.Array:
    """Readings of several tests at once, as ``simulate`` gives them one by one; shapes (tests,)."""
    table = jnp.array([(test.analytic, test.within_person, test.limit, test.decimals) for test in tests])
    analytic, within, limit, decimals = table.T
    spread = jnp.sqrt(analytic**2 + within**2)
    reading = true_values * jnp.exp(spread * jax.vmap(jax.random.normal)(key) - spread**2 / 2)
    scale = 10.0**decimals
    return jnp.where(reading < limit, limit / 2, jnp.round(reading * scale) / scale)

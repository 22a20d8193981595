"""What is not known: the constants with their priors, the structures of the body, and the link to events, as coordinates.

A coordinate z has a standard normal prior. A constant is value * exp(sd z), times what its structure changes it by; the
link's constants follow a new pathway's effect (``link``): ``crp_hazard`` is its quantile at z, ``uptake_hazard`` its own
prior times that effect over the table's value.
"""

from __future__ import annotations

import functools
import itertools
import tomllib
from importlib import resources
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special

from quell import keys
from quell.body import parameters, structure
from quell.body.parameters import Parameters
from quell.calibrate import link
from quell.keys import jax

LINKED = ("crp_hazard", "uptake_hazard")


class Space(NamedTuple):
    """The uncertain constants and the structures."""

    names: tuple[str, ...]  # of uncertain constants, in the table's order
    centre: np.ndarray  # (constants,) values
    spread: np.ndarray  # (constants,) prior standard deviation of the log
    structures: tuple[tuple[str, ...], ...]  # each an option of every question
    ratios: np.ndarray  # (structures, constants) what each multiplies a constant by
    effects: np.ndarray  # (quantiles,) of a new pathway's effect, for crp_hazard

    def place(self, name: str) -> int:
        return self.names.index(name)


QUANTILES = 401


@functools.cache
def space() -> Space:
    """The space of the body's table, its structures and the shipped link.

    >>> len(space().structures), "growth" in space().names
    (27, True)
    """
    return spanned(link.shipped())


def spanned(linked: link.Linked) -> Space:
    """The space under a link: what a new pathway may do to events is what its draws say."""
    text = resources.files("quell.calibrate").joinpath("priors.toml").read_text("utf-8")
    wider = tomllib.loads(text)
    uncertain = [one for one in parameters.table() if one.uncertainty > 0]
    names = tuple(one.name for one in uncertain)
    unknown = set(wider) - set(names)
    if unknown:
        raise ValueError(f"priors.toml names {sorted(unknown)}, which parameters.toml does not hold uncertain.")
    combined = tuple(itertools.product(*([one.name for one in q.options] for q in structure.table())))
    grid = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return Space(
        names=names,
        centre=np.array([one.value for one in uncertain]),
        spread=np.array([max(float(wider.get(one.name, 0)), one.uncertainty) for one in uncertain]),
        structures=combined,
        ratios=np.array([_ratios(names, one) for one in combined]),
        effects=np.quantile(linked.new, grid),
    )


def _ratios(names: tuple[str, ...], options: tuple[str, ...]) -> list[float]:
    base = parameters.load()
    questions = [one.name for one in structure.table()]
    changed = structure.structured(base, dict(zip(questions, options, strict=True)))
    return [getattr(changed, name) / getattr(base, name) for name in names]


def effective(z: Any, ratio: Any, where: Space) -> Any:
    """Values of the uncertain constants at coordinates z under a structure's ratios; arrays of shape (..., constants).

    Written with jax.numpy: traced or not.
    """
    values = where.centre * ratio * jnp.exp(where.spread * z)
    crp, wall = (where.place(name) for name in LINKED)
    effect = jnp.interp(jax.scipy.special.ndtr(z[..., crp]), _GRID, where.effects)
    values = values.at[..., crp].set(effect)
    return values.at[..., wall].set(values[..., wall] * effect / where.centre[crp])


_GRID = (np.arange(QUANTILES) + 0.5) / QUANTILES


def worlds(z: np.ndarray, structures: np.ndarray, where: Space) -> Parameters:
    """Constants of many worlds, arrays of shape (worlds,): z (worlds, constants), structures (worlds,) by number."""
    values = np.asarray(effective(jnp.asarray(z), where.ratios[structures], where))
    return filled(where.names, values)


def filled(names: tuple[str, ...], values: np.ndarray) -> Parameters:
    """All constants of many worlds, from those given; the others are the table's."""
    base = Parameters(*(np.full(len(values), float(one)) for one in parameters.load()))
    return base._replace(**{name: values[:, i] for i, name in enumerate(names)})


# What a summary bends least in: most constants through their log, some through a share that ends at 0 and 1.
ENDS_AT_ONE = {"niche": 1.0, "depletion": 0.3}


def features(values: Any, where: Space) -> Any:
    """Constants on the scale of the surrogate, about 0 with a spread of about 1; arrays of shape (..., constants)."""
    scaled = jnp.log(jnp.maximum(values, 1e-12) / where.centre) / where.spread
    for name, half in ENDS_AT_ONE.items():
        place = where.place(name)
        inverse = name == "niche"
        share, centre = ((half / (half + x) if inverse else x / (half + x)) for x in (values[..., place], where.centre[place]))  # fmt: skip
        scaled = scaled.at[..., place].set((share - centre) / 0.2)
    for name, unit in zip(LINKED, (0.2, 0.5), strict=True):
        place = where.place(name)
        scaled = scaled.at[..., place].set((values[..., place] - where.centre[place]) / unit)
    return jnp.concatenate([scaled, _joint(values, where)], axis=-1)


JOINT = 3  # features more than there are constants
PER_CENT = 100.0


def _joint(values: Any, where: Space) -> Any:
    """What hazards bend with: the wall's part of the log hazard, stable and recruited, and the scar's.

    psi B_C, psi B_C Q0 and g_sc z (n0 + n1 + n2) / LV: products that no quadratic form of logarithms holds.
    """
    at = {name: values[..., where.place(name)] for name in _IN_JOINT}
    stable = at["uptake_hazard"] * at["uptake_coronary"]
    masses = at["scar_mass"] + at["healing_fast_mass"] + at["healing_slow_mass"]
    scar = PER_CENT * at["scar_hazard"] * at["infarct_size"] * masses / at["left_ventricle_mass"]
    return jnp.stack([stable / 0.4, stable * at["recruitment"] / 0.5, scar / 0.3], axis=-1)


_IN_JOINT = (
    "uptake_hazard", "uptake_coronary", "recruitment", "scar_hazard", "infarct_size", "scar_mass", "healing_fast_mass",
    "healing_slow_mass", "left_ventricle_mass",
)  # fmt: skip


def even_draws(key: keys.Key, count: int, where: Space, width: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread coordinates (a Latin hypercube of the prior, widened) and structures, each as often."""

    def order(name: str) -> np.ndarray:
        return np.asarray(jax.random.permutation(keys.at(key, name), count))

    z = np.stack([special.ndtri((order(name) + 0.5) / count) for name in where.names], axis=1)
    return width * z, order("structure") % len(where.structures)

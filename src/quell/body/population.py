"""Plausible people: covariates with their correlations, each person's own biology, and the fate they carry."""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from quell import keys
from quell.body import risk
from quell.body.parameters import Parameters, Scalar, spreads

INFARCT_TYPES = ("unstable angina", "NSTEMI", "STEMI")
SMOKING = ("never", "current", "previous")
ETHNICITIES = ("white", "Asian", "mixed", "other")

# name: (label, unit, kind); kind is number, yes (0 or 1), or the labels of the codes 0, 1, 2 ...
COVARIATES: dict[str, tuple[str, str, str | tuple[str, ...]]] = {
    "age": ("age", "years", "number"),
    "female": ("female", "", "yes"),
    "bmi": ("body mass index", "kg/m2", "number"),
    "ethnicity": ("ethnicity", "", ETHNICITIES),
    "infarct_type": ("index event", "", INFARCT_TYPES),
    "days_since_infarction": ("days from index event to study day 1", "days", "number"),
    "ldl": ("LDL cholesterol", "mmol/L", "number"),
    "troponin": ("high-sensitivity troponin I", "ng/L", "number"),
    "grace": ("GRACE score", "", "number"),
    "hypertension": ("hypertension", "", "yes"),
    "hypercholesterolaemia": ("hypercholesterolaemia", "", "yes"),
    "previous_angioplasty": ("previous angioplasty", "", "yes"),
    "previous_infarction": ("previous infarction", "", "yes"),
    "previous_stroke": ("previous stroke", "", "yes"),
    "diabetes": ("diabetes", "", "yes"),
    "smoker": ("smoking", "", SMOKING),
    "statin": ("statin", "", "yes"),
    "beta_blocker": ("beta-blocker", "", "yes"),
    "renin_angiotensin_inhibitor": ("renin-angiotensin inhibitor", "", "yes"),
    "angioplasty_for_index": ("angioplasty for the index event", "", "yes"),
    "body_surface_area": ("body surface area", "m2", "number"),
}


class Patient(NamedTuple):
    """One person: covariates, own biology (a factor for each constant in which people differ), and thresholds of fate."""

    age: Scalar
    female: Scalar
    bmi: Scalar
    ethnicity: Scalar
    infarct_type: Scalar
    days_since_infarction: Scalar
    ldl: Scalar
    troponin: Scalar
    grace: Scalar
    hypertension: Scalar
    hypercholesterolaemia: Scalar
    previous_angioplasty: Scalar
    previous_infarction: Scalar
    previous_stroke: Scalar
    diabetes: Scalar
    smoker: Scalar
    statin: Scalar
    statin_intensified: Scalar
    beta_blocker: Scalar
    renin_angiotensin_inhibitor: Scalar
    angioplasty_for_index: Scalar
    body_surface_area: Scalar
    own: dict[str, Scalar]
    thresholds: risk.Causes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Covariate:
    """The distribution of one covariate, with its source."""

    name: str
    kind: str  # yes, choice, normal, lognormal, uniform
    values: tuple[float, ...]
    source: str
    status: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
    """A description of who the patients are."""

    name: str
    title: str
    covariates: tuple[Covariate, ...]
    correlations: tuple[tuple[str, str, float, str], ...]


def _read() -> dict[str, Population]:
    text = resources.files("quell.body").joinpath("populations.toml").read_text(encoding="utf-8")
    return {name: _population(name, row) for name, row in tomllib.loads(text).items()}


def _population(name: str, row: dict) -> Population:
    covariates = tuple(
        Covariate(name=one, kind=d["kind"], values=tuple(d["values"]), source=d["source"], status=d["status"])
        for one, d in row["covariates"].items()
    )
    pairs = tuple((a, b, float(r), why) for a, b, r, why in row["correlations"])
    return Population(name=name, title=row["title"], covariates=covariates, correlations=pairs)


POPULATIONS: dict[str, Population] = _read()


def draw(key: keys.Key, parameters: Parameters, population: Population) -> Patient:
    """One patient of a population; vmap over keys for many.

    Normal scores are drawn by name, correlated through a Gaussian copula, and turned into values; thresholds of fate
    are unit exponentials. A patient's own biology is a factor on whatever ``parameters`` the life is lived with.

    >>> from quell.body.parameters import load
    >>> patient = draw(keys.at(1, "subject", 0), load(), POPULATIONS["ivory"])
    >>> 0 < float(patient.body_surface_area) < 4
    True
    """
    return of_scores(_scores(key, population), _thresholds(key), parameters, population)


def of_scores(
    scores: dict[str, Scalar], thresholds: risk.Causes, parameters: Parameters, population: Population
) -> Patient:
    """The patient whose normal scores, already correlated, and thresholds of fate are given."""
    values = {one.name: value(one, scores[one.name]) for one in population.covariates}
    area = body_surface_area(values.pop("height"), values["female"], values["bmi"], parameters)
    own = {name: jnp.exp(spread * scores[name]) for name, spread in spreads().items()}
    return Patient(**values, body_surface_area=area, own=own, thresholds=thresholds)


def scored(population: Population) -> list[str]:
    """What has a normal score of its own: covariates, then the constants in which people differ."""
    return [one.name for one in population.covariates] + list(spreads())


def _scores(key: keys.Key, population: Population) -> dict[str, Scalar]:
    names = scored(population)
    numbers = jnp.array([keys.number(name) for name in names], dtype=jnp.uint32)
    # a loop where vmap would do: the compiled program stays small, and so quick to load
    return correlated(jax.lax.map(lambda name: jax.random.normal(keys.at(key, name)), numbers), population)


def correlated(z: Scalar, population: Population) -> dict[str, Scalar]:
    """Independent scores, in the order of ``scored``, correlated as the population's are."""
    names = scored(population)
    joined, root = _copula(population)
    places = np.array([names.index(name) for name in joined])
    together = sum(root[:, j] * z[place] for j, place in enumerate(places))
    z = z.at[places].set(together)
    return {name: z[i] for i, name in enumerate(names)}


@functools.cache
def _copula(population: Population) -> tuple[list[str], np.ndarray]:
    """The names that are correlated, and the Cholesky root of their correlations."""
    joined = list(dict.fromkeys(name for a, b, _, _ in population.correlations for name in (a, b)))
    matrix = np.eye(len(joined))
    for a, b, r, _ in population.correlations:
        matrix[joined.index(a), joined.index(b)] = matrix[joined.index(b), joined.index(a)] = r
    if np.linalg.eigvalsh(matrix).min() <= 0:
        raise ValueError(f"the correlations of population '{population.name}' contradict each other. Weaken some.")
    return joined, np.linalg.cholesky(matrix)


def value(one: Covariate, z: Scalar) -> Scalar:
    """The value of a covariate at a normal score.

    >>> age = POPULATIONS["ivory"].covariates[0]
    >>> value(age, 1.0)
    65.2
    """
    if one.kind == "normal":
        return one.values[0] + one.values[1] * z
    if one.kind == "lognormal":
        return one.values[0] * jnp.exp(one.values[1] * z)
    if one.kind == "uniform":
        return one.values[0] + (one.values[1] - one.values[0]) * jax.scipy.special.ndtr(z)
    if one.kind == "yes":
        return jnp.where(z < special.ndtri(one.values[0]), 1.0, 0.0)
    if one.kind == "choice":
        edges = special.ndtri(np.cumsum(one.values)[:-1])
        return sum(jnp.where(z >= edge, 1.0, 0.0) for edge in edges)
    raise ValueError(
        f"'{one.kind}' of covariate '{one.name}' is no distribution. Write yes, choice, normal, lognormal or uniform."
    )


MOSTELLER = 60.0  # body surface = sqrt(height cm * weight kg) / 60 (Mosteller 1987)
CM_PER_M = 100.0


def body_surface_area(height: Scalar, female: Scalar, bmi: Scalar, parameters: Parameters) -> Scalar:
    """Body surface (m2) by Mosteller, from the height a man of that score would have (cm), sex and body mass index."""
    tall = height * jnp.where(female > 0, parameters.height_ratio, 1.0)
    weight = bmi * (tall / CM_PER_M) ** 2
    return jnp.sqrt(tall * weight) / MOSTELLER


def _thresholds(key: keys.Key) -> risk.Causes:
    here = keys.at(key, "thresholds")
    once = [name for name in risk.Causes._fields if name != "infarction"]
    numbers = jnp.array([keys.number(name) for name in once], dtype=jnp.uint32)
    drawn = jax.vmap(lambda name: jax.random.exponential(keys.at(here, name)))(numbers)
    turns = jnp.arange(risk.SUCCESSIVE)
    infarction = jax.vmap(lambda turn: jax.random.exponential(keys.at(here, "infarction", turn)))(turns)
    return risk.Causes(infarction=infarction, **{name: drawn[i] for i, name in enumerate(once)})

"""Every constant of the body, read from one table: symbol, value, unit, spread, source, status, meaning.

The table is ``parameters.toml`` beside this file; the organs hold equations and no numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from quell import keys

Scalar = Any  # a float, or a traced array of shape ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One constant: its value, how it differs between people, and how well it is known."""

    name: str
    organ: str
    symbol: str
    value: float
    unit: str
    between_person: float  # standard deviation of the log between patients
    uncertainty: float  # standard deviation of the log of the population value; 0 is fixed
    source: str
    status: str  # measured, derived or assumed
    meaning: str


class Parameters(NamedTuple):
    """The constants as numbers; the same names as in the table, organ by organ."""

    # drug
    bioavailability: Scalar
    absorption: Scalar
    absorption_lag: Scalar
    transit: Scalar
    clearance: Scalar
    volume: Scalar
    picomolar_per_unit: Scalar
    treg_seen: Scalar
    internalisation: Scalar
    soluble_receptor: Scalar
    soluble_affinity: Scalar
    soluble_turnover: Scalar
    soluble_response: Scalar
    # immunity
    intermediate_affinity: Scalar
    cd25_doubling: Scalar
    treg_cd25: Scalar
    teff_cd25: Scalar
    nk_cd25: Scalar
    bright_cd25: Scalar
    ilc2_cd25: Scalar
    treg_cd122: Scalar
    amplification: Scalar
    cd122_loss: Scalar
    cd122_recovery: Scalar
    growth: Scalar
    cycle_exit: Scalar
    treg_return: Scalar
    niche: Scalar
    depletion: Scalar
    replenishment: Scalar
    margination: Scalar
    margination_return: Scalar
    teff_margination: Scalar
    nk_margination: Scalar
    eosinophil_margination: Scalar
    treg_deficit: Scalar
    treg_deficit_time: Scalar
    teff_turnover: Scalar
    nk_turnover: Scalar
    bright_turnover: Scalar
    ilc2_turnover: Scalar
    teff_response: Scalar
    nk_response: Scalar
    bright_response: Scalar
    ilc2_response: Scalar
    il5_response: Scalar
    marrow_turnover: Scalar
    eosinophil_turnover: Scalar
    cd4_count: Scalar
    treg_share: Scalar
    nk_count: Scalar
    bright_count: Scalar
    ilc2_count: Scalar
    eosinophil_count: Scalar
    il5_level: Scalar
    residual_crp: Scalar
    residual_crp_spread: Scalar
    surge: Scalar
    surge_spread: Scalar
    surge_stemi: Scalar
    surge_nstemi: Scalar
    surge_unstable: Scalar
    surge_decay: Scalar
    crp_turnover: Scalar
    il6_level: Scalar
    il6_exponent: Scalar
    reference_crp: Scalar
    calm_blood: Scalar
    # vessel
    wall_turnover: Scalar
    tissue_entry: Scalar
    calm_treg: Scalar
    calm_ilc2: Scalar
    calming: Scalar
    statin_calming: Scalar
    uptake_ascending_aorta: Scalar
    uptake_left_carotid: Scalar
    uptake_right_carotid: Scalar
    uptake_coronary: Scalar
    recruitment: Scalar
    recruitment_stemi: Scalar
    recruitment_nstemi: Scalar
    recruitment_unstable: Scalar
    recruitment_decay: Scalar
    recruitment_rise: Scalar
    # heart
    infarct_size: Scalar
    scar_mass: Scalar
    healing_fast_mass: Scalar
    healing_slow_mass: Scalar
    healing_fast_time: Scalar
    healing_slow_time: Scalar
    neutrophil_loss: Scalar
    macrophage_switch: Scalar
    macrophage_loss: Scalar
    fibroblast_turnover: Scalar
    healing: Scalar
    scar_extension: Scalar
    infarct_nstemi: Scalar
    infarct_unstable: Scalar
    old_scar: Scalar
    left_ventricle_mass: Scalar
    reference_area: Scalar
    ejection_fraction: Scalar
    ejection_fraction_loss: Scalar
    end_diastolic_index: Scalar
    dilation_gain: Scalar
    dilation_rate: Scalar
    # risk
    infarction_rate: Scalar
    vulnerability: Scalar
    vulnerability_time: Scalar
    crp_hazard: Scalar
    uptake_hazard: Scalar
    stroke_share: Scalar
    arrest_share: Scalar
    revascularisation_share: Scalar
    cardiovascular_death_share: Scalar
    other_death_rate: Scalar
    reference_age: Scalar
    age_infarction: Scalar
    age_stroke: Scalar
    age_arrest: Scalar
    age_revascularisation: Scalar
    age_cardiovascular_death: Scalar
    age_other_death: Scalar
    diabetes_ratio: Scalar
    previous_infarction_ratio: Scalar
    unrevascularised_ratio: Scalar
    ldl_hazard: Scalar
    reference_ldl: Scalar
    scar_hazard: Scalar
    reference_scar: Scalar
    reference_uptake: Scalar
    infarction_feedback: Scalar
    # harm
    reaction_any: Scalar
    reaction_injection_site: Scalar
    reaction_fever: Scalar
    reaction_flu_like: Scalar
    reaction_proneness: Scalar
    eosinophilia_limit: Scalar
    # population
    height_ratio: Scalar


@functools.cache
def table() -> list[Parameter]:
    """Every constant with its value, unit, spread, source and status, in the order of the organs.

    >>> table()[0].name, table()[0].unit
    ('bioavailability', '1')
    """
    text = resources.files("quell.body").joinpath("parameters.toml").read_text(encoding="utf-8")
    records = [Parameter(name=name, **row) for name, row in tomllib.loads(text).items()]
    if tuple(record.name for record in records) != Parameters._fields:
        odd = set(Parameters._fields) ^ {record.name for record in records}
        raise ValueError(f"parameters.toml and Parameters differ in {sorted(odd) or 'their order'}. Make them equal.")
    return records


def load() -> Parameters:
    """The constants at their population values.

    >>> load().absorption
    5.04
    """
    return Parameters(*(record.value for record in table()))


def draw(key: keys.Key) -> Parameters:
    """Population values drawn with their uncertainty: value * exp(uncertainty * z), z standard normal by name.

    Pure, so it may be vmapped over keys: one draw per trial carries what is not known from trial to trial.

    >>> from quell import keys
    >>> float(draw(keys.root(1)).volume)
    4.8
    """
    names = jnp.array([keys.number(name) for name in Parameters._fields], dtype=jnp.uint32)
    z = jax.vmap(lambda name: jax.random.normal(keys.at(key, "parameters", name)))(names)
    values = jnp.array([record.value for record in table()])
    spreads = jnp.array([record.uncertainty for record in table()])
    drawn = values * jnp.exp(spreads * z)
    return Parameters(*(drawn[i] for i in range(len(names))))


_WITHOUT = {"efficacy": ("calming",), "drug": ("bioavailability",), "loop": ("infarction_feedback",)}


def without(parameters: Parameters, what: str) -> Parameters:
    """The same world with one link cut, for negative controls and for asking what the link does.

    ``efficacy``: the drug moves cells but calms nothing (wall, interleukin-6, C-reactive protein, heart, hazards);
    ``drug``: the drug does nothing at all; ``loop``: an infarction no longer raises inflammation or hazard.
    Raises ValueError for any other word.

    >>> without(load(), "efficacy").calming
    0.0
    """
    if what not in _WITHOUT:
        raise ValueError(f"'{what}' is no link that can be cut. Choose one of: {', '.join(_WITHOUT)}.")
    return parameters._replace(**{name: getattr(parameters, name) * 0 for name in _WITHOUT[what]})


def personal(parameters: Parameters, own: dict[str, Scalar]) -> Parameters:
    """One patient's constants: the population's, each times the patient's own factor where people differ.

    Where it is not known how far people differ there is a constant for that, the factor's power: own ** spread.

    >>> personal(load(), {"volume": 2.0}).volume
    9.6
    >>> personal(load()._replace(surge_spread=2.0), {"surge": 3.0}).surge
    108.0
    """
    mine = {name: getattr(parameters, name) * factor for name, factor in own.items()}
    for name in own.keys() & WIDER.keys():
        mine[name] = getattr(parameters, name) * own[name] ** getattr(parameters, WIDER[name])
    return parameters._replace(**mine)


# Constants whose spread between people is itself uncertain: it is 1 at the table's spread.
WIDER = {"residual_crp": "residual_crp_spread", "surge": "surge_spread"}


def spreads() -> dict[str, float]:
    """The constants in which people differ, with the standard deviation of their log.

    >>> spreads()["bioavailability"]
    0.35
    """
    return {record.name: record.between_person for record in table() if record.between_person > 0}

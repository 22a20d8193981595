"""What the drug does to those who get it: reactions at the injection site, fever, flu-like symptoms, eosinophilia.

Chance of at least one over a course of doses d_j (10^6 IU):  P = 1 - exp(-f sum_j a_k d_j)

a_k is the rate per dose and 10^6 IU (E089: 21 doses of 1; any event: E087, 5 doses of 0.33 to 3), f the patient's own
proneness. Eosinophilia is read off the eosinophils. The label warns of cardiac disease (E100): no rate is known.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from quell.body.parameters import Parameters, Scalar


class Reactions(NamedTuple):
    """Chance of at least one reaction of a kind over a course, beyond what placebo brings."""

    any: Scalar
    injection_site: Scalar
    fever: Scalar
    flu_like: Scalar


def chances(given: Scalar, p: Parameters) -> Reactions:
    """P = 1 - exp(-f a_k sum d) for the doses ``given``, 10^6 IU, shape (doses,), of one patient with constants ``p``.

    >>> from quell.body.parameters import load
    >>> round(float(chances(jnp.array([1.0] * 21), load()).fever), 3)
    0.138
    """
    load = p.reaction_proneness * jnp.sum(given, axis=0)
    kinds = (p.reaction_any, p.reaction_injection_site, p.reaction_fever, p.reaction_flu_like)
    return Reactions(*(1 - jnp.exp(-rate * load) for rate in kinds))


def eosinophilia(highest: Scalar, p: Parameters) -> Scalar:
    """1 where the highest eosinophil count (cells/µL) passes the limit of eosinophilia, else 0."""
    return jnp.where(highest > p.eosinophilia_limit, 1.0, 0.0)

"""Which constants the evidence informs: how much narrower the posterior is than the prior, constant by constant."""

from __future__ import annotations

from typing import Any

import numpy as np

from quell.body import structure
from quell.calibrate.fit import Fitted
from quell.calibrate.rows import Term
from quell.calibrate.sample import GROUPS
from quell.calibrate.space import Space


def contraction(z: np.ndarray) -> np.ndarray:
    """1 - posterior variance / prior variance of the log, of each constant: z (..., constants), its prior variance 1.

    1 is known, 0 is as before; a little below 0 is chance.

    >>> contraction(np.array([[1.0], [-1.0]])).tolist()
    [0.0]
    """
    return 1 - z.reshape(-1, z.shape[-1]).var(axis=0)


def constants(z: np.ndarray, values: np.ndarray, where: Space) -> list[dict[str, Any]]:
    """Each uncertain constant's prior and posterior, the best informed first; values (draws, constants)."""
    shrunk = contraction(z)
    ends = np.quantile(values, (0.05, 0.5, 0.95), axis=0)
    rows = [
        {
            "constant": name,
            "contraction": round(float(shrunk[i]), 4),
            "prior_sd_of_log": float(where.spread[i]),
            "table": float(where.centre[i]),
            **{what: float(one[i]) for what, one in zip(("lower", "median", "upper"), ends, strict=True)},
        }
        for i, name in enumerate(where.names)
    ]
    return sorted(rows, key=lambda row: -row["contraction"])


def structures(numbers: np.ndarray, where: Space) -> dict[str, dict[str, float]]:
    """The posterior weight of each option of every question of structure, each a third before."""
    found = {}
    for place, question in enumerate(structure.table()):
        options = np.array([one[place] for one in where.structures])[numbers.ravel()]
        found[question.name] = {one.name: float((options == one.name).mean()) for one in question.options}
    return found


def figures(fitted: Fitted, terms: list[Term]) -> list[dict[str, Any]]:
    """Each published figure beside the body's own value over the posterior, on the natural scale of its term."""
    tau = fitted.chains.tau.reshape(-1, len(GROUPS))
    simulated = fitted.simulated.reshape(-1, len(terms))
    rows = []
    for j, term in enumerate(terms):
        spread = np.hypot(tau[:, GROUPS.index(term.group)], term.error)
        low, mid, high = np.quantile(simulated[:, j], (0.05, 0.5, 0.95))
        gap = (term.value - simulated[:, j].mean()) / np.sqrt(simulated[:, j].var() + (spread**2).mean())
        rows.append(
            term._asdict()
            | {"lower": float(low), "median": float(mid), "upper": float(high), "gap": round(float(gap), 3)}
            | {"surrogate_misses": float(fitted.misses[j])}
        )
    return rows

"""Simulation-based calibration (Talts 2018): fit studies made from known constants, and see where the truth ranks.

Constants, structure and spreads are drawn from the prior, each figure is simulated by the body with its error and
spread between studies, and the whole procedure is run on it: rounds of learning, NUTS, correction by the body. If it is
right, the truth's rank among the posterior's draws is uniform, for every constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from quell import keys
from quell.calibrate import fit, sample
from quell.calibrate.fit import Effort, Lived
from quell.calibrate.rows import SPREADS
from quell.calibrate.sample import GROUPS, Data, Length
from quell.calibrate.space import Space
from quell.calibrate.summaries import Summaries
from quell.keys import jax

EFFORT = Effort(
    rounds=(1500, 240, 300), search=Length(150, 75, accept=0.8), final=Length(200, 300, accept=0.8), proposals=80
)
BINS = 8


class Truth(NamedTuple):
    """Where a synthetic study comes from."""

    z: np.ndarray
    structure: int
    tau: np.ndarray


def truth(where: Space, key: keys.Key) -> Truth:
    """Constants, a structure and spreads from the prior."""
    z = np.asarray(jax.random.normal(keys.at(key, "z"), (len(where.names),)))
    structure = int(jax.random.randint(keys.at(key, "structure"), (), 0, len(where.structures)))
    half = np.abs(np.asarray(jax.random.normal(keys.at(key, "tau"), (len(GROUPS),))))
    return Truth(z, structure, half * np.array([SPREADS[group][0] for group in GROUPS]))


def study(one: Truth, seen: Data, summaries: Summaries, key: keys.Key) -> Data:
    """Figures as they would be published in that world: the body's own, with each study's error and deviation."""
    value = summaries(one.z[None], np.array([one.structure]))[0]
    noise = np.asarray(jax.random.normal(keys.at(key, "noise"), value.shape))
    return seen._replace(value=value + noise * np.hypot(seen.error, one.tau[seen.group]))


def rank(
    number: int, first: Lived, active: list[np.ndarray], seen: Data, summaries: Summaries, key: keys.Key
) -> dict[str, Any]:
    """One synthetic study fitted: the share of draws below the truth, for every constant and spread."""
    here = keys.at(key, "study", number)
    known = truth(summaries.where, here)
    made = study(known, seen, summaries, here)
    found = fit.fit(first, active, made, summaries, EFFORT, here, cut=False)
    draws = np.concatenate([found.chains.z, found.chains.tau], axis=-1)[:, ::5].reshape(-1, len(known.z) + len(GROUPS))
    split = np.asarray(jax.random.uniform(keys.at(here, "ties"), draws.shape[1:]))
    below = (draws < np.append(known.z, known.tau)).sum(axis=0)
    return {
        "number": number,
        "ranks": ((below + split) / (len(draws) + 1)).round(5).tolist(),
        "share": found.share,
        "pareto_k": found.tail,
        "divergences": found.chains.divergences,
    }


def uniformity(ranks: np.ndarray, bins: int = BINS) -> dict[str, np.ndarray]:
    """Chi-square of the ranks of each quantity, shape (studies, quantities), over equal bins; and its p value.

    >>> found = uniformity(((np.arange(80) + 0.5) / 80)[:, None])
    >>> found["chi_square"].tolist(), found["p"].tolist()
    ([0.0], [1.0])
    """
    expected = len(ranks) / bins
    counts = np.stack([((ranks >= i / bins) & (ranks < (i + 1) / bins)).sum(axis=0) for i in range(bins)])
    value = ((counts - expected) ** 2 / expected).sum(axis=0)
    return {"chi_square": value, "p": stats.chi2.sf(value, bins - 1)}


def informed(active: list[np.ndarray], where: Space) -> tuple[int, ...]:
    """The constants that some figure moves with: on the others ranks are uniform by construction."""
    every = np.unique(np.concatenate(active))
    return tuple(int(one) for one in every if one < len(where.names))


def begun(summaries: Summaries, key: keys.Key) -> tuple[Lived, list[np.ndarray]]:
    """What all synthetic studies share: which constants matter, and the first round over the prior."""
    seen = sample.data(summaries.terms)
    active = fit.moving(summaries, seen, summaries.tell)
    return fit.begin(summaries, EFFORT.rounds[0], keys.at(key, "shared")), active

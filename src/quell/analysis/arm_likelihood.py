"""The partial likelihood of two arms, which needs only counts: how many of each arm were at risk at each event.

Each event is one term. With Efron's ties the l-th of d events at a time sees r_a = Y_a - (l / d) d_a of arm a at risk,
which does not depend on the coefficient: so the terms are laid out once, and the log likelihood of log ratio b is

log L(b) = b d_1 - sum over terms of log(r_0 + r_1 e^b),

whose derivatives are those of a Bernoulli cumulant with p = r_1 e^b / (r_0 + r_1 e^b).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.partial_likelihood import Hill, Value


class ArmTerms(NamedTuple):
    """One term per event, trials flattened: r_1 and r_0 at risk (B, T; unused terms see nobody), and arm 1's events (B,)."""

    active: np.ndarray
    control: np.ndarray
    active_events: np.ndarray

    def rows(self, chosen: np.ndarray) -> ArmTerms:
        """The terms of some trials."""
        return ArmTerms(*(field[chosen] for field in self))

    def hill(self, penalised: bool) -> Hill:
        """The likelihood to climb, plain or with Firth's penalty."""
        return Hill(lambda b, free: evaluate(self, b, free, penalised), penalised)


def arm_terms(at_risk: np.ndarray, events: np.ndarray) -> ArmTerms:
    """Terms of Efron's likelihood from at risk and events on the rungs of a ladder: (B, M, 2), control first."""
    total = events.sum(-1).astype(np.int64)
    trial, rung = np.nonzero(total)
    d = total[trial, rung]
    rank = np.arange(d.sum()) - np.repeat(np.cumsum(d) - d, d)
    share = rank / np.repeat(d, d)
    seen = np.repeat(at_risk[trial, rung], d, 0) - share[:, None] * np.repeat(events[trial, rung], d, 0)
    of = np.repeat(trial, d)
    per_trial = total.sum(-1)
    place = np.arange(len(of)) - np.repeat(np.cumsum(per_trial) - per_trial, per_trial)
    shape = (len(total), int(per_trial.max(initial=0)))
    active, control = np.zeros(shape), np.zeros(shape)
    control[of, place], active[of, place] = seen[:, 0], seen[:, 1]
    return ArmTerms(active, control, events[..., 1].sum(-1))


def evaluate(terms: ArmTerms, b: np.ndarray, free: np.ndarray, penalised: bool) -> Value:
    """Height, gradient and information at b (B, 1), which counts as absent where it is not free (B, 1)."""
    w = np.exp(np.clip(b, -500, 500))
    one = terms.active * w
    total = one + terms.control
    used = total > 0
    total = np.where(used, total, 1.0)
    p = one / total
    spread = p * (1 - p)
    height = terms.active_events * b[:, 0] - np.log(total).sum(-1)
    gradient = terms.active_events - p.sum(-1)
    information = spread.sum(-1)
    matrix = information[:, None, None]
    if not penalised:
        return Value(height, gradient[:, None], matrix)
    positive = information > 0
    safe = np.where(positive, information, 1.0)
    # first and second derivatives of the information: third and fourth Bernoulli cumulants
    first = np.where(positive, (spread * (1 - 2 * p)).sum(-1) / safe, 0.0)
    second = np.where(positive, (spread * (1 - 6 * spread)).sum(-1) / safe, 0.0)
    height = height + np.where(free[:, 0], np.where(positive, np.log(safe), -np.inf), 0.0) / 2
    curvature = information - (second - first**2) / 2
    return Value(height, (gradient + first / 2)[:, None], matrix, curvature[:, None, None])

"""The model of a study: constants of the population, of each person, and what was read; sampled in ``chains``.

    theta_k = centre_k + sigma_k zeta_k                      log of the population's constant, zeta ~ N(0, 1)
    omega_k = spread_k exp(0.25 eta_k)                       between people, eta ~ N(0, 1): the table's, a quarter uncertain
    x_ik    ~ N(theta_k + omega_k m_ik, (omega_k c_k)^2)     a person's log constant; m, c from covariates
    log reading ~ N(log truth - s^2 / 2, s^2 + miss^2)       of blood; below the limit, the chance of that
    TBRmax  ~ N(truth, scan and vessel)                      vessels of one scan share the error of the scan

Non-centred: zeta and a person's x are not sampled as such but as what is left of them once the normal approximation about
the mode (``mode``) is taken out, so that every coordinate is nearly N(0, 1) and nearly independent; densities are exact.
People were chosen by a first reading of hsCRP: each likelihood is divided by the chance of being so chosen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell.calibrate import shapes
from quell.calibrate.choice import Choice
from quell.calibrate.followed import Followed, errors, expected
from quell.keys import jax
from quell.measure import assay, pet
from quell.protocol import Protocol

UNSURE = 0.25  # of the log of a spread between people
NODES = 7  # of the normal quadrature over who would have been chosen


class Entry(NamedTuple):
    """The rule that let people in: hsCRP at a visit above a limit; visit -1 is no rule."""

    visit: int
    limit: float


class Model(NamedTuple):
    """Everything the likelihood needs."""

    who: Followed
    choice: Choice
    shapes: shapes.Shapes
    missed: np.ndarray  # (people, visits, kinds)
    mean: np.ndarray  # (people, personal constants) of the normal score, by covariates
    left: np.ndarray  # (personal constants,)
    entry: Entry


class Mode(NamedTuple):
    """The normal approximation about the most probable, and how it moves as people differ more or less.

        zeta = mode + root v          eta = mode + deviation e          x_i = mode_i + along_i (zeta - mode) + shift_i r + R_i(r) u

    r = log omega / omega at the mode. With L_i the curvature of a person, S_i = L_i^-1 and W = 1 / (omega c)^2, to first order
    dx_i / dr = S_i W (2 (x_i - middle_i) + omega m_i) and R_i R_i' = S_i + 2 S_i W r S_i.
    """

    zeta: np.ndarray  # (fitted,)
    own: np.ndarray  # (people, personal)
    root: np.ndarray  # (fitted, fitted)
    along: np.ndarray  # (people, personal, fitted)
    roots: np.ndarray  # (people, personal, personal), lower triangles
    eta: np.ndarray  # (personal,)
    deviation: np.ndarray  # (personal,) of eta
    pull: np.ndarray  # (personal,) W
    shift: np.ndarray  # (people, personal, personal)

    def at(self, common: Any, spread: Any, score: Any, unsure: np.ndarray) -> Place:
        """Coordinates nearly N(0, 1) as scores of the population and of spreads, and people's own constants."""
        gap, away = self.root @ common, self.deviation * spread
        wider = unsure * away
        inner = jnp.einsum("npq,p,npr->nqr", self.roots, self.pull * wider, self.roots)
        grown = jnp.diagonal(inner, axis1=1, axis2=2)
        # lower triangular K with K + K' = 2 inner: its determinant is exact
        turned = jnp.exp(grown) * score + 2 * (jnp.tril(inner, -1) @ score[..., None])[..., 0]
        own = self.own + self.along @ gap + self.shift @ wider + jnp.einsum("npq,nq->np", self.roots, turned)
        return Place(self.zeta + gap, self.eta + away, own, grown.sum())


class Place(NamedTuple):
    """Scores of the population and of spreads, people's own constants, and the log of the volume that coordinates take up there."""

    zeta: Any
    eta: Any
    own: Any
    volume: Any


class Draws(NamedTuple):
    """Draws of shape (chains, draws, ...): logs of constants of the population, spreads, logs of people's own constants."""

    theta: np.ndarray  # (..., constants)
    omega: np.ndarray  # (..., personal constants)
    own: np.ndarray  # (..., people, personal constants)
    diverging: np.ndarray
    energy: np.ndarray
    steps: np.ndarray
    density: np.ndarray  # log, up to a constant

    def flat(self) -> Draws:
        """The chains end to end."""
        return Draws(*(x.reshape(-1, *x.shape[2:]) for x in self))

    def every(self, count: int) -> Draws:
        """About so many draws of each chain, evenly."""
        step = max(1, self.theta.shape[1] // count)
        return Draws(*(x[:, step - 1 :: step] for x in self))

    def people(self, choice: Choice) -> np.ndarray:
        """Logs of all constants of each person, (..., people, constants)."""
        x = np.repeat(self.theta[..., None, :], self.own.shape[-2], axis=-2)
        x[..., choice.personal] = self.own
        return x


def entry(who: Followed, protocol: Protocol) -> Entry:
    """The protocol's rule on hsCRP, where the reading it was applied to is in the study."""
    screening = next((v.name for v in protocol.visits if v.kind == "screening" and "hsCRP" in v.procedures), "")
    if screening in who.visits and any(kind.name == "hsCRP" for kind in who.kinds):
        for one in protocol.population.eligibility:
            if one.quantity == "hsCRP" and one.limit.relation in ("above", "at least"):
                return Entry(who.visits.index(screening), one.limit.value)
    return Entry(-1, 0.0)


def build(who: Followed, choice: Choice, protocol: Protocol, learned: shapes.Shapes, missed: np.ndarray) -> Model:
    """The model before anything is known of where people lie."""
    personal = choice.personal
    mean, left = expected(who.people, [choice.names[k] for k in personal], protocol.population.people)
    return Model(
        who=who,
        choice=choice,
        shapes=learned,
        missed=missed,
        mean=mean,
        left=left,
        entry=entry(who, protocol),
    )


def learned(model: Model) -> Any:
    """What of a model changes as the shapes are learned again: arrays, which a compiled program takes as arguments."""
    return [[(p.middle, p.width, p.weights) for p in group.values()] for group in model.shapes.pieces], model.missed


def relearned(model: Model, arrays: Any) -> Model:
    """The model with those arrays."""
    groups, missed = arrays
    pieces = tuple(
        {
            name: piece._replace(middle=a, width=b, weights=c)
            for (name, piece), (a, b, c) in zip(old.items(), new, strict=True)
        }
        for old, new in zip(model.shapes.pieces, groups, strict=True)
    )
    return model._replace(shapes=model.shapes._replace(pieces=pieces), missed=missed)


def constants(model: Model, theta: Any, own: Any) -> Any:
    """Logs of all constants of each person: (people, constants)."""
    put = shapes.taking(model.choice.personal, len(model.choice.names))
    return theta * (1 - put.sum(axis=0)) + own @ put


def readings(model: Model, x: Any) -> list[Any]:
    """What would be read without error, by kind: (people, visits) at logs of constants x."""
    names, visits = model.choice.names, len(model.who.visits)
    scale = {name: x[:, names.index(name), None] for kind in model.who.kinds for name in kind.scale}
    return shapes.expected(model.who.kinds, shapes.evaluate(model.shapes, shapes.bent(names, x), visits), scale)


# -- likelihood ------------------------------------------------------------------------------------------------------
def likelihood(who: Followed, read: list[Any], missed: Any, xp: Any = jnp) -> Any:
    """Log likelihood of each person's readings: ``read`` by kind (..., people, visits); shape (..., people)."""
    vessels = [k for k, kind in enumerate(who.kinds) if kind.location]
    total = sum(
        _blood(who, k, read[k], missed[..., k], xp).sum(axis=-1) for k in range(len(who.kinds)) if k not in vessels
    )
    if vessels:
        gaps = xp.stack([who.value[:, :, k] - read[k] for k in vessels], axis=-1)
        total = total + _scan(gaps, np.isfinite(who.value[:, :, vessels]), missed[..., vessels], xp).sum(axis=-1)
    return total


def _blood(who: Followed, k: int, truth: Any, missed: Any, xp: Any) -> Any:
    """One blood test: normal in the log, its rounding counted; below the limit, the chance of a reading so low."""
    test = assay.by_name()[who.kinds[k].name]
    spread = float(errors((who.kinds[k],))[0])
    value, below = np.nan_to_num(who.value[:, :, k], nan=1.0), who.below[:, :, k]
    rounding = 10.0**-test.decimals / np.sqrt(12) / value
    sd = xp.sqrt(spread**2 + rounding**2 * ~below + missed**2)
    mean = truth - spread**2 / 2
    z = (np.log(value) - mean) / sd
    found = -0.5 * z**2 - xp.log(sd)
    if below.any():
        low = jax.scipy.special.log_ndtr((np.log(test.limit) - mean) / sd)
        found = xp.where(below, low, found)
    return xp.where(np.isfinite(who.value[:, :, k]), found, 0.0)


def _scan(gaps: Any, there: np.ndarray, missed: Any, xp: Any) -> Any:
    """Vessels of one scan: log N(gaps; 0, diag(v) + c), c the variance of the scan that all share (Sherman and Morrison 1950)."""
    instrument = pet.pet()
    vessel = errors_of_vessel()
    weight = there / (vessel**2 + missed**2)
    gaps, c = xp.where(there, gaps, 0.0), instrument.scan_sd**2
    along, total = (weight * gaps).sum(axis=-1), weight.sum(axis=-1)
    quadratic = (weight * gaps**2).sum(axis=-1) - c * along**2 / (1 + c * total)
    logs = xp.where(there, xp.log(vessel**2 + missed**2), 0.0).sum(axis=-1) + xp.log1p(c * total)
    return -0.5 * (quadratic + logs)


def errors_of_vessel() -> float:
    """The standard deviation of a vessel's TBRmax beyond what all vessels of a scan share."""
    instrument = pet.pet()
    return float(np.hypot(instrument.vessel_sd, instrument.slice_sd / np.sqrt(instrument.slices)))


def _chosen(model: Model, theta: Any, omega: Any) -> Any:
    """Log of the chance that each person's like would have been let in: a quadrature over resting and surging hsCRP."""
    names = model.choice.names
    rest, surge = (names.index(name) for name in ("residual_crp", "surge"))
    kept = model.choice.personal.tolist()
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()

    def at(k: int) -> Any:
        """(people, nodes): logs of the constant over the population, given covariates."""
        j = kept.index(k)
        return theta[k] + omega[j] * (model.mean[:, j, None] + model.left[j] * nodes)

    own = theta[None, :] + jnp.zeros((len(model.who.subjects), 1))
    made = shapes.evaluate(model.shapes, shapes.bent(names, own), len(model.who.visits))
    a, b = (made[part][:, model.entry.visit, None] for part in shapes.CRP)
    level = jnp.logaddexp((at(rest) + a)[:, :, None], (at(surge) + b)[:, None, :])
    test = assay.by_name()["hsCRP"]
    spread = np.hypot(test.analytic, test.within_person)
    chance = jax.scipy.special.ndtr((level - spread**2 / 2 - np.log(model.entry.limit)) / spread)
    return jnp.log((chance * weights[:, None] * weights).sum(axis=(1, 2)))


def density(model: Model, zeta: Any, eta: Any, own: Any) -> Any:
    """Log density of everything, up to a constant: scores of the population, of spreads, and people's own constants."""
    choice = model.choice
    theta, omega = population(choice, zeta, eta)
    usual = shapes.taking(choice.personal, len(choice.names)) @ theta
    middle, width = usual + omega * model.mean, omega * model.left
    people = (-0.5 * ((own - middle) / width) ** 2 - jnp.log(width)).sum()
    read = readings(model, constants(model, theta, own))
    total = people + likelihood(model.who, read, model.missed).sum() - 0.5 * (zeta**2).sum() - 0.5 * (eta**2).sum()
    return total - _chosen(model, theta, omega).sum() if model.entry.visit >= 0 else total


def population(choice: Choice, zeta: Any, eta: Any) -> tuple[Any, Any]:
    """Logs of the population's constants, and spreads between people."""
    theta = choice.centre + (choice.sigma[choice.population] * zeta) @ shapes.taking(
        choice.population, len(choice.names)
    )
    return theta, choice.spread[choice.personal] * jnp.exp(unsure(choice) * eta)


def unsure(choice: Choice) -> np.ndarray:
    """The prior's deviation of the log of each spread between people; zero where the table's is kept."""
    return UNSURE * choice.loose

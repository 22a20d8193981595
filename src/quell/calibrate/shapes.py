"""Each person's readings as smooth functions of a few constants: exact where the body is, a polynomial where it is curved.

    log cells      = sum log(scale) + s                          scale: the person's usual counts
    logit Treg %   = logit(treg_share) + s
    hsCRP          = residual_crp e^s + surge e^s'               linear in both: calming divides them
    TBRmax - 1     = uptake (e^s + recruitment e^s')             likewise

Only the shapes s are learned, person by person at his or her own days and doses, by ridge regression (as in ``surrogate``) on
lives of the body itself. Constants that are not fitted vary in those lives as people do, so what a shape misses, and
``misses`` measures by leaving lives out, holds what they do too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from quell import blocks, keys
from quell.body import course
from quell.body.parameters import WIDER, Parameters, load, spreads
from quell.calibrate.followed import Followed, Kind
from quell.calibrate.surrogate import CURVED, PENALTIES
from quell.keys import jax

CRP = ("crp resting", "crp surging")
WALL = ("wall resident", "wall recruited")
SURGING = ("surge", "recruitment")  # without them only the first of each pair is left
TINY = 1e-12
STEP = 0.01  # a shape that one step of a constant moves by less is taken not to depend on it


def parts(kind: Kind) -> tuple[str, ...]:
    """The shapes from which readings of a kind are put together."""
    return CRP if kind.name == "hsCRP" else WALL if kind.location else (kind.observable,)


@functools.cache
def _undisturbed() -> blocks.Program:
    """What could be seen of a person who has had no drug, on study day 1."""

    def one(patient: Any, p: Parameters) -> course.Observed:
        return course.observe(course.start(patient, p, 1), course.person(patient, p))

    return blocks.Program(one, identity=("undisturbed person",))


def body(
    who: Followed, values: dict[str, np.ndarray], own: dict[str, np.ndarray], day: np.ndarray | None = None
) -> course.Observed:
    """Readings without error, fields of shape (lives, people, visits), on each person's own days or on those given.

    ``values`` holds constants, shape (lives, people); ``own`` people's factors on the other constants, of the same shape.
    """
    lives, people = next(iter(values.values())).shape
    day = who.day if day is None else day
    flat = lambda x: np.broadcast_to(x, (lives, *np.shape(x))).reshape(lives * people, *np.shape(x)[1:])  # noqa: E731
    patients = jax.tree.map(flat, who.people)
    patients = patients._replace(own=patients.own | {name: x.reshape(-1) for name, x in own.items()})
    constants = {name: np.full(lives * people, float(one)) for name, one in load()._asdict().items()}
    constants |= dict.fromkeys(
        WIDER.values(), np.ones(lives * people)
    )  # factors here are people's whole, whatever the table
    p = Parameters(**constants | {name: x.reshape(-1) for name, x in values.items()})
    read = np.unique(np.maximum(day, 1))
    grid = course.mesh(who.dose_days, tuple(read.tolist()), int(max(*read, *who.dose_days, 2)))
    seen = course.many(patients, flat(who.amounts), p, grid).observed
    place = np.searchsorted(read, np.maximum(day, 1))[None]
    late = course.Observed(*(np.take_along_axis(x.reshape(lives, people, -1), place, axis=2) for x in seen))
    for v in np.flatnonzero(
        (day < 1).any(axis=0)
    ):  # before the drug: day 1 of somebody whose event is that much nearer
        since = patients.days_since_infarction + flat(np.minimum(day[:, v], 1)) - 1
        early = blocks.over(_undisturbed(), patients._replace(days_since_infarction=since), p)
        for x, before in zip(late, early, strict=True):
            x[:, :, v] = np.where(day[:, v] < 1, before.reshape(lives, people), x[:, :, v])
    return late


def live(who: Followed, values: dict[str, np.ndarray], own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The shapes that the body makes of constants, (lives, people, visits): each life twice, with surge and without."""
    base = load()
    mine = {name: own.get(name, 1.0) * values.get(name, getattr(base, name)) for name in Parameters._fields}
    whole = body(who, values, own)
    calm = body(who, values | dict.fromkeys(SURGING, np.zeros_like(next(iter(values.values())))), own)
    found: dict[str, np.ndarray] = {}
    for kind in who.kinds:
        full, rest = (getattr(one, kind.observable) for one in (whole, calm))
        scale = [np.asarray(mine[name])[..., None] if np.ndim(mine[name]) else mine[name] for name in kind.scale]
        if kind.name == "hsCRP":
            found |= dict(zip(CRP, (_log(rest / scale[0]), _log((full - rest) / scale[1])), strict=True))
        elif kind.location:
            rise = (_log((rest - 1) / scale[0]), _log((full - rest) / scale[0] / scale[1]))
            found |= dict(zip(WALL, rise, strict=True))
        elif kind.name == "Treg %":
            share = full / 100
            found[kind.observable] = _log(share / (1 - share)) - _log(scale[0] / (1 - scale[0]))
        else:
            found[kind.observable] = _log(full / np.prod(np.broadcast_arrays(*scale), axis=0))
    return found


def _log(x: Any) -> np.ndarray:
    return np.log(np.maximum(x, TINY))


class Piece(NamedTuple):
    """One part's polynomials over some people: of the constants ``active``, at the visits ``visits``."""

    active: np.ndarray  # (d,) places among the constants
    visits: np.ndarray  # (v,) those at which it is wanted
    middle: np.ndarray  # (people, d)
    width: np.ndarray  # (people, d)
    weights: np.ndarray  # (people, v, 1 + d + d(d+1)/2)


class Shapes(NamedTuple):
    """All parts, over people without a dose and with one; and what they miss, (people, visits), on the scale of logs."""

    people: tuple[np.ndarray, ...]  # of each group, their places
    pieces: tuple[dict[str, Piece], ...]
    misses: dict[str, np.ndarray]


def basis(scaled: Any, xp: Any = jnp) -> Any:
    """1, x_i and x_i x_j of each row: (..., d) to (..., 1 + d + d(d+1)/2)."""
    first, second = (taking(places, scaled.shape[-1]).T for places in np.triu_indices(scaled.shape[-1]))
    return xp.concatenate(
        [xp.ones_like(scaled[..., :1]), scaled, CURVED * (scaled @ first) * (scaled @ second)], axis=-1
    )


def taking(places: np.ndarray, count: int) -> np.ndarray:
    """The matrix that takes some of so many rows: a product with it, and with its transpose to put them back, compiles and runs
    faster under differentiation than indexing does."""
    return np.eye(count)[places]


def bent(names: Sequence[str], x: Any, xp: Any = jnp) -> Any:
    """Logs of constants, but on a scale on which shapes bend least where a log would run away from where it is known."""
    return xp.stack(
        [BENDS[name](x[..., i], xp) if name in BENDS else x[..., i] for i, name in enumerate(names)], axis=-1
    )


# no calming is zero and much is a log; shares end at 0 and 1 (as in ``space.ENDS_AT_ONE``)
BENDS: dict[str, Callable[[Any, Any], Any]] = {
    "calming": lambda x, xp: xp.log1p(2 * xp.exp(x)),
    "niche": lambda x, xp: 1 / (1 + xp.exp(x)),
    "depletion": lambda x, xp: 1 / (1 + 0.3 * xp.exp(-x)),
}
FARTHEST = 5.0  # widths from the middle beyond which a shape stays as it is


def wanted(who: Followed) -> dict[str, np.ndarray]:
    """At which visits each part is needed: those with a reading of it."""
    found: dict[str, np.ndarray] = {}
    for k, kind in enumerate(who.kinds):
        there = np.isfinite(who.value[:, :, k]).any(axis=0)
        found |= {part: found.get(part, False) | there for part in parts(kind)}
    return {part: np.flatnonzero(there) for part, there in found.items()}


def learn(
    who: Followed, x: np.ndarray, shapes: dict[str, np.ndarray], moved: dict[str, np.ndarray], weights: np.ndarray
) -> Shapes:
    """Polynomials from lives: x (lives, people, constants) as ``bent``, ``moved`` (people, constants) whether each moves a part."""
    groups = tuple(g for g in (np.flatnonzero(~who.treated), np.flatnonzero(who.treated)) if len(g))
    misses = {part: np.zeros(who.day.shape) for part in shapes}
    pieces = []
    for group in groups:
        found: dict[str, Piece] = {}
        for part, visits in wanted(who).items():
            active = np.flatnonzero(moved[part][group].any(axis=0))
            active = active if len(active) else np.array([0])
            rows = [
                _one(x[:, i][:, active], shapes[part][:, i][:, visits], weights[:, i] if weights.ndim > 1 else weights)
                for i in group
            ]
            middle, width, coefficients, miss = (np.array(one) for one in zip(*rows, strict=True))
            found[part] = Piece(active, visits, middle, width, coefficients)
            misses[part][np.ix_(group, visits)] = miss
        pieces.append(found)
    return Shapes(groups, tuple(pieces), misses)


def _one(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """One person's part: where its scale begins and how wide it is, coefficients (visits, terms), and misses (visits,)."""
    share, root = weights / weights.sum(), np.sqrt(weights)[:, None]
    middle = share @ x
    width = np.sqrt(share @ (x - middle) ** 2) + 1e-9
    columns = basis((x - middle) / width, np)[:, 1:]
    centre, level = share @ columns, share @ y
    u, s, v = np.linalg.svd(root * (columns - centre), full_matrices=False)
    target = root * (y - level)
    along = u.T @ target
    best, shrunk = np.full(y.shape[1], np.inf), np.zeros((len(s), y.shape[1]))
    for penalty in PENALTIES * s[0] ** 2 / 100:
        shrink = s**2 / (s**2 + penalty)
        left = (target - u @ (shrink[:, None] * along)) / np.maximum(1 - u**2 @ shrink - share, 1e-3)[:, None]
        miss = np.sqrt((left**2).sum(axis=0) / weights.sum())
        better = miss < best
        best = np.where(better, miss, best)
        shrunk = np.where(better, (shrink / np.maximum(s, TINY))[:, None] * along, shrunk)
    slopes = v.T @ shrunk
    return middle, width, np.concatenate([[level - centre @ slopes], slopes]).T, best


def evaluate(one: Shapes, x: Any, visits: int) -> dict[str, Any]:
    """Shapes at constants x (people, constants) as ``bent``: (people, visits) by part; zero where nobody was read."""
    found = {part: jnp.zeros((x.shape[0], visits)) for part in one.misses}
    for group, pieces in zip(one.people, one.pieces, strict=True):
        people = taking(group, x.shape[0])
        for part, piece in pieces.items():
            mine = people @ x @ taking(piece.active, x.shape[1]).T
            scaled = jnp.clip((mine - piece.middle) / piece.width, -FARTHEST, FARTHEST)
            s = (piece.weights @ basis(scaled)[..., None])[..., 0]
            found[part] = found[part] + people.T @ s @ taking(piece.visits, visits)
    return found


def expected(kinds: Sequence[Kind], shapes: dict[str, Any], scale: dict[str, Any], xp: Any = jnp) -> list[Any]:
    """What would be read without error, in order of kinds: logs of blood, and TBR; shapes (..., visits), ``scale`` logs (..., 1)."""
    found = []
    for kind in kinds:
        a = [scale[name] for name in kind.scale]
        s = [shapes[part] for part in parts(kind)]
        if kind.name == "hsCRP":
            found.append(xp.logaddexp(a[0] + s[0], a[1] + s[1]))
        elif kind.location:
            found.append(1 + xp.exp(a[0]) * (xp.exp(s[0]) + xp.exp(a[1] + s[1])))
        elif kind.name == "Treg %":
            share = xp.minimum(a[0], -0.05)  # a share stays below 1
            found.append(np.log(100.0) - xp.logaddexp(0.0, -(share - xp.log1p(-xp.exp(share)) + s[0])))
        else:
            found.append(sum(a) + s[0])
    return found


def missed(kinds: Sequence[Kind], one: Shapes, tbr: np.ndarray) -> np.ndarray:
    """The error of the shapes in each reading, (people, visits, kinds): of logs, and for vessels of TBR about ``tbr``."""
    found = []
    for k, kind in enumerate(kinds):
        worst = np.max([one.misses[part] for part in parts(kind)], axis=0)
        found.append(worst * np.maximum(tbr[:, :, k] - 1, 0.1) if kind.location else worst)
    return np.stack(found, axis=-1)


def others(key: keys.Key, fitted: Sequence[str], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """People's factors on the constants that are not fitted, drawn as people differ: exp(spread z)."""
    return {
        name: np.exp(spread * np.asarray(jax.random.normal(keys.at(key, name), shape)))
        for name, spread in spreads().items()
        if name not in fitted
    }

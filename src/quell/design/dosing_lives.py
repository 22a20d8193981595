"""Lives under a schedule together with their slopes: what an infinitesimal change of doses would do, at the speed of lives.

The machine of ``body.course`` is run on dual numbers (Wengert 1964, doi:10.1145/355586.364791): every piece is
differentiated by JAX and lowered to the same native code, so a life and its derivative cost about two lives. A direction
says how the dose of each injection changes; the derivative along it is exact to rounding, not a difference of two lives.
Thresholds of fate are out of reach, so nothing happens by chance: hazards gather in an undisturbed life.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special

from quell.body import course, risk
from quell.body.parameters import Parameters
from quell.body.population import Patient
from quell.body.steps import INJECT, STRIKE, Mesh, closer, mesh, tape
from quell.keys import jax
from quell.machine import Machine, Tape
from quell.measure import assay

NUDGE = STRIKE + 1  # the piece that changes a dose; comes after the pieces of ``course``
HYPEREOSINOPHILIA = 1500.0  # cells/µL, Valent 2012 (doi:10.1016/j.jaci.2012.02.019)
READ_EVERY, QUIET_EVERY = 3, 28  # days between readings while dosing and three weeks after; later
AFTER = 21


class Dual(NamedTuple):
    """A moment, and the slope of what drug can move in it."""

    now: course.Moment
    slope: tuple[Any, ...]


class Seen(NamedTuple):
    """What is read: hazards gathered since day 1, cells per µL, and the wall."""

    infarction: Any
    stroke: Any
    cardiovascular_death: Any
    treg: Any
    teff: Any
    nk: Any
    eosinophils: Any
    tbr: Any


def _active(now: course.Moment) -> tuple[Any, ...]:
    return now.blood, now.tissue, now.offers, now.rates, now.loss[0]


def _with(now: course.Moment, parts: tuple[Any, ...]) -> course.Moment:
    blood, tissue, offers, rates, loss = parts
    return now._replace(blood=blood, tissue=tissue, offers=offers, rates=rates, loss=(loss, now.loss[1]))


def _begin(inputs: Any) -> tuple[Dual, Any]:
    now, who = course.begin(inputs)
    return Dual(now, jax.tree.map(lambda _: jnp.zeros(()), _active(now))), who


def _dual(piece: Any) -> Any:
    """A piece of a life, and its derivative along the slope."""

    def done(state: Dual, who: Any, by: Any, at: Any, amount: Any) -> Dual:
        def moved(parts: tuple[Any, ...]) -> Any:
            return piece(_with(state.now, parts), who, by, at, amount)

        after, slope = jax.jvp(moved, (_active(state.now),), (state.slope,))
        return Dual(after, _active(slope))

    return done


def _nothing(state: Dual, who: Any, by: Any, at: Any, amount: Any) -> Dual:
    """No infarction strikes where thresholds are out of reach."""
    return state


def _nudge(state: Dual, who: Any, by: Any, at: Any, amount: Any) -> Dual:
    """The dose just given changes by ``amount`` for every unit of the direction."""
    blood, *rest = state.slope
    return state._replace(slope=(blood._replace(depot=blood.depot + who.kinetics.absorbed * amount), *rest))


def _emit(state: Dual, who: Any) -> tuple[Seen, Seen]:
    def seen(parts: tuple[Any, ...]) -> Seen:
        blood, tissue, *_ = parts
        x = course.observe(course.State(blood, tissue), who)
        gathered = (tissue.infarction, tissue.stroke, tissue.cardiovascular_death)
        return Seen(*gathered, x.treg, x.teff, x.nk, x.eosinophils, x.tbr_coronary)

    return jax.jvp(seen, (_active(state.now),), (state.slope,))


def _finish(state: Dual, who: Any) -> Any:
    return state.now.doubt


PIECES = {name: _nothing if name == "strike" else _dual(piece) for name, piece in course.PIECES.items()}
MACHINE = Machine(
    identity=("lives with slopes",),
    begin=_begin,
    pace=course.pace,
    pieces=PIECES | {"nudge": _nudge},
    emit=_emit,
    finish=_finish,
)


def _instructions(grid: Mesh) -> Tape:
    """The calendar's instructions with a nudge after every injection; its direction stands behind the amounts."""
    given, doses = tape(grid), len(grid.dose_days)
    times = np.where(given.piece == INJECT, 2, 1)
    again = np.repeat(np.arange(len(times)), times)
    second = np.r_[False, again[1:] == again[:-1]]
    piece, column = given.piece[again], given.column[again]
    return Tape(
        given.lengths,
        np.where(second, NUDGE, piece).astype(np.int32),
        given.level[again],
        given.argument[again],
        np.where(second, column + doses, column).astype(np.int32),
    )


class Group(NamedTuple):
    """The same people in every drawn set of constants: (draws x people,) of each, draws outermost."""

    patients: Patient
    constants: Parameters
    draws: int

    @property
    def inputs(self) -> tuple[Patient, Parameters]:
        """What the machine takes; every threshold of fate is out of reach."""
        fate = risk.Causes((np.inf,) * risk.SUCCESSIVE, *(np.inf for _ in risk.ONCE))
        return self.patients._replace(thresholds=fate), self.constants


def group(patients: Patient, constants: Parameters) -> Group:
    """Every person in every world; ``constants`` are arrays of shape (draws,)."""
    draws, people = len(constants.growth), len(patients.age)
    everybody = jax.tree.map(lambda x: np.tile(x, (draws,) + (1,) * (np.ndim(x) - 1)), patients)
    return Group(everybody, Parameters(*(np.repeat(np.asarray(one, float), people) for one in constants)), draws)


class Effect(NamedTuple):
    """What a schedule does to each life, against the same life untreated; or the slope of it along the direction.

    ``fall``: of the gathered hazard (events a person); ``wall``: of coronary TBR, mean over the horizon; ``treg``: rise over
    day 1, mean from the first dose to the last; ``teff``, ``nk``: highest rise over day 1; ``eosinophilia`` and
    ``hypereosinophilia``: chance that the highest reading passes its limit.
    """

    fall: np.ndarray
    wall: np.ndarray
    treg: np.ndarray
    teff: np.ndarray
    nk: np.ndarray
    eosinophilia: np.ndarray
    hypereosinophilia: np.ndarray


CAUSES = {"infarction": ("infarction",), "MACE": ("infarction", "stroke", "cardiovascular_death")}


def read_days(days: tuple[int, ...], horizon: int) -> tuple[int, ...]:
    """Study days on which lives are read: every third while dosing and three weeks after, then every fourth week.

    >>> read_days((1, 2), 60)
    (1, 4, 7, 10, 13, 16, 19, 22, 29, 57, 61)
    """
    busy = range(1, min(days[-1] + AFTER, horizon + 1), READ_EVERY)
    return tuple(sorted({*busy, *range(1, horizon + 1, QUIET_EVERY), horizon + 1}))


def effects(
    who: Group,
    days: tuple[int, ...],
    amounts: np.ndarray,
    directions: np.ndarray,
    *,
    horizon: int,
    benefit: str,
    times: int = 1,
) -> tuple[Effect, Effect, np.ndarray]:
    """The effect of doses on every life, its slope along ``directions``, and the untreated gathered hazard.

    ``amounts`` (10^6 IU) and ``directions`` have the shape (lives, days) or (days,); so have all results (lives,).
    ``times`` halves, ... the steps, to see the numerical error. A life that leaves the valid range (cells without limit)
    has no benefit, and counts as hypereosinophilic; its rises are not a number.
    """  # fmt: skip
    lives = len(who.patients.age)
    reads = read_days(days, horizon)
    grid = mesh(days, reads, horizon + 1)
    both = np.concatenate([np.broadcast_to(one, (lives, len(days))) for one in (amounts, directions)], axis=1)
    instructions = _instructions(closer(grid, times) if times > 1 else grid)
    (seen, slope), _ = MACHINE.run(who.inputs, both, instructions)
    none = np.zeros((lives, 0))
    (alone, _), _ = MACHINE.run(who.inputs, none, _instructions(mesh((), reads, horizon + 1)))
    control = sum(getattr(alone, name)[:, -1] for name in CAUSES[benefit])
    span = np.asarray(reads) <= days[-1]
    value, change = _effect(seen, slope, alone, (np.asarray(reads, float), span), (benefit, who.constants))
    return value, change, np.asarray(control)


def _effect(seen: Seen, slope: Seen, alone: Seen, when: Any, how: Any) -> tuple[Effect, Effect]:
    """An effect and its slope from readings (lives, days); rules of differentiation by hand, for a few lines of them."""
    (days, span), (benefit, constants) = when, how
    share = np.gradient(days) / np.gradient(days).sum()  # of the horizon, around each reading
    fall = sum(getattr(alone, name)[:, -1] - getattr(seen, name)[:, -1] for name in CAUSES[benefit])
    d_fall = -sum(getattr(slope, name)[:, -1] for name in CAUSES[benefit])
    highest, d_highest = _highest(seen.eosinophils, slope.eosinophils)
    usual, d_usual = _passing(highest, d_highest, constants.eosinophilia_limit)
    high, d_high = _passing(highest, d_highest, HYPEREOSINOPHILIA)
    before, _ = _passing(*_highest(alone.eosinophils, alone.eosinophils), HYPEREOSINOPHILIA)
    kept, d_kept = np.minimum((1 - high) / (1 - before), 1.0), np.where(high > before, -d_high / (1 - before), 0.0)
    value = {"fall": fall * kept, "wall": ((alone.tbr - seen.tbr) @ share) * kept}
    change = {"fall": d_fall * kept + fall * d_kept, "wall": -(slope.tbr @ share) * kept}
    change["wall"] += ((alone.tbr - seen.tbr) @ share) * d_kept
    for name in ("treg", "teff", "nk"):
        first = getattr(seen, name)[:, :1]
        rise, d_rise = getattr(seen, name) / first - 1, getattr(slope, name) / first
        mean = (rise[:, span].mean(axis=1), d_rise[:, span].mean(axis=1))
        value[name], change[name] = mean if name == "treg" else _highest(rise, d_rise)
    value |= {"eosinophilia": usual, "hypereosinophilia": high}
    change |= {"eosinophilia": d_usual, "hypereosinophilia": d_high}
    return _sound(Effect(**value), Effect(**change))


def _highest(x: np.ndarray, dx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest reading of each life and its slope (that of the reading which is highest)."""
    at = np.where(np.isnan(x), np.inf, x).argmax(axis=1)[:, None]
    return np.take_along_axis(x, at, axis=1)[:, 0], np.take_along_axis(dx, at, axis=1)[:, 0]


def _passing(highest: np.ndarray, change: np.ndarray, limit: Any) -> tuple[np.ndarray, np.ndarray]:
    """The chance that a reading of a true count passes a limit, readings varying as ``measure.assay`` says; and its slope."""
    test = assay.by_name()["eosinophils"]
    spread = np.hypot(test.analytic, test.within_person)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = np.log(highest / limit) / spread - spread / 2
        density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
        slope = density / spread * change / highest
    chance = np.where(np.isfinite(highest), special.ndtr(z), 1.0)
    return chance, np.where(np.isfinite(slope) & np.isfinite(highest), slope, 0.0)


def _sound(value: Effect, change: Effect) -> tuple[Effect, Effect]:
    """Lives that left the valid range: no benefit, hypereosinophilic, and no rise that could be told."""
    fine = np.isfinite(value.fall) & np.isfinite(change.fall) & np.isfinite(value.teff) & np.isfinite(value.treg)
    lost = {"fall": 0.0, "wall": 0.0, "eosinophilia": 1.0, "hypereosinophilia": 1.0}
    told = Effect(
        *(np.where(fine, one, lost.get(name, np.nan)) for name, one in zip(Effect._fields, value, strict=True))
    )
    still = Effect(
        *(
            np.where(fine, one, 0.0 if name in lost else np.nan)
            for name, one in zip(Effect._fields, change, strict=True)
        )
    )
    return told, still


def by_draw(effect: Effect, draws: int) -> np.ndarray:
    """Means over people of each draw, shape (draws, parts of an effect); lives that say nothing are left out."""
    with np.errstate(invalid="ignore"):
        parts = [np.nanmean(one.reshape(draws, -1), axis=1) for one in effect]
    return np.nan_to_num(np.stack(parts, axis=1))

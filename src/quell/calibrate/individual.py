"""The model of one person fitted to a study: constants of the population, each person's own, and what they foretell.

    the study's tables (``followed``) -> which constants it informs (``choice``) -> each person's readings as smooth functions
    of them, learned from the body (``shapes``) -> the mode (``mode``), NUTS about it (``hierarchy``) -> each person's draws put
    to the body itself (``correct``), and predictions by it

Constants that are not fitted stay at the table's value, people varying about them as the table says.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from quell import keys, posterior
from quell.calibrate import chains, correct, diagnose, followed, hierarchy, shapes
from quell.calibrate.choice import Choice, choose
from quell.calibrate.followed import Followed
from quell.calibrate.foretell import foretold, lived
from quell.calibrate.hierarchy import Draws, Mode, Model
from quell.calibrate.mode import Finder
from quell.calibrate.sample import Length
from quell.calibrate.summaries import Tell, silent
from quell.keys import jax
from quell.protocol import Protocol
from quell.sentences import BadInput, near
from quell.study import Study


class Effort(NamedTuple):
    """How much work a fit is worth."""

    draws: int = 1500  # of each chain
    chains: int = 4
    warmup: int = 200
    rounds: tuple[int, ...] = (300, 800)  # lives of each person to learn from, round by round
    put: int = 2000  # draws of each person put to the body
    kept: int = 400  # of those, drawn again in proportion to what they are worth


FULL, QUICK = Effort(), Effort(50, 2, 50, (64, 64), 40, 40)  # the quick one shows that all is in order
WIDE, WIDER = 0.8, 1.2  # how far lives are spread: of the prior at first, of the approximation then
EARLIER = 0.05  # what a life of an earlier round weighs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Individual:
    """A study fitted. ``faults`` says, in sentences that name the constant, what is not to be trusted; empty where all is well."""

    protocol: Protocol
    who: Followed
    choice: Choice
    draws: Draws
    diagnosis: diagnose.Diagnosis
    faults: list[str]
    people: np.ndarray  # (chains, kept, people, constants) logs, put to the body and drawn again by its likelihood
    others: Mapping[str, np.ndarray]  # (chains, kept, people) factors on the constants not fitted
    worth: np.ndarray  # (people,) how many draws those put to the body are worth, as a share
    tails: np.ndarray  # (people,) shape of the tail of their weights, Pareto k-hat
    key: Any

    def constants(self, level: float = 0.9) -> pl.DataFrame:
        """The population's constants fitted: prior and posterior with interval, and the spread between people.

        The spread has no interval where it is not fitted but the table's.
        """
        rows, ends = [], ((1 - level) / 2, 0.5, (1 + level) / 2)
        theta = self.draws.flat().theta
        for k in self.choice.population.tolist():
            low, mid, high = np.exp(np.quantile(theta[:, k], ends))
            rows.append(
                {
                    "constant": self.choice.names[k],
                    "prior": float(np.exp(self.choice.centre[k])),
                    "prior_sd_of_log": float(self.choice.sigma[k]),
                    "lower": low,
                    "median": mid,
                    "upper": high,
                    "contraction": float(1 - theta[:, k].var() / self.choice.sigma[k] ** 2),
                    **dict(zip(("spread_lower", "spread", "spread_upper"), self._spread(k, ends), strict=True)),
                }
            )
        words = ("spread_lower", "spread", "spread_upper")
        return pl.DataFrame(rows, schema_overrides=dict.fromkeys(words, pl.Float64))

    def _spread(self, k: int, ends: Sequence[float]) -> list[float | None]:
        """Quantiles of the spread between people of a constant; the table's alone where it is not fitted."""
        j = np.flatnonzero(self.choice.personal == k)
        if not len(j):
            return [None, None, None]
        if not self.choice.loose[j[0]]:
            return [None, float(self.choice.spread[k]), None]
        return [float(x) for x in np.quantile(self.draws.omega[..., j[0]], ends)]

    def own(self, level: float = 0.9) -> pl.DataFrame:
        """Each person's own constants with intervals."""
        ends = ((1 - level) / 2, 0.5, (1 + level) / 2)
        values = np.exp(np.quantile(self.people.reshape(-1, *self.people.shape[2:]), ends, axis=0))
        rows = [
            (subject, self.choice.names[k], *values[:, i, k].tolist())
            for i, subject in enumerate(self.who.subjects)
            for k in self.choice.personal
        ]
        schema = {"subject": pl.String, "constant": pl.String, "lower": pl.Float64, "median": pl.Float64, "upper": pl.Float64}  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def predict(
        self, days: Sequence[int], doses: str | Mapping[int, float] | None = None, level: float = 0.9
    ) -> pl.DataFrame:
        """What each person will show on study days, by the body: intervals of the truth, and of a reading with its error.

        ``doses`` is what the person was given where it is None; another arm's by its name, or MIU by study day: the same person
        under another schedule. Readings of a day come before its dose. Raises BadInput for an arm or a day that cannot be.
        """
        wanted = np.array(sorted(set(days)), dtype=int)
        if not len(wanted) or wanted[0] < 1:
            raise BadInput("a prediction needs study days of 1 or later. Write, for example, days=[61, 90].")
        grid = np.broadcast_to(wanted, (len(self.who.subjects), len(wanted)))
        return foretold(*self._drawn(), self._dosed(doses), grid, keys.at(self.key, "predict"), level)

    def predict_visit(self, day: Mapping[str, int], level: float = 0.9) -> pl.DataFrame:
        """As ``predict`` with what was given, each person on a study day of his or her own; those not named are left out."""
        there = np.array([i for i, subject in enumerate(self.who.subjects) if subject in day], dtype=int)
        if not len(there):
            raise BadInput(f"nobody named is in the study. {near(next(iter(day), ''), self.who.subjects)}")
        grid = np.array([[day[self.who.subjects[i]]] for i in there], dtype=int)
        logs, factors, names = self._drawn()
        factors = {name: x[:, there] for name, x in factors.items()}
        return foretold(logs[:, there], factors, names, self.who.only(there), grid, keys.at(self.key, "predict"), level)

    def _drawn(self) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[str, ...]]:
        """People's draws end to end, factors on the other constants, and names."""
        flat = {name: x.reshape(-1, x.shape[-1]) for name, x in self.others.items()}
        return self.people.reshape(-1, *self.people.shape[2:]), flat, self.choice.names

    def _dosed(self, doses: str | Mapping[int, float] | None) -> Followed:
        """The people, had they been given these doses."""
        if doses is None:
            return self.who
        if isinstance(doses, str):
            arms = {arm.name: arm for arm in self.protocol.arms}
            if doses not in arms:
                raise BadInput(f"the protocol has no arm '{doses}'. {near(doses, arms)}")
            on, amounts = followed.calendar(arms[doses], self.who.people.body_surface_area)
        else:
            on = tuple(sorted(doses)) or (1,)
            if on[0] < 1 or any(not 0 <= amount < np.inf for amount in doses.values()):
                raise BadInput(
                    "doses are MIU by study day, from day 1 on and not below zero, such as {1: 1.5, 2: 1.5}."
                )
            amounts = np.tile([doses.get(day, 0.0) for day in on], (len(self.who.subjects), 1))
        return self.who._replace(dose_days=on, amounts=amounts)


def fit_study(
    study: Study,
    protocol: Protocol,
    *,
    key: int | keys.Key,
    quantities: Sequence[str] = (),
    effort: Effort = FULL,
    before: posterior.Draws | None = None,
    folder: pathlib.Path | None = None,
    tell: Tell = silent,
) -> Individual:
    """Fit the model of one person to a study's doses and readings, people and population together (hierarchical, by NUTS).

    ``quantities`` are those of ``followed.KINDS``, by default Treg, Treg %, ILC2, eosinophils, hsCRP and TBRmax by vessel;
    ``before`` are draws that the population's constants start from in place of the table. ``folder`` keeps what is finished
    of the chains, and a run that was stopped goes on from there. Raises StudyError, in a sentence, where the study lacks what is
    needed.
    """
    if effort.draws < 4 or effort.chains < 2:
        raise BadInput(
            f"{effort.draws} draws in {effort.chains} chains cannot be judged. Ask for 4 draws or more in 2 chains or more."
        )
    here = keys.at(key, "individual")
    tell("what was given and read", None)
    who = followed.followed(study, protocol, quantities)
    tell("which constants matter", None)
    choice = choose(who, before)
    model, about = _learned(who, choice, protocol, effort, here, tell)
    found = chains.nuts(model, about, Length(effort.warmup, effort.draws, effort.chains), here, folder, tell)
    tell("put to the body", None)
    return _put(protocol, model, found, effort, here)


def _learned(
    who: Followed, choice: Choice, protocol: Protocol, effort: Effort, key: keys.Key, tell: Tell
) -> tuple[Model, Mode]:
    """Shapes learned round by round: over the prior, then where each person seems to be; and the mode."""
    xs: list[np.ndarray] = []
    made: list[dict[str, np.ndarray]] = []
    finder, about, model = None, None, None
    level = np.nanmean(np.where(np.isfinite(who.value), who.value, np.nan), axis=(0, 1))
    tbr = np.broadcast_to(level, who.value.shape)
    for number, count in enumerate(effort.rounds):
        tell("learning from lives", number / len(effort.rounds))
        x = _spread(who, choice, about, count, keys.at(key, "round", number))
        factors = shapes.others(keys.at(key, "others", number), choice.names, x.shape[:2])
        made.append(shapes.live(who, {name: np.exp(x[:, :, i]) for i, name in enumerate(choice.names)}, factors))
        xs.append(shapes.bent(choice.names, x, np))
        weights = np.concatenate([np.full(len(one), 1.0 if i == number else EARLIER) for i, one in enumerate(xs)])
        both = {part: np.concatenate([one[part] for one in made]) for part in made[0]}
        learned = shapes.learn(who, np.concatenate(xs), both, choice.moved, weights)
        model = hierarchy.build(who, choice, protocol, learned, shapes.missed(who.kinds, learned, tbr))
        finder = finder or Finder(model)
        about = finder(model, about)
    assert model is not None and about is not None
    return model, about


def _spread(who: Followed, choice: Choice, about: Mode | None, count: int, key: keys.Key) -> np.ndarray:
    """Logs of constants to learn from, (lives, people, constants)."""
    shape = (count, len(who.subjects), len(choice.names))
    score = np.asarray(jax.random.normal(keys.at(key, "people"), shape))
    if about is None:
        return choice.centre + WIDE * np.hypot(choice.sigma, choice.spread) * score
    gap = WIDER * np.asarray(jax.random.normal(keys.at(key, "common"), (count, len(about.zeta)))) @ about.root.T
    own = about.own + np.einsum("npe,ke->knp", about.along, gap)
    own = own + WIDER * np.einsum("npq,knq->knp", about.roots, score[:, :, : len(choice.personal)])
    x = np.broadcast_to(choice.centre, shape).copy()
    x[:, :, choice.population] += (choice.sigma[choice.population] * (about.zeta + gap))[:, None]
    x[:, :, choice.personal] = own
    return x


def _put(protocol: Protocol, model: Model, found: Draws, effort: Effort, key: keys.Key) -> Individual:
    """Each person's draws weighed by the body's own likelihood of his or her readings, and drawn again in proportion."""
    who, choice = model.who, model.choice
    some = found.every(max(1, effort.put // len(found.theta)))
    count = len(found.theta)
    x = some.flat().people(choice)
    factors = shapes.others(keys.at(key, "put"), choice.names, x.shape[:2])
    weighed = [correct.smoothed(one) for one in _weights(model, x, factors).T]
    kept = min(effort.kept, len(x)) // count * count
    drawn = [
        correct.systematic(one.weights, kept, keys.at(key, "person", i)) for i, one in enumerate(weighed)
    ]  # what a person may be is drawn again alone: the population's draws stay as the shapes gave them
    places = np.stack(drawn, axis=-1)
    told = diagnose.diagnose(*_watched(choice, found))
    tails = np.array([one.shape for one in weighed])
    return Individual(
        protocol=protocol,
        who=who,
        choice=choice,
        draws=found,
        diagnosis=told,
        faults=diagnose.faults(told, int(found.diverging.sum())) + _heavy(who, tails),
        people=np.take_along_axis(x, places[..., None], axis=0).reshape(count, -1, *x.shape[1:]),
        others={
            name: np.take_along_axis(f, places, axis=0).reshape(count, -1, len(who.subjects))
            for name, f in factors.items()
        },
        worth=np.array([one.share for one in weighed]),
        tails=tails,
        key=key,
    )


def _weights(model: Model, x: np.ndarray, factors: dict[str, np.ndarray]) -> np.ndarray:
    """Log likelihood of each person's readings by the body less that by the shapes: (draws, people)."""
    who = model.who
    read = lived(x, factors, model.choice.names, who, who.day)
    truth = [one if kind.location else np.log(np.maximum(one, 1e-9)) for kind, one in zip(who.kinds, read, strict=True)]
    real = hierarchy.likelihood(who, truth, np.zeros_like(model.missed), np)

    def guess(one: Any) -> Any:
        return hierarchy.likelihood(who, hierarchy.readings(model, one), model.missed)

    return np.asarray(real) - np.asarray(jax.jit(lambda every: jax.lax.map(guess, every))(x))


def _watched(choice: Choice, found: Draws) -> tuple[tuple[str, ...], np.ndarray]:
    """What is judged: constants of the population and spreads between people."""
    loose = choice.loose
    names = [choice.names[k] for k in choice.population]
    names += [f"spread of {choice.names[k]}" for k in choice.personal[loose]]
    return tuple(names), np.concatenate([found.theta[..., choice.population], found.omega[..., loose]], axis=-1)


def _heavy(who: Followed, tails: np.ndarray) -> list[str]:
    return [
        f"subject {who.subjects[i]}: the body refuses what the fit makes of this person (Pareto k {tails[i]:.2f}, above 0.7). "
        "Look at the doses and readings; do not use the predictions."
        for i in np.flatnonzero(tails > correct.MOST_SHAPE)
    ]

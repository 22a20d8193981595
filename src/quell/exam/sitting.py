"""The exam: trials simulated in a world, in the prior it came from, and in one where only chance is left; then the marks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from quell import design, evidence, exam, store
from quell.analysis.counts import Tally
from quell.analysis.proportions import proportion, risk_difference
from quell.exam import score
from quell.exam.published import BY_DESIGN, NOT_PUBLISHED
from quell.exam.reading import Question
from quell.exam.worlds import Worlds, digest
from quell.protocol import Protocol
from quell.trial import World

PROTOCOLS = ("ivory", "ivory-finale")
LEVEL = 0.9
DIGITS = 8  # kept of each value: more than any interval needs
Tell = Callable[[str, float | None], None]


class Sat(NamedTuple):
    """Every question's value in each simulated trial of one world, and what the declared analyses would find."""

    values: Mapping[str, np.ndarray]
    forecasts: list[dict[str, Any]]

    def rows(self, asked: list[Question]) -> np.ndarray:
        """The values of some questions, (figures, trials)."""
        return np.stack([self.values[one.name] for one in asked]) if asked else np.zeros((0, 0))


def questions() -> dict[str, tuple[Question, ...]]:
    """Everything asked, by protocol."""
    return {name: exam.ALL[name] for name in PROTOCOLS}


def is_input(asked: Question) -> bool:
    """Whether the figure described the people or the conduct."""
    return evidence.figure(asked.figure).role == "describes"


def scored(asked: Question) -> bool:
    """Whether the figure counts: a prediction, and no second reading of one."""
    return not is_input(asked) and not asked.reading


def sit(worlds: Worlds, *, trials: int, key: int, tell: Tell) -> dict[str, Any]:
    """The whole exam as plain data: each published figure on its prediction, the score, and what was not foreseen.

    Trial k of IVORY-FINALE follows the people of trial k of IVORY, so figures of both go together.
    """
    sat: list[Sat] = []
    for step, world in enumerate(worlds[1:]):
        parts = [
            _sat(world, name, trials, key, _told(tell, step * len(PROTOCOLS) + i, 3 * len(PROTOCOLS)))
            for i, name in enumerate(PROTOCOLS)
        ]
        values = {name: one for part in parts for name, one in part.values.items()}
        sat.append(Sat(values, [one for part in parts for one in part.forecasts]))
    asked = [(name, one) for name, group in questions().items() for one in group]
    examined, prior, chance = sat
    counted = [one for _, one in asked if scored(one)]
    marks = {one.name: mark for one, mark in zip(counted, _marks(counted, examined, prior, chance), strict=True)}
    return {
        "world": worlds.examined.name,
        "examined": worlds.name,
        "prior": worlds.prior.name,
        "trials": trials,
        "key": key,
        "level": LEVEL,
        "protocols": {name: Protocol.load(name).fingerprint for name in PROTOCOLS},
        "figures": [_figure(name, one, examined) | marks.get(one.name, {}) for name, one in asked],
        "score": _score(counted, examined, prior),
        "forecasts": examined.forecasts,
        "second_infarction": second_infarction(examined),
        "not_published": [{"figure": one, "said": said} for one, said in NOT_PUBLISHED.items()],
        "by_design": [{"figure": one, "said": said} for one, said in BY_DESIGN.items()],
    }  # fmt: skip


def _told(tell: Tell, step: int, of: int) -> Callable[[str, int, int], None]:
    return lambda what, done, trials: tell(what, (step + done / trials) / of)


def _sat(world: World, name: str, trials: int, key: int, tell: Callable[[str, int, int], None]) -> Sat:
    """One protocol many times in one world; kept, because it follows from these arguments alone."""
    protocol = Protocol.load(name)

    def work_out() -> dict[str, Any]:
        asked = exam.ALL[name]
        said = f"{protocol.name} in the world '{world.name}'"
        found = design.repeat(
            protocol, world, trials=trials, key=key, watch=exam.watch(protocol, asked), progress=lambda done, of: tell(said, done, of)
        )  # fmt: skip
        short = {one.name: [float(f"{x:.{DIGITS}g}") for x in one.values(found).tolist()] for one in asked}
        return {"values": short, "forecasts": [_forecast(name, found, one) for one in found.estimates]}

    known = store.answer(("exam", protocol.fingerprint, world, digest(world), trials, key), work_out)
    return Sat({one: np.array(values, float) for one, values in known["values"].items()}, known["forecasts"])


def _forecast(protocol: str, found: design.Repeats, name: str) -> dict[str, Any]:
    """What an analysis of the protocol would find, for whoever has a number that is not on file."""
    row = found.performance(name)
    q05, q25, q50, q75, q95 = exam.quantiles(found.estimates[name].estimate)
    return {
        "name": name, "protocol": protocol, "scale": row.scale, "role": row.role, "lower": q05, "q25": q25, "median": q50, "q75": q75,
        "upper": q95, "level": LEVEL, "rejects": dataclasses.asdict(row.rejects),
    }  # fmt: skip


def _figure(protocol: str, asked: Question, examined: Sat) -> dict[str, Any]:
    """One published figure beside its prediction."""
    figure = evidence.figure(asked.figure)
    value, lower, upper = exam.on_record(asked)
    q05, q25, q50, q75, q95 = exam.quantiles(examined.values[asked.name])
    return {
        "name": asked.name, "published": value, "lower": q05, "q25": q25, "median": q50, "q75": q75, "upper": q95, "level": LEVEL,
        "unit": asked.unit, "figure": asked.figure, "part": asked.part, "protocol": protocol,
        "published_lower": lower, "published_upper": upper, "role": "input" if is_input(asked) else "predicted", "scored": scored(asked),
        "inside_50": q25 <= value <= q75, "inside_90": q05 <= value <= q95, "rests_on": asked.rests_on, "follows": asked.follows,
        "reading": asked.reading, "beyond": asked.beyond, "why": asked.why, "note": asked.note or figure.note, "status": figure.status,
        "source": f"{figure.id}: {figure.source.citation}", "link": figure.source.link,
    }  # fmt: skip


def _marks(counted: list[Question], examined: Sat, prior: Sat, chance: Sat) -> list[dict[str, Any]]:
    """Where each published figure fell, and how wide its prediction is against the prior's and against chance alone."""
    target = np.array([exam.on_record(one)[0] for one in counted])
    now, first, least = (score.band(sat.rows(counted), LEVEL) for sat in (examined, prior, chance))
    width, before, floor = (one.upper - one.lower for one in (now, first, least))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "place": score.places(examined.rows(counted), target),
            "interval_score": score.interval_score(now, target),
            "prior_interval_score": score.interval_score(first, target),
            "prior_lower": first.lower,
            "prior_upper": first.upper,
            "width_ratio": width / before,
            "chance_ratio": floor / before,
            "doubt_left": score.remaining(width, before, floor),
        }
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(counted))]


def _score(counted: list[Question], examined: Sat, prior: Sat) -> dict[str, Any]:
    """The score over all figures, and over those that are not worked out from others."""
    once = [one for one in counted if not one.follows]
    return {"all": _score_of(counted, examined, prior), "once": _score_of(once, examined, prior)}


def _score_of(counted: list[Question], examined: Sat, prior: Sat) -> dict[str, Any]:
    target = np.array([exam.on_record(one)[0] for one in counted])
    values, before = examined.rows(counted), prior.rows(counted)
    now, first = (score.interval_score(score.band(rows, LEVEL), target) for rows in (values, before))
    spread = np.nanstd(values, axis=1)
    return {
        "figures": len(counted),
        "inside_50": score.coverage(values, target, 0.5)._asdict(),
        "inside_90": score.coverage(values, target, LEVEL)._asdict(),
        "prior_inside_90": score.coverage(before, target, LEVEL)._asdict(),
        "interval_score": float(np.mean(now / spread)),
        "prior_interval_score": float(np.mean(first / spread)),
    }


# Ways to read "0 % against 11 %": the sizes of the arms among the 55 followed were not found.
READINGS = ((0, 28, 3, 27), (0, 27, 3, 28))
PEOPLE_WITH_MACE = (0, 31, 7, 29)


def second_infarction(examined: Sat) -> dict[str, Any]:
    """0 % against 11 % for what it is: the exact test, the interval, and how often simulated trials look so."""
    count = examined.values["people with another heart attack by 2 years, placebo"]
    other = examined.values["another heart attack by 2 years, aldesleukin"]
    return {
        "readings": [_two_by_two(*one) for one in READINGS],
        "if_seven_were_people": _two_by_two(*PEOPLE_WITH_MACE),
        "simulated": dataclasses.asdict(design.Rate.of((other == 0) & (count >= 3))),
        "reversed": dataclasses.asdict(design.Rate.of((count == 0) & (other > 10))),
    }


def _two_by_two(events_active: int, n_active: int, events_control: int, n_control: int) -> dict[str, Any]:
    counts = Tally(*(np.array(one) for one in (events_active, n_active, events_control, n_control)))
    found = risk_difference(counts, test="fisher")
    exact = risk_difference(counts, method="chan-zhang", test="fisher")
    arms = {
        arm: [float(x) for x in proportion(np.array(x), np.array(n), method="clopper-pearson")[2:4]]
        for arm, x, n in (("active", events_active, n_active), ("control", events_control, n_control))
    }
    return {
        "active": [events_active, n_active], "control": [events_control, n_control], "p": float(found.p),
        "difference": float(found.estimate), "lower": float(found.lower), "upper": float(found.upper),
        "exact_lower": float(exact.lower), "exact_upper": float(exact.upper), "intervals": arms,
    }  # fmt: skip

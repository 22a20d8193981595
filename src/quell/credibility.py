"""What a simulation may be used for, and what that rests on: the parts of ICH M15 and ASME V&V 40 as plain data.

Goals are set here, before any run, and judged by machine from what was measured and from the exam.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quell import design, keys, response, store
from quell.applicability import Applicability, applicability
from quell.body import course, parameters, structure
from quell.keys import jax
from quell.protocol import Protocol
from quell.trial import World, lay_out
from quell.trial.recruit import parameters_of
from quell.units import DAYS_PER_YEAR

Tell = Callable[[str, float | None], None]
QUESTION = (
    "What would low-dose interleukin-2 do to patients after an acute coronary syndrome, what would a given trial see of it, and how many "
    "people does the next trial need?"
)


class Use(NamedTuple):
    """One context of use: how much the model decides, and what a wrong decision costs."""

    use: str
    quantity: str
    influence: str
    consequence: str
    beside: str  # what else the decision rests on

    @property
    def risk(self) -> str:
        """Influence times consequence (ASME V&V 40, 2018): the higher of the two, no use where both are high.

        >>> USES[0].risk, USES[-1].risk
        ('medium', 'not a use')
        """
        if self.influence == self.consequence == "high":
            return "not a use"
        return max(self.influence, self.consequence, key=("low", "medium", "high").index)


USES = (
    Use(
        "choosing dose days, visits and the size of the next trial", "wall inflammation (TBRmax), regulatory T cells",
        "medium", "medium", "IVORY's own interval and spread, clinical judgement, a sensitivity table of assumed effects",
    ),
    Use(
        "reading IVORY: bias, coverage and power of its analyses", "operating characteristics of declared analyses",
        "medium", "low", "published statistical theory; the same code read on real data",
    ),
    Use(
        "expecting numbers of heart attacks in a trial", "second infarction, MACE", "low", "medium",
        "registries (E135, E136), which the model repeats; the drug's effect on events is not known",
    ),
    Use(
        "treating a patient, or claiming that events are prevented", "an individual's benefit or harm", "high", "high",
        "nothing: the model must not be used for it",
    ),
)  # fmt: skip

# What a run of each verb may be used for: what ICH M15 asks of every simulation, by verb.
RUNS = {
    "run": Use(
        "seeing what one trial of this protocol would record, and rehearsing its analyses before the data are there",
        "the declared analyses, on virtual people", "low", "medium",
        "the protocol's own statistics; a single trial is one of many that could have been",
    ),
    "repeat": Use(
        "choosing among designs of a trial: visits, analyses, size", "power, bias and coverage of the declared analyses",
        "medium", "medium", "published intervals and spreads, clinical judgement, sizes worked out from assumed effects",
    ),
    "respond": Use(
        "choosing doses and days worth trying, and when to look", "cells, inflammation, vessels and heart by day",
        "medium", "medium", "published dose trials (E071 to E089), the structures compared, clinical judgement",
    ),
}  # fmt: skip

LARGEST_ERROR, LEAST_ORDER, FALSE_ALARM, INSIDE, NARROW = 1e-4, 3.3, 0.05, 0.9, 0.5
SHIFT = 0.01  # of the spread between trials, and of the people with events
KEY, SAMPLE, TRIALS = 1, 64, 1000
LIVES = 2000  # lived twice, for the error of lives and of what is concluded from them


def measure(world: World, *, trials: int = TRIALS, tell: Tell = lambda step, share: None) -> dict[str, Any]:
    """Verification by numbers: errors of IVORY's lives and answers, order of the rule, and how often a trial of nothing finds something."""
    protocol = Protocol.load("ivory")
    tell("measuring the error of lives", None)
    found = {"life": life_error(protocol, world, LIVES), "order": _orders(), "answer": _answers(world)}
    idle = world.without("efficacy")
    repeats = design.repeat(
        protocol, idle, trials=trials, key=KEY, progress=lambda done, of: tell("trials of a drug that calms nothing", done / of)
    )  # fmt: skip
    row = repeats.performance(protocol.primary.name)
    rejects = {"value": row.rejects.value, "error": row.rejects.error}
    bias = {"value": row.mean, "error": row.mean_error, "spread": row.spread}
    return found | {"false_alarm": rejects, "bias_of_nothing": bias, "trials": trials, "world": idle.name, "key": KEY}


class Lived(NamedTuple):
    """Some people of a protocol, each with constants of a world, and the calendar of its most dosed arm."""

    people: Any
    given: np.ndarray  # 10^6 IU, shape (people, dose days)
    constants: parameters.Parameters
    grid: course.Mesh


def _lives(protocol: Protocol, world: World, count: int) -> Lived:
    plan = lay_out(protocol)
    people = response.drawn_people(protocol.population.people, 0, count, KEY)
    most = max(range(len(plan.amounts)), key=lambda arm: sum(plan.amounts[arm]))
    area = np.where(plan.per_area[most], np.asarray(people.body_surface_area)[:, None], 1.0)
    words = keys.numbered(KEY, "credibility", np.arange(count))
    grid = course.mesh(plan.dose_days, plan.observe, plan.horizon)
    return Lived(people, np.array(plan.amounts[most]) * area, parameters_of(world, words), grid)


def life_error(protocol: Protocol, world: World, count: int = SAMPLE) -> dict[str, Any]:
    """The numerical error of lives under a protocol's most dosed arm, each with constants of its own from the world.

    What ``quell.body.course.accuracy`` tells, of ``count`` people.
    """
    some = _lives(protocol, world, count)
    return course.accuracy(*some, sample=count)


WALL = "tbr_ascending_aorta"


def _answers(world: World) -> dict[str, Any]:
    """What the error of lives does to what is concluded from them: both arms lived again four times as finely.

    ``effect``: the mean difference in TBR between the arms at the last visit of IVORY-FINALE's plan. ``events``: people
    with an infarction, or a death, by the end, both arms together. Each roughly and finely. ``lost``: lives out of range.
    """
    treated = _lives(Protocol.load("ivory-finale"), world, LIVES)
    arms = [treated, treated._replace(given=0.0 * treated.given)]
    grids = (treated.grid, course.refine(treated.grid, course.TIGHT))
    found: dict[str, Any] = {"effect": [], "events": []}
    for grid in grids:
        on, off = (course.many(*arm[:3], grid) for arm in arms)
        fine = (on.valid == 0) & (off.valid == 0)
        change = getattr(on.observed, WALL)[:, -1] - getattr(off.observed, WALL)[:, -1]
        found["effect"].append(float(np.mean(change[fine])))
        found["events"].append(sum(_had_event(arm) for arm in (on, off)))
        found.setdefault("lost", int((~fine).sum()))
    return found | {"lives": LIVES, "years": treated.grid.until_day / DAYS_PER_YEAR, "world": world.name}


def _had_event(life: course.Life) -> int:
    """How many people have an infarction or die."""
    events = life.events
    moments = (events.infarction[:, 0], events.cardiovascular_death, events.other_death)
    return int(np.isfinite(np.min(moments, axis=0)).sum())


CELLS, TISSUE = ("treg", "ilc2", "nk_bright", "il5"), ("crp", "tbr_coronary")
FINENESS, EXACT = (1, 2, 4, 8), 32  # of the steps; the last is taken as exact


def _orders() -> dict[str, float]:
    """The order of the rule at the steps that are used: the slope of log error on log step; the least of several observables.

    A slope, as two steps alone may be lucky: the drug enters somewhere within a step of tissue, and the error turns with where.
    """
    grid = course.mesh((1, 2), (2, 3, 5, 9), 12)
    people = response.drawn_people("ivory", 0, SAMPLE, KEY)
    people = people._replace(thresholds=jax.tree.map(lambda x: np.full_like(x, np.inf), people.thresholds))
    given = np.full((SAMPLE, 2), 1.5)
    *lives, exact = (
        course.many(people, given, parameters.load(), course.refine(grid, k)).observed for k in (*FINENESS, EXACT)
    )

    def order(name: str) -> float:
        errors = [float(np.abs(getattr(one, name) - getattr(exact, name)).mean()) for one in lives]
        return float(-np.polyfit(np.log(FINENESS), np.log(errors), 1)[0])

    return {part: min(map(order, names)) for part, names in (("cells", CELLS), ("tissue", TISSUE))}


def dossier(found: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a reader needs to judge a use of the model, from an exam and from what was measured."""
    protocols = [Protocol.load(name) for name in found["protocols"]]
    return {
        "question": QUESTION,
        "uses": [one._asdict() | {"risk": one.risk} for one in USES],
        "goals": goals(found, measured),
        "measured": dict(measured),
        "score": found["score"],
        "world": found["world"],
        "applicability": {one.name: applies(one) for one in protocols},
        "assumptions": assumptions(protocols),
        "sources": sources(),
        "protocols": dict(found["protocols"]),
        "keys": {"exam": found["key"], "verification": measured["key"]},
    }


def goals(found: Mapping[str, Any], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each goal with its threshold, what was found, and whether it is met."""
    wide, alarm = found["score"]["all"]["inside_90"], measured["false_alarm"]
    resting = [one for one in found["figures"] if one["scored"] and one["rests_on"]]
    narrow, less = (
        sum(one[name] is not None and one[name] < NARROW for one in resting) for name in ("width_ratio", "doubt_left")
    )
    answer = measured["answer"]
    shift = abs(answer["effect"][0] - answer["effect"][1]) / measured["bias_of_nothing"]["spread"]
    more = abs(answer["events"][0] / answer["events"][1] - 1)
    share, most = wide["inside"] / wide["of"], FALSE_ALARM + 3 * alarm["error"]
    rows = [
        ("verification", "relative error of a life, every observable and day, the worst of all people", f"at most {LARGEST_ERROR:g}", f"{measured['life']['largest']:.1e}", measured["life"]["largest"] <= LARGEST_ERROR),
        *(("verification", f"order of the rule, {part}", f"at least {LEAST_ORDER:g} of a nominal 4", f"{order:.2f}", order >= LEAST_ORDER) for part, order in measured["order"].items()),
        ("verification", "what the error of lives does to the difference between arms, of the spread between trials", f"at most {100 * SHIFT:g} %", f"{100 * shift:.2f} %", shift <= SHIFT),
        ("verification", "what it does to the number of people with an event in five years", f"at most {100 * SHIFT:g} %", f"{100 * more:.2f} %", more <= SHIFT),
        ("verification", "IVORY's primary analysis rejects where the drug calms nothing", f"at most {100 * most:.1f} %", f"{100 * alarm['value']:.1f} % ± {100 * alarm['error']:.1f}", alarm["value"] <= most),
        ("validation", "published results inside the 90 % interval", f"at least {100 * INSIDE:.0f} %", f"{wide['inside']} of {wide['of']}", share >= INSIDE),
        ("validation", "intervals narrower than half of those before the evidence", "all", f"{narrow} of {len(resting)}", narrow == len(resting)),
        ("validation", "the same with the chance of a small trial taken out", "all", f"{less} of {len(resting)}", less == len(resting)),
    ]  # fmt: skip
    return [
        dict(zip(("kind", "goal", "threshold", "found", "met"), (*row[:4], bool(row[4])), strict=True)) for row in rows
    ]


def applies(protocol: Protocol) -> dict[str, Any]:
    """How far a protocol leaves what was studied, as plain data.

    >>> round(applies(Protocol.load("ivory"))["distance"], 2)
    3.43
    """
    return applicability(protocol).plain()


def of_run(
    verb: str,
    question: str,
    reach: Applicability,
    error: Mapping[str, Any],
    *,
    held: Sequence[tuple[bool, str]],
    unsure: Sequence[str],
) -> dict[str, Any]:
    """What ICH M15 asks of one simulation, from its own results, as plain data.

    ``verb`` is one of ``RUNS``; ``error`` what ``life_error`` found; ``held`` each published figure held against the run:
    whether it lies inside, and its name; ``unsure`` how uncertainty was carried. Raises KeyError for another verb.

    >>> told = of_run("respond", "?", applicability(Protocol.load("ivory")), {"largest": 1e-5, "patients": 64, "observable": "il2"}, held=(), unsure=())
    >>> told["risk"], told["verification"]["met"]
    ('medium', True)
    """
    use = RUNS[verb]
    outside = [name for inside, name in held if not inside]
    return {
        "question": question,
        "use": use.use,
        "quantity": use.quantity,
        "influence": use.influence,
        "consequence": use.consequence,
        "risk": use.risk,
        "beside": use.beside,
        "verification": dict(error) | {"goal": LARGEST_ERROR, "met": error["largest"] <= LARGEST_ERROR},
        "validation": {"figures": len(held), "inside": len(held) - len(outside), "outside": outside},
        "uncertainty": list(unsure),
        "applicability": reach.plain(),
    }  # fmt: skip


def of_trial(
    verb: str, protocol: Protocol, world: World, *, compared: Sequence[Any] = (), unsure: Sequence[str] = ()
) -> dict[str, Any]:
    """``of_run`` for simulated trials of a protocol: its own lives' error, and what is published of it.

    ``compared`` are ``quell.exam.Comparison`` of published figures with simulated trials.
    """
    held = [(one.q05 <= one.published <= one.q95, one.name) for one in compared if one.role == "predicted"]
    error = store.answer(("life error", protocol.fingerprint, world), lambda: life_error(protocol, world))
    question = protocol.question or protocol.title
    return of_run(verb, question, applicability(protocol), error, held=held, unsure=[*unsure, *known_of(world)])


def of_response(found: Mapping[str, Any]) -> dict[str, Any]:
    """``of_run`` for what ``quell.response.respond`` found; its reach is already in it."""
    structures = ", ".join(f"{question}: {option}" for question, option in found["structures"].items())
    unsure = [
        f"People: quantiles of {found['patients']:,}.",
        f"The body: {found['draws'] or 'no'} sets of constants drawn in the world '{found['world']}'.",
        f"Structures: {structures}.",
    ]
    question = f"What does {found['schedule']} do to people of the population '{found['population']}'?"
    told = of_run("respond", question, Applicability(()), found["numerical_error"], held=(), unsure=unsure)
    return told | {"applicability": found["applicability"]}


def known_of(world: World) -> list[str]:
    """How a world holds what is not known of the body.

    >>> known_of(World())[0].split(":")[0]
    "World 'prior'"
    """
    how = (
        "drawn anew for each trial"
        if world.uncertain
        else "one set, so what is not known of the body is not in the result"
    )
    return [f"World '{world.name}': constants of the body are {how}."]


def assumptions(protocols: list[Protocol]) -> list[dict[str, str]]:
    """What is supposed, and how its weight is shown."""
    table = parameters.table()
    guessed = [one for one in table if one.status == "assumed"]
    drawn = sum(one.uncertainty > 0 for one in guessed)
    rows = [
        {"about": "constants of the body", "text": f"{len(guessed)} of {len(table)} are assumed, {drawn} of them drawn anew for each trial", "weight": "the model's page has the sensitivity of results to each"},
        *({"about": f"structure: {one.name}", "text": f"{one.title}: {', '.join(option.name for option in one.options)}", "weight": "the alternatives are simulated and compared"} for one in structure.table()),
    ]  # fmt: skip
    seen: dict[tuple[str, str], None] = {}
    for protocol in protocols:
        seen |= dict.fromkeys((one.about, one.text) for one in protocol.assumptions)
    return rows + [
        {"about": about, "text": text, "weight": "change the protocol and run again"} for about, text in seen
    ]


SOURCES = {
    "evidence.toml": "published figures, each with source and role",
    "body/parameters.toml": "constants of the body",
    "body/populations.toml": "who the people are",
    "body/structure.toml": "alternatives of structure",
    "measure/instruments.toml": "what instruments read",
    "trial/conduct.toml": "how a trial is carried out",
}


def sources() -> list[dict[str, str]]:
    """Every table a result rests on, with the SHA-256 of its bytes; the posterior draws among them where they are shipped.

    >>> [one["file"] for one in sources()][:2]
    ['evidence.toml', 'body/parameters.toml']
    """
    root = importlib.resources.files("quell")
    found = [(name, what, (root / name).read_bytes()) for name, what in SOURCES.items()]
    kept = sorted((root / "posterior").iterdir(), key=lambda one: one.name) if (root / "posterior").is_dir() else []
    found += [
        (f"posterior/{one.name}", "posterior draws", one.read_bytes())
        for one in kept
        if one.name.split(".")[-1] in DRAWS
    ]
    return [
        {"file": name, "what": what, "sha256": hashlib.sha256(content).hexdigest()} for name, what, content in found
    ]


DRAWS = ("parquet", "npz", "arrow")

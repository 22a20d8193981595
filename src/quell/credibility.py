"""What a simulation may be used for, and what that rests on: the parts of ICH M15 and ASME V&V 40 as plain data.

Goals are set here, before any run, and judged by machine from what was measured and from the exam.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from quell import design, keys
from quell.applicability import applicability
from quell.body import course, parameters, population, structure
from quell.keys import jax
from quell.protocol import Protocol
from quell.trial import World, lay_out

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

LARGEST_ERROR, LEAST_ORDER, FALSE_ALARM, INSIDE, NARROW = 1e-4, 3.3, 0.05, 0.9, 0.5
KEY, SAMPLE, TRIALS = 1, 64, 1000


def measure(world: World, *, trials: int = TRIALS, tell: Tell = lambda step, share: None) -> dict[str, Any]:
    """Verification by numbers: the error of IVORY's lives, the order of the rule, and how often a trial of nothing finds something."""
    protocol = Protocol.load("ivory")
    tell("measuring the error of lives", None)
    found = {"life": _life_error(protocol), "order": _orders()}
    idle = world.without("efficacy")
    repeats = design.repeat(
        protocol, idle, trials=trials, key=KEY, progress=lambda done, of: tell("trials of a drug that calms nothing", done / of)
    )  # fmt: skip
    row = repeats.performance(protocol.primary.name)
    rejects = {"value": row.rejects.value, "error": row.rejects.error}
    bias = {"value": row.mean, "error": row.mean_error}
    return found | {"false_alarm": rejects, "bias_of_nothing": bias, "trials": trials, "world": idle.name, "key": KEY}


def _someone(count: int) -> Any:
    """A few people of IVORY's population, to whom nothing happens by chance."""
    here = [keys.at(KEY, "credibility", number) for number in range(count)]
    drawn = [population.draw(one, parameters.load(), population.POPULATIONS["ivory"]) for one in here]
    people = jax.tree.map(lambda *x: np.stack([np.asarray(one) for one in x]), *drawn)
    return people._replace(thresholds=jax.tree.map(lambda x: np.full_like(x, np.inf), people.thresholds))


def _life_error(protocol: Protocol) -> dict[str, Any]:
    plan = lay_out(protocol)
    people = _someone(SAMPLE)
    given = np.tile(plan.amounts[0], (SAMPLE, 1))
    return course.accuracy(people, given, parameters.load(), course.mesh(plan.dose_days, plan.observe, plan.horizon))


CELLS, TISSUE = ("treg", "ilc2", "nk_bright", "il5"), ("crp", "tbr_coronary")


def _orders() -> dict[str, float]:
    """log2 of how much half the step divides the error by: a half against a quarter, a sixteenth taken as exact; the least of several."""
    count, days = 48, (1, 2)
    people = _someone(count)
    grid = course.mesh(days, (2, 3, 5, 9), 12)
    given = np.full((count, len(days)), 1.5)
    lives = [course.many(people, given, parameters.load(), course.refine(grid, step)).observed for step in (2, 4, 16)]

    def order(name: str) -> float:
        coarse, fine, exact = (getattr(one, name) for one in lives)
        return float(np.log2(np.abs(coarse - exact).mean() / np.abs(fine - exact).mean()))

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
    share, most = wide["inside"] / wide["of"], FALSE_ALARM + 3 * alarm["error"]
    rows = [
        ("verification", "relative error of a life, every observable and day", f"at most {LARGEST_ERROR:g}", f"{measured['life']['largest']:.1e}", measured["life"]["largest"] <= LARGEST_ERROR),
        *(("verification", f"order of the rule, {part}", f"at least {LEAST_ORDER:g} of a nominal 4", f"{order:.2f}", order >= LEAST_ORDER) for part, order in measured["order"].items()),
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
    known = applicability(protocol)
    reached = [
        {"range": one.studied.name, "unit": one.studied.unit, "low": one.low, "high": one.high, "studied_low": one.studied.low, "studied_high": one.studied.high, "sources": one.studied.sources, "distance": one.distance}
        for one in known.reaches
    ]  # fmt: skip
    return {"distance": known.distance, "sentences": known.sentences, "reaches": reached}


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

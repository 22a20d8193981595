"""Claims in plain words and numbers in honest digits: what a page says, and what it says one must not conclude."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from quell.analysis.claim import Claim, Claims
from quell.protocol import Protocol
from quell.questions import Endpoint, Estimand

RESEARCH = "For research and trial planning, not for treating a patient."
PERCENT = " %"
SMALL_TRIAL = 200  # people; below it a single result is a reason for the next trial


class Answer(NamedTuple):
    """The first screen of a page."""

    title: str
    sentence: str
    sure: tuple[str, ...]
    beware: tuple[str, ...]


# -- digits -----------------------------------------------------------------------------------------------------------
def decimals(spread: float | None) -> int:
    """Decimals that show a spread (standard error, half-width, SD) to two significant digits.

    >>> decimals(0.13), decimals(12.0), decimals(None)
    (2, 0, 2)
    """
    if not spread or not math.isfinite(spread):
        return 2
    return min(6, max(0, 1 - math.floor(math.log10(abs(spread)) + 1e-9)))


def number(value: float | None, places: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none.

    >>> number(-0.171, 2), number(None), number(float("inf"))
    ('−0.17', '–', 'not reached')
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "not reached" if value > 0 else "−∞"
    text = f"{value:.{places}f}"
    return (text[1:] if text.startswith("-") and not text.strip("-0.") else text).replace("-", "−")


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without powers of ten.

    >>> significant(0.012345), significant(1234.5)
    ('0.0123', '1234')
    """
    if not value or not math.isfinite(value):
        return number(value, 0)
    return number(value, max(0, digits - 1 - math.floor(math.log10(abs(value)) + 1e-9)))


def p_value(p: float | None) -> str:
    """A p-value to three decimals, never as zero.

    >>> p_value(0.0004), p_value(0.0152)
    ('< 0.001', '0.015')
    """
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def span(value: float, lower: float, upper: float, at: int) -> str:
    """A value and its limits.

    >>> span(-0.2, -0.31, -0.09, 2)
    '−0.20 (−0.31 to −0.09)'
    """
    return f"{number(value, at)} ({number(lower, at)} to {number(upper, at)})"


def places(claim: Claim) -> int:
    """Decimals for a claim's estimate and limits: its half-width to two digits, ratios to two decimals."""
    if claim.is_ratio:
        known = [value for value in (claim.estimate, claim.lower) if value and math.isfinite(value)]
        return 2 if not known or min(known) >= 0.1 else 3
    if claim.lower is not None and claim.upper is not None and math.isfinite(claim.upper - claim.lower):
        return decimals((claim.upper - claim.lower) / 2)
    return decimals(claim.se)


def with_interval(claim: Claim) -> str:
    """Estimate and interval as text, or what the claim has instead."""
    if claim.estimate is None:
        freedom = f" on {claim.df:g} df" if claim.df is not None else ""
        return f"statistic {claim.statistic:.2f}{freedom}" if claim.statistic is not None else "not estimable"
    at = places(claim)
    unit = f" {claim.unit}" if claim.unit not in ("", "1") else ""
    if claim.lower is None and claim.upper is None:
        return f"{number(claim.estimate, at)}{unit}"
    return f"{number(claim.estimate, at)} ({number(claim.lower, at)} to {number(claim.upper, at)}){unit}"


def _equals(p: float | None) -> str:
    return p_value(p) if p is not None and p < 0.001 else f"= {p_value(p)}"


# -- the answer ---------------------------------------------------------------------------------------------------------
def primary_claims(claims: Claims, protocol: Protocol) -> list[Claim]:
    """The claims of the primary analysis, or the first claim where none is marked."""
    found = [claim for claim in claims if claim.role == "primary"]
    named = [claim for claim in claims if claim.name.startswith(protocol.primary.name)]
    return found or named[:1] or list(claims)[:1]


def question_of(claim: Claim, protocol: Protocol) -> tuple[Estimand | None, Endpoint | None]:
    """The estimand and endpoint that a claim answers, where the protocol declares them."""
    names = {one.name: one for one in protocol.estimands}
    estimand = names.get(claim.estimand)
    of = [one for one in protocol.analyses if f"{claim.name},".startswith(f"{one.name},")]
    if estimand is None and of:
        estimand = names[max(of, key=lambda one: len(one.name)).estimand]
    return estimand, protocol.endpoint(estimand.endpoint) if estimand else None


def arm_labels(claim: Claim, protocol: Protocol) -> tuple[str, str]:
    """The two arms of a claim by their labels."""
    shown = {arm.name: arm.shown for arm in protocol.arms}
    estimand, _ = question_of(claim, protocol)
    if claim.arms is not None:
        active, control = claim.arms
    elif estimand is not None:
        active, control = " or ".join(shown[arm] for arm in estimand.active), estimand.control
    else:
        active, control = "the new treatment", protocol.control.name
    return shown.get(active, active), shown.get(control, control)


def is_clear(claim: Claim) -> bool:
    """Whether the interval (or for a test the p-value) leaves out no effect."""
    if claim.lower is not None and claim.upper is not None:
        return claim.lower > claim.null or claim.upper < claim.null
    return claim.p is not None and claim.p < 1 - claim.level


class _Effect(NamedTuple):
    """How to say one value of an effect: on which scale, in which unit, with which words for down and up."""

    what: str  # "index vessel TBRmax was on average"
    down: str
    up: str
    unit: str
    at: int
    tail: str = ""  # what follows the value: "had MACE by 2 years"

    def say(self, value: float) -> str:
        if self.unit == PERCENT and value > 100:
            return f"{number(1 + value / 100, 1)} times as high"
        return f"{self.size(value)} {self.down if value < 0 else self.up}"

    def size(self, value: float) -> str:
        return number(abs(value), self.at) + self.unit

    def between(self, lower: float, upper: float) -> str:
        if not math.isfinite(upper):
            return f"anything from {self.say(lower)} upwards" if math.isfinite(lower) else "anything"
        if not math.isfinite(lower):
            return f"anything up to {self.say(upper)}"
        if lower < 0 < upper:
            return f"between {self.say(lower)} and {self.say(upper)}"
        near, far = sorted((lower, upper), key=abs)
        if self.unit == PERCENT and max(lower, upper) > 100:
            return f"between {self.say(near)} and {self.say(far)}"
        start = self.size(near) if self.unit == PERCENT else number(abs(near), self.at)
        return f"between {start} and {self.say(far)}"


# What a ratio is a ratio of, by a word of its summary
_RATIOS = {
    "hazard": "the rate",
    "rate ratio": "the rate",
    "risk ratio": "the risk",
    "odds ratio": "the odds",
    "win": "the chance of the better course",
    "restricted mean": "the time free",
}


def _effect(claim: Claim, estimand: Estimand | None, endpoint: Endpoint | None) -> tuple[_Effect, list[float]]:
    """The words of an effect, and its estimate and limits as differences (percent for ratios, people in 100 for risks)."""
    name = endpoint.name if endpoint else claim.name
    values = [value if value is not None else math.nan for value in (claim.estimate, claim.lower, claim.upper)]
    summary = estimand.summary if estimand else claim.scale
    if claim.is_ratio:
        what = next(
            (f"{said} of {name} was" for word, said in _RATIOS.items() if word in summary), f"{name} was on average"
        )
        effect = _Effect(what, "lower", "higher", PERCENT, 0)
        return effect, [100 * (value - 1) for value in values]
    if summary == "risk difference":
        scale = 1.0 if "%" in claim.unit or "percent" in claim.unit else 100.0
        within = f" by {estimand.until}" if estimand and estimand.until else ""
        few = 0 if abs(scale * (claim.estimate or 0)) >= 1 else 1
        effect = _Effect("of 100 people,", "fewer", "more", "", few, f" had {name}{within}")
        return effect, [scale * value for value in values]
    unit = f" {claim.unit}" if claim.unit not in ("", "1") else ""
    if summary == "net benefit":
        return _Effect("of 100 pairs of people,", "fewer", "more", "", 0, " were better"), [100 * v for v in values]
    if summary == "difference in mean number of events":
        within = f" by {estimand.until}" if estimand and estimand.until else ""
        return _Effect(f"the number of {name} per person{within} was", "lower", "higher", "", places(claim)), values
    if summary == "difference in restricted mean time":
        return _Effect("time without an event was on average", "shorter", "longer", unit, places(claim)), values
    change = "the change in " if endpoint and "change" in endpoint.scale and "change" not in name else ""
    each = "for each unit more of dose, " if summary == "slope on dose" else ""
    return _Effect(f"{each}{change}{name} was on average", "lower", "higher", unit, places(claim)), values


def sentence(claim: Claim, protocol: Protocol) -> str:
    """A claim in one plain sentence, that says first whether the trial can tell.

    >>> claim = Claim(name="hsCRP", estimand="hsCRP", method="ANCOVA", estimate=0.8, lower=0.7, upper=0.9, n=60,
    ...               scale="geometric mean ratio", arms=("aldesleukin", "placebo"))
    >>> sentence(claim, Protocol.load("ivory"))
    'hsCRP was on average 20 % lower on Aldesleukin than on Placebo: between 10 % and 30 % lower.'
    """
    estimand, endpoint = question_of(claim, protocol)
    active, control = arm_labels(claim, protocol)
    name = endpoint.name if endpoint else claim.name
    if claim.estimate is None:
        return _without_estimate(claim, name, active, control)
    effect, (estimate, lower, upper) = _effect(claim, estimand, endpoint)
    slope = estimand is not None and estimand.summary == "slope on dose"
    than = "as" if effect.unit == PERCENT and estimate > 100 else "than"
    average = f"{effect.what} {effect.say(estimate)}{effect.tail}{'' if slope else f' on {active} {than} on {control}'}"
    if math.isnan(lower) or math.isnan(upper):
        return f"{average}, and nobody can say how surely."
    fits = effect.between(lower, upper)
    if is_clear(claim):
        return f"{average}: {fits}."
    doubt = "whether the dose matters" if slope else f"{active} from {control}"
    return f"the trial cannot tell {doubt}: {average}, but {fits} fits the data."


def _without_estimate(claim: Claim, name: str, active: str, control: str) -> str:
    if claim.p is None:
        return f"the trial does not answer this question. {' '.join(claim.warnings)}".strip()
    told = "was unlike that" if is_clear(claim) else "could not be told from that"
    return f"the course of {name} on {active} {told} on {control} (p {_equals(claim.p)})."


def capital(text: str) -> str:
    """The same words beginning a sentence; a name such as hsCRP keeps its spelling.

    >>> capital("the rate was lower"), capital("hsCRP was lower")
    ('The rate was lower', 'hsCRP was lower')
    """
    first = text.split(" ", 1)[0]
    return text if first != first.lower() else text[:1].upper() + text[1:]


def headline(claim: Claim, protocol: Protocol) -> str:
    """A figure's title: the answer in a few words."""
    estimand, endpoint = question_of(claim, protocol)
    active, _ = arm_labels(claim, protocol)
    if claim.estimate is None:
        name = endpoint.name if endpoint else claim.name
        return capital(f"{name}: {'not answered' if claim.p is None else f'p {_equals(claim.p)}'}")
    effect, (estimate, _, _) = _effect(claim, estimand, endpoint)
    slope = estimand is not None and estimand.summary == "slope on dose"
    said = capital(f"{effect.what} {effect.say(estimate)}{effect.tail}{'' if slope else f' on {active}'}")
    unclear = claim.lower is not None and not is_clear(claim)
    return f"{said}, which chance alone could give" if unclear else said


def answer(
    claims: Claims, protocol: Protocol, *, randomised: int, simulated: bool, truth: Mapping[str, Any] | None
) -> Answer:
    """The answer to the protocol's question, how sure it is, and what must not be concluded."""
    primary = primary_claims(claims, protocol)
    if not primary:
        return Answer("No claim was made", "The record has not been analysed.", (), ())
    said = " ".join(capital(sentence(claim, protocol)) for claim in primary)
    sure = [line for claim in primary[:3] for line in _sureness(claim, truth, several=len(primary) > 1)]
    beware = _beware(primary[0], claims, protocol, randomised=randomised, simulated=simulated)
    return Answer(headline(primary[0], protocol), said, tuple(sure), tuple(beware))


def _sureness(claim: Claim, truth: Mapping[str, Any] | None, *, several: bool) -> Iterable[str]:
    name = f"{claim.name}: " if several else ""
    level = f"{100 * claim.level:.4g}"
    if claim.lower is not None:
        yield (
            f"{name}{with_interval(claim)}, p {_equals(claim.p)}, n = {claim.n}. Of 100 such trials, about {level} "
            "would give an interval that holds the true value."
        )
    elif claim.p is not None:
        yield f"{name}p {_equals(claim.p)}, n = {claim.n}: were there no difference, so large a one would be this rare."
    world = (truth or {}).get(claim.name)
    if world is not None:
        yield f"{name}True value in this world: {true_value(world, claim)}, known only because the trial is simulated."
    yield from claim.warnings


def true_value(world: Any, claim: Claim) -> str:
    """The true value with its Monte Carlo error."""
    at = decimals(world.error) if world.error else places(claim)
    return f"{number(world.value, at)} ± {number(world.error, at)}"


def _beware(claim: Claim, claims: Claims, protocol: Protocol, *, randomised: int, simulated: bool) -> Iterable[str]:
    estimand, endpoint = question_of(claim, protocol)
    if simulated:
        yield "That the drug works: these people are virtual and live by quell’s assumptions."
    if claim.estimate is not None and not is_clear(claim):
        yield "That there is no effect: the interval also holds effects worth having."
    if endpoint is not None and endpoint.quantity:
        yield f"That people live longer or stay well: {endpoint.name} is a measurement, not an illness."
    if estimand is not None and estimand.population not in ("randomised", ""):
        yield (
            f"Anything about everybody randomised: this is about {people(estimand.population)}, and who they are may "
            "depend on the treatment."
        )
    if randomised < SMALL_TRIAL:
        yield f"That one trial of {randomised} people settles it: small trials that look good tend to overstate."
    others = sum(one.role != "primary" for one in claims)
    if others > 1:
        yield f"Much from the {others} further claims: about 1 in 20 looks clear by chance where nothing differs."


def people(population: str) -> str:
    """An analysis set as people.

    >>> people("followed up"), people("safety")
    ('those followed up', 'those in the set “safety”')
    """
    known = {"randomised": "everybody randomised", "treated": "those treated", "followed up": "those followed up"}
    known["completed treatment"] = "those who completed treatment"
    return known.get(population, f"those in the set “{population}”")


def summary(protocol: Protocol, study_n: Mapping[str, int], *, simulated: bool) -> str:
    """What was done, in two sentences that anybody can read."""
    groups = _listed([f"{n} got {protocol.arm(arm).shown}" for arm, n in study_n.items()])
    people = "virtual people" if simulated else "people"
    blinded = (
        ", and neither they nor their doctors knew which"
        if {"participants", "investigators"} <= set(protocol.blinded)
        else ""
    )
    what = protocol.population.description
    return f"{capital(what)}: {sum(study_n.values())} {people} were assigned by chance; {groups}{blinded}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

"""What a trial promises: a value that can be read, hashed, edited, compared and written.

``Protocol.load("ivory")`` reads a built-in; ``Protocol.load("mine.toml")`` a file; ``extends = "ivory"`` in a file
takes over what the file does not say. The canonical text form reads back to the same value, and its fingerprint names it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import pathlib
from collections.abc import Iterable
from typing import Any, cast

import pydantic

from quell.promises import Allocation, AnalysisSet, Arm, Assumption, Drug, FollowUp, Population, Source, Visit, promise
from quell.questions import (
    DERIVED,
    DIVIDES,
    JOINT,
    METHODS,
    NEEDS_COMPETING,
    STOPPING,
    Analysis,
    Endpoint,
    Estimand,
    Testing,
)
from quell.sentences import BadInput, explain, near, read_toml

# Sets that every record has; a protocol may add others.
STANDARD_SETS = ("randomised", "treated", "completed treatment", "followed up")


class ProtocolError(BadInput):
    """A protocol that cannot be used, in sentences."""


@promise
class Protocol:
    """A parallel-group trial, declared once.

    >>> ivory = Protocol.load("ivory")
    >>> ivory.arm("aldesleukin").doses[0].on[:6]
    (1, 2, 3, 4, 5, 12)
    """

    name: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str
    question: str = ""
    version: str = "1"
    phase: str = ""
    registry: tuple[str, ...] = ()
    extends: str = ""
    population: Population
    drugs: tuple[Drug, ...] = ()
    arms: tuple[Arm, ...] = pydantic.Field(min_length=2, max_length=20)
    allocation: Allocation = dataclasses.field(default_factory=Allocation)
    blinded: tuple[str, ...] = ()
    visits: tuple[Visit, ...] = pydantic.Field(min_length=1)
    follow_up: FollowUp | None = None
    sets: tuple[AnalysisSet, ...] = ()
    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    estimands: tuple[Estimand, ...] = pydantic.Field(min_length=1)
    analyses: tuple[Analysis, ...] = pydantic.Field(min_length=1)
    testing: Testing | None = None
    assumptions: tuple[Assumption, ...] = ()
    source: Source | None = None

    @pydantic.model_validator(mode="after")
    def _coherent(self) -> Protocol:
        for check in (
            _names_once,
            _doses_known,
            _one_control,
            _visits_in_order,
            _questions_answerable,
            _tested_together,
        ):
            check(self)
        object.__setattr__(self, "arms", _canonical_arms(self))
        return self

    # -- finding the parts -------------------------------------------------------------------------------------
    def arm(self, name: str) -> Arm:
        return _named(self.arms, name, "arm")

    def drug(self, name: str) -> Drug:
        return _named(self.drugs, name, "drug")

    def visit(self, name: str) -> Visit:
        return _named(self.visits, name, "visit")

    def endpoint(self, name: str) -> Endpoint:
        return _named(self.endpoints, name, "endpoint")

    def estimand(self, name: str) -> Estimand:
        return _named(self.estimands, name, "estimand")

    @property
    def control(self) -> Arm:
        return next(arm for arm in self.arms if arm.control)

    @property
    def baseline(self) -> Visit:
        return next(visit for visit in self.visits if visit.kind == "baseline")

    @property
    def screening(self) -> Visit:
        return next((visit for visit in self.visits if visit.kind == "screening"), self.baseline)

    @property
    def primary(self) -> Analysis:
        return next(analysis for analysis in self.analyses if analysis.role == "primary")

    @property
    def dose_days(self) -> tuple[int, ...]:
        """Every day on which any arm doses."""
        return tuple(sorted({day for arm in self.arms for dose in arm.doses for day in dose.on}))

    @property
    def last_visit_day(self) -> int:
        return max(visit.day for visit in self.visits)

    @property
    def categories(self) -> tuple[str, ...]:
        """Covariates used as categories, even where their values look like numbers."""
        used = [name for one in self.analyses for name in (*one.factors, *one.strata, *one.subgroups)]
        return tuple(dict.fromkeys([*used, *(name for name in self.allocation.strata if name != "site")]))

    @property
    def events(self) -> tuple[str, ...]:
        """Every kind of event that an endpoint or an estimand names."""
        named = [event for one in self.endpoints for event in (*one.components, *one.competing)]
        named += [event for one in self.estimands for met in one.intercurrent_events for event in met.recorded]
        return tuple(dict.fromkeys(event for event in named if event not in (STOPPING, DERIVED)))

    # -- text ----------------------------------------------------------------------------------------------------
    @staticmethod
    def load(name: str | pathlib.Path) -> Protocol:
        """A built-in protocol by name, or a TOML file by path. Raises ProtocolError in sentences."""
        path = _find(name)
        return Protocol.of(_inherited(read_toml(path), path), where=path.name)

    @staticmethod
    def of(declared: dict[str, Any], where: str = "protocol") -> Protocol:
        """A protocol from a declared dictionary (the TOML form)."""
        try:
            return Protocol(**declared)
        except pydantic.ValidationError as error:
            raise ProtocolError(explain(error, Protocol, declared, where)) from None
        except TypeError as error:
            raise ProtocolError(f"{where}: {error}.") from None

    def to_toml(self) -> str:
        """The canonical text form: complete, and equal to itself when read back."""
        import tomli_w

        return tomli_w.dumps(_plain(dataclasses.asdict(cast(Any, self))))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical text form, first 16 hexadecimal digits."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()[:16]

    def but(self, **changes: Any) -> Protocol:
        """A copy with some parts changed, checked again."""
        return dataclasses.replace(cast(Any, self), **changes)


def built_in() -> tuple[str, ...]:
    """The names of the protocols that come with quell."""
    folder = importlib.resources.files("quell") / "protocols"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def _find(name: str | pathlib.Path) -> pathlib.Path:
    text = str(name)
    if text in built_in():
        return pathlib.Path(str(importlib.resources.files("quell") / "protocols" / f"{text}.toml"))
    path = pathlib.Path(text)
    if path.is_dir():
        raise ProtocolError(f"{text} is a folder. Name a protocol: {', '.join(built_in())}, or a TOML file.")
    if not path.exists():
        raise ProtocolError(
            f"there is no protocol '{text}': no file of that name, and no built-in. {near(text, built_in())}"
        )
    return path


def _inherited(declared: dict[str, Any], path: pathlib.Path, depth: int = 0) -> dict[str, Any]:
    """What the file says, over what the protocol that it extends says."""
    parent = declared.get("extends")
    if not parent or _complete(declared):
        return declared
    if depth >= 5:
        raise ProtocolError(f"{path.name}: more than five protocols extend one another. Is there a circle?")
    beside = path.parent / str(parent)
    above = _find(beside if beside.is_file() else str(parent))
    return _inherited(read_toml(above), above, depth + 1) | declared


def _complete(declared: dict[str, Any]) -> bool:
    """Whether nothing has to be inherited: the canonical form of a protocol that once extended another."""
    return all(key in declared for key in ("population", "arms", "visits", "endpoints", "estimands", "analyses"))


def _plain(value: Any) -> Any:
    """TOML's own types, without what is absent or empty."""
    if isinstance(value, dict):
        # a condition may ask for an empty cell
        kept = {key: item if key == "where" and item else _plain(item) for key, item in value.items()}
        return {
            key: item for key, item in kept.items() if item is not None and item != "" and item != [] and item != {}
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _named(parts: Iterable[Any], name: str, kind: str) -> Any:
    for part in parts:
        if part.name == name:
            return part
    raise ProtocolError(f"there is no {kind} '{name}'. {near(name, [part.name for part in parts])}")


def _canonical_arms(protocol: Protocol) -> tuple[Arm, ...]:
    """Doses written in one unit for each drug, so that 91.7 µg and 1.5 MIU are one promise."""

    def canonical(arm: Arm) -> Arm:
        doses = tuple(
            dataclasses.replace(cast(Any, dose), amount=protocol.drug(dose.drug).canonical(dose.amount))
            for dose in arm.doses
        )
        return dataclasses.replace(cast(Any, arm), doses=doses)

    return tuple(canonical(arm) for arm in protocol.arms)


# -- coherence: each check raises a sentence ------------------------------------------------------------------------
def _names_once(protocol: Protocol) -> None:
    for kind in ("drugs", "arms", "visits", "sets", "endpoints", "estimands", "analyses"):
        names = [part.name for part in getattr(protocol, kind)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{kind} has two entries called '{name}'. Give each its own name.")


def _doses_known(protocol: Protocol) -> None:
    known = [drug.name for drug in protocol.drugs]
    for arm in protocol.arms:
        for dose in arm.doses:
            if dose.drug not in known:
                raise ValueError(
                    f"arm '{arm.name}' doses '{dose.drug}', which is not among [[drugs]]. {near(dose.drug, known)}"
                )


def _one_control(protocol: Protocol) -> None:
    controls = [arm.name for arm in protocol.arms if arm.control]
    if len(controls) != 1:
        found = " and ".join(f"'{name}'" for name in controls) or "none"
        raise ValueError(f"exactly one arm is the control (control = true); here it is {found}.")
    ratio, names = protocol.allocation.ratio, [arm.name for arm in protocol.arms]
    for name in ratio:
        if name not in names:
            raise ValueError(f"allocation.ratio names '{name}', which is no arm. {near(name, names)}")
    shares = sum(ratio.get(name, 1) for name in names)
    for block in protocol.allocation.blocks:
        if protocol.allocation.method == "permuted blocks" and (block < 1 or block % shares):
            raise ValueError(
                f"allocation.blocks has {block}, which {shares} shares do not divide. Use {shares} or {2 * shares}."
            )


def _visits_in_order(protocol: Protocol) -> None:
    baselines = [visit for visit in protocol.visits if visit.kind == "baseline"]
    if len(baselines) != 1:
        raise ValueError(f'exactly one visit has kind = "baseline"; here {len(baselines)} have.')
    start = baselines[0].day
    for visit in protocol.visits:
        if visit.day < start and visit.kind != "screening":
            raise ValueError(
                f"visit '{visit.name}' is on day {visit.day}, before the baseline visit on day {start}. "
                'Only a screening visit may come before baseline (kind = "screening").'
            )
        if visit.kind == "screening" and visit.day > start:
            raise ValueError(f"screening visit '{visit.name}' is on day {visit.day}, after baseline on day {start}.")
    days = [visit.day for visit in protocol.visits]
    for before, after in zip(protocol.visits, protocol.visits[1:], strict=False):
        if after.day < before.day:
            raise ValueError(
                f"visit '{after.name}' (day {after.day}) stands after '{before.name}' (day {before.day}). Put visits in order of day."
            )
    if protocol.follow_up and protocol.follow_up.days < max(days):
        raise ValueError(f"follow_up ends on day {protocol.follow_up.days}, before the last visit on day {max(days)}.")


def _questions_answerable(protocol: Protocol) -> None:
    arms = [arm.name for arm in protocol.arms]
    visits = [visit.name for visit in protocol.visits]
    sets = [*STANDARD_SETS, *(one.name for one in protocol.sets)]
    for endpoint in protocol.endpoints:
        for visit in (endpoint.visit, *endpoint.visits):
            if visit and visit not in visits:
                raise ValueError(
                    f"endpoint '{endpoint.name}' is read at visit '{visit}', which is not planned. {near(visit, visits)}"
                )
        _levels_known(protocol, endpoint)
    for estimand in protocol.estimands:
        if estimand.endpoint not in [one.name for one in protocol.endpoints]:
            raise ValueError(
                f"estimand '{estimand.name}' is about endpoint '{estimand.endpoint}', which is not declared. "
                + near(estimand.endpoint, [one.name for one in protocol.endpoints])
            )
        for arm in (*estimand.active, estimand.control):
            if arm not in arms:
                raise ValueError(f"estimand '{estimand.name}' compares '{arm}', which is no arm. {near(arm, arms)}")
        if estimand.population not in sets:
            raise ValueError(
                f"estimand '{estimand.name}' is about the population '{estimand.population}'. {near(estimand.population, sets)}"
            )
    for analysis in protocol.analyses:
        _answerable(protocol, analysis)
    primaries = [analysis.name for analysis in protocol.analyses if analysis.role == "primary"]
    if len(primaries) != 1:
        found = " and ".join(f"'{name}'" for name in primaries) or "none"
        raise ValueError(f'exactly one analysis has role = "primary"; here it is {found}.')


def _tested_together(protocol: Protocol) -> None:
    if protocol.testing is None:
        return
    known = {one.name: one for one in protocol.analyses}
    for name in protocol.testing.analyses:
        if name not in known:
            raise ValueError(f"testing names the analysis '{name}', which is not declared. {near(name, known)}")
        if known[name].prior:
            raise ValueError(
                f"testing names the analysis '{name}', which has a prior and so no p to adjust. Remove one."
            )
        if len(protocol.estimand(known[name].estimand).active) > 1 and known[name].method not in JOINT:
            raise ValueError(
                f"testing names the analysis '{name}', which makes a claim for each active arm. Declare one analysis for each."
            )


def _levels_known(protocol: Protocol, endpoint: Endpoint) -> None:
    kinds = {one.name: one.kind for one in protocol.endpoints}
    for level in endpoint.levels:
        if level not in kinds or kinds[level] == "hierarchical":
            others = [name for name, kind in kinds.items() if kind != "hierarchical"]
            raise ValueError(
                f"endpoint '{endpoint.name}' has the level '{level}', which is no endpoint that can be compared. {near(level, others)}"
            )


def _divisible(analysis: Analysis) -> None:
    if analysis.subgroups and analysis.method not in DIVIDES:
        raise ValueError(
            f"analysis '{analysis.name}': {analysis.method} has no forest of subgroups. Methods that have: {', '.join(DIVIDES)}."
        )
    if analysis.modifiers and analysis.method not in ("ancova", "robust ancova"):
        raise ValueError(
            f"analysis '{analysis.name}': {analysis.method} has no slopes to compare. Use ancova, or subgroups instead of modifiers."
        )
    if analysis.prior and (analysis.subgroups or analysis.modifiers):
        raise ValueError(
            f"analysis '{analysis.name}' has a prior, which is about everybody. Declare its subgroups apart."
        )


def _answerable(protocol: Protocol, analysis: Analysis) -> None:
    known = [one.name for one in protocol.estimands]
    if analysis.estimand not in known:
        raise ValueError(
            f"analysis '{analysis.name}' answers estimand '{analysis.estimand}', which is not declared. {near(analysis.estimand, known)}"
        )
    estimand = protocol.estimand(analysis.estimand)
    endpoint, way = protocol.endpoint(estimand.endpoint), METHODS[analysis.method]
    answering = [name for name, other in METHODS.items() if estimand.summary in other.summaries]
    reading = [name for name, other in METHODS.items() if endpoint.kind in other.kinds]
    if estimand.summary not in way.summaries:
        fits = [name for name in answering if name in reading] or answering
        raise ValueError(
            f"analysis '{analysis.name}': {analysis.method} does not estimate a {estimand.summary}. Methods that do: {', '.join(fits)}."
        )
    if endpoint.kind not in way.kinds:
        fits = [name for name in reading if name in answering] or reading
        raise ValueError(
            f"analysis '{analysis.name}': {analysis.method} does not fit the {endpoint.kind} endpoint '{endpoint.name}'. "
            f"Methods that do: {', '.join(fits)}."
        )
    if analysis.prior and estimand.summary.startswith(("equality", "slope")):
        raise ValueError(f"analysis '{analysis.name}' has a prior, but a test has no size to believe in. Remove it.")
    _divisible(analysis)
    by_a_day = way.horizon or (endpoint.timed and "responder" in way.kinds)
    if by_a_day and not estimand.until:
        raise ValueError(
            f"analysis '{analysis.name}' needs a horizon. Add until = \"2 years\" to estimand '{estimand.name}'."
        )
    if analysis.method in NEEDS_COMPETING and not endpoint.competing:
        raise ValueError(
            f"analysis '{analysis.name}': {analysis.method} is about events that compete. "
            f"Add competing = [\"other death\"] (what can happen first) to endpoint '{endpoint.name}'."
        )

"""A design, declared once: which protocol, tried in which worlds, at which sizes, watched how, and by what rules it ends.

``Design.load("ivory-3")`` reads a built-in; ``Design.load("mine.toml")`` a file. ``extends = "ivory-3"`` takes over what
the file does not say, except the keys listed in ``without``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.resources
import itertools
import pathlib
from typing import Any, cast

import pydantic

from quell import units
from quell.design.adaptations import Enrich, Resize, Respond, Select, Surrogate
from quell.design.crowd import CAUSES
from quell.design.parts import (
    Allocation,
    Costs,
    Criterion,
    Dropout,
    Efficacy,
    Futility,
    Harm,
    Look,
    Primary,
    Recruitment,
    Secondary,
    Test,
    Variant,
    World,
)
from quell.promises import duration, promise, whole_days
from quell.protocol import Protocol
from quell.sentences import BadInput, explain, near, read_toml
from quell.trial.plan import EVENTS as CAUSE_OF

DEATHS = ("cardiovascular_death", "other_death")
ADAPTATIONS = ("resize", "enrich", "select", "respond")


class DesignError(BadInput):
    """A design that cannot be used, in sentences."""


@promise
class Design:
    """A design: validated at birth, hashable, equal to what is read back from its own text.

    >>> design = Design.load("ivory-3")
    >>> Design.of(design.declared()) == design, design.control, design.active
    (True, 'placebo', ('aldesleukin',))
    """

    name: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    title: str = ""
    question: str = ""
    version: str = "1"
    protocol: str  # built-in name, or a path from where the design is read
    control: str = ""  # the protocol's control arm, unless said
    active: tuple[str, ...] = ()  # all its other arms, unless said
    level: float = pydantic.Field(default=0.025, gt=0, lt=0.5)  # one-sided
    horizon: str = "6 years"  # how long the people of the bank live
    primary: Primary
    variants: tuple[Variant, ...] = pydantic.Field(min_length=1, max_length=50)
    worlds: tuple[World, ...] = pydantic.Field(min_length=1, max_length=50)
    recruitment: Recruitment
    entry: tuple[Criterion, ...] = ()
    allocation: Allocation = dataclasses.field(default_factory=Allocation)
    dropout: Dropout = dataclasses.field(default_factory=Dropout)
    looks: tuple[Look, ...] = pydantic.Field(min_length=1, max_length=20)
    test: Test = dataclasses.field(default_factory=Test)
    efficacy: Efficacy = dataclasses.field(default_factory=Efficacy)
    futility: Futility | None = None
    harm: Harm | None = None
    resize: Resize | None = None
    enrich: Enrich | None = None
    select: Select | None = None
    respond: Respond | None = None
    surrogate: Surrogate | None = None
    secondary: Secondary | None = None
    costs: Costs | None = None
    assumptions: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @pydantic.field_validator("horizon")
    @classmethod
    def _horizon(cls, horizon: str) -> str:
        return duration(horizon)

    @pydantic.model_validator(mode="after")
    def _coherent(self) -> Design:
        arms = [arm.name for arm in self.plan.arms]
        object.__setattr__(self, "control", self.control or self.plan.control.name)
        others = tuple(name for name in arms if name != self.control)
        object.__setattr__(self, "active", self.active or others)
        for check in (_arms_known, _names_once, _endpoints_known, _looks_fit, _rules_fit, _one_adaptation, _worlds_fit):
            check(self)
        return self

    # -- what follows from it ------------------------------------------------------------------------------------
    @property
    def plan(self) -> Protocol:
        """The protocol."""
        return _protocol(self.protocol)

    @property
    def arms(self) -> tuple[str, ...]:
        """Control first, then the active arms."""
        return (self.control, *self.active)

    @property
    def ratio(self) -> tuple[int, ...]:
        """The allocation ratio in the order of ``arms``."""
        return self.allocation.ratio or (1,) * len(self.arms)

    @property
    def horizon_days(self) -> int:
        return whole_days(self.horizon)

    @property
    def timed(self) -> bool:
        """Whether the primary is a time to an event."""
        return not self.primary.reading

    def causes(self, endpoint: str) -> tuple[str, ...]:
        """The causes of which an endpoint of the protocol is the first."""
        return tuple(CAUSE_OF[one] for one in self.plan.endpoint(endpoint).components)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The timed endpoints, the primary's first, then the further ones and the levels of a win ratio."""
        first = (self.primary.endpoint,) if self.timed else ()
        further = self.secondary.endpoints if self.secondary else ()
        return tuple(dict.fromkeys((*first, *further, *self.test.levels)))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Disjoint groups of causes whose first events a trial draws: the primary's first, then those that further endpoints
        count besides, and deaths that end follow-up.

        >>> Design.load("ivory-3").groups[1:]
        (('other_death',),)
        """
        primary = self.causes(self.endpoints[0]) if self.endpoints else ()
        rest = [cause for cause in CAUSES if cause not in primary]
        found = self._apart(tuple(rest), DEATHS)
        return (tuple(one for one in CAUSES if one in primary), *found) if primary else found

    @property
    def parts(self) -> tuple[tuple[str, ...], ...]:
        """The parts of the primary that further endpoints tell apart.

        >>> Design.load("ivory-3").parts
        (('infarction',), ('cardiovascular_death',), ('stroke', 'arrest', 'revascularisation'))
        """
        return self._apart(self.causes(self.endpoints[0]), ()) if self.endpoints else ()

    def _apart(self, causes: tuple[str, ...], always: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Some causes by the endpoints that count them; those that none counts only where ``always`` names them."""
        members = [self.causes(name) for name in self.endpoints]

        def kind(cause: str) -> tuple[bool, ...]:
            return (*(cause in one for one in members), cause in always)

        used = [cause for cause in causes if any(kind(cause))]
        ordered = sorted(used, key=lambda cause: (tuple(not one for one in kind(cause)), CAUSES.index(cause)))
        return tuple(tuple(part) for _, part in itertools.groupby(ordered, kind))

    @property
    def estimates(self) -> str:
        """How ``adjusted``, ``lower`` and ``upper`` are found after a stop."""
        if self.select or self.enrich:
            return "naive: the estimate of the last look, its interval not adjusted for the choice that was made"
        if self.resize and self.resize.by == "promising zone":
            return "naive: the estimate of the last look, its interval not adjusted for the change of size"
        return "median-unbiased, stage-wise ordering"

    def world(self, name: str) -> World:
        """A world by name; raises DesignError."""
        for one in self.worlds:
            if one.name == name:
                return one
        raise DesignError(
            f"design '{self.name}' has no world '{name}'. {near(name, [one.name for one in self.worlds])}"
        )

    # -- text ----------------------------------------------------------------------------------------------------
    @staticmethod
    def names() -> tuple[str, ...]:
        """The names of the designs that come with quell."""
        folder = importlib.resources.files("quell") / "designs"
        found = [one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")]
        return tuple(sorted(name for name in found if name != "template"))

    @staticmethod
    def load(name: str | pathlib.Path) -> Design:
        """A built-in design by name, or a TOML file by path. Raises DesignError in sentences."""
        path = _find(name)
        return Design.of(_inherited(read_toml(path), path), where=path.name)

    @staticmethod
    def of(declared: dict[str, Any], where: str = "design") -> Design:
        """A design from a declared dictionary (the TOML form)."""
        try:
            return Design(**declared)
        except pydantic.ValidationError as error:
            raise DesignError(explain(error, Design, declared, where)) from None
        except TypeError as error:
            raise DesignError(f"{where}: {error}.") from None

    def declared(self) -> dict[str, Any]:
        """The TOML form as a dictionary: complete, and equal to the design when read back."""
        return _plain(dataclasses.asdict(cast(Any, self)))

    def text(self) -> str:
        """The canonical text form."""
        import tomli_w

        return tomli_w.dumps(self.declared())

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the text of the design and of its protocol, first 16 hexadecimal digits."""
        return hashlib.sha256((self.text() + self.plan.to_toml()).encode()).hexdigest()[:16]

    def but(self, **changes: Any) -> Design:
        """A copy with some parts changed, checked again. Raises DesignError in sentences."""
        try:
            return dataclasses.replace(cast(Any, self), **changes)
        except pydantic.ValidationError as error:
            raise DesignError(explain(error, Design, changes, self.name)) from None


@functools.lru_cache(maxsize=64)
def _protocol(name: str) -> Protocol:
    return Protocol.load(name)


def _find(name: str | pathlib.Path) -> pathlib.Path:
    text = str(name)
    if text in (*Design.names(), "template"):
        return pathlib.Path(str(importlib.resources.files("quell") / "designs" / f"{text}.toml"))
    path = pathlib.Path(text)
    if path.is_dir():
        raise DesignError(f"{text} is a folder. Name a design: {', '.join(Design.names())}, or a TOML file.")
    if not path.exists():
        raise DesignError(
            f"there is no design '{text}': no file of that name, and no built-in. {near(text, Design.names())}"
        )
    return path


def _inherited(declared: dict[str, Any], path: pathlib.Path, depth: int = 0) -> dict[str, Any]:
    """What the file says, over what the design that it extends says, less what it goes without."""
    said = dict(declared)
    parent, without = said.pop("extends", ""), said.pop("without", [])
    protocol = said.get("protocol")
    if isinstance(protocol, str) and (path.parent / protocol).is_file():
        said["protocol"] = str(path.parent / protocol)
    if not parent:
        return said
    if depth >= 5:
        raise DesignError(f"{path.name}: more than five designs extend one another. Is there a circle?")
    beside = path.parent / str(parent)
    above = _find(beside if beside.is_file() else str(parent))
    inherited = _inherited(read_toml(above), above, depth + 1)
    for key in without if isinstance(without, list) else [without]:
        if key not in inherited:
            raise DesignError(
                f"{path.name} goes without '{key}', which '{parent}' does not say. {near(str(key), inherited)}"
            )
        del inherited[key]
    return inherited | said


def _plain(value: Any) -> Any:
    """TOML's own types, without what is absent or empty."""
    if isinstance(value, dict):
        kept = {key: _plain(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None and item not in ("", [], {})}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


# -- coherence: each check raises a sentence ------------------------------------------------------------------------
def _arms_known(design: Design) -> None:
    known = [arm.name for arm in design.plan.arms]
    for name in design.arms:
        if name not in known:
            raise ValueError(f"protocol '{design.protocol}' has no arm '{name}'. {near(name, known)}")
    if len(set(design.arms)) < len(design.arms):
        raise ValueError(
            f"an arm is named twice among {', '.join(design.arms)}. Name the control, and each active arm once."
        )
    if len(design.ratio) != len(design.arms):
        raise ValueError(
            f"allocation.ratio has {len(design.ratio)} shares for {len(design.arms)} arms "
            f"({', '.join(design.arms)}). Write one for each, in this order."
        )
    block = design.allocation.block
    if block and block % sum(design.ratio):
        raise ValueError(f"allocation.block is {block}, which {sum(design.ratio)} shares do not divide.")


def _names_once(design: Design) -> None:
    for what, names in (
        ("worlds", [one.name for one in design.worlds]),
        ("variants", [one.name for one in design.variants]),
    ):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{what} has two entries called '{twice[0]}'. Give each its own name.")


def _endpoints_known(design: Design) -> None:
    timed = {one.name: one for one in design.plan.endpoints if one.timed}
    for name in design.endpoints:
        if name not in timed:
            raise ValueError(
                f"'{name}' is no endpoint of protocol '{design.protocol}' that is a time to an event. {near(name, timed)}"
            )
        for event in timed[name].components:
            if event not in CAUSE_OF:
                raise ValueError(
                    f"endpoint '{name}' counts '{event}', which virtual people do not have. {near(event, CAUSE_OF)}"
                )
    if design.timed == design.test.measured:
        wanted = "log-rank, cox, restricted mean" if design.timed else "ancova, difference"
        raise ValueError(
            f"test.method '{design.test.method}' does not fit the primary endpoint. Methods that do: {wanted}."
        )


def _looks_fit(design: Design) -> None:
    last, clocks = design.looks[-1], {one.clock for one in design.looks}
    if last.fraction not in (None, 1.0):
        raise ValueError(
            f"the last look is at fraction {last.fraction} of itself. Say fraction = 1, events, day or people."
        )
    if not design.timed and clocks != {"people"}:
        raise ValueError(
            "looks of a measured endpoint are at people = 0.5, ..., 1: the share of those planned who are read."
        )
    if "day" in clocks and len(clocks) > 1:
        raise ValueError(
            f"some looks go by day and others by {' and '.join(sorted(clocks - {'day'}))}. Let all go by one; a look by events "
            'may have latest = "5 years".'
        )
    if design.timed and "people" in clocks:
        raise ValueError(
            "a look when people have been followed up is for measured endpoints. Say events, fraction or day."
        )
    for variant in design.variants:
        total = variant.events or last.events
        if "fraction" in clocks and not total:
            raise ValueError(
                f"a look is at a fraction of the events, but variant '{variant.name}' has no events. Add events = 300."
            )
        if variant.events and last.clock == "events":
            raise ValueError(
                "the events of the last look are said twice: there, and by the variant. Say fraction = 1 there."
            )
        targets = [one.target(total) for one in design.looks if one.clock in ("events", "fraction")]
        if targets != sorted(set(targets)):
            raise ValueError(f"the looks of '{variant.name}' are at {targets} events. Put them in rising order.")
        if (total or 0) > variant.people:
            raise ValueError(
                f"variant '{variant.name}' waits for {total} events in {variant.people} people. Add people."
            )


def _rules_fit(design: Design) -> None:
    early = len(design.looks) - 1
    if design.futility and len(design.futility.limit) not in (0, 1, early):
        raise ValueError(
            f"futility.limit has {len(design.futility.limit)} values for {early} early looks. Write one, or one for each."
        )
    if len(design.efficacy.chance) not in (0, 1, early + 1):
        raise ValueError(
            f"efficacy.chance has {len(design.efficacy.chance)} values for {early + 1} looks. Write one, or one for each."
        )
    if len(design.arms) > 2 and not design.select:
        raise ValueError(
            f"{len(design.active)} active arms need [select], the rule by which one goes on; or name one in active."
        )
    if design.secondary and not design.timed and design.secondary.co_primary:
        raise ValueError("co-primary endpoints go with a timed primary. Remove co_primary.")
    if design.test.method == "win ratio" and design.secondary:
        raise ValueError("a win ratio already ranks its endpoints. Leave [secondary] out.")
    if design.test.method in ("win ratio", "max-combo") and early:
        raise ValueError(
            f"the increments of a {design.test.method} test are not independent, so its limits are not known. Leave one look."
        )


def _one_adaptation(design: Design) -> None:
    chosen = [name for name in ADAPTATIONS if getattr(design, name)]
    if len(chosen) > 1:
        raise ValueError(f"a design adapts in one way; here in {' and '.join(chosen)}. Keep one of them.")
    for name in ("resize", "enrich", "select"):
        rule = getattr(design, name)
        if rule and rule.look >= len(design.looks):
            raise ValueError(
                f"{name} happens at look {rule.look}, but only looks 1 to {len(design.looks) - 1} are early."
            )
    if design.select and len(design.arms) < 3:
        raise ValueError("[select] chooses among several active arms; here there is one. Name more in active.")
    if design.select and design.select.by == "reading" and any(one.efficacy for one in design.looks[:-1]):
        raise ValueError(
            "where a reading selects the arm, cohorts are combined, and success can be claimed at the last look only. "
            "Write efficacy = false at the earlier looks."
        )
    if design.respond and len(design.arms) != 2:
        raise ValueError("response-adaptive allocation is for two arms here. Name one active arm.")
    if chosen and chosen != ["resize"] and not design.timed:
        raise ValueError(f"[{chosen[0]}] goes with a timed primary.")
    if design.resize and (design.resize.by == "blinded variance") == design.timed:
        raise ValueError(
            f'resize by = "{design.resize.by}" does not fit the primary: variance is of measured endpoints.'
        )


def _worlds_fit(design: Design) -> None:
    for world in design.worlds:
        quantity = design.primary.reading.rsplit(",", 1)[0]
        if world.assumed and quantity and quantity not in world.assumed.readings:
            raise ValueError(
                f"world '{world.name}' assumes nothing about '{quantity}'. Add [worlds.assumed.readings.\"{quantity}\"]."
            )
    calendar = [one.calendar for one in design.looks if one.day]
    if calendar != sorted(set(calendar)):
        raise ValueError("the calendar looks are not in order. Put the earliest first.")
    if calendar and calendar[-1] > units.days(design.horizon):
        raise ValueError(f'a look comes after the horizon of {design.horizon}. Add horizon = "10 years".')

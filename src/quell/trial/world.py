"""The world a virtual trial happens in: the bodies' parameters and how people behave. The truth lives here."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import tomllib
from typing import Any

from quell import posterior
from quell.body import parameters as body
from quell.sentences import BadInput, near


class TrialError(BadInput):
    """A trial that cannot be simulated, in sentences."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conduct:
    """How a trial really goes: each a probability, with its source in ``conduct.toml``."""

    dose_missed: float
    visit_missed: float
    scan_failed: float
    leaves: float
    leaving_time: float
    leaving_per_grace: float
    grace_centre: float
    lost_per_year: float


@functools.cache
def conduct_table() -> dict[str, dict[str, Any]]:
    """Every number of conduct, with unit, source and status."""
    return tomllib.loads((importlib.resources.files("quell.trial") / "conduct.toml").read_text("utf-8"))


def usual_conduct() -> Conduct:
    """Conduct as published for IVORY where it is, and as assumed where it is not."""
    return Conduct(**{name: float(entry["value"]) for name, entry in conduct_table().items()})


REMOVABLE = ("efficacy", "drug", "loop")


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """A world: central parameters, or parameters drawn anew for each trial (``uncertain``).

    ``World("before-ivory")`` and ``World("after-ivory")`` draw each trial's parameters from what the evidence leaves open
    (``quell.posterior``); their central parameters are the medians.

    >>> World().without("efficacy").name
    'prior, without efficacy'
    """

    name: str = dataclasses.field(default="prior", kw_only=False)
    parameters: body.Parameters = dataclasses.field(default_factory=body.load)
    uncertain: bool = False
    stage: str = "prior"  # where uncertain parameters come from: their table's uncertainty, or draws of a stage
    draws: posterior.Draws | None = dataclasses.field(default=None, repr=False, compare=False)  # or draws of one's own
    removed: tuple[str, ...] = ()
    conduct: Conduct = dataclasses.field(default_factory=usual_conduct)

    def __post_init__(self) -> None:
        if self.name in posterior.STAGES and self.stage == "prior":
            object.__setattr__(self, "stage", self.name)
            object.__setattr__(self, "uncertain", True)
            object.__setattr__(self, "parameters", posterior.load(self.name).middle())
        elif not self._named_by_its_maker():
            known = ("prior", *posterior.STAGES)
            raise TrialError(f"there is no world '{self.name}'. {near(self.name, known)}")

    def _named_by_its_maker(self) -> bool:
        """Whether the name is known, or follows from one, or is that of a world with parameters of its own."""
        usual = all(mine is given for mine, given in zip(self.parameters, body.load(), strict=True))
        return self.name.split(",")[0] in ("prior", *posterior.STAGES) or not usual

    def without(self, what: str) -> World:
        """The same world where the drug calms nothing (``efficacy``), does nothing (``drug``), or without the ``loop``."""
        if what not in REMOVABLE:
            raise TrialError(f"a world can be without {', '.join(REMOVABLE)}; not '{what}'. {near(what, REMOVABLE)}")
        return dataclasses.replace(
            self,
            name=f"{self.name}, without {what}",
            parameters=body.without(self.parameters, what),
            removed=(*self.removed, what),
        )

    def drawn(self) -> World:
        """The same world, with the parameters drawn anew for every trial from their uncertainty."""
        return dataclasses.replace(self, name=f"{self.name}, uncertain", uncertain=True)

"""The worlds that a design is tried in: draws of a posterior, or hazards, markers and readings by assumption."""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import Literal

import numpy as np
import pydantic

from quell import units
from quell.promises import duration, promise

_RISK = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*(?:by|at)\s+(.+?)\s*")


@promise
class Ratio:
    """The hazard ratio of active arms from some time after randomisation on; of one arm where ``arm`` says so."""

    after: str = "0 days"
    ratio: float = pydantic.Field(gt=0, le=20)
    arm: str = ""

    @property
    def day(self) -> float:
        return units.days(self.after)

    @pydantic.field_validator("after")
    @classmethod
    def _after(cls, after: str) -> str:
        return duration(after) if units.days(after) else "0 days"


@promise
class Marker:
    """A covariate of assumed people: log-normal; hazard ratio and benefit per doubling of it over its median."""

    name: str
    median: float = pydantic.Field(gt=0)
    log_sd: float = pydantic.Field(gt=0, le=3)
    hazard_per_doubling: float = pydantic.Field(default=1.0, gt=0, le=5)
    ratio_per_doubling: float = pydantic.Field(default=1.0, gt=0, le=5)  # factor on the hazard ratio of active arms


@promise
class Reading:
    """A measured endpoint of assumed people: level and spread on control, correlation with baseline, effect of active arms."""

    mean: float
    sd: float = pydantic.Field(gt=0)
    correlation: float = pydantic.Field(default=0.5, gt=-1, lt=1)
    difference: float = 0.0  # active less control
    by_arm: dict[str, float] = dataclasses.field(default_factory=dict)
    day: int = pydantic.Field(default=61, ge=1)

    def __hash__(self) -> int:
        return hash((self.mean, self.sd, self.correlation, self.difference, tuple(self.by_arm.items()), self.day))

    def effect(self, arm: str) -> float:
        return self.by_arm.get(arm, self.difference)


@promise
class Assumed:
    """A world by assumption: risks of the primary event on control, and hazard ratios; no biology.

    ``risk`` are cumulative risks, ``["6 % by 1 year", "11 % by 2 years"]``: the hazard is even between them and runs on.
    ``shares`` say how large a part of the primary's events each cause is (the rest of them is shared out as published).
    """

    risk: tuple[str, ...] = pydantic.Field(min_length=1)
    ratios: tuple[Ratio, ...] = ()
    markers: tuple[Marker, ...] = ()
    readings: dict[str, Reading] = dataclasses.field(default_factory=dict)
    shares: dict[str, float] = dataclasses.field(default_factory=dict)
    source: str = ""

    def __hash__(self) -> int:
        tables = (tuple(self.readings.items()), tuple(self.shares.items()))
        return hash((self.risk, self.ratios, self.markers, *tables))

    @property
    def risks(self) -> tuple[tuple[float, float], ...]:
        """(day, cumulative risk by then) of the primary on control."""
        return tuple(_risk(one) for one in self.risk)

    @property
    def hazard(self) -> tuple[tuple[float, float], ...]:
        """(day from which, hazard per day) of the primary on control.

        >>> [round(1000 * rate, 4) for _, rate in Assumed(risk=("11 % by 2 years",)).hazard]
        [0.1595]
        """
        points = [(0.0, 0.0), *(_risk(one) for one in self.risk)]
        gathered = [(day, -np.log1p(-risk)) for day, risk in points]
        return tuple((a[0], float((b[1] - a[1]) / (b[0] - a[0]))) for a, b in itertools.pairwise(gathered))

    def ratio(self, arm: str) -> tuple[tuple[float, float], ...]:
        """(day from which, hazard ratio) of an active arm; what is said of the arm counts before what is said of all."""
        own = [one for one in self.ratios if one.arm == arm] or [one for one in self.ratios if not one.arm]
        return tuple((one.day, one.ratio) for one in own) or ((0.0, 1.0),)

    @pydantic.field_validator("shares")
    @classmethod
    def _shares(cls, shares: dict[str, float]) -> dict[str, float]:
        if any(not 0 < one <= 1 for one in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"the shares are {shares}. Each lies between 0 and 1, and together they are at most 1.")
        return shares

    @pydantic.model_validator(mode="after")
    def _rising(self) -> Assumed:
        points = [_risk(one) for one in self.risk]
        for (day, risk), (later, more) in zip([(0.0, 0.0), *points], points, strict=False):
            if not (later > day and risk < more < 1):
                raise ValueError(
                    f"the risks {list(self.risk)} do not rise with time. Write cumulative risks below 100 %, the earliest first."
                )
        for arm in {one.arm for one in self.ratios}:
            days = [one.day for one in self.ratios if one.arm == arm]
            if days and (days[0] != 0 or days != sorted(set(days))):
                raise ValueError('the hazard ratios need the first one after = "0 days", and later ones in order.')
        return self


def _risk(text: str) -> tuple[float, float]:
    """(day, risk) of "11 % by 2 years"."""
    found = _RISK.fullmatch(text)
    if not found:
        raise ValueError(f"'{text}' is not a risk. Write it as '11 % by 2 years'.")
    return units.days(found[2]), float(found[1]) / 100


@promise
class World:
    """A world that the design is tried in: draws of a posterior, or hazards by assumption.

    ``posterior``: constants of the body as the evidence leaves them at a stage; ``without`` a link of the causal chain
    (``efficacy``: the drug calms nothing); ``best``: only this share of the draws, those of the largest true effect.
    ``conduct``: people miss doses and leave treatment as in IVORY (``usual``), or do as planned (``perfect``).
    """

    name: str = pydantic.Field(min_length=1, max_length=80)
    label: str = ""
    posterior: Literal["", "before-ivory", "after-ivory"] = ""
    without: Literal["", "efficacy", "drug", "loop"] = ""
    best: float | None = pydantic.Field(default=None, gt=0, lt=1)
    conduct: Literal["usual", "perfect"] = "usual"
    variants: tuple[int, ...] = ()  # the sizes that are tried in it, counted from 1; all unless said
    assumed: Assumed | None = None

    @property
    def shown(self) -> str:
        return self.label or self.name

    @property
    def null(self) -> bool:
        """Whether no arm does anything here, so that every success is an error."""
        if self.assumed is None:
            return self.without in ("efficacy", "drug")
        flat = all(one.ratio == 1 for one in self.assumed.ratios)
        still = all(not one.difference and not any(one.by_arm.values()) for one in self.assumed.readings.values())
        return flat and still and all(one.ratio_per_doubling == 1 for one in self.assumed.markers)

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> World:
        if bool(self.posterior) == (self.assumed is not None):
            raise ValueError(
                f"world '{self.name}' needs either posterior = \"after-ivory\" or a table [worlds.assumed], and not both."
            )
        if self.assumed and (self.without or self.best):
            raise ValueError(
                f"world '{self.name}' is assumed: nothing can be taken out of it. Remove without and best."
            )
        return self

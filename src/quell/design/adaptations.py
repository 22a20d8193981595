"""What may change while a trial runs, and by what rule: size, population, arms, allocation; and the gate of a surrogate.

Each is a value that only says; what is done with it stands in `adapt`, and how the level is kept in `combine`.
"""

from __future__ import annotations

from typing import Literal

import pydantic

from quell import units
from quell.design.parts import Criterion
from quell.promises import duration, promise


@promise
class Resize:
    """The size is judged anew at a look.

    ``blinded rate``: people are added so that the planned events come by ``finish``, from the rate of events of both arms
    together. ``blinded variance`` (measured endpoints): people in proportion to the variance of both arms together over
    ``sd``² (Kieser and Friede 2003, doi:10.1002/sim.1585). ``promising zone``: events (and people, where ``people``) are
    added where conditional power under the trend lies in ``zone``, until it is ``power`` (Mehta and Pocock 2011,
    doi:10.1002/sim.4102), with weights fixed in advance (Cui, Hung and Wang 1999, doi:10.1111/j.0006-341X.1999.00853.x).
    """

    by: Literal["blinded rate", "blinded variance", "promising zone"]
    look: int = pydantic.Field(default=1, ge=1)
    most: float = pydantic.Field(default=1.5, gt=1, le=5)
    finish: str = ""
    sd: float | None = pydantic.Field(default=None, gt=0)
    zone: tuple[float, float] = (0.3, 0.9)
    power: float = pydantic.Field(default=0.9, gt=0.5, lt=1)
    people: bool = True
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Resize:
        if (self.by == "blinded rate") != bool(self.finish):
            raise ValueError('resize by = "blinded rate" needs finish = "5 years", and no other way takes it.')
        if (self.by == "blinded variance") != (self.sd is not None):
            raise ValueError(
                'resize by = "blinded variance" needs sd, the one planned with, and no other way takes it.'
            )
        if not 0 < self.zone[0] < self.zone[1] <= 1:
            raise ValueError(f"the promising zone is {list(self.zone)}. Write two rising chances, such as [0.3, 0.9].")
        if self.finish:
            object.__setattr__(self, "finish", duration(self.finish))
        return self


@promise
class Enrich:
    """At a look the trial goes on with everyone, or only with those who keep ``limit`` at entry (adaptive enrichment).

    With everyone where Z in everyone is at least ``everyone``; else with the subgroup where Z in it is at least
    ``subgroup``; else it stops for futility. Both hypotheses are tested by closed testing of combined stages (Brannath
    et al. 2009, doi:10.1002/sim.3559; Jenkins, Stone and Jennison 2011, doi:10.1002/pst.472).
    """

    limit: Criterion
    look: int = pydantic.Field(default=1, ge=1)
    everyone: float = pydantic.Field(default=1.0, ge=-5, le=5)
    subgroup: float = pydantic.Field(default=0.5, ge=-5, le=5)
    source: str = ""


@promise
class Select:
    """At a look the best active arm goes on with control, and the others take in nobody more (multi-arm multi-stage).

    ``by``: the primary's Z, or a ``reading`` (the best mean difference, adjusted for ``baseline``). Closed testing with Dunnett's
    test of each stage, combined by the inverse normal (Bretz et al. 2006; Posch et al. 2005, doi:10.1002/sim.2389). Stages
    are increments of the log-rank test where arms are chosen by it alone (Wassmer 2006); where a reading chooses, the
    people of each stage are a cohort of their own, followed to the end, since who has the lower reading may also have fewer
    events later (Jenkins, Stone and Jennison 2011, doi:10.1002/pst.472). It stops where no Z reaches ``least``.
    """

    by: Literal["z", "reading"] = "z"
    reading: str = ""
    look: int = pydantic.Field(default=1, ge=1)
    least: float = pydantic.Field(default=-10.0, ge=-10, le=5)
    share: float = pydantic.Field(default=0.5, gt=0, lt=1)  # of the information planned from the first cohort
    baseline: str = ""  # the reading that means are adjusted for
    day: int = pydantic.Field(default=61, ge=1)
    better: Literal["lower", "higher"] = "lower"
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Select:
        if (self.by == "reading") != bool(self.reading):
            raise ValueError('select by = "reading" needs reading = "TBRmax, day 61"; by = "z" takes none.')
        return self


@promise
class Respond:
    """Response-adaptive allocation of two arms: at each of ``updates`` (calendar time) the active arm's share becomes

        P^c / (P^c + (1 - P)^c),   P = Phi(Z), the chance that it is better; within ``least`` and 1 - ``least``

    (Thall and Wathen 2007, doi:10.1016/j.ejca.2007.01.006). The test is stratified by the periods between updates, whose
    allocation is even within, so that drifting prognosis and allocation are not mixed up (Korn and Freidlin 2011,
    doi:10.1200/JCO.2010.31.1423).
    """

    updates: tuple[str, ...] = pydantic.Field(min_length=1, max_length=12)
    power: float = pydantic.Field(default=0.5, ge=0, le=5)
    least: float = pydantic.Field(default=0.2, gt=0, le=0.5)
    source: str = ""

    @property
    def days(self) -> tuple[float, ...]:
        return tuple(units.days(one) for one in self.updates)

    @pydantic.model_validator(mode="after")
    def _rising(self) -> Respond:
        object.__setattr__(self, "updates", tuple(duration(one) for one in self.updates))
        if list(self.days) != sorted(set(self.days)):
            raise ValueError(f"the updates {list(self.updates)} are not in order of time. Put the earliest first.")
        return self


@promise
class Surrogate:
    """A sub-study: the first ``people`` randomised have a ``reading``, compared adjusted for ``baseline``.

    With ``gate`` (one-sided p at most) the trial goes on to its outcome stage only where the surrogate is moved enough
    (seamless phase 2 and 3). A gate can only stop a trial, so that everyone's outcomes may be tested at the full level;
    with ``outcome = "after the gate"`` only people randomised after the gate are.
    """

    reading: str
    baseline: str = ""
    people: int = pydantic.Field(ge=4, le=100_000)
    day: int = pydantic.Field(default=61, ge=1)  # study day of the reading
    better: Literal["lower", "higher"] = "lower"
    gate: float | None = pydantic.Field(default=None, gt=0, lt=1)
    outcome: Literal["everyone", "after the gate"] = "everyone"
    source: str = ""

    @pydantic.model_validator(mode="after")
    def _gated(self) -> Surrogate:
        if self.outcome != "everyone" and self.gate is None:
            raise ValueError('outcome = "after the gate" needs a gate. Add gate = 0.1, or leave outcome out.')
        return self

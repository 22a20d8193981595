"""The tests of a design: what the data of a look say of a pair of arms, and the estimate at the end; for many trials at once."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from quell.analysis import means, win_ratio
from quell.analysis.claim import Estimate
from quell.analysis.maxcombo import USUAL
from quell.analysis.normal_maximum import exceedance
from quell.design import kernels
from quell.design.adaptations import Surrogate
from quell.design.components import part_times
from quell.design.course import Course, Game, some, watched
from quell.design.declared import DEATHS
from quell.design.kernels import NEVER, Followed
from quell.design.parts import Primary, Test
from quell.promises import whole_days


class Data(NamedTuple):
    """What a test sees of some trials: people up to a calendar day, a pair of arms (control, active), strata."""

    people: Followed  # (rows, n); arm -1: not in this comparison
    cut: np.ndarray  # (rows,) calendar day
    pair: tuple[int, int] = (0, 1)
    strata: np.ndarray | None = None
    course: Course | None = None
    rows: np.ndarray | None = None


class Evidence(NamedTuple):
    """Statistic in favour of the active arm, information, and events or people read, (rows,) each."""

    z: np.ndarray
    information: np.ndarray
    events: np.ndarray
    enrolled: np.ndarray


class Effect(NamedTuple):
    """The estimated effect of the active arm on its working scale and its standard error, (rows,) each."""

    value: np.ndarray
    se: np.ndarray


class Statistic(Protocol):
    """A test, and the estimate that goes with it. ``sign`` is -1 where a lower effect is better."""

    @property
    def sign(self) -> float: ...

    def __call__(self, data: Data) -> Evidence: ...

    def effect(self, data: Data) -> Effect: ...


@dataclasses.dataclass(frozen=True)
class LogRank:
    """The log-rank test; the effect is Cox's log hazard ratio."""

    sign: float = -1.0

    def __call__(self, data: Data) -> Evidence:
        found = kernels.logrank(data.people, data.cut, pair=data.pair, strata=data.strata)
        return Evidence(found.z, found.variance, found.events.sum(-1), found.people.sum(-1))

    def effect(self, data: Data) -> Effect:
        found = kernels.cox(data.people, data.cut, pair=data.pair, strata=data.strata)
        return Effect(np.where(np.isfinite(found.log_ratio), found.log_ratio, np.nan), found.se)


@dataclasses.dataclass(frozen=True)
class Cox(LogRank):
    """Wald's test of Cox's log hazard ratio; the log-rank test where an arm has no event."""

    def __call__(self, data: Data) -> Evidence:
        score = LogRank.__call__(self, data)
        found = self.effect(data)
        known = np.isfinite(found.value) & np.isfinite(found.se)
        safe = np.where(known, found.se, 1.0)
        return score._replace(
            z=np.where(known, -found.value / safe, score.z), information=np.where(known, safe**-2.0, score.information)
        )


@dataclasses.dataclass(frozen=True)
class Weighted(LogRank):
    """One weighted log-rank test, or the largest of several (max-combo), as the Z of its one-sided p."""

    weights: tuple[tuple[float, float], ...] = ((0.0, 0.0),)

    def __call__(self, data: Data) -> Evidence:
        found = kernels.weighted_logrank(data.people, data.cut, self.weights, pair=data.pair, strata=data.strata)
        variance = np.diagonal(found.covariance, axis1=1, axis2=2)
        z = found.z[:, 0]
        if len(self.weights) > 1:
            scale = np.sqrt(np.where(variance > 0, variance, 1.0))
            correlation = found.covariance / (scale[:, :, None] * scale[:, None, :])
            correlation[:, np.arange(len(self.weights)), np.arange(len(self.weights))] = 1.0
            z = -special.ndtri(np.clip(exceedance(found.z.max(-1), correlation, two_sided=False), 1e-300, 1 - 1e-16))
        return Evidence(z, variance[:, 0], found.events.sum(-1), found.people.sum(-1))


@dataclasses.dataclass(frozen=True)
class RestrictedMean:
    """Difference of restricted mean event-free time, in days."""

    until: int
    sign: float = 1.0

    def __call__(self, data: Data) -> Evidence:
        found = kernels.restricted_mean(data.people, data.cut, self.until, pair=data.pair)
        information = np.where(found.se > 0, found.se, np.inf) ** -2.0
        return Evidence(found.z, information, found.events.sum(-1), found.people.sum(-1))

    def effect(self, data: Data) -> Effect:
        found = kernels.restricted_mean(data.people, data.cut, self.until, pair=data.pair)
        return Effect(found.difference, found.se)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Difference in means of a reading, adjusted for its baseline where one is named (analysis of covariance)."""

    game: Game
    reading: Primary | Surrogate
    first: int = 0  # only the first so many people have it; 0: everybody

    @property
    def sign(self) -> float:
        return -1.0 if self.reading.better == "lower" else 1.0

    def __call__(self, data: Data) -> Evidence:
        found = self._fitted(data)
        known = np.isfinite(found.estimate) & np.isfinite(found.se) & (found.se > 0)
        z = np.where(known, self.sign * found.estimate / np.where(known, found.se, 1.0), 0.0)
        return Evidence(_normal(z, found.df), np.where(known, found.se, np.inf) ** -2.0, found.n, self._enrolled(data))

    def effect(self, data: Data) -> Effect:
        found = self._fitted(data)
        return Effect(found.estimate, found.se)

    def values(self, data: Data, name: str) -> np.ndarray:
        """A reading of each person under the own arm, (rows, n)."""
        course, rows = data.course, data.rows
        assert course is not None and rows is not None
        kept, n = self.game.scene.bank.readings[name], self.first or course.crowd.person.shape[1]
        arm = np.array(self.game.scene.arms)[np.maximum(course.crowd.arm[rows, :n], 0)]
        return kept[course.crowd.draw[rows, None], arm, course.crowd.person[rows, :n]].astype(float)

    def there(self, data: Data) -> np.ndarray:
        """Who has been read by the cut: in the trial and not lost, or dead, before the day of the reading."""
        course, rows, n = data.course, data.rows, self.first or data.people.arm.shape[1]
        assert course is not None and rows is not None
        day, people = self.reading.day, data.people
        dead = (
            np.stack([course.crowd.time[g, rows, :n] for g in _fatal(self.game)]).min(0)
            if _fatal(self.game)
            else np.inf
        )
        in_time = people.entry[:, :n] + day <= data.cut[:, None]
        return (people.arm[:, :n] >= 0) & in_time & (np.minimum(people.lost[:, :n], dead) > day)

    def _fitted(self, data: Data) -> Estimate:
        outcome = self.values(data, self.reading.reading)
        base = self.values(data, self.reading.baseline)[..., None] if self.reading.baseline else None
        arm = np.where(data.people.arm[:, : outcome.shape[1]] == data.pair[1], 1, -1)
        arm = np.where(data.people.arm[:, : outcome.shape[1]] == data.pair[0], 0, arm)
        return means.ancova(outcome, arm, covariates=base, include=self.there(data))

    def _enrolled(self, data: Data) -> np.ndarray:
        return ((data.people.entry <= data.cut[:, None]) & (data.people.arm >= 0)).sum(-1)


@dataclasses.dataclass(frozen=True)
class WinRatio:
    """The win ratio over endpoints in order of gravity (U-statistic variance); the effect is its logarithm."""

    game: Game
    levels: tuple[str, ...]
    sign: float = 1.0

    def _compared(self, data: Data) -> Estimate:
        course, rows = data.course, data.rows
        assert course is not None and rows is not None
        levels = []
        times = part_times(self.game.scene.parts, course.crowd, float(data.cut.max()))
        for name in self.levels:
            people = some(watched(self.game, course.crowd, self.game.design.endpoints.index(name), times), rows)
            follow_up = np.minimum(people.lost, np.maximum(data.cut[:, None] - people.entry, 0))
            time = np.minimum(people.event, follow_up)
            levels.append(win_ratio.Survival(time.astype(float), (people.event <= follow_up).astype(float)))
        inside = (data.people.arm >= 0) & (data.people.entry <= data.cut[:, None])
        contest = win_ratio.compare(levels, data.people.arm.astype(int), include=inside)
        return win_ratio.win_ratio(contest)

    def __call__(self, data: Data) -> Evidence:
        found = self.effect(data)
        first = LogRank()(data)
        known = np.isfinite(found.value) & np.isfinite(found.se) & (found.se > 0)
        safe = np.where(known, found.se, 1.0)
        return first._replace(z=np.where(known, found.value / safe, 0.0), information=np.where(known, safe**-2.0, 0.0))

    def effect(self, data: Data) -> Effect:
        found = self._compared(data)
        return Effect(np.log(found.estimate), found.se)


@dataclasses.dataclass(frozen=True)
class Least:
    """Co-primary endpoints: the claim needs each of them, so that the least of their statistics counts (intersection-union)."""

    game: Game
    first: Statistic
    others: tuple[int, ...]  # places of the other endpoints in the design's

    @property
    def sign(self) -> float:
        return self.first.sign

    def __call__(self, data: Data) -> Evidence:
        found, course, rows = self.first(data), data.course, data.rows
        assert course is not None and rows is not None
        times = part_times(self.game.scene.parts, course.crowd, float(data.cut.max()))
        for number in self.others:
            people = some(watched(self.game, course.crowd, number, times), rows)._replace(arm=data.people.arm)
            found = found._replace(z=np.minimum(found.z, self.first(data._replace(people=people)).z))
        return found

    def effect(self, data: Data) -> Effect:
        return self.first.effect(data)


def statistic_of(game: Game) -> Statistic:
    """The primary's test."""
    first = _first(game, game.design.test)
    secondary = game.design.secondary
    if secondary and secondary.co_primary:
        places = tuple(game.design.endpoints.index(one) for one in secondary.endpoints)
        return Least(game, first, tuple(place for place in places if place))
    return first


def _first(game: Game, test: Test) -> Statistic:
    match test.method:
        case "log-rank":
            return LogRank()
        case "weighted log-rank":
            return Weighted(weights=((test.rho, test.gamma),))
        case "max-combo":
            return Weighted(weights=tuple(USUAL))
        case "cox":
            return Cox()
        case "restricted mean":
            return RestrictedMean(until=whole_days(test.until))
        case "win ratio":
            return WinRatio(game, test.levels)
        case _:
            primary = game.design.primary
            if test.method == "difference":
                primary = dataclasses.replace(primary, baseline="")
            return Measured(game, primary)


def _fatal(game: Game) -> list[int]:
    return [g for g, group in enumerate(game.scene.fates.groups) if set(group) <= set(DEATHS)]


def _normal(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Student's t as the normal Z of the same tail."""
    tail = special.stdtr(np.maximum(df, 1), -np.abs(t))
    return np.where(df > 0, -np.sign(t) * special.ndtri(np.maximum(tail, 1e-300)), 0.0)


__all__ = ["NEVER", "Data", "Effect", "Evidence", "Measured", "Statistic", "statistic_of"]

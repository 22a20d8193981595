"""Carrying a design out: a chunk of its trials in one world, from the first person to the claim, as a file.

A chunk is a pure function of the job and its number: trial k has the same people, chance and draw in every world, at
every size and under every rule, so that designs are compared on the same trials.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable

import numpy as np
import polars as pl

from quell import units
from quell.design import plain
from quell.design.adapt import Adapt, Gate, Nothing, adapt_of
from quell.design.combine import Comparisons, comparisons_of
from quell.design.course import EFFICACY, REASONS, Course, Game
from quell.design.cut import Cut, cut_of
from quell.design.declared import Design, DesignError
from quell.design.judge import Judge, judge_of
from quell.design.limits import adjusted
from quell.design.record import Record, Whole
from quell.design.recruit import Recruit, Responding, candidates
from quell.design.scene import game
from quell.design.secondary import further
from quell.design.statistic import Statistic, statistic_of
from quell.sentences import near

CHUNK = 250  # trials
PER_MONTH = 12 / units.DAYS_PER_YEAR
WIDE = 1.959963984540054  # of a 95 % interval, in standard errors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a chunk follows from besides its number: a design, one of its worlds and sizes, a key, and the bank's files.

    >>> Job(design=Design.load("ivory-3"), world="ratio-0.7", variant=1, key=1).name
    'ivory-3, ratio-0.7, 4,000 people, 337 events'
    """

    design: Design
    world: str
    variant: int = 0  # place among the design's variants
    key: int = 0
    paths: tuple[str, ...] = ()  # shards of the world's bank; none where the world is assumed

    def __post_init__(self) -> None:
        self.design.world(self.world)
        if not 0 <= self.variant < len(self.design.variants):
            names = [f"{number} ({one.name})" for number, one in enumerate(self.design.variants)]
            raise DesignError(
                f"design '{self.design.name}' has no variant {self.variant}. {near(str(self.variant), names)}"
            )
        assumed = self.design.world(self.world).assumed is not None
        if assumed == bool(self.paths):
            needs = (
                "is assumed and has no bank: leave paths out" if assumed else "needs the files of its bank: give paths"
            )
            raise DesignError(f"world '{self.world}' {needs}.")

    @property
    def name(self) -> str:
        return f"{self.design.name}, {self.world}, {self.design.variants[self.variant].name}"


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rules of a design at its seams: who comes, when it is cut, how it is tested and judged, what is changed."""

    recruit: Callable[[np.ndarray], Course]
    gate: Gate | None
    cuts: tuple[Cut, ...]
    statistic: Statistic
    comparisons: Comparisons
    judge: Judge
    adapt: Adapt
    record: Record


def rules_of(of: Game) -> Rules:
    """The rules that a design declares, by the plain ones where they are the same."""
    return plain_rules(of) if plain.is_plain(of) else general_rules(of)


def plain_rules(of: Game) -> Rules:
    """The rules of a plain design."""
    return Rules(
        recruit=plain.Recruit(of, plain.world_of(of)),
        gate=None,
        cuts=(plain.Cut(),) * len(of.design.looks),
        statistic=statistic_of(of),
        comparisons=plain.Compared(),
        judge=judge_of(of),
        adapt=Nothing(),
        record=plain.Record(of, plain.parts_of(of)),
    )


def general_rules(of: Game) -> Rules:
    """The rules of any design."""
    statistic = statistic_of(of)
    comparisons, number = comparisons_of(of, statistic)
    usual = Recruit(of, candidates(of), number)
    judge = judge_of(of)
    return Rules(
        recruit=Responding(usual) if of.design.respond else usual,
        gate=Gate(of, of.design.surrogate) if of.design.surrogate else None,
        cuts=tuple(cut_of(of, one) for one in of.design.looks),
        statistic=statistic,
        comparisons=comparisons,
        judge=judge,
        adapt=adapt_of(of, usual),
        record=Whole(of, statistic),
    )


def play(of: Game, rules: Rules, trials: np.ndarray) -> Course:
    """Trials from the first person to their end."""
    course = rules.recruit(trials)
    if rules.gate:
        course = rules.gate(course)
    for look, cut in enumerate(rules.cuts):
        rows = course.running
        if not len(rows):
            break
        course.day[rows, look] = cut(course, rows, look)
        rules.comparisons(course, rows, look)
        rules.judge(course, rows, look)
        course = rules.adapt(course, look)
    return course


def chunk(job: Job, number: int) -> bytes:
    """Trials [250 number, 250 (number + 1)) of a job as a Parquet file: columns of ``crowd.RESULT``, BY_LOOK, BY_SECONDARY.

    >>> found = pl.read_parquet(io.BytesIO(chunk(Job(design=Design.load("ivory-3"), world="ratio-0.7"), 0)))
    >>> found.height, found["trial"][0], found.columns[:5]
    (250, 0, ['trial', 'draw', 'success', 'look', 'reason'])
    """
    return written(trials(job, np.arange(number * CHUNK, (number + 1) * CHUNK)))


def trials(job: Job, numbers: np.ndarray) -> pl.DataFrame:
    """Any trials of a job, by number, one row each."""
    of = game(job.design, job.variant, job.world, job.paths, job.key)
    rules = _rules(job)
    return rows(of, rules, play(of, rules, np.asarray(numbers)))


@functools.lru_cache(maxsize=6)
def _rules(job: Job) -> Rules:
    return rules_of(game(job.design, job.variant, job.world, job.paths, job.key))


def written(table: pl.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file, the same whatever wrote it."""
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd", compression_level=3, statistics=False, row_group_size=CHUNK)
    return content.getvalue()


# -- what the trials came to -------------------------------------------------------------------------------------------
def rows(of: Game, rules: Rules, course: Course) -> pl.DataFrame:
    """One row for each trial of a course that has ended."""
    every, last = np.arange(len(course.trial)), np.maximum(course.look - 1, 0)
    end = course.day[every, last].astype(np.int64)
    came, screened = _enrolled(of, rules, course, end)
    success = course.reason == EFFICACY
    columns = {
        "trial": course.trial,
        "draw": course.crowd.draw,
        "success": success,
        "look": course.look,
        "reason": [REASONS[one] for one in course.reason],
        "enrolled": came,
        "screened": screened,
        "duration": end.astype(float),
        "arm": course.arm,
        **_estimated(of, rules, course, end),
        "surrogate": course.surrogate[:, 0],
        "surrogate_se": course.surrogate[:, 1],
        **_by_look(course),
        **further(of, course, end, rules.record.tests),
    }
    costs = of.design.costs
    if costs:
        months = end * PER_MONTH
        columns["cost"] = (
            costs.fixed + costs.per_screened * screened + costs.per_person * came + costs.per_month * months
        )
    found = pl.DataFrame({name: pl.Series(np.asarray(values)) for name, values in columns.items()})
    return found.with_columns(pl.col(pl.Float64, pl.Float32).fill_nan(None))


def _enrolled(of: Game, rules: Rules, course: Course, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """People randomised by the end of each trial, and people screened for them."""
    came, seen = rules.record.enrolled(course, end)
    each = of.scene.bank.covariates.get("screened")
    factor = 1.0 if each is None else each.mean(-1)[course.crowd.draw]
    return came, np.where(came > 0, np.round(seen * factor), 0).astype(np.int64)


def _by_look(course: Course) -> dict[str, np.ndarray]:
    """What was there at each look that was held; null elsewhere."""
    found: dict[str, np.ndarray] = {}
    for look in range(course.day.shape[1]):
        there = course.look > look
        for name, values in (
            ("events", course.events),
            ("enrolled", course.enrolled),
            ("day", course.day),
            ("z", course.combined),
        ):
            found[f"{name}_{look + 1}"] = np.where(there, values[:, look].astype(float), np.nan)
    return found


def _estimated(of: Game, rules: Rules, course: Course, end: np.ndarray) -> dict[str, np.ndarray]:
    """The estimate at the end, its error, what is said of it after the stop, and the truth."""
    value, se = rules.record.effect(course, end)
    lower, middle, upper = value - WIDE * se, np.full(len(value), np.nan), value + WIDE * se
    if of.design.estimates.startswith("median"):
        lower, middle, upper = _adjusted(rules, course, value, se)
    truth = of.scene.truth[course.subgroup.astype(int), course.arm - 1, course.crowd.draw]
    return {"estimate": value, "se": se, "adjusted": middle, "lower": lower, "upper": upper, "truth": truth}


def _adjusted(rules: Rules, course: Course, value: np.ndarray, se: np.ndarray) -> np.ndarray:
    """Lower limit, median-unbiased estimate and upper limit on the scale of the effect, (3, trials)."""
    sign = rules.statistic.sign
    found = np.full((3, len(value)), np.nan)
    for look in np.unique(course.look[course.look > 0]):
        here = np.flatnonzero((course.look == look) & (se > 0))
        low, middle, high = adjusted(rules.judge.plan, int(look) - 1, sign * value[here] / se[here], se[here])
        found[:, here] = (low, middle, high) if sign > 0 else (-high, -middle, -low)
    return found

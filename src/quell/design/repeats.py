"""One trial, many times: what it would find, how often, and how far from the truth; each with its Monte Carlo error.

Trials run together as arrays, in chunks; chunk and order change no byte. The analysis of trial k is the analysis
that ``quell run`` does of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from quell import keys
from quell.analysis.claim import Estimate
from quell.analysis.plan import rejects, results
from quell.protocol import Protocol
from quell.study import Columns
from quell.trial import Truth, World, simulate

CHUNK_PEOPLE = 16_384  # people alive at once: bounds memory, changes nothing else

Watch = Callable[[Columns], Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """A frequency over simulated trials, with its Monte Carlo error."""

    value: float
    error: float
    trials: int

    @staticmethod
    def of(happened: np.ndarray) -> Rate:
        """The share of trials in which something happened; error sqrt(p (1 - p) / trials).

        >>> print(Rate.of(np.array([True, True, False, True])))
        75.0 % ± 21.7 (Monte Carlo)
        """
        share = float(np.mean(happened))
        return Rate(value=share, error=math.sqrt(share * (1 - share) / len(happened)), trials=len(happened))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ± {100 * self.error:.1f} (Monte Carlo)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Performance:
    """How one analysis performs over many trials (Morris, White and Crowther 2019, doi:10.1002/sim.8086)."""

    name: str
    role: str
    scale: str
    trials: int
    usable: int  # trials in which there was an estimate
    mean: float  # of the estimates; on a ratio scale the geometric mean
    mean_error: float
    spread: float  # standard deviation of the estimates (of their logarithms on a ratio scale)
    spread_error: float
    average_se: float
    rejects: Rate
    covers: Rate | None  # how often the interval holds the truth
    truth: Truth | None
    bias: float | None  # mean minus truth (difference of logarithms on a ratio scale)
    bias_error: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repeats:
    """Many simulated trials of one protocol in one world."""

    protocol: Protocol
    world: str
    trials: int
    estimates: Mapping[str, Estimate]
    words: Mapping[str, tuple[str, str, float]]  # role, scale, level of each analysis
    watched: Mapping[str, np.ndarray]  # whatever else was looked at in each trial
    people: int

    def performance(self, name: str, truth: Truth | None = None) -> Performance:
        """Effect, spread, power and, against a truth, bias and coverage of one analysis."""
        found = self.estimates[name]
        role, scale, level = self.words[name]
        ratio = scale.endswith("ratio")
        values = np.log(np.where(found.estimate > 0, found.estimate, np.nan)) if ratio else found.estimate
        usable = np.isfinite(values)
        kept = values[usable]
        many = len(kept) > 1
        mean = float(kept.mean()) if len(kept) else math.nan
        spread = float(kept.std(ddof=1)) if many else math.nan
        target = None if truth is None else (math.log(truth.value) if ratio else truth.value)
        bias = None if target is None else mean - target
        return Performance(
            name=name,
            role=role,
            scale=scale,
            trials=self.trials,
            usable=int(usable.sum()),
            mean=math.exp(mean) if ratio else mean,
            mean_error=spread / math.sqrt(len(kept)) if many else math.nan,
            spread=spread,
            spread_error=spread / math.sqrt(2 * (len(kept) - 1)) if many else math.nan,
            average_se=float(np.nanmean(found.se)) if np.isfinite(found.se).any() else math.nan,
            rejects=Rate.of(rejects(found, level)),
            covers=None if truth is None else Rate.of((found.lower <= truth.value) & (truth.value <= found.upper)),
            truth=truth,
            bias=bias,
            bias_error=None
            if bias is None or not many
            else math.hypot(spread / math.sqrt(len(kept)), _on_scale(truth, ratio)),
        )

    def performances(self, truths: Mapping[str, Truth] | None = None) -> list[Performance]:
        return [self.performance(name, (truths or {}).get(name)) for name in self.estimates]


def _on_scale(truth: Truth | None, ratio: bool) -> float:
    """The Monte Carlo error of a truth, of its logarithm on a ratio scale."""
    return 0.0 if truth is None else truth.error / truth.value if ratio else truth.error


def repeat(
    protocol: Protocol,
    world: World | None = None,
    *,
    trials: int,
    key: int | keys.Key,
    watch: Watch | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Repeats:
    """Simulate and analyse many trials; trial k is ``run(protocol, world, key=at(key, "trial", k))``.

    ``watch`` looks at the columns of each chunk and returns further numbers, one for each trial.
    """
    world = world or World()
    parts: list[tuple[dict[str, Estimate], dict[str, np.ndarray], int]] = []
    words: dict[str, tuple[str, str, float]] = {}
    done = 0
    for chunk in _chunks(trials, protocol.population.planned):
        columns = simulate(protocol, world, keys.numbered(key, "trial", np.arange(*chunk))).columns()
        found = results(protocol, columns)
        words = {one.name: (one.request.analysis.role, one.scale, one.request.analysis.level) for one in found}
        seen = {name: np.asarray(values) for name, values in (watch(columns) if watch else {}).items()}
        parts.append(({one.name: one.estimate for one in found}, seen, columns.arm.size))
        done += chunk[1] - chunk[0]
        if progress:
            progress(done, trials)
    return Repeats(
        protocol=protocol,
        world=world.name,
        trials=trials,
        estimates={name: _joined([part[0][name] for part in parts]) for name in words},
        words=words,
        watched={name: np.concatenate([part[1][name] for part in parts]) for name in parts[0][1]},
        people=sum(part[2] for part in parts),
    )


def _chunks(trials: int, people: int) -> Iterator[tuple[int, int]]:
    size = max(1, CHUNK_PEOPLE // people)
    return ((start, min(start + size, trials)) for start in range(0, trials, size))


def _joined(parts: list[Estimate]) -> Estimate:
    fields: list[Any] = [
        np.concatenate([np.atleast_1d(part[i]) for part in parts]) for i in range(len(Estimate._fields) - 1)
    ]
    return Estimate(*[*fields, parts[0].level])

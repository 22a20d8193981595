"""Simulated operating characteristics beside the closed form, over fifty designs: docs/parts/closed-form-grid.json.

``python -m tools.closed_form_grid [trials]`` goes on where it stopped. Each design has seeds of its own, so that one
chi-square over all of them is a fair test: Pearson's on the counts of trials that stop for efficacy and for futility at
each look.

The closed form is that of `quell.analysis.sequential`. For the log-rank test its drift is Schoenfeld's, -log(HR)
sqrt(D r) / (1 + r), right as HR nears 1: the mean of Z falls short by a share (log HR)^2 / 12 of it, 0.09 % at the
hazard ratio of 0.9 that is the furthest here, a third of the Monte Carlo error at 100,000 trials. Few events a day, so
that a look has hardly more than it waits for. Two to one is kept to measured endpoints: there the log-rank Z is skewed, by
(1/3) / sqrt(2 D / 9) with D events, 0.025 at 800, which adds 0.0007 (one and a half Monte Carlo errors) to a level of 0.025
by Edgeworth's expansion; no closed form of the normal Z has it. Measured endpoints with an effect that are looked at four
or five times have four times the people: an early look at 200 with a limit of 3.54 and a mean of 1.41 is passed with a
chance of 0.01585 by Student's noncentral t (0.01581 in 100,000 trials), and of 0.0167 by the closed form, whose Z is normal.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from quell.analysis import means
from quell.analysis.planned_test import PlannedTest
from quell.analysis.samplesize import event_test, mean_test
from quell.analysis.sequential import (
    Boundaries,
    by_shape,
    by_spending,
    haybittle_peto,
    spending,
    with_futility,
    with_harm,
)
from quell.analysis.sequential_size import sequential_power
from quell.delivery import write_whole
from quell.design import kernels
from quell.design.crowd import Fates

KEPT = pathlib.Path(__file__).parent.parent / "docs" / "parts" / "closed-form-grid.json"
TRIALS, KEY, ALPHA, BETA = 100_000, 606, 0.025, 0.1
FEW = 5.0  # cells with fewer trials expected are counted together

EVENTS, SHARE = 800, 0.3  # events at the last look; about this share of people have one by then
ENROLMENT, FOLLOWED, LATEST = 800, 2400, 3000  # days
HAZARD = -np.log1p(-SHARE) / (FOLLOWED - ENROLMENT / 2)
LOSS = 5e-5  # a day
N, CORRELATION = 1000, 0.6  # people of a trial with a measured endpoint; of the outcome with its baseline

LOOKS: dict[str, tuple[float, ...]] = {
    "1 look": (1.0,),
    "2 looks": (0.5, 1.0),
    "3 looks": (1 / 3, 2 / 3, 1.0),
    "3 uneven looks": (0.6, 0.85, 1.0),
    "4 looks": (0.25, 0.5, 0.75, 1.0),
    "5 looks": (0.2, 0.4, 0.6, 0.8, 1.0),
}


def _spent(function: str, parameter: float | None = None, **more: Any) -> Callable[[np.ndarray], Boundaries]:
    return lambda looks: by_spending(looks, spending(function, ALPHA, parameter), **more)


def _futile(
    base: Callable[[np.ndarray], Boundaries], function: str, parameter: float | None, binding: bool = False
) -> Any:
    return lambda looks: with_futility(base(looks), spending(function, BETA, parameter), binding=binding)[0]


RULES: dict[str, Callable[[np.ndarray], Boundaries]] = {
    "O'Brien-Fleming spending": _spent("obrien-fleming"),
    "Pocock spending": _spent("pocock"),
    "Hwang-Shih-DeCani -4": _spent("hwang-shih-decani", -4.0),
    "Hwang-Shih-DeCani 1": _spent("hwang-shih-decani", 1.0),
    "Kim-DeMets 3": _spent("kim-demets", 3.0),
    "O'Brien-Fleming shape": lambda looks: by_shape(looks, ALPHA),
    "Pocock shape": lambda looks: by_shape(looks, ALPHA, shape="pocock"),
    "Wang-Tsiatis 0.25": lambda looks: by_shape(looks, ALPHA, shape=0.25),
    "Haybittle-Peto 3": lambda looks: haybittle_peto(looks, ALPHA),
    "O'Brien-Fleming, futility": _futile(_spent("obrien-fleming"), "hwang-shih-decani", -2.0),
    "O'Brien-Fleming, binding futility": _futile(_spent("obrien-fleming"), "obrien-fleming", None, True),
    "Pocock, futility": _futile(_spent("pocock"), "obrien-fleming", None),
    "O'Brien-Fleming, two-sided": _spent("obrien-fleming", two_sided_test=True),
    "O'Brien-Fleming, harm": lambda looks: with_harm(_spent("obrien-fleming")(looks), spending("pocock", ALPHA)),
}


class Case(NamedTuple):
    """A design of the grid: a hazard ratio, or a difference in standard deviations; ratio is active to control."""

    endpoint: str
    rule: str
    looks: str
    effect: float
    ratio: int = 1

    @property
    def name(self) -> str:
        shape = "" if self.ratio == 1 else f", {self.ratio}:1"
        return f"{self.endpoint}, {self.rule}, {self.looks}, effect {self.effect:g}{shape}"


def cases() -> list[Case]:
    """The fifty designs: rules, looks, effects and ratios in turn, so that each meets each of the others somewhere."""
    effects = {"log-rank": (1.0, 0.94, 0.92, 0.9), "difference": (0.0, 0.12, 0.2), "ancova": (0.16, 0.0, 0.1)}
    sizes = {"log-rank": 30, "difference": 10, "ancova": 10}
    found = []
    for endpoint, size in sizes.items():
        rules, looks = itertools.cycle(RULES), itertools.cycle(list(LOOKS)[1:])
        turn = itertools.cycle(effects[endpoint])
        for number in range(size):
            chosen = next(iter(LOOKS)) if number == 0 else next(looks)
            rule = next(rules) if chosen != "1 look" else "O'Brien-Fleming spending"
            effect, ratio = next(turn), 2 if number % 5 == 4 and endpoint != "log-rank" else 1
            many = endpoint != "log-rank" and len(LOOKS[chosen]) > 3
            found.append(Case(endpoint, rule, chosen, effect / 2 if many else effect, ratio))
    return found


# -- what the closed form says ---------------------------------------------------------------------------------------
def planned(case: Case) -> tuple[PlannedTest, float]:
    """The test as planning sees it, and its largest size: events, or people."""
    if case.endpoint == "log-rank":
        return event_test(case.effect, ratio=case.ratio), EVENTS
    test = mean_test(case.effect, 1.0, ratio=case.ratio, correlation=CORRELATION * (case.endpoint == "ancova"))
    return test, N * (4 if case.effect and len(LOOKS[case.looks]) > 3 else 1)


def sizes(case: Case) -> np.ndarray:
    """Events or people at each look, whole."""
    return np.round(np.array(LOOKS[case.looks]) * planned(case)[1])


# -- what trials say -------------------------------------------------------------------------------------------------
def statistics(case: Case, seed: np.ndarray) -> np.ndarray:
    """The statistic at each look of each trial, (trials, looks), above zero in favour."""
    return _log_ranks(case, seed) if case.endpoint == "log-rank" else _means(case, seed)


def _log_ranks(case: Case, seed: np.ndarray) -> np.ndarray:
    gathered = np.zeros((1, 1, 2, 1, 2), np.float32)
    gathered[0, 0, :, 0, 1] = HAZARD * LATEST * np.array([1.0, case.effect])
    fates = Fates((("primary",),), np.array([0.0, LATEST]), gathered)
    people, days = round(EVENTS / SHARE), np.array([0.0, ENROLMENT])
    latest = np.full(len(LOOKS[case.looks]), LATEST)
    entry = np.array([0.0, people])
    plan = kernels.Plain(people, days, entry, (1, case.ratio), 0, days, LOSS * days, sizes(case), latest)
    return kernels.looks(seed, np.zeros(len(seed), int), plan, fates).z


def _means(case: Case, seed: np.ndarray) -> np.ndarray:
    n = int(planned(case)[1])
    arm = kernels.allocate(seed, n, (1, case.ratio))
    baseline, own = kernels.normal(seed, n, "baseline"), kernels.normal(seed, n, "outcome")
    outcome = CORRELATION * baseline + np.sqrt(1 - CORRELATION**2) * own + case.effect * (arm == 1)
    found = np.empty((len(seed), len(LOOKS[case.looks])))
    for k, size in enumerate(sizes(case).astype(int)):
        seen, arms = outcome[:, :size], arm[:, :size].astype(int)
        if case.endpoint == "ancova":
            test = means.ancova(seen, arms, covariates=baseline[:, :size, None])
        else:
            test = means.two_sample(seen, arms, equal_variance=True)
        # the normal limit is meant for the p of Student's t
        found[:, k] = -special.ndtri(special.stdtr(test.df, -np.abs(test.statistic))) * np.sign(test.statistic)
    return found


def stopped(z: np.ndarray, limits: Boundaries) -> np.ndarray:
    """Trials that stop at each look, (2, looks): above the upper limit, below the lower one."""
    going, found = np.ones(len(z), bool), np.zeros((2, z.shape[1]))
    for k in range(z.shape[1]):
        above, below = going & (z[:, k] >= limits.upper[k]), going & (z[:, k] < limits.lower[k])
        found[:, k] = above.sum(), below.sum()
        going &= ~(above | below)
    return found


# -- side by side ----------------------------------------------------------------------------------------------------
def compare(case: Case, number: int, trials: int, at_once: int = 500) -> dict[str, Any]:
    """A design's stops in many trials, beside the closed form; with z-scores, and Pearson's chi-square over the stops."""
    (test, largest), by_look = planned(case), sizes(case)
    limits = RULES[case.rule](by_look / by_look[-1])
    closed = sequential_power(test, limits, largest)
    counted = np.zeros((2, len(by_look)))
    for start in range(0, trials, at_once):
        seed = kernels.seeds(KEY + number, np.arange(start, min(start + at_once, trials)))
        counted += stopped(statistics(case, seed), limits)
    told: dict[str, Any] = {"design": case.name, "trials": trials, "looks": by_look.tolist()}
    for name, chance, count in zip(("efficacy", "futility"), (closed.upper, closed.lower), counted, strict=True):
        told[name] = {"closed": chance.tolist(), "simulated": (count / trials).tolist(), "z": _z(count / trials, chance, trials)}  # fmt: skip
    power, found = np.atleast_1d(closed.power), counted[0].sum(keepdims=True) / trials
    told["power"] = {"closed": float(power[0]), "simulated": float(found[0]), "z": _z(found, power, trials)[0]}
    told["size"] = _size(by_look, closed, counted, trials)
    return told | _chi_square(np.concatenate([closed.upper, closed.lower]) * trials, counted.ravel(), trials)


def _z(found: np.ndarray, chance: np.ndarray, trials: int) -> list[float]:
    """Simulated less closed, in Monte Carlo standard errors; 0 where it cannot happen."""
    error = np.sqrt(np.maximum(chance * (1 - chance), 0) / trials)
    known = chance * trials >= FEW
    return np.where(known, (found - chance) / np.where(known, error, 1.0), 0.0).tolist()


def _size(by_look: np.ndarray, closed: Any, counted: np.ndarray, trials: int) -> dict[str, float]:
    """The mean number of events or people at the end, as planned for the look."""
    early = counted.sum(0)[:-1] / trials
    share = np.append(early, 1 - early.sum())
    mean = float(share @ by_look)
    error = np.sqrt(max(float(share @ by_look**2) - mean**2, 0.0) / trials)
    expected = float(closed.expected(by_look))
    return {"closed": expected, "simulated": mean, "z": float((mean - expected) / error) if error else 0.0}


def _chi_square(expected: np.ndarray, counted: np.ndarray, trials: int) -> dict[str, float]:
    """Pearson's test over all ways to stop, and not to; rare ones together."""
    expected, counted = np.append(expected, trials - expected.sum()), np.append(counted, trials - counted.sum())
    rare = expected < FEW
    cells = np.append(expected[~rare], expected[rare].sum()), np.append(counted[~rare], counted[rare].sum())
    some = cells[0] >= FEW
    value, df = float(((cells[1] - cells[0])[some] ** 2 / cells[0][some]).sum()), int(some.sum()) - 1
    return {"chi_square": value, "df": df, "p": float(stats.chi2.sf(value, df))}


def overall(found: list[dict[str, Any]]) -> dict[str, Any]:
    """All designs together: one chi-square, and how far the farthest power is."""
    value, df = sum(one["chi_square"] for one in found), sum(one["df"] for one in found)
    power = np.array([one["power"]["z"] for one in found])
    size = np.array([one["size"]["z"] for one in found])
    return {
        "designs": len(found),
        "chi_square": value,
        "df": df,
        "p": float(stats.chi2.sf(value, df)),
        "power_z": {"mean": float(power.mean()), "sd": float(power.std()), "largest": float(np.abs(power).max())},
        "size_z": {"mean": float(size.mean()), "sd": float(size.std()), "largest": float(np.abs(size).max())},
        "largest_gap_of_power": max(abs(one["power"]["simulated"] - one["power"]["closed"]) for one in found),
    }


def main() -> None:
    """Simulate what is not known yet, and write all with what they show together."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    kept = json.loads(KEPT.read_text("utf-8"))["designs"] if KEPT.exists() else []
    known = {one["design"]: one for one in kept if one["trials"] == trials}
    found = []
    for number, case in enumerate(cases()):
        one = known.get(case.name)
        found.append(one if one and one["looks"] == sizes(case).tolist() else compare(case, number, trials))
        one = found[-1]
        print(
            f"{case.name}: power z {one['power']['z']:+.2f}, chi-square {one['chi_square']:.1f} on {one['df']}",
            flush=True,
        )
        write_whole(KEPT, (json.dumps({"overall": overall(found), "designs": found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()

"""What a dose schedule does to patients: every observable, every day, beside the same patients on placebo."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from quell import __version__, blocks, keys, posterior, store, units
from quell.applicability import SURFACE, Applicability, of_course
from quell.body import course, harm, parameters, population, structure
from quell.keys import jax
from quell.sentences import BadInput, near

CHUNK = 4096  # patients lived at a time
EXACT = 20_000  # patients up to which quantiles are exact; beyond, bins of relative width BIN
BIN = 1e-3
SHARES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
MIU_PER_MG = 18.0 / 1.1  # E098
AFTER, LONGEST = 28, 36_525  # days followed after the last dose unless asked otherwise; the most that can be
SAMPLE = 64  # patients on whom the numerical error is measured
PER_DRAW = 128  # patients per drawn set of constants

Progress = Callable[[str, float | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """A dose, absolute or per square metre of body surface, and the study days on which it is given."""

    dose: units.Quantity
    days: tuple[int, ...]
    until: int
    text: str

    def amounts(self, patients: Any) -> np.ndarray:
        """What each patient gets on each dose day, 10^6 IU, shape (patients, days)."""
        area = np.asarray(patients.body_surface_area)
        return np.tile(self.each(area)[:, None], len(self.days))

    def each(self, area: np.ndarray) -> np.ndarray:
        """One dose, 10^6 IU, of patients with a body surface in m2."""
        amount = self.dose.value * (MIU_PER_MG if self.dose.dimension.startswith("mass") else 1.0)
        return amount * area if self.dose.dimension.endswith("per area") else np.full(np.shape(area), amount)

    def reach(self, people: str) -> Applicability:
        """How far the schedule and its people leave what was studied; per square metre, of the typical patient."""
        amount = float(self.each(np.array(SURFACE)))
        return of_course([amount] * len(self.days), self.days, people=people, until=self.until)


class Known(NamedTuple):
    """What is known of the body: its constants in the middle, and where further sets of them are drawn from."""

    world: str
    middle: parameters.Parameters
    structures: dict[str, str]  # by question: the option, or that it is drawn with the constants
    draws: posterior.Draws | None  # of a posterior; otherwise the table's uncertainty
    chosen: dict[str, str]

    def another(self, key: keys.Key) -> parameters.Parameters:
        """One more set of constants: one draw of the posterior, or the table's uncertainty under the structures chosen."""
        if self.draws is None:
            return structure.structured(parameters.draw(key), self.chosen)
        row = int(jax.random.randint(key, (), 0, len(self.draws.values)))
        return parameters.Parameters(*map(float, self.draws.constants(np.array(row))))


DRAWN = "drawn with the constants"


def known(world: str, chosen: dict[str, str]) -> Known:
    """What is known in a world: "prior" (the table), or the draws shipped for a stage of evidence.

    Structures are alternatives in the prior; a posterior holds all of them, and a choice keeps the draws that have it.
    Raises BadInput for a world, a question or an option of another name, or where no draw is left.

    >>> known("prior", {}).structures["depletion"], known("before-ivory", {}).structures["depletion"]
    ('mild', 'drawn with the constants')
    """
    worlds = ("prior", *posterior.STAGES)
    if world not in worlds:
        raise BadInput(f"--world: there is no world '{world}'. {near(world, worlds)}")
    middle = structure.structured(parameters.load(), chosen)  # says in a sentence what is no structure
    usual = {one.name: one.options[0].name for one in structure.table()}
    if world == "prior":
        return Known(world, middle, usual | chosen, None, chosen)
    every = posterior.load(world)
    fits = np.ones(len(every.values), dtype=bool)
    for question, option in chosen.items():
        fits &= every.structures[question] == option
    if not fits.any():
        asked = ", ".join(f"{question}={option}" for question, option in chosen.items())
        raise BadInput(f"--structure: no draw of '{world}' has {asked}. Ask for fewer at once, or use --world prior.")
    kept = every._replace(values=every.values[fits], structures={q: one[fits] for q, one in every.structures.items()})
    return Known(world, kept.middle(), dict.fromkeys(usual, DRAWN) | chosen, kept, chosen)


def schedule(dose: str, days: str, until: int | None = None) -> Schedule:
    """Read a dose such as "1.5 MIU" or "0.25 MIU/m2" and days such as "1..5, 12..54 every 7".

    Raises BadInput, in a sentence, where either cannot be read or the days are out of reach.

    >>> schedule("1.5 MIU", "1..5, 12..54 every 7").days[-1]
    54
    """
    try:
        amount = units.quantity(dose, "biological dose", "biological dose per area", "mass", "mass per area")
        chosen = units.day_pattern(days)
    except units.UnitError as error:
        raise BadInput(str(error)) from None
    if amount.value < 0:
        raise BadInput(f"--dose: '{dose}' is below zero. Write a dose of zero or more, such as '1.5 MIU'.")
    if not chosen or chosen[0] < 1:
        raise BadInput(f"--days: '{days}' begins before study day 1. The first dose day is day 1 or later.")
    last = until if until is not None else chosen[-1] + AFTER
    if last < chosen[-1]:
        raise BadInput(f"--until: day {last} is before the last dose, on day {chosen[-1]}. Follow for longer.")
    if last > LONGEST:
        raise BadInput(f"the days go to {last}; quell follows a hundred years at most, to day {LONGEST}.")
    return Schedule(dose=amount, days=chosen, until=last, text=f"{dose} on days {units.write_days(chosen)}")


def respond(
    dose: str,
    days: str,
    *,
    patients: int = 1000,
    population_name: str = "ivory",
    until: int | None = None,
    draws: int = 20,
    body: Known | None = None,
    key: int = 2026,
    tell: Progress = lambda step, share: None,
) -> dict[str, Any]:
    """What a schedule does, as plain data: per observable and day the quantiles of patients and the median fold change.

    Readings of a study day come before that day's dose; the fold is each patient's own, against day 1. ``fold_low`` and
    ``fold_high`` hold the median fold in 90 % of ``draws`` drawn sets of constants: what is not known of the ``body``
    (see ``known``; the prior unless one is given). ``warnings`` say where the schedule leaves what was studied.

    >>> found = respond("1.5 MIU", "1..5", patients=16, until=8, draws=0)
    >>> found["observables"]["treg"]["unit"], len(found["days"])
    ('cells/µL', 8)
    """
    plan = schedule(dose, days, until)
    if population_name not in population.POPULATIONS:
        raise BadInput(f"--population: '{population_name}' is unknown. {near(population_name, population.POPULATIONS)}")
    knows = body or known("prior", {})
    constants, reach = knows.middle, plan.reach(population_name)
    treated, untreated = (
        _lived(plan, patients, population_name, constants, key, given, tell) for given in (True, False)
    )
    observables = treated.summary()
    people = drawn_people(population_name, 0, min(patients, SAMPLE), key)
    error = course.accuracy(people, plan.amounts(people), constants, _grid(plan))
    for name, (low, high) in _unknown(plan, population_name, knows, draws, key, tell).items():
        observables[name] |= {"fold_low": low, "fold_high": high}
    return {
        "dose": str(plan.dose),
        "schedule": plan.text,
        "dose_days": list(plan.days),
        "population": population_name,
        "patients": patients,
        "draws": draws,
        "world": knows.world,
        "structures": knows.structures,
        "key": key,
        "version": __version__,
        "fingerprint": store.digest("respond", plan, patients, population_name, draws, knows.chosen, knows.world, key)[
            :16
        ],
        "days": list(range(1, plan.until + 1)),
        "observables": observables,
        "placebo": untreated.summary(),
        "harms": treated.harms(),
        "numerical_error": error,
        "invalid": treated.invalid,
        "quantiles": "exact" if patients <= EXACT else f"in bins of relative width {BIN}",
        "applicability": reach.plain(),
        "warnings": [*reach.sentences, *_warnings(plan, treated)],
    }


def _warnings(plan: Schedule, treated: Tally) -> list[str]:
    """What a reader must know besides how far the schedule leaves what was studied."""
    found = []
    if treated.largest > 0:
        found.append(
            "the label of aldesleukin warns of significant cardiac disease (E100); no rate of cardiac harm is known."
        )
    if plan.days[-1] > 62:
        found.append("dosing beyond two months: what limits cells then is not known; compare the structures.")
    if treated.invalid:
        found.append(f"{treated.invalid} of {treated.people} lives left the valid range and were left out.")
    return found


@functools.cache
def _drawing(name: str) -> blocks.Program:
    """Draws patients of a population by number."""

    def one(words: Any, number: Any) -> Any:
        key = keys.at(keys.of(words), "subject", number)
        return population.draw(keys.at(key, "biology"), parameters.load(), population.POPULATIONS[name])

    return blocks.Program(one, identity=("respond", name), in_axes=(None, 0))


def drawn_people(name: str, start: int, stop: int, key: int) -> Any:
    """Patients of a population by number, from ``start`` to before ``stop``: arrays with a leading axis of patients."""
    numbers = np.arange(start, stop, dtype=np.uint32)
    program, words = _drawing(name), keys.data(key)
    return blocks.over(lambda part: program(words, part), numbers)


def _grid(plan: Schedule) -> course.Mesh:
    return course.mesh(plan.days, tuple(range(1, plan.until + 1)), plan.until)


def _lived(plan: Schedule, patients: int, name: str, constants: Any, key: int, treated: bool, tell: Progress) -> Tally:
    """Everybody's course, chunk by chunk, gathered."""
    grid = _grid(plan)
    tally = Tally(patients)
    for start in range(0, patients, CHUNK):
        people = drawn_people(name, start, min(start + CHUNK, patients), key)
        amounts = plan.amounts(people) * (1.0 if treated else 0.0)
        tally.add(course.many(people, amounts, constants, grid), amounts, people, constants)
        tell("living patients", min(start + CHUNK, patients) / patients)
    return tally


def _unknown(plan: Schedule, name: str, knows: Known, draws: int, key: int, tell: Progress) -> dict[str, Any]:
    """The central 90 % of the median fold over drawn constants, per observable: lower and upper by day."""
    if draws < 2:
        return {}
    people = drawn_people(name, 0, PER_DRAW, key)
    grid = _grid(plan)
    folds: dict[str, list[np.ndarray]] = {one: [] for one in course.Observed._fields}
    for draw in range(draws):
        constants = knows.another(keys.at(key, "constants", draw))
        seen = course.many(people, plan.amounts(people), constants, grid).observed
        for one, column in zip(seen._fields, seen, strict=True):
            folds[one].append(np.median(_fold(column), axis=0))
        tell("drawing what is not known", (draw + 1) / draws)
    ends = {one: np.quantile(rows, (0.05, 0.95), axis=0) for one, rows in folds.items()}
    return {one: (_plain(low), _plain(high)) for one, (low, high) in ends.items()}


def _fold(column: np.ndarray) -> np.ndarray:
    """Each patient's ratio to day 1; not a number where day 1 is zero."""
    base = np.where(column[:, :1] > 0, column[:, :1], np.nan)
    return column / base


class Tally:
    """Quantiles over patients, observable by observable and day by day, from chunks in any number.

    Up to ``EXACT`` patients every value is kept; beyond that, counts in bins of the logarithm: memory does not grow.
    """

    def __init__(self, expected: int) -> None:
        self.exact = expected <= EXACT
        self.people = self.invalid = 0
        self.largest = 0.0
        self.values: dict[str, list[np.ndarray]] = {}
        self.bins: dict[str, Bins] = {}
        self.reactions = [0] * (len(harm.Reactions._fields) + 1)  # in units of 2**-40: whole numbers add in any order

    def add(self, life: course.Life, amounts: np.ndarray, people: Any, constants: Any) -> None:
        """Take in a chunk of lives."""
        fine = life.valid == 0
        self.people += len(fine)
        self.invalid += int((~fine).sum())
        self.largest = max(self.largest, float(amounts.max(initial=0.0)))
        for name, column in zip(life.observed._fields, life.observed, strict=True):
            for kind, block in ((name, column[fine]), (f"{name} fold", _fold(column[fine]))):
                if self.exact:
                    self.values.setdefault(kind, []).append(block)
                else:
                    self.bins.setdefault(kind, Bins(block.shape[1])).add(block)
        own = people.own["reaction_proneness"] * constants.reaction_proneness
        chances = harm.chances(amounts.T, constants._replace(reaction_proneness=own))
        high = harm.eosinophilia(life.observed.eosinophils.max(axis=1), constants)
        for place, one in enumerate((*chances, high)):
            self.reactions[place] += int(np.round(np.asarray(one)[fine] * 2**40).astype(np.int64).sum())

    def _quantiles(self, kind: str, shares: list[float]) -> np.ndarray:
        if not self.exact:
            return self.bins[kind].quantiles(shares)
        block = np.concatenate(self.values[kind])
        with np.errstate(all="ignore"):
            blank = np.isnan(block).all(axis=0)
            return np.where(blank, np.nan, np.quantile(np.where(blank, 0.0, block), shares, axis=0))

    def summary(self) -> dict[str, Any]:
        """Per observable: unit, quantiles, the median's 95 % interval from its order statistics, and the median fold."""
        found, n = {}, max(self.people - self.invalid, 1)
        reach = 1.96 * 0.5 / np.sqrt(n)
        shares = [*SHARES.values(), max(0.5 - reach, 0.0), min(0.5 + reach, 1.0)]
        for name, unit in zip(course.UNITS._fields, course.UNITS, strict=True):
            rows = self._quantiles(name, shares)
            fold = self._quantiles(f"{name} fold", [0.5])[0]
            named = dict(zip([*SHARES, "q50_low", "q50_high"], map(_plain, rows), strict=True))
            found[name] = {"unit": unit} | named | {"fold": _plain(fold)}
        return found

    def harms(self) -> dict[str, float]:
        """Share of patients with at least one reaction of a kind, beyond placebo's, and with eosinophilia."""
        n = max(self.people - self.invalid, 1)
        names = (*harm.Reactions._fields, "eosinophilia")
        return {name: total / 2**40 / n for name, total in zip(names, self.reactions, strict=True)}


class Bins:
    """Counts of positive numbers in bins of one relative width, day by day; zeros have their own."""

    LOW, HIGH = 1e-12, 1e9

    def __init__(self, days: int) -> None:
        self.step = np.log1p(BIN)
        self.offset = int(np.floor(np.log(self.LOW) / self.step))
        self.counts: list[dict[int, int]] = [{} for _ in range(days)]

    def add(self, block: np.ndarray) -> None:
        """Count a chunk, shape (patients, days)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.floor(np.log(np.clip(block, self.LOW, self.HIGH)) / self.step)
        for day, column in enumerate(place.T):
            kept = column[np.isfinite(column)].astype(np.int64)
            where, many = np.unique(kept, return_counts=True)
            counts = self.counts[day]
            for one, count in zip(where.tolist(), many.tolist(), strict=True):
                counts[one] = counts.get(one, 0) + count

    def quantiles(self, shares: list[float]) -> np.ndarray:
        """Quantiles by day, shape (shares, days), each the middle of its bin; what is at the lowest bin counts as zero."""
        found = np.full((len(shares), len(self.counts)), np.nan)
        for day, counts in enumerate(self.counts):
            if counts:
                places = np.array(sorted(counts))
                reached = np.cumsum([counts[place] for place in places])
                chosen = places[np.searchsorted(reached, np.array(shares) * reached[-1]).clip(0, len(places) - 1)]
                found[:, day] = np.where(chosen <= self.offset, 0.0, np.exp((chosen + 0.5) * self.step))
        return found


def _plain(row: np.ndarray) -> list[float | None]:
    """Numbers for JSON: what is not a number becomes null."""
    return [float(x) if np.isfinite(x) else None for x in row]

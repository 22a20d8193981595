"""The bank: virtual people of one world, each living under every arm of a protocol, from whom trials are drawn.

A shard holds the people of some draws. It is a pure function of the recipe and its number, so that any worker makes the
same bytes: people and their fates are found by address (key, draw, person). Each draw has people of its own, so that the
mean over draws is one over all of them, and its error, clustered by draw, holds the error of who was drawn; the same key
gives the same people in another world, or under other arms, as far as its constants let them be eligible.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import pathlib
import threading
import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from scipy import optimize

from quell import keys, posterior, store
from quell.body import parameters
from quell.design import lived, sealed
from quell.design.crowd import CAUSES, Bank, Fates
from quell.design.fates import fates, without
from quell.design.parts import World
from quell.design.truths import best, true_effect
from quell.keys import jax
from quell.protocol import Protocol
from quell.sentences import BadInput
from quell.trial.plan import lay_out
from quell.trial.world import usual_conduct

__all__ = ["Recipe", "best", "fates", "opened", "read", "recipe", "shard", "true_effect", "without"]

SHARD = 25  # draws
DRAWS, PEOPLE = 500, 200
MOST_PEOPLE = 10_000  # of a draw
LONGEST = 30 * 366  # days lived
FIRST_KNOT, INTERVALS = 2.0, 22  # days; each interval longer than the one before by one ratio (docs/measured.md)
MOST_BYTES = 1_000_000_000  # of a shard
AGAIN = "Delete it and run the same command again: it is made anew."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a bank follows from; made by ``recipe``."""

    protocol: str  # in its canonical text
    world: World
    draws: int
    people: int  # of each draw
    knots: tuple[int, ...]
    horizon: int
    key: int

    @property
    def shards(self) -> int:
        return -(-self.draws // SHARD)

    @property
    def fingerprint(self) -> str:
        """What names the bank: arms, visits, eligibility, world and people; not what is asked of them, nor how many."""
        return _fingerprint(self)

    def range(self, number: int) -> tuple[int, int]:
        """The draws of a shard: from, to (not included)."""
        return number * SHARD, min((number + 1) * SHARD, self.draws)


def recipe(
    protocol: Protocol, world: World, *, draws: int = DRAWS, people: int = PEOPLE, horizon: int, key: int
) -> Recipe:
    """The recipe of a bank: ``people`` eligible people in each of ``draws`` of the world, lived to day ``horizon``.

    Worlds that differ in what is taken from the drug, or in which draws are used, share one bank (see ``opened``).
    Raises BadInput (TrialError) in a sentence where the protocol cannot be lived or the world is assumed.

    >>> made = recipe(Protocol.load("ivory"), World(name="now", posterior="after-ivory"), horizon=730, key=1)
    >>> made.shards, made.knots[:4], made.knots[-1]
    (20, (0, 2, 4, 7), 730)
    """
    if not world.posterior:
        raise BadInput(
            f"world '{world.name}' is assumed: nobody lives in it. Its people come from quell.design.assumed."
        )
    plan = lay_out(protocol)
    if not plan.seen_until <= horizon <= LONGEST:
        raise BadInput(
            f"people cannot be lived to day {horizon}: the protocol's visits go to day {plan.seen_until}, and lives are "
            f"followed to day {LONGEST} at most. Take a horizon between them."
        )
    known = len(posterior.load(world.posterior).values)
    if not 1 <= draws <= known:
        raise BadInput(
            f"{draws} draws of the world {world.posterior} are asked for; there are {known}. Ask for 1 to {known}."
        )
    if not 1 <= people <= MOST_PEOPLE:
        raise BadInput(f"{people} people of each draw are asked for. Ask for 1 to {MOST_PEOPLE}; more draws tell more.")
    return Recipe(
        protocol=protocol.to_toml(),
        world=_lived_world(protocol, world),
        draws=draws,
        people=people,
        knots=_knots(horizon),
        horizon=horizon,
        key=key,
    )


def _lived_world(protocol: Protocol, world: World) -> World:
    """The world whose lives must be lived: where the control gets no drug, they say what a world without efficacy is."""
    told = world.without in ("efficacy", "drug") and not _dosed(protocol)
    return World(name="lived", posterior=world.posterior, without="" if told else world.without, conduct=world.conduct)


def _dosed(protocol: Protocol) -> bool:
    return any(dose.quantity.value > 0 for dose in protocol.control.doses)


def _knots(horizon: int) -> tuple[int, ...]:
    """Whole days from 0 to the horizon, in intervals that grow by one ratio: short where inflammation falls fast."""
    if horizon <= FIRST_KNOT * INTERVALS:
        return tuple(sorted({round(day) for day in np.linspace(0, horizon, INTERVALS + 1).tolist()}))

    def reached(ratio: float, intervals: Any) -> Any:
        return FIRST_KNOT * (ratio**intervals - 1) / (ratio - 1)

    ratio = optimize.brentq(lambda r: reached(r, INTERVALS) - horizon, 1 + 1e-9, 10.0, xtol=1e-12)
    return tuple(sorted({*(round(day) for day in reached(ratio, np.arange(INTERVALS)).tolist()), horizon}))


@functools.lru_cache(maxsize=64)
def _fingerprint(made: Recipe) -> str:
    protocol = _protocol(made.protocol)
    matters = (
        lay_out(protocol),
        _arms(protocol),
        (protocol.population.people, protocol.population.eligibility),
        tuple(lived.wanted(protocol).items()),
        (posterior.load(made.world.posterior).provenance["draws"], CAUSES),
    )
    return store.digest("bank", matters, dataclasses.replace(made, protocol=""))


@functools.lru_cache(maxsize=64)
def _protocol(text: str) -> Protocol:
    return Protocol.of(tomllib.loads(text))


def _arms(protocol: Protocol) -> list[str]:
    """Names of the arms, the control first."""
    return [protocol.control.name, *(arm.name for arm in protocol.arms if not arm.control)]


# -- making -----------------------------------------------------------------------------------------------------------
def shard(made: Recipe, number: int) -> bytes:
    """One shard as the bytes of a Parquet file: a row for each person, in the order of draws.

    The same bytes whatever the thread, process or order; memory grows with the people of a shard only.
    """
    protocol = _protocol(made.protocol)
    begin, end = made.range(number)
    if begin >= end:
        raise ValueError(f"a bank of {made.shards} shards has no shard {number}")
    p = _constants(made, begin, end)
    people = lived.gather(protocol, p, made.people, keys.numbered(made.key, "bank", np.arange(begin, end)))
    conduct = usual_conduct() if made.world.conduct == "usual" else lived.PERFECT
    setting = lived.Setting(protocol, conduct, made.knots)
    columns: dict[str, np.ndarray] = {f"{ENTRY}{name}": one.ravel() for name, one in lived.covariates(people).items()}
    names = [arm.name for arm in protocol.arms]
    for place, arm in enumerate(_arms(protocol)):
        lives = lived.under(setting, people, names.index(arm))
        columns |= {f"{what} | {place}": values for what, values in _of_arm(lives).items()}
        columns |= {f"{PRONE}{cause}": values for cause, values in lives.prone._asdict().items()}
    told = {
        "bank": made.fingerprint,
        "shard": number,
        "of": made.shards,
        "draws": end - begin,
        "people": made.people,
        "arms": _arms(protocol),
        "knots": made.knots,
        "horizon": made.horizon,
    }
    return _sealed(pl.DataFrame({name: _column(values) for name, values in columns.items()}), told)


ENTRY, PRONE, FIRST, READING = "at entry: ", "prone: ", "first: ", "reading: "


def _of_arm(lives: lived.Lives) -> dict[str, np.ndarray]:
    """The columns of one arm."""
    return (
        {"vascular": lives.vascular, "scarred": lives.scarred, "infarctions": lives.infarctions.astype(np.uint8)}
        | {f"{FIRST}{cause}": days for cause, days in lives.first.items()}
        | {f"{READING}{name}": values for name, values in lives.readings.items()}
    )


def _column(values: np.ndarray) -> pl.Series:
    kept = values if values.dtype == np.uint8 else values.astype(np.float32)
    return pl.Series(kept) if kept.ndim == 1 else pl.Series(kept, dtype=pl.Array(pl.Float32, kept.shape[1]))


def _constants(made: Recipe, begin: int, end: int) -> parameters.Parameters:
    """The body's constants in these draws: those of the stage in an order by address, so that more draws change none."""
    draws = posterior.load(made.world.posterior)
    order = np.asarray(jax.random.permutation(keys.at(made.key, "draws"), len(draws.values)))
    found = draws.constants(order[begin:end])
    if made.world.without:
        found = parameters.without(found, made.world.without)
    return jax.tree.map(np.asarray, found)


# -- files ------------------------------------------------------------------------------------------------------------
LABEL, SEAL = "quell", "seal"
BLANK = "0" * 64


def _sealed(table: pl.DataFrame, told: dict[str, Any]) -> bytes:
    """A Parquet file that holds its own digest: the SHA-256 of all its bytes, with noughts where the digest stands."""
    content = io.BytesIO()
    label = {LABEL: json.dumps(told, sort_keys=True), SEAL: f"{SEAL}:{BLANK}"}
    table.write_parquet(
        content, compression="zstd", compression_level=1, statistics=False, row_group_size=len(table), metadata=label
    )
    raw, mark = content.getvalue(), f"{SEAL}:{BLANK}".encode()
    if raw.count(mark) != 1:
        raise AssertionError("the place of the digest is not one")
    return raw.replace(mark, f"{SEAL}:{hashlib.sha256(raw).hexdigest()}".encode())


def _unsealed(path: pathlib.Path) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A shard and what it tells of itself; whether it is whole is known before anything is decoded."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path.name} has more than {MOST_BYTES:,} bytes, more than any shard of a bank. {AGAIN}")
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name}, a shard of the bank, cannot be read: {error.strerror}. {AGAIN}") from None
    at = raw.rfind(f"{SEAL}:".encode()) + len(SEAL) + 1
    digest = raw[at : at + len(BLANK)]
    blank = raw[:at] + BLANK.encode() + raw[at + len(BLANK) :]
    if at <= len(SEAL) or hashlib.sha256(blank).hexdigest().encode() != digest:
        raise BadInput(f"{path.name}, a shard of the bank, is cut off or was changed after it was made. {AGAIN}")
    told = json.loads(pl.read_parquet_metadata(io.BytesIO(raw))[LABEL])
    return pl.read_parquet(io.BytesIO(raw), use_statistics=False), told


def read(paths: Sequence[pathlib.Path | str]) -> Bank:
    """The bank that lies in these shards, whatever their order; read once, kept while it is used, never written to.

    Raises BadInput in a sentence where a shard is cut off, altered, missing, or of another bank.
    """
    with _reading:
        return _read(tuple(sorted(_stamped(path) for path in paths)))


_reading = threading.Lock()


class Stamped(NamedTuple):
    """A file as it was when it was looked at."""

    path: str
    size: int
    changed: int


def _stamped(path: pathlib.Path | str) -> Stamped:
    here = sealed.here(path)
    try:
        found = here.stat()
    except OSError as error:
        raise BadInput(f"{here.name}, a shard of the bank, cannot be read: {error.strerror}. {AGAIN}") from None
    return Stamped(str(here), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(files: tuple[Stamped, ...]) -> Bank:
    parts = [_unsealed(pathlib.Path(file.path)) for file in files]
    if not parts:
        raise BadInput("a bank without shards holds nobody. Name its shards.")
    parts.sort(key=lambda part: part[1]["shard"])
    first = parts[0][1]
    for _, told in parts:
        if told["bank"] != first["bank"]:
            raise BadInput(
                f"the shards are of two banks, {first['bank'][:8]} and {told['bank'][:8]}. Name those of one."
            )
    missing = sorted(set(range(first["of"])) - {told["shard"] for _, told in parts})
    if missing or len(parts) != first["of"]:
        which = f"number {', '.join(map(str, missing[:5]))} is missing" if missing else "one is named twice"
        raise BadInput(f"the bank has {first['of']} shards, of which {which}. Name each once.")
    return _together(parts)


def _together(parts: list[tuple[pl.DataFrame, dict[str, Any]]]) -> Bank:
    """One bank of all shards."""
    told = parts[0][1]
    arms, people = len(told["arms"]), told["people"]
    table = pl.concat([one for one, _ in parts], rechunk=True)

    def of_person(name: str) -> np.ndarray:
        return _still(table[name].to_numpy().reshape(-1, people))

    def by_arm(name: str) -> np.ndarray:
        columns = [table[f"{name} | {arm}"].to_numpy() for arm in range(arms)]
        return _still(np.stack([one.reshape(-1, people, *one.shape[1:]) for one in columns], axis=1))

    def named(start: str, end: str = "") -> list[str]:
        return [
            one.removeprefix(start).removesuffix(end)
            for one in table.columns
            if one.startswith(start) and one.endswith(end)
        ]

    return Bank(
        arms=tuple(told["arms"]),
        knots=_still(np.array(told["knots"], dtype=np.float64)),
        vascular=by_arm("vascular"),
        scarred=by_arm("scarred"),
        prone=_still(np.stack([of_person(f"{PRONE}{cause}") for cause in CAUSES], axis=1)),
        first={cause: by_arm(f"{FIRST}{cause}") for cause in CAUSES},
        infarctions=by_arm("infarctions"),
        readings={name: by_arm(f"{READING}{name}") for name in named(READING, " | 0")},
        covariates={name: of_person(f"{ENTRY}{name}") for name in named(ENTRY)},
        horizon=told["horizon"],
    )


def _still(values: np.ndarray) -> np.ndarray:
    values = np.ascontiguousarray(values)
    values.setflags(write=False)
    return values


class Opened(NamedTuple):
    """A bank as a world has it, with the fates of some groups of causes."""

    bank: Bank
    fates: Fates


def opened(
    paths: Sequence[pathlib.Path | str], world: World, groups: Sequence[Sequence[str]], *, dosed_control: bool = False
) -> Opened:
    """The bank in these shards as a world has it (``without`` efficacy or drug), and fates; kept while it is used.

    Where the control is dosed, lives without efficacy were lived (see ``recipe``): say ``dosed_control``.
    """
    bank = read(paths)
    with _reading:
        what = world.without if world.without in ("efficacy", "drug") and not dosed_control else ""
        files = tuple(sorted(_stamped(path) for path in paths))
        return _opened(files, what, tuple(map(tuple, groups))) if files else Opened(bank, fates(bank, groups))


@functools.lru_cache(maxsize=6)
def _opened(files: tuple[Stamped, ...], what: str, groups: tuple[tuple[str, ...], ...]) -> Opened:
    bank = _read(files)
    bank = without(bank, what) if what else bank
    return Opened(bank, fates(bank, groups))

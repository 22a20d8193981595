"""A model of somebody else's shape: 12 states, 90 days, 12 doses, on quell's machine. Run: python -m benchmarks.twelve

The test model of many pharmacometric comparisons: depot, central with loss that grows with the target cells, precursors
that are used up, cells, three transits, natural killer cells, plaque. Its numbers are illustrative. Solved on the machine by
the same rule as the body; the error is against SciPy's LSODA at 1e-11. Elsewhere, on another machine, mrgsolve and
numbalsoda did 1,600 to 2,000 such people a second and core at a tolerance of 1e-6.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from scipy.integrate import solve_ivp

from quell import blocks, keys
from quell.body import relax
from quell.body.relax import NOTHING, Link
from quell.keys import jax, jnp
from quell.machine import Machine, Tape

DAYS = (0, 1, 2, 3, 4, 11, 18, 25, 32, 39, 46, 53)
UNTIL, WASHOUT, DOSE = 90, 5, 1.5
LINKS = (Link("depot", "central"), Link("first", "second"), Link("second", "third"))


class Twelve(NamedTuple):
    """The states; cells count from their healthy value."""

    depot: Any
    central: Any
    precursor: Any
    treg: Any
    ilc2_precursor: Any
    ilc2: Any
    first: Any
    second: Any
    third: Any
    eosinophils: Any
    nk: Any
    plaque: Any


class Own(NamedTuple):
    """One person's constants, and the relaxation they make."""

    vmax: Any
    emax: Any
    ec50: Any
    relaxation: relax.Relaxation


VMAX, KM, EC50, EMAX = 20.0, 0.3, 0.006, 5.0
RATES = Twelve(5.0, 40.0, 0.1, 0.09, 0.1, 0.06, 0.8, 0.8, 0.8, 0.9, 0.05, 0.03)
DEPLETE, TRACKS = 0.15, 0.8
VARIES = {"ka": 0.4, "cl": 0.3, "v": 0.3, "emax": 0.5, "ec50": 0.5, "kt": 0.3}


def begin(z: dict[str, Any]) -> tuple[tuple[Twelve, Any], Own]:
    """A person from six normal scores."""
    own = {name: jnp.exp(spread * z[name]) for name, spread in VARIES.items()}
    rates = RATES._replace(
        depot=RATES.depot * own["ka"], central=RATES.central * own["cl"] / own["v"], treg=RATES.treg * own["kt"]
    )
    strengths = (rates.depot / own["v"], rates.second, rates.third)
    zero = jnp.zeros(())
    return (Twelve(*[zero] * 12), zero), Own(
        VMAX / own["v"], EMAX * own["emax"], EC50 * own["ec50"], relax.Relaxation(rates, strengths)
    )


def drive(x: Twelve, own: Own) -> Twelve:
    """What drives the relaxations, per day."""
    rates = own.relaxation.rates
    signal = own.emax * x.central / (own.ec50 + x.central)
    weak = own.emax * x.central / (6 * own.ec50 + x.central)
    return Twelve(
        depot=NOTHING,
        central=-own.vmax * (1 + x.treg) * x.central / (KM + x.central),
        precursor=-DEPLETE * signal * (1 + x.precursor),
        treg=rates.treg * signal * (1 + x.precursor),
        ilc2_precursor=-DEPLETE * weak * (1 + x.ilc2_precursor),
        ilc2=rates.ilc2 * weak * (1 + x.ilc2_precursor),
        first=rates.first * x.ilc2,
        second=NOTHING,
        third=NOTHING,
        eosinophils=rates.eosinophils * x.third,
        nk=rates.nk * 0.2 * weak,
        plaque=rates.plaque * (0.1 * x.nk - 0.35 * x.treg / (1 + x.treg) * (1 + 0.1 * x.nk)),
    )


def pace(own: Own, days: Any) -> tuple[Any, relax.Factors]:
    return days, relax.factors(own.relaxation, LINKS, days / 2)


def inject(now: Any, own: Own, by: Any, at: Any, amount: Any) -> Any:
    state, bound = now
    return state._replace(depot=state.depot + amount), bound


def step(now: Any, own: Own, by: Any, at: Any, amount: Any) -> Any:
    """One step: the central loss foreseen at its start is relaxed, the rest driven."""
    state, bound = now
    days, half = by
    rate = own.relaxation.rates.central + own.vmax * (1 + state.treg) / (KM + state.central)
    half = relax.renew(half, own.relaxation, LINKS, "central", rate, days / 2)

    def push(x: Twelve, stage: int) -> Twelve:
        extra = (rate - own.relaxation.rates.central) * x.central
        changed = drive(x, own)
        return changed._replace(central=changed.central + extra)

    after, drives = relax.step(state, push, half, LINKS, days)
    undriven = relax.relax(relax.relax(state, half, LINKS), half, LINKS).central
    felt = relax.weighed(tuple(x.central for x in drives), rate * days, half.left.central**2)
    return after._replace(central=undriven + days * felt), bound


MACHINE = Machine(
    identity=("twelve", __doc__), begin=begin, pace=pace, pieces={"inject": inject, "step": step},
    emit=lambda now, own: now[0]._asdict(), finish=lambda now, own: now[0].treg,
)  # fmt: skip


def tape(finest: float) -> Tape:
    """Fine after a dose, coarser each day after; the state of every whole day."""
    rows: list[tuple[int, float, int]] = []
    for day in range(UNTIL):
        rows.append((-1, 0.0, -1))
        since = min((day - one for one in DAYS if one <= day), default=WASHOUT)
        if since == 0:
            rows.append((0, 0.0, DAYS.index(day)))
            early = [finest / 2**k for k in range(9, 0, -1) for _ in range(2)]
            count = int(np.ceil((1 - sum(early)) / finest))
            rows += [(1, length, -1) for length in (*early, *[(1 - sum(early)) / count] * count)]
        else:
            count = max(int(np.ceil(1 / (finest * (1, 1, 2, 4, 8)[min(since, 4)]))), 2)
            rows += [(1, 1 / count, -1)] * count
    rows.append((-1, 0.0, -1))
    lengths = sorted({row[1] for row in rows})
    return Tape(
        tuple(lengths), np.array([r[0] for r in rows]), np.array([lengths.index(r[1]) for r in rows]),
        np.zeros(len(rows)), np.array([r[2] for r in rows]),
    )  # fmt: skip


def exact(z: dict[str, np.ndarray], who: int) -> np.ndarray:
    """One person's states on whole days by LSODA at 1e-11."""
    _, own = begin({name: values[who] for name, values in z.items()})
    own = jax.tree.map(float, own)
    right = jax.jit(
        lambda y: jnp.stack(relax.add(relax.slopes(Twelve(*y), own.relaxation, LINKS), drive(Twelve(*y), own)))
    )
    y, rows = np.zeros(12), [np.zeros(12)]
    for day in range(UNTIL):
        y[0] += DOSE * (day in DAYS)
        y = solve_ivp(lambda t, y: np.asarray(right(y)), (0, 1), y, method="LSODA", rtol=1e-11, atol=1e-14).y[:, -1]
        rows.append(y.copy())
    return np.array(rows)


def main() -> None:
    """Print people per second on one core and the error of the cells."""
    count = 10_000
    scores = np.asarray(jax.random.normal(keys.at(1, "twelve"), (len(VARIES), count)))
    z = dict(zip(VARIES, scores, strict=True))
    given = np.full((count, len(DAYS)), DOSE)
    checked = range(12)
    truth = np.stack([exact(z, who) for who in checked])
    for finest in (0.05, 0.025, 0.0125):
        script = tape(finest)
        MACHINE.run(z, given, script, threads=1)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            seen, _ = MACHINE.run(z, given, script, threads=1)
            times.append(time.perf_counter() - start)
        found = np.stack([seen[name] for name in Twelve._fields], axis=-1)[: len(truth)]
        cells = slice(2, None)
        error = np.abs(found - truth)[..., cells] / np.abs(1 + truth)[..., cells]
        steps = int((script.piece == 1).sum())
        folds = {name: float(np.median(1 + seen[name].max(axis=1))) for name in ("treg", "ilc2", "eosinophils")}
        told = ", ".join(f"{name} x{fold:.2f}" for name, fold in folds.items())
        print(
            f"{steps:5d} steps: {count / min(times):9,.0f} people/s on one core, error {error.max():.1e} ({len(truth)} people); {told}"
        )
    print(f"on {blocks.workers()} cores in steps of {finest}: ", end="")
    start = time.perf_counter()
    MACHINE.run(z, given, script)
    print(f"{count / (time.perf_counter() - start):,.0f} people/s")


if __name__ == "__main__":
    main()

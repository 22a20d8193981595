"""Other solvers on quell's own right-hand side, one core, at like accuracy. Run: python -m benchmarks.peers

Everybody integrates ``person.slopes`` (38 states) through IVORY's twelve doses to day 62 and reads whole days. Each peer runs
at the loosest of a few tolerances whose error is at most 1e-4, measured against Dopri8 at 1e-10 (interleukin-2 above
0.01 IU/mL). Compilation is not counted. numbalsoda has no wheel to install: it takes part where it can be imported.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import diffrax
import numba
import numpy as np
import roadrunner
from scipy.integrate import solve_ivp

from benchmarks.lives import DOSES, people
from quell import machine
from quell.body import course, parameters, sbml
from quell.body import person as persons
from quell.body.immunity import Blood
from quell.body.person import State, Tissue
from quell.keys import jax, jnp
from quell.machine import lowering

try:
    import numbalsoda
except ImportError:
    numbalsoda = None

READ = (2, 5, 6, 8, 12, 13, 26, 40, 54, 55, 61)
UNTIL, DOSE, GOAL = 62, 1.5, 1e-4
TOLERANCES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
STATES = (*Blood._fields, *Tissue._fields)
P = parameters.load()
DOSED = {day - 1 + P.absorption_lag for day in DOSES}
STOPS = sorted({*DOSED, *(day - 1.0 for day in READ)})
ENTERS = [stop in DOSED for stop in STOPS]


def quiet(count: int) -> Any:
    """Candidates to whom nothing happens."""
    drawn = people(count)
    return drawn._replace(thresholds=jax.tree.map(lambda x: x * np.inf, drawn.thresholds))


def by_diffrax(solver: Any, tolerance: float) -> Callable[[Any], np.ndarray]:
    """diffrax under vmap: one scan over the stops."""
    begin, end = jnp.array([0.0, *STOPS[:-1]]), jnp.array(STOPS)
    enters = jnp.array(ENTERS, dtype=float)

    def one(patient: Any) -> Any:
        who = course.person(patient, P)
        term = diffrax.ODETerm(lambda t, y, args: persons.slopes(y, who))

        def leg(state: Any, span: Any) -> Any:
            a, b, enter = span
            found = diffrax.diffeqsolve(
                term, solver, a, b, 1e-3, state, max_steps=100_000, saveat=diffrax.SaveAt(t1=True),
                stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance * 1e-2),
            )  # fmt: skip
            now = jax.tree.map(lambda x: x[0], found.ys)
            depot = now.blood.depot + enter * DOSE * who.kinetics.absorbed
            return now._replace(blood=now.blood._replace(depot=depot)), course.observe(now, who)

        _, seen = jax.lax.scan(leg, course.start(patient, P, 1), (begin, end, enters))
        return jnp.stack(seen, axis=-1)[np.flatnonzero(~np.array(ENTERS))]

    run = jax.jit(jax.vmap(one))
    return lambda who: np.asarray(run(who))


def source() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The right-hand side as straight-line Python for numba, made from the same trace; and a person's constants."""

    def everything(*x: Any) -> Any:
        state = State(Blood(*x[: len(Blood._fields)]), Tissue(*x[len(Blood._fields) : len(STATES)]))
        slopes = persons.slopes(state, jax.tree.unflatten(form, x[len(STATES) :]))
        return [*slopes.blood, *slopes.tissue]

    one = jax.tree.map(lambda x: x[0], quiet(1))
    leaves, form = jax.tree.flatten(course.person(one, P))
    scalar = jax.ShapeDtypeStruct((), np.float64)
    closed = jax.make_jaxpr(everything)(*[scalar] * (len(STATES) + len(leaves)))
    line = lowering.Line()
    inputs = [line.add("input", parameter=i) for i in range(len(closed.jaxpr.invars))]
    results = lowering.flatten(closed, line, inputs)
    text = ["def slope(t, u, du, p):"]
    for place in sorted(lowering.uses(line, results)):
        text.append(f"    v{place} = {_python(line.operations[place])}")
    text += [f"    du[{i}] = {_operand(x)}" for i, x in enumerate(results)]
    scope: dict[str, Any] = {"exp": np.exp, "log": np.log}
    exec("\n".join(text), scope)
    constants = jax.jit(jax.vmap(lambda who: jnp.stack(jax.tree.leaves(course.person(who, P)))))
    return scope["slope"], lambda who: np.asarray(constants(who))


def _operand(x: Any) -> str:
    return f"v{x}" if isinstance(x, int) and not isinstance(x, bool) else repr(x)


def _python(operation: lowering.Operation) -> str:
    signs = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "pow": "**"}
    x = [_operand(one) for one in operation.operands]
    if operation.name == "input":
        place = operation.parameter
        return f"u[{place}]" if place < len(STATES) else f"p[{place - len(STATES)}]"
    if operation.name in signs:
        return f"{x[0]} {signs[operation.name]} {x[1]}"
    if operation.name == "select_n":
        return f"({x[2]} if {x[0]} else {x[1]})"
    return f"-{x[0]}" if operation.name == "neg" else f"{operation.name}({', '.join(x)})"


@functools.cache
def _started() -> Any:
    return jax.jit(jax.vmap(lambda one: jnp.stack(jax.tree.leaves(course.start(one, P, 1)))))


def begun(who: Any) -> np.ndarray:
    """Everybody's state on day 1, shape (people, states)."""
    return np.asarray(_started()(who))


@functools.cache
def _watched() -> Any:
    split = len(Blood._fields)

    def one(patient: Any, rows: Any) -> Any:
        mine = course.person(patient, P)
        return jax.vmap(lambda y: jnp.stack(course.observe(State(Blood(*y[:split]), Tissue(*y[split:])), mine)))(rows)

    return jax.jit(jax.vmap(one))


def seen(who: Any, states: np.ndarray) -> np.ndarray:
    """Observables of states, shape (people, readings, observables)."""
    return np.asarray(_watched()(who, states))


def by_scipy(tolerance: float) -> Callable[[Any], np.ndarray]:
    """SciPy's LSODA with the right-hand side compiled by numba."""
    slope, constants = source()
    fast = numba.njit(slope)
    absorbed = _absorbed()

    def run(who: Any) -> np.ndarray:
        found, own, du = [], constants(who), np.empty(len(STATES))
        for u, p, given in zip(begun(who), own, absorbed(who), strict=True):
            u, now, rows = u.copy(), 0.0, []

            def right(t: float, y: np.ndarray, p: np.ndarray = p) -> np.ndarray:
                fast(t, y, du, p)
                return du.copy()

            for stop, enters in zip(STOPS, ENTERS, strict=True):
                u = solve_ivp(right, (now, stop), u, method="LSODA", rtol=tolerance, atol=tolerance * 1e-2).y[:, -1]
                if enters:
                    u[0] += given
                else:
                    rows.append(u.copy())
                now = stop
            found.append(rows)
        return seen(who, np.array(found))

    return run


def _absorbed() -> Callable[[Any], np.ndarray]:
    each = jax.jit(jax.vmap(lambda one: DOSE * course.person(one, P).kinetics.absorbed))
    return lambda who: np.asarray(each(who))


def by_numbalsoda(tolerance: float) -> Callable[[Any], np.ndarray]:
    """LSODA in C++ with a compiled right-hand side, the loop over people compiled as well: the fastest compiled peer."""
    slope, constants = source()
    fast, size, wide = numba.njit(slope), len(STATES), constants(quiet(1)).shape[1]

    @numba.cfunc(numbalsoda.lsoda_sig)
    def right(t, u, du, p):
        fast(t, numba.carray(u, (size,)), numba.carray(du, (size,)), numba.carray(p, (wide,)))

    pointer, stops, enters = right.address, np.array(STOPS), np.array(ENTERS)
    rows = int((~enters).sum())

    @numba.njit
    def everybody(starts, own, given):
        out = np.empty((starts.shape[0], rows, size))
        for i in range(starts.shape[0]):
            u, now, row = starts[i].copy(), 0.0, 0
            for k in range(stops.shape[0]):
                found, _ = numbalsoda.lsoda(
                    pointer, u, np.array([now, stops[k]]), own[i], tolerance, tolerance * 1e-2, 100_000
                )
                u = found[1].copy()
                if enters[k]:
                    u[0] += given[i]
                else:
                    out[i, row] = u
                    row += 1
                now = stops[k]
        return out

    absorbed = _absorbed()
    return lambda who: seen(who, everybody(begun(who), constants(who), absorbed(who)))


def by_roadrunner(tolerance: float) -> Callable[[Any], np.ndarray]:
    """libroadrunner's CVODE on the exported SBML, constants and start set person by person."""
    model = roadrunner.RoadRunner(sbml.export(P, sbml.typical(), [(day, DOSE) for day in DOSES], "benchmark"))
    model.integrator.relative_tolerance, model.integrator.absolute_tolerance = tolerance, tolerance * 1e-2
    model.integrator.maximum_time_step = 0.5
    ids = model.model.getGlobalParameterIds()
    names = [
        *STATES,
        *map(sbml.constant, parameters.Parameters._fields),
        *(f"covariate_{one}" for one in sbml.COVARIATES),
    ]
    places = [ids.index(name) for name in names]
    columns = ["time", *map(sbml.observable, course.Observed._fields)]
    values = jax.jit(jax.vmap(lambda one: jnp.stack([
        *jax.tree.leaves(course.start(one, P, 1)), *parameters.personal(P, one.own), *(getattr(one, name) for name in sbml.COVARIATES)
    ])))  # fmt: skip

    def run(who: Any) -> np.ndarray:
        found = []
        for row in np.asarray(values(who)):
            model.resetAll()
            model.model.setGlobalParameterValues(places, list(row))
            table = np.array(model.simulate(0, UNTIL - 1, UNTIL, columns))
            found.append(table[[day - 1 for day in READ], 1:])
        return np.array(found)

    return run


def by_quell(fineness: int) -> Callable[[Any], np.ndarray]:
    """quell itself."""
    grid = course.mesh(DOSES, READ, UNTIL)
    return lambda who: np.stack(course.many(who, np.full((len(who.age), len(DOSES)), DOSE), P, grid).observed, axis=-1)


def gap(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest relative error."""
    floor = np.array([course.FLOORS.get(name, 0.0) for name in course.Observed._fields])
    return float(np.nanmax(np.abs(found - exact) / (np.abs(exact) + floor + 1e-300)))


def chosen(
    make: Callable[[float], Callable[[Any], np.ndarray]], who: Any, exact: np.ndarray
) -> tuple[Any, float, float]:
    """The loosest tolerance within the goal: its solver, tolerance and error."""
    for tolerance in TOLERANCES:
        run = make(tolerance)
        error = gap(run(who), exact)
        if error <= GOAL:
            break
    return run, tolerance, error


def main() -> None:
    """Print people per second of each solver on one core, and how many times as fast quell is."""
    roadrunner.Logger.disableLogging()  # CVODE tells of every dose that its step is small
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    machine.workers = lambda: 1
    few = quiet(24)
    exact = by_diffrax(diffrax.Dopri8(), 1e-10)(few)
    peers = {
        "diffrax vmap, Tsit5": (lambda tol: by_diffrax(diffrax.Tsit5(), tol), 96),
        "libroadrunner, CVODE": (by_roadrunner, 96),
        "SciPy LSODA, numba right-hand side": (by_scipy, 24),
    }
    if numbalsoda is not None:
        peers["numbalsoda, LSODA in C++"] = (by_numbalsoda, 384)
    peers["diffrax vmap, Kvaerno5"] = (lambda tol: by_diffrax(diffrax.Kvaerno5(), tol), 4)  # slow: few people, last
    many = quiet(8192)
    ours = by_quell(1)
    error = gap(ours(few), exact)
    ours(many)
    begin = time.perf_counter()
    ours(many)
    rate = 8192 / (time.perf_counter() - begin)
    print(f"{'62 days, one core':38s}{'people/s':>10s}{'error':>10s}{'tolerance':>11s}{'quell is':>10s}")
    print(f"{'quell':38s}{rate:10,.0f}{error:10.1e}")
    for name, (make, count) in peers.items():
        some = quiet(count)
        trial = min(count, len(few.age))
        run, tolerance, error = chosen(make, jax.tree.map(lambda x, n=trial: x[:n], few), exact[:trial])
        run(some)
        begin = time.perf_counter()
        run(some)
        theirs = count / (time.perf_counter() - begin)
        print(f"{name:38s}{theirs:10,.1f}{error:10.1e}{tolerance:11.0e}{rate / theirs:9,.0f}x", flush=True)
    if numbalsoda is None:
        print("numbalsoda is not installed: it needs a C++ and a Fortran compiler")


if __name__ == "__main__":
    main()

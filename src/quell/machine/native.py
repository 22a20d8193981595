"""The machine as native code: one function that takes a block of people through a tape, a vector of them at a time."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.metadata
import json
import threading
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from quell import store
from quell.blocks import form_of
from quell.keys import jax
from quell.machine import driver, lowering
from quell.machine.arithmetic import Writer

WIDTH = 8  # people in one vector: a whole AVX-512 register, two of AVX, four of NEON
ALIGN = WIDTH * 8  # bytes

_lock = threading.Lock()
_made: dict[Any, Kernel] = {}


@functools.cache
def target() -> Any:
    """The processor at hand."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True
    )


@dataclasses.dataclass
class Kernel:
    """Compiled code with the sizes it works on."""

    address: int
    inputs: int
    states: int
    constants: int
    factors: int
    seen: int
    outcome: int
    forms: dict[str, Any]
    engine: Any  # keeps the code alive

    def run(self, leaves: list[np.ndarray], given: np.ndarray, tape: Any) -> tuple[np.ndarray, np.ndarray]:
        """What is seen, (seen, rows, people), and the outcome, (outcome, people), of one block of people."""
        people = given.shape[0]
        padded = -(-people // WIDTH) * WIDTH
        table = np.empty((self.inputs, padded))
        for row, leaf in zip(table, leaves, strict=True):
            row[:people] = leaf
            row[people:] = row[people - 1]  # the last person stands in for those who are not there
        columns = np.zeros((given.shape[1] + 1, padded))
        columns[:-1, :people] = given.T
        columns[:-1, people:] = columns[:-1, people - 1 : people]
        seen, outcome = np.empty((self.seen, tape.rows, padded)), np.empty((self.outcome, padded))
        room = (self.states + self.constants + len(tape.lengths) * self.factors + 1) * WIDTH
        work = np.empty(room + ALIGN // 8)
        free = work[(-work.ctypes.data % ALIGN) // 8 :]
        lengths = np.asarray(tape.lengths, dtype=np.float64)
        piece, level = (np.ascontiguousarray(x, dtype=np.int64) for x in (tape.piece, tape.level))
        column = np.where(np.asarray(tape.column) < 0, given.shape[1], tape.column).astype(np.int64)
        argument = np.ascontiguousarray(tape.argument, dtype=np.float64)
        arrays = (table, columns, lengths, piece, level, argument, column, free, seen, outcome)
        function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 10, *[ctypes.c_int64] * 4)(self.address)
        function(*(array.ctypes.data for array in arrays), padded, len(lengths), len(piece), tape.rows)
        return seen[:, :, :people], outcome[:, :people]


def kernel(machine: Any, inputs: Any) -> Kernel:
    """The compiled machine for inputs of this form: from memory, from disk, or made now."""
    leaves, structure = jax.tree.flatten(inputs)
    name = store.digest("machine", machine.identity, str(structure), *_processor())
    with _lock:
        if name not in _made:
            _made[name] = _find(name) or _make(name, machine, structure, len(leaves))
        return _made[name]


def _processor() -> tuple[str, ...]:
    features = llvm.get_host_cpu_features().flatten()
    return llvm.get_host_cpu_name(), features, importlib.metadata.version("llvmlite"), str(WIDTH)


def _find(name: str) -> Kernel | None:
    code, sizes = store.find("machines", name), store.find("machines", f"{name}.json")
    return None if code is None or sizes is None else _load(bytes(code), json.loads(sizes))


def _make(name: str, machine: Any, structure: Any, inputs: int) -> Kernel:
    text, sizes = source(machine, structure, inputs)
    module = llvm.parse_assembly(text)
    code = target().emit_object(module)
    store.put("machines", name, code)
    store.put("machines", f"{name}.json", json.dumps(sizes).encode())
    return _load(code, sizes)


def _load(code: bytes, sizes: dict[str, Any]) -> Kernel:
    target()  # wakes LLVM
    fresh = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), fresh)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return Kernel(address=engine.get_function_address("run"), engine=engine, **sizes)


def source(machine: Any, structure: Any, inputs: int) -> tuple[str, dict[str, Any]]:
    """The whole machine as text of LLVM's language, and the sizes it works on."""
    parts = Parts(machine, structure, inputs)
    names = list(machine.pieces)
    functions = [
        parts.begin(),
        parts.pace(),
        parts.told("emit", machine.emit, "rows"),
        parts.told("finish", machine.finish, "people"),
        *(parts.piece(i, name) for i, name in enumerate(names)),
        *(parts.when(i, name) for i, name in enumerate(names)),
    ]
    sizes = {
        "inputs": inputs,
        "states": parts.states,
        "constants": parts.constants,
        "factors": parts.factors,
        "seen": parts.told_sizes["emit"],
        "outcome": parts.told_sizes["finish"],
        "forms": parts.forms,
    }
    loops = driver.loops(len(names), WIDTH, parts.states + parts.constants, parts.factors)
    return "\n".join([*functions, loops, _declarations()]), sizes


class Parts:
    """The machine's functions, traced on scalars and written on vectors.

    Each takes ``s`` (state, then constants, then factors of the length at hand) and what else it needs.
    """

    def __init__(self, machine: Any, structure: Any, inputs: int) -> None:
        self.machine, self.inputs = machine, inputs
        one = jax.ShapeDtypeStruct((), np.float64)
        self.scalar = one
        people = jax.tree.unflatten(structure, [one] * inputs)
        self.begun = jax.make_jaxpr(lambda x: _floats(machine.begin(x)), return_shape=True)(people)
        state, constants = self.begun[1]
        self.state, self.constant = state, constants
        self.states, self.constants = len(jax.tree.leaves(state)), len(jax.tree.leaves(constants))
        self.paced = jax.make_jaxpr(lambda c, d: _floats(machine.pace(c, d)), return_shape=True)(constants, one)
        self.factor = self.paced[1]
        self.factors = len(jax.tree.leaves(self.factor))
        self.told_sizes: dict[str, int] = {}
        self.forms: dict[str, Any] = {}

    def begin(self) -> str:
        write = Writer(WIDTH)
        results = _written(self.begun[0], write, lambda i: _load_from(write, "%table", f"mul i64 %people, {i}"))
        _store_all(write, results, 0)
        return _function("begin", "ptr %s, ptr %table, i64 %people", write)

    def pace(self) -> str:
        write = Writer(WIDTH)
        days = _splat(write, "%days")

        def load(i: int) -> str:
            return days if i == self.constants else _load_at(write, "%s", self.states + i)

        results = _written(self.paced[0], write, load)
        for i, value in enumerate(results):
            _store_at(write, "%f", i, value)
        return _function("pace", "ptr %s, ptr %f, double %days", write)

    def told(self, name: str, function: Any, kind: str) -> str:
        """What is seen or told at the end, each result into its own row of an array."""
        write = Writer(WIDTH)
        closed, shape = jax.make_jaxpr(lambda s, c: _floats(function(s, c)), return_shape=True)(
            self.state, self.constant
        )
        form = "seen" if name == "emit" else "outcome"
        self.forms[form], self.told_sizes[name] = form_of(shape), len(jax.tree.leaves(shape))
        results = _written(closed, write, lambda i: _load_at(write, "%s", i))
        for i, value in enumerate(results):
            place = write.let(f"mul i64 %stride, {i}")
            pointer = write.let(f"getelementptr double, ptr %to, i64 {place}")
            write.lines.append(f"  store {write.vector} {value}, ptr {pointer}, align 8")
        return _function(name, "ptr %s, ptr %to, i64 %stride", write)

    def piece(self, number: int, name: str) -> str:
        write = Writer(WIDTH)
        closed = jax.make_jaxpr(lambda *x: _floats(self.machine.pieces[name](*x)))(
            self.state, self.constant, self.factor, self.scalar, self.scalar
        )
        fixed = self.states + self.constants

        def load(i: int) -> str:
            if i < fixed:
                return _load_at(write, "%s", i)
            if i < fixed + self.factors:
                return _load_at(write, "%f", i - fixed)
            if i == fixed + self.factors:
                return _splat(write, "%at")
            return write.let(f"load {write.vector}, ptr %amount, align 8")

        for i, value in _changed(closed, write, load, keep=self.states):
            _store_at(write, "%s", i, value)
        return _function(f"piece{number}", "ptr %s, ptr %f, double %at, ptr %amount", write)

    def when(self, number: int, name: str) -> str:
        """Whether anybody at hand needs a piece."""
        head = f"define internal i1 @when{number}(ptr %s) #0 {{"
        if name not in self.machine.when:
            return f"{head}\n  ret i1 true\n}}"
        write = Writer(WIDTH)
        closed = jax.make_jaxpr(lambda s, c: _floats(self.machine.when[name](s, c)))(self.state, self.constant)
        (value,) = _written(closed, write, lambda i: _load_at(write, "%s", i))
        needed = write.compare("une", value, write.number(0.0))
        anybody = write.let(f"call i1 @llvm.vector.reduce.or.v{WIDTH}i1({write.mask} {needed})")
        return "\n".join([head, *write.lines, f"  ret i1 {anybody}\n}}"])


def _floats(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.numpy.asarray(leaf, dtype=float), tree)


def _written(closed: Any, write: Writer, load: Any) -> list[str]:
    """A jaxpr as vector code, the names of its results; inputs are loaded where they are first needed."""
    return [name for _, name in _changed(closed, write, load, keep=0)]


def _changed(closed: Any, write: Writer, load: Any, keep: int) -> list[tuple[int, str]]:
    """Place and name of each result, but for the first ``keep`` inputs that come out as they went in."""
    line = lowering.Line()
    places = [line.add("input", parameter=i) for i in range(len(closed.jaxpr.invars))]
    results = lowering.flatten(closed, line, places)
    needed = [(i, x) for i, x in enumerate(results) if i >= keep or x != places[i]]
    names = lowering.emit(line, [x for _, x in needed], write, load)
    return [(i, name) for (i, _), name in zip(needed, names, strict=True)]


def _function(name: str, arguments: str, write: Writer) -> str:
    wide = 'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }'
    body = "\n".join(write.lines)
    head = f"define internal void @{name}({arguments}) #0 {{\n{body}\n  ret void\n}}"
    return head if name != "begin" else f"{wide}\n{head}"


def _load_at(write: Writer, base: str, place: int) -> str:
    pointer = write.let(f"getelementptr {write.vector}, ptr {base}, i64 {place}")
    return write.let(f"load {write.vector}, ptr {pointer}, align {ALIGN}")


def _store_at(write: Writer, base: str, place: int, value: str) -> None:
    pointer = write.let(f"getelementptr {write.vector}, ptr {base}, i64 {place}")
    write.lines.append(f"  store {write.vector} {value}, ptr {pointer}, align {ALIGN}")


def _store_all(write: Writer, values: list[str], first: int) -> None:
    for i, value in enumerate(values, first):
        _store_at(write, "%s", i, value)


def _load_from(write: Writer, base: str, place: str) -> str:
    pointer = write.let(f"getelementptr double, ptr {base}, i64 {write.let(place)}")
    return write.let(f"load {write.vector}, ptr {pointer}, align 8")


def _splat(write: Writer, scalar: str) -> str:
    one = write.let(f"insertelement {write.vector} poison, double {scalar}, i32 0")
    return write.let(
        f"shufflevector {write.vector} {one}, {write.vector} poison, <{write.width} x i32> zeroinitializer"
    )


def _declarations() -> str:
    vector = f"<{WIDTH} x double>"
    lines = [
        f"declare {vector} @llvm.fma.v{WIDTH}f64({vector}, {vector}, {vector})",
        f"declare i1 @llvm.vector.reduce.or.v{WIDTH}i1(<{WIDTH} x i1>)",
    ]
    return "\n".join(
        lines
        + [
            f"declare {vector} @llvm.{name}.v{WIDTH}f64({vector})"
            for name in ("sqrt", "fabs", "floor", "ceil", "rint", "trunc")
        ]
    )

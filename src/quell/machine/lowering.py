"""A traced function of scalars becomes straight-line code on vectors: one lane per person.

The jaxpr is flattened (calls inlined), equal operations are merged, what nobody uses is dropped; a product that only a
sum needs becomes one fused operation, the same on every processor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr

from quell.machine.arithmetic import Writer

Operand = int | float | bool  # the place of an operation, or a number

INLINED = {"pjit", "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
SAME = {"copy", "copy_p", "stop_gradient", "squeeze", "reshape", "broadcast_in_dim", "optimization_barrier"}
COMMUTES = {"add", "mul", "max", "min", "and", "or", "eq", "ne", "add_any"}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation: its name, its operands, and a parameter if it has one (an exponent, the place of an input)."""

    name: str
    operands: tuple[Operand, ...]
    parameter: Any = None


class Line:
    """Operations in order, each once."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.places: dict[Operation, int] = {}

    def add(self, name: str, *operands: Operand, parameter: Any = None) -> Operand:
        if name in COMMUTES:
            operands = tuple(sorted(operands, key=lambda x: (not isinstance(x, int) or isinstance(x, bool), repr(x))))
        simple = _simplified(name, operands)
        if simple is not None:
            return simple
        operation = Operation(name, operands, parameter)
        if operation not in self.places:
            self.places[operation] = len(self.operations)
            self.operations.append(operation)
        return self.places[operation]


def _number(x: Operand) -> bool:
    return isinstance(x, float)


def _simplified(name: str, operands: tuple[Operand, ...]) -> Operand | None:
    """An operand or a number that an operation comes to without being done; None if it must be done."""
    if name in ("add", "sub", "mul", "div", "neg") and all(_number(x) for x in operands):
        with np.errstate(all="ignore"):
            by = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative}[name]
            return float(by(*(np.float64(x) for x in operands)))
    if name == "mul" and 1.0 in [x for x in operands if _number(x)]:
        return operands[0] if _number(operands[1]) and operands[1] == 1.0 else operands[1]
    if name == "mul" and 0.0 in [x for x in operands if _number(x)]:
        return 0.0
    if name in ("add", "sub") and _number(operands[1]) and operands[1] == 0.0:
        return operands[0]
    if name == "div" and _number(operands[1]) and operands[1] == 1.0:
        return operands[0]
    return None


def flatten(closed: Any, line: Line, arguments: list[Operand]) -> list[Operand]:
    """Append a closed jaxpr's operations to a line; returns where its results are.

    Raises NotImplementedError, naming the primitive, where a scalar machine has none like it.
    """
    known: dict[Any, Operand] = {}

    def read(atom: Any) -> Operand:
        if hasattr(atom, "val"):
            return _literal(atom.val)
        return known[atom]

    for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        known[variable] = _literal(value)
    known.update(zip(closed.jaxpr.invars, arguments, strict=True))
    for equation in closed.jaxpr.eqns:
        results = _equation(equation, line, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _literal(value: Any) -> Operand:
    array = np.asarray(value)
    if array.size != 1:
        raise NotImplementedError(f"the machine works on scalars; a constant has shape {array.shape}.")
    return bool(array.reshape(())) if array.dtype == bool else float(array.reshape(()))


def _equation(equation: Any, line: Line, operands: list[Operand]) -> list[Operand]:
    name, given = equation.primitive.name, equation.params
    if name in INLINED:
        inner = given.get("jaxpr", given.get("call_jaxpr"))
        closed = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
        return flatten(closed, line, operands)
    if any(getattr(out.aval, "size", 1) != 1 for out in equation.outvars):
        raise NotImplementedError(f"the machine works on scalars; '{name}' makes an array of them.")
    if name in SAME:
        return [operands[0]]
    if name == "convert_element_type":
        return [_converted(equation, line, operands[0])]
    if name == "integer_pow":
        return [_power(line, operands[0], int(given["y"]))]
    if name == "square":
        return [line.add("mul", operands[0], operands[0])]
    if name == "rsqrt":
        return [line.add("div", 1.0, line.add("sqrt", operands[0]))]
    if name == "div" and _number(operands[1]) and operands[1] != 0:
        return [line.add("mul", operands[0], 1.0 / operands[1])]
    if name == "add_any":
        name = "add"
    if name not in KNOWN:
        raise NotImplementedError(f"the machine has no '{name}'. It knows: {', '.join(sorted(KNOWN))}.")
    return [line.add(name, *operands)]


def _converted(equation: Any, line: Line, operand: Operand) -> Operand:
    source, target = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
    asks, gives = source.kind == "b", target.kind == "b"
    if source == target or not (asks or gives or _whole(source, target)):
        return operand
    if isinstance(operand, bool):
        return float(operand)
    if asks:
        return line.add("select_n", operand, 0.0, 1.0)
    return line.add("ne", operand, 0.0) if gives else line.add("trunc", operand)


def _whole(source: Any, target: Any) -> bool:
    return np.issubdtype(source, np.floating) and np.issubdtype(target, np.integer)


def _power(line: Line, base: Operand, exponent: int) -> Operand:
    if exponent < 0:
        return line.add("div", 1.0, _power(line, base, -exponent))
    result: Operand = 1.0
    while exponent:
        if exponent % 2:
            result = line.add("mul", result, base)
        exponent //= 2
        base = line.add("mul", base, base) if exponent else base
    return result


KNOWN = {
    "add", "sub", "mul", "div", "neg", "max", "min", "exp", "log", "log1p", "expm1", "pow", "sqrt", "abs", "sign",
    "floor", "ceil", "round", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not", "select_n", "is_finite", "exp2",
}  # fmt: skip


def emit(line: Line, results: list[Operand], write: Writer, inputs: Callable[[int], str]) -> list[str]:
    """Write a line's operations as vector code; returns the names of its results, as vectors.

    ``inputs(i)`` writes the load of the i-th input and gives its name.
    """
    counts = uses(line, results)
    names: dict[int, str] = {}
    waiting: dict[int, tuple[str, str]] = {}  # products that only a sum needs

    def name(x: Operand) -> str:
        if isinstance(x, bool):
            return write.truth(x)
        if isinstance(x, float):
            return write.number(x)
        if x in waiting:
            names[x] = write.multiply(*waiting.pop(x))
        return names[x]

    sums = _only_in_sums(line, counts)
    for place in sorted(counts):
        operation = line.operations[place]
        if operation.name == "input":
            names[place] = inputs(operation.parameter)
        elif place in sums:
            waiting[place] = (name(operation.operands[0]), name(operation.operands[1]))
        elif operation.name in ("add", "sub"):
            names[place] = _sum(operation, waiting, name, write)
        else:
            names[place] = write.operation(operation.name, [name(x) for x in operation.operands])
    return [name(x) for x in results]


def _sum(operation: Operation, waiting: dict, name: Callable[[Operand], str], write: Writer) -> str:
    """A sum or difference, fused with a product where one waits for it."""
    a, b = operation.operands
    if b in waiting and isinstance(b, int) and not isinstance(b, bool):
        x, y = waiting.pop(b)
        return write.fused(write.operation("neg", [x]) if operation.name == "sub" else x, y, name(a))
    if a in waiting and isinstance(a, int) and not isinstance(a, bool):
        x, y = waiting.pop(a)
        other = name(b)
        return write.fused(x, y, write.operation("neg", [other]) if operation.name == "sub" else other)
    return write.operation(operation.name, [name(a), name(b)])


def _places(operation: Operation) -> list[int]:
    return [x for x in operation.operands if isinstance(x, int) and not isinstance(x, bool)]


def uses(line: Line, results: list[Operand]) -> dict[int, int]:
    """How often each operation that matters is used."""
    found = {x: 1 for x in results if isinstance(x, int) and not isinstance(x, bool)}
    for x in results:
        if isinstance(x, int) and not isinstance(x, bool) and results.count(x) > 1:
            found[x] = 2
    for place in range(len(line.operations) - 1, -1, -1):
        if place in found:
            for operand in _places(line.operations[place]):
                found[operand] = found.get(operand, 0) + 1
    return found


def _only_in_sums(line: Line, uses: dict[int, int]) -> set[int]:
    """Products used once, and that by a sum."""
    once = {place for place, count in uses.items() if count == 1 and line.operations[place].name == "mul"}
    sums = (line.operations[place] for place in uses if line.operations[place].name in ("add", "sub"))
    return once & {operand for operation in sums for operand in _places(operation)}

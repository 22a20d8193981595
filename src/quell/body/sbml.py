"""The body as SBML Level 3, for other people's tools: traced from the same equations, so there is no second copy of them.

Time is in days from the reading of study day 1. States have rate rules, observables assignment rules; a dose is an event.
The constants are one patient's own. Infarctions, strokes and deaths are not in the file: their hazards are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import jax.numpy as jnp

from quell import keys
from quell.body import course, parameters, population, risk
from quell.body import person as persons
from quell.body.immunity import Blood
from quell.body.parameters import Parameters
from quell.body.person import Observed, State, Tissue
from quell.body.population import Patient
from quell.keys import jax
from quell.machine import lowering

NAMESPACE = "http://www.sbml.org/sbml/level3/version1/core"
MATHML = "http://www.w3.org/1998/Math/MathML"
XHTML = "http://www.w3.org/1999/xhtml"
COVARIATES = (
    "age", "ldl", "diabetes", "previous_infarction", "angioplasty_for_index", "body_surface_area", "statin_intensified",
)  # fmt: skip
APPLIED = {
    "add": "plus", "sub": "minus", "mul": "times", "div": "divide", "neg": "minus", "exp": "exp", "log": "ln",
    "pow": "power", "sqrt": "root", "abs": "abs", "floor": "floor", "ceil": "ceiling", "lt": "lt", "le": "leq", "gt": "gt",
    "ge": "geq", "eq": "eq", "ne": "neq", "and": "and", "or": "or", "not": "not",
}  # fmt: skip
RESEARCH = "For research and trial planning, not for treating a patient."


def typical(name: str = "ivory") -> Patient:
    """The patient of a population whose every score is in the middle, with the table's own constants and no events.

    >>> float(typical().age)
    56.0
    """
    who = population.POPULATIONS[name]
    values = {one.name: population.value(one, jnp.zeros(())) for one in who.covariates}
    area = population.body_surface_area(values.pop("height"), values["female"], values["bmi"], parameters.load())
    never = jnp.full((), jnp.inf)
    fate = risk.Causes(jnp.full((risk.SUCCESSIVE,), jnp.inf), *(never for _ in risk.ONCE))
    own = {one: jnp.ones(()) for one in parameters.spreads()}
    return Patient(**values, body_surface_area=area, own=own, thresholds=fate)


def someone(name: str, number: int, key: int) -> Patient:
    """A drawn patient of a population by number: the same as ``quell respond`` draws with that key."""
    return population.draw(
        keys.at(keys.at(key, "subject", number), "biology"), parameters.load(), population.POPULATIONS[name]
    )


def export(constants: Parameters, patient: Patient, doses: Sequence[tuple[int, float]], title: str) -> str:
    """The model of one patient under doses (study day, 10^6 IU), as the text of an SBML file.

    >>> text = export(parameters.load(), typical(), [(1, 1.5)], "one dose")
    >>> "rateRule" in text and "absorption" in text
    True
    """
    own = parameters.personal(constants, patient.own)
    line, results, names = _traced()
    root = ElementTree.Element("sbml", {"xmlns": NAMESPACE, "level": "3", "version": "1"})
    model = ElementTree.SubElement(
        root, "model", {"id": "quell_body", "name": title, "timeUnits": "day", "substanceUnits": "dimensionless"}
    )
    _notes(model, f"{title}. Time in days from the reading of study day 1. {RESEARCH}")
    units = ElementTree.SubElement(
        ElementTree.SubElement(model, "listOfUnitDefinitions"), "unitDefinition", {"id": "day"}
    )
    second = {"kind": "second", "exponent": "1", "scale": "0", "multiplier": "86400"}
    ElementTree.SubElement(ElementTree.SubElement(units, "listOfUnits"), "unit", second)
    values = _values(own, patient, course.start(patient, constants, 1))
    where = _parameters(model, values, names, line, results)
    _rules(model, line, results, where)
    _doses(model, own, doses)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _traced() -> tuple[lowering.Line, dict[str, lowering.Operand], list[str]]:
    """The right-hand side and the observables as operations on named inputs, from one trace of the body."""
    states = [*Blood._fields, *Tissue._fields]
    names = [*states, *map(constant, Parameters._fields), *(f"covariate_{name}" for name in COVARIATES)]
    fate = risk.Causes((jnp.inf,) * risk.SUCCESSIVE, *(jnp.inf for _ in risk.ONCE))
    anyone = typical()
    numbers = {name: float(getattr(anyone, name)) for name in Patient._fields if name not in ("own", "thresholds")}
    anyone = Patient(**numbers, own={}, thresholds=fate)

    def everything(*x: Any) -> Any:
        split = len(states), len(states) + len(Parameters._fields)
        blood, tissue = Blood(*x[: len(Blood._fields)]), Tissue(*x[len(Blood._fields) : split[0]])
        patient = anyone._replace(**dict(zip(COVARIATES, x[split[1] :], strict=True)))
        who, state = course.person(patient, Parameters(*x[split[0] : split[1]])), State(blood, tissue)
        slopes = persons.slopes(state, who)
        return [*slopes.blood, *slopes.tissue, *course.observe(state, who)]

    one = jax.ShapeDtypeStruct((), "float64")
    closed = jax.make_jaxpr(everything)(*[one] * len(names))
    line = lowering.Line()
    found = lowering.flatten(closed, line, [line.add("input", parameter=i) for i in range(len(names))])
    told = [*(f"rate {name}" for name in states), *(f"observed {name}" for name in Observed._fields)]
    return line, dict(zip(told, found, strict=True)), names


def _values(own: Parameters, patient: Patient, begun: State) -> dict[str, tuple[float, bool]]:
    """The value of every named input, and whether it stays."""
    moving = begun.blood._asdict() | begun.tissue._asdict()
    fixed = {constant(name): x for name, x in own._asdict().items()} | {
        f"covariate_{name}": getattr(patient, name) for name in COVARIATES
    }
    return {name: (float(x), False) for name, x in moving.items()} | {
        name: (float(x), True) for name, x in fixed.items()
    }


def _parameters(
    model: ElementTree.Element, values: dict, names: list[str], line: lowering.Line, results: dict
) -> dict[int, str]:
    """Declare states, constants, shared intermediate values and observables; the name of each shared operation."""
    listed = ElementTree.SubElement(model, "listOfParameters")
    records = {constant(record.name): record for record in parameters.table()}
    for name, (value, stays) in values.items():
        one = ElementTree.SubElement(
            listed, "parameter", {"id": name, "value": repr(value), "constant": str(stays).lower()}
        )
        if name in records:
            record = records[name]
            one.set("name", f"{record.symbol}: {record.meaning}")
            _notes(one, f"Unit {record.unit}; {record.status}; source: {record.source}.")
    uses = lowering.uses(line, list(results.values()))
    where = {}
    for place in sorted(uses):
        operation = line.operations[place]
        if operation.name == "input":
            where[place] = names[operation.parameter]
        elif uses[place] > 1:
            where[place] = f"v{place}"
            ElementTree.SubElement(listed, "parameter", {"id": f"v{place}", "constant": "false"})
    for name, unit in zip(Observed._fields, course.UNITS, strict=True):
        declared = {"id": observable(name), "name": f"{name} ({unit})", "constant": "false"}
        ElementTree.SubElement(listed, "parameter", declared)
    return where


STATES = frozenset((*Blood._fields, *Tissue._fields))


def constant(name: str) -> str:
    """The id of a constant: its name in the table, marked where a state has the same."""
    return f"constant_{name}" if name in STATES else name


def observable(name: str) -> str:
    """The id of an observable: its name, marked where a state or a constant has the same."""
    return f"observed_{name}" if name in STATES or name in Parameters._fields else name


def _rules(model: ElementTree.Element, line: lowering.Line, results: dict[str, Any], where: dict[int, str]) -> None:
    listed = ElementTree.SubElement(model, "listOfRules")
    for place, name in where.items():
        if line.operations[place].name != "input":
            rule = ElementTree.SubElement(listed, "assignmentRule", {"variable": name})
            _math(rule).append(_applied(line, line.operations[place], where))
    for told, operand in results.items():
        kind, name = told.split(" ")
        tag, variable = ("rateRule", name) if kind == "rate" else ("assignmentRule", observable(name))
        _math(ElementTree.SubElement(listed, tag, {"variable": variable})).append(_expression(line, operand, where))


def _math(parent: ElementTree.Element) -> ElementTree.Element:
    return ElementTree.SubElement(parent, "math", {"xmlns": MATHML})


def _expression(line: lowering.Line, operand: Any, where: dict[int, str]) -> ElementTree.Element:
    """An operand as MathML: a number, a name, or an expression written out."""
    if isinstance(operand, bool):
        return ElementTree.Element(str(operand).lower())
    if isinstance(operand, float):
        return _number(operand)
    if operand in where:
        element = ElementTree.Element("ci")
        element.text = where[operand]
        return element
    return _applied(line, line.operations[operand], where)


def _number(value: float) -> ElementTree.Element:
    element = ElementTree.Element("cn", {"type": "e-notation"})
    mantissa, exponent = f"{value:.17e}".split("e")
    element.text = mantissa
    ElementTree.SubElement(element, "sep").tail = str(int(exponent))
    return element


def _applied(line: lowering.Line, operation: lowering.Operation, where: dict[int, str]) -> ElementTree.Element:
    parts = [_expression(line, operand, where) for operand in operation.operands]
    if operation.name in ("select_n", "max", "min"):
        return _piecewise(operation.name, parts, line, operation, where)
    if operation.name not in APPLIED:
        raise NotImplementedError(f"SBML has no '{operation.name}'; write the equation with another operation.")
    element = ElementTree.Element("apply")
    ElementTree.SubElement(element, APPLIED[operation.name])
    element.extend(parts)
    return element


def _piecewise(
    name: str, parts: list, line: lowering.Line, operation: lowering.Operation, where: dict
) -> ElementTree.Element:
    if name == "select_n":
        condition, otherwise, chosen = parts
    else:
        chosen, otherwise = parts
        condition = ElementTree.Element("apply")
        ElementTree.SubElement(condition, "gt" if name == "max" else "lt")
        condition.extend(_expression(line, operand, where) for operand in operation.operands)
    element = ElementTree.Element("piecewise")
    piece = ElementTree.SubElement(element, "piece")
    piece.extend([chosen, condition])
    ElementTree.SubElement(element, "otherwise").append(otherwise)
    return element


def _doses(model: ElementTree.Element, own: Parameters, doses: Sequence[tuple[int, float]]) -> None:
    """Each dose as an event: its absorbable part enters the depot when the lag is over."""
    given = [(day, amount) for day, amount in doses if amount > 0]
    if not given:
        return
    listed = ElementTree.SubElement(model, "listOfEvents")
    for number, (day, amount) in enumerate(given, 1):
        event = ElementTree.SubElement(listed, "event", {"id": f"dose_{number}", "useValuesFromTriggerTime": "true"})
        trigger = ElementTree.SubElement(event, "trigger", {"initialValue": "false", "persistent": "true"})
        reached = ElementTree.SubElement(_math(trigger), "apply")
        ElementTree.SubElement(reached, "geq")
        time = {"encoding": "text", "definitionURL": "http://www.sbml.org/sbml/symbols/time"}
        ElementTree.SubElement(reached, "csymbol", time).text = "time"
        reached.append(_number(day - 1 + float(own.absorption_lag)))
        change = ElementTree.SubElement(
            ElementTree.SubElement(event, "listOfEventAssignments"), "eventAssignment", {"variable": "depot"}
        )
        more = ElementTree.SubElement(_math(change), "apply")
        ElementTree.SubElement(more, "plus")
        ElementTree.SubElement(more, "ci").text = "depot"
        product = ElementTree.SubElement(more, "apply")
        ElementTree.SubElement(product, "times")
        ElementTree.SubElement(product, "ci").text = "bioavailability"
        product.append(_number(float(amount)))


def _notes(parent: ElementTree.Element, text: str) -> None:
    notes = ElementTree.SubElement(parent, "notes")
    ElementTree.SubElement(notes, "p", {"xmlns": XHTML}).text = text

"""The exported SBML, simulated by libroadrunner's CVODE, against quell's own engine: every observable, whole days."""

import functools
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
import roadrunner

from quell import keys
from quell.body import course, parameters, population, sbml

P = parameters.load()
DAYS, UNTIL = (1, 2, 3, 4, 5, 12, 19), 60
READINGS = tuple(range(1, UNTIL + 1))


@functools.cache
def someone(number: int):
    drawn = population.draw(keys.at(5, "subject", number), P, population.POPULATIONS["ivory"])
    return drawn._replace(thresholds=jax.tree.map(lambda x: x * np.inf, drawn.thresholds))


@pytest.mark.parametrize(("number", "dose"), [(None, 1.5), (1, 1.5), (2, 18.0), (3, 0.0)])
def test_roadrunner_lives_the_same_life(number, dose):
    patient = sbml.typical() if number is None else someone(number)
    model = roadrunner.RoadRunner(sbml.export(P, patient, [(day, dose) for day in DAYS], "a test"))
    model.integrator.relative_tolerance, model.integrator.absolute_tolerance = 1e-10, 1e-14
    model.integrator.maximum_time_step = 0.02  # so that no dose is stepped over
    names = [sbml.observable(one) for one in course.Observed._fields]
    found = np.array(model.simulate(0, UNTIL - 1, UNTIL, ["time", *names]))
    assert (found[:, 0] == np.arange(UNTIL)).all()
    people = jax.tree.map(lambda x: np.asarray(x)[None], patient)
    grid = course.refine(course.mesh(DAYS, READINGS, UNTIL), 2)
    ours = course.many(people, np.full((1, len(DAYS)), dose), P, grid).observed
    for column, (name, values) in enumerate(zip(ours._fields, ours, strict=True), 1):
        floor = 0.01 if name == "il2" else 0.0
        gap = np.abs(found[:, column] - values[0]) / (np.abs(values[0]) + floor + 1e-300)
        assert gap.max() < 1e-4, (name, gap.max(), gap.argmax())


def test_every_constant_in_the_file_tells_its_source():
    text = sbml.export(P, sbml.typical(), [(1, 1.5)], "a <b> & c")
    assert not {"nan", "inf"} & {one.get("value", "").lower() for one in ElementTree.fromstring(text).iter()}
    for record in parameters.table():
        assert f'id="{sbml.constant(record.name)}"' in text, record.name
    assert "error" not in str(roadrunner.validateSBML(text)).lower()

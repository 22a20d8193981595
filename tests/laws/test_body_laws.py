"""Laws of the body: properties that hold for every patient and every calendar."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell import keys, machine
from quell.body import course, parameters, population
from quell.machine import native

P = parameters.load()
IVORY = population.POPULATIONS["ivory"]
DOSES = (1, 2, 3, 4, 5, *range(12, 55, 7))
READINGS = (1, 5, 12, 26, 40, 54, 61)
GRID = course.mesh(DOSES, READINGS, 400)


@functools.cache
def people(count: int, name: str = "ivory", seed: int = 1):
    one = jax.jit(jax.vmap(lambda i: population.draw(keys.at(seed, "subject", i), P, population.POPULATIONS[name])))
    return jax.tree.map(np.asarray, one(jnp.arange(count)))


def first(tree, count):
    return jax.tree.map(lambda x: x[:count], tree)


def same(a, b) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@functools.cache
def lives(dose: float, count: int = 300, link: str = ""):
    world = parameters.without(P, link) if link else P
    return course.many(people(count), np.full((count, len(DOSES)), dose), world, GRID)


def test_a_drug_that_is_not_absorbed_is_placebo_bit_for_bit():
    assert same(lives(0.0), lives(1.5, link="drug"))
    assert not same(lives(0.0), lives(1.5))


def test_a_missed_dose_changes_nothing_before_it():
    given = np.full((300, len(DOSES)), 1.5)
    missed = given.copy()
    missed[:, 7] = 0.0  # day 26
    other = course.many(people(300), missed, P, GRID).observed
    now = lives(1.5).observed
    before, after = (np.stack([x[:, :4] for x in seen], axis=-1) for seen in (now, other))
    same_bits = (before == after).all(axis=(1, 2))
    assert same_bits.mean() > 0.9  # whoever is stepped more closely for a later dose is so throughout
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-6)
    assert (other.treg[:, 4] < now.treg[:, 4]).all()


def test_efficacy_off_moves_cells_and_nothing_else():
    calm, treated = lives(0.0, link="efficacy"), lives(1.5, link="efficacy")
    for name in ("il6", "crp", "tbr_ascending_aorta", "tbr_coronary", "ejection_fraction", "infarct_mass", "hazard"):
        assert same(getattr(calm.observed, name), getattr(treated.observed, name)), name
    assert same(calm.events, treated.events)
    assert (treated.observed.treg[:, 2] > calm.observed.treg[:, 2]).all()


def test_treatment_calms_every_wall():
    placebo, treated = lives(0.0).observed, lives(1.5).observed
    for name in ("tbr_ascending_aorta", "tbr_left_carotid", "tbr_right_carotid", "tbr_coronary", "crp", "hazard"):
        unharmed = np.isinf(lives(0.0).events.infarction[:, 0])
        assert (getattr(treated, name)[unharmed, 1:] < getattr(placebo, name)[unharmed, 1:]).all(), name


def test_more_drug_more_expanded_regulatory_cells():
    count = 64
    grid = course.mesh((1, 2, 3, 4, 5), (12,), 12)
    seen = [
        course.many(people(count), np.full((count, 5), dose), P, grid).observed.treg for dose in (0, 0.03, 0.1, 0.3, 1)
    ]
    assert (np.diff(np.concatenate(seen, axis=1), axis=1) > 0).all()


def test_no_byte_depends_on_how_many_or_in_which_order():
    count = machine.CHUNK // 4 + 7
    given = np.full((count, len(DOSES)), 1.5)
    whole = course.many(people(count), given, P, GRID)
    assert same(first(whole, 5), course.many(first(people(count), 5), given[:5], P, GRID))
    turned = course.many(jax.tree.map(lambda x: x[::-1], people(count)), given, P, GRID)
    assert same(whole, jax.tree.map(lambda x: np.ascontiguousarray(x[::-1]), turned))


def test_no_byte_depends_on_the_number_of_cores(monkeypatch):
    count = 3 * machine.CHUNK // 4 // 2
    given = np.full((count, len(DOSES)), 1.5)
    many = course.many(people(count), given, P, GRID)
    monkeypatch.setattr(machine, "workers", lambda: 1)
    assert same(many, course.many(people(count), given, P, GRID))


def test_one_compilation_for_every_calendar(monkeypatch):
    course.many(people(3), np.ones((3, 1)), P, course.mesh((1,), (1, 3), 20))
    monkeypatch.setattr(native, "source", None)  # whatever is lived next is compiled already
    for count, days, world in (
        (3, (1, 8), P),
        (5, (2,), parameters.without(P, "efficacy")),
        (700, (), P._replace(growth=4.0)),
    ):
        course.many(people(count), np.ones((count, len(days))), world, course.mesh(days, (1, 3), 25))


def test_jax_and_the_machine_live_the_same_life():
    count = 6
    grid = course.mesh((1, 2, 9), (-2, 1, 2, 3, 9, 12, 300), 400)
    soon = people(count)
    soon = soon._replace(thresholds=soon.thresholds._replace(infarction=soon.thresholds.infarction * 0.001))
    given = np.full((count, 3), 1.5)
    fast = course.many(soon, given, P, grid)
    slow = jax.jit(jax.vmap(lambda who, amounts: course.live(who, amounts, P, grid)))(soon, given)
    assert np.isfinite(fast.events.infarction).any()
    for name, a, b in zip(fast.observed._fields, fast.observed, slow.observed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=name)
    assert same(fast.events, jax.tree.map(np.asarray, slow.events))


def test_a_life_can_be_differentiated():
    grid = course.mesh((1, 2), (4, 9), 12)
    who = jax.tree.map(lambda x: x[3], people(6))

    def regulatory(growth):
        return course.live(who, jnp.array([1.5, 1.5]), P._replace(growth=growth), grid).observed.treg[1]

    slope, step = jax.grad(regulatory)(P.growth), 1e-4
    rise = (regulatory(P.growth + step) - regulatory(P.growth - step)) / (2 * step)
    assert abs(float(slope) / float(rise) - 1) < 1e-5


def test_parameters_per_patient_equal_shared_ones():
    count = 20
    own = jax.tree.map(lambda value: np.full(count, value), P)
    given = np.full((count, len(DOSES)), 1.5)
    shared, each = lives(1.5), course.many(people(count), given, own, GRID)
    for a, b in zip(first(shared.observed, count), each.observed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_one_life_alone_equals_the_same_life_among_many():
    one = jax.tree.map(lambda x: x[3:4], people(300))
    alone = course.many(one, np.full((1, len(DOSES)), 1.5), P, GRID)
    assert same(alone, jax.tree.map(lambda x: x[3:4], lives(1.5)))


def test_every_life_is_valid_and_nothing_is_negative():
    for dose in (0.0, 1.5):
        life = lives(dose)
        assert set(np.unique(life.valid)) == {0}
        assert min(x.min() for x in life.observed) >= 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=12, max_size=12), st.integers(0, 299))
def test_any_calendar_leaves_shares_and_cells_in_range(amounts, who):
    patient = jax.tree.map(lambda x: x[who : who + 1], people(300))
    life = course.many(patient, np.array([amounts]), P, GRID)
    assert life.valid[0] == 0
    assert (life.observed.treg_percent < 100).all()
    assert (life.observed.ejection_fraction < 100).all()


def test_failure_is_a_value_with_a_sentence():
    patients = first(people(300), 2)
    assert course.many(patients, np.full((2, 12), -1.0), P, GRID).valid.tolist() == [2, 2]
    broken = patients._replace(days_since_infarction=np.array([np.nan, 5.0]))
    assert course.many(broken, np.zeros((2, 12)), P, GRID).valid.tolist() == [1, 0]
    assert all(sentence.endswith(".") for sentence in course.VALID.values())


def test_death_ends_everything():
    count = 6000
    grid = course.mesh((), (1,), 3650)
    events = course.many(people(count, "post-mi"), np.zeros((count, 0)), P, grid).events
    death = np.minimum(events.cardiovascular_death, events.other_death)
    assert (np.isfinite(events.cardiovascular_death) & np.isfinite(events.other_death)).sum() == 0
    for days in (*events.infarction.T, events.stroke, events.arrest, events.revascularisation):
        happened = np.isfinite(days)
        assert happened.any() and (days[happened] <= death[happened]).all()
        assert (days[happened] == np.ceil(days[happened])).all()
        assert days[happened].min() >= 1 and days[happened].max() <= 3650
    again = np.diff(np.where(np.isinf(events.infarction), 1e9 + np.arange(4), events.infarction), axis=1)
    assert (again > 0).all()


def test_the_loop_endangers():
    count = 6000
    grid = course.mesh((), (1,), 3650)
    patients, none = people(count, "post-mi"), np.zeros((count, 0))
    with_loop = course.many(patients, none, P, grid).events.infarction
    without = course.many(patients, none, parameters.without(P, "loop"), grid).events.infarction
    assert same(with_loop[:, 0], without[:, 0])
    assert np.isfinite(with_loop[:, 1]).sum() > 1.1 * np.isfinite(without[:, 1]).sum()


def test_an_infarction_leaves_scar_and_inflammation():
    patients = people(300)
    soon = patients._replace(
        thresholds=patients.thresholds._replace(
            infarction=np.tile([1e-9, np.inf, np.inf, np.inf], (300, 1)),
            cardiovascular_death=np.full(300, np.inf),
            other_death=np.full(300, np.inf),
        )
    )
    never = soon._replace(thresholds=soon.thresholds._replace(infarction=np.full((300, 4), np.inf)))
    grid = course.mesh((), (3, 20), 30)
    hit, spared = (course.many(who, np.zeros((300, 0)), P, grid) for who in (soon, never))
    assert (hit.events.infarction[:, 0] == 1).all() and np.isinf(spared.events.infarction).all()
    for name in ("crp", "infarct_mass", "tbr_coronary"):
        assert (getattr(hit.observed, name)[:, 1] > getattr(spared.observed, name)[:, 1]).all(), name
    assert (hit.observed.ejection_fraction < spared.observed.ejection_fraction).all()


def test_the_closed_form_start_agrees_with_living_through_it():
    patients = first(people(300), 40)
    patients = patients._replace(thresholds=jax.tree.map(lambda x: x * np.inf, patients.thresholds))
    grid = course.mesh((), (1, 8), 10)
    lived = course.many(patients, np.zeros((40, 0)), P, grid).observed
    older = patients._replace(days_since_infarction=patients.days_since_infarction + 7)
    jumped = jax.jit(jax.vmap(lambda who: course.observe(course.start(who, P, 1), course.person(who, P))))(older)
    for name, a, b in zip(lived._fields, lived, jumped, strict=True):
        np.testing.assert_allclose(a[:, 1], b, rtol=1e-9, err_msg=name)


def test_screening_reads_the_days_before_the_first_dose():
    patients = first(people(300), 10)
    grid = course.mesh((1,), (-3, 1), 5)
    seen = course.many(patients, np.ones((10, 1)), P, grid).observed
    screened = jax.jit(jax.vmap(lambda who: course.observe(course.start(who, P, -3), course.person(who, P))))(patients)
    np.testing.assert_allclose(seen.crp[:, 0], screened.crp, rtol=1e-12)


def test_the_rule_is_of_fourth_order():
    count = 48
    patients = first(people(300), count)
    patients = patients._replace(thresholds=jax.tree.map(lambda x: x * np.inf, patients.thresholds))
    grid = course.mesh((1, 2), (2, 3, 5, 9), 12)
    runs = [course.many(patients, np.full((count, 2), 1.5), P, course.refine(grid, k)).observed for k in (2, 4, 16)]
    for name in ("treg", "ilc2", "nk_bright", "il5", "crp", "tbr_coronary"):
        coarse, fine, exact = (getattr(run, name) for run in runs)
        ratio = np.abs(coarse - exact).mean() / np.abs(fine - exact).mean()
        assert 10 < ratio < 24, (name, ratio)


def test_a_patient_is_an_address():
    alone = population.draw(keys.at(1, "subject", 7), P, IVORY)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(people(300)), strict=True):
        np.testing.assert_allclose(a, b[7], rtol=1e-12)


def test_thresholds_are_unit_exponentials():
    drawn = people(20000).thresholds
    for threshold in (*drawn.infarction.T, *drawn[1:]):
        assert abs(threshold.mean() - 1) < 5 / np.sqrt(20000)


def test_drawn_parameters_keep_what_is_fixed_and_move_what_is_not():
    drawn = jax.vmap(lambda i: parameters.draw(keys.at(1, "world", i)))(jnp.arange(4000))
    for record in parameters.table():
        logs = np.log(getattr(drawn, record.name) / record.value)
        assert abs(logs.std() - record.uncertainty) <= 0.1 * record.uncertainty + 1e-9, record.name


def test_every_constant_has_a_source_a_unit_and_a_status():
    for record in parameters.table():
        assert record.status in {"measured", "derived", "assumed"} and record.source and record.meaning, record.name
        assert record.between_person >= 0 and record.uncertainty >= 0 and record.unit, record.name
        assert record.value > 0, record.name
        if record.source.startswith("none"):
            assert record.status == "assumed", record.name
    assert "IVORY" not in parameters.load.__module__
    assert "E048" not in next(record.source for record in parameters.table() if record.name == "calming")


ORGANS = ("drug", "immunity", "vessel", "heart", "risk", "harm")
CONVERSIONS = {"AVOGADRO", "PICO", "IU_PER_ML", "PERCENT", "NEAR", "SUCCESSIVE", "TERMS"}


@pytest.mark.parametrize("organ", ORGANS)
def test_organs_hold_equations_and_no_numbers(organ):
    tree = ast.parse((pathlib.Path(course.__file__).parent / f"{organ}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in CONVERSIONS:
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, (int, float)):
                assert inner.value in (0, 1, 2, 0.5), (
                    f"{organ}.py line {inner.lineno}: {inner.value} belongs in the table"
                )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: parameters.without(P, "eficacy"), "efficacy, drug, loop"),
        (lambda: course.mesh((2, 1), (1,), 9), "rising order"),
        (lambda: course.mesh((0,), (1,), 9), "before study day 1"),
        (lambda: course.mesh((1,), (12,), 9), "after the end"),
        (lambda: course.mesh((), (), 0), "no time in it"),
        (lambda: course.many(first(people(300), 2), np.zeros((2, 3)), P, GRID), "need (2, 12)"),
    ],
)
def test_bad_input_gets_a_sentence(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value) and str(caught.value).endswith(".")

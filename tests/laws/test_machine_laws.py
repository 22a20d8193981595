"""Laws of the machine: its arithmetic is the arithmetic, JAX and native code agree, nobody touches another's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell import machine
from quell.machine import Machine, Tape, native

LOOK = Tape((1.0,), np.array([-1]), np.array([0]), np.zeros(1), np.array([-1]))
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-300,
    5e-324,
    1e300,
    709.0,
    710.0,
    -708.0,
    -750.0,
    0.5,
    1e-9,
    -1e-9,
]


def calculated(function, *columns):
    """A function of numbers, lane by lane, by native code."""
    one = Machine(
        identity=(function.__name__, str(jax.make_jaxpr(function)(*[1.0] * len(columns)))),
        begin=lambda x: ({"x": list(x)}, {"none": 0.0}),
        pace=lambda constants, days: {"days": days},
        pieces={"nothing": lambda state, constants, factors, at, amount: state},
        emit=lambda state, constants: {"y": function(*state["x"])},
        finish=lambda state, constants: {"end": 0.0},
    )
    seen, _ = one.run(tuple(columns), np.zeros((len(columns[0]), 0)), LOOK)
    return seen["y"][:, 0]


def close(found, wanted, tolerance=4e-16):
    with np.errstate(all="ignore"):
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        near = np.abs(found - wanted) <= tolerance * np.abs(wanted)
        tiny = np.abs(wanted) < 3e-308  # what lies below the normal numbers may be zero
    return same | near | (tiny & (np.abs(found) < 3e-308))


WIDE = np.concatenate(
    [SPECIAL, np.linspace(-700, 700, 4001), np.geomspace(1e-12, 30, 1000), -np.geomspace(1e-12, 30, 1000)]
)


@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "log",
        "expm1",
        "log1p",
        "sqrt",
        "abs",
        "floor",
        "ceil",
        "round",
        "sign",
        "negative",
        "square",
        "reciprocal",
    ],
)
def test_functions_are_right_to_the_last_digits(name):
    with np.errstate(all="ignore"):
        wanted = getattr(np, name)(WIDE)
    found = calculated(lambda x: getattr(jnp, name)(x), WIDE)
    right = close(found, wanted, 5e-16 if name in ("exp", "log", "expm1", "log1p") else 0.0)
    assert right.all(), (WIDE[~right][:3], found[~right][:3], wanted[~right][:3])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(-8, 8)), min_size=1, max_size=20))
def test_powers(pairs):
    base, exponent = np.array(pairs).T
    np.testing.assert_allclose(calculated(lambda x, y: x**y, base, exponent), base**exponent, rtol=1e-13)


def test_comparisons_and_choices():
    x, y = (np.array(list(values)) for values in zip(*[(a, b) for a in SPECIAL for b in SPECIAL], strict=True))
    for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"):
        found = calculated(lambda a, b, name=name: jnp.where(getattr(jnp, name)(a, b), 1.0, 0.0), x, y)
        assert (found == getattr(np, name)(x, y)).all(), name
    finite = calculated(lambda a, b: jnp.where(jnp.isfinite(a) & ~jnp.isnan(b) | (a > b), a, b), x, y)
    wanted = np.where((np.isfinite(x) & ~np.isnan(y)) | (x > y), x, y)
    assert close(finite, wanted, 0.0).all()


def dosing():
    """Two compartments with saturable loss, and a count of large moments."""

    def begin(x):
        return {"depot": jnp.zeros(()), "blood": jnp.zeros(()), "high": jnp.zeros(())}, {
            "rate": x["rate"],
            "loss": x["loss"],
        }

    def pace(own, days):
        return {"left": jnp.exp(-own["rate"] * days), "days": days}

    def inject(x, own, by, at, amount):
        return x | {"depot": x["depot"] + amount}

    def step(x, own, by, at, amount):
        gone = x["depot"] * (1 - by["left"])
        lost = by["days"] * own["loss"] * x["blood"] / (1 + x["blood"])
        return {
            "depot": x["depot"] * by["left"],
            "blood": x["blood"] + gone - lost,
            "high": jnp.where(x["blood"] > 1 + 0 * at, 1.0, 0.0),
        }

    def alarm(x, own, by, at, amount):
        return x | {"blood": jnp.where(x["high"] > 0, x["blood"] * 0.5, x["blood"])}

    return Machine(
        identity=("dosing",), begin=begin, pace=pace, pieces={"inject": inject, "step": step, "alarm": alarm},
        emit=lambda x, own: {"blood": x["blood"]}, finish=lambda x, own: {"left": jnp.log1p(x["depot"])},
        when={"alarm": lambda x, own: x["high"]},
    )  # fmt: skip


PIECES = np.array([-1, 0, *[1] * 9, 2, -1, 0, *[1] * 5, 2, -1])
SCRIPT = Tape((0.0, 0.05, 0.2), PIECES, np.where(PIECES == 1, np.arange(len(PIECES)) % 2 + 1, 0), np.zeros(len(PIECES)),
              np.array([-1, 0, *[-1] * 11, 1, *[-1] * 7]))  # fmt: skip


def crowd(count):
    rate = np.linspace(0.5, 20, count)
    return {"rate": rate, "loss": np.linspace(0.1, 3, count)[::-1].copy()}, np.column_stack([rate / 5, 3 - rate / 10])


def test_native_code_and_jax_agree():
    one, (people, doses) = dosing(), crowd(37)
    seen, outcome = one.run(people, doses, SCRIPT)
    by_jax, ends = jax.vmap(lambda who, given: one.traced(who, given, SCRIPT))(people, doses)
    assert seen["blood"].shape == (37, 3) and seen["blood"].max() > 1
    np.testing.assert_allclose(seen["blood"], by_jax["blood"], rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(outcome["left"], ends["left"], rtol=1e-13, atol=1e-15)


def test_no_byte_depends_on_company_order_or_threads(monkeypatch):
    one, (people, doses) = dosing(), crowd(101)
    whole = one.run(people, doses, SCRIPT)[0]["blood"]
    monkeypatch.setattr(machine, "CHUNK", 24)
    assert (one.run(people, doses, SCRIPT, threads=5)[0]["blood"] == whole).all()
    back = {name: values[::-1] for name, values in people.items()}
    assert (one.run(back, doses[::-1], SCRIPT)[0]["blood"][::-1] == whole).all()
    alone = {name: values[50:51] for name, values in people.items()}
    assert (one.run(alone, doses[50:51], SCRIPT)[0]["blood"] == whole[50]).all()


def test_what_all_share_may_be_one_number():
    one, (people, doses) = dosing(), crowd(20)
    each = one.run(people | {"loss": np.full(20, 0.7)}, doses, SCRIPT)[0]["blood"]
    assert (one.run(people | {"loss": 0.7}, doses, SCRIPT)[0]["blood"] == each).all()


def test_one_persons_nonsense_stays_with_that_person():
    one, (people, doses) = dosing(), crowd(20)
    whole = one.run(people, doses, SCRIPT)[0]["blood"]
    people["rate"][7] = np.nan
    found = one.run(people, doses, SCRIPT)[0]["blood"]
    assert np.isnan(found[7]).any() and (np.delete(found, 7, 0) == np.delete(whole, 7, 0)).all()


def test_a_kept_machine_is_neither_traced_nor_compiled_again(monkeypatch, tmp_path):
    monkeypatch.setenv("QUELL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_made", {})
    people, doses = crowd(9)
    first = dosing().run(people, doses, SCRIPT)[0]["blood"]
    monkeypatch.setattr(native, "_made", {})
    monkeypatch.setattr(native, "source", None)
    assert (dosing().run(people, doses, SCRIPT)[0]["blood"] == first).all()


def test_what_the_machine_lacks_is_named():
    with pytest.raises(NotImplementedError, match=r"no 'sin'"):
        calculated(jnp.sin, np.ones(1))
    with pytest.raises(NotImplementedError, match="scalars"):
        calculated(lambda x: jnp.sum(jnp.arange(3.0) * x), np.ones(1))

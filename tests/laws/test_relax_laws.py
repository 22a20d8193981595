"""Laws of relaxation: the closed form is the matrix exponential, also where rates are equal; the step is of fourth order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from quell.body import relax
from quell.body.relax import NOTHING, Link


class Chain(NamedTuple):
    a: object
    b: object
    c: object
    d: object


LINKS = (Link("a", "b"), Link("b", "c"), Link("d", "c"))
STRENGTHS = (1.5, 0.7, -0.4)


def matrix(rates):
    found = -np.diag(rates)
    found[1, 0], found[2, 1], found[2, 3] = STRENGTHS
    return found


@pytest.mark.parametrize("days", [1e-3, 0.3, 7.0])
@pytest.mark.parametrize(
    "rates",
    [
        (5.0, 16.0, 36.0, 0.1),
        (0.8, 0.8, 0.8, 0.8),
        (0.8, 0.8, 0.3, 0.3),
        (0.2, 0.5, 0.2, 0.5),
        (1.0, 1.0 + 1e-7, 2.0, 0.0),
    ],
)
def test_the_closed_form_is_the_matrix_exponential(rates, days):
    start = np.array([1.0, 0.2, 0.3, 0.4])
    relaxation = relax.Relaxation(Chain(*rates), STRENGTHS)
    after = relax.relax(Chain(*start), relax.factors(relaxation, LINKS, days), LINKS)
    np.testing.assert_allclose(np.array(after), expm(matrix(rates) * days) @ start, rtol=2e-6, atol=1e-12)
    slopes = relax.slopes(Chain(*start), relaxation, LINKS)
    np.testing.assert_allclose(np.array(slopes), matrix(rates) @ start, rtol=1e-12)


def test_a_renewed_rate_is_that_rate():
    rates, days = Chain(5.0, 16.0, 36.0, 0.1), 0.2
    by = relax.factors(relax.Relaxation(rates, STRENGTHS), LINKS, days)
    new = relax.renew(by, relax.Relaxation(rates, STRENGTHS), LINKS, "c", 20.0, days)
    direct = relax.factors(relax.Relaxation(rates._replace(c=20.0), STRENGTHS), LINKS, days)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(direct), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_step_is_of_fourth_order_and_exact_when_nothing_drives():
    relaxation = relax.Relaxation(Chain(1.0, 2.0, 3.0, 0.5), STRENGTHS)

    def after(steps, strength):
        state = Chain(*(jnp.asarray(x) for x in (1.0, 0.2, 0.3, 0.4)))
        by = relax.factors(relaxation, LINKS, 1.0 / steps / 2)
        for _ in range(steps):
            drive = lambda x, stage: Chain(NOTHING, strength * jnp.sin(x.a * x.b), strength * x.d**2, NOTHING)  # noqa: E731
            state, *_ = relax.step(state, drive, by, LINKS, 1.0 / steps)
        return np.array(state)

    np.testing.assert_allclose(after(1, 0.0), after(7, 0.0), rtol=1e-12)
    coarse, fine, exact = (after(steps, 3.0) for steps in (8, 16, 256))
    assert 12 < np.abs(coarse - exact).max() / np.abs(fine - exact).max() < 20


def test_what_is_felt_of_a_steady_drive_is_exact():
    for z in (0.01, 1.0, 8.0):
        assert abs(float(relax.weighed((2.0, 2.0, 2.0), z, np.exp(-z))) - 2 * (1 - np.exp(-z)) / z) < 1e-9


def test_shared_divisions_are_divisions():
    pairs = [(1.0, 3.0), (2.0, 7.0), (5.0, 11.0)]
    np.testing.assert_allclose(relax.quotients(*pairs), [a / b for a, b in pairs], rtol=1e-15)

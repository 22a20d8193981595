"""Laws of multiple testing: a batch is a loop, order does not matter, procedures bound each other, mistakes get a sentence."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quell.analysis import dunnett, graphical, multiple
from quell.analysis.claim import Caution, ClaimError

RULES = ["bonferroni", "holm", "hochberg", "hommel", "benjamini_hochberg", "benjamini_yekutieli"]
p_values = hnp.arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(0, 1, width=32))


@pytest.mark.parametrize("rule", RULES)
@given(p=p_values)
def test_a_batch_is_a_loop_and_order_does_not_matter(rule, p):
    adjust = getattr(multiple, rule)
    found = adjust(p)
    np.testing.assert_array_equal(found, np.stack([adjust(row) for row in p]))
    turned = np.arange(p.shape[1])[::-1]
    np.testing.assert_allclose(adjust(p[:, turned]), found[:, turned], rtol=1e-12)
    assert np.all((found >= p - 1e-15) & (found <= 1))
    # a missing hypothesis changes nothing for the others
    beside = adjust(np.concatenate([p, np.full((len(p), 1), np.nan)], 1))
    np.testing.assert_array_equal(beside[:, :-1], found)
    assert np.isnan(beside[:, -1]).all()


@given(p_values)
def test_which_procedure_is_stronger(p):
    hommel, hochberg, holm, bonferroni = (
        getattr(multiple, rule)(p) for rule in ("hommel", "hochberg", "holm", "bonferroni")
    )
    assert (
        np.all(hommel <= hochberg + 1e-12) and np.all(hochberg <= holm + 1e-12) and np.all(holm <= bonferroni + 1e-12)
    )
    assert np.all(multiple.benjamini_hochberg(p) <= hommel + 1e-12)


@given(p_values)
def test_graphs_of_known_procedures(p):
    m = p.shape[1]
    np.testing.assert_allclose(graphical.adjusted(p, graphical.holm_graph(m)), multiple.holm(p), rtol=1e-9, atol=1e-15)
    in_order = graphical.adjusted(p, graphical.fixed_sequence_graph(m))
    np.testing.assert_allclose(in_order, multiple.fixed_sequence(p), rtol=1e-9, atol=1e-15)
    # the closed test by Simes is Hommel's procedure
    closed = graphical.closed_test(p, graphical.holm_graph(m), "simes")
    np.testing.assert_allclose(closed, multiple.hommel(p), rtol=1e-9, atol=1e-15)


@st.composite
def graphs(draw, m=4):
    parts = draw(hnp.arrays(float, (m + 1, m), elements=st.floats(0, 1, width=16)))
    parts[1:] *= 1 - np.eye(m)
    parts = parts / np.maximum(parts.sum(1, keepdims=True), 1.0)
    return graphical.graph(parts[0], parts[1:])


@given(graphs(), hnp.arrays(float, (3, 4), elements=st.floats(0, 1, width=32)))
def test_the_short_cut_is_the_closed_test(graph, p):
    np.testing.assert_allclose(graphical.adjusted(p, graph), graphical.closed_test(p, graph), rtol=1e-6, atol=1e-9)


@given(graphs())
def test_the_order_of_rejections_does_not_matter(graph):
    for first, second in itertools.permutations(range(4), 2):
        one, other = graph.without(first).without(second), graph.without(second).without(first)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-7)
    left = graph.without(2)
    assert left.weights[2] == 0 and not left.transitions[2].any() and not left.transitions[:, 2].any()
    assert left.weights.sum() <= 1 + 1e-9 and np.all(left.transitions.sum(1) <= 1 + 1e-7)


def test_adjusted_p_are_the_levels_at_which_hypotheses_fall():
    graph = graphical.graph([0.5, 0.5, 0, 0], [[0, 0.5, 0.5, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]])
    p = np.random.default_rng(1).uniform(0, 0.05, (40, 4))
    found = graphical.adjusted(p, graph)
    for level in (0.01, 0.025, 0.05):
        np.testing.assert_array_equal(graphical.rejected(p, graph, level), found <= level)
        # the procedure itself, one trial at a time
        for row, fell in zip(p, found <= level, strict=True):
            now, done = graph, np.zeros(4, bool)
            while (able := (row <= level * now.weights) & ~done & (now.weights > 0)).any():
                now, done[np.argmax(able)] = now.without(int(np.argmax(able))), True
            np.testing.assert_array_equal(done, fell)


def test_the_familywise_error_holds_where_nothing_works():
    p = np.random.default_rng(4).uniform(size=(20_000, 4))
    for found in (multiple.hommel(p), graphical.adjusted(p, graphical.parallel_gatekeeping_graph(2, 2))):
        assert np.mean((found <= 0.05).any(-1)) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)


def test_shapes_and_nothing_known():
    assert multiple.holm(np.zeros((0, 3))).shape == (0, 3)
    assert np.isnan(multiple.hommel([np.nan, np.nan])).all()
    assert np.isnan(graphical.adjusted(np.full((2, 2), np.nan), graphical.holm_graph(2))).all()
    assert multiple.co_primary(np.full((5, 2, 3), 0.01)).shape == (5, 2)
    assert np.isnan(multiple.co_primary([0.01, np.nan]))
    assert graphical.adjusted(np.full((2, 3, 2), 0.01), graphical.holm_graph(2)).shape == (2, 3, 2)
    gate = multiple.serial_gatekeeping([[0.01, np.nan, 0.001], [0.01, 0.02, 0.001]], [[0, 1], [2]])
    np.testing.assert_allclose(gate, [[0.01, np.nan, 1.0], [0.02, 0.02, 0.02]])


def test_intervals_with_a_missing_estimate():
    found = multiple.bonferroni_intervals(np.array([[1.0, np.nan], [1.0, 2.0]]), 0.5, n=30)
    # one known: no adjustment
    np.testing.assert_allclose(found.lower[0, 0], 1 - 1.959963984540054 * 0.5, rtol=1e-12)
    assert found.warnings[0].tolist() == [0, int(Caution.NOT_ESTIMABLE)] and np.isnan(found.upper[0, 1])


@given(hnp.arrays(float, (3, 3), elements=st.floats(-3, 4)), st.sampled_from([np.inf, 12.0]))
def test_dunnett_lies_between_one_test_and_bonferroni(t, df):
    single = dunnett.dunnett(t, [10, 14, 8], 12, df=df, step_down=False)
    down = dunnett.dunnett(t, [10, 14, 8], 12, df=df)
    from quell.analysis.claim import two_sided

    alone = two_sided(t, df)
    assert np.all(down <= single + 1e-12) and np.all(single <= np.minimum(3 * alone, 1) + 1e-10)
    assert np.all(down >= alone - 1e-10)
    # one arm alone is its t test
    np.testing.assert_allclose(dunnett.dunnett(t[:, :1], [10], 12, df=df), alone[:, :1], atol=1e-10)


def test_dunnett_of_many_trials_is_each_alone():
    t = np.random.default_rng(8).normal(1, 1.2, (2000, 3))
    t[7, 1] = np.nan
    found = dunnett.dunnett(t, [10, 14, 8], 12, df=40)
    for k in (0, 7, 1999):
        np.testing.assert_allclose(found[k], dunnett.dunnett(t[k], [10, 14, 8], 12, df=40), atol=1e-12)
    assert np.isnan(found[7, 1])
    pair = dunnett.dunnett(t[7, [0, 2]], [10, 8], 12, df=40)
    np.testing.assert_allclose(found[7, [0, 2]], pair, atol=1e-12)


MISTAKES = {
    "between 0 and 1": lambda: multiple.holm([0.5, 1.2]),
    "several hypotheses": lambda: multiple.holm(0.5),
    "each of the 3 hypotheses": lambda: multiple.serial_gatekeeping([0.1, 0.2, 0.3], [[0], [1]]),
    "sum to at most 1": lambda: graphical.graph([0.7, 0.7], np.zeros((2, 2))),
    "Hypothesis 2 passes on": lambda: graphical.graph([0.5, 0.5], [[0, 1], [1.2, 0]]),
    "passes error to itself": lambda: graphical.graph([0.5, 0.5], [[0.5, 0.5], [1, 0]]),
    "needs 2 weights and 2 x 2": lambda: graphical.graph([0.5, 0.5], np.zeros((3, 3))),
    "put 0 where": lambda: graphical.graph([0.5, np.nan], np.zeros((2, 2))),
    "The graph has 2 hypotheses, but": lambda: graphical.adjusted([0.1, 0.2, 0.3], graphical.holm_graph(2)),
    "there is no 2": lambda: graphical.holm_graph(2).without(2),
    "use `adjusted`": lambda: graphical.closure_weights(graphical.holm_graph(15)),
    "choose bonferroni or simes": lambda: graphical.closed_test([0.1, 0.2], graphical.holm_graph(2), "dunnett"),
    "2 weights above 0": lambda: graphical.holm_graph(2, [1.0, 0.0]),
    "one size above 0 for each": lambda: dunnett.dunnett([1.0, 2.0], [10], 10),
    "choose greater or two-sided": lambda: dunnett.dunnett([1.0, 2.0], [10, 10], 10, alternative="less"),
}  # fmt: skip


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_get_a_sentence(words):
    with pytest.raises(ClaimError, match=words):
        MISTAKES[words]()

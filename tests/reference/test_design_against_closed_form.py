"""Simulated designs beside the closed form of group-sequential tests (tools/closed_form_grid.py), on a small scale.

At full scale, a hundred thousand trials of each of fifty designs, it stands in docs/parts/closed-form-grid.json.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from tools import closed_form_grid as grid

# one of each kind: single look, spending, shape, uneven looks, futility binding and not, two-sided, harm, 2:1; t and ancova
SOME = (0, 4, 10, 11, 13, 14, 34, 46)
TRIALS = 4000


@pytest.fixture(scope="module")
def found() -> list[dict]:
    cases = grid.cases()
    return [grid.compare(cases[number], number, TRIALS) for number in SOME]


@pytest.mark.slow
def test_stops_and_power_agree_with_the_closed_form(found):
    together = grid.overall(found)
    assert together["p"] > 1e-3, together
    assert together["power_z"]["largest"] < 3.5
    assert together["size_z"]["largest"] < 3.5


@pytest.mark.slow
def test_the_comparison_could_fail(found):
    """A power 5 points off would be seen."""
    one = found[2]
    moved = np.append(one["efficacy"]["closed"], one["futility"]["closed"])
    moved[0] += 0.05
    counted = np.append(one["efficacy"]["simulated"], one["futility"]["simulated"]) * TRIALS
    assert grid._chi_square(moved * TRIALS, counted, TRIALS)["p"] < 1e-3


def test_fifty_designs_at_full_scale():
    """What is kept is of the designs that the grid has now, and they agree."""
    kept = json.loads(grid.KEPT.read_text("utf-8"))
    assert [one["design"] for one in kept["designs"]] == [case.name for case in grid.cases()]
    assert {one["trials"] for one in kept["designs"]} == {grid.TRIALS}
    assert len(kept["designs"]) == 50
    assert kept["overall"]["p"] > 1e-3
    value, df = (sum(one[name] for one in kept["designs"]) for name in ("chi_square", "df"))
    assert kept["overall"]["p"] == pytest.approx(stats.chi2.sf(value, df))


def test_one_look_without_an_effect_has_the_level():
    case = grid.cases()[0]
    assert grid.compare(case, 0, 400)["power"]["closed"] == pytest.approx(grid.ALPHA)

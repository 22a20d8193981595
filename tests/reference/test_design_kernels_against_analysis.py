"""The kernels of a design beside quell.analysis, on the same people: log-rank, weights, strata, Cox, restricted mean."""

from __future__ import annotations

import numpy as np
import pytest

from quell.analysis import cox as analysis_cox
from quell.analysis import logrank as analysis_logrank
from quell.analysis import maxcombo, restricted_mean
from quell.design import kernels
from quell.design.kernels import NEVER, Followed

TRIALS, N = 20, 300


@pytest.fixture(scope="module")
def people() -> Followed:
    """People with many events on the same day, losses, some never randomised, and three arms."""
    draw = np.random.default_rng(4)
    shape = (TRIALS, N)
    arm = draw.integers(-1, 3, shape).astype(np.int8)
    entry = np.sort(draw.integers(0, 200, shape), -1).astype(np.int32)
    event = np.ceil(draw.exponential(np.where(arm == 1, 900, 500), shape)).astype(np.int32)
    event = np.where(event > 1500, NEVER, (event + 6) // 7 * 7).astype(np.int32)
    lost = np.where(draw.random(shape) < 0.2, draw.integers(1, 400, shape), NEVER).astype(np.int32)
    return Followed(entry, event, lost, arm)


CUTS = np.linspace(150, 700, TRIALS).astype(int)
STRATA = np.random.default_rng(5).integers(0, 4, (TRIALS, N)).astype(np.int16)
PAIR = (0, 2)


def as_cut(people: Followed, cut: np.ndarray) -> dict[str, np.ndarray]:
    """The same people as the analysis wants them: follow-up in days, whether an event was seen, and who is in."""
    follow_up = cut[:, None] - people.entry
    time = np.minimum(np.minimum(people.event, people.lost), follow_up)
    return {
        "time": np.maximum(time, 0).astype(float),
        "event": people.event <= time,
        "arm": np.where(people.arm == PAIR[1], 1, np.where(people.arm == PAIR[0], 0, -1)),
        "include": (follow_up >= 0) & np.isin(people.arm, PAIR),
    }


@pytest.mark.parametrize("strata", [None, STRATA], ids=["one stratum", "strata"])
def test_log_rank(people, strata):
    found = kernels.logrank(people, CUTS, pair=PAIR, strata=strata)
    theirs = analysis_logrank.logrank(**as_cut(people, CUTS), strata=strata)
    np.testing.assert_allclose(found.z, -theirs.z().statistic, rtol=1e-9)
    np.testing.assert_allclose(found.variance, theirs.covariance[:, 1, 1], rtol=1e-9)
    np.testing.assert_array_equal(found.events, theirs.observed.astype(int))
    np.testing.assert_array_equal(found.people.sum(-1), theirs.n)
    ratio = analysis_logrank.one_step_ratio(theirs)
    np.testing.assert_allclose(found.log_ratio, np.log(ratio.estimate), rtol=1e-9)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize("strata", [None, STRATA], ids=["one stratum", "strata"])
def test_weighted_log_rank(people, strata, weights):
    found = kernels.weighted_logrank(people, CUTS, [weights], pair=PAIR, strata=strata)
    rho, gamma = weights
    theirs = analysis_logrank.logrank(**as_cut(people, CUTS), strata=strata, rho=rho, gamma=gamma)
    np.testing.assert_allclose(found.z[:, 0], -theirs.z().statistic, rtol=1e-9)


def test_several_weights_at_once(people):
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = kernels.weighted_logrank(people, CUTS, pairs, pair=PAIR)
    theirs = maxcombo.maxcombo(**as_cut(people, CUTS), weights=pairs)
    np.testing.assert_allclose(found.z, -theirs.z, rtol=1e-9)
    root = np.sqrt(np.diagonal(found.covariance, axis1=1, axis2=2))
    np.testing.assert_allclose(found.covariance / root[:, :, None] / root[:, None], theirs.correlation, rtol=1e-9)


@pytest.mark.parametrize("strata", [None, STRATA], ids=["one stratum", "strata"])
def test_cox(people, strata):
    found = kernels.cox(people, CUTS, pair=PAIR, strata=strata)
    theirs = analysis_cox.hazard_ratio(**as_cut(people, CUTS), strata=strata, method="cox")
    np.testing.assert_allclose(found.log_ratio, np.log(theirs.estimate), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.se, theirs.se, rtol=1e-8)


def test_cox_where_one_arm_has_no_event():
    day = np.array([[5, NEVER, 6, NEVER]], np.int32)
    never = np.full((1, 4), NEVER, np.int32)
    for arm, expected in (([0, 1, 0, 1], -np.inf), ([1, 0, 1, 0], np.inf)):
        found = kernels.cox(Followed(0 * day, day, never, np.array([arm], np.int8)), 100)
        assert found.log_ratio[0] == expected and np.isnan(found.se[0])


@pytest.mark.parametrize("until", [60, 140])
def test_restricted_mean(people, until):
    cuts = np.maximum(CUTS, 400)
    found = kernels.restricted_mean(people, cuts, until, pair=PAIR)
    theirs = restricted_mean.restricted_mean_difference(**as_cut(people, cuts), until=float(until))
    np.testing.assert_allclose(found.difference, theirs.estimate, rtol=1e-9)
    np.testing.assert_allclose(found.se, theirs.se, rtol=1e-9)


def test_nobody_and_nothing():
    """No events, and nobody randomised yet: no statistic, and no crash."""
    none = np.full((1, 3), NEVER, np.int32)
    still = Followed(np.array([[5, 6, 7]], np.int32), none, none, np.array([[0, 1, 0]], np.int8))
    for cut in (3, 100, NEVER):
        found = kernels.logrank(still, cut)
        assert found.z[0] == 0 and np.isnan(found.log_ratio[0])
        assert np.isnan(kernels.cox(still, cut).log_ratio[0])
    assert kernels.logrank(still, 6).people.tolist() == [[1, 1]]

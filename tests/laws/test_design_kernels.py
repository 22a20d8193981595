"""Laws of the kernels: chance is even and by address, nobody's chance moves another's, blocks balance, one way is the other."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quell.design import kernel_native, kernels
from quell.design.crowd import Crowd, Fates
from quell.design.kernels import NEVER, Followed
from quell.sentences import BadInput

DAYS = np.array([0.0, 100.0, 300.0])
COMING = np.array([0.0, 50.0, 400.0])


def seeds(trials: int, key: int = 5) -> np.ndarray:
    return kernels.seeds(key, np.arange(trials))


# -- chance ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("half", ["high", "low"])
@pytest.mark.parametrize("purpose", [kernels.ENTRY, kernels.FATE, "reading"])
def test_chance_is_uniform(purpose, half):
    """Along people, along trials and together: Kolmogorov and Smirnov's test, and 256 equal cells."""
    found = kernels.uniform(seeds(200), 200, purpose, half)
    assert found.min() > 0 and found.max() < 1
    assert stats.kstest(found.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest([stats.kstest(row, "uniform").pvalue for row in found], "uniform").pvalue > 1e-3
    assert stats.kstest([stats.kstest(row, "uniform").pvalue for row in found.T], "uniform").pvalue > 1e-3
    assert stats.chisquare(np.bincount((found.ravel() * 256).astype(int), minlength=256)).pvalue > 1e-3


def test_every_bit_is_fair():
    words = (kernels.uniform(seeds(300), 300, kernels.FATE) * 2.0**32).astype(np.uint64).ravel()
    heads = np.array([((words >> np.uint64(bit)) & np.uint64(1)).sum() for bit in range(32)])
    assert np.abs((heads - len(words) / 2) / np.sqrt(len(words) / 4)).max() < 4


def test_neighbours_are_strangers():
    """Next person, next trial, other half, other purpose, next key: no correlation beyond 4 standard errors."""
    first = kernels.uniform(seeds(400), 400, kernels.FATE) - 0.5
    others = [
        np.roll(first, 1, 1),
        np.roll(first, 1, 0),
        kernels.uniform(seeds(400), 400, kernels.FATE, "low") - 0.5,
        kernels.uniform(seeds(400), 400, kernels.FATE + 1) - 0.5,
        kernels.uniform(seeds(400, 6), 400, kernels.FATE) - 0.5,
    ]
    for other in others:
        assert abs((first * other).mean() * 12) < 4 / 400
    pairs = np.histogram2d(first.ravel(), np.roll(first, 1, 1).ravel(), 32)[0]
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_exponentials_and_normals_are_their_own_quantiles():
    u = kernels.uniform(seeds(50), 2000, "any")
    np.testing.assert_allclose(kernels.exponential(seeds(50), 2000, "any"), -np.log1p(-u), atol=3e-11)
    np.testing.assert_allclose(stats.norm.cdf(kernels.normal(seeds(50), 2000, "any")), u, atol=1e-12)


def test_a_trial_is_the_same_in_any_batch():
    every = seeds(40)
    np.testing.assert_array_equal(every[17:20], kernels.seeds(5, np.array([17, 18, 19])))
    np.testing.assert_array_equal(kernels.arrivals(every, 30, DAYS, COMING)[17], kernels.arrivals(every[17:18], 30, DAYS, COMING)[0])  # fmt: skip
    assert len(np.unique(np.concatenate([seeds(2000, key) for key in range(5)]))) == 10_000


# -- people ------------------------------------------------------------------------------------------------------------
def crowd(trials: int, n: int, fates: Fates, key: int = 5, ratio: tuple[int, int] = (1, 1), block: int = 4) -> Crowd:
    """People of a plain trial, put together from the parts."""
    seed, draw = seeds(trials, key), np.arange(trials) % fates.gathered.shape[0]
    arrival = kernels.arrivals(seed, n, DAYS, COMING)
    person, _ = kernels.persons(seed, n, draw, np.ones((fates.gathered.shape[0], fates.gathered.shape[3]), bool))
    site = kernels.sites(seed, arrival, np.array([0.0, 50.0, 120.0]), np.array([1.0, 2.0, 1.0]))
    arm = kernels.allocate(seed, n, ratio, block=block)
    lost = kernels.lost(seed, n, np.array([0.0, 100.0]), np.array([0.0, 0.02]))
    bare = Crowd(seed, draw, person, arrival, site, arm, np.empty((0, trials, n)), lost)
    return bare._replace(time=kernels.first(fates, bare))


def fates(groups: int = 1, draws: int = 3, people: int = 7, knots: int = 6) -> Fates:
    """Uneven hazards, some of them none, of a small bank."""
    source = np.random.default_rng(8)
    steps = source.exponential(0.05, (draws, groups, 2, people, knots)) * (
        source.random((draws, groups, 2, people, knots)) < 0.8
    )
    steps[..., 0] = 0
    names = tuple((f"cause {number}",) for number in range(groups))
    return Fates(names, np.linspace(0, 500, knots), np.cumsum(steps, -1).astype(np.float32))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 30))
def test_one_more_person_changes_nobody_before(n, more):
    few, many = crowd(3, n, fates(2)), crowd(3, n + more, fates(2))
    for name in ("person", "arrival", "site", "arm", "time", "lost"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[..., :n], err_msg=name)


def test_arrivals_come_at_the_rate():
    """The expected number by any day, also past the last knot; and gaps of a Poisson process."""
    found = kernels.arrivals(seeds(4000), 900, DAYS, COMING)
    for day, expected in ((60.0, 30.0), (100.0, 50.0), (250.0, 312.5), (500.0, 750.0)):
        come = (found <= day).sum(-1)
        assert come.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 4000))
        assert come.var() == pytest.approx(expected, rel=0.1)
    assert np.isinf(kernels.arrivals(seeds(1), 50, DAYS, np.array([0.0, 5.0, 5.0]))[0, -1])


def test_sites_take_people_by_weight_once_they_are_open():
    arrival = np.broadcast_to(np.linspace(0, 99, 100, dtype=np.float32), (2000, 100))
    found = kernels.sites(seeds(2000), arrival, np.array([0.0, 40.0]), np.array([1.0, 3.0]))
    assert (found[:, :40] == 0).all()
    assert (found[:, 40:] == 1).mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.75 * 0.25 / 120_000))


def test_only_the_eligible_come_and_the_others_are_screened():
    eligible = np.array([[True, False, True, False], [False, False, False, True]])
    who, screened = kernels.persons(seeds(3000), 50, np.arange(3000) % 2, eligible)
    assert set(np.unique(who[::2])) == {0, 2} and (who[1::2] == 3).all()
    assert (who[::2] == 0).mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(75_000))
    per_person = np.diff(screened, axis=-1, prepend=0)
    assert per_person.min() == 1
    assert per_person[::2].mean() == pytest.approx(2, abs=4 * np.sqrt(2 / 75_000))
    assert per_person[1::2].mean() == pytest.approx(4, abs=4 * np.sqrt(12 / 75_000))
    with pytest.raises(BadInput, match="draw 1 pass"):
        kernels.persons(seeds(2), 5, np.array([0, 1]), np.array([[True], [False]]))


@pytest.mark.parametrize(("ratio", "block"), [((1, 1), 4), ((1, 1), 2), ((2, 1), 0), ((1, 2, 2), 10)])
def test_permuted_blocks_balance(ratio, block):
    size = block or 2 * sum(ratio)
    arm = kernels.allocate(seeds(2000), 5 * size, ratio, block=block).reshape(-1, size)
    for one, share in enumerate(ratio):
        assert ((arm == one).sum(-1) == share * size // sum(ratio)).all()
    # every place is as likely to hold each arm
    for place in range(size):
        counts = np.bincount(arm[:, place], minlength=len(ratio))
        assert stats.chisquare(counts, len(arm) * np.array(ratio) / sum(ratio)).pvalue > 1e-4
    if size == 4:  # and every order of a block is as likely as any other
        orders = np.unique(arm @ [8, 4, 2, 1], return_counts=True)[1]
        assert len(orders) == 6 and stats.chisquare(orders).pvalue > 1e-4


def test_sites_have_blocks_of_their_own():
    site = np.random.default_rng(3).integers(0, 5, (50, 200)).astype(np.int16)
    arm = kernels.allocate(seeds(50), 200, (1, 1), block=4, within=site)
    for trial in range(50):
        for one in range(5):
            here = arm[trial, site[trial] == one]
            whole = len(here) // 4 * 4
            assert (here[:whole].reshape(-1, 4).sum(-1) == 2).all()


def test_allocation_by_chance_follows_the_chances():
    period = np.repeat([[0, 1]], 2000, 0).repeat(50, 1)
    chance = np.broadcast_to(np.array([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]]), (2000, 2, 3))
    arm = kernels.allocate_by_chance(seeds(2000), period, chance)
    for number, expected in enumerate(chance[0]):
        counts = np.bincount(arm[period == number], minlength=3)
        assert counts[expected == 0].sum() == 0
        assert stats.chisquare(counts[expected > 0], expected[expected > 0] * counts.sum()).pvalue > 1e-4


def test_a_block_that_cannot_hold_the_ratio_is_refused_in_a_sentence():
    with pytest.raises(BadInput, match="ratio 2:1\\. Take a multiple of 3"):
        kernels.allocate(seeds(1), 5, (2, 1), block=4)


# -- events ------------------------------------------------------------------------------------------------------------
def test_first_events_follow_the_gathered_hazard():
    """What is gathered by the day of the event is a unit exponential; the same one under both arms."""
    one = fates(groups=2, people=1, draws=1)
    one = one._replace(gathered=one.gathered + np.arange(6, dtype=np.float32) * 0.01)  # no flat pieces
    people = crowd(200, 100, one)
    for group in range(2):
        for arm in range(2):
            curve, here = one.gathered[0, group, arm, 0], people.arm == arm
            time = people.time[group][here]
            slope = (curve[-1] - curve[-2]) / 100
            spent = np.interp(time, one.knots, curve) + np.maximum(time - 500, 0) * slope
            assert stats.kstest(spent, "expon").pvalue > 1e-3
            wanted = kernels.exponential(people.seed, 100, kernels.FATE + group)[here]
            np.testing.assert_allclose(spent, wanted, rtol=2e-4, atol=1e-6)


def test_the_day_of_the_kth_event_is_the_kth_smallest():
    people = kernels.followed(crowd(30, 80, fates(2)), (0, 1))
    day = np.where((people.event <= people.lost) & (people.event < NEVER), people.entry + people.event, NEVER)
    expected = np.sort(day, -1)[:, [0, 9, 39, 79]]
    found = kernels.day_of_events(people, np.array([1, 10, 40, 80]), 5000)
    np.testing.assert_array_equal(found, np.minimum(expected, 5000))
    np.testing.assert_array_equal(kernels.day_of_events(people, np.array([0]), 77), 77)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 900))
def test_swapped_arms_flip_the_sign(key, cut):
    people = kernels.followed(crowd(2, 60, fates(), key), (0,))
    one, other = kernels.logrank(people, cut), kernels.logrank(people, cut, pair=(1, 0))
    np.testing.assert_allclose(one.z, -other.z, atol=1e-12)
    np.testing.assert_array_equal(one.events, other.events[:, ::-1])
    ratio = kernels.cox(people, cut).log_ratio
    np.testing.assert_allclose(ratio, -kernels.cox(people, cut, pair=(1, 0)).log_ratio, atol=1e-8)


def test_a_look_knows_nothing_of_what_comes_after():
    people = kernels.followed(crowd(10, 80, fates()), (0,))
    cut = 250
    hidden = people._replace(
        event=np.where(people.entry + people.event > cut, NEVER, people.event).astype(np.int32),
        lost=np.where(people.entry + people.lost > cut, NEVER, people.lost).astype(np.int32),
        arm=np.where(people.entry > cut, -1, people.arm).astype(np.int8),
    )
    for one, other in zip(kernels.logrank(people, cut), kernels.logrank(hidden, cut), strict=True):
        np.testing.assert_array_equal(one, other)


# -- the plain design in one go ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("people", "ratio", "block"), [(1, (1, 1), 4), (7, (1, 1), 4), (7, (1, 2), 0)])
def test_the_fast_way_is_the_parts_put_together(people, ratio, block):
    """The same bits: day, events, people, excess and variance at every look."""
    bank, n = fates(people=people), 150
    needed, latest = np.array([20, 60, 0, 500]), np.array([300, 600, 450, 700])
    whole = crowd(60, n, bank, ratio=ratio, block=block)
    on_days = kernels.followed(whole, (0,))
    plan = kernels.Plain(n, DAYS, COMING, ratio, block, np.array([0.0, 100.0]), np.array([0.0, 0.02]), needed, latest)
    found = kernels.looks(whole.seed, whole.draw, plan, bank)
    np.testing.assert_array_equal(found.day, kernels.day_of_events(on_days, needed, latest))
    for k in range(len(needed)):
        slow = kernels.logrank(on_days, found.day[:, k])
        for name in ("excess", "variance", "events", "people"):
            np.testing.assert_array_equal(getattr(found, name)[:, k], getattr(slow, name), err_msg=f"{name}, look {k}")


def test_the_fast_way_refuses_what_it_is_not_made_for():
    plan = kernels.Plain(10, DAYS, COMING, (1, 1), 4, DAYS, 0 * DAYS, np.array([5]), np.array([100]))
    with pytest.raises(BadInput, match="one group of causes and two arms"):
        kernels.looks(seeds(1), np.zeros(1, int), plan, fates(2))
    with pytest.raises(BadInput, match="between 0 and 36525"):
        kernels.looks(seeds(1), np.zeros(1, int), plan._replace(latest=np.array([NEVER])), fates())


# -- native code -------------------------------------------------------------------------------------------------------
def test_without_a_folder_to_keep_them_kernels_still_work(tmp_path, monkeypatch):
    """A cache that cannot be written to loses time and nothing else."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("QUELL_CACHE", str(tmp_path / "file"))
    assert kernel_native.folder.__wrapped__() is None
    monkeypatch.setattr(kernel_native, "folder", lambda: None)
    assert kernel_native.compiled(lambda x: x + 1)(1) == 2


def test_kept_kernels_are_named_by_all_of_their_source(tmp_path, monkeypatch):
    monkeypatch.setenv("QUELL_CACHE", str(tmp_path))
    before = kernel_native.folder.__wrapped__()
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda self: b"changed")
    assert before.is_dir() and kernel_native.folder.__wrapped__() != before


def test_people_left_out_are_nowhere():
    day, never = np.array([[3, 5, 6, 8]], np.int32), np.full((1, 4), NEVER, np.int32)
    all_of_them = Followed(0 * day, day, never, np.array([[0, 0, 1, 1]], np.int8))
    some = all_of_them._replace(arm=np.array([[0, -1, 1, 1]], np.int8))
    found = kernels.logrank(some, 100)
    assert found.people.tolist() == [[1, 2]] and found.events.tolist() == [[1, 2]]

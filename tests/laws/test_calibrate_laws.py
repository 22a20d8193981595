"""Laws of calibration: what may be fitted to, what a summary is, how chains are judged, and what worlds do with the draws."""

import dataclasses
import re

import numpy as np
import pytest

from quell import evidence, keys, posterior
from quell.body import parameters
from quell.calibrate import correct, diagnose, fit, identify, ivory, people, rows, sample, settings, space, surrogate
from quell.calibrate.summaries import Summaries
from quell.trial import World
from quell.trial.recruit import parameters_of

CENTRE = settings.worlds(parameters.load())


# ---- roles ------------------------------------------------------------------------------------------------------------


def test_no_validating_figure_reaches_the_likelihood():
    used = {id_ for term in rows.terms() for id_ in term.sources}
    assert all(evidence.figure(one).role == "calibrates" for one in used)
    for one in evidence.load().values():
        if one.role == "validates":
            with pytest.raises(evidence.EvidenceError, match="may not be fitted to"):
                rows.figures_used((one.id,), "before-ivory")
            assert rows.figures_used((one.id,), "after-ivory") == [one]
        if one.role == "describes":
            for stage in rows.STAGES:
                with pytest.raises(evidence.EvidenceError, match="describes"):
                    rows.figures_used((one.id,), stage)


def test_a_row_that_names_a_result_of_ivory_stops_the_calibration(monkeypatch):
    smuggled = dataclasses.replace(rows.ROWS[0], ids=("E048",))
    monkeypatch.setattr(rows, "ROWS", (smuggled, *rows.ROWS[1:]))
    with pytest.raises(evidence.EvidenceError, match="E048"):
        rows.terms()


def test_every_figure_that_calibrates_is_a_term_or_said_why_not():
    used = {id_ for term in rows.terms() for id_ in term.sources}
    for one in evidence.load().values():
        if one.role != "calibrates" or one.id in used:
            continue
        assert one.id in rows.ELSEWHERE or any(one.id.startswith(f"{known}.") for known in rows.ELSEWHERE), one.id
    known = evidence.load()
    for id_ in rows.ELSEWHERE:
        assert id_ in known or any(one.startswith(f"{id_}.") for one in known), id_


def test_every_term_has_a_value_a_positive_error_and_a_stated_spread():
    for term in rows.terms():
        assert np.isfinite(term.value) and term.error > 0 and rows.SPREADS[term.group][0] > 0, term
        assert term.scale in ("log", "logit", "hazard", "fold")


def test_wider_priors_belong_to_constants_set_from_a_figure():
    where = space.space()
    for name, spread in zip(where.names, where.spread, strict=True):
        record = next(one for one in parameters.table() if one.name == name)
        assert spread >= record.uncertainty
        if spread > record.uncertainty:
            assert re.search(r"E\d{3}", record.source), f"{name} is widened, but no figure set it"


# ---- the body's own summaries -----------------------------------------------------------------------------------------


def test_worlds_do_not_touch_each_other():
    two = settings.worlds([np.array([x, x * 1.1]) for x in parameters.load()])
    both = settings.single(two, 16)
    for i in (0, 1):
        alone = settings.single(settings.worlds([x[i] for x in two]), 16)
        for name, (value, _) in alone.items():
            assert value[0] == both[name][0][i], name


@pytest.mark.parametrize("name", ["single", "blood", "hearts", "events", "harms"])
def test_a_summary_is_smooth_in_the_constants(name):
    """Halving a small step halves the change: nothing jumps as a constant moves."""
    steps = np.array([0.0, 0.005, 0.01])
    moved = CENTRE._replace(
        **{c: getattr(CENTRE, c) * np.exp(steps) for c in ("growth", "residual_crp", "infarct_size")}
    )
    moved = moved._replace(
        infarction_rate=CENTRE.infarction_rate * np.exp(steps), reaction_any=CENTRE.reaction_any * np.exp(steps)
    )
    found = getattr(settings, name)(settings.worlds(moved), 64)
    for key, (value, _) in found.items():
        first, second = value[1] - value[0], value[2] - value[1]
        assert abs(first - second) <= 0.1 * max(abs(first), abs(second)) + 2e-4 * abs(value[0]), key


def test_few_even_people_stand_for_many():
    few, many = (settings.hearts(CENTRE, count) for count in (128, 2048))
    assert few["mass_week"][0][0] == pytest.approx(many["mass_week"][0][0], rel=0.02)
    assert people.even(64).own["growth"].prod() == pytest.approx(1.0, rel=0.01)


def test_the_trial_as_a_setting_shows_nothing_where_the_drug_calms_nothing():
    some = ivory.ivory(CENTRE, 32)
    none = ivory.ivory(CENTRE._replace(calming=0 * CENTRE.calming), 32)
    assert none["ivory_difference"][0] == 0 > some["ivory_difference"][0]
    assert none["finale_active"][0] == none["finale_placebo"][0] > some["finale_active"][0]
    assert none["ivory_crp"][0] == some["ivory_crp"][0] > ivory.LIMIT


def test_incidence_of_an_even_hazard_is_its_integral():
    days = np.linspace(0, 100, 11)
    rate = np.full((11, 1, 4), 0.01)
    assert settings.incidence(rate, 3 * rate, days)[-1, 0] == pytest.approx(1.0)


def test_summaries_are_picked_up_and_a_damaged_block_is_made_again(tmp_path):
    terms, where = [one for one in rows.terms() if one.group == "harm"], space.space()
    z, numbers = space.even_draws(keys.root(1), 3, where)
    first = Summaries(terms, where, tmp_path)
    found = first(z, numbers)
    again = Summaries(terms, where, tmp_path)
    assert (again(z, numbers) == found).all() and (first.lived, again.lived) == (3, 0)
    (block,) = (tmp_path / "blocks").iterdir()
    block.write_bytes(block.read_bytes()[:40])
    assert (again(z, numbers) == found).all() and again.lived == 3


# ---- surrogate, correction, diagnosis ---------------------------------------------------------------------------------


def test_the_surrogate_is_exact_for_a_quadratic_form():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 6))
    y = np.column_stack([1 + x[:, 0] - 2 * x[:, 3] + 0.5 * x[:, 0] * x[:, 3], 3 + x[:, 5] ** 2])
    one = surrogate.learn(x, y, [np.array([0, 3]), np.array([5])], np.ones(400))
    new = rng.normal(size=(50, 6))
    expected = np.column_stack([1 + new[:, 0] - 2 * new[:, 3] + 0.5 * new[:, 0] * new[:, 3], 3 + new[:, 5] ** 2])
    assert np.asarray(surrogate.evaluate(one, new)) == pytest.approx(expected, abs=1e-3)
    assert (one.misses < 1e-3).all()


def test_weighing_turns_a_wrong_proposal_into_the_target():
    rng = np.random.default_rng(4)
    x = 0.3 + 1.3 * rng.normal(size=40000)
    found = correct.smoothed(-0.5 * x**2 + 0.5 * ((x - 0.3) / 1.3) ** 2)
    kept = x[correct.systematic(found.weights, 40000, keys.root(2))]
    assert abs(kept.mean()) < 0.03 and abs(kept.std() - 1) < 0.03
    assert 0.6 < found.share < 0.95 and found.shape < 0.3


def test_pareto_shape_of_known_tails():
    rng = np.random.default_rng(5)
    for shape in (0.2, 0.5, 0.9):
        found = [correct.smoothed(-shape * np.log(rng.uniform(size=40000))).shape for _ in range(12)]
        assert np.mean(found) == pytest.approx(shape, abs=0.07)


def test_smoothing_keeps_order_and_never_exceeds_the_largest():
    rng = np.random.default_rng(6)
    logs = 0.8 * rng.normal(size=3000)
    found = correct.smoothed(logs)
    assert found.weights.sum() == pytest.approx(1) and (np.diff(found.weights[np.argsort(logs)]) >= -1e-15).all()
    raw = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
    assert np.abs(found.weights - raw).max() < raw.max()


def test_effective_draws_of_weights_are_what_repeats_show():
    """Variance over many repeats of a weighted mean is the target's variance over the effective draws."""
    rng = np.random.default_rng(7)
    means, worth = [], []
    for _ in range(400):
        x = 1.5 * rng.normal(size=400)
        weights = correct.smoothed(-0.5 * x**2 + 0.5 * (x / 1.5) ** 2).weights
        means.append(weights @ x)
        worth.append(correct.worth(weights, x[:, None], np.arange(400))[0])
    assert 1 / np.var(means) == pytest.approx(np.mean(worth), rel=0.25)


def test_copies_of_a_draw_count_once():
    x = np.random.default_rng(8).normal(size=(100, 2))
    twice, same = np.repeat(x, 2, axis=0), np.repeat(np.arange(100), 2)
    alone = correct.worth(np.full(100, 0.01), x, np.arange(100))
    assert correct.worth(np.full(200, 0.005), twice, same) == pytest.approx(alone)
    bulk, tail = correct.judged(np.full(200, 0.005), twice, same)
    assert bulk == pytest.approx([100, 100], rel=1e-6) and tail == pytest.approx([100, 100], rel=1e-6)


def test_chains_are_judged_as_their_correlation_says():
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    rng = np.random.default_rng(6)
    noise = rng.normal(size=(4, 4000))
    assert diagnose.rhat(noise) < 1.005 and 12000 < diagnose.bulk(noise) < 20000
    walk = np.zeros_like(noise)
    for t in range(1, 4000):
        walk[:, t] = 0.8 * walk[:, t - 1] + noise[:, t]
    assert diagnose.bulk(walk) == pytest.approx(16000 * 0.2 / 1.8, rel=0.2)
    halves = np.concatenate([walk[:, :2000], walk[:, 2000:]])
    assert diagnose.effective(walk) == pytest.approx(effective_sample_size(halves), rel=0.02)
    assert diagnose.split_rhat(walk) == pytest.approx(split_gelman_rubin(walk), rel=1e-3)
    assert diagnose.rhat(walk + np.arange(4)[:, None]) > 1.05
    assert diagnose.rhat(noise * np.array([1, 1, 1, 3.0])[:, None]) > 1.05  # same means, other spread


def test_contraction_is_of_variance():
    rng = np.random.default_rng(7)
    assert identify.contraction(0.5 * rng.normal(size=(2, 4000, 1)))[0] == pytest.approx(0.75, abs=0.02)


def test_draws_are_proposed_in_proportion_and_in_an_order_of_chance():
    z = np.repeat([[0.0] * 500 + [1.0] * 500], 2, axis=0)[..., None]
    chains = sample.Chains(z, np.zeros((2, 1000, 8)), np.zeros((2, 1000), int), 0)
    proposals, places = fit.proposed(chains, np.log(1 + 2 * z[..., 0]), 400, keys.root(3))
    found = proposals.z[..., 0]
    assert (z[0, places[0], 0] == found[0]).all()
    assert found.sum(axis=1) == pytest.approx(300, abs=1)
    assert abs(np.corrcoef(found[0, 1:], found[0, :-1])[0, 1]) < 0.2


def test_the_feedback_on_the_link_is_taken_off():
    where = space.space()
    z = 0.5 * np.random.default_rng(1).normal(size=(4, 2000, len(where.names))) - 0.4
    chains = sample.Chains(z, np.zeros((4, 2000, 8)), np.zeros((4, 2000), int), 0)
    slope, curve = sample.feedback(chains, where)
    x = np.linspace(-2, 2, 5)
    # posterior = prior times exp(slope x + curve x^2) up to a constant, so dividing by that leaves the prior
    rest = -0.5 * ((x + 0.4) / 0.5) ** 2 - slope * x - curve * x**2 + 0.5 * x**2
    assert np.ptp(rest) < 0.4
    z_link = z[..., where.place("crp_hazard")]
    weights = np.exp(fit.linked(chains, where))
    assert (weights * z_link).sum() / weights.sum() == pytest.approx(0, abs=0.2)


# ---- the space --------------------------------------------------------------------------------------------------------


def test_the_centre_is_the_table_but_for_the_link():
    where = space.space()
    at_zero = space.worlds(np.zeros((1, len(where.names))), np.array([0]), where)
    for name, value in parameters.load()._asdict().items():
        if name not in space.LINKED:
            assert getattr(at_zero, name)[0] == pytest.approx(value), name


def test_where_nothing_links_the_wall_does_nothing_either():
    where = space.space()
    z = np.zeros((2, len(where.names)))
    z[:, where.place("crp_hazard")] = (-0.8, 1.0)
    found = space.worlds(z, np.array([0, 0]), where)
    assert found.crp_hazard[0] == 0 == found.uptake_hazard[0]
    assert found.crp_hazard[1] > 0.3 and found.uptake_hazard[1] > 0.6


# ---- worlds -----------------------------------------------------------------------------------------------------------

WORDS = keys.numbered(8, "trial", np.arange(64))


@pytest.mark.parametrize("stage", posterior.STAGES)
def test_a_world_of_a_stage_draws_rows_of_its_file_by_key(stage):
    world, draws = World(stage), posterior.load(stage)
    assert world.uncertain and world.stage == stage
    p = parameters_of(world, WORDS)
    assert (parameters_of(world, WORDS).growth == p.growth).all() and len(np.unique(p.growth)) > 40
    growth = draws.values[:, draws.names.index("growth")]
    assert np.isin(p.growth, growth).all()
    calm = parameters_of(world.without("efficacy"), WORDS)
    assert (calm.calming == 0).all() and (calm.growth == p.growth).all()


def test_the_usual_world_is_what_it_was():
    assert World().name == "prior" and not World().uncertain and World().parameters == parameters.load()
    assert World("prior") == World()
    drawn = parameters_of(World().drawn(), WORDS)
    first = parameters.draw(keys.at(keys.of(WORDS[0]), "parameters"))
    assert float(first.growth) == pytest.approx(drawn.growth[0])


def test_what_was_shipped_can_be_trusted():
    for stage in posterior.STAGES:
        draws = posterior.load(stage)
        told = draws.provenance["diagnosis"]
        assert told["largest_rhat"] < 1.01 and min(told["least_bulk"], told["least_tail"]) > 400, told
        assert told["divergences"] == 0 and told["pareto_k"] < 0.7 and not draws.provenance["quick"]
        assert len(draws.values) >= 1000 and posterior.stale(draws) == []


@pytest.mark.slow
def test_quick_goes_through_every_step_to_the_same_bytes(tmp_path):
    from quell import calibrate

    told = calibrate.run(tmp_path, key=3, quick=True)
    files = {one.name: one.read_bytes() for one in tmp_path.glob("*.parquet")}
    assert set(files) == {"before-ivory.parquet", "after-ivory.parquet"} and told["lived"] > 0
    for block in list((tmp_path / "blocks").iterdir())[::3]:
        block.unlink()
    again = calibrate.run(tmp_path, key=3, quick=True)
    assert {one.name: one.read_bytes() for one in tmp_path.glob("*.parquet")} == files
    assert 0 < again["lived"] < told["lived"]
    for stage in posterior.STAGES:
        assert len(told[stage]["constants"]) == len(space.space().names)
        assert len(told[stage]["figures"]) == len(rows.terms(stage))


@pytest.mark.slow
def test_a_synthetic_study_is_fitted_and_ranked():
    from quell.calibrate import ranks

    terms, where = rows.terms(), space.space()
    summaries = Summaries(terms, where)
    first, active = ranks.begun(summaries, keys.root(31))
    done = ranks.rank(0, first, active, sample.data(terms), summaries, keys.root(31))
    assert len(done["ranks"]) == len(where.names) + len(sample.GROUPS)
    assert all(0 < one < 1 for one in done["ranks"])
    assert fit.TRUST[-1] == 1.0

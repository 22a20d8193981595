"""Every declared method, on one simulated trial and on several at once: the same answer either way, and none left out."""

import dataclasses
import typing

import numpy as np
import pytest

from quell import keys, questions
from quell.analysis import plan
from quell.report.methods import METHODS as WORDS
from quell.trial import World, simulate
from tests.laws.everything import asked, everything

TRIALS = 3


@pytest.fixture(scope="module")
def protocol(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(scope="module")
def records(protocol):
    return simulate(protocol, World(), keys.numbered(5, "trial", np.arange(TRIALS)))


@pytest.fixture(scope="module")
def batch(protocol, records):
    return {result.name: result for result in plan.results(protocol, records.columns())}


@pytest.fixture(scope="module")
def singles(protocol, records):
    return [plan.analyse(protocol, records.study(trial)) for trial in range(TRIALS)]


def test_every_method_is_declared_carried_out_and_explained():
    declared = typing.get_args(typing.get_type_hints(questions.Analysis)["method"])
    assert set(declared) == set(questions.METHODS) == set(plan.METHODS) == set(WORDS)
    assert {summary for _, summary, _ in asked()} == set(plan.SCALES)


@pytest.mark.parametrize(("method", "summary"), [one[:2] for one in asked()])
def test_one_trial_and_many_are_analysed_alike(batch, singles, method, summary):
    result = batch[f"{method}, {summary}"]
    for trial, claims in enumerate(singles):
        claim, row = claims[result.name], result.estimate.row(trial)
        assert claim.n == row.n > 0
        for field in ("estimate", "se", "lower", "upper", "p"):
            mine = getattr(claim, field)
            np.testing.assert_allclose(np.nan if mine is None else mine, getattr(row, field), rtol=1e-7, atol=1e-12)
        assert claim.estimate is not None or claim.p is not None or claim.warnings
        assert claim.estimand.startswith(summary) and claim.method


def test_swapping_the_arms_names_swaps_the_sign(protocol, records, batch):
    """The label of an arm means nothing: with active and control exchanged, differences change sign and ratios invert."""
    swapped = protocol.but(
        estimands=tuple(
            dataclasses.replace(one, active=(one.control,), control=one.active[0]) for one in protocol.estimands
        )
    )
    for result in plan.results(swapped, records.columns()):
        if result.request.analysis.method in plan.JOINT or "imputation" in result.request.analysis.method:
            continue  # a joint test has no sign; the reference of an imputation is the control
        before, after = batch[result.name].estimate, result.estimate
        expected = 1 / before.estimate if result.scale.endswith(("ratio", "odds")) else -before.estimate
        np.testing.assert_allclose(after.estimate, expected, rtol=1e-6, atol=1e-9, err_msg=result.name)
        np.testing.assert_allclose(after.p, before.p, rtol=1e-6, atol=1e-9, err_msg=result.name)


def test_a_prior_makes_the_claim_bayesian(protocol, records):
    """Normal prior and known error: the posterior is the precision-weighted mean, on the log scale for a ratio."""
    asked_for = ("cox, hazard ratio", "two-sample t, difference in means")
    kept = [one for one in protocol.analyses if one.name in asked_for or one.role == "primary"]
    vague = questions.Prior(sd=1e4)
    firm = questions.Prior(mean=-0.1, sd=0.05, source="for the test")

    def read(prior):
        believed = [dataclasses.replace(one, prior=prior) for one in kept]
        return plan.analyse(protocol.but(analyses=tuple(believed)), records.study(0))

    plain, flat, sure = read(None), read(vague), read(firm)
    ratio = plain["cox, hazard ratio"]
    precision = ratio.se**-2 + 0.05**-2
    posterior = (np.log(ratio.estimate) * ratio.se**-2 - 0.1 * 0.05**-2) / precision
    assert sure["cox, hazard ratio"].estimate == pytest.approx(np.exp(posterior), rel=1e-9)
    assert sure["cox, hazard ratio"].se == pytest.approx(precision**-0.5, rel=1e-9)
    for name in asked_for:
        for field in ("estimate", "lower", "upper"):
            assert getattr(flat[name], field) == pytest.approx(getattr(plain[name], field), rel=1e-5)
        assert flat[name].p is None and "chance of benefit" in flat[name].method
    assert "for the test" in sure["cox, hazard ratio"].method


def test_a_robust_prior_yields_to_data_that_disagree():
    from quell.analysis.twin import prior_of

    robust = prior_of(questions.Prior(mean=-1.0, sd=0.1, weight=0.8, vague_sd=5.0))
    assert abs(float(robust.updated(2.0, 0.2).mean) - 2.0) < 0.02
    with pytest.raises(ValueError, match="needs vague_sd"):
        questions.Prior(sd=0.1, weight=0.5)


def test_subgroups_are_claims_of_their_own(protocol, records):
    """One factor, one modifier: a claim for each level, the test of interaction, and the change of the effect."""
    asked_for = {"ancova, difference in means": True, "cox, hazard ratio": False, "score interval, risk ratio": False}
    kept = [
        dataclasses.replace(one, subgroups=("female",), modifiers=("baseline",) if asked_for[one.name] else ())
        for one in protocol.analyses
        if one.name in asked_for
    ]
    divided = protocol.but(analyses=tuple(kept))
    claims = plan.analyse(divided, records.study(0))
    for name, slopes in asked_for.items():
        within = [claim for claim in claims if claim.name.startswith(f"{name}, ")]
        rows = [claim for claim in within if claim.name.startswith(f"{name}, female ")]
        assert len(rows) == 2 and sum(row.n for row in rows) == claims[name].n
        assert all(claim.role == "exploratory" for claim in within)
        assert f"{name}, interaction with female" in claims
        assert (f"{name}, effect per unit of baseline" in claims) == slopes
    batch = {result.name: result for result in plan.results(divided, records.columns())}
    for claim in claims:
        row = batch[claim.name].estimate.row(0)
        np.testing.assert_allclose(np.nan if claim.p is None else claim.p, row.p, rtol=1e-7)


def test_subgroups_that_cannot_be_had_are_refused_in_a_sentence(protocol):
    for method, changes, words in (
        ("mmrm", {"subgroups": ("sex",)}, "has no forest of subgroups"),
        ("cox", {"modifiers": ("age",)}, "has no slopes to compare"),
        ("ancova", {"subgroups": ("sex",), "prior": questions.Prior(sd=1.0)}, "is about everybody"),
        ("log-rank", {"prior": questions.Prior(sd=1.0)}, "no size to believe in"),
    ):
        changed = tuple(
            dataclasses.replace(one, **changes) if one.method == method else one for one in protocol.analyses
        )
        with pytest.raises(ValueError, match=words):
            protocol.but(analyses=changed)


def test_analyses_tested_together_carry_an_adjusted_p(protocol, records):
    names = ("ancova, difference in means", "cox, hazard ratio", "log-rank, equality of survival")
    kept = protocol.but(analyses=tuple(one for one in protocol.analyses if one.name in names))
    study = records.study(0)
    raw = [plan.analyse(kept, study)[name].p for name in names]

    def adjusted(**declared):
        claims = plan.analyse(kept.but(testing=questions.Testing(analyses=names, **declared)), study)
        return [claims[name].adjusted_p for name in names]

    assert plan.analyse(kept, study)[names[0]].adjusted_p is None
    assert adjusted(procedure="fixed sequence") == pytest.approx(np.maximum.accumulate(raw))
    assert adjusted(procedure="bonferroni") == pytest.approx(np.minimum(3 * np.array(raw), 1))
    assert adjusted(procedure="co-primary") == pytest.approx([max(raw)] * 3)
    even = ((0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
    drawn = adjusted(procedure="graphical", weights=(1 / 3,) * 3, transitions=even)
    assert drawn == pytest.approx(adjusted(procedure="holm"))
    again = questions_read_back(kept.but(testing=questions.Testing(analyses=names, procedure="hommel")))
    assert again.testing.procedure == "hommel"
    for wrong, words in (
        ({"procedure": "holm", "weights": (0.5, 0.5, 0.0)}, "no other procedure takes them"),
        ({"procedure": "graphical", "weights": (1.0,), "transitions": ((0.0,),)}, "needs 3 weights"),
    ):
        with pytest.raises(ValueError, match=words):
            questions.Testing(analyses=names, **wrong)
    with pytest.raises(ValueError, match="which is not declared"):
        kept.but(testing=questions.Testing(procedure="holm", analyses=("ancova, difference in means", "coxx")))


def questions_read_back(protocol):
    import tomllib

    return type(protocol).of(tomllib.loads(protocol.to_toml()))


def emptied(columns, name):
    """A study in which something that an analysis needs is not there."""
    nothing = {key: np.full_like(values, np.nan) for key, values in columns.readings.items()}
    never = {kind: np.full_like(days, np.inf) for kind, days in columns.events.items()}
    changes = {
        "an empty arm": {"arm": np.zeros_like(columns.arm)},
        "nobody in the analysis": {"sets": {key: np.zeros_like(who) for key, who in columns.sets.items()}},
        "one patient": {
            "sets": {key: np.arange(who.shape[-1]) < np.ones_like(who[..., :1]) for key, who in columns.sets.items()}
        },
        "two patients": {
            "sets": {
                key: np.arange(who.shape[-1]) < 2 * np.ones_like(who[..., :1]) for key, who in columns.sets.items()
            }
        },
        "no readings": {"readings": nothing},
        "one value for all": {"readings": {key: np.full_like(values, 2.0) for key, values in columns.readings.items()}},
        "no events": {"events": never, "occurrences": {kind: days[..., None] for kind, days in never.items()}},
        "everything on one day": {
            "events": {kind: np.full_like(days, 30.0) for kind, days in columns.events.items()},
            "occurrences": {kind: np.full((*days.shape, 1), 30.0) for kind, days in columns.events.items()},
        },
    }
    return dataclasses.replace(columns, **changes[name])


@pytest.mark.parametrize(
    "name",
    ["an empty arm", "nobody in the analysis", "one patient", "two patients", "no readings", "one value for all",
     "no events", "everything on one day"],
)  # fmt: skip
def test_a_study_that_lacks_something_gets_cautions_and_no_traceback(protocol, records, name):
    """For one study and for several; what could not be estimated is NaN, and a caution says why."""
    several = emptied(records.columns(), name)
    study = plan.results(protocol, several)
    for result in study:
        unknown = np.isnan(result.estimate.p) & np.isnan(result.estimate.estimate)
        assert (np.asarray(result.estimate.warnings)[unknown] != 0).all(), (name, result.name)
        claim = plan._claim(
            dataclasses.replace(result, estimate=result.estimate.row(0), request=one_of(result.request)), None
        )
        assert claim.warnings or claim.estimate is not None or claim.p is not None


def one_of(request):
    """The request of the first trial alone, for the counts of a claim."""
    columns = request.columns

    def first(values):
        return {key: value[0] for key, value in values.items()}

    alone = dataclasses.replace(
        columns, arm=columns.arm[0], sets=first(columns.sets), readings=first(columns.readings), events=first(columns.events),
        covariates=first(columns.covariates), factors=first(columns.factors), followed=first(columns.followed),
        occurrences=first(columns.occurrences), stopped=columns.stopped[0], visited=first(columns.visited),
    )  # fmt: skip
    return dataclasses.replace(request, columns=alone, include=request.include[0])

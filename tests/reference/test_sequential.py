"""Group-sequential designs and sample sizes against rpact 3.3.4 (stored numbers), and tables of Jennison and Turnbull (2000)."""

import json
import os
import pathlib

import numpy as np
import pytest
from scipy import special

from quell.analysis import samplesize, sequential
from quell.analysis.claim import ClaimError

DATA = pathlib.Path(
    os.environ.get("QUELL_REFERENCE_DATA", pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data")
)
THREE = np.array([0.5, 0.75, 1.0])


@pytest.fixture(scope="module")
def rpact():
    file = DATA / "reference" / "survival_and_boundaries.json"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    return json.loads(file.read_text())


def made(kind, information, alpha):
    if kind in ("OF", "P"):
        return sequential.by_shape(information, alpha, shape={"OF": "obrien-fleming", "P": "pocock"}[kind])
    function, parameter = {"asOF": ("obrien-fleming", None), "asHSD": ("hwang-shih-decani", -4)}[kind]
    return sequential.by_spending(information, sequential.spending(function, alpha, parameter))


def test_boundaries_of_rpact(rpact):
    assert len(rpact["bounds"]) == 9
    for theirs in rpact["bounds"]:
        mine = made(theirs["type"], np.arange(1, theirs["k"] + 1) / theirs["k"], theirs["alpha"])
        np.testing.assert_allclose(mine.upper, theirs["crit"], rtol=1e-8)
        np.testing.assert_allclose(mine.stage_levels, theirs["stageLevels"], rtol=5e-8)
        np.testing.assert_allclose(mine.spent, theirs["alphaSpent"], rtol=5e-7)


def test_non_binding_futility_of_rpact(rpact):
    base = sequential.by_spending(THREE, sequential.spending("obrien-fleming", 0.025))
    mine, drift = sequential.with_futility(base, sequential.spending("obrien-fleming", 0.2))
    np.testing.assert_allclose(mine.upper, rpact["futility"]["crit"], rtol=1e-8)
    np.testing.assert_allclose(mine.lower[:2], rpact["futility"]["fut"], rtol=1e-7)
    fixed = special.ndtri(0.975) + special.ndtri(0.8)
    np.testing.assert_allclose(drift**2 / fixed**2, rpact["futility"]["inflation"], rtol=1e-7)


def test_sample_sizes_of_rpact(rpact):
    # rpact stops its search where the power is 1.3e-7 above 0.8; quell's answer has it to 1e-14
    np.testing.assert_allclose(samplesize.means(0.5, 1.0), rpact["ss_means_t"]["n"], rtol=5e-7)
    np.testing.assert_allclose(samplesize.rates(0.5, 0.3), rpact["ss_rates"]["n"], rtol=1e-9)
    events = samplesize.events(0.7)
    trial = survival_trial()
    np.testing.assert_allclose(events, rpact["ss_surv"]["events"], rtol=1e-11)
    np.testing.assert_allclose(trial.patients(events, 36.0), rpact["ss_surv"]["n"], rtol=1e-10)


def survival_trial():
    """Hazard ratio 0.7, control median 20 months, 24 months of accrual, 2 % lost a year."""
    control, loss = np.log(2) / 20, -np.log(0.98) / 12
    one = samplesize.constant
    return samplesize.Survival(one(0.7 * control), one(control), one(1.0), 24.0, one(loss))


def test_group_sequential_survival_of_rpact(rpact):
    theirs = rpact["ss_surv_gs"]
    design = sequential.by_spending(THREE, sequential.spending("obrien-fleming", 0.025))
    events = samplesize.events(0.7) * sequential.inflation(design, 0.8) * THREE
    np.testing.assert_allclose(events, theirs["events"], rtol=1e-7)
    trial = survival_trial()
    patients = trial.patients(events[-1], 36.0)
    np.testing.assert_allclose(patients, theirs["maxSubjects"], rtol=1e-7)
    np.testing.assert_allclose([trial.when(e, patients) for e in events], theirs["analysisTime"], rtol=1e-8)
    np.testing.assert_allclose(np.exp(-design.upper * 2 / np.sqrt(events)), theirs["critHR"], rtol=1e-7)
    drift = sequential.needed_drift(design, 0.8)
    found = sequential.crossing(*design[:3], drift)
    np.testing.assert_allclose(found.expected(events), theirs["expEventsH1"], rtol=1e-6)


# Jennison and Turnbull (2000), tables 2.1, 2.3 and 2.9: two-sided alpha 0.05
@pytest.mark.parametrize(
    ("looks", "pocock", "obrien_fleming", "wang_tsiatis_quarter"),
    [(2, 2.178, 1.977, 2.038), (3, 2.289, 2.004, 2.083), (5, 2.413, 2.040, 2.136)],
)
def test_tables_of_jennison_and_turnbull(looks, pocock, obrien_fleming, wang_tsiatis_quarter):
    information = np.arange(1, looks + 1) / looks
    for shape, expected in ((0.5, pocock), (0.0, obrien_fleming), (0.25, wang_tsiatis_quarter)):
        found = sequential.by_shape(information, 0.025, shape=shape, two_sided_test=True)
        assert abs(found.upper[-1] - expected) < 6e-4


def test_laws_of_sequential_tests():
    for kind, parameter in (("obrien-fleming", None), ("pocock", None), ("kim-demets", 3), ("hwang-shih-decani", 2)):
        unequal = np.array([0.13, 0.4, 0.42, 1.0])
        design = sequential.by_spending(unequal, sequential.spending(kind, 0.025, parameter))
        assert abs(sequential.crossing(*design[:3]).power - 0.025) < 1e-11
        binding, drift = sequential.with_futility(design, sequential.spending(kind, 0.1, parameter), binding=True)
        assert abs(sequential.crossing(*binding[:3]).power - 0.025) < 1e-9
        assert abs(sequential.crossing(*binding[:3], drift).power - 0.9) < 1e-9
        assert np.all(binding.upper <= design.upper + 1e-12)


def test_one_look_is_the_fixed_test():
    one = sequential.by_shape(np.array([1.0]), 0.025)
    assert abs(one.upper[0] - special.ndtri(0.975)) < 1e-12
    final = sequential.final_estimate(2.4, 0, one, se=0.5)
    np.testing.assert_allclose(
        [final.estimate, final.lower, final.upper, final.p],
        [1.2, 1.2 - 0.5 * special.ndtri(0.975), 1.2 + 0.5 * special.ndtri(0.975), 2 * special.ndtr(-2.4)],
        rtol=1e-10,
    )


def test_stagewise_ordering_is_calibrated():
    """Simulated trials: stage-wise p is uniform under no effect, intervals cover, and the estimate's median is the truth."""
    design = sequential.by_shape(np.array([0.5, 1.0]), 0.025)
    truth, draw = 1.5, np.random.default_rng(3)
    first = draw.normal(truth * np.sqrt(0.5), 1, 1500)
    second = (np.sqrt(0.5) * first + np.sqrt(0.5) * draw.normal(truth * np.sqrt(0.5), 1, 1500)) / 1
    stopped = first >= design.upper[0]
    chances = np.array(
        [
            sequential.stagewise_p(f if s else z, 0 if s else 1, design, truth)
            for f, z, s in zip(first, second, stopped, strict=True)
        ]
    )
    assert abs(np.mean(chances < 0.5) - 0.5) < 4 * 0.5 / np.sqrt(1500)
    assert abs(np.mean(chances < 0.025) - 0.025) < 4 * np.sqrt(0.025 * 0.975 / 1500)


@pytest.mark.parametrize("looks", [[0.5, 0.5], [0.0, 1.0], [], [1.0, 0.5], [np.nan]])
def test_looks_that_do_not_rise_get_a_sentence(looks):
    with pytest.raises(ClaimError, match="must rise"):
        sequential.by_shape(np.array(looks), 0.025)

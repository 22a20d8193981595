"""Group-sequential designs and sample sizes against rpact 3.3.4 (stored numbers), and tables of Jennison and Turnbull (2000)."""

import json

import numpy as np
import pytest
from scipy import special

from quell.analysis import samplesize, sequential

THREE = np.array([0.5, 0.75, 1.0])


@pytest.fixture
def rpact(reference_data):
    return json.loads((reference_data / "reference" / "survival_and_boundaries.json").read_text())


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
    return samplesize.SurvivalTrial(one(0.7 * control), one(control), one(1.0), 24.0, one(loss))


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


def test_one_look_is_the_fixed_test():
    one = sequential.by_shape(np.array([1.0]), 0.025)
    assert abs(one.upper[0] - special.ndtri(0.975)) < 1e-12
    final = sequential.final_estimate(2.4, 0, one, se=0.5)
    np.testing.assert_allclose(
        [final.estimate, final.lower, final.upper, final.p],
        [1.2, 1.2 - 0.5 * special.ndtri(0.975), 1.2 + 0.5 * special.ndtri(0.975), 2 * special.ndtr(-2.4)],
        rtol=1e-10,
    )


# rpact 3.3.4, tolerance 1e-10: getDesignGroupSequential(informationRates = c(0.3, 0.55, 0.8, 1), alpha = 0.025), and the
# shift of getDesignCharacteristics at power 0.8. Its search stops 1e-8 from the error asked for, hence 5e-7
FOUR = np.array([0.3, 0.55, 0.8, 1.0])
UNEQUAL = {
    "OF": ([3.71493454641, 2.74366099325, 2.27492351664, 2.03475345072], 8.05368245653),
    "P": ([2.34539459039] * 4, 9.29703543813),
    "WT 0.3": ([2.73883595115, 2.4261504738, 2.25098330273, 2.15273350855], 8.47907916052),
    "HP": ([3.0, 3.0, 3.0, 1.97914708114], 7.9219002666),
    "asOF": ([3.92857254263, 2.80787685706, 2.27609808143, 2.02924463496], 8.03487873542),
    "asP": ([2.31183530381, 2.35730923462, 2.35262574541, 2.37308105925], 9.41634986277),
    "asKD 2.5": ([3.02763554341, 2.58335226512, 2.26753451867, 2.07040871709], 8.18160123245),
    "asHSD -3": ([2.89233941098, 2.6311827398, 2.31677948235, 2.05633399583], 8.15110188285),
    "asUser": ([2.8781617391, 2.80633597431, 2.42243345984, 2.01912472135], 8.04106038264),
    "OF futility": ([3.69353159797, 2.72785386824, 2.26181694097, 2.02303057306], 8.1803966536),
    "asP futility": ([2.31183530381, 2.35722522711, 2.35029655142, 2.36330388434], 9.47782110467),
    "asOF two-sided": ([3.92857254263, 2.80787685647, 2.27609808283, 2.02924461901], 8.0348786612),
    "WT 0.25 two-sided": ([2.8679331406, 2.46466934705, 2.24427896752, 2.12250800179], 8.36170290108),
}


def designed(name):
    spend, lower = sequential.spending, np.array([-0.5, 0.3, 0.8])
    by_shape, by_spending = sequential.by_shape, sequential.by_spending
    return {
        "OF": lambda: by_shape(FOUR, 0.025),
        "P": lambda: by_shape(FOUR, 0.025, shape="pocock"),
        "WT 0.3": lambda: by_shape(FOUR, 0.025, shape=0.3),
        "HP": lambda: sequential.haybittle_peto(FOUR, 0.025),
        "asOF": lambda: by_spending(FOUR, spend("obrien-fleming", 0.025)),
        "asP": lambda: by_spending(FOUR, spend("pocock", 0.025)),
        "asKD 2.5": lambda: by_spending(FOUR, spend("kim-demets", 0.025, 2.5)),
        "asHSD -3": lambda: by_spending(FOUR, spend("hwang-shih-decani", 0.025, -3)),
        "asUser": lambda: by_spending(FOUR, sequential.given(FOUR, np.array([0.002, 0.004, 0.01, 0.025]))),
        "OF futility": lambda: by_shape(FOUR, 0.025, futility=lower),
        "asP futility": lambda: by_spending(FOUR, spend("pocock", 0.025), futility=lower),
        "asOF two-sided": lambda: by_spending(FOUR, spend("obrien-fleming", 0.025), two_sided_test=True),
        "WT 0.25 two-sided": lambda: by_shape(FOUR, 0.025, shape=0.25, two_sided_test=True),
    }[name]()


@pytest.mark.parametrize("name", UNEQUAL)
def test_unequal_looks_of_rpact(name):
    critical, shift = UNEQUAL[name]
    mine = designed(name)
    np.testing.assert_allclose(mine.upper, critical, rtol=5e-7)
    np.testing.assert_allclose(sequential.needed_drift(mine, 0.8) ** 2, shift, rtol=5e-7)


def test_operating_characteristics_of_rpact():
    # getDesignCharacteristics (asOF, power 0.8) and getPowerAndAverageSampleNumber(theta, nMax = 100)
    mine = designed("asOF")
    drift = sequential.needed_drift(mine, 0.8)
    stops = mine.crossing(drift)
    np.testing.assert_allclose(stops.upper, [0.008750594852, 0.231726783511, 0.366671957219, 0.192850664418], rtol=1e-6)
    inflation = sequential.inflation(mine, 0.8)
    np.testing.assert_allclose(inflation, 1.02369752211, rtol=1e-6)
    expected = mine.crossing(drift * np.array([0.0, 0.5, 1.0])).expected(inflation * FOUR)
    np.testing.assert_allclose(expected, [1.02054434827, 0.980437325001, 0.835606552037], rtol=1e-6)
    found = mine.crossing(10 * np.array([-0.1, 0.0, 0.1, 0.3]))
    np.testing.assert_allclose(
        found.expected(100 * FOUR), [99.977774875, 99.6919818821, 97.7737651361, 79.4641932207], rtol=1e-7
    )
    np.testing.assert_allclose(
        found.power, [0.00167228836336, 0.0249999999986, 0.164524410645, 0.842787169168], rtol=1e-6
    )


# rpact 3.3.4: typeBetaSpending; critical values, futility bounds, shift
FUTILITY = {
    "non-binding OF": (
        ("obrien-fleming", None, None, 0.1, False),
        [3.92857254263, 2.80787685706, 2.27609808143, 2.02924463496],
        [-0.926838657081, 0.568478956637, 1.4630813327],
        11.5148411383,
    ),
    "binding OF": (
        ("obrien-fleming", None, None, 0.1, True),
        [3.92857254263, 2.80787643249, 2.27466507343, 1.96486931766],
        [-0.957128750138, 0.527465974148, 1.41353421423],
        11.1425818204,
    ),
    "binding KD": (
        ("kim-demets", 2, 1.5, 0.15, True),
        [2.84080371786, 2.50044802221, 2.24732246465, 2.02425911609],
        [-0.231694041405, 0.702759084343, 1.45399498691],
        10.0264155832,
    ),
    "non-binding HSD": (
        ("hwang-shih-decani", -4, -2, 0.1, False),
        [3.06669954932, 2.7438991997, 2.35775434872, 2.02310609497],
        [-0.370982495431, 0.547339179429, 1.3768043908],
        11.5221027772,
    ),
}


@pytest.mark.parametrize("name", FUTILITY)
def test_futility_of_rpact(name):
    (kind, first, second, beta, binding), critical, futility, shift = FUTILITY[name]
    base = sequential.by_spending(FOUR, sequential.spending(kind, 0.025, first))
    mine, drift = sequential.with_futility(base, sequential.spending(kind, beta, second), binding=binding)
    np.testing.assert_allclose(mine.upper, critical, rtol=5e-7)
    np.testing.assert_allclose(mine.lower[:3], futility, rtol=1e-6)
    np.testing.assert_allclose(drift**2, shift, rtol=1e-6)


# rpact 3.3.4: sided = 2, alpha = 0.05, beta = 0.1, bsKD 1.5 with asKD 2.5 (the first look has no bound: betaAdjustment),
# and bsP with asOF; shift of its characteristics is found to 1e-5, so that the drift is checked to that
@pytest.mark.parametrize(
    ("looks", "kinds", "binding", "critical", "futility", "shift"),
    [
        ([0.3, 0.4, 0.8, 1], "KD", False, [3.0276355434, 2.8984727207, 2.2289649241, 2.0639031783], [0.0, 0.13460522362, 1.5007674361], 11.628636071),
        ([0.3, 0.4, 0.8, 1], "KD", True, [3.0276355434, 2.8984727205, 2.2263313744, 2.0005679315], [0.0, 0.12572908068, 1.4531949105], 11.278777335),
        ([0.5, 0.75, 1], "P", False, [2.9625880427, 2.3590177071, 2.0140836682], [1.0167062495, 1.4781057238], 13.039226479),
        ([0.5, 0.75, 1], "P", True, [2.9625880427, 2.3512984744, 1.8704344587], [0.92736372098, 1.3649448256], 12.128958799),
    ],
)  # fmt: skip
def test_two_sided_futility_of_rpact(looks, kinds, binding, critical, futility, shift):
    alpha, beta = {
        "KD": (sequential.spending("kim-demets", 0.025, 2.5), sequential.spending("kim-demets", 0.1, 1.5)),
        "P": (sequential.spending("obrien-fleming", 0.025), sequential.spending("pocock", 0.1)),
    }[kinds]
    base = sequential.by_spending(np.array(looks), alpha, two_sided_test=True)
    mine, drift = sequential.with_inner_futility(base, beta, binding=binding)
    np.testing.assert_allclose(mine.upper, critical, rtol=1e-6)
    np.testing.assert_allclose(mine.inner[:-1], futility, rtol=1e-6)
    np.testing.assert_allclose(drift**2, shift, rtol=5e-6)


# rpact 3.3.4: looks at 90 and 140 of 200 planned, and a last one at 160 or 260: informationRates = c(90, 140, last) / last,
# asUser with O'Brien-Fleming spending at 90 / 200 and 140 / 200, and all of 0.025 at the end
@pytest.mark.parametrize(
    ("last", "critical"),
    [(160.0, [3.14377679081, 2.45153256151, 1.97110906622]), (260.0, [3.14377679081, 2.45153256151, 2.0284866328])],
)
def test_under_and_over_running_of_rpact(last, critical):
    spend = sequential.spending("obrien-fleming", 0.025)
    mine = sequential.retimed(np.array([90.0, 140.0, last]), spend, maximum=200)
    np.testing.assert_allclose(mine.upper, critical, rtol=1e-7)
    again = sequential.retimed(np.array([90.0, 140.0, last]), spend, maximum=200, past=np.array(critical[:2]))
    np.testing.assert_allclose(again.upper, critical, rtol=1e-7)


# gsDesign 3.x: gsDesign(k = 3, test.type = 4) with its defaults, HSD(-4) and HSD(-2), as printed in its documentation
def test_default_design_of_gsdesign():
    base = sequential.by_spending(np.arange(1, 4) / 3, sequential.spending("hwang-shih-decani", 0.025, -4))
    mine, drift = sequential.with_futility(base, sequential.spending("hwang-shih-decani", 0.1, -2))
    np.testing.assert_allclose(mine.upper, [3.0107, 2.5465, 1.9992], atol=5e-5)
    np.testing.assert_allclose(mine.lower, [-0.2387, 0.9410, 1.9992], atol=1e-4)  # its own search leaves 7e-5
    fixed = special.ndtri(0.975) + special.ndtri(0.9)
    np.testing.assert_allclose(drift**2 / fixed**2 * mine.information, [0.3566, 0.7132, 1.0699], atol=6e-5)


# gsDesign 3.x documentation of nSurv: gsSurv(k = 4, sfl = sfPower, sflpar = .5, ...)
def test_bounds_and_chances_of_gsdesign():
    looks = np.arange(1, 5) / 4
    base = sequential.by_spending(looks, sequential.spending("hwang-shih-decani", 0.025, -4))
    mine, drift = sequential.with_futility(base, sequential.spending("kim-demets", 0.1, 0.5))
    np.testing.assert_allclose(mine.upper, [3.16, 2.82, 2.44, 2.01], atol=5e-3)
    np.testing.assert_allclose(mine.lower, [0.23, 0.86, 1.46, 2.01], atol=5e-3)
    null, effect = mine.crossing(0.0), mine.crossing(drift)
    np.testing.assert_allclose(null.upper, [0.0008, 0.0022, 0.0055, 0.0102], atol=5e-5)
    np.testing.assert_allclose(null.lower, [0.5895, 0.2470, 0.1079, 0.0369], atol=5e-5)
    np.testing.assert_allclose(effect.upper, [0.0995, 0.3393, 0.3388, 0.1224], atol=6e-5)
    np.testing.assert_allclose(effect.lower, [0.0500, 0.0207, 0.0159, 0.0134], atol=5e-5)
    events = 115.06648 * looks
    np.testing.assert_allclose([null.expected(events), effect.expected(events)], [46.5, 71.2], atol=0.06)


# gsDesign 3.x, vignette on harm bounds: gsSurvCalendar(test.type = 8, alpha = 0.0125, astar = 0.1, calendarTime = 12 ... 60)
def test_harm_bounds_of_gsdesign():
    hazard = samplesize.constant(np.log(2) / 36)
    trial = samplesize.SurvivalTrial(hazard.times(0.75), hazard, samplesize.constant(1.0), 18.0)
    events = np.array([trial.chance(month) for month in (12, 24, 36, 48, 60)])
    base = sequential.by_spending(events / events[-1], sequential.spending("obrien-fleming", 0.0125))
    futile, drift = sequential.with_futility(base, sequential.spending("hwang-shih-decani", 0.1, -2))
    mine = sequential.with_harm(futile, sequential.spending("pocock", 0.1))
    np.testing.assert_allclose(mine.upper, [7.4336, 3.8622, 2.9347, 2.5278, 2.3072], atol=1e-4)
    np.testing.assert_allclose(mine.lower, [-1.4408, 0.1212, 1.0566, 1.7357, 2.3072], atol=1e-4)
    np.testing.assert_allclose(mine.harm, [-2.1121, -1.7667, -1.7256, -1.7170, -1.7149], atol=6e-5)
    stops = mine.crossing(np.array([0.0, drift]))
    np.testing.assert_allclose(stops.lower.cumsum(-1)[0], [0.0748, 0.5554, 0.8641, 0.9631, 0.9888], atol=7e-5)
    np.testing.assert_allclose(stops.upper.cumsum(-1)[1], [0.0, 0.0574, 0.4990, 0.7996, 0.9], atol=6e-5)
    np.testing.assert_allclose(mine.harm_crossing().lower.cumsum(), [0.0173, 0.0507, 0.0736, 0.0890, 0.1], atol=5e-5)
    binding, _ = sequential.with_futility(base, sequential.spending("hwang-shih-decani", 0.1, -2), binding=True)
    np.testing.assert_allclose(binding.upper[:3], [7.434, 3.862, 2.934], atol=5e-4)

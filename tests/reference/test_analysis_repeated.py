"""MMRM against R mmrm 0.3.16 and SAS PROC MIXED (published), and R 4.2.2: nlme, lme4, lmerTest, emmeans, clubSandwich.

Where no other software is exact, the likelihood was written again, person by person, in 50-digit arithmetic (mpmath 1.4),
its top found by Newton's method and all derivatives by central differences of 1e-12: good to all the digits given.
"""

import csv
import json

import numpy as np
import pytest

from quell.analysis.claim import Caution
from quell.analysis.reml import fit_reml
from quell.analysis.repeated import Covariance, Terms, mmrm

ARM_ONLY = Terms(visit=False, arm_by_visit=False)
NONE = None
# arm, site, baseline, and an outcome at three visits, made up for this test
SMALL = [
    (0, 2, 5.0, 3.9, 3.6, 2.92), (1, 2, 6.4, 3.97, 4.6, 3.89), (0, 0, 6.2, 4.26, NONE, 4.87), (1, 0, 4.5, NONE, 2.37, 2.75),
    (0, 0, 4.7, 3.92, 2.47, NONE), (1, 1, 4.5, 1.61, NONE, 1.4), (0, 2, 5.6, NONE, 3.22, 5.32), (1, 1, 4.9, NONE, 3.87, 3.91),
    (0, 2, 5.7, NONE, 2.94, NONE), (1, 1, 3.2, 2.27, 0.28, NONE), (0, 2, 6.6, NONE, 4.91, 4.42), (1, 1, 4.9, 2.67, 3.08, 1.97),
    (0, 2, 5.7, NONE, 3.97, 4.74), (1, 0, 4.9, 2.17, NONE, NONE), (0, 1, 4.6, 2.58, 3.6, 5.12), (1, 2, 5.5, 4.84, NONE, 3.89),
    (0, 2, 5.8, 3.95, NONE, 3.02), (1, 2, 4.8, NONE, 2.15, 3.1), (0, 2, 4.8, 4.18, 2.33, 2.66), (1, 0, 5.7, 1.86, 2.68, NONE),
]  # fmt: skip


def close(mine, theirs, rtol=1e-6):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


def small(structure="unstructured", method="satterthwaite", **more):
    rows = np.array(SMALL, float)
    return mmrm(rows[:, 3:], rows[:, 0], covariates=rows[:, 2:3], factors=[rows[:, 1]], structure=structure,
                method=method, **more)  # fmt: skip


# 50-digit arithmetic (see above), y ~ site + baseline + arm * visit by REML: log-likelihood; the difference of the arms at
# the first visit plus the interaction of the last, its error and Satterthwaite's df, its errors after Kenward-Roger
# (linear, full); F and df of Kenward and Roger's test of the interaction (linear)
EXACT = {
    "us": (-50.614965168, -0.860830662236, 0.531142423259, 13.1806431718, 0.563607535729, 0.472495970246, 0.733541337629, 11.7666369124),
    "toeph": (-51.1185234032, -0.838482844496, 0.524660986781, 13.583407921, 0.552494221847, 0.531713746221, 0.576115497588, 11.4429760733),
    "toep": (-52.2345409866, -0.814627672853, 0.467680777276, 29.2581933355, 0.490155609372, 0.482526124378, 0.563352286197, 15.3531977714),
    "ar1h": (-51.2139396321, -0.80856551339, 0.52334356566, 13.6069351764, 0.543230509944, 0.521752733975, 0.645561562858, 12.4313509197),
    "ar1": (-52.2576744338, -0.801907663235, 0.468960929728, 29.1169238738, 0.480107533645, 0.471051316871, 0.639936597832, 19.5298765918),
    "csh": (-51.1263579707, -0.833781106454, 0.524352974482, 13.6490282931, 0.540013589551, 0.519345963767, 0.648092428776, 15.2788704989),
    "cs": (-52.2479578392, -0.821178922123, 0.465603740841, 31.086657702, 0.473777356982, 0.466305216249, 0.580114452116, 24.0110424564),
    "adh": (-50.7913581394, -0.814033706019, 0.528552643496, 13.2279213019, 0.553264045054, 0.528077687766, 0.756047793131, 11.8729904905),
    "ad": (-51.9096645526, -0.793974541063, 0.460107578996, 29.5430843744, 0.477482185363, 0.466186866228, 0.547798362204, 13.6276180878),
}  # fmt: skip


@pytest.mark.parametrize("structure", EXACT)
def test_structures_against_exact_arithmetic(structure):
    log_likelihood, estimate, se, df, linear, full, statistic, joint_df = EXACT[structure]
    fit = small(structure)
    last = fit.contrast(2, (1, 0))
    close(fit.log_likelihood, log_likelihood, 1e-11)
    close([last.estimate, last.se, last.df], [estimate, se, df], 1e-9)
    close(small(structure, "kenward-roger").contrast(2, (1, 0)).se, full, 1e-9)
    adjusted = small(structure, "kenward-roger-linear")
    close(adjusted.contrast(2, (1, 0)).se, linear, 1e-9)
    test = adjusted.test("arm by visit")
    close([test.statistic, test.df_denominator], [statistic, joint_df], 1e-8)


def test_every_coefficient_against_exact_arithmetic():
    fit = small("us")
    close(fit.coefficients, [-1.50291926422, 0.633370389418, 0.398527505021, 0.975292734759, -0.97775598113, -0.706775093103, -0.159389987187, 0.701674577367, 0.116925318894], 1e-9)  # fmt: skip
    close(fit.se, [1.08685085832, 0.390042713281, 0.339433624372, 0.197983051538, 0.507834100832, 0.453849841931, 0.485853289183, 0.627522870238, 0.687586367441], 1e-9)  # fmt: skip
    close(fit.df, [7.47121410494, 8.26425888307, 8.81725371432, 7.88418697176, 7.13090795383, 13.6920766724, 11.01801854, 13.9471672116, 12.6647616789], 1e-9)  # fmt: skip
    close(fit.covariance[np.triu_indices(3)], [0.828032955323, -0.102371716234, 0.14925929944, 0.401326630858, 0.199471695705, 1.03322621099], 1e-9)  # fmt: skip
    assert fit.names[3:6] == ("covariate 0", "arm 1", "visit 1")


def test_maximum_likelihood_against_exact_arithmetic():
    fit = small(Covariance("us", likelihood="ml"))
    close(fit.log_likelihood, -46.9308022256, 1e-11)
    close(fit.coefficients, [-1.29322246672, 0.639618510939, 0.474314170804, 0.93993328554, -1.12179538869, -0.746829648596, -0.209101816847, 0.801993379076, 0.283936528049], 1e-9)  # fmt: skip
    close(fit.se, [0.802148527352, 0.290196519989, 0.252879494299, 0.147017481107, 0.431228395373, 0.424734600551, 0.44304545268, 0.590102237978, 0.627811212446], 1e-9)  # fmt: skip
    close(fit.df, [7.90939146852, 7.67194328278, 7.86053662208, 7.6899375895, 9.60104578038, 15.23757898, 12.6127230707, 14.9598030006, 14.8767844241], 1e-9)  # fmt: skip


def test_nlme_gls():
    # nlme 3.1-162: gls(y ~ site + bl + arm * v, correlation = corSymm, weights = varIdent), corCompSymm; own optimum ~1e-7
    unstructured, symmetric = small("us"), small("cs")
    close([unstructured.log_likelihood, symmetric.log_likelihood], [-50.61496517, -52.24795784], 1e-9)
    close(unstructured.coefficients, [-1.502919662, 0.6333704942, 0.3985274847, 0.9752928161, -0.9777559667, -0.706775129, -0.1593900227, 0.70167456, 0.1169252325], 1e-6)  # fmt: skip
    # gls divides by its own sigma estimate: its errors, and so the rest, only agree as far as its search went
    close(symmetric.se, [1.297261972, 0.4572318631, 0.3906473253, 0.2347974362, 0.4915501137, 0.4532954916, 0.450742052, 0.6339991292, 0.6286078102], 2e-6)  # fmt: skip


def test_type_three_tests_of_lmertest():
    # lmerTest 3.1-3: anova(lmer(y ~ site + bl + factor(arm) * v + (1 | id)), type = 3), the same model as compound symmetry
    fit = small("cs")
    expected = {
        "factor 0": (2, 12.17867449, 0.58207, 0.5735512),
        "covariate 0": (1, 11.48674474, 12.66873, 0.0041941),
        "arm": (1, 10.80820838, 4.42478, 0.0596766),
        "visit": (2, 23.66806738, 0.78381, 0.4681589),
        "arm by visit": (2, 23.98098505, 0.61290, 0.5500494),
    }
    for what, (numerator, denominator, statistic, p) in expected.items():
        test = fit.test(what)
        assert test.df_numerator == numerator
        # lmerTest's own derivatives are numerical
        close([test.df_denominator, test.p], [denominator, p], 1e-4)
        close(test.statistic, statistic, 2e-5)


def test_means_of_emmeans():
    # emmeans 1.8.5 of the lmer fit above, arm by visit, normal limits
    fit = small("cs", "normal")
    expected = {
        (0, 0): (3.828696906, 0.3618365550, 3.119510290, 4.537883522),
        (1, 0): (2.938788260, 0.3299828694, 2.292033720, 3.585542799),
        (0, 1): (3.183341028, 0.3332596197, 2.530164176, 3.836517880),
        (1, 2): (2.969717167, 0.3336085973, 2.315856331, 3.623578003),
    }
    for (arm, visit), numbers in expected.items():
        mean = fit.mean(arm, visit)
        close([mean.estimate, mean.se, mean.lower, mean.upper], numbers, 2e-6)


def test_robust_errors_of_clubsandwich():
    # clubSandwich 0.5.8: vcovCR and coef_test(test = "Satterthwaite") of gls(corCompSymm)
    expected = {
        "empirical": ([0.6337628067, 0.38110771, 0.289611611, 0.1157366766, 0.4255071364, 0.3984533695, 0.5353146, 0.5837560742, 0.6119441037],
                      [7.820697182, 7.137813487, 7.289870408, 7.737570582, 10.31228482, 6.73795899, 6.264769133, 13.79680533, 13.34740494]),
        "empirical-bias-reduced-clubsandwich": ([0.7640267939, 0.4574538269, 0.3448190537, 0.1381975519, 0.473571411, 0.4338017321, 0.5805794317, 0.6396978699, 0.6682063355],
                                   [7.50542498, 6.810563269, 6.627304379, 7.336854806, 10.02581365, 6.767805339, 6.291014858, 13.92267642, 13.54373794]),
        "empirical-jackknife": ([0.9248749375, 0.5516136681, 0.4122476706, 0.1657343057, 0.5299313046, 0.4726626616, 0.6305699908, 0.7018612718, 0.7312321066],
                                [7.100738375, 6.453650418, 6.006342931, 6.845904283, 9.612623564, 6.818747582, 6.339942698, 14.05856878, 13.75617977]),
    }  # fmt: skip
    for method, (errors, degrees) in expected.items():
        fit = small("cs", method)
        close(fit.se, errors, 3e-6)
        close(fit.df, degrees, 3e-6)


@pytest.fixture(scope="module")
def fev(reference_data):
    file = reference_data / "mmrm" / "fev_data.csv"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    people = list(dict.fromkeys(row["USUBJID"] for row in rows))
    outcome = np.full((len(people), 4), np.nan)
    arm, race, sex, baseline = (np.zeros(len(people)) for _ in range(4))
    races = ["Asian", "Black or African American", "White"]
    for row in rows:
        who = people.index(row["USUBJID"])
        if row["FEV1"] not in ("", "NA"):
            outcome[who, int(row["VISITN"]) - 1] = float(row["FEV1"])
        arm[who], race[who] = row["ARMCD"] == "TRT", races.index(row["RACE"])
        sex[who], baseline[who] = row["SEX"] == "Female", float(row["FEV1_BL"])
    return outcome, arm, race, sex, baseline


@pytest.fixture(scope="module")
def r_mmrm(reference_data):
    file = reference_data / "reference" / "mmrm.json"
    if not file.exists():
        pytest.skip(f"reference data not found: {file}")
    return json.loads(file.read_text())


def full_model(fev, structure="unstructured", method="satterthwaite"):
    outcome, arm, race, sex, _ = fev
    return mmrm(outcome, arm, factors=[race, sex], structure=structure, method=method)


@pytest.mark.parametrize(
    ("name", "structure", "method"),
    [
        ("us_Satterthwaite", "us", "satterthwaite"),
        ("us_Kenward-Roger", "us", "kenward-roger"),
        ("cs_Satterthwaite", "cs", "satterthwaite"),
    ],
)
def test_r_mmrm_where_it_stops(fev, r_mmrm, name, structure, method):
    expected = r_mmrm[name]
    fit = full_model(fev, Covariance(structure, stop="mmrm"), method)
    last = fit.contrast(3, (1, 0))
    close(fit.coefficients, expected["coef"], 1e-9)
    close(fit.se, expected["se"], 1e-9)
    close(fit.df, expected["df"], 1e-9)
    close([fit.log_likelihood, fit.aic, fit.bic], [expected["loglik"], expected["aic"], expected["bic"]], 1e-12)
    close(fit.covariance.ravel(), expected["cov"], 1e-9)
    close([last.estimate, last.se, last.df, last.statistic, last.p], expected["trt_at_vis4"], 1e-9)
    assert fit.fit.n == 197 and fit.fit.observations == 537 and fit.warnings == Caution.MISSING


def test_contrasts_of_r_mmrm_and_emmeans(fev, r_mmrm):
    fit = full_model(fev, Covariance("us", stop="mmrm"), "kenward-roger")
    for visit, row in enumerate(r_mmrm["emm_us_KR"]):
        mine = fit.contrast(visit, (1, 0))
        close([mine.estimate, mine.se, mine.df, mine.statistic, mine.p],
              [row[name] for name in ("estimate", "SE", "df", "t.ratio", "p.value")], 1e-8)  # fmt: skip


@pytest.mark.parametrize(
    ("structure", "log_likelihood"), [("unstructured", -1693.2249381225), ("cs", -1761.0214744595)]
)
def test_the_exact_top_is_higher_and_close(fev, r_mmrm, structure, log_likelihood):
    # mmrm's default search stops 2.5e-6 of log-likelihood short, so its coefficients are off by up to 2e-4 errors
    fit = full_model(fev, structure)
    expected = r_mmrm["us_Satterthwaite" if structure == "unstructured" else "cs_Satterthwaite"]
    assert log_likelihood - 1e-9 < fit.log_likelihood < log_likelihood + 5e-6
    assert np.all(np.abs(fit.coefficients - expected["coef"]) < 3e-4 * fit.se)
    close(fit.df, expected["df"], 1e-4)
    close(fit.se, expected["se"], 1e-4)


def test_the_exact_top_against_plain_r(fev):
    # the likelihood in plain R 4.2.2, person by person, maximised and differentiated with numDeriv 2016.8 (~7 digits)
    fit = full_model(fev)
    close(fit.log_likelihood, -1693.22493558116, 1e-12)
    expected = [30.7774065334, 1.5305949550, 5.6435678537, 0.3260272940, 3.7744141678, 4.8396038878, 10.3421671389, 15.0537862805, -0.0420901932, -0.6938070406, 0.6241226224]  # fmt: skip
    assert np.all(np.abs(fit.coefficients - expected) < 2e-7 * fit.se)
    close(fit.df, [218.794513, 168.669438, 157.140556, 166.135509, 145.547142, 143.873198, 155.558861, 138.458969, 138.561825, 158.166935, 129.708717], 5e-7)  # fmt: skip
    close(full_model(fev, method="kenward-roger").se, [0.8918351634, 0.6330031500, 0.6740742803, 0.5390222547, 1.0770208123, 0.8041082181, 0.8232892131, 1.3018161089, 1.1317356982, 1.1882794738, 1.8333557425], 2e-6)  # fmt: skip
    # openpharma/mmrm tests/testthat/test-fit.R: the log-likelihood its nlminb finds
    close(fit.log_likelihood, -1693.22493558573, 1e-11)


def test_type_three_tests_of_r_mmrm(fev):
    # openpharma/mmrm, snapshot of Anova() of this model (type III): df, F, p
    fit = full_model(fev, Covariance("us", stop="mmrm"))
    expected = {
        "factor 0": (165.555271036173, 36.9114313439307, 5.54457484361028e-14),
        "factor 1": (166.132390274818, 0.375714493693334, 0.54074393045656),
        "arm": (168.517347862691, 31.6630556880233, 7.50169682382158e-08),
        "visit": (148.115819022518, 142.112225163932, 2.14434380222247e-43),
        "arm by visit": (147.9145531646, 0.258059683823067, 0.855493665048709),
    }
    for what, (df, statistic, p) in expected.items():
        test = fit.test(what)
        close([test.df_denominator, test.statistic, test.p], [df, statistic, p], 1e-8)


def arm_only(fev, structure, method):
    outcome, arm, *_ = fev
    return mmrm(outcome, arm, terms=ARM_ONLY, structure=structure, method=method).contrast(0, (1, 0))


def test_sas_proc_mixed_where_it_stops(fev, reference_data):
    # SAS PROC MIXED, type=un ddfm=kr: kr_us.csv (openpharma/mmrm)
    with (reference_data / "mmrm" / "kr_us.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    for method in ("kenward-roger-linear", "kenward-roger-sas"):
        mine = arm_only(fev, Covariance("us", stop="sas"), method)
        for field, column in [("estimate", "Estimate"), ("se", "StdErr"), ("df", "DF"), ("statistic", "tValue"),
                              ("p", "Probt"), ("lower", "Lower"), ("upper", "Upper")]:  # fmt: skip
            close(getattr(mine, field), float(row[column]), 1e-10)


def test_sas_compound_symmetry(fev, reference_data):
    with (reference_data / "mmrm" / "kr_cs.csv").open() as lines:
        (row,) = csv.DictReader(lines)
    mine = arm_only(fev, "cs", "kenward-roger-sas")
    close([mine.estimate, mine.se, mine.df], [float(row[name]) for name in ("Estimate", "StdErr", "DF")], 1e-6)


def test_full_kenward_roger_of_r_mmrm(fev, r_mmrm):
    mine = arm_only(fev, Covariance("us", stop="mmrm"), "kenward-roger")
    close([mine.estimate, mine.se, mine.df, mine.statistic, mine.p], r_mmrm["sas_check_kr_us"], 1e-9)


# openpharma/mmrm tests/testthat/test-kenwardroger.R, SAS PROC MIXED, FEV1 ~ ARMCD: errors with ddfm=kr and kr(linear), df.
# SAS stops short (its rule is relative to log-likelihood), by more in some structures.
SAS = {
    "ar1": (0.95865439662225, 0.96058142305176, 188.46934887972, 1e-6),
    "ar1h": (0.7590316099633, 0.75924807546934, 188.225339095373, 1e-4),
    "csh": (0.67414806011886, 0.67403858183242, 190.737701349941, 5e-4),
    "adh": (0.66172017349971, 0.66158550758897, 162.393385281755, 5e-4),
    "toep": (0.87839805519623, 0.87839805519623, 160.027408337368, 1e-4),
    "toeph": (0.72543828853831, 0.72537324518435, 180.062730071701, 5e-6),
    "us": (0.66124382270307, 0.66124382270307, 160.733266403768, 5e-4),
}


@pytest.mark.parametrize("structure", SAS)
def test_kenward_roger_of_sas(fev, structure):
    full, linear, df, rtol = SAS[structure]
    mine = arm_only(fev, structure, "kenward-roger-sas")
    close([mine.se, mine.df], [full, df], rtol)
    close(arm_only(fev, structure, "kenward-roger-linear").se, linear, rtol)


# openpharma/mmrm tests/testthat/test-tmb.R, SAS PROC MIXED: -2 log-likelihood of FEV1 ~ 1, ML and REML
DEVIANCES = {
    "us": (3700.68707570, 3700.94648570),
    "ad": (3855.8794, 3855.3383),
    "adh": (3713.24501787, 3713.49317786),
    "toep": (3857.00777313, 3856.68995273),
    "toeph": (3722.29178558, 3722.38018329),
    "ar1": (3875.95352406, 3875.49945459),
    "ar1h": (3739.94416707, 3739.96835012),
    "cs": (3918.12214544, 3917.98183508),
    "csh": (3784.63158043, 3784.85341599),
}
BY_ARM = {
    "adh": (3688.48731427, 3688.84024388),
    "toeph": (3704.27043196, 3704.49921127),
    "ar1": (3873.08507919, 3872.65212395),
    "ar1h": (3724.22021102, 3724.36099760),
    "cs": (3915.54243738, 3915.41985780),
}


@pytest.mark.parametrize("structure", DEVIANCES)
def test_deviances_of_sas(fev, structure):
    outcome, arm, *_ = fev
    ones = np.ones((*outcome.shape, 1))
    for likelihood, expected in zip(("ml", "reml"), DEVIANCES[structure], strict=True):
        fit = fit_reml(outcome, ones, Covariance(structure, likelihood=likelihood, fallback=()))
        close(-2 * fit.log_likelihood, expected, 5e-9)
    if structure in BY_ARM:
        for likelihood, expected in zip(("ml", "reml"), BY_ARM[structure], strict=True):
            fit = fit_reml(
                outcome, ones, Covariance(structure, likelihood=likelihood, fallback=()), group=arm.astype(int)
            )
            close(-2 * fit.log_likelihood, expected, 5e-9)


# openpharma/mmrm tests/testthat/test-empirical.R, SAS PROC MIXED empirical, FEV1 ~ ARMCD: variance of the arm coefficient
EMPIRICAL = {
    "ar1": 0.68196697308307,
    "ar1h": 0.46203608554929,
    "cs": 0.6297163326325,
    "csh": 0.46038132267959,
    "toep": 0.76371849328831,
    "toeph": 0.46360435395588,
    "adh": 0.41552647969341,
    "us": 0.40908637028234,
}


@pytest.mark.parametrize("structure", EMPIRICAL)
def test_empirical_errors_of_sas(fev, structure):
    mine = arm_only(fev, structure, "empirical")
    close(mine.se**2, EMPIRICAL[structure], 1e-4)


def test_other_degrees_of_freedom_of_r_mmrm(fev):
    # openpharma/mmrm tests/testthat/test-between-within.R: 192 for race, 334 for visits
    fit = full_model(fev, method="between-within")
    assert fit.test("factor 0").df_denominator == 192
    assert fit.linear(np.eye(11)[5]).df == 334
    assert full_model(fev, method="residual").contrast(0).df == 537 - 11


def test_an_unstructured_covariance_for_each_arm(fev):
    # openpharma/mmrm, printed summary of FEV1 ~ ARMCD + us(AVISIT | ARMCD / USUBJID): AIC 3702.7, BIC 3768.3
    outcome, arm, *_ = fev
    fit = mmrm(outcome, arm, terms=ARM_ONLY, structure=Covariance("us", by_arm=True))
    assert round(float(fit.aic), 1) == 3702.7 and round(float(fit.bic), 1) == 3768.3
    np.testing.assert_array_equal(fit.covariance[0].round(1), [[110.7, 49.2, -7.0, -47.0], [49.2, 40.1, -2.7, -22.4],
                                                               [-7.0, -2.7, 23.5, 17.7], [-47.0, -22.4, 17.7, 132.0]])  # fmt: skip
    assert fit.fit.parameters == 20

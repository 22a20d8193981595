"""MMRM against R mmrm 0.3.16 and SAS PROC MIXED (published), and R 4.2.2: nlme, lme4, lmerTest, emmeans, clubSandwich.

Where R has no structure, the restricted likelihood was written again in plain R, person by person, its top found with
numDeriv 2016.8 and the degrees of freedom taken by numerical derivatives: good to about 7 digits.
"""

import csv
import json

import numpy as np
import pytest

from quell.analysis.claim import Caution
from quell.analysis.degrees_of_freedom import inference
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


# Plain R (see above), y ~ site + baseline + arm * visit by REML:
# log-likelihood; arm difference at the last visit, its error and df; errors of all coefficients after Kenward-Roger, linear
PLAIN = {
    "us": (-50.61496517, -0.8608306661, 0.5311424225, 13.18064323, [1.33935944, 0.496842193, 0.432649781, 0.249797949, 0.554444307, 0.49464777, 0.531683758, 0.675623526, 0.749108868]),
    "toeph": (-51.1185234, -0.8384828421, 0.524660995, 13.58327411, [1.33206115, 0.47681891, 0.434211241, 0.243034789, 0.586237811, 0.481194493, 0.533148396, 0.657120858, 0.757398612]),
    "toep": (-52.23454099, -0.8146276705, 0.4676807782, 29.25819303, [1.37068583, 0.48412425, 0.41578816, 0.247998079, 0.52556965, 0.482711795, 0.486314954, 0.671078482, 0.683523323]),
    "ar1h": (-51.21393963, -0.8085655158, 0.5233436095, 13.60694855, [1.32349982, 0.47514557, 0.423855382, 0.2406628, 0.571704293, 0.474067265, 0.551922474, 0.649783055, 0.777109278]),
    "ar1": (-52.25767443, -0.8019076633, 0.4689609299, 29.11692383, [1.35759394, 0.478421502, 0.402351733, 0.244360656, 0.509616617, 0.465155012, 0.481629166, 0.650228739, 0.674598646]),
    "csh": (-51.12635797, -0.8337810989, 0.5243530059, 13.64909114, [1.33630882, 0.476176446, 0.425035355, 0.242498299, 0.569614717, 0.462785763, 0.520053728, 0.634533062, 0.736498282]),
    "cs": (-52.24795784, -0.8211789239, 0.4656037413, 31.0866575, [1.30576734, 0.460922177, 0.393518605, 0.235979614, 0.501653643, 0.468312448, 0.459946967, 0.654102653, 0.646260529]),
    "adh": (-50.79135814, -0.8140337023, 0.5285526373, 13.22794399, [1.32703079, 0.492279478, 0.422897194, 0.245559909, 0.553881893, 0.495991063, 0.563954392, 0.678992044, 0.787373327]),
    "ad": (-51.90966455, -0.7939745361, 0.4601075772, 29.54308428, [1.33951185, 0.488712285, 0.404947681, 0.242928026, 0.540349656, 0.534204061, 0.519600442, 0.742134359, 0.718798587]),
}  # fmt: skip


@pytest.mark.parametrize("structure", PLAIN)
def test_structures_against_plain_r(structure):
    log_likelihood, estimate, se, df, linear = PLAIN[structure]
    fit = small(structure)
    last = fit.contrast(2, (1, 0))
    close(fit.log_likelihood, log_likelihood, 1e-9)
    close([last.estimate, last.se, last.df], [estimate, se, df], 3e-6)
    close(small(structure, "kenward-roger-linear").se, linear, 3e-6)


def test_kenward_roger_with_second_derivatives_against_plain_r():
    fit = small("us", "kenward-roger")
    close(fit.se, [1.17934819, 0.441552333, 0.386314135, 0.221158974, 0.515256548, 0.457108695, 0.4666479, 0.622201215, 0.657667737], 3e-6)  # fmt: skip
    close(fit.df, [7.47121428, 8.26425891, 8.81725362, 7.88418707, 7.13090817, 13.6920775, 11.0180195, 13.947168, 12.6647628], 3e-6)  # fmt: skip
    adh = small("adh", "kenward-roger")
    close(adh.se, [1.2336707, 0.462306344, 0.393223857, 0.229141915, 0.518047942, 0.478096476, 0.562681009, 0.654643736, 0.782398903], 3e-6)  # fmt: skip


def test_the_joint_kenward_roger_test_against_plain_r():
    # plain R, unadjusted covariance in the F statistic so that lambda and m are seen: F, m, p
    fit = small("us")
    judged = inference(fit.fit, "kenward-roger-linear")._replace(covariance=fit.fit.covariance)
    from quell.analysis.degrees_of_freedom import f_test

    test = f_test(judged, np.eye(9)[7:])
    close([test.statistic, test.df_denominator, test.p], [0.8434635228, 11.7666377, 0.454652038], 3e-6)


def test_maximum_likelihood_against_plain_r():
    fit = small(Covariance("us", likelihood="ml"))
    close(fit.log_likelihood, -46.93080223, 1e-9)
    close(fit.coefficients, [-1.293222471, 0.6396185167, 0.4743141746, 0.9399332865, -1.121795378, -0.7468296534, -0.2091018089, 0.8019933703, 0.2839364987])  # fmt: skip
    close(fit.se, [0.80214853, 0.290196521, 0.252879496, 0.147017482, 0.431228395, 0.424734599, 0.443045442, 0.590102236, 0.6278112])  # fmt: skip
    close(fit.df, [7.9093916, 7.6719434, 7.86053659, 7.68993771, 9.60104566, 15.2375788, 12.6127226, 14.9598029, 14.8767841], 3e-6)  # fmt: skip


def test_nlme_gls():
    # nlme 3.1-162: gls(y ~ site + bl + arm * v, correlation = corSymm, weights = varIdent), corCompSymm; own optimum ~1e-7
    unstructured, symmetric = small("us"), small("cs")
    close([unstructured.log_likelihood, symmetric.log_likelihood], [-50.61496517, -52.24795784], 1e-9)
    close(unstructured.coefficients, [-1.502919662, 0.6333704942, 0.3985274847, 0.9752928161, -0.9777559667, -0.706775129, -0.1593900227, 0.70167456, 0.1169252325], 1e-6)  # fmt: skip
    # gls divides by its own sigma estimate: its errors, and so the rest, only agree as far as its search went
    close(symmetric.se, [1.297261972, 0.4572318631, 0.3906473253, 0.2347974362, 0.4915501137, 0.4532954916, 0.450742052, 0.6339991292, 0.6286078102], 2e-6)  # fmt: skip


def test_type_three_tests_of_lmertest():
    # lmerTest 3.1-3: anova(lmer(y ~ site + bl + arm * v + (1 | id)), type = 3), the same model as compound symmetry
    fit = small("cs")
    expected = {
        "factor 0": (2, 12.17867449, 0.58207, 0.5735512),
        "covariate 0": (1, 11.48674474, 12.66873, 0.0041941),
        "arm": (1, 10.80820838, 4.42478, 0.0596766),
        "visit": (2, 23.00517997, 1.44233, 0.2569649),
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
        "empirical-bias-reduced": ([0.7640267939, 0.4574538269, 0.3448190537, 0.1381975519, 0.473571411, 0.4338017321, 0.5805794317, 0.6396978699, 0.6682063355],
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
    # plain R on the same data: coefficients, errors, df of Satterthwaite; errors of full Kenward-Roger
    fit = full_model(fev)
    close(fit.log_likelihood, -1693.22493558116, 1e-12)
    close(fit.coefficients, [30.7774065334, 1.5305949550, 5.6435678537, 0.3260272940, 3.7744141678, 4.8396038878, 10.3421671389, 15.0537862805, -0.0420901932, -0.6938070406, 0.6241226224], 2e-6)  # fmt: skip
    close(fit.df, [218.794513, 168.669438, 157.140556, 166.135509, 145.547142, 143.873198, 155.558861, 138.458969, 138.561825, 158.166935, 129.708717], 2e-7)  # fmt: skip
    close(full_model(fev, method="kenward-roger").se, [0.8918351634, 0.6330031500, 0.6740742803, 0.5390222547, 1.0770208123, 0.8041082181, 0.8232892131, 1.3018161089, 1.1317356982, 1.1882794738, 1.8333557425], 3e-6)  # fmt: skip
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

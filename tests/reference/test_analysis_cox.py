"""Cox's model against R 4.2.2, survival 3.5-3: ties, weights, offset, late entry, strata, residuals, robust errors, cox.zph.

The rows are made by formula, here and in R alike; each number is R's, with coxph.control(eps = 1e-13).
"""

import csv
import json

import numpy as np
import pytest

from quell.analysis.claim import Caution
from quell.analysis.cox import Spells, cox, firth, fit, hazard_ratio
from quell.analysis.cox_prediction import predicted_survival
from quell.analysis.cox_robust import residuals
from quell.analysis.proportionality import proportionality, proportionality_of_arms

I = np.arange(24)  # noqa: E741
TIME, EVENT = 1.0 + (I * 7) % 11, (I * 5) % 3 != 0
X = np.stack([np.sin(I), (I % 2 == 0).astype(float)], -1)
ENTRY, WEIGHTS, OFFSET = (I % 4) * 0.5 * (TIME > 2.5), 1 + (I % 3) * 0.5, 0.1 * np.cos(I)
STRATA, PERSON = (I // 2) % 3, I // 2

PLAIN = Spells(TIME, EVENT, X)  # coxph(Surv(time, event) ~ x1 + x2)
# coxph(Surv(entry, time, event) ~ x1 + x2 + offset(off) + strata(s), weights = w, cluster = id)
FULL = Spells(TIME, EVENT, X, ENTRY, STRATA, None, WEIGHTS, OFFSET)


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)


R_PLAIN = {
    "efron": {
        "coef": [-0.152709935683278, 0.097736603247547],
        "se": [0.36073182888301, 0.50125084347759],
        "loglik": [-39.613177522199, -39.509319858460],
        "score": 0.20847700010301,
        "wald": 0.20763669331106,
        "martingale": [-0.089521178427776, 0.308654027631786, 0.649546980149639, -1.726691076769579],
        "score residuals": [
            [-0.0018781091161043, 0.2421676126236612, 0.5674264390196518, 0.0383140521359733],
            [-0.0425994137658509, -0.1396697865578377, 0.3230739683495082, 0.8556338398058100],
        ],
        "schoenfeld": [
            [-0.978747727173617, 0.012391170086683, 0.985902981704191, 0.146421944743761],
            [-0.524121622259694, 0.475878377740306, 0.496755295045001, -0.503244704954999],
        ],
        "zph": {
            "km": [0.102965342883092, 0.035543586359197, 0.111818671055912],
            "identity": [0.0643376427183754, 0.0058136029028534, 0.0643391024422549],
            "rank": [0.0808594038207498, 0.0057305803134702, 0.0810687590037785],
            "log": [0.203435192568873, 0.002492380757676, 0.204415285428704],
        },
    },
    "breslow": {
        "coef": [-0.15189419778994, 0.11205958943230],
        "se": [0.36045693960072, 0.50160630137871],
        "loglik": [-39.937002179530, -39.829324393031],
        "score": 0.21612213710771,
        "wald": 0.2152458876919,
        "martingale": [-0.088060123563939, 0.280942403907467, 0.627752728121816, -1.691901514697084],
        "score residuals": [
            [-0.0028303776003555, 0.2242791412603198, 0.5308498700502121, 0.0430078155158055],
            [-0.0416667663370895, -0.1042255183505877, 0.3099206072397892, 0.8384490107302220],
        ],
        "schoenfeld": [
            [-0.967848784465367, 0.023290112794933, 0.973114947711294, 0.133633910750864],
            [-0.526837294217106, 0.473162705782894, 0.493433176302982, -0.506566823697018],
        ],
        "zph": {
            "km": [0.096155831394757, 0.042557844342973, 0.109292663853927],
            "identity": [0.0599533718647939, 0.0097351326178469, 0.0605255517265868],
            "rank": [0.0756716622135897, 0.0095810673979239, 0.0757837571798871],
            "log": [0.1917589208891241, 0.0051892941315195, 0.1918644681444931],
        },
    },
}
R_FULL = {
    "efron": {
        "coef": [1.73368132180141, 0.26084862399897],
        "naive": [0.6987397232813, 0.5290165983416],
        "robust": [0.55626231472910, 0.49419055513031],
        "loglik": [-51.551213176872, -47.073146659376],
        "score": 8.207207704676,
        "wald": 10.382333583118,
        "martingale": [0, -1.07649701073113, 0.56986247368963, -0.30389413626387, -0.30142179972155, 0.65975098277099],
        "dfbeta": [
            [0, -0.2383168309490675, 0.0030461854692542, 0.0920745906623612],
            [0, 0.0837210281905152, 0.0645097334638656, 0.0571529323963774],
        ],
        "zph": {
            "km": [1.8656016414871, 2.6635483614461, 2.9888313851999],
            "identity": [1.9123763314598, 2.2506248599463, 2.8922498029627],
            "rank": [1.8610325018055, 2.1979412410354, 2.7822943017907],
            "log": [1.8848852035079, 2.9820931911195, 3.3406640024446],
        },
    },
    "breslow": {
        "coef": [1.64799015477756, 0.25363129646652],
        "naive": [0.67658448560980, 0.52300046434877],
        "robust": [0.51346948020837, 0.46060169813592],
        "loglik": [-52.194936256383, -47.953508317087],
        "score": 7.8451301428958,
        "wald": 10.643100479342,
        "martingale": [0, -1.03321921763765, 0.57126458425790, -0.32657233311950, -0.22184837163424, 0.63267207430749],
        "dfbeta": [
            [0, -0.2253520007555558, 0.0038306253153354, 0.0922318432985441],
            [0, 0.0820756918616769, 0.0649028368581750, 0.0603683208619900],
        ],
        "zph": {
            "km": [2.0751808908349, 2.6180621436534, 3.0519871077296],
            "identity": [2.1059940900864, 2.2003179945236, 2.9742629473587],
            "rank": [2.0540740229632, 2.1489702958688, 2.8629675305886],
            "log": [2.1128829146124, 2.9355135389370, 3.4086400490156],
        },
    },
}
ties = pytest.mark.parametrize("ties", ["efron", "breslow"])


@ties
def test_plain(ties):
    r, fitted = R_PLAIN[ties], fit(PLAIN, ties=ties)
    close(fitted.coefficients, r["coef"])
    close(fitted.se, r["se"])
    close(fitted.log_likelihood, r["loglik"])
    close([fitted.score, fitted.wald], [r["score"], r["wald"]])
    close(fitted.likelihood_ratio, 2 * (r["loglik"][1] - r["loglik"][0]), rtol=1e-8)


@ties
def test_residuals(ties):
    r, b = R_PLAIN[ties], fit(PLAIN, ties=ties).coefficients
    close(residuals(PLAIN, b, ties=ties)[:4], r["martingale"])
    close(residuals(PLAIN, b, "score", ties=ties)[:4].T, r["score residuals"])
    schoenfeld = residuals(PLAIN, b, "schoenfeld", ties=ties)[np.argsort(TIME, kind="stable")]
    close(schoenfeld[np.isfinite(schoenfeld[:, 0])][:4].T, r["schoenfeld"])


@ties
def test_weights_offset_entry_strata_and_clusters(ties):
    # R's robust score test is left out here: with an offset it is taken at x'b = 0 without it
    r, fitted = R_FULL[ties], fit(FULL, ties=ties, cluster=PERSON)
    close(fitted.coefficients, r["coef"])
    close(np.sqrt(np.diag(fitted.naive)), r["naive"])
    close(fitted.se, r["robust"])
    close(fitted.log_likelihood, r["loglik"])
    close([fitted.score, fitted.wald], [r["score"], r["wald"]])
    close(residuals(FULL, fitted.coefficients, ties=ties)[:6], r["martingale"])
    close(residuals(FULL, fitted.coefficients, "dfbeta", ties=ties)[:4].T, r["dfbeta"])
    assert fitted.warnings & Caution.FEW_CLUSTERS


@ties
@pytest.mark.parametrize("transform", ["km", "identity", "rank", "log"])
def test_proportional_hazards(ties, transform):
    for spells, r in ((PLAIN, R_PLAIN), (FULL, R_FULL)):
        test = proportionality(spells, fit(spells, ties=ties), transform)
        close([*test.chi_square, test.global_chi_square], r[ties]["zph"][transform], rtol=1e-8)
        assert test.global_df == 2


@pytest.fixture(scope="module")
def lung(reference_data):
    with (reference_data / "survival" / "lung.csv").open() as lines:
        table = list(csv.DictReader(lines))
    wanted = ("time", "status", "age", "sex", "ph.ecog", "inst")
    return {name: np.array([float(row[name]) if row[name] else np.nan for row in table]) for name in wanted}


def lung_rows(lung, strata=None):
    names = ["age", "sex"] if strata else ["age", "sex", "ph.ecog"]
    x = np.stack([lung[name] for name in names], -1)
    return Spells(lung["time"], lung["status"] == 2, x, strata=lung["ph.ecog"] if strata else None)


def test_one_robust_error_for_each_patient(lung):
    # coxph(Surv(time, status == 2) ~ age + sex + ph.ecog, lung, robust = TRUE)
    fitted = fit(lung_rows(lung), cluster=np.arange(228))
    close(fitted.se, [0.009881392780091, 0.164748427952080, 0.124158848613175])
    close([fitted.robust_score, fitted.wald], [27.426295857874, 23.802291423808], rtol=1e-8)
    assert fitted.warnings == Caution.MISSING
    breslow = fit(lung_rows(lung), ties="breslow", cluster=np.arange(228))
    close(breslow.coefficients, [0.011041136349488, -0.551889569787597, 0.462947040590164], rtol=1e-8)
    close(breslow.se, [0.0098614061933534, 0.1644835494170828, 0.1239634527786107])
    close(breslow.log_likelihood, [-744.69281926616, -729.48870517677])


def test_zph_of_lung(lung, reference_data):
    rows = lung_rows(lung)
    test = proportionality(rows, fit(rows))
    expected = json.loads((reference_data / "reference" / "survival_and_boundaries.json").read_text())["lung_zph"]
    close([*test.chi_square, test.global_chi_square], [row["chisq"] for row in expected], rtol=1e-8)
    close([*test.p, test.global_p], [row["p"] for row in expected], rtol=1e-8)
    by_log = proportionality(rows, fit(rows), "log")
    close([*by_log.chi_square], [3.37363401089743, 2.03493687835781, 0.37049632473415], rtol=1e-8)
    stratified = lung_rows(lung, strata=True)
    test = proportionality(stratified, fit(stratified))
    # cox.zph(coxph(Surv(time, status == 2) ~ age + sex + strata(ph.ecog), lung))
    close(
        [*test.chi_square, test.global_chi_square], [0.016163632460843, 2.299948592982875, 2.314302203404534], rtol=1e-8
    )


def test_hazards_that_cross_raise_the_caution():
    arm = np.repeat([0, 1], 40)
    time = np.where(arm == 1, 100 + np.arange(80) % 40, 1 + 7 * (np.arange(80) % 40))
    test = proportionality_of_arms(time, np.ones(80), arm)
    doubted = test.doubt(hazard_ratio(time, np.ones(80), arm))
    assert test.p[0] < 0.001 and doubted.warnings & Caution.NON_PROPORTIONAL
    assert (
        not proportionality_of_arms(time, np.ones(80), np.arange(80) % 2).doubt(doubted._replace(warnings=0)).warnings
    )


def test_firth_with_walds_interval_is_the_same_peak():
    penalised, walds = (firth(TIME, EVENT, X, interval=one) for one in ("profile", "wald"))
    close(walds.coefficients, penalised.coefficients)
    close(walds.upper - walds.lower, 2 * 1.959963984540054 * walds.se)


def firth_by_definition(time, event, x, b):
    """Breslow's log likelihood + log det(information) / 2, subject by subject, with no code shared."""
    height, information = 0.0, 0.0
    for t, row in zip(time[event], x[event], strict=True):
        seen = x[time >= t]
        weight = np.exp(seen @ b)
        mean = weight @ seen / weight.sum()
        height += row @ b - np.log(weight.sum())
        information = information + (seen - mean).T @ (weight[:, None] * (seen - mean)) / weight.sum()
    return height + np.linalg.slogdet(information)[1] / 2


def test_firth_with_ties_as_coxphf_breaks_them():
    fitted = firth(TIME, EVENT, X, ties="breslow")
    close(fitted.log_likelihood[1], firth_by_definition(TIME, EVENT, X, fitted.coefficients), rtol=1e-12)
    for change in ([1e-4, 0], [-1e-4, 0], [0, 1e-4], [0, -1e-4]):
        assert firth_by_definition(TIME, EVENT, X, fitted.coefficients + change) < fitted.log_likelihood[1]
    for nudge in np.eye(2) * 1e-3:
        ahead, behind = (firth_by_definition(TIME, EVENT, X, fitted.coefficients + way * nudge) for way in (1, -1))
        assert abs(ahead - behind) / 2e-3 < 1e-5


def test_weights_are_copies_of_subjects_for_breslow():
    # with Breslow's ties a subject of weight 2 is two subjects
    weights = 1.0 + I % 2
    twice = np.repeat(I, weights.astype(int))
    one = fit(Spells(TIME, EVENT, X, weights=weights), ties="breslow")
    other = cox(TIME[twice], EVENT[twice], X[twice], ties="breslow")
    close(one.coefficients, other.coefficients)
    close(one.se, other.se)


# summary(survfit(coxph(Surv(entry, time, event) ~ x1 + x2, weights = w, robust = ...), data.frame(x1 = 0.3, x2 = 1)), 8)
PREDICTED = [
    ("efron", False, "log", [0.3431053015177, 0.1098120007055, 0.1832303977370, 0.6424766271506]),
    ("efron", False, "log-log", [0.3431053015177, 0.1098120007055, 0.1461907733983, 0.5515038095519]),
    ("breslow", False, "plain", [0.3532459125249, 0.1100776415724, 0.1374976995399, 0.5689941255099]),
    ("efron", True, "log", [0.3431053015177, 0.1167959218692, 0.1760642922558, 0.6686264796868]),
    ("breslow", True, "log-log", [0.3532459125249, 0.1152487952960, 0.1460526032302, 0.5695760466214]),
]


@pytest.mark.parametrize(("ties", "robust", "interval", "expected"), PREDICTED)
def test_predicted_survival(ties, robust, interval, expected):
    rows = Spells(TIME, EVENT, X, ENTRY, weights=WEIGHTS)
    fitted = fit(rows, ties=ties, cluster=I if robust else None)
    found = predicted_survival(rows, fitted, np.array([0.3, 1.0]), 8, interval=interval)
    close([found.estimate, found.se, found.lower, found.upper], expected)
    pair = Spells(*(None if field is None else np.stack([field] * 2) for field in rows))
    both = predicted_survival(pair, fit(pair, ties=ties), np.array([0.3, 1.0]), 8, interval=interval)
    close(both.estimate, [expected[0]] * 2)


# a robust score test without an offset: coxph(Surv(entry, time, event) ~ x1 + x2 + strata(s), cluster = id)$rscore
@pytest.mark.parametrize(("ties", "expected"), [("efron", 6.1107334861854), ("breslow", 6.2114660301584)])
def test_robust_score_test(ties, expected):
    close(fit(FULL._replace(offset=None), ties=ties, cluster=PERSON).robust_score, expected)

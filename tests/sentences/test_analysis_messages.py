"""What claims say, and what is said to someone who asks for an impossible one."""

import json

import numpy as np
import pytest

from quell.analysis import cox, means, survival
from quell.analysis.claim import SENTENCES, Caution, Claim, ClaimError, Claims, cautions, claim_from, critical
from quell.analysis.proportions import Tally, proportion, risk_difference

ARMS = ("aldesleukin", "placebo")


def claim(**changes):
    fields = {"name": "TBRmax", "method": "ANCOVA", "estimate": -0.17, "se": 0.07, "lower": -0.31, "upper": -0.03,
              "p": 0.0152, "n": 60, "arms": ARMS}  # fmt: skip
    return Claim(**(fields | changes))


SAID = [
    ({}, "aldesleukin minus placebo = -0.17 (-0.31 to -0.03), p = 0.015, n = 60"),
    ({"p": 0.00004}, "aldesleukin minus placebo = -0.17 (-0.31 to -0.03), p < 0.001, n = 60"),
    ({"unit": "mg/L", "p": None}, "aldesleukin minus placebo = -0.17 mg/L (-0.31 to -0.03), n = 60"),
    ({"level": 0.9}, "aldesleukin minus placebo = -0.17 (90 % interval -0.31 to -0.03), p = 0.015, n = 60"),
    ({"arms": None, "lower": None, "upper": None}, "TBRmax = -0.170 (standard error 0.07), p = 0.015, n = 60"),
    ({"estimate": -0.004, "lower": -0.2, "upper": 0.2}, "aldesleukin minus placebo = 0.00 (-0.20 to 0.20), p = 0.015, n = 60"),
    (
        {"scale": "hazard ratio", "estimate": 0.4512, "lower": 0.0987, "upper": 1.02},
        "aldesleukin over placebo, hazard ratio = 0.45 (0.099 to 1.02), p = 0.015, n = 60",
    ),
    (
        {"scale": "risk difference", "estimate": -0.111, "lower": -0.282, "upper": 0.0185},
        "aldesleukin minus placebo, risk difference = -0.11 (-0.28 to 0.02), p = 0.015, n = 60",
    ),
    (
        {"name": "death", "method": "log-rank test", "estimate": None, "se": None, "lower": None, "upper": None,
         "statistic": 60.2696, "df": 2, "p": 1e-9, "n": 254, "arms": None},
        "death: log-rank test, statistic = 60.27 on 2 degrees of freedom, p < 0.001, n = 254",
    ),
    (
        {"estimate": np.nan, "se": np.nan, "lower": np.nan, "upper": np.nan, "p": np.nan, "warnings": ("Too few.",)},
        "aldesleukin minus placebo: not estimable, n = 60",
    ),
    (
        {"name": "median survival", "estimate": 426.0, "lower": 348.0, "upper": np.inf, "se": None, "p": None,
         "arms": None, "unit": "days"},
        "median survival = 426 days (348 to not reached), n = 60",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), SAID)
def test_a_claim_is_one_sentence(changes, sentence):
    assert str(claim(**changes)) == sentence


REFUSED = [
    ({"se": None, "lower": None}, "has no error"),
    ({"n": -1}, "whole number of patients"),
    ({"n": 3.5}, "whole number of patients"),
    ({"p": 1.2}, "between 0 and 1"),
    ({"se": -1.0}, "cannot be negative"),
    ({"lower": 0.4}, "out of order"),
    ({"method": ""}, "names no method"),
    ({"name": ""}, "needs a name"),
    ({"level": 95}, "between 0 and 1"),
    ({"estimate": np.array([1.0, 2.0])}, "take one row of a batch"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_a_claim_without_its_error_or_n_is_refused(changes, words):
    with pytest.raises(ClaimError, match=words):
        claim(**changes)


def test_a_claim_becomes_plain_json():
    told = claim(upper=np.inf, counts=(("aldesleukin", 3), ("placebo", 5)), statistic=np.nan).to_dict()
    keys = [
        "name",
        "estimand",
        "method",
        "estimate",
        "se",
        "lower",
        "upper",
        "level",
        "statistic",
        "df",
        "p",
        "n",
        "unit",
        "warnings",
    ]
    assert list(told)[: len(keys)] == keys and set(told) - set(keys) == {
        "role",
        "scale",
        "arms",
        "counts",
        "adjusted_p",
    }
    assert (
        told["upper"] is None and told["statistic"] is None and told["counts"] == [["aldesleukin", 3], ["placebo", 5]]
    )
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_claims_are_found_by_name_and_near_names_are_offered():
    claims = Claims([claim(), claim(name="hsCRP")])
    assert claims["hsCRP"].name == "hsCRP" and len(claims) == 2 and [one.name for one in claims] == ["TBRmax", "hsCRP"]
    with pytest.raises(KeyError, match="did you mean 'TBRmax'"):
        claims["TBR max"]
    with pytest.raises(KeyError, match="there are: TBRmax, hsCRP"):
        claims["zzz"]
    with pytest.raises(ClaimError, match="Two claims are named 'TBRmax'"):
        Claims([claim(), claim()])


def test_every_caution_has_a_sentence():
    assert set(SENTENCES) == set(Caution)
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in SENTENCES.values())
    assert cautions(0) == ()


def test_a_claim_carries_the_cautions_of_its_estimate():
    counts = Tally(np.array(0), np.array(28), np.array(3), np.array(27))
    made = claim_from(risk_difference(counts), name="events", method="Miettinen-Nurminen", scale="risk difference")
    assert made.warnings == cautions(Caution.ARM_WITHOUT_EVENTS | Caution.FEW_EVENTS)


Y, ARM, DAY = np.arange(6.0), np.array([0, 0, 0, 1, 1, 1]), np.arange(6.0) + 1
ASKED = [
    (lambda: means.ancova(Y, ARM, covariates=Y), "give covariates as"),
    (lambda: means.ancova(Y, ARM[:5]), "do not fit together"),
    (lambda: means.ancova(Y, ARM, contrast=(1, 1)), "two different arm codes"),
    (lambda: means.ancova(Y, np.array(list("aabbcc"))), "number the labels first"),
    (lambda: means.ancova(Y, ARM, covariance="HC9"), "choose 'classical', 'HC0'"),
    (lambda: means.ls_means(Y, ARM, factors=[ARM[:3]]), "do not fit together"),
    (lambda: survival.logrank(DAY, ARM[:4], ARM), "do not fit together"),
    (lambda: survival.kaplan_meier(DAY, ARM, interval="wilson"), "'log-log', 'log', 'plain', 'logit' or 'arcsine'"),
    (lambda: survival.one_step_ratio(survival.logrank(DAY, ARM, np.arange(6) % 3)), "compares two arms"),
    (lambda: cox.cox(DAY, ARM, Y), "give covariates as"),
    (lambda: cox.hazard_ratio(DAY, ARM, ARM, method="exact"), "'auto', 'cox' or 'firth'"),
    (lambda: proportion(np.array(5), np.array(3)), "events first, then patients"),
    (lambda: risk_difference(Tally(1, 5, 2, 5), method="walled"), "choose 'miettinen-nurminen', 'mee', 'newcombe'"),
    (lambda: critical(95), "for example 0.95"),
    (lambda: claim_from(means.ancova(np.stack([Y, Y]), ARM), name="x", method="y"), "take .row"),
]


@pytest.mark.parametrize(("ask", "words"), ASKED)
def test_a_mistake_is_answered_with_a_sentence(ask, words):
    with pytest.raises(ClaimError, match=words):
        ask()

"""What a user reads when a question about missing data cannot be answered, and what an answer says of itself."""

import numpy as np
import pytest

from quell.analysis import strategies
from quell.analysis.claim import ClaimError, cautions, claim_from
from quell.analysis.follow_up import FollowUp
from quell.analysis.imputation import impute
from quell.analysis.missing import conditional_mean
from quell.analysis.pooling import rubin
from quell.analysis.reference_based import Assumption
from quell.analysis.tipping import delta_response, tipping_point

Y = np.array([[1.0, 2], [2, 2.5], [1.5, 2.2], [0.5, 1], [3, np.nan], [2, 3], [1, 0.5], [2, 2]])
ARM = np.arange(8) % 2
DATA = FollowUp(Y, ARM)
ASKED = [
    (lambda: conditional_mean(DATA, Assumption("LOCF")), "choose 'MAR', 'J2R', 'CR', 'CIR', 'LMCF'"),
    (lambda: conditional_mean(DATA, Assumption(covariance="AR(1)")), "'pooled' or 'by arm'"),
    (lambda: conditional_mean(DATA, visit=2), "Visit 2 is asked for, but there are 2"),
    (lambda: conditional_mean(FollowUp(Y[:, 0], ARM)), "one row per subject and one column"),
    (lambda: conditional_mean(FollowUp(Y, np.array(list("abababab")))), "number the labels first"),
    (lambda: conditional_mean(FollowUp(Y, ARM[:5])), "do not fit together"),
    (lambda: conditional_mean(FollowUp(Y, ARM, np.arange(8.0))), "also where there is only one"),
    (lambda: conditional_mean(DATA._replace(affected=np.full(8, 0.5))), "is a whole number: 0 for the first"),
    (lambda: conditional_mean(DATA._replace(affected=np.full(8, -1))), "NaN \\(or the number of visits\\)"),
    (lambda: conditional_mean(DATA._replace(affected=np.zeros(3))), "one number per subject"),
    (lambda: conditional_mean(DATA, contrast=(1, 1)), "two different arm codes"),
    (lambda: conditional_mean(DATA, Assumption("J2R", delta=np.zeros(3))), "delta has shape"),
    (lambda: impute(DATA, imputations=0, key=1), "both are at least 1"),
    (lambda: tipping_point(DATA, imputations=5), "give a key, for example key=2026"),
    (lambda: tipping_point(DATA, arms="placebo"), "choose 'active', 'control', 'both'"),
    (lambda: delta_response(DATA).tipping("all"), "choose 'active', 'control', 'both'"),
    (lambda: rubin(np.ones(3), np.ones(2)), "one value per imputed data set"),
    (lambda: strategies.strategy("principal stratum"), "who they are is not observed"),
    (lambda: strategies.strategy("per protocol"), "choose 'treatment policy', 'hypothetical'"),
    (lambda: strategies.composite_trimmed(Y[:, 0], ARM, ARM, better="more"), "say 'lower' or 'higher'"),
]


@pytest.mark.parametrize(("ask", "words"), ASKED)
def test_a_mistake_is_answered_with_a_sentence(ask, words):
    with pytest.raises(ClaimError, match=words):
        ask()


def test_an_assumption_about_the_unseen_is_said_with_the_estimate():
    claim = claim_from(
        conditional_mean(DATA, Assumption("J2R")), name="TBRmax", method="conditional mean, J2R, jackknife"
    )
    assert claim.warnings == (
        "Values never observed were imputed under the stated assumption, which the data cannot check.",
    )


def test_a_result_without_significance_says_that_there_is_nothing_to_tip():
    found = tipping_point(DATA)
    assert any("nothing" in one or "can tip it" in one for one in cautions(int(found.warnings)))

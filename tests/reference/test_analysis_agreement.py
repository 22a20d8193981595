"""Agreement against Shrout and Fleiss (1979), R 4.2.2: psych 2.2.9, epiR 2.0.57, and formulas written out in base R."""

import numpy as np
import pytest

from quell.analysis.agreement import FORMS, concordance, intraclass, kappa, mean_squares, repeatability
from quell.analysis.method_comparison import (
    deming,
    limits_of_agreement,
    limits_with_repeats,
    passing_bablok,
    proportional_bias,
)

# Shrout and Fleiss 1979, Table 2: six subjects, four judges
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
ROW = np.arange(15)
X = 1.2 + ((ROW * 7) % 15) / 5
Y = X + (((ROW * 4) % 7) - 3) / 20 + 0.03 * X
Y2 = X + (((ROW * 5) % 11) - 5) / 25
X2 = X + (((ROW * 3) % 5) - 2) / 30

# form: coefficient, F, df, df2, p, lower, upper. psych::ICC(lmer = FALSE)
PSYCH = {
    "judges": {
        "1,1": (0.165741768405, 1.79467849224, 5, 0.164768808345, -0.132932324875, 0.722560062328),
        "2,1": (0.289763779528, 11.0272479564, 5, 0.000134566516484, 0.0187865133747, 0.761084369649),
        "3,1": (0.714840714841, 11.0272479564, 5, 0.000134566516484, 0.342464765034, 0.945858259955),
        "1,k": (0.442797133679, 1.79467849224, 5, 0.164768808345, -0.884442155238, 0.912415420341),
        "2,k": (0.620050547599, 11.0272479564, 5, 0.000134566516484, 0.0711368153025, 0.927232040168),
        "3,k": (0.909315542377, 11.0272479564, 5, 0.000134566516484, 0.675674713816, 0.985891678169),
    },
    "made": {
        "1,1": (0.989095798833, 273.123317511, 14, 1.21347768965e-27, 0.974753950509, 0.995990783038),
        "2,1": (0.98909994259, 305.026215461, 14, 9.25672569938e-27, 0.973949285757, 0.996041024566),
        "3,1": (0.990228847411, 305.026215461, 14, 9.25672569938e-27, 0.977005726621, 0.996430339171),
        "1,k": (0.996338650214, 273.123317511, 14, 1.21347768965e-27, 0.991440589299, 0.998660012813),
        "2,k": (0.996340051766, 305.026215461, 14, 9.25672569938e-27, 0.991162954352, 0.998676849308),
        "3,k": (0.996721593262, 305.026215461, 14, 9.25672569938e-27, 0.992215915969, 0.99880727464),
    },
}


def close(found, expected, rtol=1e-9):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


def test_every_printed_digit_of_shrout_and_fleiss():
    """Table 4: 0.17, 0.29, 0.71, 0.44, 0.62, 0.91; Table 3: mean squares 11.24, 6.26, 32.49, 1.02."""
    assert [round(float(intraclass(JUDGES, form).estimate), 2) for form in FORMS] == [
        0.17,
        0.29,
        0.71,
        0.44,
        0.62,
        0.91,
    ]
    squares = mean_squares(JUDGES)
    found = [round(float(one), 2) for one in (squares.subjects, squares.within, squares.raters, squares.rest)]
    assert found == [11.24, 6.26, 32.49, 1.02]


@pytest.mark.parametrize("form", FORMS)
def test_intraclass_correlations_are_psychs(form):
    for name, ratings in (("judges", JUDGES), ("made", np.stack([X, Y, Y2], -1))):
        found = intraclass(ratings, form)
        numbers = [found.estimate, found.statistic, found.df, found.p, found.lower, found.upper]
        close(numbers, PSYCH[name][form])


def test_concordance_is_epirs():
    found = concordance(X, Y)
    close([found.estimate, found.lower, found.upper], [0.989231972218, 0.971857886329, 0.995902116472])


def test_limits_of_agreement_are_bland_and_altmans_and_carkeets():
    """t.test(x - y); qt(p, n - 1, ncp = z sqrt(n)) / sqrt(n); sd sqrt(1 / n + z^2 / (2 (n - 1)))."""
    found = limits_of_agreement(X, Y)
    bias = [found.bias.estimate, found.bias.se, found.bias.lower, found.bias.upper, found.bias.p]
    close(bias, [-0.068, 0.0299109790322, -0.132152669651, -0.00384733034908, 0.0392786080096])
    upper = [found.upper.estimate, found.upper.lower, found.upper.upper]
    close(upper, [0.159051486174, 0.0804587564867, 0.31060377162])
    lower = [found.lower.estimate, found.lower.lower, found.lower.upper]
    close(lower, [-0.295051486174, -0.44660377162, -0.216458756487])
    near = limits_of_agreement(X, Y, interval="approximate").upper
    close([near.lower, near.upper], [0.0468682139185, 0.271234758429])
    slope = proportional_bias(X, Y)
    close(
        [slope.estimate, slope.se, slope.statistic, slope.p],
        [-0.0598450472352, 0.0307046579338, -1.94905435404, 0.0731999347888],
    )


def test_limits_with_repeats_are_bland_and_altmans():
    """Variances of means and within subjects written out; anova(lm(difference ~ subject)) for pairs."""
    first, second = np.stack([X, X2], -1), np.stack([Y, Y2], -1)
    same, pairs = (limits_with_repeats(first, second, pairs=pairs) for pairs in (False, True))
    close([same.bias.estimate, same.sd], [-0.0326666666667, 0.129502282875])
    close([pairs.bias.estimate, pairs.sd], [-0.0326666666667, 0.126902224579])
    # with one reading each, both are the limits without repeats
    plain = limits_of_agreement(X, Y)
    for pairs in (False, True):
        one = limits_with_repeats(X[:, None], Y[:, None], pairs=pairs)
        close([one.lower.estimate, one.upper.estimate], [plain.lower.estimate, plain.upper.estimate])


# intercept, slope; their errors; lower; upper. R 4.2.2: leave-one-out fits and pseudo-values written out, t on n - 2
DEMING = {
    1.0: (-0.0929043594315, 1.06188629209, 0.0843378216954, 0.0317639839717,
          -0.275105145977, 0.993264376712, 0.0892964271137, 1.13050820747),
    2.5: (-0.0999873445008, 1.06461051712, 0.0837077503196, 0.0317985583315,
          -0.280826944594, 0.995913908376, 0.0808522555928, 1.13330712586),
}  # fmt: skip


@pytest.mark.parametrize("error_ratio", DEMING)
def test_deming_and_its_jackknife(error_ratio):
    line = deming(X, Y, error_ratio=error_ratio)
    found = [getattr(one, name) for name in ("estimate", "se", "lower", "upper") for one in line]
    close(found, DEMING[error_ratio])


def test_passing_and_bablok_by_every_pair():
    """R 4.2.2: all slopes listed, sorted and counted as in the paper."""
    line = passing_bablok(X, Y)
    found = [line.slope.estimate, line.slope.lower, line.slope.upper]
    found += [line.intercept.estimate, line.intercept.lower, line.intercept.upper]
    np.testing.assert_allclose(found, [1.03, 0.922857142857, 1.12375, 0, -0.2625, 0.328571428571], atol=1e-11)


def test_repeatability_is_the_pooled_spread():
    """R 4.2.2: sqrt(mean(apply(m, 1, var))), qchisq, the same of logarithms."""
    found = repeatability(np.stack([X, X2, Y2], -1))
    within = [found.within_sd.estimate, found.within_sd.lower, found.within_sd.upper, found.coefficient.estimate]
    close(within, [0.0766328427803, 0.0612382202041, 0.102433079232, 0.21241149976])
    rms = [found.cv_rms.estimate, found.cv_rms.lower, found.cv_rms.upper]
    close(rms, [0.0423433026783, 0.0210642967621, 0.0560553830183])
    logs = [found.cv_log.estimate, found.cv_log.lower, found.cv_log.upper]
    close(logs, [0.0437543792129, 0.0348136105887, 0.0589119912017])


# weights: kappa, its error (psych::cohen.kappa), its error under chance (Fleiss, Cohen and Everitt 1969, written out)
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("none", (0.6, 0.169915011435, 0.181352940116)),
        ("linear", (0.615384615385, 0.177733811851, 0.199934242970)),
        ("quadratic", (0.631578947368, 0.209164407943, 0.256884283758)),
    ],
)
def test_kappa_is_psychs(weights, expected):
    first = (ROW * 7) % 3
    second = np.where(ROW % 4 == 0, (first + 1) % 3, first)
    found = kappa(first, second, weights=weights)
    close([found.estimate, found.se, found.estimate / found.statistic], expected)

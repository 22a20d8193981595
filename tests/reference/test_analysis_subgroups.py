"""Subgroup effects and interactions against R 4.2.2: lm, emmeans 1.8.4, survival 3.5-3 (coxph), base R."""

import numpy as np

from quell.analysis import subgroups
from quell.analysis.arm_model import ByArm, arm_model
from quell.analysis.measured_baseline import corrected_slope, oldham

ROW = np.setdiff1d(np.arange(48), [0, 3, 12, 13, 25, 29, 40])
ARM, SITE = ROW % 3, (ROW * 7) // 3 % 4
X, Z = 1.5 + ((ROW * 37) % 23) / 10, ((ROW * 11) % 13) / 4
Y = 2 + 0.4 * ARM + 0.9 * X + 0.35 * ARM * X * 0.5 + 0.3 * SITE + (((ROW * 29) % 17) - 8) / 9 * (1 + 0.3 * ARM)
TIME, EVENT = 5 + ((ROW * 17) % 29) + X, (ROW * 13) % 7 != 0


def close(found, expected, rtol=1e-9):
    np.testing.assert_allclose(np.concatenate([np.ravel(one) for one in found]), expected, rtol=rtol)


def test_a_forest_of_means_is_emmeans_by_site():
    """pairs(emmeans(lm(y ~ arm * site + x), "arm", by = "site")), arm 2 minus 0; Wald F test of arm2:site."""
    rows = subgroups.forest_of_means(Y, ARM, SITE, contrast=(2, 0), covariates=X[:, None])
    expected = [
        *(2.02567912875, 1.51149045332, 1.51815711999, 1.88100424297),
        *(0.736767944621, 0.586684930902, 0.586684930902, 0.677234135889),
        *(0.0103370923278, 0.015550990655, 0.0151448959698, 0.00966470663122),
    ]
    close([rows.effects.estimate, rows.effects.se, rows.effects.p], expected)
    test = rows.interaction
    close([test.statistic, test.df, test.p], [0.156383962273, 3, 0.924686519137])
    assert rows.effects.n.tolist() == [6, 8, 8, 6] and rows.levels == (0, 1, 2, 3)


def test_a_forest_of_hazards_is_coxph():
    """coxph(Surv(t, ev) ~ g + arm:g + x) among arms 0 and 2; anova against coxph(~ g + arm + x)."""
    rows = subgroups.forest_of_hazards(TIME, EVENT, ARM, SITE % 2, contrast=(2, 0), covariates=X[:, None])
    expected = [0.768257890837, 0.679269377392, 0.613000162167, 0.67944676062, 0.667148487123, 0.569224008663]
    close([rows.effects.estimate, rows.effects.se, rows.effects.p], expected, rtol=1e-7)
    test = rows.interaction
    close([test.statistic, test.df, test.p], [0.0181579152247, 1, 0.892808504543], rtol=1e-6)
    assert rows.effects.n.tolist() == [14, 14]


def test_a_forest_of_risks_is_its_tables():
    """Cochran's Q of the four strata of test_analysis_proportions, from people: R 4.2.2, formula written out."""
    events, sizes = [(12, 6), (5, 7), (20, 11), (0, 2)], [(30, 28), (14, 16), (41, 38), (6, 7)]
    happened, arm, group = [], [], []
    for code, (x, n) in enumerate(zip(events, sizes, strict=True)):
        for side, active in enumerate((1, 0)):
            happened += [1.0] * x[side] + [0.0] * (n[side] - x[side])
            arm += [active] * n[side]
            group += [code] * n[side]
    people = (np.array(happened), np.array(arm), np.array(group))
    for scale, expected in (
        ("difference", [7.41079961834, 3, 0.0598952352707]),
        ("ratio", [2.17818093669, 2, 0.33652243236]),
        ("odds ratio", [5.33394822322, 3, 0.14891464863]),
    ):
        rows = subgroups.forest_of_risks(*people, scale=scale)
        close([rows.interaction.statistic, rows.interaction.df, rows.interaction.p], expected)
    assert rows.effects.n.tolist() == [58, 30, 79, 13]


def test_the_effect_along_a_covariate_is_emmeans_with_potthoffs_band():
    """lm(y ~ arm * x + z), arm 2 minus 0 at x = 1.5, 2.5, 3.5; band sqrt(2 qf(0.95, 2, df)); boundaries by polyroot."""
    model = arm_model(Y, ARM, covariates=np.stack([X, Z], -1), by_arm=ByArm((0,)))
    found = subgroups.effect_along(model, np.array([1.5, 2.5, 3.5]), contrast=(2, 0))
    effect = found.effect
    expected = [
        *(1.15915807742, 1.61042077537, 2.06168347332, 0.601518708019, 0.298856715896, 0.473397156039),
        *(-0.0632750142076, 1.00307085542, 1.09962470224, 2.38159116904, 2.21777069532, 3.02374224441),
    ]
    close([effect.estimate, effect.se, effect.lower, effect.upper], expected)
    expected = [-0.380517856976, 0.845452891309, 0.849953565597, 2.69883401181, 2.37538865943, 3.27341338105]
    close([found.lower_band, found.upper_band], expected)
    close([found.boundaries], [1.55056063493, 6.17572591976])


def test_the_slope_the_effect_and_the_boundary_are_one_line():
    model = arm_model(Y, ARM, covariates=X[:, None], by_arm=ByArm((0,)))
    ends = subgroups.effect_along(model, np.array([0.0]), contrast=(2, 0)).boundaries
    touching = subgroups.effect_along(model, ends, contrast=(2, 0)).effect
    nearest = np.minimum(np.abs(touching.lower), np.abs(touching.upper))
    np.testing.assert_allclose(nearest, 0, atol=1e-9)


def test_oldham_is_cor_test():
    """cor.test(y - x, (y + x) / 2)"""
    found = oldham(Y, X)
    expected = [0.643895121982, 5.57478921468e-06, 0.419307172764, 0.794215707334]
    close([found.estimate, found.p, found.lower, found.upper], expected)


def test_blomqvists_slope_is_the_formula():
    """R 4.2.2: b from lm(y - x ~ x), k = 0.1 / var(x), (b + k) / (1 - k), delta method written out."""
    found = corrected_slope(Y, X, 0.1)
    close([found.estimate, found.se], [0.455779634305, 0.322553643201])

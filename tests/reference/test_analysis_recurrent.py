"""Recurrent events against R 4.2.2: survival 3.5-3 (AG, LWYY, PWP, WLW, survfit(id=)), mets (death), MASS, sandwich.

Days are made by formula, here and in R alike; each number is R's, with its control's eps at 1e-12.
"""

import csv

import numpy as np
import pytest

from quell.analysis import mean_cumulative as mcf
from quell.analysis import negative_binomial as nb
from quell.analysis import recurrent
from quell.analysis.claim import Caution
from quell.analysis.cox import Spells, fit

I = np.arange(30)  # noqa: E741
ARM, X = I % 2, np.stack([I % 2, np.sin(I)], -1)
NUMBER, UNTIL = (I * 7 + I // 3) % 4, 60.0 + (I * 17) % 41
DAYS = np.full((30, 3), np.inf)
for person in I:
    DAYS[person, : NUMBER[person]] = np.sort(5 + (person * 13 + np.arange(1, 4) * 29) % 67)[: NUMBER[person]]
ROWS = recurrent.episodes(DAYS, UNTIL)
COUNT = np.array([0, 8, 2, 3, 10, 0, 0, 8, 2, 3, 10, 0, 0, 8, 2, 3, 10, 0, 0, 8, 2, 3, 10, 0, 0, 8, 2, 3, 10, 0])

# R's glm and glm.nb stop when the deviance no longer changes, some steps before their coefficients do
GLM = 1e-7


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-12)


def test_the_rows_are_those_of_r():
    assert (ROWS.event.sum(), ROWS.include.sum(), ROWS.people) == (40, 70, 30)


@pytest.mark.parametrize(
    ("ties", "coef", "naive", "robust"),
    [
        (
            "efron",
            [0.54466065335242, 1.08997489232717],
            [0.32710577707957, 0.28850278682391],
            [0.17601246425324, 0.21059637054342],
        ),
        (
            "breslow",
            [0.54771938304973, 1.08737811039167],
            [0.32714191534772, 0.28866473657021],
            [0.17590350696877, 0.21015355618571],
        ),
    ],
)
def test_andersen_gill_and_lwyy(ties, coef, naive, robust):
    rates, intensity = recurrent.lwyy(ROWS, X, ties=ties), recurrent.andersen_gill(ROWS, X, ties=ties)
    close(rates.coefficients, coef)
    close(rates.se, robust)
    close(intensity.se, naive)


def test_rate_ratio_of_two_arms():
    ratio = recurrent.rate_ratio(ROWS, ARM)
    close([np.log(ratio.estimate), ratio.se], [0.52042453776816, 0.28407647232638])
    assert ratio.n == 30 and ratio.warnings == 0


def test_prentice_williams_peterson():
    total = recurrent.prentice_williams_peterson(ROWS, X)
    close(total.coefficients, [0.90169921393365, 1.25583344843467])
    close(total.se, [0.34720740725727, 0.27459965015414])
    gap = recurrent.prentice_williams_peterson(ROWS, X, clock="gap")
    close(gap.coefficients, [0.79762382957269, 1.26130691171347])
    close(gap.se, [0.26461810170897, 0.26139855274572])


def test_wei_lin_weissfeld():
    both = recurrent.wei_lin_weissfeld(DAYS[:, :2], UNTIL, X)
    close(both.coefficients[:, 0], [0.47544252955001, 1.31416919790286])
    close(np.sqrt(np.diag(both.covariance))[[0, 2]], [0.42012034868531, 0.58853301038486])
    close(both.covariance[0, 2], 0.10497469336389)
    average, test = both.average(), both.test()
    close([average.estimate, average.se, test.statistic], [0.66715469031472, 0.40018987889499, 5.0272450123659])
    assert test.df == 2


def test_mean_cumulative_function():
    # summary(survfit(Surv(start, stop, event) ~ arm, id = id), times = c(30, 50, 70)): cumhaz, std.chaz
    means = [[0.66666666666667, 0.86666666666667, 1.00476190476190], [0.8, 1.33333333333333, 1.62424242424242]]
    errors = [
        [0.18053418676969, 0.18539247657435, 0.21081108375308],
        [0.19321835661586, 0.26105200276602, 0.31035267050144],
    ]
    for arm in (0, 1):
        curve = mcf.mean_cumulative(ROWS, include=arm == ARM, interval="plain")
        for k, day in enumerate((30, 50, 70)):
            at = mcf.mean_cumulative_at(ROWS, day, include=arm == ARM, interval="plain")
            close([at.estimate, at.se], [means[arm][k], errors[arm][k]])
            j = np.sum(curve.times <= day) - 1
            close([curve.mean[j], curve.lower[j], curve.upper[j]], [at.estimate, at.lower, at.upper])
    difference = mcf.mean_cumulative_difference(ROWS, ARM, 70)
    close([difference.estimate, difference.se], [means[1][2] - means[0][2], np.hypot(errors[0][2], errors[1][2])])


def test_mean_cumulative_function_where_people_die():
    # mets: recurrentMarginal(phreg(... event), phreg(... death)), which needs times without ties
    shifted = recurrent.episodes(DAYS + 0.013 * I[:, None], UNTIL + 0.0171 * I, died=I % 3 == 0)
    at = [mcf.mean_cumulative_at(shifted, day) for day in (50, 70, 90)]
    close([one.estimate for one in at], [1.1, 1.3081349206349, 1.3484126984127])
    close([one.se for one in at], [0.16566364853052, 0.19586871935842, 0.20309508626807])
    tied = recurrent.episodes(DAYS, UNTIL, died=I % 3 == 0)
    close(mcf.mean_cumulative_at(tied, 90).estimate, 1.3484126984127)


def test_negative_binomial_regression():
    # MASS::glm.nb(y ~ arm + x + offset(log(t))); sandwich::sandwich
    fitted = nb.count_regression(COUNT, UNTIL, X)
    close(fitted.coefficients, [-2.91805040020111, -0.33252664252628, 0.49638853874512], GLM)
    close(fitted.se, [0.32124355710698, 0.46123689778366, 0.33422535705372], GLM)
    close([fitted.theta, 2 * fitted.log_likelihood], [0.76703869609559, -145.57396384515])
    # glm.nb's own SE.theta (0.28350956) is taken one step before the last; its formula at the estimate is this
    close(fitted.theta_se, 0.28351043678649)
    robust = nb.count_regression(COUNT, UNTIL, X, errors="robust")
    close(robust.se, [0.33649460020685, 0.39715899350304, 0.26997271723722], GLM)


def test_poisson_regression_with_robust_errors():
    fitted = nb.count_regression(COUNT, UNTIL, X, model="poisson")
    close(fitted.coefficients, [-3.047755520813194, -0.031880956599589, 0.248903573330039], GLM)
    close(fitted.se, [0.13111043570491, 0.18669815364192, 0.13683405051635], GLM)
    close(fitted.log_likelihood, -99.432371958676)
    robust = nb.count_regression(COUNT, UNTIL, X, model="poisson", errors="robust")
    close(robust.se, [0.32125502303308, 0.35588933289106, 0.25739348055146], GLM)


def test_count_ratio_of_two_arms():
    ratio = nb.count_ratio(COUNT, UNTIL, ARM)
    # glm.nb(y ~ arm + offset(log(t)))
    close([np.log(ratio.estimate), ratio.se], [-0.11342625673028, 0.46701906118001], GLM)
    assert ratio.warnings == 0


def test_event_rate_has_garwoods_interval():
    # poisson.test(10, 8): 0.5994 to 2.2988; qgamma(0.025, 10) / 8 and qgamma(0.975, 11) / 8
    rate = nb.event_rate(np.array([0, 2, 1, 7]), np.full(4, 2.0))
    close([rate.estimate, rate.lower, rate.upper], [1.25, 0.59942358701655, 2.29879450525222])


def bladder2(folder):
    with (folder / "survival" / "bladder2.csv").open() as lines:
        table = list(csv.DictReader(lines))
    names = ("id", "start", "stop", "event", "enum", "rx", "size", "number")
    return [np.array([float(row[name]) for row in table]) for name in names]


def test_bladder(reference_data):
    person, start, stop, event, order, *x = bladder2(reference_data)
    x, person = np.stack(x, -1), person.astype(int)
    lwyy = fit(Spells(stop, event, x, start), cluster=person)
    close(lwyy.coefficients, [-0.464686952988870, -0.043660276116795, 0.174960381188247])
    close(lwyy.se, [0.265560811893434, 0.077616112675313, 0.063040543196556])
    close([lwyy.robust_score, lwyy.wald], [11.26665239743, 11.543562835528], rtol=1e-8)
    total = fit(Spells(stop, event, x, start, order), cluster=person)
    close(total.coefficients, [-0.3334887264340804, -0.0084946661066111, 0.1196172379775657], rtol=1e-8)
    close(total.se, [0.204786771935950, 0.061635208042792, 0.051386749760877], rtol=1e-8)
    gap = fit(Spells(stop - start, event, x, strata=order), cluster=person)
    close(gap.coefficients, [-0.2790045154970766, 0.0074150875019948, 0.1580458999582467], rtol=1e-8)
    close(gap.se, [0.215623869338404, 0.064332508308197, 0.050939766547153], rtol=1e-8)


def of_people(person, start, stop, event, order, *x):
    """Event days, end of follow-up and covariates of each person."""
    codes = np.unique(person)
    days = np.full((len(codes), 4), np.inf)
    for k, code in enumerate(codes):
        mine = stop[(person == code) & (event == 1)]
        days[k, : len(mine)] = mine
    until = np.array([stop[person == code].max() for code in codes])
    first = [np.flatnonzero(person == code)[0] for code in codes]
    return days, until, np.stack(x, -1)[first]


def test_bladder_by_wei_lin_and_weissfeld(reference_data):
    # coxph(Surv(stop, event) ~ (rx + size + number) * strata(enum), bladder, cluster = id), and Wei, Lin and Weissfeld's
    # average of the four rx effects, 1' V^-1 b / 1' V^-1 1
    days, until, x = of_people(*bladder2(reference_data))
    four = recurrent.wei_lin_weissfeld(days, until, x)
    close(
        four.coefficients[:, 0], [-0.52598435748412, -0.63231089735351, -0.69849154443721, -0.63543895657616], rtol=1e-8
    )
    se = [four.each(event).se for event in range(4)]
    close(se, [0.31523945501749, 0.36831164616036, 0.42038233110462, 0.49728514701772], rtol=1e-8)
    close(four.covariance[0, 3:12:3], [0.061750774995506, 0.058576764315406, 0.045132384196103], rtol=1e-8)
    average, test = four.average(), four.test()
    close([average.estimate, average.se], [-0.5567521643018, 0.29074358814294], rtol=1e-8)
    close(test.statistic, 3.9061402030464, rtol=1e-8)


def test_bladder_means_and_counts(reference_data):
    days, until, x = of_people(*bladder2(reference_data))
    rows = recurrent.episodes(days, until)
    means = [0.71682838694865, 1.44677418640664, 2.09988246020496]
    errors = [0.14058437404992, 0.24382084196993, 0.34846684627920]
    for k, day in enumerate((12, 24, 48)):
        at = mcf.mean_cumulative_at(rows, day, include=x[:, 0] == 1)
        close([at.estimate, at.se], [means[k], errors[k]])
    fitted = nb.count_regression(np.isfinite(days).sum(-1), until, x)
    close(fitted.coefficients, [-2.639058661668531, -0.603901642930823, -0.016026545290704, 0.241185353041431], GLM)
    close(fitted.se, [0.52956949420129, 0.30568644819371, 0.10384811908124, 0.08155562622285], GLM)
    close(fitted.theta, 1.0033521511933, GLM)
    assert not fitted.warnings & Caution.NOT_CONVERGED

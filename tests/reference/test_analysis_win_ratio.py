"""Win ratio against formulas written out in R 4.2.2 (pairs in full matrices), wilcox.test, and published values."""

import csv

import numpy as np
import pytest

from quell.analysis import win_ratio as wins
from quell.analysis.claim import Caution

NAN = np.nan
TIME = np.array([12, 20, 45, 60, 60, 8, 25, 60, 33, 60, 10, 20, 28, 41, 60, 5, 60, 17, 38, 22.0])
DIED = np.array([1, 0, 0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1])
FIRST = np.array([12, 14, 45, 60, 51, 8, 11, 60, 33, 40, 7, 20, 9, 41, 37, 5, 60, 17, 21, 22.0])
HAD = np.array([0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0])
WALK = np.array([NAN, NAN, 405, 420, 388, NAN, NAN, 455, 350, 433, NAN, 300, 290, 410, 395, NAN, 402, NAN, 330, 345])
ARM = np.repeat([1, 0], 10)
STRATUM = np.array([0, 0, 0, 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 0, 0])


def close(mine, theirs, rtol=1e-12):
    np.testing.assert_allclose(mine, theirs, rtol=rtol)


def trial(same_day="wins"):
    death = wins.Survival(TIME, DIED, censored_same_day=same_day)
    infarction = wins.Survival(FIRST, HAD, censored_same_day=same_day)
    return [death, infarction, wins.Measure(WALK, margin=30)]


# R: score matrix by outer(), then Bebu and Lachin's (2016) plug-in covariance and the delta method; Dong et al.'s (2016)
# double sums at theta = (W + L) / 2 pairs; and n - 1 for n
SMALL = {
    "wins": (61, 34, 1.794117647058823, 0.557736884711597, 0.523266017748975, 0.270000000000000, 0.244989795705862,
             0.258241919309954, 1.739726027397260, 0.528507810820542, 0.497102716861527),
    "tie": (60, 35, 1.714285714285714, 0.553744212666123, 0.515682051112248, 0.250000000000000, 0.245967477524977,
            0.259272486435067, 1.666666666666667, 0.524730618719951, 0.489897948556636),
}  # fmt: skip


def all_statistics(contest):
    ratio, null = wins.win_ratio(contest), wins.win_ratio(contest, variance="null")
    benefit, unbiased = wins.net_benefit(contest), wins.net_benefit(contest, variance="unbiased")
    odds, odds_null = wins.win_odds(contest), wins.win_odds(contest, variance="null")
    return [contest.wins.sum(-1), contest.losses.sum(-1), ratio.estimate, ratio.se, null.se, benefit.estimate,
            benefit.se, unbiased.se, odds.estimate, odds.se, odds_null.se]  # fmt: skip


@pytest.mark.parametrize("same_day", SMALL)
def test_a_small_hierarchical_composite(same_day):
    contest = wins.compare(trial(same_day), ARM)
    close(all_statistics(contest), SMALL[same_day])
    assert contest.pairs == 100 and contest.n == 20 and contest.ties[-1] == 5
    assert contest.warnings == Caution.UNDECIDED_MISSING


def test_limits_and_p_follow_from_the_log_ratio_and_its_error():
    ratio = wins.win_ratio(wins.compare(trial(), ARM))
    # R: exp(log(1.794117647058823) + c(-1, 1) * qnorm(.975) * 0.557736884711597), 2 * pnorm(-log(1.794...) / 0.5577...)
    close([ratio.lower, ratio.upper, ratio.p], [0.601318300008, 5.353002114597, 0.294634406847], rtol=1e-11)


STRATIFIED = {
    "mantel-haenszel": (1.596685082872928, 0.594984338122282, 0.220408163265306, 0.271557817931652),
    "equal": (1.526315789473684, 0.597725227967251, 0.200000000000000, 0.275087864751125),
    "size": (1.598194130925508, 0.594988808980013, 0.220833333333333, 0.271511309531857),
}


@pytest.mark.parametrize("weights", STRATIFIED)
def test_stratified(weights):
    contest = wins.compare(trial(), ARM, strata=STRATUM)
    ratio, benefit = (one(contest, weights=weights) for one in (wins.win_ratio, wins.net_benefit))
    close([ratio.estimate, ratio.se, benefit.estimate, benefit.se], STRATIFIED[weights])


def test_finkelstein_schoenfeld():
    # R: all pairs of the pooled sample, sum of scores over sqrt(n1 n0 / (N (N - 1)) sum U²)
    close(wins.finkelstein_schoenfeld(trial(), ARM).statistic, 1.03023264865021)
    close(wins.finkelstein_schoenfeld(trial(), ARM, strata=STRATUM).statistic, 0.734093195858509)


X, Y = np.array([5, 6, 8, 8, 9, 7.5, 6]), np.array([4, 5, 6, 7, 5, 8, 3, 6])


def test_one_uncensored_outcome_is_the_wilcoxon_test():
    # R: wilcox.test(x, y, exact = FALSE, correct = FALSE), with ties
    one = [wins.Measure(np.concatenate([X, Y]))]
    arm = np.repeat([1, 0], [7, 8])
    test = wins.finkelstein_schoenfeld(one, arm)
    close([test.statistic, test.p], [1.76450237593672, 0.0776474356880186])
    contest = wins.compare(one, arm)
    close(all_statistics(contest), [39, 9, 4.333333333333333, 0.796845266379943, 0.790726258494693, 0.535714285714286,
                                    0.230715786309646, 0.247895662477621, 3.307692307692307, 0.647159844246019,
                                    0.677765364424022])  # fmt: skip


def test_one_uncensored_outcome_has_delongs_error():
    # DeLong, DeLong and Clarke-Pearson (1988): AUC and var(V10)/m + var(V01)/n of the structural components
    psi = (X[:, None] > Y) + 0.5 * (X[:, None] == Y)
    auc, variance = psi.mean(), psi.mean(1).var(ddof=1) / 7 + psi.mean(0).var(ddof=1) / 8
    contest = wins.compare([wins.Measure(np.concatenate([X, Y]))], np.repeat([1, 0], [7, 8]))
    benefit = wins.net_benefit(contest, variance="unbiased")
    close([benefit.estimate, benefit.se], [2 * auc - 1, 2 * np.sqrt(variance)])
    close(wins.win_odds(contest).estimate, auc / (1 - auc))


def test_variances_of_buysetest():
    # BuyseTest's own tests (test-BuyseTest-iid.R): toxicity 1, 0 in both arms; then 1 against 1, 1, 0
    balanced = wins.compare([wins.Measure(np.array([1.0, 0, 1, 0]))], np.array([0, 0, 1, 1]))
    close([wins.net_benefit(balanced).se ** 2, wins.win_ratio(balanced).se ** 2], [1 / 4, 4])
    close(wins.net_benefit(balanced, variance="second-order").se ** 2, 1 / 4)
    unbalanced = wins.compare([wins.Measure(np.array([1.0, 1, 1, 0]))], np.array([0, 1, 1, 1]))
    for order in ("u-statistic", "second-order"):
        close(wins.net_benefit(unbalanced, variance=order).se ** 2, 2 / 27)
    thrice = np.tile([1.0, 0, 1, 0], 3)
    strata = np.repeat([0, 1, 2], 4)
    repeated = wins.compare([wins.Measure(thrice)], np.tile([0, 0, 1, 1], 3), strata=strata)
    close([wins.net_benefit(repeated).se ** 2, wins.win_ratio(repeated).se ** 2], [1 / 12, 4 / 3])


def rows(folder, name):
    with (folder / "survival" / f"{name}.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_colon_cancer_death_then_recurrence(reference_data):
    # R survival's colon, Lev+5FU against observation, formulas as above
    people = {}
    for row in rows(reference_data, "colon"):
        if row["rx"] != "Lev":
            people.setdefault(row["id"], {"rx": row["rx"]})[row["etype"]] = (float(row["time"]), int(row["status"]))
    people = list(people.values())
    arm = np.array([person["rx"] == "Lev+5FU" for person in people]).astype(int)
    (death, died), (back, recurred) = (np.array([person[kind] for person in people]).T for kind in ("2", "1"))
    priorities = [wins.Survival(death, died), wins.Survival(back, recurred)]
    contest = wins.compare(priorities, arm)
    close(all_statistics(contest), [43718, 29772, 1.46842670966008, 1.16086390221047e-01, 1.16236048886021e-01,
                                    1.45634920634921e-01, 4.31492066241917e-02, 4.32192348697336e-02,
                                    1.34091964700418, 8.81684240938059e-02, 8.92041273249131e-02])  # fmt: skip
    assert contest.wins[0] == 39355 and contest.losses[0] == 27974 and contest.n == 619
    close(wins.finkelstein_schoenfeld(priorities, arm).statistic, 3.34494670317614)


RECURRENT = {
    "": (708, 431, 1.642691415313225, 0.341125793616926, 0.336229395231372, 0.155095184770437, 0.103881541704496,
         0.105143659215237, 1.367130550033135, 0.212883902725405, 0.214426249254498),
    "last": (763, 487, 1.566735112936345, 0.315543257749814, 0.310330596623891, 0.154535274356103, 0.105644579596719,
             0.106926708000724, 1.365562913907285, 0.216458435788115, 0.217196666170136),
}  # fmt: skip


@pytest.mark.parametrize("then", RECURRENT)
def test_bladder_tumours_counted_over_the_shared_follow_up(reference_data, then):
    # R survival's bladder2, thiotepa against placebo: naive, and last-event-assisted as R's WR
    people = {}
    for row in rows(reference_data, "bladder2"):
        person = people.setdefault(row["id"], {"arm": int(row["rx"] == "2"), "days": [], "until": 0.0})
        person["until"] = max(person["until"], float(row["stop"]))
        if row["event"] == "1":
            person["days"].append(float(row["stop"]))
    people = list(people.values())
    days = np.full((len(people), max(len(person["days"]) for person in people)), np.nan)
    for k, person in enumerate(people):
        days[k, : len(person["days"])] = person["days"]
    recurrences = wins.Recurrences(days, np.array([person["until"] for person in people]), then)
    contest = wins.compare([recurrences], np.array([person["arm"] for person in people]))
    close(all_statistics(contest), RECURRENT[then])


def test_matched_pairs():
    # R: p = 120/200; p + c(-1, 1) * qnorm(.975) * sqrt(p * (1 - p) / 200), carried to p / (1 - p); z = (p - .5) / error
    result = wins.matched(np.array([120]), np.array([80]))
    share = 0.6 + np.array([-1, 1]) * 1.959963984540054 * np.sqrt(0.24 / 200)
    close(np.stack([result.lower, result.upper])[:, 0], share / (1 - share))
    close(result.statistic, 0.1 / np.sqrt(0.24 / 200))

"""What is published of IVORY and IVORY-FINALE, each figure with how simulated trials answer it.

A figure that described the people or the conduct is an input and is shown as one; only the others are predictions.
"""

from __future__ import annotations

import numpy as np

from quell.exam.reading import (
    ACTIVE,
    CONTROL,
    PRIMARY,
    Question,
    after,
    all_events_by,
    before,
    both,
    covariate,
    event_by,
    imbalance,
    members,
    members_of,
    percent_of_placebo,
    quartile,
    remaining_spread,
    share,
    spread,
)

FIRST_SCAN = "depends on the day of the first scan, which is not published and assumed to be day 1"
CRP_BEFORE, WALL_BEFORE = "E107, E139", "E104, E105, E106"
TREATMENT = "E071, E078 to E082 (cells), E108 (a statin on the wall)"
RATES, LINK = "E135 to E138", "E118 to E134 (inflammation to events)"
CALMING = (
    "that regulatory T cells calm the wall of human arteries had not been measured before IVORY: the prior is half a "
    "high-dose statin's effect, and nothing at all is inside it. The model could allow the finding, not foresee it"
)
LUCK = (
    "with some 27 people an arm the count is mostly chance: the prediction says how large chance is. The calm of the wall is gone "
    "weeks after the last dose in this model, so it does not foresee a lasting difference between arms"
)
STAY = (
    "IVORY's people differed more in hsCRP (quartiles 5.8 and 4.4 fold apart) than simulated ones do. How soon after the infarction "
    "they were enrolled is not published either (days 2 to 12, evenly, is assumed): earlier enrolment gives higher values and a longer upper tail"
)
COUNTED = (
    "seven events among some 28 people in two and a half years is more than registries of recent infarctions give (E135, E136) to people "
    "of this age, nearly all revascularised. What was counted, in whom and until when is not published; a wider "
    "definition of an event, or chance, would explain it, and the model has no means to tell"
)

IVORY = (
    *both("E032", "baseline hsCRP, median", "mg/L", lambda arm: before("hsCRP", arm, np.nanmedian), rests_on=CRP_BEFORE, why=STAY, decimals=1),
    *both("E032", "baseline hsCRP, lower quartile", "mg/L", lambda arm: before("hsCRP", arm, quartile(1)), part="lower quartile", rests_on=CRP_BEFORE, why=STAY, decimals=1),
    *both("E032", "baseline hsCRP, upper quartile", "mg/L", lambda arm: before("hsCRP", arm, quartile(3)), part="upper quartile", rests_on=CRP_BEFORE, why=STAY, decimals=1),
    *both("E046", "baseline TBRmax, mean", "TBR", lambda arm: before(PRIMARY, arm, np.nanmean), note=FIRST_SCAN, rests_on=WALL_BEFORE, why=FIRST_SCAN, decimals=2),
    *both("E046", "baseline TBRmax, SD", "TBR", lambda arm: before(PRIMARY, arm, spread), part="sd", note=FIRST_SCAN, rests_on=WALL_BEFORE, why=FIRST_SCAN, decimals=2),
    Question(
        figure="E053", name="baseline imbalance, placebo minus aldesleukin", unit="TBR", read=imbalance, decimals=2, follows="E046", rests_on=WALL_BEFORE,
        beyond="an imbalance of randomised arms is chance: the model can only say how large chance makes it",
        why="nothing but chance makes it, and it is the difference of the two baseline means, which count by themselves",
    ),
    Question(figure="E052", name="TBRmax at follow-up, placebo", unit="TBR", read=after(PRIMARY, CONTROL, np.nanmean), follows="E048, E048.percent", rests_on="E106, E108", decimals=2),
    Question(figure="E051", name="residual SD of TBRmax", unit="TBR", read=remaining_spread, follows="E050", rests_on=WALL_BEFORE, decimals=3),
    Question(figure="E048", name="difference in TBRmax (primary)", unit="TBR", answer=lambda found: found.estimates[PRIMARY].estimate, rests_on=TREATMENT, beyond=CALMING, decimals=3),
    Question(figure="E048.percent", name="difference in TBRmax, of the level on placebo", unit="%", answer=percent_of_placebo, rests_on=TREATMENT, beyond=CALMING, decimals=1),
    Question(figure="E050", name="standard error of the difference in TBRmax", unit="TBR", answer=lambda found: found.estimates[PRIMARY].se, rests_on=WALL_BEFORE, decimals=4),
    Question(figure="E025", name="completed treatment", unit="people", read=members("completed treatment"), note="conduct: an input"),
)  # fmt: skip

THREE = (
    "Three people of 27 are 11.1 %, three of 28 are 10.7 %: one trial in twenty has three or more, so that the end of the interval "
    "falls on that count, and on which side depends on the size of the arm, which is not published."
)
FINALE = (
    Question(figure="E062", name="joined long-term follow-up", unit="people", read=members("followed up"), note="conduct: an input"),
    Question(
        figure="E063.placebo", name="another heart attack by 2 years, placebo", unit="%", read=event_by("myocardial infarction", CONTROL, 730), decimals=0,
        rests_on=RATES, beyond=LUCK, why=THREE, note="0 of about 28 against 3 of about 27: Fisher's exact p is about 0.11",
    ),
    Question(
        figure="E063.aldesleukin", name="another heart attack by 2 years, aldesleukin", unit="%", read=event_by("myocardial infarction", ACTIVE, 730), decimals=0,
        rests_on=f"{RATES}; {LINK}", beyond=LUCK, note="0 of about 28 against 3 of about 27: Fisher's exact p is about 0.11",
    ),
    Question(
        figure="E064", name="people with another heart attack by 2 years, placebo", unit="people",
        read=event_by("myocardial infarction", CONTROL, 730, count=True), follows="E063.placebo", rests_on=RATES, beyond=LUCK,
    ),
    *both(
        "E065", "MACE by 2.5 years", "events", lambda arm: all_events_by("MACE", arm, 913), rests_on=f"{RATES}; {LINK}", beyond=LUCK, why=COUNTED,
        note="every event counts, as published; it may have been people",
    ),
    *both(
        "E065", "people with MACE by 2.5 years", "people", lambda arm: event_by("MACE", arm, 913, count=True), rests_on=f"{RATES}; {LINK}",
        reading="if people were counted and not events", beyond=LUCK, why=COUNTED, note="published as events; may count several in one person",
    ),
)  # fmt: skip


def _yes(figure: str, name: str, factor: str, level: str = "yes") -> list[Question]:
    return both(figure, name, "%", lambda arm: share(factor, level, arm), percent=True)


# Table 1 describes the people: they are drawn to be like it. The first of it stands in every report, the rest in the exam.
TABLE_ONE_IN_SHORT = (
    *both("E027", "age, median", "years", lambda arm: covariate("age", arm, np.nanmedian)),
    *_yes("E028", "women", "female"),
    *both("E029", "body mass index, mean", "kg/m2", lambda arm: covariate("body mass index", arm, np.nanmean)),
    *both("E034", "LDL cholesterol, median", "mmol/L", lambda arm: covariate("LDL cholesterol", arm, np.nanmedian)),
    *both("E035", "GRACE score, mean", "points", lambda arm: covariate("GRACE score", arm, np.nanmean)),
)
TABLE_ONE = (
    *both("E029", "body mass index, SD", "kg/m2", lambda arm: covariate("body mass index", arm, spread), part="sd"),
    *_yes("E030", "white", "ethnicity", "white"),
    *_yes("E031.unstable-angina", "unstable angina", "index event", "unstable angina"),
    *_yes("E031.nstemi", "NSTEMI", "index event", "NSTEMI"),
    *_yes("E031.stemi", "STEMI", "index event", "STEMI"),
    *both("E033", "high-sensitivity troponin I, median", "ng/L", lambda arm: covariate("high-sensitivity troponin I", arm, np.nanmedian)),
    *both("E035", "GRACE score, SD", "points", lambda arm: covariate("GRACE score", arm, spread), part="sd"),
    *_yes("E036", "hypertension", "hypertension"),
    *_yes("E037", "hypercholesterolaemia", "hypercholesterolaemia"),
    *_yes("E038", "previous angioplasty", "previous angioplasty"),
    *_yes("E039", "previous stroke", "previous stroke"),
    *_yes("E040", "type 2 diabetes", "diabetes"),
    *_yes("E042", "statin", "statin"),
    *_yes("E043", "beta-blocker", "beta-blocker"),
    *_yes("E044", "renin-angiotensin inhibitor", "renin-angiotensin inhibitor"),
    *_yes("E045.never", "never smoked", "smoking", "never"),
    *_yes("E045.current", "current smoker", "smoking", "current"),
    *_yes("E045.previous", "previous smoker", "smoking", "previous"),
    *_yes("E047", "angioplasty for the index event", "angioplasty for the index event"),
    *both("E025", "completed treatment", "people", lambda arm: members_of("completed treatment", arm)),
    *both("E026", "did not complete", "people", lambda arm: members_of("completed treatment", arm, inside=False)),
)  # fmt: skip

QUESTIONS: dict[str, tuple[Question, ...]] = {"ivory": (*TABLE_ONE_IN_SHORT, *IVORY), "ivory-finale": FINALE}
ALL: dict[str, tuple[Question, ...]] = {"ivory": (*QUESTIONS["ivory"], *TABLE_ONE), "ivory-finale": FINALE}

# What a reader may look for and will not find a published number of, with what simulated trials would answer.
NOT_PUBLISHED = {
    "E049": "active slices, by arm: no number on file; the forecast is below",
    "E054": "cells by arm and day: no number on file; the forecasts are below",
    "E055": "hsCRP and cytokines after treatment: no number on file; the forecasts of hsCRP are below",
    "E056": "adverse events by arm: no number on file; harm is not lived in simulated trials, so there is no forecast either",
    "E066": "arm sizes, event times, hazard ratio and log-rank p: no number on file; the forecasts are below",
}
# Inputs that no simulated trial can miss, and so are not drawn against it.
BY_DESIGN = {
    "E024": "the number randomised is the protocol's",
    "E041": "everybody had aspirin and a P2Y12 inhibitor: the body has no other case",
    "E061": "the number planned for follow-up is not used",
}

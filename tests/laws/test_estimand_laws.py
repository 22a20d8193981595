"""What an estimand does about intercurrent events, on records small enough to check by eye; and the columns it needs."""

import dataclasses

import numpy as np
import pytest

from quell import outcomes
from quell.protocol import Protocol
from quell.questions import Endpoint, IntercurrentEvent
from quell.study import Columns, StudyError

IVORY = Protocol.load("ivory")
NAN, NEVER = np.nan, np.inf
# three people: never stopped; stopped on day 30; had an infarction on day 10 and stopped on day 58
RECORD = Columns(
    arms=("aldesleukin", "placebo"),
    arm=np.array([0, 1, 1]),
    sets={"randomised": np.ones(3, bool)},
    readings={
        ("hsCRP", "", "day 1"): np.array([4.0, 5.0, 6.0]),
        ("hsCRP", "", "day 26"): np.array([3.0, 4.0, NAN]),
        ("hsCRP", "", "day 54"): np.array([2.0, 3.5, 9.0]),
        ("hsCRP", "", "day 61"): np.array([1.0, 3.0, 8.0]),
    },
    covariates={},
    factors={},
    levels={},
    events={"myocardial infarction": np.array([NEVER, 400.0, 10.0]), "other death": np.array([NEVER, 300.0, NEVER])},
    followed={"": np.array([700.0, 500.0, 800.0])},
    occurrences={"myocardial infarction": np.array([[NEVER, NEVER], [400.0, NEVER], [10.0, 90.0]])},
    stopped=np.array([NEVER, 30.0, 58.0]),
    visited={"day 61": np.array([60.0, NAN, 57.0])},
)
HSCRP = Endpoint(name="hsCRP", kind="continuous", quantity="hsCRP", visit="day 61")
LOW = dataclasses.replace(HSCRP, kind="responder", responds="below 4 mg/L", better="higher")
COURSE = Endpoint(name="course", kind="longitudinal", quantity="hsCRP", visits=("day 26", "day 54", "day 61"))
INFARCTION = Endpoint(
    name="infarction", kind="time-to-event", components=("myocardial infarction",), competing=("other death",)
)


def met(strategy, *recorded):
    return [
        IntercurrentEvent(event="stopping the drug", strategy=strategy, recorded=recorded or ("stopping treatment",))
    ]


def seen(endpoint, strategy, *recorded):
    return outcomes.measured(IVORY, RECORD, endpoint, met(strategy, *recorded)).tolist()


# the third person's last visit was kept on day 57, before stopping; the second's is taken as planned, after it
MEASURED = [
    ("treatment policy", [1.0, 3.0, 8.0]),
    ("hypothetical", [1.0, NAN, 8.0]),
    ("while on treatment", [1.0, 4.0, 8.0]),
    ("composite", [1.0, 8.0, 8.0]),
    ("principal stratum", [1.0, 3.0, 8.0]),
]


@pytest.mark.parametrize(("strategy", "expected"), MEASURED)
def test_a_strategy_changes_what_came_after_and_nothing_else(strategy, expected):
    np.testing.assert_array_equal(seen(HSCRP, strategy), expected)


def test_failing_is_no_response():
    assert seen(LOW, "treatment policy") == [1.0, 1.0, 0.0]
    assert seen(LOW, "composite") == [1.0, 0.0, 0.0]
    worse = dataclasses.replace(LOW, better="lower")
    assert seen(worse, "composite") == [1.0, 1.0, 0.0]


def test_an_event_that_never_happened_changes_nothing():
    for strategy, _ in MEASURED:
        assert seen(HSCRP, strategy, "ischaemic stroke") == [1.0, 3.0, 8.0]
        assert seen(HSCRP, strategy, "already derived") == [1.0, 3.0, 8.0]


def test_over_visits():
    hypothetical = outcomes.series(IVORY, RECORD, COURSE, met("hypothetical"))
    np.testing.assert_array_equal(hypothetical, [[3, 2, 1], [4, NAN, NAN], [NAN, 9, 8]])
    last = outcomes.series(IVORY, RECORD, COURSE, met("while on treatment"))
    np.testing.assert_array_equal(last, [[3, 2, 1], [4, 4, 4], [NAN, 9, 8]])
    worst = outcomes.series(IVORY, RECORD, COURSE, met("composite"))
    np.testing.assert_array_equal(worst, [[3, 2, 1], [4, 9, 8], [NAN, 9, 8]])


def test_a_missed_visit_before_the_event_stays_missed_and_the_value_before_it_is_carried():
    values = np.array([[1.0, NAN, 3.0, 4.0]])
    found = outcomes.carried(values, np.array([[False, False, True, True]]))
    np.testing.assert_array_equal(found, [[1, NAN, 1, 1]])


def test_times():
    def ends(strategy):
        time, event = outcomes.timed(RECORD, INFARCTION, met(strategy, "other death"))
        return time.tolist(), event.tolist()

    assert ends("treatment policy") == ([700.0, 400.0, 10.0], [False, True, True])
    assert ends("hypothetical") == ([700.0, 300.0, 10.0], [False, False, True])
    assert ends("while on treatment") == ends("hypothetical")
    assert ends("composite") == ([700.0, 300.0, 10.0], [False, True, True])


def test_what_came_first():
    time, cause = outcomes.causes(RECORD, INFARCTION)
    assert time.tolist() == [700.0, 300.0, 10.0] and cause.tolist() == [0, 2, 1]


def test_every_occurrence_within_follow_up():
    days, until = RECORD.every(("myocardial infarction",))
    assert days[:, 0].tolist() == [NEVER, 400.0, 10.0] and days[2].tolist() == [10.0, 90.0]
    assert until.tolist() == [700.0, 500.0, 800.0]
    short = dataclasses.replace(RECORD, followed={"": np.array([700.0, NEVER, 50.0])})
    days, until = short.every(("myocardial infarction",))
    assert days[2].tolist() == [10.0, NEVER] and np.isnan(until[1])


def test_what_cannot_be_done_is_said():
    silent = [IntercurrentEvent(event="rescue", strategy="hypothetical")]
    assert "not how the record shows the event" in outcomes.unhandled(silent)[0]
    assert "never seen" in outcomes.unhandled(met("principal stratum"))[0]
    assert outcomes.unhandled(met("treatment policy")) == outcomes.unhandled(met("composite")) == ()
    unknown = dataclasses.replace(RECORD, stopped=None)
    with pytest.raises(StudyError, match="milestone 'completed treatment'"):
        outcomes.measured(IVORY, unknown, HSCRP, met("hypothetical"))

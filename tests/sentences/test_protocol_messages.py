"""What is said to someone whose protocol cannot be used: the whole message, so that a change of wording is seen."""

from __future__ import annotations

import copy
import pathlib
import tomllib

import pytest

from quell.protocol import Protocol, ProtocolError

IVORY = tomllib.loads(Protocol.load("ivory").to_toml())


def at(path, value):
    """A change that puts a value in one place of a declaration."""

    def change(declared):
        for step in path[:-1]:
            declared = declared[step]
        declared[path[-1]] = value

    return change


def without(*path):
    """A change that takes one place out of a declaration."""

    def change(declared):
        for step in path[:-1]:
            declared = declared[step]
        del declared[path[-1]]

    return change


def renamed(declared):
    dose = declared["arms"][0]["doses"][0]
    dose["dayss"] = dose.pop("days")


CASES = {
    "a misspelt key": (
        renamed,
        "mine.toml: arms 'aldesleukin', doses entry 1 has the key 'dayss', which quell does not know. Did you mean 'days'?",
    ),
    "a dose in the wrong unit": (
        at(["arms", 0, "doses", 0, "amount"], "1.5 mL"),
        "mine.toml: arms 'aldesleukin', doses entry 1, amount: 'mL' is no unit that quell knows. Did you mean 'mg/L'?",
    ),
    "a dose in a unit of another dimension": (
        at(["arms", 0, "doses", 0, "amount"], "1.5 days"),
        "mine.toml: arms 'aldesleukin', doses entry 1, amount: '1.5 days' is a time; this needs a biological dose, in MIU or MIU/m2 or mg or mg/m2.",
    ),
    "a dose without a unit": (
        at(["arms", 0, "doses", 0, "amount"], "1.5"),
        "mine.toml: arms 'aldesleukin', doses entry 1, amount: '1.5' has no unit. Write one after the number: MIU or MIU/m2 or mg or mg/m2.",
    ),
    "a negative dose": (
        at(["arms", 0, "doses", 0, "amount"], "-1.5 MIU"),
        "mine.toml: arms 'aldesleukin', doses entry 1, amount: '-1.5 MIU' is negative. A placebo is 0.",
    ),
    "a visit before baseline": (
        at(["visits", 2, "day"], -20),
        "mine.toml: visit 'day 5' is on day -20, before the baseline visit on day 1. Only a screening visit may come before baseline (kind = \"screening\").",
    ),
    "visits out of order": (
        at(["visits", 3, "day"], 3),
        "mine.toml: visit 'day 12' (day 3) stands after 'day 5' (day 5). Put visits in order of day.",
    ),
    "an arm without doses": (
        without("arms", 0, "doses"),
        "mine.toml: arms 'aldesleukin': arm 'aldesleukin' has no doses. Add [[arms.doses]] with drug, amount, days; a placebo is a dose of amount 0, and an arm that gets nothing says untreated = true.",
    ),
    "dosing days that are no days": (
        at(["arms", 0, "doses", 0, "days"], "1-5"),
        "mine.toml: arms 'aldesleukin', doses entry 1, days: '1-5' in '1-5' is not a day or a range of days. Write days as '1..5, 12..54 every 7': ranges with two dots, 'every' for the step, commas between.",
    ),
    "a dose before the first day": (
        at(["arms", 0, "doses", 0, "days"], "0..4"),
        "mine.toml: arms 'aldesleukin', doses entry 1, days: '0..4' doses on day 0, before the first day of treatment. Begin at day 1.",
    ),
    "a dose of an undeclared drug": (
        at(["arms", 0, "doses", 0, "drug"], "aldesleukine"),
        "mine.toml: arm 'aldesleukin' doses 'aldesleukine', which is not among [[drugs]]. Did you mean 'aldesleukin'?",
    ),
    "two controls": (
        at(["arms", 0, "control"], True),
        "mine.toml: exactly one arm is the control (control = true); here it is 'aldesleukin' and 'placebo'.",
    ),
    "no control": (
        at(["arms", 1, "control"], False),
        "mine.toml: exactly one arm is the control (control = true); here it is none.",
    ),
    "an unknown method": (
        at(["analyses", 0, "method"], "ancovaa"),
        "mine.toml: analyses 'index vessel TBRmax', method is 'ancovaa'. Did you mean 'ancova'?",
    ),
    "a method that does not fit": (
        at(["analyses", 0, "method"], "log-rank"),
        "mine.toml: analysis 'index vessel TBRmax': log-rank does not estimate a difference in means. Methods that do: ancova, robust ancova, two-sample t.",
    ),
    "an analysis of nothing": (
        at(["analyses", 0, "estimand"], "index vesel TBRmax"),
        "mine.toml: analysis 'index vessel TBRmax' answers estimand 'index vesel TBRmax', which is not declared. Did you mean 'index vessel TBRmax'?",
    ),
    "an endpoint at an unplanned visit": (
        at(["endpoints", 0, "visit"], "day 60"),
        "mine.toml: endpoint 'index vessel TBRmax' is read at visit 'day 60', which is not planned. Did you mean 'day 61'?",
    ),
    "an estimand of an unknown arm": (
        at(["estimands", 0, "active"], ["aldesleukn"]),
        "mine.toml: estimand 'index vessel TBRmax' compares 'aldesleukn', which is no arm. Did you mean 'aldesleukin'?",
    ),
    "two primaries": (
        at(["analyses", 1, "role"], "primary"),
        'mine.toml: exactly one analysis has role = "primary"; here it is ',
    ),
    "blocks that do not divide": (
        at(["allocation", "blocks"], [3]),
        "mine.toml: allocation.blocks has 3, which 2 shares do not divide. Use 2 or 4.",
    ),
    "text where a number should be": (
        at(["population", "planned"], "many"),
        "mine.toml: population, planned is 'many': a whole number is needed.",
    ),
    "an impossible date": (
        at(["population", "start"], "2020-02-30"),
        "mine.toml: population, start: '2020-02-30' is not a date. Write year-month-day, such as 2020-01-31.",
    ),
    "a rule that is none": (
        at(["population", "eligibility", 0, "rule"], "hsCRP > two"),
        "mine.toml: population, eligibility entry 1, rule: 'hsCRP > two' is not a rule. Write 'above 2 mg/L', 'at least 18 years', 'at most 85 years' or 'below 2 mg/L'.",
    ),
    "a missing part": (without("population"), "mine.toml: the declaration lacks 'population'. Add it."),
    "a horizon before the visits": (
        at(["follow_up"], {"until": "20 days"}),
        "mine.toml: follow_up ends on day 20, before the last visit on day 61.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_protocol_that_cannot_be_used_is_answered_in_sentences(case):
    change, expected = CASES[case]
    declared = copy.deepcopy(IVORY)
    change(declared)
    with pytest.raises(ProtocolError) as caught:
        Protocol.of(declared, where="mine.toml")
    # where one slip has two consequences, the sentence that names the slip is among them
    assert expected in str(caught.value)
    assert "Traceback" not in str(caught.value) and "pydantic" not in str(caught.value)


FILES = {
    "empty": (b"", "mine.toml is empty. Start from a built-in protocol: quell check ivory --show > mine.toml"),
    "not TOML": (b"name = ", "mine.toml is not TOML: Invalid value (at end of document)."),
    "not text": (b"\xff\xfe", "mine.toml is not UTF-8 text (byte 0). Save it as UTF-8."),
    "data": (b"#" * 2_000_001, "mine.toml has 2,000,001 bytes; a declaration has at most 2,000,000. Is it data?"),
    "too deep": (b"a = " + b"[" * 5000, "mine.toml is nested too deeply to be a declaration."),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_declaration_is_named(tmp_path, case):
    text, expected = FILES[case]
    (tmp_path / "mine.toml").write_bytes(text)
    with pytest.raises(ProtocolError.__mro__[1]) as caught:
        Protocol.load(tmp_path / "mine.toml")
    assert str(caught.value).replace(f"{tmp_path}/", "") == expected


def test_a_protocol_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(ProtocolError) as caught:
        Protocol.load("ivry")
    assert str(caught.value) == (
        "there is no protocol 'ivry': no file of that name, and no built-in. Did you mean 'ivory'?"
    )


def test_protocols_that_extend_one_another_in_a_circle_are_named(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
    (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
    with pytest.raises(ProtocolError, match=r"more than five protocols extend one another. Is there a circle\?"):
        Protocol.load(pathlib.Path(tmp_path / "a.toml"))

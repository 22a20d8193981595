"""What is said to someone whose study cannot be read: the whole message, so that a change of wording is seen."""

from __future__ import annotations

import pytest

from quell.bounded import FileError
from quell.exchange import describe, read_study
from quell.protocol import Protocol
from quell.sentences import BadInput
from quell.tables import TableError, check, doubts, read_folder

PEOPLE = "subject,arm,enrolled,age\n01,aldesleukin,2021-03-01,61\n02,placebo,2021-03-08,55\n"
READINGS = "subject,visit,day,quantity,location,value,unit,status\n"
EVENTS = "subject,event,day\n"

CASES = {
    "no tables": (
        {"notes.txt": "x"},
        "site has no subjects.csv (or .parquet, .ndjson), the one table that every study needs. Write one with a row for each person and the columns subject and arm.",
    ),
    "a missing column": (
        {"subjects.csv": "subject,enrolled\n01,2021-03-01\n"},
        "subjects.csv lacks the column 'arm'. Add it: the name of the arm in the protocol, empty for those never randomised.",
    ),
    "a misspelt column": (
        {"subjects.csv": "subject,arms\n01,placebo\n"},
        "subjects.csv lacks the column 'arm'. Is 'arms' meant? Then rename it.",
    ),
    "a column too many": (
        {"subjects.csv": PEOPLE, "events.csv": "subject,event,day,dya\n"},
        "events.csv has the column 'dya', which is not part of the table 'events'. Did you mean 'day'?",
    ),
    "a duplicate subject": (
        {"subjects.csv": PEOPLE + "01,placebo,2021-03-01,60\n"},
        "table 'subjects' has subject '01' more than once (rows 1 and 3). Keep one row.",
    ),
    "a row without a subject": (
        {"subjects.csv": PEOPLE + ",placebo,2021-03-01,60\n"},
        "table 'subjects', row 3, does not say which subject it is about. Fill it in.",
    ),
    "an unknown arm": (
        {"subjects.csv": PEOPLE.replace("placebo", "plcebo")},
        "table 'subjects', subject '02', is in the arm 'plcebo', which the protocol has not. Did you mean 'placebo'?",
    ),
    "nobody randomised": (
        {"subjects.csv": "subject,arm\n01,\n"},
        "nobody in the table 'subjects' has an arm: no one was randomised. Fill in the column 'arm' with aldesleukin or placebo.",
    ),
    "an impossible date": (
        {"subjects.csv": PEOPLE.replace("2021-03-08", "2024-02-30")},
        "subjects.csv, column 'enrolled', row 2: '2024-02-30' is not a date of the calendar. Write year-month-day, such as 2024-02-29.",
    ),
    "a date of another form": (
        {"subjects.csv": PEOPLE.replace("2021-03-08", "08/03/2021")},
        "subjects.csv, column 'enrolled', row 2: '08/03/2021' is not a date of the calendar. Write year-month-day, such as 2024-02-29.",
    ),
    "a year out of range": (
        {"subjects.csv": PEOPLE.replace("2021-03-08", "1821-03-08")},
        "table 'subjects', subject '02', enrolled on 1821-03-08: a year from 1900 to 2100 is possible. Is that a slip?",
    ),
    "an empty file": ({"subjects.csv": ""}, "subjects.csv is empty. A table has at least a row of column names."),
    "no rows": (
        {"subjects.csv": "subject,arm\n"},
        "subjects.csv has column names and no rows: a study without people. Write a row for each person.",
    ),
    "an unknown subject": (
        {"subjects.csv": PEOPLE, "events.csv": EVENTS + "09,myocardial infarction,12\n"},
        "table 'events' speaks of subject '09', who is not in the table 'subjects'.",
    ),
    "text in a number": (
        {"subjects.csv": PEOPLE, "readings.csv": READINGS + "01,day 61,61,hsCRP,,high,mg/L,measured\n"},
        "readings.csv, column 'value', row 1: 'high' is not a number. Write a plain number such as 1.5, or leave the cell empty.",
    ),
    "a value below the limit": (
        {"subjects.csv": PEOPLE, "readings.csv": READINGS + "01,day 61,61,hsCRP,,<0.2,mg/L,measured\n"},
        "readings.csv, column 'value', row 1: '<0.2' is not a number. Below the limit, write half the limit as the value and 'below limit' as the status.",
    ),
    "a decimal comma": (
        {"subjects.csv": PEOPLE, "readings.csv": READINGS + '01,day 61,61,hsCRP,,"1,5",mg/L,measured\n'},
        "readings.csv, column 'value', row 1: '1,5' is not a number. Write a point for the decimal mark, such as 1.5.",
    ),
    "a fraction of a day": (
        {"subjects.csv": PEOPLE, "events.csv": EVENTS + "01,myocardial infarction,12.5\n"},
        "events.csv, column 'day', row 1: '12.5' is not a whole number of days. Write a day such as 12; day 1 is the day of the first dose.",
    ),
    "a day far away": (
        {"subjects.csv": PEOPLE, "events.csv": EVENTS + "01,myocardial infarction,20210301\n"},
        "table 'events', subject '01', has the day 20,210,301, which is more than 14,640 days away. Is it a date, or a slip?",
    ),
    "an unknown status": (
        {"subjects.csv": PEOPLE, "readings.csv": READINGS + "01,day 61,61,hsCRP,,1.5,mg/L,mesured\n"},
        "table 'readings', subject '01', has the status 'mesured'. Did you mean 'measured'?",
    ),
    "a value that was not done": (
        {"subjects.csv": PEOPLE, "readings.csv": READINGS + "01,day 61,61,hsCRP,,1.5,mg/L,not done\n"},
        "table 'readings', subject '01', has the value 1.5 and the status 'not done'. Keep one.",
    ),
    "a reading twice": (
        {
            "subjects.csv": PEOPLE,
            "readings.csv": READINGS + "01,day 61,61,hsCRP,,1.5,mg/L,measured\n01,day 61,61,hsCRP,,1.5,mg/L,measured\n",
        },
        "table 'readings' has subject '01', visit 'day 61', quantity 'hsCRP' more than once (rows 1 and 2). Keep one row.",
    ),
    "neither true nor false": (
        {"subjects.csv": PEOPLE, "milestones.csv": "subject,milestone,reached\n01,treated,perhaps\n"},
        "milestones.csv, column 'reached', row 1: 'perhaps' is not true or false. Write true or false.",
    ),
    "a ragged row": (
        {"subjects.csv": PEOPLE + "03,placebo\n"},
        "subjects.csv, line 4, has 2 cells; the header has 4. Give every row as many, and put quotation marks around a cell that has a comma.",
    ),
    "a table twice": (
        {"subjects.csv": PEOPLE, "subjects.ndjson": "{}"},
        "site holds subjects.csv and subjects.ndjson. Keep one of them: which is the table 'subjects'?",
    ),
    "a misspelt table": (
        {"subjects.csv": PEOPLE, "reading.csv": READINGS},
        "reading.csv is no table of a study. Did you mean 'readings.csv'?",
    ),
    "a broken manifest": (
        {"subjects.csv": PEOPLE, "study.json": '{"covariates": 3}'},
        "study.json is not a study's manifest. Delete it, or write the study again.",
    ),
}


@pytest.fixture(scope="module")
def ivory() -> Protocol:
    return Protocol.load("ivory")


@pytest.mark.parametrize("case", CASES)
def test_a_study_that_cannot_be_read_is_answered_in_one_sentence(tmp_path, ivory, case):
    files, expected = CASES[case]
    (tmp_path / "site").mkdir()
    for name, text in files.items():
        (tmp_path / "site" / name).write_text(text)
    with pytest.raises(BadInput) as caught:
        read_study(tmp_path / "site", ivory)
    assert str(caught.value).replace(str(tmp_path / "site"), "site") == expected


def test_all_problems_are_told_together(tmp_path):
    (tmp_path / "subjects.csv").write_text(PEOPLE.replace("2021-03-08", "2021-13-08"))
    (tmp_path / "events.csv").write_text(EVENTS + "01,stroke,soon\n")
    with pytest.raises(TableError) as caught:
        read_folder(tmp_path)
    assert [line.split(":")[0] for line in str(caught.value).split("\n")] == [
        "subjects.csv, column 'enrolled', row 2",
        "events.csv, column 'day', row 1",
    ]


def test_what_may_be_a_slip_is_a_doubt_and_not_a_problem(tmp_path, ivory):
    (tmp_path / "subjects.csv").write_text(PEOPLE)
    (tmp_path / "readings.csv").write_text(READINGS + "01,day 60,60,hsCRP,,1.5,mg/L,measured\n")
    tables = read_folder(tmp_path)
    assert check(tables, ivory) == []
    assert doubts(tables, ivory) == [
        "table 'readings' has the visit 'day 60', which the protocol does not name. Did you mean 'day 61'?"
    ]


def test_a_place_that_is_not_there_or_not_a_folder_is_named(tmp_path, ivory):
    with pytest.raises(TableError, match="there is no folder"):
        read_study(tmp_path / "nowhere", ivory)
    (tmp_path / "subjects.csv").write_text(PEOPLE)
    with pytest.raises(TableError, match=r"is one file\. Name the folder"):
        read_study(tmp_path / "subjects.csv", ivory)


def test_describing_says_what_a_thing_is_and_raises_nothing(tmp_path, ivory):
    (tmp_path / "subjects.csv").write_text(PEOPLE + "03,plcebo,2021-03-09,50\n")
    found = describe(tmp_path, ivory)
    assert found["kind"] == "study folder"
    assert found["tables"] == {"subjects": {"rows": 3, "columns": ["subject", "site", "arm", "enrolled", "age"]}}
    assert len(found["problems"]) == 1 and "plcebo" in found["problems"][0]
    assert describe(tmp_path / "subjects.csv")["kind"] == "the table 'subjects' of a study"
    assert describe(tmp_path / "nothing.csv")["problems"][0].endswith("cannot be read: No such file or directory.")
    assert "has the ending '.docx'" in describe(tmp_path / "a.docx")["problems"][0]


def test_refusals_are_bad_input_so_that_the_command_line_ends_with_2():
    assert issubclass(TableError, BadInput) and issubclass(FileError, BadInput)

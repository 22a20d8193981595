"""What a user is told who asks ``quell respond`` or ``quell convert`` for something that cannot be."""

import pytest

from quell import cli

RESPOND = ["respond", "--patients", "4", "--draws", "0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*RESPOND, "--dose", "1.5", "--days", "1"], "has no unit"),
        ([*RESPOND, "--dose", "1.5 MI", "--days", "1"], "Did you mean 'MIU'?"),
        ([*RESPOND, "--dose", "-1 MIU", "--days", "1"], "below zero"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "5..1"], "ends before it starts"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "0..3"], "before study day 1"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "daily"], "daily"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "1..5", "--until", "3"], "before the last dose"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "1", "--population", "ivry"], "Did you mean 'ivory'?"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "1", "--structure", "depletion"], "Write the question"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "1", "--structure", "depletion=nun"], "no option of 'depletion'"),
        ([*RESPOND, "--dose", "1 MIU", "--days", "1", "--world", "before-ivroy"], "Did you mean 'before-ivory'?"),
        (["convert", "model.docx"], "ends in .sbml or .xml"),
        (["convert", "model.sbml", "--arm", "placebos"], "Did you mean 'placebo'?"),
        (["convert", "/dev/null/model.sbml"], "cannot be written"),
    ],
)
def test_a_sentence_and_exit_code_two(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["quell", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    told = capsys.readouterr()
    assert stopped.value.code == 2 and told.err.startswith("quell: ") and words in told.err, told.err
    assert "Traceback" not in told.err and not any(tmp_path.iterdir())

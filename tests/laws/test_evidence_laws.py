"""Laws of the evidence: every figure has a source, intervals hold their values, and IVORY's results never calibrate."""

from __future__ import annotations

import pathlib
import re

import pytest

from quell import evidence
from quell.evidence import EvidenceError, figure, load

FIGURES = load()
START = '[sources]\na = { citation = "A study", link = "https://a.example" }\n[[figures]]\n'
ONE = 'id = "E900"\nname = "x"\npopulation = "y"\nvalue = 1.0\nunit = "1"\nsource = "a"\nstatus = "read"\nrole = "calibrates"\n'


def test_every_figure_has_a_source_that_can_be_followed():
    for one in FIGURES.values():
        assert one.source.citation
        assert one.source.link.startswith("http") or one.status == "recalled", one.id


def test_every_interval_holds_its_value():
    assert sum(one.interval is not None for one in FIGURES.values()) > 30
    for one in FIGURES.values():
        for ends in (one.interval, one.iqr, one.range):
            assert ends is None or ends[0] <= one.value <= ends[1], one.id


def test_nothing_about_ivory_calibrates():
    ivory = [one for one in FIGURES.values() if int(one.id[1:4]) <= 66]
    assert len(ivory) > 60
    assert all(one.role != "calibrates" for one in ivory)
    for id in ("E032.placebo", "E046.aldesleukin", "E048", "E050", "E063.placebo", "E065.placebo"):
        assert figure(id).role == "validates"
    for id in ("E027.placebo", "E028.aldesleukin", "E031.stemi.placebo", "E034.placebo", "E047.placebo"):
        assert figure(id).role == "describes"


def test_results_are_named_wherever_they_are_declared():
    validating = {one.id[:4] for one in FIGURES.values() if one.role == "validates"}
    assert validating <= set(evidence.RESULTS)


def test_the_protocols_cite_evidence_in_the_agreed_form():
    for path in (pathlib.Path(evidence.__file__).parent / "protocols").glob("*.toml"):
        cited = set(re.findall(r"\bE(\d{3})\b", path.read_text("utf-8")))
        assert cited and max(map(int, cited)) <= 165


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (START + ONE + START.split("\n", 2)[2] + ONE, "mine.toml has two figures called 'E900'. Give each its own id."),
        (START + ONE.replace("unit", "unt"), "mine.toml, figure 'E900': the declaration has the key 'unt'"),
        (
            START + ONE.replace('"a"', '"b"'),
            "mine.toml, figure 'E900', cites 'b', which is not among [sources]. Known here: 'a'.",
        ),
        (START + ONE + "lower = 2.0\nupper = 3.0\n", "the interval 2 to 3 does not contain 1."),
        (START + ONE + "lower = 0.0\n", "E900 has one end of an interval. Give both lower and upper, or neither."),
        (START + ONE.replace("E900", "E048"), "E048 is a result of IVORY and cannot calibrate: it validates."),
        (START + ONE.replace("calibrates", "calibrate"), "Did you mean 'calibrates'?"),
    ],
)
def test_a_wrong_figure_is_named(tmp_path, text, sentence):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(EvidenceError) as caught:
        load(tmp_path / "mine.toml")
    assert sentence in str(caught.value)


def test_an_unknown_figure_is_answered_with_its_parts_or_its_neighbour():
    with pytest.raises(
        EvidenceError, match=r"there is no figure 'E028' in the evidence. It has parts: E028.aldesleukin, "
    ):
        figure("E028")
    with pytest.raises(EvidenceError, match="Did you mean"):
        figure("E0048")

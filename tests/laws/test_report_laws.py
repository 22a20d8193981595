"""Laws of the page: the same bytes, nothing loaded, everything escaped, every number as the claim has it."""

from __future__ import annotations

import dataclasses
import html.parser
import pathlib
import re
import sys
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from quell import report
from quell.analysis.claim import Claim, Claims
from quell.protocol import Protocol
from quell.report import words
from quell.sentences import BadInput
from quell.study import Study

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import record

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "col"}
COMPARISON = {"unit": "1", "published_lower": -0.308, "published_upper": -0.034, "q05": -0.3, "q25": -0.2}
COMPARISON |= {"q50": -0.15, "q75": -0.1, "q95": -0.02, "trials": 2000, "source": "E048", "note": ""}


def claims_of(protocol: Protocol) -> Claims:
    """One made-up claim for each analysis, of the kind its estimand asks for."""
    found = []
    for index, analysis in enumerate(protocol.analyses):
        estimand = protocol.estimand(analysis.estimand)
        fields: dict[str, Any] = {
            "name": analysis.name,
            "estimand": estimand.name,
            "method": analysis.method,
            "n": 50 + index,
        }
        fields |= {"role": analysis.role, "arms": (estimand.active[0], estimand.control)}
        if estimand.summary == "equality of survival":
            fields |= {"statistic": 4.125, "df": 1.0, "p": 0.0421}
        elif "ratio" in estimand.summary:
            fields |= {"scale": "hazard ratio", "estimate": 0.61, "se": 0.2, "lower": 0.35, "upper": 0.95, "p": 0.031}
        else:
            fields |= {"estimate": -0.17123 + index / 100, "se": 0.01, "lower": -0.18812, "upper": -0.0301, "p": 0.0152}
        found.append(Claim(**fields))
    return Claims(found)


def page_of(protocol: Protocol, study: Study, **changes: Any) -> report.Page:
    claims = claims_of(protocol)
    truth = {one.name: SimpleNamespace(value=one.estimate, error=0.001) for one in claims if one.estimate is not None}
    comparisons = [
        SimpleNamespace(name="TBRmax difference", role="predicted", published=-0.171, **COMPARISON),
        SimpleNamespace(name="baseline TBRmax", role="input", published=-0.2, **COMPARISON),
    ]
    given = {"truth": truth, "comparisons": comparisons, "key": 2026, "simulated": True, "versions": {"quell": "0"}}
    return report.build(**({"protocol": protocol, "study": study, "claims": claims} | given | changes))


@pytest.fixture(scope="module", params=["ivory", "ivory-finale", "three arms"])
def made(request: pytest.FixtureRequest) -> tuple[Protocol, Study, report.Page]:
    if request.param == "three arms":
        protocol = record.three_arms()
        study = record.pilot(protocol)
        return protocol, study, page_of(protocol, study, truth=None, comparisons=(), simulated=False, key=None)
    protocol = Protocol.load(request.param)
    study = record.ivory(protocol)
    return protocol, study, page_of(protocol, study)


class Balanced(html.parser.HTMLParser):
    """Follows open tags; remembers ids, links and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.inside: list[str] = []  # links into the page
        self.loaded: list[str] = []
        self.numbers: list[tuple[str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for name in ("href", "xlink:href", "src", "action", "data", "poster", "srcset"):
            link = found.get(name)
            if link and link.startswith("#"):
                self.inside.append(link[1:])
            elif link:
                self.loaded.append(link)
        if tag == "data":
            self.numbers.append((str(found["value"]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] == "data":
            self.numbers[-1] = (self.numbers[-1][0], data)


def parsed(page: report.Page) -> Balanced:
    found = Balanced()
    found.feed(page.html)
    found.close()
    return found


def test_the_same_record_gives_the_same_bytes(made: tuple[Protocol, Study, report.Page]) -> None:
    protocol, study, page = made
    again = page_of(protocol, study) if "Simulated trial" in page.html else None
    if again is None:
        again = page_of(protocol, study, truth=None, comparisons=(), simulated=False, key=None)
    assert again.html == page.html
    assert again.files == page.files


def test_tags_are_balanced_ids_unique_and_links_lead_somewhere(made: tuple[Protocol, Study, report.Page]) -> None:
    found = parsed(made[2])
    assert not found.wrong
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert set(found.inside) <= set(found.ids)


def test_nothing_is_loaded_and_nothing_runs(made: tuple[Protocol, Study, report.Page]) -> None:
    page = made[2]
    assert all(link.startswith("data:text/csv;base64,") for link in parsed(page).loaded)
    assert not re.search(
        r"<script|javascript:|\son\w+\s*=|@import|url\((?!#)", page.html.replace("data-label", ""), re.I
    )
    assert "url(#" not in page.html or set(re.findall(r"url\(#([^)]+)\)", page.html)) <= set(parsed(page).ids)


def test_it_says_once_that_it_is_for_research(made: tuple[Protocol, Study, report.Page]) -> None:
    assert made[2].html.count("treating a patient") == 1
    assert words.RESEARCH in made[2].html


def test_every_number_of_the_claims_table_is_the_claims(made: tuple[Protocol, Study, report.Page]) -> None:
    """Each cell carries the claim's number in full, and shows it rounded and not otherwise changed."""
    protocol, _, page = made
    table = page.html[page.html.index('id="table-1"') :]
    found = Balanced()
    found.feed(table[: table.index("</table>")])
    numbers = iter(found.numbers)
    for claim in claims_of(protocol):
        exact = claim.to_dict()
        if exact["estimate"] is not None:
            value, text = next(numbers)
            assert float(value) == exact["estimate"]
            shown = [float(word.replace("−", "-")) for word in re.findall(r"−?\d+\.?\d*", text)]
            assert shown == pytest.approx([exact["estimate"], exact["lower"], exact["upper"]], abs=0.0051)
            if "True value" in page.html:
                assert float(next(numbers)[0]) == exact["estimate"]
        value, text = next(numbers)
        assert float(value) == exact["p"]
        assert float(text) == pytest.approx(exact["p"], abs=0.00051)
        assert next(numbers) == (str(exact["n"]), str(exact["n"]))
    assert next(numbers, None) is None


def test_figures_write_the_numbers_of_the_claims(made: tuple[Protocol, Study, report.Page]) -> None:
    """Making the drawings smaller must not touch a number that people read."""
    protocol, _, page = made
    texts = set(re.findall(r"<text[^>]*>([^<]*)</text>", page.html))
    shown = [words.with_interval(claim) for claim in claims_of(protocol) if claim.estimate is not None]
    assert shown
    assert set(shown) <= texts


def test_sections_stand_only_where_the_record_has_something(made: tuple[Protocol, Study, report.Page]) -> None:
    protocol, study, page = made
    ids = set(parsed(page).ids)
    assert {"answer", "claims", "people", "schedule", "estimands", "methods", "provenance"} <= ids
    assert ("courses" in ids) == (protocol.name != "pilot")
    assert ("published" in ids) == (protocol.name != "pilot")
    assert (">At risk<" in page.html) == (study["followed"].height > 0)
    assert ("TBRmax" in page.html) == (protocol.name != "pilot")


def test_the_provenance_names_protocol_record_and_key(made: tuple[Protocol, Study, report.Page]) -> None:
    protocol, study, page = made
    footer = page.html[page.html.index("<footer") :]
    assert protocol.fingerprint in footer
    assert study.digest in footer
    assert ("2026" in footer) == ("Simulated trial" in page.html)


def test_a_date_stands_only_if_given() -> None:
    protocol = record.three_arms()
    study = record.pilot(protocol)
    plain = page_of(protocol, study, date=None).html
    dated = page_of(protocol, study, date="2026-11-20").html
    assert "<dt>Date</dt>" not in plain
    assert dated.replace("<dt>Date</dt><dd>2026-11-20</dd>\n", "") == plain


def test_hostile_text_is_shown_and_never_run() -> None:
    evil = "<script>alert(1)</script>&\"'><img src=x onerror=y> $\\frac{1}{0}$ =cmd|' /C calc'!A0"
    protocol = Protocol.load("ivory")
    study = record.ivory(protocol)
    milestones = study["milestones"].with_columns(
        reason=pl.when(pl.col("reason") != "").then(pl.lit(evil)).otherwise("reason")
    )
    subjects = study["subjects"].with_columns(pl.lit("=HYPERLINK(1)" + evil).alias(evil))
    readings = study["readings"].with_columns(
        pl.col("unit").replace("cells/µL", evil), pl.col("quantity").replace("ILC2", evil)
    )
    tables = dict(study.tables) | {"milestones": milestones, "subjects": subjects, "readings": readings}
    claims = Claims([dataclasses.replace(one, name=one.name + evil, warnings=(evil,)) for one in claims_of(protocol)])
    arms = tuple(dataclasses.replace(arm, label=arm.name + evil) for arm in protocol.arms)
    shown = dataclasses.replace(protocol, title=evil, question=evil, arms=arms)
    page = page_of(shown, dataclasses.replace(study, tables=tables, origin=evil), claims=claims)
    found = parsed(page)
    assert not found.wrong
    assert "<script" not in page.html
    assert "<img" not in page.html
    assert sum("<script>alert(1)</script>" in text for text in found.text) > 10
    assert all(link.startswith("data:text/csv;base64,") for link in found.loaded)
    cells = [
        cell for content in page.files.values() for cell in re.findall(r'(?:^|,)"?([^",\n]*)', content.decode(), re.M)
    ]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]


def test_a_page_of_real_people_carries_no_identifiers() -> None:
    protocol = record.three_arms()
    page = page_of(protocol, record.pilot(protocol), simulated=False, truth=None, comparisons=())
    everything = page.html + "".join(content.decode() for content in page.files.values())
    assert not re.search(r"01-\d{3}", everything)


def test_the_truth_is_labelled_as_known_only_in_simulation() -> None:
    protocol = Protocol.load("ivory")
    study = record.ivory(protocol)
    with_truth, without = page_of(protocol, study), page_of(protocol, study, truth=None)
    assert with_truth.html.count("known only because the trial is simulated") >= 2
    assert "True value in this world" in with_truth.html
    assert "rue value" not in without.html.replace("holds the true value", "")


def test_saving_is_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    page = report.Page(html="<p>done</p>", files={})
    target = page.save(tmp_path / "deep" / "report.html")
    assert target.read_text() == "<p>done</p>"
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="cannot be written"):
        page.save(tmp_path / "file" / "report.html")


def test_a_study_with_no_claims_and_nobody_treated_still_makes_a_page() -> None:
    protocol = Protocol.load("ivory-finale")
    empty = record.ivory(protocol, screened=3)
    nobody = dataclasses.replace(
        empty, tables={"subjects": empty["subjects"].with_columns(arm=pl.lit(None, dtype=pl.String))}
    )
    page = report.build(protocol=protocol, study=nobody, claims=Claims([]), simulated=True)
    assert not parsed(page).wrong
    assert "No claim was made" in page.html or "has not been analysed" in page.html


@pytest.mark.parametrize(
    ("estimate", "lower", "upper", "expected"),
    [
        (
            -0.2,
            -0.3,
            -0.1,
            "TBRmax was on average 0.20 lower on Aldesleukin than on Placebo: between 0.10 and 0.30 lower.",
        ),
        (
            0.2,
            0.1,
            0.3,
            "TBRmax was on average 0.20 higher on Aldesleukin than on Placebo: between 0.10 and 0.30 higher.",
        ),
        (-0.1, -0.3, 0.1, "between 0.30 lower and 0.10 higher fits the data."),
    ],
)
def test_the_plain_sentence_has_the_sign_of_the_claim(
    estimate: float, lower: float, upper: float, expected: str
) -> None:
    claim = Claim(
        name="index vessel TBRmax",
        estimand="index vessel TBRmax",
        method="ancova",
        n=60,
        estimate=estimate,
        lower=lower,
        upper=upper,
        arms=("aldesleukin", "placebo"),
    )
    said = words.sentence(claim, Protocol.load("ivory"))
    assert expected in said
    assert ("cannot tell" in said) == (lower < 0 < upper)


@pytest.mark.parametrize(
    ("name", "lower", "upper", "expected"),
    [
        ("ILC2", 1.2, float("inf"), "anything from 20 % higher upwards"),
        ("ILC2", 0.5, 3.0, "between 50 % lower and 3.0 times as high fits the data"),
        (
            "hsCRP below 2 mg/L",
            -0.2,
            -0.1,
            "of 100 people, 15 fewer had hsCRP below 2 mg/L on Aldesleukin than on Placebo",
        ),
    ],
)
def test_the_plain_sentence_of_ratios_and_risks(name: str, lower: float, upper: float, expected: str) -> None:
    scale = "ratio" if name == "ILC2" else "risk difference"
    estimate = 1.5 if name == "ILC2" else -0.15
    fields: dict[str, Any] = {"scale": scale, "estimate": estimate, "lower": lower, "upper": upper}
    assert expected in words.sentence(Claim(name=name, method="made up", n=60, **fields), Protocol.load("ivory"))


def test_strange_claims_still_make_a_page() -> None:
    """Nothing estimable, an endless interval, an interval on zero, no interval, a test alone, a question nobody declared."""
    strange = [
        Claim(name="index vessel TBRmax", method="made up", n=0, warnings=("An arm is empty.",), role="primary"),
        Claim(name="hsCRP", method="made up", n=9, estimate=0.0, lower=0.0, upper=float("inf"), scale="ratio"),
        Claim(name="ILC2", method="made up", n=9, estimate=2.0, lower=0.5, upper=float("inf"), scale="ratio", p=0.2),
        Claim(
            name="hsCRP below 2 mg/L",
            method="made up",
            n=9,
            estimate=0.0,
            lower=-0.2,
            upper=0.2,
            scale="risk difference",
        ),
        Claim(name="ejection fraction", method="made up", n=9, estimate=3.0, se=0.1, unit="%"),
        Claim(name="nobody asked", method="made up", n=9, p=0.2, statistic=1.2),
    ]
    protocol = Protocol.load("ivory")
    page = report.build(protocol=protocol, study=record.ivory(protocol), claims=Claims(strange), simulated=True)
    assert not parsed(page).wrong
    assert "does not answer this question. An arm is empty." in page.html
    assert not re.search(r"\b(nan|inf|None)\b", " ".join(parsed(page).text))


def test_selection_stands_beside_everybody() -> None:
    truth = SimpleNamespace(value=0.1234, error=0.002, people=4000)
    rows = [
        SimpleNamespace(estimand="MACE by 2 years", of=who, active=truth, control=truth, difference=truth)
        for who in ("everyone", "completers")
    ]
    protocol = Protocol.load("ivory-finale")
    page = page_of(protocol, record.ivory(protocol), selection=rows)
    section = page.html[page.html.index('<section id="selection"') :]
    assert section.count("12.34 ± 0.20") == 6
    assert "known only because the trial is simulated" in section[: section.index("</section>")]

"""Generated pages say what the code says now."""

import json
import pathlib

from tools import analyses_page, evidence_page, model_page

DOCS = pathlib.Path(model_page.__file__).parent.parent / "docs"


def test_the_model_page_is_up_to_date():
    """Run ``make pages`` after a change to the constants or to an organ's words."""
    assert (DOCS / "the-model.md").read_text("utf-8") == model_page.page()


def test_the_page_of_analyses_is_up_to_date():
    """Run ``make pages`` after a method is declared."""
    assert analyses_page.PAGE.read_text("utf-8") == analyses_page.page()


def test_the_evidence_page_follows_from_its_numbers():
    rows = json.loads((DOCS / "evidence.json").read_text("utf-8"))["rows"]
    assert (DOCS / "evidence.md").read_text("utf-8") == evidence_page.page(rows)
    assert {row["key"] for row in rows} == {row.key for group in evidence_page.ROWS.values() for row in group}


def test_a_miss_is_explained_and_no_figure_that_validates_set_a_constant():
    rows = json.loads((DOCS / "evidence.json").read_text("utf-8"))["rows"]
    for row in rows:
        assert row["agrees"] is not False or row["why"], row["what"]
        assert "validates" not in row["role"] or not row["used"], row["what"]

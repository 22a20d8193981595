"""docs/credibility.md: what the model may be used for and what that rests on, from the exam and from measured numbers.

``python -m tools.credibility_page`` reads docs/exam.json, measures (about a minute), and writes the page and its data.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from quell import credibility
from quell.delivery import to_json, versions
from quell.exam import worlds
from quell.report import credibility as report
from quell.report.blocks import Numbering
from tools import exam_page, markdown

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DATA = DOCS / "credibility.json"


def main() -> None:
    """Measure, judge and write."""
    found = json.loads(exam_page.DATA.read_text("utf-8"))
    measured = credibility.measure(worlds.worlds(found["examined"]).examined)
    told = credibility.dossier(found, measured) | {"versions": versions("scipy", "jax")}
    DATA.write_text(to_json(told) + "\n", "utf-8")
    (DOCS / "credibility.md").write_text(page(json.loads(DATA.read_text("utf-8"))), "utf-8")


def page(told: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    lines = [
        "# Credibility: what the model may be used for, and why\n",
        "This page is made by `python -m tools.credibility_page` from [credibility.json](credibility.json); do not edit it. "
        "The exam it rests on is [here](exam.md); speed and agreement with other programs are [measured](measured.md).\n",
        markdown.of_sections(report.sections(told, Numbering())),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

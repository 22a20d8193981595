"""docs/exam.md: every published result of IVORY and IVORY-FINALE on its prediction, and the score.

``python -m tools.exam_page`` simulates the trials (some minutes) and writes the page, its data and its picture; a world may be
named, ``before-ivory`` if none is.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import matplotlib

from quell import exam_verb
from quell.delivery import to_json
from quell.figures import canvas
from quell.report import exam, examined
from quell.report.blocks import Numbering
from tools import markdown

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DATA = DOCS / "exam.json"


def main(world: str = exam_verb.WORLD) -> None:
    """Sit the exam and write."""
    found = exam_verb.exam(folder=None, world=world, tell=lambda step, share: None)
    found.pop("lines")
    DATA.write_text(to_json(found) + "\n", "utf-8")
    kept = json.loads(DATA.read_text("utf-8"))
    (DOCS / "exam.md").write_text(page(kept), "utf-8")
    with matplotlib.rc_context(canvas.STYLE):
        exam.drawing(kept).savefig(DOCS / "pictures" / "exam.svg", format="svg", metadata={"Date": None})


def page(found: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    lines = [
        "# The exam: IVORY predicted from other people's studies\n",
        "This page is made by `python -m tools.exam_page` from [exam.json](exam.json), which is what `quell exam --json` prints; do not edit it.\n",
        f"{examined.sentence(found)}\n",
        *(f"- {line}" for line in examined.sure(found)),
        "",
        f"![Published results on their predictions](pictures/exam.svg)\n\n{exam.CAPTION}\n",
        "What not to conclude:\n",
        *(f"- {line}" for line in examined.beware(found)),
        "",
        markdown.of_sections(exam.sections(found, Numbering())),
        "## Provenance\n",
        *(f"- {name}: {text}" for name, text in exam.provenance(found, {"quell": found["version"]})),
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(*sys.argv[1:])

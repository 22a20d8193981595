"""docs/ivory-3.md: the verdict on the next trial, beside planning by hand.

``python -m tools.design_page verdict.json`` takes a verdict that ``quell repeat ivory-3 --out`` wrote, keeps it as
docs/<design>.json, and writes the page and its picture; without a file it writes them anew from what is kept.
"""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import matplotlib

from quell.delivery import to_json
from quell.figures import canvas
from quell.report import design, design_compared, design_results
from quell.report.blocks import Numbering, Section
from quell.report.design_words import beware, headline, sure
from tools import markdown

DOCS = pathlib.Path(__file__).parent.parent / "docs"
SHOWN = (
    design_results.chance_section,
    design_results.error_section,
    design_compared.classical_section,
    design_compared.sizes_section,
    design_compared.compared_section,
)


def main(source: str = "", docs: pathlib.Path = DOCS) -> None:
    """Keep the verdict, and write its page and picture."""
    found = json.loads(pathlib.Path(source or docs / "ivory-3.json").read_text("utf-8"))
    name = found["design"]
    (docs / f"{name}.json").write_text(to_json(found) + "\n", "utf-8")
    (docs / f"{name}.md").write_text(page(found), "utf-8")
    with matplotlib.rc_context(canvas.STYLE):
        drawn = design_results.chance_drawing(found)
        (docs / "pictures").mkdir(exist_ok=True)
        drawn.savefig(docs / "pictures" / f"{name}.svg", format="svg", metadata={"Date": None})


def page(found: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    name = found["design"]
    numbering = Numbering()
    made = [one(found, numbering) for one in SHOWN]
    kept: list[Section] = [one for one in made if one is not None]
    lines = [
        f"# {found.get('title') or name}\n",
        f"This page is made by `python -m tools.design_page` from [{name}.json]({name}.json), a verdict of `quell repeat {name}`; "
        "do not edit it.\n",
        f"**{found.get('question') or 'Is this design good enough?'}**\n",
        f"{design.sentence(found)}\n",
        *(f"- {line}" for line in sure(found)),
        "",
        f"![{headline(found)}](pictures/{name}.svg)\n\n{headline(found)}. {design_results.CAPTION}\n",
        "What not to conclude:\n",
        *(f"- {line}" for line in beware(found)),
        "",
        markdown.of_sections(kept),
        "## More\n",
        f"- The whole report, with true effects, looks, ends, estimates, example trials, worlds and the regulators’ list: `quell repeat {name} --trials "
        f"{found['trials']} --key {found['key']} --out out/{name}`.",
        "- [Is my design good enough?](questions/is-my-design-good-enough.md) shows how to try another.",
        "- What the worlds rest on: [the model](the-model.md), [the evidence](evidence.md), [the exam](exam.md), [credibility](credibility.md).",
        "",
        "## Provenance\n",
        *(f"- {key}: {text}" for key, text in design.provenance(found, {})),
    ]
    return "\n".join([*lines, ""]).replace("\u00a0", " ")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""docs/the-model.md from the table of constants, the organs' own words and equations, and the sensitivity run.

``python -m tools.model_page`` writes the page and the drawing; a test asks whether they are up to date.
"""

from __future__ import annotations

import collections
import importlib
import inspect
import json
import pathlib
import re

from quell.body import parameters, structure
from tools import diagram

DOCS = pathlib.Path(__file__).parent.parent / "docs"
ORGANS = {
    "drug": "Drug", "immunity": "Cells and inflammation of the blood", "vessel": "Artery wall and what a scanner sees",
    "heart": "Heart", "risk": "Risk and the loop", "harm": "Harm",
}  # fmt: skip


def page() -> str:
    """The whole page as Markdown."""
    intro = (DOCS / "parts" / "the-model-intro.md").read_text("utf-8")
    parts = [intro, _counts(), *(_organ(name, title) for name, title in ORGANS.items()), _population()]
    return "\n".join([*parts, _structures(), _sensitivity()])


def _counts() -> str:
    records = parameters.table()
    by_status = collections.Counter(record.status for record in records)
    told = ", ".join(f"{by_status[status]} {status}" for status in ("measured", "derived", "assumed"))
    return f"\nOf {len(records)} constants {told}.\n"


def _organ(name: str, title: str) -> str:
    module = importlib.import_module(f"quell.body.{name}")
    functions = [
        one for _, one in inspect.getmembers(module, inspect.isfunction)
        if one.__module__ == module.__name__ and not one.__name__.startswith("_") and " = " in (one.__doc__ or "").split(">>>")[0]
    ]  # fmt: skip
    functions.sort(key=lambda one: inspect.getsourcelines(one)[1])
    lines = [f"\n## {title}\n", f"`body/{name}.py`. {_words(module.__doc__ or '')}\n"]
    lines += [f"- `{one.__name__}`: {_flat(one.__doc__ or '')}" for one in functions]
    return "\n".join([*lines, "", _table(name)])


def _words(text: str) -> str:
    """A docstring as Markdown: indented lines become code."""
    out, code = [], False
    for line in inspect.cleandoc(text).splitlines():
        indented = line.startswith("    ")
        if indented != code and line.strip():
            out.append("```")
            code = indented
        if not line.strip() and code:
            out.append("")
            continue
        out.append(line[4:] if indented else line)
    return "\n".join(out + ["```"] * code)


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", inspect.cleandoc(text).split(">>>")[0]).strip()


def _population() -> str:
    return (
        "\n## People\n\n" + _table("population") + "\nCovariates and correlations stand in `body/populations.toml`.\n"
    )


def _table(organ: str) -> str:
    head = "| symbol | constant | value | unit | between people | uncertainty | status | meaning | source |\n|---|---|---|---|---|---|---|---|---|"
    rows = [_row(record) for record in parameters.table() if record.organ == organ]
    return "\n".join([head, *rows, ""])


def _row(record: parameters.Parameter) -> str:
    source = re.sub(r"\bE(\d{3})\b", r"[E\1](evidence.md#e\1)", record.source)
    numbers = [f"{record.value:.6g}", record.unit, f"{record.between_person:g}", f"{record.uncertainty:g}"]
    return (
        "| " + " | ".join([record.symbol, f"`{record.name}`", *numbers, record.status, record.meaning, source]) + " |"
    )


def _structures() -> str:
    lines = [
        "\n## Structures the evidence cannot tell apart\n",
        "Each is an option (`quell respond --structure depletion=none`), the first the default.\n",
    ]
    for one in structure.table():
        lines.append(f"\n**{one.title}** (`{one.name}`)\n")
        for option in one.options:
            changes = ", ".join(f"{name} = {value:g}" for name, value in option.changes.items()) or "as in the table"
            lines.append(f"- `{option.name}`: {option.meaning} ({changes}; source: {option.source})")
    return "\n".join([*lines, ""])


def _sensitivity() -> str:
    found = json.loads((DOCS / "parts" / "sensitivity.json").read_text("utf-8"))
    lines = [
        "\n## What the answers hang on\n",
        "Morris' elementary effects (SALib) over everything uncertain, each constant moved over two standard deviations of its log "
        "either way, 48 patients under IVORY's doses and under placebo. Mean absolute effect of one standard deviation, "
        "± its 95 % interval.\n",
        "![Mean absolute effect by constant](pictures/sensitivity.svg)\n",
    ]
    for one in found.values():
        told = ", ".join(
            f"{row['name'].replace('_', ' ')} {row['effect']:.3g} ± {row['error']:.1g}" for row in one["rows"][:6]
        )
        lines.append(f"- **{one['endpoint']}** (median over draws {one['middle']:.3g}): {told}")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    (DOCS / "the-model.md").write_text(page(), "utf-8")
    diagram.draw(DOCS / "pictures" / "model.svg")

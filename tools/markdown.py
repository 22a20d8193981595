"""Sections of a page as Markdown, so that a page and its Markdown say the same."""

from __future__ import annotations

from collections.abc import Sequence

from quell.report.blocks import Block, Cell, Section


def of_sections(sections: Sequence[Section]) -> str:
    """Headings, leads, boxes as lists, tables; pictures are left to the caller."""
    return "\n".join(line for section in sections for line in _section(section))


def _section(section: Section) -> list[str]:
    lines = [f"## {section.title}\n"]
    if section.lead:
        lines.append(f"{section.lead}\n")
    for block in section.blocks:
        lines += _block(block)
    return lines


def _block(block: Block) -> list[str]:
    if block.kind == "box":
        return [*(f"- {line}" for line in block.paragraphs), ""]
    if block.kind != "table":
        return []
    lines = [f"**{block.title}**\n", _row(block.head), "|" + "---|" * len(block.head)]
    lines += [_row(row) for row in block.rows]
    return [*lines, "", *([f"{block.caption}\n"] if block.caption else [])]


def _row(values: Sequence[Cell | str]) -> str:
    texts = [value.text if isinstance(value, Cell) else value for value in values]
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

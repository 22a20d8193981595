"""The page of a design for a trial's steering committee: is it good enough, what may go wrong, and how sure is that.

``found`` is ``quell.design.verdict.Verdict.as_dict()`` or the same read from JSON; a section shows where its key is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from quell import report
from quell.report import (
    credibility,
    design_checklist,
    design_compared,
    design_estimates,
    design_results,
    design_rules,
    words,
)
from quell.report.blocks import Numbering, Section
from quell.report.design_blocks import together
from quell.report.design_numbers import Found
from quell.report.design_words import beware, lines, sentence, summary, sure
from quell.report.words import Answer

__all__ = ["build", "lines", "sections", "sentence"]

KIND = "Simulated trials: virtual people"


class Headline(NamedTuple):
    """What the page calls itself, in the place of a protocol."""

    title: str
    question: str
    name: str
    phase: str = ""


def build(found: Found, versions: Mapping[str, str] | None = None) -> report.Page:
    """The page and its data: the same verdict gives the same bytes."""
    numbering = Numbering()
    title = found.get("title") or found["design"]
    answer = Answer(title, together(sentence(found)), tuple(map(together, sure(found))), tuple(beware(found)))
    main = design_results.chance_figure(found, numbering)
    html = report.template().render(
        kind=KIND,
        protocol=Headline(
            title, f"{found.get('question') or title} Is this design good enough to find out?", found["design"]
        ),
        answer=answer,
        summary=summary(found),
        research=words.RESEARCH,
        main=main,
        sections=sections(found, numbering),
        looks=[],
        simulated=True,
        provenance=provenance(found, versions or {}),
        style=report.style(),
    )
    return report.Page(html=html, files=dict(numbering.files))


def sections(found: Found, numbering: Numbering) -> tuple[Section, ...]:
    """Everything after the first screen, in the order in which a committee asks."""
    told = found.get("credibility")
    parts = (
        design_rules.section(found, numbering),
        design_results.chance_section(found, numbering),
        design_results.truth_section(found, numbering),
        design_results.error_section(found, numbering),
        design_results.looks_section(found, numbering),
        design_results.ends_section(found, numbering),
        design_estimates.estimation_section(found, numbering),
        design_estimates.secondary_section(found, numbering),
        design_compared.classical_section(found, numbering),
        design_compared.sizes_section(found, numbering),
        design_compared.compared_section(found, numbering),
        design_compared.information_section(found, numbering),
        design_compared.examples_section(found, numbering),
        design_rules.worlds_section(found, numbering),
        design_checklist.precision_section(found),
        design_checklist.limits_section(found),
        credibility.of_run(told, numbering) if told else None,
    )
    kept = tuple(one for one in parts if one is not None)
    return (*kept, design_checklist.section(found, {one.key: one.title for one in kept}, numbering))


def provenance(found: Found, versions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the answer followed from."""
    lines = [
        ("Design", f"{found['design']}, fingerprint {found['fingerprint']}"),
        ("Protocol", found["protocol"]),
        ("Trials", f"{found['trials']:,} of each world and size"),
        ("Bank", f"{found['draws']:,} sets of constants, {found['people']:,} people of each, under every arm"),
        ("Key", str(found["key"])),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in ({"quell": found["version"]} | dict(versions)).items()),
        ),
    ]
    return [(name, text) for name, text in lines if text]

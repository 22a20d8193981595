"""One page that stands alone: question, answer, pictures, provenance. No network and no script are needed to read it."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import jinja2
from markupsafe import Markup

from quell.analysis.claim import Claims
from quell.delivery import write_whole
from quell.protocol import Protocol
from quell.report import credibility, plan, sections, words
from quell.report.blocks import Numbering
from quell.report.sections import Material
from quell.sentences import BadInput
from quell.study import Study


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    """A finished page, and the data behind its figures as CSV by name."""

    html: str
    files: Mapping[str, bytes]

    def save(self, path: str | pathlib.Path) -> pathlib.Path:
        """Write the page whole or not at all; raises BadInput where the place cannot be written."""
        target = pathlib.Path(path)
        try:
            write_whole(target, self.html.encode())
        except OSError as error:
            raise BadInput(f"the report cannot be written to {target}: {error.strerror or error}.") from None
        return target


class Simulated(TypedDict, total=False):
    """What is known of a trial only because it was simulated."""

    truth: Mapping[str, Any] | None  # by name of claim: value and error
    comparisons: Sequence[Any]  # name, unit, published and its limits, q05 to q95, trials, source, role, note
    selection: Sequence[Any]  # estimand, of, and active, control and difference, each with value and error
    credibility: Mapping[str, Any] | None  # of quell.credibility.of_trial
    key: int | None


def build(
    protocol: Protocol,
    study: Study,
    claims: Claims,
    *,
    simulated: bool = False,
    versions: Mapping[str, str] | None = None,
    date: str | None = None,
    **known: Unpack[Simulated],
) -> Page:
    """The page of one study: the same arguments give the same bytes, because no date is put in unless one is given.

    >>> from quell.protocol import Protocol
    >>> empty = Study(protocol="ivory", tables={"subjects": Study(protocol="", tables={})["subjects"]})
    >>> page = build(protocol=Protocol.load("ivory"), study=empty, claims=Claims([]), simulated=False)
    >>> page.html.startswith("<!DOCTYPE html>"), "schedule.csv" in page.files
    (True, True)
    """
    of = Material(
        protocol=protocol,
        study=study,
        claims=claims,
        truth=known.get("truth") or {},
        comparisons=known.get("comparisons") or (),
        selection=known.get("selection") or (),
        simulated=simulated,
        numbering=Numbering(),
    )
    total = sum(of.randomised.values())
    answer = words.answer(claims, protocol, randomised=total, simulated=simulated, truth=of.truth)
    main = sections.main_figure(of, answer.title)
    found = list(_sections(of))
    told = known.get("credibility")
    if told:
        answer = answer._replace(beware=(*answer.beware, *map(_outside, told["applicability"]["sentences"])))
        found.insert(-1, credibility.of_run(told, of.numbering))
    html = template().render(
        protocol=protocol,
        answer=answer,
        summary=words.summary(protocol, of.randomised, simulated=simulated),
        research=words.RESEARCH,
        main=main,
        sections=found,
        looks=list(of.looks.values()),
        simulated=simulated,
        provenance=_provenance(protocol, study, known.get("key"), versions or {}, date),
        style=style(),
    )
    return Page(html=html, files=dict(of.numbering.files))


def _outside(sentence: str) -> str:
    """A warning that a simulation leaves what was studied."""
    return f"Anything that rests on what nobody has studied: {sentence}"


def _sections(of: Material) -> Sequence[Any]:
    claims = sections.claims_section(of)
    events = sections.events_section(of)
    people = plan.people_section(of)
    courses = sections.courses_section(of)
    pairs = sections.pairs_section(of)
    curves = any(endpoint.timed for endpoint in of.protocol.endpoints) and of.study["followed"].height > 0
    rest = (
        plan.schedule_section(of),
        plan.comparisons_section(of),
        plan.selection_section(of),
        plan.assumptions_section(of),
        plan.estimands_section(of),
        sections.references(of, pairs=pairs is not None, curves=curves),
    )
    return [section for section in (claims, events, people, courses, pairs, *rest) if section is not None]


def _provenance(
    protocol: Protocol, study: Study, key: int | None, versions: Mapping[str, str], date: str | None
) -> list[tuple[str, str]]:
    lines = [
        ("Protocol", f"{protocol.name}, version {protocol.version}, fingerprint {protocol.fingerprint}"),
        ("Registered as", ", ".join(protocol.registry)),
        ("Data", f"digest {study.digest}{f', from {study.origin}' if study.origin else ''}"),
        ("Key", "" if key is None else str(key)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Date", date or ""),
    ]
    return [(name, text) for name, text in lines if text]


@functools.cache
def template() -> jinja2.Template:
    text = (importlib.resources.files("quell") / "pages" / "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(text)


@functools.cache
def style() -> Markup:
    return Markup((importlib.resources.files("quell") / "pages" / "page.css").read_text(encoding="utf-8"))

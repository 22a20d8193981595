"""The sections of a page, each from the record, the protocol and the claims; absent where there is nothing to show."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from quell import figures
from quell.analysis import description
from quell.analysis.claim import Claim, Claims
from quell.figures import Look
from quell.protocol import Protocol
from quell.questions import LONGER_IS_BETTER
from quell.report import methods, words
from quell.report.blocks import Block, Cell, Data, Numbering, Panel, Section, cells
from quell.study import Columns, Study

BEFORE_AND_AFTER = 9  # quantities shown as pairs; a record may hold hundreds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that a page is made of."""

    protocol: Protocol
    study: Study
    claims: Claims
    truth: Mapping[str, Any]
    comparisons: Sequence[Any]
    selection: Sequence[Any]
    simulated: bool
    numbering: Numbering

    @functools.cached_property
    def columns(self) -> Columns:
        return self.study.columns(self.protocol)

    @functools.cached_property
    def looks(self) -> dict[str, Look]:
        return figures.looks(self.protocol)

    @functools.cached_property
    def courses(self) -> tuple[description.Course, ...]:
        return description.courses(self.study, self.protocol)

    @functools.cached_property
    def units(self) -> dict[tuple[str, str], str]:
        return description.quantities(self.study)

    @functools.cached_property
    def randomised(self) -> dict[str, int]:
        counts = dict(self.study.randomised["arm"].value_counts().iter_rows())
        return {arm: int(counts.get(arm, 0)) for arm in self.looks}

    def picture(self, figure: Any, alt: str, key: str) -> Markup:
        return Markup(figures.svg(figure, alt, key))

    def moments(self, visit: str) -> tuple[str, str]:
        return "baseline", visit

    def shared(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Data as it may leave: no identifiers of real people."""
        return frame if self.simulated or "subject" not in frame.columns else frame.drop("subject")


# -- the main figure ------------------------------------------------------------------------------------------------
def main_figure(of: Material, title: str) -> Block | None:
    """The primary question as one picture: people before and after, event curves, or the estimates alone."""
    primary = words.primary_claims(of.claims, of.protocol)
    if not primary:
        return None
    estimand, endpoint = words.question_of(primary[0], of.protocol)
    label, key = of.numbering.next("Figure")
    if endpoint is not None and endpoint.timed and of.study["followed"].height:
        population = estimand.population if estimand else "randomised"
        panel, data = _events_panel(of, endpoint, population, key)
        caption = f"{panel.title}. {_CURVES}"
        panels = (panel._replace(title=""),)
        return Block(
            kind="figure", key=key, label=label, title=title, caption=caption, panels=panels, legend=True, data=data
        )
    if endpoint is not None and endpoint.quantity:
        pairs = description.paired(
            of.study, of.protocol, endpoint.quantity, endpoint.location, endpoint.visit, of.columns
        )
        if pairs.height:
            return _paired_answer(of, pairs, endpoint, primary, label, key, title)
    panel = _forest_panel(of, primary, key)
    return Block(kind="figure", key=key, label=label, title=title, panels=(panel,), caption="Estimates with intervals.")


def _paired_answer(
    of: Material, pairs: pl.DataFrame, endpoint: Any, primary: list[Claim], label: str, key: str, title: str
) -> Block:
    means = description.paired_means(pairs, of.looks)
    unit = _axis(endpoint.quantity, of.units.get((endpoint.quantity, endpoint.location), endpoint.unit))
    moments = of.moments(endpoint.visit)
    estimable = [claim for claim in primary if claim.estimate is not None and not claim.is_ratio]
    if estimable:
        rows, sides = forest_rows(of, estimable), _sides(of, estimable[0])
        figure = figures.answer(pairs, means, of.looks, moments=moments, unit=unit, rows=rows, sides=sides)
    else:
        figure = figures.paired(pairs, means, of.looks, moments=moments, unit=unit)
    alt = f"{title}; {_pairs_in_words(of, means)}."
    caption = (
        f"{_named(endpoint.quantity, endpoint.location)} of each person at baseline and at {endpoint.visit} (thin lines), "
        f"means with 95 % intervals (thick). Below: the difference between the arms with its interval. {_world(of)}"
    )
    data = (of.numbering.data(f"{key} people", of.shared(pairs)), of.numbering.data(f"{key} means", means))
    panels = (Panel("", of.picture(figure, alt, key)),)
    return Block(kind="figure", key=key, label=label, title=title, caption=caption.strip(), panels=panels, data=data)


def _world(of: Material) -> str:
    return "The ring is the true value, known only because the trial is simulated." if of.truth else ""


def _named(quantity: str, location: str) -> str:
    return f"{quantity}, {location}" if location else quantity


def _axis(quantity: str, unit: str) -> str:
    return f"{quantity}, {unit}" if unit and unit not in quantity else quantity


def _pairs_in_words(of: Material, means: pl.DataFrame) -> str:
    rows = {(row["arm"], row["moment"]): row for row in means.iter_rows(named=True)}
    said = []
    for arm, look in of.looks.items():
        row = rows[arm, "change"]
        if row["n"]:
            at = words.decimals((row["upper"] - row["lower"]) / 2)
            said.append(f"{words.span(row['mean'], row['lower'], row['upper'], at)} on {look.label}")
    return f"mean change {', '.join(said)}" if said else ""


# -- claims -----------------------------------------------------------------------------------------------------------
CLAIMS = ("Question", "Compared", "Estimate (interval)", "p", "n", "Method", "Role")


def claims_section(of: Material) -> Section | None:
    """Every claim as a table and as forests, one for each scale."""
    if not len(of.claims):
        return None
    blocks = [_claims_table(of)]
    groups: dict[tuple[bool, str, tuple[str, str]], list[Claim]] = {}
    two = len(of.protocol.arms) == 2
    for claim in of.claims:
        if claim.estimate is not None and (claim.lower is not None or claim.upper is not None):
            groups.setdefault((claim.is_ratio, _scale(of, claim), _sides(of, claim, named=two)), []).append(claim)
    if groups:
        blocks.append(_forests(of, list(groups.values())))
    lead = "Each line is one question that the protocol asked beforehand, with its estimate, interval and number of people."
    return Section(key="claims", title="What may be claimed", lead=lead, blocks=tuple(blocks))


def _claims_table(of: Material) -> Block:
    label, key = of.numbering.next("Table")
    head = (*CLAIMS[:3], *(("True value in this world",) if of.truth else ()), *CLAIMS[3:])
    rows = []
    for claim in of.claims:
        pair = _compared(of, claim)
        world = of.truth.get(claim.name)
        row: list[object] = [claim.name, pair, Cell(words.with_interval(claim), _full(claim.estimate))]
        true = "–" if world is None else Cell(words.true_value(world, claim), _full(float(world.value)))
        row += [true] if of.truth else []
        row += [
            Cell(_both_p(claim), _full(claim.p)),
            Cell(str(claim.n), str(claim.n)),
            claim.method,
            claim.role,
        ]
        rows.append(cells(row, head))
    frame = pl.DataFrame([_flat(claim.to_dict()) for claim in of.claims], infer_schema_length=None)
    doubts: dict[str, list[str]] = {}
    for claim in of.claims:
        for warning in claim.warnings:
            doubts.setdefault(warning, []).append(claim.name)
    levels = " and ".join(f"{100 * level:.4g} %" for level in sorted({claim.level for claim in of.claims}))
    caption = f"Intervals are {levels}; {_together(of.protocol)}."
    caption += "".join(f" {warning} ({'; '.join(names)})" for warning, names in doubts.items())
    return Block(
        kind="table",
        key=key,
        label=label,
        title="All claims",
        caption=caption,
        head=head,
        rows=tuple(rows),
        narrow="line",
        data=(of.numbering.data("claims", frame),),
    )


def _both_p(claim: Claim) -> str:
    """The p, and the adjusted one where the analysis is tested together with others."""
    if claim.adjusted_p is None:
        return words.p_value(claim.p)
    return f"{words.p_value(claim.p)} (adjusted {words.p_value(claim.adjusted_p)})"


def _together(protocol: Protocol) -> str:
    """Which claims share an error, in words."""
    if protocol.testing is None:
        return "claims other than the primary are not adjusted for their number"
    names = "; ".join(protocol.testing.analyses)
    return f"adjusted p by the {protocol.testing.procedure} procedure for {names}; no interval and no other claim is adjusted"


def _compared(of: Material, claim: Claim) -> str:
    """Which arms a claim sets against each other."""
    active, control = words.arm_labels(claim, of.protocol)
    estimand, _ = words.question_of(claim, of.protocol)
    if claim.arms is None and estimand is not None:
        shown = [of.protocol.arm(arm).shown for arm in (*estimand.active, estimand.control)]
        return f"{', '.join(shown)}{', by dose' if estimand.summary == 'slope on dose' else ''}"
    return f"{active} {'over' if claim.is_ratio else 'minus' if claim.estimate is not None else 'and'} {control}"


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)


def _flat(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim's values, lists written as text."""
    return {name: "; ".join(map(str, value)) if isinstance(value, list) else value for name, value in claim.items()}


def _scale(of: Material, claim: Claim) -> str:
    estimand, endpoint = words.question_of(claim, of.protocol)
    if claim.is_ratio:
        return "ratio"
    summary = estimand.summary if estimand else claim.scale
    quantity = endpoint.quantity.split(" of ")[0] if endpoint and summary == "difference in means" else ""
    return f"{summary} {quantity} {claim.unit}"


def _sides(of: Material, claim: Claim, *, named: bool = True) -> tuple[str, str]:
    """What lies left and right of no effect; arms by name, or as the first and second of each row."""
    estimand, endpoint = words.question_of(claim, of.protocol)
    active, control = words.arm_labels(claim, of.protocol)
    if estimand is not None and estimand.summary == "slope on dose":
        active, control = "more dose", "less dose"
    elif not named:
        active, control = "the first named", "the second"
    longer = estimand is not None and estimand.summary in LONGER_IS_BETTER
    higher = longer or (endpoint is not None and endpoint.better == "higher")
    left, right = (control, active) if higher else (active, control)
    return f"← favours {left}", f"favours {right} →"


def forest_rows(of: Material, claims: Iterable[Claim]) -> pl.DataFrame:
    """Claims as rows of a forest."""
    rows = []
    for claim in claims:
        world = of.truth.get(claim.name)
        rows.append(
            {"label": claim.name, "value": words.with_interval(claim), "estimate": claim.estimate, "lower": claim.lower}
            | {"upper": claim.upper, "truth": None if world is None else float(world.value), "n": claim.n}
            | {"primary": claim.role == "primary"}
        )
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("estimate", "lower", "upper", "truth"), pl.Float64))


def _forest_panel(of: Material, claims: list[Claim], key: str) -> Panel:
    rows = forest_rows(of, claims)
    estimand, _ = words.question_of(claims[0], of.protocol)
    summary = estimand.summary if estimand else claims[0].scale
    asked = [words.question_of(claim, of.protocol)[0] for claim in claims]
    kinds = {one.summary for one in asked if one is not None}
    named = summary if len(kinds) < 2 else "ratio" if claims[0].is_ratio else "difference"
    unit = f", {claims[0].unit}" if claims[0].unit not in ("", "1") and not claims[0].is_ratio else ""
    axis = f"{named}{unit}{', log scale' if claims[0].is_ratio else ''}"
    sides = _sides(of, claims[0], named=len(of.protocol.arms) == 2)
    figure = figures.forest(rows, ratio=claims[0].is_ratio, sides=sides, axis=axis)
    alt = "; ".join(f"{row['label']}: {row['value']}" for row in rows.iter_rows(named=True))
    return Panel("", of.picture(figure, alt, key))


def _forests(of: Material, groups: list[list[Claim]]) -> Block:
    label, key = of.numbering.next("Figure")
    panels = tuple(_forest_panel(of, group, f"{key}-{index}") for index, group in enumerate(groups))
    clear = sum(words.is_clear(claim) for group in groups for claim in group)
    every = sum(len(group) for group in groups)
    title = f"{clear} of {every} estimates leave out “no difference”"
    caption = f"Squares are estimates, lines their intervals, the dashed line is no difference; the primary is bold. {_world(of)}"
    frame = forest_rows(of, [claim for group in groups for claim in group])
    return Block(
        kind="figure",
        key=key,
        label=label,
        title=title,
        caption=caption.strip(),
        panels=panels,
        data=(of.numbering.data("forest", frame),),
    )


# -- events -------------------------------------------------------------------------------------------------------------
def events_section(of: Material) -> Section | None:
    """Cumulative incidence of every time-to-event endpoint, with numbers at risk."""
    timed = [endpoint for endpoint in of.protocol.endpoints if endpoint.timed]
    if not timed or not of.study["followed"].height:
        return None
    primary = words.primary_claims(of.claims, of.protocol)
    shown = words.question_of(primary[0], of.protocol)[1] if primary else None
    others = [endpoint for endpoint in timed if endpoint != shown]
    if not others:
        return None
    label, key = of.numbering.next("Figure")
    lead = "The share of people who have had the event, counted from day 1, with those still followed under the axis."
    parts = [_events_panel(of, one, _population(of.protocol, one.name), f"{key}-{at}") for at, one in enumerate(others)]
    block = Block(
        kind="figure",
        key=key,
        label=label,
        title="Events by arm",
        caption=_CURVES,
        panels=tuple(panel for panel, _ in parts),
        legend=True,
        data=tuple(data for _, files in parts for data in files),
    )
    return Section(key="events", title="Events over time", lead=lead, blocks=(block,))


_CURVES = (
    "Lines: one minus Kaplan–Meier; bands: 95 % intervals; ticks: people no longer followed. Each curve ends where fewer "
    "than 10 % are at risk. Deaths that are not counted are censored."
)


def _population(protocol: Protocol, endpoint: str) -> str:
    primary = protocol.estimand(protocol.primary.estimand)
    fallback = primary.population if protocol.endpoint(primary.endpoint).timed else "randomised"
    return next((one.population for one in protocol.estimands if one.endpoint == endpoint), fallback)


def _events_panel(of: Material, endpoint: Any, population: str, key: str) -> tuple[Panel, tuple[Data, ...]]:
    days = description.axis_days(of.protocol, of.columns)
    curves = [description.incidence(of.columns, endpoint, arm, population=population, days=days) for arm in of.looks]
    counts = ", ".join(f"{curve.events} of {curve.n} on {of.looks[curve.arm].label}" for curve in curves)
    what = f" ({', '.join(endpoint.components)})" if endpoint.components != (endpoint.name,) else ""
    title = f"{words.capital(endpoint.name)}{what}, of {words.people(population)}: {counts}"
    frames = [curve.curve.with_columns(arm=pl.lit(curve.arm)) for curve in curves if curve.n]
    tables = [curve.table.with_columns(arm=pl.lit(curve.arm)) for curve in curves]
    data = [of.numbering.data(f"{key} {endpoint.name} at risk", pl.concat(tables))]
    data += [of.numbering.data(f"{key} {endpoint.name} curves", pl.concat(frames))] if frames else []
    return Panel(title, of.picture(figures.incidence(curves, of.looks), title, key)), tuple(data)


# -- measurements over time and before and after ----------------------------------------------------------------------
def courses_section(of: Material) -> Section | None:
    """Time courses by arm of everything that was read at three visits or more."""
    if not of.courses:
        return None
    label, key = of.numbering.next("Figure")
    panels, data = [], []
    for index, course in enumerate(of.courses):
        title = _course_title(of, course)
        figure = figures.course(course, of.looks, dose_days=of.protocol.dose_days)
        panels.append(Panel(title, of.picture(figure, title, f"{key}-{index}")))
        data.append(of.numbering.data(f"{key} {_named(course.quantity, course.location)}", course.summary))
    caption = (
        "Titles: median (quartiles). Lines: medians at the planned days; bars: quartiles; dots: single readings on the day they were taken; "
        "marks on the axis: doses. Readings below the limit of quantification count as half of it."
    )
    block = Block(
        kind="figure",
        key=key,
        label=label,
        title="Measurements over time, by arm",
        caption=caption,
        panels=tuple(panels),
        legend=True,
        data=tuple(data),
    )
    return Section(key="courses", title="Over time", blocks=(block,))


def _course_title(of: Material, course: description.Course) -> str:
    visits = [one.visit for one in of.protocol.endpoints if one.quantity == course.quantity and one.visit]
    days = course.summary.filter(pl.col("visit") == visits[0]) if visits else course.summary.clear()
    if not days.height:
        days = course.summary.filter(pl.col("day") == course.summary["day"].max())
    said = []
    for arm, look in of.looks.items():
        mine = days.filter(pl.col("arm") == arm)
        if mine.height:
            row = mine.row(0, named=True)
            at = words.decimals((row["upper_quartile"] - row["lower_quartile"]) / 2)
            said.append(
                f"{words.span(row['median'], row['lower_quartile'], row['upper_quartile'], at)} on {look.label}"
            )
    unit = f", {course.unit}" if course.unit and course.unit not in course.quantity else ""
    where = f" at {days['visit'][0]}" if days.height else ""
    return f"{_named(course.quantity, course.location)}{unit}{where}: {', '.join(said)}"


def pairs_section(of: Material) -> Section | None:
    """Paired readings, and change against baseline, of what was read before and after."""
    seen = {(course.quantity, course.location) for course in of.courses}
    wanted = [(one.quantity, one.location) for one in of.protocol.endpoints if one.quantity]
    order = [place for place in dict.fromkeys([*wanted, *of.units]) if place not in seen]
    found = []
    for quantity, location in order:
        visit = description.last_visit(of.columns, of.protocol, quantity, location)
        pairs = description.paired(of.study, of.protocol, quantity, location, visit or "", of.columns)
        if visit and pairs.height > 1:
            found.append((quantity, location, visit, pairs))
    if not found:
        return None
    found = found[:BEFORE_AND_AFTER]
    blocks = (_paired_block(of, found), _change_block(of, found))
    return Section(key="before-and-after", title="Before and after", blocks=blocks)


def _paired_block(of: Material, found: list[tuple[str, str, str, pl.DataFrame]]) -> Block:
    label, key = of.numbering.next("Figure")
    panels, data = [], []
    for index, (quantity, location, visit, pairs) in enumerate(found):
        means = description.paired_means(pairs, of.looks)
        title = f"{_named(quantity, location)}: {_pairs_in_words(of, means)}"
        unit = _axis(quantity, of.units.get((quantity, location), ""))
        figure = figures.paired(pairs, means, of.looks, moments=of.moments(visit), unit=unit)
        panels.append(Panel(title, of.picture(figure, title, f"{key}-{index}")))
        data.append(of.numbering.data(f"{key} {_named(quantity, location)}", of.shared(pairs)))
    caption = "Thin lines: people; thick: means with 95 % intervals, of those with both readings." + _thinned(found)
    return Block(
        kind="figure",
        key=key,
        label=label,
        title="Each person before and after",
        caption=caption,
        panels=tuple(panels),
        data=tuple(data),
    )


def _thinned(found: list[tuple[str, str, str, pl.DataFrame]]) -> str:
    most = max(int(pairs["arm"].value_counts()["count"].to_numpy().max()) for _, _, _, pairs in found)
    limit = figures.canvas.MOST_PEOPLE
    return f" Of large arms every k-th person is drawn, at most {limit}." if most > limit else ""


def _change_block(of: Material, found: list[tuple[str, str, str, pl.DataFrame]]) -> Block:
    label, key = of.numbering.next("Figure")
    panels, data = [], []
    control = of.protocol.control.name
    for index, (quantity, location, visit, pairs) in enumerate(found):
        change = description.versus_baseline(pairs, control)
        name = _named(quantity, location)
        at = words.decimals((change.slope_upper - change.slope_lower) / 2)
        slope = words.span(change.slope, change.slope_lower, change.slope_upper, at)
        title = f"{name}: one unit more at baseline, {slope} more change by {visit} on {of.looks[control].label} alone"
        unit = of.units.get((quantity, location), "")
        figure = figures.versus_baseline(change, of.looks, quantity=quantity, unit=unit)
        panels.append(Panel(title, of.picture(figure, title, f"{key}-{index}")))
        data.append(of.numbering.data(f"{key} {name} line", change.line))
    caption = (
        "Points: people. Dashed line with 95 % band: regression to the mean and the natural course, fitted to the control arm "
        "alone; a treatment that works lies off this line, not off zero." + _thinned(found)
    )
    return Block(
        kind="figure",
        key=key,
        label=label,
        title="Change against the baseline value",
        caption=caption,
        panels=tuple(panels),
        legend=True,
        data=tuple(data),
    )


__all__ = ["Data", "Material", "claims_section", "courses_section", "events_section", "main_figure", "pairs_section"]


def references(of: Material, *, pairs: bool, curves: bool) -> Section:
    """How each number was made."""
    label, key = of.numbering.next("Table")
    head = ("For", "What was done", "Reference")
    rows = tuple(cells(row, head) for row in methods.used(of.protocol, pairs=pairs, curves=curves))
    block = Block(
        kind="table", key=key, label=label, title="Methods and references", head=head, rows=rows, narrow="card"
    )
    return Section(key="methods", title="Methods", blocks=(block,))

"""The sections about people and plan: flow, Table 1, schedule, comparisons, selection, assumptions, estimands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from quell import figures
from quell.analysis import description
from quell.analysis.flow import flow as flow_of
from quell.promises import Arm
from quell.protocol import Protocol
from quell.questions import Endpoint, Estimand
from quell.report import words
from quell.report.blocks import Block, Cell, Panel, Section, cells
from quell.report.sections import Material


# -- people -------------------------------------------------------------------------------------------------------------
def people_section(of: Material) -> Section:
    """The CONSORT flow and Table 1."""
    flow = flow_of(of.study, of.protocol, of.columns)
    label, key = of.numbering.next("Figure")
    primary = {arm: boxes[-1].n for arm, boxes in flow.arms.items()}
    total, analysed = sum(of.randomised.values()), sum(primary.values())
    chart = Block(
        kind="flow",
        key=key,
        label=label,
        title=f"{analysed} of the {total} people randomised are in the primary analysis",
        caption="CONSORT flow, counted from the record. A person without a recorded reason is counted as such.",
        flow={"before": flow.before, "arms": {of.protocol.arm(arm).shown: flow.arms[arm] for arm in of.looks}},
        data=(of.numbering.data("flow", flow.frame()),),
    )
    return Section(key="people", title="Who took part", blocks=(chart, _table_one(of)))


def _table_one(of: Material) -> Block:
    frame = description.table_one(of.study, of.protocol, of.columns)
    label, key = of.numbering.next("Table")
    groups = [*of.looks, description.TOTAL]
    counts = {**of.randomised, description.TOTAL: sum(of.randomised.values())}
    shown = {arm: look.label for arm, look in of.looks.items()} | {description.TOTAL: "Total"}
    head = ("At baseline", *(f"{shown[group]} (n = {counts[group]})" for group in groups))
    rows = []
    for (variable, level), part in frame.group_by("variable", "level", maintain_order=True):
        by_arm = {row["arm"]: row for row in part.iter_rows(named=True)}
        first = by_arm[description.TOTAL]
        name = f"{variable}: {level}" if level else str(variable)
        name += f", {first['unit']}" if first["unit"] and first["unit"] not in name else ""
        at = _places(first)
        rows.append(cells([f"{name}, {first['kind']}", *(_described(by_arm[group], at) for group in groups)], head))
    caption = (
        "No p-values: chance made the groups. [m] after a value: so many are missing. Percentages are of those known."
    )
    data = (of.numbering.data("table one", frame),)
    title = "Who was randomised (Table 1 of the trial)"
    return Block(
        kind="table",
        key=key,
        label=label,
        title=title,
        caption=caption,
        head=head,
        rows=tuple(rows),
        narrow="stacked",
        data=data,
    )


def _places(row: dict[str, Any]) -> int:
    if row["kind"] == "median (IQR)":
        return words.decimals(((row["upper_quartile"] or 0) - (row["lower_quartile"] or 0)) / 2 or row["median"])
    return words.decimals(row["sd"])


def _described(row: dict[str, Any], at: int) -> str:
    missing = f" [{row['missing']}]" if row["missing"] else ""
    if not row["n"]:
        return f"–{missing}"
    if row["kind"] == "n (%)":
        return f"{row['count']} ({row['percent']:.0f} %){missing}"
    if row["kind"] == "mean (SD)":
        return f"{words.number(row['mean'], at)} ({words.number(row['sd'], at)}){missing}"
    low, high = words.number(row["lower_quartile"], at), words.number(row["upper_quartile"], at)
    return f"{words.number(row['median'], at)} ({low} to {high}){missing}"


# -- plan -----------------------------------------------------------------------------------------------------------------
def schedule_section(of: Material) -> Section:
    """The schedule of activities, as marks on a time line and as a table."""
    protocol = of.protocol
    marks = pl.DataFrame(list(_marks(protocol)), schema=_MARKS)
    label, key = of.numbering.next("Figure")
    blocks = []
    if marks.height:
        alt = "; ".join(f"{visit.name}: {', '.join(visit.procedures) or 'visit'}" for visit in protocol.visits)
        panel = Panel("", of.picture(figures.schedule(marks), alt, key))
        title = f"{len(protocol.dose_days)} dosing days and {len(protocol.visits)} visits over {protocol.last_visit_day} days"
        caption = "Dots: planned days; pale bars: the days a visit may fall; strokes: doses (a placebo is dosed too)."
        data = (of.numbering.data("schedule", marks),)
        blocks.append(
            Block(kind="figure", key=key, label=label, title=title, caption=caption, panels=(panel,), data=data)
        )
    blocks.append(_visits_table(of))
    return Section(key="schedule", title="What was planned", blocks=tuple(blocks))


_MARKS = {"lane": pl.String, "day": pl.Int64, "early": pl.Int64, "late": pl.Int64, "kind": pl.String}


def _marks(protocol: Protocol) -> Iterable[dict[str, object]]:
    calendars = {arm.name: sorted({day for dose in arm.doses for day in dose.on}) for arm in protocol.arms}
    alike = len({tuple(days) for days in calendars.values()}) == 1
    for arm in protocol.arms[:1] if alike else protocol.arms:
        lane = "dose, every arm" if alike else f"dose, {arm.shown}"
        for day in calendars[arm.name]:
            yield {"lane": lane, "day": day, "early": 0, "late": 0, "kind": "dose"}
    procedures = dict.fromkeys(one for visit in protocol.visits for one in visit.procedures if one != "dose")
    for procedure in procedures or ("visit",):
        for visit in protocol.visits:
            if procedure in visit.procedures or not procedures:
                early, late = visit.window
                yield {"lane": procedure, "day": visit.day, "early": early, "late": late, "kind": "procedure"}


def _visits_table(of: Material) -> Block:
    label, key = of.numbering.next("Table")
    procedures = list(dict.fromkeys(one for visit in of.protocol.visits for one in visit.procedures))
    head = ("Visit", "Day (window)", *procedures)
    rows = []
    for visit in of.protocol.visits:
        early, late = visit.window
        window = f"{words.number(visit.day, 0)}" + (f" ({words.number(early, 0)} to +{late})" if early or late else "")
        rows.append(cells([visit.name, window, *("●" if one in visit.procedures else "" for one in procedures)], head))
    doses = " ".join(f"{arm.shown}: {_doses(arm)}." for arm in of.protocol.arms)
    title = "Schedule of activities"
    return Block(kind="table", key=key, label=label, title=title, caption=doses, head=head, rows=tuple(rows))


def _doses(arm: Arm) -> str:
    if arm.untreated:
        return "nothing, by design"
    return "; ".join(f"{dose.drug} {dose.amount} {dose.route}, days {dose.days}" for dose in arm.doses)


# -- published beside simulated -------------------------------------------------------------------------------------------
def comparisons_section(of: Material) -> Section | None:
    """Published figures on the band of simulated trials; what described the people is set apart."""
    if not of.comparisons:
        return None
    blocks = []
    for role, title in (
        ("predicted", "Predicted and published"),
        ("input", "Used to describe the people, not predicted"),
    ):
        rows = [one for one in of.comparisons if (one.role == "input") == (role == "input")]
        if rows:
            blocks.append(_comparison(of, rows, title, role))
    blocks.append(_comparison_table(of))
    lead = (
        "Many simulated trials give a range; a published figure inside it agrees with the model, one outside does not."
    )
    return Section(key="published", title="Published and simulated", lead=lead, blocks=tuple(blocks))


def _comparison_frame(rows: Sequence[Any]) -> pl.DataFrame:
    numbers = ("published", "published_lower", "published_upper", "q05", "q25", "q50", "q75", "q95")
    found = []
    for one in rows:
        at = words.decimals((one.q95 - one.q05) / 2)
        simulated = f"{words.number(one.q50, at)} ({words.number(one.q05, at)} to {words.number(one.q95, at)})"
        unit = _unit(one)
        published = words.number(one.published, at)
        found.append(
            {"label": f"{one.name}{unit}", "value": f"published {published}, simulated {simulated}"}
            | {name: _float(getattr(one, name)) for name in numbers}
            | {"trials": int(one.trials), "source": one.source, "role": one.role, "note": one.note or ""}
        )
    texts = dict.fromkeys(("label", "value", "source", "role", "note"), pl.String)
    return pl.DataFrame(found, schema_overrides=texts | dict.fromkeys(numbers, pl.Float64))


def _unit(one: Any) -> str:
    return f", {one.unit}" if one.unit not in ("", "1") and one.unit not in one.name else ""


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _comparison(of: Material, rows: Sequence[Any], title: str, role: str) -> Block:
    label, key = of.numbering.next("Figure")
    inside = sum(one.q05 <= one.published <= one.q95 for one in rows)
    if role == "predicted":
        title = f"Within what 90 % of simulated trials give: {inside} of {len(rows)} published figures"
    size = 4
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    panels = []
    for index, part in enumerate(parts):
        frame = _comparison_frame(part)
        alt = "; ".join(f"{row['label']}: {row['value']}" for row in frame.iter_rows(named=True))
        panels.append(Panel("", of.picture(figures.exam(frame), alt, f"{key}-{index}")))
    trials = max(int(one.trials) for one in rows)
    caption = (
        "Black diamonds: published, with their interval where given. Bands: 50 % (dark) and 90 % (pale) of "
        f"{trials:,} simulated trials, uncertainty about the model’s numbers included; the stroke is their median. Each row has its own scale."
    )
    data = (of.numbering.data(f"{key} comparison", _comparison_frame(rows)),)
    return Block(kind="figure", key=key, label=label, title=title, caption=caption, panels=tuple(panels), data=data)


def _comparison_table(of: Material) -> Block:
    label, key = of.numbering.next("Table")
    head = ("Figure", "Published", "Simulated: median (90 % of trials)", "Kind", "Source")
    rows = []
    for one in of.comparisons:
        at = words.decimals((one.q95 - one.q05) / 2)
        published = words.number(one.published, at)
        if one.published_lower is not None and one.published_upper is not None:
            published += f" ({words.number(one.published_lower, at)} to {words.number(one.published_upper, at)})"
        simulated = f"{words.number(one.q50, at)} ({words.number(one.q05, at)} to {words.number(one.q95, at)})"
        kind = "used to describe the people, not predicted" if one.role == "input" else "predicted"
        unit = _unit(one)
        source = f"{one.source}{f' ({one.note})' if one.note else ''}"
        rows.append(cells([f"{one.name}{unit}", published, simulated, kind, source], head))
    return Block(
        kind="table",
        key=key,
        label=label,
        title="Published figures and their sources",
        head=head,
        rows=tuple(rows),
        narrow="card",
    )


# -- selection ------------------------------------------------------------------------------------------------------------
def selection_section(of: Material) -> Section | None:
    """The same risks among everybody and among those chosen: how who is looked at changes what is estimated.

    A selection names its estimand and the people (``of``), and has ``active``, ``control`` and ``difference``, each with
    value and error: absolute risks, known only because the trial is simulated.
    """
    if not of.selection:
        return None
    label, key = of.numbering.next("Table")
    names = [of.looks[arm].label for arm in of.looks if not of.protocol.arm(arm).control]
    active, control = " or ".join(names), of.protocol.control.shown
    head = ("Question", "Among", active, control, "Difference")
    rows, flat = [], []
    for one in of.selection:
        values = [one.active, one.control, one.difference]
        rows.append(cells([one.estimand, one.of, *(_risk(value) for value in values)], head))
        numbers = {"active": one.active.value, "control": one.control.value, "difference": one.difference.value}
        flat.append({"estimand": one.estimand, "of": one.of} | numbers | {"error": one.difference.error})
    lead = "Whoever is left out changes the question. The true risks of the same virtual people, all of them and those chosen:"
    block = Block(
        kind="table",
        key=key,
        label=label,
        title="What looking only at some people does",
        caption="People in 100 with the event, ± Monte Carlo error; known only because the trial is simulated.",
        head=head,
        rows=tuple(rows),
        narrow="line",
        data=(of.numbering.data("selection", pl.DataFrame(flat)),),
    )
    return Section(key="selection", title="Who is chosen", lead=lead, blocks=(block,))


def _risk(found: Any) -> Cell:
    """A true risk as people in 100, with its Monte Carlo error."""
    at = words.decimals(100 * found.error) if found.error else 2
    text = f"{words.number(100 * found.value, at)} ± {words.number(100 * found.error, at)}"
    return Cell(text, repr(float(found.value)))


# -- assumptions and estimands ----------------------------------------------------------------------------------------------
def assumptions_section(of: Material) -> Section | None:
    """What the protocol supposes where the sources are silent."""
    lines = [
        f"{words.capital(one.about)}: {one.text}{f' ({one.source})' if one.source else ''}"
        for one in of.protocol.assumptions
    ]
    if of.simulated:
        lines.append(
            "People: virtual, drawn to resemble the published baseline; drug, immune cells, vessels and events follow quell’s model."
        )
    if not lines:
        return None
    return Section(key="assumptions", title="Assumptions", blocks=(Block(kind="box", paragraphs=tuple(lines)),))


def estimands_section(of: Material) -> Section:
    """Every question in the five attributes of ICH E9(R1)."""
    label, key = of.numbering.next("Table")
    head = ("Estimand", "Treatment", "Population", "Variable", "Intercurrent events", "Summary")
    rows = tuple(cells(_attributes(of.protocol, one), head) for one in of.protocol.estimands)
    title = "Estimands: treatment, population, variable, intercurrent events, summary"
    caption = "ICH E9(R1). An intercurrent event without a strategy here is not expected by the protocol."
    block = Block(kind="table", key=key, label=label, title=title, caption=caption, head=head, rows=rows, narrow="card")
    return Section(key="estimands", title="The questions, exactly", blocks=(block,))


def _attributes(protocol: Protocol, estimand: Estimand) -> list[str]:
    endpoint = protocol.endpoint(estimand.endpoint)
    active = " or ".join(protocol.arm(arm).shown for arm in estimand.active)
    strategies: dict[str, list[str]] = {}
    for one in estimand.intercurrent_events:
        strategies.setdefault(one.strategy, []).append(one.event)
    events = "; ".join(f"{', '.join(names)}: {strategy}" for strategy, names in strategies.items()) or "none declared"
    until = f" by {estimand.until}" if estimand.until else ""
    treatment = f"{active} against {protocol.arm(estimand.control).shown}"
    return [estimand.name, treatment, estimand.population, _variable(endpoint), events, f"{estimand.summary}{until}"]


def _variable(endpoint: Endpoint) -> str:
    if endpoint.timed:
        first = f"time to the first of: {', '.join(endpoint.components)}"
        return f"{first}, before {' or '.join(endpoint.competing)}" if endpoint.competing else first
    if endpoint.kind == "recurrent":
        return f"every occurrence of: {', '.join(endpoint.components)}"
    if endpoint.kind == "hierarchical":
        return f"compared in this order: {', then '.join(endpoint.levels)}"
    place = f" of the {endpoint.location}" if endpoint.location else ""
    when = " and ".join(endpoint.visits) or endpoint.visit
    scale = "" if endpoint.scale == "value" else f"{endpoint.scale} of "
    rule = f", whether {endpoint.responds}" if endpoint.responds else ""
    unit = f" ({endpoint.unit})" if endpoint.unit else ""
    return f"{scale}{endpoint.quantity}{place} at {when}{unit}{rule}"

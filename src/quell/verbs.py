"""What each verb does, for the command line and the page alike: input names in, results as a dictionary out."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from quell import __version__, store
from quell.analysis.claim import Claims
from quell.delivery import check_folder, deliver, to_json, versions
from quell.protocol import Protocol
from quell.sentences import BadInput, near
from quell.study import Study

Tell = Callable[[str, float | None], None]


# The truth of a world and the comparisons do not depend on the trial's key: another key is another trial in one world.
WORLD_KEY = 1


def run(
    name: str, *, folder: pathlib.Path | None, key: int, world: str, without: str, repeats: int, tell: Tell
) -> dict[str, Any]:
    """Simulate one trial, analyse it, compare it with the truth and with what is published, and report."""
    protocol = Protocol.load(name)
    folder = folder or pathlib.Path("out") / protocol.name
    check_folder(folder)
    tell("waking the simulator", None)
    from quell import credibility, figures, trial
    from quell.analysis.plan import analyse as carry_out

    threading.Thread(target=figures.prepare, daemon=True).start()  # loads the drawing while programs compile
    store.keep()
    there = trial.settled(_world(world, without), key)
    tell("living the trial", None)
    study = trial.run(protocol, there, key=key)
    claims = carry_out(protocol, study)
    tell("living everybody under every arm", None)
    known = store.answer(("truth", protocol.fingerprint, there), lambda: _true(protocol, there))
    truths = {one: trial.Truth(*values) for one, values in known["truth"].items()}
    selected = [trial.Selection(*row[:2], *(trial.Truth(*values) for values in row[2:])) for row in known["selection"]]
    compared = _compared(protocol, there, repeats, tell)
    tell("judging what it may be used for", None)
    told = credibility.of_trial("run", protocol, there, compared=compared, unsure=_unsure(claims, compared))
    tell("writing the report", None)
    page = _page(
        protocol,
        study,
        claims,
        truth=truths,
        selection=selected,
        comparisons=compared,
        credibility=told,
        key=key,
        simulated=True,
    )
    result = _results(protocol, key, claims) | {
        "world": there.name,
        "truth": {one: truth._asdict() for one, truth in truths.items()},
        "selection": [_selected(row) for row in selected],
        "comparisons": [dataclasses.asdict(one) for one in compared],
        "study": study.digest,
        "credibility": told,
        "warnings": told["applicability"]["sentences"],
    }
    return _delivered(protocol, study, result, page, folder, claims)


def _unsure(claims: Claims, compared: list[Any]) -> list[str]:
    """How one trial carries its uncertainty."""
    intervals = sum(claim.lower is not None or claim.upper is not None for claim in claims)
    said = [
        f"Chance of one trial: {intervals} of {len(claims)} claims have an interval; the truth of the world has its Monte Carlo error."
    ]
    if compared:
        said.append(
            f"Published figures are held against {compared[0].trials:,} trials with constants drawn anew for each."
        )
    return said


def _world(name: str, without: str) -> Any:
    from quell import trial

    world = trial.World(name)
    return world.without(without) if without else world


def _true(protocol: Protocol, world: Any) -> dict[str, Any]:
    """The truth of every analysis, and what selection does to it, as plain lists."""
    from quell import trial

    lived = trial.potential(protocol, world, key=WORLD_KEY)
    return {"truth": trial.truths(protocol, lived), "selection": trial.selection(protocol, lived)}


def _compared(protocol: Protocol, world: Any, repeats: int, tell: Tell) -> list[Any]:
    """Published figures against many simulated trials, the body's parameters drawn anew for each."""
    from quell import design, exam

    watch = exam.watch(protocol)
    if repeats == 0 or watch is None:
        return []

    def work_out() -> list[dict[str, Any]]:
        progress = lambda done, of: tell("simulating further trials", done / of)  # noqa: E731
        found = design.repeat(protocol, world.drawn(), trials=repeats, key=WORLD_KEY, watch=watch, progress=progress)
        return [dataclasses.asdict(one) for one in exam.comparisons(found)]

    known = store.answer(("comparisons", protocol.fingerprint, world, repeats), work_out)
    return [exam.Comparison(**one) for one in known]


def analyse(path: pathlib.Path, name: str, *, folder: pathlib.Path | None, tell: Tell) -> dict[str, Any]:
    """Read a real study, carry out the protocol's analyses, and report."""
    from quell.analysis.plan import analyse as carry_out
    from quell.exchange import read_study

    protocol = Protocol.load(name)
    folder = folder or pathlib.Path("out") / protocol.name
    check_folder(folder)
    tell("reading the study", None)
    study = read_study(path, protocol)
    tell("analysing", None)
    claims = carry_out(protocol, study)
    tell("writing the report", None)
    page = _page(protocol, study, claims, simulated=False)
    result = _results(protocol, None, claims) | {"study": study.digest}
    return _delivered(protocol, study, result, page, folder, claims)


def repeat(
    name: str,
    *,
    folder: pathlib.Path | None,
    trials: int,
    key: int,
    world: str,
    without: str,
    uncertain: bool,
    tell: Tell,
) -> dict[str, Any]:
    """Many trials: the operating characteristics of every declared analysis, beside the truth."""
    protocol = Protocol.load(name)
    tell("waking the simulator", None)
    from quell import credibility, design, trial

    store.keep()
    there = _world(world, without)
    there = there.drawn() if uncertain and not there.uncertain else there
    uncertain = there.uncertain
    found = design.repeat(
        protocol, there, trials=trials, key=key, progress=lambda done, of: tell(f"{done:,} of {of:,} trials", done / of)
    )
    # where every trial has a world of its own there is no one truth to be biased against, only an average
    truths = trial.truth(protocol, there, key=WORLD_KEY)
    rows = found.performances(None if uncertain else truths)
    result = {
        "protocol": protocol.name,
        "fingerprint": protocol.fingerprint,
        "key": key,
        "version": __version__,
        "world": there.name,
        "trials": trials,
        "performances": [_performance(row) for row in rows],
        "average_truth" if uncertain else "truth": {name: one._asdict() for name, one in truths.items()},
    }
    told = credibility.of_trial(
        "repeat", protocol, there, unsure=[f"Chance: {trials:,} trials; each figure has its Monte Carlo error."]
    )
    result |= {"credibility": told, "warnings": told["applicability"]["sentences"]}
    if folder:
        deliver(folder, {"performances.json": to_json(result) + "\n"})
    lines = [f"{trials:,} trials of {protocol.name} in the world '{there.name}'", *map(_said, rows)]
    return result | {"lines": [*lines, *(f"  {one}" for one in result["warnings"])]}


def _performance(row: Any) -> dict[str, Any]:
    plain = dataclasses.asdict(row)
    return plain | {"truth": row.truth._asdict() if row.truth else None}


def _said(row: Any) -> str:
    truth = f", truth {row.truth.value:.3g} ± {row.truth.error:.1g}" if row.truth else ""
    cover = f", interval holds the truth in {row.covers}" if row.covers else ""
    if row.usable == 0:
        return f"  {row.name}: rejects in {row.rejects}"
    return f"  {row.name}: mean {row.mean:.3g} ± {row.mean_error:.1g}, spread {row.spread:.3g}{truth}; rejects in {row.rejects}{cover}"


def respond(
    dose: str,
    days: str,
    *,
    folder: pathlib.Path | None,
    world: str,
    structures: Mapping[str, str],
    tell: Tell,
    **asked: Any,
) -> dict[str, Any]:
    """What a dose schedule does to patients, with a page and the numbers behind it."""
    import io

    from quell import credibility, figures, response
    from quell.report import response as page

    folder = folder or pathlib.Path("out") / "respond"
    check_folder(folder)
    threading.Thread(target=figures.prepare, daemon=True).start()
    store.keep()
    found = response.respond(dose, days, body=response.known(world, dict(structures)), tell=tell, **asked)
    found["credibility"] = credibility.of_response(found)
    tell("drawing", None)
    html, files = page.build(found)
    table = io.BytesIO()
    page.frame(found).write_parquet(table)
    results: dict[str, bytes | str] = {
        "response.json": to_json(found) + "\n",
        "response.parquet": table.getvalue(),
        "report.html": html,
    }
    written = deliver(folder, results | files)
    lines = [page.sentence(found), *(f"  {one}" for one in found["warnings"]), f"report: {folder / 'report.html'}"]
    return found | {"files": [str(path) for path in written], "lines": lines}


def calibrate(*, folder: pathlib.Path | None, key: int, quick: bool, tell: Tell) -> dict[str, Any]:
    """Fit the body to published studies: draws of its constants, and what says whether to trust them."""
    tell("waking the simulator", None)
    from quell import calibrate as fitting

    store.keep()
    folder = folder or pathlib.Path("out") / ("calibrate-quick" if quick else "calibrate")
    found = fitting.run(folder, key, quick, tell)
    stages = {stage: found[stage] for stage in fitting.posterior.STAGES}
    lines = [line for stage, one in stages.items() for line in _fitted(stage, one)]
    return found | {"lines": [*lines, f"draws: {', '.join(str(folder / f'{stage}.parquet') for stage in stages)}"]}


def _fitted(stage: str, found: dict[str, Any]) -> list[str]:
    """What says whether the draws of a stage can be trusted."""
    told = found["diagnosis"]
    return [
        f"{stage}: {told['draws']:,} draws: largest R-hat {told['largest_rhat']:.4f} ({told['of_rhat']}), least effective draws "
        f"{min(told['least_bulk'], told['least_tail']):.0f} ({told['of_bulk']}), {told['divergences']} divergences",
        *([f"  {fault}" for fault in found["faults"]] or ["  no fault found"]),
    ]


def convert(target: pathlib.Path, name: str, *, arm: str, subject: int | None, key: int) -> dict[str, Any]:
    """Write the model of one patient under an arm's doses as SBML."""
    import hashlib

    from quell.delivery import write_whole

    if target.suffix.lower() not in (".sbml", ".xml"):
        raise BadInput(f"'{target}': quell converts its model to SBML. Give a file that ends in .sbml or .xml.")
    protocol = Protocol.load(name)
    arms = {one.name: one for one in protocol.arms}
    chosen = arm or next((one.name for one in protocol.arms if not one.control), protocol.arms[0].name)
    if chosen not in arms:
        raise BadInput(f"'{chosen}' is no arm of {protocol.name}. {near(chosen, arms)}")
    from quell.body import parameters, sbml
    from quell.trial.plan import lay_out

    plan = lay_out(protocol)
    patient = sbml.typical() if subject is None else sbml.someone(protocol.population.people, subject, key)
    place = list(arms).index(chosen)
    area = float(patient.body_surface_area)
    each = [x * area if per else x for x, per in zip(plan.amounts[place], plan.per_area[place], strict=True)]
    doses = list(zip(plan.dose_days, each, strict=True))
    who = "the typical patient" if subject is None else f"subject {subject} of key {key}"
    text = sbml.export(parameters.load(), patient, doses, f"{protocol.name}, {chosen}: {who}").encode()
    try:
        write_whole(target, text)
    except OSError as error:
        raise BadInput(f"the model cannot be written to {target}: {error.strerror or error}.") from None
    return {
        "format": "SBML Level 3 Version 1",
        "protocol": protocol.name,
        "fingerprint": protocol.fingerprint,
        "arm": chosen,
        "patient": who,
        "doses": sum(amount > 0 for _, amount in doses),
        "file": str(target),
        "sha256": hashlib.sha256(text).hexdigest(),
        "lines": [f"{target}: the body of {who} under {chosen}, SBML Level 3"],
    }


def check(what: str, protocol: str) -> dict[str, Any]:
    """Say what an input is and what is wrong with it."""
    path = pathlib.Path(what)
    if path.is_dir() or (path.is_file() and path.suffix != ".toml"):
        from quell.exchange import describe

        found = describe(path, Protocol.load(protocol) if protocol else None)
        return found | {"lines": _described(found)}
    declared = Protocol.load(what)
    return {
        "kind": "protocol",
        "protocol": declared.name,
        "fingerprint": declared.fingerprint,
        "arms": [arm.name for arm in declared.arms],
        "visits": [visit.name for visit in declared.visits],
        "analyses": [analysis.name for analysis in declared.analyses],
        "problems": [],
        "toml": declared.to_toml(),
        "lines": [
            f"{declared.name}: {declared.title}",
            f"  {len(declared.arms)} arms, {declared.population.planned} people planned, {len(declared.visits)} visits, "
            f"{len(declared.analyses)} analyses; fingerprint {declared.fingerprint}",
        ],
    }


def _described(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{key}: {value}" for key, value in found.items() if key != "problems" and not isinstance(value, (dict, list))
    ]
    problems = [f"quell: {problem}" for problem in found.get("problems", [])]
    return lines + (problems or ["no problem found"])


def _results(protocol: Protocol, key: int | None, claims: Claims) -> dict[str, Any]:
    return {
        "protocol": protocol.name,
        "fingerprint": protocol.fingerprint,
        "key": key,
        "version": __version__,
        "claims": [claim.to_dict() for claim in claims],
    }


def _selected(row: Any) -> dict[str, Any]:
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in row._asdict().items()}


def _page(protocol: Protocol, study: Study, claims: Claims, **more: Any) -> Any:
    from quell import report

    rests = versions("polars", "jax", "matplotlib")
    return report.build(protocol=protocol, study=study, claims=claims, versions=rests, **more)


def _delivered(
    protocol: Protocol, study: Study, result: dict[str, Any], page: Any, folder: pathlib.Path, claims: Claims
) -> dict[str, Any]:
    files: dict[str, bytes | str] = {f"data/{name}": content for name, content in page.files.items()} | {
        "report.html": page.html,
        "results.json": to_json(result) + "\n",
        "protocol.toml": protocol.to_toml(),
    }
    written = deliver(folder, files)
    study.write(folder / "study")
    written.append(folder / "study")
    primary = claims[next(claim.name for claim in claims if claim.role == "primary")]
    lines = [
        f"{primary.name}: {primary}",
        *(f"  {warning}" for warning in (*primary.warnings, *result.get("warnings", ()))),
        f"report: {folder / 'report.html'}",
    ]
    return result | {"files": [str(path) for path in written], "lines": lines}

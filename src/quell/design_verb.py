"""What the verbs about designs do: repeat a design, find a dose and schedule, and what a trial would mean for a country."""

from __future__ import annotations

import io
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from quell import store
from quell.delivery import check_folder, deliver, to_json, versions
from quell.protocol import Protocol
from quell.sentences import BadInput

Tell = Callable[[str, float | None], None]


def is_design(name: str) -> bool:
    """Whether a name is a design's rather than a protocol's: a built-in design, or a file that names a protocol."""
    from quell.design.declared import Design
    from quell.sentences import read_toml

    if name in Design.names():
        return True
    path = pathlib.Path(name)
    return path.suffix == ".toml" and path.is_file() and bool({"extends", "protocol"} & read_toml(path).keys())


def repeat(
    name: str,
    *,
    folder: pathlib.Path | None,
    trials: int,
    key: int,
    against: Sequence[str],
    target: float | None,
    engine: str,
    workers: int | None,
    tell: Tell,
) -> dict[str, Any]:
    """Many trials of a design in all its worlds: what they came to, against planning by hand and other designs; a page."""
    from quell.design import alternatives, verdict
    from quell.design.declared import Design
    from quell.design.engine import named

    design, where = Design.load(name), named(engine, workers)
    others = [Design.load(one) for one in against]
    folder = folder or pathlib.Path("out") / design.name
    check_folder(folder)
    store.keep()
    from quell import figures

    threading.Thread(target=figures.prepare, daemon=True).start()
    place = folder / "trials"
    found = verdict.judge(design, trials=trials, key=key, folder=place, engine=where, tell=tell)
    if not design.select:
        others = [alternatives.fixed(design), *others]
    comparisons = alternatives.against(found, others, place, engine=where, tell=tell)
    smaller = _smallest(found, target, tell) if target else {}
    tell("writing the report", None)
    told = alternatives.as_dict(found, comparisons, smaller, alternatives.information(found))
    told |= _trusted(design, trials, key, name)
    return _delivered(told, found, folder)


def check(name: str) -> dict[str, Any]:
    """What a design is: its worlds, sizes, looks and the limits that follow."""
    from quell.design import verdict
    from quell.design.declared import Design

    design = Design.load(name)
    sizes = [verdict.limits_of(design, number) for number in range(len(design.variants))]
    lines = [
        f"{design.name}: {design.title or design.question}",
        f"  {' against '.join([', '.join(design.active), design.control])} (protocol {design.plan.name}); {len(design.looks)} looks, "
        f"{len(design.worlds)} worlds; fingerprint {design.fingerprint}",
        *(f"  {one['size']}: success at Z of {', '.join(f'{z:.2f}' for z in one['limits']['upper'])}" for one in sizes),
    ]
    told: dict[str, Any] = {
        "kind": "design",
        "design": design.name,
        "fingerprint": design.fingerprint,
        "protocol": design.plan.name,
    }
    told |= {"worlds": [one.name for one in design.worlds], "sizes": sizes, "problems": [], "toml": design.text()}
    return told | {"lines": lines}


def _smallest(found: Any, target: float, tell: Tell) -> dict[str, Any]:
    from quell.design import alternatives

    worlds = [one for one in alternatives.worlds_compared(found) if not found.design.world(one).null]
    return {world: alternatives.smallest(found, world, target, tell=tell) for world in worlds}


def _trusted(design: Any, trials: int, key: int, name: str) -> dict[str, Any]:
    """Credibility of the run, its warnings, and how to run it again."""
    from quell import credibility, trial

    stage = next((one.posterior for one in design.worlds if one.posterior), "")
    told: dict[str, Any] = {"command": f"quell repeat {name} --trials {trials} --key {key}"}
    if not stage:
        return told
    unsure = [f"Each trial lives in one of the draws of '{stage}'; Monte Carlo errors are clustered by draw."]
    known = credibility.of_trial("repeat", design.plan, trial.World(stage), unsure=unsure)
    return told | {"credibility": known, "warnings": list(known["applicability"]["sentences"])}


def _delivered(told: dict[str, Any], found: Any, folder: pathlib.Path) -> dict[str, Any]:
    from quell.report import design as page

    built = page.build(told, versions("scipy", "jax", "numba"))
    files: dict[str, bytes | str] = {f"data/{one}": content for one, content in built.files.items()}
    files |= {"report.html": built.html, "design.json": to_json(told) + "\n", "trials.parquet": _table(found)}
    written = deliver(folder, files)
    lines = [*page.lines(told), *(f"  {one}" for one in told.get("warnings", [])), f"report: {folder / 'report.html'}"]
    return told | {"files": [str(path) for path in written], "lines": lines}


def _table(found: Any) -> bytes:
    """Every trial, one row each."""
    parts = [
        table.select(pl.lit(cell.world).alias("world"), pl.lit(cell.variant).alias("variant"), pl.all())
        for cell, table in found.tables.items()
    ]
    content = io.BytesIO()
    pl.concat(parts, how="diagonal_relaxed").write_parquet(content, compression="zstd", statistics=False)
    return content.getvalue()


def optimise(
    name: str, *, folder: pathlib.Path | None, key: int, worth: str, limits: Sequence[str], tell: Tell, **asked: Any
) -> dict[str, Any]:
    """The dose and schedule of the best benefit against burden for a protocol's people, and how sure that is."""
    from quell.design import dosing, dosing_aim
    from quell.report import dosing as page

    protocol = Protocol.load(name)
    asked |= {"population": protocol.population.people}
    if worth:
        asked["worth"] = dosing_aim.burden(worth)
    if limits:
        asked["limits"] = dosing_aim.limits(list(limits))
    aim = dosing_aim.ask(**asked)
    folder = folder or pathlib.Path("out") / f"{protocol.name}-dose"
    check_folder(folder)
    store.keep()
    found = dosing.optimise(aim, protocol=protocol, key=key, tell=tell).as_dict()
    html, files = page.build(found)
    written = deliver(folder, {"report.html": html, "dose.json": to_json(found) + "\n", **files})
    lines = [
        page.sentence(found),
        *(f"  {one}" for one in found.get("warnings", [])),
        f"report: {folder / 'report.html'}",
    ]
    return found | {"files": [str(path) for path in written], "lines": lines}


def impact(
    name: str,
    *,
    ratio: str,
    folder: pathlib.Path | None,
    key: int,
    world: str,
    tell: Tell,
    **asked: Any,
) -> dict[str, Any]:
    """From a trial's effect to a country: by a hazard ratio, or by what a design's world says of its people."""
    from quell import impact as nation
    from quell.report import impact as page
    from quell.report import impact_words

    if bool(name) == bool(ratio):
        raise BadInput(
            'quell impact needs a design (quell impact ivory-3), or --hazard-ratio "0.7 (0.5 to 0.98)"; one of them.'
        )
    folder = folder or pathlib.Path("out") / (f"{pathlib.Path(name).stem}-impact" if name else "impact")
    check_folder(folder)
    store.keep()
    effect = _effect(name, world, tell) if name else None
    found = nation.run(ratio, effect=effect, key=key, tell=tell, **asked)
    built = page.build(found, versions("scipy", "jax", "numba"))
    files: dict[str, bytes | str] = {f"data/{one}": content for one, content in built.files.items()}
    files |= {"report.html": built.html, "impact.json": to_json(found) + "\n"}
    written = deliver(folder, files)
    lines = [impact_words.sentence(found), f"report: {folder / 'report.html'}"]
    return found | {"files": [str(path) for path in written], "lines": lines}


def _effect(name: str, world: str, tell: Tell) -> Any:
    """What a design's world says: survival without a heart attack on both arms, one row for each draw."""
    from quell import impact as nation
    from quell.design import carried, survival
    from quell.design.declared import Design, DesignError

    design = Design.load(name)
    lived = [one.name for one in design.worlds if one.posterior]
    chosen = world or (lived[0] if lived else "")
    if chosen not in lived:
        raise DesignError(
            f"'{chosen}' is no world of '{design.name}' in which people live; those are: {', '.join(lived) or 'none'}."
        )
    shards = carried.banks(design, carried.Effort(0, 0), worlds=[chosen], tell=tell)[chosen]
    control, active = survival.by_year(design, shards)
    words = f"Every draw of the world '{chosen}' of the design {design.name}"
    return nation.of_survival(control, active, words=words)

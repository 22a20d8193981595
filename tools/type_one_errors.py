"""How often each adaptive rule shipped claims success where nothing works: docs/parts/type-one-errors.json.

    python -m tools.type_one_errors                    # 100,000 trials of each, some hours on two cores; resumes
    python -m tools.type_one_errors --trials 4000 --only ivory-3-seamless --keep elsewhere.json

Each shipped design is tried in its worlds without effect: `null` (hazard ratio 1 by assumption; `scan-only` too, where the
surrogate moves and events do not), and `no-efficacy`, where people of a bank live as the evidence leaves open but the drug
calms nothing. Stops for futility and harm that do not bind are overruled, as they may be in practice, so that the error is
the largest there is; a gate, or a choice that stops a trial, is part of the rule and is followed. The first of a design's
sizes is taken. The error is Monte Carlo's, trials of one draw of constants being alike.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import multiprocessing
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
import polars as pl

from quell.delivery import write_whole
from quell.design import answers, bank, conduct, limits, scene
from quell.design.declared import Design

TABLE = pathlib.Path(__file__).parent.parent / "docs" / "type-one-errors.md"
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "parts" / "type-one-errors.json"
STOPS = "stops for futility and harm that do not bind are overruled"
WORLDS = ("null", "scan-only", "no-efficacy")
KEY = 2026
DRAWS, PEOPLE = 100, 100  # of the bank in which nothing works


def jobs(names: tuple[str, ...], worlds: tuple[str, ...], shelf: pathlib.Path) -> list[conduct.Job]:
    """One job for each design and world without effect; banks are lived where they are missing."""
    found = []
    for world in worlds:
        for name in names:
            design = Design.load(name)
            if world in [one.name for one in design.worlds]:
                paths = () if design.world(world).assumed else shards(design, world, shelf)
                found.append(conduct.Job(design=overruled(design), world=world, key=KEY, paths=paths))
    return found


def overruled(design: Design) -> Design:
    """The design without its stops that do not bind, and without what is not tested here."""
    futility = design.futility if design.futility and design.futility.binding else None
    return design.but(futility=futility, harm=None, secondary=None, costs=None)


def shards(design: Design, world: str, shelf: pathlib.Path) -> tuple[str, ...]:
    """The files of the bank of a world, made where they are missing."""
    made = bank.recipe(
        design.plan, design.world(world), draws=DRAWS, people=PEOPLE, horizon=design.horizon_days, key=KEY
    )
    paths = [shelf / f"{made.fingerprint}-{number}.parquet" for number in range(made.shards)]
    for number, path in enumerate(paths):
        if not path.exists():
            write_whole(path, bank.shard(made, number))
    return tuple(map(str, paths))


def successes(job: conduct.Job, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Success and draw of each trial of a chunk."""
    found = pl.read_parquet(io.BytesIO(conduct.chunk(job, number)), columns=["success", "draw"])
    return found["success"].to_numpy(), found["draw"].to_numpy()


def row(job: conduct.Job, trials: int, pool: concurrent.futures.Executor) -> dict[str, Any]:
    """The type I error of one design in one world."""
    chunks = -(-trials // conduct.CHUNK)
    parts = list(pool.map(successes, [job] * chunks, range(chunks), chunksize=4))
    success, draw = (np.concatenate(part) for part in zip(*parts, strict=True))
    found = answers.rate(success, draw)
    of = scene.game(job.design, job.variant, job.world, job.paths, job.key)
    return {
        "design": job.design.name,
        "fingerprint": job.design.fingerprint,
        "size": job.design.variants[job.variant].name,
        "world": job.world,
        "trials": found.n,
        "draws": found.draws,
        "level": limits.level(of) if job.design.efficacy.by == "posterior" else job.design.level,
        "value": found.value,
        "error": found.error,
    }


def page(rows: list[dict]) -> str:
    """The table as Markdown.

    >>> row = {"design": "a", "world": "null", "size": "9 people", "trials": 1000, "value": 0.02, "error": 0.004, "level": 0.025}
    >>> page([row]).splitlines()[-1]
    '| a | null | 9 people | 1,000 | 2.00 % ± 0.40 | 2.50 % |'
    """
    lines = [
        "# Success where nothing works",
        "",
        "Made by `python -m tools.type_one_errors`; do not edit it. Each row: trials without any effect, stops for futility and harm that",
        "do not bind overruled, so that nothing but the rule itself keeps the level. `scan-only`: the drug moves the scan and no event.",
        "",
        "| Design | World | Size | Trials | Type I error, one-sided | Level laid down |",
        "|---|---|---|---|---|---|",
    ]
    for one in rows:
        said = f"{100 * one['value']:.2f} % ± {100 * one['error']:.2f}"
        lines.append(
            f"| {one['design']} | {one['world']} | {one['size']} | {one['trials']:,} | {said} | {100 * one['level']:.2f} % |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    told.add_argument("--trials", type=int, default=100_000)
    told.add_argument("--only", action="append", default=[], help="a design; may be given again")
    told.add_argument("--world", action="append", default=[], help="a world; may be given again")
    told.add_argument("--keep", type=pathlib.Path, default=PAGE)
    told.add_argument("--bank", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "quell-type-one")
    asked = told.parse_args()
    known = json.loads(asked.keep.read_text()) if asked.keep.exists() else {"rows": []}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        for job in jobs(tuple(asked.only) or Design.names(), tuple(asked.world) or WORLDS, asked.bank):
            same = [
                one
                for one in known["rows"]
                if (one["design"], one["world"], one["fingerprint"])
                == (job.design.name, job.world, job.design.fingerprint)
            ]
            if same and same[0]["trials"] >= asked.trials:
                continue
            found = row(job, asked.trials, pool)
            rest = [one for one in known["rows"] if (one["design"], one["world"]) != (found["design"], found["world"])]
            known = {"stops": STOPS, "rows": sorted([*rest, found], key=lambda one: (one["design"], one["world"]))}
            write_whole(asked.keep, (json.dumps(known, indent=1) + "\n").encode())
            write_whole(TABLE, page(known["rows"]).encode())
            said = [f"{100 * found[name]:.2f}" for name in ("value", "error", "level")]
            print(f"{job.name}: {said[0]} % ± {said[1]}, laid down {said[2]} %", flush=True)


if __name__ == "__main__":
    main()

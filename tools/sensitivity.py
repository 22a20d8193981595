"""Which constants the answers of an IVORY-like trial hang on: Morris' elementary effects over what is not known.

Every constant with an uncertainty moves over two standard deviations of its log either way; 48 patients live IVORY's
doses and placebo under each set of constants. Run ``python -m tools.sensitivity``; the model page shows the result.
"""

from __future__ import annotations

import functools
import json
import pathlib

import matplotlib
import numpy as np
from SALib.analyze import morris as analysis
from SALib.sample import morris as sampling

from quell import blocks, keys
from quell.body import course, parameters, population
from quell.keys import jax

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DOSES = (1, 2, 3, 4, 5, *range(12, 55, 7))
READ = (54, 61, 180, 365)
PEOPLE, TRAJECTORIES, SPAN, SHOWN = 48, 24, 2.0, 12
ENDPOINTS = {
    "treg": "regulatory T cells % of CD4 on day 54, treated over placebo, log",
    "wall": "aortic TBR on day 61, treated less placebo",
    "crp": "C-reactive protein on day 61, treated over placebo, log",
    "infarct": "infarct mass at one year, treated less placebo, g",
    "hazard": "hazard of infarction on day 180, treated over placebo, log",
}


def main() -> None:
    """Sample, live, analyse, and write docs/parts/sensitivity.json and its picture."""
    uncertain = [record for record in parameters.table() if record.uncertainty > 0]
    problem = {
        "num_vars": len(uncertain),
        "names": [one.name for one in uncertain],
        "bounds": [[-SPAN, SPAN]] * len(uncertain),
    }
    z = sampling.sample(problem, TRAJECTORIES, num_levels=6, seed=7)
    results = _endpoints(z, uncertain)
    found = {}
    for name, values in results.items():
        effect = analysis.analyze(problem, z, values, num_levels=6, seed=7)
        order = np.argsort(-effect["mu_star"])[:SHOWN]
        scale = 1 / (2 * SPAN)  # SALib's effects are per whole range: told per standard deviation
        rows = [
            (problem["names"][i], effect["mu_star"][i], effect["mu_star_conf"][i], effect["sigma"][i]) for i in order
        ]
        found[name] = {
            "endpoint": ENDPOINTS[name],
            "middle": round(float(np.median(values)), 4),
            "rows": [
                {"name": n, "effect": round(m * scale, 5), "error": round(c * scale, 5), "spread": round(s * scale, 5)}
                for n, m, c, s in rows
            ],
        }
    (DOCS / "parts" / "sensitivity.json").write_text(json.dumps(found, indent=1) + "\n")
    _draw(found)


def _endpoints(z: np.ndarray, uncertain: list) -> dict[str, np.ndarray]:
    draw = blocks.Program(
        lambda i: population.draw(keys.at(17, "subject", i), parameters.load(), population.POPULATIONS["ivory"]),
        identity=("sensitivity",),
    )
    people = draw(np.arange(PEOPLE))
    people = people._replace(thresholds=jax.tree.map(lambda x: x * np.inf, people.thresholds))
    grid = course.mesh(DOSES, READ, READ[-1])
    found: dict[str, list] = {name: [] for name in ENDPOINTS}
    for block in np.array_split(z, max(len(z) // 64, 1)):
        sets = parameters.load()._asdict()
        worlds = {name: np.full(len(block), value) for name, value in sets.items()}
        for column, record in zip(block.T, uncertain, strict=True):
            worlds[record.name] = record.value * np.exp(record.uncertainty * column)
        each = parameters.Parameters(**{name: np.repeat(values, PEOPLE) for name, values in worlds.items()})
        everybody = jax.tree.map(functools.partial(_tiled, times=len(block)), people)
        treated, placebo = (
            course.many(everybody, np.full((len(block) * PEOPLE, len(DOSES)), dose), each, grid).observed
            for dose in (1.5, 0.0)
        )
        gap = {
            "treg": np.log(treated.treg_percent[:, 0] / placebo.treg_percent[:, 0]),
            "wall": (treated.tbr_ascending_aorta - placebo.tbr_ascending_aorta)[:, 1],
            "crp": np.log(treated.crp[:, 1] / placebo.crp[:, 1]),
            "infarct": (treated.infarct_mass - placebo.infarct_mass)[:, 3],
            "hazard": np.log(treated.hazard[:, 2] / placebo.hazard[:, 2]),
        }
        for name, values in gap.items():
            found[name].append(values.reshape(len(block), PEOPLE).mean(axis=1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _tiled(x: np.ndarray, times: int) -> np.ndarray:
    return np.tile(x, (times, *[1] * (np.ndim(x) - 1)))


def _draw(found: dict) -> None:
    matplotlib.use("svg")
    from matplotlib.figure import Figure

    matplotlib.rcParams |= {
        "svg.hashsalt": "quell",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9,
    }
    figure = Figure(figsize=(10, 6.2))
    for i, one in enumerate(list(found.values())[:4]):
        place = figure.add_subplot(2, 2, i + 1)
        rows = one["rows"][:8][::-1]
        place.barh([row["name"].replace("_", " ") for row in rows], [row["effect"] for row in rows],
                   xerr=[row["error"] for row in rows], color="#0b6e75", alpha=0.75, ecolor="#1d2529")  # fmt: skip
        place.set_title(one["endpoint"], fontsize=9, loc="left")
        place.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(DOCS / "pictures" / "sensitivity.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

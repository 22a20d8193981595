"""The page of ``quell respond``: what a dose schedule does to patients, in pictures and a table."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup

from quell import figures
from quell.report import credibility, words
from quell.report.blocks import Numbering, Section, csv

NAMES = {
    "il2": "interleukin-2 (before the dose)", "treg": "regulatory T cells", "treg_percent": "regulatory T cells, % of CD4",
    "teff": "effector T cells", "nk": "natural killer cells", "nk_bright": "CD56bright natural killer cells",
    "ilc2": "group 2 innate lymphoid cells", "eosinophils": "eosinophils", "il5": "interleukin-5", "il6": "interleukin-6",
    "crp": "C-reactive protein", "tbr_ascending_aorta": "TBR, ascending aorta", "tbr_left_carotid": "TBR, left carotid",
    "tbr_right_carotid": "TBR, right carotid", "tbr_coronary": "TBR, coronary", "ejection_fraction": "ejection fraction",
    "infarct_mass": "infarct mass", "hazard": "hazard of infarction", "soluble_cd25": "soluble CD25",
    "end_diastolic_volume": "end-diastolic volume",
}  # fmt: skip
GROUPS = {
    "Drug and cells it moves": ("il2", "treg", "treg_percent", "teff", "nk", "nk_bright", "ilc2", "eosinophils", "il5", "soluble_cd25"),
    "Inflammation in blood": ("il6", "crp"),
    "Wall of the vessels": ("tbr_ascending_aorta", "tbr_left_carotid", "tbr_right_carotid", "tbr_coronary"),
    "Heart and risk": ("ejection_fraction", "infarct_mass", "end_diastolic_volume", "hazard"),
}  # fmt: skip
REMARKS = (
    "Readings of a day come before that day's dose, so peaks of interleukin-2 are not seen, and cells that leave the blood "
    "for a day after a dose are seen the day after.",
    "Patients are candidates as admitted, before any trial's screen; what changes without treatment (placebo) is recovery "
    "from the index event.",
    "No human figure exists for innate lymphoid cells, interleukin-5, ejection fraction or infarct under this drug: those "
    "panels are assumptions made visible.",
)


def build(found: Mapping[str, Any]) -> tuple[str, dict[str, bytes]]:
    """The page as HTML, and its data as CSV and Parquet-ready frames by name."""
    folder = importlib.resources.files("quell") / "pages"
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((folder / "response.html").read_text(encoding="utf-8"))
    html = template.render(
        found=found,
        style=Markup((folder / "page.css").read_text(encoding="utf-8")),
        research=words.RESEARCH,
        sentence=sentence(found),
        notes=[*(f"{one[0].upper()}{one[1:]}" for one in found["warnings"]), *REMARKS],
        groups=[_group(found, title, names) for title, names in GROUPS.items()],
        table=_table(found),
        harms=[(name.replace("_", " "), f"{100 * share:.0f} %") for name, share in found["harms"].items()],
        credibility=_credibility(found),
        provenance=_provenance(found),
    )
    return html, {"response.csv": csv(frame(found))}


def _credibility(found: Mapping[str, Any]) -> Section | None:
    """What the simulation may be used for, where the result says so."""
    told = found.get("credibility")
    return credibility.of_run(told, Numbering()) if told else None


def frame(found: Mapping[str, Any]) -> pl.DataFrame:
    """Every number of a response: one row for each arm, observable and day."""
    rows = []
    for arm, side in (("treated", "observables"), ("placebo", "placebo")):
        for name, values in found[side].items():
            columns = {key: column for key, column in values.items() if key != "unit"}
            part = pl.DataFrame({"day": found["days"], **columns}, schema_overrides=dict.fromkeys(columns, pl.Float64))
            labels = [pl.lit(arm).alias("arm"), pl.lit(name).alias("observable"), pl.lit(values["unit"]).alias("unit")]
            rows.append(part.select(*labels, pl.all()))
    return pl.concat(rows, how="diagonal")


def sentence(found: Mapping[str, Any]) -> str:
    """The largest rise of regulatory T cells, and what the wall does, in one sentence."""
    treg, wall = found["observables"]["treg_percent"], found["observables"]["tbr_ascending_aorta"]
    folds = [fold or 0.0 for fold in treg["fold"]]
    peak = folds.index(max(folds))
    change, alone = wall["q50"][-1] - wall["q50"][0], found["placebo"]["tbr_ascending_aorta"]
    calm = wall["q50"][-1] - alone["q50"][-1]
    between = (
        f" ({treg['fold_low'][peak]:.2f} to {treg['fold_high'][peak]:.2f} by what is not known)"
        if "fold_low" in treg
        else ""
    )
    return (
        f"In the median patient regulatory T cells peak on day {found['days'][peak]} at {folds[peak]:.2f} times their share of day 1"
        f"{between}; by day {found['days'][-1]} the aortic TBR has changed by {words.number(change)}, "
        f"{words.number(calm)} against placebo."
    )


def _group(found: Mapping[str, Any], title: str, names: tuple[str, ...]) -> dict[str, Any]:
    key = title.lower().replace(" ", "-")
    return {"title": title, "key": key, "panels": [_panel(found, name) for name in names]}


def _panel(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    active = found["observables"][name]
    drawing = figures.response(found["days"], active, found["placebo"][name], found["dose_days"])
    alt = f"{NAMES[name]} by study day, treated and placebo"
    return {"title": NAMES[name], "picture": Markup(figures.svg(drawing, alt, f"response-{name}"))}


def _table(found: Mapping[str, Any]) -> dict[str, Any]:
    days, doses = found["days"], found["dose_days"]
    wanted = {day + 1 for day in doses[:1]} | {doses[-1], doses[-1] + 1, doses[-1] + 7, days[len(days) // 2], days[-1]}
    chosen = sorted(day for day in wanted if day in days)
    rows = []
    for name, values in found["observables"].items():
        cells = [_cell(values, day - days[0]) for day in chosen]
        rows.append([NAMES.get(name, name), *cells])
    return {"days": chosen, "rows": rows}


def _cell(values: Mapping[str, Any], place: int) -> str:
    fold = values["fold"][place]
    if fold is None:
        return "–"
    if "fold_low" not in values:
        return f"{fold:.2f}"
    return f"{fold:.2f} ({values['fold_low'][place]:.2f} to {values['fold_high'][place]:.2f})"


def _error(error: Mapping[str, Any]) -> str:
    return (
        f"at most {error['largest']:.1e} relative ({error['observable'].replace('_', ' ')}, patient {error['patient']}), measured on "
        f"{error['patients']} patients lived again four times as finely"
    )


def _provenance(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    structures = ", ".join(f"{name}: {option}" for name, option in found["structures"].items())
    return [
        ("Schedule", found["schedule"]),
        (
            "Patients",
            f"{found['patients']:,} of the population '{found['population']}'; quantiles {found['quantiles']}",
        ),
        ("World", found["world"]),
        ("Structures", structures),
        ("Numerical error", _error(found["numerical_error"])),
        ("Key", str(found["key"])),
        ("Fingerprint", found["fingerprint"]),
        ("Version", f"quell {found['version']}"),
    ]

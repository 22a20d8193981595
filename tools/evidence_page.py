"""docs/evidence.md: what is published against what the model gives, and every published figure with its role.

``python -m tools.evidence_page`` runs the simulations (under two minutes) and writes the page, its data and pictures.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re

import matplotlib

from quell import evidence
from quell.body import parameters
from tools import evidence_runs

DOCS = pathlib.Path(__file__).parent.parent / "docs"
DRAWS, SHARE = 40, 0.1


@dataclasses.dataclass(frozen=True)
class Row:
    """One published figure and the value that answers it."""

    key: str
    what: str
    published: str
    low: float | None  # what counts as agreement: the published interval, or two standard errors
    high: float | None
    sources: tuple[str, ...]
    unit: str = ""
    why: str = ""  # shown where the model misses


ROWS = {
    "Drug": (
        Row("tmax", "interleukin-2 after 15 MIU: time of the peak", "4.4 (SD 1.8)", 2.6, 6.2, ("E095",), "h"),
        Row("half_life", "half-life", "3.3 (SD 0.9)", 2.4, 4.2, ("E095",), "h"),
        Row("cmax", "peak", "21.9 to 112.9 at 12 to 18 MIU", 21.9, 112.9, ("E095",), "IU/mL"),
        Row("auc36", "area to 24 h after 36 MIU", "627", 400, 980, ("E096",), "IU h/mL",
            "E093, E095 and E096 want bioavailabilities of 0.45, 0.2 to 0.25 and 0.13: no one value fits all, between laboratories "
            "and old units. Regulatory T cell figures hardly move with it."),
    ),
    "Regulatory T cells": (
        Row("dose_75", "acute coronary syndrome, five daily doses: dose for +75 % of their share of CD4", "1.46 (1.06 to 1.87)", 1.06, 1.87, ("E071",), "MIU",
            "The curve is nearly flat from 1 to 3 MIU, so the dose for a given rise is badly fixed; when the trial read it is not known (here one to three days after the last dose)."),
        Row("rise_0.3", "rise after 0.3 MIU x 5", "rising with dose", None, None, (), "%"),
        Row("rise_0.6", "after 0.6 MIU x 5", "rising with dose", None, None, (), "%"),
        Row("rise_1", "after 1 MIU x 5", "rising with dose", None, None, (), "%"),
        Row("rise_1.46", "after 1.46 MIU x 5", "75", 65, 85, ("E071",), "%"),
        Row("rise_3", "after 3 MIU x 5", "rising with dose", None, None, (), "%"),
        Row("max_0.101", "one dose of 0.101 MIU/m2, no acute event: largest rise in a week", "10; the dose has SE 0.078", 7, 16, ("E078",), "%"),
        Row("max_0.497", "one dose of 0.497 MIU/m2", "20; the dose 0.316 to 0.678", 17.5, 22.5, ("E079",), "%"),
        Row("day_after", "change a day after one dose, 0.04 to 1.5 MIU/m2", "-11.6 (SE 2.3)", -16.2, -7.0, ("E080",), "%"),
        Row("window_low", "signal in vitro at 0.015 IU/mL (0 to 1)", "regulatory T cells respond", 0.05, 1, ("E082",)),
        Row("window_others", "largest signal of effector T, NK, CD56bright there", "none", 0, 0.02, ("E082",)),
    ),
    "Other cells": (
        Row("teff_3", "effector T cells after 3 MIU x 5", "no rise", -20, 5, (), "%"),
        Row("nk_week", "CD56bright NK, 1 MIU daily: fold after a week", "rise over weeks of daily dosing", None, None, ()),
        Row("nk_month", "after four weeks", "rise over weeks of daily dosing", 1.2, 10, ()),
        Row("nk_two_months", "after eight weeks", "rise over weeks of daily dosing", 1.3, 20, ()),
        Row("eosinophils", "eosinophils three days after 1.46 MIU x 5, fold", "rise", 1.05, 10, ()),
        Row("il5", "interleukin-5 the day after the last dose, fold", "rise", 1.05, 10, ("E074",)),
    ),
    "Artery wall": (
        Row("tbr_mi", "aortic TBR a week after infarction, mean", "2.15 (SD 0.30, n 40)", 2.05, 2.25, ("E106",)),
        Row("tbr_mi_sd", "its standard deviation, with reading noise", "0.30 (n 40)", 0.235, 0.365, ("E106",)),
        Row("tbr_stable", "in stable patients", "1.84 (SD 0.18, n 40)", 1.78, 1.90, ("E106",)),
        Row("tbr_stemi", "after STEMI", "2.24 (SD 0.32)", 2.11, 2.37, ("E106",)),
        Row("tbr_nstemi", "after NSTEMI", "2.02 (SD 0.21)", 1.91, 2.13, ("E106",)),
        Row("tbr_selected", "index vessel at baseline, hsCRP above 2 mg/L, mean", "2.39 and 2.26 by arm; 2.3", 2.23, 2.40, ("E046",), "",
            "The first scan is assumed on study day 1."),
        Row("tbr_selected_sd", "its standard deviation", "0.28 and 0.27 by arm", 0.23, 0.33, ("E046",)),
        Row("statin_4", "statin made stronger: change of TBR at 4 weeks", "87 % of that at 12 weeks", -11.5, -7.0, ("E108",), "%"),
        Row("statin_12", "at 12 weeks, between arms", "-10.6 (-18.3 to -2.2)", -18.3, -2.2, ("E108",), "%"),
    ),
    "Blood": (
        Row("crp_mi", "C-reactive protein a week after infarction, median", "6.5 (IQR 2.0 to 12.8, n 40)", 4.6, 9.2, ("E107",), "mg/L"),
        Row("crp_year", "above 2 mg/L at twelve months", "30.4 (n 1,209)", 27.8, 33.0, ("E139",), "%"),
    ),
    "Heart": (
        Row("mass_week", "infarct mass in the first week, STEMI", "25 (SD 17, n 66)", 20.8, 29.2, ("E142",), "g"),
        Row("mass_4_months", "at 4 months", "17 (SD 12)", 14.0, 20.0, ("E142",), "g"),
        Row("mass_14_months", "at 14 months", "15 (SD 11)", 12.3, 17.7, ("E142",), "g"),
        Row("share_acute", "share of the left ventricle, day 5", "20.4 (SD 10.6, n 49)", 17.4, 23.4, ("E144",), "%"),
        Row("dilated", "end-diastolic volume up by a fifth at 8 months", "21 (n 53)", 10.0, 32.0, ("E145",), "%"),
    ),
    "Risk": (
        Row("second_year", "second infarction in a year, men", "5.6", 5.2, 6.0, ("E136",), "%"),
        Row("second_seven", "in seven years, men", "13.9", 13.3, 14.5, ("E136",), "%"),
        Row("sweden_year", "infarction, stroke or cardiovascular death in a year", "18.3", 17.9, 18.7, ("E135",), "%",
            "Sweden counts all ages and more who were never revascularised, from 2006 to 2011; England's and Sweden's rates cannot both be met with one population, and England was chosen."),
    ),
    "Harm (beyond placebo)": (
        Row("harm_injection_site", "injection-site reaction, 21 doses of 1 MIU", "26.1 of those without on placebo (31.0 against 6.7)", 10, 45, ("E089",), "%"),
        Row("harm_fever", "fever", "13.8 against 0 (4 of 29)", 3.9, 31.7, ("E089",), "%"),
        Row("harm_flu_like", "flu-like symptoms", "10.3 against 0 (3 of 29)", 2.2, 27.4, ("E089",), "%"),
        Row("harm_any_0.33", "any adverse event, 0.33 MIU x 5", "3 of 6", 11.8, 88.2, ("E087",), "%"),
        Row("harm_any_1", "1 MIU x 5", "5 of 6", 35.9, 99.6, ("E087",), "%"),
        Row("harm_any_3", "3 MIU x 5", "6 of 6", 54.1, 100, ("E087",), "%"),
    ),
}  # fmt: skip


def main() -> None:
    """Run, judge, draw and write."""
    values = evidence_runs.everything(parameters.load())
    spread = evidence_runs.intervals(DRAWS, SHARE)
    rows = [judged(row, section, values, spread) for section, group in ROWS.items() for row in group]
    data = {"values": {key: {"value": v, "error": e} for key, (v, e) in values.items()}, "rows": rows}
    (DOCS / "evidence.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    (DOCS / "evidence.md").write_text(page(rows), "utf-8")
    _draw(rows)


def judged(row: Row, section: str, values: dict, spread: dict) -> dict:
    """A row with the model's value, its errors, and whether it agrees."""
    value, error = values[row.key]
    used = sorted({one for one in row.sources if _sets_a_constant(one)})
    agrees = None if row.low is None or row.high is None else bool(row.low <= value <= row.high)
    low, high = spread[row.key]
    return dataclasses.asdict(row) | {
        "section": section, "value": _finite(value), "error": error, "unknown_low": _finite(low), "unknown_high": _finite(high),
        "used": used, "agrees": agrees, "role": _role(row.sources),
    }  # fmt: skip


def _sets_a_constant(id_: str) -> bool:
    return any(re.search(rf"\b{id_}\b", record.source) for record in parameters.table())


def _role(sources: tuple[str, ...]) -> str:
    known = [one for one in evidence.load().values() if one.id.split(".")[0] in sources]
    return ", ".join(sorted({one.role for one in known})) or "none on file"


def page(rows: list[dict]) -> str:
    """The whole page as Markdown."""
    judged_ = [row for row in rows if row["agrees"] is not None]
    fitted, free = ([row for row in judged_ if bool(row["used"]) is kind] for kind in (True, False))
    lines = [
        "# Published figures against the model\n",
        "This page is made by `python -m tools.evidence_page`; do not edit it. The model's value is the mean or median of simulated "
        "patients with an upper bound of its Monte Carlo standard error; in brackets where it lies in 90 % of "
        f"{DRAWS} drawn sets of constants: what is not known of the body. **A figure that set a constant is a check, not a prediction**, "
        "and is marked *used*. Agreement means inside the published interval, or two standard errors, or the stated direction.\n",
        f"Of {len(free)} figures that set no constant {sum(row['agrees'] for row in free)} agree; of {len(fitted)} that did, "
        f"{sum(row['agrees'] for row in fitted)}.\n",
    ]
    for section in ROWS:
        lines += _section(section, [row for row in rows if row["section"] == section])
    return "\n".join([*lines, *_register(), ""])


def _section(title: str, rows: list[dict]) -> list[str]:
    lines = [f"\n## {title}\n", "| | published | model | | source |", "|---|---|---|---|---|"]
    for row in rows:
        model = f"{_short(row['value'])} ± {row['error']:.1g} ({_short(row['unknown_low'])} to {_short(row['unknown_high'])})"
        verdict = {True: "agrees", False: "**misses**", None: ""}[row["agrees"]] + (", *used*" if row["used"] else "")
        source = ", ".join(f"[{one}](#{one.lower()})" for one in row["sources"])
        validates = " (validates)" if "validates" in row["role"] else ""
        unit = f", {row['unit']}" if row["unit"] else ""
        lines.append(f"| {row['what']}{unit} | {row['published']} | {model} | {verdict} | {source}{validates} |")
    misses = [f"- {row['what']}: {row['why']}" for row in rows if row["agrees"] is False and row["why"]]
    picture = {"Regulatory T cells": "dose", "Heart": "infarct"}.get(title)
    shown = [f"\n![{title}](pictures/evidence-{picture}.svg)\n"] if picture else []
    return [*lines, *shown, *(["\nWhy:\n", *misses] if misses else [])]


def _finite(value: float) -> float | None:
    """For JSON, which has no infinity."""
    return value if abs(value) < float("inf") else None


def _short(value: float | None) -> str:
    if value is None:
        return "not reached"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _register() -> list[str]:
    lines = [
        "\n## Every figure on file\n",
        "| id | figure | population | value | status | role |",
        "|---|---|---|---|---|---|",
    ]
    seen = set()
    for one in evidence.load().values():
        base = one.id.split(".")[0]
        anchor = "" if base in seen else f'<a id="{base.lower()}"></a>'
        seen.add(base)
        lines.append(
            f"| {anchor}{one.id} | {one.name} | {one.population} | {one.value:g} {one.unit} | {one.status} | {one.role} |"
        )
    return lines


def _draw(rows: list[dict]) -> None:
    matplotlib.use("svg")
    from matplotlib.figure import Figure

    matplotlib.rcParams |= {
        "svg.hashsalt": "quell",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 10,
    }
    by_key = {row["key"]: row for row in rows}
    dose = [by_key[f"rise_{one}"] for one in ("0.3", "0.6", "1", "1.46", "3")]
    mass = [by_key[f"mass_{one}"] for one in ("week", "4_months", "14_months")]
    pictures = (
        ("dose", dose, [0.3, 0.6, 1.0, 1.46, 3.0], "dose, MIU daily for five days", "rise of regulatory T cells, % of CD4", [(1.46, 75, 0, 0)]),
        ("infarct", mass, [4, 122, 426], "days after a STEMI", "infarct mass, g", [(4, 25, 4.2, 0), (122, 17, 3, 0), (426, 15, 2.7, 0)]),
    )  # fmt: skip
    for name, group, x, across, up, published in pictures:
        figure = Figure(figsize=(6, 3.6))
        place = figure.add_axes((0.12, 0.16, 0.84, 0.78))
        place.fill_between(
            x, [r["unknown_low"] for r in group], [r["unknown_high"] for r in group], color="#0b6e75", alpha=0.18, lw=0
        )
        place.plot(x, [r["value"] for r in group], "o-", color="#0b6e75", label="model, and what is not known of it")
        for i, (at, value, error, _) in enumerate(published):
            place.errorbar(
                at,
                value,
                yerr=error or None,
                fmt="s",
                color="#1d2529",
                capsize=3,
                label="published" if i == 0 else None,
            )
        if name == "dose":
            place.errorbar(1.46, 75, xerr=[[0.40], [0.41]], fmt="none", color="#1d2529", capsize=3)
        place.set(xlabel=across, ylabel=up, ylim=(0, None))
        place.spines[["top", "right"]].set_visible(False)
        place.legend(frameon=False, loc="lower right" if name == "dose" else "upper right")
        figure.savefig(DOCS / "pictures" / f"evidence-{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

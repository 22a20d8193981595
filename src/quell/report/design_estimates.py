"""What a design's trials would report: bias, error and coverage of their estimates, and further endpoints claimed."""

from __future__ import annotations

import math

from quell.report import words
from quell.report.blocks import Numbering, Section
from quell.report.design_blocks import frame, table
from quell.report.design_numbers import (
    Found,
    One,
    allowed,
    effect,
    effect_name,
    focus,
    is_ratio,
    known,
    ordered,
    percent,
    shown,
    with_error,
)


def estimation_section(found: Found, numbering: Numbering) -> Section:
    """Bias, root mean squared error and coverage of what the trial would report."""
    log = "log " if is_ratio(found) else ""
    name = f"{log}{effect_name(found)}"
    head = (
        "World",
        "Size",
        f"True {effect_name(found)}",
        "Bias, naive",
        "Bias, adjusted",
        "RMSE, naive",
        "RMSE, adjusted",
        "Coverage of the 95 % interval",
    )
    body, rows = [], []
    for cell in ordered(found):
        one = cell["estimation"]
        naive, adjusted = one.get("estimate") or {}, one.get("adjusted") or {}
        told = [with_error(side.get(key)) for key in ("bias", "rmse") for side in (naive, adjusted)]
        body.append(
            [
                shown(found, cell["world"]),
                cell["size"],
                effect(found, one["truth"]["value"]),
                *told,
                percent(one["coverage"]),
            ]
        )
        flat = {
            f"{side}_{key}{tail}": (one.get(side) or {}).get(key, {}).get(part_)
            for side in ("estimate", "adjusted")
            for key in ("bias", "rmse")
            for tail, part_ in (("", "value"), ("_error", "error"))
        }
        rows.append(
            {
                "world": cell["world"],
                "size": cell["size"],
                "truth": one["truth"]["value"],
                **flat,
                "coverage": one["coverage"]["value"],
                "coverage_error": one["coverage"]["error"],
            }
        )
    caption = (
        f"On the scale of the {name}, against the truth of each trial’s own world. Naive: the estimate of the last look. "
        f"Adjusted: {found['estimates']}. The interval is the adjusted one."
    )
    block = table(
        numbering,
        f"Bias, root mean squared error and coverage ({name})",
        head,
        body,
        caption,
        {"estimates": frame(rows)},
    )
    return Section(key="estimates", title="Estimates: bias, error and coverage", lead=_bias(found), blocks=(block,))


def _bias(found: Found) -> str:
    """The largest bias in words, as a ratio where the effect is one."""
    here = focus(found).cells[-1]
    sides = {"naive": here["estimation"].get("estimate"), "adjusted": here["estimation"].get("adjusted")}
    told = {name: side["bias"] for name, side in sides.items() if side and known(side["bias"]["value"])}
    if not told:
        return "No estimate is known against a truth here."
    said = [f"the {name} estimate is off by {_off(found, bias)}" for name, bias in told.items()]
    return (
        "Stopping early distorts: for success it flatters the drug, for futility it belittles it. In the world that the answer is about, "
        f"with {here['people']:,} people, {' and '.join(said)} on average."
    )


def _off(found: Found, bias: One) -> str:
    if not is_ratio(found):
        return with_error(bias)
    return (
        f"{with_error({'value': math.expm1(bias['value']), 'error': bias['error']}, 100)} % of the {effect_name(found)}"
    )


def secondary_section(found: Found, numbering: Numbering) -> Section | None:
    names = list(dict.fromkeys(name for cell in found["cells"] for name in cell.get("secondary") or ()))
    if not names:
        return None
    head = ("World", "Size", "Primary", *(words.capital(name) for name in names))
    body = [
        [
            shown(found, cell["world"]),
            cell["size"],
            percent(cell["success"], cell["trials"]),
            *(percent(cell["secondary"].get(name), cell["trials"]) for name in names),
        ]
        for cell in ordered(found)
    ]
    rule = found["declared"].get("secondary") or {}
    caption = (
        f"Claimed: the primary succeeds and the endpoint’s p, adjusted by the procedure ({rule.get('procedure', 'fixed sequence')}), is at most "
        f"{allowed(found)} one-sided."
    )
    return Section(
        key="further",
        title="Further endpoints",
        blocks=(table(numbering, "How often each is claimed as well", head, body, caption),),
    )

"""What the model gives for each published figure: the settings that calibration uses too, with many people.

Each run is a function of the constants (and of how many people), and returns named values with the error that so few
people leave, so the same run serves the table's values and drawn constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quell import keys
from quell.body import parameters
from quell.calibrate import people, settings
from quell.keys import jax

Values = dict[str, tuple[float, float]]  # value and Monte Carlo standard error


def selected(p: parameters.Parameters, count: int) -> settings.Values:
    """Index vessel (hottest of aorta and carotids) in candidates whose hsCRP exceeds 2 mg/L (E046)."""
    who = people.even(count)
    earlier = who._replace(days_since_infarction=np.maximum(who.days_since_infarction - 4, 0.0))
    kept, seen = settings.before(earlier, p).crp > 2, settings.before(who, p)
    hottest = np.max([seen.tbr_ascending_aorta, seen.tbr_left_carotid, seen.tbr_right_carotid], axis=0)
    chosen = [hottest[world][kept[world]] for world in range(len(hottest))]
    spread, n = np.array([one.std() for one in chosen]), kept.sum(axis=-1)
    return {
        "tbr_selected": (np.array([one.mean() for one in chosen]), spread / np.sqrt(n)),
        "tbr_selected_sd": (np.hypot(spread, settings.SCAN_NOISE), spread / np.sqrt(2 * n)),
    }


RUNS: dict[str, tuple[settings.Setting, int]] = {
    "drug": (settings.drug, 400), "daily": (settings.daily, 2000), "single": (settings.single, 2000),
    "weeks": (settings.weeks, 1000), "walls": (settings.walls, 4000), "selected": (selected, 8000),
    "blood": (settings.blood, 4000), "hearts": (settings.hearts, 4000), "events": (settings.events, 2000),
    "harms": (settings.harms, 4000), "affinities": (settings.affinities, 1),
}  # fmt: skip


def everything(p: Any, share: float = 1.0) -> Values:
    """Every run with its number of people, or a share of it."""
    found = settings.together(RUNS, settings.worlds(p), share)
    values = {name: (float(value[0]), float(error[0])) for name, (value, error) in found.items()}
    return values | {"dose_75": dose_for(0.75, values)}


def dose_for(rise: float, values: Values) -> tuple[float, float]:
    """The daily dose for a rise, MIU, between the doses run; its error is that of the rise over the curve's slope there."""
    doses = settings.DAILY
    rises = [values[f"rise_{dose:g}"][0] / 100 for dose in doses]
    # np.interp gives the lowest dose where every rise is greater; where none is, no dose is enough
    reached = float(np.interp(rise, rises, doses)) if rises[-1] > rise else np.inf
    above = min(max(int(np.searchsorted(doses, reached)), 1), len(doses) - 1)
    slope = (rises[above] - rises[above - 1]) / (doses[above] - doses[above - 1])
    return reached, values["rise_1.46"][1] / 100 / slope


def intervals(draws: int, share: float) -> dict[str, tuple[float, float]]:
    """The central 90 % of each value over drawn constants."""
    rows = []
    for draw in range(draws):
        world = jax.tree.map(float, parameters.draw(keys.at(23, "world", draw)))
        rows.append({name: value for name, (value, _) in everything(world, share).items()})
    return {
        name: tuple(map(float, np.quantile([row[name] for row in rows], (0.05, 0.95), method="nearest")))
        for name in rows[0]
    }

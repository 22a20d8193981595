"""What the model gives for each published figure: simulations as close to the published setting as is known.

Each run is a function of the constants (and of how many people), and returns named values with the standard error of
the simulated mean, so the same run serves the table's values and drawn constants.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from quell import blocks, keys
from quell.body import course, harm, immunity, parameters, population
from quell.keys import jax

Values = dict[str, tuple[float, float]]  # value and Monte Carlo standard error
RECENT, LONG_AGO = 7.0, 3000.0  # days since the index event: patients in a trial, people without one


@functools.cache
def _drawing(name: str) -> blocks.Program:
    people = population.POPULATIONS[name]
    return blocks.Program(
        lambda i: population.draw(keys.at(11, "subject", i), parameters.load(), people), identity=("evidence", name)
    )


def people(count: int, since: float, name: str = "ivory") -> Any:
    """Patients so many days after their index event on study day 1."""
    drawn = blocks.over(_drawing(name), np.arange(count))
    return drawn._replace(days_since_infarction=np.full(count, since))


def mean(values: np.ndarray) -> tuple[float, float]:
    """A mean with its Monte Carlo standard error."""
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


def middle(values: np.ndarray) -> tuple[float, float]:
    """A median with its Monte Carlo standard error, from the spread of its order statistics."""
    reach = 0.5 / np.sqrt(len(values))
    low, high = np.quantile(values, (max(0.5 - reach, 0), min(0.5 + reach, 1)))
    return float(np.median(values)), float((high - low) / 2)


def lived(who: Any, amount: Any, days: tuple[int, ...], read: tuple[int, ...], p: Any) -> course.Observed:
    """Readings of people under one amount (10^6 IU, or one each) on dose days."""
    amounts = np.broadcast_to(np.asarray(amount, float)[..., None], (len(who.age), len(days)))
    return course.many(who, amounts, p, course.mesh(days, read, max(*read, *days, 2))).observed


def drug(p: Any, count: int) -> Values:
    """Interleukin-2 within a day of 15 and 36 MIU (E095, E096)."""
    who, per_day = people(count, RECENT), 96
    seen = {dose: course.trajectory(who, np.full((count, 1), dose), p, (1,), 2, per_day).il2 for dose in (15.0, 36.0)}
    hours, level = np.arange(2 * per_day) * 24 / per_day, seen[15.0]
    fall = np.log(level[:, 12 * per_day // 24] / level[:, 18 * per_day // 24]) / 6
    area = seen[36.0][:, :per_day].sum(axis=1) * 24 / per_day
    return {
        "tmax": middle(hours[level.argmax(axis=1)]),
        "half_life": middle(np.log(2) / fall),
        "cmax": middle(level.max(axis=1)),
        "auc36": middle(area),
    }


def daily(p: Any, count: int) -> Values:
    """Five daily doses after an acute event (LILACS): regulatory T cells % of CD4, read one to three days after the last."""
    who, doses, found = people(count, RECENT), (0.3, 0.6, 1.0, 1.46, 3.0), {}
    rises = []
    for dose in doses:
        seen = lived(who, dose, (1, 2, 3, 4, 5), (1, 6, 7, 8), p)
        rise = (seen.treg_percent[:, 1:] / seen.treg_percent[:, :1] - 1).mean(axis=1)
        found[f"rise_{dose:g}"] = mean(100 * rise)
        rises.append(rise.mean())
        if dose == 3.0:
            found["teff_3"] = mean(100 * (seen.teff[:, 1:] / seen.teff[:, :1] - 1).mean(axis=1))
        if dose == 1.46:
            found["eosinophils"] = middle(seen.eosinophils[:, 3] / seen.eosinophils[:, 0])
            found["il5"] = middle(seen.il5[:, 1] / seen.il5[:, 0])
    reached = (
        float(np.interp(0.75, rises, doses))
        if rises[0] < 0.75 < rises[-1]
        else (doses[0] if rises[0] >= 0.75 else np.inf)
    )
    # the error of the dose is that of the rise over the slope of the curve there
    above = min(max(int(np.searchsorted(doses, reached)), 1), len(doses) - 1)
    slope = (rises[above] - rises[above - 1]) / (doses[above] - doses[above - 1])
    return found | {"dose_75": (reached, found["rise_1.46"][1] / 100 / slope)}


def single(p: Any, count: int) -> Values:
    """One dose in people without an acute event (DILT1D): maximum over a week, the day after, CD122."""
    who, found = people(count, LONG_AGO), {}
    area = who.body_surface_area
    fall = []
    for dose in (0.04, 0.101, 0.497, 1.5):
        seen = lived(who, dose * area, (1,), tuple(range(1, 9)), p).treg_percent
        found[f"max_{dose:g}"] = mean(100 * (seen[:, 1:].max(axis=1) / seen[:, 0] - 1))
        fall.append(100 * (seen[:, 1] / seen[:, 0] - 1))
    return found | {"day_after": mean(np.mean(fall, axis=0))}


def weeks(p: Any, count: int) -> Values:
    """1 MIU daily for eight weeks: CD56bright natural killer cells rise as dosing goes on."""
    seen = lived(people(count, LONG_AGO), 1.0, tuple(range(1, 57)), (1, 8, 29, 57), p)
    fold = seen.nk_bright / seen.nk_bright[:, :1]
    return {"nk_week": middle(fold[:, 1]), "nk_month": middle(fold[:, 2]), "nk_two_months": middle(fold[:, 3])}


def walls(p: Any, count: int) -> Values:
    """Aortic uptake after infarction and in stable patients (E106), and a statin made stronger (E108)."""
    ill = people(count, RECENT)
    ill = ill._replace(infarct_type=np.where(np.arange(count) % 100 < 59, 2.0, 1.0))
    now = lived(ill, 0.0, (1,), (1,), p).tbr_ascending_aorta[:, 0]
    stable = people(count, LONG_AGO)
    treated = lived(stable._replace(statin_intensified=np.ones(count)), 0.0, (1,), (1, 29, 85), p).tbr_ascending_aorta
    change = 100 * (treated / treated[:, :1] - 1)
    return {
        "tbr_mi": mean(now),
        "tbr_mi_sd": (float(np.hypot(now.std(), 0.11)), float(now.std() / np.sqrt(2 * count))),
        "tbr_stable": mean(treated[:, 0]),
        "tbr_stemi": mean(now[ill.infarct_type == 2]),
        "tbr_nstemi": mean(now[ill.infarct_type == 1]),
        "statin_4": mean(change[:, 1]),
        "statin_12": mean(change[:, 2]),
    }


def selected(p: Any, count: int) -> Values:
    """Index vessel (hottest of aorta and carotids) in candidates whose hsCRP exceeds 2 mg/L (E046)."""
    who = blocks.over(_drawing("ivory"), np.arange(count))
    seen = lived(who, 0.0, (1,), (-3, 1), p)
    kept = seen.crp[:, 0] > 2
    hottest = np.max(
        [getattr(seen, f"tbr_{one}")[kept, 1] for one in ("ascending_aorta", "left_carotid", "right_carotid")], axis=0
    )
    return {
        "tbr_selected": mean(hottest),
        "tbr_selected_sd": (float(np.hypot(hottest.std(), 0.11)), float(hottest.std() / np.sqrt(2 * kept.sum()))),
    }


def blood(p: Any, count: int) -> Values:
    """C-reactive protein a week after infarction (E107) and at twelve months (E139)."""
    ill = people(count, RECENT)
    ill = ill._replace(infarct_type=np.where(np.arange(count) % 100 < 59, 2.0, 1.0))
    high = 100.0 * (lived(people(count, 365.0), 0.0, (1,), (1,), p).crp[:, 0] > 2)
    return {"crp_mi": middle(lived(ill, 0.0, (1,), (1,), p).crp[:, 0]), "crp_year": mean(high)}


def hearts(p: Any, count: int) -> Values:
    """Infarct mass by time (E142), share of the ventricle (E144) and widening (E145) after a STEMI."""
    who = people(count, 4.0)
    who = who._replace(infarct_type=np.full(count, 2.0), previous_infarction=np.zeros(count))
    seen = lived(who, 0.0, (1,), (1, 2, 119, 243, 423), p)
    mass, volume = seen.infarct_mass, seen.end_diastolic_volume
    share = (
        100
        * mass[:, 1]
        / (p.left_ventricle_mass * who.own["left_ventricle_mass"] * who.body_surface_area / p.reference_area)
    )
    wider = 100.0 * (volume[:, 3] / volume[:, 0] >= 1.2)
    return {
        "mass_week": mean(mass[:, 0]), "mass_4_months": mean(mass[:, 2]), "mass_14_months": mean(mass[:, 4]),
        "share_acute": mean(share), "dilated": mean(wider), "ejection_acute": mean(seen.ejection_fraction[:, 0]),
    }  # fmt: skip


def events(p: Any, count: int) -> Values:
    """Second infarctions of men in England (E136) and the composite of Sweden (E135), from the day of the infarction."""
    who = people(count, 0.0, "post-mi")
    found = course.many(who, np.zeros((count, 0)), p, course.mesh((), (1,), 2557)).events
    death, second = np.minimum(found.cardiovascular_death, found.other_death), found.infarction[:, 0]
    man, hazard, left = who.female == 0, [], np.minimum(second, death)
    for month in range(84):
        begin, end = month * 30.44, (month + 1) * 30.44
        hazard.append((man & (second > begin) & (second <= end)).sum() / (man & (left > begin)).sum())
    year, seven = (100 * -np.expm1(-np.sum(hazard[:months])) for months in (12, 84))
    any_of = np.minimum(np.minimum(second, found.stroke), found.cardiovascular_death) <= 365
    share = lambda x, n: 100 * np.sqrt(x / 100 * (1 - x / 100) / n)  # noqa: E731
    return {
        "second_year": (float(year), float(share(year, man.sum()))),
        "second_seven": (float(seven), float(share(seven, man.sum()))),
        "sweden_year": mean(100.0 * any_of),
    }


def harms(p: Any, count: int) -> Values:
    """Share with a reaction beyond placebo: 21 doses of 1 MIU (E089), five of 1 and of 3 (E087)."""
    own = people(count, LONG_AGO).own["reaction_proneness"] * p.reaction_proneness
    each = p._replace(reaction_proneness=own)
    course_of = {dose: np.tile(np.full((n, 1), dose), (1, count)) for dose, n in ((1.0, 21),)}
    lupus = harm.chances(course_of[1.0], each)
    found = {
        f"harm_{name}": mean(100 * np.asarray(getattr(lupus, name))) for name in ("injection_site", "fever", "flu_like")
    }
    for dose in (0.33, 1.0, 3.0):
        any_one = np.asarray(harm.chances(np.full((5, count), dose), each).any)
        found[f"harm_any_{dose:g}"] = mean(100 * (1 - (1 - any_one) * (5 / 6)))
    return found


def affinities(p: Any, count: int) -> Values:
    """Signal in vitro at the ends of the window in which regulatory T cells alone respond (E082)."""
    response = immunity.response(p)
    low, high = (immunity.signal(p.picomolar_per_unit * level, 1.0, response) for level in (0.015, 0.24))
    others = max(float(one) for one in (low.teff, low.nk, low.bright))
    return {
        "window_low": (float(low.treg), 0.0),
        "window_others": (others, 0.0),
        "window_high": (float(high.treg), 0.0),
    }


RUNS = {
    "drug": (drug, 400), "daily": (daily, 2000), "single": (single, 2000), "weeks": (weeks, 1000), "walls": (walls, 4000),
    "selected": (selected, 8000), "blood": (blood, 4000), "hearts": (hearts, 4000), "events": (events, 40000),
    "harms": (harms, 4000), "affinities": (affinities, 1),
}  # fmt: skip


def everything(p: Any, share: float = 1.0) -> Values:
    """Every run with its number of people, or a share of it."""
    found: Values = {}
    for run, count in RUNS.values():
        found |= run(p, max(int(count * share), min(count, 64)))
    return found


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

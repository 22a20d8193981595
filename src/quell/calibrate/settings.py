"""Each published setting simulated as closely as is known, once: for the page of evidence and for calibration alike.

A setting is a function of constants, arrays of shape (worlds,), and of how many people; it returns named summaries, each a
pair of arrays of shape (worlds,): the value, and the error that so few people leave in it. Nothing happens by chance:
rates over years are worked out from each person's hazards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from quell import blocks
from quell.body import course, harm, immunity, person
from quell.body.parameters import Parameters
from quell.calibrate.people import after, in_turn
from quell.keys import jax
from quell.measure import assay

Values = dict[str, tuple[np.ndarray, np.ndarray]]  # value and its error, each of shape (worlds,)
RECENT, LONG_AGO = 7.0, 3000.0  # days since the index event: patients in a trial, people without one
SCAN_NOISE = 0.11  # TBR; reading noise, from the repeatability of scans (E104)
STEMI_SHARE = 0.59  # of E106: so that 2.24 and 2.02 average 2.15
PERCENT = 100.0


def mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mean over people with the error that so few leave (as if drawn at random, so an upper bound)."""
    return values.mean(axis=-1), values.std(axis=-1) / np.sqrt(values.shape[-1])


def middle(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A median with its error, from the spread of its order statistics."""
    reach = 0.5 / np.sqrt(values.shape[-1])
    low, high = np.quantile(values, (max(0.5 - reach, 0), min(0.5 + reach, 1)), axis=-1)
    return np.median(values, axis=-1), (high - low) / 2


def _each(who: Any, p: Parameters) -> tuple[Any, Parameters, int]:
    """Every person in every world, and the constants beside them; and how many worlds there are."""
    worlds, people = len(p.growth), len(who.age)
    everybody = jax.tree.map(lambda x: np.tile(x, (worlds,) + (1,) * (np.ndim(x) - 1)), who)
    return everybody, Parameters(*(np.repeat(np.asarray(one, float), people) for one in p)), worlds


def lived(who: Any, amount: Any, days: tuple[int, ...], read: tuple[int, ...], p: Parameters) -> course.Observed:
    """Readings, shape (worlds, people, readings), of people under one amount (10^6 IU, or one each) on dose days."""
    everybody, own, worlds = _each(who, p)
    amounts = np.tile(np.broadcast_to(amount, who.age.shape)[:, None], (worlds, len(days)))
    seen = course.many(everybody, amounts, own, course.mesh(days, read, max(*read, *days, 2))).observed
    return course.Observed(*(x.reshape(worlds, -1, x.shape[-1]) for x in seen))


def drug(p: Parameters, count: int) -> Values:
    """Interleukin-2 within a day of 15 and 36 MIU (E095, E096)."""
    per_day, who = 48, after(count, RECENT)
    everybody, own, worlds = _each(who, p)
    hours, seen = np.arange(per_day) * 24 / per_day, {}
    for dose in (15.0, 36.0):
        il2 = course.trajectory(everybody, np.full((worlds * count, 1), dose), own, (1,), 1, per_day).il2
        seen[dose] = il2.reshape(worlds, count, per_day)
    level = seen[15.0]
    fall = np.log(level[..., per_day // 2] / level[..., 3 * per_day // 4]) / 6
    when, highest = _summit(level, hours[1])
    return {
        "tmax": mean(when),
        "half_life": mean(np.log(2) / fall),
        "cmax": middle(highest),
        "auc36": middle(np.trapezoid(seen[36.0], dx=hours[1], axis=-1)),
    }


def _summit(level: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """When a curve is highest and how high, by the parabola through its three highest readings."""
    at = np.clip(level.argmax(axis=-1), 1, level.shape[-1] - 2)[..., None]
    before, here, later = (np.take_along_axis(level, at + move, axis=-1)[..., 0] for move in (-1, 0, 1))
    bend = before - 2 * here + later
    shift = (before - later) / (2 * np.where(bend < 0, bend, -np.inf))
    return (at[..., 0] + shift) * step, here - (before - later) * shift / 4


DAILY = (0.3, 0.6, 1.0, 1.46, 3.0)


def daily(p: Parameters, count: int, doses: tuple[float, ...] = DAILY) -> Values:
    """Five daily doses after an acute event (LILACS): regulatory T cells % of CD4, read one to three days after the last."""
    who, found = after(count, RECENT), {}
    for dose in doses:
        seen = lived(who, dose, (1, 2, 3, 4, 5), (1, 6, 7, 8), p)
        found[f"rise_{dose:g}"] = mean(PERCENT * _gain(seen.treg_percent).mean(axis=-1))
        if dose == 3.0:
            found["teff_3"] = mean(PERCENT * _gain(seen.teff).mean(axis=-1))
        if dose == 1.46:
            found["eosinophils"] = middle(1 + _gain(seen.eosinophils)[..., 2])
            found["il5"] = middle(1 + _gain(seen.il5)[..., 0])
    return found


def _gain(seen: np.ndarray) -> np.ndarray:
    """Later readings relative to the first, less one."""
    return seen[..., 1:] / seen[..., :1] - 1


SINGLE = (0.04, 0.101, 0.497, 1.5)


def single(p: Parameters, count: int) -> Values:
    """One dose in people without an acute event (DILT1D), MIU/m2: the largest rise in a week; the change after a day."""
    who, found, fall = after(count, LONG_AGO), {}, []
    for dose in SINGLE:
        gain = _gain(lived(who, dose * who.body_surface_area, (1,), tuple(range(1, 9)), p).treg_percent)
        found[f"max_{dose:g}"] = mean(PERCENT * gain.max(axis=-1))
        fall.append(PERCENT * gain[..., 0])
    return found | {"day_after": mean(np.mean(fall, axis=0))}


def weeks(p: Parameters, count: int) -> Values:
    """1 MIU daily for eight weeks: CD56bright natural killer cells rise as dosing goes on."""
    seen = lived(after(count, LONG_AGO), 1.0, tuple(range(1, 57)), (1, 8, 29, 57), p)
    fold = 1 + _gain(seen.nk_bright)
    return {name: middle(fold[..., i]) for i, name in enumerate(("nk_week", "nk_month", "nk_two_months"))}


def walls(p: Parameters, count: int) -> Values:
    """Aortic uptake after infarction and in stable patients (E106), and a statin made stronger (E108)."""
    kinds = {"stemi": 2.0, "nstemi": 1.0}
    ill = {kind: before(after(count, RECENT, infarct_type=code), p) for kind, code in kinds.items()}
    now = {kind: one.tbr_ascending_aorta for kind, one in ill.items()}
    mixed = np.where(in_turn(count, STEMI_SHARE) > 0, now["stemi"], now["nstemi"])
    treated = lived(after(count, LONG_AGO, statin_intensified=1.0), 0.0, (1,), (1, 29, 85), p).tbr_ascending_aorta
    change = PERCENT * _gain(treated)
    return {
        "tbr_mi": mean(mixed),
        "tbr_mi_sd": (np.hypot(mixed.std(axis=-1), SCAN_NOISE), mixed.std(axis=-1) / np.sqrt(2 * count)),
        "tbr_stable": mean(treated[..., 0]),
        "tbr_stemi": mean(now["stemi"]),
        "tbr_nstemi": mean(now["nstemi"]),
        "statin_4": mean(change[..., 0]),
        "statin_12": mean(change[..., 1]),
    }


def blood(p: Parameters, count: int) -> Values:
    """C-reactive protein a week after infarction and in stable patients (E107), and at twelve months (E139)."""
    ill = before(after(count, RECENT, infarct_type=np.where(in_turn(count, STEMI_SHARE) > 0, 2.0, 1.0)), p).crp
    stable, later = before(after(count, LONG_AGO), p).crp, before(after(count, 365.0), p).crp
    return {
        "crp_mi": middle(ill),
        "crp_mi_apart": apart(ill, "hsCRP"),
        "crp_stable": middle(stable),
        "crp_stable_apart": apart(stable, "hsCRP"),
        "crp_year": share_above(later, 2.0),
    }


def apart(values: np.ndarray, test: str) -> tuple[np.ndarray, np.ndarray]:
    """How far the quartiles of single readings lie apart, log(q3 / q1), with the error of the assay and from day to day.

    The body's log-values vary with the standard deviation that their quartiles show, and readings about them: variances add.
    """
    low, high = (smooth_quantile(np.log(values), q) for q in (0.25, 0.75))
    instrument = assay.by_name()[test]
    found = np.hypot(high - low, QUARTILES * np.hypot(instrument.analytic, instrument.within_person))
    return found, 1.166 * found / np.sqrt(values.shape[-1])


def smooth_quantile(values: np.ndarray, q: float) -> np.ndarray:
    """A quantile along the last axis that moves smoothly with the values: Harrell and Davis 1982, doi:10.1093/biomet/69.3.635.

    >>> round(float(smooth_quantile(np.arange(101.0), 0.5)), 6)
    50.0
    """
    n = values.shape[-1]
    steps = special.betainc((n + 1) * q, (n + 1) * (1 - q), np.arange(n + 1) / n)
    return np.sort(values, axis=-1) @ np.diff(steps)


QUARTILES = 1.349  # between the quartiles of a standard normal


def share_above(values: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """The share of people above a limit, %, smoothed by what each value is worth (a normal kernel in its logarithm)."""
    logs = np.log(values)
    width = 0.9 * logs.std(axis=-1, keepdims=True) * values.shape[-1] ** -0.2  # Silverman 1986
    above = jax.scipy.special.ndtr((logs - np.log(limit)) / width)
    return mean(PERCENT * np.asarray(above))


def hearts(p: Parameters, count: int) -> Values:
    """Infarct mass by time (E142), share of the ventricle (E144) and widening (E145) after a STEMI."""
    first: Any = {"infarct_type": 2.0, "previous_infarction": 0.0}
    seen = {day: before(after(count, 3.0 + day, **first), p) for day in (1, 2, 119, 243, 423)}
    who = after(count, 4.0)
    muscle = p.left_ventricle_mass[:, None] * who.own["left_ventricle_mass"] * who.body_surface_area
    share = PERCENT * seen[2].infarct_mass * p.reference_area[:, None] / muscle
    return {
        "mass_week": mean(seen[1].infarct_mass),
        "mass_4_months": mean(seen[119].infarct_mass),
        "mass_14_months": mean(seen[423].infarct_mass),
        "share_acute": mean(share),
        "dilated": share_above(seen[243].end_diastolic_volume / seen[1].end_diastolic_volume, 1.2),
        "ejection_acute": mean(seen[1].ejection_fraction),
    }


@functools.cache
def _unseen() -> blocks.Program:
    """What could be seen of a person who has had no drug, and the hazards of every cause, per day."""

    def one(patient: Any, p: Parameters) -> tuple[Any, Any]:
        who, state = person.person(patient, p), course.start(patient, p, 1)
        return course.observe(state, who), person.hazards(state.tissue, who)

    return blocks.Program(one, identity=("undisturbed",), hot=True)


def before(who: Any, p: Parameters) -> course.Observed:
    """Readings, shape (worlds, people), of people who have had no drug, on study day 1."""
    everybody, own, worlds = _each(who, p)
    return course.Observed(*(x.reshape(worlds, -1) for x in blocks.over(_unseen(), everybody, own)[0]))


DAYS = np.concatenate([[0, 10, 20, 35, 50, 75, 100, 150, 200, 275, 365], np.linspace(365, 2557, 9)[1:]])


def hazards(who: Any, p: Parameters, days: np.ndarray) -> Any:
    """Hazards per day of every cause, shape (days, worlds, people), so many days after the index event."""
    found = []
    for day in days:
        now = who._replace(days_since_infarction=np.full(len(who.age), day))
        everybody, own, worlds = _each(now, p)
        rates = blocks.over(_unseen(), everybody, own)[1]
        found.append([rate.reshape(worlds, -1) for rate in rates])
    return type(rates)(*np.moveaxis(np.array(found), 1, 0))


def _gathered(rate: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Hazard gathered by each day (trapezoids)."""
    pieces = (rate[1:] + rate[:-1]) / 2 * np.diff(days)[:, None, None]
    return np.concatenate([np.zeros_like(rate[:1]), np.cumsum(pieces, axis=0)])


def incidence(rate: np.ndarray, leave: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Cumulative hazard among those still there, shape (days, worlds): what a register counts.

    H(t) = integral of E[h S] / E[S], S = exp(-integral of all that takes people away).
    """
    gone = _gathered(leave, days)
    stay = np.exp(gone.min(axis=-1, keepdims=True) - gone)
    among = (rate * stay).mean(axis=-1) / stay.mean(axis=-1)
    return _gathered(among[..., None], days)[..., 0]


def events(p: Parameters, count: int) -> Values:
    """Second infarctions of men in England (E136), the composite of Sweden (E135) and of COLCOT on placebo (E124)."""
    year = int(np.searchsorted(DAYS, 365))
    england = hazards(after(count, 0.0, "post-mi", female=0.0), p, DAYS)
    dead = england.cardiovascular_death + england.other_death
    second = PERCENT * -np.expm1(-incidence(england.infarction, england.infarction + dead, DAYS))
    composite = england.infarction + england.stroke + england.cardiovascular_death
    first = _gathered(composite, DAYS)
    left = np.exp(-first - _gathered(england.other_death, DAYS))
    later = incidence(composite, composite + england.other_death, DAYS)
    four = [np.interp(4 * 365, DAYS, one) for one in later.T]
    return {
        "second_year": (second[year], mean(PERCENT * _gathered(england.infarction, DAYS)[year])[1]),
        "second_seven": (second[-1], mean(PERCENT * _gathered(england.infarction, DAYS)[-1])[1]),
        "sweden_year": (PERCENT * -np.expm1(-later[year]), mean(PERCENT * first[year] * left[year])[1]),
        "sweden_later": (PERCENT * -np.expm1(later[year] - four), mean(PERCENT * (first[-1] - first[year]))[1]),
        **_colcot(p, count),
    }


COLCOT = np.array([13.5, 25, 40, 60, 90, 130, 200, 300, 430, 560, 700])  # days after the infarction; 22.6 months


def _colcot(p: Parameters, count: int) -> Values:
    """First of infarction, stroke, arrest, revascularisation and cardiovascular death; people as in COLCOT."""
    base = after(count, 0.0)
    older = base._replace(age=base.age + 4.6, diabetes=in_turn(count, 0.2), infarct_type=np.full(count, 2.0))
    h = hazards(older, p, COLCOT)
    every = h.infarction + h.stroke + h.arrest + h.revascularisation + h.cardiovascular_death
    risk = PERCENT * -np.expm1(-incidence(every, every + h.other_death, COLCOT)[-1])
    return {"colcot_placebo": (risk, mean(PERCENT * _gathered(every, COLCOT)[-1])[1])}


def harms(p: Parameters, count: int) -> Values:
    """Share with a reaction beyond placebo: 21 doses of 1 MIU (E089), five of 0.33, 1 and 3 (E087)."""
    own = after(count, LONG_AGO).own["reaction_proneness"] * p.reaction_proneness[:, None]
    each = Parameters(*(np.asarray(one, float)[:, None] for one in p))._replace(reaction_proneness=own)
    lupus = harm.chances(np.full((21, 1, count), 1.0), each)
    found = {
        f"harm_{name}": mean(PERCENT * np.asarray(getattr(lupus, name)))
        for name in ("injection_site", "fever", "flu_like")
    }
    for dose in (0.33, 1.0, 3.0):
        any_one = np.asarray(harm.chances(np.full((5, 1, count), dose), each).any)
        found[f"harm_any_{dose:g}"] = mean(PERCENT * (1 - (1 - any_one) * (5 / 6)))  # 1 of 6 on placebo
    return found


def affinities(p: Parameters, count: int) -> Values:
    """Signal in vitro at the ends of the window in which regulatory T cells alone respond (E082); and that window, IU/mL.

    A cell counts as responding at a signal of a tenth.
    """
    response = immunity.response(p)
    low, high = (immunity.signal(p.picomolar_per_unit * level, 1.0, response) for level in (0.015, 0.24))
    others = np.max([np.asarray(one) for one in (low.teff, low.nk, low.bright)], axis=0)
    keff = np.min([response.affinity.teff, response.affinity.nk, response.affinity.bright], axis=0)
    begins = response.affinity.treg / (9 * p.amplification - 1)  # A L = 0.1 (Keff + (1 + A) L), b = 1
    ends = keff / (10 * p.amplification - response.crowd)
    none = np.zeros_like(others)
    return {
        "window_low": (np.asarray(low.treg), none),
        "window_others": (others, none),
        "window_high": (np.asarray(high.treg), none),
        "window_begins": (begins / p.picomolar_per_unit, none),
        "window_ends": (ends / p.picomolar_per_unit, none),
    }


def constants(p: Parameters, count: int) -> Values:
    """What is a constant of the body itself: clearance, mL/min (E092), and bioavailability, % (E093)."""
    none = np.zeros(len(p.growth))
    return {
        "clearance": (p.clearance * 1000 / 1440, none),
        "bioavailability": (PERCENT * p.bioavailability, none),
    }


Setting = Callable[[Parameters, int], Values]


def together(settings: dict[str, tuple[Setting, int]], p: Parameters, share: float = 1.0) -> Values:
    """Several settings, each with its number of people or a share of it (never fewer than 64)."""
    found: Values = {}
    for run, count in settings.values():
        found |= run(p, max(int(count * share), min(count, 64)))
    return found


def worlds(p: Any) -> Parameters:
    """One set of constants, or many, as arrays of shape (worlds,)."""
    return Parameters(*np.broadcast_arrays(*(np.atleast_1d(np.asarray(one, float)) for one in p)))

"""Dose and schedule for the best benefit less harm within limits: by slopes through the body, over draws of what is not known.

For every schedule tried, lives under a few doses give values and exact slopes in every draw (``dosing_lives``); between
them stand cubic curves (``dosing_curves``); the best on average, the best of each draw and where the answer turns follow
(``dosing_choice``). The dose is settled by Newton steps on the true slope, and what the chosen schedule does is told on
other draws and more people than those it was chosen on, so that it is not flattered by having been chosen.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from quell import __version__, applicability, posterior, store, trial
from quell.body import harm
from quell.design import answers, dosing_choice, dosing_curves, dosing_lives, dosing_uneven
from quell.design.dosing_aim import Aim, Limits, Shape, Worth
from quell.design.dosing_choice import Choice, Surface
from quell.design.dosing_curves import PART, Sample, Tell
from quell.protocol import Protocol

__all__ = ["Aim", "Dosing", "Limits", "Shape", "Worth", "optimise"]

NEWTON, SETTLED = 3, 1e-3  # steps at most; a log dose that moves less is settled
SLACK = 0.1  # share of the net benefit that doses may lose and still count as alike
SOME = 16  # draws on which uneven doses are sought, and the numerical error measured
FINER = 2
JUDGED = 4  # times as many people to judge on as to choose on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dosing:
    """The answer, as plain data by part; see ``as_dict``. ``chosen`` and ``inside`` are told on fresh draws."""

    aim: Aim
    key: int
    chosen: dict[str, Any]  # the best of all that was tried; ``worthwhile`` False: no drug is better
    inside: (
        dict[str, Any] | None
    )  # the best whose dose, total, rhythm and length were studied; None: the chosen one is, or none
    declared: list[dict[str, Any]]  # what the protocol's own arms do
    curve: list[dict[str, Any]]  # the chosen schedule by dose
    schedules: list[dict[str, Any]]  # each at its own best dose
    front: list[dict[str, Any]]
    turns: list[dict[str, Any]]  # the best by what a prevented event is worth
    by_draw: dict[str, Any]  # the best of each draw, and the expected regret
    bodies: list[dict[str, Any]]  # the chosen schedule by structure of the body
    injections: list[dict[str, Any]]  # what each injection is worth
    uneven: dict[str, Any]
    numerical_error: dict[str, float]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data, with what the answer follows from."""
        parts = {
            one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name not in ("aim", "key")
        }
        asked = dataclasses.asdict(self.aim)
        return {
            "aim": asked,
            "judged on": JUDGED * self.aim.people,
            **parts,
            "key": self.key,
            "version": __version__,
            "fingerprint": fingerprint(self.aim, self.key),
        }


def fingerprint(aim: Aim, key: int) -> str:
    """What an answer follows from, in sixteen letters."""
    return store.digest("dosing", aim, key, __version__)[:16]


def optimise(
    aim: Aim, *, protocol: Protocol | None = None, key: int = 2026, tell: Tell = lambda step, share: None
) -> Dosing:
    """The dose and schedule of the greatest expected benefit less burden within limits, and how sure that is.

    Raises BadInput, in a sentence, where the protocol cannot be lived. Kleywegt, Shapiro and Homem-de-Mello 2002
    (doi:10.1137/S1052623499363220) for averages over draws.

    >>> small = Aim(intervals=(14,), courses=("8 weeks",), horizon="1 year", draws=4, people=4)
    >>> optimise(small).chosen["injections"] in (4, 5, 8)
    True
    """
    if protocol:
        trial.lay_out(protocol)  # what cannot be lived is said before anything is
    first, fresh = dosing_curves.rows(aim, key)
    those = dosing_curves.sample(aim, first, aim.people)
    others = dosing_curves.sample(aim, fresh, JUDGED * aim.people)
    curves = dosing_curves.curves(aim, those, aim.shapes, tell)
    surface = dosing_choice.read(curves, curves.grid)
    tell("settling the dose", None)
    best = _settled(aim, those, surface, dosing_choice.choose(surface, aim))
    studied = inside(surface)
    outside = not _among(surface, studied, best)
    within = dosing_choice.choose(surface, aim, studied) if studied.any() and outside else None
    found = dosing_choice.by_draw(surface, aim)
    here = dosing_choice.read(curves, np.array([best.x]))
    mine = here.net(aim.worth)[curves.shapes.index(best.shape), 0]
    tell("living the chosen schedule in other draws", None)
    chosen = _told_choice(aim, others, best)
    tell("asking what each injection is worth", None)
    few = dosing_curves.sample(aim, first[:SOME], aim.people)
    return Dosing(
        aim=aim,
        key=key,
        chosen=chosen,
        inside=_told_choice(aim, others, within) if within and within.feasible else None,
        declared=_declared(aim, others, protocol) if protocol else [],
        curve=_curve(aim, surface, curves.shapes.index(best.shape)),
        schedules=(rows := _schedules(aim, surface)),
        front=dosing_choice.front(surface),
        turns=dosing_choice.turns(surface, aim),
        by_draw=dosing_choice.told_by_draw(found, surface, mine),
        bodies=_bodies(aim, those, here, curves.shapes.index(best.shape)),
        injections=dosing_uneven.by_injection(aim, few, best.shape, best.dose),
        uneven=_uneven(aim, few, others, best),
        numerical_error=_error(aim, few, best),
        warnings=[*_warnings(aim, best, chosen, surface), *_alike(rows)],
    )


def of_protocol(protocol: Protocol, **asked: Any) -> Aim:
    """The aim for a protocol's people; what is asked stands before it."""
    return Aim(**({"population": protocol.population.people} | asked))


def _settled(aim: Aim, those: Sample, surface: Surface, choice: Choice) -> Choice:
    """The dose where the true slope of the mean net benefit vanishes, if that lies inside the range and the limits."""
    low, high = surface.x[0], surface.x[-1]
    x, step = choice.x, 2 * dosing_curves.GRID
    if not choice.feasible or not low + step < x < high - step:
        return choice
    place = surface.curves.shapes.index(choice.shape)
    net = dosing_choice.read(surface.curves, np.array([x - step, x, x + step])).net(aim.worth)[place].mean(axis=-1)
    bend = (net[0] - 2 * net[1] + net[2]) / step**2
    if not (bend < 0 and net[1] >= max(net[0], net[2])):
        return choice  # a limit binds: the slope does not vanish here
    for _ in range(NEWTON):
        now = _slope(aim, those, choice.shape, x)
        moved = float(np.clip(x - now.slope.sum(axis=0).mean() / bend, x - step, x + step))
        x, last = moved, x
        if abs(x - last) < SETTLED:
            break
    at = dosing_choice.read(surface.curves, np.array([x]))
    kept = dosing_curves.allowed(aim.limits, at.mean, at.feverish.mean(axis=-1))[place, 0]
    return choice._replace(x=x, net=float(now.net.mean())) if kept else choice


def _slope(aim: Aim, those: Sample, shape: Shape, x: float) -> dosing_uneven.Valued:
    """The net benefit and its slope by log dose, from lives."""
    amounts = np.full(len(shape.days), np.exp(x))
    return dosing_uneven.valued(aim, those, shape, amounts, amounts[None])


def _among(surface: Surface, some: np.ndarray, choice: Choice) -> bool:
    """Whether a choice is among some schedules and doses of the surface."""
    return bool(some[surface.curves.shapes.index(choice.shape), np.abs(surface.x - choice.x).argmin()])


def inside(surface: Surface) -> np.ndarray:
    """Which schedules and doses lie inside what was studied in dose, total, rhythm and length: (shapes, doses)."""
    shapes = surface.curves.shapes
    rhythm = np.array(
        [max(sum(a <= day < a + applicability.WEEK for day in one.days) for a in one.days) for one in shapes]
    )
    length = np.array([one.days[-1] for one in shapes])
    dose = np.exp(surface.x)
    regular = (rhythm <= applicability.WEEKLY.high) & (length <= applicability.COURSE.high)
    usual = (dose >= applicability.DOSE.low * (1 - 1e-9)) & (dose <= applicability.DOSE.high * (1 + 1e-9))
    return regular[:, None] & usual[None] & (surface.total <= applicability.TOTAL.high)


# -- what a schedule does, told ----------------------------------------------------------------------------------------
def _number(values: np.ndarray) -> dict[str, float]:
    """Mean over draws, its error, and where nine in ten draws lie."""
    found = answers.mean(values, np.arange(len(values)))
    low, high = np.quantile(values, (0.05, 0.95))
    return {"value": found.value, "error": found.error, "low": float(low), "high": float(high)}


def _over(lives: np.ndarray, draws: int, times: float = 1.0) -> dict[str, float]:
    """As ``_number`` for each life's value; the error has both parts, that of few draws and that of few people.

    People are spread evenly, so their part (as if drawn at random) is an upper bound.
    """
    table = times * lives.reshape(draws, -1)
    with np.errstate(invalid="ignore"):
        found, person = _number(np.nanmean(table, axis=1)), np.nanmean(table, axis=0)
    return found | {"error": float(np.hypot(found["error"], person.std() / np.sqrt(len(person))))}


def _told(aim: Aim, those: Sample, days: tuple[int, ...], amounts: np.ndarray) -> dict[str, Any]:
    """What a schedule does on average in each draw: benefit, harm, burden, each with its spread over draws."""
    lived, _, control = dosing_lives.effects(
        those.group, days, amounts, np.zeros(len(days)), horizon=aim.days, benefit=aim.benefit
    )
    given = np.broadcast_to(amounts, (len(control), len(days)))
    own = np.asarray(those.group.patients.own["reaction_proneness"]) * those.group.constants.reaction_proneness
    chances = harm.chances(given.T, those.group.constants._replace(reaction_proneness=own))
    fevers = given.sum(axis=1) * those.fever.ravel()
    net = lived.fall - len(days) / aim.worth.injections - fevers / aim.worth.fevers
    fall, without = (one.reshape(those.draws, -1).mean(axis=1) for one in (lived.fall, control))
    return {
        "injections": len(days),
        "total": float(given.sum(axis=1).mean()),
        "net": _over(net, those.draws, 1000),
        "averted": _over(lived.fall, those.draws, 1000),
        "control": _over(control, those.draws, 1000),
        "relative": _number(fall / without),
        "fevers": _over(fevers, those.draws),
        **{name: _over(one, those.draws) for name, one in lived._asdict().items() if name != "fall"},
        "reactions": {name: _over(np.asarray(one), those.draws) for name, one in chances._asdict().items()},
        "needed to treat": 1 / fall.mean() if fall.mean() > 0 else None,
        "injections per event": len(days) / fall.mean() if fall.mean() > 0 else None,
    }


def _told_choice(aim: Aim, those: Sample, choice: Choice) -> dict[str, Any]:
    """A choice with what it does in draws on which it was not chosen, and how far it leaves what was studied."""
    days = choice.shape.days
    reach = applicability.of_course([choice.dose] * len(days), days, people=aim.population, until=aim.days)
    told = _told(aim, those, days, np.full(len(days), choice.dose))
    limits = {}
    for name, limit in dataclasses.asdict(aim.limits).items():
        if limit is not None:
            limits[name] = {
                "limit": limit,
                "value": (told["reactions"]["fever"] if name == "fever" else told[name])["value"],
            }
    return {
        "dose": choice.dose,
        "schedule": choice.shape.words,
        "days": choice.shape.text,
        "loading": choice.shape.loading,
        "interval": choice.shape.interval,
        "course": days[-1],
        "worthwhile": choice.worthwhile,
        "feasible": choice.feasible,
        "net where chosen": choice.net,
        "limits": limits,
        "outside": reach.sentences,
        **told,
    }


def _declared(aim: Aim, those: Sample, protocol: Protocol) -> list[dict[str, Any]]:
    """What the doses of each treated arm of a protocol do, on the same draws and people as the choice."""
    plan, rows = trial.lay_out(protocol), []
    area = np.asarray(those.group.patients.body_surface_area)[:, None]
    for arm, amounts, per in zip(protocol.arms, plan.amounts, plan.per_area, strict=True):
        given = np.where(np.array(per), np.array(amounts) * area, np.array(amounts))
        on = np.flatnonzero((given > 0).any(axis=0) & (np.array(plan.dose_days) <= aim.days))
        if len(on):
            days = tuple(plan.dose_days[i] for i in on)
            rows.append(
                {"arm": arm.name, "label": arm.shown, "dose": float(given[:, on].mean())}
                | _told(aim, those, days, given[:, on])
            )
    return rows


def _curve(aim: Aim, surface: Surface, place: int) -> list[dict[str, Any]]:
    """The chosen schedule by dose: benefit, net benefit and harms, means and where nine in ten draws lie."""
    thin = dosing_choice.read(surface.curves, np.linspace(surface.x[0], surface.x[-1], 49))
    net, rows = thin.net(aim.worth)[place], []
    for j, x in enumerate(thin.x):
        averted = 1000 * thin.parts[place, j, :, PART["fall"]]
        row = {"dose": float(np.exp(x)), "averted": float(averted.mean()), "net": float(net[j].mean())}
        for name, values in (("averted", averted), ("net", net[j])):
            row |= {f"{name}_low": float(np.quantile(values, 0.05)), f"{name}_high": float(np.quantile(values, 0.95))}
        parts = thin.mean[place, j]
        row |= {
            name: float(parts[PART[name]])
            for name in ("treg", "teff", "nk", "eosinophilia", "hypereosinophilia", "wall")
        }
        rows.append(row | {"fever": float(thin.feverish[place, j].mean())})
    return rows


def _schedules(aim: Aim, surface: Surface) -> list[dict[str, Any]]:
    """Every schedule at its own best dose, the best first; the shortfall against the best of all is paired by draw."""
    net, rows = surface.net(aim.worth), []
    kept = dosing_curves.allowed(aim.limits, surface.mean, surface.feverish.mean(axis=-1))
    for i, shape in enumerate(surface.curves.shapes):
        some = bool(kept[i].any())
        j = int(np.where(kept[i] if some else True, net[i].mean(axis=-1), -np.inf).argmax())
        row: dict[str, Any] = {
            "schedule": shape.words,
            "days": shape.text,
            "injections": len(shape.days),
            "feasible": some,
            "place": (i, j),
        }
        rows.append(
            row
            | {
                "dose": float(np.exp(surface.x[j])),
                "net": _number(net[i, j]),
                "averted": _number(1000 * surface.parts[i, j, :, 0]),
            }
        )
    rows.sort(key=lambda row: (not row["feasible"], -row["net"]["value"]))
    best = net[rows[0]["place"]]
    for row in rows:
        row["shortfall"] = _number(best - net[row.pop("place")])
    return rows


def _bodies(aim: Aim, those: Sample, here: Surface, place: int) -> list[dict[str, Any]]:
    """Events averted by the chosen schedule in the draws of each structure of the body that the evidence leaves open."""
    averted, rows = 1000 * here.parts[place, 0, :, PART["fall"]], []
    high = here.parts[place, 0, :, PART["hypereosinophilia"]]
    for question, options in posterior.load(aim.stage).structures.items():
        mine = options[those.rows]
        for option in np.unique(mine):
            of = mine == option
            row = {"question": question, "option": str(option), "draws": int(of.sum()), "averted": _number(averted[of])}
            rows.append(row | {"hypereosinophilia": float(high[of].mean())})
    return rows


def _uneven(aim: Aim, few: Sample, others: Sample, best: Choice) -> dict[str, Any]:
    """Whether doses that differ over the course do better than one even dose: judged on draws where neither was chosen."""
    amounts = dosing_uneven.improve(aim, few, best.shape, best.dose)
    even = np.full(len(amounts), best.dose)
    nets = [dosing_uneven.valued(aim, others, best.shape, one, one[None]).net for one in (even, amounts)]
    parts = [
        {"from": best.shape.days[one[0]], "to": best.shape.days[one[-1]], "dose": float(amounts[one[0]])}
        for one in (np.flatnonzero(row) for row in dosing_uneven.groups(best.shape))
    ]
    return {"parts": parts, "gain": _number(nets[1] - nets[0])}


def _error(aim: Aim, few: Sample, best: Choice) -> dict[str, float]:
    """How far events averted and their slope move when every small step is halved, on some of the draws; per 1000."""
    amounts = np.full(len(best.shape.days), best.dose)
    found = []
    for times in (1, FINER):
        value, slope, _ = dosing_lives.effects(
            few.group, best.shape.days, amounts, amounts, horizon=aim.days, benefit=aim.benefit, times=times
        )
        found.append([1000 * dosing_lives.by_draw(one, few.draws)[:, PART["fall"]].mean() for one in (value, slope)])
    (value, slope), (finer, steeper) = found
    return {"averted": float(abs(value - finer)), "slope": float(abs(slope - steeper)), "of": float(finer)}


# -- what must be said -------------------------------------------------------------------------------------------------
def _warnings(aim: Aim, best: Choice, chosen: dict[str, Any], surface: Surface) -> list[str]:
    """What the answer rests on, in sentences: extrapolation, flatness, limits that bind, what is assumed."""
    return [
        *_verdict(aim, best, chosen),
        *(f"extrapolated: {one}" for one in chosen["outside"]),
        *_flat(aim, best, surface),
        *_binding(chosen),
        f"assumed: one prevented event outweighs {aim.worth.injections:,.0f} injections or {aim.worth.fevers:,.0f} fevers; "
        "see where the answer turns.",
        "benefit counts gathered hazards of an undisturbed life: deaths from other causes and the consequences of an event are "
        "left to a trial; nobody whose eosinophils pass 1,500/µL is counted as benefiting.",
        "the label of aldesleukin warns of significant cardiac disease (E100); no rate of cardiac harm is known.",
    ]


def _verdict(aim: Aim, best: Choice, chosen: dict[str, Any]) -> list[str]:
    net, found = chosen["net"], []
    if not best.feasible:
        found.append(
            "no schedule that was tried keeps every limit: what is shown is the nearest. Loosen a limit, or try lower doses."
        )
    if not best.worthwhile or net["value"] <= 0:
        found.append(
            "no schedule is worth its burden at this worth of a prevented event: no drug is the better choice."
        )
    elif net["low"] < 0 < net["high"]:
        found.append(
            "the sign of the net benefit is not known: in some of the draws that the evidence leaves, no drug is the better choice."
        )
    return found


def _flat(aim: Aim, best: Choice, surface: Surface) -> list[str]:
    """The doses that lose less than a tenth of the net benefit, where they span more than a doubling."""
    place = surface.curves.shapes.index(best.shape)
    net = surface.net(aim.worth)[place].mean(axis=-1)
    if net.max() <= 0:
        return []
    alike = np.exp(surface.x[net >= (1 - SLACK) * best.net]) if best.net > 0 else np.array([])
    if len(alike) < 2 or alike[-1] / alike[0] < 2:
        return []
    return [
        f"the benefit is flat in the dose: {alike[0]:.2g} to {alike[-1]:.2g} MIU lose less than a tenth of the net benefit."
    ]


def _alike(schedules: list[dict[str, Any]]) -> list[str]:
    """The schedules whose shortfall is within two of its errors, or below a tenth of the best net benefit."""
    slack = SLACK * max(schedules[0]["net"]["value"], 0.0)
    near = [
        one
        for one in schedules[1:]
        if one["feasible"] and one["shortfall"]["value"] < max(slack, 2 * one["shortfall"]["error"])
    ]
    if not near:
        return []
    names = "; ".join(f"{one['dose']:.2g} MIU {one['schedule']}" for one in near[:3])
    more = f", and {len(near) - 3} more" if len(near) > 3 else ""
    return [f"other schedules do as well within the error or a tenth: {names}{more}."]


NAMED = {
    "teff": "effector T cells", "nk": "natural killer cells", "treg": "regulatory T cells", "fever": "fever",
    "hypereosinophilia": "hypereosinophilia",
}  # fmt: skip


def _binding(chosen: dict[str, Any]) -> list[str]:
    found = []
    for name, one in chosen["limits"].items():
        beyond = one["value"] < one["limit"] if name == "treg" else one["value"] > one["limit"]
        if abs(one["value"] / one["limit"] - 1) < 0.1 or beyond:
            word = "passed in the fresh draws" if beyond else "nearly reached"
            found.append(f"the limit on {NAMED[name]} is {word}: {one['value']:.3g} against {one['limit']:.3g}.")
    return found

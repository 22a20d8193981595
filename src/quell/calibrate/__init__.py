"""Bodies that agree with published studies: from evidence to draws of every uncertain constant.

    evidence -> terms (``rows``) <- the body in each published setting (``settings``, ``summaries``)
    priors and structures (``space``), the link to events (``link``)
    a surrogate learned where it matters (``surrogate``), sampled by NUTS (``sample``), corrected by the body (``correct``)

``run`` does it all and writes the draws; a run that was stopped goes on where it was, to the same bytes.
"""

from __future__ import annotations

import functools
import pathlib
import time
from typing import Any

import jax.numpy as jnp
import numpy as np

import quell
from quell import keys, posterior
from quell.body import structure
from quell.calibrate import fit, identify, link, rows, sample, space
from quell.calibrate.summaries import Summaries, Tell, silent
from quell.delivery import check_folder, deliver, to_json

KEY = 2026
SHIPPED = 1500  # draws in a file


def run(folder: pathlib.Path, key: int = KEY, quick: bool = False, tell: Tell = silent) -> dict[str, Any]:
    """Calibrate from scratch: write ``link.parquet``, ``before-ivory.parquet``, ``after-ivory.parquet`` and ``calibration.json``.

    Finished blocks of worlds are kept in ``folder/blocks`` and picked up by the next run. ``quick`` goes through every step
    with a twentieth of the work: its draws show that all is in order and are not for use. Returns what the JSON holds,
    and how long it took. Raises BadInput where results cannot go.
    """
    check_folder(folder)
    started, effort = time.perf_counter(), fit.QUICK if quick else fit.FULL
    tell("the link from inflammation to events", None)
    linked = link.fit()
    link.write(folder / link.FILE, linked)
    where, said = space.spanned(linked), {"version": quell.__version__, "key": key, "quick": quick}
    found: dict[str, fit.Fitted] = {}
    report: dict[str, Any] = {"key": key, "quick": quick, "link": link.summary(linked)}
    lived, seconds = 0, {}
    for stage in posterior.STAGES:
        begun = time.perf_counter()
        here, terms = keys.at(key, "calibrate", stage), rows.terms(stage)
        summaries = Summaries(terms, where, folder, functools.partial(_of_stage, tell, stage))
        active, seen = fit.moving(summaries, sample.data(terms), summaries.tell), sample.data(terms)
        if stage == "before-ivory":
            first = fit.begin(summaries, effort.rounds[0], here)
        else:
            effort = fit.QUICK_AFTER if quick else fit.AFTER
            first = fit.follow(found["before-ivory"].chains, effort.rounds[0], summaries)
        found[stage] = fit.fit(first, active, seen, summaries, effort, here)
        posterior.write(folder / f"{stage}.parquet", draws(found[stage], where, said | {"stage": stage}))
        report[stage] = told(found[stage], terms, where)
        lived += summaries.lived
        seconds[stage] = time.perf_counter() - begun
    deliver(folder, {"calibration.json": to_json(report)})
    rate = {stage: effective(found[stage]) / seconds[stage] for stage in seconds}
    took = {"seconds": time.perf_counter() - started, "seconds_of_stage": seconds, "effective_draws_per_second": rate}
    return report | took | {"lived": lived}


def effective(found: fit.Fitted) -> float:
    """How many effective draws the least known quantity has: of its bulk or its tails, whichever are fewer."""
    return float(min(found.diagnosis.bulk.min(), found.diagnosis.tail.min()))


def _of_stage(tell: Tell, stage: str, step: str, share: float | None) -> None:
    tell(f"{stage}: {step}", share)


def _values(chains: sample.Chains, where: space.Space) -> np.ndarray:
    """The constants of every draw, shape (draws, constants)."""
    z, structures = chains.z.reshape(-1, len(where.names)), chains.structures.ravel()
    return np.asarray(space.effective(jnp.asarray(z), where.ratios[structures], where))


def draws(found: fit.Fitted, where: space.Space, said: dict[str, Any]) -> posterior.Draws:
    """What a stage's file holds: up to ``SHIPPED`` draws, evenly from the chains, with their structures."""
    values, numbers = _values(found.chains, where), found.chains.structures.ravel()
    even = np.arange(len(values))[:: max(1, len(values) // SHIPPED)][:SHIPPED]
    options = np.array(where.structures)[numbers[even]]
    named = {one.name: options[:, i] for i, one in enumerate(structure.table())}
    return posterior.Draws(where.names, values[even], named, said | {"diagnosis": diagnosis(found)})


def diagnosis(found: fit.Fitted) -> dict[str, Any]:
    """What says whether the draws can be trusted: the worst of every measure, and whose it is."""
    one = found.diagnosis
    rhat, bulk, tail = int(one.rhat.argmax()), int(one.bulk.argmin()), int(one.tail.argmin())
    return {
        "largest_rhat": float(one.rhat[rhat]),
        "of_rhat": one.names[rhat],
        "least_bulk": float(one.bulk[bulk]),
        "of_bulk": one.names[bulk],
        "least_tail": float(one.tail[tail]),
        "of_tail": one.names[tail],
        "divergences": found.chains.divergences,
        "share_of_proposals": found.share,
        "pareto_k": found.tail,
        "correlation_of_proposals": found.correlation,
        "draws": int(found.chains.structures.size),
    }


def told(found: fit.Fitted, terms: list[rows.Term], where: space.Space) -> dict[str, Any]:
    """Everything a calibration says, as data: diagnosis, constants, structures, figures."""
    tau = found.chains.tau.reshape(-1, len(sample.GROUPS))
    return {
        "diagnosis": diagnosis(found),
        "faults": found.faults,
        "constants": identify.constants(found.chains.z, _values(found.chains, where), where),
        "structures": identify.structures(found.chains.structures, where),
        "figures": identify.figures(found, terms),
        "spread_between_studies": dict(zip(sample.GROUPS, np.median(tau, axis=0).tolist(), strict=True)),
    }

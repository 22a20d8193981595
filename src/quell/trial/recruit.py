"""Recruiting: candidates come one by one, are screened, and the eligible are enrolled until the trial is full."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quell import allocation, blocks, keys, posterior
from quell.body import course, parameters, population
from quell.measure import assay
from quell.protocol import Protocol
from quell.sentences import near
from quell.trial.plan import before_treatment, possible_days
from quell.trial.world import TrialError, World
from quell.units import DAYS_PER_YEAR

# Screened values that criteria may name, besides the covariates of the population.
SCREENED = ("hsCRP",)


Values = Any  # traced numbers of one person, or NumPy arrays of many


class Candidate(NamedTuple):
    """One screened person: the body, the day of screening, what was read, and which criterion was failed first."""

    address: Values  # the words of the key under which everything random about the person lies
    site: Values
    gap: Values  # days since the enrolment before, if enrolled (exponential)
    patient: Any
    screening_day: Values
    seen: Any  # what could be observed of the body on that day
    hscrp: Values
    failed: Values  # index of the first criterion not met; -1 for the eligible


class Enrolled(NamedTuple):
    """Those enrolled into each trial, in order; arrays of shape (trials, people)."""

    candidate: np.ndarray  # number of the candidate
    address: np.ndarray  # (trials, people, 2): the words of each person's key
    patient: Any
    screening_day: np.ndarray
    seen: Any
    hscrp: np.ndarray
    site: np.ndarray
    arm: np.ndarray
    day: np.ndarray  # calendar day of study day 1, from the start of recruitment
    screened: np.ndarray  # (trials,) candidates screened until the trial was full
    failed: np.ndarray  # (trials, candidates) the first criterion failed; -1 eligible, for those screened


@functools.cache
def _screening(protocol: Protocol) -> Any:
    """The compiled program that draws and screens candidates, vectorised over (key, parameters)."""
    people = population.POPULATIONS[protocol.population.people]
    days = possible_days(protocol.screening) if before_treatment(protocol.screening) else range(0, 1)

    sites, mean_gap = len(protocol.population.sites), DAYS_PER_YEAR / 12 / protocol.population.per_month

    def screen(words: jax.Array, number: jax.Array, p: parameters.Parameters) -> Candidate:
        key = keys.at(keys.of(words), "subject", number)
        patient = population.draw(keys.at(key, "biology"), p, people)
        earliest = jnp.maximum(days.start, 1 - jnp.floor(patient.days_since_infarction))
        chance = jax.random.uniform(keys.at(key, "screening day"))
        day = jnp.minimum(jnp.floor(earliest + chance * (days.stop - earliest)), days.stop - 1)
        seen = course.observe(course.start(patient, p, day), course.person(patient, p))
        hscrp = assay.simulate(assay.by_name()["hsCRP"], seen.crp, key=keys.at(key, "reading", "hsCRP", "screening"))
        return Candidate(
            address=keys.data(key),
            site=jax.random.randint(keys.at(key, "site"), (), 0, sites),
            gap=mean_gap * jax.random.exponential(keys.at(key, "arrival")),
            patient=patient,
            screening_day=day,
            seen=seen,
            hscrp=hscrp,
            failed=_first_failed(protocol, patient, hscrp),
        )

    return blocks.Program(screen, identity=("screening", protocol.fingerprint))


def _first_failed(protocol: Protocol, patient: Any, hscrp: jax.Array) -> jax.Array:
    """The index of the first criterion that a candidate does not meet; -1 if there is none."""
    failed = jnp.array(-1)
    for index, criterion in reversed(list(enumerate(protocol.population.eligibility))):
        value = hscrp if criterion.quantity == "hsCRP" else _covariate(patient, criterion.quantity)
        if criterion.limit.dimension == "time":  # ages are held in years, written rules in days
            value = value * DAYS_PER_YEAR
        failed = jnp.where(criterion.limit.allows(value), failed, index)
    return failed


def _covariate(patient: Any, name: str) -> jax.Array:
    field = {shown.lower(): field for field, (shown, *_) in population.COVARIATES.items()} | {
        field: field for field in population.COVARIATES
    }
    found = field.get(name.lower())
    if found is None:
        raise TrialError(
            f"eligibility names '{name}', which no virtual person has. {near(name, [*SCREENED, *population.COVARIATES])}"
        )
    return getattr(patient, found)


def candidates(protocol: Protocol, p: parameters.Parameters, number: int, words: np.ndarray) -> Candidate:
    """Candidates 0 to ``number`` of each trial, screened; arrays of shape (trials, number).

    ``words`` holds the words of one key per trial; ``p`` one set of parameters, each of shape (trials,).
    """
    trials = len(words)
    numbers = np.tile(np.arange(number), trials)
    spread = jax.tree.map(lambda leaf: np.repeat(leaf, number), p)
    flat = blocks.over(_screening(protocol), np.repeat(words, number, axis=0), numbers, spread)
    return jax.tree.map(lambda leaf: leaf.reshape(trials, number, *leaf.shape[1:]), flat)


def enrol(protocol: Protocol, p: parameters.Parameters, number: int, words: np.ndarray) -> Enrolled:
    """Screen until ``number`` are enrolled in every trial; assign sites, days and arms.

    ``words`` holds the words of one key per trial. Raises TrialError where hardly anybody is eligible.
    """
    pool = number + number // 4 + 16  # more are drawn where that is not enough
    while True:
        found = candidates(protocol, p, pool, words)
        eligible = found.failed < 0
        if (eligible.sum(axis=1) >= number).all():
            break
        if pool > 200 * number + 10_000:
            share = float(eligible.mean())
            raise TrialError(
                f"only {share:.1%} of those screened are eligible, too few to enrol {number}. Widen population.eligibility."
            )
        pool *= 2
    order = np.argsort(~eligible, axis=1, kind="stable")[:, :number]
    chosen = jax.tree.map(lambda leaf: _take(leaf, order), found)
    return Enrolled(
        candidate=order,
        address=chosen.address,
        patient=chosen.patient,
        screening_day=chosen.screening_day,
        seen=chosen.seen,
        hscrp=chosen.hscrp,
        site=chosen.site,
        arm=allocation.assign(protocol, _stratum(protocol, chosen.site), _strata(protocol), words),
        day=np.floor(np.cumsum(chosen.gap, axis=1)).astype(int),
        screened=order[:, -1] + 1,
        failed=found.failed,
    )


class Gathered(NamedTuple):
    """People enrolled into trials, twice: by trial, and with one leading axis of people beside their parameters."""

    enrolled: Enrolled
    people: Enrolled
    parameters: parameters.Parameters


def gather(protocol: Protocol, world: World, number: int, words: np.ndarray) -> Gathered:
    """``number`` people for each trial of a world, ready to live; ``words`` holds the words of one key per trial."""
    p = parameters_of(world, words)
    enrolled = enrol(protocol, p, number, words)
    people = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), enrolled)
    return Gathered(enrolled, people, jax.tree.map(lambda leaf: leaf.repeat(number), p))


def _take(leaf: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.take_along_axis(leaf, order.reshape(*order.shape, *[1] * (leaf.ndim - 2)), axis=1)


def _strata(protocol: Protocol) -> int:
    return len(protocol.population.sites) if "site" in protocol.allocation.strata else 1


def _stratum(protocol: Protocol, site: np.ndarray) -> np.ndarray:
    unknown = [name for name in protocol.allocation.strata if name != "site"]
    if unknown:
        raise TrialError(
            f"allocation is stratified by '{unknown[0]}'; virtual trials can stratify by 'site'. Remove it, or allocate by site."
        )
    return site if "site" in protocol.allocation.strata else np.zeros_like(site)


def parameters_of(world: World, words: np.ndarray) -> parameters.Parameters:
    """The parameters of each trial's world, each of shape (trials,): the same, or drawn anew for each trial."""
    if not world.uncertain:
        return jax.tree.map(lambda value: np.full(len(words), float(value)), world.parameters)
    draws = world.draws or (posterior.load(world.stage) if world.stage in posterior.STAGES else None)
    drawn = _from_draws(draws, words) if draws else blocks.over(_drawing(), words, width=256)
    for what in world.removed:
        drawn = parameters.without(drawn, what)
    return jax.tree.map(np.asarray, drawn)


def _from_draws(draws: posterior.Draws, words: np.ndarray) -> parameters.Parameters:
    """One of the draws for each trial, by its key."""
    return draws.constants(blocks.over(_choosing(len(draws.values)), words, width=256))


@functools.cache
def _choosing(count: int) -> Any:
    return blocks.Program(
        lambda words: jax.random.randint(keys.at(keys.of(words), "posterior"), (), 0, count),
        identity=("posterior", count),
    )


@functools.cache
def _drawing() -> Any:
    return blocks.Program(
        lambda words: parameters.draw(keys.at(keys.of(words), "parameters")), identity=("parameters",)
    )

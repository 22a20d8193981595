"""Which constants a study can inform, found by moving each a step and asking how many errors the readings move.

    information of a constant in a person = sum over readings (shift / error)^2

A constant is fitted for the population where a step of its prior deviation is worth ``LEAST_STUDY`` over the study, and for
each person where a step of the spread between people is worth ``LEAST_PERSON``, the spread itself where it is worth ``LEAST_SPREAD``;
those a reading rises with exactly always are.
The others stay at the table's value, people varying about it as the table says. What is left out and wrong misleads what is fitted, by
up to the root of its worth in their deviations: so for the population little is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell import posterior
from quell.body import parameters
from quell.calibrate import shapes
from quell.calibrate.followed import Followed, errors
from quell.measure import pet

LEAST_STUDY, LEAST_PERSON, LEAST_SPREAD = 2.0, 0.25, 1.5
LARGEST = 0.35  # a step is cut at this, so that a slope is measured and not a leap


class Choice(NamedTuple):
    """The constants fitted; arrays over them."""

    names: tuple[str, ...]
    centre: np.ndarray  # prior mean of the log of the population's value
    sigma: np.ndarray  # its standard deviation; 0 where it is not fitted
    spread: np.ndarray  # of the log between people; 0 where people are not told apart
    moved: dict[str, np.ndarray]  # part: (people, constants) whether each shapes it
    information: np.ndarray  # (people, constants) of one step between people
    worth: np.ndarray  # (constants,) over the study, of one step of the prior

    @property
    def population(self) -> np.ndarray:
        return np.flatnonzero(self.sigma > 0)

    @property
    def personal(self) -> np.ndarray:
        return np.flatnonzero(self.spread > 0)

    @property
    def loose(self) -> np.ndarray:
        """Of the personal constants, those whose spread between people the study speaks of; the others' is the table's."""
        return _strong(self.information[:, self.personal]) >= LEAST_SPREAD


def prior(before: posterior.Draws | None = None) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the log of each uncertain constant: the table's, or those of draws.

    Constants that say how far people differ are none of them: here the spread between people is fitted itself (``between``).

    >>> "surge" in prior(), "surge_spread" in prior()
    (True, False)
    """
    found = {one.name: (float(np.log(one.value)), one.uncertainty) for one in parameters.table() if one.value > 0}
    if before is not None:
        logs = np.log(np.maximum(before.values, 1e-12))
        for name, mean, sd in zip(before.names, logs.mean(axis=0), logs.std(axis=0), strict=True):
            found[name] = (float(mean), float(sd))
    return {name: one for name, one in found.items() if name not in parameters.WIDER.values()}


def between(before: posterior.Draws | None = None) -> dict[str, float]:
    """The standard deviation of the log of each constant between people: the table's, widened as draws say.

    >>> round(between()["surge"], 2) == round(parameters.spreads()["surge"], 2)
    True
    """
    found = dict(parameters.spreads())
    for name, wider in parameters.WIDER.items():
        if before is not None and wider in before.names:
            found[name] *= float(np.median(before.values[:, before.names.index(wider)]))
    return found


def choose(who: Followed, before: posterior.Draws | None = None) -> Choice:
    """The constants that this study informs."""
    known, people_differ = prior(before), between(before)
    names = [name for name, (_, sd) in known.items() if sd > 0 or name in people_differ]
    centre = np.array([known[name][0] for name in names])
    sigma = np.array([known[name][1] for name in names])
    spread = np.array([people_differ.get(name, 0.0) for name in names])
    step = np.minimum(np.maximum(sigma, spread), LARGEST)
    made, read = _stepped(who, names, centre, step)
    per_step = (((read[1:] - read[0]) / _errors(who)) ** 2).sum(axis=(2, 3))  # (constants, people)
    study = (per_step * ((sigma / step) ** 2)[:, None]).sum(axis=1)
    person = per_step * ((spread / step) ** 2)[:, None]
    strong = _strong(person.T)
    scales = np.isin(names, sorted({name for kind in who.kinds for name in kind.scale}))
    people = (spread > 0) & (scales | (strong >= LEAST_PERSON))
    fitted = (sigma > 0) & (scales | (study >= LEAST_STUDY))
    kept = np.flatnonzero(people | fitted)
    moved = {part: (np.abs(x[1:] - x[0]).max(axis=2) > shapes.STEP)[kept].T for part, x in made.items()}
    return Choice(
        tuple(names[i] for i in kept),
        centre[kept],
        np.where(fitted, sigma, 0.0)[kept],
        np.where(people, spread, 0.0)[kept],
        moved,
        person[kept].T,
        study[kept],
    )


def _strong(information: np.ndarray) -> np.ndarray:
    """The mean over the half of the people of whom it is most, (people, constants): few constants move the untreated."""
    return np.sort(information, axis=0)[len(information) // 2 :].mean(axis=0)


def _stepped(
    who: Followed, names: list[str], centre: np.ndarray, step: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Shapes and readings with no constant moved, then each in turn: (1 + constants, people, visits, kinds)."""
    count = len(names)
    logs = centre + np.vstack([np.zeros(count), np.diag(step)])
    x = np.broadcast_to(logs[:, None, :], (count + 1, len(who.subjects), count))
    values = {name: np.exp(x[:, :, i]) for i, name in enumerate(names)}
    made = shapes.live(who, values, {})
    scale = {name: x[:, :, i][..., None] for i, name in enumerate(names)}
    return made, np.stack(shapes.expected(who.kinds, made, scale, np), axis=-1)


def _errors(who: Followed) -> np.ndarray:
    """The error of each reading, (people, visits, kinds); without end where there is none."""
    each = np.array([np.hypot(e, pet.pet().scan_sd) if k.location else e for k, e in zip(who.kinds, errors(who.kinds), strict=True)])  # fmt: skip
    return np.where(np.isfinite(who.value), each, np.inf)

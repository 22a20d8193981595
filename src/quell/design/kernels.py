"""The kernels of a design, under one name: chance, people, events, tests; and the plain design in one go.

All work on a batch of trials, (trials, n), are free of the interpreter's lock, and give the same bits for a trial
whatever batch it is in.
"""

from __future__ import annotations

from quell.design.kernel_chance import ENTRY, FATE, PERSON, PLACE, exponential, normal, seeds, uniform
from quell.design.kernel_cox import HazardRatios, cox
from quell.design.kernel_events import LONGEST, NEVER, Counts, Followed, day_of_events, first, followed, whole
from quell.design.kernel_looks import Looked, Plain, looks
from quell.design.kernel_means import RestrictedMeans, restricted_mean
from quell.design.kernel_people import allocate, allocate_by_chance, arrivals, lost, persons, sites
from quell.design.logrank_kernel import LogRanks, WeightedLogRanks, logrank, weighted_logrank

__all__ = [
    "ENTRY",
    "FATE",
    "LONGEST",
    "NEVER",
    "PERSON",
    "PLACE",
    "Counts",
    "Followed",
    "HazardRatios",
    "LogRanks",
    "Looked",
    "Plain",
    "RestrictedMeans",
    "WeightedLogRanks",
    "allocate",
    "allocate_by_chance",
    "arrivals",
    "cox",
    "day_of_events",
    "exponential",
    "first",
    "followed",
    "logrank",
    "looks",
    "lost",
    "normal",
    "persons",
    "restricted_mean",
    "seeds",
    "sites",
    "uniform",
    "weighted_logrank",
    "whole",
]

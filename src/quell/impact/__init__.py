"""From a trial's effect to a country: events averted, patients to treat, years of life, and the price worth paying.

``of_ratio`` takes a hazard ratio and its interval, ``of_draws`` draws of one by year (of a posterior, or of a bank by
``of_survival``). The effect meets the inputs of a country (``Inputs``; each with source, date, spread and status) in a
Markov model of quarter years; the inputs and the effect are drawn together, so that every number has an interval.

>>> from quell import impact
>>> found = impact.of_ratio(0.7, 0.5, 0.98, draws=100)
>>> found.inputs.title, len(found.control.years)
('United Kingdom', 100)
"""

from quell.impact.effect import Effect, of_survival
from quell.impact.inputs import ImpactError, Input, Inputs
from quell.impact.result import Impact, of_draws, of_effect, of_ratio, run

__all__ = [
    "Effect",
    "Impact",
    "ImpactError",
    "Input",
    "Inputs",
    "of_draws",
    "of_effect",
    "of_ratio",
    "of_survival",
    "run",
]

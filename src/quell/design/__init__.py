"""Designing a trial: one trial many times, and many designs against each other, each answer with its Monte Carlo error."""

from quell.design.repeats import Performance, Rate, Repeats, Watch, repeat

__all__ = ["Performance", "Rate", "Repeats", "Watch", "repeat"]

"""Cohorts that move between states, and what their time there is worth: nothing in here knows of hearts.

A cohort is one row of shares over states, x; with the matrix P_k of cycle k

    x_{k+1} = x_k P_k                                                  (Briggs, Claxton and Sculpher 2006, chapter 2)
    value = sum_k w_k (1 + r)^{-t_k} x_k v_k                           w: where in a cycle the time is counted

Causes that compete within a cycle of length d share its probability by their hazards, 1 - exp(-d sum h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Counted = Literal["start", "end", "half-cycle", "simpson"]


def competing(hazards: np.ndarray, years: float) -> np.ndarray:
    """Probabilities of each cause in a time of so many years, from hazards a year; both of shape (..., causes).

    >>> competing(np.array([0.1, 0.3]), 1.0).round(4)
    array([0.0824, 0.2473])
    """
    total = hazards.sum(axis=-1, keepdims=True)
    return -np.expm1(-years * total) * np.divide(hazards, total, out=np.zeros_like(hazards), where=total > 0)


def rate(probability: float | np.ndarray, years: float = 1.0) -> float | np.ndarray:
    """The even hazard a year that gives a probability within so many years.

    >>> round(float(rate(0.056)), 4)
    0.0576
    """
    return -np.log1p(-np.asarray(probability)) / years


def occupancy(start: np.ndarray, matrix: Callable[[int], np.ndarray], cycles: int) -> np.ndarray:
    """Shares in each state at the ends of cycles, of shape (cycles + 1, draws, states).

    ``start``: (draws, states); ``matrix(k)``: (draws, states, states), rows adding up to 1, of cycle k = 0, 1, …

    >>> halves = occupancy(np.array([[1.0, 0.0]]), lambda cycle: np.array([[[0.5, 0.5], [0.0, 1.0]]]), 2)
    >>> halves[:, 0]
    array([[1.  , 0.  ],
           [0.5 , 0.5 ],
           [0.25, 0.75]])
    """
    here = np.asarray(start, float)
    found = np.empty((cycles + 1, *here.shape))
    found[0] = here
    for cycle in range(cycles):
        here = np.einsum("ds,dst->dt", here, matrix(cycle))
        found[cycle + 1] = here
    return found


def counted(cycles: int, how: Counted = "half-cycle") -> np.ndarray:
    """Weights of the ends of cycles, shape (cycles + 1,): where within a cycle its time is counted.

    ``half-cycle`` is the trapezium, ``simpson`` Simpson's first rule for an even number of cycles (Elbasha and Chhatwal
    2016, doi:10.1007/s40273-015-0337-0).

    >>> counted(4), counted(4, "simpson").round(2)
    (array([0.5, 1. , 1. , 1. , 0.5]), array([0.33, 1.33, 0.67, 1.33, 0.33]))
    """
    weights = np.ones(cycles + 1)
    match how:
        case "start":
            weights[-1] = 0
        case "end":
            weights[0] = 0
        case "half-cycle":
            weights[[0, -1]] = 0.5
        case "simpson":
            if cycles % 2:
                raise ValueError(f"Simpson's rule needs an even number of cycles, not {cycles}.")
            weights[1:-1:2], weights[2:-1:2], weights[[0, -1]] = 4 / 3, 2 / 3, 1 / 3
    return weights


def discounted(years: np.ndarray, yearly: float | np.ndarray) -> np.ndarray:
    """What 1 at some time is worth now, (1 + r)^-t.

    >>> discounted(np.array([0.0, 1.0, 2.0]), 0.035).round(4)
    array([1.    , 0.9662, 0.9335])
    """
    return (1.0 + yearly) ** -np.asarray(years, float)


def worth(lived: np.ndarray, values: np.ndarray, weights: np.ndarray, discount: np.ndarray) -> np.ndarray:
    """The discounted sum of what the states are worth, of shape (draws,).

    ``lived``: (cycles + 1, draws, states); ``values``: what a cycle in a state is worth, (states,) or, where it changes
    with time, (cycles + 1, states); ``weights`` and ``discount``: (cycles + 1,).

    >>> lived = occupancy(np.array([[1.0, 0.0]]), lambda cycle: np.array([[[0.5, 0.5], [0.0, 1.0]]]), 2)
    >>> worth(lived, np.array([1.0, 0.0]), counted(2), np.ones(3))
    array([1.125])
    """
    table = np.broadcast_to(values, (len(lived), lived.shape[-1]))
    return np.einsum("k,kds,ks->d", weights * discount, lived, table, optimize=True)

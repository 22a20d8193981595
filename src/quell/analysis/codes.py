"""Whole codes of arms, factors and strata: what every method takes, checked and read in one way.

A code is a whole number 0, 1, 2, ...; a negative or missing one belongs to nobody (no arm, level unknown).
"""

from __future__ import annotations

import numpy as np

from quell.analysis.claim import ClaimError


def whole(values: np.ndarray, of: str = "Arms and factors") -> np.ndarray:
    """Codes as whole numbers; what is not finite becomes -1. Raises ClaimError for labels.

    >>> whole(np.array([1.0, np.nan, 0.0])).tolist()
    [1, -1, 0]
    """
    values = np.asarray(values)
    if values.dtype.kind in "iub":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind != "f":
        raise ClaimError(f"{of} are whole codes 0, 1, 2, ...; number the labels first.")
    return np.where(np.isfinite(values), values, -1).astype(np.int64)


def codes_of(values: np.ndarray) -> list[int]:
    """The codes in use anywhere in the batch, in order.

    >>> codes_of(np.array([[2, 0], [-1, 2]]))
    [0, 2]
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, -1)
    # a look for each code is faster than sorting all values, as long as the codes are few
    if high < 64:
        return [code for code in range(max(low, 0), high + 1) if (values == code).any()]
    return [int(code) for code in np.unique(values) if code >= 0]


def two_arms(contrast: tuple[int, int]) -> tuple[int, int]:
    """The arm codes (active, control) of a contrast. Raises ClaimError where they are not two different ones.

    >>> two_arms((2, 0))
    (2, 0)
    """
    active, control = (int(code) for code in contrast)
    if active == control or min(active, control) < 0:
        raise ClaimError(f"The contrast is {contrast}; it needs two different arm codes, (active, control), from 0 up.")
    return active, control

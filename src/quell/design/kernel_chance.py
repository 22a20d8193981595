"""Chance by address for kernels: a hash of (seed of the trial, person, purpose), so that nobody's chance moves another's.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195), used on a counter, as
Salmon et al. 2011 do (doi:10.1145/2063384.2063405). Its 64 bits are two numbers of 32 bits, a high and a low half.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import special

from quell import keys
from quell.design.kernel_native import compiled

Half = Literal["high", "low"]

# What a person's chance is for, and what its halves are.
ENTRY = 1  # high: the time to the next arrival; low: the arm
PLACE = 2  # high: the site; low: free
PERSON = 3  # high: the place in the bank; low: how many are screened
FATE = 16  # and the numbers above it, one for each group of causes: high: the first event; low of FATE itself: the loss
NAMED = 1 << 32  # purposes with a name of their own lie above

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd (SplitMix64)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
LOW = np.uint64(0xFFFFFFFF)
S27, S30, S31, S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)
ONE = np.uint64(1)

FRACTION, UNIT = np.int64((1 << 52) - 1), np.int64(1023 << 52)
ROOT_TWO, LOG_TWO = float(np.sqrt(2.0)), float(np.log(2.0))
SPAN = 2.0**32


@compiled
def mixed(x):
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    x = (x ^ (x >> S30)) * FIRST
    x = (x ^ (x >> S27)) * SECOND
    return x ^ (x >> S31)


@compiled
def stream(seed, purpose):
    """The chance of all people of a trial for one purpose."""
    return mixed(seed + mixed(np.uint64(purpose) * GOLDEN))


@compiled
def bits(source, person):
    """The 64 bits of a person (from 0) in a stream."""
    return mixed(((np.uint64(person) + ONE) * GOLDEN) ^ source)


@compiled
def high(word):
    """The upper 32 bits, as a float."""
    return np.float64(np.int64(word >> S32))


@compiled
def low(word):
    """The lower 32 bits, as a float."""
    return np.float64(np.int64(word & LOW))


@compiled
def share(half):
    """A uniform number between 0 and 1, neither of them, from a half."""
    return (half + 0.5) / SPAN


@compiled
def unit_exponential(half):
    """-log(1 - u), right to 2e-11; a small half is an early event.

    x = 2^k m with m around 1, and log m = 2 atanh(s) = 2 (s + s^3 / 3 + ...), s = (m - 1) / (m + 1). Only additions,
    products and a quotient, so that every machine finds the same bits, eight people at a time.
    """
    x = (SPAN - 0.5 - half) / SPAN
    word = np.float64(x).view(np.int64)
    power = np.float64((word >> 52) - 1023)
    m = np.int64((word & FRACTION) | UNIT).view(np.float64)
    upper = m > ROOT_TWO
    m = m * 0.5 if upper else m
    power = power + 1.0 if upper else power
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = 1.0 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11)))))
    return -(power * LOG_TWO + 2.0 * s * series)


def purpose_number(purpose: int | str) -> int:
    """The number of a purpose: its own below 2^32, or that of its name."""
    return NAMED + keys.number(purpose) if isinstance(purpose, str) else int(purpose)


def seeds(key: int | Any, trials: np.ndarray) -> np.ndarray:
    """The seed of each trial of a run, (trials,) uint64, from the run's key and the trials' numbers.

    >>> bool((seeds(2026, np.arange(3))[1:] == seeds(2026, np.array([1, 2]))).all())
    True
    """
    words = np.asarray(keys.data(key), np.uint64).ravel()
    with np.errstate(over="ignore"):
        source = _stream((words[0] << np.uint64(32)) | words[1], np.uint64(0))
        return _mixed(((np.asarray(trials).astype(np.uint64) + ONE) * GOLDEN) ^ source)


def _mixed(x: np.ndarray) -> np.ndarray:
    """`mixed` for arrays, without compiling a program."""
    x = (x ^ (x >> S30)) * FIRST
    x = (x ^ (x >> S27)) * SECOND
    return x ^ (x >> S31)


def _stream(seed: Any, purpose: np.uint64) -> Any:
    return _mixed(np.asarray(seed, np.uint64) + _mixed(np.asarray(purpose * GOLDEN)))


def _halves(seed: np.ndarray, n: int, purpose: int | str, half: Half) -> np.ndarray:
    """One half for each trial and person, (trials, n) float64."""
    with np.errstate(over="ignore"):
        source = _stream(seed, np.uint64(purpose_number(purpose)))
        word = _mixed(((np.arange(n, dtype=np.uint64) + ONE) * GOLDEN) ^ source[:, None])
    return (word >> S32 if half == "high" else word & LOW).astype(np.float64)


def uniform(seed: np.ndarray, n: int, purpose: int | str, half: Half = "high") -> np.ndarray:
    """A uniform number, (trials, n), of the first n people of each trial, for a purpose: its number here, or any name.

    >>> seed = seeds(1, np.arange(2))
    >>> bool((uniform(seed, 5, "adherence")[:, :3] == uniform(seed, 3, "adherence")).all())
    True
    """
    return (_halves(seed, n, purpose, half) + 0.5) / SPAN


def exponential(seed: np.ndarray, n: int, purpose: int | str, half: Half = "high") -> np.ndarray:
    """A unit exponential, (trials, n), at the address of `uniform`: its -log(1 - u), to 2e-11.

    >>> seed = seeds(1, np.arange(2))
    >>> bool(np.allclose(exponential(seed, 4, "wait"), -np.log1p(-uniform(seed, 4, "wait")), atol=1e-10))
    True
    """
    found = _halves(seed, n, purpose, half)
    _exponentials(found.reshape(-1))
    return found


def normal(seed: np.ndarray, n: int, purpose: int | str, half: Half = "high") -> np.ndarray:
    """A standard normal number, (trials, n), at the address of `uniform`.

    >>> normal(seeds(1, np.arange(1)), 3, "reading").shape
    (1, 3)
    """
    return special.ndtri(uniform(seed, n, purpose, half))


@compiled
def _exponentials(halves):
    for i in range(len(halves)):
        halves[i] = unit_exponential(halves[i])

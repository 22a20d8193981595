"""The laws that every estimator keeps, each written once: a file of laws brings a table of siblings and their data.

Data are whatever an estimator is asked about: an array, or a dict, list or NamedTuple of arrays (None where absent), with
the axes of the batch first and then that of people. Each function below `LAWS` makes a test of every row of a table:

    ESTIMATORS = {"Welch": (lambda d, c: two_sample(d["outcome"], d["arm"], contrast=c), "difference"), ...}
    siblings = Siblings(ESTIMATORS, made)
    test_the_order_of_the_rows_means_nothing = order(siblings, examples=10)
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.analysis.claim import ClaimError, Estimate, claim_from

seeds = st.integers(0, 10_000)
CONTRAST = (1, 0)


class Siblings(NamedTuple):
    """A table of estimators, {name: (estimator of (data, contrast), scale)}, and their data, made(seed, trials).

    scale: "difference" or "ratio" have an estimate that the other contrast turns round; "size" has one without a test;
    "test" and "signed test" have none, the latter a statistic with a sign. Numbers agree within rtol and atol. Of an
    estimate that is not settled(name, estimate) (a fit on its way to infinity stops where it stops) only that is compared.
    """

    estimators: Mapping[str, tuple[Callable[[Any, tuple[int, int]], Any], str]]
    made: Callable[..., Any]
    rtol: float = 1e-6
    atol: float = 1e-8
    settled: Callable[[str, Any], bool] = lambda name, estimate: True

    @property
    def each(self) -> pytest.MarkDecorator:
        """One test for each row of the table."""
        return pytest.mark.parametrize("name", self.estimators)

    def close(self, mine: Any, theirs: Any) -> None:
        """All numbers of two answers agree."""
        close(numbers(mine), numbers(theirs), self.rtol, self.atol)


def close(mine: Any, theirs: Any, rtol: float = 1e-6, atol: float = 1e-8) -> None:
    """Numbers agree; those of a list or tuple one by one."""
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        for one, other in zip(mine, theirs, strict=True):
            close(one, other, rtol, atol)
    else:
        np.testing.assert_allclose(np.asarray(mine, float), np.asarray(theirs, float), rtol=rtol, atol=atol)


def each_array(change: Callable[..., Any], first: Any, *others: Any) -> Any:
    """The data with every array changed; of several data alike, arrays of one place go together."""
    if first is None:
        return None
    if isinstance(first, dict):
        return {key: each_array(change, first[key], *(other[key] for other in others)) for key in first}
    if isinstance(first, list):
        return [each_array(change, *one) for one in zip(first, *others, strict=True)]
    if isinstance(first, tuple):
        return type(first)(*(each_array(change, *one) for one in zip(first, *others, strict=True)))
    return change(first, *others)


def shapes(data: Any) -> list[tuple[int, ...]]:
    """The shapes of the data's arrays."""
    found: list[tuple[int, ...]] = []
    each_array(lambda values: found.append(np.shape(values)), data)
    return found


def part(data: Any, index: Any) -> Any:
    """Some trials of a batch, or some people of a trial; a number alone is shared by all."""
    return each_array(lambda values: np.asarray(values)[index] if np.ndim(values) else values, data)


def together(*data: Any) -> Any:
    """Trials as a batch."""
    return each_array(lambda *values: np.stack(values), *data)


def numbers(found: Any) -> list[np.ndarray]:
    """All numbers of an estimate (not its level), or of other arrays."""
    return [np.asarray(field, float) for field in (found[:-1] if isinstance(found, Estimate) else found)]


def row(found: Any, index: Any) -> Any:
    """One trial of an answer."""
    return found.row(index) if isinstance(found, Estimate) else part(found, index)


def turned(scale: str, one: Estimate) -> list[np.ndarray]:
    """Estimate, lower and upper limit as they are for the other contrast."""
    with np.errstate(divide="ignore", over="ignore"):
        return [-value if scale == "difference" else 1 / value for value in (one.estimate, one.upper, one.lower)]


def turned_round(siblings: Siblings, scale: str, one: Estimate, other: Estimate, signed: bool = True) -> None:
    """Swapping the arms flips the sign and nothing else."""
    if scale in ("difference", "ratio"):
        siblings.close([other.estimate, other.lower, other.upper], turned(scale, one))
    if signed:
        siblings.close([other.statistic], [one.statistic if scale == "test" else -np.asarray(one.statistic)])
    same = ("se", "df", "p", "n", "warnings")
    siblings.close([getattr(other, field) for field in same], [getattr(one, field) for field in same])


def one_by_one(siblings: Siblings, name: str, data: Any, shape: tuple[int, ...]) -> None:
    """A batch is its trials, one by one."""
    estimator, _ = siblings.estimators[name]
    whole = estimator(data, CONTRAST)
    assert np.shape(whole.p if isinstance(whole, Estimate) else whole[0])[: len(shape)] == shape
    for index in np.ndindex(shape):
        alone = estimator(part(data, index), CONTRAST)
        if siblings.settled(name, alone):
            siblings.close(row(whole, index), alone)


def answered(name: str, scale: str, found: Estimate) -> None:
    """An answer, or a doubt; and a sentence."""
    said = [] if "test" in scale else [found.estimate, found.lower, found.upper]
    said += [] if scale == "size" else [found.p]
    if np.isnan(said).any():
        assert found.warnings > 0, f"{name}: {found}"
    claim = claim_from(found, name=name, method=name)
    assert claim.n == int(found.n)
    assert claim.sentence.endswith(f"n = {int(found.n)}"), claim.sentence


# LAWS: each makes a test


def swap(siblings: Siblings, examples: int, unsigned: Iterable[str] = ()) -> Callable[..., None]:
    """The other contrast has the other sign and the same error, p and doubts; `unsigned` rows have no signed statistic."""

    @siblings.each
    @settings(max_examples=examples, deadline=None)
    @given(seed=seeds)
    def law(name: str, seed: int) -> None:
        estimator, scale = siblings.estimators[name]
        data = siblings.made(seed)
        one, other = estimator(data, CONTRAST), estimator(data, CONTRAST[::-1])
        assert siblings.settled(name, one) == siblings.settled(name, other)
        if siblings.settled(name, one):
            turned_round(siblings, scale, one, other, name not in unsigned)

    return law


def order(
    siblings: Siblings,
    examples: int,
    contrast: tuple[int, int] = CONTRAST,
    also: Callable[[Any], Any] = lambda data: data,
) -> Callable[..., None]:
    """The order of the rows means nothing; `also` changes something else that means nothing."""

    @siblings.each
    @settings(max_examples=examples, deadline=None)
    @given(seed=seeds)
    def law(name: str, seed: int) -> None:
        estimator, _ = siblings.estimators[name]
        data = siblings.made(seed)
        shuffled = also(part(data, np.random.default_rng(seed).permutation(shapes(data)[0][0])))
        found, again = estimator(data, contrast), estimator(shuffled, contrast)
        assert siblings.settled(name, found) == siblings.settled(name, again)
        if siblings.settled(name, found):
            siblings.close(again, found)

    return law


def batch(siblings: Siblings, examples: int, shape: tuple[int, ...] = (2, 3)) -> Callable[..., None]:
    """A batch is its trials, one by one."""

    @siblings.each
    @settings(max_examples=examples, deadline=None)
    @given(seed=seeds)
    def law(name: str, seed: int) -> None:
        one_by_one(siblings, name, siblings.made(seed, shape), shape)

    return law


def pieces(siblings: Siblings, examples: int, *sizes: tuple[Any, str, int]) -> Callable[..., None]:
    """In however small pieces a batch is worked through, the numbers are the same: sizes are (module, constant, value)."""

    @siblings.each
    @settings(max_examples=examples, deadline=None)
    @given(seed=seeds)
    def law(name: str, seed: int) -> None:
        estimator, _ = siblings.estimators[name]
        data = siblings.made(seed, (2, 3))
        whole = estimator(data, CONTRAST)
        with pytest.MonkeyPatch.context() as patch:
            for module, constant, value in sizes:
                patch.setattr(module, constant, value)
            siblings.close(estimator(data, CONTRAST), whole)

    return law


def empty_batch(siblings: Siblings, without: Iterable[str] = ()) -> Callable[..., None]:
    """No trials, no answers; rows `without` one cannot be asked."""

    @pytest.mark.parametrize("name", [name for name in siblings.estimators if name not in without])
    def law(name: str) -> None:
        estimator, _ = siblings.estimators[name]
        for shape in ((2,), (2, 3)):
            nothing = part(siblings.made(1, shape), slice(0, 0))
            assert np.shape(estimator(nothing, CONTRAST).p) == (0, *shape[1:])

    return law


def degenerate(siblings: Siblings, cases: Iterable[tuple[str, Any]]) -> Callable[..., None]:
    """Data at the edge of sense give an answer or a doubt; and beside a sound trial of the same size, the same."""
    named = dict(cases)
    sound = siblings.made(4)

    @siblings.each
    @pytest.mark.parametrize("case", named)
    def law(name: str, case: str) -> None:
        estimator, scale = siblings.estimators[name]
        found = estimator(named[case], CONTRAST)
        answered(f"{name} of {case}", scale, found)
        if shapes(named[case]) == shapes(sound) and siblings.settled(name, found):
            siblings.close(row(estimator(together(named[case], sound), CONTRAST), 0), found)

    return law


def scaled(
    siblings: Siblings, examples: int, names: Iterable[str], other_unit: Callable[[Any, float], Any]
) -> Callable[..., None]:
    """Numbers that have no unit do not change with it."""

    @pytest.mark.parametrize("name", names)
    @settings(max_examples=examples, deadline=None)
    @given(seed=seeds, scale=st.floats(0.01, 100))
    def law(name: str, seed: int, scale: float) -> None:
        estimator, _ = siblings.estimators[name]
        data = siblings.made(seed)
        found = estimator(data, CONTRAST)
        if siblings.settled(name, found):
            siblings.close(estimator(other_unit(data, scale), CONTRAST), found)

    return law


def mistakes(asked: Iterable[tuple[Callable[..., Any], str]], *data: Any) -> Callable[..., None]:
    """A user's mistake is answered with a sentence that has these words."""

    @pytest.mark.parametrize(("ask", "words"), asked)
    def law(ask: Callable[..., Any], words: str) -> None:
        with pytest.raises(ClaimError, match=words):
            ask(*data)

    return law

"""What a repeated-measures likelihood needs of the data: sums of cross-products, one set per pattern of visits seen.

Everybody seen at the same visits shares one covariance matrix, so the likelihood of a linear model depends on the data
only through S_ab = sum over such people of x_a x_b', with x_a the row of the design at visit a and the outcome as its
last entry. They are summed once; every step of a fit is then arithmetic on small matrices, whatever the number of people.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from quell.analysis.covariance_structures import pairs, square


class Rows(NamedTuple):
    """The data of a batch of trials, one row of numbers per person, zero where not observed.

    values (B, n, d); layout (visits, q + 1) says which of the d numbers is each entry of the design at each visit (-1:
    zero), the outcome last; pattern (B, n) codes the visits seen and the group (`pattern_codes`), -1 for nobody.
    values and pattern may have a batch of 1 shared by all trials, which then differ in `include` (B, n) alone; `products`
    (n, .) then holds the products of every two numbers of a person, made once.
    """

    values: np.ndarray
    layout: np.ndarray
    pattern: np.ndarray
    include: np.ndarray
    products: np.ndarray | None = None

    def prepared(self) -> Rows:
        """The same with the products of shared data made."""
        return self._replace(products=_products(self.values[0]))


class Sums(NamedTuple):
    """Sums of cross-products by pattern: the sufficient statistics of a batch of trials.

    products (B, R, C): a row for each pattern and each pair of visits a <= b in it, a column for each pair of entries
    j <= l: the sum of x_aj x_bl + x_al x_bj (once where a = b). counts (B, K) people per pattern; pattern (R,), first
    (R,) and second (R,) locate the rows; visits (K, T) and group (K,) describe the patterns, sorted by group.
    """

    products: np.ndarray
    counts: np.ndarray
    pattern: np.ndarray
    first: np.ndarray
    second: np.ndarray
    visits: np.ndarray
    group: np.ndarray
    groups: int

    def take(self, index: np.ndarray) -> Sums:
        """The sums of some of the trials."""
        return self._replace(products=self.products[index], counts=self.counts[index])

    @property
    def columns(self) -> int:
        """How many entries the design has, the outcome not counted."""
        return int((np.sqrt(8 * self.products.shape[-1] + 1) - 1) / 2) - 1

    def gram(self) -> np.ndarray:
        """Sum over people and visits of x x', the outcome last: (B, q + 1, q + 1)."""
        total = self.products[:, self.first == self.second].sum(1)
        return total[:, square(self.columns + 1)]

    def residual_products(self, moment: np.ndarray) -> np.ndarray:
        """Sum of x_a' M x_b over the people of each pattern, M symmetric (B, q + 1, q + 1): (B, K, T, T)."""
        j, l = pairs(self.columns + 1)  # noqa: E741
        weights = moment[:, j, l] * both_orders(self.columns + 1)
        total = (self.products @ weights[..., None])[..., 0] * np.where(self.first == self.second, 1.0, 0.5)
        visits = self.visits.shape[1]
        result = np.zeros((len(total), len(self.group), visits, visits))
        result[:, self.pattern, self.first, self.second] = total
        result[:, self.pattern, self.second, self.first] = total
        return result

    def seen(self) -> np.ndarray:
        """People seen at both visits of each pair, by group: (B, groups, pairs)."""
        first, second = pairs(self.visits.shape[1])
        both = (self.visits[:, first] & self.visits[:, second]).astype(float)
        by_group = self.group[:, None] == np.arange(self.groups)
        return np.einsum("bk,kg,kp->bgp", self.counts, by_group.astype(float), both)


def pattern_codes(observed: np.ndarray, group: np.ndarray) -> np.ndarray:
    """One whole number for the visits seen and the group, -1 where none is seen or the group is negative."""
    visits = observed.shape[-1]
    bits = observed @ (1 << np.arange(visits))
    return np.where((bits > 0) & (group >= 0), bits + (group.astype(np.int64) << visits), -1)


def cross_products(rows: Rows, groups: int) -> Sums:
    """The sums of cross-products of a batch of trials."""
    visits = rows.layout.shape[0]
    codes = np.unique(np.where(rows.include, rows.pattern, -1))
    codes = codes[codes >= 0]
    if rows.products is not None or (len(rows.values) == 1 and len(rows.include) > 1):
        sums, counts = _shared_sums(rows, codes)
    else:
        sums, counts = _separate_sums(rows, codes)
    seen = (codes[:, None] >> np.arange(visits)) & 1 > 0
    first, second = pairs(visits)
    pattern, pair = np.nonzero(seen[:, first] & seen[:, second])
    one, other = _where(rows.layout, rows.values.shape[-1])
    size = sums.shape[-1]
    start = (pattern * size)[:, None]
    flat = np.concatenate([sums.reshape(len(sums), len(codes) * size), np.zeros((len(sums), 1))], -1)
    nothing = flat.shape[-1] - 1
    products = np.take(flat, np.where(one[pair] < 0, nothing, one[pair] + start), axis=1)
    products += np.take(flat, np.where(other[pair] < 0, nothing, other[pair] + start), axis=1)
    return Sums(products, counts, pattern, first[pair], second[pair], seen, codes >> visits, groups)


def _where(layout: np.ndarray, numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pair of visits and each pair of entries, where its two products stand among those of the rows (or -1)."""
    first, second = pairs(layout.shape[0])
    j, l = pairs(layout.shape[1])  # noqa: E741
    position = square(numbers)

    def at(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where((one >= 0) & (other >= 0), position[one, other], -1)

    once = at(layout[first][:, j], layout[second][:, l])
    again = at(layout[first][:, l], layout[second][:, j])
    return once, np.where((first == second)[:, None], -1, again)


def _products(values: np.ndarray) -> np.ndarray:
    """Products of every two of the last axis, each once, in the order of `pairs`."""
    numbers = values.shape[-1]
    result = np.empty((*values.shape[:-1], numbers * (numbers + 1) // 2))
    begin = 0
    for k in range(numbers):
        end = begin + numbers - k
        np.multiply(values[..., k:], values[..., k, None], out=result[..., begin:end])
        begin = end
    return result


def _separate_sums(rows: Rows, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each trial has its own data: sort its people by pattern, and add up runs."""
    batch, n, _ = np.broadcast_shapes(rows.values.shape, (*rows.include.shape, 1))
    kind = np.searchsorted(codes, np.where(rows.include, rows.pattern, -1)).astype(np.int32)
    kind = np.where(rows.include & (rows.pattern >= 0), kind, len(codes))
    width = rows.values.shape[-1] * (rows.values.shape[-1] + 1) // 2
    sums, counts = np.zeros((batch, len(codes) + 1, width)), np.zeros((batch, len(codes) + 1))
    if batch * n == 0:
        return sums[:, :-1], counts[:, :-1]
    order = np.argsort(kind, axis=-1, kind="stable")
    kind = np.take_along_axis(kind, order, -1)
    values = np.take_along_axis(rows.values, order[..., None], 1)
    run = (kind + (len(codes) + 1) * np.arange(batch)[:, None]).ravel()
    begin = np.flatnonzero(np.diff(run, prepend=-1))
    flat = _products(values).reshape(batch * n, width)
    sums.reshape(-1, width)[run[begin]] = np.add.reduceat(flat, begin, axis=0)
    counts.reshape(-1)[run[begin]] = np.diff(begin, append=batch * n)
    return sums[:, :-1], counts[:, :-1]


def _shared_sums(rows: Rows, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All trials share the data and differ in who is included (leave-one-out, bootstrap): weigh the same products."""
    products = _products(rows.values[0]) if rows.products is None else rows.products
    include = rows.include.astype(float)
    members = [rows.pattern[0] == code for code in codes]
    sums = [include[:, who] @ products[who] for who in members]
    counts = [include[:, who].sum(-1) for who in members]
    if not sums:
        return np.zeros((len(include), 0, products.shape[-1])), np.zeros((len(include), 0))
    return np.stack(sums, 1), np.stack(counts, 1)


@functools.lru_cache
def both_orders(entries: int) -> np.ndarray:
    """1 for the pair (j, j), 2 for j < l: how often a symmetric sum meets the pair."""
    first, second = pairs(entries)
    return np.where(first == second, 1.0, 2.0)

"""A linear model whose effects may differ between arms: adjusted means, differences and F tests under interaction.

outcome ~ arm + covariates + factors, and arm x covariate or arm x factor where asked. Everything said of it is a linear
combination of the coefficients, so `linear_model` gives estimate, error and whether the data determine it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, Estimate, flag
from quell.analysis.codes import codes_of, two_arms
from quell.analysis.linear_model import Covariance, LinearFit, Subjects, f_tail, least_squares, level_columns, subjects

Weights = Literal["equal", "observed"]


class ByArm(NamedTuple):
    """Which covariates and which factors, by their place in the model, have an effect of their own in each arm."""

    covariates: tuple[int, ...] = ()
    factors: tuple[int, ...] = ()


NOWHERE = ByArm()


class Column(NamedTuple):
    """One column of the model: what it stands for, and in which trials it is there (not its own reference)."""

    kind: Literal["arm", "covariate", "factor"]
    place: int
    level: int
    arm: int | None
    there: np.ndarray


class ArmModel(NamedTuple):
    """A fitted model for each trial of a batch; its methods give estimates. Made by `arm_model`."""

    fit: LinearFit
    people: Subjects
    columns: tuple[Column, ...]
    arms: int
    by_arm: ByArm
    level: float

    def means(
        self, weights: Weights = "equal", *, at: np.ndarray | None = None, levels: Mapping[int, int] | None = None
    ) -> Estimate:
        """Adjusted (least-squares) mean of every arm, fields (..., arms).

        Covariates are at their mean over the analysis, or at `at` (..., p) in their own units; factor levels weighted
        equally (SAS LSMEANS, R emmeans "equal") or as observed (emmeans "proportional"), but those named in `levels`
        (place of the factor: level) held there.
        """
        estimate = self.fit.combination(self.rows(weights, at, levels), self.level)
        empty = np.stack([~(self.people.arm == code).any(-1) for code in range(self.arms)], -1)
        return estimate._replace(warnings=estimate.warnings | flag(empty, Caution.EMPTY_ARM))

    def difference(
        self,
        contrast: tuple[int, int] = (1, 0),
        weights: Weights = "equal",
        *,
        at: np.ndarray | None = None,
        levels: Mapping[int, int] | None = None,
    ) -> Estimate:
        """Adjusted difference in means, active minus control, at the same covariates and levels as in `means`."""
        row = _contrasted(self.rows(weights, at, levels), contrast)
        return single(self.fit.combination(row, self.level), self.lacks(contrast))

    def slopes(self, covariate: int = 0) -> Estimate:
        """Slope of the outcome on a covariate in every arm, fields (..., arms)."""
        return self.fit.combination(self.slope_rows(covariate), self.level)

    def slope_difference(self, contrast: tuple[int, int] = (1, 0), covariate: int = 0) -> Estimate:
        """Difference in slopes on a covariate, active minus control: by how much the effect grows per unit of it."""
        row = _contrasted(self.slope_rows(covariate), contrast)
        return single(self.fit.combination(row, self.level), self.lacks(contrast))

    def lacks(self, contrast: tuple[int, int]) -> np.ndarray:
        """Whether an arm of the contrast is empty, (...)."""
        active, control = two_arms(contrast)
        return ~(self.people.arm == active).any(-1) | ~(self.people.arm == control).any(-1)

    def contrast_row(
        self, contrast: tuple[int, int], weights: Weights = "equal", level: int | None = None
    ) -> np.ndarray:
        """The combination (..., 1, columns) that is the difference of a contrast, with the first factor at a level."""
        return _contrasted(self.rows(weights, levels=None if level is None else {0: level}), contrast)

    def slope_row(self, contrast: tuple[int, int], covariate: int = 0) -> np.ndarray:
        """The combination (..., 1, columns) that is the difference of slopes of a contrast."""
        return _contrasted(self.slope_rows(covariate), contrast)

    def arm_test(self, kind: Literal["III", "II"] = "III", weights: Weights = "equal") -> Estimate:
        """F test that no arm differs, k - 1 degrees of freedom.

        Type III compares the adjusted `means` (covariates at their mean: SAS and R's joint_tests agree where covariates
        are centred); type II the arms in the model without arm interactions, over this model's residual variance (as
        R's car::Anova). Without interactions they are the same. Type II is classical only, otherwise ClaimError.
        """
        if kind == "II" and any(self.by_arm):
            return self._type_two()
        if kind not in ("II", "III"):
            raise ClaimError(f"The type is '{kind}'; choose 'II' or 'III'.")
        rows = self.rows(weights)
        return self._equal(rows)

    def interaction_test(
        self, covariates: Sequence[int] | None = None, factors: Sequence[int] | None = None
    ) -> Estimate:
        """F test that the effect of arm does not depend on the named covariates and factors (all by default).

        The extra sum of squares of these terms over the model without them, so that empty cells cost degrees of freedom
        and not the test.
        """
        everything = covariates is None and factors is None
        chosen = ByArm(
            self.by_arm.covariates if everything else tuple(covariates or ()),
            self.by_arm.factors if everything else tuple(factors or ()),
        )
        if (
            not any(chosen)
            or set(chosen.covariates) - set(self.by_arm.covariates)
            or set(chosen.factors) - set(self.by_arm.factors)
        ):
            raise ClaimError("This model has no such interaction with arm; name it in by_arm when fitting the model.")
        rest = ByArm(
            tuple(j for j in self.by_arm.covariates if j not in chosen.covariates),
            tuple(j for j in self.by_arm.factors if j not in chosen.factors),
        )
        columns, _ = _columns(self.people, rest, self.arms)
        extra, _ = _columns(self.people, chosen, self.arms, only_by_arm=True)
        fit = least_squares(
            self.people._replace(warnings=self.fit.warnings), [*columns, *extra], self.fit.covariance, self.arms
        )
        last = np.arange(len(columns), len(columns) + len(extra))
        rows = np.zeros((*self.people.include.shape[:-1], len(extra), len(columns) + len(extra)))
        rows[..., np.arange(len(extra)), last] = 1.0
        kept = fit.triangle[..., last, last]
        return fit.test(np.where(kept[..., np.newaxis] > 0, rows, 0.0), self.level)

    def _type_two(self) -> Estimate:
        if self.fit.covariance != "classical":
            raise ClaimError("A type II test with interactions needs covariance='classical'; or ask for type III.")
        plain = arm_model_of(self.people, ByArm(), self.arms, "classical", self.level)
        test = plain._equal(plain.rows("equal"))
        variance = self.fit.variance
        good = (variance > 0) & ~self.fit.constant & (self.fit.df > 0)
        statistic = test.statistic * np.where(good, plain.fit.variance / np.where(good, variance, 1.0), np.nan)
        return test._replace(statistic=statistic, p=f_tail(statistic, test.df, self.fit.df))

    def _equal(self, rows: np.ndarray) -> Estimate:
        """F test that all rows whose arm is there are equal; where empty cells leave some out, that the others are."""
        there = np.stack([(self.people.arm == code).any(-1) for code in range(self.arms)], -1)
        _, whole = self.fit.solve(_from_their_mean(rows, there))
        partial = np.asarray(~whole.all(-1))
        if partial.any():
            _, known = self.fit.solve(rows)
            there = np.where(partial[..., np.newaxis], there & known, there)
        solved, _ = self.fit.solve(_from_their_mean(rows, there))
        test = self.fit.test(solved, self.level)
        warnings = test.warnings | flag(partial, Caution.NOT_ESTIMABLE) | flag(there.sum(-1) < 2, Caution.EMPTY_ARM)
        return test._replace(warnings=warnings)

    def rows(
        self, weights: str = "equal", at: np.ndarray | None = None, levels: Mapping[int, int] | None = None
    ) -> np.ndarray:
        """The combinations that are the adjusted means of the arms: (..., arms, columns)."""
        if weights not in ("equal", "observed"):
            raise ClaimError(f"The weights are '{weights}'; choose 'equal' or 'observed'.")
        batch, held = self.people.include.shape[:-1], dict(levels or {})
        away = np.zeros_like(self.people.centre) if at is None else np.asarray(at, float) - self.people.centre
        batch = np.broadcast_shapes(batch, away.shape[:-1])
        rows = np.zeros((*batch, self.arms, len(self.columns)))
        shares = [_shares(self.people, f, weights, held.get(f)) for f in range(len(self.people.factors))]
        for k, column in enumerate(self.columns):
            if column.kind == "arm":
                value: np.ndarray | float = 1.0
            elif column.kind == "covariate":
                value = away[..., column.place]
            else:
                value = shares[column.place].get(column.level, np.zeros(()))
            for arm in range(self.arms) if column.arm is None else [column.arm]:
                rows[..., arm, k] = value * column.there
        for f, level in held.items():
            if f >= len(shares) or level not in codes_of(self.people.factors[f]):
                rows = np.full_like(rows, 1.0)  # no such level: nothing is estimable
        return rows

    def predictor(self, coefficients: np.ndarray, arm: int) -> np.ndarray:
        """Everybody's linear predictor (..., n) with their arm set to `arm`; coefficients (..., columns)."""
        total = np.zeros(self.people.include.shape)
        for k, column in enumerate(self.columns):
            if column.arm in (None, arm):
                total += self._values(column) * (coefficients[..., k] * column.there)[..., np.newaxis]
        return total

    def gradient(self, weight: np.ndarray, arm: int) -> np.ndarray:
        """Sum over people of weight (..., n) x their columns with the arm set to `arm`: (..., columns)."""
        parts = [
            np.vecdot(weight, self._values(column)) * column.there
            if column.arm in (None, arm)
            else np.zeros(weight.shape[:-1])
            for column in self.columns
        ]
        return np.stack(parts, -1)

    def _values(self, column: Column) -> np.ndarray:
        """A column's values (..., n) in the arm it belongs to."""
        if column.kind == "arm":
            return self.people.include.astype(float)
        if column.kind == "covariate":
            return self.people.covariates[column.place]
        return (self.people.factors[column.place] == column.level).astype(float)

    def slope_rows(self, covariate: int) -> np.ndarray:
        rows = np.zeros((*self.people.include.shape[:-1], self.arms, len(self.columns)))
        for k, column in enumerate(self.columns):
            if column.kind == "covariate" and column.place == covariate:
                for arm in range(self.arms) if column.arm is None else [column.arm]:
                    rows[..., arm, k] = column.there
        return rows


def arm_model(
    outcome: np.ndarray,
    arm: np.ndarray,
    *,
    covariates: np.ndarray | None = None,
    factors: Sequence[np.ndarray] = (),
    include: np.ndarray | None = None,
    by_arm: ByArm = NOWHERE,
    covariance: Covariance = "classical",
    cluster: np.ndarray | None = None,
    level: float = 0.95,
) -> ArmModel:
    """Fit outcome ~ arm + covariates + factors, with an effect of their own in each arm for those named in `by_arm`.

    outcome (..., n); arm (..., n) whole codes, a negative code is no arm; covariates (..., n, p); factors: whole codes,
    each (..., n); include (..., n). `covariance`: classical; HC0 to HC4 (MacKinnon and White 1985,
    doi:10.1016/0304-4076(85)90158-7; R's sandwich::vcovHC); cluster-robust CR0 (no factor), CR1 (G / (G - 1)) or CR1S
    (Stata's, and R's sandwich::vcovCL: also (n - 1) / (n - rank)), on G - 1 degrees of freedom, with `cluster` (..., n)
    whole codes. Raises ClaimError where shapes do not match or a name is unknown.

    >>> model = arm_model(np.array([1.0, 2.0, 4.0, 2.0, 4.0, 9.0]), np.array([0, 0, 0, 1, 1, 1]),
    ...                   covariates=np.array([[0.0], [1], [2], [0], [1], [2]]), by_arm=ByArm(covariates=(0,)))
    >>> model.slopes().estimate.round(4).tolist(), round(float(model.difference(at=np.array([2.0])).estimate), 4)
    ([1.5, 3.5], 4.6667)
    """
    people = subjects(outcome, arm, covariates, factors, include, cluster)
    count = max(codes_of(people.arm), default=0) + 1
    return arm_model_of(people, by_arm, count, covariance, level)


def arm_model_of(people: Subjects, by_arm: ByArm, arms: int, covariance: Covariance, level: float) -> ArmModel:
    """The model of subjects already laid out."""
    for places, known, kind in (
        (by_arm.covariates, len(people.covariates), "covariates"),
        (by_arm.factors, len(people.factors), "factors"),
    ):
        if any(not 0 <= place < known for place in places):
            raise ClaimError(f"by_arm names {kind} {tuple(places)}, but the model has {known}; count them from 0.")
    columns, described = _columns(people, by_arm, arms)
    return ArmModel(least_squares(people, columns, covariance, arms), people, tuple(described), arms, by_arm, level)


def _contrasted(rows: np.ndarray, contrast: tuple[int, int]) -> np.ndarray:
    """Active less control of rows (..., arms, columns); NaN, which nothing determines, where the data lack the arm."""
    active, control = two_arms(contrast)
    if max(active, control) >= rows.shape[-2]:
        return np.full((*rows.shape[:-2], 1, rows.shape[-1]), np.nan)
    return rows[..., [active], :] - rows[..., [control], :]


def single(estimate: Estimate, empty: np.ndarray) -> Estimate:
    """The only row of an estimate (..., 1), with a caution where an arm is empty."""
    alone = estimate.row((..., 0))
    return alone._replace(warnings=alone.warnings | flag(empty, Caution.EMPTY_ARM))


def _columns(
    people: Subjects, by_arm: ByArm, arms: int, only_by_arm: bool = False
) -> tuple[list[np.ndarray], list[Column]]:
    """The columns of the model and what they mean: arms, covariates, factors, then what differs by arm."""
    always = np.ones(people.include.shape[:-1], bool)
    arm_columns = [(people.arm == code).astype(float) for code in range(arms)]
    levels = [list(level_columns(factor, codes_of(factor))) for factor in people.factors]
    found: list[tuple[np.ndarray, Column]] = []
    if not only_by_arm:
        found += [(column, Column("arm", 0, code, code, always)) for code, column in enumerate(arm_columns)]
        found += [(x, Column("covariate", j, 0, None, always)) for j, x in enumerate(people.covariates)]
        for f, parts in enumerate(levels):
            found += [(x, Column("factor", f, level, None, ~first)) for level, x, first in parts]
    for code, indicator, reference in level_columns(people.arm, range(arms)):
        for j in by_arm.covariates:
            found.append((indicator * people.covariates[j], Column("covariate", j, 0, code, ~reference)))
        for f in by_arm.factors:
            found += [
                (indicator * x, Column("factor", f, level, code, ~reference & ~first)) for level, x, first in levels[f]
            ]
    return [column for column, _ in found], [described for _, described in found]


def _shares(people: Subjects, factor: int, weights: str, held: int | None) -> dict[int, np.ndarray]:
    """How much each level of a factor counts in an adjusted mean, by level; each (...)."""
    codes = people.factors[factor]
    levels = codes_of(codes)
    counts = (
        np.stack([(codes == level).sum(-1) for level in levels], -1) if levels else np.zeros((*codes.shape[:-1], 0))
    )
    if held is not None:
        return {level: np.full(codes.shape[:-1], float(level == held)) for level in levels}
    counts = (counts > 0).astype(float) if weights == "equal" else counts.astype(float)
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return {level: shares[..., k] for k, level in enumerate(levels)}


def _from_their_mean(rows: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Rows (..., arms, columns) less the mean of those that are there; the others zero."""
    kept = there[..., np.newaxis]
    mean = np.where(kept, rows, 0.0).sum(-2, keepdims=True) / np.maximum(kept.sum(-2, keepdims=True), 1)
    return np.where(kept, rows - mean, 0.0)

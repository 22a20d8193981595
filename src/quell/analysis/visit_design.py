"""The columns of a model for repeated measures: arms, visits, covariates and factors, and which of them meet.

Every column is one number of a person (1, a covariate, membership of an arm or of a factor's level), at all visits or at
one visit only. So a design is a short list, people's numbers are stored once, and a mean or contrast is a row of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import Caution, ClaimError, flag
from quell.analysis.cross_products import Rows, pattern_codes
from quell.analysis.working_scale import Model


class Terms(NamedTuple):
    """Which effects the model has besides an intercept, the arm, the covariates and the factors.

    visit: each visit has its own mean; arm_by_visit: the arms may differ differently at each visit; covariates_by_visit
    and factors_by_visit: likewise, for all of them (True), none (False) or those at the given positions.
    """

    visit: bool = True
    arm_by_visit: bool = True
    covariates_by_visit: bool | Sequence[int] = False
    factors_by_visit: bool | Sequence[int] = False


class Column(NamedTuple):
    """One column of the design: a number of each person, at one visit (or, None, at all), and what it is of."""

    source: int
    visit: int | None
    kind: Literal["intercept", "factor", "covariate", "arm", "visit"]
    position: int
    code: int
    name: str


class Columns(NamedTuple):
    """The design of a batch of trials: its columns, and what stands where among a person's numbers."""

    columns: tuple[Column, ...]
    arms: tuple[int, ...]
    visits: int
    sources: int
    terms: Terms

    def layout(self) -> np.ndarray:
        """Where each entry of the design at each visit stands among a person's numbers, the outcome last."""
        where = np.full((self.visits, len(self.columns) + 1), -1)
        for visit in range(self.visits):
            for j, column in enumerate(self.columns):
                if column.visit in (None, visit):
                    where[visit, j] = column.source
            where[visit, -1] = self.sources + visit
        return where


class People(NamedTuple):
    """A batch of trials as arrays (B, n, ...), with shared ones of batch 1.

    numbers (B, n, sources): 1, factor levels, covariates less `centre`, arms, zero where left out; covariate_mean and
    level_share (B, .) are averages over the observations analysed, as R's emmeans and SAS's LSMEANS take them.
    """

    outcome: np.ndarray
    numbers: np.ndarray
    arm: np.ndarray
    kept: np.ndarray
    present: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    average: np.ndarray
    warnings: np.ndarray


def columns_of(
    arms: Sequence[int], levels: Sequence[Sequence[int]], covariates: int, visits: int, terms: Terms
) -> Columns:
    """The columns, in R's order: intercept, factors, covariates, arms, visits, then what meets the visits.

    The first arm, the first visit and each factor's first level are the reference.
    """
    if not terms.visit and (terms.arm_by_visit or terms.covariates_by_visit or terms.factors_by_visit):
        raise ClaimError("Effects by visit need the visits in the model; say Terms(visit=False, arm_by_visit=False).")
    source = 1
    main = [Column(0, None, "intercept", 0, 0, "intercept")]
    for position, codes in enumerate(levels):
        for code in codes[1:]:
            main.append(Column(source, None, "factor", position, code, f"factor {position}: {code}"))
            source += 1
    for position in range(covariates):
        main.append(Column(source, None, "covariate", position, 0, f"covariate {position}"))
        source += 1
    for code in arms[1:]:
        main.append(Column(source, None, "arm", 0, code, f"arm {code}"))
        source += 1
    later = range(1, visits) if terms.visit else ()
    main += [Column(0, visit, "visit", 0, visit, f"visit {visit}") for visit in later]
    meeting = [one for one in main if _meets(one, terms)]
    main += [one._replace(visit=visit, name=f"{one.name} at visit {visit}") for one in meeting for visit in later]
    return Columns(tuple(main), tuple(arms), visits, source, terms)


def _meets(column: Column, terms: Terms) -> bool:
    if column.kind == "arm":
        return terms.arm_by_visit
    wanted = {"covariate": terms.covariates_by_visit, "factor": terms.factors_by_visit}.get(column.kind, False)
    return wanted if isinstance(wanted, bool) else column.position in wanted


def people_of(
    outcome: np.ndarray, arm: np.ndarray, covariates: np.ndarray, factors: Sequence[np.ndarray], include: np.ndarray
) -> tuple[People, list[int], list[list[int]]]:
    """Arrays (B or 1, n, ...) made ready; with the codes of the arms and of each factor's levels."""
    asked = include & (arm >= 0)
    whole = np.isfinite(covariates).all(-1)
    for factor in factors:
        whole = whole & (factor >= 0)
    seen = np.isfinite(outcome)
    kept = asked & whole & seen.any(-1)
    warnings = flag((asked & ~kept).any(-1), Caution.MISSING)
    who = kept if len(outcome) == len(kept) else kept.any(0, keepdims=True)
    wanted = asked if len(outcome) == len(asked) else asked.any(0, keepdims=True)
    arms = [int(code) for code in np.unique(arm[np.broadcast_to(wanted, arm.shape)])]
    levels = [[int(code) for code in np.unique(factor[np.broadcast_to(who, factor.shape)])] for factor in factors]
    weight = (who * seen.sum(-1))[..., None]
    size = np.maximum(weight.sum(-2, keepdims=True), 1)
    safe = np.where(who[..., None], covariates, 0.0)
    centre = np.sum(weight * safe, -2, keepdims=True) / size
    centred = np.where(who[..., None], safe - centre, 0.0)
    largest = np.abs(safe).max(-2, keepdims=True, initial=0.0)
    centred = np.where(np.abs(centred).max(-2, keepdims=True, initial=0.0) <= 1e-12 * largest, 0.0, centred)
    spread = np.sqrt(np.sum(weight * centred**2, -2) / size[..., 0, :])
    indicators = [factor == code for factor, codes in zip(factors, levels, strict=True) for code in codes[1:]]
    indicators_arm = [arm == code for code in arms[1:]]
    ones = [np.ones(who.shape, bool)]
    parts = [np.stack(np.broadcast_arrays(who, *ones, *indicators)[1:], -1), centred]
    parts.append(
        np.stack(np.broadcast_arrays(who, *indicators_arm)[1:], -1) if indicators_arm else np.zeros((*who.shape, 0))
    )
    numbers = np.where(who[..., None], np.concatenate(parts, -1), 0.0)
    own = kept * np.broadcast_to(seen.sum(-1), kept.shape)
    total = np.maximum(own.sum(-1, keepdims=True), 1)
    average = (own[:, None, :] @ numbers)[:, 0] / total
    present = (kept[:, None, :] @ (numbers != 0))[:, 0] > 0
    people = People(outcome, numbers, arm, kept, present, centre[..., 0, :], spread, average, warnings)
    return people, arms, levels


def model_of(people: People, columns: Columns, by_arm: bool, index: slice) -> Model:
    """Some of the trials ready to be fitted: covariates and outcome brought to mean 0 and scale 1 to keep precision."""
    shared = len(people.outcome) == 1
    own = slice(None) if shared else index
    outcome, numbers, kept = people.outcome[own], people.numbers[own], people.kept[index]
    who = np.asarray(kept.any(0, keepdims=True)) if len(outcome) != len(kept) else kept
    seen = np.isfinite(outcome)
    used = seen & who[..., None]
    size = np.maximum(used.sum((-1, -2)), 1)
    mean = np.where(used, outcome, 0.0).sum((-1, -2)) / size
    away = np.where(used, outcome - mean[:, None, None], 0.0)
    largest = np.abs(np.where(used, outcome, 0.0)).max((-1, -2), initial=0.0)
    scale = np.sqrt(np.sum(away**2, (-1, -2)) / size)
    scale = np.where(scale > 1e-12 * largest, scale, 0.0)
    away = away / np.where(scale > 0, scale, 1.0)[:, None, None]
    stretch = _stretch(people.spread[own], columns)
    by_source = np.ones((len(stretch), columns.sources))
    for j, column in enumerate(columns.columns):
        by_source[:, column.source] = stretch[:, j]
    values = np.concatenate([numbers / by_source[:, None, :], away], -1)
    group = np.searchsorted(columns.arms, people.arm[own]) if by_arm else np.zeros(people.arm[own].shape, int)
    pattern = pattern_codes(seen, np.where(people.arm[own] >= 0, group, -1))
    offset = np.zeros((len(mean), len(columns.columns)))
    offset[:, 0] = mean
    to_raw = np.eye(len(columns.columns)) / stretch[:, :, None]
    groups = len(columns.arms) if by_arm else 1
    every = len(kept)
    return Model(Rows(values, columns.layout(), pattern, kept), groups, to_raw,
                 np.broadcast_to(offset, (every, offset.shape[1])), np.broadcast_to(scale, (every,)), None,
                 people.warnings[index])  # fmt: skip


def _stretch(spread: np.ndarray, columns: Columns) -> np.ndarray:
    """By what each column is divided to have scale 1: (B, q)."""
    result = np.ones((len(spread), len(columns.columns)))
    for j, column in enumerate(columns.columns):
        if column.kind == "covariate":
            own = spread[:, column.position]
            result[:, j] = np.where(own > 0, own, 1.0)
    return result


def shift_of(people: People, columns: Columns) -> np.ndarray:
    """From coefficients of centred covariates to those of the covariates as given: (B, q, q)."""
    shift = np.broadcast_to(np.eye(len(columns.columns)), (len(people.centre), *2 * (len(columns.columns),))).copy()
    at = {(one.kind, one.visit): j for j, one in enumerate(columns.columns) if one.kind in ("intercept", "visit")}
    for j, column in enumerate(columns.columns):
        if column.kind == "covariate":
            base = at[("intercept", None)] if column.visit is None else at[("visit", column.visit)]
            shift[:, base, j] = -people.centre[:, column.position]
    return shift


def weights_of(people: People, columns: Columns, arm: int | None, visit: int | None, weights: str) -> np.ndarray:
    """The weights (B, q) of an adjusted mean: of one arm or all equally, at one visit or all equally.

    Covariates stand at their average; factors' levels weigh the same (those present in the trial), or as observed.
    """
    batch = len(people.average)
    result = np.zeros((batch, len(columns.columns)))
    for j, column in enumerate(columns.columns):
        if column.kind == "arm":
            value = np.full(batch, float(column.code == arm) if arm is not None else 1 / len(columns.arms))
        elif column.kind == "factor" and weights == "equal":
            value = _equal_share(people, columns, column)
        elif column.kind in ("factor", "covariate"):
            value = people.average[:, column.source]
        else:
            value = np.ones(batch)
        share = 1.0 if column.visit is None else 1 / columns.visits if visit is None else float(column.visit == visit)
        result[:, j] = value * share
    return result


def _equal_share(people: People, columns: Columns, column: Column) -> np.ndarray:
    """One over the number of the factor's levels present in each trial; zero for a level that is not."""
    levels = {one.source for one in columns.columns if one.kind == "factor" and one.position == column.position}
    indices = sorted(levels)
    reference = people.average[:, indices].sum(-1) < 1 - 1e-9
    count = people.present[:, indices].sum(-1) + reference
    return np.where(people.present[:, column.source], 1 / np.maximum(count, 1), 0.0)

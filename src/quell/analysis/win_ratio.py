"""Hierarchical composite endpoints: win ratio, win odds, net benefit and the Finkelstein-Schoenfeld test.

Every patient on the active arm meets every patient on the control arm of the same trial (and stratum). A pair is
compared on the gravest outcome first, and on the next only if that does not decide (Finkelstein and Schoenfeld 1999;
Buyse 2010, doi:10.1002/sim.3923; Pocock et al. 2012, doi:10.1093/eurheartj/ehr352). With W pairs won, L lost, T tied:

    win ratio = W / L,   win odds = (W + T/2) / (L + T/2),   net benefit = (W - L) / (W + L + T).

How many pairs are decided, and at which priority, depends on how long people were followed: a win ratio belongs to its
trial's follow-up and is not a property of the treatment alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from quell.analysis.claim import (
    Caution,
    ClaimError,
    Estimate,
    critical,
    exponentiate,
    flag,
    normal_estimate,
    two_sided,
    without_a_size,
)
from quell.analysis.codes import two_arms
from quell.analysis.pairwise import (
    Histories,
    Measure,
    Priority,
    Ranks,
    Recurrences,
    Survival,
    encode,
    flatten,
    part,
    play,
)

__all__ = [
    "Contest",
    "Measure",
    "Recurrences",
    "Survival",
    "compare",
    "finkelstein_schoenfeld",
    "matched",
    "net_benefit",
    "win_odds",
    "win_ratio",
]

Variance = Literal["u-statistic", "unbiased", "second-order", "null"]
Weights = Literal["mantel-haenszel", "equal", "size"]

# Patients handled at a time: what is made on the way stays in a megabyte or two.
VALUES_AT_ONCE = 20_000
# An error smaller than this share of the decided pairs is none: all patients fared alike.
ROUNDING = 1e-7


class Strata(NamedTuple):
    """What the variances need, for each trial and stratum (..., S): patients, pairs won and lost by the active arm, and
    the sums over each arm's patients of (pairs won)², (pairs lost)² and their product (..., S, 3), as the active arm
    sees them."""

    active: np.ndarray
    control: np.ndarray
    wins: np.ndarray
    losses: np.ndarray
    active_squares: np.ndarray
    control_squares: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        return self.active * self.control


class Contest(NamedTuple):
    """Pairs won and lost by the active arm at each priority (..., L), and what their errors need."""

    wins: np.ndarray
    losses: np.ndarray
    n: np.ndarray
    strata: Strata
    warnings: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """All pairs compared (...)."""
        return self.strata.pairs.sum(-1)

    @property
    def ties(self) -> np.ndarray:
        """Pairs left undecided after each priority (..., L)."""
        return self.pairs[..., None] - np.cumsum(self.wins + self.losses, -1)


def compare(
    priorities: Sequence[Priority],
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
) -> Contest:
    """Compare every active with every control patient, priority after priority (gravest first).

    priorities: `Survival`, `Recurrences` and `Measure` in order; arm (..., n) whole codes, a negative code is no arm;
    strata (..., n) whole codes, pairs are formed within them; include (..., n). A patient without the value of a
    priority is undecided there, and left out where every value is missing; cautions say so. Raises ClaimError where
    shapes do not match or a name is unknown.

    >>> death = Survival(np.array([90.0, 400.0, 30.0, 400.0]), np.array([1, 0, 1, 0]))
    >>> walked = Measure(np.array([np.nan, 420.0, np.nan, 380.0]), margin=30)
    >>> contest = compare([death, walked], np.array([1, 1, 0, 0]))
    >>> contest.wins.tolist(), contest.losses.tolist(), contest.ties.tolist()
    ([2, 1], [1, 0], [1.0, 0.0])
    """
    field = _field(priorities, arm, strata, include, two_arms(contrast))
    tables = [_meeting(piece) for piece in field.pieces()]
    wins, losses, table, warnings = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    batch = field.batch
    table = table.reshape(*batch, *table.shape[1:])
    n1, n0, won, lost = np.moveaxis(table[..., :4], -1, 0)
    strata_of = Strata(n1, n0, won, lost, table[..., 4:7], table[..., 7:])
    active, control = strata_of.active, strata_of.control
    empty = (active.sum(-1) == 0) | (control.sum(-1) == 0)
    lone = ((active == 0) != (control == 0)).any(-1) & ~empty
    warnings = warnings.reshape(batch) | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    wins, losses = (part.reshape(*batch, part.shape[-1]) for part in (wins, losses))
    n = (active + control).sum(-1).astype(int)
    return Contest(wins, losses, n, strata_of, warnings | flag(lone, Caution.LONE_STRATUM))


def win_ratio(
    contest: Contest,
    *,
    level: float = 0.95,
    weights: Weights = "mantel-haenszel",
    variance: Variance = "u-statistic",
) -> Estimate:
    """Win ratio, pairs won over pairs lost by the active arm, with an interval on the log scale.

    Stratified: sum a_s W_s / sum a_s L_s with a_s = 1/N_s ("mantel-haenszel"; Dong et al. 2018,
    doi:10.1080/10543406.2017.1397007), 1 ("equal": every pair counts the same) or N_s / pairs_s ("size": win
    proportions weighted by patients, as R's WR). `variance` of the U-statistics: "u-statistic" (first Hoeffding
    projection with 1/n²; Luo et al. 2015, Bebu and Lachin 2016, R's WR and BuyseTest), "unbiased" (n - 1 for n, as
    DeLong's), "second-order" (both projections, BuyseTest's order 2) or "null" (at equal win and loss probabilities;
    Dong et al. 2016, R's WINS). Raises ClaimError where a name is unknown.

    >>> died = Survival(np.array([9.0, 5, 9, 7, 4, 9, 3, 6]), np.array([0, 1, 0, 1, 1, 0, 1, 1]))
    >>> result = win_ratio(compare([died], np.array([1, 1, 1, 1, 0, 0, 0, 0])))
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper)]
    [3.667, 0.469, 28.645]
    """
    weight = _weight(contest.strata, weights)
    wins, losses = (np.sum(weight * part, -1) for part in (contest.strata.wins, contest.strata.losses))
    known = (wins > 0) & (losses > 0)
    wins, losses = np.where(known, wins, 1.0), np.where(known, losses, 1.0)
    middle = (wins + losses) / 2
    scale = (1 / middle, 1 / middle) if variance == "null" else (1 / wins, 1 / losses)
    error = _error(contest.strata, weight, variance, *scale)
    known = known & (error > ROUNDING)
    log_ratio = np.where(known, np.log(wins / losses), np.nan)
    result = normal_estimate(log_ratio, np.where(known, error, np.nan), contest.n, contest.warnings, level)
    return exponentiate(result._replace(warnings=contest.warnings | flag(~known, Caution.ONE_SIDED)))


def win_odds(
    contest: Contest,
    *,
    level: float = 0.95,
    weights: Weights = "mantel-haenszel",
    variance: Variance = "u-statistic",
) -> Estimate:
    """Win odds, half of the ties given to each side: (1 + net benefit) / (1 - net benefit), with a log-scale interval.

    Dong et al. (2020, doi:10.1080/19466315.2019.1575279), Brunner et al. (2021, doi:10.1002/sim.8967). For one
    uncensored outcome it is AUC / (1 - AUC). Arguments, and what is raised, are as in `win_ratio`.

    >>> walked = Measure(np.array([5.0, 6, 8, 4, 5, 6]))
    >>> round(float(win_odds(compare([walked], np.array([1, 1, 1, 0, 0, 0]))).estimate), 4)
    3.5
    """
    benefit, error, none = _benefit(contest, weights, variance)
    inside = np.abs(benefit) < 1
    slope = 2.0 if variance == "null" else 2 / np.where(inside, 1 - benefit**2, 1.0)
    safe = np.where(inside, benefit, 0.0)
    log_odds = np.where(inside, np.log1p(safe) - np.log1p(-safe), np.nan)
    odd = ~inside | (none & (contest.pairs > 0))
    warnings = contest.warnings | flag(odd, Caution.ONE_SIDED)
    result = normal_estimate(log_odds, np.where(none, np.nan, error * slope), contest.n, warnings, level)
    undecided = none & (benefit == 0)
    return exponentiate(result._replace(p=np.where(undecided, 1.0, result.p)))


def net_benefit(
    contest: Contest,
    *,
    level: float = 0.95,
    weights: Weights = "mantel-haenszel",
    variance: Variance = "u-statistic",
    interval: Literal["plain", "atanh"] = "plain",
) -> Estimate:
    """Net benefit: the chance that an active patient fares better than a control patient, minus the chance of worse.

    Buyse (2010). `interval` on the plain scale (R's WINS), or "atanh" (R's BuyseTest: limits within -1 and 1, and the
    test on that scale too). For one uncensored outcome it is 2 AUC - 1, and with variance="unbiased" its error is
    DeLong's. Other arguments, and what is raised, are as in `win_ratio`.

    >>> walked = Measure(np.array([5.0, 6, 8, 4, 5, 6]))
    >>> result = net_benefit(compare([walked], np.array([1, 1, 1, 0, 0, 0])), variance="unbiased")
    >>> round(float(result.estimate), 4), round(float(result.se), 4)
    (0.5556, 0.4157)
    """
    if interval not in ("plain", "atanh"):
        raise ClaimError(f"The interval is '{interval}'; choose 'plain' or 'atanh'.")
    benefit, error, none = _benefit(contest, weights, variance)
    warnings = contest.warnings | flag(none & (contest.pairs > 0), Caution.ONE_SIDED)
    error = np.where(none, np.nan, error)
    result = normal_estimate(benefit, error, contest.n, warnings, level)
    if interval == "atanh":
        inside = np.where(np.abs(benefit) < 1, benefit, 0.0)
        statistic = np.arctanh(inside) * (1 - inside**2) / np.where(none, np.nan, error)
        half = critical(level) * error / (1 - inside**2)
        lower, upper = (np.tanh(np.arctanh(inside) + sign * half) for sign in (-1, 1))
        result = result._replace(lower=lower, upper=upper, statistic=statistic, p=two_sided(statistic))
    limits = {"lower": np.maximum(result.lower, -1.0), "upper": np.minimum(result.upper, 1.0)}
    return result._replace(**limits, p=np.where(none & (benefit == 0), 1.0, result.p))


def finkelstein_schoenfeld(
    priorities: Sequence[Priority],
    arm: np.ndarray,
    *,
    contrast: tuple[int, int] = (1, 0),
    strata: np.ndarray | None = None,
    include: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Finkelstein and Schoenfeld's test (1999): z of the active patients' scores, wins minus losses against everybody.

    U_i = pairs won minus lost by i against all patients of both arms (and the same stratum), T = sum of U_i over the
    active arm, V = sum over strata of n1 n0 / (N (N - 1)) sum U_i², z = T / sqrt(V). It has a statistic and a p, no
    estimate; with one uncensored outcome it is the Wilcoxon rank-sum test with correction for ties. Arguments, and
    what is raised, are as in `compare`.

    >>> walked = Measure(np.array([5.0, 6, 8, 4, 5, 6]))
    >>> round(float(finkelstein_schoenfeld([walked], np.array([1, 1, 1, 0, 0, 0])).statistic), 4)
    1.1237
    """
    field = _field(priorities, arm, strata, include, two_arms(contrast))
    tables, warnings = (
        np.concatenate(parts) for parts in zip(*(_pooled(piece) for piece in field.pieces()), strict=True)
    )
    n1, n0, total, squares = np.moveaxis(tables, -1, 0)
    people = n1 + n0
    spread = np.sum(n1 * n0 / np.maximum(people * (people - 1), 1) * squares, -1)
    empty, still = (n1.sum(-1) == 0) | (n0.sum(-1) == 0), spread <= 0
    statistic = np.where(still, 0.0, total.sum(-1) / np.sqrt(np.where(still, 1.0, spread)))
    statistic = np.where(empty, np.nan, statistic).reshape(field.batch)
    warnings = warnings | flag(empty, Caution.EMPTY_ARM | Caution.NOT_ESTIMABLE)
    warnings = (warnings | flag(still & ~empty, Caution.ONE_SIDED)).reshape(field.batch)
    df = np.full(field.batch, np.inf)
    n = people.sum(-1).astype(int).reshape(field.batch)
    return without_a_size(statistic, df, two_sided(statistic), n, warnings, level)


def matched(wins: np.ndarray, losses: np.ndarray, *, level: float = 0.95) -> Estimate:
    """Win ratio of matched pairs from how many the active patient won and lost (Pocock et al. 2012).

    With p = wins / (wins + losses), the limits are p ± z sqrt(p (1 - p) / (wins + losses)) carried to p / (1 - p), and
    the test is (p - 1/2) over the same error; se is that of the log ratio. Tied pairs do not enter. wins, losses (...).
    Raises ClaimError where a count is negative.

    >>> result = matched(np.array(120), np.array(80))
    >>> [round(float(value), 3) for value in (result.estimate, result.lower, result.upper)]
    [1.5, 1.137, 2.011]
    """
    wins, losses = np.broadcast_arrays(np.asarray(wins, float), np.asarray(losses, float))
    if np.any(wins < 0) or np.any(losses < 0):
        raise ClaimError("Pairs won and lost are counts; they cannot be negative.")
    decided = np.where(wins + losses > 0, wins + losses, 1.0)
    known = (wins > 0) & (losses > 0)
    share = np.where(known, wins / decided, 0.5)
    error = np.sqrt(share * (1 - share) / decided)
    half = critical(level) * error
    lower, upper = np.clip(share - half, 0, 1), np.clip(share + half, 0, 1)
    statistic = np.where(known, (share - 0.5) / error, np.nan)
    upper = np.where(upper < 1, upper / np.where(upper < 1, 1 - upper, 1.0), np.inf)
    values = (share / (1 - share), error / (share * (1 - share)), lower / (1 - lower), upper)
    estimate, se, lower, upper = (np.where(known, value, np.nan) for value in values)
    warnings, n = flag(~known, Caution.ONE_SIDED), (wins + losses).astype(int)
    return Estimate(
        estimate, se, lower, upper, statistic, np.full(n.shape, np.inf), two_sided(statistic), 2 * n, warnings, level
    )


class Field(NamedTuple):
    """Who is compared on what, with the trials on one axis: arm 1 (active), 0 (control) or -1, and stratum (B, n)."""

    priorities: tuple[Priority, ...]
    arm: np.ndarray
    stratum: np.ndarray
    strata: int
    asked: np.ndarray
    batch: tuple[int, ...]

    def pieces(self) -> Iterator[Field]:
        """A few trials at a time, so that what is made on the way stays small; one empty piece where there are none."""
        trials, n = self.arm.shape
        step = max(VALUES_AT_ONCE // max(n, 1), 1)
        for start in range(0, max(trials, 1), step):
            some = slice(start, start + step)
            priorities = tuple(part(one, some) for one in self.priorities)
            rest = (self.arm[some], self.stratum[some], self.strata, self.asked[some])
            yield Field(priorities, *rest, self.batch)

    def encoded(self) -> tuple[list[Ranks | Histories], np.ndarray, np.ndarray, np.ndarray]:
        """Codes of the priorities; active and control patients with any value; cautions."""
        told = self.arm >= 0
        levels, missing = zip(*(encode(one, told) for one in self.priorities), strict=True)
        absent, partly = np.all(missing, 0), np.any(missing, 0)
        kept = told & ~absent
        warnings = flag((self.asked & ~kept).any(-1), Caution.MISSING)
        warnings = warnings | flag((partly & kept).any(-1), Caution.UNDECIDED_MISSING)
        return list(levels), kept & (self.arm == 1), kept & (self.arm == 0), warnings

    def sums(self, who: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Sums of values (v, B, n) over some patients of each trial and stratum: (B, S, v)."""
        cells = len(self.arm) * self.strata
        cell = self.group()[who]
        totals = [np.bincount(cell, value[who], cells) for value in values]
        return np.stack(totals, -1).reshape(len(self.arm), self.strata, len(values))

    def group(self) -> np.ndarray:
        return self.stratum + self.strata * np.arange(len(self.arm))[:, None]

    def places(self, who: np.ndarray) -> np.ndarray:
        """Where some patients of each group are in the flattened trials: (groups, most), filled up with their size."""
        place = np.flatnonzero(who)
        number = self.group().ravel()[place]
        if self.strata > 1:
            order = np.argsort(number, kind="stable")
            place, number = place[order], number[order]
        count = np.bincount(number, minlength=len(self.arm) * self.strata)
        within = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
        table = np.full((len(count), int(count.max(initial=0))), who.size)
        table[number, within] = place
        return table


def _field(
    priorities: Sequence[Priority],
    arm: np.ndarray,
    strata: np.ndarray | None,
    include: np.ndarray | None,
    contrast: tuple[int, int],
) -> Field:
    """One layout for all. Raises ClaimError where shapes do not match."""
    if not priorities:
        raise ClaimError(
            "There is no outcome to compare; give the priorities, gravest first, for example [Survival(...)]."
        )
    given = (arm, True if include is None else include, 0 if strata is None else strata)
    firsts = [one.follow_up if isinstance(one, Recurrences) else one[0] for one in priorities]
    try:
        shape = np.broadcast_shapes(*(np.shape(one) for one in (*given, *firsts)))
    except ValueError:
        shapes = ", ".join(str(np.shape(one)) for one in (*given, *firsts))
        raise ClaimError(
            f"Arm, include, strata and the priorities have shapes {shapes}, which do not fit together; each needs the "
            "same trials and patients."
        ) from None
    if not shape:
        raise ClaimError("Arm and outcomes need one value per patient, shaped (..., n).")
    flat = (math.prod(shape[:-1]), shape[-1])
    codes, asked, stratum = (np.broadcast_to(np.asarray(one, float), shape).reshape(flat) for one in given)
    asked = (asked > 0) & np.isin(codes, contrast)
    told = asked & np.isfinite(stratum) & (stratum >= 0)
    labels, number = np.unique(np.where(told, stratum, np.inf), return_inverse=True)
    count = max(int(np.isfinite(labels).sum()), 1)
    side = np.where(told, (codes == contrast[0]).astype(np.int8), -1)
    number = np.minimum(number.reshape(flat), count - 1)
    return Field(tuple(flatten(one, shape) for one in priorities), side, number, count, asked, shape[:-1])


def _meeting(field: Field) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Wins and losses (B, L), what each stratum's error needs (B, S, 10) and the cautions (B) of a few trials."""
    levels, active, control, warnings = field.encoded()
    score = play(levels, field.places(active), field.places(control), active.size)
    won, lost = (part[:-1].reshape(active.shape).astype(float) for part in (score.won, score.lost))
    squares = [won**2, lost**2, won * lost]
    ours = field.sums(active, np.stack([np.ones(won.shape), won, lost, *squares]))
    # what a control patient lost, the active arm won
    theirs = field.sums(control, np.stack([np.ones(won.shape), squares[1], squares[0], squares[2]]))
    table = np.concatenate([ours[..., :1], theirs[..., :1], ours[..., 1:], theirs[..., 1:]], -1)
    shape = (len(won), field.strata, len(levels))
    return score.wins.reshape(shape).sum(1), score.losses.reshape(shape).sum(1), table, warnings


def _pooled(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Patients of each arm, the active arm's score and the sum of squared scores (B, S, 4), and the cautions (B)."""
    levels, active, control, warnings = field.encoded()
    places = field.places(active | control)
    score = play(levels, places, places, active.size)
    merit = (score.won - score.lost)[:-1].reshape(active.shape).astype(float)
    ones = np.ones(merit.shape)
    ours = field.sums(active, np.stack([ones, merit, merit**2]))
    theirs = field.sums(control, np.stack([ones, merit**2]))
    squares = ours[..., 2] + theirs[..., 1]
    return np.stack([ours[..., 0], theirs[..., 0], ours[..., 1], squares], -1), warnings


def _weight(strata: Strata, weights: Weights) -> np.ndarray:
    """What a pair of each stratum counts (..., S)."""
    people, pairs = strata.active + strata.control, strata.pairs
    if weights == "mantel-haenszel":
        return 1 / np.maximum(people, 1)
    if weights == "equal":
        return np.ones(people.shape)
    if weights == "size":
        return np.where(pairs > 0, people / np.maximum(pairs, 1), 0.0)
    raise ClaimError(f"The weights are '{weights}'; choose 'mantel-haenszel', 'equal' or 'size'.")


def _error(
    strata: Strata, weight: np.ndarray, variance: Variance, of_win: np.ndarray | float, of_loss: np.ndarray | float
) -> np.ndarray:
    """Standard error of of_win * W - of_loss * L, with W and L the weighted numbers of pairs won and lost."""
    win, loss, both = np.moveaxis(_spread(strata, variance), -1, 0)
    square = weight**2
    total = np.sum(square * win, -1) * of_win**2 + np.sum(square * loss, -1) * of_loss**2
    return np.sqrt(np.maximum(total - 2 * np.sum(square * both, -1) * of_win * of_loss, 0.0))


def _spread(strata: Strata, variance: Variance) -> np.ndarray:
    """Variances of the pairs won and of those lost, and their covariance, in each stratum (..., S, 3)."""
    n1, n0 = np.maximum(strata.active, 1)[..., None], np.maximum(strata.control, 1)[..., None]
    more1, more0 = np.maximum(n1 - 1, 1), np.maximum(n0 - 1, 1)
    win, loss = strata.wins, strata.losses
    if variance == "null":
        # with win and loss equally likely only the variance of the difference matters: it is put on the wins
        parts = [squares[..., 0] + squares[..., 1] - 2 * squares[..., 2] - win - loss for squares in strata[4:]]
        total = parts[0] * (n0 / more0)[..., 0] + parts[1] * (n1 / more1)[..., 0]
        return np.stack([total, np.zeros(total.shape), np.zeros(total.shape)], -1)
    products = np.stack([win**2, loss**2, win * loss], -1)
    active, control = strata.active_squares - products / n1, strata.control_squares - products / n0
    if variance == "u-statistic":
        return active + control
    if variance == "unbiased":
        return active * n1 / more1 + control * n0 / more0
    if variance == "second-order":
        pairs = n1 * n0
        single = np.stack([win, loss, np.zeros(win.shape)], -1) - products / pairs
        return active + control + single - active / n0 - control / n1
    raise ClaimError(f"The variance is '{variance}'; choose 'u-statistic', 'unbiased', 'second-order' or 'null'.")


def _benefit(contest: Contest, weights: Weights, variance: Variance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Net benefit, its standard error, and whether it has none."""
    weight = _weight(contest.strata, weights)
    pairs = np.sum(weight * contest.strata.pairs, -1)
    met = pairs > 0
    pairs = np.where(met, pairs, 1.0)
    benefit = np.sum(weight * (contest.strata.wins - contest.strata.losses), -1) / pairs
    error = _error(contest.strata, weight, variance, 1 / pairs, 1 / pairs)
    decided = np.sum(weight * (contest.strata.wins + contest.strata.losses), -1) / pairs
    none = ~met | (error <= ROUNDING * decided)
    return np.where(met, benefit, np.nan), error, none

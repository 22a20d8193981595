"""Who comes, when and where, and which arm each gets: the rules at a trial's entrance.

A rule takes the numbers of some trials and gives their course before anything is looked at. A trial's people are the
first of a sequence that depends on its seed alone, so that a larger trial contains the smaller one, in any world.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from scipy import special

from quell import units
from quell.design import kernels
from quell.design.course import Course, Game, begun, taken, watched
from quell.design.crowd import Crowd
from quell.design.parts import Recruitment

PER_MONTH = 12 / units.DAYS_PER_YEAR
# Among candidates of whom only a share may be taken in, this many standard deviations more are prepared than expected.
SPARE = 6.0


def draws_of(trial: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The draw each trial lives in: in turn, in steps near the golden section, so that any run of trials is spread out.

    >>> draws_of(np.arange(5), np.arange(5)).tolist()
    [0, 3, 1, 4, 2]
    """
    count = len(draws)
    step = next(
        s for s in range(max(1, round(count * (math.sqrt(5) - 1) / 2)), 2 * count + 2) if math.gcd(s, count) == 1
    )
    return draws[(trial * step) % count]


def expected(recruitment: Recruitment, rate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days (K,) and the people expected to have come by then, (rows, K), from each site's rate per day, (rows, sites)."""
    opening, changes = recruitment.opening_days, recruitment.changes
    days = np.unique(np.concatenate([opening, [one.day for one in changes], [0.0]]))
    days = np.append(days, days[-1] + 1.0)
    middle = (days[1:] + days[:-1]) / 2
    times = np.ones(len(middle))
    for change in changes:
        times = np.where(middle >= change.day, change.times, times)
    open_now = np.searchsorted(opening, middle, side="right")
    pace = np.cumsum(rate, -1)[:, open_now - 1] * times
    return days, np.concatenate([np.zeros((len(rate), 1)), np.cumsum(pace * np.diff(days), -1)], -1)


@functools.lru_cache(maxsize=4)
def _site_rates(recruitment: Recruitment, words: bytes) -> np.ndarray:
    """Each site's rate per day in each trial, (trials or 1, sites); a gamma of mean one times the planned rate."""
    planned = np.full((1, recruitment.sites), recruitment.per_site_per_month * PER_MONTH)
    if not recruitment.spread:
        return planned
    shape = recruitment.spread**-2
    u = kernels.uniform(np.frombuffer(words, np.uint64), recruitment.sites, "site rate")
    return planned * (-np.log1p(-u) if shape == 1 else special.gammaincinv(shape, u) / shape)


@functools.lru_cache(maxsize=64)
def _expected(recruitment: Recruitment, words: bytes) -> tuple[np.ndarray, np.ndarray]:
    """`expected` of each trial's sites: the same in every world and at every size, and so kept for a while."""
    return expected(recruitment, _site_rates(recruitment, words))


def coming(game: Game, seed: np.ndarray, draw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days (K,) and how many are expected to be taken in by then, (trials or 1, K)."""
    days, gathered = _expected(game.design.recruitment, seed.tobytes())
    share = game.scene.eligible.mean(-1)
    # fewer of those who come may be taken in
    return days, gathered * share[draw][:, None] if (share < 1).any() else gathered


@dataclasses.dataclass(frozen=True)
class Recruit:
    """People come as declared, pass the limits at entry, and are allocated in blocks or one by one.

    ``most``: how many might be needed. Where some of those who come may be turned away later, they are candidates.
    """

    game: Game
    most: int
    comparisons: int = 1

    def __call__(self, trial: np.ndarray) -> Course:
        crowd, screened = self.crowd(trial)
        return begun(self.game, trial, crowd, screened, self.comparisons)

    def crowd(self, trial: np.ndarray) -> tuple[Crowd, np.ndarray]:
        """Everyone who might come, allocated; their fates are not yet known."""
        scene, recruitment = self.game.scene, self.game.design.recruitment
        seed = kernels.seeds(self.game.key, trial)
        draw = draws_of(trial, scene.draws).astype(np.int32)
        days, gathered = coming(self.game, seed, draw)
        person, screened = kernels.persons(seed, self.most, draw, scene.eligible)
        arrival = kernels.arrivals(seed, self.most, days, gathered)
        site = np.zeros((1, self.most), np.int16)
        if self.game.design.allocation.within == "site" and recruitment.sites > 1:
            site = kernels.sites(seed, arrival, recruitment.opening_days, _site_rates(recruitment, seed.tobytes()))
        crowd = Crowd(
            seed, draw, person, arrival, site, np.zeros((0, 0), np.int8), np.zeros((0, 0, 0)), np.zeros((0, 0))
        )
        crowd = crowd._replace(arm=self.allocated(crowd, self.game.design.ratio))
        return crowd._replace(lost=self.lost(crowd)), screened

    def allocated(self, crowd: Crowd, ratio: tuple[int, ...]) -> np.ndarray:
        """Each person's arm, (trials, n) int8."""
        rule = self.game.design.allocation
        if rule.method == "simple":
            return kernels.allocate(crowd.seed, self.most, ratio, block=1)
        within = self.strata(crowd)
        return kernels.allocate(crowd.seed, self.most, ratio, block=rule.block, within=within)

    def strata(self, crowd: Crowd) -> np.ndarray | None:
        """What has blocks of its own: the site where said, and the subgroup that may be chosen later."""
        code = crowd.site if self.game.design.allocation.within == "site" else None
        if not self.game.design.enrich:
            return code
        marked = self.game.scene.marked[crowd.draw[:, None], crowd.person].astype(np.int16)
        return marked if code is None else 2 * code + marked

    def lost(self, crowd: Crowd) -> np.ndarray:
        """Days until each is lost to follow-up, (trials, n): a unit exponential over the arm's rate."""
        rates = self.game.design.dropout.rates(self.game.design.arms)
        if not rates.any():
            return np.full(crowd.arm.shape, np.inf, np.float32)
        if len(set(rates)) == 1:
            return kernels.lost(crowd.seed, self.most, np.array([0.0, 1.0]), np.array([0.0, rates[0]]))
        wait = kernels.lost(crowd.seed, self.most, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
        with np.errstate(divide="ignore"):
            return (wait / rates[crowd.arm]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Responding:
    """As `Recruit`, with the share of the active arm renewed at each update from the outcomes so far."""

    usual: Recruit

    def __call__(self, trial: np.ndarray) -> Course:
        crowd, screened = self.usual.crowd(trial)
        game = self.usual.game
        rule, control, active = game.design.respond, *game.design.ratio
        assert rule is not None
        period = np.searchsorted(np.array(rule.days), crowd.arrival, side="right").astype(np.int16)
        chance = np.full((len(trial), len(rule.days) + 1, 2), (control, active)) / (control + active)
        for number, day in enumerate(rule.days, start=1):
            allocated = kernels.allocate_by_chance(crowd.seed, period, chance)
            course = begun(game, trial, crowd._replace(arm=allocated), screened, self.usual.comparisons)
            z = kernels.logrank(course.people, math.floor(day), strata=period).z
            better, worse = special.ndtr(z) ** rule.power, special.ndtr(-z) ** rule.power
            share = np.clip(better / (better + worse), rule.least, 1 - rule.least)
            chance[:, number:] = np.stack([1 - share, share], -1)[:, None]
        crowd = crowd._replace(arm=kernels.allocate_by_chance(crowd.seed, period, chance))
        course = begun(game, trial, crowd._replace(lost=self.usual.lost(crowd)), screened, self.usual.comparisons)
        return course._replace(period=period)


def reallocated(course: Course, game: Game, usual: Recruit, later: np.ndarray) -> Course:
    """The course where people marked ``later`` (trials, n) go to control or the arm carried on alone, in the declared ratio."""
    ratio = np.array(game.design.ratio)
    arm = course.crowd.arm
    for chosen in np.unique(course.arm):
        fresh = usual.allocated(course.crowd, (int(ratio[0]), int(ratio[chosen])))
        here = later & (course.arm == chosen)[:, None]
        arm = np.where(here, np.where(fresh == 1, chosen, 0), arm).astype(np.int8)
    crowd = course.crowd._replace(arm=arm)
    crowd = crowd._replace(lost=usual.lost(crowd))
    crowd = crowd._replace(time=kernels.first(game.scene.fates, crowd))
    return course._replace(crowd=crowd, people=taken(watched(game, crowd, 0), course.wanted))


def candidates(game: Game) -> int:
    """How many people might have to be prepared: the most that may be wanted, more where a subgroup alone may go on."""
    design, people = game.design, game.variant.people
    if design.resize and design.resize.people:
        return math.ceil(people * design.resize.most)
    if design.resize:
        return people
    if design.enrich:
        share = float(game.scene.marked[game.scene.draws].mean(-1).min())
        if share == 0:
            return 2 * people
        return math.ceil(people / share + SPARE * math.sqrt(people * (1 - share)) / share)
    return people

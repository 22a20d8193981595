"""What a record shows before anything is claimed: Table 1, courses, pairs and event curves.

Figures and pages draw these frames and compute nothing themselves. Every frame is long: one row per arm and item.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from scipy import special

from quell import units
from quell.analysis import survival
from quell.protocol import Protocol
from quell.questions import Endpoint
from quell.study import Columns, Study

TOTAL = "total"
MANY_LEVELS = 8  # a variable of more levels than this, such as the sites, stands last in Table 1
SKEWED = 1.0  # above this skewness a mean describes nobody, and the median is shown


# -- baseline -----------------------------------------------------------------------------------------------------
def baseline(columns: Columns, protocol: Protocol, quantity: str, location: str = "") -> np.ndarray:
    """Each person's last reading at or before the baseline visit; NaN where there is none. Shape (subjects,)."""
    found = np.full(columns.arm.shape, np.nan)
    for visit in protocol.visits:
        values = columns.readings.get((quantity, location, visit.name))
        if values is not None and visit.day <= protocol.baseline.day and visit.kind in ("screening", "baseline"):
            found = np.where(np.isfinite(values), values, found)
    return found


def quantities(study: Study) -> dict[tuple[str, str], str]:
    """Every (quantity, location) that was read, in order of appearance, with its unit."""
    rows = study["readings"].select("quantity", pl.col("location").fill_null(""), pl.col("unit").fill_null(""))
    found: dict[tuple[str, str], str] = {}
    for quantity, location, unit in rows.unique(maintain_order=True).iter_rows():
        found.setdefault((quantity, location), "" if unit == "1" else unit)
    return found


_TABLE_ONE = {
    "variable": pl.String,
    "level": pl.String,
    "unit": pl.String,
    "kind": pl.String,
    "arm": pl.String,
    "n": pl.Int64,
    "missing": pl.Int64,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "median": pl.Float64,
    "lower_quartile": pl.Float64,
    "upper_quartile": pl.Float64,
    "count": pl.Int64,
    "percent": pl.Float64,
}


def table_one(study: Study, protocol: Protocol, columns: Columns | None = None) -> pl.DataFrame:
    """Who was randomised: one row per variable, level and arm (and total), with no p-values (CONSORT item 20).

    ``kind`` says how to show it: "mean (SD)", "median (IQR)" where the skewness exceeds 1, or "n (%)" of those known.
    """
    people, columns = study.randomised, columns or study.columns(protocol)
    groups = [(arm, columns.arm == index) for index, arm in enumerate(columns.arms)]
    groups.append((TOTAL, np.ones(columns.arm.shape, dtype=bool)))
    rows: list[dict[str, object]] = []
    named = [name for name in people.columns if name not in ("subject", "arm", "enrolled")]
    long = [name for name in named if not people.schema[name].is_numeric() and people[name].n_unique() > MANY_LEVELS]
    for name in named:
        if name not in long:
            rows += _described(name, "", people[name], groups)
    for (quantity, location), unit in quantities(study).items():
        values = baseline(columns, protocol, quantity, location)
        if quantity not in people.columns and np.isfinite(values).any():
            name = f"{quantity}, {location}" if location else quantity
            rows += _numbers(name, unit, values, groups)
    for name in long:
        rows += _described(name, "", people[name], groups)
    return pl.DataFrame(rows, schema=_TABLE_ONE)


def _described(
    name: str, unit: str, column: pl.Series, groups: list[tuple[str, np.ndarray]]
) -> list[dict[str, object]]:
    if column.dtype.is_numeric():
        return _numbers(name, unit, column.cast(pl.Float64).fill_null(np.nan).to_numpy(), groups)
    if column.dtype == pl.Boolean:
        return _levels(name, column.cast(pl.Int8).cast(pl.String), ["1"], groups)
    words = column.cast(pl.String)
    if set(words.drop_nulls().str.to_lowercase()) <= {"yes", "no"}:
        return _levels(name, (words.str.to_lowercase() == "yes").cast(pl.Int8).cast(pl.String), ["1"], groups)
    return _levels(name, words, sorted(words.drop_nulls().unique().to_list()), groups)


def _numbers(name: str, unit: str, values: np.ndarray, groups: list[tuple[str, np.ndarray]]) -> list[dict[str, object]]:
    kind = "median (IQR)" if abs(skewness(values)) > SKEWED else "mean (SD)"
    rows: list[dict[str, object]] = []
    for arm, members in groups:
        known = values[members & np.isfinite(values)]
        low, middle, high = np.percentile(known, [25, 50, 75]) if len(known) else (None, None, None)
        rows.append(
            {"variable": name, "level": "", "unit": unit, "kind": kind, "arm": arm, "n": len(known)}
            | {"missing": int(members.sum()) - len(known), "mean": float(known.mean()) if len(known) else None}
            | {"sd": float(known.std(ddof=1)) if len(known) > 1 else None, "median": middle}
            | {"lower_quartile": low, "upper_quartile": high}
        )
    return rows


def _levels(
    name: str, words: pl.Series, levels: list[str], groups: list[tuple[str, np.ndarray]]
) -> list[dict[str, object]]:
    known = words.is_not_null().to_numpy()
    rows: list[dict[str, object]] = []
    for level in levels:
        same = (words == level).fill_null(False).to_numpy()
        for arm, members in groups:
            n, count = int((known & members).sum()), int((same & members).sum())
            rows.append(
                {"variable": name, "level": "" if levels == ["1"] else level, "unit": "", "kind": "n (%)", "arm": arm}
                | {"n": n, "missing": int(members.sum()) - n, "count": count, "percent": 100 * count / n if n else None}
            )
    return rows


def skewness(values: np.ndarray) -> float:
    """Moment skewness, mean((x − x̄)³) / mean((x − x̄)²)^1.5, of what is known; 0 where nothing varies.

    >>> round(skewness(np.array([1.0, 1.0, 1.0, 5.0])), 3)
    1.155
    """
    known = values[np.isfinite(values)]
    spread = known.var() if len(known) else 0.0
    return float(((known - known.mean()) ** 3).mean() / spread**1.5) if spread > 1e-24 else 0.0


# -- over time ------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """One quantity over the planned visits, by arm: median with quartiles, and each reading at its actual day."""

    quantity: str
    location: str
    unit: str
    summary: pl.DataFrame  # arm, visit, day, n, median, lower_quartile, upper_quartile
    points: pl.DataFrame  # subject, arm, visit, day, value


def courses(study: Study, protocol: Protocol, visits: int = 3) -> tuple[Course, ...]:
    """Every quantity read at this many planned visits or more, by arm; quartiles by linear interpolation."""
    planned = pl.DataFrame(
        {"visit": [one.name for one in protocol.visits], "planned": [one.day for one in protocol.visits]}
    )
    arms = study.randomised.select("subject", "arm")
    rows = (
        study["readings"]
        .drop_nulls("value")
        .filter(pl.col("value").is_finite())
        .with_columns(pl.col("location").fill_null(""))
        .join(planned, on="visit", how="inner", maintain_order="left")
        .join(arms, on="subject", how="inner", maintain_order="left")
    )
    found = []
    for (quantity, location), unit in quantities(study).items():
        mine = rows.filter((pl.col("quantity") == quantity) & (pl.col("location") == location))
        if mine["visit"].n_unique() >= visits:
            summary = _quartiles(mine, [arm.name for arm in protocol.arms])
            points = mine.select("subject", "arm", "visit", pl.col("day").fill_null(pl.col("planned")), "value")
            found.append(Course(quantity=quantity, location=location, unit=unit, summary=summary, points=points))
    return tuple(found)


def _quartiles(rows: pl.DataFrame, arms: list[str]) -> pl.DataFrame:
    def at(share: float) -> pl.Expr:
        return pl.col("value").quantile(share, "linear")

    grouped = rows.group_by("arm", "visit", day=pl.col("planned")).agg(
        n=pl.len(), median=at(0.5), lower_quartile=at(0.25), upper_quartile=at(0.75)
    )
    order = pl.col("arm").replace_strict({arm: index for index, arm in enumerate(arms)}, return_dtype=pl.Int64)
    return grouped.sort(order, "day", "visit")


# -- before and after -------------------------------------------------------------------------------------------------
def last_visit(columns: Columns, protocol: Protocol, quantity: str, location: str = "") -> str | None:
    """The last planned visit after baseline at which a quantity was read."""
    for visit in reversed(protocol.visits):
        values = columns.readings.get((quantity, location, visit.name))
        if visit.day > protocol.baseline.day and values is not None and np.isfinite(values).any():
            return visit.name
    return None


def paired(
    study: Study,
    protocol: Protocol,
    quantity: str,
    location: str = "",
    visit: str = "",
    columns: Columns | None = None,
) -> pl.DataFrame:
    """Each person's baseline and follow-up of one quantity: subject, arm, baseline, follow_up, change; both known."""
    columns = columns or study.columns(protocol)
    start = baseline(columns, protocol, quantity, location)
    visit = visit or last_visit(columns, protocol, quantity, location) or ""
    end = columns.readings.get((quantity, location, visit), np.full(columns.arm.shape, np.nan))
    both = np.isfinite(start) & np.isfinite(end)
    return pl.DataFrame(
        {
            "subject": study.randomised["subject"].to_numpy()[both],
            "arm": [columns.arms[code] for code in columns.arm[both]],
            "baseline": start[both],
            "follow_up": end[both],
            "change": (end - start)[both],
        },
        schema={
            "subject": pl.String,
            "arm": pl.String,
            "baseline": pl.Float64,
            "follow_up": pl.Float64,
            "change": pl.Float64,
        },
    )


def paired_means(pairs: pl.DataFrame, arms: Iterable[str], level: float = 0.95) -> pl.DataFrame:
    """By arm and moment: n, mean and its Student-t interval (NaN limits where n < 2)."""
    rows = []
    for arm in arms:
        mine = pairs.filter(pl.col("arm") == arm)
        for moment in ("baseline", "follow_up", "change"):
            mean, lower, upper = _mean_interval(mine[moment].to_numpy(), level)
            rows.append({"arm": arm, "moment": moment, "n": mine.height, "mean": mean, "lower": lower, "upper": upper})
    return pl.DataFrame(rows)


def _mean_interval(values: np.ndarray, level: float) -> tuple[float, float, float]:
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    half = float(special.stdtrit(n - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    return mean, mean - half, mean + half


@dataclasses.dataclass(frozen=True, kw_only=True)
class VersusBaseline:
    """Change against baseline, with the line that the control arm alone predicts."""

    points: pl.DataFrame  # subject, arm, baseline, change
    line: pl.DataFrame  # baseline, expected, lower, upper (empty where the control arm has fewer than 3 pairs)
    slope: float
    slope_lower: float
    slope_upper: float
    intercept: float


def versus_baseline(pairs: pl.DataFrame, control: str, level: float = 0.95) -> VersusBaseline:
    """Change on baseline by least squares in the control arm: change = intercept + slope · baseline.

    High first readings fall and low ones rise with no drug at all (Bland and Altman 1994, doi:10.1136/bmj.308.6942.1499),
    so an effect is the distance from this line and not from zero. The limits are those of the fitted mean.
    """
    points = pairs.select("subject", "arm", "baseline", "change")
    mine = pairs.filter(pl.col("arm") == control)
    x, y = mine["baseline"].to_numpy(), mine["change"].to_numpy()
    spread = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
    if len(x) < 3 or spread <= 0:
        empty = pl.DataFrame(schema=dict.fromkeys(("baseline", "expected", "lower", "upper"), pl.Float64))
        nothing = dict.fromkeys(("slope", "slope_lower", "slope_upper", "intercept"), math.nan)
        return VersusBaseline(points=points, line=empty, **nothing)
    slope = float(((x - x.mean()) * y).sum() / spread)
    intercept = float(y.mean() - slope * x.mean())
    variance = float(((y - intercept - slope * x) ** 2).sum()) / (len(x) - 2)
    t = float(special.stdtrit(len(x) - 2, (1 + level) / 2))
    every = pairs["baseline"].to_numpy()
    grid = np.linspace(float(every.min()), float(every.max()), 25)
    expected = intercept + slope * grid
    half = t * np.sqrt(variance * (1 / len(x) + (grid - x.mean()) ** 2 / spread))
    line = pl.DataFrame({"baseline": grid, "expected": expected, "lower": expected - half, "upper": expected + half})
    limits = {
        "slope_lower": slope - t * math.sqrt(variance / spread),
        "slope_upper": slope + t * math.sqrt(variance / spread),
    }
    return VersusBaseline(points=points, line=line, slope=slope, intercept=intercept, **limits)


# -- events -----------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True, kw_only=True)
class ArmIncidence:
    """Cumulative incidence of one endpoint in one arm, with its table at risk."""

    arm: str
    n: int
    events: int
    curve: pl.DataFrame  # day, incidence, lower, upper, at_risk, events, censored
    table: pl.DataFrame  # day, at_risk, cumulative_events

    @property
    def reliable_until(self) -> float:
        """The last day on which at least a tenth of the people are still at risk."""
        enough = self.curve.filter(pl.col("at_risk") >= 0.1 * self.n)["day"]
        return float(enough[-1]) if len(enough) else 0.0


def incidence(
    columns: Columns, endpoint: Endpoint, arm: str, *, population: str = "randomised", days: Sequence[float] = ()
) -> ArmIncidence:
    """One minus Kaplan-Meier survival (log-log interval) from day 1, and who is at risk on the given days.

    Deaths that the endpoint does not count are censored, so the curve is of a world in which they did not happen.
    Raises StudyError where nobody's follow-up is recorded.
    """
    time, happened = columns.first(endpoint.components)
    members = columns.sets.get(population, np.ones(columns.arm.shape, dtype=bool))
    mine = members & (columns.arm == columns.arms.index(arm)) & np.isfinite(time) & (time > 0)
    time, happened = time[mine], happened[mine]
    if not len(time):
        empty: dict[str, list[float]] = {
            name: [] for name in ("day", "incidence", "lower", "upper", "at_risk", "events", "censored")
        }
        return ArmIncidence(arm=arm, n=0, events=0, curve=pl.DataFrame(empty), table=_at_risk(time, happened, days))
    curve = survival.kaplan_meier(time, happened, interval="log-log")
    frame = pl.DataFrame(
        {
            "day": curve.times,
            "incidence": 1 - curve.survival,
            "lower": 1 - curve.upper,
            "upper": 1 - curve.lower,
            "at_risk": curve.at_risk,
            "events": curve.events,
            "censored": curve.censored,
        }
    )
    table = _at_risk(time, happened, days)
    return ArmIncidence(
        arm=arm, n=len(time), events=int(happened.sum()), curve=frame.filter(pl.col("at_risk") > 0), table=table
    )


def _at_risk(time: np.ndarray, happened: np.ndarray, days: Sequence[float]) -> pl.DataFrame:
    rows = [(float(day), int((time >= day).sum()), int((happened & (time <= day)).sum())) for day in days]
    return pl.DataFrame(
        rows, schema={"day": pl.Float64, "at_risk": pl.Int64, "cumulative_events": pl.Int64}, orient="row"
    )


def axis_days(protocol: Protocol, columns: Columns) -> tuple[float, ...]:
    """Whole days for the axis of follow-up, from 0: every year, quarter, month or week, so that eight at most."""
    ends = [end[np.isfinite(end)].max() for end in columns.followed.values() if np.isfinite(end).any()]
    last = max(ends, default=float(protocol.last_visit_day))
    for step in (
        7,
        14,
        28,
        units.DAYS_PER_YEAR / 12,
        units.DAYS_PER_YEAR / 4,
        units.DAYS_PER_YEAR / 2,
        units.DAYS_PER_YEAR,
    ):
        if last / step <= 7:
            break
    return tuple(float(math.floor(step * index)) for index in range(math.floor(last / step + 0.01) + 1))

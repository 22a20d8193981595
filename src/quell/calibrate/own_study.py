"""What a fit of the user's own study says, as data: a summary for JSON, and what each person will show under which doses."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from quell.calibrate.individual import Individual
from quell.study import Study

LEVEL, WEEK = 0.9, 7
AS_GIVEN = "as given"
LEARNED = 0.2  # contraction of the prior's variance below which it is the prior that speaks


def days(fitted: Individual) -> list[int]:
    """Study days to predict: every day on which somebody was read, from day 1 on, and each week between."""
    who = fitted.who
    read = np.unique(who.day[np.isfinite(who.value).any(axis=2)])
    last = int(max(*read.tolist(), *who.dose_days, 1))
    return sorted({int(day) for day in read if day >= 1} | set(range(1, last + 1, WEEK)) | {last})


def predictions(fitted: Individual) -> pl.DataFrame:
    """What each person shows with the doses given, and would have shown under the control arm's; ``doses`` says which."""
    found = [fitted.predict(days(fitted), level=LEVEL).with_columns(doses=pl.lit(AS_GIVEN))]
    control = next((arm.name for arm in fitted.protocol.arms if arm.control), None)
    if control is not None:
        treated = [name for name, some in zip(fitted.who.subjects, fitted.who.treated, strict=True) if some]
        other = fitted.predict(days(fitted), control, LEVEL).filter(pl.col("subject").is_in(treated))
        found.append(other.with_columns(doses=pl.lit(control)))
    return pl.concat(found)


def seen(fitted: Individual) -> pl.DataFrame:
    """The readings fitted: one row each, with whether it was below the assay's limit."""
    who = fitted.who
    person, visit, kind = np.nonzero(np.isfinite(who.value))
    return pl.DataFrame(
        {
            "subject": np.array(who.subjects)[person],
            "arm": np.array(who.arms)[person],
            "visit": np.array(who.visits)[visit],
            "day": who.day[person, visit],
            "quantity": np.array([one.name for one in who.kinds])[kind],
            "location": np.array([one.location for one in who.kinds])[kind],
            "value": who.value[person, visit, kind],
            "below": who.below[person, visit, kind],
        }
    )


def inside(fitted: Individual, told: pl.DataFrame) -> tuple[int, int]:
    """Of the readings fitted from day 1 on, how many lie in their own predictive interval, and of how many."""
    mine = told.filter(pl.col("doses") == AS_GIVEN)
    both = seen(fitted).join(mine, on=["subject", "day", "quantity", "location"])
    return int(both["value"].is_between(both["lower_reading"], both["upper_reading"]).sum()), both.height


def summary(fitted: Individual, study: Study, told: pl.DataFrame) -> dict[str, Any]:
    """What the JSON holds."""
    who, one, protocol = fitted.who, fitted.diagnosis, fitted.protocol
    there, of = inside(fitted, told)
    worst = int(one.rhat.argmax())
    return {
        "protocol": protocol.name,
        "fingerprint": protocol.fingerprint,
        "study": study.digest,
        "people": {arm: who.arms.count(arm) for arm in dict.fromkeys(who.arms)},
        "treated": int(who.treated.sum()),
        "readings": seen(fitted).height,
        "quantities": list(dict.fromkeys(kind.name for kind in who.kinds)),
        "units": units(study),
        "dose_days": list(who.dose_days),
        "assumed": list(who.assumed),
        "level": LEVEL,
        "constants": fitted.constants(LEVEL).to_dicts(),
        "personal": [fitted.choice.names[k] for k in fitted.choice.personal],
        "inside": {"readings": there, "of": of},
        "diagnosis": {
            "draws": int(fitted.draws.diverging.size),
            "chains": int(fitted.draws.diverging.shape[0]),
            "largest_rhat": float(one.rhat[worst]),
            "of_rhat": one.names[worst],
            "least_bulk": float(one.bulk.min()),
            "of_bulk": one.names[int(one.bulk.argmin())],
            "least_tail": float(one.tail.min()),
            "of_tail": one.names[int(one.tail.argmin())],
            "divergences": int(fitted.draws.diverging.sum()),
            "median_worth": float(np.median(fitted.worth)),
        },
        "faults": fitted.faults,
    }


def units(study: Study) -> dict[str, str]:
    """The unit in which the study gives each quantity; none for pure numbers, and where it gives none."""
    readings = study["readings"]
    if "unit" not in readings.columns:
        return {}
    return dict(
        readings.filter(pl.col("unit") != "1")
        .group_by("quantity")
        .agg(pl.col("unit").first())
        .sort("quantity")
        .iter_rows()
    )


def learned(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Constants that the study speaks of, most first."""
    rows = [row for row in found["constants"] if row["contraction"] >= LEARNED]
    return sorted(rows, key=lambda row: -float(row["contraction"]))

"""An arm without events, end to end: FINALE's published counts (E063, E064) as a study, through the declared analyses.

0 of 28 against 3 of 27 by two years: Fisher's exact p is 0.11 (R fisher.test: 0.1115), evidence E064.
"""

import datetime

import polars as pl
import pytest

from quell.analysis.claim import Claims
from quell.analysis.plan import analyse
from quell.protocol import Protocol
from quell.study import Study
from quell.tables import TABLES


def table(name: str, rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides=dict(TABLES[name].columns))


@pytest.fixture(scope="module")
def claims() -> Claims:
    people = [(f"a{i}", "aldesleukin") for i in range(28)] + [(f"p{i}", "placebo") for i in range(27)]
    day = datetime.date(2020, 1, 1)
    study = Study(
        protocol="ivory-finale",
        tables={
            "subjects": table(
                "subjects", [{"subject": s, "site": "Cambridge", "arm": a, "enrolled": day} for s, a in people]
            ),
            "milestones": table(
                "milestones",
                [
                    {"subject": s, "milestone": "followed up", "reached": True, "day": 68, "reason": None}
                    for s, _ in people
                ],
            ),
            "events": table(
                "events",
                [
                    {"subject": f"p{i}", "event": "myocardial infarction", "day": d}
                    for i, d in enumerate((90, 300, 600))
                ],
            ),
            "followed": table(
                "followed", [{"subject": s, "event": "", "until": 800, "reason": "still followed"} for s, _ in people]
            ),
        },
    )
    return analyse(Protocol.load("ivory-finale"), study)


def test_exact_counts(claims: Claims) -> None:
    claim = claims["heart attack by 2 years, exact"]
    assert claim.p == pytest.approx(0.1115, abs=5e-5)
    assert claim.estimate == pytest.approx(-3 / 27) and claim.n == 55
    assert claim.lower is not None and claim.upper is not None and claim.lower < -3 / 27 < claim.upper


def test_a_hazard_ratio_that_does_not_exist_is_said_not_to(claims: Claims) -> None:
    firth = claims["heart attack, hazard ratio"]
    assert firth.estimate is not None and 0 < firth.estimate < 1 and firth.upper is not None and firth.upper > 1
    assert any("does not exist" in warning for warning in firth.warnings)
    cox = claims["MACE, Cox"]
    assert any("does not exist" in warning for warning in cox.warnings)


def test_what_lies_beyond_follow_up_is_said_to(claims: Claims) -> None:
    assert any("beyond the last follow-up" in warning for warning in claims["MACE by 5 years"].warnings)

"""The real CDISC pilot study, through the same analysis as virtual trials, against its published table 14-3.01.

Incumbent: the SAS-produced submission tables, replicated in R (atorus-research/CDISC_pilot_replication, t-14-3-01.R),
and the log-rank of lifelines 0.30.3 for the dermatologic events.
"""

import dataclasses
import pathlib

import polars as pl
import pytest

from quell.analysis.claim import Claims
from quell.analysis.plan import analyse
from quell.exchange import read_study
from quell.protocol import Protocol

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "cdisc-pilot.toml"

# contrast, difference of LS means, its standard error, 95 % interval, p: as printed
PRINTED = [
    ("ADAS-Cog(11), low dose against placebo", "-0.5", "0.82", "-2.1", "1.1", "0.569"),
    ("ADAS-Cog(11), high dose against placebo", "-1.0", "0.84", "-2.7", "0.7", "0.233"),
    ("ADAS-Cog(11), high dose against low dose", "-0.5", "0.84", "-2.2", "1.1", "0.520"),
]


@pytest.fixture(scope="module")
def claims(reference_data: pathlib.Path) -> Claims:
    protocol = Protocol.load(EXAMPLE)
    return analyse(protocol, read_study(reference_data / "cdisc_pilot", protocol))


@pytest.mark.parametrize(("name", "estimate", "se", "lower", "upper", "p"), PRINTED)
def test_primary_table_contrasts(
    claims: Claims, name: str, estimate: str, se: str, lower: str, upper: str, p: str
) -> None:
    claim = claims[name]
    assert f"{claim.estimate:.1f}" == estimate
    assert f"{claim.se:.2f}" == se
    assert (f"{claim.lower:.1f}", f"{claim.upper:.1f}") == (lower, upper)
    assert f"{claim.p:.3f}" == p
    assert claim.n == 79 + 81 + 74


def test_dose_response(claims: Claims) -> None:
    assert f"{claims['dose response of ADAS-Cog(11)'].p:.3f}" == "0.245"


def test_dermatologic_events(claims: Claims) -> None:
    claim = claims["first dermatologic event, log-rank"]
    counts = dict(claim.counts)
    assert [counts[f"{arm} events"] for arm in ("placebo", "low", "high")] == [29, 62, 61]
    assert [counts[f"{arm} people"] for arm in ("placebo", "low", "high")] == [86, 84, 84]
    assert f"{claim.statistic:.4f}" == "60.2696" and claim.df == 2


# Table 14-3.03, 14-3.05 (weeks 8 and 16, LOCF) and 14-3.08 (men, week 24): contrast, difference, standard error, p
OTHER_TABLES = [
    ("Week 8", None, ("1.1", "0.65", "0.099"), ("0.2", "0.67", "0.751"), ("-0.9", "0.66", "0.195"), "0.497"),
    ("Week 16", None, ("-0.3", "0.77", "0.724"), ("-0.7", "0.79", "0.392"), ("-0.4", "0.78", "0.606"), "0.412"),
    ("Week 24", "M", ("0.5", "1.30", "0.712"), ("0.1", "1.25", "0.915"), ("-0.3", "1.26", "0.783"), "0.873"),
]


@pytest.mark.parametrize(("visit", "sex", "low", "high", "between", "dose"), OTHER_TABLES)
def test_other_published_tables(reference_data: pathlib.Path, visit, sex, low, high, between, dose) -> None:
    """Tables 14-3.03, 14-3.05 and 14-3.08 as replicated from SAS (atorus-research/CDISC_pilot_replication, outputs/)."""
    pilot = Protocol.load(EXAMPLE)
    endpoint = dataclasses.replace(pilot.endpoint("change in ADAS-Cog(11)"), visit=visit)
    protocol = pilot.but(endpoints=(endpoint, *pilot.endpoints[1:]))
    study = read_study(reference_data / "cdisc_pilot", protocol)
    if sex:
        men = study["subjects"].filter(pl.col("sex") == sex)["subject"]
        tables = {name: table.filter(pl.col("subject").is_in(men.implode())) for name, table in study.tables.items()}
        study = dataclasses.replace(study, tables=tables)
    claims = analyse(protocol, study)
    for (name, *_), printed in zip(PRINTED, (low, high, between), strict=True):
        claim = claims[name]
        assert (f"{claim.estimate:.1f}", f"{claim.se:.2f}", f"{claim.p:.3f}") == printed
    assert f"{claims['dose response of ADAS-Cog(11)'].p:.3f}" == dose


# nlme 3.1-162 (R 4.2.2): gls(CHG ~ TRT*WEEK + SITEGR1 + BASE*WEEK, corSymm, varIdent, REML, glsControl(opt = "optim")), 539 visits
# of 234 people; its default optimiser stops at a lower likelihood, 5e-6 away
MIXED = [("low", -0.593894472871, 1.0145109215), ("high", -0.828201047497, 1.06776885942)]


@pytest.mark.parametrize(("arm", "estimate", "se"), MIXED)
def test_mixed_model_over_visits_against_nlme(claims: Claims, arm: str, estimate: float, se: float) -> None:
    """The linear Kenward-Roger error is a little larger than gls's, which does not know that the covariance is estimated."""
    claim = claims[f"ADAS-Cog(11) over visits, {arm} dose against placebo"]
    assert claim.estimate == pytest.approx(estimate, rel=1e-6)
    assert se < claim.se < 1.02 * se and claim.n == 234

"""The real CDISC pilot study, through the same analysis as virtual trials, against its published table 14-3.01.

Incumbent: the SAS-produced submission tables, replicated in R (atorus-research/CDISC_pilot_replication, t-14-3-01.R),
and the log-rank of lifelines 0.30.3 for the dermatologic events.
"""

import pathlib

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

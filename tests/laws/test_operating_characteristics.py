"""Laws of many trials: the machinery adds no error of its own, so tests reject and intervals cover as often as they say.

Each rate is held to three Monte Carlo errors of what it should be.
"""

import dataclasses

import pytest

from quell.design import Repeats, repeat
from quell.protocol import Protocol
from quell.trial import World, truth
from quell.trial.world import usual_conduct

IVORY = Protocol.load("ivory")


def calibrated(found: Repeats, names: list[str]) -> None:
    for name in names:
        rejects = found.performance(name).rejects
        assert abs(rejects.value - 0.05) <= 3 * (0.05 * 0.95 / found.trials) ** 0.5, (name, rejects)


def test_where_nothing_works_the_primary_rejects_one_time_in_twenty() -> None:
    found = repeat(IVORY, World().without("efficacy"), trials=1000, key=11)
    calibrated(found, ["index vessel TBRmax", "index vessel TBRmax, unadjusted", "hsCRP", "ejection fraction"])


STAYING = World(conduct=dataclasses.replace(usual_conduct(), leaves=0.0, visit_missed=0.0, scan_failed=0.0))
SHOWN = ("index vessel TBRmax", "ascending aorta TBRmax", "Treg share of CD4", "eosinophils")


def test_where_all_stay_estimates_are_centred_on_the_truth_and_intervals_hold_it() -> None:
    found, true = repeat(IVORY, STAYING, trials=1000, key=12), truth(IVORY, STAYING, key=13)
    for name in SHOWN:
        one = found.performance(name, true[name])
        assert one.covers is not None and one.bias is not None and one.bias_error is not None
        assert abs(one.bias) <= 3.5 * one.bias_error, (name, one.bias, one.bias_error)
        assert abs(one.covers.value - 0.95) <= 3 * (0.05 * 0.95 / found.trials) ** 0.5 + 0.01, (name, one.covers)
        assert abs(one.average_se / one.spread - 1) < 0.1, (name, one.average_se, one.spread)


def test_who_leaves_stops_the_drug_and_is_not_seen_so_the_trial_overstates_what_the_policy_does() -> None:
    often = World(conduct=dataclasses.replace(usual_conduct(), leaves=0.4))
    one = repeat(IVORY, often, trials=150, key=16).performance(
        "Treg share of CD4", truth(IVORY, often, key=17)["Treg share of CD4"]
    )
    assert one.bias is not None and one.bias_error is not None and one.bias > 4 * one.bias_error


def test_adjusting_for_baseline_gains_precision() -> None:
    found = repeat(IVORY, trials=400, key=14)
    adjusted, plain = found.performance("index vessel TBRmax"), found.performance("index vessel TBRmax, unadjusted")
    assert adjusted.spread < plain.spread


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ivory", "ivory-finale"])
def test_four_thousand_trials_without_an_effect(name: str) -> None:
    protocol = Protocol.load(name)
    found = repeat(protocol, World().without("efficacy"), trials=4000, key=15)
    if name == "ivory":
        calibrated(found, [one.name for one in protocol.analyses if not one.name.startswith(("Treg", "ILC2", "eosin"))])
    else:
        for (
            one
        ) in protocol.analyses:  # small numbers of events: tests may reject less often than they could, never more
            rejects = found.performance(one.name).rejects
            assert rejects.value <= 0.05 + 3 * rejects.error + 0.01, (one.name, rejects)

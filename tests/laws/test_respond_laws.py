"""Laws of ``respond``: zero is placebo, chunks change nothing, more drug more regulatory cells, units agree."""

import numpy as np
import pytest

from quell import response


def found(dose="1.5 MIU", days="1..5", **more):
    return response.respond(dose, days, **({"patients": 64, "until": 20, "draws": 0} | more))


def test_a_zero_dose_is_placebo():
    one = found("0 MIU")
    assert one["observables"] == one["placebo"]


def test_chunks_and_company_change_nothing(monkeypatch):
    whole = found()
    monkeypatch.setattr(response, "CHUNK", 24)
    assert found() == whole


def test_more_drug_more_regulatory_cells():
    peaks = [max(found(f"{dose} MIU")["observables"]["treg"]["fold"]) for dose in (0.1, 0.3, 1, 3)]
    assert (np.diff(peaks) > 0).all()


def test_mass_and_units_are_one_dose():
    units, mass = found("1.8 MIU"), found("110 ug")
    for name, row in units["observables"].items():
        np.testing.assert_allclose(row["q50"], mass["observables"][name]["q50"], rtol=1e-9)


def test_a_dose_per_square_metre_goes_by_each_ones_surface():
    plan = response.schedule("0.5 MIU/m2", "1, 3")
    people = response.drawn_people("ivory", 0, 8, 1)
    np.testing.assert_allclose(plan.amounts(people)[:, 1], 0.5 * people.body_surface_area)


def test_bins_agree_with_exact_quantiles_to_their_width(monkeypatch):
    exact = found(patients=300)
    monkeypatch.setattr(response, "EXACT", 10)
    binned = found(patients=300)
    for name, row in exact["observables"].items():
        spread = np.array(row["q75"]) - np.array(row["q25"])
        gap = np.abs(np.array(binned["observables"][name]["q50"]) - np.array(row["q50"]))
        assert (gap <= 2 * response.BIN * np.abs(row["q50"]) + 0.05 * spread + 1e-9).all(), name


@pytest.mark.parametrize("structures", [{"depletion": "none"}, {"limit": "consumption"}, {"contraction": "fast"}])
def test_structures_that_five_days_cannot_tell_differ_later(structures):
    base, other = (
        found(days="1..30", until=35, body=response.known("prior", one))["observables"]["treg"]["fold"]
        for one in ({}, structures)
    )
    assert abs(base[33] / other[33] - 1) > 0.03


def test_harm_follows_the_dose_and_the_quantiles_their_order():
    low, high = found("0.3 MIU"), found("3 MIU")
    for name in ("any", "injection_site", "fever", "flu_like"):
        assert 0 < low["harms"][name] < high["harms"][name] < 1
    for row in high["observables"].values():
        stack = np.array([row[name] for name in ("q05", "q25", "q50", "q75", "q95")])
        assert (np.diff(stack, axis=0) >= 0).all()

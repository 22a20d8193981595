"""Laws of the trial room: what must hold of every simulated trial, whatever the numbers."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from quell import keys, outcomes
from quell.analysis.plan import analyse, results
from quell.design import repeat
from quell.protocol import Protocol
from quell.trial import World, potential, run, simulate, truths

KEY = 20260


@pytest.fixture(scope="module")
def ivory() -> Protocol:
    return Protocol.load("ivory")


@pytest.fixture(scope="module")
def finale() -> Protocol:
    return Protocol.load("ivory-finale")


def bigger(protocol: Protocol, people: int) -> Protocol:
    return protocol.but(population=dataclasses.replace(protocol.population, planned=people))


def test_the_same_key_gives_the_same_study(ivory: Protocol) -> None:
    assert run(ivory, key=KEY) == run(ivory, key=KEY)
    assert run(ivory, key=KEY) != run(ivory, key=KEY + 1)


def test_adding_patients_changes_no_earlier_patient(ivory: Protocol) -> None:
    small, large = run(ivory, key=KEY), run(bigger(ivory, 100), key=KEY)
    first = small.randomised["subject"]
    assert large.randomised["subject"][: len(first)].to_list() == first.to_list()
    for name in ("doses", "readings", "events", "followed"):
        mine = small[name].sort(small[name].columns)
        theirs = large[name].filter(pl.col("subject").is_in(first.implode())).sort(small[name].columns)
        assert mine.equals(theirs), name


def test_a_zero_dose_is_placebo_bit_for_bit(ivory: Protocol) -> None:
    nothing = tuple(dataclasses.replace(dose, amount="0 MIU") for dose in ivory.arm("aldesleukin").doses)
    arms = tuple(dataclasses.replace(arm, doses=nothing) if not arm.control else arm for arm in ivory.arms)
    lived = potential(ivory.but(arms=arms), World(), key=KEY, groups=2, people=40)
    for key, values in lived["placebo"].readings.items():
        np.testing.assert_array_equal(values, lived["aldesleukin"].readings[key])
    for kind, days in lived["placebo"].events.items():
        np.testing.assert_array_equal(days, lived["aldesleukin"].events[kind])


def test_where_the_drug_does_nothing_the_truth_is_nothing(ivory: Protocol, finale: Protocol) -> None:
    for protocol in (ivory, finale):
        found = truths(protocol, potential(protocol, World().without("drug"), key=KEY, groups=2, people=60))
        for analysis in protocol.analyses:
            if analysis.name in found:
                ratio = protocol.estimand(analysis.estimand).summary in ("ratio of geometric means", "hazard ratio")
                value = found[analysis.name].value
                assert value == (1.0 if ratio else 0.0) or np.isnan(value), analysis.name


def test_without_efficacy_cells_move_and_vessels_do_not(ivory: Protocol) -> None:
    lived = potential(ivory, World().without("efficacy"), key=KEY, groups=2, people=40)
    active, control = lived["aldesleukin"].readings, lived["placebo"].readings
    for key in active:
        if key[0].startswith("TBR") or key[0] == "hsCRP":
            np.testing.assert_array_equal(active[key], control[key])
    assert np.nanmean(active["Treg %", "", "day 54"]) > 1.1 * np.nanmean(control["Treg %", "", "day 54"])


def test_swapping_the_labels_flips_the_sign_and_nothing_else(ivory: Protocol) -> None:
    study = run(ivory, key=KEY)
    other = {"aldesleukin": "placebo", "placebo": "aldesleukin"}
    subjects = study["subjects"].with_columns(pl.col("arm").replace(other))
    swapped = dataclasses.replace(study, tables={**study.tables, "subjects": subjects})
    for before, after in zip(analyse(ivory, study), analyse(ivory, swapped), strict=True):
        assert after.p == pytest.approx(before.p, rel=1e-6), before.name
        assert before.estimate is not None and after.estimate is not None
        if before.is_ratio:
            assert after.estimate == pytest.approx(1 / before.estimate, rel=1e-9)
        else:
            assert after.estimate == pytest.approx(-before.estimate, rel=1e-9, abs=1e-12)


def test_shuffling_rows_changes_no_claim(ivory: Protocol) -> None:
    study = run(ivory, key=KEY)
    shuffled = dataclasses.replace(
        study, tables={name: table.sample(fraction=1.0, shuffle=True, seed=3) for name, table in study.tables.items()}
    )
    assert shuffled.digest == study.digest
    for before, after in zip(analyse(ivory, study), analyse(ivory, shuffled), strict=True):
        assert after.n == before.n
        for field in ("estimate", "se", "lower", "upper", "p"):
            assert getattr(after, field) == pytest.approx(getattr(before, field), rel=1e-9), (before.name, field)


@pytest.mark.parametrize("name", ["ivory", "ivory-finale"])
def test_table_claim_is_array_claim_and_trial_k_is_a_run(name: str) -> None:
    protocol = Protocol.load(name)
    many = repeat(protocol, trials=5, key=KEY)
    for k in (0, 4):
        claims = analyse(protocol, run(protocol, key=keys.at(KEY, "trial", k)))
        for claim in claims:
            found = many.estimates[claim.name]
            for field in ("estimate", "se", "lower", "upper", "p", "n"):
                value = getattr(claim, field)
                wanted = np.nan if value is None else value  # a batch may add up in another order
                np.testing.assert_allclose(getattr(found, field)[k], wanted, rtol=1e-9, atol=1e-12)


def test_chunks_and_company_change_no_byte(ivory: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = repeat(ivory, trials=6, key=KEY)
    monkeypatch.setattr("quell.design.repeats.CHUNK_PEOPLE", 130)
    monkeypatch.setattr("quell.blocks.workers", lambda: 1)
    parts = repeat(ivory, trials=6, key=KEY)
    for name, found in whole.estimates.items():
        np.testing.assert_array_equal(found.estimate, parts.estimates[name].estimate)
        np.testing.assert_array_equal(found.p, parts.estimates[name].p)


def test_what_was_known_early_is_part_of_what_was_known_later(finale: Protocol) -> None:
    study = run(finale, key=KEY)
    days = sorted(study.randomised["enrolled"].unique())
    early, late = study.as_of(days[len(days) // 3]), study.as_of(days[-1])
    for name in ("subjects", "doses", "readings", "events"):
        assert early[name].join(late[name], on=early[name].columns, how="anti", nulls_equal=True).is_empty(), name
    both = early["followed"].join(late["followed"], on="subject")
    assert (both["until"] <= both["until_right"]).all()


def test_nothing_is_seen_after_leaving_death_or_the_end(finale: Protocol) -> None:
    records = simulate(finale, World(), keys.numbered(KEY, "trial", range(40)))
    for kind, days in records.events.items():
        assert (
            days.min(axis=-1)[np.isfinite(days.min(axis=-1))] <= records.until[np.isfinite(days.min(axis=-1))]
        ).all(), kind
    columns = records.columns()
    gone = np.minimum(records.leaves, records.death)
    for (quantity, location, visit), values in columns.readings.items():
        place = [v.name for v in finale.visits].index(visit)
        assert np.isnan(values[records.visit_day[..., place] >= gone]).all(), (quantity, location, visit)
    assert not columns.sets["followed up"][~columns.sets["completed treatment"]].any()


def test_every_block_of_the_allocation_is_balanced_within_its_site(ivory: Protocol) -> None:
    records = simulate(ivory, World(), keys.numbered(KEY, "trial", range(25)))
    for trial in range(25):
        for site in range(2):
            arms = records.enrolled.arm[trial][records.enrolled.site[trial] == site]
            full = arms[: len(arms) // 4 * 4].reshape(-1, 4)
            assert (full.sum(axis=1) == 2).all()


def test_everyone_enrolled_met_the_criteria_as_read(ivory: Protocol) -> None:
    study = run(ivory, key=KEY)
    screening = study["readings"].filter((pl.col("quantity") == "hsCRP") & (pl.col("visit") == "screening"))
    assert screening["value"].min() > 2
    assert study.randomised["age"].min() >= 18 and study.randomised["age"].max() <= 85
    failed = study["milestones"].filter((pl.col("milestone") == "eligible") & ~pl.col("reached"))
    assert failed["reason"].null_count() == 0


def test_doses_in_micrograms_are_doses_in_units(ivory: Protocol) -> None:
    def dosed(amount: str) -> Protocol:
        arms = tuple(
            arm
            if arm.control
            else dataclasses.replace(arm, doses=tuple(dataclasses.replace(d, amount=amount) for d in arm.doses))
            for arm in ivory.arms
        )
        return ivory.but(arms=arms)

    assert dosed("91.7 µg") == dosed("0.0917 mg") == dosed("0.0000917 g")
    assert dosed("1500000 IU").fingerprint == ivory.fingerprint
    assert run(dosed("91.7 µg"), key=KEY) == run(dosed("0.0917 mg"), key=KEY)


def test_a_three_arm_trial_runs_and_compares_each_arm_with_control(ivory: Protocol) -> None:
    low = dataclasses.replace(
        ivory.arm("aldesleukin"),
        name="low dose",
        label="Low dose",
        doses=tuple(dataclasses.replace(dose, amount="0.25 MIU/m2") for dose in ivory.arm("aldesleukin").doses),
    )
    estimands = tuple(dataclasses.replace(one, active=("aldesleukin", "low dose")) for one in ivory.estimands)
    allocation = dataclasses.replace(ivory.allocation, ratio={}, blocks=(3, 6))
    three = ivory.but(arms=(*ivory.arms, low), estimands=estimands, allocation=allocation)
    claims = analyse(three, run(three, key=KEY))
    assert "index vessel TBRmax: low dose against placebo" in claims
    assert "index vessel TBRmax: aldesleukin against placebo" in claims
    lived = potential(three, World(), key=KEY, groups=2, people=40)
    share = {arm: np.nanmean(lived[arm].readings["Treg %", "", "day 54"]) for arm in lived}
    assert share["placebo"] < share["low dose"] < share["aldesleukin"]


def test_missing_readings_are_missing_in_both_forms(ivory: Protocol) -> None:
    records = simulate(ivory, World(), keys.numbered(KEY, "trial", range(3)))
    for trial in range(3):
        tables = records.study(trial).columns(ivory)
        arrays = records.columns()
        assert set(tables.readings) == set(arrays.readings)
        for key, values in arrays.readings.items():
            np.testing.assert_array_equal(values[trial], tables.readings[key])
        for name, values in arrays.covariates.items():
            np.testing.assert_array_equal(values[trial], tables.covariates[name])
        for endpoint in ivory.endpoints:
            np.testing.assert_array_equal(
                outcomes.measured(ivory, arrays, endpoint)[trial], outcomes.measured(ivory, tables, endpoint)
            )
    assert len(results(ivory, records.columns())) == len(ivory.analyses)


def test_the_library_reads_as_the_readme_says(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import quell

    ivory = quell.Protocol.load("ivory")
    study = quell.run(ivory, quell.World(), key=KEY)
    study.write(str(tmp_path / "study"))
    again = quell.Study.read(str(tmp_path / "study"), ivory)
    assert again == study
    claims = quell.analyse(ivory, again)
    assert "index vessel TBRmax" in claims and quell.truth(ivory, key=1)["index vessel TBRmax"].value < 0
    assert quell.page(ivory, again, claims).save(tmp_path / "report.html").stat().st_size > 50_000
    blinded = study.masked()
    assert set(blinded.randomised["arm"]) == {"arm A", "arm B"} and blinded["doses"]["amount"].null_count() == len(
        blinded["doses"]
    )

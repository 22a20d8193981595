"""Laws of protocols and studies: written and read they are the same, units and the order of rows do not matter,
and what was known earlier is part of what was known later."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import pathlib
import tomllib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quell.protocol import Protocol, ProtocolError, built_in
from quell.study import Study
from quell.tables import TABLES

PILOT = pathlib.Path(__file__).parents[2] / "examples" / "cdisc-pilot.toml"
ALL = [*built_in(), str(PILOT)]
LAW = settings(max_examples=30, deadline=None)
ARMS = ("aldesleukin", "placebo")


def declared(name: str) -> dict:
    return tomllib.loads(Protocol.load(name).to_toml())


@pytest.mark.parametrize("name", ALL)
def test_the_canonical_text_reads_back_to_the_same_protocol(name):
    protocol = Protocol.load(name)
    again = Protocol.of(tomllib.loads(protocol.to_toml()))
    assert again == protocol
    assert hash(again) == hash(protocol)
    assert again.to_toml() == protocol.to_toml()
    assert again.fingerprint == protocol.fingerprint


def test_a_protocol_that_extends_another_stands_alone_once_written(tmp_path):
    (tmp_path / "finale.toml").write_text(Protocol.load("ivory-finale").to_toml())
    assert Protocol.load(tmp_path / "finale.toml") == Protocol.load("ivory-finale")


def test_protocols_differ_in_their_fingerprints():
    assert len({Protocol.load(name).fingerprint for name in ALL}) == len(ALL)


@pytest.mark.parametrize(
    "written",
    [
        "1.5 MIU",
        "1500 kIU",
        "1500000 IU",
        "1.5e6 IU",
        "1.50 MIU",
        "0.0916666667 mg",
        "91.6666667 µg",
        "91.6666667 ug",
        "0.0000916666667 g",
    ],
)
def test_one_dose_in_any_unit_is_one_promise(written):
    ivory = declared("ivory")
    ivory["arms"][0]["doses"][0]["amount"] = written
    assert Protocol.of(ivory) == Protocol.load("ivory")
    assert Protocol.of(ivory).fingerprint == Protocol.load("ivory").fingerprint


@LAW
@given(st.integers(1, 40_000))
def test_milligrams_grams_and_micrograms_are_one_dose(micrograms):
    protocols = []
    for written in (f"{micrograms} µg", f"{micrograms / 1000} mg", f"{micrograms / 1_000_000:.9f} g"):
        pilot = declared(str(PILOT))
        pilot["arms"][1]["doses"][0]["amount"] = written
        protocols.append(Protocol.of(pilot))
    assert len({protocol.fingerprint for protocol in protocols}) == 1


@pytest.mark.parametrize(
    ("days", "same"), [("1, 2, 3, 4, 5, 12, 19, 26", "1..5, 12..26 every 7"), ("5,4,3,2,1", "1..5")]
)
def test_days_written_in_any_way_are_one_promise(days, same):
    found = []
    for text in (days, same):
        ivory = declared("ivory")
        for arm in ivory["arms"]:
            arm["doses"][0]["days"] = text
        found.append(Protocol.of(ivory))
    assert found[0] == found[1]


@LAW
@given(
    st.sampled_from(["title", "question", "version", "phase"]),
    st.text(st.characters(exclude_categories=["C"]), min_size=1),
)
def test_any_title_survives_being_written(field, text):
    text = text.strip() or "x"
    protocol = Protocol.load("ivory").but(**{field: text})
    again = Protocol.of(tomllib.loads(protocol.to_toml()))
    assert again == protocol
    assert (again.fingerprint == Protocol.load("ivory").fingerprint) == (getattr(Protocol.load("ivory"), field) == text)


# -- unknown keys, anywhere ------------------------------------------------------------------------------------------
def places(value, path=()):
    """Every table of a declaration, by its path."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from places(item, (*path, at))


# in these, the keys are the user's own
FREE = {"ratio", "flags", "arms", "columns", "where"}
PLACES = [path for path in places(declared(str(PILOT))) if not (path and path[-1] in FREE and path != ("arms",))]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "root")
def test_an_unknown_key_is_named_wherever_it_stands(path):
    pilot = declared(str(PILOT))
    here = pilot
    for step in path:
        here = here[step]
    here["wibbel"] = "x"
    with pytest.raises(
        ProtocolError, match=r"has the key 'wibbel', which quell does not know\. (Did you mean|Known here)"
    ):
        Protocol.of(pilot, where="mine.toml")


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "root")
def test_a_misspelt_key_is_answered_with_the_right_one(path):
    """Each key of each table, with its last letter doubled."""
    for key in list(_at(declared(str(PILOT)), path)):
        pilot = declared(str(PILOT))
        here = _at(pilot, path)
        here[f"{key}{key[-1]}"] = here.pop(key)
        with pytest.raises(ProtocolError) as caught:
            Protocol.of(pilot, where="mine.toml")
        assert f"'{key}'" in str(caught.value)


def _at(value, path):
    for step in path:
        value = value[step]
    return value


# -- studies ---------------------------------------------------------------------------------------------------------
@st.composite
def studies(draw) -> Study:
    """A made study of IVORY: a few people, readings, events, follow-up."""
    people = [f"{at:02}" for at in range(draw(st.integers(1, 8)))]
    start = datetime.date(2021, 1, 1)
    subjects = pl.DataFrame(
        {
            "subject": people,
            "site": [draw(st.sampled_from(["Cambridge", "Papworth"])) for _ in people],
            "arm": [draw(st.sampled_from([*ARMS, None])) for _ in people],
            "enrolled": [start + datetime.timedelta(draw(st.integers(0, 60))) for _ in people],
            "age": [draw(st.floats(18, 85)) for _ in people],
        },
        schema=dict(TABLES["subjects"].columns) | {"age": pl.Float64()},
    )
    visits = [("screening", -3), ("day 5", 5), ("day 61", 61)]
    readings = [
        (who, visit, day, "TBRmax", "index vessel", draw(st.none() | st.floats(1, 4)), "TBR", "measured")
        for who in people
        for visit, day in visits
        if draw(st.booleans())
    ]
    events = [(who, "myocardial infarction", draw(st.integers(1, 90))) for who in people if draw(st.booleans())]
    followed = [(who, "", draw(st.integers(1, 90)), "still followed") for who in people]
    milestones = [(who, "treated", True, draw(st.none() | st.integers(1, 60)), None) for who in people]
    rows = {"readings": readings, "events": events, "followed": followed, "milestones": milestones}
    tables = {
        name: pl.DataFrame(found, schema=dict(TABLES[name].columns), orient="row") for name, found in rows.items()
    }
    return Study(protocol="ivory", tables={"subjects": subjects} | tables)


def shuffled(study: Study, seed: int) -> Study:
    tables = {name: table.sample(fraction=1, shuffle=True, seed=seed) for name, table in study.tables.items()}
    return dataclasses.replace(study, tables=tables)


@LAW
@given(studies(), st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(study, seed):
    other = shuffled(study, seed)
    assert other == study and other.digest == study.digest
    ivory = Protocol.load("ivory")
    one, two = study.columns(ivory), other.columns(ivory)
    place = {who: at for at, who in enumerate(other.randomised["subject"])}
    order = [place[who] for who in study.randomised["subject"]]
    np.testing.assert_array_equal(one.arm, two.arm[order])
    for attribute in ("readings", "covariates", "factors", "events", "followed", "sets"):
        first, second = getattr(one, attribute), getattr(two, attribute)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_array_equal(first[key], second[key][order])
            if first[key].dtype == float:
                np.testing.assert_allclose(np.nansum(first[key]), np.nansum(second[key]), rtol=1e-12)


@LAW
@given(studies(), st.integers(-5, 160), st.integers(0, 60))
def test_what_was_known_earlier_is_part_of_what_was_known_later(study, first, more):
    early = datetime.date(2021, 1, 1) + datetime.timedelta(first)
    late = early + datetime.timedelta(more)
    before, after = study.as_of(early), study.as_of(late)
    for name, table in before.tables.items():
        if name == "followed":
            both = table.join(after[name], on=["subject", "event"], how="left", suffix=" later", nulls_equal=True)
            assert (both["until"] <= both["until later"]).all()
        else:
            assert table.join(after[name], on=table.columns, how="anti", nulls_equal=True).is_empty(), name
    # to look at what was known early from what is known late is to look at it early
    assert after.as_of(early) == before


@LAW
@given(studies())
def test_in_the_end_everything_is_known(study):
    assert study.as_of(datetime.date(2100, 1, 1)) == study
    assert all(table.is_empty() for table in study.as_of(datetime.date(2000, 1, 1)).tables.values())


def test_declaring_a_protocol_leaves_the_declaration_alone():
    ivory = declared("ivory")
    before = copy.deepcopy(ivory)
    Protocol.of(ivory)
    assert ivory == before

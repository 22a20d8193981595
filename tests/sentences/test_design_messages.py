"""Designs that cannot be: the messages say what is wrong, where, and what to write instead."""

import pathlib
import re
from contextlib import AbstractContextManager

import pytest

from quell.design import conduct
from quell.design.declared import Design, DesignError
from quell.design.scene import game


def refused(words: str) -> AbstractContextManager:
    """A DesignError that says so."""
    return pytest.raises(DesignError, match=re.escape(words))


WRONG = [
    ({"primary": {"endpoint": "MACEE"}}, "'MACEE' is no endpoint of protocol 'ivory-3' that is a time to an event. Did you mean 'MACE'?"),
    ({"primary": {"endpoint": "MACE", "reading": "TBRmax, day 61"}}, 'the primary is an endpoint = "MACE" or a reading'),
    ({"colour": 1}, "has the key 'colour', which quell does not know."),
    ({"active": ["aldesleukine"]}, "has no arm 'aldesleukine'. Did you mean 'aldesleukin'?"),
    ({"looks": [{"fraction": 0.5}]}, "the last look is at fraction 0.5 of itself"),
    ({"looks": [{"fraction": 0.5, "events": 10}]}, "a look is at events, fraction, day or people; here it says events and fraction"),
    ({"looks": [{"fraction": 0.9}, {"fraction": 0.5}, {"fraction": 1.0}]}, "Put them in rising order."),
    ({"looks": [{"people": 1.0}]}, "a look when people have been followed up is for measured endpoints."),
    ({"looks": [{"day": "20 years"}]}, "a look comes after the horizon of 8 years."),
    ({"variants": [{"people": 100, "events": 200}]}, "waits for 200 events in 100 people. Add people."),
    ({"variants": [{"people": 100}]}, "has no events. Add events = 300."),
    ({"variants": [{"people": 100, "events": 50}] * 2}, "variants has two entries called '100 people, 50 events'."),
    ({"efficacy": {"by": "posterior"}}, 'needs chance = [0.99, ...]'),
    ({"efficacy": {"function": "obrien"}}, "there is no spending function 'obrien'. Did you mean 'obrien-fleming'?"),
    ({"efficacy": {"function": "kim-demets"}}, "The spending function 'kim-demets' needs a parameter"),
    ({"futility": {"by": "z"}}, "write limit = [0.0]"),
    ({"futility": {"by": "conditional power", "limit": [0.1, 0.2, 0.3, 0.4]}}, "has 4 values for 2 early looks."),
    ({"test": {"method": "restricted mean"}}, "the restricted mean needs a horizon."),
    ({"test": {"method": "ancova"}}, "test.method 'ancova' does not fit the primary endpoint."),
    ({"test": {"method": "max-combo"}}, "Leave one look."),
    ({"test": {"method": "logrank"}}, "Did you mean 'log-rank'?"),
    ({"allocation": {"ratio": [1, 1, 1]}}, "allocation.ratio has 3 shares for 2 arms (placebo, aldesleukin)."),
    ({"allocation": {"block": 3}}, "allocation.block is 3, which 2 shares do not divide."),
    ({"recruitment": {"per_site_per_month": 0}}, "per_site_per_month"),
    ({"resize": {"by": "blinded rate"}}, 'needs finish = "5 years"'),
    ({"resize": {"by": "blinded variance", "sd": 1.0}}, "variance is of measured endpoints"),
    ({"resize": {"by": "promising zone", "look": 3}}, "resize happens at look 3, but only looks 1 to 2 are early."),
    ({"resize": {"by": "promising zone"}, "respond": {"updates": ["1 year"]}}, "a design adapts in one way; here in resize and respond."),
    ({"respond": {"updates": ["2 years", "1 year"]}}, "are not in order of time."),
    ({"select": {"by": "reading"}}, 'needs reading = "TBRmax, day 61"'),
    ({"select": {"by": "z"}}, "chooses among several active arms; here there is one."),
    ({"surrogate": {"reading": "x", "people": 9, "outcome": "after the gate"}}, "needs a gate. Add gate = 0.1"),
    ({"worlds": [{"name": "a"}]}, "world 'a' needs either posterior"),
    ({"worlds": [{"name": "a", "assumed": {"risk": ["11 per cent"]}}]}, "'11 per cent' is not a risk. Write it as '11 % by 2 years'."),
    ({"worlds": [{"name": "a", "assumed": {"risk": ["9 % by 1 year", "8 % by 2 years"]}}]}, "do not rise with time."),
    ({"secondary": {"endpoints": ["mace"]}}, "'mace' is no endpoint"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_design_says_what_is_wrong(change: dict, words: str) -> None:
    declared = Design.load("ivory-3").declared() | change
    with pytest.raises(DesignError) as caught:
        Design.of(declared, where="mine.toml")
    assert words in str(caught.value) and "Traceback" not in str(caught.value)
    assert str(caught.value).startswith("mine.toml: ")


def test_an_unknown_design_is_met_with_the_nearest() -> None:
    with refused("there is no design 'ivory3': no file of that name, and no built-in. Did you mean 'ivory-3'?"):
        Design.load("ivory3")


def test_a_folder_is_no_design(tmp_path: pathlib.Path) -> None:
    with refused("is a folder. Name a design: ivory-3"):
        Design.load(tmp_path)


def test_what_is_not_inherited_cannot_be_left_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nextends = "ivory-3"\nwithout = ["futilty"]\n')
    with refused("goes without 'futilty', which 'ivory-3' does not say. Did you mean 'futility'?"):
        Design.load(path)


def test_designs_that_extend_each_other_in_a_circle_are_refused(tmp_path: pathlib.Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.toml").write_text(f'name = "{name}"\nextends = "{other}.toml"\n')
    with refused("Is there a circle?"):
        Design.load(tmp_path / "a.toml")


def test_a_job_needs_a_known_world_and_the_files_of_its_bank() -> None:
    design = Design.load("ivory-3")
    with refused("has no world 'nul'. Did you mean 'null'?"):
        conduct.Job(design=design, world="nul")
    with refused("world 'after-ivory' needs the files of its bank: give paths."):
        conduct.Job(design=design, world="after-ivory")
    with refused("world 'null' is assumed and has no bank: leave paths out."):
        conduct.Job(design=design, world="null", paths=("a",))
    with refused("has no variant 7."):
        conduct.Job(design=design, world="null", variant=7)


def test_a_limit_on_what_is_not_known_says_what_is() -> None:
    design = Design.load("ivory-3-enrichment").but(worlds=Design.load("ivory-3").worlds)
    with refused("'TBRmax' is not known of the people of world 'null' at entry."):
        game(design, 0, "null", (), 1)

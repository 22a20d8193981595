"""What a person is told when an effect or the inputs of a country cannot be used: what, where, why, and what to do."""

import pathlib

import numpy as np
import pytest

from quell import impact
from quell.impact import effect
from quell.sentences import BadInput

SHIPPED = pathlib.Path(impact.__file__).parent / "impact.toml"


def edited(folder: pathlib.Path, *changes: tuple[str, str]) -> pathlib.Path:
    """The shipped inputs with some text changed."""
    text = SHIPPED.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    place = folder / "mine.toml"
    place.write_text(text, "utf-8")
    return place


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.7", "without an interval the answer would look surer than it is"),
        ("better", "'better' is not a hazard ratio with its interval. Write it as '0.7 (0.5 to 0.98)'"),
        ("1.2 (0.5 to 0.98)", "1.2 (0.5 to 0.98) is not a hazard ratio and its interval"),
        ("0.5 (0 to 0.9)", "three numbers above 0"),
    ],
)
def test_hazard_ratio(text: str, words: str) -> None:
    with pytest.raises(BadInput) as told:
        impact.run(text, draws=10)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "say the effect once"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "effect": effect.of_draws(np.zeros((1, 1)))}, "say the effect once"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "country": "france"}, "there are no inputs for 'france'"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "country": "ukk"}, "Did you mean 'uk'?"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "draws": 1}, "1 draws: write a number from 2 to 20,000"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "price": -1.0}, "a course cannot cost -1"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "lasts": 0.0}, "an effect cannot last 0 years"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "lasts": "two summers"}, "two summers"),
        ({"hazard_ratio": "0.7 (0.5 to 0.9)", "inputs": "nowhere.toml"}, "nowhere.toml cannot be read"),
    ],
)
def test_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(BadInput) as told:
        impact.run(**arguments)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "uptake"', 'name = "uptak"'), "'uptak' is not an input that quell knows. Did you mean 'uptake'?"),
        (("value = 0.5\nunit", "value = 50\nunit"), "a share is at most 1. Is it in per cent? Divide by 100."),
        (("lower = 0.66\n", ""), "it needs lower and upper on either side"),
        (("lower = 0.66", "lower = 0"), "its lower limit lies above 0"),
        (('spread = "lognormal"', 'spread = "lognormall"'), "Did you mean 'lognormal'?"),
        (('evidence = ["E138"]', 'evidence = ["E938"]'), "there is no figure 'E938' in the evidence"),
        (("value = 0.139", "value = 0.05"), "it needs lower and upper on either side"),
        (("value = 67.4", "value = 20"), "the age 20 is outside the life table, which runs from 30 to 100"),
        (("    0.000771,", "    7.71,"), "deaths per person-year: each lies between 0 and 2"),
        (("    0.000771, ", "    "), "70 ages of men and 71 of women"),
        (('name = "ramp_years"', 'name = "uptake"'), "'uptake' is said twice. Keep one."),
        (('unit = "people a year"\n', ""), "lacks 'unit'. Add it."),
        (('title = "United Kingdom"', 'titel = "United Kingdom"'), "Did you mean 'title'?"),
    ],
)
def test_inputs(change: tuple[str, str], words: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(BadInput) as told:
        impact.Inputs.load(edited(tmp_path, change))
    assert words in str(told.value)
    assert "mine.toml" in str(told.value)


def test_names_of_inputs() -> None:
    with pytest.raises(BadInput, match=r"there is no input 'uptaek'\. Did you mean 'uptake'\?"):
        impact.Inputs.load().but(uptaek=0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: impact.of_draws(np.zeros(3), draws=2),
            "log_ratio has the shape (3,). Each is a table of draws by years",
        ),
        (lambda: impact.of_draws(np.zeros((3, 2)), risks=np.ones((3, 1)), draws=2), "risks has the shape (3, 1)"),
        (lambda: impact.of_draws(np.full((2, 2), -np.inf), draws=2), "a hazard ratio of 0 has no logarithm"),
        (lambda: impact.of_draws(np.zeros((2, 2)), risks=-np.ones((2, 2)), draws=2), "risks holds negative hazards"),
        (lambda: impact.of_survival(np.ones((2, 3)), np.ones((2, 3))), "shares between 0 and 1 that fall every year"),
    ],
)
def test_tables_of_draws(make, words: str) -> None:
    with pytest.raises(BadInput) as told:
        make()
    assert words in str(told.value)

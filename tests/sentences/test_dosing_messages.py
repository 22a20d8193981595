"""What a user is told who asks for a dose and schedule that cannot be sought."""

import pydantic
import pytest

from quell.design import dosing
from quell.design.dosing_aim import Aim, Limits, Worth, ask, burden, limits
from quell.protocol import Protocol
from quell.sentences import BadInput


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"horizon": "3 days"}, "4 weeks to 10 years"),
        ({"horizon": "2 yers"}, "yers"),
        ({"population": "ivry"}, "Did you mean 'ivory'?"),
        ({"stage": "after-ivry"}, "Did you mean 'after-ivory'?"),
        ({"intervals": (0,)}, "whole days from 1 to 365"),
        ({"loading": (40,)}, "from 0 to 28"),
        ({"horizon": "8 weeks", "courses": ("6 months",), "loading": (0,)}, "no schedule ends within the horizon"),
        ({"intervals": (1,), "courses": ("2 years",)}, "at most 400"),
        ({"intervals": tuple(range(3, 30)), "courses": ("8 weeks", "6 months")}, "Name fewer"),
    ],
)
def test_a_sentence(asked, words):
    with pytest.raises(BadInput) as told:
        ask(**asked)
    assert words in str(told.value) and "pydantic" not in str(told.value)


def test_limits_and_worth_have_bounds():
    with pytest.raises(pydantic.ValidationError):
        Limits(fever=1.5)
    with pytest.raises(pydantic.ValidationError):
        Worth(injections=0)


def test_a_protocol_of_another_drug_is_refused_before_anything_is_lived(monkeypatch):
    protocol = Protocol.load("ivory")
    monkeypatch.setattr(dosing.dosing_curves, "curves", lambda *a: pytest.fail("lived before it was checked"))
    monkeypatch.setattr(dosing.trial, "lay_out", lambda p: (_ for _ in ()).throw(BadInput("another drug")))
    with pytest.raises(BadInput, match="another drug"):
        dosing.optimise(Aim(), protocol=protocol)


@pytest.mark.parametrize(
    ("read", "given", "words"),
    [
        (burden, "many injections", "cannot be read"),
        (burden, "10 fever", "Did you mean 'fevers'?"),
        (burden, "0 fevers", "above 0"),
        (limits, ["teff"], "Write it as 'teff=10 %'"),
        (limits, ["tef=10 %"], "Did you mean 'teff'?"),
        (limits, ["fever=300 %"], "fever"),
    ],
)
def test_words_that_cannot_be_read(read, given, words):
    with pytest.raises(BadInput) as told:
        read(given)
    assert words in str(told.value)


def test_what_is_not_named_keeps_its_default():
    assert burden("100 fevers") == Worth(fevers=100) and limits(["teff=none"]) == Limits(teff=None)

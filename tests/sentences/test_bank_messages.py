"""What a person reads who asks a bank for what it cannot give, or hands it a damaged one."""

import pytest

from quell.design import assumed, bank
from quell.design.parts import Assumed, World
from quell.protocol import Protocol
from quell.sentences import BadInput

IVORY = Protocol.load("ivory")
NOW = World(name="now", posterior="after-ivory")


def recipe(**changes):
    return bank.recipe(
        IVORY, changes.pop("world", NOW), **{"draws": 2, "people": 6, "horizon": 100, "key": 1} | changes
    )


@pytest.fixture(scope="module")
def whole():
    return bank.shard(recipe(), 0)


def test_a_recipe_that_cannot_be_followed():
    with pytest.raises(BadInput, match=r"visits go to day 68.*between them"):
        recipe(horizon=60)
    with pytest.raises(BadInput, match=r"there are 1500. Ask for 1 to 1500"):
        recipe(draws=2000)
    with pytest.raises(BadInput, match=r"Ask for 1 to 10000"):
        recipe(people=0)
    with pytest.raises(BadInput, match=r"assumed: nobody lives in it"):
        recipe(world=World(name="said", assumed=Assumed(risk=("11 % by 2 years",))))


@pytest.mark.parametrize("where", [10, 1000, -200, -20, -3])
def test_a_shard_in_which_one_byte_was_changed(tmp_path, whole, where):
    path = tmp_path / "shard.parquet"
    damaged = bytearray(whole)
    damaged[where] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=r"shard.parquet, a shard of the bank, is cut off or was changed.*made anew"):
        bank.read([path])


@pytest.mark.parametrize("length", [0, 4, 500, -1])
def test_a_shard_that_is_cut_off(tmp_path, whole, length):
    path = tmp_path / "shard.parquet"
    path.write_bytes(whole[:length])
    with pytest.raises(BadInput, match=r"cut off"):
        bank.read([path])


def test_shards_that_are_not_one_bank(tmp_path, whole, monkeypatch):
    one, other, absent = tmp_path / "one", tmp_path / "other", tmp_path / "absent"
    one.write_bytes(whole)
    with pytest.raises(BadInput, match=r"absent, a shard of the bank, cannot be read"):
        bank.read([one, absent])
    other.write_bytes(bank.shard(recipe(key=2), 0))
    with pytest.raises(BadInput, match=r"two banks"):
        bank.read([one, other])
    with pytest.raises(BadInput, match=r"named twice"):
        bank.read([one, one])
    with pytest.raises(BadInput, match=r"without shards"):
        bank.read([])
    monkeypatch.setattr(bank, "SHARD", 1)
    other.write_bytes(bank.shard(recipe(key=3), 1))
    with pytest.raises(BadInput, match=r"2 shards, of which number 0 is missing"):
        bank.read([other])


def test_causes_arms_and_scales_that_nobody_knows():
    found = assumed.bank(
        Assumed(risk=("11 % by 2 years",)), ("placebo", "drug"), causes=("infarction",), horizon=731, people=4
    )
    fates = bank.fates(found, (("infarction", "stroke"),))
    with pytest.raises(BadInput, match=r"'infraction' is no cause.*infarction"):
        bank.fates(found, (("infraction",),))
    with pytest.raises(BadInput, match=r"two groups"):
        bank.fates(found, (("stroke",), ("infarction", "stroke")))
    with pytest.raises(BadInput, match=r"group of causes is empty"):
        bank.fates(found, ((),))
    with pytest.raises(BadInput, match=r"under an arm 'drugg'.*drug"):
        bank.true_effect(found, "placebo", "drugg", 700, "hazard ratio", of=("infarction",))
    with pytest.raises(BadInput, match=r"arms by number"):
        bank.true_effect(fates, "placebo", "drug", 700, "hazard ratio")
    with pytest.raises(BadInput, match=r"scale 'hazard'.*hazard ratio"):
        bank.true_effect(found, 0, 1, 700, "hazard", of=("infarction",))
    with pytest.raises(BadInput, match=r"no reading 'TBR'"):
        bank.true_effect(found, 0, 1, 700, "difference in means", of="TBR")
    with pytest.raises(BadInput, match=r"cause 'stroke' is in no group of its own"):
        bank.true_effect(fates, 0, 1, 700, "hazard ratio", of=("stroke",))
    with pytest.raises(BadInput, match=r"no time in it"):
        bank.true_effect(fates, 0, 1, 0, "hazard ratio")


def test_assumptions_that_contradict_themselves():
    def made(causes, **said):
        return assumed.bank(
            Assumed(risk=("11 % by 2 years",), **said), ("placebo",), causes=causes, horizon=731, people=4
        )

    with pytest.raises(BadInput, match=r"'strok' is no cause.*stroke"):
        made(("infarction",), shares={"strok": 0.5})
    with pytest.raises(BadInput, match=r"'stroke', which is not in the primary"):
        made(("infarction",), shares={"stroke": 0.5})
    with pytest.raises(BadInput, match=r"add up to 0.5"):
        made(("infarction",), shares={"infarction": 0.5})
    with pytest.raises(BadInput, match=r"other deaths alone"):
        made(("other_death",))

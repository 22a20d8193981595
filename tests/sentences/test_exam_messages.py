"""What a user is told who asks ``quell exam`` for something that cannot be."""

import pytest

from quell import exam_verb
from quell.exam import worlds
from quell.sentences import BadInput
from quell.trial import World


def asked(**more):
    return exam_verb.exam(**({"folder": None, "trials": 4, "world": "prior", "tell": lambda step, share: None} | more))


def test_an_unknown_world_is_named_with_its_neighbour():
    with pytest.raises(BadInput, match=r"there is no world 'priar'\. Did you mean 'prior'\?"):
        asked(world="priar")


def test_a_file_is_no_folder_and_no_work_is_done_for_it(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(BadInput, match="is a file; results need a folder"):
        asked(folder=tmp_path / "taken", trials=10**9)


def test_the_folder_holds_page_numbers_and_data(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "before", World().drawn)  # the prior itself takes longer and is not what this is about
    told = asked(folder=tmp_path / "out", trials=6)
    assert {"report.html", "exam.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert told["lines"][0].startswith("Of ") and told["lines"][-1].startswith("report: ")
    assert (tmp_path / "out" / "data" / "exam.csv").is_file()

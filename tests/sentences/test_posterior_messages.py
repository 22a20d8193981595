"""A file of draws that was cut, changed, or made for other tables is refused in a sentence; so is a world that is none."""

import json
import pathlib
import shutil

import numpy as np
import polars as pl
import pytest

import quell
from quell import posterior
from quell.calibrate import diagnose
from quell.posterior import PosteriorError
from quell.sentences import BadInput
from quell.trial import World

SHIPPED = pathlib.Path(posterior.__file__).parent / "before-ivory.parquet"


def refused(path: pathlib.Path) -> str:
    with pytest.raises(PosteriorError) as raised:
        posterior.read(path)
    message = str(raised.value)
    assert isinstance(raised.value, BadInput) and "Traceback" not in message and message.endswith("quell calibrate.")
    return message


@pytest.fixture
def copy(tmp_path):
    return pathlib.Path(shutil.copy(SHIPPED, tmp_path / "mine.parquet"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_file(copy, share):
    content = copy.read_bytes()
    copy.write_bytes(content[: int(len(content) * share)])
    assert "mine.parquet" in refused(copy)


def test_a_file_that_is_not_there(tmp_path):
    assert refused(tmp_path / "none.parquet").startswith("none.parquet is not there.")


def test_a_flipped_byte(copy):
    """Wherever it falls, nothing of the file is used, or it held nothing that matters."""
    content, whole = copy.read_bytes(), posterior.load("before-ivory")
    for place in np.linspace(4, len(content) - 9, 5).astype(int):
        changed = bytearray(content)
        changed[place] ^= 0x40
        copy.write_bytes(bytes(changed))
        try:
            assert (posterior.read(copy).values == whole.values).all()
        except PosteriorError as error:
            assert "mine.parquet" in str(error)


def rewritten(copy: pathlib.Path, change, **said) -> None:
    told = json.loads(pl.read_parquet_metadata(copy)[posterior.LABEL]) | said
    table = change(pl.read_parquet(copy))
    table.write_parquet(copy, metadata={posterior.LABEL: json.dumps(told)})


def test_one_number_changed(copy):
    rewritten(
        copy,
        lambda table: table.with_columns(
            pl.when(pl.int_range(pl.len()) == 7).then(0.5).otherwise(pl.col("growth")).alias("growth")
        ),
    )
    assert "was changed after it was made" in refused(copy)


def test_rows_left_out(copy):
    rewritten(copy, lambda table: table.head(20))
    assert "was changed after it was made" in refused(copy)


def test_another_column_with_a_digest_of_its_own(copy):
    def change(table):
        return table.rename({"growth": "groth"})

    rewritten(copy, change, draws=posterior.digest_of_draws(change(pl.read_parquet(copy))))
    message = refused(copy)
    assert "other constants" in message and "groth" in message


def test_a_number_that_is_none_with_a_digest_of_its_own(copy):
    def change(table):
        return table.with_columns(growth=pl.lit(float("nan")))

    rewritten(copy, change, draws=posterior.digest_of_draws(change(pl.read_parquet(copy))))
    assert "not a number" in refused(copy)


def test_no_provenance(copy):
    pl.read_parquet(copy).write_parquet(copy)
    assert "does not say where its draws come from" in refused(copy)


def test_too_many_bytes(copy, monkeypatch):
    monkeypatch.setattr(posterior, "MOST_BYTES", 1000)
    assert "at most 1,000" in refused(copy)


def test_a_stage_and_a_world_that_do_not_exist():
    with pytest.raises(BadInput, match="Did you mean 'before-ivory'"):
        posterior.load("before-ivry")
    with pytest.raises(BadInput, match="Did you mean 'after-ivory'"):
        World("after-ivry")
    with pytest.raises(BadInput, match="efficacy"):
        World("before-ivory").without("eficacy")


def test_provenance_says_version_key_and_digests():
    told = posterior.load("before-ivory").provenance
    assert told["stage"] == "before-ivory" and isinstance(told["key"], int)
    assert told["tables"] == posterior.digest_of_tables() and len(told["draws"]) == 64
    assert told["version"] and quell.__version__


def test_what_failed_is_named():
    one = diagnose.Diagnosis(("growth", "niche"), np.array([1.0, 1.05]), np.array([900.0, 900]), np.array([120.0, 900]))
    assert diagnose.faults(one, 3) == [
        "growth: its tail has 120 effective draws, fewer than 400. Draw longer chains.",
        "niche: R-hat is 1.050, above 1.01: the chains disagree. Draw longer chains.",
        "3 divergent transitions: part of the posterior was not explored. Take smaller steps.",
    ]


def test_nothing_is_unpickled(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap.parquet").write_bytes(pickle.dumps(Trap()))
    refused(tmp_path / "trap.parquet")
    assert not (tmp_path / "sprung").exists()

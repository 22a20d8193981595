"""What a user is told whose file of the link from inflammation to events is damaged, altered, or of other evidence."""

import json

import polars as pl
import pytest

from quell.calibrate import link
from quell.posterior import LABEL, PosteriorError, digest_of_draws


@pytest.fixture
def copy(tmp_path):
    link.write(tmp_path / link.FILE, link.shipped())
    return tmp_path / link.FILE


def refused(path):
    with pytest.raises(PosteriorError) as error:
        link.read(path)
    said = str(error.value)
    assert said.startswith("link.parquet") and said.endswith("Make it again: quell calibrate.")
    return said


def rewritten(path, table, **changed):
    told = json.loads(pl.read_parquet_metadata(path)[LABEL]) | changed
    table.write_parquet(path, metadata={LABEL: json.dumps(told)})


def test_a_file_that_is_whole_is_read(copy):
    assert (link.read(copy).effects == link.shipped().effects).all()


def test_a_missing_file(tmp_path):
    assert refused(tmp_path / link.FILE) == "link.parquet is not there. Make it again: quell calibrate."


def test_a_truncated_file(copy):
    copy.write_bytes(copy.read_bytes()[:-2000])
    refused(copy)


def test_a_file_without_provenance(copy):
    pl.read_parquet(copy).write_parquet(copy)
    assert "does not say where its draws come from" in refused(copy)


def test_a_draw_that_was_changed(copy):
    table = pl.read_parquet(copy).with_columns(new=pl.col("new") + 0.01)
    rewritten(copy, table)
    assert "was changed after it was made" in refused(copy)


def test_other_columns_and_uneven_chains(copy):
    table = pl.read_parquet(copy)
    fewer = table.drop("new")
    rewritten(copy, fewer, draws=digest_of_draws(fewer))
    assert "does not hold the draws of the link" in refused(copy)
    rewritten(copy, table[1:], draws=digest_of_draws(table[1:]))
    assert "chains of different lengths" in refused(copy)


def test_other_comparisons(copy):
    rewritten(copy, pl.read_parquet(copy), comparisons="0" * 64)
    assert "follows from other published comparisons" in refused(copy)


def test_provenance_that_is_no_number(copy):
    rewritten(copy, pl.read_parquet(copy), divergences="many")
    assert "does not say where its draws come from" in refused(copy)

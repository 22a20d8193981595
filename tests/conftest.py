"""Shared by all tests: the cache of compiled programs, property-test settings, and where reference data may be."""

import os
import pathlib

import hypothesis
import pytest

from quell import store

store.keep()

hypothesis.settings.register_profile("quick", max_examples=40, deadline=None, derandomize=True)
hypothesis.settings.load_profile("quick")

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def reference_data() -> pathlib.Path:
    """The folder of reference data nobody on this project wrote; the test is skipped where it is absent."""
    folder = pathlib.Path(os.environ.get("QUELL_REFERENCE_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the reference data are not here: set QUELL_REFERENCE_DATA")
    return folder

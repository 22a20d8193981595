"""The Python in docs/questions runs."""

import pathlib
import re

import pytest

from quell import protocol

PAGES = sorted((pathlib.Path(protocol.__file__).parents[2] / "docs" / "questions").glob("*.md"))
CODE = [
    (page.name, code) for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
]


@pytest.mark.parametrize(("name", "code"), CODE)
def test_the_code_of_a_page_runs(name, code, tmp_path, monkeypatch):
    if "STUDY" in code or "study/" in code:
        pytest.skip("needs the user's own study")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {})

"""The command line as a person meets it: results where they were asked for, mistakes answered in a sentence, exit code 2."""

import contextlib
import dataclasses
import io
import json
import pathlib
import subprocess
import sys

import polars as pl
import pytest

from quell.cli import main
from quell.protocol import Protocol


@dataclasses.dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def quell(*arguments: str | pathlib.Path) -> Done:
    """The command line, called in this process as the shell would call it."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["quell", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


def test_the_installed_program_is_the_same() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "quell", "run", "ivroy"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "Did you mean 'ivory'?" in result.stderr and "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, pathlib.Path]:
    """One run of IVORY: its JSON and its folder."""
    folder = tmp_path_factory.mktemp("ivory")
    result = quell("run", "ivory", "--out", folder, "--key", 7, "--repeats", 4, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), folder


def refused(result: Done, *words: str) -> str:
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    return result.stderr


def test_run_prints_one_json_object_and_nothing_else(done: tuple[dict, pathlib.Path]) -> None:
    found, folder = done
    assert found["protocol"] == "ivory" and found["key"] == 7
    assert found["fingerprint"] == Protocol.load("ivory").fingerprint
    keys = [
        "name",
        "estimand",
        "method",
        "estimate",
        "se",
        "lower",
        "upper",
        "level",
        "statistic",
        "df",
        "p",
        "n",
        "unit",
        "warnings",
    ]
    for claim in found["claims"]:
        assert set(keys) <= set(claim), claim["name"]
    assert (folder / "report.html").stat().st_size > 50_000
    assert json.loads((folder / "results.json").read_text())["claims"] == found["claims"]


def test_run_warns_once_of_what_was_not_studied_and_says_what_it_may_be_used_for(
    done: tuple[dict, pathlib.Path],
) -> None:
    found, folder = done
    (warning,) = found["warnings"]
    assert "54 days; studied 1 to 5" in warning and (folder / "report.html").read_text().count(warning) == 1
    assert {"question", "use", "influence", "consequence", "verification", "validation"} <= set(found["credibility"])


def test_the_study_written_is_analysed_to_the_same_claims(
    done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path
) -> None:
    found, folder = done
    result = quell("analyse", folder / "study", "--protocol", folder / "protocol.toml", "--out", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    again = json.loads(result.stdout)
    assert again["key"] is None and again["fingerprint"] == found["fingerprint"]
    for before, after in zip(found["claims"], again["claims"], strict=True):
        assert after["name"] == before["name"] and after["n"] == before["n"]
        assert after["estimate"] == pytest.approx(before["estimate"], rel=1e-9)
        assert after["p"] == pytest.approx(before["p"], rel=1e-6)


def test_the_same_key_writes_the_same_bytes(done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path) -> None:
    _, folder = done
    assert quell("run", "ivory", "--out", tmp_path, "--key", 7, "--repeats", 4).returncode == 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "results.json":  # results.json names the folder it is in
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_check_knows_what_things_are(done: tuple[dict, pathlib.Path]) -> None:
    _, folder = done
    for what in (
        "ivory",
        "ivory-finale",
        folder / "protocol.toml",
        folder / "study",
        folder / "study" / "readings.csv",
    ):
        result = quell("check", what, "--json")
        assert result.returncode == 0, (what, result.stderr)
        assert json.loads(result.stdout)["problems"] == []


def edited(folder: pathlib.Path, tmp_path: pathlib.Path, old: str, new: str) -> pathlib.Path:
    text = (folder / "protocol.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('route = "subcutaneous"', 'ruote = "subcutaneous"', ("ruote", "Did you mean 'route'?")),
        ('amount = "1.5 MIU"', 'amount = "1.5 mg/L"', ("1.5 mg/L", "concentration")),
        ('amount = "1.5 MIU"', 'amount = "1.5 MUI"', ("MUI", "Did you mean 'MIU'?")),
        ('amount = "1.5 MIU"', 'amount = "1.5"', ("has no unit",)),
        ("day = 12\n", "day = -30\n", ("before the baseline visit",)),
        ("planned = 63", 'planned = "sixty"', ("planned", "sixty")),
        ('method = "ancova"', 'method = "ancovva"', ("Did you mean 'ancova'?",)),
        ('name = "ivory"', "name = ", ("is not TOML",)),
    ],
)
def test_a_wrong_protocol_is_answered_in_a_sentence(
    done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    path = edited(done[1], tmp_path, old, new)
    refused(quell("check", path), *words)
    refused(quell("run", path, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_an_arm_without_doses(done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path) -> None:
    import tomllib

    import tomli_w

    declared = tomllib.loads((done[1] / "protocol.toml").read_text())
    del declared["arms"][0]["doses"]
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(declared))
    refused(quell("check", path), "arm 'aldesleukin' has no doses", "untreated = true")


def test_no_such_protocol_and_an_empty_file(tmp_path: pathlib.Path) -> None:
    refused(quell("run", "ivroy"), "ivroy", "Did you mean 'ivory'?")
    empty = tmp_path / "empty.toml"
    empty.touch()
    refused(quell("check", empty), "is empty")
    refused(
        quell("run", pathlib.Path(__file__).parents[2] / "examples" / "cdisc-pilot.toml"),
        "xanomeline",
        "virtual bodies know only aldesleukin",
    )


def spoiled(folder: pathlib.Path, tmp_path: pathlib.Path, table: str, change) -> pathlib.Path:  # type: ignore[no-untyped-def]
    study = tmp_path / "study"
    study.mkdir()
    for path in (folder / "study").glob("*.csv"):
        frame = pl.read_csv(path, infer_schema=False)
        (change(frame) if path.stem == table else frame).write_csv(study / path.name)
    return study


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("readings", lambda t: t.drop("quantity"), ("readings", "quantity")),
        ("subjects", lambda t: pl.concat([t, t.head(1)]), ("subjects", "more than once")),
        ("subjects", lambda t: t.with_columns(enrolled=pl.lit("2024-02-30")), ("enrolled", "2024-02-30")),
        ("subjects", lambda t: t.with_columns(arm=pl.col("arm").replace("placebo", "plaecbo")), ("plaecbo", "placebo")),
        ("readings", lambda t: t.with_columns(value=pl.lit("high")), ("value", "high")),
        ("readings", lambda t: t.with_columns(subject=pl.lit("nobody")), ("nobody",)),
        ("events", lambda t: t.with_columns(day=pl.lit("soon")), ("day", "soon")),
    ],
)
def test_a_spoiled_study_is_answered_in_a_sentence(done, tmp_path, table, change, words) -> None:  # type: ignore[no-untyped-def]
    study = spoiled(done[1], tmp_path, table, change)
    refused(quell("analyse", study, "--protocol", "ivory", "--out", tmp_path / "out"), *words)
    refused(quell("check", study, "--protocol", "ivory"), *words)
    assert not (tmp_path / "out").exists()


def test_an_empty_table_and_a_missing_folder(done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path) -> None:
    study = spoiled(done[1], tmp_path, "", lambda t: t)
    (study / "readings.csv").write_bytes(b"")
    refused(quell("analyse", study, "--protocol", "ivory"), "readings.csv", "empty")
    refused(quell("analyse", tmp_path / "nowhere", "--protocol", "ivory"), "nowhere")


def test_a_giant_cell_is_refused_quickly(done: tuple[dict, pathlib.Path], tmp_path: pathlib.Path) -> None:
    study = spoiled(done[1], tmp_path, "", lambda t: t)
    with (study / "events.csv").open("w") as file:
        file.write("subject,event,day\nivory-0001,")
        for _ in range(64):
            file.write("x" * 1_000_000)
        file.write(",12\n")
    refused(quell("analyse", study, "--protocol", "ivory"), "events.csv")


def test_results_never_replace_a_file_by_a_folder(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "taken"
    place.write_text("mine")
    refused(quell("run", "ivory", "--out", place, "--repeats", 0), "is a file")
    assert place.read_text() == "mine"

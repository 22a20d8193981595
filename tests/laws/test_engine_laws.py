"""What is carried out is the same whatever carries it out, and whoever is killed on the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import dask
import psutil
import pytest

from quell.design import cluster, engine, sealed
from quell.design.engine import LOCAL, Engine, Task, carry_out
from quell.sentences import BadInput
from tests.laws import labour

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = range(12)


def chains(seconds: float = 0.0) -> list[Task]:
    return [Task(f"chain-{number}", (number, seconds)) for number in NUMBERS]


def files(folder: pathlib.Path) -> dict[str, bytes]:
    """All that is in a folder, the list of digests included."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> dict[str, bytes]:
    """What one thread makes of the chains."""
    folder = tmp_path_factory.mktemp("plain")
    carry_out(labour.chain, chains(), folder, engine=Engine(workers=1))
    return files(folder)


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two workers in processes of their own."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(cluster, "_keys", lambda: None)  # else only their own client could reach them
        yield cluster.processes(2, stack).cluster.scheduler_address


@contextlib.contextmanager
def program(code: str, *arguments: str, where: pathlib.Path = ROOT):
    """A Python process of its own, with all the processes it starts; none of them outlives the test."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, sys.path)]))
    command = [sys.executable, "-c", code, *arguments] if "\n" in code else [sys.executable, "-m", code, *arguments]
    started = subprocess.Popen(
        command,
        cwd=where,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        started.stdout.close()


def until(happened, seconds: float = 60.0) -> None:
    """Wait for something to happen, or fail."""
    late = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < late, "it did not happen"
        time.sleep(0.02)


# Here


@pytest.mark.parametrize("workers", [2, 5, 32])
def test_any_number_of_threads_gives_the_same_files(plain, workers, tmp_path):
    carry_out(labour.chain, chains(), tmp_path / "out", engine=Engine(workers=workers))
    assert files(tmp_path / "out") == plain


def test_any_order_of_tasks_gives_the_same_files_and_paths_in_that_order(plain, tmp_path):
    tasks = chains()[::-1]
    found = carry_out(labour.chain, tasks, tmp_path / "out")
    assert [path.name for path in found] == [task.name for task in tasks]
    assert files(tmp_path / "out") == plain


def test_the_list_of_digests_is_what_sha256sum_reads(plain):
    lines = [line.split("  ") for line in plain["SHA256SUMS"].decode().splitlines()]
    assert {name: known for known, name in lines} == {
        name: hashlib.sha256(data).hexdigest() for name, data in plain.items() if name != "SHA256SUMS"
    }


def spoil_cut(folder: pathlib.Path) -> None:
    path = folder / "chain-3"
    path.write_bytes(path.read_bytes()[:-1])


def spoil_altered(folder: pathlib.Path) -> None:
    path = folder / "chain-3"
    path.write_bytes(b"x" + path.read_bytes()[1:])


def spoil_missing(folder: pathlib.Path) -> None:
    (folder / "chain-3").unlink()


def spoil_line(folder: pathlib.Path) -> None:
    path = folder / "SHA256SUMS"
    lines = path.read_text().splitlines(keepends=True)
    last = next(line for line in lines if line.endswith("chain-3\n"))
    path.write_text("".join(line for line in lines if line != last) + last[:40])


@pytest.mark.parametrize("spoil", [spoil_cut, spoil_altered, spoil_missing, spoil_line])
def test_only_what_is_not_whole_is_made_again(plain, spoil, tmp_path):
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    tasks = [Task(f"chain-{number}", (number, str(made))) for number in NUMBERS]
    carry_out(labour.recorded, tasks, out)
    spoil(out)
    carry_out(labour.recorded, tasks, out)
    counts = {path.name: path.read_text().count("made") for path in made.iterdir()}
    assert counts == {str(number): 2 if number == 3 else 1 for number in NUMBERS}
    assert files(out) == plain


def test_a_larger_run_begins_with_what_a_smaller_one_left(plain, tmp_path):
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    tasks = [Task(f"chain-{number}", (number, str(made))) for number in NUMBERS]
    carry_out(labour.recorded, tasks[:5], out)
    said: list[float | None] = []
    carry_out(labour.recorded, tasks, out, tell=lambda step, share: said.append(share))
    assert all(path.read_text() == "made\n" for path in made.iterdir())
    assert said == [None, *(done / 12 for done in range(6, 13))]
    assert files(out) == plain


def test_no_more_is_in_memory_than_the_crew_is_wide(tmp_path):
    """Results that wait for a slow disk are bounded: at most two for each thread are made or waiting."""
    begun, kept, most = [0], [0], [0]
    lock = threading.Lock()

    def work(number: int) -> bytes:
        with lock:
            begun[0] += 1
            most[0] = max(most[0], begun[0] - kept[0])
        return b"x"

    def slowly(step: str, share: float | None) -> None:
        time.sleep(0.002)
        kept[0] = round(share * 60) if share else 0  # told after each is on the disk

    carry_out(work, [Task(str(n), (n,)) for n in range(60)], tmp_path, engine=Engine(workers=3), tell=slowly)
    assert 3 <= most[0] <= 2 * 3 + 1  # one more while the disk has it and the count is not yet told


def test_an_error_of_the_work_is_raised_as_itself_and_what_is_finished_is_kept(tmp_path):
    tasks = [Task(str(number), (number, KeyError)) for number in range(8)]
    with pytest.raises(KeyError, match="this is mine"):
        carry_out(labour.failing, tasks, tmp_path, engine=Engine(workers=1))
    assert {"0", "1", "2"} <= set(files(tmp_path)) and "3" not in files(tmp_path)


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", ".hidden", "-x", "SHA256SUMS", "sha256sums", "a\nb", "a b", "x" * 201]
)
def test_a_name_that_is_not_allowed_is_refused_before_any_work(name, tmp_path):
    with pytest.raises(ValueError, match="is no name for a result"):
        carry_out(labour.chain, [Task("good", (1,)), Task(name, (2,))], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_results_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two results are called 'a'"):
        carry_out(labour.chain, [Task("a", (1,)), Task("a", (2,))], tmp_path)


def test_work_that_gives_no_bytes_is_refused(tmp_path):
    with pytest.raises(TypeError, match="gives bytes, not str"):
        carry_out(str, [Task("a", (1,))], tmp_path)


def test_time_left_is_judged_by_what_this_run_has_done(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    said: list[str] = []
    clock = engine.Clock("chunks", 10, 8, lambda step, share: said.append(step))
    now[0] += 50  # starting
    clock.start()
    for _ in range(3):
        now[0] += 10
        clock.one_more()
    assert said == [
        "chunks: 3 of 10, about 70 seconds left",
        "chunks: 4 of 10, about 60 seconds left",
        "chunks: 5 of 10, about 50 seconds left",
    ]


def test_the_engine_of_this_machine_does_not_wake_dask():
    code = (
        "import sys\nimport pathlib, tempfile\nfrom quell.design.engine import Task, carry_out\n"
        "carry_out(bytes, [Task('a', (3,))], pathlib.Path(tempfile.mkdtemp()))\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)\n"
    )
    with program(code) as started:
        assert started.wait(60) == 0, started.stdout.read()


INTERRUPTED = """
import sys, pathlib
from quell.design.engine import Task, carry_out, named
from tests.laws import labour
tasks = [Task(f"chain-{n}", (n, 0.3)) for n in range(40)]
try:
    carry_out(labour.chain, tasks, pathlib.Path(sys.argv[1]), engine=named(sys.argv[2], 2))
except KeyboardInterrupt as stopped:
    print(stopped)
"""


@pytest.mark.parametrize("name", ["local", pytest.param("dask", marks=pytest.mark.slow)])
def test_an_interrupt_keeps_what_is_finished_and_says_so(name, tmp_path):
    with program(INTERRUPTED, str(tmp_path), name) as started:
        until(lambda: len(list(tmp_path.glob("chain-*"))) >= 3)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to it and to all that it started
        said, _ = started.communicate(timeout=60)
    assert said.splitlines()[-1].startswith("tasks: "), said
    assert said.endswith(
        "of 40: interrupted. What was finished is kept: run the same command again, and it goes on from there.\n"
    )
    assert "Traceback" not in said
    whole = sealed.Sealed(tmp_path)
    assert all(whole.holds(path.name) for path in tmp_path.glob("chain-*"))


# By workers elsewhere


def test_a_scheduler_gives_the_same_files(plain, scheduler, tmp_path):
    carry_out(labour.chain, chains(), tmp_path, engine=engine.named(scheduler))
    assert files(tmp_path) == plain


@pytest.mark.parametrize("kind", [KeyError, OSError, BadInput, ModuleNotFoundError])
def test_an_error_of_a_workers_work_is_raised_as_itself(kind, scheduler, tmp_path):
    tasks = [Task(str(number), (number, kind)) for number in range(8)]
    with pytest.raises(kind, match="this is mine"):
        carry_out(labour.failing, tasks, tmp_path, engine=engine.named(scheduler))


def test_a_worker_that_would_give_other_numbers_is_refused(scheduler, tmp_path, monkeypatch):
    other = tuple((what, "0.0.1" if what == "numpy" else known) for what, known in cluster.errands.identity())
    monkeypatch.setattr(cluster.errands, "identity", lambda: other)
    with pytest.raises(
        BadInput, match=r"would not give the same numbers: it has numpy \d.*, not 0\.0\.1\. Have the same"
    ):
        carry_out(labour.chain, chains(), tmp_path, engine=engine.named(scheduler))


def test_workers_that_see_the_disk_read_it(scheduler, tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"a shard")
    out = tmp_path / "out"
    carry_out(labour.reading, [Task("a", (str(path),))], out, engine=engine.named(scheduler), reads=[path])
    assert (out / "a").read_bytes() == b"read a shard"


@pytest.mark.slow
def test_four_workers_give_the_same_files_and_so_do_those_that_are_killed(plain, tmp_path):
    carry_out(labour.chain, chains(), tmp_path / "four", engine=Engine(name="dask", workers=4))
    assert files(tmp_path / "four") == plain
    marks = tmp_path / "marks"
    marks.mkdir()
    tasks = [Task(f"chain-{n}", (n, str(marks), int(n in (2, 5)))) for n in NUMBERS]
    carry_out(labour.deadly, tasks, tmp_path / "killed", engine=Engine(name="dask", workers=4))
    assert len(list(marks.iterdir())) == 2  # two workers died
    assert files(tmp_path / "killed") == plain


@pytest.mark.slow
def test_work_at_which_every_worker_dies_is_given_up_in_a_sentence(tmp_path):
    once = dask.config.set({"distributed.scheduler.allowed-failures": 0})  # else four of them, each time
    with (
        once,
        pytest.raises(BadInput, match=r"Every worker that was given 'a' died at it\. Do they have enough memory"),
    ):
        carry_out(
            labour.deadly, [Task("a", (1, str(tmp_path), 99))], tmp_path / "out", engine=Engine(name="dask", workers=1)
        )
    assert len(list(tmp_path.glob("1-*"))) == cluster.DEATHS


KILLED = """
import sys, pathlib
from quell.design.engine import Task, carry_out, named
from tests.laws import labour
tasks = [Task(f"chain-{n}", (n, sys.argv[2])) for n in range(12)]
if __name__ == "__main__":
    carry_out(labour.recorded, tasks, pathlib.Path(sys.argv[1]), engine=named(sys.argv[3], 1))
"""


@pytest.mark.parametrize("name", ["local", pytest.param("dask", marks=pytest.mark.slow)])
def test_a_client_that_was_killed_goes_on_where_it_was(plain, name, tmp_path):
    out, made = tmp_path / "out", tmp_path / "made"
    made.mkdir()
    with program(KILLED, str(out), str(made), name) as started:
        until(lambda: len(list(out.glob("chain-*"))) >= 3)
        family = psutil.Process(started.pid).children(recursive=True)
        started.kill()
        started.wait()
        until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))
    whole = sealed.Sealed(out)
    finished = {number for number in NUMBERS if whole.holds(f"chain-{number}")}
    assert 2 <= len(finished) < 12
    carry_out(labour.recorded, [Task(f"chain-{n}", (n, str(made))) for n in NUMBERS], out)
    counts = {int(path.name): path.read_text().count("made") for path in made.iterdir()}
    assert all(counts[number] == 1 for number in finished)
    left_over = {name for name in files(out) if name.startswith(".")}  # what was being written when it was killed
    assert {name: data for name, data in files(out).items() if name not in left_over} == plain


@pytest.mark.slow
def test_workers_of_another_disk_are_sent_the_files_and_a_lost_scheduler_is_a_sentence(tmp_path):
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "out"
    for folder in (here, there):
        folder.mkdir()
    (here / "shard").write_bytes(b"a shard")
    port = str(20000 + os.getpid() % 10000)
    address = f"tcp://127.0.0.1:{port}"
    with (
        program("distributed.cli.dask_scheduler", "--port", port, "--host", "127.0.0.1", "--no-dashboard") as lead,
        program("distributed.cli.dask_worker", address, "--no-dashboard", "--nthreads", "2", where=there),
        contextlib.chdir(here),
    ):
        shard = pathlib.Path("shard")  # by a path that leads nowhere from where the worker is
        carry_out(labour.reading, [Task("a", ("shard",))], out, engine=engine.named(address), reads=[shard])
        assert (out / "a").read_bytes() == b"read a shard"
        stop = threading.Timer(2.0, lead.kill)
        stop.start()
        with pytest.raises(
            BadInput, match=f"The scheduler at {address} can no longer be reached. What was finished is"
        ):
            carry_out(labour.chain, chains(1.0), out, engine=engine.named(address))
        stop.join()


def test_the_engines_of_one_machine_are_named_alike():
    assert engine.named("local") == LOCAL
    assert engine.named("dask", 3) == Engine(name="dask", workers=3)

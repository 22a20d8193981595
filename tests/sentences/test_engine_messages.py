"""What is said to someone whose engine cannot be used: the whole message, so that a change of wording is seen."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys
import types
from types import SimpleNamespace

import distributed
import pytest

from quell.design import cluster, engine, errands, sealed
from quell.design.engine import Engine, Task, carry_out, named
from quell.sentences import BadInput
from tests.laws import labour

KEPT = "What was finished is kept: run the same command again, and it goes on from there."


def said(*arguments, **keywords) -> str:
    with pytest.raises(BadInput) as caught:
        named(*arguments, **keywords)
    return str(caught.value)


ASKED = {
    "a name nearly right": (
        "slrum",
        "--engine 'slrum' is not known. Did you mean 'slurm'? A scheduler's address (tcp://host:8786) or a file that declares an engine (cluster.toml) will do as well.",
    ),
    "a name of nothing": (
        "spark-on-mesos",
        "--engine 'spark-on-mesos' is not known. Known here: 'local', 'dask', 'slurm'. A scheduler's address (tcp://host:8786) or a file that declares an engine (cluster.toml) will do as well.",
    ),
    "a page of the web": (
        "http://host:8787",
        "--engine: 'http://host:8787' is no address of a scheduler. Write it as tcp://host:8786.",
    ),
    "a file that is not there": ("absent.toml", "absent.toml cannot be read: No such file or directory."),
}


@pytest.mark.parametrize(("text", "message"), ASKED.values(), ids=ASKED)
def test_what_is_said_of_an_engine_that_is_not_one(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said(text) == message


def test_the_workers_of_an_address_are_not_counted_here():
    assert said("tcp://host:8786", 4) == (
        "--engine: the workers at tcp://host:8786 are those started there. Leave out --workers."
    )


DECLARED = {
    "an unknown key": (
        'name = "slurm"\nworker = 3\n',
        "has the key 'worker', which quell does not know. Did you mean 'workers'?",
    ),
    "an unknown key of the queue": (
        'name = "slurm"\n[queue]\npartitoin = "a"\n',
        "queue has the key 'partitoin', which quell does not know. Did you mean 'partition'?",
    ),
    "a queue without Slurm": (
        'name = "dask"\n[queue]\npartition = "a"\n',
        "engine 'dask' has no queue. Write name = \"slurm\", or leave out [queue].",
    ),
    "an address without Dask": (
        'name = "local"\naddress = "tcp://a:1"\n',
        "engine 'local' has no address. Leave it out, or write name = \"dask\".",
    ),
    "more than one line in an option": (
        'name = "slurm"\n[queue]\noptions = ["--qos=a\\nrm"]\n',
        "queue, options entry 1: '--qos=a\nrm' is no option. Write it as '--qos=long'.",
    ),
    "too many workers": (
        'name = "dask"\nworkers = 10001\n',
        "workers is 10001: input should be less than or equal to 10000.",
    ),
    "a walltime in words": (
        'name = "slurm"\n[queue]\nwalltime = "two hours"\n',
        "queue, walltime: 'two hours' is no length of time. Write it as '02:30:00'.",
    ),
}


@pytest.mark.parametrize(("text", "message"), DECLARED.values(), ids=DECLARED)
def test_what_is_said_of_a_declared_engine(text, message, tmp_path):
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    assert said(str(path)).removeprefix(f"{path}: ").removeprefix("the declaration ") == message


def test_more_workers_than_a_machine_can_bear(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.blocks, "workers", lambda: 2)
    for name in ("local", "dask"):
        with pytest.raises(BadInput) as caught:
            carry_out(bytes, [Task("a", (1,))], tmp_path, engine=Engine(name=name, workers=500))
        assert str(caught.value) == (
            "500 workers are too many for the 2 cores of this machine: ask for 2, which is as fast, and for no more than 32."
        )


def test_no_scheduler_at_an_address(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.3)
    with pytest.raises(BadInput) as caught:
        carry_out(bytes, [Task("a", (1,))], tmp_path, engine=named("tcp://127.0.0.1:1"))
    assert str(caught.value).startswith("There is no scheduler at tcp://127.0.0.1:1 (Timed out")
    assert str(caught.value).endswith(
        "Start one with: dask scheduler --port 8786, and workers with: dask worker tcp://127.0.0.1:1. " + KEPT
    )


def test_processes_that_do_not_start(tmp_path, monkeypatch):
    def fails(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.\nmore")

    monkeypatch.setattr(distributed, "LocalCluster", fails)
    with pytest.raises(BadInput) as caught:
        carry_out(bytes, [Task("a", (1,))], tmp_path, engine=named("dask", 2))
    assert str(caught.value) == (
        "The 2 workers could not be started (Nanny failed to start). Ask for fewer; in a script of your own, begin "
        f'under: if __name__ == "__main__". {KEPT}'
    )


def test_a_file_that_the_workers_need_and_nobody_can_read(tmp_path):
    path = tmp_path / "shard"
    with pytest.raises(BadInput) as caught:
        carry_out(labour.reading, [Task("a", (str(path),))], tmp_path, engine=named("dask", 1), reads=[path])
    assert str(caught.value) == (
        f"{path} cannot be read, and the workers need it. Make it again, or give another folder."
    )


def test_a_folder_that_is_a_file(tmp_path):
    path = tmp_path / "out"
    path.write_text("x")
    with pytest.raises(BadInput, match=r"is a file; results need a folder\. Give another --out\."):
        carry_out(bytes, [Task("a", (1,))], path)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealed, "write_whole", full)
    with pytest.raises(BadInput) as caught:
        carry_out(bytes, [Task("a", (1,))], tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'a'} cannot be written: No space left on device. Make room, or mend the folder. {KEPT}"
    )


# Workers, with a stand-in for Dask's client


def crew(patience: float = 60.0, **client) -> cluster.Workers:
    agreed = errands.Terms((), "here", "", (("shard", "0" * 64),))
    workers = cluster.Workers(lambda _: SimpleNamespace(**client), agreed, print, patience=patience)
    return workers.__enter__()


def failed(error: Exception, status: str = "error") -> SimpleNamespace:
    def result() -> bytes:
        raise error

    return SimpleNamespace(result=result, status=status)


def test_a_scheduler_that_is_gone():
    gone = crew(status="connecting")
    with pytest.raises(BadInput) as caught:
        gone.glance()
    assert str(caught.value) == f"The scheduler can no longer be reached. {KEPT}"
    with pytest.raises(BadInput, match="can no longer be reached"):
        gone.result(Task("a", ()), failed(OSError("closed"), "cancelled"))


def test_a_scheduler_without_workers():
    alone = crew(status="running", nthreads=dict)
    assert alone.glance() == "waiting for workers"
    alone.patience = -1.0
    with pytest.raises(BadInput, match=r"^The scheduler has had no worker for -1 seconds\. Start some\. What was"):
        alone.glance()


def test_workers_without_quell():
    lacking = RuntimeError("Error during deserialization of the task graph.")
    lacking.__cause__ = ModuleNotFoundError("No module named 'quell'", name="quell")
    with pytest.raises(BadInput) as caught:
        crew().result(Task("a", ()), failed(lacking))
    assert str(caught.value) == (
        "The workers do not have quell. Install this quell on every machine, and where the scheduler runs, and run again."
    )


def test_workers_that_cannot_keep_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("shard").write_bytes(b"a shard")
    workers = crew(id="me", register_plugin=lambda plugin, name: None)
    for _ in range(cluster.SENDINGS):
        assert workers.result(Task("a", ()), failed(errands.NotHere("shard"))) is None
    with pytest.raises(BadInput) as caught:
        workers.result(Task("a", ()), failed(errands.NotHere("shard")))
    assert str(caught.value) == (f"The workers can neither see nor keep shard. Is there room on their disks? {KEPT}")


# Slurm


class Recorded:
    """A stand-in for dask_jobqueue.SLURMCluster that keeps what it was asked."""

    def __init__(self, **asked) -> None:
        self.asked = asked


def with_jobqueue(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=Recorded))


def test_slurm_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(BadInput) as caught:
        carry_out(bytes, [Task("a", (1,))], tmp_path, engine=named("slurm"))
    assert str(caught.value) == (
        "Engine 'slurm' needs dask-jobqueue, which is not installed. Install it with: pip install 'quell[queue]', or "
        "start the workers yourself and give their scheduler's address."
    )


EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "cluster.toml"


def test_the_example_asks_the_queue_for_what_it_declares(monkeypatch):
    with_jobqueue(monkeypatch)
    declared = named(str(EXAMPLE))
    assert declared.workers == 4
    asked = cluster.slurm(declared.queue).asked
    assert asked == {
        "queue": "short",
        "account": "heart",
        "cores": 8,
        "processes": 8,
        "memory": "16 GB",
        "walltime": "02:00:00",
        "interface": None,
        "log_directory": "logs",
        "python": None,
        "job_name": "quell",
        "job_extra_directives": [],
        "job_script_prologue": [
            "export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False",
            "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False",
            "export DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES=[]",
            "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES=[]",
        ],
        "scheduler_options": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
    }


def test_certificates_need_their_library(monkeypatch):
    with_jobqueue(monkeypatch)
    monkeypatch.setattr(cluster, "_keys", lambda: None)
    with pytest.raises(BadInput, match=r"queue\.certificates needs the library cryptography\. Install it: pip install"):
        cluster.slurm(cluster.Queue(certificates="/home/me"))


def test_the_job_script_is_as_declared(tmp_path):
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'quell[queue]'")
    queue = cluster.Queue(
        partition="short", account="heart", cores=8, memory="16 GB", options=("--qos=long",), before=("module load x",)
    )
    with cluster.slurm(queue) as made:
        script = made.job_script()
    for line in ("-p short", "-A heart", "-n 1", "--cpus-per-task=8", "--mem=15G", "-t 01:00:00", "--qos=long"):
        assert f"#SBATCH {line}\n" in script
    assert "\nmodule load x\n" in script
    assert "--nthreads 1" in script and "--nworkers 8" in script and "--nanny" in script


def test_slurm_without_its_commands(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda _: None)
    with pytest.raises(BadInput) as caught:
        cluster._accepted("#!/bin/sh\n")
    assert str(caught.value) == (
        "Engine 'slurm' needs Slurm's command sbatch, which is not here. Run where jobs are submitted."
    )


def test_a_job_that_slurm_does_not_take(monkeypatch):
    monkeypatch.setattr(cluster.shutil, "which", lambda name: f"/usr/bin/{name}")
    refused = subprocess.CompletedProcess([], 1, "", "sbatch: error: invalid partition\nspecified: nowhere\n")
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(BadInput) as caught:
        cluster._accepted("#!/bin/sh\n")
    assert str(caught.value) == (
        "Slurm does not take the job: sbatch: error: invalid partition specified: nowhere. Mend [queue], and run again."
    )

"""Workers in other processes and on other machines, by Dask: they may die at any time, and be of another disk.

Workers give bytes back and write nothing of the results. A worker that dies is replaced, or its tasks go to others.
A worker must run the very quell of this program: its source, and the libraries on which its numbers rest.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib.metadata
import logging
import os
import pathlib
import pickle
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pydantic

from quell import blocks, store
from quell.design import sealed
from quell.promises import promise
from quell.sentences import BadInput

DEATHS = 3  # of workers at one task, each time as many as the scheduler allows, before the task is held to be at fault
SENDINGS = 5  # times that one task may find files missing
PATIENCE = 60.0  # seconds that a running scheduler may be without workers
CONNECT = 30.0  # seconds to reach a scheduler
RECOUNT = 2.0  # seconds between counts of the workers
LIBRARIES = ("jax", "jaxlib", "llvmlite", "numba", "numpy", "polars", "scipy")
GOES_ON = "What was finished is kept: run the same command again, and it goes on from there."


@promise
class Queue:
    """What is asked of a Slurm queue for each of its jobs, in Slurm's words.

    ``options`` are further ones (``--qos=long``), ``before`` commands of the job script ahead of the worker.
    """

    partition: str = pydantic.Field(default="", pattern=r"^[^\s]*$")
    account: str = pydantic.Field(default="", pattern=r"^[^\s]*$")
    cores: int = pydantic.Field(default=1, ge=1, le=4096)
    memory: str = pydantic.Field(default="4 GB", pattern=r"^\d+(\.\d+)? ?[MGT]i?B$")
    walltime: str = pydantic.Field(default="01:00:00", pattern=r"^(\d+-)?\d{1,3}:\d\d:\d\d$")
    interface: str = pydantic.Field(default="", pattern=r"^[^\s]*$")
    logs: str = ""
    python: str = ""
    options: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


class Where(NamedTuple):
    """Which workers: processes of this machine, those of a scheduler at an address, or a queue's."""

    name: str
    workers: int
    address: str
    queue: Queue


class Terms(NamedTuple):
    """What a worker must agree with before it works."""

    identity: tuple[tuple[str, str], ...]  # what, and its version
    machine: str  # the name of the client's
    programs: str  # folder of compiled programs, empty where none are kept
    reads: tuple[tuple[str, str], ...]  # path, SHA-256


class Errand(NamedTuple):
    """One task as it travels."""

    terms: Terms
    work: Callable[..., bytes]
    arguments: tuple[Any, ...]


class NotHere(Exception):  # noqa: N818 - it says what is the matter, and is answered by sending the file
    """A worker does not see a file that it is to read."""


@functools.cache
def identity() -> tuple[tuple[str, str], ...]:
    """What the bytes of a result rest upon here."""
    import jax

    versions = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    python = platform.python_version_tuple()[:2]
    return (
        ("quell's source", store.source()[:12]),
        *versions,
        ("Python", ".".join(python)),
        ("processor", platform.machine()),
        ("JAX's device", jax.default_backend()),
    )


def terms(reads: Sequence[pathlib.Path]) -> Terms:
    """The terms of a run that reads these files. Raises BadInput where one cannot be read."""
    import jax

    found = tuple((str(path), sealed.digest(path) or "") for path in reads)
    for path, known in found:
        if not known:
            raise BadInput(f"{path} cannot be read, and the workers need it. Make it again, or give another folder.")
    return Terms(identity(), platform.node(), jax.config.jax_compilation_cache_dir or "", found)


def perform(errand: bytes) -> bytes:
    """On a worker: agree to the terms, then do the work."""
    agreed, work, arguments = pickle.loads(errand)
    with sealed.lending(_ready(agreed)):
        return work(*arguments)


@functools.cache
def _ready(agreed: Terms) -> Mapping[str, pathlib.Path]:
    """Once in a worker's life: the copies it needs. Raises BadInput where it runs another quell, NotHere for a file."""
    ours = dict(identity())
    other = [f"{what} {ours[what]}, not {wanted}" for what, wanted in agreed.identity if ours.get(what) != wanted]
    if other:
        raise BadInput(
            f"A worker on {platform.node()} would not give the same numbers: it has {'; '.join(other)}. Install the "
            "same quell and libraries on every machine (requirements.lock), start the workers again, and run again."
        )
    if agreed.programs:
        store.keep(_programs(agreed.machine))
    return {path: copy for path, known in agreed.reads if (copy := _copy(path, known)) is not None}


def _programs(machine: str) -> pathlib.Path | None:
    """Where compiled programs are kept: for this very machine, since machines that share a disk may differ."""
    import platformdirs

    if platform.node() == machine:
        return None
    root = pathlib.Path(os.environ.get("QUELL_CACHE") or platformdirs.user_cache_dir("quell"))
    return root / "machines" / platform.node()


def _copy(path: str, known: str) -> pathlib.Path | None:
    """The worker's copy of a file; None where it sees the file itself."""
    if sealed.digest(pathlib.Path(path)) == known:
        return None
    from distributed import get_worker

    copy = _place(get_worker(), known)
    if sealed.digest(copy) != known:
        raise NotHere(path)
    return copy


def _place(worker: Any, known: str) -> pathlib.Path:
    return pathlib.Path(worker.local_directory) / "quell" / known


class Workers:
    """The workers of a scheduler, as a crew; started on entering and stopped on leaving, unless they are others'."""

    def __init__(self, where: Where, agreed: Terms, say: Callable[[str], None]) -> None:
        self.where, self.agreed, self.say = where, agreed, say
        self.deaths, self.missed = collections.Counter[str](), collections.Counter[str]()
        self.sent: list[str] = []
        self.threads, self.counted, self.seen = 0, 0.0, time.monotonic()

    def __enter__(self) -> Workers:
        self.close = contextlib.ExitStack()
        with self.close:  # what was begun is ended where the rest fails
            self.say("starting workers")
            self.client = _client(self.where, self.close)
            self.close = self.close.pop_all()
        self.say("waiting for workers")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to take back
            for known in self.sent:
                self.client.unregister_worker_plugin(known)
        self.close.close()

    def width(self) -> int:
        """Twice the threads there are, so that a worker need not wait for its next task."""
        if time.monotonic() - self.counted > RECOUNT:
            with contextlib.suppress(Exception):  # a scheduler that is gone is noticed by ``glance``
                self.threads = sum(self.client.nthreads().values())
                self.counted = time.monotonic()
        return 2 * max(self.threads, 1)

    def submit(self, work: Callable[..., bytes], task: Any) -> Any:
        errand = pickle.dumps(Errand(self.agreed, work, task.arguments))
        try:
            return self.client.submit(perform, errand, pure=False, retries=0)
        except Exception as error:
            raise self._gone() from error

    def result(self, task: Any, future: Any) -> bytes | None:
        """What came of it; None where workers died at it, or lacked a file that they have been sent by now."""
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker:
            self._died(task.name)
        except NotHere as error:
            self._send(task.name, str(error))
        except (CancelledError, OSError) as error:
            if _of_the_work(error):
                raise
            raise self._gone() from error
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("quell"):
                raise
            raise BadInput(
                f"The workers do not have {error.name}. Install this quell on every machine, and where the scheduler "
                "runs, and run again."
            ) from None
        return None

    def glance(self) -> str:
        """What is waited for. Raises BadInput where scheduler or workers are gone."""
        if self.client.status != "running":
            raise self._gone()
        self.width()
        if self.threads:
            self.seen = time.monotonic()
        elif self.where.address and time.monotonic() - self.seen > PATIENCE:
            raise BadInput(
                f"The scheduler at {self.where.address} has had no worker for {PATIENCE:.0f} seconds. Start some: "
                f"dask worker {self.where.address}. {GOES_ON}"
            )
        return "" if self.threads else "waiting for workers"

    def _gone(self) -> BadInput:
        which = f"The scheduler at {self.where.address}" if self.where.address else "The scheduler"
        return BadInput(f"{which} can no longer be reached. {GOES_ON}")

    def _died(self, name: str) -> None:
        self.deaths[name] += 1
        if self.deaths[name] >= DEATHS:
            raise BadInput(
                f"Every worker that was given '{name}' died at it. Do they have enough memory? Give them more, or "
                f"start fewer on a machine. {GOES_ON}"
            )

    def _send(self, name: str, path: str) -> None:
        """Every file to every worker that does not see it, and to those who come later."""
        self.missed[name] += 1
        if self.missed[name] > SENDINGS:
            raise BadInput(f"The workers can neither see nor keep {path}. Is there room on their disks? {GOES_ON}")
        if self.sent:
            return
        self.say("sending files")
        for given, known in dict(self.agreed.reads).items():
            content = pathlib.Path(given).read_bytes()
            self.client.register_plugin(_contents(known, content), name=f"quell {known}")
            self.sent.append(f"quell {known}")


def _of_the_work(error: BaseException) -> bool:
    """Whether a worker's own work raised it: an error of the way there has no frame of ``perform``."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "perform" and trace.tb_frame.f_globals.get("__name__") == __name__:
            return True
        trace = trace.tb_next
    return False


def _contents(known: str, content: bytes) -> Any:
    """A file that each worker keeps for as long as it lives, if it came whole."""
    from distributed import WorkerPlugin

    return type("Contents", (WorkerPlugin,), {"setup": _keep})


def _keep(worker: Any) -> None: ...

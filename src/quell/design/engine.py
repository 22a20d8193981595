"""Carrying out many pure tasks: over the cores of this machine, or over a cluster; never the same one twice.

A task is a file's name and the arguments from which its content follows, so that the order of the tasks, their
division among workers and the engine never change a byte; what is there and whole is not made again, whoever was
killed. Each result is written by this process, whole or not at all; at most as many as are in hand are in memory.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import math
import pathlib
import queue
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

import pydantic

from quell import blocks
from quell.design import cluster, errands
from quell.design.sealed import GOES_ON, SUMS, Sealed
from quell.promises import promise
from quell.sentences import BadInput, explain, near, read_toml

Tell = Callable[[str, float | None], None]
Work = Callable[..., bytes]

NAMES = ("local", "dask", "slurm")
MOST_WORKERS = 10_000
MOST_ON_A_CORE = 16  # workers of this machine for each of its cores: more are a slip, and would exhaust its memory
GLANCE = 2.0  # seconds between looks at a crew from which nothing comes
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://\S+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]{0,199}")


class Task(NamedTuple):
    """One file to be made: its name follows from its arguments, and its content from them and the work."""

    name: str
    arguments: tuple[Any, ...]


@promise
class Engine:
    """Where tasks are carried out.

    ``local``: threads of this process, over the cores it may use (the compiled parts let each other run). ``dask``:
    processes on this machine, or the workers of a scheduler at ``address``. ``slurm``: jobs of a queue, each with a
    worker for each of its cores; ``workers`` is then the number of jobs. ``workers = 0`` is as many as this machine has
    cores, and of a queue one job.

    >>> Engine(name="dask", workers=4).workers
    4
    """

    name: Literal["local", "dask", "slurm"] = "local"
    workers: int = pydantic.Field(default=0, ge=0, le=MOST_WORKERS)
    address: str = ""
    queue: cluster.Queue = cluster.Queue()

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> Engine:
        if self.address and self.name != "dask":
            raise ValueError(f"engine '{self.name}' has no address. Leave it out, or write name = \"dask\".")
        if self.address and not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"'{self.address}' is no address of a scheduler. Write it as tcp://host:8786.")
        if self.address and self.workers:
            raise ValueError(f"the workers at {self.address} are those started there. Leave out --workers.")
        if self.queue != cluster.Queue() and self.name != "slurm":
            raise ValueError(f"engine '{self.name}' has no queue. Write name = \"slurm\", or leave out [queue].")
        return self


LOCAL = Engine()


def named(text: str, workers: int | None = None) -> Engine:
    """An engine by name (local, dask, slurm), by a scheduler's address, or by a file that declares one.

    Raises BadInput in a sentence. ``workers`` replaces what the file says.

    >>> named("tcp://10.0.0.7:8786").address, named("dask", 4).workers
    ('tcp://10.0.0.7:8786', 4)
    """
    declared: dict[str, Any] = {"name": text}
    if "://" in text:
        declared = {"name": "dask", "address": text}
    elif text.endswith(".toml"):
        declared = read_toml(pathlib.Path(text))
    elif text not in NAMES:
        raise BadInput(
            f"--engine '{text}' is not known. {near(text, NAMES)} A scheduler's address (tcp://host:8786) or a file "
            "that declares an engine (cluster.toml) will do as well."
        )
    if workers is not None:
        declared["workers"] = workers
    try:
        return Engine(**declared)
    except pydantic.ValidationError as error:
        raise BadInput(explain(error, Engine, declared, text if text.endswith(".toml") else "--engine")) from None
    except TypeError as error:
        raise BadInput(f"{text}: {error}.") from None


class Crew(Protocol):
    """Those who do the work: threads here, or workers elsewhere."""

    def width(self) -> int:
        """How many tasks to have in hand."""

    def submit(self, work: Work, task: Task) -> Any:
        """A future with ``add_done_callback``."""

    def result(self, task: Task, future: Any) -> bytes | None:
        """What came of it; None where it must be done again."""

    def glance(self) -> str:
        """What they wait for, if anything. Raises BadInput where they are gone."""


class Threads:
    """Threads of this process. Left by an interrupt, they finish what they are at and begin nothing more."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.pool = concurrent.futures.ThreadPoolExecutor(self.workers, thread_name_prefix="quell")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def width(self) -> int:
        return 2 * self.workers

    def submit(self, work: Work, task: Task) -> Any:
        return self.pool.submit(work, *task.arguments)

    def result(self, task: Task, future: Any) -> bytes | None:
        return future.result()

    def glance(self) -> str:
        return ""


def carry_out(
    work: Work,
    tasks: Iterable[Task],
    folder: pathlib.Path,
    *,
    engine: Engine = LOCAL,
    reads: Sequence[pathlib.Path] = (),
    what: str = "tasks",
    tell: Tell = lambda step, share: None,
) -> list[pathlib.Path]:
    """Make the files of tasks in a folder, and say where they are, in the order of the tasks.

    ``work(*arguments)`` is a pure function at the top of a module, and gives the content of a file. ``reads`` are the
    files that it opens through ``sealed.here``: workers that do not see the disk are sent them. Raises BadInput where
    workers or disk fail for good, and what the work raises; what is finished by then is kept, and is not made again.

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> [path.read_bytes() for path in carry_out(bytes, [Task("two", (2,)), Task("one", (1,))], folder)]
    [b'\\x00\\x00', b'\\x00']
    """
    wanted = _named(tasks)
    kept = Sealed(folder)
    tell(f"{what}: looking at what is there", None)
    missing = [task for name, task in wanted.items() if not kept.holds(name)]
    if missing:
        clock = Clock(what, len(wanted), len(missing), tell)
        try:
            with _crew(engine, reads, clock) as crew:
                clock.start()
                for task, data in _results(crew, work, missing, clock):
                    kept.put(task.name, data)
                    clock.one_more()
            kept.tidy()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"{clock.so_far}: interrupted. {GOES_ON}") from None
    return [folder / name for name in wanted]


def _named(tasks: Iterable[Task]) -> dict[str, Task]:
    """Tasks by name. Raises ValueError where a name is not allowed, or two tasks share one."""
    wanted: dict[str, Task] = {}
    for task in tasks:
        if not _NAME.fullmatch(task.name) or task.name.upper() == SUMS:
            raise ValueError(f"'{task.name}' is no name for a result: letters, digits and _.,=+- only")
        if task.name in wanted:
            raise ValueError(f"two results are called '{task.name}'")
        wanted[task.name] = task
    return wanted


def _crew(engine: Engine, reads: Sequence[pathlib.Path], clock: Clock) -> AbstractContextManager[Crew]:
    if engine.name == "local":
        return Threads(_on_this_machine(engine))
    start, patience = functools.partial(cluster.at, engine.address), cluster.PATIENCE
    if engine.name == "slurm":  # a queue may let one wait for days
        start, patience = functools.partial(cluster.queued, engine.queue, engine.workers or 1), math.inf
    elif not engine.address:
        start = functools.partial(cluster.processes, _on_this_machine(engine))
    return cluster.Workers(start, errands.terms(reads), clock.told, address=engine.address, patience=patience)


def _on_this_machine(engine: Engine) -> int:
    cores = blocks.workers()
    if engine.workers > MOST_ON_A_CORE * cores:
        raise BadInput(
            f"{engine.workers} workers are too many for the {cores} cores of this machine: ask for {cores}, which is as "
            f"fast, and for no more than {MOST_ON_A_CORE * cores}."
        )
    return engine.workers or cores


def _results(crew: Crew, work: Work, tasks: Sequence[Task], clock: Clock) -> Iterator[tuple[Task, bytes]]:
    """Each task with its result, as they come; no more are in hand than the crew is wide."""
    waiting, out = collections.deque(tasks), dict[str, Any]()
    done: queue.SimpleQueue[str] = queue.SimpleQueue()
    known = {task.name: task for task in tasks}
    while waiting or out:
        while waiting and len(out) < crew.width():
            task = waiting.popleft()
            out[task.name] = crew.submit(work, task)
            out[task.name].add_done_callback(functools.partial(_say, done, task.name))
        try:
            task = known[done.get(timeout=GLANCE)]
        except queue.Empty:
            clock.told(crew.glance())
            continue
        data = crew.result(task, out.pop(task.name))
        if data is None:
            waiting.appendleft(task)
        elif isinstance(data, bytes):
            yield task, data
        else:
            raise TypeError(f"the work of a task gives bytes, not {type(data).__name__}")


def _say(done: queue.SimpleQueue[str], name: str, _: Any) -> None:
    done.put(name)


class Clock:
    """How far it is and how long it will take, judged by what this run has done.

    >>> clock = Clock("chunks", 10, 8, print)
    >>> clock.told("waiting for a worker")
    chunks: 2 of 10, waiting for a worker 0.2
    """

    def __init__(self, what: str, total: int, missing: int, tell: Tell) -> None:
        self.what, self.total, self.before, self.tell = what, total, total - missing, tell
        self.done, self.began = 0, time.monotonic()

    @property
    def so_far(self) -> str:
        return f"{self.what}: {self.before + self.done} of {self.total}"

    def start(self) -> None:
        """Now the work begins: what came before says nothing of how long it takes."""
        self.began = time.monotonic()

    def one_more(self) -> None:
        self.done += 1
        self.told()

    def told(self, why: str = "") -> None:
        finished = self.before + self.done
        taken, left = time.monotonic() - self.began, self.total - finished
        known = self.done and left and taken > GLANCE
        words = why or (f"about {lasting(taken / self.done * left)} left" if known else "")
        self.tell(self.so_far + (f", {words}" if words else ""), finished / self.total)


def lasting(seconds: float) -> str:
    """A length of time as a person says it.

    >>> lasting(41), lasting(200), lasting(9000)
    ('41 seconds', '3 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

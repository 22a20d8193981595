"""Workers in other processes and on other machines, by Dask: they may die at any time, and be of another disk.

Workers give bytes back and write nothing of the results. A worker that dies is replaced, or its tasks go to others.
Dask is loaded when a crew of workers is wanted, and not before.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import logging
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any

import pydantic

from quell.design import errands
from quell.design.sealed import GOES_ON
from quell.promises import promise
from quell.sentences import BadInput

DEATHS = 2  # of a task, each after as many workers as the scheduler allows, before the task is held to be at fault
SENDINGS = 5  # times that one task may find files missing
PATIENCE = 120.0  # seconds that a running scheduler may be without workers, where no queue is waited for
CONNECT = 30.0  # seconds to reach a scheduler
RECOUNT = 2.0  # seconds between counts of the workers
SETTINGS = {
    # Nothing that a worker holds is written to its disk as a pickle: it holds few results, and they are small.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    # No pages are served to anybody.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
EXPORTS = [f"export DASK_{name.upper().replace('.', '__')}={value}" for name, value in SETTINGS.items()]
UNSEEN = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
# A process that died is begun again by its own keeper, however long a busy machine takes over it.
KEPT = {"distributed.deploy.lost-worker-timeout": "1 hour"}

Start = Callable[[contextlib.ExitStack], Any]


def _written(pattern: str, words: str) -> pydantic.AfterValidator:
    """Text of one form; ``words`` say which."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"'{text}' {words}")
        return text

    return pydantic.AfterValidator(check)


Word = Annotated[str, _written(r"\S*", "is more than one word.")]
Line = Annotated[str, _written(r"[^\n\r]*", "is more than one line.")]
Option = Annotated[str, _written(r"-[^\n\r]+", "is no option. Write it as '--qos=long'.")]
Memory = Annotated[str, _written(r"\d+(\.\d+)? ?[MGT]i?B", "is no amount of memory. Write it as '16 GB'.")]
Walltime = Annotated[str, _written(r"(\d+-)?\d{1,3}:\d\d:\d\d", "is no length of time. Write it as '02:30:00'.")]


@promise
class Queue:
    """What is asked of a Slurm queue for each of its jobs, in Slurm's words.

    ``options`` are further ones (``--qos=long``), ``before`` commands of the job script ahead of the workers.
    ``python`` is that of the compute nodes (this one if left out), ``certificates`` a folder that all machines see and
    only you may read, where the keys lie by which workers and scheduler know each other.

    >>> Queue(partition="short", cores=8, memory="16 GB").walltime
    '01:00:00'
    """

    partition: Word = ""
    account: Word = ""
    cores: int = pydantic.Field(default=1, ge=1, le=4096)
    memory: Memory = "4 GB"
    walltime: Walltime = "01:00:00"
    interface: Word = ""
    logs: Line = ""
    python: Line = ""
    certificates: Line = ""
    options: tuple[Option, ...] = ()
    before: tuple[Line, ...] = ()


def processes(workers: int, stack: contextlib.ExitStack) -> Any:
    """A client of so many processes of this machine, which no other machine can reach."""
    import dask
    from distributed import Client, LocalCluster

    stack.enter_context(dask.config.set({**SETTINGS, **KEPT}))
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs=UNSEEN,
            memory_limit="auto",  # an equal part of the machine's; a worker that takes more is ended, and another begun
            security=_keys(),
            silence_logs=logging.CRITICAL,
            preload=[__name__],
        )
        return stack.enter_context(Client(stack.enter_context(cluster), timeout=CONNECT))
    except (RuntimeError, OSError, TimeoutError) as error:
        raise BadInput(
            f"The {workers} workers could not be started ({_first(error)}). Ask for fewer; in a script of your own, "
            f'begin under: if __name__ == "__main__". {GOES_ON}'
        ) from error


def at(address: str, stack: contextlib.ExitStack) -> Any:
    """A client of somebody's scheduler. Raises BadInput where it does not answer."""
    from distributed import Client

    _quiet(stack)
    try:
        return stack.enter_context(Client(address, timeout=CONNECT))
    except (OSError, TimeoutError, ValueError) as error:
        raise BadInput(
            f"There is no scheduler at {address} ({_first(error)}). Start one with: dask scheduler --port 8786, and "
            f"workers with: dask worker {address}. {GOES_ON}"
        ) from None


def queued(queue: Queue, jobs: int, stack: contextlib.ExitStack) -> Any:
    """A client of workers that a Slurm queue starts: one for each core of so many jobs. Raises BadInput."""
    import dask
    from distributed import Client

    stack.enter_context(dask.config.set(SETTINGS))
    cluster = stack.enter_context(slurm(queue))
    _accepted(cluster.job_script())
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # jobs whose time is up are asked for again
    return stack.enter_context(Client(cluster, timeout=CONNECT))


def slurm(queue: Queue) -> Any:
    """Dask's cluster of jobs as a queue is declared; its ``job_script()`` is what Slurm gets. Raises BadInput."""
    try:
        from dask_jobqueue import SLURMCluster
    except ModuleNotFoundError:
        raise BadInput(
            "Engine 'slurm' needs dask-jobqueue, which is not installed. Install it with: pip install 'quell[queue]', "
            "or start the workers yourself and give their scheduler's address."
        ) from None
    secret = _keys() if queue.certificates else None
    if queue.certificates and secret is None:
        raise BadInput("queue.certificates needs the library cryptography. Install it: pip install cryptography.")
    return SLURMCluster(
        queue=queue.partition or None,
        account=queue.account or None,
        cores=queue.cores,
        processes=queue.cores,
        memory=queue.memory,
        walltime=queue.walltime,
        interface=queue.interface or None,
        log_directory=queue.logs or None,
        python=queue.python or None,
        job_name="quell",
        job_extra_directives=list(queue.options),
        job_script_prologue=[*EXPORTS, *queue.before],
        scheduler_options=UNSEEN,
        silence_logs=logging.CRITICAL,
        **({"security": secret, "shared_temp_directory": queue.certificates} if secret else {}),
    )


def _accepted(script: str) -> None:
    """Ask Slurm whether it would take the job. Raises BadInput in Slurm's words."""
    if not shutil.which("sbatch"):
        raise BadInput("Engine 'slurm' needs Slurm's command sbatch, which is not here. Run where jobs are submitted.")
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        asked = subprocess.run(["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False)
    if asked.returncode:
        words = " ".join(asked.stderr.split()) or "no reason given"
        raise BadInput(f"Slurm does not take the job: {words}. Mend [queue], and run again.")


def _keys() -> Any:
    """Keys for this run alone, by which its processes know each other; None where they cannot be made."""
    if importlib.util.find_spec("cryptography") is None:
        return None
    from distributed.security import Security

    return Security.temporary()


def _quiet(stack: contextlib.ExitStack) -> None:
    """Dask says nothing by itself: what matters is said in sentences."""
    for handler in logging.getLogger("distributed").handlers:
        stack.callback(handler.setLevel, handler.level)
        handler.setLevel(logging.CRITICAL)


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def dask_setup(_: Any) -> None:
    """In each process started here: an interrupt from the keyboard is for the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Workers:
    """The workers of a scheduler, as a crew; started on entering and stopped on leaving, unless they are others'."""

    def __init__(
        self, start: Start, agreed: errands.Terms, say: Callable[[str], None], *, address: str = "", patience: float
    ) -> None:
        self.start, self.agreed, self.say = start, agreed, say
        self.scheduler, self.patience = f"The scheduler at {address}" if address else "The scheduler", patience
        self.deaths, self.missed = collections.Counter[str](), collections.Counter[str]()
        self.sent: list[str] = []
        self.threads, self.counted, self.seen = 0, 0.0, time.monotonic()

    def __enter__(self) -> Workers:
        with contextlib.ExitStack() as stack:  # what was begun is ended where the rest fails
            self.say("starting workers")
            self.client = self.start(stack)
            self.leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to take back
            for name in self.sent:
                self.client.unregister_worker_plugin(name)
        with contextlib.suppress(Exception):
            self.leave.close()

    def width(self) -> int:
        """Twice the threads there are, so that a worker need not wait for its next task."""
        if time.monotonic() - self.counted > RECOUNT:
            with contextlib.suppress(Exception):  # a scheduler that is gone is noticed by ``glance``
                self.threads = sum(self.client.nthreads().values())
                self.counted = time.monotonic()
        return 2 * max(self.threads, 1)

    def submit(self, work: Callable[..., bytes], task: Any) -> Any:
        errand = errands.packed(self.agreed, work, task.arguments)
        try:
            return self.client.submit(errands.perform, errand, pure=False, retries=0)
        except Exception as error:
            raise self._gone() from error

    def result(self, task: Any, future: Any) -> bytes | None:
        """What came of it; None where workers died at it, or lacked a file that they have been sent by now."""
        from distributed import KilledWorker

        try:
            return future.result()
        except Exception as error:
            if future.status != "error":  # it is not the work that failed, but the way there
                raise self._gone() from error
            if isinstance(error, KilledWorker):
                self._died(task.name)
            elif isinstance(error, errands.NotHere):
                self._send(task.name, str(error))
            elif missing := _module(error):
                raise BadInput(
                    f"The workers do not have {missing}. Install this quell on every machine, and where the scheduler "
                    "runs, and run again."
                ) from None
            else:
                raise
        return None

    def glance(self) -> str:
        """What is waited for. Raises BadInput where scheduler or workers are gone."""
        if self.client.status != "running":
            raise self._gone()
        self.width()
        if self.threads:
            self.seen = time.monotonic()
        elif time.monotonic() - self.seen > self.patience:
            raise BadInput(f"{self.scheduler} has had no worker for {self.patience:.0f} seconds. Start some. {GOES_ON}")
        return "" if self.threads else "waiting for workers"

    def _gone(self) -> BadInput:
        return BadInput(f"{self.scheduler} can no longer be reached. {GOES_ON}")

    def _died(self, name: str) -> None:
        self.deaths[name] += 1
        if self.deaths[name] >= DEATHS:
            raise BadInput(
                f"Every worker that was given '{name}' died at it. Do they have enough memory? Give them more, or "
                f"start fewer on a machine. {GOES_ON}"
            )

    def _send(self, name: str, path: str) -> None:
        """Every file to every worker, and to those who come later."""
        from quell.design.copies import Copy

        self.missed[name] += 1
        if self.missed[name] > SENDINGS:
            raise BadInput(f"The workers can neither see nor keep {path}. Is there room on their disks? {GOES_ON}")
        if self.sent:
            return
        self.say("sending files")
        for given, known in self.agreed.reads:
            plugin = f"quell {known} {self.client.id}"  # another run may send the same, and take it back before this
            self.client.register_plugin(Copy(known, pathlib.Path(given).read_bytes()), name=plugin)
            self.sent.append(plugin)


def _module(error: BaseException | None) -> str:
    """The part of quell that workers or scheduler lack, if that is what an error, or what led to it, says."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] == "quell":
            return str(error.name)
        error = error.__cause__
    return ""

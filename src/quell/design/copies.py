"""Files for workers that do not see the disk: each keeps its own copy for as long as it lives. Loaded only with Dask."""

from __future__ import annotations

import pathlib
from typing import Any

from distributed import WorkerPlugin

from quell.delivery import write_whole


class Copy(WorkerPlugin):
    """One file, for the workers there are and those who come later; named by the digest of its content."""

    def __init__(self, known: str, content: bytes) -> None:
        self.known, self.content = known, content

    def setup(self, worker: Any) -> None:
        write_whole(place(worker, self.known), self.content)


def place(worker: Any, known: str) -> pathlib.Path:
    """Where a worker keeps its copy: in its own folder, which goes when it does."""
    return pathlib.Path(worker.local_directory) / "quell" / known

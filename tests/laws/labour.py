"""Work for the engine to carry out: pure, cheap, and at the top of a module, so that workers find it by its name."""

from __future__ import annotations

import hashlib
import os
import pathlib
import signal
import time

from quell.design import sealed


def chain(number: int, seconds: float = 0.0) -> bytes:
    """Bytes that follow from a number, after a while."""
    time.sleep(seconds)
    return hashlib.sha256(str(number).encode()).digest() * 100


def deadly(number: int, folder: str, times: int) -> bytes:
    """The same bytes; but the first ``times`` workers that try are killed at it. ``folder`` counts them."""
    for attempt in range(times):
        try:
            (pathlib.Path(folder) / f"{number}-{attempt}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return chain(number)


def failing(number: int, kind: type[Exception]) -> bytes:
    """Work that fails in its own way, once it comes to 3."""
    if number == 3:
        raise kind("this is mine")
    return chain(number)


def reading(path: str) -> bytes:
    """What a file says, wherever it lies for this worker."""
    return b"read " + sealed.here(path).read_bytes()


def recorded(number: int, folder: str) -> bytes:
    """The same bytes, with a mark each time they are made."""
    with (pathlib.Path(folder) / str(number)).open("a") as file:
        file.write("made\n")
    return chain(number, 0.1)

"""What travels to a worker, and what it agrees to before it works.

An errand is a pickle that this program makes and its own workers open, over the connection that Dask keeps between
them; whoever may speak there may run code there. No file is ever unpickled: results are bytes, and stay bytes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import pickle
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from quell import store
from quell.design import sealed
from quell.sentences import BadInput

LIBRARIES = ("jax", "jaxlib", "llvmlite", "numba", "numpy", "polars", "scipy")
# On these it depends whether a product and a sum are rounded once or twice, and so the last digit.
INSTRUCTIONS = ("avx", "avx2", "avx512f", "fma", "neon", "sve")


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
    """What the bytes of a result rest upon here: quell, libraries, processor, and the device that JAX computes on."""
    import jax
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    versions = [(name, importlib.metadata.version(name)) for name in LIBRARIES]
    return (
        ("quell's source", store.source()[:12]),
        *versions,
        ("Python", ".".join(platform.python_version_tuple()[:2])),
        ("processor", " ".join([platform.machine(), *(name for name in INSTRUCTIONS if features.get(name))])),
        ("JAX's device", jax.local_devices()[0].device_kind),
    )


def terms(reads: Sequence[pathlib.Path]) -> Terms:
    """The terms of a run that reads these files. Raises BadInput where one cannot be read."""
    import jax

    found = tuple((str(path), sealed.digest(path) or "") for path in reads)
    for path, known in found:
        if not known:
            raise BadInput(f"{path} cannot be read, and the workers need it. Make it again, or give another folder.")
    return Terms(identity(), platform.node(), str(getattr(jax.config, "jax_compilation_cache_dir", None) or ""), found)


def packed(agreed: Terms, work: Callable[..., bytes], arguments: tuple[Any, ...]) -> bytes:
    """An errand as it travels; the work goes by name, so it stands at the top of a module that workers have."""
    return pickle.dumps(Errand(agreed, work, arguments))


def perform(errand: bytes) -> bytes:
    """On a worker: agree to the terms, then do the work."""
    agreed, work, arguments = pickle.loads(errand)
    with sealed.lending(_ready(agreed)):
        return work(*arguments)


@functools.cache
def _ready(agreed: Terms) -> Mapping[str, pathlib.Path]:
    """Once in a worker's life: the copies it needs. Raises BadInput where it runs another quell, NotHere for a file."""
    ours = dict(identity())
    other = [f"{what} {ours.get(what)}, not {wanted}" for what, wanted in agreed.identity if ours.get(what) != wanted]
    if other:
        raise BadInput(
            f"A worker on {platform.node()} would not give the same numbers: it has {'; '.join(other)}. Have the same "
            "quell, libraries (requirements.lock) and kind of processor everywhere, start the workers again, and run "
            "again."
        )
    if agreed.programs:
        store.keep(_programs(agreed))
    return {path: copy for path, known in agreed.reads if (copy := _copy(path, known)) is not None}


def _programs(agreed: Terms) -> pathlib.Path:
    """Where compiled programs are kept: the client's folder on its machine, since others that share a disk may differ."""
    import platformdirs

    if platform.node() == agreed.machine:
        return pathlib.Path(agreed.programs).parent
    root = pathlib.Path(os.environ.get("QUELL_CACHE") or platformdirs.user_cache_dir("quell"))
    return root / "machines" / platform.node()


def _copy(path: str, known: str) -> pathlib.Path | None:
    """The worker's copy of a file; None where it sees the file itself."""
    if sealed.digest(pathlib.Path(path)) == known:
        return None
    from distributed import get_worker

    from quell.design.copies import place

    copy = place(get_worker(), known)
    if sealed.digest(copy) != known:
        raise NotHere(path)
    return copy

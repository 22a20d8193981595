"""What need not be worked out twice: compiled programs and answers, on disk, named by everything they depend on.

The folder is the user's cache folder, or ``QUELL_CACHE``; it may be deleted at any time. An entry is named by the
SHA-256 of what it follows from, quell's own source included, so a stale one is never found. Off until ``keep``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from quell.delivery import write_whole

_kept: list[pathlib.Path] = []


def keep(folder: pathlib.Path | None = None) -> None:
    """Keep entries between runs, so that the second run starts at once."""
    import jax

    chosen = folder or _usual()
    _kept[:] = [chosen]
    jax.config.update("jax_compilation_cache_dir", str(chosen / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def folder() -> pathlib.Path:
    """Where things are kept: the folder given to ``keep``, or the usual one."""
    return _kept[0] if _kept else _usual()


def _usual() -> pathlib.Path:
    import platformdirs

    return pathlib.Path(os.environ.get("QUELL_CACHE") or platformdirs.user_cache_dir("quell"))


@functools.cache
def source() -> str:
    """The digest of quell's own source and tables, and of the versions it computes with."""
    import jax
    import numpy

    found = hashlib.sha256(f"jax {jax.__version__}, numpy {numpy.__version__}".encode())
    root = pathlib.Path(str(importlib.resources.files("quell")))
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".toml"):
            found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


def digest(*parts: Any) -> str:
    """A name for what follows from these parts and from quell's source.

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
    (True, False)
    """
    return hashlib.sha256("\x1f".join([source(), *map(repr, parts)]).encode()).hexdigest()[:32]


def find(kind: str, name: str) -> bytes | None:
    """An entry, or None where it was never kept."""
    try:
        return (_kept[0] / kind / name).read_bytes() if _kept else None
    except OSError:
        return None


def put(kind: str, name: str, content: bytes) -> None:
    """Keep an entry, whole or not at all; a disk that cannot be written to loses nothing but time."""
    if not _kept:
        return
    with contextlib.suppress(OSError):
        write_whole(_kept[0] / kind / name, content)


def answer(parts: tuple[Any, ...], work_out: Callable[[], Any]) -> Any:
    """A JSON value that follows from ``parts``: read back where it is known, else worked out and kept."""
    name = digest("answer", *parts)
    known = find("answers", name)
    if known is not None:
        try:
            return json.loads(known)
        except ValueError:
            pass  # a damaged entry is as good as none
    found = work_out()
    text = json.dumps(found)
    put("answers", name, text.encode())
    return json.loads(text)

"""Kernels as native code: compiled without the interpreter's lock, and kept where the user's other programs are kept.

numba finds a kept kernel again by the text of its own file alone, so that one which calls a kernel of another file would
outlive a change there. Here all kernels are kept under one digest of all of their files. Where that folder cannot be
written to, every process compiles for itself.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import platformdirs

Kernel = TypeVar("Kernel", bound=Callable)

# a quotient by zero is infinite, as in arrays: the check for it would forbid several people at a time
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_settings: Any = numba.config


@functools.cache
def folder() -> pathlib.Path | None:
    """Where compiled kernels are kept: under ``QUELL_CACHE``, or the user's cache folder; None if it cannot be written to."""
    chosen = os.environ.get("QUELL_CACHE") or platformdirs.user_cache_dir("quell")
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*kernel*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    place = pathlib.Path(chosen) / "kernels" / digest.hexdigest()[:16]
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return None
    return place


def compiled(function: Kernel) -> Kernel:
    """A function as a kernel: compiled when first called, free of the interpreter's lock, kept on disk where that can be.

    >>> compiled(lambda x: x + 1)(1)
    2
    """
    place = folder()
    if place is None:
        return numba.njit(**OPTIONS)(function)
    before, _settings.CACHE_DIR = _settings.CACHE_DIR, str(place)
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # numba's word for: this one has no file, or none that can be kept
        return numba.njit(**OPTIONS)(function)
    finally:
        _settings.CACHE_DIR = before

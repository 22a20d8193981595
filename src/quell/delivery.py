"""Results to a folder: each file written beside its place and moved there whole, so that nothing is ever half-written."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from quell.sentences import BadInput


def to_json(value: Any) -> str:
    """One JSON value as text; numbers that are not finite become null, paths and tuples what JSON has.

    >>> to_json({"p": float("nan"), "n": (1, 2)}).replace("\\n", "").replace(" ", "")
    '{"p":null,"n":[1,2]}'
    """
    return json.dumps(_plain(value), ensure_ascii=False, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, pathlib.PurePath) else value


def versions(*libraries: str) -> dict[str, str]:
    """The versions that a result depends on: quell's, numpy's, and of what else it rests on.

    >>> list(versions("jax"))
    ['quell', 'numpy', 'jax']
    """
    return {name: importlib.metadata.version(name) for name in ("quell", "numpy", *libraries)}


def check_folder(folder: pathlib.Path) -> None:
    """Raises BadInput where results cannot go, before any work is done for them."""
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file; results need a folder. Give another --out.")


def deliver(folder: pathlib.Path, files: Mapping[str, bytes | str]) -> list[pathlib.Path]:
    """Write files by relative name under a folder, making it where needed. Raises BadInput in a sentence.

    >>> import tempfile
    >>> [path.name for path in deliver(pathlib.Path(tempfile.mkdtemp()), {"a/b.txt": "x"})]
    ['b.txt']
    """
    check_folder(folder)
    written = []
    for name, content in files.items():
        path = folder / name
        data = content.encode("utf-8") if isinstance(content, str) else content
        try:
            write_whole(path, data)
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror or error}. Give another --out.") from None
        written.append(path)
    return written


def write_whole(path: pathlib.Path, data: bytes) -> None:
    """Write one file beside its place and move it there; its folder is made where needed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        pathlib.Path(beside).unlink(missing_ok=True)
        raise

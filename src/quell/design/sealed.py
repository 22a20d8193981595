"""Files whose content is known by its digest: a truncated or altered one is noticed, and made again.

Beside the files of a folder lies SHA256SUMS, in the form that ``sha256sum --check`` reads: one line for each, written
after the file is in its place. A line that was cut off, or is missing, only means that its file is made once more.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping

from quell.delivery import check_folder, write_whole
from quell.sentences import BadInput

SUMS = "SHA256SUMS"
LARGEST_SUMS = 200_000_000  # bytes; two million files
GOES_ON = "What was finished is kept: run the same command again, and it goes on from there."
_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\n]*)")
_lent: contextvars.ContextVar[Mapping[str, pathlib.Path]] = contextvars.ContextVar("lent", default={})  # noqa: B039


class Sealed:
    """A folder of results, each whole and as it was written, or not there.

    >>> import tempfile
    >>> folder = Sealed(pathlib.Path(tempfile.mkdtemp()))
    >>> _ = folder.put("a", b"whole")
    >>> folder.holds("a"), folder.holds("b")
    (True, False)
    >>> _ = (folder.path / "a").write_bytes(b"who")
    >>> folder.holds("a")
    False
    """

    def __init__(self, path: pathlib.Path) -> None:
        check_folder(path)
        self.path = path
        self._sums = _read(path / SUMS)

    def holds(self, name: str) -> bool:
        """Whether a file is there and has the content that was written."""
        known = self._sums.get(name)
        return known is not None and known == digest(self.path / name)

    def put(self, name: str, data: bytes) -> pathlib.Path:
        """Write one file whole, then the line that says so. Raises BadInput where the disk refuses it."""
        found = hashlib.sha256(data).hexdigest()
        try:
            write_whole(self.path / name, data)
            if self._sums.get(name) != found:
                _append(self.path / SUMS, f"{found}  {name}\n".encode())
        except OSError as error:
            raise BadInput(
                f"{self.path / name} cannot be written: {error.strerror or error}. Make room, or mend the folder. "
                f"{GOES_ON}"
            ) from None
        self._sums[name] = found
        return self.path / name

    def tidy(self) -> None:
        """Put the lines in the order of their names, so that the folder does not tell in which order it was filled."""
        found = _read(self.path / SUMS)
        with contextlib.suppress(OSError):  # in another order they are as good
            write_whole(self.path / SUMS, "".join(f"{found[name]}  {name}\n" for name in sorted(found)).encode())


def digest(path: pathlib.Path) -> str | None:
    """The SHA-256 of a file's content, in hexadecimal; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _read(path: pathlib.Path) -> dict[str, str]:
    """Name and digest of every whole line; the last one of a name counts."""
    try:
        if path.stat().st_size > LARGEST_SUMS:
            raise BadInput(f"{path} is too large to be a list of digests. Delete it: its files are made again.")
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}. Give another --out.") from None
    lines = text.split("\n")[:-1]  # what follows the last end of line was cut off
    return {found[2]: found[1] for found in map(_LINE.fullmatch, lines) if found}


def _append(path: pathlib.Path, line: bytes) -> None:
    """Add a line in one write; after one that was cut off, begin a new one."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        cut_off = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write(b"\n" * cut_off + line)


def here(path: pathlib.Path | str) -> pathlib.Path:
    """Where a file lies for this worker: the path itself, or the copy lent to it where it does not share the disk.

    >>> here("bank/shard.parquet").as_posix()
    'bank/shard.parquet'
    """
    return _lent.get().get(str(path), pathlib.Path(path))


@contextlib.contextmanager
def lending(copies: Mapping[str, pathlib.Path]) -> Iterator[None]:
    """Within, ``here`` finds these copies in place of the files of these paths."""
    token = _lent.set(copies)
    try:
        yield
    finally:
        _lent.reset(token)

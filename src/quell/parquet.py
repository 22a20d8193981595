"""What a Parquet file would unpack to, learned from its page headers before anything is unpacked.

The footer says how many rows and which pages there are; it may lie, so each page's own header is read: the reader
allocates what that header says. The format is Apache Parquet's (Thrift compact protocol); only its frame is read here,
the contents are polars'.
"""

from __future__ import annotations

import io
import pathlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeVar

import polars as pl

from quell.bounded import LARGEST_FILE, LONGEST_CELL, FileError, cells_within, header, size_of, within

T = TypeVar("T")

_MAGIC = b"PAR1"
_LARGEST_FOOTER = 64_000_000
_LARGEST_PAGE = 256_000_000  # bytes unpacked; writers make pages of about a megabyte
_LARGEST_HEADER = 1_000_000
_DEEPEST = 16
_MOST_PAGES = 200_000


class _Broken(Exception):  # noqa: N818 - it names the file, which is at fault
    """The frame of the file does not hold together."""


def read_parquet(path: pathlib.Path) -> pl.DataFrame:
    """A Parquet file within bounds; raises FileError in a sentence."""
    size = size_of(path)
    if size > LARGEST_FILE:
        raise FileError(f"{path.name} has {size:,} bytes; at most {LARGEST_FILE:,} are read. Split it.")
    try:
        with path.open("rb") as file:
            _measured(file, size, path.name)
        found = _apart(path)
    except (_Broken, struct.error, IndexError, OSError, pl.exceptions.PolarsError):
        raise FileError(f"{path.name} is not a Parquet file, or a damaged one. Write it again.") from None
    header(list(found.columns), path.name)
    within(found.height, found.width, path.name)
    return cells_within(found, path.name)


_DECODE = "import sys, polars; polars.read_parquet(sys.argv[1], use_statistics=False).write_ipc(sys.argv[2])"
_PATIENCE = 600  # seconds


def _apart(path: pathlib.Path) -> pl.DataFrame:
    """The contents, decoded in a process of their own: damaged pages can end the decoder's process without a word."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "table.arrow"
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-c", _DECODE, str(path.resolve()), str(out)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise FileError(f"{path.name} takes more than {_PATIENCE} seconds to decode. Write it as CSV.") from None
        if done.returncode or not out.is_file():
            raise _Broken
        return pl.read_ipc(io.BytesIO(out.read_bytes()))


def _measured(file: BinaryIO, size: int, name: str) -> None:
    footer = _footer(file, size)
    rows, groups = _part(footer, 3, int), footer.get(4, [])
    if not isinstance(groups, list) or rows < 0:
        raise _Broken
    chunks = [_part(group, 1, list) for group in groups]
    within(rows, max(map(len, chunks), default=0), name)
    unpacked = pages = 0
    for group in chunks:
        for column in group:
            for page in _pages(file, size, _part(column, 3, dict)):
                unpacked += page
                pages += 1
                if page > _LARGEST_PAGE or unpacked > LARGEST_FILE:
                    raise FileError(
                        f"{name} unpacks to more than {_LARGEST_PAGE:,} bytes in one page or {LARGEST_FILE:,} in all, "
                        f"which is more than is read; a cell has at most {LONGEST_CELL:,} bytes."
                    )
                if pages > _MOST_PAGES:
                    raise FileError(f"{name} has more than {_MOST_PAGES:,} pages. Write it in larger row groups.")


def _part(structure: Any, number: int, kind: type[T]) -> T:
    """One field of a structure, of its kind; raises _Broken where it is not."""
    found = structure.get(number) if isinstance(structure, dict) else None
    if not isinstance(found, kind):
        raise _Broken
    return found


def _footer(file: BinaryIO, size: int) -> dict[int, Any]:
    if size < 12:
        raise _Broken
    file.seek(0)
    start = file.read(4)
    file.seek(size - 8)
    length, end = struct.unpack("<I4s", file.read(8))
    if start != _MAGIC or end != _MAGIC or length > min(size - 12, _LARGEST_FOOTER):
        raise _Broken
    file.seek(size - 8 - length)
    return _Compact(file.read(length)).structure()


def _pages(file: BinaryIO, size: int, column: dict[int, Any]) -> Iterator[int]:
    """The unpacked size of each page of a column chunk, by walking the page headers."""
    packed, first, dictionary = _part(column, 7, int), _part(column, 9, int), column.get(11)
    start = min(first, dictionary) if isinstance(dictionary, int) else first
    if start < 4 or packed < 0 or start + packed > size:
        raise _Broken
    at, end = start, start + packed
    while at < end:
        file.seek(at)
        reader = _Compact(file.read(min(_LARGEST_HEADER, end - at)))
        page = reader.structure()
        whole, stored = _part(page, 2, int), _part(page, 3, int)
        if whole < 0 or stored < 0:
            raise _Broken
        at += reader.at + stored
        yield whole


class _Compact:
    """Thrift's compact protocol, as far as Parquet's metadata needs it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """Field number to value."""
        if depth > _DEEPEST:
            raise _Broken
        found: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            number = number + (kind >> 4) if kind >> 4 else self._zigzag()
            found[number] = self._value(kind & 15, depth)
        return found

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 70:
                raise _Broken

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise _Broken
        self.at += length
        return self.data[self.at - length : self.at]

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._zigzag()
            case 7:
                return self._skip(8)
            case 8:
                return self._skip(self._varint())
            case 9 | 10:
                return self._list(depth)
            case 12:
                return self.structure(depth + 1)
        raise _Broken

    def _list(self, depth: int) -> list[Any]:
        first = self._byte()
        length = first >> 4 if first >> 4 < 15 else self._varint()
        # every element has at least a byte, so a longer list cannot be true
        if length > len(self.data) - self.at or depth > _DEEPEST:
            raise _Broken
        if first & 15 in (1, 2):
            return [self._byte() == 1 for _ in range(length)]
        return [self._value(first & 15, depth + 1) for _ in range(length)]

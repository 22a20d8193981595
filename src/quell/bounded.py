"""Files that may be hostile, read within bounds: nothing is executed, and nothing large is held to find out that it is large.

Size, line, cell, column and row limits are checked while the file streams past, so that a file of one gigabyte in one
cell is refused after its first megabytes. Every refusal is a sentence that names the file and the place.
"""

from __future__ import annotations

import csv
import json
import pathlib
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from quell.sentences import BadInput

LARGEST_FILE = 2_000_000_000  # bytes, also when unpacked
LONGEST_LINE = 4_000_000  # bytes; the widest honest row is far shorter
LONGEST_CELL = 65_536  # characters
MOST_COLUMNS = 2_000
MOST_ROWS = 50_000_000
MOST_BLANK = 100_000
MOST_CELLS = 400_000_000
CHUNK = 1 << 20
_BLOCK = 20_000

Row = list[str | None]


class FileError(BadInput):
    """A file that cannot be read, in sentences."""


def chunks(path: pathlib.Path, largest: int = LARGEST_FILE) -> Iterator[bytes]:
    """The bytes of a regular file, a megabyte at a time; raises FileError where it is absent, empty or too large."""
    size = size_of(path)
    if size > largest:
        raise FileError(f"{path.name} has {size:,} bytes; at most {largest:,} are read. Split it.")
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                yield piece
    except OSError as error:
        raise FileError(f"{path.name} cannot be read: {error.strerror or error}.") from None


def size_of(path: pathlib.Path) -> int:
    """The size of a regular file in bytes; raises FileError for one that is absent, empty, a folder or a device."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise FileError(f"{path} is not a file. Name a file.")
    if found.st_size == 0:
        raise FileError(f"{path.name} is empty. A table has at least a row of column names.")
    return found.st_size


def lines(pieces: Iterable[bytes], name: str, longest: int = LONGEST_LINE) -> Iterator[str]:
    """The lines of UTF-8 text, each with its ending; raises FileError at the first that is too long or not text."""
    rest, number, blank = b"", 0, 0
    for at, piece in enumerate(pieces):
        if at == 0:
            piece = _marked(piece, name)
        rest += piece
        *whole, rest = rest.split(b"\n")
        blank += whole.count(b"")
        if blank > MOST_BLANK:
            raise FileError(f"{name} has more than {MOST_BLANK:,} empty lines. Take them out.")
        for line in whole:
            number += 1
            yield _decoded(line + b"\n", name, number, longest)
        if len(rest) > longest:
            raise FileError(_too_long(name, number + 1, longest))
    if rest:
        yield _decoded(rest, name, number + 1, longest)


def _marked(first: bytes, name: str) -> bytes:
    """The first bytes without a UTF-8 mark; other encodings and other kinds of file are named."""
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError(f"{name} is UTF-16 text. Save it as UTF-8.")
    if first.startswith(b"PK\x03\x04"):
        raise FileError(f"{name} is a zip archive or a spreadsheet. Save the sheet as CSV (UTF-8).")
    return first.removeprefix(b"\xef\xbb\xbf")


def _too_long(name: str, number: int, longest: int) -> str:
    return (
        f"{name}, line {number}, is longer than {longest:,} bytes; a cell has at most {LONGEST_CELL:,} characters. "
        "Is a quotation mark open, or is this no table?"
    )


def _decoded(line: bytes, name: str, number: int, longest: int) -> str:
    if len(line) > longest:
        raise FileError(_too_long(name, number, longest))
    if b"\x00" in line:
        raise FileError(f"{name}, line {number}, has a NUL byte: it is not text. Save it as UTF-8.")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileError(
            f"{name}, line {number}, is not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x}; "
            "perhaps Latin-1 or Windows-1252). Save it as UTF-8."
        ) from None


# -- comma-separated values -----------------------------------------------------------------------------------------
def read_csv(path: pathlib.Path) -> pl.DataFrame:
    """A CSV file as text columns; an empty cell is null. Raises FileError in a sentence."""
    rows = csv_rows(path)
    names = header(next(rows), path.name)
    return framed(rows, names, path.name)


def csv_rows(path: pathlib.Path) -> Iterator[Row]:
    """The rows of a CSV file, the header first, each as long as the header; formulas are text like any other."""
    reader = csv.reader(lines(chunks(path), path.name), strict=True)
    width = 0
    try:
        for cells in reader:
            if not width:
                width = len(cells)
                yield _first(cells, path.name)
            elif cells:
                if len(cells) != width:
                    raise FileError(_ragged(path.name, reader.line_num, len(cells), width))
                yield [cell or None for cell in cells]
    except csv.Error as error:
        reason = str(error).split(" - ")[0]
        raise FileError(
            f"{path.name}, line {reader.line_num}, is not CSV: {reason}. Is a quotation mark open, or doubled wrongly?"
        ) from None
    if not width:
        raise FileError(f"{path.name} has no row of column names. Write one as its first line.")


def _first(cells: list[str], name: str) -> Row:
    if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
        raise FileError(
            f"{name} is separated by {'tabs' if chr(9) in cells[0] else 'semicolons'}. Save it with commas."
        )
    if not cells:
        raise FileError(f"{name} begins with an empty line. Its first line names the columns.")
    return list(cells)


def _ragged(name: str, line: int, found: int, width: int) -> str:
    return (
        f"{name}, line {line}, has {found} cells; the header has {width}. "
        "Give every row as many, and put quotation marks around a cell that has a comma."
    )


def header(cells: Sequence[str | None], name: str) -> list[str]:
    """The column names, each given and each once; raises FileError otherwise."""
    names = [(cell or "").strip() for cell in cells]
    if len(names) > MOST_COLUMNS:
        raise FileError(f"{name} has {len(names):,} columns; at most {MOST_COLUMNS:,} are read.")
    for at, one in enumerate(names):
        if not one:
            raise FileError(f"{name}: column {at + 1} has no name. Give it one.")
        if len(one) > 200:
            raise FileError(f"{name}: the name of column {at + 1} has {len(one):,} characters; at most 200 are a name.")
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise FileError(f"{name} has two columns called '{twice}'. Give each its own name.")
    return names


def framed(rows: Iterable[Row], names: list[str], name: str) -> pl.DataFrame:
    """Rows of text as a frame, put together in blocks so that the rows themselves are never all held."""
    blocks = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))]
    pending: list[Row] = []
    count = 0
    for row in rows:
        pending.append(row)
        if len(pending) == _BLOCK:
            blocks.append(_block(pending, names, name, count))
            count += len(pending)
            within(count, len(names), name)
            pending = []
    blocks.append(_block(pending, names, name, count))
    return pl.concat(blocks)


def _block(rows: list[Row], names: list[str], name: str, before: int) -> pl.DataFrame:
    block = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return cells_within(block, name, before)


def within(rows: int, columns: int, name: str) -> None:
    """Raises FileError where a table has more columns, rows or cells than are read."""
    if columns > MOST_COLUMNS:
        raise FileError(f"{name} has {columns:,} columns; at most {MOST_COLUMNS:,} are read.")
    if rows > MOST_ROWS or rows * columns > MOST_CELLS:
        raise FileError(
            f"{name} has more than {MOST_ROWS:,} rows or {MOST_CELLS:,} cells, which is more than is read. Split it."
        )


def cells_within(block: pl.DataFrame, name: str, before: int = 0) -> pl.DataFrame:
    """The same frame; raises FileError where a text cell is too long."""
    for column in block.select(pl.col(pl.String)):
        if (column.str.len_bytes().max() or 0) > LONGEST_CELL:  # type: ignore[operator]
            row = int(column.str.len_bytes().arg_max() or 0) + before + 1
            raise FileError(
                f"{name}, column '{column.name}', row {row}: a cell has at most {LONGEST_CELL:,} bytes, this one more."
            )
    return block


# -- one JSON object a line -----------------------------------------------------------------------------------------
def read_ndjson(path: pathlib.Path) -> pl.DataFrame:
    """A file of one JSON object a line as text columns. Raises FileError in a sentence."""
    names: dict[str, None] = {}
    for one in _objects(path):
        if not one.keys() <= names.keys():
            names |= dict.fromkeys(one)
            header(list(names), path.name)
    if not names:
        raise FileError(f"{path.name} has no rows. Write one JSON object a line.")
    rows = ([_text(one.get(column)) for column in names] for one in _objects(path))
    return framed(rows, header(list(names), path.name), path.name)


def _objects(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines(chunks(path), path.name), 1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        found = decoded(line, where)
        if not isinstance(found, dict):
            raise FileError(f'{where}, is not a JSON object. Write one object a line, such as {{"subject": "01"}}.')
        for column, value in found.items():
            if isinstance(value, (dict, list)):
                raise FileError(
                    f"{where}, column '{column}', holds more than one value. A cell is text, a number or null."
                )
        yield found


def decoded(text: str, where: str) -> Any:
    """One JSON value; raises FileError in a sentence."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise FileError(f"{where}, is nested too deeply.") from None
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error).split(";")[0]
        raise FileError(f"{where}, is not JSON: {reason}.") from None


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number; write null for a missing value")


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value)

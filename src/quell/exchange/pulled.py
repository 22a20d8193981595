"""A large JSON object pulled value by value from a stream: its metadata first, then its rows one at a time."""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from quell.bounded import LONGEST_CELL, MOST_COLUMNS, FileError

LARGEST_VALUE = 4_000_000  # characters of one row, or of one value of the metadata
MOST_HELD = 100_000
_SPACE = re.compile(r"[ \t\r\n]*")


def dataset(pieces: Iterable[bytes], name: str, needed: tuple[str, ...]) -> tuple[dict[str, Any], Iterator[Any]]:
    """The keys before ``rows``, and the rows as they come. Where the ``needed`` keys come later, some rows can be held.

    Raises FileError in a sentence, at the latest when the rows have been read to the end.
    """
    stream = _Stream(pieces, name)
    metadata: dict[str, Any] = {}
    stream.expect("{")
    if stream.peek() == "}":
        raise FileError(f"{name} is an empty object. Dataset-JSON has metadata and rows.")
    if _keys(stream, metadata):
        rows = _rows(stream, metadata)
        if all(key in metadata for key in needed):
            return metadata, rows
        held = list(itertools.islice(rows, MOST_HELD))
        if len(held) == MOST_HELD:
            raise FileError(f"{name} has its rows before what explains them. Put 'rows' last.")
        return metadata, iter(held)
    return metadata, iter(())


def _keys(stream: _Stream, metadata: dict[str, Any]) -> bool:
    """Takes keys into the metadata until the rows begin (true) or the object ends (false)."""
    while True:
        key = stream.value()
        if not isinstance(key, str):
            raise stream.broken("a key is not text")
        stream.expect(":")
        if key in metadata or (key == "rows" and stream.rows_seen):
            raise FileError(f"{stream.name} has the key '{key[:60]}' twice. Keep one.")
        if len(metadata) > 100:
            raise FileError(f"{stream.name} has more than 100 keys of metadata: it is not Dataset-JSON.")
        if key == "rows":
            stream.rows_seen = True
            return True
        metadata[key] = stream.value()
        if not stream.more("}"):
            stream.ended()
            return False


def _rows(stream: _Stream, metadata: dict[str, Any]) -> Iterator[Any]:
    stream.expect("[")
    if stream.peek() == "]":
        stream.expect("]")
    else:
        yield stream.value()
        while stream.more("]"):
            yield stream.value()
    if stream.more("}"):
        _keys(stream, metadata)
    else:
        stream.ended()


class _Stream:
    """Text that arrives in pieces, with a window on the part not yet used."""

    def __init__(self, pieces: Iterable[bytes], name: str) -> None:
        self.pieces, self.name = iter(pieces), name
        self.text, self.at, self.done, self.rows_seen = "", 0, False, False
        self.decode = codecs.getincrementaldecoder("utf-8-sig")()
        self.json = json.JSONDecoder(parse_constant=self._constant)

    def _constant(self, word: str) -> None:
        raise FileError(f"{self.name} has {word}, which is not a JSON number. Write null for a missing value.")

    def broken(self, reason: str) -> FileError:
        return FileError(f"{self.name} is not JSON: {reason}.")

    def fill(self) -> bool:
        """Takes in another piece; false at the end of the file."""
        piece = next(self.pieces, None)
        if piece is None:
            self.done = True
            return False
        try:
            self.text, self.at = self.text[self.at :] + self.decode.decode(piece), 0
        except UnicodeDecodeError:
            raise FileError(f"{self.name} is not UTF-8. Save it as UTF-8.") from None
        return True

    def peek(self) -> str:
        """The next character that is not space; raises FileError at the end of the file."""
        while True:
            self.at = self._after_space()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.fill():
                raise self.broken("it ends in the middle")

    def _after_space(self) -> int:
        found = _SPACE.match(self.text, self.at)
        return found.end() if found else self.at

    def expect(self, mark: str) -> None:
        found = self.peek()
        if found != mark:
            raise self.broken(f"'{mark}' should stand where there is {found!r}")
        self.at += 1

    def more(self, end: str) -> bool:
        """Whether a comma follows (true) or the end mark."""
        if self.peek() == ",":
            self.at += 1
            return True
        self.expect(end)
        return False

    def ended(self) -> None:
        """Raises FileError where something follows the object."""
        while True:
            self.at = self._after_space()
            if self.at < len(self.text):
                raise self.broken("something follows the end of the object")
            if not self.fill():
                return

    def value(self) -> Any:
        """The next value, taking in no more than one value may be long."""
        self.peek()
        while True:
            try:
                found, end = self.json.raw_decode(self.text, self.at)
                # a number that ends with the window may go on in the next piece
                if end < len(self.text) or self.done or not self.fill():
                    self.at = end
                    return found
            except RecursionError:
                raise self.broken("it is nested too deeply") from None
            except json.JSONDecodeError as error:
                if error.pos < len(self.text) - 16 and not error.msg.startswith("Unterminated"):
                    raise self.broken(f"{error.msg} ({self.text[error.pos : error.pos + 20]!r})") from None
                if not self.fill():
                    raise self.broken("it ends in the middle") from None
            except FileError:
                raise
            except ValueError:
                raise self.broken("a number is too long") from None
            if len(self.text) - self.at > LARGEST_VALUE:
                raise FileError(
                    f"{self.name} has a value longer than {LARGEST_VALUE:,} characters; a row has at most "
                    f"{MOST_COLUMNS:,} cells of at most {LONGEST_CELL:,}. Is a quotation mark open?"
                )

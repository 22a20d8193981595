"""Shipped draws of the body's constants: what the evidence leaves open, as plain columns with their provenance inside.

``before-ivory`` has seen what calibrates; ``after-ivory`` the results of IVORY and IVORY-FINALE too. A file is read
within bounds, decoded apart, never unpickled; what does not agree with its own digest or with this version's tables of
evidence and constants is refused, in a sentence.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from quell.body import parameters, structure
from quell.body.parameters import Parameters
from quell.delivery import write_whole
from quell.parquet import read_parquet
from quell.sentences import BadInput, near

STAGES = ("before-ivory", "after-ivory")
LABEL = "quell"  # the one key of the file's metadata; its value is JSON
MOST_BYTES, MOST_DRAWS = 16_000_000, 20_000
REMADE = "Make it again: quell calibrate."


class PosteriorError(BadInput):
    """A file of draws that cannot be used, in sentences."""


class Draws(NamedTuple):
    """Draws of the constants: names, values of shape (draws, constants), the structure of each, and where they are from."""

    names: tuple[str, ...]
    values: np.ndarray
    structures: dict[str, np.ndarray]  # question of structure: option of each draw
    provenance: dict[str, Any]

    def constants(self, rows: np.ndarray) -> Parameters:
        """All constants at some draws, arrays of the shape of ``rows``; those held fixed are the table's."""
        base = Parameters(*(np.full(np.shape(rows), float(one)) for one in parameters.load()))
        return base._replace(**{name: self.values[rows, i] for i, name in enumerate(self.names)})

    def middle(self) -> Parameters:
        """Each constant at its median over the draws."""
        medians = np.median(self.values, axis=0)
        return parameters.load()._replace(**dict(zip(self.names, medians.tolist(), strict=True)))


def digest_of_tables() -> dict[str, str]:
    """SHA-256 of the tables that draws follow from: evidence, constants, structures."""
    places = {
        "evidence": importlib.resources.files("quell") / "evidence.toml",
        "parameters": importlib.resources.files("quell.body") / "parameters.toml",
        "structure": importlib.resources.files("quell.body") / "structure.toml",
    }
    return {name: hashlib.sha256(place.read_bytes()).hexdigest() for name, place in places.items()}


def digest_of_draws(table: pl.DataFrame) -> str:
    """SHA-256 of the columns: their names, and their values as bytes or text."""
    found = hashlib.sha256()
    for column in table.iter_columns():
        found.update(column.name.encode() + b"\x1f")
        if column.dtype == pl.Float64:
            found.update(np.ascontiguousarray(column.to_numpy()).tobytes())
        else:
            found.update("\x1f".join(map(str, column.to_list())).encode())
    return found.hexdigest()


def write(path: pathlib.Path, draws: Draws) -> None:
    """Write draws as one Parquet file, whole or not at all, with its provenance and digests inside."""
    columns = {f"structure: {question}": options for question, options in draws.structures.items()}
    table = pl.DataFrame(columns | {name: draws.values[:, i] for i, name in enumerate(draws.names)})
    told = draws.provenance | {"tables": digest_of_tables(), "draws": digest_of_draws(table)}
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd", metadata={LABEL: json.dumps(told, sort_keys=True)})
    write_whole(path, content.getvalue())


def read(path: pathlib.Path) -> Draws:
    """Draws from a file; raises PosteriorError in a sentence where it is damaged, altered, or of other tables."""
    try:
        size = path.stat().st_size
    except OSError:
        raise PosteriorError(f"{path.name} is not there. {REMADE}") from None
    if size > MOST_BYTES:
        raise PosteriorError(f"{path.name} has {size:,} bytes; draws have at most {MOST_BYTES:,}. {REMADE}")
    try:
        table = read_parquet(path)
    except BadInput as error:
        raise PosteriorError(f"{error} {REMADE}") from None
    told = _told(path)
    _agrees(path.name, table, told)
    questions = {one.name: [option.name for option in one.options] for one in structure.table()}
    names = tuple(name for name in table.columns if not name.startswith("structure: "))
    values = np.column_stack([table[name].to_numpy() for name in names])
    return Draws(names, values, _structures(path.name, table, questions), told)


def _told(path: pathlib.Path) -> dict[str, Any]:
    """The provenance inside a file."""
    try:
        found = json.loads(pl.read_parquet_metadata(path).get(LABEL, ""))
    except (ValueError, pl.exceptions.PolarsError, OSError):
        found = None
    if not isinstance(found, dict) or not {"draws", "tables", "stage", "version", "key"} <= found.keys():
        raise PosteriorError(f"{path.name} does not say where its draws come from, so they cannot be trusted. {REMADE}")
    return found


def _agrees(name: str, table: pl.DataFrame, told: dict[str, Any]) -> None:
    """Raises PosteriorError where the contents are not those that were written, or belong to other tables."""
    if not 0 < table.height <= MOST_DRAWS:
        raise PosteriorError(f"{name} has {table.height:,} draws; 1 to {MOST_DRAWS:,} are read. {REMADE}")
    if digest_of_draws(table) != told["draws"]:
        raise PosteriorError(
            f"{name} was changed after it was made: its draws do not agree with the digest inside. {REMADE}"
        )
    uncertain = [one.name for one in parameters.table() if one.uncertainty > 0]
    held = [one for one in table.columns if not one.startswith("structure: ")]
    if held != uncertain or any(table[one].dtype != pl.Float64 for one in held):
        odd = sorted(set(held) ^ set(uncertain)) or ["their order or kind"]
        raise PosteriorError(f"{name} holds other constants than this version's: {', '.join(odd[:5])}. {REMADE}")
    if not all(np.isfinite(table[one].to_numpy()).all() for one in held):
        raise PosteriorError(f"{name} holds a constant that is not a number. {REMADE}")


def _structures(name: str, table: pl.DataFrame, questions: dict[str, list[str]]) -> dict[str, np.ndarray]:
    found = {}
    for question, options in questions.items():
        column = f"structure: {question}"
        if column not in table.columns:
            raise PosteriorError(f"{name} does not say which '{question}' its draws have. {REMADE}")
        values = table[column].to_list()
        strange = sorted({str(one) for one in values} - set(options))
        if strange:
            raise PosteriorError(f"{name}: '{strange[0]}' is no option of '{question}'. {near(strange[0], options)}")
        found[question] = np.array(values)
    return found


def stale(draws: Draws) -> list[str]:
    """Which of this version's tables are not those that the draws follow from."""
    return [name for name, one in digest_of_tables().items() if draws.provenance["tables"].get(name) != one]


@functools.cache
def load(stage: str) -> Draws:
    """The draws shipped for a stage; raises PosteriorError for a stage that does not exist.

    >>> load("before-ivory").values.shape[0] >= 1000
    True
    """
    if stage not in STAGES:
        raise PosteriorError(f"there are no draws of the stage '{stage}'. {near(stage, STAGES)}")
    return read(pathlib.Path(str(importlib.resources.files("quell.posterior") / f"{stage}.parquet")))

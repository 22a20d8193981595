"""Groups of named, labelled arrays as a folder that xarray and ArviZ read: a Zarr store, version 2.

    arviz.from_zarr("draws.zarr")                                                              zarr before 3
    arviz.InferenceData.from_datatree(xarray.open_datatree("draws.zarr", engine="zarr"))       since

The form is that of Zarr's specification, version 2 (Zarr developers 2018), with the names of dimensions where xarray looks for
them. Each array is one chunk. quell needs neither library.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

GROUPS = ("posterior", "sample_stats", "posterior_predictive", "observed_data")


def store(groups: Mapping[str, Any]) -> dict[str, bytes]:
    """The files, by name, of ``groups.groups``: ``coords`` and ``dims`` by name, and arrays by group and name.

    >>> made = store({"posterior": {"x": np.zeros((2, 3))}, "coords": {}, "dims": {}})
    >>> made["posterior/x/.zattrs"].decode()
    '{"_ARRAY_DIMENSIONS": ["chain", "draw"]}'
    """
    entries = dict(_entries(groups))
    described = {name: json.loads(text) for name, text in entries.items() if name.rpartition("/")[2].startswith(".z")}
    return entries | {".zmetadata": _json({"zarr_consolidated_format": 1, "metadata": described})}


def _entries(groups: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield ".zgroup", _json({"zarr_format": 2})
    for group in GROUPS:
        arrays = groups.get(group, {})
        dims = {name: _dims(group, name, one.ndim, groups["dims"]) for name, one in arrays.items()}
        sizes = {dim: size for name, one in arrays.items() for dim, size in zip(dims[name], one.shape, strict=True)}
        yield f"{group}/.zgroup", _json({"zarr_format": 2})
        for name, one in arrays.items():
            yield from _array(f"{group}/{name}", np.asarray(one), dims[name])
        for dim, size in sizes.items():
            yield from _array(f"{group}/{dim}", np.array(groups["coords"].get(dim, np.arange(size))), (dim,))


def _dims(group: str, name: str, count: int, known: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The names of an array's dimensions; draws come by chain and draw."""
    first = () if group == "observed_data" else ("chain", "draw")
    return (*first, *known.get(name, ()))[:count]


def _array(path: str, one: np.ndarray, dims: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    little = np.ascontiguousarray(one.astype(one.dtype.newbyteorder("<")))
    yield f"{path}/.zattrs", _json({"_ARRAY_DIMENSIONS": list(dims)})
    yield (
        f"{path}/.zarray",
        _json(
            {
                "zarr_format": 2,
                "shape": list(one.shape),
                "chunks": [max(1, size) for size in one.shape],
                "dtype": little.dtype.str,
                "compressor": {"id": "zlib", "level": 1},
                "fill_value": "NaN" if one.dtype.kind == "f" else None,
                "order": "C",
                "filters": None,
            }
        ),
    )
    yield f"{path}/{'.'.join('0' * max(1, one.ndim))}", zlib.compress(little.tobytes(), 1)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()

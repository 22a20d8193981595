"""A fitted study as groups of arrays by chain and draw: what ArviZ reads, as a Zarr store; and tables, as Parquet files.

The groups are plain dictionaries of name to array; ``arviz.from_dict(**groups)`` takes them (before 1.0), or
``arviz.from_dict({group: arrays}, coords=..., dims=...)``. quell needs neither.
"""

from __future__ import annotations

import io
import pathlib
import shutil
from typing import Any

import numpy as np
import polars as pl

from quell import keys
from quell.calibrate import zarr
from quell.calibrate.foretell import lived, read
from quell.calibrate.individual import Individual
from quell.delivery import deliver

ZARR = "draws.zarr"


def groups(fitted: Individual) -> dict[str, Any]:
    """Posterior, sample_stats, posterior_predictive and observed_data, with coords and dims.

    ``posterior`` holds ``population`` (constants) and ``spread`` and ``own`` (people's), values and not logs; the predictions are
    of the readings that the study has, by people's draws that were put to the body, so there are fewer of them.
    """
    choice, who = fitted.choice, fitted.who
    chains, kept = fitted.people.shape[:2]
    flat = {name: x.reshape(-1, x.shape[-1]) for name, x in fitted.others.items()}
    truth = lived(fitted.people.reshape(-1, *fitted.people.shape[2:]), flat, choice.names, who, who.day)
    noisy = read(who.kinds, truth, keys.at(fitted.key, "groups"))
    names = [variable(kind.name, kind.location) for kind in who.kinds]
    by_visit = {name: ["subject", "visit"] for name in names}
    return {
        "posterior": {
            "population": np.exp(fitted.draws.theta[..., choice.population]),
            "spread": fitted.draws.omega[..., choice.loose],
            "own": np.exp(fitted.draws.own),
        },
        "sample_stats": {
            "lp": fitted.draws.density,
            "diverging": fitted.draws.diverging,
            "energy": fitted.draws.energy,
            "n_steps": fitted.draws.steps,
        },
        "posterior_predictive": {
            name: np.where(np.isfinite(who.value[:, :, k]), one, np.nan).reshape(chains, kept, *one.shape[1:])
            for k, (name, one) in enumerate(zip(names, noisy, strict=True))
        },
        "observed_data": {name: who.value[:, :, k] for k, name in enumerate(names)},
        "coords": {
            "constant": [choice.names[k] for k in choice.population],
            "personal": [choice.names[k] for k in choice.personal],
            "differing": [choice.names[k] for k in choice.personal[choice.loose]],
            "subject": list(who.subjects),
            "visit": list(who.visits),
        },
        "dims": {"population": ["constant"], "spread": ["differing"], "own": ["subject", "personal"], **by_visit},
    }


def variable(quantity: str, location: str) -> str:
    """The name of a quantity as a variable.

    >>> variable("TBRmax", "left carotid")
    'TBRmax, left carotid'
    """
    return f"{quantity}, {location}" if location else quantity


def tables(fitted: Individual) -> dict[str, pl.DataFrame]:
    """Draws and intervals as tables: ``population`` (a row a draw), ``people`` (a row a person and draw), ``constants``, ``own``."""
    return {
        "population": _population(fitted),
        "people": _people(fitted),
        "constants": fitted.constants(),
        "own": fitted.own(),
    }


def parquet(table: pl.DataFrame) -> bytes:
    """A table as the bytes of a Parquet file."""
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd")
    return content.getvalue()


def write(fitted: Individual, folder: pathlib.Path) -> list[pathlib.Path]:
    """Write every table as Parquet, and all groups as ``draws.zarr``. Raises BadInput where they cannot go."""
    shutil.rmtree(folder / ZARR, ignore_errors=True)  # of another fit, which may have had other arrays
    files: dict[str, bytes | str] = {f"{name}.parquet": parquet(table) for name, table in tables(fitted).items()}
    return deliver(folder, files | {f"{ZARR}/{name}": one for name, one in zarr.store(groups(fitted)).items()})


def _population(fitted: Individual) -> pl.DataFrame:
    choice, found = fitted.choice, fitted.draws
    chains, draws = found.theta.shape[:2]
    columns = {"chain": np.repeat(np.arange(chains), draws), "draw": np.tile(np.arange(draws), chains)}
    columns |= {choice.names[k]: np.exp(found.theta[..., k]).ravel() for k in choice.population}
    columns |= {f"spread of {choice.names[k]}": found.omega[..., j].ravel() for j, k in enumerate(choice.personal)}
    return pl.DataFrame(columns | {"diverging": found.diverging.ravel()})


def _people(fitted: Individual) -> pl.DataFrame:
    """Draws that the body accepted, all constants of each person."""
    chains, kept, people, _ = fitted.people.shape
    chain, draw, person = (x.ravel() for x in np.indices((chains, kept, people)))
    columns: dict[str, Any] = {"chain": chain, "draw": draw, "subject": np.array(fitted.who.subjects)[person]}
    columns |= {name: np.exp(fitted.people[..., k]).ravel() for k, name in enumerate(fitted.choice.names)}
    return pl.DataFrame(columns | {name: x.ravel() for name, x in fitted.others.items()})
